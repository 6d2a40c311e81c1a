/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which answer a request gets: its own reply, an ack, an error reply, or none ("Communication" and
 * "VHOST_USER_PROTOCOL_F_REPLY_ACK"). Called by session.c with what a slot returned; frame.c sends
 * it.
 *
 *   answer column   done                          refused
 *   ACK             0 when asked, else nothing    errno when asked, else the session ends
 *   REPLY           the slot's reply              the slot's or the specification's error reply,
 *                                                 else the session ends
 *   LOG             as ACK; once LOG_SHMFD is negotiated always 0 or errno
 *
 * "When asked": need_reply, and REPLY_ACK negotiated. For requests that have a reply need_reply
 * changes nothing, but for one that is not supported at all: whatever its reply would have been,
 * the front end that asks is told.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "answer.h"

/*
 * In the u64 that answers SET_DEVICE_STATE_FD: bits 0 to 7 the error, bit 8 "no fd comes with
 * this".
 */
#define DEVICE_STATE_ERROR_MASK 0xffu
#define DEVICE_STATE_NOFD 0x100u

static int
answer_u64(struct vhub_request *req, uint64_t value)
{
	if (req->reply_fd >= 0)
		close(req->reply_fd);
	req->reply_fd = -1;
	memset(&req->reply, 0, sizeof(req->reply));
	req->reply.u64 = value;
	req->reply_size_bytes = sizeof(req->reply.u64);
	return 1;
}

static int
answer_empty(struct vhub_request *req)
{
	answer_u64(req, 0);
	req->reply_size_bytes = 0;
	return 1;
}

/* The error reply that the specification gives this request. Returns 0 when it gives none. */
static int
answer_error(struct vhub_request *req, uint64_t error)
{
	const uint64_t low = (error & DEVICE_STATE_ERROR_MASK) != 0 ?
			error & DEVICE_STATE_ERROR_MASK :
			EIO;

	switch (req->header.request) {
	case VHUB_USER_IOTLB_MSG:
	case VHUB_USER_POSTCOPY_END:
	case VHUB_USER_CHECK_DEVICE_STATE:
		return answer_u64(req, error);
	case VHUB_USER_SET_DEVICE_STATE_FD:
		return answer_u64(req, DEVICE_STATE_NOFD | low);
	case VHUB_USER_GET_CONFIG:	  /* "zero length of payload to indicate an error" */
	case VHUB_USER_GET_SHARED_OBJECT: /* "or no fd otherwise" */
		return answer_empty(req);
	default:
		return 0;
	}
}

static int
answer_refused(struct vhub_request *req, const struct conn_answer_terms *terms, int kind,
		bool asked)
{
	const uint64_t error = (uint64_t) - (int64_t)terms->result;

	if (kind == VHUB_USER_ANSWER_REPLY) {
		if (terms->supported && req->reply_size_bytes > 0)
			return 1;
		if (answer_error(req, error) != 0)
			return 1;
		asked = asked && !terms->supported;
	}
	return asked ? answer_u64(req, error) : terms->result;
}

int
conn_answer(struct vhub_request *req, const struct conn_answer_terms *terms)
{
	const struct vhub_user_request_info *info = vhub_user_request_info(req->header.request);
	const int kind = info != NULL ? info->answer : VHUB_USER_ANSWER_ACK;
	bool asked = terms->reply_ack && (req->header.flags & VHUB_USER_NEED_REPLY) != 0;

	if (kind == VHUB_USER_ANSWER_LOG &&
			(terms->protocol_features & VHUB_USER_PF(LOG_SHMFD)) != 0)
		asked = true;
	if (terms->result < 0)
		return answer_refused(req, terms, kind, asked);
	if (kind == VHUB_USER_ANSWER_REPLY)
		return 1;
	return asked ? answer_u64(req, 0) : 0;
}
