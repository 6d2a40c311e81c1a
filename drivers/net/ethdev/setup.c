/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From a port that is ours to one that runs: queues, memory, offloads, addresses. Called by
 * ethdev.c; queue.c moves its packets then.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <rte_dev.h>
#include <rte_devargs.h>
#include <rte_ethdev.h>
#include <rte_log.h>

#include "ethdev_pvt.h"
#include "vhub_log.h"

VHUB_LOGTYPE(net)

/* Bytes of a frame beside the MTU's, with the checksum. */
#define FRAME_OVERHEAD (VHUB_NET_FRAME_OVERHEAD + RTE_ETHER_CRC_LEN)
/* Mbufs of a queue beside those in its descriptors: bursts on their way, and what its lcore's cache has at most. */
#define MBUFS_ON_THE_WAY (4 * VHUB_NET_BURST)
#define MBUF_CACHE 128u
#define MBUFS_CACHED (MBUF_CACHE + MBUF_CACHE / 2)
#define RSS_WANTED (RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP)

/* What a port is to be configured with. */
struct plan {
	struct rte_eth_conf conf;
	uint16_t rx_descriptors;
	uint16_t tx_descriptors;
	uint16_t mbuf_bytes; /* data room of the pool's mbufs */
	uint16_t mtu;
};

/* Where a driver is not what its capabilities say. */
static const struct quirk {
	const char *driver;
	bool far_mac;
	uint32_t takes_not;
} quirks[] = {
	/*
	 * The address is that of the kernel's interface, to which this port is the other end. It
	 * refuses segments of a full MTU, for it counts their Ethernet header: lib/net cuts them.
	 */
	{ "net_tap", true, VHUB_NET_TAKES_TSO4 | VHUB_NET_TAKES_TSO6 },
};

static void
apply_quirks(struct ethdev_port *p)
{
	for (unsigned int i = 0; i < RTE_DIM(quirks); i++) {
		if (strcmp(p->dev.driver_name, quirks[i].driver) != 0)
			continue;
		p->far_mac = quirks[i].far_mac;
		p->takes &= ~quirks[i].takes_not;
	}
}

/* One packet after the other out of a file: none of them has waited. */
static bool
reads_file(const struct ethdev_port *p)
{
	const struct rte_devargs *devargs = rte_dev_devargs(p->dev.device);

	return strcmp(p->dev.driver_name, "net_pcap") == 0 && devargs != NULL &&
			devargs->args != NULL && strstr(devargs->args, "rx_pcap=") != NULL;
}

/* What the host's own stack leaves to a device's hardware its driver does not know of. */
static void
warn_of_kernel_offloads(const struct ethdev_port *p)
{
	if (strcmp(p->dev.driver_name, "net_af_packet") == 0)
		VHUB_LOG(WARNING,
				"port %s: what this host's own stack sends to it comes with wrong checksums, and cut off: ethtool -K with gro off for this end, with tx off tso off gso off for the other one of a veth pair; or take net_tap",
				p->name);
}

static int
explain(const struct ethdev_port *p, const char *what, int ret, char *error, size_t error_len)
{
	snprintf(error, error_len, "port=%s: %s: %s", p->name, what, strerror(-ret));
	return ret;
}

/* ---- planning ---- */

/*
 * UFO is never taken: what DPDK calls UDP segmentation makes datagrams in most NICs, but a guest
 * that asks for UFO wants IP fragments of one. Segmentation needs packets in several mbufs, and
 * checksums of each segment.
 */
static void
plan_tx_offloads(struct ethdev_port *p, struct plan *plan)
{
	const uint64_t csum = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM |
			RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
	const uint64_t tso = csum | RTE_ETH_TX_OFFLOAD_TCP_TSO | RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	const uint64_t can = p->dev.tx_offload_capa;

	plan->conf.txmode.offloads = can & tso;
	p->takes = 0;
	if ((can & csum) == csum)
		p->takes |= VHUB_NET_TAKES_CSUM;
	if ((can & tso) == tso)
		p->takes |= VHUB_NET_TAKES_TSO4 | VHUB_NET_TAKES_TSO6;
	p->n_tx_segs = 1;
	if ((can & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) != 0)
		p->n_tx_segs = p->dev.tx_desc_lim.nb_seg_max != 0 ? p->dev.tx_desc_lim.nb_seg_max :
								    UINT16_MAX;
	apply_quirks(p);
}

/* Frames longer than an mbuf come in several where the port can do that, else in larger ones. */
static void
plan_rx_buffers(const struct ethdev_port *p, struct plan *plan)
{
	const uint32_t frame = plan->mtu + FRAME_OVERHEAD;
	uint32_t room = RTE_MAX((uint32_t)RTE_MBUF_DEFAULT_DATAROOM, p->dev.min_rx_bufsize);

	if (frame > room) {
		if ((p->dev.rx_offload_capa & RTE_ETH_RX_OFFLOAD_SCATTER) != 0)
			plan->conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_SCATTER;
		else
			room = frame;
	}
	plan->mbuf_bytes = RTE_MIN(room + RTE_PKTMBUF_HEADROOM, (uint32_t)UINT16_MAX);
}

static void
plan_rss(const struct ethdev_port *p, struct plan *plan)
{
	const uint64_t rss_hf = RSS_WANTED & p->dev.flow_type_rss_offloads;

	if (p->n_pairs == 1 || rss_hf == 0)
		return;
	plan->conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
	plan->conf.rx_adv_conf.rss_conf.rss_hf = rss_hf;
}

static int
plan_queues(struct ethdev_port *p, uint16_t n_pairs, char *error, size_t error_len)
{
	if (n_pairs > ethdev_max_pairs(p)) {
		snprintf(error, error_len,
				"port=%s: %u queue pairs are more than this port has: %u rx and %u tx queues",
				p->name, n_pairs, p->dev.max_rx_queues, p->dev.max_tx_queues);
		return -EINVAL;
	}
	p->n_pairs = n_pairs;
	p->free = ethdev_all_pairs(p);
	return 0;
}

/*
 * The limit that DPDK holds a port to: on frames, where the port says no overhead of its own with an
 * Ethernet header and checksum around the MTU.
 */
static uint32_t
largest_mtu(const struct rte_eth_dev_info *dev)
{
	uint32_t overhead = RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN;

	if (dev->max_mtu != UINT16_MAX && dev->max_rx_pktlen > dev->max_mtu)
		overhead = dev->max_rx_pktlen - dev->max_mtu;
	return RTE_MIN((uint32_t)dev->max_mtu, dev->max_rx_pktlen - overhead);
}

static int
plan_mtu(const struct ethdev_port *p, uint16_t mtu, struct plan *plan, char *error,
		size_t error_len)
{
	const uint32_t most = largest_mtu(&p->dev);

	if (mtu == 0) {
		int ret = rte_eth_dev_get_mtu(p->port_id, &plan->mtu);

		return ret == 0 ? 0 : explain(p, "has no MTU", ret, error, error_len);
	}
	if (mtu < p->dev.min_mtu || mtu > most) {
		snprintf(error, error_len, "mtu=%u: port %s (%s) takes %u to %u", mtu, p->name,
				p->dev.driver_name, p->dev.min_mtu, most);
		return -EINVAL;
	}
	plan->mtu = mtu;
	return 0;
}

/* ---- doing ---- */

static int
configure(struct ethdev_port *p, struct plan *plan, char *error, size_t error_len)
{
	int ret;

	plan->conf.rxmode.mtu = plan->mtu;
	ret = rte_eth_dev_configure(p->port_id, p->n_pairs, p->n_pairs, &plan->conf);
	if (ret != 0) {
		snprintf(error, error_len, "port=%s: refuses %u queue pairs with an MTU of %u: %s",
				p->name, p->n_pairs, plan->mtu, strerror(-ret));
		return ret;
	}
	plan->rx_descriptors = p->want_rx_descriptors;
	plan->tx_descriptors = p->want_tx_descriptors;
	if (plan->tx_descriptors == 0)
		plan->tx_descriptors = p->n_tx_default = ethdev_room_default(p);
	ret = rte_eth_dev_adjust_nb_rx_tx_desc(p->port_id, &plan->rx_descriptors,
			&plan->tx_descriptors);
	if (ret != 0)
		return explain(p, "no number of descriptors suits it", ret, error, error_len);
	return ethdev_room_take(p, plan->tx_descriptors, error, error_len);
}

/*
 * What waits, and what caches keep: what a guest's port receives is freed by the lcores that have its queues
 * (ethdev_queue_put()), what comes through an uplink by any.
 */
static uint32_t
mbufs_elsewhere(const struct ethdev_port *p)
{
	if (!p->port.is_uplink)
		return p->n_pairs * MBUFS_CACHED;
	return vhub_net_max_waiting() + vhub_net_max_cached(MBUF_CACHE);
}

/*
 * One pool for all rx queues of the port. It is the port's own, so that no other can drain it, and has
 * room for what waits for guests behind a bridge, however slow they are. Its name says all about it: one that was left with a port that stays is taken again.
 */
static int
create_pool(struct ethdev_port *p, const struct plan *plan, char *error, size_t error_len)
{
	const uint32_t n = p->n_pairs * (plan->rx_descriptors + MBUFS_ON_THE_WAY) +
			mbufs_elsewhere(p);
	char name[RTE_MEMPOOL_NAMESIZE];

	snprintf(name, sizeof(name), "vhub%u_%ux%u", p->port_id, n, plan->mbuf_bytes);
	p->pool = rte_mempool_lookup(name);
	if (p->pool != NULL)
		return 0;
	p->pool = rte_pktmbuf_pool_create(name, n, MBUF_CACHE, 0, plan->mbuf_bytes,
			rte_eth_dev_socket_id(p->port_id));
	if (p->pool != NULL)
		return 0;
	snprintf(error, error_len,
			"port=%s: no memory for %u packets of %u bytes, %" PRIu64
			" MB: fewer queues or a smaller rxd=, or more memory for EAL (-m and --socket-limit)",
			p->name, n, plan->mbuf_bytes,
			((uint64_t)n * (plan->mbuf_bytes + sizeof(struct rte_mbuf)) >> 20) + 1);
	return -ENOMEM;
}

static int
setup_queues(struct ethdev_port *p, const struct plan *plan, char *error, size_t error_len)
{
	const int node = rte_eth_dev_socket_id(p->port_id);
	int ret;

	for (uint16_t i = 0; i < p->n_pairs; i++) {
		ret = rte_eth_rx_queue_setup(p->port_id, i, plan->rx_descriptors, node, NULL,
				p->pool);
		if (ret != 0)
			return explain(p, "an rx queue cannot be set up", ret, error, error_len);
		ret = rte_eth_tx_queue_setup(p->port_id, i, plan->tx_descriptors, node, NULL);
		if (ret != 0)
			return explain(p, "a tx queue cannot be set up", ret, error, error_len);
	}
	return 0;
}

/* Drivers that have no such call have got the MTU with their configuration. */
static int
set_mtu(const struct ethdev_port *p, uint16_t mtu, char *error, size_t error_len)
{
	int ret = mtu == 0 ? 0 : rte_eth_dev_set_mtu(p->port_id, mtu);

	if (ret == 0 || ret == -ENOTSUP)
		return 0;
	snprintf(error, error_len, "mtu=%u: port %s refuses it: %s", mtu, p->name, strerror(-ret));
	return ret;
}

/* Without an address from the user, the guest gets the port's (ethdev.c's info). */
static void
set_mac(struct ethdev_port *p, const struct rte_ether_addr *mac)
{
	struct rte_ether_addr set = { 0 };

	p->takes_guest_mac = !p->far_mac;
	if (mac == NULL || p->far_mac)
		return;
	if (rte_eth_macaddr_get(p->port_id, &set) == 0 && rte_is_same_ether_addr(&set, mac))
		return;
	rte_ether_addr_copy(mac, &set);
	p->takes_guest_mac = rte_eth_dev_default_mac_addr_set(p->port_id, &set) == 0;
}

/* What the user has asked for must go; what we think right may not exist for this port. */
static int
set_promisc(const struct ethdev_port *p, char *error, size_t error_len)
{
	const bool on = p->promisc == ETHDEV_PROMISC_ON ||
			(p->promisc == ETHDEV_PROMISC_AUTO &&
					(!p->takes_guest_mac || p->port.is_uplink));
	int ret = on ? rte_eth_promiscuous_enable(p->port_id) :
		       rte_eth_promiscuous_disable(p->port_id);

	if (ret != 0 && p->promisc != ETHDEV_PROMISC_AUTO) {
		snprintf(error, error_len, "promisc=%s: port %s refuses it: %s", on ? "on" : "off",
				p->name, strerror(-ret));
		return ret;
	}
	if (ret != 0)
		VHUB_LOG(DEBUG, "port %s: promiscuous mode is not switched: %s", p->name,
				strerror(-ret));
	ret = rte_eth_allmulticast_enable(p->port_id);
	if (ret != 0)
		VHUB_LOG(DEBUG, "port %s: not all multicast: %s", p->name, strerror(-ret));
	return 0;
}

/* ---- rx interrupts ---- */

static bool
is_eventfd(int fd)
{
	static const char eventfd[] = "anon_inode:[eventfd]";
	char path[32], target[sizeof(eventfd)];
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	len = readlink(path, target, sizeof(target));
	return len == (ssize_t)strlen(eventfd) && memcmp(target, eventfd, (size_t)len) == 0;
}

/* A port without rx interrupts is no error; DPDK would write one into the log for each queue. */
static void
find_wake_fds(struct ethdev_port *p)
{
	const int logtype = rte_log_register("lib.ethdev"); /* exists: gives its number */
	const int level = logtype < 0 ? -1 : rte_log_get_level(logtype);

	if (level >= 0)
		rte_log_set_level(logtype, RTE_LOG_CRIT);
	for (uint16_t i = 0; i < p->n_pairs; i++) {
		p->wake_fds[i] = rte_eth_dev_rx_intr_ctl_q_get_fd(p->port_id, i);
		p->wake_is_eventfd[i] = p->wake_fds[i] >= 0 && is_eventfd(p->wake_fds[i]);
	}
	if (level >= 0)
		rte_log_set_level(logtype, (uint32_t)level);
}

/* ---- entry ---- */

/* All but the start. */
static int
set_up(struct ethdev_port *p, struct plan *plan, uint16_t mtu, char *error, size_t error_len)
{
	int ret;

	ret = configure(p, plan, error, error_len);
	if (ret == 0)
		ret = create_pool(p, plan, error, error_len);
	if (ret == 0)
		ret = setup_queues(p, plan, error, error_len);
	if (ret == 0)
		ret = set_mtu(p, mtu, error, error_len);
	return ret;
}

/* With rx interrupts, and where the driver does not start with them, without. */
static int
bring_up(struct ethdev_port *p, struct plan *plan, uint16_t mtu, char *error, size_t error_len)
{
	int ret;

	for (int interrupts = 1; interrupts >= 0; interrupts--) {
		plan->conf.intr_conf.rxq = (uint32_t)interrupts;
		ret = set_up(p, plan, mtu, error, error_len);
		if (ret != 0)
			return ret;
		ret = rte_eth_dev_start(p->port_id);
		p->started = ret == 0;
		if (p->started)
			return 0;
	}
	return explain(p, "does not start", ret, error, error_len);
}

int
ethdev_start(struct ethdev_port *p, uint16_t n_pairs, const struct rte_ether_addr *mac,
		uint16_t mtu, char *error, size_t error_len)
{
	struct plan plan = { 0 };
	int ret;

	ret = plan_queues(p, n_pairs, error, error_len);
	if (ret == 0)
		ret = plan_mtu(p, mtu, &plan, error, error_len);
	if (ret != 0)
		return ret;
	plan_tx_offloads(p, &plan);
	plan_rx_buffers(p, &plan);
	plan_rss(p, &plan);
	ret = bring_up(p, &plan, mtu, error, error_len);
	if (ret != 0)
		return ret;
	p->max_frame_bytes = plan.mtu + VHUB_NET_FRAME_OVERHEAD;
	p->is_file = reads_file(p);
	p->max_waiting = RTE_MAX((uint32_t)plan.rx_descriptors, ETHDEV_KERNEL_PACKETS);
	set_mac(p, mac);
	find_wake_fds(p);
	VHUB_LOG(INFO, "port %s (%s): %u queue pairs of %u and %u descriptors, MTU %u%s", p->name,
			p->dev.driver_name, p->n_pairs, plan.rx_descriptors, plan.tx_descriptors,
			plan.mtu, p->wake_fds[0] >= 0 ? ", rx interrupts" : "");
	warn_of_kernel_offloads(p);
	return set_promisc(p, error, error_len);
}

void
ethdev_stop(struct ethdev_port *p)
{
	int ret = p->started ? rte_eth_dev_stop(p->port_id) : 0;

	if (ret != 0)
		VHUB_LOG(WARNING, "port %s does not stop: %s", p->name, strerror(-ret));
	p->started = false;
}
