/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Waiting for every lcore to pass a safe point: lib/mem and lib/device call it after they have
 * replaced something that lcores reach by pointer, before they free the old one. Lcores report in
 * lcore.c, once a turn; an lcore that sleeps (idle.c) is offline and not waited for.
 *
 * One that sleeps in a page fault is waited for, and a front end can make that long. Who waits for a second
 * in vain leaves what it wants to free in a list, and CTL, which an eventfd tells, looks for it by a timer.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "lcore_pvt.h"
#include "vhub_log.h"
#include "vhub_work.h"

VHUB_LOGTYPE(lcore)

/*
 * The next look after the first comes this soon, the one after it twice as late, and so on up to
 * the longest.
 */
#define QUIESCE_FIRST_US 20
#define QUIESCE_LONGEST_US 1000
/* Looks of who waits before it gives up, nearly all of them QUIESCE_LONGEST_US apart. */
#define QUIESCE_MAX_LOOKS 1000
/* Between looks for what was left, which nobody waits for. */
#define QUIESCE_LEFT_US 100000

/*
 * Made once and kept: tokens given before the lcores were stopped stay comparable with those given
 * after they were started again.
 */
static struct rte_rcu_qsbr *qsbr;

int
quiesce_register(unsigned int n)
{
	size_t bytes;

	if (qsbr == NULL) {
		bytes = rte_rcu_qsbr_get_memsize(VHUB_MAX_LCORES);
		qsbr = aligned_alloc(RTE_CACHE_LINE_SIZE,
				RTE_ALIGN_CEIL(bytes, RTE_CACHE_LINE_SIZE));
		if (qsbr == NULL)
			return -ENOMEM;
		rte_rcu_qsbr_init(qsbr, VHUB_MAX_LCORES);
	}
	/* Registered for good: one that has ended is offline, and nobody waits for it. */
	for (unsigned int i = 0; i < n; i++)
		rte_rcu_qsbr_thread_register(qsbr, i);
	return 0;
}

static void
quiesce_look(struct vhub_timer *timer)
{
	struct vhub_quiesce *quiesce = vhub_container_of(timer, struct vhub_quiesce, timer);

	if (qsbr == NULL || rte_rcu_qsbr_check(qsbr, quiesce->token, false) == 1) {
		quiesce->fn(quiesce);
		return;
	}
	vhub_timer_arm(quiesce->loop, timer, quiesce->delay_us);
	quiesce->delay_us = RTE_MIN(quiesce->delay_us * 2, (uint64_t)QUIESCE_LONGEST_US);
}

void
vhub_quiesce_begin(struct vhub_loop *loop, struct vhub_quiesce *quiesce)
{
	quiesce->token = qsbr != NULL ? rte_rcu_qsbr_start(qsbr) : 0;
	/*
	 * Pairs with the fence in rte_rcu_qsbr_thread_online(): an lcore that is waking up either
	 * is seen online by our look or sees the pointer that the caller has put in place.
	 */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	quiesce->loop = loop;
	quiesce->delay_us = QUIESCE_FIRST_US;
	quiesce->timer = (struct vhub_timer){ .fn = quiesce_look };
	vhub_timer_arm(loop, &quiesce->timer, 0);
}

int
vhub_quiesce_wait(void)
{
	struct timespec pause = { .tv_nsec = QUIESCE_FIRST_US * 1000 };
	uint64_t token;

	if (qsbr == NULL)
		return 0;
	token = rte_rcu_qsbr_start(qsbr);
	/* As in vhub_quiesce_begin(). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (unsigned int looks = 0; looks < QUIESCE_MAX_LOOKS; looks++) {
		if (rte_rcu_qsbr_check(qsbr, token, false) == 1)
			return 0;
		nanosleep(&pause, NULL);
		pause.tv_nsec = RTE_MIN(pause.tv_nsec * 2, QUIESCE_LONGEST_US * 1000l);
	}
	return -ETIMEDOUT;
}

/* ---- what could not be freed yet ---- */

static struct {
	pthread_mutex_t lock;
	/* under the lock */
	struct vhub_work *first;
	uint64_t token; /* of the one that came last */
	/* Immutable while lcores run. */
	struct vhub_watch watch; /* fd: an eventfd, written by who leaves something */
	struct vhub_loop *loop;
	/* CTL */
	struct vhub_timer timer;
} left = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* CTL: may block where there are no threads for that. */
static void
free_left(struct vhub_work *work)
{
	struct vhub_work *next;

	for (; work != NULL; work = next) {
		next = work->next;
		vhub_work_submit(work);
	}
}

static void
look_for_left(struct vhub_timer *timer)
{
	struct vhub_work *work = NULL;

	pthread_mutex_lock(&left.lock);
	if (rte_rcu_qsbr_check(qsbr, left.token, false) == 1) {
		work = left.first;
		left.first = NULL;
	} else {
		vhub_timer_arm(left.loop, timer, QUIESCE_LEFT_US);
	}
	pthread_mutex_unlock(&left.lock);
	free_left(work);
}

static void
on_left(struct vhub_watch *watch, uint32_t events)
{
	eventfd_t n;

	(void)events;
	eventfd_read(watch->fd, &n);
	if (!left.timer.armed)
		vhub_timer_arm(left.loop, &left.timer, QUIESCE_LEFT_US);
}

int
quiesce_start(struct vhub_loop *loop)
{
	int ret;

	left.loop = loop;
	left.timer = (struct vhub_timer){ .fn = look_for_left };
	left.watch.fn = on_left;
	left.watch.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (left.watch.fd < 0)
		return -errno;
	ret = vhub_loop_watch(loop, &left.watch, EPOLLIN);
	if (ret != 0)
		close(left.watch.fd);
	return ret;
}

void
quiesce_stop(void)
{
	struct vhub_work *work;

	vhub_timer_cancel(left.loop, &left.timer);
	vhub_loop_unwatch(left.loop, &left.watch);
	close(left.watch.fd);
	pthread_mutex_lock(&left.lock);
	work = left.first;
	left.first = NULL;
	pthread_mutex_unlock(&left.lock);
	free_left(work);
}

/* Who waited before has waited in vain, and would still. */
static bool
is_known_stuck(void)
{
	bool stuck;

	pthread_mutex_lock(&left.lock);
	stuck = left.first != NULL && rte_rcu_qsbr_check(qsbr, left.token, false) != 1;
	pthread_mutex_unlock(&left.lock);
	return stuck;
}

int
vhub_quiesce_then(struct vhub_work *work, const char *what)
{
	int ret = is_known_stuck() ? -ETIMEDOUT : vhub_quiesce_wait();

	if (ret == 0) {
		work->run(work);
		return 0;
	}
	VHUB_LOG(WARNING, "%s: kept in memory until an lcore that is stuck goes on", what);
	work->done = NULL;
	pthread_mutex_lock(&left.lock);
	work->next = left.first;
	left.first = work;
	left.token = rte_rcu_qsbr_start(qsbr);
	/* As in vhub_quiesce_begin(). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&left.lock);
	eventfd_write(left.watch.fd, 1);
	return ret;
}

struct rte_rcu_qsbr *
vhub_quiesce_qsbr(void)
{
	return qsbr;
}
