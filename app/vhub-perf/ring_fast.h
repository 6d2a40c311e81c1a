/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The fast path of ring.h: add, publish, kick, reap. `packed` is a constant where these are called,
 * so that a generator has one copy of its loop for each format and chooses once per queue:
 *
 *	for (...)
 *		ring_add(r, slot, packed);
 *	ring_publish(r, packed);
 *	ring_kick(r, packed);
 *	n = ring_reap(r, used, RTE_DIM(used), packed);
 *
 * Thread: the ring's lcore. Called by the generators.
 */
#ifndef PERF_RING_FAST_H
#define PERF_RING_FAST_H

#include <errno.h>

#include <rte_branch_prediction.h>

#include "ring.h"

/* ---- add ---- */

/* IN_ORDER: what comes back is found by its place in the order of adding. */
static __rte_always_inline void
ring_note_order(struct ring *r, uint16_t slot)
{
	r->slots[slot].order = r->order_head;
	r->order[r->order_head++ & r->order_mask] = slot;
}

static __rte_always_inline void
ring_split_add(struct ring *r, uint16_t slot)
{
	struct split_avail *avail = r->avail;
	uint16_t *entry = &avail->ring[r->avail_idx++ & r->mask];

	/* What stands there already is not written again: the line stays in both caches. */
	if (*entry != r->slots[slot].head)
		*entry = r->slots[slot].head;
}

static __rte_always_inline void
ring_packed_add(struct ring *r, uint16_t slot)
{
	struct packed_desc *ring = r->desc;
	const struct packed_desc *from = &r->tmpl[r->slots[slot].head];
	const unsigned int n = r->slots[slot].n_descs;

	for (unsigned int i = 0; i < n; i++) {
		struct packed_desc *to = &ring[r->avail_idx];
		const uint16_t flags = from[i].flags | packed_avail_flags(r->avail_wrap);

		to->addr = from[i].addr;
		to->len = from[i].len;
		to->id = from[i].id;
		/* The back end goes no further than the first, which publish makes available. */
		if (r->unpublished++ == 0) {
			r->first_idx = r->avail_idx;
			r->first_flags = flags;
		} else {
			to->flags = flags;
		}
		if (++r->avail_idx == r->size) {
			r->avail_idx = 0;
			r->avail_wrap ^= 1;
		}
	}
}

/* Offers the request of a slot that is not in flight. The back end sees it after publish. */
static __rte_always_inline void
ring_add(struct ring *r, uint16_t slot, const bool packed)
{
	r->slots[slot].in_flight = 1;
	if (r->in_order)
		ring_note_order(r, slot);
	if (packed)
		ring_packed_add(r, slot);
	else
		ring_split_add(r, slot);
}

/* ---- publish, kick ---- */

/* Pairs with the back end's acquiring load of the index, or of the descriptor's flags. */
static __rte_always_inline void
ring_publish(struct ring *r, const bool packed)
{
	if (packed) {
		struct packed_desc *ring = r->desc;

		if (r->unpublished == 0)
			return;
		__atomic_store_n(&ring[r->first_idx].flags, r->first_flags, __ATOMIC_RELEASE);
		r->unkicked += r->unpublished;
		r->unpublished = 0;
	} else {
		struct split_avail *avail = r->avail;

		__atomic_store_n(&avail->idx, r->avail_idx, __ATOMIC_RELEASE);
	}
}

/* Kicks for what was published since the last call, if there is a kick fd and if it is wanted. */
static __rte_always_inline void
ring_kick(struct ring *r, const bool packed)
{
	if (r->kick_fd < 0)
		return;
	if (packed)
		ring_packed_kick(r);
	else
		ring_split_kick(r);
}

/* ---- reap ---- */

/* What the back end says of a slot, which has come from its used id. */
static __rte_always_inline int
ring_take(struct ring *r, uint16_t slot, uint32_t id, uint32_t bytes, struct ring_used *used)
{
	struct ring_slot *s = &r->slots[slot];

	if (unlikely(s->in_flight == 0))
		return ring_fault(r, RING_FAULT_IDLE, id, 0);
	if (unlikely(bytes > s->writable_bytes))
		return ring_fault(r, RING_FAULT_BYTES, id, bytes);
	s->in_flight = 0;
	used->slot = slot;
	used->bytes = bytes;
	return 0;
}

/* The slot of a used id of a split ring, or RING_NO_SLOT. */
static __rte_always_inline uint16_t
ring_split_slot(const struct ring *r, uint32_t id)
{
	return likely(id < r->size) ? r->slot_of[id] : RING_NO_SLOT;
}

/*
 * EVENT_IDX: the index at whose passing we want a call is kept half a lap of its 16 bits away, so
 * that none comes.
 */
static __rte_always_inline void
ring_split_put_off_call(struct ring *r)
{
	struct split_avail *avail = r->avail;

	if (likely(!r->event_idx || (uint16_t)(r->call_event - r->used_idx) > 0x4000))
		return;
	r->call_event = (uint16_t)(r->used_idx + 0x8000);
	__atomic_store_n(&avail->ring[r->size], r->call_event, __ATOMIC_RELAXED);
}

static __rte_always_inline int
ring_split_reap(struct ring *r, struct ring_used *out, unsigned int max)
{
	const struct split_used *used = r->used;
	/* Pairs with the back end's releasing store, after its entries and what it wrote. */
	const uint16_t there = __atomic_load_n(&used->idx, __ATOMIC_ACQUIRE);
	unsigned int n = (uint16_t)(there - r->used_idx);

	if (n == 0)
		return 0;
	if (unlikely(n > (uint16_t)(r->avail_idx - r->used_idx)))
		return ring_fault(r, RING_FAULT_RUNAWAY, there, n);
	n = RTE_MIN(n, max);
	for (unsigned int i = 0; i < n; i++) {
		const struct split_used_elem *e = &used->ring[r->used_idx & r->mask];
		const uint32_t id = __atomic_load_n(&e->id, __ATOMIC_RELAXED);
		const uint32_t bytes = __atomic_load_n(&e->len, __ATOMIC_RELAXED);
		const uint16_t slot = ring_split_slot(r, id);

		if (unlikely(slot == RING_NO_SLOT))
			return ring_fault(r, RING_FAULT_ID, id, 0);
		if (unlikely(ring_take(r, slot, id, bytes, &out[i]) != 0))
			return -EPROTO;
		r->used_idx++;
	}
	ring_split_put_off_call(r);
	return (int)n;
}

/* The used descriptor at the ring's place; false when there is none. */
static __rte_always_inline bool
ring_packed_next(const struct ring *r, uint16_t *id, uint32_t *bytes)
{
	const struct packed_desc *ring = r->desc;
	const struct packed_desc *d = &ring[r->used_idx];
	/* Pairs with the back end's releasing store of the flags, which it writes last. */
	const uint16_t flags = __atomic_load_n(&d->flags, __ATOMIC_ACQUIRE);

	if ((flags & (DESC_F_AVAIL | DESC_F_USED)) != packed_used_flags(r->used_wrap))
		return false;
	*id = __atomic_load_n(&d->id, __ATOMIC_RELAXED);
	*bytes = (flags & DESC_F_WRITE) != 0 ? __atomic_load_n(&d->len, __ATOMIC_RELAXED) : 0;
	return true;
}

static __rte_always_inline void
ring_packed_advance(struct ring *r, uint16_t slot)
{
	r->used_idx = (uint16_t)(r->used_idx + r->slots[slot].n_descs);
	if (r->used_idx >= r->size) {
		r->used_idx = (uint16_t)(r->used_idx - r->size);
		r->used_wrap ^= 1;
	}
}

static __rte_always_inline int
ring_packed_reap(struct ring *r, struct ring_used *out, unsigned int max)
{
	unsigned int n;

	for (n = 0; n < max; n++) {
		uint32_t bytes;
		uint16_t id;

		if (!ring_packed_next(r, &id, &bytes))
			break;
		if (unlikely(id >= r->n_slots))
			return ring_fault(r, RING_FAULT_ID, id, 0);
		if (unlikely(ring_take(r, id, id, bytes, &out[n]) != 0))
			return -EPROTO;
		ring_packed_advance(r, id);
	}
	return (int)n;
}

/*
 * Takes up to `max` requests that came back, in the back end's order. Returns how many, or -EPROTO
 * with r->fault; then the ring is of no more use until ring_reset().
 */
static __rte_always_inline int
ring_reap(struct ring *r, struct ring_used *used, unsigned int max, const bool packed)
{
	if (r->in_order)
		return packed ? ring_packed_reap_in_order(r, used, max) :
				ring_split_reap_in_order(r, used, max);
	return packed ? ring_packed_reap(r, used, max) : ring_split_reap(r, used, max);
}

#endif /* PERF_RING_FAST_H */
