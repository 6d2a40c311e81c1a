/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device slots of a running vhubd: which there are, adding, removing and stopping them. Called by main.c with
 * what options.c read, and by control_devices.c; next: slot_serve.c for the steps of one slot, slot_end.c for its
 * end.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bsd/string.h>

#include <rte_common.h>

#include "slot_end.h"
#include "slot_serve.h"
#include "slot_spec.h"
#include "slots.h"
#include "vhub_log.h"

VHUB_LOGTYPE(vhubd);

struct slots {
	struct vhub_loop *loop;
	struct slot *first; /* in the order of adding */
	unsigned int n;
	void (*changed)(void *arg);
	void *changed_arg;

	/* Building. */
	struct slot *newest; /* that was begun; NULL: it has ended, or takes long */
	struct slot *single; /* of a kind whose devices are built one at a time */
	struct vhub_timer build_timer;

	/* The end. */
	bool stopping;
	struct vhub_timer timer;
	uint64_t looks_left; /* until who is not at rest is stuck */
	bool unlocking;	     /* images that are given back get more of them, once */
	unsigned int n_stopping;
	void (*done)(void *arg, unsigned int n_stuck);
	void *arg;
};

/* What is waited for at the end is looked at so often. */
#define STOP_LOOK_US 100000u
/* And so often at most while images are given back. */
#define UNLOCK_LOOKS 600u

/* What has failed is tried again so soon, then after twice the time, up to the second. */
#define RETRY_MIN_US 1000000u
#define RETRY_MAX_US 30000000u

/* A build that takes longer may be one that hangs: the next begins beside it. */
#define BUILD_PATIENCE_US 50000u

static void
build_next(struct slots *slots);

static void
build_takes_long(struct vhub_timer *timer);

/* ---- the list ---- */

int
slots_create(struct vhub_loop *loop, struct slots **out)
{
	struct slots *slots = calloc(1, sizeof(*slots));

	if (slots == NULL)
		return -ENOMEM;
	slots->loop = loop;
	slots->build_timer.fn = build_takes_long;
	*out = slots;
	return 0;
}

void
slots_on_change(struct slots *slots, void (*changed)(void *arg), void *arg)
{
	slots->changed = changed;
	slots->changed_arg = arg;
}

const struct slot *
slots_first(const struct slots *slots)
{
	return slots->first;
}

const struct slot *
slots_next(const struct slot *slot)
{
	return slot->next;
}

static struct slot *
find(const struct slots *slots, const char *name)
{
	struct slot *slot;

	for (slot = slots->first; slot != NULL; slot = slot->next) {
		if (strcmp(slot->options.name, name) == 0)
			return slot;
	}
	return NULL;
}

const struct slot *
slots_find(const struct slots *slots, const char *name)
{
	return find(slots, name);
}

bool
slots_are_stopping(const struct slots *slots)
{
	return slots->stopping;
}

const char *
slot_state_name(enum slot_state state)
{
	static const char *const names[] = {
		[SLOT_WAITING] = "waiting",
		[SLOT_BUILDING] = "building",
		[SLOT_FAILED] = "failed",
		[SLOT_SERVING] = "serving",
		[SLOT_STOPPING] = "stopping",
		[SLOT_DESTROYING] = "destroying",
	};

	return names[state];
}

static void
append(struct slots *slots, struct slot *slot)
{
	struct slot **link;

	for (link = &slots->first; *link != NULL; link = &(*link)->next)
		;
	*link = slot;
	slots->n++;
}

static void
unlink_slot(struct slots *slots, struct slot *slot)
{
	struct slot **link;

	for (link = &slots->first; *link != slot; link = &(*link)->next)
		;
	*link = slot->next;
	slots->n--;
}

static void
tell_change(const struct slots *slots)
{
	if (slots->changed != NULL)
		slots->changed(slots->changed_arg);
}

/* Tells how it ended, once. */
void
slots_tell(struct slot *slot, int result, const char *why)
{
	const slots_done_fn done = slot->done;

	slot->done = NULL;
	if (done != NULL)
		done(slot, slot->arg, result, why);
}

unsigned int
slots_end(struct slots *slots)
{
	return slots == NULL ? 0 : slot_end_all(slots->first);
}

void
slots_destroy(struct slots *slots)
{
	struct slot *slot;

	if (slots == NULL)
		return;
	vhub_timer_cancel(slots->loop, &slots->build_timer);
	while ((slot = slots->first) != NULL) {
		unlink_slot(slots, slot);
		slots_tell(slot, -ESHUTDOWN, "vhubd is stopping");
		vhub_timer_cancel(slots->loop, &slot->retry_timer);
		/* Of one that was not built. */
		vhub_connection_destroy(slot->listener);
		rte_kvargs_free(slot->new_args);
		slot_spec_free(&slot->options);
		free(slot);
	}
	free(slots);
}

/* One sentence; returns `result`. */
static int __attribute__((format(printf, 4, 5)))
refuse(int result, char *error, size_t error_len, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error, error_len, format, args);
	va_end(args);
	return result;
}

/* ---- the end of one slot, or of a try ---- */

static void
forget(struct slot *slot)
{
	struct slots *slots = slot->slots;

	unlink_slot(slots, slot);
	if (slot->result != 0) {
		VHUB_LOG(ERR, "%s: %s", slot->options.name, slot->error);
		VHUB_LOG(ERR, "%s cannot be served", slot->options.name);
	} else
		VHUB_LOG(NOTICE, "%s is removed", slot->options.name);
	slots_tell(slot, slot->result == 0 && slot->lost ? -EIO : slot->result, slot->error);
	slot_spec_free(&slot->options);
	free(slot);
	tell_change(slots);
}

/* At length once, for it may go on for days. */
static void
note_failure(struct slot *slot)
{
	static struct vhub_log_limit limit;
	const bool is_first = slot->n_failures++ == 0;

	if (is_first || (strcmp(slot->failure, slot->error) != 0 && vhub_log_allowed(&limit)))
		VHUB_LOG(ERR, "%s: %s", slot->options.name, slot->error);
	if (is_first)
		VHUB_LOG(ERR, "%s cannot be served: the others are, and it is tried again until it is there or removed; device_retry tries at once",
				slot->options.name);
	strlcpy(slot->failure, slot->error, sizeof(slot->failure));
}

static void
fail(struct slot *slot)
{
	slot->state = SLOT_FAILED;
	slot->listens = false;
	slot->destroyed = false;
	note_failure(slot);
	/* What it says of what it shares with others counts meanwhile: a bridge of another port's making. */
	(void)slot_renew(slot, slot->slots->first);
	slot->retry_us = RTE_MIN(RTE_MAX(2 * slot->retry_us, RETRY_MIN_US), RETRY_MAX_US);
	vhub_timer_arm(slot->slots->loop, &slot->retry_timer, slot->retry_us);
	slots_tell(slot, slot->result, slot->failure);
}

static void
device_gone(struct slot *slot)
{
	if (slot->removing)
		slot->result = 0;
	if (slot->result != 0 && slot->options.retries)
		fail(slot);
	else
		forget(slot);
}

static void
device_destroyed(struct vhub_work *work)
{
	struct slot *slot = vhub_container_of(work, struct slot, work);

	slot->destroyed = true;
	if (slot->unlinking == NULL)
		device_gone(slot);
}

static void
run_unlink(struct vhub_work *work)
{
	struct slot *slot = vhub_container_of(work, struct slot, unlink_work);

	vhub_parent_resources_release(slot->unlinking);
}

static void
unlinked(struct vhub_work *work)
{
	struct slot *slot = vhub_container_of(work, struct slot, unlink_work);

	slot->unlinking = NULL;
	slot->listens = false;
	if (slot->destroyed)
		device_gone(slot);
}

/*
 * Beside all else: who lists the folder can hold it up for ever. Until then the path is the slot's: another one's
 * new socket there could be taken for its old one.
 */
static void
unlink_socket(struct slot *slot)
{
	slot->listens = slot->socket_file != NULL;
	if (!slot->listens)
		return;
	slot->unlinking = slot->socket_file;
	slot->socket_file = NULL;
	slot->unlink_work = (struct vhub_work){ .kind = VHUB_WORK_SOCKET,
		.run = run_unlink,
		.done = unlinked };
	vhub_work_submit(&slot->unlink_work);
}

/* Images are closed, memory is unmapped: not here. */
static void
destroy_device(struct slot *slot)
{
	slot_doom(slot);
	slots_begin_work(slot, VHUB_WORK_STORAGE, slot_run_destroy, device_destroyed);
}

/* ---- adding ---- */

static void
end_patience(struct slots *slots)
{
	vhub_timer_cancel(slots->loop, &slots->build_timer);
	slots->newest = NULL;
}

static void
served(struct slot *slot)
{
	slot->state = SLOT_SERVING;
	if (slot->failure[0] != '\0')
		VHUB_LOG(NOTICE, "%s is served now", slot->options.name);
	slot->failure[0] = '\0';
	tell_change(slot->slots);
	slots_tell(slot, 0, NULL);
}

static bool
cannot_listen(const struct slot *slot)
{
	return slot->options.connection == CONNECTION_LISTEN && !slot->listens;
}

static void
not_served(struct slot *slot)
{
	if (slot->error[0] == '\0')
		snprintf(slot->error, sizeof(slot->error), "%s", strerror(-slot->result));
	/* Where nobody can listen the device stays, which may have taken long, and so does an inherited socket. */
	if (slot->options.retries && (slot->device == NULL || cannot_listen(slot)))
		fail(slot);
	else
		destroy_device(slot);
}

/* What slot->result and slot->error tell is the end of it, or it is served now. */
static void
begin_serving(struct slot *slot)
{
	if (slot->slots->stopping) { /* it took so long; slots_end() sees to it */
		slots_tell(slot, -ESHUTDOWN, "vhubd is stopping");
		return;
	}
	if (slot->result == 0 && !slot->removing)
		slot->result = slot_serve(slot);
	if (slot->removing)
		destroy_device(slot);
	else if (slot->result == 0)
		served(slot);
	else
		not_served(slot);
}

static void
listening(struct vhub_work *work)
{
	struct slot *slot = vhub_container_of(work, struct slot, work);

	slot->listens = slot->result == 0;
	begin_serving(slot);
}

/* Two who bind at the same moment would each take the other's file for a stale one. */
static bool
is_listened_at(const struct slots *slots, const char *path)
{
	const struct slot *slot;

	for (slot = slots->first; slot != NULL; slot = slot->next) {
		if (slot->listens && strcmp(slot->options.listener.path, path) == 0)
			return true;
	}
	return false;
}

static void
begin_listening(struct slot *slot)
{
	if (is_listened_at(slot->slots, slot->options.listener.path)) {
		slot->result = slot_cannot_listen(slot, -EADDRINUSE);
		begin_serving(slot);
		return;
	}
	slot->listens = true;
	slots_begin_work(slot, VHUB_WORK_SOCKET, slot_listen, listening);
}

static void
device_built(struct vhub_work *work)
{
	struct slot *slot = vhub_container_of(work, struct slot, work);
	struct slots *slots = slot->slots;

	if (slots->newest == slot)
		end_patience(slots);
	if (slots->single == slot)
		slots->single = NULL;
	/* A device has taken over what it had. */
	if (slot->options.builder != NULL)
		slot->options.builder->ops->destroy(slot->options.builder);
	slot->options.builder = NULL;
	if (slot->result == 0 && slot->options.connection == CONNECTION_LISTEN &&
			!slots->stopping && !slot->removing)
		begin_listening(slot);
	else
		begin_serving(slot);
	build_next(slots);
}

/* The first one; without those of a kind that is built one at a time while such a one is being built. */
static struct slot *
find_waiting(const struct slots *slots)
{
	struct slot *slot;

	for (slot = slots->first; slot != NULL; slot = slot->next) {
		if (slot->state == SLOT_WAITING &&
				(slots->single == NULL || slot->options.ops->concurrent))
			return slot;
	}
	return NULL;
}

static void
build_next(struct slots *slots)
{
	struct slot *slot = find_waiting(slots);

	if (slot == NULL || slots->newest != NULL || slots->stopping)
		return;
	if (!slot->options.ops->concurrent)
		slots->single = slot;
	slots->newest = slot;
	vhub_timer_arm(slots->loop, &slots->build_timer, BUILD_PATIENCE_US);
	slot->state = SLOT_BUILDING;
	/* What waits for no storage takes nobody's place: there is a thread for each device. */
	slots_begin_work(slot, VHUB_WORK_STORAGE, slot_build, device_built);
}

static void
build_takes_long(struct vhub_timer *timer)
{
	struct slots *slots = vhub_container_of(timer, struct slots, build_timer);

	slots->newest = NULL;
	build_next(slots);
}

static void
try_again(struct slot *slot)
{
	vhub_timer_cancel(slot->slots->loop, &slot->retry_timer);
	slot->error[0] = '\0';
	slot->result = slot_renew(slot, slot->slots->first);
	if (slot->result == 0 && slot->device != NULL) {
		slot->state = SLOT_BUILDING;
		begin_listening(slot);
	} else if (slot->result == 0) {
		slot->state = SLOT_WAITING;
		build_next(slot->slots);
	} else
		not_served(slot);
}

static void
retry(struct vhub_timer *timer)
{
	struct slot *slot = vhub_container_of(timer, struct slot, retry_timer);

	if (!slot->slots->stopping)
		try_again(slot);
}

int
slots_add(struct slots *slots, struct slot_options *options, slots_done_fn done, void *arg,
		char *error, size_t error_len)
{
	const struct slot *same = find(slots, options->name);
	struct slot *slot;
	bool placed;
	int ret;

	if (slots->stopping)
		return refuse(-ESHUTDOWN, error, error_len, "vhubd is stopping");
	if (same != NULL)
		return refuse(-EEXIST, error, error_len, "the name %s is in use: that device is %s",
				options->name, slot_state_name(same->state));
	if (slots->n == MAX_SLOTS)
		return refuse(-ENOSPC, error, error_len, "there are %d devices already", MAX_SLOTS);
	slot = calloc(1, sizeof(*slot));
	if (slot == NULL)
		return refuse(-ENOMEM, error, error_len, "out of memory");
	slot->slots = slots;
	slot->options = *options;
	/* By the order of adding, whichever is built first. */
	ret = slot_choose_executor(slot, slots->loop, slots->first, error, error_len);
	placed = ret == 0;
	if (placed || slot->options.retries)
		ret = slot_inherit(slot, error, error_len);
	if (ret != 0) {
		free(slot);
		return ret;
	}
	memset(options, 0, sizeof(*options));
	slot->done = done;
	slot->arg = arg;
	slot->retry_timer.fn = retry;
	append(slots, slot);
	if (placed) {
		build_next(slots);
	} else {
		/* `done` has to run, but not here. */
		slot->state = SLOT_FAILED;
		vhub_timer_arm(slots->loop, &slot->retry_timer, 0);
	}
	return 0;
}

/* ---- queues that were moved ---- */

void
slots_note_affinity(struct slots *slots, const struct vhub_device *device)
{
	struct slot *slot = find(slots, device->name);
	char text[AFFINITY_TEXT_MAX];

	affinity_of_queues(device, text, sizeof(text));
	/* Without memory the old one is what is saved. */
	slot_spec_set(&slot->options, "affinity", text);
}

/* ---- removing ---- */

static void
server_stopped(void *arg, int result)
{
	struct slot *slot = arg;
	struct slots *slots = slot->slots;

	(void)result;
	slot->server = NULL;
	if (!slots->stopping)
		destroy_device(slot);
	else if (--slots->n_stopping == 0 && slots->done != NULL) {
		vhub_timer_cancel(slots->loop, &slots->timer);
		slots->done(slots->arg, 0);
	}
}

static void
stop_server(struct slot *slot)
{
	slot->state = SLOT_STOPPING;
	unlink_socket(slot);
	vhub_server_stop(slot->server, server_stopped, slot);
}

static int
find_unless_stopping(const struct slots *slots, const char *name, struct slot **out, char *error,
		size_t error_len)
{
	*out = find(slots, name);
	if (slots->stopping)
		return refuse(-ESHUTDOWN, error, error_len, "vhubd is stopping");
	if (*out == NULL)
		return refuse(-ENOENT, error, error_len, "there is no device %s", name);
	return 0;
}

int
slots_find_served(struct slots *slots, const char *name, struct slot **out, char *error,
		size_t error_len)
{
	struct slot *slot;
	int ret = find_unless_stopping(slots, name, &slot, error, error_len);

	if (ret != 0)
		return ret;
	if (slot->failure[0] != '\0' && !slot->removing)
		return refuse(-EBUSY, error, error_len, "%s is not served yet: %s", name,
				slot->failure);
	if (slot->state != SLOT_SERVING || slot->changing)
		return refuse(-EBUSY, error, error_len, "%s is %s: ask again when that is done",
				name,
				slot->changing ? "being changed" :
						slot->state <= SLOT_BUILDING ?
						 "being added" :
						 "being removed already");
	*out = slot;
	return 0;
}

/* One that is to be tried until it is served, and has not been. */
static bool
is_pending(const struct slot *slot)
{
	return slot->options.retries && !slot->removing && slot->state != SLOT_SERVING;
}

int
slots_retry(struct slots *slots, const char *name, slots_done_fn done, void *arg, char *error,
		size_t error_len)
{
	struct slot *slot;
	int ret = find_unless_stopping(slots, name, &slot, error, error_len);

	if (ret != 0)
		return ret;
	if (slot->state == SLOT_SERVING) {
		done(slot, arg, 0, NULL);
		return 0;
	}
	if (slot->state != SLOT_FAILED || slot->done != NULL)
		return refuse(-EBUSY, error, error_len, "%s is %s: ask again when that is done",
				name, slot_state_name(slot->state));
	slot->done = done;
	slot->arg = arg;
	slot->retry_us = 0;
	try_again(slot);
	return 0;
}

/* A try that is under way comes to its end before. */
static void
remove_pending(struct slot *slot, slots_done_fn done, void *arg)
{
	slots_tell(slot, -ECANCELED, "it is being removed");
	slot->done = done;
	slot->arg = arg;
	slot->removing = true;
	if (slot->state == SLOT_WAITING || slot->state == SLOT_FAILED) {
		vhub_timer_cancel(slot->slots->loop, &slot->retry_timer);
		destroy_device(slot);
	}
}

int
slots_remove(struct slots *slots, const char *name, slots_done_fn done, void *arg, char *error,
		size_t error_len)
{
	struct slot *slot = find(slots, name);
	int ret;

	if (!slots->stopping && slot != NULL && is_pending(slot)) {
		remove_pending(slot, done, arg);
		return 0;
	}
	ret = slots_find_served(slots, name, &slot, error, error_len);
	if (ret != 0)
		return ret;
	slot->done = done;
	slot->arg = arg;
	slot->removing = true;
	/* Those of an earlier change. */
	slot->result = 0;
	slot->error[0] = '\0';
	if (slot->server != NULL)
		stop_server(slot);
	else
		destroy_device(slot);
	return 0;
}

/* ---- the end of all ---- */

static void
name_stuck(const struct slot *slot)
{
	char what[256] = "";

	if (slot->device->ops->describe != NULL)
		slot->device->ops->describe(slot->device, what, sizeof(what));
	VHUB_LOG(ERR, "%s does not come to rest: %s; the front end's inflight region, if it has one, holds what is not done",
			slot->device->name, what[0] != '\0' ? what : "requests are in flight");
}

/* Nothing is in flight any more at those that do not come to rest. */
static bool
are_only_unlocking(const struct slots *slots)
{
	const struct slot *slot;

	for (slot = slots->first; slot != NULL; slot = slot->next) {
		if (slot->server != NULL && !slot->device->unlocking)
			return false;
	}
	return true;
}

static void
name_unlocking(const struct slots *slots)
{
	const struct slot *slot;

	for (slot = slots->first; slot != NULL; slot = slot->next) {
		if (slot->server != NULL)
			VHUB_LOG(NOTICE,
					"%s is giving its image back, and what was written to it is written back first: waiting for it, %u s at most",
					slot->device->name,
					(unsigned int)(UNLOCK_LOOKS / (1000000u / STOP_LOOK_US)));
	}
}

static void
stop_timeout(struct vhub_timer *timer)
{
	struct slots *slots = vhub_container_of(timer, struct slots, timer);
	void (*done)(void *arg, unsigned int n_stuck) = slots->done;
	const struct slot *slot;

	/* A machine on which nobody runs for a while costs one look and not the whole time: nothing is stuck then. */
	if (slots->looks_left-- > 1) {
		vhub_timer_arm(slots->loop, timer, STOP_LOOK_US);
		return;
	}
	if (!slots->unlocking && are_only_unlocking(slots)) {
		slots->unlocking = true;
		name_unlocking(slots);
		slots->looks_left = UNLOCK_LOOKS;
		vhub_timer_arm(slots->loop, timer, STOP_LOOK_US);
		return;
	}
	for (slot = slots->first; slot != NULL; slot = slot->next) {
		if (slot->server != NULL)
			name_stuck(slot);
	}
	slots->done = NULL;
	done(slots->arg, slots->n_stopping);
}

static void
all_stopped(struct vhub_timer *timer)
{
	struct slots *slots = vhub_container_of(timer, struct slots, timer);

	slots->done(slots->arg, 0);
}

void
slots_stop(struct slots *slots, uint64_t timeout_us, void (*done)(void *arg, unsigned int n_stuck),
		void *arg)
{
	struct slot *slot;

	slots->stopping = true;
	slots->done = done;
	slots->arg = arg;
	for (slot = slots->first; slot != NULL; slot = slot->next) {
		if (slot->server == NULL)
			continue;
		slots->n_stopping++;
		if (slot->state == SLOT_SERVING)
			stop_server(slot);
	}
	slots->looks_left = timeout_us / STOP_LOOK_US;
	slots->timer.fn = slots->n_stopping > 0 ? stop_timeout : all_stopped;
	vhub_timer_arm(slots->loop, &slots->timer, slots->n_stopping > 0 ? STOP_LOOK_US : 0);
}
