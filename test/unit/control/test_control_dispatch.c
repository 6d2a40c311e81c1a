/* SPDX-License-Identifier: BSD-3-Clause */
/* lib/control/dispatch.c and params.c: JSON-RPC 2.0 as the specification has it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "control_pvt.h"
#include "methods.h"

static char sent[65536];
static unsigned int n_progress;

static void
take(struct control_peer *peer, const char *text, size_t len)
{
	(void)peer;
	strncat(sent, text, len);
}

static void
progress(struct control_peer *peer)
{
	(void)peer;
	n_progress++;
}

static struct control_peer peer = { .send = take, .progress = progress };
static const struct control_methods methods = { test_methods, N_TEST_METHODS,
	(void *)(uintptr_t) "hello to you" };

static void
ask(const char *text)
{
	sent[0] = '\0';
	control_dispatch(&methods, &peer, text, strlen(text));
}

/* Sends `text` and expects exactly `answer` (a document without its newline), "" nothing. */
static void
expect(const char *text, const char *answer)
{
	ask(text);
	if (answer[0] != '\0') {
		assert_true(strlen(sent) > 0 && sent[strlen(sent) - 1] == '\n');
		sent[strlen(sent) - 1] = '\0';
	}
	assert_string_equal(sent, answer);
	assert_int_equal(peer.n_pending, 0);
	assert_null(peer.exchanges);
}

/* Sends `text` and expects one error with this code and words in its message. */
static void
expect_error(const char *text, int code, const char *words)
{
	json_t *answer, *error;

	ask(text);
	answer = json_loads(sent, 0, NULL);
	error = json_object_get(answer, "error");
	assert_string_equal(json_string_value(json_object_get(answer, "jsonrpc")), "2.0");
	assert_int_equal(json_integer_value(json_object_get(error, "code")), code);
	assert_non_null(strstr(json_string_value(json_object_get(error, "message")), words));
	assert_non_null(json_object_get(answer, "id"));
	assert_null(json_object_get(answer, "result"));
	json_decref(answer);
}

static void
ids_come_back_as_they_are(void **state)
{
	(void)state;
	expect("{\"jsonrpc\":\"2.0\",\"method\":\"hello\",\"id\":1}",
			"{\"jsonrpc\":\"2.0\",\"result\":\"hello to you\",\"id\":1}");
	expect("{\"jsonrpc\":\"2.0\",\"method\":\"hello\",\"id\":\"a\\n\"}",
			"{\"jsonrpc\":\"2.0\",\"result\":\"hello to you\",\"id\":\"a\\n\"}");
	expect("{\"jsonrpc\":\"2.0\",\"method\":\"hello\",\"id\":1.5}",
			"{\"jsonrpc\":\"2.0\",\"result\":\"hello to you\",\"id\":1.5}");
	expect("{\"jsonrpc\":\"2.0\",\"method\":\"hello\",\"id\":null}",
			"{\"jsonrpc\":\"2.0\",\"result\":\"hello to you\",\"id\":null}");
}

static void
notifications_are_not_answered(void **state)
{
	const unsigned int before = n_hellos;

	(void)state;
	expect("{\"jsonrpc\":\"2.0\",\"method\":\"hello\"}", "");
	assert_int_equal(n_hellos, before + 1);
	expect("{\"jsonrpc\":\"2.0\",\"method\":\"nope\"}", "");
	expect("{\"jsonrpc\":\"2.0\",\"method\":\"fail\"}", "");
	expect("{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"params\":[1]}", "");
	expect("[{\"jsonrpc\":\"2.0\",\"method\":\"hello\"},{\"jsonrpc\":\"2.0\",\"method\":\"hello\"}]",
			"");
}

static void
the_specifications_errors(void **state)
{
	(void)state;
	expect_error("{\"jsonrpc\": \"2.0\", \"method\": \"hello, \"params\"]", -32700, "no JSON");
	expect_error("{]", -32700, "no JSON");
	expect_error("{\"a\":1,\"a\":2}", -32700, "no JSON");
	expect_error("\xff\n", -32700, "no JSON");
	expect_error("17\n", -32600, "object");
	expect_error("[]", -32600, "1 to 256");
	expect_error("{}", -32600, "2.0");
	expect_error("{\"jsonrpc\":\"1.0\",\"method\":\"hello\",\"id\":1}", -32600, "2.0");
	expect_error("{\"jsonrpc\":\"2.0\",\"method\":1,\"id\":1}", -32600, "method");
	expect_error("{\"jsonrpc\":\"2.0\",\"method\":\"hello\",\"params\":1,\"id\":1}", -32600,
			"params");
	expect_error("{\"jsonrpc\":\"2.0\",\"method\":\"hello\",\"id\":{}}", -32600, "id");
	expect_error("{\"jsonrpc\":\"2.0\",\"method\":\"nope\",\"id\":1}", -32601, "nope");
	expect_error("{\"jsonrpc\":\"2.0\",\"method\":\"fail\",\"id\":1}", -32042, "no luck today");
}

static void
batches_are_answered_together(void **state)
{
	(void)state;
	expect("[{\"jsonrpc\":\"2.0\",\"method\":\"hello\",\"id\":1},1,"
	       "{\"jsonrpc\":\"2.0\",\"method\":\"hello\"},"
	       "{\"jsonrpc\":\"2.0\",\"method\":\"hello\",\"id\":2}]",
			"[{\"jsonrpc\":\"2.0\",\"result\":\"hello to you\",\"id\":1},"
			"{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32600,\"message\":"
			"\"a request is a JSON object\"},\"id\":null},"
			"{\"jsonrpc\":\"2.0\",\"result\":\"hello to you\",\"id\":2}]");
}

static void
a_batch_that_is_too_long_is_refused(void **state)
{
	char text[2048] = "[1";

	(void)state;
	for (unsigned int i = 1; i < VHUB_CONTROL_MAX_BATCH; i++)
		strcat(text, ",1");
	strcat(text, ",1]");
	expect_error(text, -32600, "256");
	text[strlen(text) - 3] = '\0';
	strcat(text, "]");
	ask(text);
	assert_int_equal(sent[0], '[');
}

static void
answers_may_come_later(void **state)
{
	(void)state;
	n_later = 0;
	n_progress = 0;
	ask("[{\"jsonrpc\":\"2.0\",\"method\":\"wait\",\"id\":1},"
	    "{\"jsonrpc\":\"2.0\",\"method\":\"hello\",\"id\":2},"
	    "{\"jsonrpc\":\"2.0\",\"method\":\"wait\"}]");
	assert_string_equal(sent, "");
	assert_int_equal(peer.n_pending, 2);
	assert_int_equal(n_progress, 1);
	vhub_control_result(later[1], json_true());
	assert_string_equal(sent, "");
	vhub_control_refuse(later[0], -32001, "too late");
	assert_string_equal(sent,
			"[{\"jsonrpc\":\"2.0\",\"result\":\"hello to you\",\"id\":2},"
			"{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32001,\"message\":\"too late\"},"
			"\"id\":1}]\n");
	assert_int_equal(peer.n_pending, 0);
	assert_int_equal(n_progress, 3);
}

static void
a_peer_that_is_gone_hears_nothing(void **state)
{
	(void)state;
	n_later = 0;
	ask("{\"jsonrpc\":\"2.0\",\"method\":\"wait\",\"id\":1}");
	ask("[{\"jsonrpc\":\"2.0\",\"method\":\"wait\",\"id\":1}]");
	control_forget_peer(&peer);
	vhub_control_result(later[0], json_true());
	vhub_control_result(later[1], json_true());
	assert_string_equal(sent, "");
	assert_int_equal(peer.n_pending, 0);
}

static void
no_memory_for_a_result_is_an_error(void **state)
{
	(void)state;
	n_later = 0;
	ask("{\"jsonrpc\":\"2.0\",\"method\":\"wait\",\"id\":1}");
	vhub_control_result(later[0], NULL);
	assert_non_null(strstr(sent, "-32603"));
}

#define ECHO(params) "{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"id\":1,\"params\":" params "}"

static void
parameters_by_name_and_by_position(void **state)
{
	(void)state;
	expect(ECHO("[\"a\",5]"),
			"{\"jsonrpc\":\"2.0\",\"result\":{\"text\":\"a\",\"what\":5},\"id\":1}");
	expect(ECHO("{\"text\":\"a\"}"),
			"{\"jsonrpc\":\"2.0\",\"result\":{\"text\":\"a\"},\"id\":1}");
	expect(ECHO("{\"what\":{},\"text\":\"a\"}"),
			"{\"jsonrpc\":\"2.0\",\"result\":{\"what\":{},\"text\":\"a\"},\"id\":1}");
	expect(ECHO("{\"loud\":false,\"text\":\"a\"}"),
			"{\"jsonrpc\":\"2.0\",\"result\":{\"loud\":false,\"text\":\"a\"},\"id\":1}");
	/* By its former name, with which it does not come twice. */
	expect(ECHO("{\"words\":\"a\"}"),
			"{\"jsonrpc\":\"2.0\",\"result\":{\"text\":\"a\"},\"id\":1}");
	expect_error(ECHO("{\"words\":\"a\",\"text\":\"b\"}"), -32602, "no parameter words");
	expect_error(ECHO("{\"words\":5}"), -32602, "parameter text");
}

static void
parameters_that_do_not_fit(void **state)
{
	(void)state;
	expect_error(ECHO("[]"), -32602, "text");
	expect_error("{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"id\":1}", -32602, "text");
	expect_error(ECHO("[\"a\",5,true,6]"), -32602, "text, what, loud");
	expect_error(ECHO("{\"text\":5}"), -32602, "type string");
	expect_error(ECHO("{\"text\":\"a\",\"what\":true}"), -32602, "integer or object");
	expect_error(ECHO("{\"text\":\"a\",\"who\":1}"), -32602, "allowed: text, what, loud");
	expect_error(ECHO("{\"text\":\"a\",\"loud\":1}"), -32602, "type boolean");
	expect_error(ECHO("{\"text\":\"a\",\"loud\":null}"), -32602, "type boolean");
	expect_error("{\"jsonrpc\":\"2.0\",\"method\":\"hello\",\"id\":1,\"params\":[1]}", -32602,
			"none");
}

static void
rpc_methods_lists_them(void **state)
{
	json_t *answer, *list, *method;

	(void)state;
	ask("{\"jsonrpc\":\"2.0\",\"method\":\"rpc_methods\",\"id\":1}");
	answer = json_loads(sent, 0, NULL);
	list = json_object_get(answer, "result");
	assert_int_equal(json_array_size(list), N_TEST_METHODS + 1);
	method = json_array_get(list, 4);
	assert_string_equal(json_string_value(json_object_get(method, "name")), "echo");
	assert_int_equal(json_array_size(json_object_get(method, "params")), 3);
	json_decref(answer);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ids_come_back_as_they_are),
		cmocka_unit_test(notifications_are_not_answered),
		cmocka_unit_test(the_specifications_errors),
		cmocka_unit_test(batches_are_answered_together),
		cmocka_unit_test(a_batch_that_is_too_long_is_refused),
		cmocka_unit_test(answers_may_come_later),
		cmocka_unit_test(a_peer_that_is_gone_hears_nothing),
		cmocka_unit_test(no_memory_for_a_result_is_an_error),
		cmocka_unit_test(parameters_by_name_and_by_position),
		cmocka_unit_test(parameters_that_do_not_fit),
		cmocka_unit_test(rpc_methods_lists_them),
	};

	return cmocka_run_group_tests_name("control_dispatch", tests, NULL, NULL);
}
