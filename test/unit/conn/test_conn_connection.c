/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The run of a handler for one front end, over each kind of connection: it completes once, with a
 * result, and leaves nothing behind; and connections that are never run, or cannot be.
 */
#include "conn_fixture.h"

struct place {
	struct bed bed;
	char dir[64];
	char path[96];
	unsigned int n_fds;
};

static void
place_up(struct place *place)
{
	place->n_fds = count_fds();
	bed_up(&place->bed);
	make_dir(place->dir);
	snprintf(place->path, sizeof(place->path), "%s/one.sock", place->dir);
}

static void
place_down(struct place *place)
{
	assert_false(exists(place->path));
	assert_int_equal(rmdir(place->dir), 0);
	bed_down(&place->bed);
	assert_fds(place->n_fds);
}

static struct vhub_connection *
make_listener(const struct place *place)
{
	const struct vhub_listener_options options = { .path = place->path,
		.owner = (uid_t)-1,
		.group = (gid_t)-1 };
	struct vhub_connection *connection;

	assert_int_equal(vhub_listener_create(&options, &connection), 0);
	return connection;
}

static void
run(struct place *place, struct vhub_connection *connection)
{
	assert_int_equal(vhub_run_req_handler(connection, &place->bed.fake.handler,
					 &place->bed.executor, bed_complete, &place->bed),
			0);
}

static void
test_a_listener_takes_the_first_and_is_gone(void **state)
{
	struct place place;
	int first, second;

	(void)state;
	place_up(&place);
	run(&place, make_listener(&place));
	assert_true(exists(place.path));
	first = fe_connect(place.path);
	second = fe_connect(place.path); /* queues behind it */
	fe_fence(&place.bed, first);
	assert_false(exists(place.path));
	WAIT_FOR(&place.bed, fe_is_closed(second));
	close(second);
	fe_fence(&place.bed, first);
	assert_int_equal(place.bed.n_completed, 0);
	close(first);
	WAIT_FOR(&place.bed, place.bed.n_completed == 1);
	assert_int_equal(place.bed.result, 0);
	bed_turns(&place.bed, 5);
	assert_int_equal(place.bed.n_completed, 1);
	place_down(&place);
}

static void
test_an_inherited_listening_fd(void **state)
{
	struct sockaddr_un addr;
	struct vhub_connection *connection;
	struct place place;
	int fd, sock;

	(void)state;
	place_up(&place);
	addr = address_of(place.path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(vhub_connection_from_fd(fd, &connection), 0);
	run(&place, connection);
	sock = fe_connect(place.path);
	fe_fence(&place.bed, sock);
	close(sock);
	WAIT_FOR(&place.bed, place.bed.n_completed == 1);
	/* Who bound it removes it. */
	assert_true(exists(place.path));
	unlink(place.path);
	place_down(&place);
}

static void
test_a_handler_that_refuses_to_open_is_the_result(void **state)
{
	struct place place;
	int sock;

	(void)state;
	place_up(&place);
	place.bed.fake.open_result = -EACCES;
	run(&place, make_listener(&place));
	sock = fe_connect(place.path);
	WAIT_FOR(&place.bed, place.bed.n_completed == 1);
	assert_int_equal(place.bed.result, -EACCES);
	assert_int_equal(place.bed.fake.n_closing, 0);
	assert_true(fe_is_closed(sock));
	close(sock);
	place_down(&place);
}

static int
open_ends_it(struct vhub_req_handler *handler, struct vhub_session *session)
{
	fake_open(handler, session);
	vhub_session_end(session, -ENOTSUP, "not today");
	return fake_of(handler)->open_result;
}

static void
test_a_handler_may_end_the_session_as_it_opens(void **state)
{
	struct place place;
	int sock;

	(void)state;
	for (int refuse = 0; refuse < 2; refuse++) {
		place_up(&place);
		place.bed.fake.ops.open = open_ends_it;
		place.bed.fake.open_result = refuse ? -EACCES : 0;
		run(&place, make_listener(&place));
		sock = fe_connect(place.path);
		WAIT_FOR(&place.bed, place.bed.n_completed == 1);
		assert_int_equal(place.bed.result, refuse ? -EACCES : -ENOTSUP);
		assert_int_equal(place.bed.fake.n_closing, !refuse);
		close(sock);
		place_down(&place);
	}
}

static void
test_what_cannot_be_run_is_consumed_all_the_same(void **state)
{
	const struct vhub_executor no_loop = { .loop = NULL };
	struct vhub_req_handler_ops ops;
	struct vhub_req_handler handler = { .ops = &ops, .name = "x" };
	struct vhub_server *server;
	struct place place;

	(void)state;
	place_up(&place);
	for (int i = 0; i < 6; i++) {
		ops = place.bed.fake.ops;
		handler.name = i == 4 ? NULL : "x";
		if (i == 1)
			ops.open = NULL;
		else if (i == 2)
			ops.close = NULL;
		else if (i == 3)
			ops.when = NULL;
		assert_int_equal(vhub_run_req_handler(make_listener(&place),
						 i == 5 ? NULL : &handler,
						 i == 0 ? &no_loop : &place.bed.executor,
						 bed_complete, &place.bed),
				-EINVAL);
		assert_false(exists(place.path));
		assert_int_equal(vhub_serve(make_listener(&place), i == 5 ? NULL : &handler,
						 i == 0 ? &no_loop : &place.bed.executor, &server),
				-EINVAL);
		assert_false(exists(place.path));
	}
	bed_turns(&place.bed, 5);
	assert_int_equal(place.bed.n_completed, 0);
	place_down(&place);
}

static void
test_destroyed_before_it_was_run(void **state)
{
	struct vhub_connection *connection;
	struct place place;
	int pair[2];

	(void)state;
	place_up(&place);
	vhub_connection_destroy(NULL);
	connection = make_listener(&place);
	assert_true(exists(place.path));
	vhub_connection_destroy(connection);
	assert_false(exists(place.path));
	assert_int_equal(vhub_dialer_create(place.path, &connection), 0);
	assert_null(vhub_take_parent_process_resources(connection));
	vhub_connection_destroy(connection);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(vhub_connection_from_fd(pair[0], &connection), 0);
	assert_null(vhub_take_parent_process_resources(connection));
	vhub_connection_destroy(connection);
	assert_true(fe_is_closed(pair[1]));
	close(pair[1]);
	place_down(&place);
}

/* The completion may do what a program does last. */
static void
complete_and_stop(void *arg, int result)
{
	struct bed *bed = arg;

	bed_complete(bed, result);
	vhub_loop_stop(bed->loop, 42);
}

static void
test_the_completion_may_stop_the_loop(void **state)
{
	struct vhub_connection *connection;
	struct place place;
	int pair[2];

	(void)state;
	place_up(&place);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(vhub_connection_from_fd(pair[0], &connection), 0);
	assert_int_equal(vhub_run_req_handler(connection, &place.bed.fake.handler,
					 &place.bed.executor, complete_and_stop, &place.bed),
			0);
	close(pair[1]);
	assert_int_equal(vhub_loop_run(place.bed.loop), 42);
	assert_int_equal(place.bed.n_completed, 1);
	place_down(&place);
}

static void
test_a_thousand_front_ends_leave_nothing(void **state)
{
	struct vhub_connection *connection;
	struct place place;
	int pair[2];

	(void)state;
	place_up(&place);
	for (unsigned int i = 1; i <= 1000; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		assert_int_equal(vhub_connection_from_fd(pair[0], &connection), 0);
		run(&place, connection);
		fe_send(pair[1], VHUB_USER_GET_FEATURES, 0, NULL, 0);
		if (i % 2 != 0)
			fe_fence(&place.bed, pair[1]);
		close(pair[1]);
		WAIT_FOR(&place.bed, place.bed.n_completed == i);
		assert_int_equal(place.bed.result, 0);
	}
	place_down(&place);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_listener_takes_the_first_and_is_gone),
		cmocka_unit_test(test_an_inherited_listening_fd),
		cmocka_unit_test(test_a_handler_that_refuses_to_open_is_the_result),
		cmocka_unit_test(test_a_handler_may_end_the_session_as_it_opens),
		cmocka_unit_test(test_what_cannot_be_run_is_consumed_all_the_same),
		cmocka_unit_test(test_destroyed_before_it_was_run),
		cmocka_unit_test(test_the_completion_may_stop_the_loop),
		cmocka_unit_test(test_a_thousand_front_ends_leave_nothing),
	};

	return cmocka_run_group_tests(tests, test_eal_up, NULL);
}
