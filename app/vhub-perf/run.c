/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Leads a run through its phases (run.h). Called by the generators when the rings run; on the
 * lcores their loops, and after it report.c.
 */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "perf.h"
#include "run.h"
#include "worker.h"

#define NS_PER_MS UINT64_C(1000000)
/*
 * The longest sleep: a line of progress is due, and a signal may have come right before the sleep.
 */
#define LOOK_MS 1000u
/* For what is under way at the end: a back end on a busy machine may stand still for a while. */
#define DRAIN_MS 3000u
#define DRAIN_LOOK_MS 10u

struct launch {
	struct run *run;
	unsigned int lcore;
};

int
run_fault(struct run *run, const char *format, ...)
{
	va_list args;

	if (!__atomic_exchange_n(&run->faulty, true, __ATOMIC_RELAXED)) {
		va_start(args, format);
		vsnprintf(run->fault, sizeof(run->fault), format, args);
		va_end(args);
	}
	return -EPROTO;
}

static int
on_lcore(void *arg)
{
	const struct launch *l = arg;
	const int ret = l->run->lcore(l->run, l->lcore);

	/* Pairs with ended(): what the lcore wrote, its reason among it, is there. */
	__atomic_add_fetch(&l->run->n_ended, 1, __ATOMIC_RELEASE);
	eventfd_write(l->run->ended_fd, 1);
	return ret;
}

static unsigned int
ended(const struct run *run)
{
	return __atomic_load_n(&run->n_ended, __ATOMIC_ACQUIRE);
}

/* Whether the run has to end before its time. */
static bool
broken(const struct run *run)
{
	if (ended(run) > 0 || workers_asked_to_end())
		return true;
	for (unsigned int i = 0; i < run->n_frontends; i++) {
		if (!frontend_hung_up(run->frontends[i]))
			continue;
		report_fail(run->report, "%s: the back end has hung up",
				run->frontends[i]->config.path);
		return true;
	}
	return false;
}

static uint64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/*
 * How much of the measured time an lcore has not had yet, as its own turns tell: one that stood
 * still, with the machine or alone, has had nothing of it meanwhile, whoever slept how long.
 */
static uint64_t
missing_ns(const struct report_lcore *l)
{
	/* Pairs with run_meter_enter(): no figure of the ramp is left. */
	const uint64_t begin = __atomic_load_n(&l->begin_cycles, __ATOMIC_ACQUIRE);
	/* Pairs with run_meter_turn(): what does not count of the turns until then is there. */
	const uint64_t turn = __atomic_load_n(&l->turn_cycles, __ATOMIC_ACQUIRE);
	const uint64_t still = __atomic_load_n(&l->still_cycles, __ATOMIC_RELAXED);
	double had_ns;

	/* A turn may have ended in between. */
	if (begin == 0 || turn - begin < still)
		return run_options.runtime_ns;
	had_ns = report_ns((double)(turn - begin - still));
	return had_ns < (double)run_options.runtime_ns ? run_options.runtime_ns - (uint64_t)had_ns :
							 0;
}

static uint64_t
most_missing_ns(const struct report *r)
{
	uint64_t most = 0;

	for (unsigned int i = 0; i < r->n_lcores; i++)
		most = RTE_MAX(most, missing_ns(&r->lcores[i]));
	return most;
}

static bool
all_have_items(const struct report *r)
{
	for (unsigned int i = 0; i < r->n_queues; i++) {
		if (__atomic_load_n(&r->queues[i].figures.items, __ATOMIC_RELAXED) == 0)
			return false;
	}
	return true;
}

static void
enter(struct run *run, enum run_phase phase)
{
	static const char *const names[] = {
		[RUN_RAMP] = "ramp",
		[RUN_MEASURE] = "measure",
		[RUN_DRAIN] = "drain",
	};

	if (run_options.phases_fd != RUN_NO_FD)
		dprintf((int)run_options.phases_fd, "%s\n", names[phase]);
	/* Pairs with run_phase(). */
	__atomic_store_n(&run->phase, phase, __ATOMIC_RELAXED);
}

/* Sleeps for `ns`, but not when broken() has something to see, nor longer than LOOK_MS. */
static void
sleep_for(const struct run *run, uint64_t ns)
{
	struct pollfd fds[2 * RUN_MAX_SOCKETS + 1];
	const unsigned int ms = (unsigned int)RTE_MIN(ns / NS_PER_MS + 1, LOOK_MS);
	unsigned int n = 0;

	fds[n++] = (struct pollfd){ .fd = run->ended_fd, .events = POLLIN };
	for (unsigned int i = 0; i < run->n_frontends; i++)
		fds[n++] = (struct pollfd){ .fd = run->frontends[i]->fd, .events = POLLRDHUP };
	poll(fds, n, (int)ms);
}

/* Waits while the lcores are in the phase; false: the run has to end. */
static bool
stay(struct run *run, uint64_t ns)
{
	uint64_t left = ns, last = now_ns(), shown = last, now;

	while (left > 0) {
		if (broken(run))
			return false;
		if (last - shown >= NS_PER_MS * LOOK_MS) {
			report_progress(run->report);
			shown = last;
		}
		sleep_for(run, left);
		now = now_ns();
		left -= RTE_MIN(now - last, left);
		last = now;
	}
	return true;
}

/* A back end may need a while to get going; what is then missing tells the report. */
static bool
warm_up(struct run *run)
{
	uint32_t left_ms = run_options.patience_ms;

	if (!stay(run, run_options.ramp_ns))
		return false;
	while (run->wait_for_items && !all_have_items(run->report) && left_ms-- > 0) {
		if (!stay(run, NS_PER_MS))
			return false;
	}
	return true;
}

/*
 * Until each lcore has had all of its time. A back end that stood still for all of it has more:
 * nothing is no result.
 */
static void
measure(struct run *run)
{
	uint32_t left_ms = run_options.patience_ms;

	enter(run, RUN_MEASURE);
	for (;;) {
		uint64_t ns = most_missing_ns(run->report);

		if (ns == 0) {
			if (all_have_items(run->report) || left_ms-- == 0)
				return;
			ns = NS_PER_MS;
		}
		if (!stay(run, ns))
			return;
	}
}

/* A look counts for little, as does a turn that lcores count by: nobody may have run meanwhile. */
static void
drain(struct run *run, unsigned int launched)
{
	uint64_t left = NS_PER_MS * DRAIN_MS, last = now_ns(), now;

	enter(run, RUN_DRAIN);
	while (ended(run) < launched && left > 0) {
		poll(NULL, 0, 1);
		now = now_ns();
		left -= RTE_MIN(RTE_MIN(now - last, NS_PER_MS * DRAIN_LOOK_MS), left);
		last = now;
	}
	__atomic_store_n(&run->phase, RUN_END, __ATOMIC_RELAXED);
}

void
run_drive(struct run *run)
{
	const unsigned int n = run->report->n_lcores;
	struct launch launches[RTE_MAX_LCORE];
	unsigned int launched;

	/* Without one, what has ended is seen when the sleep is over. */
	run->ended_fd = eventfd(0, EFD_CLOEXEC);
	enter(run, RUN_RAMP);
	for (launched = 0; launched < n; launched++) {
		launches[launched] = (struct launch){ run, launched };
		run->report->lcores[launched].cpu = workers_cpu(launched);
		if (workers_launch(launched, on_lcore, &launches[launched]) != 0) {
			report_fail(run->report, "lcore on CPU %u is busy", workers_cpu(launched));
			break;
		}
	}
	run->report->start = time(NULL);
	if (launched == n && warm_up(run)) {
		run->report->start = time(NULL);
		measure(run);
	}
	drain(run, launched);
	for (unsigned int i = 0; i < launched; i++)
		workers_join(i);
	close(run->ended_fd);
	report_progress_end();
	if (run->fault[0] != '\0')
		report_fail(run->report, "%s", run->fault);
	if (workers_asked_to_end())
		perf_error(NULL, "ended early, as asked for: figures are of the time until then");
}

void
run_stop(const struct run *run)
{
	for (unsigned int i = 0; run->report->error[0] == '\0' && i < run->n_frontends; i++) {
		if (frontend_stop(run->frontends[i]) != 0)
			report_fail(run->report, "%s: the rings could not be stopped",
					run->frontends[i]->config.path);
	}
}

int
run_tell(const struct report *r)
{
	const char *json = run_options.json;

	if (json == NULL || strcmp(json, "-") != 0)
		report_print(r);
	if (json != NULL && report_write(r, json) != 0)
		return PERF_FAILED;
	if (r->error[0] != '\0')
		perf_error(r->kind->command, "%s", r->error);
	return report_ok(r) ? PERF_OK : PERF_FAILED;
}
