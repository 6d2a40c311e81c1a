/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of this folder share: the ops table behind every kind of connection, the slot that
 * sessions belong to, and sessions as their slot sees them.
 *
 *   listener.c, stream.c, dialer.c   bring connected sockets (connection->deliver)
 *   connection.c, server.c           the slots: one front end, or one after the other for ever
 *   session.c                        one front end on one socket
 *   cost.c                           what its socket costs this thread
 *   sockets.c                        the sockets of those that are open
 *   process.c                        who is at the other end, and those who were killed and do not end
 *   unread.c                         what one leaves unread when it ends
 */
#ifndef CONN_PVT_H
#define CONN_PVT_H

#include <stdbool.h>
#include <stdint.h>

#include "cost.h"
#include "vhub_conn.h"
#include "vhub_fd.h"
#include "vhub_log.h"

/** Requests of one session handled in one turn of the loop; the others have their turn then. */
#define CONN_REQUESTS_PER_TURN 16u
/**
 * A front end that leaves a reply unread for so long, its socket full, or one with an fd and sends
 * more, is given up.
 */
#define CONN_REPLY_TIMEOUT_US 5000000ull
/** A front end that has sent half of a message, and fds with it, is given up after so long. */
#define CONN_HALF_TIMEOUT_US 5000000ull
/** Time between looks whether a reply with an fd has been read. */
#define CONN_UNREAD_LOOK_US 10000ull
/** How long a second front end waits for the slot, once the first has hung up. */
#define CONN_DRAIN_WAIT_US 1000000ull
/** A dialer's waits between attempts: doubled from the first to the last. */
#define CONN_REDIAL_MIN_US 100000ull
#define CONN_REDIAL_MAX_US 5000000ull
/** While too many fds wait to be closed, or too few are free: the waits between looks, doubled too. */
#define CONN_FDS_WAIT_MIN_US 2000ull
#define CONN_FDS_WAIT_MAX_US 512000ull
/** From such a wait on a front end that has hung up is gone, whatever it left unread. */
#define CONN_FDS_WAIT_GONE_US 32000ull
/** Longest path in a struct sockaddr_un, without its end. */
#define CONN_PATH_MAX_BYTES 107u

/* ---- kinds of connection ---- */

/** What a kind of connection provides. All run on CTL and do not block. */
struct vhub_connection_ops {
	/** What it is, for people and tests: "listener". */
	const char *kind;
	/**
	 * Required. Once, when the connection is run; connection->loop is set. From the next turn
	 * on every connected socket is handed to connection->deliver(), the last thing that the
	 * kind does in its callback: the connection may be destroyed in there. On failure nothing
	 * goes on.
	 */
	int (*start)(struct vhub_connection *connection);
	/**
	 * Optional. The socket delivered last has ended its session: who brings one at a time
	 * brings the next.
	 */
	void (*next)(struct vhub_connection *connection);
	/** Optional. See vhub_take_parent_process_resources(). */
	struct vhub_parent_resources *(*take_parent_resources)(struct vhub_connection *connection);
	/** Required. Stops, gives everything back, frees. Started or not. */
	void (*destroy)(struct vhub_connection *connection);
};

/** Embedded first by each kind. */
struct vhub_connection {
	const struct vhub_connection_ops *ops;
	struct vhub_loop *loop; /**< NULL until started */
	/** The owner's: where sockets that it has no use for are closed; while full, none is brought. */
	struct vhub_fd_account *fds;
	/** The owner of the run; takes the fd. */
	void (*deliver)(struct vhub_connection *connection, int fd);
	void *owner;
	uint64_t n_refused; /**< peers that this kind turned away itself */
};

/**
 * Starts `connection` on `loop`; `fds` may be NULL and outlives it. Returns what ops->start
 * returned.
 */
int
conn_start(struct vhub_connection *connection, struct vhub_loop *loop, struct vhub_fd_account *fds,
		void (*deliver)(struct vhub_connection *connection, int fd), void *owner);

/** A listener on an fd that listens already; takes the fd on success. Returns 0 or -ENOMEM. */
int
conn_listener_from_fd(int fd, struct vhub_connection **out);

/* ---- the file of a bound socket ---- */

/**
 * Names one very file: the path, and an O_PATH fd that keeps its inode number from being used
 * again. Who opens it and who unlinks it may have to wait for its folder.
 */
struct conn_socket_file {
	char *path; /**< absolute */
	int fd;
};

/**
 * The socket file at `path` as it is now. Returns 0, -ENOMEM, -EADDRINUSE (no socket), or an errno
 * of open(2).
 */
int
conn_socket_file_open(const char *path, struct conn_socket_file *file);

/** Removes the file if it is still the very one. */
void
conn_socket_file_unlink(const struct conn_socket_file *file);

/** Gives it back; the file stays. */
void
conn_socket_file_close(const struct conn_socket_file *file);

/** Parent-process resources of the socket file at `path`. Blocks. Returns as conn_socket_file_open(). */
int
conn_parent_resources_open(const char *path, struct vhub_parent_resources **out);

/** vhub_parent_resources_release() as blocking work. NULL is fine. Thread: CTL. */
void
conn_parent_resources_discard(struct vhub_parent_resources *resources);

/* ---- process.c ---- */

/** As vhub_session_peer(), of a connected socket. Thread: ANY. */
int
conn_peer_of(int fd, struct vhub_peer *peer);

/** Whether the peer of a connected socket has hung up. Thread: ANY. */
bool
conn_peer_has_hung_up(int fd);

/**
 * Whether no thread of process `pid` will run any more of its program, though it may still have its fds. false also
 * where that is not known: without /proc, or when it has gone, its fds with another process. Blocks.
 */
bool
conn_process_is_ending(pid_t pid);

/**
 * The same of a process that has a socket listening at `path`, where nobody can connect to ask for it. Looks through
 * the processes of the host. Blocks.
 */
bool
conn_ending_process_listens(const char *path);

/* ---- sessions and what they belong to ---- */

/** Where front ends are served: embedded by struct vhub_server and by a single run. */
struct conn_slot {
	struct vhub_loop *loop;
	struct vhub_req_handler *handler;
	struct vhub_fd_account *fds; /**< all fds of its front ends, and their sockets */
	/** The session is gone, its memory too; `reason` as in vhub_complete_fn. */
	void (*closed)(struct conn_slot *slot, int reason);
	struct conn_unread *unread; /**< NULL: none */
	struct conn_cost cost;
	struct vhub_server_stats stats;
	/* One for each kind of line, so that a flood of one does not hide another. */
	struct vhub_log_limit end_limit;     /**< sessions that ended badly */
	struct vhub_log_limit refusal_limit; /**< requests refused */
	struct vhub_log_limit busy_limit;    /**< front ends turned away */
	struct vhub_log_limit chat_limit;    /**< front ends that came and went */
	struct vhub_log_limit fds_limit;     /**< front ends that are not read, for their fds */
};

/** Makes a zeroed slot ready. Returns 0 or -ENOMEM. */
int
conn_slot_init(struct conn_slot *slot, struct vhub_loop *loop, struct vhub_req_handler *handler,
		void (*closed)(struct conn_slot *slot, int reason));

/** Gives back what conn_slot_init() took; no session is left. */
void
conn_slot_fini(struct conn_slot *slot);

/** Whether a handler has what it must have. */
bool
conn_handler_is_complete(const struct vhub_req_handler *handler);

/**
 * A front end is there on the connected socket `fd`, which is taken in every case. Returns 0 and
 * then slot->closed() will run, -EAGAIN (the slot is closed for a while), -EBUSY (conn_unread_is_left()),
 * -ENOMEM or what the handler's open refused it with.
 */
int
conn_session_open(struct conn_slot *slot, int fd, struct vhub_session **out);

/**
 * Closes the socket that `connection` holds for later. One that was never run may be a copy whose
 * original a forked child serves, so it is not shut down; and a parent that forks has one thread
 * and keeps to it, so it is closed here.
 */
void
conn_close_held(const struct vhub_connection *connection, int fd);

/* ---- unread.c ---- */

/** Whether the peer of a connected Unix socket has not read all that was sent on it. Thread: CTL. */
bool
conn_is_unread(int fd);

/** Hangs up as vhub_fd_hang_up() does, and has the slot remember that the peer has not read all. */
void
conn_unread_keep(struct conn_slot *slot, int fd);

/** Whether the peer still has not read it all, nor closed its end. */
bool
conn_unread_is_left(struct conn_slot *slot);

/** Before the slot goes, if not before. */
void
conn_unread_forget(struct conn_slot *slot);

/* ---- sockets.c ---- */

/** The socket of an open session; embedded in it. CTL. */
struct conn_socket {
	struct conn_socket *next;
	uint32_t inode; /**< 0: not known */
};

/** From here until conn_socket_leave() vhub_session_owns() knows `fd` and its peer. */
void
conn_socket_enter(struct conn_socket *socket, int fd);

/** Before the session closes its socket. */
void
conn_socket_leave(struct conn_socket *socket);

#endif /* CONN_PVT_H */
