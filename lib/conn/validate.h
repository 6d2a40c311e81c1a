/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a message must be like before a handler sees it, by the table of requests. Each check leaves
 * one sentence about what was wrong. Implemented in validate.c.
 */
#ifndef CONN_VALIDATE_H
#define CONN_VALIDATE_H

#include <stdbool.h>
#include <stdint.h>

#include "vhub_conn.h"

/** What was wrong: for a log line, with the value and what is allowed. */
struct conn_violation {
	char text[160];
};

/**
 * As soon as the header is there, so that nobody makes us read a payload that we will not take.
 * `supported`: see conn_request_supported(). Returns 0, or -EPROTO, which ends the session.
 */
int
conn_validate_header(const struct vhub_user_header *header, bool supported,
		struct conn_violation *violation);

/**
 * A whole message that is supported: its fds, and what its payload says about its own size.
 * `n_fds_surplus` came beyond those in `req`. Returns 0, or -EPROTO, which ends the session.
 */
int
conn_validate_message(const struct vhub_request *req, uint32_t n_fds_surplus,
		struct conn_violation *violation);

/** What a session has negotiated so far. */
struct conn_agreed {
	uint64_t protocol_features;
	bool has_features; /**< a SET_FEATURES was accepted */
	bool f_protocol;   /**< the last one had bit 30 */
};

/**
 * Whether it may come now, and as it is, after what was negotiated. Returns 0, or -EBUSY (the vring
 * runs), -EFAULT (no memory table yet), -EPERM (bit 30 missing), -EBADF (an fd missing), with which
 * the request is refused.
 */
int
conn_validate_moment(const struct vhub_request *req, struct vhub_req_handler *handler,
		const struct conn_agreed *agreed, struct conn_violation *violation);

#endif /* CONN_VALIDATE_H */
