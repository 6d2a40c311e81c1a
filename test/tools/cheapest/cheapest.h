/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhub-cheapest: a vhost-user-blk back end that does as little as one can. It walks each chain,
 * writes the status and gives it back; no data, no checks, one ring, one front end, whom it
 * believes everything. What vhub-perf reaches with it is vhub-perf's own ceiling. session.c speaks
 * the protocol, rings.c serves the ring on a thread of its own.
 */
#ifndef CHEAPEST_H
#define CHEAPEST_H

#include <stdbool.h>
#include <stdint.h>

struct cheapest_ring {
	uint8_t *memory; /* of the front end's one region */
	uint64_t memory_gpa;
	uint16_t size;
	void *desc;
	void *avail;
	void *used;
	bool packed;
	/* Written by the session's thread, read by the ring's: to begin, and to end. */
	bool running;
	bool stopped;
	uint16_t last; /* the ring's thread: split: index; packed: slot */
	uint8_t wrap;
	uint64_t turns, busy_turns, requests;
};

/* Thread: the ring's, until `stopped`. */
void *
cheapest_serve(void *ring);

#endif /* CHEAPEST_H */
