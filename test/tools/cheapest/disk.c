/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The disk of vhub-cheapest (cheapest.h), one ring, split or packed. Called by session.c on a thread of
 * its own.
 */
#include "cheapest.h"
#include "layout.h"

static unsigned int
serve_split(const struct cheapest *c, struct cheapest_ring *r)
{
	const struct split_desc *descs = r->desc;
	const struct split_avail *avail = r->avail;
	struct split_used *used = r->used;
	const uint16_t mask = (uint16_t)(r->size - 1);
	/* Pairs with the front end's releasing store. */
	const uint16_t there = __atomic_load_n(&avail->idx, __ATOMIC_ACQUIRE);
	unsigned int n;

	for (n = 0; n < CHEAPEST_BURST && r->last != there; n++, r->last++) {
		const uint16_t head = avail->ring[r->last & mask];
		const struct split_desc *d = &descs[head];
		uint32_t bytes = 1;

		for (; (d->flags & DESC_F_NEXT) != 0; d = &descs[d->next])
			bytes += (d->flags & DESC_F_WRITE) != 0 ? d->len : 0;
		*cheapest_hva(c, d->addr) = 0;
		used->ring[r->last & mask] = (struct split_used_elem){ head, bytes };
	}
	if (n > 0)
		__atomic_store_n(&used->idx, r->last, __ATOMIC_RELEASE);
	return n;
}

/* All of a chain's descriptors are there once the first is. */
static unsigned int
serve_packed(const struct cheapest *c, struct cheapest_ring *r)
{
	struct packed_desc *ring = r->desc;
	unsigned int n;

	for (n = 0; n < CHEAPEST_BURST; n++) {
		struct packed_desc *first = &ring[r->last], *d = first;
		const uint16_t flags = __atomic_load_n(&first->flags, __ATOMIC_ACQUIRE);
		const uint16_t used = packed_used_flags(r->wrap) | DESC_F_WRITE;
		uint32_t bytes = 1;
		uint16_t id;

		if ((flags & (DESC_F_AVAIL | DESC_F_USED)) != packed_avail_flags(r->wrap))
			break;
		for (;;) {
			id = d->id;
			if (++r->last == r->size) {
				r->last = 0;
				r->wrap ^= 1;
			}
			if ((d->flags & DESC_F_NEXT) == 0)
				break;
			bytes += (d->flags & DESC_F_WRITE) != 0 ? d->len : 0;
			d = &ring[r->last];
		}
		*cheapest_hva(c, d->addr) = 0;
		first->id = id;
		first->len = bytes;
		__atomic_store_n(&first->flags, used, __ATOMIC_RELEASE);
	}
	return n;
}

unsigned int
cheapest_disk(struct cheapest *c)
{
	struct cheapest_ring *r = &c->rings[0];

	return r->packed ? serve_packed(c, r) : serve_split(c, r);
}
