/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Connections: the contract by which device code serves a vhost-user front end without knowing how
 * it came.
 *
 * Life of a connection
 *   create     vhub_listener_create(), vhub_connection_from_fd(), vhub_dialer_create(). It holds
 *              its socket and nothing happens yet. A listener already listens: front ends may
 *              queue.
 *   consume    exactly one of vhub_run_req_handler(), vhub_serve() here, vhub_run_backend(),
 *              vhub_run_device() in vhub_device.h. From then on, even when the call fails, the
 *              connection is not the caller's.
 *   or destroy vhub_connection_destroy(), when it was never run.
 *
 * Life of a session (one front end on one connected socket)
 *   open       handler->ops->open(): the front end is connected.
 *   requests   one at a time: while a slot has returned VHUB_REQ_PENDING the socket is left unread,
 *              and while a reply with an fd is.
 *   close      handler->ops->close(): the front end hung up or broke a rule; the handler stops its
 *              rings, gives everything back and calls vhub_session_closed(), perhaps later. Only
 *              then does the run complete.
 *
 * All of this runs on the control thread, and does not block, but for what waits for the folder of a socket:
 * vhub_listener_create() and vhub_parent_resources_release(). Whoever may read that folder can have them wait for
 * ever, so they are for blocking work (vhub_work.h), as what runs does by itself: the file of a listener that is
 * destroyed is removed so, and a dialer dials.
 */
#ifndef VHUB_CONN_H
#define VHUB_CONN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "vhub_common.h"
#include "vhub_loop.h"
#include "vhub_lcore.h"
#include "vhub_user.h"

#ifdef __cplusplus
extern "C" {
#endif

struct vhub_connection;
struct vhub_session;
struct vhub_fd_account;
struct vhub_parent_resources;
struct vhub_req_handler;

/** A slot's answer that comes later, by vhub_request_done(). */
#define VHUB_REQ_PENDING 1

/**
 * Called when what was started has ended, once but for vhub_server_on_left(). `result`: 0 the front
 * end disconnected, or a negative errno. Thread: CTL; must not block.
 */
typedef void (*vhub_complete_fn)(void *arg, int result);

/* ---- requests and their handler ---- */

/**
 * One request, whole and checked against the table of requests. The session owns it.
 * An fd that a slot keeps is taken with vhub_request_take_fd(); the rest are closed after the slot
 * has answered.
 */
struct vhub_request {
	struct vhub_session *session;
	struct vhub_user_header header;
	union vhub_user_payload payload; /**< header.size bytes came; what lies beyond is zero */
	unsigned int n_fds;
	int fds[VHUB_USER_MAX_TABLE_REGIONS];

	/*
	 * Filled by slots of requests that have a reply of their own; both zeroed before the slot
	 * runs.
	 */
	union vhub_user_payload reply;
	uint32_t reply_size_bytes;
	int reply_fd; /**< sent with the reply and then closed; -1: none */

	/** Why it is refused, one phrase for the log; empty: what the errno says. */
	char why[256];
};

/** The i-th fd of the request, now the caller's; -1 when there is none. Thread: CTL. */
VHUB_API int
vhub_request_take_fd(struct vhub_request *req, unsigned int i);

/**
 * Says why a request is refused, like printf; returns `result`, for the slot to return. Thread:
 * CTL.
 */
VHUB_API int
vhub_request_refuse(struct vhub_request *req, int result, const char *format, ...)
		__attribute__((format(printf, 3, 4)));

/**
 * Ends a request whose slot returned VHUB_REQ_PENDING, with what the slot would have returned.
 * Thread: CTL. The session may be gone after it.
 */
VHUB_API void
vhub_request_done(struct vhub_request *req, int result);

/**
 * What serves the requests of one front end at a time. Every slot runs on CTL, must not block, and
 * returns
 *   0                  done (for requests with a reply: reply and reply_size_bytes are filled),
 *   VHUB_REQ_PENDING   vhub_request_done() will follow,
 *   -errno             refused: with need_reply the front end gets a non-zero ack, or for requests
 *                      that have a reply the error reply of the specification when the slot filled
 *                      one; with no way to tell it, the session ends with a log line.
 * A NULL slot of a request means "not supported": refused with -ENOTSUP.
 */
struct vhub_req_handler_ops {
	/** Required. A front end is there. Non-zero refuses it (the socket is closed). */
	int (*open)(struct vhub_req_handler *handler, struct vhub_session *session);
	/**
	 * Required. The front end is gone, `reason` as in vhub_complete_fn; ends with
	 * vhub_session_closed().
	 */
	void (*close)(struct vhub_req_handler *handler, struct vhub_session *session, int reason);
	/**
	 * Required. Bits of VHUB_USER_WHEN_STOPPED and _MEMORY that hold now, for the vring `index`
	 * where a request names one.
	 */
	uint32_t (*when)(struct vhub_req_handler *handler, uint32_t index);

	/* clang-format off */
#define VHUB_REQ_HANDLER_SLOT(num, name, slot, ...) \
	int (*slot)(struct vhub_req_handler *handler, struct vhub_request *req);
	VHUB_USER_REQUESTS(VHUB_REQ_HANDLER_SLOT)
#undef VHUB_REQ_HANDLER_SLOT
	/* clang-format on */
};

/** Embedded by its implementation. */
struct vhub_req_handler {
	const struct vhub_req_handler_ops *ops;
	const char *name; /**< for log lines: the device's name; outlives the handler's sessions */
};

/* ---- sessions, as their handler sees them ---- */

/**
 * Ends the session from our side (`reason` < 0, `why` for the log): nothing more is read, and its
 * close slot runs on the next turn, or, while a request is pending, once the handler has ended that
 * with vhub_request_done(). Thread: CTL.
 */
VHUB_API void
vhub_session_end(struct vhub_session *session, int reason, const char *why);

/**
 * As vhub_session_end(), and the slot takes nobody for a while: one second, and twice as long for each time that
 * follows soon, up to a minute. For a front end whose doings have cost one of our threads milliseconds,
 * and others with it. Thread: CTL.
 */
VHUB_API void
vhub_session_punish(struct vhub_session *session, int reason, const char *why);

/**
 * One system call on a socket that the session's front end shares has cost the calling thread so much CPU
 * time, vhub_thread_cpu_ns(): of an honest one's, microseconds. After more than that nothing is read for a
 * while, and who does it again and again is punished. Thread: CTL.
 */
VHUB_API void
vhub_session_charge(struct vhub_session *session, uint64_t cpu_ns);

/** Whether nothing is read for what was charged: then nothing else of this kind should be done either. Thread: CTL. */
VHUB_API bool
vhub_session_rests(const struct vhub_session *session);

/**
 * The handler has given everything back, in or after its close slot. The socket is closed and the
 * session freed on the loop's next turn; the run's or the server's completion comes after that.
 * Thread: CTL.
 */
VHUB_API void
vhub_session_closed(struct vhub_session *session);

/**
 * Has no request reach the handler, nor its close slot run, until vhub_session_release(): for what
 * the handler does that no front end asked for. Thread: CTL. Returns 0, -EAGAIN (called from a slot
 * of a request: on the next turn it may work), -EBUSY (a request is pending, or the session is held
 * already), -ESHUTDOWN (it is ending).
 */
VHUB_API int
vhub_session_hold(struct vhub_session *session);

/** Goes on after vhub_session_hold(), with the end if that has come meanwhile. Thread: CTL. */
VHUB_API void
vhub_session_release(struct vhub_session *session);

/**
 * Whether the session is ending or its peer has hung up, also when nobody has read that yet: then
 * what a handler waits for in a pending request is worth no more waiting. One poll(2). Thread: CTL.
 */
VHUB_API bool
vhub_session_is_leaving(const struct vhub_session *session);

/** Protocol features in force, as the last SET_PROTOCOL_FEATURES that was accepted. Thread: CTL. */
VHUB_API uint64_t
vhub_session_protocol_features(const struct vhub_session *session);

/** A Unix socket and its peer, by the numbers of their inodes; 0: there is none, or it is not known. */
struct vhub_socket_ends {
	uint32_t own;
	uint32_t peer;
};

/**
 * Asks the kernel for the ends of `fd`, which a front end has sent and which stays the caller's. For the
 * peer it looks through all Unix sockets of the host. Thread: WORK (blocks).
 */
VHUB_API void
vhub_socket_ends_of(int fd, struct vhub_socket_ends *ends);

/**
 * Whether it is the socket of an open session, of the one that it came with or another, at either end:
 * who keeps it never hears that the front end is gone. Thread: CTL. Does not block.
 */
VHUB_API bool
vhub_session_owns(const struct vhub_socket_ends *ends);

/**
 * Where fds that came with the session's requests are closed (vhub_fd_discard()). Valid as long as
 * the session. Thread: CTL.
 */
VHUB_API struct vhub_fd_account *
vhub_session_fds(const struct vhub_session *session);

/** Whether the last accepted SET_FEATURES had bit 30. Thread: CTL. */
VHUB_API bool
vhub_session_has_f_protocol(const struct vhub_session *session);

/** The process that made the other end of a socket, as this one's namespaces have it. */
struct vhub_peer {
	pid_t pid; /**< 0: it is in none that we see */
	uid_t uid;
	gid_t gid;
};

/**
 * Who connected, or listens where we have (SO_PEERCRED). Another process may have the socket since. Thread: CTL.
 * Returns 0 or -errno.
 */
VHUB_API int
vhub_session_peer(const struct vhub_session *session, struct vhub_peer *peer);

/**
 * A name for log lines: "disk0#3", the slot's name and the number of the session on it. Thread:
 * CTL.
 */
VHUB_API const char *
vhub_session_name(const struct vhub_session *session);

/** Its socket, which stays the session's and open until vhub_session_closed(). Thread: CTL. */
VHUB_API int
vhub_session_fd(const struct vhub_session *session);

/* ---- making connections ---- */

/** That the address of a Unix socket has room for, without the zero behind it. */
#define VHUB_SOCKET_PATH_MAX_BYTES 107

/** Where and how to listen. Strings are copied. */
struct vhub_listener_options {
	const char *path; /**< of the socket file; at most VHUB_SOCKET_PATH_MAX_BYTES */
	mode_t mode;	  /**< of the socket file; 0: 0660 */
	uid_t owner;	  /**< (uid_t)-1: as created */
	gid_t group;	  /**< (gid_t)-1: as created */
	/** accept only peers of peer_uid / peer_gid (SO_PEERCRED); (uid_t)-1, (gid_t)-1: any */
	bool check_peer;
	uid_t peer_uid;
	gid_t peer_gid;
};

/**
 * Binds and listens. A socket file on which nobody answers is removed first; a file that is no
 * socket never. Thread: WORK, or CTL where it may block. Returns 0, -ENAMETOOLONG, -EADDRINUSE (somebody listens there, or a
 * file that is no socket is in the way), -EINVAL, -ENOMEM, or an errno of
 * socket/bind/listen/chmod/chown.
 */
VHUB_API int
vhub_listener_create(const struct vhub_listener_options *options, struct vhub_connection **out);

/**
 * For who listens for others than front ends: has `accepted` called with each socket that such a listener brings,
 * which it takes; the listener may be destroyed in there, and stays the caller's. Once. Thread: CTL. Returns 0 or
 * the errno of epoll_ctl(2).
 */
VHUB_API int
vhub_listener_run(struct vhub_connection *listener, struct vhub_loop *loop,
		void (*accepted)(void *arg, int fd), void *arg);

/**
 * From an inherited fd: a listening Unix stream socket (as from systemd) becomes a listener, a
 * connected one a stream that serves one front end. The fd is the connection's from then on, on
 * success only. Thread: CTL. Returns 0, -EBADF, -ENOTSOCK, -EPROTONOSUPPORT (not a Unix stream
 * socket), -ENOTCONN (neither listening nor connected), -ENOMEM.
 */
VHUB_API int
vhub_connection_from_fd(int fd, struct vhub_connection **out);

/**
 * Connects to a front end that listens at `path`, again and again, 100 ms to 5 s apart, also after
 * it hung up when served by vhub_serve(). Thread: CTL. Returns 0, -EINVAL (no path),
 * -ENAMETOOLONG, -ENOMEM.
 */
VHUB_API int
vhub_dialer_create(const char *path, struct vhub_connection **out);

/**
 * Gives back a connection that was never run; removes a listener's socket file, as blocking work. NULL is fine.
 * Thread: CTL, or WORK for a listener.
 */
VHUB_API void
vhub_connection_destroy(struct vhub_connection *connection);

/**
 * Before a fork into a jailed child, for programs that make one (vhubd does not): what the child
 * will not be able to clean up (the bound socket file). The child runs the connection, which will
 * not touch the file any more; the parent destroys its copy of the connection after the fork (which
 * then leaves the file alone too) and keeps this until the child has ended. Returns NULL when there
 * is nothing, which is no error. Thread: CTL.
 */
VHUB_API struct vhub_parent_resources *
vhub_take_parent_process_resources(struct vhub_connection *connection);

/**
 * Cleans up, and frees; NULL is fine. Removes only the very file that was bound (device and inode).
 * Thread: ANY. Blocks.
 */
VHUB_API void
vhub_parent_resources_release(struct vhub_parent_resources *resources);

/* ---- running them ---- */

/**
 * Serves the protocol requests of one front end with `handler`; `complete` runs once, on the loop,
 * when the front end has disconnected, or on an error, and after the handler has closed. A listener
 * takes the first front end, then stops listening and removes its socket file. Runs on
 * executor->loop; the executor is copied. Consumes `connection` in every case. Thread: CTL. Returns
 * 0, or -ENOMEM, -EINVAL and then `complete` never runs.
 */
VHUB_API int
vhub_run_req_handler(struct vhub_connection *connection, struct vhub_req_handler *handler,
		const struct vhub_executor *executor, vhub_complete_fn complete, void *arg);

/** A slot that serves front ends one after the other, for ever. */
struct vhub_server;

/**
 * Serves one front end after the other until vhub_server_stop(). While one is served, a second is
 * accepted and closed; once the first has hung up, a second waits up to one second for the slot to
 * drain, then it is closed. So is who comes while one that was served before has its socket open and
 * a reply with an fd unread in it. A stream (inherited connected fd) serves its one front end and then
 * stays quiet. Consumes `connection` in every case. Thread: CTL. Returns 0, -ENOMEM, -EINVAL.
 */
VHUB_API int
vhub_serve(struct vhub_connection *connection, struct vhub_req_handler *handler,
		const struct vhub_executor *executor, struct vhub_server **out);

/**
 * From now on `left` runs each time a front end has gone, its session has closed and nobody waits
 * to be the next: 0 it disconnected, or a negative errno, also that of a handler that refused to
 * open. It may stop the server. NULL: nobody wants to know. Thread: CTL, before the loop runs on.
 */
VHUB_API void
vhub_server_on_left(struct vhub_server *server, vhub_complete_fn left, void *arg);

/**
 * Stops listening, removes the socket file, ends the present session; `complete` runs once it has
 * closed, and the server is freed then. Thread: CTL.
 */
VHUB_API void
vhub_server_stop(struct vhub_server *server, vhub_complete_fn complete, void *arg);

/** Numbers of one server; a copy. */
struct vhub_server_stats {
	uint64_t sessions; /**< front ends served */
	uint64_t refused;  /**< accepted and closed because the slot was busy, or by SO_PEERCRED */
	uint64_t requests; /**< protocol requests given to the handler */
	uint64_t protocol_errors; /**< sessions ended for breaking a rule */
	/** refused, by the handler or because they came at the wrong time or are not supported */
	uint64_t refused_requests;
	bool connected;
	uint64_t by_request[VHUB_USER_REQUEST_MAX]; /**< `requests`, by number */
};
/** Copies them. Thread: CTL. */
VHUB_API void
vhub_server_get_stats(const struct vhub_server *server, struct vhub_server_stats *stats);

#ifdef __cplusplus
}
#endif

#endif /* VHUB_CONN_H */
