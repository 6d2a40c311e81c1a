/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a run of any generator has in common: options of the session, its rings and its time; the
 * phases that the main thread leads all lcores through; the share of time in which an lcore was
 * busy. Implemented in run.c (phases), run_meter.c (pauses) and run_opts.c; used by the generators.
 *
 * A generator's lcore loop:
 *
 *	now = rte_rdtsc();
 *	while (!drained && (phase = run_phase(run)) != RUN_END) {
 *		if (phase != last) {
 *			if (phase == RUN_MEASURE) {
 *				report_forget() each queue
 *				now = rte_rdtsc();
 *			}
 *			run_meter_enter(&meter, phase, now);
 *		}
 *		n = ... what is due at `now`
 *		now = rte_rdtsc();
 *		run_meter_turn(&meter, now, n);
 *	}
 *	run_meter_enter(&meter, RUN_END, now);
 */
#ifndef PERF_RUN_H
#define PERF_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_branch_prediction.h>
#include <rte_common.h>
#include <rte_cycles.h>

#include "frontend.h"
#include "opts.h"
#include "report.h"

#define RUN_MAX_SOCKETS 1024u
#define RUN_NO_FD UINT32_MAX
/* One turn or look counts for no more, where a machine on which nobody runs is to take no time. */
#define RUN_STILL_MS 100u

/* ---- options ---- */

struct run_options {
	unsigned int n_sockets;
	const char *sockets[RUN_MAX_SOCKETS]; /* --socket, each time that it comes */
	uint32_t queues;		      /* of each device */
	bool listen;
	uint32_t patience_ms;

	bool packed;
	bool in_order;
	bool event_idx;
	bool indirect;
	bool poll;
	bool hugepages;
	uint32_t ring_size;

	const char *cpus; /* NULL: chosen by workers_start() */
	uint64_t runtime_ns;
	uint64_t ramp_ns;
	uint64_t rate;	    /* items a second, 0: as many as possible */
	uint32_t phases_fd; /* gets a line as each phase begins; RUN_NO_FD: none does */
	const char *json;
};

/* Of the one run of this program, with defaults in it. */
extern struct run_options run_options;

/* For the groups of a subcommand; they set run_options. */
extern const struct opt run_session_opts[4];
extern const struct opt run_ring_opts[7];
extern const struct opt run_time_opts[6];

/* Complains if there is no socket. Returns 0 or -EINVAL. Thread: main. */
int
run_options_check(const char *command);

/* The same if --phases names nothing that is open. */
int
run_phases_check(const char *command);

/* Feature bits of the rings that the options ask for; all of them required. */
uint64_t
run_ring_features(void);

/* Writes the parameters that all commands have (doc/guides/vhub-perf.rst). */
void
run_report_parameters(struct report *r, const struct frontend *fe, bool hugepages);

/* ", packed, in order, ring 256, ..." for report.what. Returns `text`. */
char *
run_ring_text(const struct frontend *fe, char *text, size_t len);

/* ---- phases ---- */

enum run_phase {
	RUN_RAMP,    /* load, nothing is measured yet */
	RUN_MEASURE, /* figures count from the first turn on */
	RUN_DRAIN,   /* nothing new is started; what is under way is waited for */
	RUN_END,     /* leave at once */
};

struct run {
	struct report *report;
	struct frontend *const *frontends; /* watched: a back end that hangs up ends the run */
	unsigned int n_frontends;	   /* up to 2 * RUN_MAX_SOCKETS */
	/* Runs on each lcore, with its place; returns 0, or -errno having filled `fault`. */
	int (*lcore)(struct run *run, unsigned int lcore);
	void *arg; /* of the generator */
	/*
	 * The ramp lasts until every queue has items, too, for as long as run_options.patience_ms;
	 * the measured time always does.
	 */
	bool wait_for_items;

	/* Main thread writes, LCOREs read. */
	enum run_phase phase;
	/* LCOREs write: how many have come to their end, and why the first one failed. */
	unsigned int n_ended;
	char fault[256];
	bool faulty;
	int ended_fd; /* written by each of them then, for main, which sleeps */
} __rte_cache_aligned;

/*
 * Leads the workers through the phases, shows progress, and returns when all have ended: time was
 * up, the user wanted it, an lcore failed or a back end hung up (then run->report has the reason).
 * Sleeps while there is nothing to do: a main thread that looked now and then would take a CPU from
 * one of the two sides each time. Thread: main; workers_start() has been called.
 */
void
run_drive(struct run *run);

/*
 * Stops the rings of run->frontends, unless the run has ended early: then a back end may not
 * answer. What it does wrong is in run->report. Thread: main, when the lcores have ended.
 */
void
run_stop(const struct run *run);

/*
 * The table, or with --json - none, the JSON, and on standard error why the run ended early.
 * Returns an exit status. Thread: main, last of all.
 */
int
run_tell(const struct report *r);

/* Pairs with the store of run_drive(): options and memory were made before the launch. */
static __rte_always_inline enum run_phase
run_phase(const struct run *run)
{
	return __atomic_load_n(&run->phase, __ATOMIC_RELAXED);
}

/* An lcore's reason to give up; the first one stays. Thread: LCORE. Returns -EPROTO. */
int
run_fault(struct run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- how busy an lcore is, and for how long it was away ---- */

struct run_meter {
	struct report_lcore *lcore;
	uint64_t turn_cycles;  /* when the last turn began */
	uint64_t pause_cycles; /* a turn that took no longer than that is none */
	uint64_t still_cycles; /* RUN_STILL_MS */
	uint64_t item_cycles;  /* an allowance for each item of a turn */
	bool measuring;
};

/* `item_bytes`: what the lcore itself reads or writes of an item's data. */
void
run_meter_init(struct run_meter *m, struct report_lcore *lcore, uint64_t item_bytes);

/*
 * The measured time begins, or ends, at `now`; what was counted before it is forgotten already.
 * Thread: the LCORE, as all of these.
 */
static inline void
run_meter_enter(struct run_meter *m, enum run_phase phase, uint64_t now)
{
	/* Pairs with the loads of run.c and report.c: whole values, no order. */
	__atomic_store_n(&m->lcore->turn_cycles, now, __ATOMIC_RELAXED);
	if (phase == RUN_MEASURE && !m->measuring) {
		m->measuring = true;
		__atomic_store_n(&m->lcore->busy_cycles, 0, __ATOMIC_RELAXED);
		/* Pairs with their acquiring loads: who sees it sees no more of the ramp. */
		__atomic_store_n(&m->lcore->begin_cycles, now, __ATOMIC_RELEASE);
	} else if (phase != RUN_MEASURE && m->measuring) {
		m->measuring = false;
		__atomic_store_n(&m->lcore->end_cycles, now, __ATOMIC_RELAXED);
	}
	m->turn_cycles = now;
}

/* A turn of `n` items took longer than one without may: whether it was a pause, and what of it. */
void
run_meter_long_turn(struct run_meter *m, uint64_t cycles, unsigned int n);

/* The turn that began at m->turn_cycles ends, the next one begins, at `now`; it had `n` items. */
static __rte_always_inline void
run_meter_turn(struct run_meter *m, uint64_t now, unsigned int n)
{
	const uint64_t cycles = now - m->turn_cycles;

	if (n > 0 && m->measuring)
		vhub_count(&m->lcore->busy_cycles, cycles);
	if (unlikely(cycles > m->pause_cycles))
		run_meter_long_turn(m, cycles, n);
	/* Pairs with run.c's acquiring load: what of the turn does not count is told before it. */
	__atomic_store_n(&m->lcore->turn_cycles, now, __ATOMIC_RELEASE);
	m->turn_cycles = now;
}

#endif /* PERF_RUN_H */
