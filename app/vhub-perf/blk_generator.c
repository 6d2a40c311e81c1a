/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The load: on each lcore, turn after turn over its queues, what has come back is checked and
 * counted, and sent again with another sector, or when it is due. Called by run.c on the lcores;
 * before it: blk_device.c, after it: report.c.
 */
#include <errno.h>

#include "blk.h"
#include "ring_fast.h"
#include "vhub_common.h"
#include "vhub_fetch.h"

/* ---- where ---- */

static __rte_always_inline uint64_t
next_sector(struct blk_queue *q)
{
	uint64_t block;

	if (q->random) {
		block = blk_random(q, q->n_blocks);
	} else {
		block = q->next_block++;
		if (q->next_block == q->n_blocks)
			q->next_block = 0;
	}
	return q->first_sector + block * q->block_sectors;
}

/* ---- send ---- */

void
blk_turn_slot(struct blk_queue *q, uint16_t slot, bool read)
{
	if (read == (q->is_read[slot] != 0))
		return;
	q->is_read[slot] = read;
	q->requests[slot].header.type = read ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT;
	blk_prepare(q, slot, read);
}

/* One word of each line: all of the lines move between the caches. */
static void
write_lines(struct blk_queue *q, uint16_t slot, uint64_t value)
{
	uint8_t *data = q->data + slot * q->data_bytes;

	for (uint64_t at = 0; at < q->data_bytes; at += RTE_CACHE_LINE_SIZE)
		*(uint64_t *)(void *)(data + at) = value + at;
}

static uint64_t
read_lines(const struct blk_queue *q, uint16_t slot)
{
	const uint8_t *data = q->data + slot * q->data_bytes;
	uint64_t sum = 0;

	for (uint64_t at = 0; at < q->data_bytes; at += RTE_CACHE_LINE_SIZE)
		sum += *(const uint64_t *)(const void *)(data + at);
	return sum;
}

/* What plain reads and writes at full speed do without. */
static void
prepare_special(struct blk_queue *q, uint16_t slot, uint64_t sector)
{
	struct virtio_blk_discard_write_zeroes *segment;

	if (q->mixed)
		blk_turn_slot(q, slot, blk_next_is_read(q));
	if (q->touch && q->is_read[slot] == 0)
		write_lines(q, slot, sector);
	if (!q->has_sector)
		q->requests[slot].header.sector = 0;
	if (!q->segment)
		return;
	q->requests[slot].header.sector = 0;
	segment = (void *)(q->data + slot * q->data_bytes);
	segment->sector = sector;
	segment->num_sectors = q->block_sectors;
	segment->flags = 0;
}

static __rte_always_inline void
send_request(struct blk_queue *q, struct ring_cursor *c, uint16_t slot, uint64_t when,
		const bool packed, const bool special)
{
	struct blk_request *request = &q->requests[slot];

	request->header.sector = next_sector(q);
	request->status = BLK_NO_STATUS;
	if (special)
		prepare_special(q, slot, request->header.sector);
	q->sent[slot] = when;
	ring_add(q->ring, c, slot, packed);
}

/* Whatever is free and due. */
static __rte_always_inline unsigned int
send_due(struct blk_queue *q, struct ring_cursor *c, uint64_t now, const bool packed)
{
	unsigned int n = 0;

	while (q->n_free > 0 && n < BLK_BURST) {
		uint64_t when = now;

		if (q->paced) {
			if (!pace_is_due(&q->pace, now))
				break;
			when = pace_take(&q->pace);
		}
		send_request(q, c, blk_slot_to_send(q, q->free[--q->n_free]), when, packed, true);
		n++;
	}
	return n;
}

/* ---- take back ---- */

void
blk_count_error(struct blk_queue *q, uint8_t status)
{
	enum blk_error kind = BLK_ERROR_STATUS;

	switch (status) {
	case VIRTIO_BLK_S_OK:
		kind = BLK_ERROR_LENGTH;
		break;
	case VIRTIO_BLK_S_IOERR:
		kind = BLK_ERROR_IO;
		break;
	case VIRTIO_BLK_S_UNSUPP:
		kind = BLK_ERROR_UNSUPPORTED;
		break;
	case BLK_NO_STATUS:
		kind = BLK_ERROR_NO_STATUS;
		break;
	default:
		break;
	}
	vhub_count(&q->figures->errors[kind], 1);
}

/* Requests that were sent in one burst and came back in one have one latency. */
struct latency_run {
	uint64_t sent;
	uint64_t n;
};

static __rte_always_inline void
note_latency(struct blk_queue *q, struct latency_run *run, uint64_t sent, uint64_t now)
{
	if (likely(sent == run->sent)) {
		run->n++;
		return;
	}
	if (run->n > 0)
		vhub_hist_add_n(&q->figures->latency, now - run->sent, run->n);
	run->sent = sent;
	run->n = 1;
}

/* One that came back. Whether it was as it should. */
static __rte_always_inline bool
check_request(struct blk_queue *q, const struct ring_used *used, const bool special)
{
	const struct blk_request *request = &q->requests[used->slot];
	const uint8_t status = __atomic_load_n(&request->status, __ATOMIC_RELAXED);
	uint32_t least = q->least_used;

	if (special && q->mixed)
		least = q->is_read[used->slot] != 0 ? (uint32_t)q->data_bytes : 0;
	if (unlikely(status != VIRTIO_BLK_S_OK || used->bytes < least)) {
		blk_count_error(q, status);
		return false;
	}
	if (special && q->touch && q->is_read[used->slot] != 0) {
		uint64_t sum = read_lines(q, (uint16_t)used->slot);

		/* Or nobody would read them. */
		__asm__ volatile("" : : "r"(sum));
	}
	return true;
}

/* ---- a turn ---- */

/* Returns how many came back or were sent, or -EPROTO. */
static __rte_always_inline int
queue_turn(struct blk_queue *q, uint64_t now, enum run_phase phase, const bool packed,
		const bool special)
{
	struct ring_used used[BLK_BURST];
	struct latency_run run = { 0, 0 };
	const int n = ring_reap(q->ring, used, BLK_BURST, packed);
	const bool counted = phase <= RUN_MEASURE, again = counted && !q->paced;
	unsigned int good = 0, reads = 0, sent = 0;
	struct ring_cursor c;

	if (unlikely(n < 0))
		return n;
	/*
	 * A status is looked at, and the next header stored beside it if the slot is sent again at once: one way for
	 * both. With the descriptors of packed rings under way it brings nothing.
	 */
	if (!packed && again && !q->rotate) {
		for (int i = 0; i < n; i++)
			vhub_fetch_to_write(&q->requests[used[i].slot], sizeof(q->requests[0]));
	}
	c = ring_begin(q->ring);
	for (int i = 0; i < n; i++) {
		const uint16_t slot = (uint16_t)used[i].slot;

		good += check_request(q, &used[i], special);
		reads += q->is_read[slot];
		if (likely(counted))
			note_latency(q, &run, q->sent[slot], now);
		if (likely(again))
			send_request(q, &c, blk_slot_to_send(q, slot), now, packed, special);
		else
			q->free[q->n_free++] = slot;
	}
	if (n > 0 && counted) {
		vhub_hist_add_n(&q->figures->latency, now - run.sent, run.n);
		vhub_count(&q->figures->items, good);
		vhub_count(&q->figures->bytes, good * q->bytes_each);
		vhub_count(&q->figures->counts[BLK_COUNT_READS], reads);
		vhub_count(&q->figures->counts[BLK_COUNT_WRITES], (unsigned int)n - reads);
	}
	if (unlikely(q->n_free > 0) && counted)
		sent = send_due(q, &c, now, packed);
	ring_end(q->ring, &c);
	if (n > 0 || sent > 0) {
		ring_publish(q->ring, packed);
		ring_kick(q->ring, packed);
	}
	return n + (int)sent;
}

static bool
is_special(const struct blk_queue *q)
{
	return q->paced || q->mixed || q->touch || q->segment || !q->has_sector;
}

static int
turn(struct blk_queue *q, uint64_t now, enum run_phase phase)
{
	if (is_special(q))
		return q->ring->packed ? queue_turn(q, now, phase, true, true) :
					 queue_turn(q, now, phase, false, true);
	return q->ring->packed ? queue_turn(q, now, phase, true, false) :
				 queue_turn(q, now, phase, false, false);
}

/* ---- an lcore ---- */

static bool
all_back(struct blk_queue *const *queues, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		if (queues[i]->n_free < queues[i]->depth)
			return false;
	}
	return true;
}

int
blk_say_fault(struct run *run, struct blk_queue *const *queues, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		if (queues[i]->ring->fault[0] != '\0')
			return run_fault(run, "%s: %s", queues[i]->device->path,
					queues[i]->ring->fault);
	}
	return -EPROTO;
}

void
blk_start_pace(struct blk_queue *q, uint64_t now)
{
	if (q->paced)
		pace_start(&q->pace, now, rte_get_tsc_hz(), run_options.rate, q->place, q->places);
}

int
blk_generate(struct run *run, unsigned int lcore)
{
	const struct blk_run *blk = run->arg;
	struct blk_queue *const *queues = blk->queues[lcore];
	const unsigned int n_queues = blk->n_queues[lcore];
	enum run_phase phase = RUN_RAMP, last = RUN_RAMP;
	struct run_meter meter;
	uint64_t now;
	int ret = 0;

	run_meter_init(&meter, &run->report->lcores[lcore],
			blk->options->touch ? blk->options->bs_bytes : 0);
	now = rte_rdtsc();
	run_meter_enter(&meter, phase, now);
	for (unsigned int i = 0; i < n_queues; i++)
		blk_start_pace(queues[i], now);
	while (ret >= 0 && (phase = run_phase(run)) != RUN_END &&
			(phase != RUN_DRAIN || !all_back(queues, n_queues))) {
		int n = 0;

		if (phase != last) {
			for (unsigned int i = 0; phase == RUN_MEASURE && i < n_queues; i++)
				report_forget(queues[i]->report);
			now = rte_rdtsc();
			run_meter_enter(&meter, phase, now);
			last = phase;
		}
		for (unsigned int i = 0; i < n_queues && ret >= 0; i++) {
			ret = turn(queues[i], now, phase);
			n += ret;
			if (ret != 0 || i + 1 == n_queues)
				now = rte_rdtsc();
		}
		run_meter_turn(&meter, now, (unsigned int)RTE_MAX(n, 0));
	}
	run_meter_enter(&meter, RUN_END, now);
	return ret < 0 ? blk_say_fault(run, queues, n_queues) : 0;
}
