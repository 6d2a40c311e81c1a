/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The registry of block drivers. Drivers register from constructors, or when a shared object is
 * loaded; the builder (builder.c, next on the way) finds them by the driver= argument.
 */
#include <errno.h>

#include "blk_pvt.h"

struct vhub_registry blk_drivers;

char blk_builder_help[8192] =
		"driver=NAME       what the disk is: one of the drivers below\n"
		"queues=N          virtqueues, 1 to 128 (1)\n"
		"lcores=N          workers that the queues are spread over, at most (1)\n"
		"ro=on             read-only (off)\n"
		"serial=TEXT       1 to 20 characters that the guest sees (made of the device's name)\n"
		"block_size=BYTES  logical block size, 512 or 4096 (the driver's)\n"
		"writeback=off     writes are durable before they complete, until the guest asks otherwise (on)\n"
		"iops=N            most requests in a second, 0 no limit (0)\n"
		"iops_burst=N      of them at once after a pause (those of 0.1 s)\n"
		"bytes_per_s=SIZE  most bytes read, written, zeroed and erased in a second, 0 no limit (0)\n"
		"bytes_burst=SIZE  of them at once after a pause (those of 0.1 s)\n";

static bool
ops_complete(const struct vhub_blk_driver_ops *ops)
{
	return ops->name != NULL && ops->help != NULL && ops->keys != NULL && ops->parse != NULL &&
			ops->open != NULL && ops->destroy != NULL && ops->info != NULL &&
			ops->queue_get != NULL && ops->queue_put != NULL && ops->submit != NULL &&
			ops->reap != NULL;
}

int
vhub_blk_driver_register(const struct vhub_blk_driver_ops *ops)
{
	int ret;

	if (!ops_complete(ops))
		return -EINVAL;
	ret = vhub_registry_add(&blk_drivers, ops);
	if (ret == 0)
		vhub_driver_add_help(ops, blk_builder_help, sizeof(blk_builder_help));
	return ret;
}

const struct vhub_blk_driver_ops *
vhub_blk_driver_find(const char *name)
{
	return vhub_registry_find(&blk_drivers, name);
}

const struct vhub_blk_driver_ops *
vhub_blk_driver_at(unsigned int i)
{
	return vhub_registry_at(&blk_drivers, i);
}

/* Relaxed: a figure; who asks has waited for the disks in another way. */
static uint64_t n_not_saved;

void
vhub_blk_not_saved(void)
{
	__atomic_fetch_add(&n_not_saved, 1, __ATOMIC_RELAXED);
}

uint64_t
vhub_blk_n_not_saved(void)
{
	return __atomic_load_n(&n_not_saved, __ATOMIC_RELAXED);
}

struct vhub_blk_io **
vhub_blk_cancel_list(struct vhub_blk_io **list, struct vhub_blk_io ***tail, vhub_blk_pick_fn wanted,
		const void *arg)
{
	struct vhub_blk_io *others = NULL, **other = &others, **picked = list;

	for (struct vhub_blk_io *io = *list; io != NULL; io = io->next) {
		if (wanted(io, arg)) {
			io->result = -ECANCELED;
			*picked = io;
			picked = &io->next;
		} else {
			*other = io;
			other = &io->next;
		}
	}
	*other = NULL;
	*picked = others;
	*tail = other == &others ? picked : other;
	return picked;
}
