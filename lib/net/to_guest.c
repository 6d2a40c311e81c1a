/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packets for a guest: from the port (its to_guest), or from a driver that sends them back at once
 * (vhub_net_to_guest()). Called by net.c for each turn, and by drivers; next: direct_to.c or
 * rte_vhost/burst.c, by way of offload.c where the guest leaves something to be done.
 */
#include <string.h>

#include "direct.h"
#include "mbufs.h"
#include "net_pvt.h"

/*
 * Mbufs that wait for room in rings, of this lcore's pairs, which are dropped before they leave it. The lcore has its
 * share (mbufs.h), and a pair no more of it than it leaves to others: guests that give no buffers, to packets as
 * long as they come, take nobody's memory. Initial-exec: on the fast path.
 */
static __thread uint32_t lcore_held_mbufs __attribute__((tls_model("initial-exec")));

static bool
is_behind_viommu(const struct net_pair *pair)
{
	return (pair->to_ring->features & VHUB_F(ACCESS_PLATFORM)) != 0;
}

/* Returns false when there are enough that wait. */
static bool
keep(struct net_pair *pair, struct rte_mbuf *m, uint32_t max_mbufs)
{
	if (pair->n_held == VHUB_NET_BURST ||
			lcore_held_mbufs + pair->held_mbufs + m->nb_segs > max_mbufs)
		return false;
	pair->held[pair->n_held++] = m;
	pair->held_mbufs += m->nb_segs;
	lcore_held_mbufs += m->nb_segs;
	return true;
}

/* None waits any more: whoever calls has them. */
static void
forget_held(struct net_pair *pair)
{
	lcore_held_mbufs -= pair->held_mbufs;
	pair->held_mbufs = 0;
	pair->n_held = 0;
}

/* The guest had no room for these: they wait a little, and those that come later behind them. */
static void
keep_or_drop(struct net_pair *pair, struct rte_mbuf **pkts, uint16_t n)
{
	const uint32_t max_mbufs = net_held_share(vhub_lcore_count());
	uint16_t kept = 0;

	if (pair->n_held == 0) {
		pair->turns_left = NET_FULL_TURNS;
		if (is_behind_viommu(pair))
			pair->held_since_tsc = rte_rdtsc();
	}
	while (kept < n && keep(pair, pkts[kept], max_mbufs))
		kept++;
	if (kept != 0)
		vhub_vring_resume(pair->to_ring);
	if (kept < n)
		net_drop(pair, VHUB_NET_DROP_RING_FULL, &pkts[kept], n - kept);
}

void
net_drop_held(struct net_pair *pair)
{
	net_drop(pair, VHUB_NET_DROP_NO_RING, pair->held, pair->n_held);
	forget_held(pair);
}

/*
 * Into a packet with segmentation librte_vhost writes another sum of the pseudo header, as NICs want it: without the
 * length. A guest that sends the packet on would send wrong sums. It leaves the sum alone where not all headers are in
 * the first mbuf (rte_net_intel_cksum_prepare()), so meanwhile the last byte of them is a second one's, which is
 * attached to the first. Returns of how many packets, from the front; for the others there was no memory.
 */
static __rte_noinline uint16_t
part_headers(const struct net_pair *pair, struct rte_mbuf *const *pkts, uint16_t n)
{
	struct rte_mbuf *m, *rest;
	uint16_t i, bytes;

	for (i = 0; i < n; i++) {
		m = pkts[i];
		if ((m->ol_flags & NET_SEGMENTATION) == 0)
			continue;
		if (net_pool_get(pair->dev->pool, &rest, 1) != 0)
			break;
		bytes = (uint16_t)(m->l2_len + m->l3_len + m->l4_len - 1);
		rte_pktmbuf_attach(rest, m);
		rte_pktmbuf_adj(rest, bytes);
		rest->next = m->next;
		m->next = rest;
		m->nb_segs++;
		m->data_len = bytes;
	}
	return i;
}

/* As they were. */
static void
join_headers(struct rte_mbuf *const *pkts, uint16_t n)
{
	for (uint16_t i = 0; i < n; i++) {
		struct rte_mbuf *m = pkts[i], *rest = m->next;

		if ((m->ol_flags & NET_SEGMENTATION) == 0)
			continue;
		m->data_len += rest->data_len;
		m->nb_segs--;
		m->next = rest->next;
		rest->next = NULL;
		rte_pktmbuf_free_seg(rest);
	}
}

/* Copies them into the guest's buffers, and frees them. */
static __rte_always_inline void
give_looked_at(struct net_pair *pair, struct rte_mbuf **pkts, uint16_t n, struct net_look *look)
{
	const bool segments = (look->offloads & NET_SEGMENTATION) != 0;
	uint16_t given, most = n;

	if (pair->to_ring->vq != NULL) {
		given = direct_give_mbufs(pair, pkts, n);
		if (unlikely(given < n))
			keep_or_drop(pair, &pkts[given], n - given);
		return;
	}
	if (unlikely(segments))
		most = part_headers(pair, pkts, n);
	given = rvhost_to_guest(pair->dev->path, pair->to_ring, pkts, most);
	if (unlikely(given < n)) {
		if (segments)
			join_headers(&pkts[given], most - given);
		keep_or_drop(pair, &pkts[given], n - given);
		net_look_at(pkts, given, look);
	}
	vhub_count(&pair->counters.to_guest.packets, given);
	vhub_count(&pair->counters.to_guest.bytes, look->bytes);
	rvhost_given(pair->dev->path, pair->to_ring, pkts, given);
}

/* One part of a burst, of which an earlier one may wait already. */
static void
give_to_ring(struct net_pair *pair, struct rte_mbuf **pkts, uint16_t n)
{
	struct net_look look;

	if (unlikely(pair->n_held != 0)) {
		keep_or_drop(pair, pkts, n);
		return;
	}
	net_look_at(pkts, n, &look);
	give_looked_at(pair, pkts, n, &look);
}

/* Whoever they come from may have a larger MTU (VIRTIO 1.2, 5.1.4.1). Returns how many are left, in order. */
static __rte_noinline uint16_t
drop_oversize(struct net_pair *pair, struct rte_mbuf **pkts, uint16_t n)
{
	const uint32_t max_bytes = net_guest_frame_bytes(pair->dev);
	uint16_t i, kept = 0;

	for (i = 0; i < n; i++) {
		struct rte_mbuf *m = pkts[i];

		if (net_is_oversize(max_bytes, m->pkt_len, vhub_net_mbuf_segment_bytes(m)))
			net_drop(pair, VHUB_NET_DROP_OVERSIZE, &m, 1);
		else
			pkts[kept++] = m;
	}
	return kept;
}

static inline void
give_admitted(struct net_pair *pair, struct rte_mbuf **pkts, uint16_t n)
{
	struct net_look look;

	if (unlikely(n == 0))
		return;
	if (unlikely(pair->n_held != 0)) {
		keep_or_drop(pair, pkts, n); /* in order, behind those that wait */
		return;
	}
	net_look_at(pkts, n, &look);
	if (unlikely(look.longest_bytes > net_guest_frame_bytes(pair->dev))) {
		n = drop_oversize(pair, pkts, n);
		if (n == 0)
			return;
		net_look_at(pkts, n, &look);
	}
	if (unlikely(look.offloads != 0))
		net_offload(pair, pair->guest_takes, pkts, n, give_to_ring);
	else
		give_looked_at(pair, pkts, n, &look);
}

void
net_give_to_guest(struct net_pair *pair, struct rte_mbuf **pkts, uint16_t n)
{
	if (unlikely(net_is_restricted(pair->dev)))
		n = net_rules_filter(pair, pkts, n);
	give_admitted(pair, pkts, n);
}

/* Packets that come to the pair, not those that have waited or were served as views. */
static inline void
give_new(struct net_pair *pair, struct rte_mbuf **pkts, uint16_t n)
{
	/* What is not for this guest concerns no service of its port. */
	if (unlikely(net_is_restricted(pair->dev)))
		n = net_rules_filter(pair, pkts, n);
	if (unlikely(net_is_served(pair->dev, NET_TO_GUEST))) {
		n = drop_oversize(pair, pkts, n);
		n = net_serve_mbufs(pair, NET_TO_GUEST, pkts, n);
	}
	give_admitted(pair, pkts, n);
}

void
vhub_net_to_guest(struct vhub_net_queue *queue, struct rte_mbuf **pkts, uint16_t n)
{
	struct net_pair *pair = vhub_container_of(queue, struct net_pair, queue);

	if (likely(net_ring_is_open(pair->to_ring)) || net_ends(pair)) {
		if (likely(n != 0))
			give_new(pair, pkts, n);
	} else if (pair->wire != NULL) {
		net_uplink_give(pair, pkts, n);
	} else {
		net_drop(pair, VHUB_NET_DROP_NO_RING, pkts, n);
	}
}

void
vhub_net_drop(struct vhub_net_queue *queue, enum vhub_net_drop reason, struct rte_mbuf **pkts,
		uint16_t n)
{
	struct net_pair *pair = vhub_container_of(queue, struct net_pair, queue);

	for (uint16_t i = 0; i < n; i++)
		pair->driver_dropped.bytes += pkts[i]->pkt_len;
	pair->driver_dropped.packets += n;
	net_drop(pair, reason, pkts, n);
}

/* One more turn was of no use to what waits. Of translations that are under way a turn tells nothing. */
static bool
has_waited_enough(struct net_pair *pair)
{
	if (is_behind_viommu(pair) && rvhost_missed_translation(pair->dev->path, pair->to_ring))
		return rte_rdtsc() - pair->held_since_tsc >
				rte_get_tsc_hz() / 1000 * NET_VIOMMU_WAIT_MS;
	pair->turns_left = RTE_MAX(pair->turns_left, 1) - 1;
	return pair->turns_left == 0;
}

/* Takes what waits into `pkts`. Returns how many. */
static uint16_t
take_held(struct net_pair *pair, struct rte_mbuf **pkts)
{
	const uint16_t n = pair->n_held;

	memcpy(pkts, pair->held, n * sizeof(pkts[0]));
	forget_held(pair);
	return n;
}

/* Returns whether one of them, or of what they were cut into, waits no more. */
static bool
give_again(struct net_pair *pair, struct rte_mbuf **pkts, uint16_t n)
{
	const uint64_t before = pair->counters.to_guest.packets;

	net_give_to_guest(pair, pkts, n);
	return pair->n_held < n || pair->counters.to_guest.packets != before;
}

/*
 * The library does not tell a packet that is too long for the guest's buffers from a full ring: those
 * behind the first one are tried without it before they are dropped as well.
 */
static void
drop_without_room(struct net_pair *pair)
{
	struct rte_mbuf *pkts[VHUB_NET_BURST];
	const uint16_t n = take_held(pair, pkts);

	net_drop(pair, VHUB_NET_DROP_RING_FULL, pkts, 1);
	if (give_again(pair, &pkts[1], (uint16_t)(n - 1)))
		return;
	net_drop(pair, VHUB_NET_DROP_RING_FULL, pair->held, pair->n_held);
	forget_held(pair);
}

/* Returns how many packets the guest has got. */
static unsigned int
give_held(struct net_pair *pair)
{
	const uint64_t before = pair->counters.to_guest.packets, since_tsc = pair->held_since_tsc;
	const uint16_t turns_left = pair->turns_left;
	struct rte_mbuf *pkts[VHUB_NET_BURST];
	const uint16_t n = take_held(pair, pkts);

	if (!give_again(pair, pkts, n)) {
		/* They wait on, not anew. */
		pair->turns_left = turns_left;
		pair->held_since_tsc = since_tsc;
		if (has_waited_enough(pair))
			drop_without_room(pair);
	}
	return (unsigned int)(pair->counters.to_guest.packets - before);
}

/* Copies of what passes other ports: of no concern to the services of this one. */
static uint16_t
give_mirrored(struct net_pair *pair)
{
	struct rte_mbuf *pkts[VHUB_NET_BURST];
	const uint16_t n = net_mirror_take(pair, pkts, VHUB_NET_BURST);

	net_offload_mark(net_sender_of_mirrored(pair), pkts, n);
	if (n != 0)
		net_give_to_guest(pair, pkts, n);
	return n;
}

unsigned int
net_poll_to_guest(struct net_pair *pair)
{
	const struct vhub_net_driver_ops *driver = pair->dev->driver;
	struct rte_mbuf *pkts[VHUB_NET_BURST];
	uint16_t n, mirrored = 0;

	if (!pair->queue.open)
		return 0;
	if (unlikely(pair->n_held != 0))
		return give_held(pair);
	if (unlikely(net_is_watching(pair->dev))) {
		mirrored = give_mirrored(pair);
		if (pair->n_held != 0)
			return mirrored;
	}
	if (driver->to_guest == NULL)
		return mirrored;
	n = driver->to_guest(&pair->queue, pkts, VHUB_NET_BURST);
	if (n != 0)
		give_new(pair, pkts, n);
	return mirrored + n;
}
