/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhub-perf line: how long a cache line takes from one CPU to another and back. All that two sides
 * of a ring tell each other goes that way, so figures compare only where this one is the same:
 * virtual CPUs are moved about by their host. Called by main.c; next: worker.c.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>

#include <rte_common.h>
#include <rte_cycles.h>

#include "opts.h"
#include "perf.h"
#include "report.h"
#include "run.h"
#include "worker.h"

/* Trips that are timed together, and how often: some ten milliseconds in all. */
#define TRIPS 200u
#define BATCHES 101u
/* A CPU that somebody else has for a while does not end the wait; the user's wish does. */
#define LOOKS_AT_ONCE (1u << 20)
#define THE_END UINT64_MAX

static const struct opt line_opts[] = {
	{ .name = "cpus",
			.arg = "A,B",
			.kind = OPT_TEXT,
			.to = &run_options.cpus,
			.help = "between these two" },
	{ .name = "json",
			.arg = "FILE",
			.kind = OPT_TEXT,
			.to = &run_options.json,
			.help = "write the report there, - for standard output and no text" },
};

static const struct opt_group groups[] = {
	{ "Line", line_opts, RTE_DIM(line_opts) },
	{ NULL, NULL, 0 },
};

static const struct opt_set option_set = {
	.command = "line",
	.usage = "--cpus A,B [--json FILE]",
	.about = "Times a cache line from CPU A to CPU B and back, without a back end. Figures of two runs\n"
		 "compare only where this one is the same: a host may move virtual CPUs, and the way between\n"
		 "two of them becomes several times as long.",
	.groups = groups,
};

/* Each word has a line of its own, and the one beside it, which is fetched along. */
struct line {
	uint64_t there __rte_aligned(2 * RTE_CACHE_LINE_SIZE);
	uint64_t back __rte_aligned(2 * RTE_CACHE_LINE_SIZE);
	/* Those of the worker that times. */
	uint64_t batch_cycles[BATCHES] __rte_aligned(2 * RTE_CACHE_LINE_SIZE);
	unsigned int n_batches; /* timed to their end */
};

/* Waits for another value than `last`, which it returns; THE_END when the user wants one. */
static uint64_t
wait_for_other(const uint64_t *word, uint64_t last)
{
	do {
		for (unsigned int i = 0; i < LOOKS_AT_ONCE; i++) {
			/* Acquire and release in pairs, as rings have them. */
			const uint64_t now = __atomic_load_n(word, __ATOMIC_ACQUIRE);

			if (now != last)
				return now;
		}
	} while (!workers_asked_to_end());
	return THE_END;
}

static int
send_back(void *arg)
{
	struct line *line = arg;
	uint64_t last = 0;

	while (last != THE_END) {
		last = wait_for_other(&line->there, last);
		__atomic_store_n(&line->back, last, __ATOMIC_RELEASE);
	}
	return 0;
}

static int
time_trips(void *arg)
{
	struct line *line = arg;
	uint64_t last = 0;

	while (line->n_batches < BATCHES && last != THE_END) {
		const uint64_t begin = rte_rdtsc();

		for (unsigned int i = 0; i < TRIPS && last != THE_END; i++) {
			__atomic_store_n(&line->there, last + 1, __ATOMIC_RELEASE);
			last = wait_for_other(&line->back, last);
		}
		line->batch_cycles[line->n_batches] = (rte_rdtsc() - begin) / TRIPS;
		line->n_batches += last != THE_END;
	}
	__atomic_store_n(&line->there, THE_END, __ATOMIC_RELEASE);
	return 0;
}

static int
by_size(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static double
in_ns(uint64_t cycles)
{
	return (double)cycles * 1e9 / (double)rte_get_tsc_hz();
}

/* Least, median and most of the batches, which are in order. */
static int
tell(const uint64_t *cycles)
{
	const uint64_t least = cycles[0], median = cycles[BATCHES / 2], most = cycles[BATCHES - 1];
	json_t *object;

	if (run_options.json == NULL) {
		printf("  CPU %u to CPU %u and back: %.0f ns (median of %u times %u; least %.0f, most %.0f), %" PRIu64
		       " cycles\n",
				workers_cpu(0), workers_cpu(1), in_ns(median), BATCHES, TRIPS,
				in_ns(least), in_ns(most), median);
		return PERF_OK;
	}
	object = json_pack("{s:s, s:[i,i], s:f, s:f, s:f, s:I}", "command", option_set.command,
			"cpus", (int)workers_cpu(0), (int)workers_cpu(1), "median_ns",
			in_ns(median), "least_ns", in_ns(least), "most_ns", in_ns(most), "cycles",
			(json_int_t)median);
	return report_write_json(object, run_options.json) == 0 ? PERF_OK : PERF_USAGE;
}

static int
measure(void)
{
	static struct line line;

	if (workers_launch(1, send_back, &line) != 0 || workers_launch(0, time_trips, &line) != 0)
		return PERF_USAGE;
	workers_join(0);
	workers_join(1);
	if (line.n_batches < BATCHES) {
		perf_error(option_set.command, "interrupted");
		return PERF_FAILED;
	}
	qsort(line.batch_cycles, BATCHES, sizeof(line.batch_cycles[0]), by_size);
	return tell(line.batch_cycles);
}

static int
run_line(int argc, char **argv)
{
	int ret = opts_parse(&option_set, argc, argv);

	if (ret != 0)
		return ret > 0 ? PERF_OK : PERF_USAGE;
	if (run_options.cpus == NULL) {
		perf_error(option_set.command, "--cpus A,B is missing: the two CPUs, as in 0,1");
		return PERF_USAGE;
	}
	ret = workers_start(run_options.cpus);
	if (ret < 0)
		return PERF_USAGE;
	if (ret == 2) {
		ret = measure();
	} else {
		perf_error(option_set.command, "--cpus %s: two CPUs are needed, as in 0,1",
				run_options.cpus);
		ret = PERF_USAGE;
	}
	workers_stop();
	return ret;
}

const struct perf_command perf_line = {
	.name = "line",
	.help = "times a cache line from one CPU to another and back, without a back end",
	.run = run_line,
};
