/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A slot that serves front ends for ever: one after the other, a second one while the first is
 * alive and while it is being drained, the stop in every state, the numbers; and that a stalled
 * front end stops nobody else.
 */
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "../lingering.h"
#include "conn_fixture.h"
#include "vhub_fd.h"
#include "vhub_work.h"

struct slot {
	struct bed bed;
	char dir[64];
	char path[96];
	struct vhub_server *server;
	unsigned int n_fds;
};

static void
slot_up(struct slot *slot)
{
	struct vhub_connection *connection;
	struct vhub_listener_options options = { .owner = (uid_t)-1, .group = (gid_t)-1 };

	slot->n_fds = count_fds();
	bed_up(&slot->bed);
	make_dir(slot->dir);
	snprintf(slot->path, sizeof(slot->path), "%s/slot.sock", slot->dir);
	options.path = slot->path;
	assert_int_equal(vhub_listener_create(&options, &connection), 0);
	assert_int_equal(vhub_serve(connection, &slot->bed.fake.handler, &slot->bed.executor,
					 &slot->server),
			0);
}

static void
slot_down(struct slot *slot)
{
	if (slot->server != NULL)
		vhub_server_stop(slot->server, bed_complete, &slot->bed);
	WAIT_FOR(&slot->bed, slot->bed.n_completed == 1);
	assert_int_equal(slot->bed.result, 0);
	assert_int_equal(slot->bed.fake.n_opened, slot->bed.fake.n_closing);
	assert_false(exists(slot->path));
	assert_int_equal(rmdir(slot->dir), 0);
	bed_down(&slot->bed);
	assert_fds(slot->n_fds);
}

static struct vhub_server_stats
stats_of(struct slot *slot)
{
	struct vhub_server_stats stats;

	vhub_server_get_stats(slot->server, &stats);
	return stats;
}

/* A front end that is being served. */
static int
come(struct slot *slot)
{
	int sock = fe_connect(slot->path);

	assert_true(sock >= 0);
	fe_fence(&slot->bed, sock);
	return sock;
}

static void
fe_take_bytes(int sock, size_t n)
{
	uint8_t bytes[64];

	assert_int_equal(recv(sock, bytes, n, MSG_DONTWAIT), n);
}

static void
test_one_after_the_other(void **state)
{
	struct slot slot;
	int sock;

	(void)state;
	slot_up(&slot);
	for (unsigned int i = 1; i <= 100; i++) {
		sock = come(&slot);
		assert_int_equal(stats_of(&slot).sessions, i);
		assert_true(stats_of(&slot).connected);
		close(sock);
	}
	WAIT_FOR(&slot.bed, !stats_of(&slot).connected);
	assert_int_equal(stats_of(&slot).refused, 0);
	assert_int_equal(stats_of(&slot).protocol_errors, 0);
	slot_down(&slot);
}

static void
test_names_count_the_sessions(void **state)
{
	struct slot slot;
	int sock;

	(void)state;
	slot_up(&slot);
	sock = come(&slot);
	assert_string_equal(vhub_session_name(slot.bed.fake.session), "fake0#1");
	close(sock);
	sock = come(&slot);
	assert_string_equal(vhub_session_name(slot.bed.fake.session), "fake0#2");
	close(sock);
	slot_down(&slot);
}

static void
test_a_second_front_end_is_turned_away_while_the_first_goes_on(void **state)
{
	struct slot slot;
	int first, second;

	(void)state;
	slot_up(&slot);
	first = come(&slot);
	for (unsigned int i = 1; i <= 20; i++) {
		second = fe_connect(slot.path);
		assert_true(second >= 0);
		WAIT_FOR(&slot.bed, fe_is_closed(second));
		close(second);
		assert_int_equal(stats_of(&slot).refused, i);
		fe_fence(&slot.bed, first);
	}
	assert_int_equal(slot.bed.fake.n_opened, 1);
	close(first);
	slot_down(&slot);
}

/* A front end that has not read an fd, which was sent to it; its session has ended. */
static int
leave_an_fd_unread(struct slot *slot, bool hide)
{
	const unsigned int n_closing = slot->bed.fake.n_closing;
	int sock = come(slot);

	slot->bed.fake.reply_fd = memfd_create("reply", MFD_CLOEXEC);
	assert_true(slot->bed.fake.reply_fd >= 0);
	fe_send(sock, VHUB_USER_GET_QUEUE_NUM, 0, NULL, 0);
	WAIT_FOR(&slot->bed, fe_readable(sock));
	/* Its own end, on the way to us. */
	if (hide)
		fe_send_fds(sock, VHUB_USER_SET_LOG_FD, 0, NULL, 0, &sock, 1);
	vhub_session_end(slot->bed.fake.session, -EIO, "the test says so");
	WAIT_FOR(&slot->bed, slot->bed.fake.n_closing > n_closing);
	close(slot->bed.fake.reply_fd);
	slot->bed.fake.reply_fd = -1;
	return sock;
}

static void
test_a_slot_takes_nobody_while_a_reply_with_an_fd_is_unread(void **state)
{
	struct slot slot;
	int first, second;

	(void)state;
	slot_up(&slot);
	first = leave_an_fd_unread(&slot, false);
	for (unsigned int i = 1; i <= 20; i++) {
		second = fe_connect(slot.path);
		assert_true(second >= 0);
		WAIT_FOR(&slot.bed, fe_is_closed(second));
		close(second);
		assert_int_equal(stats_of(&slot).refused, i);
	}
	/* It has to be read whole, or nobody can do that any more. */
	fe_take_bytes(first, sizeof(struct vhub_user_header));
	second = fe_connect(slot.path);
	WAIT_FOR(&slot.bed, fe_is_closed(second));
	close(second);
	fe_take_bytes(first, 8);
	second = come(&slot);
	close(second);
	close(first);
	close(leave_an_fd_unread(&slot, false));
	close(come(&slot));
	/* And the slot may go meanwhile. */
	first = leave_an_fd_unread(&slot, false);
	vhub_server_stop(slot.server, bed_complete, &slot.bed);
	slot.server = NULL;
	WAIT_FOR(&slot.bed, slot.bed.n_completed == 1);
	close(first);
	slot_down(&slot);
}

static void
test_a_socket_hidden_in_itself_is_found(void **state)
{
	struct slot slot;

	(void)state;
	slot_up(&slot);
	close(leave_an_fd_unread(&slot, true));
	close(come(&slot));
	slot_down(&slot);
}

/* The hang-up and the next front end are there in the same turn, in any order. */
static void
test_a_second_front_end_right_after_the_hang_up_is_served(void **state)
{
	struct slot slot;
	int sock;

	(void)state;
	slot_up(&slot);
	sock = come(&slot);
	for (int i = 0; i < 50; i++) {
		close(sock);
		sock = come(&slot);
	}
	close(sock);
	assert_int_equal(stats_of(&slot).refused, 0);
	assert_int_equal(slot.bed.fake.n_opened, 51);
	slot_down(&slot);
}

static void
test_a_second_front_end_waits_while_the_slot_drains(void **state)
{
	struct slot slot;
	int first, second, third;
	double since_s;

	(void)state;
	slot_up(&slot);
	first = come(&slot);
	slot.bed.fake.hold_close = true;
	close(first);
	WAIT_FOR(&slot.bed, slot.bed.fake.n_closing == 1);
	second = fe_connect(slot.path);
	fe_send(second, VHUB_USER_GET_FEATURES, 0, NULL, 0);
	bed_turns(&slot.bed, 300);
	assert_false(fe_readable(second));
	/* A third is too many. */
	third = fe_connect(slot.path);
	WAIT_FOR(&slot.bed, fe_is_closed(third));
	close(third);
	assert_int_equal(stats_of(&slot).refused, 1);
	assert_false(fe_readable(second));
	slot.bed.fake.hold_close = false;
	vhub_session_closed(slot.bed.fake.session);
	fe_get_u64(&slot.bed, second, VHUB_USER_GET_FEATURES);
	assert_int_equal(slot.bed.fake.n_opened, 2);
	/* Its second is over, and means nothing any more. */
	for (since_s = now_s(); now_s() - since_s < 1.1;)
		bed_turns(&slot.bed, 10);
	fe_fence(&slot.bed, second);
	assert_int_equal(stats_of(&slot).refused, 1);
	close(second);
	slot_down(&slot);
}

static void
test_a_second_front_end_waits_for_a_second_and_no_longer(void **state)
{
	struct slot slot;
	int first, second;
	double since_s;

	(void)state;
	slot_up(&slot);
	first = come(&slot);
	slot.bed.fake.hold_close = true;
	close(first);
	WAIT_FOR(&slot.bed, slot.bed.fake.n_closing == 1);
	second = fe_connect(slot.path);
	since_s = now_s();
	WAIT_FOR(&slot.bed, fe_is_closed(second));
	assert_true(now_s() - since_s >= 0.99);
	/* It is no other wait, they have 5 s; a machine may be slow. */
	assert_true(now_s() - since_s < 4.5);
	close(second);
	assert_int_equal(stats_of(&slot).refused, 1);
	slot.bed.fake.hold_close = false;
	vhub_session_closed(slot.bed.fake.session);
	second = come(&slot);
	close(second);
	slot_down(&slot);
}

/* Who waits and gives up does not keep the place. */
static void
test_the_place_of_one_who_left_is_free(void **state)
{
	struct slot slot;
	int first, second, third;

	(void)state;
	slot_up(&slot);
	first = come(&slot);
	slot.bed.fake.hold_close = true;
	close(first);
	WAIT_FOR(&slot.bed, slot.bed.fake.n_closing == 1);
	second = fe_connect(slot.path);
	bed_turns(&slot.bed, 20);
	close(second);
	third = fe_connect(slot.path);
	bed_turns(&slot.bed, 20);
	assert_false(fe_is_closed(third));
	slot.bed.fake.hold_close = false;
	vhub_session_closed(slot.bed.fake.session);
	fe_fence(&slot.bed, third);
	close(third);
	slot_down(&slot);
}

static void
test_a_handler_that_refuses_to_open(void **state)
{
	struct slot slot;
	int sock;

	(void)state;
	slot_up(&slot);
	slot.bed.fake.open_result = -ENODEV;
	sock = fe_connect(slot.path);
	WAIT_FOR(&slot.bed, fe_is_closed(sock));
	close(sock);
	assert_int_equal(stats_of(&slot).sessions, 0);
	assert_int_equal(stats_of(&slot).refused, 1);
	slot.bed.fake.open_result = 0;
	slot.bed.fake.n_opened = 0;
	sock = come(&slot);
	close(sock);
	slot_down(&slot);
}

static void
test_numbers(void **state)
{
	struct vhub_server_stats stats;
	struct slot slot;
	int sock;

	(void)state;
	slot_up(&slot);
	sock = come(&slot);
	fe_negotiate(&slot.bed, sock, VHUB_USER_PF(REPLY_ACK));
	slot.bed.fake.result[VHUB_USER_SET_OWNER] = -EEXIST;
	fe_send(sock, VHUB_USER_SET_OWNER, VHUB_USER_NEED_REPLY, NULL, 0);
	assert_int_equal(fe_get_u64(&slot.bed, sock, VHUB_USER_SET_OWNER), EEXIST);
	fe_send(sock, 99, VHUB_USER_NEED_REPLY, NULL, 0);
	assert_int_equal(fe_get_u64(&slot.bed, sock, 99), ENOTSUP);
	fe_send(sock, VHUB_USER_GET_FEATURES, VHUB_USER_REPLY, NULL, 0);
	WAIT_FOR(&slot.bed, fe_is_closed(sock));
	close(sock);
	stats = stats_of(&slot);
	assert_int_equal(stats.sessions, 1);
	assert_int_equal(stats.protocol_errors, 1);
	assert_int_equal(stats.refused_requests, 2);
	assert_int_equal(stats.requests, 5);
	assert_int_equal(stats.by_request[VHUB_USER_GET_FEATURES], 2);
	assert_int_equal(stats.by_request[VHUB_USER_SET_PROTOCOL_FEATURES], 1);
	assert_int_equal(stats.by_request[VHUB_USER_SET_FEATURES], 1);
	assert_int_equal(stats.by_request[VHUB_USER_SET_OWNER], 1);
	assert_false(stats.connected);
	slot_down(&slot);
}

/* What front ends can make us print is bounded. */
static void
test_log_lines_are_bounded(void **state)
{
	struct log_catcher log;
	struct slot slot;
	int sock;

	(void)state;
	log_catch(&log);
	slot_up(&slot);
	for (int i = 0; i < 300; i++) {
		sock = fe_connect(slot.path);
		fe_send(sock, VHUB_USER_SET_OWNER, VHUB_USER_REPLY, NULL, 0);
		WAIT_FOR(&slot.bed, fe_is_closed(sock));
		close(sock);
	}
	assert_int_equal(stats_of(&slot).protocol_errors, 300);
	assert_in_range(log_count(&log, "session ended"), 10, 100);
	slot_down(&slot);
	log_release(&log);
}

static void
test_a_stalled_front_end_stops_nobody_else(void **state)
{
	const struct vhub_user_header header = { VHUB_USER_SET_FEATURES, VHUB_USER_VERSION, 8 };
	struct fake other;
	struct vhub_connection *connection;
	struct vhub_server *server;
	struct slot slot;
	int stalled, pair[2], fd = 2;

	(void)state;
	slot_up(&slot);
	stalled = come(&slot);
	/* Half a message, with an fd where none belongs: not judged before it is whole. */
	fe_send_bytes(stalled, &header, sizeof(header), &fd, 1);
	fe_send_bytes(stalled, "1234", 4, NULL, 0);
	fake_init(&other);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(vhub_connection_from_fd(pair[1], &connection), 0);
	assert_int_equal(vhub_serve(connection, &other.handler, &slot.bed.executor, &server), 0);
	for (int i = 0; i < 200; i++)
		fe_fence(&slot.bed, pair[0]);
	assert_false(fe_is_closed(stalled));
	assert_int_equal(slot.bed.fake.calls[VHUB_USER_SET_FEATURES], 0);
	vhub_server_stop(server, NULL, NULL);
	WAIT_FOR(&slot.bed, fe_is_closed(pair[0]));
	close(pair[0]);
	close(stalled);
	slot_down(&slot);
}

/* ---- the stop ---- */

static void
test_stop_with_nobody_there(void **state)
{
	struct slot slot;

	(void)state;
	slot_up(&slot);
	bed_turn(&slot.bed);
	vhub_server_stop(slot.server, bed_complete, &slot.bed);
	/* At once, so that nobody else comes; the completion follows on the loop. */
	assert_false(exists(slot.path));
	assert_int_equal(slot.bed.n_completed, 0);
	slot.server = NULL;
	slot_down(&slot);
}

static void
test_stop_closes_the_session_first(void **state)
{
	struct slot slot;
	int sock;

	(void)state;
	slot_up(&slot);
	sock = come(&slot);
	slot.bed.fake.hold_close = true;
	vhub_server_stop(slot.server, bed_complete, &slot.bed);
	vhub_server_stop(slot.server, bed_complete, &slot.bed); /* twice is once */
	WAIT_FOR(&slot.bed, slot.bed.fake.n_closing == 1);
	bed_turns(&slot.bed, 20);
	assert_int_equal(slot.bed.n_completed, 0);
	assert_int_equal(slot.bed.fake.reason, -ESHUTDOWN);
	vhub_session_closed(slot.bed.fake.session);
	WAIT_FOR(&slot.bed, slot.bed.n_completed == 1);
	assert_true(fe_is_closed(sock));
	close(sock);
	slot.server = NULL;
	slot_down(&slot);
}

static void
test_stop_while_a_request_is_pending(void **state)
{
	struct slot slot;
	int sock;

	(void)state;
	slot_up(&slot);
	sock = come(&slot);
	slot.bed.fake.result[VHUB_USER_SET_OWNER] = VHUB_REQ_PENDING;
	fe_send(sock, VHUB_USER_SET_OWNER, 0, NULL, 0);
	WAIT_FOR(&slot.bed, slot.bed.fake.pending != NULL);
	vhub_server_stop(slot.server, bed_complete, &slot.bed);
	bed_turns(&slot.bed, 10);
	assert_int_equal(slot.bed.fake.n_closing, 0);
	fake_done(&slot.bed.fake, 0);
	close(sock);
	slot.server = NULL;
	slot_down(&slot);
}

static void
test_stop_while_one_is_drained_and_another_waits(void **state)
{
	struct slot slot;
	int first, second;

	(void)state;
	slot_up(&slot);
	first = come(&slot);
	slot.bed.fake.hold_close = true;
	close(first);
	WAIT_FOR(&slot.bed, slot.bed.fake.n_closing == 1);
	second = fe_connect(slot.path);
	bed_turns(&slot.bed, 20);
	vhub_server_stop(slot.server, bed_complete, &slot.bed);
	assert_true(fe_is_closed(second));
	close(second);
	vhub_session_closed(slot.bed.fake.session);
	slot.server = NULL;
	slot_down(&slot);
	assert_int_equal(slot.bed.fake.n_opened, 1);
}

static void
test_a_stream_is_served_once_and_is_quiet_then(void **state)
{
	struct vhub_connection *connection;
	struct vhub_server *server;
	struct vhub_server_stats stats;
	struct bed bed;
	int pair[2];

	(void)state;
	bed_up(&bed);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(vhub_connection_from_fd(pair[1], &connection), 0);
	assert_int_equal(vhub_serve(connection, &bed.fake.handler, &bed.executor, &server), 0);
	fe_fence(&bed, pair[0]);
	close(pair[0]);
	WAIT_FOR(&bed, bed.fake.n_closing == 1);
	bed_turns(&bed, 20);
	vhub_server_get_stats(server, &stats);
	assert_int_equal(stats.sessions, 1);
	assert_false(stats.connected);
	vhub_server_stop(server, bed_complete, &bed);
	WAIT_FOR(&bed, bed.n_completed == 1);
	bed_down(&bed);
}

/* ---- being told that a front end has left ---- */

struct leavings {
	struct slot *slot;
	unsigned int n;
	int reason; /* of the last one */
	bool stop;
};

static void
on_left(void *arg, int reason)
{
	struct leavings *leavings = arg;

	leavings->n++;
	leavings->reason = reason;
	if (leavings->stop) {
		vhub_server_stop(leavings->slot->server, bed_complete, &leavings->slot->bed);
		leavings->slot->server = NULL;
	}
}

static void
test_each_leaving_is_told_with_its_reason(void **state)
{
	struct slot slot;
	struct leavings leavings = { .slot = &slot };
	int sock;

	(void)state;
	slot_up(&slot);
	vhub_server_on_left(slot.server, on_left, &leavings);
	close(come(&slot));
	WAIT_FOR(&slot.bed, leavings.n == 1);
	assert_int_equal(leavings.reason, 0);
	assert_false(stats_of(&slot).connected);
	sock = come(&slot);
	assert_int_equal(send(sock, "half", 4, 0), 4);
	close(sock);
	WAIT_FOR(&slot.bed, leavings.n == 2);
	assert_int_equal(leavings.reason, -ECONNRESET);
	slot.bed.fake.open_result = -ENODEV;
	sock = fe_connect(slot.path);
	WAIT_FOR(&slot.bed, leavings.n == 3);
	assert_int_equal(leavings.reason, -ENODEV);
	close(sock);
	slot.bed.fake.n_opened = slot.bed.fake.n_closing;
	vhub_server_on_left(slot.server, NULL, NULL);
	slot_down(&slot);
	assert_int_equal(leavings.n, 3);
}

static void
test_a_leaving_is_not_told_while_another_waits(void **state)
{
	struct slot slot;
	struct leavings leavings = { .slot = &slot };
	int first, second;

	(void)state;
	slot_up(&slot);
	vhub_server_on_left(slot.server, on_left, &leavings);
	first = come(&slot);
	slot.bed.fake.hold_close = true;
	close(first);
	WAIT_FOR(&slot.bed, slot.bed.fake.n_closing == 1);
	second = fe_connect(slot.path);
	bed_turns(&slot.bed, 20);
	slot.bed.fake.hold_close = false;
	vhub_session_closed(slot.bed.fake.session);
	fe_fence(&slot.bed, second);
	assert_int_equal(leavings.n, 0);
	close(second);
	WAIT_FOR(&slot.bed, leavings.n == 1);
	slot_down(&slot);
}

static void
test_the_server_can_be_stopped_when_told(void **state)
{
	const int refusals[] = { 0, -ENODEV };

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		struct slot slot;
		struct leavings leavings = { .slot = &slot, .stop = true };

		slot_up(&slot);
		vhub_server_on_left(slot.server, on_left, &leavings);
		slot.bed.fake.open_result = refusals[i];
		close(fe_connect(slot.path));
		WAIT_FOR(&slot.bed, slot.bed.n_completed == 1);
		assert_int_equal(leavings.n, 1);
		assert_int_equal(leavings.reason, refusals[i]);
		slot.bed.fake.n_opened = slot.bed.fake.n_closing;
		slot_down(&slot);
	}
}

/* ---- fds that cannot be closed, or not be had ---- */

/*
 * One byte of a message with 253 fds, the ninth of which is stuck when it is closed, until the end
 * that is returned is closed. The eight before it are kept.
 */
static int
send_stuck_fds(int sock)
{
	uint8_t byte = VHUB_USER_GET_FEATURES;
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int fds[253], peer, stuck = lingering_socket(600, &peer);

	for (unsigned int i = 0; i < 253; i++)
		fds[i] = i == 8 ? stuck : null;
	fe_send_bytes(sock, &byte, 1, fds, 253);
	close(null);
	close(stuck);
	return peer;
}

static void
slots_up(struct slot *slots, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		slot_up(&slots[i]);
	/* One loop would do for all, but each slot brings its own. */
	assert_int_equal(vhub_work_start(slots[0].bed.loop), 0);
}

/* All front ends have gone, and nothing is stuck. */
static void
slots_down(struct slot *slots, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		WAIT_FOR(&slots[i].bed, !stats_of(&slots[i]).connected);
	vhub_fd_discard_wait();
	assert_int_equal(vhub_work_stop(), 0);
	while (n-- > 0)
		slot_down(&slots[n]);
}

static void
test_a_front_end_whose_fds_are_stuck_is_not_read(void **state)
{
	const uint8_t rest[sizeof(struct vhub_user_header) - 1] = { 0 };
	struct log_catcher log;
	struct slot slots[2];
	int peer, stuck, other;

	(void)state;
	slots_up(slots, 2);
	stuck = come(&slots[0]);
	other = come(&slots[1]);
	log_catch(&log);
	peer = send_stuck_fds(stuck);
	fe_send_bytes(stuck, rest, sizeof(rest), NULL, 0);
	WAIT_FOR(&slots[0].bed, log_count(&log, "not closed yet") > 0);
	bed_turns(&slots[0].bed, 50);
	assert_int_equal(stats_of(&slots[0]).protocol_errors, 0);
	assert_int_equal(log_count(&log, "not closed yet"), 1);
	fe_fence(&slots[1].bed, other);
	close(peer);
	WAIT_FOR(&slots[0].bed, stats_of(&slots[0]).protocol_errors == 1);
	log_release(&log);
	close(stuck);
	close(other);
	slots_down(slots, 2);
}

/* It is gone all the same, but its slot takes no other until its fds are closed. */
static void
test_a_slot_whose_fds_are_stuck_takes_nobody(void **state)
{
	struct slot slot;
	int peer, sock;

	(void)state;
	slots_up(&slot, 1);
	sock = come(&slot);
	peer = send_stuck_fds(sock);
	close(sock);
	WAIT_FOR(&slot.bed, !stats_of(&slot).connected);
	sock = fe_connect(slot.path);
	assert_true(sock >= 0);
	bed_turns(&slot.bed, 200);
	assert_false(stats_of(&slot).connected);
	assert_int_equal(stats_of(&slot).refused, 0);
	close(peer);
	WAIT_FOR(&slot.bed, stats_of(&slot).connected);
	fe_fence(&slot.bed, sock);
	close(sock);
	slots_down(&slot, 1);
}

static void
test_the_server_can_be_stopped_while_fds_are_stuck(void **state)
{
	struct slot slot;
	int peer, sock;

	(void)state;
	slots_up(&slot, 1);
	sock = come(&slot);
	peer = send_stuck_fds(sock);
	bed_turns(&slot.bed, 20);
	vhub_server_stop(slot.server, bed_complete, &slot.bed);
	slot.server = NULL;
	WAIT_FOR(&slot.bed, slot.bed.n_completed == 1);
	assert_int_equal(vhub_work_stop(), 0);
	close(sock);
	close(peer);
	slot_down(&slot);
}

/* A full table: who sends fds waits, others go on, and once there is room he is served. */
static void
test_a_message_with_fds_waits_for_free_numbers(void **state)
{
	struct log_catcher log;
	struct slot slots[2];
	int starved, other, fd;
	struct rlimit limit;

	(void)state;
	slots_up(slots, 2);
	starved = come(&slots[0]);
	other = come(&slots[1]);
	log_catch(&log);
	fd = eventfd(0, EFD_CLOEXEC);
	limit = limit_fds(fd);
	fe_send_fds(starved, VHUB_USER_SET_VRING_CALL, 0, &(uint64_t){ 0 }, 8, &fd, 1);
	WAIT_FOR(&slots[0].bed, log_count(&log, "RLIMIT_NOFILE") > 0);
	bed_turns(&slots[0].bed, 50);
	assert_int_equal(log_count(&log, "RLIMIT_NOFILE"), 1);
	assert_int_equal(slots[0].bed.fake.calls[VHUB_USER_SET_VRING_CALL], 0);
	fe_fence(&slots[1].bed, other);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	WAIT_FOR(&slots[0].bed, slots[0].bed.fake.calls[VHUB_USER_SET_VRING_CALL] == 1);
	assert_int_equal(slots[0].bed.fake.last.n_fds, 1);
	fe_fence(&slots[0].bed, starved);
	log_release(&log);
	close(fd);
	close(starved);
	close(other);
	slots_down(slots, 2);
}

/* What it keeps open may be what is missing. */
static void
test_a_front_end_that_has_gone_waits_for_no_numbers(void **state)
{
	struct rlimit limit;
	struct slot slot;
	int sock, fd;

	(void)state;
	slots_up(&slot, 1);
	sock = come(&slot);
	fd = eventfd(0, EFD_CLOEXEC);
	limit = limit_fds(sock);
	fe_send_fds(sock, VHUB_USER_SET_VRING_CALL, 0, &(uint64_t){ 0 }, 8, &fd, 1);
	bed_turns(&slot.bed, 10);
	limit_fds(1); /* even with the number that it gives up here */
	close(sock);
	WAIT_FOR(&slot.bed, slot.bed.fake.n_closing == 1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	close(fd);
	slots_down(&slot, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_after_the_other),
		cmocka_unit_test(test_names_count_the_sessions),
		cmocka_unit_test(test_a_second_front_end_is_turned_away_while_the_first_goes_on),
		cmocka_unit_test(test_a_slot_takes_nobody_while_a_reply_with_an_fd_is_unread),
		cmocka_unit_test(test_a_socket_hidden_in_itself_is_found),
		cmocka_unit_test(test_a_second_front_end_right_after_the_hang_up_is_served),
		cmocka_unit_test(test_a_second_front_end_waits_while_the_slot_drains),
		cmocka_unit_test(test_a_second_front_end_waits_for_a_second_and_no_longer),
		cmocka_unit_test(test_the_place_of_one_who_left_is_free),
		cmocka_unit_test(test_a_handler_that_refuses_to_open),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_log_lines_are_bounded),
		cmocka_unit_test(test_a_stalled_front_end_stops_nobody_else),
		cmocka_unit_test(test_stop_with_nobody_there),
		cmocka_unit_test(test_stop_closes_the_session_first),
		cmocka_unit_test(test_stop_while_a_request_is_pending),
		cmocka_unit_test(test_stop_while_one_is_drained_and_another_waits),
		cmocka_unit_test(test_a_stream_is_served_once_and_is_quiet_then),
		cmocka_unit_test(test_each_leaving_is_told_with_its_reason),
		cmocka_unit_test(test_a_leaving_is_not_told_while_another_waits),
		cmocka_unit_test(test_the_server_can_be_stopped_when_told),
		cmocka_unit_test(test_a_front_end_whose_fds_are_stuck_is_not_read),
		cmocka_unit_test(test_a_slot_whose_fds_are_stuck_takes_nobody),
		cmocka_unit_test(test_the_server_can_be_stopped_while_fds_are_stuck),
		cmocka_unit_test(test_a_message_with_fds_waits_for_free_numbers),
		cmocka_unit_test(test_a_front_end_that_has_gone_waits_for_no_numbers),
	};

	return cmocka_run_group_tests(tests, test_eal_up, NULL);
}
