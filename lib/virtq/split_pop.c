/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Split rings, taking (VIRTIO 1.2, 2.7): available ring to chains. Called through virtq_ops by
 * virtq.c; the way back is split_push.c. With an inflight region, split_note() tells it of the chains
 * that stay ("When receiving available buffers").
 */
#include "split_pop.h"

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

/*
 * A chain of three that lie side by side: nearly every one, and every one in an indirect table of three.
 * The first lies at `row` and is entry `i` of its table, which has room for two more. False: something
 * else.
 */
static __rte_always_inline bool
split_walk_row(const struct chain_quick *q, struct vhub_chain *chain, const struct split_desc *row,
		uint32_t i)
{
	const uint32_t first = split_links(DESC_F_NEXT, i + 1),
		       second = split_links(DESC_F_NEXT, i + 2);
	uint64_t bytes = 0, out_bytes;
	struct split_words d;
	bool write;

	d = guest_read_split_words(&row[0]);
	if ((d.links & split_links(DIRECTION_FLAGS | DESC_F_NEXT, UINT16_MAX)) != first ||
			!chain_three_piece(q, chain, 0, d.addr, d.len, &bytes))
		return false;
	out_bytes = bytes;
	d = guest_read_split_words(&row[1]);
	if ((d.links & split_links(DESC_F_NEXT | DESC_F_INDIRECT, UINT16_MAX)) != second ||
			!chain_three_piece(q, chain, 1, d.addr, d.len, &bytes))
		return false;
	write = (d.links & DESC_F_WRITE) != 0;
	if (!write)
		out_bytes = bytes;
	d = guest_read_split_words(&row[2]);
	return (d.links & (DIRECTION_FLAGS | DESC_F_NEXT)) == DESC_F_WRITE &&
			chain_three_piece(q, chain, 2, d.addr, d.len, &bytes) &&
			chain_three_end(chain, write, bytes, out_bytes);
}

/* The same in the indirect table that `by` tells of. */
static __rte_always_inline bool
split_table_row(const struct vhub_virtq *vq, const struct chain_quick *q, struct vhub_chain *chain,
		const struct split_desc *by)
{
	const void *table = split_table_of_three(vq, q, by);

	return table != NULL && split_walk_row(q, chain, table, 0);
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

/* What every chain of a burst needs of its ring. */
struct split_burst {
	const struct split_desc *desc;
	uint8_t *busy;
	/* On the stack of free ones: the n-th chain's request is so many before it. */
	struct vhub_chain *const *last;
	uint32_t size;
	uint16_t order; /* of the first one */
};

static __rte_always_inline void
split_burst_init(const struct vhub_virtq *vq, struct split_burst *b)
{
	b->desc = vq->desc;
	b->busy = vq->busy;
	b->last = &vq->free[vq->n_free] - 1;
	b->size = vq->size;
	b->order = vq->next_order;
}

/* Puts the chain of `head`, the n-th of a burst, together. */
static __rte_always_inline enum vhub_virtq_reason
split_fetch(struct vhub_virtq *vq, const struct split_burst *b, struct chain_quick *q, uint32_t n,
		uint32_t head, struct vhub_chain **out)
{
	struct vhub_chain *chain = *(b->last - n);

	if (unlikely(head >= b->size))
		return VHUB_VIRTQ_BAD_HEAD;
	if (unlikely(b->busy[head] != 0))
		return VHUB_VIRTQ_HEAD_IN_FLIGHT;
	if (unlikely(head + 2 >= b->size || !split_walk_row(q, chain, &b->desc[head], head)) &&
			!split_table_row(vq, q, chain, &b->desc[head])) {
		const enum vhub_virtq_reason why = split_fetch_other(vq, chain, (uint16_t)head);

		if (unlikely(why != VHUB_VIRTQ_OK))
			return why;
		chain_quick_init(vq, q);
	}
	b->busy[head] = 1;
	split_place(chain, head | (b->order + n) << 16);
	*out = chain;
	return VHUB_VIRTQ_OK;
}

enum vhub_virtq_reason
split_fetch_at(struct vhub_virtq *vq, uint32_t n, uint16_t head)
{
	struct vhub_chain *chain;
	struct split_burst b;
	struct chain_quick q;

	split_burst_init(vq, &b);
	chain_quick_init(vq, &q);
	return split_fetch(vq, &b, &q, n, head, &chain);
}

uint16_t
split_pop(struct vhub_virtq *vq, struct vhub_chain **chains, uint16_t max)
{
	const uint16_t *ring = vq->avail->ring;
	const uint32_t mask = vq->size - 1, from = vq->last_avail;
	enum vhub_virtq_reason why = VHUB_VIRTQ_OK;
	struct split_burst b;
	struct chain_quick q;
	uint32_t n, want;

	if (unlikely(!split_waiting(vq, max, &want)))
		return 0;
	split_burst_init(vq, &b);
	chain_quick_init(vq, &q);
	for (n = 0; n < want; n++) {
		const uint32_t head = __atomic_load_n(&ring[(from + n) & mask], __ATOMIC_RELAXED);

		why = split_fetch(vq, &b, &q, n, head, &chains[n]);
		if (unlikely(why != VHUB_VIRTQ_OK))
			break;
	}
	split_taken(vq, n, why);
	return (uint16_t)n;
}

void
split_unpop(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n)
{
	vq->last_avail = (uint16_t)(vq->last_avail - n);
	vhub_count(&vq->stats.chains, -(uint64_t)n);
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
	struct split_burst b;
	struct chain_quick q;
	uint16_t n;

	split_burst_init(vq, &b);
	chain_quick_init(vq, &q);
	for (n = 0; n < max && vq->replay_at != vq->n_replay; n++) {
		why = split_fetch(vq, &b, &q, n, vq->replay[vq->replay_at], &chains[n]);
		if (why != VHUB_VIRTQ_OK)
			break;
		vq->replay_at++;
	}
	virtq_chains_taken(vq, n);
	vhub_count(&vq->stats.resubmitted, n);
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
