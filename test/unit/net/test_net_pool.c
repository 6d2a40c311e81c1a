/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The pool of all ports (net/pool.c) when it is empty: drivers give back what they are done with, where
 * packets are copied from a guest's ring and where librte_vhost does that. How large it is. And the one packet
 * that is of our own making (net/rarp.c).
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "../eal_fixture.h"
#include "mbufs.h"
#include "net_pvt.h"

#define N_KEPT 100u
#define SEGMENT_BYTES 100u

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

static struct net_dev *
make_dev(void)
{
	struct net_dev *dev = aligned_alloc(RTE_CACHE_LINE_SIZE,
			sizeof(*dev) + sizeof(dev->pairs[0]));

	assert_non_null(dev);
	memset(dev, 0, sizeof(*dev) + sizeof(dev->pairs[0]));
	dev->driver = &keeper;
	dev->pool = vhub_net_pool(-1);
	dev->guest_frame_bytes = NET_LONGEST_FRAME_BYTES;
	dev->pairs[0].dev = dev;
	return dev;
}

static void
test_a_copy_of_a_packet_gets_what_drivers_are_done_with(void **state)
{
	struct net_dev *dev = make_dev();
	static struct vhub_net_view views[VHUB_NET_BURST];
	const uint64_t which = vhub_net_all_views(VHUB_NET_BURST);
	struct rte_mbuf *pkts[VHUB_NET_BURST], *none[VHUB_NET_BURST];

	(void)state;
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

static void
test_a_copy_of_an_mbuf_gets_them_as_well(void **state)
{
	struct rte_mbuf *copy;

	(void)state;
	assert_non_null(rte_pktmbuf_append(all[0], 60));
	copy = vhub_net_copy(all[0], vhub_net_pool(-1));
	assert_non_null(copy);
	assert_int_equal(copy->pkt_len, 60);
	assert_int_equal(n_reclaims, 1);
	rte_pktmbuf_free(copy);
}

/* A packet of TCP that is to become `n` segments. */
static struct rte_mbuf *
large_packet(bool ipv6, uint16_t n)
{
	const uint16_t l3_bytes = ipv6 ? sizeof(struct rte_ipv6_hdr) : sizeof(struct rte_ipv4_hdr);
	const uint16_t headers = (uint16_t)(RTE_ETHER_HDR_LEN + l3_bytes +
			sizeof(struct rte_tcp_hdr));
	struct rte_mbuf *m = all[--n_all];
	char *frame = rte_pktmbuf_append(m, (uint16_t)(headers + n * SEGMENT_BYTES));
	struct rte_ipv4_hdr *ip;

	assert_non_null(frame);
	memset(frame, 0, m->pkt_len);
	ip = rte_pktmbuf_mtod_offset(m, struct rte_ipv4_hdr *, RTE_ETHER_HDR_LEN);
	ip->version_ihl = ipv6 ? 0x60 : RTE_IPV4_VHL_DEF;
	if (!ipv6)
		ip->total_length = rte_cpu_to_be_16((uint16_t)(m->pkt_len - RTE_ETHER_HDR_LEN));
	rte_pktmbuf_mtod_offset(m, struct rte_tcp_hdr *, RTE_ETHER_HDR_LEN + l3_bytes)->data_off =
			sizeof(struct rte_tcp_hdr) / 4 << 4;
	m->l2_len = RTE_ETHER_HDR_LEN;
	m->l3_len = l3_bytes;
	m->l4_len = sizeof(struct rte_tcp_hdr);
	m->tso_segsz = SEGMENT_BYTES;
	m->ol_flags = RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_TCP_CKSUM |
			(ipv6 ? RTE_MBUF_F_TX_IPV6 : RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM);
	return m;
}

static unsigned int n_sunk;

static void
sink(struct net_pair *pair, struct rte_mbuf **pkts, uint16_t n)
{
	(void)pair;
	n_sunk += n;
	rte_pktmbuf_free_bulk(pkts, n);
}

/* Cut by rte_gso, and by ourselves. */
static void
test_pieces_of_a_packet_get_them_as_well(void **state)
{
	struct net_dev *dev = make_dev();

	for (unsigned int ipv6 = 0; ipv6 < 2; ipv6++) {
		struct rte_mbuf *m = large_packet(ipv6 != 0, 4);

		n_sunk = 0;
		net_offload(&dev->pairs[0], 0, &m, 1, sink);
		assert_int_equal(n_sunk, 4);
		assert_int_equal(n_reclaims, 1);
		assert_int_equal(dev->pairs[0].counters.drops[VHUB_NET_DROP_NO_MBUF], 0);
		fill_pool(state);
		empty_pool(state);
	}
	free(dev);
}

static void
offload_one(struct net_dev *dev, struct rte_mbuf *m)
{
	n_sunk = 0;
	net_offload(&dev->pairs[0], 0, &m, 1, sink);
	assert_int_equal(n_sunk, 0);
}

/* No piece is made of a packet that would become too many: nobody is asked for mbufs. */
static void
test_too_many_pieces_are_not_even_begun(void **state)
{
	struct net_dev *dev = make_dev();
	const uint64_t *drops = dev->pairs[0].counters.drops;
	struct rte_mbuf *m;

	(void)state;
	for (unsigned int ipv6 = 0; ipv6 < 2; ipv6++) {
		m = large_packet(ipv6 != 0, 4);
		m->tso_segsz = 1;
		offload_one(dev, m);
	}
	/* A fragment has eight bytes at least. */
	m = large_packet(false, 4);
	m->ol_flags = RTE_MBUF_F_TX_UDP_SEG | RTE_MBUF_F_TX_IPV4;
	m->l4_len = sizeof(struct rte_udp_hdr);
	m->tso_segsz = 7;
	offload_one(dev, m);
	assert_int_equal(drops[VHUB_NET_DROP_OFFLOAD], 3);
	assert_int_equal(drops[VHUB_NET_DROP_NO_MBUF], 0);
	assert_int_equal(n_reclaims, 0);
	free(dev);
}

static uint16_t
taker_from_guest(struct vhub_net_queue *queue, struct rte_mbuf **pkts, uint16_t n)
{
	(void)queue;
	rte_pktmbuf_free_bulk(pkts, n);
	return n;
}

static void
test_a_rarp_packet_gets_them_as_well(void **state)
{
	struct vhub_net_driver_ops taker = keeper;
	struct net_dev *dev = make_dev();

	(void)state;
	taker.from_guest = taker_from_guest;
	dev->driver = &taker;
	dev->rarp.due = true;
	net_rarp_started(&dev->pairs[0]);
	assert_int_equal(n_reclaims, 1);
	assert_int_equal(dev->rarp.sent, 1);
	free(dev);
}

static void
test_a_rarp_packet_that_the_port_drops_was_not_sent(void **state)
{
	struct net_dev *dev = make_dev();

	(void)state;
	dev->rarp.due = true;
	net_rarp_started(&dev->pairs[0]);
	assert_int_equal(dev->rarp.sent, 0);
	assert_int_equal(dev->pairs[0].counters.drops[VHUB_NET_DROP_PORT_FULL], 1);
	assert_int_equal(rte_mempool_in_use_count(dev->pool), 0);
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
	assert_int_equal(vhub_net_pool(-1)->size,
			net_pool_mbufs(TEST_N_WORKERS, vhub_net_pool(-1)->cache_size) + n);
	assert_int_equal(vhub_net_pool_tx_mbufs(), n);
}

/* All that may be somewhere else, with however many workers, leaves some to those under way. */
static void
test_what_waits_and_what_caches_keep_has_its_bounds(void **state)
{
	const uint32_t cache_size = vhub_net_pool(-1)->cache_size;
	uint32_t before = 0;

	(void)state;
	assert_int_equal(vhub_net_max_waiting(), net_max_waiting(TEST_N_WORKERS));
	assert_int_equal(vhub_net_max_cached(128), (TEST_N_WORKERS + 1) * 192);
	for (uint32_t n = 1; n <= VHUB_MAX_LCORES; n++) {
		const uint32_t waiting = n * (net_inboxes_share(n) + net_held_share(n));
		/* One more lcore than workers has a cache, of up to 1.5 times its size. */
		const uint32_t cached = (n + 1) * (cache_size * 3 / 2);
		const uint32_t elsewhere = waiting + cached + RVHOST_DMA_MBUFS + CAPTURES_MBUFS;

		assert_in_range(waiting, 1, net_max_waiting(n));
		assert_in_range(net_max_waiting(n), before, UINT32_MAX);
		before = net_max_waiting(n);
		assert_in_range(net_pool_mbufs(n, cache_size), elsewhere + 500, UINT32_MAX);
		assert_in_range(net_pool_mbufs(n, cache_size), elsewhere + n * VHUB_NET_BURST,
				UINT32_MAX);
		/* The longest packet may wait, whatever the share. */
		assert_in_range(net_inboxes_share(n), RVHOST_PACKET_MBUFS, NET_INBOXES_MBUFS);
		assert_in_range(net_held_share(n), RVHOST_PACKET_MBUFS, NET_HELD_MBUFS);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
				test_a_copy_of_a_packet_gets_what_drivers_are_done_with, empty_pool,
				fill_pool),
		cmocka_unit_test_setup_teardown(test_a_copy_of_an_mbuf_gets_them_as_well,
				empty_pool, fill_pool),
		cmocka_unit_test_setup_teardown(test_pieces_of_a_packet_get_them_as_well,
				empty_pool, fill_pool),
		cmocka_unit_test_setup_teardown(test_too_many_pieces_are_not_even_begun, empty_pool,
				fill_pool),
		cmocka_unit_test_setup_teardown(test_a_rarp_packet_gets_them_as_well, empty_pool,
				fill_pool),
		cmocka_unit_test_setup_teardown(test_the_library_gets_what_drivers_are_done_with,
				empty_pool, fill_pool),
		cmocka_unit_test(test_the_pool_has_those_that_tx_queues_may_keep),
		cmocka_unit_test(test_a_rarp_packet_that_the_port_drops_was_not_sent),
		cmocka_unit_test(test_what_waits_and_what_caches_keep_has_its_bounds),
	};

	if (test_eal_init() != 0 || vhub_net_driver_register(&keeper) != 0)
		return 99;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
