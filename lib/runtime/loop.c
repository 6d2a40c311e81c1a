/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control loop: one turn runs the deferred tasks, the messages, the timers that are due, and
 * then what epoll tells, sleeping there when nothing else is left. vhubd's main thread runs it, as
 * does vhub_run_device(). Next on the way: the callbacks of lib/conn, lib/device and lib/mem.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <rte_common.h>

#include "loop_pvt.h"
#include "msg_pvt.h"

/* Messages that fit before senders keep them in their outboxes. */
#define LOOP_MAILBOX_CAPACITY 4096
/* How soon a loop with a full outbox tries again. */
#define LOOP_OUTBOX_RETRY_NS 1000000ull

/* The loop that runs on this thread. */
static __thread struct vhub_loop *loop_running;

/* loop_wait() has emptied the eventfd already; the messages run on the next turn. */
static void
loop_on_mailbox(struct vhub_watch *watch, uint32_t events)
{
	RTE_SET_USED(watch);
	RTE_SET_USED(events);
}

int
vhub_loop_create(struct vhub_loop **out)
{
	struct vhub_loop *loop;
	int ret;

	loop = calloc(1, sizeof(*loop));
	if (loop == NULL)
		return -ENOMEM;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0) {
		ret = -errno;
		goto free_loop;
	}
	ret = vhub_mailbox_init(&loop->box, LOOP_MAILBOX_CAPACITY);
	if (ret != 0)
		goto close_epoll;
	loop->box_watch.fd = loop->box.event_fd;
	loop->box_watch.fn = loop_on_mailbox;
	ret = vhub_loop_watch(loop, &loop->box_watch, EPOLLIN);
	if (ret != 0)
		goto fini_box;
	*out = loop;
	return 0;

fini_box:
	vhub_mailbox_fini(&loop->box);
close_epoll:
	close(loop->epoll_fd);
free_loop:
	free(loop);
	return ret;
}

void
vhub_loop_destroy(struct vhub_loop *loop)
{
	if (loop == NULL)
		return;
	vhub_mailbox_fini(&loop->box);
	close(loop->epoll_fd);
	free(loop);
}

static int
loop_epoll_ctl(struct vhub_loop *loop, int op, struct vhub_watch *watch, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = watch };

	return epoll_ctl(loop->epoll_fd, op, watch->fd, &event) != 0 ? -errno : 0;
}

/* Keeps of what was fetched for `watch` and not yet dispatched only the events in `mask`. */
static void
loop_mask_fetched(struct vhub_loop *loop, const struct vhub_watch *watch, uint32_t mask)
{
	for (int i = loop->next_event; i < loop->n_events; i++) {
		if (loop->events[i].data.ptr == watch)
			loop->events[i].events &= mask;
	}
}

int
vhub_loop_watch(struct vhub_loop *loop, struct vhub_watch *watch, uint32_t events)
{
	return loop_epoll_ctl(loop, EPOLL_CTL_ADD, watch, events);
}

int
vhub_loop_rewatch(struct vhub_loop *loop, struct vhub_watch *watch, uint32_t events)
{
	loop_mask_fetched(loop, watch, events | EPOLLERR | EPOLLHUP);
	return loop_epoll_ctl(loop, EPOLL_CTL_MOD, watch, events);
}

void
vhub_loop_unwatch(struct vhub_loop *loop, struct vhub_watch *watch)
{
	loop_mask_fetched(loop, watch, 0);
	loop_epoll_ctl(loop, EPOLL_CTL_DEL, watch, 0);
}

void
vhub_loop_defer(struct vhub_loop *loop, struct vhub_task *task)
{
	struct vhub_task **link;

	if (task->queued)
		return;
	for (link = &loop->tasks; *link != NULL; link = &(*link)->next)
		;
	task->next = NULL;
	task->queued = true;
	*link = task;
}

/* Returns whether `task` was on the list. */
static bool
task_unlink(struct vhub_task **link, struct vhub_task *task)
{
	for (; *link != NULL; link = &(*link)->next) {
		if (*link == task) {
			*link = task->next;
			return true;
		}
	}
	return false;
}

void
vhub_loop_undefer(struct vhub_loop *loop, struct vhub_task *task)
{
	if (!task->queued)
		return;
	if (!task_unlink(&loop->tasks_now, task))
		task_unlink(&loop->tasks, task);
	task->queued = false;
}

void
vhub_loop_post(struct vhub_loop *loop, struct vhub_msg *msg)
{
	vhub_mailbox_post(&loop->box, msg);
}

void
vhub_loop_stop(struct vhub_loop *loop, int result)
{
	loop->result = result;
	loop->stopping = true;
}

bool
vhub_loop_running(void)
{
	return loop_running != NULL;
}

/* Runs the tasks deferred before this turn; what they defer waits for the next. */
static void
loop_run_tasks(struct vhub_loop *loop)
{
	struct vhub_task *task;

	/* A run that was stopped among its tasks has left the rest here: those are older. */
	if (loop->tasks_now == NULL) {
		loop->tasks_now = loop->tasks;
		loop->tasks = NULL;
	}
	while (!loop->stopping && (task = loop->tasks_now) != NULL) {
		loop->tasks_now = task->next;
		task->queued = false;
		task->fn(task);
	}
}

static void
loop_run_msgs(struct vhub_loop *loop)
{
	for (unsigned int i = 0; i < LOOP_MAX_MSGS && !loop->stopping; i++) {
		if (vhub_mailbox_run(&loop->box, 1) == 0)
			break;
	}
}

/* How long this turn may sleep; UINT64_MAX is for ever. */
static uint64_t
loop_wait_ns(const struct vhub_loop *loop)
{
	if (loop->tasks != NULL)
		return 0;
	if (!outbox_empty())
		return RTE_MIN(LOOP_OUTBOX_RETRY_NS, timers_wait_ns(loop));
	return timers_wait_ns(loop);
}

/*
 * epoll_pwait2(2), and where the kernel is too old for it (before 5.11) whole milliseconds, rounded
 * up.
 */
static int
loop_epoll(struct vhub_loop *loop, uint64_t wait_ns)
{
	const struct timespec ts = { (time_t)(wait_ns / 1000000000ull),
		(long)(wait_ns % 1000000000ull) };
	const bool for_ever = wait_ns == UINT64_MAX;
	uint64_t wait_ms;
	int n;

	n = epoll_pwait2(loop->epoll_fd, loop->events, LOOP_MAX_EVENTS, for_ever ? NULL : &ts,
			NULL);
	if (n >= 0 || errno != ENOSYS)
		return n;
	wait_ms = RTE_MIN(wait_ns / 1000000 + (wait_ns % 1000000 != 0), (uint64_t)INT_MAX);
	return epoll_wait(loop->epoll_fd, loop->events, LOOP_MAX_EVENTS,
			for_ever ? -1 : (int)wait_ms);
}

static bool
loop_fetched(const struct vhub_loop *loop, const struct vhub_watch *watch)
{
	for (int i = 0; i < loop->n_events; i++) {
		if (loop->events[i].data.ptr == watch)
			return true;
	}
	return false;
}

/*
 * Fetches events, asleep until there is something to do. Returns 0 or the errno of epoll_wait(2).
 */
static int
loop_wait(struct vhub_loop *loop)
{
	uint64_t wait_ns = loop_wait_ns(loop);
	bool announced = false;
	int n, err;

	if (wait_ns != 0) {
		announced = vhub_mailbox_sleep_begin(&loop->box);
		if (!announced)
			wait_ns = 0;
	}
	n = loop_epoll(loop, wait_ns);
	err = n < 0 ? errno : 0;
	loop->next_event = 0;
	loop->n_events = RTE_MAX(n, 0);
	if (announced)
		vhub_mailbox_sleep_end(&loop->box, loop_fetched(loop, &loop->box_watch));
	return err == EINTR ? 0 : -err;
}

static void
loop_dispatch(struct vhub_loop *loop)
{
	struct vhub_watch *watch;
	uint32_t events;

	/* What a stop leaves behind is forgotten: epoll tells it again, being level-triggered. */
	while (!loop->stopping && loop->next_event < loop->n_events) {
		events = loop->events[loop->next_event].events;
		watch = loop->events[loop->next_event].data.ptr;
		loop->next_event++;
		if (events != 0) /* else taken back by an earlier callback; the watch may be gone */
			watch->fn(watch, events);
	}
	loop->n_events = 0;
}

int
vhub_loop_run(struct vhub_loop *loop)
{
	int ret = 0;

	if (loop_running != NULL)
		return -EDEADLK;
	loop_running = loop;
	while (!loop->stopping && ret == 0) {
		loop_run_tasks(loop);
		loop_run_msgs(loop);
		timers_run(loop);
		vhub_outbox_flush();
		if (loop->stopping)
			break;
		ret = loop_wait(loop);
		loop_dispatch(loop);
	}
	if (loop->stopping)
		ret = loop->result;
	loop->stopping = false;
	loop_running = NULL;
	return ret;
}
