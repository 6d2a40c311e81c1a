/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Messages on the socket, see frame.h. Called by session.c for one session at a time. Next on the
 * way: validate.c.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rte_common.h>

#include "frame.h"
#include "vhub_fd.h"

/* Most fds that the kernel lets one sendmsg(2) carry (SCM_MAX_FD). */
#define FRAME_MAX_FDS 253

/*
 * Room for all fds that can come at once, more than any message may have: those that found no room
 * the kernel would close inside recvmsg(2), on this thread, however long it takes. And for the
 * credentials that an inherited socket may be set to tell.
 */
union frame_control {
	struct cmsghdr align;
	uint8_t bytes[CMSG_SPACE(FRAME_MAX_FDS * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
};

static void
close_fds(struct vhub_request *req)
{
	for (unsigned int i = 0; i < req->n_fds; i++) {
		vhub_fd_discard(req->fds[i]);
		req->fds[i] = -1;
	}
	req->n_fds = 0;
	if (req->reply_fd >= 0)
		close(req->reply_fd);
	req->reply_fd = -1;
}

void
conn_frame_reset(struct conn_frame_in *in, struct vhub_request *req)
{
	struct vhub_session *session = req->session;

	close_fds(req);
	memset(req, 0, sizeof(*req));
	req->session = session;
	req->reply_fd = -1;
	for (unsigned int i = 0; i < VHUB_USER_MAX_TABLE_REGIONS; i++)
		req->fds[i] = -1;
	memset(in, 0, sizeof(*in));
}

/*
 * Keeps the fds of one control message, up to what a request holds; the surplus is closed and
 * counted.
 */
static void
keep_fds(struct conn_frame_in *in, struct vhub_request *req, const struct cmsghdr *cmsg)
{
	const size_t n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	int fd;

	for (size_t i = 0; i < n; i++) {
		memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(fd));
		if (req->n_fds < VHUB_USER_MAX_TABLE_REGIONS) {
			req->fds[req->n_fds++] = fd;
		} else {
			vhub_fd_discard(fd);
			in->n_fds_surplus++;
		}
	}
}

/*
 * Reads up to `len` bytes; fds may come with any of them. Returns how many came, or as
 * conn_frame_read_header().
 */
static int
frame_recv(int sock, struct conn_frame_in *in, struct vhub_request *req, void *buf, size_t len)
{
	union frame_control control;
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n;

	do {
		n = recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return 0;
	if (n < 0)
		return errno == ECONNRESET ? -ENODATA : -errno;
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg); cmsg != NULL;
			cmsg = CMSG_NXTHDR(&msg, cmsg)) {
		if (cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS)
			keep_fds(in, req, cmsg);
	}
	if ((msg.msg_flags & MSG_CTRUNC) != 0)
		return -EMSGSIZE;
	return n == 0 ? -ENODATA : (int)n;
}

/*
 * Both readers stop at the first short read instead of trying until the socket is empty: who feeds
 * us a byte at a time gets one byte a turn, and the loop goes round to the others in between.
 */
int
conn_frame_read_header(int sock, struct conn_frame_in *in, struct vhub_request *req)
{
	uint8_t *header = (uint8_t *)&req->header;
	int n;

	if (in->header_bytes == sizeof(req->header))
		return 1;
	n = frame_recv(sock, in, req, header + in->header_bytes,
			sizeof(req->header) - in->header_bytes);
	if (n < 0)
		return n;
	in->header_bytes += (uint32_t)n;
	return in->header_bytes == sizeof(req->header);
}

/* Where the next bytes of the payload go, and how many fit there. */
static size_t
payload_room(const struct conn_frame_in *in, struct vhub_request *req, uint8_t *scratch,
		size_t scratch_bytes, uint8_t **dst)
{
	size_t room = scratch_bytes;

	*dst = scratch;
	if (in->payload_bytes < sizeof(req->payload)) {
		*dst = req->payload.bytes + in->payload_bytes;
		room = sizeof(req->payload) - in->payload_bytes;
	}
	return RTE_MIN(room, (size_t)(req->header.size - in->payload_bytes));
}

int
conn_frame_read_payload(int sock, struct conn_frame_in *in, struct vhub_request *req)
{
	uint8_t scratch[1024];
	uint8_t *dst;
	size_t room;
	int n;

	while (in->payload_bytes < req->header.size) {
		room = payload_room(in, req, scratch, sizeof(scratch), &dst);
		n = frame_recv(sock, in, req, dst, room);
		if (n < 0)
			return n;
		in->payload_bytes += (uint32_t)n;
		if ((size_t)n < room)
			return 0;
	}
	return 1;
}

void
conn_frame_reply(struct conn_frame_out *out, struct vhub_request *req)
{
	const struct vhub_user_header header = {
		.request = req->header.request,
		.flags = VHUB_USER_VERSION | VHUB_USER_REPLY,
		.size = req->reply_size_bytes,
	};

	conn_frame_drop(out);
	memcpy(out->bytes, &header, sizeof(header));
	memcpy(out->bytes + sizeof(header), &req->reply, req->reply_size_bytes);
	out->size_bytes = (uint32_t)sizeof(header) + req->reply_size_bytes;
	out->fd = req->reply_fd;
	req->reply_fd = -1;
}

static ssize_t
send_some(int sock, const struct conn_frame_out *out)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(sizeof(int))];
	} control = { .bytes = { 0 } };
	struct iovec iov = {
		.iov_base = (void *)(uintptr_t)(out->bytes + out->sent_bytes),
		.iov_len = out->size_bytes - out->sent_bytes,
	};
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (out->fd >= 0) {
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.align), &out->fd, sizeof(int));
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control.bytes);
	}
	return sendmsg(sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int
conn_frame_send(int sock, struct conn_frame_out *out)
{
	ssize_t n;

	while (out->sent_bytes < out->size_bytes) {
		n = send_some(sock, out);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
		out->sent_bytes += (uint32_t)n;
		if (out->fd >= 0)
			close(out->fd);
		out->fd = -1;
	}
	conn_frame_drop(out);
	return 1;
}

void
conn_frame_drop(struct conn_frame_out *out)
{
	if (out->fd >= 0)
		close(out->fd);
	out->fd = -1;
	out->size_bytes = 0;
	out->sent_bytes = 0;
}
