/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Kick fds that wake lcores. Called by lib/device, which makes one for each ring with a kick fd; next: the sleep of the
 * lcore, idle.c.
 *
 * What waits for the one thread is a list of ours: who leaves is out of it at once, so it is never longer than there
 * are rings.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <unistd.h>

#include "lcore_pvt.h"
#include "vhub_fd.h"
#include "vhub_kick.h"
#include "vhub_log.h"
#include "vhub_work.h"

VHUB_LOGTYPE(lcore)

enum kick_state {
	KICK_IDLE,    /* it wakes whom it is to wake, or nobody */
	KICK_WAITING, /* in `waiting` */
	KICK_BUSY,    /* being put into an lcore's epoll instance */
};

struct vhub_kick_watch {
	int kick_side;	/* immutable: the epoll instance on the kick fd */
	int lcore_side; /* immutable: the one in the lcore's, empty when it is put there */
	bool wakes;	/* shared atomic */
	/* under the lock */
	enum kick_state state;
	struct vhub_lcore *lcore; /* that it is to wake */
	bool is_in;		  /* each side in the next, up to the lcore's */
	bool destroyed;		  /* while it was busy: who is at it frees it */
	TAILQ_ENTRY(vhub_kick_watch) link;
};

static void
serve_waiting(struct vhub_work *work);

static pthread_mutex_t kick_lock = PTHREAD_MUTEX_INITIALIZER;
/* Only one thread at a time serves. */
static struct vhub_log_limit log_limit;
/* Under the lock. */
static TAILQ_HEAD(, vhub_kick_watch) waiting = TAILQ_HEAD_INITIALIZER(waiting);
static bool is_submitted; /* the work: until it has found nobody who waits */
static struct vhub_work kick_work = { .run = serve_waiting, .kind = VHUB_WORK_KICK };

static int
put_on(int epoll_fd, int fd)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };

	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0 ? -errno : 0;
}

static void
take_off(int epoll_fd, int fd)
{
	epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

static int
make_sides(struct vhub_kick_watch *watch, int fd)
{
	watch->kick_side = epoll_create1(EPOLL_CLOEXEC);
	if (watch->kick_side < 0)
		return -errno;
	watch->lcore_side = epoll_create1(EPOLL_CLOEXEC);
	if (watch->lcore_side < 0)
		return -errno;
	return put_on(watch->kick_side, fd);
}

static void
close_sides(struct vhub_kick_watch *watch, struct vhub_fd_account *account)
{
	vhub_fd_discard(watch->lcore_side, account);
	vhub_fd_discard(watch->kick_side, account);
	free(watch);
}

int
vhub_kick_watch_create(int fd, struct vhub_kick_watch **out)
{
	struct vhub_kick_watch *watch = calloc(1, sizeof(*watch));
	int ret;

	if (watch == NULL)
		return -ENOMEM;
	watch->kick_side = watch->lcore_side = -1;
	ret = make_sides(watch, fd);
	if (ret != 0) {
		close_sides(watch, NULL);
		return ret;
	}
	*out = watch;
	return 0;
}

/* ---- one after the other, under the lock but for the system call that may hang ---- */

static void
set_waiting(struct vhub_kick_watch *watch)
{
	watch->state = KICK_WAITING;
	TAILQ_INSERT_TAIL(&waiting, watch, link);
}

/*
 * The lcore's epoll instance is locked while another one is put there, and for all of that the kernel looks at whoever
 * waits on the kick fds in that one: so it is empty then, and filled after that.
 */
static int
put_in(struct vhub_kick_watch *watch, struct vhub_lcore *lcore)
{
	int ret = put_on(lcore->epoll_fd, watch->lcore_side);

	if (ret != 0)
		return ret;
	ret = put_on(watch->lcore_side, watch->kick_side);
	if (ret != 0)
		take_off(lcore->epoll_fd, watch->lcore_side);
	return ret;
}

static void
take_out(struct vhub_kick_watch *watch, struct vhub_lcore *lcore)
{
	take_off(lcore->epoll_fd, watch->lcore_side);
	take_off(watch->lcore_side, watch->kick_side);
}

/* `ret`: whether it is in the epoll instance of `lcore` now. */
static void
end_busy(struct vhub_kick_watch *watch, struct vhub_lcore *lcore, int ret)
{
	if (watch->lcore != lcore) {
		if (ret == 0)
			take_out(watch, lcore);
		set_waiting(watch);
		return;
	}
	watch->state = KICK_IDLE;
	watch->is_in = ret == 0;
	/* Pairs with vhub_kick_wakes(). */
	__atomic_store_n(&watch->wakes, ret == 0, __ATOMIC_RELEASE);
}

static void
serve_one(struct vhub_kick_watch *watch)
{
	struct vhub_lcore *lcore = watch->lcore;
	int ret;

	TAILQ_REMOVE(&waiting, watch, link);
	watch->state = KICK_BUSY;
	pthread_mutex_unlock(&kick_lock);
	ret = put_in(watch, lcore);
	if (ret != 0 && vhub_log_allowed(&log_limit))
		VHUB_LOG(WARNING,
				"lcore %u does not sleep while it serves a ring whose kick fd cannot wake it: %s",
				vhub_lcore_id(lcore), strerror(-ret));
	pthread_mutex_lock(&kick_lock);
	if (!watch->destroyed) {
		end_busy(watch, lcore, ret);
		return;
	}
	close_sides(watch, NULL);
}

/* WORK */
static void
serve_waiting(struct vhub_work *work)
{
	struct vhub_kick_watch *watch;

	(void)work;
	pthread_mutex_lock(&kick_lock);
	while ((watch = TAILQ_FIRST(&waiting)) != NULL)
		serve_one(watch);
	is_submitted = false;
	pthread_mutex_unlock(&kick_lock);
}

/* ---- CTL ---- */

/* Under the lock: it waits no more, and wakes nobody. */
static void
withdraw(struct vhub_kick_watch *watch)
{
	if (watch->state == KICK_WAITING) {
		TAILQ_REMOVE(&waiting, watch, link);
		watch->state = KICK_IDLE;
	}
	if (watch->is_in)
		take_out(watch, watch->lcore);
	watch->is_in = false;
	__atomic_store_n(&watch->wakes, false, __ATOMIC_RELAXED);
}

void
vhub_kick_watch_wake(struct vhub_kick_watch *watch, struct vhub_lcore *lcore)
{
	bool submit = false;

	pthread_mutex_lock(&kick_lock);
	withdraw(watch);
	watch->lcore = lcore;
	if (watch->state == KICK_IDLE) {
		set_waiting(watch);
		submit = !is_submitted;
		is_submitted = true;
	}
	pthread_mutex_unlock(&kick_lock);
	if (submit)
		vhub_work_submit(&kick_work);
}

void
vhub_kick_watch_destroy(struct vhub_kick_watch *watch, struct vhub_fd_account *account)
{
	bool busy;

	if (watch == NULL)
		return;
	pthread_mutex_lock(&kick_lock);
	withdraw(watch);
	busy = watch->state == KICK_BUSY;
	watch->destroyed = busy;
	pthread_mutex_unlock(&kick_lock);
	if (busy)
		return;
	close_sides(watch, account);
}

bool
vhub_kick_wakes(const struct vhub_kick_watch *watch)
{
	/* Pairs with end_busy(). CTL takes it back while no lcore serves the ring. */
	return watch != NULL && __atomic_load_n(&watch->wakes, __ATOMIC_ACQUIRE);
}
