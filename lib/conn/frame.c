/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Messages on the socket, see frame.h. Called by session.c for one session at a time. Next on the
 * way: validate.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rte_common.h>

#include "frame.h"
#include "vhub_fd.h"
#include "vhub_loop.h"

/* Most fds that the kernel lets one sendmsg(2) carry (SCM_MAX_FD). */
#define FRAME_MAX_FDS 253
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76 /* since Linux 6.5 */
#endif
/* Reads in a row that may lose fds without an obvious reason. */
#define FRAME_MAX_LOSSES 8

/* Room for all fds that can come at once, more than any message may have. */
union frame_control {
	struct cmsghdr align;
	uint8_t bytes[CMSG_SPACE(FRAME_MAX_FDS * sizeof(int))];
};

static struct vhub_fd_account *
account_of(const struct vhub_request *req)
{
	return req->session != NULL ? vhub_session_fds(req->session) : NULL;
}

static void
discard_fds(const struct vhub_request *req, const int *fds, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		vhub_fd_discard(fds[i], account_of(req));
}

void
conn_frame_reset(struct conn_frame_in *in, struct vhub_request *req)
{
	struct vhub_session *session = req->session;

	discard_fds(req, req->fds, req->n_fds);
	if (req->reply_fd >= 0)
		close(req->reply_fd);
	memset(req, 0, sizeof(*req));
	req->session = session;
	req->reply_fd = -1;
	for (unsigned int i = 0; i < VHUB_USER_MAX_TABLE_REGIONS; i++)
		req->fds[i] = -1;
	in->header_bytes = 0;
	in->payload_bytes = 0;
	in->n_fds_surplus = 0;
}

void
conn_frame_close(struct conn_frame_in *in, struct vhub_request *req)
{
	conn_frame_reset(in, req);
	discard_fds(req, in->ahead, in->n_ahead);
	in->n_ahead = 0;
}

void
conn_frame_prepare(int sock)
{
	static const struct {
		int option;
		int value;
	} options[] = {
		/* Else a byte sent out of band is skipped, and the fds with it the kernel closes. */
		{ SO_OOBINLINE, 1 },
		{ SO_PEEK_OFF, -1 },
		/* With a message come fds or nothing. */
		{ SO_PASSCRED, 0 },
		{ SO_PASSSEC, 0 },
		{ SO_PASSPIDFD, 0 },
	};

	/* What a kernel does not know it does not do either. */
	for (unsigned int i = 0; i < RTE_DIM(options); i++)
		setsockopt(sock, SOL_SOCKET, options[i].option, &options[i].value,
				sizeof(options[i].value));
}

static uint64_t
step_begin(const struct conn_cost *cost)
{
	return cost != NULL ? vhub_thread_cpu_ns() : 0;
}

static void
step_end(struct conn_cost *cost, uint64_t begin)
{
	const int err = errno;

	if (cost != NULL)
		conn_cost_add(cost, vhub_thread_cpu_ns() - begin);
	errno = err;
}

/*
 * Returns as recvmsg(2), but -errno, 0 for nothing yet, and -ENODATA for the end. `cost`: NULL for a look, which
 * tells nobody that there is room again.
 */
static int
frame_receive(int sock, struct msghdr *msg, int flags, struct conn_cost *cost)
{
	const uint64_t begin = step_begin(cost);
	ssize_t n;

	do {
		n = recvmsg(sock, msg, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	step_end(cost, begin);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return 0;
	if (n < 0)
		return errno == ECONNRESET ? -ENODATA : -errno;
	return n == 0 ? -ENODATA : (int)n;
}

/*
 * The first of the numbers that front ends get none of: as many as one message can take, or half of
 * a small table.
 */
static rlim_t
first_reserved(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return 0;
	return limit.rlim_cur - RTE_MIN((rlim_t)FRAME_MAX_FDS, limit.rlim_cur / 2);
}

/*
 * Whether front ends may have `n` numbers. Each that is free is found by a copy of a socket, which
 * nobody waits for when it is closed.
 */
static bool
numbers_are_free(int sock, unsigned int n)
{
	const rlim_t reserved = first_reserved();
	int fd = -1;

	for (unsigned int i = 0; i < n; i++) {
		fd = fcntl(sock, F_DUPFD_CLOEXEC, fd + 1);
		if (fd < 0)
			return false;
		close(fd);
		if ((rlim_t)fd >= reserved)
			return false;
	}
	return true;
}

/* What came with one read. */
struct frame_fds {
	unsigned int n;
	int fds[sizeof(union frame_control) / sizeof(int)];
};

/* Takes the fds out of the control messages. */
static void
take_fds(struct msghdr *msg, struct frame_fds *fds)
{
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg); cmsg != NULL;
			cmsg = CMSG_NXTHDR(msg, cmsg)) {
		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		memcpy(fds->fds + fds->n, CMSG_DATA(cmsg), cmsg->cmsg_len - CMSG_LEN(0));
		fds->n += (unsigned int)((cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int));
	}
}

/* Keeps what a request holds; the surplus is closed and counted. */
static void
keep_fds(struct conn_frame_in *in, struct vhub_request *req, const struct frame_fds *fds)
{
	const unsigned int n = RTE_MIN(fds->n, VHUB_USER_MAX_TABLE_REGIONS - req->n_fds);

	memcpy(req->fds + req->n_fds, fds->fds, n * sizeof(int));
	req->n_fds += n;
	discard_fds(req, fds->fds + n, fds->n - n);
	in->n_fds_surplus += fds->n - n;
}

/*
 * Looks at what comes next, and leaves it in the socket, but has its fds, `max` of them at most. Returns
 * as frame_receive(), and whether these are all; or -EMFILE.
 */
static int
look(int sock, struct iovec *iov, unsigned int max, struct frame_fds *fds, bool *all)
{
	union frame_control control;
	struct msghdr msg = {
		.msg_iov = iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = CMSG_LEN(max * sizeof(int)),
	};
	int n;

	fds->n = 0;
	if (!numbers_are_free(sock, max))
		return -EMFILE;
	n = frame_receive(sock, &msg, MSG_PEEK, NULL);
	if (n <= 0)
		return n;
	take_fds(&msg, fds);
	*all = (msg.msg_flags & MSG_CTRUNC) == 0;
	return n;
}

/*
 * Some of the fds are not there, though there were numbers for them and the message is still in the
 * socket: -EMFILE when it is worth another look later. With a number free still something else may have
 * been in their way, a security module.
 */
static int
fds_missing(int sock, struct conn_frame_in *in)
{
	if (!numbers_are_free(sock, 1))
		return -EMFILE;
	return ++in->n_losses < FRAME_MAX_LOSSES ? -EMFILE : -EMSGSIZE;
}

/*
 * Looks at what comes next with all its fds, which are seldom more than a request can have. Returns as
 * frame_receive(), or -EMFILE or -EMSGSIZE.
 */
static int
peek_with_fds(int sock, struct conn_frame_in *in, const struct vhub_request *req, struct iovec *iov,
		struct frame_fds *fds)
{
	bool all = true;
	int n, ret;

	n = look(sock, iov, VHUB_USER_MAX_TABLE_REGIONS, fds, &all);
	if (!all && fds->n == VHUB_USER_MAX_TABLE_REGIONS) {
		discard_fds(req, fds->fds, fds->n);
		n = look(sock, iov, FRAME_MAX_FDS, fds, &all);
	}
	if (n <= 0 || all)
		return n;
	ret = fds_missing(sock, in);
	discard_fds(req, fds->fds, fds->n);
	return ret;
}

/* Keeps fds of a message that is not read yet, if they are as few as it should have. */
static void
keep_ahead(struct conn_frame_in *in, const struct vhub_request *req, const struct frame_fds *fds)
{
	if (fds->n > RTE_DIM(in->ahead)) {
		discard_fds(req, fds->fds, fds->n);
		return;
	}
	memcpy(in->ahead, fds->fds, fds->n * sizeof(int));
	in->n_ahead = fds->n;
}

static void
take_ahead(struct conn_frame_in *in, struct frame_fds *fds)
{
	memcpy(fds->fds, in->ahead, in->n_ahead * sizeof(int));
	fds->n = in->n_ahead;
	in->n_ahead = 0;
}

/* Of `len` bytes that are wanted, how many are read in one step. */
static size_t
step_bytes(const struct conn_frame_in *in, size_t len)
{
	return in->cost != NULL ? RTE_MIN(len, conn_cost_step_bytes(in->cost)) : len;
}

/*
 * Reads up to `len` bytes; fds may come with any of them. Returns how many came, or as
 * conn_frame_read_header().
 *
 * An fd for which there is no number the kernel closes inside recvmsg(2), on this thread, however
 * long its sender has that take. To count free numbers first would leave a gap, for other threads
 * open files; so what comes is looked at (MSG_PEEK) while the socket has the fds too, and read while
 * we have them: neither closes the last of anything. (Unless another process that shares our end of
 * an inherited socket reads in between.)
 *
 * A read ends with the bytes that have fds, but a look goes on behind its last byte to the next that
 * have some. Whether those were read too is what MSG_CTRUNC tells, for a read that has no room for
 * fds; if not, we have them ahead, and the next read needs no look.
 *
 * None of them gets into the reserve, where it would stay for as long as a close before it is stuck: if
 * so many numbers are not free below, the message stays where it is.
 */
static int
frame_recv(int sock, struct conn_frame_in *in, struct vhub_request *req, void *buf, size_t len)
{
	struct iovec iov = { .iov_base = buf, .iov_len = step_bytes(in, len) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct frame_fds fds;
	int n;

	if (vhub_fd_account_is_full(account_of(req)))
		return -EDQUOT;
	take_ahead(in, &fds);
	if (fds.n == 0) {
		n = frame_receive(sock, &msg, MSG_PEEK, NULL);
		if (n > 0 && (msg.msg_flags & MSG_CTRUNC) != 0)
			n = peek_with_fds(sock, in, req, &iov, &fds);
		if (n <= 0)
			return n;
		in->n_losses = 0;
		/* No more than was looked at: there may be fds now with the next byte. */
		iov.iov_len = (size_t)n;
		msg.msg_flags = 0;
	}
	n = frame_receive(sock, &msg, 0, in->cost);
	/* Not before: ours may be the last now. */
	if ((msg.msg_flags & MSG_CTRUNC) != 0)
		keep_fds(in, req, &fds);
	else
		keep_ahead(in, req, &fds);
	return n;
}

/*
 * Both readers stop at the first short read instead of trying until the socket is empty: who feeds
 * us a byte at a time gets one byte a turn, and the loop goes round to the others in between. So it does
 * when the turn has cost enough.
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
		if (in->cost != NULL && conn_cost_turn_is_over(in->cost))
			return 0;
		room = step_bytes(in, payload_room(in, req, scratch, sizeof(scratch), &dst));
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
	uint64_t begin;
	ssize_t n;

	while (out->sent_bytes < out->size_bytes) {
		begin = step_begin(out->cost);
		n = send_some(sock, out);
		step_end(out->cost, begin);
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
