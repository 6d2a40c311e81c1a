/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The operations that every kind of connection has, and the run of a handler for one front end.
 * Called by vhubd and by vhub_run_backend() and vhub_run_device() in lib/device. Next on the way:
 * listener.c, stream.c or dialer.c, then session.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "conn_pvt.h"
#include "vhub_fd.h"

/* One front end served by vhub_run_req_handler(). */
struct conn_run {
	struct conn_slot slot;
	vhub_complete_fn complete;
	void *arg;
};

void
vhub_connection_destroy(struct vhub_connection *connection)
{
	if (connection != NULL)
		connection->ops->destroy(connection);
}

struct vhub_parent_resources *
vhub_take_parent_process_resources(struct vhub_connection *connection)
{
	if (connection->ops->take_parent_resources == NULL)
		return NULL;
	return connection->ops->take_parent_resources(connection);
}

int
conn_start(struct vhub_connection *connection, struct vhub_loop *loop, struct vhub_fd_account *fds,
		void (*deliver)(struct vhub_connection *connection, int fd), void *owner)
{
	int ret;

	connection->loop = loop;
	connection->fds = fds;
	connection->deliver = deliver;
	connection->owner = owner;
	ret = connection->ops->start(connection);
	if (ret != 0)
		connection->fds = NULL; /* who is destroyed after it */
	return ret;
}

void
conn_close_held(const struct vhub_connection *connection, int fd)
{
	/* Else with whoever queues on it, and what they have sent. */
	if (connection->loop == NULL)
		close(fd);
	else
		vhub_fd_discard(fd, connection->fds);
}

int
conn_slot_init(struct conn_slot *slot, struct vhub_loop *loop, struct vhub_req_handler *handler,
		void (*closed)(struct conn_slot *slot, int reason))
{
	slot->loop = loop;
	slot->handler = handler;
	slot->closed = closed;
	return vhub_fd_account_create(&slot->fds);
}

void
conn_slot_fini(struct conn_slot *slot)
{
	conn_unread_forget(slot);
	vhub_fd_account_release(slot->fds);
}

static void
run_end(struct conn_run *run, int result)
{
	const vhub_complete_fn complete = run->complete;
	void *const arg = run->arg;

	conn_slot_fini(&run->slot);
	free(run);
	if (complete != NULL)
		complete(arg, result);
}

static void
run_closed(struct conn_slot *slot, int reason)
{
	run_end(vhub_container_of(slot, struct conn_run, slot), reason);
}

static void
run_connected(struct vhub_connection *connection, int fd)
{
	struct conn_run *run = connection->owner;
	struct vhub_session *session;
	int ret;

	/* This is the one front end: a listener lets nobody else queue. */
	vhub_connection_destroy(connection);
	ret = conn_session_open(&run->slot, fd, &session);
	if (ret != 0)
		run_end(run, ret);
}

int
vhub_run_req_handler(struct vhub_connection *connection, struct vhub_req_handler *handler,
		const struct vhub_executor *executor, vhub_complete_fn complete, void *arg)
{
	struct conn_run *run;
	int ret;

	if (executor == NULL || executor->loop == NULL || !conn_handler_is_complete(handler)) {
		ret = -EINVAL;
		goto destroy_connection;
	}
	run = calloc(1, sizeof(*run));
	if (run == NULL) {
		ret = -ENOMEM;
		goto destroy_connection;
	}
	ret = conn_slot_init(&run->slot, executor->loop, handler, run_closed);
	if (ret != 0)
		goto free_run;
	run->complete = complete;
	run->arg = arg;
	ret = conn_start(connection, executor->loop, run->slot.fds, run_connected, run);
	if (ret != 0)
		goto fini_slot;
	return 0;

fini_slot:
	conn_slot_fini(&run->slot);
free_run:
	free(run);
destroy_connection:
	vhub_connection_destroy(connection);
	return ret;
}
