/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The socket: connecting to a back end that listens, or listening for one that connects. Called by
 * frontend.c; next: negotiate.c.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <bsd/string.h>

#include "frontend.h"
#include "perf.h"
#include "worker.h"

#define TRY_AGAIN_MS 5

static int
make_address(const struct frontend *fe, struct sockaddr_un *addr)
{
	memset(addr, 0, sizeof(*addr));
	addr->sun_family = AF_UNIX;
	if (strlcpy(addr->sun_path, fe->config.path, sizeof(addr->sun_path)) <
			sizeof(addr->sun_path))
		return 0;
	perf_error(fe->config.path, "a socket's path has at most %zu bytes",
			sizeof(addr->sun_path) - 1);
	return -ENAMETOOLONG;
}

static int
make_socket(void)
{
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

/* Another try may help: the back end is not there yet, or its queue of connections is full. */
static bool
worth_waiting(int error)
{
	return error == -ENOENT || error == -ECONNREFUSED || error == -EAGAIN;
}

static int
connect_once(const struct sockaddr_un *addr)
{
	const int fd = make_socket();
	int ret;

	if (fd < 0 || connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0)
		return fd;
	ret = -errno;
	close(fd);
	return ret;
}

static int
connect_until(const struct frontend *fe, const struct sockaddr_un *addr, unsigned int ms)
{
	int fd = connect_once(addr);

	for (unsigned int waited = 0; worth_waiting(fd) && waited < ms; waited += TRY_AGAIN_MS) {
		if (workers_asked_to_end())
			return -EINTR;
		poll(NULL, 0, TRY_AGAIN_MS);
		fd = connect_once(addr);
	}
	if (fd < 0)
		perf_error(fe->config.path, "%s%s", strerror(-fd),
				worth_waiting(fd) ?
						": is the back end running, with this socket? (--listen, if it is the one that connects)" :
						"");
	return fd;
}

/* A file that nobody answers on is from somebody who has gone. */
static int
bind_socket(const struct sockaddr_un *addr)
{
	const int fd = make_socket();
	int other, ret;

	if (fd < 0)
		return fd;
	ret = bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 ? 0 : -errno;
	if (ret == -EADDRINUSE) {
		other = connect_once(addr);
		if (other >= 0)
			close(other);
		else if (other == -ECONNREFUSED && unlink(addr->sun_path) == 0 &&
				bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0)
			ret = 0;
	}
	if (ret == 0 && listen(fd, 1) != 0)
		ret = -errno;
	if (ret == 0)
		return fd;
	close(fd);
	return ret;
}

static int
accept_until(const struct frontend *fe, unsigned int ms)
{
	struct pollfd poll_fd = { .fd = fe->listen_fd, .events = POLLIN };
	int fd;

	for (unsigned int waited = 0; waited <= ms; waited += TRY_AGAIN_MS) {
		if (workers_asked_to_end())
			return -EINTR;
		if (poll(&poll_fd, 1, TRY_AGAIN_MS) <= 0)
			continue;
		fd = accept4(fe->listen_fd, NULL, NULL, SOCK_CLOEXEC);
		return fd < 0 ? -errno : fd;
	}
	perf_error(fe->config.path, "no back end connected within %u ms", ms);
	return -ETIMEDOUT;
}

static int
listen_once(struct frontend *fe, const struct sockaddr_un *addr)
{
	if (fe->listen_fd >= 0)
		return 0;
	fe->listen_fd = bind_socket(addr);
	if (fe->listen_fd >= 0)
		return 0;
	perf_error(fe->config.path, "cannot listen: %s", strerror(-fe->listen_fd));
	return fe->listen_fd;
}

int
frontend_connect(struct frontend *fe, unsigned int ms)
{
	const struct timeval limit = {
		.tv_sec = fe->config.patience_ms / 1000,
		.tv_usec = fe->config.patience_ms % 1000 * 1000,
	};
	struct sockaddr_un addr;
	int ret = make_address(fe, &addr);

	if (ret == 0 && fe->config.listen)
		ret = listen_once(fe, &addr);
	if (ret != 0)
		return ret;
	ret = fe->config.listen ? accept_until(fe, ms) : connect_until(fe, &addr, ms);
	if (ret < 0)
		return ret;
	fe->fd = ret;
	setsockopt(fe->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fe->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	return 0;
}
