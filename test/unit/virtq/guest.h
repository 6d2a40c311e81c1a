/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest for the tests of lib/virtq: its memory in three regions, of which the first two are
 * neighbours in guest addresses and not in ours, and a driver for split and packed rings, written
 * from the specification and from nothing in lib/virtq. What the driver finds wrong fails the test.
 */
#ifndef VIRTQ_TEST_GUEST_H
#define VIRTQ_TEST_GUEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <cmocka.h>

#include "vhub_virtq.h"

#define F_INDIRECT (UINT64_C(1) << 28)
#define F_EVENT_IDX (UINT64_C(1) << 29)
#define F_VERSION_1 (UINT64_C(1) << 32)
#define F_PACKED (UINT64_C(1) << 34)
#define F_IN_ORDER (UINT64_C(1) << 35)

#define D_NEXT 1u
#define D_WRITE 2u
#define D_INDIRECT 4u
#define D_AVAIL 0x80u
#define D_USED 0x8000u

/* Data lies in regions 0 and 1, rings and tables in region 2. */
#define LOW_GPA UINT64_C(0x100000)
#define LOW_BYTES UINT64_C(0x40000)
#define MID_GPA (LOW_GPA + LOW_BYTES)
#define RING_GPA UINT64_C(0x40000000)
#define RING_BYTES UINT64_C(0x1000000)
#define GUEST_TOP_GPA (RING_GPA + RING_BYTES)

struct guest {
	uint8_t *area;
	size_t area_bytes;
	struct vhub_mem_table *table;
	uint64_t next_gpa; /* of region 2: what is not handed out yet */
};

/* Shared with children of fork(). */
void
guest_init(struct guest *g);
void
guest_fini(struct guest *g);

/* Memory of region 2. */
uint64_t
guest_alloc(struct guest *g, uint64_t bytes, uint64_t align);

/* NULL outside. */
void *
guest_hva(const struct guest *g, uint64_t gpa);

/* Pieces in host memory of [gpa, gpa + len), all of which is there. */
unsigned int
guest_split(const struct guest *g, uint64_t gpa, uint64_t len, struct iovec *iov);

/* ---- random ---- */

struct rnd {
	uint64_t s;
};

/* Prints the seed: VHUB_TEST_SEED in the environment, or `fixed`. */
void
rnd_init(struct rnd *r, const char *what, uint64_t fixed);
uint32_t
rnd_next(struct rnd *r);

/* 0 .. n - 1 */
static inline uint32_t
rnd_below(struct rnd *r, uint32_t n)
{
	return rnd_next(r) % n;
}

/* ---- driver ---- */

struct piece {
	uint64_t gpa;
	uint32_t len;
	bool write;
};

#define MAX_PIECES 330

/* One request as the driver knows it. */
struct token {
	bool used;    /* in use by the driver */
	uint64_t seq; /* order of being offered */
	uint16_t id;
	uint16_t n_slots;
	unsigned int n;
	struct piece pieces[MAX_PIECES];
	uint32_t used_len; /* what the device is going to say; set by the test */
};

struct driver {
	struct guest *g;
	uint64_t features;
	bool packed;
	uint32_t size;
	uint64_t desc_gpa, avail_gpa, used_gpa, table_gpa;
	uint8_t *desc, *avail, *used;
	struct token *tokens; /* by id */
	uint64_t next_seq;
	uint64_t next_reap_seq; /* IN_ORDER: what must come next */
	uint32_t n_out;		/* offered and not reaped */

	uint16_t *free; /* split: descriptors; packed: buffer ids */
	uint32_t n_free;
	uint32_t n_free_slots; /* packed */
	uint16_t avail_idx;
	uint16_t used_idx;
	uint8_t avail_wrap;
	uint8_t used_wrap;
	uint16_t kick_idx; /* split: avail_idx at the last look whether to kick */
	uint32_t n_added;  /* slots (split: entries) since then */
};

void
driver_init(struct driver *d, struct guest *g, uint64_t features, uint32_t size);
void
driver_fini(struct driver *d);

/*
 * The ring starts at this index (split), or index and wrap counter (packed), as if much had
 * happened before.
 */
void
driver_start_at(struct driver *d, uint16_t idx, uint8_t wrap);

/* SET_VRING_BASE of a ring whose driver has reaped everything. */
uint32_t
driver_base(const struct driver *d);

/* Offers a chain; NULL when there is no room. */
struct token *
driver_add(struct driver *d, const struct piece *pieces, unsigned int n, bool indirect);

/* Random pieces: readable ones, then writable ones, at least one; some across regions. */
unsigned int
driver_random_pieces(struct rnd *r, struct piece *pieces, unsigned int max);

/* Takes one used chain; NULL when there is none. The token is the driver's until the next add. */
struct token *
driver_reap(struct driver *d);

/* Whether the driver would kick for what was added since the last call. */
bool
driver_kick_wanted(struct driver *d);

/* How the driver asks for calls. */
void
driver_calls_flag(struct driver *d, bool want);

/* EVENT_IDX: split: index; packed: slot and wrap counter. */
void
driver_calls_event(struct driver *d, uint16_t idx, uint8_t wrap);

/* Fails unless `chain` is what the token says, translated. */
void
driver_check_chain(const struct driver *d, const struct token *t, const struct vhub_chain *chain);

/* The token of a chain that was popped. */
struct token *
driver_token(struct driver *d, const struct vhub_chain *chain);

/* A configuration for vhub_virtq_create() of this driver's ring; no log, no region, no call fd. */
struct vhub_virtq_config
driver_config(const struct driver *d);

/* vhub_virtq_create() that must succeed. */
struct vhub_virtq *
virtq_make(const struct vhub_virtq_config *config);

/* A guest with a driver and its ring, which has no region; PACKED_SIZE is no power of two. */
#define PACKED_SIZE 37u
#define SPLIT_SIZE 32u
struct vhub_virtq *
ring_begin(struct guest *g, struct driver *d, uint64_t features);
void
ring_end(struct vhub_virtq *vq, struct driver *d, struct guest *g);

#endif /* VIRTQ_TEST_GUEST_H */
