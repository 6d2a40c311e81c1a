/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the tests of lib/conn share: a handler that records what it is asked and answers as it was
 * told, a control loop that is run in small pieces, and the front end's side of a socket.
 */
#ifndef CONN_FIXTURE_H
#define CONN_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../eal_fixture.h"
#include "../fds.h"
#include "vhub_conn.h"
#include "vhub_log.h"

/* ---- a handler ---- */

struct fake {
	struct vhub_req_handler handler;
	struct vhub_req_handler_ops ops;

	/* What it does. */
	int open_result;
	uint32_t when;
	int result[VHUB_USER_REQUEST_MAX]; /* VHUB_REQ_PENDING: the test ends `pending` */
	bool fill_reply_when_refused;
	bool done_in_slot; /* vhub_request_done() before VHUB_REQ_PENDING is returned */
	int end_in_slot;   /* < 0: vhub_session_end() with it */
	bool hold_close;   /* the test calls vhub_session_closed() */
	int reply_fd;	   /* dup of it is sent with replies; -1: none */
	unsigned int take_fds;
	struct vhub_loop *stop_loop; /* its run ends with the turn */

	/* What it saw. */
	unsigned int n_opened;
	unsigned int n_closing;
	unsigned int n_calls;
	unsigned int calls[VHUB_USER_REQUEST_MAX];
	int reason;
	struct vhub_session *session;
	struct vhub_request *pending;
	struct vhub_request last; /* a copy */
	int taken[VHUB_USER_MAX_TABLE_REGIONS];
	uint32_t when_index;
	bool closed_while_pending;
};

static inline struct fake *
fake_of(struct vhub_req_handler *handler)
{
	return vhub_container_of(handler, struct fake, handler);
}

static inline int
fake_open(struct vhub_req_handler *handler, struct vhub_session *session)
{
	struct fake *fake = fake_of(handler);

	fake->n_opened++;
	if (fake->open_result == 0)
		fake->session = session;
	return fake->open_result;
}

static inline void
fake_close(struct vhub_req_handler *handler, struct vhub_session *session, int reason)
{
	struct fake *fake = fake_of(handler);

	assert_ptr_equal(session, fake->session);
	fake->n_closing++;
	fake->reason = reason;
	fake->closed_while_pending = fake->pending != NULL;
	if (!fake->hold_close) {
		fake->session = NULL;
		vhub_session_closed(session);
	}
}

static inline uint32_t
fake_when(struct vhub_req_handler *handler, uint32_t index)
{
	fake_of(handler)->when_index = index;
	return fake_of(handler)->when;
}

static inline void
fake_fill_reply(struct fake *fake, struct vhub_request *req)
{
	req->reply.u64 = 0x1122334455667788;
	req->reply_size_bytes = 8;
	if (fake->reply_fd >= 0)
		req->reply_fd = dup(fake->reply_fd);
}

/* Every slot. */
static inline int
fake_request(struct vhub_req_handler *handler, struct vhub_request *req)
{
	struct fake *fake = fake_of(handler);
	const uint32_t request = req->header.request;
	const int result = fake->result[request];

	fake->n_calls++;
	fake->calls[request]++;
	fake->last = *req;
	if (fake->stop_loop != NULL)
		vhub_loop_stop(fake->stop_loop, 0);
	for (unsigned int i = 0; i < fake->take_fds; i++)
		fake->taken[i] = vhub_request_take_fd(req, i);
	if (result >= 0 || fake->fill_reply_when_refused) {
		if (vhub_user_request_info(request)->answer == VHUB_USER_ANSWER_REPLY)
			fake_fill_reply(fake, req);
	}
	if (fake->end_in_slot < 0)
		vhub_session_end(req->session, fake->end_in_slot, "the test says so");
	if (fake->done_in_slot) {
		vhub_request_done(req, result);
		return VHUB_REQ_PENDING;
	}
	if (result == VHUB_REQ_PENDING)
		fake->pending = req;
	return result;
}

static inline void
fake_done(struct fake *fake, int result)
{
	struct vhub_request *req = fake->pending;

	assert_non_null(req);
	fake->pending = NULL;
	vhub_request_done(req, result);
}

static inline void
fake_init(struct fake *fake)
{
	memset(fake, 0, sizeof(*fake));
	fake->handler.ops = &fake->ops;
	fake->handler.name = "fake0";
	fake->ops.open = fake_open;
	fake->ops.close = fake_close;
	fake->ops.when = fake_when;
#define FAKE_SLOT(num, name, slot, ...) fake->ops.slot = fake_request;
	VHUB_USER_REQUESTS(FAKE_SLOT)
#undef FAKE_SLOT
	fake->when = VHUB_USER_WHEN_STOPPED | VHUB_USER_WHEN_MEMORY;
	fake->reply_fd = -1;
}

/* ---- a loop that is run in pieces of about a millisecond ---- */

struct bed {
	struct vhub_loop *loop;
	struct vhub_executor executor;
	struct vhub_timer timer;
	struct fake fake;
	unsigned int n_completed;
	int result;
};

static inline void
bed_stop(struct vhub_timer *timer)
{
	vhub_loop_stop(vhub_container_of(timer, struct bed, timer)->loop, 0);
}

static inline void
bed_turn(struct bed *bed)
{
	vhub_timer_arm(bed->loop, &bed->timer, 1000);
	assert_int_equal(vhub_loop_run(bed->loop), 0);
}

static inline void
bed_turns(struct bed *bed, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		bed_turn(bed);
}

/* Runs the loop until `expr` holds, for some seconds at most. */
#define WAIT_FOR(bed, expr) \
	do { \
		for (int wait_i = 0; !(expr) && wait_i < 30000; wait_i++) \
			bed_turn(bed); \
		assert_true(expr); \
	} while (0)

static inline void
bed_complete(void *arg, int result)
{
	struct bed *bed = arg;

	bed->n_completed++;
	bed->result = result;
}

static inline void
bed_up(struct bed *bed)
{
	memset(bed, 0, sizeof(*bed));
	assert_int_equal(vhub_loop_create(&bed->loop), 0);
	bed->executor.loop = bed->loop;
	bed->timer.fn = bed_stop;
	fake_init(&bed->fake);
}

static inline void
bed_down(struct bed *bed)
{
	vhub_loop_destroy(bed->loop);
}

/* ---- the front end ---- */

/* Sends `len` bytes with `n` fds. */
static inline void
fe_send_bytes(int sock, const void *bytes, size_t len, const int *fds, unsigned int n)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(253 * sizeof(int))];
	} control = { .bytes = { 0 } };
	struct iovec iov = { (void *)(uintptr_t)bytes, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n > 0) {
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(&control.align), fds, n * sizeof(int));
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(n * sizeof(int));
	}
	assert_int_equal(sendmsg(sock, &msg, MSG_NOSIGNAL), len);
}

static inline size_t
fe_message(void *out, uint32_t request, uint32_t flags, const void *payload, uint32_t size)
{
	const struct vhub_user_header header = { request, VHUB_USER_VERSION | flags, size };

	memcpy(out, &header, sizeof(header));
	if (size > 0)
		memcpy((uint8_t *)out + sizeof(header), payload, size);
	return sizeof(header) + size;
}

static inline void
fe_send_fds(int sock, uint32_t request, uint32_t flags, const void *payload, uint32_t size,
		const int *fds, unsigned int n)
{
	static uint8_t message[128 * 1024];

	fe_send_bytes(sock, message, fe_message(message, request, flags, payload, size), fds, n);
}

static inline void
fe_send(int sock, uint32_t request, uint32_t flags, const void *payload, uint32_t size)
{
	fe_send_fds(sock, request, flags, payload, size, NULL, 0);
}

static inline void
fe_send_u64(int sock, uint32_t request, uint32_t flags, uint64_t value)
{
	fe_send(sock, request, flags, &value, sizeof(value));
}

struct fe_reply {
	struct vhub_user_header header;
	uint8_t payload[512];
	int fd; /* -1: none */
};

static inline bool
fe_readable(int sock)
{
	struct pollfd pfd = { .fd = sock, .events = POLLIN };

	return poll(&pfd, 1, 0) > 0;
}

static inline bool
fe_is_closed(int sock)
{
	uint8_t byte;
	ssize_t n = recv(sock, &byte, 1, MSG_DONTWAIT | MSG_PEEK);

	return n == 0 || (n < 0 && errno == ECONNRESET);
}

/* Receives one reply, which is there. */
static inline void
fe_take_reply(int sock, struct fe_reply *reply)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { &reply->header, sizeof(reply->header) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg;

	reply->fd = -1;
	memset(reply->payload, 0xee, sizeof(reply->payload));
	assert_int_equal(recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC),
			sizeof(reply->header));
	cmsg = CMSG_FIRSTHDR(&msg);
	if (cmsg != NULL)
		memcpy(&reply->fd, CMSG_DATA(cmsg), sizeof(int));
	assert_true(reply->header.size <= sizeof(reply->payload));
	if (reply->header.size > 0)
		assert_int_equal(recv(sock, reply->payload, reply->header.size, MSG_DONTWAIT),
				reply->header.size);
	assert_int_equal(reply->header.flags, VHUB_USER_VERSION | VHUB_USER_REPLY);
}

static inline void
fe_get_reply(struct bed *bed, int sock, uint32_t request, struct fe_reply *reply)
{
	WAIT_FOR(bed, fe_readable(sock));
	fe_take_reply(sock, reply);
	assert_int_equal(reply->header.request, request);
}

/* The u64 of the next reply, which is to `request`. */
static inline uint64_t
fe_get_u64(struct bed *bed, int sock, uint32_t request)
{
	struct fe_reply reply;
	uint64_t value;

	fe_get_reply(bed, sock, request, &reply);
	assert_int_equal(reply.header.size, 8);
	assert_int_equal(reply.fd, -1);
	memcpy(&value, reply.payload, 8);
	return value;
}

/* Everything before is done, and nothing before it was answered unseen. */
static inline void
fe_fence(struct bed *bed, int sock)
{
	fe_send(sock, VHUB_USER_GET_FEATURES, 0, NULL, 0);
	assert_int_equal(fe_get_u64(bed, sock, VHUB_USER_GET_FEATURES), 0x1122334455667788);
}

static inline void
fe_negotiate(struct bed *bed, int sock, uint64_t protocol_features)
{
	fe_send_u64(sock, VHUB_USER_SET_PROTOCOL_FEATURES, 0, protocol_features);
	fe_send_u64(sock, VHUB_USER_SET_FEATURES, 0, VHUB_F(PROTOCOL_FEATURES));
	fe_fence(bed, sock);
}

static inline struct sockaddr_un
address_of(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	assert_true(strlen(path) < sizeof(addr.sun_path));
	memcpy(addr.sun_path, path, strlen(path));
	return addr;
}

static inline int
fe_connect(const char *path)
{
	const struct sockaddr_un addr = address_of(path);
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(sock >= 0);
	if (connect(sock, (const struct sockaddr *)&addr, sizeof(addr)) != 0) {
		const int err = errno;

		close(sock);
		return -err;
	}
	return sock;
}

/* ---- odds and ends ---- */

static inline double
now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/*
 * As many as that are open, at once or soon: what front ends sent may be closed by another thread.
 */
static inline void
assert_fds(unsigned int n)
{
	for (int i = 0; count_fds() != n && i < 2000; i++)
		usleep(1000);
	assert_int_equal(count_fds(), n);
}

/* A directory of one's own for sockets; `path` gets it. */
static inline void
make_dir(char path[64])
{
	snprintf(path, 64, "/tmp/vhub-test-conn-XXXXXX");
	assert_non_null(mkdtemp(path));
}

static inline bool
exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

/* What is logged goes to a text that the test reads. */
struct log_catcher {
	FILE *file;
	char *text;
	size_t len;
};

static inline void
log_catch(struct log_catcher *log)
{
	log->file = open_memstream(&log->text, &log->len);
	assert_non_null(log->file);
	rte_openlog_stream(log->file);
}

static inline unsigned int
log_count(struct log_catcher *log, const char *needle)
{
	unsigned int n = 0;

	fflush(log->file);
	for (const char *at = strstr(log->text, needle); at != NULL; at = strstr(at + 1, needle))
		n++;
	return n;
}

static inline void
log_release(struct log_catcher *log)
{
	rte_openlog_stream(NULL);
	fclose(log->file);
	free(log->text);
}

/* ---- the table of fds ---- */

/* Leaves `n` numbers of fds in all. Returns the limit that it was. */
static inline struct rlimit
limit_fds(int n)
{
	struct rlimit limit, tight;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	tight = limit;
	tight.rlim_cur = (rlim_t)n;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	return limit;
}

#endif /* CONN_FIXTURE_H */
