/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The back-end channel ("Back-end communication"): the socket on which we may send the front end a
 * request. Today two: the config space has changed, and what a vIOMMU maps is wanted. No reply is asked for, sending never blocks,
 * and a suspended device stays silent until it runs.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "handler_pvt.h"

VHUB_LOGTYPE(device);

#define CHANNEL_EVENTS (EPOLLIN | EPOLLRDHUP)
#define CHANNEL_REST_LOOK_US 50000

/*
 * What the front end may have wait on the channel's ends makes all this take long: a send walks through them,
 * and a watch needs a lock that a send of its own holds meanwhile.
 */
static int
channel_watch(struct vhub_device_handler *h)
{
	const uint64_t begin = vhub_thread_cpu_ns();
	const int ret = vhub_loop_watch(h->lifecycle.loop, &h->channel_watch, CHANNEL_EVENTS);

	vhub_session_charge(h->session, vhub_thread_cpu_ns() - begin);
	return ret;
}

static void
channel_unwatch(struct vhub_device_handler *h)
{
	const uint64_t begin = vhub_thread_cpu_ns();

	vhub_loop_unwatch(h->lifecycle.loop, &h->channel_watch);
	vhub_session_charge(h->session, vhub_thread_cpu_ns() - begin);
}

static ssize_t
channel_send(struct vhub_device_handler *h, const void *msg, size_t len)
{
	const uint64_t begin = vhub_thread_cpu_ns();
	const ssize_t sent = send(h->rec.backend_fd, msg, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	const int err = errno;

	vhub_session_charge(h->session, vhub_thread_cpu_ns() - begin);
	errno = err;
	return sent;
}

void
backend_channel_drop(struct vhub_device_handler *h)
{
	if (h->channel_watched)
		channel_unwatch(h);
	h->channel_watched = false;
	vhub_timer_cancel(h->lifecycle.loop, &h->channel_timer);
	h->config_change_due = false;
	session_record_set_fd(&h->rec.backend_fd, -1, handler_account(h));
}

/*
 * We ask for no reply, so nothing has to come: what comes, or a hang-up, ends the channel. What is
 * unread in it may hold fds, and among them the other end of the session's own socket, whose
 * hang-up we would never hear.
 */
static void
channel_event(struct vhub_watch *watch, uint32_t events)
{
	struct vhub_device_handler *h = vhub_container_of(watch, struct vhub_device_handler,
			channel_watch);

	if ((events & ~EPOLLOUT) != 0) {
		if (vhub_log_allowed(&h->log_limit))
			VHUB_LOG(NOTICE, "%s: the back-end channel is closed: %s",
					vhub_session_name(h->session),
					(events & EPOLLIN) != 0 ? "something came on it" :
								  "it was hung up");
		backend_channel_drop(h);
		return;
	}
	vhub_loop_rewatch(h->lifecycle.loop, &h->channel_watch, CHANNEL_EVENTS);
	backend_channel_flush(h);
}

static void
look_for_rest(struct vhub_timer *timer)
{
	backend_channel_flush(vhub_container_of(timer, struct vhub_device_handler, channel_timer));
}

void
backend_channel_flush(struct vhub_device_handler *h)
{
	struct vhub_user_header header = {
		.request = VHUB_USER_BACKEND_CONFIG_CHANGE_MSG,
		.flags = VHUB_USER_VERSION,
	};
	ssize_t sent;

	if (!h->config_change_due || h->rec.backend_fd < 0 || !handler_running(h) ||
			(h->rec.protocol_features & VHUB_USER_PF(CONFIG)) == 0)
		return;
	if (vhub_session_rests(h->session)) {
		h->channel_timer.fn = look_for_rest;
		vhub_timer_arm(h->lifecycle.loop, &h->channel_timer, CHANNEL_REST_LOOK_US);
		return;
	}
	sent = channel_send(h, &header, sizeof(header));
	if (sent < 0 && (errno == EAGAIN || errno == EINTR)) {
		vhub_loop_rewatch(h->lifecycle.loop, &h->channel_watch, CHANNEL_EVENTS | EPOLLOUT);
		return;
	}
	/* Sent, or the channel is broken: then nobody hears it any more, and the watch tells. */
	h->config_change_due = false;
}

/*
 * Sockets of other families, like TCP, have a lock of their own, which send(2) waits for, whatever
 * its flags: the front end holds it in a send() of its own for as long as the page that it sends
 * from does not come. No option that is asked for here takes it.
 */
static bool
is_unix_stream(int fd)
{
	int domain, type;
	socklen_t len = sizeof(int);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX &&
			getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 &&
			type == SOCK_STREAM;
}

static int
channel_open(struct vhub_device_handler *h, int fd)
{
	bool due = h->config_change_due;
	int ret;

	backend_channel_drop(h);
	h->config_change_due = due;
	h->rec.backend_fd = fd;
	h->channel_watch.fd = fd;
	h->channel_watch.fn = channel_event;
	ret = channel_watch(h);
	if (ret != 0) {
		backend_channel_drop(h);
		return ret;
	}
	h->channel_watched = true;
	backend_channel_flush(h);
	return 0;
}

static void
ends_known(struct vhub_device_handler *h, int result)
{
	if (vhub_session_owns(&h->new_ends))
		result = vhub_request_refuse(h->req, -EINVAL,
				"the channel is the socket of a session");
	else
		result = channel_open(h, vhub_request_take_fd(h->req, 0));
	handler_finish(h, result);
}

static void
ask_for_ends(struct vhub_work *work)
{
	struct vhub_device_handler *h = handler_of_work(work);

	vhub_socket_ends_of(h->req->fds[0], &h->new_ends);
	h->work_result = 0;
}

int
req_set_backend_req_fd(struct vhub_req_handler *base, struct vhub_request *req)
{
	struct vhub_device_handler *h = handler_of(base);

	if (req->n_fds != 1 || !is_unix_stream(req->fds[0]))
		return vhub_request_refuse(req, -EINVAL, "a channel is one Unix stream socket");
	h->req = req;
	return handler_work(h, ask_for_ends, ends_known);
}

int
vhub_device_iotlb_miss(struct vhub_device *dev, const struct vhub_user_iotlb *miss)
{
	struct vhub_device_handler *h = dev->handler;
	struct {
		struct vhub_user_header header;
		struct vhub_user_iotlb iotlb;
	} __attribute__((packed)) msg = {
		.header = {
			.request = VHUB_USER_BACKEND_IOTLB_MSG,
			.flags = VHUB_USER_VERSION,
			.size = sizeof(msg.iotlb),
		},
		.iotlb = *miss,
	};

	if (h == NULL || h->session == NULL || h->rec.backend_fd < 0)
		return -ENOTCONN;
	if (vhub_session_rests(h->session))
		return -EAGAIN;
	if (channel_send(h, &msg, sizeof(msg)) == (ssize_t)sizeof(msg))
		return 0;
	/* A part of a message in a stream would be the end of it; so small a one goes whole or not. */
	return errno == EAGAIN || errno == EINTR ? -EAGAIN : -EPIPE;
}

void
vhub_device_config_changed(struct vhub_device *dev)
{
	struct vhub_device_handler *h = dev->handler;

	if (h == NULL || h->session == NULL)
		return;
	h->config_change_due = true;
	backend_channel_flush(h);
}
