/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The builder "net": arguments to a port of a driver, to a device. Called by whoever has read a
 * device's arguments, through the registry of builders; port.c comes next.
 *
 *     driver=ethdev,port=net_tap0,queues=2,mtu=1500
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bsd/string.h>

#include "net_pvt.h"

struct net_builder {
	struct vhub_builder builder; /* first */
	struct net_params params;
	const struct vhub_net_driver_ops *driver;
	struct vhub_net_port *port; /* NULL once a device owns it */
	bool opened;
};

#define NET_SERVICE_KEYS \
	"from_guest_packets_per_s", "from_guest_packets_burst", "from_guest_bytes_per_s", \
			"from_guest_bytes_burst", "to_guest_packets_per_s", \
			"to_guest_packets_burst", "to_guest_bytes_per_s", "to_guest_bytes_burst", \
			"frame_sizes", "mirror", "mirror_direction"
/* The builder's own arguments, NULL-terminated. */
static const char *const own_keys[] = { "driver", "queues", "mac", "mtu", "iommu", "trust",
	"datapath", "dma", "ctrl_vq", "link", NET_SERVICE_KEYS, NULL };
const char *const net_service_keys[] = { NET_SERVICE_KEYS, NULL };

static struct net_builder *
builder_of(const struct vhub_builder *builder)
{
	return vhub_container_of(builder, struct net_builder, builder);
}

static int
parse_mac(const struct rte_kvargs *args, struct net_params *params, char *error, size_t error_len)
{
	const char *text = NULL;
	int ret = vhub_arg_text(args, "mac", &text, error, error_len);

	if (ret != 0 || text == NULL)
		return ret;
	if (rte_ether_unformat_addr(text, &params->mac) != 0 ||
			!rte_is_valid_assigned_ether_addr(&params->mac)) {
		snprintf(error, error_len,
				"mac=%s is not the address of one station, such as 02:00:00:00:00:01",
				text);
		return -EINVAL;
	}
	params->has_mac = true;
	return 0;
}

/* What of a device is switched on or off. */
static int
parse_switches(const struct rte_kvargs *args, struct net_params *params, char *error,
		size_t error_len)
{
	static const char *const links[] = { "up", "down", NULL };
	unsigned int link = 0;
	bool ctrl = true;
	int ret;

	ret = vhub_arg_bool(args, "iommu", &params->iommu, error, error_len);
	if (ret == 0)
		ret = vhub_arg_bool(args, "trust", &params->trusted, error, error_len);
	if (ret == 0)
		ret = vhub_arg_bool(args, "ctrl_vq", &ctrl, error, error_len);
	if (ret == 0)
		ret = vhub_arg_choice(args, "link", links, &link, error, error_len);
	params->no_ctrl = !ctrl;
	params->link_down = link != 0;
	return ret;
}

static int
parse_qos(const struct rte_kvargs *args, struct vhub_net_qos *qos, char *error, size_t error_len)
{
	enum vhub_net_limit i;
	int ret = 0;

	for (i = 0; i < VHUB_NET_LIMITS && ret == 0; i++) {
		const char *key = vhub_net_limit_name(i);

		if (strstr(key, "_bytes_") != NULL)
			ret = vhub_arg_size(args, key, 0, VHUB_NET_MAX_BYTES, &qos->limits[i],
					error, error_len);
		else
			ret = vhub_arg_count(args, key, 0, VHUB_NET_MAX_PACKETS, &qos->limits[i],
					error, error_len);
	}
	return ret == 0 ? net_limit_check(qos, error, error_len) : ret;
}

static int
parse_mirror(const char *name, const struct rte_kvargs *args, struct vhub_net_mirror *mirror,
		char *error, size_t error_len)
{
	static const char *const ways[] = { "both", "from_guest", "to_guest", NULL };
	const char *to = NULL;
	unsigned int way = 0;
	int ret;

	ret = vhub_arg_choice(args, "mirror_direction", ways, &way, error, error_len);
	if (ret == 0)
		ret = vhub_arg_text(args, "mirror", &to, error, error_len);
	if (ret != 0 || to == NULL)
		return ret;
	if (strlen(to) >= sizeof(mirror->to)) {
		snprintf(error, error_len, "mirror=%.64s...: no port has so long a name", to);
		return -EINVAL;
	}
	if (strcmp(to, VHUB_NET_NO_MIRROR) != 0)
		strlcpy(mirror->to, to, sizeof(mirror->to));
	mirror->from_guest = way != 2;
	mirror->to_guest = way != 1;
	return net_mirror_check(name, mirror, error, error_len);
}

/* Copies by a DMA engine are the library's, and it has none behind a vIOMMU. */
static int
parse_dma(const struct rte_kvargs *args, struct net_params *params, char *error, size_t error_len)
{
	const char *name = NULL;
	int ret = vhub_arg_text(args, "dma", &name, error, error_len);

	if (ret != 0 || name == NULL)
		return ret;
	ret = -EINVAL;
	if (strlen(name) >= sizeof(params->dma))
		snprintf(error, error_len, "dma=%.64s...: no DMA device has so long a name", name);
	else if (params->datapath != NET_DATAPATH_LIBRTE_VHOST)
		snprintf(error, error_len, "dma=%s: takes datapath=librte_vhost", name);
	else if (params->iommu)
		snprintf(error, error_len, "dma=%s: serves no vIOMMU, leave out iommu=on", name);
	else
		ret = 0;
	if (ret == 0)
		strlcpy(params->dma, name, sizeof(params->dma));
	return ret;
}

int
net_params_parse_services(const struct rte_kvargs *args, struct net_params *params, char *error,
		size_t error_len)
{
	int ret = parse_qos(args, &params->qos, error, error_len);

	if (ret == 0)
		ret = parse_mirror(params->name, args, &params->mirror, error, error_len);
	if (ret == 0)
		ret = vhub_arg_bool(args, "frame_sizes", &params->frame_sizes, error, error_len);
	return ret;
}

static int
parse_params(const char *name, const struct rte_kvargs *args, struct net_params *params,
		char *error, size_t error_len)
{
	static const char *const paths[] = { "auto", "direct", "librte_vhost", NULL };
	unsigned int path = NET_DATAPATH_AUTO;
	uint64_t n_pairs = 1, mtu = 0;
	int ret;

	strlcpy(params->name, name, sizeof(params->name));
	ret = vhub_arg_uint(args, "queues", 1, VHUB_NET_MAX_PAIRS, &n_pairs, error, error_len);
	if (ret == 0)
		ret = vhub_arg_uint(args, "mtu", VHUB_NET_MTU_MIN, VHUB_NET_MTU_MAX, &mtu, error,
				error_len);
	if (ret == 0)
		ret = parse_switches(args, params, error, error_len);
	if (ret == 0)
		ret = vhub_arg_choice(args, "datapath", paths, &path, error, error_len);
	if (ret == 0 && path == NET_DATAPATH_DIRECT && params->iommu) {
		snprintf(error, error_len,
				"datapath=direct: serves no vIOMMU; iommu=on takes librte_vhost");
		ret = -EINVAL;
	}
	params->datapath = (enum net_datapath)path;
	if (ret == 0)
		ret = parse_dma(args, params, error, error_len);
	if (ret == 0)
		ret = net_params_parse_services(args, params, error, error_len);
	if (ret == 0)
		ret = parse_mac(args, params, error, error_len);
	params->n_pairs = (uint16_t)n_pairs;
	params->mtu = (uint16_t)mtu;
	return ret;
}

static int
builder_parse(const char *name, const struct rte_kvargs *args, struct vhub_builder **out,
		char *error, size_t error_len);

static int
builder_open(struct vhub_builder *builder, char *error, size_t error_len)
{
	struct net_builder *b = builder_of(builder);
	const struct net_params *params = &b->params;
	int ret;

	if (b->opened)
		return 0;
	ret = b->driver->open(b->port, params->n_pairs, params->has_mac ? &params->mac : NULL,
			params->mtu, error, error_len);
	b->opened = ret == 0;
	return ret;
}

static int
builder_build(struct vhub_builder *builder, const struct vhub_executor *executor,
		struct vhub_device **out, char *error, size_t error_len)
{
	struct net_builder *b = builder_of(builder);
	int ret;

	if (b->port == NULL || !b->opened) {
		snprintf(error, error_len, "%s: the port is %s", b->params.name,
				b->port == NULL ? "in use" : "not open");
		return -EINVAL;
	}
	ret = net_create(&b->params, b->port, executor, out, error, error_len);
	if (ret == 0)
		b->port = NULL;
	return ret;
}

static void
builder_destroy(struct vhub_builder *builder)
{
	struct net_builder *b = builder_of(builder);

	if (b->port != NULL)
		b->driver->destroy(b->port);
	free(b);
}

/* Queue pairs are spread; a pair stays on one lcore. */
static unsigned int
builder_max_lcores(const struct vhub_builder *builder)
{
	return builder_of(builder)->params.n_pairs;
}

static const struct vhub_builder_ops net_builder_ops = {
	.name = "net",
	.help = net_builder_help,
	.parse = builder_parse,
	.open = builder_open,
	.build = builder_build,
	.destroy = builder_destroy,
	.max_lcores = builder_max_lcores,
	.drivers = &net_drivers,
	.end_ms = NET_END_MS,
};

static int
builder_parse(const char *name, const struct rte_kvargs *args, struct vhub_builder **out,
		char *error, size_t error_len)
{
	const void *driver = NULL;
	struct net_builder *b;
	int ret;

	ret = vhub_arg_driver(args, &net_drivers, &driver, error, error_len);
	if (ret == 0)
		ret = vhub_arg_check_keys(args, own_keys, driver, error, error_len);
	if (ret != 0)
		return ret;
	b = calloc(1, sizeof(*b));
	if (b == NULL)
		return -ENOMEM;
	b->builder.ops = &net_builder_ops;
	b->driver = driver;
	ret = parse_params(name, args, &b->params, error, error_len);
	if (ret == 0)
		ret = b->driver->parse(args, &b->port, error, error_len);
	if (ret != 0) {
		free(b);
		return ret;
	}
	strlcpy(b->port->name, name, sizeof(b->port->name));
	*out = &b->builder;
	return 0;
}

VHUB_BUILDER_REGISTER(net_builder_ops)
