/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Drivers that are not part of the library, as vhubd --load brings them (test/tools): they keep the
 * contract like all others, faulty without a fault and unruly around each driver in memory.
 */
#include "driver_suite.h"

#include <errno.h>
#include <string.h>

#include "../eal_fixture.h"

static const struct driver_suite suites[] = {
	{ .name = "faulty", .driver = "faulty", .args = "size=4M", .keeps_data = true },
	{ .name = "unruly malloc",
			.driver = "unruly",
			.args = "over=malloc,size=4M,shuffle=on",
			.ranges = DRIVER_ALL_RANGES,
			.grows = true,
			.keeps_data = true },
	{ .name = "unruly null",
			.driver = "unruly",
			.args = "over=null,size=4M,shuffle=on,delay_us=50",
			.ranges = DRIVER_ALL_RANGES,
			.grows = true },
};

static void
test_each_nth_fails_and_is_not_done(void **state)
{
	uint8_t before[512], data[512], back[512];
	struct driver_disk d;

	(void)state;
	memset(before, 1, sizeof(before));
	memset(data, 2, sizeof(data));
	driver_open(&d, "unruly", "over=malloc,size=1M,fail_every=3", false);
	assert_int_equal(driver_rw(&d, VHUB_BLK_WRITE, 0, before, 512, 0), 0);
	assert_int_equal(driver_rw(&d, VHUB_BLK_FLUSH, 0, NULL, 0, 0), 0);
	assert_int_equal(driver_rw(&d, VHUB_BLK_WRITE, 0, data, 512, 0), -EIO);
	assert_int_equal(driver_rw(&d, VHUB_BLK_READ, 0, back, 512, 0), 0);
	assert_memory_equal(back, before, 512);
	assert_int_equal(driver_range(&d, VHUB_BLK_DISCARD, 0, 512, 0), 0);
	assert_int_equal(driver_rw(&d, VHUB_BLK_FLUSH, 0, NULL, 0, 0), -EIO);
	driver_close(&d);
}

static void
test_shuffled_completions_are_out_of_order(void **state)
{
	const uint32_t lengths[] = { 512, 0 };
	struct vhub_blk_io *burst[32], *done[32];
	unsigned int n = 0, out_of_order = 0;
	struct driver_io ios[32];
	struct driver_disk d;

	(void)state;
	driver_open(&d, "unruly", "over=malloc,size=1M,shuffle=on", false);
	for (unsigned int i = 0; i < 32; i++) {
		driver_io_init(&ios[i], VHUB_BLK_READ, i * 512, lengths, 0);
		burst[i] = &ios[i].io;
	}
	assert_int_equal(d.ops->submit(d.queue, burst, 32), 32);
	while (n < 32)
		n += d.ops->reap(d.queue, &done[n], (uint16_t)(32 - n));
	for (unsigned int i = 0; i < 32; i++) {
		out_of_order += done[i] != burst[i];
		driver_io_free(&ios[i]);
	}
	assert_true(out_of_order > 0);
	driver_close(&d);
}

static void
test_arguments(void **state)
{
	static const char *const wrong[] = { "", "over=unruly,size=1M", "over=nobody",
		"over=malloc", "over=malloc,size=1M,fail_every=0",
		"over=malloc,size=1M,shuffle=x" };
	struct vhub_blk_disk *disk;

	(void)state;
	for (unsigned int i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(driver_parse("unruly", wrong[i], false, &disk, NULL), -EINVAL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_nth_fails_and_is_not_done),
		cmocka_unit_test(test_shuffled_completions_are_out_of_order),
		cmocka_unit_test(test_arguments),
	};
	int failed = 0;

	if (test_eal_init() != 0)
		return 99;
	for (unsigned int i = 0; i < sizeof(suites) / sizeof(suites[0]); i++) {
		struct driver_suite suite = suites[i];

		suite.capacity_bytes = 4 << 20;
		failed += driver_suite_run(&suite);
	}
	return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
