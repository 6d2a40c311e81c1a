/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The report: sums over queues and lcores, each lcore's rate over its own time, and a JSON file that
 * has the keys which the guide promises.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_cycles.h>

#include "../eal_fixture.h"
#include "report.h"

static const struct report_kind kind = {
	.command = "net",
	.packets = true,
	.item = "packet",
	.errors = { "lost", "corrupt" },
	.counts = { "sent" },
};

static struct report *r;

static bool
about(double a, double b)
{
	return fabs(a - b) <= fabs(b) * 1e-6;
}

/* Two queues on the first lcore, which ran for 2 s, and one on the second, for 4 s. */
static int
setup(void **state)
{
	const uint64_t hz = rte_get_tsc_hz();

	(void)state;
	if (report_create(&kind, 3, 2, &r) != 0)
		return -1;
	for (unsigned int q = 0; q < 3; q++) {
		struct report_figures *f = &r->queues[q].figures;

		r->queues[q].device = q / 2;
		r->queues[q].queue = q % 2;
		r->queues[q].lcore = q / 2;
		f->items = 1000 * (q + 1);
		f->bytes = 64 * f->items;
		f->counts[0] = f->items + 1;
		for (unsigned int i = 0; i < f->items; i++)
			vhub_hist_add(&f->latency, hz / 1000000 * (q + 1));
	}
	for (unsigned int i = 0; i < 2; i++) {
		r->lcores[i].cpu = 4 + i;
		r->lcores[i].begin_cycles = 1000;
		r->lcores[i].end_cycles = 1000 + 2 * (i + 1) * hz;
		r->lcores[i].busy_cycles = hz;
		r->lcores[i].pauses = 3 - i;
		r->lcores[i].pause_cycles = (3 - i) * hz / 10;
		r->lcores[i].longest_pause_cycles = (1 + i) * hz / 100;
	}
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	report_destroy(r);
	r = NULL;
	return 0;
}

static void
test_sums_are_over_each_lcores_own_time(void **state)
{
	static struct report_sum sum;

	(void)state;
	report_sum(r, REPORT_ALL, &sum);
	assert_int_equal(sum.figures.items, 6000);
	assert_int_equal(sum.figures.bytes, 6000 * 64);
	assert_int_equal(sum.figures.counts[0], 6003);
	assert_int_equal(vhub_hist_count(&sum.figures.latency), 6000);
	assert_true(about(sum.seconds, 4));
	assert_true(about(sum.per_s, 3000 / 2.0 + 3000 / 4.0));
	assert_true(about(sum.bytes_per_s, 64 * (3000 / 2.0 + 3000 / 4.0)));
	assert_true(about(sum.busy, 2 / 6.0));
	assert_int_equal(sum.pauses, 5);
	assert_true(about(sum.paused, 0.5 / 6));
	assert_int_equal(sum.longest_pause_cycles, 2 * rte_get_tsc_hz() / 100);
	assert_true(about(sum.cycles_per_item, 2.0 * (double)rte_get_tsc_hz() / 6000));
	report_sum(r, 1, &sum);
	assert_int_equal(sum.figures.items, 3000);
	assert_true(about(sum.busy, 0.25));
	assert_true(about(sum.per_s, 750));
}

static void
test_any_error_and_any_reason_is_no_success(void **state)
{
	(void)state;
	assert_true(report_ok(r));
	r->queues[2].figures.errors[1] = 1;
	assert_false(report_ok(r));
	report_forget(&r->queues[2]);
	assert_int_equal(r->queues[2].figures.items, 0);
	assert_true(report_ok(r));
	report_fail(r, "the %s reason", "first");
	report_fail(r, "the second");
	assert_string_equal(r->error, "the first reason");
	assert_false(report_ok(r));
}

static json_t *
written(void)
{
	char path[] = "/tmp/vhub-report-XXXXXX";
	const int fd = mkstemp(path);
	json_t *object;

	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(report_write(r, path), 0);
	object = json_load_file(path, 0, NULL);
	unlink(path);
	assert_non_null(object);
	return object;
}

static void
assert_latency(json_t *lat, double us)
{
	static const char *const keys[] = { "p50", "p90", "p99", "p99.9", "max" };

	for (unsigned int i = 0; i < RTE_DIM(keys); i++) {
		json_t *value = json_object_get(lat, keys[i]);

		assert_true(json_is_integer(value));
		assert_true(fabs((double)json_integer_value(value) - us * 1000) <= us * 16 + 1);
	}
	assert_true(json_is_real(json_object_get(lat, "mean")));
	assert_true(json_is_integer(json_object_get(lat, "count")));
	assert_int_equal(json_object_size(lat), RTE_DIM(keys) + 2);
}

/* To a microsecond: the TSC has no whole number of cycles in a nanosecond. */
static void
assert_pauses(json_t *pauses, int64_t count, int64_t total_ms, int64_t longest_ms)
{
	assert_int_equal(json_integer_value(json_object_get(pauses, "count")), count);
	assert_int_equal((json_integer_value(json_object_get(pauses, "total_ns")) + 500) / 1000,
			total_ms * 1000);
	assert_int_equal((json_integer_value(json_object_get(pauses, "longest_ns")) + 500) / 1000,
			longest_ms * 1000);
	assert_int_equal(json_object_size(pauses), 3);
}

static void
test_the_json_file_stands_alone(void **state)
{
	static const char *const reals[] = { "seconds", "mpps", "bytes_per_s", "busy",
		"cycles_per_item" };
	json_t *object, *queue, *lcore;

	(void)state;
	json_object_set_new(r->parameters, "mode", json_string("echo"));
	r->queues[1].figures.errors[0] = 7;
	object = written();
	assert_int_equal(json_integer_value(json_object_get(object, "schema")), 1);
	assert_string_equal(json_string_value(json_object_get(object, "version")), VHUB_VERSION);
	assert_string_equal(json_string_value(json_object_get(object, "command")), "net");
	assert_true(json_is_false(json_object_get(object, "ok")));
	assert_null(json_object_get(object, "error"));
	assert_null(json_object_get(object, "iops"));
	assert_int_equal(json_integer_value(json_object_get(object, "items")), 6000);
	for (unsigned int i = 0; i < RTE_DIM(reals); i++)
		assert_true(json_is_real(json_object_get(object, reals[i])));
	assert_true(about(json_real_value(json_object_get(object, "mpps")), 2250 / 1e6));
	assert_int_equal(json_integer_value(json_object_get(json_object_get(object, "errors"),
					 "lost")),
			7);
	assert_int_equal(json_object_size(json_object_get(object, "errors")), 2);
	assert_string_equal(json_string_value(json_object_get(json_object_get(object, "parameters"),
					    "mode")),
			"echo");
	assert_int_equal(json_array_size(json_object_get(object, "queues")), 3);
	queue = json_array_get(json_object_get(object, "queues"), 1);
	assert_int_equal(json_integer_value(json_object_get(queue, "queue")), 1);
	assert_int_equal(json_integer_value(json_object_get(queue, "device")), 0);
	assert_true(about(json_real_value(json_object_get(queue, "mpps")), 1000 / 1e6));
	assert_latency(json_object_get(queue, "lat_ns"), 2);
	lcore = json_array_get(json_object_get(object, "lcores"), 1);
	assert_int_equal(json_integer_value(json_object_get(lcore, "cpu")), 5);
	assert_true(about(json_real_value(json_object_get(lcore, "busy")), 0.25));
	assert_pauses(json_object_get(lcore, "pauses"), 2, 200, 20);
	assert_pauses(json_object_get(object, "pauses"), 5, 500, 20);
	json_decref(object);
}

static void
test_what_was_not_measured_is_null(void **state)
{
	json_t *object;

	(void)state;
	for (unsigned int q = 0; q < 3; q++)
		report_forget(&r->queues[q]);
	report_fail(r, "nothing came");
	object = written();
	assert_true(json_is_null(json_object_get(object, "lat_ns")));
	assert_true(json_is_null(json_object_get(object, "cycles_per_item")));
	assert_string_equal(json_string_value(json_object_get(object, "error")), "nothing came");
	json_decref(object);
}

static void
test_a_file_that_cannot_be_written_is_told(void **state)
{
	(void)state;
	assert_int_equal(report_write(r, "/nowhere/at/all.json"), -ENOENT);
	assert_int_equal(report_write(r, "/dev/full"), -ENOSPC);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_sums_are_over_each_lcores_own_time, setup,
				teardown),
		cmocka_unit_test_setup_teardown(test_any_error_and_any_reason_is_no_success, setup,
				teardown),
		cmocka_unit_test_setup_teardown(test_the_json_file_stands_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_was_not_measured_is_null, setup,
				teardown),
		cmocka_unit_test_setup_teardown(test_a_file_that_cannot_be_written_is_told, setup,
				teardown),
	};

	if (test_eal_init() != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
