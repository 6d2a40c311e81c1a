/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a packet of `vhub-perf net` is: Ethernet, IPv4 and UDP headers that never change, then a
 * stamp. All that is written for each packet is number and time, in one cache line.
 *
 *	 0  Ethernet, IPv4, UDP without checksum
 *	40  (UDP checksum, 0) mark, flow: with one comparison a frame of ours and of the right flow
 *	48  number in the flow
 *	56  time: TSC at which it was sent, or due
 *	64  filler; with --touch it depends on the flow and the number
 *
 * Used by net_lcore.c, net_device.c and net_run.c; implemented in net_frame.c.
 */
#ifndef PERF_NET_FRAME_H
#define PERF_NET_FRAME_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <rte_common.h>

/* virtio-net header of VERSION_1 (VIRTIO 1.2, 5.1.6). */
#define NET_HEADER_BYTES 12u
#define NET_NUM_BUFFERS_AT 10u

#define NET_MIN_FRAME 64u
#define NET_MAX_FRAME 1518u
#define NET_STAMP_AT 40u
#define NET_FILLER_AT 64u

/* As it lies in the frame; x86 and arm64 are little-endian, and so are rings. */
struct net_stamp {
	uint64_t flow; /* net_flow_mark() */
	uint64_t number;
	uint64_t time_cycles;
};

/* What bytes 40 to 47 are: no checksum, 'vp', the flow. */
static inline uint64_t
net_flow_mark(uint32_t flow)
{
	return (uint64_t)flow << 32 | UINT64_C(0x70760000);
}

/* The virtio-net header in front of a frame: nothing left to be done, or its UDP checksum. */
void
net_frame_prepare_header(uint8_t *header, bool needs_csum);

/* Nobody's number: what is sent to it comes back by the back end's doing. */
#define NET_NOBODY 0xffffu

/*
 * Headers, mark and, after it, zeroes: `bytes` of frame, from the device that `flow` has in its upper half
 * to the device `receiver`, for a switch in between.
 */
void
net_frame_prepare(uint8_t *frame, uint16_t bytes, uint32_t flow, uint32_t receiver);

static __rte_always_inline void
net_frame_stamp(uint8_t *frame, uint64_t number, uint64_t time_cycles)
{
	const uint64_t words[2] = { number, time_cycles };

	memcpy(frame + NET_STAMP_AT + 8, words, sizeof(words));
}

static __rte_always_inline struct net_stamp
net_frame_read(const uint8_t *frame)
{
	struct net_stamp stamp;

	memcpy(&stamp, frame + NET_STAMP_AT, sizeof(stamp));
	return stamp;
}

/* The length of the frame as its IPv4 header has it. */
static __rte_always_inline uint16_t
net_frame_bytes(const uint8_t *frame)
{
	return (uint16_t)(14 + (frame[16] << 8 | frame[17]));
}

/* Writes the filler of the packet, which is stamped. */
void
net_frame_fill(uint8_t *frame, uint16_t bytes);

/* Whether headers but the Ethernet addresses, which back ends change, are as they were sent. */
bool
net_frame_headers_right(const uint8_t *frame, uint16_t bytes);

/*
 * Whether `bytes` of the frame from offset `at` on are as net_frame_fill() has left them in the packet
 * with this stamp; what is before the filler is not looked at.
 */
bool
net_frame_filler_right(const uint8_t *data, uint32_t at, uint32_t bytes,
		const struct net_stamp *stamp);

/*
 * The number in a frame of vhub's driver null (doc/guides/net-drivers.rst), queue `queue`. False if
 * it is none.
 */
bool
net_frame_source_number(const uint8_t *frame, uint32_t bytes, unsigned int queue, uint64_t *number);

#endif /* PERF_NET_FRAME_H */
