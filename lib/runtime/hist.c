/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A histogram of times (vhub_hist.h): merging and reading it. Called by lib/blk, vhubd's status_latency.c and
 * vhub-perf's report.c.
 */
#include <string.h>

#include "vhub_hist.h"

void
vhub_hist_reset(struct vhub_hist *h)
{
	/* Not memset(): whoever reads meanwhile sees whole values. */
	for (unsigned int i = 0; i < VHUB_HIST_BUCKETS; i++)
		__atomic_store_n(&h->counts[i], 0, __ATOMIC_RELAXED);
	__atomic_store_n(&h->sum, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&h->max, 0, __ATOMIC_RELAXED);
}

void
vhub_hist_merge(struct vhub_hist *to, const struct vhub_hist *from)
{
	const uint64_t max = __atomic_load_n(&from->max, __ATOMIC_RELAXED);

	for (unsigned int i = 0; i < VHUB_HIST_BUCKETS; i++)
		to->counts[i] += __atomic_load_n(&from->counts[i], __ATOMIC_RELAXED);
	to->sum += __atomic_load_n(&from->sum, __ATOMIC_RELAXED);
	to->max = RTE_MAX(to->max, max);
}

uint64_t
vhub_hist_count(const struct vhub_hist *h)
{
	uint64_t n = 0;

	for (unsigned int i = 0; i < VHUB_HIST_BUCKETS; i++)
		n += h->counts[i];
	return n;
}

double
vhub_hist_mean(const struct vhub_hist *h)
{
	const uint64_t n = vhub_hist_count(h);

	return n == 0 ? 0 : (double)h->sum / (double)n;
}

/* The middle of a bucket. */
static uint64_t
bucket_value(unsigned int bucket)
{
	const unsigned int shift = bucket < 2 * VHUB_HIST_SUB ? 0 :
								(bucket >> VHUB_HIST_SUB_BITS) - 1;
	const uint64_t first = (uint64_t)(bucket - (shift << VHUB_HIST_SUB_BITS)) << shift;

	return first + ((UINT64_C(1) << shift) >> 1);
}

uint64_t
vhub_hist_percentile(const struct vhub_hist *h, unsigned int per_100000)
{
	const uint64_t n = vhub_hist_count(h);
	/* The rank, rounded up, so that p100 is the last one; in parts, for n may be great. */
	const uint64_t rank = n / 100000 * per_100000 + (n % 100000 * per_100000 + 99999) / 100000;
	uint64_t seen = 0;

	for (unsigned int i = 0; n > 0 && i < VHUB_HIST_BUCKETS; i++) {
		seen += h->counts[i];
		if (seen >= rank && seen > 0)
			return RTE_MIN(bucket_value(i), h->max);
	}
	return 0;
}

uint64_t
vhub_hist_count_of_bits(const struct vhub_hist *h, unsigned int bits)
{
	const uint64_t end = UINT64_C(1) << bits;
	uint64_t n = 0;

	for (unsigned int i = vhub_hist_bucket(end >> 1); i <= vhub_hist_bucket(end - 1); i++)
		n += h->counts[i];
	return n;
}
