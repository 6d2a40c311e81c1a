/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packed rings, taking (VIRTIO 1.2, 2.8): descriptor ring to chains. Called through virtq_ops by
 * virtq.c; the way back is packed_push.c.
 *
 * A used descriptor overwrites whatever stands in its slot, so the inflight region keeps a copy of
 * each descriptor, in entries taken from its free list ("When receiving available buffers",
 * packed). All is written into entries that are still free; one store of both list heads then makes
 * them a chain in flight. A crash before it leaves free entries.
 */
#include "chain.h"

/* A chain on its way from ring to device. */
struct packed_walk {
	struct chain_build b;
	uint32_t n_slots;
	uint16_t id;
	uint16_t entry; /* inflight: where the next descriptor goes */
	uint16_t last;	/* inflight: where the last one went */
};

static enum vhub_virtq_reason
packed_walk_table(struct vhub_virtq *vq, struct chain_build *b, const struct packed_desc *by)
{
	struct chain_table table;
	struct packed_desc d;
	enum vhub_virtq_reason why;
	uint32_t i;

	why = chain_table_open(vq, &table, by->addr, by->len, by->flags);
	/*
	 * Every entry of the table is a piece (2.8.7): flags other than WRITE mean nothing, but a
	 * nested table is refused.
	 */
	for (i = 0; likely(why == VHUB_VIRTQ_OK) && i < table.n; i++) {
		if (unlikely(!chain_table_read(vq, &table, i, &d)))
			return VHUB_VIRTQ_BAD_ADDRESS;
		if (unlikely((d.flags & DESC_F_INDIRECT) != 0))
			return VHUB_VIRTQ_BAD_INDIRECT;
		why = chain_add(vq, b, d.addr, d.len, (d.flags & DESC_F_WRITE) != 0);
	}
	return why;
}

/*
 * One descriptor's copy becomes a piece, or a table's pieces when it is the chain's only one
 * (2.8.7).
 */
static __rte_always_inline enum vhub_virtq_reason
packed_add(struct vhub_virtq *vq, struct chain_build *b, const struct packed_desc *d, bool first)
{
	if ((d->flags & DESC_F_INDIRECT) != 0)
		return first ? packed_walk_table(vq, b, d) : VHUB_VIRTQ_BAD_INDIRECT;
	return chain_add(vq, b, d->addr, d->len, (d->flags & DESC_F_WRITE) != 0);
}

/* Each field once; `flags` were loaded before. */
static __rte_always_inline void
packed_read(const struct packed_desc *slot, uint16_t flags, struct packed_desc *d)
{
	d->addr = __atomic_load_n(&slot->addr, __ATOMIC_RELAXED);
	d->len = __atomic_load_n(&slot->len, __ATOMIC_RELAXED);
	d->id = __atomic_load_n(&slot->id, __ATOMIC_RELAXED);
	d->flags = flags;
}

/* The next descriptor of the chain goes into the next free entry. */
static __rte_always_inline void
packed_save(struct vhub_virtq *vq, struct packed_walk *w, const struct packed_desc *d)
{
	struct inflight_packed_desc *entry = &vq->inflight_packed->desc[w->entry];

	entry->addr = d->addr;
	entry->len = d->len;
	entry->flags = d->flags;
	entry->id = d->id;
	w->last = w->entry;
	w->entry = vq->next[w->entry];
}

/* The chain is whole: describe it in its first entry, then take its entries off the free list. */
static __rte_always_inline void
packed_note(struct vhub_virtq *vq, const struct packed_walk *w, struct vhub_chain *chain)
{
	struct inflight_packed *region = vq->inflight_packed;
	struct inflight_packed_desc *entry = &region->desc[vq->free_head];

	entry->num = (uint16_t)w->n_slots;
	entry->last = w->last;
	__atomic_store_n(&entry->counter, vq->counter++, __ATOMIC_RELAXED);
	__atomic_store_n(&entry->inflight, 1, __ATOMIC_RELEASE);
	__atomic_store_n(&region->free_heads, w->entry | (uint32_t)w->entry << 16,
			__ATOMIC_RELEASE);
	chain->inflight_slot = vq->free_head;
	vq->last[vq->free_head] = w->last;
	vq->free_head = w->entry;
}

static __rte_always_inline enum vhub_virtq_reason
packed_walk(struct vhub_virtq *vq, struct packed_walk *w, uint16_t flags, const bool inflight)
{
	const uint32_t room = vq->size - vq->slots;
	uint32_t at = vq->last_avail;
	enum vhub_virtq_reason why;
	struct packed_desc d;

	w->n_slots = 0;
	for (;;) {
		packed_read(&vq->ring[at], flags, &d);
		if (inflight)
			packed_save(vq, w, &d);
		why = packed_add(vq, &w->b, &d, w->n_slots == 0);
		if (unlikely(why != VHUB_VIRTQ_OK))
			return why;
		w->n_slots++;
		if ((flags & DESC_F_NEXT) == 0)
			break;
		if (unlikely(w->n_slots == room))
			return room == vq->size ? VHUB_VIRTQ_LOOP : VHUB_VIRTQ_AVAIL_RUNAWAY;
		if (unlikely(++at == vq->size))
			at = 0;
		flags = __atomic_load_n(&vq->ring[at].flags, __ATOMIC_RELAXED);
	}
	w->id = d.id;
	return chain_end(&w->b);
}

/* Every entry of the table is a piece of a common chain. As packed_walk_table(). */
static __rte_always_inline bool
packed_table_quick(struct vhub_virtq *vq, struct chain_quick *q, const struct packed_desc *by)
{
	const uint32_t n = by->len / (uint32_t)sizeof(*by);
	const uint8_t *table = chain_quick_hva(vq, q, by->addr, by->len);
	struct packed_desc d;

	if (unlikely(table == NULL || !vq->indirect || (by->flags & DESC_F_NEXT) != 0 ||
			    by->len % sizeof(*by) != 0))
		return false;
	/* A table without an end ends with the room for pieces. */
	for (uint32_t i = 0; i < n; i++) {
		guest_read16(&d, table + i * sizeof(d));
		if (unlikely((d.flags & DESC_F_INDIRECT) != 0 ||
				    !chain_quick_add(vq, q, d.addr, d.len,
						    (d.flags & DESC_F_WRITE) != 0)))
			return false;
	}
	return true;
}

/*
 * The common chain. False: it is something else, or something is wrong with it; what has been saved
 * of it is in entries that are still free.
 */
static __rte_always_inline bool
packed_walk_quick(struct vhub_virtq *vq, struct packed_walk *w, struct chain_quick *q,
		uint16_t flags, const bool inflight)
{
	const uint32_t room = vq->size - vq->slots;
	uint32_t at = vq->last_avail;
	uint32_t n = 0;
	struct packed_desc d;

	for (;;) {
		packed_read(&vq->ring[at], flags, &d);
		if (inflight)
			packed_save(vq, w, &d);
		if ((flags & DESC_F_INDIRECT) != 0) {
			if (unlikely(n != 0 || !packed_table_quick(vq, q, &d)))
				return false;
		} else if (unlikely(!chain_quick_add(vq, q, d.addr, d.len,
					   (flags & DESC_F_WRITE) != 0))) {
			return false;
		}
		n++;
		if ((flags & DESC_F_NEXT) == 0)
			break;
		if (unlikely(n == room))
			return false;
		if (unlikely(++at == vq->size))
			at = 0;
		flags = __atomic_load_n(&vq->ring[at].flags, __ATOMIC_RELAXED);
	}
	w->n_slots = n;
	w->id = d.id;
	return true;
}

static __rte_always_inline void
packed_advance(struct vhub_virtq *vq, uint32_t n_slots)
{
	uint32_t at = vq->last_avail + n_slots;

	if (unlikely(at >= vq->size)) {
		at -= vq->size;
		vq->avail_wrap ^= 1;
	}
	vq->last_avail = (uint16_t)at;
	vq->slots += n_slots;
}

/* The chain whose first descriptor has these flags, whatever it looks like. */
static __rte_noinline struct vhub_chain *
packed_fetch_any(struct vhub_virtq *vq, struct packed_walk *w, uint16_t flags, bool inflight)
{
	enum vhub_virtq_reason why;

	chain_begin(vq, &w->b);
	if (inflight)
		w->entry = vq->free_head;
	why = packed_walk(vq, w, flags, inflight);
	if (unlikely(why != VHUB_VIRTQ_OK)) {
		chain_abandon(vq, &w->b, why);
		return NULL;
	}
	return w->b.chain;
}

/* Puts it together. On success it is the device's. */
static __rte_always_inline struct vhub_chain *
packed_fetch(struct vhub_virtq *vq, struct chain_quick *q, uint16_t flags, const bool inflight)
{
	struct vhub_chain *chain;
	struct packed_walk w;

	if (unlikely(vq->slots == vq->size)) {
		virtq_break(vq, VHUB_VIRTQ_AVAIL_RUNAWAY);
		return NULL;
	}
	chain = vq->free[vq->n_free - 1];
	chain_quick_begin(q, chain);
	if (inflight)
		w.entry = vq->free_head;
	if (unlikely(!packed_walk_quick(vq, &w, q, flags, inflight) ||
			    !chain_quick_end(q, chain))) {
		struct packed_walk any;

		chain = packed_fetch_any(vq, &any, flags, inflight);
		if (chain == NULL)
			return NULL;
		w = any;
		chain_quick_init(vq, q);
	}
	virtq_chain_taken(vq, chain);
	chain->id = w.id;
	chain->n_slots = (uint16_t)w.n_slots;
	if (inflight)
		packed_note(vq, &w, chain);
	packed_advance(vq, w.n_slots);
	return chain;
}

static __rte_always_inline uint16_t
packed_pop(struct vhub_virtq *vq, struct vhub_chain **chains, uint16_t max, const bool inflight)
{
	struct chain_quick q;
	uint16_t n;

	chain_quick_init(vq, &q);
	for (n = 0; n < max; n++) {
		/*
		 * Acquire: pairs with the driver's release of the flags, behind the rest of the
		 * chain.
		 */
		const uint16_t flags = __atomic_load_n(&vq->ring[vq->last_avail].flags,
				__ATOMIC_ACQUIRE);
		struct vhub_chain *chain;

		if ((flags & (DESC_F_AVAIL | DESC_F_USED)) != packed_avail_flags(vq->avail_wrap))
			break;
		chain = packed_fetch(vq, &q, flags, inflight);
		if (unlikely(chain == NULL))
			break;
		chains[n] = chain;
	}
	vq->outstanding += n;
	virtq_count(&vq->stats.chains, n);
	return n;
}

uint16_t
packed_pop_plain(struct vhub_virtq *vq, struct vhub_chain **chains, uint16_t max)
{
	return packed_pop(vq, chains, max, false);
}

uint16_t
packed_pop_inflight(struct vhub_virtq *vq, struct vhub_chain **chains, uint16_t max)
{
	return packed_pop(vq, chains, max, true);
}

void
packed_unpop(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n)
{
	uint32_t n_slots = 0;

	virtq_count(&vq->stats.chains, -(uint64_t)n);
	while (n-- > 0) {
		n_slots += chains[n]->n_slots;
		virtq_chain_untaken(vq, chains[n]);
	}
	vq->slots -= n_slots;
	if (vq->last_avail < n_slots) {
		vq->last_avail = (uint16_t)(vq->last_avail + vq->size);
		vq->avail_wrap ^= 1;
	}
	vq->last_avail = (uint16_t)(vq->last_avail - n_slots);
}

/* ---- replay ---- */

/*
 * Puts the chain together that begins at `entry` of the private copy, whose links inflight_packed.c
 * has checked.
 */
static struct vhub_chain *
packed_fetch_saved(struct vhub_virtq *vq, uint16_t entry)
{
	const uint16_t n_slots = vq->saved[entry].num;
	enum vhub_virtq_reason why = VHUB_VIRTQ_OK;
	struct chain_build b;
	uint16_t at = entry;

	chain_begin(vq, &b);
	for (uint16_t i = 0; i < n_slots && why == VHUB_VIRTQ_OK; i++) {
		const struct inflight_packed_desc *s = &vq->saved[at];
		const struct packed_desc d = { .addr = s->addr,
			.len = s->len,
			.id = s->id,
			.flags = s->flags };

		/*
		 * The ring lets no table be part of a longer chain, so an honest region has none.
		 */
		if (n_slots != 1 && (d.flags & DESC_F_INDIRECT) != 0)
			why = VHUB_VIRTQ_BAD_INFLIGHT;
		else
			why = packed_add(vq, &b, &d, true);
		b.chain->id = s->id;
		at = s->next;
	}
	if (why == VHUB_VIRTQ_OK)
		why = chain_end(&b);
	if (why != VHUB_VIRTQ_OK) {
		chain_abandon(vq, &b, why);
		return NULL;
	}
	virtq_chain_taken(vq, b.chain);
	b.chain->n_slots = n_slots;
	b.chain->inflight_slot = entry;
	return b.chain;
}

uint16_t
packed_replay(struct vhub_virtq *vq, struct vhub_chain **chains, uint16_t max)
{
	uint16_t n;

	for (n = 0; n < max && vq->replay_at != vq->n_replay; n++) {
		struct vhub_chain *chain = packed_fetch_saved(vq, vq->replay[vq->replay_at]);

		if (chain == NULL)
			break;
		chains[n] = chain;
		vq->replay_at++;
	}
	virtq_count(&vq->stats.chains, n);
	virtq_count(&vq->stats.resubmitted, n);
	return n;
}
