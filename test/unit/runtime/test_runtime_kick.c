/* SPDX-License-Identifier: BSD-3-Clause */
/* Kick fds that wake lcores, whatever else waits on them. */
#include "lcore_test.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "../../../lib/runtime/lcore_pvt.h"
#include "vhub_fd.h"
#include "vhub_kick.h"

/* Who waits on a kick fd of ours: as many epoll instances with as many fds of it each. */
#define N_OTHERS 400u
#define N_OTHER_FDS 500u

static int
arm_idle(struct vhub_poller *poller)
{
	(void)poller;
	return 0;
}

static void
disarm_idle(struct vhub_poller *poller)
{
	(void)poller;
}

static unsigned int
poll_idle(struct vhub_poller *poller)
{
	(void)poller;
	return 0;
}

static const struct vhub_poller_ops idle_ops = {
	.poll = poll_idle,
	.arm = arm_idle,
	.disarm = disarm_idle,
};

/* It never reads the fd, as no lcore does. */
static void
expect_kicks_wake(int fd, unsigned int i)
{
	uint64_t sleeps, other;

	assert_true(test_wait_asleep(i));
	assert_true(test_wait_asleep(1 - i));
	other = test_sleeps_of(1 - i);
	for (unsigned int kicks = 0; kicks < 3; kicks++) {
		sleeps = test_sleeps_of(i);
		eventfd_write(fd, 1);
		for (uint64_t n = 0; test_sleeps_of(i) == sleeps && n < TEST_LOST_NS / 100000; n++)
			usleep(100);
		assert_int_equal(test_sleeps_of(i), sleeps + 1);
	}
	assert_int_equal(test_sleeps_of(1 - i), other);
}

static void
kicks_wake_the_lcore_they_are_for(void **unused)
{
	struct vhub_poller pollers[] = { { .ops = &idle_ops }, { .ops = &idle_ops } };
	const int fd = eventfd(0, EFD_NONBLOCK);
	struct vhub_kick_watch *watch;

	(void)unused;
	assert_true(fd >= 0);
	for (unsigned int i = 0; i < 2; i++)
		test_on_lcore(i, test_add_poller, &pollers[i]);
	assert_false(vhub_kick_wakes(NULL));
	assert_int_equal(vhub_kick_watch_create(fd, &watch), 0);
	assert_false(vhub_kick_wakes(watch));
	for (unsigned int i = 0; i < 4; i++) {
		vhub_kick_watch_wake(watch, vhub_lcore_at(i % 2));
		assert_true(vhub_kick_wakes(watch));
		expect_kicks_wake(fd, i % 2);
	}
	vhub_kick_watch_destroy(watch, NULL);
	for (unsigned int i = 0; i < 2; i++)
		test_on_lcore(i, test_remove_poller, &pollers[i]);
	close(fd);
}

/* ---- a front end with many who wait on its kick fd ---- */

struct others {
	int kick_fd;
	int fds[N_OTHER_FDS];
	int epoll_fds[N_OTHERS];
};

static void
make_others(struct others *others)
{
	struct epoll_event event = { .events = EPOLLIN };

	others->kick_fd = eventfd(0, EFD_NONBLOCK);
	assert_true(others->kick_fd >= 0);
	for (unsigned int i = 0; i < N_OTHER_FDS; i++) {
		others->fds[i] = dup(others->kick_fd);
		assert_true(others->fds[i] >= 0);
	}
	for (unsigned int i = 0; i < N_OTHERS; i++) {
		others->epoll_fds[i] = epoll_create1(EPOLL_CLOEXEC);
		assert_true(others->epoll_fds[i] >= 0);
		for (unsigned int j = 0; j < N_OTHER_FDS; j++)
			assert_int_equal(epoll_ctl(others->epoll_fds[i], EPOLL_CTL_ADD,
							 others->fds[j], &event),
					0);
	}
}

static void
end_others(struct others *others)
{
	for (unsigned int i = 0; i < N_OTHERS; i++)
		close(others->epoll_fds[i]);
	for (unsigned int i = 0; i < N_OTHER_FDS; i++)
		close(others->fds[i]);
	close(others->kick_fd);
}

/* What is done with an lcore's epoll instance again and again, and how long that has waited for its lock at most. */
struct looker {
	int epoll_fd;
	uint32_t n_looks;
	uint32_t stop;
	uint64_t longest_ns;
};

/* Who waits for a lock spins or sleeps; who has lost his CPU does neither. */
static uint64_t
look(int epoll_fd, int fd)
{
	struct epoll_event event = { .events = EPOLLIN };
	const uint64_t begin_ns = test_now_ns(), cpu_ns = test_cpu_ns(CLOCK_THREAD_CPUTIME_ID);
	const long n_sleeps = test_thread_sleeps();

	epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &event);
	if (test_thread_sleeps() != n_sleeps)
		return test_now_ns() - begin_ns;
	return test_cpu_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_ns;
}

static void *
looker_main(void *arg)
{
	const int fd = eventfd(0, 0);
	struct epoll_event event = { .events = EPOLLIN };
	struct looker *looker = arg;
	uint64_t ns;

	epoll_ctl(looker->epoll_fd, EPOLL_CTL_ADD, fd, &event);
	while (test_load(&looker->stop) == 0) {
		ns = look(looker->epoll_fd, fd);
		looker->longest_ns = RTE_MAX(looker->longest_ns, ns);
		test_store(&looker->n_looks, looker->n_looks + 1);
	}
	epoll_ctl(looker->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	close(fd);
	return NULL;
}

/* Whether the lcore's epoll instance was never locked for a quarter of the time that the watch took to be put there. */
static bool
is_put_without_lock(struct vhub_kick_watch *watch)
{
	struct looker looker = { .epoll_fd = vhub_lcore_at(0)->epoll_fd };
	pthread_t thread;
	uint64_t ns;

	assert_int_equal(pthread_create(&thread, NULL, looker_main, &looker), 0);
	assert_true(test_wait(&looker.n_looks, 10));
	ns = test_now_ns();
	vhub_kick_watch_wake(watch, vhub_lcore_at(0));
	ns = test_now_ns() - ns;
	assert_true(test_wait(&looker.n_looks, test_load(&looker.n_looks) + 2));
	test_store(&looker.stop, 1);
	pthread_join(thread, NULL);
	assert_true(vhub_kick_wakes(watch));
	return looker.longest_ns < ns / 4;
}

/* The kernel looks at all who wait on the fd. A hypervisor may take the CPU for as long now and then. */
static void
those_who_wait_on_a_kick_fd_hold_up_no_lcore(void **unused)
{
	struct vhub_kick_watch *watch;
	struct others others;
	unsigned int n_passed = 0;

	(void)unused;
	vhub_fd_raise_limit();
	make_others(&others);
	assert_int_equal(vhub_kick_watch_create(others.kick_fd, &watch), 0);
	for (unsigned int tries = 0; tries < 10; tries++)
		n_passed += is_put_without_lock(watch);
	assert_true(n_passed >= 7);
	vhub_kick_watch_destroy(watch, NULL);
	end_others(&others);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(kicks_wake_the_lcore_they_are_for,
				test_start_adaptive, test_stop_lcores),
		cmocka_unit_test_setup_teardown(those_who_wait_on_a_kick_fd_hold_up_no_lcore,
				test_start_adaptive, test_stop_lcores),
	};

	return cmocka_run_group_tests(tests, test_group_setup, test_group_teardown);
}
