/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packed rings, giving back (VIRTIO 1.2, 2.8): chains to used descriptors. A burst becomes visible
 * at once, with the flags of its first descriptor, which are stored last: the driver does not look
 * past a descriptor that is not used. packed_push_in_turn() alone does it another way. Called
 * through virtq_ops by virtq.c and inorder.c; whether the guest is told is notify.c's.
 *
 * With an inflight region the stores come in the order of "When supplying used buffers to the
 * driver", packed; inflight_packed.c reads what a crash between any two of them leaves.
 */
#include "virtq_pvt.h"

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
packed_open_update(struct vhub_virtq *vq, const struct packed_pos *from,
		const struct packed_pos *end, uint16_t turn_slots)
{
	const union {
		struct {
			uint16_t used_idx, old_used_idx;
			uint8_t used_wrap, old_used_wrap;
			uint16_t turn_slots;
		};
		uint64_t word;
	} used = { { (uint16_t)end->idx, (uint16_t)from->idx, (uint8_t)end->wrap,
			(uint8_t)from->wrap, turn_slots } };

	__atomic_store_n(&vq->inflight_packed->used, used.word, __ATOMIC_RELEASE);
}

static __rte_always_inline void
packed_open_batch(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n,
		const struct packed_pos *from)
{
	const uint16_t free_head = packed_free_entries(vq, chains, n);
	struct packed_pos end = *from;

	for (uint16_t i = 0; i < n; i++)
		packed_pos_add(&end, chains[i]->n_slots, vq->size);
	__atomic_store_n(&vq->inflight_packed->free_heads,
			free_head | (uint32_t)vq->free_head << 16, __ATOMIC_RELEASE);
	packed_open_update(vq, from, &end, 0);
	vq->free_head = free_head;
}

/* The steps behind the flags: the guest has them. */
static __rte_always_inline void
packed_close_update(struct vhub_virtq *vq)
{
	const uint64_t idx = vq->used_idx, wrap = vq->used_wrap;

	__atomic_store_n(&vq->inflight_packed->used, idx | idx << 16 | wrap << 32 | wrap << 40,
			__ATOMIC_RELEASE);
}

static __rte_always_inline void
packed_close_batch(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n)
{
	struct inflight_packed *region = vq->inflight_packed;

	for (uint16_t i = 0; i < n; i++)
		__atomic_store_n(&region->desc[chains[i]->inflight_slot].inflight, 0,
				__ATOMIC_RELEASE);
	__atomic_store_n(&region->free_heads, vq->free_head | (uint32_t)vq->free_head << 16,
			__ATOMIC_RELEASE);
	packed_close_update(vq);
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

/* Stores the burst and returns where it ends. */
static __rte_always_inline struct packed_pos
packed_fill_used(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n,
		const struct packed_pos *from)
{
	struct packed_pos pos = *from;

	packed_pos_add(&pos, chains[0]->n_slots, vq->size);
	for (uint16_t i = 1; i < n; i++) {
		packed_store_used(&vq->ring[pos.idx], chains[i]->used_bytes, chains[i]->id,
				pos.wrap, __ATOMIC_RELAXED);
		packed_pos_add(&pos, chains[i]->n_slots, vq->size);
	}
	/*
	 * Release: pairs with the driver's acquire of the flags, before its look at the burst and
	 * its data.
	 */
	packed_store_used(&vq->ring[from->idx], chains[0]->used_bytes, chains[0]->id, from->wrap,
			__ATOMIC_RELEASE);
	return pos;
}

static __rte_always_inline void
packed_published(struct vhub_virtq *vq, const struct packed_pos *end)
{
	const uint32_t lap = end->wrap != vq->used_wrap ? vq->size : 0;
	const uint32_t n_slots = end->idx + lap - vq->used_idx;

	vq->used_idx = (uint16_t)end->idx;
	vq->used_wrap = (uint8_t)end->wrap;
	vq->slots -= n_slots;
	virtq_unnotified(vq, n_slots);
}

static __rte_always_inline void
packed_publish(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n,
		const struct packed_pos *from)
{
	struct packed_pos end;

	if (unlikely(vq->log != NULL))
		dirty_mark_data(vq, chains, n);
	end = packed_fill_used(vq, chains, n, from);
	packed_published(vq, &end);
}

/* Whether the chains come back as they were taken; and whether each takes as many slots. */
static __rte_always_inline bool
packed_in_turn(struct vhub_chain *const *chains, uint16_t n, bool *alike)
{
	const uint16_t order = chains[0]->order, n_slots = chains[0]->n_slots;
	uint32_t orders_differ = 0, slots_differ = 0;

	for (uint16_t i = 1; i < n; i++) {
		orders_differ |= chains[i]->order ^ (uint16_t)(order + i);
		slots_differ |= chains[i]->n_slots ^ n_slots;
	}
	*alike = slots_differ == 0;
	return orders_differ == 0;
}

/* How many chains take as many slots as the first one, until one does not. */
static uint16_t
packed_run(struct vhub_chain *const *chains, uint16_t n)
{
	uint16_t i = 1;

	while (i < n && chains[i]->n_slots == chains[0]->n_slots)
		i++;
	return i;
}

/*
 * All that is in flight, of which the region was not told, as it was taken. Each chain is given back
 * where it lies, with one store that the driver may see at once: wherever that stops, the chains
 * behind are available as they were. The region is told where a run of chains that are alike begins
 * and ends, and how many slots each takes; the next run's begin is its end.
 */
static __rte_always_inline void
packed_push_in_turn(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n, bool alike)
{
	struct packed_pos pos = { vq->used_idx, vq->used_wrap };

	if (unlikely(vq->log != NULL))
		dirty_mark_data(vq, chains, n);
	for (uint16_t i = 0; i < n;) {
		const uint16_t run = likely(alike) ? n : packed_run(&chains[i], (uint16_t)(n - i));
		const uint16_t run_end = (uint16_t)(i + run), n_slots = chains[i]->n_slots;
		struct packed_pos end = pos;

		packed_pos_add(&end, (uint32_t)run * n_slots, vq->size);
		packed_open_update(vq, &pos, &end, n_slots);
		for (; i < run_end; i++) {
			/* Release: pairs with the driver's acquire of the flags. */
			packed_store_used(&vq->ring[pos.idx], chains[i]->used_bytes, chains[i]->id,
					pos.wrap, __ATOMIC_RELEASE);
			packed_pos_add(&pos, n_slots, vq->size);
		}
	}
	packed_published(vq, &pos);
	packed_close_update(vq);
}

void
packed_push_plain(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n)
{
	const struct packed_pos from = { vq->used_idx, vq->used_wrap };

	packed_publish(vq, chains, n, &from);
	if (unlikely(vq->log != NULL))
		packed_mark_used(vq, from, chains, n);
	virtq_chains_put(vq, chains, n);
}

void
packed_push_inflight(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n)
{
	const struct packed_pos from = { vq->used_idx, vq->used_wrap };
	bool alike;

	if (likely(virtq_is_unnoted(vq, n) && packed_in_turn(chains, n, &alike))) {
		vq->n_fresh = 0;
		packed_push_in_turn(vq, chains, n, alike);
	} else {
		virtq_note(vq);
		packed_open_batch(vq, chains, n, &from);
		packed_publish(vq, chains, n, &from);
		packed_close_batch(vq, chains, n);
	}
	if (unlikely(vq->log != NULL))
		packed_mark_used(vq, from, chains, n);
	virtq_chains_put(vq, chains, n);
}
