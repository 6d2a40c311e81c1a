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
							"; stop what listens there, or choose another path" :
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

static int
build_device(struct slots *slots, struct slot_options *options, struct vhub_device **device)
{
	struct vhub_builder *builder = options->builder;
	struct vhub_executor executor;
	char error[512] = "";
	int ret = 0;

	choose_executor(slots, &executor);
	if (builder->ops->open != NULL)
		ret = builder->ops->open(builder, error, sizeof(error));
	if (ret == 0)
		ret = builder->ops->build(builder, &executor, device, error, sizeof(error));
	if (ret != 0)
		VHUB_LOG(ERR, "%s: %s", options->name, error[0] != '\0' ? error : strerror(-ret));
	builder->ops->destroy(builder);
	options->builder = NULL;
	return ret;
}

int
slots_add(struct slots *slots, struct slot_options *options)
{
	struct vhub_connection *connection;
	struct slot *slot = calloc(1, sizeof(*slot));
	int ret;

	if (slot == NULL)
		return -ENOMEM;
	slot->slots = slots;
	ret = build_device(slots, options, &slot->device);
	if (ret == 0)
		ret = vhub_device_handler_create(slot->device, &slot->handler);
	if (ret == 0)
		ret = connect_slot(options, &connection);
	if (ret == 0)
		ret = vhub_serve(connection, slot->handler, &slot->device->executor, &slot->server);
	if (ret != 0) {
		slot_free(slot);
		return ret;
	}
	slot->next = slots->first;
	slots->first = slot;
	slots->n_added++;
	return 0;
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
