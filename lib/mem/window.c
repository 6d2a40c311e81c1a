/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Windows: ranges of guest memory in which what the file has no page for has none for the kernel either.
 * Without one a system call that pins pages makes those that are missing, of our memory, and no look
 * beforehand helps: the front end can take pages out of its file at any moment. drivers/blk/uring/pins.c
 * opens one for each piece that it registers.
 *
 * userfaultfd(2) makes them: in a range that is registered with it for missing pages, with
 * UFFD_FEATURE_SIGBUS, a fault finds the file's page, in memory or swapped out, or ends with SIGBUS, which
 * is EFAULT for a system call. The range is of a second mapping, so that no access by the first one meets
 * that.
 */
#include "mem_pvt.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/userfaultfd.h>

#include <rte_common.h>

VHUB_LOGTYPE(mem);

/* Linux 5.11, of which older headers do not know: no privilege is needed. */
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

int
vhub_mem_window_start(int *uffd)
{
	struct uffdio_api api = { .api = UFFD_API,
		.features = UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MISSING_SHMEM |
				UFFD_FEATURE_MISSING_HUGETLBFS };
	int ret, fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	if (fd < 0)
		return -errno;
	if (ioctl(fd, UFFDIO_API, &api) < 0) {
		ret = -errno;
		close(fd);
		return ret;
	}
	*uffd = fd;
	return 0;
}

/* The same pages of the file in another place: what mremap(2) does for a length of 0. */
static int
map_again(struct vhub_mem_window *w, uint8_t *start)
{
	void *base = mremap(start, 0, w->len_bytes, MREMAP_MAYMOVE);

	if (base == MAP_FAILED)
		return -errno;
	madvise(base, w->len_bytes, MADV_DONTDUMP);
	w->base = base;
	return 0;
}

int
vhub_mem_window_open(int uffd, const struct vhub_mem_map *map, uint8_t *hva, uint64_t bytes,
		struct vhub_mem_window *w)
{
	const uint64_t page_bytes = vhub_mem_map_page_bytes(map);
	uint8_t *start = RTE_PTR_ALIGN_FLOOR(hva, page_bytes);
	struct uffdio_register arg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	int ret;

	*w = (struct vhub_mem_window){ .uffd = uffd, .base = start };
	w->len_bytes = RTE_ALIGN_CEIL((uint64_t)(hva - start) + bytes, page_bytes);
	w->own = page_bytes == (uint64_t)sysconf(_SC_PAGESIZE);
	/* Huge pages of hugetlbfs the kernel maps again for who has their fd only. */
	if (w->own) {
		ret = map_again(w, start);
		if (ret != 0)
			return ret;
	}
	w->hva = w->base + (hva - start);
	arg.range.start = (uintptr_t)w->base;
	arg.range.len = w->len_bytes;
	if (ioctl(uffd, UFFDIO_REGISTER, &arg) == 0)
		return 0;
	ret = -errno;
	if (w->own)
		munmap(w->base, w->len_bytes);
	return ret;
}

void
vhub_mem_window_close(struct vhub_mem_window *w)
{
	struct uffdio_range range = { (uintptr_t)w->base, w->len_bytes };

	if (w->own) {
		mem_empty(w->base, w->len_bytes);
		munmap(w->base, w->len_bytes);
	} else if (ioctl(w->uffd, UFFDIO_UNREGISTER, &range) < 0) {
		VHUB_LOG(ERR, "a window of %zu bytes of guest memory stays: %s", w->len_bytes,
				strerror(errno));
	}
}
