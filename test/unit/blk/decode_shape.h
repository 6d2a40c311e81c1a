/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A request cut into pieces, each in an allocation of its own, so that an address sanitiser sees
 * every byte too far. Used by test_blk_decode.c.
 */
#ifndef DECODE_SHAPE_H
#define DECODE_SHAPE_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "decode_common.h"

#define SHAPE_MAX_PIECES 320

struct shape {
	struct blk_req req;
	struct iovec iov[SHAPE_MAX_PIECES];  /* what decode sees, and trims */
	struct iovec orig[SHAPE_MAX_PIECES]; /* as allocated */
};

/* Lengths of pieces, ended by 0: the macro makes room for "no piece" too. */
#define CUTS(...) ((const uint32_t[]){ __VA_ARGS__, 0 })
#define NO_CUTS ((const uint32_t[]){ 0 })

static inline void
shape_add(struct shape *s, uint32_t len, uint8_t fill)
{
	unsigned int i = s->req.chain.n_out + s->req.chain.n_in;

	assert_true(i < SHAPE_MAX_PIECES);
	s->orig[i].iov_base = malloc(len);
	s->orig[i].iov_len = len;
	assert_non_null(s->orig[i].iov_base);
	memset(s->orig[i].iov_base, fill, len);
	s->iov[i] = s->orig[i];
}

/* Readable pieces of those lengths, then writable ones; the readable bytes begin with a header. */
static inline struct shape *
shape_new(uint32_t type, uint64_t sector, const uint32_t *out, const uint32_t *in)
{
	struct shape *s = calloc(1, sizeof(*s));
	struct virtio_blk_outhdr header = { .type = type, .ioprio = 0, .sector = sector };
	const uint8_t *from = (const uint8_t *)&header;
	size_t left = sizeof(header);

	assert_non_null(s);
	s->req.chain.iov = s->iov;
	for (; *out != 0; out++) {
		shape_add(s, *out, 0xaa);
		size_t n = left < *out ? left : *out;

		memcpy(s->orig[s->req.chain.n_out].iov_base, from, n);
		from += n;
		left -= n;
		s->req.chain.n_out++;
		s->req.chain.out_bytes += *out;
	}
	for (; *in != 0; in++) {
		shape_add(s, *in, 0xbb);
		s->req.chain.n_in++;
		s->req.chain.in_bytes += *in;
	}
	return s;
}

/* As submit.c decodes it. What is common is decoded both ways, which find the same. */
static inline enum blk_verdict
shape_decode(const struct blk_limits *limits, struct blk_req *req)
{
	struct blk_common common;
	struct vhub_blk_io io;
	uint8_t *status_hva;
	uint8_t op;

	blk_common_init(&common, limits, 0);
	req->status_hva = NULL;
	if (!blk_decode_common(&common, req))
		return blk_decode(limits, req);
	io = req->io;
	op = req->op;
	status_hva = req->status_hva;
	memset(&req->io, 0xcc, sizeof(req->io));
	req->op = 0xcc;
	req->status_hva = NULL;
	assert_int_equal(blk_decode(limits, req), BLK_SUBMIT);
	assert_ptr_equal(req->io.iov, io.iov);
	assert_int_equal(req->io.n_iov, io.n_iov);
	assert_int_equal(req->io.op, io.op);
	assert_int_equal(req->io.flags, io.flags);
	assert_int_equal(req->io.len_bytes, io.len_bytes);
	assert_int_equal(req->io.offset_bytes, io.offset_bytes);
	assert_int_equal(req->op, op);
	assert_ptr_equal(req->status_hva, status_hva);
	return BLK_SUBMIT;
}

/* The last writable byte, where the guest looks for its status. */
static inline uint8_t
shape_status(const struct shape *s)
{
	const struct iovec *last = &s->orig[s->req.chain.n_out + s->req.chain.n_in - 1];

	return ((const uint8_t *)last->iov_base)[last->iov_len - 1];
}

static inline void
shape_free(struct shape *s)
{
	for (unsigned int i = 0; i < (unsigned int)s->req.chain.n_out + s->req.chain.n_in; i++)
		free(s->orig[i].iov_base);
	free(s);
}

#endif /* DECODE_SHAPE_H */
