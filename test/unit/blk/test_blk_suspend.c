/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rings of a disk that are suspended: what their driver gives back undone is left in flight, what it
 * cannot abort is answered, and neither touches the other rings of the lcore. The test's thread is CTL
 * and the lcore in one.
 */
#include "guest.h"
#include "spy_driver.h"

#define F(bit) (UINT64_C(1) << (bit))
#define FEATURES (F(32) | F(VIRTIO_BLK_F_DISCARD) | F(VIRTIO_BLK_F_WRITE_ZEROES))

static struct guest guest;
static struct vhub_device *dev;

static int
setup(void **state)
{
	(void)state;
	spy_reset();
	spy.release = 0;
	guest_create(&guest);
	dev = guest_build_disk("driver=spy,queues=4");
	for (unsigned int i = 0; i < 2; i++)
		guest_start(&guest, dev, i, FEATURES);
	return 0;
}

/* What of a ring was left stays in flight for ever. */
static int
teardown(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		dev->ops->queue_stop(&guest.rings[i].vring);
		guest_release(&guest.rings[i]);
	}
	assert_int_equal(spy.n_gets, spy.n_puts);
	vhub_device_destroy(dev);
	guest_destroy(&guest);
	return 0;
}

static void
turn(void)
{
	guest_poll(&guest, 0);
	guest_poll(&guest, 1);
}

/* As lib/device does it. */
static void
suspend(unsigned int index)
{
	guest.rings[index].vring.taking = false;
	dev->ops->queue_suspend(&guest.rings[index].vring);
}

static unsigned int
under_way(unsigned int index)
{
	return vhub_virtq_under_way(guest.rings[index].vring.vq);
}

static unsigned int
done(unsigned int index)
{
	return guest_done(&guest.rings[index], NULL, NULL);
}

static uint64_t
counted_in_flight(uint16_t index)
{
	struct vhub_blk_stats stats;

	assert_int_equal(vhub_blk_get_stats(dev, index, &stats), 0);
	return stats.in_flight;
}

static void
submit(unsigned int index, unsigned int n, struct guest_req *reqs)
{
	for (unsigned int i = 0; i < n; i++)
		reqs[i] = guest_submit(&guest, index, VIRTIO_BLK_T_IN, i, 512);
}

static void
expect_status(const struct guest_req *reqs, unsigned int n, uint8_t status)
{
	for (unsigned int i = 0; i < n; i++)
		assert_int_equal(guest_status(&guest, &reqs[i]), status);
}

static void
test_what_comes_back_undone_is_left_and_others_go_on(void **state)
{
	struct guest_req reqs[6], others[3];

	(void)state;
	submit(0, 6, reqs);
	submit(1, 3, others);
	turn();
	suspend(0);
	turn();
	assert_int_equal(under_way(0), 0);
	assert_int_equal(vhub_virtq_in_flight(guest.rings[0].vring.vq), 6);
	assert_int_equal(done(0), 0);
	expect_status(reqs, 6, GUEST_PENDING);
	assert_int_equal(counted_in_flight(0), 0);
	assert_int_equal(under_way(1), 3);
	assert_int_equal(counted_in_flight(1), 3);
	/* The guest may go on offering: nobody takes it. */
	submit(0, 2, reqs);
	spy.release = SPY_MAX;
	turn();
	assert_int_equal(done(1), 3);
	expect_status(others, 3, VIRTIO_BLK_S_OK);
	assert_int_equal(done(0), 0);
	assert_int_equal(spy.n_seen, 9);
}

static void
test_what_cannot_be_aborted_is_answered(void **state)
{
	struct guest_req reqs[5];

	(void)state;
	submit(0, 5, reqs);
	turn();
	spy.cancel_from = 2;
	suspend(0);
	turn();
	assert_int_equal(under_way(0), 2);
	assert_int_equal(done(0), 0);
	spy.release = 1;
	turn();
	assert_int_equal(under_way(0), 1);
	spy.result = -EIO;
	spy.release = 1;
	turn();
	assert_int_equal(under_way(0), 0);
	assert_int_equal(done(0), 2);
	expect_status(reqs, 1, VIRTIO_BLK_S_OK);
	expect_status(&reqs[1], 1, VIRTIO_BLK_S_IOERR);
	expect_status(&reqs[2], 3, GUEST_PENDING);
	assert_int_equal(counted_in_flight(0), 0);
	assert_int_equal(vhub_virtq_in_flight(guest.rings[0].vring.vq), 3);
}

/* Both rings stand in the line of those that the driver has no room for; one leaves it. */
static void
test_what_the_driver_did_not_take_is_left(void **state)
{
	struct guest_req reqs[4], others[4];

	(void)state;
	for (unsigned int which = 0; which < 2; which++) {
		spy.accept = 1;
		submit(0, 4, reqs);
		submit(1, 4, others);
		turn();
		suspend(which);
		spy.accept = SPY_MAX;
		spy.release = SPY_MAX;
		turn();
		turn();
		assert_int_equal(under_way(0), 0);
		assert_int_equal(under_way(1), 0);
		assert_int_equal(done(which), 0);
		assert_int_equal(done(1 - which), 4);
		teardown(state);
		setup(state);
	}
}

static void
submit_ranges(unsigned int index, uint32_t type, uint32_t n, struct guest_req *req)
{
	struct virtio_blk_discard_write_zeroes *ranges;

	*req = guest_submit(&guest, index, type, 0, n * sizeof(*ranges));
	ranges = (void *)(guest.mem + req->data_gpa);
	for (uint32_t i = 0; i < n; i++)
		ranges[i] = (struct virtio_blk_discard_write_zeroes){ .sector = 8 * i,
			.num_sectors = 8 };
}

static void
discard(unsigned int index, uint32_t n, struct guest_req *req)
{
	submit_ranges(index, VIRTIO_BLK_T_DISCARD, n, req);
}

/* More of them than are worked on at once, on two rings, each somewhere in the middle. */
static void
test_requests_of_ranges_are_left_whole(void **state)
{
	struct guest_req reqs[12], last, other;

	(void)state;
	for (unsigned int i = 0; i < 12; i++)
		discard(0, 3, &reqs[i]);
	discard(1, 2, &other);
	spy.accept = 5;
	turn();
	turn();
	assert_int_equal(spy.n_seen, 5);
	spy.cancel_from = 5;
	suspend(0);
	/* The first ranges of some were under way and could not be aborted: no second ones follow. */
	spy.accept = SPY_MAX;
	spy.release = SPY_MAX;
	for (unsigned int i = 0; i < 4; i++)
		turn();
	assert_int_equal(under_way(0), 0);
	assert_int_equal(done(0), 0);
	expect_status(reqs, 12, GUEST_PENDING);
	assert_int_equal(done(1), 1);
	expect_status(&other, 1, VIRTIO_BLK_S_OK);
	/* One whose last range is done is done. */
	spy.release = 0;
	discard(1, 1, &last);
	turn();
	turn();
	spy.cancel_from = SPY_MAX;
	suspend(1);
	spy.release = SPY_MAX;
	turn();
	assert_int_equal(under_way(1), 0);
	assert_int_equal(done(1), 1);
	expect_status(&last, 1, VIRTIO_BLK_S_OK);
}

/* Ranges that wait until they can be paid, of two rings: those of one are given up. */
static void
test_ranges_that_a_limit_holds_are_left(void **state)
{
	const struct vhub_blk_qos few = { .bytes_per_s = 512 }, none = { 0 };
	struct guest_req reqs[3], other;
	char error[256];

	(void)state;
	assert_int_equal(vhub_blk_set_qos(dev, &few, error, sizeof(error)), 0);
	spy.release = SPY_MAX;
	for (unsigned int i = 0; i < 3; i++)
		submit_ranges(0, VIRTIO_BLK_T_WRITE_ZEROES, 4, &reqs[i]);
	submit_ranges(1, VIRTIO_BLK_T_WRITE_ZEROES, 4, &other);
	for (unsigned int i = 0; i < 10; i++)
		turn();
	assert_int_equal(spy.n_seen, 1);
	suspend(0);
	turn();
	assert_int_equal(under_way(0), 0);
	assert_int_equal(counted_in_flight(0), 0);
	assert_int_equal(under_way(1), 1);
	assert_int_equal(vhub_blk_set_qos(dev, &none, error, sizeof(error)), 0);
	for (unsigned int i = 0; i < 10; i++)
		turn();
	assert_int_equal(done(0), 0);
	expect_status(reqs, 3, GUEST_PENDING);
	assert_int_equal(done(1), 1);
	expect_status(&other, 1, VIRTIO_BLK_S_OK);
	assert_int_equal(spy.n_seen, 5);
}

static void
test_a_driver_that_cancels_on_its_own_has_an_error(void **state)
{
	struct guest_req req;

	(void)state;
	submit(0, 1, &req);
	spy.release = SPY_MAX;
	spy.result = -ECANCELED;
	turn();
	assert_int_equal(done(0), 1);
	expect_status(&req, 1, VIRTIO_BLK_S_IOERR);
}

static void
test_suspension_is_offered(void **state)
{
	const uint64_t both = VHUB_USER_PF(GET_VRING_BASE_INFLIGHT) |
			VHUB_USER_PF(GET_VRING_BASE_SKIP_DRAIN);

	(void)state;
	assert_int_equal(dev->protocol_features & both, both);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
				test_what_comes_back_undone_is_left_and_others_go_on, setup,
				teardown),
		cmocka_unit_test_setup_teardown(test_what_cannot_be_aborted_is_answered, setup,
				teardown),
		cmocka_unit_test_setup_teardown(test_what_the_driver_did_not_take_is_left, setup,
				teardown),
		cmocka_unit_test_setup_teardown(test_ranges_that_a_limit_holds_are_left, setup,
				teardown),
		cmocka_unit_test_setup_teardown(test_requests_of_ranges_are_left_whole, setup,
				teardown),
		cmocka_unit_test_setup_teardown(test_a_driver_that_cancels_on_its_own_has_an_error,
				setup, teardown),
		cmocka_unit_test_setup_teardown(test_suspension_is_offered, setup, teardown),
	};
	struct vhub_loop *loop = guest_lcores_start();
	int failed;

	if (loop == NULL)
		return 99;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	guest_lcores_stop(loop);
	return failed;
}
