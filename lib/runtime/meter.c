/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Setting of limits on units in a second (vhub_meter.h). Called by blk/qos.c, net/limit.c and the bridge;
 * lcores meet the limit in the next turn.
 */
#include <rte_common.h>
#include <rte_cycles.h>

#include "vhub_meter.h"

/* No burst is longer, so that no sum of cycles comes near 64 bits. */
#define LONGEST_BURST_S 3600

void
vhub_meter_set(struct vhub_meter *m, uint64_t rate, uint64_t burst, uint64_t least)
{
	const uint64_t hz = rte_get_tsc_hz(), now = rte_rdtsc();
	unsigned __int128 one = ((unsigned __int128)hz << VHUB_METER_SHIFT) / rate;
	unsigned __int128 cycles = ((unsigned __int128)burst * hz) / rate;

	/* Nothing would be limited. */
	RTE_VERIFY(hz != 0);
	if (burst == 0)
		cycles = hz / 10;
	cycles = RTE_MIN(cycles, (unsigned __int128)hz * LONGEST_BURST_S);
	/* Or nothing would ever be due. */
	cycles = RTE_MAX(cycles, (one * least) >> VHUB_METER_SHIFT);
	__atomic_store_n(&m->cycles_per_unit, (uint64_t)one, __ATOMIC_RELAXED);
	__atomic_store_n(&m->burst_cycles, (uint64_t)cycles, __ATOMIC_RELAXED);
	/* What was owed under the former rate is forgotten. */
	__atomic_store_n(&m->next, now, __ATOMIC_RELAXED);
	__atomic_store_n(&m->moved_tsc, now, __ATOMIC_RELAXED);
}

void
vhub_meter_set_full(struct vhub_meter *m, uint64_t rate, uint64_t burst, uint64_t least)
{
	vhub_meter_set(m, rate, burst, least);
	__atomic_store_n(&m->next, 0, __ATOMIC_RELAXED);
}
