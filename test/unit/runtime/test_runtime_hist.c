/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The histogram of latencies: every value has its bucket, percentiles of random sets lie where those
 * of the sorted values lie, and what one lcore fills another may read.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "vhub_hist.h"

#define VALUES 20000u

static struct vhub_hist h;

/* What is told of a value: the middle of its bucket. */
static void
assert_near(uint64_t told, uint64_t exact)
{
	const uint64_t off = told > exact ? told - exact : exact - told;

	if (off > exact / (2 * VHUB_HIST_SUB) + 1)
		fail_msg("told %lu for %lu", told, exact);
}

static void
test_buckets_follow_each_other(void **state)
{
	unsigned int last = 0, bucket;

	(void)state;
	for (uint64_t value = 0; value < 1u << 20; value++) {
		bucket = vhub_hist_bucket(value);
		assert_true(bucket == last || bucket == last + 1);
		last = bucket;
	}
	for (unsigned int bit = 7; bit < VHUB_HIST_MAX_BITS; bit++) {
		const uint64_t value = UINT64_C(1) << bit;

		assert_int_equal(vhub_hist_bucket(value), vhub_hist_bucket(value - 1) + 1);
		assert_int_equal(vhub_hist_bucket(value + (value >> VHUB_HIST_SUB_BITS)),
				vhub_hist_bucket(value) + 1);
	}
	assert_int_equal(vhub_hist_bucket((UINT64_C(1) << VHUB_HIST_MAX_BITS) - 1),
			VHUB_HIST_BUCKETS - 1);
	assert_int_equal(vhub_hist_bucket(UINT64_C(1) << VHUB_HIST_MAX_BITS),
			VHUB_HIST_BUCKETS - 1);
	assert_int_equal(vhub_hist_bucket(UINT64_MAX), VHUB_HIST_BUCKETS - 1);
}

static void
test_an_empty_one_tells_nothing(void **state)
{
	(void)state;
	vhub_hist_reset(&h);
	assert_int_equal(vhub_hist_count(&h), 0);
	assert_int_equal(vhub_hist_percentile(&h, 50000), 0);
	assert_int_equal(vhub_hist_percentile(&h, 100000), 0);
	assert_true(vhub_hist_mean(&h) == 0);
}

static void
test_one_value_is_every_percentile(void **state)
{
	static const uint64_t values[] = { 0, 1, 127, 128, 260000, UINT64_C(260000000000) };

	(void)state;
	for (unsigned int i = 0; i < RTE_DIM(values); i++) {
		vhub_hist_reset(&h);
		vhub_hist_add(&h, values[i]);
		assert_int_equal(vhub_hist_count(&h), 1);
		assert_int_equal(h.max, values[i]);
		assert_true(vhub_hist_mean(&h) == (double)values[i]);
		assert_near(vhub_hist_percentile(&h, 1), values[i]);
		assert_near(vhub_hist_percentile(&h, 99900), values[i]);
		assert_true(vhub_hist_percentile(&h, 100000) <= h.max);
	}
}

static void
test_what_is_too_long_counts_as_longest(void **state)
{
	(void)state;
	vhub_hist_reset(&h);
	vhub_hist_add(&h, UINT64_C(1) << 50);
	assert_int_equal(vhub_hist_count(&h), 1);
	assert_int_equal(h.max, UINT64_C(1) << 50);
	assert_near(vhub_hist_percentile(&h, 50000), UINT64_C(1) << VHUB_HIST_MAX_BITS);
}

static int
ascending(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* From a few cycles to 100 s, small ones more often. */
static uint64_t
random_value(unsigned short *seed)
{
	const unsigned int bits = 1 + (unsigned int)nrand48(seed) % 38;
	const uint64_t value = (uint64_t)nrand48(seed) << 31 | (uint64_t)nrand48(seed);

	return value & ((UINT64_C(1) << bits) - 1);
}

static void
test_percentiles_are_those_of_the_sorted_values(void **state)
{
	static const unsigned int percentiles[] = { 1, 1000, 50000, 90000, 99000, 99900, 99990,
		100000 };
	static uint64_t values[VALUES];

	(void)state;
	for (unsigned short round = 0; round < 20; round++) {
		unsigned short seed[3] = { round, 7, 1 };
		const unsigned int n = 1 + (unsigned int)nrand48(seed) % VALUES;
		uint64_t sum = 0;

		vhub_hist_reset(&h);
		for (unsigned int i = 0; i < n; i++) {
			values[i] = random_value(seed);
			sum += values[i];
			vhub_hist_add(&h, values[i]);
		}
		qsort(values, n, sizeof(values[0]), ascending);
		assert_int_equal(vhub_hist_count(&h), n);
		assert_int_equal(h.max, values[n - 1]);
		assert_true(vhub_hist_mean(&h) == (double)sum / n);
		for (unsigned int i = 0; i < RTE_DIM(percentiles); i++) {
			const uint64_t rank = ((uint64_t)n * percentiles[i] + 99999) / 100000;

			assert_near(vhub_hist_percentile(&h, percentiles[i]), values[rank - 1]);
		}
	}
}

static void
test_merged_is_as_filled_together(void **state)
{
	static struct vhub_hist parts[3], merged;
	unsigned short seed[3] = { 1, 2, 3 };

	(void)state;
	vhub_hist_reset(&h);
	for (unsigned int i = 0; i < VALUES; i++) {
		const uint64_t value = random_value(seed);

		vhub_hist_add(&h, value);
		vhub_hist_add(&parts[i % RTE_DIM(parts)], value);
	}
	for (unsigned int i = 0; i < RTE_DIM(parts); i++)
		vhub_hist_merge(&merged, &parts[i]);
	assert_memory_equal(&merged, &h, sizeof(h));
}

static void
test_several_at_once_are_as_one_by_one(void **state)
{
	static struct vhub_hist other;

	(void)state;
	vhub_hist_reset(&h);
	vhub_hist_add_n(&h, 1000, 5);
	for (unsigned int i = 0; i < 5; i++)
		vhub_hist_add(&other, 1000);
	assert_memory_equal(&other, &h, sizeof(h));
}

static void
test_values_are_counted_by_their_bits(void **state)
{
	static const uint64_t values[] = { 0, 0, 1, 2, 3, 127, 128, 255, 256, 1000, 1023,
		(UINT64_C(1) << 39) - 1, UINT64_C(1) << 39, (UINT64_C(1) << 40) - 1,
		UINT64_C(1) << 40, UINT64_MAX };
	uint64_t in_all = 0;

	(void)state;
	vhub_hist_reset(&h);
	for (unsigned int i = 0; i < RTE_DIM(values); i++)
		vhub_hist_add(&h, values[i]);
	for (unsigned int bits = 0; bits <= VHUB_HIST_MAX_BITS; bits++) {
		uint64_t n = 0;

		for (unsigned int i = 0; i < RTE_DIM(values); i++) {
			unsigned int of = 0;

			while (of < VHUB_HIST_MAX_BITS && values[i] >> of != 0)
				of++;
			n += of == bits;
		}
		assert_int_equal(vhub_hist_count_of_bits(&h, bits), n);
		in_all += n;
	}
	assert_int_equal(in_all, RTE_DIM(values));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buckets_follow_each_other),
		cmocka_unit_test(test_an_empty_one_tells_nothing),
		cmocka_unit_test(test_one_value_is_every_percentile),
		cmocka_unit_test(test_what_is_too_long_counts_as_longest),
		cmocka_unit_test(test_percentiles_are_those_of_the_sorted_values),
		cmocka_unit_test(test_merged_is_as_filled_together),
		cmocka_unit_test(test_several_at_once_are_as_one_by_one),
		cmocka_unit_test(test_values_are_counted_by_their_bits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
