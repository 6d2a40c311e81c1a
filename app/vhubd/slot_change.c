/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Changes of a disk that is served. Called by control_disks.c; next: lib/blk, and slot_spec.c, which
 * keeps in the device's arguments what config_save writes.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "slot_spec.h"
#include "slots.h"
#include "vhub_blk.h"

static void
run_resize(struct vhub_work *work)
{
	struct slot *slot = vhub_container_of(work, struct slot, work);

	slot->result = vhub_blk_resize(slot->device, slot->new_size_bytes, slot->error,
			sizeof(slot->error));
}

static void
resized(struct vhub_work *work)
{
	struct slot *slot = vhub_container_of(work, struct slot, work);
	char text[32];

	slot->changing = false;
	if (slot->result == 0) {
		bool asked = slot->new_size_bytes != 0;

		slot->new_size_bytes = vhub_blk_resized(slot->device);
		snprintf(text, sizeof(text), "%" PRIu64, slot->new_size_bytes);
		/* Where the size is an argument. Without memory the old one is what is saved. */
		if (asked)
			slot_spec_set(&slot->options, "size", text);
	} else if (slot->error[0] == '\0') {
		snprintf(slot->error, sizeof(slot->error), "%s", strerror(-slot->result));
	}
	slots_tell(slot, slot->result, slot->error);
}

int
slots_resize(struct slots *slots, const char *name, uint64_t size_bytes, slots_done_fn done,
		void *arg, char *error, size_t error_len)
{
	struct slot *slot;
	int ret = slots_find_served(slots, name, &slot, error, error_len);

	if (ret != 0)
		return ret;
	slot->done = done;
	slot->arg = arg;
	slot->changing = true;
	slot->new_size_bytes = size_bytes;
	slot->error[0] = '\0';
	slot->work.run = run_resize;
	slot->work.done = resized;
	vhub_work_submit(&slot->work);
	return 0;
}
