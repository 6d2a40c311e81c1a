/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SEND_RARP: after a migration the network learns from a broadcast of the guest's where it is now. A
 * front end asks for it when its guest cannot announce itself. Called by config.c on CTL and net.c on
 * the lcore of the first pair, whose driver sends it as if it came from the guest; next: the driver's
 * from_guest.
 */
#include <errno.h>
#include <string.h>

#include <rte_arp.h>

#include "net_pvt.h"

/* Ring from the guest of the first pair. */
#define FIRST_RING 1

static void
send_rarp(struct net_pair *pair)
{
	struct net_dev *dev = pair->dev;
	struct rte_mbuf *m;

	if (net_link_is_down(dev))
		return;
	m = rte_net_make_rarp_packet(dev->pool, &dev->rarp.mac);
	if (m == NULL) {
		net_pool_reclaim();
		m = rte_net_make_rarp_packet(dev->pool, &dev->rarp.mac);
	}
	if (m == NULL) {
		vhub_count(&pair->counters.drops[VHUB_NET_DROP_NO_MBUF], 1);
		return;
	}
	if (dev->driver->from_guest(&pair->queue, &m, 1) == 1)
		vhub_count(&dev->rarp.sent, 1);
	else
		net_drop(pair, VHUB_NET_DROP_PORT_FULL, &m, 1);
}

void
net_rarp_started(struct net_pair *pair)
{
	struct net_rarp *rarp = &pair->dev->rarp;

	if (pair->queue.index != 0 || !rarp->due)
		return;
	rarp->due = false;
	send_rarp(pair);
}

/* CTL. */
static void
answer(struct vhub_msg *msg)
{
	vhub_device_request_done(&vhub_container_of(msg, struct net_dev, rarp.msg)->dev, 0);
}

/* LCORE. While the request is pending its ring neither stops nor moves. */
static void
send_here(struct vhub_msg *msg)
{
	struct net_dev *dev = vhub_container_of(msg, struct net_dev, rarp.msg);

	send_rarp(&dev->pairs[0]);
	msg->fn = answer;
	vhub_loop_post(dev->dev.executor.loop, msg);
}

int
net_rarp_request(struct net_dev *dev, struct vhub_request *req)
{
	const struct vhub_vring *vring = vhub_device_vring(&dev->dev, FIRST_RING);
	struct net_rarp *rarp = &dev->rarp;

	memcpy(&rarp->mac, &req->payload, sizeof(rarp->mac));
	if (!rte_is_valid_assigned_ether_addr(&rarp->mac))
		return vhub_request_refuse(req, -EINVAL, "this is not the address of one station");
	if (vring == NULL) {
		rarp->due = true;
		return 0;
	}
	rarp->msg.fn = send_here;
	vhub_lcore_post(vring->lcore, &rarp->msg);
	return VHUB_REQ_PENDING;
}
