/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Verified load on an lcore (blk_verify.h): which block is read or written next, and whether what
 * came back is right. Called by blk_verify_run.c; the content of a sector is pattern.c's.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <rte_pause.h>

#include "blk_verify.h"
#include "pattern.h"
#include "perf.h"
#include "ring_fast.h"
#include "vhub_common.h"

/* Mismatches that are told; all are counted. */
#define MAX_TOLD 10u

static unsigned int n_told; /* of all lcores */

/* ---- what is where ---- */

static uint64_t
block_sector(const struct blk_queue *q, uint32_t block)
{
	return q->first_sector + (q->verify->first_block + block) * q->block_sectors;
}

static uint8_t *
slot_data(const struct blk_queue *q, uint16_t slot)
{
	return q->data + slot * q->data_bytes;
}

static bool
is_known(const struct verify_block *b)
{
	return b->acked != 0 && !b->spoilt;
}

/* ---- check ---- */

static void
tell_mismatch(const struct blk_queue *q, const void *data, uint64_t sector,
		const struct verify_block *b)
{
	char got[160], or [48] = "";

	vhub_count(&q->figures->errors[BLK_ERROR_MISMATCH], 1);
	if (__atomic_fetch_add(&n_told, 1, __ATOMIC_RELAXED) >= MAX_TOLD)
		return;
	if (b->maybe != 0)
		snprintf(or, sizeof(or), " (or %u, whose write failed)", b->maybe);
	perf_error(q->device->path, "sector %" PRIu64 ": expected its generation %u%s, got %s",
			sector, b->acked, or,
			pattern_describe(data, q->verify->seed, sector, got, sizeof(got)));
}

/* Every sector of the block; the first wrong one is told. */
static void
check_block(struct blk_queue *q, uint16_t slot, struct verify_block *b, uint64_t sector)
{
	const uint8_t *data = slot_data(q, slot);
	struct pattern_stamp stamp;

	vhub_count(&q->figures->counts[BLK_COUNT_CHECKED], 1);
	for (uint32_t i = 0; i < q->block_sectors; i++, data += PATTERN_BYTES) {
		if (pattern_read(data, q->verify->seed, &stamp) == PATTERN_WHOLE &&
				stamp.sector == sector + i &&
				(stamp.generation == b->acked ||
						(b->maybe != 0 && stamp.generation == b->maybe)))
			continue;
		b->spoilt = true;
		tell_mismatch(q, data, sector + i, b);
		return;
	}
}

static void
finish(struct blk_queue *q, const struct ring_used *used)
{
	struct blk_verify *v = q->verify;
	const uint16_t slot = (uint16_t)used->slot;
	struct verify_block *b = &v->blocks[v->slot_block[slot]];
	const bool read = q->is_read[slot] != 0;
	const uint8_t status = __atomic_load_n(&q->requests[slot].status, __ATOMIC_RELAXED);
	const bool good = status == VIRTIO_BLK_S_OK && (!read || used->bytes >= q->data_bytes);

	if (!good)
		blk_count_error(q, status);
	if (read && good && is_known(b)) {
		check_block(q, slot, b, block_sector(q, v->slot_block[slot]));
	} else if (!read && good) {
		*b = (struct verify_block){ .acked = v->slot_generation[slot] };
	} else if (!read) {
		b->maybe = v->slot_generation[slot];
	}
	b->busy = false;
	vhub_count(&q->figures->items, good);
	vhub_count(&q->figures->bytes, good ? q->bytes_each : 0);
	vhub_count(&q->figures->counts[read ? BLK_COUNT_READS : BLK_COUNT_WRITES], 1);
	v->slot_out[slot] = 0;
	q->free[q->n_free++] = slot;
}

int
blk_verify_reap(struct blk_queue *q)
{
	struct ring_used used[BLK_BURST];
	const int n = ring_reap(q->ring, used, BLK_BURST, q->ring->packed);
	const uint64_t now = rte_rdtsc();

	for (int i = 0; i < n; i++) {
		vhub_hist_add(&q->figures->latency, now - q->sent[used[i].slot]);
		finish(q, &used[i]);
	}
	return n;
}

/* ---- send ---- */

static void
send_one(struct blk_queue *q, uint32_t block, bool read, uint64_t when)
{
	const uint16_t slot = q->free[--q->n_free];
	struct blk_request *request = &q->requests[slot];
	struct blk_verify *v = q->verify;
	struct verify_block *b = &v->blocks[block];
	const uint64_t sector = block_sector(q, block);
	uint8_t *data = slot_data(q, slot);

	blk_turn_slot(q, slot, read);
	v->slot_out[slot] = 1;
	v->slot_block[slot] = block;
	v->slot_generation[slot] = RTE_MAX(b->acked, b->maybe) + 1;
	for (uint32_t i = 0; i < q->block_sectors; i++, data += PATTERN_BYTES) {
		if (read)
			pattern_spoil(data);
		else
			pattern_write(data, v->seed, sector + i, v->slot_generation[slot]);
	}
	b->busy = true;
	request->header.sector = sector;
	request->status = BLK_NO_STATUS;
	q->sent[slot] = when;
	ring_add_one(q->ring, slot, q->ring->packed);
}

/* The next one, in sequence or at random, that no request is on: there are more than requests. */
static uint32_t
next_block(struct blk_queue *q)
{
	struct blk_verify *v = q->verify;
	uint32_t block = q->random ? (uint32_t)blk_random(q, v->n_blocks) : v->cursor;

	while (v->blocks[block].busy)
		block = block + 1 < v->n_blocks ? block + 1 : 0;
	if (!q->random)
		v->cursor = block + 1 < v->n_blocks ? block + 1 : 0;
	return block;
}

/* What nobody has written yet is written: there is nothing to be checked. */
static unsigned int
send_load(struct blk_queue *q)
{
	const uint64_t now = rte_rdtsc();
	unsigned int n = 0;

	for (; q->n_free > 0 && n < BLK_BURST; n++) {
		uint64_t when = now;
		uint32_t block;

		if (q->paced) {
			if (!pace_is_due(&q->pace, now))
				break;
			when = pace_take(&q->pace);
		}
		block = next_block(q);
		send_one(q, block, is_known(&q->verify->blocks[block]) && blk_next_is_read(q),
				when);
	}
	return n;
}

static unsigned int
send_read_back(struct blk_queue *q)
{
	struct blk_verify *v = q->verify;
	unsigned int n = 0;

	for (; q->n_free > 0 && n < BLK_BURST && v->cursor < v->n_blocks; v->cursor++) {
		if (!is_known(&v->blocks[v->cursor]))
			continue;
		/* Its last request has to come back first. */
		if (v->blocks[v->cursor].busy)
			break;
		send_one(q, v->cursor, true, rte_rdtsc());
		n++;
	}
	return n;
}

void
blk_verify_send_again(struct blk_queue *q)
{
	for (uint16_t slot = 0; slot < q->ring->n_slots; slot++) {
		if (q->verify->slot_out[slot] == 0)
			continue;
		q->requests[slot].status = BLK_NO_STATUS;
		ring_add_one(q->ring, slot, q->ring->packed);
	}
}

void
blk_verify_wake(struct blk_queue *q)
{
	ring_publish(q->ring, q->ring->packed);
	if (q->ring->kick_fd >= 0)
		ring_write_kick(q->ring);
}

/* ---- an lcore ---- */

/* Whether the queue had something to do, or -EPROTO. */
static int
verify_turn(struct blk_queue *q, uint32_t phase)
{
	const int n = blk_verify_reap(q);
	unsigned int sent;

	if (n < 0)
		return n;
	sent = phase == VERIFY_LOAD ? send_load(q) : send_read_back(q);
	if (sent > 0) {
		ring_publish(q->ring, q->ring->packed);
		ring_kick(q->ring, q->ring->packed);
	}
	return n + (int)sent;
}

static bool
all_read_back(struct blk_queue *const *queues, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		if (queues[i]->verify->cursor < queues[i]->verify->n_blocks ||
				queues[i]->n_free < queues[i]->depth)
			return false;
	}
	return true;
}

/* The phase that is not PAUSE; main may use the rings until then. */
static uint32_t
wait_out(struct verify_run *run)
{
	uint32_t phase;

	/* Pairs with main's load: what this lcore knows of its rings is there. */
	__atomic_add_fetch(&run->n_paused, 1, __ATOMIC_RELEASE);
	/* Pairs with main's store: what it did to the rings is seen. */
	while ((phase = __atomic_load_n(&run->phase, __ATOMIC_ACQUIRE)) == VERIFY_PAUSE)
		rte_pause();
	__atomic_sub_fetch(&run->n_paused, 1, __ATOMIC_RELAXED);
	return phase;
}

static int
verify_loop(struct verify_run *run, unsigned int lcore)
{
	struct blk_queue *const *queues = run->blk->queues[lcore];
	const unsigned int n = run->blk->n_queues[lcore];
	uint32_t phase, last = VERIFY_LOAD;
	struct run_meter meter;
	uint64_t now;
	int ret = 0;

	run_meter_init(&meter, &run->run.report->lcores[lcore], run->blk->options->bs_bytes);
	now = rte_rdtsc();
	for (unsigned int i = 0; i < n; i++)
		blk_start_pace(queues[i], now);
	run_meter_enter(&meter, RUN_MEASURE, now);
	while (ret >= 0 && (phase = __atomic_load_n(&run->phase, __ATOMIC_ACQUIRE)) != VERIFY_END) {
		int done = 0;

		if (phase == VERIFY_PAUSE) {
			phase = wait_out(run);
			run_meter_enter(&meter, RUN_MEASURE, rte_rdtsc());
		}
		for (unsigned int i = 0; phase == VERIFY_READ_BACK && last != phase && i < n; i++)
			queues[i]->verify->cursor = 0;
		last = phase;
		if (phase == VERIFY_READ_BACK && all_read_back(queues, n))
			break;
		for (unsigned int i = 0; i < n && ret >= 0; i++) {
			ret = verify_turn(queues[i], phase);
			done += ret;
		}
		now = rte_rdtsc();
		run_meter_turn(&meter, now, (unsigned int)RTE_MAX(done, 0));
	}
	run_meter_enter(&meter, RUN_END, now);
	return ret < 0 ? blk_say_fault(&run->run, queues, n) : 0;
}

int
blk_verify_lcore(void *arg)
{
	const struct verify_launch *launch = arg;
	const int ret = verify_loop(launch->run, launch->lcore);

	/* Pairs with main's load: what this lcore knows of its rings, and its reason, are there. */
	__atomic_add_fetch(&launch->run->n_ended, 1, __ATOMIC_RELEASE);
	return ret;
}

/* ---- make ---- */

int
blk_verify_create(struct blk_queue *q, uint64_t seed, uint64_t first_block, uint64_t n_blocks)
{
	struct blk_verify *v;

	if (n_blocks < 2 * (uint64_t)q->depth || n_blocks > BLK_VERIFY_MAX_BLOCKS) {
		perf_error(q->device->path,
				"--verify: a queue has %" PRIu64
				" blocks of --bs; it takes at least twice --iodepth and at most %" PRIu64
				": another --size",
				n_blocks, BLK_VERIFY_MAX_BLOCKS);
		return -EINVAL;
	}
	if (q->rotate) {
		perf_error(q->device->path,
				"--verify --in-order: a split ring that begins anew would have to change the slots of what is in flight: with --packed it works");
		return -EINVAL;
	}
	v = calloc(1, sizeof(*v));
	if (v == NULL)
		return -ENOMEM;
	q->verify = v;
	v->seed = seed;
	v->first_block = first_block;
	v->n_blocks = (uint32_t)n_blocks;
	v->blocks = calloc(n_blocks, sizeof(*v->blocks));
	v->slot_out = calloc(q->ring->n_slots, sizeof(*v->slot_out));
	v->slot_block = calloc(q->ring->n_slots, sizeof(*v->slot_block));
	v->slot_generation = calloc(q->ring->n_slots, sizeof(*v->slot_generation));
	return v->blocks != NULL && v->slot_out != NULL && v->slot_block != NULL &&
					v->slot_generation != NULL ?
			0 :
			-ENOMEM;
}

void
blk_verify_destroy(struct blk_queue *q)
{
	if (q->verify == NULL)
		return;
	free(q->verify->blocks);
	free(q->verify->slot_out);
	free(q->verify->slot_block);
	free(q->verify->slot_generation);
	free(q->verify);
}
