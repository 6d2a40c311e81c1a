/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * DISCARD, WRITE_ZEROES and SECURE_ERASE of the uring driver: which of them an image has, and the
 * steps of one. Called by open.c and io.c; what only a blocking ioctl can do is in erase.c.
 *
 * Zeroes are made by whatever the image has: a hole, when the guest allows it, zeroed extents, or
 * zeroes that are written. The kernel runs fallocate(2) on threads of its own, never on the lcore.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <linux/falloc.h>
#include <linux/fs.h>
#include <rte_common.h>

#include "uring_pvt.h"

#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define ZERO (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE)

/* ---- what an image has ---- */

/* Behind the end of the file, where there is nothing to lose. */
static bool
file_can_punch(const struct uring_disk *d)
{
	off_t end = (off_t)RTE_ALIGN_CEIL(d->info.capacity_bytes + 4096, UINT64_C(4096));

	return fallocate(d->fd, PUNCH, end, 4096) == 0;
}

/*
 * Asked for a range that is no whole sector, the kernel says EOPNOTSUPP where the device has none of it, and
 * else EINVAL. One of no bytes may drop the page cache to the end of the device.
 */
static bool
device_can(const struct uring_disk *d, unsigned long request)
{
	uint64_t range[2] = { 1, 512 };

	return ioctl(d->fd, request, range) != 0 && errno == EINVAL;
}

static uint32_t
whole_blocks(uint32_t bytes, uint32_t block_bytes)
{
	return bytes - bytes % block_bytes;
}

int
range_learn(struct uring_disk *d, uint32_t file_block_bytes)
{
	const uint32_t max = whole_blocks(VHUB_BLK_RANGE_MAX_BYTES, d->info.block_bytes);
	uint32_t unit = file_block_bytes;
	struct stat st;

	if (d->read_only)
		return 0;
	d->info.write_zeroes_max_bytes = max;
	if (!d->block_device) {
		d->info.discard_max_bytes = file_can_punch(d) ? max : 0;
		d->info.write_zeroes_may_unmap = d->info.discard_max_bytes != 0;
	} else {
		if (fstat(d->fd, &st) != 0)
			return -errno;
		unit = uring_device_attribute(st.st_rdev, "discard_granularity");
		d->info.write_zeroes_may_unmap = uring_device_attribute(st.st_rdev,
								 "write_zeroes_max_bytes") != 0;
		d->info.discard_max_bytes = device_can(d, BLKDISCARD) ? max : 0;
		d->info.secure_erase_max_bytes = device_can(d, BLKSECDISCARD) ? max : 0;
	}
	d->info.discard_align_bytes = whole_blocks(unit, d->info.block_bytes);
	return 0;
}

/* ---- steps ---- */

void
range_init(const struct uring_queue *q, struct uring_slot *slot)
{
	const struct vhub_blk_io *io = slot->io;

	slot->by_eraser = q->disk->block_device && io->op != VHUB_BLK_WRITE_ZEROES;
	slot->zero_way = (io->flags & VHUB_BLK_IO_UNMAP) != 0 ? URING_ZERO_PUNCH : URING_ZERO_RANGE;
}

static void
prepare_zero_write(struct uring_slot *slot, struct io_uring_sqe *sqe)
{
	static const uint8_t zeroes[URING_ZEROES_BYTES] __attribute__((aligned(4096)));
	const struct vhub_blk_io *io = slot->io;

	slot->step_bytes = RTE_MIN(io->len_bytes - slot->done_bytes, URING_ZEROES_BYTES);
	io_uring_prep_write(sqe, URING_FIXED_FILE, zeroes, slot->step_bytes,
			io->offset_bytes + slot->done_bytes);
	if ((io->flags & VHUB_BLK_IO_FUA) != 0)
		sqe->rw_flags = RWF_DSYNC;
}

void
range_prepare(struct uring_queue *q, struct uring_slot *slot, struct io_uring_sqe *sqe)
{
	const struct vhub_blk_io *io = slot->io;
	int mode = PUNCH;

	slot->step_bytes = 0;
	if (slot->syncing) {
		io_uring_prep_fsync(sqe, URING_FIXED_FILE, IORING_FSYNC_DATASYNC);
		return;
	}
	if (io->op == VHUB_BLK_WRITE_ZEROES) {
		while ((q->no_zero_way >> slot->zero_way & 1) != 0)
			slot->zero_way++;
		if (slot->zero_way == URING_ZERO_WRITE) {
			prepare_zero_write(slot, sqe);
			return;
		}
		mode = slot->zero_way == URING_ZERO_PUNCH ? PUNCH : ZERO;
	}
	io_uring_prep_fallocate(sqe, URING_FIXED_FILE, mode, io->offset_bytes, io->len_bytes);
}

/* The last step of the range is over. */
static int
end_range(struct uring_slot *slot)
{
	if ((slot->io->flags & VHUB_BLK_IO_FUA) == 0 || slot->syncing)
		return 0;
	slot->syncing = true;
	return -EINPROGRESS;
}

static int
end_zero_write(const struct uring_disk *d, struct uring_slot *slot, int res)
{
	if (res == 0)
		return -EIO;
	slot->done_bytes += RTE_MIN((uint32_t)res, slot->step_bytes);
	slot->done_bytes = whole_blocks(slot->done_bytes, d->info.block_bytes);
	if ((uint32_t)res < slot->step_bytes && ++slot->tries >= URING_MAX_TRIES)
		return -EIO;
	/* Each of the writes was durable, if it had to be. */
	return slot->done_bytes == slot->io->len_bytes ? 0 : -EINPROGRESS;
}

int
range_end(struct uring_queue *q, struct uring_slot *slot, int res)
{
	bool zeroes = slot->io->op == VHUB_BLK_WRITE_ZEROES && !slot->syncing;

	if (res == -EOPNOTSUPP && zeroes && slot->zero_way != URING_ZERO_WRITE) {
		q->no_zero_way |= (uint8_t)(1u << slot->zero_way);
		return -EINPROGRESS;
	}
	if (res < 0)
		return res;
	slot->may_block = false;
	if (zeroes && slot->zero_way == URING_ZERO_WRITE)
		return end_zero_write(q->disk, slot, res);
	return end_range(slot);
}
