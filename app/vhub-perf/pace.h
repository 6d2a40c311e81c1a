/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * When items of a run with --rate are due: at fixed intervals from the start, whatever the back end
 * does. A latency counts from the time an item was due, not from when it could be sent at last, so
 * a stall is felt by everything that should have been sent meanwhile (no coordinated omission), and
 * nothing that was due is left out. Used by the generators. Implemented in pace.c.
 *
 * Thread: the LCORE that owns it.
 */
#ifndef PERF_PACE_H
#define PERF_PACE_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_common.h>

struct pace {
	/* When the next item is due, and from it to the one after: cycles and 2^-32 of one. */
	uint64_t due_cycles;
	uint32_t due_fraction;
	uint32_t interval_fraction;
	uint64_t interval_cycles;
};

/*
 * `per_s` items a second from `start_cycles` on, per_s > 0. Several that share a rate are told
 * apart by `index` of `n`: each gets its part of the rate, the first items spread over one
 * interval.
 */
void
pace_start(struct pace *p, uint64_t start_cycles, uint64_t hz, uint64_t per_s, unsigned int index,
		unsigned int n);

static __rte_always_inline bool
pace_is_due(const struct pace *p, uint64_t now)
{
	return (int64_t)(now - p->due_cycles) >= 0;
}

/* The time at which the item was due that is taken hereby. */
static __rte_always_inline uint64_t
pace_take(struct pace *p)
{
	const uint64_t due = p->due_cycles;
	const uint64_t fraction = (uint64_t)p->due_fraction + p->interval_fraction;

	p->due_fraction = (uint32_t)fraction;
	p->due_cycles += p->interval_cycles + (fraction >> 32);
	return due;
}

#endif /* PERF_PACE_H */
