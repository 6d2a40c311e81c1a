/* SPDX-License-Identifier: BSD-3-Clause */
/* lib/control/document.c: where a document ends, in whatever pieces it comes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "control_pvt.h"

/* Feeds `text` in pieces of `step` bytes; joins the documents found with '|'. */
static void
cut(const char *text, size_t step, char *out)
{
	struct control_scan scan = { 0 };
	const size_t len = strlen(text);
	size_t begin = 0, at = 0, end, used;

	out[0] = '\0';
	while (at < len) {
		end = at + step < len ? at + step : len;
		while (at < end) {
			if (!control_scan(&scan, text + at, end - at, &used)) {
				at += used;
				break;
			}
			at += used;
			strncat(out, text + begin, at - begin);
			strcat(out, "|");
			begin = at;
		}
	}
	strcat(out, text + begin);
}

static void
expect(const char *text, const char *documents)
{
	char out[512];

	for (size_t step = 1; step <= strlen(text); step++) {
		cut(text, step, out);
		assert_string_equal(out, documents);
	}
}

static void
objects_follow_one_another(void **state)
{
	(void)state;
	expect("{}{}", "{}|{}|");
	expect("{\"a\":1}\n[1,2] {}", "{\"a\":1}|\n[1,2]| {}|");
	expect("[[{}],[]]x", "[[{}],[]]|x");
}

static void
strings_hide_brackets(void **state)
{
	(void)state;
	expect("{\"}\":\"]\"}{}", "{\"}\":\"]\"}|{}|");
	expect("[\"a\\\"]\"]{", "[\"a\\\"]\"]|{");
	expect("[\"\\\\\"]{", "[\"\\\\\"]|{");
}

static void
a_line_of_something_else_ends_with_it(void **state)
{
	(void)state;
	expect("hello {\n{}", "hello {\n|{}|");
	expect("}\n{}", "}\n|{}|");
	expect("17\n", "17\n|");
}

static void
half_a_document_is_none(void **state)
{
	(void)state;
	expect("{\"a\":[", "{\"a\":[");
	expect("   ", "   ");
	expect("\"{}", "\"{}");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(objects_follow_one_another),
		cmocka_unit_test(strings_hide_brackets),
		cmocka_unit_test(a_line_of_something_else_ends_with_it),
		cmocka_unit_test(half_a_document_is_none),
	};

	return cmocka_run_group_tests_name("control_document", tests, NULL, NULL);
}
