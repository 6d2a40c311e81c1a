/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * I/O that the lcore does itself, by pread(2) and pwrite(2), where the target is memory: an io_uring
 * hands that to a thread of the kernel's, which takes longer than the copy. Called by open.c, which
 * asks what the image is, and by io.c's reap, for slots whose next step is of this kind.
 *
 *   INLINE_ALL     nothing waits: a file on tmpfs or ramfs; or whoever configured the disk says so
 *   INLINE_CACHED  reads that the page cache holds (RWF_NOWAIT says whether it does); what it does
 *                  not hold goes to the io_uring, and so do all writes
 */
#include <errno.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <linux/magic.h>
#include <rte_branch_prediction.h>

#include "uring_pvt.h"

/* What one reap moves, as a disk in memory does: around 100 us. Others have their turns then. */
#define TURN_BYTES (1u << 20)
/* Steps of a queue that go to the io_uring unasked once the page cache did not hold one. */
#define MISS_PAUSE 32u

/* ---- what an image is ---- */

static bool
is_memory(const struct uring_disk *d)
{
	struct statfs fs;

	if (d->block_device || fstatfs(d->fd, &fs) != 0)
		return false;
	return fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC;
}

/* A file system without RWF_NOWAIT says so whether the cache holds the first block or not. */
static bool
tells_what_is_cached(const struct uring_disk *d)
{
	uint8_t block[VHUB_BLK_SECTOR_BYTES];
	struct iovec iov = { block, sizeof(block) };

	return preadv2(d->fd, &iov, 1, 0, RWF_NOWAIT) >= 0 || errno == EAGAIN;
}

void
inline_learn(struct uring_disk *d)
{
	d->in_memory = is_memory(d);
	d->inline_kind = INLINE_NONE;
	if (d->want_inline == URING_INLINE_ON ||
			(d->want_inline == URING_INLINE_AUTO && d->in_memory))
		d->inline_kind = INLINE_ALL;
	else if (d->want_inline == URING_INLINE_AUTO && !d->direct && tells_what_is_cached(d))
		d->inline_kind = INLINE_CACHED;
}

/* ---- steps ---- */

bool
inline_is(const struct uring_queue *q, const struct uring_slot *slot)
{
	const struct vhub_blk_io *io = slot->io;

	if (likely(q->disk->inline_kind == INLINE_NONE) || slot->bounce != NULL)
		return false;
	if (q->disk->inline_kind == INLINE_CACHED)
		return io->op == VHUB_BLK_READ && !slot->not_cached;
	if (io->op == VHUB_BLK_READ)
		return true;
	/* To make something durable may take as long as storage likes, where it is not memory. */
	if (!q->disk->in_memory && (io->flags & VHUB_BLK_IO_FUA) != 0)
		return false;
	return io->op == VHUB_BLK_WRITE || (io->op == VHUB_BLK_FLUSH && q->disk->in_memory);
}

/* Returns the bytes moved or -errno; -EAGAIN with INLINE_CACHED: the io_uring is to do it. */
static int
transfer(const struct uring_disk *d, const struct uring_slot *slot, const struct uring_span *span)
{
	const struct vhub_blk_io *io = slot->io;
	const off_t offset = (off_t)(io->offset_bytes + slot->done_bytes);
	int flags = 0;
	ssize_t n;

	if (d->inline_kind == INLINE_CACHED)
		flags = RWF_NOWAIT;
	else if ((io->flags & VHUB_BLK_IO_FUA) != 0 && io->op == VHUB_BLK_WRITE)
		flags = RWF_DSYNC;
	if (flags != 0 || span->n > 1)
		n = io->op == VHUB_BLK_READ ? preadv2(d->fd, span->iov, span->n, offset, flags) :
					      pwritev2(d->fd, span->iov, span->n, offset, flags);
	else
		n = io->op == VHUB_BLK_READ ?
				pread(d->fd, span->iov->iov_base, span->iov->iov_len, offset) :
				pwrite(d->fd, span->iov->iov_base, span->iov->iov_len, offset);
	if (n < 0)
		return -errno;
	/* The file has ended; or it has not, and Linux 5.9 or 5.10 says so of what the cache does not hold. */
	return unlikely(n == 0 && d->inline_kind == INLINE_CACHED) ? -EAGAIN : (int)n;
}

static int
run_step(struct uring_queue *q, struct uring_slot *slot)
{
	struct uring_span span;

	if (slot->io->op == VHUB_BLK_FLUSH) {
		slot->step_bytes = 0;
		return fdatasync(q->disk->fd) == 0 ? 0 : -errno;
	}
	uring_next_span(slot, &span);
	return transfer(q->disk, slot, &span);
}

uint16_t
inline_run(struct uring_queue *q, struct vhub_blk_io **ios, uint16_t max)
{
	uint32_t bytes = 0;
	uint16_t n = 0;

	while (q->inline_ready.first != NULL && n < max && bytes < TURN_BYTES) {
		struct uring_slot *slot = uring_list_pop(&q->inline_ready);
		int res = -EAGAIN;

		if (likely(q->miss_pause == 0)) {
			res = run_step(q, slot);
			if (unlikely(res == -EAGAIN && q->disk->inline_kind == INLINE_CACHED))
				q->miss_pause = MISS_PAUSE;
		} else {
			q->miss_pause--;
		}
		if (unlikely(res == -EAGAIN && q->disk->inline_kind == INLINE_CACHED)) {
			slot->not_cached = true;
			uring_list_add(&q->ready, slot);
			continue;
		}
		bytes += slot->step_bytes;
		n += uring_end(q, slot, res, &ios[n]);
	}
	return n;
}
