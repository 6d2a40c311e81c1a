/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A histogram of times (hist.h): merging and reading it. Called by report.c.
 */
#include <string.h>

#include "hist.h"

void
hist_reset(struct hist *h)
{
	/* Not memset(): whoever reads meanwhile sees whole values. */
	for (unsigned int i = 0; i < HIST_BUCKETS; i++)
		__atomic_store_n(&h->counts[i], 0, __ATOMIC_RELAXED);
	__atomic_store_n(&h->sum, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&h->max, 0, __ATOMIC_RELAXED);
}

void
hist_merge(struct hist *to, const struct hist *from)
{
	const uint64_t max = __atomic_load_n(&from->max, __ATOMIC_RELAXED);

	for (unsigned int i = 0; i < HIST_BUCKETS; i++)
		to->counts[i] += __atomic_load_n(&from->counts[i], __ATOMIC_RELAXED);
	to->sum += __atomic_load_n(&from->sum, __ATOMIC_RELAXED);
	to->max = RTE_MAX(to->max, max);
}

uint64_t
hist_count(const struct hist *h)
{
	uint64_t n = 0;

	for (unsigned int i = 0; i < HIST_BUCKETS; i++)
		n += h->counts[i];
	return n;
}

double
hist_mean(const struct hist *h)
{
	const uint64_t n = hist_count(h);

	return n == 0 ? 0 : (double)h->sum / (double)n;
}

/* The middle of a bucket. */
static uint64_t
bucket_value(unsigned int bucket)
{
	const unsigned int shift = bucket < 2 * HIST_SUB ? 0 : (bucket >> HIST_SUB_BITS) - 1;
	const uint64_t first = (uint64_t)(bucket - (shift << HIST_SUB_BITS)) << shift;

	return first + ((UINT64_C(1) << shift) >> 1);
}

uint64_t
hist_percentile(const struct hist *h, unsigned int per_100000)
{
	const uint64_t n = hist_count(h);
	/* The rank, rounded up, so that p100 is the last one; in parts, for n may be great. */
	const uint64_t rank = n / 100000 * per_100000 + (n % 100000 * per_100000 + 99999) / 100000;
	uint64_t seen = 0;

	for (unsigned int i = 0; n > 0 && i < HIST_BUCKETS; i++) {
		seen += h->counts[i];
		if (seen >= rank && seen > 0)
			return RTE_MIN(bucket_value(i), h->max);
	}
	return 0;
}
