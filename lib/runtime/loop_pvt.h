/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of a control loop, shared by loop.c and timer.c. Everything belongs to the loop's
 * thread but the mailbox, which has its own rules.
 */
#ifndef LOOP_PVT_H
#define LOOP_PVT_H

#include <sys/epoll.h>

#include "vhub_loop.h"

/* Events fetched, and messages run, in one turn before the loop looks at everything else. */
#define LOOP_MAX_EVENTS 64
#define LOOP_MAX_MSGS 64

struct vhub_loop {
	int epoll_fd;
	struct vhub_mailbox box;
	struct vhub_watch box_watch;

	struct vhub_timer *timers;   /* by due_ns, those armed first come first */
	struct vhub_task *tasks;     /* for the next turn, in order */
	struct vhub_task *tasks_now; /* what is left of this turn's */
	struct epoll_event events[LOOP_MAX_EVENTS];
	int next_event; /* events[next_event .. n_events-1] have not been dispatched */
	int n_events;

	bool stopping;
	int result;
};

/*
 * Nanoseconds until the first timer is due, 0 when it is; UINT64_MAX without timers. Thread: CTL.
 */
uint64_t
timers_wait_ns(const struct vhub_loop *loop);

/* Fires the timers that are due, until vhub_loop_stop(). Thread: CTL. */
void
timers_run(struct vhub_loop *loop);

#endif /* LOOP_PVT_H */
