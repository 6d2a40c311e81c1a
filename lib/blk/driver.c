/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The registry of block drivers. Drivers register from constructors, or when a shared object is
 * loaded; the builder (builder.c, next on the way) finds them by the driver= argument.
 *
 * The names of all drivers' arguments are kept together with the builder's own, because whoever
 * splits a command line must know them before it knows which driver is meant.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "blk_pvt.h"

#define KEYS_MAX 128

static struct vhub_registry drivers;

const char *blk_builder_keys[KEYS_MAX + 1] = { "driver", "queues", "ro", "serial", "block_size" };

char blk_builder_help[8192] =
		"driver=NAME       what the disk is: one of the drivers below\n"
		"queues=N          virtqueues, 1 to 128 (1)\n"
		"ro=on             read-only (off)\n"
		"serial=TEXT       up to 20 characters that the guest sees (the device's name)\n"
		"block_size=BYTES  logical block size, 512 or 4096 (the driver's)\n";

static bool
ops_complete(const struct vhub_blk_driver_ops *ops)
{
	return ops->name != NULL && ops->help != NULL && ops->keys != NULL && ops->parse != NULL &&
			ops->open != NULL && ops->destroy != NULL && ops->info != NULL &&
			ops->queue_get != NULL && ops->queue_put != NULL && ops->submit != NULL &&
			ops->reap != NULL;
}

/* Drivers share names: "size". Returns the place of `key`, or of the end. */
static unsigned int
find_key(const char *key)
{
	unsigned int i = 0;

	while (blk_builder_keys[i] != NULL && strcmp(blk_builder_keys[i], key) != 0)
		i++;
	return i;
}

static int
add_keys(const char *const *keys)
{
	for (; *keys != NULL; keys++) {
		unsigned int i = find_key(*keys);

		if (i == KEYS_MAX)
			return -ENOSPC;
		blk_builder_keys[i] = *keys;
	}
	return 0;
}

static void
add_help(const struct vhub_blk_driver_ops *ops)
{
	size_t used = strlen(blk_builder_help);

	snprintf(blk_builder_help + used, sizeof(blk_builder_help) - used, "driver=%s\n%s%s",
			ops->name, ops->help, ops->help[0] == '\0' ? "" : "\n");
}

int
vhub_blk_driver_register(const struct vhub_blk_driver_ops *ops)
{
	int ret;

	if (!ops_complete(ops))
		return -EINVAL;
	ret = vhub_registry_add(&drivers, ops);
	if (ret != 0)
		return ret;
	add_help(ops);
	return add_keys(ops->keys);
}

const struct vhub_blk_driver_ops *
vhub_blk_driver_find(const char *name)
{
	return vhub_registry_find(&drivers, name);
}

const struct vhub_blk_driver_ops *
vhub_blk_driver_at(unsigned int i)
{
	return vhub_registry_at(&drivers, i);
}
