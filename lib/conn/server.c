/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A slot that serves front ends one after the other, for ever. Made by vhubd for each device. Next
 * on the way: session.c.
 *
 * Who comes while the slot is busy is turned away, but for one who comes when the front end before
 * has hung up already (a guest that reconnects, a VMM that was restarted): it waits for the handler
 * to finish with the old one, for a second.
 *
 * Who is told that a front end has left (vhub_server_on_left()) may stop the server in that moment,
 * so telling is the last thing that is done.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conn_pvt.h"
#include "vhub_fd.h"

VHUB_LOGTYPE(conn);

struct vhub_server {
	struct conn_slot slot;
	struct vhub_connection *connection;
	struct vhub_session *session; /* NULL: the slot is free */
	int waiting_fd;		      /* -1: nobody waits for it */
	struct vhub_timer wait_timer;
	vhub_complete_fn left; /* NULL: nobody wants to know */
	void *left_arg;

	bool stopping;
	vhub_complete_fn complete;
	void *arg;
	struct vhub_task stopped_task;
};

static void
turn_away(struct vhub_server *server, int fd, const char *why)
{
	vhub_fd_hang_up(fd, server->slot.fds);
	server->slot.stats.refused++;
	if (vhub_log_allowed(&server->slot.busy_limit))
		VHUB_LOG(NOTICE, "%s: another front end was turned away: %s",
				server->slot.handler->name, why);
}

/* The slot is free, and nobody waits for it. The server may be stopped after it. */
static void
slot_is_free(struct vhub_server *server, int reason)
{
	if (server->connection->ops->next != NULL)
		server->connection->ops->next(server->connection);
	if (server->left != NULL)
		server->left(server->left_arg, reason);
}

static void
serve(struct vhub_server *server, int fd)
{
	int ret = conn_session_open(&server->slot, fd, &server->session);

	if (ret == 0)
		return;
	server->session = NULL;
	server->slot.stats.refused++;
	if (vhub_log_allowed(&server->slot.busy_limit))
		VHUB_LOG(WARNING, "%s: a front end was refused: %s", server->slot.handler->name,
				strerror(-ret));
	slot_is_free(server, ret);
}

static void
waited_too_long(struct vhub_timer *timer)
{
	struct vhub_server *server = vhub_container_of(timer, struct vhub_server, wait_timer);
	const int fd = server->waiting_fd;

	server->waiting_fd = -1;
	turn_away(server, fd, "the one before is still being drained");
}

static void
wait_for_slot(struct vhub_server *server, int fd)
{
	if (server->waiting_fd >= 0 && conn_peer_has_hung_up(server->waiting_fd)) {
		vhub_fd_hang_up(server->waiting_fd, server->slot.fds);
		server->waiting_fd = -1;
	}
	if (server->waiting_fd >= 0) {
		turn_away(server, fd, "one waits for the slot already");
		return;
	}
	server->waiting_fd = fd;
	vhub_timer_arm(server->slot.loop, &server->wait_timer, CONN_DRAIN_WAIT_US);
}

static void
connected(struct vhub_connection *connection, int fd)
{
	struct vhub_server *server = connection->owner;

	if (server->session == NULL)
		serve(server, fd);
	else if (vhub_session_is_leaving(server->session))
		wait_for_slot(server, fd);
	else
		turn_away(server, fd, "the slot is busy");
}

static void
finish_stop(struct vhub_task *task)
{
	struct vhub_server *server = vhub_container_of(task, struct vhub_server, stopped_task);
	const vhub_complete_fn complete = server->complete;
	void *const arg = server->arg;

	conn_slot_fini(&server->slot);
	free(server);
	if (complete != NULL)
		complete(arg, 0);
}

static void
session_closed(struct conn_slot *slot, int reason)
{
	struct vhub_server *server = vhub_container_of(slot, struct vhub_server, slot);
	const int fd = server->waiting_fd;

	server->session = NULL;
	if (server->stopping) {
		finish_stop(&server->stopped_task);
		return;
	}
	if (fd >= 0) {
		vhub_timer_cancel(slot->loop, &server->wait_timer);
		server->waiting_fd = -1;
		serve(server, fd);
	} else {
		slot_is_free(server, reason);
	}
}

void
vhub_server_on_left(struct vhub_server *server, vhub_complete_fn left, void *arg)
{
	server->left = left;
	server->left_arg = arg;
}

void
vhub_server_get_stats(const struct vhub_server *server, struct vhub_server_stats *stats)
{
	*stats = server->slot.stats;
	stats->connected = server->session != NULL;
	if (server->connection != NULL)
		stats->refused += server->connection->n_refused;
}

void
vhub_server_stop(struct vhub_server *server, vhub_complete_fn complete, void *arg)
{
	struct vhub_loop *loop = server->slot.loop;

	if (server->stopping)
		return;
	server->stopping = true;
	server->complete = complete;
	server->arg = arg;
	server->slot.stats.refused += server->connection->n_refused;
	vhub_connection_destroy(server->connection);
	server->connection = NULL;
	vhub_timer_cancel(loop, &server->wait_timer);
	if (server->waiting_fd >= 0)
		vhub_fd_hang_up(server->waiting_fd, server->slot.fds);
	server->waiting_fd = -1;
	if (server->session != NULL)
		vhub_session_end(server->session, -ESHUTDOWN, "the server stops");
	else
		vhub_loop_defer(loop, &server->stopped_task);
}

int
vhub_serve(struct vhub_connection *connection, struct vhub_req_handler *handler,
		const struct vhub_executor *executor, struct vhub_server **out)
{
	struct vhub_server *server;
	int ret;

	if (executor == NULL || executor->loop == NULL || !conn_handler_is_complete(handler)) {
		ret = -EINVAL;
		goto destroy_connection;
	}
	server = calloc(1, sizeof(*server));
	if (server == NULL) {
		ret = -ENOMEM;
		goto destroy_connection;
	}
	ret = conn_slot_init(&server->slot, executor->loop, handler, session_closed);
	if (ret != 0)
		goto free_server;
	server->connection = connection;
	server->waiting_fd = -1;
	server->wait_timer.fn = waited_too_long;
	server->stopped_task.fn = finish_stop;
	ret = conn_start(connection, executor->loop, server->slot.fds, connected, server);
	if (ret != 0)
		goto fini_slot;
	*out = server;
	return 0;

fini_slot:
	conn_slot_fini(&server->slot);
free_server:
	free(server);
destroy_connection:
	vhub_connection_destroy(connection);
	return ret;
}
