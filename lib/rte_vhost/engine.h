/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * DMA engines (DPDK's dmadev) that paths share: who has which, and what an engine does not do. engine.c.
 */
#ifndef RVHOST_ENGINE_H
#define RVHOST_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rte_common.h>
#include <rte_cycles.h>

/** The only one that we set up. Any number of rings share it: the library has a lock for it. */
#define RVHOST_ENGINE_CHANNEL 0

/** For so long an engine may have copies under way and end none, while somebody waits for them. */
#define RVHOST_ENGINE_PATIENCE_SECONDS 2

/**
 * How long somebody has waited, 10 ms a look at most: we may have been stopped ourselves, and the engine's
 * thread with us. Thread: whoever looks.
 */
struct rvhost_patience {
	uint64_t looked_tsc;
	uint64_t waited_cycles;
};

static inline void
rvhost_patience_begin(struct rvhost_patience *p)
{
	p->looked_tsc = rte_rdtsc();
	p->waited_cycles = 0;
}

/** A look without success. Returns whether it was longer than that. */
static inline bool
rvhost_patience_is_over(struct rvhost_patience *p, unsigned int seconds)
{
	const uint64_t now = rte_rdtsc(), hz = rte_get_tsc_hz();

	p->waited_cycles += RTE_MIN(now - p->looked_tsc, hz / 100);
	p->looked_tsc = now;
	return p->waited_cycles > seconds * hz;
}

/** A DMA engine; all paths that name it share it. */
struct rvhost_dma;

/**
 * The engine with this name, set up by who asks first. Thread: CTL or WORK. Returns 0, -ENOMEM, or
 * -errno with a sentence in `error`: -ENODEV, -ENOTSUP, what the engine's driver says.
 */
int
rvhost_dma_get(const char *name, struct rvhost_dma **out, char *error, size_t error_len);

/**
 * No copy of the caller's is under way, but for those that it has given up (abandoned, in rvhost.h): nobody asks
 * for them any more, and where the engine may write to stays. The last one stops the engine, if its driver can,
 * and gives it back to EAL as it was; while it cannot be stopped, rvhost_dma_get() fails for it. NULL is fine.
 * Thread: CTL or WORK. May block: the engine's driver may.
 */
void
rvhost_dma_put(struct rvhost_dma *dma);

/** Its number among DPDK's dmadevs, and its name. Thread: ANY. */
int16_t
rvhost_dma_id(const struct rvhost_dma *dma);
const char *
rvhost_dma_name(const struct rvhost_dma *dma);

/** Copies of all ports that the engine has not made, and lcores have. Thread: ANY. */
uint64_t
rvhost_dma_failed(const struct rvhost_dma *dma);

#endif /* RVHOST_ENGINE_H */
