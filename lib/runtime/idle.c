/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The sleep of an lcore, called by lcore.c when nothing came for a while: with the policy `adaptive`,
 * and with any while the kernel works for it.
 *
 * Why no wake is lost: whatever brings work writes to an fd of our epoll if it was told to, and
 * each source is told before it is looked at for the last time. Guests and drivers by their
 * poller's arm, which looks after asking; messages by vhub_mailbox_sleep_begin(), which looks after
 * announcing. Watched fds are edge-triggered: an edge that comes between that look and
 * epoll_wait(2) waits in the epoll instance.
 */
#include <sys/epoll.h>

#include <rte_cycles.h>

#include "lcore_pvt.h"
#include "msg_pvt.h"

/*
 * Which fd woke us does not matter, every poller looks; edges not fetched end the next sleep, once.
 */
#define IDLE_MAX_EVENTS 64

static void
disarm_all(struct poller_list *list)
{
	struct vhub_poller *poller, *next;

	for (poller = list->first; poller != NULL; poller = next) {
		next = poller->next;
		if (!poller->armed)
			continue;
		poller->armed = false;
		if (poller->ops->disarm != NULL)
			poller->ops->disarm(poller);
	}
}

/* Returns false when a poller keeps the lcore awake. */
static bool
arm_all(struct poller_list *list)
{
	struct vhub_poller *poller, *next;

	for (poller = list->first; poller != NULL; poller = next) {
		next = poller->next;
		poller->armed = true;
		if (poller->ops->arm(poller) != 0)
			return false;
	}
	return true;
}

/*
 * Turns that find nothing before an lcore sleeps for which the kernel works: what is about to come is
 * not waited for by a system call, and who needs our CPU waits no longer than a microsecond or two.
 * A file on a loop device, depth 32: 2.1 to 2.3 times the IOPS of an lcore that spins; one that calls
 * sched_yield(2) instead looks busy to the scheduler, which then finds no CPU for those threads.
 */
#define IDLE_SPINS 20
/* So many more of them, at most, when tries to sleep fail. */
#define IDLE_MAX_LEND_PAUSE 16383u

/* Returns whether the mailbox was among what ended the sleep. */
static bool
idle_wait(struct vhub_lcore *lcore)
{
	struct epoll_event events[IDLE_MAX_EVENTS];
	const uint64_t begin = rte_rdtsc(), slept = lcore->sleep_word;
	bool signalled = false;
	int n;

	__atomic_store_n(&lcore->sleep_word, (slept - begin) | 1, __ATOMIC_RELAXED);
	vhub_count(&lcore->idle_cycles_done, lcore_cycles(lcore->turn_tsc, begin));
	vhub_count(&lcore->sleeps, 1);

	/* EINTR, from a watchdog that was late, is a wake like any other. */
	n = epoll_wait(lcore->epoll_fd, events, IDLE_MAX_EVENTS, -1);

	lcore->turn_tsc = rte_rdtsc();
	__atomic_store_n(&lcore->sleep_word, (slept + lcore_cycles(begin, lcore->turn_tsc)) & ~1ull,
			__ATOMIC_RELAXED);
	for (int i = 0; i < n; i++)
		signalled |= events[i].data.ptr == &lcore->box;
	return signalled;
}

bool
idle_sleep(struct vhub_lcore *lcore)
{
	bool signalled, slept = false;

	/* An outbox is emptied by turns only: asleep, nobody would. */
	if (lcore->n_unarmable == 0 && outbox_empty() && arm_all(&lcore->polled) &&
			arm_all(&lcore->parked) && vhub_mailbox_sleep_begin(&lcore->box)) {
		/*
		 * Offline: nobody waits for our safe points while we sleep, as we hold no pointer
		 * over it. The fence in rte_rcu_qsbr_thread_online() pairs with the one in
		 * vhub_quiesce_begin().
		 */
		rte_rcu_qsbr_thread_offline(lcore->qsbr, lcore->index);
		signalled = idle_wait(lcore);
		rte_rcu_qsbr_thread_online(lcore->qsbr, lcore->index);
		vhub_mailbox_sleep_end(&lcore->box, signalled);
		slept = true;
	}
	disarm_all(&lcore->polled);
	disarm_all(&lcore->parked);
	lcore->work_tsc = rte_rdtsc();
	return slept;
}

void
idle_lend(struct vhub_lcore *lcore)
{
	/* A sleep arms every poller, so it is begun the later the more there are. */
	if (++lcore->n_empty < IDLE_SPINS + lcore->n_pollers + lcore->lend_pause)
		return;
	lcore->n_empty = 0;
	/* Where one keeps the lcore awake, the others are not armed for nothing all the time. */
	if (idle_sleep(lcore))
		lcore->lend_pause = 0;
	else
		lcore->lend_pause = RTE_MIN(2 * lcore->lend_pause + 1, IDLE_MAX_LEND_PAUSE);
}
