/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One vhost-user session as its front end, with any back end: from connect to GET_VRING_BASE. All
 * of it is the control path: thread main, may block, each answer for up to config.patience_ms.
 * Whoever fails has told why on standard error, naming the socket, what was asked, what came, and
 * what to do.
 *
 *   frontend_open()    connect (or listen), features, number of queues
 *   frontend_config()  the device's config space
 *   frontend_start()   memory table, inflight region, rings; they run when it returns
 *   frontend_stop()    GET_VRING_BASE of each
 *   frontend_close()
 *
 * When the back end has gone, frontend_reopen() and frontend_restart() make a new session with the
 * same features, memory, inflight region and rings.
 *
 * Files, in the order of a session: connect.c, wire.c, negotiate.c, inflight.c, frontend.c.
 */
#ifndef PERF_FRONTEND_H
#define PERF_FRONTEND_H

#include <stdbool.h>
#include <stdint.h>

#include "memory.h"
#include "ring.h"
#include "vhub_user.h"

/* A feature bit in messages; option: what asks for it, NULL: nothing. */
struct frontend_feature {
	unsigned int bit;
	const char *name;
	const char *option;
};

struct frontend_config {
	const char *path;
	bool listen; /* bind `path` and let the back end connect */
	unsigned int patience_ms;
	/* Device feature bits that are taken if offered; VERSION_1 and bit 30 come along. */
	uint64_t features;
	uint64_t required; /* of these, what has to be offered */
	/* The device's own feature bits, for messages; the last one has no name. */
	const struct frontend_feature *names;
	uint16_t n_rings; /* that are going to be started */
	bool inflight;	  /* INFLIGHT_SHMFD has to be offered; rings live through a crash */
	bool suspend;	  /* and GET_VRING_BASE_SKIP_DRAIN */
};

struct frontend {
	struct frontend_config config;
	int fd;	       /* -1: not connected */
	int listen_fd; /* -1: none */
	uint64_t offered;
	uint64_t features; /* negotiated */
	uint64_t protocol_offered;
	uint64_t protocol;
	/* That the back end serves, a pair of a net being one; UINT64_MAX: it does not say. */
	uint64_t max_queues;
	const struct perf_memory *mem;
	struct ring *const *rings;
	uint32_t *bases; /* that the back end told when each of them was stopped last */
	int inflight_fd; /* -1: none */
	struct vhub_user_inflight inflight;
	uint8_t *inflight_map; /* NULL: nobody has looked into it */
};

/*
 * Connects and negotiates. For patience_ms it tries again while nobody is there, and while the back
 * end hangs up at once, as one does that is busy with another front end. Returns 0, or -errno:
 * -ETIMEDOUT, -ENOTSUP (a feature), -EPROTO, -EINTR (asked to end), others of connect(2)
 * and bind(2).
 */
int
frontend_open(const struct frontend_config *config, struct frontend **out);

/*
 * Reads `bytes` of the device's config space from its start. Returns 0, -ENOTSUP (no CONFIG),
 * -EPROTO.
 */
int
frontend_read_config(struct frontend *fe, void *out, uint32_t bytes);

/*
 * Starts config.n_rings rings, which lie in `mem`: rings[i] is vring i; both stay the caller's and
 * outlive the session. Returns 0 or -errno.
 */
int
frontend_start(struct frontend *fe, const struct perf_memory *mem, struct ring *const *rings);

/*
 * Stops the rings; the back end gives back what is in flight first. Reap afterwards. Returns 0 or
 * -errno.
 */
int
frontend_stop(struct frontend *fe);

/*
 * Stops the rings with what they have in flight, which is in the inflight region then. Reap and
 * look (frontend_left()), then frontend_restart(). Returns 0 or -errno.
 */
int
frontend_suspend(struct frontend *fe);

/*
 * Looks into the inflight region, rings being stopped and reaped: *left requests of `ring` are
 * noted there, each once, and no other is; those that are not were not taken, as the back end told where
 * it stopped. Returns 0, -EPROTO (that is not so; told), -ENOMEM, or why the region cannot be mapped.
 */
int
frontend_left(struct frontend *fe, const struct ring *ring, uint32_t *left);

/* Whether the back end has hung up. Does not block. */
bool
frontend_hung_up(const struct frontend *fe);

/*
 * A new connection with the features of the first; -ENOTSUP if they are no longer offered. Like
 * frontend_open().
 */
int
frontend_reopen(struct frontend *fe);

/* The same with another back end, which listens at `path`. */
int
frontend_move(struct frontend *fe, const char *path);

/*
 * Starts the rings again as they stand (ring_base(), so reap first, or ring_reset()); with the
 * inflight region, if there is one. Returns 0 or -errno.
 */
int
frontend_restart(struct frontend *fe);

/* Hangs up, removes a bound socket; NULL is fine. */
void
frontend_close(struct frontend *fe);

/* ---- between the files of the front end ---- */

/* connect.c: fe->fd is connected within `ms`; quiet but for what cannot be waited out. */
int
frontend_connect(struct frontend *fe, unsigned int ms);

/* negotiate.c: -ECONNRESET without a word when the back end hangs up in the first answer. */
int
frontend_negotiate(struct frontend *fe);

/* inflight.c */
int
frontend_get_inflight(struct frontend *fe);
int
frontend_set_inflight(struct frontend *fe);
void
frontend_drop_inflight(struct frontend *fe);

/* wire.c */

/* What a request carries. */
struct wire_message {
	uint32_t request;
	uint32_t size;
	const void *payload;
	const int *fds;
	unsigned int n_fds;
};

/*
 * Sends and takes the reply: exactly `reply_bytes`, and one fd if `fd` is not NULL (-1: none came).
 * Returns 0, -ETIMEDOUT, -ECONNRESET, -EPROTO.
 */
int
wire_ask(struct frontend *fe, const struct wire_message *message, void *reply, uint32_t reply_bytes,
		int *fd);

/* Sends; with REPLY_ACK it waits for the acknowledgement. As above, -EREMOTEIO: refused. */
int
wire_tell(struct frontend *fe, const struct wire_message *message);
int
wire_tell_u64(struct frontend *fe, uint32_t request, uint64_t value);
int
wire_tell_state(struct frontend *fe, uint32_t request, uint32_t index, uint32_t num);
int
wire_ask_u64(struct frontend *fe, uint32_t request, uint64_t *value);

#endif /* PERF_FRONTEND_H */
