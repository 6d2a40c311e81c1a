/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The uring driver: disks in files and on block devices. Arguments, image lock and the ops table,
 * called by lib/blk; open.c, queue.c and io.c come next, in this order in a disk's life.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bsd/string.h>

#include "uring_pvt.h"

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
	ret = uring_probe(error, error_len);
	if (ret == 0)
		ret = uring_open_image(d, error, error_len);
	if (ret == 0) {
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

/*
 * Open-file-description locks: they belong to our open image, so also two disks of one process
 * exclude each other, and closing some other descriptor of the file gives nothing back.
 */
static int
uring_lock(struct vhub_blk_disk *disk, bool locked, char *error, size_t error_len)
{
	struct uring_disk *d = uring_disk_of(disk);
	struct flock lock = {
		.l_type = !locked	     ? F_UNLCK :
				d->read_only ? F_RDLCK :
					       F_WRLCK,
		.l_whence = SEEK_SET, /* from 0 to the end, wherever that is */
	};

	if (fcntl(d->fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES) {
		snprintf(error, error_len, "%s is in use: somebody else has locked it", d->path);
		return -EAGAIN;
	}
	snprintf(error, error_len, "%s cannot be locked: %s", d->path, strerror(errno));
	return -errno;
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

static const char *const uring_keys[] = { "path", "direct", "inline", NULL };

static const struct vhub_blk_driver_ops uring_ops = {
	.name = "uring",
	.help = "path=PATH         a file or a block device, which must exist; required\n"
		"direct=MODE       on, off or auto: pass the page cache by (auto: where that can be)\n"
		"inline=MODE       on, off or auto: read and write on the lcore itself (auto: where that does not wait)",
	.keys = uring_keys,
	.parse = uring_parse,
	.open = uring_open,
	.destroy = uring_destroy,
	.info = uring_info,
	.lock = uring_lock,
	.queue_get = uring_queue_get,
	.queue_put = uring_queue_put,
	.submit = uring_submit,
	.reap = uring_reap,
	.cancel = uring_cancel,
	.arm = uring_arm,
	.resize = uring_resize,
};

static int
uring_parse(const struct rte_kvargs *args, bool read_only, struct vhub_blk_disk **out, char *error,
		size_t error_len)
{
	/* In the order of enum uring_direct and enum uring_inline. */
	static const char *const modes[] = { "auto", "on", "off", NULL };
	unsigned int direct = URING_DIRECT_AUTO, in_line = URING_INLINE_AUTO;
	const char *path = NULL;
	struct uring_disk *d;
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
	d = calloc(1, sizeof(*d));
	if (d == NULL)
		return -ENOMEM;
	d->disk.ops = &uring_ops;
	d->fd = -1;
	d->want_direct = (enum uring_direct)direct;
	d->want_inline = (enum uring_inline)in_line;
	d->read_only = read_only;
	d->path = strdup(path);
	if (d->path == NULL) {
		free(d);
		return -ENOMEM;
	}
	*out = &d->disk;
	return 0;
}

VHUB_BLK_DRIVER_REGISTER(uring_ops)
