/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The malloc driver: the suite of all drivers, and what makes it fair to others on its lcore.
 */
#include "driver_suite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../eal_fixture.h"

static const struct driver_suite memory = {
	.name = "malloc",
	.driver = "malloc",
	.args = "size=4M",
	.capacity_bytes = 4 << 20,
	.ranges = DRIVER_ALL_RANGES,
	.grows = true,
	.keeps_data = true,
};

static const struct driver_suite odd_size = {
	.name = "malloc of an odd size",
	.driver = "malloc",
	.args = "size=3076608",
	.capacity_bytes = 3076608,
	.ranges = DRIVER_ALL_RANGES,
	.grows = true,
	.keeps_data = true,
};

static void
test_a_fresh_disk_is_zero(void **state)
{
	uint8_t *data = malloc(1 << 20), *zero = calloc(1, 1 << 20);
	struct driver_disk d;

	(void)state;
	driver_open(&d, "malloc", "size=1M", false);
	memset(data, 1, 1 << 20);
	assert_int_equal(driver_rw(&d, VHUB_BLK_READ, 0, data, 1 << 20, 0), 0);
	assert_memory_equal(data, zero, 1 << 20);
	driver_close(&d);
	free(data);
	free(zero);
}

/*
 * A large request takes several turns, and others on the lcore have theirs in between; so has arm
 * to keep it awake.
 */
static void
test_a_large_request_takes_several_turns(void **state)
{
	const uint32_t lengths[] = { 5 << 20, 3 << 20, 0 };
	struct vhub_blk_io *burst[1], *done[4];
	unsigned int turns = 1;
	struct driver_disk d;
	struct driver_io io;

	(void)state;
	driver_open(&d, "malloc", "size=16M", false);
	driver_io_init(&io, VHUB_BLK_WRITE, 4096, lengths, 0);
	burst[0] = &io.io;
	assert_int_equal(d.ops->arm(d.queue), 0);
	assert_int_equal(d.ops->submit(d.queue, burst, 1), 1);
	while (d.ops->reap(d.queue, done, 4) == 0) {
		assert_int_equal(d.ops->arm(d.queue), -EAGAIN);
		turns++;
	}
	assert_ptr_equal(done[0], &io.io);
	assert_in_range(turns, 8, 9);
	assert_int_equal(d.ops->arm(d.queue), 0);
	driver_io_free(&io);
	driver_close(&d);
}

static void
test_it_grows_so_far_and_no_further(void **state)
{
	struct driver_disk d;
	char error[DRIVER_ERROR_LEN];

	(void)state;
	driver_open(&d, "malloc", "size=1M", false);
	assert_int_equal(d.ops->resize(d.disk, 16 << 20, error, sizeof(error)), 0);
	assert_int_equal(d.ops->resize(d.disk, (16 << 20) + 512, error, sizeof(error)), -EINVAL);
	assert_non_null(strstr(error, "16777216"));
	d.ops->info(d.disk, &d.info);
	assert_int_equal(d.info.capacity_bytes, 16 << 20);
	driver_close(&d);
}

static void
test_arguments(void **state)
{
	static const char *const wrong[] = { "", "size=0", "size=511", "size=1000", "size=big",
		"size=1Q" };
	struct vhub_blk_disk *disk;
	char error[DRIVER_ERROR_LEN];

	(void)state;
	for (unsigned int i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(driver_parse("malloc", wrong[i], false, &disk, NULL), -EINVAL);
	/* More than any machine has is refused when it is asked for. */
	assert_int_equal(driver_parse("malloc", "size=60T", false, &disk, NULL), 0);
	assert_int_equal(disk->ops->open(disk, error, sizeof(error)), -ENOMEM);
	assert_non_null(strstr(error, "size="));
	disk->ops->destroy(disk);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_fresh_disk_is_zero),
		cmocka_unit_test(test_a_large_request_takes_several_turns),
		cmocka_unit_test(test_it_grows_so_far_and_no_further),
		cmocka_unit_test(test_arguments),
	};
	int failed;

	if (test_eal_init() != 0)
		return 99;
	failed = driver_suite_run(&memory) + driver_suite_run(&odd_size);
	return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
