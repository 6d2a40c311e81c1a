/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The dirty log: marks against a bitmap that is filled bit by bit, its bounds, and that no mark of two threads in
 * one byte is lost.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "mem_fixture.h"

/* A log inside a file that has `edge` bytes around it, which must stay as they are. */
struct log_place {
	struct vhub_dirty_log *log;
	uint8_t *file; /* a mapping of our own */
	uint64_t offset_bytes;
	uint64_t size_bytes;
	uint64_t file_bytes;
};

#define EDGE 0x5a

static void
place_open(struct log_place *place, uint64_t offset_bytes, uint64_t size_bytes)
{
	int fd;

	place->offset_bytes = offset_bytes;
	place->size_bytes = size_bytes;
	place->file_bytes = offset_bytes + size_bytes + 32;
	fd = test_memfd(place->file_bytes, 0);
	place->file = mmap(NULL, place->file_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(place->file, MAP_FAILED);
	memset(place->file, EDGE, place->file_bytes);
	memset(place->file + offset_bytes, 0, size_bytes);
	assert_int_equal(vhub_dirty_log_create(fd, offset_bytes, size_bytes, NULL, &place->log), 0);
	close(fd);
}

/* The file has `want` in the log, and the edges are whole. */
static void
place_check(const struct log_place *place, const uint8_t *want)
{
	uint64_t end = place->offset_bytes + place->size_bytes;

	assert_memory_equal(place->file + place->offset_bytes, want, place->size_bytes);
	for (uint64_t i = 0; i < place->offset_bytes; i++)
		assert_int_equal(place->file[i], EDGE);
	for (uint64_t i = end; i < place->file_bytes; i++)
		assert_int_equal(place->file[i], EDGE);
}

static void
place_close(struct log_place *place)
{
	vhub_dirty_log_put(place->log);
	munmap(place->file, place->file_bytes);
}

/* The specification's own words, page by page. */
static void
model_mark(uint8_t *bits, uint64_t size_bytes, uint64_t gpa, uint64_t len)
{
	uint64_t last = len - 1 > UINT64_MAX - gpa ? UINT64_MAX : gpa + (len - 1);

	if (len == 0)
		return;
	for (uint64_t page = gpa / 4096; page <= last / 4096 && page / 8 < size_bytes; page++)
		bits[page / 8] |= (uint8_t)(1 << page % 8);
}

static void
test_marks_against_model(void **state)
{
	static const uint64_t offsets[] = { 0, 1, 3, 7, 4095, 4096 };
	static const uint64_t sizes[] = { 1, 2, 7, 8, 9, 31, 64, 333 };
	struct test_usage before;
	uint64_t seed = 7;

	(void)state;
	test_usage_take(&before);
	for (int round = 0; round < 6 * 8; round++) {
		uint8_t want[512] = { 0 };
		struct log_place place;

		place_open(&place, offsets[round % 6], sizes[round / 6]);
		for (int i = 0; i < 100; i++) {
			uint64_t covered = place.size_bytes * 8 * 4096;
			uint64_t gpa = test_random_below(&seed, covered + 3 * 4096);
			uint64_t len = test_random(&seed) >> (20 + test_random_below(&seed, 44));

			/* Most are small, so that the log does not fill at once. */
			if (test_random_below(&seed, 4) != 0)
				len %= 3 * 4096;
			vhub_dirty_log_mark(place.log, gpa, len);
			model_mark(want, place.size_bytes, gpa, len);
			place_check(&place, want);
			if (test_random_below(&seed, 8) == 0) {
				memset(want, 0, sizeof(want));
				memset(place.file + place.offset_bytes, 0, place.size_bytes);
			}
		}
		place_close(&place);
	}
	test_usage_check(&before);
}

static void
test_bounds(void **state)
{
	uint8_t want[16] = { 0 };
	struct log_place place;

	(void)state;
	place_open(&place, 5, sizeof(want));
	vhub_dirty_log_mark(place.log, 0, 0);
	vhub_dirty_log_mark(place.log, UINT64_MAX, 1);
	vhub_dirty_log_mark(place.log, UINT64_MAX, UINT64_MAX);
	vhub_dirty_log_mark(place.log, 128 * 4096, 4096);
	vhub_dirty_log_mark(place.log, UINT64_C(1) << 63, UINT64_C(1) << 63);
	place_check(&place, want);
	vhub_dirty_log_mark(place.log, 127 * 4096 + 4095, 2);
	want[15] = 0x80;
	place_check(&place, want);
	vhub_dirty_log_mark(place.log, 4095, 2);
	want[0] = 3;
	place_check(&place, want);
	vhub_dirty_log_mark(place.log, 4096, UINT64_MAX);
	memset(want, 0xff, sizeof(want));
	place_check(&place, want);

	assert_true(vhub_dirty_log_covers(place.log, 0, 128 * 4096));
	assert_false(vhub_dirty_log_covers(place.log, 0, 128 * 4096 + 1));
	assert_true(vhub_dirty_log_covers(place.log, 127 * 4096 + 4095, 1));
	assert_false(vhub_dirty_log_covers(place.log, 127 * 4096 + 4095, 2));
	assert_false(vhub_dirty_log_covers(place.log, 128 * 4096, 1));
	assert_false(vhub_dirty_log_covers(place.log, 4096, UINT64_MAX));
	assert_false(vhub_dirty_log_covers(place.log, UINT64_MAX, 1));
	assert_true(vhub_dirty_log_covers(place.log, UINT64_MAX, 0));
	place_close(&place);
}

/* CVE-2020-10722's and CVE-2026-86563's class: size and offset are the file's, added once and without a wrap. */
static void
test_size_and_offset_are_checked(void **state)
{
	struct vhub_dirty_log *log = NULL;
	struct test_usage before;
	int fd;

	(void)state;
	test_usage_take(&before);
	fd = test_memfd(2 * PAGE, 0);
	assert_int_equal(vhub_dirty_log_create(fd, 0, 0, NULL, &log), -EINVAL);
	assert_int_equal(vhub_dirty_log_create(fd, 0, 2 * PAGE + 1, NULL, &log), -ERANGE);
	assert_int_equal(vhub_dirty_log_create(fd, PAGE, PAGE + 1, NULL, &log), -ERANGE);
	assert_int_equal(vhub_dirty_log_create(fd, UINT64_MAX - PAGE, 2 * PAGE, NULL, &log),
			-EINVAL);
	assert_int_equal(vhub_dirty_log_create(-1, 0, 1, NULL, &log), -EBADF);
	assert_null(log);
	assert_int_equal(vhub_dirty_log_create(fd, PAGE, PAGE, NULL, &log), 0);
	vhub_dirty_log_mark(log, (PAGE * 8 - 1) * 4096, 4096);
	assert_int_equal(log->bits[PAGE - 1], 0x80);
	assert_ptr_equal(vhub_dirty_log_get(log), log);
	vhub_dirty_log_put(log);
	vhub_dirty_log_put(log);
	vhub_dirty_log_put(NULL);
	close(fd);
	test_usage_check(&before);
}

#define RACE_PAGES 32768
#define RACE_ROUNDS 100

struct race {
	struct vhub_dirty_log *log;
	unsigned int first; /* the thread marks pages first, first + 2, ... once a round */
	pthread_barrier_t *barrier;
	uint32_t *marking; /* threads that have not done this round */
};

static void *
race_main(void *arg)
{
	const struct race *race = arg;

	for (int round = 0; round < RACE_ROUNDS; round++) {
		pthread_barrier_wait(race->barrier);
		for (unsigned int page = race->first; page < RACE_PAGES; page += 2)
			vhub_dirty_log_mark(race->log, page * UINT64_C(4096), 1);
		__atomic_fetch_sub(race->marking, 1, __ATOMIC_RELEASE);
		pthread_barrier_wait(race->barrier);
	}
	return NULL;
}

/* Two markers in the same bytes, each bit once a round, and this thread takes bits off as a front end does. */
static void
test_no_mark_is_lost(void **state)
{
	static uint8_t all[RACE_PAGES / 8], taken[RACE_PAGES / 8];
	pthread_barrier_t barrier;
	struct log_place place;
	struct race races[2];
	pthread_t threads[2];
	uint32_t marking;

	(void)state;
	memset(all, 0xff, sizeof(all));
	place_open(&place, 3, sizeof(all));
	pthread_barrier_init(&barrier, NULL, 3);
	for (unsigned int i = 0; i < 2; i++) {
		races[i] = (struct race){ place.log, i, &barrier, &marking };
		assert_int_equal(pthread_create(&threads[i], NULL, race_main, &races[i]), 0);
	}
	for (int round = 0; round < RACE_ROUNDS; round++) {
		memset(taken, 0, sizeof(taken));
		marking = 2;
		pthread_barrier_wait(&barrier);
		/* In every other round the markers are alone. */
		while (round % 2 == 0 && __atomic_load_n(&marking, __ATOMIC_ACQUIRE) != 0) {
			for (size_t i = 0; i < sizeof(taken); i++)
				taken[i] |= __atomic_exchange_n(&place.log->bits[i], 0,
						__ATOMIC_ACQUIRE);
		}
		pthread_barrier_wait(&barrier);
		for (size_t i = 0; i < sizeof(taken); i++)
			taken[i] |= __atomic_exchange_n(&place.log->bits[i], 0, __ATOMIC_ACQUIRE);
		assert_memory_equal(taken, all, sizeof(all));
	}
	for (unsigned int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&barrier);
	place_close(&place);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_marks_against_model),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_size_and_offset_are_checked),
		cmocka_unit_test(test_no_mark_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
