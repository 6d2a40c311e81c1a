/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Registries of const ops tables, and the help on drivers. Builders (device/builders.c) and the drivers of
 * disks and ports (blk/driver.c, net/driver.c) are found through it. Their arguments are read in args.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vhub_registry.h"

/* Every entry starts with its name. */
static const char *
entry_name(const void *entry)
{
	return *(const char *const *)entry;
}

int
vhub_registry_add(struct vhub_registry *registry, const void *entry)
{
	const char *name = entry_name(entry);

	if (name == NULL || name[0] == '\0')
		return -EINVAL;
	if (vhub_registry_find(registry, name) != NULL)
		return -EEXIST;
	if (registry->n == VHUB_REGISTRY_MAX)
		return -ENOSPC;
	registry->entries[registry->n++] = entry;
	return 0;
}

const void *
vhub_registry_find(const struct vhub_registry *registry, const char *name)
{
	for (unsigned int i = 0; i < registry->n; i++) {
		if (strcmp(entry_name(registry->entries[i]), name) == 0)
			return registry->entries[i];
	}
	return NULL;
}

const void *
vhub_registry_at(const struct vhub_registry *registry, unsigned int i)
{
	return i < registry->n ? registry->entries[i] : NULL;
}

void
vhub_registered(int result, const char *name)
{
	if (result == 0)
		return;
	fprintf(stderr, "vhub: \"%s\" cannot be registered: %s\n", name == NULL ? "" : name,
			strerror(-result));
	exit(EXIT_FAILURE);
}

void
vhub_driver_add_help(const void *driver, char *help, size_t help_len)
{
	const struct vhub_driver_head *head = driver;
	size_t used = strlen(help);

	snprintf(help + used, help_len - used, "driver=%s\n%s%s", head->name, head->help,
			head->help[0] == '\0' ? "" : "\n");
}
