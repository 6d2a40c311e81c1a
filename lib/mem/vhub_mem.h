/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guest memory: mappings of what a front end gave us, the table that translates guest addresses,
 * the dirty log, and the guard against memory that is truncated under us.
 *
 * Ownership: a mapping (struct vhub_mem_map) is reference-counted and shared by successive tables
 * that contain the same region. A table never changes once it is built; a change builds a new one.
 * Whoever uses a table holds a reference: the session, and each started vring (so that in-flight
 * I/O keeps its memory). The last reference to a mapping unmaps it on the blocking-work thread.
 *
 * A table pointer read by lcores that hold no reference (a packet copied into another session's
 * guest) is protected by quiescence: swap the pointer, vhub_quiesce_begin(), then put the old
 * table.
 */
#ifndef VHUB_MEM_H
#define VHUB_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rte_branch_prediction.h>

#include "vhub_common.h"
#include "vhub_loop.h"
#include "vhub_user.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What an access wants; a vIOMMU will check it behind the same calls. */
#define VHUB_MEM_READ 0x1u
#define VHUB_MEM_WRITE 0x2u

/* Bits of struct vhub_mem_owner's `faulted`. */
#define VHUB_MEM_FAULTED \
	0x1u /**< the signal handler: memory of this owner is being replaced or was */
#define VHUB_MEM_FAULT_TOLD 0x2u /**< CTL: `broken` was called */

/**
 * Who is told when memory of his faults: embedded in a session, zeroed but for `broken`. `broken`
 * runs on CTL, once for each owner, after a part of a mapping was replaced by private zero pages; it
 * may detach and free the owner. Other parts follow as they are touched, soon larger ones. Until the session has
 * ended lcores read zeros there, and write for nobody: they give nothing more back to the guest
 * (vhub_virtq_push()).
 */
struct vhub_mem_owner {
	void (*broken)(struct vhub_mem_owner *owner);
	/**
	 * Shared atomic. Not 0 from before the first zero page can be seen: who has read guest memory
	 * and then, after an acquire fence, sees 0 here has read what the guest wrote.
	 */
	uint32_t faulted;
	/* What he has mapped now; lib/mem's, under a lock of its own. */
	uint32_t n_maps;
	uint64_t mapped_bytes;
};

/**
 * Ends the owner's part in every mapping that it was given to: `broken` will not be called any
 * more, and the owner may be freed, though mappings may live on (in-flight I/O holds them). They
 * stay guarded, and count as everybody's. No work that maps for this owner may be under way on
 * WORK. Thread: CTL. Does not block, but for a handler's few instructions.
 */
VHUB_API void
vhub_mem_owner_detach(struct vhub_mem_owner *owner);

/** One mmap of a front end's fd. Opaque. */
struct vhub_mem_map;

/**
 * Maps [offset, offset + size) of `fd`, shared, readable and writable, left out of core dumps.
 * Checks for overflow and against the file's real size first; offsets need not be aligned
 * (hugetlbfs: the mapping is widened to its page size). `fd` stays the caller's; `owner` may be
 * NULL. The returned reference is the caller's; *hva is the address of `offset`.
 *
 * The file must lie in memory (memfd, tmpfs, hugetlbfs). Elsewhere each access of ours can wait:
 * for a disk, and on FUSE and network file systems for ever, as whoever serves them likes.
 *
 * An owner may have a quarter of the address space that all others leave, and a quarter of the
 * mappings (of 32767; never fewer than VHUB_MAX_MEM_SLOTS + 2 while there are as many). What is
 * refused for that, and for its file system, is told in the log, rate-limited.
 *
 * Thread: WORK (blocks). Returns 0, -EINVAL (size 0, overflow, or not a regular file), -ERANGE (the
 * file is shorter), -EOPNOTSUPP (such a file system), -EBADF, -EACCES (not open for reading and
 * writing), -ENOMEM (also: the owner has his share), or another errno of statx(2) and mmap(2).
 */
VHUB_API int
vhub_mem_map_create(int fd, uint64_t offset_bytes, uint64_t size_bytes,
		struct vhub_mem_owner *owner, struct vhub_mem_map **out, void **hva);

/**
 * Has a mapping guarded that a library has made of a front end's file: [addr, addr + len), whole
 * pages of the file's. It counts as the owner's. The last put ends only the guard, and lets the
 * file's pages go that we have touched, so that nobody waits long when the library unmaps: at once
 * when it comes on WORK, and it has to come before that. Thread: WORK. Returns 0 or -ENOMEM
 * (also: the owner has his share).
 */
VHUB_API int
vhub_mem_map_adopt(void *addr, size_t len_bytes, struct vhub_mem_owner *owner,
		struct vhub_mem_map **out);

/* ---- for who has a library map a front end's files ---- */

/**
 * Whether the owner may have so many bytes more mapped, at once or in parts; none is reserved. Thread: WORK.
 * Returns 0 or -ENOMEM, with a line in the log.
 */
VHUB_API int
vhub_mem_may_map(uint64_t bytes, struct vhub_mem_owner *owner);

/**
 * What mappings of a memory file start and end at multiples of, however long it is now. Thread: WORK. Returns 0 or
 * the errno of fstatfs(2).
 */
VHUB_API int
vhub_mem_file_page_bytes(int fd, uint64_t *page_bytes);

/** Whether [offset, offset + size) of `fd` may be mapped and its file has no holes. Thread: WORK. */
VHUB_API bool
vhub_mem_file_is_allocated(int fd, uint64_t offset_bytes, uint64_t size_bytes);

/**
 * References. Thread: ANY for get; CTL or WORK for put. The last put unmaps: on WORK when it comes
 * from inside a running control loop, else at once. NULL is fine for put.
 */
VHUB_API struct vhub_mem_map *
vhub_mem_map_get(struct vhub_mem_map *map);
VHUB_API void
vhub_mem_map_put(struct vhub_mem_map *map);

/**
 * Pages of its file are so large, and it starts and ends with one; 0 of one that was adopted. Thread:
 * CTL or WORK.
 */
VHUB_API uint64_t
vhub_mem_map_page_bytes(const struct vhub_mem_map *map);

/* ---- windows ---- */

/**
 * A range of a mapping by which a system call reaches the pages that the front end's file has, and
 * makes none: where one is missing, it fails with EFAULT. Without one, to pin guest memory
 * takes pages from us where the front end has punched a hole, at whatever moment it likes.
 */
struct vhub_mem_window {
	uint8_t *hva; /**< by which the range is reached while the window is open */
	/* lib/mem's. */
	int uffd;
	uint8_t *base;
	size_t len_bytes;
	bool own; /* a mapping of its own */
};

/**
 * An fd that windows are opened with, one after the other; the caller closes it (a look at all mappings
 * of the process). Needs no privilege. Thread: CTL before vhubd serves, or WORK. Returns 0 or the errno of
 * userfaultfd(2): -ENOSYS or -EPERM where it cannot be had.
 */
VHUB_API int
vhub_mem_window_start(int *uffd);

/**
 * Opens a window at `bytes` from `hva`, which lie in `map`, one that vhub_mem_map_create() or a table
 * has made. It is another mapping of the file, for the kernel only: no guard is there for who touches it. What
 * system calls have pinned stays pinned when it closes.
 *
 * For hugetlbfs it is the mapping itself, with whole pages of the file around the range. Whoever else touches a
 * page there meanwhile that the file has no more meets what he does where the file was cut: his session ends.
 *
 * Thread: WORK (blocks). Returns 0, -ENOMEM, or another errno of mremap(2) or ioctl_userfaultfd(2).
 */
VHUB_API int
vhub_mem_window_open(int uffd, const struct vhub_mem_map *map, uint8_t *hva, uint64_t bytes,
		struct vhub_mem_window *w);

/** Thread: WORK (blocks for as long as there are pages, a millisecond for 8 MiB of small ones). */
VHUB_API void
vhub_mem_window_close(struct vhub_mem_window *w);

/* ---- tables ---- */

/** One region, translated: sorted by gpa, none overlaps another in gpa or in uva. */
struct vhub_mem_region {
	uint64_t gpa;
	uint64_t size_bytes;
	uint8_t *hva;
	uint64_t uva;
	struct vhub_mem_map *map;
	/**
	 * all of its file had its pages when the region was described: the front end may have taken
	 * some out since (windows, above)
	 */
	bool allocated;
	/*
	 * Identity, by which an equal region of the next table is kept; our mapping keeps the inode
	 * from being reused.
	 */
	uint64_t mmap_offset_bytes;
	uint64_t file_dev;
	uint64_t file_ino;
};

/** A region's host address, for the way back. */
struct vhub_mem_hva {
	uint8_t *hva;
	const struct vhub_mem_region *region;
};

/** An immutable table. */
struct vhub_mem_table {
	uint32_t refs; /**< shared atomic */
	uint32_t n_regions;
	int numa_node; /**< of the first region's memory, -1 unknown */
	/** All regions, sorted by hva; NULL in a small table, which is looked through. */
	const struct vhub_mem_hva *by_hva;
	struct vhub_mem_region regions[];
};

/**
 * Builds a table of `n` regions (0 .. VHUB_MAX_MEM_SLOTS) from descriptions and fds (fds stay the
 * caller's), reusing mappings of `old` (may be NULL) for equal regions, unless they have faulted or
 * were mapped for another owner. Rejects overlap in guest or in user addresses and any arithmetic
 * overflow; a region may end at 2^64 exactly. Thread: WORK (blocks). Returns 0, -EINVAL, -EEXIST
 * (overlap), or as vhub_mem_map_create(); on failure nothing has changed and nothing stays mapped.
 */
VHUB_API int
vhub_mem_table_build(const struct vhub_mem_table *old, const struct vhub_user_mem_region *descs,
		const int *fds, unsigned int n, struct vhub_mem_owner *owner,
		struct vhub_mem_table **out);

/**
 * A new table: `old` (may be NULL) and one region more. Thread: WORK. Also -ENOSPC: all slots are
 * taken.
 */
VHUB_API int
vhub_mem_table_add(const struct vhub_mem_table *old, const struct vhub_user_mem_region *desc,
		int fd, struct vhub_mem_owner *owner, struct vhub_mem_table **out);

/**
 * A new table: `old` (may be NULL) without the region of that guest address, user address and size.
 * Thread: WORK. Also -ENOENT: none is.
 */
VHUB_API int
vhub_mem_table_remove(const struct vhub_mem_table *old, const struct vhub_user_mem_region *desc,
		struct vhub_mem_table **out);

/** References. Thread: ANY for get; CTL or WORK for put. NULL is fine for put. */
VHUB_API struct vhub_mem_table *
vhub_mem_table_get(struct vhub_mem_table *table);
VHUB_API void
vhub_mem_table_put(struct vhub_mem_table *table);

/** The last region that translated; one for each user of a table, zeroed when the table changes. */
struct vhub_mem_cache {
	const struct vhub_mem_region *last;
};

/** Slow half of vhub_mem_gpa_to_hva(): binary search. NULL: no region has it. Thread: ANY. Never blocks. */
VHUB_API const struct vhub_mem_region *
vhub_mem_find(const struct vhub_mem_table *table, uint64_t gpa);

/**
 * Translates a guest address. On success returns the host address and lowers *len to what is
 * contiguous there (at least 1, so a longer access goes on at gpa + *len with another call); NULL
 * when `gpa` is unmapped or *len is 0. Thread: LCORE. Never blocks.
 */
static inline void *
vhub_mem_gpa_to_hva(const struct vhub_mem_table *table, struct vhub_mem_cache *cache, uint64_t gpa,
		uint64_t *len, uint32_t perm)
{
	const struct vhub_mem_region *r = cache->last;
	uint64_t left;

	(void)perm; /* plain guest memory may be read and written; a vIOMMU will look at it */
	if (unlikely(r == NULL || gpa - r->gpa >= r->size_bytes)) {
		r = vhub_mem_find(table, gpa);
		if (unlikely(r == NULL))
			return NULL;
		cache->last = r;
	}
	left = r->size_bytes - (gpa - r->gpa);
	if (unlikely(*len > left))
		*len = left;
	if (unlikely(*len == 0))
		return NULL;
	return r->hva + (gpa - r->gpa);
}

/**
 * Translates an address of the front end (ring addresses only): NULL unless all `len` bytes, at
 * least 1, lie in one region. Thread: CTL or LCORE.
 */
VHUB_API void *
vhub_mem_uva_to_hva(const struct vhub_mem_table *table, uint64_t uva, uint64_t len);

/**
 * The guest address of a host address inside the table; UINT64_MAX when it is not. Binary search.
 * Thread: LCORE (dirty log).
 */
VHUB_API uint64_t
vhub_mem_hva_to_gpa(const struct vhub_mem_table *table, const void *hva);

/* ---- dirty log ("Migration") ---- */

#define VHUB_LOG_PAGE_BYTES 4096u

/** The shared bitmap, one bit a page of VHUB_LOG_PAGE_BYTES from guest address 0. */
struct vhub_dirty_log {
	uint32_t refs; /**< shared atomic */
	uint8_t *bits;
	uint64_t size_bytes;
	struct vhub_mem_map *map;
};

/** Maps a log. Thread: WORK. Errors as vhub_mem_map_create(). */
VHUB_API int
vhub_dirty_log_create(int fd, uint64_t offset_bytes, uint64_t size_bytes,
		struct vhub_mem_owner *owner, struct vhub_dirty_log **out);

/** References; as vhub_mem_table_get() and _put(). */
VHUB_API struct vhub_dirty_log *
vhub_dirty_log_get(struct vhub_dirty_log *log);
VHUB_API void
vhub_dirty_log_put(struct vhub_dirty_log *log);

/**
 * Marks the pages of [gpa, gpa + len) atomically (release: after the data was written); nothing
 * for len 0, and nothing beyond the end of the log. Thread: LCORE.
 */
VHUB_API void
vhub_dirty_log_mark(struct vhub_dirty_log *log, uint64_t gpa, uint64_t len);

/** True when the log covers every page of [gpa, gpa + len); also for len 0. Thread: ANY. */
VHUB_API bool
vhub_dirty_log_covers(const struct vhub_dirty_log *log, uint64_t gpa, uint64_t len);

/* ---- guard ---- */

/**
 * Installs the SIGBUS handler and the way by which owners are told on `loop`. A fault inside a
 * registered mapping replaces the part around it by private zero pages and marks its owner; any other
 * SIGBUS goes to the handler that was there.
 *
 * The kernel kills a process whose thread faults with SIGBUS blocked, whatever handler there is: no
 * thread that touches guest memory may block SIGBUS. A system call given such memory fails with
 * -EFAULT, without a signal. Thread: CTL, once, after rte_eal_init() (EAL has a handler of its own
 * while its heap grows). Returns 0, -EALREADY, or an errno of sigaction/eventfd/epoll_ctl.
 */
VHUB_API int
vhub_mem_guard_start(struct vhub_loop *loop);

/** Puts the previous handler back. Thread: CTL, with no mapping left. */
VHUB_API void
vhub_mem_guard_stop(void);

/** Number of mappings and bytes mapped now: for statistics and leak tests. Thread: ANY. */
VHUB_API void
vhub_mem_usage(uint64_t *n_maps, uint64_t *bytes);

#ifdef __cplusplus
}
#endif

#endif /* VHUB_MEM_H */
