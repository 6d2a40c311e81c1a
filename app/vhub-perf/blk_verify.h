/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * `vhub-perf blk --verify`: what is read is what was written. Every queue has a part of the disk of
 * its own, and for each block of it a note of what has to be there: the generation that was
 * acknowledged last, and one that may be there as well, because its write failed. At most one
 * request is in flight on a block, so every read has one right answer. At the end every block that
 * was written is read once more.
 *
 * The back end may go and come again: what was in flight is then given by the inflight region to
 * its next life, or sent again by us.
 *
 * Files: blk_verify.c (LCORE), blk_verify_run.c (main thread: phases and reconnects).
 */
#ifndef PERF_BLK_VERIFY_H
#define PERF_BLK_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_common.h>

#include "blk.h"

/* What the notes take is 12 bytes for each. */
#define BLK_VERIFY_MAX_BLOCKS (UINT64_C(1) << 22)

/* A block is unknown while both are 0: nothing was written yet. */
struct verify_block {
	uint32_t acked; /* generation */
	uint32_t maybe; /* generation of a write that failed; 0: none */
	bool busy;	/* a request is in flight */
	bool spoilt;	/* a mismatch was found: known until it is written again */
};

/* Of one queue. LCORE. */
struct blk_verify {
	uint64_t seed;
	uint64_t first_block; /* of its part, in the part of the disk that is used */
	uint32_t n_blocks;
	struct verify_block *blocks;
	uint8_t *slot_out; /* by slot: it is in flight, or has to be sent again */
	uint32_t *slot_block;
	uint32_t *slot_generation; /* of a write */
	uint32_t cursor;	   /* the next block to be read back */
};

/* Only main changes it. */
enum verify_phase {
	VERIFY_LOAD,	  /* read and write */
	VERIFY_PAUSE,	  /* keep off the rings */
	VERIFY_READ_BACK, /* read what is known, once */
	VERIFY_END,	  /* leave */
};

struct verify_run {
	struct run run; /* report and fault; its phase is not used */
	struct blk_run *blk;
	/* Written by main, read by LCOREs. */
	uint32_t phase; /* enum verify_phase */
	/* Written by LCOREs: how many keep off, and how many have left. */
	uint32_t n_paused;
	uint32_t n_ended;
};

/* blk_verify.c. Thread: main. 0, -EINVAL (too many or too few blocks) or -ENOMEM; told. */
int
blk_verify_create(struct blk_queue *q, uint64_t seed, uint64_t first_block, uint64_t n_blocks);
void
blk_verify_destroy(struct blk_queue *q);

/*
 * Takes what has come back. Thread: the queue's LCORE, or main while it is paused. Returns how
 * many, or -EPROTO with ring->fault.
 */
int
blk_verify_reap(struct blk_queue *q);

/* Offers all that is in flight anew, in a ring that was reset. Thread: as above. */
void
blk_verify_send_again(struct blk_queue *q);

/* Publishes, and kicks whatever the back end said. Thread: as above. */
void
blk_verify_wake(struct blk_queue *q);

/* On each lcore. `launch` is a struct verify_launch. */
struct verify_launch {
	struct verify_run *run;
	unsigned int lcore;
};
int
blk_verify_lcore(void *launch);

/* blk_verify_run.c: instead of run_drive(). Thread: main. */
void
blk_verify_drive(struct blk_run *blk, struct report *report);

#endif /* PERF_BLK_VERIFY_H */
