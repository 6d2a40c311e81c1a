/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One-shot timers of the control loop: a sorted list. There are a few for each session at most, and
 * the soonest are the ones armed most often, so a walk from the front is short. Called by loop.c on
 * every turn.
 */
#include <time.h>

#include "loop_pvt.h"

uint64_t
vhub_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

uint64_t
vhub_thread_cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

void
vhub_timer_cancel(struct vhub_loop *loop, struct vhub_timer *timer)
{
	struct vhub_timer **link;

	if (!timer->armed)
		return;
	for (link = &loop->timers; *link != timer; link = &(*link)->next)
		;
	*link = timer->next;
	timer->armed = false;
}

/* A delay beyond the end of time is the end of time. */
static uint64_t
timer_due_ns(uint64_t delay_us)
{
	const uint64_t now_ns = vhub_now_ns();

	if (delay_us > (UINT64_MAX - now_ns) / 1000)
		return UINT64_MAX;
	return now_ns + delay_us * 1000;
}

void
vhub_timer_arm(struct vhub_loop *loop, struct vhub_timer *timer, uint64_t delay_us)
{
	struct vhub_timer **link;

	vhub_timer_cancel(loop, timer);
	timer->due_ns = timer_due_ns(delay_us);
	for (link = &loop->timers; *link != NULL && (*link)->due_ns <= timer->due_ns;
			link = &(*link)->next)
		;
	timer->next = *link;
	*link = timer;
	timer->armed = true;
}

uint64_t
timers_wait_ns(const struct vhub_loop *loop)
{
	uint64_t now_ns;

	if (loop->timers == NULL)
		return UINT64_MAX;
	now_ns = vhub_now_ns();
	return loop->timers->due_ns > now_ns ? loop->timers->due_ns - now_ns : 0;
}

void
timers_run(struct vhub_loop *loop)
{
	struct vhub_timer *timer = loop->timers;
	uint64_t now_ns;

	if (timer == NULL)
		return;
	/*
	 * Read once: a timer that is always armed again with no delay must not hold the loop here.
	 */
	now_ns = vhub_now_ns();
	while (!loop->stopping && (timer = loop->timers) != NULL && timer->due_ns <= now_ns) {
		loop->timers = timer->next;
		timer->armed = false;
		timer->fn(timer);
	}
}
