/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An lcore that is elsewhere, as one that sleeps in a page fault, until a test lets it go on; and a loop that goes on
 * meanwhile. Needs EAL, and lcores that were started.
 */
#ifndef ELSEWHERE_H
#define ELSEWHERE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "vhub_common.h"
#include "vhub_lcore.h"
#include "vhub_loop.h"

/* Static: the lcore looks at it, also after a test that has failed. Zeroed. */
struct elsewhere {
	struct vhub_msg msg;
	bool inside;
	bool may_go_on;
};

static inline void
elsewhere_stay(struct vhub_msg *msg)
{
	struct elsewhere *e = vhub_container_of(msg, struct elsewhere, msg);

	__atomic_store_n(&e->inside, true, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&e->may_go_on, __ATOMIC_ACQUIRE))
		usleep(1000);
}

/* The lcore is elsewhere when it returns. */
static inline void
elsewhere_begin(struct elsewhere *e, struct vhub_lcore *lcore)
{
	e->msg = (struct vhub_msg){ .fn = elsewhere_stay };
	__atomic_store_n(&e->inside, false, __ATOMIC_RELAXED);
	__atomic_store_n(&e->may_go_on, false, __ATOMIC_RELAXED);
	vhub_lcore_post(lcore, &e->msg);
	while (!__atomic_load_n(&e->inside, __ATOMIC_ACQUIRE))
		usleep(1000);
}

static inline void
elsewhere_end(struct elsewhere *e)
{
	__atomic_store_n(&e->may_go_on, true, __ATOMIC_RELEASE);
}

struct loop_stop {
	struct vhub_timer timer;
	struct vhub_loop *loop;
};

static inline void
loop_stop_now(struct vhub_timer *timer)
{
	vhub_loop_stop(vhub_container_of(timer, struct loop_stop, timer)->loop, 0);
}

/* Blocking work and timers go on for 10 ms. */
static inline void
loop_goes_on(struct vhub_loop *loop)
{
	struct loop_stop stop = { .timer.fn = loop_stop_now, .loop = loop };

	vhub_timer_arm(loop, &stop.timer, 10000);
	assert_int_equal(vhub_loop_run(loop), 0);
}

#endif /* ELSEWHERE_H */
