/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The schedule of a run with a rate: as many items a second as asked for, however uneven the rate
 * and the clock, nothing left out after a stall, and queues that share a rate take turns.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pace.h"

#define START UINT64_C(123456789012)

static void
test_the_rate_is_kept_over_a_long_time(void **state)
{
	static const uint64_t hz[] = { 1996245000, 2600000000, 3 };
	static const uint64_t rates[] = { 1, 3, 7, 1000, 999983, 14880952, 100000000 };
	struct pace p;

	(void)state;
	for (unsigned int i = 0; i < RTE_DIM(hz) * RTE_DIM(rates); i++) {
		const uint64_t h = hz[i / RTE_DIM(rates)], rate = rates[i % RTE_DIM(rates)];
		const uint64_t items = RTE_MIN(rate * 10, UINT64_C(3000000));
		uint64_t due = 0;

		pace_start(&p, START, h, rate, 0, 1);
		for (uint64_t n = 0; n <= items; n++)
			due = pace_take(&p);
		/* The item after so many is due when they have passed, but for a cycle. */
		assert_in_range(due, START + (uint64_t)((unsigned __int128)h * items / rate) - 1,
				START + (uint64_t)((unsigned __int128)h * items / rate) + 1);
	}
}

static void
test_nothing_is_due_too_early(void **state)
{
	struct pace p;

	(void)state;
	pace_start(&p, START, 1000, 10, 0, 1);
	assert_false(pace_is_due(&p, START - 1));
	assert_true(pace_is_due(&p, START));
	assert_int_equal(pace_take(&p), START);
	assert_false(pace_is_due(&p, START + 99));
	assert_true(pace_is_due(&p, START + 100));
}

static void
test_a_stall_leaves_nothing_out(void **state)
{
	const uint64_t late = START + 1000 * 50; /* fifty seconds of nothing */
	unsigned int n = 0;
	struct pace p;

	(void)state;
	pace_start(&p, START, 1000, 10, 0, 1);
	while (pace_is_due(&p, late)) {
		/* Each remembers when it should have been sent. */
		assert_int_equal(pace_take(&p), START + n * 100);
		n++;
	}
	assert_int_equal(n, 501);
}

static void
test_queues_share_a_rate_and_take_turns(void **state)
{
	struct pace p[3];

	(void)state;
	for (unsigned int i = 0; i < 3; i++)
		pace_start(&p[i], START, 3000, 10, i, 3);
	for (uint64_t round = 0; round < 100; round++) {
		for (unsigned int i = 0; i < 3; i++)
			assert_int_equal(pace_take(&p[i]), START + (3 * round + i) * 300);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_rate_is_kept_over_a_long_time),
		cmocka_unit_test(test_nothing_is_due_too_early),
		cmocka_unit_test(test_a_stall_leaves_nothing_out),
		cmocka_unit_test(test_queues_share_a_rate_and_take_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
