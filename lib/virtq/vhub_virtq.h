/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Virtqueues, the device's side: split and packed rings behind one set of burst operations.
 *
 * Specification: VIRTIO 1.2, 2.6 "Virtqueues", 2.7 "Split Virtqueues", 2.8 "Packed Virtqueues";
 * inflight regions: vhost-user "Inflight I/O tracking".
 *
 * Way of a chain: pop -> (the device works on chain->iov) -> push -> notify; what a device has popped
 * too much of it gives back with unpop, unseen by the guest. A device that works off at once what it finds
 * has a shorter way for buffers of one piece: peek -> use -> notify. Each descriptor is
 * read from guest memory once, the copy is validated and translated to host addresses, and only the
 * result is used. What the guest does wrong breaks the ring (vhub_virtq_broken()), never the
 * process.
 *
 * Life: created by blocking work with everything allocated, used by exactly one lcore, destroyed by
 * blocking work. Setters may be called between bursts by the owning lcore.
 */
#ifndef VHUB_VIRTQ_H
#define VHUB_VIRTQ_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include <rte_common.h>

#include "vhub_common.h"
#include "vhub_lcore.h"
#include "vhub_mem.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Largest ring (VIRTIO 1.2, 2.6). */
#define VHUB_VIRTQ_MAX_SIZE 32768u
/**
 * Most pieces of one chain in host memory; a longer chain breaks the ring. Enough for SEG_MAX and
 * headers in pieces.
 */
#define VHUB_CHAIN_MAX_IOV 320u
/**
 * Pieces kept inside the chain; a longer chain borrows a block of VHUB_CHAIN_MAX_IOV from the
 * ring's few.
 */
#define VHUB_CHAIN_INLINE_IOV 8u
/**
 * Chains longer than VHUB_CHAIN_INLINE_IOV that one ring can have in flight; when all are, pop
 * waits for one.
 */
#define VHUB_VIRTQ_LONG_CHAINS 64u
/** Most chains in one burst. */
#define VHUB_VIRTQ_BURST 64u

struct vhub_virtq;

/**
 * Device feature bits that concern rings (VIRTIO 1.2, 6 "Reserved Feature Bits"); others are
 * ignored here.
 */
#define VHUB_VIRTQ_FEATURES \
	((UINT64_C(1) << 28) /* INDIRECT_DESC */ | (UINT64_C(1) << 29) /* EVENT_IDX */ | \
			(UINT64_C(1) << 32) /* VERSION_1 */ | \
			(UINT64_C(1) << 34) /* RING_PACKED */ | \
			(UINT64_C(1) << 35) /* IN_ORDER */)

/**
 * One request of the guest. The device embeds it in its own request and gets one for each slot of
 * the ring, allocated with the ring. Between pop and push it is the device's.
 */
struct vhub_chain {
	struct iovec *iov; /**< host addresses: n_out readable pieces, then n_in writable ones */
	uint16_t n_out;
	uint16_t n_in;
	/** sum over the readable pieces; a chain of 4 GiB or more breaks the ring */
	uint32_t out_bytes;
	uint32_t in_bytes; /**< sum over the writable pieces */
	/** set by the device before push: bytes written, from the start of the writable pieces */
	uint32_t used_bytes;

	/* virtq's own. */
	uint16_t id;		/**< split: head descriptor; packed: buffer id */
	uint16_t order;		/**< number of its pop: IN_ORDER puts pushes back in this order */
	uint16_t n_slots;	/**< packed: ring slots that the chain takes; split: 1 */
	uint16_t inflight_slot; /**< packed: its entry in the inflight region */
	uint16_t long_block;	/**< index + 1 of the borrowed block, 0 none */
	/** in lines of their own, of which most chains need one */
	struct iovec inline_iov[VHUB_CHAIN_INLINE_IOV] __rte_cache_aligned;
};

/** Whether these features make a packed ring. Thread: ANY. */
static inline bool
vhub_virtq_is_packed(uint64_t features)
{
	return (features & (UINT64_C(1) << 34)) != 0;
}

/** Where a ring lies and what was negotiated. Pointers are host addresses inside config->mem. */
struct vhub_virtq_config {
	uint16_t size; /**< entries; split: a power of two */
	uint64_t features;
	void *desc;  /**< split: descriptor table; packed: descriptor ring */
	void *avail; /**< split: available ring; packed: driver event suppression */
	void *used;  /**< split: used ring; packed: device event suppression */
	/**
	 * as in SET_VRING_BASE: both indexes and wrap counters of a packed ring. A split one goes on behind
	 * its used index, which is in guest memory, and what its region has in flight
	 */
	uint32_t base;
	/**
	 * nothing is noted in flight: the ring goes on where its used side stands, and so takes again
	 * what a back end before it has taken and not returned. Packed: at the used half of base, or the
	 * other one where a front end leaves that empty
	 */
	bool from_used;
	struct vhub_mem_table *mem; /**< the ring takes a reference */
	/** of the memory's owner (vhub_mem.h), and outlives the ring; NULL: not looked at */
	const uint32_t *faulted;
	struct vhub_dirty_log *log; /**< NULL: not logging; the ring takes a reference */
	bool log_used;		    /**< mark writes to the used ring too, at used_log_gpa */
	/**
	 * where the used ring is marked; packed: the address of `used`, when that is what it is
	 * (descriptors are then marked where they lie), else that of the descriptor ring
	 */
	uint64_t used_log_gpa;
	/** the ring's part of the inflight region, NULL: none; outlives the ring */
	void *inflight;
	uint64_t inflight_bytes; /**< size of that part */
	int call_fd;		 /**< stays the caller's; -1: none, the guest polls */
	/** of what goes to call_fd; outlives the ring, stays the caller's. NULL: none is kept */
	struct vhub_notify_account *notify_account;
	/** size of the device's request, >= sizeof(struct vhub_chain), which it starts with */
	uint32_t chain_bytes;
	int numa_node; /**< for the ring's own memory; -1 any */
};

/** Why a ring is broken; each has a sentence (vhub_virtq_reason_name()). */
enum vhub_virtq_reason {
	VHUB_VIRTQ_OK,
	VHUB_VIRTQ_AVAIL_RUNAWAY,  /**< available index further ahead than the ring has entries */
	VHUB_VIRTQ_BAD_HEAD,	   /**< head beyond the table */
	VHUB_VIRTQ_HEAD_IN_FLIGHT, /**< head offered again while it is in flight */
	VHUB_VIRTQ_BAD_NEXT,	   /**< next beyond the table */
	VHUB_VIRTQ_LOOP,	   /**< chain longer than its table */
	VHUB_VIRTQ_TOO_LONG,	   /**< more than VHUB_CHAIN_MAX_IOV pieces or 4 GiB */
	VHUB_VIRTQ_BAD_ADDRESS,	   /**< a piece outside of guest memory */
	VHUB_VIRTQ_ZERO_LENGTH,	   /**< a descriptor of length 0 */
	VHUB_VIRTQ_BAD_ORDER,	   /**< readable after writable */
	/** indirect table nested, not negotiated, of odd size, empty, or with NEXT set */
	VHUB_VIRTQ_BAD_INDIRECT,
	VHUB_VIRTQ_BAD_INFLIGHT, /**< inflight region that makes no sense */
	/** told by the device: a request that it cannot answer (no place for a status) */
	VHUB_VIRTQ_BAD_REQUEST,
	/** told by the device: a receive buffer without room for a packet's header */
	VHUB_VIRTQ_SMALL_BUFFER,
	VHUB_VIRTQ_NOTIFY_STUCK, /**< the call fd blocked */
	VHUB_VIRTQ_MEMORY_LOST,	 /**< pages of the guest's were not there: zero pages are */
	VHUB_VIRTQ_REASONS
};

/** A sentence for log and statistics, "descriptor address outside of guest memory". Thread: ANY. */
VHUB_API const char *
vhub_virtq_reason_name(enum vhub_virtq_reason reason);

/** Counters of one ring. */
struct vhub_virtq_stats {
	uint64_t chains;	   /**< popped */
	uint64_t completions;	   /**< pushed */
	uint64_t resubmitted;	   /**< of chains: replayed from the inflight region */
	uint64_t calls;		   /**< call fd written */
	uint64_t calls_suppressed; /**< guest did not want one */
	/** call fd refused the write (EBADF, EPIPE, ...); a full one is no error */
	uint64_t call_errors;
	/** pops cut short because VHUB_VIRTQ_LONG_CHAINS were in flight */
	uint64_t long_chain_waits;
};

/** Bytes that the host area of a ring of `size` takes at desc, avail and used. Thread: ANY. */
VHUB_API void
vhub_virtq_layout(uint16_t size, uint64_t features, uint64_t *desc_bytes, uint64_t *avail_bytes,
		uint64_t *used_bytes);

/** Whether all three are there, and aligned as they have to be. Thread: ANY. */
VHUB_API bool
vhub_virtq_is_aligned(const void *desc, const void *avail, const void *used, bool packed);

/** Whether `base` lies in a ring of `size`; a packed one holds two indexes, each with its wrap counter. Thread: ANY. */
VHUB_API bool
vhub_virtq_base_fits(uint32_t base, uint32_t size, bool packed);

/**
 * Makes a ring and its requests (chain_bytes each, zeroed, one a slot). Reads the used index of a
 * split ring and, when config->inflight is set, the inflight region: what was in flight is popped
 * again first, in the order of submission. Resume: split, available index = used index + number in
 * flight; packed, the inflight region wins over base, unless no ring has ever used it. A part that
 * nobody has prepared (version 0) is prepared, one with more entries than the ring is fine. Thread:
 * WORK; may block (guest memory is read). Returns 0, -EINVAL (size, base), -ENOMEM, -EPROTO (inflight
 * region: wrong version, size, lists).
 */
VHUB_API int
vhub_virtq_create(const struct vhub_virtq_config *config, struct vhub_virtq **out);

/**
 * Frees it; chains in flight are forgotten. NULL is fine. Thread: CTL or WORK, no lcore uses it any
 * more. May block: a large ring is many pages.
 */
VHUB_API void
vhub_virtq_destroy(struct vhub_virtq *vq);

/** Bytes of one ring's part of an inflight region, a multiple of 64. Thread: ANY. */
VHUB_API uint64_t
vhub_inflight_queue_bytes(uint16_t size, bool packed);

/**
 * Fills a fresh (zeroed) part of an inflight region; a part that is already in use is left. Thread:
 * WORK; may block (the memory is a front end's). Returns 0 or -EINVAL (it is in use, for another size or
 * version).
 */
VHUB_API int
vhub_inflight_queue_init(void *part, uint64_t part_bytes, uint16_t size, bool packed);

/*
 * ---- LCORE ----
 *
 * What follows is for the lcore that owns the ring, and does not block, unless a function names another thread.
 * Chains and buffers are the device's from the call that gives them until that which gives them back.
 */

/**
 * Takes up to `max` (<= VHUB_VIRTQ_BURST) chains. Returns how many; 0 also when the ring is broken. Has the
 * last writable byte of those that can be read, too, brought near to be written: devices answer there.
 */
VHUB_API uint16_t
vhub_virtq_pop(struct vhub_virtq *vq, struct vhub_chain **chains, uint16_t max);

/**
 * Has the inflight region, if there is one, tell of what was popped and is not pushed. Devices call it
 * at the end of a turn: what was popped and pushed in one turn need not be told of. Between pop and
 * note a crash loses nothing either, the next life of the ring finds those chains available.
 */
VHUB_API void
vhub_virtq_note(struct vhub_virtq *vq);

/**
 * Undoes the pop of `n` chains, in the order in which they were popped, of which the last is the last
 * one popped: the next pop finds them again. Not for rings with an inflight region.
 */
VHUB_API void
vhub_virtq_unpop(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n);

/**
 * Gives `n` chains back in any order (with IN_ORDER negotiated the ring puts them in order itself),
 * marks the dirty log, publishes the used index once. The guest is not told yet. Where pages of its memory were
 * not there the ring breaks instead: the inflight region keeps what was read from zero pages, or written to them.
 */
VHUB_API void
vhub_virtq_push(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n);

/**
 * Tells the guest about what was pushed since the last call, if it wants to be told. One system
 * call at most.
 */
VHUB_API void
vhub_virtq_notify(struct vhub_virtq *vq);

/** A chain of one descriptor and one piece, where it is. Filled by vhub_virtq_peek(). */
struct vhub_buffer {
	void *base;	     /**< host address */
	uint32_t bytes;	     /**< never 0 */
	uint32_t used_bytes; /**< set by the device: bytes written, from base on; 0 until then */
	uint16_t id;	     /**< virtq's own */
};

/**
 * Shows up to `max` of the chains that wait, in order, as far as each is one readable (or, `writable`,
 * one writable) descriptor that is contiguous for us. They stay available until vhub_virtq_use(), and
 * are shown again if nothing takes them. 0 when the next one is something else, or the ring has to keep
 * something of each of its chains: vhub_virtq_pop() takes those, and finds what is wrong with them.
 * Thread: LCORE, the ring's.
 */
VHUB_API uint16_t
vhub_virtq_peek(struct vhub_virtq *vq, struct vhub_buffer *buffers, uint16_t max, bool writable);

/**
 * Takes the first `n` of those shown last and gives them back at once, as vhub_virtq_push() would.
 * Nothing else was called of this ring meanwhile. Thread: LCORE, the ring's.
 */
VHUB_API void
vhub_virtq_use(struct vhub_virtq *vq, const struct vhub_buffer *buffers, uint16_t n);

/**
 * Has the descriptors of the next `n` chains brought near, where it is known where they lie: in a packed
 * ring. For rings that the driver keeps filled: what it is about to write would be taken away from it.
 * Changes nothing, whatever `n` is. Thread: LCORE, the ring's.
 */
VHUB_API void
vhub_virtq_prefetch(const struct vhub_virtq *vq, uint16_t n);

/**
 * Has the entries of a split ring brought near to be written that the next `n` chains are given back in, unless
 * they are likely to stay as they are. Of a packed ring, where they were taken from, they are near. Changes
 * nothing. Thread: LCORE, the ring's.
 */
VHUB_API void
vhub_virtq_prefetch_used(const struct vhub_virtq *vq, uint16_t n);

/**
 * How long the guest of a ring wants to be left alone (VIRTIO 1.2, 5.1.6.5.9). Shared atomics, the
 * owner's, who may change them at any time. Both 0: it is told at once.
 */
struct vhub_virtq_coalescing {
	uint64_t max_cycles; /**< of the TSC, from the first push that it was not told of */
	uint32_t max_entries; /**< pushed until then; of packed rings slots. 0 and 1: it is told at once */
};

/**
 * From now on vhub_virtq_notify() keeps notifications back as `coalescing` says, which outlasts the ring; NULL, as
 * at the start: never. Who sets this calls vhub_virtq_notify_kept() in each turn.
 */
VHUB_API void
vhub_virtq_coalesce(struct vhub_virtq *vq, const struct vhub_virtq_coalescing *coalescing);

/**
 * Tells the guest what was kept back, if that has been long enough, or `at_once`. Returns whether
 * something is still kept: then this is to be called again, and the lcore must not sleep.
 */
VHUB_API bool
vhub_virtq_notify_kept(struct vhub_virtq *vq, bool at_once);

/** True when a chain waits. One load from guest memory. */
VHUB_API bool
vhub_virtq_has_work(struct vhub_virtq *vq);

/**
 * True when at least `n` entries wait, 1 to the ring's size: chains, but in a packed ring slots. One
 * load from guest memory, in a packed ring of the n-th slot alone: what is before it stays with the
 * guest that is still filling it. Also true when the next pop has more to do than to take them.
 */
VHUB_API bool
vhub_virtq_has_waiting(struct vhub_virtq *vq, uint16_t n);

/** Entries of the ring. Thread: ANY. */
VHUB_API uint16_t
vhub_virtq_size(const struct vhub_virtq *vq);

/**
 * Asks the guest to kick, then looks once more: 0 may sleep, -EAGAIN work is there (and kicks are
 * off again).
 */
VHUB_API int
vhub_virtq_arm(struct vhub_virtq *vq);

/**
 * For a ring that is to be left alone while its guest offers nothing: the word of guest memory that
 * tells of the next offer. Valid until the next pop, set_mem, or the ring's end. Returns false when
 * the ring has something to do: something is offered, in flight or to be replayed, or it has not been popped
 * since it started.
 */
VHUB_API bool
vhub_virtq_park(const struct vhub_virtq *vq, struct vhub_lcore_word *word);

/** Asks the guest not to kick. */
VHUB_API void
vhub_virtq_disarm(struct vhub_virtq *vq);

/**
 * While `on`, pop takes what a former life of the ring left in its inflight region, and nothing
 * that the guest offers: so a ring is drained.
 */
VHUB_API void
vhub_virtq_replay_only(struct vhub_virtq *vq, bool on);

/** Chains left by a former life of the ring and not popped yet; 0 when the ring is broken. */
VHUB_API uint16_t
vhub_virtq_to_replay(const struct vhub_virtq *vq);

/** Chains popped and not yet pushed. */
VHUB_API uint16_t
vhub_virtq_in_flight(const struct vhub_virtq *vq);

/** Whether the ring notes what is in flight in a region. Thread: ANY. */
VHUB_API bool
vhub_virtq_has_inflight(const struct vhub_virtq *vq);

/**
 * The device gives `n` chains up, and the guest will not hear of them in this life of the ring: they
 * stay noted in its inflight region, for the next one. The dirty log is marked as for a push.
 */
VHUB_API void
vhub_virtq_leave(struct vhub_virtq *vq, struct vhub_chain *const *chains, uint16_t n);

/** Of the chains popped, those that the device has: it has neither pushed nor left them. */
VHUB_API uint16_t
vhub_virtq_under_way(const struct vhub_virtq *vq);

/**
 * What GET_VRING_BASE answers; meaningful with nothing under way. Thread: the owner, or CTL once it
 * has stopped.
 */
VHUB_API uint32_t
vhub_virtq_base(const struct vhub_virtq *vq);

/**
 * VHUB_VIRTQ_OK or why the ring is broken; a broken ring pops nothing, but chains in flight may be
 * pushed (they are dropped).
 */
VHUB_API enum vhub_virtq_reason
vhub_virtq_broken(const struct vhub_virtq *vq);

/** Whether vhub_virtq_replay_only() is on: somebody waits for what is in flight. Thread: LCORE. */
VHUB_API bool
vhub_virtq_drains(const struct vhub_virtq *vq);

/** The device found something it cannot answer. */
VHUB_API void
vhub_virtq_break(struct vhub_virtq *vq, enum vhub_virtq_reason reason);

/**
 * Another call fd, which stays the caller's and is used until the next call; -1: the guest polls. What the
 * guest has missed for want of one it is told now. Thread: LCORE, the ring's, between bursts.
 */
VHUB_API void
vhub_virtq_set_call_fd(struct vhub_virtq *vq, int fd);

/**
 * Another memory table and the ring's addresses in it; only with nothing in flight. References:
 * takes one of `mem`, puts none: the former table is returned, with its reference, for CTL to put.
 * Thread: LCORE, the ring's, between bursts.
 */
VHUB_API struct vhub_mem_table *
vhub_virtq_set_mem(struct vhub_virtq *vq, struct vhub_mem_table *mem, void *desc, void *avail,
		void *used);

/** Another dirty log (NULL: none), references and thread as above. NULL: there was none. */
VHUB_API struct vhub_dirty_log *
vhub_virtq_set_log(struct vhub_virtq *vq, struct vhub_dirty_log *log, bool log_used,
		uint64_t used_log_gpa);

/** Copies the counters. Thread: ANY; values of one call may be a burst apart. */
VHUB_API void
vhub_virtq_get_stats(const struct vhub_virtq *vq, struct vhub_virtq_stats *stats);

#ifdef __cplusplus
}
#endif

#endif /* VHUB_VIRTQ_H */
