/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control loop: epoll, timers, deferred tasks and messages from other threads, on one thread,
 * asleep when there is nothing to do. vhubd runs it on the main thread; a test or another program
 * may run it on any thread of its own. Everything that handles sockets, protocol messages and
 * registration runs here.
 */
#ifndef VHUB_LOOP_H
#define VHUB_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "vhub_common.h"
#include "vhub_msg.h"

#ifdef __cplusplus
extern "C" {
#endif

struct vhub_loop;

/** Interest in a file descriptor; embedded by its owner and valid from watch to unwatch. */
struct vhub_watch {
	int fd;
	/**
	 * CTL; `events` is what epoll_wait(2) told. May unwatch itself or any other watch, and free
	 * them.
	 */
	void (*fn)(struct vhub_watch *watch, uint32_t events);
};

/** A one-shot timer; embedded by its owner. Zero-initialised it is not armed. */
struct vhub_timer {
	void (*fn)(struct vhub_timer *timer); /**< CTL; may arm the timer again, or free it */
	uint64_t due_ns;		      /**< runtime: CLOCK_MONOTONIC */
	struct vhub_timer *next;	      /**< runtime */
	bool armed;			      /**< runtime */
};

/** Something to do on the loop's next turn; embedded by its owner. */
struct vhub_task {
	void (*fn)(struct vhub_task *task); /**< CTL; may queue the task again, or free it */
	struct vhub_task *next;		    /**< runtime */
	bool queued;			    /**< runtime */
};

/**
 * Makes a loop. Needs rte_eal_init(). Thread: the one that will run it. Returns 0, -ENOMEM, or an
 * errno of epoll/eventfd.
 */
VHUB_API int
vhub_loop_create(struct vhub_loop **out);

/**
 * Frees a loop that does not run; NULL is fine. Watches must have been removed, and nobody posts to it any
 * more: messages that have not run are forgotten. Thread: CTL.
 */
VHUB_API void
vhub_loop_destroy(struct vhub_loop *loop);

/**
 * Runs until vhub_loop_stop(); may be run again after that. The calling thread is CTL meanwhile. Blocks.
 * Returns the result given to vhub_loop_stop(), or -EDEADLK when called from inside a running loop
 * of this thread (nothing is changed then).
 */
VHUB_API int
vhub_loop_run(struct vhub_loop *loop);

/**
 * Ends the run after the present callback, with `result`; a loop that does not run yet returns it
 * at once when run. Thread: CTL.
 */
VHUB_API void
vhub_loop_stop(struct vhub_loop *loop, int result);

/** True while vhub_loop_run() runs on the calling thread, whichever loop it is. Thread: ANY. */
VHUB_API bool
vhub_loop_running(void);

/**
 * Watches watch->fd for EPOLL* `events`, level-triggered. Thread: CTL. Returns 0 or the errno of
 * epoll_ctl(2), -EPERM for a file that cannot be polled.
 */
VHUB_API int
vhub_loop_watch(struct vhub_loop *loop, struct vhub_watch *watch, uint32_t events);

/**
 * Changes what is watched for; 0 keeps the watch and reports only hang-up and error. Thread: CTL.
 */
VHUB_API int
vhub_loop_rewatch(struct vhub_loop *loop, struct vhub_watch *watch, uint32_t events);

/**
 * Ends the watch; its fn will not run any more, not even for events already fetched. Does not close
 * the fd. Thread: CTL.
 */
VHUB_API void
vhub_loop_unwatch(struct vhub_loop *loop, struct vhub_watch *watch);

/** The time by which timers go, CLOCK_MONOTONIC, in nanoseconds. Thread: ANY. Does not block. */
VHUB_API uint64_t
vhub_now_ns(void);

/**
 * CPU time that the calling thread has taken, in nanoseconds: what a system call has cost, however often
 * others had the CPU meanwhile. Thread: ANY. Does not block.
 */
VHUB_API uint64_t
vhub_thread_cpu_ns(void);

/** Arms or re-arms `timer` to fire once after `delay_us` microseconds. Thread: CTL. */
VHUB_API void
vhub_timer_arm(struct vhub_loop *loop, struct vhub_timer *timer, uint64_t delay_us);

/** Disarms; a timer that is not armed is fine. Thread: CTL. */
VHUB_API void
vhub_timer_cancel(struct vhub_loop *loop, struct vhub_timer *timer);

/** Runs `task` once on the next turn; a task already queued stays queued once. Thread: CTL. */
VHUB_API void
vhub_loop_defer(struct vhub_loop *loop, struct vhub_task *task);

/** Takes back a task that has not run. Thread: CTL. */
VHUB_API void
vhub_loop_undefer(struct vhub_loop *loop, struct vhub_task *task);

/** Runs msg->fn on the loop's thread. Thread: ANY. Never blocks. */
VHUB_API void
vhub_loop_post(struct vhub_loop *loop, struct vhub_msg *msg);

#ifdef __cplusplus
}
#endif

#endif /* VHUB_LOOP_H */
