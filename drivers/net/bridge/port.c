/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A port of the bridge driver: its life, its queues, its arguments; called by lib/net through the ops table. Next:
 * rules.c reads the arguments that can be changed, bridge.c joins the port, ingress.c takes its packets.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bsd/string.h>

#include "bridge_pvt.h"
#include "vhub_alloc.h"
#include "vhub_lcore.h"

/* ---- life ---- */

static int
make_queues(struct bridge_port *p, uint16_t n)
{
	struct rte_mempool *pool = vhub_net_pool(-1);
	int ret = 0;

	p->queues_bytes = n * sizeof(*p->queues);
	p->queues = vhub_zalloc_node(p->queues_bytes, -1);
	if (p->queues == NULL || pool == NULL)
		return -ENOMEM;
	for (; p->n_queues < n; p->n_queues++) {
		struct bridge_queue *q = &p->queues[p->n_queues];

		ret = vhub_net_inbox_create(-1, &q->inbox);
		if (ret != 0)
			return ret;
		q->port = p;
		q->pool = pool;
	}
	return 0;
}

static int
bridge_open(struct vhub_net_port *port, uint16_t n_pairs, const struct rte_ether_addr *mac,
		uint16_t mtu, char *error, size_t error_len)
{
	struct bridge_port *p = bridge_port_of(port);
	int ret;

	bridge_rules_begin(p);
	p->mtu = mtu;
	p->is_high = p->learn_priority == BRIDGE_PRIORITY_HIGH ||
			(p->learn_priority == BRIDGE_PRIORITY_DEFAULT && port->is_uplink);
	p->has_mac = mac != NULL;
	if (mac != NULL)
		rte_ether_addr_copy(mac, &p->mac);
	ret = make_queues(p, n_pairs);
	if (ret != 0) {
		snprintf(error, error_len, "out of memory");
		return ret;
	}
	return bridge_join(p, error, error_len);
}

static void
free_port(struct vhub_work *work)
{
	struct bridge_port *p = vhub_container_of(work, struct bridge_port, free_work);

	bridge_forget_parsed(p);
	if (p->joined)
		bridge_put(p->bridge);
	for (uint16_t i = 0; i < p->n_queues; i++)
		vhub_net_inbox_destroy(p->queues[i].inbox);
	vhub_free(p->queues, p->queues_bytes);
	free(p->rules);
	free(p);
}

static void
bridge_destroy(struct vhub_net_port *port)
{
	struct bridge_port *p = bridge_port_of(port);

	p->free_work.run = free_port;
	if (!p->joined) {
		free_port(&p->free_work);
		return;
	}
	bridge_leave(p);
	vhub_quiesce_then(&p->free_work, port->name);
}

/* What a receiver does not take is done for it, as far as lib/net can. */
static void
bridge_info(const struct vhub_net_port *port, struct vhub_net_info *info)
{
	struct bridge_port *p = bridge_port_of(port);

	/* CTL asks again and again while a guest is there. */
	bridge_tell_foreign(p);
	*info = (struct vhub_net_info){
		.mtu = p->mtu,
		.max_pairs = VHUB_NET_MAX_PAIRS,
		.link_up = true,
		.link_speed_mbps = UINT32_MAX,
		.full_duplex = true,
		.takes = VHUB_NET_TAKES_DONE_HERE,
	};
	snprintf(info->target, sizeof(info->target), "bridge %s", p->bridge_name);
}

/* ---- queues ---- */

/*
 * With its first queue the port has a guest, and the guest's address is at this port; or it will be with
 * the link: who then opens the port in the table sees that a queue was got, for the table has a lock.
 */
static int
bridge_queue_get(struct vhub_net_queue *queue)
{
	struct bridge_port *p = bridge_port_of(queue->port);
	struct bridge_queue *q = &p->queues[queue->index];

	/* Pairs with rules.c: who changes the VLAN sees that a queue was got, or here is seen what it has become. */
	if (__atomic_fetch_add(&p->n_got, 1, __ATOMIC_SEQ_CST) == 0)
		bridge_add_static_station(p);
	queue->priv = q;
	vhub_net_inbox_open(q->inbox, queue);
	return 0;
}

/* It may be got again at once, by another lcore. */
static void
bridge_queue_put(struct vhub_net_queue *queue)
{
	struct bridge_port *p = bridge_port_of(queue->port);
	struct bridge_queue *q = queue->priv;

	vhub_net_inbox_close(q->inbox);
	queue->priv = NULL;
	__atomic_sub_fetch(&p->n_got, 1, __ATOMIC_RELAXED);
}

/* The guest has gone, perhaps to another host: nothing of it is here any more. */
static void
bridge_left(struct vhub_net_port *port)
{
	struct bridge_port *p = bridge_port_of(port);

	table_forget_port(p->bridge->table, p->index);
	__atomic_store_n(&p->foreign_told, false, __ATOMIC_RELAXED);
}

/* Its stations may be at another port meanwhile: whoever takes over from this guest is heard and found. */
static void
bridge_set_link(struct vhub_net_port *port, bool up)
{
	const struct bridge_port *p = bridge_port_of(port);

	table_close_port(p->bridge->table, p->index, !up);
	if (up)
		bridge_add_static_station(p);
}

static uint16_t
bridge_to_guest(struct vhub_net_queue *queue, struct rte_mbuf **pkts, uint16_t max)
{
	struct bridge_queue *q = queue->priv;

	return vhub_net_inbox_take(q->inbox, pkts, max);
}

static int
bridge_arm(struct vhub_net_queue *queue)
{
	struct bridge_queue *q = queue->priv;

	return vhub_net_inbox_arm(q->inbox);
}

static void
bridge_disarm(struct vhub_net_queue *queue)
{
	struct bridge_queue *q = queue->priv;

	vhub_net_inbox_disarm(q->inbox);
}

static bool
bridge_park(struct vhub_net_queue *queue, struct vhub_lcore_word *word)
{
	struct bridge_queue *q = queue->priv;

	return vhub_net_inbox_park(q->inbox, word);
}

static void
bridge_closed(struct vhub_net_queue *queue)
{
	struct bridge_queue *q = queue->priv;

	vhub_net_inbox_empty(q->inbox);
}

/*
 * As if it was heard there: what a guest says of itself is no more than what it sends. With its link down that
 * is nothing, and only whether it is another's is told.
 */
static int
bridge_set_mac(struct vhub_net_port *port, const struct rte_ether_addr *mac)
{
	struct bridge_port *p = bridge_port_of(port);
	const struct bridge_rules *rules = bridge_rules_of(p);
	const uint64_t key = table_key(mac, rules->native);
	struct table_learned learned = { 0 };

	if (rules->native == 0)
		return 0;
	table_learn(p->bridge->table, &key, 1, p->index, rules->learn_limit, bridge_now(p->bridge),
			&learned);
	return learned.foreign != 0 ? -EEXIST : 0;
}

static int
bridge_parse(const struct rte_kvargs *args, struct vhub_net_port **out, char *error,
		size_t error_len);

static const char *const bridge_keys[] = { "bridge", "vlan", "trunk", "isolation", "learn_limit",
	"learn_priority", "flood_limit", "broadcast_limit", "ageing", "table", NULL };

static const struct vhub_net_driver_ops bridge_ops = {
	.name = "bridge",
	.help = "bridge=NAME       joins the learning bridge of that name, which is made if need be; required\n"
		"vlan=N            VLAN of frames without a tag, 1 to 4094, 0 none (1; with trunk=, but none: 0)\n"
		"trunk=LIST        VLANs of frames with a tag, as in 10+20-29, all or none (none)\n"
		"isolation=N       ports of the same group do not reach one another, 1 to 65535 (0: no group)\n"
		"learn_limit=N     stations that are learned at this port (1024)\n"
		"learn_priority=P  high, or low: takes no station over from a port of high priority (uplinks: high, guests: low)\n"
		"flood_limit=N     packets a second to stations that nobody knows (0: no limit)\n"
		"broadcast_limit=N   the same of broadcast and multicast (0: no limit)\n"
		"ageing=SECONDS    of the bridge: a station not heard of is forgotten, 1 to 1000000 (300)\n"
		"table=N           of the bridge: stations that it can know, 64 to 1048576 (8192)",
	.keys = bridge_keys,
	.steers = true,
	.parse = bridge_parse,
	.open = bridge_open,
	.destroy = bridge_destroy,
	.info = bridge_info,
	.queue_get = bridge_queue_get,
	.queue_put = bridge_queue_put,
	.left = bridge_left,
	.set_link = bridge_set_link,
	.from_guest = bridge_from_guest,
	.from_guest_views = bridge_from_guest_views,
	.to_guest = bridge_to_guest,
	.arm = bridge_arm,
	.disarm = bridge_disarm,
	.park = bridge_park,
	.closed = bridge_closed,
	.set_mac = bridge_set_mac,
	.change = bridge_rules_change,
	.stats = bridge_stats,
	.effective = bridge_effective,
};

/* ---- arguments ---- */

static int
parse_name(const struct rte_kvargs *args, struct bridge_port *p, char *error, size_t error_len)
{
	const char *name = NULL;
	int ret = vhub_arg_text(args, "bridge", &name, error, error_len);

	if (ret != 0)
		return ret;
	if (name == NULL || name[0] == '\0' || strlen(name) >= sizeof(p->bridge_name)) {
		snprintf(error, error_len,
				"bridge=%s%s; allowed: the name of a bridge, 1 to %zu characters",
				name == NULL ? "" : name, name == NULL ? " is missing" : "",
				sizeof(p->bridge_name) - 1);
		return -EINVAL;
	}
	strlcpy(p->bridge_name, name, sizeof(p->bridge_name));
	return 0;
}

static int
parse_priority(const struct rte_kvargs *args, struct bridge_port *p, char *error, size_t error_len)
{
	static const char *const words[] = { [BRIDGE_PRIORITY_LOW] = "low",
		[BRIDGE_PRIORITY_HIGH] = "high",
		NULL };
	unsigned int priority = BRIDGE_PRIORITY_DEFAULT;
	int ret = vhub_arg_choice(args, "learn_priority", words, &priority, error, error_len);

	p->learn_priority = (uint8_t)priority;
	return ret;
}

static int
parse_bridge(const struct rte_kvargs *args, struct bridge_port *p, char *error, size_t error_len)
{
	uint64_t ageing = 0, entries = 0;
	int ret = vhub_arg_uint(args, "ageing", 1, 1000000, &ageing, error, error_len);

	if (ret == 0)
		ret = vhub_arg_uint(args, "table", 64, 1u << 20, &entries, error, error_len);
	p->want_ageing_s = (uint32_t)ageing;
	p->want_entries = (uint32_t)entries;
	return ret;
}

static int
bridge_parse(const struct rte_kvargs *args, struct vhub_net_port **out, char *error,
		size_t error_len)
{
	struct bridge_port *p = calloc(1, sizeof(*p));
	int ret;

	if (p == NULL)
		return -ENOMEM;
	p->port.ops = &bridge_ops;
	ret = parse_name(args, p, error, error_len);
	if (ret == 0)
		ret = parse_bridge(args, p, error, error_len);
	if (ret == 0)
		ret = parse_priority(args, p, error, error_len);
	if (ret == 0)
		ret = bridge_rules_parse(args, p, error, error_len);
	if (ret != 0) {
		free(p);
		return ret;
	}
	bridge_note_parsed(p);
	*out = &p->port;
	return 0;
}

VHUB_NET_DRIVER_REGISTER(bridge_ops)
