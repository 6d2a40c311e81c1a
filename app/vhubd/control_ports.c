/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Control methods about network ports that are served. Called by lib/control; next: slot_change.c.
 */
#include <string.h>

#include <bsd/string.h>

#include "control_methods.h"

/* ---- port_set_link ---- */

static void
port_set_link(struct vhub_control_call *call, const json_t *params, void *arg)
{
	const struct control_context *context = arg;
	const char *state = control_text(params, "state");
	const bool up = strcmp(state, "up") == 0;
	char error[512];
	int ret;

	if (!up && strcmp(state, "down") != 0) {
		vhub_control_refuse(call, VHUB_CONTROL_INVALID_PARAMS,
				"state=%s; allowed: up or down", state);
		return;
	}
	ret = slots_set_link(context->slots, control_text(params, "name"), up, error,
			sizeof(error));
	control_end_change(call, ret, error);
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

/* ---- port_set_qos ---- */

static void
port_set_qos(struct vhub_control_call *call, const json_t *params, void *arg)
{
	const struct control_context *context = arg;
	struct vhub_net_qos set;
	enum vhub_net_limit i;
	json_t *now;
	char error[512];
	int ret;

	for (i = 0; i < VHUB_NET_LIMITS; i++) {
		set.limits[i] = UINT64_MAX;
		if (control_number(call, params, vhub_net_limit_name(i), &set.limits[i]) != 0)
			return;
	}
	ret = slots_set_port_qos(context->slots, control_text(params, "name"), &set, error,
			sizeof(error));
	if (ret != 0) {
		control_refuse_change(call, ret, error);
		return;
	}
	now = json_object();
	for (i = 0; i < VHUB_NET_LIMITS; i++)
		json_object_set_new(now, vhub_net_limit_name(i),
				json_integer((json_int_t)set.limits[i]));
	vhub_control_result(call, now);
}

static const struct vhub_control_param qos_params[] = {
	{ "name", VHUB_CONTROL_STRING, true, "the port's name" },
	{ "from_guest_packets_per_s", VHUB_CONTROL_INTEGER, false,
			"most packets that its guest may send in a second; 0 no limit" },
	{ "from_guest_packets_burst", VHUB_CONTROL_INTEGER, false,
			"of them at once after a pause; 0 those of a tenth of a second" },
	{ "from_guest_bytes_per_s", VHUB_CONTROL_INTEGER, false, "the same of bytes" },
	{ "from_guest_bytes_burst", VHUB_CONTROL_INTEGER, false,
			"of them at once; never less than the longest frame" },
	{ "to_guest_packets_per_s", VHUB_CONTROL_INTEGER, false,
			"most packets for its guest in a second; 0 no limit" },
	{ "to_guest_packets_burst", VHUB_CONTROL_INTEGER, false,
			"of them at once after a pause; 0 those of a tenth of a second" },
	{ "to_guest_bytes_per_s", VHUB_CONTROL_INTEGER, false, "the same of bytes" },
	{ "to_guest_bytes_burst", VHUB_CONTROL_INTEGER, false,
			"of them at once; never less than the longest frame" },
	{ .name = NULL },
};

const struct vhub_control_method control_port_set_qos = {
	.name = "port_set_qos",
	.help = "Limits a network port while it is used; what is not given stays as it is.",
	.params = qos_params,
	.fn = port_set_qos,
};

/* ---- port_mirror_set, port_mirror_clear ---- */

static void
set_mirror(struct vhub_control_call *call, const char *name, const struct vhub_net_mirror *set,
		const struct control_context *context)
{
	char error[512];
	int ret = slots_set_mirror(context->slots, name, set, error, sizeof(error));

	control_end_change(call, ret, error);
}

static void
port_mirror_set(struct vhub_control_call *call, const json_t *params, void *arg)
{
	const char *to = control_text(params, "to");
	struct vhub_net_mirror set = { 0 };

	if (control_direction(call, params, &set.from_guest, &set.to_guest) != 0)
		return;
	if (to[0] == '\0' || strcmp(to, VHUB_NET_NO_MIRROR) == 0 ||
			strlcpy(set.to, to, sizeof(set.to)) >= sizeof(set.to)) {
		vhub_control_refuse(call, VHUB_CONTROL_INVALID_PARAMS,
				"to=%.64s; allowed: the name of another port", to);
		return;
	}
	set_mirror(call, control_text(params, "name"), &set, arg);
}

static const struct vhub_control_param mirror_set_params[] = {
	{ "name", VHUB_CONTROL_STRING, true, "of the port that is mirrored" },
	{ "to", VHUB_CONTROL_STRING, true, "of the port whose guest gets the copies" },
	{ "direction", VHUB_CONTROL_STRING, false, "from_guest, to_guest or both (both)" },
	{ .name = NULL },
};

const struct vhub_control_method control_port_mirror_set = {
	.name = "port_mirror_set",
	.help = "Has what passes a network port go to another port's guest as well.",
	.params = mirror_set_params,
	.fn = port_mirror_set,
};

static void
port_mirror_clear(struct vhub_control_call *call, const json_t *params, void *arg)
{
	const struct vhub_net_mirror none = { 0 };

	set_mirror(call, control_text(params, "name"), &none, arg);
}

static const struct vhub_control_param mirror_clear_params[] = {
	{ "name", VHUB_CONTROL_STRING, true, "of the port that is mirrored" },
	{ .name = NULL },
};

const struct vhub_control_method control_port_mirror_clear = {
	.name = "port_mirror_clear",
	.help = "Ends the mirror of a network port, if it has one.",
	.params = mirror_clear_params,
	.fn = port_mirror_clear,
};
