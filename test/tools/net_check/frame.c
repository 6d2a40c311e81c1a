/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Plain frames: an experimental EtherType, a header that tells what the frame is, a payload that
 * follows from its number, a checksum. Called by flow.c; next: report.c.
 */
#include <errno.h>
#include <string.h>

#include <rte_byteorder.h>
#include <rte_hash_crc.h>

#include "net_check.h"

#define FRAME_ETHERTYPE 0x88b5 /* IEEE 802: for local experiments */
#define FRAME_MAGIC 0x76687562

struct frame_header {
	rte_be32_t magic;
	rte_be16_t flow;
	rte_be16_t type;
	rte_be64_t seq;
	rte_be32_t len; /* of the frame */
	rte_be32_t crc; /* over all from the EtherType on, but itself */
} __rte_packed;

#define PAYLOAD_AT (RTE_ETHER_HDR_LEN + sizeof(struct frame_header))

const struct rte_ether_addr check_peer = { { 0x02, 0x76, 0x68, 0x75, 0x62, 0xee } };

/* Spreads a number over 64 bits (the finaliser that MurmurHash3 has). */
uint64_t
frame_mix(uint64_t value)
{
	value ^= value >> 33;
	value *= UINT64_C(0xff51afd7ed558ccd);
	value ^= value >> 33;
	value *= UINT64_C(0xc4ceb9fe1a85ec53);
	return value ^ value >> 33;
}

static uint64_t
payload_seed(const struct check_flow *flow, uint64_t seq)
{
	return frame_mix(seq << 8 ^ flow->index ^ check_options.seed << 40);
}

static uint32_t
frame_size(const struct check_flow *flow, uint64_t seq)
{
	const struct check_options *o = &check_options;

	if (o->n_sizes != 0)
		return o->sizes[seq % o->n_sizes];
	return CHECK_MIN_FRAME + payload_seed(flow, ~seq) % (CHECK_MAX_FRAME - CHECK_MIN_FRAME + 1);
}

static uint64_t
payload_word(uint64_t seed, uint32_t word)
{
	return seed + word * UINT64_C(0x9e3779b97f4a7c15);
}

static void
payload_write(uint8_t *to, uint32_t bytes, uint64_t seed)
{
	uint32_t word, i;
	uint64_t value;

	for (word = 0, i = 0; i < bytes; word++, i += sizeof(value)) {
		value = payload_word(seed, word);
		memcpy(to + i, &value, RTE_MIN(sizeof(value), bytes - i));
	}
}

/* `data` was written by memcpy() or by the other side, never through another type. */
static uint32_t
frame_crc(const uint8_t *data, uint32_t len)
{
	const uint32_t from = offsetof(struct rte_ether_hdr, ether_type);
	const uint32_t to = RTE_ETHER_HDR_LEN + offsetof(struct frame_header, crc);
	uint32_t crc = rte_hash_crc(data + from, to - from, 0);

	return rte_hash_crc(data + PAYLOAD_AT, len - PAYLOAD_AT, crc);
}

static int
frame_write(const struct check_flow *flow, struct rte_mbuf *m, uint16_t type, uint64_t seq,
		uint32_t len)
{
	uint8_t *data = (uint8_t *)rte_pktmbuf_append(m, len);
	const struct rte_ether_hdr eth = {
		.dst_addr = check_peer,
		.src_addr = flow->port->mac,
		.ether_type = rte_cpu_to_be_16(FRAME_ETHERTYPE),
	};
	struct frame_header header = {
		.magic = rte_cpu_to_be_32(FRAME_MAGIC),
		.flow = rte_cpu_to_be_16(flow->index),
		.type = rte_cpu_to_be_16(type),
		.seq = rte_cpu_to_be_64(seq),
		.len = rte_cpu_to_be_32(len),
	};

	if (data == NULL)
		return -ENOMEM;
	memcpy(data, &eth, sizeof(eth));
	memcpy(data + RTE_ETHER_HDR_LEN, &header, sizeof(header));
	payload_write(data + PAYLOAD_AT, len - PAYLOAD_AT, payload_seed(flow, seq));
	header.crc = rte_cpu_to_be_32(frame_crc(data, len));
	memcpy(data + RTE_ETHER_HDR_LEN, &header, sizeof(header));
	return 0;
}

int
frame_build_probe(const struct check_flow *flow, struct rte_mbuf *m)
{
	return frame_write(flow, m, FRAME_PROBE, flow->epoch, CHECK_MIN_FRAME);
}

static bool
is_ours(const uint8_t *data, uint32_t len, struct frame_header *header)
{
	const struct rte_ether_hdr *eth = (const struct rte_ether_hdr *)data;

	if (len < CHECK_MIN_FRAME || eth->ether_type != rte_cpu_to_be_16(FRAME_ETHERTYPE))
		return false;
	memcpy(header, data + RTE_ETHER_HDR_LEN, sizeof(*header));
	return header->magic == rte_cpu_to_be_32(FRAME_MAGIC);
}

bool
frame_is_probe(const struct check_flow *flow, const uint8_t *data, uint32_t len, uint32_t *epoch)
{
	struct frame_header header;

	if (!is_ours(data, len, &header) || header.type != rte_cpu_to_be_16(FRAME_PROBE) ||
			header.flow != rte_cpu_to_be_16(flow->index))
		return false;
	*epoch = rte_be_to_cpu_64(header.seq);
	return true;
}

/* Everything but the number: true if the frame is what was sent under its number. */
static bool
is_intact(const struct check_flow *flow, const uint8_t *data, uint32_t len,
		const struct frame_header *header)
{
	uint64_t seq = rte_be_to_cpu_64(header->seq);
	uint8_t want[CHECK_MAX_FRAME];
	uint32_t i;

	if (len != rte_be_to_cpu_32(header->len)) {
		report_fault(flow, "frame %lu is %u bytes long, %u were sent", seq, len,
				rte_be_to_cpu_32(header->len));
		return false;
	}
	if (rte_be_to_cpu_32(header->crc) != frame_crc(data, len)) {
		report_fault(flow, "the checksum of frame %lu is wrong", seq);
		return false;
	}
	if (rte_be_to_cpu_16(header->flow) != flow->index) {
		report_fault(flow, "frame %lu of flow %u came back here", seq,
				rte_be_to_cpu_16(header->flow));
		return false;
	}
	if (len != frame_size(flow, seq)) {
		report_fault(flow, "frame %lu is %u bytes long, and was sent with %u", seq, len,
				frame_size(flow, seq));
		return false;
	}
	payload_write(want, len - PAYLOAD_AT, payload_seed(flow, seq));
	if (memcmp(data + PAYLOAD_AT, want, len - PAYLOAD_AT) == 0)
		return true;
	for (i = 0; data[PAYLOAD_AT + i] == want[i]; i++)
		;
	report_fault(flow, "byte %zu of frame %lu is %#x, %#x was sent", PAYLOAD_AT + i, seq,
			data[PAYLOAD_AT + i], want[i]);
	return false;
}

static uint64_t
frame_step(const struct check_flow *flow __rte_unused)
{
	return 1;
}

static int
frame_build(const struct check_flow *flow, struct rte_mbuf *m)
{
	return frame_write(flow, m, FRAME_DATA, flow->next, frame_size(flow, flow->next));
}

static void
frame_check(struct check_flow *flow, const struct rte_mbuf *m, const uint8_t *data)
{
	uint32_t len = rte_pktmbuf_pkt_len(m);
	struct frame_header header;

	if (!is_ours(data, len, &header)) {
		flow->counts.foreign++;
		report_fault(flow, "a packet of %u bytes came that nobody sent", len);
		return;
	}
	if (!is_intact(flow, data, len, &header)) {
		flow->counts.corrupt++;
		return;
	}
	flow_arrived(flow, rte_be_to_cpu_64(header.seq), 1);
}

const struct check_traffic check_frames = {
	.step = frame_step,
	.build = frame_build,
	.check = frame_check,
};
