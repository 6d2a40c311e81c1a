/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The kind of connection that waits for front ends: on a path that it binds, or on an inherited
 * listening fd. Made by vhubd and by stream.c. Next on the way: server.c or connection.c, which get
 * each accepted socket.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "conn_pvt.h"
#include "vhub_fd.h"

VHUB_LOGTYPE(conn);

/* Front ends that may queue while one is served. */
#define LISTEN_BACKLOG 64
/* Without fds or memory for one more socket, how long until the next look. */
#define ACCEPT_PAUSE_US 100000

struct listener {
	struct vhub_connection connection;
	int fd;
	struct vhub_parent_resources *file; /* NULL: not ours to remove */
	char path[CONN_PATH_MAX_BYTES + 1]; /* for log lines */
	bool check_peer;
	uid_t peer_uid;
	gid_t peer_gid;
	void (*accepted)(void *arg, int fd); /* with vhub_listener_run() */
	void *arg;
	struct vhub_watch watch;
	bool watched;
	struct vhub_timer pause_timer;
	struct vhub_log_limit log_limit;
};

static struct listener *
of(struct vhub_connection *connection)
{
	return vhub_container_of(connection, struct listener, connection);
}

/* ---- binding ---- */

/* Whether who called listen(2) on the other end of a connected socket is not to accept anybody any more. */
static bool
listener_is_ending(int fd)
{
	struct vhub_peer peer;

	/* 0: of another PID namespace. */
	return conn_peer_of(fd, &peer) == 0 && peer.pid > 0 && conn_process_is_ending(peer.pid);
}

/*
 * Whether somebody listens at `addr`: 0 nobody does, or only a process that has been killed and cannot end;
 * -EADDRINUSE, or another errno of connect(2).
 */
static int
probe(const struct sockaddr_un *addr)
{
	int fd, err;

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	err = connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) != 0 ? errno : 0;
	/* EAGAIN: its backlog is full, which is for front ends to say. */
	if ((err == 0 && listener_is_ending(fd)) ||
			(err == EAGAIN && conn_ending_process_listens(addr->sun_path)))
		err = ECONNREFUSED;
	close(fd);
	if (err == ECONNREFUSED || err == ENOENT)
		return 0;
	/* EPROTOTYPE: it is a datagram socket. */
	return err == 0 || err == EAGAIN || err == EPROTOTYPE ? -EADDRINUSE : -err;
}

/* Makes way for bind(2): removes a socket file on which nobody answers. */
static int
remove_stale(const struct sockaddr_un *addr, const char *path)
{
	struct conn_socket_file file;
	int ret;

	ret = conn_socket_file_open(path, &file);
	if (ret != 0)
		return ret == -ENOENT ? 0 : ret;
	ret = probe(addr);
	if (ret == 0)
		conn_socket_file_unlink(&file);
	conn_socket_file_close(&file);
	return ret;
}

/* Owner first: until then the file is of mode 0600, so that nobody gets in who should not. */
static int
set_access(const struct vhub_listener_options *options, const char *path)
{
	const mode_t mode = options->mode != 0 ? options->mode : 0660;

	if ((options->owner != (uid_t)-1 || options->group != (gid_t)-1) &&
			fchownat(AT_FDCWD, path, options->owner, options->group,
					AT_SYMLINK_NOFOLLOW) != 0)
		return -errno;
	if (fchmodat(AT_FDCWD, path, mode, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	/* glibc needs /proc for the flag. */
	if (errno == EOPNOTSUPP && fchmodat(AT_FDCWD, path, mode, 0) == 0)
		return 0;
	return -errno;
}

static int
bind_path(struct listener *listener, const struct vhub_listener_options *options)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int ret;

	memcpy(addr.sun_path, options->path, strlen(options->path));
	ret = remove_stale(&addr, options->path);
	if (ret != 0)
		return ret;
	/* bind(2) makes the file with the socket's own mode, less the umask. */
	if (fchmod(listener->fd, 0600) != 0)
		return -errno;
	if (bind(listener->fd, (const struct sockaddr *)&addr, sizeof(addr)) != 0)
		return -errno;
	ret = conn_parent_resources_open(options->path, &listener->file);
	if (ret != 0)
		return ret;
	ret = set_access(options, options->path);
	if (ret != 0)
		return ret;
	return listen(listener->fd, LISTEN_BACKLOG) != 0 ? -errno : 0;
}

/* ---- accepting ---- */

static void
pause_accepting(struct listener *listener, const char *why)
{
	if (vhub_log_allowed(&listener->log_limit))
		VHUB_LOG(ERR, "a front end cannot be accepted: %s", why);
	vhub_loop_unwatch(listener->connection.loop, &listener->watch);
	listener->watched = false;
	vhub_timer_arm(listener->connection.loop, &listener->pause_timer, ACCEPT_PAUSE_US);
}

static int
watch(struct listener *listener)
{
	int ret = vhub_loop_watch(listener->connection.loop, &listener->watch, EPOLLIN);

	listener->watched = ret == 0;
	return ret;
}

static void
accept_again(struct vhub_timer *timer)
{
	struct listener *listener = vhub_container_of(timer, struct listener, pause_timer);

	if (watch(listener) != 0)
		vhub_timer_arm(listener->connection.loop, &listener->pause_timer, ACCEPT_PAUSE_US);
}

static bool
peer_may(struct listener *listener, int fd)
{
	struct vhub_peer peer;

	if (!listener->check_peer)
		return true;
	if (conn_peer_of(fd, &peer) != 0)
		return false;
	if ((listener->peer_uid == (uid_t)-1 || peer.uid == listener->peer_uid) &&
			(listener->peer_gid == (gid_t)-1 || peer.gid == listener->peer_gid))
		return true;
	if (vhub_log_allowed(&listener->log_limit))
		VHUB_LOG(WARNING, "%s: refused process %d of uid %u and gid %u", listener->path,
				peer.pid, peer.uid, peer.gid);
	return false;
}

/* One front end a turn; the watch tells again as long as others queue. */
static void
on_listening(struct vhub_watch *watch, uint32_t events)
{
	struct listener *listener = vhub_container_of(watch, struct listener, watch);
	struct vhub_connection *connection = &listener->connection;
	int fd;

	(void)events;
	if (vhub_fd_account_is_full(connection->fds)) {
		pause_accepting(listener, "too many fds of those before it are not closed yet");
		return;
	}
	fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		/* Gone again, or taken by another process that shares this socket. */
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			pause_accepting(listener, strerror(errno));
		return;
	}
	if (!peer_may(listener, fd)) {
		connection->n_refused++;
		vhub_fd_hang_up(fd, connection->fds);
		return;
	}
	connection->deliver(connection, fd);
}

static int
listener_start(struct vhub_connection *connection)
{
	return watch(of(connection));
}

static struct vhub_parent_resources *
listener_take_parent_resources(struct vhub_connection *connection)
{
	struct listener *listener = of(connection);
	struct vhub_parent_resources *file = listener->file;

	listener->file = NULL;
	return file;
}

static void
listener_destroy(struct vhub_connection *connection)
{
	struct listener *listener = of(connection);

	if (listener->watched)
		vhub_loop_unwatch(connection->loop, &listener->watch);
	if (connection->loop != NULL)
		vhub_timer_cancel(connection->loop, &listener->pause_timer);
	conn_parent_resources_discard(listener->file);
	conn_close_held(connection, listener->fd);
	free(listener);
}

static const struct vhub_connection_ops listener_ops = {
	.kind = "listener",
	.start = listener_start,
	.take_parent_resources = listener_take_parent_resources,
	.destroy = listener_destroy,
};

static struct listener *
make_listener(int fd)
{
	struct listener *listener = calloc(1, sizeof(*listener));

	if (listener == NULL)
		return NULL;
	listener->connection.ops = &listener_ops;
	listener->fd = fd;
	listener->watch.fd = fd;
	listener->watch.fn = on_listening;
	listener->pause_timer.fn = accept_again;
	return listener;
}

int
conn_listener_from_fd(int fd, struct vhub_connection **out)
{
	struct listener *listener = make_listener(fd);

	if (listener == NULL)
		return -ENOMEM;
	*out = &listener->connection;
	return 0;
}

int
vhub_listener_create(const struct vhub_listener_options *options, struct vhub_connection **out)
{
	struct listener *listener;
	int fd, ret;

	if (options->path == NULL || options->path[0] == '\0')
		return -EINVAL;
	if (strlen(options->path) > CONN_PATH_MAX_BYTES)
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	listener = make_listener(fd);
	if (listener == NULL) {
		close(fd);
		return -ENOMEM;
	}
	listener->check_peer = options->check_peer;
	listener->peer_uid = options->peer_uid;
	listener->peer_gid = options->peer_gid;
	memcpy(listener->path, options->path, strlen(options->path));
	ret = bind_path(listener, options);
	if (ret != 0) {
		vhub_parent_resources_release(listener->file);
		listener->file = NULL;
		listener_destroy(&listener->connection);
		return ret;
	}
	*out = &listener->connection;
	return 0;
}

static void
hand_over(struct vhub_connection *connection, int fd)
{
	const struct listener *listener = of(connection);

	listener->accepted(listener->arg, fd);
}

int
vhub_listener_run(struct vhub_connection *connection, struct vhub_loop *loop,
		void (*accepted)(void *arg, int fd), void *arg)
{
	struct listener *listener = of(connection);

	listener->accepted = accepted;
	listener->arg = arg;
	return conn_start(connection, loop, NULL, hand_over, NULL);
}
