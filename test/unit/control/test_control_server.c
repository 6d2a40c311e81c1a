/* SPDX-License-Identifier: BSD-3-Clause */
/* lib/control/server.c and client.c: sockets, several clients, and the limits on each. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../eal_fixture.h"
#include "control_pvt.h"
#include "methods.h"

#define HELLO "{\"jsonrpc\":\"2.0\",\"method\":\"hello\",\"id\":1}"
#define HELLO_ANSWER "{\"jsonrpc\":\"2.0\",\"result\":\"hello to you\",\"id\":1}\n"
#define LARGE "{\"jsonrpc\":\"2.0\",\"method\":\"large\",\"id\":1,\"params\":[%u]}"

static struct vhub_loop *loop;
static struct vhub_control *control;
static struct vhub_timer timer;
static char path[64];
static char got[4096];

static void
stop_loop(struct vhub_timer *t)
{
	(void)t;
	vhub_loop_stop(loop, 0);
}

static void
run(unsigned int ms)
{
	timer.fn = stop_loop;
	vhub_timer_arm(loop, &timer, ms * 1000ull);
	assert_int_equal(vhub_loop_run(loop), 0);
}

static int
connect_client(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	strcpy(addr.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static void
put(int fd, const char *text)
{
	ssize_t n;

	/* A server that gets little of the CPU has not read what was sent before. */
	while ((n = send(fd, text, strlen(text), MSG_NOSIGNAL)) < 0 && errno == EAGAIN)
		run(5);
	assert_int_equal(n, (ssize_t)strlen(text));
}

/* What has come; -1: closed. */
static ssize_t
get(int fd)
{
	size_t len = 0;
	ssize_t n;

	while ((n = recv(fd, got + len, sizeof(got) - 1 - len, 0)) > 0)
		len += (size_t)n;
	got[len] = '\0';
	return len == 0 && (n == 0 || errno == ECONNRESET) ? -1 : (ssize_t)len;
}

static void
expect_hello(int fd)
{
	put(fd, HELLO);
	run(20);
	assert_true(get(fd) > 0);
	assert_string_equal(got, HELLO_ANSWER);
}

static int
setup(void **state)
{
	(void)state;
	snprintf(path, sizeof(path), "/tmp/vhub-control-%d", (int)getpid());
	n_later = 0;
	assert_int_equal(vhub_loop_create(&loop), 0);
	return vhub_control_create(loop, path, test_methods, N_TEST_METHODS,
			(void *)(uintptr_t) "hello to you", &control);
}

static int
teardown(void **state)
{
	(void)state;
	vhub_control_destroy(control);
	assert_int_equal(access(path, F_OK), -1);
	vhub_loop_destroy(loop);
	return 0;
}

static void
the_socket_is_its_owners(void **state)
{
	struct vhub_control *second = NULL;
	struct stat st;

	(void)state;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(vhub_control_create(loop, path, test_methods, 1, NULL, &second),
			-EADDRINUSE);
}

static void
clients_are_served_side_by_side(void **state)
{
	int fds[4];

	(void)state;
	for (int i = 0; i < 4; i++) {
		fds[i] = connect_client();
		put(fds[i], "{\"jsonrpc\":\"2.0\",");
	}
	run(20);
	for (int i = 0; i < 4; i++) {
		put(fds[i], "\"method\":\"hello\",\"id\":1}");
		run(20);
		assert_true(get(fds[i]) > 0);
		assert_string_equal(got, HELLO_ANSWER);
		close(fds[i]);
	}
}

static void
documents_may_follow_one_another(void **state)
{
	int fd = connect_client();

	(void)state;
	put(fd, HELLO HELLO "\n\n" HELLO " nonsense\n" HELLO);
	run(30);
	assert_true(get(fd) > 0);
	assert_memory_equal(got, HELLO_ANSWER HELLO_ANSWER HELLO_ANSWER, 3 * strlen(HELLO_ANSWER));
	assert_non_null(strstr(got, "-32700"));
	assert_string_equal(got + strlen(got) - strlen(HELLO_ANSWER), HELLO_ANSWER);
	close(fd);
}

static void
more_documents_than_a_turn_takes(void **state)
{
	int fd = connect_client();
	const unsigned int before = n_hellos;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		put(fd, "{\"jsonrpc\":\"2.0\",\"method\":\"hello\"}");
		if (i % 100 == 99)
			run(5);
	}
	run(100);
	assert_int_equal(n_hellos, before + 1000);
	close(fd);
}

static void
who_sends_no_more_still_gets_answers(void **state)
{
	int fd = connect_client();

	(void)state;
	put(fd, "{\"jsonrpc\":\"2.0\",\"method\":\"wait\",\"id\":7}17");
	shutdown(fd, SHUT_WR);
	run(20);
	assert_true(get(fd) > 0);
	assert_non_null(strstr(got, "-32600"));
	vhub_control_result(later[0], json_true());
	run(20);
	assert_true(get(fd) > 0);
	assert_string_equal(got, "{\"jsonrpc\":\"2.0\",\"result\":true,\"id\":7}\n");
	run(20);
	assert_int_equal(get(fd), -1);
	close(fd);
}

static void
who_is_gone_is_answered_to_nobody(void **state)
{
	int fd = connect_client();

	(void)state;
	put(fd, "{\"jsonrpc\":\"2.0\",\"method\":\"wait\",\"id\":7}");
	run(20);
	assert_int_equal(n_later, 1);
	close(fd);
	run(20);
	assert_int_equal(control->n_clients, 0);
	vhub_control_result(later[0], json_true());
	run(5);
}

static void
a_document_that_is_too_long_ends_the_client(void **state)
{
	int fd = connect_client(), other = connect_client();
	char piece[65536];

	(void)state;
	memset(piece, ' ', sizeof(piece));
	put(fd, "[");
	for (size_t sent = 0; sent < (2u << 20); sent += sizeof(piece)) {
		if (send(fd, piece, sizeof(piece), MSG_NOSIGNAL) < 0 && errno != EAGAIN)
			break;
		run(2);
	}
	expect_hello(other);
	assert_true(get(fd) > 0);
	assert_non_null(strstr(got, "longer than 1 MiB"));
	assert_int_equal(get(fd), -1);
	assert_int_equal(control->n_clients, 1);
	close(fd);
	close(other);
}

static void
white_space_is_no_document(void **state)
{
	int fd = connect_client();
	char piece[65536];

	(void)state;
	memset(piece, '\n', sizeof(piece));
	for (unsigned int i = 0; i < 40; i++) {
		send(fd, piece, sizeof(piece), MSG_NOSIGNAL);
		run(2);
	}
	expect_hello(fd);
	close(fd);
}

static void
who_has_much_under_way_is_not_read(void **state)
{
	int fd = connect_client();

	(void)state;
	for (unsigned int i = 0; i < 100; i++)
		put(fd, "{\"jsonrpc\":\"2.0\",\"method\":\"wait\",\"id\":7}");
	run(30);
	assert_int_equal(n_later, 64);
	for (unsigned int i = 0; i < 64; i++)
		vhub_control_result(later[i], json_true());
	run(30);
	assert_int_equal(n_later, 100);
	for (unsigned int i = 64; i < 100; i++)
		vhub_control_result(later[i], json_true());
	run(20);
	close(fd);
}

static void
who_does_not_read_is_not_read_and_then_closed(void **state)
{
	int fd = connect_client(), other = connect_client();
	char text[128];

	(void)state;
	snprintf(text, sizeof(text), LARGE, 200000);
	for (unsigned int i = 0; i < 40; i++)
		put(fd, text);
	run(50);
	expect_hello(other);
	assert_int_equal(control->n_clients, 2);
	run(5300);
	assert_int_equal(control->n_clients, 1);
	expect_hello(other);
	close(fd);
	close(other);
}

static void
an_answer_beyond_the_limit_ends_the_client(void **state)
{
	int fd = connect_client();
	char text[128];

	(void)state;
	snprintf(text, sizeof(text), LARGE, VHUB_CONTROL_MAX_OUTPUT_BYTES);
	put(fd, text);
	run(300);
	assert_int_equal(control->n_clients, 0);
	close(fd);
}

static void
one_client_more_takes_the_quietest_ones_place(void **state)
{
	int first = connect_client(), fds[VHUB_CONTROL_MAX_CLIENTS + 8];
	unsigned int i;

	(void)state;
	expect_hello(first);
	for (i = 0; i < VHUB_CONTROL_MAX_CLIENTS + 8; i++) {
		fds[i] = connect_client();
		run(2);
	}
	assert_int_equal(control->n_clients, VHUB_CONTROL_MAX_CLIENTS);
	/* Those who never asked anything went before one who did. */
	expect_hello(first);
	assert_int_equal(get(fds[0]), -1);
	expect_hello(fds[i - 1]);
	for (i = 0; i < VHUB_CONTROL_MAX_CLIENTS + 8; i++)
		close(fds[i]);
	close(first);
}

static void
calls_that_hang_lock_nobody_out(void **state)
{
	int fds[VHUB_CONTROL_MAX_CLIENTS], more[2];
	unsigned int i;

	(void)state;
	for (i = 0; i < VHUB_CONTROL_MAX_CLIENTS; i++) {
		fds[i] = connect_client();
		put(fds[i], "{\"jsonrpc\":\"2.0\",\"method\":\"wait\",\"id\":7}");
		run(2);
	}
	/* It has sent something later than the second. */
	expect_hello(fds[0]);
	assert_int_equal(n_later, VHUB_CONTROL_MAX_CLIENTS);
	for (i = 0; i < 2; i++) {
		more[i] = connect_client();
		expect_hello(more[i]);
	}
	/* The first of them waited for nothing. */
	assert_int_equal(get(more[0]), -1);
	assert_int_equal(control->n_clients, VHUB_CONTROL_MAX_CLIENTS);
	for (i = 0; i < VHUB_CONTROL_MAX_CLIENTS; i++)
		vhub_control_result(later[i], json_true());
	run(20);
	for (i = 0; i < VHUB_CONTROL_MAX_CLIENTS; i++) {
		if (i == 1) {
			assert_int_equal(get(fds[i]), -1);
		} else {
			assert_true(get(fds[i]) > 0);
			assert_string_equal(got,
					"{\"jsonrpc\":\"2.0\",\"result\":true,\"id\":7}\n");
		}
		close(fds[i]);
	}
	close(more[0]);
	close(more[1]);
}

static void
the_end_with_calls_under_way(void **state)
{
	int fd = connect_client();

	(void)state;
	put(fd, "{\"jsonrpc\":\"2.0\",\"method\":\"wait\",\"id\":7}");
	run(20);
	vhub_control_destroy(control);
	control = NULL;
	vhub_control_refuse(later[0], -32005, "the end");
	assert_int_equal(get(fd), -1);
	close(fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_socket_is_its_owners, setup, teardown),
		cmocka_unit_test_setup_teardown(clients_are_served_side_by_side, setup, teardown),
		cmocka_unit_test_setup_teardown(documents_may_follow_one_another, setup, teardown),
		cmocka_unit_test_setup_teardown(more_documents_than_a_turn_takes, setup, teardown),
		cmocka_unit_test_setup_teardown(who_sends_no_more_still_gets_answers, setup,
				teardown),
		cmocka_unit_test_setup_teardown(who_is_gone_is_answered_to_nobody, setup, teardown),
		cmocka_unit_test_setup_teardown(a_document_that_is_too_long_ends_the_client, setup,
				teardown),
		cmocka_unit_test_setup_teardown(white_space_is_no_document, setup, teardown),
		cmocka_unit_test_setup_teardown(who_has_much_under_way_is_not_read, setup,
				teardown),
		cmocka_unit_test_setup_teardown(who_does_not_read_is_not_read_and_then_closed,
				setup, teardown),
		cmocka_unit_test_setup_teardown(an_answer_beyond_the_limit_ends_the_client, setup,
				teardown),
		cmocka_unit_test_setup_teardown(one_client_more_takes_the_quietest_ones_place,
				setup, teardown),
		cmocka_unit_test_setup_teardown(calls_that_hang_lock_nobody_out, setup, teardown),
		cmocka_unit_test_setup_teardown(the_end_with_calls_under_way, setup, teardown),
	};

	if (test_eal_init() != 0)
		return 1;
	return cmocka_run_group_tests_name("control_server", tests, NULL, NULL);
}
