/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The whole blk device behind its ops, on rings of a guest made by hand: requests and their
 * statuses, rings that share a queue of the driver, drivers that are slow, full, stuck or wrong,
 * write-through and write-back, config space and counters. The test's thread is CTL and the lcore
 * in one.
 */
#include <rte_log.h>

#include "guest.h"
#include "spy_driver.h"

#include "blk_pvt.h"

#define F(bit) (UINT64_C(1) << (bit))
#define VERSION_1 F(32)
#define FLUSH F(VIRTIO_BLK_F_FLUSH)
#define WCE F(VIRTIO_BLK_F_CONFIG_WCE)
#define LOG_ALL F(VHUB_F_LOG_ALL)

static struct guest guest;
static struct vhub_device *dev;

static int
setup_with(const char *args)
{
	guest_create(&guest);
	dev = guest_build_disk(args);
	return 0;
}

/* A turn of the lcore: rings 0 .. n-1, which were started in this order. */
static void
turn(unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		guest_poll(&guest, i);
}

static int
setup_malloc(void **state)
{
	(void)state;
	return setup_with("driver=malloc,size=1M,queues=4");
}

static int
setup_spy(void **state)
{
	(void)state;
	spy_reset();
	return setup_with("driver=spy,queues=4");
}

static int
setup_spy_many(void **state)
{
	(void)state;
	spy_reset();
	return setup_with("driver=spy,queues=16");
}

static int
setup_spy_cache(void **state)
{
	(void)state;
	spy_reset();
	spy.volatile_cache = true;
	return setup_with("driver=spy,queues=4");
}

static int
setup_spy_write_through(void **state)
{
	(void)state;
	spy_reset();
	spy.volatile_cache = true;
	return setup_with("driver=spy,queues=4,writeback=off");
}

static int
teardown(void **state)
{
	(void)state;
	vhub_device_destroy(dev);
	guest_destroy(&guest);
	return 0;
}

/* ---- requests ---- */

static void
test_what_was_written_is_read(void **state)
{
	struct guest_req w, r;
	uint32_t len = 0;

	(void)state;
	guest_start(&guest, dev, 0, VERSION_1);
	w = guest_submit(&guest, 0, VIRTIO_BLK_T_OUT, 8, 4096);
	memset(guest.mem + w.data_gpa, 0x42, 4096);
	assert_true(guest_poll(&guest, 0) > 0);
	assert_int_equal(guest_done(&guest.rings[0], &len, NULL), 1);
	assert_int_equal(guest_status(&guest, &w), VIRTIO_BLK_S_OK);
	assert_int_equal(len, 1);

	r = guest_submit(&guest, 0, VIRTIO_BLK_T_IN, 8, 4096);
	guest_poll(&guest, 0);
	assert_int_equal(guest_done(&guest.rings[0], &len, NULL), 1);
	assert_int_equal(guest_status(&guest, &r), VIRTIO_BLK_S_OK);
	assert_int_equal(len, 4097);
	assert_memory_equal(guest.mem + w.data_gpa, guest.mem + r.data_gpa, 4096);
	assert_int_equal(guest_poll(&guest, 0), 0);
	guest_stop(&guest, 0);
}

static void
test_errors_are_answered_among_good_requests(void **state)
{
	static const struct {
		uint32_t type;
		uint64_t sector;
		uint32_t bytes;
		uint8_t status;
	} cases[] = {
		{ VIRTIO_BLK_T_IN, 0, 512, VIRTIO_BLK_S_OK },
		{ VIRTIO_BLK_T_IN, 2048, 512, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_OUT, UINT64_MAX, 512, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_OUT, 2047, 512, VIRTIO_BLK_S_OK },
		{ VIRTIO_BLK_T_IN, 0, 513, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_FLUSH, 0, 0, VIRTIO_BLK_S_OK },
		{ VIRTIO_BLK_T_GET_ID, 0, 20, VIRTIO_BLK_S_OK },
		{ VIRTIO_BLK_T_DISCARD, 0, 16, VIRTIO_BLK_S_UNSUPP },
		{ 77, 0, 512, VIRTIO_BLK_S_UNSUPP },
	};
	struct guest_req reqs[RTE_DIM(cases)];
	struct vhub_blk_stats stats;

	(void)state;
	guest_start(&guest, dev, 0, VERSION_1);
	for (unsigned int i = 0; i < RTE_DIM(cases); i++)
		reqs[i] = guest_submit(&guest, 0, cases[i].type, cases[i].sector, cases[i].bytes);
	guest_poll_until_done(&guest, RTE_DIM(cases));
	for (unsigned int i = 0; i < RTE_DIM(cases); i++)
		assert_int_equal(guest_status(&guest, &reqs[i]), cases[i].status);
	assert_memory_equal(guest.mem + reqs[6].data_gpa, "disk0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);

	assert_int_equal(vhub_blk_get_stats(dev, 0, &stats), 0);
	assert_int_equal(stats.op[VHUB_BLK_READ].requests, 3);
	assert_int_equal(stats.op[VHUB_BLK_READ].errors, 2);
	assert_int_equal(stats.op[VHUB_BLK_READ].bytes, 512);
	assert_int_equal(stats.op[VHUB_BLK_WRITE].requests, 2);
	assert_int_equal(stats.op[VHUB_BLK_WRITE].errors, 1);
	assert_int_equal(stats.op[VHUB_BLK_WRITE].bytes, 512);
	assert_int_equal(stats.op[VHUB_BLK_FLUSH].requests, 1);
	assert_int_equal(stats.op[VHUB_BLK_FLUSH].bytes, 0);
	/* Not negotiated. */
	assert_int_equal(stats.op[VHUB_BLK_DISCARD].errors, 1);
	assert_int_equal(stats.other_requests, 2);
	assert_int_equal(stats.other_errors, 1);
	assert_int_equal(stats.in_flight, 0);
	guest_stop(&guest, 0);

	/* Other queues have done nothing; there is no fifth one. */
	assert_int_equal(vhub_blk_get_stats(dev, 3, &stats), 0);
	assert_int_equal(stats.op[VHUB_BLK_READ].requests, 0);
	assert_int_equal(vhub_blk_get_stats(dev, 4, &stats), -EINVAL);
}

static void
test_no_place_for_a_status_breaks_the_ring(void **state)
{
	struct virtio_blk_outhdr header = { .type = VIRTIO_BLK_T_FLUSH };
	uint64_t gpa = guest_alloc(&guest, sizeof(header));
	struct guest_desc piece = { gpa, sizeof(header), 0, 0 };
	struct guest_req before;

	(void)state;
	memcpy(guest.mem + gpa, &header, sizeof(header));
	guest_start(&guest, dev, 0, VERSION_1);
	before = guest_submit(&guest, 0, VIRTIO_BLK_T_IN, 0, 512);
	guest_poll(&guest, 0);
	assert_int_equal(guest_status(&guest, &before), VIRTIO_BLK_S_OK);
	guest_add(&guest.rings[0], &piece, 1);
	guest_submit(&guest, 0, VIRTIO_BLK_T_IN, 0, 512);
	for (unsigned int i = 0; i < 10; i++)
		guest_poll(&guest, 0);
	assert_int_equal(vhub_virtq_broken(guest.rings[0].vring.vq), VHUB_VIRTQ_BAD_REQUEST);
	assert_int_equal(guest_done(&guest.rings[0], NULL, NULL), 1);
	/* The ring can be stopped all the same. */
	guest_stop(&guest, 0);
}

static void
test_a_ring_that_takes_nothing_is_left_alone(void **state)
{
	struct guest_req req;

	(void)state;
	guest_start(&guest, dev, 0, VERSION_1);
	guest.rings[0].vring.taking = false;
	req = guest_submit(&guest, 0, VIRTIO_BLK_T_IN, 0, 512);
	for (unsigned int i = 0; i < 5; i++)
		assert_int_equal(guest_poll(&guest, 0), 0);
	assert_int_equal(guest_status(&guest, &req), GUEST_PENDING);
	guest.rings[0].vring.taking = true;
	guest_poll_until_done(&guest, 1);
	assert_int_equal(guest_status(&guest, &req), VIRTIO_BLK_S_OK);
	guest_stop(&guest, 0);
}

static void
test_pages_that_were_written_are_logged(void **state)
{
	int fd = memfd_create("vhub-blk-log", MFD_CLOEXEC);
	struct vhub_dirty_log *log;
	struct guest_req r, w;
	uint64_t page;

	(void)state;
	assert_int_equal(ftruncate(fd, 4096), 0);
	assert_int_equal(vhub_dirty_log_create(fd, 0, 4096, NULL, &log), 0);
	close(fd);
	guest_start(&guest, dev, 0, VERSION_1);
	vhub_virtq_set_log(guest.rings[0].vring.vq, log, false, 0);
	guest.next_gpa = 1 << 20;
	r = guest_submit(&guest, 0, VIRTIO_BLK_T_IN, 0, 3 * 4096);
	guest.next_gpa = 2 << 20;
	w = guest_submit(&guest, 0, VIRTIO_BLK_T_OUT, 64, 3 * 4096);
	guest_poll_until_done(&guest, 2);
	/* The data read and the status; of a write the status alone. */
	for (page = r.data_gpa / 4096; page <= r.status_gpa / 4096; page++)
		assert_true((log->bits[page / 8] & 1u << page % 8) != 0);
	assert_true((log->bits[w.status_gpa / 4096 / 8] & 1u << w.status_gpa / 4096 % 8) != 0);
	page = w.data_gpa / 4096 + 1;
	assert_true((log->bits[page / 8] & 1u << page % 8) == 0);
	vhub_dirty_log_put(vhub_virtq_set_log(guest.rings[0].vring.vq, NULL, false, 0));
	guest_stop(&guest, 0);
	vhub_dirty_log_put(log);
}

/* Data and status in one piece: trimmed for the driver, and logged whole. */
static void
test_a_status_behind_data_in_one_page_is_logged(void **state)
{
	struct virtio_blk_outhdr header = { .type = VIRTIO_BLK_T_IN };
	int fd = memfd_create("vhub-blk-log", MFD_CLOEXEC);
	uint64_t header_gpa, gpa = (1 << 20) + 4096 - 512;
	struct guest_desc pieces[2];
	struct vhub_dirty_log *log;
	uint32_t len = 0;

	(void)state;
	assert_int_equal(ftruncate(fd, 4096), 0);
	assert_int_equal(vhub_dirty_log_create(fd, 0, 4096, NULL, &log), 0);
	close(fd);
	guest_start(&guest, dev, 0, VERSION_1);
	vhub_virtq_set_log(guest.rings[0].vring.vq, log, false, 0);
	header_gpa = guest_alloc(&guest, sizeof(header));
	memcpy(guest.mem + header_gpa, &header, sizeof(header));
	pieces[0] = (struct guest_desc){ header_gpa, sizeof(header), 0, 0 };
	pieces[1] = (struct guest_desc){ gpa, 513, GUEST_WRITE, 0 };
	guest.mem[gpa + 512] = GUEST_PENDING;
	guest_add(&guest.rings[0], pieces, 2);
	guest_poll(&guest, 0);
	assert_int_equal(guest_done(&guest.rings[0], &len, NULL), 1);
	assert_int_equal(len, 513);
	assert_int_equal(guest.mem[gpa + 512], VIRTIO_BLK_S_OK);
	assert_true((log->bits[gpa / 4096 / 8] & 1u << gpa / 4096 % 8) != 0);
	gpa += 512;
	assert_true((log->bits[gpa / 4096 / 8] & 1u << gpa / 4096 % 8) != 0);
	vhub_dirty_log_put(vhub_virtq_set_log(guest.rings[0].vring.vq, NULL, false, 0));
	guest_stop(&guest, 0);
	vhub_dirty_log_put(log);
}

/* ---- the driver's side ---- */

static void
test_what_is_not_accepted_comes_again_in_order(void **state)
{
	struct guest_req reqs[12];

	(void)state;
	guest_start(&guest, dev, 0, VERSION_1);
	spy.accept = 3;
	spy.release = 0;
	for (unsigned int i = 0; i < 12; i++)
		reqs[i] = guest_submit(&guest, 0, VIRTIO_BLK_T_FLUSH, 0, 0);
	guest_poll(&guest, 0);
	assert_int_equal(spy.n_seen, 3);
	assert_int_equal(vhub_virtq_in_flight(guest.rings[0].vring.vq), 12);
	/* While some wait, nothing new is taken from the ring. */
	reqs[0] = guest_submit(&guest, 0, VIRTIO_BLK_T_IN, 5, 512);
	for (unsigned int i = 0; i < 5; i++)
		guest_poll(&guest, 0);
	assert_int_equal(spy.n_seen, 3);
	assert_int_equal(vhub_virtq_in_flight(guest.rings[0].vring.vq), 12);
	spy.accept = 4;
	guest_poll(&guest, 0);
	assert_int_equal(spy.n_seen, 7);
	spy.accept = SPY_MAX;
	spy.release = SPY_MAX;
	guest_poll_until_done(&guest, 13);
	assert_int_equal(spy.n_seen, 13);
	assert_int_equal(spy.seen[12].op, VHUB_BLK_READ);
	assert_int_equal(guest_status(&guest, &reqs[0]), VIRTIO_BLK_S_OK);
	guest_stop(&guest, 0);
}

static void
test_the_order_of_the_guest_is_kept(void **state)
{
	(void)state;
	guest_start(&guest, dev, 0, VERSION_1);
	spy.accept = 1;
	spy.release = 0;
	for (unsigned int i = 0; i < 16; i++)
		guest_submit(&guest, 0, VIRTIO_BLK_T_IN, i, 512);
	for (unsigned int i = 0; i < 16; i++) {
		spy.accept = 1;
		guest_poll(&guest, 0);
	}
	assert_int_equal(spy.n_seen, 16);
	for (unsigned int i = 0; i < 16; i++)
		assert_int_equal(spy.seen[i].offset_bytes, i * 512);
	spy.release = SPY_MAX;
	spy.newest_first = true;
	guest_poll_until_done(&guest, 16);
	guest_stop(&guest, 0);
}

static void
test_errors_of_the_driver_are_io_errors(void **state)
{
	struct guest_req req;
	uint32_t len = 0;

	(void)state;
	guest_start(&guest, dev, 0, VERSION_1);
	spy.result = -EIO;
	req = guest_submit(&guest, 0, VIRTIO_BLK_T_IN, 0, 1024);
	guest_poll(&guest, 0);
	assert_int_equal(guest_done(&guest.rings[0], &len, NULL), 1);
	assert_int_equal(guest_status(&guest, &req), VIRTIO_BLK_S_IOERR);
	assert_int_equal(len, 1025);
	spy.result = -ENOSPC;
	req = guest_submit(&guest, 0, VIRTIO_BLK_T_OUT, 0, 1024);
	guest_poll(&guest, 0);
	assert_int_equal(guest_status(&guest, &req), VIRTIO_BLK_S_IOERR);
	spy.result = 0;
	req = guest_submit(&guest, 0, VIRTIO_BLK_T_OUT, 0, 1024);
	guest_poll(&guest, 0);
	assert_int_equal(guest_status(&guest, &req), VIRTIO_BLK_S_OK);
	guest_stop(&guest, 0);
}

static void
test_rings_of_one_lcore_share_a_queue(void **state)
{
	struct guest_req a, b;

	(void)state;
	guest_start(&guest, dev, 0, VERSION_1);
	guest_start(&guest, dev, 1, VERSION_1);
	guest_start(&guest, dev, 2, VERSION_1);
	assert_int_equal(spy.n_gets, 1);
	spy.release = 0;
	a = guest_submit(&guest, 0, VIRTIO_BLK_T_IN, 0, 512);
	b = guest_submit(&guest, 1, VIRTIO_BLK_T_IN, 1, 512);
	guest_poll(&guest, 0);
	guest_poll(&guest, 1);
	guest_poll(&guest, 2);
	assert_int_equal(spy.n_in_flight, 2);
	/* The third ring's turn reaps for both others; each request goes back to its own ring. */
	spy.release = SPY_MAX;
	assert_int_equal(guest_poll(&guest, 2), 2);
	assert_int_equal(guest_status(&guest, &a), VIRTIO_BLK_S_OK);
	assert_int_equal(guest_status(&guest, &b), VIRTIO_BLK_S_OK);
	assert_int_equal(guest_done(&guest.rings[0], NULL, NULL), 1);
	assert_int_equal(guest_done(&guest.rings[1], NULL, NULL), 1);
	assert_int_equal(guest_done(&guest.rings[2], NULL, NULL), 0);
	guest_stop(&guest, 0);
	guest_stop(&guest, 2);
	assert_int_equal(spy.n_puts, 0);
	b = guest_submit(&guest, 1, VIRTIO_BLK_T_IN, 1, 512);
	guest_poll(&guest, 1);
	assert_int_equal(guest_status(&guest, &b), VIRTIO_BLK_S_OK);
	guest_stop(&guest, 1);
	assert_int_equal(spy.n_puts, 1);
}

/* A driver that works in its reap, as malloc does, works once for the disk, not once a ring. */
static void
test_a_turn_of_all_rings_reaps_once(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 4; i++)
		guest_start(&guest, dev, i, VERSION_1);
	turn(4);
	assert_int_equal(spy.n_reaps, 1);
	/* What was submitted in a turn may come back in that turn. */
	for (unsigned int i = 0; i < 4; i++)
		guest_submit(&guest, i, VIRTIO_BLK_T_IN, 0, 512);
	turn(4);
	assert_int_equal(spy.n_reaps, 2);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(guest_done(&guest.rings[i], NULL, NULL), 1);
	/* Whichever ring goes, one of the others does it. */
	guest_stop(&guest, 3);
	turn(3);
	assert_int_equal(spy.n_reaps, 3);
	guest_stop(&guest, 1);
	guest_poll(&guest, 0);
	guest_poll(&guest, 2);
	assert_int_equal(spy.n_reaps, 4);
	guest_stop(&guest, 2);
	turn(1);
	assert_int_equal(spy.n_reaps, 5);
	guest_stop(&guest, 0);
	assert_int_equal(spy.n_puts, 1);
}

static void
submit_flushes(unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		guest_submit(&guest, 0, VIRTIO_BLK_T_FLUSH, 0, 0);
}

/* Bursts grow while the guest has as many, and begin small again after that. */
static void
test_bursts_grow_while_they_are_full(void **state)
{
	(void)state;
	guest_start(&guest, dev, 0, VERSION_1);
	submit_flushes(2 * BLK_FIRST_BURST);
	guest_poll(&guest, 0);
	assert_int_equal(spy.n_seen, BLK_FIRST_BURST);
	submit_flushes(BLK_FIRST_BURST);
	guest_poll(&guest, 0);
	assert_int_equal(spy.n_seen, 3 * BLK_FIRST_BURST);
	guest_poll(&guest, 0);
	submit_flushes(2 * BLK_FIRST_BURST);
	guest_poll(&guest, 0);
	assert_int_equal(spy.n_seen, 4 * BLK_FIRST_BURST);
	guest_poll_until_done(&guest, 5 * BLK_FIRST_BURST);
	guest_stop(&guest, 0);
}

/* More rings do not let a guest put more into one turn: each gets its share of it. */
static void
test_rings_share_a_turn(void **state)
{
	const unsigned int n = GUEST_RINGS, each = 20;

	(void)state;
	spy.release = 0;
	for (unsigned int i = 0; i < n; i++) {
		guest_start(&guest, dev, i, VERSION_1);
		for (unsigned int j = 0; j < each; j++)
			guest_submit(&guest, i, VIRTIO_BLK_T_FLUSH, 0, 0);
	}
	turn(n);
	for (unsigned int i = 0; i < n; i++)
		assert_int_equal(vhub_virtq_in_flight(guest.rings[i].vring.vq),
				4 * VHUB_VIRTQ_BURST / n);
	spy.release = SPY_MAX;
	for (unsigned int i = 0; i < 10; i++)
		turn(n);
	for (unsigned int i = 0; i < n; i++) {
		assert_int_equal(guest_done(&guest.rings[i], NULL, NULL), each);
		guest_stop(&guest, i);
	}
}

/* A full driver takes from the rings in the order of their asking, not from the first for ever. */
static void
test_a_full_driver_starves_no_ring(void **state)
{
	unsigned int seen[3] = { 0 };

	(void)state;
	for (unsigned int i = 0; i < 3; i++)
		guest_start(&guest, dev, i, VERSION_1);
	spy.accept = 0;
	for (unsigned int round = 0; round < 30; round++) {
		/* Two for each ring, room for one: by the offset it is told which ring's it was. */
		for (unsigned int i = 0; i < 3; i++) {
			if (vhub_virtq_in_flight(guest.rings[i].vring.vq) == 0) {
				guest_submit(&guest, i, VIRTIO_BLK_T_IN, i, 512);
				guest_submit(&guest, i, VIRTIO_BLK_T_IN, i, 512);
			}
		}
		spy.accept = 1;
		turn(3);
	}
	assert_int_equal(spy.n_seen, 30);
	for (unsigned int i = 0; i < 30; i++)
		seen[spy.seen[i].offset_bytes / 512]++;
	for (unsigned int i = 0; i < 3; i++)
		assert_in_range(seen[i], 9, 11);
	spy.accept = SPY_MAX;
	for (unsigned int i = 0; i < 3; i++)
		turn(3);
	for (unsigned int i = 0; i < 3; i++)
		guest_stop(&guest, i);
}

static void
test_each_lcore_has_a_queue_of_its_own(void **state)
{
	(void)state;
	guest_start(&guest, dev, 0, VERSION_1);
	guest_prepare(&guest, dev, 1, VERSION_1, vhub_lcore_at(1));
	assert_int_equal(dev->ops->queue_start(&guest.rings[1].vring), 0);
	assert_int_equal(spy.n_gets, 2);
	guest_stop(&guest, 0);
	assert_int_equal(spy.n_puts, 1);
	guest_stop(&guest, 1);
	assert_int_equal(spy.n_puts, 2);
}

static void
test_a_queue_that_cannot_be_got_fails_the_start(void **state)
{
	(void)state;
	spy.queue_get_result = -ENOMEM;
	guest_prepare(&guest, dev, 0, VERSION_1, vhub_lcore_at(0));
	assert_int_equal(dev->ops->queue_start(&guest.rings[0].vring), -ENOMEM);
	guest_release(&guest.rings[0]);
	spy.queue_get_result = 0;
	guest_start(&guest, dev, 0, VERSION_1);
	assert_int_equal(spy.n_gets, 1);
	guest_stop(&guest, 0);
	assert_int_equal(spy.n_puts, 1);
}

static void
test_a_ring_beyond_the_last_is_refused(void **state)
{
	struct vhub_vring vring = { .dev = dev, .index = 4, .lcore = vhub_lcore_at(0) };

	(void)state;
	assert_int_equal(dev->ops->queue_prepare(dev, &vring), -EINVAL);
}

/* ---- sleeping and stuck storage ---- */

static void
test_arm_asks_the_driver(void **state)
{
	struct vhub_vring *vring = &guest.rings[0].vring;

	(void)state;
	guest_start(&guest, dev, 0, VERSION_1);
	spy.release = 0;
	guest_submit(&guest, 0, VIRTIO_BLK_T_IN, 0, 512);
	guest_poll(&guest, 0);
	assert_int_equal(dev->ops->queue_arm(vring), 0);
	spy.arm_result = -EAGAIN;
	assert_int_equal(dev->ops->queue_arm(vring), -EAGAIN);
	spy.arm_result = 0;
	/* What waits for the driver is retried by turns, so there must be turns. */
	spy.accept = 0;
	guest_submit(&guest, 0, VIRTIO_BLK_T_IN, 0, 512);
	guest_poll(&guest, 0);
	assert_int_equal(dev->ops->queue_arm(vring), -EAGAIN);
	spy.accept = SPY_MAX;
	spy.release = SPY_MAX;
	guest_poll_until_done(&guest, 2);
	guest_stop(&guest, 0);
}

static void
test_a_driver_that_cannot_wake_keeps_the_lcore_awake(void **state)
{
	(void)state;
	setup_with("driver=null,latency_us=100000");
	guest_start(&guest, dev, 0, VERSION_1);
	guest_submit(&guest, 0, VIRTIO_BLK_T_IN, 0, 512);
	guest_poll(&guest, 0);
	assert_int_equal(dev->ops->queue_arm(&guest.rings[0].vring), -ENOTSUP);
	guest_poll_until_done(&guest, 0);
	while (vhub_virtq_in_flight(guest.rings[0].vring.vq) != 0)
		guest_poll(&guest, 0);
	guest_stop(&guest, 0);
	teardown(NULL);
}

static void
test_stuck_storage_is_named(void **state)
{
	struct vhub_blk_stats stats;
	char text[128];

	(void)state;
	guest_start(&guest, dev, 0, VERSION_1);
	guest_start(&guest, dev, 1, VERSION_1);
	spy.release = 0;
	guest_submit(&guest, 0, VIRTIO_BLK_T_IN, 0, 512);
	guest_submit(&guest, 0, VIRTIO_BLK_T_IN, 0, 512);
	guest_submit(&guest, 1, VIRTIO_BLK_T_FLUSH, 0, 0);
	for (unsigned int i = 0; i < 10; i++)
		turn(2);
	assert_true(dev->ops->describe(dev, text, sizeof(text)) > 0);
	assert_string_equal(text, "disk0: a test's hand, 3 requests");
	assert_int_equal(vhub_blk_get_stats(dev, 0, &stats), 0);
	assert_int_equal(stats.in_flight, 2);
	spy.release = 2;
	turn(2);
	dev->ops->describe(dev, text, sizeof(text));
	assert_string_equal(text, "disk0: a test's hand, 1 request");
	spy.release = 1;
	turn(2);
	dev->ops->describe(dev, text, 6);
	assert_string_equal(text, "disk0");
	guest_stop(&guest, 0);
	guest_stop(&guest, 1);
}

/* ---- write-through and write-back ---- */

static uint8_t
flags_of_a_write(uint64_t features)
{
	guest_start(&guest, dev, 0, features);
	guest_submit(&guest, 0, VIRTIO_BLK_T_OUT, 0, 512);
	guest_submit(&guest, 0, VIRTIO_BLK_T_IN, 0, 512);
	guest_submit(&guest, 0, VIRTIO_BLK_T_FLUSH, 0, 0);
	guest_poll_until_done(&guest, 3);
	guest_stop(&guest, 0);
	/* Only writes can be durable. */
	assert_int_equal(spy.seen[spy.n_seen - 2].flags, 0);
	assert_int_equal(spy.seen[spy.n_seen - 1].flags, 0);
	return spy.seen[spy.n_seen - 3].flags;
}

static void
set_wce(uint8_t value)
{
	assert_int_equal(dev->ops->config_write(dev, BLK_CONFIG_WCE, &value, 1, false), 0);
}

static void
test_writes_are_durable_unless_the_guest_flushes(void **state)
{
	(void)state;
	assert_int_equal(dev->ops->ack_features(dev, VERSION_1), 0);
	assert_int_equal(flags_of_a_write(VERSION_1), VHUB_BLK_IO_FUA);
	assert_int_equal(dev->ops->ack_features(dev, VERSION_1 | FLUSH), 0);
	assert_int_equal(flags_of_a_write(VERSION_1 | FLUSH), 0);
	assert_int_equal(dev->ops->ack_features(dev, VERSION_1 | WCE), 0);
	assert_int_equal(flags_of_a_write(VERSION_1 | WCE), VHUB_BLK_IO_FUA);
	assert_int_equal(dev->ops->ack_features(dev, VERSION_1 | WCE | FLUSH), 0);
	set_wce(1);
	assert_int_equal(flags_of_a_write(VERSION_1 | WCE | FLUSH), 0);
	set_wce(0);
	assert_int_equal(flags_of_a_write(VERSION_1 | WCE | FLUSH), VHUB_BLK_IO_FUA);
}

static void
test_write_back_can_be_switched_on_a_running_ring(void **state)
{
	(void)state;
	assert_int_equal(dev->ops->ack_features(dev, VERSION_1 | WCE | FLUSH), 0);
	guest_start(&guest, dev, 0, VERSION_1 | WCE | FLUSH);
	for (unsigned int i = 0; i < 6; i++) {
		set_wce(i % 2 == 0);
		guest_submit(&guest, 0, VIRTIO_BLK_T_OUT, 0, 512);
		guest_poll_until_done(&guest, 1);
		assert_int_equal(spy.seen[i].flags, i % 2 == 0 ? 0 : VHUB_BLK_IO_FUA);
	}
	guest_stop(&guest, 0);
}

/* The option decides until the guest does; a guest that knows of no switch is written through for. */
static void
test_write_through_may_be_where_it_begins(void **state)
{
	(void)state;
	assert_int_equal(dev->ops->ack_features(dev, VERSION_1 | FLUSH), 0);
	assert_int_equal(flags_of_a_write(VERSION_1 | FLUSH), VHUB_BLK_IO_FUA);
	assert_int_equal(dev->ops->ack_features(dev, VERSION_1 | WCE | FLUSH), 0);
	assert_int_equal(flags_of_a_write(VERSION_1 | WCE | FLUSH), VHUB_BLK_IO_FUA);
	set_wce(1);
	assert_int_equal(flags_of_a_write(VERSION_1 | WCE | FLUSH), 0);
	dev->ops->reset(dev);
	assert_int_equal(dev->ops->ack_features(dev, VERSION_1 | WCE | FLUSH), 0);
	assert_int_equal(flags_of_a_write(VERSION_1 | WCE | FLUSH), VHUB_BLK_IO_FUA);
}

static void
test_without_a_cache_nothing_need_be_durable(void **state)
{
	(void)state;
	assert_int_equal(flags_of_a_write(VERSION_1), 0);
	assert_int_equal(flags_of_a_write(VERSION_1 | WCE | FLUSH), 0);
}

/* ---- config space and the rest of CTL ---- */

static struct virtio_blk_config
config_now(void)
{
	struct virtio_blk_config config;

	assert_int_equal(dev->ops->config_read(dev, 0, &config, sizeof(config)), 0);
	return config;
}

static void
test_the_config_space_tells_the_disk(void **state)
{
	struct virtio_blk_config config = config_now();
	uint8_t whole[BLK_CONFIG_BYTES], zero[BLK_CONFIG_BYTES] = { 0 }, part[16];

	(void)state;
	assert_int_equal(config.capacity, 2048);
	assert_int_equal(config.size_max, VHUB_BLK_SIZE_MAX_BYTES);
	assert_int_equal(config.seg_max, VHUB_BLK_SEG_MAX);
	assert_int_equal(config.blk_size, 512);
	assert_int_equal(config.physical_block_exp, 3);
	assert_int_equal(config.alignment_offset, 0);
	assert_int_equal(config.min_io_size, 8);
	assert_int_equal(config.opt_io_size, 128);
	assert_int_equal(config.wce, 1);
	assert_int_equal(config.num_queues, 4);
	assert_int_equal(dev->config_bytes, BLK_CONFIG_BYTES);
	assert_int_equal(dev->ops->config_read(dev, 0, whole, sizeof(whole)), 0);
	/* Fields of features that are not offered read as zero. */
	assert_memory_equal(whole + sizeof(config), zero, BLK_CONFIG_BYTES - sizeof(config));
	for (uint32_t offset = 0; offset + sizeof(part) <= BLK_CONFIG_BYTES; offset += 7) {
		assert_int_equal(dev->ops->config_read(dev, offset, part, sizeof(part)), 0);
		assert_memory_equal(part, whole + offset, sizeof(part));
	}
	assert_int_equal(dev->ops->config_read(dev, BLK_CONFIG_BYTES, part, 1), -EINVAL);
	assert_int_equal(dev->ops->config_read(dev, UINT32_MAX, part, 2), -EINVAL);
}

static void
test_features_are_those_that_are_served(void **state)
{
	uint64_t expected = VHUB_VIRTQ_FEATURES | F(VIRTIO_BLK_F_SIZE_MAX) |
			F(VIRTIO_BLK_F_SEG_MAX) | F(VIRTIO_BLK_F_BLK_SIZE) | FLUSH |
			F(VIRTIO_BLK_F_TOPOLOGY) | WCE | F(VIRTIO_BLK_F_MQ) |
			F(VIRTIO_BLK_F_DISCARD) | F(VIRTIO_BLK_F_WRITE_ZEROES) |
			F(VIRTIO_BLK_F_SECURE_ERASE);

	(void)state;
	assert_int_equal(dev->features, expected);
}

static void
test_a_guest_may_write_one_field(void **state)
{
	uint8_t before[BLK_CONFIG_BYTES], after[BLK_CONFIG_BYTES], pair[2], byte = 0;

	(void)state;
	assert_int_equal(dev->ops->ack_features(dev, VERSION_1 | FLUSH), 0);
	assert_int_equal(dev->ops->config_write(dev, BLK_CONFIG_WCE, &byte, 1, false), -EPERM);
	assert_int_equal(dev->ops->ack_features(dev, VERSION_1 | FLUSH | WCE), 0);
	assert_int_equal(dev->ops->config_read(dev, 0, before, sizeof(before)), 0);
	for (uint32_t offset = 0; offset < BLK_CONFIG_BYTES; offset++) {
		if (offset != BLK_CONFIG_WCE)
			assert_int_equal(dev->ops->config_write(dev, offset, &byte, 1, false),
					-EPERM);
		if (offset + 2 > BLK_CONFIG_BYTES)
			continue;
		/* Of two bytes neither is the field, or the other one is not what is there. */
		memcpy(pair, before + offset, sizeof(pair));
		pair[offset == BLK_CONFIG_WCE] ^= 0x40;
		assert_int_not_equal(dev->ops->config_write(dev, offset, pair, 2, false), 0);
	}
	byte = 2;
	assert_int_equal(dev->ops->config_write(dev, BLK_CONFIG_WCE, &byte, 1, false), -EINVAL);
	assert_int_equal(dev->ops->config_write(dev, BLK_CONFIG_BYTES, &byte, 1, false), -EINVAL);
	assert_int_equal(dev->ops->config_write(dev, UINT32_MAX, &byte, 1, false), -EINVAL);
	assert_int_equal(dev->ops->config_read(dev, 0, after, sizeof(after)), 0);
	assert_memory_equal(before, after, sizeof(before));
	set_wce(0);
	assert_int_equal(config_now().wce, 0);
	set_wce(1);
	assert_int_equal(config_now().wce, 1);
}

/* As from a front end with registers: what is read beside it is written back. */
static void
test_the_field_may_be_written_with_its_neighbours(void **state)
{
	uint8_t before[BLK_CONFIG_BYTES], after[BLK_CONFIG_BYTES];
	uint8_t *wce = &before[BLK_CONFIG_WCE];

	(void)state;
	assert_int_equal(dev->ops->ack_features(dev, VERSION_1 | FLUSH | WCE), 0);
	assert_int_equal(dev->ops->config_read(dev, 0, before, sizeof(before)), 0);
	for (uint32_t from = 0; from <= BLK_CONFIG_WCE; from += 8) {
		*wce = !*wce;
		assert_int_equal(dev->ops->config_write(dev, from, before + from,
						 BLK_CONFIG_WCE + 4 - from, false),
				0);
		assert_int_equal(dev->ops->config_read(dev, 0, after, sizeof(after)), 0);
		assert_memory_equal(before, after, sizeof(before));
	}
	*wce = 2;
	assert_int_equal(dev->ops->config_write(dev, BLK_CONFIG_WCE, wce, 4, false), -EINVAL);
}

static void
test_a_migration_may_tell_what_is_so(void **state)
{
	uint8_t config[BLK_CONFIG_BYTES];

	(void)state;
	assert_int_equal(dev->ops->config_read(dev, 0, config, sizeof(config)), 0);
	config[BLK_CONFIG_WCE] = 0;
	assert_int_equal(dev->ops->config_write(dev, 0, config, sizeof(config), true), 0);
	assert_int_equal(config_now().wce, 0);
	config[BLK_CONFIG_WCE] = 1;
	config[0] ^= 1;
	assert_int_equal(dev->ops->config_write(dev, 0, config, sizeof(config), true), -EINVAL);
	assert_int_equal(config_now().wce, 0);
	config[0] ^= 1;
	config[BLK_CONFIG_WCE] = 7;
	assert_int_equal(dev->ops->config_write(dev, 0, config, sizeof(config), true), -EINVAL);
	config[BLK_CONFIG_WCE] = 1;
	assert_int_equal(dev->ops->config_write(dev, 0, config, 60, true), 0);
	assert_int_equal(config_now().wce, 1);
}

static void
test_write_back_without_flush_begins_as_write_through(void **state)
{
	(void)state;
	assert_int_equal(config_now().wce, 1);
	assert_int_equal(dev->ops->ack_features(dev, VERSION_1 | WCE), 0);
	assert_int_equal(config_now().wce, 0);
	/* Features that are told again, for the log, begin nothing. */
	set_wce(1);
	assert_int_equal(dev->ops->ack_features(dev, VERSION_1 | WCE | LOG_ALL), 0);
	assert_int_equal(config_now().wce, 1);
}

/* Before its features are known, of which two are needed for the choice to mean anything. */
static void
test_a_driver_that_chooses_early(void **state)
{
	static const struct {
		uint64_t features;
		uint8_t begins, chosen, reads;
		uint8_t flags; /* of a write */
	} cases[] = {
		{ FLUSH | WCE, 1, 0, 0, VHUB_BLK_IO_FUA },
		{ FLUSH | WCE, 0, 1, 1, 0 },
		{ WCE, 1, 1, 0, VHUB_BLK_IO_FUA },
		{ FLUSH, 1, 0, 0, 0 },
		{ FLUSH, 0, 1, 1, VHUB_BLK_IO_FUA },
		{ 0, 0, 1, 1, VHUB_BLK_IO_FUA },
	};

	(void)state;
	for (unsigned int i = 0; i < RTE_DIM(cases); i++) {
		/* What is left of the driver before it. */
		assert_int_equal(dev->ops->ack_features(dev, VERSION_1 | FLUSH), 0);
		dev->ops->set_running(dev, true);
		dev->ops->set_running(dev, false);
		blk_dev_of(dev)->config[BLK_CONFIG_WCE] = cases[i].begins;
		blk_dev_of(dev)->wce = cases[i].begins;
		set_wce(cases[i].chosen);
		assert_int_equal(dev->ops->ack_features(dev, VERSION_1 | cases[i].features), 0);
		assert_int_equal(flags_of_a_write(VERSION_1 | cases[i].features), cases[i].flags);
		assert_int_equal(config_now().wce, cases[i].reads);
	}
}

static void
test_a_reset_keeps_write_through(void **state)
{
	uint8_t byte = 0;

	(void)state;
	assert_int_equal(dev->ops->ack_features(dev, VERSION_1 | FLUSH | WCE), 0);
	dev->ops->reset(dev);
	assert_int_equal(config_now().wce, 1);
	assert_int_equal(dev->ops->ack_features(dev, VERSION_1 | FLUSH | WCE), 0);
	set_wce(0);
	/* A front end resets the disk under a guest that goes on, and does not tell the field again. */
	dev->ops->reset(dev);
	assert_int_equal(config_now().wce, 0);
	/* It forgets what was negotiated. */
	assert_int_equal(dev->ops->ack_features(dev, VERSION_1 | FLUSH), 0);
	assert_int_equal(dev->ops->config_write(dev, BLK_CONFIG_WCE, &byte, 1, false), -EPERM);
	dev->ops->reset(dev);
	assert_int_equal(dev->ops->config_write(dev, BLK_CONFIG_WCE, &byte, 1, false), 0);
	assert_int_equal(dev->ops->ack_features(dev, VERSION_1 | FLUSH | WCE), 0);
	assert_int_equal(config_now().wce, 0);
	assert_int_equal(flags_of_a_write(VERSION_1 | FLUSH | WCE), VHUB_BLK_IO_FUA);
	set_wce(1);
	dev->ops->reset(dev);
	assert_int_equal(config_now().wce, 1);
}

/* What is kept elsewhere makes the disk write through; nothing that is there ends that. */
static void
test_write_through_is_kept_and_recalled(void **state)
{
	uint8_t back, through;

	(void)state;
	assert_int_equal(dev->ops->ack_features(dev, VERSION_1 | FLUSH | WCE), 0);
	back = dev->ops->keep(dev);
	set_wce(0);
	through = dev->ops->keep(dev);
	assert_int_not_equal(back, through);
	for (int byte = 0; byte <= UINT8_MAX; byte++) {
		dev->ops->recall(dev, (uint8_t)byte);
		assert_int_equal(config_now().wce, 0);
	}
	set_wce(1);
	dev->ops->recall(dev, back);
	assert_int_equal(config_now().wce, 1);
	dev->ops->recall(dev, through);
	assert_int_equal(config_now().wce, 0);
}

static void
test_state_is_carried_and_checked(void **state)
{
	uint8_t good[16], bad[16];
	int len;

	(void)state;
	assert_int_equal(dev->ops->ack_features(dev, VERSION_1 | FLUSH | WCE), 0);
	set_wce(0);
	assert_int_equal(dev->ops->snapshot(dev, good, 0), -ENOSPC);
	assert_int_equal(dev->ops->snapshot(dev, good, 1), -ENOSPC);
	len = dev->ops->snapshot(dev, good, sizeof(good));
	assert_in_range(len, 1, sizeof(good));
	set_wce(1);
	assert_int_equal(dev->ops->restore(dev, good, (uint32_t)len), 0);
	assert_int_equal(config_now().wce, 0);
	set_wce(1);
	/* Whatever is not a state changes nothing. */
	assert_int_equal(dev->ops->restore(dev, good, 0), -EINVAL);
	assert_int_equal(dev->ops->restore(dev, good, (uint32_t)len - 1), -EINVAL);
	assert_int_equal(dev->ops->restore(dev, good, sizeof(good)), -EINVAL);
	for (int i = 0; i < len; i++) {
		memcpy(bad, good, sizeof(bad));
		bad[i] = 0x77;
		assert_int_equal(dev->ops->restore(dev, bad, (uint32_t)len), -EINVAL);
	}
	assert_int_equal(config_now().wce, 1);
}

static char lock_error[128];

static int
lock_image(bool locked)
{
	lock_error[0] = '\0';
	return dev->ops->lock(dev, locked, lock_error, sizeof(lock_error));
}

static void
test_the_image_is_locked_while_rings_run(void **state)
{
	(void)state;
	assert_int_equal(lock_image(true), 0);
	assert_int_equal(lock_image(true), 0);
	assert_int_equal(spy.n_locks, 1);
	assert_int_equal(lock_image(false), 0);
	assert_int_equal(lock_image(false), 0);
	assert_int_equal(spy.n_unlocks, 1);
	spy.lock_result = -EAGAIN;
	assert_int_equal(lock_image(true), -EAGAIN);
	/* What was not got is not given back. */
	assert_int_equal(lock_image(false), 0);
	spy.lock_result = 0;
	assert_int_equal(spy.n_unlocks, 1);
	assert_int_equal(lock_image(true), 0);
	assert_int_equal(spy.n_locks, 2);
}

/* Else two hosts could write to one image. */
static void
test_an_image_that_was_not_unlocked_is_locked_again(void **state)
{
	char *text = NULL;
	size_t len = 0;
	FILE *lines = open_memstream(&text, &len);

	(void)state;
	assert_non_null(lines);
	assert_int_equal(lock_image(true), 0);
	assert_int_equal(rte_openlog_stream(lines), 0);
	spy.lock_result = -EIO;
	assert_int_equal(lock_image(false), -EIO);
	rte_openlog_stream(NULL);
	fclose(lines);
	assert_non_null(strstr(text, dev->name));
	assert_non_null(strstr(text, "remove this disk"));
	free(text);
	spy.lock_result = -EAGAIN;
	assert_int_equal(lock_image(true), -EAGAIN);
	spy.lock_result = 0;
	assert_int_equal(lock_image(true), 0);
	assert_int_equal(spy.n_locks, 2);
	assert_int_equal(lock_image(false), 0);
	assert_int_equal(spy.n_unlocks, 1);
}

/*
 * Whoever asks for the lock gets the sentence, for somebody else may have it for a moment only; a front end can start
 * rings as often as it likes.
 */
static void
test_an_image_that_stays_locked_is_told_of_now_and_then(void **state)
{
	char *text = NULL;
	size_t len = 0;
	FILE *lines = open_memstream(&text, &len);
	unsigned int n = 0;

	(void)state;
	assert_non_null(lines);
	assert_int_equal(rte_openlog_stream(lines), 0);
	spy.lock_result = -EAGAIN;
	for (unsigned int i = 0; i < 500; i++) {
		assert_int_equal(lock_image(true), -EAGAIN);
		assert_non_null(strstr(lock_error, "somebody else"));
	}
	fflush(lines);
	assert_int_equal(len, 0);
	for (unsigned int i = 0; i < 500; i++) {
		spy.lock_result = 0;
		assert_int_equal(lock_image(true), 0);
		spy.lock_result = -EIO;
		assert_int_equal(lock_image(false), -EIO);
	}
	rte_openlog_stream(NULL);
	fclose(lines);
	for (const char *at = text; (at = strstr(at, dev->name)) != NULL; at++)
		n++;
	free(text);
	assert_in_range(n, 1, 20);
}

/* Requests are checked against what is now, also those of rings that run. */
static void
test_a_disk_changes_its_size_under_a_ring(void **state)
{
	struct guest_req last, beyond;
	char error[256] = "";

	(void)state;
	guest_start(&guest, dev, 0, VERSION_1);
	beyond = guest_submit(&guest, 0, VIRTIO_BLK_T_IN, 2048, 512);
	guest_poll_until_done(&guest, 1);
	assert_int_equal(guest_status(&guest, &beyond), VIRTIO_BLK_S_IOERR);
	assert_int_equal(vhub_blk_resize(dev, 2 << 20, error, sizeof(error)), 0);
	assert_int_equal(config_now().capacity, 2048);
	assert_int_equal(vhub_blk_resized(dev), 2 << 20);
	assert_int_equal(config_now().capacity, 4096);
	last = guest_submit(&guest, 0, VIRTIO_BLK_T_IN, 4095, 512);
	guest_poll_until_done(&guest, 1);
	assert_int_equal(guest_status(&guest, &last), VIRTIO_BLK_S_OK);
	assert_int_equal(vhub_blk_resize(dev, 1 << 19, error, sizeof(error)), 0);
	assert_int_equal(vhub_blk_resized(dev), 1 << 19);
	last = guest_submit(&guest, 0, VIRTIO_BLK_T_IN, 1023, 512);
	beyond = guest_submit(&guest, 0, VIRTIO_BLK_T_IN, 1024, 512);
	guest_poll_until_done(&guest, 2);
	assert_int_equal(guest_status(&guest, &last), VIRTIO_BLK_S_OK);
	assert_int_equal(guest_status(&guest, &beyond), VIRTIO_BLK_S_IOERR);
	/* What is refused changes nothing. */
	assert_int_equal(vhub_blk_resize(dev, 1000, error, sizeof(error)), -EINVAL);
	assert_non_null(strstr(error, "size=1000"));
	assert_int_equal(vhub_blk_resize(dev, 13 * 512, error, sizeof(error)), -ENOSPC);
	assert_string_equal(error, "no such size");
	assert_int_equal(vhub_blk_resized(dev), 1 << 19);
	guest_stop(&guest, 0);
}

static void
test_statistics_are_of_blk_devices(void **state)
{
	static const struct vhub_device_ops other_ops;
	struct vhub_device other = { .ops = &other_ops, .max_queues = 1 };
	struct vhub_blk_stats stats;

	(void)state;
	assert_int_equal(vhub_blk_get_stats(&other, 0, &stats), -EINVAL);
}

static void
test_the_disk_goes_with_the_device(void **state)
{
	struct vhub_device *second;
	unsigned int before = spy.n_destroys;

	(void)state;
	second = guest_build_disk("driver=spy");
	assert_int_equal(spy.n_destroys, before);
	vhub_device_destroy(second);
	assert_int_equal(spy.n_destroys, before + 1);
}

/* vhubd's end would lose what such a disk holds. */
static void
test_a_disk_that_saves_at_the_end_only_is_refused(void **state)
{
	const struct blk_params params = { .n_queues = 1 };
	const struct vhub_executor executor = { 0 };
	struct vhub_device *none = NULL;
	struct vhub_blk_disk disk = { .ops = &spy_ops };
	char error[256];

	(void)state;
	spy.saved_at_end = true;
	assert_int_equal(blk_create(&params, &disk, &executor, &none, error, sizeof(error)),
			-EINVAL);
	assert_non_null(strstr(error, "driver=spy"));
	assert_null(none);
	spy.saved_at_end = false;
}

#define MALLOC(test) cmocka_unit_test_setup_teardown(test, setup_malloc, teardown)
#define SPY(test) cmocka_unit_test_setup_teardown(test, setup_spy, teardown)
#define CACHE(test) cmocka_unit_test_setup_teardown(test, setup_spy_cache, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		MALLOC(test_what_was_written_is_read),
		MALLOC(test_errors_are_answered_among_good_requests),
		MALLOC(test_no_place_for_a_status_breaks_the_ring),
		MALLOC(test_a_ring_that_takes_nothing_is_left_alone),
		MALLOC(test_pages_that_were_written_are_logged),
		MALLOC(test_a_status_behind_data_in_one_page_is_logged),
		SPY(test_what_is_not_accepted_comes_again_in_order),
		SPY(test_the_order_of_the_guest_is_kept),
		SPY(test_errors_of_the_driver_are_io_errors),
		SPY(test_rings_of_one_lcore_share_a_queue),
		SPY(test_a_turn_of_all_rings_reaps_once),
		cmocka_unit_test_setup_teardown(test_bursts_grow_while_they_are_full, setup_spy,
				teardown),
		cmocka_unit_test_setup_teardown(test_rings_share_a_turn, setup_spy_many, teardown),
		SPY(test_a_full_driver_starves_no_ring),
		SPY(test_each_lcore_has_a_queue_of_its_own),
		SPY(test_a_queue_that_cannot_be_got_fails_the_start),
		SPY(test_a_ring_beyond_the_last_is_refused),
		SPY(test_arm_asks_the_driver),
		cmocka_unit_test(test_a_driver_that_cannot_wake_keeps_the_lcore_awake),
		SPY(test_stuck_storage_is_named),
		CACHE(test_writes_are_durable_unless_the_guest_flushes),
		CACHE(test_write_back_can_be_switched_on_a_running_ring),
		cmocka_unit_test_setup_teardown(test_write_through_may_be_where_it_begins,
				setup_spy_write_through, teardown),
		SPY(test_without_a_cache_nothing_need_be_durable),
		CACHE(test_the_config_space_tells_the_disk),
		CACHE(test_features_are_those_that_are_served),
		CACHE(test_a_guest_may_write_one_field),
		CACHE(test_the_field_may_be_written_with_its_neighbours),
		CACHE(test_a_driver_that_chooses_early),
		CACHE(test_a_migration_may_tell_what_is_so),
		CACHE(test_write_back_without_flush_begins_as_write_through),
		CACHE(test_a_reset_keeps_write_through),
		CACHE(test_write_through_is_kept_and_recalled),
		CACHE(test_state_is_carried_and_checked),
		SPY(test_the_image_is_locked_while_rings_run),
		SPY(test_an_image_that_was_not_unlocked_is_locked_again),
		SPY(test_an_image_that_stays_locked_is_told_of_now_and_then),
		SPY(test_a_disk_changes_its_size_under_a_ring),
		MALLOC(test_statistics_are_of_blk_devices),
		SPY(test_the_disk_goes_with_the_device),
		SPY(test_a_disk_that_saves_at_the_end_only_is_refused),
	};
	struct vhub_loop *loop = guest_lcores_start();
	int failed;

	if (loop == NULL)
		return 99;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	guest_lcores_stop(loop);
	return failed;
}
