/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The report for people (report.h): a line of progress on a terminal, the table at the end. Called
 * by run.c; next: report_json.c.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <rte_cycles.h>

#include "report.h"

/* ---- numbers for people ---- */

static const char *
rate_text(const struct report *r, double per_s, char *text, size_t len)
{
	if (r->kind->packets)
		snprintf(text, len, "%.3f Mpps", per_s / 1e6);
	else if (per_s < 1e6)
		snprintf(text, len, "%.1f K IOPS", per_s / 1e3);
	else
		snprintf(text, len, "%.3f M IOPS", per_s / 1e6);
	return text;
}

/* Packets are counted in bits, disks in bytes. */
static const char *
throughput_text(const struct report *r, double bytes_per_s, char *text, size_t len)
{
	if (r->kind->packets)
		snprintf(text, len, "%.3f Gbit/s", bytes_per_s * 8 / 1e9);
	else
		snprintf(text, len, "%.1f MB/s", bytes_per_s / 1e6);
	return text;
}

static const char *
time_text(double cycles, char *text, size_t len)
{
	const double ns = report_ns(cycles);

	if (ns < 1e3)
		snprintf(text, len, "%.0f ns", ns);
	else if (ns < 1e6)
		snprintf(text, len, "%.2f us", ns / 1e3);
	else if (ns < 1e9)
		snprintf(text, len, "%.2f ms", ns / 1e6);
	else
		snprintf(text, len, "%.2f s", ns / 1e9);
	return text;
}

/* ---- progress ---- */

static bool
on_terminal(void)
{
	return isatty(STDERR_FILENO) == 1;
}

void
report_progress(struct report *r)
{
	struct report_sum *sum;
	uint64_t items, now;
	char rate[32], p99[32];

	if (!on_terminal())
		return;
	sum = malloc(sizeof(*sum));
	if (sum == NULL)
		return;
	report_sum(r, REPORT_ALL, sum);
	now = rte_rdtsc();
	items = sum->figures.items;
	/* The figures start anew when the measured time begins. */
	if (items < r->seen_items)
		r->seen_items = 0;
	rate_text(r,
			(double)(items - r->seen_items) * (double)rte_get_tsc_hz() /
					(double)(now - r->seen_cycles),
			rate, sizeof(rate));
	time_text((double)vhub_hist_percentile(&sum->figures.latency, 99000), p99, sizeof(p99));
	if (r->seen_cycles != 0)
		fprintf(stderr, "\r\033[K%4.0f s  %s  p99 %s  busy %.0f %%", sum->seconds, rate,
				p99, sum->busy * 100);
	r->seen_items = items;
	r->seen_cycles = now;
	free(sum);
}

void
report_progress_end(void)
{
	if (on_terminal())
		fprintf(stderr, "\r\033[K");
}

/* ---- the table ---- */

static void
print_latency(const struct vhub_hist *h)
{
	static const struct {
		const char *name;
		unsigned int per_100000;
	} rows[] = {
		{ "p50", 50000 },
		{ "p90", 90000 },
		{ "p99", 99000 },
		{ "p99.9", 99900 },
	};
	char text[32];

	if (vhub_hist_count(h) == 0)
		return;
	printf("  latency    ");
	for (unsigned int i = 0; i < RTE_DIM(rows); i++)
		printf(" %s %s,", rows[i].name,
				time_text((double)vhub_hist_percentile(h, rows[i].per_100000), text,
						sizeof(text)));
	printf(" max %s,", time_text((double)h->max, text, sizeof(text)));
	printf(" mean %s\n", time_text(vhub_hist_mean(h), text, sizeof(text)));
}

/* "name 12, other 3"; only those that are not 0 when `all` is false. How many were printed. */
static unsigned int
print_numbers(const char *title, const char *const *names, const uint64_t *numbers, bool all)
{
	unsigned int printed = 0;

	for (unsigned int i = 0; names[i] != NULL; i++) {
		if (!all && numbers[i] == 0)
			continue;
		printf("%s%s %" PRIu64, printed == 0 ? title : ", ", names[i], numbers[i]);
		printed++;
	}
	if (printed > 0)
		printf("\n");
	return printed;
}

static void
print_queues(const struct report *r)
{
	char rate[32], p99[32];

	if (r->n_queues < 2)
		return;
	printf("  %6s %6s %5s %16s %12s\n", "device", "queue", "cpu", "rate", "p99");
	for (unsigned int i = 0; i < r->n_queues; i++) {
		const struct report_queue *q = &r->queues[i];
		const double seconds = report_seconds(r, q->lcore);

		printf("  %6u %6u %5u %16s %12s", q->device, q->queue, r->lcores[q->lcore].cpu,
				rate_text(r, seconds > 0 ? (double)q->figures.items / seconds : 0,
						rate, sizeof(rate)),
				time_text((double)vhub_hist_percentile(&q->figures.latency, 99000),
						p99, sizeof(p99)));
		if (print_numbers("  ", r->kind->errors, q->figures.errors, false) == 0)
			printf("\n");
	}
}

static void
print_pauses(const struct report_sum *sum)
{
	char total[32], longest[32];

	if (sum->pauses == 0)
		return;
	printf("  pauses       %" PRIu64 ", %s in all (%.1f %%), longest %s\n", sum->pauses,
			time_text((double)sum->pause_cycles, total, sizeof(total)),
			sum->paused * 100,
			time_text((double)sum->longest_pause_cycles, longest, sizeof(longest)));
}

void
report_print(const struct report *r)
{
	struct report_sum *sum = malloc(sizeof(*sum));
	char rate[32], throughput[32];

	if (sum == NULL)
		return;
	report_sum(r, REPORT_ALL, sum);
	printf("%s\n", r->what);
	printf("  rate         %s, %s, %" PRIu64 " %ss in %.2f s\n",
			rate_text(r, sum->per_s, rate, sizeof(rate)),
			throughput_text(r, sum->bytes_per_s, throughput, sizeof(throughput)),
			sum->figures.items, r->kind->item, sum->seconds);
	print_latency(&sum->figures.latency);
	printf("  front end    busy %.1f %%, %.0f cycles a %s\n", sum->busy * 100,
			sum->cycles_per_item, r->kind->item);
	print_pauses(sum);
	print_numbers("  counts       ", r->kind->counts, sum->figures.counts, true);
	if (print_numbers("  errors       ", r->kind->errors, sum->figures.errors, false) == 0)
		printf("  errors       none\n");
	print_queues(r);
	if (r->error[0] != '\0')
		printf("  ended early  %s\n", r->error);
	fflush(stdout);
	free(sum);
}
