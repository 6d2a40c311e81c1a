/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packed rings, taking (VIRTIO 1.2, 2.8): descriptor ring to chains. Called through virtq_ops by
 * virtq.c; the way back is packed_push.c.
 *
 * A used descriptor overwrites whatever stands in its slot, so the inflight region keeps a copy of
 * each descriptor of a chain that stays, in entries taken from its free list ("When receiving available
 * buffers", packed). All is written into entries that are still free; one store of both list heads
 * then makes them a chain in flight. A crash before it leaves free entries.
 */
#include "packed_pop.h"

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

/* The descriptor behind `*at`, which goes there. */
static __rte_always_inline struct packed_desc
packed_read_next(const struct vhub_virtq *vq, uint32_t *at)
{
	const struct packed_desc *slot;

	if (unlikely(++*at == vq->size))
		*at = 0;
	slot = &vq->ring[*at];
	return packed_read(slot, __atomic_load_n(PACKED_WORD(slot), __ATOMIC_RELAXED));
}

/* `room` slots are not taken yet. */
static enum vhub_virtq_reason
packed_walk(struct vhub_virtq *vq, struct chain_build *b, uint32_t at, uint64_t word, uint32_t room)
{
	struct packed_desc d = packed_read(&vq->ring[at], word);
	enum vhub_virtq_reason why;
	uint32_t n_slots = 1;

	for (;; n_slots++) {
		why = packed_add(vq, b, &d, n_slots == 1);
		if (unlikely(why != VHUB_VIRTQ_OK))
			return why;
		if ((d.flags & DESC_F_NEXT) == 0)
			break;
		if (unlikely(n_slots == room))
			return room == vq->size ? VHUB_VIRTQ_LOOP : VHUB_VIRTQ_AVAIL_RUNAWAY;
		d = packed_read_next(vq, &at);
	}
	b->chain->id = d.id;
	b->chain->n_slots = (uint16_t)n_slots;
	return chain_end(b);
}

/* The chain whose first descriptor is at `at`, whatever it looks like. */
static enum vhub_virtq_reason
packed_fetch_any(struct vhub_virtq *vq, struct vhub_chain *chain, uint32_t at, uint64_t word,
		uint32_t room)
{
	enum vhub_virtq_reason why;
	struct chain_build b;

	chain_begin(&b, chain);
	why = packed_walk(vq, &b, at, word, room);
	if (unlikely(why != VHUB_VIRTQ_OK))
		chain_abandon(vq, &b);
	return why;
}

/*
 * Every entry of the table is a piece of a common chain. As packed_walk_table(); a table without an
 * end ends with the room for pieces.
 */
static __rte_always_inline bool
packed_table_quick(struct vhub_virtq *vq, struct chain_quick *q, struct vhub_chain *chain,
		const struct packed_desc *by)
{
	const uint32_t n = by->len / (uint32_t)sizeof(*by);
	const struct packed_desc *table = (const void *)chain_quick_hva(vq, q, by->addr, by->len);
	struct iovec *piece = chain->inline_iov;
	uint64_t bytes[2] = { 0, 0 }; /* readable, writable */
	uint32_t n_out = 0;

	if (unlikely(table == NULL || !vq->indirect || (by->flags & DESC_F_NEXT) != 0 ||
			    by->len % sizeof(*by) != 0 || n > VHUB_CHAIN_INLINE_IOV))
		return false;
	for (uint32_t i = 0; i < n; i++) {
		struct packed_desc d;
		bool write;

		guest_read16(&d, &table[i]);
		write = (d.flags & DESC_F_WRITE) != 0;
		if (unlikely((d.flags & DESC_F_INDIRECT) != 0 || (!write && n_out != i) ||
				    !chain_quick_piece(vq, q, piece++, d.addr, d.len)))
			return false;
		n_out += !write;
		bytes[write] += d.len;
	}
	return chain_quick_end(chain, &chain->inline_iov[n_out], piece, bytes[0], bytes[1]);
}

/*
 * The common chain. Returns its slots; 0: it is something else, or something is wrong with it. Each
 * turn adds a piece, for which there is only so much room.
 */
static __rte_always_inline uint32_t
packed_walk_quick(struct vhub_virtq *vq, struct chain_quick *q, struct vhub_chain *chain,
		uint32_t at, uint64_t word, uint32_t room)
{
	const uint32_t most = RTE_MIN(room, VHUB_CHAIN_INLINE_IOV);
	struct packed_desc d = packed_read(&vq->ring[at], word);
	struct iovec *piece = chain->inline_iov;
	struct iovec *const end = piece + most;
	uint64_t out_bytes = 0, in_bytes = 0;
	struct iovec *in;

	if ((d.flags & DESC_F_INDIRECT) != 0) {
		chain->id = d.id;
		return packed_table_quick(vq, q, chain, &d) ? 1 : 0;
	}
	while ((d.flags & (DESC_F_WRITE | DESC_F_INDIRECT)) == 0) {
		if (unlikely(!chain_quick_piece(vq, q, piece++, d.addr, d.len)))
			return 0;
		out_bytes += d.len;
		if ((d.flags & DESC_F_NEXT) == 0) {
			in = piece;
			goto done;
		}
		if (unlikely(piece == end))
			return 0;
		d = packed_read_next(vq, &at);
	}
	for (in = piece;;) {
		if (unlikely((d.flags & (DESC_F_WRITE | DESC_F_INDIRECT)) != DESC_F_WRITE ||
				    !chain_quick_piece(vq, q, piece++, d.addr, d.len)))
			return 0;
		in_bytes += d.len;
		if ((d.flags & DESC_F_NEXT) == 0)
			break;
		if (unlikely(piece == end))
			return 0;
		d = packed_read_next(vq, &at);
	}
done:
	chain->id = d.id;
	if (unlikely(!chain_quick_end(chain, in, piece, out_bytes, in_bytes)))
		return 0;
	return (uint32_t)(piece - chain->inline_iov);
}

/*
 * A chain of three descriptors that lie side by side in the ring or, where flags other than the
 * direction do not count, in a table; of the first one, `d` is the copy. Returns the last one's id, or
 * UINT32_MAX for something else.
 */
static __rte_always_inline uint32_t
packed_walk_three(const struct chain_quick *q, struct vhub_chain *chain,
		const struct packed_desc *desc, struct packed_desc d, const bool in_table)
{
	const uint16_t next = in_table ? 0 : DESC_F_NEXT;
	const uint16_t counts = DESC_F_WRITE | DESC_F_INDIRECT | (in_table ? 0 : DESC_F_NEXT);
	uint64_t bytes = 0, out_bytes;
	bool write;

	if ((d.flags & counts) != next || !chain_three_piece(q, chain, 0, d.addr, d.len, &bytes))
		return UINT32_MAX;
	out_bytes = bytes;
	d = guest_read_packed(&desc[1]);
	write = (d.flags & DESC_F_WRITE) != 0;
	if ((d.flags & counts & ~DESC_F_WRITE) != next ||
			!chain_three_piece(q, chain, 1, d.addr, d.len, &bytes))
		return UINT32_MAX;
	if (!write)
		out_bytes = bytes;
	d = guest_read_packed(&desc[2]);
	if ((d.flags & counts) != DESC_F_WRITE ||
			!chain_three_piece(q, chain, 2, d.addr, d.len, &bytes) ||
			!chain_three_end(chain, write, bytes, out_bytes))
		return UINT32_MAX;
	return d.id;
}

enum vhub_virtq_reason
packed_fetch_at(struct vhub_virtq *vq, struct vhub_chain *chain, uint32_t at, uint64_t word,
		uint32_t room)
{
	struct chain_quick q;
	uint32_t n_slots;

	chain_quick_init(vq, &q);
	n_slots = packed_walk_quick(vq, &q, chain, at, word, room);
	if (unlikely(n_slots == 0))
		return packed_fetch_any(vq, chain, at, word, room);
	chain->n_slots = (uint16_t)n_slots;
	return VHUB_VIRTQ_OK;
}

static void
scalar_init(const struct vhub_virtq *vq, void *burst)
{
	chain_quick_init(vq, burst);
}

static __rte_always_inline bool
scalar_ring(const void *burst, struct vhub_chain *chain, const struct packed_desc *desc,
		uint64_t word)
{
	const uint32_t id = packed_walk_three(burst, chain, desc, packed_read(desc, word), false);

	chain->id = (uint16_t)id;
	return id != UINT32_MAX;
}

static __rte_always_inline bool
scalar_table(const void *burst, struct vhub_chain *chain, const void *table)
{
	return packed_walk_three(burst, chain, table, guest_read_packed(table), true) != UINT32_MAX;
}

uint16_t
packed_pop(struct vhub_virtq *vq, struct vhub_chain **chains, uint16_t max)
{
	const struct packed_three three = { scalar_init, scalar_ring, scalar_table };
	struct chain_quick q;

	return packed_pop_three(vq, chains, max, &three, &q);
}

void
packed_unpop(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n)
{
	uint32_t n_slots = 0;

	vhub_count(&vq->stats.chains, -(uint64_t)n);
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
static enum vhub_virtq_reason
packed_fetch_saved(struct vhub_virtq *vq, struct vhub_chain *chain, uint16_t entry)
{
	const uint16_t n_slots = vq->saved[entry].num;
	enum vhub_virtq_reason why = VHUB_VIRTQ_OK;
	struct chain_build b;
	uint16_t at = entry;

	chain_begin(&b, chain);
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
		chain->id = s->id;
		at = s->next;
	}
	if (why == VHUB_VIRTQ_OK)
		why = chain_end(&b);
	if (why != VHUB_VIRTQ_OK)
		chain_abandon(vq, &b);
	chain->n_slots = n_slots;
	chain->inflight_slot = entry;
	return why;
}

uint16_t
packed_replay(struct vhub_virtq *vq, struct vhub_chain **chains, uint16_t max)
{
	enum vhub_virtq_reason why = VHUB_VIRTQ_OK;
	uint16_t n;

	for (n = 0; n < max && vq->replay_at != vq->n_replay; n++) {
		struct vhub_chain *chain = virtq_chain_next(vq, n);

		why = packed_fetch_saved(vq, chain, vq->replay[vq->replay_at]);
		if (why != VHUB_VIRTQ_OK)
			break;
		chain->order = (uint16_t)(vq->next_order + n);
		chains[n] = chain;
		vq->replay_at++;
	}
	virtq_chains_taken(vq, n);
	vhub_count(&vq->stats.resubmitted, n);
	if (why != VHUB_VIRTQ_OK)
		chain_refused(vq, why);
	return n;
}

/* ---- the inflight region ---- */

/* Copies a chain's descriptors from `*at` on, describes it, and takes its entries off the free list. */
static void
packed_note_chain(struct vhub_virtq *vq, struct vhub_chain *chain, uint32_t *at)
{
	struct inflight_packed *region = vq->inflight_packed;
	struct inflight_packed_desc *first = &region->desc[vq->free_head];
	uint16_t entry = vq->free_head, last = entry;

	/*
	 * The driver may not have changed them since they were taken; if it has, it will be served
	 * what it wrote then. How many they are is known.
	 */
	for (uint16_t i = 0; i < chain->n_slots; i++) {
		struct packed_desc d;

		guest_read16(&d, &vq->ring[*at]);
		region->desc[entry].addr = d.addr;
		region->desc[entry].len = d.len;
		region->desc[entry].flags = d.flags;
		region->desc[entry].id = d.id;
		last = entry;
		entry = vq->next[entry];
		if (unlikely(++*at == vq->size))
			*at = 0;
	}
	first->num = chain->n_slots;
	first->last = last;
	__atomic_store_n(&first->counter, vq->counter++, __ATOMIC_RELAXED);
	__atomic_store_n(&first->inflight, 1, __ATOMIC_RELEASE);
	__atomic_store_n(&region->free_heads, entry | (uint32_t)entry << 16, __ATOMIC_RELEASE);
	chain->inflight_slot = vq->free_head;
	vq->last[vq->free_head] = last;
	vq->free_head = entry;
}

void
packed_note(struct vhub_virtq *vq)
{
	struct vhub_chain *const *fresh = &vq->free[vq->n_free];
	uint32_t n_slots = 0;
	uint32_t at;

	for (uint32_t i = 0; i < vq->n_fresh; i++)
		n_slots += fresh[i]->n_slots;
	at = vq->last_avail + (vq->last_avail < n_slots ? vq->size : 0) - n_slots;
	for (uint32_t i = vq->n_fresh; i != 0; i--)
		packed_note_chain(vq, fresh[i - 1], &at);
}
