/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a network device says of itself: features, the config space (VIRTIO 1.2, 5.1.4), MTU and
 * link, all of them the port's. Called by net.c and the stock request handler.
 */
#include <errno.h>
#include <string.h>

#include <rte_byteorder.h>

#include "net_pvt.h"
#include "vhub_log.h"

VHUB_LOGTYPE(net);

#define BIT(name) (UINT64_C(1) << VIRTIO_NET_F_##name)

/* How often the port's link is looked at while rings run. */
#define LINK_LOOK_US 500000

/* ---- features ---- */

uint32_t
net_guest_takes(uint64_t features)
{
	uint32_t takes = 0;

	/* VIRTIO 1.2, 5.1.3.1: none of the others without GUEST_CSUM. */
	if ((features & BIT(GUEST_CSUM)) == 0)
		return 0;
	takes |= VHUB_NET_TAKES_CSUM;
	if ((features & BIT(GUEST_TSO4)) != 0)
		takes |= VHUB_NET_TAKES_TSO4;
	if ((features & BIT(GUEST_TSO6)) != 0)
		takes |= VHUB_NET_TAKES_TSO6;
	if ((features & BIT(GUEST_UFO)) != 0)
		takes |= VHUB_NET_TAKES_UFO;
	return takes;
}

uint32_t
net_guest_asks(uint64_t features)
{
	uint32_t asks = 0;

	/* As above: none of the others without CSUM. */
	if ((features & BIT(CSUM)) == 0)
		return 0;
	asks |= VHUB_NET_TAKES_CSUM;
	if ((features & BIT(HOST_TSO4)) != 0)
		asks |= VHUB_NET_TAKES_TSO4;
	if ((features & BIT(HOST_TSO6)) != 0)
		asks |= VHUB_NET_TAKES_TSO6;
	if ((features & BIT(HOST_UFO)) != 0)
		asks |= VHUB_NET_TAKES_UFO;
	return asks;
}

/*
 * Segmentation that the port does not do is done here, but for what rte_gso does not know. The
 * library forgets that a packet had the ECN bit of segmentation, so that is not offered. The direct
 * path serves all else that the library does.
 */
static uint64_t
offered(const struct net_dev *dev)
{
	uint64_t features = rvhost_features(dev->params.iommu) | BIT(STATUS);

	features &= ~(BIT(HOST_ECN) | BIT(GUEST_ECN));
	if ((dev->port_takes & VHUB_NET_TAKES_TSO6) == 0)
		features &= ~BIT(HOST_TSO6);
	if ((dev->port_takes & VHUB_NET_TAKES_UFO) == 0)
		features &= ~BIT(HOST_UFO);
	if (dev->params.has_mac)
		features |= BIT(MAC);
	if (dev->params.mtu != 0)
		features |= BIT(MTU);
	if (dev->params.n_pairs > 1)
		features |= BIT(MQ);
	if (dev->config.speed != UINT32_MAX)
		features |= BIT(SPEED_DUPLEX);
	return features;
}

static void
set_link(struct net_dev *dev, const struct vhub_net_info *info)
{
	dev->config.status = rte_cpu_to_le_16(info->link_up ? VIRTIO_NET_S_LINK_UP : 0);
	dev->config.speed = rte_cpu_to_le_32(info->link_speed_mbps);
	dev->config.duplex = info->full_duplex ? 1 : 0;
}

void
net_config_init(struct net_dev *dev, const struct vhub_net_info *info)
{
	struct net_params *params = &dev->params;

	if (!params->has_mac && info->has_mac) {
		params->has_mac = true;
		params->mac = info->mac;
	}
	if (params->mtu == 0)
		params->mtu = info->mtu;
	dev->max_frame_bytes = (params->mtu == 0 ? VHUB_NET_MTU_MAX : params->mtu) +
			NET_FRAME_OVERHEAD;
	memcpy(dev->config.mac, &params->mac, sizeof(dev->config.mac));
	dev->config.max_virtqueue_pairs = rte_cpu_to_le_16(params->n_pairs);
	dev->config.mtu = rte_cpu_to_le_16(params->mtu);
	set_link(dev, info);
	dev->dev.features = offered(dev);
	dev->dev.protocol_features = params->mtu != 0 ? VHUB_USER_PF(NET_MTU) : 0;
	dev->dev.config_bytes = NET_CONFIG_BYTES;
	dev->dev.max_queues = (uint16_t)(params->n_pairs * 2);
	dev->dev.vrings_per_queue = 2;
}

int
net_config_read(struct vhub_device *device, uint32_t offset, void *buf, uint32_t len)
{
	const struct net_dev *dev = net_dev_of(device);
	uint8_t space[NET_CONFIG_BYTES] = { 0 };

	memcpy(space, &dev->config, sizeof(dev->config));
	memcpy(buf, space + offset, len);
	return 0;
}

/* ---- what a session changes ---- */

int
net_ack_features(struct vhub_device *device, uint64_t features)
{
	struct net_dev *dev = net_dev_of(device);

	dev->guest_features = features;
	if (dev->path == NULL)
		return 0;
	if ((features & (UINT64_C(1) << VHUB_F_ACCESS_PLATFORM)) != 0)
		return rvhost_iotlb_begin(dev->path);
	rvhost_iotlb_end(dev->path);
	return 0;
}

void
net_reset(struct vhub_device *device)
{
	struct net_dev *dev = net_dev_of(device);

	dev->guest_features = 0;
	if (dev->path != NULL)
		rvhost_iotlb_end(dev->path);
}

/* The front end tells the guest this MTU: the port has to carry it. */
int
net_request(struct vhub_device *device, struct vhub_request *req)
{
	const struct net_dev *dev = net_dev_of(device);

	if (req->header.request != VHUB_USER_NET_SET_MTU)
		return -ENOTSUP;
	if (req->payload.u64 < VHUB_NET_MTU_MIN || req->payload.u64 > dev->params.mtu)
		return vhub_request_refuse(req, -EINVAL,
				"the port's MTU is %u, the front end wants another",
				dev->params.mtu);
	return 0;
}

/* ---- link ---- */

static void
look_at_link(struct vhub_timer *timer)
{
	struct net_dev *dev = vhub_container_of(timer, struct net_dev, link_timer);
	uint16_t before = dev->config.status;
	struct vhub_net_info info = { 0 };

	dev->driver->info(dev->port, &info);
	set_link(dev, &info);
	if (dev->config.status != before) {
		VHUB_LOG(NOTICE, "%s: the link of %s is %s", dev->dev.name, dev->target,
				info.link_up ? "up" : "down");
		vhub_device_config_changed(&dev->dev);
	}
	vhub_timer_arm(dev->dev.executor.loop, timer, LINK_LOOK_US);
}

int
net_set_running(struct vhub_device *device, bool running)
{
	struct net_dev *dev = net_dev_of(device);

	dev->link_timer.fn = look_at_link;
	if (running)
		vhub_timer_arm(device->executor.loop, &dev->link_timer, 0);
	else
		vhub_timer_cancel(device->executor.loop, &dev->link_timer);
	return 0;
}
