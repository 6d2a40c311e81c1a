/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Connections from an inherited fd: what kind it is, and the kind that has one front end, connected
 * already. Made by vhubd for fd=N. Next on the way: listener.c for a listening fd, else server.c or
 * connection.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "conn_pvt.h"

struct stream {
	struct vhub_connection connection;
	int fd; /* -1 once delivered */
	struct vhub_task task;
};

static struct stream *
of(struct vhub_connection *connection)
{
	return vhub_container_of(connection, struct stream, connection);
}

static void
deliver(struct vhub_task *task)
{
	struct stream *stream = vhub_container_of(task, struct stream, task);
	const int fd = stream->fd;

	stream->fd = -1;
	stream->connection.deliver(&stream->connection, fd);
}

static int
stream_start(struct vhub_connection *connection)
{
	vhub_loop_defer(connection->loop, &of(connection)->task);
	return 0;
}

static void
stream_destroy(struct vhub_connection *connection)
{
	struct stream *stream = of(connection);

	if (connection->loop != NULL)
		vhub_loop_undefer(connection->loop, &stream->task);
	if (stream->fd >= 0)
		conn_close_held(connection, stream->fd);
	free(stream);
}

static const struct vhub_connection_ops stream_ops = {
	.kind = "stream",
	.start = stream_start,
	.destroy = stream_destroy,
};

static int
stream_from_fd(int fd, struct vhub_connection **out)
{
	struct stream *stream = calloc(1, sizeof(*stream));

	if (stream == NULL)
		return -ENOMEM;
	stream->connection.ops = &stream_ops;
	stream->fd = fd;
	stream->task.fn = deliver;
	*out = &stream->connection;
	return 0;
}

/* One of a socket's options, or -errno: -EBADF, -ENOTSOCK. */
static int
socket_option(int fd, int option)
{
	socklen_t len = sizeof(int);
	int value;

	return getsockopt(fd, SOL_SOCKET, option, &value, &len) != 0 ? -errno : value;
}

/* Returns 1 listening, 0 connected, or -errno as vhub_connection_from_fd(). */
static int
kind_of(int fd)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);
	int domain = socket_option(fd, SO_DOMAIN);

	if (domain < 0)
		return domain;
	if (domain != AF_UNIX || socket_option(fd, SO_TYPE) != SOCK_STREAM)
		return -EPROTONOSUPPORT;
	if (socket_option(fd, SO_ACCEPTCONN) > 0)
		return 1;
	return getpeername(fd, (struct sockaddr *)&peer, &len) != 0 ? -errno : 0;
}

/*
 * An inherited fd is ours now, and not for programs that we start. A listening one must not block
 * in accept(2) either: a process that shares it may be faster. A connected one is read without
 * blocking whatever its flags.
 */
static int
adopt(int fd, bool listening)
{
	const int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
		return -errno;
	return listening && fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ? -errno : 0;
}

int
vhub_connection_from_fd(int fd, struct vhub_connection **out)
{
	int kind, ret;

	kind = kind_of(fd);
	if (kind < 0)
		return kind;
	ret = adopt(fd, kind == 1);
	if (ret != 0)
		return ret;
	return kind == 1 ? conn_listener_from_fd(fd, out) : stream_from_fd(fd, out);
}
