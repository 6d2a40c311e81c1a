/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fds of front ends: they are closed, one whose close takes long holds up nobody else's, an account
 * knows how many are not closed, and eventfds are known.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "../eal_fixture.h"
#include "../lingering.h"
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
		vhub_fd_discard(fds[i], NULL);
	vhub_fd_discard(-1, NULL);
	assert_int_equal(vhub_work_stop(), 0);
	for (unsigned int i = 0; i < RTE_DIM(fds); i++)
		assert_false(is_open(fds[i]));
	assert_int_equal(vhub_work_start(loop), 0);
}

static void
wait_until_closed(int fd)
{
	for (int i = 0; i < 20000 && is_open(fd); i++)
		usleep(1000);
	assert_false(is_open(fd));
}

/* The stop leaves it behind; what was waiting for it is closed when it has ended, a new start or not. */
static void
a_close_that_takes_long_holds_up_nobody_else(void **state)
{
	struct vhub_fd_account *account;
	int peer, stuck = lingering_socket(60, &peer), quick = eventfd(0, 0),
		  behind = eventfd(0, 0);

	(void)state;
	assert_int_equal(vhub_fd_account_create(&account), 0);
	vhub_fd_discard(stuck, account);
	vhub_fd_discard(behind, account);
	vhub_fd_discard(quick, NULL);
	wait_until_closed(quick);
	assert_int_equal(vhub_work_stop(), 0);
	assert_int_equal(vhub_work_start(loop), 0);
	quick = eventfd(0, 0);
	vhub_fd_discard(quick, NULL);
	wait_until_closed(quick);
	vhub_fd_account_release(account);
	assert_true(is_open(behind));
	close(peer);
	wait_until_closed(behind);
}

static void
an_account_is_full_until_its_fds_are_closed(void **state)
{
	struct vhub_fd_account *account, *other;
	int peer, fds[VHUB_FD_MAX_WAITING];

	(void)state;
	assert_int_equal(vhub_fd_account_create(&account), 0);
	assert_int_equal(vhub_fd_account_create(&other), 0);
	vhub_fd_discard(lingering_socket(60, &peer), account);
	for (unsigned int i = 0; i < RTE_DIM(fds); i++) {
		assert_false(vhub_fd_account_is_full(account));
		fds[i] = eventfd(0, 0);
		vhub_fd_discard(fds[i], account);
	}
	assert_true(vhub_fd_account_is_full(account));
	for (unsigned int i = 0; i < RTE_DIM(fds); i++)
		assert_true(is_open(fds[i]));
	assert_false(vhub_fd_account_is_full(other));
	assert_false(vhub_fd_account_is_full(NULL));
	close(peer);
	for (int i = 0; i < 20000 && vhub_fd_account_is_full(account); i++)
		usleep(1000);
	assert_false(vhub_fd_account_is_full(account));
	for (unsigned int i = 0; i < RTE_DIM(fds); i++)
		wait_until_closed(fds[i]);
	vhub_fd_discard_wait();
	vhub_fd_account_release(account);
	vhub_fd_account_release(other);
	vhub_fd_account_release(NULL);
}

static void
the_soft_limit_becomes_the_hard_one(void **state)
{
	struct rlimit before, limit;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	limit = before;
	limit.rlim_cur = 100;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(vhub_fd_raise_limit(), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(limit.rlim_cur, before.rlim_max);
	assert_int_equal(limit.rlim_max, before.rlim_max);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
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
		cmocka_unit_test(a_close_that_takes_long_holds_up_nobody_else),
		cmocka_unit_test(an_account_is_full_until_its_fds_are_closed),
		cmocka_unit_test(the_soft_limit_becomes_the_hard_one),
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
