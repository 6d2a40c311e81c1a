/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Copies of rings that a DMA engine (engine.c) makes for librte_vhost in place of the lcore (dma=NAME): what
 * of a ring is under way. A copy that was submitted belongs to the library until it is reaped: the packet to
 * a guest is freed then, the one from a guest is there then. sync.c begins and ends rings; called by burst.c
 * for each turn of a ring that has an engine.
 *
 * The library takes a guest at its word for how much is in a ring, and keeps what is under way in arrays as
 * long as the ring: no more than that is ever submitted. It marks no pages in a dirty log, so while there is
 * one the lcore copies (sync.c). And in 22.11 a packet from the guest that it cannot take, because it is
 * longer than all buffers, stays at the head of its ring and takes them in each turn anew, where the call that
 * copies by itself drops it: from guests that are not trusted the lcore copies.
 */
#include <errno.h>

#include <rte_vhost_async.h>

#include "engine.h"
#include "rvhost.h"
#include "vhub_log.h"

VHUB_LOGTYPE(net);

/* Longer than an engine that stands still keeps what is under way. */
#define DRAIN_SECONDS (2 * RVHOST_ENGINE_PATIENCE_SECONDS)

/*
 * Mbufs that are under way in all rings together. Shared atomic: the library has a lock for an engine anyway.
 * A ring gets no more of what there may be than it leaves to others.
 */
static uint32_t mbufs_under_way;

/* ---- the account ---- */

static void
set_mbufs(struct rvhost_ring_dma *ring, uint32_t mbufs)
{
	/* Of what was added the part that wraps is taken away. */
	__atomic_fetch_add(&mbufs_under_way, mbufs - ring->mbufs, __ATOMIC_RELAXED);
	ring->mbufs = mbufs;
}

static uint32_t
room(const struct rvhost_ring_dma *ring)
{
	const uint32_t taken = __atomic_load_n(&mbufs_under_way, __ATOMIC_RELAXED) + ring->mbufs;

	return RVHOST_DMA_MBUFS - RTE_MIN(taken, RVHOST_DMA_MBUFS);
}

static uint32_t
segments(struct rte_mbuf *const *pkts, uint16_t n)
{
	uint32_t mbufs = 0;
	uint16_t i;

	for (i = 0; i < n; i++)
		mbufs += pkts[i]->nb_segs;
	return mbufs;
}

/* How many of them may be submitted. One may always, so that a ring whose lcore could sleep goes on. */
static uint16_t
with_room(const struct rvhost_ring_dma *ring, struct rte_mbuf *const *pkts, uint16_t n)
{
	uint32_t left = room(ring);
	uint16_t i;

	n = RTE_MIN(n, ring->max - ring->under_way);
	for (i = 0; i < n && pkts[i]->nb_segs <= left; i++)
		left -= pkts[i]->nb_segs;
	return i == 0 && ring->under_way == 0 ? RTE_MIN(n, 1) : i;
}

/*
 * Of packets from the guest only the library knows how long they are until their copies have ended: all
 * are taken for as long as the longest that has come lately.
 */
static void
guess_from_guest(struct rvhost_ring_dma *ring, struct rte_mbuf *const *pkts, uint16_t n)
{
	uint16_t i, longest = 1;

	if (n != 0) {
		for (i = 0; i < n; i++)
			longest = RTE_MAX(longest, pkts[i]->nb_segs);
		ring->guess = RTE_MAX(longest, ring->guess - RTE_MIN(ring->guess, 1));
	}
	set_mbufs(ring, (uint32_t)ring->under_way * ring->guess);
}

/* ---- rings ---- */

int
rvhost_dma_begin(struct rvhost_path *path, uint16_t index, uint16_t ring_size)
{
	struct rvhost_ring_dma *ring = &path->ring_dma[index];
	const bool from_guest = (index & 1) != 0;

	if (!path->copies_by_dma || (from_guest && !path->trusted))
		return 0;
	if (rte_vhost_async_channel_register(path->vid, index) != 0)
		return -EIO;
	ring->on = true;
	ring->max = RTE_MIN(ring_size, RVHOST_DMA_MAX);
	ring->under_way = 0;
	ring->guess = 1;
	return 0;
}

void
rvhost_dma_end(struct rvhost_path *path, uint16_t index)
{
	struct rvhost_ring_dma *ring = &path->ring_dma[index];
	struct rte_mbuf *pkts[RVHOST_CALL_MAX];
	struct rvhost_patience patience;
	bool over = false;
	uint16_t n;

	if (!ring->on)
		return;
	/*
	 * Lcores have drained it. If they have not, the time is counted as the engine's is: so this gives up
	 * later than that, however seldom we run.
	 */
	rvhost_patience_begin(&patience);
	while (ring->under_way != 0 && !over) {
		n = rvhost_dma_completed(path, index, pkts, RVHOST_CALL_MAX);
		rte_pktmbuf_free_bulk(pkts, n);
		if (n != 0)
			rvhost_patience_begin(&patience);
		else
			over = rvhost_patience_is_over(&patience, DRAIN_SECONDS);
	}
	if (ring->under_way != 0) {
		VHUB_LOG(ERR, "%s: ring %u: DMA device %s has not ended %u copies within %u s",
				path->dev->name, index, rvhost_dma_name(path->dma), ring->under_way,
				DRAIN_SECONDS);
		path->abandoned = true;
		/* Nobody gives their mbufs back, so those stay in the account of all. */
		ring->mbufs = 0;
		ring->under_way = 0;
	}
	if (rte_vhost_async_channel_unregister(path->vid, index) != 0)
		VHUB_LOG(ERR, "%s: ring %u: librte_vhost keeps its DMA channel", path->dev->name,
				index);
	set_mbufs(ring, 0);
	ring->on = false;
}

unsigned int
rvhost_copies(const struct rvhost_path *path)
{
	unsigned int i, n = 0;

	for (i = 0; i < path->n_vrings; i++)
		n += __atomic_load_n(&path->ring_dma[i].under_way, __ATOMIC_RELAXED);
	return n;
}

/* ---- packets ---- */

uint16_t
rvhost_dma_completed(struct rvhost_path *path, uint16_t index, struct rte_mbuf **pkts, uint16_t n)
{
	struct rvhost_ring_dma *ring = &path->ring_dma[index];
	const uint16_t done = rte_vhost_clear_queue(path->vid, index, pkts, n,
			rvhost_dma_id(path->dma), RVHOST_ENGINE_CHANNEL);

	ring->under_way -= done;
	if ((index & 1) != 0)
		guess_from_guest(ring, pkts, done);
	else
		set_mbufs(ring, ring->mbufs - segments(pkts, done));
	return done;
}

uint16_t
rvhost_dma_from_guest(struct rvhost_path *path, uint16_t index, struct rte_mbuf **pkts, uint16_t n)
{
	struct rvhost_ring_dma *ring = &path->ring_dma[index];
	uint32_t may = RTE_MIN(room(ring) / ring->guess, (uint32_t)(ring->max - ring->under_way));
	int under_way = -1;
	uint16_t got;

	if (ring->under_way == 0)
		may = RTE_MAX(may, 1u);
	/* What is done is taken, and makes room. */
	if (may == 0)
		return rvhost_dma_completed(path, index, pkts, n);
	n = (uint16_t)RTE_MIN(n, may);
	got = rte_vhost_async_try_dequeue_burst(path->vid, index, path->pool, pkts, n, &under_way,
			rvhost_dma_id(path->dma), RVHOST_ENGINE_CHANNEL);
	/* Less than nothing: the ring could not be looked at. */
	if (under_way >= 0)
		ring->under_way = (uint16_t)under_way;
	guess_from_guest(ring, pkts, got);
	return got;
}

uint16_t
rvhost_dma_to_guest(struct rvhost_path *path, uint16_t index, struct rte_mbuf **pkts, uint16_t n)
{
	struct rvhost_ring_dma *ring = &path->ring_dma[index];
	uint16_t given;

	n = with_room(ring, pkts, n);
	if (n == 0)
		return 0;
	given = rte_vhost_submit_enqueue_burst(path->vid, index, pkts, n, rvhost_dma_id(path->dma),
			RVHOST_ENGINE_CHANNEL);
	ring->under_way += given;
	set_mbufs(ring, ring->mbufs + segments(pkts, given));
	return given;
}
