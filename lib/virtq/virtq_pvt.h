/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The ring's own structure and what the files of lib/virtq call of each other. Made in create.c;
 * the bursts come through virtq.c, which hands them to split_*.c or packed_*.c by the ops chosen at
 * creation.
 */
#ifndef VIRTQ_PVT_H
#define VIRTQ_PVT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <rte_branch_prediction.h>
#include <rte_common.h>

#include "layout.h"
#include "vhub_lcore.h"
#include "vhub_virtq.h"

/*
 * One variant of a ring: format, and with an inflight region or without. One call of these a burst.
 */
struct virtq_ops {
	/* Takes what the driver offers. */
	uint16_t (*pop)(struct vhub_virtq *vq, struct vhub_chain **chains, uint16_t max);
	/* Takes what is left of a former life (vq->replay); NULL without an inflight region. */
	uint16_t (*replay)(struct vhub_virtq *vq, struct vhub_chain **chains, uint16_t max);
	/* Takes back what pop gave last. */
	void (*unpop)(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n);
	/* Gives back, in the order in which the guest shall see it, and publishes. */
	void (*push)(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n);
	/* Tells the inflight region of all that is fresh; with `replay`. */
	void (*note)(struct vhub_virtq *vq);
};

/* Reasons for vhub_virtq_pop() to leave its short way (vq->pop_special). */
#define POP_STARTING 0x1u /* the first one */
#define POP_REPLAY 0x2u	  /* vq->replay is not empty */
#define POP_BROKEN 0x4u
#define POP_REPLAY_ONLY 0x8u /* the ring is being drained */

struct vhub_virtq {
	/* Immutable but for set_mem and set_log; read by every burst. */
	const struct virtq_ops *ops;
	union {
		const struct split_desc *desc; /* split */
		struct packed_desc *ring;      /* packed */
	};
	union {
		const struct split_avail *avail; /* split */
		const uint32_t *driver_event;	 /* packed */
	};
	union {
		struct split_used *used; /* split */
		uint32_t *device_event;	 /* packed */
	};
	struct vhub_mem_table *mem;
	uint32_t size;
	bool packed;
	bool event_idx;
	bool indirect;
	bool in_order;
	bool has_region;	  /* inflight region */
	struct vhub_chain **free; /* stack of requests: few in flight means few in the cache */
	uint8_t *busy;		  /* split: one for each head, 1 while it is in flight */
	const uint32_t *faulted;  /* shared atomic, the signal handler's; never NULL */

	/* LCORE: where pop is, and what it shares with push. */
	struct vhub_mem_cache mem_cache __rte_cache_aligned;
	uint32_t n_free;
	uint32_t outstanding; /* taken off the available side, not yet on the used one; with replay */
	uint32_t slots;	      /* packed: ring slots of those */
	uint32_t burst_slots; /* packed: ring slots that the last pop took, if it took any */
	/*
	 * With an inflight region: the last so many chains that were taken, of which the region does
	 * not tell yet; see virtq_is_unnoted(). Nothing was put on the stack since: they lie in it
	 * above n_free, the first one topmost.
	 */
	uint32_t n_fresh;
	uint16_t last_avail; /* split: free-running; packed: below size */
	uint16_t next_order; /* number of the next chain */
	uint8_t avail_wrap;  /* packed */
	uint8_t pop_special; /* POP_* */
	uint8_t n_long;	     /* free blocks in long_free */
	uint8_t reason;	     /* enum vhub_virtq_reason; shared atomic, written by LCORE */

	/* LCORE: where push and notify are. */
	uint16_t used_idx;
	uint8_t used_wrap;   /* packed */
	uint8_t used_moving; /* split: bursts until the used ring is looked at */
	bool resumed;	     /* there was a former life */
	bool notify_forced; /* the next decision is "yes": nobody knows what the former life told */
	bool call_missed;   /* the guest wanted a call while there was no fd */
	bool keeps;	    /* a notification is kept back, since kept_tsc */
	int call_fd;
	struct vhub_notify_account *notify_account;	/* NULL: none is kept */
	const struct vhub_virtq_coalescing *coalescing; /* NULL: none is ever kept back */
	uint64_t kept_tsc;
	uint32_t unnotified; /* used entries (packed: slots) since the last decision; saturates */
	uint32_t n_held;     /* IN_ORDER: entries in `held` */
	uint16_t next_used_order; /* IN_ORDER: what the guest must see next */
	struct vhub_dirty_log *log;

	/* LCORE writes, ANY reads: relaxed atomics. */
	struct vhub_virtq_stats stats __rte_cache_aligned;

	/*
	 * Inflight region; LCORE. Nothing is read back from it, but for the one look at creation.
	 */
	union {
		struct inflight_split *inflight_split __rte_cache_aligned;
		struct inflight_packed *inflight_packed;
	};
	uint64_t counter;	  /* of the next chain; 1: there is none in the region */
	uint16_t last_batch_head; /* split: as in the region */
	uint16_t free_head;	  /* packed: as in the region */
	uint16_t *next;		  /* packed: links of the region's entries, as in the region */
	uint16_t *last;		  /* packed: last entry of the chain that begins here */
	uint16_t *replay;	  /* heads (packed: entries) in the order of submission */
	uint32_t n_replay;
	uint32_t replay_at;
	struct inflight_packed_desc
			*saved; /* packed: the entries as they were found, for the replay */

	/* LCORE, rarely. */
	struct vhub_chain **held; /* IN_ORDER: pushed too early; by order & held_mask */
	uint32_t held_mask;
	uint32_t lost;		/* chains dropped because the ring was broken */
	uint32_t n_left;	/* chains that the device has given up */
	struct iovec *long_iov; /* VHUB_VIRTQ_LONG_CHAINS blocks */
	uint8_t long_free[VHUB_VIRTQ_LONG_CHAINS];
	bool log_used;
	/* A former life may have been killed between giving back and marking; see dirty_mark_former() */
	bool former_unmarked;
	uint64_t used_log_gpa;	/* as told */
	uint64_t ring_log_gpa;	/* where used entries (packed: descriptors) are marked */
	uint64_t event_log_gpa; /* where the device's event suppression is marked */

	/* CTL. */
	char *requests; /* size times request_bytes */
	size_t request_bytes;
	size_t arena_bytes; /* of the one allocation that holds the ring and all of its arrays */
} __rte_cache_aligned;

/* ---- virtq.c ---- */

/* The ring serves no more; the first reason stays. Thread: LCORE. */
void
virtq_break(struct vhub_virtq *vq, enum vhub_virtq_reason reason);

/*
 * Whether pages of the guest's were not there, as far as anything can have come of that until now. If so the
 * ring breaks. Before each publishing of what is used.
 */
static __rte_always_inline bool
virtq_memory_is_lost(struct vhub_virtq *vq)
{
	/* Acquire: as struct vhub_mem_owner asks of who has read guest memory. */
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	if (likely(__atomic_load_n(vq->faulted, __ATOMIC_RELAXED) == 0))
		return false;
	virtq_break(vq, VHUB_VIRTQ_MEMORY_LOST);
	return true;
}

/* The pieces that it has borrowed, if any, go back. */
static __rte_always_inline void
virtq_long_put(struct vhub_virtq *vq, struct vhub_chain *chain)
{
	if (unlikely(chain->long_block != 0)) {
		vq->long_free[vq->n_long++] = (uint8_t)(chain->long_block - 1);
		chain->long_block = 0;
	}
}

/* The request goes back to the stack. */
static __rte_always_inline void
virtq_chain_put(struct vhub_virtq *vq, struct vhub_chain *chain)
{
	virtq_long_put(vq, chain);
	vq->free[vq->n_free++] = chain;
}

/* The same of a burst that is pushed. */
static __rte_always_inline void
virtq_chains_put(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n)
{
	struct vhub_chain **top = &vq->free[vq->n_free];
	uint32_t borrowed = 0;

	for (uint16_t i = 0; i < n; i++) {
		borrowed |= chains[i]->long_block;
		top[i] = chains[i];
	}
	for (uint16_t i = 0; unlikely(borrowed != 0) && i < n; i++)
		virtq_long_put(vq, chains[i]);
	vq->n_free += n;
	vq->outstanding -= n;
	vhub_count(&vq->stats.completions, n);
}

/*
 * inflight.c: the region could be taken for one that nobody has used, as long as nothing is noted in it.
 * A counter tells that it is not: a split ring's from its making on, a packed one's from the first
 * chain on (LCORE).
 */
void
inflight_mark(struct vhub_virtq *vq);

/* The request for the n-th chain of a burst; it stays on the stack. */
static __rte_always_inline struct vhub_chain *
virtq_chain_next(const struct vhub_virtq *vq, uint16_t n)
{
	return vq->free[vq->n_free - 1 - n];
}

/* The first `n` requests of the stack have become the device's, numbered from next_order on. */
static __rte_always_inline void
virtq_chains_taken(struct vhub_virtq *vq, uint16_t n)
{
	vq->n_free -= n;
	vq->next_order = (uint16_t)(vq->next_order + n);
	vhub_count(&vq->stats.chains, n);
}

/* The same of what the driver has just offered. */
static __rte_always_inline void
virtq_offers_taken(struct vhub_virtq *vq, uint16_t n)
{
	virtq_chains_taken(vq, n);
	vq->outstanding += n;
	if (!vq->has_region)
		return;
	vq->n_fresh += n;
	if (unlikely(vq->counter == 1 && n != 0))
		inflight_mark(vq);
}

static __rte_always_inline void
virtq_unnotified(struct vhub_virtq *vq, uint32_t n)
{
	vq->unnotified = RTE_MIN(vq->unnotified + n, (uint32_t)UINT16_MAX + 1);
}

/* The same undone; the last one taken first. */
static __rte_always_inline void
virtq_chain_untaken(struct vhub_virtq *vq, struct vhub_chain *chain)
{
	virtq_chain_put(vq, chain);
	vq->next_order--;
	vq->outstanding--;
}

/* ---- what the inflight region is told ---- */

/* Tells it of what is fresh. */
static __rte_always_inline void
virtq_note(struct vhub_virtq *vq)
{
	if (vq->n_fresh == 0)
		return;
	vq->ops->note(vq);
	vq->n_fresh = 0;
}

/*
 * Whether a push of `n` gives back all that is in flight, and the region was told of none of it. A
 * restarted ring goes on behind the used entries and what the region says is in flight, so it takes
 * again what was taken last, whether that was noted or not. What the region must know is in flight is
 * what others, taken later, have overtaken; and here nothing is left to be overtaken.
 */
static __rte_always_inline bool
virtq_is_unnoted(const struct vhub_virtq *vq, uint16_t n)
{
	return vq->n_fresh == n && vq->outstanding == n;
}

/* Whether the driver offers something. One load. */
static __rte_always_inline bool
virtq_offered(const struct vhub_virtq *vq)
{
	uint16_t flags;

	/* Acquire: pairs with the driver's release of the index or of the flags. */
	if (!vq->packed)
		return __atomic_load_n(&vq->avail->idx, __ATOMIC_ACQUIRE) != vq->last_avail;
	flags = __atomic_load_n(&vq->ring[vq->last_avail].flags, __ATOMIC_ACQUIRE);
	return (flags & (DESC_F_AVAIL | DESC_F_USED)) == packed_avail_flags(vq->avail_wrap);
}

/* ---- split rings ---- */

/* After entries that had changed, so many bursts are stored without a look. */
#define SPLIT_MOVING_BURSTS 15u

static __rte_always_inline uint64_t
split_used_word(uint16_t id, uint32_t used_bytes)
{
	return id | (uint64_t)used_bytes << 32;
}

/*
 * The next `n` entries of the used ring, all but the index, which publishes them. word(burst, i) is the
 * i-th one. Many a driver has the same requests in the same places lap after lap: what stands there
 * already is not stored again, so that the lines stay in both caches. A guest that changes an entry behind
 * our look sees what it wrote itself. The index is loaded (acquire) before and stored (release) after, so
 * the driver sees no older entry than we did. One load or store each; the ring is aligned to 4.
 */
static __rte_always_inline void
split_store_used(struct vhub_virtq *vq, uint64_t (*word)(const void *burst, uint32_t i),
		const void *burst, uint16_t n)
{
	const uint32_t mask = vq->size - 1, from = vq->used_idx;
	struct split_used_elem *ring = vq->used->ring;
	uint64_t each, change = 0;

	if (vq->used_moving != 0) {
		vq->used_moving--;
	} else {
		for (uint32_t i = 0; i < n; i++) {
			memcpy(&each, &ring[(from + i) & mask], sizeof(each));
			change |= each ^ word(burst, i);
		}
		if (change == 0)
			return;
		vq->used_moving = SPLIT_MOVING_BURSTS;
	}
	for (uint32_t i = 0; i < n; i++) {
		each = word(burst, i);
		memcpy(&ring[(from + i) & mask], &each, sizeof(each));
	}
}

/* ---- packed rings ---- */

/* All but the address of a used descriptor is one word. */
static __rte_always_inline void
packed_store_used(struct packed_desc *slot, uint32_t used_bytes, uint16_t id, unsigned int wrap,
		int order)
{
	/* WRITE tells that `len` counts (2.8.4). */
	const uint16_t flags = packed_used_flags(wrap) | (used_bytes != 0 ? DESC_F_WRITE : 0);

	__atomic_store_n(PACKED_WORD(slot), used_bytes | (uint64_t)id << 32 | (uint64_t)flags << 48,
			order);
}

/* A place in the ring. */
struct packed_pos {
	uint32_t idx;
	unsigned int wrap;
};

static __rte_always_inline void
packed_pos_add(struct packed_pos *pos, uint32_t n_slots, uint32_t size)
{
	pos->idx += n_slots;
	if (unlikely(pos->idx >= size)) {
		pos->idx -= size;
		pos->wrap ^= 1;
	}
}

/* ---- the variants ---- */

uint16_t
split_pop(struct vhub_virtq *vq, struct vhub_chain **chains, uint16_t max);
uint16_t
split_pop_avx512(struct vhub_virtq *vq, struct vhub_chain **chains, uint16_t max);
uint16_t
split_replay(struct vhub_virtq *vq, struct vhub_chain **chains, uint16_t max);
void
split_unpop(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n);
void
split_note(struct vhub_virtq *vq);
void
split_push_plain(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n);
void
split_push_inflight(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n);

uint16_t
packed_pop(struct vhub_virtq *vq, struct vhub_chain **chains, uint16_t max);
uint16_t
packed_pop_avx512(struct vhub_virtq *vq, struct vhub_chain **chains, uint16_t max);
uint16_t
packed_replay(struct vhub_virtq *vq, struct vhub_chain **chains, uint16_t max);
void
packed_unpop(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n);
void
packed_note(struct vhub_virtq *vq);
void
packed_push_plain(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n);
void
packed_push_inflight(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n);

/* ---- inorder.c ---- */

/* IN_ORDER: gives on to ops->push what is due, keeps the rest. */
void
inorder_push(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n);

/* The ring is broken: what is kept goes to `drop`. */
void
inorder_drop(struct vhub_virtq *vq, void (*drop)(struct vhub_virtq *vq, struct vhub_chain *chain));

/* ---- dirty.c; only with vq->log, but for dirty_set_bases() and dirty_mark_former() ---- */

/* Where the parts of the used side are marked. */
void
dirty_set_bases(struct vhub_virtq *vq);

/* What the device wrote into the chains' buffers. */
void
dirty_mark_data(const struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n);

/* `len` bytes at `offset` of the used ring (packed: of the descriptor ring). */
void
dirty_mark_ring(const struct vhub_virtq *vq, uint64_t offset, uint64_t len);

/* The same of the used area (packed: of the device's event suppression). */
void
dirty_mark_event(const struct vhub_virtq *vq, uint64_t offset, uint64_t len);

/* All of the used side, once, for a former life; later than what is stored in its stead. */
void
dirty_mark_former(struct vhub_virtq *vq);

/* ---- inflight_split.c, inflight_packed.c; CTL ---- */

/*
 * Copies the region, checks the copy, repairs what a crash left, and puts the ring where the former
 * life was: vq->replay, counters, indexes. `bytes` of the region are there. 0 or -EPROTO, or
 * -ENOMEM.
 */
int
inflight_split_resume(struct vhub_virtq *vq, uint64_t bytes);
int
inflight_packed_resume(struct vhub_virtq *vq, uint64_t bytes);

/* ---- inflight.c ---- */

/* One chain of a former life. */
struct inflight_found {
	uint64_t counter;
	uint16_t entry;
};

/* CTL: sorts by counter into vq->replay. -EPROTO when two have the same. */
int
inflight_set_replay(struct vhub_virtq *vq, struct inflight_found *found, uint32_t n);

#endif /* VIRTQ_PVT_H */
