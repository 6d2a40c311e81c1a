/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packets that a guest has sent, by way of librte_vhost: taken from its ring, looked at, given to the
 * port. Called by net.c for each turn (direct_from.c in its place where the rings are ours); next: the
 * driver's from_guest, by way of offload.c where the port leaves something to be done.
 */
#include "net_pvt.h"

uint16_t
net_drop_odd_sizes(struct net_pair *pair, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t i, kept = 0;

	for (i = 0; i < n; i++) {
		struct rte_mbuf *m = pkts[i];

		if (m->pkt_len < RTE_ETHER_HDR_LEN)
			net_drop(pair, VHUB_NET_DROP_RUNT, &m, 1);
		else if (net_is_oversize(pair->dev->max_frame_bytes, m->pkt_len,
					 vhub_net_mbuf_segment_bytes(m)))
			net_drop(pair, VHUB_NET_DROP_OVERSIZE, &m, 1);
		else
			pkts[kept++] = m;
	}
	return kept;
}

void
net_give_to_port(struct net_pair *pair, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t taken = pair->dev->driver->from_guest(&pair->queue, pkts, n);

	if (unlikely(taken < n))
		net_drop(pair, VHUB_NET_DROP_PORT_FULL, &pkts[taken], n - taken);
}

unsigned int
net_poll_from_guest(struct net_pair *pair, bool take)
{
	struct rte_mbuf *pkts[VHUB_NET_BURST];
	struct net_dev *dev = pair->dev;
	struct net_look look;
	uint16_t n, kept, overlong;

	n = rvhost_from_guest(dev->path, pair->from_ring, pkts, VHUB_NET_BURST, take, &overlong);
	if (unlikely(overlong != 0))
		vhub_count(&pair->counters.drops[VHUB_NET_DROP_OVERSIZE], overlong);
	if (n == 0) {
		net_pool_refill(dev->pool);
		return 0;
	}
	if (unlikely(!pair->from_ring->enabled)) {
		/* "The back-end must process the ring without causing any side effects." */
		net_drop(pair, VHUB_NET_DROP_DISABLED, pkts, n);
		return n;
	}
	if (unlikely(net_link_is_down(dev))) {
		net_drop(pair, VHUB_NET_DROP_LINK_DOWN, pkts, n);
		return n;
	}
	net_look_at(pkts, n, &look);
	vhub_count(&pair->counters.from_guest.packets, n);
	vhub_count(&pair->counters.from_guest.bytes, look.bytes);
	kept = n;
	if (unlikely(look.shortest_bytes < RTE_ETHER_HDR_LEN ||
			    look.longest_bytes > dev->max_frame_bytes))
		kept = net_drop_odd_sizes(pair, pkts, n);
	if (unlikely(look.offloads != 0))
		net_offload_mark(net_sender_of(pair), pkts, kept);
	if (unlikely(net_is_served(dev, NET_FROM_GUEST)))
		kept = net_serve_mbufs(pair, NET_FROM_GUEST, pkts, kept);
	if (unlikely(dev->flows != NULL) && net_flows_matter(dev))
		net_flows_note_mbufs(pair, pkts, kept);
	if (unlikely(look.offloads != 0))
		net_offload(pair, dev->port_takes, pkts, kept, net_give_to_port);
	else if (likely(kept != 0))
		net_give_to_port(pair, pkts, kept);
	return n;
}
