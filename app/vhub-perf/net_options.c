/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Options of `vhub-perf net`. Called by net_run.c; next: net_device.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net.h"
#include "parse.h"
#include "perf.h"

const char *const net_mode_names[] = { "echo", "tx", "rx", "pair", NULL };

/* What opt.to can point to; copied to the caller's at the end. */
static struct net_options options = {
	.sizes = { .text = "64", .n = 1, .bytes = { 64 }, .max = 64 },
	.mergeable = true,
	.burst = 32,
	.rx_buffer = 1984, /* as much as guests with buffers of 2 KB have */
};

/* ---- sizes ---- */

/* "Simple IMIX": 7 : 4 : 1 of short, middle and long frames, spread over twelve. */
static void
fill_imix(struct net_sizes *s)
{
	static const uint16_t twelve[] = { 64, 594, 64, 64, 594, 64, 1518, 64, 594, 64, 594, 64 };

	s->n = RTE_DIM(twelve);
	memcpy(s->bytes, twelve, sizeof(twelve));
}

/* From `min` to `max`, each about as often as the others, in an order that jumps about. */
static void
fill_range(struct net_sizes *s, uint64_t min, uint64_t max)
{
	const uint32_t span = (uint32_t)(max - min + 1);

	s->n = RTE_DIM(s->bytes);
	for (unsigned int i = 0; i < s->n; i++) {
		/* 97 has no factor in common with 256: every step of the range comes once. */
		const uint32_t step = i * 97 % s->n;

		s->bytes[i] = (uint16_t)(min + step * (span - 1) / (s->n - 1));
	}
}

/* "64", "64-1518". */
static int
read_range(const char *value, uint64_t *min, uint64_t *max)
{
	const char *dash = strchr(value, '-');
	char first[16];

	if (dash == NULL) {
		*max = 0;
		if (parse_size(value, min) != 0)
			return -EINVAL;
		*max = *min;
	} else {
		if ((size_t)(dash - value) >= sizeof(first))
			return -EINVAL;
		memcpy(first, value, (size_t)(dash - value));
		first[dash - value] = '\0';
		if (parse_size(first, min) != 0 || parse_size(dash + 1, max) != 0)
			return -EINVAL;
	}
	return *min < NET_MIN_FRAME || *max > NET_MAX_FRAME || *min > *max ? -EINVAL : 0;
}

static int
parse_sizes(void *to, const char *value, char *allowed, size_t len)
{
	struct net_sizes *s = to;
	uint64_t min = 0, max = NET_MAX_FRAME;

	if (strcmp(value, "imix") == 0) {
		fill_imix(s);
	} else if (read_range(value, &min, &max) == 0) {
		fill_range(s, min, max);
		if (min == max)
			s->n = 1;
	} else {
		snprintf(allowed, len, "%u to %u bytes, a range such as 64-1518, and imix",
				NET_MIN_FRAME, NET_MAX_FRAME);
		return -EINVAL;
	}
	s->text = value;
	s->max = (uint16_t)max;
	return 0;
}

/* ---- the others ---- */

static int
add_peer(void *to, const char *value, char *allowed, size_t len)
{
	struct net_options *o = to;

	if (value[0] == '\0' || o->n_peers == RUN_MAX_SOCKETS) {
		snprintf(allowed, len, "up to %u paths that are not empty", RUN_MAX_SOCKETS);
		return -EINVAL;
	}
	o->peers[o->n_peers++] = value;
	return 0;
}

static int
parse_window(void *to, const char *value, char *allowed, size_t len)
{
	uint64_t n;

	if (strcmp(value, "none") == 0) {
		*(uint32_t *)to = NET_NO_WINDOW;
		return 0;
	}
	if (parse_uint(value, &n) != 0 || n == 0 || n > NET_FLOW_WINDOW / 2) {
		snprintf(allowed, len, "1 to %u, and none", NET_FLOW_WINDOW / 2);
		return -EINVAL;
	}
	*(uint32_t *)to = (uint32_t)n;
	return 0;
}

static const struct opt net_opts[] = {
	{ .name = "mode",
			.arg = "MODE",
			.kind = OPT_CHOICE,
			.to = &options.mode,
			.choices = net_mode_names,
			.help = "echo: send, and get the same packets back on the same queue;\n"
				"tx: only send; rx: only receive what the back end makes;\n"
				"pair: send on --socket and receive on --peer, and the other way round (echo)" },
	{ .name = "peer",
			.arg = "PATH",
			.kind = OPT_PARSE,
			.to = &options,
			.parse = add_peer,
			.help = "socket of the other device of a pair, one for each --socket" },
	{ .name = "size",
			.arg = "SIZE",
			.kind = OPT_PARSE,
			.to = &options.sizes,
			.parse = parse_sizes,
			.help = "bytes of a frame without its checksum, 64 to 1518; MIN-MAX for all sizes\n"
				"between; imix: 64, 594 and 1518 as 7 : 4 : 1 (64)" },
	{ .name = "window",
			.arg = "N",
			.kind = OPT_PARSE,
			.to = &options.window,
			.parse = parse_window,
			.help = "packets under way on a queue at most, for echo and pair; none: as many as\n"
				"the rings take, what finds no room on the way back is lost (half a ring,\n"
				"less where a packet takes several buffers)" },
	{ .name = "burst",
			.arg = "N",
			.kind = OPT_UINT,
			.to = &options.burst,
			.min = 1,
			.max = NET_MAX_BURST,
			.help = "packets that are sent or received at once (32)" },
	{ .name = "mergeable",
			.arg = "on|off",
			.kind = OPT_ON_OFF,
			.to = &options.mergeable,
			.help = "negotiate MRG_RXBUF: a packet may take several buffers (on)" },
	{ .name = "offloads",
			.kind = OPT_SWITCH,
			.to = &options.offloads,
			.help = "negotiate checksums and TCP segmentation, both ways, and leave the checksum\n"
				"of each frame to who gets it" },
	{ .name = "rx-buffer",
			.arg = "SIZE",
			.kind = OPT_UINT,
			.to = &options.rx_buffer,
			.min = 128,
			.max = 65536,
			.help = "bytes of a receive buffer, with its header of 12; a multiple of 4 (1984)" },
	{ .name = "touch",
			.kind = OPT_SWITCH,
			.to = &options.touch,
			.help = "write all of each frame, and check every byte of what comes back;\n"
				"with --mode rx it checks nothing more" },
	{ .name = "idle",
			.arg = "N",
			.kind = OPT_UINT,
			.to = &options.idle,
			.max = RUN_MAX_SOCKETS,
			.help = "the last N sockets are served but get no packets (0)" },
};

static const struct opt_group groups[] = {
	{ "Packets", net_opts, RTE_DIM(net_opts) },
	{ "Session", run_session_opts, RTE_DIM(run_session_opts) },
	{ "Rings", run_ring_opts, RTE_DIM(run_ring_opts) },
	{ "Time and place", run_time_opts, RTE_DIM(run_time_opts) },
	{ NULL, NULL, 0 },
};

static const struct opt_set set = {
	.command = "net",
	.usage = "--socket PATH [options]",
	.about = "Sends and receives packets as the front end of a vhost-user network device. Frames are\n"
		 "numbered and carry the time at which they were sent: what is lost, comes twice, in\n"
		 "another order or damaged is counted, and latencies are measured.",
	.groups = groups,
};

/* Buffers that the longest frame takes. */
static uint32_t
buffers_of_frame(const struct net_options *o)
{
	return (NET_HEADER_BYTES + o->sizes.max + o->rx_buffer - 1) / o->rx_buffer;
}

static int
check_rings(const struct net_options *o)
{
	const uint32_t buffers = buffers_of_frame(o);

	if (o->rx_buffer % 4 != 0) {
		perf_error("net", "--rx-buffer %u: allowed are multiples of 4", o->rx_buffer);
		return -EINVAL;
	}
	if (!o->mergeable && buffers > 1) {
		perf_error("net",
				"--rx-buffer %u: a frame of %u bytes takes %u with its header, and without --mergeable it has to fit",
				o->rx_buffer, o->sizes.max, o->sizes.max + NET_HEADER_BYTES);
		return -EINVAL;
	}
	if (buffers > run_options.ring_size) {
		perf_error("net", "--ring-size %u: a frame takes %u buffers of %u bytes",
				run_options.ring_size, buffers, o->rx_buffer);
		return -EINVAL;
	}
	return 0;
}

static int
check_devices(const struct net_options *o)
{
	const unsigned int peers = o->mode == NET_PAIR ? run_options.n_sockets : 0;

	if (o->n_peers != peers) {
		perf_error("net", "--peer: %u given, --mode %s takes %u%s", o->n_peers,
				net_mode_names[o->mode], peers,
				o->mode == NET_PAIR ? ", one for each --socket" : "");
		return -EINVAL;
	}
	if (o->idle >= run_options.n_sockets) {
		perf_error("net", "--idle %u: of %u sockets one at least gets packets", o->idle,
				run_options.n_sockets);
		return -EINVAL;
	}
	if (o->mode == NET_RX && run_options.rate != 0) {
		perf_error("net", "--rate: with --mode rx the back end sets the rate");
		return -EINVAL;
	}
	return 0;
}

int
net_options_parse(int argc, char **argv, struct net_options *o)
{
	int ret = opts_parse(&set, argc, argv);

	if (ret == 0)
		ret = run_options_check("net");
	if (ret == 0)
		ret = check_rings(&options);
	if (ret == 0)
		ret = check_devices(&options);
	if (ret != 0)
		return ret;
	if (options.window == 0)
		options.window = RTE_MAX(1u,
				run_options.ring_size / buffers_of_frame(&options) / 2);
	*o = options;
	return 0;
}
