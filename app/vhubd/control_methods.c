/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The table of vhubd's control methods. Called by main.c; next: lib/control, which calls the
 * methods in the other control_*.c.
 */
#include <errno.h>
#include <string.h>

#include <rte_common.h>

#include "control_methods.h"
#include "vhub_log.h"

VHUB_LOGTYPE(vhubd);

static const struct vhub_control_method *const methods[] = {
	&control_version,
	&control_device_list,
	&control_device_add,
	&control_device_remove,
	&control_device_retry,
	&control_device_stats,
	&control_queue_move,
	&control_device_resize,
	&control_device_set_qos,
	&control_device_latency,
	&control_port_set_link,
	&control_port_set_qos,
	&control_port_mirror_set,
	&control_port_mirror_clear,
	&control_port_capture_start,
	&control_port_capture_stop,
	&control_driver_list,
	&control_bridge_list,
	&control_bridge_fdb,
	&control_bridge_fdb_flush,
	&control_bridge_port_set,
	&control_lcore_list,
	&control_log_level_set,
	&control_config_save,
};

int
control_code(int result)
{
	switch (result) {
	case -ENOENT:
		return CONTROL_NO_DEVICE;
	case -EEXIST:
		return CONTROL_NAME_IN_USE;
	case -EBUSY:
		return CONTROL_BUSY;
	case -ESHUTDOWN:
		return CONTROL_STOPPING;
	case -ENOSPC:
		return CONTROL_FULL;
	default:
		return CONTROL_FAILED;
	}
}

void
control_refuse_change(struct vhub_control_call *call, int result, const char *why)
{
	vhub_control_refuse(call,
			result == -EINVAL ? VHUB_CONTROL_INVALID_PARAMS : control_code(result),
			"%s", why);
}

void
control_end_change(struct vhub_control_call *call, int result, const char *why)
{
	if (result == 0)
		vhub_control_result(call, json_true());
	else
		control_refuse_change(call, result, why);
}

int
control_number(struct vhub_control_call *call, const json_t *params, const char *name,
		uint64_t *value)
{
	const json_t *json = json_object_get(params, name);
	json_int_t given = json_integer_value(json);

	if (json == NULL)
		return 0;
	if (given < 0) {
		vhub_control_refuse(call, VHUB_CONTROL_INVALID_PARAMS,
				"%s=%" JSON_INTEGER_FORMAT ": allowed: 0 or more", name, given);
		return -EINVAL;
	}
	*value = (uint64_t)given;
	return 0;
}

int
control_direction(struct vhub_control_call *call, const json_t *params, bool *from_guest,
		bool *to_guest)
{
	const char *way = control_text(params, "direction");
	const bool both = way == NULL || strcmp(way, "both") == 0;

	*from_guest = both || strcmp(way, "from_guest") == 0;
	*to_guest = both || strcmp(way, "to_guest") == 0;
	if (*from_guest || *to_guest)
		return 0;
	vhub_control_refuse(call, VHUB_CONTROL_INVALID_PARAMS,
			"direction=%.64s; allowed: from_guest, to_guest, both", way);
	return -EINVAL;
}

int
control_methods_start(struct vhub_loop *loop, const char *path, struct control_context *context,
		struct vhub_control **out)
{
	int ret;

	ret = vhub_control_create(loop, path, methods, RTE_DIM(methods), context, out);
	if (ret != 0)
		VHUB_LOG(ERR, "cannot listen on --control %s: %s%s", path, strerror(-ret),
				ret == -EADDRINUSE ?
						"; somebody listens there, or a file that is no socket is in the way" :
						"");
	return ret;
}
