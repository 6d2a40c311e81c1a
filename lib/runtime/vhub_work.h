/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The blocking-work thread: what may take long (mapping and unmapping guest memory, opening images,
 * driver control calls) runs there in order, one at a time, and its completion comes back to the
 * control loop.
 */
#ifndef VHUB_WORK_H
#define VHUB_WORK_H

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
};

/**
 * Starts the thread ("vhub-work", all signals blocked, so that only faults reach it); results go to
 * `loop`. Thread: CTL, once. Returns 0, -EALREADY, or the errno of pthread_create(3), eventfd(2) or
 * epoll_ctl(2).
 */
VHUB_API int
vhub_work_start(struct vhub_loop *loop);

/**
 * Runs what is queued to its end and joins the thread; `done` callbacks not yet delivered are not
 * called. Thread: CTL, before the loop is destroyed. Blocks.
 */
VHUB_API void
vhub_work_stop(void);

/**
 * Queues `work`. Thread: CTL. Never blocks, never fails. Before vhub_work_start() (in unit tests,
 * in a program without a loop) `run` and `done` are called at once, in the caller.
 */
VHUB_API void
vhub_work_submit(struct vhub_work *work);

#ifdef __cplusplus
}
#endif

#endif /* VHUB_WORK_H */
