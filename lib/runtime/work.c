/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The blocking-work thread. CTL submits; the thread runs one piece after the other; an eventfd watched by the
 * loop brings the completions back to CTL. A lock is fine here: neither end is a fast path, and it is held for a
 * few instructions. Next on the way: the `done` callbacks of lib/mem, lib/device and lib/blk.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <rte_common.h>

#include "vhub_work.h"

struct work_list {
	struct vhub_work *head;
	struct vhub_work **tail;
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t submitted;
	/* under the lock */
	struct work_list todo;
	struct work_list done; /* done_watch.fd is readable while there is something in it */
	bool stopping;
	/* CTL */
	bool started;
	pthread_t thread;
	struct vhub_loop *loop;
	/* Not a message inside the work: works forgotten by a stop may be freed at once. */
	struct vhub_watch done_watch;
} work_state = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.submitted = PTHREAD_COND_INITIALIZER,
};

static void
work_list_init(struct work_list *list)
{
	list->head = NULL;
	list->tail = &list->head;
}

static void
work_list_push(struct work_list *list, struct vhub_work *work)
{
	work->next = NULL;
	*list->tail = work;
	list->tail = &work->next;
}

static struct vhub_work *
work_list_pop(struct work_list *list)
{
	struct vhub_work *work = list->head;

	if (work == NULL)
		return NULL;
	list->head = work->next;
	if (list->head == NULL)
		list->tail = &list->head;
	return work;
}

/* CTL: delivers one completion. The event comes again while there are more, and a stop can come in between. */
static void
work_deliver(struct vhub_watch *watch, uint32_t events)
{
	struct vhub_work *work;
	eventfd_t wakes;

	RTE_SET_USED(events);
	pthread_mutex_lock(&work_state.lock);
	work = work_list_pop(&work_state.done);
	if (work_state.done.head == NULL)
		eventfd_read(watch->fd, &wakes);
	pthread_mutex_unlock(&work_state.lock);
	if (work != NULL)
		work->done(work);
}

/* WORK: one piece, without the lock. `done` is read first: without it, `run` is the last to touch the work. */
static void
work_run(struct vhub_work *work)
{
	const bool wants_done = work->done != NULL;

	work->run(work);
	if (!wants_done)
		return;
	pthread_mutex_lock(&work_state.lock);
	if (work_state.done.head == NULL)
		eventfd_write(work_state.done_watch.fd, 1);
	work_list_push(&work_state.done, work);
	pthread_mutex_unlock(&work_state.lock);
}

static void *
work_main(void *arg)
{
	struct vhub_work *work;

	RTE_SET_USED(arg);
	pthread_mutex_lock(&work_state.lock);
	for (;;) {
		work = work_list_pop(&work_state.todo);
		if (work != NULL) {
			pthread_mutex_unlock(&work_state.lock);
			work_run(work);
			pthread_mutex_lock(&work_state.lock);
		} else if (work_state.stopping) {
			break;
		} else {
			pthread_cond_wait(&work_state.submitted, &work_state.lock);
		}
	}
	pthread_mutex_unlock(&work_state.lock);
	return NULL;
}

/* Creates the thread with everything blocked but the signals of its own faults (the SIGBUS guard needs them). */
static int
work_spawn(void)
{
	sigset_t block, old;
	int ret;

	sigfillset(&block);
	sigdelset(&block, SIGBUS);
	sigdelset(&block, SIGSEGV);
	sigdelset(&block, SIGFPE);
	sigdelset(&block, SIGILL);
	sigdelset(&block, SIGTRAP);
	pthread_sigmask(SIG_SETMASK, &block, &old);
	ret = pthread_create(&work_state.thread, NULL, work_main, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret == 0)
		pthread_setname_np(work_state.thread, "vhub-work");
	return -ret;
}

int
vhub_work_start(struct vhub_loop *loop)
{
	int ret;

	if (work_state.started)
		return -EALREADY;
	work_list_init(&work_state.todo);
	work_list_init(&work_state.done);
	work_state.stopping = false;
	work_state.loop = loop;
	work_state.done_watch.fn = work_deliver;
	work_state.done_watch.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (work_state.done_watch.fd < 0)
		return -errno;
	ret = vhub_loop_watch(loop, &work_state.done_watch, EPOLLIN);
	if (ret != 0)
		goto close_fd;
	ret = work_spawn();
	if (ret != 0)
		goto unwatch;
	work_state.started = true;
	return 0;

unwatch:
	vhub_loop_unwatch(loop, &work_state.done_watch);
close_fd:
	close(work_state.done_watch.fd);
	return ret;
}

void
vhub_work_stop(void)
{
	if (!work_state.started)
		return;
	pthread_mutex_lock(&work_state.lock);
	work_state.stopping = true;
	pthread_cond_signal(&work_state.submitted);
	pthread_mutex_unlock(&work_state.lock);
	pthread_join(work_state.thread, NULL);
	vhub_loop_unwatch(work_state.loop, &work_state.done_watch);
	close(work_state.done_watch.fd);
	work_state.started = false;
}

void
vhub_work_submit(struct vhub_work *work)
{
	void (*done)(struct vhub_work * work) = work->done;

	if (!work_state.started) {
		work->run(work);
		if (done != NULL)
			done(work);
		return;
	}
	pthread_mutex_lock(&work_state.lock);
	work_list_push(&work_state.todo, work);
	pthread_cond_signal(&work_state.submitted);
	pthread_mutex_unlock(&work_state.lock);
}
