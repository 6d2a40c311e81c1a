/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Decoding of what nearly every request is: a read or write with nothing wrong with it, whose header,
 * data and status are a piece each. Called by submit.c for each chain of a burst; whatever it
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

static_assert(offsetof(struct vhub_chain, n_in) == offsetof(struct vhub_chain, n_out) + 2,
		"read as one word");

/* n_out and n_in of a request whose data are one piece. */
#define BLK_PIECES(n_out, n_in) ((uint32_t)(n_out) | (uint32_t)(n_in) << 16)
#define BLK_PIECES_READ BLK_PIECES(1, 2)
#define BLK_PIECES_WRITE BLK_PIECES(2, 1)

/* What every request of a burst is held against. */
struct blk_common {
	uint64_t capacity_sectors;
	uint64_t align_mask;   /* of bytes */
	uint32_t pieces_write; /* BLK_PIECES_WRITE; of a read-only disk what no request has */
	/* n_iov, op and flags of a read and of a write, as they lie in struct vhub_blk_io */
	uint32_t word[2];
};

static inline void
blk_common_init(struct blk_common *common, const struct blk_limits *limits, uint8_t write_flags)
{
	/* Pairs with the store in vhub_blk_resized(). */
	common->capacity_sectors = __atomic_load_n(&limits->capacity_bytes, __ATOMIC_ACQUIRE) /
			VHUB_BLK_SECTOR_BYTES;
	common->align_mask = limits->align_mask;
	common->pieces_write = limits->read_only ? UINT32_MAX : BLK_PIECES_WRITE;
	common->word[VHUB_BLK_READ] = 1 | VHUB_BLK_READ << 16;
	common->word[VHUB_BLK_WRITE] = 1 | VHUB_BLK_WRITE << 16 | (uint32_t)write_flags << 24;
}

/* True: req->io is for the driver, as with BLK_SUBMIT. False: nothing has been decided. */
static __rte_always_inline bool
blk_decode_common(const struct blk_common *common, struct blk_req *req)
{
	const struct vhub_chain *chain = &req->chain;
	const struct iovec *iov = chain->iov;
	const struct virtio_blk_outhdr *guest;
	uint64_t sector, end, bytes, word;
	uint32_t pieces, type;
	bool write;

	memcpy(&pieces, (const uint8_t *)chain + offsetof(struct vhub_chain, n_out),
			sizeof(pieces));
	write = pieces == common->pieces_write;
	if (unlikely((pieces != BLK_PIECES_READ && !write) || iov[0].iov_len != sizeof(*guest) ||
			    iov[2].iov_len != 1))
		return false;
	guest = iov[0].iov_base;
	memcpy(&type, &guest->type, sizeof(type));
	memcpy(&sector, &guest->sector, sizeof(sector));
	/* The guest may be writing it: what was copied is not loaded again. */
	__asm__("" : "+r"(type), "+r"(sector));
	sector = rte_le_to_cpu_64(sector);
	bytes = iov[1].iov_len;
	if (unlikely(rte_le_to_cpu_32(type) != (write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN)))
		return false;
	end = sector + bytes / VHUB_BLK_SECTOR_BYTES;
	/* An end that is not behind the beginning: there are no data, or the sector is near 2^64. */
	if (unlikely(end <= sector) || unlikely(end > common->capacity_sectors))
		return false;
	sector *= VHUB_BLK_SECTOR_BYTES;
	if (unlikely(((sector | bytes) & common->align_mask) != 0))
		return false;
	/* 32 bits, as those of the whole chain are. */
	word = rte_cpu_to_le_64(common->word[write] | bytes << 32);
	memcpy(&req->io.n_iov, &word, sizeof(word));
	req->io.offset_bytes = sector;
	req->io.iov = &iov[1];
	req->op = write;
	req->status_hva = iov[2].iov_base;
	return true;
}

#endif /* BLK_DECODE_COMMON_H */
