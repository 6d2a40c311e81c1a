/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames that may leave the bridge: to the port at which their station was heard, or to all that are in
 * their VLAN, within limits. Never back to where they came from. Called by ingress.c; next: vlan.c, and
 * net/inbox.c for each receiver.
 */
#include <rte_hash_crc.h>
#include <rte_ip.h>

#include "bridge_pvt.h"

#define SEGMENTATION (RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_UDP_SEG)

static inline const struct rte_ether_hdr *
ether_of(const struct rte_mbuf *m)
{
	return rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
}

static inline bool
bit(uint64_t mask, uint16_t i)
{
	return (mask >> i & 1) != 0;
}

/* ---- one frame and one receiver ---- */

/* Bytes of the IP packet, or of the largest one that it is to be cut into. */
static inline uint32_t
packet_bytes(const struct rte_mbuf *m, bool has_tag)
{
	if (unlikely((m->ol_flags & SEGMENTATION) != 0))
		return m->l3_len + m->l4_len + m->tso_segsz;
	return m->pkt_len - RTE_ETHER_HDR_LEN - (has_tag ? BRIDGE_TAG_BYTES : 0);
}

/* Whether the receiver may have frame i; if not, why. */
static inline bool
admits(const struct bridge_port *to, const struct bridge_burst *b, uint16_t i,
		enum bridge_drop *why)
{
	if (unlikely(to->group != 0 && to->group == b->queue->port->group))
		*why = BRIDGE_DROP_ISOLATED;
	else if (unlikely(!bridge_is_member(to, b->vlans[i])))
		*why = BRIDGE_DROP_VLAN;
	else if (unlikely(to->mtu != 0 && packet_bytes(b->pkts[i], bit(b->has_tag, i)) > to->mtu))
		*why = BRIDGE_DROP_MTU;
	else
		return true;
	return false;
}

/* Makes of a frame in `vlan` what the receiver expects: m is frame i of the burst, or a copy. */
static inline bool
retag(struct rte_mbuf *m, bool has_tag, const struct bridge_port *to, uint16_t vlan,
		enum bridge_drop *why)
{
	const bool want_tag = vlan != to->native;

	if (likely(want_tag == has_tag))
		return true;
	if (want_tag) {
		*why = BRIDGE_DROP_NO_MBUF;
		return bridge_push_tag(m, vlan);
	}
	*why = BRIDGE_DROP_VLAN;
	if (bridge_has_inner_tag(m))
		return false;
	bridge_pop_tag(m);
	return true;
}

/* ---- queues of a receiver ---- */

static inline bool
is_fragment(const struct rte_ipv4_hdr *ip)
{
	return (ip->fragment_offset &
			       rte_cpu_to_be_16(RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK)) !=
			0;
}

/* The same for all frames of a flow. */
static uint32_t
hash_flow(const struct rte_mbuf *m, bool has_tag)
{
	const uint32_t at = RTE_ETHER_HDR_LEN + (has_tag ? BRIDGE_TAG_BYTES : 0);
	const uint8_t *frame = rte_pktmbuf_mtod(m, const uint8_t *);
	const uint32_t len = rte_pktmbuf_data_len(m);
	const rte_be16_t *type = (const void *)(frame + at - sizeof(*type));
	uint32_t hash = rte_hash_crc(frame, 2 * RTE_ETHER_ADDR_LEN, 0);

	if (*type == rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4) &&
			len >= at + sizeof(struct rte_ipv4_hdr) + 4) {
		const struct rte_ipv4_hdr *ip = (const void *)(frame + at);

		hash = rte_hash_crc(&ip->src_addr, 8, hash);
		/* Ports, where each packet of the flow has them. */
		if (!is_fragment(ip) && ip->version_ihl == RTE_IPV4_VHL_DEF &&
				(ip->next_proto_id == IPPROTO_TCP ||
						ip->next_proto_id == IPPROTO_UDP))
			hash = rte_hash_crc_4byte(*(const unaligned_uint32_t *)(ip + 1), hash);
	} else if (*type == rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV6) &&
			len >= at + sizeof(struct rte_ipv6_hdr) + 4) {
		const struct rte_ipv6_hdr *ip = (const void *)(frame + at);

		hash = rte_hash_crc(ip->src_addr, 32, hash);
		if (ip->proto == IPPROTO_TCP || ip->proto == IPPROTO_UDP)
			hash = rte_hash_crc_4byte(*(const unaligned_uint32_t *)(ip + 1), hash);
	}
	return hash;
}

/* The first open queue from the one of this hash on; NULL: none is open. */
static inline struct vhub_net_inbox *
open_inbox(const struct bridge_port *to, uint32_t hash)
{
	uint16_t at = (uint16_t)((uint64_t)hash * to->n_queues >> 32), i;

	for (i = 0; i < to->n_queues; i++) {
		if (likely(vhub_net_inbox_is_open(to->queues[at].inbox)))
			return to->queues[at].inbox;
		if (++at == to->n_queues)
			at = 0;
	}
	return NULL;
}

/* The one that the guest wants it on, or the one of the packet's flow. NULL: it is not open. */
static struct vhub_net_inbox *
inbox_of_several(const struct bridge_port *to, const struct rte_mbuf *m, bool has_tag)
{
	const int wanted = vhub_net_inbox_wanted(to->queues[0].inbox, m);

	if (wanted < 0 || wanted >= to->n_queues)
		return open_inbox(to, hash_flow(m, has_tag));
	return vhub_net_inbox_is_open(to->queues[wanted].inbox) ? to->queues[wanted].inbox : NULL;
}

static inline struct vhub_net_inbox *
inbox_for(const struct bridge_port *to, const struct rte_mbuf *m, bool has_tag)
{
	return likely(to->n_queues == 1) ? open_inbox(to, 0) : inbox_of_several(to, m, has_tag);
}

/* ---- to a known station ---- */

/* Returns where frame i goes; NULL: it was dropped. */
static inline struct vhub_net_inbox *
inbox_of_station(struct bridge_burst *b, uint16_t i, uint16_t port)
{
	const struct bridge_port *to = bridge_slot(b->queue->port->bridge, port);
	struct vhub_net_inbox *inbox = NULL;
	enum bridge_drop why = BRIDGE_DROP_NOBODY;

	if (unlikely(to == b->queue->port))
		why = BRIDGE_DROP_SAME_PORT;
	else if (likely(to != NULL && admits(to, b, i, &why))) {
		inbox = inbox_for(to, b->pkts[i], bit(b->has_tag, i));
		if (unlikely(inbox == NULL))
			why = BRIDGE_DROP_NOBODY;
		else if (unlikely(!retag(b->pkts[i], bit(b->has_tag, i), to, b->vlans[i], &why)))
			inbox = NULL;
	}
	if (unlikely(inbox == NULL))
		bridge_drop(b, i, why);
	return inbox;
}

/* Those of `mask`, each to its inbox, in one call for each. */
static void
send_by_inbox(struct bridge_burst *b, uint64_t mask, struct vhub_net_inbox *const *inboxes)
{
	struct rte_mbuf *out[VHUB_NET_BURST];
	uint64_t rest;

	vhub_count(&b->queue->counters.forwarded, (uint64_t)__builtin_popcountll(mask));
	while (mask != 0) {
		struct vhub_net_inbox *inbox = inboxes[__builtin_ctzll(mask)];
		uint16_t n = 0;

		for (rest = mask; rest != 0; rest &= rest - 1) {
			const uint16_t i = (uint16_t)__builtin_ctzll(rest);

			if (inboxes[i] != inbox)
				continue;
			out[n++] = b->pkts[i];
			mask &= ~(UINT64_C(1) << i);
		}
		vhub_net_inbox_send(inbox, out, n);
	}
}

/* ---- to all ---- */

static inline bool
is_within(struct bridge_limit *limit)
{
	return !limit->on ||
			rte_meter_srtcm_color_blind_check(&limit->meter, &limit->profile,
					rte_rdtsc(), 1) == RTE_COLOR_GREEN;
}

/* By the pair that it would come by if it was not flooded. */
static void
flood_to_one_of_several(struct bridge_burst *b, uint16_t i, const struct bridge_port *to,
		struct rte_mbuf *copy)
{
	struct bridge_counters *counters = &b->queue->counters;
	struct vhub_net_inbox *inbox = inbox_of_several(to, b->pkts[i], bit(b->has_tag, i));

	if (inbox != NULL) {
		vhub_count(&counters->copies, 1);
		vhub_net_inbox_send(inbox, &copy, 1);
	} else {
		vhub_count(&counters->drops[BRIDGE_DROP_NOBODY], 1);
		rte_pktmbuf_free(copy);
	}
}

/* Copies of those of `mask` that the receiver may have; they are marked in *reached. */
static void
flood_to(struct bridge_burst *b, uint64_t mask, const struct bridge_port *to, uint64_t *reached)
{
	struct bridge_counters *counters = &b->queue->counters;
	struct vhub_net_inbox *inbox = open_inbox(to, 0);
	struct rte_mbuf *out[VHUB_NET_BURST], *copy;
	enum bridge_drop why;
	uint16_t n = 0;

	if (inbox == NULL)
		return;
	for (; mask != 0; mask &= mask - 1) {
		const uint16_t i = (uint16_t)__builtin_ctzll(mask);

		if (!admits(to, b, i, &why))
			continue;
		*reached |= UINT64_C(1) << i;
		copy = rte_pktmbuf_copy(b->pkts[i], b->queue->pool, 0, UINT32_MAX);
		why = BRIDGE_DROP_NO_MBUF;
		if (copy != NULL && retag(copy, bit(b->has_tag, i), to, b->vlans[i], &why)) {
			if (likely(to->n_queues == 1))
				out[n++] = copy;
			else
				flood_to_one_of_several(b, i, to, copy);
			continue;
		}
		rte_pktmbuf_free(copy);
		vhub_count(&counters->drops[why], 1);
	}
	vhub_count(&counters->copies, n);
	vhub_net_inbox_send(inbox, out, n);
}

static void
flood(struct bridge_burst *b, uint64_t mask)
{
	const struct bridge *bridge = b->queue->port->bridge;
	const uint32_t n_slots = __atomic_load_n(&bridge->n_slots, __ATOMIC_ACQUIRE);
	uint64_t reached = 0;
	uint16_t slot;

	for (slot = 0; slot < n_slots; slot++) {
		const struct bridge_port *to = bridge_slot(bridge, slot);

		if (to != NULL && to != b->queue->port)
			flood_to(b, mask, to, &reached);
	}
	vhub_count(&b->queue->counters.flooded, (uint64_t)__builtin_popcountll(reached));
	for (; mask != 0; mask &= mask - 1) {
		const uint16_t i = (uint16_t)__builtin_ctzll(mask);

		if (bit(reached, i))
			rte_pktmbuf_free(b->pkts[i]);
		else
			bridge_drop(b, i, BRIDGE_DROP_NOBODY);
	}
}

/* ---- a burst ---- */

void
bridge_forward(struct bridge_burst *b)
{
	struct vhub_net_inbox *inboxes[VHUB_NET_BURST];
	uint16_t at[VHUB_NET_BURST], ports[VHUB_NET_BURST], n = 0, k;
	uint64_t keys[VHUB_NET_BURST], rest, known = 0, to_all = 0;
	struct bridge_queue *q = b->queue;

	for (rest = b->alive; rest != 0; rest &= rest - 1) {
		const uint16_t i = (uint16_t)__builtin_ctzll(rest);
		const struct rte_ether_addr *dst = &ether_of(b->pkts[i])->dst_addr;

		if (likely(!rte_is_multicast_ether_addr(dst))) {
			keys[n] = table_key(dst, b->vlans[i]);
			at[n++] = i;
		} else if (likely(is_within(&q->broadcast))) {
			to_all |= UINT64_C(1) << i;
		} else {
			bridge_drop(b, i, BRIDGE_DROP_BROADCAST_LIMIT);
		}
	}
	if (likely(n != 0))
		table_lookup(q->port->bridge->table, keys, n, b->now, ports);
	for (k = 0; k < n; k++) {
		const uint16_t i = at[k];

		if (likely(ports[k] != TABLE_NO_PORT)) {
			inboxes[i] = inbox_of_station(b, i, ports[k]);
			known |= (uint64_t)(inboxes[i] != NULL) << i;
		} else if (likely(is_within(&q->flood))) {
			to_all |= UINT64_C(1) << i;
		} else {
			bridge_drop(b, i, BRIDGE_DROP_FLOOD_LIMIT);
		}
	}
	if (likely(known != 0))
		send_by_inbox(b, known, inboxes);
	if (unlikely(to_all != 0))
		flood(b, to_all);
}
