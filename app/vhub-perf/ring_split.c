/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Split rings, what is not on the fast path: preparing chains, kicks, and reaping in order. Called
 * by ring.c and ring_fast.h.
 */
#include <errno.h>
#include <stdlib.h>

#include "ring_fast.h"

int
ring_split_create(struct ring *r)
{
	r->slot_of = calloc(r->size, sizeof(*r->slot_of));
	if (r->slot_of == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < r->size; i++)
		r->slot_of[i] = RING_NO_SLOT;
	for (uint16_t slot = 0; slot < r->n_slots; slot++) {
		r->slots[slot].head = (uint16_t)(slot * r->stride);
		r->slot_of[r->slots[slot].head] = slot;
	}
	return 0;
}

static void
put_chain(struct ring *r, struct split_desc *table, uint16_t first, const struct ring_piece *pieces,
		unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		const bool next = i + 1 < n;
		struct split_desc *d = &table[first + i];

		d->addr = memory_gpa(r->mem, pieces[i].hva);
		d->len = pieces[i].bytes;
		d->flags = (uint16_t)((pieces[i].writable ? DESC_F_WRITE : 0) |
				(next ? DESC_F_NEXT : 0));
		d->next = next ? (uint16_t)(first + i + 1) : 0;
	}
}

void
ring_split_prepare(struct ring *r, uint16_t slot, const struct ring_piece *pieces, unsigned int n)
{
	struct split_desc *descs = r->desc;
	uint8_t *table;

	if (!r->indirect) {
		put_chain(r, descs, r->slots[slot].head, pieces, n);
		return;
	}
	table = ring_table(r, slot);
	put_chain(r, (struct split_desc *)(void *)table, 0, pieces, n);
	descs[slot] = (struct split_desc){
		.addr = memory_gpa(r->mem, table),
		.len = (uint32_t)(n * sizeof(struct split_desc)),
		.flags = DESC_F_INDIRECT,
	};
}

/* 2.7.7: with EVENT_IDX, whether the back end's index is among those added since the last look. */
static bool
wants_kick(const struct ring *r)
{
	const struct split_used *used = r->used;
	uint16_t event;

	if (!r->event_idx)
		return (__atomic_load_n(&used->flags, __ATOMIC_RELAXED) & SPLIT_USED_F_NO_NOTIFY) ==
				0;
	event = __atomic_load_n((const uint16_t *)(const void *)&used->ring[r->size],
			__ATOMIC_RELAXED);
	return (uint16_t)(r->published_idx - event - 1) <
			(uint16_t)(r->published_idx - r->kick_idx);
}

void
ring_split_kick(struct ring *r)
{
	if (wants_kick(r))
		ring_write_kick(r);
	r->kick_idx = r->published_idx;
}

int
ring_split_reap_in_order(struct ring *r, struct ring_used *out, unsigned int max)
{
	const struct split_used *used = r->used;
	/* As in ring_split_reap(). */
	const uint16_t there = __atomic_load_n(&used->idx, __ATOMIC_ACQUIRE);
	const unsigned int all = (uint16_t)(there - r->used_idx);
	unsigned int n = 0;

	if (unlikely(all > (uint16_t)(r->published_idx - r->used_idx)))
		return ring_fault(r, RING_FAULT_RUNAWAY, there, all);
	while (n < max && r->used_idx != there) {
		const struct split_used_elem *e = &used->ring[r->used_idx & r->mask];
		uint32_t n_descs, taken;

		if (r->batch_left == 0) {
			const uint32_t id = __atomic_load_n(&e->id, __ATOMIC_RELAXED);
			const uint32_t bytes = __atomic_load_n(&e->len, __ATOMIC_RELAXED);
			const uint16_t left = (uint16_t)(there - r->used_idx);
			const uint16_t slot = ring_split_slot(r, id);

			if (likely(ring_take_single(r, slot, bytes, &out[n]))) {
				n++;
				r->used_idx++;
				continue;
			}
			if (unlikely(ring_open_batch(r, slot, id, bytes) != 0))
				return -EPROTO;
			if (unlikely(r->batch_left > left))
				return ring_fault(r, RING_FAULT_ORDER, id, r->batch_left);
		}
		taken = ring_take_batch(r, &out[n], max - n, &n_descs);
		r->used_idx = (uint16_t)(r->used_idx + taken);
		n += taken;
	}
	ring_split_put_off_call(r);
	return (int)n;
}
