/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests that are given up because their ring stops and nobody waits for the storage: another life
 * of the ring, here or at the other end of a migration, finds them in the inflight region and does
 * them. Called by device/vring.c through blk.c, and by complete.c for what comes back from the driver.
 *
 * Each request is either done, and then the guest is told as ever, or given up, and then neither the
 * guest nor its region is touched. Of one that is given up the driver has nothing any more, so nothing
 * of it is stored behind the back of who does it again; some of it may be done already, which doing it
 * again does not change: the guest has not been told, so it does not rely on what is there.
 */
#include <errno.h>

#include "blk_pvt.h"

bool
blk_is_of_ring(const struct vhub_blk_io *io, const void *ring)
{
	return vhub_container_of(io, const struct blk_req, io)->ring == ring;
}

void
blk_leave(struct blk_req *req)
{
	struct vhub_chain *chain = &req->chain;
	struct blk_ring *ring = req->ring;

	/* Some of a read may be in the guest's memory. */
	chain->used_bytes = req->op == VHUB_BLK_READ ? chain->in_bytes : 0;
	vhub_virtq_leave(ring->vring->vq, &chain, 1);
	vhub_count(&ring->stats->s.in_flight, -(uint64_t)1);
}

static void
leave_waiting(struct blk_ring *ring)
{
	struct blk_lcore *lcore = ring->lcore;
	struct blk_ring **link = &lcore->line;

	if (ring->n_wait == 0)
		return;
	while (*link != ring)
		link = &(*link)->next_in_line;
	*link = ring->next_in_line;
	if (*link == NULL)
		lcore->line_tail = link;
	for (uint16_t i = 0; i < ring->n_wait; i++)
		blk_leave(vhub_container_of(ring->wait[ring->wait_first + i], struct blk_req, io));
	ring->n_wait = 0;
}

bool
blk_suspend_takes(struct blk_req *req)
{
	const int result = req->io.result;
	const bool more = req->op >= VHUB_BLK_DISCARD && req->ranges->next != req->ranges->n;

	if (result != -ECANCELED && !(result == 0 && more))
		return false;
	blk_leave(req);
	return true;
}

void
blk_suspend(struct blk_ring *ring)
{
	ring->suspending = true;
	leave_waiting(ring);
	blk_ranges_leave(ring);
	ring->dev->driver->cancel(ring->lcore->queue, blk_is_of_ring, ring);
}
