/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Control methods about bridges, which ports with driver=bridge make. Called by lib/control; next:
 * status_bridges.c, slot_change.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_ether.h>

#include "control_methods.h"
#include "status.h"
#include "vhub_bridge.h"

/* ---- bridge_list ---- */

static void
bridge_list(struct vhub_control_call *call, const json_t *params, void *arg)
{
	(void)params;
	(void)arg;
	vhub_control_result(call, status_bridges());
}

const struct vhub_control_method control_bridge_list = {
	.name = "bridge_list",
	.help = "Lists bridges and their ports.",
	.fn = bridge_list,
};

/* ---- bridge_fdb ---- */

static void
bridge_fdb(struct vhub_control_call *call, const json_t *params, void *arg)
{
	const char *name = control_text(params, "bridge");
	const json_int_t from = json_integer_value(json_object_get(params, "from"));
	json_t *stations = NULL;

	(void)arg;
	if (from < 0 || from > UINT32_MAX) {
		vhub_control_refuse(call, VHUB_CONTROL_INVALID_PARAMS,
				"from=%" JSON_INTEGER_FORMAT
				"; allowed: 0, or the next of an answer",
				from);
		return;
	}
	if (status_stations(name, (uint32_t)from, &stations) == -ENOENT) {
		vhub_control_refuse(call, CONTROL_NO_DEVICE, "there is no bridge %.64s", name);
		return;
	}
	vhub_control_result(call, stations);
}

static const struct vhub_control_param bridge_fdb_params[] = {
	{ "bridge", VHUB_CONTROL_STRING, true, "its name" },
	{ "from", VHUB_CONTROL_INTEGER, false,
			"where to go on: next of the last answer; from the beginning (0)" },
	{ .name = NULL },
};

const struct vhub_control_method control_bridge_fdb = {
	.name = "bridge_fdb",
	.help = "Lists some of the stations that a bridge knows, where they are, and where to go on.",
	.params = bridge_fdb_params,
	.fn = bridge_fdb,
};

/* ---- bridge_fdb_flush ---- */

static void
bridge_fdb_flush(struct vhub_control_call *call, const json_t *params, void *arg)
{
	const char *bridge = control_text(params, "bridge"), *port = control_text(params, "port");
	uint64_t vlan = 0;
	uint32_t n = 0;
	int ret;

	(void)arg;
	if (control_number(call, params, "vlan", &vlan) != 0)
		return;
	if (vlan > RTE_ETHER_MAX_VLAN_ID - 1) {
		vhub_control_refuse(call, VHUB_CONTROL_INVALID_PARAMS,
				"vlan=%" PRIu64 ": allowed: 1 to %d, or 0: all", vlan,
				RTE_ETHER_MAX_VLAN_ID - 1);
		return;
	}
	ret = vhub_bridge_flush(bridge, port, (uint16_t)vlan, &n);
	if (ret == -ENOENT)
		vhub_control_refuse(call, CONTROL_NO_DEVICE, "there is no bridge %.64s", bridge);
	else if (ret != 0)
		vhub_control_refuse(call, CONTROL_NO_DEVICE, "bridge %.64s has no port %.64s",
				bridge, port);
	else
		vhub_control_result(call, json_pack("{s:I}", "stations", (json_int_t)n));
}

static const struct vhub_control_param fdb_flush_params[] = {
	{ "bridge", VHUB_CONTROL_STRING, true, "its name" },
	{ "port", VHUB_CONTROL_STRING, false, "the name of a device: what was learned there" },
	{ "vlan", VHUB_CONTROL_INTEGER, false, "what was learned in this VLAN; 0 all" },
	{ .name = NULL },
};

const struct vhub_control_method control_bridge_fdb_flush = {
	.name = "bridge_fdb_flush",
	.help = "Has a bridge forget the stations that it has learned; tells how many.",
	.params = fdb_flush_params,
	.fn = bridge_fdb_flush,
};

/* ---- bridge_port_set ---- */

static const struct vhub_control_param port_set_params[] = {
	{ "name", VHUB_CONTROL_STRING, true, "of the port or uplink" },
	{ "vlan", VHUB_CONTROL_INTEGER, false, "of frames without a tag; 0 none" },
	{ "trunk", VHUB_CONTROL_STRING, false,
			"VLANs of frames with a tag, such as 10+20-29; all or none" },
	{ "isolation", VHUB_CONTROL_INTEGER, false,
			"group of ports that do not reach one another; 0 none" },
	{ "learn_limit", VHUB_CONTROL_INTEGER, false, "stations that are learned there" },
	{ "flood_limit", VHUB_CONTROL_INTEGER, false,
			"packets a second to stations that nobody knows; 0 no limit" },
	{ "broadcast_limit", VHUB_CONTROL_INTEGER, false, "the same of broadcast and multicast" },
	{ .name = NULL },
};

static void
port_was_set(const struct slot *slot, void *arg, int result, const char *why)
{
	struct vhub_control_call *call = arg;

	if (result == 0)
		vhub_control_result(call, status_bridge_port(slot->options.name));
	else
		control_refuse_change(call, result, why);
}

/* With a trunk alone the VLAN stays as it is, and is saved as well: a new port with such a trunk would have another. */
static void
add_vlan_kept(const json_t *params, FILE *out)
{
	json_t *port;
	const json_t *vlan;

	if (json_object_get(params, "trunk") == NULL || json_object_get(params, "vlan") != NULL)
		return;
	port = status_bridge_port(control_text(params, "name"));
	vlan = json_object_get(port, "vlan");
	if (vlan != NULL)
		fprintf(out, ",vlan=%" JSON_INTEGER_FORMAT, json_integer_value(vlan));
	json_decref(port);
}

/* "vlan=20,trunk=10+20": what is given. Returns 0, -EINVAL, -ENOMEM. */
static int
list_given(const json_t *params, char **list)
{
	size_t len;
	FILE *out = open_memstream(list, &len);
	const char *text;
	const json_t *value;
	unsigned int i;
	int ret = 0;

	if (out == NULL)
		return -ENOMEM;
	for (i = 1; port_set_params[i].name != NULL; i++) {
		value = json_object_get(params, port_set_params[i].name);
		if (value == NULL)
			continue;
		text = json_string_value(value);
		/* The end of a value is not the client's to set, and white space is nothing that is saved. */
		if (text != NULL && strpbrk(text, ",=[] \t\n\v\f\r") != NULL)
			ret = -EINVAL;
		fprintf(out, "%s%s=", ftell(out) > 0 ? "," : "", port_set_params[i].name);
		if (text != NULL)
			fputs(text, out);
		else
			fprintf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	}
	add_vlan_kept(params, out);
	if (fclose(out) != 0)
		ret = -ENOMEM;
	if (ret != 0)
		free(*list);
	return ret;
}

static void
bridge_port_set(struct vhub_control_call *call, const json_t *params, void *arg)
{
	const struct control_context *context = arg;
	char error[512], *list;
	int ret = list_given(params, &list);

	if (ret != 0) {
		vhub_control_refuse(call,
				ret == -EINVAL ? VHUB_CONTROL_INVALID_PARAMS :
						 VHUB_CONTROL_INTERNAL,
				ret == -EINVAL ?
						"trunk: allowed: all, none, or VLANs such as 10+20-29" :
						"out of memory");
		return;
	}
	ret = slots_change_port(context->slots, control_text(params, "name"), list, port_was_set,
			call, error, sizeof(error));
	free(list);
	if (ret != 0)
		control_refuse_change(call, ret, error);
}

const struct vhub_control_method control_bridge_port_set = {
	.name = "bridge_port_set",
	.help = "Changes what a port may do on its bridge; what is not given stays as it is.",
	.params = port_set_params,
	.fn = bridge_port_set,
};
