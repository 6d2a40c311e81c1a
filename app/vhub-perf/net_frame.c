/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packets (net_frame.h): making them, and checking every byte. Called by net_device.c and, with
 * --touch, net_lcore.c.
 */
#include <linux/virtio_net.h>

#include <rte_byteorder.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_udp.h>

#include "net_frame.h"

/* RFC 2544, appendix C.2.2: addresses for benchmarks. */
#define SENDER_IP RTE_IPV4((uint32_t)198, 18, 0, 1)
#define RECEIVER_IP RTE_IPV4((uint32_t)198, 18, 0, 2)
/* The first dynamic port, to which the queue's number is added, and "discard". */
#define SENDER_PORT 49152u
#define RECEIVER_PORT 9u

struct headers {
	struct rte_ether_hdr ether;
	struct rte_ipv4_hdr ip;
	struct rte_udp_hdr udp;
} __rte_packed __rte_aligned(2);

/* Of a device, by its number; locally administered. */
static struct rte_ether_addr
address_of(uint32_t device)
{
	return (struct rte_ether_addr){ { 0x02, 0, 0, (uint8_t)(device >> 8), (uint8_t)device,
			0x01 } };
}

static void
write_headers(struct headers *h, uint16_t bytes, uint32_t flow, uint32_t receiver)
{
	const uint16_t ip_bytes = (uint16_t)(bytes - sizeof(h->ether));

	memset(h, 0, sizeof(*h));
	h->ether.dst_addr = address_of(receiver);
	h->ether.src_addr = address_of(flow >> 16);
	h->ether.ether_type = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4);
	h->ip.version_ihl = RTE_IPV4_VHL_DEF;
	h->ip.total_length = rte_cpu_to_be_16(ip_bytes);
	h->ip.time_to_live = 64;
	h->ip.next_proto_id = IPPROTO_UDP;
	h->ip.src_addr = rte_cpu_to_be_32(SENDER_IP);
	h->ip.dst_addr = rte_cpu_to_be_32(RECEIVER_IP);
	h->ip.hdr_checksum = rte_ipv4_cksum(&h->ip);
	h->udp.src_port = rte_cpu_to_be_16((uint16_t)(SENDER_PORT + (flow & 0xff)));
	h->udp.dst_port = rte_cpu_to_be_16(RECEIVER_PORT);
	/* No UDP checksum, as IPv4 allows: it would change with every number. */
	h->udp.dgram_len = rte_cpu_to_be_16((uint16_t)(ip_bytes - sizeof(h->ip)));
}

void
net_frame_prepare_header(uint8_t *header, bool needs_csum)
{
	struct virtio_net_hdr_mrg_rxbuf h = { 0 };

	RTE_BUILD_BUG_ON(sizeof(h) != NET_HEADER_BYTES);
	if (needs_csum) {
		h.hdr.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		h.hdr.csum_start = offsetof(struct headers, udp);
		h.hdr.csum_offset = offsetof(struct rte_udp_hdr, dgram_cksum);
	}
	memcpy(header, &h, sizeof(h));
}

void
net_frame_prepare(uint8_t *frame, uint16_t bytes, uint32_t flow, uint32_t receiver)
{
	const uint64_t mark = net_flow_mark(flow);
	struct headers headers;

	write_headers(&headers, bytes, flow, receiver);
	memset(frame, 0, bytes);
	memcpy(frame, &headers, sizeof(headers));
	memcpy(frame + NET_STAMP_AT, &mark, sizeof(mark));
}

/* Odd multipliers, so that neighbours in a frame, of a number and of a flow differ in many bits. */
static uint32_t
filler(const struct net_stamp *stamp, uint32_t at)
{
	const uint32_t flow = (uint32_t)(stamp->flow >> 32);

	return (uint32_t)stamp->number * UINT32_C(2654435761) + flow * UINT32_C(3266489917) +
			at * UINT32_C(2246822519);
}

void
net_frame_fill(uint8_t *frame, uint16_t bytes)
{
	const struct net_stamp stamp = net_frame_read(frame);

	for (uint32_t at = NET_FILLER_AT; at < bytes; at += 4) {
		const uint32_t word = filler(&stamp, at);

		memcpy(frame + at, &word, RTE_MIN(4u, bytes - at));
	}
}

bool
net_frame_headers_right(const uint8_t *frame, uint16_t bytes)
{
	const size_t from = offsetof(struct headers, ether.ether_type);
	struct headers headers;
	struct net_stamp stamp = net_frame_read(frame);

	write_headers(&headers, bytes, (uint32_t)(stamp.flow >> 32), NET_NOBODY);
	return memcmp((const uint8_t *)&headers + from, frame + from, sizeof(headers) - from) == 0;
}

bool
net_frame_filler_right(const uint8_t *data, uint32_t at, uint32_t bytes,
		const struct net_stamp *stamp)
{
	const uint32_t end = at + bytes;
	uint32_t wrong = 0, i, step;

	for (i = RTE_MAX(at, NET_FILLER_AT); i < end; i += step) {
		uint32_t word = 0, right = filler(stamp, i & ~3u) >> i % 4 * 8;

		/* To the end of the word, which a piece may begin and end in the middle of. */
		step = RTE_MIN(4 - i % 4, end - i);
		memcpy(&word, data + (i - at), step);
		wrong |= word ^ (right & (uint32_t)((UINT64_C(1) << step * 8) - 1));
	}
	return wrong == 0;
}

bool
net_frame_source_number(const uint8_t *frame, uint32_t bytes, unsigned int queue, uint64_t *number)
{
	rte_be64_t value;
	struct headers h;

	if (bytes < sizeof(h) + sizeof(value))
		return false;
	memcpy(&h, frame, sizeof(h));
	memcpy(&value, frame + sizeof(h), sizeof(value));
	*number = rte_be_to_cpu_64(value);
	return h.ip.src_addr == rte_cpu_to_be_32(SENDER_IP) &&
			h.udp.src_port == rte_cpu_to_be_16((uint16_t)(SENDER_PORT + queue)) &&
			h.udp.dst_port == rte_cpu_to_be_16(RECEIVER_PORT);
}
