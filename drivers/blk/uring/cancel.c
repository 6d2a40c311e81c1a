/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * I/Os that are wanted back, because somebody else is going to do them: what has not begun is taken
 * off its list, what the kernel has is asked for by IORING_OP_ASYNC_CANCEL. The kernel aborts what
 * waits for one of its threads; what a device or the page cache is at work on, it lets end. Either way
 * the I/O is over only with the completion of its step, after which nothing is stored of it any more.
 * Called by lib/blk; io.c's reap comes next.
 */
#include <rte_common.h>

#include "uring_pvt.h"

/* Takes those that are wanted off a list of slots whose next step has not begun. */
static void
take_back(struct uring_queue *q, struct uring_list *list, vhub_blk_pick_fn wanted, const void *arg)
{
	struct uring_slot *slot = list->first, *next;

	uring_list_init(list);
	for (; slot != NULL; slot = next) {
		next = slot->next;
		slot->cancelled = wanted(slot->io, arg);
		uring_list_add(slot->cancelled ? &q->cancelled : list, slot);
	}
}

/* Its own completion has no slot. */
static void
ask_kernel(struct uring_queue *q, struct uring_slot *slot)
{
	struct io_uring *ring = uring_ring_of(q, slot);
	struct io_uring_sqe *sqe;

	/* A device is at work on what is polled for, and its ring takes nothing else. */
	if (q->has_side && ring == &q->ring)
		return;
	sqe = io_uring_get_sqe(ring);
	if (sqe == NULL) {
		io_uring_submit(ring);
		sqe = io_uring_get_sqe(ring);
	}
	if (sqe == NULL) /* the kernel takes nothing now: the step completes as ever */
		return;
	io_uring_prep_cancel(sqe, slot, 0);
	io_uring_sqe_set_data(sqe, NULL);
	q->n_under_way++;
}

void
uring_cancel(struct vhub_blk_queue *queue, vhub_blk_pick_fn wanted, const void *arg)
{
	struct uring_queue *q = uring_queue_of(queue);

	take_back(q, &q->ready, wanted, arg);
	take_back(q, &q->inline_ready, wanted, arg);
	for (unsigned int i = 0; i < RTE_DIM(q->slots); i++) {
		struct uring_slot *slot = &q->slots[i];

		if (slot->io == NULL || slot->cancelled || !wanted(slot->io, arg))
			continue;
		/* Relaxed: the eraser heeds it if it sees it in time. */
		__atomic_store_n(&slot->cancelled, true, __ATOMIC_RELAXED);
		if (!slot->by_eraser)
			ask_kernel(q, slot);
	}
	if (io_uring_sq_ready(&q->ring) != 0)
		io_uring_submit(&q->ring);
	if (q->has_side && io_uring_sq_ready(&q->side) != 0)
		io_uring_submit(&q->side);
}
