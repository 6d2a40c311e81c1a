/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Numbered packets: what arrives in order, late, twice, or never, against a model that remembers
 * every number; the ramp is not judged; a stalled window is given up.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "net_flow.h"

static struct net_flow f;

static int
setup(void **state)
{
	(void)state;
	memset(&f, 0, sizeof(f));
	return 0;
}

static void
test_in_order_all_arrives(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < 3 * NET_FLOW_WINDOW; i++) {
		f.sent = i + 10;
		assert_int_equal(net_flow_arrive(&f, i), NET_ARRIVED);
		assert_int_equal(net_flow_under_way(&f), 9);
	}
	assert_int_equal(net_flow_lost(&f), 9);
}

static void
test_each_kind_is_told_from_the_others(void **state)
{
	(void)state;
	f.sent = 10;
	assert_int_equal(net_flow_arrive(&f, 0), NET_ARRIVED);
	assert_int_equal(net_flow_arrive(&f, 0), NET_DUPLICATE);
	assert_int_equal(net_flow_arrive(&f, 3), NET_ARRIVED);
	/* 1 and 2 are no longer under way, but they may come. */
	assert_int_equal(net_flow_under_way(&f), 6);
	assert_int_equal(net_flow_arrive(&f, 2), NET_REORDERED);
	assert_int_equal(net_flow_arrive(&f, 2), NET_DUPLICATE);
	assert_int_equal(net_flow_arrive(&f, 10), NET_NEVER_SENT);
	assert_int_equal(net_flow_arrive(&f, UINT64_MAX), NET_NEVER_SENT);
	for (uint64_t i = 4; i < 10; i++)
		assert_int_equal(net_flow_arrive(&f, i), NET_ARRIVED);
	assert_int_equal(net_flow_lost(&f), 1);
	assert_int_equal(net_flow_arrive(&f, 1), NET_REORDERED);
	assert_int_equal(net_flow_lost(&f), 0);
}

static void
test_the_ramp_is_not_judged(void **state)
{
	(void)state;
	f.sent = 100;
	net_flow_arrive(&f, 5);
	net_flow_begin(&f);
	f.sent = 200;
	assert_int_equal(net_flow_arrive(&f, 5), NET_UNJUDGED);
	assert_int_equal(net_flow_arrive(&f, 50), NET_UNJUDGED);
	assert_int_equal(net_flow_arrive(&f, 99), NET_UNJUDGED);
	assert_int_equal(net_flow_arrive(&f, 20), NET_UNJUDGED);
	assert_int_equal(net_flow_arrive(&f, 102), NET_ARRIVED);
	assert_int_equal(net_flow_arrive(&f, 100), NET_REORDERED);
	assert_int_equal(net_flow_lost(&f), 98);
}

static void
test_a_gap_longer_than_the_window_is_lost(void **state)
{
	const uint64_t far = 5 * NET_FLOW_WINDOW;

	(void)state;
	f.sent = far + 2;
	assert_int_equal(net_flow_arrive(&f, 0), NET_ARRIVED);
	assert_int_equal(net_flow_arrive(&f, far), NET_ARRIVED);
	assert_int_equal(f.n_missing, NET_FLOW_WINDOW - 1);
	assert_int_equal(net_flow_arrive(&f, far - NET_FLOW_WINDOW + 1), NET_REORDERED);
	assert_int_equal(net_flow_arrive(&f, far - NET_FLOW_WINDOW), NET_DUPLICATE);
	assert_int_equal(net_flow_arrive(&f, far + 1), NET_ARRIVED);
	assert_int_equal(net_flow_lost(&f), far - 2);
}

static void
test_what_is_given_up_is_not_under_way_but_may_come(void **state)
{
	(void)state;
	f.sent = 64;
	assert_int_equal(net_flow_under_way(&f), 64);
	net_flow_forgive(&f);
	assert_int_equal(net_flow_under_way(&f), 0);
	f.sent = 70;
	assert_int_equal(net_flow_under_way(&f), 6);
	assert_int_equal(net_flow_arrive(&f, 10), NET_ARRIVED);
	assert_int_equal(net_flow_under_way(&f), 6);
	assert_int_equal(net_flow_arrive(&f, 66), NET_ARRIVED);
	assert_int_equal(net_flow_under_way(&f), 3);
}

/* Packets that are swapped, dropped, doubled at random, and a table of what has come. */
static void
test_random_faults_are_counted_as_a_model_counts_them(void **state)
{
	enum {
		TOTAL = 300000,
		REACH = 1000
	};
	static uint8_t came[TOTAL];
	unsigned short seed[3] = { 4, 5, 6 };
	uint64_t highest = 0, distinct = 0;
	bool any = false;

	(void)state;
	memset(came, 0, sizeof(came));
	for (uint64_t i = 0; i < TOTAL; i++) {
		const long dice = nrand48(seed) % 100;
		/* Mostly the next one; at times one of long ago, or one that skips a few. */
		uint64_t number = dice < 90 ? i : (uint64_t)nrand48(seed) % REACH + i;
		enum net_arrival expected = NET_ARRIVED;

		if (dice < 5)
			number = i > REACH ? i - (uint64_t)nrand48(seed) % REACH : 0;
		number = RTE_MIN(number, (uint64_t)TOTAL - 1);
		f.sent = RTE_MAX(f.sent, number + 1);
		if (came[number])
			expected = NET_DUPLICATE;
		else if (any && number < highest)
			expected = NET_REORDERED;
		assert_int_equal(net_flow_arrive(&f, number), expected);
		distinct += came[number] == 0;
		came[number] = 1;
		highest = RTE_MAX(highest, number);
		any = true;
		assert_int_equal(net_flow_lost(&f), f.sent - distinct);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_in_order_all_arrives, setup),
		cmocka_unit_test_setup(test_each_kind_is_told_from_the_others, setup),
		cmocka_unit_test_setup(test_the_ramp_is_not_judged, setup),
		cmocka_unit_test_setup(test_a_gap_longer_than_the_window_is_lost, setup),
		cmocka_unit_test_setup(test_what_is_given_up_is_not_under_way_but_may_come, setup),
		cmocka_unit_test_setup(test_random_faults_are_counted_as_a_model_counts_them,
				setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
