/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzzes the way from the socket to a handler: bytes and fds in any pieces, through a socketpair
 * into a session whose handler answers, refuses, waits and ends as the input says. What reaches the
 * handler must be what lib/conn promises, the run must complete once, and no fd may be left.
 *
 * Input: one byte of behaviour (FUZZ_*), then pieces:
 *   0x00-0x7f            so many raw bytes follow (none: just a turn of the loop)
 *   0x80-0xef, n         as above with the low 4 bits of the first byte as length, and n % 254 fds
 *   0xf0-0xff, r, f, s   a header of request r, flags f, size s, with as many fds as the low 3 bits
 *                        of the first byte say, then as much of a payload as there is
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../unit/eal_fixture.h"
#include "vhub_conn.h"
#include "vhub_log.h"

#define FUZZ_PENDING 0x01u /* every third request is ended a turn later */
#define FUZZ_REFUSE 0x02u  /* every fifth is refused */
#define FUZZ_REPLY_FD 0x04u
#define FUZZ_TAKE_FDS 0x08u
#define FUZZ_END 0x10u	      /* the handler ends the session at the 16th request */
#define FUZZ_LATE_CLOSE 0x20u /* the handler's close takes a turn */
#define FUZZ_HALF_CLOSE 0x40u /* the front end shuts its sending side down instead of closing */
#define FUZZ_STOPPED 0x80u    /* rings run, and there is no memory table */

#define MAX_FDS 253

struct fuzz {
	struct vhub_req_handler handler;
	struct vhub_req_handler_ops ops;
	struct vhub_loop *loop;
	struct vhub_task task;
	const uint8_t *data;
	size_t len;
	int sock; /* the front end's, -1: closed */
	uint8_t behaviour;
	unsigned int n_requests;
	unsigned int n_completed;
	struct vhub_request *pending;
	struct vhub_session *closing;
	bool open;
};

static struct fuzz fuzz;
static int null_fd;
static unsigned int n_fds; /* sockets and null devices that are open between two inputs */

#define MUST(expr) \
	do { \
		if (!(expr)) { \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #expr); \
			abort(); \
		} \
	} while (0)

/* ---- the handler ---- */

static int
fuzz_open(struct vhub_req_handler *handler, struct vhub_session *session)
{
	(void)handler;
	(void)session;
	fuzz.open = true;
	return 0;
}

static void
fuzz_close(struct vhub_req_handler *handler, struct vhub_session *session, int reason)
{
	(void)handler;
	MUST(fuzz.open && fuzz.pending == NULL && reason <= 0);
	fuzz.open = false;
	if ((fuzz.behaviour & FUZZ_LATE_CLOSE) != 0)
		fuzz.closing = session;
	else
		vhub_session_closed(session);
}

static uint32_t
fuzz_when(struct vhub_req_handler *handler, uint32_t index)
{
	(void)handler;
	(void)index;
	return (fuzz.behaviour & FUZZ_STOPPED) != 0 ?
			0 :
			VHUB_USER_WHEN_STOPPED | VHUB_USER_WHEN_MEMORY;
}

/* What lib/conn promises of every request that it hands on. */
static void
check_request(const struct vhub_request *req)
{
	const struct vhub_user_request_info *info = vhub_user_request_info(req->header.request);

	MUST(fuzz.open && fuzz.pending == NULL && info != NULL);
	MUST((req->header.flags & (VHUB_USER_VERSION_MASK | VHUB_USER_REPLY)) == VHUB_USER_VERSION);
	MUST(req->header.size >= info->size_min_bytes && req->header.size <= info->size_max_bytes);
	MUST(req->n_fds >= info->fds_min && req->n_fds <= info->fds_max);
	for (unsigned int i = 0; i < req->n_fds; i++)
		MUST(fcntl(req->fds[i], F_GETFD) == FD_CLOEXEC);
	for (size_t i = req->header.size; i < sizeof(req->payload); i++)
		MUST(req->payload.bytes[i] == 0);
	for (size_t i = 0; i < sizeof(req->reply); i++)
		MUST(req->reply.bytes[i] == 0);
	if (req->header.request == VHUB_USER_SET_MEM_TABLE)
		MUST(req->n_fds == req->payload.mem.n_regions);
	if (info->protocol_feature >= 0)
		MUST((vhub_session_protocol_features(req->session) >> info->protocol_feature & 1) !=
				0);
}

static int
fuzz_request(struct vhub_req_handler *handler, struct vhub_request *req)
{
	(void)handler;
	check_request(req);
	fuzz.n_requests++;
	req->reply_size_bytes = fuzz.n_requests * 8 % (sizeof(req->reply) + 1);
	if ((fuzz.behaviour & FUZZ_REPLY_FD) != 0)
		req->reply_fd = dup(null_fd);
	if ((fuzz.behaviour & FUZZ_TAKE_FDS) != 0 && req->n_fds > 0)
		close(vhub_request_take_fd(req, fuzz.n_requests % req->n_fds));
	if ((fuzz.behaviour & FUZZ_END) != 0 && fuzz.n_requests == 16)
		vhub_session_end(req->session, -ECANCELED, "the input says so");
	if ((fuzz.behaviour & FUZZ_PENDING) != 0 && fuzz.n_requests % 3 == 0) {
		fuzz.pending = req;
		return VHUB_REQ_PENDING;
	}
	return (fuzz.behaviour & FUZZ_REFUSE) != 0 && fuzz.n_requests % 5 == 0 ? -EINVAL : 0;
}

/* ---- the front end ---- */

static void
send_piece(const void *bytes, size_t len, unsigned int n_fds)
{
	static union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
	} control;
	struct iovec iov = { (void *)(uintptr_t)bytes, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n_fds > 0) {
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		for (unsigned int i = 0; i < n_fds; i++)
			memcpy(CMSG_DATA(&control.align) + i * sizeof(int), &null_fd, sizeof(int));
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
	}
	/* The back end may have ended the session, or not read yet: what does not go is lost. */
	(void)!sendmsg(fuzz.sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static uint8_t
next_byte(void)
{
	if (fuzz.len == 0)
		return 0;
	fuzz.len--;
	return *fuzz.data++;
}

static void
send_rest(size_t len, unsigned int n_fds)
{
	len = len < fuzz.len ? len : fuzz.len;
	if (len > 0)
		send_piece(fuzz.data, len, n_fds);
	fuzz.data += len;
	fuzz.len -= len;
}

static void
send_next(void)
{
	const uint8_t first = next_byte();
	struct vhub_user_header header;

	if (first < 0x80) {
		send_rest(first, 0);
	} else if (first < 0xf0) {
		const unsigned int n_fds = next_byte() % (MAX_FDS + 1);

		send_rest(first & 0xf, n_fds);
	} else {
		header.request = next_byte();
		header.flags = next_byte();
		header.size = next_byte();
		send_piece(&header, sizeof(header), first & 7);
		send_rest(header.size, 0);
	}
}

/* Reads what the back end said, and closes the fds it gave. */
static void
drain(void)
{
	static uint8_t bytes[4096];
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { bytes, sizeof(bytes) };
	struct cmsghdr *cmsg;
	int fd;

	for (;;) {
		struct msghdr msg = {
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = &control,
			.msg_controllen = sizeof(control),
		};

		if (recvmsg(fuzz.sock, &msg, MSG_DONTWAIT) <= 0)
			return;
		cmsg = CMSG_FIRSTHDR(&msg);
		if (cmsg != NULL) {
			memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
			close(fd);
		}
	}
}

static void
front_end_turn(void)
{
	if (fuzz.sock < 0)
		return;
	if (fuzz.len > 0) {
		send_next();
	} else if ((fuzz.behaviour & FUZZ_HALF_CLOSE) != 0) {
		shutdown(fuzz.sock, SHUT_WR);
	} else {
		close(fuzz.sock);
		fuzz.sock = -1;
		return;
	}
	drain();
}

/* One turn of the loop: the handler ends what it had put off, then the front end does something. */
static void
turn(struct vhub_task *task)
{
	struct vhub_request *pending = fuzz.pending;
	struct vhub_session *closing = fuzz.closing;

	fuzz.pending = NULL;
	fuzz.closing = NULL;
	if (pending != NULL)
		vhub_request_done(pending, 0);
	if (closing != NULL)
		vhub_session_closed(closing);
	front_end_turn();
	vhub_loop_defer(fuzz.loop, task);
}

static void
completed(void *arg, int result)
{
	(void)arg;
	MUST(result <= 0 && !fuzz.open && fuzz.pending == NULL);
	fuzz.n_completed++;
	vhub_loop_stop(fuzz.loop, 0);
}

/* Among the first fds, where a leak would be. Pipes are not counted: the sanitizers open some. */
static unsigned int
count_fds(void)
{
	struct stat st;
	unsigned int n = 0;

	for (int fd = 0; fd < 96; fd++) {
		if (fstat(fd, &st) == 0 && (S_ISSOCK(st.st_mode) || S_ISCHR(st.st_mode)))
			n++;
	}
	return n;
}

static void
start(void)
{
	rte_log_set_global_level(RTE_LOG_EMERG);
	MUST(test_eal_init() == 0);
	rte_log_set_global_level(RTE_LOG_EMERG);
	MUST(vhub_loop_create(&fuzz.loop) == 0);
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	MUST(null_fd >= 0);
	fuzz.handler.ops = &fuzz.ops;
	fuzz.handler.name = "fuzz";
	fuzz.ops.open = fuzz_open;
	fuzz.ops.close = fuzz_close;
	fuzz.ops.when = fuzz_when;
#define FUZZ_SLOT(num, name, slot, ...) fuzz.ops.slot = fuzz_request;
	VHUB_USER_REQUESTS(FUZZ_SLOT)
#undef FUZZ_SLOT
	fuzz.ops.gpu_set_socket = NULL;
	fuzz.task.fn = turn;
	n_fds = count_fds();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vhub_connection *connection;
	struct vhub_executor executor;
	int pair[2];

	if (fuzz.loop == NULL)
		start();
	memset(&executor, 0, sizeof(executor));
	executor.loop = fuzz.loop;
	fuzz.data = data;
	fuzz.len = size;
	fuzz.behaviour = next_byte();
	fuzz.n_requests = 0;
	fuzz.n_completed = 0;
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	fuzz.sock = pair[0];
	MUST(vhub_connection_from_fd(pair[1], &connection) == 0);
	MUST(vhub_run_req_handler(connection, &fuzz.handler, &executor, completed, NULL) == 0);
	vhub_loop_defer(fuzz.loop, &fuzz.task);
	MUST(vhub_loop_run(fuzz.loop) == 0);
	vhub_loop_undefer(fuzz.loop, &fuzz.task);
	MUST(fuzz.n_completed == 1);
	if (fuzz.sock >= 0)
		close(fuzz.sock);
	/* What the front end sent may be closed by another thread. */
	for (int i = 0; count_fds() != n_fds && i < 2000; i++)
		usleep(1000);
	MUST(count_fds() == n_fds);
	return 0;
}
