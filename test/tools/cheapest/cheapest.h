/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhub-cheapest: a vhost-user back end that does as little as one can, for one front end, whom it
 * believes everything. What vhub-perf reaches with it is vhub-perf's own ceiling. As a disk it walks
 * each chain, writes the status and gives it back, no data; as a port it sends frames back, and of
 * each only the beginning, which is what vhub-perf looks at. session.c speaks the protocol; disk.c
 * and port.c serve the rings on a thread of its own.
 */
#ifndef CHEAPEST_H
#define CHEAPEST_H

#include <stdbool.h>
#include <stdint.h>

#define CHEAPEST_BURST 32u
#define CHEAPEST_RINGS 2u

struct cheapest_ring {
	uint16_t size;
	void *desc;
	void *avail;
	void *used;
	bool packed;
	uint16_t last; /* the serving thread: split: index; packed: slot */
	uint8_t wrap;
	bool running; /* written by the session's thread, read by the serving one */
};

struct cheapest {
	uint8_t *memory; /* of the front end's one region */
	uint64_t memory_gpa;
	struct cheapest_ring rings[CHEAPEST_RINGS]; /* a disk's first; a port's rx and tx */
	bool stopped;				    /* as running */
	uint64_t turns, busy_turns, items;
};

static inline uint8_t *
cheapest_hva(const struct cheapest *c, uint64_t gpa)
{
	return c->memory + (gpa - c->memory_gpa);
}

/* A turn: how many requests, or frames, it has served. */
unsigned int
cheapest_disk(struct cheapest *c);
unsigned int
cheapest_port(struct cheapest *c);

#endif /* CHEAPEST_H */
