/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A histogram of times, in TSC cycles, which one lcore fills and others may read at any time. Up to
 * 127 every value has a bucket; above, each power of two has 64 of equal width, so a value is known
 * to 1/64 (1.6 %), and what is told, the middle of a bucket, is off by half of that. The greatest
 * value and the sum are exact. Filled by the generators, read by report.c. Implemented in hist.c.
 *
 * It is our own because Debian 12 has no such library for C; it is one array and no more.
 */
#ifndef PERF_HIST_H
#define PERF_HIST_H

#include <stdint.h>

#include <rte_branch_prediction.h>
#include <rte_common.h>

#include "vhub_common.h"

#define HIST_SUB_BITS 6u
#define HIST_SUB (1u << HIST_SUB_BITS)
/* 2^40 cycles are 100 s at 11 GHz; what is longer counts as that, but for the greatest value. */
#define HIST_MAX_BITS 40u
#define HIST_BUCKETS ((HIST_MAX_BITS - HIST_SUB_BITS + 1) * HIST_SUB)

struct hist {
	uint64_t sum;
	uint64_t max;
	uint64_t counts[HIST_BUCKETS];
};

/* Where a value is counted. */
static __rte_always_inline unsigned int
hist_bucket(uint64_t value)
{
	unsigned int shift;

	if (value >> HIST_MAX_BITS != 0)
		return HIST_BUCKETS - 1;
	/* The highest bit and the HIST_SUB_BITS below it; small values are their own bucket. */
	shift = 63u - HIST_SUB_BITS - (unsigned int)__builtin_clzll(value | HIST_SUB);
	return (shift << HIST_SUB_BITS) + (unsigned int)(value >> shift);
}

/* Counts `n` values at once. Thread: the LCORE that fills it. */
static __rte_always_inline void
hist_add_n(struct hist *h, uint64_t value, uint64_t n)
{
	vhub_count(&h->counts[hist_bucket(value)], n);
	vhub_count(&h->sum, value * n);
	/* Pairs with the loads of hist_merge(): whole values, no order. */
	if (unlikely(value > h->max))
		__atomic_store_n(&h->max, value, __ATOMIC_RELAXED);
}

static __rte_always_inline void
hist_add(struct hist *h, uint64_t value)
{
	hist_add_n(h, value, 1);
}

/* Forgets everything. Thread: the LCORE that fills it, or any while none does. */
void
hist_reset(struct hist *h);

/* Adds what is in `from`, which may be being filled, to `to`, which may not. Thread: ANY. */
void
hist_merge(struct hist *to, const struct hist *from);

/* What follows wants a histogram that nobody fills. Thread: ANY. */

uint64_t
hist_count(const struct hist *h);

/* 0 for an empty one. */
double
hist_mean(const struct hist *h);

/*
 * The value that `per_100000` of 100,000 values (50,000: the median) do not exceed, 0 for an
 * empty one; never more than the greatest.
 */
uint64_t
hist_percentile(const struct hist *h, unsigned int per_100000);

#endif /* PERF_HIST_H */
