/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The suite that every block driver passes. All but the last test drive a queue from the test's own
 * thread; the last one does it on an lcore that falls asleep between requests.
 */
#include "driver_suite.h"
#include "driver_arena.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <rte_common.h>

#include "vhub_lcore.h"
#include "vhub_loop.h"

#define GAP_BYTES 64
#define GAP_FILL 0x5a

static const struct driver_suite *suite;

uint64_t
driver_random(uint64_t below)
{
	static uint64_t state = 0x9e3779b97f4a7c15u;

	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return state * 2685821657736338717u % below;
}

/* ---- disks ---- */

int
driver_parse(const char *driver, const char *args, bool read_only, struct vhub_blk_disk **out,
		char *error)
{
	const struct vhub_blk_driver_ops *ops = vhub_blk_driver_find(driver);
	char sentence[DRIVER_ERROR_LEN] = "";
	struct rte_kvargs *kvlist;
	int ret;

	assert_non_null(ops);
	kvlist = rte_kvargs_parse(args, NULL);
	assert_non_null(kvlist);
	ret = ops->parse(kvlist, read_only, out, sentence, sizeof(sentence));
	rte_kvargs_free(kvlist);
	if (ret == -EINVAL)
		assert_string_not_equal(sentence, "");
	if (error != NULL)
		memcpy(error, sentence, sizeof(sentence));
	return ret;
}

void
driver_expect_refused(const char *driver, const char *args, bool read_only, int expected,
		const char *word)
{
	struct vhub_blk_disk *disk = NULL;
	char error[DRIVER_ERROR_LEN] = "";
	int ret = driver_parse(driver, args, read_only, &disk, error);

	if (ret == 0) {
		ret = disk->ops->open(disk, error, sizeof(error));
		disk->ops->destroy(disk);
	}
	assert_int_equal(ret, expected);
	if (strstr(error, word) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", error, word);
}

void
driver_open(struct driver_disk *d, const char *driver, const char *args, bool read_only)
{
	char error[DRIVER_ERROR_LEN] = "";

	memset(d, 0, sizeof(*d));
	if (driver_parse(driver, args, read_only, &d->disk, error) != 0)
		fail_msg("driver %s, %s: %s", driver, args, error);
	d->ops = d->disk->ops;
	assert_ptr_equal(d->ops, vhub_blk_driver_find(driver));
	if (d->ops->open(d->disk, error, sizeof(error)) != 0)
		fail_msg("driver %s, %s: %s", driver, args, error);
	if (d->ops->place != NULL && d->ops->place(d->disk, 0, error, sizeof(error)) != 0)
		fail_msg("driver %s, %s: %s", driver, args, error);
	if (d->ops->memory != NULL)
		d->ops->memory(d->disk, driver_arena_table());
	d->ops->info(d->disk, &d->info);
	assert_int_equal(d->ops->queue_get(d->disk, &d->queue), 0);
	assert_ptr_equal(d->queue->disk, d->disk);
}

void
driver_close(struct driver_disk *d)
{
	d->ops->queue_put(d->queue);
	if (d->ops->memory != NULL)
		d->ops->memory(d->disk, NULL);
	d->ops->destroy(d->disk);
}

/* ---- I/Os ---- */

void
driver_io_init(struct driver_io *io, enum vhub_blk_op op, uint64_t offset, const uint32_t *lengths,
		size_t misalign)
{
	size_t at = 0;

	memset(io, 0, sizeof(*io));
	for (const uint32_t *len = lengths; *len != 0; len++)
		io->area_bytes += 2 * 512 + GAP_BYTES + misalign + *len;
	io->area_bytes += GAP_BYTES;
	io->area = driver_arena_get(io->area_bytes);
	assert_non_null(io->area);
	memset(io->area, GAP_FILL, io->area_bytes);
	for (; *lengths != 0; lengths++) {
		at = (at + GAP_BYTES + 511) / 512 * 512 + misalign;
		assert_true(io->io.n_iov < sizeof(io->iov) / sizeof(io->iov[0]));
		io->iov[io->io.n_iov++] = (struct iovec){ io->area + at, *lengths };
		io->io.len_bytes += *lengths;
		at += *lengths;
	}
	io->io.iov = io->iov;
	io->io.op = (uint8_t)op;
	io->io.offset_bytes = offset;
	io->io.result = 12345;
}

void
driver_io_free(struct driver_io *io)
{
	driver_arena_put(io->area);
	io->area = NULL;
}

void
driver_io_fill(struct driver_io *io, const uint8_t *data)
{
	for (unsigned int i = 0; i < io->io.n_iov; i++) {
		memcpy(io->iov[i].iov_base, data, io->iov[i].iov_len);
		data += io->iov[i].iov_len;
	}
}

void
driver_io_take(const struct driver_io *io, uint8_t *data)
{
	for (unsigned int i = 0; i < io->io.n_iov; i++) {
		memcpy(data, io->iov[i].iov_base, io->iov[i].iov_len);
		data += io->iov[i].iov_len;
	}
}

void
driver_io_check_gaps(const struct driver_io *io)
{
	size_t at = 0;

	for (unsigned int i = 0; i <= io->io.n_iov; i++) {
		size_t end = i == io->io.n_iov ?
				io->area_bytes :
				(size_t)((uint8_t *)io->iov[i].iov_base - io->area);

		for (; at < end; at++) {
			if (io->area[at] != GAP_FILL)
				fail_msg("byte %zu, outside of the buffers, was written", at);
		}
		if (i < io->io.n_iov)
			at += io->iov[i].iov_len;
	}
}

static uint64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Returns how many came back. */
static unsigned int
reap_some(struct driver_disk *d, uint16_t max)
{
	struct vhub_blk_io *done[64];
	uint16_t n = d->ops->reap(d->queue, done, max);

	assert_true(n <= max);
	for (uint16_t i = 0; i < n; i++) {
		struct driver_io *io = vhub_container_of(done[i], struct driver_io, io);

		assert_int_equal(io->completions, 0);
		assert_int_not_equal(io->io.result, 12345);
		io->completions++;
	}
	return n;
}

void
driver_run(struct driver_disk *d, struct driver_io *ios, unsigned int n)
{
	struct vhub_blk_io *burst[64];
	unsigned int submitted = 0, reaped = 0;
	uint64_t deadline = now_ns() + 60000000000u;

	while (reaped < n) {
		unsigned int in_burst = 0;
		uint16_t accepted = 0;

		while (in_burst < 64 && submitted + in_burst < n) {
			burst[in_burst] = &ios[submitted + in_burst].io;
			in_burst++;
		}
		if (in_burst != 0)
			accepted = d->ops->submit(d->queue, burst, (uint16_t)in_burst);
		assert_true(accepted <= in_burst);
		/* Nothing is in flight, so nothing stands in the way of one. */
		if (in_burst != 0 && submitted == reaped)
			assert_true(accepted > 0);
		submitted += accepted;
		reaped += reap_some(d, 1 + (uint16_t)driver_random(64));
		assert_true(reaped <= submitted);
		if (now_ns() > deadline)
			fail_msg("%u of %u requests never came back", n - reaped, n);
	}
	assert_int_equal(reap_some(d, 64), 0);
}

int
driver_rw(struct driver_disk *d, enum vhub_blk_op op, uint64_t offset, void *data, uint32_t len,
		uint8_t flags)
{
	const uint32_t lengths[] = { len, 0 };
	struct driver_io io;
	int result;

	driver_io_init(&io, op, offset, lengths, 0);
	io.io.flags = flags;
	if (op == VHUB_BLK_WRITE)
		driver_io_fill(&io, data);
	driver_run(d, &io, 1);
	if (op == VHUB_BLK_READ)
		driver_io_take(&io, data);
	driver_io_check_gaps(&io);
	result = io.io.result;
	driver_io_free(&io);
	return result;
}

/* ---- the tests ---- */

static int
setup(void **state)
{
	static struct driver_disk d;

	driver_open(&d, suite->driver, suite->args, false);
	*state = &d;
	return 0;
}

static int
teardown(void **state)
{
	driver_close(*state);
	return 0;
}

static void
test_info_is_sensible(void **state)
{
	struct driver_disk *d = *state;

	assert_int_equal(d->info.capacity_bytes, suite->capacity_bytes);
	assert_true(d->info.block_bytes == 512 || d->info.block_bytes == 4096);
	assert_int_equal(d->info.capacity_bytes % d->info.block_bytes, 0);
	assert_true(d->info.physical_block_bytes >= d->info.block_bytes);
	assert_int_equal(d->info.physical_block_bytes & (d->info.physical_block_bytes - 1), 0);
	assert_int_equal(d->info.optimal_io_bytes % d->info.block_bytes, 0);
	assert_string_not_equal(d->info.target, "");
	assert_false(d->info.read_only);
}

static void
test_info_tells_a_read_only_disk(void **state)
{
	struct driver_disk d;

	(void)state;
	driver_open(&d, suite->driver, suite->args, true);
	assert_true(d.info.read_only);
	driver_close(&d);
}

/* Cuts `len` into pieces: of any length (`odd`), or of whole blocks. */
static void
random_lengths(uint32_t *lengths, uint32_t len, uint32_t block, bool odd)
{
	unsigned int n = 0, n_max = 1 + (unsigned int)driver_random(30);

	while (len > 0) {
		uint32_t piece = n + 1 == n_max ? len : 1 + (uint32_t)driver_random(len);

		if (!odd)
			piece = (piece + block - 1) / block * block;
		lengths[n++] = piece;
		len -= piece;
	}
	lengths[n] = 0;
}

#define LANES 24u

/*
 * One round: a burst of random I/Os, each in a lane of the disk of its own, so that their order
 * does not matter.
 */
static void
random_round(struct driver_disk *d, uint8_t *model)
{
	uint64_t block = d->info.block_bytes;
	uint64_t lane_blocks = d->info.capacity_bytes / block / LANES;
	struct driver_io ios[LANES];
	uint8_t *data = malloc(lane_blocks * block);

	assert_non_null(data);
	for (unsigned int i = 0; i < LANES; i++) {
		enum vhub_blk_op op = driver_random(2) == 0 ? VHUB_BLK_READ : VHUB_BLK_WRITE;
		uint64_t n = 1 +
				driver_random(driver_random(8) == 0 ?
								lane_blocks :
								RTE_MIN(lane_blocks, UINT64_C(32)));
		uint64_t offset = (i * lane_blocks + driver_random(lane_blocks - n + 1)) * block;
		bool odd = driver_random(3) == 0;
		uint32_t lengths[32];

		random_lengths(lengths, (uint32_t)(n * block), (uint32_t)block, odd);
		driver_io_init(&ios[i], op, offset, lengths, odd ? driver_random(512) : 0);
		ios[i].io.flags = driver_random(4) == 0 ? VHUB_BLK_IO_FUA : 0;
		if (op == VHUB_BLK_WRITE) {
			for (uint64_t j = 0; j < n * block; j++)
				model[offset + j] = (uint8_t)driver_random(256);
			driver_io_fill(&ios[i], model + offset);
		}
	}
	driver_run(d, ios, LANES);
	for (unsigned int i = 0; i < LANES; i++) {
		struct driver_io *io = &ios[i];

		assert_int_equal(io->io.result, 0);
		assert_int_equal(io->completions, 1);
		driver_io_check_gaps(io);
		driver_io_take(io, data);
		if (suite->keeps_data &&
				memcmp(data, model + io->io.offset_bytes, io->io.len_bytes) != 0)
			fail_msg("%s of %u bytes at %" PRIu64 ": other data than written",
					io->io.op == VHUB_BLK_READ ? "read" : "write",
					io->io.len_bytes, io->io.offset_bytes);
		driver_io_free(io);
	}
	free(data);
}

static void
test_what_was_written_is_read(void **state)
{
	struct driver_disk *d = *state;
	uint8_t *model = malloc(suite->capacity_bytes);
	uint8_t *disk = malloc(suite->capacity_bytes);

	assert_non_null(model);
	assert_non_null(disk);
	/* What the disk held before is part of the model. */
	assert_int_equal(driver_rw(d, VHUB_BLK_READ, 0, model, (uint32_t)suite->capacity_bytes, 0),
			0);
	for (unsigned int i = 0; i < 40; i++)
		random_round(d, model);
	assert_int_equal(driver_rw(d, VHUB_BLK_READ, 0, disk, (uint32_t)suite->capacity_bytes, 0),
			0);
	if (suite->keeps_data)
		assert_memory_equal(disk, model, suite->capacity_bytes);
	free(disk);
	free(model);
}

static void
test_the_last_block(void **state)
{
	struct driver_disk *d = *state;
	uint32_t block = d->info.block_bytes;
	uint64_t last = d->info.capacity_bytes - block;
	uint8_t *a = malloc(2 * block), *b = malloc(2 * block);

	memset(a, 0xa1, 2 * block);
	memset(b, 0, 2 * block);
	assert_int_equal(driver_rw(d, VHUB_BLK_WRITE, last, a, block, 0), 0);
	assert_int_equal(driver_rw(d, VHUB_BLK_READ, last, b, block, 0), 0);
	if (suite->keeps_data)
		assert_memory_equal(a, b, block);
	memset(a, 0xa2, 2 * block);
	assert_int_equal(driver_rw(d, VHUB_BLK_WRITE, last - block, a, 2 * block, VHUB_BLK_IO_FUA),
			0);
	assert_int_equal(driver_rw(d, VHUB_BLK_READ, last - block, b, 2 * block, 0), 0);
	if (suite->keeps_data)
		assert_memory_equal(a, b, 2 * block);
	free(a);
	free(b);
}

static void
test_flush_completes(void **state)
{
	static const uint32_t none[] = { 0 };
	const uint32_t one[] = { 4096, 0 };
	struct driver_io ios[32];

	for (unsigned int i = 0; i < 32; i++) {
		if (i % 3 == 0)
			driver_io_init(&ios[i], VHUB_BLK_FLUSH, 0, none, 0);
		else
			driver_io_init(&ios[i], VHUB_BLK_WRITE, i * 4096, one, 0);
	}
	driver_run(*state, ios, 32);
	for (unsigned int i = 0; i < 32; i++) {
		assert_int_equal(ios[i].io.result, 0);
		assert_int_equal(ios[i].completions, 1);
		driver_io_free(&ios[i]);
	}
}

#define MANY 3000u

static void
test_more_than_it_can_hold_completes_once_each(void **state)
{
	struct driver_io *ios = calloc(MANY, sizeof(*ios));
	const uint32_t lengths[] = { 4096, 0 };
	struct driver_disk *d = *state;

	assert_non_null(ios);
	for (unsigned int i = 0; i < MANY; i++)
		driver_io_init(&ios[i], VHUB_BLK_READ,
				driver_random(d->info.capacity_bytes / 4096) * 4096, lengths,
				i % 7 == 0 ? 8 : 0);
	driver_run(d, ios, MANY);
	for (unsigned int i = 0; i < MANY; i++) {
		assert_int_equal(ios[i].io.result, 0);
		assert_int_equal(ios[i].completions, 1);
		driver_io_check_gaps(&ios[i]);
		driver_io_free(&ios[i]);
	}
	free(ios);
}

static void
test_nothing_comes_from_nothing(void **state)
{
	struct driver_disk *d = *state;
	struct vhub_blk_io *done[1];

	for (unsigned int i = 0; i < 100; i++)
		assert_int_equal(d->ops->reap(d->queue, done, 1), 0);
	assert_int_equal(d->ops->submit(d->queue, done, 0), 0);
	assert_int_equal(d->ops->reap(d->queue, done, 1), 0);
}

/*
 * A ring stops: what is in flight comes back, then the queue goes; the next queue serves the same
 * disk.
 */
static void
test_a_queue_is_drained_put_and_got_again(void **state)
{
	struct driver_disk *d = *state;
	const uint32_t lengths[] = { 4096, 0 };
	uint8_t data[4096], back[4096];

	for (unsigned int round = 0; round < 5; round++) {
		struct vhub_blk_io *burst[16];
		struct driver_io ios[16];
		unsigned int reaped = 0;
		uint16_t accepted;

		memset(data, (int)(round + 1), sizeof(data));
		for (unsigned int i = 0; i < 16; i++) {
			driver_io_init(&ios[i], VHUB_BLK_WRITE, i * 4096, lengths, 0);
			driver_io_fill(&ios[i], data);
			burst[i] = &ios[i].io;
		}
		accepted = d->ops->submit(d->queue, burst, 16);
		assert_true(accepted >= 1 && accepted <= 16);
		while (reaped < accepted)
			reaped += reap_some(d, 5);
		d->ops->queue_put(d->queue);
		assert_int_equal(d->ops->queue_get(d->disk, &d->queue), 0);
		assert_int_equal(reap_some(d, 16), 0);
		for (unsigned int i = 0; i < 16; i++) {
			assert_int_equal(ios[i].completions, i < accepted);
			driver_io_free(&ios[i]);
		}
		assert_int_equal(driver_rw(d, VHUB_BLK_READ, 0, back, sizeof(back), 0), 0);
		if (suite->keeps_data)
			assert_memory_equal(back, data, sizeof(data));
	}
}

static void
test_what_is_wanted_back_comes_back_once(void **state)
{
	driver_cancel_test(*state, suite->keeps_data);
}

static void
test_queues_of_a_disk_see_the_same_data(void **state)
{
	struct driver_disk *d = *state, other = *d;
	uint8_t data[8192], back[8192] = { 0 };

	assert_int_equal(d->ops->queue_get(d->disk, &other.queue), 0);
	assert_ptr_not_equal(other.queue, d->queue);
	memset(data, 0x77, sizeof(data));
	assert_int_equal(driver_rw(d, VHUB_BLK_WRITE, 4096, data, sizeof(data), 0), 0);
	assert_int_equal(driver_rw(&other, VHUB_BLK_READ, 4096, back, sizeof(back), 0), 0);
	if (suite->keeps_data)
		assert_memory_equal(back, data, sizeof(data));
	d->ops->queue_put(other.queue);
}

/* ---- ranges ---- */

static uint32_t
max_bytes_of(const struct driver_disk *d, enum vhub_blk_op op)
{
	return op == VHUB_BLK_DISCARD		    ? d->info.discard_max_bytes :
			op == VHUB_BLK_WRITE_ZEROES ? d->info.write_zeroes_max_bytes :
						      d->info.secure_erase_max_bytes;
}

int
driver_range(struct driver_disk *d, enum vhub_blk_op op, uint64_t offset, uint32_t len,
		uint8_t flags)
{
	static const uint32_t none[] = { 0 };
	struct driver_io io;

	driver_io_init(&io, op, offset, none, 0);
	io.io.len_bytes = len;
	io.io.flags = flags;
	driver_run(d, &io, 1);
	driver_io_free(&io);
	return io.io.result;
}

static void
test_what_is_offered_of_ranges(void **state)
{
	struct driver_disk d, read_only;
	uint32_t block;

	(void)state;
	driver_open(&d, suite->driver, suite->args, false);
	block = d.info.block_bytes;
	for (unsigned int op = VHUB_BLK_DISCARD; op < VHUB_BLK_OPS; op++) {
		bool wanted = (suite->ranges & (1u << op)) != 0;

		assert_int_equal(max_bytes_of(&d, op) != 0, wanted);
		assert_int_equal(max_bytes_of(&d, op) % block, 0);
		assert_true(max_bytes_of(&d, op) <= VHUB_BLK_RANGE_MAX_BYTES);
	}
	assert_int_equal(d.info.discard_align_bytes % block, 0);
	driver_close(&d); /* a driver may keep others from its file as long as it has it */
	driver_open(&read_only, suite->driver, suite->args, true);
	for (unsigned int op = VHUB_BLK_DISCARD; op < VHUB_BLK_OPS; op++)
		assert_int_equal(max_bytes_of(&read_only, op), 0);
	driver_close(&read_only);
}

/* Fills the disk, works on a range of it, and looks at the whole. */
static void
expect_range(struct driver_disk *d, enum vhub_blk_op op, uint64_t offset, uint32_t len,
		uint8_t flags)
{
	uint32_t all = (uint32_t)d->info.capacity_bytes;
	uint8_t *data = malloc(all), *back = malloc(all);

	memset(data, 0xd5, all);
	assert_int_equal(driver_rw(d, VHUB_BLK_WRITE, 0, data, all, 0), 0);
	assert_int_equal(driver_range(d, op, offset, len, flags), 0);
	assert_int_equal(driver_rw(d, VHUB_BLK_READ, 0, back, all, 0), 0);
	if (suite->keeps_data) {
		/* What was discarded may read as anything. */
		if (op == VHUB_BLK_WRITE_ZEROES)
			memset(data + offset, 0, len);
		else
			memcpy(data + offset, back + offset, len);
		assert_memory_equal(back, data, all);
	}
	free(data);
	free(back);
}

static void
test_ranges_of_all_kinds(void **state)
{
	static const uint8_t flags[] = { 0, VHUB_BLK_IO_FUA, VHUB_BLK_IO_UNMAP,
		VHUB_BLK_IO_UNMAP | VHUB_BLK_IO_FUA };
	struct driver_disk *d = *state;
	uint32_t block = d->info.block_bytes;
	uint32_t all = (uint32_t)d->info.capacity_bytes;

	for (unsigned int op = VHUB_BLK_DISCARD; op < VHUB_BLK_OPS; op++) {
		if (max_bytes_of(d, op) == 0)
			continue;
		for (unsigned int i = 0; i < RTE_DIM(flags); i++) {
			uint8_t f = op == VHUB_BLK_WRITE_ZEROES ? flags[i] :
								  flags[i] & VHUB_BLK_IO_FUA;

			expect_range(d, op, 3 * block, 5 * block, f);
			if (i != 0)
				continue;
			expect_range(d, op, 1 << 20, (1 << 20) + 3 * block, f);
			expect_range(d, op, all - block, block, f);
			expect_range(d, op, 0, all, f);
		}
	}
}

static void
test_ranges_among_others_complete_once_each(void **state)
{
	static const uint32_t none[] = { 0 };
	const uint32_t lengths[] = { 4096, 0 };
	struct driver_disk *d = *state;
	struct driver_io *ios = calloc(600, sizeof(*ios));

	assert_non_null(ios);
	for (unsigned int i = 0; i < 600; i++) {
		enum vhub_blk_op op = (enum vhub_blk_op)driver_random(VHUB_BLK_OPS);
		bool range = op >= VHUB_BLK_DISCARD;

		if (range && max_bytes_of(d, op) == 0)
			op = VHUB_BLK_FLUSH;
		range = op >= VHUB_BLK_DISCARD;
		driver_io_init(&ios[i], op, op == VHUB_BLK_FLUSH ? 0 : driver_random(900) * 4096,
				range || op == VHUB_BLK_FLUSH ? none : lengths, 0);
		if (range)
			ios[i].io.len_bytes = 4096;
	}
	driver_run(d, ios, 600);
	for (unsigned int i = 0; i < 600; i++) {
		assert_int_equal(ios[i].io.result, 0);
		assert_int_equal(ios[i].completions, 1);
		driver_io_free(&ios[i]);
	}
	free(ios);
}

/* ---- sizes ---- */

static uint64_t
capacity_of(struct driver_disk *d)
{
	d->ops->info(d->disk, &d->info);
	return d->info.capacity_bytes;
}

/* Larger, smaller and larger again, with data in it: what there was stays, what comes is zero. */
static void
test_a_disk_that_grows_keeps_what_it_held(void **state)
{
	struct driver_disk *d = *state;
	uint64_t first = d->info.capacity_bytes, block = d->info.block_bytes;
	uint8_t *data = malloc(block), *back = malloc(block), *zero = calloc(1, block);
	char error[DRIVER_ERROR_LEN] = "";

	if (d->ops->resize == NULL)
		goto out; /* it has one size for ever */
	memset(data, 0x3c, block);
	if (!suite->grows) {
		assert_int_not_equal(d->ops->resize(d->disk, 2 * first, error, sizeof(error)), 0);
		assert_string_not_equal(error, "");
	} else {
		assert_int_equal(driver_rw(d, VHUB_BLK_WRITE, first - block, data, block, 0), 0);
		assert_int_equal(d->ops->resize(d->disk, 2 * first, error, sizeof(error)), 0);
		assert_int_equal(capacity_of(d), 2 * first);
		assert_int_equal(driver_rw(d, VHUB_BLK_READ, 2 * first - block, back, block, 0), 0);
		if (suite->keeps_data)
			assert_memory_equal(back, zero, block);
		assert_int_equal(driver_rw(d, VHUB_BLK_WRITE, 2 * first - block, data, block, 0),
				0);
		assert_int_equal(d->ops->resize(d->disk, first, error, sizeof(error)), 0);
		assert_int_equal(capacity_of(d), first);
		assert_int_equal(d->ops->resize(d->disk, 2 * first, error, sizeof(error)), 0);
		assert_int_equal(driver_rw(d, VHUB_BLK_READ, 2 * first - block, back, block, 0), 0);
		if (suite->keeps_data)
			assert_memory_equal(back, zero, block);
		assert_int_equal(driver_rw(d, VHUB_BLK_READ, first - block, back, block, 0), 0);
		if (suite->keeps_data)
			assert_memory_equal(back, data, block);
		assert_int_equal(d->ops->resize(d->disk, first, error, sizeof(error)), 0);
	}
	/* Nothing has changed below it. */
	assert_int_equal(d->ops->resize(d->disk, 0, error, sizeof(error)), 0);
	assert_int_equal(capacity_of(d), first);
out:
	free(data);
	free(back);
	free(zero);
}

static void
test_a_disk_may_go_unused(void **state)
{
	struct vhub_blk_disk *disk;
	char error[DRIVER_ERROR_LEN];

	(void)state;
	/* In whatever state. */
	assert_int_equal(driver_parse(suite->driver, suite->args, false, &disk, NULL), 0);
	disk->ops->destroy(disk);
	assert_int_equal(driver_parse(suite->driver, suite->args, false, &disk, NULL), 0);
	assert_int_equal(disk->ops->open(disk, error, sizeof(error)), 0);
	disk->ops->destroy(disk);
}

static void
test_the_lock_comes_and_goes(void **state)
{
	struct driver_disk *d = *state;
	char error[DRIVER_ERROR_LEN];

	if (d->ops->lock == NULL)
		return; /* without an image there is nothing to lock */
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(d->ops->lock(d->disk, true, error, sizeof(error)), 0);
		assert_int_equal(driver_rw(d, VHUB_BLK_FLUSH, 0, NULL, 0, 0), 0);
		assert_int_equal(d->ops->lock(d->disk, false, error, sizeof(error)), 0);
	}
}

/* ---- on an lcore that sleeps ---- */

#define WAKES 200u

struct sleeper {
	struct vhub_poller poller; /* first */
	struct vhub_msg msg;
	struct vhub_blk_disk *disk;
	struct vhub_blk_queue *queue;
	struct driver_io io;
	unsigned int n_done;
	unsigned int n_arms; /* that let it sleep with the I/O in flight */
	bool in_flight;
	int result;	/* the first thing that was wrong */
	uint32_t ended; /* shared atomic: everything above may be read */
};

static void
sleeper_end(struct sleeper *s)
{
	vhub_lcore_remove_poller(&s->poller);
	s->disk->ops->queue_put(s->queue);
	/* Pairs with the load in the test. */
	__atomic_store_n(&s->ended, 1, __ATOMIC_RELEASE);
}

static void
sleeper_choose(struct sleeper *s)
{
	static const enum vhub_blk_op ops[] = { VHUB_BLK_WRITE, VHUB_BLK_READ, VHUB_BLK_WRITE,
		VHUB_BLK_FLUSH, VHUB_BLK_WRITE, VHUB_BLK_READ, VHUB_BLK_WRITE, VHUB_BLK_DISCARD };
	struct vhub_blk_io *io = &s->io.io;

	io->op = ops[s->n_done % RTE_DIM(ops)];
	/* Where an lcore stays awake for all else, it may still sleep for these. */
	if (io->op == VHUB_BLK_DISCARD &&
			(!suite->wakes || (suite->ranges & 1u << VHUB_BLK_DISCARD) == 0))
		io->op = VHUB_BLK_FLUSH;
	io->len_bytes = io->op == VHUB_BLK_FLUSH ? 0 : 4096;
	io->n_iov = io->op <= VHUB_BLK_WRITE;
}

static unsigned int
sleeper_poll(struct vhub_poller *poller)
{
	struct sleeper *s = vhub_container_of(poller, struct sleeper, poller);
	struct vhub_blk_io *io = &s->io.io;
	unsigned int n = 0;

	if (s->in_flight) {
		n = s->disk->ops->reap(s->queue, &io, 1);
		if (n == 0)
			return 0;
		s->in_flight = false;
		s->n_done++;
		if (io != &s->io.io || io->result != 0)
			s->result = io->result != 0 ? io->result : -EINVAL;
	}
	if (s->n_done == WAKES || s->result != 0) {
		sleeper_end(s);
		return 1;
	}
	sleeper_choose(s);
	s->in_flight = s->disk->ops->submit(s->queue, &io, 1) == 1;
	return n;
}

static int
sleeper_arm(struct vhub_poller *poller)
{
	struct sleeper *s = vhub_container_of(poller, struct sleeper, poller);
	int ret;

	if (!s->in_flight)
		return -EAGAIN;
	if (s->disk->ops->arm == NULL)
		return -ENOTSUP;
	ret = s->disk->ops->arm(s->queue);
	if (ret == 0)
		s->n_arms++;
	return ret;
}

static const struct vhub_poller_ops sleeper_ops = { .poll = sleeper_poll, .arm = sleeper_arm };

static void
sleeper_begin(struct vhub_msg *msg)
{
	struct sleeper *s = vhub_container_of(msg, struct sleeper, msg);

	s->result = s->disk->ops->queue_get(s->disk, &s->queue);
	if (s->result != 0)
		__atomic_store_n(&s->ended, 1, __ATOMIC_RELEASE);
	else
		vhub_lcore_add_poller(&s->poller);
}

/*
 * Each request is submitted and left alone; the lcore sleeps at once when it finds nothing to do. A
 * wake that gets lost leaves it asleep for ever.
 */
static void
test_a_completion_wakes_a_sleeping_lcore(void **state)
{
	const uint32_t lengths[] = { 4096, 0 };
	struct driver_disk *d = *state;
	struct sleeper s = { .poller.ops = &sleeper_ops, .msg.fn = sleeper_begin, .disk = d->disk };
	uint64_t deadline = now_ns() + 60000000000u;
	struct vhub_loop *loop;

	driver_io_init(&s.io, VHUB_BLK_WRITE, 0, lengths, 0);
	assert_int_equal(vhub_loop_create(&loop), 0);
	assert_int_equal(vhub_lcores_start(loop, VHUB_IDLE_ADAPTIVE, 0), 0);
	vhub_lcore_post(vhub_lcore_at(0), &s.msg);
	/* Pairs with the stores in the sleeper. */
	while (__atomic_load_n(&s.ended, __ATOMIC_ACQUIRE) == 0) {
		if (now_ns() > deadline) {
			/* The lcore holds on to our stack: there is no way on from here. */
			print_error("the lcore sleeps, %u of %u requests are done\n", s.n_done,
					WAKES);
			_exit(1);
		}
		usleep(1000);
	}
	vhub_lcores_stop();
	vhub_loop_destroy(loop);
	assert_int_equal(s.result, 0);
	assert_int_equal(s.n_done, WAKES);
	/*
	 * A driver that never lets its lcore sleep passes the rest of this test without having been
	 * tested.
	 */
	if (suite->wakes)
		assert_true(s.n_arms > 0);
	else
		assert_int_equal(s.n_arms, 0);
	driver_io_free(&s.io);
}

int
driver_suite_run(const struct driver_suite *which)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_info_is_sensible, setup, teardown),
		cmocka_unit_test(test_info_tells_a_read_only_disk),
		cmocka_unit_test_setup_teardown(test_what_was_written_is_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_last_block, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flush_completes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_more_than_it_can_hold_completes_once_each,
				setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_comes_from_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_queue_is_drained_put_and_got_again, setup,
				teardown),
		cmocka_unit_test_setup_teardown(test_what_is_wanted_back_comes_back_once, setup,
				teardown),
		cmocka_unit_test_setup_teardown(test_queues_of_a_disk_see_the_same_data, setup,
				teardown),
		cmocka_unit_test(test_what_is_offered_of_ranges),
		cmocka_unit_test_setup_teardown(test_ranges_of_all_kinds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ranges_among_others_complete_once_each, setup,
				teardown),
		cmocka_unit_test_setup_teardown(test_a_disk_that_grows_keeps_what_it_held, setup,
				teardown),
		cmocka_unit_test(test_a_disk_may_go_unused),
		cmocka_unit_test_setup_teardown(test_the_lock_comes_and_goes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_completion_wakes_a_sleeping_lcore, setup,
				teardown),
	};

	suite = which;
	return cmocka_run_group_tests_name(which->name, tests, NULL, NULL);
}
