/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The port of vhub-cheapest (cheapest.h), two rings of one kind, on which each frame and each buffer is
 * one descriptor. Called by session.c on a thread of its own.
 */
#include <string.h>

#include <rte_common.h>
#include <rte_ether.h>

#include <linux/virtio_net.h>

#include "cheapest.h"
#include "layout.h"

/* What is copied: the header and the smallest frame. */
#define HEAD_BYTES (sizeof(struct virtio_net_hdr_v1) + RTE_ETHER_MIN_LEN)

enum {
	RX,
	TX
};

/* The header of a packet for the front end, which says that it is in one buffer. */
static void
copy_head(const struct cheapest *c, uint64_t to, uint64_t from, uint32_t bytes)
{
	struct virtio_net_hdr_v1 *header = (void *)cheapest_hva(c, to);

	memcpy(header, cheapest_hva(c, from), RTE_MIN(bytes, HEAD_BYTES));
	header->num_buffers = 1;
}

static unsigned int
echo_split(const struct cheapest *c, struct cheapest_ring *rx, struct cheapest_ring *tx)
{
	const struct split_desc *to = rx->desc, *from = tx->desc;
	const struct split_avail *buffers = rx->avail, *frames = tx->avail;
	struct split_used *filled = rx->used, *sent = tx->used;
	/* These pair with the front end's releasing stores. */
	const uint16_t frames_there = __atomic_load_n(&frames->idx, __ATOMIC_ACQUIRE);
	const uint16_t buffers_there = __atomic_load_n(&buffers->idx, __ATOMIC_ACQUIRE);
	unsigned int n;

	for (n = 0; n < CHEAPEST_BURST && tx->last != frames_there && rx->last != buffers_there;
			n++, tx->last++, rx->last++) {
		const uint16_t frame = frames->ring[tx->last & (tx->size - 1)];
		const uint16_t buffer = buffers->ring[rx->last & (rx->size - 1)];
		const uint32_t bytes = from[frame].len;

		copy_head(c, to[buffer].addr, from[frame].addr, bytes);
		filled->ring[rx->last & (rx->size - 1)] = (struct split_used_elem){ buffer, bytes };
		sent->ring[tx->last & (tx->size - 1)] = (struct split_used_elem){ frame, 0 };
	}
	if (n > 0) {
		__atomic_store_n(&filled->idx, rx->last, __ATOMIC_RELEASE);
		__atomic_store_n(&sent->idx, tx->last, __ATOMIC_RELEASE);
	}
	return n;
}

/* The next descriptor, if it is there. */
static struct packed_desc *
packed_next(const struct cheapest_ring *r)
{
	struct packed_desc *d = (struct packed_desc *)r->desc + r->last;
	const uint16_t flags = __atomic_load_n(&d->flags, __ATOMIC_ACQUIRE);

	return (flags & (DESC_F_AVAIL | DESC_F_USED)) == packed_avail_flags(r->wrap) ? d : NULL;
}

/* Gives it back in its own place, where its id already is. */
static void
packed_done(struct cheapest_ring *r, struct packed_desc *d, uint32_t written)
{
	const uint16_t writable = written > 0 ? DESC_F_WRITE : 0;

	d->len = written;
	__atomic_store_n(&d->flags, packed_used_flags(r->wrap) | writable, __ATOMIC_RELEASE);
	if (++r->last == r->size) {
		r->last = 0;
		r->wrap ^= 1;
	}
}

static unsigned int
echo_packed(const struct cheapest *c, struct cheapest_ring *rx, struct cheapest_ring *tx)
{
	unsigned int n;

	for (n = 0; n < CHEAPEST_BURST; n++) {
		struct packed_desc *frame = packed_next(tx), *buffer = packed_next(rx);

		if (frame == NULL || buffer == NULL)
			break;
		copy_head(c, buffer->addr, frame->addr, frame->len);
		packed_done(rx, buffer, frame->len);
		packed_done(tx, frame, 0);
	}
	return n;
}

unsigned int
cheapest_port(struct cheapest *c)
{
	struct cheapest_ring *rx = &c->rings[RX], *tx = &c->rings[TX];

	return rx->packed ? echo_packed(c, rx, tx) : echo_split(c, rx, tx);
}
