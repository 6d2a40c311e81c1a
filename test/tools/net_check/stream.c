/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * TCP packets whose checksums and segmentation are left to the other side. A flow is one stream of
 * bytes: the TCP sequence number says where in it a packet belongs, so that packets are checked the
 * same way whether they come back whole or in segments. Called by flow.c; next: report.c.
 */
#include <errno.h>
#include <string.h>

#include <rte_byteorder.h>
#include <rte_ip.h>
#include <rte_tcp.h>

#include "net_check.h"

#define SEGMENT_BYTES 1448 /* what the other side makes segments of */
#define HEADERS (sizeof(struct stream_headers))

struct stream_headers {
	struct rte_ether_hdr eth;
	struct rte_ipv4_hdr ip;
	struct rte_tcp_hdr tcp;
} __rte_packed __rte_aligned(2);

static uint8_t
stream_byte(const struct check_flow *flow, uint64_t at)
{
	uint64_t word = frame_mix((at >> 3) + check_options.seed) ^ flow->index;

	return word >> (at & 7) * 8;
}

static uint64_t
stream_step(const struct check_flow *flow __rte_unused)
{
	return check_options.tcp_bytes;
}

/* Adds room at the end of the packet, in as many segments of the pool's size as it takes. */
static int
write_payload(const struct check_flow *flow, struct rte_mbuf *m, uint32_t bytes)
{
	struct rte_mbuf *last = m;
	uint64_t at = flow->next;
	uint32_t room, i;
	uint8_t *to;

	while (bytes > 0) {
		room = RTE_MIN(bytes, (uint32_t)rte_pktmbuf_tailroom(last));
		if (room == 0) {
			last->next = rte_pktmbuf_alloc(flow->port->pool);
			if (last->next == NULL)
				return -ENOMEM;
			last = last->next;
			m->nb_segs++;
			continue;
		}
		to = rte_pktmbuf_mtod_offset(last, uint8_t *, last->data_len);
		for (i = 0; i < room; i++)
			to[i] = stream_byte(flow, at++);
		last->data_len += room;
		m->pkt_len += room;
		bytes -= room;
	}
	return 0;
}

static int
stream_build(const struct check_flow *flow, struct rte_mbuf *m)
{
	uint32_t bytes = check_options.tcp_bytes;
	struct stream_headers *h = (struct stream_headers *)rte_pktmbuf_append(m, HEADERS);

	if (h == NULL)
		return -ENOMEM;
	memset(h, 0, sizeof(*h));
	h->eth.dst_addr = check_peer;
	h->eth.src_addr = flow->port->mac;
	h->eth.ether_type = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4);
	h->ip.version_ihl = RTE_IPV4_VHL_DEF;
	h->ip.total_length = rte_cpu_to_be_16(bytes + HEADERS - sizeof(h->eth));
	h->ip.time_to_live = 64;
	h->ip.next_proto_id = IPPROTO_TCP;
	h->ip.src_addr = rte_cpu_to_be_32(RTE_IPV4((uint32_t)198, 18, 0, 1));
	h->ip.dst_addr = rte_cpu_to_be_32(RTE_IPV4((uint32_t)198, 19, 0, 1));
	h->ip.hdr_checksum = rte_ipv4_cksum(&h->ip);
	h->tcp.src_port = rte_cpu_to_be_16(10000 + flow->index);
	h->tcp.dst_port = rte_cpu_to_be_16(7);
	h->tcp.sent_seq = rte_cpu_to_be_32((uint32_t)flow->next);
	h->tcp.data_off = sizeof(h->tcp) / 4 << 4;
	h->tcp.tcp_flags = RTE_TCP_ACK_FLAG;
	h->tcp.rx_win = rte_cpu_to_be_16(UINT16_MAX);
	/* rte_eth_tx_prepare() writes the partial checksum. */
	m->ol_flags = RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_TCP_CKSUM;
	m->l2_len = sizeof(h->eth);
	m->l3_len = sizeof(h->ip);
	m->l4_len = sizeof(h->tcp);
	if (check_options.tso && bytes > SEGMENT_BYTES) {
		m->ol_flags |= RTE_MBUF_F_TX_TCP_SEG;
		m->tso_segsz = SEGMENT_BYTES;
	}
	return write_payload(flow, m, bytes);
}

/* Whether headers, lengths and both checksums are right; reports what is not. */
static bool
headers_right(struct check_flow *flow, const struct rte_mbuf *m, const struct stream_headers *h)
{
	uint32_t ip_bytes = rte_be_to_cpu_16(h->ip.total_length);
	uint64_t l4 = m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK;
	uint16_t partial = rte_ipv4_phdr_cksum(&h->ip, 0);

	if (ip_bytes + sizeof(h->eth) != rte_pktmbuf_pkt_len(m)) {
		report_fault(flow, "IP says %u bytes, the packet has %u", ip_bytes,
				rte_pktmbuf_pkt_len(m));
		return false;
	}
	if (rte_raw_cksum(&h->ip, sizeof(h->ip)) != 0xffff) {
		report_fault(flow, "the IP header's checksum is wrong");
		return false;
	}
	/* VIRTIO_NET_HDR_F_NEEDS_CSUM: over the pseudo-header alone. Without it, or without the
	 * negotiation that lets the driver see it, the checksum has to be a whole one.
	 */
	if (l4 == RTE_MBUF_F_RX_L4_CKSUM_NONE && h->tcp.cksum == partial)
		return true;
	/* What librte_vhost writes into large packets has left the length out, as NICs want it. */
	if ((m->ol_flags & RTE_MBUF_F_RX_LRO) != 0 &&
			h->tcp.cksum == rte_ipv4_phdr_cksum(&h->ip, RTE_MBUF_F_TX_TCP_SEG)) {
		flow->counts.short_sums++;
		return true;
	}
	if (rte_ipv4_udptcp_cksum_verify(&h->ip, &h->tcp) != 0) {
		report_fault(flow, "the TCP checksum %#x of %u bytes at %u is wrong (flags %#lx)",
				rte_be_to_cpu_16(h->tcp.cksum), ip_bytes,
				rte_be_to_cpu_32(h->tcp.sent_seq), m->ol_flags);
		return false;
	}
	return true;
}

/* Whether a packet of so many bytes is what was negotiated. */
static bool
size_right(struct check_flow *flow, const struct rte_mbuf *m, uint32_t bytes)
{
	const struct check_options *o = &check_options;
	bool large = o->tso && o->tcp_bytes > SEGMENT_BYTES;

	if (bytes == o->tcp_bytes)
		flow->counts.whole++;
	else
		flow->counts.segmented++;
	if (!large || o->guest_offload) {
		if (bytes == o->tcp_bytes &&
				(!large ||
						((m->ol_flags & RTE_MBUF_F_RX_LRO) != 0 &&
								m->tso_segsz == SEGMENT_BYTES)))
			return true;
		report_fault(flow,
				"%u bytes came back where %u were sent, segment size %u (flags %#lx)",
				bytes, o->tcp_bytes, m->tso_segsz, m->ol_flags);
		return false;
	}
	if (bytes > 0 && bytes <= SEGMENT_BYTES)
		return true;
	report_fault(flow, "a segment of %u bytes; the most is %u", bytes, SEGMENT_BYTES);
	return false;
}

static bool
payload_right(struct check_flow *flow, uint64_t at, const uint8_t *data, uint32_t bytes)
{
	uint32_t i;

	for (i = 0; i < bytes; i++) {
		if (data[i] == stream_byte(flow, at + i))
			continue;
		report_fault(flow, "byte %lu of the stream is %#x, %#x was sent", at + i, data[i],
				stream_byte(flow, at + i));
		return false;
	}
	return true;
}

static void
stream_check(struct check_flow *flow, const struct rte_mbuf *m, const uint8_t *data)
{
	const struct stream_headers *h = (const struct stream_headers *)data;
	uint32_t len = rte_pktmbuf_pkt_len(m), bytes;
	uint64_t at;

	if (len < HEADERS || h->eth.ether_type != rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4) ||
			h->ip.next_proto_id != IPPROTO_TCP ||
			h->tcp.src_port != rte_cpu_to_be_16(10000 + flow->index)) {
		flow->counts.foreign++;
		report_fault(flow, "a packet of %u bytes came that nobody sent", len);
		return;
	}
	bytes = len - HEADERS;
	/* The position nearest to the expected one that has these low 32 bits. */
	at = flow->expected +
			(int32_t)(rte_be_to_cpu_32(h->tcp.sent_seq) - (uint32_t)flow->expected);
	if (!headers_right(flow, m, h) || !size_right(flow, m, bytes) ||
			!payload_right(flow, at, data + HEADERS, bytes)) {
		flow->counts.corrupt++;
		return;
	}
	flow_arrived(flow, at, bytes);
}

const struct check_traffic check_streams = {
	.step = stream_step,
	.build = stream_build,
	.check = stream_check,
};
