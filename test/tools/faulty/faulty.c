/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A driver that lies, for tests of what has to find that out: a disk in memory on which every N-th
 * write goes wrong in one way. Loaded by vhubd --load, used as driver=faulty; the tests are in
 * test/e2e/test_perf_verify.py.
 *
 *   fault=none    all is right
 *   fault=drop    the write is acknowledged and done by nobody
 *   fault=swap    it lands where another block is, and that block lands here
 *   fault=tear    only its first half is stored
 *   fault=delay   it is acknowledged at once and stored LATE_WRITES writes later
 *   fault=fail    its first half is stored, and an error is told: no lie, and no mismatch
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_common.h>

#include "vhub_blk.h"

/* More than a pass over the small disks of the tests takes: a load in sequence comes by in time. */
#define LATE_WRITES 100u
#define LATE_BYTES 65536u

static const char *const fault_names[] = { "none", "drop", "swap", "tear", "delay", "fail", NULL };

enum fault {
	FAULT_NONE,
	FAULT_DROP,
	FAULT_SWAP,
	FAULT_TEAR,
	FAULT_DELAY,
	FAULT_FAIL
};

struct faulty_disk {
	struct vhub_blk_disk disk; /* first */
	uint8_t *data;
	uint64_t size_bytes;
	uint64_t every;
	unsigned int fault;
	bool read_only;
};

/* LCORE; a test uses one. */
struct faulty_queue {
	struct vhub_blk_queue queue; /* first */
	struct vhub_blk_io *head;
	struct vhub_blk_io **tail;
	uint64_t writes;
	/* FAULT_DELAY: what is still to be stored, and after how many writes. */
	uint64_t late_at;
	uint64_t late_offset;
	uint32_t late_bytes;
	uint8_t late[LATE_BYTES];
};

static struct faulty_disk *
disk_of(struct vhub_blk_disk *disk)
{
	return vhub_container_of(disk, struct faulty_disk, disk);
}

static int
faulty_parse(const struct rte_kvargs *args, bool read_only, struct vhub_blk_disk **out, char *error,
		size_t error_len);

static int
faulty_open(struct vhub_blk_disk *disk, char *error, size_t error_len)
{
	struct faulty_disk *d = disk_of(disk);

	d->data = calloc(1, d->size_bytes);
	if (d->data != NULL)
		return 0;
	snprintf(error, error_len, "no memory");
	return -ENOMEM;
}

static void
faulty_destroy(struct vhub_blk_disk *disk)
{
	free(disk_of(disk)->data);
	free(disk_of(disk));
}

static void
faulty_info(const struct vhub_blk_disk *disk, struct vhub_blk_info *info)
{
	const struct faulty_disk *d = vhub_container_of(disk, struct faulty_disk, disk);

	*info = (struct vhub_blk_info){
		.capacity_bytes = d->size_bytes,
		.block_bytes = 512,
		.physical_block_bytes = 512,
		.read_only = d->read_only,
		.target = "lies",
	};
}

static int
faulty_queue_get(struct vhub_blk_disk *disk, struct vhub_blk_queue **out)
{
	struct faulty_queue *q = calloc(1, sizeof(*q));

	if (q == NULL)
		return -ENOMEM;
	q->queue.disk = disk;
	q->tail = &q->head;
	*out = &q->queue;
	return 0;
}

static void
faulty_queue_put(struct vhub_blk_queue *queue)
{
	free(vhub_container_of(queue, struct faulty_queue, queue));
}

/* Between the guest and `at`, up to `most` bytes. */
static void
copy(const struct vhub_blk_io *io, uint8_t *at, size_t most)
{
	for (uint16_t i = 0; i < io->n_iov && most > 0; i++) {
		const size_t n = RTE_MIN(io->iov[i].iov_len, most);

		if (io->op == VHUB_BLK_READ)
			memcpy(io->iov[i].iov_base, at, n);
		else
			memcpy(at, io->iov[i].iov_base, n);
		at += n;
		most -= n;
	}
}

static void
swap_blocks(struct faulty_disk *d, uint64_t offset, uint32_t bytes)
{
	uint8_t *one = d->data + offset;
	uint8_t *other = d->data +
			(offset + 2 * (uint64_t)bytes <= d->size_bytes ? offset + bytes : 0);

	for (uint32_t i = 0; i < bytes; i++) {
		const uint8_t byte = one[i];

		one[i] = other[i];
		other[i] = byte;
	}
}

static void
store_late(struct faulty_disk *d, struct faulty_queue *q)
{
	if (q->late_bytes == 0 || q->writes < q->late_at)
		return;
	memcpy(d->data + q->late_offset, q->late, q->late_bytes);
	q->late_bytes = 0;
}

static void
write_wrongly(struct faulty_disk *d, struct faulty_queue *q, struct vhub_blk_io *io)
{
	uint8_t *at = d->data + io->offset_bytes;

	switch (d->fault) {
	case FAULT_DROP:
		break;
	case FAULT_SWAP:
		copy(io, at, io->len_bytes);
		swap_blocks(d, io->offset_bytes, io->len_bytes);
		break;
	case FAULT_DELAY:
		if (q->late_bytes == 0 && io->len_bytes <= LATE_BYTES) {
			copy(io, q->late, io->len_bytes);
			q->late_bytes = io->len_bytes;
			q->late_offset = io->offset_bytes;
			q->late_at = q->writes + LATE_WRITES;
			break;
		}
		copy(io, at, io->len_bytes);
		break;
	case FAULT_FAIL:
		io->result = -EIO;
		copy(io, at, io->len_bytes / 2);
		break;
	default:
		copy(io, at, io->len_bytes / 2);
		break;
	}
}

static void
serve(struct faulty_disk *d, struct faulty_queue *q, struct vhub_blk_io *io)
{
	io->result = 0;
	if (io->op == VHUB_BLK_READ) {
		copy(io, d->data + io->offset_bytes, io->len_bytes);
		return;
	}
	if (io->op != VHUB_BLK_WRITE)
		return;
	q->writes++;
	store_late(d, q);
	if (d->fault != FAULT_NONE && q->writes % d->every == 0)
		write_wrongly(d, q, io);
	else
		copy(io, d->data + io->offset_bytes, io->len_bytes);
}

static uint16_t
faulty_submit(struct vhub_blk_queue *queue, struct vhub_blk_io *const *ios, uint16_t n)
{
	struct faulty_queue *q = vhub_container_of(queue, struct faulty_queue, queue);

	for (uint16_t i = 0; i < n; i++) {
		serve(disk_of(queue->disk), q, ios[i]);
		ios[i]->next = NULL;
		*q->tail = ios[i];
		q->tail = &ios[i]->next;
	}
	return n;
}

static uint16_t
faulty_reap(struct vhub_blk_queue *queue, struct vhub_blk_io **ios, uint16_t max)
{
	struct faulty_queue *q = vhub_container_of(queue, struct faulty_queue, queue);
	uint16_t n = 0;

	while (n < max && q->head != NULL) {
		ios[n++] = q->head;
		q->head = q->head->next;
	}
	if (q->head == NULL)
		q->tail = &q->head;
	return n;
}

/* All that is in flight has been done. */
static void
faulty_cancel(struct vhub_blk_queue *queue, vhub_blk_pick_fn wanted, const void *arg)
{
	(void)queue;
	(void)wanted;
	(void)arg;
}

static const char *const faulty_keys[] = { "size", "fault", "every", NULL };

static const struct vhub_blk_driver_ops faulty_ops = {
	.name = "faulty",
	.help = "size=SIZE, fault=none|drop|swap|tear|delay|fail, every=N",
	.keys = faulty_keys,
	.parse = faulty_parse,
	.open = faulty_open,
	.destroy = faulty_destroy,
	.info = faulty_info,
	.queue_get = faulty_queue_get,
	.queue_put = faulty_queue_put,
	.submit = faulty_submit,
	.reap = faulty_reap,
	.cancel = faulty_cancel,
};

static int
faulty_parse(const struct rte_kvargs *args, bool read_only, struct vhub_blk_disk **out, char *error,
		size_t error_len)
{
	uint64_t size_bytes = 1 << 20, every = 50;
	unsigned int fault = FAULT_NONE;
	struct faulty_disk *d;
	int ret;

	ret = vhub_arg_choice(args, "fault", fault_names, &fault, error, error_len);
	if (ret == 0)
		ret = vhub_arg_size(args, "size", 512, 1 << 30, &size_bytes, error, error_len);
	if (ret == 0)
		ret = vhub_arg_uint(args, "every", 1, UINT32_MAX, &every, error, error_len);
	if (ret != 0)
		return ret;
	d = calloc(1, sizeof(*d));
	if (d == NULL)
		return -ENOMEM;
	d->disk.ops = &faulty_ops;
	d->size_bytes = size_bytes;
	d->every = every;
	d->fault = fault;
	d->read_only = read_only;
	*out = &d->disk;
	return 0;
}

VHUB_BLK_DRIVER_REGISTER(faulty_ops)
