/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Taking packets in large bursts under load. A guest that fills a ring while we empty it shares every
 * line of it with us, and taking early slows both down. So under load a turn leaves the ring alone
 * until a whole burst waits, or several, for some microseconds at most. Called by direct_from.c, next on
 * the way.
 *
 * Load is a rate, not what a turn finds: whoever takes early finds little. Below it nothing waits.
 */
#include <rte_cycles.h>

#include "direct.h"

/* How long a ring is left alone. The higher the rate, the more comes in that time. */
struct net_gather_level {
	uint16_t per_us;     /* packets that come, or a little less once it is so */
	uint16_t packets;    /* that are waited for */
	uint16_t longest_us; /* a packet is delayed by no more than this */
};

/*
 * Frames of 64 bytes, against taking what is there: 64 at once bring 3 to 8 %; in a packed ring, which
 * brings more of them in that time, 128 bring another 8 to 16 %, and more than that nothing. Bursts
 * are no longer for it: a turn takes two, one after the other, or the next turn the other.
 */
static const struct net_gather_level levels[] = {
	{ .per_us = 16, .packets = 2 * VHUB_NET_BURST, .longest_us = 8 },
	{ .per_us = 4, .packets = VHUB_NET_BURST, .longest_us = 4 },
};

/* The rate is looked at so often. */
#define WINDOW_US 64

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
		return false;
	}
	now = rte_rdtsc();
	if (!pair->gather.waiting) {
		pair->gather.waiting = true;
		pair->gather.until_tsc = now +
				pair->gather.level->longest_us * pair->gather.cycles_per_us;
	}
	return (int64_t)(now - pair->gather.until_tsc) < 0;
}

/* Of a rate that has been as high already a little less is enough. NULL: nothing is waited for. */
static const struct net_gather_level *
level_of(const struct net_gather_level *before, uint64_t packets)
{
	const struct net_gather_level *level = levels;

	for (; level != levels + RTE_DIM(levels); level++) {
		const bool was = before != NULL && before <= level;
		const uint64_t enough = (uint64_t)level->per_us * WINDOW_US;

		if (packets >= (was ? enough * 3 / 4 : enough))
			return level;
	}
	return NULL;
}

/* A ring that is short has no whole burst, and its guest needs the rest of it meanwhile. */
static uint16_t
want_of(const struct net_pair *pair, const struct net_gather_level *level)
{
	if (level == NULL)
		return 0;
	return RTE_MIN(level->packets, vhub_virtq_size(pair->from_ring->vq) / 4);
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
	pair->gather.level = level_of(pair->gather.level, pair->gather.packets);
	pair->gather.want = want_of(pair, pair->gather.level);
	pair->gather.since_tsc = now;
	pair->gather.packets = 0;
}
