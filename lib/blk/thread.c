/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A thread of a disk (vhub_blk_thread.h). Called by drivers, on CTL where disks come and go, and on
 * lcores. An I/O goes there by a list that is pushed atomically, and comes back by another one, which
 * belongs to its queue; who reads a list takes all of it.
 */
#include <errno.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vhub_blk_thread.h"
#include "vhub_lcore.h"
#include "vhub_thread.h"

/* The field of struct vhub_blk_io that is ours. */
#define IO_AWAY 0

static void
push(struct vhub_blk_io **list, struct vhub_blk_io *io)
{
	io->next = __atomic_load_n(list, __ATOMIC_RELAXED);
	/* Pairs with take_all(): what the I/O holds is seen by who takes it. */
	while (!__atomic_compare_exchange_n(list, &io->next, io, true, __ATOMIC_RELEASE,
			__ATOMIC_RELAXED))
		;
}

/* In the order in which they were pushed. */
static struct vhub_blk_io *
take_all(struct vhub_blk_io **list)
{
	/* Pairs with push(). */
	struct vhub_blk_io *newest = __atomic_exchange_n(list, NULL, __ATOMIC_ACQUIRE);
	struct vhub_blk_io *first = NULL;

	while (newest != NULL) {
		struct vhub_blk_io *next = newest->next;

		newest->next = first;
		first = newest;
		newest = next;
	}
	return first;
}

static void
wake(struct vhub_blk_thread *thread)
{
	/* A counter that is full wakes as well. */
	while (eventfd_write(thread->wake_fd, 1) != 0 && errno == EINTR)
		;
}

/* ---- the thread ---- */

void
vhub_blk_thread_give_back(struct vhub_blk_io *io, int result)
{
	struct vhub_blk_away *away = (struct vhub_blk_away *)(uintptr_t)io->driver[IO_AWAY];

	io->result = result;
	push(&away->done, io);
	if (away->lcore != NULL)
		vhub_lcore_wake(away->lcore);
	/* Pairs with vhub_blk_away_leave(): the queue may go now. */
	__atomic_fetch_sub(&away->n, 1, __ATOMIC_RELEASE);
}

static void *
thread_main(void *arg)
{
	struct vhub_blk_thread *thread = arg;
	eventfd_t unused;

	/* Pairs with the store in vhub_blk_thread_stop(). */
	while (__atomic_load_n(&thread->stop, __ATOMIC_ACQUIRE) == 0) {
		struct vhub_blk_io *first = take_all(&thread->todo);

		if (first == NULL)
			eventfd_read(thread->wake_fd, &unused);
		else
			thread->serve(thread, first);
	}
	return NULL;
}

int
vhub_blk_thread_start(struct vhub_blk_thread *thread, const char *name)
{
	int ret;

	thread->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (thread->wake_fd < 0)
		return -errno;
	ret = vhub_thread_start(&thread->id, name, thread_main, thread);
	if (ret != 0)
		close(thread->wake_fd);
	return ret;
}

void
vhub_blk_thread_stop(struct vhub_blk_thread *thread)
{
	/* Pairs with the load in thread_main(). */
	__atomic_store_n(&thread->stop, 1, __ATOMIC_RELEASE);
	wake(thread);
	pthread_join(thread->id, NULL);
	close(thread->wake_fd);
}

/* ---- on lcores ---- */

void
vhub_blk_thread_submit(struct vhub_blk_thread *thread, struct vhub_blk_away *away,
		struct vhub_blk_io *io)
{
	io->driver[IO_AWAY] = (uintptr_t)away;
	__atomic_fetch_add(&away->n, 1, __ATOMIC_RELAXED);
	push(&thread->todo, io);
	wake(thread);
}

struct vhub_blk_io *
vhub_blk_away_reap(struct vhub_blk_away *away)
{
	struct vhub_blk_io *io;

	if (away->first == NULL && __atomic_load_n(&away->done, __ATOMIC_RELAXED) != NULL)
		away->first = take_all(&away->done);
	io = away->first;
	if (io != NULL)
		away->first = io->next;
	return io;
}

bool
vhub_blk_away_has_some(const struct vhub_blk_away *away)
{
	return away->first != NULL || __atomic_load_n(&away->done, __ATOMIC_RELAXED) != NULL;
}

void
vhub_blk_away_cancel(struct vhub_blk_away *away, struct vhub_blk_thread *thread,
		vhub_blk_pick_fn wanted, const void *arg)
{
	struct vhub_blk_io *io = take_all(&thread->todo);
	bool others = false;

	while (io != NULL) {
		struct vhub_blk_io *next = io->next;

		if (io->driver[IO_AWAY] == (uintptr_t)away && wanted(io, arg)) {
			io->result = -ECANCELED;
			io->next = away->first;
			away->first = io;
			__atomic_fetch_sub(&away->n, 1, __ATOMIC_RELAXED);
		} else {
			push(&thread->todo, io);
			others = true;
		}
		io = next;
	}
	/* It may have looked meanwhile, and found none. */
	if (others)
		wake(thread);
}

void
vhub_blk_away_leave(struct vhub_blk_away *away)
{
	/*
	 * Pairs with the end of vhub_blk_thread_give_back(), which is between its last step and this one;
	 * perhaps for a while, when it was put off this CPU there.
	 */
	while (__atomic_load_n(&away->n, __ATOMIC_ACQUIRE) != 0)
		sched_yield();
}
