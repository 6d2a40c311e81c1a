/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From a path to an open image: a regular file or a block device, with or without O_DIRECT. Called
 * by uring.c, on a thread that may block; queue.c comes next, when a guest's rings start.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/fs.h>
#include <rte_common.h>

#include "uring_pvt.h"
#include "vhub_log.h"

VHUB_LOGTYPE(blk)

/*
 * What a guest is told of physical blocks at most; larger ones (records of 128 KiB) are told as the
 * optimal size.
 */
#define PHYSICAL_MAX_BYTES 4096u
#define OPTIMAL_MAX_BYTES (1u << 20)

static int
path_error(const struct uring_disk *d, int ret, char *error, size_t error_len)
{
	snprintf(error, error_len, "path=%s: %s%s", d->path, strerror(-ret),
			(ret == -EACCES || ret == -EROFS) && !d->read_only ? " (ro=on needs less)" :
									     "");
	return ret;
}

/* The type is known before open(2), which could hang on a pipe or rewind a tape. */
static int
open_path(struct uring_disk *d, struct stat *st, char *error, size_t error_len)
{
	if (stat(d->path, st) != 0)
		return path_error(d, -errno, error, error_len);
	if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode)) {
		snprintf(error, error_len, "path=%s: neither a regular file nor a block device",
				d->path);
		return -EINVAL;
	}
	d->fd = open(d->path, (d->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (d->fd < 0)
		return path_error(d, -errno, error, error_len);
	if (fstat(d->fd, st) != 0)
		return path_error(d, -errno, error, error_len);
	if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode)) {
		snprintf(error, error_len, "path=%s: it changed while it was opened", d->path);
		return -EINVAL;
	}
	return 0;
}

static uint32_t
power_of_two(uint64_t value, uint32_t min, uint32_t max)
{
	if (value <= min || (value & (value - 1)) != 0)
		return min;
	return value < max ? (uint32_t)value : max;
}

static void
file_geometry(struct uring_disk *d, const struct stat *st, uint64_t *size_bytes)
{
	*size_bytes = (uint64_t)st->st_size;
	d->info.block_bytes = VHUB_BLK_SECTOR_BYTES;
	d->info.physical_block_bytes = power_of_two((uint64_t)st->st_blksize, d->info.block_bytes,
			PHYSICAL_MAX_BYTES);
	if (st->st_blksize > (blksize_t)PHYSICAL_MAX_BYTES)
		d->info.optimal_io_bytes = RTE_MIN((uint32_t)st->st_blksize, OPTIMAL_MAX_BYTES);
}

uint32_t
uring_device_attribute(dev_t device, const char *name)
{
	static const char *const places[] = { "queue", "../queue" };
	unsigned int value = 0;
	char path[128];
	FILE *file;

	for (unsigned int i = 0; i < RTE_DIM(places); i++) {
		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s/%s", major(device),
				minor(device), places[i], name);
		file = fopen(path, "re");
		if (file == NULL)
			continue;
		if (fscanf(file, "%u", &value) != 1)
			value = 0;
		fclose(file);
		break;
	}
	return value;
}

static int
device_geometry(struct uring_disk *d, uint64_t *size_bytes)
{
	unsigned int physical = 0, min = 0, optimal = 0;
	int logical = 0, offset = 0;

	if (ioctl(d->fd, BLKGETSIZE64, size_bytes) != 0 || ioctl(d->fd, BLKSSZGET, &logical) != 0)
		return -errno;
	if (logical != 512 && logical != 4096)
		return -EINVAL;
	/* Hints: a device may not tell. */
	if (ioctl(d->fd, BLKPBSZGET, &physical) != 0)
		physical = 0;
	if (ioctl(d->fd, BLKIOOPT, &optimal) != 0)
		optimal = 0;
	if (ioctl(d->fd, BLKIOMIN, &min) != 0)
		min = 0;
	if (ioctl(d->fd, BLKALIGNOFF, &offset) != 0 || offset < 0)
		offset = 0;
	d->info.block_bytes = (uint32_t)logical;
	d->info.physical_block_bytes = power_of_two(physical, d->info.block_bytes,
			PHYSICAL_MAX_BYTES);
	d->info.min_io_bytes = min <= OPTIMAL_MAX_BYTES ? min - min % d->info.block_bytes : 0;
	d->info.optimal_io_bytes = optimal - optimal % d->info.block_bytes;
	d->info.alignment_offset_bytes = (uint32_t)offset % d->info.physical_block_bytes;
	d->info.alignment_offset_bytes -= d->info.alignment_offset_bytes % d->info.block_bytes;
	return 0;
}

/* Whether the image can be read directly in blocks of `bytes`: 0 or -errno. */
static int
try_direct(const struct uring_disk *d, size_t bytes)
{
	void *buf;
	ssize_t n;
	int ret;

	if (posix_memalign(&buf, 4096, 4096) != 0)
		return -ENOMEM;
	n = pread(d->fd, buf, bytes, 0);
	ret = n == (ssize_t)bytes ? 0 : n < 0 ? -errno : -EINVAL;
	free(buf);
	return ret;
}

/*
 * Alignment of addresses. What kernels before 6.1 and many file systems do not tell is at most a
 * block. A kernel may tell less for addresses (4), never for lengths.
 */
static void
learn_mem_align(struct uring_disk *d)
{
	d->mem_align_bytes = d->info.block_bytes;
#ifdef STATX_DIOALIGN
	struct statx stx;

	if (statx(d->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
			(stx.stx_mask & STATX_DIOALIGN) != 0 && stx.stx_dio_mem_align != 0)
		d->mem_align_bytes = power_of_two(stx.stx_dio_mem_align, 1, 1u << 20);
#endif
}

/* Fills in d->direct. `block_bytes` may grow to what direct I/O needs, if that was asked for. */
static int
choose_direct(struct uring_disk *d, char *error, size_t error_len)
{
	const char *why = "its file system has no direct I/O";
	int flags, ret;

	if (d->want_direct == URING_DIRECT_OFF)
		return 0;
	flags = fcntl(d->fd, F_GETFL);
	ret = flags < 0 || fcntl(d->fd, F_SETFL, flags | O_DIRECT) != 0 ?
			-errno :
			try_direct(d, d->info.block_bytes);
	if (ret == -EINVAL && d->info.block_bytes < 4096 && try_direct(d, 4096) == 0) {
		if (d->want_direct == URING_DIRECT_ON) {
			d->info.block_bytes = 4096;
			d->info.physical_block_bytes = 4096;
			ret = 0;
		} else {
			why = "its file system has direct I/O in blocks of 4096 bytes only, which direct=on "
			      "would show to the guest";
		}
	}
	if (ret == 0) {
		d->direct = true;
		learn_mem_align(d);
		return 0;
	}
	if (ret != -EINVAL && ret != -EOPNOTSUPP)
		return path_error(d, ret, error, error_len);
	if (d->want_direct == URING_DIRECT_ON) {
		snprintf(error, error_len, "direct=on: %s: %s; allowed: auto, off", d->path, why);
		return -EINVAL;
	}
	if (fcntl(d->fd, F_SETFL, flags & ~O_DIRECT) != 0)
		return path_error(d, -errno, error, error_len);
	VHUB_LOG(NOTICE, "%s: I/O goes through the page cache: %s", d->path, why);
	return 0;
}

static int
choose_capacity(struct uring_disk *d, uint64_t size_bytes, char *error, size_t error_len)
{
	uint64_t rest = size_bytes % d->info.block_bytes;

	d->info.capacity_bytes = size_bytes - rest;
	if (d->info.capacity_bytes == 0) {
		snprintf(error, error_len,
				"path=%s: its size, %" PRIu64 ", is less than a block of %u bytes",
				d->path, size_bytes, d->info.block_bytes);
		return -EINVAL;
	}
	if (rest != 0)
		VHUB_LOG(NOTICE,
				"%s: its size, %" PRIu64
				", is not a multiple of %u: the last %" PRIu64
				" bytes are not used",
				d->path, size_bytes, d->info.block_bytes, rest);
	return 0;
}

int
uring_open_image(struct uring_disk *d, char *error, size_t error_len)
{
	uint64_t size_bytes = 0;
	struct stat st;
	int ret;

	ret = open_path(d, &st, error, error_len);
	if (ret != 0)
		return ret;
	d->block_device = S_ISBLK(st.st_mode);
	d->device = d->block_device ? st.st_rdev : st.st_dev;
	d->inode = d->block_device ? 0 : st.st_ino;
	if (!d->block_device) {
		file_geometry(d, &st, &size_bytes);
	} else {
		ret = device_geometry(d, &size_bytes);
		if (ret != 0)
			return path_error(d, ret, error, error_len);
	}
	/*
	 * Before anything is read from it, and once more when direct I/O has chosen the size of a
	 * block.
	 */
	if (size_bytes < d->info.block_bytes)
		return choose_capacity(d, size_bytes, error, error_len);
	ret = choose_direct(d, error, error_len);
	if (ret != 0)
		return ret;
	inline_learn(d);
	d->info.read_only = d->read_only;
	d->info.volatile_cache = !d->read_only;
	ret = choose_capacity(d, size_bytes, error, error_len);
	if (ret != 0)
		return ret;
	ret = range_learn(d, (uint32_t)st.st_blksize);
	return ret == 0 ? 0 : path_error(d, ret, error, error_len);
}

int
uring_look_again(struct uring_disk *d, char *error, size_t error_len)
{
	uint64_t size_bytes;
	struct stat st;

	if (!d->block_device) {
		if (fstat(d->fd, &st) != 0)
			return path_error(d, -errno, error, error_len);
		size_bytes = (uint64_t)st.st_size;
	} else if (ioctl(d->fd, BLKGETSIZE64, &size_bytes) != 0) {
		return path_error(d, -errno, error, error_len);
	}
	if (size_bytes < d->info.block_bytes) {
		snprintf(error, error_len,
				"path=%s: its size, %" PRIu64 ", is less than a block of %u bytes",
				d->path, size_bytes, d->info.block_bytes);
		return -EINVAL;
	}
	return choose_capacity(d, size_bytes, error, error_len);
}
