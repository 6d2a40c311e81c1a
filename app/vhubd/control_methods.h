/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The methods of vhubd's control socket (doc/guides/control.rst).
 *
 *   control_devices.c   device_add, device_remove, device_retry, device_list, device_stats, driver_list
 *   control_queues.c    queue_move
 *   control_disks.c     device_resize, device_set_qos, device_latency
 *   control_ports.c     port_set_link, port_set_qos, port_mirror_set, port_mirror_clear
 *   control_captures.c  port_capture_start, port_capture_stop
 *   control_daemon.c    lcore_list, log_level_set, config_save, version
 *   control_bridges.c   bridge_list, bridge_fdb, bridge_fdb_flush, bridge_port_set
 *   control_methods.c   the table of them
 */
#ifndef CONTROL_METHODS_H
#define CONTROL_METHODS_H

#include "options.h"
#include "slots.h"
#include "vhub_control.h"

/** Errors of our own. */
enum control_error {
	CONTROL_NO_DEVICE = VHUB_CONTROL_OWN - 1,   /**< no device, or bridge, has this name */
	CONTROL_NAME_IN_USE = VHUB_CONTROL_OWN - 2, /**< a device has this name already */
	CONTROL_BUSY = VHUB_CONTROL_OWN - 3,	    /**< it is being added, removed or changed */
	CONTROL_FAILED = VHUB_CONTROL_OWN - 4, /**< it cannot be built, served, changed or saved */
	CONTROL_STOPPING = VHUB_CONTROL_OWN - 5,  /**< vhubd is stopping */
	CONTROL_FULL = VHUB_CONTROL_OWN - 6,	  /**< there are as many devices as there may be */
	CONTROL_NO_FILE = VHUB_CONTROL_OWN - 7,	  /**< the configuration cannot be written */
	CONTROL_NOT_MOVED = VHUB_CONTROL_OWN - 8, /**< the queue stays on its lcore */
};

/** What the methods work on: their arg. Outlives the server. */
struct control_context {
	struct options *options;
	struct slots *slots;
};

/** The code of a method that `result`, a negative errno of slots.h, is the end of. */
int
control_code(int result);

/** Refuses a change of a device, which ended with `result`; of -EINVAL the parameters are the reason. */
void
control_refuse_change(struct vhub_control_call *call, int result, const char *why);

/** Answers a change of which there is no more to tell than that it was made, or why not. */
void
control_end_change(struct vhub_control_call *call, int result, const char *why);

/** The text `name` of `params`; NULL when none is given. */
static inline const char *
control_text(const json_t *params, const char *name)
{
	return json_string_value(json_object_get(params, name));
}

/**
 * The number `name` of `params`, which is not negative; *value stays when none is given. Returns 0, or
 * -EINVAL and the call is refused.
 */
int
control_number(struct vhub_control_call *call, const json_t *params, const char *name,
		uint64_t *value);

/**
 * The `direction` of `params`, both when none is given, into two flags. Returns 0, or -EINVAL and the call
 * is refused.
 */
int
control_direction(struct vhub_control_call *call, const json_t *params, bool *from_guest,
		bool *to_guest);

/** Serves the methods at `path`, with a log line where that fails. As vhub_control_create(). */
int
control_methods_start(struct vhub_loop *loop, const char *path, struct control_context *context,
		struct vhub_control **out);

/* ---- methods, by file ---- */

extern const struct vhub_control_method control_device_add;
extern const struct vhub_control_method control_device_remove;
extern const struct vhub_control_method control_device_retry;
extern const struct vhub_control_method control_device_list;
extern const struct vhub_control_method control_device_stats;
extern const struct vhub_control_method control_driver_list;

extern const struct vhub_control_method control_queue_move;
extern const struct vhub_control_method control_device_resize;
extern const struct vhub_control_method control_device_set_qos;
extern const struct vhub_control_method control_device_latency;

extern const struct vhub_control_method control_port_set_link;
extern const struct vhub_control_method control_port_set_qos;
extern const struct vhub_control_method control_port_mirror_set;
extern const struct vhub_control_method control_port_mirror_clear;

extern const struct vhub_control_method control_port_capture_start;
extern const struct vhub_control_method control_port_capture_stop;

extern const struct vhub_control_method control_bridge_list;
extern const struct vhub_control_method control_bridge_fdb;
extern const struct vhub_control_method control_bridge_fdb_flush;
extern const struct vhub_control_method control_bridge_port_set;

extern const struct vhub_control_method control_lcore_list;
extern const struct vhub_control_method control_log_level_set;
extern const struct vhub_control_method control_config_save;
extern const struct vhub_control_method control_version;

#endif /* CONTROL_METHODS_H */
