/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What one front end may take of things that there are once for all: address space and mappings. A
 * sparse file costs its owner nothing, so without a bound one front end maps until nobody else can.
 * registry.c counts and asks here; a refusal is told to the front end by lib/device.
 *
 * A quarter of what others have left: the first one gets more than any guest has, and however many
 * are greedy, three quarters of what was there before each are there after it.
 */
#include "mem_pvt.h"

#include <inttypes.h>

VHUB_LOGTYPE(mem);

uint64_t
mem_share(uint64_t all, uint64_t others, uint64_t least)
{
	uint64_t left = all - others;

	return RTE_MIN(RTE_MAX(left / 4, least), left);
}

bool
mem_log_allowed(struct mem_log_limit *limit)
{
	bool allowed;

	pthread_mutex_lock(&limit->lock);
	allowed = vhub_log_allowed(&limit->limit);
	pthread_mutex_unlock(&limit->lock);
	return allowed;
}

void
mem_share_log_bytes(uint64_t more_bytes, uint64_t own_bytes, uint64_t share_bytes)
{
	static struct mem_log_limit limit = { .lock = PTHREAD_MUTEX_INITIALIZER };

	if (mem_log_allowed(&limit))
		VHUB_LOG(WARNING,
				"a front end may not map %" PRIu64 " bytes more: it has %" PRIu64
				", and its share is %" PRIu64
				", a quarter of the address space that others leave",
				more_bytes, own_bytes, share_bytes);
}

void
mem_share_log_maps(uint64_t own_maps, uint64_t share_maps)
{
	static struct mem_log_limit limit = { .lock = PTHREAD_MUTEX_INITIALIZER };

	if (mem_log_allowed(&limit))
		VHUB_LOG(WARNING,
				"a front end may not map another region: it has %" PRIu64
				" mappings, and its share of those that others leave is %" PRIu64,
				own_maps, share_maps);
}
