/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzzes the decoding of virtio-blk requests: header, data and status in any pieces. Each piece is
 * an allocation of its own, for the address sanitiser; what comes of a request is compared with a
 * plain reading of the same bytes in a row.
 *
 * Input: requests, one after another, decoded in the same struct blk_req as a ring would:
 *   disk     1 byte: which of the disks below
 *   hint     1 byte: bits 0-2 may replace the type in the header by a known one, bit 3 the sector
 *            by a small one; bit 4 makes the data whole sectors
 *   pieces   twice, readable and writable: 1 byte, their number modulo MAX_PIECES, and 2 bytes of
 *            length for each
 *   header   16 bytes, as many of them as there is room for in the readable pieces
 *   ranges   when the type asks for a list of ranges: 16 bytes for each whole one that the readable
 *            pieces hold behind the header, at most MAX_RANGES; bit 5 of the hint makes them small
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decode_common.h"

#define MAX_PIECES 24
#define MAX_RANGES (BLK_RANGES_MAX + 2)
#define RANGE_BYTES sizeof(struct virtio_blk_discard_write_zeroes)
#define HEADER_BYTES sizeof(struct virtio_blk_outhdr)
#define OUT_FILL 0xaa
#define IN_FILL 0xbb

#define MUST(expr) \
	do { \
		if (!(expr)) { \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #expr); \
			abort(); \
		} \
	} while (0)

/* Most bytes of a DISCARD, a WRITE_ZEROES, a SECURE_ERASE. */
#define RANGES(discard, zeroes, erase) \
	.range_max_bytes = { [VHUB_BLK_DISCARD] = discard, \
		[VHUB_BLK_WRITE_ZEROES] = zeroes, \
		[VHUB_BLK_SECURE_ERASE] = erase }

static const struct blk_limits disks[] = {
	{ .capacity_bytes = 1 << 20,
			.align_mask = 511,
			.id = "a-name-of-20-letters",
			RANGES(1 << 16, 1 << 18, 1 << 20) },
	{ .capacity_bytes = 1 << 20, .align_mask = 511, .read_only = true, .id = "disk0" },
	{ .capacity_bytes = 1 << 20,
			.align_mask = 4095,
			.id = "disk0",
			RANGES(1 << 16, 0, 1 << 16) },
	{ .capacity_bytes = 512, .align_mask = 511, .id = "disk0", RANGES(1 << 30, 1 << 30, 0) },
	{ .capacity_bytes = UINT64_MAX & ~UINT64_C(511),
			.align_mask = 511,
			.id = "disk0",
			RANGES(1 << 30, 1 << 30, 1 << 30) },
};

struct fuzz {
	struct blk_req req;
	struct iovec iov[2 * MAX_PIECES];  /* decode's */
	struct iovec orig[2 * MAX_PIECES]; /* as allocated */
	uint16_t n;
	uint8_t header[HEADER_BYTES];
	uint8_t list[MAX_RANGES * RANGE_BYTES]; /* what lies behind the header, first */
	size_t list_bytes;
};

/* ---- building a request ---- */

static bool
take(const uint8_t **data, size_t *size, void *to, size_t n)
{
	if (*size < n)
		return false;
	memcpy(to, *data, n);
	*data += n;
	*size -= n;
	return true;
}

static void
add_piece(struct fuzz *f, uint16_t *n, size_t len, uint8_t fill, uint32_t *sum)
{
	struct iovec *piece = &f->orig[f->n++];

	piece->iov_base = malloc(len);
	piece->iov_len = len;
	MUST(piece->iov_base != NULL);
	memset(piece->iov_base, fill, len);
	*sum += (uint32_t)len;
	(*n)++;
}

static bool
add_pieces(struct fuzz *f, const uint8_t **data, size_t *size, uint16_t *n, uint8_t fill,
		uint32_t *sum)
{
	uint8_t count;

	*n = 0;
	*sum = 0;
	if (!take(data, size, &count, 1))
		return false;
	for (count %= MAX_PIECES; count > 0; count--) {
		uint16_t len;

		if (!take(data, size, &len, sizeof(len)))
			return false;
		/* Mostly short ones, for speed; virtq hands out no piece of length 0. */
		len &= (len & 0x8000) != 0 ? 0x1fff : 0x3ff;
		add_piece(f, n, len == 0 ? 512 : len, fill, sum);
	}
	return true;
}

/* Adds what makes the data whole sectors, beside `extra` bytes that are no data. */
static void
pad_pieces(struct fuzz *f, uint16_t *n, uint32_t extra, uint8_t fill, uint32_t *sum)
{
	uint32_t rest = (*sum + 512 - extra) % 512;

	if (rest != 0)
		add_piece(f, n, 512 - rest, fill, sum);
}

/* Copies a row of bytes to the place `at` of the readable pieces, as far as they go. */
static void
spread(struct fuzz *f, size_t at, const uint8_t *from, size_t len)
{
	for (uint16_t i = 0; i < f->req.chain.n_out && len > 0; i++) {
		const struct iovec *piece = &f->orig[i];
		size_t some;

		if (at >= piece->iov_len) {
			at -= piece->iov_len;
			continue;
		}
		some = RTE_MIN(len, piece->iov_len - at);
		memcpy((uint8_t *)piece->iov_base + at, from, some);
		from += some;
		len -= some;
		at = 0;
	}
}

static uint8_t
byte_at(const struct fuzz *f, uint16_t first, size_t at)
{
	while (at >= f->orig[first].iov_len)
		at -= f->orig[first++].iov_len;
	return ((const uint8_t *)f->orig[first].iov_base)[at];
}

static const uint8_t *
address_of(const struct fuzz *f, uint16_t first, size_t at)
{
	while (at >= f->orig[first].iov_len)
		at -= f->orig[first++].iov_len;
	return (const uint8_t *)f->orig[first].iov_base + at;
}

/* Random headers are nearly all of unknown types, far behind the end of the disk. */
static void
apply_hint(struct fuzz *f, uint8_t hint)
{
	static const uint32_t types[] = { VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_DISCARD,
		VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID,
		VIRTIO_BLK_T_SECURE_ERASE };
	uint64_t sector;

	if ((hint & 7) < RTE_DIM(types))
		memcpy(f->header, &types[hint & 7], sizeof(types[0]));
	if ((hint & 8) != 0) {
		memcpy(&sector, f->header + 8, sizeof(sector));
		sector &= 0x7f8;
		memcpy(f->header + 8, &sector, sizeof(sector));
	}
}

static bool
is_range_type(uint32_t type)
{
	return type == VIRTIO_BLK_T_DISCARD || type == VIRTIO_BLK_T_WRITE_ZEROES ||
			type == VIRTIO_BLK_T_SECURE_ERASE;
}

/* Random ranges are nearly all far behind the end of the disk, with flags that nobody knows. */
static bool
add_list(struct fuzz *f, uint8_t hint, const uint8_t **data, size_t *size)
{
	uint32_t type, n;

	f->list_bytes = 0;
	memcpy(&type, f->header, sizeof(type));
	if (!is_range_type(type) || f->req.chain.out_bytes < HEADER_BYTES)
		return true;
	n = RTE_MIN((f->req.chain.out_bytes - (uint32_t)HEADER_BYTES) / (uint32_t)RANGE_BYTES,
			MAX_RANGES);
	for (uint32_t i = 0; i < n; i++) {
		struct virtio_blk_discard_write_zeroes one;

		if (!take(data, size, &one, sizeof(one)))
			return false;
		if ((hint & 32) != 0) {
			one.sector &= 0x7ff;
			one.num_sectors &= 0xff;
			one.flags &= 1;
		}
		memcpy(f->list + f->list_bytes, &one, sizeof(one));
		f->list_bytes += sizeof(one);
	}
	spread(f, HEADER_BYTES, f->list, f->list_bytes);
	return true;
}

/* Returns false when the input is too short for a whole request. */
static bool
build(struct fuzz *f, const struct blk_limits **disk, const uint8_t **data, size_t *size)
{
	struct vhub_chain *chain = &f->req.chain;
	uint8_t which, hint;

	f->n = 0;
	chain->n_out = 0;
	chain->n_in = 0;
	if (!take(data, size, &which, 1) || !take(data, size, &hint, 1))
		return false;
	*disk = &disks[which % RTE_DIM(disks)];
	if (!add_pieces(f, data, size, &chain->n_out, OUT_FILL, &chain->out_bytes))
		return false;
	if ((hint & 16) != 0)
		pad_pieces(f, &chain->n_out, HEADER_BYTES, OUT_FILL, &chain->out_bytes);
	if (!add_pieces(f, data, size, &chain->n_in, IN_FILL, &chain->in_bytes))
		return false;
	if ((hint & 16) != 0)
		pad_pieces(f, &chain->n_in, 1, IN_FILL, &chain->in_bytes);
	if (!take(data, size, f->header, HEADER_BYTES))
		return false;
	apply_hint(f, hint);
	spread(f, 0, f->header, HEADER_BYTES);
	if (!add_list(f, hint, data, size))
		return false;
	chain->iov = f->iov;
	memcpy(f->iov, f->orig, sizeof(f->iov));
	return true;
}

static void
release(struct fuzz *f)
{
	while (f->n > 0)
		free(f->orig[--f->n].iov_base);
}

/* ---- what must come of it ---- */

struct expected {
	enum blk_verdict verdict;
	int status; /* of BLK_ANSWERED */
	uint8_t op; /* of BLK_SUBMIT */
	uint64_t offset;
	uint32_t len;
	bool id; /* the name was written */
};

static struct expected
expect_rw(const struct blk_limits *disk, bool write, uint64_t sector, uint32_t len)
{
	struct expected e = { .verdict = BLK_ANSWERED, .status = VIRTIO_BLK_S_IOERR };
	/* 128 bits hold whatever a guest can say. */
	unsigned __int128 begin = (unsigned __int128)sector * 512, end = begin + len;

	if (write && disk->read_only)
		return e;
	if (end > disk->capacity_bytes || begin % (disk->align_mask + 1) != 0 ||
			len % (disk->align_mask + 1) != 0)
		return e;
	if (len == 0) {
		e.status = VIRTIO_BLK_S_OK;
		return e;
	}
	return (struct expected){
		.verdict = BLK_SUBMIT,
		.op = write ? VHUB_BLK_WRITE : VHUB_BLK_READ,
		.offset = (uint64_t)begin,
		.len = len,
	};
}

static struct expected
expect_ranges(const struct blk_limits *disk, uint32_t type)
{
	struct expected e = { .verdict = BLK_ANSWERED, .status = VIRTIO_BLK_S_UNSUPP };

	e.op = type == VIRTIO_BLK_T_DISCARD		  ? VHUB_BLK_DISCARD :
			type == VIRTIO_BLK_T_WRITE_ZEROES ? VHUB_BLK_WRITE_ZEROES :
							    VHUB_BLK_SECURE_ERASE;
	if (disk->range_max_bytes[e.op] != 0)
		e.verdict = BLK_RANGES;
	return e;
}

static struct expected
expect(const struct fuzz *f, const struct blk_limits *disk)
{
	const struct vhub_chain *chain = &f->req.chain;
	struct expected e = { .verdict = BLK_ANSWERED };
	uint32_t type;
	uint64_t sector;

	memcpy(&type, f->header, sizeof(type));
	memcpy(&sector, f->header + 8, sizeof(sector));
	if (chain->in_bytes == 0) {
		e.verdict = BLK_NO_STATUS;
	} else if (chain->out_bytes < HEADER_BYTES) {
		e.status = VIRTIO_BLK_S_IOERR;
	} else if (type == VIRTIO_BLK_T_IN) {
		e = expect_rw(disk, false, sector, chain->in_bytes - 1);
	} else if (type == VIRTIO_BLK_T_OUT) {
		e = expect_rw(disk, true, sector, chain->out_bytes - (uint32_t)HEADER_BYTES);
	} else if (type == VIRTIO_BLK_T_FLUSH) {
		e.verdict = BLK_SUBMIT;
		e.op = VHUB_BLK_FLUSH;
	} else if (type == VIRTIO_BLK_T_GET_ID) {
		e.id = chain->in_bytes > VIRTIO_BLK_ID_BYTES;
		e.status = e.id ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
	} else if (is_range_type(type)) {
		e = expect_ranges(disk, type);
	} else {
		e.status = VIRTIO_BLK_S_UNSUPP;
	}
	return e;
}

static void
check_io(const struct fuzz *f, const struct expected *e)
{
	const struct vhub_blk_io *io = &f->req.io;
	uint16_t first = io->op == VHUB_BLK_READ ? f->req.chain.n_out : 0;
	size_t at = io->op == VHUB_BLK_READ ? 0 : HEADER_BYTES;
	uint64_t sum = 0;

	MUST(io->op == e->op && io->offset_bytes == e->offset && io->len_bytes == e->len &&
			io->flags == 0);
	for (uint16_t i = 0; i < io->n_iov; i++) {
		MUST(io->iov[i].iov_len != 0);
		MUST(io->iov[i].iov_base == address_of(f, first, at));
		at += io->iov[i].iov_len - 1;
		MUST((const uint8_t *)io->iov[i].iov_base + io->iov[i].iov_len - 1 ==
				address_of(f, first, at));
		at++;
		sum += io->iov[i].iov_len;
	}
	MUST(sum == e->len);
}

/* What one range of the list is worth, in 128 bits. */
static int
status_of_range(const struct blk_limits *disk, uint8_t op,
		const struct virtio_blk_discard_write_zeroes *one)
{
	unsigned __int128 begin = (unsigned __int128)one->sector * 512;
	unsigned __int128 len = (unsigned __int128)one->num_sectors * 512;

	if (one->flags > (op == VHUB_BLK_WRITE_ZEROES ? 1u : 0u))
		return VIRTIO_BLK_S_UNSUPP;
	if (begin + len > disk->capacity_bytes || len > disk->range_max_bytes[op] ||
			((uint64_t)(begin | len) & disk->align_mask) != 0)
		return VIRTIO_BLK_S_IOERR;
	return VIRTIO_BLK_S_OK;
}

static int
expect_list(const struct fuzz *f, const struct blk_limits *disk, uint8_t op)
{
	uint32_t bytes = f->req.chain.out_bytes - (uint32_t)HEADER_BYTES;

	if (bytes == 0 || bytes % RANGE_BYTES != 0 || bytes / RANGE_BYTES > BLK_RANGES_MAX)
		return VIRTIO_BLK_S_IOERR;
	for (uint32_t at = 0; at < bytes; at += RANGE_BYTES) {
		struct virtio_blk_discard_write_zeroes one;
		int status;

		memcpy(&one, f->list + at, sizeof(one));
		status = status_of_range(disk, op, &one);
		if (status != VIRTIO_BLK_S_OK)
			return status;
	}
	return VIRTIO_BLK_S_OK;
}

/* The ranges that came of a good list are those of it that are not empty, in order. */
static void
check_ranges(const struct fuzz *f, const struct blk_ranges *ranges)
{
	uint16_t n = 0;

	for (size_t at = 0; at < f->list_bytes; at += RANGE_BYTES) {
		struct virtio_blk_discard_write_zeroes one;

		memcpy(&one, f->list + at, sizeof(one));
		if (one.num_sectors == 0)
			continue;
		MUST(n < ranges->n);
		MUST(ranges->range[n].offset_bytes == one.sector * 512);
		MUST(ranges->range[n].len_bytes == one.num_sectors * 512);
		MUST(ranges->range[n].flags == (one.flags != 0 ? VHUB_BLK_IO_UNMAP : 0));
		n++;
	}
	MUST(n == ranges->n && ranges->next == 0 && ranges->done_bytes == 0);
}

static uint8_t
run_ranges(const struct fuzz *f, const struct blk_limits *disk, uint8_t op)
{
	struct blk_ranges ranges;
	uint8_t status;

	MUST(f->req.op == op);
	status = blk_decode_ranges(disk, &f->req, &ranges);
	MUST(status == expect_list(f, disk, op));
	if (status == VIRTIO_BLK_S_OK)
		check_ranges(f, &ranges);
	return status;
}

static uint8_t
readable_at(const struct fuzz *f, uint32_t at)
{
	if (at < HEADER_BYTES)
		return f->header[at];
	return at - HEADER_BYTES < f->list_bytes ? f->list[at - HEADER_BYTES] : OUT_FILL;
}

/* Every byte of the request is as it was, but for the name and the status. */
static void
check_bytes(const struct fuzz *f, const struct blk_limits *disk, const struct expected *e,
		uint8_t status)
{
	const struct vhub_chain *chain = &f->req.chain;

	for (uint32_t i = 0; i < chain->out_bytes; i++)
		MUST(byte_at(f, 0, i) == readable_at(f, i));
	for (uint32_t i = 0; i + 1 < chain->in_bytes; i++) {
		bool id = e->id && i < VIRTIO_BLK_ID_BYTES;

		MUST(byte_at(f, chain->n_out, i) == (id ? (uint8_t)disk->id[i] : IN_FILL));
	}
	if (chain->in_bytes != 0)
		MUST(byte_at(f, chain->n_out, chain->in_bytes - 1) == status);
	for (uint16_t i = chain->n_out; i < f->n; i++)
		MUST(f->iov[i].iov_base == f->orig[i].iov_base &&
				f->iov[i].iov_len == f->orig[i].iov_len);
}

/* What the quick way takes has to be right; the other one, which comes next, takes it too. */
static void
run_common(struct fuzz *f, const struct blk_limits *disk, const struct expected *e)
{
	struct blk_common common;

	blk_common_init(&common, disk, 0);
	f->req.status_hva = NULL;
	if (!blk_decode_common(&common, &f->req))
		return;
	MUST(e->verdict == BLK_SUBMIT && f->req.op == e->op);
	MUST(f->req.status_hva == f->orig[f->n - 1].iov_base);
	check_io(f, e);
	memset(&f->req.io, IN_FILL, sizeof(f->req.io));
	f->req.status_hva = NULL;
}

static void
run(struct fuzz *f, const struct blk_limits *disk)
{
	struct expected e = expect(f, disk);
	uint8_t status = VIRTIO_BLK_S_OK;

	run_common(f, disk, &e);
	MUST(blk_decode(disk, &f->req) == e.verdict);
	if (e.verdict == BLK_SUBMIT)
		check_io(f, &e);
	if (e.verdict == BLK_RANGES)
		status = run_ranges(f, disk, e.op);
	if (e.verdict == BLK_ANSWERED) {
		MUST(f->req.status == e.status);
		status = f->req.status;
	}
	MUST((f->req.status_hva == NULL) == (e.verdict == BLK_NO_STATUS));
	if (e.verdict != BLK_NO_STATUS)
		blk_put_status(&f->req, status);
	check_bytes(f, disk, &e, status);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz f;
	const struct blk_limits *disk = NULL;

	while (build(&f, &disk, &data, &size)) {
		run(&f, disk);
		release(&f);
	}
	release(&f);
	return 0;
}
