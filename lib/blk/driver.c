/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The registry of block drivers. Drivers register from constructors, or when a shared object is
 * loaded; the builder (builder.c, next on the way) finds them by the driver= argument.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "blk_pvt.h"

static struct vhub_registry drivers;

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
	return 0;
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
