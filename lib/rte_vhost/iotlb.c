/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A vIOMMU: the library asks, on a channel of its own, what an address is mapped to; we ask the
 * front end on its back-end channel, whose answer comes as a request IOTLB_MSG and goes to the
 * library as a message of ours. Bounded: while the front end does not read, nothing is read from
 * the library, whose own sending then fails instead of waiting. Called by lib/net and foreign.c.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rvhost.h"
#include "vhub_log.h"

VHUB_LOGTYPE(net);

#define RETRY_US 1000
/* VHOST_IOTLB_MISS, of the kernel's interface. */
#define IOTLB_MISS 1u
#define PERM_RW 3u

struct iotlb_request {
	struct vhub_user_header header;
	struct vhub_user_iotlb iotlb;
} __attribute__((packed));

/* Asks the front end, or holds the question until it can be asked. */
static void
pass_on(struct rvhost_path *path)
{
	path->iotlb_held = vhub_device_iotlb_miss(path->dev, &path->iotlb_miss) == -EAGAIN;
	vhub_loop_rewatch(path->dev->executor.loop, &path->iotlb_watch,
			path->iotlb_held ? 0 : EPOLLIN);
	if (path->iotlb_held)
		vhub_timer_arm(path->dev->executor.loop, &path->iotlb_timer, RETRY_US);
}

static void
retry(struct vhub_timer *timer)
{
	pass_on(vhub_container_of(timer, struct rvhost_path, iotlb_timer));
}

static void
library_asks(struct vhub_watch *watch, uint32_t events)
{
	struct rvhost_path *path = vhub_container_of(watch, struct rvhost_path, iotlb_watch);
	struct iotlb_request req;

	(void)events;
	/* One message for one look: others have their turn in between. */
	if (recv(watch->fd, &req, sizeof(req), MSG_DONTWAIT) != (ssize_t)sizeof(req))
		return;
	if (req.header.request != VHUB_USER_BACKEND_IOTLB_MSG || req.iotlb.type != IOTLB_MISS)
		return;
	path->iotlb_miss = (struct vhub_user_iotlb){
		.iova = req.iotlb.iova,
		.perm = req.iotlb.perm & PERM_RW,
		.type = IOTLB_MISS,
	};
	pass_on(path);
}

int
rvhost_iotlb_begin(struct rvhost_path *path)
{
	int fds[2], ret;

	if (path->iotlb_fd >= 0)
		return 0;
	/* SEQPACKET keeps messages whole; non-blocking at both ends, for lcores send on it. */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0)
		return -errno;
	path->iotlb_watch.fd = fds[0];
	path->iotlb_watch.fn = library_asks;
	path->iotlb_timer.fn = retry;
	ret = vhub_loop_watch(path->dev->executor.loop, &path->iotlb_watch, EPOLLIN);
	if (ret != 0) {
		close(fds[0]);
		close(fds[1]);
		return ret;
	}
	path->iotlb_fd = fds[1];
	return 0;
}

void
rvhost_iotlb_end(struct rvhost_path *path)
{
	if (path->iotlb_fd < 0)
		return;
	vhub_timer_cancel(path->dev->executor.loop, &path->iotlb_timer);
	vhub_loop_unwatch(path->dev->executor.loop, &path->iotlb_watch);
	close(path->iotlb_watch.fd);
	close(path->iotlb_fd);
	path->iotlb_fd = -1;
	path->iotlb_held = false;
}

int
rvhost_iotlb(struct rvhost_path *path, const struct vhub_user_iotlb *msg)
{
	const struct vhub_user_iotlb own = {
		.iova = msg->iova,
		.size_bytes = msg->size_bytes,
		.user_addr_uva = msg->user_addr_uva,
		.perm = msg->perm,
		.type = msg->type,
	};
	int ret;

	/* Without a device the library knows nothing of it, and will ask. */
	if (path->fd < 0)
		return 0;
	ret = rvhost_tell(path, VHUB_USER_IOTLB_MSG, &own, sizeof(own), NULL, 0);
	return ret != 0 && path->lost == 0 ? -EINVAL : ret;
}
