/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inflight region of a packed ring after a crash: "When reconnecting" of "Inflight I/O
 * tracking", packed. Called by create.c; packed_replay() in packed_pop.c then takes the chains
 * found here, from vq->saved, the copy of the region. The front end shares the region and may have
 * written anything: only the copy is believed, and from then on only vq->next and vq->last are
 * followed.
 */
#include <errno.h>
#include <stdlib.h>

#include "virtq_pvt.h"

/* The region being read. */
struct packed_copy {
	uint32_t n;
	uint32_t n_slots;	     /* of all chains in flight */
	uint8_t *seen;		     /* one for each entry: free, or part of a chain */
	struct inflight_packed head; /* without its entries, which go to vq->saved */
};

static int
copy_region(struct packed_copy *copy, struct vhub_virtq *vq, uint64_t bytes)
{
	const struct inflight_packed *region = vq->inflight_packed;
	const struct inflight_packed *head = &copy->head;
	uint8_t *to = (uint8_t *)vq->saved;

	guest_read16(&copy->head, region);
	guest_read16((uint8_t *)&copy->head + 16, (const uint8_t *)region + 16);
	copy->n = head->desc_num;
	if (head->version != INFLIGHT_VERSION || head->features != 0 || copy->n < vq->size ||
			copy->n > VHUB_VIRTQ_MAX_SIZE ||
			bytes < sizeof(*region) + copy->n * sizeof(region->desc[0]))
		return -EPROTO;
	if (head->used_idx >= vq->size || head->old_used_idx >= vq->size || head->used_wrap > 1 ||
			head->old_used_wrap > 1 || head->free_head > copy->n ||
			head->old_free_head > copy->n)
		return -EPROTO;
	for (size_t i = 0; i < copy->n * sizeof(region->desc[0]); i += 16)
		guest_read16(to + i, (const uint8_t *)region->desc + i);
	return 0;
}

/* Nobody has used it: the highest counter of ours is never 0. */
static bool
is_fresh(const struct packed_copy *copy, const struct vhub_virtq *vq)
{
	const struct inflight_packed *head = &copy->head;

	for (uint32_t i = 0; i < copy->n; i++) {
		if (vq->saved[i].inflight != 0 || vq->saved[i].counter != 0)
			return false;
	}
	return head->used_idx == 0 && head->old_used_idx == 0 && head->used_wrap == 1 &&
			head->old_used_wrap == 1;
}

static bool
any_in_flight(const struct packed_copy *copy, const struct vhub_virtq *vq)
{
	for (uint32_t i = 0; i < copy->n; i++) {
		if (vq->saved[i].inflight != 0)
			return true;
	}
	return false;
}

/* Whether a chain that was available in the lap with this wrap counter has been given back. */
static bool
is_given_back(const struct vhub_virtq *vq, uint32_t at, unsigned int wrap)
{
	const uint16_t flags = __atomic_load_n(&vq->ring[at].flags, __ATOMIC_ACQUIRE);

	return (flags & (DESC_F_AVAIL | DESC_F_USED)) != packed_avail_flags(wrap);
}

/*
 * What packed_push_in_turn() had begun: as many chains as it has come to are given back, and the
 * others are available as they were.
 */
static int
settle_turn(struct inflight_packed *head, const struct vhub_virtq *vq)
{
	struct packed_pos pos = { head->old_used_idx, head->old_used_wrap };
	const uint32_t lap = head->used_wrap != head->old_used_wrap ? vq->size : 0;
	const uint32_t n_slots = head->used_idx + lap - head->old_used_idx;

	if (n_slots > vq->size || n_slots % head->turn_slots != 0)
		return -EPROTO;
	for (uint32_t i = 0; i < n_slots && is_given_back(vq, pos.idx, pos.wrap);
			i += head->turn_slots)
		packed_pos_add(&pos, head->turn_slots, vq->size);
	head->old_used_idx = (uint16_t)pos.idx;
	head->old_used_wrap = (uint8_t)pos.wrap;
	return 0;
}

/*
 * Commits an update that has reached the guest, rolls back any other. A whole lap moves the wrap
 * counter alone.
 */
static int
settle_update(struct packed_copy *copy, const struct vhub_virtq *vq)
{
	struct inflight_packed *head = &copy->head;
	int ret = 0;

	if (head->used_idx != head->old_used_idx || head->used_wrap != head->old_used_wrap) {
		/* Another make's update leaves ours of turn_slots as it was. */
		if (head->turn_slots != 0 && head->free_head == head->old_free_head &&
				!any_in_flight(copy, vq)) {
			ret = settle_turn(head, vq);
		} else if (is_given_back(vq, head->old_used_idx, head->old_used_wrap)) {
			head->old_free_head = head->free_head;
			head->old_used_idx = head->used_idx;
			head->old_used_wrap = head->used_wrap;
		}
	}
	head->free_head = head->old_free_head;
	head->used_idx = head->old_used_idx;
	head->used_wrap = head->old_used_wrap;
	return ret;
}

/* Whatever is on the free list is not in flight. */
static int
walk_free_list(struct packed_copy *copy, struct vhub_virtq *vq)
{
	uint32_t at;

	for (at = copy->head.free_head; at < copy->n; at = vq->saved[at].next) {
		if (copy->seen[at] != 0)
			return -EPROTO;
		copy->seen[at] = 1;
		vq->saved[at].inflight = 0;
	}
	return at == copy->n ? 0 : -EPROTO;
}

/*
 * The chain that begins at `entry`: as many entries as it says, none of them in another list,
 * ending where it says.
 */
static int
walk_chain(struct packed_copy *copy, struct vhub_virtq *vq, uint32_t entry)
{
	const struct inflight_packed_desc *first = &vq->saved[entry];
	uint32_t at = entry;
	uint32_t last = entry;

	if (first->num == 0 || first->num > vq->size - copy->n_slots)
		return -EPROTO;
	for (uint32_t i = 0; i < first->num; i++) {
		if (at >= copy->n || copy->seen[at] != 0 || (i != 0 && vq->saved[at].inflight != 0))
			return -EPROTO;
		copy->seen[at] = 1;
		last = at;
		at = vq->saved[at].next;
	}
	if (last != first->last)
		return -EPROTO;
	copy->n_slots += first->num;
	vq->last[entry] = first->last;
	return 0;
}

static int
collect(struct packed_copy *copy, struct vhub_virtq *vq, struct inflight_found *found)
{
	uint64_t highest = 0;
	uint32_t n = 0;
	int ret;

	ret = walk_free_list(copy, vq);
	for (uint32_t i = 0; i < copy->n && ret == 0; i++) {
		highest = RTE_MAX(highest, vq->saved[i].counter);
		if (vq->saved[i].inflight == 0)
			continue;
		ret = walk_chain(copy, vq, i);
		if (ret != 0)
			break;
		found[n].counter = vq->saved[i].counter;
		found[n++].entry = (uint16_t)i;
	}
	for (uint32_t i = 0; i < copy->n && ret == 0; i++)
		ret = copy->seen[i] != 0 ? 0 : -EPROTO;
	if (ret != 0 || highest == UINT64_MAX)
		return -EPROTO;
	vq->counter = highest + 1;
	return inflight_set_replay(vq, found, n);
}

/*
 * The ring goes on behind what is in flight. A region that nobody has used knows nothing: then the
 * base counts.
 */
static void
place_ring(struct vhub_virtq *vq, const struct packed_copy *copy)
{
	uint32_t at;

	if (!vq->resumed)
		return;
	vq->used_idx = copy->head.used_idx;
	vq->used_wrap = copy->head.used_wrap;
	at = vq->used_idx + copy->n_slots;
	vq->avail_wrap = vq->used_wrap ^ (at >= vq->size);
	vq->last_avail = (uint16_t)(at >= vq->size ? at - vq->size : at);
	vq->slots = copy->n_slots;
}

/* Lists and indexes first, one store each; then entries. A crash in between repeats the same. */
static void
repair_region(struct vhub_virtq *vq, const struct packed_copy *copy)
{
	struct inflight_packed *region = vq->inflight_packed;
	const uint64_t idx = vq->used_idx, wrap = vq->used_wrap;

	vq->free_head = copy->head.free_head;
	__atomic_store_n(&region->free_heads, vq->free_head | (uint32_t)vq->free_head << 16,
			__ATOMIC_RELEASE);
	__atomic_store_n(&region->used, idx | idx << 16 | wrap << 32 | wrap << 40,
			__ATOMIC_RELEASE);
	for (uint32_t i = 0; i < copy->n; i++) {
		vq->next[i] = vq->saved[i].next;
		if (vq->saved[i].inflight == 0)
			__atomic_store_n(&region->desc[i].inflight, 0, __ATOMIC_RELEASE);
	}
}

/*
 * Of a burst, all used descriptors but the first may have been stored before the crash. The driver
 * has not looked at them, and must not take them for used once it gets there: they are made
 * available again.
 */
static void
repair_ring(struct vhub_virtq *vq)
{
	uint32_t at = vq->used_idx;
	unsigned int wrap = vq->used_wrap;

	for (uint32_t i = 0; i < vq->slots; i++) {
		struct packed_desc *slot = &vq->ring[at];
		const uint16_t flags = __atomic_load_n(&slot->flags, __ATOMIC_RELAXED);

		if ((flags & (DESC_F_AVAIL | DESC_F_USED)) == packed_used_flags(wrap))
			__atomic_store_n(&slot->flags, packed_avail_flags(wrap), __ATOMIC_RELEASE);
		if (++at == vq->size) {
			at = 0;
			wrap ^= 1;
		}
	}
}

int
inflight_packed_resume(struct vhub_virtq *vq, uint64_t bytes)
{
	struct packed_copy copy = { .seen = NULL };
	struct inflight_found *found = NULL;
	int ret;

	ret = copy_region(&copy, vq, bytes);
	if (ret != 0)
		return ret;
	vq->resumed = !is_fresh(&copy, vq);
	ret = settle_update(&copy, vq);
	if (ret != 0)
		return ret;
	copy.seen = calloc(copy.n, 1);
	found = calloc(vq->size, sizeof(*found));
	ret = copy.seen != NULL && found != NULL ? collect(&copy, vq, found) : -ENOMEM;
	if (ret == 0) {
		place_ring(vq, &copy);
		repair_region(vq, &copy);
		repair_ring(vq);
	}
	free(found);
	free(copy.seen);
	return ret;
}
