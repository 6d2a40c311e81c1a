/* SPDX-License-Identifier: BSD-3-Clause */
/* Mailboxes: nothing lost, nothing out of order, also when the ring is full; and the announcement of a sleep. */
#include "runtime_test.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>

#include "vhub_msg.h"

#define N_SENDERS 3
#define N_MSGS 20000

struct numbered {
	struct vhub_msg msg;
	unsigned int sender;
	unsigned int number;
};

static struct {
	struct vhub_mailbox box;
	unsigned int next[N_SENDERS]; /* number expected from each sender */
	unsigned int n_wrong;
	unsigned int n_run;
} state;

static void
on_numbered(struct vhub_msg *msg)
{
	struct numbered *m = vhub_container_of(msg, struct numbered, msg);

	if (m->number != state.next[m->sender])
		state.n_wrong++;
	state.next[m->sender] = m->number + 1;
	state.n_run++;
}

static struct numbered *
numbered_make(unsigned int sender, unsigned int n)
{
	struct numbered *m = calloc(n, sizeof(*m));

	for (unsigned int i = 0; m != NULL && i < n; i++)
		m[i] = (struct numbered){ .msg.fn = on_numbered, .sender = sender, .number = i };
	return m;
}

static int
setup(void **unused)
{
	(void)unused;
	state = (typeof(state)){ .n_wrong = 0 };
	return vhub_mailbox_init(&state.box, 8);
}

static int
teardown(void **unused)
{
	(void)unused;
	vhub_mailbox_fini(&state.box);
	return 0;
}

static void *
sender_main(void *arg)
{
	struct numbered *msgs = arg;

	for (unsigned int i = 0; i < N_MSGS; i++) {
		vhub_mailbox_post(&state.box, &msgs[i].msg);
		if (i % 7 == 0)
			vhub_outbox_flush();
	}
	while (!vhub_outbox_flush())
		sched_yield();
	return NULL;
}

static void
senders_lose_and_reorder_nothing(void **unused)
{
	const uint64_t end_ns = test_now_ns() + TEST_LOST_NS;
	struct numbered *msgs[N_SENDERS];
	pthread_t threads[N_SENDERS];

	(void)unused;
	for (unsigned int i = 0; i < N_SENDERS; i++) {
		msgs[i] = numbered_make(i, N_MSGS);
		assert_non_null(msgs[i]);
		assert_int_equal(pthread_create(&threads[i], NULL, sender_main, msgs[i]), 0);
	}
	while (state.n_run < N_SENDERS * N_MSGS && test_now_ns() < end_ns) {
		if (vhub_mailbox_run(&state.box, 5) == 0)
			sched_yield();
	}
	assert_int_equal(state.n_run, N_SENDERS * N_MSGS);
	assert_int_equal(state.n_wrong, 0);
	for (unsigned int i = 0; i < N_SENDERS; i++) {
		pthread_join(threads[i], NULL);
		free(msgs[i]);
	}
	assert_int_equal(vhub_mailbox_run(&state.box, 1), 0);
}

static void
full_ring_overflows_into_outbox_in_order(void **unused)
{
	struct numbered *msgs = numbered_make(0, 31);

	(void)unused;
	assert_non_null(msgs);
	for (unsigned int i = 0; i < 30; i++)
		vhub_mailbox_post(&state.box, &msgs[i].msg);
	assert_false(vhub_outbox_flush());
	assert_int_equal(vhub_mailbox_run(&state.box, 100),
			8); /* the whole capacity, and no more */
	/* There is room now, but a new message stays behind those that wait. */
	vhub_mailbox_post(&state.box, &msgs[30].msg);
	assert_int_equal(vhub_mailbox_run(&state.box, 100), 0);
	while (!vhub_outbox_flush())
		assert_int_equal(vhub_mailbox_run(&state.box, 100), 8);
	vhub_mailbox_run(&state.box, 100);
	assert_int_equal(state.n_wrong, 0);
	assert_int_equal(state.n_run, 31);
	free(msgs);
}

static void
full_mailbox_holds_up_no_other(void **unused)
{
	struct numbered *msgs = numbered_make(0, 11), *others = numbered_make(1, 2);
	struct vhub_mailbox other = { .ring = NULL };

	(void)unused;
	assert_non_null(msgs);
	assert_non_null(others);
	assert_int_equal(vhub_mailbox_init(&other, 8), 0);
	for (unsigned int i = 0; i < 9; i++)
		vhub_mailbox_post(&state.box, &msgs[i].msg);
	vhub_mailbox_post(&other, &others[0].msg);
	vhub_mailbox_post(&state.box, &msgs[9].msg);
	vhub_mailbox_post(&other, &others[1].msg);
	assert_false(vhub_outbox_flush());
	assert_int_equal(vhub_mailbox_run(&other, 100), 2);
	/* The last of the outbox has left: what comes now is still behind the first. */
	vhub_mailbox_post(&state.box, &msgs[10].msg);
	assert_int_equal(vhub_mailbox_run(&state.box, 100), 8);
	assert_true(vhub_outbox_flush());
	assert_int_equal(vhub_mailbox_run(&state.box, 100), 3);
	assert_int_equal(state.n_wrong, 0);
	vhub_mailbox_fini(&other);
	free(msgs);
	free(others);
}

/* More full mailboxes than one flush keeps in mind: still nothing lost or reordered. */
static void
many_full_mailboxes(void **unused)
{
	struct vhub_mailbox box[12];
	struct numbered *msgs = numbered_make(0, 36);

	(void)unused;
	assert_non_null(msgs);
	for (unsigned int i = 0; i < 12; i++)
		assert_int_equal(vhub_mailbox_init(&box[i], 1), 0);
	/* Mailbox i gets i, 12 + i, 24 + i. */
	for (unsigned int i = 0; i < 36; i++)
		vhub_mailbox_post(&box[i % 12], &msgs[i].msg);
	for (unsigned int round = 0; round < 3; round++) {
		for (unsigned int i = 0; i < 12; i++) {
			state.next[0] = round * 12 + i;
			while (vhub_mailbox_run(&box[i], 1) == 0)
				assert_int_equal(vhub_outbox_flush(), false);
			vhub_outbox_flush();
		}
	}
	assert_int_equal(state.n_wrong, 0);
	assert_int_equal(state.n_run, 36);
	assert_true(vhub_outbox_flush());
	for (unsigned int i = 0; i < 12; i++)
		vhub_mailbox_fini(&box[i]);
	free(msgs);
}

static void
fini_forgets_what_waits_for_it(void **unused)
{
	struct numbered *msgs = numbered_make(0, 4), *others = numbered_make(1, 2);
	struct vhub_mailbox gone = { .ring = NULL };

	(void)unused;
	assert_non_null(msgs);
	assert_non_null(others);
	assert_int_equal(vhub_mailbox_init(&gone, 1), 0);
	vhub_mailbox_post(&gone, &msgs[0].msg);
	vhub_mailbox_post(&gone, &msgs[1].msg);
	vhub_mailbox_post(&state.box, &others[0].msg);
	vhub_mailbox_post(&gone, &msgs[2].msg);
	vhub_mailbox_fini(&gone);
	free(msgs);
	vhub_mailbox_post(&state.box, &others[1].msg);
	assert_true(vhub_outbox_flush());
	assert_int_equal(vhub_mailbox_run(&state.box, 100), 2);
	assert_int_equal(state.next[1], 2);
	assert_int_equal(state.n_wrong, 0);
	free(others);
}

static bool
readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static void
only_sleepers_are_woken(void **unused)
{
	struct numbered *msgs = numbered_make(0, 3);

	(void)unused;
	assert_non_null(msgs);
	vhub_mailbox_post(&state.box, &msgs[0].msg);
	assert_false(readable(state.box.event_fd));
	/* A message is there: no sleep, and the announcement is taken back. */
	assert_false(vhub_mailbox_sleep_begin(&state.box));
	vhub_mailbox_post(&state.box, &msgs[1].msg);
	assert_false(readable(state.box.event_fd));
	assert_int_equal(vhub_mailbox_run(&state.box, 100), 2);
	assert_true(vhub_mailbox_sleep_begin(&state.box));
	vhub_mailbox_post(&state.box, &msgs[2].msg);
	assert_true(readable(state.box.event_fd));
	vhub_mailbox_sleep_end(&state.box, true);
	assert_false(readable(state.box.event_fd));
	assert_int_equal(vhub_mailbox_run(&state.box, 100), 1);
	vhub_mailbox_post(&state.box, &msgs[0].msg);
	assert_false(readable(state.box.event_fd));
	free(msgs);
}

/* ---- the last look against the post ---- */

#define N_RACES 100000

struct racer {
	struct vhub_msg msg;
	uint32_t n_answers;
	uint32_t slept;	 /* whether the receiver slept before the last message */
	uint32_t sleeps; /* receiver: since the last message */
};

static void
on_race(struct vhub_msg *msg)
{
	struct racer *racer = vhub_container_of(msg, struct racer, msg);

	racer->slept = racer->sleeps;
	racer->sleeps = 0;
	test_store(&racer->n_answers, racer->n_answers + 1);
}

/* On different CPUs where there are two: on one, nobody races. */
static void
pin_to(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

static void *
racer_main(void *arg)
{
	struct racer *racer = arg;
	unsigned int delay = 100;

	pin_to(1);
	for (uint32_t i = 0; i < N_RACES; i++) {
		for (unsigned int n = delay; n > 0; n--)
			__atomic_signal_fence(__ATOMIC_SEQ_CST);
		vhub_mailbox_post(&state.box, &racer->msg);
		if (!test_wait(&racer->n_answers, i + 1))
			break;
		/* Too late for the last look: come earlier, and the other way round: so stay where they race. */
		if (racer->slept == 0)
			delay += 1 + i % 8;
		else
			delay -= RTE_MIN(delay, 1 + i % 8);
	}
	return NULL;
}

/* A sleep that spins: a real one takes so long that the sender would never be in time for a last look again. */
static bool
sleep_spinning(void)
{
	const uint64_t end_ns = test_now_ns() + TEST_LOST_NS;

	while (!readable(state.box.event_fd)) {
		if (test_now_ns() > end_ns)
			return false;
	}
	return true;
}

/* A receiver that goes to sleep right after each message, while the next one comes. */
static void
last_look_before_the_sleep_misses_nothing(void **unused)
{
	struct racer racer = { .msg.fn = on_race };
	unsigned int n_lost = 0, n_slept = 0;
	pthread_t thread;
	cpu_set_t old;

	(void)unused;
	pthread_getaffinity_np(pthread_self(), sizeof(old), &old);
	pin_to(0);
	assert_int_equal(pthread_create(&thread, NULL, racer_main, &racer), 0);
	while (racer.n_answers < N_RACES && n_lost == 0) {
		if (vhub_mailbox_run(&state.box, 1) != 0 || !vhub_mailbox_sleep_begin(&state.box))
			continue;
		n_lost += !sleep_spinning();
		n_slept++;
		racer.sleeps++;
		vhub_mailbox_sleep_end(&state.box, true);
	}
	pthread_join(thread, NULL);
	pthread_setaffinity_np(pthread_self(), sizeof(old), &old);
	assert_int_equal(n_lost, 0);
	assert_true(n_slept > 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(senders_lose_and_reorder_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(full_ring_overflows_into_outbox_in_order, setup,
				teardown),
		cmocka_unit_test_setup_teardown(full_mailbox_holds_up_no_other, setup, teardown),
		cmocka_unit_test_setup_teardown(many_full_mailboxes, setup, teardown),
		cmocka_unit_test_setup_teardown(fini_forgets_what_waits_for_it, setup, teardown),
		cmocka_unit_test_setup_teardown(only_sleepers_are_woken, setup, teardown),
		cmocka_unit_test_setup_teardown(last_look_before_the_sleep_misses_nothing, setup,
				teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
