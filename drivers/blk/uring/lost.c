/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writes that were acknowledged from the page cache and are lost, because the kernel could not write
 * them back. Called by io.c, and by the eraser's thread, with what has ended.
 *
 * After a failed fdatasync(2) nobody knows what of all that was written the image has. The kernel
 * tells of it once for all who share an open file, as our lcores do, and holds the pages for clean:
 * the next fdatasync(2) says that all is well. So the disk remembers, and whatever has to be durable
 * is an error until the image is opened anew. Nothing in memory is ever durable.
 *
 * O_DIRECT to a block device leaves nothing to be written back: each write has its own error. To a file it
 * may: what a file system cannot write directly (XFS with reflink: less than its block) goes through the
 * page cache all the same, and the write ends well. So there a failed fdatasync(2) tells of a loss. A
 * durable write that fails has its own error as well, and that is far more likely: it is not taken for one,
 * since guests either flush or have all of their writes durable.
 *
 * Not caught: when two sync at the same time, the one without an error may end here a moment before
 * the one that has it; and with O_DIRECT, a loss that a durable write is told, of a guest that has gone
 * over to those and has not flushed before. And taken for a loss that is none: a durable write of a part
 * of a page which the storage cannot read.
 */
#include <errno.h>
#include <string.h>

#include "uring_pvt.h"
#include "vhub_log.h"

VHUB_LOGTYPE(blk)

/*
 * A write with RWF_DSYNC has errors of two kinds: its own, after which it has not been done, and
 * those of writing back, of itself or of whatever else. Own ones are told by what they are.
 *
 * ENOSPC may be either. Of a file it is taken for the write's own: that is what an image with holes
 * gives on a full file system, and it should work again as soon as there is room. File systems find
 * the room before a page is written to, so that writing it back lacks none, unless the storage below
 * has less than it promised, or is another machine's (NFS, with quotas as well): there the request has its
 * error, and a later flush may not. A write to a block device takes no room, so the storage lacks it, and
 * something was lost.
 */
static bool
is_of_write(const struct uring_disk *d, int error)
{
	switch (error) {
	case EBADF:
	case EDQUOT:
	case EFAULT:
	case EFBIG:
	case EINVAL:
	case ENOMEM:
	case EOPNOTSUPP:
	case EPERM:
		return true;
	case ENOSPC:
		return !d->block_device;
	default:
		return false;
	}
}

bool
lost_tells(const struct uring_disk *d, enum lost_kind kind, int res)
{
	if (d->in_memory || kind == LOST_NEVER)
		return false;
	if (d->direct && (d->block_device || kind != LOST_BY_SYNC))
		return false;
	/* Not done, or not to its end: it is done again, or somebody else does it. */
	if (res >= 0 || res == -EAGAIN || res == -EINTR || res == -ECANCELED)
		return false;
	return kind == LOST_BY_SYNC || !is_of_write(d, -res);
}

void
lost_look(struct uring_disk *d, enum lost_kind kind, int res)
{
	int none = 0;

	if (!lost_tells(d, kind, res))
		return;
	/*
	 * Relaxed: a guest that sends a flush because of another one's end has got that end through
	 * its rings, which order more than this.
	 */
	if (__atomic_compare_exchange_n(&d->lost, &none, -res, false, __ATOMIC_RELAXED,
			    __ATOMIC_RELAXED))
		VHUB_LOG(ERR,
				"%s: the page cache could not be written back, so writes may be lost: %s; flushes and "
				"durable writes fail from now on: check the storage, then take the disk away and "
				"add it again, or restart",
				d->path, strerror(-res));
}

enum lost_kind
lost_kind_of(const struct uring_slot *slot)
{
	const struct vhub_blk_io *io = slot->io;

	if (io->op == VHUB_BLK_FLUSH || slot->syncing)
		return LOST_BY_SYNC;
	if ((io->flags & VHUB_BLK_IO_FUA) == 0)
		return LOST_NEVER;
	if (io->op == VHUB_BLK_WRITE_ZEROES && slot->zero_way == URING_ZERO_WRITE)
		return LOST_BY_WRITE;
	return io->op == VHUB_BLK_WRITE ? LOST_BY_WRITE : LOST_NEVER;
}
