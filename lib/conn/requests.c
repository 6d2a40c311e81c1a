/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The table of requests as data, and the slot of a handler for each: both grow from
 * VHUB_USER_REQUESTS. validate.c judges by it, session.c dispatches by it. Next on the way:
 * frame.c.
 */
#include <rte_common.h>

#include "requests.h"

static const struct vhub_user_request_info infos[VHUB_USER_REQUEST_MAX] = {
#define REQUEST_INFO(num, name_, slot, size_min, size_max, fd_min, fd_max, feature, answer_, \
		when_) \
	[num] = { \
		.name = #name_, \
		.size_min_bytes = (size_min), \
		.size_max_bytes = (size_max), \
		.fds_min = (fd_min), \
		.fds_max = (fd_max), \
		.protocol_feature = (feature), \
		.answer = VHUB_USER_ANSWER_##answer_, \
		.when = (when_), \
	},
	VHUB_USER_REQUESTS(REQUEST_INFO)
#undef REQUEST_INFO
};

/* What a slot is given is a copy inside struct vhub_request: no row may outgrow it. */
#define REQUEST_FITS(num, name, slot, size_min, size_max, fd_min, fd_max, ...) \
	_Static_assert((size_min) <= (size_max) && (size_max) <= sizeof(union vhub_user_payload), \
			#name); \
	_Static_assert((fd_min) <= (fd_max) && (fd_max) <= VHUB_USER_MAX_TABLE_REGIONS, #name);
VHUB_USER_REQUESTS(REQUEST_FITS)
#undef REQUEST_FITS

const struct vhub_user_request_info *
vhub_user_request_info(uint32_t request)
{
	if (request >= VHUB_USER_REQUEST_MAX || infos[request].name == NULL)
		return NULL;
	return &infos[request];
}

const char *
vhub_user_protocol_feature_name(unsigned int num)
{
	static const char *const names[] = {
#define FEATURE_NAME(num, name) [num] = #name,
		VHUB_USER_PROTOCOL_FEATURES(FEATURE_NAME)
#undef FEATURE_NAME
	};

	return num < RTE_DIM(names) ? names[num] : NULL;
}

conn_request_slot
conn_request_slot_of(const struct vhub_req_handler_ops *ops, uint32_t request)
{
	switch (request) {
#define REQUEST_SLOT(num, name, slot, ...) \
	case (num): \
		return ops->slot;
		VHUB_USER_REQUESTS(REQUEST_SLOT)
#undef REQUEST_SLOT
	default:
		return NULL;
	}
}

bool
conn_request_supported(const struct vhub_req_handler_ops *ops, uint32_t request,
		uint64_t protocol_features)
{
	const struct vhub_user_request_info *info = vhub_user_request_info(request);

	if (info == NULL || conn_request_slot_of(ops, request) == NULL)
		return false;
	return info->protocol_feature < 0 || (protocol_features >> info->protocol_feature & 1) != 0;
}

const char *
conn_request_name(uint32_t request)
{
	const struct vhub_user_request_info *info = vhub_user_request_info(request);

	return info != NULL ? info->name : "unknown request";
}
