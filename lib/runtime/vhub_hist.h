/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A histogram of times, in TSC cycles, which one lcore fills and others may read at any time. Up to
 * 127 every value has a bucket; above, each power of two has 64 of equal width, so a value is known
 * to 1/64 (1.6 %), and what is told, the middle of a bucket, is off by half of that. The greatest
 * value and the sum are exact. Filled by lib/blk and vhub-perf's generators.
 * Implemented in hist.c.
 *
 * It is our own because Debian 12 has no such library for C; it is one array and no more.
 */
#ifndef VHUB_HIST_H
#define VHUB_HIST_H

#include <stdint.h>

#include <rte_branch_prediction.h>
#include <rte_common.h>

#include "vhub_common.h"

#ifdef __cplusplus
extern "C" {
#endif

#define VHUB_HIST_SUB_BITS 6u
#define VHUB_HIST_SUB (1u << VHUB_HIST_SUB_BITS)
/** 2^40 cycles are 100 s at 11 GHz; what is longer counts as that, but for the greatest value. */
#define VHUB_HIST_MAX_BITS 40u
#define VHUB_HIST_BUCKETS ((VHUB_HIST_MAX_BITS - VHUB_HIST_SUB_BITS + 1) * VHUB_HIST_SUB)

struct vhub_hist {
	uint64_t sum;
	uint64_t max;
	uint64_t counts[VHUB_HIST_BUCKETS];
};

/** Where a value is counted. Thread: ANY. */
static __rte_always_inline unsigned int
vhub_hist_bucket(uint64_t value)
{
	unsigned int shift;

	if (value >> VHUB_HIST_MAX_BITS != 0)
		return VHUB_HIST_BUCKETS - 1;
	/* The highest bit and the VHUB_HIST_SUB_BITS below it; small values are their own bucket. */
	shift = 63u - VHUB_HIST_SUB_BITS - (unsigned int)__builtin_clzll(value | VHUB_HIST_SUB);
	return (shift << VHUB_HIST_SUB_BITS) + (unsigned int)(value >> shift);
}

/** Counts `n` values at once. Thread: the LCORE that fills it. */
static __rte_always_inline void
vhub_hist_add_n(struct vhub_hist *h, uint64_t value, uint64_t n)
{
	vhub_count(&h->counts[vhub_hist_bucket(value)], n);
	vhub_count(&h->sum, value * n);
	/* Pairs with the loads of vhub_hist_merge(): whole values, no order. */
	if (unlikely(value > h->max))
		__atomic_store_n(&h->max, value, __ATOMIC_RELAXED);
}

static __rte_always_inline void
vhub_hist_add(struct vhub_hist *h, uint64_t value)
{
	vhub_hist_add_n(h, value, 1);
}

/** Forgets everything. Thread: the LCORE that fills it, or any while none does. */
VHUB_API void
vhub_hist_reset(struct vhub_hist *h);

/** Adds what is in `from`, which may be being filled, to `to`, which may not. Thread: ANY. */
VHUB_API void
vhub_hist_merge(struct vhub_hist *to, const struct vhub_hist *from);

/* What follows wants a histogram that nobody fills. Thread: ANY. */

VHUB_API uint64_t
vhub_hist_count(const struct vhub_hist *h);

/** 0 for an empty one. */
VHUB_API double
vhub_hist_mean(const struct vhub_hist *h);

/**
 * The value that `per_100000` of 100,000 values (50,000: the median) do not exceed, 0 for an
 * empty one; never more than the greatest.
 */
VHUB_API uint64_t
vhub_hist_percentile(const struct vhub_hist *h, unsigned int per_100000);

/**
 * How many values are in [2^(bits - 1), 2^bits), with `bits` up to VHUB_HIST_MAX_BITS (0: how many are 0). Those that
 * are greater are with those of the most bits.
 */
VHUB_API uint64_t
vhub_hist_count_of_bits(const struct vhub_hist *h, unsigned int bits);

#ifdef __cplusplus
}
#endif

#endif /* VHUB_HIST_H */
