/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Figures of a run (report.h): their life, and sums over queues and lcores. Called by run.c and the
 * generators; next: report_text.c, report_json.c.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>

#include "report.h"

static void *
zeroed(size_t n, size_t size)
{
	void *memory = aligned_alloc(RTE_CACHE_LINE_SIZE, n * size);

	if (memory != NULL)
		memset(memory, 0, n * size);
	return memory;
}

int
report_create(const struct report_kind *kind, unsigned int n_queues, unsigned int n_lcores,
		struct report **out)
{
	struct report *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return -ENOMEM;
	r->kind = kind;
	r->n_queues = n_queues;
	r->n_lcores = n_lcores;
	r->queues = zeroed(n_queues, sizeof(*r->queues));
	r->lcores = zeroed(n_lcores, sizeof(*r->lcores));
	r->parameters = json_object();
	if (r->queues == NULL || r->lcores == NULL || r->parameters == NULL) {
		report_destroy(r);
		return -ENOMEM;
	}
	*out = r;
	return 0;
}

void
report_destroy(struct report *r)
{
	if (r == NULL)
		return;
	json_decref(r->parameters);
	free(r->queues);
	free(r->lcores);
	free(r);
}

static void
forget(uint64_t *counters, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		__atomic_store_n(&counters[i], 0, __ATOMIC_RELAXED);
}

void
report_forget(struct report_queue *queue)
{
	struct report_figures *f = &queue->figures;

	forget(&f->items, 1);
	forget(&f->bytes, 1);
	forget(f->errors, REPORT_MAX_ERRORS);
	forget(f->counts, REPORT_MAX_COUNTS);
	vhub_hist_reset(&f->latency);
}

void
report_fail(struct report *r, const char *format, ...)
{
	va_list args;

	if (r->error[0] != '\0')
		return;
	va_start(args, format);
	vsnprintf(r->error, sizeof(r->error), format, args);
	va_end(args);
}

bool
report_ok(const struct report *r)
{
	for (unsigned int q = 0; q < r->n_queues; q++) {
		for (unsigned int i = 0; i < REPORT_MAX_ERRORS; i++) {
			if (r->queues[q].figures.errors[i] != 0)
				return false;
		}
	}
	return r->error[0] == '\0';
}

double
report_ns(double cycles)
{
	return cycles * 1e9 / (double)rte_get_tsc_hz();
}

/*
 * The loads here and below pair with the stores of the lcores: whole values, no order; but that of
 * the begin, before which the ramp's figures were forgotten.
 */
static uint64_t
measured_cycles(const struct report_lcore *lcore)
{
	const uint64_t begin = __atomic_load_n(&lcore->begin_cycles, __ATOMIC_ACQUIRE);
	const uint64_t end = __atomic_load_n(&lcore->end_cycles, __ATOMIC_RELAXED);

	if (begin == 0)
		return 0;
	return (end != 0 ? end : rte_rdtsc()) - begin;
}

double
report_seconds(const struct report *r, unsigned int lcore)
{
	return report_ns((double)measured_cycles(&r->lcores[lcore])) / 1e9;
}

static void
add(uint64_t *to, const uint64_t *from, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		to[i] += __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

static void
add_queue(const struct report *r, const struct report_queue *queue, struct report_sum *sum)
{
	const double seconds = report_seconds(r, queue->lcore);
	const struct report_figures *f = &queue->figures;
	struct report_figures *to = &sum->figures;
	uint64_t items = 0, bytes = 0;

	add(&items, &f->items, 1);
	add(&bytes, &f->bytes, 1);
	to->items += items;
	to->bytes += bytes;
	add(to->errors, f->errors, REPORT_MAX_ERRORS);
	add(to->counts, f->counts, REPORT_MAX_COUNTS);
	vhub_hist_merge(&to->latency, &f->latency);
	if (seconds > 0) {
		sum->per_s += (double)items / seconds;
		sum->bytes_per_s += (double)bytes / seconds;
	}
}

static void
add_pauses(const struct report_lcore *l, struct report_sum *sum)
{
	const uint64_t longest = __atomic_load_n(&l->longest_pause_cycles, __ATOMIC_RELAXED);

	add(&sum->pauses, &l->pauses, 1);
	add(&sum->pause_cycles, &l->pause_cycles, 1);
	sum->longest_pause_cycles = RTE_MAX(sum->longest_pause_cycles, longest);
}

void
report_sum(const struct report *r, unsigned int lcore, struct report_sum *sum)
{
	uint64_t busy = 0, all = 0;

	memset(sum, 0, sizeof(*sum));
	for (unsigned int i = 0; i < r->n_lcores; i++) {
		if (lcore != REPORT_ALL && lcore != i)
			continue;
		busy += __atomic_load_n(&r->lcores[i].busy_cycles, __ATOMIC_RELAXED);
		all += measured_cycles(&r->lcores[i]);
		add_pauses(&r->lcores[i], sum);
		sum->seconds = RTE_MAX(sum->seconds, report_seconds(r, i));
	}
	for (unsigned int q = 0; q < r->n_queues; q++) {
		if (lcore == REPORT_ALL || lcore == r->queues[q].lcore)
			add_queue(r, &r->queues[q], sum);
	}
	if (all > 0) {
		sum->busy = (double)busy / (double)all;
		sum->paused = (double)sum->pause_cycles / (double)all;
	}
	if (sum->figures.items > 0)
		sum->cycles_per_item = (double)busy / (double)sum->figures.items;
}
