/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Split rings, giving back (VIRTIO 1.2, 2.7.8): chains to used ring, the used index once a burst.
 * Called through virtq_ops by virtq.c and inorder.c; whether the guest is told is notify.c's.
 *
 * With an inflight region the stores come in the order of "When supplying used buffers to the
 * driver". Releases keep them in this order in the program that runs, so that being killed between
 * any two leaves what inflight_split.c can read. A burst of which the region has not been told needs
 * none of that: virtq_is_unnoted().
 */
#include "virtq_pvt.h"

/* Steps 1 to 3: the batch is a list that begins at last_batch_head. */
static __rte_always_inline void
split_link_batch(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n)
{
	struct inflight_split *region = vq->inflight_split;
	uint16_t head = vq->last_batch_head;

	for (uint16_t i = 0; i < n; i++) {
		__atomic_store_n(&region->desc[chains[i]->id].next, head, __ATOMIC_RELAXED);
		head = chains[i]->id;
	}
	/* Until the used index moves on, nobody follows the list. */
	__atomic_store_n(&region->last_batch_head, head, __ATOMIC_RELEASE);
	vq->last_batch_head = head;
}

/* The guest has them: they are in flight no more, and then the batch is over. */
static __rte_always_inline void
split_close_batch(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n)
{
	struct inflight_split *region = vq->inflight_split;

	for (uint16_t i = 0; i < n; i++)
		__atomic_store_n(&region->desc[chains[i]->id].inflight, 0, __ATOMIC_RELEASE);
}

/*
 * The entries [from, from + n) of the used ring, and its index. Also entries that stood there already: who
 * stored them may not have marked them.
 */
static void
split_mark_used(const struct vhub_virtq *vq, uint16_t from, uint16_t n)
{
	const uint32_t at = from & (vq->size - 1);
	const uint32_t first = RTE_MIN(n, vq->size - at);
	const uint64_t elem = sizeof(struct split_used_elem);

	dirty_mark_ring(vq, offsetof(struct split_used, ring) + at * elem, first * elem);
	dirty_mark_ring(vq, offsetof(struct split_used, ring), (n - first) * elem);
	dirty_mark_ring(vq, offsetof(struct split_used, idx), sizeof(vq->used->idx));
}

static __rte_always_inline uint64_t
word_of_chain(const void *burst, uint32_t i)
{
	const struct vhub_chain *chain = ((struct vhub_chain *const *)burst)[i];

	return split_used_word(chain->id, chain->used_bytes);
}

/*
 * Everything but the index. Stores that follow each other into the same line become one, so the two
 * kinds do not take turns.
 */
static __rte_always_inline void
split_fill_used(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n)
{
	uint8_t *busy = vq->busy;

	for (uint32_t i = 0; i < n; i++)
		busy[chains[i]->id] = 0;
	split_store_used(vq, word_of_chain, chains, n);
}

static __rte_always_inline void
split_publish(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n)
{
	if (unlikely(vq->log != NULL))
		dirty_mark_data(vq, chains, n);
	vq->used_idx = (uint16_t)(vq->used_idx + n);
	/* Release: pairs with the driver's acquire of idx, before its look at entries and data. */
	__atomic_store_n(&vq->used->idx, vq->used_idx, __ATOMIC_RELEASE);
}

static __rte_always_inline void
split_end_push(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n)
{
	if (unlikely(vq->log != NULL))
		split_mark_used(vq, (uint16_t)(vq->used_idx - n), n);
	virtq_chains_put(vq, chains, n);
	virtq_unnotified(vq, n);
}

void
split_push_plain(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n)
{
	split_fill_used(vq, chains, n);
	split_publish(vq, chains, n);
	split_end_push(vq, chains, n);
}

void
split_push_inflight(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n)
{
	const bool unnoted = virtq_is_unnoted(vq, n);

	split_fill_used(vq, chains, n);
	if (likely(unnoted)) {
		vq->n_fresh = 0;
	} else {
		virtq_note(vq);
		split_link_batch(vq, chains, n);
	}
	split_publish(vq, chains, n);
	if (unlikely(!unnoted))
		split_close_batch(vq, chains, n);
	__atomic_store_n(&vq->inflight_split->used_idx, vq->used_idx, __ATOMIC_RELEASE);
	split_end_push(vq, chains, n);
}
