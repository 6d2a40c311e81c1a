/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Blocking work. CTL submits; one thread runs a piece after the other, others stand by for the case
 * that a piece is stuck; an eventfd watched by the loop brings the completions back to CTL. A lock
 * is fine here: neither end is a fast path, and it is held for a few instructions; a thread is
 * created without it. Next on the way: the `done` callbacks of lib/mem, lib/device and lib/blk.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <rte_common.h>

#include "vhub_thread.h"
#include "vhub_work.h"

/* For all but storage and sockets. */
#define WORK_THREADS 64u
/* As many as a vhubd can have disks. */
#define WORK_STORAGE_THREADS 512u
/* The same for sockets' folders. */
#define WORK_SOCKET_THREADS 512u
#define WORK_MAX_THREADS (WORK_THREADS + WORK_STORAGE_THREADS + WORK_SOCKET_THREADS)
/* Threads that are idle, if they can be had: one to begin with what can be stuck, and one that is left then. */
#define WORK_STANDBY 2u
/* A piece that has waited so long for the one before it is taken by another thread. */
#define WORK_PATIENCE_NS 20000000ull
#define WORK_STOP_NS 200000000ull
#define NS_PER_S 1000000000ull

/* Threads of a kind at once: 15 are for ordinary work, however much of the others is stuck. */
static const unsigned int work_max_running[VHUB_WORK_KINDS] = {
	[VHUB_WORK_ORDINARY] = WORK_THREADS,
	[VHUB_WORK_CLOSE] = WORK_THREADS / 2,
	[VHUB_WORK_LIBRARY] = WORK_THREADS / 4,
	[VHUB_WORK_STORAGE] = WORK_STORAGE_THREADS,
	[VHUB_WORK_KICK] = 1,
	[VHUB_WORK_SOCKET] = WORK_SOCKET_THREADS,
};

struct work_list {
	struct vhub_work *head;
	struct vhub_work **tail;
};

/* The pieces of one kind. */
struct work_class {
	struct work_list todo;
	unsigned int n_running;
};

struct work_thread {
	struct work_pool *pool;
	pthread_t id;
	/* under the lock */
	bool running;	  /* a piece */
	bool left_behind; /* by the stop: nobody joins it */
};

/* From a start to its stop, and then until the last thread that was left behind has ended. */
struct work_pool {
	pthread_mutex_t lock;
	/* by CLOCK_MONOTONIC */
	pthread_cond_t submitted;
	pthread_cond_t ended; /* of a kind nothing is queued, nothing runs; or a spawn has ended */
	/* under the lock */
	struct work_class classes[VHUB_WORK_KINDS];
	struct work_list done; /* done_watch.fd is readable while there is something in it */
	bool stopping;	       /* nothing is submitted any more, no thread is made */
	bool stopped;	       /* only threads that were left behind go on */
	bool spawning;	       /* a thread is being created; threads[n_threads] is its place */
	unsigned int n_users;  /* of this memory: who has started it, and threads left behind */
	unsigned int n_threads;
	struct work_thread threads[WORK_MAX_THREADS];
	/* CTL */
	struct vhub_loop *loop;
	/* Not a message inside the work: works forgotten by a stop may be freed at once. */
	struct vhub_watch done_watch;
};

/* CTL: NULL while it is not started. */
static struct work_pool *work_pool;

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
	struct work_pool *pool = vhub_container_of(watch, struct work_pool, done_watch);
	struct vhub_work *work;
	eventfd_t wakes;

	RTE_SET_USED(events);
	pthread_mutex_lock(&pool->lock);
	work = work_list_pop(&pool->done);
	if (pool->done.head == NULL)
		eventfd_read(watch->fd, &wakes);
	pthread_mutex_unlock(&pool->lock);
	if (work != NULL)
		work->done(work);
}

/*
 * WORK: one piece, without the lock. `done` is read first: without it, `run` is the last to touch
 * the work.
 */
static void
work_run(struct work_pool *pool, struct vhub_work *work)
{
	const bool wants_done = work->done != NULL;

	work->run(work);
	if (!wants_done)
		return;
	pthread_mutex_lock(&pool->lock);
	if (pool->done.head == NULL)
		eventfd_write(pool->done_watch.fd, 1);
	work_list_push(&pool->done, work);
	pthread_mutex_unlock(&pool->lock);
}

static bool
work_class_is_idle(const struct work_class *class)
{
	return class->n_running == 0 && class->todo.head == NULL;
}

static bool
work_is_queued(const struct work_pool *pool)
{
	for (unsigned int kind = 0; kind < VHUB_WORK_KINDS; kind++) {
		if (pool->classes[kind].todo.head != NULL)
			return true;
	}
	return false;
}

/* All but closes, which nobody waits for at the end. */
static bool
work_is_idle(const struct work_pool *pool)
{
	for (unsigned int kind = 0; kind < VHUB_WORK_KINDS; kind++) {
		if (kind != VHUB_WORK_CLOSE && !work_class_is_idle(&pool->classes[kind]))
			return false;
	}
	return true;
}

static bool
work_all_is_idle(const struct work_pool *pool)
{
	return work_is_idle(pool) && work_class_is_idle(&pool->classes[VHUB_WORK_CLOSE]);
}

/* Threads that run a piece. */
static unsigned int
work_n_running(const struct work_pool *pool)
{
	unsigned int n = 0;

	for (unsigned int kind = 0; kind < VHUB_WORK_KINDS; kind++)
		n += pool->classes[kind].n_running;
	return n;
}

/*
 * Whether an idle thread may begin with a piece of that kind. Not the last idle one with what can be stuck
 * for long, even if no more can be had: ordinary work could come.
 */
static bool
work_may_begin(const struct work_pool *pool, enum vhub_work_kind kind)
{
	if (pool->classes[kind].n_running == work_max_running[kind])
		return false;
	if (kind == VHUB_WORK_ORDINARY)
		return true;
	if (pool->stopping)
		return pool->classes[VHUB_WORK_ORDINARY].todo.head == NULL;
	return work_n_running(pool) + 1 < pool->n_threads;
}

/*
 * Takes a piece that an idle thread should run now, with the lock held. NULL: there is none, and
 * *due_ns is when to look again, UINT64_MAX: when something changes.
 */
static struct vhub_work *
work_take(struct work_pool *pool, uint64_t *due_ns)
{
	const uint64_t now_ns = vhub_now_ns();

	*due_ns = UINT64_MAX;
	for (unsigned int kind = 0; kind < VHUB_WORK_KINDS; kind++) {
		struct work_class *class = &pool->classes[kind];

		if (class->todo.head == NULL)
			continue;
		if (class->n_running != 0 && class->todo.head->due_ns > now_ns)
			*due_ns = RTE_MIN(*due_ns, class->todo.head->due_ns);
		else if (work_may_begin(pool, kind))
			return work_list_pop(&class->todo);
	}
	return NULL;
}

/* Waits for a piece that is this thread's to run, with the lock held. NULL: it is time to end. */
static struct vhub_work *
work_wait(struct work_thread *thread)
{
	struct work_pool *pool = thread->pool;
	struct vhub_work *work;
	struct timespec due;
	uint64_t due_ns;

	for (;;) {
		if (pool->stopped && !thread->left_behind)
			return NULL;
		work = work_take(pool, &due_ns);
		if (work != NULL)
			return work;
		if (due_ns != UINT64_MAX) {
			due = work_timespec(due_ns);
			pthread_cond_timedwait(&pool->submitted, &pool->lock, &due);
		} else if (pool->stopping) {
			return NULL;
		} else {
			pthread_cond_wait(&pool->submitted, &pool->lock);
		}
	}
}

/* With the lock held, which is given back. */
static void
work_pool_put(struct work_pool *pool)
{
	const bool last = --pool->n_users == 0;

	pthread_mutex_unlock(&pool->lock);
	if (!last)
		return;
	pthread_cond_destroy(&pool->ended);
	pthread_cond_destroy(&pool->submitted);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

static void
work_stand_by(struct work_pool *pool);

/* One piece, from the lock held to the lock held. */
static void
work_serve(struct work_thread *thread, struct vhub_work *work)
{
	struct work_pool *pool = thread->pool;
	struct work_class *class = &pool->classes[work->kind];

	thread->running = true;
	class->n_running++;
	/* Without them a stuck piece would hold up the next. */
	work_stand_by(pool);
	/* What is queued becomes due too, and nobody else may be waiting for that yet. */
	if (work_is_queued(pool))
		pthread_cond_signal(&pool->submitted);
	pthread_mutex_unlock(&pool->lock);
	work_run(pool, work);
	pthread_mutex_lock(&pool->lock);
	thread->running = false;
	class->n_running--;
	if (work_class_is_idle(class))
		pthread_cond_broadcast(&pool->ended);
}

static void *
work_main(void *arg)
{
	struct work_thread *thread = arg;
	struct work_pool *pool = thread->pool;
	struct vhub_work *work;

	pthread_mutex_lock(&pool->lock);
	while ((work = work_wait(thread)) != NULL)
		work_serve(thread, work);
	if (thread->left_behind)
		work_pool_put(pool);
	else
		pthread_mutex_unlock(&pool->lock);
	return NULL;
}

/*
 * Creates a thread. From the lock held to the lock held, but without it in between: a stack is
 * mapped, and for that the kernel waits for whoever maps or unmaps something else.
 */
static int
work_spawn(struct work_pool *pool)
{
	struct work_thread *thread = &pool->threads[pool->n_threads];
	int ret;

	if (pool->spawning || pool->n_threads == WORK_MAX_THREADS)
		return -EAGAIN;
	pool->spawning = true;
	pthread_mutex_unlock(&pool->lock);
	thread->pool = pool;
	ret = vhub_thread_start(&thread->id, "vhub-work", work_main, thread);
	pthread_mutex_lock(&pool->lock);
	pool->spawning = false;
	pthread_cond_broadcast(&pool->ended);
	if (ret != 0)
		return ret;
	pool->n_threads++;
	return 0;
}

/* As many threads as are to be idle, with the lock held; it may be given back in between. */
static void
work_stand_by(struct work_pool *pool)
{
	while (!pool->stopping && work_n_running(pool) + WORK_STANDBY > pool->n_threads &&
			work_spawn(pool) == 0)
		;
}

static struct work_pool *
work_pool_create(struct vhub_loop *loop)
{
	struct work_pool *pool = calloc(1, sizeof(*pool));
	pthread_condattr_t attr;

	if (pool == NULL)
		return NULL;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->submitted, &attr);
	pthread_cond_init(&pool->ended, &attr);
	pthread_condattr_destroy(&attr);
	for (unsigned int kind = 0; kind < VHUB_WORK_KINDS; kind++)
		work_list_init(&pool->classes[kind].todo);
	work_list_init(&pool->done);
	pool->n_users = 1;
	pool->loop = loop;
	pool->done_watch.fn = work_deliver;
	return pool;
}

/* With the lock held, which is given back: the threads are idle, or close. */
static void
work_pool_end(struct work_pool *pool)
{
	pool->stopped = true;
	pthread_cond_broadcast(&pool->submitted);
	for (unsigned int i = 0; i < pool->n_threads; i++) {
		if (!pool->threads[i].running)
			continue;
		pool->threads[i].left_behind = true;
		pool->n_users++;
		pthread_detach(pool->threads[i].id);
	}
	pthread_mutex_unlock(&pool->lock);
	for (unsigned int i = 0; i < pool->n_threads; i++) {
		if (!pool->threads[i].left_behind)
			pthread_join(pool->threads[i].id, NULL);
	}
	pthread_mutex_lock(&pool->lock);
	work_pool_put(pool);
}

int
vhub_work_start(struct vhub_loop *loop)
{
	struct work_pool *pool;
	int ret;

	if (work_pool != NULL)
		return -EALREADY;
	pool = work_pool_create(loop);
	if (pool == NULL)
		return -ENOMEM;
	pool->done_watch.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (pool->done_watch.fd < 0) {
		ret = -errno;
		goto end_pool;
	}
	ret = vhub_loop_watch(loop, &pool->done_watch, EPOLLIN);
	if (ret != 0)
		goto close_fd;
	pthread_mutex_lock(&pool->lock);
	for (unsigned int i = 0; i < WORK_STANDBY && ret == 0; i++)
		ret = work_spawn(pool);
	pthread_mutex_unlock(&pool->lock);
	if (ret != 0)
		goto unwatch;
	work_pool = pool;
	return 0;

unwatch:
	vhub_loop_unwatch(loop, &pool->done_watch);
close_fd:
	close(pool->done_watch.fd);
end_pool:
	pthread_mutex_lock(&pool->lock);
	work_pool_end(pool);
	return ret;
}

int
vhub_work_stop(void)
{
	const struct timespec end = work_timespec(vhub_now_ns() + WORK_STOP_NS);
	struct work_pool *pool = work_pool;

	if (pool == NULL)
		return 0;
	pthread_mutex_lock(&pool->lock);
	pool->stopping = true;
	pthread_cond_broadcast(&pool->submitted);
	while ((!work_all_is_idle(pool) || pool->spawning) &&
			pthread_cond_timedwait(&pool->ended, &pool->lock, &end) == 0)
		;
	if (!work_is_idle(pool) || pool->spawning) {
		pthread_mutex_unlock(&pool->lock);
		return -EBUSY;
	}
	vhub_loop_unwatch(pool->loop, &pool->done_watch);
	close(pool->done_watch.fd);
	work_pool_end(pool);
	work_pool = NULL;
	return 0;
}

struct vhub_loop *
vhub_work_loop(void)
{
	return work_pool != NULL ? work_pool->loop : NULL;
}

void
vhub_work_wait(enum vhub_work_kind kind)
{
	struct work_pool *pool = work_pool;

	if (pool == NULL)
		return;
	pthread_mutex_lock(&pool->lock);
	while (!work_class_is_idle(&pool->classes[kind]))
		pthread_cond_wait(&pool->ended, &pool->lock);
	pthread_mutex_unlock(&pool->lock);
}

void
vhub_work_submit(struct vhub_work *work)
{
	void (*done)(struct vhub_work * work) = work->done;
	struct work_pool *pool = work_pool;

	if (pool == NULL) {
		work->run(work);
		if (done != NULL)
			done(work);
		return;
	}
	work->due_ns = vhub_now_ns() + WORK_PATIENCE_NS;
	pthread_mutex_lock(&pool->lock);
	work_list_push(&pool->classes[work->kind].todo, work);
	pthread_cond_signal(&pool->submitted);
	pthread_mutex_unlock(&pool->lock);
}
