/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From the ring to the driver, in bursts. Called by blk.c's turn; complete.c comes next.
 *
 * What the driver does not accept waits here, in order, and the ring is not touched meanwhile: the
 * guest's ring is the queue. Rings that wait stand in a line, since whoever has its turn first
 * would else take all that a reap has made room for. The line may never be empty, so it and what
 * ranges.c has for the driver take turns.
 *
 * A flush needs no barrier: it covers the writes that had completed when the guest sent it (VIRTIO
 * 1.2, 5.2.6.2), and those are the driver's already.
 */
#include <rte_branch_prediction.h>

#include "decode_common.h"

uint8_t
blk_write_flags(const struct blk_ring *ring)
{
	/* Pairs with store_wce() in config.c. */
	if (ring->fua == BLK_FUA_ALWAYS ||
			(ring->fua == BLK_FUA_BY_WCE &&
					__atomic_load_n(&ring->dev->wce, __ATOMIC_ACQUIRE) == 0))
		return VHUB_BLK_IO_FUA;
	return 0;
}

/* Returns how many of what waits were accepted. */
static uint16_t
submit_waiting(struct blk_ring *ring)
{
	uint16_t n = ring->dev->driver->submit(ring->lcore->queue, &ring->wait[ring->wait_first],
			ring->n_wait);

	ring->wait_first += n;
	ring->n_wait -= n;
	return n;
}

static void
join_line(struct blk_ring *ring)
{
	struct blk_lcore *lcore = ring->lcore;

	ring->next_in_line = NULL;
	*lcore->line_tail = ring;
	lcore->line_tail = &ring->next_in_line;
}

/* What is not common. Returns whether it is for the driver; else it is answered, or waits elsewhere. */
static __rte_noinline bool
decode_other(struct blk_ring *ring, struct blk_req *req, uint8_t write_flags)
{
	switch (blk_decode(&ring->dev->limits, req)) {
	case BLK_SUBMIT:
		if (req->op == VHUB_BLK_WRITE)
			req->io.flags = write_flags;
		return true;
	case BLK_RANGES:
		blk_ranges_wait(req);
		break;
	case BLK_ANSWERED:
		blk_answer(req, req->status);
		break;
	case BLK_NO_STATUS:
		vhub_virtq_break(ring->vring->vq, VHUB_VIRTQ_BAD_REQUEST);
		blk_answer(req, VIRTIO_BLK_S_IOERR);
		break;
	}
	return false;
}

/* Decodes a burst: what is for the driver begins to wait, the rest is answered. */
static void
decode_burst(struct blk_ring *ring, struct vhub_chain *const *chains, uint16_t n)
{
	const uint8_t write_flags = blk_write_flags(ring);
	struct vhub_blk_io **wait = ring->wait;
	struct blk_common common;

	blk_common_init(&common, &ring->dev->limits, write_flags);
	ring->wait_first = 0;
	for (uint16_t i = 0; i < n; i++) {
		struct blk_req *req = vhub_container_of(chains[i], struct blk_req, chain);

		if (unlikely(req->ring != ring))
			req->ring = ring;
		if (likely(blk_decode_common(&common, req)) || decode_other(ring, req, write_flags))
			*wait++ = &req->io;
	}
	ring->n_wait = (uint16_t)(wait - ring->wait);
}

/* A disk with limits: what is over them stays in the ring. */
static uint16_t
pop_limited(struct blk_ring *ring, struct vhub_chain **chains)
{
	uint16_t paid, n = 0;
	const uint16_t allowed = blk_qos_allow(ring, ring->lcore->share, &paid);

	if (allowed != 0) {
		n = vhub_virtq_pop(ring->vring->vq, chains, allowed);
		blk_qos_account(ring, paid, n);
	}
	return n;
}

/* What has just begun to wait is all that was taken in this turn. */
static void
account_bytes(struct blk_ring *ring)
{
	uint64_t bytes = 0;

	for (uint16_t i = 0; i < ring->n_wait; i++)
		bytes += ring->wait[i]->len_bytes;
	blk_qos_account_bytes(ring, bytes);
}

/* As many as the ring's burst is now, and finds what the next one is. */
static __rte_always_inline uint16_t
pop_burst(struct blk_ring *ring, struct vhub_chain **chains)
{
	const uint16_t max = RTE_MIN(ring->burst, ring->lcore->share);
	const uint16_t n = vhub_virtq_pop(ring->vring->vq, chains, max);

	ring->burst = n == max ? RTE_MIN(2u * ring->burst, VHUB_VIRTQ_BURST) : BLK_FIRST_BURST;
	return n;
}

unsigned int
blk_submit(struct blk_ring *ring)
{
	struct vhub_chain *chains[VHUB_VIRTQ_BURST];
	uint16_t n;

	if (unlikely(ring->n_wait != 0 || !ring->vring->taking)) {
		blk_qos_let_go(ring); /* it must not keep others waiting */
		return 0;
	}
	/* Pairs with blk_qos_set(): the limits that it switches on are there. */
	if (unlikely(__atomic_load_n(&ring->dev->qos.on, __ATOMIC_ACQUIRE) != 0 ||
			    ring->vring->held))
		n = pop_limited(ring, chains);
	else
		n = pop_burst(ring, chains);
	if (n == 0)
		return 0;
	vhub_count(&ring->stats->s.in_flight, n);
	if (unlikely(blk_latency_is_measured(ring)))
		blk_latency_taken(chains, n);
	decode_burst(ring, chains, n);
	if (unlikely(__atomic_load_n(&ring->dev->qos.on, __ATOMIC_RELAXED) != 0))
		account_bytes(ring);
	if (likely(ring->n_wait != 0 && ring->lcore->line == NULL))
		submit_waiting(ring);
	if (unlikely(ring->n_wait != 0))
		join_line(ring);
	return n;
}

/* Returns how many the driver accepted. */
static unsigned int
submit_line(struct blk_lcore *lcore)
{
	unsigned int moved = 0;

	while (unlikely(lcore->line != NULL)) {
		struct blk_ring *ring = lcore->line;

		moved += submit_waiting(ring);
		if (ring->n_wait != 0)
			return moved;
		lcore->line = ring->next_in_line;
		if (lcore->line == NULL)
			lcore->line_tail = &lcore->line;
	}
	return moved;
}

/*
 * First those whose turn it is, which ends with something accepted; room that they leave is for the
 * others.
 */
unsigned int
blk_submit_waiting(struct blk_lcore *lcore)
{
	unsigned int n;

	if (unlikely(lcore->held_ios != NULL))
		blk_ranges_pay(lcore);
	if (unlikely(lcore->ranges_turn)) {
		n = blk_ranges_submit(lcore);
		lcore->ranges_turn = n == 0 && lcore->range_ios != NULL;
		return n + submit_line(lcore);
	}
	n = submit_line(lcore);
	if (likely(lcore->line == NULL))
		return n + blk_ranges_submit(lcore);
	lcore->ranges_turn = n != 0 && lcore->range_ios != NULL;
	return n;
}
