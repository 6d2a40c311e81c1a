/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guest memory of a front end: one memfd, hugepages if enough are free, mapped here and handed to
 * the back end as one region. Rings, headers and data are cut from it in order and never given
 * back. Implemented in memory.c; used by ring.c, the generators and frontend.c, which sends the fd.
 */
#ifndef PERF_MEMORY_H
#define PERF_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

/* Where the guest has it: not 0, so that an address nobody has set is found out. */
#define MEMORY_GPA UINT64_C(0x100000000)

struct perf_memory {
	int fd;
	uint8_t *hva;
	uint64_t size_bytes;
	uint64_t used_bytes;
	bool hugepages;
};

/*
 * At least `bytes`, zeroed and present, sealed against shrinking and growing. Ordinary pages when
 * `hugepages` is false or too few are free; mem->hugepages tells. Thread: main; may block. Returns
 * 0 or -errno (-ENOMEM, -EMFILE), having told why.
 */
int
memory_create(uint64_t bytes, bool hugepages, struct perf_memory *mem);

/* Unmaps and closes; one that is zeroed or destroyed already is fine. */
void
memory_destroy(struct perf_memory *mem);

/* `align` is a power of two. NULL when there is no room. Thread: main. */
void *
memory_alloc(struct perf_memory *mem, uint64_t bytes, uint64_t align);

/* The guest physical address of a pointer into it. */
static inline uint64_t
memory_gpa(const struct perf_memory *mem, const void *hva)
{
	return MEMORY_GPA + (uint64_t)((const uint8_t *)hva - mem->hva);
}

#endif /* PERF_MEMORY_H */
