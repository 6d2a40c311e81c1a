/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One front end on one socket: requests in pieces and together, answers, pending requests,
 * refusals, the features that the session keeps, front ends that do not read, and every way to end.
 */
#include <sys/mman.h>

#include "conn_fixture.h"

#define NEED VHUB_USER_NEED_REPLY
#define REPLY_ACK VHUB_USER_PF(REPLY_ACK)

struct one {
	struct bed bed;
	int sock; /* the front end's */
	unsigned int n_fds;
	struct log_catcher log;
};

static void
one_up(struct one *one)
{
	struct vhub_connection *connection;
	int pair[2];

	one->n_fds = count_fds();
	log_catch(&one->log);
	bed_up(&one->bed);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	one->sock = pair[0];
	assert_int_equal(vhub_connection_from_fd(pair[1], &connection), 0);
	assert_int_equal(vhub_run_req_handler(connection, &one->bed.fake.handler,
					 &one->bed.executor, bed_complete, &one->bed),
			0);
	WAIT_FOR(&one->bed, one->bed.fake.n_opened == 1);
}

static void
hang_up(struct one *one)
{
	close(one->sock);
	one->sock = -1;
}

/* The session has ended or ends now, with `result`; nothing is left. */
static void
one_down(struct one *one, int result)
{
	if (one->sock >= 0 && result == 0)
		hang_up(one);
	WAIT_FOR(&one->bed, one->bed.n_completed == 1);
	assert_int_equal(one->bed.result, result);
	assert_int_equal(one->bed.fake.n_closing, 1);
	assert_int_equal(one->bed.fake.reason, result);
	assert_false(one->bed.fake.closed_while_pending);
	/* One clear line for each end that is no plain hang-up. */
	assert_int_equal(log_count(&one->log, "session ended"), result != 0);
	if (one->sock >= 0) {
		assert_true(fe_is_closed(one->sock));
		hang_up(one);
	}
	bed_down(&one->bed);
	log_release(&one->log);
	assert_fds(one->n_fds);
}

static void
test_hang_up(void **state)
{
	struct one one;

	(void)state;
	one_up(&one);
	one_down(&one, 0);
}

static void
test_a_half_close_is_a_hang_up(void **state)
{
	struct one one;

	(void)state;
	one_up(&one);
	shutdown(one.sock, SHUT_WR);
	WAIT_FOR(&one.bed, one.bed.n_completed == 1);
	assert_true(fe_is_closed(one.sock));
	one_down(&one, 0);
}

static void
test_replies_and_silence(void **state)
{
	struct one one;

	(void)state;
	one_up(&one);
	fe_send(one.sock, VHUB_USER_SET_OWNER, 0, NULL, 0);
	fe_fence(&one.bed, one.sock);
	/* Before REPLY_ACK is negotiated need_reply means nothing. */
	fe_send(one.sock, VHUB_USER_SET_OWNER, NEED, NULL, 0);
	fe_fence(&one.bed, one.sock);
	assert_int_equal(one.bed.fake.calls[VHUB_USER_SET_OWNER], 2);
	one_down(&one, 0);
}

static void
test_reply_ack_counts_from_the_request_that_negotiates_it(void **state)
{
	struct one one;

	(void)state;
	one_up(&one);
	fe_send_u64(one.sock, VHUB_USER_SET_PROTOCOL_FEATURES, NEED, REPLY_ACK);
	assert_int_equal(fe_get_u64(&one.bed, one.sock, VHUB_USER_SET_PROTOCOL_FEATURES), 0);
	fe_send(one.sock, VHUB_USER_SET_OWNER, NEED, NULL, 0);
	assert_int_equal(fe_get_u64(&one.bed, one.sock, VHUB_USER_SET_OWNER), 0);
	/* And to the one that gives it up, which was sent while it held. */
	fe_send_u64(one.sock, VHUB_USER_SET_PROTOCOL_FEATURES, NEED, 0);
	assert_int_equal(fe_get_u64(&one.bed, one.sock, VHUB_USER_SET_PROTOCOL_FEATURES), 0);
	fe_send(one.sock, VHUB_USER_SET_OWNER, NEED, NULL, 0);
	fe_fence(&one.bed, one.sock);
	one_down(&one, 0);
}

static void
test_set_log_base_is_answered_once_log_shmfd_is_negotiated(void **state)
{
	const struct vhub_user_log log = { .size_bytes = 4096 };
	struct one one;
	int fd = 2;

	(void)state;
	one_up(&one);
	fe_send(one.sock, VHUB_USER_SET_LOG_BASE, 0, &log, sizeof(log));
	fe_negotiate(&one.bed, one.sock, VHUB_USER_PF(LOG_SHMFD));
	fe_send_fds(one.sock, VHUB_USER_SET_LOG_BASE, 0, &log, sizeof(log), &fd, 1);
	assert_int_equal(fe_get_u64(&one.bed, one.sock, VHUB_USER_SET_LOG_BASE), 0);
	one.bed.fake.result[VHUB_USER_SET_LOG_BASE] = -EINVAL;
	fe_send_fds(one.sock, VHUB_USER_SET_LOG_BASE, 0, &log, sizeof(log), &fd, 1);
	assert_int_equal(fe_get_u64(&one.bed, one.sock, VHUB_USER_SET_LOG_BASE), EINVAL);
	/* An fd is missing: refused before it reaches the handler, and told. */
	fe_send(one.sock, VHUB_USER_SET_LOG_BASE, 0, &log, sizeof(log));
	assert_int_equal(fe_get_u64(&one.bed, one.sock, VHUB_USER_SET_LOG_BASE), EBADF);
	assert_int_equal(one.bed.fake.calls[VHUB_USER_SET_LOG_BASE], 3);
	fe_fence(&one.bed, one.sock);
	one_down(&one, 0);
}

static void
test_what_the_session_keeps(void **state)
{
	struct one one;
	struct vhub_session *session;

	(void)state;
	one_up(&one);
	session = one.bed.fake.session;
	assert_string_equal(vhub_session_name(session), "fake0#1");
	assert_int_equal(vhub_session_protocol_features(session), 0);
	assert_false(vhub_session_has_f_protocol(session));
	fe_negotiate(&one.bed, one.sock, REPLY_ACK | VHUB_USER_PF(MQ));
	assert_int_equal(vhub_session_protocol_features(session), REPLY_ACK | VHUB_USER_PF(MQ));
	assert_true(vhub_session_has_f_protocol(session));
	/* What is refused changes nothing. */
	one.bed.fake.result[VHUB_USER_SET_PROTOCOL_FEATURES] = -EINVAL;
	one.bed.fake.result[VHUB_USER_SET_FEATURES] = -EINVAL;
	fe_send_u64(one.sock, VHUB_USER_SET_PROTOCOL_FEATURES, NEED,
			REPLY_ACK | VHUB_USER_PF(STATUS));
	assert_int_equal(fe_get_u64(&one.bed, one.sock, VHUB_USER_SET_PROTOCOL_FEATURES), EINVAL);
	fe_send_u64(one.sock, VHUB_USER_SET_FEATURES, NEED, 0);
	assert_int_equal(fe_get_u64(&one.bed, one.sock, VHUB_USER_SET_FEATURES), EINVAL);
	assert_int_equal(vhub_session_protocol_features(session), REPLY_ACK | VHUB_USER_PF(MQ));
	assert_true(vhub_session_has_f_protocol(session));
	one.bed.fake.result[VHUB_USER_SET_FEATURES] = 0;
	fe_send_u64(one.sock, VHUB_USER_SET_FEATURES, NEED, 1);
	assert_int_equal(fe_get_u64(&one.bed, one.sock, VHUB_USER_SET_FEATURES), 0);
	assert_false(vhub_session_has_f_protocol(session));
	one_down(&one, 0);
}

static void
test_a_slot_sees_the_payload_and_zeros_after_it(void **state)
{
	const struct vhub_user_vring_state ring = { 3, 256 };
	struct one one;

	(void)state;
	one_up(&one);
	fe_send_u64(one.sock, VHUB_USER_SET_FEATURES, 0, UINT64_MAX);
	fe_send(one.sock, VHUB_USER_SET_VRING_NUM, 0, &ring, sizeof(ring));
	WAIT_FOR(&one.bed, one.bed.fake.calls[VHUB_USER_SET_VRING_NUM] == 1);
	assert_int_equal(one.bed.fake.last.payload.state.index, 3);
	assert_int_equal(one.bed.fake.last.payload.state.num, 256);
	for (size_t i = 8; i < sizeof(one.bed.fake.last.payload); i++)
		assert_int_equal(one.bed.fake.last.payload.bytes[i], 0);
	for (size_t i = 0; i < sizeof(one.bed.fake.last.reply); i++)
		assert_int_equal(one.bed.fake.last.reply.bytes[i], 0);
	assert_int_equal(one.bed.fake.last.reply_size_bytes, 0);
	assert_int_equal(one.bed.fake.last.reply_fd, -1);
	one_down(&one, 0);
}

/* A slot that says 24 bytes and fills 8 sends zeros for the rest, not what the last reply left. */
static int
fill_8_say_24(struct vhub_req_handler *handler, struct vhub_request *req)
{
	(void)handler;
	req->reply.u64 = 5;
	req->reply_size_bytes = 24;
	return 0;
}

static void
test_replies_carry_nothing_old(void **state)
{
	struct fe_reply reply;
	struct one one;

	(void)state;
	one_up(&one);
	one.bed.fake.ops.get_queue_num = fill_8_say_24;
	fe_fence(&one.bed, one.sock);
	fe_send(one.sock, VHUB_USER_GET_QUEUE_NUM, 0, NULL, 0);
	fe_get_reply(&one.bed, one.sock, VHUB_USER_GET_QUEUE_NUM, &reply);
	assert_int_equal(reply.header.size, 24);
	assert_int_equal(reply.payload[0], 5);
	for (int i = 1; i < 24; i++)
		assert_int_equal(reply.payload[i], 0);
	one_down(&one, 0);
}

static int
say_too_much(struct vhub_req_handler *handler, struct vhub_request *req)
{
	(void)handler;
	req->reply_size_bytes = sizeof(req->reply) + 1;
	return 0;
}

static void
test_a_reply_that_is_larger_than_a_reply_is_not_sent(void **state)
{
	struct one one;

	(void)state;
	one_up(&one);
	one.bed.fake.ops.get_queue_num = say_too_much;
	fe_send(one.sock, VHUB_USER_GET_QUEUE_NUM, 0, NULL, 0);
	one_down(&one, -EIO);
}

static void
test_fds_not_taken_are_closed_and_a_reply_fd_is_sent(void **state)
{
	struct fe_reply reply;
	struct one one;
	int fds[2];

	(void)state;
	one_up(&one);
	assert_int_equal(pipe(fds), 0);
	fe_send_fds(one.sock, VHUB_USER_SET_VRING_CALL, 0, &(uint64_t){ 0 }, 8, fds, 1);
	fe_fence(&one.bed, one.sock);
	assert_int_equal(one.bed.fake.last.n_fds, 0); /* of GET_FEATURES */
	one.bed.fake.take_fds = 1;
	fe_send_fds(one.sock, VHUB_USER_SET_VRING_CALL, 0, &(uint64_t){ 0 }, 8, fds, 1);
	WAIT_FOR(&one.bed, one.bed.fake.calls[VHUB_USER_SET_VRING_CALL] == 2);
	one.bed.fake.take_fds = 0;
	assert_true(fcntl(one.bed.fake.taken[0], F_GETFD) >= 0);
	close(one.bed.fake.taken[0]);
	one.bed.fake.reply_fd = fds[0];
	fe_send(one.sock, VHUB_USER_GET_QUEUE_NUM, 0, NULL, 0);
	fe_get_reply(&one.bed, one.sock, VHUB_USER_GET_QUEUE_NUM, &reply);
	assert_true(reply.fd >= 0);
	close(reply.fd);
	close(fds[0]);
	close(fds[1]);
	one_down(&one, 0);
}

static bool
is_owned(int fd)
{
	struct vhub_socket_ends ends;

	vhub_socket_ends_of(fd, &ends);
	return vhub_session_owns(&ends);
}

static void
test_the_front_ends_end_is_known_while_the_session_is_open(void **state)
{
	struct one one;
	int pair[2], copy;

	(void)state;
	one_up(&one);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_false(is_owned(pair[0]));
	copy = dup(one.sock);
	assert_true(is_owned(copy));
	vhub_session_end(one.bed.fake.session, -EIO, "the test says so");
	WAIT_FOR(&one.bed, one.bed.n_completed == 1);
	assert_false(is_owned(copy));
	close(copy);
	close(pair[0]);
	close(pair[1]);
	assert_int_equal(pipe(pair), 0);
	assert_false(is_owned(pair[0]));
	close(pair[0]);
	close(pair[1]);
	one_down(&one, -EIO);
}

/* Each request gets an fd with its reply from now on. */
static void
answer_with_an_fd(struct one *one)
{
	one->bed.fake.reply_fd = memfd_create("reply", MFD_CLOEXEC);
	assert_true(one->bed.fake.reply_fd >= 0);
}

static void
read_reply_with_an_fd(struct one *one)
{
	struct fe_reply reply;

	fe_get_reply(&one->bed, one->sock, VHUB_USER_GET_QUEUE_NUM, &reply);
	assert_true(reply.fd >= 0);
	close(reply.fd);
}

static void
test_a_reply_with_an_fd_is_read_before_the_next_request(void **state)
{
	const unsigned int *calls;
	struct one one;
	uint8_t byte;

	(void)state;
	one_up(&one);
	answer_with_an_fd(&one);
	calls = &one.bed.fake.calls[VHUB_USER_GET_QUEUE_NUM];
	/* All at once, and later. */
	for (unsigned int i = 0; i < 3; i++)
		fe_send(one.sock, VHUB_USER_GET_QUEUE_NUM, 0, NULL, 0);
	bed_turns(&one.bed, 50);
	assert_int_equal(*calls, 1);
	fe_send(one.sock, VHUB_USER_GET_QUEUE_NUM, 0, NULL, 0);
	/* To look at it is not to read it. */
	assert_int_equal(recv(one.sock, &byte, 1, MSG_PEEK), 1);
	bed_turns(&one.bed, 50);
	assert_int_equal(*calls, 1);
	for (unsigned int i = 2; i <= 4; i++) {
		read_reply_with_an_fd(&one);
		WAIT_FOR(&one.bed, *calls == i);
		bed_turns(&one.bed, 30);
		assert_int_equal(*calls, i);
	}
	read_reply_with_an_fd(&one);
	close(one.bed.fake.reply_fd);
	one.bed.fake.reply_fd = -1;
	fe_fence(&one.bed, one.sock);
	one_down(&one, 0);
}

static void
test_who_sends_more_and_does_not_read_an_fd_is_given_up(void **state)
{
	struct one one;

	(void)state;
	one_up(&one);
	answer_with_an_fd(&one);
	fe_send(one.sock, VHUB_USER_GET_QUEUE_NUM, 0, NULL, 0);
	fe_send(one.sock, VHUB_USER_GET_QUEUE_NUM, 0, NULL, 0);
	WAIT_FOR(&one.bed, one.bed.n_completed == 1);
	assert_int_equal(one.bed.fake.calls[VHUB_USER_GET_QUEUE_NUM], 1);
	assert_int_equal(log_count(&one.log, "does not read a reply with an fd"), 1);
	read_reply_with_an_fd(&one);
	close(one.bed.fake.reply_fd);
	one_down(&one, -ETIMEDOUT);
}

static void
test_byte_by_byte(void **state)
{
	uint8_t message[64];
	struct one one;
	size_t len;

	(void)state;
	one_up(&one);
	fe_negotiate(&one.bed, one.sock, REPLY_ACK);
	len = fe_message(message, VHUB_USER_SET_STATUS, NEED, &(uint64_t){ 15 }, 8);
	for (size_t i = 0; i < len; i++) {
		bed_turn(&one.bed);
		assert_false(fe_readable(one.sock));
		fe_send_bytes(one.sock, message + i, 1, NULL, 0);
	}
	/* STATUS is not negotiated: it was understood, and refused. */
	assert_int_equal(fe_get_u64(&one.bed, one.sock, VHUB_USER_SET_STATUS), ENOTSUP);
	one_down(&one, 0);
}

static void
test_many_at_once_are_answered_in_order(void **state)
{
	uint8_t messages[100 * 12];
	struct one one;
	size_t len = 0;

	(void)state;
	one_up(&one);
	for (int i = 0; i < 50; i++) {
		len += fe_message(messages + len, VHUB_USER_GET_FEATURES, 0, NULL, 0);
		len += fe_message(messages + len, VHUB_USER_GET_QUEUE_NUM, 0, NULL, 0);
	}
	fe_send_bytes(one.sock, messages, len, NULL, 0);
	for (int i = 0; i < 50; i++) {
		fe_get_u64(&one.bed, one.sock, VHUB_USER_GET_FEATURES);
		fe_get_u64(&one.bed, one.sock, VHUB_USER_GET_QUEUE_NUM);
	}
	one_down(&one, 0);
}

struct turn_counter {
	struct vhub_task task;
	struct bed *bed;
	unsigned int most; /* requests in one turn */
	unsigned int seen;
};

static void
count_turn(struct vhub_task *task)
{
	struct turn_counter *counter = vhub_container_of(task, struct turn_counter, task);
	const unsigned int n = counter->bed->fake.n_calls - counter->seen;

	if (n > counter->most)
		counter->most = n;
	counter->seen = counter->bed->fake.n_calls;
	vhub_loop_defer(counter->bed->loop, task);
}

static void
test_one_session_has_its_turn_and_no_more(void **state)
{
	struct turn_counter counter;
	uint8_t messages[200 * 12];
	struct one one;
	size_t len = 0;

	(void)state;
	one_up(&one);
	counter = (struct turn_counter){ .task.fn = count_turn, .bed = &one.bed };
	for (int i = 0; i < 200; i++)
		len += fe_message(messages + len, VHUB_USER_SET_OWNER, 0, NULL, 0);
	fe_send_bytes(one.sock, messages, len, NULL, 0);
	vhub_loop_defer(one.bed.loop, &counter.task);
	WAIT_FOR(&one.bed, one.bed.fake.calls[VHUB_USER_SET_OWNER] == 200);
	assert_int_equal(counter.most, 16);
	vhub_loop_undefer(one.bed.loop, &counter.task);
	one_down(&one, 0);
}

static void
test_requests_left_behind_are_served_before_the_close(void **state)
{
	uint8_t messages[64 * 12];
	struct one one;
	size_t len = 0;

	(void)state;
	one_up(&one);
	for (int i = 0; i < 20; i++) {
		len += fe_message(messages + len, VHUB_USER_SET_OWNER, 0, NULL, 0);
		len += fe_message(messages + len, VHUB_USER_GET_FEATURES, 0, NULL,
				0); /* nobody reads the reply */
	}
	len += fe_message(messages + len, VHUB_USER_RESET_OWNER, 0, NULL, 0);
	fe_send_bytes(one.sock, messages, len, NULL, 0);
	hang_up(&one);
	WAIT_FOR(&one.bed, one.bed.n_completed == 1);
	assert_int_equal(one.bed.fake.calls[VHUB_USER_SET_OWNER], 20);
	assert_int_equal(one.bed.fake.calls[VHUB_USER_GET_FEATURES], 20);
	assert_int_equal(one.bed.fake.calls[VHUB_USER_RESET_OWNER], 1);
	one_down(&one, 0);
}

static void
test_a_hang_up_inside_a_message(void **state)
{
	uint8_t message[64];
	struct one one;
	size_t len;

	(void)state;
	len = fe_message(message, VHUB_USER_SET_FEATURES, 0, &(uint64_t){ 1 }, 8);
	for (size_t cut = 1; cut < len; cut += 6) {
		one_up(&one);
		fe_send_bytes(one.sock, message, cut, NULL, 0);
		bed_turn(&one.bed);
		hang_up(&one);
		WAIT_FOR(&one.bed, one.bed.n_completed == 1);
		assert_int_equal(log_count(&one.log, "hung up after"), 1);
		assert_int_equal(one.bed.fake.n_calls, 0);
		one_down(&one, -ECONNRESET);
	}
}

/* ---- what breaks a rule ---- */

static void
expect_end(uint32_t request, uint32_t flags, uint32_t size, unsigned int n_fds, const char *why)
{
	const struct vhub_user_header header = { request, flags, size };
	const uint64_t zeros[33] = { 0 };
	struct one one;
	int fds[253];

	one_up(&one);
	fe_negotiate(&one.bed, one.sock, REPLY_ACK);
	for (int i = 0; i < 253; i++)
		fds[i] = 2;
	fe_send_bytes(one.sock, &header, sizeof(header), fds, n_fds);
	if (size > 0 && size <= sizeof(zeros))
		fe_send_bytes(one.sock, zeros, size, NULL, 0);
	WAIT_FOR(&one.bed, one.bed.n_completed == 1);
	assert_int_equal(log_count(&one.log, why), 1);
	assert_int_equal(log_count(&one.log, "fake0#1: session ended: "), 1);
	one_down(&one, -EPROTO);
}

static void
test_what_ends_the_session_at_once(void **state)
{
	(void)state;
	expect_end(VHUB_USER_SET_OWNER, NEED | 2, 0, 0, "SET_OWNER (3): version 2");
	expect_end(VHUB_USER_SET_OWNER, NEED | 0, 0, 0, "version 0");
	expect_end(VHUB_USER_SET_OWNER, NEED | 5, 0, 0, "a reply where a request belongs");
	/* The payload never comes: the header is enough. */
	expect_end(VHUB_USER_SET_FEATURES, NEED | 1, 0xffffffff, 0, "payload of 4294967295 bytes");
	expect_end(VHUB_USER_SET_FEATURES, NEED | 1, 65537, 0, "payload of 65537 bytes");
	expect_end(VHUB_USER_SET_FEATURES, NEED | 1, 300, 0,
			"payload of 300 bytes, allowed are 8 to 8");
	expect_end(VHUB_USER_SET_FEATURES, NEED | 1, 0, 0, "payload of 0 bytes");
	expect_end(12345, NEED | 1, 0x40000000, 0, "unknown request (12345): payload of");
	expect_end(VHUB_USER_SET_OWNER, NEED | 1, 0, 1, "1 fds, allowed are 0 to 0");
	expect_end(VHUB_USER_SET_OWNER, NEED | 1, 0, 253, "253 fds, allowed are 0 to 0");
	expect_end(VHUB_USER_SET_VRING_KICK, NEED | 1, 8, 2, "2 fds, allowed are 0 to 1");
	expect_end(VHUB_USER_SET_MEM_TABLE, NEED | 1, 8, 1, "1 fds for 0 regions");
}

static void
test_not_supported_is_told_or_ends_the_session(void **state)
{
	static uint8_t big[65536];
	struct one one;
	int fds[3] = { 2, 2, 2 };

	(void)state;
	one_up(&one);
	one.bed.fake.ops.gpu_set_socket = NULL;
	fe_negotiate(&one.bed, one.sock, REPLY_ACK);
	fe_send(one.sock, 1000, NEED, NULL, 0);
	assert_int_equal(fe_get_u64(&one.bed, one.sock, 1000), ENOTSUP);
	/* Swallowed whole, its fds closed, and the next one is understood. */
	fe_send_fds(one.sock, 0, NEED, big, sizeof(big), fds, 3);
	assert_int_equal(fe_get_u64(&one.bed, one.sock, 0), ENOTSUP);
	fe_send_fds(one.sock, VHUB_USER_GPU_SET_SOCKET, NEED, NULL, 0, fds, 1);
	assert_int_equal(fe_get_u64(&one.bed, one.sock, VHUB_USER_GPU_SET_SOCKET), ENOTSUP);
	fe_send_u64(one.sock, VHUB_USER_SEND_RARP, NEED, 1);
	assert_int_equal(fe_get_u64(&one.bed, one.sock, VHUB_USER_SEND_RARP), ENOTSUP);
	fe_fence(&one.bed, one.sock);
	assert_int_equal(one.bed.fake.calls[VHUB_USER_SEND_RARP], 0);
	assert_int_equal(one.bed.fake.calls[VHUB_USER_GPU_SET_SOCKET], 0);
	/* Nobody asks. */
	fe_send(one.sock, 1000, 0, NULL, 0);
	one_down(&one, -ENOTSUP);
}

static void
test_a_refusal_is_told_or_ends_the_session(void **state)
{
	struct one one;

	(void)state;
	one_up(&one);
	fe_negotiate(&one.bed, one.sock, REPLY_ACK);
	one.bed.fake.result[VHUB_USER_SET_OWNER] = -EEXIST;
	fe_send(one.sock, VHUB_USER_SET_OWNER, NEED, NULL, 0);
	assert_int_equal(fe_get_u64(&one.bed, one.sock, VHUB_USER_SET_OWNER), EEXIST);
	assert_int_equal(log_count(&one.log, "SET_OWNER (3) refused: File exists"), 1);
	fe_send(one.sock, VHUB_USER_SET_OWNER, 0, NULL, 0);
	WAIT_FOR(&one.bed, one.bed.n_completed == 1);
	assert_int_equal(log_count(&one.log, "SET_OWNER (3): refused"), 1);
	one_down(&one, -EEXIST);
}

static void
test_get_config_is_refused_with_an_empty_reply(void **state)
{
	const struct vhub_user_config config = { .size = 8 };
	struct fe_reply reply;
	struct one one;

	(void)state;
	one_up(&one);
	fe_negotiate(&one.bed, one.sock, VHUB_USER_PF(CONFIG));
	one.bed.fake.result[VHUB_USER_GET_CONFIG] = -EINVAL;
	fe_send(one.sock, VHUB_USER_GET_CONFIG, 0, &config, 20);
	fe_get_reply(&one.bed, one.sock, VHUB_USER_GET_CONFIG, &reply);
	assert_int_equal(reply.header.size, 0);
	fe_fence(&one.bed, one.sock);
	one_down(&one, 0);
}

static void
test_wrong_moments_are_refused_and_not_fatal(void **state)
{
	const struct vhub_user_vring_state ring = { 0, 256 };
	struct one one;
	int fd = 2;

	(void)state;
	one_up(&one);
	fe_send_u64(one.sock, VHUB_USER_SET_PROTOCOL_FEATURES, 0, REPLY_ACK);
	/* Before any features nobody knows yet; then bit 30 tells. */
	fe_send(one.sock, VHUB_USER_SET_VRING_ENABLE, NEED, &ring, sizeof(ring));
	assert_int_equal(fe_get_u64(&one.bed, one.sock, VHUB_USER_SET_VRING_ENABLE), 0);
	fe_send_u64(one.sock, VHUB_USER_SET_FEATURES, 0, 1);
	fe_send(one.sock, VHUB_USER_SET_VRING_ENABLE, NEED, &ring, sizeof(ring));
	assert_int_equal(fe_get_u64(&one.bed, one.sock, VHUB_USER_SET_VRING_ENABLE), EPERM);
	one.bed.fake.when = VHUB_USER_WHEN_STOPPED;
	fe_send_fds(one.sock, VHUB_USER_SET_VRING_KICK, NEED, &(uint64_t){ 0 }, 8, &fd, 1);
	assert_int_equal(fe_get_u64(&one.bed, one.sock, VHUB_USER_SET_VRING_KICK), EFAULT);
	one.bed.fake.when = VHUB_USER_WHEN_MEMORY;
	fe_send(one.sock, VHUB_USER_SET_VRING_NUM, NEED, &ring, sizeof(ring));
	assert_int_equal(fe_get_u64(&one.bed, one.sock, VHUB_USER_SET_VRING_NUM), EBUSY);
	assert_int_equal(one.bed.fake.calls[VHUB_USER_SET_VRING_NUM], 0);
	assert_int_equal(one.bed.fake.calls[VHUB_USER_SET_VRING_KICK], 0);
	assert_int_equal(one.bed.fake.calls[VHUB_USER_SET_VRING_ENABLE], 1);
	fe_fence(&one.bed, one.sock);
	one_down(&one, 0);
}

/* ---- pending requests ---- */

static void
test_while_one_is_pending_nothing_else_is_read(void **state)
{
	struct one one;

	(void)state;
	one_up(&one);
	fe_negotiate(&one.bed, one.sock, REPLY_ACK);
	one.bed.fake.result[VHUB_USER_SET_OWNER] = VHUB_REQ_PENDING;
	fe_send(one.sock, VHUB_USER_SET_OWNER, NEED, NULL, 0);
	fe_send(one.sock, VHUB_USER_GET_QUEUE_NUM, 0, NULL, 0);
	WAIT_FOR(&one.bed, one.bed.fake.pending != NULL);
	bed_turns(&one.bed, 5);
	assert_false(fe_readable(one.sock));
	assert_int_equal(one.bed.fake.calls[VHUB_USER_SET_OWNER], 1);
	assert_int_equal(one.bed.fake.calls[VHUB_USER_GET_QUEUE_NUM], 0);
	fake_done(&one.bed.fake, 0);
	assert_int_equal(fe_get_u64(&one.bed, one.sock, VHUB_USER_SET_OWNER), 0);
	fe_get_u64(&one.bed, one.sock, VHUB_USER_GET_QUEUE_NUM);
	/* The same with a refusal that is told. */
	fe_send(one.sock, VHUB_USER_SET_OWNER, NEED, NULL, 0);
	WAIT_FOR(&one.bed, one.bed.fake.pending != NULL);
	fake_done(&one.bed.fake, -ENOMEM);
	assert_int_equal(fe_get_u64(&one.bed, one.sock, VHUB_USER_SET_OWNER), ENOMEM);
	one_down(&one, 0);
}

static void
test_a_pending_refusal_that_cannot_be_told(void **state)
{
	struct one one;

	(void)state;
	one_up(&one);
	one.bed.fake.result[VHUB_USER_SET_OWNER] = VHUB_REQ_PENDING;
	fe_send(one.sock, VHUB_USER_SET_OWNER, 0, NULL, 0);
	WAIT_FOR(&one.bed, one.bed.fake.pending != NULL);
	fake_done(&one.bed.fake, -ENOMEM);
	one_down(&one, -ENOMEM);
}

static void
test_done_before_the_slot_returns(void **state)
{
	struct one one;

	(void)state;
	one_up(&one);
	fe_negotiate(&one.bed, one.sock, REPLY_ACK);
	one.bed.fake.done_in_slot = true;
	one.bed.fake.result[VHUB_USER_SET_OWNER] = -EIO;
	fe_send(one.sock, VHUB_USER_SET_OWNER, NEED, NULL, 0);
	assert_int_equal(fe_get_u64(&one.bed, one.sock, VHUB_USER_SET_OWNER), EIO);
	fe_fence(&one.bed, one.sock);
	one_down(&one, 0);
}

static double
thread_cpu_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void
test_a_held_session_hears_nothing_until_it_is_released(void **state)
{
	struct fake *fake;
	struct one one;

	(void)state;
	one_up(&one);
	fake = &one.bed.fake;
	assert_int_equal(vhub_session_hold(fake->session), 0);
	assert_int_equal(vhub_session_hold(fake->session), -EBUSY);
	fe_send(one.sock, VHUB_USER_SET_OWNER, 0, NULL, 0);
	bed_turns(&one.bed, 5);
	assert_int_equal(fake->calls[VHUB_USER_SET_OWNER], 0);
	vhub_session_release(fake->session);
	WAIT_FOR(&one.bed, fake->calls[VHUB_USER_SET_OWNER] == 1);

	fake->result[VHUB_USER_SET_OWNER] = VHUB_REQ_PENDING;
	fe_send(one.sock, VHUB_USER_SET_OWNER, 0, NULL, 0);
	WAIT_FOR(&one.bed, fake->pending != NULL);
	assert_int_equal(vhub_session_hold(fake->session), -EBUSY);
	fake_done(fake, 0);

	/* Neither a hang-up nor an end from our side comes through. */
	assert_int_equal(vhub_session_hold(fake->session), 0);
	hang_up(&one);
	bed_turns(&one.bed, 5);
	assert_int_equal(fake->n_closing, 0);
	vhub_session_end(fake->session, -EIO, "the test says so");
	bed_turns(&one.bed, 5);
	assert_int_equal(fake->n_closing, 0);
	assert_int_equal(vhub_session_hold(fake->session), -ESHUTDOWN);
	vhub_session_release(fake->session);
	one_down(&one, -EIO);
}

/* Also: the loop does not spin on a hang-up that nobody reads. */
static void
test_a_hang_up_waits_for_the_pending_request(void **state)
{
	double before_s;
	struct one one;

	(void)state;
	one_up(&one);
	one.bed.fake.result[VHUB_USER_SET_OWNER] = VHUB_REQ_PENDING;
	fe_send(one.sock, VHUB_USER_SET_OWNER, 0, NULL, 0);
	fe_send(one.sock, VHUB_USER_RESET_OWNER, 0, NULL, 0);
	WAIT_FOR(&one.bed, one.bed.fake.pending != NULL);
	hang_up(&one);
	/* At least half of 300 ms asleep, also where everything is slow. */
	before_s = thread_cpu_s();
	bed_turns(&one.bed, 300);
	assert_true(thread_cpu_s() - before_s < 0.15);
	assert_int_equal(one.bed.fake.n_closing, 0);
	fake_done(&one.bed.fake, 0);
	WAIT_FOR(&one.bed, one.bed.n_completed == 1);
	assert_int_equal(one.bed.fake.calls[VHUB_USER_RESET_OWNER], 1);
	one_down(&one, 0);
}

static void
test_ending_waits_for_the_pending_request(void **state)
{
	struct one one;

	(void)state;
	one_up(&one);
	one.bed.fake.result[VHUB_USER_GET_QUEUE_NUM] = VHUB_REQ_PENDING;
	fe_send(one.sock, VHUB_USER_GET_QUEUE_NUM, 0, NULL, 0);
	WAIT_FOR(&one.bed, one.bed.fake.pending != NULL);
	vhub_session_end(one.bed.fake.session, -ESHUTDOWN, "the test says so");
	vhub_session_end(one.bed.fake.session, -EIO, "twice");
	bed_turns(&one.bed, 5);
	assert_int_equal(one.bed.fake.n_closing, 0);
	fake_done(&one.bed.fake, 0);
	WAIT_FOR(&one.bed, one.bed.n_completed == 1);
	/* It was answered all the same. */
	fe_get_u64(&one.bed, one.sock, VHUB_USER_GET_QUEUE_NUM);
	one_down(&one, -ESHUTDOWN);
}

static void
test_a_slot_may_end_its_session(void **state)
{
	const int results[] = { 0, -EINVAL, VHUB_REQ_PENDING };
	struct one one;

	(void)state;
	for (int i = 0; i < 3; i++) {
		one_up(&one);
		one.bed.fake.end_in_slot = -ECANCELED;
		one.bed.fake.result[VHUB_USER_SET_OWNER] = results[i];
		fe_send(one.sock, VHUB_USER_SET_OWNER, 0, NULL, 0);
		fe_send(one.sock, VHUB_USER_RESET_OWNER, 0, NULL, 0);
		WAIT_FOR(&one.bed, one.bed.fake.n_calls == 1);
		if (results[i] == VHUB_REQ_PENDING) {
			bed_turns(&one.bed, 5);
			assert_int_equal(one.bed.fake.n_closing, 0);
			fake_done(&one.bed.fake, 0);
		}
		WAIT_FOR(&one.bed, one.bed.n_completed == 1);
		assert_int_equal(one.bed.fake.calls[VHUB_USER_RESET_OWNER], 0);
		one_down(&one, -ECANCELED);
	}
}

static void
test_the_run_completes_when_the_handler_has_closed(void **state)
{
	struct vhub_session *session;
	struct one one;

	(void)state;
	one_up(&one);
	one.bed.fake.hold_close = true;
	shutdown(one.sock, SHUT_WR);
	WAIT_FOR(&one.bed, one.bed.fake.n_closing == 1);
	bed_turns(&one.bed, 10);
	assert_int_equal(one.bed.n_completed, 0);
	/* The front end sees the end only once everything has been given back. */
	assert_false(fe_readable(one.sock));
	session = one.bed.fake.session;
	vhub_session_closed(session);
	assert_int_equal(one.bed.n_completed, 0);
	WAIT_FOR(&one.bed, one.bed.n_completed == 1);
	one_down(&one, 0);
}

/* ---- front ends that do not read ---- */

static unsigned int
fill_replies(struct one *one)
{
	unsigned int n = 0, before;

	do {
		before = one->bed.fake.n_calls;
		for (int i = 0; i < 16; i++, n++)
			fe_send(one->sock, VHUB_USER_GET_FEATURES, 0, NULL, 0);
		bed_turns(&one->bed, 3);
	} while (one->bed.fake.n_calls == before + 16 && n < 100000);
	return n;
}

static void
test_unread_replies_stop_only_the_reading(void **state)
{
	struct one one;
	double since_s;
	unsigned int n;

	(void)state;
	one_up(&one);
	n = fill_replies(&one);
	assert_true(one.bed.fake.n_calls < n);
	for (unsigned int i = 0; i < n; i++)
		fe_get_u64(&one.bed, one.sock, VHUB_USER_GET_FEATURES);
	assert_int_equal(one.bed.fake.n_calls, n);
	assert_false(fe_readable(one.sock));
	/* The wait has been forgotten, also when it would have ended. */
	for (since_s = now_s(); now_s() - since_s < 5.2;)
		bed_turns(&one.bed, 100);
	fe_fence(&one.bed, one.sock);
	one_down(&one, 0);
}

static void
test_a_front_end_that_never_reads_is_given_up(void **state)
{
	struct one one;
	double since_s;

	(void)state;
	one_up(&one);
	since_s = now_s();
	fill_replies(&one);
	while (one.bed.n_completed == 0 && now_s() - since_s < 60)
		bed_turn(&one.bed);
	assert_int_equal(one.bed.n_completed, 1);
	assert_true(now_s() - since_s >= 4.99);
	assert_int_equal(log_count(&one.log, "was not read for 5000 ms"), 1);
	hang_up(&one);
	one_down(&one, -ETIMEDOUT);
}

static void
test_a_front_end_that_hangs_up_with_replies_unread(void **state)
{
	struct one one;

	(void)state;
	one_up(&one);
	fill_replies(&one);
	hang_up(&one);
	one_down(&one, 0);
}

static void
test_a_front_end_that_reads_no_more_but_stays(void **state)
{
	struct one one;

	(void)state;
	one_up(&one);
	shutdown(one.sock, SHUT_RD);
	fe_send(one.sock, VHUB_USER_GET_FEATURES, 0, NULL, 0);
	WAIT_FOR(&one.bed, one.bed.n_completed == 1);
	hang_up(&one);
	one_down(&one, -EPIPE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hang_up),
		cmocka_unit_test(test_a_half_close_is_a_hang_up),
		cmocka_unit_test(test_replies_and_silence),
		cmocka_unit_test(test_reply_ack_counts_from_the_request_that_negotiates_it),
		cmocka_unit_test(test_set_log_base_is_answered_once_log_shmfd_is_negotiated),
		cmocka_unit_test(test_what_the_session_keeps),
		cmocka_unit_test(test_a_slot_sees_the_payload_and_zeros_after_it),
		cmocka_unit_test(test_replies_carry_nothing_old),
		cmocka_unit_test(test_a_reply_that_is_larger_than_a_reply_is_not_sent),
		cmocka_unit_test(test_fds_not_taken_are_closed_and_a_reply_fd_is_sent),
		cmocka_unit_test(test_the_front_ends_end_is_known_while_the_session_is_open),
		cmocka_unit_test(test_a_reply_with_an_fd_is_read_before_the_next_request),
		cmocka_unit_test(test_who_sends_more_and_does_not_read_an_fd_is_given_up),
		cmocka_unit_test(test_byte_by_byte),
		cmocka_unit_test(test_many_at_once_are_answered_in_order),
		cmocka_unit_test(test_one_session_has_its_turn_and_no_more),
		cmocka_unit_test(test_requests_left_behind_are_served_before_the_close),
		cmocka_unit_test(test_a_hang_up_inside_a_message),
		cmocka_unit_test(test_what_ends_the_session_at_once),
		cmocka_unit_test(test_not_supported_is_told_or_ends_the_session),
		cmocka_unit_test(test_a_refusal_is_told_or_ends_the_session),
		cmocka_unit_test(test_get_config_is_refused_with_an_empty_reply),
		cmocka_unit_test(test_wrong_moments_are_refused_and_not_fatal),
		cmocka_unit_test(test_while_one_is_pending_nothing_else_is_read),
		cmocka_unit_test(test_a_pending_refusal_that_cannot_be_told),
		cmocka_unit_test(test_done_before_the_slot_returns),
		cmocka_unit_test(test_a_held_session_hears_nothing_until_it_is_released),
		cmocka_unit_test(test_a_hang_up_waits_for_the_pending_request),
		cmocka_unit_test(test_ending_waits_for_the_pending_request),
		cmocka_unit_test(test_a_slot_may_end_its_session),
		cmocka_unit_test(test_the_run_completes_when_the_handler_has_closed),
		cmocka_unit_test(test_unread_replies_stop_only_the_reading),
		cmocka_unit_test(test_a_front_end_that_never_reads_is_given_up),
		cmocka_unit_test(test_a_front_end_that_hangs_up_with_replies_unread),
		cmocka_unit_test(test_a_front_end_that_reads_no_more_but_stays),
	};

	return cmocka_run_group_tests(tests, test_eal_up, NULL);
}
