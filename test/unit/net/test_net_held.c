/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What waits for room in a ring that is librte_vhost's (net/to_guest.c): how long, and in which order
 * it goes on. The library's side of the ring is ours: as many buffers of as many bytes as a test says.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <rte_ip.h>
#include <rte_tcp.h>

#include "../eal_fixture.h"
#include "net_pvt.h"
#include "vring.h"

#define SHORT_BYTES 60u
#define LONG_BYTES 1000u
#define FAR_TOO_LONG NET_VIOMMU_WAIT_MS /* in ms: that long, and what the test takes */

static struct vring_run run;
static struct rvhost_path path;
static struct net_dev *dev;
static struct net_pair *pair;
static struct vhub_net_driver_ops driver_ops;

/* The guest's buffers, the last byte of each packet that it got, and the bytes of the last one's first mbuf. */
static struct {
	unsigned int n;
	uint32_t bytes;
	bool untranslated; /* behind a vIOMMU, and the front end has not told where they are */
	uint64_t n_misses; /* buffers that were looked for and not found for that */
	unsigned int n_got;
	uint8_t got[2 * VHUB_NET_BURST];
	uint16_t first_bytes;
} guest;

/*
 * In place of the library's, whose header and ours have each a vring_init(): as that one it stops at the
 * first packet that there is no room for.
 */
uint16_t
rte_vhost_enqueue_burst(int vid, uint16_t queue_id, struct rte_mbuf **pkts, uint16_t count);

uint16_t
rte_vhost_enqueue_burst(int vid, uint16_t queue_id, struct rte_mbuf **pkts, uint16_t count)
{
	uint16_t i;

	assert_int_equal(vid, path.vid);
	assert_int_equal(queue_id, 0);
	if (guest.untranslated) {
		guest.n_misses++;
		return 0;
	}
	for (i = 0; i < count && guest.n != 0 && pkts[i]->pkt_len <= guest.bytes; i++) {
		const struct rte_mbuf *last = rte_pktmbuf_lastseg(pkts[i]);

		assert_true(guest.n_got < RTE_DIM(guest.got));
		guest.got[guest.n_got++] = *rte_pktmbuf_mtod_offset(last, const uint8_t *,
				last->data_len - 1);
		guest.first_bytes = pkts[i]->data_len;
		guest.n--;
	}
	return i;
}

/* Likewise. Its only figure is the one of translations that were missing. */
struct rte_vhost_stat {
	uint64_t id;
	uint64_t value;
};

int
rte_vhost_vring_stats_get(int vid, uint16_t queue_id, struct rte_vhost_stat *stats, unsigned int n);

int
rte_vhost_vring_stats_get(int vid, uint16_t queue_id, struct rte_vhost_stat *stats, unsigned int n)
{
	assert_int_equal(vid, path.vid);
	assert_int_equal(queue_id, 0);
	assert_true(n > 0);
	stats[0].value = guest.n_misses;
	return 1;
}

static int
begin(void **state)
{
	const size_t bytes = sizeof(struct net_dev) + sizeof(struct net_pair);

	(void)state;
	memset(&guest, 0, sizeof(guest));
	memset(&driver_ops, 0, sizeof(driver_ops));
	memset(&path, 0, sizeof(path));
	path.vid = 7;
	path.call_max[0] = VHUB_NET_BURST;
	run = (struct vring_run){ .pub = { .taking = true, .enabled = true } };
	dev = aligned_alloc(RTE_CACHE_LINE_SIZE, RTE_ALIGN_CEIL(bytes, RTE_CACHE_LINE_SIZE));
	assert_non_null(dev);
	memset(dev, 0, bytes);
	dev->driver = &driver_ops;
	dev->path = &path;
	dev->pool = vhub_net_pool(-1);
	dev->guest_frame_bytes = NET_LONGEST_FRAME_BYTES;
	assert_non_null(dev->pool);
	pair = &dev->pairs[0];
	pair->dev = dev;
	pair->to_ring = &run.pub;
	pair->queue.open = true;
	return 0;
}

static int
end(void **state)
{
	(void)state;
	net_drop_held(pair);
	free(dev);
	assert_int_equal(rte_mempool_in_use_count(vhub_net_pool(-1)), 0);
	return 0;
}

static void
offer(unsigned int n, uint32_t bytes)
{
	guest.n = n;
	guest.bytes = bytes;
}

static struct rte_mbuf *
packet_of(uint32_t bytes, uint8_t name)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(vhub_net_pool(-1));

	assert_non_null(m);
	memset(rte_pktmbuf_append(m, (uint16_t)bytes), name, bytes);
	return m;
}

static void
send_one(uint32_t bytes, uint8_t name)
{
	struct rte_mbuf *m = packet_of(bytes, name);

	vhub_net_to_guest(&pair->queue, &m, 1);
}

/* Turns of a ring take next to no time. */
static void
poll_for(unsigned int turns)
{
	while (turns-- > 0)
		assert_int_equal(net_poll_to_guest(pair), 0);
}

static void
let_pass(unsigned int ms)
{
	pair->held_since_tsc -= rte_get_tsc_hz() / 1000 * ms;
}

static uint64_t
dropped(void)
{
	return pair->counters.drops[VHUB_NET_DROP_RING_FULL];
}

static void
expect_got(const uint8_t *names, unsigned int n)
{
	assert_int_equal(guest.n_got, n);
	assert_memory_equal(guest.got, names, n);
}

/* ---- how long ---- */

static void
test_it_waits_for_some_turns(void **state)
{
	(void)state;
	send_one(SHORT_BYTES, 1);
	send_one(SHORT_BYTES, 2);
	poll_for(NET_FULL_TURNS - 1);
	assert_int_equal(pair->n_held, 2);
	poll_for(2);
	assert_int_equal(pair->n_held, 0);
	assert_int_equal(dropped(), 2);
}

/* A translation that the front end is asked for takes many turns, but not for ever. */
static void
test_behind_a_viommu_it_waits_for_some_time(void **state)
{
	(void)state;
	run.pub.features = VHUB_F(ACCESS_PLATFORM);
	offer(1, SHORT_BYTES);
	guest.untranslated = true;
	send_one(SHORT_BYTES, 1);
	send_one(SHORT_BYTES, 2);
	poll_for(3 * NET_FULL_TURNS);
	assert_int_equal(pair->n_held, 2);
	let_pass(NET_VIOMMU_WAIT_MS / 2);
	guest.untranslated = false;
	assert_int_equal(net_poll_to_guest(pair), 1);
	/* The other one waits anew. */
	assert_int_equal(pair->n_held, 1);
	guest.untranslated = true;
	let_pass(NET_VIOMMU_WAIT_MS / 2);
	poll_for(1);
	assert_int_equal(pair->n_held, 1);
	let_pass(FAR_TOO_LONG);
	poll_for(1);
	assert_int_equal(pair->n_held, 0);
	assert_int_equal(dropped(), 1);
	expect_got((const uint8_t[]){ 1 }, 1);
}

/*
 * One packet that fits into no buffer costs no other one; behind a vIOMMU nor much time, whose buffer the
 * front end has told of.
 */
static void
test_those_behind_one_that_is_too_long(void **state)
{
	const uint8_t names[] = { 2, 3, 4, 6 };

	(void)state;
	run.pub.features = VHUB_F(ACCESS_PLATFORM);
	offer(64, SHORT_BYTES);
	send_one(LONG_BYTES, 1);
	for (uint8_t name = 2; name < 5; name++)
		send_one(SHORT_BYTES, name);
	send_one(LONG_BYTES, 5);
	send_one(SHORT_BYTES, 6);
	poll_for(NET_FULL_TURNS - 1);
	assert_int_equal(pair->n_held, 6);
	assert_int_equal(net_poll_to_guest(pair), 3);
	assert_int_equal(pair->n_held, 2);
	assert_int_equal(dropped(), 1);
	poll_for(NET_FULL_TURNS - 1);
	assert_int_equal(net_poll_to_guest(pair), 1);
	assert_int_equal(dropped(), 2);
	expect_got(names, RTE_DIM(names));
}

static unsigned int asked;

static uint16_t
ask(struct vhub_net_queue *queue, struct rte_mbuf **pkts, uint16_t max)
{
	(void)pkts;
	(void)max;
	assert_ptr_equal(queue, &pair->queue);
	asked++;
	return 0;
}

/* What the port has for the guest is looked at again, though the guest gives no buffer. */
static void
test_the_port_is_asked_again(void **state)
{
	(void)state;
	run.pub.features = VHUB_F(ACCESS_PLATFORM);
	driver_ops.to_guest = ask;
	asked = 0;
	guest.untranslated = true;
	send_one(SHORT_BYTES, 1);
	poll_for(NET_FULL_TURNS);
	assert_int_equal(asked, 0);
	let_pass(FAR_TOO_LONG);
	poll_for(2);
	assert_int_equal(asked, 1);
}

/* ---- order ---- */

#define TCP_HEADER_BYTES \
	(RTE_ETHER_HDR_LEN + sizeof(struct rte_ipv4_hdr) + sizeof(struct rte_tcp_hdr))

/* Two segments of TCP in one, whose last bytes are these. */
static struct rte_mbuf *
two_segments(uint8_t first, uint8_t second)
{
	const uint16_t payload = 2 * SHORT_BYTES;
	struct rte_mbuf *m = packet_of(TCP_HEADER_BYTES + payload, 0);
	uint8_t *data = rte_pktmbuf_mtod(m, uint8_t *);
	struct rte_ipv4_hdr *ip = (void *)(data + RTE_ETHER_HDR_LEN);
	struct rte_tcp_hdr *tcp = (void *)(ip + 1);

	ip->version_ihl = RTE_IPV4_VHL_DEF;
	ip->next_proto_id = IPPROTO_TCP;
	ip->total_length = rte_cpu_to_be_16((uint16_t)(m->pkt_len - RTE_ETHER_HDR_LEN));
	tcp->data_off = sizeof(*tcp) / 4 << 4;
	data[TCP_HEADER_BYTES + payload / 2 - 1] = first;
	data[TCP_HEADER_BYTES + payload - 1] = second;
	m->l2_len = RTE_ETHER_HDR_LEN;
	m->l3_len = sizeof(*ip);
	m->l4_len = sizeof(*tcp);
	m->tso_segsz = payload / 2;
	m->ol_flags = RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_TCP_SEG |
			RTE_MBUF_F_TX_TCP_CKSUM;
	return m;
}

/* A burst goes in several parts where some of it is to be cut. What waits of one is not overtaken by the next. */
static void
test_no_part_of_a_burst_overtakes_another(void **state)
{
	const uint8_t names[] = { 1, 2, 3, 4, 5 };
	struct rte_mbuf *pkts[3];

	(void)state;
	offer(64, TCP_HEADER_BYTES + SHORT_BYTES);
	pkts[0] = packet_of(LONG_BYTES, 1);
	pkts[1] = two_segments(2, 3);
	pkts[2] = packet_of(SHORT_BYTES, 4);
	vhub_net_to_guest(&pair->queue, pkts, RTE_DIM(pkts));
	assert_int_equal(guest.n_got, 0);
	assert_int_equal(pair->n_held, 4);
	send_one(SHORT_BYTES, 5);
	offer(64, LONG_BYTES);
	assert_int_equal(net_poll_to_guest(pair), 5);
	expect_got(names, RTE_DIM(names));
}

/* The same where what waits was not cut yet. */
static void
test_what_is_cut_late_keeps_its_place(void **state)
{
	const uint8_t names[] = { 1, 2, 3, 4 };
	struct rte_mbuf *m;

	(void)state;
	send_one(SHORT_BYTES, 1);
	m = two_segments(2, 3);
	vhub_net_to_guest(&pair->queue, &m, 1);
	send_one(SHORT_BYTES, 4);
	assert_int_equal(pair->n_held, 3);
	offer(64, SHORT_BYTES);
	assert_int_equal(net_poll_to_guest(pair), 1);
	assert_int_equal(pair->n_held, 3);
	offer(64, LONG_BYTES);
	assert_int_equal(net_poll_to_guest(pair), 3);
	expect_got(names, RTE_DIM(names));
}

/* A packet becomes more than before, and the guest has got what it has got: no packet. */
static void
test_pieces_are_not_packets_that_have_gone(void **state)
{
	struct rte_mbuf *m;

	(void)state;
	send_one(SHORT_BYTES, 1);
	m = two_segments(2, 3);
	vhub_net_to_guest(&pair->queue, &m, 1);
	poll_for(1);
	assert_int_equal(pair->n_held, 3);
}

/*
 * The library sets no other sum where the headers are in two mbufs; what waits stays in one, for it may be cut yet.
 * What the library does is in conformance/test_net_offload.py.
 */
static void
test_headers_are_in_two_pieces_for_the_library_alone(void **state)
{
	struct rte_mbuf *m = two_segments(1, 2);
	const uint32_t bytes = m->pkt_len;
	const uint8_t names[] = { 2, 2 };

	(void)state;
	pair->guest_takes = VHUB_NET_TAKES_ALL;
	vhub_net_to_guest(&pair->queue, &m, 1);
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(pair->n_held, 1);
		assert_int_equal(pair->held[0]->nb_segs, 1);
		assert_int_equal(pair->held[0]->data_len, bytes);
		assert_int_equal(rte_mempool_in_use_count(dev->pool), 1);
		poll_for(1);
	}
	offer(2, bytes);
	assert_int_equal(net_poll_to_guest(pair), 1);
	assert_int_equal(guest.first_bytes, TCP_HEADER_BYTES - 1);
	m = two_segments(1, 2);
	vhub_net_to_guest(&pair->queue, &m, 1);
	expect_got(names, RTE_DIM(names));
}

int
main(void)
{
#define HELD_TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		HELD_TEST(test_it_waits_for_some_turns),
		HELD_TEST(test_behind_a_viommu_it_waits_for_some_time),
		HELD_TEST(test_those_behind_one_that_is_too_long),
		HELD_TEST(test_the_port_is_asked_again),
		HELD_TEST(test_no_part_of_a_burst_overtakes_another),
		HELD_TEST(test_what_is_cut_late_keeps_its_place),
		HELD_TEST(test_pieces_are_not_packets_that_have_gone),
		HELD_TEST(test_headers_are_in_two_pieces_for_the_library_alone),
	};

	if (test_eal_init() != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
