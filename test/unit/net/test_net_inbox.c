/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inboxes (net/vhub_net_inbox.h) whose owner sleeps, and changes while packets are on their way. The
 * program links net/inbox.c alone; lcores, memory and a guest are the doubles here, so that the other
 * lcore does what it does at a chosen place.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <rte_common.h>

#include "../eal_fixture.h"
#include "vhub_alloc.h"
#include "vhub_net_inbox.h"

#define N_LCORES 3u

/* Nobody looks into an lcore but through the functions below. */
static char lcores[N_LCORES];
static struct vhub_lcore *self;
static unsigned int wakes[N_LCORES];

static struct vhub_net_inbox *inbox;
static struct vhub_net_queue queue;
static struct rte_mempool *pool;
/* What reached the guest as views, and who has sent views. */
static uint64_t viewed;
static struct vhub_net_queue sender;
/* What another lcore does while a packet is on its way. */
static void (*meanwhile)(void);

static struct vhub_lcore *
lcore_at(unsigned int i)
{
	return (struct vhub_lcore *)(void *)&lcores[i];
}

/* ---- doubles ---- */

unsigned int
vhub_lcore_count(void)
{
	return N_LCORES;
}

struct vhub_lcore *
vhub_lcore_self(void)
{
	return self;
}

/* A sender asks for it between the look at who is the owner and the one at whether that one sleeps. */
unsigned int
vhub_lcore_index(const struct vhub_lcore *lcore)
{
	void (*fn)(void) = meanwhile;

	meanwhile = NULL;
	if (fn != NULL)
		fn();
	return (unsigned int)((const char *)lcore - lcores);
}

void
vhub_lcore_wake(struct vhub_lcore *lcore)
{
	wakes[(char *)lcore - lcores]++;
}

void *
vhub_zalloc_node(size_t size_bytes, int node)
{
	const size_t bytes = RTE_ALIGN_CEIL(size_bytes, (size_t)RTE_CACHE_LINE_SIZE);
	void *p = aligned_alloc(RTE_CACHE_LINE_SIZE, bytes);

	(void)node;
	assert_non_null(p);
	return memset(p, 0, bytes);
}

void
vhub_free(void *ptr, size_t size_bytes)
{
	(void)size_bytes;
	free(ptr);
}

void
vhub_net_to_guest(struct vhub_net_queue *to, struct rte_mbuf **pkts, uint16_t n)
{
	assert_ptr_equal(to, &queue);
	rte_pktmbuf_free_bulk(pkts, n);
}

void
vhub_net_views_to_guest(struct vhub_net_queue *to, const struct vhub_net_view *views,
		uint64_t which)
{
	assert_ptr_equal(to, &queue);
	assert_null(views);
	viewed |= which;
}

uint64_t
vhub_net_views_to_mbufs(struct vhub_net_queue *from, const struct vhub_net_view *views,
		uint64_t which, struct rte_mbuf **pkts)
{
	assert_ptr_equal(from, &sender);
	assert_null(views);
	for (unsigned int i = 0; i < VHUB_NET_BURST; i++) {
		if ((which >> i & 1) == 0)
			continue;
		pkts[i] = rte_pktmbuf_alloc(pool);
		assert_non_null(pkts[i]);
	}
	return which;
}

/* ---- tests ---- */

static void
open_at(unsigned int i)
{
	struct vhub_lcore *caller = self;

	self = lcore_at(i);
	vhub_net_inbox_open(inbox, &queue);
	self = caller;
}

static void
begin(void)
{
	memset(wakes, 0, sizeof(wakes));
	queue.open = true;
	assert_int_equal(vhub_net_inbox_create(-1, &inbox), 0);
	open_at(1);
	self = lcore_at(0);
}

static void
end(void)
{
	vhub_net_inbox_close(inbox);
	vhub_net_inbox_destroy(inbox);
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
}

static void
send_one(void)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);

	assert_non_null(m);
	vhub_net_inbox_send(inbox, &m, 1);
}

static unsigned int
take_all(void)
{
	struct rte_mbuf *pkts[VHUB_NET_BURST];
	const uint16_t n = vhub_net_inbox_take(inbox, pkts, VHUB_NET_BURST);

	rte_pktmbuf_free_bulk(pkts, n);
	return n;
}

static void
test_an_owner_that_sleeps_is_woken_once(void **state)
{
	(void)state;
	begin();
	send_one();
	assert_int_equal(vhub_net_inbox_arm(inbox), -EAGAIN);
	vhub_net_inbox_disarm(inbox);
	assert_int_equal(take_all(), 1);
	send_one();
	assert_int_equal(wakes[1], 0);
	assert_int_equal(take_all(), 1);
	assert_int_equal(vhub_net_inbox_arm(inbox), 0);
	send_one();
	send_one();
	assert_int_equal(wakes[1], 1);
	assert_int_equal(take_all(), 2);
	end();
}

static void
move_and_sleep(void)
{
	vhub_net_inbox_close(inbox);
	open_at(2);
	assert_int_equal(vhub_net_inbox_arm(inbox), 0);
}

/* The packet is in the inbox of an lcore that sleeps, which is another one than it was sent to. */
static void
test_an_owner_that_came_meanwhile_is_woken(void **state)
{
	(void)state;
	begin();
	meanwhile = move_and_sleep;
	send_one();
	assert_null(meanwhile);
	assert_int_equal(wakes[2], 1);
	assert_int_equal(wakes[1], 0);
	assert_int_equal(take_all(), 1);
	end();
}

static void
sleep_and_close(void)
{
	assert_int_equal(vhub_net_inbox_arm(inbox), 0);
	vhub_net_inbox_close(inbox);
}

/* What comes too late for one that has gone wakes nobody, and is not kept for the next one. */
static void
test_an_owner_that_left_meanwhile_is_not_woken(void **state)
{
	(void)state;
	begin();
	meanwhile = sleep_and_close;
	send_one();
	for (unsigned int i = 0; i < N_LCORES; i++)
		assert_int_equal(wakes[i], 0);
	open_at(2);
	assert_int_equal(take_all(), 0);
	end();
}

struct wanted {
	const char *name;
	uint64_t value;
};

static void
look(void *arg, const char *name, uint64_t value)
{
	struct wanted *wanted = arg;

	if (strcmp(name, wanted->name) == 0)
		wanted->value = value;
}

static uint64_t
figure(const char *name)
{
	struct wanted wanted = { .name = name, .value = UINT64_MAX };

	vhub_net_inbox_emit_stats(&inbox, 1, look, &wanted);
	assert_int_not_equal(wanted.value, UINT64_MAX);
	return wanted.value;
}

/* As they are on the owner's lcore alone; to another one as mbufs; nowhere when the guest takes none. */
static void
test_views_go_as_far_as_they_may(void **state)
{
	const uint64_t which = UINT64_C(0x8000000000000005);

	(void)state;
	begin();
	viewed = 0;
	self = lcore_at(1);
	vhub_net_inbox_send_views(inbox, &sender, NULL, which);
	assert_true(viewed == which);
	assert_int_equal(take_all(), 0);
	self = lcore_at(0);
	assert_int_equal(vhub_net_inbox_arm(inbox), 0);
	vhub_net_inbox_send_views(inbox, &sender, NULL, which);
	assert_true(viewed == which);
	assert_int_equal(wakes[1], 1);
	assert_int_equal(take_all(), 3);
	assert_int_equal(figure("crossed_packets"), 3);
	queue.open = false;
	vhub_net_inbox_send_views(inbox, &sender, NULL, which);
	assert_int_equal(take_all(), 0);
	vhub_net_inbox_close(inbox);
	vhub_net_inbox_send_views(inbox, &sender, NULL, which);
	assert_int_equal(figure("dropped_crossing_closed"), 6);
	end();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_owner_that_sleeps_is_woken_once),
		cmocka_unit_test(test_an_owner_that_came_meanwhile_is_woken),
		cmocka_unit_test(test_an_owner_that_left_meanwhile_is_not_woken),
		cmocka_unit_test(test_views_go_as_far_as_they_may),
	};

	if (test_eal_init() != 0)
		return 1;
	pool = rte_pktmbuf_pool_create("inbox", 255, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
			SOCKET_ID_ANY);
	if (pool == NULL)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
