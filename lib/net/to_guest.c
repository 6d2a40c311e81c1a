/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packets for a guest: from the port (its to_guest), or from a driver that sends them back at once
 * (vhub_net_to_guest()). Called by net.c for each turn, and by drivers; next: rte_vhost/burst.c, by
 * way of offload.c where the guest leaves something to be done.
 */
#include "net_pvt.h"

static inline bool
ring_is_open(const struct vhub_vring *vring)
{
	return vring != NULL && vring->taking && vring->enabled;
}

/* Copies them into the guest's buffers, and frees them. */
static void
give_to_ring(struct net_pair *pair, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t given = rvhost_to_guest(pair->dev->path, pair->to_ring, pkts, n);

	vhub_count(&pair->counters.to_guest.packets, given);
	vhub_count(&pair->counters.to_guest.bytes, net_sum_bytes(pkts, given));
	if (unlikely(given < n))
		net_drop(pair, VHUB_NET_DROP_RING_FULL, &pkts[given], n - given);
	rte_pktmbuf_free_bulk(pkts, given);
}

static inline void
give(struct net_pair *pair, struct rte_mbuf **pkts, uint16_t n)
{
	uint64_t flags = 0;
	uint16_t i;

	for (i = 0; i < n; i++)
		flags |= pkts[i]->ol_flags;
	if (unlikely((flags & NET_OFFLOADS) != 0))
		net_offload(pair, pair->guest_takes, pkts, n, give_to_ring);
	else
		give_to_ring(pair, pkts, n);
}

void
vhub_net_to_guest(struct vhub_net_queue *queue, struct rte_mbuf **pkts, uint16_t n)
{
	struct net_pair *pair = vhub_container_of(queue, struct net_pair, queue);

	if (unlikely(!ring_is_open(pair->to_ring)))
		net_drop(pair, VHUB_NET_DROP_NO_RING, pkts, n);
	else if (likely(n != 0))
		give(pair, pkts, n);
}

void
vhub_net_drop(struct vhub_net_queue *queue, enum vhub_net_drop reason, struct rte_mbuf **pkts,
		uint16_t n)
{
	net_drop(vhub_container_of(queue, struct net_pair, queue), reason, pkts, n);
}

unsigned int
net_poll_to_guest(struct net_pair *pair)
{
	const struct vhub_net_driver_ops *driver = pair->dev->driver;
	struct rte_mbuf *pkts[VHUB_NET_BURST];
	uint16_t n;

	if (driver->to_guest == NULL || !ring_is_open(pair->to_ring))
		return 0;
	n = driver->to_guest(&pair->queue, pkts, VHUB_NET_BURST);
	if (n != 0)
		give(pair, pkts, n);
	return n;
}
