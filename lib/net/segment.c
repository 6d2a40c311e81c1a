/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Segmentation that rte_gso 22.11 does not know: TCP over IPv6, and UDP that is to become datagrams.
 * Called by offload.c, which completes the pieces' checksums, with packets whose headers it has checked.
 */
#include <errno.h>
#include <string.h>

#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "net_pvt.h"

/* What of a packet its pieces are made from. */
struct whole {
	const struct rte_mbuf *m;
	uint32_t header_bytes;
	uint32_t payload_bytes;
	bool ipv6;
	bool udp;
};

/* ---- headers of a piece ---- */

static void
write_ip(const struct whole *w, struct rte_mbuf *piece, uint32_t i)
{
	const uint32_t bytes = piece->pkt_len - w->m->l2_len;
	struct rte_ipv4_hdr *ip4 = rte_pktmbuf_mtod_offset(piece, struct rte_ipv4_hdr *,
			w->m->l2_len);
	struct rte_ipv6_hdr *ip6 = (struct rte_ipv6_hdr *)ip4;

	if (w->ipv6) {
		ip6->payload_len = rte_cpu_to_be_16((uint16_t)(bytes -
				sizeof(struct rte_ipv6_hdr)));
		return;
	}
	ip4->total_length = rte_cpu_to_be_16((uint16_t)bytes);
	ip4->packet_id = rte_cpu_to_be_16((uint16_t)(rte_be_to_cpu_16(ip4->packet_id) + i));
}

/* The first one tells of congestion, the last one of an end. */
static void
write_tcp(struct rte_tcp_hdr *tcp, uint32_t at, bool is_first, bool is_last)
{
	tcp->sent_seq = rte_cpu_to_be_32(rte_be_to_cpu_32(tcp->sent_seq) + at);
	if (!is_first)
		tcp->tcp_flags &= (uint8_t)~RTE_TCP_CWR_FLAG;
	if (!is_last)
		tcp->tcp_flags &= (uint8_t) ~(RTE_TCP_FIN_FLAG | RTE_TCP_PSH_FLAG);
}

/* The pseudo header's sum, from which offload.c goes on behind extension headers: of the piece (RFC 1624). */
static void
write_sum(rte_be16_t *field, uint32_t whole_bytes, uint32_t piece_bytes)
{
	uint32_t sum = rte_be_to_cpu_16(*field) + (~whole_bytes & UINT16_MAX) + piece_bytes;

	sum = (sum & UINT16_MAX) + (sum >> 16);
	sum = (sum & UINT16_MAX) + (sum >> 16);
	*field = rte_cpu_to_be_16((uint16_t)sum);
}

static void
write_l4(const struct whole *w, struct rte_mbuf *piece, uint32_t at)
{
	const uint32_t start = w->m->l2_len + w->m->l3_len;
	const uint32_t bytes = piece->pkt_len - start;
	struct rte_udp_hdr *udp = rte_pktmbuf_mtod_offset(piece, struct rte_udp_hdr *, start);
	struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)udp;

	write_sum(w->udp ? &udp->dgram_cksum : &tcp->cksum, w->m->pkt_len - start, bytes);
	if (w->udp)
		udp->dgram_len = rte_cpu_to_be_16((uint16_t)bytes);
	else
		write_tcp(tcp, at, at == 0, at + w->m->tso_segsz >= w->payload_bytes);
}

/* ---- pieces ---- */

/* The i-th one; NULL: no memory. */
static struct rte_mbuf *
make_piece(const struct whole *w, struct rte_mempool *pool, uint32_t i)
{
	const uint32_t at = i * w->m->tso_segsz;
	struct rte_mbuf *piece = net_pool_copy(w->m, pool, w->header_bytes + at,
			RTE_MIN((uint32_t)w->m->tso_segsz, w->payload_bytes - at));
	char *headers;

	if (piece == NULL)
		return NULL;
	headers = rte_pktmbuf_prepend(piece, (uint16_t)w->header_bytes);
	if (headers == NULL) {
		rte_pktmbuf_free(piece);
		return NULL;
	}
	memcpy(headers, rte_pktmbuf_mtod(w->m, const void *), w->header_bytes);
	piece->ol_flags = w->m->ol_flags & ~RTE_MBUF_F_TX_TCP_SEG;
	write_ip(w, piece, i);
	write_l4(w, piece, at);
	return piece;
}

int
net_segment(const struct rte_mbuf *m, struct rte_mempool *pool, struct rte_mbuf **pieces, int max)
{
	struct whole w = {
		.m = m,
		.header_bytes = (uint32_t)(m->l2_len + m->l3_len + m->l4_len),
		.ipv6 = (m->ol_flags & RTE_MBUF_F_TX_IPV6) != 0,
		.udp = net_is_uso(m),
	};
	uint32_t n, i;

	/* Headers go before the payload of a piece. */
	if (w.header_bytes >= m->pkt_len || w.header_bytes > RTE_PKTMBUF_HEADROOM)
		return -EINVAL;
	w.payload_bytes = m->pkt_len - w.header_bytes;
	n = (w.payload_bytes + m->tso_segsz - 1) / m->tso_segsz;
	if (n > (uint32_t)max)
		return -EINVAL;
	for (i = 0; i < n; i++) {
		pieces[i] = make_piece(&w, pool, i);
		if (pieces[i] == NULL) {
			rte_pktmbuf_free_bulk(pieces, i);
			return -ENOMEM;
		}
	}
	return (int)n;
}
