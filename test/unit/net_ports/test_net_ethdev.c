/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The ethdev driver: arguments, what it refuses to open and says then, ownership, and packets through
 * DPDK's own virtual devices: net_ring (a loop), net_null, net_pcap (files), net_tap (where this user
 * may make one). And what tx queues of all ports together may keep.
 */
#include "double.h"
#include "../../../drivers/net/ethdev/ethdev_pvt.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/if.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <rte_common.h>
#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_ethdev.h>

#include "../eal_fixture.h"

static struct rte_mbuf *burst[VHUB_NET_BURST];

/*
 * parse of port=VALUE, not through DPDK's splitting, which knows no "=" inside of brackets. EAL's memory
 * is small here, so rings are short.
 */
static struct vhub_net_port *
port_of(const char *value)
{
	char error[DOUBLE_ERROR_LEN];
	struct rte_kvargs args = { .count = 3 };
	struct vhub_net_port *port;
	const struct vhub_net_driver_ops *ops = vhub_net_driver_find("ethdev");

	args.pairs[0].key = (char *)(uintptr_t) "port";
	args.pairs[0].value = (char *)(uintptr_t)value;
	args.pairs[1].key = (char *)(uintptr_t) "rxd";
	args.pairs[1].value = (char *)(uintptr_t) "64";
	args.pairs[2].key = (char *)(uintptr_t) "txd";
	args.pairs[2].value = (char *)(uintptr_t) "64";
	if (ops->parse(&args, &port, error, sizeof(error)) != 0)
		fail_msg("port=%s: %s", value, error);
	return port;
}

static struct vhub_net_port *
open_port(const char *value, uint16_t n_pairs)
{
	struct vhub_net_port *port = port_of(value);
	char error[DOUBLE_ERROR_LEN] = "";

	if (port->ops->open(port, n_pairs, NULL, 0, error, sizeof(error)) != 0)
		fail_msg("port=%s: %s", value, error);
	return port;
}

/* That open fails with this errno, and with a sentence that holds both words; then destroys. */
static void
open_refused(struct vhub_net_port *port, uint16_t n_pairs, const struct rte_ether_addr *mac,
		uint16_t mtu, int err, const char *word, const char *other)
{
	char error[DOUBLE_ERROR_LEN] = "";
	int ret = port->ops->open(port, n_pairs, mac, mtu, error, sizeof(error));

	if (err != 0)
		assert_int_equal(ret, err);
	assert_in_range(-ret, 1, 4095);
	if (strstr(error, word) == NULL || strstr(error, other) == NULL)
		fail_msg("not both '%s' and '%s' in: %s", word, other, error);
	port->ops->destroy(port);
}

static void
queue_begin(struct vhub_net_queue *queue, struct vhub_net_port *port, uint16_t index)
{
	*queue = (struct vhub_net_queue){ .port = port, .index = index };
	assert_int_equal(port->ops->queue_get(queue), 0);
	queue->open = true;
	port->ops->opened(queue, false);
	memset(double_drops, 0, sizeof(double_drops));
}

static void
queue_end(struct vhub_net_queue *queue)
{
	queue->port->ops->queue_put(queue);
	queue->port->ops->destroy(queue->port);
	assert_int_equal(double_in_use(), 0);
}

/* ---- arguments ---- */

static void
test_arguments(void **state)
{
	static const char *const wrong[] = { "", "port=", "port=[]", "port=a,rxd=63",
		"port=a,rxd=32769", "port=a,txd=x", "port=a,promisc=maybe", "port=[a", "port=a]" };
	static const char *const right[] = { "port=a", "port=[a]", "port=0000:03:00.0",
		"port=[net_ring0]", "port=a,rxd=64,txd=32768", "port=a,promisc=on",
		"port=a,promisc=off", "port=a,promisc=auto" };
	struct vhub_net_port *port;
	char error[DOUBLE_ERROR_LEN];

	(void)state;
	for (unsigned int i = 0; i < RTE_DIM(wrong); i++) {
		if (double_parse_args("ethdev", wrong[i], &port, error) != -EINVAL)
			fail_msg("'%s' is taken", wrong[i]);
	}
	for (unsigned int i = 0; i < RTE_DIM(right); i++) {
		assert_int_equal(double_parse_args("ethdev", right[i], &port, error), 0);
		port->ops->destroy(port);
	}
	assert_int_equal(double_parse("ethdev", "port", "[,a]", &port, error), -EINVAL);
	assert_int_equal(double_parse("ethdev", "port", "[a,b=[c]]", &port, error), -EINVAL);
	assert_non_null(strstr(error, "port=[a,b=[c]]"));
	assert_int_equal(double_parse_args("ethdev", "rxd=64", &port, error), -EINVAL);
	assert_non_null(strstr(error, "port= is missing"));
	/* The last one is opened nowhere: destroy takes a port in whatever state. */
	assert_int_equal(double_parse("ethdev", "port", "[a,b=c]", &port, error), 0);
	port->ops->destroy(port);
}

/* ---- what cannot be opened ---- */

static void
test_a_port_that_is_none_is_refused_by_name(void **state)
{
	(void)state;
	open_refused(port_of("nosuchport"), 1, NULL, 0, 0, "port=nosuchport", "PCI address");
	open_refused(port_of("[net_foo0,iface=lo]"), 1, NULL, 0, 0, "port=net_foo0,iface=lo",
			"no driver of this name");
	/* EAL runs without PCI here. */
	open_refused(port_of("0000:ff:1f.7"), 1, NULL, 0, 0, "port=0000:ff:1f.7",
			"vhubd -a 0000:ff:1f.7");
	open_refused(port_of("ff:1f.7"), 1, NULL, 0, 0, "port=ff:1f.7", "vhubd -a ff:1f.7");
	open_refused(port_of("[net_pcap_x,rx_pcap=/nonexistent/file]"), 1, NULL, 0, 0,
			"rx_pcap=/nonexistent/file", "no such port");
	assert_int_equal(rte_eth_dev_count_total(), 0);
}

static void
test_a_device_without_a_port_is_given_back(void **state)
{
	(void)state;
	/* A device of another kind; probing has worked if a second probing does. */
	for (unsigned int i = 0; i < 2; i++)
		open_refused(port_of("crypto_null7"), 1, NULL, 0, -ENODEV, "port=crypto_null7",
				"no network port");
}

static void
test_more_pairs_than_queues_are_refused_with_the_limit(void **state)
{
	(void)state;
	open_refused(port_of("net_ring0"), 200, NULL, 0, -EINVAL, "200 queue pairs", "rx and");
	open_refused(port_of("[net_pcap0,iface=lo]"), 2, NULL, 0, -EINVAL, "2 queue pairs",
			"1 rx and 1 tx");
	assert_int_equal(rte_eth_dev_count_total(), 0);
}

static void
test_a_port_serves_one_device(void **state)
{
	struct vhub_net_port *first = open_port("net_ring0", 1);

	(void)state;
	open_refused(port_of("net_ring0"), 1, NULL, 0, -EBUSY, "port=net_ring0", "in use");
	/* The loser took nothing away from the owner. */
	assert_int_equal(rte_eth_dev_count_total(), 1);
	first->ops->destroy(first);
	assert_int_equal(rte_eth_dev_count_total(), 0);
}

static void
test_an_mtu_that_the_port_cannot_have_is_refused(void **state)
{
	(void)state;
	open_refused(port_of("[net_af_packet0,iface=lo]"), 1, NULL, 9000, -EINVAL, "mtu=9000",
			"to 1500");
}

static void
test_no_memory_names_what_to_raise(void **state)
{
	struct vhub_net_port *port;
	char error[DOUBLE_ERROR_LEN] = "";

	(void)state;
	assert_int_equal(double_parse_args("ethdev", "port=net_null0,rxd=32768", &port, NULL), 0);
	assert_int_equal(port->ops->open(port, 1, NULL, 0, error, sizeof(error)), -ENOMEM);
	assert_non_null(strstr(error, "--socket-limit"));
	assert_non_null(strstr(error, "rxd="));
	port->ops->destroy(port);
	assert_int_equal(rte_eth_dev_count_total(), 0);
}

/* ---- a port's life ---- */

static void
test_a_port_that_was_there_stays(void **state)
{
	struct vhub_net_port *port;
	uint16_t id;

	(void)state;
	assert_int_equal(rte_eal_hotplug_add("vdev", "net_null5", ""), 0);
	open_refused(port_of("[net_null5,size=64]"), 1, NULL, 0, -EEXIST, "exists already",
			"port=net_null5 takes it");
	/* Again and again: what the first has left there does no harm to the second. */
	for (unsigned int i = 0; i < 3; i++) {
		struct vhub_net_queue queue;

		port = open_port("net_null5", 1);
		queue_begin(&queue, port, 0);
		assert_int_equal(port->ops->to_guest(&queue, burst, 8), 8);
		rte_pktmbuf_free_bulk(burst, 8);
		queue_end(&queue);
		assert_int_equal(rte_eth_dev_get_port_by_name("net_null5", &id), 0);
	}
	assert_int_equal(rte_eal_hotplug_remove("vdev", "net_null5"), 0);
}

static void
test_info_tells_what_the_port_is(void **state)
{
	const struct rte_ether_addr mac = { { 0x52, 0x54, 0, 1, 2, 3 } };
	struct vhub_net_port *port = port_of("net_null0");
	struct vhub_net_info info;
	char error[DOUBLE_ERROR_LEN];

	(void)state;
	assert_int_equal(port->ops->open(port, 1, &mac, 1400, error, sizeof(error)), 0);
	port->ops->info(port, &info);
	assert_string_equal(info.target, "net_null0 (driver net_null)");
	assert_int_equal(info.mtu, 1400);
	assert_true(info.has_mac);
	assert_memory_equal(&info.mac, &mac, sizeof(mac));
	assert_true(info.link_up);
	assert_int_equal(info.link_speed_mbps, 10000);
	assert_true(info.full_duplex);
	assert_in_range(info.max_pairs, 1, VHUB_NET_MAX_PAIRS);
	assert_int_equal(info.takes, 0);
	port->ops->destroy(port);
}

/* ---- packets ---- */

static void
test_a_loop_brings_packets_back_in_order(void **state)
{
	struct vhub_net_port *port = open_port("net_ring0", 1);
	struct vhub_net_queue queue;

	(void)state;
	queue_begin(&queue, port, 0);
	for (uint8_t round = 0; round < 3; round++) {
		for (uint8_t i = 0; i < VHUB_NET_BURST; i++)
			burst[i] = double_packet(60u + i, 2000, i);
		assert_int_equal(port->ops->from_guest(&queue, burst, VHUB_NET_BURST),
				VHUB_NET_BURST);
		memset(burst, 0, sizeof(burst));
		assert_int_equal(port->ops->to_guest(&queue, burst, VHUB_NET_BURST),
				VHUB_NET_BURST);
		for (uint8_t i = 0; i < VHUB_NET_BURST; i++) {
			assert_int_equal(burst[i]->pkt_len, 60 + i);
			assert_int_equal(*rte_pktmbuf_mtod(burst[i], uint8_t *), i);
		}
		rte_pktmbuf_free_bulk(burst, VHUB_NET_BURST);
	}
	assert_int_equal(double_stat(port, "opackets"), 3 * VHUB_NET_BURST);
	assert_int_equal(double_stat(port, "ipackets"), 3 * VHUB_NET_BURST);
	assert_int_equal(port->ops->arm(&queue), -ENOTSUP);
	queue_end(&queue);
}

/* By a loop: `n` frames that begin with `first`, and the numbers after it. */
static void
loop(struct vhub_net_queue *queue, unsigned int n, uint8_t first)
{
	struct rte_mbuf *m;

	for (unsigned int i = 0; i < n; i++) {
		m = double_packet(60, 60, (uint8_t)(first + i));
		assert_int_equal(queue->port->ops->from_guest(queue, &m, 1), 1);
	}
}

/* Turns until some come: these `n`, and in the next turns none. */
static void
comes(struct vhub_net_queue *queue, unsigned int n, uint8_t first)
{
	unsigned int n_got = 0;

	for (unsigned int turns = 0; turns < 32; turns++) {
		const uint16_t n_burst = queue->port->ops->to_guest(queue, burst, VHUB_NET_BURST);

		for (uint16_t i = 0; i < n_burst; i++, n_got++)
			assert_int_equal(*rte_pktmbuf_mtod(burst[i], uint8_t *),
					(uint8_t)(first + n_got));
		rte_pktmbuf_free_bulk(burst, n_burst);
	}
	assert_int_equal(n_got, n);
}

static void
test_what_came_before_is_not_for_the_guest(void **state)
{
	struct vhub_net_port *port = open_port("net_ring0", 1);
	const struct vhub_net_driver_ops *ops = port->ops;
	struct vhub_net_queue queue;

	(void)state;
	queue_begin(&queue, port, 0);
	loop(&queue, 200, 1);
	/* It was on its way to this lcore. */
	comes(&queue, 200, 1);
	ops->closed(&queue);
	loop(&queue, 300, 1);
	ops->opened(&queue, true);
	comes(&queue, 0, 0);
	assert_int_equal(double_drops[VHUB_NET_DROP_NO_RING], 300);
	loop(&queue, 10, 7);
	comes(&queue, 10, 7);
	/* A burst in a turn. */
	ops->closed(&queue);
	loop(&queue, 300, 1);
	ops->opened(&queue, true);
	assert_int_equal(ops->to_guest(&queue, burst, VHUB_NET_BURST), 0);
	assert_int_equal(double_drops[VHUB_NET_DROP_NO_RING], 300 + VHUB_NET_BURST);
	/* It moves in the middle of that. */
	ops->closed(&queue);
	ops->queue_put(&queue);
	assert_int_equal(ops->queue_get(&queue), 0);
	ops->opened(&queue, false);
	comes(&queue, 0, 0);
	assert_int_equal(double_drops[VHUB_NET_DROP_NO_RING], 600);
	queue_end(&queue);
}

/* A port that always has something: nobody can tell what of it has waited. */
static void
test_no_more_is_dropped_than_can_have_waited(void **state)
{
	struct vhub_net_port *port = open_port("net_null0", 1);
	struct vhub_net_queue queue;
	unsigned int turns = 0;

	(void)state;
	queue_begin(&queue, port, 0);
	port->ops->closed(&queue);
	port->ops->opened(&queue, true);
	while (port->ops->to_guest(&queue, burst, VHUB_NET_BURST) == 0)
		assert_in_range(turns++, 0, 1024 / VHUB_NET_BURST);
	rte_pktmbuf_free_bulk(burst, VHUB_NET_BURST);
	assert_in_range(double_drops[VHUB_NET_DROP_NO_RING], 64, 1024 + VHUB_NET_BURST);
	queue_end(&queue);
}

/* ---- rx queues of pairs that are closed ---- */

#define N_PAIRS 4u

/* Pairs of a port that loops; lcores that are somebody else's than the caller. */
static struct vhub_net_queue pairs[N_PAIRS];
static char lcores[N_PAIRS];

static void
pair_open(struct vhub_net_port *port, uint16_t index, bool anew)
{
	pairs[index] = (struct vhub_net_queue){ .port = port, .index = index };
	pairs[index].lcore = (struct vhub_lcore *)&lcores[index];
	assert_int_equal(port->ops->queue_get(&pairs[index]), 0);
	pairs[index].open = true;
	port->ops->opened(&pairs[index], anew);
}

static void
pair_close(uint16_t index)
{
	pairs[index].open = false;
	pairs[index].port->ops->closed(&pairs[index]);
	pairs[index].port->ops->queue_put(&pairs[index]);
}

/* A frame into each rx queue, with its number. */
static void
spread(void)
{
	struct rte_mbuf *m;
	uint16_t id;

	assert_int_equal(rte_eth_dev_get_port_by_name("net_ring0", &id), 0);
	for (uint8_t i = 0; i < N_PAIRS; i++) {
		m = double_packet(60, 60, i);
		assert_int_equal(rte_eth_tx_burst(id, i, &m, 1), 1);
	}
}

/* A turn: what comes by the pair, a bit for each number. */
static unsigned int
turn(uint16_t index)
{
	const uint16_t n = pairs[index].port->ops->to_guest(&pairs[index], burst, VHUB_NET_BURST);
	unsigned int numbers = 0;

	for (uint16_t i = 0; i < n; i++) {
		assert_int_equal(numbers >> *rte_pktmbuf_mtod(burst[i], uint8_t *) & 1, 0);
		numbers |= 1u << *rte_pktmbuf_mtod(burst[i], uint8_t *);
	}
	rte_pktmbuf_free_bulk(burst, n);
	return numbers;
}

static void
test_open_pairs_take_what_comes_for_closed_ones(void **state)
{
	struct vhub_net_port *port = open_port("net_ring0", N_PAIRS);
	const struct vhub_net_driver_ops *ops = port->ops;

	(void)state;
	memset(double_drops, 0, sizeof(double_drops));
	double_wakes = 0;
	/* The first one alone, as guests begin. */
	pair_open(port, 0, true);
	assert_int_equal(turn(0), 0);
	spread();
	assert_int_equal(turn(0), 0xf);
	assert_int_equal(double_wakes, 0);
	/* Of two each has half of them; until the other one looks nobody touches its queues, and nobody sleeps. */
	pair_open(port, 1, true);
	assert_int_equal(double_wakes, 1);
	assert_ptr_equal(double_woken, &lcores[0]);
	spread();
	assert_int_equal(turn(1), 0);
	assert_int_equal(ops->arm(&pairs[1]), -EAGAIN);
	ops->disarm(&pairs[1]);
	assert_int_equal(turn(0), 0x5);
	assert_int_equal(turn(1), 0xa);
	/* One that is left has all again, also of pairs below it. */
	pair_close(0);
	assert_int_equal(double_wakes, 2);
	assert_ptr_equal(double_woken, &lcores[1]);
	spread();
	assert_int_equal(turn(1), 0xf);
	/* Each its own. */
	pair_open(port, 0, true);
	pair_open(port, 2, true);
	pair_open(port, 3, true);
	spread();
	assert_int_equal(turn(1), 0x2);
	assert_int_equal(turn(0), 0x1);
	assert_int_equal(turn(2), 0x4);
	assert_int_equal(turn(3), 0x8);
	/* Of three. */
	pair_close(2);
	spread();
	assert_int_equal(turn(0) | turn(1) << 4 | turn(3) << 8, 0x1 | 0x2 << 4 | 0xc << 8);
	assert_int_equal(double_drops[VHUB_NET_DROP_NO_RING], 0);
	pair_close(0);
	pair_close(1);
	pair_close(3);
	/* Nobody is there: not for the next guest, by whichever pair. But one that moves misses nothing. */
	spread();
	pair_open(port, 3, true);
	while (double_drops[VHUB_NET_DROP_NO_RING] < N_PAIRS)
		assert_int_equal(turn(3), 0);
	assert_int_equal(turn(3), 0);
	spread();
	pair_close(3);
	pair_open(port, 3, false);
	assert_int_equal(turn(3), 0xf);
	pair_close(3);
	assert_int_equal(double_drops[VHUB_NET_DROP_NO_RING], N_PAIRS);
	port->ops->destroy(port);
	assert_int_equal(double_in_use(), 0);
}

/* One queue that always has something leaves the others their turn, and no turn is longer for there being many. */
static void
test_queues_of_closed_pairs_come_in_turn(void **state)
{
	struct vhub_net_port *port = open_port("net_ring0", N_PAIRS);
	unsigned int numbers = 0;
	struct rte_mbuf *m;
	uint16_t id;

	(void)state;
	pair_open(port, 0, true);
	assert_int_equal(turn(0), 0);
	assert_int_equal(rte_eth_dev_get_port_by_name("net_ring0", &id), 0);
	for (unsigned int i = 0; i < VHUB_NET_BURST; i++) {
		for (uint16_t k = 0; k < N_PAIRS - 1; k++) {
			m = double_packet(60, 60, (uint8_t)k);
			assert_int_equal(rte_eth_tx_burst(id, k, &m, 1), 1);
		}
	}
	for (unsigned int i = 0; i < N_PAIRS - 1; i++) {
		assert_int_equal(port->ops->to_guest(&pairs[0], burst, VHUB_NET_BURST),
				VHUB_NET_BURST);
		numbers |= 1u << *rte_pktmbuf_mtod(burst[0], uint8_t *);
		rte_pktmbuf_free_bulk(burst, VHUB_NET_BURST);
	}
	assert_int_equal(numbers, 0x7);
	assert_int_equal(turn(0), 0);
	pair_close(0);
	port->ops->destroy(port);
	assert_int_equal(double_in_use(), 0);
}

/* A ring of 1024 that nobody empties: the caller keeps the rest. */
static void
test_a_full_port_takes_no_more(void **state)
{
	struct vhub_net_port *port = open_port("net_ring0", 1);
	struct vhub_net_queue queue;
	uint16_t n, n_sent = 0;
	unsigned int in_use;

	(void)state;
	queue_begin(&queue, port, 0);
	for (unsigned int i = 0; i < 1200; i++) {
		burst[0] = rte_pktmbuf_alloc(vhub_net_pool(-1));
		if (burst[0] == NULL)
			break;
		rte_pktmbuf_append(burst[0], 60);
		n = port->ops->from_guest(&queue, burst, 1);
		n_sent += n;
		if (n == 0)
			rte_pktmbuf_free(burst[0]);
	}
	assert_in_range(n_sent, 1, 1023);
	assert_int_equal(n_sent, double_in_use());
	in_use = 0;
	while ((n = port->ops->to_guest(&queue, burst, VHUB_NET_BURST)) > 0) {
		rte_pktmbuf_free_bulk(burst, n);
		in_use += n;
	}
	assert_int_equal(in_use, n_sent);
	queue_end(&queue);
}

/* ---- room in tx queues ---- */

/* Port number `i`, which keeps nothing itself but has as many descriptors as others; `more` begins with a comma. */
static struct vhub_net_port *
null_port(unsigned int i, const char *more)
{
	struct vhub_net_port *port;
	char args[64];

	snprintf(args, sizeof(args), "port=net_null%u,rxd=64%s", i, more);
	assert_int_equal(double_parse_args("ethdev", args, &port, NULL), 0);
	return port;
}

static struct vhub_net_port *
open_null(unsigned int i, const char *more, uint16_t n_pairs, bool is_uplink)
{
	struct vhub_net_port *port = null_port(i, more);
	char error[DOUBLE_ERROR_LEN] = "";

	port->is_uplink = is_uplink;
	if (port->ops->open(port, n_pairs, NULL, 0, error, sizeof(error)) != 0)
		fail_msg("port %u%s: %s", i, more, error);
	return port;
}

static void
null_refused(unsigned int i, const char *more, uint16_t n_pairs, const char *word,
		const char *other)
{
	open_refused(null_port(i, more), n_pairs, NULL, 0, -EINVAL, word, other);
}

/* Descriptors that are left, as who asks for too many is told. */
static unsigned int
left(void)
{
	static const char before[] = "that all ports may keep ";
	struct vhub_net_port *port = null_port(31, ",txd=32768");
	char error[DOUBLE_ERROR_LEN] = "";
	const char *at;
	unsigned int n = 0;

	assert_int_equal(port->ops->open(port, 1, NULL, 0, error, sizeof(error)), -EINVAL);
	port->ops->destroy(port);
	at = strstr(error, before);
	if (at == NULL || sscanf(at + strlen(before), "%u are left", &n) != 1)
		fail_msg("not what is left, in: %s", error);
	return n;
}

static void
test_tx_descriptors_of_all_ports_are_bounded(void **state)
{
	struct vhub_net_port *one, *two, *three, *no_memory;
	char error[DOUBLE_ERROR_LEN];

	(void)state;
	assert_int_equal(left(), DOUBLE_TX_MBUFS);
	one = open_null(1, ",txd=512", 1, false);
	two = open_null(2, ",txd=512", 2, false);
	assert_int_equal(left(), 512);
	null_refused(3, ",txd=1024", 1, "txd=1024", "allowed: txd=64 to 512");
	null_refused(3, ",txd=512", 4, "keep 2048 packets", "allowed: txd=64 to 128");
	null_refused(3, ",txd=512", 16, "txd=512", "allowed: 8 queues");
	assert_int_equal(left(), 512);
	one->ops->destroy(one);
	assert_int_equal(left(), 1024);
	three = open_null(3, ",txd=1024", 1, true);
	assert_int_equal(left(), 0);
	null_refused(4, "", 1, "txd=64", "allowed: none");
	two->ops->destroy(two);
	three->ops->destroy(three);
	/* What goes wrong later leaves nothing taken. */
	assert_int_equal(double_parse_args("ethdev", "port=net_null0,rxd=32768", &no_memory, NULL),
			0);
	assert_int_equal(no_memory->ops->open(no_memory, 1, NULL, 0, error, sizeof(error)),
			-ENOMEM);
	no_memory->ops->destroy(no_memory);
	assert_int_equal(left(), DOUBLE_TX_MBUFS);
}

/* ---- buffers of a port ---- */

/* What may wait for guests, and be kept by lcores that free some, is no part of what its queues need. */
static void
test_an_uplink_has_buffers_for_all_that_may_have_some(void **state)
{
	struct vhub_net_port *port = open_null(0, "", 2, true);
	const struct rte_mempool *pool = ethdev_port_of(port)->pool;
	const uint32_t elsewhere = DOUBLE_MAX_WAITING + DOUBLE_N_CACHES * pool->cache_size * 3 / 2;

	(void)state;
	assert_in_range(pool->size, elsewhere + 2 * (64 + 4 * VHUB_NET_BURST), UINT32_MAX);
	port->ops->destroy(port);
}

static void
test_an_lcore_that_has_given_a_queue_back_keeps_no_buffers(void **state)
{
	struct vhub_net_port *port = open_null(0, "", 1, false);
	struct rte_mempool *pool = ethdev_port_of(port)->pool;
	const struct rte_mempool_cache *cache = rte_mempool_default_cache(pool, rte_lcore_id());
	struct vhub_net_queue queue = { .port = port };
	struct rte_mbuf *some[VHUB_NET_BURST];

	(void)state;
	assert_in_range(pool->size, 64 + 4 * VHUB_NET_BURST + pool->cache_size * 3 / 2, UINT32_MAX);
	assert_int_equal(port->ops->queue_get(&queue), 0);
	assert_int_equal(rte_pktmbuf_alloc_bulk(pool, some, VHUB_NET_BURST), 0);
	rte_pktmbuf_free_bulk(some, VHUB_NET_BURST);
	assert_int_not_equal(cache->len, 0);
	port->ops->queue_put(&queue);
	assert_int_equal(cache->len, 0);
	port->ops->destroy(port);
}

/* Descriptors of each queue that a port gets which asks for no number. */
static unsigned int
default_of(struct vhub_net_port **port, unsigned int i, uint16_t n_pairs, bool is_uplink)
{
	const unsigned int before = left();
	unsigned int n;

	*port = open_null(i, "", n_pairs, is_uplink);
	n = (before - left()) / n_pairs;
	assert_true(rte_is_power_of_2(n));
	assert_in_range(n, VHUB_NET_BURST, 256);
	return n;
}

static void
test_ports_are_shorter_the_more_there_are(void **state)
{
	struct vhub_net_port *ports[14];
	unsigned int i, n, last = 256;

	(void)state;
	for (i = 0; i < RTE_DIM(ports); i++) {
		n = default_of(&ports[i], i, 1, false);
		if (i < 5)
			assert_int_equal(n, 256);
		assert_in_range(n, VHUB_NET_BURST, last);
		last = n;
	}
	assert_int_equal(left(), 0);
	null_refused(i, "", 1, "txd=64", "allowed: none");
	for (i = 0; i < RTE_DIM(ports); i++)
		ports[i]->ops->destroy(ports[i]);
	/* Of several queues; of a wire, which serves many; and beside that one. */
	assert_int_equal(default_of(&ports[0], 0, 4, false), 128);
	ports[0]->ops->destroy(ports[0]);
	assert_int_equal(default_of(&ports[0], 0, 4, true), 256);
	assert_int_equal(default_of(&ports[1], 1, 4, false), 64);
	ports[0]->ops->destroy(ports[0]);
	ports[1]->ops->destroy(ports[1]);
	assert_int_equal(left(), DOUBLE_TX_MBUFS);
}

static unsigned int n_cleanups;

/*
 * In the place of DPDK's: net_ring has no such call. What a NIC would have sent by now are the packets
 * in the loop, 1023 at most.
 */
int
rte_eth_tx_done_cleanup(uint16_t port_id, uint16_t queue_id, uint32_t free_cnt)
{
	struct rte_mbuf *sent[VHUB_NET_BURST];

	assert_int_equal(free_cnt, 0);
	n_cleanups++;
	for (unsigned int i = 0; i < 1024; i += VHUB_NET_BURST)
		rte_pktmbuf_free_bulk(sent,
				rte_eth_rx_burst(port_id, queue_id, sent, VHUB_NET_BURST));
	return 0;
}

/* All mbufs lie in a tx queue, so that no packet can be made by which it would be cleaned. */
static void
test_what_was_sent_comes_back_when_there_are_no_mbufs(void **state)
{
	const struct vhub_net_driver_ops *ops = vhub_net_driver_find("ethdev");
	struct vhub_net_port *port = open_port("net_ring0", 1);
	struct vhub_net_port *other = open_null(1, ",txd=64", 1, false);
	struct vhub_net_queue queue, of_other;

	(void)state;
	queue_begin(&queue, port, 0);
	queue_begin(&of_other, other, 0);
	while ((burst[0] = rte_pktmbuf_alloc(vhub_net_pool(-1))) != NULL) {
		rte_pktmbuf_append(burst[0], 60);
		assert_int_equal(ops->from_guest(&queue, burst, 1), 1);
	}
	assert_int_not_equal(double_in_use(), 0);
	n_cleanups = 0;
	ops->reclaim();
	assert_int_equal(n_cleanups, 2);
	assert_int_equal(double_in_use(), 0);
	/* A queue that was put is nobody's to touch. */
	queue_end(&queue);
	ops->reclaim();
	assert_int_equal(n_cleanups, 3);
	queue_end(&of_other);
	ops->reclaim();
	assert_int_equal(n_cleanups, 3);
}

/* ---- net_pcap: files ---- */

struct file_header {
	uint32_t magic;
	uint16_t major, minor;
	uint32_t zone, accuracy, snap_bytes, link;
};
struct record_header {
	uint32_t seconds, us, bytes, wire_bytes;
};

static char folder[32], in_path[64], out_path[64];

/* Frames of first_bytes, and one more each, filled with their number. */
static void
write_pcap(const char *path, unsigned int n, uint32_t first_bytes)
{
	struct file_header header = { 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1 };
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_int_equal(fwrite(&header, sizeof(header), 1, file), 1);
	for (unsigned int i = 0; i < n; i++) {
		struct record_header record = { 1, i, first_bytes + i, first_bytes + i };
		uint8_t data[9000];

		memset(data, (int)i, sizeof(data));
		assert_int_equal(fwrite(&record, sizeof(record), 1, file), 1);
		assert_int_equal(fwrite(data, record.bytes, 1, file), 1);
	}
	assert_int_equal(fclose(file), 0);
}

/* A port that reads `n` frames and writes what it gets; with an MTU, frames as long as that. */
static struct vhub_net_port *
open_pcap(unsigned int n, uint16_t mtu)
{
	char args[256], error[DOUBLE_ERROR_LEN];
	struct vhub_net_port *port;

	snprintf(folder, sizeof(folder), "/tmp/vhub-ports-XXXXXX");
	assert_non_null(mkdtemp(folder));
	snprintf(in_path, sizeof(in_path), "%s/in.pcap", folder);
	snprintf(out_path, sizeof(out_path), "%s/out.pcap", folder);
	write_pcap(in_path, n, mtu == 0 ? 60 : mtu);
	snprintf(args, sizeof(args), "[net_pcap0,rx_pcap=%s,tx_pcap=%s]", in_path, out_path);
	port = port_of(args);
	if (port->ops->open(port, 1, NULL, mtu, error, sizeof(error)) != 0)
		fail_msg("port=%s: %s", args, error);
	return port;
}

static void
remove_files(void)
{
	unlink(in_path);
	unlink(out_path);
	assert_int_equal(rmdir(folder), 0);
}

static FILE *
written_begin(void)
{
	FILE *file = fopen(out_path, "re");

	assert_non_null(file);
	assert_int_equal(fseek(file, sizeof(struct file_header), SEEK_SET), 0);
	return file;
}

static void
written_check(FILE *file, uint32_t bytes, uint8_t fill)
{
	struct record_header record;
	uint8_t data[9000];

	assert_int_equal(fread(&record, sizeof(record), 1, file), 1);
	assert_int_equal(record.bytes, bytes);
	assert_int_equal(fread(data, record.bytes, 1, file), 1);
	for (uint32_t i = 0; i < bytes; i++)
		assert_int_equal(data[i], fill);
}

static void
written_end(FILE *file)
{
	assert_int_equal(fgetc(file), EOF);
	fclose(file);
}

static void
test_files_are_read_and_written(void **state)
{
	struct vhub_net_queue queue;
	struct vhub_net_port *port;
	uint16_t n, n_all = 0;
	FILE *file;

	(void)state;
	port = open_pcap(40, 0);
	queue_begin(&queue, port, 0);
	/* Nothing of a file has come before it is read. */
	port->ops->closed(&queue);
	port->ops->opened(&queue, true);
	while ((n = port->ops->to_guest(&queue, burst, VHUB_NET_BURST)) > 0) {
		for (uint16_t i = 0; i < n; i++, n_all++) {
			assert_int_equal(burst[i]->pkt_len, 60 + n_all);
			assert_int_equal(*rte_pktmbuf_mtod(burst[i], uint8_t *), n_all);
		}
		assert_int_equal(port->ops->from_guest(&queue, burst, n), n);
	}
	assert_int_equal(n_all, 40);
	queue_end(&queue);

	file = written_begin();
	for (uint8_t i = 0; i < 40; i++)
		written_check(file, 60u + i, i);
	written_end(file);
	remove_files();
}

/* A port without chains: what fits into one buffer is made one, what does not is dropped. */
static void
test_chains_are_joined_or_dropped_in_order(void **state)
{
	static const struct {
		uint32_t bytes;
		uint16_t seg_bytes;
		bool fits;
	} packets[] = { { 64, 64, true }, { 1500, 300, true }, { 5000, 2000, false },
		{ 2048, 1024, true }, { 2049, 1024, false }, { 70, 64, true } };
	struct vhub_net_queue queue;
	struct vhub_net_port *port;
	struct rte_mbuf *shared;
	uint16_t n = 0;
	FILE *file;

	(void)state;
	port = open_pcap(1, 0);
	queue_begin(&queue, port, 0);
	for (uint8_t i = 0; i < RTE_DIM(packets); i++)
		burst[n++] = double_packet(packets[i].bytes, packets[i].seg_bytes, i);
	/* Somebody else has this one too, so it is not to be written into. */
	shared = double_packet(200, 100, 99);
	rte_pktmbuf_refcnt_update(shared, 1);
	burst[n++] = shared;
	assert_int_equal(port->ops->from_guest(&queue, burst, n), n);
	assert_int_equal(double_drops[VHUB_NET_DROP_OVERSIZE], 3);
	assert_int_equal(shared->data_len, 100);
	assert_int_equal(rte_mbuf_refcnt_read(shared), 1);
	rte_pktmbuf_free(shared);
	queue_end(&queue);

	file = written_begin();
	for (uint8_t i = 0; i < RTE_DIM(packets); i++) {
		if (packets[i].fits)
			written_check(file, packets[i].bytes, i);
	}
	written_end(file);
	remove_files();
}

/* Longer than an mbuf of the usual size, on a port that says nothing of scattering. */
static void
test_a_jumbo_frame_comes_whole(void **state)
{
	struct vhub_net_queue queue;
	struct vhub_net_port *port;
	static uint8_t copy[9000];
	const uint8_t *data;

	(void)state;
	port = open_pcap(1, 9000);
	queue_begin(&queue, port, 0);
	assert_int_equal(port->ops->to_guest(&queue, burst, VHUB_NET_BURST), 1);
	assert_int_equal(burst[0]->pkt_len, 9000);
	data = rte_pktmbuf_read(burst[0], 0, 9000, copy);
	for (unsigned int i = 0; i < 9000; i++)
		assert_int_equal(data[i], 0);
	rte_pktmbuf_free(burst[0]);
	queue_end(&queue);
	remove_files();
}

/* ---- net_tap: rx interrupts, offloads ---- */

/* A socket on the kernel's end of the wire, -1 when this user may have no such thing. */
static int
wire_open(const char *name)
{
	struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = htons(0x88b5) };
	struct ifreq request = { 0 };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(0x88b5));

	assert_true(fd >= 0);
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	assert_int_equal(ioctl(fd, SIOCGIFINDEX, &request), 0);
	address.sll_ifindex = request.ifr_ifindex;
	assert_int_equal(ioctl(fd, SIOCGIFFLAGS, &request), 0);
	request.ifr_flags |= IFF_UP;
	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &request), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static bool
may_make_taps(void)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	bool may = fd >= 0 && ioctl(fd, TUNSETIFF, &request) == 0;

	if (fd >= 0)
		close(fd);
	return may;
}

/* Frames of ours among those that the kernel sends on its own account. */
static unsigned int
ours(uint16_t n)
{
	unsigned int n_ours = 0;

	for (uint16_t i = 0; i < n; i++)
		n_ours += rte_pktmbuf_mtod(burst[i], uint8_t *)[12] == 0x88;
	rte_pktmbuf_free_bulk(burst, n);
	return n_ours;
}

/* Sleeps by the driver's rules until `n` frames of ours have come. */
static void
receive_asleep(struct vhub_net_queue *queue, unsigned int n)
{
	const struct vhub_net_driver_ops *ops = queue->port->ops;
	struct epoll_event event;
	unsigned int n_ours = 0;

	while (n_ours < n) {
		uint16_t n_burst = ops->to_guest(queue, burst, VHUB_NET_BURST);
		int ret;

		n_ours += ours(n_burst);
		if (n_burst != 0)
			continue;
		ret = ops->arm(queue);
		assert_true(ret == 0 || ret == -EAGAIN);
		/* A wake that is lost shows here. */
		if (ret == 0)
			assert_int_not_equal(epoll_wait(double_epoll, &event, 1, 30000), 0);
		ops->disarm(queue);
	}
}

static void
test_a_sleeper_is_woken_by_each_frame(void **state)
{
	uint8_t frame[64] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5 };
	struct vhub_net_queue queue;
	struct vhub_net_port *port;
	struct vhub_net_info info;
	int wire;

	(void)state;
	if (!may_make_taps())
		skip();
	port = open_port("[net_tap0,iface=vhubtest0]", 1);
	wire = wire_open("vhubtest0");
	port->ops->info(port, &info);
	assert_int_equal(info.takes, VHUB_NET_TAKES_CSUM);
	assert_false(info.has_mac); /* it is the kernel's, at the other end */
	queue_begin(&queue, port, 0);
	for (unsigned int i = 0; i < 300; i++) {
		unsigned int n = i % 3 == 0 ? 3 : 1;

		for (unsigned int f = 0; f < n; f++)
			assert_int_equal(send(wire, frame, sizeof(frame), 0), sizeof(frame));
		receive_asleep(&queue, n);
	}
	close(wire);
	queue_end(&queue);
	assert_int_equal(rte_eth_dev_count_total(), 0);
}

static void
test_a_queue_put_asleep_leaves_nothing_behind(void **state)
{
	uint8_t frame[64] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5 };
	struct vhub_net_queue queue;
	struct vhub_net_port *port;
	int wire, ret = 0;

	(void)state;
	if (!may_make_taps())
		skip();
	port = open_port("[net_tap0,iface=vhubtest0]", 1);
	wire = wire_open("vhubtest0");
	queue_begin(&queue, port, 0);
	/* Until the look before a sleep has found something, and keeps it. */
	for (unsigned int i = 0; i < 1000; i++) {
		assert_int_equal(send(wire, frame, sizeof(frame), 0), sizeof(frame));
		ret = port->ops->arm(&queue);
		port->ops->disarm(&queue);
		if (ret == -EAGAIN && double_stat(port, "ipackets") > 0)
			break;
	}
	assert_int_equal(ret, -EAGAIN);
	close(wire);
	queue_end(&queue);
	assert_in_range(double_drops[VHUB_NET_DROP_NO_RING], 1, VHUB_NET_BURST);
	assert_int_equal(rte_eth_dev_count_total(), 0);
}

/* In several mbufs: this port takes chains. */
static struct rte_mbuf *
frame_for_wire(uint32_t bytes, uint8_t fill)
{
	struct rte_mbuf *m = double_packet(bytes, 400, fill);
	uint8_t *start = rte_pktmbuf_mtod(m, uint8_t *);

	memset(start, 0xff, 6);
	start[12] = 0x88;
	start[13] = 0xb5;
	return m;
}

static void
test_frames_reach_the_kernel(void **state)
{
	struct vhub_net_queue queue;
	struct vhub_net_port *port;
	struct pollfd ready = { .events = POLLIN };
	uint8_t data[2000];

	(void)state;
	if (!may_make_taps())
		skip();
	port = open_port("[net_tap0,iface=vhubtest0]", 1);
	ready.fd = wire_open("vhubtest0");
	queue_begin(&queue, port, 0);
	for (uint8_t i = 0; i < 10; i++)
		burst[i] = frame_for_wire(i == 9 ? 1514 : 100u + i, i);
	assert_int_equal(port->ops->from_guest(&queue, burst, 10), 10);
	for (uint8_t i = 0; i < 10; i++) {
		ssize_t bytes = i == 9 ? 1514 : 100 + i;

		assert_int_equal(poll(&ready, 1, 30000), 1);
		assert_int_equal(recv(ready.fd, data, sizeof(data), 0), bytes);
		for (ssize_t b = 14; b < bytes; b++)
			assert_int_equal(data[b], i);
	}
	assert_int_equal(double_stat(port, "opackets"), 10);
	close(ready.fd);
	queue_end(&queue);
}

/* net_tap ends a burst at such a one. */
static void
test_too_long_a_frame_takes_no_others_with_it(void **state)
{
	static const bool is_long[] = { false, true, true, false, false, true };
	struct vhub_net_queue queue;
	struct vhub_net_port *port;

	(void)state;
	if (!may_make_taps())
		skip();
	port = open_port("[net_tap0,iface=vhubtest0]", 1);
	close(wire_open("vhubtest0"));
	queue_begin(&queue, port, 0);
	for (uint8_t i = 0; i < RTE_DIM(is_long); i++)
		burst[i] = frame_for_wire(is_long[i] ? 1523 : 1514, i);
	assert_int_equal(port->ops->from_guest(&queue, burst, RTE_DIM(is_long)), RTE_DIM(is_long));
	assert_int_equal(double_drops[VHUB_NET_DROP_OVERSIZE], 3);
	assert_int_equal(double_drops[VHUB_NET_DROP_PORT_FULL], 0);
	assert_int_equal(double_stat(port, "opackets"), 3);
	queue_end(&queue);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_a_port_that_is_none_is_refused_by_name),
		cmocka_unit_test(test_a_device_without_a_port_is_given_back),
		cmocka_unit_test(test_more_pairs_than_queues_are_refused_with_the_limit),
		cmocka_unit_test(test_a_port_serves_one_device),
		cmocka_unit_test(test_an_mtu_that_the_port_cannot_have_is_refused),
		cmocka_unit_test(test_no_memory_names_what_to_raise),
		cmocka_unit_test(test_a_port_that_was_there_stays),
		cmocka_unit_test(test_info_tells_what_the_port_is),
		cmocka_unit_test(test_a_loop_brings_packets_back_in_order),
		cmocka_unit_test(test_what_came_before_is_not_for_the_guest),
		cmocka_unit_test(test_no_more_is_dropped_than_can_have_waited),
		cmocka_unit_test(test_open_pairs_take_what_comes_for_closed_ones),
		cmocka_unit_test(test_queues_of_closed_pairs_come_in_turn),
		cmocka_unit_test(test_a_full_port_takes_no_more),
		cmocka_unit_test(test_tx_descriptors_of_all_ports_are_bounded),
		cmocka_unit_test(test_ports_are_shorter_the_more_there_are),
		cmocka_unit_test(test_an_uplink_has_buffers_for_all_that_may_have_some),
		cmocka_unit_test(test_an_lcore_that_has_given_a_queue_back_keeps_no_buffers),
		cmocka_unit_test(test_what_was_sent_comes_back_when_there_are_no_mbufs),
		cmocka_unit_test(test_files_are_read_and_written),
		cmocka_unit_test(test_chains_are_joined_or_dropped_in_order),
		cmocka_unit_test(test_a_jumbo_frame_comes_whole),
		cmocka_unit_test(test_a_sleeper_is_woken_by_each_frame),
		cmocka_unit_test(test_a_queue_put_asleep_leaves_nothing_behind),
		cmocka_unit_test(test_frames_reach_the_kernel),
		cmocka_unit_test(test_too_long_a_frame_takes_no_others_with_it),
	};

	if (test_eal_init() != 0)
		return 99;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
