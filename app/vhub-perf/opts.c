/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reads a subcommand's options by its tables, and prints them as help (opts.h). Called by the
 * subcommands; next: frontend.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "opts.h"
#include "parse.h"
#include "perf.h"

#define HELP_COLUMN 22

/* ---- help ---- */

static void
print_opt(const struct opt *opt)
{
	const char *line = opt->help;
	int used = printf("  --%s%s%s", opt->name, opt->arg != NULL ? " " : "",
			opt->arg != NULL ? opt->arg : "");

	if (used >= HELP_COLUMN) {
		printf("\n");
		used = 0;
	}
	while (*line != '\0') {
		const int len = (int)strcspn(line, "\n");

		printf("%*s%.*s\n", HELP_COLUMN - used, "", len, line);
		used = 0;
		line += len + (line[len] == '\n');
	}
}

static void
print_help(const struct opt_set *set)
{
	printf("usage: vhub-perf %s %s\n\n%s\n", set->command, set->usage, set->about);
	for (const struct opt_group *group = set->groups; group->title != NULL; group++) {
		printf("\n%s:\n", group->title);
		for (unsigned int i = 0; i < group->n_opts; i++)
			print_opt(&group->opts[i]);
	}
	printf("\n  --%-*s%s\n", HELP_COLUMN - 4, "help", "print this and exit");
}

/* ---- one value ---- */

static int
on_or_off(bool *to, const char *value, char *allowed, size_t len)
{
	if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0) {
		snprintf(allowed, len, "on and off");
		return -EINVAL;
	}
	*to = strcmp(value, "on") == 0;
	return 0;
}

static int
choose(const struct opt *opt, const char *value, char *allowed, size_t len)
{
	size_t used = 0;

	for (unsigned int i = 0; opt->choices[i] != NULL; i++) {
		if (strcmp(value, opt->choices[i]) == 0) {
			*(unsigned int *)opt->to = i;
			return 0;
		}
		used += (size_t)snprintf(allowed + used, used < len ? len - used : 0, "%s%s",
				i > 0 ? ", " : "", opt->choices[i]);
	}
	return -EINVAL;
}

static void
say_range(const struct opt *opt, uint64_t max, char *allowed, size_t len)
{
	char least[32], most[32];

	switch (opt->kind) {
	case OPT_SIZE:
		snprintf(allowed, len, "sizes from %s to %s",
				format_size(opt->min, least, sizeof(least)),
				format_size(max, most, sizeof(most)));
		break;
	case OPT_RATE:
		snprintf(allowed, len,
				"%" PRIu64 " to %" PRIu64 " a second, also as in 250k or 1.5M",
				opt->min, max);
		break;
	case OPT_TIME:
		snprintf(allowed, len, "times from %g to %g seconds, also as in 250ms or 2m",
				(double)opt->min / 1e9, (double)max / 1e9);
		break;
	default:
		snprintf(allowed, len, "%" PRIu64 " to %" PRIu64, opt->min, max);
	}
}

static int
read_number(const struct opt *opt, const char *value, char *allowed, size_t len)
{
	const uint64_t widest = opt->kind == OPT_UINT ? UINT32_MAX : INT64_MAX;
	const uint64_t max = opt->max != 0 ? opt->max : widest;
	uint64_t number = 0;
	int ret;

	switch (opt->kind) {
	case OPT_SIZE:
		ret = parse_size(value, &number);
		break;
	case OPT_RATE:
		ret = parse_rate(value, &number);
		break;
	case OPT_TIME:
		ret = parse_time(value, &number);
		break;
	default:
		ret = parse_uint(value, &number);
	}
	if (ret != 0 || number < opt->min || number > max) {
		say_range(opt, max, allowed, len);
		return -EINVAL;
	}
	if (opt->kind == OPT_UINT)
		*(uint32_t *)opt->to = (uint32_t)number;
	else
		*(uint64_t *)opt->to = number;
	return 0;
}

static int
set_value(const struct opt *opt, const char *value, char *allowed, size_t len)
{
	switch (opt->kind) {
	case OPT_SWITCH:
	case OPT_ON_OFF:
		return on_or_off(opt->to, value, allowed, len);
	case OPT_CHOICE:
		return choose(opt, value, allowed, len);
	case OPT_PARSE:
		return opt->parse(opt->to, value, allowed, len);
	case OPT_TEXT:
		if (value[0] == '\0') {
			snprintf(allowed, len, "texts that are not empty");
			return -EINVAL;
		}
		*(const char **)opt->to = value;
		return 0;
	default:
		return read_number(opt, value, allowed, len);
	}
}

/* ---- the command line ---- */

static bool
same_name(const char *text, size_t len, const char *name)
{
	for (size_t i = 0; i < len; i++) {
		const char c = text[i] == '_' ? '-' : text[i];

		/* Also where the name ends. */
		if (c != (name[i] == '_' ? '-' : name[i]))
			return false;
	}
	return name[len] == '\0';
}

static const struct opt *
find(const struct opt_set *set, const char *text, size_t len)
{
	for (const struct opt_group *group = set->groups; group->title != NULL; group++) {
		for (unsigned int i = 0; i < group->n_opts; i++) {
			if (same_name(text, len, group->opts[i].name))
				return &group->opts[i];
		}
	}
	return NULL;
}

/* Returns how many arguments were used, or -EINVAL. */
static int
parse_one(const struct opt_set *set, const char *arg, const char *next)
{
	const struct opt *opt = NULL;
	const char *value = strchr(arg, '=');
	const size_t len = value != NULL ? (size_t)(value - arg) : strlen(arg);
	int used = 1;
	char allowed[512] = "";

	if (strncmp(arg, "--", 2) == 0)
		opt = find(set, arg + 2, len - 2);
	if (opt == NULL) {
		perf_error(set->command, "%.*s: there is no such option; --help lists them",
				(int)len, arg);
		return -EINVAL;
	}
	if (value != NULL) {
		value++;
	} else if (opt->kind == OPT_SWITCH) {
		value = "on";
	} else {
		value = next;
		used = 2;
	}
	if (value == NULL) {
		perf_error(set->command, "--%s: a value must follow: %s", opt->name, opt->arg);
		return -EINVAL;
	}
	if (set_value(opt, value, allowed, sizeof(allowed)) != 0) {
		perf_error(set->command, "--%s %s: allowed are %s", opt->name, value, allowed);
		return -EINVAL;
	}
	return used;
}

int
opts_parse(const struct opt_set *set, int argc, char **argv)
{
	int used;

	for (int i = 1; i < argc; i += used) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			print_help(set);
			return 1;
		}
		used = parse_one(set, argv[i], i + 1 < argc ? argv[i + 1] : NULL);
		if (used < 0)
			return used;
	}
	return 0;
}
