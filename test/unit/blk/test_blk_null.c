/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The null driver: the suite of all drivers, and its latency.
 */
#include "driver_suite.h"

#include <errno.h>
#include <string.h>

#include <rte_cycles.h>

#include "../eal_fixture.h"

static const struct driver_suite at_once = {
	.name = "null",
	.driver = "null",
	.args = "size=4M",
	.capacity_bytes = 4 << 20,
	.ranges = DRIVER_ALL_RANGES,
	.grows = true,
};

static const struct driver_suite later = {
	.name = "null with latency",
	.driver = "null",
	.args = "size=4M,latency_us=200",
	.capacity_bytes = 4 << 20,
	.ranges = DRIVER_ALL_RANGES,
	.grows = true,
};

static void
test_a_request_takes_its_time(void **state)
{
	struct driver_disk d;
	uint8_t data[512];
	uint64_t begin, us;

	(void)state;
	driver_open(&d, "null", "size=1M,latency_us=20000", false);
	begin = rte_rdtsc();
	assert_int_equal(driver_rw(&d, VHUB_BLK_READ, 0, data, sizeof(data), 0), 0);
	us = (rte_rdtsc() - begin) * 1000000 / rte_get_tsc_hz();
	assert_in_range(us, 19000, 60000000);
	driver_close(&d);
}

static struct vhub_blk_disk *parsed_early; /* as vhubd does it, before EAL runs */

static void
test_a_disk_parsed_before_eal_takes_its_time_too(void **state)
{
	struct driver_disk d = { .disk = parsed_early, .ops = parsed_early->ops };
	uint8_t data[512];
	uint64_t begin, us;
	char error[64];

	(void)state;
	assert_int_equal(d.ops->open(d.disk, error, sizeof(error)), 0);
	assert_int_equal(d.ops->queue_get(d.disk, &d.queue), 0);
	begin = rte_rdtsc();
	assert_int_equal(driver_rw(&d, VHUB_BLK_READ, 0, data, sizeof(data), 0), 0);
	us = (rte_rdtsc() - begin) * 1000000 / rte_get_tsc_hz();
	assert_in_range(us, 19000, 60000000);
	driver_close(&d);
}

/* A disk, and a read of it that is under way. */
static void
submit_for_an_hour(struct driver_disk *d, struct driver_io *io)
{
	const uint32_t lengths[] = { 512, 0 };
	struct vhub_blk_io *burst[1];

	driver_open(d, "null", "size=1M,latency_us=3600000000", false);
	driver_io_init(io, VHUB_BLK_READ, 0, lengths, 0);
	burst[0] = &io->io;
	assert_int_equal(d->ops->submit(d->queue, burst, 1), 1);
}

/* Storage that is stuck: nothing comes back, whatever is done. */
static void
test_an_hour_is_not_over_soon(void **state)
{
	struct vhub_blk_io *done[1];
	struct driver_io io;
	struct driver_disk d;

	(void)state;
	submit_for_an_hour(&d, &io);
	for (unsigned int i = 0; i < 1000; i++)
		assert_int_equal(d.ops->reap(d.queue, done, 1), 0);
	driver_io_free(&io);
	driver_close(&d);
}

/* As where the host was suspended, and the TSC has begun anew. */
static void
test_a_time_of_another_clock_is_over(void **state)
{
	struct vhub_blk_io *done[1];
	struct driver_io io;
	struct driver_disk d;

	(void)state;
	submit_for_an_hour(&d, &io);
	io.io.driver[0] += 3600 * rte_get_tsc_hz();
	assert_int_equal(d.ops->reap(d.queue, done, 1), 1);
	driver_io_free(&io);
	driver_close(&d);
}

static bool
is_write(const struct vhub_blk_io *io, const void *arg)
{
	(void)arg;
	return io->op == VHUB_BLK_WRITE;
}

/* The others still take their time. */
static void
test_what_is_wanted_back_comes_before_its_time(void **state)
{
	const uint32_t lengths[] = { 512, 0 };
	struct vhub_blk_io *done[8], *burst[8];
	struct driver_io ios[8];
	struct driver_disk d;

	(void)state;
	driver_open(&d, "null", "size=1M,latency_us=3600000000", false);
	for (unsigned int i = 0; i < 8; i++) {
		driver_io_init(&ios[i], i % 3 == 0 ? VHUB_BLK_WRITE : VHUB_BLK_READ, 0, lengths, 0);
		burst[i] = &ios[i].io;
	}
	assert_int_equal(d.ops->submit(d.queue, burst, 8), 8);
	d.ops->cancel(d.queue, is_write, NULL);
	assert_int_equal(d.ops->reap(d.queue, done, 8), 3);
	for (unsigned int i = 0; i < 3; i++) {
		assert_ptr_equal(done[i], burst[3 * i]);
		assert_int_equal(done[i]->result, -ECANCELED);
	}
	assert_int_equal(d.ops->reap(d.queue, done, 8), 0);
	for (unsigned int i = 0; i < 8; i++)
		driver_io_free(&ios[i]);
	driver_close(&d);
}

static void
test_a_read_leaves_the_buffer(void **state)
{
	struct driver_disk d;
	uint8_t data[512], before[512];

	(void)state;
	memset(before, 0x5a, sizeof(before)); /* what driver_io_init() fills buffers with */
	driver_open(&d, "null", "size=1M", false);
	assert_int_equal(driver_rw(&d, VHUB_BLK_READ, 0, data, sizeof(data), 0), 0);
	assert_memory_equal(data, before, sizeof(data));
	driver_close(&d);
}

static void
test_arguments(void **state)
{
	static const char *const wrong[] = { "size=0", "size=511", "size=513", "size=x", "size=1M2",
		"size=-1", "latency_us=x", "latency_us=3600000001", "latency_us=" };
	struct vhub_blk_disk *disk;

	(void)state;
	for (unsigned int i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(driver_parse("null", wrong[i], false, &disk, NULL), -EINVAL);
	/* It has a size without being told one. */
	struct driver_disk d;

	driver_open(&d, "null", "", false);
	assert_int_equal(d.info.capacity_bytes, 1 << 30);
	driver_close(&d);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_request_takes_its_time),
		cmocka_unit_test(test_a_disk_parsed_before_eal_takes_its_time_too),
		cmocka_unit_test(test_an_hour_is_not_over_soon),
		cmocka_unit_test(test_a_time_of_another_clock_is_over),
		cmocka_unit_test(test_what_is_wanted_back_comes_before_its_time),
		cmocka_unit_test(test_a_read_leaves_the_buffer),
		cmocka_unit_test(test_arguments),
	};
	int failed;

	if (driver_parse("null", "size=1M,latency_us=20000", false, &parsed_early, NULL) != 0 ||
			test_eal_init() != 0)
		return 99;
	failed = driver_suite_run(&at_once) + driver_suite_run(&later);
	return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
