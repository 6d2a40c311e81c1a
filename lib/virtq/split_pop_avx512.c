/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * split_pop() for processors with AVX-512: the three descriptors of the most common chain are
 * translated, checked and written at once. Called through virtq_ops where create.c finds the processor
 * fit; compiled with flags of its own. Whatever this does not take, split_fetch_at() of split_pop.c does,
 * from the start.
 */
#include <immintrin.h>
#include <stddef.h>

#include "chain.h"
#include "split_pop.h"

/* Three descriptors in a vector: addresses in lanes 0, 2 and 4, the rest of each behind its address. */
#define LANES_ADDR 0x15

/* Flags and next as they lie in the lane behind an address. */
#define LINKS(flags, next) ((long long)((uint64_t)(flags) << 32 | (uint64_t)(uint16_t)(next) << 48))

static_assert(VHUB_CHAIN_INLINE_IOV >= 4, "four pieces are written");
/* And 16 bytes that begin with n_out. */
static_assert(offsetof(struct vhub_chain, n_in) == offsetof(struct vhub_chain, n_out) + 2 &&
				offsetof(struct vhub_chain, out_bytes) ==
						offsetof(struct vhub_chain, n_out) + 4 &&
				offsetof(struct vhub_chain, in_bytes) ==
						offsetof(struct vhub_chain, n_out) + 8 &&
				offsetof(struct vhub_chain, used_bytes) ==
						offsetof(struct vhub_chain, n_out) + 12,
		"they are written at once");

/* What all chains of a burst are held against. */
struct vector_burst {
	__m512i gpa;  /* of the region of the last hit */
	__m512i size; /* of it */
	__m512i move; /* from a guest address to a host address */
};

static __rte_always_inline __m512i
in_addr_lanes(uint64_t value)
{
	return _mm512_maskz_set1_epi64(LANES_ADDR, (long long)value);
}

static __rte_always_inline void
vector_burst_init(const struct vhub_virtq *vq, struct vector_burst *v, struct chain_quick *q)
{
	chain_quick_init(vq, q);
	v->gpa = in_addr_lanes(q->gpa);
	v->size = in_addr_lanes(q->size_bytes);
	v->move = in_addr_lanes((uintptr_t)q->hva - q->gpa);
}

/*
 * Copies three descriptors that the guest may be writing. The empty assembler makes them opaque, as in
 * guest_read16().
 */
static __rte_always_inline __m512i
read_row(const void *row)
{
	__m512i d = _mm512_castsi256_si512(_mm256_loadu_si256(row));

	d = _mm512_inserti64x2(d, _mm_loadu_si128((const __m128i *)row + 2), 2);
	__asm__("" : "+v"(d));
	return d;
}

/* Where in a vector of dwords the length of a descriptor is, and what is always 0. */
#define LEN(i) (4 * (i) + 2)
#define ZERO 15

/*
 * n_out and n_in, out_bytes, in_bytes and used_bytes: what is added to two times two lengths, without and
 * with the second piece being writable.
 */
static const struct {
	uint32_t first[2][16];
	uint32_t second[2][16];
	uint32_t pieces[2][4];
} sums __rte_cache_aligned = {
	.first = { { ZERO, LEN(0), LEN(2), ZERO }, { ZERO, LEN(0), LEN(1), ZERO } },
	.second = { { ZERO, LEN(1), ZERO, ZERO }, { ZERO, ZERO, LEN(2), ZERO } },
	.pieces = { { 2 | 1 << 16 }, { 1 | 2 << 16 } },
};

/* Beyond that three lengths might add up to 4 GiB. */
#define LEN_HIGH_BITS UINT32_C(0xc0000000)

/* As split_walk_row(). */
static __rte_always_inline bool
vector_walk_row(const struct vector_burst *v, struct vhub_chain *chain, const void *row, uint32_t i)
{
	const __m512i keep = _mm512_setr_epi64(-1, UINT32_MAX, -1, UINT32_MAX, -1, UINT32_MAX, 0,
			0);
	const __m512i counts = _mm512_setr_epi64(0,
			LINKS(DESC_F_NEXT | DESC_F_WRITE | DESC_F_INDIRECT, UINT16_MAX) |
					LEN_HIGH_BITS,
			0, LINKS(DESC_F_NEXT | DESC_F_INDIRECT, UINT16_MAX) | LEN_HIGH_BITS, 0,
			LINKS(DESC_F_NEXT | DESC_F_WRITE | DESC_F_INDIRECT, 0) | LEN_HIGH_BITS, 0,
			0);
	const __m512i links = _mm512_setr_epi64(0, LINKS(DESC_F_NEXT, 1), 0, LINKS(DESC_F_NEXT, 2),
			0, LINKS(DESC_F_WRITE, 0), 0, 0);
	const __m512i second_written = _mm512_setr_epi64(0, 0, 0, LINKS(DESC_F_WRITE, 0), 0, 0, 0,
			0);
	const __m512i d = read_row(row);
	const __m512i wanted = _mm512_add_epi64(links, _mm512_set1_epi64(LINKS(0, i)));
	const __m512i pieces = _mm512_add_epi64(_mm512_and_epi64(d, keep), v->move);
	const __m512i at = _mm512_sub_epi64(d, v->gpa);
	const __m512i len = _mm512_shuffle_epi32(pieces, _MM_PERM_BADC);
	const __m512i last = _mm512_add_epi64(at, _mm512_add_epi64(len, _mm512_set1_epi64(-1)));
	const __mmask8 other = _mm512_test_epi64_mask(_mm512_xor_epi64(d, wanted), counts);
	/* What is empty or goes beyond 2^64 ends before it begins. */
	const __mmask8 before = _mm512_mask_cmplt_epu64_mask(LANES_ADDR, last, at);
	const __mmask8 beyond = _mm512_mask_cmpge_epu64_mask(LANES_ADDR, last, v->size);
	const unsigned int write = _mm512_test_epi64_mask(d, second_written) >> 3;
	const __m512i first = _mm512_permutexvar_epi32(_mm512_load_si512(sums.first[write]),
			pieces);
	const __m512i second = _mm512_permutexvar_epi32(_mm512_load_si512(sums.second[write]),
			pieces);

	_mm512_storeu_si512(chain->inline_iov, pieces);
	_mm_storeu_si128((void *)&chain->n_out,
			_mm_add_epi32(_mm_add_epi32(_mm512_castsi512_si128(first),
						      _mm512_castsi512_si128(second)),
					_mm_load_si128((const void *)sums.pieces[write])));
	if (unlikely(!_kortestz_mask8_u8(_kor_mask8(before, beyond), other)))
		return false;
	if (unlikely(chain->iov != chain->inline_iov))
		chain->iov = chain->inline_iov;
	chain_fetch_answer(&chain->inline_iov[2]);
	return true;
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
