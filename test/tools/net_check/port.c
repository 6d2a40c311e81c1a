/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sets the ports up and follows their links. Called by main.c; next: flow.c.
 *
 * With a back end that comes back, virtio-user resets packed rings from EAL's interrupt thread, and
 * gives a thread that is in the middle of a burst one millisecond to get out. On a busy machine that
 * is too short, so the interrupt thread waits here until the main lcore has seen that the link is
 * down and keeps its hands off.
 */
#include <errno.h>

#include <rte_cycles.h>
#include <rte_errno.h>
#include <rte_ethdev.h>

#include "net_check.h"

#define POOL_CACHE 256
#define ALL_ENTRIES 32768 /* virtio takes it as "as many as the ring has" */
#define LARGEST_RING 1024
#define ACK_MS 1000

static int
link_changed(uint16_t id __rte_unused, enum rte_eth_event_type type __rte_unused, void *arg,
		void *ret __rte_unused)
{
	struct check_port *port = arg;
	struct rte_eth_link link = { 0 };
	int i;

	rte_eth_link_get_nowait(port->id, &link);
	if (link.link_status == RTE_ETH_LINK_UP) {
		if (__atomic_load_n(&port->up, __ATOMIC_RELAXED))
			return 0;
		__atomic_fetch_add(&port->ups, 1, __ATOMIC_RELEASE);
		__atomic_store_n(&port->up, true, __ATOMIC_RELEASE);
		return 0;
	}
	__atomic_store_n(&port->up, false, __ATOMIC_RELEASE);
	/* Pairs with the store in port_usable(). */
	for (i = 0; i < ACK_MS && __atomic_load_n(&port->seen_up, __ATOMIC_ACQUIRE); i++)
		rte_delay_us_sleep(1000);
	return 0;
}

bool
port_usable(struct check_port *port, double now)
{
	bool up = __atomic_load_n(&port->up, __ATOMIC_ACQUIRE);

	if (!up && port->seen_up)
		port->down_since = now;
	__atomic_store_n(&port->seen_up, up, __ATOMIC_RELEASE);
	if (up)
		return true;
	if (!check_options.reconnect)
		report_fail("the link of port %u went down", port->id);
	else if (now - port->down_since > check_options.link_timeout)
		report_fail("the link of port %u has been down for %g s", port->id,
				check_options.link_timeout);
	return false;
}

/*
 * Whether a port leaves checksums of what it sends to the other side. Each time another answer, so
 * that virtio negotiates anew: to stop and start a port that stays as it is does nothing to its rings.
 * No frame asks for a checksum where none is wanted.
 */
static bool
offers_csum(const struct check_port *port)
{
	return check_options.tcp_bytes != 0 || port->restarts % 2 == 1;
}

static int
add_offloads(const struct check_port *port, struct rte_eth_conf *conf,
		const struct rte_eth_dev_info *info)
{
	const struct check_options *o = &check_options;
	uint64_t tx = 0, rx = 0;

	if (offers_csum(port))
		tx = RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
	if (o->tso)
		tx |= RTE_ETH_TX_OFFLOAD_TCP_TSO | RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	if (o->guest_offload) {
		rx = RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
		if (o->tso)
			rx |= RTE_ETH_RX_OFFLOAD_TCP_LRO | RTE_ETH_RX_OFFLOAD_SCATTER;
	}
	if ((tx & ~info->tx_offload_capa) != 0 || (rx & ~info->rx_offload_capa) != 0) {
		report_fail("the back end does not offer what --csum, --tso or --guest-offload needs "
			    "(missing: tx %#lx rx %#lx)",
				tx & ~info->tx_offload_capa, rx & ~info->rx_offload_capa);
		return -ENOTSUP;
	}
	conf->txmode.offloads = tx;
	conf->rxmode.offloads = rx;
	return 0;
}

static int
set_up_queues(struct check_port *port)
{
	int socket = rte_eth_dev_socket_id(port->id), rc;
	unsigned int i;

	for (i = 0; i < check_options.queues; i++) {
		rc = rte_eth_rx_queue_setup(port->id, i, ALL_ENTRIES, socket, NULL, port->pool);
		if (rc == 0)
			rc = rte_eth_tx_queue_setup(port->id, i, ALL_ENTRIES, socket, NULL);
		if (rc != 0) {
			report_fail("setting up queue %u of port %u: %s", i, port->id,
					rte_strerror(-rc));
			return rc;
		}
	}
	return 0;
}

static struct rte_mempool *
make_pool(uint16_t id)
{
	const struct check_options *o = &check_options;
	unsigned int packet = 1 + o->tcp_bytes / RTE_MBUF_DEFAULT_DATAROOM;
	unsigned int count = o->queues *
			(2 * LARGEST_RING + (o->window + 2 * CHECK_BURST) * 2 * packet);
	char name[RTE_MEMPOOL_NAMESIZE];

	snprintf(name, sizeof(name), "port%u", id);
	return rte_pktmbuf_pool_create(name, count + POOL_CACHE, POOL_CACHE, 0,
			RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
}

/* Between open and start, and between stop and start. */
static int
configure(struct check_port *port)
{
	struct rte_eth_conf conf = { .intr_conf.lsc = 1 };
	struct rte_eth_dev_info info;
	int rc = rte_eth_dev_info_get(port->id, &info);

	if (rc == 0)
		rc = add_offloads(port, &conf, &info);
	if (rc == 0)
		rc = rte_eth_dev_configure(port->id, check_options.queues, check_options.queues,
				&conf);
	if (rc == 0)
		rc = set_up_queues(port);
	return rc;
}

int
port_open(struct check_port *port, uint16_t id)
{
	int rc;

	port->id = id;
	port->up = port->seen_up = true;
	port->pool = make_pool(id);
	if (port->pool == NULL) {
		report_fail("no memory for the packets of port %u", id);
		return -ENOMEM;
	}
	rc = configure(port);
	if (rc == 0)
		rc = rte_eth_dev_callback_register(id, RTE_ETH_EVENT_INTR_LSC, link_changed, port);
	if (rc == 0)
		rc = rte_eth_macaddr_get(id, &port->mac);
	if (rc == 0)
		rc = rte_eth_dev_start(id);
	if (rc != 0)
		report_fail("port %u with %u queue pairs does not start: %s", id,
				check_options.queues, rte_strerror(-rc));
	return rc;
}

int
port_restart(struct check_port *port)
{
	int rc = rte_eth_dev_stop(port->id);

	port->restarts++;
	if (rc == 0)
		rc = configure(port);
	if (rc == 0)
		rc = rte_eth_dev_start(port->id);
	if (rc != 0)
		report_fail("port %u does not start again: %s", port->id, rte_strerror(-rc));
	return rc;
}

void
port_close(struct check_port *port)
{
	/* The link goes down on the way, which is nobody's business any more. */
	rte_eth_dev_callback_unregister(port->id, RTE_ETH_EVENT_INTR_LSC, link_changed, port);
	rte_eth_dev_stop(port->id);
	rte_eth_dev_close(port->id);
}
