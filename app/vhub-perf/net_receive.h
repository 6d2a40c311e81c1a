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

/* What a turn has received. */
struct net_taken {
	uint64_t items;
	uint64_t bytes;
	struct net_latencies latencies;
};

/* Where the frame of a used buffer lies, if one begins in it. */
static __rte_always_inline const uint8_t *
net_rx_frame(const struct net_queue *q, const struct ring_used *used)
{
	return q->rx_buffers.first + (size_t)used->slot * q->rx_buffers.stride_bytes;
}

/* How many buffers a packet is in, as the header before its frame says. */
static __rte_always_inline uint16_t
net_buffers(const uint8_t *frame)
{
	uint16_t buffers;

	memcpy(&buffers, frame - NET_HEADER_BYTES + NET_NUM_BUFFERS_AT, sizeof(buffers));
	return buffers;
}

static __rte_always_inline void
net_add_latency(struct net_queue *q, struct net_latencies *l, uint64_t cycles)
{
	if (cycles != l->cycles) {
		if (l->n != 0)
			vhub_hist_add_n(&q->report->figures.latency, l->cycles, l->n);
		l->cycles = cycles;
		l->n = 0;
	}
	l->n++;
}

/* A stamp that lies in the future is of another lcore a moment ago. */
static __rte_always_inline uint64_t
net_since(uint64_t now, uint64_t then)
{
	return now > then ? now - then : 0;
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
	const uint16_t buffers = q->o->mergeable ? net_buffers(frame) : 1;

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
			!net_frame_filler_right(frame, 0, p->bytes, &p->stamp))
		p->wrong = true;
}

static inline void
net_continue_packet(struct net_queue *q, const uint8_t *frame, uint32_t bytes)
{
	struct net_packet *p = &q->packet;
	const uint8_t *data = frame - NET_HEADER_BYTES;

	if (q->o->touch && !p->wrong && !net_frame_filler_right(data, p->bytes, bytes, &p->stamp))
		p->wrong = true;
	p->bytes += bytes;
	p->buffers_left--;
}

/* One buffer. Returns true when it was a packet's last. */
static __rte_always_inline bool
net_take_buffer(struct net_queue *q, const struct ring_used *used)
{
	const uint8_t *frame = net_rx_frame(q, used);

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
		const uint8_t *frame = net_rx_frame(q, &used[i]);

		rte_prefetch0(frame);
		if (q->o->mergeable)
			rte_prefetch0(frame - NET_HEADER_BYTES);
	}
}

/*
 * How many of the next ones may be plain: none where a flow has gaps, or every byte is looked at.
 */
static __rte_always_inline uint64_t
net_plain_ones(const struct net_queue *q)
{
	const struct net_flow *f = q->expects;

	if (q->o->touch || q->o->mode == NET_RX || q->packet.buffers_left != 0 ||
			f->n_missing != 0 || f->next < f->base)
		return 0;
	return f->sent - f->next;
}

/*
 * Packets as nearly all are: in one buffer, whole, the next of their flow. Returns how many of
 * `used`, from the first on, are that; they have been counted. All others are net_take_any()'s.
 */
static __rte_always_inline unsigned int
net_take_plain(struct net_queue *q, const struct ring_used *used, unsigned int n,
		struct net_taken *t, uint64_t now)
{
	struct net_flow *f = q->expects;
	const uint64_t mark = q->expected_mark, first = f->next;
	const bool mergeable = q->o->mergeable, counting = q->counting;
	unsigned int i;

	n = (unsigned int)RTE_MIN((uint64_t)n, net_plain_ones(q));
	for (i = 0; i < n; i++) {
		const uint8_t *frame = net_rx_frame(q, &used[i]);
		const uint32_t bytes = used[i].bytes - NET_HEADER_BYTES;
		const struct net_stamp stamp = net_frame_read(frame);

		if (unlikely(used[i].bytes < NET_HEADER_BYTES + NET_MIN_FRAME ||
				    bytes != net_frame_bytes(frame) || stamp.flow != mark ||
				    stamp.number != first + i ||
				    (mergeable && net_buffers(frame) != 1)))
			break;
		t->bytes += bytes;
		if (counting)
			net_add_latency(q, &t->latencies, net_since(now, stamp.time_cycles));
	}
	t->items += i;
	f->next += i;
	f->arrived += i;
	return i;
}

/* Any buffer. */
static __rte_always_inline void
net_take_any(struct net_queue *q, const struct ring_used *used, struct net_taken *t, uint64_t now)
{
	if (!net_take_buffer(q, used))
		return;
	t->items++;
	t->bytes += q->packet.bytes;
	if (q->o->mode != NET_RX && net_judge(q, &q->packet) && q->counting)
		net_add_latency(q, &t->latencies, net_since(now, q->packet.stamp.time_cycles));
}

/* Returns how many buffers came, or -EPROTO with a reason in q->rx->fault. */
static __rte_always_inline int
net_receive(struct net_queue *q, const bool packed)
{
	struct ring_used used[NET_MAX_BURST];
	struct net_taken t = { 0 };
	struct ring_cursor c;
	uint64_t now;
	const int ret = ring_reap(q->rx, used, q->o->burst, packed);
	const unsigned int n = (unsigned int)ret;

	if (ret <= 0)
		return ret;
	net_prefetch(q, used, n);
	now = rte_rdtsc();
	for (unsigned int i = 0; i < n;) {
		i += net_take_plain(q, &used[i], n - i, &t, now);
		if (i < n)
			net_take_any(q, &used[i++], &t, now);
	}
	c = ring_begin(q->rx);
	for (unsigned int i = 0; i < n; i++)
		ring_add(q->rx, &c, (uint16_t)used[i].slot, packed);
	ring_end(q->rx, &c);
	q->unposted += n;
	if (q->unposted >= q->refill) {
		ring_publish(q->rx, packed);
		q->unposted = 0;
	}
	if (q->counting) {
		vhub_count(&q->report->figures.items, t.items);
		vhub_count(&q->report->figures.bytes, t.bytes);
		if (t.latencies.n != 0)
			vhub_hist_add_n(&q->report->figures.latency, t.latencies.cycles,
					t.latencies.n);
	}
	return ret;
}

#endif /* PERF_NET_RECEIVE_H */
