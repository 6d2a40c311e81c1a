/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Messages on the socket: reading a request in whatever pieces it comes, and sending a reply in
 * whatever pieces it goes. Nothing here blocks, reads beyond the message at hand, or keeps an fd
 * that nobody owns. Implemented in frame.c.
 */
#ifndef CONN_FRAME_H
#define CONN_FRAME_H

#include <stdint.h>

#include "cost.h"
#include "vhub_conn.h"

/** More than any message has; what is larger is not read. */
#define CONN_MAX_PAYLOAD_BYTES (64u * 1024u)

/** How much of the request at hand has come, and fds behind it. Zeroed: nothing. */
struct conn_frame_in {
	uint32_t header_bytes;
	uint32_t payload_bytes;
	uint32_t n_fds_surplus; /**< came beyond what struct vhub_request holds, and were closed */
	/** of the next piece that has some, which is not read yet */
	uint32_t n_ahead;
	int ahead[VHUB_USER_MAX_TABLE_REGIONS];
	uint32_t n_losses;	/**< looks in a row that missed fds though numbers were free */
	struct conn_cost *cost; /**< of what is read; NULL: nobody asks */
};

/** A reply on its way out. Zeroed but for fd = -1: nothing. */
struct conn_frame_out {
	uint32_t size_bytes; /**< 0: there is none */
	uint32_t sent_bytes;
	int fd;			/**< goes with the first byte and is closed then; -1: none */
	struct conn_cost *cost; /**< of what is sent; NULL: nobody asks */
	uint8_t bytes[sizeof(struct vhub_user_header) + sizeof(union vhub_user_payload)];
};

/** Makes a connected socket ready for the readers below; once, before the first. */
void
conn_frame_prepare(int sock);

/** Closes the fds that `req` still has, and makes both ready for the next message. */
void
conn_frame_reset(struct conn_frame_in *in, struct vhub_request *req);

/** As conn_frame_reset(), and nothing more will be read. */
void
conn_frame_close(struct conn_frame_in *in, struct vhub_request *req);

/**
 * Reads what is missing of the header. Returns 1 when it is whole, 0 when the rest has to be waited
 * for, or for the next turn; -ENODATA when the peer has hung up. Worth another look later: -EDQUOT when too many fds of its
 * slot wait to be closed, and nothing was read; -EMFILE when fds come for which too few numbers are
 * free, and what is left stays in the socket. -EMSGSIZE when fds cannot be had for another reason, or
 * an errno of recvmsg(2).
 */
int
conn_frame_read_header(int sock, struct conn_frame_in *in, struct vhub_request *req);

/**
 * Reads what is missing of the payload that the header announces, which is at most
 * CONN_MAX_PAYLOAD_BYTES; what req->payload cannot hold is thrown away. Returns as
 * conn_frame_read_header().
 */
int
conn_frame_read_payload(int sock, struct conn_frame_in *in, struct vhub_request *req);

/**
 * Makes the reply that `req` holds (reply, reply_size_bytes, reply_fd) the one to be sent; takes
 * the fd.
 */
void
conn_frame_reply(struct conn_frame_out *out, struct vhub_request *req);

/**
 * Sends what is left. Returns 1 when nothing is left, 0 when the socket must become writable first,
 * or an errno of sendmsg(2), -EPIPE and -ECONNRESET when the peer has hung up.
 */
int
conn_frame_send(int sock, struct conn_frame_out *out);

/** Forgets the reply, if there is one, and closes its fd. */
void
conn_frame_drop(struct conn_frame_out *out);

#endif /* CONN_FRAME_H */
