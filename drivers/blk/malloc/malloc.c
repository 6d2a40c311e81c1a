/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The malloc driver: a disk in memory, in huge pages where there are some. What it holds is gone
 * when vhubd ends. Called by lib/blk.
 *
 * Copying and zeroing is done by the lcore itself, so one guest's large requests would keep it from
 * all others: a reap, of which there is one in a turn, does at most TURN_BYTES; what is left goes on with the
 * next.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_branch_prediction.h>
#include <rte_common.h>
#include <rte_prefetch.h>

#include "vhub_alloc.h"
#include "vhub_blk.h"
#include "vhub_log.h"

VHUB_LOGTYPE(blk)

/* Around 100 us at the speed of memory. */
#define TURN_BYTES (1u << 20)
/* Of the next I/O, fetched while one is copied. */
#define AHEAD_BYTES 512u
/* How many times its first size a disk can have: only addresses are taken for that. */
#define GROWTH 16

struct malloc_disk {
	struct vhub_blk_disk disk; /* first */
	uint64_t size_bytes;
	/* From open on. */
	uint8_t *data;
	uint64_t reserved_bytes; /* addresses, of which the first mapped_bytes are memory */
	uint64_t mapped_bytes;
	bool read_only;
};

/* Submitted I/Os in order; those before `next` are done. */
struct malloc_queue {
	struct vhub_blk_queue queue; /* first */
	uint8_t *data;
	struct vhub_blk_io *head;
	struct vhub_blk_io **tail;
	struct vhub_blk_io *next;
	/* Progress in `next`. */
	uint32_t done_bytes; /* of the I/O */
	uint16_t iov_index;
	size_t iov_done_bytes; /* of that iovec */
};

static int
malloc_parse(const struct rte_kvargs *args, bool read_only, struct vhub_blk_disk **out, char *error,
		size_t error_len);

static int
too_large(uint64_t size_bytes, char *error, size_t error_len)
{
	snprintf(error, error_len, "size=%" PRIu64 ": there is not so much free memory",
			size_bytes);
	return -ENOMEM;
}

/* Has memory up to `size_bytes`, in whole huge pages. */
static int
map_to(struct malloc_disk *d, uint64_t size_bytes, char *error, size_t error_len)
{
	uint64_t bytes = vhub_huge_round(size_bytes);
	bool huge = false;
	int ret;

	ret = vhub_huge_extend(d->data, d->mapped_bytes, bytes, -1, &huge);
	if (ret != 0)
		return too_large(size_bytes, error, error_len);
	VHUB_LOG(DEBUG, "%" PRIu64 " bytes of disk in %s pages", bytes - d->mapped_bytes,
			huge ? "huge" : "ordinary");
	d->mapped_bytes = bytes;
	return 0;
}

static int
malloc_open(struct vhub_blk_disk *disk, char *error, size_t error_len)
{
	struct malloc_disk *d = vhub_container_of(disk, struct malloc_disk, disk);
	int ret;

	if (d->data != NULL)
		return 0;
	d->reserved_bytes = d->size_bytes * GROWTH;
	d->data = vhub_huge_reserve(d->reserved_bytes);
	if (d->data == NULL) { /* addresses may be limited as well */
		d->reserved_bytes = d->size_bytes;
		d->data = vhub_huge_reserve(d->reserved_bytes);
	}
	ret = d->data != NULL ? map_to(d, d->size_bytes, error, error_len) :
				too_large(d->size_bytes, error, error_len);
	if (ret != 0 && d->data != NULL) {
		vhub_free_huge(d->data, d->reserved_bytes);
		d->data = NULL;
	}
	return ret;
}

static void
malloc_destroy(struct vhub_blk_disk *disk)
{
	struct malloc_disk *d = vhub_container_of(disk, struct malloc_disk, disk);

	if (d->data != NULL)
		vhub_free_huge(d->data, d->reserved_bytes);
	free(d);
}

static void
malloc_info(const struct vhub_blk_disk *disk, struct vhub_blk_info *info)
{
	const struct malloc_disk *d = vhub_container_of(disk, struct malloc_disk, disk);

	*info = (struct vhub_blk_info){
		.capacity_bytes = d->size_bytes,
		.block_bytes = 512,
		.physical_block_bytes = 4096,
		.discard_max_bytes = d->read_only ? 0 : VHUB_BLK_RANGE_MAX_BYTES,
		.write_zeroes_max_bytes = d->read_only ? 0 : VHUB_BLK_RANGE_MAX_BYTES,
		.secure_erase_max_bytes = d->read_only ? 0 : VHUB_BLK_RANGE_MAX_BYTES,
		.read_only = d->read_only,
		.target = "memory",
	};
}

static int
malloc_queue_get(struct vhub_blk_disk *disk, struct vhub_blk_queue **out)
{
	struct malloc_queue *q = calloc(1, sizeof(*q));

	if (q == NULL)
		return -ENOMEM;
	q->queue.disk = disk;
	q->data = vhub_container_of(disk, struct malloc_disk, disk)->data;
	q->tail = &q->head;
	*out = &q->queue;
	return 0;
}

static void
malloc_queue_put(struct vhub_blk_queue *queue)
{
	free(vhub_container_of(queue, struct malloc_queue, queue));
}

/* Copies up to `budget` bytes of q->next. Returns how many. */
static uint32_t
copy_some(struct malloc_queue *q, uint32_t budget)
{
	const struct vhub_blk_io *io = q->next;
	uint32_t copied = 0;

	while (q->done_bytes < io->len_bytes && copied < budget) {
		const struct iovec *iov = &io->iov[q->iov_index];
		size_t n = RTE_MIN(iov->iov_len - q->iov_done_bytes, (size_t)(budget - copied));
		uint8_t *guest = (uint8_t *)iov->iov_base + q->iov_done_bytes;
		uint8_t *disk = q->data + io->offset_bytes + q->done_bytes;

		if (io->op == VHUB_BLK_READ)
			memcpy(guest, disk, n);
		else
			memcpy(disk, guest, n);
		copied += (uint32_t)n;
		q->done_bytes += (uint32_t)n;
		q->iov_done_bytes += n;
		if (q->iov_done_bytes == iov->iov_len) {
			q->iov_index++;
			q->iov_done_bytes = 0;
		}
	}
	return copied;
}

/* The pages stay the disk's, so whatever a guest wants erased is overwritten. */
static uint32_t
zero_some(struct malloc_queue *q, uint32_t budget)
{
	const struct vhub_blk_io *io = q->next;
	uint32_t n = RTE_MIN(io->len_bytes - q->done_bytes, budget);

	memset(q->data + io->offset_bytes + q->done_bytes, 0, n);
	q->done_bytes += n;
	return n;
}

/* The whole of q->next, which has not begun. */
static void
copy_all(const struct malloc_queue *q)
{
	const struct vhub_blk_io *io = q->next;
	uint8_t *disk = q->data + io->offset_bytes;

	for (uint16_t i = 0; i < io->n_iov; i++) {
		const struct iovec *iov = &io->iov[i];

		if (io->op == VHUB_BLK_READ)
			memcpy(iov->iov_base, disk, iov->iov_len);
		else
			memcpy(disk, iov->iov_base, iov->iov_len);
		disk += iov->iov_len;
	}
}

/*
 * Fetches the beginning of what an I/O reads, while the one before it is copied. The processor sees
 * by itself that a copy goes on, but not where the next one begins. Never of what is written: that
 * would take lines away from a guest that may still use them.
 */
static void
fetch_source(const struct malloc_queue *q, const struct vhub_blk_io *io)
{
	const uint8_t *from;
	size_t n = AHEAD_BYTES;

	if (io->op == VHUB_BLK_READ) {
		from = q->data + io->offset_bytes;
		n = RTE_MIN(n, (size_t)io->len_bytes);
	} else if (io->op == VHUB_BLK_WRITE) {
		from = io->iov[0].iov_base;
		n = RTE_MIN(n, io->iov[0].iov_len);
	} else {
		return;
	}
	for (size_t at = 0; at < n; at += RTE_CACHE_LINE_SIZE)
		rte_prefetch0(from + at);
}

static void
run(struct malloc_queue *q, uint32_t budget)
{
	while (q->next != NULL && budget > 0) {
		struct vhub_blk_io *io = q->next;

		if (io->next != NULL)
			fetch_source(q, io->next);
		if (likely(io->op <= VHUB_BLK_WRITE && q->done_bytes == 0 &&
				    io->len_bytes <= budget)) {
			copy_all(q);
			budget -= io->len_bytes;
		} else {
			budget -= io->op <= VHUB_BLK_FLUSH ? copy_some(q, budget) :
							     zero_some(q, budget);
			if (q->done_bytes < io->len_bytes)
				return;
			q->done_bytes = 0;
			q->iov_index = 0;
		}
		io->result = 0;
		q->next = io->next;
	}
}

static uint16_t
malloc_submit(struct vhub_blk_queue *queue, struct vhub_blk_io *const *ios, uint16_t n)
{
	struct malloc_queue *q = vhub_container_of(queue, struct malloc_queue, queue);

	for (uint16_t i = 0; i < n; i++) {
		ios[i]->next = NULL;
		*q->tail = ios[i];
		q->tail = &ios[i]->next;
		if (q->next == NULL)
			q->next = ios[i];
	}
	return n;
}

static uint16_t
malloc_reap(struct vhub_blk_queue *queue, struct vhub_blk_io **ios, uint16_t max)
{
	struct malloc_queue *q = vhub_container_of(queue, struct malloc_queue, queue);
	uint16_t n = 0;

	run(q, TURN_BYTES);
	while (n < max && q->head != q->next) {
		ios[n++] = q->head;
		q->head = q->head->next;
	}
	if (q->head == NULL)
		q->tail = &q->head;
	return n;
}

/* Whatever is in flight goes on with the next reap. */
static int
malloc_arm(struct vhub_blk_queue *queue)
{
	struct malloc_queue *q = vhub_container_of(queue, struct malloc_queue, queue);

	return q->head == NULL ? 0 : -EAGAIN;
}

/*
 * Lcores go on meanwhile: the area grows at its end, and nothing of it is given back. What a disk
 * that became smaller had there reads as zero when it grows again.
 */
static int
malloc_resize(struct vhub_blk_disk *disk, uint64_t size_bytes, char *error, size_t error_len)
{
	struct malloc_disk *d = vhub_container_of(disk, struct malloc_disk, disk);

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
		int ret = map_to(d, size_bytes, error, error_len);

		if (ret != 0)
			return ret;
	}
	d->size_bytes = size_bytes;
	return 0;
}

static const char *const malloc_keys[] = { "size", NULL };

static const struct vhub_blk_driver_ops malloc_ops = {
	.name = "malloc",
	.help = "size=SIZE         size of the disk, with k, M, G or T; required",
	.keys = malloc_keys,
	.parse = malloc_parse,
	.open = malloc_open,
	.destroy = malloc_destroy,
	.info = malloc_info,
	.queue_get = malloc_queue_get,
	.queue_put = malloc_queue_put,
	.submit = malloc_submit,
	.reap = malloc_reap,
	.arm = malloc_arm,
	.resize = malloc_resize,
};

static int
malloc_parse(const struct rte_kvargs *args, bool read_only, struct vhub_blk_disk **out, char *error,
		size_t error_len)
{
	struct malloc_disk *d;
	uint64_t size_bytes = 0;
	int ret;

	ret = vhub_arg_size(args, "size", 512, UINT64_C(1) << 46, &size_bytes, error, error_len);
	if (ret != 0)
		return ret;
	if (size_bytes % 512 != 0 || size_bytes == 0) {
		snprintf(error, error_len,
				size_bytes == 0 ?
						"size= is missing; allowed: 512 or more, with k, M, G or T" :
						"size=%s: not a multiple of 512",
				rte_kvargs_get(args, "size"));
		return -EINVAL;
	}
	d = calloc(1, sizeof(*d));
	if (d == NULL)
		return -ENOMEM;
	d->disk.ops = &malloc_ops;
	d->size_bytes = size_bytes;
	d->read_only = read_only;
	*out = &d->disk;
	return 0;
}

VHUB_BLK_DRIVER_REGISTER(malloc_ops)
