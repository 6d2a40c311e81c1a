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
#include "vhub_work.h"

VHUB_LOGTYPE(conn);

/*
 * One attempt after the other: a path is looked for in its folder, which whoever may read that can hold up for
 * ever. So it is blocking work, and what is under way may outlive its dialer.
 */
struct dial {
	struct vhub_work work;
	struct sockaddr_un addr;
	int fd; /* connected, or a negative errno */
	/* CTL */
	struct dialer *dialer; /* NULL: it has gone */
	bool under_way;
	struct dial *next;
};

struct dialer {
	struct vhub_connection connection;
	struct dial *dial;
	struct vhub_timer timer;
	uint64_t pause_us; /* before the next attempt */
	int told_err;	   /* of the last line, 0: connected; only that it has changed is logged */
	struct vhub_log_limit log_limit;
};

/* CTL: attempts under way. Who ends the work before they are done leaves them here. */
static struct dial *dials;

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

/* A Unix socket connects without waiting for its peer: -EAGAIN when that one's backlog is full. */
static void
run_dial(struct vhub_work *work)
{
	struct dial *dial = vhub_container_of(work, struct dial, work);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd >= 0 && connect(fd, (const struct sockaddr *)&dial->addr, sizeof(dial->addr)) == 0) {
		dial->fd = fd;
		return;
	}
	dial->fd = -errno;
	if (fd >= 0)
		close(fd);
}

static void
connected(struct dialer *dialer, int fd)
{
	if (dialer->told_err != 0 && vhub_log_allowed(&dialer->log_limit)) {
		VHUB_LOG(NOTICE, "%s: connected", dialer->dial->addr.sun_path);
		dialer->told_err = 0;
	}
	dialer->pause_us = CONN_REDIAL_MIN_US;
	dialer->connection.deliver(&dialer->connection, fd);
}

static void
failed(struct dialer *dialer, int err)
{
	if (err != dialer->told_err && vhub_log_allowed(&dialer->log_limit)) {
		VHUB_LOG(NOTICE, "%s: cannot connect, and keeps trying: %s",
				dialer->dial->addr.sun_path, strerror(err));
		dialer->told_err = err;
	}
	dial_later(dialer);
}

static void
dialed(struct vhub_work *work)
{
	struct dial *dial = vhub_container_of(work, struct dial, work);
	struct dial **link;

	for (link = &dials; *link != dial; link = &(*link)->next)
		;
	*link = dial->next;
	dial->under_way = false;
	if (dial->dialer == NULL) {
		if (dial->fd >= 0)
			vhub_fd_hang_up(dial->fd, NULL);
		free(dial);
	} else if (dial->fd >= 0) {
		connected(dial->dialer, dial->fd);
	} else {
		failed(dial->dialer, -dial->fd);
	}
}

static void
on_due(struct vhub_timer *timer)
{
	struct dialer *dialer = vhub_container_of(timer, struct dialer, timer);
	struct dial *dial = dialer->dial;

	if (vhub_fd_account_is_full(dialer->connection.fds)) {
		dial_later(dialer);
		return;
	}
	dial->under_way = true;
	dial->next = dials;
	dials = dial;
	vhub_work_submit(&dial->work);
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
	dialer->dial->dialer = NULL;
	if (!dialer->dial->under_way)
		free(dialer->dial);
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
	struct dial *dial;

	if (path == NULL || path[0] == '\0')
		return -EINVAL;
	if (strlen(path) > CONN_PATH_MAX_BYTES)
		return -ENAMETOOLONG;
	dialer = calloc(1, sizeof(*dialer));
	dial = calloc(1, sizeof(*dial));
	if (dialer == NULL || dial == NULL) {
		free(dialer);
		free(dial);
		return -ENOMEM;
	}
	dialer->connection.ops = &dialer_ops;
	dialer->timer.fn = on_due;
	dialer->pause_us = CONN_REDIAL_MIN_US;
	dialer->dial = dial;
	dial->dialer = dialer;
	dial->addr.sun_family = AF_UNIX;
	memcpy(dial->addr.sun_path, path, strlen(path));
	dial->work.kind = VHUB_WORK_SOCKET;
	dial->work.run = run_dial;
	dial->work.done = dialed;
	*out = &dialer->connection;
	return 0;
}
