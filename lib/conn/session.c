/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One front end on one connected socket: reads its requests, has them checked, gives them to the
 * handler, answers, and ends in order. Made by connection.c or server.c. Next on the way: the
 * handler, as in lib/device.
 *
 *   OPEN      requests are read, but while one is pending, the handler holds the session, a reply
 *             waits for room in the socket or one with an fd to be read, too many fds of the slot
 *             wait to be closed or too few are free for what comes, or the slot rests (cost.h)
 *   ENDING    nothing is read any more; a pending request is waited for, and a handler that holds
 *             the session; then the close slot is due
 *   CLOSING   the close slot has run; the handler gives everything back
 *   CLOSED    it has; the slot is told on the next turn: it may free the handler, whose frame may
 *             be on the stack now
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <rte_common.h>

#include "answer.h"
#include "conn_pvt.h"
#include "frame.h"
#include "requests.h"
#include "validate.h"
#include "vhub_fd.h"

VHUB_LOGTYPE(conn);

enum session_state {
	SESSION_OPEN,
	SESSION_ENDING,
	SESSION_CLOSING,
	SESSION_CLOSED,
};

struct vhub_session {
	/* Immutable. */
	struct conn_slot *slot;
	int fd;
	char name[96];
	struct conn_socket socket;

	enum session_state state;
	int reason;
	struct vhub_watch watch;
	uint32_t watched_for; /* 0: not watched */
	struct vhub_task task;
	struct vhub_timer reply_timer;
	bool fd_unread; /* a reply with an fd was sent, and was not seen to be read */
	/* Armed: the next request is left unread until `fd_unread` ends. */
	struct vhub_timer unread_timer;
	/* Armed: nothing is read, for want of fds. */
	struct vhub_timer fds_timer;
	/* Armed: nothing is read or sent, for what that has cost. */
	struct vhub_timer rest_timer;
	/* Armed: a message is half there, and fds of it are. */
	struct vhub_timer half_timer;
	uint64_t fds_wait_us; /* the next wait; CONN_FDS_WAIT_MIN_US after something was read */

	struct conn_agreed agreed;

	/* The request at hand. */
	struct conn_frame_in in;
	struct vhub_request req;
	bool supported;
	bool reply_ack; /* negotiated when it came */
	bool in_slot;
	bool pending;	 /* the slot said so, and vhub_request_done() has not come */
	bool done_early; /* vhub_request_done() came before the slot returned */
	int early_result;
	bool held; /* vhub_session_hold() */

	struct conn_frame_out out;
	bool peer_gone; /* replies go nowhere; requests that it left behind are still served */
};

bool
vhub_session_is_leaving(const struct vhub_session *session)
{
	return session->state != SESSION_OPEN || session->peer_gone ||
			conn_peer_has_hung_up(session->fd);
}

bool
conn_handler_is_complete(const struct vhub_req_handler *handler)
{
	return handler != NULL && handler->ops != NULL && handler->name != NULL &&
			handler->ops->open != NULL && handler->ops->close != NULL &&
			handler->ops->when != NULL;
}

/* ---- what the socket is watched for ---- */

static uint32_t
wanted_events(const struct vhub_session *session)
{
	/*
	 * Not watched at all while a request is pending or the session is held: a hang-up is told as
	 * long as it lasts, and would keep us awake.
	 */
	if (session->state != SESSION_OPEN || session->pending || session->held ||
			session->rest_timer.armed)
		return 0;
	if (session->out.size_bytes != 0)
		return EPOLLOUT;
	return session->unread_timer.armed || session->fds_timer.armed ? 0 : EPOLLIN;
}

/*
 * An fd may be the front end's own end of the socket, whose hang-up is not heard while it is open here:
 * of half a message none is kept for ever. Time counts only while we read.
 */
static void
time_half_a_message(struct vhub_session *session, bool reading)
{
	struct vhub_loop *loop = session->slot->loop;

	if (!reading || session->req.n_fds == 0)
		vhub_timer_cancel(loop, &session->half_timer);
	else if (!session->half_timer.armed)
		vhub_timer_arm(loop, &session->half_timer, CONN_HALF_TIMEOUT_US);
}

static int
update_watch(struct vhub_session *session)
{
	const uint32_t events = wanted_events(session);
	struct vhub_loop *loop = session->slot->loop;
	int ret = 0;

	time_half_a_message(session, events == EPOLLIN);
	if (events == session->watched_for)
		return 0;
	if (events == 0)
		vhub_loop_unwatch(loop, &session->watch);
	else if (session->watched_for == 0)
		ret = vhub_loop_watch(loop, &session->watch, events);
	else
		ret = vhub_loop_rewatch(loop, &session->watch, events);
	if (ret == 0)
		session->watched_for = events;
	return ret;
}

/* ---- the end ---- */

static void
cancel_timers(struct vhub_session *session)
{
	struct vhub_loop *loop = session->slot->loop;

	vhub_timer_cancel(loop, &session->reply_timer);
	vhub_timer_cancel(loop, &session->unread_timer);
	vhub_timer_cancel(loop, &session->fds_timer);
	vhub_timer_cancel(loop, &session->half_timer);
	vhub_timer_cancel(loop, &session->rest_timer);
}

static void
start_ending(struct vhub_session *session, int reason)
{
	if (session->state != SESSION_OPEN)
		return;
	session->state = SESSION_ENDING;
	session->reason = reason;
	cancel_timers(session);
	update_watch(session);
	if (!session->pending && !session->held)
		vhub_loop_defer(session->slot->loop, &session->task);
}

/* What it is to be watched for may have changed. */
static void
watch_again(struct vhub_session *session)
{
	if (update_watch(session) != 0)
		start_ending(session, -ENOMEM);
}

/* Ends the session because of what the request at hand was or met. */
static void __attribute__((format(printf, 3, 4)))
fail(struct vhub_session *session, int reason, const char *format, ...)
{
	char why[192];
	va_list args;

	if (session->state != SESSION_OPEN)
		return;
	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	if (vhub_log_allowed(&session->slot->end_limit))
		VHUB_LOG(WARNING, "%s: session ended: %s (%u): %s", session->name,
				conn_request_name(session->req.header.request),
				session->req.header.request, why);
	start_ending(session, reason);
}

static void
fail_rule(struct vhub_session *session, const struct conn_violation *violation)
{
	if (session->state == SESSION_OPEN)
		session->slot->stats.protocol_errors++;
	fail(session, -EPROTO, "%s", violation->text);
}

/* Ends the session because of what became of half a message. */
static void
fail_half(struct vhub_session *session, int reason, const char *why)
{
	const struct conn_frame_in *in = &session->in;

	if (in->header_bytes < sizeof(struct vhub_user_header)) {
		session->req.header.request = 0; /* perhaps not whole */
		fail(session, reason, "%s after %u bytes of a header", why, in->header_bytes);
	} else {
		fail(session, reason, "%s after %u of %u bytes of payload", why, in->payload_bytes,
				session->req.header.size);
	}
}

/* The front end has hung up, between two messages or inside one. */
static void
hung_up(struct vhub_session *session)
{
	if (session->in.header_bytes != 0) {
		fail_half(session, -ECONNRESET, "hung up");
		return;
	}
	if (vhub_log_allowed(&session->slot->chat_limit))
		VHUB_LOG(INFO, "%s: front end disconnected", session->name);
	start_ending(session, 0);
}

static void
half_timed_out(struct vhub_timer *timer)
{
	struct vhub_session *session = vhub_container_of(timer, struct vhub_session, half_timer);

	fail_half(session, -ETIMEDOUT, "it came with fds, and the rest did not come in time");
}

void
vhub_session_end(struct vhub_session *session, int reason, const char *why)
{
	if (session->state != SESSION_OPEN)
		return;
	if (vhub_log_allowed(&session->slot->end_limit))
		VHUB_LOG(NOTICE, "%s: session ended: %s", session->name,
				why != NULL ? why : strerror(-reason));
	start_ending(session, reason);
}

void
vhub_session_punish(struct vhub_session *session, int reason, const char *why)
{
	struct conn_slot *slot = session->slot;

	VHUB_LOG(NOTICE, "%s: the slot is closed for %u s", slot->handler->name,
			conn_cost_close(&slot->cost));
	vhub_session_end(session, reason, why);
}

/* Judges what the last steps have cost. */
static void
judge_cost(struct vhub_session *session)
{
	struct conn_slot *slot = session->slot;
	const uint64_t rest_us = conn_cost_rest_us(&slot->cost);

	if (slot->cost.exceeded) {
		slot->cost.exceeded = false;
		vhub_session_punish(session, -ETIMEDOUT,
				"to use a socket of its takes milliseconds each time: too many wait on it");
	} else if (rest_us != 0 && session->state == SESSION_OPEN) {
		vhub_timer_arm(slot->loop, &session->rest_timer, rest_us);
	}
}

void
vhub_session_charge(struct vhub_session *session, uint64_t cpu_ns)
{
	conn_cost_add(&session->slot->cost, cpu_ns);
	judge_cost(session);
	if (session->state == SESSION_OPEN)
		watch_again(session);
}

bool
vhub_session_rests(const struct vhub_session *session)
{
	return session->rest_timer.armed;
}

static bool
fd_is_unread(struct vhub_session *session)
{
	session->fd_unread = session->fd_unread && conn_is_unread(session->fd);
	return session->fd_unread;
}

static void
free_session(struct vhub_session *session)
{
	struct conn_slot *slot = session->slot;

	cancel_timers(session);
	vhub_loop_undefer(slot->loop, &session->task);
	conn_frame_close(&session->in, &session->req);
	conn_frame_drop(&session->out);
	conn_socket_leave(&session->socket);
	if (fd_is_unread(session)) {
		if (vhub_log_allowed(&slot->end_limit))
			VHUB_LOG(NOTICE,
					"%s: a reply with an fd was not read: the slot takes nobody until it is, or the front end's socket is closed",
					session->name);
		conn_unread_keep(slot, session->fd);
	} else {
		vhub_fd_hang_up(session->fd, slot->fds);
	}
	free(session);
}

static void
tell_slot(struct vhub_task *task)
{
	struct vhub_session *session = vhub_container_of(task, struct vhub_session, task);
	struct conn_slot *slot = session->slot;
	const int reason = session->reason;

	free_session(session);
	slot->closed(slot, reason);
}

void
vhub_session_closed(struct vhub_session *session)
{
	if (session->state != SESSION_CLOSING)
		return;
	session->state = SESSION_CLOSED;
	session->task.fn = tell_slot;
	vhub_loop_defer(session->slot->loop, &session->task);
}

static void
close_session(struct vhub_task *task)
{
	struct vhub_session *session = vhub_container_of(task, struct vhub_session, task);
	struct vhub_req_handler *handler = session->slot->handler;

	/*
	 * Since the slot that also ended the session: vhub_request_done() comes here again, and so
	 * does vhub_session_release().
	 */
	if (session->pending || session->held)
		return;
	session->state = SESSION_CLOSING;
	handler->ops->close(handler, session, session->reason);
}

/* ---- answers ---- */

static void
reply_timed_out(struct vhub_timer *timer)
{
	struct vhub_session *session = vhub_container_of(timer, struct vhub_session, reply_timer);

	if (session->unread_timer.armed)
		vhub_session_end(session, -ETIMEDOUT,
				"it sends more and does not read a reply with an fd");
	else
		fail(session, -ETIMEDOUT, "its reply was not read for %llu ms",
				CONN_REPLY_TIMEOUT_US / 1000);
}

/*
 * Sends what is left of the reply; what does not go now goes when the socket is writable, and the slot
 * does not rest.
 */
static void
send_reply(struct vhub_session *session)
{
	int ret;

	if (session->rest_timer.armed)
		return;
	ret = conn_frame_send(session->fd, &session->out);
	judge_cost(session);
	if (ret == 0) {
		if (session->state == SESSION_OPEN && !session->reply_timer.armed)
			vhub_timer_arm(session->slot->loop, &session->reply_timer,
					CONN_REPLY_TIMEOUT_US);
		return;
	}
	vhub_timer_cancel(session->slot->loop, &session->reply_timer);
	if (ret > 0)
		return;
	conn_frame_drop(&session->out);
	if ((ret == -EPIPE || ret == -ECONNRESET) && conn_peer_has_hung_up(session->fd))
		session->peer_gone = true;
	else
		fail(session, ret, "its reply cannot be sent: %s", strerror(-ret));
}

/* What the session itself keeps of requests that were accepted. */
static void
note_accepted(struct vhub_session *session)
{
	const struct vhub_request *req = &session->req;

	if (req->header.request == VHUB_USER_SET_PROTOCOL_FEATURES) {
		session->agreed.protocol_features = req->payload.u64;
	} else if (req->header.request == VHUB_USER_SET_FEATURES) {
		session->agreed.has_features = true;
		session->agreed.f_protocol = (req->payload.u64 & VHUB_F(PROTOCOL_FEATURES)) != 0;
	}
}

static void
log_refusal(struct vhub_session *session, int result, const char *why)
{
	session->slot->stats.refused_requests++;
	if (!vhub_log_allowed(&session->slot->refusal_limit))
		return;
	VHUB_LOG(NOTICE, "%s: %s (%u) refused: %s", session->name,
			conn_request_name(session->req.header.request), session->req.header.request,
			why[0] != '\0' ? why : strerror(-result));
}

/* Ends the request at hand. `why`: for a refusal, "" for what `result` says. */
static void
finish_request(struct vhub_session *session, int result, const char *why)
{
	struct vhub_request *req = &session->req;
	struct conn_answer_terms terms = { .supported = session->supported };
	int ret;

	if (result > 0 || req->reply_size_bytes > sizeof(req->reply)) {
		result = -EIO; /* no answer that the contract knows */
		req->reply_size_bytes = 0;
	}
	if (result == 0)
		note_accepted(session);
	terms.result = result;
	/*
	 * A request that negotiates REPLY_ACK may already use it; one that gives it up was sent
	 * while it held.
	 */
	terms.reply_ack = session->reply_ack ||
			(session->agreed.protocol_features & VHUB_USER_PF(REPLY_ACK)) != 0;
	terms.protocol_features = session->agreed.protocol_features;
	ret = conn_answer(req, &terms);
	if (ret < 0) {
		session->slot->stats.refused_requests++;
		fail(session, ret, "refused, and nothing asks for an answer: %s",
				why[0] != '\0' ? why : strerror(-ret));
	} else if (result < 0) {
		log_refusal(session, result, why);
	}
	if (ret > 0 && !session->peer_gone) {
		conn_frame_reply(&session->out, req);
		session->fd_unread = session->fd_unread || session->out.fd >= 0;
		send_reply(session);
	}
	conn_frame_reset(&session->in, req);
}

void
vhub_request_done(struct vhub_request *req, int result)
{
	struct vhub_session *session = req->session;

	if (session->in_slot) {
		session->done_early = true;
		session->early_result = result;
		return;
	}
	if (!session->pending)
		return;
	session->pending = false;
	finish_request(session, result, session->req.why);
	if (session->state == SESSION_ENDING)
		vhub_loop_defer(session->slot->loop, &session->task);
	else
		watch_again(session);
}

int
vhub_request_refuse(struct vhub_request *req, int result, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(req->why, sizeof(req->why), format, args);
	va_end(args);
	return result;
}

int
vhub_request_take_fd(struct vhub_request *req, unsigned int i)
{
	int fd;

	if (i >= req->n_fds)
		return -1;
	fd = req->fds[i];
	req->fds[i] = -1;
	return fd;
}

/* ---- requests ---- */

/* Returns the slot's result, VHUB_REQ_PENDING only when it is really still to come. */
static int
call_slot(struct vhub_session *session)
{
	struct vhub_req_handler *handler = session->slot->handler;
	const uint32_t request = session->req.header.request;
	int ret;

	session->slot->stats.requests++;
	session->slot->stats.by_request[request]++;
	session->done_early = false;
	session->in_slot = true;
	ret = conn_request_slot_of(handler->ops, request)(handler, &session->req);
	session->in_slot = false;
	if (ret == VHUB_REQ_PENDING && session->done_early)
		return session->early_result;
	return ret;
}

/* A whole message. */
static void
serve_request(struct vhub_session *session)
{
	struct conn_violation violation;
	int ret;

	vhub_timer_cancel(session->slot->loop, &session->half_timer);
	session->reply_ack = (session->agreed.protocol_features & VHUB_USER_PF(REPLY_ACK)) != 0;
	if (!session->supported) {
		finish_request(session, -ENOTSUP, "not supported");
		return;
	}
	if (conn_validate_message(&session->req, session->in.n_fds_surplus, &violation) != 0) {
		fail_rule(session, &violation);
		return;
	}
	ret = conn_validate_moment(&session->req, session->slot->handler, &session->agreed,
			&violation);
	if (ret != 0) {
		finish_request(session, ret, violation.text);
		return;
	}
	ret = call_slot(session);
	if (ret == VHUB_REQ_PENDING)
		session->pending = true;
	else
		finish_request(session, ret, session->req.why);
}

static void
log_no_fds_free(const struct vhub_session *session)
{
	struct rlimit limit = { 0 };

	getrlimit(RLIMIT_NOFILE, &limit);
	VHUB_LOG(WARNING,
			"%s: not read on while too few fds are free: RLIMIT_NOFILE allows %llu for all front ends and files together; raise its hard limit (ulimit -Hn, LimitNOFILE= of systemd), or have fewer devices",
			session->name, (unsigned long long)limit.rlim_cur);
}

static void
log_fds_unclosed(const struct vhub_session *session)
{
	VHUB_LOG(WARNING,
			"%s: not read on while more than %u fds of its front ends are not closed yet",
			session->name, VHUB_FD_MAX_WAITING);
}

/*
 * Reads nothing for a while, each time a longer one. A front end that has hung up is heard only by
 * reading; one that leaves no room for its fds would be here for ever, and keep the fds it has.
 */
static void
wait_for_fds(struct vhub_session *session, void (*log)(const struct vhub_session *session))
{
	if (session->fds_wait_us >= CONN_FDS_WAIT_GONE_US && conn_peer_has_hung_up(session->fd)) {
		hung_up(session);
		return;
	}
	if (session->fds_wait_us == CONN_FDS_WAIT_MIN_US &&
			vhub_log_allowed(&session->slot->fds_limit))
		log(session);
	vhub_timer_arm(session->slot->loop, &session->fds_timer, session->fds_wait_us);
	session->fds_wait_us = RTE_MIN(session->fds_wait_us * 2, CONN_FDS_WAIT_MAX_US);
}

static void
look_again(struct vhub_timer *timer)
{
	struct vhub_session *session = vhub_container_of(timer, struct vhub_session, fds_timer);

	watch_again(session);
}

/*
 * Judges what a read told. Returns whether the part that was read for is whole, and the turn may go on with
 * it: else it is whole when the slot has rested.
 */
static bool
read_is_whole(struct vhub_session *session, int ret)
{
	struct conn_violation violation = { .text = "fds that came with it cannot be had" };

	judge_cost(session);
	if (ret > 0)
		return session->state == SESSION_OPEN && !session->rest_timer.armed;
	if (ret == -ENODATA)
		hung_up(session);
	else if (ret == -EMFILE)
		wait_for_fds(session, log_no_fds_free);
	else if (ret == -EDQUOT)
		wait_for_fds(session, log_fds_unclosed);
	else if (ret == -EMSGSIZE)
		fail_rule(session, &violation);
	else if (ret < 0)
		fail(session, ret, "cannot be read: %s", strerror(-ret));
	return false;
}

/* Reads on; returns true when a message was served and the next may be read. */
static bool
read_request(struct vhub_session *session)
{
	const struct vhub_req_handler_ops *ops = session->slot->handler->ops;
	struct vhub_request *req = &session->req;
	struct conn_violation violation;

	if (!read_is_whole(session, conn_frame_read_header(session->fd, &session->in, req)))
		return false;
	session->supported = conn_request_supported(ops, req->header.request,
			session->agreed.protocol_features);
	if (conn_validate_header(&req->header, session->supported, &violation) != 0) {
		fail_rule(session, &violation);
		return false;
	}
	if (!read_is_whole(session, conn_frame_read_payload(session->fd, &session->in, req)))
		return false;
	serve_request(session);
	/* With an fd in its reply: whoever sends more now has most likely read it by the next turn. */
	return wanted_events(session) == EPOLLIN && !session->fd_unread;
}

/*
 * Leaves what the front end sends unread while it has not read a reply with an fd. Nothing tells of
 * the moment in which it does.
 */
static void
wait_for_reader(struct vhub_session *session)
{
	vhub_timer_arm(session->slot->loop, &session->reply_timer, CONN_REPLY_TIMEOUT_US);
	vhub_timer_arm(session->slot->loop, &session->unread_timer, CONN_UNREAD_LOOK_US);
}

static void
look_for_reader(struct vhub_timer *timer)
{
	struct vhub_session *session = vhub_container_of(timer, struct vhub_session, unread_timer);

	if (fd_is_unread(session)) {
		vhub_timer_arm(session->slot->loop, timer, CONN_UNREAD_LOOK_US);
		return;
	}
	vhub_timer_cancel(session->slot->loop, &session->reply_timer);
	watch_again(session);
}

/* Whether one more request may be read in this turn. */
static bool
turn_goes_on(const struct vhub_session *session, unsigned int n_requests)
{
	return n_requests < CONN_REQUESTS_PER_TURN && !conn_cost_turn_is_over(&session->slot->cost);
}

static void
take_turn(struct vhub_session *session)
{
	unsigned int n = 0;

	session->slot->cost.turn_ns = 0;
	if (session->out.size_bytes != 0)
		send_reply(session);
	if (wanted_events(session) == EPOLLIN && fd_is_unread(session))
		wait_for_reader(session);
	if (wanted_events(session) == EPOLLIN) {
		while (turn_goes_on(session, n) && read_request(session))
			n++;
		if (!session->fds_timer.armed)
			session->fds_wait_us = CONN_FDS_WAIT_MIN_US;
	}
	watch_again(session);
}

static void
on_socket(struct vhub_watch *watch, uint32_t events)
{
	(void)events; /* a hang-up is read as one, after what was sent before it */
	take_turn(vhub_container_of(watch, struct vhub_session, watch));
}

/* What has been read before the rest, the socket does not tell of again. */
static void
rested(struct vhub_timer *timer)
{
	take_turn(vhub_container_of(timer, struct vhub_session, rest_timer));
}

/* ---- what handlers ask ---- */

int
vhub_session_hold(struct vhub_session *session)
{
	if (session->state != SESSION_OPEN)
		return -ESHUTDOWN;
	if (session->in_slot)
		return -EAGAIN;
	if (session->pending || session->held)
		return -EBUSY;
	session->held = true;
	return update_watch(session); /* to nothing, which cannot fail */
}

void
vhub_session_release(struct vhub_session *session)
{
	if (!session->held)
		return;
	session->held = false;
	if (session->state == SESSION_ENDING) {
		vhub_loop_defer(session->slot->loop, &session->task);
		return;
	}
	/* The rest may have ended meanwhile, and with it the turn that was to serve what had been read. */
	if (session->in.header_bytes != 0 && !session->rest_timer.armed)
		vhub_timer_arm(session->slot->loop, &session->rest_timer, 0);
	watch_again(session);
}

uint64_t
vhub_session_protocol_features(const struct vhub_session *session)
{
	return session->agreed.protocol_features;
}

struct vhub_fd_account *
vhub_session_fds(const struct vhub_session *session)
{
	return session->slot->fds;
}

bool
vhub_session_has_f_protocol(const struct vhub_session *session)
{
	return session->agreed.f_protocol;
}

int
vhub_session_peer(const struct vhub_session *session, struct vhub_peer *peer)
{
	return conn_peer_of(session->fd, peer);
}

const char *
vhub_session_name(const struct vhub_session *session)
{
	return session->name;
}

int
vhub_session_fd(const struct vhub_session *session)
{
	return session->fd;
}

/* ---- the beginning ---- */

static struct vhub_session *
make_session(struct conn_slot *slot, int fd)
{
	struct vhub_session *session = calloc(1, sizeof(*session));

	if (session == NULL)
		return NULL;
	session->slot = slot;
	session->fd = fd;
	session->watch.fd = fd;
	session->watch.fn = on_socket;
	session->task.fn = close_session;
	session->reply_timer.fn = reply_timed_out;
	session->unread_timer.fn = look_for_reader;
	session->fds_timer.fn = look_again;
	session->half_timer.fn = half_timed_out;
	session->rest_timer.fn = rested;
	session->fds_wait_us = CONN_FDS_WAIT_MIN_US;
	session->out.fd = -1;
	session->in.cost = &slot->cost;
	session->out.cost = &slot->cost;
	session->req.session = session;
	session->req.reply_fd = -1;
	conn_frame_reset(&session->in, &session->req);
	conn_frame_prepare(fd);
	conn_socket_enter(&session->socket, fd);
	snprintf(session->name, sizeof(session->name), "%s#%" PRIu64, slot->handler->name,
			slot->stats.sessions + 1);
	return session;
}

int
conn_session_open(struct conn_slot *slot, int fd, struct vhub_session **out)
{
	struct vhub_session *session;
	int ret;

	ret = conn_cost_is_closed(&slot->cost) ? -EAGAIN : conn_unread_is_left(slot) ? -EBUSY : 0;
	if (ret != 0) {
		vhub_fd_hang_up(fd, slot->fds);
		return ret;
	}
	session = make_session(slot, fd);
	if (session == NULL) {
		vhub_fd_hang_up(fd, slot->fds);
		return -ENOMEM;
	}
	ret = slot->handler->ops->open(slot->handler, session);
	if (ret != 0) {
		free_session(session);
		return ret < 0 ? ret : -EIO;
	}
	slot->stats.sessions++;
	if (vhub_log_allowed(&slot->chat_limit))
		VHUB_LOG(INFO, "%s: front end connected", session->name);
	judge_cost(session); /* of the one before */
	ret = update_watch(session);
	if (ret != 0)
		vhub_session_end(session, ret, "its socket cannot be watched");
	*out = session;
	return 0;
}
