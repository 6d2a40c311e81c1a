/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tests that run lcores share: a loop, the lcores, and doing something on one of them. */
#ifndef LCORE_TEST_H
#define LCORE_TEST_H

#include "runtime_test.h"

#include "../eal_fixture.h"
#include "vhub_lcore.h"

static struct vhub_loop *test_loop;

static inline int
test_group_setup(void **unused)
{
	(void)unused;
	return test_eal_init() != 0 || vhub_loop_create(&test_loop) != 0;
}

static inline int
test_group_teardown(void **unused)
{
	(void)unused;
	vhub_loop_destroy(test_loop);
	return 0;
}

/* For cmocka's setup of a test, by idle policy. Idle time 0: asleep whenever there is nothing to do. */
static inline int
test_start_poll(void **unused)
{
	(void)unused;
	return vhub_lcores_start(test_loop, VHUB_IDLE_POLL, 0);
}

static inline int
test_start_adaptive(void **unused)
{
	(void)unused;
	return vhub_lcores_start(test_loop, VHUB_IDLE_ADAPTIVE, 0);
}

static inline int
test_stop_lcores(void **unused)
{
	(void)unused;
	vhub_lcores_stop();
	return 0;
}

struct test_call {
	struct vhub_msg msg;
	void (*fn)(void *arg);
	void *arg;
	uint32_t done;
};

static inline void
test_on_call(struct vhub_msg *msg)
{
	struct test_call *call = vhub_container_of(msg, struct test_call, msg);

	call->fn(call->arg);
	test_store(&call->done, 1);
}

/* Runs fn(arg) on lcore `i` and waits for its end. cmocka's asserts must not be used in it: they longjmp. */
static inline void
test_on_lcore(unsigned int i, void (*fn)(void *arg), void *arg)
{
	struct test_call call = { .msg.fn = test_on_call, .fn = fn, .arg = arg };

	vhub_lcore_post(vhub_lcore_at(i), &call.msg);
	if (!test_wait(&call.done, 1)) {
		fprintf(stderr, "lcore %u does not answer\n", i);
		_exit(1); /* it still has a pointer into our stack */
	}
}

static inline void
test_add_poller(void *poller)
{
	vhub_lcore_add_poller(poller);
}

static inline void
test_remove_poller(void *poller)
{
	vhub_lcore_remove_poller(poller);
}

static inline uint64_t
test_sleeps_of(unsigned int i)
{
	struct vhub_lcore_stats stats;

	vhub_lcore_get_stats(vhub_lcore_at(i), &stats);
	return stats.sleeps;
}

/* Waits until the lcore sleeps. */
static inline bool
test_wait_asleep(unsigned int i)
{
	const uint64_t end_ns = test_now_ns() + TEST_LOST_NS;
	struct vhub_lcore_stats stats;

	do {
		usleep(100);
		vhub_lcore_get_stats(vhub_lcore_at(i), &stats);
	} while (!stats.asleep && test_now_ns() < end_ns);
	return stats.asleep;
}

static inline void
test_stop_on_timer(struct vhub_timer *timer)
{
	(void)timer;
	vhub_loop_stop(test_loop, 0);
}

/* Runs the loop for this long, or until something else stops it. */
static inline void
test_run_loop(uint64_t us)
{
	struct vhub_timer timer = { .fn = test_stop_on_timer };

	vhub_timer_arm(test_loop, &timer, us);
	vhub_loop_run(test_loop);
	vhub_timer_cancel(test_loop, &timer);
}

#endif /* LCORE_TEST_H */
