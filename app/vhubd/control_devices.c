/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Control methods about devices. Called by lib/control; next: slot_spec.c and slots.c, status.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bsd/string.h>

#include "control_methods.h"
#include "slot_spec.h"
#include "status.h"

/* ---- device_add ---- */

static void
device_added(const struct slot *slot, void *arg, int result, const char *why)
{
	struct vhub_control_call *call = arg;

	(void)slot;
	if (result == 0)
		vhub_control_result(call, json_true());
	else
		vhub_control_refuse(call, result == -ESHUTDOWN ? CONTROL_STOPPING : CONTROL_FAILED,
				"%s", why);
}

/* One member of `args` as text. Returns 0 or -EINVAL. */
static int
append_arg(char **spec, const char *key, const json_t *value, char *error, size_t error_len)
{
	char number[32];

	if (json_is_string(value))
		return slot_spec_append(spec, key, json_string_value(value), error, error_len);
	if (json_is_boolean(value))
		return slot_spec_append(spec, key, json_is_true(value) ? "on" : "off", error,
				error_len);
	if (json_is_integer(value)) {
		snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT,
				json_integer_value(value));
		return slot_spec_append(spec, key, number, error, error_len);
	}
	snprintf(error, error_len, "%s: a value is a string, an integer, true or false", key);
	return -EINVAL;
}

/* "NAME,key=value,..." from a name and args of either form; NULL with a sentence. */
static char *
make_spec(const char *name, const json_t *args, char *error, size_t error_len)
{
	const char *key;
	json_t *value;
	char *spec;

	if (strpbrk(name, ",=") != NULL) {
		snprintf(error, error_len, "name: '%.64s' has a comma or a =", name);
		return NULL;
	}
	snprintf(error, error_len, "out of memory");
	if (json_is_string(args))
		return asprintf(&spec, "%s,%s", name, json_string_value(args)) >= 0 ? spec : NULL;
	spec = strdup(name);
	json_object_foreach((json_t *)(uintptr_t)args, key, value)
	{
		if (spec != NULL && append_arg(&spec, key, value, error, error_len) != 0) {
			free(spec);
			return NULL;
		}
	}
	return spec;
}

static void
unknown_kind(struct vhub_control_call *call, const char *kind)
{
	const struct vhub_builder_ops *ops;
	char kinds[256] = "";
	unsigned int i;

	for (i = 0; (ops = vhub_builder_at(i)) != NULL; i++) {
		strlcat(kinds, i == 0 ? "" : ", ", sizeof(kinds));
		strlcat(kinds, ops->name, sizeof(kinds));
	}
	vhub_control_refuse(call, VHUB_CONTROL_INVALID_PARAMS,
			"kind=%.64s: there is no such kind of device; allowed: %s", kind, kinds);
}

/* Returns 0, or -EINVAL with one sentence. */
static int
parse_device(struct slot_options *slot, const struct vhub_builder_ops *ops, const json_t *params,
		char *error, size_t error_len)
{
	char *spec = make_spec(control_text(params, "name"), json_object_get(params, "args"), error,
			error_len);
	int ret;

	memset(slot, 0, sizeof(*slot));
	if (spec == NULL)
		return -EINVAL;
	error[0] = '\0';
	ret = slot_spec_parse(slot, ops, spec, error, error_len);
	free(spec);
	/* The number could be that of any fd of ours, also of one that is not for devices. */
	if (ret == 0 && slot->connection == CONNECTION_INHERIT) {
		snprintf(error, error_len,
				"fd=%d: only devices that vhubd starts with can have inherited sockets; give socket=PATH or connect=PATH",
				slot->fd);
		ret = -EINVAL;
	}
	if (ret != 0 && error[0] == '\0')
		snprintf(error, error_len, "%s", strerror(-ret));
	return ret == 0 ? 0 : -EINVAL;
}

static void
device_add(struct vhub_control_call *call, const json_t *params, void *arg)
{
	const struct control_context *context = arg;
	const struct vhub_builder_ops *ops = vhub_builder_find(control_text(params, "kind"));
	struct slot_options slot;
	char error[1024];
	int ret;

	if (ops == NULL) {
		unknown_kind(call, control_text(params, "kind"));
		return;
	}
	ret = parse_device(&slot, ops, params, error, sizeof(error));
	if (ret == 0) {
		ret = slots_add(context->slots, &slot, device_added, call, error, sizeof(error));
		if (ret == 0)
			return;
	}
	slot_spec_free(&slot);
	control_refuse_change(call, ret, error);
}

static const struct vhub_control_param device_add_params[] = {
	{ "kind", VHUB_CONTROL_STRING, true,
			"what it is: blk, net, uplink, or another kind that vhubd --help lists" },
	{ "name", VHUB_CONTROL_STRING, true, "its name, which no other device has" },
	{ "args", VHUB_CONTROL_STRING | VHUB_CONTROL_OBJECT, true,
			"its keys as on the command line: \"key=value,...\" or {\"key\": value, ...}" },
	{ .name = NULL },
};

const struct vhub_control_method control_device_add = {
	.name = "device_add",
	.help = "Builds a device and serves it; answers when it is served.",
	.params = device_add_params,
	.fn = device_add,
};

/* ---- device_remove ---- */

static const struct vhub_control_param name_param[] = {
	{ "name", VHUB_CONTROL_STRING, true, "the device's name" },
	{ .name = NULL },
};

static void
device_removed(const struct slot *slot, void *arg, int result, const char *why)
{
	(void)slot;
	control_end_change(arg, result, why);
}

static void
device_remove(struct vhub_control_call *call, const json_t *params, void *arg)
{
	const struct control_context *context = arg;
	char error[512];
	int ret;

	ret = slots_remove(context->slots, control_text(params, "name"), device_removed, call,
			error, sizeof(error));
	if (ret != 0)
		vhub_control_refuse(call, control_code(ret), "%s", error);
}

const struct vhub_control_method control_device_remove = {
	.name = "device_remove",
	.help = "Takes a device away from its front end and destroys it; answers when it is gone.",
	.params = name_param,
	.fn = device_remove,
};

/* ---- device_retry ---- */

static void
device_retry(struct vhub_control_call *call, const json_t *params, void *arg)
{
	const struct control_context *context = arg;
	char error[1024];
	int ret;

	ret = slots_retry(context->slots, control_text(params, "name"), device_added, call, error,
			sizeof(error));
	if (ret != 0)
		vhub_control_refuse(call, control_code(ret), "%s", error);
}

const struct vhub_control_method control_device_retry = {
	.name = "device_retry",
	.help = "Tries at once to build and serve a device that has failed; answers when it is served.",
	.params = name_param,
	.fn = device_retry,
};

/* ---- lists ---- */

static void
device_list(struct vhub_control_call *call, const json_t *params, void *arg)
{
	const struct control_context *context = arg;
	json_t *list = json_array();
	const struct slot *slot;

	(void)params;
	for (slot = slots_first(context->slots); slot != NULL; slot = slots_next(slot))
		json_array_append_new(list, status_device(slot));
	vhub_control_result(call, list);
}

const struct vhub_control_method control_device_list = {
	.name = "device_list",
	.help = "Lists the devices: kind, state, arguments, lcores.",
	.fn = device_list,
};

static void
device_stats(struct vhub_control_call *call, const json_t *params, void *arg)
{
	const struct control_context *context = arg;
	const char *name = control_text(params, "name");
	const struct slot *slot;
	json_t *list;

	if (name != NULL && slots_find(context->slots, name) == NULL) {
		vhub_control_refuse(call, CONTROL_NO_DEVICE, "there is no device %.64s", name);
		return;
	}
	list = json_array();
	for (slot = slots_first(context->slots); slot != NULL; slot = slots_next(slot)) {
		if (name == NULL || strcmp(slot->options.name, name) == 0)
			json_array_append_new(list, status_stats(slot, name != NULL));
	}
	vhub_control_result(call, list);
}

static const struct vhub_control_param device_stats_params[] = {
	{ "name", VHUB_CONTROL_STRING, false,
			"of one device, and then with what its front end has negotiated, its rings and queues" },
	{ .name = NULL },
};

const struct vhub_control_method control_device_stats = {
	.name = "device_stats",
	.help = "Figures of all devices or of one: its front end's session, its requests.",
	.params = device_stats_params,
	.fn = device_stats,
};

static void
driver_list(struct vhub_control_call *call, const json_t *params, void *arg)
{
	(void)params;
	(void)arg;
	vhub_control_result(call, status_drivers());
}

const struct vhub_control_method control_driver_list = {
	.name = "driver_list",
	.help = "Lists the drivers of every kind of device, with their arguments.",
	.fn = driver_list,
};
