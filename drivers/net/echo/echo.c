/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The network driver "echo": every packet goes back to the guest it came from, on the same queue
 * pair, with its Ethernet addresses swapped. For tests and measurements, and the smallest example of
 * a network driver. Called by lib/net; next: net/to_guest.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <rte_common.h>

#include "vhub_net.h"

static const char *const echo_keys[] = { NULL };

static int
echo_open(struct vhub_net_port *port, uint16_t n_pairs, const struct rte_ether_addr *mac,
		uint16_t mtu, char *error, size_t error_len)
{
	RTE_SET_USED(port);
	RTE_SET_USED(n_pairs);
	RTE_SET_USED(mac);
	RTE_SET_USED(mtu);
	RTE_SET_USED(error);
	RTE_SET_USED(error_len);
	return 0;
}

static void
echo_destroy(struct vhub_net_port *port)
{
	free(port);
}

/* It hands on whatever it is asked to: the guest that is to receive it has sent it. */
static void
echo_info(const struct vhub_net_port *port, struct vhub_net_info *info)
{
	RTE_SET_USED(port);
	info->max_pairs = VHUB_NET_MAX_PAIRS;
	info->link_up = true;
	info->link_speed_mbps = UINT32_MAX;
	info->full_duplex = true;
	info->takes = VHUB_NET_TAKES_ALL;
	snprintf(info->target, sizeof(info->target), "echo");
}

static inline void
swap_addresses(struct rte_ether_hdr *eth)
{
	struct rte_ether_addr addr = eth->dst_addr;

	eth->dst_addr = eth->src_addr;
	eth->src_addr = addr;
}

static uint16_t
echo_from_guest(struct vhub_net_queue *queue, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t i;

	for (i = 0; i < n; i++)
		swap_addresses(rte_pktmbuf_mtod(pkts[i], struct rte_ether_hdr *));
	vhub_net_to_guest(queue, pkts, n);
	return n;
}

static void
echo_from_guest_views(struct vhub_net_queue *queue, struct vhub_net_view *views, uint16_t n)
{
	uint16_t i;

	for (i = 0; i < n; i++)
		swap_addresses((struct rte_ether_hdr *)views[i].head);
	vhub_net_views_to_guest(queue, views, vhub_net_all_views(n));
}

static int
echo_parse(const struct rte_kvargs *args, struct vhub_net_port **out, char *error,
		size_t error_len);

static const struct vhub_net_driver_ops echo_ops = {
	.name = "echo",
	.help = "                  sends every packet back, its Ethernet addresses swapped",
	.keys = echo_keys,
	.parse = echo_parse,
	.open = echo_open,
	.destroy = echo_destroy,
	.info = echo_info,
	.from_guest = echo_from_guest,
	.from_guest_views = echo_from_guest_views,
};

static int
echo_parse(const struct rte_kvargs *args, struct vhub_net_port **out, char *error, size_t error_len)
{
	RTE_SET_USED(args);
	RTE_SET_USED(error);
	RTE_SET_USED(error_len);
	*out = calloc(1, sizeof(**out));
	if (*out == NULL)
		return -ENOMEM;
	(*out)->ops = &echo_ops;
	return 0;
}

VHUB_NET_DRIVER_REGISTER(echo_ops)
