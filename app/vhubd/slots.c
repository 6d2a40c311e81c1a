/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device slots of a running vhubd. Called by main.c with what options.c read; next:
 * conn/server.c brings front ends to the device's request handler.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <bsd/string.h>

#include "slots.h"
#include "vhub_log.h"
#include "vhub_work.h"

VHUB_LOGTYPE(vhubd);

struct slot {
	struct slots *slots;
	struct slot *next;
	struct vhub_device *device;
	struct vhub_req_handler *handler;
	struct vhub_server *server;
};

struct slots {
	struct vhub_loop *loop;
	struct slot *first;
	unsigned int n_added;
	void (*left)(void *arg, int result); /* NULL: nobody wants to know */
	void *left_arg;

	/* The slot that is being added. */
	struct vhub_work work;
	struct slot_options *options;
	struct vhub_device *device;
	int result;
	char error[512];
	void (*added)(void *arg, int result);
	void *added_arg;

	struct vhub_timer timer;
	unsigned int n_stopping;
	void (*done)(void *arg, unsigned int n_stuck);
	void *arg;
};

int
slots_create(struct vhub_loop *loop, struct slots **out)
{
	struct slots *slots = calloc(1, sizeof(*slots));

	if (slots == NULL)
		return -ENOMEM;
	slots->loop = loop;
	*out = slots;
	return 0;
}

static void
slot_free(struct slot *slot)
{
	vhub_device_handler_destroy(slot->handler);
	vhub_device_destroy(slot->device);
	free(slot);
}

void
slots_destroy(struct slots *slots)
{
	while (slots->first != NULL) {
		struct slot *slot = slots->first;

		slots->first = slot->next;
		slot_free(slot);
	}
	free(slots);
}

/* ---- adding ---- */

static int
connect_slot(const struct slot_options *options, struct vhub_connection **connection)
{
	int ret = -EINVAL;

	switch (options->connection) {
	case CONNECTION_LISTEN:
		ret = vhub_listener_create(&options->listener, connection);
		if (ret != 0)
			VHUB_LOG(ERR, "%s: cannot listen on socket=%s: %s%s", options->name,
					options->listener.path, strerror(-ret),
					ret == -EADDRINUSE ?
							"; somebody listens there, or a file that is no socket is in the way" :
							"");
		break;
	case CONNECTION_DIAL:
		ret = vhub_dialer_create(options->listener.path, connection);
		if (ret != 0)
			VHUB_LOG(ERR, "%s: cannot use connect=%s: %s", options->name,
					options->listener.path, strerror(-ret));
		break;
	case CONNECTION_INHERIT:
		ret = vhub_connection_from_fd(options->fd, connection);
		if (ret != 0)
			VHUB_LOG(ERR, "%s: cannot use fd=%d: %s; a Unix stream socket is wanted, listening or connected",
					options->name, options->fd, strerror(-ret));
		break;
	}
	return ret;
}

/* Devices take the lcores in turn. */
static void
choose_executor(struct slots *slots, struct vhub_executor *executor)
{
	memset(executor, 0, sizeof(*executor));
	executor->loop = slots->loop;
	executor->n_lcores = 1;
	executor->lcores[0] = vhub_lcore_at(slots->n_added % vhub_lcore_count());
}

/* WORK: an image may lie on storage that takes its time, memory has to be found. */
static void
build_device(struct vhub_work *work)
{
	struct slots *slots = vhub_container_of(work, struct slots, work);
	struct vhub_builder *builder = slots->options->builder;
	struct vhub_executor executor;

	choose_executor(slots, &executor);
	slots->result = 0;
	if (builder->ops->open != NULL)
		slots->result = builder->ops->open(builder, slots->error, sizeof(slots->error));
	if (slots->result == 0)
		slots->result = builder->ops->build(builder, &executor, &slots->device,
				slots->error, sizeof(slots->error));
}

/* The device is the slot's from here on. */
static int
serve_device(struct slots *slots, struct slot_options *options, struct vhub_device *device)
{
	struct vhub_connection *connection;
	struct slot *slot = calloc(1, sizeof(*slot));
	int ret;

	if (slot == NULL) {
		vhub_device_destroy(device);
		return -ENOMEM;
	}
	slot->slots = slots;
	slot->device = device;
	ret = vhub_device_handler_create(slot->device, &slot->handler);
	if (ret == 0)
		ret = connect_slot(options, &connection);
	if (ret == 0)
		ret = vhub_serve(connection, slot->handler, &slot->device->executor, &slot->server);
	if (ret != 0) {
		slot_free(slot);
		return ret;
	}
	vhub_server_on_left(slot->server, slots->left, slots->left_arg);
	slot->next = slots->first;
	slots->first = slot;
	slots->n_added++;
	return 0;
}

static void
device_built(struct vhub_work *work)
{
	struct slots *slots = vhub_container_of(work, struct slots, work);
	struct slot_options *options = slots->options;
	int ret = slots->result;

	options->builder->ops->destroy(options->builder);
	options->builder = NULL;
	if (slots->done != NULL) { /* it took so long that we are stopping */
		if (ret == 0)
			vhub_device_destroy(slots->device);
		return;
	}
	if (ret != 0)
		VHUB_LOG(ERR, "%s: %s", options->name,
				slots->error[0] != '\0' ? slots->error : strerror(-ret));
	else
		ret = serve_device(slots, options, slots->device);
	if (ret != 0)
		VHUB_LOG(ERR, "%s cannot be served", options->name);
	slots->added(slots->added_arg, ret);
}

void
slots_add(struct slots *slots, struct slot_options *options, void (*done)(void *arg, int result),
		void *arg)
{
	slots->options = options;
	slots->added = done;
	slots->added_arg = arg;
	slots->error[0] = '\0';
	slots->work.run = build_device;
	slots->work.done = device_built;
	vhub_work_submit(&slots->work);
}

void
slots_on_left(struct slots *slots, void (*left)(void *arg, int result), void *arg)
{
	slots->left = left;
	slots->left_arg = arg;
}

/* ---- stopping ---- */

static void
stop_done(struct slots *slots, unsigned int n_stuck)
{
	void (*done)(void *arg, unsigned int n_stuck) = slots->done;

	vhub_timer_cancel(slots->loop, &slots->timer);
	slots->done = NULL;
	if (done != NULL)
		done(slots->arg, n_stuck);
}

static void
server_stopped(void *arg, int result)
{
	struct slot *slot = arg;

	(void)result;
	slot->server = NULL;
	if (--slot->slots->n_stopping == 0)
		stop_done(slot->slots, 0);
}

static void
name_stuck(const struct slot *slot)
{
	char what[256] = "";

	if (slot->device->ops->describe != NULL)
		slot->device->ops->describe(slot->device, what, sizeof(what));
	VHUB_LOG(ERR, "%s does not come to rest: %s; the front end's inflight region, if it has one, holds what is not done",
			slot->device->name, what[0] != '\0' ? what : "requests are in flight");
}

static void
stop_timeout(struct vhub_timer *timer)
{
	struct slots *slots = vhub_container_of(timer, struct slots, timer);
	const struct slot *slot;

	for (slot = slots->first; slot != NULL; slot = slot->next) {
		if (slot->server != NULL)
			name_stuck(slot);
	}
	stop_done(slots, slots->n_stopping);
}

void
slots_stop(struct slots *slots, uint64_t timeout_us, void (*done)(void *arg, unsigned int n_stuck),
		void *arg)
{
	struct slot *slot;

	slots->done = done;
	slots->arg = arg;
	slots->timer.fn = stop_timeout;
	vhub_timer_arm(slots->loop, &slots->timer, timeout_us);
	/* One more, so that it cannot be over while it is being begun. */
	slots->n_stopping = 1;
	for (slot = slots->first; slot != NULL; slot = slot->next) {
		slots->n_stopping++;
		vhub_server_stop(slot->server, server_stopped, slot);
	}
	if (--slots->n_stopping == 0)
		stop_done(slots, 0);
}
