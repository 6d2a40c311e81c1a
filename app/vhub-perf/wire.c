/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Messages to the back end and their answers. Called by negotiate.c, inflight.c and frontend.c. The
 * socket has a time limit for sending and receiving (connect.c).
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "frontend.h"
#include "perf.h"

#define MAX_FDS 8

static const char *
request_name(uint32_t request)
{
	const struct vhub_user_request_info *info = vhub_user_request_info(request);

	return info != NULL ? info->name : "?";
}

/* Says what went wrong with a request and passes the errno on. */
static int
wire_fail(const struct frontend *fe, uint32_t request, int ret)
{
	const char *name = request_name(request);

	switch (ret) {
	case -ETIMEDOUT:
		perf_error(fe->config.path,
				"no answer to %s within %u ms: is the back end busy with another front end? (--patience)",
				name, fe->config.patience_ms);
		break;
	case -ECONNRESET:
		perf_error(fe->config.path, "the back end hung up at %s: its log should tell why",
				name);
		break;
	default:
		perf_error(fe->config.path, "%s: %s", name, strerror(-ret));
		break;
	}
	return ret;
}

static int
wire_send(const struct frontend *fe, const struct wire_message *m, uint32_t flags)
{
	struct vhub_user_header header = {
		.request = m->request,
		.flags = VHUB_USER_VERSION | flags,
		.size = m->size,
	};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
	} control = { 0 };
	struct iovec iov[2] = {
		{ .iov_base = &header, .iov_len = sizeof(header) },
		{ .iov_base = (void *)(uintptr_t)m->payload, .iov_len = m->size },
	};
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = m->size > 0 ? 2 : 1 };
	struct cmsghdr *cmsg;
	ssize_t sent;

	if (m->n_fds > 0) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(m->n_fds * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(m->n_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), m->fds, m->n_fds * sizeof(int));
	}
	do {
		sent = sendmsg(fe->fd, &msg, MSG_NOSIGNAL);
	} while (sent < 0 && errno == EINTR);
	if (sent >= 0)
		return (size_t)sent == sizeof(header) + m->size ? 0 : -ETIMEDOUT;
	if (errno == EAGAIN)
		return -ETIMEDOUT;
	return errno == EPIPE ? -ECONNRESET : -errno;
}

/* Exactly `bytes`; the first fd that comes with them goes to `fd`, others are closed. */
static int
wire_receive(const struct frontend *fe, void *buf, size_t bytes, int *fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
	} control;
	size_t done = 0;

	while (done < bytes) {
		struct iovec iov = { .iov_base = (uint8_t *)buf + done, .iov_len = bytes - done };
		struct msghdr msg = {
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = control.bytes,
			.msg_controllen = sizeof(control.bytes),
		};
		const ssize_t got = recvmsg(fe->fd, &msg, MSG_CMSG_CLOEXEC);
		struct cmsghdr *cmsg;

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		for (cmsg = CMSG_FIRSTHDR(&msg); cmsg != NULL; cmsg = CMSG_NXTHDR(&msg, cmsg)) {
			const size_t n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
			int fds[MAX_FDS];

			if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
				continue;
			memcpy(fds, CMSG_DATA(cmsg), n * sizeof(int));
			for (size_t i = 0; i < n; i++) {
				if (fd != NULL && *fd < 0)
					*fd = fds[i];
				else
					close(fds[i]);
			}
		}
		if (got == 0)
			return -ECONNRESET;
		done += (size_t)got;
	}
	return 0;
}

/* The answer to `request`, which has to have `bytes` of payload. */
static int
wire_reply(const struct frontend *fe, uint32_t request, void *reply, uint32_t bytes, int *fd)
{
	struct vhub_user_header header;
	int ret = wire_receive(fe, &header, sizeof(header), fd);

	if (ret != 0)
		return ret;
	if (header.request != request || (header.flags & VHUB_USER_REPLY) == 0 ||
			header.size != bytes) {
		perf_error(fe->config.path,
				"%s was answered with request %u, flags 0x%x, %u bytes; it takes %u bytes: not a vhost-user back end, or not of this kind of device",
				request_name(request), header.request, header.flags, header.size,
				bytes);
		return -EPROTO;
	}
	return wire_receive(fe, reply, bytes, fd);
}

int
wire_ask(struct frontend *fe, const struct wire_message *message, void *reply, uint32_t reply_bytes,
		int *fd)
{
	int ret;

	if (fd != NULL)
		*fd = -1;
	ret = wire_send(fe, message, 0);
	if (ret == 0)
		ret = wire_reply(fe, message->request, reply, reply_bytes, fd);
	/* A back end that is busy hangs up here; whoever opens tries again. */
	if (ret == 0 || ret == -EPROTO ||
			(ret == -ECONNRESET && message->request == VHUB_USER_GET_FEATURES))
		return ret;
	return wire_fail(fe, message->request, ret);
}

int
wire_tell(struct frontend *fe, const struct wire_message *message)
{
	const bool ack = (fe->protocol & VHUB_USER_PF(REPLY_ACK)) != 0;
	uint64_t refused = 0;
	int ret = wire_send(fe, message, ack ? VHUB_USER_NEED_REPLY : 0);

	if (ret == 0 && ack)
		ret = wire_reply(fe, message->request, &refused, sizeof(refused), NULL);
	if (ret != 0)
		return ret == -EPROTO ? ret : wire_fail(fe, message->request, ret);
	if (refused == 0)
		return 0;
	perf_error(fe->config.path, "the back end refuses %s: its log should tell why",
			request_name(message->request));
	return -EREMOTEIO;
}

int
wire_tell_u64(struct frontend *fe, uint32_t request, uint64_t value)
{
	return wire_tell(fe,
			&(struct wire_message){
					.request = request,
					.size = sizeof(value),
					.payload = &value,
			});
}

int
wire_tell_state(struct frontend *fe, uint32_t request, uint32_t index, uint32_t num)
{
	const struct vhub_user_vring_state state = { .index = index, .num = num };

	return wire_tell(fe,
			&(struct wire_message){
					.request = request,
					.size = sizeof(state),
					.payload = &state,
			});
}

int
wire_ask_u64(struct frontend *fe, uint32_t request, uint64_t *value)
{
	return wire_ask(fe, &(struct wire_message){ .request = request }, value, sizeof(*value),
			NULL);
}
