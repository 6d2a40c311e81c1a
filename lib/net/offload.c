/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Checksums and segmentation that travel with a packet as metadata, done here when the receiver does
 * not do them: segmentation by rte_gso or, where that does not know how, by segment.c (next), checksums
 * by rte_net. Called by from_guest.c and to_guest.c for bursts that ask for something; not on the way of
 * others.
 *
 * The metadata comes from a guest, through the library that made the mbuf, or from a driver. All
 * headers that are touched here are checked to lie in the first segment.
 */
#include <errno.h>

#include <rte_ethdev.h>
#include <rte_gso.h>
#include <rte_hash_crc.h>
#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "net_pvt.h"

/* Most pieces of one packet: 64 KiB in the smallest MTU's are more, and are refused. */
#define MAX_PIECES 256
/*
 * And most of what a sender's packets become in a turn of an lcore, for however many receivers: a burst of the
 * largest, cut for an ordinary MTU, are fewer. Who asks for pieces of a few bytes, or for many to be cut for many
 * receivers, would keep the lcore from everybody else.
 */
#define MAX_PIECES_OF_TURN 4096u
/* Senders of a turn that are told from each other, of those whose packets are cut. A power of two. */
#define N_ACCOUNTS 128u

/* ---- the pieces of a sender's packets ---- */

/* What has become of a sender's packets in the lcore's turn. Of another turn it says nothing. */
struct account {
	uint64_t turn;
	uint32_t sender;
	uint32_t n_pieces;
};

static __thread struct account accounts[N_ACCOUNTS];

__thread uint32_t net_sender __attribute__((tls_model("initial-exec")));

/* Where there are more senders in a turn than accounts, those that come last share one. */
static struct account *
account_of(uint32_t sender)
{
	const uint64_t turn = vhub_lcore_turn();
	const uint32_t first = rte_hash_crc_4byte(sender, 0);
	struct account *account = NULL;

	for (uint32_t i = 0; i < N_ACCOUNTS; i++) {
		account = &accounts[(first + i) % N_ACCOUNTS];
		if (turn == 0 || account->turn != turn) {
			*account = (struct account){ .turn = turn, .sender = sender };
			break;
		}
		if (account->sender == sender)
			break;
	}
	return account;
}

static bool
has_some_left(const struct account *account)
{
	return account->n_pieces < MAX_PIECES_OF_TURN;
}

bool
net_offload_may_cut(uint32_t sender)
{
	return has_some_left(account_of(sender));
}

void
net_offload_mark(uint32_t sender, struct rte_mbuf **pkts, uint16_t n)
{
	for (uint16_t i = 0; i < n; i++)
		pkts[i]->hash.usr = sender;
}

/* ---- what is to be done ---- */

static bool
is_ipv6(const struct rte_mbuf *m)
{
	return (m->ol_flags & RTE_MBUF_F_TX_IPV6) != 0;
}

/*
 * Extension headers: whoever completes a checksum by flags, hardware or a library, looks for the protocol and the
 * length in IPv6's own header. So it is done here, and begins with the pseudo header's sum that the sender has left:
 * it knows to which address a routing header leads (RFC 8200, 8.1).
 */
static bool
has_extensions(const struct rte_mbuf *m)
{
	return is_ipv6(m) && m->l3_len != sizeof(struct rte_ipv6_hdr);
}

/* VHUB_NET_TAKES_* that a receiver has to have for this packet. */
static uint32_t
needs(const struct rte_mbuf *m)
{
	if (net_is_uso(m))
		return is_ipv6(m) ? VHUB_NET_TAKES_USO6 : VHUB_NET_TAKES_USO4;
	if ((m->ol_flags & RTE_MBUF_F_TX_TCP_SEG) != 0)
		return is_ipv6(m) ? VHUB_NET_TAKES_TSO6 : VHUB_NET_TAKES_TSO4;
	if ((m->ol_flags & RTE_MBUF_F_TX_UDP_SEG) != 0)
		return VHUB_NET_TAKES_UFO;
	return (m->ol_flags & RTE_MBUF_F_TX_L4_MASK) != 0 ? VHUB_NET_TAKES_CSUM : 0;
}

/* Bytes of the headers, as far as this packet's offloads need them; 0: what it says makes no sense. */
static uint32_t
header_bytes(const struct rte_mbuf *m)
{
	uint64_t l4 = m->ol_flags & RTE_MBUF_F_TX_L4_MASK;
	uint32_t ip = is_ipv6(m) ? sizeof(struct rte_ipv6_hdr) : sizeof(struct rte_ipv4_hdr);
	uint32_t bytes = m->l2_len + m->l3_len;

	if (m->l2_len < RTE_ETHER_HDR_LEN || m->l3_len < ip)
		return 0;
	if ((m->ol_flags & RTE_MBUF_F_TX_TCP_SEG) != 0 && !net_is_uso(m))
		bytes += RTE_MAX((uint32_t)m->l4_len, sizeof(struct rte_tcp_hdr));
	else if (l4 == RTE_MBUF_F_TX_TCP_CKSUM)
		bytes += sizeof(struct rte_tcp_hdr);
	else
		bytes += sizeof(struct rte_udp_hdr);
	return bytes;
}

static bool
is_sane(const struct rte_mbuf *m)
{
	uint32_t bytes = header_bytes(m);

	if ((m->ol_flags & (RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IPV6)) == 0)
		return false;
	if ((m->ol_flags & NET_SEGMENTATION) != 0 && m->tso_segsz == 0)
		return false;
	if ((m->ol_flags & RTE_MBUF_F_TX_TCP_SEG) != 0 &&
			m->l4_len < (net_is_uso(m) ? sizeof(struct rte_udp_hdr) :
						     sizeof(struct rte_tcp_hdr)))
		return false;
	return bytes != 0 && bytes <= rte_pktmbuf_data_len(m);
}

/* ---- checksums ---- */

/* rte_raw_cksum_mbuf() of 22.11 loses carries behind a piece of odd length. */
uint16_t
net_checksum(const struct rte_mbuf *m, uint32_t start)
{
	uint32_t sum = 0, done = 0;
	uint16_t part;

	for (; m != NULL; m = m->next) {
		uint32_t bytes = m->data_len;

		if (start >= bytes) {
			start -= bytes;
			continue;
		}
		part = rte_raw_cksum(rte_pktmbuf_mtod_offset(m, const void *, start),
				bytes - start);
		sum += (done & 1) != 0 ? rte_bswap16(part) : part;
		sum = (sum & UINT16_MAX) + (sum >> 16);
		done += bytes - start;
		start = 0;
	}
	sum = ~sum & UINT16_MAX;
	/* The same number, and where 0 stands for no sum at all the only one to be sent. */
	return sum == 0 ? UINT16_MAX : (uint16_t)sum;
}

static uint16_t
sum_pseudo_header(const struct rte_mbuf *m)
{
	const void *ip = rte_pktmbuf_mtod_offset(m, const void *, m->l2_len);

	return is_ipv6(m) ? rte_ipv6_phdr_cksum(ip, 0) : rte_ipv4_phdr_cksum(ip, 0);
}

/* Where the packet's checksum is; NULL for a protocol that has none that we can compute. */
static uint16_t *
checksum_field(struct rte_mbuf *m)
{
	uint16_t l4 = m->l2_len + m->l3_len;

	switch (m->ol_flags & RTE_MBUF_F_TX_L4_MASK) {
	case RTE_MBUF_F_TX_TCP_CKSUM:
		return &rte_pktmbuf_mtod_offset(m, struct rte_tcp_hdr *, l4)->cksum;
	case RTE_MBUF_F_TX_UDP_CKSUM:
		return &rte_pktmbuf_mtod_offset(m, struct rte_udp_hdr *, l4)->dgram_cksum;
	default:
		return NULL;
	}
}

/* Returns false when nobody here can. */
static bool
complete_checksum(struct rte_mbuf *m)
{
	uint16_t *field = checksum_field(m);

	if (field == NULL)
		return false;
	if (likely(!has_extensions(m)))
		*field = sum_pseudo_header(m);
	*field = net_checksum(m, m->l2_len + m->l3_len);
	m->ol_flags &= ~(RTE_MBUF_F_TX_L4_MASK | RTE_MBUF_F_TX_IP_CKSUM);
	return true;
}

/* ---- segmentation ---- */

/* A piece has its own length and number; its checksums are still the whole's. `l4`: which it has. */
static void
complete_piece(struct rte_mbuf *m, uint64_t l4)
{
	struct rte_ipv4_hdr *ip = rte_pktmbuf_mtod_offset(m, struct rte_ipv4_hdr *, m->l2_len);

	if (!is_ipv6(m)) {
		ip->hdr_checksum = 0;
		ip->hdr_checksum = rte_ipv4_cksum(ip);
	}
	m->ol_flags = (m->ol_flags & ~RTE_MBUF_F_TX_L4_MASK) | l4;
	if (l4 != 0)
		complete_checksum(m);
}

static void
give_pieces(struct net_pair *pair, struct rte_mbuf **pieces, int n, uint64_t l4, net_sink_fn sink)
{
	int i, part;

	for (i = 0; i < n; i++)
		complete_piece(pieces[i], l4);
	for (i = 0; i < n; i += part) {
		part = RTE_MIN(n - i, (int)VHUB_NET_BURST);
		sink(pair, &pieces[i], (uint16_t)part);
	}
}

/* By rte_gso, which knows TCP and fragments, over IPv4. Its pieces hold what they need of the packet. */
static int
cut_by_library(struct net_pair *pair, struct rte_mbuf *m, uint32_t headers,
		struct rte_mbuf **pieces)
{
	struct rte_gso_ctx ctx = {
		.direct_pool = pair->dev->pool,
		.indirect_pool = pair->dev->pool,
		.gso_types = RTE_ETH_TX_OFFLOAD_TCP_TSO | RTE_ETH_TX_OFFLOAD_UDP_TSO,
		.gso_size = (uint16_t)RTE_MIN(m->tso_segsz + headers, (uint32_t)UINT16_MAX),
	};
	int n = rte_gso_segment(m, &ctx, pieces, MAX_PIECES);

	if (n != -ENOMEM)
		return n;
	net_pool_reclaim();
	return rte_gso_segment(m, &ctx, pieces, MAX_PIECES);
}

/* Which checksum each piece has: none by itself are fragments, for only the whole datagram has one. */
static uint64_t
l4_of_pieces(const struct rte_mbuf *m)
{
	if ((m->ol_flags & RTE_MBUF_F_TX_UDP_SEG) != 0)
		return 0;
	return net_is_uso(m) ? RTE_MBUF_F_TX_UDP_CKSUM : RTE_MBUF_F_TX_TCP_CKSUM;
}

/* How many it is to become; UINT32_MAX: a fragment of IP is no shorter than eight bytes. */
static uint32_t
count_pieces(const struct rte_mbuf *m, uint32_t headers, bool fragments)
{
	const uint32_t piece_bytes = fragments ? m->tso_segsz & ~7u : m->tso_segsz;

	if (m->pkt_len <= m->tso_segsz + headers)
		return 1;
	return piece_bytes == 0 ? UINT32_MAX : vhub_net_pieces(m->pkt_len - headers, piece_bytes);
}

/* The whole datagram's checksum is computed before it is cut. Returns false when the packet cannot be. */
static bool
prepare(struct rte_mbuf *m, uint32_t n_due, uint64_t l4)
{
	if (n_due > MAX_PIECES)
		return false;
	if (l4 != 0)
		return true;
	return !is_ipv6(m) && ((m->ol_flags & RTE_MBUF_F_TX_L4_MASK) == 0 || complete_checksum(m));
}

/*
 * Consumes the packet. Returns how many pieces that was worth: as many as there are, or as were made in vain. Those
 * of one that is refused are not made.
 */
static unsigned int
segment(struct net_pair *pair, struct rte_mbuf *m, net_sink_fn sink)
{
	const uint64_t l4 = l4_of_pieces(m);
	const uint32_t headers = m->l2_len + m->l3_len + (l4 != 0 ? m->l4_len : 0);
	const uint32_t n_due = count_pieces(m, headers, l4 == 0);
	struct rte_mbuf *pieces[MAX_PIECES];
	int n;

	if (!prepare(m, n_due, l4)) {
		net_drop(pair, VHUB_NET_DROP_OFFLOAD, &m, 1);
		return 1;
	}
	if (n_due == 1) {
		m->ol_flags &= ~NET_SEGMENTATION;
		give_pieces(pair, &m, 1, l4, sink);
		return 1;
	}
	if (is_ipv6(m) || net_is_uso(m))
		n = net_segment(m, pair->dev->pool, pieces, MAX_PIECES);
	else
		n = cut_by_library(pair, m, headers, pieces);
	if (n > 0) {
		give_pieces(pair, pieces, n, l4, sink);
		rte_pktmbuf_free(m);
		return (unsigned int)n;
	}
	net_drop(pair, n == -ENOMEM ? VHUB_NET_DROP_NO_MBUF : VHUB_NET_DROP_OFFLOAD, &m, 1);
	return n_due;
}

/* ---- entry ---- */

/* Whether the packet may go on as it is now, perhaps with its checksum completed here. */
static bool
may_go_on(uint32_t takes, struct rte_mbuf *m)
{
	uint32_t need = needs(m);

	if (need == 0)
		return true;
	if (!is_sane(m))
		return false;
	if ((need & takes) != 0 && likely(!has_extensions(m)))
		return true;
	return need == VHUB_NET_TAKES_CSUM && complete_checksum(m);
}

static void
send_one_by_itself(struct net_pair *pair, struct rte_mbuf *m, net_sink_fn sink)
{
	struct account *account = NULL;

	if ((m->ol_flags & NET_SEGMENTATION) != 0 && is_sane(m))
		account = account_of(m->hash.usr);
	if (account != NULL && has_some_left(account))
		account->n_pieces += segment(pair, m, sink);
	else
		net_drop(pair, VHUB_NET_DROP_OFFLOAD, &m, 1);
}

void
net_offload(struct net_pair *pair, uint32_t takes, struct rte_mbuf **pkts, uint16_t n,
		net_sink_fn sink)
{
	uint16_t i, first = 0;

	for (i = 0; i < n; i++) {
		if (may_go_on(takes, pkts[i]))
			continue;
		if (i > first)
			sink(pair, &pkts[first], i - first);
		send_one_by_itself(pair, pkts[i], sink);
		first = i + 1;
	}
	if (n > first)
		sink(pair, &pkts[first], n - first);
}
