/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhub-perf memcpy: no back end at all. Each lcore copies blocks of a disk in memory to the buffers
 * of a queue, the way a back end with a disk in memory has to: what is left of the difference to
 * that back end is the way there and back. Called by main.c; next: run.c.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "copies.h"
#include "memory.h"
#include "parse.h"
#include "perf.h"
#include "report.h"
#include "run.h"
#include "worker.h"

enum order {
	ORDER_RANDOM,
	ORDER_SEQUENTIAL,
};

struct copy_options {
	uint64_t block_bytes;
	uint64_t size_bytes;
	uint32_t iodepth;
	unsigned int order;
};

static struct copy_options options = {
	.block_bytes = 4096,
	.size_bytes = 256u << 20,
	.iodepth = 32,
};

static const char *const orders[] = { "randread", "read", NULL };

static const struct opt copy_opts[] = {
	{ .name = "rw",
			.arg = "ORDER",
			.kind = OPT_CHOICE,
			.to = &options.order,
			.choices = orders,
			.help = "randread or read: which block is next (randread)" },
	{ .name = "bs",
			.arg = "SIZE",
			.kind = OPT_SIZE,
			.to = &options.block_bytes,
			.min = 512,
			.max = 16u << 20,
			.help = "of a block (4k)" },
	{ .name = "iodepth",
			.arg = "N",
			.kind = OPT_UINT,
			.to = &options.iodepth,
			.min = 1,
			.max = 32768,
			.help = "buffers that are written in turn (32)" },
	{ .name = "size",
			.arg = "SIZE",
			.kind = OPT_SIZE,
			.to = &options.size_bytes,
			.min = 4096,
			.max = UINT64_C(1) << 40,
			.help = "of the disk in memory (256M)" },
	{ .name = "hugepages",
			.arg = "on|off",
			.kind = OPT_ON_OFF,
			.to = &run_options.hugepages,
			.help = "if enough are free (on)" },
};

static const struct opt_group groups[] = {
	{ "Copies", copy_opts, RTE_DIM(copy_opts) },
	{ "Time", run_time_opts, RTE_DIM(run_time_opts) },
	{ NULL, NULL, 0 },
};

static const struct opt_set option_set = {
	.command = "memcpy",
	.usage = "[options]",
	.about = "Copies blocks of a disk in memory, without a back end: what a disk in memory cannot be\n"
		 "faster than. The copies are the C library's.",
	.groups = groups,
};

static const struct report_kind kind = {
	.command = "memcpy",
	.item = "block",
};

/* xorshift64*; the high half is the better one. Never 0. */
static uint64_t
next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(0x2545f4914f6cdd1d) >> 32;
}

void
copies_burst(const struct copies *c, uint8_t *buffers, uint64_t *random, uint64_t at)
{
	for (unsigned int i = 0; i < COPIES_BURST; i++) {
		const uint64_t block = c->random ? next_random(random) * c->n_blocks >> 32 :
						   (at + i) % c->n_blocks;

		memcpy(buffers + (at + i) % c->n_buffers * c->block_bytes,
				c->disk + block * c->block_bytes, c->block_bytes);
	}
}

static int
lcore_loop(struct run *run, unsigned int lcore)
{
	const struct copies *c = run->arg;
	struct report_queue *queue = &run->report->queues[lcore];
	uint8_t *buffers = c->buffers + (uint64_t)lcore * c->n_buffers * c->block_bytes;
	enum run_phase phase, last = RUN_RAMP;
	uint64_t random = lcore + 1, at = 0, now;
	struct run_meter meter;

	run_meter_init(&meter, &run->report->lcores[lcore], c->block_bytes);
	now = rte_rdtsc();
	while ((phase = run_phase(run)) < RUN_DRAIN) {
		if (phase != last) {
			report_forget(queue);
			now = rte_rdtsc();
			run_meter_enter(&meter, phase, now);
			last = phase;
		}
		copies_burst(c, buffers, &random, at);
		at += COPIES_BURST;
		vhub_count(&queue->figures.items, COPIES_BURST);
		vhub_count(&queue->figures.bytes, COPIES_BURST * c->block_bytes);
		now = rte_rdtsc();
		run_meter_turn(&meter, now, COPIES_BURST);
	}
	run_meter_enter(&meter, RUN_END, now);
	return 0;
}

static int
check_options(void)
{
	char size[32], block[32];

	if (run_options.rate != 0) {
		perf_error(option_set.command, "--rate: it copies as fast as it can, always");
		return -EINVAL;
	}
	if (options.size_bytes < options.block_bytes ||
			options.size_bytes / options.block_bytes > UINT32_MAX) {
		perf_error(option_set.command,
				"--size %s: allowed are 1 to 2^32 - 1 blocks (--bs) of %s",
				format_size(options.size_bytes, size, sizeof(size)),
				format_size(options.block_bytes, block, sizeof(block)));
		return -EINVAL;
	}
	return run_phases_check(option_set.command);
}

static void
describe(struct report *r, bool hugepages)
{
	char size[32], block[32];

	format_size(options.size_bytes, size, sizeof(size));
	format_size(options.block_bytes, block, sizeof(block));
	snprintf(r->what, sizeof(r->what), "memcpy %s, blocks of %s of %s, %u buffers",
			orders[options.order], block, size, options.iodepth);
	json_object_set_new(r->parameters, "rw", json_string(orders[options.order]));
	json_object_set_new(r->parameters, "bs", json_integer((json_int_t)options.block_bytes));
	json_object_set_new(r->parameters, "iodepth", json_integer(options.iodepth));
	json_object_set_new(r->parameters, "size", json_integer((json_int_t)options.size_bytes));
	json_object_set_new(r->parameters, "hugepages", json_boolean(hugepages));
	for (unsigned int i = 0; i < r->n_queues; i++)
		r->queues[i].lcore = i;
}

/* Between the start of the lcores and their end. Returns an exit status. */
static int
copy(unsigned int n_lcores)
{
	const uint64_t buffers = n_lcores * options.iodepth * options.block_bytes;
	struct perf_memory mem = { .fd = -1 };
	struct report *report = NULL;
	struct copies copies = {
		.n_blocks = options.size_bytes / options.block_bytes,
		.block_bytes = options.block_bytes,
		.random = options.order == ORDER_RANDOM,
		.n_buffers = options.iodepth,
	};
	int ret = PERF_USAGE;

	if (memory_create(options.size_bytes + buffers, run_options.hugepages, &mem) != 0)
		return ret;
	copies.disk = mem.hva;
	copies.buffers = mem.hva + options.size_bytes;
	/* Pages that hold zeroes could be one page. */
	memset(mem.hva, 0x5a, options.size_bytes);
	if (report_create(&kind, n_lcores, n_lcores, &report) == 0) {
		struct run run = { .report = report, .lcore = lcore_loop, .arg = &copies };

		describe(report, mem.hugepages);
		run_drive(&run);
		ret = run_tell(report);
	}
	report_destroy(report);
	memory_destroy(&mem);
	return ret;
}

static int
run_memcpy(int argc, char **argv)
{
	int ret = opts_parse(&option_set, argc, argv);

	if (ret != 0)
		return ret > 0 ? PERF_OK : PERF_USAGE;
	if (check_options() != 0)
		return PERF_USAGE;
	ret = workers_start(run_options.cpus);
	if (ret < 0)
		return PERF_USAGE;
	ret = copy((unsigned int)ret);
	workers_stop();
	return ret;
}

const struct perf_command perf_memcpy = {
	.name = "memcpy",
	.help = "copies between buffers, without a back end: the physical limit",
	.run = run_memcpy,
};
