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

#define VERSION_1 (UINT64_C(1) << 32)

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
