/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is seldom when a chain is put together: pieces that cross regions of guest memory, more
 * pieces than a request holds itself, indirect tables. Called by chain.h and the pop files.
 */
#include "chain.h"

#define TABLE_ENTRY_BYTES 16u

/* Moves a chain that outgrew its request into one of the ring's blocks. */
static enum vhub_virtq_reason
chain_borrow(struct vhub_virtq *vq, struct chain_build *b)
{
	unsigned int block;

	if (b->n_max == VHUB_CHAIN_MAX_IOV)
		return VHUB_VIRTQ_TOO_LONG;
	if (vq->n_long == 0)
		return CHAIN_WAIT;
	block = vq->long_free[--vq->n_long];
	b->chain->long_block = (uint16_t)(block + 1);
	b->iov = vq->long_iov + (size_t)block * VHUB_CHAIN_MAX_IOV;
	b->n_max = VHUB_CHAIN_MAX_IOV;
	memcpy(b->iov, b->chain->inline_iov, sizeof(b->chain->inline_iov));
	return VHUB_VIRTQ_OK;
}

enum vhub_virtq_reason
chain_add_slow(struct vhub_virtq *vq, struct chain_build *b, uint64_t gpa, uint32_t len, bool write)
{
	uint64_t left = len;

	/* The translation goes on at gpa + here, which must not come round to address 0. */
	if (gpa + (len - 1) < gpa)
		return VHUB_VIRTQ_BAD_ADDRESS;
	while (left != 0) {
		uint64_t here = left;
		void *hva = vhub_mem_gpa_to_hva(vq->mem, &vq->mem_cache, gpa, &here,
				write ? VHUB_MEM_WRITE : VHUB_MEM_READ);

		if (hva == NULL)
			return VHUB_VIRTQ_BAD_ADDRESS;
		if (b->n == b->n_max) {
			enum vhub_virtq_reason why = chain_borrow(vq, b);

			if (why != VHUB_VIRTQ_OK)
				return why;
		}
		b->iov[b->n].iov_base = hva;
		b->iov[b->n].iov_len = here;
		b->n++;
		b->n_out += !write;
		gpa += here;
		left -= here;
	}
	return VHUB_VIRTQ_OK;
}

enum vhub_virtq_reason
chain_table_open(struct vhub_virtq *vq, struct chain_table *table, uint64_t gpa, uint32_t len,
		uint16_t flags)
{
	uint64_t here = len;

	/* WRITE on this descriptor is ignored, as 2.7.5.3.2 and 2.8.7 want it. */
	if (!vq->indirect || (flags & DESC_F_NEXT) != 0 || len == 0 ||
			len % TABLE_ENTRY_BYTES != 0 ||
			len / TABLE_ENTRY_BYTES > VHUB_VIRTQ_MAX_SIZE)
		return VHUB_VIRTQ_BAD_INDIRECT;
	if (gpa + (len - 1) < gpa)
		return VHUB_VIRTQ_BAD_ADDRESS;
	table->hva = vhub_mem_gpa_to_hva(vq->mem, &vq->mem_cache, gpa, &here, VHUB_MEM_READ);
	if (table->hva == NULL)
		return VHUB_VIRTQ_BAD_ADDRESS;
	if (here != len)
		table->hva = NULL;
	table->gpa = gpa;
	table->n = len / TABLE_ENTRY_BYTES;
	return VHUB_VIRTQ_OK;
}

bool
chain_table_read_slow(struct vhub_virtq *vq, const struct chain_table *table, uint32_t i, void *dst)
{
	uint64_t gpa = table->gpa + (uint64_t)i * TABLE_ENTRY_BYTES;
	uint8_t entry[TABLE_ENTRY_BYTES];
	uint64_t done = 0;

	while (done != sizeof(entry)) {
		uint64_t here = sizeof(entry) - done;
		const void *hva = vhub_mem_gpa_to_hva(vq->mem, &vq->mem_cache, gpa + done, &here,
				VHUB_MEM_READ);

		if (hva == NULL)
			return false;
		memcpy(entry + done, hva, here);
		done += here;
	}
	guest_read16(dst, entry);
	return true;
}
