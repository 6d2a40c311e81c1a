/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest's queue pair on a port: its tx queue, and the rx queues that it polls (share.c), all of the lcore
 * that has the pair. Called by lib/net.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include <rte_ethdev.h>

#include "ethdev_pvt.h"

/* The queues of this lcore. */
static __thread LIST_HEAD(, ethdev_queue) own_queues;

int
ethdev_queue_get(struct vhub_net_queue *queue)
{
	struct ethdev_port *p = ethdev_port_of(queue->port);
	struct ethdev_queue *q = calloc(1, sizeof(*q));

	if (q == NULL)
		return -ENOMEM;
	q->port = p;
	q->port_id = p->port_id;
	q->index = queue->index;
	q->n_tx_segs = p->n_tx_segs;
	q->own = UINT64_C(1) << queue->index;
	ethdev_share_begin(q);
	queue->priv = q;
	LIST_INSERT_HEAD(&own_queues, q, of_lcore);
	return 0;
}

void
ethdev_queue_put(struct vhub_net_queue *queue)
{
	struct ethdev_queue *q = queue->priv;

	ethdev_closed(queue);
	LIST_REMOVE(q, of_lcore);
	free(q);
	queue->priv = NULL;
	/* An lcore that has no queue of the port any more has nothing of its pool either. */
	rte_mempool_cache_flush(NULL, ethdev_port_of(queue->port)->pool);
}

/* ---- from guest ---- */

/* Whether the port can send the packet as it is, or as it becomes here. */
static bool
fits_port(const struct ethdev_queue *q, struct rte_mbuf *pkt)
{
	if (likely(pkt->nb_segs <= q->n_tx_segs))
		return true;
	/* Only into a buffer that nobody else reads. */
	return RTE_MBUF_DIRECT(pkt) && rte_mbuf_refcnt_read(pkt) == 1 &&
			rte_pktmbuf_linearize(pkt) == 0;
}

/* Takes out what is in too many pieces for the port, in order. Returns how many are left. */
static uint16_t
drop_unfit(struct vhub_net_queue *queue, struct rte_mbuf **pkts, uint16_t n)
{
	const struct ethdev_queue *q = queue->priv;
	uint16_t n_left = 0;

	for (uint16_t i = 0; i < n; i++) {
		if (likely(fits_port(q, pkts[i])))
			pkts[n_left++] = pkts[i];
		else
			vhub_net_drop(queue, VHUB_NET_DROP_OVERSIZE, &pkts[i], 1);
	}
	return n_left;
}

/* Takes out the first of `n` and moves the others up. */
static void
drop_first(struct vhub_net_queue *queue, enum vhub_net_drop why, struct rte_mbuf **pkts, uint16_t n)
{
	vhub_net_drop(queue, why, &pkts[0], 1);
	memmove(&pkts[0], &pkts[1], (n - 1u) * sizeof(*pkts));
}

/*
 * Lets the port's driver complete what hardware wants to find in the headers, and takes out what it
 * refuses. Returns how many are left.
 */
static uint16_t
prepare(struct vhub_net_queue *queue, struct rte_mbuf **pkts, uint16_t n)
{
	const struct ethdev_queue *q = queue->priv;
	uint16_t n_ready = 0;

	while (n_ready < n) {
		n_ready += rte_eth_tx_prepare(q->port_id, q->index, &pkts[n_ready], n - n_ready);
		if (likely(n_ready == n))
			break;
		drop_first(queue, VHUB_NET_DROP_OFFLOAD, &pkts[n_ready], n - n_ready);
		n--;
	}
	return n;
}

/*
 * Sends until the port is full. Some drivers (net_tap) end a burst at a packet that is too long for them, too: that
 * one is taken out, and *n is one less. Returns how many were sent.
 */
static uint16_t
send_all(struct vhub_net_queue *queue, struct rte_mbuf **pkts, uint16_t *n)
{
	const struct ethdev_queue *q = queue->priv;
	uint16_t n_sent = 0;

	while (n_sent < *n) {
		n_sent += rte_eth_tx_burst(q->port_id, q->index, &pkts[n_sent], *n - n_sent);
		if (likely(n_sent == *n) ||
				vhub_net_mbuf_segment_bytes(pkts[n_sent]) <=
						q->port->max_frame_bytes)
			break;
		drop_first(queue, VHUB_NET_DROP_OVERSIZE, &pkts[n_sent], *n - n_sent);
		(*n)--;
	}
	return n_sent;
}

uint16_t
ethdev_from_guest(struct vhub_net_queue *queue, struct rte_mbuf **pkts, uint16_t n)
{
	const uint16_t n_given = n;
	uint64_t flags = 0;
	uint16_t n_sent;
	bool chained = false;

	for (uint16_t i = 0; i < n; i++) {
		flags |= pkts[i]->ol_flags;
		chained |= pkts[i]->nb_segs > 1;
	}
	if (chained)
		n = drop_unfit(queue, pkts, n);
	/* Also chains: hardware has limits on them that only its driver knows. */
	if (chained || (flags & RTE_MBUF_F_TX_OFFLOAD_MASK) != 0)
		n = prepare(queue, pkts, n);
	n_sent = send_all(queue, pkts, &n);
	if (likely(n_sent == n))
		return n_given;
	/* Those left are not at the place any more where the caller would look for them. */
	if (n != n_given) {
		vhub_net_drop(queue, VHUB_NET_DROP_PORT_FULL, &pkts[n_sent], n - n_sent);
		return n_given;
	}
	return n_sent;
}

/* A driver that cannot do that is left alone: its queues have no more than is theirs (room.c). */
void
ethdev_reclaim(void)
{
	const struct ethdev_queue *q;

	LIST_FOREACH(q, &own_queues, of_lcore)
		rte_eth_tx_done_cleanup(q->port_id, q->index, 0);
}

/* ---- to guest ---- */

static uint16_t
take_kept(struct ethdev_queue *q, struct rte_mbuf **pkts, uint16_t max)
{
	const uint16_t n = RTE_MIN(max, q->n_kept);

	for (uint16_t i = 0; i < n; i++)
		pkts[i] = q->kept[q->next_kept + i];
	q->next_kept += n;
	q->n_kept -= n;
	return n;
}

/*
 * As many in a turn as of packets that go to the guest. Where packets come as fast as they are dropped the first
 * ones after those that were waiting go too: nobody can tell them apart.
 */
static void
drop_waiting(struct vhub_net_queue *queue, uint16_t index, struct rte_mbuf **pkts, uint16_t n)
{
	struct ethdev_queue *q = queue->priv;
	uint32_t *to_drop = &q->port->to_drop[index];

	*to_drop -= n == 0 ? *to_drop : RTE_MIN(n, *to_drop);
	if (*to_drop == 0)
		q->dropping &= ~(UINT64_C(1) << index);
	if (n != 0)
		vhub_net_drop(queue, VHUB_NET_DROP_NO_RING, pkts, n);
}

/* One rx queue after the other, up to `max` packets in all: who comes last is the first one in the next turn. */
static uint16_t
poll_all(struct vhub_net_queue *queue, struct rte_mbuf **pkts, uint16_t max)
{
	struct ethdev_queue *q = queue->priv;
	const uint64_t behind = q->held & UINT64_MAX << q->next;
	uint64_t rest, both[2] = { behind, q->held & ~behind };
	uint16_t n, n_given = 0, n_left = max, index;

	for (unsigned int i = 0; i < RTE_DIM(both); i++) {
		for (rest = both[i]; rest != 0 && n_left != 0; rest &= rest - 1) {
			index = (uint16_t)__builtin_ctzll(rest);
			q->next = (index + 1) % VHUB_NET_MAX_PAIRS;
			n = rte_eth_rx_burst(q->port_id, index, &pkts[n_given], n_left);
			n_left -= n;
			if (unlikely((q->dropping >> index & 1) != 0))
				drop_waiting(queue, index, &pkts[n_given], n);
			else
				n_given += n;
		}
	}
	return n_given;
}

uint16_t
ethdev_to_guest(struct vhub_net_queue *queue, struct rte_mbuf **pkts, uint16_t max)
{
	struct ethdev_queue *q = queue->priv;

	if (unlikely(!ethdev_share_is_settled(q)))
		ethdev_share_settle(q);
	if (unlikely(q->n_kept != 0))
		return take_kept(q, pkts, max);
	if (unlikely(((q->held ^ q->own) | q->dropping) != 0))
		return poll_all(queue, pkts, max);
	return rte_eth_rx_burst(q->port_id, q->index, pkts, max);
}

/* ---- sleeping ---- */

/* From the first sleep on, so that lcores that never sleep do not pay for it. */
static int
watch(struct ethdev_queue *q, uint16_t index)
{
	const uint64_t bit = UINT64_C(1) << index;
	int ret;

	if (q->port->wake_fds[index] < 0)
		return -ENOTSUP;
	if ((q->watched & bit) == 0) {
		if (vhub_lcore_self() == NULL ||
				vhub_lcore_add_wake_fd(q->port->wake_fds[index]) != 0)
			return -ENOTSUP;
		q->watched |= bit;
	}
	/* A driver with an fd and without this call has nothing to enable. */
	ret = rte_eth_dev_rx_intr_enable(q->port_id, index);
	if (ret != 0 && ret != -ENOTSUP)
		return -ENOTSUP;
	if (ret == 0)
		q->enabled |= bit;
	return 0;
}

/*
 * The last look. An fd that is no eventfd is the wire itself: net_tap's driver reads from it only
 * after a signal, which is another thread's to get and may come later than the edge that woke us.
 * As long as something is in there, no sleep.
 */
static bool
anything_there(struct ethdev_queue *q, uint16_t index)
{
	struct pollfd wire = { .fd = q->port->wake_fds[index], .events = POLLIN };

	if (q->n_kept != 0)
		return true;
	q->next_kept = 0;
	q->n_kept = rte_eth_rx_burst(q->port_id, index, q->kept, VHUB_NET_BURST);
	if (q->n_kept != 0)
		return true;
	return !q->port->wake_is_eventfd[index] && poll(&wire, 1, 0) > 0 &&
			(wire.revents & POLLIN) != 0;
}

int
ethdev_arm(struct vhub_net_queue *queue)
{
	struct ethdev_queue *q = queue->priv;
	uint64_t rest;
	int ret;

	if (!ethdev_share_is_settled(q))
		ethdev_share_settle(q);
	/* What others still hold they give back without a word. */
	if (q->lacking != 0 || q->dropping != 0)
		return -EAGAIN;
	for (rest = q->held; rest != 0; rest &= rest - 1) {
		ret = watch(q, (uint16_t)__builtin_ctzll(rest));
		if (ret != 0)
			return ret;
	}
	for (rest = q->held; rest != 0; rest &= rest - 1) {
		if (anything_there(q, (uint16_t)__builtin_ctzll(rest)))
			return -EAGAIN;
	}
	return 0;
}

void
ethdev_disarm(struct vhub_net_queue *queue)
{
	struct ethdev_queue *q = queue->priv;

	for (; q->enabled != 0; q->enabled &= q->enabled - 1)
		rte_eth_dev_rx_intr_disable(q->port_id, (uint16_t)__builtin_ctzll(q->enabled));
}
