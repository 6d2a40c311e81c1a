/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The eraser: a thread of a disk on a block device (blk/thread.c), for the ioctls that discard and
 * erase, since they block and io_uring has none of them on the kernels that we run on. Called by
 * io.c, where range.c has decided so. There is no thread for files.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/fs.h>

#include "uring_pvt.h"

struct uring_eraser {
	struct vhub_blk_thread thread;
	struct uring_disk *disk;
};

static int
erase(struct uring_disk *d, const struct vhub_blk_io *io)
{
	const struct uring_slot *slot = eraser_slot_of(io);
	uint64_t range[2] = { io->offset_bytes, io->len_bytes };
	unsigned long request = io->op == VHUB_BLK_SECURE_ERASE ? BLKSECDISCARD : BLKDISCARD;
	int result;

	/* Relaxed: it may as well have begun a moment ago. */
	if (__atomic_load_n(&slot->cancelled, __ATOMIC_RELAXED))
		return -ECANCELED;
	if (ioctl(d->fd, request, range) != 0)
		return -errno;
	if ((io->flags & VHUB_BLK_IO_FUA) == 0 || fdatasync(d->fd) == 0)
		return 0;
	result = -errno;
	lost_look(d, LOST_BY_SYNC, result);
	return result;
}

static void
serve(struct vhub_blk_thread *thread, struct vhub_blk_io *io)
{
	struct uring_eraser *eraser = vhub_container_of(thread, struct uring_eraser, thread);

	while (io != NULL) {
		struct vhub_blk_io *next = io->next; /* it is its queue's again once given back */

		vhub_blk_thread_give_back(io, erase(eraser->disk, io));
		io = next;
	}
}

int
eraser_start(struct uring_disk *d)
{
	struct uring_eraser *eraser;
	int ret;

	if (!d->block_device ||
			(d->info.discard_max_bytes == 0 && d->info.secure_erase_max_bytes == 0))
		return 0;
	eraser = calloc(1, sizeof(*eraser));
	if (eraser == NULL)
		return -ENOMEM;
	eraser->disk = d;
	eraser->thread.serve = serve;
	ret = vhub_blk_thread_start(&eraser->thread, "vhub-erase");
	if (ret != 0) {
		free(eraser);
		return ret;
	}
	d->eraser = eraser;
	return 0;
}

void
eraser_stop(struct uring_eraser *eraser)
{
	if (eraser == NULL)
		return;
	vhub_blk_thread_stop(&eraser->thread);
	free(eraser);
}

void
eraser_submit(struct uring_queue *q, struct uring_slot *slot)
{
	slot->io->driver[ERASER_IO_SLOT] = (uintptr_t)slot;
	vhub_blk_thread_submit(&q->disk->eraser->thread, &q->erasing, slot->io);
}
