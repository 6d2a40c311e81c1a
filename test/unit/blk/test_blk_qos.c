/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Limits of a disk: how many requests and bytes come through in a time, on the real clock; with
 * bounds that hold however slow the machine is: never more than the limit allows for the time that
 * has passed, and all of it in the end.
 */
#include "guest.h"
#include "spy_driver.h"

#include <rte_cycles.h>

#include "blk_pvt.h"
#include "layout.h"

#define F(bit) (UINT64_C(1) << (bit))
#define VERSION_1 F(32)
#define RANGES \
	(F(VIRTIO_BLK_F_DISCARD) | F(VIRTIO_BLK_F_WRITE_ZEROES) | F(VIRTIO_BLK_F_SECURE_ERASE))
#define ONE sizeof(struct virtio_blk_discard_write_zeroes)

static struct guest guest;
static struct vhub_device *dev;

static int
setup_with(const char *args)
{
	spy_reset();
	guest_create(&guest);
	dev = guest_build_disk(args);
	return 0;
}

static int
setup_free(void **state)
{
	(void)state;
	return setup_with("driver=spy,queues=4");
}

/* A disk of 64 MiB whose ranges may be as large. */
static int
setup_large(void **state)
{
	(void)state;
	spy_reset();
	spy.capacity_bytes = 64 << 20;
	spy.range_max_bytes = 64 << 20;
	guest_create(&guest);
	dev = guest_build_disk("driver=spy,queues=4");
	return 0;
}

static int
setup_iops(void **state)
{
	(void)state;
	return setup_with("driver=spy,queues=4,iops=200,iops_burst=4");
}

static int
setup_bytes(void **state)
{
	(void)state;
	return setup_with("driver=spy,queues=4,bytes_per_s=400k,bytes_burst=4k");
}

static int
teardown(void **state)
{
	(void)state;
	vhub_device_destroy(dev);
	guest_destroy(&guest);
	return 0;
}

static void
submit(unsigned int ring, unsigned int n, uint32_t bytes)
{
	for (unsigned int i = 0; i < n; i++)
		guest_submit(&guest, ring, VIRTIO_BLK_T_IN, 0, bytes);
}

/*
 * Polls ring 0 until all `n` requests came back; at any time not more than `burst` and `rate` in a
 * second have. Returns the seconds that it took.
 */
static double
expect_rate(unsigned int n, double burst, double rate)
{
	uint64_t begin = rte_rdtsc();
	unsigned int done = 0;
	double seconds = 0;

	while (done < n) {
		guest_poll(&guest, 0);
		done += guest_done(&guest.rings[0], NULL, NULL);
		seconds = (double)(rte_rdtsc() - begin) / (double)rte_get_tsc_hz();
		assert_true(done <= burst + rate * seconds + 0.01);
		assert_true(seconds < 60);
	}
	return seconds;
}

static void
test_requests_come_at_the_rate_that_was_set(void **state)
{
	double seconds;

	(void)state;
	guest_start(&guest, dev, 0, VERSION_1);
	usleep(50000); /* all of the burst is there */
	submit(0, 20, 512);
	seconds = expect_rate(20, 4, 200);
	assert_true(seconds >= 16.0 / 200 - 0.001);
	guest_stop(&guest, 0);
}

static void
test_bytes_come_at_the_rate_that_was_set(void **state)
{
	double seconds;

	(void)state;
	guest_start(&guest, dev, 0, VERSION_1);
	usleep(50000);
	submit(0, 12, 8192);
	/* It runs ahead by a few requests, and waits for them. */
	seconds = expect_rate(12, 8, 50);
	assert_true(seconds >= (12 - 8) * 8192.0 / 409600 - 0.001);
	guest_stop(&guest, 0);
}

static void
test_what_is_held_stays_in_the_ring(void **state)
{
	struct vhub_blk_stats stats;
	struct vhub_blk_qos one = { .iops = 1 };
	char error[256];

	(void)state;
	assert_int_equal(vhub_blk_set_qos(dev, &one, error, sizeof(error)), 0);
	guest_start(&guest, dev, 0, VERSION_1);
	submit(0, 5, 512);
	for (unsigned int i = 0; i < 100; i++)
		guest_poll(&guest, 0);
	assert_true(guest.rings[0].vring.held);
	assert_true(spy.n_seen <= 1);
	assert_int_equal(vhub_virtq_in_flight(guest.rings[0].vring.vq), 0);
	assert_int_equal(vhub_blk_get_stats(dev, 0, &stats), 0);
	assert_int_equal(stats.held, 1);
	/* Let go, the rest comes at once. */
	one.iops = 0;
	assert_int_equal(vhub_blk_set_qos(dev, &one, error, sizeof(error)), 0);
	guest_poll(&guest, 0);
	assert_int_equal(spy.n_seen, 5);
	assert_false(guest.rings[0].vring.held);
	guest_stop(&guest, 0);
}

static void
test_a_disk_without_limits_holds_nothing(void **state)
{
	struct vhub_blk_stats stats;

	(void)state;
	guest_start(&guest, dev, 0, VERSION_1);
	submit(0, 12, 512);
	guest_poll(&guest, 0);
	assert_int_equal(spy.n_seen, 12);
	assert_int_equal(vhub_blk_get_stats(dev, 0, &stats), 0);
	assert_int_equal(stats.held, 0);
	guest_stop(&guest, 0);
}

/* Two rings of one lcore, both always full: each gets its part of a limit of a few at a time. */
static void
test_rings_share_a_limit(void **state)
{
	struct vhub_blk_qos few = { .iops = 400, .iops_burst = 1 };
	unsigned int done[2] = { 0 };
	char error[256];

	(void)state;
	assert_int_equal(vhub_blk_set_qos(dev, &few, error, sizeof(error)), 0);
	for (unsigned int i = 0; i < 2; i++) {
		guest_start(&guest, dev, i, VERSION_1);
		submit(i, 20, 512);
	}
	while (done[0] + done[1] < 20) {
		for (unsigned int i = 0; i < 2; i++) {
			guest_poll(&guest, i);
			done[i] += guest_done(&guest.rings[i], NULL, NULL);
		}
	}
	assert_in_range(done[0], 8, 12);
	/* A ring that takes nothing any more keeps nobody waiting. */
	guest.rings[0].vring.taking = false;
	while (done[1] < 20) {
		for (unsigned int i = 0; i < 2; i++) {
			guest_poll(&guest, i);
			done[i] += guest_done(&guest.rings[i], NULL, NULL);
		}
	}
	guest.rings[0].vring.taking = true;
	few.iops = 0;
	assert_int_equal(vhub_blk_set_qos(dev, &few, error, sizeof(error)), 0);
	guest_poll(&guest, 0);
	guest_poll(&guest, 1);
	guest_stop(&guest, 0);
	guest_stop(&guest, 1);
}

/* The same as if the TSC went back by a day. */
static void
set_a_day_ahead(struct vhub_meter *m)
{
	m->next += 86400 * rte_get_tsc_hz();
	m->moved_tsc += 86400 * rte_get_tsc_hz();
}

static void
test_a_clock_that_goes_back_begins_limits_anew(void **state)
{
	const struct vhub_blk_qos set = { .iops = 10,
		.iops_burst = 4,
		.bytes_per_s = 512,
		.bytes_burst = 512 };
	struct blk_qos *qos = &blk_dev_of(dev)->qos;
	char error[256];

	(void)state;
	assert_int_equal(vhub_blk_set_qos(dev, &set, error, sizeof(error)), 0);
	guest_start(&guest, dev, 0, VERSION_1);
	set_a_day_ahead(&qos->iops);
	set_a_day_ahead(&qos->bytes);
	submit(0, 4, 4096);
	guest_poll_until_done(&guest, 4);
	/* And anew is once. */
	assert_true(qos->bytes.next > rte_rdtsc());
	submit(0, 1, 512);
	for (unsigned int i = 0; i < 100; i++)
		guest_poll(&guest, 0);
	assert_true(guest.rings[0].vring.held);
	guest_stop(&guest, 0);
}

/* ---- ranges ---- */

static void
limit_bytes(uint64_t bytes_per_s)
{
	const struct vhub_blk_qos set = { .bytes_per_s = bytes_per_s };
	char error[256];

	assert_int_equal(vhub_blk_set_qos(dev, &set, error, sizeof(error)), 0);
}

/* `n` ranges of `sectors`, one behind the other. */
static struct guest_req
submit_ranges(unsigned int ring, uint32_t type, unsigned int n, uint32_t sectors)
{
	struct guest_req req = guest_submit(&guest, ring, type, 0, (uint32_t)(n * ONE));

	for (unsigned int i = 0; i < n; i++) {
		struct virtio_blk_discard_write_zeroes one = { .sector = i * (uint64_t)sectors,
			.num_sectors = sectors };

		memcpy(guest.mem + req.data_gpa + i * ONE, &one, ONE);
	}
	return req;
}

static void
poll_often(void)
{
	for (unsigned int i = 0; i < 100; i++)
		guest_poll(&guest, 0);
}

/* A debt of 64 KiB at 512 in a second lasts for two minutes. */
static void
test_zeroes_and_erasures_are_paid_as_writes_are(void **state)
{
	static const uint32_t types[] = { VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
		VIRTIO_BLK_T_SECURE_ERASE, VIRTIO_BLK_T_DISCARD };
	const struct vhub_meter *m = &blk_dev_of(dev)->qos.bytes;
	const uint32_t bytes = 64 << 10;

	(void)state;
	guest_start(&guest, dev, 0, VERSION_1 | RANGES);
	for (unsigned int i = 0; i < RTE_DIM(types); i++) {
		uint64_t from, to;

		limit_bytes(512);
		spy.n_seen = 0;
		if (types[i] == VIRTIO_BLK_T_OUT)
			guest_submit(&guest, 0, types[i], 0, bytes);
		else
			submit_ranges(0, types[i], 1, bytes / 512);
		from = rte_rdtsc() - m->burst_cycles;
		guest_poll_until_done(&guest, 1);
		to = rte_rdtsc();
		submit(0, 1, 512);
		if (types[i] == VIRTIO_BLK_T_DISCARD) {
			guest_poll_until_done(&guest, 1);
			assert_int_equal(spy.n_seen, 2);
			continue;
		}
		assert_true(m->next >= from + vhub_meter_cost(m, bytes));
		assert_true(m->next <= to + vhub_meter_cost(m, bytes));
		poll_often();
		assert_int_equal(spy.n_seen, 1);
		assert_true(guest.rings[0].vring.held);
		limit_bytes(0);
		guest_poll_until_done(&guest, 1);
	}
	guest_stop(&guest, 0);
}

/* The disk never owes more than a piece of what a guest wants to be zeroed. */
static void
test_large_ranges_are_paid_in_pieces(void **state)
{
	const struct vhub_meter *m = &blk_dev_of(dev)->qos.bytes;
	const uint32_t sectors = (2 * BLK_RANGES_PIECE_BYTES + 4096) / 512;
	struct vhub_blk_stats stats;
	struct guest_req req;
	uint64_t at = 0;

	(void)state;
	guest_start(&guest, dev, 0, VERSION_1 | RANGES);
	limit_bytes(512);
	req = submit_ranges(0, VIRTIO_BLK_T_WRITE_ZEROES, 2, sectors);
	poll_often();
	assert_int_equal(spy.n_seen, 1);
	assert_int_equal(spy.seen[0].len_bytes, BLK_RANGES_PIECE_BYTES);
	assert_true(m->next <= rte_rdtsc() + vhub_meter_cost(m, BLK_RANGES_PIECE_BYTES));
	assert_int_equal(guest_status(&guest, &req), GUEST_PENDING);
	limit_bytes(VHUB_BLK_QOS_MAX_BYTES);
	guest_poll_until_done(&guest, 1);
	assert_int_equal(guest_status(&guest, &req), VIRTIO_BLK_S_OK);
	assert_int_equal(spy.n_seen, 6);
	for (unsigned int i = 0; i < 6; i++) {
		assert_int_equal(spy.seen[i].op, VHUB_BLK_WRITE_ZEROES);
		assert_int_equal(spy.seen[i].offset_bytes, at);
		at += spy.seen[i].len_bytes;
	}
	assert_int_equal(at, 2 * 512 * sectors);
	assert_int_equal(vhub_blk_get_stats(dev, 0, &stats), 0);
	assert_int_equal(stats.op[VHUB_BLK_WRITE_ZEROES].requests, 1);
	assert_int_equal(stats.op[VHUB_BLK_WRITE_ZEROES].bytes, at);
	guest_stop(&guest, 0);
}

/* Whoever waits for a ring to end does not wait for its limits. */
static void
test_ranges_of_a_ring_that_drains_go_at_once(void **state)
{
	const uint64_t bytes = UINT64_C(8) * BLK_RANGES_PIECE_BYTES;

	(void)state;
	guest_start(&guest, dev, 0, VERSION_1 | RANGES);
	limit_bytes(1 << 20);
	submit_ranges(0, VIRTIO_BLK_T_WRITE_ZEROES, 1, (uint32_t)(bytes / 512));
	guest_poll(&guest, 0);
	vhub_virtq_replay_only(guest.rings[0].vring.vq, true);
	guest_poll_until_done(&guest, 1);
	/* What had begun as a piece, and the rest at once. */
	assert_int_equal(spy.n_seen, 2);
	vhub_virtq_replay_only(guest.rings[0].vring.vq, false);
	guest_stop(&guest, 0);
}

/* The 64 MiB that a ring zeroes while it drains keep its next life from the disk, for a minute at most. */
static void
test_the_disk_owes_what_a_drain_has_written(void **state)
{
	static const struct {
		uint64_t bytes_per_s;
		uint64_t owed_s;
	} cases[] = { { 4 << 20, 64 / 4 }, { 1 << 20, 60 } };
	const struct vhub_meter *m = &blk_dev_of(dev)->qos.bytes;
	const uint64_t hz = rte_get_tsc_hz();

	(void)state;
	for (unsigned int i = 0; i < RTE_DIM(cases); i++) {
		uint64_t from, to;

		guest_start(&guest, dev, 0, VERSION_1 | RANGES);
		limit_bytes(cases[i].bytes_per_s);
		from = rte_rdtsc() - m->burst_cycles;
		submit_ranges(0, VIRTIO_BLK_T_WRITE_ZEROES, 1, (64 << 20) / 512);
		guest_poll(&guest, 0);
		vhub_virtq_replay_only(guest.rings[0].vring.vq, true);
		guest_poll_until_done(&guest, 1);
		to = rte_rdtsc();
		guest_stop(&guest, 0);
		/* Of units that take whole cycles each, some cycles may be missing. */
		assert_true(m->next >= from + cases[i].owed_s * hz - hz / 1000);
		assert_true(m->next <= to + cases[i].owed_s * hz);
		guest_start(&guest, dev, 0, VERSION_1 | RANGES);
		submit(0, 1, 512);
		spy.n_seen = 0;
		poll_often();
		assert_int_equal(spy.n_seen, 0);
		limit_bytes(0);
		guest_poll_until_done(&guest, 1);
		guest_stop(&guest, 0);
	}
}

/* A guest can break its ring, and a front end disables one without a drain: it zeroes no faster by that. */
static void
test_ranges_of_a_ring_that_takes_nothing_wait(void **state)
{
	const uint32_t sectors = 8 * BLK_RANGES_PIECE_BYTES / 512;

	(void)state;
	for (unsigned int broken = 0; broken < 2; broken++) {
		struct guest_ring *r = &guest.rings[0];

		guest_start(&guest, dev, 0, VERSION_1 | RANGES);
		limit_bytes(4096);
		spy.n_seen = 0;
		submit_ranges(0, VIRTIO_BLK_T_WRITE_ZEROES, 1, sectors);
		guest_poll(&guest, 0);
		if (broken != 0)
			vhub_virtq_break(r->vring.vq, VHUB_VIRTQ_BAD_REQUEST);
		r->vring.taking = false;
		poll_often();
		assert_int_equal(spy.n_seen, 1);
		assert_int_equal(spy.seen[0].len_bytes, BLK_RANGES_PIECE_BYTES);
		assert_int_equal(vhub_virtq_in_flight(r->vring.vq), 1);
		/* A stop drains such a ring, too: the piece that waits goes, and the rest in one. */
		vhub_virtq_replay_only(r->vring.vq, true);
		poll_often();
		assert_int_equal(spy.n_seen, 3);
		assert_int_equal(spy.seen[2].len_bytes, 6 * BLK_RANGES_PIECE_BYTES);
		assert_int_equal(vhub_virtq_in_flight(r->vring.vq), 0);
		guest_stop(&guest, 0);
	}
}

static void
test_pieces_are_of_whole_units(void **state)
{
	(void)state;
	assert_int_equal(blk_ranges_piece_bytes(0), 1 << 20);
	assert_int_equal(blk_ranges_piece_bytes(4096), 1 << 20);
	assert_int_equal(blk_ranges_piece_bytes(12288), 86 * 12288);
	assert_int_equal(blk_ranges_piece_bytes(4 << 20), 4 << 20);
}

/* Neither keeps the other from the disk: both always have something to do. */
static void
test_ranges_and_reads_take_turns(void **state)
{
	unsigned int reads = 0, zeroes = 0, done = 0;

	(void)state;
	guest_start(&guest, dev, 0, VERSION_1 | RANGES);
	limit_bytes(1 << 20);
	blk_dev_of(dev)->qos.bytes.burst_cycles = rte_get_tsc_hz() / 1000;
	submit_ranges(0, VIRTIO_BLK_T_WRITE_ZEROES, 64, 8);
	submit(0, 8, 4096);
	while (reads + zeroes < 60) {
		unsigned int n;

		/* So long that both are due, and the ring is asked first. */
		usleep(20000);
		spy.n_seen = 0;
		guest_poll(&guest, 0);
		for (unsigned int i = 0; i < spy.n_seen; i++)
			*(spy.seen[i].op == VHUB_BLK_READ ? &reads : &zeroes) += 1;
		n = guest_done(&guest.rings[0], NULL, NULL);
		done += n;
		submit(0, n, 4096);
	}
	assert_int_equal(done, reads);
	assert_true(reads >= 20);
	assert_true(zeroes >= 8);
	limit_bytes(0);
	guest_poll_until_done(&guest, 9);
	guest_stop(&guest, 0);
}

/* ---- requests of a former life ---- */

/* Descriptors of the data and of the status, which all such requests share. */
#define AT_DATA (GUEST_RING_SIZE - 2)
#define AT_STATUS (GUEST_RING_SIZE - 1)
#define MOST_LEFT AT_DATA

/* Starts a ring with a region that says that `n` reads of so many bytes are in flight. */
static void
start_with_left(unsigned int index, uint16_t n, uint32_t bytes)
{
	static uint8_t part[1 << 13] __rte_cache_aligned;
	const struct virtio_blk_outhdr header = { .type = VIRTIO_BLK_T_IN };
	struct inflight_split *region = (struct inflight_split *)part;
	struct guest_ring *r = &guest.rings[index];
	uint8_t *hva = guest.table->regions[0].hva;
	struct vhub_virtq_config config = {
		.size = GUEST_RING_SIZE,
		.features = VERSION_1,
		.mem = guest.table,
		.call_fd = -1,
		.chain_bytes = dev->chain_bytes,
		.numa_node = -1,
		.inflight = part,
		.inflight_bytes = vhub_inflight_queue_bytes(GUEST_RING_SIZE, false),
	};
	uint64_t header_gpa;

	/* A life takes what the ones before do not need any more. */
	guest.next_gpa = index * (GUEST_BYTES / GUEST_RINGS);
	guest_start(&guest, dev, index, VERSION_1);
	header_gpa = guest_alloc(&guest, sizeof(header));
	memcpy(guest.mem + header_gpa, &header, sizeof(header));
	memset(part, 0, sizeof(part));
	assert_true(config.inflight_bytes <= sizeof(part));
	assert_int_equal(vhub_inflight_queue_init(part, sizeof(part), GUEST_RING_SIZE, false), 0);
	memset(r->used, 0, sizeof(*r->used));
	for (uint16_t i = 0; i < n; i++) {
		r->desc[i] = (struct guest_desc){ header_gpa, sizeof(header), GUEST_NEXT, AT_DATA };
		region->desc[i].inflight = 1;
		region->desc[i].counter = i + 1u;
	}
	r->desc[AT_DATA] = (struct guest_desc){ guest_alloc(&guest, bytes), bytes,
		GUEST_NEXT | GUEST_WRITE, AT_STATUS };
	r->desc[AT_STATUS] = (struct guest_desc){ guest_alloc(&guest, 1), 1, GUEST_WRITE, 0 };
	r->avail->idx = n;
	config.desc = hva + ((uint8_t *)r->desc - guest.mem);
	config.avail = hva + ((uint8_t *)r->avail - guest.mem);
	config.used = hva + ((uint8_t *)r->used - guest.mem);
	vhub_virtq_destroy(r->vring.vq);
	assert_int_equal(vhub_virtq_create(&config, &r->vring.vq), 0);
	assert_int_equal(vhub_virtq_to_replay(r->vring.vq), n);
}

static void
limit_iops(uint64_t iops, uint64_t burst)
{
	const struct vhub_blk_qos set = { .iops = iops, .iops_burst = burst };
	char error[256];

	assert_int_equal(vhub_blk_set_qos(dev, &set, error, sizeof(error)), 0);
}

/* What a ring has left is paid like anything else, and nothing comes back that was not paid. */
static void
test_requests_left_in_flight_are_paid(void **state)
{
	const struct vhub_meter *m = &blk_dev_of(dev)->qos.iops;
	uint64_t begin;

	(void)state;
	/* Of the burst only what time brings is there: an hour of it would be a gift. */
	limit_iops(10, 36000);
	begin = m->next;
	start_with_left(0, 3, 512);
	guest_poll_until_done(&guest, 3);
	assert_in_range(m->next, begin + vhub_meter_cost(m, 3) - 2,
			begin + vhub_meter_cost(m, 3) + 2);
	/* Turns that find nothing cost nothing, and bring nothing. */
	poll_often();
	assert_in_range(m->next, begin + vhub_meter_cost(m, 3) - 1000,
			begin + vhub_meter_cost(m, 3) + 2);
	guest_stop(&guest, 0);
}

/* An honest ring goes on at once after a crash, though none of it is due. */
static void
test_requests_left_in_flight_seldom_wait(void **state)
{
	(void)state;
	limit_iops(1000, 1);
	start_with_left(0, MOST_LEFT, 512);
	guest_poll(&guest, 0);
	assert_int_equal(spy.n_seen, MOST_LEFT);
	guest_poll_until_done(&guest, MOST_LEFT);
	guest_stop(&guest, 0);
}

/* Lives of a ring whose region always says that it has much in flight. Returns how many were served. */
static unsigned int
forge_lives(unsigned int n, bool drains)
{
	spy.n_seen = 0;
	for (unsigned int i = 0; i < n; i++) {
		unsigned int before = spy.n_seen;

		start_with_left(0, MOST_LEFT, 4096);
		vhub_virtq_replay_only(guest.rings[0].vring.vq, drains);
		poll_often();
		assert_int_equal(guest_done(&guest.rings[0], NULL, NULL), spy.n_seen - before);
		guest_stop(&guest, 0);
		/* The spy has room for a few lives. */
		assert_true(spy.n_seen + MOST_LEFT <= SPY_MAX);
	}
	return spy.n_seen;
}

/* What is allowed in the time that has passed, and so many seconds ahead. */
static uint64_t
allowed_since(uint64_t begin, uint64_t rate, uint64_t ahead_s)
{
	return (ahead_s + (rte_rdtsc() - begin) / rte_get_tsc_hz() + 1) * rate;
}

static void
test_a_forged_region_has_no_more_requests_than_the_limit(void **state)
{
	uint64_t begin = rte_rdtsc();

	(void)state;
	limit_iops(10, 1);
	assert_true(forge_lives(6, false) <= allowed_since(begin, 10, 1));
	/* Who waits for a drain does not wait for the limits, but not for ever either. */
	begin = rte_rdtsc();
	limit_iops(2, 1);
	assert_in_range(forge_lives(6, true), MOST_LEFT, allowed_since(begin, 2, 60));
	limit_iops(0, 0);
}

static void
test_a_forged_region_has_no_more_bytes_than_the_limit(void **state)
{
	(void)state;
	limit_bytes(512);
	assert_in_range(forge_lives(6, false), 1, 4);
	limit_bytes(4096);
	assert_in_range(forge_lives(6, true), MOST_LEFT, MOST_LEFT + 10);
	limit_bytes(0);
}

/* Where the disk owes more than they may be ahead they wait, and are served as soon as they may be. */
static void
test_requests_left_in_flight_wait_for_the_limit(void **state)
{
	(void)state;
	limit_iops(100, 1);
	blk_dev_of(dev)->qos.iops.next += 60 * rte_get_tsc_hz();
	start_with_left(0, MOST_LEFT, 512);
	poll_often();
	assert_int_equal(spy.n_seen, 0);
	assert_true(guest.rings[0].vring.held);
	limit_iops(0, 0);
	guest_poll_until_done(&guest, MOST_LEFT);
	assert_false(guest.rings[0].vring.held);
	guest_stop(&guest, 0);
}

static void
test_what_is_no_limit_is_refused(void **state)
{
	static const struct vhub_blk_qos wrong[] = {
		{ .iops = VHUB_BLK_QOS_MAX_IOPS + 1 },
		{ .bytes_per_s = 511 },
		{ .bytes_per_s = VHUB_BLK_QOS_MAX_BYTES + 1 },
		{ .iops_burst = UINT64_MAX },
		{ .bytes_burst = UINT64_MAX },
	};
	static const struct vhub_blk_qos most = { VHUB_BLK_QOS_MAX_IOPS, VHUB_BLK_QOS_MAX_BYTES,
		VHUB_BLK_QOS_MAX_IOPS, VHUB_BLK_QOS_MAX_BYTES };
	static const struct vhub_blk_qos odd = { 1, VHUB_BLK_QOS_MIN_BYTES, VHUB_BLK_QOS_MAX_IOPS,
		VHUB_BLK_QOS_MAX_BYTES };
	struct vhub_blk_qos now;
	char error[256];

	(void)state;
	for (unsigned int i = 0; i < RTE_DIM(wrong); i++) {
		assert_int_equal(vhub_blk_set_qos(dev, &wrong[i], error, sizeof(error)), -EINVAL);
		assert_non_null(strstr(error, "allowed"));
		assert_int_equal(vhub_blk_get_qos(dev, &now), 0);
		assert_int_equal(now.iops + now.bytes_per_s, 0);
	}
	/* The ends of what is allowed let requests through. */
	assert_int_equal(vhub_blk_set_qos(dev, &odd, error, sizeof(error)), 0);
	assert_int_equal(vhub_blk_set_qos(dev, &most, error, sizeof(error)), 0);
	assert_int_equal(vhub_blk_get_qos(dev, &now), 0);
	assert_memory_equal(&now, &most, sizeof(now));
	guest_start(&guest, dev, 0, VERSION_1);
	submit(0, 5, 512);
	expect_rate(5, 5, 1e9);
	guest_stop(&guest, 0);
}

#define FREE(test) cmocka_unit_test_setup_teardown(test, setup_free, teardown)
#define LARGE(test) cmocka_unit_test_setup_teardown(test, setup_large, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_requests_come_at_the_rate_that_was_set,
				setup_iops, teardown),
		cmocka_unit_test_setup_teardown(test_bytes_come_at_the_rate_that_was_set,
				setup_bytes, teardown),
		FREE(test_what_is_held_stays_in_the_ring),
		FREE(test_a_disk_without_limits_holds_nothing),
		FREE(test_rings_share_a_limit),
		FREE(test_a_clock_that_goes_back_begins_limits_anew),
		FREE(test_zeroes_and_erasures_are_paid_as_writes_are),
		LARGE(test_large_ranges_are_paid_in_pieces),
		LARGE(test_ranges_of_a_ring_that_drains_go_at_once),
		LARGE(test_the_disk_owes_what_a_drain_has_written),
		LARGE(test_ranges_of_a_ring_that_takes_nothing_wait),
		FREE(test_pieces_are_of_whole_units),
		FREE(test_ranges_and_reads_take_turns),
		FREE(test_requests_left_in_flight_are_paid),
		FREE(test_requests_left_in_flight_seldom_wait),
		FREE(test_a_forged_region_has_no_more_requests_than_the_limit),
		FREE(test_a_forged_region_has_no_more_bytes_than_the_limit),
		FREE(test_requests_left_in_flight_wait_for_the_limit),
		FREE(test_what_is_no_limit_is_refused),
	};
	struct vhub_loop *loop = guest_lcores_start();
	int failed;

	if (loop == NULL)
		return 99;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	guest_lcores_stop(loop);
	return failed;
}
