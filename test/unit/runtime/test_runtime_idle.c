/* SPDX-License-Identifier: BSD-3-Clause */
/* The sleep of adaptive lcores: who keeps them awake, what wakes them, and that no wake is ever lost. */
#include "lcore_test.h"

#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include <rte_cycles.h>

#include "lcore_pvt.h"

#define N_PINGS 5000

static void
idle_lcores_sleep(void **unused)
{
	struct vhub_lcore_stats a, b;
	uint64_t cpu_ns;

	(void)unused;
	assert_true(test_wait_asleep(0));
	assert_true(test_wait_asleep(1));
	cpu_ns = test_cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
	vhub_lcore_get_stats(vhub_lcore_at(0), &a);
	usleep(300000);
	vhub_lcore_get_stats(vhub_lcore_at(0), &b);
	cpu_ns = test_cpu_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_ns;
	assert_true(cpu_ns < 3000000); /* 1 % */
	assert_int_equal(b.turns, a.turns);
	assert_true(b.asleep);
	assert_true(b.sleep_cycles > a.sleep_cycles); /* the sleep that lasts counts too */
}

/* ---- pollers that may or may not be armed ---- */

struct arming {
	struct vhub_poller poller;
	int arm_result;
	uint32_t n_arm;
	uint32_t n_disarm;
	uint32_t n_poll;
};

static unsigned int
poll_arming(struct vhub_poller *poller)
{
	struct arming *a = vhub_container_of(poller, struct arming, poller);

	test_store(&a->n_poll, a->n_poll + 1);
	return 0;
}

static int
arm_arming(struct vhub_poller *poller)
{
	struct arming *a = vhub_container_of(poller, struct arming, poller);

	test_store(&a->n_arm, a->n_arm + 1);
	return a->arm_result;
}

static void
disarm_arming(struct vhub_poller *poller)
{
	struct arming *a = vhub_container_of(poller, struct arming, poller);

	test_store(&a->n_disarm, a->n_disarm + 1);
}

static const struct vhub_poller_ops arming_ops = {
	.poll = poll_arming,
	.arm = arm_arming,
	.disarm = disarm_arming,
};
static const struct vhub_poller_ops no_arm_ops = { .poll = poll_arming };

static void
nothing(void *arg)
{
	(void)arg;
}

static void
armed_before_and_disarmed_after_the_sleep(void **unused)
{
	struct arming a = { .poller.ops = &arming_ops }, b = { .poller.ops = &arming_ops };

	(void)unused;
	test_on_lcore(0, test_add_poller, &a.poller);
	test_on_lcore(0, test_add_poller, &b.poller);
	assert_true(test_wait_asleep(0));
	assert_int_equal(test_load(&a.n_arm), test_load(&a.n_disarm) + 1);
	assert_int_equal(test_load(&b.n_arm), test_load(&b.n_disarm) + 1);
	test_on_lcore(0, test_remove_poller, &a.poller);
	test_on_lcore(0, test_remove_poller, &b.poller);
	assert_int_equal(a.n_arm, a.n_disarm);
	assert_int_equal(b.n_arm, b.n_disarm);
}

static int
arm_a_day_ahead(struct vhub_poller *poller)
{
	(void)poller;
	vhub_lcore_self()->turn_tsc += 86400 * rte_get_tsc_hz();
	return 0;
}

static const struct vhub_poller_ops day_ahead_ops = { .poll = poll_arming, .arm = arm_a_day_ahead };

/* As if the TSC went back by a day before a sleep, and in it. */
static void
a_clock_that_goes_back_takes_nothing_away(void **unused)
{
	const uint64_t day = 86400 * rte_get_tsc_hz();
	struct arming a = { .poller.ops = &day_ahead_ops };
	struct vhub_lcore_stats asleep, later;

	(void)unused;
	test_on_lcore(0, test_add_poller, &a.poller);
	assert_true(test_wait_asleep(0));
	__atomic_fetch_sub(&vhub_lcore_at(0)->sleep_word, 2 * day, __ATOMIC_RELAXED);
	vhub_lcore_get_stats(vhub_lcore_at(0), &asleep);
	test_on_lcore(0, test_remove_poller, &a.poller);
	assert_true(asleep.asleep);
	assert_true(asleep.idle_cycles < day);
	assert_int_equal(asleep.sleep_cycles, 0);
	assert_true(test_wait_asleep(0));
	vhub_lcore_get_stats(vhub_lcore_at(0), &later);
	assert_true(later.sleep_cycles > 0 && later.sleep_cycles < day);
}

static void
poller_without_arm_keeps_the_lcore_awake(void **unused)
{
	struct arming a = { .poller.ops = &arming_ops }, b = { .poller.ops = &no_arm_ops };
	uint64_t sleeps;
	uint32_t n_arm;

	(void)unused;
	test_on_lcore(0, test_add_poller, &a.poller);
	test_on_lcore(0, test_add_poller, &b.poller);
	sleeps = test_sleeps_of(0);
	n_arm = test_load(&a.n_arm);
	usleep(30000);
	assert_int_equal(test_sleeps_of(0), sleeps);
	assert_int_equal(test_load(&a.n_arm), n_arm); /* and nobody is bothered for nothing */
	test_on_lcore(0, test_remove_poller, &b.poller);
	assert_true(test_wait_asleep(0));
	test_on_lcore(0, test_remove_poller, &a.poller);
}

static int
start_with_idle_time(void **unused)
{
	(void)unused;
	return vhub_lcores_start(test_loop, VHUB_IDLE_ADAPTIVE, 2000);
}

static void
poller_that_refuses_is_asked_again_after_the_idle_time(void **unused)
{
	struct arming a = { .poller.ops = &arming_ops };
	struct arming b = { .poller.ops = &arming_ops, .arm_result = -ENOTSUP };
	struct arming c = { .poller.ops = &arming_ops };
	uint64_t sleeps, begin_ns;

	(void)unused;
	begin_ns = test_now_ns();
	test_on_lcore(0, test_add_poller, &a.poller);
	test_on_lcore(0, test_add_poller, &b.poller);
	test_on_lcore(0, test_add_poller, &c.poller);
	sleeps = test_sleeps_of(0);
	assert_true(test_wait(&b.n_arm, 5));
	assert_int_equal(test_sleeps_of(0), sleeps);
	test_on_lcore(0, test_remove_poller, &c.poller);
	test_on_lcore(0, test_remove_poller, &b.poller);
	test_on_lcore(0, test_remove_poller, &a.poller);
	/* Each 2 ms, counted from before the adding. */
	assert_true(b.n_arm <= (test_now_ns() - begin_ns) / 2000000);
	assert_int_equal(b.n_arm, b.n_disarm);
	assert_true(a.n_arm >= b.n_arm);
	assert_int_equal(a.n_arm, a.n_disarm);
	assert_int_equal(c.n_disarm, c.n_arm); /* c was not asked while b refused */
	assert_true(c.n_arm <= 1);
}

/* ---- a guest that kicks only when asked ---- */

struct guest {
	struct vhub_poller poller;
	int kick_fd;
	uint32_t avail;	     /* guest writes */
	uint32_t wants_kick; /* poller writes */
	uint32_t used;	     /* poller writes */
	uint32_t n_kicks;    /* guest */
};

static unsigned int
poll_guest(struct vhub_poller *poller)
{
	struct guest *g = vhub_container_of(poller, struct guest, poller);
	const uint32_t n = test_load(&g->avail) - g->used;

	if (n != 0)
		test_store(&g->used, g->used + n);
	return n;
}

static int
arm_guest(struct vhub_poller *poller)
{
	struct guest *g = vhub_container_of(poller, struct guest, poller);

	__atomic_store_n(&g->wants_kick, 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* pairs with the fence in guest_main() */
	return test_load(&g->avail) == g->used ? 0 : -EAGAIN;
}

static void
disarm_guest(struct vhub_poller *poller)
{
	__atomic_store_n(&vhub_container_of(poller, struct guest, poller)->wants_kick, 0,
			__ATOMIC_RELAXED);
}

static const struct vhub_poller_ops guest_ops = {
	.poll = poll_guest,
	.arm = arm_guest,
	.disarm = disarm_guest,
};

static void
add_guest(void *arg)
{
	struct guest *g = arg;

	vhub_lcore_add_poller(&g->poller);
	if (vhub_lcore_add_wake_fd(g->kick_fd) != 0)
		_exit(1);
}

static void
remove_guest(void *arg)
{
	struct guest *g = arg;

	vhub_lcore_remove_poller(&g->poller);
	vhub_lcore_remove_wake_fd(g->kick_fd);
}

/* Returns NULL when every request was answered. */
static void *
guest_main(void *arg)
{
	struct guest *g = arg;
	uint32_t seed = 7;

	for (uint32_t i = 1; i <= N_PINGS; i++) {
		test_jitter(&seed, i % 2 != 0 ? 8 : 13);
		test_store(&g->avail, i);
		__atomic_thread_fence(__ATOMIC_SEQ_CST); /* pairs with the fence in arm_guest() */
		if (__atomic_load_n(&g->wants_kick, __ATOMIC_RELAXED) != 0) {
			eventfd_write(g->kick_fd, 1);
			g->n_kicks++;
		}
		if (!test_wait(&g->used, i))
			return g;
	}
	return NULL;
}

/* ---- a thread whose messages are answered ---- */

struct pinger {
	struct vhub_msg msg;
	unsigned int lcore;
	uint32_t n_answers;
};

static void
on_ping(struct vhub_msg *msg)
{
	struct pinger *p = vhub_container_of(msg, struct pinger, msg);

	test_store(&p->n_answers, p->n_answers + 1);
}

static void *
pinger_main(void *arg)
{
	struct pinger *p = arg;
	uint32_t seed = 99;

	for (uint32_t i = 1; i <= N_PINGS; i++) {
		test_jitter(&seed, i % 2 != 0 ? 8 : 12);
		vhub_lcore_post(vhub_lcore_at(p->lcore), &p->msg);
		if (!test_wait(&p->n_answers, i))
			return p;
	}
	return NULL;
}

/* Kicks and messages from four threads at once, into lcores that fall asleep after every turn. */
static void
no_wake_is_lost(void **unused)
{
	struct guest guests[2];
	struct pinger pingers[2];
	pthread_t threads[4];
	void *lost[4];

	(void)unused;
	for (unsigned int i = 0; i < 2; i++) {
		guests[i] = (struct guest){ .poller.ops = &guest_ops, .kick_fd = eventfd(0, 0) };
		assert_true(guests[i].kick_fd >= 0);
		test_on_lcore(0, add_guest, &guests[i]);
		pingers[i] = (struct pinger){ .msg.fn = on_ping, .lcore = i };
	}
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, guest_main, &guests[i]), 0);
		assert_int_equal(pthread_create(&threads[2 + i], NULL, pinger_main, &pingers[i]),
				0);
	}
	for (unsigned int i = 0; i < 4; i++)
		pthread_join(threads[i], &lost[i]);
	for (unsigned int i = 0; i < 2; i++)
		test_on_lcore(0, remove_guest, &guests[i]);
	for (unsigned int i = 0; i < 4; i++)
		assert_null(lost[i]);
	assert_true(test_sleeps_of(0) > 100); /* or nothing was tested */
	assert_true(guests[0].n_kicks > 0 && guests[1].n_kicks > 0);
	close(guests[0].kick_fd);
	close(guests[1].kick_fd);
}

/* ---- two lcores that wake each other ---- */

static struct {
	struct vhub_msg msg;
	uint32_t n;
} ball;

static void
on_ball(struct vhub_msg *msg)
{
	test_store(&ball.n, ball.n + 1);
	if (ball.n < 2 * N_PINGS)
		vhub_lcore_post(vhub_lcore_at(1 - vhub_lcore_index(vhub_lcore_self())), msg);
}

static void
lcores_wake_each_other(void **unused)
{
	(void)unused;
	ball.n = 0;
	ball.msg.fn = on_ball;
	vhub_lcore_post(vhub_lcore_at(0), &ball.msg);
	for (uint32_t i = 1; i <= 20; i++)
		assert_true(test_wait(&ball.n, i * N_PINGS / 10));
	test_on_lcore(0, nothing, NULL);
	test_on_lcore(1, nothing, NULL);
}

static void
add_bad_fds(void *arg)
{
	int *results = arg;

	results[0] = vhub_lcore_add_wake_fd(-1);
	results[1] = vhub_lcore_add_wake_fd(results[1]);
}

static void
fds_that_cannot_wake_are_refused(void **unused)
{
	FILE *f = tmpfile();
	int results[2];

	(void)unused;
	assert_non_null(f);
	results[1] = fileno(f);
	test_on_lcore(0, add_bad_fds, results);
	assert_int_equal(results[0], -EBADF);
	assert_int_equal(results[1], -EPERM);
	fclose(f);
}

/* Edge-triggered and never read: one kick is one wake, however long it stays readable. */
static void
kick_that_is_never_read_does_not_spin(void **unused)
{
	struct guest g = { .poller.ops = &guest_ops, .kick_fd = eventfd(0, 0) };
	uint64_t sleeps;

	(void)unused;
	assert_true(g.kick_fd >= 0);
	test_on_lcore(0, add_guest, &g);
	assert_true(test_wait_asleep(0));
	for (unsigned int i = 0; i < 3; i++) {
		sleeps = test_sleeps_of(0);
		eventfd_write(g.kick_fd, 1);
		for (uint64_t n = 0; test_sleeps_of(0) == sleeps && n < TEST_LOST_NS / 100000; n++)
			usleep(100);
		usleep(20000);
		assert_int_equal(test_sleeps_of(0), sleeps + 1);
	}
	test_on_lcore(0, remove_guest, &g);
	close(g.kick_fd);
}

static void
change_kernel_work(void *n)
{
	vhub_lcore_kernel_work(*(int *)n);
}

/* An lcore that polls sleeps all the same while the kernel works for it and it has nothing to do. */
static void
kernel_work_puts_a_polling_lcore_to_sleep(void **unused)
{
	struct arming a = { .poller.ops = &arming_ops }, b = { .poller.ops = &no_arm_ops };
	int more = 1, fewer = -1;
	uint64_t sleeps;

	(void)unused;
	vhub_lcore_kernel_work(1); /* not an lcore: nothing */
	test_on_lcore(0, test_add_poller, &a.poller);
	usleep(10000);
	assert_int_equal(test_sleeps_of(0), 0);
	assert_int_equal(test_load(&a.n_arm), 0);
	for (unsigned int i = 0; i < 3; i++) {
		test_on_lcore(0, change_kernel_work, &more);
		assert_true(test_wait_asleep(0));
		assert_int_equal(test_load(&a.n_arm), test_load(&a.n_disarm) + 1);
		test_on_lcore(0, change_kernel_work, &fewer);
		sleeps = test_sleeps_of(0);
		usleep(10000);
		assert_int_equal(test_sleeps_of(0), sleeps);
	}
	/* Who cannot be woken for all its pollers looks on. */
	test_on_lcore(0, test_add_poller, &b.poller);
	test_on_lcore(0, change_kernel_work, &more);
	sleeps = test_sleeps_of(0);
	usleep(10000);
	assert_int_equal(test_sleeps_of(0), sleeps);
	test_on_lcore(0, change_kernel_work, &fewer);
	test_on_lcore(0, test_remove_poller, &a.poller);
	test_on_lcore(0, test_remove_poller, &b.poller);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(idle_lcores_sleep, test_start_adaptive,
				test_stop_lcores),
		cmocka_unit_test_setup_teardown(armed_before_and_disarmed_after_the_sleep,
				test_start_adaptive, test_stop_lcores),
		cmocka_unit_test_setup_teardown(a_clock_that_goes_back_takes_nothing_away,
				test_start_adaptive, test_stop_lcores),
		cmocka_unit_test_setup_teardown(poller_without_arm_keeps_the_lcore_awake,
				test_start_adaptive, test_stop_lcores),
		cmocka_unit_test_setup_teardown(
				poller_that_refuses_is_asked_again_after_the_idle_time,
				start_with_idle_time, test_stop_lcores),
		cmocka_unit_test_setup_teardown(no_wake_is_lost, test_start_adaptive,
				test_stop_lcores),
		cmocka_unit_test_setup_teardown(lcores_wake_each_other, test_start_adaptive,
				test_stop_lcores),
		cmocka_unit_test_setup_teardown(fds_that_cannot_wake_are_refused,
				test_start_adaptive, test_stop_lcores),
		cmocka_unit_test_setup_teardown(kick_that_is_never_read_does_not_spin,
				test_start_adaptive, test_stop_lcores),
		cmocka_unit_test_setup_teardown(kernel_work_puts_a_polling_lcore_to_sleep,
				test_start_poll, test_stop_lcores),
	};

	return cmocka_run_group_tests(tests, test_group_setup, test_group_teardown);
}
