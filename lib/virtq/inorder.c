/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * IN_ORDER (VIRTIO 1.2, 2.7.9 and 2.8.8): devices complete when they can, the
 * guest sees the order in which it asked. Called by virtq.c in place of ops->push; next:
 * split_push.c, packed_push.c.
 */
#include "virtq_pvt.h"

static struct vhub_chain *
inorder_take(struct vhub_virtq *vq)
{
	struct vhub_chain **place = &vq->held[vq->next_used_order & vq->held_mask];
	struct vhub_chain *chain = *place;

	if (chain != NULL) {
		*place = NULL;
		vq->n_held--;
		vq->next_used_order++;
	}
	return chain;
}

/* Whether these are what the guest must see next: so it is with devices that work them off in order. */
static __rte_always_inline bool
is_next(const struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n)
{
	uint16_t difference = 0;

	for (uint16_t i = 0; i < n; i++)
		difference |= chains[i]->order ^ (uint16_t)(vq->next_used_order + i);
	return difference == 0;
}

void
inorder_push(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n)
{
	struct vhub_chain *run[VHUB_VIRTQ_BURST];
	uint16_t n_run;

	if (vq->n_held == 0 && is_next(vq, chains, n)) {
		vq->next_used_order = (uint16_t)(vq->next_used_order + n);
		vq->ops->push(vq, chains, n);
		return;
	}
	/* They may stay here until the ring ends, and what they hold is written. */
	if (unlikely(vq->log != NULL))
		dirty_mark_data(vq, chains, n);
	for (uint16_t i = 0; i < n; i++)
		vq->held[chains[i]->order & vq->held_mask] = chains[i];
	vq->n_held += n;
	do {
		for (n_run = 0; n_run < VHUB_VIRTQ_BURST; n_run++) {
			run[n_run] = inorder_take(vq);
			if (run[n_run] == NULL)
				break;
		}
		if (n_run != 0)
			vq->ops->push(vq, run, n_run);
	} while (n_run == VHUB_VIRTQ_BURST);
}

void
inorder_drop(struct vhub_virtq *vq, void (*drop)(struct vhub_virtq *vq, struct vhub_chain *chain))
{
	for (uint32_t i = 0; vq->n_held != 0 && i <= vq->held_mask; i++) {
		struct vhub_chain *chain = vq->held[i];

		if (chain == NULL)
			continue;
		vq->held[i] = NULL;
		vq->n_held--;
		drop(vq, chain);
	}
}
