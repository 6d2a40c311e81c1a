/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The null driver: what a guest sends goes nowhere, and with rate= a stream of packets comes from
 * nowhere, numbered so that a receiver sees what is missing. For measuring what everything but the
 * wire costs. Called by lib/net; source.c, next on the way, makes the packets.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "null_pvt.h"

static int
null_parse(const struct rte_kvargs *args, struct vhub_net_port **out, char *error,
		size_t error_len);

static int
null_open(struct vhub_net_port *port, uint16_t n_pairs, const struct rte_ether_addr *mac,
		uint16_t mtu, char *error, size_t error_len)
{
	struct null_port *p = null_port_of(port);

	(void)n_pairs;
	if (p->rate_pps == 0)
		return 0;
	if (mtu != 0 && p->size_bytes > mtu + sizeof(struct rte_ether_hdr)) {
		snprintf(error, error_len, "size=%u: longer than a frame with mtu=%u, which is %zu",
				p->size_bytes, mtu, mtu + sizeof(struct rte_ether_hdr));
		return -EINVAL;
	}
	if (mac != NULL)
		rte_ether_addr_copy(mac, &p->guest_mac);
	return null_source_open(p, error, error_len);
}

static void
null_destroy(struct vhub_net_port *port)
{
	free(null_port_of(port));
}

static void
null_info(const struct vhub_net_port *port, struct vhub_net_info *info)
{
	const struct null_port *p = null_port_of(port);

	*info = (struct vhub_net_info){
		.max_pairs = VHUB_NET_MAX_PAIRS,
		.link_up = true,
		.link_speed_mbps = UINT32_MAX,
		.full_duplex = true,
		.takes = VHUB_NET_TAKES_ALL, /* nobody looks at what goes nowhere */
	};
	if (p->rate_pps == 0)
		snprintf(info->target, sizeof(info->target), "nothing");
	else if (p->rate_pps == NULL_RATE_MAX)
		snprintf(info->target, sizeof(info->target),
				"source of %u bytes as fast as it goes", p->size_bytes);
	else
		snprintf(info->target, sizeof(info->target), "source of %u bytes %u times a second",
				p->size_bytes, p->rate_pps);
}

static int
null_queue_get(struct vhub_net_queue *queue)
{
	if (null_port_of(queue->port)->rate_pps == 0)
		return 0;
	return null_source_create(queue);
}

static void
null_queue_put(struct vhub_net_queue *queue)
{
	free(queue->priv);
	queue->priv = NULL;
}

static uint16_t
null_from_guest(struct vhub_net_queue *queue, struct rte_mbuf **pkts, uint16_t n)
{
	(void)queue;
	rte_pktmbuf_free_bulk(pkts, n);
	return n;
}

/* Lent, and not looked at. */
static void
null_from_guest_views(struct vhub_net_queue *queue, struct vhub_net_view *views, uint16_t n)
{
	(void)queue;
	(void)views;
	(void)n;
}

static uint16_t
null_to_guest(struct vhub_net_queue *queue, struct rte_mbuf **pkts, uint16_t max)
{
	return queue->priv == NULL ? 0 : null_source_burst(queue->priv, pkts, max);
}

/* Time is no file descriptor: a source stays awake. */
static int
null_arm(struct vhub_net_queue *queue)
{
	return queue->priv == NULL ? 0 : -ENOTSUP;
}

static void
null_stats(const struct vhub_net_port *port, vhub_stat_fn emit, void *arg)
{
	const struct null_port *p = null_port_of(port);
	uint64_t made = 0, no_mbuf = 0;

	for (unsigned int i = 0; i < VHUB_NET_MAX_PAIRS; i++) {
		/* Pairs with count(). */
		made += __atomic_load_n(&p->counts[i].made, __ATOMIC_RELAXED);
		no_mbuf += __atomic_load_n(&p->counts[i].no_mbuf, __ATOMIC_RELAXED);
	}
	emit(arg, "source_packets", made);
	emit(arg, "source_no_mbuf", no_mbuf);
}

static const char *const null_keys[] = { "rate", "size", NULL };

static const struct vhub_net_driver_ops null_ops = {
	.name = "null",
	.help = "rate=N            packets a second for each queue pair of the guest, or max (0: none)\n"
		"size=BYTES        of each such frame, 64 to 9216 (64)",
	.keys = null_keys,
	.parse = null_parse,
	.open = null_open,
	.destroy = null_destroy,
	.info = null_info,
	.queue_get = null_queue_get,
	.queue_put = null_queue_put,
	.from_guest = null_from_guest,
	.from_guest_views = null_from_guest_views,
	.to_guest = null_to_guest,
	.arm = null_arm,
	.stats = null_stats,
};

static int
parse_rate(const struct rte_kvargs *args, uint32_t *rate_pps, char *error, size_t error_len)
{
	const char *text = NULL;
	uint64_t value = 0;
	int ret;

	ret = vhub_arg_text(args, "rate", &text, error, error_len);
	if (ret != 0)
		return ret;
	if (text != NULL && strcmp(text, "max") == 0) {
		*rate_pps = NULL_RATE_MAX;
		return 0;
	}
	ret = vhub_arg_count(args, "rate", 0, NULL_RATE_LIMIT, &value, error, error_len);
	if (ret != 0)
		snprintf(error, error_len,
				"rate=%s: neither max nor a number from 0 to %u (k, M and G are 10^3, 10^6 and 10^9)",
				text, NULL_RATE_LIMIT);
	*rate_pps = (uint32_t)value;
	return ret;
}

static int
null_parse(const struct rte_kvargs *args, struct vhub_net_port **out, char *error, size_t error_len)
{
	uint64_t size_bytes = NULL_SIZE_MIN;
	uint32_t rate_pps = 0;
	struct null_port *p;
	int ret;

	ret = parse_rate(args, &rate_pps, error, error_len);
	if (ret == 0)
		ret = vhub_arg_uint(args, "size", NULL_SIZE_MIN, NULL_SIZE_MAX, &size_bytes, error,
				error_len);
	if (ret != 0)
		return ret;
	if (rte_kvargs_get(args, "size") != NULL && rate_pps == 0) {
		snprintf(error, error_len, "size=%s: goes with rate= only",
				rte_kvargs_get(args, "size"));
		return -EINVAL;
	}
	p = calloc(1, sizeof(*p));
	if (p == NULL)
		return -ENOMEM;
	p->port.ops = &null_ops;
	p->rate_pps = rate_pps;
	p->size_bytes = (uint16_t)size_bytes;
	memset(&p->guest_mac, 0xff, sizeof(p->guest_mac));
	*out = &p->port;
	return 0;
}

VHUB_NET_DRIVER_REGISTER(null_ops)
