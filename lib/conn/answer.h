/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which answer a request gets. Implemented in answer.c.
 */
#ifndef CONN_ANSWER_H
#define CONN_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "vhub_conn.h"

/** What decides it, beside the table. */
struct conn_answer_terms {
	int result;		    /**< of the slot, or of the checks before it: 0 or -errno */
	bool supported;		    /**< conn_request_supported() */
	bool reply_ack;		    /**< REPLY_ACK is negotiated */
	uint64_t protocol_features; /**< in force */
};

/**
 * Puts the answer into req->reply, reply_size_bytes and reply_fd. Returns 1 when it is to be sent,
 * 0 when there is none to send, or the -errno of a refusal that the front end cannot be told of,
 * which ends the session.
 */
int
conn_answer(struct vhub_request *req, const struct conn_answer_terms *terms);

#endif /* CONN_ANSWER_H */
