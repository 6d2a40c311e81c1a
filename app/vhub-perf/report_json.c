/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The report for programs (report.h), as doc/guides/vhub-perf.rst describes it: who adds a key adds
 * it there. Called by run.c, at the end of a run.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>

#include "perf.h"
#include "report.h"

#define SCHEMA 1

static json_t *
latency_json(const struct vhub_hist *h)
{
	const uint64_t n = vhub_hist_count(h);

	if (n == 0)
		return json_null();
#define P(per_100000) (json_int_t) report_ns((double)vhub_hist_percentile(h, per_100000))
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:f, s:I}", "p50", P(50000), "p90", P(90000),
			"p99", P(99000), "p99.9", P(99900), "max",
			(json_int_t)report_ns((double)h->max), "mean", report_ns(vhub_hist_mean(h)),
			"count", (json_int_t)n);
#undef P
}

static json_t *
numbers_json(const char *const *names, const uint64_t *numbers)
{
	json_t *object = json_object();

	for (unsigned int i = 0; names[i] != NULL; i++)
		json_object_set_new(object, names[i], json_integer((json_int_t)numbers[i]));
	return object;
}

/* What the whole and a queue have in common. */
static void
add_figures(json_t *to, const struct report *r, const struct report_figures *f, double per_s,
		double bytes_per_s)
{
	json_object_set_new(to, "items", json_integer((json_int_t)f->items));
	if (r->kind->packets)
		json_object_set_new(to, "mpps", json_real(per_s / 1e6));
	else
		json_object_set_new(to, "iops", json_real(per_s));
	json_object_set_new(to, "bytes_per_s", json_real(bytes_per_s));
	json_object_set_new(to, "lat_ns", latency_json(&f->latency));
	json_object_set_new(to, "errors", numbers_json(r->kind->errors, f->errors));
	json_object_set_new(to, "counts", numbers_json(r->kind->counts, f->counts));
}

static json_t *
queues_json(const struct report *r)
{
	json_t *array = json_array();

	for (unsigned int i = 0; i < r->n_queues; i++) {
		const struct report_queue *q = &r->queues[i];
		const double seconds = report_seconds(r, q->lcore);
		json_t *object = json_pack("{s:i, s:i}", "device", (int)q->device, "queue",
				(int)q->queue);

		add_figures(object, r, &q->figures,
				seconds > 0 ? (double)q->figures.items / seconds : 0,
				seconds > 0 ? (double)q->figures.bytes / seconds : 0);
		json_array_append_new(array, object);
	}
	return array;
}

static json_t *
cycles_json(const struct report_sum *sum)
{
	return sum->figures.items > 0 ? json_real(sum->cycles_per_item) : json_null();
}

static json_t *
pauses_json(const struct report_sum *sum)
{
	return json_pack("{s:I, s:I, s:I}", "count", (json_int_t)sum->pauses, "total_ns",
			(json_int_t)report_ns((double)sum->pause_cycles), "longest_ns",
			(json_int_t)report_ns((double)sum->longest_pause_cycles));
}

static json_t *
lcores_json(const struct report *r, struct report_sum *sum)
{
	json_t *array = json_array();

	for (unsigned int i = 0; i < r->n_lcores; i++) {
		report_sum(r, i, sum);
		json_array_append_new(array,
				json_pack("{s:i, s:f, s:I, s:o, s:o}", "cpu", (int)r->lcores[i].cpu,
						"busy", sum->busy, "items",
						(json_int_t)sum->figures.items, "cycles_per_item",
						cycles_json(sum), "pauses", pauses_json(sum)));
	}
	return array;
}

static json_t *
report_json(const struct report *r, struct report_sum *sum)
{
	json_t *object = json_object();
	char start[32] = "";
	struct tm tm;

	report_sum(r, REPORT_ALL, sum);
	if (gmtime_r(&r->start, &tm) != NULL)
		strftime(start, sizeof(start), "%Y-%m-%dT%H:%M:%SZ", &tm);
	json_object_set_new(object, "schema", json_integer(SCHEMA));
	json_object_set_new(object, "version", json_string(VHUB_VERSION));
	json_object_set_new(object, "command", json_string(r->kind->command));
	json_object_set_new(object, "ok", json_boolean(report_ok(r)));
	if (r->error[0] != '\0')
		json_object_set_new(object, "error", json_string(r->error));
	json_object_set_new(object, "start", json_string(start));
	json_object_set_new(object, "seconds", json_real(sum->seconds));
	add_figures(object, r, &sum->figures, sum->per_s, sum->bytes_per_s);
	json_object_set_new(object, "cycles_per_item", cycles_json(sum));
	json_object_set_new(object, "busy", json_real(sum->busy));
	json_object_set_new(object, "pauses", pauses_json(sum));
	json_object_set_new(object, "tsc_hz", json_integer((json_int_t)rte_get_tsc_hz()));
	json_object_set_new(object, "lcores", lcores_json(r, sum));
	json_object_set_new(object, "queues", queues_json(r));
	json_object_set(object, "parameters", r->parameters);
	return object;
}

/* Returns 0 or -errno. */
static int
dump(json_t *object, const char *path)
{
	FILE *file = strcmp(path, "-") == 0 ? stdout : fopen(path, "we");
	int ret = 0;

	if (file == NULL)
		return -errno;
	if (json_dumpf(object, file, JSON_INDENT(1) | JSON_REAL_PRECISION(10)) != 0 ||
			fputc('\n', file) == EOF || fflush(file) != 0)
		ret = errno != 0 ? -errno : -EIO;
	if (file != stdout && fclose(file) != 0 && ret == 0)
		ret = -errno;
	return ret;
}

int
report_write_json(json_t *object, const char *path)
{
	const int ret = object == NULL ? -ENOMEM : dump(object, path);

	if (ret != 0)
		perf_error(path, "cannot write the report: %s", strerror(-ret));
	json_decref(object);
	return ret;
}

int
report_write(const struct report *r, const char *path)
{
	struct report_sum *sum = malloc(sizeof(*sum));
	int ret;

	if (sum == NULL)
		return -ENOMEM;
	ret = report_write_json(report_json(r, sum), path);
	free(sum);
	return ret;
}
