/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inboxes (net/vhub_net_inbox.h) whose owner sleeps, and changes while packets are on their way; and what
 * one that nobody empties leaves to others. The
 * program links net/inbox.c alone; lcores, memory and a guest are the doubles here, so that the other
 * lcore does what it does at a chosen place.
 */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <rte_common.h>
#include <rte_launch.h>

#include "../eal_fixture.h"
#include "vhub_alloc.h"
#include "vhub_net_inbox.h"

#define N_LCORES 3u
/* With so many an lcore's share is 256 mbufs: less than the ring of one inbox has places for. */
#define MANY_LCORES 16u
#define SHARE 256u

/* Nobody looks into an lcore but through the functions below. */
static char lcores[N_LCORES];
/* Of each thread: a test has two. */
static __thread struct vhub_lcore *self;
static unsigned int n_lcores = N_LCORES;
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
	return n_lcores;
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

/* ---- what comes too late ---- */

static void
close_meanwhile(void)
{
	vhub_net_inbox_close(inbox);
}

/* As a driver whose `closed` is called. */
static void
disable_meanwhile(void)
{
	__atomic_store_n(&queue.open, false, __ATOMIC_RELAXED);
	vhub_net_inbox_empty(inbox);
}

/* Nobody looks into it any more: what is put in then goes at once, and has not crossed. */
static void
test_what_comes_after_the_end_is_dropped(void **state)
{
	void (*const ends[])(void) = { close_meanwhile, disable_meanwhile };

	(void)state;
	for (unsigned int i = 0; i < RTE_DIM(ends); i++) {
		begin();
		send_one();
		meanwhile = ends[i];
		send_one();
		assert_null(meanwhile);
		assert_int_equal(rte_mempool_in_use_count(pool), 0);
		assert_int_equal(figure("dropped_crossing_closed"), 2);
		queue.open = true;
		open_at(2);
		meanwhile = ends[i];
		vhub_net_inbox_send_views(inbox, &sender, NULL, UINT64_MAX);
		assert_null(meanwhile);
		assert_int_equal(rte_mempool_in_use_count(pool), 0);
		assert_int_equal(figure("dropped_crossing_closed"), 2 + VHUB_NET_BURST);
		assert_int_equal(figure("crossed_packets"), 0);
		end();
	}
}

#define N_ROUNDS 20000u

static uint32_t round_begun, round_ended;

static int
send_in_each_round(void *arg)
{
	(void)arg;
	self = lcore_at(0);
	for (uint32_t i = 1; i <= N_ROUNDS; i++) {
		while (__atomic_load_n(&round_begun, __ATOMIC_ACQUIRE) != i)
			sched_yield();
		send_one();
		__atomic_store_n(&round_ended, i, __ATOMIC_RELEASE);
	}
	return 0;
}

/* The owner closes, or the guest's ring is disabled, at whatever moment of a sender's. */
static void
test_whichever_comes_first_nothing_stays(void **state)
{
	(void)state;
	round_begun = round_ended = 0;
	begin();
	self = lcore_at(1);
	assert_int_equal(rte_eal_remote_launch(send_in_each_round, NULL, 1), 0);
	for (uint32_t i = 1; i <= N_ROUNDS; i++) {
		__atomic_store_n(&round_begun, i, __ATOMIC_RELEASE);
		for (volatile uint32_t spin = i % 400; spin > 0; spin--)
			;
		if (i % 2 == 0)
			close_meanwhile();
		else
			disable_meanwhile();
		while (__atomic_load_n(&round_ended, __ATOMIC_ACQUIRE) != i)
			sched_yield();
		assert_int_equal(rte_mempool_in_use_count(pool), 0);
		queue.open = true;
		open_at(1 + i % 2);
	}
	assert_int_equal(rte_eal_wait_lcore(1), 0);
	assert_int_equal(figure("dropped_crossing_closed"), N_ROUNDS);
	assert_int_equal(figure("crossed_packets"), 0);
	self = lcore_at(0);
	end();
}

/* ---- what is left to others ---- */

/* So many packets of so many mbufs each to an inbox, in bursts. */
static void
send_many(struct vhub_net_inbox *to, unsigned int n, uint16_t segs)
{
	struct rte_mbuf *pkts[VHUB_NET_BURST];
	unsigned int i, in_burst;

	for (; n > 0; n -= in_burst) {
		in_burst = RTE_MIN(n, VHUB_NET_BURST);
		for (i = 0; i < in_burst; i++) {
			pkts[i] = rte_pktmbuf_alloc(pool);
			assert_non_null(pkts[i]);
			for (uint16_t s = 1; s < segs; s++)
				assert_int_equal(rte_pktmbuf_chain(pkts[i],
								 rte_pktmbuf_alloc(pool)),
						0);
		}
		vhub_net_inbox_send(to, pkts, (uint16_t)in_burst);
	}
}

/* How many copies find room. */
static unsigned int
post_many(struct vhub_net_inbox *to, unsigned int n)
{
	unsigned int put = 0;

	for (; n > 0; n--) {
		struct rte_mbuf *m = rte_pktmbuf_alloc(pool);

		assert_non_null(m);
		put += vhub_net_inbox_post(to, &m, 1);
	}
	return put;
}

static unsigned int
take_all_of(struct vhub_net_inbox *from)
{
	struct rte_mbuf *pkts[VHUB_NET_BURST];
	unsigned int all = 0;
	uint16_t n;

	while ((n = vhub_net_inbox_take(from, pkts, VHUB_NET_BURST)) != 0) {
		rte_pktmbuf_free_bulk(pkts, n);
		all += n;
	}
	return all;
}

/* Two more inboxes of lcore 1's, whose share is small now. */
static void
begin_with_others(struct vhub_net_inbox **others)
{
	n_lcores = MANY_LCORES;
	begin();
	self = lcore_at(1);
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(vhub_net_inbox_create(-1, &others[i]), 0);
		vhub_net_inbox_open(others[i], &queue);
	}
	self = lcore_at(0);
}

static void
end_with_others(struct vhub_net_inbox **others)
{
	for (unsigned int i = 0; i < 2; i++) {
		vhub_net_inbox_close(others[i]);
		vhub_net_inbox_destroy(others[i]);
	}
	end();
	n_lcores = N_LCORES;
}

/* In packets of one mbuf and of several, in whatever bursts they come. */
static void
test_one_that_nobody_empties_leaves_as_much_to_others(void **state)
{
	struct vhub_net_inbox *others[2];

	(void)state;
	begin_with_others(others);
	for (uint16_t segs = 1; segs <= 5; segs++) {
		send_many(inbox, 2 * SHARE / segs, segs);
		send_many(others[0], 2 * SHARE, 1);
		for (unsigned int i = 0; i < 10; i++)
			send_many(others[1], 4, 1);
		assert_int_equal(take_all_of(inbox), (SHARE / 2 + segs - 1) / segs);
		assert_in_range(take_all_of(others[0]), SHARE / 4 - segs, SHARE / 4);
		assert_in_range(take_all_of(others[1]), SHARE / 8 - segs, SHARE / 8);
	}
	end_with_others(others);
}

/* Of what there is for copies, which is half. */
static void
test_copies_that_nobody_takes_leave_as_much_to_others(void **state)
{
	struct vhub_net_inbox *others[2];

	(void)state;
	begin_with_others(others);
	assert_int_equal(post_many(inbox, SHARE), SHARE / 4);
	assert_int_equal(post_many(others[0], SHARE), SHARE / 8);
	send_many(others[1], SHARE, 1);
	assert_int_equal(take_all_of(others[1]), (SHARE - SHARE / 4 - SHARE / 8) / 2);
	assert_int_equal(take_all_of(inbox), SHARE / 4);
	assert_int_equal(post_many(inbox, SHARE), (SHARE / 2 - SHARE / 8) / 2);
	end_with_others(others);
}

/* What was taken, dropped for want of a place, or dropped by a close is counted no more. */
static void
test_an_inbox_that_was_emptied_takes_as_much_again(void **state)
{
	struct vhub_net_inbox *others[2];

	(void)state;
	begin_with_others(others);
	for (unsigned int turn = 0; turn < 20; turn++) {
		send_many(inbox, 3 * SHARE, 1);
		assert_int_equal(take_all_of(inbox), SHARE / 2);
		send_many(inbox, SHARE, 1);
		vhub_net_inbox_close(inbox);
		send_many(inbox, 10, 1);
		open_at(1 + turn % 2);
		send_many(inbox, SHARE, 1);
		vhub_net_inbox_empty(inbox);
	}
	/* With few lcores its ring is what bounds it: what finds no place there counts nowhere. */
	n_lcores = 1;
	for (unsigned int turn = 0; turn < 20; turn++) {
		vhub_net_inbox_close(inbox);
		open_at(1);
		send_many(inbox, 700, 1);
		assert_int_equal(take_all_of(inbox), 511);
	}
	end_with_others(others);
}

static void
take_meanwhile(void)
{
	assert_int_equal(take_all_of(inbox), SHARE / 2);
}

/* One that has no owner any more has nothing of what there is for others. */
static void
test_one_that_was_closed_leaves_all_to_others(void **state)
{
	struct vhub_net_inbox *others[2];

	(void)state;
	begin_with_others(others);
	meanwhile = close_meanwhile;
	send_many(inbox, VHUB_NET_BURST, 2);
	assert_null(meanwhile);
	send_many(others[0], SHARE, 1);
	assert_int_equal(take_all_of(others[0]), SHARE / 2);
	open_at(1);
	send_many(inbox, SHARE, 1);
	assert_int_equal(take_all_of(inbox), SHARE / 2);
	end_with_others(others);
}

/* What the owner takes while packets are on their way makes room for those that come after. */
static void
test_what_is_taken_meanwhile_is_not_counted(void **state)
{
	struct vhub_net_inbox *others[2];

	(void)state;
	begin_with_others(others);
	send_many(inbox, SHARE, 1);
	meanwhile = take_meanwhile;
	send_many(inbox, VHUB_NET_BURST, 1);
	assert_null(meanwhile);
	assert_int_equal(take_all_of(inbox), VHUB_NET_BURST);
	end_with_others(others);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_owner_that_sleeps_is_woken_once),
		cmocka_unit_test(test_an_owner_that_came_meanwhile_is_woken),
		cmocka_unit_test(test_an_owner_that_left_meanwhile_is_not_woken),
		cmocka_unit_test(test_views_go_as_far_as_they_may),
		cmocka_unit_test(test_what_comes_after_the_end_is_dropped),
		cmocka_unit_test(test_whichever_comes_first_nothing_stays),
		cmocka_unit_test(test_one_that_was_closed_leaves_all_to_others),
		cmocka_unit_test(test_one_that_nobody_empties_leaves_as_much_to_others),
		cmocka_unit_test(test_copies_that_nobody_takes_leave_as_much_to_others),
		cmocka_unit_test(test_an_inbox_that_was_emptied_takes_as_much_again),
		cmocka_unit_test(test_what_is_taken_meanwhile_is_not_counted),
	};

	if (test_eal_init() != 0)
		return 1;
	pool = rte_pktmbuf_pool_create("inbox", 1023, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
			SOCKET_ID_ANY);
	if (pool == NULL)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
