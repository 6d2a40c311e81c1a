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
#define GIANT_BYTES (1ul << 30)
/* Populated in one system call. */
#define POPULATE_BYTES (32ul << 20)

#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB (21 << 26)
#endif
#ifndef MAP_HUGE_1GB
#define MAP_HUGE_1GB (30 << 26)
#endif

/* Kinds of hugetlb pages, the largest first. Which of them the host has, mmap(2) tells. */
static const struct hugetlb_kind {
	size_t page_bytes;
	int flags;
} hugetlb_kinds[] = {
	{ GIANT_BYTES, MAP_HUGETLB | MAP_HUGE_1GB },
	{ HUGE_BYTES, MAP_HUGETLB | MAP_HUGE_2MB },
};

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
 * something wait for it. Of small pages there have to be enough for all that is still to come, whatever others have
 * taken meanwhile: the kernel finds some more in any case, by ending processes.
 */
static bool
populate(char *ptr, size_t bytes, bool small)
{
	size_t at, n;

	for (at = 0; at < bytes; at += n) {
		n = RTE_MIN(bytes - at, (size_t)POPULATE_BYTES);
		if (small && bytes - at > vhub_memory_room())
			return false;
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

static void *
reserve_aligned(size_t bytes, size_t unit)
{
	char *ptr, *aligned;
	size_t head;

	/* Not MAP_NORESERVE: what is more than there is of memory and swap fails in put_small() at once. */
	ptr = mmap(NULL, bytes + unit, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ptr == MAP_FAILED)
		return NULL;
	aligned = RTE_PTR_ALIGN_CEIL(ptr, unit);
	head = (size_t)(aligned - ptr);
	if (head != 0)
		munmap(ptr, head);
	munmap(aligned + bytes, unit - head);
	return aligned;
}

/* Addresses without memory, aligned to the largest page that they may get. */
void *
vhub_huge_reserve(size_t reserve_bytes)
{
	const size_t bytes = vhub_huge_round(reserve_bytes);
	void *area = NULL;

	if (bytes == 0)
		return NULL;
	for (unsigned int i = 0; i < RTE_DIM(hugetlb_kinds) && area == NULL; i++) {
		if (bytes >= hugetlb_kinds[i].page_bytes)
			area = reserve_aligned(bytes, hugetlb_kinds[i].page_bytes);
	}
	return area;
}

/*
 * Huge pages instead of reserved addresses: populated elsewhere, then moved. Mapped right over the
 * reservation, a shortage would leave a hole there (Linux before 6.13 unmaps first), which another
 * thread's mmap(2) may take.
 */
static bool
put_hugetlb(char *area, size_t bytes, int node, int flags)
{
	void *ptr = map_anonymous(bytes, flags);

	if (ptr == NULL)
		return false;
	numa_prefer(ptr, bytes, node);
	if (populate(ptr, bytes, false) &&
			mremap(ptr, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, area) !=
					MAP_FAILED)
		return true;
	munmap(ptr, bytes);
	return false;
}

/* Small pages, of which the kernel may make transparent huge ones. */
static bool
put_small(char *area, size_t bytes, int node)
{
	if (mprotect(area, bytes, PROT_READ | PROT_WRITE) != 0)
		return false;
	numa_prefer(area, bytes, node);
	madvise(area, bytes, MADV_HUGEPAGE); /* a wish */
	return populate(area, bytes, true);
}

/*
 * Whole pages of the largest kind of which enough are free, from the i-th on; what is before and behind them gets
 * smaller ones. `huge` becomes false where some are small. In vain, parts may have memory.
 */
static bool
put_pages(char *area, size_t bytes, int node, unsigned int i, bool *huge)
{
	char *const end = area + bytes;

	if (bytes == 0)
		return true;
	for (; i < RTE_DIM(hugetlb_kinds); i++) {
		const size_t page_bytes = hugetlb_kinds[i].page_bytes;
		char *const first = RTE_PTR_ALIGN_CEIL(area, page_bytes);
		char *const last = RTE_PTR_ALIGN_FLOOR(end, page_bytes);

		if (first < last &&
				put_hugetlb(first, (size_t)(last - first), node,
						hugetlb_kinds[i].flags))
			return put_pages(area, (size_t)(first - area), node, i + 1, huge) &&
					put_pages(last, (size_t)(end - last), node, i + 1, huge);
	}
	*huge = false;
	return put_small(area, bytes, node);
}

int
vhub_huge_extend(void *area, size_t from_bytes, size_t to_bytes, int node, bool *huge)
{
	char *ptr = (char *)area + from_bytes;
	const size_t bytes = to_bytes - from_bytes;
	bool all_huge = true, ok;

	if (bytes == 0)
		return 0;
	ok = put_pages(ptr, bytes, node, 0, &all_huge);
	if (huge != NULL)
		*huge = ok && all_huge;
	if (ok)
		return 0;
	/* Nothing else is mapped there meanwhile. */
	mmap(ptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	return -ENOMEM;
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
