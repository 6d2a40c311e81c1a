/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The uring driver: disks in files and on block devices. Arguments and the ops table, called by
 * lib/blk; open.c, lock.c, queue.c and io.c come next, in this order in a disk's life.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bsd/string.h>
#include <rte_common.h>

#include "uring_pvt.h"

/* At 100 I/Os in a second the thread does not fall asleep. */
#define SQPOLL_IDLE_MS 10u
#define SQPOLL_MAX_IDLE_MS 60000u
#define SQPOLL_MAX_CPU 8191u

static int
uring_parse(const struct rte_kvargs *args, bool read_only, struct vhub_blk_disk **out, char *error,
		size_t error_len);

static int
uring_open(struct vhub_blk_disk *disk, char *error, size_t error_len)
{
	struct uring_disk *d = uring_disk_of(disk);
	int ret;

	if (d->fd >= 0)
		return 0;
	ret = uring_open_image(d, error, error_len);
	if (ret == 0)
		ret = uring_probe(d, error, error_len);
	if (ret == 0) {
		pins_learn(d);
		ret = eraser_start(d);
		if (ret != 0)
			snprintf(error, error_len, "path=%s: no thread: %s", d->path,
					strerror(-ret));
	}
	if (ret != 0 && d->fd >= 0) {
		close(d->fd);
		d->fd = -1;
	}
	return ret;
}

static void
uring_destroy(struct vhub_blk_disk *disk)
{
	struct uring_disk *d = uring_disk_of(disk);

	eraser_stop(d->eraser);
	uring_lock_forget(d);
	if (d->fd >= 0)
		close(d->fd);
	free(d->path);
	free(d);
}

static void
uring_info(const struct vhub_blk_disk *disk, struct vhub_blk_info *info)
{
	const struct uring_disk *d = uring_disk_of(disk);

	*info = d->info;
	strlcpy(info->target, d->path, sizeof(info->target));
}

static void
uring_front_end(struct vhub_blk_disk *disk, int fd)
{
	uring_disk_of(disk)->connection_fd = fd;
}

static int
uring_resize(struct vhub_blk_disk *disk, uint64_t size_bytes, char *error, size_t error_len)
{
	struct uring_disk *d = uring_disk_of(disk);

	if (size_bytes == 0)
		return uring_look_again(d, error, error_len);
	snprintf(error, error_len,
			"size=%" PRIu64
			": %s has the size of its image: change that, and then call without a size",
			size_bytes, d->path);
	return -EINVAL;
}

static const char *const uring_keys[] = { "path", "direct", "inline", "pin", "iopoll", "sqpoll",
	"sqpoll_cpu", "sqpoll_idle_ms", NULL };

static const struct vhub_blk_driver_ops uring_ops = {
	.name = "uring",
	.help = "path=PATH         a file or a block device, which must exist; required\n"
		"direct=MODE       on, off or auto: pass the page cache by (auto: where that can be)\n"
		"inline=MODE       on, off or auto: read and write on the lcore itself (auto: where that does not wait)\n"
		"pin=on            register guest memory with the io_uring: its guests must not discard any (off)\n"
		"iopoll=on         look for completions in the device, which must have queues for it (off)\n"
		"sqpoll=on         a thread of the kernel's submits; it wants a CPU (off)\n"
		"sqpoll_cpu=N      that CPU (any)\n"
		"sqpoll_idle_ms=N  the thread sleeps when there was no I/O for so long (10)",
	.keys = uring_keys,
	.parse = uring_parse,
	.open = uring_open,
	.destroy = uring_destroy,
	.info = uring_info,
	.lock = uring_lock,
	.memory = uring_memory,
	.front_end = uring_front_end,
	.queue_get = uring_queue_get,
	.queue_put = uring_queue_put,
	.submit = uring_submit,
	.reap = uring_reap,
	.cancel = uring_cancel,
	.arm = uring_arm,
	.resize = uring_resize,
};

/* Which of the ways there are to ask the kernel. */
static int
parse_ring(const struct rte_kvargs *args, struct uring_disk *d, char *error, size_t error_len)
{
	static const char *const of_sqpoll[] = { "sqpoll_cpu", "sqpoll_idle_ms" };
	uint64_t cpu = UINT64_MAX, idle_ms = SQPOLL_IDLE_MS;
	int ret;

	ret = vhub_arg_bool(args, "pin", &d->pin, error, error_len);
	if (ret == 0)
		ret = vhub_arg_bool(args, "iopoll", &d->iopoll, error, error_len);
	if (ret == 0)
		ret = vhub_arg_bool(args, "sqpoll", &d->sqpoll, error, error_len);
	if (ret == 0)
		ret = vhub_arg_uint(args, "sqpoll_cpu", 0, SQPOLL_MAX_CPU, &cpu, error, error_len);
	if (ret == 0)
		ret = vhub_arg_uint(args, "sqpoll_idle_ms", 1, SQPOLL_MAX_IDLE_MS, &idle_ms, error,
				error_len);
	if (ret != 0)
		return ret;
	for (unsigned int i = 0; i < RTE_DIM(of_sqpoll) && !d->sqpoll; i++) {
		const char *value = rte_kvargs_get(args, of_sqpoll[i]);

		if (value == NULL)
			continue;
		snprintf(error, error_len, "%s=%s: allowed with sqpoll=on", of_sqpoll[i], value);
		return -EINVAL;
	}
	d->sqpoll_cpu = cpu == UINT64_MAX ? -1 : (int)cpu;
	d->sqpoll_idle_ms = (uint32_t)idle_ms;
	return 0;
}

static int
parse_image(const struct rte_kvargs *args, struct uring_disk *d, char *error, size_t error_len)
{
	/* In the order of enum uring_direct and enum uring_inline. */
	static const char *const modes[] = { "auto", "on", "off", NULL };
	unsigned int direct = URING_DIRECT_AUTO, in_line = URING_INLINE_AUTO;
	const char *path = NULL;
	int ret;

	ret = vhub_arg_text(args, "path", &path, error, error_len);
	if (ret == 0)
		ret = vhub_arg_choice(args, "direct", modes, &direct, error, error_len);
	if (ret == 0)
		ret = vhub_arg_choice(args, "inline", modes, &in_line, error, error_len);
	if (ret != 0)
		return ret;
	if (path == NULL) {
		snprintf(error, error_len, "path= is missing; allowed: a file or a block device");
		return -EINVAL;
	}
	d->want_direct = (enum uring_direct)direct;
	d->want_inline = (enum uring_inline)in_line;
	d->path = strdup(path);
	return d->path == NULL ? -ENOMEM : 0;
}

static int
uring_parse(const struct rte_kvargs *args, bool read_only, struct vhub_blk_disk **out, char *error,
		size_t error_len)
{
	struct uring_disk *d = calloc(1, sizeof(*d));
	int ret;

	if (d == NULL)
		return -ENOMEM;
	d->disk.ops = &uring_ops;
	d->fd = -1;
	d->connection_fd = -1;
	d->claim_fd = -1;
	d->read_only = read_only;
	ret = parse_image(args, d, error, error_len);
	if (ret == 0)
		ret = parse_ring(args, d, error, error_len);
	if (ret != 0) {
		uring_destroy(&d->disk);
		return ret;
	}
	*out = &d->disk;
	return 0;
}

VHUB_BLK_DRIVER_REGISTER(uring_ops)
