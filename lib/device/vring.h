/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A started vring on its lcore: the poller that runs the device's queue_poll, and the operations
 * that change it at a safe point. CTL makes and frees it; in between, CTL writes only `want`, and
 * only while no operation is under way (the message that carries the operation orders the two).
 * Used by lifecycle.c; implemented in vring.c.
 */
#ifndef VRING_H
#define VRING_H

#include <stdbool.h>
#include <stdint.h>

#include "vhub_device.h"
#include "vhub_work.h"

/** For `drain_until`: storage that takes longer is stuck, and the front end's requests wait meanwhile. */
#define VRING_DRAIN_SECONDS 2

struct lifecycle_event;

/** What can be done to a started vring. */
enum vring_op {
	VRING_OP_START, /**< get the device's queue, begin to poll; a drain is over */
	/**
	 * take nothing new, and do what a former life left in flight, unless the front end has gone; done when
	 * nothing is in flight, or -ETIMEDOUT at want.drain_until
	 */
	VRING_OP_DRAIN,
	/** take nothing new, leave in flight what can be left; done when nothing is under way */
	VRING_OP_SUSPEND,
	VRING_OP_APPLY, /**< take over `want`; take new chains again */
	VRING_OP_STOP,	/**< drained or suspended: give the queue back, stop polling */
};

#define VRING_WANT_ENABLED 0x01u
#define VRING_WANT_KICK 0x02u
#define VRING_WANT_CALL 0x04u
#define VRING_WANT_ERR 0x08u
#define VRING_WANT_MEM 0x10u
#define VRING_WANT_LOG 0x20u

/**
 * Settings to take over; `mask` says which. fds stay CTL's, which keeps both old and new open until
 * the operation is done.
 */
struct vring_want {
	uint32_t mask;
	bool enabled;
	bool log_used;
	struct vhub_kick_watch *kick;
	int call_fd;
	int err_fd;
	struct vhub_mem_table *mem;
	void *desc;
	void *avail;
	void *used;
	struct vhub_dirty_log *log;
	uint64_t used_log_gpa;
	uint64_t drain_until; /**< TSC at which a DRAIN gives up; 0: never */
};

struct vring_run {
	struct vhub_vring pub; /**< what the device sees; first */
	struct vhub_poller poller;
	struct vhub_lcore *home; /**< of the connection */

	/* LCORE. */
	bool draining;
	bool suspending;
	bool drain_pending; /**< a DRAIN or a SUSPEND waits for in-flight chains */
	bool broken_told;
	bool stuck; /* a notification fd of the front end's blocked us; read by CTL after broken_msg */
	int err_fd;

	/**
	 * Shared atomic, written by CTL: the front end has gone. Nobody waits for what a former life left in flight
	 * any more, and what has not begun of that stays in the inflight region.
	 */
	bool gone;

	/* Handed over with each operation. */
	struct vhub_msg msg;
	struct lifecycle_event *event;
	enum vring_op op;
	int result;
	struct vring_want want;
	struct vhub_mem_table *old_mem; /**< replaced by APPLY: CTL puts it */
	struct vhub_dirty_log *old_log;
	struct vhub_kick_watch *old_kick;

	/* LCORE to CTL, once: the ring broke. */
	struct vhub_loop *loop;
	struct vhub_msg broken_msg;
	void (*broken)(struct vring_run *vring); /**< CTL */
	bool broken_heard;			 /**< CTL */
	bool released;				 /**< CTL: the device knows it no more */
	bool was_enabled;			 /**< CTL: since it has started */
	void *owner;				 /**< CTL: the device handler */
	struct vhub_work free_work;		 /**< CTL, WORK: the last of it */
	void *part; /**< WORK: the device's, of part_bytes; NULL: none */
	size_t part_bytes;
};

/**
 * Prepares the poller and the messages; the public part and fds are filled by the caller. Thread:
 * CTL.
 */
void
vring_init(struct vring_run *vring);

/** Whether it was suspended and left requests in its inflight region. It is not on an lcore any more. */
bool
vring_has_left(const struct vring_run *vring);

/**
 * Runs vring->op; afterwards lifecycle_vring_done() runs on the home lcore. Thread: LCORE, the
 * owner's.
 */
void
vring_run_op(struct vhub_msg *msg);

#endif /* VRING_H */
