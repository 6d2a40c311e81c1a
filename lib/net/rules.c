/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which packets reach a guest that has asked for some, whose link is down by command, or that was told of a smaller
 * MTU than its port's. Called by to_guest.c and direct_to.c, for bursts of a device that is restricted, on the lcore that owns the
 * pair. The rules are made in ctrl_commands.c; next: direct_to.c.
 */
#include <rte_byteorder.h>

#include "direct.h"

/* ---- one frame ---- */

static bool
is_listed(const struct net_mac_list *list, const struct rte_ether_addr *mac)
{
	uint16_t i;

	if (list->overflown)
		return true;
	for (i = 0; i < list->n; i++) {
		if (rte_is_same_ether_addr(&list->macs[i], mac))
			return true;
	}
	return false;
}

static bool
admits_station(const struct net_rules *rules, const struct rte_ether_addr *mac)
{
	if (rte_is_broadcast_ether_addr(mac))
		return !rules->no_broadcast;
	if (rte_is_multicast_ether_addr(mac))
		return !rules->no_multi && (rules->all_multi || is_listed(&rules->multi, mac));
	if (rules->no_uni)
		return false;
	return rules->all_uni || !rules->has_mac || rte_is_same_ether_addr(&rules->mac, mac) ||
			is_listed(&rules->uni, mac);
}

/* A tag with a priority only is no VLAN's. */
static bool
admits_vlan(const struct net_rules *rules, const uint8_t *frame, uint32_t bytes)
{
	const struct rte_ether_hdr *eth = (const void *)frame;
	const struct rte_vlan_hdr *tag = (const void *)(eth + 1);
	uint16_t vlan;

	if (!rules->has_vlans || eth->ether_type != RTE_BE16(RTE_ETHER_TYPE_VLAN) ||
			bytes < sizeof(*eth) + sizeof(*tag))
		return true;
	vlan = rte_be_to_cpu_16(tag->vlan_tci) & (NET_VLANS - 1);
	return vlan == 0 || (rules->vlans[vlan / 64] >> vlan % 64 & 1) != 0;
}

bool
net_rules_admit(const struct net_rules *rules, const uint8_t *frame, uint32_t bytes)
{
	if (rules->promisc)
		return true;
	return admits_station(rules,
			       &((const struct rte_ether_hdr *)(const void *)frame)->dst_addr) &&
			admits_vlan(rules, frame, bytes);
}

/* ---- bursts ---- */

/* Why nothing at all reaches the guest by this pair; VHUB_NET_DROPS: some may. */
static enum vhub_net_drop
closed_by(const struct net_pair *pair, const struct net_rules *rules)
{
	if ((__atomic_load_n(&pair->dev->restricts, __ATOMIC_RELAXED) & NET_RESTRICTED_BY_LINK) !=
			0)
		return VHUB_NET_DROP_LINK_DOWN;
	if (rules != NULL && pair->queue.index >= rules->n_pairs)
		return VHUB_NET_DROP_NO_RING;
	return VHUB_NET_DROPS;
}

bool
net_rules_close(const struct net_pair *pair)
{
	return closed_by(pair, net_rules_of(&pair->dev->ctrl)) != VHUB_NET_DROPS;
}

static void
take_over_offloads(struct net_pair *pair, const struct net_rules *rules)
{
	if (rules != NULL)
		pair->guest_takes = net_guest_takes(pair->to_ring->features) & rules->takes;
}

uint16_t
net_rules_filter(struct net_pair *pair, struct rte_mbuf **pkts, uint16_t n)
{
	const struct net_rules *rules = net_rules_of(&pair->dev->ctrl);
	const enum vhub_net_drop closed = closed_by(pair, rules);
	uint16_t i, kept = 0;

	if (closed != VHUB_NET_DROPS) {
		net_drop(pair, closed, pkts, n);
		return 0;
	}
	take_over_offloads(pair, rules);
	if (rules == NULL || rules->promisc)
		return n;
	for (i = 0; i < n; i++) {
		struct rte_mbuf *m = pkts[i];

		if (net_rules_admit(rules, rte_pktmbuf_mtod(m, const uint8_t *), m->data_len))
			pkts[kept++] = m;
		else
			net_drop(pair, VHUB_NET_DROP_FILTERED, &m, 1);
	}
	return kept;
}

/* Without what is longer than the guest was told. Of mbufs to_guest.c looks at that. */
static uint64_t
drop_oversize(struct net_pair *pair, const struct vhub_net_view *views, uint64_t which)
{
	const uint32_t max_bytes = net_guest_frame_bytes(pair->dev);
	uint64_t rest;

	for (rest = which; rest != 0; rest &= rest - 1) {
		const struct vhub_net_view *view = &views[__builtin_ctzll(rest)];

		if (!net_is_oversize(max_bytes, view->bytes, vhub_net_segment_bytes(view)))
			continue;
		vhub_count(&pair->counters.drops[VHUB_NET_DROP_OVERSIZE], 1);
		which &= ~(rest & -rest);
	}
	return which;
}

void
net_rules_filter_views(struct net_pair *pair, const struct vhub_net_view *views, uint64_t which)
{
	const struct net_rules *rules = net_rules_of(&pair->dev->ctrl);
	const enum vhub_net_drop closed = closed_by(pair, rules);
	uint64_t rest;

	if (closed != VHUB_NET_DROPS) {
		vhub_count(&pair->counters.drops[closed], (uint64_t)__builtin_popcountll(which));
		return;
	}
	take_over_offloads(pair, rules);
	which = drop_oversize(pair, views, which);
	for (rest = which; rules != NULL && !rules->promisc && rest != 0; rest &= rest - 1) {
		const struct vhub_net_view *view = &views[__builtin_ctzll(rest)];

		if (net_rules_admit(rules, view->head, view->head_bytes))
			continue;
		vhub_count(&pair->counters.drops[VHUB_NET_DROP_FILTERED], 1);
		which &= ~(rest & -rest);
	}
	if (which != 0)
		direct_give_views(pair, views, which);
}
