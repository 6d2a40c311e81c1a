/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A port from its making to its end, and what is changed of it while it is there: its link, what its driver lets
 * be changed. Called by builder.c, which opened it for a guest, uplink.c and vhubd; net.c comes next.
 */
#include <errno.h>
#include <stdio.h>

#include <bsd/string.h>

#include "net_pvt.h"
#include "vhub_alloc.h"

/* ---- the end ---- */

void
net_dev_leave(struct net_dev *dev)
{
	net_mirror_leave(dev);
	net_capture_leave(dev);
}

/* No lcore has it any more. */
static void
end_dev(struct vhub_work *work)
{
	struct net_dev *dev = vhub_container_of(work, struct net_dev, end_work);
	struct vhub_net_captured captured;

	net_mirror_destroy(dev);
	if (dev->services.capture != NULL)
		net_capture_end(dev, &captured);
	net_flows_destroy(dev);
	net_dev_free(dev);
}

void
net_dev_end(struct net_dev *dev)
{
	/* The end of a capture waits for its file. */
	dev->end_work = (struct vhub_work){ .kind = VHUB_WORK_STORAGE, .run = end_dev };
	vhub_quiesce_then(&dev->end_work, dev->dev.name);
}

void
net_destroy(struct vhub_device *device)
{
	struct net_dev *dev = net_dev_of(device);

	net_dev_leave(dev);
	dev->driver->destroy(dev->port);
	rvhost_destroy(dev->path);
	net_dev_end(dev);
}

/* ---- while it is there ---- */

struct net_dev *
net_dev_find(const struct vhub_device *device)
{
	return device->ops == &net_ops || device->ops == &net_uplink_ops ? net_dev_of(device) :
									   NULL;
}

struct net_dev *
net_dev_find_or_say(const struct vhub_device *device, char *error, size_t error_len)
{
	struct net_dev *dev = net_dev_find(device);

	if (dev == NULL)
		snprintf(error, error_len, "%s is no port", device->name);
	return dev;
}

int
vhub_net_set_link(struct vhub_device *device, bool up, char *error, size_t error_len)
{
	struct net_dev *dev = net_dev_find(device);

	/* Of an uplink the link is the wire's. */
	if (dev == NULL || dev->uplink != NULL) {
		snprintf(error, error_len, "%s is no port", device->name);
		return -EINVAL;
	}
	net_set_link(dev, up);
	return 0;
}

int
vhub_net_change(struct vhub_device *device, const struct rte_kvargs *args, char *error,
		size_t error_len)
{
	struct net_dev *dev = net_dev_find(device);

	if (dev != NULL && dev->port->ops->change != NULL)
		return dev->port->ops->change(dev->port, args, error, error_len);
	snprintf(error, error_len, "%s is no port whose driver can be changed", device->name);
	return -EINVAL;
}

static void
emit_effective(const struct vhub_net_port *port, vhub_stat_fn emit, void *arg)
{
	if (port->ops->effective != NULL)
		port->ops->effective(port, emit, arg);
}

void
vhub_net_effective_args(const struct vhub_device *device, vhub_stat_fn emit, void *arg)
{
	const struct net_dev *dev = net_dev_find(device);

	if (dev == NULL)
		return;
	emit_effective(dev->port, emit, arg);
	if (dev->uplink != NULL)
		emit_effective(dev->pairs[0].wire->queue.port, emit, arg);
}

/* ---- the making ---- */

struct net_dev *
net_dev_alloc(const struct vhub_device_ops *ops, const struct net_params *params, unsigned int n,
		struct vhub_net_port *port, const struct vhub_executor *executor, int node)
{
	const size_t bytes = sizeof(struct net_dev) + n * sizeof(struct net_pair);
	struct net_dev *dev = vhub_zalloc_node(bytes, node);
	uint16_t i;

	if (dev == NULL)
		return NULL;
	dev->bytes = bytes;
	dev->params = *params;
	dev->port = port;
	dev->driver = port->ops;
	dev->dev.ops = ops;
	dev->dev.executor = *executor;
	dev->ctrl.ring_index = NET_NO_CTRL;
	strlcpy(dev->dev.name, params->name, sizeof(dev->dev.name));
	net_limit_set(&dev->services, &params->qos);
	for (i = 0; i < NET_DIRECTIONS && params->frame_sizes; i++)
		net_services_set(&dev->services, i, NET_SERVES_SIZES, NET_SERVES_SIZES);
	for (i = 0; i < n; i++) {
		dev->pairs[i].dev = dev;
		dev->pairs[i].queue.port = port;
		dev->pairs[i].queue.index = i;
	}
	return dev;
}

void
net_dev_free(struct net_dev *dev)
{
	vhub_free(dev, dev->bytes);
}

static bool
uses_library(const struct net_params *params)
{
	return params->datapath == NET_DATAPATH_LIBRTE_VHOST ||
			(params->datapath == NET_DATAPATH_AUTO && params->iommu);
}

static int
make_library(struct net_dev *dev, char *error, size_t error_len)
{
	const struct net_params *params = &dev->params;
	struct rvhost_dma *dma = NULL;
	int ret = 0;

	dev->dev.foreign = &net_foreign_ops;
	if (params->dma[0] != '\0')
		ret = rvhost_dma_get(params->dma, &dma, error, error_len);
	if (ret == 0)
		ret = rvhost_create(&dev->dev, (uint16_t)(params->n_pairs * 2), params->iommu,
				params->trusted, dev->pool, dma, &dev->path);
	return ret;
}

int
net_create(const struct net_params *params, struct vhub_net_port *port,
		const struct vhub_executor *executor, struct vhub_device **out, char *error,
		size_t error_len)
{
	int node = executor->n_lcores != 0 ? vhub_lcore_node(executor->lcores[0]) : -1;
	struct vhub_net_info info = { .link_speed_mbps = UINT32_MAX };
	struct net_dev *dev;
	int ret;

	dev = net_dev_alloc(&net_ops, params, params->n_pairs, port, executor, node);
	if (dev == NULL)
		return -ENOMEM;
	dev->dev.discards = true;
	dev->dev.chain_bytes = sizeof(struct vhub_chain);
	port->ops->info(port, &info);
	strlcpy(dev->target, info.target, sizeof(dev->target));
	dev->port_takes = info.takes;
	dev->pool = vhub_net_pool(node);
	if (dev->pool == NULL) {
		net_pool_explain(error, error_len);
		ret = -ENOMEM;
		goto free_dev;
	}
	if (uses_library(params)) {
		ret = make_library(dev, error, error_len);
		if (ret != 0)
			goto free_dev;
	}
	net_config_init(dev, &info);
	if (params->n_pairs > 1 && dev->driver->steers)
		ret = net_flows_create(dev, node);
	else
		ret = 0;
	if (ret == 0)
		ret = net_mirror_create(dev, node);
	if (ret != 0)
		goto destroy_path;
	if (params->link_down && dev->driver->set_link != NULL)
		dev->driver->set_link(port, false);
	*out = &dev->dev;
	return 0;

destroy_path:
	net_flows_destroy(dev);
	rvhost_destroy(dev->path);
free_dev:
	net_dev_free(dev);
	return ret;
}
