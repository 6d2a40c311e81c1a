/* SPDX-License-Identifier: BSD-3-Clause */
/* Blocking work: order, threads, kinds, completions on the loop, and the stop. */
#include "runtime_test.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "vhub_work.h"

#define N_WORKS 50

struct numbered_work {
	struct vhub_work work;
	unsigned int number;
	uint64_t submitted_ns;
};

static struct {
	struct vhub_loop *loop;
	pthread_t ctl;
	uint32_t n_run;
	unsigned int n_done;
	unsigned int stop_after; /* the loop ends when so many are done */
	unsigned int n_wrong;
	uint32_t gate;	      /* held works wait until it is 1 */
	uint32_t hold_spawns; /* so does who creates the next thread */
	uint32_t n_held;
	sigset_t mask;
} state;

/* Who has waited for 20 ms, as on a busy machine, may overtake others and be overtaken. */
static bool
is_in_turn(const struct numbered_work *w, unsigned int number)
{
	return w->number == number || vhub_now_ns() - w->submitted_ns >= 20000000;
}

static void
run_numbered(struct vhub_work *work)
{
	struct numbered_work *w = vhub_container_of(work, struct numbered_work, work);

	if (!is_in_turn(w, __atomic_fetch_add(&state.n_run, 1, __ATOMIC_ACQ_REL)) ||
			pthread_equal(pthread_self(), state.ctl))
		state.n_wrong++;
}

static void
done_numbered(struct vhub_work *work)
{
	struct numbered_work *w = vhub_container_of(work, struct numbered_work, work);

	if (!is_in_turn(w, state.n_done++) || !pthread_equal(pthread_self(), state.ctl))
		state.n_wrong++;
	if (state.n_done == state.stop_after)
		vhub_loop_stop(state.loop, 0);
	free(w);
}

static struct vhub_work *
work_make(unsigned int number)
{
	struct numbered_work *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	*w = (struct numbered_work){ .work = { .run = run_numbered, .done = done_numbered },
		.number = number,
		.submitted_ns = vhub_now_ns() };
	return &w->work;
}

/* They stop the loop when they are done. */
static void
submit_numbered(unsigned int n)
{
	state.stop_after = n;
	for (unsigned int i = 0; i < n; i++)
		vhub_work_submit(work_make(i));
}

static int
setup(void **unused)
{
	(void)unused;
	memset(&state, 0, sizeof(state));
	state.ctl = pthread_self();
	return vhub_loop_create(&state.loop) != 0 || vhub_work_start(state.loop) != 0;
}

static int
teardown(void **unused)
{
	(void)unused;
	vhub_work_stop();
	vhub_loop_destroy(state.loop);
	return 0;
}

static void
works_run_in_order_and_complete_on_the_loop(void **unused)
{
	(void)unused;
	submit_numbered(N_WORKS);
	assert_int_equal(vhub_loop_run(state.loop), 0);
	assert_int_equal(state.n_run, N_WORKS);
	assert_int_equal(state.n_done, N_WORKS);
	assert_int_equal(state.n_wrong, 0);
}

static void
stop_of_the_loop_comes_between_completions(void **unused)
{
	(void)unused;
	submit_numbered(3);
	state.stop_after = 1;
	assert_int_equal(vhub_loop_run(state.loop), 0);
	assert_int_equal(state.n_done, 1);
	state.stop_after = 3;
	assert_int_equal(vhub_loop_run(state.loop), 0);
	assert_int_equal(state.n_done, 3);
	assert_int_equal(state.n_wrong, 0);
}

static void
run_gate(struct vhub_work *work)
{
	(void)work;
	pthread_sigmask(SIG_BLOCK, NULL, &state.mask);
	state.n_wrong += !test_wait(&state.gate, 1);
}

static void
done_gate(struct vhub_work *work)
{
	(void)work;
	vhub_loop_stop(state.loop, 0);
}

static void
on_open_gate(struct vhub_timer *timer)
{
	(void)timer;
	test_store(&state.gate, 1);
}

static void
loop_goes_on_while_work_blocks(void **unused)
{
	struct vhub_work gate = { .run = run_gate, .done = done_gate };
	struct vhub_timer opener = { .fn = on_open_gate };

	(void)unused;
	vhub_work_submit(&gate);
	vhub_timer_arm(state.loop, &opener, 2000);
	assert_int_equal(vhub_loop_run(state.loop), 0);
	assert_int_equal(state.n_wrong, 0); /* the timer opened the gate, not the end of the wait */
	/* Only the thread's own faults get through. */
	assert_int_equal(sigismember(&state.mask, SIGTERM), 1);
	assert_int_equal(sigismember(&state.mask, SIGALRM), 1);
	assert_int_equal(sigismember(&state.mask, SIGBUS), 0);
	assert_int_equal(sigismember(&state.mask, SIGSEGV), 0);
}

int
__real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *),
		void *arg);
int
__wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *),
		void *arg);

/* In the kernel it waits for whoever maps or unmaps something. */
int
__wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *),
		void *arg)
{
	if (__atomic_exchange_n(&state.hold_spawns, 0, __ATOMIC_ACQ_REL) != 0) {
		__atomic_add_fetch(&state.n_held, 1, __ATOMIC_ACQ_REL);
		state.n_wrong += !test_wait(&state.gate, 1);
	}
	return __real_pthread_create(thread, attr, start, arg);
}

/* The piece that it stands by for is not run either, but all others are. */
static void
nobody_waits_for_a_thread_to_be_created(void **unused)
{
	struct vhub_work gate = { .run = run_gate, .done = done_gate };

	(void)unused;
	test_store(&state.hold_spawns, 1);
	vhub_work_submit(&gate);
	assert_true(test_wait(&state.n_held, 1));
	submit_numbered(N_WORKS);
	assert_int_equal(vhub_loop_run(state.loop), 0);
	assert_int_equal(state.n_done, N_WORKS);
	test_store(&state.gate, 1);
	assert_int_equal(vhub_loop_run(state.loop), 0);
	assert_int_equal(state.n_wrong, 0); /* the test opened the gate, not the end of the wait */
}

/* What is queued runs to its end, and is forgotten. */
static void
stop_with_work_queued(void)
{
	struct vhub_work *works[5];

	for (unsigned int i = 0; i < 5; i++) {
		works[i] = work_make(i);
		vhub_work_submit(works[i]);
	}
	assert_int_equal(vhub_work_stop(), 0);
	assert_int_equal(state.n_run, 5);
	for (unsigned int i = 0; i < 5; i++)
		free(vhub_container_of(works[i], struct numbered_work, work));
}

static void
start_again(void)
{
	assert_int_equal(vhub_work_start(state.loop), 0);
	state.n_run = 0;
	submit_numbered(1);
	assert_int_equal(vhub_loop_run(state.loop), 0);
	assert_int_equal(state.n_done, 1);
}

static void
stop_runs_what_is_queued_and_forgets_completions(void **unused)
{
	(void)unused;
	stop_with_work_queued();
	/* The loop must not touch them now, and a new start must not bring them back. */
	start_again();
	assert_int_equal(state.n_wrong, 0);
}

/* ---- work that is stuck ---- */

#define N_CLOSES 100u
#define N_OF_STORAGE 600u /* and of sockets */
#define MOST_AT_ONCE 32u
#define MOST_OF_LIBRARIES 16u
#define MOST_OF_STORAGE 512u

struct stuck_works {
	struct vhub_work works[N_OF_STORAGE];
	uint32_t n_begun;
	uint32_t n_ended;
};

static struct stuck_works closes, of_libraries, of_storage, of_kicks, of_sockets;

/* As test_wait(), but of hundreds of threads, which leave the CPU to others. */
static void
wait_at_gate(void)
{
	/* Longer than all that others wait for before they open it; a thousand of these want little of the CPUs. */
	const uint64_t end_ns = test_now_ns() + 8 * TEST_LOST_NS;

	while (test_load(&state.gate) == 0 && test_now_ns() < end_ns)
		usleep(50000);
}

static void
run_stuck(struct stuck_works *some)
{
	__atomic_add_fetch(&some->n_begun, 1, __ATOMIC_ACQ_REL);
	wait_at_gate();
	__atomic_add_fetch(&some->n_ended, 1, __ATOMIC_ACQ_REL);
}

static void
run_stuck_close(struct vhub_work *work)
{
	(void)work;
	run_stuck(&closes);
}

static void
run_stuck_library(struct vhub_work *work)
{
	(void)work;
	run_stuck(&of_libraries);
}

static void
run_stuck_storage(struct vhub_work *work)
{
	(void)work;
	run_stuck(&of_storage);
}

static void
run_stuck_kick(struct vhub_work *work)
{
	(void)work;
	run_stuck(&of_kicks);
}

static void
run_stuck_socket(struct vhub_work *work)
{
	(void)work;
	run_stuck(&of_sockets);
}

static void
submit_stuck(struct stuck_works *some, unsigned int n, enum vhub_work_kind kind,
		void (*run)(struct vhub_work *work))
{
	memset(some, 0, sizeof(*some));
	for (unsigned int i = 0; i < n; i++) {
		some->works[i] = (struct vhub_work){ .run = run, .kind = kind };
		vhub_work_submit(&some->works[i]);
	}
}

static void
submit_stuck_closes(unsigned int n)
{
	submit_stuck(&closes, n, VHUB_WORK_CLOSE, run_stuck_close);
}

static void
too_late(struct vhub_timer *timer)
{
	(void)timer;
	state.n_wrong++;
	vhub_loop_stop(state.loop, -ETIMEDOUT);
}

/* Whatever else is stuck. */
static void
check_ordinary_work_goes_on(void)
{
	struct vhub_timer timer = { .fn = too_late };

	submit_numbered(N_WORKS);
	vhub_timer_arm(state.loop, &timer, TEST_LOST_NS / 4000);
	assert_int_equal(vhub_loop_run(state.loop), 0);
	vhub_timer_cancel(state.loop, &timer);
	vhub_work_wait(VHUB_WORK_ORDINARY);
	assert_int_equal(state.n_wrong, 0);
}

static void
stuck_closes_and_libraries_leave_threads_for_other_work(void **unused)
{
	(void)unused;
	submit_stuck_closes(N_CLOSES);
	submit_stuck(&of_libraries, N_CLOSES, VHUB_WORK_LIBRARY, run_stuck_library);
	assert_true(test_wait(&closes.n_begun, MOST_AT_ONCE));
	assert_true(test_wait(&of_libraries.n_begun, MOST_OF_LIBRARIES));
	/* As long as another thread takes to stand in, and more. */
	usleep(100000);
	assert_int_equal(test_load(&closes.n_begun), MOST_AT_ONCE);
	assert_int_equal(test_load(&of_libraries.n_begun), MOST_OF_LIBRARIES);
	check_ordinary_work_goes_on();
	assert_int_equal(test_load(&closes.n_ended), 0);
	assert_int_equal(test_load(&of_libraries.n_ended), 0);
	test_store(&state.gate, 1);
	vhub_work_wait(VHUB_WORK_CLOSE);
	vhub_work_wait(VHUB_WORK_LIBRARY);
	assert_int_equal(test_load(&closes.n_ended), N_CLOSES);
	assert_int_equal(test_load(&of_libraries.n_ended), N_CLOSES);
}

/* However many disks there are on it. */
static void
stuck_storage_and_sockets_leave_threads_for_all_other_work(void **unused)
{
	(void)unused;
	submit_stuck(&of_sockets, N_OF_STORAGE, VHUB_WORK_SOCKET, run_stuck_socket);
	assert_true(test_wait(&of_sockets.n_begun, MOST_OF_STORAGE));
	submit_stuck(&of_storage, N_OF_STORAGE, VHUB_WORK_STORAGE, run_stuck_storage);
	assert_true(test_wait(&of_storage.n_begun, MOST_OF_STORAGE));
	submit_stuck_closes(N_CLOSES);
	submit_stuck(&of_libraries, N_CLOSES, VHUB_WORK_LIBRARY, run_stuck_library);
	assert_true(test_wait(&closes.n_begun, MOST_AT_ONCE));
	assert_true(test_wait(&of_libraries.n_begun, MOST_OF_LIBRARIES));
	usleep(100000);
	assert_int_equal(test_load(&of_storage.n_begun), MOST_OF_STORAGE);
	assert_int_equal(test_load(&of_sockets.n_begun), MOST_OF_STORAGE);
	check_ordinary_work_goes_on();
	assert_int_equal(test_load(&of_storage.n_ended), 0);
	test_store(&state.gate, 1);
	vhub_work_wait(VHUB_WORK_STORAGE);
	vhub_work_wait(VHUB_WORK_SOCKET);
	assert_int_equal(test_load(&of_storage.n_ended), N_OF_STORAGE);
	assert_int_equal(test_load(&of_sockets.n_ended), N_OF_STORAGE);
}

/* More would be stuck as the one is. */
static void
work_for_kicks_has_one_thread(void **unused)
{
	(void)unused;
	submit_stuck(&of_kicks, N_CLOSES, VHUB_WORK_KICK, run_stuck_kick);
	assert_true(test_wait(&of_kicks.n_begun, 1));
	usleep(100000);
	assert_int_equal(test_load(&of_kicks.n_begun), 1);
	check_ordinary_work_goes_on();
	test_store(&state.gate, 1);
	vhub_work_wait(VHUB_WORK_KICK);
	assert_int_equal(test_load(&of_kicks.n_ended), N_CLOSES);
}

/* They go on by themselves, those in the queue too; a new start is not concerned. */
static void
stop_leaves_stuck_closes_behind(void **unused)
{
	(void)unused;
	submit_stuck_closes(N_CLOSES);
	assert_true(test_wait(&closes.n_begun, 2));
	stop_with_work_queued();
	start_again();
	assert_int_equal(test_load(&closes.n_ended), 0);
	test_store(&state.gate, 1);
	assert_true(test_wait(&closes.n_ended, N_CLOSES));
	assert_int_equal(state.n_wrong, 0);
}

static void
check_stop_tells_of(struct stuck_works *some, enum vhub_work_kind kind,
		void (*run)(struct vhub_work *work))
{
	submit_stuck(some, 1, kind, run);
	assert_true(test_wait(&some->n_begun, 1));
	assert_int_equal(vhub_work_stop(), -EBUSY);
	test_store(&state.gate, 1);
	for (int i = 0; i < 1000 && vhub_work_stop() != 0; i++)
		;
	assert_int_equal(vhub_work_start(state.loop), 0);
	assert_int_equal(test_load(&some->n_ended), 1);
}

static void
stop_tells_of_stuck_work_of_libraries(void **unused)
{
	(void)unused;
	check_stop_tells_of(&of_libraries, VHUB_WORK_LIBRARY, run_stuck_library);
}

static void
stop_tells_of_stuck_storage(void **unused)
{
	(void)unused;
	check_stop_tells_of(&of_storage, VHUB_WORK_STORAGE, run_stuck_storage);
}

static void
stop_tells_of_stuck_work_for_kicks(void **unused)
{
	(void)unused;
	check_stop_tells_of(&of_kicks, VHUB_WORK_KICK, run_stuck_kick);
}

static void
stop_tells_of_stuck_ordinary_work(void **unused)
{
	struct vhub_work gate = { .run = run_gate };

	(void)unused;
	submit_stuck_closes(1);
	vhub_work_submit(&gate);
	assert_int_equal(vhub_work_stop(), -EBUSY);
	test_store(&state.gate, 1);
	for (int i = 0; i < 1000 && vhub_work_stop() != 0; i++)
		;
	assert_int_equal(vhub_work_start(state.loop), 0);
	assert_int_equal(test_load(&closes.n_ended), 1);
	assert_int_equal(state.n_wrong, 0);
}

static void
run_and_free(struct vhub_work *work)
{
	free(work);
	test_store(&state.gate, 1);
}

static void
work_without_done_may_free_itself(void **unused)
{
	struct vhub_work *work = calloc(1, sizeof(*work));

	(void)unused;
	assert_non_null(work);
	work->run = run_and_free;
	vhub_work_submit(work);
	assert_true(test_wait(&state.gate, 1));
	submit_numbered(1);
	assert_int_equal(vhub_loop_run(state.loop), 0);
}

static void
started_once(void **unused)
{
	(void)unused;
	assert_int_equal(vhub_work_start(state.loop), -EALREADY);
}

static void
run_here(struct vhub_work *work)
{
	(void)work;
	state.n_run++;
	state.n_wrong += !pthread_equal(pthread_self(), state.ctl);
}

static void
done_here(struct vhub_work *work)
{
	(void)work;
	state.n_done++;
}

static void
without_thread_all_happens_at_once(void **unused)
{
	struct vhub_work work = { .run = run_here, .done = done_here };

	(void)unused;
	vhub_work_stop();
	vhub_work_submit(&work);
	assert_int_equal(state.n_run, 1);
	assert_int_equal(state.n_done, 1);
	assert_int_equal(state.n_wrong, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(works_run_in_order_and_complete_on_the_loop, setup,
				teardown),
		cmocka_unit_test_setup_teardown(stop_of_the_loop_comes_between_completions, setup,
				teardown),
		cmocka_unit_test_setup_teardown(loop_goes_on_while_work_blocks, setup, teardown),
		cmocka_unit_test_setup_teardown(nobody_waits_for_a_thread_to_be_created, setup,
				teardown),
		cmocka_unit_test_setup_teardown(stop_runs_what_is_queued_and_forgets_completions,
				setup, teardown),
		cmocka_unit_test_setup_teardown(work_without_done_may_free_itself, setup, teardown),
		cmocka_unit_test_setup_teardown(
				stuck_closes_and_libraries_leave_threads_for_other_work, setup,
				teardown),
		cmocka_unit_test_setup_teardown(
				stuck_storage_and_sockets_leave_threads_for_all_other_work, setup,
				teardown),
		cmocka_unit_test_setup_teardown(work_for_kicks_has_one_thread, setup, teardown),
		cmocka_unit_test_setup_teardown(stop_leaves_stuck_closes_behind, setup, teardown),
		cmocka_unit_test_setup_teardown(stop_tells_of_stuck_ordinary_work, setup, teardown),
		cmocka_unit_test_setup_teardown(stop_tells_of_stuck_work_of_libraries, setup,
				teardown),
		cmocka_unit_test_setup_teardown(stop_tells_of_stuck_storage, setup, teardown),
		cmocka_unit_test_setup_teardown(stop_tells_of_stuck_work_for_kicks, setup,
				teardown),
		cmocka_unit_test_setup_teardown(started_once, setup, teardown),
		cmocka_unit_test_setup_teardown(without_thread_all_happens_at_once, setup,
				teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
