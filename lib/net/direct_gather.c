/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Taking packets in large bursts under load. A guest that fills a ring while we empty it shares every
 * line of it with us, and taking early slows both down. So under load a turn leaves the ring alone
 * until a whole burst waits, for some microseconds at most. Called by direct_from.c, next on the way.
 *
 * Load is a rate, not what a turn finds: whoever takes early finds little. Below it nothing waits.
 */
#include <rte_cycles.h>

#include "direct.h"

/* A packet is delayed by no more than this. */
#define LONGEST_WAIT_US 4
/* What comes in such a time makes a burst worth waiting for; a little less does not end it. */
#define LOAD_PACKETS (VHUB_NET_BURST / 4)
#define STILL_LOAD_PACKETS (LOAD_PACKETS * 3 / 4)
/* The rate is looked at so often. */
#define WINDOW_US (16 * LONGEST_WAIT_US)
#define WINDOW_LOAD (LOAD_PACKETS * WINDOW_US / LONGEST_WAIT_US)
#define WINDOW_STILL_LOAD (STILL_LOAD_PACKETS * WINDOW_US / LONGEST_WAIT_US)

void
direct_gather_begin(struct net_pair *pair)
{
	memset(&pair->gather, 0, sizeof(pair->gather));
	pair->gather.cycles_per_us = rte_get_tsc_hz() / 1000000;
	pair->gather.since_tsc = rte_rdtsc();
}

bool
direct_is_gathering(struct net_pair *pair)
{
	uint64_t now;

	if (pair->gather.want == 0 ||
			vhub_virtq_has_waiting(pair->from_ring->vq, pair->gather.want))
		return false;
	now = rte_rdtsc();
	if (!pair->gather.waiting) {
		pair->gather.waiting = true;
		pair->gather.until_tsc = now + LONGEST_WAIT_US * pair->gather.cycles_per_us;
	}
	return (int64_t)(now - pair->gather.until_tsc) < 0;
}

/* A ring that is short has no whole burst, and its guest needs the rest of it meanwhile. */
static uint16_t
most_to_wait_for(const struct net_pair *pair)
{
	return RTE_MIN((uint16_t)VHUB_NET_BURST, vhub_virtq_size(pair->from_ring->vq) / 4);
}

void
direct_has_taken(struct net_pair *pair, uint16_t n)
{
	const uint64_t now = rte_rdtsc(), window = now - pair->gather.since_tsc;

	pair->gather.waiting = false;
	pair->gather.packets += n;
	if (likely(window < WINDOW_US * pair->gather.cycles_per_us))
		return;
	/* A window that was long because nothing came is none of load. */
	if (window > 2 * WINDOW_US * pair->gather.cycles_per_us)
		pair->gather.packets = 0;
	if (pair->gather.packets >= WINDOW_LOAD)
		pair->gather.want = most_to_wait_for(pair);
	else if (pair->gather.packets < WINDOW_STILL_LOAD)
		pair->gather.want = 0;
	pair->gather.since_tsc = now;
	pair->gather.packets = 0;
}
