/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A limit on units in a second, as a schedule: `next` is when the next unit is due. It may be as far
 * behind the present as there is a burst, and is moved ahead by what each unit takes. No bucket has to be
 * filled and nobody owns the limit: any number of lcores share it by moving one number ahead. (rte_meter
 * keeps a bucket, which is one lcore's.) All of it shared atomics in TSC cycles; who sets it writes all but
 * `next` and `moved_tsc`, which every lcore does.
 *
 * Used by blk/qos.c for disks, net/limit.c for ports and the bridge for what they flood.
 */
#ifndef VHUB_METER_H
#define VHUB_METER_H

#include <stdbool.h>
#include <stdint.h>

#include "vhub_common.h"

#ifdef __cplusplus
extern "C" {
#endif

struct vhub_meter {
	uint64_t cycles_per_unit; /**< times 2^VHUB_METER_SHIFT */
	uint64_t burst_cycles;
	uint64_t next;
	uint64_t moved_tsc; /**< when `next` was moved last */
};
#define VHUB_METER_SHIFT 20
/** An lcore that has read the clock may lose its CPU for so long before it uses it: a second or two. */
#define VHUB_METER_LATE_CYCLES (INT64_C(1) << 32)

/**
 * Lets `rate` units pass in a second, not 0, and `burst` at once after a pause (0: those of a tenth of a
 * second), but no less than `least`, which is not 0. What was owed before is forgotten. Thread: CTL or WORK, one
 * at a time, with EAL up: nobody knows the TSC's rate before.
 */
VHUB_API void
vhub_meter_set(struct vhub_meter *m, uint64_t rate, uint64_t burst, uint64_t least);

/** The same, and all of the burst may come at once from now on. */
VHUB_API void
vhub_meter_set_full(struct vhub_meter *m, uint64_t rate, uint64_t burst, uint64_t least);

/** Cycles that so many units take. Thread: ANY. */
static inline uint64_t
vhub_meter_cost(const struct vhub_meter *m, uint64_t units)
{
	uint64_t one = __atomic_load_n(&m->cycles_per_unit, __ATOMIC_RELAXED);

	return (uint64_t)(((unsigned __int128)one * units) >> VHUB_METER_SHIFT);
}

/**
 * When the next unit is due, where `next` was loaded from the meter: no earlier than a burst ago. A TSC may go
 * back while the host is suspended, and a schedule of before could be days ahead: it is begun anew. Thread: ANY.
 */
static inline uint64_t
vhub_meter_due(const struct vhub_meter *m, uint64_t next, uint64_t now)
{
	uint64_t burst = __atomic_load_n(&m->burst_cycles, __ATOMIC_RELAXED);
	uint64_t moved = __atomic_load_n(&m->moved_tsc, __ATOMIC_RELAXED);
	uint64_t earliest = now > burst ? now - burst : 0;

	if (__builtin_expect((int64_t)(moved - now) > VHUB_METER_LATE_CYCLES, 0))
		return earliest;
	/* Signed: what was given back may have been paid to a schedule that was begun anew meanwhile. */
	return (int64_t)(next - earliest) > 0 ? next : earliest;
}

/**
 * Moves the schedule from *old to `next`. False: another lcore was faster, and *old is what it has now.
 * Only the numbers count, no other memory is published by them, and they need not come together. Thread: LCORE.
 */
static inline bool
vhub_meter_move(struct vhub_meter *m, uint64_t *old, uint64_t next, uint64_t now)
{
	if (!__atomic_compare_exchange_n(&m->next, old, next, true, __ATOMIC_RELAXED,
			    __ATOMIC_RELAXED))
		return false;
	__atomic_store_n(&m->moved_tsc, now, __ATOMIC_RELAXED);
	return true;
}

/** Takes `units`, all or none: false, they are not due. Thread: LCORE. */
static inline bool
vhub_meter_take(struct vhub_meter *m, uint64_t units, uint64_t now)
{
	uint64_t old = __atomic_load_n(&m->next, __ATOMIC_RELAXED), next;

	do {
		next = vhub_meter_due(m, old, now) + vhub_meter_cost(m, units);
		if (next > now)
			return false;
	} while (!vhub_meter_move(m, &old, next, now));
	return true;
}

/**
 * Takes back what was paid for units that were not used: no more of them than the caller has paid for, or the
 * schedule would go back without bound. Thread: LCORE.
 */
static inline void
vhub_meter_give_back(struct vhub_meter *m, uint64_t units)
{
	__atomic_fetch_sub(&m->next, vhub_meter_cost(m, units), __ATOMIC_RELAXED);
}

#ifdef __cplusplus
}
#endif

#endif /* VHUB_METER_H */
