/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Blocking work. CTL submits; one thread runs a piece after the other, one stands by for the case
 * that a piece is stuck; an eventfd watched by the loop brings the completions back to CTL. A lock
 * is fine here: neither end is a fast path, and it is held for a few instructions. Next on the way:
 * the `done` callbacks of lib/mem, lib/device and lib/blk.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <rte_common.h>

#include "vhub_work.h"

struct work_list {
	struct vhub_work *head;
	struct vhub_work **tail;
};

#define WORK_MAX_THREADS 16
/* A piece that has waited so long for the one before it is taken by another thread. */
#define WORK_PATIENCE_NS 20000000ull
#define WORK_STOP_NS 200000000ull
#define NS_PER_S 1000000000ull

static struct {
	pthread_mutex_t lock;
	pthread_cond_t submitted; /* by CLOCK_MONOTONIC */
	pthread_cond_t ended;	  /* nothing is queued, nothing runs */
	/* under the lock */
	struct work_list todo;
	struct work_list done; /* done_watch.fd is readable while there is something in it */
	bool stopping;
	unsigned int n_running; /* threads that run a piece */
	unsigned int n_threads;
	pthread_t threads[WORK_MAX_THREADS];
	/* CTL */
	bool started;
	struct vhub_loop *loop;
	/* Not a message inside the work: works forgotten by a stop may be freed at once. */
	struct vhub_watch done_watch;
} work_state;

static uint64_t
work_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static struct timespec
work_timespec(uint64_t ns)
{
	return (struct timespec){ .tv_sec = (time_t)(ns / NS_PER_S),
		.tv_nsec = (long)(ns % NS_PER_S) };
}

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

/*
 * CTL: delivers one completion. The event comes again while there are more, and a stop can come in
 * between.
 */
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

/*
 * WORK: one piece, without the lock. `done` is read first: without it, `run` is the last to touch
 * the work.
 */
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

/* Waits for a piece that is this thread's to run, with the lock held. NULL: it is time to end. */
static struct vhub_work *
work_wait(void)
{
	struct timespec due;

	for (;;) {
		if (work_state.todo.head != NULL) {
			if (work_state.n_running == 0 ||
					work_state.todo.head->due_ns <= work_now_ns())
				return work_list_pop(&work_state.todo);
			due = work_timespec(work_state.todo.head->due_ns);
			pthread_cond_timedwait(&work_state.submitted, &work_state.lock, &due);
		} else if (work_state.stopping) {
			return NULL;
		} else {
			pthread_cond_wait(&work_state.submitted, &work_state.lock);
		}
	}
}

static int
work_spawn(void);

static void *
work_main(void *arg)
{
	struct vhub_work *work;

	RTE_SET_USED(arg);
	pthread_mutex_lock(&work_state.lock);
	while ((work = work_wait()) != NULL) {
		/*
		 * Somebody stands by, if he can be had: without him a stuck piece would hold up the
		 * next.
		 */
		if (++work_state.n_running == work_state.n_threads && !work_state.stopping)
			work_spawn();
		pthread_mutex_unlock(&work_state.lock);
		work_run(work);
		pthread_mutex_lock(&work_state.lock);
		if (--work_state.n_running == 0 && work_state.todo.head == NULL)
			pthread_cond_broadcast(&work_state.ended);
		/* Whoever waits for the head to become due may take it now. */
		pthread_cond_signal(&work_state.submitted);
	}
	pthread_mutex_unlock(&work_state.lock);
	return NULL;
}

/*
 * Creates a thread with everything blocked but the signals of its own faults (the SIGBUS guard
 * needs them).
 */
static int
work_spawn(void)
{
	pthread_t *thread = &work_state.threads[work_state.n_threads];
	sigset_t block, old;
	int ret;

	if (work_state.n_threads == WORK_MAX_THREADS)
		return -EAGAIN;
	sigfillset(&block);
	sigdelset(&block, SIGBUS);
	sigdelset(&block, SIGSEGV);
	sigdelset(&block, SIGFPE);
	sigdelset(&block, SIGILL);
	sigdelset(&block, SIGTRAP);
	pthread_sigmask(SIG_SETMASK, &block, &old);
	ret = pthread_create(thread, NULL, work_main, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret != 0)
		return -ret;
	pthread_setname_np(*thread, "vhub-work");
	work_state.n_threads++;
	return 0;
}

static void
work_init(struct vhub_loop *loop)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&work_state.lock, NULL);
	pthread_cond_init(&work_state.submitted, &attr);
	pthread_cond_init(&work_state.ended, &attr);
	pthread_condattr_destroy(&attr);
	work_list_init(&work_state.todo);
	work_list_init(&work_state.done);
	work_state.stopping = false;
	work_state.n_running = 0;
	work_state.n_threads = 0;
	work_state.loop = loop;
}

int
vhub_work_start(struct vhub_loop *loop)
{
	int ret;

	if (work_state.started)
		return -EALREADY;
	work_init(loop);
	work_state.done_watch.fn = work_deliver;
	work_state.done_watch.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (work_state.done_watch.fd < 0)
		return -errno;
	ret = vhub_loop_watch(loop, &work_state.done_watch, EPOLLIN);
	if (ret != 0)
		goto close_fd;
	pthread_mutex_lock(&work_state.lock);
	ret = work_spawn();
	pthread_mutex_unlock(&work_state.lock);
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

int
vhub_work_stop(void)
{
	const struct timespec end = work_timespec(work_now_ns() + WORK_STOP_NS);

	if (!work_state.started)
		return 0;
	pthread_mutex_lock(&work_state.lock);
	work_state.stopping = true;
	pthread_cond_broadcast(&work_state.submitted);
	pthread_mutex_unlock(&work_state.lock);
	/* No thread is made any more, so n_threads stands still. */
	for (; work_state.n_threads > 0; work_state.n_threads--) {
		if (pthread_clockjoin_np(work_state.threads[work_state.n_threads - 1], NULL,
				    CLOCK_MONOTONIC, &end) != 0)
			return -EBUSY;
	}
	vhub_loop_unwatch(work_state.loop, &work_state.done_watch);
	close(work_state.done_watch.fd);
	work_state.started = false;
	return 0;
}

struct vhub_loop *
vhub_work_loop(void)
{
	return work_state.started ? work_state.loop : NULL;
}

void
vhub_work_wait(void)
{
	if (!work_state.started)
		return;
	pthread_mutex_lock(&work_state.lock);
	while (work_state.n_running != 0 || work_state.todo.head != NULL)
		pthread_cond_wait(&work_state.ended, &work_state.lock);
	pthread_mutex_unlock(&work_state.lock);
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
	work->due_ns = work_now_ns() + WORK_PATIENCE_NS;
	pthread_mutex_lock(&work_state.lock);
	work_list_push(&work_state.todo, work);
	pthread_cond_signal(&work_state.submitted);
	pthread_mutex_unlock(&work_state.lock);
}
