/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One mapping of a front end's file: what may be mapped, references, and the unmapping on the
 * blocking-work thread. Used by table.c and log.c, and by lib/device for the inflight region;
 * registry.c says beforehand whether the owner may have it, and is told of each.
 */
#include "mem_pvt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>

#include <rte_common.h>

#include "vhub_work.h"

VHUB_LOGTYPE(mem);

/*
 * Emptied in one system call: of 4 KiB pages, in about a millisecond. Where that takes no time there are
 * few, of which a large mapping may have terabytes: then twice as much each time.
 */
#define EMPTY_BYTES (UINT64_C(8) << 20)
#define EMPTY_MAX_BYTES (UINT64_C(64) << 20)
#define EMPTY_QUICK_NS 100000u

struct vhub_mem_map {
	uint32_t refs; /* shared atomic */
	uint32_t slot; /* in the registry */
	void *base;
	size_t len_bytes;
	uint64_t page_bytes;   /* 0: adopted */
	bool adopted;	       /* another's mapping: guarded, but not ours to unmap */
	struct vhub_work work; /* the unmapping */
};

static struct {
	uint64_t n_maps; /* shared atomics */
	uint64_t bytes;
} mem_usage;

static void
log_no_memory(const struct statx *st)
{
	static struct mem_log_limit limit = { .lock = PTHREAD_MUTEX_INITIALIZER };

	if (mem_log_allowed(&limit))
		VHUB_LOG(WARNING,
				"a front end's file (of device %u:%u) is refused as memory: it lies on a "
				"disk or with a server, where each access can wait; give a memfd (QEMU: "
				"memory-backend-memfd,share=on) or a file on tmpfs or hugetlbfs",
				st->stx_dev_major, st->stx_dev_minor);
}

int
vhub_mem_file_page_bytes(int fd, uint64_t *page_bytes)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return -errno;
	*page_bytes = fs.f_type == HUGETLBFS_MAGIC ? (uint64_t)fs.f_bsize :
						     (uint64_t)sysconf(_SC_PAGESIZE);
	return 0;
}

/*
 * Are the file's pages memory, so that an access of ours waits neither for a disk nor for whoever
 * serves the file? Only shmem and hugetlbfs know seals, so those are told without a question that a
 * hostile FUSE server could leave unanswered.
 */
static int
file_check_kind(int fd, const struct statx *st, uint64_t *page_bytes)
{
	if (fcntl(fd, F_GET_SEALS) < 0) {
		log_no_memory(st);
		return -EOPNOTSUPP;
	}
	return vhub_mem_file_page_bytes(fd, page_bytes);
}

int
mem_file_probe(int fd, uint64_t offset_bytes, uint64_t size_bytes, struct mem_file *out)
{
	struct statx st;
	uint64_t end_bytes;

	if (size_bytes == 0 || __builtin_add_overflow(offset_bytes, size_bytes, &end_bytes))
		return -EINVAL;
	/* DONT_SYNC: answered from memory, also by a file system whose server is the front end's friend. */
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &st) < 0)
		return -errno;
	if (!S_ISREG(st.stx_mode))
		return -EINVAL;
	if (end_bytes > st.stx_size)
		return -ERANGE;
	out->dev = makedev(st.stx_dev_major, st.stx_dev_minor);
	out->ino = st.stx_ino;
	/* In units of 512 bytes, whatever the size of a page. */
	out->allocated = st.stx_blocks >= st.stx_size / 512;
	return file_check_kind(fd, &st, &out->page_bytes);
}

bool
vhub_mem_file_is_allocated(int fd, uint64_t offset_bytes, uint64_t size_bytes)
{
	struct mem_file file;

	return mem_file_probe(fd, offset_bytes, size_bytes, &file) == 0 && file.allocated;
}

static void
map_is_there(struct vhub_mem_map *map)
{
	mem_registry_enter(map->slot, map->base);
	madvise(map->base, map->len_bytes, MADV_DONTDUMP);
	__atomic_fetch_add(&mem_usage.n_maps, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&mem_usage.bytes, map->len_bytes, __ATOMIC_RELAXED);
}

/*
 * No page is reserved (hugetlbfs) or touched here: the front end has those it uses, and where it has none, the
 * guard is there for us.
 */
static int
map_enter(struct vhub_mem_map *map, int fd, off_t start_offset_bytes, struct vhub_mem_owner *owner)
{
	int ret = mem_registry_reserve(map->len_bytes, owner, &map->slot);

	if (ret < 0)
		return ret;
	map->base = mmap(NULL, map->len_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
			fd, start_offset_bytes);
	if (map->base == MAP_FAILED) {
		ret = -errno;
		mem_registry_remove(map->slot);
		mem_registry_give_back(map->len_bytes);
		return ret;
	}
	map_is_there(map);
	return 0;
}

void
mem_empty(void *base, size_t len_bytes)
{
	uint64_t at, n, next = EMPTY_BYTES, start_ns;

	for (at = 0; at < len_bytes; at += n) {
		n = RTE_MIN(len_bytes - at, next);
		start_ns = vhub_now_ns();
		madvise((uint8_t *)base + at, n, MADV_DONTNEED);
		if (vhub_now_ns() - start_ns > EMPTY_QUICK_NS)
			next = EMPTY_BYTES;
		else
			next = RTE_MIN(2 * next, EMPTY_MAX_BYTES);
	}
}

static void
map_leave(struct vhub_mem_map *map)
{
	mem_registry_remove(map->slot);
	mem_empty(map->base, map->len_bytes);
	if (map->adopted || munmap(map->base, map->len_bytes) == 0)
		mem_registry_give_back(map->len_bytes);
	else
		VHUB_LOG(ERR, "%zu bytes of guest memory at %p stay mapped: errno %d",
				map->len_bytes, map->base, errno);
	__atomic_fetch_sub(&mem_usage.n_maps, 1, __ATOMIC_RELAXED);
	__atomic_fetch_sub(&mem_usage.bytes, map->len_bytes, __ATOMIC_RELAXED);
}

int
mem_map_file(int fd, const struct mem_file *file, uint64_t offset_bytes, uint64_t size_bytes,
		struct vhub_mem_owner *owner, struct vhub_mem_map **out, void **hva)
{
	/* All below 2^64: the probe saw offset + size within a file, whose size is below 2^63. */
	uint64_t before_bytes = offset_bytes & (file->page_bytes - 1);
	uint64_t len_bytes = (before_bytes + size_bytes + file->page_bytes - 1) &
			~(file->page_bytes - 1);
	struct vhub_mem_map *map;
	int ret;

	map = calloc(1, sizeof(*map));
	if (map == NULL)
		return -ENOMEM;
	map->refs = 1;
	map->len_bytes = len_bytes;
	map->page_bytes = file->page_bytes;
	ret = map_enter(map, fd, (off_t)(offset_bytes - before_bytes), owner);
	if (ret < 0) {
		free(map);
		return ret;
	}
	*out = map;
	*hva = (uint8_t *)map->base + before_bytes;
	return 0;
}

int
vhub_mem_map_adopt(void *addr, size_t len_bytes, struct vhub_mem_owner *owner,
		struct vhub_mem_map **out)
{
	struct vhub_mem_map *map = calloc(1, sizeof(*map));
	int ret;

	if (map == NULL)
		return -ENOMEM;
	map->refs = 1;
	map->base = addr;
	map->len_bytes = len_bytes;
	map->adopted = true;
	ret = mem_registry_reserve(len_bytes, owner, &map->slot);
	if (ret != 0) {
		free(map);
		return ret;
	}
	map_is_there(map);
	*out = map;
	return 0;
}

uint64_t
vhub_mem_map_page_bytes(const struct vhub_mem_map *map)
{
	return map->page_bytes;
}

bool
mem_map_is_intact(const struct vhub_mem_map *map, const struct vhub_mem_owner *owner)
{
	return mem_registry_is_intact(map->slot, owner);
}

struct vhub_mem_map *
vhub_mem_map_get(struct vhub_mem_map *map)
{
	__atomic_fetch_add(&map->refs, 1, __ATOMIC_RELAXED);
	return map;
}

/* WORK. Without a `done` nobody touches the work after this, so it frees what the work is a part of. */
static void
map_work_run(struct vhub_work *work)
{
	struct vhub_mem_map *map = vhub_container_of(work, struct vhub_mem_map, work);

	map_leave(map);
	free(map);
}

void
vhub_mem_map_put(struct vhub_mem_map *map)
{
	/* Acquire and release: every user's last access comes before the unmapping. */
	if (map == NULL || __atomic_fetch_sub(&map->refs, 1, __ATOMIC_ACQ_REL) != 1)
		return;
	map->work = (struct vhub_work){ .run = map_work_run };
	if (vhub_loop_running())
		vhub_work_submit(&map->work);
	else
		map_work_run(&map->work);
}

void
vhub_mem_usage(uint64_t *n_maps, uint64_t *bytes)
{
	*n_maps = __atomic_load_n(&mem_usage.n_maps, __ATOMIC_RELAXED);
	*bytes = __atomic_load_n(&mem_usage.bytes, __ATOMIC_RELAXED);
}

int
vhub_mem_map_create(int fd, uint64_t offset_bytes, uint64_t size_bytes,
		struct vhub_mem_owner *owner, struct vhub_mem_map **out, void **hva)
{
	struct mem_file file;
	int ret;

	ret = mem_file_probe(fd, offset_bytes, size_bytes, &file);
	if (ret < 0)
		return ret;
	return mem_map_file(fd, &file, offset_bytes, size_bytes, owner, out, hva);
}
