/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Making a ring (ring.h), what both formats share, and what is said of a back end that breaks it.
 * Called by the subcommands; next: ring_split.c or ring_packed.c, then ring_fast.h.
 */
#include <errno.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "perf.h"
#include "ring_fast.h"
#include "vhub_virtq.h"

/* So far apart that no prefetcher brings a line that the other side is writing. */
#define PART_ALIGN 128u

static uint16_t
stride_of(const struct ring_config *config)
{
	return config->indirect ? 1 : config->pieces;
}

uint16_t
ring_slots(const struct ring_config *config)
{
	return config->size / stride_of(config);
}

/* Bytes of one slot's table; none shares a line with another's. */
static uint64_t
table_bytes(uint16_t pieces)
{
	return RTE_ALIGN_CEIL(pieces * sizeof(struct split_desc), RTE_CACHE_LINE_SIZE);
}

uint64_t
ring_memory_bytes(const struct ring_config *config)
{
	uint64_t desc, avail, used;

	vhub_virtq_layout(config->size, config->features, &desc, &avail, &used);
	return desc + avail + used + 4 * PART_ALIGN +
			(config->indirect ? ring_slots(config) * table_bytes(config->pieces) : 0);
}

static int
check_config(const struct ring_config *config)
{
	const bool packed = (config->features & RING_F_PACKED) != 0;

	if (config->pieces == 0 || config->pieces > RING_MAX_PIECES ||
			config->size > RING_MAX_SIZE || config->size < stride_of(config) ||
			(!packed && (config->size & (config->size - 1)) != 0)) {
		perf_error(config->name, "--ring-size %u: a %s ring has %u to %u entries%s",
				config->size, packed ? "packed" : "split", stride_of(config),
				RING_MAX_SIZE, packed ? "" : ", a power of two");
		return -EINVAL;
	}
	/* 2.7.9.1: chains follow each other through the whole table, so they have to fill it. */
	if ((config->features & VIRTQ_F_IN_ORDER) != 0 && !packed &&
			config->size % stride_of(config) != 0) {
		perf_error(config->name,
				"in order, chains of %u descriptors do not fill a split ring of %u: add --indirect",
				stride_of(config), config->size);
		return -EINVAL;
	}
	return 0;
}

static int
take_guest_memory(struct ring *r, struct perf_memory *mem)
{
	uint64_t desc, avail, used;

	vhub_virtq_layout(r->size, r->features, &desc, &avail, &used);
	r->desc = memory_alloc(mem, desc, PART_ALIGN);
	r->avail = memory_alloc(mem, avail, PART_ALIGN);
	r->used = memory_alloc(mem, used, PART_ALIGN);
	if (r->indirect)
		r->tables = memory_alloc(mem, r->n_slots * table_bytes(r->pieces), PART_ALIGN);
	r->mem = mem;
	return r->desc == NULL || r->avail == NULL || r->used == NULL ||
					(r->indirect && r->tables == NULL) ?
			-ENOMEM :
			0;
}

static int
take_own_memory(struct ring *r)
{
	const uint32_t order = rte_align32pow2(r->n_slots);

	r->slots = calloc(r->n_slots, sizeof(*r->slots));
	r->order = calloc(order, sizeof(*r->order));
	r->order_mask = (uint16_t)(order - 1);
	if (r->slots == NULL || r->order == NULL)
		return -ENOMEM;
	return r->packed ? ring_packed_create(r) : ring_split_create(r);
}

static int
make_fds(struct ring *r)
{
	r->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->kick_fd >= 0)
		r->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return r->kick_fd < 0 || r->call_fd < 0 ? -errno : 0;
}

int
ring_create(const struct ring_config *config, struct perf_memory *mem, struct ring **out)
{
	struct ring *r;
	int ret = check_config(config);

	if (ret != 0)
		return ret;
	r = aligned_alloc(alignof(struct ring), sizeof(*r));
	if (r == NULL)
		return -ENOMEM;
	memset(r, 0, sizeof(*r));
	r->size = config->size;
	r->mask = (uint16_t)(config->size - 1);
	r->pieces = config->pieces;
	r->stride = stride_of(config);
	r->n_slots = ring_slots(config);
	r->index = config->index;
	r->name = config->name;
	r->features = config->features;
	r->packed = (config->features & RING_F_PACKED) != 0;
	r->indirect = config->indirect;
	r->event_idx = (config->features & VIRTQ_F_EVENT_IDX) != 0;
	r->in_order = (config->features & VIRTQ_F_IN_ORDER) != 0;
	r->kick_fd = -1;
	r->call_fd = -1;
	ret = take_guest_memory(r, mem);
	if (ret == 0)
		ret = take_own_memory(r);
	if (ret == 0 && !config->poll)
		ret = make_fds(r);
	if (ret != 0) {
		perf_error(config->name, "ring %u: %s", config->index, strerror(-ret));
		ring_destroy(r);
		return ret;
	}
	ring_reset(r);
	*out = r;
	return 0;
}

void
ring_destroy(struct ring *r)
{
	if (r == NULL)
		return;
	if (r->kick_fd >= 0)
		close(r->kick_fd);
	if (r->call_fd >= 0)
		close(r->call_fd);
	free(r->slots);
	free(r->slot_of);
	free(r->tmpl);
	free(r->order);
	free(r);
}

/* We poll, and say so: no calls. With EVENT_IDX a split ring says it by an index. */
static void
refuse_calls(struct ring *r)
{
	struct split_avail *avail = r->avail;
	uint32_t *event = r->avail;

	if (r->packed) {
		*event = packed_event(0, PACKED_EVENT_DISABLE);
		return;
	}
	r->call_event = 0x8000;
	if (r->event_idx)
		avail->ring[r->size] = r->call_event;
	else
		avail->flags = SPLIT_AVAIL_F_NO_INTERRUPT;
}

void
ring_reset(struct ring *r)
{
	uint64_t desc, avail, used;

	vhub_virtq_layout(r->size, r->features, &desc, &avail, &used);
	if (r->packed)
		memset(r->desc, 0, desc);
	memset(r->avail, 0, avail);
	memset(r->used, 0, used);
	r->avail_idx = 0;
	r->used_idx = 0;
	r->avail_wrap = 1;
	r->used_wrap = 1;
	r->batch_left = 0;
	r->order_head = 0;
	r->order_tail = 0;
	r->unpublished = 0;
	r->unkicked = 0;
	r->published_idx = 0;
	r->kick_idx = 0;
	for (uint16_t i = 0; i < r->n_slots; i++)
		r->slots[i].in_flight = 0;
	refuse_calls(r);
}

uint32_t
ring_base(const struct ring *r)
{
	return ring_base_ahead(r, 0);
}

uint32_t
ring_base_ahead(const struct ring *r, uint32_t n)
{
	const uint32_t at = r->used_idx + n;
	const bool next_lap = at >= r->size;

	if (!r->packed)
		return (uint16_t)at;
	return (at - (next_lap ? r->size : 0)) | (uint32_t)(r->used_wrap ^ next_lap) << 15 |
			(uint32_t)r->used_idx << 16 | (uint32_t)r->used_wrap << 31;
}

uint32_t
ring_slot_entries(const struct ring *r, uint16_t slot)
{
	return r->packed ? r->slots[slot].n_descs : 1;
}

/* The slot of the entry that is `n` beyond what has come back; RING_NO_SLOT: of none in flight. */
static uint16_t
slot_at(const struct ring *r, uint32_t n)
{
	const struct packed_desc *ring = r->desc;
	const struct split_avail *avail = r->avail;
	uint16_t slot;

	if (r->packed)
		slot = __atomic_load_n(&ring[(r->used_idx + n) % r->size].id, __ATOMIC_RELAXED);
	else
		slot = ring_split_slot(r,
				__atomic_load_n(&avail->ring[(r->used_idx + n) & r->mask],
						__ATOMIC_RELAXED));
	return slot < r->n_slots && ring_slot_in_flight(r, slot) ? slot : RING_NO_SLOT;
}

int
ring_untaken(const struct ring *r, uint32_t n, uint16_t *slots)
{
	uint32_t all = 0;
	uint16_t slot;
	int found = 0;

	for (slot = 0; slot < r->n_slots; slot++) {
		if (ring_slot_in_flight(r, slot))
			all += ring_slot_entries(r, slot);
	}
	while (n < all) {
		slot = slot_at(r, n);
		if (slot == RING_NO_SLOT || found == r->n_slots)
			return -EPROTO;
		slots[found++] = slot;
		n += ring_slot_entries(r, slot);
	}
	return n == all ? found : -EPROTO;
}

uint8_t *
ring_table(const struct ring *r, uint16_t slot)
{
	return r->tables + slot * table_bytes(r->pieces);
}

void
ring_prepare(struct ring *r, uint16_t slot, const struct ring_piece *pieces, unsigned int n)
{
	struct ring_slot *s = &r->slots[slot];

	r->n_short -= s->n_descs != 0 && s->n_descs != r->stride;
	s->n_descs = r->indirect ? 1 : (uint8_t)n;
	r->n_short += s->n_descs != r->stride;
	s->writable_bytes = 0;
	for (unsigned int i = 0; i < n; i++)
		s->writable_bytes += pieces[i].writable ? pieces[i].bytes : 0;
	if (r->packed)
		ring_packed_prepare(r, slot, pieces, n);
	else
		ring_split_prepare(r, slot, pieces, n);
}

int
ring_fault(struct ring *r, enum ring_fault_kind kind, uint32_t id, uint32_t value)
{
	static const char *const text[] = {
		[RING_FAULT_RUNAWAY] = "its used index %u is %u ahead, more than is in flight",
		[RING_FAULT_ID] = "it used id %u, which no request has",
		[RING_FAULT_IDLE] = "it used id %u, whose request is not in flight",
		[RING_FAULT_BYTES] = "it says for id %u that it wrote %u bytes, more than fit",
		[RING_FAULT_ORDER] =
				"it used id %u, which with those before it in order is %u entries, more than its used index tells",
	};
	char what[160];

	snprintf(what, sizeof(what), text[kind], id, value);
	snprintf(r->fault, sizeof(r->fault),
			"ring %u, at used index %u%s: the back end broke it: %s", r->index,
			r->used_idx, r->packed ? (r->used_wrap ? " (wrap 1)" : " (wrap 0)") : "",
			what);
	return -EPROTO;
}

int
ring_used_fault(struct ring *r, uint16_t slot, uint32_t id, uint32_t bytes)
{
	if (slot >= r->n_slots)
		return ring_fault(r, RING_FAULT_ID, id, 0);
	if (r->slots[slot].in_flight == 0)
		return ring_fault(r, RING_FAULT_IDLE, id, 0);
	return ring_fault(r, RING_FAULT_BYTES, id, bytes);
}

void
ring_write_kick(struct ring *r)
{
	const uint64_t one = 1;

	/* A full counter wakes as well as a written one. */
	if (write(r->kick_fd, &one, sizeof(one)) == sizeof(one))
		r->kicks++;
}

/*
 * 2.7.9, 2.8.11: an entry stands for its request and all that were added before it and are not back
 * yet. Its length is the last one's.
 */
int
ring_open_batch(struct ring *r, uint16_t slot, uint32_t id, uint32_t bytes)
{
	if (unlikely(slot >= r->n_slots || r->slots[slot].in_flight == 0 ||
			    bytes > r->slots[slot].writable_bytes))
		return ring_used_fault(r, slot, id, bytes);
	r->batch_left = (uint16_t)(r->slots[slot].order - r->order_tail + 1);
	r->batch_bytes = bytes;
	return 0;
}

/* Those before the last of a batch were written to completely: nobody tells how far. */
unsigned int
ring_take_batch(struct ring *r, struct ring_used *used, unsigned int max, uint32_t *n_descs)
{
	const unsigned int n = RTE_MIN(max, r->batch_left);
	const uint16_t *order = r->order;
	uint16_t at = r->order_tail;

	*n_descs = 0;
	for (unsigned int i = 0; i < n; i++) {
		const uint16_t slot = order[at++ & r->order_mask];
		struct ring_slot *s = &r->slots[slot];

		s->in_flight = 0;
		used[i].slot = slot;
		used[i].bytes = s->writable_bytes;
		*n_descs += s->n_descs;
	}
	r->order_tail = at;
	r->batch_left = (uint16_t)(r->batch_left - n);
	if (r->batch_left == 0)
		used[n - 1].bytes = r->batch_bytes;
	return n;
}
