/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bridges as JSON. Called by control_bridges.c and telemetry_commands.c.
 */
#include <stdio.h>
#include <string.h>

#include <rte_ether.h>

#include "status.h"
#include "vhub_bridge.h"

/* Every second VLAN, "4092+". */
#define VLANS_TEXT_LEN (4094 / 2 * 5 + 1)

/* ---- bridges and ports ---- */

/* As trunk= takes them: "10+20-29". */
static json_t *
vlan_list(const uint64_t *tagged)
{
	char text[VLANS_TEXT_LEN] = "";
	size_t len = 0;
	unsigned int vlan, last;

	for (vlan = 1; vlan <= 4094; vlan = last + 1) {
		last = vlan;
		if ((tagged[vlan / 64] >> vlan % 64 & 1) == 0)
			continue;
		while (last < 4094 && (tagged[(last + 1) / 64] >> (last + 1) % 64 & 1) != 0)
			last++;
		len += (size_t)snprintf(text + len, sizeof(text) - len,
				last > vlan ? "%s%u-%u" : "%s%u", len > 0 ? "+" : "", vlan, last);
	}
	return json_string(len > 0 ? text : "none");
}

static void
add_bridge(void *arg, const struct vhub_bridge_info *bridge)
{
	json_array_append_new(arg,
			json_pack("{s:s, s:I, s:I, s:[]}", "name", bridge->name, "ageing_s",
					(json_int_t)bridge->ageing_s, "max_stations",
					(json_int_t)bridge->max_stations, "ports"));
}

static json_t *
describe_port(const struct vhub_bridge_port *port)
{
	return json_pack("{s:s, s:b, s:i, s:o, s:i, s:i, s:I, s:I, s:s, s:I, s:I}", "name",
			port->name, "uplink", port->is_uplink, "vlan", port->vlan, "trunk",
			vlan_list(port->tagged), "isolation", port->isolation, "mtu", port->mtu,
			"stations", (json_int_t)port->stations, "learn_limit",
			(json_int_t)port->learn_limit, "learn_priority",
			port->has_priority ? "high" : "low", "flood_limit",
			(json_int_t)port->flood_limit, "broadcast_limit",
			(json_int_t)port->broadcast_limit);
}

/* To the bridge that was added last. */
static void
add_port(void *arg, const struct vhub_bridge_port *port)
{
	const json_t *bridge = json_array_get(arg, json_array_size(arg) - 1);

	json_array_append_new(json_object_get(bridge, "ports"), describe_port(port));
}

json_t *
status_bridges(void)
{
	static const struct vhub_bridge_visitor visitor = { .bridge = add_bridge,
		.port = add_port };
	json_t *out = json_array();

	vhub_bridge_walk(&visitor, out);
	return out;
}

struct find_port {
	const char *name;
	json_t *found;
};

static void
pass_bridge(void *arg, const struct vhub_bridge_info *bridge)
{
	(void)arg;
	(void)bridge;
}

static void
find_port(void *arg, const struct vhub_bridge_port *port)
{
	struct find_port *find = arg;

	if (find->found == NULL && strcmp(port->name, find->name) == 0)
		find->found = describe_port(port);
}

json_t *
status_bridge_port(const char *name)
{
	static const struct vhub_bridge_visitor visitor = { .bridge = pass_bridge,
		.port = find_port };
	struct find_port find = { .name = name };

	vhub_bridge_walk(&visitor, &find);
	return find.found != NULL ? find.found : json_null();
}

/* ---- stations ---- */

static void
add_station(void *arg, const struct vhub_bridge_station *station)
{
	char mac[RTE_ETHER_ADDR_FMT_SIZE];

	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x",
			RTE_ETHER_ADDR_BYTES(&station->mac));
	json_array_append_new(arg,
			json_pack("{s:s, s:i, s:s, s:b, s:I}", "mac", mac, "vlan", station->vlan,
					"port", station->port, "static", station->is_static,
					"age_s", (json_int_t)station->age_s));
}

int
status_stations(const char *bridge, uint32_t from, json_t **out)
{
	json_t *stations = json_array();
	int ret = vhub_bridge_stations(bridge, &from, add_station, stations);

	*out = NULL;
	if (ret != 0)
		json_decref(stations);
	else
		*out = json_pack("{s:o, s:I}", "stations", stations, "next", (json_int_t)from);
	return ret;
}
