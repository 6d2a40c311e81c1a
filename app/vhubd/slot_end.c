/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Blocking work of a slot, the end of its device, and the end of all devices. Called by slots.c, and by
 * slot_change.c for work; next: lib/device and lib/blk.
 *
 * What storage does to one device at the end is not to be the others' trouble, so each ends in a thread of its own:
 * those for blocking work may all be stuck, and no others are made once it stops.
 */
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <rte_common.h>

#include "slot_end.h"
#include "vhub_log.h"
#include "vhub_thread.h"

VHUB_LOGTYPE(vhubd);

/*
 * Who is waited for is looked at so often; and where there is nothing to save so many times after the last one
 * that has come to its end, since devices of one driver may have to end one after the other. A kind may need more: in
 * vhub_builder_ops.end_ms a look is a millisecond, of time in which we run.
 */
#define END_LOOK_NS 1000000
#define END_LOOKS 3000u
/* After so many of them the log names those that have something to save. */
#define END_NAME_LOOKS 1000u

/* How far a slot's blocking work is. The end takes away what has not begun. */
enum work_state {
	WORK_NONE,
	WORK_QUEUED,
	WORK_RUNS,
	WORK_ENDED,
};

/* ---- blocking work ---- */

static bool
change_work_state(struct slot *slot, uint32_t from, uint32_t to)
{
	return __atomic_compare_exchange_n(&slot->work_state, &from, to, false, __ATOMIC_ACQ_REL,
			__ATOMIC_ACQUIRE);
}

static void
run_work(struct vhub_work *work)
{
	struct slot *slot = vhub_container_of(work, struct slot, work);

	/* Pairs with take_work_away(). */
	if (!change_work_state(slot, WORK_QUEUED, WORK_RUNS))
		return;
	slot->run(work);
	/* Pairs with is_under_way(): what it has done is seen. */
	__atomic_store_n(&slot->work_state, WORK_ENDED, __ATOMIC_RELEASE);
}

/* Pairs with run_work(): a thread of the pool may have the slot's work still, from before it was taken away. */
static void
set_work(struct slot *slot, void (*run)(struct vhub_work *work))
{
	slot->run = run;
	__atomic_store_n(&slot->work_state, WORK_QUEUED, __ATOMIC_RELEASE);
}

void
slots_begin_work(struct slot *slot, enum vhub_work_kind kind, void (*run)(struct vhub_work *work),
		void (*done)(struct vhub_work *work))
{
	set_work(slot, run);
	slot->work.kind = kind;
	slot->work.run = run_work;
	slot->work.done = done;
	vhub_work_submit(&slot->work);
}

static bool
is_under_way(const struct slot *slot)
{
	const uint32_t state = __atomic_load_n(&slot->work_state, __ATOMIC_ACQUIRE);

	return state == WORK_QUEUED || state == WORK_RUNS;
}

/* ---- the end of one device ---- */

void
slot_doom(struct slot *slot)
{
	slot->state = SLOT_DESTROYING;
	vhub_device_handler_destroy(slot->handler);
	slot->handler = NULL;
	slot->doomed = slot->device;
	slot->doomed_saves = slot->device != NULL && vhub_blk_saves(slot->device);
	slot->device = NULL;
}

/* Lcores may go on with the device. */
static void
save(struct slot *slot, struct vhub_device *device)
{
	char why[256] = "";
	int ret = vhub_blk_save(device, why, sizeof(why));

	slot->lost = ret != 0;
	if (slot->lost)
		snprintf(slot->error, sizeof(slot->error),
				"what was written since the last flush is lost: %s",
				why[0] != '\0' ? why : strerror(-ret));
}

void
slot_run_destroy(struct vhub_work *work)
{
	struct slot *slot = vhub_container_of(work, struct slot, work);

	/* The device's destroy would save as well, but has no answer. */
	if (slot->result == 0 && slot->doomed_saves)
		save(slot, slot->doomed);
	vhub_device_destroy(slot->doomed);
	slot->doomed = NULL;
	/* Of one that was not served. */
	vhub_connection_destroy(slot->listener);
	slot->listener = NULL;
	vhub_parent_resources_release(slot->socket_file);
	slot->socket_file = NULL;
}

/* ---- the end of all: one slot ---- */

/* Of a device that does not come to rest. */
static void
run_save(struct vhub_work *work)
{
	struct slot *slot = vhub_container_of(work, struct slot, work);

	save(slot, slot->device);
}

static void *
thread_main(void *arg)
{
	struct slot *slot = arg;

	run_work(&slot->work);
	return NULL;
}

static void
join(struct slot *slot)
{
	if (slot->has_thread)
		pthread_join(slot->thread, NULL);
	slot->has_thread = false;
}

/* Where no thread is to be had, here. */
static void
begin_alone(struct slot *slot, void (*run)(struct vhub_work *work))
{
	join(slot);
	set_work(slot, run);
	slot->has_thread = vhub_thread_start(&slot->thread, "vhub-end", thread_main, slot) == 0;
	if (!slot->has_thread)
		run_work(&slot->work);
}

/* Those queued may be so behind what is stuck. */
static void
take_work_away(struct slot *slot)
{
	change_work_state(slot, WORK_QUEUED, WORK_NONE);
}

/* Of a device that is not being built any more: until then it is the work's. */
static bool
saves(const struct slot *slot)
{
	return slot->device != NULL ? vhub_blk_saves(slot->device) : slot->doomed_saves;
}

static void
begin_end(struct slot *slot)
{
	if (slot->server != NULL) {
		if (saves(slot))
			begin_alone(slot, run_save);
		return;
	}
	if (slot->device != NULL)
		slot_doom(slot);
	if (slot->doomed != NULL)
		begin_alone(slot, slot_run_destroy);
}

static bool
is_in_time(const struct slot *slot, unsigned int looks)
{
	return looks < RTE_MAX(END_LOOKS, slot->options.ops->end_ms);
}

/*
 * Nobody waits for a device that is still being built, which has nothing to lose, nor, where there is nothing to
 * save, for one that does not come to rest, or longer than it has time.
 */
static bool
is_awaited(const struct slot *slot, unsigned int looks)
{
	if (!is_under_way(slot) || slot->state == SLOT_BUILDING)
		return false;
	return saves(slot) || (is_in_time(slot, looks) && slot->server == NULL);
}

/* ---- the end of all ---- */

/* All of those that have something to save, or that have not. */
static void
begin_all(struct slot *first, bool that_save)
{
	struct slot *slot;

	for (slot = first; slot != NULL; slot = slot->next) {
		if (!is_under_way(slot) && saves(slot) == that_save)
			begin_end(slot);
	}
}

static unsigned int
count_awaited(const struct slot *first, unsigned int looks)
{
	const struct slot *slot;
	unsigned int n = 0;

	for (slot = first; slot != NULL; slot = slot->next)
		n += is_awaited(slot, looks);
	return n;
}

static void
name_awaited(struct slot *first)
{
	struct slot *slot;

	for (slot = first; slot != NULL; slot = slot->next) {
		if (!slot->named && is_awaited(slot, UINT_MAX)) {
			slot->named = true;
			VHUB_LOG(NOTICE,
					"%s has something to save, and is not done yet: waiting for it",
					slot->options.name);
		}
	}
}

/* `looks`: how often those that are waited for were looked at since the last of them came to its end. */
static void
await_all(struct slot *first, unsigned int *looks)
{
	const struct timespec pause = { .tv_nsec = END_LOOK_NS };
	unsigned int n, n_before = 0;

	for (; count_awaited(first, *looks) != 0; n_before = n) {
		n = count_awaited(first, 0);
		if (*looks >= END_NAME_LOOKS)
			name_awaited(first);
		*looks = n < n_before ? 0 : *looks + 1;
		nanosleep(&pause, NULL);
	}
}

/* Tells what has become of it. Returns whether it is stuck, and was at rest. */
static bool
conclude(struct slot *slot)
{
	if (!is_under_way(slot)) {
		join(slot);
		if (slot->server != NULL && slot->lost)
			VHUB_LOG(ERR, "%s: %s", slot->options.name, slot->error);
		return false;
	}
	if (slot->state == SLOT_BUILDING || slot->server != NULL)
		return false;
	VHUB_LOG(ERR, "%s is stuck: it is still being %s", slot->options.name,
			slot->state == SLOT_DESTROYING ? "removed" : "changed");
	return true;
}

unsigned int
slot_end_all(struct slot *first)
{
	unsigned int looks = 0, n_stuck = 0;
	struct slot *slot;

	for (slot = first; slot != NULL; slot = slot->next)
		take_work_away(slot);
	/*
	 * Twice: those that were being changed end then, and of those that do not come to rest that is saved
	 * which lcores have completed meanwhile.
	 */
	for (unsigned int round = 0; round < 2; round++) {
		begin_all(first, true);
		begin_all(first, false);
		await_all(first, &looks);
	}
	for (slot = first; slot != NULL; slot = slot->next)
		n_stuck += conclude(slot);
	return n_stuck;
}
