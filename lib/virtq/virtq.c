/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The bursts and setters of lib/virtq as lcores call them (lib/device, lib/blk). One indirect call
 * leads to the variant that create.c chose: split_pop.c, split_push.c, packed_pop.c, packed_push.c;
 * what is special about a ring (just started, replaying, broken) is handled here, out of their way.
 */
#include "virtq_pvt.h"

/* ---- broken rings ---- */

/* A chain that the guest will not hear of; but what the device wrote into it is in its memory. */
static void
virtq_drop(struct vhub_virtq *vq, struct vhub_chain *chain)
{
	if (vq->log != NULL)
		dirty_mark_data(vq, &chain, 1);
	virtq_chain_put(vq, chain);
	vq->outstanding--;
	vq->lost++;
}

void
virtq_break(struct vhub_virtq *vq, enum vhub_virtq_reason reason)
{
	if (vq->reason != VHUB_VIRTQ_OK)
		return;
	/* Pairs with vhub_virtq_broken() on other threads. */
	__atomic_store_n(&vq->reason, (uint8_t)reason, __ATOMIC_RELAXED);
	vq->pop_special |= POP_BROKEN;
	/* The region stays as it is; what is dropped goes where the list of these lies. */
	vq->n_fresh = 0;
	inorder_drop(vq, virtq_drop);
}

void
vhub_virtq_break(struct vhub_virtq *vq, enum vhub_virtq_reason reason)
{
	virtq_break(vq, reason);
}

enum vhub_virtq_reason
vhub_virtq_broken(const struct vhub_virtq *vq)
{
	return (enum vhub_virtq_reason)__atomic_load_n(&vq->reason, __ATOMIC_RELAXED);
}

/* ---- state ---- */

uint16_t
vhub_virtq_to_replay(const struct vhub_virtq *vq)
{
	/* What a broken ring has not replayed stays in the region. */
	return vq->reason == VHUB_VIRTQ_OK ? (uint16_t)(vq->n_replay - vq->replay_at) : 0;
}

uint16_t
vhub_virtq_in_flight(const struct vhub_virtq *vq)
{
	return (uint16_t)(vq->outstanding - (vq->n_replay - vq->replay_at));
}

bool
vhub_virtq_has_inflight(const struct vhub_virtq *vq)
{
	return vq->has_region;
}

/* Those that IN_ORDER keeps are the ring's: whatever is before them decides on them. */
uint16_t
vhub_virtq_under_way(const struct vhub_virtq *vq)
{
	return (uint16_t)(vhub_virtq_in_flight(vq) - vq->n_held - vq->n_left);
}

uint32_t
vhub_virtq_base(const struct vhub_virtq *vq)
{
	/*
	 * Split: chains that were never used are offered again, by the inflight region or, if there
	 * is none, by being read again. So the base is the used index, and what was left in flight
	 * comes on top of it, as after a crash: all back ends know that case. Packed: both indexes
	 * tell of them.
	 */
	if (!vq->packed)
		return (uint16_t)(vq->last_avail - vq->outstanding - vq->lost);
	return vq->last_avail | (uint32_t)vq->avail_wrap << 15 | (uint32_t)vq->used_idx << 16 |
			(uint32_t)vq->used_wrap << 31;
}

void
vhub_virtq_get_stats(const struct vhub_virtq *vq, struct vhub_virtq_stats *stats)
{
	const uint64_t *from = &vq->stats.chains;
	uint64_t *to = &stats->chains;

	static_assert(sizeof(*stats) % sizeof(*to) == 0, "counters and nothing else");
	/* Pairs with vhub_count(). */
	for (size_t i = 0; i < sizeof(*stats) / sizeof(*to); i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

bool
vhub_virtq_has_work(struct vhub_virtq *vq)
{
	if (unlikely((vq->pop_special & (POP_BROKEN | POP_REPLAY)) != 0))
		return (vq->pop_special & POP_BROKEN) == 0;
	return virtq_offered(vq);
}

static bool
packed_has_waiting(const struct vhub_virtq *vq, uint16_t n)
{
	uint32_t at = vq->last_avail + n - 1u;
	unsigned int wrap = vq->avail_wrap;
	uint16_t flags;

	if (at >= vq->size) {
		at -= vq->size;
		wrap ^= 1;
	}
	/* Relaxed: whoever pops loads with acquire what was offered before. */
	flags = __atomic_load_n(&vq->ring[at].flags, __ATOMIC_RELAXED);
	return (flags & (DESC_F_AVAIL | DESC_F_USED)) == packed_avail_flags(wrap);
}

bool
vhub_virtq_has_waiting(struct vhub_virtq *vq, uint16_t n)
{
	uint16_t idx;

	if (unlikely(vq->pop_special != 0))
		return true;
	if (vq->packed)
		return packed_has_waiting(vq, n);
	idx = __atomic_load_n(&vq->avail->idx, __ATOMIC_RELAXED);
	return (uint16_t)(idx - vq->last_avail) >= n;
}

uint16_t
vhub_virtq_size(const struct vhub_virtq *vq)
{
	return (uint16_t)vq->size;
}

/* ---- setters ---- */

struct vhub_mem_table *
vhub_virtq_set_mem(struct vhub_virtq *vq, struct vhub_mem_table *mem, void *desc, void *avail,
		void *used)
{
	struct vhub_mem_table *old = vq->mem;

	vq->mem = vhub_mem_table_get(mem);
	vq->mem_cache.last = NULL;
	vq->desc = desc;
	vq->avail = avail;
	vq->used = used;
	dirty_set_bases(vq);
	return old;
}

struct vhub_dirty_log *
vhub_virtq_set_log(struct vhub_virtq *vq, struct vhub_dirty_log *log, bool log_used,
		uint64_t used_log_gpa)
{
	struct vhub_dirty_log *old = vq->log;

	vq->log = log != NULL ? vhub_dirty_log_get(log) : NULL;
	vq->log_used = log_used;
	vq->used_log_gpa = used_log_gpa;
	dirty_set_bases(vq);
	dirty_mark_former(vq);
	return old;
}

void
vhub_virtq_replay_only(struct vhub_virtq *vq, bool on)
{
	if (on)
		vq->pop_special |= POP_REPLAY_ONLY;
	else
		vq->pop_special &= (uint8_t)~POP_REPLAY_ONLY;
}

bool
vhub_virtq_drains(const struct vhub_virtq *vq)
{
	return (vq->pop_special & POP_REPLAY_ONLY) != 0;
}

/* ---- bursts ---- */

void
vhub_virtq_push(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n)
{
	if (unlikely(n == 0))
		return;
	if (unlikely(vq->reason != VHUB_VIRTQ_OK || virtq_memory_is_lost(vq))) {
		for (uint16_t i = 0; i < n; i++)
			virtq_drop(vq, chains[i]);
		return;
	}
	if (vq->in_order)
		inorder_push(vq, chains, n);
	else
		vq->ops->push(vq, chains, n);
}

void
vhub_virtq_leave(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n)
{
	virtq_note(vq);
	if (vq->log != NULL)
		dirty_mark_data(vq, chains, n);
	vq->n_left += n;
}

void
vhub_virtq_unpop(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n)
{
	if (n != 0)
		vq->ops->unpop(vq, chains, n);
}

void
vhub_virtq_note(struct vhub_virtq *vq)
{
	virtq_note(vq);
}

static uint16_t
pop_special(struct vhub_virtq *vq, struct vhub_chain **chains, uint16_t max)
{
	uint16_t n;

	if ((vq->pop_special & POP_STARTING) != 0) {
		vq->pop_special &= (uint8_t)~POP_STARTING;
		vhub_virtq_disarm(vq);
		/* A former life may have died between giving back and telling. */
		if (vq->resumed)
			vhub_virtq_notify(vq);
	}
	if ((vq->pop_special & POP_BROKEN) != 0)
		return 0;
	if ((vq->pop_special & POP_REPLAY) == 0)
		return (vq->pop_special & POP_REPLAY_ONLY) != 0 ? 0 : vq->ops->pop(vq, chains, max);
	n = vq->ops->replay(vq, chains, max);
	if (vq->replay_at == vq->n_replay)
		vq->pop_special &= (uint8_t)~POP_REPLAY;
	return n;
}

uint16_t
vhub_virtq_pop(struct vhub_virtq *vq, struct vhub_chain **chains, uint16_t max)
{
	if (unlikely(vq->pop_special != 0))
		return pop_special(vq, chains, max);
	return vq->ops->pop(vq, chains, max);
}
