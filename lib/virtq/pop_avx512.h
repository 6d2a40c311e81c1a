/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What split_pop_avx512.c and packed_pop_avx512.c share: the three descriptors of the most common chain
 * are translated, checked and written at once. Address and length are at the same place in descriptors of
 * either format, what links them is not.
 */
#ifndef POP_AVX512_H
#define POP_AVX512_H

#include <immintrin.h>
#include <stddef.h>

#include "chain.h"

/* Three descriptors in a vector: addresses in lanes 0, 2 and 4, the rest of each behind its address. */
#define LANES_ADDR 0x15

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

/* What the words behind the addresses say, but for lengths. */
struct vector_links {
	__m512i wanted;
	__m512i counts; /* of it */
	__m512i write;	/* the bit of the second one that says that it is writable */
};

/* In the three words of the lanes behind the addresses. */
#define VECTOR_LINKS(first, second, third) \
	_mm512_setr_epi64(0, (long long)(first), 0, (long long)(second), 0, (long long)(third), 0, \
			0)

/*
 * Takes the three descriptors at `row`, which the guest may be writing. False: it is another chain. The
 * copy of them is *copy.
 */
static __rte_always_inline bool
vector_walk(const struct vector_burst *v, const struct vector_links *links,
		struct vhub_chain *chain, const void *row, __m512i *copy)
{
	const __m512i keep = _mm512_setr_epi64(-1, UINT32_MAX, -1, UINT32_MAX, -1, UINT32_MAX, 0,
			0);
	const __m512i d = read_row(row);
	const __m512i pieces = _mm512_add_epi64(_mm512_and_epi64(d, keep), v->move);
	const __m512i at = _mm512_sub_epi64(d, v->gpa);
	const __m512i len = _mm512_shuffle_epi32(pieces, _MM_PERM_BADC);
	const __m512i last = _mm512_add_epi64(at, _mm512_add_epi64(len, _mm512_set1_epi64(-1)));
	const __mmask8 other = _mm512_test_epi64_mask(_mm512_xor_epi64(d, links->wanted),
			links->counts);
	/* What is empty or goes beyond 2^64 ends before it begins. */
	const __mmask8 before = _mm512_mask_cmplt_epu64_mask(LANES_ADDR, last, at);
	const __mmask8 beyond = _mm512_mask_cmpge_epu64_mask(LANES_ADDR, last, v->size);
	const unsigned int write = _mm512_test_epi64_mask(d, links->write) >> 3;
	const __m512i first = _mm512_permutexvar_epi32(_mm512_load_si512(sums.first[write]),
			pieces);
	const __m512i second = _mm512_permutexvar_epi32(_mm512_load_si512(sums.second[write]),
			pieces);

	*copy = d;
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

#endif /* POP_AVX512_H */
