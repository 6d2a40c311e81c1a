/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest's memory for the driver suite: buffers of I/Os come from one table of a region of 64 MiB, so
 * that drivers which make something of such a table (blk/vhub_blk.h, `memory`) meet it.
 */
#ifndef DRIVER_ARENA_H
#define DRIVER_ARENA_H

#include <stddef.h>

#include "vhub_mem.h"

/* Made with the first call, and kept. */
struct vhub_mem_table *
driver_arena_table(void);

/* Whole pages; of other memory when there is no room. */
void *
driver_arena_get(size_t bytes);
void
driver_arena_put(void *area);

#endif /* DRIVER_ARENA_H */
