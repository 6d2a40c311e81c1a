/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Control methods about disks that are served. Called by lib/control; next: slot_change.c, status_latency.c.
 */
#include <errno.h>

#include "control_methods.h"
#include "status.h"

/* ---- device_resize ---- */

static void
device_resized(const struct slot *slot, void *arg, int result, const char *why)
{
	struct vhub_control_call *call = arg;

	if (result == 0)
		vhub_control_result(call,
				json_pack("{s:I}", "size_bytes", (json_int_t)slot->new_size_bytes));
	else
		control_refuse_change(call, result, why);
}

static void
device_resize(struct vhub_control_call *call, const json_t *params, void *arg)
{
	const struct control_context *context = arg;
	uint64_t size_bytes = 0;
	char error[512];
	int ret;

	if (control_number(call, params, "size", &size_bytes) != 0)
		return;
	ret = slots_resize(context->slots, control_text(params, "name"), size_bytes, device_resized,
			call, error, sizeof(error));
	if (ret != 0)
		control_refuse_change(call, ret, error);
}

static const struct vhub_control_param resize_params[] = {
	{ "name", VHUB_CONTROL_STRING, true, "the disk's name" },
	{ "size", VHUB_CONTROL_INTEGER, false,
			"in bytes; 0, or without it, what its file or device has now" },
	{ .name = NULL },
};

const struct vhub_control_method control_device_resize = {
	.name = "device_resize",
	.help = "Changes the size of a disk while it is used, and tells its guest.",
	.params = resize_params,
	.fn = device_resize,
};

/* ---- device_set_qos ---- */

static void
device_set_qos(struct vhub_control_call *call, const json_t *params, void *arg)
{
	const struct control_context *context = arg;
	struct vhub_blk_qos set = { UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX };
	char error[512];
	int ret;

	if (control_number(call, params, "iops", &set.iops) != 0 ||
			control_number(call, params, "iops_burst", &set.iops_burst) != 0 ||
			control_number(call, params, "bytes_per_s", &set.bytes_per_s) != 0 ||
			control_number(call, params, "bytes_burst", &set.bytes_burst) != 0)
		return;
	ret = slots_set_qos(context->slots, control_text(params, "name"), &set, error,
			sizeof(error));
	if (ret != 0) {
		control_refuse_change(call, ret, error);
		return;
	}
	vhub_control_result(call,
			json_pack("{s:I, s:I, s:I, s:I}", "iops", (json_int_t)set.iops,
					"iops_burst", (json_int_t)set.iops_burst, "bytes_per_s",
					(json_int_t)set.bytes_per_s, "bytes_burst",
					(json_int_t)set.bytes_burst));
}

static const struct vhub_control_param qos_params[] = {
	{ "name", VHUB_CONTROL_STRING, true, "the disk's name" },
	{ "iops", VHUB_CONTROL_INTEGER, false, "most requests in a second; 0 no limit" },
	{ "bytes_per_s", VHUB_CONTROL_INTEGER, false,
			"most bytes read, written, zeroed and erased in a second; 0 no limit" },
	{ "iops_burst", VHUB_CONTROL_INTEGER, false,
			"requests at once after a pause; 0 those of a tenth of a second" },
	{ "bytes_burst", VHUB_CONTROL_INTEGER, false,
			"bytes at once after a pause; 0 those of a tenth of a second" },
	{ .name = NULL },
};

const struct vhub_control_method control_device_set_qos = {
	.name = "device_set_qos",
	.help = "Limits a disk while it is used; what is not given stays as it is.",
	.params = qos_params,
	.fn = device_set_qos,
};

/* ---- device_latency ---- */

static void
device_latency(struct vhub_control_call *call, const json_t *params, void *arg)
{
	const struct control_context *context = arg;
	const char *name = control_text(params, "name");
	const json_t *measure = json_object_get(params, "measure");
	json_t *out = NULL;
	struct slot *slot;
	char error[512];
	int ret;

	ret = slots_find_served(context->slots, name, &slot, error, sizeof(error));
	if (ret != 0) {
		control_refuse_change(call, ret, error);
		return;
	}
	if (json_is_true(measure))
		ret = vhub_blk_latency_start(slot->device);
	if (ret == 0)
		ret = status_latency(slot, false, &out);
	if (ret == 0 && json_is_false(measure)) {
		vhub_blk_latency_stop(slot->device);
		json_object_set_new(out, "measuring", json_false());
	}
	if (ret == -EINVAL)
		vhub_control_refuse(call, VHUB_CONTROL_INVALID_PARAMS, "%s is no disk", name);
	else
		vhub_control_result(call, out);
}

static const struct vhub_control_param latency_params[] = {
	{ "name", VHUB_CONTROL_STRING, true, "the disk's name" },
	{ "measure", VHUB_CONTROL_BOOLEAN, false,
			"true: begin, or anew; false: end; without it what is measured goes on" },
	{ .name = NULL },
};

const struct vhub_control_method control_device_latency = {
	.name = "device_latency",
	.help = "Measures how long a disk's requests take, and tells what has been measured.",
	.params = latency_params,
	.fn = device_latency,
};
