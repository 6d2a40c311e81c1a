/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Messages between threads: an intrusive message, and the mailbox of the thread that receives it.
 *
 * A mailbox is an rte_ring (many senders, one receiver) with an eventfd that wakes a sleeping
 * receiver. Sending never blocks an lcore and never fails: what does not fit into the ring waits in
 * an outbox of the sending thread and is sent by vhub_outbox_flush(), which every lcore turn and
 * every loop turn calls. Messages from one thread to one mailbox arrive in the order in which they
 * were sent.
 *
 * Life of a message: the sender embeds it in a structure of its own and sets `fn`; from
 * vhub_mailbox_post() until `fn` runs it belongs to the runtime, in `fn` to the receiver, who may
 * post the same message on (as the answer). Nothing is allocated.
 */
#ifndef VHUB_MSG_H
#define VHUB_MSG_H

#include <stdbool.h>
#include <stdint.h>

#include "vhub_common.h"

#ifdef __cplusplus
extern "C" {
#endif

struct rte_ring;

/** Something to do on another thread. */
struct vhub_msg {
	void (*fn)(struct vhub_msg *msg); /**< runs on the receiver's thread */
	struct vhub_msg *next;		  /**< runtime: link in the sender's outbox */
	struct vhub_mailbox *dest;	  /**< runtime: where it is going while in an outbox */
};

/** Where one thread receives. */
struct vhub_mailbox {
	struct rte_ring *ring;
	int event_fd;
	uint32_t sleeping; /**< shared atomic: 1 while the receiver sleeps or is about to */
};

/**
 * Makes an empty mailbox of `capacity` messages (a power of two).
 * Thread: CTL. Returns 0, -ENOMEM or the errno of eventfd(2).
 */
VHUB_API int
vhub_mailbox_init(struct vhub_mailbox *box, unsigned int capacity);

/**
 * Frees what init made. Messages still inside are forgotten. Thread: CTL, after the receiver has
 * ended.
 */
VHUB_API void
vhub_mailbox_fini(struct vhub_mailbox *box);

/** Sends `msg`; wakes the receiver if it sleeps. Thread: ANY. Never blocks, never fails. */
VHUB_API void
vhub_mailbox_post(struct vhub_mailbox *box, struct vhub_msg *msg);

/**
 * Sends what waits in the calling thread's outbox. Thread: ANY. Returns true when the outbox is
 * empty.
 */
VHUB_API bool
vhub_outbox_flush(void);

/** Runs up to `max` messages. Thread: the receiver. Returns how many ran. */
VHUB_API unsigned int
vhub_mailbox_run(struct vhub_mailbox *box, unsigned int max);

/**
 * The receiver's last look before it sleeps on event_fd: announces the sleep, then looks again.
 * Thread: the receiver. Does not block. Returns true when it may sleep; false when a message is there (the
 * announcement is taken back).
 */
VHUB_API bool
vhub_mailbox_sleep_begin(struct vhub_mailbox *box);

/**
 * The receiver is awake again: takes the announcement back, and empties event_fd when it is what
 * woke the receiver (`signalled`; otherwise the system call is saved). Thread: the receiver. Does not block.
 */
VHUB_API void
vhub_mailbox_sleep_end(struct vhub_mailbox *box, bool signalled);

#ifdef __cplusplus
}
#endif

#endif /* VHUB_MSG_H */
