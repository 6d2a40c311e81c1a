/* SPDX-License-Identifier: BSD-3-Clause */
/* The limit on log lines that a peer causes, and the log types of several files in one program. */
#include "runtime_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vhub_log.h"

VHUB_LOGTYPE(test)

static void
burst_then_one_each_second(void **unused)
{
	struct vhub_log_limit limit = { .tokens = 0 };
	unsigned int n = 0;

	(void)unused;
	for (unsigned int i = 0; i < 1000; i++)
		n += vhub_log_allowed(&limit);
	assert_int_equal(n, 10);
	assert_int_equal(limit.suppressed, 990);
	/* As if 1.5 s had gone by: one line, which can tell what was swallowed, and half a second kept. */
	limit.last_ns -= 1500000000;
	assert_true(vhub_log_allowed(&limit));
	assert_int_equal(limit.suppressed, 990);
	assert_false(vhub_log_allowed(&limit));
	assert_int_equal(limit.suppressed, 1);
	limit.last_ns -= 600000000;
	assert_true(vhub_log_allowed(&limit));
	assert_int_equal(limit.suppressed, 1);
	/* A long quiet time brings no more than one burst. */
	limit.last_ns -= 1000 * 1000000000ull;
	n = 0;
	for (unsigned int i = 0; i < 100; i++)
		n += vhub_log_allowed(&limit);
	assert_int_equal(n, 10);
}

static void
lines_go_to_the_log_type_of_the_part(void **unused)
{
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);

	(void)unused;
	assert_non_null(f);
	assert_int_equal(rte_openlog_stream(f), 0);
	assert_int_equal(rte_log_set_level_pattern("vhub.test", RTE_LOG_WARNING), 0);
	VHUB_LOG(WARNING, "seen %d", 1);
	VHUB_LOG(INFO, "not seen");
	rte_openlog_stream(NULL);
	fclose(f);
	assert_string_equal(text, "vhub: seen 1\n");
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(burst_then_one_each_second),
		cmocka_unit_test(lines_go_to_the_log_type_of_the_part),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
