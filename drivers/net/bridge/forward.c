/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames that may leave the bridge: to the port at which their station was heard, or to all that are in
 * their VLAN, within limits. Never back to where they came from. Called by ingress.c; next: vlan.c, and
 * net/inbox.c for each receiver.
 */
#include <string.h>

#include <rte_hash_crc.h>
#include <rte_ip.h>

#include "bridge_pvt.h"

/* Of TCP and of UDP: both ports. */
#define PORTS_BYTES 4u
/* Of the longest frame where nobody has set an MTU. */
#define ORDINARY_BYTES (VHUB_NET_FRAME_OVERHEAD + RTE_ETHER_MTU)

/* ---- one frame and one receiver ---- */

/* Bytes of the frame, or of the longest one that it is to be cut into. */
static inline uint32_t
frame_bytes(const struct bridge_burst *b, uint16_t i)
{
	if (likely(bridge_bit(b->is_view, i)))
		return vhub_net_segment_bytes(&b->views[i]);
	return vhub_net_mbuf_segment_bytes(b->pkts[i]);
}

/* Of a frame without tags, so long at most. */
static inline bool
fits_mtu(const struct bridge_port *to, uint32_t bytes)
{
	return to->mtu == 0 || bytes <= to->mtu + (uint32_t)RTE_ETHER_HDR_LEN;
}

/* An MTU is of the IP packet: tags are beside it. */
static inline bool
fits(const struct bridge_port *to, const struct bridge_burst *b, uint16_t i)
{
	const uint32_t bytes = frame_bytes(b, i);

	return fits_mtu(to, bytes) || fits_mtu(to, bytes - bridge_tags(b, i) * BRIDGE_TAG_BYTES);
}

/* Whether the receiver may have frame i; if not, why. */
static inline bool
admits(const struct bridge_port *to, const struct bridge_rules *rules, const struct bridge_burst *b,
		uint16_t i, enum bridge_drop *why)
{
	if (unlikely(rules->group != 0 && rules->group == b->rules->group))
		*why = BRIDGE_DROP_ISOLATED;
	else if (unlikely(!bridge_is_member(rules, b->vlans[i])))
		*why = BRIDGE_DROP_VLAN;
	else if (unlikely(!fits(to, b, i)))
		*why = BRIDGE_DROP_MTU;
	else
		return true;
	return false;
}

/* Whether frame i is for the receiver as it is. */
static inline bool
has_right_tag(const struct bridge_burst *b, uint16_t i, const struct bridge_rules *rules)
{
	return (b->vlans[i] != rules->native) == bridge_bit(b->has_tag, i);
}

/* Else makes of it what the receiver expects: m is frame i of the burst, or a copy. */
static bool
retag(const struct bridge_burst *b, uint16_t i, struct rte_mbuf *m, enum bridge_drop *why)
{
	if (!bridge_bit(b->has_tag, i)) {
		*why = BRIDGE_DROP_NO_MBUF;
		return bridge_push_tag(m, b->vlans[i]);
	}
	*why = BRIDGE_DROP_VLAN;
	if (bridge_has_inner_tag(b, i))
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

/* Of a frame's bytes, which lie as they come: rte_hash_crc() reads words. At most 32. */
static inline uint32_t
hash_bytes(const void *from, uint32_t bytes, uint32_t hash)
{
	uint64_t words[sizeof(((struct rte_ipv6_hdr *)NULL)->src_addr) * 2 / sizeof(uint64_t)];

	memcpy(words, from, bytes);
	return rte_hash_crc(words, bytes, hash);
}

/* The same for all frames of a flow. */
static uint32_t
hash_flow(const struct bridge_burst *b, uint16_t i)
{
	const uint32_t at = RTE_ETHER_HDR_LEN + (bridge_bit(b->has_tag, i) ? BRIDGE_TAG_BYTES : 0);
	const uint32_t len = bridge_head_bytes(b, i);
	const uint8_t *frame = b->heads[i];
	const rte_be16_t *type = (const void *)(frame + at - sizeof(*type));
	uint32_t hash = hash_bytes(frame, 2 * RTE_ETHER_ADDR_LEN, 0);

	if (*type == rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4) &&
			len >= at + sizeof(struct rte_ipv4_hdr) + 4) {
		const struct rte_ipv4_hdr *ip = (const void *)(frame + at);

		hash = hash_bytes(&ip->src_addr, 2 * sizeof(ip->src_addr), hash);
		/* Ports, where each packet of the flow has them. */
		if (!is_fragment(ip) && ip->version_ihl == RTE_IPV4_VHL_DEF &&
				(ip->next_proto_id == IPPROTO_TCP ||
						ip->next_proto_id == IPPROTO_UDP))
			hash = hash_bytes(ip + 1, PORTS_BYTES, hash);
	} else if (*type == rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV6) &&
			len >= at + sizeof(struct rte_ipv6_hdr) + 4) {
		const struct rte_ipv6_hdr *ip = (const void *)(frame + at);

		hash = hash_bytes(ip->src_addr, 2 * sizeof(ip->src_addr), hash);
		if (ip->proto == IPPROTO_TCP || ip->proto == IPPROTO_UDP)
			hash = hash_bytes(ip + 1, PORTS_BYTES, hash);
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

/* A wire takes any packet by any queue: by the one of this lcore nothing is to cross. NULL: it has none. */
static struct vhub_net_inbox *
own_inbox(const struct bridge_port *to, const struct vhub_lcore *lcore)
{
	const struct vhub_net_queue *queue;
	uint16_t i;

	for (i = 0; i < to->n_queues; i++) {
		queue = vhub_net_inbox_queue(to->queues[i].inbox);
		if (queue != NULL && queue->lcore == lcore &&
				vhub_net_inbox_is_open(to->queues[i].inbox))
			return to->queues[i].inbox;
	}
	return NULL;
}

/*
 * The one that the guest wants it on, or the one of the packet's flow. NULL: it is not open. Packets of a
 * flow come by one pair, so by one lcore, and stay in their order on a wire too.
 */
static struct vhub_net_inbox *
inbox_of_several(const struct bridge_burst *b, uint16_t i, const struct bridge_port *to)
{
	int wanted;
	struct vhub_net_inbox *own;

	if (to->port.is_uplink) {
		own = own_inbox(to, b->from->lcore);
		return own != NULL ? own : open_inbox(to, hash_flow(b, i));
	}
	wanted = vhub_net_inbox_wanted(to->queues[0].inbox, b->heads[i], bridge_head_bytes(b, i));

	if (wanted < 0 || wanted >= to->n_queues)
		return open_inbox(to, hash_flow(b, i));
	return vhub_net_inbox_is_open(to->queues[wanted].inbox) ? to->queues[wanted].inbox : NULL;
}

/* ---- to a known station ---- */

/* Returns where frame i goes; NULL: it was dropped. */
static inline struct vhub_net_inbox *
inbox_of_station(struct bridge_burst *b, uint16_t i, uint16_t port)
{
	const struct bridge_port *to = bridge_slot(b->queue->port->bridge, port);
	const struct bridge_rules *rules = likely(to != NULL) ? bridge_rules_of(to) : NULL;
	struct vhub_net_inbox *inbox = NULL;
	enum bridge_drop why = BRIDGE_DROP_NOBODY;

	if (unlikely(to == b->queue->port))
		why = BRIDGE_DROP_SAME_PORT;
	else if (likely(to != NULL && admits(to, rules, b, i, &why))) {
		inbox = likely(to->n_queues == 1) ? open_inbox(to, 0) : inbox_of_several(b, i, to);
		if (unlikely(inbox == NULL))
			why = BRIDGE_DROP_NOBODY;
		else if (unlikely(!has_right_tag(b, i, rules))) {
			if (!bridge_make_mbuf(b, i))
				return NULL;
			if (!retag(b, i, b->pkts[i], &why))
				inbox = NULL;
		}
	}
	if (unlikely(inbox == NULL))
		bridge_drop(b, i, why);
	return inbox;
}

/*
 * Whether frame i goes where the one before it went, as all frames to one station do that has one queue
 * and takes them as they are. `known`: those that went somewhere.
 */
static inline bool
goes_along(const struct bridge_burst *b, uint16_t i, uint16_t port, uint64_t known)
{
	const struct bridge_port *to;
	const struct vhub_net_view *view;

	if (!bridge_bit(b->is_alike & (known & b->is_view) << 1, i))
		return false;
	view = &b->views[i];
	to = bridge_slot(b->queue->port->bridge, port);
	return to != NULL && to->n_queues == 1 && view->offload.gso == VHUB_NET_GSO_NONE &&
			fits_mtu(to, view->bytes);
}

/* Those of `mask`, each to its inbox, in one call for each; and one for those that are no views. */
static void
send_by_inbox(struct bridge_burst *b, uint64_t mask, struct vhub_net_inbox *const *inboxes)
{
	struct rte_mbuf *out[VHUB_NET_BURST];
	uint64_t rest, same;

	vhub_count(&b->queue->counters.forwarded, (uint64_t)__builtin_popcountll(mask));
	while (mask != 0) {
		struct vhub_net_inbox *inbox = inboxes[__builtin_ctzll(mask)];
		uint16_t n = 0;

		for (rest = mask, same = 0; rest != 0; rest &= rest - 1) {
			const uint16_t i = (uint16_t)__builtin_ctzll(rest);

			same |= (uint64_t)(inboxes[i] == inbox) << i;
		}
		mask &= ~same;
		if (likely((same & b->is_view) != 0))
			vhub_net_inbox_send_views(inbox, b->from, b->views, same & b->is_view);
		for (rest = same & ~b->is_view; rest != 0; rest &= rest - 1)
			out[n++] = b->pkts[__builtin_ctzll(rest)];
		vhub_net_inbox_send(inbox, out, n);
	}
}

/* ---- to all ---- */

/*
 * What frame i costs: each receiver gets it in as many, or has the work of it; and one that is long as it is
 * costs as much as those of ordinary length that its bytes would fill.
 */
static uint32_t
cost(const struct bridge_burst *b, uint16_t i)
{
	if (bridge_bit(b->is_view, i))
		return RTE_MAX(vhub_net_segments(&b->views[i]),
				vhub_net_pieces(b->views[i].bytes, ORDINARY_BYTES));
	return RTE_MAX(vhub_net_mbuf_segments(b->pkts[i]),
			vhub_net_pieces(b->pkts[i]->pkt_len, ORDINARY_BYTES));
}

static inline bool
is_within(uint32_t limit, struct vhub_meter *m, const struct bridge_burst *b, uint16_t i)
{
	return limit == 0 || vhub_meter_take(m, cost(b, i), rte_rdtsc());
}

/* A copy of frame i for this receiver; NULL: counted. */
static struct rte_mbuf *
copy_for(struct bridge_burst *b, uint16_t i, const struct bridge_rules *rules)
{
	enum bridge_drop why = BRIDGE_DROP_NO_MBUF;
	struct rte_mbuf *made[VHUB_NET_BURST];
	struct rte_mbuf *copy;

	if (bridge_bit(b->is_view, i)) {
		if (vhub_net_views_to_mbufs(b->from, b->views, UINT64_C(1) << i, made) == 0)
			return NULL;
		copy = made[i];
	} else {
		copy = vhub_net_copy(b->pkts[i], b->queue->pool);
	}
	if (copy != NULL && (has_right_tag(b, i, rules) || retag(b, i, copy, &why)))
		return copy;
	rte_pktmbuf_free(copy);
	vhub_count(&b->queue->counters.drops[why], 1);
	return NULL;
}

/*
 * Those of `mask` that the receiver may have, as they are or copies, by the pairs that they would come by if they
 * were not flooded; they are marked in *reached.
 */
static void
flood_to(struct bridge_burst *b, uint64_t mask, const struct bridge_port *to, uint64_t *reached)
{
	struct vhub_net_inbox *first = open_inbox(to, 0), *inboxes[VHUB_NET_BURST];
	const struct bridge_rules *rules = bridge_rules_of(to);
	struct rte_mbuf *copies[VHUB_NET_BURST];
	uint64_t as_they_are = 0, copied = 0;
	enum bridge_drop why;

	if (first == NULL)
		return;
	for (; mask != 0; mask &= mask - 1) {
		const uint16_t i = (uint16_t)__builtin_ctzll(mask);

		if (!admits(to, rules, b, i, &why))
			continue;
		*reached |= UINT64_C(1) << i;
		inboxes[i] = likely(to->n_queues == 1) ? first : inbox_of_several(b, i, to);
		if (unlikely(inboxes[i] == NULL)) {
			vhub_count(&b->queue->counters.drops[BRIDGE_DROP_NOBODY], 1);
		} else if (bridge_bit(b->is_view, i) && has_right_tag(b, i, rules)) {
			as_they_are |= UINT64_C(1) << i;
		} else {
			copies[i] = copy_for(b, i, rules);
			copied |= (uint64_t)(copies[i] != NULL) << i;
		}
	}
	vhub_count(&b->queue->counters.copies,
			(uint64_t)__builtin_popcountll(as_they_are | copied));
	vhub_net_inbox_send_views_each(inboxes, b->from, b->views, as_they_are);
	vhub_net_inbox_send_each(inboxes, copies, copied);
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

		if (!bridge_bit(reached, i))
			bridge_drop(b, i, BRIDGE_DROP_NOBODY);
		else if (!bridge_bit(b->is_view, i))
			rte_pktmbuf_free(b->pkts[i]);
	}
}

/* ---- a burst ---- */

void
bridge_forward(struct bridge_burst *b)
{
	struct vhub_net_inbox *inboxes[VHUB_NET_BURST];
	uint16_t ports[VHUB_NET_BURST], n = 0;
	uint64_t keys[VHUB_NET_BURST], rest, to_one = 0, known = 0, to_all = 0;
	const struct bridge_rules *rules = b->rules;
	struct bridge_port *p = b->queue->port;
	uint8_t at[VHUB_NET_BURST]; /* which key */

	for (rest = b->alive; rest != 0; rest &= rest - 1) {
		const uint16_t i = (uint16_t)__builtin_ctzll(rest);
		const struct rte_ether_addr *dst = &bridge_ether(b, i)->dst_addr;

		if (likely(bridge_bit(b->is_alike & to_one << 1, i))) {
			at[i] = at[i - 1];
			to_one |= UINT64_C(1) << i;
		} else if (likely(!rte_is_multicast_ether_addr(dst))) {
			const uint64_t key = table_key(dst, b->vlans[i]);

			/* Many in a row are for one station. */
			if (n == 0 || keys[n - 1] != key)
				keys[n++] = key;
			at[i] = (uint8_t)(n - 1);
			to_one |= UINT64_C(1) << i;
		} else if (likely(is_within(rules->broadcast_limit, &p->broadcast, b, i))) {
			to_all |= UINT64_C(1) << i;
		} else {
			bridge_drop(b, i, BRIDGE_DROP_BROADCAST_LIMIT);
		}
	}
	if (likely(n != 0))
		table_lookup(p->bridge->table, keys, n, b->now, ports);
	for (rest = to_one; rest != 0; rest &= rest - 1) {
		const uint16_t i = (uint16_t)__builtin_ctzll(rest);
		const uint16_t port = ports[at[i]];

		if (likely(goes_along(b, i, port, known))) {
			inboxes[i] = inboxes[i - 1];
			known |= UINT64_C(1) << i;
		} else if (likely(port != TABLE_NO_PORT)) {
			inboxes[i] = inbox_of_station(b, i, port);
			known |= (uint64_t)(inboxes[i] != NULL) << i;
		} else if (likely(is_within(rules->flood_limit, &p->flood, b, i))) {
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
