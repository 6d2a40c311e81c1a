/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reading numbers with units (parse.h). Called by opts.c and options of the generators.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "parse.h"

struct unit {
	const char *name;
	double factor;
};

static const struct unit size_units[] = {
	{ "", 1 },
	{ "k", 1024.0 },
	{ "m", 1024.0 * 1024 },
	{ "g", 1024.0 * 1024 * 1024 },
	{ "t", 1024.0 * 1024 * 1024 * 1024 },
	{ NULL, 0 },
};

static const struct unit rate_units[] = {
	{ "", 1 },
	{ "k", 1e3 },
	{ "m", 1e6 },
	{ "g", 1e9 },
	{ NULL, 0 },
};

static const struct unit time_units[] = {
	{ "", 1e9 },
	{ "ns", 1 },
	{ "us", 1e3 },
	{ "ms", 1e6 },
	{ "s", 1e9 },
	{ "m", 60e9 },
	{ "h", 3600e9 },
	{ NULL, 0 },
};

int
parse_uint(const char *text, uint64_t *value)
{
	char *end;
	uint64_t number;

	/* strtoull() would take blanks, signs and what is behind the number. */
	if (text[strspn(text, "0123456789")] != '\0' || *text == '\0')
		return -EINVAL;
	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno != 0)
		return -EINVAL;
	*value = number;
	return 0;
}

/* Digits, with one point among them, then one of the units. */
static int
parse_unit(const char *text, const struct unit *units, uint64_t *value)
{
	const size_t len = strspn(text, "0123456789.");
	char number[32];
	double scaled;
	uint64_t whole;
	char *end;

	if (len == 0 || len >= sizeof(number))
		return -EINVAL;
	memcpy(number, text, len);
	number[len] = '\0';
	while (units->name != NULL && strcasecmp(text + len, units->name) != 0)
		units++;
	if (units->name == NULL)
		return -EINVAL;
	/* What is a whole number stays exact beyond the 53 bits of a double. */
	if (parse_uint(number, &whole) == 0) {
		if (__builtin_mul_overflow(whole, (uint64_t)units->factor, &whole))
			return -EINVAL;
		*value = whole;
		return 0;
	}
	scaled = strtod(number, &end) * units->factor;
	if (end == number || *end != '\0' || scaled >= 0x1p63)
		return -EINVAL;
	*value = (uint64_t)(scaled + 0.5);
	return 0;
}

int
parse_size(const char *text, uint64_t *bytes)
{
	return parse_unit(text, size_units, bytes);
}

int
parse_rate(const char *text, uint64_t *per_s)
{
	return parse_unit(text, rate_units, per_s);
}

int
parse_time(const char *text, uint64_t *ns)
{
	return parse_unit(text, time_units, ns);
}

char *
format_size(uint64_t bytes, char *text, size_t len)
{
	static const char names[] = "kMGT";
	unsigned int i = 0;

	while (i < sizeof(names) - 1 && bytes != 0 && bytes % 1024 == 0) {
		bytes /= 1024;
		i++;
	}
	snprintf(text, len, "%" PRIu64 "%.1s", bytes, i == 0 ? "" : &names[i - 1]);
	return text;
}
