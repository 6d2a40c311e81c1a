/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests that are about many ranges of the disk at once: DISCARD, WRITE_ZEROES, SECURE_ERASE
 * (VIRTIO 1.2, 5.2.6). Called by submit.c and blk.c's turn, and by complete.c for each I/O that is
 * over.
 *
 * A request becomes one I/O for each range, one after the other, so that a driver knows a single
 * range only; where bytes are limited (qos.c), zeroes and erasures go in pieces, which wait until they
 * can be paid. All ranges are checked before the first is submitted, on a copy; the copy needs room,
 * of which a ring has some, and requests beyond wait in order without keeping others from the ring.
 * The first range that fails is the end of its request.
 *
 * When a driver has no room, they and the rings that wait take turns (submit.c), since one of the two
 * could have something waiting for ever.
 */
#include <rte_branch_prediction.h>

#include "blk_pvt.h"

void
blk_ranges_init(struct blk_ring *ring)
{
	ring->ranges_tail = &ring->ranges_line;
	for (unsigned int i = 0; i < BLK_RANGES_AT_ONCE; i++) {
		ring->ranges[i].next_free = ring->free_ranges;
		ring->free_ranges = &ring->ranges[i];
	}
}

void
blk_ranges_wait(struct blk_req *req)
{
	struct blk_ring *ring = req->ring;

	req->next_ranges = NULL;
	*ring->ranges_tail = req;
	ring->ranges_tail = &req->next_ranges;
}

bool
blk_ranges_due(const struct blk_ring *ring)
{
	return ring->lcore->range_ios != NULL ||
			(ring->ranges_line != NULL && ring->free_ranges != NULL);
}

static void
answer(struct blk_req *req, uint8_t status)
{
	struct blk_ring *ring = req->ring;

	blk_answer(req, status);
	req->ranges->next_free = ring->free_ranges;
	ring->free_ranges = req->ranges;
}

static void
append(struct vhub_blk_io ***tail, struct vhub_blk_io *io)
{
	io->next = NULL;
	**tail = io;
	*tail = &io->next;
}

/* Makes an I/O of the request's next range, or of a piece of it; it is due, or has to be paid first. */
static void
next_io(struct blk_req *req)
{
	struct blk_range *range = &req->ranges->range[req->ranges->next];
	const bool pays = req->op != VHUB_BLK_DISCARD && blk_qos_counts_bytes(req->ring);
	const bool in_pieces = pays && !blk_ring_ends(req->ring);
	const uint32_t most = in_pieces ? req->ring->dev->limits.range_piece_bytes : UINT32_MAX;
	struct blk_lcore *lcore = req->ring->lcore;
	struct vhub_blk_io *io = &req->io;

	io->iov = NULL;
	io->n_iov = 0;
	io->op = req->op;
	io->flags = (uint8_t)range->flags;
	if (req->op != VHUB_BLK_DISCARD)
		io->flags |= blk_write_flags(req->ring);
	io->len_bytes = RTE_MIN(range->len_bytes, most);
	io->offset_bytes = range->offset_bytes;
	range->len_bytes -= io->len_bytes;
	range->offset_bytes += io->len_bytes;
	if (range->len_bytes == 0)
		req->ranges->next++;
	append(pays ? &lcore->held_ios_tail : &lcore->range_ios_tail, io);
}

static bool
is_negotiated(const struct blk_req *req)
{
	static const uint8_t bits[VHUB_BLK_OPS] = {
		[VHUB_BLK_DISCARD] = VIRTIO_BLK_F_DISCARD,
		[VHUB_BLK_WRITE_ZEROES] = VIRTIO_BLK_F_WRITE_ZEROES,
		[VHUB_BLK_SECURE_ERASE] = VIRTIO_BLK_F_SECURE_ERASE,
	};

	return (req->ring->vring->features >> bits[req->op] & 1) != 0;
}

static void
begin(struct blk_req *req)
{
	uint8_t status = VIRTIO_BLK_S_UNSUPP;

	if (is_negotiated(req))
		status = blk_decode_ranges(&req->ring->dev->limits, req, req->ranges);
	if (status != VIRTIO_BLK_S_OK || req->ranges->n == 0)
		answer(req, status);
	else
		next_io(req);
}

unsigned int
blk_ranges_begin(struct blk_ring *ring)
{
	unsigned int n = 0;

	while (unlikely(ring->ranges_line != NULL) && ring->free_ranges != NULL &&
			n < VHUB_VIRTQ_BURST) {
		struct blk_req *req = ring->ranges_line;

		ring->ranges_line = req->next_ranges;
		if (ring->ranges_line == NULL)
			ring->ranges_tail = &ring->ranges_line;
		req->ranges = ring->free_ranges;
		ring->free_ranges = req->ranges->next_free;
		begin(req);
		n++;
	}
	return n;
}

void
blk_ranges_pay(struct blk_lcore *lcore)
{
	struct vhub_blk_io **link = &lcore->held_ios, *io;

	while ((io = *link) != NULL) {
		struct blk_req *req = vhub_container_of(io, struct blk_req, io);

		if (blk_qos_pay_range(req->ring, io->len_bytes)) {
			*link = io->next;
			append(&lcore->range_ios_tail, io);
		} else {
			link = &io->next;
		}
	}
	lcore->held_ios_tail = link;
}

unsigned int
blk_ranges_submit(struct blk_lcore *lcore)
{
	struct vhub_blk_io *ios[VHUB_VIRTQ_BURST], *io;
	uint16_t n = 0, accepted;

	if (likely(lcore->range_ios == NULL))
		return 0;
	for (io = lcore->range_ios; io != NULL && n < RTE_DIM(ios); io = io->next)
		ios[n++] = io;
	accepted = lcore->queue->disk->ops->submit(lcore->queue, ios, n);
	/* `next` of those that were accepted is the driver's now. */
	if (accepted < n)
		io = ios[accepted];
	lcore->range_ios = io;
	if (io == NULL)
		lcore->range_ios_tail = &lcore->range_ios;
	return accepted;
}

static void
leave_list(struct blk_ring *ring, struct vhub_blk_io **list, struct vhub_blk_io ***tail)
{
	struct vhub_blk_io *const *end = vhub_blk_cancel_list(list, tail, blk_is_of_ring, ring);
	struct vhub_blk_io *others = *end;

	for (struct vhub_blk_io *io = *list; io != others; io = io->next)
		blk_leave(vhub_container_of(io, struct blk_req, io));
	*list = others;
	if (others == NULL)
		*tail = list;
}

void
blk_ranges_leave(struct blk_ring *ring)
{
	struct blk_lcore *lcore = ring->lcore;

	leave_list(ring, &lcore->range_ios, &lcore->range_ios_tail);
	leave_list(ring, &lcore->held_ios, &lcore->held_ios_tail);
	for (struct blk_req *req = ring->ranges_line; req != NULL; req = req->next_ranges)
		blk_leave(req);
	ring->ranges_line = NULL;
	ring->ranges_tail = &ring->ranges_line;
}

void
blk_ranges_done(struct blk_req *req, int result)
{
	struct blk_ranges *ranges = req->ranges;

	if (result == 0)
		ranges->done_bytes += req->io.len_bytes;
	if (result != 0)
		answer(req, VIRTIO_BLK_S_IOERR);
	else if (ranges->next == ranges->n)
		answer(req, VIRTIO_BLK_S_OK);
	else
		next_io(req);
}
