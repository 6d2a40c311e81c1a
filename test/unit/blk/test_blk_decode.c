/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Decoding requests: every way of cutting a legal one gives the same I/O, and what a hostile guest
 * asks for gets the status that VIRTIO 1.2, 5.2.6 wants, or, without a place for one, none.
 */
#include "decode_shape.h"

#define DISK_BYTES (UINT64_C(1) << 20)
#define SECTORS (DISK_BYTES / 512)

static const struct blk_limits disk = {
	.capacity_bytes = DISK_BYTES,
	.align_mask = 511,
	.id = "a-name-of-20-letters",
};
static const struct blk_limits short_id = { .capacity_bytes = DISK_BYTES,
	.align_mask = 511,
	.id = "disk0" };
static const struct blk_limits read_only = { .capacity_bytes = DISK_BYTES,
	.align_mask = 511,
	.read_only = true };
static const struct blk_limits big_blocks = { .capacity_bytes = DISK_BYTES, .align_mask = 4095 };

/* The largest disk that sectors can address. */
static const struct blk_limits huge = { .capacity_bytes = UINT64_MAX & ~UINT64_C(511),
	.align_mask = 511 };

static void
expect_answer(const struct blk_limits *limits, struct shape *s, uint8_t status)
{
	assert_int_equal(shape_decode(limits, &s->req), BLK_ANSWERED);
	assert_int_equal(s->req.status, status);
	blk_put_status(&s->req, s->req.status);
	assert_int_equal(shape_status(s), status);
	shape_free(s);
}

/* The I/O's pieces are, byte for byte, where the data of the request are. */
static void
expect_io(struct shape *s, enum vhub_blk_op op, uint64_t offset, uint32_t len, size_t skip, bool in)
{
	const struct vhub_blk_io *io = &s->req.io;
	const struct iovec *piece = &s->orig[in ? s->req.chain.n_out : 0];
	size_t at = skip, sum = 0;

	assert_int_equal(io->op, op);
	assert_int_equal(io->offset_bytes, offset);
	assert_int_equal(io->len_bytes, len);
	for (unsigned int i = 0; i < io->n_iov; i++) {
		for (size_t j = 0; j < io->iov[i].iov_len; j++) {
			while (at >= piece->iov_len) {
				at -= piece->iov_len;
				piece++;
			}
			assert_ptr_equal((uint8_t *)io->iov[i].iov_base + j,
					(uint8_t *)piece->iov_base + at);
			at++;
		}
		assert_int_not_equal(io->iov[i].iov_len, 0);
		sum += io->iov[i].iov_len;
	}
	assert_int_equal(sum, len);
}

/*
 * After the status was put, the writable pieces are as the guest gave them: the dirty log is marked
 * by them.
 */
static void
expect_restored(struct shape *s)
{
	blk_put_status(&s->req, VIRTIO_BLK_S_OK);
	assert_int_equal(shape_status(s), VIRTIO_BLK_S_OK);
	for (unsigned int i = s->req.chain.n_out;
			i < (unsigned int)s->req.chain.n_out + s->req.chain.n_in; i++) {
		assert_ptr_equal(s->iov[i].iov_base, s->orig[i].iov_base);
		assert_int_equal(s->iov[i].iov_len, s->orig[i].iov_len);
	}
	shape_free(s);
}

static void
expect_read(const uint32_t *out, const uint32_t *in, uint32_t len)
{
	struct shape *s = shape_new(VIRTIO_BLK_T_IN, 3, out, in);

	assert_int_equal(shape_decode(&disk, &s->req), BLK_SUBMIT);
	expect_io(s, VHUB_BLK_READ, 3 * 512, len, 0, true);
	expect_restored(s);
}

static void
expect_write(const uint32_t *out, const uint32_t *in, uint32_t len)
{
	struct shape *s = shape_new(VIRTIO_BLK_T_OUT, 3, out, in);

	assert_int_equal(shape_decode(&disk, &s->req), BLK_SUBMIT);
	expect_io(s, VHUB_BLK_WRITE, 3 * 512, len, sizeof(struct virtio_blk_outhdr), false);
	expect_restored(s);
}

static void
test_reads_of_every_shape(void **state)
{
	(void)state;
	expect_read(CUTS(16), CUTS(512, 1), 512);
	expect_read(CUTS(16), CUTS(513), 512);
	expect_read(CUTS(16), CUTS(512, 513), 1024);
	expect_read(CUTS(16), CUTS(1, 2, 509, 1), 512);
	expect_read(CUTS(16), CUTS(1, 2, 510), 512);
	expect_read(CUTS(1, 15), CUTS(4096, 4096, 1), 8192);
	expect_read(CUTS(4, 4, 8), CUTS(512, 1), 512);
	expect_read(CUTS(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1), CUTS(512, 1), 512);
	/* Readable bytes behind the header of a read mean nothing. */
	expect_read(CUTS(16, 100), CUTS(512, 1), 512);
	expect_read(CUTS(20), CUTS(512, 1), 512);
}

static void
test_writes_of_every_shape(void **state)
{
	(void)state;
	expect_write(CUTS(16, 512), CUTS(1), 512);
	expect_write(CUTS(528), CUTS(1), 512);
	expect_write(CUTS(8, 520), CUTS(1), 512);
	expect_write(CUTS(17, 511), CUTS(1), 512);
	expect_write(CUTS(15, 1, 512), CUTS(1), 512);
	expect_write(CUTS(15, 2, 511), CUTS(1), 512);
	expect_write(CUTS(16, 1, 1, 510, 4096), CUTS(1), 4608);
	/* Writable bytes before the status of a write stay as they are. */
	expect_write(CUTS(16, 512), CUTS(100, 1), 512);
	expect_write(CUTS(16, 512), CUTS(101), 512);
}

static void
test_as_many_pieces_as_a_chain_may_have(void **state)
{
	uint32_t out[2] = { 16, 0 }, in[SHAPE_MAX_PIECES];
	unsigned int n = SHAPE_MAX_PIECES - 2;

	(void)state;
	for (unsigned int i = 0; i < n; i++)
		in[i] = 1;
	in[n - 1] = 512 - (n - 1) + 1; /* and the status */
	in[n] = 0;
	expect_read(out, in, 512);
}

static void
test_random_cuts_change_nothing(void **state)
{
	uint64_t seed = 88172645463325252u;

	(void)state;
	for (unsigned int round = 0; round < 2000; round++) {
		uint32_t cuts[24], other[2] = { 0, 0 };
		uint32_t sectors = 1 + (uint32_t)round % 3;
		bool write = round % 2 == 1;
		uint32_t left = sectors * 512 + (write ? 16 : 1);
		unsigned int n = 0;

		while (left > 0) {
			seed ^= seed << 13;
			seed ^= seed >> 7;
			seed ^= seed << 17;
			cuts[n] = n == 22 ? left :
					    1 + (uint32_t)(seed % (round % 5 == 0 ? 20 : 600));
			cuts[n] = cuts[n] < left ? cuts[n] : left;
			left -= cuts[n++];
		}
		cuts[n] = 0;
		other[0] = write ? 1 : 16;
		if (write)
			expect_write(cuts, other, sectors * 512);
		else
			expect_read(other, cuts, sectors * 512);
	}
}

static void
test_the_end_of_the_disk(void **state)
{
	struct shape *s = shape_new(VIRTIO_BLK_T_IN, SECTORS - 1, CUTS(16), CUTS(512, 1));

	(void)state;
	assert_int_equal(shape_decode(&disk, &s->req), BLK_SUBMIT);
	expect_io(s, VHUB_BLK_READ, DISK_BYTES - 512, 512, 0, true);
	expect_restored(s);

	expect_answer(&disk, shape_new(VIRTIO_BLK_T_IN, SECTORS - 1, CUTS(16), CUTS(1024, 1)),
			VIRTIO_BLK_S_IOERR);
	expect_answer(&disk, shape_new(VIRTIO_BLK_T_IN, SECTORS, CUTS(16), CUTS(512, 1)),
			VIRTIO_BLK_S_IOERR);
	expect_answer(&disk, shape_new(VIRTIO_BLK_T_OUT, SECTORS, CUTS(16, 512), CUTS(1)),
			VIRTIO_BLK_S_IOERR);
	expect_answer(&disk, shape_new(VIRTIO_BLK_T_OUT, SECTORS + 1, CUTS(16, 512), CUTS(1)),
			VIRTIO_BLK_S_IOERR);
}

/* Sectors whose offset in bytes, or end, is beyond 64 bits. */
static void
test_sectors_near_the_end_of_numbers(void **state)
{
	static const uint64_t sectors[] = { UINT64_MAX, UINT64_MAX - 1, UINT64_MAX / 512,
		UINT64_MAX / 512 + 1, UINT64_C(1) << 55, (UINT64_C(1) << 55) - 1, UINT64_C(1) << 63,
		UINT32_MAX };

	(void)state;
	for (unsigned int i = 0; i < RTE_DIM(sectors); i++) {
		expect_answer(&disk, shape_new(VIRTIO_BLK_T_IN, sectors[i], CUTS(16), CUTS(512, 1)),
				VIRTIO_BLK_S_IOERR);
		expect_answer(&disk,
				shape_new(VIRTIO_BLK_T_OUT, sectors[i], CUTS(16, 512), CUTS(1)),
				VIRTIO_BLK_S_IOERR);
	}
	for (unsigned int i = 0; i < 4; i++)
		expect_answer(&huge, shape_new(VIRTIO_BLK_T_IN, sectors[i], CUTS(16), CUTS(512, 1)),
				VIRTIO_BLK_S_IOERR);
	/* The last sector of the largest disk is a good one. */
	struct shape *s = shape_new(VIRTIO_BLK_T_IN, UINT64_MAX / 512 - 1, CUTS(16), CUTS(512, 1));

	assert_int_equal(shape_decode(&huge, &s->req), BLK_SUBMIT);
	assert_int_equal(s->req.io.offset_bytes, huge.capacity_bytes - 512);
	shape_free(s);
}

static void
test_lengths_that_are_no_sectors(void **state)
{
	static const uint32_t lengths[] = { 1, 511, 513, 1000, 4095, 65537 };

	(void)state;
	for (unsigned int i = 0; i < RTE_DIM(lengths); i++) {
		expect_answer(&disk, shape_new(VIRTIO_BLK_T_IN, 0, CUTS(16), CUTS(lengths[i], 1)),
				VIRTIO_BLK_S_IOERR);
		expect_answer(&disk, shape_new(VIRTIO_BLK_T_OUT, 0, CUTS(16, lengths[i]), CUTS(1)),
				VIRTIO_BLK_S_IOERR);
	}
}

/*
 * Lengths near 4 GiB, where adding a header or a status would overflow 32 bits. Nothing of it is
 * touched.
 */
static void
test_lengths_near_the_end_of_numbers(void **state)
{
	static uint8_t header[16], status;
	struct blk_req req;
	struct iovec iov[3];

	(void)state;
	memset(header, 0, sizeof(header));
	iov[0] = (struct iovec){ header, sizeof(header) };
	iov[1] = (struct iovec){ (void *)4096, UINT32_MAX - 1 };
	iov[2] = (struct iovec){ &status, 1 };
	memset(&req, 0, sizeof(req));
	req.chain.iov = iov;
	req.chain.n_out = 1;
	req.chain.n_in = 2;
	req.chain.out_bytes = 16;
	req.chain.in_bytes = UINT32_MAX;
	assert_int_equal(shape_decode(&huge, &req), BLK_ANSWERED);
	assert_int_equal(req.status, VIRTIO_BLK_S_IOERR);
}

/* A read of `len` bytes from the largest disk. Nothing of it is touched. */
static enum blk_verdict
decode_read_of(uint32_t len, struct blk_req *req)
{
	static uint8_t header[sizeof(struct virtio_blk_outhdr)], status;
	static struct iovec iov[3];

	memset(header, 0, sizeof(header));
	iov[0] = (struct iovec){ header, sizeof(header) };
	iov[1] = (struct iovec){ (void *)4096, len };
	iov[2] = (struct iovec){ &status, 1 };
	*req = (struct blk_req){ .chain = { .iov = iov,
						 .n_out = 1,
						 .n_in = 2,
						 .out_bytes = sizeof(header),
						 .in_bytes = len + 1 } };
	return shape_decode(&huge, req);
}

/*
 * SEG_MAX and SIZE_MAX are for drivers that have negotiated them. A chain that is any longer has too many bytes.
 */
static void
test_more_data_than_offered_is_taken(void **state)
{
	static const uint32_t lengths[] = { 504u << 20, (504u << 20) + 512, 1u << 30, 1u << 31,
		VHUB_BLK_DATA_MAX_BYTES };
	struct blk_req req;

	(void)state;
	assert_true(VHUB_BLK_DATA_MAX_BYTES + (uint64_t)512 > UINT32_MAX);
	for (unsigned int i = 0; i < RTE_DIM(lengths); i++) {
		assert_int_equal(decode_read_of(lengths[i], &req), BLK_SUBMIT);
		assert_int_equal(req.io.len_bytes, lengths[i]);
	}
}

static void
test_nothing_to_transfer_is_no_io(void **state)
{
	(void)state;
	expect_answer(&disk, shape_new(VIRTIO_BLK_T_IN, 0, CUTS(16), CUTS(1)), VIRTIO_BLK_S_OK);
	expect_answer(&disk, shape_new(VIRTIO_BLK_T_OUT, 0, CUTS(16), CUTS(1)), VIRTIO_BLK_S_OK);
	expect_answer(&disk, shape_new(VIRTIO_BLK_T_IN, SECTORS, CUTS(16), CUTS(1)),
			VIRTIO_BLK_S_OK);
	expect_answer(&disk, shape_new(VIRTIO_BLK_T_IN, SECTORS + 1, CUTS(16), CUTS(1)),
			VIRTIO_BLK_S_IOERR);
}

static void
test_a_read_only_disk_refuses_writes(void **state)
{
	struct shape *s = shape_new(VIRTIO_BLK_T_IN, 0, CUTS(16), CUTS(512, 1));

	(void)state;
	expect_answer(&read_only, shape_new(VIRTIO_BLK_T_OUT, 0, CUTS(16, 512), CUTS(1)),
			VIRTIO_BLK_S_IOERR);
	assert_int_equal(shape_decode(&read_only, &s->req), BLK_SUBMIT);
	shape_free(s);
}

static void
test_blocks_of_the_driver_are_not_cut(void **state)
{
	struct shape *s = shape_new(VIRTIO_BLK_T_IN, 8, CUTS(16), CUTS(4096, 1));

	(void)state;
	assert_int_equal(shape_decode(&big_blocks, &s->req), BLK_SUBMIT);
	shape_free(s);
	expect_answer(&big_blocks, shape_new(VIRTIO_BLK_T_IN, 1, CUTS(16), CUTS(4096, 1)),
			VIRTIO_BLK_S_IOERR);
	expect_answer(&big_blocks, shape_new(VIRTIO_BLK_T_IN, 8, CUTS(16), CUTS(512, 1)),
			VIRTIO_BLK_S_IOERR);
}

/* What is answered is counted: with what its request has, not with what was there before. */
static void
test_no_data_are_no_bytes(void **state)
{
	const uint32_t types[] = { VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT };

	(void)state;
	for (unsigned int i = 0; i < RTE_DIM(types); i++) {
		struct shape *s = shape_new(types[i], 8, CUTS(16), CUTS(1));

		s->req.io.len_bytes = 4096;
		assert_int_equal(shape_decode(&disk, &s->req), BLK_ANSWERED);
		assert_int_equal(s->req.status, VIRTIO_BLK_S_OK);
		assert_int_equal(s->req.io.len_bytes, 0);
		shape_free(s);
	}
}

static void
test_flush(void **state)
{
	struct shape *s = shape_new(VIRTIO_BLK_T_FLUSH, UINT64_MAX, CUTS(16), CUTS(1));

	(void)state;
	assert_int_equal(shape_decode(&read_only, &s->req), BLK_SUBMIT);
	assert_int_equal(s->req.io.op, VHUB_BLK_FLUSH);
	assert_int_equal(s->req.io.len_bytes, 0);
	assert_int_equal(s->req.io.n_iov, 0);
	expect_restored(s);
	/* Data make no difference: the field is reserved. */
	s = shape_new(VIRTIO_BLK_T_FLUSH, 0, CUTS(16, 512), CUTS(3, 1));
	assert_int_equal(shape_decode(&disk, &s->req), BLK_SUBMIT);
	assert_int_equal(s->req.io.len_bytes, 0);
	expect_restored(s);
}

static void
expect_id(const struct blk_limits *limits, const uint32_t *in, const char *id)
{
	struct shape *s = shape_new(VIRTIO_BLK_T_GET_ID, 0, CUTS(16), in);
	uint8_t got[64] = { 0 };
	size_t n = 0;

	assert_int_equal(shape_decode(limits, &s->req), BLK_ANSWERED);
	assert_int_equal(s->req.status, VIRTIO_BLK_S_OK);
	blk_put_status(&s->req, VIRTIO_BLK_S_OK);
	for (unsigned int i = 1; i <= s->req.chain.n_in; i++) {
		memcpy(got + n, s->orig[i].iov_base, s->orig[i].iov_len);
		n += s->orig[i].iov_len;
	}
	assert_memory_equal(got, id, VIRTIO_BLK_ID_BYTES);
	/* Between the name and the status nothing is touched. */
	for (size_t i = VIRTIO_BLK_ID_BYTES; i < n - 1; i++)
		assert_int_equal(got[i], 0xbb);
	assert_int_equal(got[n - 1], VIRTIO_BLK_S_OK);
	shape_free(s);
}

static void
test_get_id(void **state)
{
	(void)state;
	expect_id(&disk, CUTS(20, 1), "a-name-of-20-letters");
	expect_id(&disk, CUTS(21), "a-name-of-20-letters");
	expect_id(&disk, CUTS(1, 7, 13), "a-name-of-20-letters");
	expect_id(&disk, CUTS(30, 1), "a-name-of-20-letters");
	expect_id(&short_id, CUTS(20, 1), "disk0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
	expect_answer(&disk, shape_new(VIRTIO_BLK_T_GET_ID, 0, CUTS(16), CUTS(19, 1)),
			VIRTIO_BLK_S_IOERR);
	expect_answer(&disk, shape_new(VIRTIO_BLK_T_GET_ID, 0, CUTS(16), CUTS(1)),
			VIRTIO_BLK_S_IOERR);
}

static void
test_types_that_are_not_served(void **state)
{
	static const uint32_t types[] = { 2, 3, 5, 7, 9, 10, VIRTIO_BLK_T_DISCARD,
		VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_T_SECURE_ERASE, 99, 0x100, 0x10000,
		0x80000000, 0x80000001, UINT32_MAX };

	(void)state;
	for (unsigned int i = 0; i < RTE_DIM(types); i++) {
		expect_answer(&disk, shape_new(types[i], 0, CUTS(16), CUTS(512, 1)),
				VIRTIO_BLK_S_UNSUPP);
		expect_answer(&disk, shape_new(types[i], 0, CUTS(16, 512), CUTS(1)),
				VIRTIO_BLK_S_UNSUPP);
	}
}

static void
test_a_header_cut_short(void **state)
{
	(void)state;
	expect_answer(&disk, shape_new(0, 0, CUTS(15), CUTS(512, 1)), VIRTIO_BLK_S_IOERR);
	expect_answer(&disk, shape_new(0, 0, CUTS(1), CUTS(512, 1)), VIRTIO_BLK_S_IOERR);
	expect_answer(&disk, shape_new(0, 0, CUTS(7, 8), CUTS(512, 1)), VIRTIO_BLK_S_IOERR);
	expect_answer(&disk, shape_new(0, 0, NO_CUTS, CUTS(512, 1)), VIRTIO_BLK_S_IOERR);
}

static void
test_no_place_for_a_status(void **state)
{
	static const uint32_t types[] = { VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH,
		VIRTIO_BLK_T_GET_ID, 99 };

	(void)state;
	for (unsigned int i = 0; i < RTE_DIM(types); i++) {
		struct shape *s = shape_new(types[i], 0, CUTS(16, 512), NO_CUTS);

		assert_int_equal(shape_decode(&disk, &s->req), BLK_NO_STATUS);
		assert_null(s->req.status_hva);
		shape_free(s);
	}
}

/* A request of the ring is used again and again: nothing of the last one is left. */
static void
test_a_request_forgets_the_one_before(void **state)
{
	struct shape *s = shape_new(VIRTIO_BLK_T_OUT, 5, CUTS(16, 512), CUTS(1));

	(void)state;
	assert_int_equal(shape_decode(&disk, &s->req), BLK_SUBMIT);
	s->req.io.flags = VHUB_BLK_IO_FUA;
	blk_put_status(&s->req, VIRTIO_BLK_S_OK);
	s->req.chain.n_in = 0;
	s->iov[0] = s->orig[0];
	assert_int_equal(shape_decode(&disk, &s->req), BLK_NO_STATUS);
	assert_null(s->req.status_hva);
	s->req.chain.n_in = 1;
	s->iov[0] = s->orig[0];
	s->iov[1] = s->orig[1];
	assert_int_equal(shape_decode(&disk, &s->req), BLK_SUBMIT);
	assert_int_equal(s->req.io.flags, 0);
	assert_int_equal(s->req.op, VHUB_BLK_WRITE);
	shape_free(s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_of_every_shape),
		cmocka_unit_test(test_writes_of_every_shape),
		cmocka_unit_test(test_as_many_pieces_as_a_chain_may_have),
		cmocka_unit_test(test_random_cuts_change_nothing),
		cmocka_unit_test(test_the_end_of_the_disk),
		cmocka_unit_test(test_sectors_near_the_end_of_numbers),
		cmocka_unit_test(test_lengths_that_are_no_sectors),
		cmocka_unit_test(test_lengths_near_the_end_of_numbers),
		cmocka_unit_test(test_more_data_than_offered_is_taken),
		cmocka_unit_test(test_nothing_to_transfer_is_no_io),
		cmocka_unit_test(test_a_read_only_disk_refuses_writes),
		cmocka_unit_test(test_blocks_of_the_driver_are_not_cut),
		cmocka_unit_test(test_no_data_are_no_bytes),
		cmocka_unit_test(test_flush),
		cmocka_unit_test(test_get_id),
		cmocka_unit_test(test_types_that_are_not_served),
		cmocka_unit_test(test_a_header_cut_short),
		cmocka_unit_test(test_no_place_for_a_status),
		cmocka_unit_test(test_a_request_forgets_the_one_before),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
