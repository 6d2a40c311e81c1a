/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Control methods about network ports that are served. Called by lib/control; next: slot_change.c.
 */
#include <errno.h>
#include <string.h>

#include "control_methods.h"

static const char *
text(const json_t *params, const char *name)
{
	return json_string_value(json_object_get(params, name));
}

static void
port_set_link(struct vhub_control_call *call, const json_t *params, void *arg)
{
	const struct control_context *context = arg;
	const char *state = text(params, "state");
	const bool up = strcmp(state, "up") == 0;
	char error[512];
	int ret;

	if (!up && strcmp(state, "down") != 0) {
		vhub_control_refuse(call, VHUB_CONTROL_INVALID_PARAMS,
				"state=%s; allowed: up or down", state);
		return;
	}
	ret = slots_set_link(context->slots, text(params, "name"), up, error, sizeof(error));
	if (ret == 0)
		vhub_control_result(call, json_true());
	else
		vhub_control_refuse(call,
				ret == -EINVAL ? VHUB_CONTROL_INVALID_PARAMS : control_code(ret),
				"%s", error);
}

static const struct vhub_control_param link_params[] = {
	{ "name", VHUB_CONTROL_STRING, true, "the port's name" },
	{ "state", VHUB_CONTROL_STRING, true,
			"down, or up: as the link of what the port is joined to" },
	{ .name = NULL },
};

const struct vhub_control_method control_port_set_link = {
	.name = "port_set_link",
	.help = "Takes the link of a network port down, or leaves it to what the port is joined to.",
	.params = link_params,
	.fn = port_set_link,
};
