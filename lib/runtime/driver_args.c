/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the builders of devices with drivers (blk, net) share: the driver that driver=NAME names, the
 * check of all arguments against those that builder and driver know, and help. Called by
 * blk/builder.c and net/builder.c; single arguments are read in registry.c.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <bsd/string.h>

#include "vhub_registry.h"

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

void
vhub_driver_add_help(const void *driver, char *help, size_t help_len)
{
	const struct vhub_driver_head *head = driver;
	size_t used = strlen(help);

	snprintf(help + used, help_len - used, "driver=%s\n%s%s", head->name, head->help,
			head->help[0] == '\0' ? "" : "\n");
}

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
