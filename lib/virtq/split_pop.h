/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the variants of split_pop() share: split_pop.c, which has it all, and split_pop_avx512.c, which
 * has the most common chain anew.
 */
#ifndef SPLIT_POP_H
#define SPLIT_POP_H

#include "chain.h"

static_assert(offsetof(struct vhub_chain, order) == offsetof(struct vhub_chain, id) + 2 &&
				offsetof(struct vhub_chain, n_slots) ==
						offsetof(struct vhub_chain, id) + 4 &&
				offsetof(struct vhub_chain, inflight_slot) ==
						offsetof(struct vhub_chain, id) + 6,
		"written as one word");

/*
 * Puts the chain of `head`, the n-th of a burst, together in the request that is its, whatever it looks
 * like.
 */
enum vhub_virtq_reason
split_fetch_at(struct vhub_virtq *vq, uint32_t n, uint16_t head);

/* id and order, as `place` has them, and what is the same for all chains. */
static __rte_always_inline void
split_place(struct vhub_chain *chain, uint32_t place)
{
	const uint64_t word = place | UINT64_C(1) << 32;

	memcpy((uint8_t *)chain + offsetof(struct vhub_chain, id), &word, sizeof(word));
}

/* How many are offered, up to `max`. False: more than there can be. */
static __rte_always_inline bool
split_waiting(struct vhub_virtq *vq, uint16_t max, uint32_t *want)
{
	/* Acquire: pairs with the driver's release of idx, behind its entries and descriptors. */
	const uint16_t avail_idx = __atomic_load_n(&vq->avail->idx, __ATOMIC_ACQUIRE);
	const uint16_t waiting = (uint16_t)(avail_idx - vq->last_avail);

	if (unlikely(waiting > vq->size - vq->outstanding)) {
		virtq_break(vq, VHUB_VIRTQ_AVAIL_RUNAWAY);
		return false;
	}
	*want = RTE_MIN(waiting, max);
	return true;
}

/* The burst is over, after `n` chains or, if `why` says so, before it should. */
static __rte_always_inline void
split_taken(struct vhub_virtq *vq, uint32_t n, enum vhub_virtq_reason why)
{
	virtq_offers_taken(vq, (uint16_t)n);
	vq->last_avail = (uint16_t)(vq->last_avail + n);
	if (unlikely(why != VHUB_VIRTQ_OK))
		chain_refused(vq, why);
}

/*
 * The indirect table of three descriptors that `by` tells of, if it is in the region of the last hit;
 * else NULL.
 */
static __rte_always_inline const void *
split_table_of_three(const struct vhub_virtq *vq, const struct chain_quick *q,
		const struct split_desc *by)
{
	const struct split_desc d = guest_read_split(by);
	const uint64_t at = d.addr - q->gpa;

	if ((d.flags & (DESC_F_INDIRECT | DESC_F_NEXT)) != DESC_F_INDIRECT || !vq->indirect ||
			d.len != 3 * sizeof(d) || at >= q->size_bytes || q->size_bytes - at < d.len)
		return NULL;
	return q->hva + at;
}

#endif /* SPLIT_POP_H */
