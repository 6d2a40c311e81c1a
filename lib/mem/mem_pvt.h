/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of lib/mem share: the registry of mappings that the SIGBUS handler searches
 * (registry.c), what one owner may take of it (share.c), and the steps of making a mapping that
 * tables reuse (map.c).
 */
#ifndef MEM_PVT_H
#define MEM_PVT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vhub_log.h"
#include "vhub_mem.h"

/* ---- registry.c ---- */

/**
 * Most mappings at once: half of what Linux gives a process (vm.max_map_count, 65530), so that
 * front ends with many regions cannot take the rest of vhub its share. The handler itself needs one
 * mapping to go on.
 */
#define MEM_MAX_SLOTS 32768u

/**
 * What one fault costs of a mapping, aligned to it; twice as much for each so many parts that were
 * replaced already in what is mapped now, and all of it at the end. With twice as many mappings for
 * parts, and MEM_MAX_SLOTS, there is room left in what Linux gives. Also twice as much for each so many
 * parts of the mapping itself, where the file has ended.
 */
#define MEM_PART_BYTES UINT64_C(0x200000)
#define MEM_PARTS_TO_DOUBLE 512u
#define MEM_OWN_PARTS_TO_DOUBLE 8u
#define MEM_PART_MAX_DOUBLINGS 26u /**< to 2^47, all that there can be */

/** Bits of a slot's `state`. */
#define MEM_SLOT_ZEROED 0x1u /**< the handler has put zero pages in the place of a part or all */
#define MEM_SLOT_UNTOLD 0x2u /**< and CTL has not looked yet whom to tell */
#define MEM_SLOT_GONE 0x4u /**< removed since, and waits only for that; under the registry's lock */

/** One mapping, as the handler sees it. Slots are never freed, only used again; all fields are shared atomics. */
struct mem_slot {
	uintptr_t start;  /**< 0: not live. Multiple of the mapping's page size, as is len_bytes */
	size_t len_bytes; /**< changes only while start is 0 and pins is 0 */
	struct vhub_mem_owner *owner; /**< NULL: nobody is told */
	uint32_t pins;	    /**< handlers at work on it: it may not be unmapped meanwhile */
	uint32_t state;	    /**< MEM_SLOT_* */
	uint32_t n_parts;   /**< that were replaced, each at least once */
	uint32_t next_free; /**< under the registry's lock */
};

/**
 * Takes a slot and address space for a mapping to come, within the share of `owner` (share.c); NULL
 * is bound by what is left only. Thread: any. Returns 0 or -ENOMEM, with a line in the log.
 */
int
mem_registry_reserve(size_t len_bytes, struct vhub_mem_owner *owner, uint32_t *slot);

/** Enters the mapping that was made; from now on a fault in it is guarded. Thread: any. */
void
mem_registry_enter(uint32_t slot, void *start);

/**
 * Takes a mapping, or what was only reserved, out, before it is unmapped. Waits for handlers at
 * work on it. Thread: WORK.
 */
void
mem_registry_remove(uint32_t slot);

/** Gives the address space back, once it is unmapped. Thread: any. */
void
mem_registry_give_back(size_t len_bytes);

/** True when the slot's mapping has not faulted and belongs to `owner`. Thread: WORK. */
bool
mem_registry_is_intact(uint32_t slot, const struct vhub_mem_owner *owner);

/** The live slot around `addr`, pinned, or NULL. Async-signal-safe. */
struct mem_slot *
mem_registry_pin(uintptr_t addr);

/** Ends a pin. Async-signal-safe. */
void
mem_registry_unpin(struct mem_slot *slot);

/** Counts a part of the pinned slot's mapping as replaced, until it is removed. Async-signal-safe. */
void
mem_registry_count_part(struct mem_slot *slot);

/** Parts that were replaced, of all mappings. Async-signal-safe. */
uint32_t
mem_registry_parts(void);

/** Sets `faulted` of the pinned slot's owner, if it has one still. Async-signal-safe. */
void
mem_registry_mark_owner(struct mem_slot *slot);

/**
 * Goes on from slot *next to a slot whose fault nobody was told of, and takes that mark off; *next is then the
 * one after it. Thread: CTL. Returns false at the end; *owner may be NULL.
 */
bool
mem_registry_next_untold(uint32_t *next, struct vhub_mem_owner **owner);

/* ---- share.c ---- */

/**
 * Address space that all front ends' mappings together may take: what x86-64 gives a process
 * without a fifth level of page tables, but for 2 TiB that stay for the rest of vhub.
 */
#define MEM_SPACE_BYTES ((UINT64_C(1) << 47) - (UINT64_C(1) << 41))

/** Mappings that an owner may have while there are as many: a whole table, a log, inflight. */
#define MEM_LEAST_MAPS (VHUB_MAX_MEM_SLOTS + 2u)

/**
 * How much one owner may have at once, of `all`, of which `others` have what they have: a quarter
 * of the rest, at least `least`, at most the rest.
 */
uint64_t
mem_share(uint64_t all, uint64_t others, uint64_t least);

/** One for each thing that is logged; zero but for the lock. */
struct mem_log_limit {
	pthread_mutex_t lock;
	struct vhub_log_limit limit;
};

/** vhub_log_allowed() for several threads. Thread: any but lcores. */
bool
mem_log_allowed(struct mem_log_limit *limit);

/** Tell why an owner gets no more. Thread: any but lcores. */
void
mem_share_log_bytes(uint64_t more_bytes, uint64_t own_bytes, uint64_t share_bytes);
void
mem_share_log_maps(uint64_t own_maps, uint64_t share_maps);

/* ---- map.c ---- */

/** What mem_file_probe() learns of a file. */
struct mem_file {
	uint64_t dev;
	uint64_t ino;
	uint64_t page_bytes; /**< mappings start and end at multiples of it */
	bool allocated;	     /**< it has no holes */
};

/** Checks that [offset, offset + size) of `fd` may be mapped; errors as vhub_mem_map_create(). Thread: WORK. */
int
mem_file_probe(int fd, uint64_t offset_bytes, uint64_t size_bytes, struct mem_file *out);

/**
 * Maps what mem_file_probe() has found good. Thread: WORK. Returns 0, -ENOMEM (also: the owner has
 * his share), or the errno of mmap(2).
 */
int
mem_map_file(int fd, const struct mem_file *file, uint64_t offset_bytes, uint64_t size_bytes,
		struct vhub_mem_owner *owner, struct vhub_mem_map **out, void **hva);

/**
 * Takes the pages out of a mapping, after which it is unmapped in no time. In parts: the kernel holds
 * a lock of the whole address space over each, and other threads that map or unmap something wait for
 * it. What it refuses, as half a huge page, is few pages. Thread: WORK.
 */
void
mem_empty(void *base, size_t len_bytes);

/** True when a later table of `owner` may go on with this mapping. Thread: WORK. */
bool
mem_map_is_intact(const struct vhub_mem_map *map, const struct vhub_mem_owner *owner);

#endif /* MEM_PVT_H */
