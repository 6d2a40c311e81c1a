/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What --verify writes: every byte counts, and what is found is told for what it is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "pattern.h"

#define SEED UINT64_C(0x1122334455667788)

static uint64_t sector[PATTERN_BYTES / 8];

static void
a_sector_tells_what_it_is(void **state)
{
	struct pattern_stamp stamp;

	(void)state;
	for (uint64_t i = 0; i < 1000; i++) {
		pattern_write(sector, SEED, i * 7, i);
		assert_int_equal(pattern_read(sector, SEED, &stamp), PATTERN_WHOLE);
		assert_int_equal(stamp.sector, i * 7);
		assert_int_equal(stamp.generation, i);
	}
	assert_int_equal(pattern_read(sector, SEED + 1, &stamp), PATTERN_FOREIGN);
	pattern_spoil(sector);
	assert_int_equal(pattern_read(sector, SEED, &stamp), PATTERN_FOREIGN);
}

static void
every_bit_counts(void **state)
{
	struct pattern_stamp stamp;
	uint8_t *bytes = (uint8_t *)sector;

	(void)state;
	pattern_write(sector, SEED, 5, 6);
	for (unsigned int bit = 0; bit < 8 * PATTERN_BYTES; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_not_equal(pattern_read(sector, SEED, &stamp), PATTERN_WHOLE);
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	assert_int_equal(pattern_read(sector, SEED, &stamp), PATTERN_WHOLE);
}

/* The first part of one generation and the rest of another, wherever the tear is. */
static void
a_torn_sector_is_not_whole(void **state)
{
	uint64_t other[PATTERN_BYTES / 8], torn[PATTERN_BYTES / 8];
	struct pattern_stamp stamp;

	(void)state;
	pattern_write(sector, SEED, 5, 6);
	pattern_write(other, SEED, 5, 7);
	for (size_t at = 8; at < PATTERN_BYTES; at += 8) {
		memcpy(torn, sector, sizeof(torn));
		memcpy((uint8_t *)torn + at, (uint8_t *)other + at, PATTERN_BYTES - at);
		/* Seed and sector are the same: a tear behind them changes nothing but the rest. */
		if (memcmp(torn, other, sizeof(torn)) == 0)
			continue;
		assert_int_equal(pattern_read(torn, SEED, &stamp), PATTERN_CORRUPT);
	}
}

static void
says(const char *expected)
{
	char text[160];

	pattern_describe(sector, SEED, 8, text, sizeof(text));
	if (strstr(text, expected) == NULL)
		fail_msg("\"%s\" is not in \"%s\"", expected, text);
}

static void
what_is_found_is_told(void **state)
{
	(void)state;
	pattern_write(sector, SEED, 8, 3);
	says("its generation 3");
	pattern_write(sector, SEED, 9, 3);
	says("generation 3 of sector 9");
	sector[20]++;
	says("wrong checksum (with the stamp of generation 3 of sector 9)");
	memset(sector, 0, sizeof(sector));
	says("nothing that this run has written here (it begins with 0000000000000000");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_sector_tells_what_it_is),
		cmocka_unit_test(every_bit_counts),
		cmocka_unit_test(a_torn_sector_is_not_whole),
		cmocka_unit_test(what_is_found_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
