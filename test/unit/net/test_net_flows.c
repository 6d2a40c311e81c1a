/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The table of a port's flows (net/flows.h): both directions of a flow are one, flows that go on keep
 * their places, those that do not give them up, and lcores that write at once leave nothing odd behind.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <rte_byteorder.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_udp.h>

#include "direct.h"

#define N_WRITERS 4u

static struct net_flows *flows;

static int
begin(void **state)
{
	(void)state;
	flows = aligned_alloc(RTE_CACHE_LINE_SIZE, sizeof(*flows));
	assert_non_null(flows);
	memset(flows, 0, sizeof(*flows));
	return 0;
}

static int
end(void **state)
{
	(void)state;
	free(flows);
	return 0;
}

/* ---- hashes ---- */

struct packet {
	struct rte_ether_hdr ether;
	struct rte_ipv4_hdr ip;
	struct rte_udp_hdr udp;
} __rte_packed __rte_aligned(2);

static struct packet
packet_of(uint32_t from, uint16_t port, uint32_t to, uint16_t to_port, uint8_t protocol)
{
	struct packet p = {
		.ether.ether_type = RTE_BE16(RTE_ETHER_TYPE_IPV4),
		.ip = { .version_ihl = RTE_IPV4_VHL_DEF,
				.next_proto_id = protocol,
				.src_addr = rte_cpu_to_be_32(from),
				.dst_addr = rte_cpu_to_be_32(to) },
		.udp = { rte_cpu_to_be_16(port), rte_cpu_to_be_16(to_port), 0, 0 },
	};

	return p;
}

static uint32_t
hash_of(uint32_t from, uint16_t port, uint32_t to, uint16_t to_port, uint8_t protocol)
{
	const struct packet p = packet_of(from, port, to, to_port, protocol);

	return net_flow_hash((const uint8_t *)&p, sizeof(p));
}

static void
both_directions_are_one_flow(void **state)
{
	unsigned int i, others = 0;

	(void)state;
	for (i = 0; i < 1000; i++) {
		const uint32_t from = (uint32_t)rand(), to = (uint32_t)rand();
		const uint16_t port = (uint16_t)rand(), to_port = (uint16_t)rand();
		const uint32_t hash = hash_of(from, port, to, to_port, IPPROTO_UDP);

		assert_int_equal(hash_of(to, to_port, from, port, IPPROTO_UDP), hash);
		others += hash_of(from, port ^ 1, to, to_port, IPPROTO_UDP) == hash;
		others += hash_of(from ^ 1, port, to, to_port, IPPROTO_UDP) == hash;
		others += hash_of(from, port, to, to_port, IPPROTO_TCP) == hash;
		others += hash_of(from, to_port, to, port, IPPROTO_UDP) == hash;
	}
	assert_true(others < 4);
}

static void
fragments_have_no_ports(void **state)
{
	struct packet one = packet_of(1, 2, 3, 4, IPPROTO_UDP);
	struct packet other = packet_of(1, 77, 3, 99, IPPROTO_UDP);

	(void)state;
	one.ip.fragment_offset = other.ip.fragment_offset = RTE_BE16(RTE_IPV4_HDR_MF_FLAG);
	assert_int_equal(net_flow_hash((const uint8_t *)&one, sizeof(one)),
			net_flow_hash((const uint8_t *)&other, sizeof(other)));
	/* And no more is read than is there. */
	for (unsigned int len = RTE_ETHER_HDR_LEN; len < sizeof(one); len++) {
		uint8_t *head = malloc(len);

		assert_non_null(head);
		memcpy(head, &other, len);
		(void)net_flow_hash(head, len);
		free(head);
	}
}

/* A frame of TCP with its ports behind byte 64: IPv6 with two VLAN tags, or IPv4 with all options that there can be. */
static void
make_long_headers(uint8_t frame[2 * VHUB_NET_HEAD_BYTES], bool ipv6, uint16_t port)
{
	static const uint8_t tags[] = { 0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 0x86, 0xdd, 0x60 };
	const uint32_t at = ipv6 ? 22 + sizeof(struct rte_ipv6_hdr) : 14 + 60;

	memset(frame, 0x11, 2 * VHUB_NET_HEAD_BYTES);
	if (ipv6) {
		memcpy(&frame[12], tags, sizeof(tags));
		frame[22 + offsetof(struct rte_ipv6_hdr, proto)] = IPPROTO_TCP;
	} else {
		memset(&frame[12], 0, 20);
		frame[12] = 0x08;
		frame[14] = 0x4f;
		frame[14 + offsetof(struct rte_ipv4_hdr, next_proto_id)] = IPPROTO_TCP;
	}
	memcpy(&frame[at], &port, sizeof(port));
}

/* However much of a packet is at hand, in a view, in one to be cut or in an mbuf, it comes by the same pair. */
static void
what_is_at_hand_makes_no_other_flow(void **state)
{
	static struct net_rss rss = { .types = NET_RSS_TYPES, .key = { 0x6d5a56da, 0x255b0ec2 } };
	uint8_t frame[2 * VHUB_NET_HEAD_BYTES];
	uint32_t flow, hash;
	uint16_t report, of_head;

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		make_long_headers(frame, i % 2 != 0, (uint16_t)(i * 77));
		flow = net_flow_hash(frame, NET_HEAD_BYTES);
		hash = net_rss_hash(&rss, frame, NET_HEAD_BYTES, &of_head);
		assert_int_not_equal(of_head, VIRTIO_NET_HASH_REPORT_NONE);
		for (uint32_t bytes = NET_HEAD_BYTES; bytes <= sizeof(frame); bytes++) {
			assert_int_equal(net_flow_hash(frame, bytes), flow);
			assert_int_equal(net_rss_hash(&rss, frame, bytes, &report), hash);
			assert_int_equal(report, of_head);
		}
	}
}

/* ---- the table ---- */

static void
the_last_pair_counts(void **state)
{
	(void)state;
	assert_int_equal(net_flows_find(flows, 7, 1), -1);
	net_flows_note(flows, 7, 3, 1);
	net_flows_note(flows, 7 + NET_FLOW_LINES, 63, 1);
	assert_int_equal(net_flows_find(flows, 7, 1), 3);
	assert_int_equal(net_flows_find(flows, 7 + NET_FLOW_LINES, 1), 63);
	net_flows_note(flows, 7, 0, 2);
	assert_int_equal(net_flows_find(flows, 7, 2), 0);
	/* An lcore whose turn began before the tick. */
	assert_int_equal(net_flows_find(flows, 7, 1), 0);
	net_flows_note(flows, 7, 5, 1);
	assert_int_equal(net_flows_find(flows, 7, 2), 5);
}

static void
who_is_silent_is_forgotten(void **state)
{
	const uint32_t starts[] = { 0, 1000, 0xffffff - 10, UINT32_MAX - 10 };

	(void)state;
	for (unsigned int i = 0; i < RTE_DIM(starts); i++) {
		const uint32_t t = starts[i];

		memset(flows->words, 0, sizeof(flows->words));
		net_flows_note(flows, 9, 1, t);
		assert_int_equal(net_flows_find(flows, 9, t + NET_FLOW_AGE_TICKS), 1);
		assert_int_equal(net_flows_find(flows, 9, t + NET_FLOW_AGE_TICKS + 1), -1);
		net_flows_note(flows, 9, 2, t + NET_FLOW_AGE_TICKS);
		assert_int_equal(net_flows_find(flows, 9, t + 2 * NET_FLOW_AGE_TICKS), 2);
	}
}

/* Of the line that all tests fill. */
static uint32_t
in_line(uint32_t number)
{
	return 5 + number * NET_FLOW_LINES;
}

/* Those that go on keep their places, and one more finds one as soon as one of them is silent. */
static void
a_full_line_keeps_what_goes_on(void **state)
{
	const uint32_t more = in_line(NET_FLOW_WAYS), late = 101 + NET_FLOW_SILENT_TICKS;
	uint32_t i;

	(void)state;
	for (i = 0; i < 2 * NET_FLOW_WAYS; i++)
		net_flows_note(flows, in_line(i % NET_FLOW_WAYS), (uint16_t)(i % NET_FLOW_WAYS),
				100);
	net_flows_note(flows, more, 60, 100);
	assert_int_equal(net_flows_find(flows, more, 100), -1);
	for (i = 0; i < NET_FLOW_WAYS; i++)
		assert_int_equal(net_flows_find(flows, in_line(i), 100), (int)i);
	for (i = 1; i < NET_FLOW_WAYS; i++)
		net_flows_note(flows, in_line(i), (uint16_t)i, 102);
	net_flows_note(flows, more, 60, late - 2);
	assert_int_equal(net_flows_find(flows, more, late), -1);
	net_flows_note(flows, more, 60, late);
	assert_int_equal(net_flows_find(flows, more, late), 60);
	assert_int_equal(net_flows_find(flows, in_line(0), late), -1);
	for (i = 1; i < NET_FLOW_WAYS; i++)
		assert_int_equal(net_flows_find(flows, in_line(i), late), (int)i);
}

/* A guest answers to many that are never heard of again: flows that go on are known, and so is a new one. */
static void
strangers_take_no_place_for_long(void **state)
{
	const uint32_t old = in_line(1000), new = in_line(1001);
	uint32_t now, i, stranger = 0;

	(void)state;
	for (i = 0; i < 3 * NET_FLOW_WAYS; i++)
		net_flows_note(flows, in_line(stranger++), 1, 100);
	for (now = 100; now < 104; now++) {
		net_flows_note(flows, old, 2, now);
		net_flows_note(flows, old, 2, now);
		for (i = 0; i < 3 * NET_FLOW_WAYS; i++)
			net_flows_note(flows, in_line(stranger++), 1, now);
		assert_int_equal(net_flows_find(flows, old, now), 2);
	}
	net_flows_note(flows, new, 3, now);
	assert_int_equal(net_flows_find(flows, new, now), 3);
}

static void *
write_and_read(void *arg)
{
	const uint16_t pair = (uint16_t)(uintptr_t)arg;
	unsigned long odd = 0;

	for (uint32_t n = 0; n < 200000; n++) {
		const uint32_t hash = n % 64 * NET_FLOW_LINES / 8 + 1;
		int found;

		net_flows_note(flows, hash, pair, n / 1000);
		found = net_flows_find(flows, hash, n / 1000);
		odd += found < -1 || found >= (int)N_WRITERS;
	}
	return (void *)odd;
}

static void
writers_at_once_leave_nothing_odd(void **state)
{
	pthread_t threads[N_WRITERS];
	void *odd;
	uintptr_t i;

	(void)state;
	for (i = 0; i < N_WRITERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, write_and_read, (void *)i), 0);
	for (i = 0; i < N_WRITERS; i++) {
		assert_int_equal(pthread_join(threads[i], &odd), 0);
		assert_null(odd);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_directions_are_one_flow),
		cmocka_unit_test(fragments_have_no_ports),
		cmocka_unit_test(what_is_at_hand_makes_no_other_flow),
		cmocka_unit_test_setup_teardown(the_last_pair_counts, begin, end),
		cmocka_unit_test_setup_teardown(who_is_silent_is_forgotten, begin, end),
		cmocka_unit_test_setup_teardown(a_full_line_keeps_what_goes_on, begin, end),
		cmocka_unit_test_setup_teardown(strangers_take_no_place_for_long, begin, end),
		cmocka_unit_test_setup_teardown(writers_at_once_leave_nothing_odd, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
