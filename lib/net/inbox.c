/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packets that reach a queue pair from other lcores (vhub_net_inbox.h). Called by drivers that join
 * ports, on the sender's lcore and on the owner's; next: to_guest.c.
 */
#include <errno.h>
#include <string.h>

#include <rte_ring.h>

#include "mbufs.h"
#include "vhub_alloc.h"
#include "vhub_net_inbox.h"

/* Packets that wait for one pair. */
#define INBOX_PACKETS 512u

struct vhub_net_inbox {
	/* Immutable. */
	struct rte_ring *ring;
	size_t ring_bytes;

	/* Written by the owner. */
	struct vhub_lcore *lcore;     /* shared atomic; NULL: closed */
	struct vhub_net_queue *queue; /* valid while lcore is not NULL */
	/*
	 * Mbufs of the owner's inboxes, its share (mbufs.h): each gets no more of it than it leaves to others,
	 * so that a guest that takes nothing does not leave them without.
	 */
	uint32_t max_waiting;
	uint64_t crossed; /* shared atomic */
	/* Shared atomic, the owner's but for what a sender drops: in all, beside put_mbufs. */
	uint32_t taken_mbufs;

	/* Shared atomics. */
	uint32_t armed __rte_cache_aligned; /* the owner sleeps, or is about to */
	uint32_t put_mbufs;		    /* in all; they wrap */
	uint64_t dropped_full;
	uint64_t dropped_closed;
};

/*
 * Mbufs in the inboxes of each lcore. Shared atomics. A packet says in its `port` for which lcore it is
 * counted, since the owner of an inbox may be another one when it is taken out.
 */
static struct {
	uint32_t n __rte_cache_aligned;
} waiting[VHUB_MAX_LCORES];

static inline bool
is_open(const struct vhub_net_inbox *inbox)
{
	return __atomic_load_n(&inbox->lcore, __ATOMIC_ACQUIRE) != NULL &&
			__atomic_load_n(&inbox->queue->open, __ATOMIC_RELAXED);
}

/* ---- what is taken out ---- */

/* Returns how many mbufs they are. */
static uint32_t
uncount(struct rte_mbuf *const *pkts, uint16_t n)
{
	uint32_t mbufs = 0, all = 0;

	for (uint16_t i = 0; i < n; i++) {
		mbufs += pkts[i]->nb_segs;
		if (i + 1 < n && pkts[i + 1]->port == pkts[i]->port)
			continue;
		__atomic_fetch_sub(&waiting[pkts[i]->port].n, mbufs, __ATOMIC_RELAXED);
		all += mbufs;
		mbufs = 0;
	}
	return all;
}

/* For the owner; for who sends to an inbox that is not open. */
static uint16_t
dequeue(struct vhub_net_inbox *inbox, struct rte_mbuf **pkts, uint16_t max)
{
	const uint16_t n = (uint16_t)rte_ring_mc_dequeue_burst(inbox->ring, (void **)pkts, max,
			NULL);

	if (likely(n == 0))
		return 0;
	/* Pairs with the acquire in count(). */
	__atomic_fetch_add(&inbox->taken_mbufs, uncount(pkts, n), __ATOMIC_RELEASE);
	return n;
}

/* Drops up to a burst. Returns false: there was nothing. */
static bool
drop_some(struct vhub_net_inbox *inbox)
{
	struct rte_mbuf *pkts[VHUB_NET_BURST];
	const uint16_t n = dequeue(inbox, pkts, VHUB_NET_BURST);

	if (n == 0)
		return false;
	__atomic_fetch_add(&inbox->dropped_closed, n, __ATOMIC_RELAXED);
	rte_pktmbuf_free_bulk(pkts, n);
	return true;
}

/* ---- life ---- */

int
vhub_net_inbox_create(int node, struct vhub_net_inbox **out)
{
	struct vhub_net_inbox *inbox = vhub_zalloc_node(sizeof(*inbox), node);

	if (inbox == NULL)
		return -ENOMEM;
	inbox->ring_bytes = (size_t)rte_ring_get_memsize(INBOX_PACKETS);
	inbox->ring = vhub_zalloc_node(inbox->ring_bytes, node);
	if (inbox->ring == NULL) {
		vhub_free(inbox, sizeof(*inbox));
		return -ENOMEM;
	}
	rte_ring_init(inbox->ring, "inbox", INBOX_PACKETS, 0);
	*out = inbox;
	return 0;
}

void
vhub_net_inbox_empty(struct vhub_net_inbox *inbox)
{
	/*
	 * Pairs with the fence in put_across(): of what was said before, that the inbox or its queue is
	 * not open, the senders know; or we see what they have put.
	 */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	while (drop_some(inbox))
		;
}

void
vhub_net_inbox_destroy(struct vhub_net_inbox *inbox)
{
	if (inbox == NULL)
		return;
	vhub_net_inbox_empty(inbox);
	vhub_free(inbox->ring, inbox->ring_bytes);
	vhub_free(inbox, sizeof(*inbox));
}

void
vhub_net_inbox_open(struct vhub_net_inbox *inbox, struct vhub_net_queue *queue)
{
	/* What somebody has left there for the guest before. */
	vhub_net_inbox_empty(inbox);
	inbox->queue = queue;
	inbox->max_waiting = net_inboxes_share(vhub_lcore_count());
	/* Pairs with the acquires of those who send. */
	__atomic_store_n(&inbox->lcore, vhub_lcore_self(), __ATOMIC_RELEASE);
}

void
vhub_net_inbox_close(struct vhub_net_inbox *inbox)
{
	__atomic_store_n(&inbox->lcore, NULL, __ATOMIC_RELEASE);
	vhub_net_inbox_empty(inbox);
}

bool
vhub_net_inbox_is_open(const struct vhub_net_inbox *inbox)
{
	return is_open(inbox);
}

const struct vhub_net_queue *
vhub_net_inbox_queue(const struct vhub_net_inbox *inbox)
{
	return __atomic_load_n(&inbox->lcore, __ATOMIC_ACQUIRE) != NULL ? inbox->queue : NULL;
}

/* ---- sending ---- */

static void
drop(uint64_t *counter, struct rte_mbuf **pkts, unsigned int n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
	rte_pktmbuf_free_bulk(pkts, n);
}

/*
 * The owner sleeps: once, until it asks again. Whoever is the owner now, for the pair may have gone to
 * another lcore since the packets were on their way.
 */
static void
wake(struct vhub_net_inbox *inbox)
{
	struct vhub_lcore *lcore;

	/* Pairs with the release in vhub_net_inbox_arm(): we see the lcore of who asked, or a later one. */
	if (__atomic_exchange_n(&inbox->armed, 0, __ATOMIC_ACQUIRE) == 0)
		return;
	lcore = __atomic_load_n(&inbox->lcore, __ATOMIC_RELAXED);
	if (lcore != NULL)
		vhub_lcore_wake(lcore);
}

static uint32_t
mark(struct rte_mbuf *const *pkts, uint16_t n, uint16_t lcore_index)
{
	uint32_t mbufs = 0;

	for (uint16_t i = 0; i < n; i++) {
		pkts[i]->port = lcore_index;
		mbufs += pkts[i]->nb_segs;
	}
	return mbufs;
}

/*
 * How many of them, from the front, may wait too, one after the other: what the inbox has waiting before each
 * counts twice.
 */
static uint16_t
how_many_fit(struct rte_mbuf *const *pkts, uint16_t n, uint32_t before, uint32_t max_waiting)
{
	uint16_t i;

	for (i = 0; i < n && before + pkts[i]->nb_segs <= max_waiting; i++)
		before += 2u * pkts[i]->nb_segs;
	return i;
}

/*
 * Counts `mbufs` as put, with the inbox and with its lcore. Returns how many waited before for the lcore, and
 * those of the inbox once more.
 */
static inline uint32_t
count(struct vhub_net_inbox *inbox, uint16_t index, uint32_t mbufs)
{
	/* Pairs with the release in dequeue(): of what was taken we see that it was put. */
	const uint32_t taken = __atomic_load_n(&inbox->taken_mbufs, __ATOMIC_ACQUIRE);
	const uint32_t put = __atomic_fetch_add(&inbox->put_mbufs, mbufs, __ATOMIC_RELAXED);

	return put - taken + __atomic_fetch_add(&waiting[index].n, mbufs, __ATOMIC_RELAXED);
}

/*
 * It was open when we looked, before the packets were copied: nobody empties it any more until its slot has a
 * guest again, and what is in it counts against others of its lcore. An owner that comes meanwhile has the rest.
 */
static __rte_noinline void
drop_while_closed(struct vhub_net_inbox *inbox)
{
	while (!is_open(inbox) && drop_some(inbox))
		;
}

/* Returns how many have found room; the others are the caller's. */
static uint16_t
put_across(struct vhub_net_inbox *inbox, const struct vhub_lcore *lcore, uint32_t max_waiting,
		struct rte_mbuf **pkts, uint16_t n)
{
	const uint16_t index = (uint16_t)vhub_lcore_index(lcore);
	const uint32_t mbufs = mark(pkts, n, index);
	const uint32_t before = count(inbox, index, mbufs);
	uint32_t left = 0;
	uint16_t put = n, i;

	if (unlikely(before + 2 * mbufs > max_waiting))
		put = how_many_fit(pkts, n, before, max_waiting);
	put = (uint16_t)rte_ring_mp_enqueue_burst(inbox->ring, (void *const *)pkts, put, NULL);
	if (unlikely(put < n)) {
		for (i = put; i < n; i++)
			left += pkts[i]->nb_segs;
		__atomic_fetch_sub(&inbox->put_mbufs, left, __ATOMIC_RELAXED);
		__atomic_fetch_sub(&waiting[index].n, left, __ATOMIC_RELAXED);
	}
	/*
	 * Pairs with the fences in vhub_net_inbox_arm() and vhub_net_inbox_empty(): the owner sees the
	 * packets, or we that it sleeps or has closed.
	 */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (unlikely(!is_open(inbox)))
		drop_while_closed(inbox);
	if (unlikely(__atomic_load_n(&inbox->armed, __ATOMIC_RELAXED) != 0))
		wake(inbox);
	return (uint16_t)put;
}

static void
send_across(struct vhub_net_inbox *inbox, struct vhub_lcore *lcore, struct rte_mbuf **pkts,
		uint16_t n)
{
	const uint16_t put = put_across(inbox, lcore, inbox->max_waiting, pkts, n);

	if (unlikely(put < n))
		drop(&inbox->dropped_full, &pkts[put], n - put);
}

uint16_t
vhub_net_inbox_post(struct vhub_net_inbox *inbox, struct rte_mbuf **pkts, uint16_t n)
{
	struct vhub_lcore *lcore = __atomic_load_n(&inbox->lcore, __ATOMIC_ACQUIRE);
	uint16_t put = 0;

	if (likely(n != 0 && lcore != NULL))
		put = put_across(inbox, lcore, inbox->max_waiting / 2, pkts, n);
	rte_pktmbuf_free_bulk(&pkts[put], n - put);
	return put;
}

void
vhub_net_inbox_send(struct vhub_net_inbox *inbox, struct rte_mbuf **pkts, uint16_t n)
{
	struct vhub_lcore *lcore = __atomic_load_n(&inbox->lcore, __ATOMIC_ACQUIRE);

	if (n == 0)
		return;
	if (likely(lcore != NULL && lcore == vhub_lcore_self()))
		vhub_net_to_guest(inbox->queue, pkts, n);
	else if (likely(lcore != NULL && __atomic_load_n(&inbox->queue->open, __ATOMIC_RELAXED)))
		send_across(inbox, lcore, pkts, n);
	else
		drop(&inbox->dropped_closed, pkts, n);
}

void
vhub_net_inbox_send_views(struct vhub_net_inbox *inbox, struct vhub_net_queue *from,
		const struct vhub_net_view *views, uint64_t which)
{
	struct vhub_lcore *lcore = __atomic_load_n(&inbox->lcore, __ATOMIC_ACQUIRE);
	struct rte_mbuf *pkts[VHUB_NET_BURST];
	uint16_t n;

	if (likely(lcore != NULL && lcore == vhub_lcore_self())) {
		vhub_net_views_to_guest(inbox->queue, views, which);
	} else if (likely(lcore != NULL &&
				   __atomic_load_n(&inbox->queue->open, __ATOMIC_RELAXED))) {
		which = vhub_net_views_to_mbufs(from, views, which, pkts);
		n = vhub_net_gather(pkts, which);
		if (likely(n != 0))
			send_across(inbox, lcore, pkts, n);
	} else {
		__atomic_fetch_add(&inbox->dropped_closed, (uint64_t)__builtin_popcountll(which),
				__ATOMIC_RELAXED);
	}
}

/* Of `which`, not empty, those for the same inbox as the first one. */
static inline uint64_t
same_inbox(struct vhub_net_inbox *const *inboxes, uint64_t which)
{
	const struct vhub_net_inbox *first = inboxes[__builtin_ctzll(which)];
	uint64_t same = 0;

	for (; which != 0; which &= which - 1) {
		const unsigned int i = (unsigned int)__builtin_ctzll(which);

		same |= (uint64_t)(inboxes[i] == first) << i;
	}
	return same;
}

void
vhub_net_inbox_send_each(struct vhub_net_inbox *const *inboxes, struct rte_mbuf **pkts,
		uint64_t which)
{
	struct rte_mbuf *out[VHUB_NET_BURST];
	uint64_t same, rest;

	for (; which != 0; which &= ~same) {
		struct vhub_net_inbox *inbox = inboxes[__builtin_ctzll(which)];
		uint16_t n = 0;

		same = same_inbox(inboxes, which);
		for (rest = same; rest != 0; rest &= rest - 1)
			out[n++] = pkts[__builtin_ctzll(rest)];
		vhub_net_inbox_send(inbox, out, n);
	}
}

void
vhub_net_inbox_send_views_each(struct vhub_net_inbox *const *inboxes, struct vhub_net_queue *from,
		const struct vhub_net_view *views, uint64_t which)
{
	uint64_t same;

	for (; which != 0; which &= ~same) {
		same = same_inbox(inboxes, which);
		vhub_net_inbox_send_views(inboxes[__builtin_ctzll(which)], from, views, same);
	}
}

/* ---- the owner ---- */

uint16_t
vhub_net_inbox_take(struct vhub_net_inbox *inbox, struct rte_mbuf **pkts, uint16_t max)
{
	const uint16_t n = dequeue(inbox, pkts, max);

	if (likely(n != 0))
		vhub_count(&inbox->crossed, n);
	return n;
}

int
vhub_net_inbox_arm(struct vhub_net_inbox *inbox)
{
	/* Pairs with the acquire in wake(). */
	__atomic_store_n(&inbox->armed, 1, __ATOMIC_RELEASE);
	/* Pairs with the fence in put_across(). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return rte_ring_empty(inbox->ring) ? 0 : -EAGAIN;
}

void
vhub_net_inbox_disarm(struct vhub_net_inbox *inbox)
{
	__atomic_store_n(&inbox->armed, 0, __ATOMIC_RELAXED);
}

bool
vhub_net_inbox_park(const struct vhub_net_inbox *inbox, struct vhub_lcore_word *word)
{
	/* Senders move it on by as many as they have put in. Its lower half: the ring is shorter. */
	const uint16_t *halves = (const uint16_t *)(const void *)&inbox->ring->prod.tail;

	word->at = &halves[RTE_BYTE_ORDER == RTE_BIG_ENDIAN];
	word->mask = UINT16_MAX;
	/* Where we are: what has come since our last look is seen at the first one. */
	word->seen = (uint16_t)inbox->ring->cons.tail;
	return true;
}

uint64_t
vhub_net_inbox_dropped_closed(const struct vhub_net_inbox *inbox)
{
	return __atomic_load_n(&inbox->dropped_closed, __ATOMIC_RELAXED);
}

void
vhub_net_inbox_emit_stats(struct vhub_net_inbox *const *inboxes, unsigned int n, vhub_stat_fn emit,
		void *arg)
{
	uint64_t crossed = 0, full = 0, closed = 0;

	for (unsigned int i = 0; i < n; i++) {
		crossed += __atomic_load_n(&inboxes[i]->crossed, __ATOMIC_RELAXED);
		full += __atomic_load_n(&inboxes[i]->dropped_full, __ATOMIC_RELAXED);
		closed += vhub_net_inbox_dropped_closed(inboxes[i]);
	}
	emit(arg, "crossed_packets", crossed);
	emit(arg, "dropped_crossing_full", full);
	emit(arg, "dropped_crossing_closed", closed);
}
