/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The malloc driver: the suite of all drivers, with and without a file, what makes it fair to others
 * on its lcore, where its memory lies, and that a file has what it should have and when.
 */
#include "driver_suite.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* ---- with a file ---- */

#define MB (1u << 20)

static char file_path[300];
static char text[512];

static const char *
with_file(const char *more)
{
	snprintf(text, sizeof(text), "file=%s%s", file_path, more);
	return text;
}

/* A file of `bytes` that holds `fill`; none when that is negative. */
static void
make_file(off_t bytes, int fill)
{
	uint8_t *data = malloc((size_t)bytes + 1);
	int fd;

	unlink(file_path);
	if (bytes >= 0) {
		memset(data, fill, (size_t)bytes);
		fd = open(file_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		assert_true(fd >= 0);
		assert_int_equal(write(fd, data, (size_t)bytes), bytes);
		close(fd);
	}
	free(data);
}

/* [offset, offset + len) of the file holds nothing but `fill`. */
static void
expect_file(off_t offset, size_t len, int fill)
{
	uint8_t *data = malloc(len), *want = malloc(len);
	int fd = open(file_path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	memset(want, fill, len);
	assert_int_equal(pread(fd, data, len, offset), len);
	assert_memory_equal(data, want, len);
	close(fd);
	free(data);
	free(want);
}

static void
fill_disk(struct driver_disk *d, uint64_t offset, uint32_t len, int fill, uint8_t flags)
{
	uint8_t *data = malloc(len);

	memset(data, fill, len);
	assert_int_equal(driver_rw(d, VHUB_BLK_WRITE, offset, data, len, flags), 0);
	free(data);
}

static bool
is_long(const struct vhub_blk_io *io, const void *arg)
{
	(void)arg;
	return io->len_bytes > 4096;
}

/* One that is half done is given back; the next one begins at its own beginning. */
static void
test_what_is_wanted_back_in_the_middle_harms_no_other(void **state)
{
	const uint32_t half[] = { 2 * MB, 0 }, pieces[] = { 512, 3584, 0 };
	struct driver_io large, small;
	struct vhub_blk_io *burst[] = { &large.io, &small.io }, *done[2];
	struct driver_disk d;
	uint8_t data[4096], back[4096];

	(void)state;
	driver_open(&d, "malloc", "size=4M", false);
	driver_io_init(&large, VHUB_BLK_WRITE, 0, half, 0);
	driver_io_init(&small, VHUB_BLK_WRITE, 3 * MB, pieces, 0);
	memset(data, 0x4d, sizeof(data));
	driver_io_fill(&small, data);
	assert_int_equal(d.ops->submit(d.queue, burst, 2), 2);
	assert_int_equal(d.ops->reap(d.queue, done, 2), 0); /* which takes more than one turn */
	d.ops->cancel(d.queue, is_long, NULL);
	assert_int_equal(d.ops->reap(d.queue, done, 2), 2);
	assert_ptr_equal(done[0], &large.io);
	assert_int_equal(large.io.result, -ECANCELED);
	assert_ptr_equal(done[1], &small.io);
	assert_int_equal(small.io.result, 0);
	assert_int_equal(driver_rw(&d, VHUB_BLK_READ, 3 * MB, back, sizeof(back), 0), 0);
	assert_memory_equal(back, data, sizeof(data));
	driver_io_free(&large);
	driver_io_free(&small);
	driver_close(&d);
}

static void
test_a_file_is_loaded_and_saved_at_the_end(void **state)
{
	struct driver_disk d;
	uint8_t data[4096], want[4096];

	(void)state;
	make_file(MB, 0x11);
	driver_open(&d, "malloc", with_file(""), false);
	assert_int_equal(d.info.capacity_bytes, MB);
	assert_true(d.info.volatile_cache);
	assert_non_null(strstr(d.info.target, file_path));
	memset(want, 0x11, sizeof(want));
	assert_int_equal(driver_rw(&d, VHUB_BLK_READ, MB - 4096, data, 4096, 0), 0);
	assert_memory_equal(data, want, 4096);
	fill_disk(&d, 4096, 8192, 0x22, 0);
	expect_file(0, MB, 0x11); /* nobody has asked for more yet */
	driver_close(&d);
	expect_file(0, 4096, 0x11);
	expect_file(4096, 8192, 0x22);
	expect_file(12288, MB - 12288, 0x11);
}

static void
test_a_flush_and_a_durable_write_are_in_the_file(void **state)
{
	struct driver_disk d;

	(void)state;
	make_file(-1, 0);
	driver_open(&d, "malloc", with_file(",size=1M"), false);
	expect_file(0, MB, 0);
	fill_disk(&d, 0, 512, 0x31, 0);
	fill_disk(&d, MB - 512, 512, 0x32, 0);
	assert_int_equal(driver_rw(&d, VHUB_BLK_FLUSH, 0, NULL, 0, 0), 0);
	expect_file(0, 512, 0x31);
	expect_file(512, MB - 1024, 0);
	expect_file(MB - 512, 512, 0x32);
	fill_disk(&d, 65536 - 512, 1024, 0x33, VHUB_BLK_IO_FUA);
	expect_file(65536 - 512, 1024, 0x33);
	assert_int_equal(driver_range(&d, VHUB_BLK_WRITE_ZEROES, 0, 512, VHUB_BLK_IO_FUA), 0);
	expect_file(0, 65536 - 512, 0);
	driver_close(&d);
}

/* What a flush could not save is saved by the next one that can. */
static void
test_a_file_that_takes_no_more_fails_the_flush(void **state)
{
	struct rlimit old, low;
	struct driver_disk d;
	uint8_t data[512];

	(void)state;
	make_file(MB, 0);
	driver_open(&d, "malloc", with_file(""), false);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	signal(SIGXFSZ, SIG_IGN);
	low = (struct rlimit){ MB / 2, old.rlim_max };
	fill_disk(&d, 0, MB, 0x41, 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	assert_int_equal(driver_rw(&d, VHUB_BLK_FLUSH, 0, NULL, 0, 0), -EFBIG);
	memset(data, 0x42, sizeof(data));
	assert_int_equal(driver_rw(&d, VHUB_BLK_WRITE, MB - 512, data, 512, VHUB_BLK_IO_FUA),
			-EFBIG);
	assert_int_equal(driver_rw(&d, VHUB_BLK_READ, MB - 512, data, 512, 0), 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(driver_rw(&d, VHUB_BLK_FLUSH, 0, NULL, 0, 0), 0);
	expect_file(0, MB - 512, 0x41);
	expect_file(MB - 512, 512, 0x42);
	driver_close(&d);
}

static void
test_what_cannot_be_saved_at_the_end_is_counted(void **state)
{
	const uint64_t before = vhub_blk_n_not_saved();
	struct rlimit old, low;
	struct driver_disk d;

	(void)state;
	make_file(MB, 0);
	driver_open(&d, "malloc", with_file(""), false);
	assert_true(d.info.saved_at_end);
	fill_disk(&d, 0, MB, 0x43, 0);
	driver_close(&d);
	assert_int_equal(vhub_blk_n_not_saved(), before);
	driver_open(&d, "malloc", with_file(""), false);
	fill_disk(&d, 0, MB, 0x44, 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	signal(SIGXFSZ, SIG_IGN);
	low = (struct rlimit){ MB / 2, old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	driver_close(&d);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(vhub_blk_n_not_saved(), before + 1);
	driver_open(&d, "malloc", with_file(""), true);
	assert_false(d.info.saved_at_end);
	driver_close(&d);
	driver_open(&d, "malloc", "size=1M", false);
	assert_false(d.info.saved_at_end);
	driver_close(&d);
}

static void
test_a_disk_is_saved_while_it_is_used(void **state)
{
	struct rlimit old, low;
	struct driver_disk d;
	char error[512] = "";

	(void)state;
	make_file(MB, 0);
	driver_open(&d, "malloc", with_file(""), false);
	fill_disk(&d, 0, MB, 0x45, 0);
	expect_file(0, MB, 0);
	assert_int_equal(d.ops->save(d.disk, error, sizeof(error)), 0);
	expect_file(0, MB, 0x45);
	fill_disk(&d, 0, MB, 0x46, 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	signal(SIGXFSZ, SIG_IGN);
	low = (struct rlimit){ MB / 2, old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	assert_int_equal(d.ops->save(d.disk, error, sizeof(error)), -EFBIG);
	assert_non_null(strstr(error, file_path));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	/* What it could not save it still has to. */
	driver_close(&d);
	expect_file(0, MB, 0x46);
	driver_open(&d, "malloc", with_file(""), true);
	assert_int_equal(d.ops->save(d.disk, error, sizeof(error)), 0);
	driver_close(&d);
}

static void
expect_no_disk(const char *args, bool read_only, int expected, const char *word)
{
	driver_expect_refused("malloc", args, read_only, expected, word);
}

static void
test_files_that_do_not_fit_are_refused_and_left_alone(void **state)
{
	struct driver_disk d;
	struct stat st;

	(void)state;
	make_file(MB, 0x51);
	expect_no_disk(with_file(",size=512k"), false, -EINVAL, "larger");
	expect_file(0, MB, 0x51);
	make_file(0, 0);
	expect_no_disk(with_file(""), false, -EINVAL, "empty");
	make_file(-1, 0);
	expect_no_disk(with_file(""), true, -ENOENT, file_path);
	expect_no_disk("file=/dev/null", false, -EINVAL, "regular");
	expect_no_disk("file=/nowhere/at/all,size=1M", false, -ENOENT, "/nowhere/at/all");
	expect_no_disk("file=", false, -EINVAL, "file");
	/* One writer, or readers. */
	make_file(MB + 100, 0x52);
	driver_open(&d, "malloc", with_file(""), false);
	assert_int_equal(d.info.capacity_bytes, MB);
	expect_no_disk(with_file(""), false, -EAGAIN, "in use");
	expect_no_disk(with_file(""), true, -EAGAIN, "in use");
	driver_close(&d);
	driver_open(&d, "malloc", with_file(""), true);
	assert_false(d.info.volatile_cache);
	expect_no_disk(with_file(""), false, -EAGAIN, "in use");
	driver_close(&d);
	assert_int_equal(stat(file_path, &st), 0);
	assert_int_equal(st.st_size, MB + 100);
}

static void
test_the_file_has_the_size_of_its_disk(void **state)
{
	char error[DRIVER_ERROR_LEN];
	struct driver_disk d;
	struct stat st;

	(void)state;
	make_file(512, 0x61);
	driver_open(&d, "malloc", with_file(",size=1M"), false);
	assert_int_equal(d.ops->resize(d.disk, 2 * MB, error, sizeof(error)), 0);
	fill_disk(&d, 2 * MB - 512, 512, 0x62, VHUB_BLK_IO_FUA);
	expect_file(2 * MB - 512, 512, 0x62);
	fill_disk(&d, MB, 512, 0x63, 0);
	assert_int_equal(d.ops->resize(d.disk, 64 << 10, error, sizeof(error)), 0);
	driver_close(&d);
	assert_int_equal(stat(file_path, &st), 0);
	assert_int_equal(st.st_size, 64 << 10);
	expect_file(0, 512, 0x61);
	expect_file(512, (64 << 10) - 512, 0);
}

/* The last bytes of a file of no whole sectors are no part of the disk, also when it grows over them. */
static void
test_what_a_disk_grows_over_in_its_file_is_zero(void **state)
{
	/* The end of what is saved together, and other ends. */
	static const uint32_t sizes[] = { 64 << 10, MB, MB + 512, 512 };
	uint8_t data[4096], zero[4096] = { 0 };
	char error[DRIVER_ERROR_LEN];

	(void)state;
	for (unsigned int i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct driver_disk d;

		make_file(sizes[i] + 511, 0x71);
		driver_open(&d, "malloc", with_file(""), false);
		assert_int_equal(d.info.capacity_bytes, sizes[i]);
		assert_int_equal(d.ops->resize(d.disk, sizes[i] + 4096, error, sizeof(error)), 0);
		assert_int_equal(driver_rw(&d, VHUB_BLK_READ, sizes[i], data, 4096, 0), 0);
		assert_memory_equal(data, zero, 4096);
		assert_int_equal(driver_rw(&d, VHUB_BLK_FLUSH, 0, NULL, 0, 0), 0);
		expect_file(0, sizes[i], 0x71);
		expect_file(sizes[i], 4096, 0);
		driver_close(&d);
		expect_file(sizes[i], 4096, 0);
	}
}

/* ---- a file, sizes and queues that change at the same time ---- */

#define SMALL_BYTES (MB + 3 * 512u) /* in the middle of what is saved together */
#define LARGE_BYTES (3 * MB)

static uint32_t resizing; /* shared atomic */

static void *
resize_again_and_again(void *arg)
{
	struct driver_disk *d = arg;
	char error[DRIVER_ERROR_LEN];
	uintptr_t failed = 0;

	while (__atomic_load_n(&resizing, __ATOMIC_RELAXED) != 0) {
		failed += d->ops->resize(d->disk, SMALL_BYTES, error, sizeof(error)) != 0;
		failed += d->ops->resize(d->disk, LARGE_BYTES, error, sizeof(error)) != 0;
	}
	return (void *)failed;
}

/* A block below every size, one around the smaller size, or one that comes and goes. */
static uint64_t
any_place(uint8_t *model, uint8_t fill)
{
	const uint64_t kind = driver_random(3);
	uint64_t offset = SMALL_BYTES - 512;

	if (kind != 1)
		offset = kind == 0 ? driver_random(MB / 512) * 512 :
				     SMALL_BYTES +
						driver_random((LARGE_BYTES - SMALL_BYTES) / 512) *
								512;
	if (offset < SMALL_BYTES)
		memset(model + offset, fill, 512);
	return offset;
}

/*
 * The marks of what is to be saved are those of the whole area, whatever the size is now: below the
 * smaller size the file has every write that a flush has covered, and in the end it is as the disk is.
 */
static void
test_the_file_follows_a_disk_that_changes_its_size_under_load(void **state)
{
	uint8_t *model = calloc(1, SMALL_BYTES), *disk = malloc(LARGE_BYTES),
		*file = malloc(LARGE_BYTES);
	struct driver_disk d;
	pthread_t thread;
	void *failed;
	int fd;

	(void)state;
	make_file(LARGE_BYTES, 0);
	driver_open(&d, "malloc", with_file(""), false);
	__atomic_store_n(&resizing, 1, __ATOMIC_RELAXED);
	assert_int_equal(pthread_create(&thread, NULL, resize_again_and_again, &d), 0);
	fd = open(file_path, O_RDONLY | O_CLOEXEC);
	for (unsigned int i = 1; i <= 400; i++) {
		fill_disk(&d, any_place(model, (uint8_t)i), 512, (int)(i & 0xff),
				i % 5 == 0 ? VHUB_BLK_IO_FUA : 0);
		if (i % 40 != 0)
			continue;
		assert_int_equal(driver_rw(&d, VHUB_BLK_FLUSH, 0, NULL, 0, 0), 0);
		assert_int_equal(pread(fd, file, SMALL_BYTES, 0), SMALL_BYTES);
		assert_memory_equal(file, model, SMALL_BYTES);
	}
	__atomic_store_n(&resizing, 0, __ATOMIC_RELAXED);
	assert_int_equal(pthread_join(thread, &failed), 0);
	assert_null(failed);
	assert_int_equal(driver_rw(&d, VHUB_BLK_READ, 0, disk, LARGE_BYTES, 0), 0);
	assert_memory_equal(disk, model, SMALL_BYTES);
	driver_close(&d);
	assert_int_equal(pread(fd, file, LARGE_BYTES, 0), LARGE_BYTES);
	assert_memory_equal(file, disk, LARGE_BYTES);
	close(fd);
	free(model);
	free(disk);
	free(file);
}

/* The thread that saves has just given back the last flush when its queue goes. */
static void
test_a_queue_goes_as_soon_as_its_last_flush_is_back(void **state)
{
	struct driver_disk d;

	(void)state;
	make_file(MB, 0);
	driver_open(&d, "malloc", with_file(""), false);
	for (unsigned int i = 0; i < 300; i++) {
		assert_int_equal(driver_rw(&d, VHUB_BLK_FLUSH, 0, NULL, 0, 0), 0);
		d.ops->queue_put(d.queue);
		assert_int_equal(d.ops->queue_get(d.disk, &d.queue), 0);
	}
	driver_close(&d);
}

/* On any node, named twice; one that is not there costs nothing but the placement. */
static void
test_a_disk_goes_wherever_it_is_placed(void **state)
{
	struct vhub_blk_disk *disk = NULL;
	struct vhub_blk_queue *queue;
	struct vhub_blk_io io = { .op = VHUB_BLK_READ, .len_bytes = 512, .n_iov = 1 },
			   *ios[1] = { &io };
	uint8_t data[512];
	struct iovec iov = { data, sizeof(data) };
	char error[DRIVER_ERROR_LEN];

	(void)state;
	io.iov = &iov;
	for (int node = -1; node < 64; node += 64) {
		assert_int_equal(driver_parse("malloc", "size=4M", false, &disk, NULL), 0);
		assert_int_equal(disk->ops->open(disk, error, sizeof(error)), 0);
		assert_int_equal(disk->ops->place(disk, node, error, sizeof(error)), 0);
		assert_int_equal(disk->ops->place(disk, node, error, sizeof(error)), 0);
		assert_int_equal(disk->ops->queue_get(disk, &queue), 0);
		assert_int_equal(disk->ops->submit(queue, ios, 1), 1);
		assert_int_equal(disk->ops->reap(queue, ios, 1), 1);
		assert_int_equal(io.result, 0);
		disk->ops->queue_put(queue);
		disk->ops->destroy(disk);
	}
}

/* ---- without ---- */

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
	assert_int_equal(disk->ops->open(disk, error, sizeof(error)), 0);
	assert_int_equal(disk->ops->place(disk, -1, error, sizeof(error)), -ENOMEM);
	assert_non_null(strstr(error,
			"size=65970697666560: that takes 65970697666560 bytes, and "));
	disk->ops->destroy(disk);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_file_is_loaded_and_saved_at_the_end),
		cmocka_unit_test(test_what_cannot_be_saved_at_the_end_is_counted),
		cmocka_unit_test(test_a_disk_is_saved_while_it_is_used),
		cmocka_unit_test(test_a_flush_and_a_durable_write_are_in_the_file),
		cmocka_unit_test(test_a_file_that_takes_no_more_fails_the_flush),
		cmocka_unit_test(test_files_that_do_not_fit_are_refused_and_left_alone),
		cmocka_unit_test(test_the_file_has_the_size_of_its_disk),
		cmocka_unit_test(test_what_a_disk_grows_over_in_its_file_is_zero),
		cmocka_unit_test(test_the_file_follows_a_disk_that_changes_its_size_under_load),
		cmocka_unit_test(test_a_queue_goes_as_soon_as_its_last_flush_is_back),
		cmocka_unit_test(test_a_disk_goes_wherever_it_is_placed),
		cmocka_unit_test(test_a_fresh_disk_is_zero),
		cmocka_unit_test(test_a_large_request_takes_several_turns),
		cmocka_unit_test(test_what_is_wanted_back_in_the_middle_harms_no_other),
		cmocka_unit_test(test_it_grows_so_far_and_no_further),
		cmocka_unit_test(test_arguments),
	};
	struct driver_suite saved = memory;
	char folder[] = "/dev/shm/vhub-malloc-XXXXXX";
	char args[400];
	int failed;

	if (test_eal_init() != 0 || mkdtemp(folder) == NULL)
		return 99;
	snprintf(file_path, sizeof(file_path), "%s/disk.img", folder);
	snprintf(args, sizeof(args), "size=4M,file=%s", file_path);
	saved.name = "malloc with a file";
	saved.args = args;
	saved.wakes = true;
	saved.ranges &= ~(1u << VHUB_BLK_SECURE_ERASE);
	failed = driver_suite_run(&memory) + driver_suite_run(&odd_size);
	make_file(4 * MB, 0);
	failed += driver_suite_run(&saved);
	failed += cmocka_run_group_tests(tests, NULL, NULL);
	unlink(file_path);
	rmdir(folder);
	return failed;
}
