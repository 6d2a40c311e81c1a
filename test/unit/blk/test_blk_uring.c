/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The uring driver: the suite of all drivers on files with and without O_DIRECT, what it refuses to
 * open, image locks, and images that end too early. Needs a file system with O_DIRECT in the
 * current folder, $TMPDIR, /tmp or /var/tmp.
 */
#include "driver_suite.h"
#include "driver_arena.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/loop.h>
#include <linux/mount.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <rte_common.h>

#include "../../../drivers/blk/uring/uring_pvt.h"
#include "../eal_fixture.h"
#include "../fds.h"

#define IMAGE_BYTES (4u << 20)

static char folder[256];	/* on a file system with O_DIRECT */
static char memory_folder[256]; /* on tmpfs */
static char image[300];
static char memory_image[300];
static char text[1024];

/* path=... with more arguments; valid until the next call. */
static const char *
args_of(const char *path, const char *more)
{
	snprintf(text, sizeof(text), "path=%s%s", path, more);
	return text;
}

static void
make_image(const char *path, off_t bytes)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, bytes), 0);
	close(fd);
}

static bool
has_direct(const char *dir)
{
	char path[300];
	void *buf = NULL;
	bool ok;
	int fd;

	snprintf(path, sizeof(path), "%s/probe", dir);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600);
	if (fd < 0)
		return false;
	ok = ftruncate(fd, 4096) == 0 && posix_memalign(&buf, 4096, 4096) == 0 &&
			pread(fd, buf, 512, 0) == 512;
	free(buf);
	close(fd);
	unlink(path);
	return ok;
}

static int
make_folders(void)
{
	const char *const places[] = { ".", getenv("TMPDIR"), "/tmp", "/var/tmp" };

	snprintf(memory_folder, sizeof(memory_folder), "/dev/shm/vhub-uring-XXXXXX");
	if (mkdtemp(memory_folder) == NULL)
		return -1;
	snprintf(memory_image, sizeof(memory_image), "%s/disk.img", memory_folder);
	for (unsigned int i = 0; i < RTE_DIM(places); i++) {
		if (places[i] == NULL)
			continue;
		snprintf(folder, sizeof(folder), "%.200s/vhub-uring-XXXXXX", places[i]);
		if (mkdtemp(folder) == NULL)
			continue;
		if (has_direct(folder)) {
			snprintf(image, sizeof(image), "%s/disk.img", folder);
			return 0;
		}
		rmdir(folder);
	}
	fprintf(stderr, "no file system with O_DIRECT in ., $TMPDIR, /tmp or /var/tmp\n");
	return -1;
}

static void
remove_folders(void)
{
	unlink(image);
	unlink(memory_image);
	rmdir(folder);
	rmdir(memory_folder);
}

static int
fresh_image(void **state)
{
	(void)state;
	make_image(image, IMAGE_BYTES);
	return 0;
}

/* ---- opening ---- */

static void
expect_refused(const char *args, bool read_only, int expected, const char *word)
{
	driver_expect_refused("uring", args, read_only, expected, word);
}

/* In many turns, of an image that is a hole: each of its buffers is the same. */
static void
test_the_longest_io(void **state)
{
	enum {
		PIECE_BYTES = 16 << 20,
		N = 256
	};
	uint8_t *piece = driver_arena_get(PIECE_BYTES);
	struct driver_io io = {
		.io = { .op = VHUB_BLK_READ, .n_iov = N, .len_bytes = VHUB_BLK_DATA_MAX_BYTES }
	};
	struct iovec *iov = calloc(N, sizeof(*iov));
	struct driver_disk d;

	(void)state;
	assert_non_null(iov);
	make_image(image, (off_t)4 << 30);
	for (unsigned int i = 0; i < N; i++)
		iov[i] = (struct iovec){ piece, PIECE_BYTES };
	iov[N - 1].iov_len -= VHUB_BLK_SECTOR_BYTES;
	memset(piece, 0xff, PIECE_BYTES);
	io.io.iov = iov;
	io.io.result = 12345;
	driver_open(&d, "uring", args_of(image, ""), true);
	driver_run(&d, &io, 1);
	assert_int_equal(io.io.result, 0);
	for (size_t at = 0; at < PIECE_BYTES; at += VHUB_BLK_SECTOR_BYTES)
		assert_int_equal(piece[at], 0);
	driver_close(&d);
	driver_arena_put(piece);
	free(iov);
}

static void
test_what_is_no_image_is_refused(void **state)
{
	unsigned int fds = count_fds();
	char path[600];

	(void)state;
	expect_refused("direct=on", false, -EINVAL, "path=");
	expect_refused("path=", false, -EINVAL, "path");
	expect_refused(args_of(image, ",direct=maybe"), false, -EINVAL, "auto, on, off");
	expect_refused(args_of(image, ",inline=maybe"), false, -EINVAL, "auto, on, off");
	expect_refused(args_of("/nowhere/at/all", ""), false, -ENOENT, "/nowhere/at/all");
	expect_refused(args_of(folder, ""), false, -EINVAL, "neither");
	expect_refused("path=/dev/null", false, -EINVAL, "neither");
	snprintf(path, sizeof(path), "%s/pipe", folder);
	assert_int_equal(mkfifo(path, 0600), 0);
	expect_refused(args_of(path, ""), false, -EINVAL, "neither");
	expect_refused(args_of(path, ""), true, -EINVAL, "neither");
	unlink(path);
	make_image(image, 0);
	expect_refused(args_of(image, ""), false, -EINVAL, "size");
	make_image(image, 511);
	expect_refused(args_of(image, ""), false, -EINVAL, "size");
	expect_refused(args_of(image, ",pin=perhaps"), false, -EINVAL, "pin=perhaps");
	expect_refused(args_of(image, ",sqpoll_cpu=0"), false, -EINVAL, "sqpoll=on");
	expect_refused(args_of(image, ",sqpoll_idle_ms=5"), false, -EINVAL, "sqpoll=on");
	make_image(image, IMAGE_BYTES);
	expect_refused(args_of(image, ",sqpoll=on,sqpoll_cpu=8191"), false, -EINVAL,
			"sqpoll_cpu=8191");
	expect_refused(args_of(image, ",direct=off,iopoll=on"), false, -EINVAL, "direct=on");
	assert_int_equal(count_fds(), fds);
}

static void
test_a_size_of_no_whole_sectors_is_rounded_down(void **state)
{
	struct driver_disk d;
	uint8_t data[512];

	(void)state;
	make_image(image, 1000000);
	driver_open(&d, "uring", args_of(image, ""), false);
	assert_int_equal(d.info.capacity_bytes, 1000000 / 512 * 512);
	memset(data, 9, sizeof(data));
	assert_int_equal(driver_rw(&d, VHUB_BLK_WRITE, d.info.capacity_bytes - 512, data, 512, 0),
			0);
	driver_close(&d);
	/* Neither cut nor grown. */
	struct stat st;

	assert_int_equal(stat(image, &st), 0);
	assert_int_equal(st.st_size, 1000000);
}

static void
test_info_tells_the_path_and_the_cache(void **state)
{
	struct driver_disk d;

	(void)state;
	driver_open(&d, "uring", args_of(image, ""), false);
	assert_true(d.info.volatile_cache);
	assert_string_equal(d.info.target, image);
	driver_close(&d);
	driver_open(&d, "uring", args_of(image, ""), true);
	assert_false(d.info.volatile_cache);
	driver_close(&d);
}

/* Flags of the descriptor by which the driver holds the image. */
static int
flags_of_open(const char *path)
{
	struct stat want, st;

	assert_int_equal(stat(path, &want), 0);
	for (int fd = 3; fd < 1024; fd++) {
		if (fstat(fd, &st) == 0 && st.st_ino == want.st_ino && st.st_dev == want.st_dev)
			return fcntl(fd, F_GETFL);
	}
	fail_msg("%s is not open", path);
	return -1;
}

static void
test_direct_is_obeyed(void **state)
{
	struct driver_disk d;

	(void)state;
	driver_open(&d, "uring", args_of(image, ",direct=on"), false);
	assert_true((flags_of_open(image) & O_DIRECT) != 0);
	driver_close(&d);
	driver_open(&d, "uring", args_of(image, ",direct=off"), false);
	assert_true((flags_of_open(image) & O_DIRECT) == 0);
	driver_close(&d);
	driver_open(&d, "uring", args_of(image, ""), true);
	assert_true((flags_of_open(image) & O_DIRECT) != 0);
	assert_int_equal(flags_of_open(image) & O_ACCMODE, O_RDONLY);
	driver_close(&d);
}

/* ---- locks ---- */

static struct vhub_blk_disk *
open_disk(bool read_only)
{
	struct vhub_blk_disk *disk = NULL;
	char error[DRIVER_ERROR_LEN];

	assert_int_equal(driver_parse("uring", args_of(image, ""), read_only, &disk, NULL), 0);
	assert_int_equal(disk->ops->open(disk, error, sizeof(error)), 0);
	return disk;
}

static char lock_error[DRIVER_ERROR_LEN];

static void
expect_lock(struct vhub_blk_disk *disk, bool locked, int expected)
{
	lock_error[0] = '\0';
	assert_int_equal(disk->ops->lock(disk, locked, lock_error, sizeof(lock_error)), expected);
	if (expected != 0)
		assert_non_null(strstr(lock_error, image));
}

static void
test_an_image_has_one_writer_or_many_readers(void **state)
{
	struct vhub_blk_disk *a = open_disk(false), *b = open_disk(false), *r1 = open_disk(true),
			     *r2 = open_disk(true);

	(void)state;
	strcpy(a->name, "a");
	strcpy(r2->name, "r2");
	expect_lock(a, true, 0);
	expect_lock(b, true, -EAGAIN);
	assert_non_null(strstr(lock_error, "in use by the disk a: "));
	expect_lock(r1, true, -EAGAIN);
	/* Handed over: one lets go, the other takes. */
	expect_lock(a, false, 0);
	expect_lock(b, true, 0);
	expect_lock(a, true, -EAGAIN);
	expect_lock(b, false, 0);
	expect_lock(r1, true, 0);
	expect_lock(r2, true, 0);
	expect_lock(a, true, -EAGAIN);
	expect_lock(r1, false, 0);
	expect_lock(a, true, -EAGAIN);
	assert_non_null(strstr(lock_error, "in use by the disk r2: "));
	expect_lock(r2, false, 0);
	expect_lock(a, true, 0);
	/* A disk that goes gives its lock back. */
	a->ops->destroy(a);
	expect_lock(b, true, 0);
	b->ops->destroy(b);
	r1->ops->destroy(r1);
	r2->ops->destroy(r2);
}

static void
test_another_process_is_kept_out(void **state)
{
	struct vhub_blk_disk *disk = open_disk(false);
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 1 };
	int fd = open(image, O_RDWR | O_CLOEXEC);

	(void)state;
	/* Another open file is as good as another process, and QEMU locks single bytes. */
	expect_lock(disk, true, 0);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), -1);
	expect_lock(disk, false, 0);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	expect_lock(disk, true, -EAGAIN);
	assert_non_null(strstr(lock_error, "another process"));
	close(fd);
	expect_lock(disk, true, 0);
	disk->ops->destroy(disk);
}

/* ---- errors of I/O ---- */

static void
test_an_image_that_was_cut_gives_errors(void **state)
{
	static const char *const modes[] = { ",direct=on", ",direct=off", ",direct=off,inline=on" };
	uint8_t data[8192];

	(void)state;
	for (unsigned int i = 0; i < RTE_DIM(modes); i++) {
		struct driver_disk d;

		make_image(image, 1 << 20);
		driver_open(&d, "uring", args_of(image, modes[i]), false);
		assert_int_equal(truncate(image, 512 * 1024 + 4096), 0);
		assert_int_equal(driver_rw(&d, VHUB_BLK_READ, 512 * 1024, data, 4096, 0), 0);
		/* Half of it is there, and then none. */
		assert_int_equal(driver_rw(&d, VHUB_BLK_READ, 512 * 1024, data, 8192, 0), -EIO);
		assert_int_equal(driver_rw(&d, VHUB_BLK_READ, 768 * 1024, data, 8192, 0), -EIO);
		assert_int_equal(driver_rw(&d, VHUB_BLK_READ, 0, data, 8192, 0), 0);
		driver_close(&d);
	}
}

/* A limit on file sizes makes the kernel write the first part only, and refuse the rest: EFBIG. */
static void
test_short_writes_go_on_or_fail(void **state)
{
	static const char *const modes[] = { ",direct=on", ",direct=off", ",direct=off,inline=on" };
	static uint8_t data[65536], back[65536];
	struct rlimit old, low = { 0 };

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	signal(SIGXFSZ, SIG_IGN);
	for (unsigned int i = 0; i < RTE_DIM(modes); i++) {
		struct driver_disk d;
		int result;

		make_image(image, 1 << 20);
		driver_open(&d, "uring", args_of(image, modes[i]), false);
		low = (struct rlimit){ 512 * 1024 + 32768, old.rlim_max };
		memset(data, 0xc0 + (int)i, sizeof(data));
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
		result = driver_rw(&d, VHUB_BLK_WRITE, 512 * 1024, data, sizeof(data), 0);
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
		assert_int_equal(result, -EFBIG);
		assert_int_equal(driver_rw(&d, VHUB_BLK_READ, 512 * 1024, back, sizeof(back), 0),
				0);
		assert_memory_equal(back, data, 32768);
		driver_close(&d);
	}
}

/* Guest memory that went away under the I/O is an error of that I/O. */
static void
test_buffers_that_are_not_there_give_errors(void **state)
{
	static uint8_t data[4096];
	struct driver_disk d;
	struct driver_io io;
	const uint32_t lengths[] = { 4096, 0 };

	(void)state;
	driver_open(&d, "uring", args_of(image, ""), false);
	driver_io_init(&io, VHUB_BLK_READ, 0, lengths, 0);
	io.iov[0].iov_base = (void *)(uintptr_t)4096;
	driver_run(&d, &io, 1);
	assert_int_equal(io.io.result, -EFAULT);
	driver_io_free(&io);
	assert_int_equal(driver_rw(&d, VHUB_BLK_READ, 0, data, sizeof(data), 0), 0);
	driver_close(&d);
}

/* ---- O_DIRECT and what is not aligned ---- */

static void
test_bounce_buffers_bound_what_is_accepted(void **state)
{
	const uint32_t odd[] = { 100, 412, 0 }, whole[] = { 512, 0 };
	struct vhub_blk_io *burst[64], *done[64];
	struct driver_io ios[64];
	unsigned int n = 0, accepted, rest;
	struct driver_disk d;

	(void)state;
	driver_open(&d, "uring", args_of(image, ",direct=on"), false);
	for (unsigned int i = 0; i < 64; i++) {
		driver_io_init(&ios[i], VHUB_BLK_READ, i * 512, odd, 3);
		burst[i] = &ios[i].io;
	}
	accepted = d.ops->submit(d.queue, burst, 64);
	assert_in_range(accepted, 1, 63);
	while (n < accepted)
		n += d.ops->reap(d.queue, done, 64);
	/* All have been given back. */
	rest = d.ops->submit(d.queue, &burst[accepted], (uint16_t)(64 - accepted));
	assert_int_equal(rest, RTE_MIN(accepted, 64 - accepted));
	for (n = 0; n < rest;)
		n += d.ops->reap(d.queue, done, 64);
	for (unsigned int i = 0; i < 64; i++)
		driver_io_free(&ios[i]);
	/* What is aligned needs none. */
	for (unsigned int i = 0; i < 64; i++) {
		driver_io_init(&ios[i], VHUB_BLK_READ, i * 512, whole, 0);
		burst[i] = &ios[i].io;
	}
	assert_int_equal(d.ops->submit(d.queue, burst, 64), 64);
	for (n = 0; n < 64;)
		n += d.ops->reap(d.queue, done, 64);
	for (unsigned int i = 0; i < 64; i++)
		driver_io_free(&ios[i]);
	driver_close(&d);
}

/* Longer than a bounce buffer: several steps. */
static void
test_large_unaligned_requests_go_in_steps(void **state)
{
	const uint32_t lengths[] = { 1, 300000, 500001, 1 << 20, 254, 0 };
	uint32_t len = 1 + 300000 + 500001 + (1 << 20) + 254;
	uint8_t *data = malloc(len), *back = calloc(1, len);
	struct driver_disk d;
	struct driver_io io;

	(void)state;
	for (uint32_t i = 0; i < len; i++)
		data[i] = (uint8_t)driver_random(256);
	driver_open(&d, "uring", args_of(image, ",direct=on"), false);
	assert_int_equal(len % 512, 0);
	driver_io_init(&io, VHUB_BLK_WRITE, 4096, lengths, 7);
	driver_io_fill(&io, data);
	driver_run(&d, &io, 1);
	assert_int_equal(io.io.result, 0);
	driver_io_check_gaps(&io);
	driver_io_free(&io);
	driver_io_init(&io, VHUB_BLK_READ, 4096, lengths, 9);
	driver_run(&d, &io, 1);
	assert_int_equal(io.io.result, 0);
	driver_io_check_gaps(&io);
	driver_io_take(&io, back);
	assert_memory_equal(data, back, len);
	driver_io_free(&io);
	driver_close(&d);
	free(data);
	free(back);
}

/* ---- fairness to others on the lcore ---- */

#define LARGE_IOS 32u
#define LARGE_BYTES (4u << 20)

/* Bytes of whole pages that hold something. */
static size_t
filled_bytes(const uint8_t *buf, size_t len)
{
	size_t n = 0;

	for (size_t at = 0; at < len; at += 4096)
		n += buf[at] != 0 ? 4096 : 0;
	return n;
}

/*
 * What the page cache holds, the kernel copies inside of the call that submits it, on an lcore on
 * which others wait. The bound is two windows of steps under way, each a step too wide.
 */
static void
copy_a_large_burst(const char *more, size_t bound)
{
	const size_t bytes = (size_t)LARGE_IOS * LARGE_BYTES;
	struct vhub_blk_io ios[LARGE_IOS], *burst[LARGE_IOS], *done[LARGE_IOS];
	struct iovec iov[LARGE_IOS];
	unsigned int accepted, n = 0;
	struct driver_disk d;
	size_t before, after;
	uint8_t *buf;

	make_image(memory_image, LARGE_BYTES);
	driver_open(&d, "uring", args_of(memory_image, more), false);
	buf = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(buf != MAP_FAILED);
	memset(buf, 0x5a, LARGE_BYTES);
	assert_int_equal(driver_rw(&d, VHUB_BLK_WRITE, 0, buf, LARGE_BYTES, 0), 0);
	memset(buf, 0, LARGE_BYTES);
	for (unsigned int i = 0; i < LARGE_IOS; i++) {
		iov[i] = (struct iovec){ buf + (size_t)i * LARGE_BYTES, LARGE_BYTES };
		ios[i] = (struct vhub_blk_io){ .op = VHUB_BLK_READ,
			.iov = &iov[i],
			.n_iov = 1,
			.len_bytes = LARGE_BYTES };
		burst[i] = &ios[i];
	}
	accepted = d.ops->submit(d.queue, burst, LARGE_IOS);
	after = filled_bytes(buf, bytes);
	assert_in_range(after, 0, bound);
	while (n < accepted) {
		before = after;
		n += d.ops->reap(d.queue, &done[n], (uint16_t)(LARGE_IOS - n));
		after = filled_bytes(buf, bytes);
		assert_in_range(after - before, 0, bound);
	}
	assert_int_equal(after, (size_t)accepted * LARGE_BYTES);
	for (unsigned int i = 0; i < accepted; i++)
		assert_int_equal(done[i]->result, 0);
	driver_close(&d);
	munmap(buf, bytes);
}

static void
test_a_call_does_not_copy_all_of_a_large_burst(void **state)
{
	(void)state;
	copy_a_large_burst(",direct=off,inline=off", 10u << 20);
	/* A turn's bytes, and the rest of its last step. */
	copy_a_large_burst("", 2u << 20);
}

/* ---- I/O of the lcore itself ---- */

/* Over at the first reap, unlike what is the kernel's; and until then the lcore stays awake. */
static void
test_in_memory_nothing_is_waited_for(void **state)
{
	static const enum vhub_blk_op ops[] = { VHUB_BLK_WRITE, VHUB_BLK_READ, VHUB_BLK_FLUSH };
	const uint32_t lengths[] = { 100, 3996, 0 }, none[] = { 0 };
	struct vhub_blk_io *burst[1], *done[1];
	struct driver_disk d;
	struct driver_io io;

	(void)state;
	make_image(memory_image, IMAGE_BYTES);
	driver_open(&d, "uring", args_of(memory_image, ""), false);
	for (unsigned int i = 0; i < 2 * RTE_DIM(ops); i++) {
		enum vhub_blk_op op = ops[i % RTE_DIM(ops)];

		driver_io_init(&io, op, 0, op == VHUB_BLK_FLUSH ? none : lengths, 3);
		io.io.flags = op == VHUB_BLK_WRITE && i >= RTE_DIM(ops) ? VHUB_BLK_IO_FUA : 0;
		burst[0] = &io.io;
		assert_int_equal(d.ops->submit(d.queue, burst, 1), 1);
		assert_int_not_equal(d.ops->arm(d.queue), 0);
		assert_int_equal(d.ops->reap(d.queue, done, 1), 1);
		assert_ptr_equal(done[0], &io.io);
		assert_int_equal(io.io.result, 0);
		driver_io_check_gaps(&io);
		driver_io_free(&io);
	}
	driver_close(&d);
}

/* Some of it in the page cache, some not, and I/Os that begin in the one and end in the other. */
static void
test_what_the_page_cache_has_not_is_read_too(void **state)
{
	const uint32_t len = 64 << 10;
	uint8_t *data = malloc(IMAGE_BYTES), *back = malloc(IMAGE_BYTES);
	struct driver_disk d;
	int fd = open(image, O_RDWR | O_CLOEXEC);

	(void)state;
	for (uint32_t i = 0; i < IMAGE_BYTES; i++)
		data[i] = (uint8_t)driver_random(256);
	driver_open(&d, "uring", args_of(image, ",direct=off"), false);
	assert_int_equal(driver_rw(&d, VHUB_BLK_WRITE, 0, data, IMAGE_BYTES, VHUB_BLK_IO_FUA), 0);
	assert_int_equal(driver_rw(&d, VHUB_BLK_FLUSH, 0, NULL, 0, 0), 0);
	for (unsigned int round = 0; round < 4; round++) {
		assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
		/* Every other part comes back, but for the last half of the image. */
		for (uint32_t at = round * 4096; at < IMAGE_BYTES / 2; at += 2 * len)
			assert_int_equal(pread(fd, back, 8192, at), 8192);
		memset(back, 0, IMAGE_BYTES);
		for (uint32_t at = 0; at < IMAGE_BYTES; at += len)
			assert_int_equal(driver_rw(&d, VHUB_BLK_READ, at, back + at, len, 0), 0);
		assert_memory_equal(back, data, IMAGE_BYTES);
	}
	driver_close(&d);
	close(fd);
	free(data);
	free(back);
}

/* Reaps that it takes to read the first block, with such a result. */
static unsigned int
reaps_of_a_read(struct driver_disk *d, int result)
{
	struct vhub_blk_io *burst[1], *done[1];
	const uint32_t lengths[] = { 4096, 0 };
	unsigned int n = 1;
	struct driver_io io;

	driver_io_init(&io, VHUB_BLK_READ, 0, lengths, 3);
	burst[0] = &io.io;
	assert_int_equal(d->ops->submit(d->queue, burst, 1), 1);
	while (d->ops->reap(d->queue, done, 1) == 0)
		n++;
	assert_int_equal(io.io.result, result);
	driver_io_free(&io);
	return n;
}

/* What it has not is not looked for in vain for a while, and then it is asked again. */
static void
test_the_page_cache_is_asked_again_after_a_miss(void **state)
{
	uint8_t block[4096] = { 1 };
	struct driver_disk d;
	int fd = open(image, O_RDWR | O_CLOEXEC);
	unsigned int i;

	(void)state;
	assert_int_equal(pwrite(fd, block, sizeof(block), 0), sizeof(block));
	assert_int_equal(fsync(fd), 0);
	driver_open(&d, "uring", args_of(image, ",direct=off"), false);
	/* The worker reads it by itself, in the first reap. */
	assert_int_equal(reaps_of_a_read(&d, 0), 1);
	assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	assert_true(reaps_of_a_read(&d, 0) > 1);
	/* The io_uring has brought it back. */
	for (i = 0; i < 100 && reaps_of_a_read(&d, 0) > 1; i++)
		;
	assert_in_range(i, 1, 99);
	assert_int_equal(reaps_of_a_read(&d, 0), 1);
	driver_close(&d);
	close(fd);
}

/* Linux 5.9 and 5.10 tell of one where there is none: who waits for the storage knows. */
static void
test_an_end_of_the_file_is_left_to_the_io_uring(void **state)
{
	struct driver_disk d;

	(void)state;
	driver_open(&d, "uring", args_of(image, ",direct=off"), false);
	assert_int_equal(truncate(image, 0), 0);
	assert_true(reaps_of_a_read(&d, -EIO) > 1);
	driver_close(&d);
}

/* Pieces of all sizes around the size of a step, with and without O_DIRECT, on storage and in memory. */
static void
test_steps_end_anywhere(void **state)
{
	static const uint32_t cuts[][7] = {
		{ 3 << 20, 0 },
		{ 1 << 20, 1 << 20, 1 << 20, 0 },
		{ 512, 2 << 20, 512, (1 << 20) - 1024, 0 },
		{ (1 << 20) - 512, 512, 512, (2 << 20) - 512, 0 },
		{ (1 << 20) + 512, (1 << 20) - 512, 1 << 20, 0 },
		{ 700 * 1024, 700 * 1024, 700 * 1024, 700 * 1024, 272 * 1024, 0 },
		/* A step that ends with a piece, in the middle of a block. */
		{ 700000, 872864, 1572864, 0 },
	};
	static const struct {
		const char *path, *more;
	} modes[] = {
		{ image, ",direct=on" },
		{ image, ",direct=off" },
		{ image, ",direct=on,inline=on" },
		{ memory_image, "" },
		{ memory_image, ",inline=off" },
		{ memory_image, ",direct=off,inline=off" },
	};
	const uint32_t len = 3 << 20;
	uint8_t *data = malloc(len), *back = calloc(1, len);

	(void)state;
	assert_true(data != NULL && back != NULL);
	make_image(memory_image, IMAGE_BYTES);
	for (unsigned int i = 0; i < RTE_DIM(cuts) * RTE_DIM(modes); i++) {
		const uint32_t *lengths = cuts[i / RTE_DIM(modes)];
		const unsigned int mode = i % RTE_DIM(modes);
		struct driver_disk d;
		struct driver_io io;

		for (uint32_t j = 0; j < len; j++)
			data[j] = (uint8_t)driver_random(256);
		driver_open(&d, "uring", args_of(modes[mode].path, modes[mode].more), false);
		driver_io_init(&io, VHUB_BLK_WRITE, 4096, lengths, 0);
		io.io.flags = i % 3 == 0 ? VHUB_BLK_IO_FUA : 0;
		driver_io_fill(&io, data);
		driver_run(&d, &io, 1);
		assert_int_equal(io.io.result, 0);
		driver_io_free(&io);
		driver_io_init(&io, VHUB_BLK_READ, 4096, lengths, 0);
		driver_run(&d, &io, 1);
		assert_int_equal(io.io.result, 0);
		driver_io_check_gaps(&io);
		driver_io_take(&io, back);
		assert_memory_equal(data, back, len);
		driver_io_free(&io);
		driver_close(&d);
	}
	free(data);
	free(back);
}

/* ---- sizes ---- */

static void
test_an_image_that_grew_is_taken_over(void **state)
{
	struct driver_disk d;
	uint8_t data[4096], back[4096];
	char error[DRIVER_ERROR_LEN];

	(void)state;
	memset(data, 0x77, sizeof(data));
	driver_open(&d, "uring", args_of(image, ""), false);
	assert_int_equal(truncate(image, 2 * IMAGE_BYTES + 100), 0);
	assert_int_equal(d.ops->resize(d.disk, 0, error, sizeof(error)), 0);
	d.ops->info(d.disk, &d.info);
	assert_int_equal(d.info.capacity_bytes, 2 * IMAGE_BYTES);
	assert_int_equal(driver_rw(&d, VHUB_BLK_WRITE, 2 * IMAGE_BYTES - 4096, data, 4096, 0), 0);
	assert_int_equal(driver_rw(&d, VHUB_BLK_READ, 2 * IMAGE_BYTES - 4096, back, 4096, 0), 0);
	assert_memory_equal(data, back, 4096);
	assert_int_equal(truncate(image, 1 << 20), 0);
	assert_int_equal(d.ops->resize(d.disk, 0, error, sizeof(error)), 0);
	d.ops->info(d.disk, &d.info);
	assert_int_equal(d.info.capacity_bytes, 1 << 20);
	assert_int_equal(truncate(image, 100), 0);
	assert_int_equal(d.ops->resize(d.disk, 0, error, sizeof(error)), -EINVAL);
	d.ops->info(d.disk, &d.info);
	assert_int_equal(d.info.capacity_bytes, 1 << 20);
	driver_close(&d);
}

/* ---- ranges ---- */

static uint64_t
allocated_bytes(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* Space comes back when the guest allows it, and stays the disk's when it does not. */
static void
test_space_is_given_back_when_asked_for(void **state)
{
	const char *const paths[] = { image, memory_image };
	uint8_t *data = malloc(IMAGE_BYTES);

	(void)state;
	memset(data, 0xe7, IMAGE_BYTES);
	for (unsigned int i = 0; i < RTE_DIM(paths); i++) {
		struct driver_disk d;

		make_image(paths[i], IMAGE_BYTES);
		driver_open(&d, "uring", args_of(paths[i], ""), false);
		assert_true(d.info.write_zeroes_may_unmap);
		assert_int_equal(driver_rw(&d, VHUB_BLK_WRITE, 0, data, IMAGE_BYTES,
						 VHUB_BLK_IO_FUA),
				0);
		assert_in_range(allocated_bytes(paths[i]), IMAGE_BYTES, 2 * IMAGE_BYTES);
		assert_int_equal(driver_range(&d, VHUB_BLK_WRITE_ZEROES, 0, IMAGE_BYTES,
						 VHUB_BLK_IO_FUA),
				0);
		assert_in_range(allocated_bytes(paths[i]), IMAGE_BYTES, 2 * IMAGE_BYTES);
		assert_int_equal(driver_range(&d, VHUB_BLK_WRITE_ZEROES, 0, IMAGE_BYTES / 2,
						 VHUB_BLK_IO_UNMAP),
				0);
		assert_in_range(allocated_bytes(paths[i]), 0, IMAGE_BYTES * 3 / 4);
		assert_int_equal(driver_range(&d, VHUB_BLK_DISCARD, IMAGE_BYTES / 2,
						 IMAGE_BYTES / 2, 0),
				0);
		assert_in_range(allocated_bytes(paths[i]), 0, IMAGE_BYTES / 4);
		driver_close(&d);
	}
	free(data);
}

/* Holes in a file that is sealed against writing: the error is the request's. */
static void
test_a_range_that_cannot_be_is_an_error(void **state)
{
	char path[64];
	struct driver_disk d;
	int fd = memfd_create("disk", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, IMAGE_BYTES), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	driver_open(&d, "uring", args_of(path, ""), false);
	assert_int_equal(driver_range(&d, VHUB_BLK_WRITE_ZEROES, 0, 4096, 0), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	assert_int_equal(driver_range(&d, VHUB_BLK_DISCARD, 0, 4096, 0), -EPERM);
	assert_int_equal(driver_range(&d, VHUB_BLK_WRITE_ZEROES, 0, 4096, VHUB_BLK_IO_UNMAP),
			-EPERM);
	assert_int_equal(driver_range(&d, VHUB_BLK_WRITE_ZEROES, 0, 4096, 0), -EPERM);
	driver_close(&d);
	close(fd);
}

/* ---- the process around it ---- */

/* Runs `fn` in a child; its result is the child's exit status. */
static void
in_child(int (*fn)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(fn());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static int
forbid_io_uring(int error_number)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned int)error_number),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = RTE_DIM(filter), .filter = filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static int
open_forbidden(int error_number, const char *word)
{
	struct vhub_blk_disk *disk;
	char error[DRIVER_ERROR_LEN] = "";

	if (forbid_io_uring(error_number) != 0)
		return 1;
	if (driver_parse("uring", args_of(image, ""), false, &disk, NULL) != 0)
		return 2;
	if (disk->ops->open(disk, error, sizeof(error)) != -error_number)
		return 3;
	return strstr(error, "io_uring") != NULL && strstr(error, word) != NULL ? 0 : 4;
}

static int
child_eperm(void)
{
	return open_forbidden(EPERM, "forbidden");
}

static int
child_enosys(void)
{
	return open_forbidden(ENOSYS, "missing");
}

static void
test_a_machine_without_io_uring_is_told(void **state)
{
	(void)state;
	in_child(child_eperm);
	in_child(child_enosys);
}

/* An ordinary user with 8 MiB of memory to lock has as many queues as he has lcores. */
static int
child_ordinary(void)
{
	struct rlimit limit = { 8 << 20, 8 << 20 };
	struct vhub_blk_queue *queues[16];
	struct driver_disk d;
	uint8_t data[4096] = { 0 };

	driver_open(&d, "uring", args_of(image, ""), false);
	if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0)
		return 1;
	if (getuid() == 0 && setuid(65534) != 0)
		return 2;
	for (unsigned int i = 0; i < RTE_DIM(queues); i++) {
		if (d.ops->queue_get(d.disk, &queues[i]) != 0)
			return 3;
	}
	d.queue = queues[15];
	return driver_rw(&d, VHUB_BLK_WRITE, 0, data, sizeof(data), 0) == 0 ? 0 : 4;
}

static void
test_an_ordinary_user_may_use_it(void **state)
{
	(void)state;
	in_child(child_ordinary);
}

/*
 * A block device: a loop device on a file. Making one takes root; without it there is none, and
 * what block devices do otherwise is not tested here. Returns its number, -1 without.
 */
static int
loop_attach(const char *path, int *loop_fd)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), number = -1, fd;
	char name[32];

	*loop_fd = -1;
	if (control < 0)
		return -1;
	fd = open(path, O_RDWR | O_CLOEXEC);
	for (unsigned int i = 0; i < 10 && *loop_fd < 0; i++) {
		number = ioctl(control, LOOP_CTL_GET_FREE);
		snprintf(name, sizeof(name), "/dev/loop%d", number);
		*loop_fd = open(name, O_RDWR | O_CLOEXEC);
		if (*loop_fd >= 0 && ioctl(*loop_fd, LOOP_SET_FD, fd) != 0) {
			close(*loop_fd); /* somebody else was quicker */
			*loop_fd = -1;
		}
	}
	close(fd);
	close(control);
	return *loop_fd >= 0 ? number : -1;
}

/* One on a new image in memory, whose name goes to `path`; the test is skipped without. Returns what it is detached by. */
static int
loop_make(char *path, size_t len)
{
	int number, loop_fd;

	make_image(memory_image, IMAGE_BYTES);
	number = loop_attach(memory_image, &loop_fd);
	if (number < 0)
		skip();
	snprintf(path, len, "/dev/loop%d", number);
	return loop_fd;
}

static void
loop_detach(int loop_fd)
{
	ioctl(loop_fd, LOOP_CLR_FD);
	close(loop_fd);
}

/* A file on a file system without holes, which is mounted nowhere; -1 where that cannot be. */
static int
make_file_without_holes(void)
{
	int fs = (int)syscall(SYS_fsopen, "ramfs", FSOPEN_CLOEXEC), mnt = -1, fd = -1;

	if (fs >= 0 && syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
		mnt = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
	if (mnt >= 0)
		fd = openat(mnt, "image", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd >= 0)
		assert_int_equal(ftruncate(fd, IMAGE_BYTES), 0);
	close(mnt);
	close(fs);
	return fd;
}

/* Whether the kernel looks at the request or at the device first, which has changed (6.12). */
static void
test_a_device_is_not_asked_for_what_it_has_not(void **state)
{
	int fd = make_file_without_holes(), loop_fd = -1, number = -1;
	struct driver_disk d;
	char path[64];

	(void)state;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (fd >= 0)
		number = loop_attach(path, &loop_fd);
	if (number < 0)
		skip();
	snprintf(path, sizeof(path), "/dev/loop%d", number);
	driver_open(&d, "uring", args_of(path, ""), false);
	assert_int_equal(d.info.discard_max_bytes, 0);
	assert_int_equal(d.info.secure_erase_max_bytes, 0);
	driver_close(&d);
	loop_detach(loop_fd);
	close(fd);
}

/* ---- threads of the kernel's ---- */

/* How many there may be for the queues of this thread. */
static unsigned int
workers_allowed(void)
{
	unsigned int most[2] = { 0 };
	struct io_uring ring;

	assert_int_equal(io_uring_queue_init(1, &ring, 0), 0);
	assert_int_equal(io_uring_register_iowq_max_workers(&ring, most), 0);
	io_uring_queue_exit(&ring);
	return most[0];
}

static void
expect_workers_for(unsigned int queues)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_NPROC, &limit), 0);
	assert_true(workers_allowed() >= RTE_MIN(queues * URING_DEPTH, limit.rlim_cur));
}

static void
test_each_queue_of_an_lcore_brings_its_workers(void **state)
{
	struct vhub_blk_queue *queues[4];
	struct driver_disk d;

	(void)state;
	driver_open(&d, "uring", args_of(image, ""), false);
	for (unsigned int round = 0; round < 3; round++) {
		for (unsigned int i = 0; i < RTE_DIM(queues); i++) {
			assert_int_equal(d.ops->queue_get(d.disk, &queues[i]), 0);
			expect_workers_for(i + 2);
		}
		for (unsigned int i = 0; i < RTE_DIM(queues); i++)
			d.ops->queue_put(queues[i]);
		/* Not one more with each round. */
		assert_true(workers_allowed() <= (RTE_DIM(queues) + 1) * URING_DEPTH);
		expect_workers_for(1);
	}
	driver_close(&d);
}

/* Memory whose first touch waits for us. Returns the userfaultfd, -1 where that is not allowed. */
static int
make_memory_that_hangs(void **page)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register wanted = { .mode = UFFDIO_REGISTER_MODE_MISSING };

	if (fd < 0)
		return -1;
	*page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(*page != MAP_FAILED);
	assert_int_equal(ioctl(fd, UFFDIO_API, &api), 0);
	wanted.range.start = (uintptr_t)*page;
	wanted.range.len = 4096;
	assert_int_equal(ioctl(fd, UFFDIO_REGISTER, &wanted), 0);
	return fd;
}

static void *
write_from_it(void *page)
{
	int fd = open(memory_image, O_RDWR | O_CLOEXEC);

	assert_int_equal(pwrite(fd, page, 4096, 0), 4096);
	close(fd);
	return NULL;
}

/* The write of somebody else hangs, and keeps the image from all discards. */
static void
hang_image(void *page, int uffd, pthread_t *writer)
{
	struct uffd_msg msg;

	assert_int_equal(pthread_create(writer, NULL, write_from_it, page), 0);
	assert_int_equal(read(uffd, &msg, sizeof(msg)), sizeof(msg));
	assert_int_equal(msg.event, UFFD_EVENT_PAGEFAULT);
}

/* One disk has as many long requests in flight as it can, and each of the other's flushes ends. */
static void
test_an_image_that_hangs_keeps_no_flush_of_another_disk(void **state)
{
	static struct vhub_blk_io ios[URING_DEPTH];
	struct vhub_blk_io *burst[URING_DEPTH], *done[URING_DEPTH];
	struct uffdio_zeropage zero = { .range.len = 4096 };
	struct driver_disk hung, other;
	unsigned int n = 0;
	pthread_t writer;
	void *page = NULL;
	int uffd = make_memory_that_hangs(&page);

	(void)state;
	if (uffd < 0)
		skip();
	make_image(memory_image, IMAGE_BYTES);
	driver_open(&hung, "uring", args_of(memory_image, ""), false);
	driver_open(&other, "uring", args_of(image, ""), false);
	hang_image(page, uffd, &writer);
	for (unsigned int i = 0; i < URING_DEPTH; i++) {
		ios[i] = (struct vhub_blk_io){ .op = VHUB_BLK_DISCARD, .len_bytes = 4096 };
		burst[i] = &ios[i];
	}
	assert_int_equal(hung.ops->submit(hung.queue, burst, URING_DEPTH), URING_DEPTH);
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(driver_rw(&other, VHUB_BLK_FLUSH, 0, NULL, 0, 0), 0);
	assert_int_equal(hung.ops->reap(hung.queue, done, URING_DEPTH), 0);
	zero.range.start = (uintptr_t)page;
	assert_int_equal(ioctl(uffd, UFFDIO_ZEROPAGE, &zero), 0);
	assert_int_equal(pthread_join(writer, NULL), 0);
	while (n < URING_DEPTH)
		n += hung.ops->reap(hung.queue, done, URING_DEPTH);
	for (unsigned int i = 0; i < URING_DEPTH; i++)
		assert_int_equal(ios[i].result, 0);
	driver_close(&hung);
	driver_close(&other);
	munmap(page, 4096);
	close(uffd);
}

/* ---- block devices have many names ---- */

static void
set_lock(struct driver_disk *d, bool locked)
{
	char error[DRIVER_ERROR_LEN] = "";

	assert_int_equal(d->ops->lock(d->disk, locked, error, sizeof(error)), 0);
}

/* Returns what locking it does, which the message tells. */
static int
lock_device(struct driver_disk *d, const char *path)
{
	char error[DRIVER_ERROR_LEN] = "";
	int ret = d->ops->lock(d->disk, true, error, sizeof(error));

	if (ret != 0)
		assert_true(strstr(error, path) != NULL && strstr(error, "in use") != NULL);
	return ret;
}

/* Another node of a device is as good as its own for who writes, and so is who has it mounted. */
static void
test_a_device_has_one_writer_by_whatever_name(void **state)
{
	struct driver_disk a, b, reader;
	char path[64], other[600];
	int loop_fd, fd;
	struct stat st;

	(void)state;
	loop_fd = loop_make(path, sizeof(path));
	snprintf(other, sizeof(other), "%s/node", folder);
	assert_int_equal(fstat(loop_fd, &st), 0);
	assert_int_equal(mknod(other, S_IFBLK | 0600, st.st_rdev), 0);
	driver_open(&a, "uring", args_of(path, ""), false);
	driver_open(&b, "uring", args_of(other, ""), false);
	driver_open(&reader, "uring", args_of(other, ""), true);
	assert_int_equal(lock_device(&a, path), 0);
	assert_int_equal(lock_device(&b, other), -EAGAIN);
	/* Only its own node's lock is known to it. */
	assert_int_equal(lock_device(&reader, other), 0);
	set_lock(&reader, false);
	set_lock(&a, false);
	assert_int_equal(lock_device(&b, other), 0);
	assert_int_equal(lock_device(&a, path), -EAGAIN);
	set_lock(&b, false);
	fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(lock_device(&b, other), -EAGAIN);
	assert_int_equal(lock_device(&reader, other), 0);
	close(fd);
	set_lock(&reader, false);
	assert_int_equal(lock_device(&b, other), 0);
	driver_close(&b);
	assert_int_equal(lock_device(&a, path), 0);
	driver_close(&a);
	driver_close(&reader);
	unlink(other);
	loop_detach(loop_fd);
}

/* Its guest may discard what it has just written and not flushed. */
static void
test_what_the_page_cache_has_changed_can_be_discarded(void **state)
{
	uint8_t block[4096] = { 1 };
	struct driver_disk d;
	int loop_fd;
	char path[64];

	(void)state;
	loop_fd = loop_make(path, sizeof(path));
	driver_open(&d, "uring", args_of(path, ",direct=off"), false);
	assert_int_equal(lock_device(&d, path), 0);
	assert_int_equal(driver_rw(&d, VHUB_BLK_WRITE, 4096, block, sizeof(block), 0), 0);
	assert_int_equal(driver_range(&d, VHUB_BLK_DISCARD, 4096, sizeof(block), 0), 0);
	assert_int_equal(driver_rw(&d, VHUB_BLK_WRITE, 4096, block, sizeof(block), 0), 0);
	assert_int_equal(driver_range(&d, VHUB_BLK_WRITE_ZEROES, 4096, sizeof(block), 0), 0);
	assert_int_equal(driver_rw(&d, VHUB_BLK_READ, 4096, block, sizeof(block), 0), 0);
	assert_int_equal(block[0], 0);
	set_lock(&d, false);
	driver_close(&d);
	loop_detach(loop_fd);
}

/* ---- the kernel, when the process is gone ---- */

/* Says so once its write is in flight, and waits for its end. */
static void
serve_until_killed(const char *path, int connection)
{
	const uint32_t lengths[] = { 4096, 0 };
	struct vhub_blk_io *burst[1];
	struct driver_disk d;
	struct driver_io io;

	driver_open(&d, "uring", args_of(path, ",direct=on"), false);
	set_lock(&d, true);
	d.ops->front_end(d.disk, connection);
	if (d.ops->queue_get(d.disk, &d.queue) != 0)
		_exit(1);
	driver_io_init(&io, VHUB_BLK_WRITE, 0, lengths, 0);
	burst[0] = &io.io;
	if (d.ops->submit(d.queue, burst, 1) != 1 || write(connection, "x", 1) != 1)
		_exit(2);
	for (;;)
		pause();
}

/* What poll(2) says of `fd` within so long; 0: nothing. */
static int
happens(int fd, int timeout_ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLRDHUP };

	return poll(&pfd, 1, timeout_ms) > 0 ? pfd.revents : 0;
}

/*
 * Else its guest would use memory that the kernel still reads from, or writes to. Nor has anybody else the device
 * by then.
 */
static void
test_a_front_end_hears_of_our_end_when_nothing_is_in_flight(void **state)
{
	struct uffdio_zeropage zero = { .range.len = 4096 };
	int loop_fd = -1, number, uffd, status, early, claim, fds[2];
	pthread_t writer;
	void *page = NULL;
	char path[64];
	pid_t child;
	char byte;

	(void)state;
	make_image(memory_image, IMAGE_BYTES);
	uffd = make_memory_that_hangs(&page);
	number = uffd < 0 ? -1 : loop_attach(memory_image, &loop_fd);
	if (number < 0)
		skip();
	snprintf(path, sizeof(path), "/dev/loop%d", number);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	hang_image(page, uffd, &writer);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		close(fds[0]);
		serve_until_killed(path, fds[1]);
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], &byte, 1), 1);
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	early = happens(fds[0], 200);
	claim = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);
	zero.range.start = (uintptr_t)page;
	assert_int_equal(ioctl(uffd, UFFDIO_ZEROPAGE, &zero), 0);
	assert_int_equal(pthread_join(writer, NULL), 0);
	assert_int_equal(early, 0);
	assert_int_equal(claim, -1);
	assert_int_not_equal(happens(fds[0], 20000) & POLLHUP, 0);
	close(fds[0]);
	munmap(page, 4096);
	close(uffd);
	loop_detach(loop_fd);
}

/* ---- what the page cache has when an image is handed over ---- */

/* Another host: it sees what the device has, and not our page cache. */
static void
expect_elsewhere(int fd, uint8_t expected)
{
	uint8_t byte = 0;

	assert_int_equal(pread(fd, &byte, 1, 4096), 1);
	assert_int_equal(byte, expected);
}

static void
expect_read(struct driver_disk *d, uint8_t expected)
{
	uint8_t block[4096] = { 0 };

	assert_int_equal(driver_rw(d, VHUB_BLK_READ, 4096, block, sizeof(block), 0), 0);
	assert_int_equal(block[0], expected);
}

/* A block device whose storage somebody else changes behind its page cache. */
static void
test_another_host_gets_all_and_gives_all(void **state)
{
	uint8_t block[4096] = { 1 };
	struct driver_disk d, reader, other;
	int loop_fd, fd;
	char path[64];

	(void)state;
	loop_fd = loop_make(path, sizeof(path));
	fd = open(memory_image, O_RDWR | O_CLOEXEC);
	driver_open(&d, "uring", args_of(path, ",direct=off"), false);
	set_lock(&d, true);
	assert_int_equal(driver_rw(&d, VHUB_BLK_WRITE, 4096, block, sizeof(block), 0), 0);
	expect_elsewhere(fd, 0);
	set_lock(&d, false);
	expect_elsewhere(fd, 1);
	assert_int_equal(pwrite(fd, "\2", 1, 4096), 1);
	set_lock(&d, true);
	expect_read(&d, 2);
	set_lock(&d, false);
	driver_close(&d);
	/* Of those who share it the first one looks anew. */
	driver_open(&reader, "uring", args_of(path, ",direct=off"), true);
	driver_open(&other, "uring", args_of(path, ",direct=off"), true);
	assert_int_equal(pwrite(fd, "\3", 1, 4096), 1);
	set_lock(&reader, true);
	expect_read(&reader, 3);
	assert_int_equal(pwrite(fd, "\4", 1, 4096), 1);
	set_lock(&other, true);
	expect_read(&other, 3);
	driver_close(&reader);
	driver_close(&other);
	close(fd);
	loop_detach(loop_fd);
}

/* ---- what the page cache loses ---- */

/* One FLUSH by another queue of the disk, as another lcore has one. */
static int
flush_by_another_queue(struct driver_disk *d)
{
	struct driver_disk other = *d;
	int result;

	assert_int_equal(d->ops->queue_get(d->disk, &other.queue), 0);
	result = driver_rw(&other, VHUB_BLK_FLUSH, 0, NULL, 0, 0);
	d->ops->queue_put(other.queue);
	return result;
}

static void
lose_by_page_cache(struct driver_disk *d, uint8_t *block)
{
	assert_int_equal(driver_rw(d, VHUB_BLK_WRITE, IMAGE_BYTES / 2, block, 4096, 0), 0);
	/* The kernel tells the first one only. */
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(driver_rw(d, VHUB_BLK_FLUSH, 0, NULL, 0, 0), -EIO);
	assert_int_equal(flush_by_another_queue(d), -EIO);
	assert_int_equal(driver_rw(d, VHUB_BLK_WRITE, 0, block, 4096, VHUB_BLK_IO_FUA), -EIO);
	assert_int_equal(driver_range(d, VHUB_BLK_WRITE_ZEROES, 0, 4096, VHUB_BLK_IO_FUA), -EIO);
	/* What need not be durable is not concerned. */
	assert_int_equal(driver_range(d, VHUB_BLK_WRITE_ZEROES, 0, 4096, 0), 0);
	assert_int_equal(driver_rw(d, VHUB_BLK_WRITE, 0, block, 4096, 0), 0);
	assert_int_equal(driver_rw(d, VHUB_BLK_READ, 0, block, 4096, 0), 0);
}

static void
expect_durable(struct driver_disk *d, uint8_t *block)
{
	assert_int_equal(driver_rw(d, VHUB_BLK_FLUSH, 0, NULL, 0, 0), 0);
	assert_int_equal(driver_rw(d, VHUB_BLK_WRITE, 0, block, 4096, VHUB_BLK_IO_FUA), 0);
}

/* A block device whose second half takes no writes: memory that may not grow again. */
static void
test_what_the_page_cache_lost_is_not_forgotten(void **state)
{
	int fd = memfd_create("disk", MFD_CLOEXEC | MFD_ALLOW_SEALING), loop_fd, number;
	static uint8_t block[4096] __attribute__((aligned(4096)));
	struct driver_disk d;
	char path[64];

	(void)state;
	assert_int_equal(ftruncate(fd, IMAGE_BYTES), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	number = loop_attach(path, &loop_fd);
	if (number < 0)
		skip();
	assert_int_equal(ftruncate(fd, IMAGE_BYTES / 2), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
	snprintf(path, sizeof(path), "/dev/loop%d", number);
	driver_open(&d, "uring", args_of(path, ",direct=off"), false);
	expect_durable(&d, block);
	lose_by_page_cache(&d, block);
	driver_close(&d);
	driver_open(&d, "uring", args_of(path, ",direct=off"), false);
	expect_durable(&d, block);
	/* Taken by a write: it is remembered as well. */
	assert_int_equal(driver_rw(&d, VHUB_BLK_WRITE, IMAGE_BYTES / 2, block, 4096,
					 VHUB_BLK_IO_FUA),
			-EIO);
	assert_int_equal(driver_rw(&d, VHUB_BLK_FLUSH, 0, NULL, 0, 0), -EIO);
	driver_close(&d);
	/* Or when the image is handed over. */
	driver_open(&d, "uring", args_of(path, ",direct=off"), false);
	set_lock(&d, true);
	assert_int_equal(driver_rw(&d, VHUB_BLK_WRITE, IMAGE_BYTES / 2, block, 4096, 0), 0);
	set_lock(&d, false);
	assert_int_equal(driver_rw(&d, VHUB_BLK_FLUSH, 0, NULL, 0, 0), -EIO);
	driver_close(&d);
	/* Past the page cache the error is the write's. */
	driver_open(&d, "uring", args_of(path, ",direct=on"), false);
	assert_int_equal(driver_rw(&d, VHUB_BLK_WRITE, IMAGE_BYTES / 2, block, 4096, 0), -EIO);
	expect_durable(&d, block);
	driver_close(&d);
	loop_detach(loop_fd);
	close(fd);
}

static void
test_errors_that_tell_of_lost_writes(void **state)
{
	const struct uring_disk file = { 0 }, device = { .block_device = true },
				direct = { .direct = true, .block_device = true },
				direct_file = { .direct = true }, memory = { .in_memory = true };
	static const int own[] = { EFAULT, EFBIG, EDQUOT, EPERM, ENOMEM },
			 any[] = { EIO, ENODATA, ETIMEDOUT, EREMOTEIO },
			 none[] = { 0, -4096, EAGAIN, EINTR, ECANCELED };

	(void)state;
	for (unsigned int i = 0; i < RTE_DIM(own); i++) {
		assert_true(lost_tells(&file, LOST_BY_SYNC, -own[i]));
		assert_false(lost_tells(&file, LOST_BY_WRITE, -own[i]));
	}
	for (unsigned int i = 0; i < RTE_DIM(any); i++) {
		assert_true(lost_tells(&file, LOST_BY_SYNC, -any[i]));
		assert_true(lost_tells(&device, LOST_BY_WRITE, -any[i]));
		assert_false(lost_tells(&file, LOST_NEVER, -any[i]));
		assert_false(lost_tells(&direct, LOST_BY_SYNC, -any[i]));
		/* A file system may use its page cache all the same. */
		assert_true(lost_tells(&direct_file, LOST_BY_SYNC, -any[i]));
		assert_false(lost_tells(&direct_file, LOST_BY_WRITE, -any[i]));
		assert_false(lost_tells(&direct_file, LOST_NEVER, -any[i]));
		assert_false(lost_tells(&memory, LOST_BY_SYNC, -any[i]));
	}
	for (unsigned int i = 0; i < RTE_DIM(none); i++) {
		assert_false(lost_tells(&device, LOST_BY_SYNC, -none[i]));
		assert_false(lost_tells(&device, LOST_BY_WRITE, -none[i]));
		assert_false(lost_tells(&direct_file, LOST_BY_SYNC, -none[i]));
	}
	assert_true(lost_tells(&file, LOST_BY_SYNC, -ENOSPC));
	assert_false(lost_tells(&file, LOST_BY_WRITE, -ENOSPC));
	assert_true(lost_tells(&device, LOST_BY_WRITE, -ENOSPC));
}

/* Without a block device: what is told of results, one after the other. */
static void
test_once_lost_nothing_is_durable_any_more(void **state)
{
	static const struct vhub_blk_io flush = { .op = VHUB_BLK_FLUSH },
					fua = { .op = VHUB_BLK_WRITE, .flags = VHUB_BLK_IO_FUA },
					write = { .op = VHUB_BLK_WRITE },
					read = { .op = VHUB_BLK_READ };
	struct uring_disk d = { .path = image };

	(void)state;
	lost_look(&d, LOST_BY_SYNC, -EAGAIN);
	assert_int_equal(lost_result(&d, &flush, 0), 0);
	lost_look(&d, LOST_BY_SYNC, -ENOSPC);
	lost_look(&d, LOST_BY_SYNC, -EIO);
	lost_look(&d, LOST_BY_SYNC, 0);
	assert_int_equal(lost_result(&d, &flush, 0), -ENOSPC);
	assert_int_equal(lost_result(&d, &fua, 0), -ENOSPC);
	assert_int_equal(lost_result(&d, &fua, -EINPROGRESS), -EINPROGRESS);
	assert_int_equal(lost_result(&d, &fua, -EFAULT), -EFAULT);
	/* What is wanted back is not left for another life, which would not know. */
	assert_int_equal(lost_result(&d, &flush, -ECANCELED), -ENOSPC);
	assert_int_equal(lost_result(&d, &read, -ECANCELED), -ECANCELED);
	assert_int_equal(lost_result(&d, &write, 0), 0);
	assert_int_equal(lost_result(&d, &read, 0), 0);
}

static int
run_suite_on_loop(void)
{
	struct driver_suite suite = {
		.name = "uring, block device",
		.driver = "uring",
		.capacity_bytes = IMAGE_BYTES,
		.keeps_data = true,
		.wakes = true,
		.ranges = 1u << VHUB_BLK_DISCARD | 1u << VHUB_BLK_WRITE_ZEROES,
	};
	char args[64];
	int loop_fd, number, failed;

	make_image(memory_image, IMAGE_BYTES);
	number = loop_attach(memory_image, &loop_fd);
	if (number < 0) {
		printf("no loop device can be made here: block devices are not tested\n");
		return 0;
	}
	snprintf(args, sizeof(args), "path=/dev/loop%d", number);
	suite.args = args;
	failed = driver_suite_run(&suite);
	loop_detach(loop_fd);
	return failed;
}

static int
run_suite(const char *name, const char *path, const char *more, off_t bytes, bool wakes)
{
	struct driver_suite suite = {
		.name = name,
		.driver = "uring",
		.capacity_bytes = (uint64_t)bytes / 512 * 512,
		.keeps_data = true,
		.wakes = wakes,
		.ranges = 1u << VHUB_BLK_DISCARD | 1u << VHUB_BLK_WRITE_ZEROES,
	};
	char args[512];

	make_image(path, bytes);
	snprintf(args, sizeof(args), "path=%s%s", path, more);
	suite.args = args;
	return driver_suite_run(&suite);
}

/* Where there is a device that can be polled; elsewhere the reason is told. */
static int
run_suite_polled(void)
{
	struct vhub_blk_disk *disk;
	char error[DRIVER_ERROR_LEN] = "";
	int ret;

	make_image(image, IMAGE_BYTES);
	if (driver_parse("uring", args_of(image, ",direct=on,iopoll=on"), false, &disk, NULL) != 0)
		return 1;
	ret = disk->ops->open(disk, error, sizeof(error));
	disk->ops->destroy(disk);
	if (ret == 0)
		return run_suite("uring, iopoll", image, ",direct=on,iopoll=on", IMAGE_BYTES,
				false);
	printf("%s\n", error);
	return ret == -EOPNOTSUPP && strstr(error, "nvme.poll_queues") != NULL ? 0 : 1;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_what_is_no_image_is_refused, fresh_image),
		cmocka_unit_test_setup(test_the_longest_io, fresh_image),
		cmocka_unit_test_setup(test_a_size_of_no_whole_sectors_is_rounded_down,
				fresh_image),
		cmocka_unit_test_setup(test_info_tells_the_path_and_the_cache, fresh_image),
		cmocka_unit_test_setup(test_direct_is_obeyed, fresh_image),
		cmocka_unit_test_setup(test_an_image_has_one_writer_or_many_readers, fresh_image),
		cmocka_unit_test_setup(test_another_process_is_kept_out, fresh_image),
		cmocka_unit_test_setup(test_an_image_that_was_cut_gives_errors, fresh_image),
		cmocka_unit_test_setup(test_short_writes_go_on_or_fail, fresh_image),
		cmocka_unit_test_setup(test_buffers_that_are_not_there_give_errors, fresh_image),
		cmocka_unit_test_setup(test_bounce_buffers_bound_what_is_accepted, fresh_image),
		cmocka_unit_test_setup(test_large_unaligned_requests_go_in_steps, fresh_image),
		cmocka_unit_test(test_a_call_does_not_copy_all_of_a_large_burst),
		cmocka_unit_test(test_in_memory_nothing_is_waited_for),
		cmocka_unit_test_setup(test_what_the_page_cache_has_not_is_read_too, fresh_image),
		cmocka_unit_test_setup(test_the_page_cache_is_asked_again_after_a_miss,
				fresh_image),
		cmocka_unit_test_setup(test_an_end_of_the_file_is_left_to_the_io_uring,
				fresh_image),
		cmocka_unit_test_setup(test_steps_end_anywhere, fresh_image),
		cmocka_unit_test_setup(test_an_image_that_grew_is_taken_over, fresh_image),
		cmocka_unit_test(test_space_is_given_back_when_asked_for),
		cmocka_unit_test(test_a_range_that_cannot_be_is_an_error),
		cmocka_unit_test(test_a_device_is_not_asked_for_what_it_has_not),
		cmocka_unit_test_setup(test_each_queue_of_an_lcore_brings_its_workers, fresh_image),
		cmocka_unit_test_setup(test_an_image_that_hangs_keeps_no_flush_of_another_disk,
				fresh_image),
		cmocka_unit_test(test_a_device_has_one_writer_by_whatever_name),
		cmocka_unit_test(test_what_the_page_cache_has_changed_can_be_discarded),
		cmocka_unit_test(test_a_front_end_hears_of_our_end_when_nothing_is_in_flight),
		cmocka_unit_test(test_another_host_gets_all_and_gives_all),
		cmocka_unit_test(test_what_the_page_cache_lost_is_not_forgotten),
		cmocka_unit_test(test_errors_that_tell_of_lost_writes),
		cmocka_unit_test(test_once_lost_nothing_is_durable_any_more),
		cmocka_unit_test_setup(test_a_machine_without_io_uring_is_told, fresh_image),
		cmocka_unit_test_setup(test_an_ordinary_user_may_use_it, fresh_image),
	};
	int failed;

	if (test_eal_init() != 0 || make_folders() != 0)
		return 99;
	failed = run_suite("uring, pinned", image, ",direct=on,pin=on", IMAGE_BYTES, true);
	failed += run_suite("uring, pinned, page cache", image, ",direct=off,pin=on", IMAGE_BYTES,
			true);
	failed += run_suite("uring, sqpoll", image, ",direct=on,sqpoll=on,sqpoll_idle_ms=1,pin=on",
			IMAGE_BYTES, true);
	failed += run_suite_polled();
	failed += run_suite("uring, O_DIRECT", image, ",direct=on", IMAGE_BYTES, true);
	failed += run_suite("uring, page cache", image, ",direct=off", IMAGE_BYTES, true);
	/* Nothing is ever in flight between two turns. */
	failed += run_suite("uring, tmpfs", memory_image, "", IMAGE_BYTES, false);
	failed += run_suite("uring, tmpfs by the io_uring", memory_image, ",inline=off",
			IMAGE_BYTES, true);
	failed += run_suite("uring, odd size", image, "", IMAGE_BYTES + 100, true);
	failed += run_suite_on_loop();
	failed += cmocka_run_group_tests(tests, NULL, NULL);
	remove_folders();
	return failed;
}
