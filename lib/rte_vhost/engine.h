/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * DMA engines (DPDK's dmadev) that paths share: who has which, and what an engine does not do. engine.c.
 */
#ifndef RVHOST_ENGINE_H
#define RVHOST_ENGINE_H

#include <stddef.h>
#include <stdint.h>

/** The only one that we set up. Any number of rings share it: the library has a lock for it. */
#define RVHOST_ENGINE_CHANNEL 0

/** For so long an engine may have copies under way and end none, while somebody waits for them. */
#define RVHOST_ENGINE_PATIENCE_SECONDS 2

/** A DMA engine; all paths that name it share it. */
struct rvhost_dma;

/**
 * The engine with this name, set up by who asks first. Thread: CTL or WORK. Returns 0, -ENOMEM, or
 * -errno with a sentence in `error`: -ENODEV, -ENOTSUP, what the engine's driver says.
 */
int
rvhost_dma_get(const char *name, struct rvhost_dma **out, char *error, size_t error_len);

/**
 * No copy of the caller's is under way. The last one stops the engine, and gives it back to EAL as it was.
 * NULL is fine. Thread: CTL or WORK. May block: the engine's driver may.
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
