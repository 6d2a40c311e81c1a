/* SPDX-License-Identifier: BSD-3-Clause */
/* Lcores: start and stop, pollers that come and go, accounting, messages, and progress on a shared CPU. */
#include "lcore_test.h"

#include <errno.h>
#include <string.h>

#include <rte_cycles.h>
#include <rte_lcore.h>

#include "lcore_pvt.h"

static void
note_self(void *arg)
{
	*(struct vhub_lcore **)arg = vhub_lcore_self();
}

static void
every_worker_is_an_lcore(void **unused)
{
	struct vhub_lcore *self;

	(void)unused;
	assert_int_equal(vhub_lcore_count(), TEST_N_WORKERS);
	assert_null(vhub_lcore_at(TEST_N_WORKERS));
	assert_null(vhub_lcore_self());
	for (unsigned int i = 0; i < TEST_N_WORKERS; i++) {
		test_on_lcore(i, note_self, &self);
		assert_ptr_equal(self, vhub_lcore_at(i));
		assert_int_equal(vhub_lcore_index(self), i);
		assert_int_equal(vhub_lcore_id(self), i + 1);
		assert_int_equal(vhub_lcore_node(self), (int)rte_lcore_to_socket_id(i + 1));
	}
	assert_int_equal(vhub_lcores_start(test_loop, VHUB_IDLE_POLL, 0), -EALREADY);
}

static void
stopped_lcores_start_again(void **unused)
{
	struct vhub_lcore *self;

	(void)unused;
	for (unsigned int round = 0; round < 40; round++) {
		assert_int_equal(vhub_lcores_start(test_loop,
						 (round & 1) != 0 ? VHUB_IDLE_POLL :
								    VHUB_IDLE_ADAPTIVE,
						 0),
				0);
		test_on_lcore(round & 1, note_self, &self);
		vhub_lcores_stop();
		assert_int_equal(vhub_lcore_count(), 0);
		assert_null(vhub_lcore_at(0));
	}
	vhub_lcores_stop(); /* nothing to stop: fine */
}

static int
spin_until_told(void *arg)
{
	while (test_load(arg) == 0)
		;
	return 0;
}

static void
busy_worker_is_refused(void **unused)
{
	uint32_t told = 0;

	(void)unused;
	assert_int_equal(rte_eal_remote_launch(spin_until_told, &told, 2), 0);
	assert_int_equal(vhub_lcores_start(test_loop, VHUB_IDLE_POLL, 0), -EBUSY);
	assert_int_equal(vhub_lcore_count(), 0);
	test_store(&told, 1);
	rte_eal_wait_lcore(2);
	assert_int_equal(vhub_lcores_start(test_loop, VHUB_IDLE_POLL, 0), 0);
	vhub_lcores_stop();
}

/* ---- pollers that come and go ---- */

static struct {
	char log[64];
	uint32_t n;
	uint32_t turns;
} trace;

struct lettered_poller {
	struct vhub_poller poller;
	char letter;
	struct vhub_poller *removes; /* at its first poll */
	struct vhub_poller *removes_too;
	struct vhub_poller *adds;
	unsigned int n_polls;
};

static unsigned int
poll_lettered(struct vhub_poller *poller)
{
	struct lettered_poller *p = vhub_container_of(poller, struct lettered_poller, poller);

	if (trace.n < sizeof(trace.log) - 1)
		trace.log[trace.n++] = p->letter;
	if (p->n_polls++ > 0)
		return 0;
	if (p->removes != NULL)
		vhub_lcore_remove_poller(p->removes);
	if (p->removes_too != NULL)
		vhub_lcore_remove_poller(p->removes_too);
	if (p->adds != NULL)
		vhub_lcore_add_poller(p->adds);
	return 0;
}

static unsigned int
poll_count_turns(struct vhub_poller *poller)
{
	(void)poller;
	test_store(&trace.turns, trace.turns + 1);
	return 0;
}

static const struct vhub_poller_ops lettered_ops = { .poll = poll_lettered };
static const struct vhub_poller_ops turns_ops = { .poll = poll_count_turns };
static struct lettered_poller lettered[6];
static struct vhub_poller turns_poller;

static void
add_all_lettered(void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < 5; i++)
		vhub_lcore_add_poller(&lettered[i].poller);
	vhub_lcore_add_poller(&turns_poller);
}

static void
remove_rest(void *arg)
{
	for (const char *c = *(const char **)arg; *c != '\0'; c++)
		vhub_lcore_remove_poller(&lettered[*c - 'a'].poller);
	vhub_lcore_remove_poller(&turns_poller);
}

/* Two turns or more of a, b, c, d, e; the first poll of each does what the case says. `rest` stays in the end. */
static void
run_lettered(const char *rest)
{
	struct vhub_lcore_stats stats;

	turns_poller.ops = &turns_ops;
	test_on_lcore(0, add_all_lettered, NULL);
	assert_true(test_wait(&trace.turns, 2));
	test_on_lcore(0, remove_rest, &rest);
	vhub_lcore_get_stats(vhub_lcore_at(0), &stats);
	assert_int_equal(stats.n_pollers, 0);
}

static int
start_lettered(void **unused)
{
	memset(&trace, 0, sizeof(trace));
	memset(lettered, 0, sizeof(lettered));
	for (unsigned int i = 0; i < 6; i++) {
		lettered[i].poller.ops = &lettered_ops;
		lettered[i].letter = (char)('a' + i);
	}
	return test_start_poll(unused);
}

static void
poller_removes_itself(void **unused)
{
	(void)unused;
	lettered[2].removes = &lettered[2].poller;
	lettered[4].removes = &lettered[4].poller;
	run_lettered("abd");
	assert_memory_equal(trace.log, "abcdeabd", 8);
}

static void
poller_removes_those_after_it(void **unused)
{
	(void)unused;
	lettered[0].removes = &lettered[1].poller;
	lettered[0].removes_too = &lettered[2].poller;
	run_lettered("ade");
	assert_memory_equal(trace.log, "adeade", 6);
}

static void
poller_removes_those_before_it(void **unused)
{
	(void)unused;
	lettered[2].removes = &lettered[0].poller;
	lettered[2].removes_too = &lettered[1].poller;
	run_lettered("cde");
	assert_memory_equal(trace.log, "abcdecde", 8);
}

static void
poller_removes_itself_and_the_next(void **unused)
{
	(void)unused;
	lettered[1].removes = &lettered[1].poller;
	lettered[1].removes_too = &lettered[2].poller;
	run_lettered("ade");
	assert_memory_equal(trace.log, "abdeade", 7);
}

static void
poller_adds_another(void **unused)
{
	(void)unused;
	lettered[3].adds = &lettered[5].poller;
	run_lettered("abcdef");
	/* f comes behind the others, in the same turn or the next. */
	assert_memory_equal(trace.log, "abcdefabcdef", 12);
}

/* ---- accounting ---- */

static uint32_t busy_items;

static unsigned int
poll_busy(struct vhub_poller *poller)
{
	(void)poller;
	return test_load(&busy_items);
}

static const struct vhub_poller_ops busy_ops = { .poll = poll_busy };

/* Two whole turns, so that one that began before the call is over. */
static void
wait_turns(struct vhub_lcore_stats *stats)
{
	const uint64_t end_ns = test_now_ns() + TEST_LOST_NS;
	uint64_t turns;

	vhub_lcore_get_stats(vhub_lcore_at(0), stats);
	turns = stats->turns;
	while (stats->turns < turns + 2 && test_now_ns() < end_ns) {
		usleep(20);
		vhub_lcore_get_stats(vhub_lcore_at(0), stats);
	}
}

static void
busy_and_idle_are_told_apart(void **unused)
{
	struct vhub_poller poller = { .ops = &busy_ops };
	struct vhub_lcore_stats a, b, c, d;

	(void)unused;
	busy_items = 0;
	test_on_lcore(0, test_add_poller, &poller);
	wait_turns(&a);
	wait_turns(&b);
	test_store(&busy_items, 3);
	wait_turns(&c);
	wait_turns(&d);
	test_on_lcore(0, test_remove_poller, &poller);
	assert_int_equal(a.lcore_id, 1);
	assert_int_equal(a.n_pollers, 1);
	assert_true(b.turns > a.turns);
	assert_true(b.idle_cycles > a.idle_cycles);
	assert_int_equal(b.busy_cycles, a.busy_cycles);
	assert_true(d.turns > c.turns);
	assert_true(d.busy_cycles > c.busy_cycles);
	assert_int_equal(d.idle_cycles, c.idle_cycles);
	assert_int_equal(d.sleeps, 0);
	assert_int_equal(d.sleep_cycles, 0);
	assert_false(d.asleep);
}

/* The same as if the TSC went back by a day in each turn. */
static unsigned int
poll_a_day_ahead(struct vhub_poller *poller)
{
	vhub_lcore_self()->turn_tsc += 86400 * rte_get_tsc_hz();
	return poll_busy(poller);
}

static const struct vhub_poller_ops day_ahead_ops = { .poll = poll_a_day_ahead };

static void
a_clock_that_goes_back_takes_nothing_away(void **unused)
{
	struct vhub_poller poller = { .ops = &day_ahead_ops };
	struct vhub_lcore_stats stats;

	(void)unused;
	busy_items = 0;
	test_on_lcore(0, test_add_poller, &poller);
	wait_turns(&stats);
	test_store(&busy_items, 3);
	wait_turns(&stats);
	test_on_lcore(0, test_remove_poller, &poller);
	assert_true(stats.idle_cycles < 86400 * rte_get_tsc_hz());
	assert_true(stats.busy_cycles < 86400 * rte_get_tsc_hz());
}

/* ---- messages ---- */

#define N_BURST 3000

struct numbered {
	struct vhub_msg msg;
	uint32_t number;
};

static struct {
	struct vhub_mailbox box;
	struct numbered msgs[N_BURST];
	uint32_t n_run;
	uint32_t n_wrong;
} flood;

static void
on_numbered(struct vhub_msg *msg)
{
	flood.n_wrong += vhub_container_of(msg, struct numbered, msg)->number != flood.n_run;
	test_store(&flood.n_run, flood.n_run + 1);
}

static void
post_flood(void *arg)
{
	(void)arg;
	for (uint32_t i = 0; i < N_BURST; i++) {
		flood.msgs[i] = (struct numbered){ .msg.fn = on_numbered, .number = i };
		vhub_mailbox_post(&flood.box, &flood.msgs[i].msg);
	}
}

/* An lcore with nothing to do must stay awake for what waits in its outbox. */
static void
lcore_sends_its_outbox_before_it_sleeps(void **unused)
{
	const uint64_t end_ns = test_now_ns() + TEST_LOST_NS;

	(void)unused;
	flood.n_run = flood.n_wrong = 0;
	assert_int_equal(vhub_mailbox_init(&flood.box, 16), 0);
	test_on_lcore(0, post_flood, NULL);
	while (flood.n_run < N_BURST && test_now_ns() < end_ns) {
		if (vhub_mailbox_run(&flood.box, 4) == 0)
			sched_yield();
	}
	assert_int_equal(flood.n_run, N_BURST);
	assert_int_equal(flood.n_wrong, 0);
	assert_true(test_wait_asleep(0));
	vhub_mailbox_fini(&flood.box);
}

static void
all_run_in_order_on_a_full_lcore(void **unused)
{
	(void)unused;
	flood.n_run = flood.n_wrong = 0;
	for (uint32_t i = 0; i < N_BURST; i++) {
		flood.msgs[i] = (struct numbered){ .msg.fn = on_numbered, .number = i };
		vhub_lcore_post(vhub_lcore_at(1), &flood.msgs[i].msg);
	}
	for (unsigned int tries = 0; !vhub_outbox_flush() && tries < TEST_LOST_NS / 100000; tries++)
		usleep(100);
	assert_true(test_wait(&flood.n_run, N_BURST));
	assert_int_equal(flood.n_wrong, 0);
}

/* Both lcores spin on one CPU, and on a machine with one CPU this thread shares it too. */
static void
spinning_lcores_on_one_cpu_all_answer(void **unused)
{
	struct vhub_lcore *self;

	(void)unused;
	for (unsigned int i = 0; i < 50; i++) {
		test_on_lcore(i & 1, note_self, &self);
		assert_ptr_equal(self, vhub_lcore_at(i & 1));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_worker_is_an_lcore, test_start_poll,
				test_stop_lcores),
		cmocka_unit_test(stopped_lcores_start_again),
		cmocka_unit_test(busy_worker_is_refused),
		cmocka_unit_test_setup_teardown(poller_removes_itself, start_lettered,
				test_stop_lcores),
		cmocka_unit_test_setup_teardown(poller_removes_those_after_it, start_lettered,
				test_stop_lcores),
		cmocka_unit_test_setup_teardown(poller_removes_those_before_it, start_lettered,
				test_stop_lcores),
		cmocka_unit_test_setup_teardown(poller_removes_itself_and_the_next, start_lettered,
				test_stop_lcores),
		cmocka_unit_test_setup_teardown(poller_adds_another, start_lettered,
				test_stop_lcores),
		cmocka_unit_test_setup_teardown(busy_and_idle_are_told_apart, test_start_poll,
				test_stop_lcores),
		cmocka_unit_test_setup_teardown(a_clock_that_goes_back_takes_nothing_away,
				test_start_poll, test_stop_lcores),
		cmocka_unit_test_setup_teardown(lcore_sends_its_outbox_before_it_sleeps,
				test_start_adaptive, test_stop_lcores),
		cmocka_unit_test_setup_teardown(all_run_in_order_on_a_full_lcore, test_start_poll,
				test_stop_lcores),
		cmocka_unit_test_setup_teardown(spinning_lcores_on_one_cpu_all_answer,
				test_start_poll, test_stop_lcores),
	};

	return cmocka_run_group_tests(tests, test_group_setup, test_group_teardown);
}
