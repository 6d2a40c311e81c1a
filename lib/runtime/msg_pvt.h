/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the loops (loop.c, lcore.c, idle.c) need of msg.c on every turn: the two checks that cost
 * one load each.
 */
#ifndef MSG_PVT_H
#define MSG_PVT_H

#include <rte_ring.h>

#include "vhub_msg.h"

/* Messages of one thread that found their mailbox's ring full, oldest first. */
struct outbox {
	struct vhub_msg *head;
	struct vhub_msg *tail; /* undefined while head is NULL */
};

/*
 * Initial-exec: one instruction instead of a call into the dynamic linker, in the shared library
 * too, where every turn of every lcore looks at it.
 */
extern __thread struct outbox outbox_self __attribute__((tls_model("initial-exec")));

/* True when nothing of the calling thread waits to be sent. Thread: ANY. */
static inline bool
outbox_empty(void)
{
	return outbox_self.head == NULL;
}

/*
 * Forgets what waits in the calling thread's outbox, for a thread that ends. Returns how many.
 * Thread: ANY.
 */
unsigned int
outbox_drop(void);

/*
 * True when no message is in the ring. The consumer's own index is in its cache: one shared load.
 * Thread: the receiver.
 */
static inline bool
mailbox_empty(const struct vhub_mailbox *box)
{
	return rte_ring_empty(box->ring) != 0;
}

#endif /* MSG_PVT_H */
