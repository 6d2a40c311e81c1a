/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Control methods about bridges, which ports with driver=bridge make. Called by lib/control; next:
 * status_bridges.c.
 */
#include <errno.h>

#include "control_methods.h"
#include "status.h"

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
	json_t *stations = NULL;

	(void)arg;
	if (status_stations(name, &stations) == -ENOENT) {
		vhub_control_refuse(call, CONTROL_NO_DEVICE, "there is no bridge %.64s", name);
		return;
	}
	vhub_control_result(call, stations);
}

static const struct vhub_control_param bridge_fdb_params[] = {
	{ "bridge", VHUB_CONTROL_STRING, true, "its name" },
	{ .name = NULL },
};

const struct vhub_control_method control_bridge_fdb = {
	.name = "bridge_fdb",
	.help = "Lists the stations that a bridge knows, and where they are.",
	.params = bridge_fdb_params,
	.fn = bridge_fdb,
};
