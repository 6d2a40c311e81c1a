/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mailboxes and outboxes: how threads tell each other things without locks and without waiting.
 * Used by the control loop (loop.c) and by every lcore (lcore.c), which are the receivers; any
 * thread sends. Next on the way: loop.c for what goes to CTL, lcore.c for what goes to an lcore.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <rte_branch_prediction.h>
#include <rte_common.h>
#include <rte_ring.h>

#include "msg_pvt.h"
#include "vhub_msg.h"

/*
 * Full mailboxes that one flush keeps in mind; with more of them the rest of the outbox waits for
 * the next.
 */
#define OUTBOX_MAX_FULL 8

__thread struct outbox outbox_self;

int
vhub_mailbox_init(struct vhub_mailbox *box, unsigned int capacity)
{
	const ssize_t bytes = rte_ring_get_memsize(rte_align32pow2(capacity + 1));
	int ret;

	if (bytes < 0)
		return (int)bytes;
	box->ring = aligned_alloc(RTE_CACHE_LINE_SIZE,
			RTE_ALIGN_CEIL((size_t)bytes, RTE_CACHE_LINE_SIZE));
	if (box->ring == NULL)
		return -ENOMEM;
	/*
	 * RTS: a sender that is preempted in the middle of its enqueue does not make the others
	 * spin until it runs again, which happens when lcores share a CPU with each other or with
	 * CTL.
	 */
	ret = rte_ring_init(box->ring, "vhub-mailbox", capacity,
			RING_F_EXACT_SZ | RING_F_MP_RTS_ENQ | RING_F_SC_DEQ);
	if (ret != 0)
		goto free_ring;
	box->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (box->event_fd < 0) {
		ret = -errno;
		goto free_ring;
	}
	__atomic_store_n(&box->sleeping, 0, __ATOMIC_RELAXED);
	return 0;

free_ring:
	free(box->ring);
	box->ring = NULL;
	return ret;
}

/*
 * Takes what goes to `box` out of the calling thread's outbox; NULL means everything. Returns how
 * many.
 */
static unsigned int
outbox_forget(const struct vhub_mailbox *box)
{
	struct vhub_msg **link = &outbox_self.head;
	unsigned int n = 0;
	struct vhub_msg *msg;

	while ((msg = *link) != NULL) {
		if (box == NULL || msg->dest == box) {
			*link = msg->next;
			n++;
			continue;
		}
		outbox_self.tail = msg;
		link = &msg->next;
	}
	return n;
}

unsigned int
outbox_drop(void)
{
	return outbox_forget(NULL);
}

void
vhub_mailbox_fini(struct vhub_mailbox *box)
{
	if (box->ring == NULL)
		return;
	outbox_forget(box);
	close(box->event_fd);
	free(box->ring);
	box->ring = NULL;
}

/* Puts one message into the ring and wakes its receiver. Returns false when the ring is full. */
static bool
mailbox_put(struct vhub_mailbox *box, struct vhub_msg *msg)
{
	if (rte_ring_enqueue(box->ring, msg) != 0)
		return false;
	/*
	 * Pairs with the fence in vhub_mailbox_sleep_begin(): either the receiver's look at the
	 * ring sees the message or we see `sleeping`. Where another sender is still inside its
	 * enqueue, RTS publishes our message together with that one's, and its own pass through
	 * here wakes the receiver.
	 */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&box->sleeping, __ATOMIC_RELAXED) != 0)
		/*
		 * Fails only with EAGAIN at 2^64-2 pending wakes, and then it is readable anyway.
		 */
		eventfd_write(box->event_fd, 1);
	return true;
}

void
vhub_mailbox_post(struct vhub_mailbox *box, struct vhub_msg *msg)
{
	/*
	 * Behind anything that waits, even if it goes elsewhere: the order per mailbox costs no
	 * search then.
	 */
	if (likely(outbox_empty()) && likely(mailbox_put(box, msg)))
		return;
	msg->dest = box;
	msg->next = NULL;
	if (outbox_self.head == NULL)
		outbox_self.head = msg;
	else
		outbox_self.tail->next = msg;
	outbox_self.tail = msg;
}

static bool
is_one_of(const struct vhub_mailbox *box, struct vhub_mailbox *const *set, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		if (set[i] == box)
			return true;
	}
	return false;
}

bool
vhub_outbox_flush(void)
{
	struct vhub_msg **link = &outbox_self.head, *msg, *next, *kept = NULL;
	struct vhub_mailbox *full[OUTBOX_MAX_FULL];
	unsigned int n_full = 0;

	while ((msg = *link) != NULL) {
		/* Once one message for a mailbox stays, later ones for it must stay behind it. */
		if (!is_one_of(msg->dest, full, n_full)) {
			if (n_full == OUTBOX_MAX_FULL)
				return false;
			next = msg->next; /* the receiver may use the message again at once */
			if (mailbox_put(msg->dest, msg)) {
				*link = next;
				continue;
			}
			full[n_full++] = msg->dest;
		}
		kept = msg;
		link = &msg->next;
	}
	outbox_self.tail = kept;
	return outbox_empty();
}

unsigned int
vhub_mailbox_run(struct vhub_mailbox *box, unsigned int max)
{
	struct vhub_msg *msg;
	unsigned int n;
	void *obj;

	for (n = 0; n < max && rte_ring_sc_dequeue(box->ring, &obj) == 0; n++) {
		msg = obj;
		msg->fn(msg);
	}
	return n;
}

bool
vhub_mailbox_sleep_begin(struct vhub_mailbox *box)
{
	__atomic_store_n(&box->sleeping, 1, __ATOMIC_RELAXED);
	/* Pairs with the fence in mailbox_put(). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (mailbox_empty(box))
		return true;
	__atomic_store_n(&box->sleeping, 0, __ATOMIC_RELAXED);
	return false;
}

void
vhub_mailbox_sleep_end(struct vhub_mailbox *box, bool signalled)
{
	eventfd_t wakes;

	__atomic_store_n(&box->sleeping, 0, __ATOMIC_RELAXED);
	/*
	 * A sender that still saw `sleeping` may write after this: the next sleep then ends at
	 * once, which costs one turn and loses nothing.
	 */
	if (signalled)
		eventfd_read(box->event_fd, &wakes);
}
