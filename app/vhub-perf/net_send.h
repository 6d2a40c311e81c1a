/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The sending half of a turn of `vhub-perf net`: as many packets as a burst, the window, the rate
 * and the free buffers allow. Called by net_lcore.c; after it a turn has ended.
 *
 * It looks into shared memory as little as it can: sent buffers are taken back only when they are
 * needed.
 */
#ifndef PERF_NET_SEND_H
#define PERF_NET_SEND_H

#include <rte_cycles.h>

#include "net.h"
#include "ring_fast.h"

/* With a full window, when nothing comes for so long, what is under way was lost. */
#define NET_STALL_MS 100u
#define NET_RAMP_STALL_MS 5u

static __rte_always_inline uint16_t
net_free_slots(const struct net_queue *q)
{
	return (uint16_t)(q->free_tail - q->free_head);
}

/* They count when their buffers are back, where nothing else comes back. */
static inline void
net_count_sent(struct net_queue *q, const struct ring_used *used, unsigned int n)
{
	uint64_t bytes = 0;

	for (unsigned int i = 0; i < n; i++)
		bytes += q->slot_bytes[used[i].slot];
	vhub_count(&q->report->figures.items, n);
	vhub_count(&q->report->figures.bytes, bytes);
}

/*
 * Takes up to a burst of sent buffers back: when there are fewer than a burst; `all`: when one is
 * missing. Returns 0 or -EPROTO.
 */
static __rte_always_inline int
net_take_back(struct net_queue *q, bool all, const bool packed)
{
	struct ring_used used[NET_MAX_BURST];
	int n;

	if (net_free_slots(q) == q->tx->n_slots || (!all && net_free_slots(q) >= q->o->burst))
		return 0;
	n = ring_reap(q->tx, used, q->o->burst, packed);
	for (int i = 0; i < n; i++)
		q->free_slots[(uint16_t)(q->free_tail + i) & q->free_mask] = (uint16_t)used[i].slot;
	if (n > 0) {
		q->free_tail = (uint16_t)(q->free_tail + n);
		if (q->o->mode == NET_TX && q->counting)
			net_count_sent(q, used, (unsigned int)n);
	}
	return n < 0 ? n : 0;
}

/*
 * The window is full. If nothing has come for a while, what is under way was lost; but not what the
 * back end has not even taken, for then it stands still. Returns 0 or -EPROTO.
 */
static inline int
net_look_for_stall(struct net_queue *q, uint64_t now, const bool packed)
{
	const uint64_t limit = rte_get_tsc_hz() / 1000 *
			(q->measuring ? NET_STALL_MS : NET_RAMP_STALL_MS);
	int ret;

	if (q->own.next != q->stall_next) {
		q->stall_next = q->own.next;
		q->stall_cycles = now;
	}
	if (now - q->stall_cycles <= limit)
		return 0;
	ret = net_take_back(q, true, packed);
	if (ret == 0 && net_free_slots(q) == q->tx->n_slots) {
		net_flow_forgive(&q->own);
		q->stall_cycles = now;
	}
	return ret;
}

/* How many may be sent now, as far as the window goes. */
static __rte_always_inline uint64_t
net_credit(const struct net_queue *q)
{
	uint64_t under_way;

	if (!q->receives || q->o->window == NET_NO_WINDOW)
		return UINT64_MAX;
	under_way = net_flow_under_way(&q->own);
	return under_way < q->o->window ? q->o->window - under_way : 0;
}

/* Up to `n` packets, at a rate those of them that are due. Returns how many. */
static __rte_always_inline int
net_send_packets(struct net_queue *q, int n, uint64_t now, const bool packed)
{
	const uint64_t first = q->own.sent;
	const uint16_t head = q->free_head;
	struct ring_cursor c = ring_begin(q->tx);
	int sent;

	for (sent = 0; sent < n; sent++) {
		const uint16_t slot = q->free_slots[(uint16_t)(head + sent) & q->free_mask];
		uint8_t *frame = q->tx_buffers.first + (size_t)slot * q->tx_buffers.stride_bytes;
		uint64_t time = now;

		if (q->paced) {
			if (!pace_is_due(&q->pace, now))
				break;
			time = pace_take(&q->pace);
		}
		net_frame_stamp(frame, first + (unsigned int)sent, time);
		if (unlikely(q->o->touch))
			net_frame_fill(frame, q->slot_bytes[slot]);
		ring_add(q->tx, &c, slot, packed);
	}
	ring_end(q->tx, &c);
	q->own.sent = first + (unsigned int)sent;
	q->free_head = (uint16_t)(head + sent);
	return sent;
}

/* Returns how many were sent, or -EPROTO with a reason in q->tx->fault. */
static __rte_always_inline int
net_send(struct net_queue *q, uint64_t now, const bool packed)
{
	uint64_t n = RTE_MIN(net_credit(q), (uint64_t)q->o->burst);
	int ret, sent;

	if (unlikely(n == 0))
		return net_look_for_stall(q, now, packed);
	/* At a rate there may be few packets, and they count when they are back. */
	ret = net_take_back(q, q->paced, packed);
	if (ret != 0 || (q->paced && !pace_is_due(&q->pace, now)))
		return ret;
	n = RTE_MIN(n, (uint64_t)net_free_slots(q));
	if (n == 0)
		return 0;
	/* What is due was so when the turn began; else the packets are sent now. */
	sent = net_send_packets(q, (int)n, q->paced ? now : rte_rdtsc(), packed);
	ring_publish(q->tx, packed);
	return sent;
}

#endif /* PERF_NET_SEND_H */
