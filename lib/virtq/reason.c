/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Why rings break, in words: for the log line of lib/device and for statistics.
 */
#include <rte_common.h>

#include "vhub_virtq.h"

static const char *const reason_names[] = {
	[VHUB_VIRTQ_OK] = "not broken",
	[VHUB_VIRTQ_AVAIL_RUNAWAY] = "more chains available than the ring has entries",
	[VHUB_VIRTQ_BAD_HEAD] = "head of a chain beyond the descriptor table",
	[VHUB_VIRTQ_HEAD_IN_FLIGHT] = "head of a chain offered while it is in flight",
	[VHUB_VIRTQ_BAD_NEXT] = "next descriptor beyond its table",
	[VHUB_VIRTQ_LOOP] = "chain longer than its table",
	[VHUB_VIRTQ_TOO_LONG] = "chain with too many pieces, or of 4 GiB or more",
	[VHUB_VIRTQ_BAD_ADDRESS] = "descriptor address outside of guest memory",
	[VHUB_VIRTQ_ZERO_LENGTH] = "descriptor of length 0",
	[VHUB_VIRTQ_BAD_ORDER] = "readable descriptor after a writable one",
	[VHUB_VIRTQ_BAD_INDIRECT] = "indirect table where none may be, or of an impossible size",
	[VHUB_VIRTQ_BAD_INFLIGHT] = "inflight region that makes no sense",
	[VHUB_VIRTQ_BAD_REQUEST] = "request that cannot be answered",
	[VHUB_VIRTQ_SMALL_BUFFER] = "receive buffer without room for a header",
	[VHUB_VIRTQ_NOTIFY_STUCK] = "call file descriptor blocks",
	[VHUB_VIRTQ_MEMORY_LOST] = "guest memory was not there",
};

const char *
vhub_virtq_reason_name(enum vhub_virtq_reason reason)
{
	if ((unsigned int)reason >= RTE_DIM(reason_names))
		return "unknown";
	return reason_names[reason];
}
