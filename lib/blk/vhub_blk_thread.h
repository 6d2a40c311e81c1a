/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A thread of a disk for what would block its lcores. Queues of the driver's submit I/Os to it, which
 * uses their `next` and driver[0], and reap what it has given back. Implemented in thread.c.
 */
#ifndef VHUB_BLK_THREAD_H
#define VHUB_BLK_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vhub_blk.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Embedded by the driver, zeroed but for `serve`. */
struct vhub_blk_thread {
	/**
	 * Does all these, in the order of their submission, and gives back each: its `next` is the queue's
	 * again then. Thread: this one; may block.
	 */
	void (*serve)(struct vhub_blk_thread *thread, struct vhub_blk_io *first);
	pthread_t id;		  /**< lib/blk's, as all that follows */
	int wake_fd;		  /**< written by lcores, read by the thread, which sleeps there */
	struct vhub_blk_io *todo; /**< shared atomic: the last one first */
	uint32_t stop;		  /**< shared atomic */
};

/** I/Os that a queue has there. Embedded in it, zeroed. LCORE but for what is said. */
struct vhub_blk_away {
	struct vhub_lcore *lcore;  /**< that the thread wakes; NULL: none */
	struct vhub_blk_io *first; /**< taken from `done`, not reaped yet */
	struct vhub_blk_io *done;  /**< shared atomic: pushed by the thread, the last one first */
	uint32_t n;		   /**< shared atomic: how many the thread still has */
};

/** `name`: as vhub_thread_start(). Thread: CTL or WORK. Returns 0, or an errno of eventfd(2) or pthread_create(3). */
VHUB_API int
vhub_blk_thread_start(struct vhub_blk_thread *thread, const char *name);

/** Waits for its end: it has nothing to do any more. Thread: CTL or WORK; blocks. */
VHUB_API void
vhub_blk_thread_stop(struct vhub_blk_thread *thread);

/** The I/O is over. Thread: this one, from serve. */
VHUB_API void
vhub_blk_thread_give_back(struct vhub_blk_io *io, int result);

/** Hands an I/O over. Thread: LCORE. Does not block. */
VHUB_API void
vhub_blk_thread_submit(struct vhub_blk_thread *thread, struct vhub_blk_away *away,
		struct vhub_blk_io *io);

/** One that is over, or NULL. Thread: LCORE. */
VHUB_API struct vhub_blk_io *
vhub_blk_away_reap(struct vhub_blk_away *away);

/** Whether that would give one; the next that comes wakes the lcore. Thread: LCORE. */
VHUB_API bool
vhub_blk_away_has_some(const struct vhub_blk_away *away);

/** Takes those back that the thread has not begun with: they are reaped with -ECANCELED. Thread: LCORE. */
VHUB_API void
vhub_blk_away_cancel(struct vhub_blk_away *away, struct vhub_blk_thread *thread,
		vhub_blk_pick_fn wanted, const void *arg);

/** Before the queue goes, with nothing in flight: returns once the thread looks at it no more. Thread: LCORE. */
VHUB_API void
vhub_blk_away_leave(struct vhub_blk_away *away);

#ifdef __cplusplus
}
#endif

#endif /* VHUB_BLK_THREAD_H */
