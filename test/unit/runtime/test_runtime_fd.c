/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fds of front ends: they are closed, one whose close takes long holds up no other, and eventfds
 * are known.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "../eal_fixture.h"
#include "runtime_test.h"
#include "vhub_fd.h"
#include "vhub_work.h"

static struct vhub_loop *loop;

static bool
is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void
what_is_given_away_is_closed(void **state)
{
	int fds[64];

	(void)state;
	for (unsigned int i = 0; i < RTE_DIM(fds); i++)
		fds[i] = eventfd(0, 0);
	for (unsigned int i = 0; i < RTE_DIM(fds); i++)
		vhub_fd_discard(fds[i]);
	vhub_fd_discard(-1);
	assert_int_equal(vhub_work_stop(), 0);
	for (unsigned int i = 0; i < RTE_DIM(fds); i++)
		assert_false(is_open(fds[i]));
	assert_int_equal(vhub_work_start(loop), 0);
}

/*
 * A TCP socket with unsent data that lingers: its close takes a minute, or until the peer resets
 * it.
 */
static int
lingering_socket(int *listener, int *peer)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct linger linger = { 1, 60 };
	socklen_t len = sizeof(addr);
	static char block[65536];
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	*listener = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(*listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(*listener, 1), 0);
	assert_int_equal(getsockname(*listener, (struct sockaddr *)&addr, &len), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	*peer = accept(*listener, NULL, NULL);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
	while (send(fd, block, sizeof(block), MSG_DONTWAIT) > 0)
		;
	return fd;
}

static void
a_close_that_takes_long_holds_up_no_other(void **state)
{
	int listener, peer, stuck = lingering_socket(&listener, &peer), quick = eventfd(0, 0);

	(void)state;
	vhub_fd_discard(stuck);
	vhub_fd_discard(quick);
	for (int i = 0; i < 20000 && is_open(quick); i++)
		usleep(1000);
	assert_false(is_open(quick));
	assert_int_equal(vhub_work_stop(), 0); /* the other is still being closed, and left behind */
	close(peer);
	assert_int_equal(vhub_work_start(loop), 0);
	close(listener);
}

static void
eventfds_are_told_from_other_files(void **state)
{
	const int event = eventfd(0, 0), memory = memfd_create("anon_inode:[eventfd]", 0);
	const int file = open("/proc/self/exe", O_RDONLY);
	int ends[2], sockets[2];

	(void)state;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
	assert_true(vhub_fd_is_eventfd(event));
	assert_false(vhub_fd_is_eventfd(ends[1]));
	assert_false(vhub_fd_is_eventfd(memory));
	assert_false(vhub_fd_is_eventfd(file));
	assert_false(vhub_fd_is_eventfd(sockets[0]));
	assert_false(vhub_fd_is_eventfd(-1));
	close(event);
	close(memory);
	close(file);
	close(ends[0]);
	close(ends[1]);
	close(sockets[0]);
	close(sockets[1]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_given_away_is_closed),
		cmocka_unit_test(a_close_that_takes_long_holds_up_no_other),
		cmocka_unit_test(eventfds_are_told_from_other_files),
	};
	int ret;

	if (test_eal_init() != 0 || vhub_loop_create(&loop) != 0 || vhub_work_start(loop) != 0)
		return 1;
	ret = cmocka_run_group_tests(tests, NULL, NULL);
	vhub_work_stop();
	vhub_loop_destroy(loop);
	return ret;
}
