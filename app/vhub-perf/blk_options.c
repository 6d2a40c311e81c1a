/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The options of `vhub-perf blk`, with fio's names where fio has one. Called by blk_run.c; next:
 * blk_device.c.
 */
#include <errno.h>
#include <inttypes.h>

#include "blk.h"
#include "opts.h"
#include "perf.h"

static const char *const rw_names[] = {
	[BLK_READ] = "read",
	[BLK_WRITE] = "write",
	[BLK_RANDREAD] = "randread",
	[BLK_RANDWRITE] = "randwrite",
	[BLK_RW] = "rw",
	[BLK_RANDRW] = "randrw",
	[BLK_FLUSH] = "flush",
	[BLK_DISCARD] = "discard",
	[BLK_ZEROES] = "zeroes",
	NULL,
};

const char *
blk_rw_name(unsigned int rw)
{
	return rw_names[rw];
}

bool
blk_rw_writes(unsigned int rw)
{
	return rw != BLK_READ && rw != BLK_RANDREAD && rw != BLK_FLUSH;
}

static const struct blk_options defaults = {
	.rw = BLK_RANDREAD,
	.rwmixread = 50,
	.bs_bytes = 4096,
	.iodepth = 32,
};

static int
check(const struct blk_options *o)
{
	if (o->bs_bytes % BLK_SECTOR_BYTES != 0) {
		perf_error("blk", "--bs %" PRIu64 ": not a multiple of 512", o->bs_bytes);
		return -EINVAL;
	}
	if (o->offset_bytes % BLK_SECTOR_BYTES != 0) {
		perf_error("blk", "--offset %" PRIu64 ": not a multiple of 512", o->offset_bytes);
		return -EINVAL;
	}
	if (o->verify && o->rw != BLK_WRITE && o->rw != BLK_RANDWRITE && o->rw != BLK_RW &&
			o->rw != BLK_RANDRW) {
		perf_error("blk",
				"--verify --rw %s: nothing would be written that could be verified; it takes write, randwrite, rw, randrw",
				blk_rw_name(o->rw));
		return -EINVAL;
	}
	if (o->verify && run_options.phases_fd != RUN_NO_FD) {
		perf_error("blk", "--phases: a run with --verify has others");
		return -EINVAL;
	}
	if (o->suspend_ns != 0 && (!o->verify || !o->inflight)) {
		perf_error("blk",
				"--suspend: what is in flight has to be kept, and looked at when it comes back: it takes --verify --inflight");
		return -EINVAL;
	}
	if (o->hand_over != NULL && (o->suspend_ns == 0 || run_options.n_sockets != 1)) {
		perf_error("blk",
				"--hand-over %s: it takes --suspend, and one --socket, which has the same disk",
				o->hand_over);
		return -EINVAL;
	}
	return run_options_check("blk");
}

static int
read_with(struct blk_options *o, int argc, char **argv)
{
	const struct opt load[] = {
		{ .name = "rw",
				.arg = "KIND",
				.kind = OPT_CHOICE,
				.to = &o->rw,
				.choices = rw_names,
				.help = "read, write: in sequence; randread, randwrite: at random (randread);\n"
					"rw, randrw: both mixed; discard, zeroes: at random; flush" },
		{ .name = "rwmixread",
				.arg = "PERCENT",
				.kind = OPT_UINT,
				.to = &o->rwmixread,
				.max = 100,
				.help = "of rw and randrw that is read (50)" },
		{ .name = "bs",
				.arg = "SIZE",
				.kind = OPT_SIZE,
				.to = &o->bs_bytes,
				.min = 512,
				.max = 1 << 28,
				.help = "bytes of each request (4k)" },
		{ .name = "iodepth",
				.arg = "N",
				.kind = OPT_UINT,
				.to = &o->iodepth,
				.min = 1,
				.max = 8192,
				.help = "requests in flight on each queue (32)" },
		{ .name = "numjobs",
				.arg = "N",
				.kind = OPT_UINT,
				.to = &run_options.queues,
				.min = 1,
				.max = VHUB_MAX_QUEUES,
				.help = "the same as --queues" },
		{ .name = "offset",
				.arg = "SIZE",
				.kind = OPT_SIZE,
				.to = &o->offset_bytes,
				.help = "where on the disk to begin (0)" },
		{ .name = "size",
				.arg = "SIZE",
				.kind = OPT_SIZE,
				.to = &o->size_bytes,
				.min = 512,
				.help = "of the part of the disk that is used (to its end)" },
		{ .name = "touch",
				.kind = OPT_SWITCH,
				.to = &o->touch,
				.help = "read every line of what was read, write every line of what is written" },
		{ .name = "inflight",
				.kind = OPT_SWITCH,
				.to = &o->inflight,
				.help = "have requests in flight kept in a region that outlives the back end" },
		{ .name = "verify",
				.kind = OPT_SWITCH,
				.to = &o->verify,
				.help = "check that what is read is what was written (with write, randwrite,\n"
					"rw, randrw), also when the back end goes and comes again; time in which\n"
					"nothing comes back is no part of --runtime" },
		{ .name = "suspend",
				.arg = "TIME",
				.kind = OPT_TIME,
				.to = &o->suspend_ns,
				.min = 1000000,
				.help = "with --verify --inflight: stop the rings so often with what they have in\n"
					"flight (GET_VRING_BASE_SKIP_DRAIN), and start them again" },
		{ .name = "hand-over",
				.arg = "PATH",
				.kind = OPT_TEXT,
				.to = &o->hand_over,
				.help = "with --suspend: go on with the back end there, which has the same disk,\n"
					"and the next time back again" },
	};
	const struct opt_group groups[] = {
		{ "session", run_session_opts, RTE_DIM(run_session_opts) },
		{ "load", load, RTE_DIM(load) },
		{ "run", run_time_opts, RTE_DIM(run_time_opts) },
		{ "rings", run_ring_opts, RTE_DIM(run_ring_opts) },
		{ NULL, NULL, 0 },
	};
	const struct opt_set set = {
		.command = "blk",
		.usage = "--socket PATH [options]",
		.about = "Sends block requests to vhost-user-blk back ends and tells how many they do.",
		.groups = groups,
	};

	return opts_parse(&set, argc, argv);
}

int
blk_options_read(struct blk_options *o, int argc, char **argv)
{
	int ret;

	*o = defaults;
	run_options.ring_size = 0;
	ret = read_with(o, argc, argv);
	return ret == 0 ? check(o) : ret;
}
