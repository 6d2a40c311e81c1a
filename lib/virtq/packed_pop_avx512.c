/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * packed_pop() for processors with AVX-512, with pop_avx512.h. Called through virtq_ops where create.c finds
 * the processor fit; compiled with flags of its own. Whatever this does not take, packed_fetch_at() of
 * packed_pop.c does, from the start.
 */
#include "packed_pop.h"
#include "pop_avx512.h"

/* Flags as they lie in the lane behind an address. */
#define FLAGS(flags) ((uint64_t)(flags) << 48)

static void
vector_init(const struct vhub_virtq *vq, void *burst)
{
	struct chain_quick q;

	vector_burst_init(vq, burst, &q);
}

/* As packed_walk_three(). */
static __rte_always_inline bool
vector_walk_three(const void *burst, struct vhub_chain *chain, const void *row, const uint16_t next,
		__m512i *copy)
{
	const struct vector_links links = {
		.wanted = VECTOR_LINKS(FLAGS(next), FLAGS(next), FLAGS(DESC_F_WRITE)),
		.counts = VECTOR_LINKS(FLAGS(DIRECTION_FLAGS | next) | LEN_HIGH_BITS,
				FLAGS(DESC_F_INDIRECT | next) | LEN_HIGH_BITS,
				FLAGS(DIRECTION_FLAGS | next) | LEN_HIGH_BITS),
		.write = VECTOR_LINKS(0, FLAGS(DESC_F_WRITE), 0),
	};

	return vector_walk(burst, &links, chain, row, copy);
}

/* `word` has told that the chain is there. The id is the last descriptor's. */
static __rte_always_inline bool
vector_ring(const void *burst, struct vhub_chain *chain, const struct packed_desc *desc,
		uint64_t word)
{
	__m512i copy;

	(void)word;
	if (unlikely(!vector_walk_three(burst, chain, desc, DESC_F_NEXT, &copy)))
		return false;
	chain->id = (uint16_t)_mm_extract_epi16(_mm512_extracti64x2_epi64(copy, 2), 6);
	return true;
}

static __rte_always_inline bool
vector_table(const void *burst, struct vhub_chain *chain, const void *table)
{
	__m512i copy;

	return vector_walk_three(burst, chain, table, 0, &copy);
}

uint16_t
packed_pop_avx512(struct vhub_virtq *vq, struct vhub_chain **chains, uint16_t max)
{
	const struct packed_three three = { vector_init, vector_ring, vector_table };
	struct vector_burst burst;

	return packed_pop_three(vq, chains, max, &three, &burst);
}
