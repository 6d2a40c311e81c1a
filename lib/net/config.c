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
#define USO_BIT(name) (UINT64_C(1) << NET_F_##name)

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
	if ((features & USO_BIT(GUEST_USO4)) != 0)
		takes |= VHUB_NET_TAKES_USO4;
	if ((features & USO_BIT(GUEST_USO6)) != 0)
		takes |= VHUB_NET_TAKES_USO6;
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
	if ((features & USO_BIT(HOST_USO)) != 0)
		asks |= VHUB_NET_TAKES_USO4 | VHUB_NET_TAKES_USO6;
	return asks;
}

/* What comes with a control queue. */
#define CTRL_FEATURES \
	(BIT(CTRL_VQ) | BIT(CTRL_RX) | BIT(CTRL_RX_EXTRA) | BIT(CTRL_VLAN) | BIT(CTRL_MAC_ADDR) | \
			BIT(CTRL_GUEST_OFFLOADS) | BIT(GUEST_ANNOUNCE) | BIT(HASH_REPORT) | \
			UINT64_C(1) << NET_F_NOTF_COAL | UINT64_C(1) << NET_F_VQ_NOTF_COAL)

/* librte_vhost serves none. */
static bool
has_ctrl(const struct net_dev *dev)
{
	return dev->path == NULL && !dev->params.no_ctrl;
}

/* By a driver that asks which pair a packet is for, among several. */
static bool
has_rss(const struct net_dev *dev)
{
	return has_ctrl(dev) && dev->driver->steers && dev->params.n_pairs > 1;
}

/*
 * Segmentation that the port does not do is done here, but for fragments of IPv6. The library forgets that a
 * packet had the ECN bit of segmentation, so that is not offered; and it does not know USO. The direct
 * path serves all else that the library does.
 */
static uint64_t
offered(const struct net_dev *dev)
{
	uint64_t features = rvhost_features(dev->params.iommu) | BIT(STATUS);

	if (has_ctrl(dev))
		features |= CTRL_FEATURES;
	features &= ~(BIT(HOST_ECN) | BIT(GUEST_ECN));
	if (dev->path == NULL)
		features |= USO_BIT(GUEST_USO4) | USO_BIT(GUEST_USO6) | USO_BIT(HOST_USO);
	if ((dev->port_takes & VHUB_NET_TAKES_UFO) == 0)
		features &= ~BIT(HOST_UFO);
	if (dev->params.has_mac)
		features |= BIT(MAC);
	if (dev->params.mtu != 0)
		features |= BIT(MTU);
	if (dev->params.n_pairs > 1)
		features |= BIT(MQ);
	if (has_rss(dev))
		features |= BIT(RSS);
	if (dev->config.speed != UINT32_MAX)
		features |= BIT(SPEED_DUPLEX);
	return features;
}

#define NAME(name) [VIRTIO_NET_F_##name] = #name
#define NEW_NAME(name) [NET_F_##name] = #name
static const char *const feature_names[64] = {
	NAME(CSUM),
	NAME(GUEST_CSUM),
	NAME(CTRL_GUEST_OFFLOADS),
	NAME(MTU),
	NAME(MAC),
	NAME(GUEST_TSO4),
	NAME(GUEST_TSO6),
	NAME(GUEST_UFO),
	NAME(HOST_TSO4),
	NAME(HOST_TSO6),
	NAME(HOST_UFO),
	NAME(MRG_RXBUF),
	NAME(STATUS),
	NAME(CTRL_VQ),
	NAME(CTRL_RX),
	NAME(CTRL_VLAN),
	NAME(CTRL_RX_EXTRA),
	NAME(GUEST_ANNOUNCE),
	NAME(MQ),
	NAME(CTRL_MAC_ADDR),
	NEW_NAME(VQ_NOTF_COAL),
	NEW_NAME(NOTF_COAL),
	NEW_NAME(GUEST_USO4),
	NEW_NAME(GUEST_USO6),
	NEW_NAME(HOST_USO),
	NAME(HASH_REPORT),
	NAME(RSS),
	NAME(SPEED_DUPLEX),
};

static void
set_link(struct net_dev *dev, const struct vhub_net_info *info)
{
	const bool up = info->link_up && !net_link_is_down(dev);

	dev->config.status = rte_cpu_to_le_16(up ? VIRTIO_NET_S_LINK_UP : 0);
	dev->config.speed = rte_cpu_to_le_32(info->link_speed_mbps);
	dev->config.duplex = info->full_duplex ? 1 : 0;
}

static void
hold_guest_to(struct net_dev *dev, uint32_t frame_bytes)
{
	__atomic_store_n(&dev->guest_frame_bytes, frame_bytes, __ATOMIC_RELAXED);
	if (frame_bytes < dev->max_frame_bytes)
		__atomic_or_fetch(&dev->restricts, NET_RESTRICTED_BY_MTU, __ATOMIC_RELAXED);
	else
		__atomic_and_fetch(&dev->restricts, ~NET_RESTRICTED_BY_MTU, __ATOMIC_RELAXED);
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
	dev->max_frame_bytes = net_max_frame_bytes(params->mtu);
	if (params->link_down)
		dev->restricts = NET_RESTRICTED_BY_LINK;
	hold_guest_to(dev, dev->max_frame_bytes);
	memcpy(dev->config.mac, &params->mac, sizeof(dev->config.mac));
	dev->config.max_virtqueue_pairs = rte_cpu_to_le_16(params->n_pairs);
	dev->config.mtu = rte_cpu_to_le_16(params->mtu);
	if (has_ctrl(dev)) {
		dev->config.rss_max_key_size = NET_RSS_KEY_BYTES;
		dev->config.supported_hash_types = RTE_LE32(NET_RSS_TYPES);
	}
	if (has_rss(dev))
		dev->config.rss_max_indirection_table_length = RTE_LE16(NET_RSS_TABLE);
	set_link(dev, info);
	dev->dev.features = offered(dev);
	dev->dev.feature_names = &feature_names;
	dev->dev.protocol_features = params->mtu != 0 ? VHUB_USER_PF(NET_MTU) : 0;
	if (dev->path == NULL)
		dev->dev.protocol_features |= VHUB_USER_PF(RARP);
	dev->dev.config_bytes = NET_CONFIG_BYTES;
	dev->dev.max_queues = (uint16_t)(params->n_pairs * 2 + (has_ctrl(dev) ? 1 : 0));
	dev->dev.vrings_per_queue = 2;
}

int
net_config_read(struct vhub_device *device, uint32_t offset, void *buf, uint32_t len)
{
	const struct net_dev *dev = net_dev_of(device);
	const uint64_t mac = __atomic_load_n(&dev->ctrl.mac, __ATOMIC_RELAXED);
	struct virtio_net_config config = dev->config;
	uint8_t space[NET_CONFIG_BYTES] = { 0 };

	if (mac != 0)
		memcpy(config.mac, &mac, sizeof(config.mac));
	if (__atomic_load_n(&dev->ctrl.announce, __ATOMIC_RELAXED) != 0)
		config.status |= RTE_LE16(VIRTIO_NET_S_ANNOUNCE);
	memcpy(space, &config, sizeof(config));
	memcpy(buf, space + offset, len);
	return 0;
}

/* ---- what a session changes ---- */

int
net_ack_features(struct vhub_device *device, uint64_t features)
{
	struct net_dev *dev = net_dev_of(device);

	/* Sent again between a stop and a start, they change nothing (ctrl.c). */
	if (features == 0 || features != dev->guest_features)
		net_ctrl_begin(dev, features);
	dev->guest_features = features;
	if (dev->path == NULL)
		return 0;
	if ((features & VHUB_F(ACCESS_PLATFORM)) != 0)
		return rvhost_iotlb_begin(dev->path);
	rvhost_iotlb_end(dev->path);
	return 0;
}

void
net_reset(struct vhub_device *device)
{
	struct net_dev *dev = net_dev_of(device);

	dev->guest_features = 0;
	dev->rarp.due = false;
	hold_guest_to(dev, dev->max_frame_bytes);
	net_ctrl_begin(dev, 0);
	if (dev->path != NULL)
		rvhost_iotlb_end(dev->path);
}

/* The front end tells the guest this MTU: the port has to carry it, and nothing longer reaches the guest. */
static int
set_mtu(struct net_dev *dev, struct vhub_request *req)
{
	if (req->payload.u64 < VHUB_NET_MTU_MIN || req->payload.u64 > dev->params.mtu)
		return vhub_request_refuse(req, -EINVAL,
				"the port's MTU is %u, the front end wants another",
				dev->params.mtu);
	hold_guest_to(dev, net_max_frame_bytes((uint16_t)req->payload.u64));
	return 0;
}

int
net_request(struct vhub_device *device, struct vhub_request *req)
{
	struct net_dev *dev = net_dev_of(device);

	switch (req->header.request) {
	case VHUB_USER_NET_SET_MTU:
		return set_mtu(dev, req);
	case VHUB_USER_SEND_RARP:
		return net_rarp_request(dev, req);
	default:
		return -ENOTSUP;
	}
}

/* ---- link ---- */

static void
look(struct net_dev *dev)
{
	uint16_t before = dev->config.status;
	struct vhub_net_info info = { 0 };

	dev->driver->info(dev->port, &info);
	set_link(dev, &info);
	if (dev->config.status == before)
		return;
	VHUB_LOG(NOTICE, "%s: the link of %s is %s%s", dev->dev.name, dev->target,
			dev->config.status != 0 ? "up" : "down",
			net_link_is_down(dev) ? " by command" : "");
	vhub_device_config_changed(&dev->dev);
}

void
net_set_link(struct net_dev *dev, bool up)
{
	if (up)
		__atomic_and_fetch(&dev->restricts, ~NET_RESTRICTED_BY_LINK, __ATOMIC_RELAXED);
	else
		__atomic_or_fetch(&dev->restricts, NET_RESTRICTED_BY_LINK, __ATOMIC_RELAXED);
	if (dev->driver->set_link != NULL)
		dev->driver->set_link(dev->port, up);
	net_wake_pairs(dev);
	look(dev);
}

static void
look_at_link(struct vhub_timer *timer)
{
	struct net_dev *dev = vhub_container_of(timer, struct net_dev, link_timer);

	look(dev);
	vhub_timer_arm(dev->dev.executor.loop, timer, LINK_LOOK_US);
}

void
net_set_running(struct vhub_device *device, bool running)
{
	struct net_dev *dev = net_dev_of(device);

	dev->link_timer.fn = look_at_link;
	if (running) {
		vhub_timer_arm(device->executor.loop, &dev->link_timer, 0);
		return;
	}
	vhub_timer_cancel(device->executor.loop, &dev->link_timer);
	if (dev->driver->left != NULL)
		dev->driver->left(dev->port);
}
