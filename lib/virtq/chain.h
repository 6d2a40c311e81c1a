/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Putting one chain together, piece by piece: translate, check, append. Called by the pop files
 * with copies of descriptors, never with descriptors; chain.c has what happens seldom.
 *
 * chain_quick_*() is for the chain that nearly every one is: few pieces, each in one region, nothing
 * wrong with it. Its walks hold all of their state in registers, know no reasons and change nothing
 * but the request that they fill. A chain that they do not take is put together from the start by
 * the others.
 */
#ifndef VIRTQ_CHAIN_H
#define VIRTQ_CHAIN_H

#include "vhub_fetch.h"
#include "virtq_pvt.h"

/* Beside the reasons: no block for a long chain is free, try again later. */
#define CHAIN_WAIT ((enum vhub_virtq_reason)VHUB_VIRTQ_REASONS)

/* A chain being put together. */
struct chain_build {
	struct vhub_chain *chain;
	struct iovec *iov;
	uint32_t n;	/* pieces so far */
	uint32_t n_max; /* room in iov */
	uint32_t n_out;
	uint64_t out_bytes;
	uint64_t in_bytes;
};

/* The region that the last piece of a common chain was in: [gpa, gpa + size_bytes) is at hva. */
struct chain_quick {
	uint64_t gpa;
	uint64_t size_bytes;
	uint8_t *hva;
};

/* A descriptor table in guest memory. */
struct chain_table {
	const uint8_t *hva; /* NULL: not contiguous for us */
	uint64_t gpa;
	uint32_t n;
};

/* chain_add() of a piece that is not contiguous, or finds no room. */
enum vhub_virtq_reason
chain_add_slow(struct vhub_virtq *vq, struct chain_build *b, uint64_t gpa, uint32_t len,
		bool write);

/*
 * Checks the descriptor of an indirect table and finds the table. `flags` and `len` are the
 * descriptor's.
 */
enum vhub_virtq_reason
chain_table_open(struct vhub_virtq *vq, struct chain_table *table, uint64_t gpa, uint32_t len,
		uint16_t flags);

/* chain_table_read() of a table in several pieces. */
bool
chain_table_read_slow(struct vhub_virtq *vq, const struct chain_table *table, uint32_t i,
		void *dst);

/*
 * Where a device answers, the last byte of what is written, there is what it reads first, too, with most
 * drivers: a line that is looked at soon, and written later. It is fetched once for both.
 */
static __rte_always_inline void
chain_fetch_answer(const struct iovec *last)
{
	vhub_fetch_to_write((const uint8_t *)last->iov_base + last->iov_len - 1, 1);
}

/* The same of a chain that is put together, if it has both. */
static __rte_always_inline void
chain_fetch_end(const struct vhub_chain *chain)
{
	if (likely(chain->n_out != 0 && chain->n_in != 0))
		chain_fetch_answer(&chain->iov[chain->n_out + chain->n_in - 1]);
}

/* Begins with a request of the stack, which stays there until virtq_chains_taken(). */
static __rte_always_inline void
chain_begin(struct chain_build *b, struct vhub_chain *chain)
{
	b->chain = chain;
	b->iov = b->chain->inline_iov;
	b->n = 0;
	b->n_max = VHUB_CHAIN_INLINE_IOV;
	b->n_out = 0;
	b->out_bytes = 0;
	b->in_bytes = 0;
}

/* Appends [gpa, gpa + len). */
static __rte_always_inline enum vhub_virtq_reason
chain_add(struct vhub_virtq *vq, struct chain_build *b, uint64_t gpa, uint32_t len, bool write)
{
	uint64_t here = len;
	void *hva;

	if (unlikely(len == 0))
		return VHUB_VIRTQ_ZERO_LENGTH;
	if (write)
		b->in_bytes += len;
	else if (unlikely(b->in_bytes != 0))
		return VHUB_VIRTQ_BAD_ORDER;
	else
		b->out_bytes += len;
	hva = vhub_mem_gpa_to_hva(vq->mem, &vq->mem_cache, gpa, &here,
			write ? VHUB_MEM_WRITE : VHUB_MEM_READ);
	if (unlikely(hva == NULL))
		return VHUB_VIRTQ_BAD_ADDRESS;
	if (unlikely(here != len || b->n == b->n_max))
		return chain_add_slow(vq, b, gpa, len, write);
	b->iov[b->n].iov_base = hva;
	b->iov[b->n].iov_len = len;
	b->n++;
	b->n_out += !write;
	return VHUB_VIRTQ_OK;
}

/* All pieces are there: fills the public part. */
static __rte_always_inline enum vhub_virtq_reason
chain_end(const struct chain_build *b)
{
	struct vhub_chain *chain = b->chain;

	/* At most VHUB_CHAIN_MAX_IOV times 4 GiB: the sum cannot overflow. */
	if (unlikely(b->out_bytes + b->in_bytes > UINT32_MAX))
		return VHUB_VIRTQ_TOO_LONG;
	chain->iov = b->iov;
	chain->n_out = (uint16_t)b->n_out;
	chain->n_in = (uint16_t)(b->n - b->n_out);
	chain->out_bytes = (uint32_t)b->out_bytes;
	chain->in_bytes = (uint32_t)b->in_bytes;
	chain->used_bytes = 0;
	chain_fetch_end(chain);
	return VHUB_VIRTQ_OK;
}

/* It does not become a chain: the request stays on the stack. */
static inline void
chain_abandon(struct vhub_virtq *vq, const struct chain_build *b)
{
	if (b->chain->long_block != 0) {
		vq->long_free[vq->n_long++] = (uint8_t)(b->chain->long_block - 1);
		b->chain->long_block = 0;
	}
}

/* A burst ended early, and what was taken before is accounted for. */
static inline void
chain_refused(struct vhub_virtq *vq, enum vhub_virtq_reason why)
{
	if (why == CHAIN_WAIT)
		vhub_count(&vq->stats.long_chain_waits, 1);
	else
		virtq_break(vq, why);
}

/* Copies entry `i` (16 bytes); false when it is not in guest memory. */
static __rte_always_inline bool
chain_table_read(struct vhub_virtq *vq, const struct chain_table *table, uint32_t i, void *dst)
{
	if (unlikely(table->hva == NULL))
		return chain_table_read_slow(vq, table, i, dst);
	guest_read16(dst, table->hva + (size_t)i * 16);
	return true;
}

/* ---- the common chain ---- */

static __rte_always_inline void
chain_quick_region(struct chain_quick *q, const struct vhub_mem_region *r)
{
	q->gpa = r->gpa;
	q->size_bytes = r->size_bytes;
	q->hva = r->hva;
}

/* Once a burst, before its first chain. */
static __rte_always_inline void
chain_quick_init(const struct vhub_virtq *vq, struct chain_quick *q)
{
	q->gpa = 0;
	q->size_bytes = 0; /* no address is in it */
	q->hva = NULL;
	if (likely(vq->mem_cache.last != NULL))
		chain_quick_region(q, vq->mem_cache.last);
}

/* The host address of [gpa, gpa + len); NULL when it is not contiguous or empty. */
static __rte_always_inline uint8_t *
chain_quick_hva(struct vhub_virtq *vq, struct chain_quick *q, uint64_t gpa, uint32_t len)
{
	uint64_t at = gpa - q->gpa;

	if (unlikely(at >= q->size_bytes)) {
		const struct vhub_mem_region *r = vhub_mem_find(vq->mem, gpa);

		if (r == NULL)
			return NULL;
		vq->mem_cache.last = r;
		chain_quick_region(q, r);
		at = gpa - q->gpa;
	}
	/* A length of 0 becomes the largest there is. */
	if (unlikely((uint64_t)len - 1 >= q->size_bytes - at))
		return NULL;
	return q->hva + at;
}

/* [gpa, gpa + len) becomes `piece`; false: not one of a common chain. */
static __rte_always_inline bool
chain_quick_piece(struct vhub_virtq *vq, struct chain_quick *q, struct iovec *piece, uint64_t gpa,
		uint32_t len)
{
	uint8_t *hva = chain_quick_hva(vq, q, gpa, len);

	if (unlikely(hva == NULL))
		return false;
	piece->iov_base = hva;
	piece->iov_len = len;
	return true;
}

/* All pieces are there, `in` is the first writable one: fills the public part. */
static __rte_always_inline bool
chain_quick_end(struct vhub_chain *chain, const struct iovec *in, const struct iovec *end,
		uint64_t out_bytes, uint64_t in_bytes)
{
	if (unlikely(out_bytes + in_bytes > UINT32_MAX))
		return false;
	chain->iov = chain->inline_iov;
	chain->n_out = (uint16_t)(in - chain->inline_iov);
	chain->n_in = (uint16_t)(end - in);
	chain->out_bytes = (uint32_t)out_bytes;
	chain->in_bytes = (uint32_t)in_bytes;
	chain->used_bytes = 0;
	chain_fetch_end(chain);
	return true;
}

/*
 * ---- the most common chain: three pieces, the first readable, the last writable ----
 *
 * What it costs is stores more than anything: the processor does about one of them a cycle. So fields
 * that lie side by side are written together, and what is there already is left.
 */

static_assert(offsetof(struct vhub_chain, n_in) == offsetof(struct vhub_chain, n_out) + 2 &&
				offsetof(struct vhub_chain, in_bytes) ==
						offsetof(struct vhub_chain, out_bytes) + 4,
		"written as one word");

/*
 * [gpa, gpa + len) becomes piece `i` if it is in the region of the last hit. Adds its length to
 * *bytes.
 */
static __rte_always_inline bool
chain_three_piece(const struct chain_quick *q, struct vhub_chain *chain, unsigned int i,
		uint64_t gpa, uint32_t len, uint64_t *bytes)
{
	const uint64_t at = gpa - q->gpa;
	const uint64_t last = at + ((uint64_t)len - 1);

	*bytes += len;
	/* A number: it is a pointer to something only if this returns true. */
	chain->inline_iov[i].iov_base = (void *)((uintptr_t)q->hva + at);
	chain->inline_iov[i].iov_len = len;
	/* What is empty or goes beyond 2^64 ends before it begins. */
	return likely(last >= at) && likely(last < q->size_bytes);
}

/* All three are there; `out_bytes` of them are readable, and the second is writable or not. */
static __rte_always_inline bool
chain_three_end(struct vhub_chain *chain, bool write, uint64_t bytes, uint64_t out_bytes)
{
	const uint32_t pieces = (2u - write) | (1u + write) << 16;
	uint64_t lens;

	if (unlikely(bytes > UINT32_MAX))
		return false;
	lens = out_bytes | (bytes - out_bytes) << 32;
	if (unlikely(chain->iov != chain->inline_iov))
		chain->iov = chain->inline_iov;
	memcpy((uint8_t *)chain + offsetof(struct vhub_chain, n_out), &pieces, sizeof(pieces));
	memcpy((uint8_t *)chain + offsetof(struct vhub_chain, out_bytes), &lens, sizeof(lens));
	chain->used_bytes = 0;
	chain_fetch_answer(&chain->inline_iov[2]);
	return true;
}

#endif /* VIRTQ_CHAIN_H */
