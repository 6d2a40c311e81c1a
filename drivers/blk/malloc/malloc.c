/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The malloc driver: a disk in memory, in huge pages where there are some, on the NUMA node of the
 * lcores that serve it. Without a file, what it holds is gone when vhubd ends. Called by lib/blk; on
 * lcores, io.c comes next.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_common.h>

#include "malloc_pvt.h"
#include "vhub_alloc.h"
#include "vhub_log.h"

VHUB_LOGTYPE(blk)

/* How many times its first size a disk can have: only addresses are taken for that. */
#define GROWTH 16

static int
malloc_parse(const struct rte_kvargs *args, bool read_only, struct vhub_blk_disk **out, char *error,
		size_t error_len);

static int
too_large(const struct malloc_disk *d, uint64_t size_bytes, char *error, size_t error_len)
{
	const uint64_t bytes = vhub_huge_round(size_bytes) - d->mapped_bytes;
	const uint64_t room = vhub_memory_room();

	if (room < bytes)
		snprintf(error, error_len,
				"size=%" PRIu64 ": that takes %" PRIu64 " bytes, and %" PRIu64
				" of memory can be had",
				size_bytes, bytes, room);
	else
		snprintf(error, error_len, "size=%" PRIu64 ": there is not so much free memory",
				size_bytes);
	return -ENOMEM;
}

/* Has memory up to `size_bytes`, in whole huge pages. */
static int
map_to(struct malloc_disk *d, uint64_t size_bytes, int node, char *error, size_t error_len)
{
	uint64_t bytes = vhub_huge_round(size_bytes);
	bool huge = false;
	int ret;

	ret = vhub_huge_extend(d->data, d->mapped_bytes, bytes, node, &huge);
	if (ret != 0)
		return too_large(d, size_bytes, error, error_len);
	VHUB_LOG(DEBUG, "%" PRIu64 " bytes of disk, %sall of it in huge pages",
			bytes - d->mapped_bytes, huge ? "" : "not ");
	d->mapped_bytes = bytes;
	return 0;
}

static int
malloc_open(struct vhub_blk_disk *disk, char *error, size_t error_len)
{
	struct malloc_disk *d = malloc_disk_of(disk);

	return d->path == NULL || d->fd >= 0 ? 0 : save_open(d, error, error_len);
}

static void
give_memory_back(struct malloc_disk *d)
{
	if (d->data != NULL)
		vhub_free_huge(d->data, d->reserved_bytes);
	d->data = NULL;
	d->mapped_bytes = 0;
}

/* What a larger disk gets later comes from the node of its first memory. */
static int
malloc_place(struct vhub_blk_disk *disk, int node, char *error, size_t error_len)
{
	struct malloc_disk *d = malloc_disk_of(disk);
	int ret;

	if (d->data != NULL)
		return 0;
	d->node = node;
	d->reserved_bytes = d->size_bytes * GROWTH;
	d->data = vhub_huge_reserve(d->reserved_bytes);
	if (d->data == NULL) { /* addresses may be limited as well */
		d->reserved_bytes = d->size_bytes;
		d->data = vhub_huge_reserve(d->reserved_bytes);
	}
	ret = d->data != NULL ? map_to(d, d->size_bytes, node, error, error_len) :
				too_large(d, d->size_bytes, error, error_len);
	if (ret == 0 && d->path != NULL)
		ret = save_load(d, error, error_len);
	if (ret != 0)
		give_memory_back(d);
	return ret;
}

static void
malloc_destroy(struct vhub_blk_disk *disk)
{
	struct malloc_disk *d = malloc_disk_of(disk);

	save_close(d);
	give_memory_back(d);
	free(d->path);
	free(d);
}

static void
malloc_info(const struct vhub_blk_disk *disk, struct vhub_blk_info *info)
{
	const struct malloc_disk *d = malloc_disk_of(disk);

	*info = (struct vhub_blk_info){
		.capacity_bytes = d->size_bytes,
		.block_bytes = 512,
		.physical_block_bytes = 4096,
		.discard_max_bytes = d->read_only ? 0 : VHUB_BLK_RANGE_MAX_BYTES,
		.write_zeroes_max_bytes = d->read_only ? 0 : VHUB_BLK_RANGE_MAX_BYTES,
		/* The file is a copy that is written later, and of which there may be others below. */
		.secure_erase_max_bytes = d->read_only || d->path != NULL ?
				0 :
				VHUB_BLK_RANGE_MAX_BYTES,
		.read_only = d->read_only,
		.volatile_cache = d->path != NULL && !d->read_only,
		.saved_at_end = d->path != NULL && !d->read_only,
		.target = "memory",
	};
	if (d->path != NULL)
		snprintf(info->target, sizeof(info->target), "memory, %.119s", d->path);
}

/*
 * Lcores go on meanwhile: the area grows at its end, and nothing of it is given back. What a disk
 * that became smaller had there reads as zero when it grows again.
 */
static int
malloc_resize(struct vhub_blk_disk *disk, uint64_t size_bytes, char *error, size_t error_len)
{
	struct malloc_disk *d = malloc_disk_of(disk);
	int ret;

	if (size_bytes == 0)
		return 0;
	if (size_bytes > d->reserved_bytes) {
		snprintf(error, error_len,
				"size=%" PRIu64 ": this disk can grow up to %" PRIu64 " bytes",
				size_bytes, d->reserved_bytes);
		return -EINVAL;
	}
	if (size_bytes > d->size_bytes && d->size_bytes < d->mapped_bytes)
		memset(d->data + d->size_bytes, 0,
				RTE_MIN(size_bytes, d->mapped_bytes) - d->size_bytes);
	if (size_bytes > d->mapped_bytes) {
		ret = map_to(d, size_bytes, d->node, error, error_len);
		if (ret != 0)
			return ret;
	}
	if (d->save == NULL) {
		d->size_bytes = size_bytes;
		return 0;
	}
	ret = save_resize(d, size_bytes);
	if (ret != 0)
		snprintf(error, error_len, "size=%" PRIu64 ": %s: %s", size_bytes, d->path,
				strerror(-ret));
	return ret;
}

static int
malloc_save(struct vhub_blk_disk *disk, char *error, size_t error_len)
{
	struct malloc_disk *d = malloc_disk_of(disk);

	return d->save == NULL ? 0 : save_now(d, error, error_len);
}

static const char *const malloc_keys[] = { "size", "file", NULL };

static const struct vhub_blk_driver_ops malloc_ops = {
	.name = "malloc",
	.help = "size=SIZE         size of the disk, with k, M, G or T; without it the file's\n"
		"file=PATH         loaded at the start; written at every flush and at the end",
	.keys = malloc_keys,
	.parse = malloc_parse,
	.open = malloc_open,
	.place = malloc_place,
	.destroy = malloc_destroy,
	.info = malloc_info,
	.queue_get = malloc_queue_get,
	.queue_put = malloc_queue_put,
	.submit = malloc_submit,
	.reap = malloc_reap,
	.cancel = malloc_cancel,
	.arm = malloc_arm,
	.resize = malloc_resize,
	.save = malloc_save,
};

static int
parse_size(const struct rte_kvargs *args, bool has_file, uint64_t *size_bytes, char *error,
		size_t error_len)
{
	int ret = vhub_arg_size(args, "size", VHUB_BLK_SECTOR_BYTES, UINT64_C(1) << 46, size_bytes,
			error, error_len);

	if (ret != 0)
		return ret;
	if (*size_bytes == 0 && !has_file) {
		snprintf(error, error_len,
				"size= is missing; allowed: 512 or more, with k, M, G or T");
		return -EINVAL;
	}
	if (*size_bytes % VHUB_BLK_SECTOR_BYTES != 0) {
		snprintf(error, error_len, "size=%s: not a multiple of 512",
				rte_kvargs_get(args, "size"));
		return -EINVAL;
	}
	return 0;
}

static int
malloc_parse(const struct rte_kvargs *args, bool read_only, struct vhub_blk_disk **out, char *error,
		size_t error_len)
{
	const char *path = NULL;
	struct malloc_disk *d;
	uint64_t size_bytes = 0;
	int ret;

	ret = vhub_arg_text(args, "file", &path, error, error_len);
	if (ret == 0)
		ret = parse_size(args, path != NULL, &size_bytes, error, error_len);
	if (ret != 0)
		return ret;
	d = calloc(1, sizeof(*d));
	if (d == NULL)
		return -ENOMEM;
	d->disk.ops = &malloc_ops;
	d->size_bytes = size_bytes;
	d->read_only = read_only;
	d->fd = -1;
	if (path != NULL) {
		d->path = strdup(path);
		if (d->path == NULL) {
			free(d);
			return -ENOMEM;
		}
	}
	*out = &d->disk;
	return 0;
}

VHUB_BLK_DRIVER_REGISTER(malloc_ops)
