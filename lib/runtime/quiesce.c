/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Waiting for every lcore to pass a safe point: lib/mem and lib/device call it after they have
 * replaced something that lcores reach by pointer, before they free the old one. Lcores report in
 * lcore.c, once a turn; an lcore that sleeps (idle.c) is offline and not waited for.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "lcore_pvt.h"

/*
 * The next look after the first comes this soon, the one after it twice as late, and so on up to
 * the longest.
 */
#define QUIESCE_FIRST_US 20
#define QUIESCE_LONGEST_US 1000
/* Looks of who waits, QUIESCE_LONGEST_US apart, before it gives up. */
#define QUIESCE_MAX_LOOKS 1000

/*
 * Made once and kept: tokens given before the lcores were stopped stay comparable with those given
 * after they were started again.
 */
static struct rte_rcu_qsbr *qsbr;

struct rte_rcu_qsbr *
quiesce_qsbr(void)
{
	return qsbr;
}

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
	const struct timespec pause = { .tv_nsec = QUIESCE_LONGEST_US * 1000 };
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
	}
	return -ETIMEDOUT;
}

struct rte_rcu_qsbr *
vhub_quiesce_qsbr(void)
{
	return qsbr;
}
