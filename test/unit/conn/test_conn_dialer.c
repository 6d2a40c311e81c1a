/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Dialers: the pauses between attempts grow and start again small after a success, a front end that
 * comes back is served again, and a failure is logged once.
 */
#include "conn_fixture.h"

#include <sys/syscall.h>

/* When it was tried to connect, in this program; the C library's comes after ours. */
static double tried_s[64];
static unsigned int n_tried;

int
connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	if (n_tried < RTE_DIM(tried_s))
		tried_s[n_tried] = now_s();
	n_tried++;
	return (int)syscall(SYS_connect, fd, addr, len);
}

struct place {
	struct bed bed;
	char dir[64];
	char path[96];
	unsigned int n_fds;
	struct log_catcher log;
};

static void
place_up(struct place *place)
{
	place->n_fds = count_fds();
	log_catch(&place->log);
	bed_up(&place->bed);
	make_dir(place->dir);
	snprintf(place->path, sizeof(place->path), "%s/front.sock", place->dir);
}

static void
place_down(struct place *place)
{
	unlink(place->path);
	assert_int_equal(rmdir(place->dir), 0);
	bed_down(&place->bed);
	log_release(&place->log);
	assert_fds(place->n_fds);
}

/* The front end listens. */
static int
listen_at(const char *path)
{
	const struct sockaddr_un addr = address_of(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	unlink(path);
	assert_int_equal(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 4), 0);
	return fd;
}

static int
await_caller(struct place *place, int listening)
{
	int sock;

	WAIT_FOR(&place->bed, fe_readable(listening));
	sock = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	assert_true(sock >= 0);
	return sock;
}

static struct vhub_server *
serve(struct place *place)
{
	struct vhub_connection *connection;
	struct vhub_server *server;

	assert_int_equal(vhub_dialer_create(place->path, &connection), 0);
	assert_int_equal(vhub_serve(connection, &place->bed.fake.handler, &place->bed.executor,
					 &server),
			0);
	return server;
}

static void
stop(struct place *place, struct vhub_server *server)
{
	vhub_server_stop(server, bed_complete, &place->bed);
	WAIT_FOR(&place->bed, place->bed.n_completed == 1);
}

static void
test_a_front_end_that_listens_is_served(void **state)
{
	struct vhub_server *server;
	struct place place;
	int listening, sock;

	(void)state;
	place_up(&place);
	listening = listen_at(place.path);
	server = serve(&place);
	sock = await_caller(&place, listening);
	fe_fence(&place.bed, sock);
	assert_int_equal(log_count(&place.log, "cannot connect"), 0);
	stop(&place, server);
	assert_true(fe_is_closed(sock));
	assert_true(exists(place.path)); /* not ours */
	close(sock);
	close(listening);
	place_down(&place);
}

static void
test_it_is_called_again_after_a_pause(void **state)
{
	struct vhub_server *server;
	struct place place;
	double since_s;
	int listening, sock;

	(void)state;
	place_up(&place);
	listening = listen_at(place.path);
	server = serve(&place);
	sock = await_caller(&place, listening);
	for (unsigned int i = 1; i <= 3; i++) {
		fe_fence(&place.bed, sock);
		assert_int_equal(place.bed.fake.n_opened, i);
		/* While it is there, nobody else is called. */
		bed_turns(&place.bed, 20);
		assert_false(fe_readable(listening));
		since_s = now_s();
		close(sock);
		sock = await_caller(&place, listening);
		assert_true(now_s() - since_s >= 0.099);
	}
	stop(&place, server);
	close(sock);
	close(listening);
	place_down(&place);
}

static void
test_a_front_end_that_comes_late_and_comes_back(void **state)
{
	struct vhub_server *server;
	struct place place;
	int listening, sock;

	(void)state;
	place_up(&place);
	server = serve(&place);
	bed_turns(&place.bed, 500);
	assert_int_equal(place.bed.fake.n_opened, 0);
	/* Several attempts, one line. */
	assert_int_equal(log_count(&place.log, "keeps trying: No such file or directory"), 1);
	/* Another reason is another line. */
	close(listen_at(place.path));
	WAIT_FOR(&place.bed, log_count(&place.log, "Connection refused") > 0);
	assert_int_equal(log_count(&place.log, "cannot connect"), 2);
	listening = listen_at(place.path);
	sock = await_caller(&place, listening);
	fe_fence(&place.bed, sock);
	assert_int_equal(log_count(&place.log, "front.sock: connected"), 1);
	close(listening);
	close(sock);
	bed_turns(&place.bed, 300);
	listening = listen_at(place.path);
	sock = await_caller(&place, listening);
	fe_fence(&place.bed, sock);
	assert_int_equal(place.bed.fake.n_opened, 2);
	stop(&place, server);
	close(sock);
	close(listening);
	place_down(&place);
}

/* Attempts after 0, 0.1, 0.3, 0.7, 1.5 and 3.1 seconds, or later on a machine that is slow. */
static void
test_the_pauses_grow(void **state)
{
	struct vhub_server *server;
	struct place place;
	double since_s;
	int listening, sock;

	(void)state;
	place_up(&place);
	n_tried = 0;
	server = serve(&place);
	WAIT_FOR(&place.bed, n_tried == 5);
	listening = listen_at(place.path);
	sock = await_caller(&place, listening);
	assert_int_equal(n_tried, 6);
	for (unsigned int i = 0; i < 5; i++)
		assert_true(tried_s[i + 1] - tried_s[i] >= 0.099 * (1 << i));
	fe_fence(&place.bed, sock);
	/* After a success they are small again; the next one would have taken 3.2 seconds. */
	close(sock);
	since_s = now_s();
	sock = await_caller(&place, listening);
	assert_true(now_s() - since_s < 3.1);
	stop(&place, server);
	close(sock);
	close(listening);
	place_down(&place);
}

/*
 * How often it calls is seen by somebody who accepts and hangs up: a success each time, so the
 * pause stays small.
 */
static void
test_hanging_up_at_once_does_not_make_it_hurry(void **state)
{
	struct vhub_server *server;
	struct place place;
	double since_s;
	int listening;

	(void)state;
	place_up(&place);
	listening = listen_at(place.path);
	server = serve(&place);
	since_s = now_s();
	for (int i = 0; i < 6; i++)
		close(await_caller(&place, listening));
	assert_true(now_s() - since_s >= 5 * 0.099);
	stop(&place, server);
	close(listening);
	place_down(&place);
}

/* Somebody who comes and goes writes no log of its own. */
static void
test_coming_and_going_is_logged_within_limits(void **state)
{
	struct vhub_server *server;
	struct place place;
	unsigned int n = 0;
	double since_s;
	int listening;

	(void)state;
	place_up(&place);
	since_s = now_s();
	server = serve(&place);
	for (int i = 0; i < 12; i++) {
		n_tried = 0;
		WAIT_FOR(&place.bed, n_tried == 1);
		listening = listen_at(place.path);
		close(await_caller(&place, listening));
		close(listening);
		unlink(place.path);
	}
	n = log_count(&place.log, "cannot connect") + log_count(&place.log, ": connected");
	assert_true(n >= 10);
	assert_true(n <= 10 + (unsigned int)(now_s() - since_s));
	stop(&place, server);
	place_down(&place);
}

static void
test_a_full_backlog_is_waited_for(void **state)
{
	struct vhub_server *server;
	struct place place;
	int listening, first, sock;

	(void)state;
	place_up(&place);
	listening = listen_at(place.path);
	assert_int_equal(listen(listening, 0), 0);
	first = fe_connect(place.path);
	assert_true(first >= 0);
	server = serve(&place);
	WAIT_FOR(&place.bed, log_count(&place.log, "cannot connect") == 1);
	close(accept4(listening, NULL, NULL, SOCK_CLOEXEC));
	close(first);
	sock = await_caller(&place, listening);
	fe_fence(&place.bed, sock);
	stop(&place, server);
	close(sock);
	close(listening);
	place_down(&place);
}

static void
test_one_run_waits_for_its_front_end(void **state)
{
	struct vhub_connection *connection;
	struct place place;
	int listening, sock;

	(void)state;
	place_up(&place);
	assert_int_equal(vhub_dialer_create(place.path, &connection), 0);
	assert_int_equal(vhub_run_req_handler(connection, &place.bed.fake.handler,
					 &place.bed.executor, bed_complete, &place.bed),
			0);
	bed_turns(&place.bed, 150);
	assert_int_equal(place.bed.n_completed, 0);
	listening = listen_at(place.path);
	sock = await_caller(&place, listening);
	fe_fence(&place.bed, sock);
	close(sock);
	WAIT_FOR(&place.bed, place.bed.n_completed == 1);
	assert_int_equal(place.bed.result, 0);
	bed_turns(&place.bed, 300);
	assert_false(fe_readable(listening)); /* once */
	close(listening);
	place_down(&place);
}

static void
test_stop_while_nobody_answers(void **state)
{
	struct vhub_server *server;
	struct place place;

	(void)state;
	place_up(&place);
	server = serve(&place);
	bed_turns(&place.bed, 5);
	stop(&place, server);
	assert_int_equal(place.bed.fake.n_opened, 0);
	place_down(&place);
}

static void
test_paths(void **state)
{
	struct vhub_connection *connection;
	char path[109];

	(void)state;
	memset(path, 'x', sizeof(path));
	path[107] = '\0';
	assert_int_equal(vhub_dialer_create(path, &connection), 0);
	vhub_connection_destroy(connection);
	path[107] = 'x';
	path[108] = '\0';
	assert_int_equal(vhub_dialer_create(path, &connection), -ENAMETOOLONG);
	assert_int_equal(vhub_dialer_create("", &connection), -EINVAL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_front_end_that_listens_is_served),
		cmocka_unit_test(test_it_is_called_again_after_a_pause),
		cmocka_unit_test(test_a_front_end_that_comes_late_and_comes_back),
		cmocka_unit_test(test_the_pauses_grow),
		cmocka_unit_test(test_hanging_up_at_once_does_not_make_it_hurry),
		cmocka_unit_test(test_coming_and_going_is_logged_within_limits),
		cmocka_unit_test(test_a_full_backlog_is_waited_for),
		cmocka_unit_test(test_one_run_waits_for_its_front_end),
		cmocka_unit_test(test_stop_while_nobody_answers),
		cmocka_unit_test(test_paths),
	};

	return cmocka_run_group_tests(tests, test_eal_up, NULL);
}
