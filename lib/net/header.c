/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a packet's virtio_net_hdr says (VIRTIO 1.2, 5.1.6), what is to be done for the packet, and what
 * mbufs say of the same. Called by direct_from.c with copies of what a guest wrote, which is believed
 * in nothing: positions lie in the packet, and segmentation needs the headers that it is for. Next on
 * the way: view.c, direct_to.c.
 */
#include <errno.h>

#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "direct.h"

#define MAX_VLAN_TAGS 2

/* ---- headers ---- */

static uint16_t
be16_at(const uint8_t *head, uint32_t at)
{
	return (uint16_t)(head[at] << 8 | head[at + 1]);
}

/* The Ethernet type behind VLAN tags; l2_bytes is where the rest begins. */
static uint16_t
skip_tags(const uint8_t *head, uint32_t head_bytes, struct net_headers *h)
{
	uint16_t type = be16_at(head, 2 * RTE_ETHER_ADDR_LEN);
	unsigned int i;

	h->l2_bytes = RTE_ETHER_HDR_LEN;
	for (i = 0; i < MAX_VLAN_TAGS; i++) {
		if (type != RTE_ETHER_TYPE_VLAN && type != RTE_ETHER_TYPE_QINQ)
			break;
		if (h->l2_bytes + sizeof(struct rte_vlan_hdr) > head_bytes)
			return 0;
		type = be16_at(head, h->l2_bytes + 2);
		h->l2_bytes += sizeof(struct rte_vlan_hdr);
	}
	return type;
}

static bool
parse_ipv4(const uint8_t *head, uint32_t head_bytes, struct net_headers *h)
{
	const uint8_t *ip = head + h->l2_bytes;

	if (h->l2_bytes + sizeof(struct rte_ipv4_hdr) > head_bytes || ip[0] >> 4 != 4)
		return false;
	h->l3_bytes = (ip[0] & 0xf) * 4;
	if (h->l3_bytes < sizeof(struct rte_ipv4_hdr))
		return false;
	if ((be16_at(ip, offsetof(struct rte_ipv4_hdr, fragment_offset)) &
			    (RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK)) == 0)
		h->protocol = ip[offsetof(struct rte_ipv4_hdr, next_proto_id)];
	return true;
}

static uint32_t
l4_at(const struct net_headers *h)
{
	return (uint32_t)h->l2_bytes + h->l3_bytes;
}

/* Extension headers before TCP's or UDP's, as long as they lie in the head (RFC 8200, 4). */
static void
skip_extensions(const uint8_t *head, uint32_t head_bytes, struct net_headers *h)
{
	while ((h->protocol == IPPROTO_HOPOPTS || h->protocol == IPPROTO_ROUTING ||
			       h->protocol == IPPROTO_DSTOPTS) &&
			l4_at(h) + 1 < RTE_MIN(head_bytes, VHUB_NET_HEAD_BYTES)) {
		const uint8_t *extension = head + l4_at(h);

		h->protocol = extension[0];
		h->l3_bytes = (uint16_t)(h->l3_bytes + (extension[1] + 1) * 8);
	}
}

static bool
parse_ipv6(const uint8_t *head, uint32_t head_bytes, struct net_headers *h)
{
	const uint8_t *ip = head + h->l2_bytes;

	if (h->l2_bytes + sizeof(struct rte_ipv6_hdr) > head_bytes || ip[0] >> 4 != 6)
		return false;
	h->ipv6 = true;
	h->l3_bytes = sizeof(struct rte_ipv6_hdr);
	h->protocol = ip[offsetof(struct rte_ipv6_hdr, proto)];
	skip_extensions(head, head_bytes, h);
	return true;
}

bool
net_headers_parse(const uint8_t *head, uint32_t head_bytes, struct net_headers *h)
{
	*h = (struct net_headers){ 0 };
	if (head_bytes < RTE_ETHER_HDR_LEN)
		return false;
	switch (skip_tags(head, head_bytes, h)) {
	case RTE_ETHER_TYPE_IPV4:
		return parse_ipv4(head, head_bytes, h);
	case RTE_ETHER_TYPE_IPV6:
		return parse_ipv6(head, head_bytes, h);
	default:
		return false;
	}
}

/* Whether the checksum is the one of TCP's or UDP's header. */
static bool
is_sum_of(const struct vhub_net_offload *offload, const struct net_headers *h)
{
	if (offload->csum_start != l4_at(h))
		return false;
	return (h->protocol == IPPROTO_TCP &&
			       offload->csum_offset == offsetof(struct rte_tcp_hdr, cksum)) ||
			(h->protocol == IPPROTO_UDP &&
					offload->csum_offset ==
							offsetof(struct rte_udp_hdr, dgram_cksum));
}

/* ---- from the guest ---- */

/* All headers of a TCP segment; 0 when they do not fit into the frame. */
static uint32_t
tcp_header_bytes(const uint8_t *head, uint32_t head_bytes, uint32_t frame_bytes,
		const struct net_headers *h)
{
	uint32_t at = l4_at(h) + offsetof(struct rte_tcp_hdr, data_off), l4_bytes;

	if (at >= head_bytes)
		return 0;
	l4_bytes = (head[at] >> 4) * 4;
	if (l4_bytes < sizeof(struct rte_tcp_hdr) || l4_at(h) + l4_bytes > frame_bytes)
		return 0;
	return l4_at(h) + l4_bytes;
}

/* The same of a UDP datagram. */
static uint32_t
udp_header_bytes(uint32_t head_bytes, const struct net_headers *h)
{
	const uint32_t bytes = l4_at(h) + sizeof(struct rte_udp_hdr);

	return bytes <= head_bytes ? bytes : 0;
}

/* What hdr->gso_type may be of the headers that are there; VHUB_NET_GSO_NONE: not that. */
static enum vhub_net_gso
gso_kind(uint8_t gso_type, uint32_t asks, const struct net_headers *h)
{
	if (gso_type == VIRTIO_NET_HDR_GSO_TCPV4 && (asks & VHUB_NET_TAKES_TSO4) != 0 && !h->ipv6 &&
			h->protocol == IPPROTO_TCP)
		return VHUB_NET_GSO_TCP4;
	if (gso_type == VIRTIO_NET_HDR_GSO_TCPV6 && (asks & VHUB_NET_TAKES_TSO6) != 0 && h->ipv6 &&
			h->protocol == IPPROTO_TCP)
		return VHUB_NET_GSO_TCP6;
	if (gso_type == NET_HDR_GSO_UDP_L4 && h->protocol == IPPROTO_UDP) {
		if (h->ipv6)
			return (asks & VHUB_NET_TAKES_USO6) != 0 ? VHUB_NET_GSO_USO6 :
								   VHUB_NET_GSO_NONE;
		return (asks & VHUB_NET_TAKES_USO4) != 0 ? VHUB_NET_GSO_USO4 : VHUB_NET_GSO_NONE;
	}
	if (gso_type == VIRTIO_NET_HDR_GSO_UDP && (asks & VHUB_NET_TAKES_UFO) != 0 &&
			h->protocol == IPPROTO_UDP)
		return VHUB_NET_GSO_UDP;
	return VHUB_NET_GSO_NONE;
}

/* hdr_len is a hint that a device must not rely on (5.1.6.2.2): headers tell themselves. */
static int
read_gso(const struct virtio_net_hdr *hdr, uint32_t asks, const uint8_t *head, uint32_t head_bytes,
		uint32_t frame_bytes, struct vhub_net_offload *out)
{
	struct net_headers h;
	uint32_t bytes;

	if (!out->csum || hdr->gso_size == 0 || !net_headers_parse(head, head_bytes, &h) ||
			!is_sum_of(out, &h))
		return -EINVAL;
	out->gso = (uint8_t)gso_kind(hdr->gso_type, asks, &h);
	if (out->gso == VHUB_NET_GSO_NONE)
		return -EINVAL;
	if (out->gso == VHUB_NET_GSO_TCP4 || out->gso == VHUB_NET_GSO_TCP6)
		bytes = tcp_header_bytes(head, head_bytes, frame_bytes, &h);
	else
		bytes = udp_header_bytes(head_bytes, &h);
	if (bytes == 0)
		return -EINVAL;
	out->header_bytes = (uint16_t)bytes;
	out->gso_bytes = hdr->gso_size;
	return 0;
}

int
net_header_read(const struct virtio_net_hdr *hdr, uint32_t asks, const uint8_t *head,
		uint32_t head_bytes, uint32_t frame_bytes, struct vhub_net_offload *out)
{
	struct net_words said = net_words_load(hdr);

	said.front &= net_front_mask(asks);
	if (!net_read_sum(said, frame_bytes, out))
		return -EINVAL;
	if ((said.front & NET_FRONT_GSO) == 0)
		return 0;
	return read_gso(hdr, asks, head, head_bytes, frame_bytes, out);
}

/* ---- to the guest ---- */

static_assert(VHUB_NET_GSO_NONE == VIRTIO_NET_HDR_GSO_NONE &&
				VHUB_NET_GSO_TCP4 == VIRTIO_NET_HDR_GSO_TCPV4 &&
				VHUB_NET_GSO_TCP6 == VIRTIO_NET_HDR_GSO_TCPV6 &&
				VHUB_NET_GSO_UDP == VIRTIO_NET_HDR_GSO_UDP &&
				VHUB_NET_GSO_USO4 == NET_HDR_GSO_UDP_L4 &&
				(VHUB_NET_GSO_USO6 & 7) == NET_HDR_GSO_UDP_L4,
		"what a guest is told");

uint32_t
net_offload_needs(const struct vhub_net_offload *offload)
{
	switch (offload->gso) {
	case VHUB_NET_GSO_TCP4:
		return VHUB_NET_TAKES_TSO4;
	case VHUB_NET_GSO_TCP6:
		return VHUB_NET_TAKES_TSO6;
	case VHUB_NET_GSO_UDP:
		return VHUB_NET_TAKES_UFO;
	case VHUB_NET_GSO_USO4:
		return VHUB_NET_TAKES_USO4;
	case VHUB_NET_GSO_USO6:
		return VHUB_NET_TAKES_USO6;
	default:
		return offload->csum ? VHUB_NET_TAKES_CSUM : 0;
	}
}

/* ---- mbufs ---- */

static enum vhub_net_gso
gso_of_mbuf(const struct rte_mbuf *m, bool udp)
{
	const bool ipv6 = (m->ol_flags & RTE_MBUF_F_TX_IPV6) != 0;

	if ((m->ol_flags & RTE_MBUF_F_TX_UDP_SEG) != 0)
		return VHUB_NET_GSO_UDP;
	if ((m->ol_flags & RTE_MBUF_F_TX_TCP_SEG) == 0)
		return VHUB_NET_GSO_NONE;
	if (udp)
		return ipv6 ? VHUB_NET_GSO_USO6 : VHUB_NET_GSO_USO4;
	return ipv6 ? VHUB_NET_GSO_TCP6 : VHUB_NET_GSO_TCP4;
}

void
net_offload_of_mbuf(const struct rte_mbuf *m, struct vhub_net_offload *out)
{
	const bool udp = (m->ol_flags & RTE_MBUF_F_TX_UDP_SEG) != 0 ||
			(m->ol_flags & RTE_MBUF_F_TX_L4_MASK) == RTE_MBUF_F_TX_UDP_CKSUM;
	const uint64_t start = (uint64_t)m->l2_len + m->l3_len;
	struct net_words words = { 0 };
	enum vhub_net_gso gso;

	if ((m->ol_flags & NET_OFFLOADS) != 0) {
		gso = gso_of_mbuf(m, udp);
		words.front = NET_FRONT_CSUM | (uint64_t)gso << NET_FRONT_GSO_SHIFT |
				start << NET_FRONT_CSUM_START_SHIFT;
		words.csum_offset = udp ? offsetof(struct rte_udp_hdr, dgram_cksum) :
					  offsetof(struct rte_tcp_hdr, cksum);
		if (gso != VHUB_NET_GSO_NONE)
			words.front |= (uint64_t)m->tso_segsz << NET_FRONT_GSO_BYTES_SHIFT |
					(start + (udp ? sizeof(struct rte_udp_hdr) : m->l4_len))
							<< NET_FRONT_HEADER_BYTES_SHIFT;
	}
	net_words_store(words, out);
}

bool
net_offload_to_mbuf(const struct vhub_net_offload *offload, const uint8_t *head,
		uint32_t head_bytes, struct rte_mbuf *m)
{
	struct net_headers h;

	if (!offload->csum)
		return true;
	if (!net_headers_parse(head, head_bytes, &h) || !is_sum_of(offload, &h))
		return false;
	/* Those who know such flags look for the protocol in IPv6's own header: it is cut, or completed, here. */
	if (h.ipv6 && h.l3_bytes != sizeof(struct rte_ipv6_hdr) &&
			offload->gso == VHUB_NET_GSO_NONE)
		return false;
	m->l2_len = h.l2_bytes;
	m->l3_len = h.l3_bytes;
	m->ol_flags |= h.ipv6 ? RTE_MBUF_F_TX_IPV6 : RTE_MBUF_F_TX_IPV4;
	m->ol_flags |= h.protocol == IPPROTO_TCP ? RTE_MBUF_F_TX_TCP_CKSUM :
						   RTE_MBUF_F_TX_UDP_CKSUM;
	if (offload->gso == VHUB_NET_GSO_NONE)
		return true;
	m->l4_len = (uint8_t)(offload->header_bytes - offload->csum_start);
	m->tso_segsz = offload->gso_bytes;
	m->ol_flags |= offload->gso == VHUB_NET_GSO_UDP ? RTE_MBUF_F_TX_UDP_SEG :
							  RTE_MBUF_F_TX_TCP_SEG;
	/* Hardware writes the length of each segment, and so the sum that it is in. */
	if (offload->gso == VHUB_NET_GSO_TCP4 || offload->gso == VHUB_NET_GSO_USO4)
		m->ol_flags |= RTE_MBUF_F_TX_IP_CKSUM;
	return true;
}
