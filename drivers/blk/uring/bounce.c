/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Buffers between a guest and O_DIRECT, for guests whose own are not aligned as the kernel wants
 * them. Called by io.c. A guest's ordinary I/O is in whole aligned pages and never comes here.
 */
#include <string.h>

#include <rte_branch_prediction.h>
#include <rte_common.h>

#include "uring_pvt.h"

bool
bounce_needed(const struct uring_disk *d, const struct vhub_blk_io *io)
{
	uintptr_t addresses = 0;
	size_t lengths = 0;

	/* A file system in memory takes O_DIRECT and has no use for it. */
	if (!d->direct || d->in_memory)
		return false;
	for (uint16_t i = 0; i < io->n_iov; i++) {
		addresses |= (uintptr_t)io->iov[i].iov_base;
		lengths |= io->iov[i].iov_len;
	}
	return (addresses & (d->mem_align_bytes - 1)) != 0 ||
			(lengths & (d->info.block_bytes - 1)) != 0;
}

uint8_t *
bounce_get(struct uring_queue *q)
{
	return q->n_free_bounces == 0 ? NULL : q->free_bounces[--q->n_free_bounces];
}

void
bounce_put(struct uring_queue *q, uint8_t *bounce)
{
	q->free_bounces[q->n_free_bounces++] = bounce;
}

/* The I/O holds n bytes from the slot's place on: done_bytes + n <= len_bytes. */
static void
copy(const struct uring_slot *slot, size_t n, bool to_guest)
{
	const struct iovec *iov = &slot->io->iov[slot->iov_index];
	uint8_t *bounce = slot->bounce;
	size_t skip = slot->iov_done_bytes;

	while (n > 0) {
		size_t some = RTE_MIN(iov->iov_len - skip, n);
		uint8_t *guest = (uint8_t *)iov->iov_base + skip;

		if (to_guest)
			memcpy(guest, bounce, some);
		else
			memcpy(bounce, guest, some);
		bounce += some;
		n -= some;
		skip = 0;
		iov++;
	}
}

void
bounce_gather(const struct uring_slot *slot, size_t n)
{
	copy(slot, n, false);
}

void
bounce_scatter(const struct uring_slot *slot, size_t n)
{
	copy(slot, n, true);
}
