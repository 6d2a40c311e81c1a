/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guest memory (memory.h). Called by the subcommands before they make rings; next: ring.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/memfd.h>

#include <rte_common.h>

#include "memory.h"
#include "perf.h"

#define HUGEPAGE_BYTES (UINT64_C(2) << 20)

/* A back end may rely on its size: QEMU seals its memory in the same way. */
static int
make_file(uint64_t bytes, unsigned int flags)
{
	const int fd = memfd_create("vhub-perf", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
	int ret;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)bytes) == 0 &&
			fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
		return fd;
	ret = -errno;
	close(fd);
	return ret;
}

static int
map(struct perf_memory *mem, uint64_t bytes, unsigned int flags)
{
	const int fd = make_file(bytes, flags);
	void *hva;
	int ret;

	if (fd < 0)
		return fd;
	/* Present from the start: page faults are no part of what is measured. */
	hva = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (hva == MAP_FAILED) {
		ret = -errno;
		close(fd);
		return ret;
	}
	*mem = (struct perf_memory){
		.fd = fd,
		.hva = hva,
		.size_bytes = bytes,
		.hugepages = flags != 0,
	};
	return 0;
}

/* More than the machine has would be promised, and cost a process its life when it is written. */
static bool
is_too_much(uint64_t bytes)
{
	return bytes / (uint64_t)sysconf(_SC_PAGESIZE) > (uint64_t)sysconf(_SC_PHYS_PAGES);
}

int
memory_create(uint64_t bytes, bool hugepages, struct perf_memory *mem)
{
	int ret = -ENOMEM;

	bytes = RTE_ALIGN_CEIL(bytes, HUGEPAGE_BYTES);
	if (hugepages)
		ret = map(mem, bytes, MFD_HUGETLB | MFD_HUGE_2MB);
	if (ret != 0)
		ret = is_too_much(bytes) ? -ENOMEM : map(mem, bytes, 0);
	if (ret != 0)
		perf_error(NULL,
				"no %" PRIu64
				" MB of memory for the guest: %s; a smaller --iodepth, --bs, --size or --numjobs needs less",
				bytes >> 20, strerror(-ret));
	return ret;
}

void
memory_destroy(struct perf_memory *mem)
{
	if (mem->hva == NULL)
		return;
	munmap(mem->hva, mem->size_bytes);
	close(mem->fd);
	memset(mem, 0, sizeof(*mem));
}

void *
memory_alloc(struct perf_memory *mem, uint64_t bytes, uint64_t align)
{
	const uint64_t at = RTE_ALIGN_CEIL(mem->used_bytes, align);

	if (at > mem->size_bytes || bytes > mem->size_bytes - at)
		return NULL;
	mem->used_bytes = at + bytes;
	return mem->hva + at;
}
