/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Options that all generators have, and what the report says of them (run.h). Called by the
 * generators; next: frontend.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "perf.h"
#include "run.h"

struct run_options run_options = {
	.queues = 1,
	.patience_ms = 5000,
	.ring_size = 256,
	.hugepages = true,
	.runtime_ns = UINT64_C(5000000000),
	.ramp_ns = UINT64_C(200000000),
	.phases_fd = RUN_NO_FD,
};

static int
add_socket(void *to, const char *value, char *allowed, size_t len)
{
	struct run_options *o = to;

	if (value[0] == '\0' || o->n_sockets == RUN_MAX_SOCKETS) {
		snprintf(allowed, len, "up to %u paths that are not empty", RUN_MAX_SOCKETS);
		return -EINVAL;
	}
	o->sockets[o->n_sockets++] = value;
	return 0;
}

const struct opt run_session_opts[] = {
	{ .name = "socket",
			.arg = "PATH",
			.kind = OPT_PARSE,
			.to = &run_options,
			.parse = add_socket,
			.help = "vhost-user socket of a device; give it again for each further device" },
	{ .name = "queues",
			.arg = "N",
			.kind = OPT_UINT,
			.to = &run_options.queues,
			.min = 1,
			.max = 128,
			.help = "of each device (1); a queue of a net is a pair of rings" },
	{ .name = "listen",
			.kind = OPT_SWITCH,
			.to = &run_options.listen,
			.help = "bind the socket and let the back end connect" },
	{ .name = "patience",
			.arg = "MS",
			.kind = OPT_UINT,
			.to = &run_options.patience_ms,
			.min = 1,
			.max = 3600000,
			.help = "milliseconds that the back end may take to answer (5000)" },
};

const struct opt run_ring_opts[] = {
	{ .name = "packed",
			.kind = OPT_SWITCH,
			.to = &run_options.packed,
			.help = "packed rings instead of split ones" },
	{ .name = "ring-size",
			.arg = "N",
			.kind = OPT_UINT,
			.to = &run_options.ring_size,
			.min = 2,
			.max = RING_MAX_SIZE,
			.help = "entries of a ring (net: 256; blk: 128, or more for --iodepth)" },
	{ .name = "in-order",
			.kind = OPT_SWITCH,
			.to = &run_options.in_order,
			.help = "negotiate IN_ORDER" },
	{ .name = "event-idx",
			.kind = OPT_SWITCH,
			.to = &run_options.event_idx,
			.help = "negotiate EVENT_IDX" },
	{ .name = "indirect",
			.kind = OPT_SWITCH,
			.to = &run_options.indirect,
			.help = "one descriptor an item, with an indirect table" },
	{ .name = "poll",
			.kind = OPT_SWITCH,
			.to = &run_options.poll,
			.help = "neither kick nor call fds: the back end has to poll too" },
	{ .name = "hugepages",
			.arg = "on|off",
			.kind = OPT_ON_OFF,
			.to = &run_options.hugepages,
			.help = "for the guest's memory, if enough are free (on)" },
};

const struct opt run_time_opts[] = {
	{ .name = "runtime",
			.arg = "TIME",
			.kind = OPT_TIME,
			.to = &run_options.runtime_ns,
			.min = 1000000,
			.help = "measured time (5); longer where an lcore stands still for over 100 ms" },
	{ .name = "ramp-time",
			.arg = "TIME",
			.kind = OPT_TIME,
			.to = &run_options.ramp_ns,
			.help = "time under load before that (0.2)" },
	{ .name = "rate",
			.arg = "N",
			.kind = OPT_RATE,
			.to = &run_options.rate,
			.max = UINT64_C(1000000000),
			.help = "items a second, all queues together, at fixed intervals; latency then\n"
				"counts from when an item was due (0: as many as possible)" },
	{ .name = "cpus",
			.arg = "LIST",
			.kind = OPT_TEXT,
			.to = &run_options.cpus,
			.help = "CPUs to generate load on, as in 1,2 or 2-4: one lcore each, which take\n"
				"the queues in turn (the last CPU, of two the first one; the back end has to\n"
				"leave it free: taskset)" },
	{ .name = "json",
			.arg = "FILE",
			.kind = OPT_TEXT,
			.to = &run_options.json,
			.help = "write the report there, - for standard output and no table" },
	{ .name = "phases",
			.arg = "FD",
			.kind = OPT_UINT,
			.to = &run_options.phases_fd,
			.max = INT_MAX,
			.help = "write a line to this descriptor as each phase begins: ramp, measure, drain" },
};

int
run_options_check(const char *command)
{
	if (run_options.n_sockets > 0)
		return run_phases_check(command);
	perf_error(command, "--socket PATH is missing: the socket of a vhost-user back end");
	return -EINVAL;
}

int
run_phases_check(const char *command)
{
	if (run_options.phases_fd == RUN_NO_FD || fcntl((int)run_options.phases_fd, F_GETFD) >= 0)
		return 0;
	perf_error(command, "--phases %u: no such descriptor is open", run_options.phases_fd);
	return -EINVAL;
}

uint64_t
run_ring_features(void)
{
	return (run_options.packed ? RING_F_PACKED : 0) |
			(run_options.in_order ? VIRTQ_F_IN_ORDER : 0) |
			(run_options.event_idx ? VIRTQ_F_EVENT_IDX : 0) |
			(run_options.indirect ? VIRTQ_F_INDIRECT : 0);
}

static json_t *
hex(uint64_t value)
{
	return json_sprintf("0x%" PRIx64, value);
}

void
run_report_parameters(struct report *r, const struct frontend *fe, bool hugepages)
{
	const struct run_options *o = &run_options;
	json_t *p = r->parameters, *sockets = json_array();

	for (unsigned int i = 0; i < o->n_sockets; i++)
		json_array_append_new(sockets, json_string(o->sockets[i]));
	json_object_set_new(p, "sockets", sockets);
	json_object_set_new(p, "runtime_s", json_real((double)o->runtime_ns / 1e9));
	json_object_set_new(p, "ramp_s", json_real((double)o->ramp_ns / 1e9));
	json_object_set_new(p, "rate", json_integer((json_int_t)o->rate));
	json_object_set_new(p, "queues", json_integer(o->queues));
	json_object_set_new(p, "ring",
			json_string((fe->features & RING_F_PACKED) != 0 ? "packed" : "split"));
	json_object_set_new(p, "ring_size", json_integer(o->ring_size));
	json_object_set_new(p, "in_order", json_boolean((fe->features & VIRTQ_F_IN_ORDER) != 0));
	json_object_set_new(p, "event_idx", json_boolean((fe->features & VIRTQ_F_EVENT_IDX) != 0));
	json_object_set_new(p, "indirect", json_boolean(o->indirect));
	json_object_set_new(p, "poll", json_boolean(o->poll));
	json_object_set_new(p, "features", hex(fe->features));
	json_object_set_new(p, "protocol_features", hex(fe->protocol));
	json_object_set_new(p, "hugepages", json_boolean(hugepages));
}

char *
run_ring_text(const struct frontend *fe, char *text, size_t len)
{
	const struct run_options *o = &run_options;

	snprintf(text, len, "%s%s%s%s%s, ring %u, %u device%s, %u queue%s",
			(fe->features & RING_F_PACKED) != 0 ? "packed" : "split",
			(fe->features & VIRTQ_F_IN_ORDER) != 0 ? ", in order" : "",
			(fe->features & VIRTQ_F_EVENT_IDX) != 0 ? ", event idx" : "",
			o->indirect ? ", indirect" : "", o->poll ? ", polled" : "", o->ring_size,
			o->n_sockets, o->n_sockets == 1 ? "" : "s", o->queues,
			o->queues == 1 ? "" : "s");
	return text;
}
