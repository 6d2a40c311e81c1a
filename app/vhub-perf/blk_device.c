/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A disk: its session, what it can do, guest memory, rings, and every request prepared but for its
 * sector. Called by blk_run.c; next: blk_generator.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>

#include "blk.h"
#include "blk_verify.h"
#include "perf.h"

#define F(name) (UINT64_C(1) << VIRTIO_BLK_F_##name)

#define LEAST_RING 128u

static const struct frontend_feature names[] = {
	{ VIRTIO_BLK_F_MQ, "BLK_MQ", "--numjobs" },
	{ VIRTIO_BLK_F_FLUSH, "BLK_FLUSH", "--rw flush" },
	{ VIRTIO_BLK_F_DISCARD, "BLK_DISCARD", "--rw discard" },
	{ VIRTIO_BLK_F_WRITE_ZEROES, "BLK_WRITE_ZEROES", "--rw zeroes" },
	{ 0, NULL, NULL },
};

/* ---- session ---- */

static uint64_t
required_features(const struct blk_options *o)
{
	uint64_t features = 0;

	if (run_options.queues > 1)
		features |= F(MQ);
	if (o->rw == BLK_FLUSH)
		features |= F(FLUSH);
	if (o->rw == BLK_DISCARD)
		features |= F(DISCARD);
	if (o->rw == BLK_ZEROES)
		features |= F(WRITE_ZEROES);
	return features | run_ring_features();
}

static int
open_session(struct blk_device *d, const struct blk_options *o)
{
	const uint64_t required = required_features(o);
	const struct frontend_config config = {
		.path = d->path,
		.listen = run_options.listen,
		.patience_ms = run_options.patience_ms,
		.features = required | F(SIZE_MAX) | F(RO) | F(BLK_SIZE) | F(FLUSH),
		.required = required,
		.names = names,
		.n_rings = (uint16_t)run_options.queues,
		.inflight = o->inflight,
		.suspend = o->suspend_ns != 0,
	};

	return frontend_open(&config, &d->fe);
}

/* ---- what the disk can do ---- */

static int
check_queues(const struct blk_device *d, const struct virtio_blk_config *disk)
{
	const uint64_t told = run_options.queues > 1 ? disk->num_queues : 1;
	const uint64_t most = RTE_MIN(told, d->fe->max_queues);

	if (run_options.queues <= most)
		return 0;
	perf_error(d->path, "--numjobs %u: the disk has %" PRIu64 " queues", run_options.queues,
			most);
	return -ENOTSUP;
}

/* The part of the disk that is used, in blocks of bs. */
static int
check_range(const struct blk_device *d, const struct blk_options *o, uint64_t *n_blocks)
{
	const uint64_t left = d->capacity_bytes > o->offset_bytes ?
			d->capacity_bytes - o->offset_bytes :
			0;
	const uint64_t bytes = o->size_bytes != 0 ? o->size_bytes : left;

	*n_blocks = bytes / o->bs_bytes;
	if (bytes <= left && *n_blocks > 0)
		return 0;
	perf_error(d->path,
			"the disk has %" PRIu64 " bytes: no room for --offset %" PRIu64
			" and --size %" PRIu64 " in blocks of --bs %" PRIu64,
			d->capacity_bytes, o->offset_bytes, o->size_bytes, o->bs_bytes);
	return -EINVAL;
}

static int
check_disk(const struct blk_device *d, const struct blk_options *o,
		const struct virtio_blk_config *disk)
{
	const uint32_t block = (d->fe->features & F(BLK_SIZE)) != 0 ? disk->blk_size : 512;

	if ((d->fe->features & F(RO)) != 0 && blk_rw_writes(o->rw)) {
		perf_error(d->path, "--rw %s: the disk is read-only", blk_rw_name(o->rw));
		return -EROFS;
	}
	if (block != 0 && (o->bs_bytes % block != 0 || o->offset_bytes % block != 0)) {
		perf_error(d->path,
				"--bs %" PRIu64 ", --offset %" PRIu64
				": the disk has blocks of %u bytes",
				o->bs_bytes, o->offset_bytes, block);
		return -EINVAL;
	}
	if ((o->rw == BLK_DISCARD && o->bs_bytes / 512 > disk->max_discard_sectors) ||
			(o->rw == BLK_ZEROES &&
					o->bs_bytes / 512 > disk->max_write_zeroes_sectors)) {
		perf_error(d->path, "--bs %" PRIu64 ": the disk takes at most %u sectors in a %s",
				o->bs_bytes,
				o->rw == BLK_DISCARD ? disk->max_discard_sectors :
						       disk->max_write_zeroes_sectors,
				blk_rw_name(o->rw));
		return -EINVAL;
	}
	return check_queues(d, disk);
}

/* ---- queues ---- */

/* Bytes of data and in how many pieces: no piece is longer than the disk allows. */
static int
plan_data(struct blk_queue *q, const struct blk_device *d, const struct blk_options *o,
		const struct virtio_blk_config *disk)
{
	uint64_t most = o->bs_bytes, pieces;

	if (o->rw == BLK_FLUSH)
		return 0;
	if (q->segment) {
		q->data_bytes = sizeof(struct virtio_blk_discard_write_zeroes);
		q->piece_bytes = (uint32_t)q->data_bytes;
		q->data_pieces = 1;
		return 0;
	}
	if ((d->fe->features & F(SIZE_MAX)) != 0 && disk->size_max >= BLK_SECTOR_BYTES)
		most = RTE_MIN(most, disk->size_max / BLK_SECTOR_BYTES * BLK_SECTOR_BYTES);
	pieces = (o->bs_bytes + most - 1) / most;
	if (pieces > RING_MAX_PIECES - 2) {
		perf_error(d->path,
				"--bs %" PRIu64
				": the disk takes at most %u bytes in a segment, and %u segments are sent",
				o->bs_bytes, disk->size_max, RING_MAX_PIECES - 2);
		return -EINVAL;
	}
	q->data_bytes = o->bs_bytes;
	q->piece_bytes = (uint32_t)most;
	q->data_pieces = (uint16_t)pieces;
	return 0;
}

static int
plan_queue(struct blk_queue *q, const struct blk_device *d, const struct blk_options *o,
		const struct virtio_blk_config *disk)
{
	q->device = d;
	q->depth = o->iodepth;
	q->first_sector = o->offset_bytes / BLK_SECTOR_BYTES;
	q->block_sectors = (uint32_t)(o->bs_bytes / BLK_SECTOR_BYTES);
	q->random = o->rw != BLK_READ && o->rw != BLK_WRITE && o->rw != BLK_RW;
	q->bytes_each = o->rw != BLK_FLUSH ? o->bs_bytes : 0;
	q->has_sector = o->rw != BLK_FLUSH;
	q->segment = o->rw == BLK_DISCARD || o->rw == BLK_ZEROES;
	q->mixed = o->rw == BLK_RW || o->rw == BLK_RANDRW;
	q->mix_read = (uint32_t)RTE_MIN((UINT64_C(1) << 32) * o->rwmixread / 100, UINT32_MAX);
	q->writes = blk_rw_writes(o->rw);
	q->touch = o->touch && !q->segment && o->rw != BLK_FLUSH;
	q->rotate = run_options.in_order && !run_options.packed;
	q->paced = run_options.rate != 0;
	return plan_data(q, d, o, disk);
}

static void
plan_ring(const struct blk_queue *q, uint16_t index, struct ring_config *config)
{
	const uint32_t stride = run_options.indirect ? 1 : q->data_pieces + 2u;
	uint32_t size = run_options.ring_size;

	if (size == 0)
		size = RTE_MAX(LEAST_RING, rte_align32pow2(q->depth * stride));
	*config = (struct ring_config){
		.name = q->device->path,
		.index = index,
		.size = (uint16_t)size,
		.pieces = (uint16_t)(q->data_pieces + 2u),
		.indirect = run_options.indirect,
		.poll = run_options.poll,
		.features = q->device->fe->features,
	};
}

/* Slots that have a request: with rotation all. */
static uint16_t
used_slots(const struct blk_queue *q, const struct ring_config *config)
{
	return q->rotate ? ring_slots(config) : (uint16_t)q->depth;
}

static uint64_t
queue_bytes(const struct blk_queue *q, const struct ring_config *config)
{
	const uint64_t slots = used_slots(q, config);

	return ring_memory_bytes(config) + slots * (sizeof(struct blk_request) + q->data_bytes) +
			3 * 4096;
}

static uint32_t
request_type(const struct blk_options *o)
{
	switch (o->rw) {
	case BLK_FLUSH:
		return VIRTIO_BLK_T_FLUSH;
	case BLK_DISCARD:
		return VIRTIO_BLK_T_DISCARD;
	case BLK_ZEROES:
		return VIRTIO_BLK_T_WRITE_ZEROES;
	default:
		return blk_rw_writes(o->rw) ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
	}
}

void
blk_prepare(struct blk_queue *q, uint16_t slot, bool read)
{
	struct ring_piece pieces[RING_MAX_PIECES];
	uint8_t *data = q->data != NULL ? q->data + slot * q->data_bytes : NULL;
	uint64_t left = q->data_bytes;
	unsigned int n = 0;

	pieces[n++] = (struct ring_piece){ &q->requests[slot].header,
		sizeof(q->requests[slot].header), false };
	for (; left > 0; n++) {
		const uint32_t bytes = (uint32_t)RTE_MIN(left, q->piece_bytes);

		pieces[n] = (struct ring_piece){ data, bytes, read };
		data += bytes;
		left -= bytes;
	}
	pieces[n++] = (struct ring_piece){ &q->requests[slot].status, 1, true };
	ring_prepare(q->ring, slot, pieces, n);
}

static int
fill_queue(struct blk_queue *q, struct blk_device *d, const struct blk_options *o, uint16_t slots)
{
	const bool read = request_type(o) == VIRTIO_BLK_T_IN;

	q->requests = memory_alloc(&d->mem, slots * sizeof(*q->requests), 128);
	if (q->data_bytes > 0)
		q->data = memory_alloc(&d->mem, slots * q->data_bytes, 4096);
	q->free = calloc(slots, sizeof(*q->free));
	q->sent = calloc(slots, sizeof(*q->sent));
	q->is_read = calloc(slots, sizeof(*q->is_read));
	if (q->requests == NULL || (q->data == NULL && q->data_bytes > 0) || q->free == NULL ||
			q->sent == NULL || q->is_read == NULL)
		return -ENOMEM;
	q->least_used = read ? (uint32_t)q->data_bytes : 0;
	for (uint16_t slot = 0; slot < slots; slot++) {
		q->requests[slot].header.type = request_type(o);
		q->is_read[slot] = read;
		blk_prepare(q, slot, read);
	}
	/* The last one is taken first. */
	for (q->n_free = 0; q->n_free < q->depth; q->n_free++)
		q->free[q->n_free] = (uint16_t)(q->depth - 1 - q->n_free);
	return 0;
}

static int
make_queues(struct blk_device *d, const struct blk_options *o, const struct virtio_blk_config *disk,
		uint64_t n_blocks)
{
	struct ring_config config;
	uint64_t bytes = 0;
	int ret = 0;

	for (uint16_t i = 0; ret == 0 && i < d->n_queues; i++) {
		ret = plan_queue(&d->queues[i], d, o, disk);
		plan_ring(&d->queues[i], i, &config);
		bytes += queue_bytes(&d->queues[i], &config);
	}
	if (ret == 0 && ring_slots(&config) < o->iodepth) {
		perf_error(d->path,
				"--iodepth %u: a ring of %u has room for %u such requests: a larger --ring-size, or --indirect",
				o->iodepth, config.size, ring_slots(&config));
		ret = -EINVAL;
	}
	if (ret == 0)
		ret = memory_create(bytes, run_options.hugepages, &d->mem);
	for (uint16_t i = 0; ret == 0 && i < d->n_queues; i++) {
		struct blk_queue *q = &d->queues[i];

		plan_ring(q, i, &config);
		ret = ring_create(&config, &d->mem, &d->rings[i]);
		if (ret != 0)
			return ret;
		q->ring = d->rings[i];
		q->n_blocks = n_blocks;
		q->next_block = n_blocks / d->n_queues * i;
		q->random_state = 0x9e3779b97f4a7c15 * (i + 1u);
		q->mix_state = 0xd1b54a32d192ed03 * (i + 1u);
		ret = fill_queue(q, d, o, used_slots(q, &config));
		if (ret == 0 && o->verify)
			ret = blk_verify_create(q, (uintptr_t)d + rte_rdtsc(),
					n_blocks / d->n_queues * i, n_blocks / d->n_queues);
	}
	return ret;
}

/* ---- open and close ---- */

int
blk_device_open(struct blk_device *d, const struct blk_options *o, const char *path)
{
	struct virtio_blk_config disk;
	uint64_t n_blocks;
	int ret = -ENOMEM;

	d->path = strdup(path);
	d->n_queues = (uint16_t)run_options.queues;
	d->rings = calloc(run_options.queues, sizeof(*d->rings));
	d->queues = aligned_alloc(RTE_CACHE_LINE_SIZE, run_options.queues * sizeof(*d->queues));
	if (d->queues != NULL)
		memset(d->queues, 0, run_options.queues * sizeof(*d->queues));
	if (d->path != NULL && d->rings != NULL && d->queues != NULL)
		ret = open_session(d, o);
	/* Up to what DISCARD and WRITE_ZEROES have: what every back end knows that is not older. */
	if (ret == 0)
		ret = frontend_read_config(d->fe, &disk,
				offsetof(struct virtio_blk_config, max_secure_erase_sectors));
	if (ret != 0)
		return ret;
	d->capacity_bytes = disk.capacity * BLK_SECTOR_BYTES;
	ret = check_disk(d, o, &disk);
	if (ret == 0)
		ret = check_range(d, o, &n_blocks);
	if (ret == 0)
		ret = make_queues(d, o, &disk, n_blocks);
	return ret == 0 ? frontend_start(d->fe, &d->mem, d->rings) : ret;
}

void
blk_device_close(struct blk_device *d)
{
	frontend_close(d->fe);
	for (uint16_t i = 0; i < d->n_queues; i++) {
		if (d->rings != NULL)
			ring_destroy(d->rings[i]);
		if (d->queues == NULL)
			continue;
		free(d->queues[i].free);
		free(d->queues[i].sent);
		free(d->queues[i].is_read);
		blk_verify_destroy(&d->queues[i]);
	}
	free(d->rings);
	free(d->queues);
	memory_destroy(&d->mem);
	free(d->path);
}
