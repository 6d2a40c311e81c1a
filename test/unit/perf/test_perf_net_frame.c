/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames of vhub-perf: valid IPv4 and UDP, a stamp that is read as it was written, and no byte that
 * can change without being noticed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include <rte_byteorder.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_udp.h>

#include "net_frame.h"

#define FLOW 0x00030007u
#define NUMBER UINT64_C(0x123456789abcdef0)

static const uint16_t sizes[] = { 64, 65, 66, 67, 127, 128, 594, 1517, 1518 };

static void
make(uint8_t *frame, uint16_t bytes)
{
	net_frame_prepare(frame, bytes, FLOW, NET_NOBODY);
	net_frame_stamp(frame, NUMBER, 42);
	net_frame_fill(frame, bytes);
}

/* As a receiver with buffers of `first` and then `more` bytes of frame. */
static bool
is_right(const uint8_t *frame, uint16_t bytes, uint32_t first, uint32_t more)
{
	const struct net_stamp stamp = net_frame_read(frame);

	if (stamp.flow != net_flow_mark(FLOW) || stamp.number != NUMBER || stamp.time_cycles != 42)
		return false;
	if (net_frame_bytes(frame) != bytes || !net_frame_headers_right(frame, bytes) ||
			!net_frame_filler_right(frame, 0, RTE_MIN(first, bytes), &stamp))
		return false;
	for (uint32_t at = first; at < bytes; at += more) {
		if (!net_frame_filler_right(frame + at, at, RTE_MIN(more, bytes - at), &stamp))
			return false;
	}
	return true;
}

static void
test_headers_are_valid(void **state)
{
	uint8_t frame[NET_MAX_FRAME];
	struct rte_ipv4_hdr ip;
	struct rte_udp_hdr udp;

	(void)state;
	for (unsigned int i = 0; i < RTE_DIM(sizes); i++) {
		make(frame, sizes[i]);
		memcpy(&ip, frame + sizeof(struct rte_ether_hdr), sizeof(ip));
		memcpy(&udp, frame + sizeof(struct rte_ether_hdr) + sizeof(ip), sizeof(udp));
		assert_int_equal(frame[12] << 8 | frame[13], RTE_ETHER_TYPE_IPV4);
		assert_int_equal(rte_be_to_cpu_16(ip.total_length), sizes[i] - 14);
		assert_int_equal(rte_be_to_cpu_16(udp.dgram_len), sizes[i] - 34);
		assert_int_equal(udp.dgram_cksum, 0);
		assert_int_equal(rte_raw_cksum(&ip, sizeof(ip)), 0xffff);
	}
}

/* A switch learns where a device is from what it sends, and finds it for what it gets. */
static void
test_frames_are_addressed_to_the_device_that_gets_them(void **state)
{
	uint8_t sent[64], answer[64];

	(void)state;
	net_frame_prepare(sent, sizeof(sent), 0x01020003, 7);
	net_frame_prepare(answer, sizeof(answer), 0x00070003, 0x0102);
	assert_memory_equal(sent, &answer[RTE_ETHER_ADDR_LEN], RTE_ETHER_ADDR_LEN);
	assert_memory_equal(&sent[RTE_ETHER_ADDR_LEN], answer, RTE_ETHER_ADDR_LEN);
	assert_memory_not_equal(sent, answer, RTE_ETHER_ADDR_LEN);
	assert_int_equal(sent[0] & 3, 2);
}

static void
test_a_header_asks_for_the_checksum_or_for_nothing(void **state)
{
	/* VIRTIO 1.2, 5.1.6: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset, num_buffers. */
	const uint8_t asking[NET_HEADER_BYTES] = { 1, 0, 0, 0, 0, 0, 34, 0, 6, 0, 0, 0 };
	const uint8_t nothing[NET_HEADER_BYTES] = { 0 };
	uint8_t header[NET_HEADER_BYTES];

	(void)state;
	net_frame_prepare_header(header, true);
	assert_memory_equal(header, asking, sizeof(header));
	net_frame_prepare_header(header, false);
	assert_memory_equal(header, nothing, sizeof(header));
}

static void
test_any_byte_that_changes_is_noticed(void **state)
{
	uint8_t frame[NET_MAX_FRAME];

	(void)state;
	for (unsigned int i = 0; i < RTE_DIM(sizes); i++) {
		make(frame, sizes[i]);
		assert_true(is_right(frame, sizes[i], sizes[i], 0));
		/* Ethernet addresses belong to the back end. */
		for (unsigned int at = 12; at < sizes[i]; at++) {
			frame[at] ^= 0x10;
			assert_false(is_right(frame, sizes[i], sizes[i], 0));
			frame[at] ^= 0x10;
		}
	}
}

static void
test_pieces_are_checked_as_the_whole(void **state)
{
	uint8_t frame[NET_MAX_FRAME];

	(void)state;
	make(frame, NET_MAX_FRAME);
	for (uint32_t first = 116; first < 400; first++)
		assert_true(is_right(frame, NET_MAX_FRAME, first, first + 13));
	for (unsigned int at = NET_FILLER_AT; at < NET_MAX_FRAME; at++) {
		frame[at] ^= 1;
		assert_false(is_right(frame, NET_MAX_FRAME, 116, 128));
		frame[at] ^= 1;
	}
}

/* Not that of the packet before, nor of one with this number from another queue or another device. */
static void
test_the_filler_is_that_of_its_flow_and_number(void **state)
{
	const uint32_t flows[] = { FLOW ^ 1, FLOW ^ 0x10000 };
	uint8_t frame[NET_MAX_FRAME];
	struct net_stamp stamp;

	(void)state;
	make(frame, 200);
	stamp = net_frame_read(frame);
	assert_true(net_frame_filler_right(frame, 0, 200, &stamp));
	stamp.number--;
	assert_false(net_frame_filler_right(frame, 0, 200, &stamp));
	stamp.number++;
	for (unsigned int i = 0; i < RTE_DIM(flows); i++) {
		stamp.flow = net_flow_mark(flows[i]);
		assert_false(net_frame_filler_right(frame, 0, 200, &stamp));
	}
}

static void
test_numbers_of_the_null_driver_are_found(void **state)
{
	const rte_be64_t number = rte_cpu_to_be_64(77);
	uint8_t frame[64];
	uint64_t value = 0;

	(void)state;
	net_frame_prepare(frame, sizeof(frame), 3, NET_NOBODY);
	memcpy(frame + 42, &number, sizeof(number));
	assert_true(net_frame_source_number(frame, sizeof(frame), 3, &value));
	assert_int_equal(value, 77);
	assert_false(net_frame_source_number(frame, sizeof(frame), 2, &value));
	assert_false(net_frame_source_number(frame, 49, 3, &value));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_headers_are_valid),
		cmocka_unit_test(test_frames_are_addressed_to_the_device_that_gets_them),
		cmocka_unit_test(test_a_header_asks_for_the_checksum_or_for_nothing),
		cmocka_unit_test(test_any_byte_that_changes_is_noticed),
		cmocka_unit_test(test_pieces_are_checked_as_the_whole),
		cmocka_unit_test(test_the_filler_is_that_of_its_flow_and_number),
		cmocka_unit_test(test_numbers_of_the_null_driver_are_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
