/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a run has shown: figures of each queue and each lcore, which the lcores fill in while they
 * run, a line of progress, a table for people, JSON for programs (doc/guides/vhub-perf.rst has its
 * keys). Made and filled by the generators through run.h, which tells the phases; implemented in
 * report.c (life, sums), report_text.c and report_json.c.
 *
 * Fields marked LCORE have one writer, the lcore of the queue, with vhub_count() or a relaxed
 * store; the main thread reads them at any time.
 */
#ifndef PERF_REPORT_H
#define PERF_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include <jansson.h>

#include <rte_common.h>

#include "vhub_hist.h"

#define REPORT_MAX_ERRORS 8u
#define REPORT_MAX_COUNTS 16u

/* What a command reports. */
struct report_kind {
	const char *command;
	bool packets;	  /* mpps instead of iops */
	const char *item; /* "packet", "request" */
	/* Names of the numbers below, for JSON and people; NULL-terminated. */
	const char *errors[REPORT_MAX_ERRORS + 1];
	const char *counts[REPORT_MAX_COUNTS + 1];
};

/* LCORE */
struct report_figures {
	uint64_t items;
	uint64_t bytes;
	uint64_t errors[REPORT_MAX_ERRORS]; /* in the order of the kind's names */
	uint64_t counts[REPORT_MAX_COUNTS];
	struct vhub_hist latency; /* TSC cycles; empty: none is measured */
};

/* One queue. Set by the main thread: where it is, and which lcore runs it. */
struct report_queue {
	unsigned int device; /* its place among the sockets */
	unsigned int queue;
	unsigned int lcore; /* its place in report.lcores */
	struct report_figures figures;
} __rte_cache_aligned;

/* One lcore. */
struct report_lcore {
	unsigned int cpu;
	/* LCORE */
	uint64_t begin_cycles; /* of the measured time; 0: not yet */
	uint64_t end_cycles;   /* 0: not yet */
	uint64_t turn_cycles;  /* when the last turn ended */
	uint64_t busy_cycles;  /* in turns that had something to do */
	uint64_t pauses;       /* turns in which somebody else had the CPU; see run_meter.c */
	uint64_t pause_cycles;
	uint64_t longest_pause_cycles;
	uint64_t still_cycles; /* of pauses, what does not count as measured: see RUN_STILL_MS */
} __rte_cache_aligned;

struct report {
	const struct report_kind *kind;
	unsigned int n_queues, n_lcores;
	struct report_queue *queues;
	struct report_lcore *lcores;
	char what[512];	    /* one line for people: what is run */
	json_t *parameters; /* an object, which the generator fills */
	time_t start;	    /* of the measured time */
	char error[256];    /* why the run ended early; empty: it did not */
	/* Main thread: since the last line of progress. */
	uint64_t seen_items, seen_cycles;
};

/* All is zero but the kind. Thread: main. Returns 0 or -ENOMEM. */
int
report_create(const struct report_kind *kind, unsigned int n_queues, unsigned int n_lcores,
		struct report **out);

/* NULL is fine. */
void
report_destroy(struct report *r);

/* Forgets the queue's figures. Thread: its LCORE. */
void
report_forget(struct report_queue *queue);

/*
 * Why the run ends early; the first reason stays. Thread: main.
 */
void
report_fail(struct report *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Nothing ended early and no kind of error was counted. Thread: main. */
bool
report_ok(const struct report *r);

/* One line on standard error, over the last one; nothing where that is no terminal. */
void
report_progress(struct report *r);

/* Takes the line of progress away. */
void
report_progress_end(void);

/* The table, on standard output. Thread: main, when the lcores have ended. */
void
report_print(const struct report *r);

/*
 * Writes the JSON to the file, "-" for standard output. Thread: main, when the lcores have ended.
 * Returns 0 or -errno, having told why.
 */
int
report_write(const struct report *r, const char *path);

/* The same with any other object, which it takes; NULL: there was no memory for it. */
int
report_write_json(json_t *object, const char *path);

/* ---- between the files of the report ---- */

/* Sums over the queues (all, or those of one lcore); see report_sum(). */
struct report_sum {
	struct report_figures figures;
	double seconds;		   /* the longest of its lcores' */
	double busy;		   /* share of its lcores' time */
	double per_s, bytes_per_s; /* each lcore's over its own time */
	double cycles_per_item;
	uint64_t pauses, pause_cycles, longest_pause_cycles; /* of its lcores */
	double paused;					     /* share of its lcores' time */
};

#define REPORT_ALL UINT32_MAX

/* For one lcore or REPORT_ALL; *sum is about 18 KB. */
void
report_sum(const struct report *r, unsigned int lcore, struct report_sum *sum);

/* Measured time of the queue's lcore, up to now while it runs; 0 before. */
double
report_seconds(const struct report *r, unsigned int lcore);

/* Cycles to ns. */
double
report_ns(double cycles);

#endif /* PERF_REPORT_H */
