/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Split rings, taking (VIRTIO 1.2, 2.7): available ring to chains. Called through virtq_ops by
 * virtq.c; the way back is split_push.c. With an inflight region, split_note() tells it of the chains
 * that stay ("When receiving available buffers").
 */
#include "chain.h"

/* The chain goes on in an indirect table, and ends there (2.7.5.3). */
static enum vhub_virtq_reason
split_walk_table(struct vhub_virtq *vq, struct chain_build *b, const struct split_desc *by)
{
	struct chain_table table;
	struct split_desc d;
	enum vhub_virtq_reason why;
	uint32_t i = 0;
	uint32_t left;

	why = chain_table_open(vq, &table, by->addr, by->len, by->flags);
	if (unlikely(why != VHUB_VIRTQ_OK))
		return why;
	for (left = table.n; left != 0; left--) {
		if (unlikely(!chain_table_read(vq, &table, i, &d)))
			return VHUB_VIRTQ_BAD_ADDRESS;
		if (unlikely((d.flags & DESC_F_INDIRECT) != 0))
			return VHUB_VIRTQ_BAD_INDIRECT;
		why = chain_add(vq, b, d.addr, d.len, (d.flags & DESC_F_WRITE) != 0);
		if (unlikely(why != VHUB_VIRTQ_OK) || (d.flags & DESC_F_NEXT) == 0)
			return why;
		i = d.next;
		if (unlikely(i >= table.n))
			return VHUB_VIRTQ_BAD_NEXT;
	}
	return VHUB_VIRTQ_LOOP;
}

static __rte_always_inline enum vhub_virtq_reason
split_walk(struct vhub_virtq *vq, struct chain_build *b, uint16_t head)
{
	struct split_desc d;
	enum vhub_virtq_reason why;
	uint32_t i = head;
	uint32_t left;

	for (left = vq->size; left != 0; left--) {
		d = guest_read_split(&vq->desc[i]);
		if ((d.flags & DESC_F_INDIRECT) != 0)
			return split_walk_table(vq, b, &d);
		why = chain_add(vq, b, d.addr, d.len, (d.flags & DESC_F_WRITE) != 0);
		if (unlikely(why != VHUB_VIRTQ_OK) || (d.flags & DESC_F_NEXT) == 0)
			return why;
		i = d.next;
		if (unlikely(i >= vq->size))
			return VHUB_VIRTQ_BAD_NEXT;
	}
	return VHUB_VIRTQ_LOOP;
}

/* The chain of a head that is in the table and not in flight, whatever it looks like. */
static enum vhub_virtq_reason
split_fetch_any(struct vhub_virtq *vq, struct vhub_chain *chain, uint16_t head)
{
	enum vhub_virtq_reason why;
	struct chain_build b;

	chain_begin(&b, chain);
	why = split_walk(vq, &b, head);
	if (likely(why == VHUB_VIRTQ_OK))
		why = chain_end(&b);
	if (unlikely(why != VHUB_VIRTQ_OK))
		chain_abandon(vq, &b);
	return why;
}

/*
 * The common chain, in the ring's own table or wholly in an indirect one. False: it is something
 * else, or something is wrong with it. Each turn adds a piece, for which there is only so much room.
 */
static __rte_always_inline bool
split_walk_quick(struct vhub_virtq *vq, struct chain_quick *q, struct vhub_chain *chain,
		uint16_t head)
{
	struct iovec *const end = &chain->inline_iov[VHUB_CHAIN_INLINE_IOV];
	struct iovec *piece = chain->inline_iov;
	struct iovec *in;
	const struct split_desc *table = vq->desc;
	struct split_desc d = guest_read_split(&table[head]);
	uint64_t out_bytes = 0, in_bytes = 0;
	uint32_t size = vq->size;

	if ((d.flags & DESC_F_INDIRECT) != 0) {
		if (unlikely(!vq->indirect || (d.flags & DESC_F_NEXT) != 0 ||
				    d.len % sizeof(d) != 0))
			return false;
		size = d.len / (uint32_t)sizeof(d);
		table = (const void *)chain_quick_hva(vq, q, d.addr, d.len);
		if (unlikely(table == NULL || size > VHUB_VIRTQ_MAX_SIZE))
			return false;
		d = guest_read_split(&table[0]);
	}
	while ((d.flags & (DESC_F_WRITE | DESC_F_INDIRECT)) == 0) {
		if (unlikely(!chain_quick_piece(vq, q, piece++, d.addr, d.len)))
			return false;
		out_bytes += d.len;
		if ((d.flags & DESC_F_NEXT) == 0)
			return chain_quick_end(chain, piece, piece, out_bytes, 0);
		if (unlikely(d.next >= size || piece == end))
			return false;
		d = guest_read_split(&table[d.next]);
	}
	for (in = piece;;) {
		if (unlikely((d.flags & (DESC_F_WRITE | DESC_F_INDIRECT)) != DESC_F_WRITE ||
				    !chain_quick_piece(vq, q, piece++, d.addr, d.len)))
			return false;
		in_bytes += d.len;
		if ((d.flags & DESC_F_NEXT) == 0)
			return chain_quick_end(chain, in, piece, out_bytes, in_bytes);
		if (unlikely(d.next >= size || piece == end))
			return false;
		d = guest_read_split(&table[d.next]);
	}
}

/* A chain of three in a table of `size` entries, which begins with `i`. False: something else. */
static __rte_always_inline bool
split_walk_three(const struct chain_quick *q, struct vhub_chain *chain,
		const struct split_desc *table, uint32_t size, uint32_t i)
{
	const uint16_t counts = DESC_F_NEXT | DESC_F_WRITE | DESC_F_INDIRECT;
	uint64_t bytes = 0, out_bytes;
	struct split_desc d;
	bool write;

	d = guest_read_split(&table[i]);
	if ((d.flags & counts) != DESC_F_NEXT || unlikely(d.next >= size) ||
			!chain_three_piece(q, chain, 0, d.addr, d.len, &bytes))
		return false;
	out_bytes = bytes;
	d = guest_read_split(&table[d.next]);
	write = (d.flags & DESC_F_WRITE) != 0;
	if ((d.flags & counts & ~DESC_F_WRITE) != DESC_F_NEXT || unlikely(d.next >= size) ||
			!chain_three_piece(q, chain, 1, d.addr, d.len, &bytes))
		return false;
	if (!write)
		out_bytes = bytes;
	d = guest_read_split(&table[d.next]);
	if ((d.flags & counts) != DESC_F_WRITE ||
			!chain_three_piece(q, chain, 2, d.addr, d.len, &bytes))
		return false;
	return chain_three_end(chain, write, bytes, out_bytes);
}

/* The same in the indirect table that `by` tells of. */
static __rte_always_inline bool
split_table_three(const struct vhub_virtq *vq, const struct chain_quick *q,
		struct vhub_chain *chain, const struct split_desc *by)
{
	const struct split_desc d = guest_read_split(by);
	const uint64_t at = d.addr - q->gpa;

	return (d.flags & (DESC_F_INDIRECT | DESC_F_NEXT)) == DESC_F_INDIRECT && vq->indirect &&
			d.len == 3 * sizeof(*by) && at < q->size_bytes &&
			q->size_bytes - at >= d.len &&
			split_walk_three(q, chain, (const void *)(q->hva + at), 3, 0);
}

/* All other chains. */
static __rte_noinline enum vhub_virtq_reason
split_fetch_other(struct vhub_virtq *vq, struct vhub_chain *chain, uint16_t head)
{
	struct chain_quick q;

	chain_quick_init(vq, &q);
	if (likely(split_walk_quick(vq, &q, chain, head)))
		return VHUB_VIRTQ_OK;
	return split_fetch_any(vq, chain, head);
}

/* Puts the chain of `head`, the n-th of a burst, together. */
static __rte_always_inline enum vhub_virtq_reason
split_fetch(struct vhub_virtq *vq, struct chain_quick *q, uint16_t n, uint16_t head,
		struct vhub_chain **out)
{
	struct vhub_chain *chain = virtq_chain_next(vq, n);

	if (unlikely(head >= vq->size))
		return VHUB_VIRTQ_BAD_HEAD;
	if (unlikely(vq->busy[head] != 0))
		return VHUB_VIRTQ_HEAD_IN_FLIGHT;
	if (!split_walk_three(q, chain, vq->desc, vq->size, head) &&
			!split_table_three(vq, q, chain, &vq->desc[head])) {
		const enum vhub_virtq_reason why = split_fetch_other(vq, chain, head);

		if (unlikely(why != VHUB_VIRTQ_OK))
			return why;
		chain_quick_init(vq, q);
	}
	vq->busy[head] = 1;
	chain->id = head;
	chain->order = (uint16_t)(vq->next_order + n);
	if (unlikely(chain->n_slots != 1))
		chain->n_slots = 1;
	*out = chain;
	return VHUB_VIRTQ_OK;
}

uint16_t
split_pop(struct vhub_virtq *vq, struct vhub_chain **chains, uint16_t max)
{
	const uint16_t mask = (uint16_t)(vq->size - 1);
	/* Acquire: pairs with the driver's release of idx, behind its entries and descriptors. */
	const uint16_t avail_idx = __atomic_load_n(&vq->avail->idx, __ATOMIC_ACQUIRE);
	const uint16_t waiting = (uint16_t)(avail_idx - vq->last_avail);
	const uint16_t want = RTE_MIN(waiting, max);
	enum vhub_virtq_reason why = VHUB_VIRTQ_OK;
	struct chain_quick q;
	uint16_t n;

	if (unlikely(waiting > vq->size - vq->outstanding)) {
		virtq_break(vq, VHUB_VIRTQ_AVAIL_RUNAWAY);
		return 0;
	}
	chain_quick_init(vq, &q);
	for (n = 0; n < want; n++) {
		const uint16_t *slot = &vq->avail->ring[(uint16_t)(vq->last_avail + n) & mask];
		const uint16_t head = __atomic_load_n(slot, __ATOMIC_RELAXED);

		why = split_fetch(vq, &q, n, head, &chains[n]);
		if (unlikely(why != VHUB_VIRTQ_OK))
			break;
	}
	virtq_offers_taken(vq, n);
	vq->last_avail = (uint16_t)(vq->last_avail + n);
	if (unlikely(why != VHUB_VIRTQ_OK))
		chain_refused(vq, why);
	return n;
}

void
split_unpop(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n)
{
	vq->last_avail = (uint16_t)(vq->last_avail - n);
	virtq_count(&vq->stats.chains, -(uint64_t)n);
	while (n-- > 0) {
		vq->busy[chains[n]->id] = 0;
		virtq_chain_untaken(vq, chains[n]);
	}
}

/*
 * Descriptors of a chain in flight are still in the table: the driver may not touch them. They stay
 * noted as they are.
 */
uint16_t
split_replay(struct vhub_virtq *vq, struct vhub_chain **chains, uint16_t max)
{
	enum vhub_virtq_reason why = VHUB_VIRTQ_OK;
	struct chain_quick q;
	uint16_t n;

	chain_quick_init(vq, &q);
	for (n = 0; n < max && vq->replay_at != vq->n_replay; n++) {
		why = split_fetch(vq, &q, n, vq->replay[vq->replay_at], &chains[n]);
		if (why != VHUB_VIRTQ_OK)
			break;
		vq->replay_at++;
	}
	virtq_chains_taken(vq, n);
	virtq_count(&vq->stats.resubmitted, n);
	if (why != VHUB_VIRTQ_OK)
		chain_refused(vq, why);
	return n;
}

void
split_note(struct vhub_virtq *vq)
{
	for (uint32_t i = vq->n_fresh; i != 0; i--) {
		const struct vhub_chain *chain = vq->free[vq->n_free + i - 1];
		struct inflight_split_desc *entry = &vq->inflight_split->desc[chain->id];

		/* The counter first: an entry that is in flight has its place in the order. */
		__atomic_store_n(&entry->counter, vq->counter++, __ATOMIC_RELAXED);
		__atomic_store_n(&entry->inflight, 1, __ATOMIC_RELEASE);
	}
}
