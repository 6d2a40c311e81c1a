/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver's side of a virtqueue, split or packed, made for the least work a request.
 *
 * A ring has slots. The chain of a slot (which pieces of memory, in which direction) is prepared
 * once; from then on a request is a slot's number: add, add, ..., publish, kick; reap gives back
 * slot numbers and written lengths. A slot is in flight at most once, and there are never more
 * slots than the ring has room for, so adding cannot fail.
 *
 *   split          a slot owns descriptors that never change; adding is one store into the
 *                  available ring
 *   split indirect a slot owns one descriptor and a table
 *   packed         adding writes the slot's descriptors where the ring stands
 *   packed indirect  adding writes one descriptor
 *
 * The front end polls the used ring. What the back end writes is read once and checked: a used id
 * that is out of range or not in flight, an index that runs away, more bytes than the chain can
 * take give -EPROTO and ring->fault, a text that names ring, id and index.
 *
 * With IN_ORDER a split ring wants its slots added in turn, 0, 1, ... n_slots - 1, 0 (2.7.9.1).
 *
 * Life: ring_create() and ring_prepare() by the main thread, then one lcore uses it through
 * ring_fast.h. Specification: VIRTIO 1.2, 2.7 and 2.8; IN_ORDER 2.7.9 and 2.8.11. Implemented in
 * ring.c, ring_split.c, ring_packed.c; the fast path is in ring_fast.h.
 */
#ifndef PERF_RING_H
#define PERF_RING_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_common.h>

#include "layout.h"
#include "memory.h"

#define RING_F_PACKED (UINT64_C(1) << 34)

/* Most pieces of a chain. */
#define RING_MAX_PIECES 8u
#define RING_MAX_SIZE 32768u
#define RING_NO_SLOT UINT16_MAX

/* One piece of a slot's chain: readable ones come before writable ones. */
struct ring_piece {
	const void *hva;
	uint32_t bytes;
	bool writable; /* by the back end */
};

struct ring_config {
	const char *name;  /* for messages: the socket's path; outlives the ring */
	uint16_t index;	   /* vring index */
	uint16_t size;	   /* entries; a power of two when split */
	uint16_t pieces;   /* most that a slot's chain has, up to RING_MAX_PIECES */
	bool indirect;	   /* use a table for every chain; features has to have the bit */
	bool poll;	   /* no kick and no call fd: both sides poll */
	uint64_t features; /* as negotiated */
};

/* What the lcore knows of a slot. */
struct ring_slot {
	uint32_t writable_bytes; /* the most that the back end can have written */
	uint16_t head;		 /* split: its first descriptor; packed: its first template */
	uint16_t order;		 /* IN_ORDER: its number in the order of adding */
	uint8_t n_descs;	 /* that it takes in the ring */
	uint8_t in_flight;
};

/* A request that came back. */
struct ring_used {
	uint32_t slot;
	uint32_t bytes; /* written by the back end */
};

struct ring {
	/* Immutable once created. */
	uint16_t size;
	uint16_t mask; /* split: size - 1 */
	uint16_t n_slots;
	uint16_t stride;  /* descriptors in the ring for each slot */
	uint16_t pieces;  /* of the chains */
	uint16_t n_short; /* prepared slots with fewer descriptors than `stride` */
	uint16_t index;
	bool packed;
	bool indirect;
	bool event_idx;
	bool in_order;
	uint64_t features;
	int kick_fd; /* -1: the back end polls */
	int call_fd; /* never waited for; -1: the back end has none */
	const char *name;
	struct ring_slot *slots;
	uint16_t *slot_of;	  /* split: by head descriptor; RING_NO_SLOT: no head */
	struct packed_desc *tmpl; /* packed: descriptors of each slot, without AVAIL and USED */
	uint16_t *order;	  /* IN_ORDER: slots in the order of adding, `order_mask` + 1 */
	uint16_t order_mask;
	void *desc; /* in guest memory, as in SET_VRING_ADDR */
	void *avail;
	void *used;
	uint8_t *tables; /* indirect: in guest memory, `pieces` entries each */
	const struct perf_memory *mem;

	/* LCORE. */
	uint16_t avail_idx; /* split: free-running; packed: 0 .. size - 1 */
	uint16_t used_idx;
	uint8_t avail_wrap; /* packed */
	uint8_t used_wrap;
	uint16_t batch_left;	/* IN_ORDER: used, told by one entry, and not reaped yet */
	uint32_t batch_bytes;	/* IN_ORDER: the length in that entry, which is the last one's */
	uint16_t order_head;	/* IN_ORDER: number of the next to be added */
	uint16_t order_tail;	/* of the next to come back */
	uint16_t call_event;	/* split, EVENT_IDX: the used_event that stands in the ring */
	uint16_t first_idx;	/* packed: of the first unpublished descriptor */
	uint32_t unpublished;	/* packed: descriptors added since the last publish */
	uint32_t unkicked;	/* packed: descriptors published since the last look at kicks */
	uint16_t published_idx; /* split: avail_idx at the last publish */
	uint16_t kick_idx;	/* split: published_idx at the last look at kicks */
	uint64_t first_word;	/* packed: of that one all but its address, held back */
	uint64_t kicks;		/* kick fd written */
	char fault[256];	/* why reap gave -EPROTO */
} __rte_cache_aligned;

/* Slots of a ring: how many requests can be in flight. Thread: ANY. */
uint16_t
ring_slots(const struct ring_config *config);

/* Guest memory that ring_create() takes from `mem`, at most. Thread: ANY. */
uint64_t
ring_memory_bytes(const struct ring_config *config);

/*
 * Thread: main. Returns 0, -EINVAL (size, pieces; told), -ENOMEM, or the errno of eventfd(2). The
 * ring refers to `mem`.
 */
int
ring_create(const struct ring_config *config, struct perf_memory *mem, struct ring **out);

/* NULL is fine. Guest memory stays taken. */
void
ring_destroy(struct ring *r);

/*
 * What the slot's requests consist of from now on: 1 .. pieces pieces, readable ones first. Not
 * while it is in flight. Thread: main, or the ring's lcore.
 */
void
ring_prepare(struct ring *r, uint16_t slot, const struct ring_piece *pieces, unsigned int n);

/*
 * Nothing was ever added: indexes at their start, no slot in flight; chains stay prepared. For a
 * back end that starts the ring anew. Thread: main, while no lcore uses the ring.
 */
void
ring_reset(struct ring *r);

/*
 * What to put into SET_VRING_BASE: where the back end has come to, as far as we have reaped. Reap
 * everything first. With an inflight region the back end adds what is in flight.
 */
uint32_t
ring_base(const struct ring *r);

/*
 * The same with `n` entries that the back end has taken beyond that: of a split ring an entry is a request,
 * of a packed one a descriptor.
 */
uint32_t
ring_base_ahead(const struct ring *r, uint32_t n);

/* Entries of a slot's request. */
uint32_t
ring_slot_entries(const struct ring *r, uint16_t slot);

/*
 * The slots of the requests in the ring that are in flight behind the first `n` entries which have not come
 * back: those that a back end with ring_base_ahead() has not taken. Everything added is published. `slots` has
 * room for n_slots. Returns how many, or -EPROTO: the entries are no requests in flight.
 */
int
ring_untaken(const struct ring *r, uint32_t n, uint16_t *slots);

static inline bool
ring_slot_in_flight(const struct ring *r, uint16_t slot)
{
	return r->slots[slot].in_flight != 0;
}

/* ---- used by ring_fast.h ---- */

/* Writes the kick fd if the back end wants that; r->kick_fd is there, and a barrier was. */
void
ring_split_kick(struct ring *r);
void
ring_packed_kick(struct ring *r);

/* Reap where chains have different lengths. */
int
ring_packed_reap_any(struct ring *r, struct ring_used *used, unsigned int max);

/* Reap with IN_ORDER, where one used entry may stand for many. */
int
ring_split_reap_in_order(struct ring *r, struct ring_used *used, unsigned int max);
int
ring_packed_reap_in_order(struct ring *r, struct ring_used *used, unsigned int max);

enum ring_fault_kind {
	RING_FAULT_RUNAWAY, /* used index further ahead than what was published */
	RING_FAULT_ID,	    /* used id that is no request's */
	RING_FAULT_IDLE,    /* used id of a request that is not in flight */
	RING_FAULT_BYTES,   /* more bytes written than there is room for */
	RING_FAULT_ORDER,   /* IN_ORDER: more used requests than the index tells */
};

/* Puts the sentence into r->fault and returns -EPROTO. `id` as the back end wrote it. */
int
ring_fault(struct ring *r, enum ring_fault_kind kind, uint32_t id, uint32_t value);

/* What is wrong with a used id and its length; `slot` RING_NO_SLOT or too large: it has none. */
int
ring_used_fault(struct ring *r, uint16_t slot, uint32_t id, uint32_t bytes);

/* ---- between the files of the ring ---- */

/* Indirect: the slot's table, `pieces` descriptors in guest memory. */
uint8_t *
ring_table(const struct ring *r, uint16_t slot);

/* Writes the kick fd. */
void
ring_write_kick(struct ring *r);

/* IN_ORDER: a used entry tells of `slot` and all that were added before it; checked. */
int
ring_open_batch(struct ring *r, uint16_t slot, uint32_t id, uint32_t bytes);

/*
 * IN_ORDER: up to `max` of the batch, at least one. Returns how many, and in `*n_descs` the
 * descriptors that they have.
 */
unsigned int
ring_take_batch(struct ring *r, struct ring_used *used, unsigned int max, uint32_t *n_descs);

/* Each format's part of ring_create() and ring_prepare(). */
int
ring_split_create(struct ring *r);
int
ring_packed_create(struct ring *r);
void
ring_split_prepare(struct ring *r, uint16_t slot, const struct ring_piece *pieces, unsigned int n);
void
ring_packed_prepare(struct ring *r, uint16_t slot, const struct ring_piece *pieces, unsigned int n);

#endif /* PERF_RING_H */
