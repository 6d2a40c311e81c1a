/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The pool of all ports (net/pool.c) when it is empty: drivers give back what they are done with, where
 * packets are copied from a guest's ring and where librte_vhost does that. And how large it is.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../eal_fixture.h"
#include "net_pvt.h"

#define N_KEPT 100u

/* What the driver's queues keep of packets that are sent. */
static struct rte_mbuf *kept[N_KEPT];
static bool keeps;
static unsigned int n_reclaims;

static struct rte_mbuf **all;
static unsigned int n_all;

/* ---- a driver that keeps packets ---- */

static int
keeper_parse(const struct rte_kvargs *args, struct vhub_net_port **out, char *error,
		size_t error_len)
{
	(void)args;
	(void)out;
	(void)error;
	(void)error_len;
	return -EINVAL;
}

static int
keeper_open(struct vhub_net_port *port, uint16_t n_pairs, const struct rte_ether_addr *mac,
		uint16_t mtu, char *error, size_t error_len)
{
	(void)port;
	(void)n_pairs;
	(void)mac;
	(void)mtu;
	(void)error;
	(void)error_len;
	return -EINVAL;
}

static void
keeper_destroy(struct vhub_net_port *port)
{
	(void)port;
}

static void
keeper_info(const struct vhub_net_port *port, struct vhub_net_info *info)
{
	(void)port;
	(void)info;
}

static uint16_t
keeper_from_guest(struct vhub_net_queue *queue, struct rte_mbuf **pkts, uint16_t n)
{
	(void)queue;
	(void)pkts;
	(void)n;
	return 0;
}

static void
keeper_reclaim(void)
{
	n_reclaims++;
	if (keeps)
		rte_pktmbuf_free_bulk(kept, N_KEPT);
	keeps = false;
}

static const char *const no_keys[] = { NULL };

static const struct vhub_net_driver_ops keeper = {
	.name = "keeper",
	.help = "",
	.keys = no_keys,
	.parse = keeper_parse,
	.open = keeper_open,
	.destroy = keeper_destroy,
	.info = keeper_info,
	.from_guest = keeper_from_guest,
	.reclaim = keeper_reclaim,
};

/* ---- an empty pool ---- */

/* All mbufs are taken, of which the driver keeps some. */
static int
empty_pool(void **state)
{
	struct rte_mempool *pool = vhub_net_pool(-1);

	(void)state;
	assert_non_null(pool);
	all = calloc(pool->size + 1, sizeof(struct rte_mbuf *));
	assert_non_null(all);
	for (n_all = 0; (all[n_all] = rte_pktmbuf_alloc(pool)) != NULL;)
		n_all++;
	n_all -= N_KEPT;
	memcpy(kept, &all[n_all], sizeof(kept));
	keeps = true;
	n_reclaims = 0;
	return 0;
}

static int
fill_pool(void **state)
{
	(void)state;
	rte_pktmbuf_free_bulk(all, n_all);
	free(all);
	keeper_reclaim();
	assert_int_equal(rte_mempool_in_use_count(vhub_net_pool(-1)), 0);
	return 0;
}

static void
test_a_copy_of_a_packet_gets_what_drivers_are_done_with(void **state)
{
	static struct net_dev *dev;
	static struct vhub_net_view views[VHUB_NET_BURST];
	const uint64_t which = vhub_net_all_views(VHUB_NET_BURST);
	struct rte_mbuf *pkts[VHUB_NET_BURST], *none[VHUB_NET_BURST];

	(void)state;
	dev = aligned_alloc(RTE_CACHE_LINE_SIZE, sizeof(*dev) + sizeof(dev->pairs[0]));
	assert_non_null(dev);
	memset(dev, 0, sizeof(*dev) + sizeof(dev->pairs[0]));
	dev->pool = vhub_net_pool(-1);
	dev->pairs[0].dev = dev;
	for (unsigned int i = 0; i < VHUB_NET_BURST; i++)
		views[i].bytes = views[i].head_bytes = 60;
	assert_int_equal(vhub_net_views_to_mbufs(&dev->pairs[0].queue, views, which, pkts), which);
	assert_int_equal(n_reclaims, 1);
	/* Nothing is left to be given back now, and fewer than these are in the pool. */
	assert_int_equal(vhub_net_views_to_mbufs(&dev->pairs[0].queue, views, which, none), 0);
	assert_int_equal(dev->pairs[0].counters.drops[VHUB_NET_DROP_NO_MBUF], VHUB_NET_BURST);
	rte_pktmbuf_free_bulk(pkts, VHUB_NET_BURST);
	free(dev);
}

/* Not each time is looked. */
static void
refill(struct rte_mempool *pool)
{
	for (unsigned int i = 0; i < 64; i++)
		net_pool_refill(pool);
}

static void
test_the_library_gets_what_drivers_are_done_with(void **state)
{
	struct rte_mempool *pool = vhub_net_pool(-1);

	(void)state;
	refill(pool);
	assert_int_equal(n_reclaims, 1);
	assert_int_equal(rte_mempool_avail_count(pool), N_KEPT);
	/* As long as there are some, nobody is asked, and all stay there. */
	refill(pool);
	assert_int_equal(n_reclaims, 1);
	assert_int_equal(rte_mempool_avail_count(pool), N_KEPT);
}

static void
test_the_pool_has_those_that_tx_queues_may_keep(void **state)
{
	const uint32_t n = vhub_net_pool_tx_mbufs();

	(void)state;
	assert_in_range(n, 1024, 32768);
	assert_int_equal(vhub_net_pool(-1)->size, 8191 + n);
	assert_int_equal(vhub_net_pool_tx_mbufs(), n);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
				test_a_copy_of_a_packet_gets_what_drivers_are_done_with, empty_pool,
				fill_pool),
		cmocka_unit_test_setup_teardown(test_the_library_gets_what_drivers_are_done_with,
				empty_pool, fill_pool),
		cmocka_unit_test(test_the_pool_has_those_that_tx_queues_may_keep),
	};

	if (test_eal_init() != 0 || vhub_net_driver_register(&keeper) != 0)
		return 99;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
