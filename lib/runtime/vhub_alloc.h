/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory of the control path that lcores will use, on a NUMA node, through libnuma: rings' request
 * arrays, disks in memory. EAL's heap is preallocated and small, so large things do not live there.
 */
#ifndef VHUB_ALLOC_H
#define VHUB_ALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vhub_common.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * NUMA node that holds the page at `addr`, or -1 where it cannot be told. Thread: CTL or WORK;
 * faults the page in.
 */
VHUB_API int
vhub_numa_node_of(const void *addr);

/**
 * Zeroed memory, cache-line aligned, on `node` (-1: the calling thread's choice). Thread: CTL or
 * WORK. Does not wait for pages: they come with the first touch. Returns NULL when there is none. It is
 * the caller's, to be freed with vhub_free() and the same size.
 */
VHUB_API void *
vhub_zalloc_node(size_t size_bytes, int node);

/** Gives it back; NULL is fine. Thread: ANY; a large area takes its time, for each page is given back. */
VHUB_API void
vhub_free(void *ptr, size_t size_bytes);

/**
 * The same for large areas: hugetlb pages where enough are free (`*huge` tells whether all of it has, NULL is
 * fine), those of 1 GB for what is as large, of 2 MB for the rest; transparent huge pages otherwise, as far as
 * vhub_memory_room() goes. Pages are populated, so that the fast path takes no fault and "out of memory" is
 * told here. Thread: CTL before it serves, or WORK; blocks, up to seconds for a GB.
 * Returns NULL when there is none. Free with vhub_free_huge() and the same size.
 */
VHUB_API void *
vhub_zalloc_huge(size_t size_bytes, int node, bool *huge);

/**
 * The same in steps, for an area that grows in place while others use it: takes addresses only. Thread: CTL
 * or WORK. Returns NULL when there are none. Free all of it with vhub_free_huge() and the reserved size.
 */
VHUB_API void *
vhub_huge_reserve(size_t reserve_bytes);

/** Rounded up to a huge page, whichever pages there are; 0: too much. Thread: ANY. */
VHUB_API size_t
vhub_huge_round(size_t bytes);

/**
 * Has memory in [from_bytes, to_bytes) of the area, both multiples of what vhub_huge_round() rounds up to,
 * where there was none. Thread and `huge` as of vhub_zalloc_huge(). Returns 0 or -ENOMEM, and then the area
 * is as before.
 */
VHUB_API int
vhub_huge_extend(void *area, size_t from_bytes, size_t to_bytes, int node, bool *huge);

/**
 * So many bytes can be had in small pages without the kernel having to end a process, or to hold this one up: of the
 * host and of the memory control groups; UINT64_MAX where nobody tells. Thread: CTL before it serves, or WORK.
 */
VHUB_API uint64_t
vhub_memory_room(void);

/** Gives all of an area back; NULL is fine. Thread: as vhub_zalloc_huge(). */
VHUB_API void
vhub_free_huge(void *ptr, size_t size_bytes);

#ifdef __cplusplus
}
#endif

#endif /* VHUB_ALLOC_H */
