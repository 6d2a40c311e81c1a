/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The content of verified sectors (pattern.h). Called by blk_verify.c.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "pattern.h"

#define N_WORDS (PATTERN_BYTES / sizeof(uint64_t))
#define STAMP_WORDS (sizeof(struct pattern_stamp) / sizeof(uint64_t))
#define CHECKSUM_WORD (offsetof(struct pattern_stamp, checksum) / sizeof(uint64_t))

/* Every bit of a word has to do with about half of the result's (the finalizer of splitmix64). */
static uint64_t
mix(uint64_t x)
{
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static uint64_t
checksum(const uint64_t *words)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < N_WORDS; i++) {
		if (i != CHECKSUM_WORD)
			sum = (sum ^ words[i]) * UINT64_C(0x9e3779b97f4a7c15) + (sum >> 29) + i;
	}
	return mix(sum);
}

void
pattern_write(void *to, uint64_t seed, uint64_t sector, uint64_t generation)
{
	uint64_t words[N_WORDS] = { seed, sector, generation };
	const uint64_t start = mix(seed ^ mix(sector ^ mix(generation)));

	for (unsigned int i = STAMP_WORDS; i < N_WORDS; i++)
		words[i] = start * (2 * i + 1);
	words[CHECKSUM_WORD] = checksum(words);
	memcpy(to, words, sizeof(words));
}

enum pattern_verdict
pattern_read(const void *from, uint64_t seed, struct pattern_stamp *stamp)
{
	uint64_t words[N_WORDS];

	/* Copied: a broken back end may write on, and the checksum has to be of what is told. */
	memcpy(words, from, sizeof(words));
	memcpy(stamp, words, sizeof(*stamp));
	if (stamp->seed != seed)
		return PATTERN_FOREIGN;
	return stamp->checksum == checksum(words) ? PATTERN_WHOLE : PATTERN_CORRUPT;
}

void
pattern_spoil(void *sector)
{
	memset(sector, 0, sizeof(struct pattern_stamp));
}

char *
pattern_describe(const void *from, uint64_t seed, uint64_t sector, char *text, size_t len)
{
	struct pattern_stamp stamp;

	switch (pattern_read(from, seed, &stamp)) {
	case PATTERN_WHOLE:
		if (stamp.sector == sector)
			snprintf(text, len, "its generation %" PRIu64, stamp.generation);
		else
			snprintf(text, len, "generation %" PRIu64 " of sector %" PRIu64,
					stamp.generation, stamp.sector);
		break;
	case PATTERN_CORRUPT:
		snprintf(text, len,
				"a wrong checksum (with the stamp of generation %" PRIu64
				" of sector %" PRIu64 ")",
				stamp.generation, stamp.sector);
		break;
	default:
		snprintf(text, len,
				"nothing that this run has written here (it begins with %016" PRIx64
				" %016" PRIx64 ")",
				stamp.seed, stamp.sector);
		break;
	}
	return text;
}
