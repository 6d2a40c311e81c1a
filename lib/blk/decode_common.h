/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Decoding of what nearly every request is: a read or write with nothing wrong with it, whose header,
 * data and status have pieces of their own. Called by submit.c for each chain of a burst; whatever it
 * does not take, decode.c takes, from the start.
 *
 * What such a request costs is stores more than anything: the processor does one of them a cycle. So
 * fields that lie side by side are written together, and those that are what they were are left.
 */
#ifndef BLK_DECODE_COMMON_H
#define BLK_DECODE_COMMON_H

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include <rte_byteorder.h>

#include "blk_pvt.h"

static_assert(offsetof(struct vhub_blk_io, op) == offsetof(struct vhub_blk_io, n_iov) + 2 &&
				offsetof(struct vhub_blk_io, flags) ==
						offsetof(struct vhub_blk_io, n_iov) + 3 &&
				offsetof(struct vhub_blk_io, len_bytes) ==
						offsetof(struct vhub_blk_io, n_iov) + 4,
		"written as one word");

/* What every request of a burst is held against. */
struct blk_common {
	const struct blk_limits *limits;
	uint64_t capacity_sectors;
	uint8_t write_flags; /* VHUB_BLK_IO_* of writes */
};

static inline void
blk_common_init(struct blk_common *common, const struct blk_limits *limits, uint8_t write_flags)
{
	common->limits = limits;
	/* Pairs with the store in vhub_blk_resized(). */
	common->capacity_sectors = __atomic_load_n(&limits->capacity_bytes, __ATOMIC_ACQUIRE) /
			VHUB_BLK_SECTOR_BYTES;
	common->write_flags = write_flags;
}

/* True: req->io is for the driver, as with BLK_SUBMIT. False: nothing has been decided. */
static __rte_always_inline bool
blk_decode_common(const struct blk_common *common, struct blk_req *req)
{
	const struct vhub_chain *chain = &req->chain;
	const uint32_t n_out = chain->n_out, n_in = chain->n_in;
	const struct iovec *iov = chain->iov;
	const struct iovec *status = &iov[n_out + n_in - 1];
	const struct virtio_blk_outhdr *guest;
	uint64_t sector, word;
	uint32_t type, n_iov, len_bytes, flags;
	enum vhub_blk_op op;

	if (unlikely(n_out == 0 || n_in == 0 || iov[0].iov_len != sizeof(*guest) ||
			    status->iov_len != 1))
		return false;
	guest = iov[0].iov_base;
	memcpy(&type, &guest->type, sizeof(type));
	memcpy(&sector, &guest->sector, sizeof(sector));
	/* The guest may be writing it: what was copied is not loaded again. */
	__asm__("" : "+r"(type), "+r"(sector));
	type = rte_le_to_cpu_32(type);
	sector = rte_le_to_cpu_64(sector);
	if (likely(type == VIRTIO_BLK_T_IN)) {
		op = VHUB_BLK_READ;
		req->io.iov = &iov[n_out];
		n_iov = n_in - 1;
		len_bytes = chain->in_bytes - 1;
		flags = 0;
	} else if (likely(type == VIRTIO_BLK_T_OUT && !common->limits->read_only)) {
		op = VHUB_BLK_WRITE;
		req->io.iov = &iov[1];
		n_iov = n_out - 1;
		len_bytes = chain->out_bytes - (uint32_t)sizeof(*guest);
		flags = common->write_flags;
	} else {
		return false;
	}
	/* An end that is not behind the beginning: there are no data, or the sector is near 2^64. */
	if (unlikely(sector + len_bytes / VHUB_BLK_SECTOR_BYTES <= sector ||
			    sector + len_bytes / VHUB_BLK_SECTOR_BYTES > common->capacity_sectors ||
			    len_bytes > VHUB_BLK_DATA_MAX_BYTES))
		return false;
	sector *= VHUB_BLK_SECTOR_BYTES;
	if (unlikely(((sector | len_bytes) & common->limits->align_mask) != 0))
		return false;
	word = n_iov | (uint64_t)op << 16 | (uint64_t)flags << 24 | (uint64_t)len_bytes << 32;
	word = rte_cpu_to_le_64(word);
	memcpy(&req->io.n_iov, &word, sizeof(word));
	req->io.offset_bytes = sector;
	req->op = (uint8_t)op;
	req->status_hva = status->iov_base;
	return true;
}

#endif /* BLK_DECODE_COMMON_H */
