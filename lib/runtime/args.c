/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reading arguments, "key=value": single ones, the driver that driver=NAME names, and the check of all of them
 * against those that a builder and its driver know. Called by the parse slots of builders and drivers.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <bsd/stdlib.h>
#include <bsd/string.h>

#include <rte_common.h>

#include "vhub_args.h"

/* The pair of `key`, NULL when there is none. The last one counts; builders refuse a second one. */
static const struct rte_kvargs_pair *
find_pair(const struct rte_kvargs *args, const char *key)
{
	for (unsigned int i = args->count; i > 0; i--) {
		if (strcmp(args->pairs[i - 1].key, key) == 0)
			return &args->pairs[i - 1];
	}
	return NULL;
}

/* 0 with *text, 0 with *text NULL when the key is absent, -EINVAL when it has no value. */
static int
get_text(const struct rte_kvargs *args, const char *key, const char **text, char *error,
		size_t error_len)
{
	const struct rte_kvargs_pair *pair = args == NULL ? NULL : find_pair(args, key);

	*text = NULL;
	if (pair == NULL)
		return 0;
	if (pair->value == NULL || pair->value[0] == '\0') {
		snprintf(error, error_len, "%s: a value is missing (%s=VALUE)", key, key);
		return -EINVAL;
	}
	*text = pair->value;
	return 0;
}

/* Decimal digits alone; -ERANGE beyond 64 bits. *end is behind the last digit. */
static int
parse_digits(const char *text, uint64_t *value, const char **end)
{
	uint64_t sum = 0;
	const char *p = text;

	for (; *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(sum, UINT64_C(10), &sum) ||
				__builtin_add_overflow(sum, (uint64_t)(*p - '0'), &sum))
			return -ERANGE;
	}
	if (p == text)
		return -EINVAL;
	*value = sum;
	*end = p;
	return 0;
}

/* Digits, then perhaps one of the suffixes, each of which is `step` times the one before. */
static int
parse_scaled(const char *text, const char *suffixes, uint64_t step, uint64_t *value)
{
	const char *end = NULL, *found;
	int ret;

	ret = parse_digits(text, value, &end);
	if (ret != 0 || *end == '\0')
		return ret;
	found = strchr(suffixes, tolower((unsigned char)*end));
	if (found == NULL || end[1] != '\0')
		return -EINVAL;
	for (; found >= suffixes; found--) {
		if (__builtin_mul_overflow(*value, step, value))
			return -ERANGE;
	}
	return 0;
}

/* A size as people write it, where it is a round one. */
static const char *
size_text(uint64_t bytes, char *buf, size_t len)
{
	static const char suffixes[] = { '\0', 'k', 'M', 'G', 'T', '\0' };
	unsigned int i = 0;

	while (i < 4 && bytes != 0 && bytes % 1024 == 0) {
		bytes /= 1024;
		i++;
	}
	snprintf(buf, len, "%" PRIu64 "%.1s", bytes, &suffixes[i]);
	return buf;
}

int
vhub_arg_size(const struct rte_kvargs *args, const char *key, uint64_t min, uint64_t max,
		uint64_t *value, char *error, size_t error_len)
{
	char from[32], to[32];
	const char *text;
	uint64_t size;
	int ret;

	ret = get_text(args, key, &text, error, error_len);
	if (ret != 0 || text == NULL)
		return ret;
	if (parse_scaled(text, "kmgt", 1024, &size) != 0 || size < min || size > max) {
		snprintf(error, error_len,
				"%s=%s: not a size from %s to %s (a number, with k, M, G or T)",
				key, text, size_text(min, from, sizeof(from)),
				size_text(max, to, sizeof(to)));
		return -EINVAL;
	}
	*value = size;
	return 0;
}

/* `hint` says what the suffixes are, at the end of the sentence. */
static int
get_number(const struct rte_kvargs *args, const char *key, const char *suffixes, const char *hint,
		uint64_t min, uint64_t max, uint64_t *value, char *error, size_t error_len)
{
	const char *text;
	uint64_t number;
	int ret;

	ret = get_text(args, key, &text, error, error_len);
	if (ret != 0 || text == NULL)
		return ret;
	if (parse_scaled(text, suffixes, 1000, &number) != 0 || number < min || number > max) {
		snprintf(error, error_len, "%s=%s: not a number from %" PRIu64 " to %" PRIu64 "%s",
				key, text, min, max, hint);
		return -EINVAL;
	}
	*value = number;
	return 0;
}

int
vhub_arg_uint(const struct rte_kvargs *args, const char *key, uint64_t min, uint64_t max,
		uint64_t *value, char *error, size_t error_len)
{
	return get_number(args, key, "", "", min, max, value, error, error_len);
}

int
vhub_arg_count(const struct rte_kvargs *args, const char *key, uint64_t min, uint64_t max,
		uint64_t *value, char *error, size_t error_len)
{
	return get_number(args, key, "kmg", " (k, M and G are 10^3, 10^6 and 10^9)", min, max,
			value, error, error_len);
}

/* "10" or "20-29", which is changed. Returns false when it is neither. */
static bool
parse_range(char *text, uint16_t min, uint16_t max, uint16_t *first, uint16_t *last)
{
	char *dash = strchr(text, '-');
	const char *bad = NULL;

	if (dash != NULL)
		*dash++ = '\0';
	*first = (uint16_t)strtonum(text, min, max, &bad);
	*last = *first;
	if (bad == NULL && dash != NULL)
		*last = (uint16_t)strtonum(dash, *first, max, &bad);
	return bad == NULL;
}

int
vhub_text_ranges(const char *text, uint16_t min, uint16_t max,
		bool (*add)(void *arg, uint16_t first, uint16_t last), void *arg)
{
	char list[1024], *rest = list, *word;
	uint16_t first, last;

	if (strlcpy(list, text, sizeof(list)) >= sizeof(list))
		return -EINVAL;
	while ((word = strsep(&rest, "+")) != NULL) {
		if (!parse_range(word, min, max, &first, &last) || !add(arg, first, last))
			return -EINVAL;
	}
	return 0;
}

int
vhub_text_bool(const char *text, bool *value)
{
	/* Those that mean "on" have an even place. */
	static const char *const words[] = { "on", "off", "yes", "no", "true", "false", "1", "0" };

	for (unsigned int i = 0; i < RTE_DIM(words); i++) {
		if (strcmp(text, words[i]) == 0) {
			*value = i % 2 == 0;
			return 0;
		}
	}
	return -EINVAL;
}

int
vhub_arg_bool(const struct rte_kvargs *args, const char *key, bool *value, char *error,
		size_t error_len)
{
	const char *text;
	int ret;

	ret = get_text(args, key, &text, error, error_len);
	if (ret != 0 || text == NULL)
		return ret;
	ret = vhub_text_bool(text, value);
	if (ret != 0)
		snprintf(error, error_len, "%s=%s: neither on nor off", key, text);
	return ret;
}

int
vhub_arg_choice(const struct rte_kvargs *args, const char *key, const char *const *words,
		unsigned int *value, char *error, size_t error_len)
{
	const char *text;
	size_t used;
	int ret;

	ret = get_text(args, key, &text, error, error_len);
	if (ret != 0 || text == NULL)
		return ret;
	for (unsigned int i = 0; words[i] != NULL; i++) {
		if (strcmp(text, words[i]) == 0) {
			*value = i;
			return 0;
		}
	}
	used = (size_t)snprintf(error, error_len, "%s=%s: not one of", key, text);
	for (unsigned int i = 0; words[i] != NULL && used < error_len; i++)
		used += (size_t)snprintf(error + used, error_len - used, "%s %s", i == 0 ? "" : ",",
				words[i]);
	return -EINVAL;
}

int
vhub_arg_text(const struct rte_kvargs *args, const char *key, const char **value, char *error,
		size_t error_len)
{
	const char *text;
	int ret;

	ret = get_text(args, key, &text, error, error_len);
	if (ret != 0 || text == NULL)
		return ret;
	*value = text;
	return 0;
}

/* ---- drivers ---- */

int
vhub_arg_driver(const struct rte_kvargs *args, const struct vhub_registry *drivers,
		const void **driver, char *error, size_t error_len)
{
	const struct vhub_driver_head *head;
	const char *name = NULL;
	int ret;

	ret = vhub_arg_text(args, "driver", &name, error, error_len);
	if (ret != 0)
		return ret;
	*driver = name == NULL ? NULL : vhub_registry_find(drivers, name);
	if (*driver != NULL)
		return 0;
	if (name == NULL)
		snprintf(error, error_len, "driver= is missing; allowed");
	else
		snprintf(error, error_len, "driver=%s: there is no such driver; allowed", name);
	for (unsigned int i = 0; (head = vhub_registry_at(drivers, i)) != NULL; i++) {
		strlcat(error, i == 0 ? ": " : ", ", error_len);
		strlcat(error, head->name, error_len);
	}
	return -EINVAL;
}

/* ---- all arguments ---- */

static bool
has_key(const char *const *keys, const char *key)
{
	for (; *keys != NULL; keys++) {
		if (strcmp(*keys, key) == 0)
			return true;
	}
	return false;
}

/* Appends ", a, b, c" to a sentence, leaving out what `except` (may be NULL) has. */
static void
append_words(char *error, size_t error_len, const char *const *words, const char *const *except)
{
	for (; *words != NULL; words++) {
		if (except != NULL && has_key(except, *words))
			continue;
		strlcat(error, ", ", error_len);
		strlcat(error, *words, error_len);
	}
}

static int
check_known(const struct rte_kvargs_pair *pair, const char *const *own_keys,
		const struct vhub_driver_head *driver, char *error, size_t error_len)
{
	if (has_key(own_keys, pair->key) || has_key(driver->keys, pair->key))
		return 0;
	snprintf(error, error_len, "%s=%s: driver %s has no such argument; allowed: %s", pair->key,
			pair->value == NULL ? "" : pair->value, driver->name, own_keys[0]);
	append_words(error, error_len, own_keys + 1, NULL);
	append_words(error, error_len, driver->keys, own_keys);
	return -ENOKEY;
}

int
vhub_arg_check_keys(const struct rte_kvargs *args, const char *const *own_keys, const void *driver,
		char *error, size_t error_len)
{
	for (unsigned int i = 0; i < args->count; i++) {
		const struct rte_kvargs_pair *pair = &args->pairs[i];

		if (check_known(pair, own_keys, driver, error, error_len) != 0)
			return -ENOKEY;
		for (unsigned int j = 0; j < i; j++) {
			if (strcmp(args->pairs[j].key, pair->key) != 0)
				continue;
			snprintf(error, error_len, "%s=%s: %s was given before; allowed once",
					pair->key, pair->value == NULL ? "" : pair->value,
					pair->key);
			return -EINVAL;
		}
	}
	return 0;
}
