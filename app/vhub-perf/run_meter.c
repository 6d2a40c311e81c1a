/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Pauses of an lcore (run.h): turns of its loop that took longer than what was done in them can
 * have taken, for somebody else had the CPU: another task, an interrupt, or the host. Called by the
 * lcores' loops; next: report.c.
 */
#include <rte_cycles.h>

#include "run.h"

/* The shortest pause, and what an item and a byte of it may take, with all their cache misses. */
#define PAUSE_NS 20000u
#define ITEM_NS 1000u
#define BYTE_NS 1u

static uint64_t
in_cycles(uint64_t ns)
{
	return (uint64_t)((double)ns * (double)rte_get_tsc_hz() / 1e9);
}

void
run_meter_init(struct run_meter *m, struct report_lcore *lcore, uint64_t item_bytes)
{
	*m = (struct run_meter){
		.lcore = lcore,
		.turn_cycles = rte_rdtsc(),
		.pause_cycles = in_cycles(PAUSE_NS),
		.still_cycles = rte_get_tsc_hz() / 1000 * RUN_STILL_MS,
		.item_cycles = in_cycles(ITEM_NS + item_bytes * BYTE_NS),
	};
}

void
run_meter_long_turn(struct run_meter *m, uint64_t cycles, unsigned int n)
{
	struct report_lcore *l = m->lcore;

	if (!m->measuring || cycles <= m->pause_cycles + n * m->item_cycles)
		return;
	vhub_count(&l->pauses, 1);
	vhub_count(&l->pause_cycles, cycles);
	if (cycles > m->still_cycles)
		vhub_count(&l->still_cycles, cycles - m->still_cycles);
	/* Pairs with the load of report.c: a whole value, no order. */
	if (cycles > l->longest_pause_cycles)
		__atomic_store_n(&l->longest_pause_cycles, cycles, __ATOMIC_RELAXED);
}
