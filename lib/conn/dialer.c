/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The kind of connection that goes to the front end: connects to the socket on which it listens,
 * and again after a failure or once it has hung up, with growing pauses. Made by vhubd for
 * connect=PATH. Next on the way: server.c or connection.c, which get the connected socket.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <rte_common.h>

#include "conn_pvt.h"

VHUB_LOGTYPE(conn);

struct dialer {
	struct vhub_connection connection;
	struct sockaddr_un addr;
	struct vhub_timer timer;
	uint64_t pause_us; /* before the next attempt */
	int told_err;	   /* of the last line, 0: connected; only that it has changed is logged */
	struct vhub_log_limit log_limit;
};

static struct dialer *
of(struct vhub_connection *connection)
{
	return vhub_container_of(connection, struct dialer, connection);
}

static void
dial_later(struct dialer *dialer)
{
	vhub_timer_arm(dialer->connection.loop, &dialer->timer, dialer->pause_us);
	dialer->pause_us = RTE_MIN(dialer->pause_us * 2, CONN_REDIAL_MAX_US);
}

/*
 * A Unix socket connects at once or not at all, without blocking: -EAGAIN when the peer's backlog
 * is full.
 */
static int
dial(const struct dialer *dialer)
{
	int fd, ret;

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&dialer->addr, sizeof(dialer->addr)) == 0)
		return fd;
	ret = -errno;
	close(fd);
	return ret;
}

static void
on_due(struct vhub_timer *timer)
{
	struct dialer *dialer = vhub_container_of(timer, struct dialer, timer);
	int fd;

	if (vhub_fd_account_is_full(dialer->connection.fds)) {
		dial_later(dialer);
		return;
	}
	fd = dial(dialer);
	if (fd < 0) {
		if (-fd != dialer->told_err && vhub_log_allowed(&dialer->log_limit)) {
			VHUB_LOG(NOTICE, "%s: cannot connect, and keeps trying: %s",
					dialer->addr.sun_path, strerror(-fd));
			dialer->told_err = -fd;
		}
		dial_later(dialer);
		return;
	}
	if (dialer->told_err != 0 && vhub_log_allowed(&dialer->log_limit)) {
		VHUB_LOG(NOTICE, "%s: connected", dialer->addr.sun_path);
		dialer->told_err = 0;
	}
	dialer->pause_us = CONN_REDIAL_MIN_US;
	dialer->connection.deliver(&dialer->connection, fd);
}

static int
dialer_start(struct vhub_connection *connection)
{
	vhub_timer_arm(connection->loop, &of(connection)->timer, 0);
	return 0;
}

/* Not at once: a front end that accepts only to hang up would keep us busy. */
static void
dialer_next(struct vhub_connection *connection)
{
	dial_later(of(connection));
}

static void
dialer_destroy(struct vhub_connection *connection)
{
	struct dialer *dialer = of(connection);

	if (connection->loop != NULL)
		vhub_timer_cancel(connection->loop, &dialer->timer);
	free(dialer);
}

static const struct vhub_connection_ops dialer_ops = {
	.kind = "dialer",
	.start = dialer_start,
	.next = dialer_next,
	.destroy = dialer_destroy,
};

int
vhub_dialer_create(const char *path, struct vhub_connection **out)
{
	struct dialer *dialer;

	if (path == NULL || path[0] == '\0')
		return -EINVAL;
	if (strlen(path) > CONN_PATH_MAX_BYTES)
		return -ENAMETOOLONG;
	dialer = calloc(1, sizeof(*dialer));
	if (dialer == NULL)
		return -ENOMEM;
	dialer->connection.ops = &dialer_ops;
	dialer->timer.fn = on_due;
	dialer->pause_us = CONN_REDIAL_MIN_US;
	dialer->addr.sun_family = AF_UNIX;
	memcpy(dialer->addr.sun_path, path, strlen(path));
	*out = &dialer->connection;
	return 0;
}
