/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Pauses: a turn that took longer than what was done in it may is one, in the measured time alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <rte_cycles.h>

#include "../eal_fixture.h"
#include "run.h"

static struct report_lcore lcore;
static struct run_meter meter;
static uint64_t now, us;

static int
setup(void **state)
{
	(void)state;
	lcore = (struct report_lcore){ .cpu = 0 };
	us = rte_get_tsc_hz() / 1000000;
	now = rte_rdtsc();
	run_meter_init(&meter, &lcore, 0);
	run_meter_enter(&meter, RUN_MEASURE, now);
	return 0;
}

/* A turn of `turn_us` with `n` items. */
static void
turn(uint64_t turn_us, unsigned int n)
{
	now += turn_us * us;
	run_meter_turn(&meter, now, n);
}

static void
test_a_turn_that_took_too_long_is_a_pause(void **state)
{
	(void)state;
	turn(10, 0);
	assert_int_equal(lcore.pauses, 0);
	turn(30, 0);
	turn(50, 0);
	turn(40, 0);
	turn(5, 0);
	assert_int_equal(lcore.pauses, 3);
	assert_int_equal(lcore.pause_cycles, 120 * us);
	assert_int_equal(lcore.longest_pause_cycles, 50 * us);
	assert_int_equal(lcore.busy_cycles, 0);
}

static void
test_a_turn_has_an_allowance_for_each_item_and_its_bytes(void **state)
{
	(void)state;
	turn(30, 32);
	assert_int_equal(lcore.pauses, 0);
	turn(80, 32);
	assert_int_equal(lcore.pauses, 1);
	run_meter_init(&meter, &lcore, 64000);
	run_meter_enter(&meter, RUN_MEASURE, now);
	turn(80, 1);
	assert_int_equal(lcore.pauses, 1);
	turn(90, 1);
	assert_int_equal(lcore.pauses, 2);
}

static void
test_only_the_measured_time_counts(void **state)
{
	(void)state;
	run_meter_init(&meter, &lcore, 0);
	run_meter_enter(&meter, RUN_RAMP, now);
	turn(1000, 0);
	run_meter_enter(&meter, RUN_MEASURE, now);
	turn(100, 0);
	run_meter_enter(&meter, RUN_DRAIN, now);
	turn(1000, 0);
	assert_int_equal(lcore.pauses, 1);
	assert_int_equal(lcore.pause_cycles, 100 * us);
}

/* With what the meter tells of turns and of what does not count in them, run.c ends the measured time. */
static void
test_a_turn_counts_for_no_more_than_a_while(void **state)
{
	const uint64_t begin = now, while_us = RUN_STILL_MS * 1000;

	(void)state;
	assert_int_equal(lcore.begin_cycles, begin);
	assert_int_equal(lcore.turn_cycles, begin);
	turn(while_us - 1, 0);
	assert_int_equal(lcore.still_cycles, 0);
	turn(while_us + 1000, 0);
	assert_in_range(lcore.still_cycles, 1000 * us, 1001 * us + rte_get_tsc_hz() / 1000);
	assert_int_equal(lcore.turn_cycles, now);
	assert_int_equal(lcore.turn_cycles - begin, (2 * while_us + 999) * us);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_a_turn_that_took_too_long_is_a_pause, setup),
		cmocka_unit_test_setup(test_a_turn_has_an_allowance_for_each_item_and_its_bytes,
				setup),
		cmocka_unit_test_setup(test_only_the_measured_time_counts, setup),
		cmocka_unit_test_setup(test_a_turn_counts_for_no_more_than_a_while, setup),
	};

	if (test_eal_init() != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
