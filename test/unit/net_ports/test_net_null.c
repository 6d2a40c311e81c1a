/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The null driver of ports: arguments, sink, and the source's frames, numbers and rate.
 */
#include "double.h"

#include <errno.h>
#include <string.h>

#include <rte_byteorder.h>
#include <rte_cycles.h>
#include <rte_ip.h>
#include <rte_udp.h>

#include "../eal_fixture.h"

static struct rte_mbuf *burst[VHUB_NET_BURST];

static void
queue_begin(struct vhub_net_queue *queue, struct vhub_net_port *port, uint16_t index)
{
	*queue = (struct vhub_net_queue){ .port = port, .index = index };
	assert_int_equal(port->ops->queue_get(queue), 0);
}

static void
queue_end(struct vhub_net_queue *queue)
{
	queue->port->ops->queue_put(queue);
	assert_null(queue->priv);
	queue->port->ops->destroy(queue->port);
	assert_int_equal(double_in_use(), 0);
}

static void
test_arguments(void **state)
{
	static const char *const wrong[] = { "rate=x", "rate=", "rate=-1", "rate=1000000001",
		"rate=1T", "rate=2G", "rate=Max", "size=64", "rate=0,size=64", "rate=1,size=63",
		"rate=1,size=9217", "rate=1,size=1k", "rate=max,size=" };
	static const char *const right[] = { "", "rate=0", "rate=1", "rate=1000000000", "rate=1M",
		"rate=max", "rate=max,size=64", "rate=7,size=9216" };
	struct vhub_net_port *port;
	char error[DOUBLE_ERROR_LEN];

	(void)state;
	for (unsigned int i = 0; i < RTE_DIM(wrong); i++)
		assert_int_equal(double_parse_args("null", wrong[i], &port, error), -EINVAL);
	for (unsigned int i = 0; i < RTE_DIM(right); i++) {
		assert_int_equal(double_parse_args("null", right[i], &port, error), 0);
		port->ops->destroy(port);
	}
	assert_int_equal(double_parse_args("null", "rate=fast", &port, error), -EINVAL);
	assert_non_null(strstr(error, "rate=fast"));
	assert_non_null(strstr(error, "max"));
}

static void
test_a_frame_longer_than_the_mtu_is_refused(void **state)
{
	struct vhub_net_port *port;
	char error[DOUBLE_ERROR_LEN] = "";

	(void)state;
	assert_int_equal(double_parse_args("null", "rate=1,size=1515", &port, NULL), 0);
	assert_int_equal(port->ops->open(port, 1, NULL, 1500, error, sizeof(error)), -EINVAL);
	assert_non_null(strstr(error, "size=1515"));
	assert_non_null(strstr(error, "mtu=1500"));
	port->ops->destroy(port);
}

static void
test_a_sink_takes_all_and_sleeps(void **state)
{
	struct vhub_net_port *port = double_open("null", "", 1);
	struct vhub_net_queue queue;
	struct vhub_net_info info;

	(void)state;
	port->ops->info(port, &info);
	assert_true(info.link_up);
	assert_false(info.has_mac);
	assert_int_equal(info.takes, VHUB_NET_TAKES_ALL);
	queue_begin(&queue, port, 0);
	for (unsigned int i = 0; i < RTE_DIM(burst); i++)
		burst[i] = double_packet(i % 2 == 0 ? 64 : 5000, 2000, 1);
	assert_int_not_equal(double_in_use(), 0);
	assert_int_equal(port->ops->from_guest(&queue, burst, RTE_DIM(burst)), RTE_DIM(burst));
	assert_int_equal(double_in_use(), 0);
	assert_int_equal(port->ops->to_guest(&queue, burst, RTE_DIM(burst)), 0);
	assert_int_equal(port->ops->arm(&queue), 0);
	assert_int_equal(double_stat(port, "source_packets"), 0);
	queue_end(&queue);
}

/* Every field that a receiver checks, and every byte behind the headers. */
static void
check_frame(const struct rte_mbuf *pkt, uint32_t bytes, uint16_t index, uint64_t sequence)
{
	static uint8_t copy[9216];
	const uint8_t *data = rte_pktmbuf_read(pkt, 0, bytes, copy);
	struct rte_ether_hdr ether;
	struct rte_ipv4_hdr ip;
	struct rte_udp_hdr udp;
	rte_be64_t number;

	assert_int_equal(pkt->pkt_len, bytes);
	assert_non_null(data);
	assert_int_equal(pkt->ol_flags, 0);
	rte_mbuf_sanity_check(pkt, 1);
	memcpy(&ether, data, sizeof(ether));
	memcpy(&ip, data + 14, sizeof(ip));
	memcpy(&udp, data + 34, sizeof(udp));
	memcpy(&number, data + 42, sizeof(number));
	assert_true(rte_is_broadcast_ether_addr(&ether.dst_addr));
	assert_true(rte_is_valid_assigned_ether_addr(&ether.src_addr));
	assert_int_equal(rte_be_to_cpu_16(ether.ether_type), RTE_ETHER_TYPE_IPV4);
	assert_int_equal(rte_be_to_cpu_16(ip.total_length), bytes - 14);
	assert_int_equal(ip.version_ihl, 0x45);
	assert_int_equal(ip.next_proto_id, IPPROTO_UDP);
	assert_int_equal(rte_raw_cksum(&ip, sizeof(ip)), 0xffff);
	assert_int_equal(rte_be_to_cpu_16(udp.dgram_len), bytes - 34);
	assert_int_equal(rte_be_to_cpu_16(udp.src_port), 49152 + index);
	assert_int_equal(rte_be_to_cpu_64(number), sequence);
	for (uint32_t i = 50; i < bytes; i++)
		assert_int_equal(data[i], 0);
}

static void
test_frames_are_valid_and_numbered(void **state)
{
	static const struct {
		const char *args;
		uint32_t bytes;
	} sources[] = { { "rate=max", 64 }, { "rate=max,size=1514", 1514 },
		{ "rate=max,size=2048", 2048 }, { "rate=max,size=2049", 2049 },
		{ "rate=max,size=9216", 9216 } };

	(void)state;
	for (unsigned int s = 0; s < RTE_DIM(sources); s++) {
		struct vhub_net_port *port = double_open("null", sources[s].args, 4);
		struct vhub_net_queue queue;
		uint64_t sequence = 0;

		queue_begin(&queue, port, 3);
		for (unsigned int round = 0; round < 3; round++) {
			uint16_t n = port->ops->to_guest(&queue, burst, VHUB_NET_BURST);

			assert_int_equal(n, VHUB_NET_BURST);
			for (uint16_t i = 0; i < n; i++)
				check_frame(burst[i], sources[s].bytes, 3, sequence++);
			rte_pktmbuf_free_bulk(burst, n);
		}
		assert_int_equal(port->ops->to_guest(&queue, burst, 5), 5);
		check_frame(burst[0], sources[s].bytes, 3, sequence);
		rte_pktmbuf_free_bulk(burst, 5);
		assert_int_equal(double_stat(port, "source_packets"), sequence + 5);
		assert_int_equal(port->ops->arm(&queue), -ENOTSUP);
		queue_end(&queue);
	}
}

static void
test_frames_go_to_the_guests_address(void **state)
{
	const struct rte_ether_addr mac = { { 0x52, 0x54, 0, 1, 2, 3 } };
	struct vhub_net_port *port;
	struct vhub_net_queue queue;
	char error[DOUBLE_ERROR_LEN];

	(void)state;
	assert_int_equal(double_parse_args("null", "rate=max", &port, NULL), 0);
	assert_int_equal(port->ops->open(port, 1, &mac, 1500, error, sizeof(error)), 0);
	queue_begin(&queue, port, 0);
	assert_int_equal(port->ops->to_guest(&queue, burst, 1), 1);
	assert_memory_equal(rte_pktmbuf_mtod(burst[0], void *), &mac, sizeof(mac));
	rte_pktmbuf_free(burst[0]);
	queue_end(&queue);
}

/* All that comes within some time; *most is the largest burst. */
static uint64_t
drain(struct vhub_net_queue *queue, uint64_t cycles, uint16_t *most)
{
	const uint64_t begin = rte_rdtsc();
	uint64_t n_all = 0;

	*most = 0;
	do {
		uint16_t n = queue->port->ops->to_guest(queue, burst, VHUB_NET_BURST);

		rte_pktmbuf_free_bulk(burst, n);
		n_all += n;
		*most = RTE_MAX(*most, n);
	} while (rte_rdtsc() - begin < cycles);
	return n_all;
}

static void
test_the_rate_is_kept(void **state)
{
	static const struct {
		const char *args;
		uint64_t pps;
	} rates[] = { { "rate=1", 1 }, { "rate=1000", 1000 }, { "rate=300000", 300000 } };
	const uint64_t hz = rte_get_tsc_hz();

	(void)state;
	for (unsigned int i = 0; i < RTE_DIM(rates); i++) {
		struct vhub_net_port *port = double_open("null", rates[i].args, 1);
		struct vhub_net_queue queue;
		uint64_t begin, end, n;
		uint16_t most;

		begin = rte_rdtsc();
		queue_begin(&queue, port, 0);
		n = drain(&queue, hz / 5, &most);
		end = rte_rdtsc();
		/* Never more than the clock allows, whatever kept us from polling; and the first at once. */
		assert_in_range(n, 1, (end - begin) / (double)hz * rates[i].pps + 1);
		assert_in_range(most, 1, VHUB_NET_BURST);
		queue_end(&queue);
	}
}

/* What was not fetched for a while is not made up for beyond one burst. */
static void
test_a_pause_is_followed_by_one_burst(void **state)
{
	struct vhub_net_port *port = double_open("null", "rate=20000", 1);
	struct vhub_net_queue queue;
	uint64_t begin, n, due;

	(void)state;
	queue_begin(&queue, port, 0);
	rte_delay_us_block(50000); /* 1000 packets */
	begin = rte_rdtsc();
	n = port->ops->to_guest(&queue, burst, VHUB_NET_BURST);
	assert_int_equal(n, VHUB_NET_BURST);
	rte_pktmbuf_free_bulk(burst, VHUB_NET_BURST);
	n = port->ops->to_guest(&queue, burst, VHUB_NET_BURST);
	due = (rte_rdtsc() - begin) * 20000 / rte_get_tsc_hz() + 2;
	assert_in_range(n, 0, due);
	rte_pktmbuf_free_bulk(burst, (unsigned int)n);
	queue_end(&queue);
}

static void
test_a_pool_that_is_empty_is_counted(void **state)
{
	struct vhub_net_port *port = double_open("null", "rate=max", 1);
	struct rte_mbuf *taken[1023];
	struct vhub_net_queue queue;

	(void)state;
	queue_begin(&queue, port, 0);
	assert_int_equal(rte_pktmbuf_alloc_bulk(vhub_net_pool(-1), taken, RTE_DIM(taken)), 0);
	assert_int_equal(port->ops->to_guest(&queue, burst, 4), 0);
	assert_int_equal(double_stat(port, "source_no_mbuf"), 1);
	rte_pktmbuf_free_bulk(taken, RTE_DIM(taken));
	assert_int_equal(port->ops->to_guest(&queue, burst, 4), 4);
	check_frame(burst[0], 64, 0, 0);
	rte_pktmbuf_free_bulk(burst, 4);
	queue_end(&queue);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_a_frame_longer_than_the_mtu_is_refused),
		cmocka_unit_test(test_a_sink_takes_all_and_sleeps),
		cmocka_unit_test(test_frames_are_valid_and_numbered),
		cmocka_unit_test(test_frames_go_to_the_guests_address),
		cmocka_unit_test(test_the_rate_is_kept),
		cmocka_unit_test(test_a_pause_is_followed_by_one_burst),
		cmocka_unit_test(test_a_pool_that_is_empty_is_counted),
	};

	if (test_eal_init() != 0)
		return 99;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
