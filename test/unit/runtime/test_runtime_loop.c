/* SPDX-License-Identifier: BSD-3-Clause */
/* The control loop: timers, tasks, watches, messages, nesting, and its sleep. */
#include "runtime_test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "vhub_loop.h"

/* What happened, in order: each callback adds its letter. */
static struct {
	struct vhub_loop *loop;
	char log[64];
	unsigned int n;
} state;

static void
note(char c)
{
	if (state.n < sizeof(state.log) - 1)
		state.log[state.n++] = c;
}

static int
setup(void **unused)
{
	(void)unused;
	memset(&state, 0, sizeof(state));
	return vhub_loop_create(&state.loop);
}

static int
teardown(void **unused)
{
	(void)unused;
	vhub_loop_destroy(state.loop);
	return 0;
}

/* ---- timers ---- */

struct lettered_timer {
	struct vhub_timer timer;
	char letter;
	struct lettered_timer *cancels;
	unsigned int rearms;
};

static void
on_timer(struct vhub_timer *timer)
{
	struct lettered_timer *t = vhub_container_of(timer, struct lettered_timer, timer);

	note(t->letter);
	if (t->cancels != NULL)
		vhub_timer_cancel(state.loop, &t->cancels->timer);
	if (t->rearms > 0) {
		t->rearms--;
		vhub_timer_arm(state.loop, timer, 1000);
	}
}

static void
on_stop_timer(struct vhub_timer *timer)
{
	(void)timer;
	vhub_loop_stop(state.loop, 7);
}

/* Ends the run after `delay_us`. */
static struct vhub_timer *
arm_stop(uint64_t delay_us)
{
	static struct vhub_timer timer;

	timer = (struct vhub_timer){ .fn = on_stop_timer };
	vhub_timer_arm(state.loop, &timer, delay_us);
	return &timer;
}

static void
timers_fire_in_order_and_not_early(void **unused)
{
	struct lettered_timer a = { .timer.fn = on_timer, .letter = 'a' };
	struct lettered_timer b = { .timer.fn = on_timer, .letter = 'b' };
	struct lettered_timer c = { .timer.fn = on_timer, .letter = 'c' };
	struct lettered_timer d = { .timer.fn = on_timer, .letter = 'd' };
	const uint64_t begin_ns = test_now_ns();

	(void)unused;
	vhub_timer_arm(state.loop, &c.timer, 15000);
	vhub_timer_arm(state.loop, &a.timer, 0);
	vhub_timer_arm(state.loop, &b.timer, 5000);
	vhub_timer_arm(state.loop, &d.timer, 1000);
	vhub_timer_arm(state.loop, &d.timer, 10000); /* again: only the last counts */
	arm_stop(20000);
	assert_int_equal(vhub_loop_run(state.loop), 7);
	assert_string_equal(state.log, "abdc");
	assert_true(test_now_ns() - begin_ns >= 20000000);
	assert_true(test_now_ns() - begin_ns < TEST_LOST_NS);
	assert_false(a.timer.armed);
}

static void
timers_of_one_moment_keep_their_order(void **unused)
{
	struct lettered_timer t[5];

	(void)unused;
	for (unsigned int i = 0; i < 5; i++) {
		t[i] = (struct lettered_timer){ .timer.fn = on_timer, .letter = (char)('a' + i) };
		vhub_timer_arm(state.loop, &t[i].timer, UINT64_MAX); /* the end of time, for each */
	}
	for (unsigned int i = 0; i + 1 < 5; i++)
		assert_ptr_equal(t[i].timer.next, &t[i + 1].timer);
	arm_stop(1000);
	assert_int_equal(vhub_loop_run(state.loop), 7);
	assert_string_equal(state.log, "");
	for (unsigned int i = 0; i < 5; i++)
		vhub_timer_cancel(state.loop, &t[i].timer);
}

static void
timers_cancelled_and_armed_in_callbacks(void **unused)
{
	struct lettered_timer c = { .timer.fn = on_timer, .letter = 'c' };
	struct lettered_timer b = { .timer.fn = on_timer, .letter = 'b', .rearms = 2 };
	struct lettered_timer a = { .timer.fn = on_timer, .letter = 'a', .cancels = &c };

	(void)unused;
	vhub_timer_arm(state.loop, &a.timer, 100);
	vhub_timer_arm(state.loop, &b.timer, 100);
	vhub_timer_arm(state.loop, &c.timer, 100);
	usleep(1000); /* all three are due in the same turn */
	arm_stop(20000);
	assert_int_equal(vhub_loop_run(state.loop), 7);
	assert_string_equal(state.log, "abbb");
	vhub_timer_cancel(state.loop, &c.timer); /* not armed: fine */
}

/* ---- tasks ---- */

struct lettered_task {
	struct vhub_task task;
	char letter;
	struct lettered_task *defers;
	struct lettered_task *undefers;
	bool stops;
};

static void
on_task(struct vhub_task *task)
{
	struct lettered_task *t = vhub_container_of(task, struct lettered_task, task);

	note(t->letter);
	if (t->defers != NULL)
		vhub_loop_defer(state.loop, &t->defers->task);
	if (t->undefers != NULL)
		vhub_loop_undefer(state.loop, &t->undefers->task);
	if (t->stops)
		vhub_loop_stop(state.loop, 3);
}

static void
tasks_run_once_in_order(void **unused)
{
	struct lettered_task d = { .task.fn = on_task, .letter = 'd', .stops = true };
	struct lettered_task c = { .task.fn = on_task, .letter = 'c' };
	struct lettered_task b = { .task.fn = on_task, .letter = 'b', .undefers = &c };
	struct lettered_task a = { .task.fn = on_task, .letter = 'a', .defers = &d };
	struct lettered_task e = { .task.fn = on_task, .letter = 'e' };

	(void)unused;
	vhub_loop_defer(state.loop, &a.task);
	vhub_loop_defer(state.loop, &b.task);
	vhub_loop_defer(state.loop, &a.task); /* queued already */
	vhub_loop_defer(state.loop, &c.task); /* b takes it back in the same turn */
	vhub_loop_defer(state.loop, &e.task);
	vhub_loop_undefer(state.loop, &d.task); /* not queued: fine */
	assert_int_equal(vhub_loop_run(state.loop), 3);
	assert_string_equal(state.log, "abed");
	assert_false(c.task.queued);
}

static void
task_that_defers_itself_waits_a_turn(void **unused)
{
	struct lettered_task a = { .task.fn = on_task, .letter = 'a', .defers = &a };

	(void)unused;
	vhub_loop_defer(state.loop, &a.task);
	arm_stop(2000);
	assert_int_equal(vhub_loop_run(state.loop), 7); /* the timer had its turns in between */
	assert_true(a.task.queued);
	vhub_loop_undefer(state.loop, &a.task);
}

static void
stop_leaves_the_other_tasks_for_the_next_run(void **unused)
{
	struct lettered_task a = { .task.fn = on_task, .letter = 'a', .stops = true };
	struct lettered_task b = { .task.fn = on_task, .letter = 'b' };
	struct lettered_task c = { .task.fn = on_task, .letter = 'c', .stops = true };

	(void)unused;
	vhub_loop_defer(state.loop, &a.task);
	vhub_loop_defer(state.loop, &b.task);
	assert_int_equal(vhub_loop_run(state.loop), 3);
	assert_string_equal(state.log, "a");
	vhub_loop_defer(state.loop, &c.task);
	assert_int_equal(vhub_loop_run(state.loop), 3);
	assert_string_equal(state.log, "abc");
}

static void
on_eager_timer(struct vhub_timer *timer)
{
	vhub_timer_arm(state.loop, timer, 0);
}

static void
timer_armed_for_now_starves_nobody(void **unused)
{
	struct lettered_task b = { .task.fn = on_task, .letter = 'b', .stops = true };
	struct lettered_task a = { .task.fn = on_task, .letter = 'a', .defers = &b };
	struct vhub_timer eager = { .fn = on_eager_timer };

	(void)unused;
	vhub_timer_arm(state.loop, &eager, 0);
	vhub_loop_defer(state.loop, &a.task);
	assert_int_equal(vhub_loop_run(state.loop), 3); /* the next turn comes */
	vhub_timer_cancel(state.loop, &eager);
}

/* ---- watches ---- */

struct lettered_watch {
	struct vhub_watch watch;
	char letter;
	uint32_t events;
	struct lettered_watch *unwatches;
	struct lettered_watch *rewatches;
};

static void
on_watch(struct vhub_watch *watch, uint32_t events)
{
	struct lettered_watch *w = vhub_container_of(watch, struct lettered_watch, watch);

	note(w->letter);
	w->events = events;
	vhub_loop_unwatch(state.loop, watch);
	if (w->unwatches != NULL)
		vhub_loop_unwatch(state.loop, &w->unwatches->watch);
	if (w->rewatches != NULL)
		assert_int_equal(vhub_loop_rewatch(state.loop, &w->rewatches->watch, 0), 0);
}

static void
watch_ready(struct lettered_watch *w, char letter)
{
	*w = (struct lettered_watch){ .watch = { .fd = eventfd(1, EFD_NONBLOCK), .fn = on_watch },
		.letter = letter };
	assert_true(w->watch.fd >= 0);
	assert_int_equal(vhub_loop_watch(state.loop, &w->watch, EPOLLIN), 0);
}

static void
unwatch_takes_fetched_events_back(void **unused)
{
	struct lettered_watch a, b;

	(void)unused;
	watch_ready(&a, 'a');
	watch_ready(&b, 'b');
	a.unwatches = &b;
	b.unwatches = &a;
	arm_stop(5000);
	assert_int_equal(vhub_loop_run(state.loop), 7);
	assert_int_equal(strlen(state.log), 1); /* whichever came first */
	close(a.watch.fd);
	close(b.watch.fd);
}

static void
rewatch_takes_fetched_events_back(void **unused)
{
	struct lettered_watch a, b;

	(void)unused;
	watch_ready(&a, 'a');
	watch_ready(&b, 'b');
	a.rewatches = &b;
	b.rewatches = &a;
	arm_stop(5000);
	assert_int_equal(vhub_loop_run(state.loop), 7);
	assert_int_equal(strlen(state.log), 1);
	/* Watched again, the event that was held back comes. */
	assert_int_equal(vhub_loop_rewatch(state.loop, state.log[0] == 'a' ? &b.watch : &a.watch,
					 EPOLLIN),
			0);
	a.rewatches = b.rewatches = NULL;
	arm_stop(5000);
	assert_int_equal(vhub_loop_run(state.loop), 7);
	assert_int_equal(strlen(state.log), 2);
	close(a.watch.fd);
	close(b.watch.fd);
}

static void
hang_up_is_told_without_asking(void **unused)
{
	struct lettered_watch a = { .letter = 'a', .watch.fn = on_watch };
	int fds[2];

	(void)unused;
	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	a.watch.fd = fds[0];
	assert_int_equal(vhub_loop_watch(state.loop, &a.watch, 0), 0);
	assert_int_equal(write(fds[1], "x", 1), 1);
	arm_stop(5000);
	assert_int_equal(vhub_loop_run(state.loop), 7);
	assert_string_equal(state.log, "");
	close(fds[1]);
	arm_stop(5000);
	assert_int_equal(vhub_loop_run(state.loop), 7);
	assert_string_equal(state.log, "a");
	assert_true((a.events & EPOLLHUP) != 0);
	close(fds[0]);
}

static void
file_that_cannot_be_polled_is_refused(void **unused)
{
	struct vhub_watch watch = { .fd = open("/proc/self/exe", O_RDONLY), .fn = NULL };

	(void)unused;
	assert_true(watch.fd >= 0);
	assert_int_equal(vhub_loop_watch(state.loop, &watch, EPOLLIN), -EPERM);
	close(watch.fd);
	watch.fd = -1;
	assert_int_equal(vhub_loop_watch(state.loop, &watch, EPOLLIN), -EBADF);
}

/* ---- running ---- */

static void
on_nested_run(struct vhub_task *task)
{
	struct vhub_loop *other;

	(void)task;
	assert_true(vhub_loop_running());
	assert_int_equal(vhub_loop_create(&other), 0);
	if (vhub_loop_run(other) == -EDEADLK && vhub_loop_run(state.loop) == -EDEADLK)
		note('x');
	vhub_loop_destroy(other);
	vhub_loop_stop(state.loop, 5);
}

static void
nested_run_is_refused(void **unused)
{
	struct vhub_task task = { .fn = on_nested_run };

	(void)unused;
	assert_false(vhub_loop_running());
	vhub_loop_defer(state.loop, &task);
	assert_int_equal(vhub_loop_run(state.loop), 5);
	assert_string_equal(state.log, "x");
	assert_false(vhub_loop_running());
}

static void
stop_before_the_run_ends_it_once(void **unused)
{
	struct lettered_task a = { .task.fn = on_task, .letter = 'a', .stops = true };

	(void)unused;
	vhub_loop_defer(state.loop, &a.task);
	vhub_loop_stop(state.loop, -ENOENT);
	assert_int_equal(vhub_loop_run(state.loop), -ENOENT);
	assert_string_equal(state.log, "");
	assert_int_equal(vhub_loop_run(state.loop), 3);
	assert_string_equal(state.log, "a");
}

struct ping {
	struct vhub_msg msg;
	uint32_t n;
	uint32_t n_run;
};

static void
on_ping(struct vhub_msg *msg)
{
	struct ping *ping = vhub_container_of(msg, struct ping, msg);

	if (++ping->n == 5000)
		vhub_loop_stop(state.loop, 9);
	test_store(&ping->n_run, ping->n);
}

static void *
pinger_main(void *arg)
{
	struct ping *ping = arg;
	uint32_t seed = 1;

	for (uint32_t i = 0; i < 5000; i++) {
		test_jitter(&seed, i % 2 != 0 ? 8 : 13);
		vhub_loop_post(state.loop, &ping->msg);
		if (!test_wait(&ping->n_run, i + 1)) {
			note('!'); /* lost: the loop would sleep for ever */
			_exit(1);
		}
	}
	return NULL;
}

static void
messages_wake_the_loop_every_time(void **unused)
{
	struct ping ping = { .msg.fn = on_ping };
	pthread_t thread;

	(void)unused;
	assert_int_equal(pthread_create(&thread, NULL, pinger_main, &ping), 0);
	assert_int_equal(vhub_loop_run(state.loop), 9);
	pthread_join(thread, NULL);
}

static void
on_self_post(struct vhub_msg *msg)
{
	note('m');
	if (state.n < 10)
		vhub_loop_post(state.loop, msg);
	else
		vhub_loop_stop(state.loop, 4);
}

static void
loop_posts_to_itself(void **unused)
{
	struct vhub_msg msg = { .fn = on_self_post };

	(void)unused;
	vhub_loop_post(state.loop, &msg);
	assert_int_equal(vhub_loop_run(state.loop), 4);
	assert_string_equal(state.log, "mmmmmmmmmm");
}

static void
idle_loop_sleeps(void **unused)
{
	uint64_t cpu_ns = test_cpu_ns(CLOCK_THREAD_CPUTIME_ID);

	(void)unused;
	arm_stop(300000);
	assert_int_equal(vhub_loop_run(state.loop), 7);
	cpu_ns = test_cpu_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_ns;
	assert_true(cpu_ns < 3000000); /* 1 % */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(timers_fire_in_order_and_not_early, setup,
				teardown),
		cmocka_unit_test_setup_teardown(timers_of_one_moment_keep_their_order, setup,
				teardown),
		cmocka_unit_test_setup_teardown(timers_cancelled_and_armed_in_callbacks, setup,
				teardown),
		cmocka_unit_test_setup_teardown(timer_armed_for_now_starves_nobody, setup,
				teardown),
		cmocka_unit_test_setup_teardown(tasks_run_once_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(task_that_defers_itself_waits_a_turn, setup,
				teardown),
		cmocka_unit_test_setup_teardown(stop_leaves_the_other_tasks_for_the_next_run, setup,
				teardown),
		cmocka_unit_test_setup_teardown(unwatch_takes_fetched_events_back, setup, teardown),
		cmocka_unit_test_setup_teardown(rewatch_takes_fetched_events_back, setup, teardown),
		cmocka_unit_test_setup_teardown(hang_up_is_told_without_asking, setup, teardown),
		cmocka_unit_test_setup_teardown(file_that_cannot_be_polled_is_refused, setup,
				teardown),
		cmocka_unit_test_setup_teardown(nested_run_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(stop_before_the_run_ends_it_once, setup, teardown),
		cmocka_unit_test_setup_teardown(messages_wake_the_loop_every_time, setup, teardown),
		cmocka_unit_test_setup_teardown(loop_posts_to_itself, setup, teardown),
		cmocka_unit_test_setup_teardown(idle_loop_sleeps, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
