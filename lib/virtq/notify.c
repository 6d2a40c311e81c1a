/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Notifications both ways: telling the guest about used entries, when it wants that (VIRTIO 1.2,
 * 2.7.7, 2.7.10 and 2.8.10), and telling it whether we want its kicks. Called by devices after
 * their pushes, and by the lcore around its sleep. The decisions compare free-running numbers: an
 * event lies between the last decision and now, or not.
 */
#include <errno.h>

#include <rte_cycles.h>

#include "virtq_pvt.h"

/* ---- the guest's wish ---- */

/* 2.7.7: whether `event` is among the `n` indexes that end before `now`. */
static inline bool
event_passed(uint16_t event, uint16_t now, uint32_t n)
{
	return n > UINT16_MAX || (uint16_t)(now - event - 1) < n;
}

static bool
split_wants_call(const struct vhub_virtq *vq, uint32_t n)
{
	uint16_t flags;

	if (vq->event_idx) {
		const uint16_t used_event = __atomic_load_n(&vq->avail->ring[vq->size],
				__ATOMIC_RELAXED);

		return event_passed(used_event, vq->used_idx, n);
	}
	flags = __atomic_load_n(&vq->avail->flags, __ATOMIC_RELAXED);
	return (flags & SPLIT_AVAIL_F_NO_INTERRUPT) == 0;
}

/* 2.8.10: an offset whose wrap counter is not ours belongs to the lap before. */
static bool
packed_wants_call(const struct vhub_virtq *vq, uint32_t n)
{
	/* One load: the offset belongs to these flags. */
	const uint32_t event = __atomic_load_n(vq->driver_event, __ATOMIC_RELAXED);
	const unsigned int flags = event >> 16 & 0x3;
	uint16_t offset;

	if (flags != PACKED_EVENT_DESC || !vq->event_idx)
		return flags != PACKED_EVENT_DISABLE;
	offset = event & 0x7fff;
	if ((event >> 15 & 1) != vq->used_wrap)
		offset = (uint16_t)(offset - vq->size);
	/* Further back than a lap lies no event that a driver still waits for. */
	return event_passed(offset, vq->used_idx, RTE_MIN(n, vq->size));
}

static void
virtq_call(struct vhub_virtq *vq)
{
	int ret;

	if (vq->call_fd < 0) {
		vq->call_missed = true;
		return;
	}
	ret = vhub_lcore_notify_fd(vq->call_fd, vq->notify_account);
	if (ret == 0 || ret == -EAGAIN) {
		vhub_count(&vq->stats.calls, 1);
		return;
	}
	vhub_count(&vq->stats.call_errors, 1);
	if (ret == -EINTR)
		virtq_break(vq, VHUB_VIRTQ_NOTIFY_STUCK);
}

/* Something was pushed: the guest decides whether it is to be told. */
static void
virtq_tell(struct vhub_virtq *vq)
{
	const uint32_t n = vq->unnotified;
	bool wanted;

	vq->unnotified = 0;
	vq->keeps = false;
	/*
	 * Pairs with the driver's full barrier between its store of used_event (or flags) and its
	 * last look at what is used: either it sees what we have published or we see what it asks
	 * for.
	 */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	wanted = vq->packed ? packed_wants_call(vq, n) : split_wants_call(vq, n);
	if (unlikely(vq->notify_forced)) {
		vq->notify_forced = false;
		wanted = wanted || vq->event_idx;
	}
	if (wanted)
		virtq_call(vq);
	else
		vhub_count(&vq->stats.calls_suppressed, 1);
}

/* ---- keeping back ---- */

/* Time goes in turns of the lcore, or where there is none as it does. */
static uint64_t
virtq_now(void)
{
	const uint64_t turn = vhub_lcore_turn();

	return turn != 0 ? turn : rte_rdtsc();
}

/* Relaxed: what a guest has asked for may take a turn to get here. */
static bool
virtq_is_due(const struct vhub_virtq *vq, uint64_t now)
{
	const struct vhub_virtq_coalescing *c = vq->coalescing;

	return vq->unnotified >= __atomic_load_n(&c->max_entries, __ATOMIC_RELAXED) ||
			now - vq->kept_tsc >= __atomic_load_n(&c->max_cycles, __ATOMIC_RELAXED);
}

static bool
virtq_keeps(struct vhub_virtq *vq)
{
	const uint64_t now = virtq_now();

	if (!vq->keeps)
		vq->kept_tsc = now;
	vq->keeps = !vq->notify_forced && !virtq_is_due(vq, now);
	return vq->keeps;
}

void
vhub_virtq_notify(struct vhub_virtq *vq)
{
	if (vq->unnotified == 0 && !vq->notify_forced)
		return;
	if (unlikely(vq->reason != VHUB_VIRTQ_OK))
		return;
	if (unlikely(vq->coalescing != NULL) && virtq_keeps(vq))
		return;
	virtq_tell(vq);
}

void
vhub_virtq_coalesce(struct vhub_virtq *vq, const struct vhub_virtq_coalescing *coalescing)
{
	vq->coalescing = coalescing;
}

bool
vhub_virtq_notify_kept(struct vhub_virtq *vq, bool at_once)
{
	if (!vq->keeps)
		return false;
	if (vq->reason != VHUB_VIRTQ_OK)
		vq->keeps = false;
	else if (at_once || virtq_is_due(vq, virtq_now()))
		virtq_tell(vq);
	return vq->keeps;
}

void
vhub_virtq_set_call_fd(struct vhub_virtq *vq, int fd)
{
	vq->call_fd = fd;
	if (fd < 0 || !vq->call_missed)
		return;
	/* What happened while there was no fd is told now, or nobody would. */
	vq->call_missed = false;
	virtq_call(vq);
}

/* ---- our wish ---- */

/*
 * The avail_event behind the used ring, or a flag; a driver that has EVENT_IDX looks at the former
 * only.
 */
static void
split_want_kicks(struct vhub_virtq *vq, bool want)
{
	uint16_t *avail_event;

	if (!vq->event_idx) {
		__atomic_store_n(&vq->used->flags, want ? 0 : SPLIT_USED_F_NO_NOTIFY,
				__ATOMIC_RELAXED);
		if (vq->log != NULL)
			dirty_mark_event(vq, offsetof(struct split_used, flags),
					sizeof(vq->used->flags));
		return;
	}
	avail_event = (uint16_t *)(void *)&vq->used->ring[vq->size];
	/* Not wanted: the entry just behind us, which comes round after 65535 others. */
	__atomic_store_n(avail_event, (uint16_t)(vq->last_avail - !want), __ATOMIC_RELAXED);
	if (vq->log != NULL)
		dirty_mark_event(vq,
				offsetof(struct split_used, ring) +
						vq->size * sizeof(vq->used->ring[0]),
				sizeof(*avail_event));
}

static void
packed_want_kicks(struct vhub_virtq *vq, bool want)
{
	uint32_t event = packed_event(0, want ? PACKED_EVENT_ENABLE : PACKED_EVENT_DISABLE);

	if (want && vq->event_idx)
		event = packed_event((uint16_t)(vq->last_avail | vq->avail_wrap << 15),
				PACKED_EVENT_DESC);
	__atomic_store_n(vq->device_event, event, __ATOMIC_RELAXED);
	if (vq->log != NULL)
		dirty_mark_event(vq, 0, sizeof(event));
}

void
vhub_virtq_disarm(struct vhub_virtq *vq)
{
	if (vq->packed)
		packed_want_kicks(vq, false);
	else
		split_want_kicks(vq, false);
}

bool
vhub_virtq_park(const struct vhub_virtq *vq, struct vhub_lcore_word *word)
{
	const uint16_t *flags;

	if (vq->pop_special != 0 || vq->outstanding != 0)
		return false;
	if (!vq->packed) {
		/* What we have taken: an offer that came since is seen at the first look. */
		*word = (struct vhub_lcore_word){ &vq->avail->idx, UINT16_MAX, vq->last_avail };
		return true;
	}
	flags = &vq->ring[vq->last_avail].flags;
	word->at = flags;
	word->mask = DESC_F_AVAIL | DESC_F_USED;
	/* One load: what is compared with later is what was no offer now. */
	word->seen = __atomic_load_n(flags, __ATOMIC_RELAXED) & word->mask;
	return word->seen != packed_avail_flags(vq->avail_wrap);
}

int
vhub_virtq_arm(struct vhub_virtq *vq)
{
	if (vq->reason != VHUB_VIRTQ_OK)
		return 0;
	if ((vq->pop_special & POP_REPLAY) != 0)
		return -EAGAIN;
	if (vq->packed)
		packed_want_kicks(vq, true);
	else
		split_want_kicks(vq, true);
	/* Pairs with the driver's full barrier between its offer and its look at what we want. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!virtq_offered(vq))
		return 0;
	vhub_virtq_disarm(vq);
	return -EAGAIN;
}
