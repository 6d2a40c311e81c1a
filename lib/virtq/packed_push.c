/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packed rings, giving back (VIRTIO 1.2, 2.8): chains to used descriptors. A burst becomes visible
 * at once, with the flags of its first descriptor, which are stored last: the driver does not look
 * past a descriptor that is not used. Called through virtq_ops by virtq.c and inorder.c; whether
 * the guest is told is notify.c's.
 *
 * With an inflight region the stores come in the order of "When supplying used buffers to the
 * driver", packed; inflight_packed.c reads what a crash between any two of them leaves.
 */
#include "virtq_pvt.h"

/* Where used descriptors go. */
struct packed_pos {
	uint32_t idx;
	unsigned int wrap;
};

static __rte_always_inline void
packed_pos_add(struct packed_pos *pos, uint32_t n_slots, uint32_t size)
{
	pos->idx += n_slots;
	if (unlikely(pos->idx >= size)) {
		pos->idx -= size;
		pos->wrap ^= 1;
	}
}

/* Steps 1 to 4: the entries of each chain go back to the free list. */
static __rte_always_inline uint16_t
packed_free_entries(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n)
{
	struct inflight_packed *region = vq->inflight_packed;
	uint16_t free_head = vq->free_head;

	for (uint16_t i = 0; i < n; i++) {
		const uint16_t entry = chains[i]->inflight_slot;
		const uint16_t last = vq->last[entry];

		vq->next[last] = free_head;
		__atomic_store_n(&region->desc[last].next, free_head, __ATOMIC_RELAXED);
		free_head = entry;
	}
	return free_head;
}

/* The next steps, until the flags: new values beside the old ones. */
static __rte_always_inline void
packed_open_batch(struct vhub_virtq *vq, uint16_t free_head, const struct packed_pos *end)
{
	struct inflight_packed *region = vq->inflight_packed;
	const union {
		struct {
			uint16_t used_idx, old_used_idx;
			uint8_t used_wrap, old_used_wrap, padding[2];
		};
		uint64_t word;
	} used = { { (uint16_t)end->idx, vq->used_idx, (uint8_t)end->wrap, vq->used_wrap,
			{ 0, 0 } } };

	__atomic_store_n(&region->free_heads, free_head | (uint32_t)vq->free_head << 16,
			__ATOMIC_RELEASE);
	__atomic_store_n(&region->used, used.word, __ATOMIC_RELEASE);
	vq->free_head = free_head;
}

/* The steps behind the flags: the guest has them. */
static __rte_always_inline void
packed_close_batch(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n)
{
	struct inflight_packed *region = vq->inflight_packed;
	const uint64_t idx = vq->used_idx, wrap = vq->used_wrap;

	for (uint16_t i = 0; i < n; i++)
		__atomic_store_n(&region->desc[chains[i]->inflight_slot].inflight, 0,
				__ATOMIC_RELEASE);
	__atomic_store_n(&region->free_heads, vq->free_head | (uint32_t)vq->free_head << 16,
			__ATOMIC_RELEASE);
	__atomic_store_n(&region->used, idx | idx << 16 | wrap << 32 | wrap << 40,
			__ATOMIC_RELEASE);
}

static void
packed_mark_used(const struct vhub_virtq *vq, struct packed_pos pos,
		struct vhub_chain *const *chains, uint16_t n)
{
	for (uint16_t i = 0; i < n; i++) {
		dirty_mark_ring(vq, (uint64_t)pos.idx * sizeof(struct packed_desc),
				sizeof(struct packed_desc));
		packed_pos_add(&pos, chains[i]->n_slots, vq->size);
	}
}

static __rte_always_inline void
packed_push(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n,
		const bool inflight)
{
	const struct packed_pos from = { vq->used_idx, vq->used_wrap };
	struct packed_pos pos = from;
	uint16_t first_flags = 0;
	uint32_t n_slots = 0;

	if (unlikely(vq->log != NULL))
		dirty_mark_data(vq, chains, n);
	if (inflight) {
		for (uint16_t i = 0; i < n; i++)
			packed_pos_add(&pos, chains[i]->n_slots, vq->size);
		packed_open_batch(vq, packed_free_entries(vq, chains, n), &pos);
		pos = from;
	}
	for (uint16_t i = 0; i < n; i++) {
		const struct vhub_chain *chain = chains[i];
		struct packed_desc *slot = &vq->ring[pos.idx];
		/* WRITE tells that `len` counts (2.8.4). */
		const uint16_t flags = packed_used_flags(pos.wrap) |
				(chain->used_bytes != 0 ? DESC_F_WRITE : 0);

		slot->id = chain->id;
		slot->len = chain->used_bytes;
		if (i == 0)
			first_flags = flags;
		else
			__atomic_store_n(&slot->flags, flags, __ATOMIC_RELAXED);
		n_slots += chain->n_slots;
		packed_pos_add(&pos, chain->n_slots, vq->size);
	}
	/*
	 * Release: pairs with the driver's acquire of the flags, before its look at the burst and
	 * its data.
	 */
	__atomic_store_n(&vq->ring[from.idx].flags, first_flags, __ATOMIC_RELEASE);
	vq->used_idx = (uint16_t)pos.idx;
	vq->used_wrap = (uint8_t)pos.wrap;
	if (inflight)
		packed_close_batch(vq, chains, n);
	if (unlikely(vq->log != NULL))
		packed_mark_used(vq, from, chains, n);
	for (uint16_t i = 0; i < n; i++)
		virtq_chain_put(vq, chains[i]);
	vq->outstanding -= n;
	vq->slots -= n_slots;
	virtq_unnotified(vq, n_slots);
	virtq_count(&vq->stats.completions, n);
}

void
packed_push_plain(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n)
{
	packed_push(vq, chains, n, false);
}

void
packed_push_inflight(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n)
{
	packed_push(vq, chains, n, true);
}
