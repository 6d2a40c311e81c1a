/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Putting one chain together, piece by piece: translate, check, append. Called by the pop files
 * with copies of descriptors, never with descriptors; chain.c has what happens seldom.
 */
#ifndef VIRTQ_CHAIN_H
#define VIRTQ_CHAIN_H

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

/* Begins with the request on top of the stack, which stays there until virtq_chain_taken(). */
static __rte_always_inline void
chain_begin(struct vhub_virtq *vq, struct chain_build *b)
{
	b->chain = vq->free[vq->n_free - 1];
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
	return VHUB_VIRTQ_OK;
}

/* It does not become a chain: the request stays on the stack. */
static inline void
chain_abandon(struct vhub_virtq *vq, const struct chain_build *b, enum vhub_virtq_reason why)
{
	if (b->chain->long_block != 0) {
		vq->long_free[vq->n_long++] = (uint8_t)(b->chain->long_block - 1);
		b->chain->long_block = 0;
	}
	if (why == CHAIN_WAIT)
		virtq_count(&vq->stats.long_chain_waits, 1);
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

#endif /* VIRTQ_CHAIN_H */
