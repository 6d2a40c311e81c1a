/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The receiving half of a turn of `vhub-perf net`: buffers that the back end has used become
 * packets, are judged, and are given back, some at a time, as guests do it: the index of the ring
 * would else change sides with every packet of a back end that gives them one by one. Called by
 * net_lcore.c; next: net_send.h.
 *
 * Packets of one burst have the same stamp, so their latency is counted once for all.
 */
#ifndef PERF_NET_RECEIVE_H
#define PERF_NET_RECEIVE_H

#include <rte_cycles.h>
#include <rte_ether.h>
#include <rte_prefetch.h>

#include "net.h"
#include "ring_fast.h"

/* Latencies of a burst: those that are equal are counted together. */
struct net_latencies {
	uint64_t cycles;
	uint64_t n;
};

static __rte_always_inline void
net_add_latency(struct net_queue *q, struct net_latencies *l, uint64_t cycles)
{
	if (cycles != l->cycles) {
		if (l->n != 0)
			hist_add_n(&q->report->figures.latency, l->cycles, l->n);
		l->cycles = cycles;
		l->n = 0;
	}
	l->n++;
}

static inline void
net_count_error(struct net_queue *q, enum net_error error)
{
	vhub_count(&q->report->figures.errors[error], 1);
}

/* A packet of a back end that makes its own; numbers are looked at where there are some. */
static inline void
net_take_foreign(struct net_queue *q, const uint8_t *frame, struct net_packet *p)
{
	struct net_flow *f = q->expects;
	uint64_t number;

	/* No frame of ours: an Ethernet header is all that it has to have. */
	p->wrong = p->bytes < sizeof(struct rte_ether_hdr);
	if (p->wrong) {
		net_count_error(q, NET_CORRUPT);
		return;
	}
	if (!net_frame_source_number(frame, p->bytes, q->queue, &number))
		return;
	f->sent = RTE_MAX(f->sent, number + 1);
	switch (net_flow_arrive(f, number)) {
	case NET_DUPLICATE:
		net_count_error(q, NET_DUPLICATES);
		break;
	case NET_REORDERED:
		net_count_error(q, NET_REORDERINGS);
		break;
	default:
		break;
	}
}

/* A whole packet is there. Returns whether it is a good one whose latency counts. */
static __rte_always_inline bool
net_judge(struct net_queue *q, const struct net_packet *p)
{
	enum net_arrival arrival;

	if (unlikely(p->wrong || p->bytes != p->length)) {
		/* As far as its number can be believed it has come, and is not lost as well. */
		if (p->stamp.flow != q->expected_mark ||
				net_flow_arrive(q->expects, p->stamp.number) != NET_UNJUDGED)
			net_count_error(q, NET_CORRUPT);
		return false;
	}
	if (unlikely(p->stamp.flow != q->expected_mark)) {
		net_count_error(q, NET_MISDIRECTED);
		return false;
	}
	arrival = net_flow_arrive(q->expects, p->stamp.number);
	if (likely(arrival == NET_ARRIVED))
		return true;
	if (arrival == NET_DUPLICATE)
		net_count_error(q, NET_DUPLICATES);
	else if (arrival == NET_REORDERED)
		net_count_error(q, NET_REORDERINGS);
	else if (arrival == NET_NEVER_SENT)
		net_count_error(q, NET_CORRUPT);
	return arrival != NET_NEVER_SENT && arrival != NET_DUPLICATE;
}

/* What is to be seen in the first buffer. */
static __rte_always_inline void
net_begin_packet(struct net_queue *q, const uint8_t *frame, uint32_t bytes)
{
	struct net_packet *p = &q->packet;
	uint16_t buffers = 1;

	if (q->o->mergeable)
		memcpy(&buffers, frame - NET_HEADER_BYTES + NET_NUM_BUFFERS_AT, sizeof(buffers));
	p->wrong = bytes < NET_HEADER_BYTES + NET_MIN_FRAME || buffers == 0;
	p->bytes = bytes > NET_HEADER_BYTES ? bytes - NET_HEADER_BYTES : 0;
	p->buffers_left = buffers > 0 ? (uint16_t)(buffers - 1) : 0;
	p->stamp.flow = 0;
	if (unlikely(p->wrong))
		return;
	p->stamp = net_frame_read(frame);
	p->length = net_frame_bytes(frame);
	if ((uint32_t)p->stamp.flow != (uint32_t)net_flow_mark(0))
		p->wrong = true;
}

/* --touch: every byte, as far as the buffer goes. */
static inline void
net_touch_first(struct net_packet *p, const uint8_t *frame)
{
	if (p->wrong)
		return;
	if (!net_frame_headers_right(frame, net_frame_bytes(frame)) ||
			!net_frame_filler_right(frame, 0, p->bytes, p->stamp.number))
		p->wrong = true;
}

static inline void
net_continue_packet(struct net_queue *q, const uint8_t *frame, uint32_t bytes)
{
	struct net_packet *p = &q->packet;
	const uint8_t *data = frame - NET_HEADER_BYTES;

	if (q->o->touch && !p->wrong &&
			!net_frame_filler_right(data, p->bytes, bytes, p->stamp.number))
		p->wrong = true;
	p->bytes += bytes;
	p->buffers_left--;
}

/* One buffer. Returns true when it was a packet's last. */
static __rte_always_inline bool
net_take_buffer(struct net_queue *q, const struct ring_used *used)
{
	const uint8_t *frame = q->rx_buffers.first +
			(size_t)used->slot * q->rx_buffers.stride_bytes;

	if (unlikely(q->packet.buffers_left != 0)) {
		net_continue_packet(q, frame, used->bytes);
		return q->packet.buffers_left == 0;
	}
	net_begin_packet(q, frame, used->bytes);
	if (q->o->mode == NET_RX)
		net_take_foreign(q, frame, &q->packet);
	else if (q->o->touch)
		net_touch_first(&q->packet, frame);
	return q->packet.buffers_left == 0;
}

static __rte_always_inline void
net_prefetch(const struct net_queue *q, const struct ring_used *used, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		const uint8_t *frame = q->rx_buffers.first +
				(size_t)used[i].slot * q->rx_buffers.stride_bytes;

		rte_prefetch0(frame);
		if (q->o->mergeable)
			rte_prefetch0(frame - NET_HEADER_BYTES);
	}
}

/* A stamp that lies in the future is of another lcore a moment ago. */
static __rte_always_inline uint64_t
net_since(uint64_t now, uint64_t then)
{
	return now > then ? now - then : 0;
}

/* Returns how many buffers came, or -EPROTO with a reason in q->rx->fault. */
static __rte_always_inline int
net_receive(struct net_queue *q, const bool packed)
{
	struct ring_used used[NET_MAX_BURST];
	struct net_latencies l = { 0 };
	uint64_t items = 0, bytes = 0, now;
	struct ring_cursor c;
	const int n = ring_reap(q->rx, used, q->o->burst, packed);

	if (n <= 0)
		return n;
	net_prefetch(q, used, (unsigned int)n);
	now = rte_rdtsc();
	for (int i = 0; i < n; i++) {
		if (!net_take_buffer(q, &used[i]))
			continue;
		items++;
		bytes += q->packet.bytes;
		if (q->o->mode != NET_RX && net_judge(q, &q->packet) && q->counting)
			net_add_latency(q, &l, net_since(now, q->packet.stamp.time_cycles));
	}
	c = ring_begin(q->rx);
	for (int i = 0; i < n; i++)
		ring_add(q->rx, &c, (uint16_t)used[i].slot, packed);
	ring_end(q->rx, &c);
	q->unposted += (unsigned int)n;
	if (q->unposted >= q->refill) {
		ring_publish(q->rx, packed);
		ring_kick(q->rx, packed);
		q->unposted = 0;
	}
	if (q->counting) {
		vhub_count(&q->report->figures.items, items);
		vhub_count(&q->report->figures.bytes, bytes);
		if (l.n != 0)
			hist_add_n(&q->report->figures.latency, l.cycles, l.n);
	}
	return n;
}

#endif /* PERF_NET_RECEIVE_H */
