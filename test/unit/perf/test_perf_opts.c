/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Options by tables: each kind is read, in both spellings, and what is wrong is told in one line
 * that names the option, the value and what is allowed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <rte_common.h>

#include "opts.h"

static struct {
	bool flag, onoff;
	uint32_t depth;
	uint64_t bs, rate, runtime;
	const char *path;
	unsigned int mode;
	unsigned int parsed;
} config;

static int
parse_two(void *to, const char *value, char *allowed, size_t len)
{
	if (strcmp(value, "two") != 0) {
		snprintf(allowed, len, "two");
		return -EINVAL;
	}
	++*(unsigned int *)to;
	return 0;
}

static const char *const modes[] = { "echo", "tx", "rx", NULL };

static const struct opt some_opts[] = {
	{ .name = "flag", .kind = OPT_SWITCH, .to = &config.flag, .help = "a switch" },
	{ .name = "onoff",
			.arg = "on|off",
			.kind = OPT_ON_OFF,
			.to = &config.onoff,
			.help = "both" },
	{ .name = "io-depth",
			.arg = "N",
			.kind = OPT_UINT,
			.to = &config.depth,
			.min = 1,
			.max = 1024,
			.help = "how many\nat once" },
	{ .name = "bs",
			.arg = "SIZE",
			.kind = OPT_SIZE,
			.to = &config.bs,
			.min = 512,
			.max = 1 << 20,
			.help = "bytes" },
};
static const struct opt other_opts[] = {
	{ .name = "rate", .arg = "N", .kind = OPT_RATE, .to = &config.rate, .help = "a second" },
	{ .name = "runtime",
			.arg = "TIME",
			.kind = OPT_TIME,
			.to = &config.runtime,
			.min = 1,
			.help = "seconds" },
	{ .name = "socket", .arg = "PATH", .kind = OPT_TEXT, .to = &config.path, .help = "where" },
	{ .name = "mode",
			.arg = "MODE",
			.kind = OPT_CHOICE,
			.to = &config.mode,
			.choices = modes,
			.help = "what" },
	{ .name = "two",
			.arg = "TWO",
			.kind = OPT_PARSE,
			.to = &config.parsed,
			.parse = parse_two,
			.help = "twice" },
};
static const struct opt_group groups[] = {
	{ "Some", some_opts, RTE_DIM(some_opts) },
	{ "Others", other_opts, RTE_DIM(other_opts) },
	{ NULL, NULL, 0 },
};
static const struct opt_set set = { "test", "--socket PATH [options]", "It tests.", groups };

static char said[8192];

/* Parses, and keeps what is said on `fd` in `said`. */
static int
parse_with(int fd, int argc, char **argv)
{
	FILE *file = tmpfile();
	const int keep = dup(fd);
	size_t len;
	int ret;

	assert_non_null(file);
	fflush(NULL);
	dup2(fileno(file), fd);
	ret = opts_parse(&set, argc, argv);
	fflush(NULL);
	dup2(keep, fd);
	close(keep);
	rewind(file);
	len = fread(said, 1, sizeof(said) - 1, file);
	said[len] = '\0';
	fclose(file);
	return ret;
}

#define PARSE(fd, ...) \
	({ \
		char *words[] = { (char *)"test", __VA_ARGS__ }; \
		parse_with(fd, RTE_DIM(words), words); \
	})
#define W(text) ((char *)(uintptr_t)(text))

static int
clear(void **state)
{
	(void)state;
	memset(&config, 0, sizeof(config));
	config.depth = 7;
	return 0;
}

static void
test_every_kind_is_read(void **state)
{
	(void)state;
	assert_int_equal(PARSE(2, W("--flag"), W("--onoff"), W("on"), W("--io-depth"), W("32"),
					 W("--bs=4k"), W("--rate=1.5M"), W("--runtime"), W("250ms"),
					 W("--socket"), W("/x=y"), W("--mode=rx"), W("--two"),
					 W("two"), W("--two=two")),
			0);
	assert_string_equal(said, "");
	assert_true(config.flag && config.onoff);
	assert_int_equal(config.depth, 32);
	assert_int_equal(config.bs, 4096);
	assert_int_equal(config.rate, 1500000);
	assert_int_equal(config.runtime, 250000000);
	assert_string_equal(config.path, "/x=y");
	assert_int_equal(config.mode, 2);
	assert_int_equal(config.parsed, 2);
}

static void
test_defaults_stay_and_the_last_one_counts(void **state)
{
	(void)state;
	assert_int_equal(PARSE(2, W("--flag"), W("--flag=off"), W("--mode"), W("tx"), W("--mode"),
					 W("echo")),
			0);
	assert_false(config.flag);
	assert_int_equal(config.mode, 0);
	assert_int_equal(config.depth, 7);
}

static void
test_a_dash_may_be_an_underscore(void **state)
{
	(void)state;
	assert_int_equal(PARSE(2, W("--io_depth=9")), 0);
	assert_int_equal(config.depth, 9);
}

static void
test_errors_name_option_value_and_what_is_allowed(void **state)
{
	static const struct {
		const char *option, *value, *line;
	} wrong[] = {
		{ "--io-depth", "0", "vhub-perf: test: --io-depth 0: allowed are 1 to 1024\n" },
		{ "--io-depth", "1025",
				"vhub-perf: test: --io-depth 1025: allowed are 1 to 1024\n" },
		{ "--io-depth", "x", "vhub-perf: test: --io-depth x: allowed are 1 to 1024\n" },
		{ "--bs", "1", "vhub-perf: test: --bs 1: allowed are sizes from 512 to 1M\n" },
		{ "--mode", "udp", "vhub-perf: test: --mode udp: allowed are echo, tx, rx\n" },
		{ "--onoff", "yes", "vhub-perf: test: --onoff yes: allowed are on and off\n" },
		{ "--flag=maybe", NULL, "vhub-perf: test: --flag maybe: allowed are on and off\n" },
		{ "--two", "three", "vhub-perf: test: --two three: allowed are two\n" },
		{ "--socket=", NULL,
				"vhub-perf: test: --socket : allowed are texts that are not empty\n" },
		{ "--mode", NULL, "vhub-perf: test: --mode: a value must follow: MODE\n" },
		{ "--io", "9", "vhub-perf: test: --io: there is no such option; --help lists them\n" },
		{ "--io-depthx", "9",
				"vhub-perf: test: --io-depthx: there is no such option; --help lists them\n" },
		{ "--", NULL, "vhub-perf: test: --: there is no such option; --help lists them\n" },
		{ "word", NULL, "vhub-perf: test: word: there is no such option; --help lists them\n" },
	};

	(void)state;
	for (unsigned int i = 0; i < RTE_DIM(wrong); i++) {
		char *words[] = { W("test"), W(wrong[i].option), W(wrong[i].value) };

		assert_int_equal(parse_with(2, wrong[i].value != NULL ? 3 : 2, words), -EINVAL);
		assert_string_equal(said, wrong[i].line);
	}
	assert_int_equal(PARSE(2, W("--rate"), W("-1")), -EINVAL);
	assert_non_null(strstr(said, "--rate -1: allowed are 0 to "));
	assert_int_equal(PARSE(2, W("--runtime"), W("0")), -EINVAL);
	assert_non_null(strstr(said, "--runtime 0: allowed are times from 1e-09 to "));
	assert_int_equal(config.depth, 7);
}

static void
test_help_shows_every_option(void **state)
{
	(void)state;
	assert_int_equal(PARSE(1, W("--flag"), W("--help"), W("--nonsense")), 1);
	assert_non_null(strstr(said,
			"usage: vhub-perf test --socket PATH [options]\n\nIt tests.\n"));
	assert_non_null(strstr(said, "\nSome:\n  --flag              a switch\n"));
	assert_non_null(strstr(said,
			"  --io-depth N        how many\n                      at once\n"));
	assert_non_null(strstr(said, "\nOthers:\n"));
	for (unsigned int i = 0; i < RTE_DIM(other_opts); i++)
		assert_non_null(strstr(said, other_opts[i].name));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_every_kind_is_read, clear),
		cmocka_unit_test_setup(test_defaults_stay_and_the_last_one_counts, clear),
		cmocka_unit_test_setup(test_a_dash_may_be_an_underscore, clear),
		cmocka_unit_test_setup(test_errors_name_option_value_and_what_is_allowed, clear),
		cmocka_unit_test_setup(test_help_shows_every_option, clear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
