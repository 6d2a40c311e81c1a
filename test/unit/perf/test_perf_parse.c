/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Numbers with units: what is read, to the last byte, and what is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_common.h>

#include "parse.h"

#define UNTOUCHED UINT64_C(0x1122334455667788)

struct example {
	int (*read)(const char *text, uint64_t *value);
	const char *text;
	uint64_t value;
};

static void
test_what_is_read(void **state)
{
	static const struct example examples[] = {
		{ parse_uint, "0", 0 },
		{ parse_uint, "007", 7 },
		{ parse_uint, "18446744073709551615", UINT64_MAX },
		{ parse_size, "512", 512 },
		{ parse_size, "4k", 4096 },
		{ parse_size, "4K", 4096 },
		{ parse_size, "1.5M", 1572864 },
		{ parse_size, "1G", UINT64_C(1) << 30 },
		{ parse_size, "2t", UINT64_C(2) << 40 },
		{ parse_size, "9007199254740993", UINT64_C(9007199254740993) },
		{ parse_rate, "250k", 250000 },
		{ parse_rate, "1.5M", 1500000 },
		{ parse_rate, "2g", UINT64_C(2000000000) },
		{ parse_time, "5", UINT64_C(5000000000) },
		{ parse_time, "0.5", 500000000 },
		{ parse_time, ".5s", 500000000 },
		{ parse_time, "250ms", 250000000 },
		{ parse_time, "30us", 30000 },
		{ parse_time, "7ns", 7 },
		{ parse_time, "2m", UINT64_C(120000000000) },
		{ parse_time, "1h", UINT64_C(3600000000000) },
	};

	(void)state;
	for (unsigned int i = 0; i < RTE_DIM(examples); i++) {
		uint64_t value = UNTOUCHED;

		if (examples[i].read(examples[i].text, &value) != 0)
			fail_msg("%s is refused", examples[i].text);
		assert_int_equal(value, examples[i].value);
	}
}

static void
test_what_is_refused(void **state)
{
	static const char *const always[] = { "", " 4", "4 ", "-1", "+1", "0x10", "k", "4kk", "4x",
		"1e3", "nan", "inf", ".", "1..5", "1.5.5", "18446744073709551616k",
		"99999999999999999999", "99999999999999999999999999999999999", "16777216t5" };
	static int (*const readers[])(const char *text, uint64_t *value) = { parse_uint, parse_size,
		parse_rate, parse_time };

	(void)state;
	for (unsigned int i = 0; i < RTE_DIM(always) * RTE_DIM(readers); i++) {
		uint64_t value = UNTOUCHED;

		if (readers[i / RTE_DIM(always)](always[i % RTE_DIM(always)], &value) != -EINVAL)
			fail_msg("%s is taken", always[i % RTE_DIM(always)]);
		assert_int_equal(value, UNTOUCHED);
	}
}

static void
test_a_unit_belongs_to_its_kind(void **state)
{
	uint64_t value = UNTOUCHED;

	(void)state;
	assert_int_equal(parse_uint("4k", &value), -EINVAL);
	assert_int_equal(parse_rate("4t", &value), -EINVAL);
	assert_int_equal(parse_size("4ms", &value), -EINVAL);
	assert_int_equal(parse_time("4k", &value), -EINVAL);
	assert_int_equal(parse_size("16777216t", &value), -EINVAL); /* 2^64 */
	assert_int_equal(parse_size("8388608.5t", &value), -EINVAL);
	assert_int_equal(value, UNTOUCHED);
}

static void
test_sizes_go_there_and_back(void **state)
{
	unsigned short seed[3] = { 1, 2, 3 };
	char text[32];

	(void)state;
	assert_string_equal(format_size(4096, text, sizeof(text)), "4k");
	assert_string_equal(format_size(1536, text, sizeof(text)), "1536");
	assert_string_equal(format_size(UINT64_C(1) << 40, text, sizeof(text)), "1T");
	assert_string_equal(format_size(0, text, sizeof(text)), "0");
	for (unsigned int i = 0; i < 1000; i++) {
		const uint64_t bytes = (uint64_t)nrand48(seed) << (nrand48(seed) % 30);
		uint64_t back;

		assert_int_equal(parse_size(format_size(bytes, text, sizeof(text)), &back), 0);
		assert_int_equal(back, bytes);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_read),
		cmocka_unit_test(test_what_is_refused),
		cmocka_unit_test(test_a_unit_belongs_to_its_kind),
		cmocka_unit_test(test_sizes_go_there_and_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
