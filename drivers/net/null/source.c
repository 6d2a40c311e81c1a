/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The source of the null driver: Ethernet frames with a UDP datagram in each, whose payload begins
 * with a 64-bit sequence number, big endian, that counts a queue's packets from 0. Called by null.c;
 * the packets go to lib/net.
 *
 * A token bucket without a division: the time at which the next packet is due moves on by one
 * interval for each packet. Intervals are kept in TSC cycles and 2^-32 parts of one, since a cycle
 * is too coarse for some millions of packets a second.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_byteorder.h>
#include <rte_cycles.h>
#include <rte_ip.h>
#include <rte_udp.h>

#include "null_pvt.h"

/* RFC 2544, appendix C.2.2: addresses for benchmarks. */
#define SOURCE_IP RTE_IPV4((uint32_t)198, 18, 0, 1)
#define GUEST_IP RTE_IPV4((uint32_t)198, 18, 0, 2)
/* The first dynamic port, to which the queue's number is added, and "discard". */
#define SOURCE_UDP_PORT 49152
#define GUEST_UDP_PORT 9

struct headers {
	struct rte_ether_hdr ether;
	struct rte_ipv4_hdr ip;
	struct rte_udp_hdr udp;
	rte_be64_t sequence;
} __rte_packed __rte_aligned(2);

/* One queue pair's. LCORE. */
struct null_source {
	struct null_port *port;
	struct null_counts *counts;
	uint64_t sequence;
	bool limited;
	/* When the next packet is due, and how long until the one after it. */
	uint64_t due_cycles;
	uint32_t due_fraction;
	uint32_t interval_fraction;
	uint64_t interval_cycles;
	uint64_t bucket_cycles; /* what may be caught up with: VHUB_NET_BURST intervals */
	union {
		struct headers headers;
		uint8_t bytes[NULL_SIZE_MAX];
	} frame;
};

int
null_source_open(struct null_port *p, char *error, size_t error_len)
{
	p->pool = vhub_net_pool(-1);
	if (p->pool == NULL) {
		snprintf(error, error_len,
				"rate=: there is no memory for packets; start with more (-m, --socket-limit)");
		return -ENOMEM;
	}
	p->seg_bytes = rte_pktmbuf_data_room_size(p->pool) - RTE_PKTMBUF_HEADROOM;
	p->n_segs = (p->size_bytes + p->seg_bytes - 1) / p->seg_bytes;
	if (p->seg_bytes < sizeof(struct headers) || p->n_segs > NULL_MAX_SEGS) {
		snprintf(error, error_len, "size=%u: does not fit into %u mbufs of %u bytes",
				p->size_bytes, NULL_MAX_SEGS, p->seg_bytes);
		return -EINVAL;
	}
	return 0;
}

static void
fill_template(struct null_source *s, uint16_t index)
{
	const uint16_t ip_bytes = s->port->size_bytes - sizeof(struct rte_ether_hdr);
	struct headers *h = &s->frame.headers;

	rte_ether_addr_copy(&s->port->guest_mac, &h->ether.dst_addr);
	h->ether.src_addr.addr_bytes[0] = 0x02; /* locally administered */
	h->ether.src_addr.addr_bytes[5] = (uint8_t)index;
	h->ether.ether_type = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4);
	h->ip.version_ihl = RTE_IPV4_VHL_DEF;
	h->ip.total_length = rte_cpu_to_be_16(ip_bytes);
	h->ip.time_to_live = 64;
	h->ip.next_proto_id = IPPROTO_UDP;
	h->ip.src_addr = rte_cpu_to_be_32(SOURCE_IP);
	h->ip.dst_addr = rte_cpu_to_be_32(GUEST_IP);
	h->ip.hdr_checksum = rte_ipv4_cksum(&h->ip);
	h->udp.src_port = rte_cpu_to_be_16(SOURCE_UDP_PORT + index);
	h->udp.dst_port = rte_cpu_to_be_16(GUEST_UDP_PORT);
	h->udp.dgram_len = rte_cpu_to_be_16(ip_bytes - sizeof(h->ip));
	/* No UDP checksum, as IPv4 allows: it would change with every sequence number. */
}

int
null_source_create(struct vhub_net_queue *queue)
{
	struct null_port *p = null_port_of(queue->port);
	const uint64_t hz = rte_get_tsc_hz();
	struct null_source *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return -ENOMEM;
	s->port = p;
	s->counts = &p->counts[queue->index];
	s->limited = p->rate_pps != NULL_RATE_MAX;
	if (s->limited) {
		s->interval_cycles = hz / p->rate_pps;
		s->interval_fraction = (uint32_t)(((hz % p->rate_pps) << 32) / p->rate_pps);
		s->bucket_cycles = VHUB_NET_BURST * hz / p->rate_pps;
	}
	fill_template(s, queue->index);
	s->due_cycles = rte_rdtsc();
	queue->priv = s;
	return 0;
}

/* How many packets are due now. Those counted are taken from the bucket. */
static uint16_t
take_due(struct null_source *s, uint16_t max)
{
	const uint64_t now = rte_rdtsc();
	uint64_t fraction;
	uint16_t n = 0;

	if ((int64_t)(now - s->due_cycles) > (int64_t)s->bucket_cycles)
		s->due_cycles = now - s->bucket_cycles;
	while (n < max && (int64_t)(now - s->due_cycles) >= 0) {
		fraction = (uint64_t)s->due_fraction + s->interval_fraction;
		s->due_fraction = (uint32_t)fraction;
		s->due_cycles += s->interval_cycles + (fraction >> 32);
		n++;
	}
	return n;
}

/* Chains the mbufs of one frame and copies the template into them. */
static struct rte_mbuf *
fill_frame(struct null_source *s, struct rte_mbuf *const *segs)
{
	const struct null_port *p = s->port;
	const uint8_t *from = s->frame.bytes;
	uint16_t left = p->size_bytes;

	s->frame.headers.sequence = rte_cpu_to_be_64(s->sequence);
	s->sequence++;
	for (uint16_t i = 0; i < p->n_segs; i++) {
		uint16_t len = RTE_MIN(left, p->seg_bytes);

		memcpy(rte_pktmbuf_mtod(segs[i], void *), from, len);
		segs[i]->data_len = len;
		segs[i]->next = i + 1 < p->n_segs ? segs[i + 1] : NULL;
		from += len;
		left -= len;
	}
	segs[0]->nb_segs = p->n_segs;
	segs[0]->pkt_len = p->size_bytes;
	return segs[0];
}

/* Paired with the loads of null_stats(). The lcore is the only one that writes. */
static void
count(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

uint16_t
null_source_burst(struct null_source *s, struct rte_mbuf **pkts, uint16_t max)
{
	struct rte_mbuf *segs[VHUB_NET_BURST * NULL_MAX_SEGS];
	const uint16_t n_segs = s->port->n_segs;
	uint16_t n;

	max = RTE_MIN(max, VHUB_NET_BURST);
	n = s->limited ? take_due(s, max) : max;
	if (n == 0)
		return 0;
	if (rte_pktmbuf_alloc_bulk(s->port->pool, segs, n * n_segs) != 0) {
		count(&s->counts->no_mbuf, 1);
		return 0;
	}
	for (uint16_t i = 0; i < n; i++)
		pkts[i] = fill_frame(s, &segs[i * n_segs]);
	count(&s->counts->made, n);
	return n;
}
