/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Tells a service manager how far vhubd is, by the protocol of sd_notify(3): a datagram to the socket that
 * $NOTIFY_SOCKET names. Called by main.c. Not with libsystemd: that is five more libraries in each process for one
 * sendto(2), and its manual page says how to do without.
 */
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <bsd/stdlib.h>

#include "service.h"
#include "vhub_log.h"

VHUB_LOGTYPE(vhubd);

static struct vhub_loop *watchdog_loop;
static struct vhub_timer watchdog;
static uint64_t watchdog_us; /* between two signs of life */

/* ---- a message ---- */

bool
service_manages(void)
{
	return getenv("NOTIFY_SOCKET") != NULL;
}

/* Returns the address's length, or 0: there is none that we can send to. */
static socklen_t
manager_address(struct sockaddr_un *addr)
{
	const char *path = getenv("NOTIFY_SOCKET");
	const size_t len = path != NULL ? strlen(path) : 0;

	if (len < 2 || len >= sizeof(addr->sun_path) || (path[0] != '/' && path[0] != '@'))
		return 0;
	memset(addr, 0, sizeof(*addr));
	addr->sun_family = AF_UNIX;
	memcpy(addr->sun_path, path, len);
	/* An abstract name begins with a zero byte, and ends where its length says. */
	if (path[0] == '@')
		addr->sun_path[0] = '\0';
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (path[0] == '/'));
}

static int
send_to(const struct sockaddr_un *addr, socklen_t addr_len, const char *text)
{
	const struct timeval patience = { .tv_sec = 1 };
	const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int ret;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	ret = sendto(fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)addr,
			      addr_len) < 0 ?
			-errno :
			0;
	close(fd);
	return ret;
}

void
service_tell(const char *format, ...)
{
	struct sockaddr_un addr;
	const socklen_t addr_len = manager_address(&addr);
	char text[256];
	va_list args;
	int ret;

	if (addr_len == 0)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	ret = send_to(&addr, addr_len, text);
	if (ret != 0)
		VHUB_LOG(WARNING, "cannot tell the service manager (NOTIFY_SOCKET=%s): %s",
				getenv("NOTIFY_SOCKET"), strerror(-ret));
}

/* ---- the watchdog ---- */

static void
sign_of_life(struct vhub_timer *timer)
{
	service_tell("WATCHDOG=1");
	vhub_timer_arm(watchdog_loop, timer, watchdog_us);
}

void
service_watchdog_start(struct vhub_loop *loop)
{
	const char *us = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	const char *bad = NULL;

	if (us == NULL || (pid != NULL && strtonum(pid, 1, INT32_MAX, NULL) != getpid()))
		return;
	watchdog_us = (uint64_t)strtonum(us, 2, INT64_MAX, &bad) / 2;
	if (bad != NULL) {
		VHUB_LOG(WARNING, "WATCHDOG_USEC=%s is no time: the service manager is not served",
				us);
		return;
	}
	watchdog_loop = loop;
	watchdog.fn = sign_of_life;
	sign_of_life(&watchdog);
}
