/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The ethdev driver: a guest's packets through any port that DPDK has a driver for, a NIC or a
 * virtual device. Arguments, figures and the ops table, called by lib/net; probe.c, setup.c and
 * queue.c (with share.c) come next, in this order in a port's life.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ethdev_pvt.h"

static int
ethdev_parse(const struct rte_kvargs *args, struct vhub_net_port **out, char *error,
		size_t error_len);

static int
ethdev_open(struct vhub_net_port *port, uint16_t n_pairs, const struct rte_ether_addr *mac,
		uint16_t mtu, char *error, size_t error_len)
{
	struct ethdev_port *p = ethdev_port_of(port);
	int ret = ethdev_acquire(p, error, error_len);

	return ret == 0 ? ethdev_start(p, n_pairs, mac, mtu, error, error_len) : ret;
}

/*
 * Whether the pool has all of its mbufs. Those of an uplink may wait for guests still, a few turns of
 * their lcores.
 */
static bool
has_all(const struct ethdev_port *p)
{
	const struct timespec pause = { .tv_nsec = 1000000 };
	unsigned int looks;

	for (looks = 0; p->port.is_uplink && looks < ETHDEV_POOL_LOOKS; looks++) {
		if (rte_mempool_full(p->pool))
			return true;
		nanosleep(&pause, NULL);
	}
	return rte_mempool_full(p->pool);
}

/*
 * The pool last: a port's queues hold mbufs of it until it is closed. One that stays has them until
 * its queues are set up anew; the pool stays too then, for the next who takes the port.
 */
static void
ethdev_destroy(struct vhub_net_port *port)
{
	struct ethdev_port *p = ethdev_port_of(port);

	ethdev_stop(p);
	/* An lcore that has given the last one back may still be about it. */
	if (ethdev_release(p) && p->pool != NULL && has_all(p) && vhub_quiesce_wait() == 0)
		rte_mempool_free(p->pool);
	/* Drivers empty their tx queues when the port stops, so one that stays keeps nothing either. */
	ethdev_room_give(p);
	free(p->devargs);
	free(p->name);
	free(p);
}

static void
ethdev_info(const struct vhub_net_port *port, struct vhub_net_info *info)
{
	const struct ethdev_port *p = ethdev_port_of(port);
	struct rte_eth_link link = { .link_speed = RTE_ETH_SPEED_NUM_UNKNOWN };

	*info = (struct vhub_net_info){
		.max_pairs = ethdev_max_pairs(p),
		.takes = p->takes,
	};
	info->has_mac = !p->far_mac && rte_eth_macaddr_get(p->port_id, &info->mac) == 0;
	rte_eth_dev_get_mtu(p->port_id, &info->mtu);
	/* A port that cannot tell is taken to be up. */
	info->link_up = rte_eth_link_get_nowait(p->port_id, &link) != 0 ||
			link.link_status == RTE_ETH_LINK_UP;
	info->link_speed_mbps = link.link_speed == RTE_ETH_SPEED_NUM_NONE ? UINT32_MAX :
									    link.link_speed;
	info->full_duplex = link.link_duplex == RTE_ETH_LINK_FULL_DUPLEX;
	snprintf(info->target, sizeof(info->target), "%s (driver %s)", p->name, p->dev.driver_name);
}

/* ---- figures ---- */

/* Counters of a driver's own that tell of something lost; the rest is in the figures above them. */
static bool
worth_showing(const char *name)
{
	static const char *const words[] = { "err", "drop", "discard", "miss", "no_desc", "nombuf",
		"no_buf", "out_of_buf" };

	for (unsigned int i = 0; i < RTE_DIM(words); i++) {
		if (strstr(name, words[i]) != NULL)
			return true;
	}
	return false;
}

/* Those that struct rte_eth_stats has come first among them, under other names. */
static bool
in_basic_stats(const char *name)
{
	static const char *const names[] = { "rx_missed_errors", "rx_errors", "tx_errors",
		"rx_mbuf_allocation_errors" };

	for (unsigned int i = 0; i < RTE_DIM(names); i++) {
		if (strcmp(name, names[i]) == 0)
			return true;
	}
	return false;
}

static void
emit_xstats(const struct ethdev_port *p, vhub_stat_fn emit, void *arg)
{
	const int n = rte_eth_xstats_get_names(p->port_id, NULL, 0);
	struct rte_eth_xstat_name *names;
	struct rte_eth_xstat *values;

	if (n <= 0)
		return;
	names = calloc((size_t)n, sizeof(*names));
	values = calloc((size_t)n, sizeof(*values));
	if (names != NULL && values != NULL &&
			rte_eth_xstats_get_names(p->port_id, names, (unsigned int)n) == n &&
			rte_eth_xstats_get(p->port_id, values, (unsigned int)n) == n) {
		for (int i = 0; i < n; i++) {
			if (worth_showing(names[i].name) && !in_basic_stats(names[i].name))
				emit(arg, names[i].name, values[i].value);
		}
	}
	free(names);
	free(values);
}

static void
ethdev_stats(const struct vhub_net_port *port, vhub_stat_fn emit, void *arg)
{
	const struct ethdev_port *p = ethdev_port_of(port);
	struct rte_eth_stats stats;

	if (!p->started || rte_eth_stats_get(p->port_id, &stats) != 0)
		return;
	emit(arg, "ipackets", stats.ipackets);
	emit(arg, "opackets", stats.opackets);
	emit(arg, "ibytes", stats.ibytes);
	emit(arg, "obytes", stats.obytes);
	emit(arg, "imissed", stats.imissed);
	emit(arg, "ierrors", stats.ierrors);
	emit(arg, "oerrors", stats.oerrors);
	emit(arg, "rx_nombuf", stats.rx_nombuf);
	emit_xstats(p, emit, arg);
}

/* Fewer than it would have alone: with more it would keep out others that come after it the next time. */
static void
ethdev_effective(const struct vhub_net_port *port, vhub_stat_fn emit, void *arg)
{
	const struct ethdev_port *p = ethdev_port_of(port);

	if (p->n_tx_default != 0 && p->n_tx_default < ETHDEV_DEFAULT_TX_DESCRIPTORS)
		emit(arg, "txd", p->n_tx_default);
}

/* The port's filter is set on CTL only: a port that has one lets nothing else in. */
static int
ethdev_set_mac(struct vhub_net_port *port, const struct rte_ether_addr *mac)
{
	RTE_SET_USED(mac);
	return rte_eth_promiscuous_get(ethdev_port_of(port)->port_id) == 1 ? 0 : -ENOTSUP;
}

static const char *const ethdev_keys[] = { "port", "rxd", "txd", "promisc", NULL };

static const struct vhub_net_driver_ops ethdev_ops = {
	.name = "ethdev",
	.help = "port=PORT         PCI address, name of a port that exists, or [VDEV,ARGUMENTS]; required\n"
		"rxd=N             descriptors of an rx queue (1024), made to suit the port\n"
		"txd=N             descriptors of a tx queue, made to suit the port (256, or fewer where many\n"
		"                  ports are: all together have 1024 for each 64 MB of EAL's memory)\n"
		"promisc=MODE      on, off or auto: every frame to the guest (auto: unless the port\n"
		"                  filters for its address)",
	.keys = ethdev_keys,
	.parse = ethdev_parse,
	.open = ethdev_open,
	.destroy = ethdev_destroy,
	.info = ethdev_info,
	.queue_get = ethdev_queue_get,
	.queue_put = ethdev_queue_put,
	.from_guest = ethdev_from_guest,
	.to_guest = ethdev_to_guest,
	.opened = ethdev_opened,
	.closed = ethdev_closed,
	.arm = ethdev_arm,
	.disarm = ethdev_disarm,
	.reclaim = ethdev_reclaim,
	.set_mac = ethdev_set_mac,
	.stats = ethdev_stats,
	.effective = ethdev_effective,
};

/* ---- arguments ---- */

/* "[net_tap0,iface=tap0]" or "0000:03:00.0", with or without the brackets. */
static int
parse_port(const struct rte_kvargs *args, char **devargs, char **name, char *error,
		size_t error_len)
{
	const char *text = NULL;
	size_t len;
	int ret;

	ret = vhub_arg_text(args, "port", &text, error, error_len);
	if (ret != 0)
		return ret;
	len = text == NULL ? 0 : strlen(text);
	if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
		text++;
		len -= 2;
	}
	if (len == 0 || text[0] == ',' || strcspn(text, "[]") < len) {
		snprintf(error, error_len,
				"port=%s%s: allowed: a PCI address, the name of a port that exists, or a "
				"virtual device with its arguments in brackets, [net_tap0,iface=tap0]",
				text == NULL ? "" : rte_kvargs_get(args, "port"),
				text == NULL ? " is missing" : "");
		return -EINVAL;
	}
	*devargs = strndup(text, len);
	*name = strndup(text, RTE_MIN(len, strcspn(text, ",")));
	return *devargs == NULL || *name == NULL ? -ENOMEM : 0;
}

static int
parse_rest(const struct rte_kvargs *args, struct ethdev_port *p, char *error, size_t error_len)
{
	static const char *const modes[] = { "auto", "on", "off", NULL };
	uint64_t rxd = ETHDEV_DEFAULT_RX_DESCRIPTORS, txd = 0;
	unsigned int mode = ETHDEV_PROMISC_AUTO;
	int ret;

	ret = vhub_arg_uint(args, "rxd", VHUB_NET_BURST, ETHDEV_MAX_DESCRIPTORS, &rxd, error,
			error_len);
	if (ret == 0)
		ret = vhub_arg_uint(args, "txd", VHUB_NET_BURST, ETHDEV_MAX_DESCRIPTORS, &txd,
				error, error_len);
	if (ret == 0)
		ret = vhub_arg_choice(args, "promisc", modes, &mode, error, error_len);
	p->want_rx_descriptors = (uint16_t)rxd;
	p->want_tx_descriptors = (uint16_t)txd;
	p->promisc = (enum ethdev_promisc)mode;
	return ret;
}

static int
ethdev_parse(const struct rte_kvargs *args, struct vhub_net_port **out, char *error,
		size_t error_len)
{
	struct ethdev_port *p = calloc(1, sizeof(*p));
	int ret;

	if (p == NULL)
		return -ENOMEM;
	p->port.ops = &ethdev_ops;
	ret = parse_port(args, &p->devargs, &p->name, error, error_len);
	if (ret == 0)
		ret = parse_rest(args, p, error, error_len);
	if (ret != 0) {
		free(p->devargs);
		free(p->name);
		free(p);
		return ret;
	}
	*out = &p->port;
	return 0;
}

VHUB_NET_DRIVER_REGISTER(ethdev_ops)
