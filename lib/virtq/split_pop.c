/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Split rings, taking (VIRTIO 1.2, 2.7): available ring to chains. Called through virtq_ops by
 * virtq.c; the way back is split_push.c. With an inflight region each chain is noted in it ("When
 * receiving available buffers").
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
static __rte_noinline struct vhub_chain *
split_fetch_any(struct vhub_virtq *vq, uint16_t head)
{
	enum vhub_virtq_reason why;
	struct chain_build b;

	chain_begin(vq, &b);
	why = split_walk(vq, &b, head);
	if (likely(why == VHUB_VIRTQ_OK))
		why = chain_end(&b);
	if (unlikely(why != VHUB_VIRTQ_OK)) {
		chain_abandon(vq, &b, why);
		return NULL;
	}
	return b.chain;
}

/*
 * The common chain, in the ring's own table or in an indirect one. False: it is something else, or
 * something is wrong with it. Ends, for each turn but one adds a piece.
 */
static __rte_always_inline bool
split_walk_quick(struct vhub_virtq *vq, struct chain_quick *q, uint16_t head)
{
	const struct split_desc *table = vq->desc;
	bool may_open = vq->indirect; /* an indirect table: one, at the chain's end */
	uint32_t size = vq->size;
	uint32_t i = head;

	for (;;) {
		const struct split_desc d = guest_read_split(&table[i]);

		if ((d.flags & DESC_F_INDIRECT) != 0) {
			if (unlikely(!may_open || (d.flags & DESC_F_NEXT) != 0 ||
					    d.len % sizeof(d) != 0))
				return false;
			may_open = false;
			size = d.len / (uint32_t)sizeof(d);
			table = (const void *)chain_quick_hva(vq, q, d.addr, d.len);
			i = 0;
			if (unlikely(table == NULL || size > VHUB_VIRTQ_MAX_SIZE))
				return false;
			continue;
		}
		if (unlikely(!chain_quick_add(vq, q, d.addr, d.len, (d.flags & DESC_F_WRITE) != 0)))
			return false;
		if ((d.flags & DESC_F_NEXT) == 0)
			return true;
		i = d.next;
		if (unlikely(i >= size))
			return false;
	}
}

/* Puts the chain of `head` together. On success it is the device's. */
static __rte_always_inline struct vhub_chain *
split_fetch(struct vhub_virtq *vq, struct chain_quick *q, uint16_t head)
{
	struct vhub_chain *chain;

	if (unlikely(head >= vq->size)) {
		virtq_break(vq, VHUB_VIRTQ_BAD_HEAD);
		return NULL;
	}
	if (unlikely(vq->busy[head] != 0)) {
		virtq_break(vq, VHUB_VIRTQ_HEAD_IN_FLIGHT);
		return NULL;
	}
	chain = vq->free[vq->n_free - 1];
	chain_quick_begin(q, chain);
	if (unlikely(!split_walk_quick(vq, q, head) || !chain_quick_end(q, chain))) {
		chain = split_fetch_any(vq, head);
		if (chain == NULL)
			return NULL;
		chain_quick_init(vq, q);
	}
	virtq_chain_taken(vq, chain);
	vq->busy[head] = 1;
	chain->id = head;
	chain->n_slots = 1;
	return chain;
}

/* The counter first: an entry that is in flight has its place in the order. */
static __rte_always_inline void
split_note(struct vhub_virtq *vq, uint16_t head)
{
	struct inflight_split_desc *entry = &vq->inflight_split->desc[head];

	__atomic_store_n(&entry->counter, vq->counter++, __ATOMIC_RELAXED);
	__atomic_store_n(&entry->inflight, 1, __ATOMIC_RELEASE);
}

static __rte_always_inline uint16_t
split_pop(struct vhub_virtq *vq, struct vhub_chain **chains, uint16_t max, const bool inflight)
{
	const uint16_t mask = (uint16_t)(vq->size - 1);
	/* Acquire: pairs with the driver's release of idx, behind its entries and descriptors. */
	const uint16_t avail_idx = __atomic_load_n(&vq->avail->idx, __ATOMIC_ACQUIRE);
	const uint16_t waiting = (uint16_t)(avail_idx - vq->last_avail);
	const uint16_t want = RTE_MIN(waiting, max);
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
		struct vhub_chain *chain = split_fetch(vq, &q, head);

		if (unlikely(chain == NULL))
			break;
		chains[n] = chain;
		if (inflight)
			split_note(vq, head);
	}
	vq->last_avail = (uint16_t)(vq->last_avail + n);
	vq->outstanding += n;
	virtq_count(&vq->stats.chains, n);
	return n;
}

uint16_t
split_pop_plain(struct vhub_virtq *vq, struct vhub_chain **chains, uint16_t max)
{
	return split_pop(vq, chains, max, false);
}

uint16_t
split_pop_inflight(struct vhub_virtq *vq, struct vhub_chain **chains, uint16_t max)
{
	return split_pop(vq, chains, max, true);
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
	struct chain_quick q;
	uint16_t n;

	chain_quick_init(vq, &q);
	for (n = 0; n < max && vq->replay_at != vq->n_replay; n++) {
		struct vhub_chain *chain = split_fetch(vq, &q, vq->replay[vq->replay_at]);

		if (chain == NULL)
			break;
		chains[n] = chain;
		vq->replay_at++;
	}
	virtq_count(&vq->stats.chains, n);
	virtq_count(&vq->stats.resubmitted, n);
	return n;
}
