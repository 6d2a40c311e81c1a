/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A burst that enters the bridge: which VLAN each frame is in, whether it may enter at all, and what
 * its source teaches the table. Called by lib/net; next: forward.c.
 */
#include <string.h>

#include "bridge_pvt.h"

/* 01:80:c2:00:00:00 to 0f (IEEE 802.1Q, table 8-1): never forwarded. */
static bool
is_reserved(const struct rte_ether_addr *addr)
{
	static const uint8_t prefix[] = { 0x01, 0x80, 0xc2, 0x00, 0x00 };

	return memcmp(addr->addr_bytes, prefix, sizeof(prefix)) == 0 &&
			(addr->addr_bytes[5] & 0xf0) == 0;
}

/*
 * The VLAN of a frame with a tag; 0: it may not enter. A tag with a priority alone is taken off. Where
 * a tag comes off, none must appear from below it: it would choose the VLAN in the next bridge.
 */
static uint16_t
vlan_of_tagged(struct bridge_burst *b, uint16_t i, uint16_t vlan, bool *has_tag)
{
	const struct bridge_rules *rules = b->rules;

	if (vlan == 0) {
		if (rules->native == 0 || bridge_has_inner_tag(b, i))
			return 0;
		if (bridge_make_mbuf(b, i)) {
			bridge_pop_tag(b->pkts[i]);
			b->heads[i] = rte_pktmbuf_mtod(b->pkts[i], const uint8_t *);
		}
		*has_tag = false;
		return rules->native;
	}
	if (vlan > BRIDGE_MAX_VLAN || !bridge_takes_tagged(rules, vlan))
		return 0;
	return vlan;
}

static inline void
classify(struct bridge_burst *b, uint16_t i)
{
	const struct rte_ether_hdr *eth = bridge_ether(b, i);
	uint16_t vlan = b->rules->native;
	bool has_tag;

	if (unlikely(rte_is_multicast_ether_addr(&eth->src_addr))) {
		bridge_drop(b, i, BRIDGE_DROP_SOURCE);
		return;
	}
	if (unlikely(is_reserved(&eth->dst_addr))) {
		bridge_drop(b, i, BRIDGE_DROP_RESERVED);
		return;
	}
	has_tag = bridge_read_tag(b, i, &vlan);
	if (unlikely(has_tag))
		vlan = vlan_of_tagged(b, i, vlan, &has_tag);
	if (unlikely(vlan == 0)) {
		bridge_drop(b, i, BRIDGE_DROP_VLAN);
		return;
	}
	b->vlans[i] = vlan;
	b->has_tag |= (uint64_t)has_tag << i;
}

/*
 * Stations send many frames in a row to each other: what was found for the first of them holds for the
 * others, if neither they nor it have a tag.
 */
static inline bool
is_like_the_one_before(const struct bridge_burst *b, uint16_t i)
{
	const struct rte_ether_hdr *eth = bridge_ether(b, i), *before = bridge_ether(b, i - 1u);
	uint64_t a, c;
	uint32_t a_rest, c_rest;

	memcpy(&a, eth, sizeof(a));
	memcpy(&c, before, sizeof(c));
	memcpy(&a_rest, (const uint8_t *)eth + sizeof(a), sizeof(a_rest));
	memcpy(&c_rest, (const uint8_t *)before + sizeof(c), sizeof(c_rest));
	return ((a ^ c) | (a_rest ^ c_rest)) == 0 && bridge_bit(b->alive, i - 1u) &&
			!bridge_bit(b->has_tag, i - 1u) && bridge_bit(b->is_view, i - 1u) &&
			eth->ether_type != rte_cpu_to_be_16(RTE_ETHER_TYPE_VLAN);
}

static inline uint64_t
source_of(const struct bridge_burst *b, uint16_t i)
{
	return table_key(&bridge_ether(b, i)->src_addr, b->vlans[i]);
}

/* Frames with a source that is another port's. Bit k: the k-th key is such a one. */
static void
drop_foreign(struct bridge_burst *b, const uint64_t *keys, uint64_t foreign)
{
	uint64_t rest, of;

	for (rest = b->alive; rest != 0; rest &= rest - 1) {
		const uint16_t i = (uint16_t)__builtin_ctzll(rest);
		const uint64_t source = source_of(b, i);

		for (of = foreign; of != 0; of &= of - 1) {
			if (keys[__builtin_ctzll(of)] != source)
				continue;
			bridge_drop(b, i, BRIDGE_DROP_FOREIGN);
			break;
		}
	}
}

static void
learn(struct bridge_burst *b)
{
	struct bridge_counters *counters = &b->queue->counters;
	const struct bridge_port *p = b->queue->port;
	uint64_t keys[VHUB_NET_BURST], rest, key;
	struct table_learned learned;
	uint16_t n = 0;

	for (rest = b->alive & ~b->is_alike; rest != 0; rest &= rest - 1) {
		key = source_of(b, (uint16_t)__builtin_ctzll(rest));
		/* One station sends many in a row. */
		if (n == 0 || keys[n - 1] != key)
			keys[n++] = key;
	}
	if (unlikely(n == 0))
		return;
	table_learn(p->bridge->table, keys, n, p->index, b->rules->learn_limit, b->now, &learned);
	if (unlikely((learned.added | learned.moved | learned.limited | learned.full) != 0)) {
		vhub_count(&counters->added, learned.added);
		vhub_count(&counters->moved, learned.moved);
		vhub_count(&counters->limited, learned.limited);
		vhub_count(&counters->full, learned.full);
	}
	if (unlikely(learned.foreign != 0))
		drop_foreign(b, keys, learned.foreign);
}

bool
bridge_make_mbuf(struct bridge_burst *b, uint16_t i)
{
	const uint64_t it = UINT64_C(1) << i;

	if (!bridge_bit(b->is_view, i))
		return true;
	if (vhub_net_views_to_mbufs(b->from, b->views, it, b->pkts) == 0) {
		b->alive &= ~it;
		return false;
	}
	b->is_view &= ~it;
	b->heads[i] = rte_pktmbuf_mtod(b->pkts[i], const uint8_t *);
	return true;
}

static __rte_always_inline void
begin(struct bridge_burst *b, struct vhub_net_queue *queue, uint16_t n)
{
	b->queue = queue->priv;
	b->rules = bridge_rules_of(b->queue->port);
	b->from = queue;
	b->alive = vhub_net_all_views(n);
	b->has_tag = 0;
	b->is_alike = 0;
	b->now = bridge_now(b->queue->port->bridge);
}

static __rte_always_inline void
work_off(struct bridge_burst *b, uint16_t n)
{
	uint16_t i;

	classify(b, 0);
	for (i = 1; i < n; i++) {
		if (likely(is_like_the_one_before(b, i))) {
			b->is_alike |= UINT64_C(1) << i;
			b->vlans[i] = b->vlans[i - 1];
		} else {
			classify(b, i);
		}
	}
	learn(b);
	bridge_forward(b);
}

uint16_t
bridge_from_guest(struct vhub_net_queue *queue, struct rte_mbuf **pkts, uint16_t n)
{
	struct bridge_burst b;
	uint16_t i;

	begin(&b, queue, n);
	b.views = NULL;
	b.pkts = pkts;
	b.is_view = 0;
	for (i = 0; i < n; i++)
		b.heads[i] = rte_pktmbuf_mtod(pkts[i], const uint8_t *);
	work_off(&b, n);
	return n;
}

void
bridge_from_guest_views(struct vhub_net_queue *queue, struct vhub_net_view *views, uint16_t n)
{
	struct rte_mbuf *pkts[VHUB_NET_BURST];
	struct bridge_burst b;
	uint16_t i;

	begin(&b, queue, n);
	b.views = views;
	b.pkts = pkts;
	b.is_view = b.alive;
	for (i = 0; i < n; i++)
		b.heads[i] = views[i].head;
	work_off(&b, n);
}
