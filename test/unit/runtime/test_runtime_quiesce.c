/* SPDX-License-Identifier: BSD-3-Clause */
/* Quiescence: waits for lcores that work, not for those that sleep or are gone. */
#include "lcore_test.h"

#include <errno.h>
#include <stdlib.h>

#include "vhub_work.h"

struct waiter {
	struct vhub_quiesce quiesce;
	uint64_t at_ns;
};

static void
on_quiescent(struct vhub_quiesce *quiesce)
{
	vhub_container_of(quiesce, struct waiter, quiesce)->at_ns = test_now_ns();
	vhub_loop_stop(test_loop, 0);
}

/* Returns after how long, or 0 when it did not come. */
static uint64_t
quiesce_ns(void)
{
	const uint64_t begin_ns = test_now_ns();
	struct waiter w = { .quiesce.fn = on_quiescent };

	vhub_quiesce_begin(test_loop, &w.quiesce);
	assert_int_equal(w.at_ns, 0); /* never from inside the call */
	test_run_loop(TEST_LOST_NS / 1000);
	vhub_timer_cancel(test_loop, &w.quiesce.timer);
	return w.at_ns != 0 ? w.at_ns - begin_ns : 0;
}

static void
without_lcores_it_comes_at_once(void **unused)
{
	(void)unused;
	assert_int_not_equal(quiesce_ns(), 0);
}

struct slow_poller {
	struct vhub_poller poller;
	uint32_t inside;
	uint32_t left;
};

static unsigned int
poll_slowly(struct vhub_poller *poller)
{
	struct slow_poller *p = vhub_container_of(poller, struct slow_poller, poller);
	const uint64_t end_ns = test_now_ns() + 50000000;

	if (p->left != 0)
		return 0;
	test_store(&p->inside, 1);
	while (test_now_ns() < end_ns)
		;
	test_store(&p->left, 1);
	return 1;
}

static int
arm_always(struct vhub_poller *poller)
{
	(void)poller;
	return 0;
}

static const struct vhub_poller_ops slow_ops = { .poll = poll_slowly, .arm = arm_always };

/* Adds a poller whose first poll takes 50 ms, and waits until it is inside. */
static void
make_busy(struct slow_poller *p)
{
	*p = (struct slow_poller){ .poller.ops = &slow_ops };
	test_on_lcore(1, test_add_poller, &p->poller);
	assert_true(test_wait(&p->inside, 1));
}

static void
waits_for_an_lcore_inside_a_poll(void **unused)
{
	struct slow_poller p;

	(void)unused;
	make_busy(&p);
	assert_int_not_equal(quiesce_ns(), 0);
	assert_int_equal(test_load(&p.left), 1);
	test_on_lcore(1, test_remove_poller, &p.poller);
}

static void
does_not_wake_or_wait_for_sleepers(void **unused)
{
	struct vhub_lcore_stats a, b;

	(void)unused;
	assert_true(test_wait_asleep(0));
	assert_true(test_wait_asleep(1));
	vhub_lcore_get_stats(vhub_lcore_at(0), &a);
	for (unsigned int i = 0; i < 20; i++)
		assert_int_not_equal(quiesce_ns(), 0);
	vhub_lcore_get_stats(vhub_lcore_at(0), &b);
	assert_int_equal(a.turns, b.turns);
	assert_true(b.asleep);
}

static void
spinning_lcores_pass_quickly(void **unused)
{
	(void)unused;
	for (unsigned int i = 0; i < 10; i++)
		assert_int_not_equal(quiesce_ns(), 0);
}

static void
lcores_stopped_and_started_meanwhile(void **unused)
{
	struct waiter w = { .quiesce.fn = on_quiescent };
	struct slow_poller p;

	(void)unused;
	for (unsigned int restart = 0; restart < 2; restart++) {
		assert_int_equal(vhub_lcores_start(test_loop, VHUB_IDLE_ADAPTIVE, 0), 0);
		make_busy(&p);
		w.at_ns = 0;
		vhub_quiesce_begin(test_loop, &w.quiesce);
		assert_true(test_wait(&p.left, 1));
		test_on_lcore(1, test_remove_poller, &p.poller);
		vhub_lcores_stop();
		/* Spinning: an lcore that sleeps would hide that it cannot answer an older token. */
		if (restart != 0)
			assert_int_equal(vhub_lcores_start(test_loop, VHUB_IDLE_POLL, 0), 0);
		test_run_loop(TEST_LOST_NS / 1000);
		assert_int_not_equal(w.at_ns, 0);
		vhub_lcores_stop();
	}
}

/* ---- what is freed later where an lcore is stuck ---- */

/* Stays in its poll until it is told, asleep as in a page fault. */
struct stuck_poller {
	struct vhub_poller poller;
	uint32_t inside;
	uint32_t go_on;
};

static unsigned int
poll_stuck(struct vhub_poller *poller)
{
	struct stuck_poller *p = vhub_container_of(poller, struct stuck_poller, poller);

	test_store(&p->inside, 1);
	while (test_load(&p->go_on) == 0)
		usleep(1000);
	return 0;
}

static const struct vhub_poller_ops stuck_ops = { .poll = poll_stuck, .arm = arm_always };

static void
make_stuck(struct stuck_poller *p)
{
	*p = (struct stuck_poller){ .poller.ops = &stuck_ops };
	test_on_lcore(1, test_add_poller, &p->poller);
	assert_true(test_wait(&p->inside, 1));
}

struct thing {
	struct vhub_work work;
	uint32_t n_freed;
};

static void
free_thing(struct vhub_work *work)
{
	struct thing *thing = vhub_container_of(work, struct thing, work);

	test_store(&thing->n_freed, thing->n_freed + 1);
}

static void
nobody_stuck_frees_at_once(void **unused)
{
	struct thing thing = { .work.run = free_thing };

	(void)unused;
	assert_int_equal(vhub_quiesce_then(&thing.work, "a thing"), 0);
	assert_int_equal(thing.n_freed, 1);
}

static void
what_a_stuck_lcore_may_have_is_freed_when_it_goes_on(void **unused)
{
	struct thing things[3] = { 0 };
	struct stuck_poller p;

	(void)unused;
	make_stuck(&p);
	for (unsigned int i = 0; i < 3; i++) {
		things[i].work.run = free_thing;
		assert_int_equal(vhub_quiesce_then(&things[i].work, "a thing"), -ETIMEDOUT);
		/* CTL looks for them meanwhile. */
		test_run_loop(250000);
		assert_int_equal(test_load(&things[0].n_freed), 0);
	}
	test_store(&p.go_on, 1);
	test_on_lcore(1, test_remove_poller, &p.poller);
	for (unsigned int i = 0; i < 300 && test_load(&things[0].n_freed) == 0; i++)
		test_run_loop(100000);
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(test_load(&things[i].n_freed), 1);
	/* The next one waits anew. */
	nobody_stuck_frees_at_once(NULL);
}

static void
what_is_left_is_freed_when_lcores_stop(void **unused)
{
	struct thing thing = { .work.run = free_thing };
	struct stuck_poller p;

	(void)unused;
	for (unsigned int restart = 0; restart < 2; restart++) {
		thing.n_freed = 0;
		assert_int_equal(vhub_lcores_start(test_loop, VHUB_IDLE_POLL, 0), 0);
		make_stuck(&p);
		assert_int_equal(vhub_quiesce_then(&thing.work, "a thing"), -ETIMEDOUT);
		/* Its timer may be armed by then, or not. */
		if (restart != 0)
			test_run_loop(1000);
		assert_int_equal(thing.n_freed, 0);
		test_store(&p.go_on, 1);
		test_on_lcore(1, test_remove_poller, &p.poller);
		vhub_lcores_stop();
		assert_int_equal(thing.n_freed, 1);
	}
}

/* ---- what it is for: nobody reads what was replaced before the wait ---- */

struct reader {
	struct vhub_poller poller;
	const uint32_t *value; /* CTL swaps it */
	uint32_t n_wrong;
	uint32_t n_reads;
};

#define ALIVE 0x600dcafeu
#define DEAD 0xdeadbeefu

static unsigned int
poll_reader(struct vhub_poller *poller)
{
	struct reader *r = vhub_container_of(poller, struct reader, poller);
	const uint32_t *value = __atomic_load_n(&r->value, __ATOMIC_ACQUIRE);

	for (unsigned int i = 0; i < 50; i++)
		r->n_wrong += __atomic_load_n(value, __ATOMIC_RELAXED) != ALIVE;
	test_store(&r->n_reads, r->n_reads + 1);
	/* Falls asleep now and then, so that the swap meets it at all stages. */
	return r->n_reads % 5 != 0;
}

static const struct vhub_poller_ops reader_ops = { .poll = poll_reader, .arm = arm_always };

static void
nothing(void *arg)
{
	(void)arg;
}

static void
replaced_is_not_read_after_the_wait(void **unused)
{
	static uint32_t values[2] = { ALIVE, ALIVE };
	struct reader r = { .poller.ops = &reader_ops, .value = &values[0] };

	(void)unused;
	test_on_lcore(0, test_add_poller, &r.poller);
	for (unsigned int i = 0; i < 300; i++) {
		const unsigned int old = i & 1;

		__atomic_store_n(&values[1 - old], ALIVE, __ATOMIC_RELAXED);
		__atomic_store_n(&r.value, &values[1 - old], __ATOMIC_RELEASE);
		assert_int_not_equal(quiesce_ns(), 0);
		__atomic_store_n(&values[old], DEAD, __ATOMIC_RELAXED);
		if (i % 3 == 0)
			test_on_lcore(0, nothing, NULL); /* wakes it */
	}
	test_on_lcore(0, test_remove_poller, &r.poller);
	assert_int_equal(r.n_wrong, 0);
	assert_true(r.n_reads > 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_lcores_it_comes_at_once),
		cmocka_unit_test_setup_teardown(waits_for_an_lcore_inside_a_poll, test_start_poll,
				test_stop_lcores),
		cmocka_unit_test_setup_teardown(does_not_wake_or_wait_for_sleepers,
				test_start_adaptive, test_stop_lcores),
		cmocka_unit_test_setup_teardown(spinning_lcores_pass_quickly, test_start_poll,
				test_stop_lcores),
		cmocka_unit_test(lcores_stopped_and_started_meanwhile),
		cmocka_unit_test(nobody_stuck_frees_at_once),
		cmocka_unit_test_setup_teardown(
				what_a_stuck_lcore_may_have_is_freed_when_it_goes_on,
				test_start_adaptive, test_stop_lcores),
		cmocka_unit_test(what_is_left_is_freed_when_lcores_stop),
		cmocka_unit_test_setup_teardown(replaced_is_not_read_after_the_wait,
				test_start_adaptive, test_stop_lcores),
		cmocka_unit_test(without_lcores_it_comes_at_once), /* also after there were some */
	};

	return cmocka_run_group_tests(tests, test_group_setup, test_group_teardown);
}
