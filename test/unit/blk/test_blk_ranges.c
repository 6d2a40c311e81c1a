/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * DISCARD, WRITE_ZEROES and SECURE_ERASE: lists of ranges in every shape and of every nonsense, one
 * I/O of the driver for each range, one after the other, and what is answered when one fails (VIRTIO
 * 1.2, 5.2.6).
 */
#include "decode_shape.h"
#include "guest.h"
#include "spy_driver.h"

#define F(bit) (UINT64_C(1) << (bit))
#define VERSION_1 F(32)
#define RANGES \
	(F(VIRTIO_BLK_F_DISCARD) | F(VIRTIO_BLK_F_WRITE_ZEROES) | F(VIRTIO_BLK_F_SECURE_ERASE))
#define SECTORS 2048u /* of the spy's disk */
#define ONE sizeof(struct virtio_blk_discard_write_zeroes)

static const uint32_t types[] = { VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES,
	VIRTIO_BLK_T_SECURE_ERASE };
static const uint8_t ops[] = { VHUB_BLK_DISCARD, VHUB_BLK_WRITE_ZEROES, VHUB_BLK_SECURE_ERASE };

static struct guest guest;
static struct vhub_device *dev;

/* ---- decoding ---- */

static const struct blk_limits disk = {
	.capacity_bytes = SECTORS * 512,
	.align_mask = 511,
	.range_max_bytes = { [VHUB_BLK_DISCARD] = 64 << 10,
			[VHUB_BLK_WRITE_ZEROES] = 64 << 10,
			[VHUB_BLK_SECURE_ERASE] = 64 << 10 },
};
static const struct blk_limits big_blocks = {
	.capacity_bytes = SECTORS * 512,
	.align_mask = 4095,
	.range_max_bytes = { [VHUB_BLK_DISCARD] = 64 << 10 },
};
static const struct blk_limits huge = {
	.capacity_bytes = UINT64_MAX & ~UINT64_C(511),
	.align_mask = 511,
	.range_max_bytes = { [VHUB_BLK_DISCARD] = VHUB_BLK_RANGE_MAX_BYTES },
};

/* The status that a list of one range gets. */
static uint8_t
status_of(const struct blk_limits *limits, uint32_t type, uint64_t sector, uint32_t n_sectors,
		uint32_t flags)
{
	struct virtio_blk_discard_write_zeroes list = { .sector = sector,
		.num_sectors = n_sectors,
		.flags = flags };
	struct shape *s = shape_new(type, 0, CUTS(16, ONE), CUTS(1));
	struct blk_ranges ranges;
	uint8_t status;

	memcpy(s->orig[1].iov_base, &list, ONE);
	assert_int_equal(blk_decode(limits, &s->req), BLK_RANGES);
	status = blk_decode_ranges(limits, &s->req, &ranges);
	if (status == VIRTIO_BLK_S_OK && n_sectors != 0) {
		assert_int_equal(ranges.n, 1);
		assert_int_equal(ranges.range[0].offset_bytes, sector * 512);
		assert_int_equal(ranges.range[0].len_bytes, n_sectors * 512);
	}
	shape_free(s);
	return status;
}

static void
test_ranges_end_where_the_disk_ends(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < RTE_DIM(types); i++) {
		assert_int_equal(status_of(&disk, types[i], 0, 1, 0), VIRTIO_BLK_S_OK);
		assert_int_equal(status_of(&disk, types[i], SECTORS - 1, 1, 0), VIRTIO_BLK_S_OK);
		assert_int_equal(status_of(&disk, types[i], SECTORS - 1, 2, 0), VIRTIO_BLK_S_IOERR);
		assert_int_equal(status_of(&disk, types[i], SECTORS, 1, 0), VIRTIO_BLK_S_IOERR);
		assert_int_equal(status_of(&disk, types[i], SECTORS, 0, 0), VIRTIO_BLK_S_OK);
		assert_int_equal(status_of(&disk, types[i], SECTORS + 1, 0, 0), VIRTIO_BLK_S_IOERR);
		assert_int_equal(status_of(&disk, types[i], 0, 128, 0), VIRTIO_BLK_S_OK);
		assert_int_equal(status_of(&disk, types[i], 0, 129, 0), VIRTIO_BLK_S_IOERR);
		assert_int_equal(status_of(&disk, types[i], 0, UINT32_MAX, 0), VIRTIO_BLK_S_IOERR);
	}
}

static void
test_ranges_near_the_end_of_numbers(void **state)
{
	static const uint64_t sectors[] = { UINT64_MAX, UINT64_MAX / 512, UINT64_MAX / 512 - 1,
		UINT64_C(1) << 55, UINT64_C(1) << 63 };

	(void)state;
	for (unsigned int i = 0; i < RTE_DIM(sectors); i++) {
		assert_int_equal(status_of(&disk, types[0], sectors[i], 8, 0), VIRTIO_BLK_S_IOERR);
		assert_int_equal(status_of(&huge, types[0], sectors[i], 8, 0), VIRTIO_BLK_S_IOERR);
	}
	assert_int_equal(status_of(&huge, types[0], UINT64_MAX / 512 - 1, 1, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(status_of(&huge, types[0], 0, UINT32_MAX, 0), VIRTIO_BLK_S_IOERR);
}

static void
test_flags_that_are_not_known_are_not_supported(void **state)
{
	(void)state;
	assert_int_equal(status_of(&disk, VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 1), VIRTIO_BLK_S_OK);
	assert_int_equal(status_of(&disk, VIRTIO_BLK_T_DISCARD, 0, 1, 1), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(status_of(&disk, VIRTIO_BLK_T_SECURE_ERASE, 0, 1, 1), VIRTIO_BLK_S_UNSUPP);
	for (unsigned int i = 0; i < RTE_DIM(types); i++) {
		for (unsigned int bit = 1; bit < 32; bit++)
			assert_int_equal(status_of(&disk, types[i], 0, 1, UINT32_C(1) << bit),
					VIRTIO_BLK_S_UNSUPP);
	}
}

static void
test_ranges_are_whole_blocks(void **state)
{
	(void)state;
	assert_int_equal(status_of(&big_blocks, types[0], 8, 8, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(status_of(&big_blocks, types[0], 8, 7, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(status_of(&big_blocks, types[0], 1, 8, 0), VIRTIO_BLK_S_IOERR);
}

static void
test_what_is_not_offered_is_not_supported(void **state)
{
	struct shape *s;

	(void)state;
	s = shape_new(VIRTIO_BLK_T_SECURE_ERASE, 0, CUTS(16, ONE), CUTS(1));
	assert_int_equal(blk_decode(&big_blocks, &s->req), BLK_ANSWERED);
	assert_int_equal(s->req.status, VIRTIO_BLK_S_UNSUPP);
	shape_free(s);
}

/* A list of `n` ranges in pieces of those lengths; the status of it. */
static uint8_t
status_of_list(const uint32_t *out, size_t n, struct blk_ranges *ranges)
{
	struct shape *s = shape_new(VIRTIO_BLK_T_DISCARD, 0, out, CUTS(1));
	uint8_t bytes[16 + 70 * ONE];
	size_t at = 16;
	uint8_t status;

	memcpy(bytes, s->orig[0].iov_base, RTE_MIN((size_t)16, s->orig[0].iov_len));
	for (size_t i = 0; i < n; i++) {
		struct virtio_blk_discard_write_zeroes one = { .sector = i * 8, .num_sectors = 8 };

		memcpy(bytes + at, &one, ONE);
		at += ONE;
	}
	at = 0;
	for (unsigned int i = 0; i < s->req.chain.n_out; i++) {
		for (size_t j = 0; j < s->orig[i].iov_len; j++, at++) {
			if (at >= 16)
				((uint8_t *)s->orig[i].iov_base)[j] = bytes[at];
		}
	}
	assert_int_equal(blk_decode(&disk, &s->req), BLK_RANGES);
	status = blk_decode_ranges(&disk, &s->req, ranges);
	shape_free(s);
	return status;
}

static void
test_lists_of_every_shape(void **state)
{
	struct blk_ranges ranges;

	(void)state;
	assert_int_equal(status_of_list(CUTS(16, 32), 2, &ranges), VIRTIO_BLK_S_OK);
	assert_int_equal(status_of_list(CUTS(48), 2, &ranges), VIRTIO_BLK_S_OK);
	assert_int_equal(status_of_list(CUTS(7, 20, 1, 20), 2, &ranges), VIRTIO_BLK_S_OK);
	assert_int_equal(ranges.n, 2);
	assert_int_equal(ranges.range[1].offset_bytes, 4096);
	assert_int_equal(ranges.range[1].len_bytes, 4096);
	assert_int_equal(status_of_list(CUTS(16, BLK_RANGES_MAX * ONE), BLK_RANGES_MAX, &ranges),
			VIRTIO_BLK_S_OK);
	assert_int_equal(ranges.n, BLK_RANGES_MAX);
	assert_int_equal(status_of_list(CUTS(16, (BLK_RANGES_MAX + 1) * ONE), BLK_RANGES_MAX + 1,
					 &ranges),
			VIRTIO_BLK_S_IOERR);
	for (uint32_t odd = 1; odd < 16; odd++)
		assert_int_equal(status_of_list(CUTS(16, 16 + odd), 1, &ranges),
				VIRTIO_BLK_S_IOERR);
	assert_int_equal(status_of_list(CUTS(16, 15), 0, &ranges), VIRTIO_BLK_S_IOERR);
	assert_int_equal(status_of_list(CUTS(16), 0, &ranges), VIRTIO_BLK_S_IOERR);
}

/* ---- the device ---- */

static int
setup(void **state)
{
	(void)state;
	guest_create(&guest);
	dev = guest_build_disk("driver=spy,queues=3");
	return 0;
}

static int
setup_plain(void **state)
{
	spy_reset();
	return setup(state);
}

static int
setup_cache(void **state)
{
	spy_reset();
	spy.volatile_cache = true;
	return setup(state);
}

static int
setup_none(void **state)
{
	spy_reset();
	spy.no_ranges = true;
	return setup(state);
}

static int
teardown(void **state)
{
	(void)state;
	vhub_device_destroy(dev);
	guest_destroy(&guest);
	return 0;
}

/* Submits a request of `n` ranges of a page each, from page `page` on. */
static struct guest_req
submit_pages(uint32_t type, unsigned int page, unsigned int n, uint32_t flags)
{
	struct guest_req req = guest_submit(&guest, 0, type, 0, (uint32_t)(n * ONE));

	for (unsigned int i = 0; i < n; i++) {
		struct virtio_blk_discard_write_zeroes one = { .sector = (page + i) * 8,
			.num_sectors = 8,
			.flags = flags };

		memcpy(guest.mem + req.data_gpa + i * ONE, &one, ONE);
	}
	return req;
}

static void
test_each_range_is_an_io_one_after_the_other(void **state)
{
	struct vhub_blk_stats stats;

	(void)state;
	guest_start(&guest, dev, 0, VERSION_1 | RANGES);
	for (unsigned int t = 0; t < RTE_DIM(types); t++) {
		struct guest_req req = submit_pages(types[t], 3, 5, 0);

		spy.n_seen = 0;
		spy.release = 0;
		for (unsigned int i = 1; i <= 5; i++) {
			for (unsigned int j = 0; j < 5; j++)
				guest_poll(&guest, 0);
			assert_int_equal(spy.n_in_flight, 1);
			assert_int_equal(spy.n_seen, i);
			assert_int_equal(guest_status(&guest, &req), GUEST_PENDING);
			spy.release = 1;
			guest_poll(&guest, 0);
		}
		guest_poll_until_done(&guest, 1);
		spy.release = SPY_MAX;
		assert_int_equal(guest_status(&guest, &req), VIRTIO_BLK_S_OK);
		for (unsigned int i = 0; i < 5; i++) {
			assert_int_equal(spy.seen[i].op, ops[t]);
			assert_int_equal(spy.seen[i].n_iov, 0);
			assert_int_equal(spy.seen[i].flags, 0);
			assert_int_equal(spy.seen[i].offset_bytes, (3 + i) * 4096);
			assert_int_equal(spy.seen[i].len_bytes, 4096);
		}
		assert_int_equal(vhub_blk_get_stats(dev, 0, &stats), 0);
		assert_int_equal(stats.op[ops[t]].requests, 1);
		assert_int_equal(stats.op[ops[t]].bytes, 5 * 4096);
		assert_int_equal(stats.op[ops[t]].errors, 0);
		assert_int_equal(stats.in_flight, 0);
	}
	guest_stop(&guest, 0);
}

static void
test_the_first_failure_is_the_end(void **state)
{
	struct vhub_blk_stats stats;
	struct guest_req req;

	(void)state;
	guest_start(&guest, dev, 0, VERSION_1 | RANGES);
	req = submit_pages(VIRTIO_BLK_T_DISCARD, 0, 5, 0);
	spy.release = 2;
	for (unsigned int i = 0; i < 10; i++)
		guest_poll(&guest, 0);
	assert_int_equal(spy.n_seen, 3);
	spy.result = -EIO;
	spy.release = SPY_MAX;
	guest_poll_until_done(&guest, 1);
	assert_int_equal(guest_status(&guest, &req), VIRTIO_BLK_S_IOERR);
	assert_int_equal(spy.n_seen, 3);
	assert_int_equal(vhub_blk_get_stats(dev, 0, &stats), 0);
	assert_int_equal(stats.op[VHUB_BLK_DISCARD].errors, 1);
	assert_int_equal(stats.op[VHUB_BLK_DISCARD].bytes, 0);
	guest_stop(&guest, 0);
}

/* The list is checked as a whole before anything is done. */
static void
test_nothing_is_done_when_one_range_is_wrong(void **state)
{
	struct virtio_blk_discard_write_zeroes wrong = { .sector = SECTORS, .num_sectors = 1 };
	struct guest_req req;

	(void)state;
	guest_start(&guest, dev, 0, VERSION_1 | RANGES);
	req = submit_pages(VIRTIO_BLK_T_WRITE_ZEROES, 0, 4, 0);
	memcpy(guest.mem + req.data_gpa + 3 * ONE, &wrong, ONE);
	guest_poll_until_done(&guest, 1);
	assert_int_equal(guest_status(&guest, &req), VIRTIO_BLK_S_IOERR);
	assert_int_equal(spy.n_seen, 0);
	guest_stop(&guest, 0);
}

/* What a guest changes after its list was read changes nothing. */
static void
test_the_list_is_read_once(void **state)
{
	struct virtio_blk_discard_write_zeroes wrong = { .sector = UINT64_MAX, .num_sectors = 9 };
	struct guest_req req;

	(void)state;
	guest_start(&guest, dev, 0, VERSION_1 | RANGES);
	req = submit_pages(VIRTIO_BLK_T_DISCARD, 1, 3, 0);
	spy.release = 0;
	guest_poll(&guest, 0);
	for (unsigned int i = 0; i < 3; i++)
		memcpy(guest.mem + req.data_gpa + i * ONE, &wrong, ONE);
	spy.release = SPY_MAX;
	guest_poll_until_done(&guest, 1);
	assert_int_equal(guest_status(&guest, &req), VIRTIO_BLK_S_OK);
	assert_int_equal(spy.n_seen, 3);
	assert_int_equal(spy.seen[2].offset_bytes, 3 * 4096);
	guest_stop(&guest, 0);
}

static void
test_an_empty_range_is_no_io(void **state)
{
	struct virtio_blk_discard_write_zeroes empty = { .sector = 5 };
	struct guest_req some, none;

	(void)state;
	guest_start(&guest, dev, 0, VERSION_1 | RANGES);
	some = submit_pages(VIRTIO_BLK_T_DISCARD, 0, 3, 0);
	memcpy(guest.mem + some.data_gpa + ONE, &empty, ONE);
	none = submit_pages(VIRTIO_BLK_T_DISCARD, 0, 1, 0);
	memcpy(guest.mem + none.data_gpa, &empty, ONE);
	guest_poll_until_done(&guest, 2);
	assert_int_equal(guest_status(&guest, &some), VIRTIO_BLK_S_OK);
	assert_int_equal(guest_status(&guest, &none), VIRTIO_BLK_S_OK);
	assert_int_equal(spy.n_seen, 2);
	guest_stop(&guest, 0);
}

/* More of them than there is room for wait, in order, and keep nobody else. */
static void
test_many_at_once_wait_for_room(void **state)
{
	enum {
		MANY = 20
	};
	struct guest_req reqs[MANY], read;

	(void)state;
	guest_start(&guest, dev, 0, VERSION_1 | RANGES);
	spy.release = 0;
	for (unsigned int i = 0; i < MANY; i++)
		reqs[i] = submit_pages(VIRTIO_BLK_T_DISCARD, 2 * i, 2, 0);
	guest_poll(&guest, 0);
	guest_poll(&guest, 0);
	assert_int_equal(spy.n_in_flight, BLK_RANGES_AT_ONCE);
	read = guest_submit(&guest, 0, VIRTIO_BLK_T_IN, 0, 512);
	spy.newest_first = true;
	spy.release = 1;
	guest_poll(&guest, 0);
	guest_poll(&guest, 0);
	assert_int_equal(guest_status(&guest, &read), VIRTIO_BLK_S_OK);
	guest_done(&guest.rings[0], NULL, NULL);
	spy.newest_first = false;
	spy.release = SPY_MAX;
	guest_poll_until_done(&guest, MANY);
	for (unsigned int i = 0; i < MANY; i++)
		assert_int_equal(guest_status(&guest, &reqs[i]), VIRTIO_BLK_S_OK);
	guest_stop(&guest, 0);
}

/* Wrong ones take the turn of nobody, and are answered however many wait. */
static void
test_many_wrong_ones_are_all_answered(void **state)
{
	enum {
		MANY = 20
	};
	struct guest_req reqs[MANY], good;

	(void)state;
	guest_start(&guest, dev, 0, VERSION_1 | RANGES);
	for (unsigned int i = 0; i < MANY; i++)
		reqs[i] = submit_pages(VIRTIO_BLK_T_DISCARD, 0, 1, 1);
	good = submit_pages(VIRTIO_BLK_T_DISCARD, 0, 1, 0);
	guest_poll_until_done(&guest, MANY + 1);
	for (unsigned int i = 0; i < MANY; i++)
		assert_int_equal(guest_status(&guest, &reqs[i]), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(guest_status(&guest, &good), VIRTIO_BLK_S_OK);
	guest_stop(&guest, 0);
}

static void
test_a_full_driver_is_asked_again(void **state)
{
	struct guest_req req;

	(void)state;
	guest_start(&guest, dev, 0, VERSION_1 | RANGES);
	spy.accept = 0;
	req = submit_pages(VIRTIO_BLK_T_DISCARD, 0, 2, 0);
	for (unsigned int i = 0; i < 5; i++)
		guest_poll(&guest, 0);
	assert_int_equal(spy.n_seen, 0);
	/* Nothing would wake the lcore. */
	assert_int_equal(dev->ops->queue_arm(&guest.rings[0].vring), -EAGAIN);
	spy.accept = SPY_MAX;
	guest_poll_until_done(&guest, 1);
	assert_int_equal(guest_status(&guest, &req), VIRTIO_BLK_S_OK);
	guest_stop(&guest, 0);
}

/* ---- a driver that is always full ---- */

#define RINGS 3u
#define DEPTH 4u
#define READS 8u /* of each ring, more than the driver has room for */

/*
 * A turn of the lcore in which the driver completes `n`; whoever has a read back sends the next one.
 * Returns how many.
 */
static unsigned int
busy_turn(unsigned int n)
{
	unsigned int reads = 0;

	spy.n_seen = 0; /* there is room for some copies only */
	spy.accept = SPY_MAX;
	spy.release = (uint16_t)n;
	for (unsigned int i = 0; i < RINGS; i++)
		guest_poll(&guest, i);
	for (unsigned int i = 0; i < RINGS; i++) {
		unsigned int done = guest_done(&guest.rings[i], NULL, NULL);

		reads += done;
		for (; done > 0; done--)
			guest_submit(&guest, i, VIRTIO_BLK_T_IN, 0, 512);
	}
	return reads;
}

static unsigned int
n_seen_of(uint8_t op)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < spy.n_seen; i++)
		n += spy.seen[i].op == op;
	return n;
}

static void
start_busy_rings(void)
{
	spy.depth = DEPTH;
	spy.release = 0;
	for (unsigned int i = 0; i < RINGS; i++) {
		guest_start(&guest, dev, i, VERSION_1 | RANGES);
		for (unsigned int j = 0; j < READS; j++)
			guest_submit(&guest, i, VIRTIO_BLK_T_IN, 0, 512);
	}
	busy_turn(0);
	assert_int_equal(spy.n_in_flight, DEPTH);
}

static void
stop_busy_rings(void)
{
	spy.depth = SPY_MAX;
	for (unsigned int i = 0; i < 100; i++) {
		spy.accept = SPY_MAX;
		spy.release = SPY_MAX;
		spy.n_seen = 0;
		for (unsigned int j = 0; j < RINGS; j++)
			guest_poll(&guest, j);
	}
	for (unsigned int i = 0; i < RINGS; i++)
		guest_stop(&guest, i);
}

/*
 * Rings that always have more to read than there is room for keep no list of ranges for ever: what waits
 * takes turns, however much the driver completes at once, and when.
 */
static void
expect_turns(uint32_t type, uint8_t op, const unsigned int completes[2])
{
	unsigned int turns, reads = 0, ranges = 0;
	struct guest_req req;

	start_busy_rings();
	req = submit_pages(type, 0, 10, 0);
	for (turns = 0; turns < 400 && guest_status(&guest, &req) == GUEST_PENDING; turns++) {
		reads += busy_turn(completes[turns % 2]);
		ranges += n_seen_of(op);
	}
	assert_int_equal(guest_status(&guest, &req), VIRTIO_BLK_S_OK);
	assert_int_equal(ranges, 10);
	/* Each of the ten waited for the one before it, and for its turn among reads. */
	assert_in_range(reads, 10, 10 * 4 * DEPTH);
	stop_busy_rings();
}

static void
test_ranges_and_reads_take_turns_of_a_full_driver(void **state)
{
	static const unsigned int completes[][2] = { { 1, 1 }, { 2, 2 }, { DEPTH, DEPTH }, { 0, 1 },
		{ 1, 0 } };
	static const struct vhub_blk_qos paid = { .bytes_per_s = VHUB_BLK_QOS_MAX_BYTES },
					 free = { 0 };
	char error[256];

	(void)state;
	for (unsigned int i = 0; i < RTE_DIM(completes); i++) {
		expect_turns(VIRTIO_BLK_T_DISCARD, VHUB_BLK_DISCARD, completes[i]);
		/* Those that have to be paid first, too. */
		assert_int_equal(vhub_blk_set_qos(dev, &paid, error, sizeof(error)), 0);
		expect_turns(VIRTIO_BLK_T_WRITE_ZEROES, VHUB_BLK_WRITE_ZEROES, completes[i]);
		assert_int_equal(vhub_blk_set_qos(dev, &free, error, sizeof(error)), 0);
	}
}

/* More lists than the driver has room for. */
static void
test_many_ranges_keep_no_read_from_a_full_driver(void **state)
{
	unsigned int ranges = 0, reads = 0;

	(void)state;
	start_busy_rings();
	for (unsigned int i = 0; i < 6; i++)
		submit_pages(VIRTIO_BLK_T_DISCARD, 0, 60, 0);
	for (unsigned int i = 0; i < 200; i++) {
		const unsigned int n = i % 2;

		busy_turn(n);
		ranges += n_seen_of(VHUB_BLK_DISCARD);
		reads += n_seen_of(VHUB_BLK_READ);
	}
	assert_in_range(ranges, 40, 60);
	assert_in_range(reads, 40, 60);
	stop_busy_rings();
}

static void
test_unmap_reaches_the_driver(void **state)
{
	struct guest_req req;

	(void)state;
	guest_start(&guest, dev, 0, VERSION_1 | RANGES);
	req = submit_pages(VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
	guest_poll_until_done(&guest, 1);
	assert_int_equal(guest_status(&guest, &req), VIRTIO_BLK_S_OK);
	assert_int_equal(spy.seen[0].flags, VHUB_BLK_IO_UNMAP);
	guest_stop(&guest, 0);
}

/* A guest that does not flush has its zeroes stored before it hears of them; a discard stores nothing. */
static void
test_zeroes_are_durable_unless_the_guest_flushes(void **state)
{
	(void)state;
	guest_start(&guest, dev, 0, VERSION_1 | RANGES);
	for (unsigned int t = 0; t < RTE_DIM(types); t++)
		submit_pages(types[t], 0, 1, 0);
	guest_poll_until_done(&guest, RTE_DIM(types));
	for (unsigned int t = 0; t < RTE_DIM(types); t++)
		assert_int_equal(spy.seen[t].flags,
				spy.seen[t].op == VHUB_BLK_DISCARD ? 0 : VHUB_BLK_IO_FUA);
	guest_stop(&guest, 0);
	spy.n_seen = 0;
	guest_start(&guest, dev, 0, VERSION_1 | RANGES | F(VIRTIO_BLK_F_FLUSH));
	submit_pages(VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 0);
	guest_poll_until_done(&guest, 1);
	assert_int_equal(spy.seen[0].flags, 0);
	guest_stop(&guest, 0);
}

static void
test_what_was_not_negotiated_is_not_supported(void **state)
{
	struct guest_req reqs[RTE_DIM(types)];

	(void)state;
	for (unsigned int t = 0; t < RTE_DIM(types); t++) {
		static const uint64_t bits[] = { F(VIRTIO_BLK_F_DISCARD),
			F(VIRTIO_BLK_F_WRITE_ZEROES), F(VIRTIO_BLK_F_SECURE_ERASE) };

		guest_start(&guest, dev, 0, VERSION_1 | bits[t]);
		for (unsigned int i = 0; i < RTE_DIM(types); i++)
			reqs[i] = submit_pages(types[i], 0, 1, 0);
		guest_poll_until_done(&guest, RTE_DIM(types));
		for (unsigned int i = 0; i < RTE_DIM(types); i++)
			assert_int_equal(guest_status(&guest, &reqs[i]),
					i == t ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_UNSUPP);
		guest_stop(&guest, 0);
	}
}

static void
test_the_config_space_tells_what_the_driver_can(void **state)
{
	struct virtio_blk_config config;

	(void)state;
	assert_int_equal(dev->features & RANGES, RANGES);
	assert_int_equal(dev->ops->config_read(dev, 0, &config, sizeof(config)), 0);
	assert_int_equal(config.max_discard_sectors, SPY_RANGE_MAX_BYTES / 512);
	assert_int_equal(config.max_discard_seg, BLK_RANGES_MAX);
	assert_int_equal(config.discard_sector_alignment, 16);
	assert_int_equal(config.max_write_zeroes_sectors, 2 * SPY_RANGE_MAX_BYTES / 512);
	assert_int_equal(config.max_write_zeroes_seg, BLK_RANGES_MAX);
	assert_int_equal(config.write_zeroes_may_unmap, 1);
	assert_int_equal(config.max_secure_erase_sectors, 4 * SPY_RANGE_MAX_BYTES / 512);
	assert_int_equal(config.max_secure_erase_seg, BLK_RANGES_MAX);
	assert_int_equal(config.secure_erase_sector_alignment, 16);
}

static void
test_what_the_driver_cannot_is_not_offered(void **state)
{
	struct virtio_blk_config config;
	uint8_t zero[sizeof(config)] = { 0 };
	size_t from = offsetof(struct virtio_blk_config, max_discard_sectors);

	(void)state;
	assert_int_equal(dev->features & RANGES, 0);
	assert_int_equal(dev->ops->config_read(dev, 0, &config, sizeof(config)), 0);
	assert_memory_equal((uint8_t *)&config + from, zero, sizeof(config) - from);
	guest_start(&guest, dev, 0, VERSION_1 | RANGES);
	for (unsigned int t = 0; t < RTE_DIM(types); t++) {
		struct guest_req req = submit_pages(types[t], 0, 1, 0);

		guest_poll_until_done(&guest, 1);
		assert_int_equal(guest_status(&guest, &req), VIRTIO_BLK_S_UNSUPP);
	}
	guest_stop(&guest, 0);
}

#define PLAIN(test) cmocka_unit_test_setup_teardown(test, setup_plain, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ranges_end_where_the_disk_ends),
		cmocka_unit_test(test_ranges_near_the_end_of_numbers),
		cmocka_unit_test(test_flags_that_are_not_known_are_not_supported),
		cmocka_unit_test(test_ranges_are_whole_blocks),
		cmocka_unit_test(test_what_is_not_offered_is_not_supported),
		cmocka_unit_test(test_lists_of_every_shape),
		PLAIN(test_each_range_is_an_io_one_after_the_other),
		PLAIN(test_the_first_failure_is_the_end),
		PLAIN(test_nothing_is_done_when_one_range_is_wrong),
		PLAIN(test_the_list_is_read_once),
		PLAIN(test_an_empty_range_is_no_io),
		PLAIN(test_many_at_once_wait_for_room),
		PLAIN(test_many_wrong_ones_are_all_answered),
		PLAIN(test_a_full_driver_is_asked_again),
		PLAIN(test_ranges_and_reads_take_turns_of_a_full_driver),
		PLAIN(test_many_ranges_keep_no_read_from_a_full_driver),
		PLAIN(test_unmap_reaches_the_driver),
		cmocka_unit_test_setup_teardown(test_zeroes_are_durable_unless_the_guest_flushes,
				setup_cache, teardown),
		PLAIN(test_what_was_not_negotiated_is_not_supported),
		PLAIN(test_the_config_space_tells_what_the_driver_can),
		cmocka_unit_test_setup_teardown(test_what_the_driver_cannot_is_not_offered,
				setup_none, teardown),
	};
	struct vhub_loop *loop = guest_lcores_start();
	int failed;

	if (loop == NULL)
		return 99;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	guest_lcores_stop(loop);
	return failed;
}
