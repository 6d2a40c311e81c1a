/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * VLAN tags of frames (IEEE 802.1Q): read, taken off, put on, with the offloads that are still to be
 * done moved along. Called by ingress.c and forward.c.
 */
#include <string.h>

#include <rte_byteorder.h>
#include <rte_ether.h>

#include "bridge_pvt.h"

#define ADDRESSES (2u * RTE_ETHER_ADDR_LEN)
#define VLAN_ID 0x0fffu

static bool
is_tag(rte_be16_t type)
{
	return type == rte_cpu_to_be_16(RTE_ETHER_TYPE_VLAN) ||
			type == rte_cpu_to_be_16(RTE_ETHER_TYPE_QINQ);
}

bool
bridge_read_tag(const struct bridge_burst *b, uint16_t i, uint16_t *vlan)
{
	const struct rte_ether_hdr *eth = bridge_ether(b, i);
	const struct rte_vlan_hdr *tag = (const void *)(eth + 1);

	if (likely(eth->ether_type != rte_cpu_to_be_16(RTE_ETHER_TYPE_VLAN)))
		return false;
	if (bridge_head_bytes(b, i) < sizeof(*eth) + sizeof(*tag))
		*vlan = VLAN_ID; /* not one of those that there are */
	else
		*vlan = rte_be_to_cpu_16(tag->vlan_tci) & VLAN_ID;
	return true;
}

uint32_t
bridge_tags(const struct bridge_burst *b, uint16_t i)
{
	const struct rte_vlan_hdr *tag = (const void *)(bridge_ether(b, i) + 1);
	rte_be16_t type = bridge_ether(b, i)->ether_type;
	uint32_t n = 0, at = RTE_ETHER_HDR_LEN;

	while (n < BRIDGE_MAX_TAGS && is_tag(type)) {
		at += BRIDGE_TAG_BYTES;
		if (at > bridge_head_bytes(b, i))
			break;
		type = tag[n++].eth_proto;
	}
	return n;
}

bool
bridge_has_inner_tag(const struct bridge_burst *b, uint16_t i)
{
	const struct rte_ether_hdr *eth = bridge_ether(b, i);
	const struct rte_vlan_hdr *tag = (const void *)(eth + 1);

	return is_tag(tag->eth_proto);
}

/* Headers behind the tag are found by l2_len. */
static bool
has_l2_len(const struct rte_mbuf *m)
{
	return (m->ol_flags &
			       (RTE_MBUF_F_TX_L4_MASK | RTE_MBUF_F_TX_TCP_SEG |
					       RTE_MBUF_F_TX_UDP_SEG | RTE_MBUF_F_TX_IP_CKSUM)) !=
			0;
}

void
bridge_pop_tag(struct rte_mbuf *m)
{
	uint8_t *frame = rte_pktmbuf_mtod(m, uint8_t *);

	memmove(frame + BRIDGE_TAG_BYTES, frame, ADDRESSES);
	rte_pktmbuf_adj(m, BRIDGE_TAG_BYTES);
	if (has_l2_len(m))
		m->l2_len -= BRIDGE_TAG_BYTES;
}

bool
bridge_push_tag(struct rte_mbuf *m, uint16_t vlan)
{
	struct rte_vlan_hdr tag = { .vlan_tci = rte_cpu_to_be_16(vlan) };
	uint8_t *frame = (uint8_t *)rte_pktmbuf_prepend(m, BRIDGE_TAG_BYTES);
	const rte_be16_t type = rte_cpu_to_be_16(RTE_ETHER_TYPE_VLAN);

	if (unlikely(frame == NULL))
		return false;
	memmove(frame, frame + BRIDGE_TAG_BYTES, ADDRESSES);
	memcpy(frame + ADDRESSES, &type, sizeof(type));
	/* The frame's own type is where it was, behind the identifier. */
	memcpy(frame + ADDRESSES + sizeof(type), &tag.vlan_tci, sizeof(tag.vlan_tci));
	if (has_l2_len(m))
		m->l2_len += BRIDGE_TAG_BYTES;
	return true;
}
