/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Control methods about captures of network ports. Called by lib/control; next: slot_change.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control_methods.h"

/* A call to begin one, and the texts that the blocking work reads. */
struct capture {
	struct vhub_control_call *call;
	struct vhub_net_capture set;
	char *path;
	char *filter;
};

static void
free_capture(struct capture *capture)
{
	free(capture->path);
	free(capture->filter);
	free(capture);
}

/* ---- port_capture_start ---- */

/* All but its strings. Returns 0, or -EINVAL and the call is refused. */
static int
read_set(struct vhub_control_call *call, const json_t *params, struct vhub_net_capture *set)
{
	uint64_t snaplen = VHUB_NET_CAPTURE_MAX_SNAPLEN;

	if (control_number(call, params, "snaplen", &snaplen) != 0 ||
			control_number(call, params, "max_bytes", &set->max_bytes) != 0 ||
			control_direction(call, params, &set->from_guest, &set->to_guest) != 0)
		return -EINVAL;
	set->snaplen_bytes = (uint32_t)snaplen;
	if (snaplen == 0 || snaplen > VHUB_NET_CAPTURE_MAX_SNAPLEN)
		vhub_control_refuse(call, VHUB_CONTROL_INVALID_PARAMS,
				"snaplen=%" PRIu64 ": allowed: 1 to %u", snaplen,
				VHUB_NET_CAPTURE_MAX_SNAPLEN);
	else if (set->max_bytes != 0 && set->max_bytes < VHUB_NET_CAPTURE_MIN_BYTES)
		vhub_control_refuse(call, VHUB_CONTROL_INVALID_PARAMS,
				"max_bytes=%" PRIu64 ": allowed: 0 (no limit), %u or more",
				set->max_bytes, VHUB_NET_CAPTURE_MIN_BYTES);
	else
		return 0;
	return -EINVAL;
}

static struct capture *
create_capture(struct vhub_control_call *call, const json_t *params,
		const struct vhub_net_capture *set)
{
	const char *filter = control_text(params, "filter");
	struct capture *capture = calloc(1, sizeof(*capture));

	if (capture == NULL)
		return NULL;
	capture->call = call;
	capture->set = *set;
	capture->path = strdup(control_text(params, "path"));
	capture->filter = filter != NULL ? strdup(filter) : NULL;
	if (capture->path == NULL || (filter != NULL && capture->filter == NULL)) {
		free_capture(capture);
		return NULL;
	}
	capture->set.path = capture->path;
	capture->set.filter = capture->filter;
	return capture;
}

static void
started(const struct slot *slot, void *arg, int result, const char *why)
{
	struct capture *capture = arg;

	(void)slot;
	control_end_change(capture->call, result, why);
	free_capture(capture);
}

static void
port_capture_start(struct vhub_control_call *call, const json_t *params, void *arg)
{
	const struct control_context *context = arg;
	struct vhub_net_capture set = { 0 };
	struct capture *capture;
	char error[512];
	int ret;

	if (read_set(call, params, &set) != 0)
		return;
	capture = create_capture(call, params, &set);
	if (capture == NULL) {
		vhub_control_refuse(call, VHUB_CONTROL_INTERNAL, "out of memory");
		return;
	}
	ret = slots_capture_start(context->slots, control_text(params, "name"), &capture->set,
			started, capture, error, sizeof(error));
	if (ret != 0) {
		free_capture(capture);
		control_refuse_change(call, ret, error);
	}
}

static const struct vhub_control_param start_params[] = {
	{ "name", VHUB_CONTROL_STRING, true, "the port's name" },
	{ "path", VHUB_CONTROL_STRING, true, "of a file that is not there yet, as seen by vhubd" },
	{ "filter", VHUB_CONTROL_STRING, false, "which frames, as for tcpdump; all" },
	{ "snaplen", VHUB_CONTROL_INTEGER, false, "bytes of each frame at most (262144)" },
	{ "max_bytes", VHUB_CONTROL_INTEGER, false, "of the file, 4096 or more; 0 no limit (0)" },
	{ "direction", VHUB_CONTROL_STRING, false, "from_guest, to_guest or both (both)" },
	{ .name = NULL },
};

const struct vhub_control_method control_port_capture_start = {
	.name = "port_capture_start",
	.help = "Writes what passes a network port to a pcapng file, until it is stopped.",
	.params = start_params,
	.fn = port_capture_start,
};

/* ---- port_capture_stop ---- */

static void
stopped(const struct slot *slot, void *arg, int result, const char *why)
{
	const struct vhub_net_captured *got = &slot->captured;
	struct vhub_control_call *call = arg;

	if (result == 0)
		vhub_control_result(call,
				json_pack("{s:I, s:I, s:s}", "packets", (json_int_t)got->packets,
						"bytes", (json_int_t)got->bytes, "error",
						got->error == 0 ? "" : strerror(got->error)));
	else
		control_refuse_change(call, result, why);
}

static void
port_capture_stop(struct vhub_control_call *call, const json_t *params, void *arg)
{
	const struct control_context *context = arg;
	char error[512];
	int ret;

	ret = slots_capture_stop(context->slots, control_text(params, "name"), stopped, call, error,
			sizeof(error));
	if (ret != 0)
		control_refuse_change(call, ret, error);
}

static const struct vhub_control_param stop_params[] = {
	{ "name", VHUB_CONTROL_STRING, true, "the port's name" },
	{ .name = NULL },
};

const struct vhub_control_method control_port_capture_stop = {
	.name = "port_capture_stop",
	.help = "Ends a capture; answers with what is in its file when that is whole.",
	.params = stop_params,
	.fn = port_capture_stop,
};
