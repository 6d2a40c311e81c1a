/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which of a port's pairs polls which of its rx queues. Hardware spreads flows over all of them, and the guest
 * takes packets by as many pairs as it likes: an open pair polls the rx queue of its number, and the open
 * ones together those of the others. Called by queue.c on the lcore that has the pair.
 *
 * An rx queue has one poller at a time: a pair that holds it, which nobody else may touch. What is free is
 * taken by the pair whose it is by the port's word of open pairs; who holds what is another's gives it back
 * when it sees that the word has changed. Nobody waits for that, and it is no longer than a turn of the
 * other's lcore, which is woken. While no pair is open all are free, and what waits then is for nobody.
 */
#include "ethdev_pvt.h"

/* ---- what a pair holds ---- */

static void
let_go(struct ethdev_queue *q, uint16_t index)
{
	const uint64_t bit = UINT64_C(1) << index;

	if ((q->enabled & bit) != 0)
		rte_eth_dev_rx_intr_disable(q->port->port_id, index);
	if ((q->watched & bit) != 0)
		vhub_lcore_remove_wake_fd(q->port->wake_fds[index]);
}

static void
give_back(struct ethdev_queue *q, uint64_t which)
{
	uint64_t rest;

	if (which == 0)
		return;
	for (rest = which; rest != 0; rest &= rest - 1)
		let_go(q, (uint16_t)__builtin_ctzll(rest));
	q->held &= ~which;
	q->dropping &= ~which;
	q->watched &= ~which;
	q->enabled &= ~which;
	/* Pairs with the acquire in take(): whatever the driver has done with the queue is seen there. */
	__atomic_fetch_or(&q->port->free, which, __ATOMIC_RELEASE);
}

/* Those of `which` that are free. */
static void
take(struct ethdev_queue *q, uint64_t which)
{
	struct ethdev_port *p = q->port;
	const uint64_t got = __atomic_fetch_and(&p->free, ~which, __ATOMIC_ACQUIRE) & which;
	const uint64_t stale = __atomic_fetch_and(&p->stale, ~got, __ATOMIC_RELAXED) & got;
	uint64_t rest;

	for (rest = stale; rest != 0; rest &= rest - 1)
		p->to_drop[__builtin_ctzll(rest)] = p->max_waiting;
	for (rest = got; rest != 0; rest &= rest - 1) {
		if (p->to_drop[__builtin_ctzll(rest)] != 0)
			q->dropping |= rest & -rest;
	}
	q->held |= got;
}

/*
 * What is the pair's to poll: its own, and of those of closed pairs every n-th, where n pairs are open. All lcores
 * come to the same result.
 */
static uint64_t
share_of(const struct ethdev_queue *q, uint64_t open)
{
	const unsigned int n_open = (unsigned int)__builtin_popcountll(open);
	const unsigned int place = (unsigned int)__builtin_popcountll(open & (q->own - 1));
	uint64_t share = q->own;
	uint16_t i;

	for (i = 0; i < q->port->n_pairs; i++) {
		if ((open >> i & 1) == 0 && i % n_open == place)
			share |= UINT64_C(1) << i;
	}
	return share;
}

void
ethdev_share_settle(struct ethdev_queue *q)
{
	/* Pairs with the releases in ethdev_opened() and ethdev_closed(). */
	const uint64_t open = __atomic_load_n(&q->port->open, __ATOMIC_ACQUIRE);
	const uint64_t share = share_of(q, open);

	/* Pairs that open at once may each take all queues for left alone: those held are not. */
	__atomic_fetch_and(&q->port->stale, ~q->held, __ATOMIC_RELAXED);
	give_back(q, q->held & ~share);
	take(q, share & ~q->held);
	q->lacking = share & ~q->held;
	q->seen = open;
}

/* ---- open or not ---- */

/* The other open pairs have another share: those that sleep look. */
static void
wake_others(const struct ethdev_queue *q)
{
	const struct ethdev_port *p = q->port;
	struct vhub_lcore *lcore;
	uint64_t rest;

	for (rest = __atomic_load_n(&p->open, __ATOMIC_RELAXED) & ~q->own; rest != 0;
			rest &= rest - 1) {
		lcore = __atomic_load_n(&p->lcores[__builtin_ctzll(rest)], __ATOMIC_RELAXED);
		if (lcore != NULL && lcore != vhub_lcore_self())
			vhub_lcore_wake(lcore);
	}
}

/* While another pair is open everything is polled, and nothing waits. */
void
ethdev_opened(struct vhub_net_queue *queue, bool anew)
{
	struct ethdev_port *p = ethdev_port_of(queue->port);
	const struct ethdev_queue *q = queue->priv;

	if (anew && !p->is_file && __atomic_load_n(&p->open, __ATOMIC_RELAXED) == 0)
		__atomic_store_n(&p->stale, ethdev_all_pairs(p), __ATOMIC_RELAXED);
	__atomic_store_n(&p->lcores[queue->index], queue->lcore, __ATOMIC_RELAXED);
	/* Pairs with the acquire in ethdev_share_settle(). */
	__atomic_fetch_or(&p->open, q->own, __ATOMIC_RELEASE);
	wake_others(q);
}

void
ethdev_closed(struct vhub_net_queue *queue)
{
	struct ethdev_queue *q = queue->priv;

	if (q->n_kept != 0)
		vhub_net_drop(queue, VHUB_NET_DROP_NO_RING, &q->kept[q->next_kept], q->n_kept);
	q->n_kept = 0;
	give_back(q, q->held);
	q->lacking = 0;
	q->seen = 0;
	/* As above: who sees that it is closed finds free what it has held. */
	if ((__atomic_fetch_and(&q->port->open, ~q->own, __ATOMIC_RELEASE) & q->own) != 0)
		wake_others(q);
}

void
ethdev_share_begin(struct ethdev_queue *q)
{
	/* All pairs of an uplink take packets as long as they are there. */
	if (q->port->port.is_uplink)
		take(q, q->own);
}
