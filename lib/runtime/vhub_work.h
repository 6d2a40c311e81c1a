/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Blocking work (the threads WORK): what may take long (mapping and unmapping guest memory, making
 * and freeing rings, closing fds of front ends) runs there, and its completion comes back to the
 * control loop.
 *
 * One thread works and one stands by. What a front end has sent can make a piece of work hang for
 * as long as it likes; so when the next piece has waited for 20 ms, the thread that stands by takes
 * over, and pieces may overtake the one that is stuck. Pieces that need an order among themselves
 * are submitted one after the other, each from the `done` of the last.
 */
#ifndef VHUB_WORK_H
#define VHUB_WORK_H

#include <stdint.h>

#include "vhub_common.h"
#include "vhub_loop.h"

#ifdef __cplusplus
extern "C" {
#endif

/** One piece of blocking work; embedded by its owner, who keeps it alive until `done` runs. */
struct vhub_work {
	void (*run)(struct vhub_work *work); /**< WORK: may block */
	/** CTL: after run; may free the work. NULL: nothing to tell */
	void (*done)(struct vhub_work *work);
	struct vhub_work *next; /**< runtime */
	uint64_t due_ns;	/**< runtime: when another thread takes it */
};

/**
 * Starts the threads ("vhub-work", all signals blocked but those of their own faults); results go
 * to `loop`. Thread: CTL, once. Returns 0, -EALREADY, or the errno of pthread_create(3), eventfd(2)
 * or epoll_ctl(2).
 */
VHUB_API int
vhub_work_start(struct vhub_loop *loop);

/**
 * Runs what is queued to its end and ends the threads; `done` callbacks not yet delivered are not
 * called. Thread: CTL, before the loop is destroyed. Blocks, for 200 ms at most: -EBUSY says that a
 * piece of work is stuck, and then the process should end without giving anything else back. Else
 * 0.
 */
VHUB_API int
vhub_work_stop(void);

/** The loop that results go to, for timers of who has work to do later; NULL before the start. Thread: CTL. */
VHUB_API struct vhub_loop *
vhub_work_loop(void);

/** Waits until no piece of work is queued or runs. Thread: CTL. Blocks. */
VHUB_API void
vhub_work_wait(void);

/**
 * Queues `work`. Thread: CTL. Never blocks, never fails. Before vhub_work_start() (in unit tests,
 * in a program without a loop) `run` and `done` are called at once, in the caller. Without `done`,
 * `run` is the last to touch the work, and may free it.
 */
VHUB_API void
vhub_work_submit(struct vhub_work *work);

#ifdef __cplusplus
}
#endif

#endif /* VHUB_WORK_H */
