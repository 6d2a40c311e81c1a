/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Uplinks: a port of a bridge behind which there is no guest but a wire, that is a port of another driver
 * (ethdev). To each of the two drivers this is what lib/net is to it for a guest: what the one has received
 * goes to the other. Made by uplink_builder.c; next: the bridge's from_guest, the wire's from_guest.
 *
 * Each queue pair is a poller on an lcore. The bridge's side of it is a pair with counters, services and an
 * inbox as any port's; to the wire's driver belongs a second one. What is sent on the pair's own
 * lcore goes to the wire at once; what comes from other lcores waits in the inbox. Nobody waits for a
 * wire: what its driver does not take is dropped and counted.
 *
 * It runs from its making to its end, for there is no front end to come and go: pollers are added
 * and removed by messages, which the thread WORK waits for.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <bsd/string.h>

#include "net_pvt.h"
#include "vhub_alloc.h"
#include "vhub_log.h"
#include "vhub_work.h"

VHUB_LOGTYPE(net)

/* Bursts that an inbox gives in one turn: more lcores than one fill it. */
#define INBOX_BURSTS 4u
/* For so long lcores are waited for; one that takes longer is stuck. */
#define WAIT_LOOKS 2000u
#define WAIT_LOOK_NS 1000000l

struct uplink_queue {
	struct vhub_poller poller;
	struct net_uplink *uplink;
	struct net_pair *pair;	  /* the bridge's side */
	struct vhub_lcore *lcore; /* immutable */
	struct vhub_msg msg;
	bool runs; /* LCORE */
};

struct net_uplink {
	/* Immutable. */
	struct net_dev *dev;
	struct vhub_net_port *wire;
	size_t bytes;

	/* Changes under way. */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned int n_pending; /* queues whose lcore has not come to it */
	int result;
	bool abandoned; /* nobody waits any more: none is started, the last one has all be given back */

	/* To give it back then. */
	struct vhub_msg late_msg;
	struct vhub_work late_work;

	struct uplink_queue queues[];
};

/* ---- to the wire ---- */

/* The wire takes, in mbufs, what it can send as it is. */
static void
send_to_wire(struct net_pair *pair, struct rte_mbuf **pkts, uint16_t n)
{
	struct vhub_net_queue *wire = &pair->wire->queue;
	uint64_t packets, bytes = 0;
	uint16_t taken, i;

	/* As many bytes as were given: afterwards the packets are not ours to look at. */
	for (i = 0; i < n; i++)
		bytes += pkts[i]->pkt_len;
	pair->wire->driver_dropped.packets = pair->wire->driver_dropped.bytes = 0;
	taken = wire->port->ops->from_guest(wire, pkts, n);
	if (unlikely(taken < n)) {
		for (i = taken; i < n; i++)
			bytes -= pkts[i]->pkt_len;
		net_drop(pair, VHUB_NET_DROP_PORT_FULL, &pkts[taken], n - taken);
	}
	/* What the driver has taken and dropped is counted by it. */
	packets = taken - pair->wire->driver_dropped.packets;
	bytes -= pair->wire->driver_dropped.bytes;
	vhub_count(&pair->counters.to_guest.packets, packets);
	vhub_count(&pair->counters.to_guest.bytes, bytes);
}

static void
complete_and_send(struct net_pair *pair, struct rte_mbuf **pkts, uint16_t n)
{
	struct net_look look;

	net_look_at(pkts, n, &look);
	if (unlikely(look.offloads != 0))
		net_offload(pair, pair->guest_takes, pkts, n, send_to_wire);
	else
		send_to_wire(pair, pkts, n);
}

void
net_uplink_give(struct net_pair *pair, struct rte_mbuf **pkts, uint16_t n)
{
	if (n != 0 && unlikely(net_is_served(pair->dev, NET_TO_GUEST)))
		n = net_serve_mbufs(pair, NET_TO_GUEST, pkts, n);
	if (n != 0)
		complete_and_send(pair, pkts, n);
}

void
net_uplink_give_views(struct net_pair *pair, const struct vhub_net_view *views, uint64_t which)
{
	struct rte_mbuf *pkts[VHUB_NET_BURST];

	which = vhub_net_views_to_mbufs(&pair->queue, views, which, pkts);
	net_uplink_give(pair, pkts, vhub_net_gather(pkts, which));
}

/* Copies that mirrors have made: nobody has asked yet whether the wire can carry them. Returns how many. */
static unsigned int
poll_mirrored(struct net_pair *pair)
{
	struct rte_mbuf *pkts[VHUB_NET_BURST];
	const uint16_t n = net_mirror_take(pair, pkts, VHUB_NET_BURST);
	const uint16_t kept = net_drop_odd_sizes(pair, pkts, n);

	net_offload_mark(net_sender_of_mirrored(pair), pkts, kept);
	if (kept != 0)
		complete_and_send(pair, pkts, kept);
	return n;
}

/* What other lcores have left for it, and copies. Returns how many. */
static unsigned int
poll_to_wire(struct net_pair *pair)
{
	const struct vhub_net_driver_ops *bridge = pair->dev->driver;
	struct rte_mbuf *pkts[VHUB_NET_BURST];
	unsigned int total = 0, i;
	uint16_t n = VHUB_NET_BURST;

	if (unlikely(net_is_watching(pair->dev)))
		total = poll_mirrored(pair);
	for (i = 0; i < INBOX_BURSTS && n == VHUB_NET_BURST; i++) {
		n = bridge->to_guest(&pair->queue, pkts, VHUB_NET_BURST);
		net_uplink_give(pair, pkts, n);
		total += n;
	}
	return total;
}

/* ---- from the wire ---- */

/* Without those that are no frames, or not in one piece as far as an Ethernet header goes. */
static uint16_t
drop_runts(struct net_pair *pair, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t i, kept = 0;

	for (i = 0; i < n; i++) {
		if (unlikely(rte_pktmbuf_data_len(pkts[i]) < RTE_ETHER_HDR_LEN))
			net_drop(pair, VHUB_NET_DROP_RUNT, &pkts[i], 1);
		else
			pkts[kept++] = pkts[i];
	}
	return kept;
}

static unsigned int
poll_from_wire(struct net_pair *pair)
{
	struct vhub_net_queue *wire = &pair->wire->queue;
	struct rte_mbuf *pkts[VHUB_NET_BURST];
	struct net_look look;
	uint16_t n, kept, i;

	n = wire->port->ops->to_guest(wire, pkts, VHUB_NET_BURST);
	if (n == 0)
		return 0;
	net_look_at(pkts, n, &look);
	vhub_count(&pair->counters.from_guest.packets, n);
	vhub_count(&pair->counters.from_guest.bytes, look.bytes);
	/* Frames on a wire are complete; a driver that loops may leave what they were sent with. */
	for (i = 0; look.offloads != 0 && i < n; i++)
		pkts[i]->ol_flags &= ~RTE_MBUF_F_TX_OFFLOAD_MASK;
	kept = drop_runts(pair, pkts, n);
	if (unlikely(net_is_served(pair->dev, NET_FROM_GUEST)))
		kept = net_serve_mbufs(pair, NET_FROM_GUEST, pkts, kept);
	if (likely(kept != 0))
		net_give_to_port(pair, pkts, kept);
	return n;
}

/* ---- an lcore's poller ---- */

static void
uplink_destroy(struct vhub_device *device);

static inline struct uplink_queue *
queue_of(struct vhub_poller *poller)
{
	return vhub_container_of(poller, struct uplink_queue, poller);
}

static unsigned int
uplink_poll(struct vhub_poller *poller)
{
	struct net_pair *pair = queue_of(poller)->pair;

	return poll_from_wire(pair) + poll_to_wire(pair);
}

/* A wire without an fd keeps the lcore awake; then nothing else is asked. */
static int
uplink_arm(struct vhub_poller *poller)
{
	struct net_pair *pair = queue_of(poller)->pair;
	struct vhub_net_queue *wire = &pair->wire->queue;
	int ret = wire->port->ops->arm == NULL ? -ENOTSUP : wire->port->ops->arm(wire);

	if (ret == 0)
		ret = pair->dev->driver->arm(&pair->queue);
	return ret == 0 ? net_mirror_arm(pair) : ret;
}

static void
uplink_disarm(struct vhub_poller *poller)
{
	struct net_pair *pair = queue_of(poller)->pair;
	struct vhub_net_queue *wire = &pair->wire->queue;

	net_mirror_disarm(pair);
	pair->dev->driver->disarm(&pair->queue);
	if (wire->port->ops->disarm != NULL)
		wire->port->ops->disarm(wire);
}

static const struct vhub_poller_ops poller_ops = {
	.poll = uplink_poll,
	.arm = uplink_arm,
	.disarm = uplink_disarm,
};

/* ---- starting and stopping on lcores ---- */

static void
give_back(struct vhub_work *work)
{
	struct net_uplink *uplink = vhub_container_of(work, struct net_uplink, late_work);

	VHUB_LOG(NOTICE, "%s: no lcore is stuck any more: the uplink is given back",
			uplink->dev->dev.name);
	uplink_destroy(&uplink->dev->dev);
}

/* CTL */
static void
on_late(struct vhub_msg *msg)
{
	struct net_uplink *uplink = vhub_container_of(msg, struct net_uplink, late_msg);

	uplink->late_work = (struct vhub_work){ .run = give_back };
	vhub_work_submit(&uplink->late_work);
}

static void
has_changed(struct net_uplink *uplink, int result)
{
	bool late;

	pthread_mutex_lock(&uplink->lock);
	if (result != 0)
		uplink->result = result;
	late = --uplink->n_pending == 0 && uplink->abandoned;
	pthread_cond_signal(&uplink->changed);
	pthread_mutex_unlock(&uplink->lock);
	if (late) {
		uplink->late_msg.fn = on_late;
		vhub_loop_post(uplink->dev->dev.executor.loop, &uplink->late_msg);
	}
}

static int
start_queue(struct uplink_queue *q)
{
	struct net_pair *pair = q->pair;
	struct vhub_net_queue *wire = &pair->wire->queue;
	int ret;

	__atomic_store_n(&pair->queue.lcore, q->lcore, __ATOMIC_RELAXED);
	wire->lcore = q->lcore;
	ret = wire->port->ops->queue_get(wire);
	if (ret != 0)
		return ret;
	ret = pair->dev->driver->queue_get(&pair->queue);
	if (ret != 0) {
		wire->port->ops->queue_put(wire);
		return ret;
	}
	net_mirror_open(pair);
	q->poller.ops = &poller_ops;
	vhub_lcore_add_poller(&q->poller);
	/* From here on others send. */
	__atomic_store_n(&pair->queue.open, true, __ATOMIC_RELAXED);
	q->runs = true;
	return 0;
}

static void
on_start(struct vhub_msg *msg)
{
	struct uplink_queue *q = vhub_container_of(msg, struct uplink_queue, msg);
	struct net_uplink *uplink = q->uplink;
	bool abandoned;

	pthread_mutex_lock(&uplink->lock);
	abandoned = uplink->abandoned;
	pthread_mutex_unlock(&uplink->lock);
	has_changed(uplink, abandoned ? 0 : start_queue(q));
}

static void
on_stop(struct vhub_msg *msg)
{
	struct uplink_queue *q = vhub_container_of(msg, struct uplink_queue, msg);
	struct net_pair *pair = q->pair;

	if (q->runs) {
		__atomic_store_n(&pair->queue.open, false, __ATOMIC_RELAXED);
		vhub_lcore_remove_poller(&q->poller);
		net_mirror_close(pair);
		pair->dev->driver->queue_put(&pair->queue);
		pair->wire->queue.port->ops->queue_put(&pair->wire->queue);
		q->runs = false;
	}
	has_changed(q->uplink, 0);
}

/* One message to each queue's lcore. Returns 0, what a queue said, or -ETIMEDOUT: an lcore is stuck. */
static int
change(struct net_uplink *uplink, void (*fn)(struct vhub_msg *msg))
{
	const uint16_t n = uplink->dev->params.n_pairs;
	unsigned int looks;
	struct timespec until;
	int ret;

	/* No message is under way. */
	uplink->result = 0;
	uplink->abandoned = false;
	uplink->n_pending = n;
	for (uint16_t i = 0; i < n; i++) {
		uplink->queues[i].msg.fn = fn;
		vhub_lcore_post(uplink->queues[i].lcore, &uplink->queues[i].msg);
	}
	pthread_mutex_lock(&uplink->lock);
	for (looks = 0; uplink->n_pending != 0 && looks < WAIT_LOOKS; looks++) {
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += WAIT_LOOK_NS;
		until.tv_sec += until.tv_nsec / 1000000000l;
		until.tv_nsec %= 1000000000l;
		pthread_cond_timedwait(&uplink->changed, &uplink->lock, &until);
		/* A mailbox may have been full. */
		vhub_outbox_flush();
	}
	uplink->abandoned = uplink->n_pending != 0;
	ret = uplink->abandoned ? -ETIMEDOUT : uplink->result;
	pthread_mutex_unlock(&uplink->lock);
	return ret;
}

/* ---- the device ---- */

/* No queue runs. */
static void
free_uplink(struct net_uplink *uplink)
{
	struct net_dev *dev = uplink->dev;

	/* First the bridge's, which nobody reaches then; packets on their way are still of the wire's pool. */
	dev->driver->destroy(dev->port);
	uplink->wire->ops->destroy(uplink->wire);
	pthread_cond_destroy(&uplink->changed);
	pthread_mutex_destroy(&uplink->lock);
	vhub_free(uplink, uplink->bytes);
	net_dev_end(dev);
}

static void
uplink_destroy(struct vhub_device *device)
{
	struct net_dev *dev = net_dev_of(device);
	char name[sizeof(dev->dev.name)];

	/* An abandoned uplink is freed by the lcore that comes last, at any time. */
	strlcpy(name, dev->dev.name, sizeof(name));
	if (change(dev->uplink, on_stop) != 0) {
		VHUB_LOG(ERR, "%s: an lcore is stuck: the uplink stays until it is not", name);
		return;
	}
	net_dev_leave(dev);
	free_uplink(dev->uplink);
}

static int
uplink_describe(const struct vhub_device *device, char *buf, size_t len)
{
	return snprintf(buf, len, "%s: uplink %s", device->name, net_dev_of(device)->target);
}

static void
emit_sum(const struct net_pair *pair, vhub_stat_fn emit, void *arg)
{
	const struct net_counters *counters = &pair->counters;

	emit(arg, "from_wire_packets",
			__atomic_load_n(&counters->from_guest.packets, __ATOMIC_RELAXED));
	emit(arg, "from_wire_bytes",
			__atomic_load_n(&counters->from_guest.bytes, __ATOMIC_RELAXED));
	emit(arg, "to_wire_packets",
			__atomic_load_n(&counters->to_guest.packets, __ATOMIC_RELAXED));
	emit(arg, "to_wire_bytes", __atomic_load_n(&counters->to_guest.bytes, __ATOMIC_RELAXED));
}

static void
uplink_stats(const struct vhub_device *device, uint16_t queue, vhub_stat_fn emit, void *arg)
{
	const struct net_dev *dev = net_dev_of(device);
	const struct vhub_net_port *ports[] = { dev->port, dev->uplink->wire };
	struct vhub_net_info info = { .link_up = false };

	if (queue >= dev->params.n_pairs)
		return;
	emit_sum(&dev->pairs[queue], emit, arg);
	/* Figures of the same name add up. */
	net_stats_of_pair(&dev->pairs[queue], emit, arg);
	net_stats_of_pair(dev->pairs[queue].wire, emit, arg);
	for (unsigned int i = 0; queue == 0 && i < RTE_DIM(ports); i++) {
		if (ports[i]->ops->stats != NULL)
			ports[i]->ops->stats(ports[i], emit, arg);
	}
	if (queue == 0) {
		dev->uplink->wire->ops->info(dev->uplink->wire, &info);
		emit(arg, "wire_link_up", info.link_up);
	}
}

static struct vhub_lcore *
uplink_queue_lcore(const struct vhub_device *device, unsigned int queue)
{
	return net_dev_of(device)->uplink->queues[queue].lcore;
}

const struct vhub_device_ops net_uplink_ops = {
	.destroy = uplink_destroy,
	.describe = uplink_describe,
	.stats = uplink_stats,
	.queue_lcore = uplink_queue_lcore,
};

/* ---- making ---- */

static struct net_uplink *
alloc_uplink(struct net_dev *dev, struct vhub_net_port *wire, const struct vhub_net_info *info,
		int node)
{
	const uint16_t n = dev->params.n_pairs;
	const size_t bytes = sizeof(struct net_uplink) + n * sizeof(struct uplink_queue);
	struct net_uplink *uplink = vhub_zalloc_node(bytes, node);
	pthread_condattr_t attr;

	if (uplink == NULL)
		return NULL;
	uplink->dev = dev;
	uplink->wire = wire;
	uplink->bytes = bytes;
	pthread_mutex_init(&uplink->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&uplink->changed, &attr);
	pthread_condattr_destroy(&attr);
	for (uint16_t i = 0; i < n; i++) {
		struct uplink_queue *q = &uplink->queues[i];

		q->uplink = uplink;
		q->pair = &dev->pairs[i];
		q->lcore = dev->dev.executor.lcores[i % dev->dev.executor.n_lcores];
		q->pair->wire = &dev->pairs[n + i];
		q->pair->wire->queue.port = wire;
		q->pair->wire->queue.index = i;
		q->pair->guest_takes = info->takes;
	}
	return uplink;
}

/* The device of both ports, which runs nowhere yet. NULL without memory; the ports are the caller's then. */
static struct net_dev *
alloc_all(const struct net_params *params, struct vhub_net_port *port, struct vhub_net_port *wire,
		const struct vhub_executor *executor)
{
	const int node = executor->n_lcores != 0 ? vhub_lcore_node(executor->lcores[0]) : -1;
	struct vhub_net_info info = { .takes = 0 };
	struct net_dev *dev;

	dev = net_dev_alloc(&net_uplink_ops, params, 2u * params->n_pairs, port, executor, node);
	if (dev == NULL)
		return NULL;
	wire->ops->info(wire, &info);
	strlcpy(dev->target, info.target, sizeof(dev->target));
	dev->max_frame_bytes = net_max_frame_bytes(params->mtu != 0 ? params->mtu : info.mtu);
	dev->dev.max_queues = params->n_pairs;
	dev->pool = vhub_net_pool(node);
	if (dev->pool != NULL)
		dev->uplink = alloc_uplink(dev, wire, &info, node);
	if (dev->uplink != NULL && net_mirror_create(dev, node) == 0)
		return dev;
	if (dev->uplink != NULL)
		vhub_free(dev->uplink, dev->uplink->bytes);
	net_dev_free(dev);
	return NULL;
}

int
net_uplink_create(const struct net_params *params, struct vhub_net_port *port,
		struct vhub_net_port *wire, const struct vhub_executor *executor,
		struct vhub_device **out, char *error, size_t error_len)
{
	struct net_dev *dev = alloc_all(params, port, wire, executor);
	int ret;

	if (dev == NULL) {
		port->ops->destroy(port);
		wire->ops->destroy(wire);
		net_pool_explain(error, error_len);
		return -ENOMEM;
	}
	ret = change(dev->uplink, on_start);
	if (ret == 0) {
		*out = &dev->dev;
		return 0;
	}
	snprintf(error, error_len, "%s", ret == -ETIMEDOUT ? "an lcore is stuck" : strerror(-ret));
	/* Of one that is abandoned messages are under way; the last one gives it back. */
	if (ret != -ETIMEDOUT)
		uplink_destroy(&dev->dev);
	return ret;
}
