/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a disk in memory does in one of two ways: it keeps to the cheaper one, whichever that is and where that changes,
 * whatever interrupts it, and seldom tries the dearer one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../../drivers/blk/malloc/choice.h"

#define BURST_BYTES (16u * 4096)

/* What a burst takes either way, in cycles, and how often it is interrupted. */
struct machine {
	uint64_t cycles[2];
	unsigned int interrupted_every; /* 0: never */
	uint64_t interrupted_for;
	unsigned int seed, n;
};

/* Of so many bursts, how many were done the second way. One takes up to a quarter more or less than it should. */
static unsigned int
run(struct machine *m, struct malloc_choice *c, unsigned int n)
{
	unsigned int n_second = 0;

	for (unsigned int i = 0; i < n; i++) {
		uint64_t cycles;

		malloc_choice_begin(c);
		n_second += c->current;
		cycles = m->cycles[c->current] * (75 + (unsigned int)rand_r(&m->seed) % 51) / 100;
		if (m->interrupted_every != 0 && ++m->n % m->interrupted_every == 0)
			cycles += m->interrupted_for;
		malloc_choice_end(c, cycles, BURST_BYTES);
	}
	return n_second;
}

static void
test_the_first_way_is_kept_to(void **state)
{
	struct machine m = { .cycles = { 16000, 20000 }, .seed = 1 };
	struct malloc_choice c = { 0 };

	(void)state;
	run(&m, &c, 500);
	assert_in_range(run(&m, &c, 10000), 1, 100);
}

static void
test_the_second_way_is_found(void **state)
{
	struct machine m = { .cycles = { 20000, 16000 }, .seed = 2 };
	struct malloc_choice c = { 0 };

	(void)state;
	run(&m, &c, 500);
	assert_in_range(run(&m, &c, 10000), 9900, 9999);
}

static void
test_what_has_become_cheaper_is_found(void **state)
{
	struct machine m = { .cycles = { 16000, 20000 }, .seed = 3 };
	struct malloc_choice c = { 0 };

	(void)state;
	run(&m, &c, 20000);
	m = (struct machine){ .cycles = { 20000, 16000 }, .seed = 4 };
	run(&m, &c, 20000);
	assert_in_range(run(&m, &c, 10000), 9900, 9999);
	/* And where all got dearer at once, as where memory is busy. */
	m = (struct machine){ .cycles = { 50000, 70000 }, .seed = 5 };
	run(&m, &c, 20000);
	assert_in_range(run(&m, &c, 10000), 1, 100);
}

/* The host takes the CPU away, which has nothing to do with the way. */
static void
test_interrupted_bursts_change_nothing(void **state)
{
	struct machine m = { .cycles = { 20000, 16000 },
		.interrupted_every = 97,
		.interrupted_for = 30000000,
		.seed = 6 };
	struct malloc_choice c = { 0 };

	(void)state;
	run(&m, &c, 5000);
	assert_in_range(run(&m, &c, 20000), 19000, 19999);
}

/* It changes again and again, and knows what both cost. */
static void
test_the_same_cost_does_no_harm(void **state)
{
	struct machine m = { .cycles = { 16000, 16000 }, .seed = 7 };
	struct malloc_choice c = { 0 };

	(void)state;
	run(&m, &c, 10000);
	for (unsigned int i = 0; i < 2; i++)
		assert_in_range(c.cost[i], 850, 1150);
}

static void
test_a_clock_that_stands_still_or_jumps_is_survived(void **state)
{
	static const uint64_t cycles[] = { 0, UINT64_MAX, 16000 };
	struct malloc_choice c = { 0 };

	(void)state;
	for (unsigned int i = 0; i < 1000; i++) {
		malloc_choice_begin(&c);
		malloc_choice_end(&c, cycles[i % RTE_DIM(cycles)], i % 5 == 0 ? 0 : BURST_BYTES);
		assert_in_range(c.cost[c.current], 1, 1u << 30);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_first_way_is_kept_to),
		cmocka_unit_test(test_the_second_way_is_found),
		cmocka_unit_test(test_what_has_become_cheaper_is_found),
		cmocka_unit_test(test_interrupted_bursts_change_nothing),
		cmocka_unit_test(test_the_same_cost_does_no_harm),
		cmocka_unit_test(test_a_clock_that_stands_still_or_jumps_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
