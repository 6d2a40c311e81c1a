/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net as a device: the ops table that the stock request handler serves (device/handler.c),
 * and a ring's turn on its lcore (device/vring.c calls it). Its rings are ours (lib/virtq) or, as
 * datapath= says, librte_vhost's (lib/rte_vhost). Made by port.c. Next on the way of a packet:
 * direct_from.c or from_guest.c, to_guest.c.
 */
#include <errno.h>
#include <stdio.h>

#include <rte_atomic.h>

#include "direct.h"
#include "net_pvt.h"
#include "vhub_kick.h"

/* ---- rings ---- */

static void
record(struct net_pair *pair, uint16_t index, bool started)
{
	__atomic_store_n(&pair->recorded[index & 1], started, __ATOMIC_RELAXED);
}

static int
net_queue_prepare(struct vhub_device *device, struct vhub_vring *vring)
{
	struct net_dev *dev = net_dev_of(device);

	if (net_is_ctrl(vring)) {
		net_ctrl_prepare(dev, vring);
		return 0;
	}
	/* The place of a control queue that was not negotiated. */
	if (vring->index >= dev->params.n_pairs * 2)
		return -ENXIO;
	vring->priv = &dev->pairs[vring->index / 2];
	record(vring->priv, vring->index, true);
	/* Nothing of the pair's ring to the guest runs. */
	if (!net_is_from_guest(vring))
		dev->pairs[vring->index / 2].goes_on = false;
	return 0;
}

static void
want_no_kicks(struct net_pair *pair, struct vhub_vring *vring)
{
	if (vring->vq != NULL)
		vhub_virtq_disarm(vring->vq);
	else
		rvhost_want_kicks(pair->dev->path, vring, false);
}

/* The first ring of a pair gets the driver's queue, the last one puts it. */
static int
start_of_pair(struct vhub_vring *vring)
{
	struct net_pair *pair = vring->priv;
	const struct vhub_net_driver_ops *driver = pair->dev->driver;
	int ret;

	/* Pairs with the load in net_wake_pairs(). */
	__atomic_store_n(&pair->queue.lcore, vring->lcore, __ATOMIC_RELAXED);
	if (pair->to_ring == NULL && pair->from_ring == NULL && driver->queue_get != NULL) {
		ret = driver->queue_get(&pair->queue);
		if (ret != 0)
			return ret;
	}
	direct_begin(pair, vring->features);
	net_coalesce_begin(pair, vring);
	pair->guest_takes = net_guest_takes(vring->features);
	if (net_is_from_guest(vring)) {
		pair->from_ring = vring;
		direct_gather_begin(pair);
		net_rarp_started(pair);
	} else {
		pair->to_ring = vring;
		net_mirror_open(pair);
		/* New buffers are looked for when there is a packet for them: no kick is of use. */
		want_no_kicks(pair, vring);
	}
	return 0;
}

static int
net_queue_start(struct vhub_vring *vring)
{
	if (!net_is_ctrl(vring))
		return start_of_pair(vring);
	net_ctrl_start(net_dev_of(vring->dev), vring);
	return 0;
}

/* Another value than now. */
static void
set_open(struct net_pair *pair, bool open)
{
	__atomic_store_n(&pair->queue.open, open, __ATOMIC_RELAXED);
	__atomic_add_fetch(&pair->dev->n_open, open ? 1 : -1u, __ATOMIC_RELAXED);
}

static inline bool
is_broken(const struct vhub_vring *vring)
{
	return vring->vq != NULL && vhub_virtq_broken(vring->vq) != VHUB_VIRTQ_OK;
}

/* Whether the guest would take packets by this ring to it, but for what the ring is about. */
static inline bool
wants_packets(const struct net_pair *pair, const struct vhub_vring *vring)
{
	return vring->enabled && !(unlikely(net_is_restricted(pair->dev)) && net_rules_close(pair));
}

/*
 * Others, who may have packets for this guest, want to know as well. What waits for it is not kept
 * either: the ring may stay like this as long as the guest likes.
 */
static void
tell_open(struct net_pair *pair, bool open)
{
	const struct vhub_net_driver_ops *driver = pair->dev->driver;

	set_open(pair, open);
	if (open) {
		if (driver->opened != NULL)
			driver->opened(&pair->queue, !pair->goes_on);
		return;
	}
	pair->goes_on = wants_packets(pair, pair->to_ring) && !is_broken(pair->to_ring);
	net_drop_held(pair);
	net_mirror_empty(pair);
	if (driver->closed != NULL)
		driver->closed(&pair->queue);
}

static void
stop_of_pair(struct vhub_vring *vring)
{
	struct net_pair *pair = vring->priv;
	const struct vhub_net_driver_ops *driver = pair->dev->driver;

	if (pair->coalesces)
		net_coalesce_turn(vring, true);
	if (net_is_from_guest(vring)) {
		pair->from_ring = NULL;
	} else {
		if (pair->queue.open)
			tell_open(pair, false);
		net_drop_held(pair);
		net_mirror_close(pair);
		pair->to_ring = NULL;
	}
	if (pair->to_ring == NULL && pair->from_ring == NULL && driver->queue_put != NULL)
		driver->queue_put(&pair->queue);
}

static void
net_queue_stop(struct vhub_vring *vring)
{
	if (net_is_ctrl(vring))
		net_ctrl_stop(net_dev_of(vring->dev));
	else
		stop_of_pair(vring);
}

static void
net_queue_release(struct vhub_device *device, struct vhub_vring *vring)
{
	(void)device;
	/* The control queue has none. */
	if (vring->priv != NULL)
		record(vring->priv, vring->index, false);
	vring->priv = NULL;
}

/*
 * A pair pauses and goes on as one: what its guest sends in between waits in the ring. A ring that is
 * broken will not go on.
 */
static inline bool
is_paused(const struct net_pair *pair, const struct vhub_vring *vring)
{
	return !vring->taking ||
			(pair->to_ring != NULL && !pair->to_ring->taking &&
					!is_broken(pair->to_ring));
}

/* Whether the guest takes packets by this ring to it. */
static inline bool
takes_packets(const struct net_pair *pair, const struct vhub_vring *vring)
{
	return vring->taking && wants_packets(pair, vring);
}

static inline void
look_whether_open(struct net_pair *pair, const struct vhub_vring *vring)
{
	const bool open = takes_packets(pair, vring);

	if (unlikely(open != pair->queue.open))
		tell_open(pair, open);
	else if (unlikely(!open) && vring->taking)
		pair->goes_on = false;
}

/* Of a ring that is librte_vhost's: copies that a DMA engine makes go on, whatever the ring may take. */
static unsigned int
poll_library(struct net_pair *pair, struct vhub_vring *vring)
{
	const bool under_way = rvhost_under_way(pair->dev->path, vring);
	const bool paused = is_paused(pair, vring);
	unsigned int n = 0;

	rvhost_stats_turn(pair->dev->path, vring);
	if (net_is_from_guest(vring)) {
		if (!paused)
			return net_poll_from_guest(pair, true);
		pair->ends = under_way;
		if (under_way)
			n = net_poll_from_guest(pair, false);
		pair->ends = false;
		return n;
	}
	if (under_way)
		n = rvhost_reap(pair->dev->path, vring);
	return paused ? n : n + net_poll_to_guest(pair);
}

static unsigned int
net_queue_poll(struct vhub_vring *vring)
{
	struct net_pair *pair = vring->priv;

	if (unlikely(net_is_ctrl(vring)))
		return net_ctrl_poll(net_dev_of(vring->dev), vring);
	if (unlikely(pair->coalesces))
		net_coalesce_turn(vring, false);
	if (!net_is_from_guest(vring))
		look_whether_open(pair, vring);
	if (unlikely(vring->vq == NULL))
		return poll_library(pair, vring);
	if (unlikely(is_paused(pair, vring)))
		return 0;
	return net_is_from_guest(vring) ? direct_poll_from_guest(pair) : net_poll_to_guest(pair);
}

/* ---- sleeping ---- */

void
net_wake_pairs(struct net_dev *dev)
{
	uint16_t i;

	for (i = 0; i < dev->params.n_pairs; i++) {
		struct vhub_lcore *lcore = __atomic_load_n(&dev->pairs[i].queue.lcore,
				__ATOMIC_RELAXED);

		if (lcore != NULL)
			vhub_lcore_resume_all(lcore);
	}
}

/* Of a ring from the guest that is librte_vhost's. */
static int
arm_library(struct net_pair *pair, struct vhub_vring *vring)
{
	/* A translation that the library waits for comes without a kick. */
	if ((vring->features & VHUB_F(ACCESS_PLATFORM)) != 0)
		return -ENOTSUP;
	rvhost_want_kicks(pair->dev->path, vring, true);
	/* Pairs with the guest's: it makes a buffer available, then looks whether we want a kick. */
	rte_smp_mb();
	if (net_queue_poll(vring) != 0 || rvhost_under_way(pair->dev->path, vring))
		return -EAGAIN;
	return 0;
}

static int
arm_of_pair(struct net_pair *pair, struct vhub_vring *vring)
{
	const struct vhub_net_driver_ops *driver;

	/* Somebody has to look at the clock, which what a guest asks for cannot make long. */
	if (pair->coalesces && net_coalesce_turn(vring, false))
		return -EAGAIN;
	driver = pair->dev->driver;
	if (!net_is_from_guest(vring)) {
		if (pair->n_held != 0 && vring->enabled)
			return -EAGAIN;
		/* Nothing comes for a guest that takes nothing. */
		if (!pair->queue.open)
			return 0;
		if (net_mirror_arm(pair) != 0)
			return -EAGAIN;
		if (driver->to_guest == NULL)
			return 0;
		return driver->arm == NULL ? -ENOTSUP : driver->arm(&pair->queue);
	}
	if (!vhub_kick_wakes(vring->kick))
		return -ENOTSUP;
	return vring->vq != NULL ? vhub_virtq_arm(vring->vq) : arm_library(pair, vring);
}

static int
net_ring_arm(struct vhub_vring *vring)
{
	struct net_pair *pair = vring->priv;
	int ret;

	if (net_is_ctrl(vring))
		return net_ctrl_arm(net_dev_of(vring->dev), vring);
	ret = arm_of_pair(pair, vring);
	/* There are no turns while it sleeps. */
	if (ret == 0 && vring->vq == NULL)
		rvhost_stats_look(pair->dev->path, vring->index);
	return ret;
}

static void
net_ring_disarm(struct vhub_vring *vring)
{
	struct net_pair *pair = vring->priv;
	const struct vhub_net_driver_ops *driver;

	if (net_is_ctrl(vring)) {
		vhub_virtq_disarm(vring->vq);
		return;
	}
	driver = pair->dev->driver;
	if (!net_is_from_guest(vring)) {
		net_mirror_disarm(pair);
		if (driver->to_guest != NULL && driver->disarm != NULL)
			driver->disarm(&pair->queue);
	} else {
		want_no_kicks(pair, vring);
	}
}

/* ---- nothing to do ---- */

/*
 * A ring to the guest is resumed by who has kept something for it, has broken it, or has changed
 * whether the guest takes packets (net_wake_pairs()).
 */
static bool
park_to_guest(struct net_pair *pair, struct vhub_vring *vring, struct vhub_lcore_word *word)
{
	const struct vhub_net_driver_ops *driver = pair->dev->driver;
	const bool open = pair->queue.open;

	if (pair->n_held != 0 || open != takes_packets(pair, vring))
		return false;
	if (!open)
		return true;
	if (pair->queue.index == 0 && net_is_watching(pair->dev))
		return driver->to_guest == NULL && net_mirror_park(pair, word);
	if (driver->to_guest == NULL)
		return true;
	return driver->park != NULL && driver->park(&pair->queue, word);
}

static bool
net_queue_park(struct vhub_vring *vring, struct vhub_lcore_word *word)
{
	struct net_pair *pair = vring->priv;

	if (!net_is_ctrl(vring) && pair->coalesces && net_coalesce_turn(vring, false))
		return false;
	if (!net_is_ctrl(vring) && !net_is_from_guest(vring))
		return park_to_guest(pair, vring, word);
	if (!net_is_ctrl(vring) && pair->gather.waiting)
		return false;
	return !vring->taking || vhub_virtq_park(vring->vq, word);
}

/*
 * By net_wake_pairs(): the guest takes packets by another number of pairs than before, or its link is another.
 * A port that mirrors have begun to send to may have been left alone with another word.
 */
static bool
net_queue_is_meant(struct vhub_vring *vring)
{
	const struct net_pair *pair = vring->priv;

	if (net_is_ctrl(vring) || net_is_from_guest(vring))
		return false;
	return pair->queue.open != takes_packets(pair, vring) ||
			(pair->queue.index == 0 && net_is_watching(pair->dev));
}

/* ---- librte_vhost's side (struct vhub_foreign_ops) ---- */

static int
net_sync(struct vhub_device *device, const struct session_record *rec, bool anew,
		struct vhub_mem_owner *owner, uint32_t *bases)
{
	return rvhost_sync(net_dev_of(device)->path, rec, anew, owner, bases);
}

static int
net_iotlb(struct vhub_device *device, const struct vhub_user_iotlb *msg)
{
	return rvhost_iotlb(net_dev_of(device)->path, msg);
}

/* What is under way from the guest may be on its way back to it: its ring is there until then. */
static bool
net_in_flight(const struct vhub_vring *vring)
{
	const struct rvhost_path *path = net_dev_of(vring->dev)->path;
	const struct net_pair *pair = vring->priv;

	return rvhost_under_way(path, vring) ||
			(vring == pair->to_ring && pair->from_ring != NULL &&
					rvhost_under_way(path, pair->from_ring));
}

const struct vhub_foreign_ops net_foreign_ops = {
	.max_regions = RVHOST_MAX_REGIONS,
	.log_at_zero = true,
	.sync = net_sync,
	.iotlb = net_iotlb,
	.in_flight = net_in_flight,
};

/* ---- the device ---- */

static int
net_describe(const struct vhub_device *device, char *buf, size_t len)
{
	const struct net_dev *dev = net_dev_of(device);
	const unsigned int copies = dev->path != NULL ? rvhost_copies(dev->path) : 0;

	if (copies != 0)
		return snprintf(buf, len, "%s: port %s, %u copies by DMA", device->name,
				dev->target, copies);
	if (dev->path != NULL && rvhost_waits(dev->path))
		return snprintf(buf, len, "%s: port %s, which waits for librte_vhost", device->name,
				dev->target);
	return snprintf(buf, len, "%s: port %s", device->name, dev->target);
}

const struct vhub_device_ops net_ops = {
	.destroy = net_destroy,
	.ack_features = net_ack_features,
	.config_read = net_config_read,
	.queue_prepare = net_queue_prepare,
	.queue_start = net_queue_start,
	.queue_poll = net_queue_poll,
	.ring_arm = net_ring_arm,
	.ring_disarm = net_ring_disarm,
	.queue_park = net_queue_park,
	.queue_is_meant = net_queue_is_meant,
	.queue_stop = net_queue_stop,
	.queue_release = net_queue_release,
	.set_running = net_set_running,
	.reset = net_reset,
	.describe = net_describe,
	.request = net_request,
	.stats = net_stats,
};
