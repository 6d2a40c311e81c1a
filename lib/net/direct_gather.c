/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Taking packets in large bursts under load. A guest that fills a ring while we empty it shares every
 * line of it with us, and taking early slows both down. So under load a turn leaves the ring alone
 * until two bursts wait, for some microseconds at most. Called by direct_from.c, next on the way.
 *
 * Load is a rate, not what a turn finds: whoever takes early finds little. Below it nothing waits.
 */
#include <rte_cycles.h>

#include "direct.h"

/*
 * Load: so many packets come in a microsecond. Then so many are waited for, and no longer than this.
 * Against taking what is there, 64 frames of 64 bytes at once bring 3 to 20 %, 128 another 1 to 16 %,
 * and more than that nothing. Bursts are no longer for it: a turn takes two, one after the other, or
 * the next turn the other.
 */
#define LOAD_PER_US 4u
#define LOAD_PACKETS (2u * VHUB_NET_BURST)
#define LOAD_LONGEST_US 24u

/*
 * A guest that has fewer packets than that, and sends no other before it has these back, would be made
 * slow. If two waits in a row are over before there was enough, as many as were there are enough from
 * then on, or nothing is waited for at all if that was less than LEAST_PACKETS. Every so many windows
 * more is tried again.
 */
#define LEAST_PACKETS 32u
#define TRY_WINDOWS 64u
#define TRY_PACKETS 32u

/* The rate is looked at so often. */
#define WINDOW_US 64

void
direct_gather_begin(struct net_pair *pair)
{
	memset(&pair->gather, 0, sizeof(pair->gather));
	pair->gather.cycles_per_us = rte_get_tsc_hz() / 1000000;
	pair->gather.since_tsc = rte_rdtsc();
	pair->gather.enough = LOAD_PACKETS;
}

bool
direct_is_gathering(struct net_pair *pair)
{
	const uint64_t longest = LOAD_LONGEST_US * pair->gather.cycles_per_us;
	const uint16_t want = pair->gather.want;
	uint64_t now;

	if (want == 0)
		return false;
	if (pair->gather.bursts_due != 0) {
		pair->gather.bursts_due--;
		return false;
	}
	if (vhub_virtq_has_waiting(pair->from_ring->vq, want)) {
		pair->gather.bursts_due = (want - 1u) / VHUB_NET_BURST;
		pair->gather.missed = 0;
		return false;
	}
	now = rte_rdtsc();
	if (!pair->gather.waiting) {
		pair->gather.waiting = true;
		pair->gather.until_tsc = now + longest;
	}
	if (vhub_tsc_is_ahead(pair->gather.until_tsc, now, longest))
		return true;
	/* All that is there. */
	pair->gather.over = true;
	pair->gather.bursts_due = (want - 1u) / VHUB_NET_BURST;
	return false;
}

/* A wait was over before there was enough: these were there. */
static void
has_missed(struct net_pair *pair, uint16_t n)
{
	const uint16_t most = RTE_MAX(n, pair->gather.missed);

	pair->gather.over = false;
	pair->gather.bursts_due = 0;
	if (pair->gather.missed != 0) {
		pair->gather.enough = most;
		pair->gather.windows = 0;
		pair->gather.want = most < LEAST_PACKETS ? 0 : RTE_MIN(most, pair->gather.want);
	}
	pair->gather.missed = RTE_MAX(n, 1u);
}

/*
 * What is waited for after a window. Of a rate that has been as high already a little less is enough. A
 * ring that is short has no whole burst, and its guest needs the rest of it meanwhile.
 */
static uint16_t
want_of(struct net_pair *pair, uint64_t window_tsc)
{
	const uint64_t load = LOAD_PER_US * (pair->gather.want != 0 ? 3 : 4);

	if (++pair->gather.windows >= TRY_WINDOWS) {
		pair->gather.enough = RTE_MIN(pair->gather.enough + TRY_PACKETS, LOAD_PACKETS);
		pair->gather.windows = 0;
	}
	if (4 * pair->gather.packets * pair->gather.cycles_per_us < load * window_tsc ||
			pair->gather.enough < LEAST_PACKETS)
		return 0;
	return (uint16_t)RTE_MIN(pair->gather.enough, vhub_virtq_size(pair->from_ring->vq) / 4u);
}

void
direct_has_taken(struct net_pair *pair, uint16_t n)
{
	const uint64_t now = rte_rdtsc(), window = now - pair->gather.since_tsc;

	if (unlikely(pair->gather.over))
		has_missed(pair, n);
	pair->gather.waiting = false;
	pair->gather.packets += n;
	if (likely(window < WINDOW_US * pair->gather.cycles_per_us))
		return;
	/* A window that was long because nothing came is none of load. */
	if (window > 2 * WINDOW_US * pair->gather.cycles_per_us)
		pair->gather.packets = 0;
	pair->gather.want = want_of(pair, window);
	pair->gather.since_tsc = now;
	pair->gather.packets = 0;
}
