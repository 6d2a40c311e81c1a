/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The null driver: writes go nowhere, there is nothing to erase, reads leave the buffer as it is, and all of it completes, at
 * once or after a fixed time. For measuring what everything but the storage costs, for tests of
 * slow and stuck storage, and for reading: it is the smallest driver that keeps the whole contract
 * of blk/vhub_blk.h. Called by lib/blk.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <rte_cycles.h>

#include "vhub_blk.h"

/* The disk. Lcores look at what is immutable once parsed. */
struct null_disk {
	struct vhub_blk_disk disk; /* first */
	uint64_t size_bytes;	   /* nobody but info and resize cares */
	uint64_t latency_us;
	bool read_only;
};

/*
 * What one lcore has in flight: a list in order of submission, which with one latency for all is
 * the order of completion.
 */
struct null_queue {
	struct vhub_blk_queue queue; /* first */
	struct vhub_blk_io *head;
	struct vhub_blk_io **tail;
	uint64_t latency_cycles;
};

/* As large as the guest likes: it is only a number. */
#define NULL_MAX_BYTES (UINT64_C(1) << 60)

/* The fields of struct vhub_blk_io that are a driver's own. */
#define IO_DUE 0 /* of io->driver: TSC at which it completes */

static int
null_parse(const struct rte_kvargs *args, bool read_only, struct vhub_blk_disk **out, char *error,
		size_t error_len);

static int
null_open(struct vhub_blk_disk *disk, char *error, size_t error_len)
{
	(void)disk;
	(void)error;
	(void)error_len;
	return 0;
}

static void
null_destroy(struct vhub_blk_disk *disk)
{
	free(vhub_container_of(disk, struct null_disk, disk));
}

static void
null_info(const struct vhub_blk_disk *disk, struct vhub_blk_info *info)
{
	const struct null_disk *d = vhub_container_of(disk, struct null_disk, disk);

	*info = (struct vhub_blk_info){
		.capacity_bytes = d->size_bytes,
		.block_bytes = 512,
		.physical_block_bytes = 4096,
		.discard_max_bytes = d->read_only ? 0 : VHUB_BLK_RANGE_MAX_BYTES,
		.write_zeroes_max_bytes = d->read_only ? 0 : VHUB_BLK_RANGE_MAX_BYTES,
		.secure_erase_max_bytes = d->read_only ? 0 : VHUB_BLK_RANGE_MAX_BYTES,
		.write_zeroes_may_unmap = true,
		.read_only = d->read_only,
		.target = "nothing",
	};
}

static int
null_queue_get(struct vhub_blk_disk *disk, struct vhub_blk_queue **out)
{
	const struct null_disk *d = vhub_container_of(disk, struct null_disk, disk);
	struct null_queue *q = calloc(1, sizeof(*q));

	if (q == NULL)
		return -ENOMEM;
	q->queue.disk = disk;
	q->tail = &q->head;
	/*
	 * Not known when arguments are parsed, which is before EAL has measured the clock. In this
	 * order, the product of an hour and a frequency fits into 64 bits.
	 */
	q->latency_cycles = d->latency_us * (rte_get_tsc_hz() / 1000) / 1000;
	*out = &q->queue;
	return 0;
}

static void
null_queue_put(struct vhub_blk_queue *queue)
{
	free(vhub_container_of(queue, struct null_queue, queue));
}

/* Accepts everything: the list has room for as many as there are. */
static uint16_t
null_submit(struct vhub_blk_queue *queue, struct vhub_blk_io *const *ios, uint16_t n)
{
	struct null_queue *q = vhub_container_of(queue, struct null_queue, queue);

	if (n == 0)
		return 0;
	*q->tail = ios[0];
	for (uint16_t i = 0; i < n; i++) {
		ios[i]->result = 0;
		ios[i]->next = i + 1 < n ? ios[i + 1] : NULL;
	}
	q->tail = &ios[n - 1]->next;
	if (q->latency_cycles != 0) {
		const uint64_t due = rte_rdtsc() + q->latency_cycles;

		for (uint16_t i = 0; i < n; i++)
			ios[i]->driver[IO_DUE] = due;
	}
	return n;
}

static uint16_t
null_reap(struct vhub_blk_queue *queue, struct vhub_blk_io **ios, uint16_t max)
{
	struct null_queue *q = vhub_container_of(queue, struct null_queue, queue);
	const uint64_t now = q->latency_cycles != 0 ? rte_rdtsc() : 0;
	struct vhub_blk_io *io = q->head;
	unsigned int n = 0;

	if (io == NULL)
		return 0;
	for (; io != NULL && n < max; io = io->next) {
		if (now != 0 && vhub_tsc_is_ahead(io->driver[IO_DUE], now, q->latency_cycles))
			break;
		ios[n++] = io;
	}
	q->head = io;
	if (io == NULL)
		q->tail = &q->head;
	return (uint16_t)n;
}

/* There is nothing to abort: they are due. */
static void
null_cancel(struct vhub_blk_queue *queue, vhub_blk_pick_fn wanted, const void *arg)
{
	struct null_queue *q = vhub_container_of(queue, struct null_queue, queue);
	struct vhub_blk_io *const *end = vhub_blk_cancel_list(&q->head, &q->tail, wanted, arg);

	for (struct vhub_blk_io *io = q->head; io != *end; io = io->next)
		io->driver[IO_DUE] = 0;
}

static int
null_resize(struct vhub_blk_disk *disk, uint64_t size_bytes, char *error, size_t error_len)
{
	if (size_bytes > NULL_MAX_BYTES) {
		snprintf(error, error_len, "size=%" PRIu64 ": allowed: 512 to 1024 P", size_bytes);
		return -EINVAL;
	}
	if (size_bytes != 0)
		vhub_container_of(disk, struct null_disk, disk)->size_bytes = size_bytes;
	return 0;
}

static const char *const null_keys[] = { "size", "latency_us", NULL };

/*
 * No `lock`: there is no image. No `arm`: nothing would wake a sleeping lcore, so it stays awake.
 */
static const struct vhub_blk_driver_ops null_ops = {
	.name = "null",
	.help = "size=SIZE         what the guest sees, with k, M, G or T (1G)\n"
		"latency_us=N      every request takes that long, in microseconds (0)",
	.keys = null_keys,
	.parse = null_parse,
	.open = null_open,
	.destroy = null_destroy,
	.info = null_info,
	.queue_get = null_queue_get,
	.queue_put = null_queue_put,
	.submit = null_submit,
	.reap = null_reap,
	.cancel = null_cancel,
	.resize = null_resize,
};

static int
null_parse(const struct rte_kvargs *args, bool read_only, struct vhub_blk_disk **out, char *error,
		size_t error_len)
{
	uint64_t size_bytes = UINT64_C(1) << 30, latency_us = 0;
	struct null_disk *d;
	int ret;

	ret = vhub_arg_size(args, "size", 512, NULL_MAX_BYTES, &size_bytes, error, error_len);
	if (ret == 0)
		ret = vhub_arg_uint(args, "latency_us", 0, UINT64_C(3600000000), &latency_us, error,
				error_len);
	if (ret != 0)
		return ret;
	if (size_bytes % 512 != 0) {
		snprintf(error, error_len, "size=%s: not a multiple of 512",
				rte_kvargs_get(args, "size"));
		return -EINVAL;
	}
	d = calloc(1, sizeof(*d));
	if (d == NULL)
		return -ENOMEM;
	d->disk.ops = &null_ops;
	d->size_bytes = size_bytes;
	d->latency_us = latency_us;
	d->read_only = read_only;
	*out = &d->disk;
	return 0;
}

VHUB_BLK_DRIVER_REGISTER(null_ops)
