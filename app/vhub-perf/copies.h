/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What `vhub-perf memcpy` does in a turn: blocks of a disk in memory, one after the other or at
 * random, go to buffers in turn. Called by the lcores; implemented in memcpy.c.
 */
#ifndef PERF_COPIES_H
#define PERF_COPIES_H

#include <stdbool.h>
#include <stdint.h>

/* Blocks between two looks at the time. */
#define COPIES_BURST 32u

/* What the lcores share; nobody changes it while they run. */
struct copies {
	const uint8_t *disk;
	uint64_t n_blocks; /* up to 2^32 - 1 */
	uint64_t block_bytes;
	bool random; /* which block is next; else one after the other */
	uint32_t n_buffers;
	uint8_t *buffers; /* n_buffers of each lcore, one lcore's after the other's */
};

/*
 * COPIES_BURST blocks to an lcore's buffers, `at` being the number of those before them. `random`
 * is the lcore's and not 0. Thread: LCORE.
 */
void
copies_burst(const struct copies *c, uint8_t *buffers, uint64_t *random, uint64_t at);

#endif /* PERF_COPIES_H */
