/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory on a NUMA node, straight from mmap(2) and bound with mbind(2) before the first touch.
 * Called by lcore.c, lib/device, lib/blk and drivers when they build what lcores will use. Where
 * NUMA calls are missing or forbidden (containers), the memory is plain: placement is a wish, not a
 * condition.
 */
#include <errno.h>
#include <numa.h>
#include <numaif.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include <rte_common.h>

#include "vhub_alloc.h"

/*
 * The unit of vhub_zalloc_huge(), whichever kind of page it gets: so the size alone tells what to
 * unmap.
 */
#define HUGE_BYTES (2ul << 20)
/* Populated in one system call. */
#define POPULATE_BYTES (32ul << 20)

#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB (21 << 26)
#endif

static bool numa_works;

static void
numa_probe(void)
{
	numa_works = numa_available() >= 0;
}

static bool
numa_usable(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, numa_probe);
	return numa_works;
}

int
vhub_numa_node_of(const void *addr)
{
	int node;

	if (!numa_usable())
		return -1;
	/* The kernel faults the page in; an address that cannot be read is EFAULT, not a signal. */
	if (get_mempolicy(&node, NULL, 0, (void *)(uintptr_t)addr, MPOL_F_NODE | MPOL_F_ADDR) != 0)
		return -1;
	return node;
}

/*
 * Binds pages that nobody has touched. Preferred, so that a full node costs speed and not the
 * device.
 */
static void
numa_prefer(void *ptr, size_t bytes, int node)
{
	struct bitmask *mask;

	if (node < 0 || !numa_usable() || node > numa_max_node())
		return;
	mask = numa_allocate_nodemask();
	if (mask == NULL)
		return;
	numa_bitmask_setbit(mask, (unsigned int)node);
	/*
	 * Not libnuma's own call around it, which prints. One more than the size: the kernel takes
	 * one off.
	 */
	mbind(ptr, bytes, MPOL_PREFERRED, mask->maskp, mask->size + 1, 0);
	numa_bitmask_free(mask);
}

/* Rounds up to `unit`; 0 for what is nothing or too much. */
static size_t
round_bytes(size_t bytes, size_t unit)
{
	return bytes <= SIZE_MAX - 2 * unit ? RTE_ALIGN_CEIL(bytes, unit) : 0;
}

static void *
map_anonymous(size_t bytes, int flags)
{
	void *ptr = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags,
			-1, 0);

	return ptr != MAP_FAILED ? ptr : NULL;
}

void *
vhub_zalloc_node(size_t size_bytes, int node)
{
	const size_t bytes = round_bytes(size_bytes, (size_t)sysconf(_SC_PAGESIZE));
	void *ptr;

	if (bytes == 0)
		return NULL;
	ptr = map_anonymous(bytes, 0);
	if (ptr != NULL)
		numa_prefer(ptr, bytes, node);
	return ptr;
}

void
vhub_free(void *ptr, size_t size_bytes)
{
	if (ptr != NULL)
		munmap(ptr, round_bytes(size_bytes, (size_t)sysconf(_SC_PAGESIZE)));
}

/* Touches every page of a part. Returns false when there is not enough memory. */
static bool
populate_part(char *ptr, size_t bytes)
{
	const size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);

#ifdef MADV_POPULATE_WRITE
	if (madvise(ptr, bytes, MADV_POPULATE_WRITE) == 0)
		return true;
	if (errno != EINVAL) /* EINVAL: a kernel before 5.14, or one that cannot for this mapping */
		return false;
#endif
	/* An atomic store, as a plain one to memory that nobody reads here may be dropped. */
	for (size_t i = 0; i < bytes; i += page_bytes)
		__atomic_store_n(ptr + i, 0, __ATOMIC_RELAXED);
	return true;
}

/*
 * In parts: the kernel holds a lock of the whole address space over each, and other threads that map or unmap
 * something wait for it.
 */
static bool
populate(char *ptr, size_t bytes)
{
	size_t at, n;

	for (at = 0; at < bytes; at += n) {
		n = RTE_MIN(bytes - at, (size_t)POPULATE_BYTES);
		if (!populate_part(ptr + at, n))
			return false;
	}
	return true;
}

size_t
vhub_huge_round(size_t bytes)
{
	return round_bytes(bytes, HUGE_BYTES);
}

/* Addresses without memory, aligned to a huge page. */
void *
vhub_huge_reserve(size_t reserve_bytes)
{
	const size_t bytes = vhub_huge_round(reserve_bytes);
	char *ptr, *aligned;
	size_t head;

	if (bytes == 0)
		return NULL;
	/* Not MAP_NORESERVE: what is more than there is of memory has to fail in put_small(). */
	ptr = mmap(NULL, bytes + HUGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ptr == MAP_FAILED)
		return NULL;
	aligned = RTE_PTR_ALIGN_CEIL(ptr, HUGE_BYTES);
	head = (size_t)(aligned - ptr);
	if (head != 0)
		munmap(ptr, head);
	munmap(aligned + bytes, HUGE_BYTES - head);
	return aligned;
}

/*
 * Huge pages instead of reserved addresses: populated elsewhere, then moved. Mapped right over the
 * reservation, a shortage would leave a hole there (Linux before 6.13 unmaps first), which another
 * thread's mmap(2) may take.
 */
static bool
put_hugetlb(char *area, size_t bytes, int node)
{
	void *ptr = map_anonymous(bytes, MAP_HUGETLB | MAP_HUGE_2MB);

	if (ptr == NULL)
		return false;
	numa_prefer(ptr, bytes, node);
	if (populate(ptr, bytes) &&
			mremap(ptr, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, area) !=
					MAP_FAILED)
		return true;
	munmap(ptr, bytes);
	return false;
}

/* Small pages, of which the kernel may make transparent huge ones; in vain, all is reserved again. */
static bool
put_small(char *area, size_t bytes, int node)
{
	if (mprotect(area, bytes, PROT_READ | PROT_WRITE) != 0)
		return false;
	numa_prefer(area, bytes, node);
	madvise(area, bytes, MADV_HUGEPAGE); /* a wish */
	if (populate(area, bytes))
		return true;
	madvise(area, bytes, MADV_DONTNEED);
	mprotect(area, bytes, PROT_NONE);
	return false;
}

int
vhub_huge_extend(void *area, size_t from_bytes, size_t to_bytes, int node, bool *huge)
{
	char *ptr = (char *)area + from_bytes;
	const size_t bytes = to_bytes - from_bytes;
	bool ok;

	if (bytes == 0)
		return 0;
	ok = put_hugetlb(ptr, bytes, node);
	if (huge != NULL)
		*huge = ok;
	return ok || put_small(ptr, bytes, node) ? 0 : -ENOMEM;
}

void *
vhub_zalloc_huge(size_t size_bytes, int node, bool *huge)
{
	void *area = vhub_huge_reserve(size_bytes);

	if (huge != NULL)
		*huge = false;
	if (area != NULL &&
			vhub_huge_extend(area, 0, vhub_huge_round(size_bytes), node, huge) != 0) {
		vhub_free_huge(area, size_bytes);
		area = NULL;
	}
	return area;
}

void
vhub_free_huge(void *ptr, size_t size_bytes)
{
	if (ptr != NULL)
		munmap(ptr, round_bytes(size_bytes, HUGE_BYTES));
}
