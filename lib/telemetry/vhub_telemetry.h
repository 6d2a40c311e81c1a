/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commands of DPDK's telemetry (dpdk-telemetry.py) whose data belongs to the control loop.
 *
 * Telemetry calls on threads of its own. Such a call sends a message to the loop, which makes the
 * answer, and waits for that for a second at most; then, and when the loop is gone, it answers
 * {"error": "..."}. What telemetry cannot hold is left out: more than 512 elements, more than 256
 * members, answers beyond 16 KiB. Text is cut at 127 bytes, fractions are rounded, true and false are
 * 1 and 0. It has no arrays of objects: those become an object with the members "0", "1", ...
 */
#ifndef VHUB_TELEMETRY_H
#define VHUB_TELEMETRY_H

#include <stddef.h>

#include <jansson.h>

#include "vhub_common.h"
#include "vhub_loop.h"

#ifdef __cplusplus
extern "C" {
#endif

#define VHUB_TELEMETRY_WAIT_US 1000000u

/** A command. Const, for ever. */
struct vhub_telemetry_command {
	const char *name; /**< "/vhub/devices" */
	const char *help; /**< one line */
	/**
	 * CTL; does not block. Makes the answer: an object, or an array of strings, integers or
	 * objects. `params` is what follows the command's comma, "" nothing. NULL with one sentence
	 * in `error`.
	 */
	json_t *(*fn)(void *arg, const char *params, char *error, size_t error_len);
};

/**
 * Registers `n` commands, whose fn get `arg`. Thread: CTL, once. Returns 0, -EALREADY, or what
 * rte_telemetry_register_cmd() returns.
 */
VHUB_API int
vhub_telemetry_start(struct vhub_loop *loop, const struct vhub_telemetry_command *commands,
		unsigned int n, void *arg);

/** Nothing is asked of the loop any more after it. Thread: CTL, before the loop is destroyed. */
VHUB_API void
vhub_telemetry_stop(void);

#ifdef __cplusplus
}
#endif

#endif /* VHUB_TELEMETRY_H */
