/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packed rings, what is not on the fast path: preparing chains, kicks, and reaping in order. Called
 * by ring.c and ring_fast.h.
 */
#include <errno.h>
#include <stdlib.h>

#include "ring_fast.h"

int
ring_packed_create(struct ring *r)
{
	r->tmpl = calloc((size_t)r->n_slots * r->stride, sizeof(*r->tmpl));
	if (r->tmpl == NULL)
		return -ENOMEM;
	for (uint16_t slot = 0; slot < r->n_slots; slot++)
		r->slots[slot].head = (uint16_t)(slot * r->stride);
	return 0;
}

void
ring_packed_prepare(struct ring *r, uint16_t slot, const struct ring_piece *pieces, unsigned int n)
{
	struct packed_desc *tmpl = &r->tmpl[r->slots[slot].head];
	struct packed_desc *to = r->indirect ? (void *)ring_table(r, slot) : tmpl;

	/* In a table NEXT and the id mean nothing (2.8.7). */
	for (unsigned int i = 0; i < n; i++) {
		to[i] = (struct packed_desc){
			.addr = memory_gpa(r->mem, pieces[i].hva),
			.len = pieces[i].bytes,
			.id = r->indirect ? 0 : slot,
			.flags = (uint16_t)((pieces[i].writable ? DESC_F_WRITE : 0) |
					(!r->indirect && i + 1 < n ? DESC_F_NEXT : 0)),
		};
	}
	if (r->indirect)
		*tmpl = (struct packed_desc){
			.addr = memory_gpa(r->mem, to),
			.len = (uint32_t)(n * sizeof(*to)),
			.id = slot,
			.flags = DESC_F_INDIRECT,
		};
}

/*
 * 2.8.10: off_wrap names a descriptor and its lap; a kick is wanted when it is among the
 * `unkicked`, which end before the `unpublished`, and these before the ring's place.
 */
static bool
wants_kick(const struct ring *r)
{
	const uint32_t event = __atomic_load_n((const uint32_t *)r->used, __ATOMIC_RELAXED);
	const unsigned int flags = event >> 16 & 0x3;
	uint32_t offset = event & 0x7fff, back;

	if (flags != PACKED_EVENT_DESC || !r->event_idx)
		return flags != PACKED_EVENT_DISABLE;
	if (unlikely(offset >= r->size || r->unkicked > r->size))
		return true;
	/* How far behind our place it lies. */
	back = r->avail_idx - offset;
	if ((event >> 15 & 1) != r->avail_wrap)
		back += r->size;
	return back - r->unpublished - 1 < r->unkicked;
}

void
ring_packed_kick(struct ring *r)
{
	if (wants_kick(r))
		ring_write_kick(r);
	r->unkicked = 0;
}

int
ring_packed_reap_any(struct ring *r, struct ring_used *out, unsigned int max)
{
	return ring_packed_reap(r, out, max, 0);
}

static __rte_always_inline int
reap_in_order(struct ring *r, struct ring_used *out, unsigned int max, const uint32_t each)
{
	struct ring_place p = ring_packed_place(r);
	unsigned int n = 0;

	while (n < max) {
		uint32_t n_descs, bytes;
		uint16_t id;

		if (r->batch_left == 0) {
			if (!ring_packed_next(r, &p, &id, &bytes))
				break;
			if (likely(ring_take_single(r, id, bytes, &out[n]))) {
				n++;
				ring_packed_advance(r, &p, each != 0 ? each : r->slots[id].n_descs);
				continue;
			}
			ring_packed_set_place(r, &p);
			if (unlikely(ring_open_batch(r, id, id, bytes) != 0))
				return -EPROTO;
		}
		n += ring_take_batch(r, &out[n], max - n, &n_descs);
		ring_packed_advance(r, &p, n_descs);
	}
	ring_packed_set_place(r, &p);
	return (int)n;
}

int
ring_packed_reap_in_order(struct ring *r, struct ring_used *out, unsigned int max)
{
	return likely(r->n_short == 0) ? reap_in_order(r, out, max, r->stride) :
					 reap_in_order(r, out, max, 0);
}
