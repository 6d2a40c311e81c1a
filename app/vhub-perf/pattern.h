/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What --verify writes into each sector: a stamp that says which sector and which generation of it
 * this is, filler that follows from them, and a checksum over all of it. So a sector tells by
 * itself whether it is whole, and what it is. Implemented in pattern.c; used by blk_verify.c.
 */
#ifndef PERF_PATTERN_H
#define PERF_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PATTERN_BYTES 512u

/* The first bytes of a sector. */
struct pattern_stamp {
	uint64_t seed; /* of the run and the disk */
	uint64_t sector;
	uint64_t generation;
	uint64_t checksum; /* of all other bytes */
};

enum pattern_verdict {
	PATTERN_WHOLE,
	PATTERN_FOREIGN, /* not of this run and disk */
	PATTERN_CORRUPT, /* a stamp of ours, and a wrong checksum */
};

/* Thread: ANY, as all here. `to` is aligned to 8. */
void
pattern_write(void *to, uint64_t seed, uint64_t sector, uint64_t generation);

/* `stamp` is filled whatever the verdict is. */
enum pattern_verdict
pattern_read(const void *from, uint64_t seed, struct pattern_stamp *stamp);

/* Makes it FOREIGN: what a read that brings nothing leaves. */
void
pattern_spoil(void *sector);

/*
 * "generation 6 of sector 80", "sector 80 torn, ...": what has been found where `sector` was
 * expected. Returns `text`.
 */
char *
pattern_describe(const void *from, uint64_t seed, uint64_t sector, char *text, size_t len);

#endif /* PERF_PATTERN_H */
