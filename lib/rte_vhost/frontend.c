/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Our side of the private socket: one message, one answer. Both ends are in this process and say
 * only what sync.c says, so an answer that does not fit is a fault, told by -EPROTO. After a fault the
 * next answer could be that to an earlier message: nothing is said any more until the path is opened
 * anew. Next: sync.c.
 *
 * The library has one thread for the messages of all ports, and looks at guest memory in it: a front end
 * that punches a hole into its own can have it sleep for seconds, and the sessions of others are none the worse for
 * it but for the time. So an answer is waited for as long as it takes; a sleep in the kernel ends.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <rte_common.h>

#include "rvhost.h"
#include "vhub_log.h"

VHUB_LOGTYPE(net);

static int
send_message(int fd, const struct vhub_user_header *header, const void *payload, const int *fds,
		unsigned int n_fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(RVHOST_MAX_REGIONS * sizeof(int))];
	} control = { 0 };
	struct iovec iov[2] = {
		{ .iov_base = (void *)(uintptr_t)header, .iov_len = sizeof(*header) },
		{ .iov_base = (void *)(uintptr_t)payload, .iov_len = header->size },
	};
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	struct cmsghdr *cmsg;
	ssize_t sent;

	if (n_fds > 0) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, n_fds * sizeof(int));
	}
	do {
		sent = sendmsg(fd, &msg, MSG_NOSIGNAL);
	} while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return -errno;
	return (size_t)sent == sizeof(*header) + header->size ? 0 : -EPROTO;
}

/* Nothing for a while: says so, ever more rarely. */
static void
still_waiting(struct rvhost_path *path)
{
	const uint32_t n = path->n_looks + 1;

	__atomic_store_n(&path->n_looks, n, __ATOMIC_RELAXED);
	if (rte_is_power_of_2(n) && vhub_log_allowed(&path->log_limit))
		VHUB_LOG(WARNING,
				"%s: has waited %u s for librte_vhost, whose thread serves all ports and may be held up by another's front end",
				path->dev->name, n * RVHOST_LOOK_SECONDS);
}

static int
receive(struct rvhost_path *path, void *buf, size_t len)
{
	uint8_t *at = buf;
	ssize_t got;

	while (len != 0) {
		got = recv(path->fd, at, len, 0);
		if (got > 0) {
			at += got;
			len -= (size_t)got;
		} else if (got == 0) {
			return -EPROTO;
		} else if (errno == EAGAIN) {
			still_waiting(path);
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

static int
receive_answer(struct rvhost_path *path, uint32_t request, void *reply, uint32_t reply_max)
{
	struct vhub_user_header header;
	int ret = receive(path, &header, sizeof(header));

	if (ret != 0)
		return ret;
	if (header.request != request || (header.flags & VHUB_USER_REPLY) == 0 ||
			header.size > reply_max)
		return -EPROTO;
	memset(reply, 0, reply_max);
	return receive(path, reply, header.size);
}

static int
exchange(struct rvhost_path *path, const struct vhub_user_header *header, const void *payload,
		const int *fds, unsigned int n_fds, void *reply, uint32_t reply_max)
{
	if (path->lost == 0)
		path->lost = send_message(path->fd, header, payload, fds, n_fds);
	if (path->lost == 0)
		path->lost = receive_answer(path, header->request, reply, reply_max);
	__atomic_store_n(&path->n_looks, 0, __ATOMIC_RELAXED);
	return path->lost;
}

int
rvhost_ask(struct rvhost_path *path, uint32_t request, const void *payload, uint32_t size,
		const int *fds, unsigned int n_fds, void *reply, uint32_t reply_max)
{
	const struct vhub_user_header header = {
		.request = request,
		.flags = VHUB_USER_VERSION,
		.size = size,
	};

	return exchange(path, &header, payload, fds, n_fds, reply, reply_max);
}

int
rvhost_tell(struct rvhost_path *path, uint32_t request, const void *payload, uint32_t size,
		const int *fds, unsigned int n_fds)
{
	const struct vhub_user_header header = {
		.request = request,
		.flags = VHUB_USER_VERSION | VHUB_USER_NEED_REPLY,
		.size = size,
	};
	uint64_t refused;
	int ret = exchange(path, &header, payload, fds, n_fds, &refused, sizeof(refused));

	return ret == 0 && refused != 0 ? -EIO : ret;
}

int
rvhost_fence(struct rvhost_path *path)
{
	uint64_t n;

	return rvhost_ask(path, VHUB_USER_GET_QUEUE_NUM, NULL, 0, NULL, 0, &n, sizeof(n));
}
