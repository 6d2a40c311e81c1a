/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The builder "uplink": arguments to two ports, one of a bridge and one of what the bridge reaches by it,
 * to a device without a front end. Called by whoever has read a device's arguments, through the registry
 * of builders; uplink.c comes next.
 *
 *     bridge=br0,port=[net_tap0,iface=tap0],trunk=all,queues=2
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bsd/string.h>

#include "net_pvt.h"

/* The drivers of the two ports; their keys have different names. */
#define BRIDGE_DRIVER "bridge"
#define WIRE_DRIVER "ethdev"
#define MAX_KEYS 32

struct uplink_builder {
	struct vhub_builder builder; /* first */
	struct net_params params;
	struct vhub_net_port *bridge; /* NULL once a device owns them */
	struct vhub_net_port *wire;
	bool opened;
};

static const char uplink_help[] =
		"bridge=NAME       the bridge that it joins, which is made if need be; required\n"
		"port=PORT         PCI address, name of a port that exists, or [VDEV,ARGUMENTS]; required\n"
		"vlan= trunk= isolation= learn_limit= learn_priority= flood_limit= broadcast_limit= ageing= table=\n"
		"                  as with --net's driver=bridge, for what comes from the wire and goes there\n"
		"rxd= txd= promisc=   as with driver=ethdev, but auto is on where that can be\n"
		"queues=N          queues of the port in each direction (1)\n"
		"mtu=N             set on the port (the port's own); the bridge sends it nothing longer\n"
		"from_guest_packets_per_s= ... to_guest_bytes_burst= frame_sizes= mirror= mirror_direction=\n"
		"                  as with --net, the wire in the place of the guest";

static struct uplink_builder *
builder_of(const struct vhub_builder *builder)
{
	return vhub_container_of(builder, struct uplink_builder, builder);
}

/* ---- arguments ---- */

/* Names of arguments beside those of the bridge's driver, NULL-terminated. */
static const char *const *
own_keys(const struct vhub_net_driver_ops *wire)
{
	static const char *keys[MAX_KEYS + 1] = { "queues", "mtu" };
	unsigned int n = 2, i;

	for (i = 0; net_service_keys[i] != NULL && n < MAX_KEYS; i++)
		keys[n++] = net_service_keys[i];
	for (i = 0; wire->keys[i] != NULL && n < MAX_KEYS; i++)
		keys[n++] = wire->keys[i];
	keys[n] = NULL;
	return keys;
}

static int
parse_params(const char *name, const struct rte_kvargs *args, struct net_params *params,
		char *error, size_t error_len)
{
	uint64_t n_pairs = 1, mtu = 0;
	int ret;

	strlcpy(params->name, name, sizeof(params->name));
	ret = vhub_arg_uint(args, "queues", 1, VHUB_NET_MAX_PAIRS, &n_pairs, error, error_len);
	if (ret == 0)
		ret = vhub_arg_uint(args, "mtu", VHUB_NET_MTU_MIN, VHUB_NET_MTU_MAX, &mtu, error,
				error_len);
	params->n_pairs = (uint16_t)n_pairs;
	params->mtu = (uint16_t)mtu;
	return ret == 0 ? net_params_parse_services(args, params, error, error_len) : ret;
}

static int
parse_port(const struct vhub_net_driver_ops *driver, const char *name,
		const struct rte_kvargs *args, struct vhub_net_port **out, char *error,
		size_t error_len)
{
	int ret = driver->parse(args, out, error, error_len);

	if (ret != 0)
		return ret;
	strlcpy((*out)->name, name, sizeof((*out)->name));
	(*out)->is_uplink = true;
	return 0;
}

/* ---- slots ---- */

static void
builder_destroy(struct vhub_builder *builder)
{
	struct uplink_builder *b = builder_of(builder);

	if (b->bridge != NULL)
		b->bridge->ops->destroy(b->bridge);
	if (b->wire != NULL)
		b->wire->ops->destroy(b->wire);
	free(b);
}

/* The wire first: what it can carry is the bridge's to know. */
static int
builder_open(struct vhub_builder *builder, char *error, size_t error_len)
{
	struct uplink_builder *b = builder_of(builder);
	const struct net_params *params = &b->params;
	struct vhub_net_info info = { .mtu = 0 };
	int ret;

	if (b->opened)
		return 0;
	ret = b->wire->ops->open(b->wire, params->n_pairs, NULL, params->mtu, error, error_len);
	if (ret != 0)
		return ret;
	b->wire->ops->info(b->wire, &info);
	ret = b->bridge->ops->open(b->bridge, params->n_pairs, NULL,
			params->mtu != 0 ? params->mtu : info.mtu, error, error_len);
	b->opened = ret == 0;
	return ret;
}

static int
builder_build(struct vhub_builder *builder, const struct vhub_executor *executor,
		struct vhub_device **out, char *error, size_t error_len)
{
	struct uplink_builder *b = builder_of(builder);
	int ret;

	if (!b->opened || b->wire == NULL || executor->n_lcores == 0) {
		snprintf(error, error_len, "%s: its ports are not open, or there is no lcore",
				b->params.name);
		return -EINVAL;
	}
	ret = net_uplink_create(&b->params, b->bridge, b->wire, executor, out, error, error_len);
	b->bridge = NULL;
	b->wire = NULL;
	return ret;
}

static unsigned int
builder_max_lcores(const struct vhub_builder *builder)
{
	return builder_of(builder)->params.n_pairs;
}

static int
builder_parse(const char *name, const struct rte_kvargs *args, struct vhub_builder **out,
		char *error, size_t error_len);

static const struct vhub_builder_ops uplink_builder_ops = {
	.name = "uplink",
	.help = uplink_help,
	.parse = builder_parse,
	.open = builder_open,
	.build = builder_build,
	.destroy = builder_destroy,
	.max_lcores = builder_max_lcores,
	.standalone = true,
	.end_ms = NET_END_MS,
};

static int
builder_parse(const char *name, const struct rte_kvargs *args, struct vhub_builder **out,
		char *error, size_t error_len)
{
	const struct vhub_net_driver_ops *bridge = vhub_net_driver_find(BRIDGE_DRIVER);
	const struct vhub_net_driver_ops *wire = vhub_net_driver_find(WIRE_DRIVER);
	struct uplink_builder *b;
	int ret;

	if (bridge == NULL || wire == NULL) {
		snprintf(error, error_len, "this vhub has no driver %s",
				bridge == NULL ? BRIDGE_DRIVER : WIRE_DRIVER);
		return -EINVAL;
	}
	ret = vhub_arg_check_keys(args, own_keys(wire), bridge, error, error_len);
	if (ret != 0)
		return ret;
	b = calloc(1, sizeof(*b));
	if (b == NULL)
		return -ENOMEM;
	b->builder.ops = &uplink_builder_ops;
	ret = parse_params(name, args, &b->params, error, error_len);
	if (ret == 0)
		ret = parse_port(bridge, name, args, &b->bridge, error, error_len);
	if (ret == 0)
		ret = parse_port(wire, name, args, &b->wire, error, error_len);
	if (ret != 0) {
		builder_destroy(&b->builder);
		return ret;
	}
	*out = &b->builder;
	return 0;
}

VHUB_BUILDER_REGISTER(uplink_builder_ops)
