/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The checks between the socket and a handler, see validate.h. Called by session.c; what passes
 * goes to the handler's slot, as in lib/device. Next on the way: session.c, and back through
 * answer.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "frame.h"
#include "validate.h"

static int __attribute__((format(printf, 2, 3)))
broken(struct conn_violation *violation, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(violation->text, sizeof(violation->text), format, args);
	va_end(args);
	return -EPROTO;
}

/*
 * Two forms, two sizes, and nothing between; of the C structures some senders leave out the padding
 * at the end.
 */
static bool
has_two_sizes(uint32_t request)
{
	switch (request) {
	case VHUB_USER_SET_LOG_BASE:
	case VHUB_USER_SET_LOG_FD:
	case VHUB_USER_SET_BACKEND_REQ_FD:
	case VHUB_USER_GET_INFLIGHT_FD:
	case VHUB_USER_SET_INFLIGHT_FD:
	case VHUB_USER_IOTLB_MSG:
		return true;
	default:
		return false;
	}
}

int
conn_validate_header(const struct vhub_user_header *header, bool supported,
		struct conn_violation *violation)
{
	const struct vhub_user_request_info *info = vhub_user_request_info(header->request);

	if ((header->flags & VHUB_USER_VERSION_MASK) != VHUB_USER_VERSION)
		return broken(violation, "version %u, only 1 is known",
				header->flags & VHUB_USER_VERSION_MASK);
	if ((header->flags & VHUB_USER_REPLY) != 0)
		return broken(violation, "flags 0x%x: a reply where a request belongs",
				header->flags);
	if (header->size > CONN_MAX_PAYLOAD_BYTES)
		return broken(violation, "payload of %u bytes, no message has more than %u",
				header->size, CONN_MAX_PAYLOAD_BYTES);
	if (!supported)
		return 0;
	if (header->size < info->size_min_bytes || header->size > info->size_max_bytes)
		return broken(violation, "payload of %u bytes, allowed are %u to %u", header->size,
				info->size_min_bytes, info->size_max_bytes);
	if (has_two_sizes(header->request) && header->size != info->size_min_bytes &&
			header->size != info->size_max_bytes)
		return broken(violation, "payload of %u bytes, allowed are %u or %u", header->size,
				info->size_min_bytes, info->size_max_bytes);
	return 0;
}

/*
 * "Bits (0-7) of the payload contain the vring index. Bit 8 is the invalid FD flag"; the rest is
 * not defined.
 */
static int
check_vring_fd(const struct vhub_request *req, struct conn_violation *violation)
{
	const uint64_t u64 = req->payload.u64;
	const bool no_fd = (u64 & VHUB_USER_VRING_NOFD) != 0;

	if ((u64 & ~(VHUB_USER_VRING_INDEX_MASK | VHUB_USER_VRING_NOFD)) != 0)
		return broken(violation, "vring 0x%" PRIx64 ", an index has 8 bits", u64);
	if (no_fd != (req->n_fds == 0))
		return broken(violation, "%u fds, and the flag for no fd is %s", req->n_fds,
				no_fd ? "set" : "clear");
	return 0;
}

static int
check_mem_table(const struct vhub_request *req, struct conn_violation *violation)
{
	const uint32_t n = req->payload.mem.n_regions;
	uint64_t size;

	if (n > VHUB_USER_MAX_TABLE_REGIONS)
		return broken(violation, "%u regions, allowed are 0 to %u", n,
				VHUB_USER_MAX_TABLE_REGIONS);
	size = VHUB_USER_MEM_TABLE_HEAD + (uint64_t)n * sizeof(struct vhub_user_mem_region);
	if (req->header.size < size)
		return broken(violation, "payload of %u bytes, %u regions take %" PRIu64,
				req->header.size, n, size);
	if (req->n_fds != n)
		return broken(violation, "%u fds for %u regions", req->n_fds, n);
	return 0;
}

static int
check_config(const struct vhub_request *req, struct conn_violation *violation)
{
	const uint64_t size = (uint64_t)VHUB_USER_CONFIG_HEAD + req->payload.config.size;

	if (req->header.size < size)
		return broken(violation,
				"payload of %u bytes, %u bytes of config space take %" PRIu64,
				req->header.size, req->payload.config.size, size);
	return 0;
}

/*
 * "It is considered an error to negotiate this feature without ...": the back end is to close the
 * connection.
 */
static int
check_protocol_features(const struct vhub_request *req, struct conn_violation *violation)
{
	const uint64_t inband = VHUB_USER_PF(INBAND_NOTIFICATIONS);
	const uint64_t needs = VHUB_USER_PF(BACKEND_REQ) | VHUB_USER_PF(REPLY_ACK);

	if ((req->payload.u64 & inband) != 0 && (req->payload.u64 & needs) != needs)
		return broken(violation,
				"0x%" PRIx64
				": INBAND_NOTIFICATIONS without BACKEND_REQ and REPLY_ACK",
				req->payload.u64);
	return 0;
}

static int
check_payload(const struct vhub_request *req, struct conn_violation *violation)
{
	switch (req->header.request) {
	case VHUB_USER_SET_MEM_TABLE:
		return check_mem_table(req, violation);
	case VHUB_USER_SET_VRING_KICK:
	case VHUB_USER_SET_VRING_CALL:
	case VHUB_USER_SET_VRING_ERR:
		return check_vring_fd(req, violation);
	case VHUB_USER_GET_CONFIG:
	case VHUB_USER_SET_CONFIG:
		return check_config(req, violation);
	case VHUB_USER_SET_PROTOCOL_FEATURES:
		return check_protocol_features(req, violation);
	default:
		return 0;
	}
}

int
conn_validate_message(const struct vhub_request *req, uint32_t n_fds_surplus,
		struct conn_violation *violation)
{
	const struct vhub_user_request_info *info = vhub_user_request_info(req->header.request);
	const uint64_t n_fds = (uint64_t)req->n_fds + n_fds_surplus;

	if (n_fds < info->fds_min || n_fds > info->fds_max)
		return broken(violation, "%" PRIu64 " fds, allowed are %u to %u", n_fds,
				info->fds_min, info->fds_max);
	return check_payload(req, violation);
}

/* The vring that a request names, 0 for those that name none. */
static uint32_t
vring_index(const struct vhub_request *req)
{
	switch (req->header.request) {
	case VHUB_USER_SET_VRING_KICK:
		return (uint32_t)(req->payload.u64 & VHUB_USER_VRING_INDEX_MASK);
	case VHUB_USER_SET_VRING_ADDR:
		return req->payload.addr.index;
	case VHUB_USER_SET_VRING_NUM:
	case VHUB_USER_SET_VRING_BASE:
	case VHUB_USER_SET_VRING_ENDIAN:
	case VHUB_USER_SET_VRING_ENABLE:
	case VHUB_USER_VRING_KICK:
		return req->payload.state.index;
	default:
		return 0;
	}
}

int
conn_validate_moment(const struct vhub_request *req, struct vhub_req_handler *handler,
		const struct conn_agreed *agreed, struct conn_violation *violation)
{
	const uint32_t index = vring_index(req);
	uint32_t missing = vhub_user_request_info(req->header.request)->when;

	/* QEMU and virtio-user enable the rings of a network port before they set its features. */
	if ((missing & VHUB_USER_WHEN_F_PROTOCOL) != 0 && agreed->has_features &&
			!agreed->f_protocol) {
		broken(violation, "after SET_FEATURES without bit 30");
		return -EPERM;
	}
	/* "The log memory fd is provided ..., the size and offset ... in the message". */
	if (req->header.request == VHUB_USER_SET_LOG_BASE &&
			(agreed->protocol_features & VHUB_USER_PF(LOG_SHMFD)) != 0 &&
			(req->n_fds == 0 || req->header.size < sizeof(req->payload.log))) {
		broken(violation, "%u bytes and %u fds, LOG_SHMFD asks for %zu and 1",
				req->header.size, req->n_fds, sizeof(req->payload.log));
		return -EBADF;
	}
	missing &= VHUB_USER_WHEN_STOPPED | VHUB_USER_WHEN_MEMORY;
	if (missing != 0)
		missing &= ~handler->ops->when(handler, index);
	if ((missing & VHUB_USER_WHEN_STOPPED) != 0) {
		broken(violation, "while vring %u runs", index);
		return -EBUSY;
	}
	if ((missing & VHUB_USER_WHEN_MEMORY) != 0) {
		broken(violation, "before a memory table");
		return -EFAULT;
	}
	return 0;
}
