/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Blocking work (the threads WORK): what may take long (mapping and unmapping guest memory, making
 * and freeing rings, closing fds of front ends) runs there, and its completion comes back to the
 * control loop.
 *
 * One thread works and two stand by. What a front end has sent can make a piece of work hang for
 * as long as it likes; so when the next piece has waited for 20 ms, a thread that stands by takes
 * over, and pieces may overtake the one that is stuck. Pieces that need an order among themselves
 * are submitted one after the other, each from the `done` of the last.
 *
 * Each kind of work has a queue of its own, and is named by what it may wait for. 64 threads are for
 * all but storage and sockets. Closes of fds of front ends have no more than half of them, what other libraries
 * are told has a quarter: that may have to wait for what front ends of other devices do. What waits
 * for storage has up to 512 more, made as they are needed, which is one for each disk that may hang,
 * so that those of other storage go on; and so has what waits for the folders of sockets, each device having
 * one piece at a time. What has kicks wake lcores has one: any process of the machine may hold it up, and
 * more would be stuck with it. None of the five has ever the last thread that is idle: what is stuck there
 * holds up no ordinary work, also where no more threads can be had.
 */
#ifndef VHUB_WORK_H
#define VHUB_WORK_H

#include <stdint.h>

#include "vhub_common.h"
#include "vhub_loop.h"

#ifdef __cplusplus
extern "C" {
#endif

enum vhub_work_kind {
	VHUB_WORK_ORDINARY,
	VHUB_WORK_CLOSE,   /**< closes fds of front ends; has no `done` */
	VHUB_WORK_LIBRARY, /**< tells a library what to serve */
	/** locks, opens, closes, resizes or saves an image or another file of the administrator's */
	VHUB_WORK_STORAGE,
	VHUB_WORK_KICK, /**< has kicks wake lcores (vhub_kick.h) */
	/**
	 * makes or removes the file of a socket, or looks for one: whoever may read its folder can hold the folder's
	 * lock
	 */
	VHUB_WORK_SOCKET,
	VHUB_WORK_KINDS,
};

/** One piece of blocking work; embedded by its owner, who keeps it alive until `done` runs. */
struct vhub_work {
	void (*run)(struct vhub_work *work); /**< WORK: may block */
	/** CTL: after run; may free the work. NULL: nothing to tell */
	void (*done)(struct vhub_work *work);
	enum vhub_work_kind kind; /**< zeroed: ordinary */
	struct vhub_work *next;	  /**< runtime */
	uint64_t due_ns;	  /**< runtime: when another thread takes it */
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
 * piece of work is stuck that closes nothing, or the making of a thread, and then the process should end
 * without giving anything else back. Else 0. Closes that are stuck then are left behind, with their
 * threads, which go on with those that are queued and touch nothing else of the process; its end ends
 * them.
 */
VHUB_API int
vhub_work_stop(void);

/** The loop that results go to, for timers of who has work to do later; NULL before the start. Thread: CTL. */
VHUB_API struct vhub_loop *
vhub_work_loop(void);

/** Waits until no piece of work of `kind` is queued or runs. Thread: CTL. Blocks. */
VHUB_API void
vhub_work_wait(enum vhub_work_kind kind);

/**
 * Queues `work`, under a lock that is held for a few instructions. Thread: CTL, or WORK in a piece that
 * runs. Does not block, never fails; but before vhub_work_start() (in unit tests, in a program without a loop) `run` and `done`
 * are called at once, in the caller. Without `done`, `run` is the last to touch the work, and may
 * free it.
 */
VHUB_API void
vhub_work_submit(struct vhub_work *work);

#ifdef __cplusplus
}
#endif

#endif /* VHUB_WORK_H */
