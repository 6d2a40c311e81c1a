/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Registries, and reading arguments: numbers and sizes at their limits, and sentences that help.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vhub_args.h"

#define ERROR_LEN 256
#define UNTOUCHED UINT64_C(0x1122334455667788)

static struct rte_kvargs *args;
static char error[ERROR_LEN];

static struct rte_kvargs *
given(const char *text)
{
	if (args != NULL)
		rte_kvargs_free(args);
	args = rte_kvargs_parse(text, NULL);
	assert_non_null(args);
	error[0] = '\0';
	return args;
}

/* ---- registries ---- */

struct entry {
	const char *name;
	int other;
};

static void
test_entries_are_found_by_name_and_by_place(void **state)
{
	static const struct entry a = { "a", 1 }, b = { "b", 2 }, again = { "a", 3 },
				  none = { NULL, 0 }, empty = { "", 0 };
	struct vhub_registry r = { 0 };

	(void)state;
	assert_null(vhub_registry_find(&r, "a"));
	assert_null(vhub_registry_at(&r, 0));
	assert_int_equal(vhub_registry_add(&r, &a), 0);
	assert_int_equal(vhub_registry_add(&r, &b), 0);
	assert_int_equal(vhub_registry_add(&r, &again), -EEXIST);
	assert_int_equal(vhub_registry_add(&r, &none), -EINVAL);
	assert_int_equal(vhub_registry_add(&r, &empty), -EINVAL);
	assert_ptr_equal(vhub_registry_find(&r, "a"), &a);
	assert_ptr_equal(vhub_registry_find(&r, "b"), &b);
	assert_null(vhub_registry_find(&r, "c"));
	assert_ptr_equal(vhub_registry_at(&r, 0), &a);
	assert_ptr_equal(vhub_registry_at(&r, 1), &b);
	assert_null(vhub_registry_at(&r, 2));
}

static void
test_a_registry_has_an_end(void **state)
{
	static char names[VHUB_REGISTRY_MAX + 1][8];
	static struct entry entries[VHUB_REGISTRY_MAX + 1];
	struct vhub_registry r = { 0 };

	(void)state;
	for (unsigned int i = 0; i <= VHUB_REGISTRY_MAX; i++) {
		snprintf(names[i], sizeof(names[i]), "n%u", i);
		entries[i].name = names[i];
		assert_int_equal(vhub_registry_add(&r, &entries[i]),
				i < VHUB_REGISTRY_MAX ? 0 : -ENOSPC);
	}
	assert_ptr_equal(vhub_registry_find(&r, "n31"), &entries[31]);
	assert_null(vhub_registry_find(&r, "n32"));
}

static void
test_a_refused_registration_ends_the_program(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	vhub_registered(0, "fine");
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		fclose(stderr);
		vhub_registered(-EEXIST, "twice");
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_not_equal(WEXITSTATUS(status), 0);
}

/* ---- arguments ---- */

static void
expect_size(const char *text, int expected, uint64_t expected_value)
{
	uint64_t value = UNTOUCHED;

	assert_int_equal(vhub_arg_size(given(text), "size", 512, UINT64_MAX, &value, error,
					 ERROR_LEN),
			expected);
	assert_int_equal(value, expected == 0 ? expected_value : UNTOUCHED);
	if (expected != 0)
		assert_non_null(strstr(error, "size"));
}

static void
test_sizes(void **state)
{
	(void)state;
	expect_size("size=512", 0, 512);
	expect_size("size=1k", 0, 1024);
	expect_size("size=1K", 0, 1024);
	expect_size("size=64M", 0, 64 << 20);
	expect_size("size=64m", 0, 64 << 20);
	expect_size("size=3G", 0, UINT64_C(3) << 30);
	expect_size("size=2T", 0, UINT64_C(2) << 40);
	expect_size("size=18446744073709551615", 0, UINT64_MAX);
	expect_size("size=16777215T", 0, UINT64_C(16777215) << 40);
	expect_size("other=1", 0, UNTOUCHED);
	expect_size("size=18446744073709551616", -EINVAL, 0);
	expect_size("size=16777216T", -EINVAL, 0);
	expect_size("size=99999999999999999999999G", -EINVAL, 0);
	expect_size("size=511", -EINVAL, 0);
	expect_size("size=0", -EINVAL, 0);
	expect_size("size=", -EINVAL, 0);
	expect_size("size=M", -EINVAL, 0);
	expect_size("size=-1", -EINVAL, 0);
	expect_size("size=+1k", -EINVAL, 0);
	expect_size("size= 1k", -EINVAL, 0);
	expect_size("size=1 k", -EINVAL, 0);
	expect_size("size=1kB", -EINVAL, 0);
	expect_size("size=1P", -EINVAL, 0);
	expect_size("size=0x1000", -EINVAL, 0);
	expect_size("size=1.5G", -EINVAL, 0);
}

static void
test_a_wrong_size_says_what_is_allowed(void **state)
{
	uint64_t value = 0;

	(void)state;
	assert_int_equal(vhub_arg_size(given("size=5G"), "size", 512, UINT64_C(4) << 30, &value,
					 error, ERROR_LEN),
			-EINVAL);
	assert_non_null(strstr(error, "size=5G"));
	assert_non_null(strstr(error, "512"));
	assert_non_null(strstr(error, "4G"));
}

static void
expect_uint(const char *text, int expected, uint64_t expected_value)
{
	uint64_t value = UNTOUCHED;

	assert_int_equal(vhub_arg_uint(given(text), "n", 1, 128, &value, error, ERROR_LEN),
			expected);
	assert_int_equal(value, expected == 0 ? expected_value : UNTOUCHED);
	if (expected != 0)
		assert_non_null(strstr(error, "n"));
}

static void
test_numbers(void **state)
{
	(void)state;
	expect_uint("n=1", 0, 1);
	expect_uint("n=128", 0, 128);
	expect_uint("n=007", 0, 7);
	expect_uint("m=1", 0, UNTOUCHED);
	expect_uint("n=0", -EINVAL, 0);
	expect_uint("n=129", -EINVAL, 0);
	expect_uint("n=1k", -EINVAL, 0);
	expect_uint("n=-1", -EINVAL, 0);
	expect_uint("n=18446744073709551617", -EINVAL, 0);
	expect_uint("n=", -EINVAL, 0);
	assert_int_equal(vhub_arg_uint(given("n=500"), "n", 1, 128, &(uint64_t){ 0 }, error,
					 ERROR_LEN),
			-EINVAL);
	assert_non_null(strstr(error, "n=500"));
	assert_non_null(strstr(error, "128"));
}

static void
expect_count(const char *text, int expected, uint64_t expected_value)
{
	uint64_t value = UNTOUCHED;

	assert_int_equal(vhub_arg_count(given(text), "n", 1, 1000000000, &value, error, ERROR_LEN),
			expected);
	assert_int_equal(value, expected == 0 ? expected_value : UNTOUCHED);
	if (expected != 0)
		assert_non_null(strstr(error, "n"));
}

static void
test_counts(void **state)
{
	(void)state;
	expect_count("n=1", 0, 1);
	expect_count("n=10k", 0, 10000);
	expect_count("n=10K", 0, 10000);
	expect_count("n=3M", 0, 3000000);
	expect_count("n=1G", 0, 1000000000);
	expect_count("m=1k", 0, UNTOUCHED);
	expect_count("n=0", -EINVAL, 0);
	expect_count("n=2G", -EINVAL, 0);
	expect_count("n=1T", -EINVAL, 0);
	expect_count("n=1kk", -EINVAL, 0);
	expect_count("n=k", -EINVAL, 0);
	expect_count("n=1.5k", -EINVAL, 0);
	expect_count("n=18446744073709551615G", -EINVAL, 0);
	assert_non_null(strstr(error, "from 1 to 1000000000"));
}

static void
test_bools(void **state)
{
	static const char *const on[] = { "b=on", "b=yes", "b=true", "b=1" };
	static const char *const off[] = { "b=off", "b=no", "b=false", "b=0" };
	static const char *const wrong[] = { "b=", "b=2", "b=ON", "b=onn", "b=o" };

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		bool value = false;

		assert_int_equal(vhub_arg_bool(given(on[i]), "b", &value, error, ERROR_LEN), 0);
		assert_true(value);
		assert_int_equal(vhub_arg_bool(given(off[i]), "b", &value, error, ERROR_LEN), 0);
		assert_false(value);
	}
	for (unsigned int i = 0; i < 5; i++) {
		bool value = true;

		assert_int_equal(vhub_arg_bool(given(wrong[i]), "b", &value, error, ERROR_LEN),
				-EINVAL);
		assert_true(value);
		assert_non_null(strstr(error, "b"));
	}
}

/* Bit i of *arg: number i was in a range. 60 and more are not taken. */
static bool
add_bits(void *arg, uint16_t first, uint16_t last)
{
	uint64_t *bits = arg;

	for (uint16_t i = first; i <= last && i < 60; i++)
		*bits |= UINT64_C(1) << i;
	return last < 60;
}

static void
test_ranges(void **state)
{
	static const char *const wrong[] = { "", "+", "1+", "+1", "2-", "-2", "3-2", "0", "64",
		"1-64", "1-2-3", "x", "1 +x", "1,2", "60", "5-60" };
	uint64_t bits = 0;

	(void)state;
	assert_int_equal(vhub_text_ranges("1+3-5+59", 1, 63, add_bits, &bits), 0);
	assert_int_equal(bits, UINT64_C(1) << 1 | UINT64_C(7) << 3 | UINT64_C(1) << 59);
	for (unsigned int i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(vhub_text_ranges(wrong[i], 1, 63, add_bits, &bits), -EINVAL);
}

static void
test_choices(void **state)
{
	static const char *const words[] = { "red", "green", NULL };
	unsigned int value = 7;
	char small[12];

	(void)state;
	assert_int_equal(vhub_arg_choice(given("x=1"), "c", words, &value, error, ERROR_LEN), 0);
	assert_int_equal(value, 7);
	assert_int_equal(vhub_arg_choice(given("c=green"), "c", words, &value, error, ERROR_LEN),
			0);
	assert_int_equal(value, 1);
	assert_int_equal(vhub_arg_choice(given("c=blue"), "c", words, &value, error, ERROR_LEN),
			-EINVAL);
	assert_int_equal(value, 1);
	assert_string_equal(error, "c=blue: not one of red, green");
	/* A sentence that does not fit is cut, and nothing behind it is written. */
	assert_int_equal(vhub_arg_choice(given("c=blue"), "c", words, &value, small, sizeof(small)),
			-EINVAL);
	assert_string_equal(small, "c=blue: not");
}

static void
test_texts(void **state)
{
	const char *value = "untouched";

	(void)state;
	assert_int_equal(vhub_arg_text(given("t=abc"), "u", &value, error, ERROR_LEN), 0);
	assert_string_equal(value, "untouched");
	assert_int_equal(vhub_arg_text(given("t=a b:c"), "t", &value, error, ERROR_LEN), 0);
	assert_string_equal(value, "a b:c");
	assert_int_equal(vhub_arg_text(given("t="), "t", &value, error, ERROR_LEN), -EINVAL);
	assert_int_equal(vhub_arg_text(NULL, "t", &value, error, ERROR_LEN), 0);
}

static int
teardown(void **state)
{
	(void)state;
	rte_kvargs_free(args);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_entries_are_found_by_name_and_by_place),
		cmocka_unit_test(test_a_registry_has_an_end),
		cmocka_unit_test(test_a_refused_registration_ends_the_program),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_a_wrong_size_says_what_is_allowed),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_bools),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_choices),
		cmocka_unit_test(test_texts),
	};

	return cmocka_run_group_tests(tests, NULL, teardown);
}
