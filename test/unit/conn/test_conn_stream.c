/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Connections from inherited fds: which are taken for what, which are refused and stay the
 * caller's.
 */
#include <netinet/in.h>

#include "conn_fixture.h"
#include "conn_pvt.h"

static void
expect_kind(int fd, const char *kind)
{
	struct vhub_connection *connection;

	assert_int_equal(vhub_connection_from_fd(fd, &connection), 0);
	assert_string_equal(connection->ops->kind, kind);
	assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
	vhub_connection_destroy(connection);
	assert_int_equal(fcntl(fd, F_GETFD), -1); /* it was the connection's */
}

static void
expect_refusal(int fd, int error)
{
	struct vhub_connection *connection;

	assert_int_equal(vhub_connection_from_fd(fd, &connection), error);
	if (error != -EBADF) {
		assert_true(fcntl(fd, F_GETFD) >= 0); /* still the caller's */
		close(fd);
	}
}

/* A listening socket in the abstract name space: it leaves no file. */
static int
make_listening(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr.sun_family)), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static void
test_connected(void **state)
{
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	expect_kind(pair[0], "stream");
	assert_true(fe_is_closed(pair[1]));
	close(pair[1]);
}

/* As in a parent that has forked: the child serves the connection that the parent's copy names. */
static void
test_destroying_a_copy_does_not_disturb_the_original(void **state)
{
	struct vhub_connection *connection;
	char byte = 'x';
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(vhub_connection_from_fd(dup(pair[0]), &connection), 0);
	vhub_connection_destroy(connection);
	assert_int_equal(write(pair[1], &byte, 1), 1);
	assert_int_equal(read(pair[0], &byte, 1), 1);
	assert_false(fe_is_closed(pair[1]));
	close(pair[0]);
	close(pair[1]);
}

static void
test_connected_and_hung_up_already(void **state)
{
	struct vhub_connection *connection;
	struct bed bed;
	int pair[2];

	(void)state;
	bed_up(&bed);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	fe_send(pair[1], VHUB_USER_SET_OWNER, 0, NULL, 0);
	close(pair[1]);
	assert_int_equal(vhub_connection_from_fd(pair[0], &connection), 0);
	assert_int_equal(vhub_run_req_handler(connection, &bed.fake.handler, &bed.executor,
					 bed_complete, &bed),
			0);
	WAIT_FOR(&bed, bed.n_completed == 1);
	assert_int_equal(bed.result, 0);
	assert_int_equal(bed.fake.calls[VHUB_USER_SET_OWNER], 1);
	bed_down(&bed);
}

static void
test_listening(void **state)
{
	int fd = make_listening();
	int other = dup(fd);

	(void)state;
	expect_kind(fd, "listener");
	/* Shared with another process, accept(2) must not block. */
	assert_true((fcntl(other, F_GETFL) & O_NONBLOCK) != 0);
	close(other);
}

static void
test_neither_listening_nor_connected(void **state)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)state;
	expect_refusal(fd, -ENOTCONN);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr.sun_family)), 0);
	expect_refusal(fd, -ENOTCONN);
}

static void
test_other_sockets(void **state)
{
	int pair[2];
	int fd;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), 0);
	expect_refusal(pair[0], -EPROTONOSUPPORT);
	close(pair[1]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	expect_refusal(pair[0], -EPROTONOSUPPORT);
	close(pair[1]);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(listen(fd, 1), 0);
	expect_refusal(fd, -EPROTONOSUPPORT);
}

static void
test_no_sockets(void **state)
{
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	expect_refusal(fds[0], -ENOTSOCK);
	expect_refusal(fds[1], -ENOTSOCK);
	expect_refusal(open("/dev/null", O_RDWR), -ENOTSOCK);
	expect_refusal(open("/", O_PATH), -EBADF);
}

static void
test_no_fds(void **state)
{
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	close(fds[0]);
	close(fds[1]);
	expect_refusal(fds[0], -EBADF);
	expect_refusal(-1, -EBADF);
	expect_refusal(1000000, -EBADF);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_connected),
		cmocka_unit_test(test_destroying_a_copy_does_not_disturb_the_original),
		cmocka_unit_test(test_connected_and_hung_up_already),
		cmocka_unit_test(test_listening),
		cmocka_unit_test(test_neither_listening_nor_connected),
		cmocka_unit_test(test_other_sockets),
		cmocka_unit_test(test_no_sockets),
		cmocka_unit_test(test_no_fds),
	};

	return cmocka_run_group_tests(tests, test_eal_up, NULL);
}
