/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Framing: a message in every cut, fds with any piece of it, too many of them, more payload than
 * fits, the end in the middle; and replies that do not fit the socket.
 */

#include "../lingering.h"
#include "conn_fixture.h"
#include "frame.h"
#include "vhub_fd.h"

#define PAYLOAD_BYTES 264u

struct ends {
	int front, back;
	struct conn_frame_in in;
	struct vhub_request req;
	unsigned int n_fds; /* of the process, before */
};

static void
ends_up(struct ends *ends)
{
	int pair[2];

	memset(ends, 0, sizeof(*ends));
	ends->n_fds = count_fds();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	ends->front = pair[0];
	ends->back = pair[1];
	ends->req.reply_fd = -1;
	conn_frame_reset(&ends->in, &ends->req);
	conn_frame_prepare(ends->back);
}

/* What the request had is closed by reset, and nothing else is left open. */
static void
ends_down(struct ends *ends)
{
	conn_frame_close(&ends->in, &ends->req);
	if (ends->front >= 0)
		close(ends->front);
	close(ends->back);
	assert_fds(ends->n_fds);
}

/* Reads on, header then payload; how often is bounded, for nothing may block or spin. */
static int
read_on(struct ends *ends)
{
	int ret = 0;

	for (int i = 0; i < 100000; i++) {
		ret = conn_frame_read_header(ends->back, &ends->in, &ends->req);
		if (ret > 0)
			ret = conn_frame_read_payload(ends->back, &ends->in, &ends->req);
		if (ret != 0 || !fe_readable(ends->back))
			return ret;
	}
	return ret;
}

static size_t
make_message(uint8_t *message, uint32_t request, uint32_t size)
{
	uint8_t payload[CONN_MAX_PAYLOAD_BYTES];

	for (uint32_t i = 0; i < size; i++)
		payload[i] = (uint8_t)(i * 7 + 1);
	return fe_message(message, request, 0, payload, size);
}

static void
check_message(const struct ends *ends, const uint8_t *message, size_t len)
{
	const uint32_t size = (uint32_t)(len - sizeof(struct vhub_user_header));

	assert_memory_equal(&ends->req.header, message, sizeof(struct vhub_user_header));
	assert_memory_equal(ends->req.payload.bytes, message + sizeof(struct vhub_user_header),
			size);
	for (size_t i = size; i < sizeof(ends->req.payload); i++)
		assert_int_equal(ends->req.payload.bytes[i], 0);
}

static void
test_nothing_there_is_no_reason_to_block(void **state)
{
	struct ends ends;

	(void)state;
	ends_up(&ends);
	assert_int_equal(conn_frame_read_header(ends.back, &ends.in, &ends.req), 0);
	assert_int_equal(ends.in.header_bytes, 0);
	ends_down(&ends);
}

static void
test_every_cut_in_two(void **state)
{
	uint8_t message[512];
	struct ends ends;
	size_t len;

	(void)state;
	len = make_message(message, VHUB_USER_SET_MEM_TABLE, PAYLOAD_BYTES);
	for (size_t cut = 1; cut < len; cut++) {
		ends_up(&ends);
		fe_send_bytes(ends.front, message, cut, NULL, 0);
		assert_int_equal(read_on(&ends), 0);
		fe_send_bytes(ends.front, message + cut, len - cut, NULL, 0);
		assert_int_equal(read_on(&ends), 1);
		check_message(&ends, message, len);
		ends_down(&ends);
	}
}

static void
test_one_byte_at_a_time_with_an_fd_at_each(void **state)
{
	uint8_t message[64];
	struct ends ends;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	size_t len;

	(void)state;
	len = make_message(message, VHUB_USER_SET_VRING_KICK, 8);
	ends_up(&ends);
	for (size_t i = 0; i < len; i++) {
		fe_send_bytes(ends.front, message + i, 1, &fd, 1);
		assert_int_equal(read_on(&ends), i == len - 1);
	}
	check_message(&ends, message, len);
	assert_int_equal(ends.req.n_fds, VHUB_USER_MAX_TABLE_REGIONS);
	assert_int_equal(ends.in.n_fds_surplus, len - VHUB_USER_MAX_TABLE_REGIONS);
	ends_down(&ends);
	close(fd);
}

static void
test_a_message_is_read_and_not_a_byte_of_the_next(void **state)
{
	uint8_t messages[1024];
	struct ends ends;
	size_t first, second;

	(void)state;
	first = make_message(messages, VHUB_USER_SET_MEM_TABLE, PAYLOAD_BYTES);
	second = make_message(messages + first, VHUB_USER_SET_FEATURES, 8);
	ends_up(&ends);
	fe_send_bytes(ends.front, messages, first + second, NULL, 0);
	assert_int_equal(conn_frame_read_header(ends.back, &ends.in, &ends.req), 1);
	assert_int_equal(conn_frame_read_payload(ends.back, &ends.in, &ends.req), 1);
	check_message(&ends, messages, first);
	conn_frame_reset(&ends.in, &ends.req);
	assert_int_equal(read_on(&ends), 1);
	check_message(&ends, messages + first, second);
	assert_false(fe_readable(ends.back));
	ends_down(&ends);
}

static void
test_without_a_payload_the_header_is_all(void **state)
{
	uint8_t message[64];
	struct ends ends;
	size_t len;

	(void)state;
	len = make_message(message, VHUB_USER_GET_FEATURES, 0);
	ends_up(&ends);
	fe_send_bytes(ends.front, message, len, NULL, 0);
	assert_int_equal(read_on(&ends), 1);
	check_message(&ends, message, len);
	ends_down(&ends);
}

static void
test_fds_keep_their_order_and_are_closed_on_exec(void **state)
{
	uint8_t message[512];
	struct ends ends;
	struct stat sent, got;
	int fds[8][2], ours[8];
	size_t len;

	(void)state;
	len = make_message(message, VHUB_USER_SET_MEM_TABLE, PAYLOAD_BYTES);
	ends_up(&ends);
	for (int i = 0; i < 8; i++) {
		assert_int_equal(pipe(fds[i]), 0);
		ours[i] = fds[i][0];
	}
	/* Five with the header, three with the end of the payload. */
	fe_send_bytes(ends.front, message, 12, ours, 5);
	fe_send_bytes(ends.front, message + 12, 100, NULL, 0);
	fe_send_bytes(ends.front, message + 112, len - 112, ours + 5, 3);
	assert_int_equal(read_on(&ends), 1);
	assert_int_equal(ends.req.n_fds, 8);
	assert_int_equal(ends.in.n_fds_surplus, 0);
	for (int i = 0; i < 8; i++) {
		fstat(ours[i], &sent);
		fstat(ends.req.fds[i], &got);
		assert_int_equal(sent.st_ino, got.st_ino);
		assert_true((fcntl(ends.req.fds[i], F_GETFD) & FD_CLOEXEC) != 0);
		close(fds[i][0]);
		close(fds[i][1]);
	}
	ends_down(&ends);
}

static void
test_a_taken_fd_is_not_closed_with_the_rest(void **state)
{
	uint8_t message[64];
	struct ends ends;
	int fds[2], taken;
	size_t len;

	(void)state;
	len = make_message(message, VHUB_USER_SET_OWNER, 0);
	ends_up(&ends);
	assert_int_equal(pipe(fds), 0);
	fe_send_bytes(ends.front, message, len, fds, 2);
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(read_on(&ends), 1);
	taken = vhub_request_take_fd(&ends.req, 1);
	assert_true(taken >= 0);
	assert_int_equal(vhub_request_take_fd(&ends.req, 1), -1);
	assert_int_equal(vhub_request_take_fd(&ends.req, 2), -1);
	conn_frame_reset(&ends.in, &ends.req);
	assert_true(fcntl(taken, F_GETFD) >= 0);
	close(taken);
	ends_down(&ends);
}

/* As many as one message can have. */
static void
send_253_fds(const struct ends *ends)
{
	const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	uint8_t message[64];
	int fds[253];

	for (int i = 0; i < 253; i++)
		fds[i] = fd;
	fe_send_bytes(ends->front, message, make_message(message, VHUB_USER_SET_OWNER, 0), fds,
			253);
	close(fd);
}

static void
test_253_fds(void **state)
{
	struct ends ends;

	(void)state;
	ends_up(&ends);
	send_253_fds(&ends);
	assert_int_equal(read_on(&ends), 1);
	assert_int_equal(ends.req.n_fds, VHUB_USER_MAX_TABLE_REGIONS);
	assert_int_equal(ends.in.n_fds_surplus, 253 - VHUB_USER_MAX_TABLE_REGIONS);
	ends_down(&ends);
}

/* A look finds the fds behind what is read: they come with their own message, and once. */
static void
test_fds_of_messages_sent_ahead(void **state)
{
	const unsigned int n_fds[] = { 0, 3, 0, 0, 8, 1, 253, 0, 253, 2 };
	uint8_t message[512];
	struct ends ends;
	int fds[253];
	size_t len;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)state;
	for (int i = 0; i < 253; i++)
		fds[i] = fd;
	ends_up(&ends);
	for (size_t i = 0; i < RTE_DIM(n_fds); i++) {
		len = make_message(message, 100 + (uint32_t)i, (uint32_t)i * 8);
		fe_send_bytes(ends.front, message, len, fds, n_fds[i]);
	}
	for (size_t i = 0; i < RTE_DIM(n_fds); i++) {
		assert_int_equal(read_on(&ends), 1);
		assert_int_equal(ends.req.header.request, 100 + i);
		assert_int_equal(ends.req.n_fds + ends.in.n_fds_surplus, n_fds[i]);
		conn_frame_reset(&ends.in, &ends.req);
	}
	assert_int_equal(ends.in.n_ahead, 0);
	/* And none is left of one that is not read any more. */
	for (size_t i = 0; i < 2; i++)
		fe_send_bytes(ends.front, message, len, fds, (unsigned int)i);
	assert_int_equal(read_on(&ends), 1);
	assert_int_equal(ends.in.n_ahead, 1);
	ends_down(&ends);
	close(fd);
}

/* ---- few numbers are free ---- */

/* Sends a message with 8 fds, the last of which is `fd`. */
static void
send_eight(struct ends *ends, int fd)
{
	uint8_t message[64];
	const size_t len = make_message(message, VHUB_USER_SET_OWNER, 0);
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int fds[8];

	for (int i = 0; i < 7; i++)
		fds[i] = null;
	fds[7] = fd;
	fe_send_bytes(ends->front, message, len, fds, 8);
	close(null);
}

/*
 * With every number of numbers free the message stays, and what is in it is not closed by anybody:
 * the last fd is one whose close would take long here, and resets its peer.
 */
static void
test_fds_that_find_no_room_stay_in_the_socket(void **state)
{
	struct rlimit limit;
	struct ends ends;
	char byte;
	int peer;

	(void)state;
	for (int room = 0; room <= 8; room++) {
		const int stuck = lingering_socket(2, &peer);

		ends_up(&ends);
		ends.n_fds--; /* without `stuck` */
		send_eight(&ends, stuck);
		close(stuck);
		limit = limit_fds(RTE_MAX(ends.back, ends.front) + 1 + room);
		assert_int_equal(read_on(&ends), -EMFILE);
		assert_int_equal(ends.req.n_fds, 0);
		assert_int_equal(read_on(&ends), -EMFILE);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
		assert_fds(ends.n_fds + 2);
		/* Nor is one left open that was had for a moment. */
		assert_int_equal(read_on(&ends), 1);
		assert_int_equal(ends.req.n_fds, 8);
		assert_int_equal(recv(peer, &byte, 1, MSG_DONTWAIT), 1); /* not reset */
		close(peer);
		ends.n_fds--;
		ends_down(&ends);
	}
}

/* Others find numbers when front ends do not. */
static void
test_half_of_a_small_table_is_not_for_front_ends(void **state)
{
	struct rlimit limit;
	struct ends ends;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), other;

	(void)state;
	ends_up(&ends);
	send_eight(&ends, fd);
	limit = limit_fds(2 * (ends.back + 4));
	assert_int_equal(read_on(&ends), -EMFILE);
	other = dup(fd);
	assert_true(other >= 0);
	close(other);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(read_on(&ends), 1);
	assert_int_equal(ends.req.n_fds, 8);
	ends_down(&ends);
	close(fd);
}

/* In a table of twice as many numbers the upper half is the reserve. */
#define N_NUMBERS 200

struct stuck_close {
	struct vhub_fd_job job;
	struct ends *ends;
};

static unsigned int
count_reserve(void)
{
	unsigned int n = 0;

	for (int fd = N_NUMBERS; fd < 2 * N_NUMBERS; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* Whatever is to be closed meanwhile waits behind this. */
static void
read_while_stuck(struct vhub_fd_job *job)
{
	struct stuck_close *stuck = vhub_container_of(job, struct stuck_close, job);
	const struct rlimit limit = limit_fds(2 * N_NUMBERS);
	const unsigned int n = count_reserve();

	assert_int_equal(read_on(stuck->ends), -EMFILE);
	assert_int_equal(count_reserve(), n);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* More than there are numbers for: it would fill those of the others as long as the close is stuck. */
static void
test_no_fd_gets_into_the_reserve(void **state)
{
	struct ends ends;
	struct stuck_close stuck = { .job = { .run = read_while_stuck }, .ends = &ends };

	(void)state;
	ends_up(&ends);
	send_253_fds(&ends);
	vhub_fd_account_run(NULL, &stuck.job);
	assert_int_equal(read_on(&ends), 1);
	assert_int_equal(ends.req.n_fds + ends.in.n_fds_surplus, 253);
	ends_down(&ends);
}

static void
test_without_fds_a_message_needs_no_numbers(void **state)
{
	struct rlimit limit;
	uint8_t message[64];
	struct ends ends;
	size_t len;

	(void)state;
	len = make_message(message, VHUB_USER_SET_OWNER, 0);
	ends_up(&ends);
	fe_send_bytes(ends.front, message, len, NULL, 0);
	limit = limit_fds(1);
	assert_int_equal(read_on(&ends), 1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	ends_down(&ends);
}

/* Where it is not in line, the kernel skips the byte, and closes what came with it. */
static void
test_fds_out_of_band_come_in_line(void **state)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(sizeof(int))];
	} control = { .bytes = { 0 } };
	uint8_t message[64];
	struct iovec iov = { message, 1 };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control) };
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct ends ends;
	size_t len;

	(void)state;
	len = make_message(message, VHUB_USER_SET_OWNER, 0);
	ends_up(&ends);
	control.align.cmsg_level = SOL_SOCKET;
	control.align.cmsg_type = SCM_RIGHTS;
	control.align.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.align), &fd, sizeof(int));
	/* A kernel without bytes out of band on such sockets has no such hole. */
	if (sendmsg(ends.front, &msg, MSG_OOB) == 1) {
		fe_send_bytes(ends.front, message + 1, len - 1, NULL, 0);
		assert_int_equal(read_on(&ends), 1);
		assert_int_equal(ends.req.n_fds, 1);
	} else {
		assert_int_equal(errno, EOPNOTSUPP);
	}
	ends_down(&ends);
	close(fd);
}

/* An inherited socket may be set to tell credentials: from then on it does not, and eight fds come. */
static void
test_credentials_are_ignored(void **state)
{
	const int on = 1;
	uint8_t message[512];
	struct ends ends;
	int fds[8];
	size_t len;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)state;
	len = make_message(message, VHUB_USER_SET_MEM_TABLE, PAYLOAD_BYTES);
	for (int i = 0; i < 8; i++)
		fds[i] = fd;
	ends_up(&ends);
	assert_int_equal(setsockopt(ends.back, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)), 0);
	conn_frame_prepare(ends.back);
	fe_send_bytes(ends.front, message, len, fds, 8);
	assert_int_equal(read_on(&ends), 1);
	assert_int_equal(ends.req.n_fds, 8);
	ends_down(&ends);
	close(fd);
}

static void
test_more_payload_than_fits_is_thrown_away(void **state)
{
	const uint32_t sizes[] = { 511, 512, 513, 1535, 1536, 1537, 40000, CONN_MAX_PAYLOAD_BYTES };
	static uint8_t message[2 * CONN_MAX_PAYLOAD_BYTES];
	struct ends ends;
	size_t len, sent, piece;

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		len = make_message(message, 1000, sizes[i]);
		len += make_message(message + len, VHUB_USER_SET_FEATURES, 8);
		ends_up(&ends);
		for (sent = 0; sent < len; sent += piece) {
			piece = len - sent < 3000 ? len - sent : 3000;
			fe_send_bytes(ends.front, message + sent, piece, NULL, 0);
			if (sent + piece < len - 20)
				assert_int_equal(read_on(&ends), 0);
		}
		assert_int_equal(read_on(&ends), 1);
		assert_int_equal(ends.in.payload_bytes, sizes[i]);
		assert_memory_equal(ends.req.payload.bytes, message + 12, 511);
		conn_frame_reset(&ends.in, &ends.req);
		assert_int_equal(read_on(&ends), 1);
		assert_int_equal(ends.req.header.request, VHUB_USER_SET_FEATURES);
		ends_down(&ends);
	}
}

/* The end of the connection after any number of bytes, with fds that came before it. */
static void
test_the_end_at_every_byte(void **state)
{
	uint8_t message[512];
	struct ends ends;
	size_t len;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)state;
	len = make_message(message, VHUB_USER_SET_MEM_TABLE, PAYLOAD_BYTES);
	for (size_t cut = 0; cut < len; cut++) {
		ends_up(&ends);
		if (cut > 0)
			fe_send_bytes(ends.front, message, cut, &fd, 1);
		close(ends.front);
		ends.front = -1;
		assert_int_equal(read_on(&ends), -ENODATA);
		assert_int_equal(ends.in.header_bytes + ends.in.payload_bytes, cut);
		ends_down(&ends);
	}
	close(fd);
}

static void
test_a_peer_that_left_something_unread_has_hung_up(void **state)
{
	struct ends ends;

	(void)state;
	ends_up(&ends);
	assert_int_equal(write(ends.back, "unread", 6), 6);
	close(ends.front);
	ends.front = -1;
	assert_int_equal(read_on(&ends), -ENODATA);
	ends_down(&ends);
}

/* ---- replies ---- */

static void
set_reply(struct ends *ends, uint32_t size, int fd)
{
	ends->req.header.request = VHUB_USER_GET_CONFIG;
	ends->req.reply_size_bytes = size;
	ends->req.reply_fd = fd;
	for (uint32_t i = 0; i < size; i++)
		ends->req.reply.bytes[i] = (uint8_t)(i + 3);
}

static void
test_a_reply_of_every_size(void **state)
{
	struct conn_frame_out out = { .fd = -1 };
	struct fe_reply reply;
	struct ends ends;

	(void)state;
	ends_up(&ends);
	for (uint32_t size = 0; size <= sizeof(ends.req.reply); size++) {
		set_reply(&ends, size, -1);
		conn_frame_reply(&out, &ends.req);
		assert_int_equal(conn_frame_send(ends.back, &out), 1);
		assert_int_equal(out.size_bytes, 0);
		fe_take_reply(ends.front, &reply);
		assert_int_equal(reply.header.request, VHUB_USER_GET_CONFIG);
		assert_int_equal(reply.header.size, size);
		assert_memory_equal(reply.payload, ends.req.reply.bytes, size);
		assert_false(fe_readable(ends.front));
	}
	ends_down(&ends);
}

static void
test_the_fd_of_a_reply_goes_once_and_is_closed_here(void **state)
{
	struct conn_frame_out out = { .fd = -1 };
	struct fe_reply reply;
	struct ends ends;

	(void)state;
	ends_up(&ends);
	set_reply(&ends, 8, open("/dev/null", O_RDONLY | O_CLOEXEC));
	conn_frame_reply(&out, &ends.req);
	assert_int_equal(ends.req.reply_fd, -1);
	assert_int_equal(conn_frame_send(ends.back, &out), 1);
	fe_take_reply(ends.front, &reply);
	assert_true(reply.fd >= 0);
	close(reply.fd);
	ends_down(&ends);
}

static void
test_a_reply_that_is_not_sent_leaks_nothing(void **state)
{
	struct conn_frame_out out = { .fd = -1 };
	struct ends ends;

	(void)state;
	ends_up(&ends);
	set_reply(&ends, 8, open("/dev/null", O_RDONLY | O_CLOEXEC));
	conn_frame_reply(&out, &ends.req);
	conn_frame_drop(&out);
	conn_frame_drop(&out);
	/* One that its request still holds. */
	set_reply(&ends, 8, open("/dev/null", O_RDONLY | O_CLOEXEC));
	ends_down(&ends);
}

static void
test_a_full_socket_is_waited_for_and_nothing_is_lost_or_doubled(void **state)
{
	const int small = 1; /* the kernel makes it its least */
	struct conn_frame_out out = { .fd = -1 };
	struct fe_reply reply;
	struct ends ends;
	unsigned int n = 0;

	(void)state;
	ends_up(&ends);
	assert_int_equal(setsockopt(ends.back, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	do {
		set_reply(&ends, 512, -1);
		conn_frame_reply(&out, &ends.req);
		assert_true(++n < 100000);
	} while (conn_frame_send(ends.back, &out) == 1);
	assert_int_equal(conn_frame_send(ends.back, &out), 0);
	for (; n > 0; n--) {
		if (!fe_readable(ends.front))
			assert_int_equal(conn_frame_send(ends.back, &out), 1);
		fe_take_reply(ends.front, &reply);
		assert_int_equal(reply.header.size, 512);
		assert_memory_equal(reply.payload, ends.req.reply.bytes, 512);
	}
	assert_int_equal(conn_frame_send(ends.back, &out), 1);
	assert_false(fe_readable(ends.front));
	ends_down(&ends);
}

static void
test_sending_to_a_peer_that_has_gone(void **state)
{
	struct conn_frame_out out = { .fd = -1 };
	struct ends ends;

	(void)state;
	ends_up(&ends);
	close(ends.front);
	ends.front = -1;
	set_reply(&ends, 8, -1);
	conn_frame_reply(&out, &ends.req);
	assert_int_equal(conn_frame_send(ends.back, &out), -EPIPE);
	ends_down(&ends);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_there_is_no_reason_to_block),
		cmocka_unit_test(test_every_cut_in_two),
		cmocka_unit_test(test_one_byte_at_a_time_with_an_fd_at_each),
		cmocka_unit_test(test_a_message_is_read_and_not_a_byte_of_the_next),
		cmocka_unit_test(test_without_a_payload_the_header_is_all),
		cmocka_unit_test(test_fds_keep_their_order_and_are_closed_on_exec),
		cmocka_unit_test(test_a_taken_fd_is_not_closed_with_the_rest),
		cmocka_unit_test(test_253_fds),
		cmocka_unit_test(test_fds_of_messages_sent_ahead),
		cmocka_unit_test(test_fds_that_find_no_room_stay_in_the_socket),
		cmocka_unit_test(test_half_of_a_small_table_is_not_for_front_ends),
		cmocka_unit_test(test_no_fd_gets_into_the_reserve),
		cmocka_unit_test(test_without_fds_a_message_needs_no_numbers),
		cmocka_unit_test(test_fds_out_of_band_come_in_line),
		cmocka_unit_test(test_credentials_are_ignored),
		cmocka_unit_test(test_more_payload_than_fits_is_thrown_away),
		cmocka_unit_test(test_the_end_at_every_byte),
		cmocka_unit_test(test_a_peer_that_left_something_unread_has_hung_up),
		cmocka_unit_test(test_a_reply_of_every_size),
		cmocka_unit_test(test_the_fd_of_a_reply_goes_once_and_is_closed_here),
		cmocka_unit_test(test_a_reply_that_is_not_sent_leaks_nothing),
		cmocka_unit_test(test_a_full_socket_is_waited_for_and_nothing_is_lost_or_doubled),
		cmocka_unit_test(test_sending_to_a_peer_that_has_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
