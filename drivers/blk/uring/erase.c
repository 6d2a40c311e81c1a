/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The eraser: a thread of a disk on a block device, for the ioctls that discard and erase, since
 * they block and io_uring has none of them on the kernels that we run on. Called by io.c and
 * range.c's decisions; lcores hand slots over by a list that is pushed atomically, and get them back
 * by another one, which belongs to their queue. There is no thread for files.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/fs.h>

#include "uring_pvt.h"
#include "vhub_lcore.h"
#include "vhub_thread.h"

struct uring_eraser {
	pthread_t thread;
	int disk_fd;
	int wake_fd; /* written by lcores, read by the thread, which sleeps there */
	/* Shared atomic. */
	struct uring_slot *todo; /* the last one first */
	uint32_t stop;
};

static void
push(struct uring_slot **list, struct uring_slot *slot)
{
	slot->next = __atomic_load_n(list, __ATOMIC_RELAXED);
	/* Pairs with take_all(): what the slot holds is seen by who takes it. */
	while (!__atomic_compare_exchange_n(list, &slot->next, slot, true, __ATOMIC_RELEASE,
			__ATOMIC_RELAXED))
		;
}

/* In the order in which they were pushed. */
static struct uring_slot *
take_all(struct uring_slot **list)
{
	/* Pairs with push(). */
	struct uring_slot *newest = __atomic_exchange_n(list, NULL, __ATOMIC_ACQUIRE);
	struct uring_slot *first = NULL;

	while (newest != NULL) {
		struct uring_slot *next = newest->next;

		newest->next = first;
		first = newest;
		newest = next;
	}
	return first;
}

static void
wake(struct uring_eraser *eraser)
{
	/* A counter that is full wakes as well. */
	while (eventfd_write(eraser->wake_fd, 1) != 0 && errno == EINTR)
		;
}

static void
erase(struct uring_eraser *eraser, struct uring_slot *slot)
{
	const struct vhub_blk_io *io = slot->io;
	uint64_t range[2] = { io->offset_bytes, io->len_bytes };
	unsigned long request = io->op == VHUB_BLK_SECURE_ERASE ? BLKSECDISCARD : BLKDISCARD;
	struct uring_queue *q = slot->queue;

	/* Relaxed: it may as well have begun a moment ago. */
	if (__atomic_load_n(&slot->cancelled, __ATOMIC_RELAXED))
		slot->erase_result = -ECANCELED;
	else
		slot->erase_result = ioctl(eraser->disk_fd, request, range) == 0 ? 0 : -errno;
	if (slot->erase_result == 0 && (io->flags & VHUB_BLK_IO_FUA) != 0 &&
			fdatasync(eraser->disk_fd) != 0) {
		slot->erase_result = -errno;
		lost_look(q->disk, LOST_BY_SYNC, slot->erase_result);
	}
	push(&q->erase_done, slot);
	if (q->lcore != NULL)
		vhub_lcore_wake(q->lcore);
	/* Pairs with eraser_leave(): the queue may go now. */
	__atomic_fetch_sub(&q->n_erasing, 1, __ATOMIC_RELEASE);
}

static void *
eraser_main(void *arg)
{
	struct uring_eraser *eraser = arg;
	eventfd_t unused;

	/* Pairs with the store in eraser_stop(). */
	while (__atomic_load_n(&eraser->stop, __ATOMIC_ACQUIRE) == 0) {
		struct uring_slot *slot = take_all(&eraser->todo);

		if (slot == NULL)
			eventfd_read(eraser->wake_fd, &unused);
		while (slot != NULL) {
			/* The slot is its queue's again as soon as it is done. */
			struct uring_slot *next = slot->next;

			erase(eraser, slot);
			slot = next;
		}
	}
	return NULL;
}

int
eraser_start(struct uring_disk *d)
{
	struct uring_eraser *eraser;
	int ret;

	if (!d->block_device ||
			(d->info.discard_max_bytes == 0 && d->info.secure_erase_max_bytes == 0))
		return 0;
	eraser = calloc(1, sizeof(*eraser));
	if (eraser == NULL)
		return -ENOMEM;
	eraser->disk_fd = d->fd;
	eraser->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (eraser->wake_fd < 0) {
		ret = -errno;
		goto err_free;
	}
	ret = vhub_thread_start(&eraser->thread, "vhub-erase", eraser_main, eraser);
	if (ret != 0)
		goto err_close;
	d->eraser = eraser;
	return 0;

err_close:
	close(eraser->wake_fd);
err_free:
	free(eraser);
	return ret;
}

void
eraser_stop(struct uring_eraser *eraser)
{
	if (eraser == NULL)
		return;
	/* Pairs with the load in eraser_main(). */
	__atomic_store_n(&eraser->stop, 1, __ATOMIC_RELEASE);
	wake(eraser);
	pthread_join(eraser->thread, NULL);
	close(eraser->wake_fd);
	free(eraser);
}

void
eraser_submit(struct uring_queue *q, struct uring_slot *slot)
{
	struct uring_eraser *eraser = q->disk->eraser;

	slot->queue = q;
	__atomic_fetch_add(&q->n_erasing, 1, __ATOMIC_RELAXED);
	push(&eraser->todo, slot);
	wake(eraser);
}

struct uring_slot *
eraser_reap(struct uring_queue *q)
{
	struct uring_slot *slot;

	if (q->erased == NULL && __atomic_load_n(&q->erase_done, __ATOMIC_RELAXED) != NULL)
		q->erased = take_all(&q->erase_done);
	slot = q->erased;
	if (slot != NULL)
		q->erased = slot->next;
	return slot;
}

bool
eraser_has_some(const struct uring_queue *q)
{
	return q->erased != NULL || __atomic_load_n(&q->erase_done, __ATOMIC_RELAXED) != NULL;
}

void
eraser_leave(struct uring_queue *q)
{
	/*
	 * Pairs with the end of erase(), which is between its last step and this one; perhaps for a
	 * while, when it was put off this CPU there.
	 */
	while (__atomic_load_n(&q->n_erasing, __ATOMIC_ACQUIRE) != 0)
		sched_yield();
}
