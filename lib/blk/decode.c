/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From a chain to an I/O: finds header, data and status wherever the guest's driver has cut them
 * (VIRTIO 1.2, 2.7.4: only the order of the bytes counts), and checks what is asked for against the
 * disk (5.2.6). Called by submit.c, which also comes next, for what decode_common.h does not take. The header
 * is copied once and only the copy is looked at.
 */
#include <string.h>

#include <rte_atomic.h>
#include <rte_branch_prediction.h>
#include <rte_byteorder.h>

#include "blk_pvt.h"

/* The data part of a request, in chain->iov. */
struct data_part {
	struct iovec *iov;
	uint16_t n_iov;
	uint32_t len_bytes;
};

/* Header, data and status are in pieces of their own, so that nothing has to be cut off. */
static __rte_always_inline bool
take_whole(struct blk_req *req, struct virtio_blk_outhdr *header)
{
	const struct vhub_chain *chain = &req->chain;
	const struct iovec *status = &chain->iov[chain->n_out + chain->n_in - 1];

	if (unlikely(chain->n_out == 0 || chain->n_in == 0 ||
			    chain->iov[0].iov_len != sizeof(*header) || status->iov_len != 1))
		return false;
	memcpy(header, chain->iov[0].iov_base, sizeof(*header));
	/* The guest may be writing it: what was copied is not loaded again. */
	rte_compiler_barrier();
	req->status_hva = status->iov_base;
	return true;
}

/*
 * The status is the last writable byte. It is cut off there, so that data may lie before it in the
 * same piece.
 */
static bool
take_status(struct blk_req *req)
{
	struct vhub_chain *chain = &req->chain;
	struct iovec *piece = &chain->iov[chain->n_out + chain->n_in];

	req->status_hva = NULL;
	while (piece > &chain->iov[chain->n_out]) {
		piece--;
		if (likely(piece->iov_len != 0)) {
			piece->iov_len--;
			req->status_piece = (uint16_t)(piece - chain->iov + 1);
			req->status_hva = (uint8_t *)piece->iov_base + piece->iov_len;
			return true;
		}
	}
	return false;
}

/*
 * Copies the header out of the first readable pieces and cuts it off; *first is the piece that data
 * begin in.
 */
static bool
take_header(struct vhub_chain *chain, struct virtio_blk_outhdr *header, uint16_t *first)
{
	uint8_t *to = (uint8_t *)header;
	size_t left = sizeof(*header);
	uint16_t i = 0;

	while (i < chain->n_out) {
		struct iovec *piece = &chain->iov[i];
		size_t n = RTE_MIN(left, piece->iov_len);

		memcpy(to, piece->iov_base, n);
		to += n;
		left -= n;
		piece->iov_base = (uint8_t *)piece->iov_base + n;
		piece->iov_len -= n;
		if (piece->iov_len == 0)
			i++;
		if (left == 0) {
			*first = i;
			return true;
		}
	}
	return false;
}

/* The writable part without the status. */
static struct data_part
data_in(const struct blk_req *req)
{
	const struct vhub_chain *chain = &req->chain;
	struct iovec *first = &chain->iov[chain->n_out];
	struct iovec *end = &first[chain->n_in - 1];

	if (unlikely(req->status_piece != 0)) {
		end = &chain->iov[req->status_piece - 1];
		end += end->iov_len != 0;
	}

	return (struct data_part){
		.iov = first,
		.n_iov = (uint16_t)(end - first),
		.len_bytes = chain->in_bytes - 1,
	};
}

/* The readable part without the header. */
static struct data_part
data_out(const struct vhub_chain *chain, uint16_t first)
{
	return (struct data_part){
		.iov = &chain->iov[first],
		.n_iov = (uint16_t)(chain->n_out - first),
		.len_bytes = chain->out_bytes - (uint32_t)sizeof(struct virtio_blk_outhdr),
	};
}

static enum blk_verdict
answer(struct blk_req *req, uint8_t status)
{
	req->status = status;
	return BLK_ANSWERED;
}

static __rte_always_inline enum blk_verdict
decode_rw(const struct blk_limits *limits, struct blk_req *req, uint64_t sector,
		enum vhub_blk_op op, const struct data_part *data)
{
	/* Pairs with the store in vhub_blk_resized(); once, for it may become smaller meanwhile. */
	const uint64_t capacity = __atomic_load_n(&limits->capacity_bytes, __ATOMIC_ACQUIRE);
	struct vhub_blk_io *io = &req->io;
	uint64_t offset;

	req->op = (uint8_t)op;
	if (unlikely(op == VHUB_BLK_WRITE && limits->read_only))
		return answer(req, VIRTIO_BLK_S_IOERR);
	/* In sectors first: a sector near 2^64 has no offset in bytes. */
	if (unlikely(sector > capacity / VHUB_BLK_SECTOR_BYTES))
		return answer(req, VIRTIO_BLK_S_IOERR);
	offset = sector * VHUB_BLK_SECTOR_BYTES;
	if (unlikely(data->len_bytes > capacity - offset ||
			    ((offset | data->len_bytes) & limits->align_mask) != 0))
		return answer(req, VIRTIO_BLK_S_IOERR);
	if (unlikely(data->len_bytes == 0)) {
		io->len_bytes = 0; /* is counted */
		return answer(req, VIRTIO_BLK_S_OK);
	}
	io->iov = data->iov;
	io->n_iov = data->n_iov;
	io->op = (uint8_t)op;
	io->flags = 0;
	io->len_bytes = data->len_bytes;
	io->offset_bytes = offset;
	return BLK_SUBMIT;
}

static enum blk_verdict
decode_flush(struct blk_req *req)
{
	struct vhub_blk_io *io = &req->io;

	req->op = VHUB_BLK_FLUSH;
	io->iov = NULL;
	io->n_iov = 0;
	io->op = VHUB_BLK_FLUSH;
	io->flags = 0;
	io->len_bytes = 0;
	io->offset_bytes = 0;
	return BLK_SUBMIT;
}

/* A name cut short might be another disk's, so a buffer that is too small gets none. */
static enum blk_verdict
answer_id(const struct blk_limits *limits, struct blk_req *req, const struct data_part *data)
{
	const char *from = limits->id;
	size_t left = sizeof(limits->id);

	if (data->len_bytes < left)
		return answer(req, VIRTIO_BLK_S_IOERR);
	for (uint16_t i = 0; i < data->n_iov && left != 0; i++) {
		size_t n = RTE_MIN(left, data->iov[i].iov_len);

		memcpy(data->iov[i].iov_base, from, n);
		from += n;
		left -= n;
	}
	return answer(req, VIRTIO_BLK_S_OK);
}

/*
 * VIRTIO 1.2, 5.2.6: what is not offered is not supported. The list is read when there is room for
 * the copy.
 */
static enum blk_verdict
decode_ranges(const struct blk_limits *limits, struct blk_req *req, enum vhub_blk_op op,
		const struct data_part *data)
{
	if (limits->range_max_bytes[op] == 0)
		return answer(req, VIRTIO_BLK_S_UNSUPP);
	req->op = (uint8_t)op;
	req->ranges = NULL;
	req->io.iov = data->iov;
	req->io.n_iov = data->n_iov;
	req->io.len_bytes = data->len_bytes;
	return BLK_RANGES;
}

/* One range of the list against the disk. Returns the status that it alone would have. */
static uint8_t
check_range(const struct blk_limits *limits, enum vhub_blk_op op,
		const struct virtio_blk_discard_write_zeroes *from, struct blk_range *to)
{
	/* As in decode_rw(). */
	const uint64_t capacity = __atomic_load_n(&limits->capacity_bytes, __ATOMIC_ACQUIRE);
	uint64_t sector = rte_le_to_cpu_64(from->sector);
	uint64_t len = (uint64_t)rte_le_to_cpu_32(from->num_sectors) * VHUB_BLK_SECTOR_BYTES;
	uint32_t flags = rte_le_to_cpu_32(from->flags);
	uint32_t known = op == VHUB_BLK_WRITE_ZEROES ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;

	if ((flags & ~known) != 0)
		return VIRTIO_BLK_S_UNSUPP;
	/* In sectors first: a sector near 2^64 has no offset in bytes. */
	if (sector > capacity / VHUB_BLK_SECTOR_BYTES)
		return VIRTIO_BLK_S_IOERR;
	to->offset_bytes = sector * VHUB_BLK_SECTOR_BYTES;
	if (len > capacity - to->offset_bytes || len > limits->range_max_bytes[op] ||
			((to->offset_bytes | len) & limits->align_mask) != 0)
		return VIRTIO_BLK_S_IOERR;
	to->len_bytes = (uint32_t)len;
	to->flags = flags != 0 ? VHUB_BLK_IO_UNMAP : 0;
	return VIRTIO_BLK_S_OK;
}

uint8_t
blk_decode_ranges(const struct blk_limits *limits, const struct blk_req *req,
		struct blk_ranges *ranges)
{
	struct virtio_blk_discard_write_zeroes list[BLK_RANGES_MAX];
	const size_t n = req->io.len_bytes / sizeof(list[0]);
	uint8_t *to = (uint8_t *)list;

	if (n == 0 || n > BLK_RANGES_MAX || req->io.len_bytes % sizeof(list[0]) != 0)
		return VIRTIO_BLK_S_IOERR;
	for (uint16_t i = 0; i < req->io.n_iov; i++) {
		memcpy(to, req->io.iov[i].iov_base, req->io.iov[i].iov_len);
		to += req->io.iov[i].iov_len;
	}
	ranges->n = 0;
	ranges->next = 0;
	ranges->done_bytes = 0;
	for (size_t i = 0; i < n; i++) {
		struct blk_range *range = &ranges->range[ranges->n];
		uint8_t status = check_range(limits, req->op, &list[i], range);

		if (status != VIRTIO_BLK_S_OK)
			return status;
		ranges->n += range->len_bytes != 0;
	}
	return VIRTIO_BLK_S_OK;
}

enum blk_verdict
blk_decode(const struct blk_limits *limits, struct blk_req *req)
{
	struct virtio_blk_outhdr header;
	struct data_part data;
	uint16_t first;

	req->op = VHUB_BLK_OPS;
	if (take_whole(req, &header)) {
		first = 1;
	} else {
		if (unlikely(!take_status(req)))
			return BLK_NO_STATUS;
		if (unlikely(!take_header(&req->chain, &header, &first)))
			return answer(req, VIRTIO_BLK_S_IOERR);
	}

	if (likely(header.type == rte_cpu_to_le_32(VIRTIO_BLK_T_IN))) {
		data = data_in(req);
		return decode_rw(limits, req, rte_le_to_cpu_64(header.sector), VHUB_BLK_READ,
				&data);
	}
	switch (rte_le_to_cpu_32(header.type)) {
	case VIRTIO_BLK_T_OUT:
		data = data_out(&req->chain, first);
		return decode_rw(limits, req, rte_le_to_cpu_64(header.sector), VHUB_BLK_WRITE,
				&data);
	case VIRTIO_BLK_T_FLUSH:
		return decode_flush(req);
	case VIRTIO_BLK_T_DISCARD:
		data = data_out(&req->chain, first);
		return decode_ranges(limits, req, VHUB_BLK_DISCARD, &data);
	case VIRTIO_BLK_T_WRITE_ZEROES:
		data = data_out(&req->chain, first);
		return decode_ranges(limits, req, VHUB_BLK_WRITE_ZEROES, &data);
	case VIRTIO_BLK_T_SECURE_ERASE:
		data = data_out(&req->chain, first);
		return decode_ranges(limits, req, VHUB_BLK_SECURE_ERASE, &data);
	case VIRTIO_BLK_T_GET_ID:
		data = data_in(req);
		return answer_id(limits, req, &data);
	default:
		return answer(req, VIRTIO_BLK_S_UNSUPP);
	}
}
