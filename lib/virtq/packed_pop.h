/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the variants of packed_pop() share: packed_pop.c, which has it all, and packed_pop_avx512.c, which
 * has the most common chain anew.
 */
#ifndef PACKED_POP_H
#define PACKED_POP_H

#include "chain.h"
#include "vhub_fetch.h"

/*
 * A driver's descriptors come from another processor's cache, line by line: they are on their way
 * before they are looked at. What it has not written yet it would have to fetch back, so nothing is
 * fetched behind what the last burst makes likely; and where a burst begins, only if that was long.
 */
#define FETCH_SLOTS_AHEAD 16u
#define FETCH_FIRST_FROM 64u

static __rte_always_inline void
packed_fetch_ahead(const struct vhub_virtq *vq, uint32_t at)
{
	at += FETCH_SLOTS_AHEAD;
	vhub_fetch_to_read(&vq->ring[at < vq->size ? at : at - vq->size], 1);
}

/* Each field once; what is not the address was loaded as `word` before. */
static __rte_always_inline struct packed_desc
packed_read(const struct packed_desc *slot, uint64_t word)
{
	return (struct packed_desc){
		.addr = __atomic_load_n(&slot->addr, __ATOMIC_RELAXED),
		.len = (uint32_t)word,
		.id = (uint16_t)(word >> 32),
		.flags = (uint16_t)(word >> 48),
	};
}

/*
 * How a variant takes the most common chain, three descriptors side by side. Each function is known where
 * packed_pop_three() is called, so that it is a part of the loop there.
 */
struct packed_three {
	/* What the chains of a burst are held against, after each look at other memory anew. */
	void (*init)(const struct vhub_virtq *vq, void *burst);
	/*
	 * In the ring, of which `word` belongs to the first descriptor. False: it is another chain. In a
	 * table, where flags other than the direction do not count, the chain's id is not set.
	 */
	bool (*ring)(const void *burst, struct vhub_chain *chain, const struct packed_desc *desc,
			uint64_t word);
	bool (*table)(const void *burst, struct vhub_chain *chain, const void *table);
};

/* Puts the chain together that begins at `at`, whatever it looks like. */
enum vhub_virtq_reason
packed_fetch_at(struct vhub_virtq *vq, struct vhub_chain *chain, uint32_t at, uint64_t word,
		uint32_t room);

/*
 * The indirect table of three descriptors that `by` tells of, if it is in the region of the last hit;
 * else NULL.
 */
static __rte_always_inline const void *
packed_table_of_three(const struct vhub_virtq *vq, const struct packed_desc *by)
{
	struct chain_quick q;
	uint64_t at;

	chain_quick_init(vq, &q);
	at = by->addr - q.gpa;
	if ((by->flags & (DESC_F_INDIRECT | DESC_F_NEXT)) != DESC_F_INDIRECT || !vq->indirect ||
			by->len != 3 * sizeof(*by) || at >= q.size_bytes ||
			q.size_bytes - at < by->len)
		return NULL;
	return q.hva + at;
}

static __rte_always_inline enum vhub_virtq_reason
packed_fetch(struct vhub_virtq *vq, const struct packed_three *three, void *burst,
		struct vhub_chain *chain, uint32_t at, uint64_t word, uint32_t room)
{
	const struct packed_desc *desc = &vq->ring[at];
	enum vhub_virtq_reason why;
	struct packed_desc d;
	const void *table;

	if (likely(room >= 3 && at + 3 <= vq->size) &&
			likely(three->ring(burst, chain, desc, word))) {
		chain->n_slots = 3;
		return VHUB_VIRTQ_OK;
	}
	d = packed_read(desc, word);
	table = packed_table_of_three(vq, &d);
	if (table != NULL && three->table(burst, chain, table)) {
		chain->id = d.id;
		chain->n_slots = 1;
		return VHUB_VIRTQ_OK;
	}
	why = packed_fetch_at(vq, chain, at, word, room);
	three->init(vq, burst);
	return why;
}

/* All that is common to them. */
static __rte_always_inline uint16_t
packed_pop_three(struct vhub_virtq *vq, struct vhub_chain **chains, uint16_t max,
		const struct packed_three *three, void *burst)
{
	struct packed_pos pos = { vq->last_avail, vq->avail_wrap };
	enum vhub_virtq_reason why = VHUB_VIRTQ_OK;
	uint32_t room = vq->size - vq->slots;
	const uint32_t fetch_until = room + FETCH_SLOTS_AHEAD;
	const uint32_t likely_slots = vq->burst_slots;
	uint16_t n;

	three->init(vq, burst);
	if (likely_slots >= FETCH_FIRST_FROM)
		vhub_virtq_prefetch(vq, FETCH_SLOTS_AHEAD - 1);
	for (n = 0; n < max; n++) {
		/* Acquire: pairs with the driver's release of the flags, behind the whole chain. */
		const uint64_t word = __atomic_load_n(PACKED_WORD(&vq->ring[pos.idx]),
				__ATOMIC_ACQUIRE);
		const uint16_t flags = (uint16_t)(word >> 48);
		struct vhub_chain *chain;

		if ((flags & (DESC_F_AVAIL | DESC_F_USED)) != packed_avail_flags(pos.wrap))
			break;
		if (unlikely(room == 0)) {
			why = VHUB_VIRTQ_AVAIL_RUNAWAY;
			break;
		}
		if (room + likely_slots > fetch_until)
			packed_fetch_ahead(vq, pos.idx);
		chain = virtq_chain_next(vq, n);
		why = packed_fetch(vq, three, burst, chain, pos.idx, word, room);
		if (unlikely(why != VHUB_VIRTQ_OK))
			break;
		chain->order = (uint16_t)(vq->next_order + n);
		room -= chain->n_slots;
		packed_pos_add(&pos, chain->n_slots, vq->size);
		chains[n] = chain;
	}
	virtq_offers_taken(vq, n);
	if (n != 0)
		vq->burst_slots = vq->size - vq->slots - room;
	vq->slots = vq->size - room;
	vq->last_avail = (uint16_t)pos.idx;
	vq->avail_wrap = (uint8_t)pos.wrap;
	if (unlikely(why != VHUB_VIRTQ_OK))
		chain_refused(vq, why);
	return n;
}

#endif /* PACKED_POP_H */
