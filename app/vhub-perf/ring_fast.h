/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The fast path of ring.h: add, publish, kick, reap. `packed` is a constant where these are called,
 * so that a generator has one copy of its loop for each format and chooses once per queue:
 *
 *	struct ring_cursor c = ring_begin(r);
 *
 *	for (...)
 *		ring_add(r, &c, slot, packed);
 *	ring_end(r, &c);
 *	ring_publish(r, packed);
 *	ring_kick(r, packed);
 *	n = ring_reap(r, used, RTE_DIM(used), packed);
 *
 * Thread: the ring's lcore. Called by the generators.
 */
#ifndef PERF_RING_FAST_H
#define PERF_RING_FAST_H

#include <errno.h>

#include <rte_atomic.h>
#include <rte_branch_prediction.h>

#include "ring.h"

/* ---- add ---- */

/*
 * Where adding has come to. From ring_begin() to ring_end() the ring itself does not know, and
 * slots may be prepared, but nothing reaped or published: for the compiler every store into guest
 * memory could be one into the ring's own fields, and it would load them anew for each descriptor.
 */
struct ring_cursor {
	uint64_t avail; /* packed: AVAIL and USED of this lap, as in a descriptor's word */
	uint32_t at;	/* split: free-running; packed: 0 .. size - 1 */
	uint32_t n;	/* packed: descriptors added since the last publish */
	uint16_t order; /* IN_ORDER: number of the next */
};

/* Flags, where they lie in a descriptor's word (PACKED_WORD). */
#define RING_WORD_FLAGS(flags) ((uint64_t)(flags) << 48)
#define RING_WORD_LAP RING_WORD_FLAGS(DESC_F_AVAIL | DESC_F_USED)

/* A descriptor of a packed ring, which one load or store moves. */
typedef uint64_t __attribute__((vector_size(16), may_alias)) ring_desc;

static __rte_always_inline struct ring_cursor
ring_begin(const struct ring *r)
{
	return (struct ring_cursor){
		.avail = RING_WORD_FLAGS(packed_avail_flags(r->avail_wrap)),
		.at = r->avail_idx,
		.n = r->unpublished,
		.order = r->order_head,
	};
}

static __rte_always_inline void
ring_end(struct ring *r, const struct ring_cursor *c)
{
	r->avail_wrap = c->avail == RING_WORD_FLAGS(DESC_F_AVAIL);
	r->avail_idx = (uint16_t)c->at;
	r->unpublished = c->n;
	r->order_head = c->order;
}

static __rte_always_inline void
ring_split_add(struct ring *r, struct ring_cursor *c, uint16_t slot)
{
	struct split_avail *avail = r->avail;
	uint16_t *entry = &avail->ring[c->at++ & r->mask];

	/* What stands there already is not written again: the line stays in both caches. */
	if (*entry != r->slots[slot].head)
		*entry = r->slots[slot].head;
}

static __rte_always_inline void
ring_packed_step(const struct ring *r, struct ring_cursor *c)
{
	c->n++;
	if (unlikely(++c->at == r->size)) {
		c->at = 0;
		c->avail ^= RING_WORD_LAP;
	}
}

static __rte_always_inline void
ring_packed_add(struct ring *r, struct ring_cursor *c, uint16_t slot)
{
	struct packed_desc *ring = r->desc;
	const struct packed_desc *from = &r->tmpl[r->slots[slot].head];
	const unsigned int n = r->slots[slot].n_descs;
	const uint64_t word = *PACKED_WORD(from) | c->avail;

	ring[c->at].addr = from->addr;
	/* The back end goes no further than the first, which publish makes available. */
	if (unlikely(c->n == 0)) {
		r->first_idx = (uint16_t)c->at;
		r->first_word = word;
	} else {
		*PACKED_WORD(&ring[c->at]) = word;
	}
	ring_packed_step(r, c);
	for (unsigned int i = 1; i < n; i++) {
		const ring_desc lap = { 0, c->avail };

		*(ring_desc *)(void *)&ring[c->at] = *(const ring_desc *)(const void *)&from[i] |
				lap;
		ring_packed_step(r, c);
	}
}

/* Offers the request of a slot that is not in flight. The back end sees it after publish. */
static __rte_always_inline void
ring_add(struct ring *r, struct ring_cursor *c, uint16_t slot, const bool packed)
{
	r->slots[slot].in_flight = 1;
	/* What comes back is found by its place in the order of adding. */
	if (r->in_order) {
		r->slots[slot].order = c->order;
		r->order[c->order++ & r->order_mask] = slot;
	}
	if (packed)
		ring_packed_add(r, c, slot);
	else
		ring_split_add(r, c, slot);
}

/* The same of one alone. */
static __rte_always_inline void
ring_add_one(struct ring *r, uint16_t slot, const bool packed)
{
	struct ring_cursor c = ring_begin(r);

	ring_add(r, &c, slot, packed);
	ring_end(r, &c);
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
		__atomic_store_n(PACKED_WORD(&ring[r->first_idx]), r->first_word, __ATOMIC_RELEASE);
		r->unkicked += r->unpublished;
		r->unpublished = 0;
	} else {
		struct split_avail *avail = r->avail;

		__atomic_store_n(&avail->idx, r->avail_idx, __ATOMIC_RELEASE);
		r->published_idx = r->avail_idx;
	}
}

/* Whether something was published since the last look at kicks, and there is a kick fd. */
static __rte_always_inline bool
ring_is_unkicked(const struct ring *r, const bool packed)
{
	return r->kick_fd >= 0 && (packed ? r->unkicked != 0 : r->kick_idx != r->published_idx);
}

static __rte_always_inline void
ring_look_and_kick(struct ring *r, const bool packed)
{
	if (packed)
		ring_packed_kick(r);
	else
		ring_split_kick(r);
}

/*
 * Kicks for what was published since the last call, if there is a kick fd and if it is wanted. The
 * barrier pairs with the back end's between asking for kicks and its last look at the ring.
 */
static __rte_always_inline void
ring_kick(struct ring *r, const bool packed)
{
	if (!ring_is_unkicked(r, packed))
		return;
	rte_smp_mb();
	ring_look_and_kick(r, packed);
}

/* The same of two rings with one barrier, which waits until all that was stored can be seen. */
static __rte_always_inline void
ring_kick_both(struct ring *a, struct ring *b, const bool packed)
{
	const bool first = ring_is_unkicked(a, packed), second = ring_is_unkicked(b, packed);

	if (!first && !second)
		return;
	rte_smp_mb();
	if (first)
		ring_look_and_kick(a, packed);
	if (second)
		ring_look_and_kick(b, packed);
}

/* ---- reap ---- */

/* What the back end says of a slot, which has come from its used id. False: it cannot be. */
static __rte_always_inline bool
ring_take(struct ring *r, uint16_t slot, uint32_t bytes, struct ring_used *used)
{
	struct ring_slot *s = &r->slots[slot];

	if (unlikely(s->in_flight == 0 || bytes > s->writable_bytes))
		return false;
	s->in_flight = 0;
	used->slot = slot;
	used->bytes = bytes;
	return true;
}

/* IN_ORDER: the same of a used entry that stands for the next request alone. False: it does not. */
static __rte_always_inline bool
ring_take_single(struct ring *r, uint16_t slot, uint32_t bytes, struct ring_used *used)
{
	if (slot != r->order[r->order_tail & r->order_mask] || !ring_take(r, slot, bytes, used))
		return false;
	r->order_tail++;
	return true;
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

/* The slot of a used id of a split ring, or RING_NO_SLOT. */
static __rte_always_inline uint16_t
ring_split_slot(const struct ring *r, uint32_t id)
{
	return likely(id < r->size) ? r->slot_of[id] : RING_NO_SLOT;
}

static __rte_always_inline int
ring_split_reap(struct ring *r, struct ring_used *out, unsigned int max)
{
	const struct split_used *used = r->used;
	/* Pairs with the back end's releasing store, after its entries and what it wrote. */
	const uint16_t there = __atomic_load_n(&used->idx, __ATOMIC_ACQUIRE);
	unsigned int n = (uint16_t)(there - r->used_idx);
	uint16_t at = r->used_idx;

	if (n == 0)
		return 0;
	if (unlikely(n > (uint16_t)(r->published_idx - at)))
		return ring_fault(r, RING_FAULT_RUNAWAY, there, n);
	n = RTE_MIN(n, max);
	for (unsigned int i = 0; i < n; i++, at++) {
		const struct split_used_elem *e = &used->ring[at & r->mask];
		const uint32_t id = __atomic_load_n(&e->id, __ATOMIC_RELAXED);
		const uint32_t bytes = __atomic_load_n(&e->len, __ATOMIC_RELAXED);
		const uint16_t slot = ring_split_slot(r, id);

		if (unlikely(slot == RING_NO_SLOT || !ring_take(r, slot, bytes, &out[i]))) {
			r->used_idx = at;
			return ring_used_fault(r, slot, id, bytes);
		}
	}
	r->used_idx = at;
	ring_split_put_off_call(r);
	return (int)n;
}

/* Where reaping has come to in a packed ring, as in struct ring_cursor. */
struct ring_place {
	uint64_t used; /* AVAIL and USED that say "used" in this lap */
	uint32_t at;
};

static __rte_always_inline struct ring_place
ring_packed_place(const struct ring *r)
{
	return (struct ring_place){ RING_WORD_FLAGS(packed_used_flags(r->used_wrap)), r->used_idx };
}

static __rte_always_inline void
ring_packed_set_place(struct ring *r, const struct ring_place *p)
{
	r->used_idx = (uint16_t)p->at;
	r->used_wrap = p->used != 0;
}

/* No more than a lap. */
static __rte_always_inline void
ring_packed_advance(const struct ring *r, struct ring_place *p, uint32_t n_descs)
{
	p->at += n_descs;
	if (unlikely(p->at >= r->size)) {
		p->at -= r->size;
		p->used ^= RING_WORD_LAP;
	}
}

/* The used descriptor at the place; false when there is none. */
static __rte_always_inline bool
ring_packed_next(const struct ring *r, const struct ring_place *p, uint16_t *id, uint32_t *bytes)
{
	const struct packed_desc *ring = r->desc;
	/*
	 * Pairs with the back end's releasing store of the flags, which it writes last. They are
	 * part of the word, so what is loaded with them is not older.
	 */
	const uint64_t word = __atomic_load_n(PACKED_WORD(&ring[p->at]), __ATOMIC_ACQUIRE);

	if ((word & RING_WORD_LAP) != p->used)
		return false;
	*id = (uint16_t)(word >> 32);
	*bytes = (word & RING_WORD_FLAGS(DESC_F_WRITE)) != 0 ? (uint32_t)word : 0;
	return true;
}

/*
 * `each` is how many descriptors every chain has: so the processor knows where the next ones lie
 * before this one has come over from the other cache. 0: as many as its slot says.
 */
static __rte_always_inline int
ring_packed_reap(struct ring *r, struct ring_used *out, unsigned int max, const uint32_t each)
{
	struct ring_place p = ring_packed_place(r);
	unsigned int n;

	for (n = 0; n < max; n++) {
		uint32_t bytes;
		uint16_t id;

		if (!ring_packed_next(r, &p, &id, &bytes))
			break;
		if (unlikely(id >= r->n_slots || !ring_take(r, id, bytes, &out[n]))) {
			ring_packed_set_place(r, &p);
			return ring_used_fault(r, id, id, bytes);
		}
		ring_packed_advance(r, &p, each != 0 ? each : r->slots[id].n_descs);
	}
	ring_packed_set_place(r, &p);
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
	if (!packed)
		return ring_split_reap(r, used, max);
	return likely(r->n_short == 0) ? ring_packed_reap(r, used, max, r->stride) :
					 ring_packed_reap_any(r, used, max);
}

#endif /* PERF_RING_FAST_H */
