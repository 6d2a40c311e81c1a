/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From the driver back to the rings: status, used length, push, notify. Called by blk.c's turn and,
 * for what needs no driver, by submit.c; virtq comes next.
 *
 * A queue of the driver serves every ring of the disk on this lcore, and one of the rings reaps for
 * all. What it reaps is answered to whichever ring it came from, and pushed grouped by ring.
 */
#include <rte_branch_prediction.h>

#include "blk_pvt.h"

static uint64_t
bytes_of(const struct blk_req *req)
{
	if (likely(req->op < VHUB_BLK_DISCARD))
		return req->io.len_bytes;
	return req->ranges->done_bytes;
}

static void
count(struct vhub_blk_stats *stats, const struct blk_req *req, uint8_t status)
{
	if (unlikely(req->op >= VHUB_BLK_OPS)) {
		vhub_count(&stats->other_requests, 1);
		if (status != VIRTIO_BLK_S_OK)
			vhub_count(&stats->other_errors, 1);
		return;
	}
	vhub_count(&stats->op[req->op].requests, 1);
	if (likely(status == VIRTIO_BLK_S_OK))
		vhub_count(&stats->op[req->op].bytes, bytes_of(req));
	else
		vhub_count(&stats->op[req->op].errors, 1);
}

static __rte_always_inline void
touch(struct blk_ring *ring)
{
	if (ring->n_done == 0) {
		ring->next_touched = ring->lcore->touched;
		ring->lcore->touched = ring;
	}
}

/*
 * The status is the last writable byte, so all writable bytes before it count as used, also after
 * an error: a used length that ended earlier would hide from the dirty log the status, and data
 * that the driver stored before it failed.
 */
void
blk_answer(struct blk_req *req, uint8_t status)
{
	struct blk_ring *ring = req->ring;

	if (likely(req->status_hva != NULL)) {
		blk_put_status(req, status);
		req->chain.used_bytes = req->chain.in_bytes;
	} else {
		req->chain.used_bytes = 0;
	}
	count(&ring->stats->s, req, status);
	touch(ring);
	ring->done[ring->n_done++] = &req->chain;
}

/*
 * Answers the first I/Os of ios[0 .. n) that are what nearly all are: reads and writes of one ring
 * that went well. Their counters change once. Returns how many.
 */
static uint16_t
answer_common(struct vhub_blk_io *const *ios, uint16_t n)
{
	struct blk_ring *ring = vhub_container_of(ios[0], struct blk_req, io)->ring;
	struct vhub_blk_stats *stats = &ring->stats->s;
	struct vhub_chain **done = &ring->done[ring->n_done];
	uint64_t bytes = 0, writes = 0, written_bytes = 0;
	uint16_t i;

	vhub_virtq_prefetch_used(ring->vring->vq, n);
	for (i = 0; i < n; i++) {
		struct blk_req *req = vhub_container_of(ios[i], struct blk_req, io);

		if (unlikely(req->op > VHUB_BLK_WRITE || req->io.result != 0 || req->ring != ring))
			break;
		if (req->op == VHUB_BLK_WRITE) {
			writes++;
			written_bytes += req->io.len_bytes;
		}
		bytes += req->io.len_bytes;
		blk_put_status(req, VIRTIO_BLK_S_OK);
		req->chain.used_bytes = req->chain.in_bytes;
		done[i] = &req->chain;
	}
	if (i == 0)
		return 0;
	touch(ring);
	ring->n_done += i;
	vhub_count(&stats->op[VHUB_BLK_READ].requests, i - writes);
	vhub_count(&stats->op[VHUB_BLK_READ].bytes, bytes - written_bytes);
	vhub_count(&stats->op[VHUB_BLK_WRITE].requests, writes);
	vhub_count(&stats->op[VHUB_BLK_WRITE].bytes, written_bytes);
	return i;
}

unsigned int
blk_reap(struct blk_lcore *lcore)
{
	struct vhub_blk_io *ios[VHUB_VIRTQ_BURST];
	uint16_t n = lcore->queue->disk->ops->reap(lcore->queue, ios, VHUB_VIRTQ_BURST);
	uint16_t i = 0;

	while (i < n) {
		struct blk_req *req = vhub_container_of(ios[i], struct blk_req, io);
		uint16_t common = answer_common(&ios[i], n - i);

		i += common;
		if (likely(common != 0))
			continue;
		i++;
		if (unlikely(req->ring->suspending) && blk_suspend_takes(req))
			continue;
		if (unlikely(req->op >= VHUB_BLK_DISCARD))
			blk_ranges_done(req, req->io.result);
		else
			blk_answer(req,
					likely(req->io.result == 0) ? VIRTIO_BLK_S_OK :
								      VIRTIO_BLK_S_IOERR);
	}
	return n;
}

void
blk_push(struct blk_lcore *lcore)
{
	struct blk_ring *ring = lcore->touched;

	lcore->touched = NULL;
	for (; ring != NULL; ring = ring->next_touched) {
		if (unlikely(blk_latency_is_measured(ring)))
			blk_latency_answered(ring);
		vhub_count(&lcore->completions, ring->n_done);
		vhub_count(&ring->stats->s.in_flight, -(uint64_t)ring->n_done);
		vhub_virtq_push(ring->vring->vq, ring->done, ring->n_done);
		ring->n_done = 0;
		vhub_virtq_notify(ring->vring->vq);
	}
}
