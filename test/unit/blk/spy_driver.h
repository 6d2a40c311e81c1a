/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A block driver that a test holds in its hand: what it accepts, when and how its I/Os complete,
 * and what it was asked. A program may include this once.
 */
#ifndef SPY_DRIVER_H
#define SPY_DRIVER_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vhub_blk.h"

#define SPY_MAX 512
#define SPY_RANGE_MAX_BYTES (128u << 10)

static struct {
	/* What a test sets. */
	bool volatile_cache;
	bool saved_at_end; /* as it says, but has no `save` */
	uint64_t capacity_bytes;
	bool no_ranges;		  /* neither discards nor zeroes nor erases */
	uint32_t range_max_bytes; /* of a discard; the others may have more */
	uint16_t accept;	  /* I/Os that submit still takes */
	uint16_t depth;		  /* I/Os in flight, at most */
	uint16_t release;	  /* I/Os that reap still gives out */
	bool newest_first;
	int result;
	int queue_get_result;
	int lock_result;
	int arm_result;
	unsigned int cancel_from; /* of those in flight, the first ones that cannot be aborted */
	/* What a test looks at. */
	struct vhub_blk_io *in_flight[SPY_MAX];
	unsigned int n_in_flight;
	struct vhub_blk_io *cancelled[SPY_MAX]; /* to be reaped */
	unsigned int n_cancelled;
	struct vhub_blk_io seen[SPY_MAX]; /* copies, as submitted */
	unsigned int n_seen;
	unsigned int n_submits;
	unsigned int n_reaps;
	unsigned int n_gets;
	unsigned int n_puts;
	unsigned int n_opens;
	unsigned int n_destroys;
	unsigned int n_locks;
	unsigned int n_unlocks;
} spy;

static inline void
spy_reset(void)
{
	memset(&spy, 0, sizeof(spy));
	spy.capacity_bytes = 1 << 20;
	spy.range_max_bytes = SPY_RANGE_MAX_BYTES;
	spy.accept = SPY_MAX;
	spy.depth = SPY_MAX;
	spy.release = SPY_MAX;
}

static int
spy_open(struct vhub_blk_disk *disk, char *error, size_t error_len)
{
	(void)disk;
	(void)error;
	(void)error_len;
	spy.n_opens++;
	return 0;
}

static void
spy_destroy(struct vhub_blk_disk *disk)
{
	spy.n_destroys++;
	free(disk);
}

static void
spy_info(const struct vhub_blk_disk *disk, struct vhub_blk_info *info)
{
	(void)disk;
	*info = (struct vhub_blk_info){
		.capacity_bytes = spy.capacity_bytes,
		.block_bytes = 512,
		.physical_block_bytes = 4096,
		.optimal_io_bytes = 65536,
		.volatile_cache = spy.volatile_cache,
		.saved_at_end = spy.saved_at_end,
		.discard_max_bytes = spy.no_ranges ? 0 : spy.range_max_bytes,
		.write_zeroes_max_bytes = spy.no_ranges ? 0 : 2 * spy.range_max_bytes,
		.secure_erase_max_bytes = spy.no_ranges ? 0 : 4 * spy.range_max_bytes,
		.discard_align_bytes = 8192,
		.write_zeroes_may_unmap = true,
		.target = "a test's hand",
	};
}

static int
spy_lock(struct vhub_blk_disk *disk, bool locked, char *error, size_t error_len)
{
	(void)disk;
	if (spy.lock_result != 0) {
		snprintf(error, error_len, "somebody else has it");
		return spy.lock_result;
	}
	*(locked ? &spy.n_locks : &spy.n_unlocks) += 1;
	return 0;
}

static int
spy_queue_get(struct vhub_blk_disk *disk, struct vhub_blk_queue **out)
{
	if (spy.queue_get_result != 0)
		return spy.queue_get_result;
	*out = calloc(1, sizeof(**out));
	(*out)->disk = disk;
	spy.n_gets++;
	return 0;
}

static void
spy_queue_put(struct vhub_blk_queue *queue)
{
	spy.n_puts++;
	free(queue);
}

static uint16_t
spy_submit(struct vhub_blk_queue *queue, struct vhub_blk_io *const *ios, uint16_t n)
{
	uint16_t i;

	(void)queue;
	spy.n_submits++;
	for (i = 0; i < n && spy.accept > 0 && spy.n_in_flight < spy.depth; i++, spy.accept--) {
		spy.in_flight[spy.n_in_flight++] = ios[i];
		spy.seen[spy.n_seen++] = *ios[i];
	}
	return i;
}

static uint16_t
spy_reap(struct vhub_blk_queue *queue, struct vhub_blk_io **ios, uint16_t max)
{
	uint16_t n;

	(void)queue;
	spy.n_reaps++;
	for (n = 0; n < max && spy.n_cancelled > 0; n++) {
		ios[n] = spy.cancelled[--spy.n_cancelled];
		ios[n]->result = -ECANCELED;
	}
	for (; n < max && spy.n_in_flight > 0 && spy.release > 0; n++, spy.release--) {
		unsigned int at = spy.newest_first ? spy.n_in_flight - 1 : 0;

		ios[n] = spy.in_flight[at];
		ios[n]->result = spy.result;
		spy.n_in_flight--;
		memmove(&spy.in_flight[at], &spy.in_flight[at + 1],
				(spy.n_in_flight - at) * sizeof(spy.in_flight[0]));
	}
	return n;
}

static void
spy_cancel(struct vhub_blk_queue *queue, vhub_blk_pick_fn wanted, const void *arg)
{
	unsigned int n_left = 0;

	(void)queue;
	for (unsigned int i = 0; i < spy.n_in_flight; i++) {
		if (i >= spy.cancel_from && wanted(spy.in_flight[i], arg))
			spy.cancelled[spy.n_cancelled++] = spy.in_flight[i];
		else
			spy.in_flight[n_left++] = spy.in_flight[i];
	}
	spy.n_in_flight = n_left;
}

static int
spy_arm(struct vhub_blk_queue *queue)
{
	(void)queue;
	return spy.arm_result;
}

static int
spy_resize(struct vhub_blk_disk *disk, uint64_t size_bytes, char *error, size_t error_len)
{
	(void)disk;
	if (size_bytes == 13 * 512) {
		snprintf(error, error_len, "no such size");
		return -ENOSPC;
	}
	if (size_bytes != 0)
		spy.capacity_bytes = size_bytes;
	return 0;
}

static int
spy_parse(const struct rte_kvargs *args, bool read_only, struct vhub_blk_disk **out, char *error,
		size_t error_len);

static const char *const spy_keys[] = { "size", NULL };

static const struct vhub_blk_driver_ops spy_ops = {
	.name = "spy",
	.help = "",
	.keys = spy_keys,
	.parse = spy_parse,
	.open = spy_open,
	.destroy = spy_destroy,
	.info = spy_info,
	.lock = spy_lock,
	.queue_get = spy_queue_get,
	.queue_put = spy_queue_put,
	.submit = spy_submit,
	.reap = spy_reap,
	.cancel = spy_cancel,
	.arm = spy_arm,
	.resize = spy_resize,
};

static int
spy_parse(const struct rte_kvargs *args, bool read_only, struct vhub_blk_disk **out, char *error,
		size_t error_len)
{
	(void)args;
	(void)read_only;
	(void)error;
	(void)error_len;
	*out = calloc(1, sizeof(**out));
	(*out)->ops = &spy_ops;
	return 0;
}

VHUB_BLK_DRIVER_REGISTER(spy_ops)

#endif /* SPY_DRIVER_H */
