/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The registry of device builders. Kinds register in constructors (lib/blk/builder.c); vhubd and
 * run.c find them here.
 */
#include <errno.h>

#include "vhub_device.h"

static struct vhub_registry builders;

int
vhub_builder_register(const struct vhub_builder_ops *ops)
{
	if (ops->parse == NULL || ops->build == NULL || ops->destroy == NULL)
		return -EINVAL;
	return vhub_registry_add(&builders, ops);
}

const struct vhub_builder_ops *
vhub_builder_find(const char *name)
{
	return vhub_registry_find(&builders, name);
}

const struct vhub_builder_ops *
vhub_builder_at(unsigned int i)
{
	return vhub_registry_at(&builders, i);
}

void
vhub_device_destroy(struct vhub_device *dev)
{
	if (dev != NULL)
		dev->ops->destroy(dev);
}
