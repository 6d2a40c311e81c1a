/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * split_pop() for processors with AVX-512, with pop_avx512.h. Called through virtq_ops where create.c finds
 * the processor fit; compiled with flags of its own. Whatever this does not take, split_fetch_at() of
 * split_pop.c does, from the start.
 */
#include "pop_avx512.h"
#include "split_pop.h"

/* Flags and next as they lie in the lane behind an address. */
#define LINKS(flags, next) ((long long)((uint64_t)(flags) << 32 | (uint64_t)(uint16_t)(next) << 48))

/* As split_walk_row(). */
static __rte_always_inline bool
vector_walk_row(const struct vector_burst *v, struct vhub_chain *chain, const void *row, uint32_t i)
{
	struct vector_links links = {
		.wanted = VECTOR_LINKS(LINKS(DESC_F_NEXT, 1), LINKS(DESC_F_NEXT, 2),
				LINKS(DESC_F_WRITE, 0)),
		.counts = VECTOR_LINKS(LINKS(DESC_F_NEXT | DESC_F_WRITE | DESC_F_INDIRECT,
						       UINT16_MAX) |
						LEN_HIGH_BITS,
				LINKS(DESC_F_NEXT | DESC_F_INDIRECT, UINT16_MAX) | LEN_HIGH_BITS,
				LINKS(DESC_F_NEXT | DESC_F_WRITE | DESC_F_INDIRECT, 0) |
						LEN_HIGH_BITS),
		.write = VECTOR_LINKS(0, LINKS(DESC_F_WRITE, 0), 0),
	};
	__m512i copy;

	links.wanted = _mm512_add_epi64(links.wanted, _mm512_set1_epi64(LINKS(0, i)));
	return vector_walk(v, &links, chain, row, &copy);
}

/* As split_table_row(). */
static __rte_always_inline bool
vector_table_row(const struct vhub_virtq *vq, const struct chain_quick *q,
		const struct vector_burst *v, struct vhub_chain *chain, const struct split_desc *by)
{
	const void *table = split_table_of_three(vq, q, by);

	return table != NULL && vector_walk_row(v, chain, table, 0);
}

uint16_t
split_pop_avx512(struct vhub_virtq *vq, struct vhub_chain **chains, uint16_t max)
{
	const uint16_t *ring = vq->avail->ring;
	const uint32_t size = vq->size;
	const struct split_desc *desc = vq->desc;
	uint8_t *busy = vq->busy;
	struct vhub_chain *const *request = &vq->free[vq->n_free];
	uint32_t at = vq->last_avail, place = (uint32_t)vq->next_order << 16;
	enum vhub_virtq_reason why = VHUB_VIRTQ_OK;
	struct vhub_chain **out = chains, **end;
	struct vector_burst v;
	struct chain_quick q;
	uint32_t want;

	if (unlikely(!split_waiting(vq, max, &want)))
		return 0;
	vector_burst_init(vq, &v, &q);
	for (end = out + want; out != end; out++) {
		const uint32_t head = __atomic_load_n(&ring[at++ & (size - 1)], __ATOMIC_RELAXED);
		struct vhub_chain *chain = *--request;

		if (likely(head + 2 < size) && likely(busy[head] == 0) &&
				(vector_walk_row(&v, chain, &desc[head], head) ||
						vector_table_row(vq, &q, &v, chain, &desc[head]))) {
			busy[head] = 1;
			split_place(chain, head | place);
		} else {
			why = split_fetch_at(vq, (uint32_t)(out - chains), (uint16_t)head);
			if (unlikely(why != VHUB_VIRTQ_OK))
				break;
			vector_burst_init(vq, &v, &q);
		}
		*out = chain;
		place += 1u << 16;
	}
	split_taken(vq, (uint32_t)(out - chains), why);
	return (uint16_t)(out - chains);
}
