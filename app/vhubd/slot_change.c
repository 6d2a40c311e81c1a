/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Changes of a device that is served. Called by control_disks.c, control_ports.c, control_bridges.c and control_captures.c;
 * next: lib/blk, lib/net, and slot_spec.c, which keeps in the device's arguments what config_save writes.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "slot_spec.h"
#include "slots.h"
#include "vhub_net.h"

/* A change that blocks: run(), then end(), which tells done() of slot->result and slot->error. */
static void
begin_change(struct slot *slot, void (*run)(struct vhub_work *), void (*end)(struct vhub_work *),
		slots_done_fn done, void *arg)
{
	slot->done = done;
	slot->arg = arg;
	slot->changing = true;
	slot->error[0] = '\0';
	slots_begin_work(slot, VHUB_WORK_STORAGE, run, end);
}

/* ---- size ---- */

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
	slot->new_size_bytes = size_bytes;
	begin_change(slot, run_resize, resized, done, arg);
	return 0;
}

/* ---- captures ---- */

static void
run_capture_start(struct vhub_work *work)
{
	struct slot *slot = vhub_container_of(work, struct slot, work);

	slot->result = vhub_net_capture_start(slot->device, slot->capture, slot->error,
			sizeof(slot->error));
}

static void
run_capture_stop(struct vhub_work *work)
{
	struct slot *slot = vhub_container_of(work, struct slot, work);

	slot->result = vhub_net_capture_stop(slot->device, &slot->captured, slot->error,
			sizeof(slot->error));
}

static void
capture_changed(struct vhub_work *work)
{
	struct slot *slot = vhub_container_of(work, struct slot, work);

	slot->changing = false;
	slots_tell(slot, slot->result, slot->error);
}

static int
change_capture(struct slots *slots, const char *name, const struct vhub_net_capture *set,
		slots_done_fn done, void *arg, char *error, size_t error_len)
{
	struct slot *slot;
	int ret = slots_find_served(slots, name, &slot, error, error_len);

	if (ret != 0)
		return ret;
	slot->capture = set;
	begin_change(slot, set != NULL ? run_capture_start : run_capture_stop, capture_changed,
			done, arg);
	return 0;
}

int
slots_capture_start(struct slots *slots, const char *name, const struct vhub_net_capture *set,
		slots_done_fn done, void *arg, char *error, size_t error_len)
{
	return change_capture(slots, name, set, done, arg, error, error_len);
}

int
slots_capture_stop(struct slots *slots, const char *name, slots_done_fn done, void *arg,
		char *error, size_t error_len)
{
	return change_capture(slots, name, NULL, done, arg, error, error_len);
}

/* ---- arguments of a port's driver ---- */

static void
run_change_port(struct vhub_work *work)
{
	struct slot *slot = vhub_container_of(work, struct slot, work);

	slot->result = vhub_net_change(slot->device, slot->new_args, slot->error,
			sizeof(slot->error));
}

/* Without memory the old value is what is saved. */
static void
port_changed(struct vhub_work *work)
{
	struct slot *slot = vhub_container_of(work, struct slot, work);
	const struct rte_kvargs *args = slot->new_args;
	unsigned int i;

	slot->changing = false;
	for (i = 0; slot->result == 0 && i < args->count; i++)
		slot_spec_set(&slot->options, args->pairs[i].key, args->pairs[i].value);
	rte_kvargs_free(slot->new_args);
	slot->new_args = NULL;
	slots_tell(slot, slot->result, slot->error);
}

int
slots_change_port(struct slots *slots, const char *name, const char *args, slots_done_fn done,
		void *arg, char *error, size_t error_len)
{
	struct slot *slot;
	int ret = slots_find_served(slots, name, &slot, error, error_len);

	if (ret != 0)
		return ret;
	slot->new_args = rte_kvargs_parse(args, NULL);
	if (slot->new_args == NULL) {
		snprintf(error, error_len, "'%s' cannot be read", args);
		return -EINVAL;
	}
	begin_change(slot, run_change_port, port_changed, done, arg);
	return 0;
}

/* ---- limits ---- */

/* Keeps in the arguments what is set; without memory the old value is what is saved. */
static void
keep(struct slot *slot, const char *key, uint64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	slot_spec_set(&slot->options, key, text);
}

static void
take_over(uint64_t *asked, uint64_t now)
{
	if (*asked == UINT64_MAX)
		*asked = now;
}

int
slots_set_qos(struct slots *slots, const char *name, struct vhub_blk_qos *set, char *error,
		size_t error_len)
{
	struct vhub_blk_qos now = { 0 };
	struct slot *slot;
	int ret = slots_find_served(slots, name, &slot, error, error_len);

	if (ret != 0)
		return ret;
	vhub_blk_get_qos(slot->device, &now);
	take_over(&set->iops, now.iops);
	take_over(&set->iops_burst, now.iops_burst);
	take_over(&set->bytes_per_s, now.bytes_per_s);
	take_over(&set->bytes_burst, now.bytes_burst);
	ret = vhub_blk_set_qos(slot->device, set, error, error_len);
	if (ret != 0)
		return ret;
	keep(slot, "iops", set->iops);
	keep(slot, "iops_burst", set->iops_burst);
	keep(slot, "bytes_per_s", set->bytes_per_s);
	keep(slot, "bytes_burst", set->bytes_burst);
	return 0;
}

int
slots_set_port_qos(struct slots *slots, const char *name, struct vhub_net_qos *set, char *error,
		size_t error_len)
{
	struct vhub_net_qos now = { 0 };
	enum vhub_net_limit i;
	struct slot *slot;
	int ret = slots_find_served(slots, name, &slot, error, error_len);

	if (ret != 0)
		return ret;
	vhub_net_get_qos(slot->device, &now);
	for (i = 0; i < VHUB_NET_LIMITS; i++)
		take_over(&set->limits[i], now.limits[i]);
	ret = vhub_net_set_qos(slot->device, set, error, error_len);
	for (i = 0; i < VHUB_NET_LIMITS && ret == 0; i++) {
		if (set->limits[i] != now.limits[i])
			keep(slot, vhub_net_limit_name(i), set->limits[i]);
	}
	return ret;
}

int
slots_set_mirror(struct slots *slots, const char *name, const struct vhub_net_mirror *set,
		char *error, size_t error_len)
{
	const bool any = set->to[0] != '\0';
	struct slot *slot;
	int ret = slots_find_served(slots, name, &slot, error, error_len);

	if (ret == 0)
		ret = vhub_net_set_mirror(slot->device, set, error, error_len);
	if (ret != 0)
		return ret;
	slot_spec_set(&slot->options, "mirror", any ? set->to : VHUB_NET_NO_MIRROR);
	if (any)
		slot_spec_set(&slot->options, "mirror_direction",
				!set->to_guest			 ? "from_guest" :
						!set->from_guest ? "to_guest" :
								   "both");
	return 0;
}

int
slots_set_link(struct slots *slots, const char *name, bool up, char *error, size_t error_len)
{
	struct slot *slot;
	int ret = slots_find_served(slots, name, &slot, error, error_len);

	if (ret == 0)
		ret = vhub_net_set_link(slot->device, up, error, error_len);
	if (ret == 0)
		slot_spec_set(&slot->options, "link", up ? "up" : "down");
	return ret;
}
