/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * When items are due (pace.h): the interval. Called by the generators.
 */
#include "pace.h"

void
pace_start(struct pace *p, uint64_t start_cycles, uint64_t hz, uint64_t per_s, unsigned int index,
		unsigned int n)
{
	/* hz * n / per_s cycles, in 2^-32 of one. */
	const unsigned __int128 interval = ((unsigned __int128)hz * n << 32) / per_s;
	const unsigned __int128 offset = interval / n * index;

	p->interval_cycles = (uint64_t)(interval >> 32);
	p->interval_fraction = (uint32_t)interval;
	p->due_cycles = start_cycles + (uint64_t)(offset >> 32);
	p->due_fraction = (uint32_t)offset;
}
