/* SPDX-License-Identifier: BSD-3-Clause */
/* Writes to fds of a front end: results, the one that is made to block, and what watching them costs. */
#include "lcore_test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

#include <rte_cycles.h>

/* In this program the C library's comes after ours: writes to `slow_fd` take that much of their CPU. */
static int slow_fd = -1;
static uint32_t n_slow_writes; /* of the next ones */

ssize_t
write(int fd, const void *data, size_t size)
{
	const uint64_t begin_ns = test_cpu_ns(CLOCK_THREAD_CPUTIME_ID);

	if (fd == __atomic_load_n(&slow_fd, __ATOMIC_RELAXED) && test_load(&n_slow_writes) > 0) {
		test_store(&n_slow_writes, test_load(&n_slow_writes) - 1);
		while (test_cpu_ns(CLOCK_THREAD_CPUTIME_ID) - begin_ns < 3000000)
			continue;
	}
	return syscall(SYS_write, fd, data, size);
}

struct notify {
	struct vhub_msg msg;
	int fd;
	struct vhub_notify_account *account;
	int result;
	uint64_t took_ns;
	uint32_t done;
};

static void
on_notify(struct vhub_msg *msg)
{
	struct notify *n = vhub_container_of(msg, struct notify, msg);
	const uint64_t begin_ns = test_now_ns();

	n->result = vhub_lcore_notify_fd(n->fd, n->account);
	n->took_ns = test_now_ns() - begin_ns;
	test_store(&n->done, 1);
}

/* Notifies `fd` from lcore `i` while the loop runs. A write that nobody interrupts ends the test program. */
static struct notify
notify_for(unsigned int i, int fd, struct vhub_notify_account *account)
{
	struct notify n = { .msg.fn = on_notify, .fd = fd, .account = account };

	vhub_lcore_post(vhub_lcore_at(i), &n.msg);
	for (unsigned int tries = 0; test_load(&n.done) == 0; tries++) {
		if (tries == TEST_LOST_NS / 5000000)
			_exit(1);
		test_run_loop(5000);
	}
	return n;
}

static struct notify
notify_from(unsigned int i, int fd)
{
	return notify_for(i, fd, NULL);
}

/* What a hostile front end hands over: the next write blocks for ever. */
static int
saturated_eventfd(void)
{
	const int fd = eventfd(0, 0);

	assert_true(fd >= 0);
	assert_int_equal(eventfd_write(fd, UINT64_MAX - 1), 0);
	return fd;
}

static void
write_that_blocks_is_interrupted(void **unused)
{
	const int fd = saturated_eventfd();
	struct notify n;

	(void)unused;
	for (unsigned int round = 0; round < 5; round++) {
		n = notify_from(round & 1, fd);
		assert_int_equal(n.result, -EINTR);
		/* 10 to 20 ms, but for a machine that has other things to do. */
		assert_in_range(n.took_ns, 9000000, TEST_LOST_NS);
		/* Out of step with the ticks, so that the first tick comes early in the next write; once, parked. */
		test_run_loop(round == 2 ? 300000 : 6000);
	}
	close(fd);
}

static void
two_lcores_stuck_at_once(void **unused)
{
	const int fd = saturated_eventfd();
	struct notify a = { .msg.fn = on_notify, .fd = fd }, b;

	(void)unused;
	vhub_lcore_post(vhub_lcore_at(0), &a.msg);
	b = notify_from(1, fd);
	while (test_load(&a.done) == 0)
		test_run_loop(5000);
	assert_int_equal(a.result, -EINTR);
	assert_int_equal(b.result, -EINTR);
	close(fd);
}

static void
stop_frees_an_lcore_that_is_stuck(void **unused)
{
	const int fd = saturated_eventfd();
	struct notify n = { .msg.fn = on_notify, .fd = fd };

	(void)unused;
	assert_int_equal(vhub_lcores_start(test_loop, VHUB_IDLE_ADAPTIVE, 0), 0);
	vhub_lcore_post(vhub_lcore_at(0), &n.msg);
	usleep(5000);
	vhub_lcores_stop(); /* the loop does not run now */
	assert_int_equal(test_load(&n.done), 1);
	assert_int_equal(n.result, -EINTR);
	close(fd);
}

static void
results_of_other_writes(void **unused)
{
	int full = eventfd(0, EFD_NONBLOCK), fine = eventfd(0, EFD_NONBLOCK), fds[2];
	eventfd_t value;

	(void)unused;
	assert_int_equal(eventfd_write(full, UINT64_MAX - 1), 0);
	assert_int_equal(notify_from(0, full).result, -EAGAIN);
	assert_int_equal(notify_from(0, fine).result, 0);
	assert_int_equal(notify_from(1, fine).result, 0);
	assert_int_equal(eventfd_read(fine, &value), 0);
	assert_int_equal(value, 2);
	assert_int_equal(notify_from(0, -1).result, -EBADF);
	assert_int_equal(vhub_lcore_notify_fd(fine, NULL),
			0); /* here is no lcore: written all the same */
	assert_int_equal(eventfd_read(fine, &value), 0);
	/* A pipe nobody reads: an error, and no SIGPIPE, now or when the lcores end. */
	assert_int_equal(pipe(fds), 0);
	close(fds[0]);
	assert_int_equal(notify_from(0, fds[1]).result, -EPIPE);
	close(fds[1]);
	close(full);
	close(fine);
}

/* How many of 20 notifications, the first so many of which take 3 ms of CPU time each, tell of a stuck one. */
static unsigned int
stuck_of_slow(unsigned int n_slow)
{
	const int fd = eventfd(0, EFD_NONBLOCK);
	struct vhub_notify_account account = { 0 };
	unsigned int n_stuck = 0;

	assert_true(fd >= 0);
	test_store(&n_slow_writes, n_slow);
	__atomic_store_n(&slow_fd, fd, __ATOMIC_RELAXED);
	for (unsigned int i = 0; i < 20; i++) {
		const int result = notify_for(0, fd, &account).result;

		assert_true(result == 0 || result == -EINTR);
		n_stuck += result == -EINTR;
	}
	__atomic_store_n(&slow_fd, -1, __ATOMIC_RELAXED);
	close(fd);
	return n_stuck;
}

/* As a hypervisor makes them be: few, and nobody's fault. And as a front end makes them be: one after the other. */
static void
slow_writes_are_nobodys_fault_until_there_are_many(void **unused)
{
	(void)unused;
	assert_int_equal(stuck_of_slow(4), 0);
	assert_true(stuck_of_slow(20) > 0);
}

/* A ring of a guest's: its eventfd and what was noted of it. */
struct ring {
	int fd;
	struct vhub_notify_account account;
};

/* Notifies `n` times from lcore 0, taking 3 ms of CPU time each if `slow`. Returns how many told of a stuck one. */
static unsigned int
notify_ring(struct ring *ring, unsigned int n, bool slow)
{
	unsigned int n_stuck = 0;

	test_store(&n_slow_writes, slow ? n : 0);
	__atomic_store_n(&slow_fd, ring->fd, __ATOMIC_RELAXED);
	while (n-- > 0)
		n_stuck += notify_for(0, ring->fd, &ring->account).result == -EINTR;
	__atomic_store_n(&slow_fd, -1, __ATOMIC_RELAXED);
	return n_stuck;
}

static void
notify_often(void *arg)
{
	struct ring *ring = arg;

	for (unsigned int i = 0; i < 100; i++)
		vhub_lcore_notify_fd(ring->fd, &ring->account);
}

/* Nobody is told of what another one's fd has cost, and nobody's is forgotten since others cost nothing. */
static void
each_ring_has_its_own_account(void **unused)
{
	struct ring hostile = { .fd = eventfd(0, EFD_NONBLOCK) },
		    other = { .fd = eventfd(0, EFD_NONBLOCK) };
	unsigned int n_stuck = 0;

	(void)unused;
	assert_true(hostile.fd >= 0 && other.fd >= 0);
	/* The first one is not measured. */
	assert_int_equal(notify_ring(&hostile, 8, true), 0);
	assert_int_equal(notify_ring(&other, 2, true), 0);
	assert_int_equal(notify_ring(&hostile, 1, true), 1);
	for (unsigned int i = 0; i < 9; i++) {
		test_on_lcore(0, notify_often, &other);
		n_stuck += notify_ring(&hostile, 1, true);
	}
	assert_int_equal(n_stuck, 1);
	close(hostile.fd);
	close(other.fd);
}

/* Long ones with many short ones between them count by what they take. */
static void
long_writes_far_apart_are_summed(void **unused)
{
	struct ring ring = { .fd = eventfd(0, EFD_NONBLOCK) };
	unsigned int n_stuck = 0;

	(void)unused;
	assert_true(ring.fd >= 0);
	assert_int_equal(notify_ring(&ring, 1, true), 0);
	for (unsigned int i = 0; i < 12; i++) {
		/* However slow this machine is. */
		ring.account.suspect_until_tsc = rte_rdtsc() + 9 * rte_get_tsc_hz();
		test_on_lcore(0, notify_often, &ring);
		n_stuck += notify_ring(&ring, 1, true);
	}
	assert_int_equal(n_stuck, 0);
	/* As if they had taken all of it but this one. */
	ring.account.long_ns = 499000000;
	n_stuck = notify_ring(&ring, 1, true);
	assert_int_equal(n_stuck, 1);
	close(ring.fd);
}

/* As if the TSC went back by a day after the write that took long. */
static void
no_ring_is_measured_for_as_long_as_its_clock_was_ahead(void **unused)
{
	struct ring ring = { .fd = eventfd(0, EFD_NONBLOCK) };

	(void)unused;
	assert_true(ring.fd >= 0);
	assert_int_equal(notify_ring(&ring, 1, true), 0);
	assert_int_not_equal(ring.account.suspect_until_tsc, 0);
	ring.account.suspect_until_tsc += 86400 * rte_get_tsc_hz();
	assert_int_equal(notify_ring(&ring, 1, false), 0);
	assert_true(ring.account.suspect_until_tsc < rte_rdtsc() + 60 * rte_get_tsc_hz());
	close(ring.fd);
}

static void
read_mask(void *arg)
{
	pthread_sigmask(SIG_BLOCK, NULL, arg);
}

static void
lcores_take_no_other_signal(void **unused)
{
	sigset_t mask;
	int n_free = 0;

	(void)unused;
	test_on_lcore(0, read_mask, &mask);
	assert_int_equal(sigismember(&mask, SIGTERM), 1);
	assert_int_equal(sigismember(&mask, SIGPIPE), 1);
	assert_int_equal(sigismember(&mask, SIGBUS), 0);
	for (int s = SIGRTMIN; s <= SIGRTMAX; s++)
		n_free += sigismember(&mask, s) == 0;
	assert_int_equal(n_free, 1);
}

/* ---- cost ---- */

struct notifier {
	struct vhub_poller poller;
	struct vhub_notify_account account;
	int fd;
};

static unsigned int
poll_notifier(struct vhub_poller *poller)
{
	struct notifier *p = vhub_container_of(poller, struct notifier, poller);

	return vhub_lcore_notify_fd(p->fd, &p->account) == 0;
}

static const struct vhub_poller_ops notifier_ops = { .poll = poll_notifier };

static void
ctl_sleeps_while_nobody_writes(void **unused)
{
	const int fd = eventfd(0, EFD_NONBLOCK);
	long n;

	(void)unused;
	assert_int_equal(notify_from(0, fd).result, 0);
	test_run_loop(300000); /* parks */
	n = test_thread_sleeps();
	test_run_loop(500000);
	assert_true(test_thread_sleeps() - n < 10); /* a tick each 10 ms would be 50 */
	close(fd);
}

/* What a wake of this thread costs by itself: on a virtual machine, many times the microsecond of real hardware. */
static uint64_t
bare_wake_ns(void)
{
	const struct timespec tick = { .tv_nsec = 10000000 };
	uint64_t cpu_ns = test_cpu_ns(CLOCK_THREAD_CPUTIME_ID);

	for (unsigned int i = 0; i < 5; i++)
		nanosleep(&tick, NULL);
	return (test_cpu_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_ns) / 5;
}

static void
ctl_ticks_cheaply_while_an_lcore_writes(void **unused)
{
	struct notifier p = { .poller.ops = &notifier_ops, .fd = eventfd(0, EFD_NONBLOCK) };
	uint64_t cpu_ns, least_ns = UINT64_MAX, bare_ns = UINT64_MAX;
	unsigned int turns = 0;
	long n, sum = 0;

	(void)unused;
	test_on_lcore(0, test_add_poller, &p.poller);
	test_run_loop(20000);
	/*
	 * The least of several turns, and of more where that is not enough: what others do on the machine makes both
	 * dearer, at any time.
	 */
	while (turns < 10 || (turns < 100 && least_ns >= bare_ns * 2 + 10000)) {
		bare_ns = RTE_MIN(bare_ns, bare_wake_ns());
		n = test_thread_sleeps();
		cpu_ns = test_cpu_ns(CLOCK_THREAD_CPUTIME_ID);
		test_run_loop(100000);
		cpu_ns = test_cpu_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_ns;
		n = test_thread_sleeps() - n;
		least_ns = RTE_MIN(least_ns, cpu_ns / (unsigned long)RTE_MAX(n, 1));
		sum += n;
		turns++;
	}
	test_on_lcore(0, test_remove_poller, &p.poller);
	print_message("%ld ticks in %u tenths of a second, %lu ns each, %lu ns of them for a bare wake\n",
			sum, turns, (unsigned long)least_ns, (unsigned long)bare_ns);
	assert_in_range(sum, 1, 50 * turns);
	/* A hundred times 10 us are 0.1 % of a CPU. */
	assert_true(least_ns < bare_ns * 2 + 10000);
	close(p.fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(write_that_blocks_is_interrupted,
				test_start_adaptive, test_stop_lcores),
		cmocka_unit_test_setup_teardown(two_lcores_stuck_at_once, test_start_poll,
				test_stop_lcores),
		cmocka_unit_test(stop_frees_an_lcore_that_is_stuck),
		cmocka_unit_test_setup_teardown(results_of_other_writes, test_start_adaptive,
				test_stop_lcores),
		cmocka_unit_test_setup_teardown(slow_writes_are_nobodys_fault_until_there_are_many,
				test_start_adaptive, test_stop_lcores),
		cmocka_unit_test_setup_teardown(each_ring_has_its_own_account, test_start_adaptive,
				test_stop_lcores),
		cmocka_unit_test_setup_teardown(long_writes_far_apart_are_summed,
				test_start_adaptive, test_stop_lcores),
		cmocka_unit_test_setup_teardown(
				no_ring_is_measured_for_as_long_as_its_clock_was_ahead,
				test_start_adaptive, test_stop_lcores),
		cmocka_unit_test_setup_teardown(lcores_take_no_other_signal, test_start_adaptive,
				test_stop_lcores),
		cmocka_unit_test_setup_teardown(ctl_sleeps_while_nobody_writes, test_start_poll,
				test_stop_lcores),
		cmocka_unit_test_setup_teardown(ctl_ticks_cheaply_while_an_lcore_writes,
				test_start_poll, test_stop_lcores),
	};

	return cmocka_run_group_tests(tests, test_group_setup, test_group_teardown);
}
