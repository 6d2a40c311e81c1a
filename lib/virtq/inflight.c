/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What both kinds of inflight region share: sizes, the first filling, the order of the replay. The
 * ring's own work on them is in split_pop.c, split_push.c, packed_pop.c and packed_push.c; reading
 * them after a crash in inflight_split.c and inflight_packed.c.
 */
#include <errno.h>
#include <stdlib.h>

#include "virtq_pvt.h"

#define PART_ALIGN_BYTES UINT64_C(64)

uint64_t
vhub_inflight_queue_bytes(uint16_t size, bool packed)
{
	uint64_t bytes;

	if (packed)
		bytes = sizeof(struct inflight_packed) +
				(uint64_t)size * sizeof(struct inflight_packed_desc);
	else
		bytes = sizeof(struct inflight_split) +
				(uint64_t)size * sizeof(struct inflight_split_desc);
	return RTE_ALIGN_CEIL(bytes, PART_ALIGN_BYTES);
}

/* The version last: until it is there, the part is fresh. */
static void
init_split(struct inflight_split *region, uint16_t size)
{
	memset(region->desc, 0, size * sizeof(region->desc[0]));
	region->features = 0;
	region->last_batch_head = 0;
	region->used_idx = 0;
	region->desc_num = size;
	__atomic_store_n(&region->version, INFLIGHT_VERSION, __ATOMIC_RELEASE);
}

static void
init_packed(struct inflight_packed *region, uint16_t size)
{
	memset(region->desc, 0, size * sizeof(region->desc[0]));
	/* All entries are free; `size` ends the list. */
	for (uint32_t i = 0; i < size; i++)
		region->desc[i].next = (uint16_t)(i + 1);
	region->features = 0;
	region->free_heads = 0;
	region->used = UINT64_C(1) << 32 | UINT64_C(1) << 40;
	region->desc_num = size;
	__atomic_store_n(&region->version, INFLIGHT_VERSION, __ATOMIC_RELEASE);
}

int
vhub_inflight_queue_init(void *part, uint64_t part_bytes, uint16_t size, bool packed)
{
	/* Version and number of entries lie at the same place in both kinds. */
	const struct inflight_split *head = part;
	uint16_t version;

	if (part == NULL || (uintptr_t)part % sizeof(uint64_t) != 0 || size == 0 ||
			size > VHUB_VIRTQ_MAX_SIZE ||
			part_bytes < vhub_inflight_queue_bytes(size, packed))
		return -EINVAL;
	version = __atomic_load_n(&head->version, __ATOMIC_ACQUIRE);
	if (version != 0)
		return version == INFLIGHT_VERSION && head->desc_num == size ? 0 : -EINVAL;
	if (packed)
		init_packed(part, size);
	else
		init_split(part, size);
	return 0;
}

void
inflight_mark(struct vhub_virtq *vq)
{
	uint64_t *counter = vq->packed ? &vq->inflight_packed->desc[0].counter :
					 &vq->inflight_split->desc[0].counter;

	/* Nothing is noted: this is an entry that is not in flight. */
	__atomic_store_n(counter, vq->counter++, __ATOMIC_RELEASE);
}

static int
by_counter(const void *a, const void *b)
{
	const struct inflight_found *x = a, *y = b;

	return x->counter < y->counter ? -1 : x->counter > y->counter;
}

int
inflight_set_replay(struct vhub_virtq *vq, struct inflight_found *found, uint32_t n)
{
	qsort(found, n, sizeof(*found), by_counter);
	for (uint32_t i = 0; i < n; i++) {
		if (i != 0 && found[i].counter == found[i - 1].counter)
			return -EPROTO;
		vq->replay[i] = found[i].entry;
	}
	vq->n_replay = n;
	vq->outstanding = n;
	if (n != 0)
		vq->pop_special |= POP_REPLAY;
	return 0;
}
