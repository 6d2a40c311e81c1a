/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The table of requests, as the files of this folder ask it. Implemented in requests.c.
 */
#ifndef CONN_REQUESTS_H
#define CONN_REQUESTS_H

#include <stdbool.h>
#include <stdint.h>

#include "vhub_conn.h"

/** Every slot of struct vhub_req_handler_ops that serves a request has this type. */
typedef int (*conn_request_slot)(struct vhub_req_handler *handler, struct vhub_request *req);

/** The slot that serves `request`; NULL where there is none. */
conn_request_slot
conn_request_slot_of(const struct vhub_req_handler_ops *ops, uint32_t request);

/**
 * Whether `request` can be served at all: known, with a slot, and with its protocol feature
 * negotiated. What is not supported is not judged by the table's other columns; it is swallowed and
 * refused.
 */
bool
conn_request_supported(const struct vhub_req_handler_ops *ops, uint32_t request,
		uint64_t protocol_features);

/** For log lines; never NULL. */
const char *
conn_request_name(uint32_t request);

#endif /* CONN_REQUESTS_H */
