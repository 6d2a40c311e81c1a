/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Leads a verified run (blk_verify.h): load, reading back, a new session each time that the back
 * end has gone, and rings that are suspended and go on. Called by blk_run.c; on the lcores:
 * blk_verify.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>

#include <rte_cycles.h>

#include "blk_verify.h"
#include "perf.h"
#include "ring_fast.h"
#include "worker.h"

#define LOOK_MS 5
#define PROGRESS_MS 1000u
/* Time counts for so many intervals of --rate in which nothing comes back. */
#define STILL_INTERVALS 4u
#define MAX_TRIES 10u

/* ---- lcores ---- */

static void
set_phase(struct verify_run *run, uint32_t phase)
{
	/* Pairs with the lcores' loads: who uses the rings next sees what main did to them. */
	__atomic_store_n(&run->phase, phase, __ATOMIC_RELEASE);
}

static unsigned int
ended(const struct verify_run *run)
{
	return __atomic_load_n(&run->n_ended, __ATOMIC_ACQUIRE);
}

/* Until no lcore uses a ring: each keeps off, or has left. */
static void
pause_lcores(struct verify_run *run)
{
	set_phase(run, VERIFY_PAUSE);
	while (__atomic_load_n(&run->n_paused, __ATOMIC_ACQUIRE) + ended(run) <
			run->run.report->n_lcores)
		poll(NULL, 0, 1);
}

static void
resume_lcores(struct verify_run *run, uint32_t phase)
{
	set_phase(run, phase);
	/* Or the next pause would count those of this one. */
	while (__atomic_load_n(&run->n_paused, __ATOMIC_ACQUIRE) > 0)
		poll(NULL, 0, 1);
}

/* ---- a back end that has gone ---- */

/* Everything that its last life has finished. */
static int
reap_all(struct verify_run *run, struct blk_queue *q)
{
	int n;

	do {
		n = blk_verify_reap(q);
	} while (n > 0);
	if (n < 0)
		report_fail(run->run.report, "%s: %s", q->device->path, q->ring->fault);
	return n;
}

static int
renew_session(struct verify_run *run, struct blk_device *d)
{
	const bool kept = d->fe->inflight_fd >= 0;
	int ret = 0;

	for (unsigned int i = 0; ret == 0 && i < d->n_queues; i++) {
		ret = reap_all(run, &d->queues[i]);
		if (ret == 0 && !kept) {
			/* Nobody knows of it any more: it is sent again, and nothing else is. */
			ring_reset(d->rings[i]);
			blk_verify_send_again(&d->queues[i]);
		}
		vhub_count(&d->queues[i].figures->counts[BLK_COUNT_RECONNECTS], i == 0);
	}
	/* One that is being started and stopped may go in the middle of it. */
	for (unsigned int i = 0; ret == 0 && i < MAX_TRIES; i++) {
		ret = frontend_reopen(d->fe);
		if (ret == 0)
			ret = frontend_restart(d->fe);
		if (ret != -ECONNRESET)
			break;
		ret = i + 1 < MAX_TRIES ? 0 : ret;
	}
	for (unsigned int i = 0; ret == 0 && i < d->n_queues; i++)
		blk_verify_wake(&d->queues[i]);
	return ret;
}

static int
reconnect(struct verify_run *run, struct blk_device *d, uint32_t phase)
{
	int ret;

	pause_lcores(run);
	ret = renew_session(run, d);
	if (ret != 0)
		report_fail(run->run.report,
				"%s: the back end has hung up, and no new session could be had",
				d->path);
	resume_lcores(run, ret == 0 ? phase : VERIFY_END);
	return ret;
}

/* ---- rings that stop with what they have in flight ---- */

/* Each request has come back, or the region has it; or it was not taken yet. */
static int
look_at_left(struct verify_run *run, struct blk_device *d)
{
	int ret = 0;

	for (unsigned int i = 0; ret == 0 && i < d->n_queues; i++) {
		uint32_t left = 0;

		ret = reap_all(run, &d->queues[i]);
		if (ret == 0)
			ret = frontend_left(d->fe, d->rings[i], &left);
		vhub_count(&d->queues[i].figures->counts[BLK_COUNT_LEFT], left);
	}
	return ret;
}

static int
suspend_device(struct verify_run *run, struct blk_device *d)
{
	const struct blk_options *o = run->blk->options;
	const uint64_t begin = rte_rdtsc();
	uint64_t *counts = d->queues[0].figures->counts;
	int ret = frontend_suspend(d->fe);

	vhub_count(&counts[BLK_COUNT_SUSPENSIONS], 1);
	vhub_count(&counts[BLK_COUNT_SUSPEND_US],
			(rte_rdtsc() - begin) * 1000 / (rte_get_tsc_hz() / 1000));
	if (ret == 0)
		ret = look_at_left(run, d);
	if (ret == 0 && o->hand_over != NULL)
		ret = frontend_move(d->fe,
				d->fe->config.path == o->hand_over ? d->path : o->hand_over);
	if (ret == 0)
		ret = frontend_restart(d->fe);
	for (unsigned int i = 0; ret == 0 && i < d->n_queues; i++)
		blk_verify_wake(&d->queues[i]);
	return ret;
}

static int
suspend_all(struct verify_run *run, uint32_t phase)
{
	int ret = 0;

	pause_lcores(run);
	for (unsigned int i = 0; ret == 0 && i < run->blk->n_devices; i++) {
		ret = suspend_device(run, &run->blk->devices[i]);
		if (ret != 0)
			report_fail(run->run.report, "%s: the rings were not suspended and resumed",
					run->blk->devices[i].fe->config.path);
	}
	resume_lcores(run, ret == 0 ? phase : VERIFY_END);
	return ret;
}

/* ---- phases ---- */

static uint64_t
items(const struct report *r)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < r->n_queues; i++)
		sum += __atomic_load_n(&r->queues[i].figures.items, __ATOMIC_RELAXED);
	return sum;
}

/*
 * For how many cycles nothing may come back before time does not count, and at most what one look
 * counts for: a machine, or a back end, that stands still for a second takes no second from a run,
 * which is to find something.
 */
static uint64_t
still_cycles(void)
{
	const uint64_t hz = rte_get_tsc_hz(), least = hz / 1000 * RUN_STILL_MS;

	return run_options.rate == 0 ? least :
				       RTE_MAX(least, hz * STILL_INTERVALS / run_options.rate);
}

/*
 * While the lcores are in the phase, for `ns` in which we ran or until all have left; with nothing
 * done for as long as the back end may take to answer, it ends too. Returns 0, or -errno when the
 * run cannot go on.
 */
static int
stay(struct verify_run *run, uint32_t phase, uint64_t ns)
{
	const uint64_t ms = rte_get_tsc_hz() / 1000, begin = rte_rdtsc(), still = still_cycles();
	const uint64_t patience = run_options.patience_ms * ms;
	const uint64_t limit = ns != UINT64_MAX ? ns / 1000000 * ms : UINT64_MAX;
	const uint64_t every = run->blk->options->suspend_ns / 1000 * ms / 1000;
	uint64_t now = begin, gone = 0, shown = begin, moved = begin, suspended = begin, seen = 0;
	int ret = 0;

	set_phase(run, phase);
	while (ret == 0 && ended(run) < run->run.report->n_lcores && gone < limit) {
		/* What was written is read back all the same. */
		if (phase == VERIFY_LOAD && workers_asked_to_end())
			break;
		for (unsigned int i = 0; ret == 0 && i < run->blk->n_devices; i++) {
			if (!frontend_hung_up(run->blk->devices[i].fe))
				continue;
			ret = reconnect(run, &run->blk->devices[i], phase);
			moved = rte_rdtsc();
		}
		if (ret == 0 && every != 0 && now - suspended > every) {
			ret = suspend_all(run, phase);
			suspended = rte_rdtsc();
		}
		if (items(run->run.report) != seen) {
			seen = items(run->run.report);
			moved = now;
		} else if (now > moved + patience) {
			return 0;
		}
		if (now - shown > PROGRESS_MS * ms) {
			report_progress(run->run.report);
			shown = now;
		}
		poll(NULL, 0, LOOK_MS);
		if (now <= moved + still)
			gone += RTE_MIN(rte_rdtsc() - now, RUN_STILL_MS * ms);
		now = rte_rdtsc();
	}
	return ret;
}

void
blk_verify_drive(struct blk_run *blk, struct report *report)
{
	struct verify_launch launches[RTE_MAX_LCORE];
	struct verify_run run = {
		.run.report = report,
		.blk = blk,
	};
	int ret;

	report->start = time(NULL);
	for (unsigned int i = 0; i < report->n_lcores; i++) {
		launches[i] = (struct verify_launch){ &run, i };
		report->lcores[i].cpu = workers_cpu(i);
		/* They are idle: nobody has launched anything. */
		workers_launch(i, blk_verify_lcore, &launches[i]);
	}
	ret = stay(&run, VERIFY_LOAD, run_options.runtime_ns);
	if (ret == 0)
		ret = stay(&run, VERIFY_READ_BACK, UINT64_MAX);
	set_phase(&run, VERIFY_END);
	for (unsigned int i = 0; i < report->n_lcores; i++)
		workers_join(i);
	report_progress_end();
	if (run.run.fault[0] != '\0')
		report_fail(report, "%s", run.run.fault);
}
