/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inflight region of a split ring after a crash: "When reconnecting" of "Inflight I/O
 * tracking". Called by create.c; split_replay() in split_pop.c then takes the chains found here.
 * The front end shares the region and may have written anything: it is copied once, and only the
 * copy is believed.
 */
#include <errno.h>
#include <stdlib.h>

#include "virtq_pvt.h"

/* The head and all entries of the region, copied. */
struct split_copy {
	struct inflight_split_desc *desc;
	uint32_t n;
	struct inflight_split head; /* without its entries */
};

static int
copy_region(struct split_copy *copy, const struct vhub_virtq *vq, uint64_t bytes)
{
	const struct inflight_split *region = vq->inflight_split;

	guest_read16(&copy->head, region);
	copy->n = copy->head.desc_num;
	if (copy->head.version != INFLIGHT_VERSION || copy->head.features != 0 ||
			copy->n < vq->size || copy->n > VHUB_VIRTQ_MAX_SIZE ||
			bytes < sizeof(*region) + copy->n * sizeof(region->desc[0]))
		return -EPROTO;
	copy->desc = calloc(copy->n, sizeof(region->desc[0]));
	if (copy->desc == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < copy->n; i++)
		guest_read16(&copy->desc[i], &region->desc[i]);
	return 0;
}

static uint32_t
count_in_flight(const struct split_copy *copy)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < copy->n; i++)
		n += copy->desc[i].inflight != 0;
	return n;
}

/*
 * The used index has moved on without the region: the last batch had reached the guest, and its
 * entries may still be marked. A ring that was set up anew since then has nothing in flight, and an
 * index that means nothing.
 */
static int
finish_batch(struct split_copy *copy, const struct vhub_virtq *vq)
{
	const uint16_t batch = (uint16_t)(vq->used_idx - copy->head.used_idx);
	uint32_t at = copy->head.last_batch_head;

	if (batch == 0 || count_in_flight(copy) == 0)
		return 0;
	if (batch > vq->size)
		return -EPROTO;
	for (uint16_t i = 0; i < batch; i++) {
		if (at >= copy->n)
			return -EPROTO;
		copy->desc[at].inflight = 0;
		at = copy->desc[at].next;
	}
	return 0;
}

/*
 * Collects what is in flight and the highest counter, by which a region is known to have been used.
 */
static int
collect(struct vhub_virtq *vq, const struct split_copy *copy, struct inflight_found *found)
{
	uint64_t highest = 0;
	uint32_t n = 0;

	for (uint32_t i = 0; i < copy->n; i++) {
		highest = RTE_MAX(highest, copy->desc[i].counter);
		if (copy->desc[i].inflight == 0)
			continue;
		if (i >= vq->size)
			return -EPROTO;
		found[n].counter = copy->desc[i].counter;
		found[n++].entry = (uint16_t)i;
	}
	if (highest == UINT64_MAX)
		return -EPROTO;
	vq->counter = highest + 1;
	vq->resumed = highest != 0;
	return inflight_set_replay(vq, found, n);
}

/* As specified: entries first, then the index. A crash in between repeats the same. */
static void
repair(struct vhub_virtq *vq, const struct split_copy *copy)
{
	struct inflight_split *region = vq->inflight_split;

	for (uint32_t i = 0; i < copy->n; i++) {
		if (copy->desc[i].inflight == 0)
			__atomic_store_n(&region->desc[i].inflight, 0, __ATOMIC_RELEASE);
	}
	__atomic_store_n(&region->used_idx, vq->used_idx, __ATOMIC_RELEASE);
}

int
inflight_split_resume(struct vhub_virtq *vq, uint64_t bytes)
{
	struct split_copy copy = { .desc = NULL };
	struct inflight_found *found = NULL;
	int ret;

	ret = copy_region(&copy, vq, bytes);
	if (ret != 0)
		return ret;
	ret = finish_batch(&copy, vq);
	if (ret != 0)
		goto out;
	found = calloc(vq->size, sizeof(*found));
	ret = found != NULL ? collect(vq, &copy, found) : -ENOMEM;
	if (ret != 0)
		goto out;
	repair(vq, &copy);
	vq->last_batch_head = copy.head.last_batch_head;
	/*
	 * What was taken has been used or is in flight, or was not noted when the former life ended in the middle of
	 * a turn.
	 */
	vq->last_avail = (uint16_t)(vq->used_idx + vq->n_replay);
	if (!vq->resumed && vq->n_replay == 0)
		inflight_mark(vq);
out:
	free(found);
	free(copy.desc);
	return ret;
}
