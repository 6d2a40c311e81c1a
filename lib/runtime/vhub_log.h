/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Log lines, through rte_log, one log type for each part ("vhub.conn", "vhub.mem", ...), and the
 * limit on what a guest or a front end can make us print.
 */
#ifndef VHUB_LOG_H
#define VHUB_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_common.h>
#include <rte_log.h>

#include "vhub_common.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Declares this file's log type: VHUB_LOGTYPE(conn) registers "vhub.conn" and makes VHUB_LOG use
 * it. Once per source file that logs; several files may share a name (RTE_LOG_REGISTER would define
 * a global).
 */
#define VHUB_LOGTYPE(part) \
	static int vhub_logtype; \
	RTE_INIT(vhub_logtype_init) \
	{ \
		vhub_logtype = rte_log_register_type_and_pick_level(RTE_STR(vhub.part), \
				RTE_LOG_INFO); \
		if (vhub_logtype < 0) \
			vhub_logtype = RTE_LOGTYPE_EAL; \
	}

/**
 * Logs one line; LEVEL is ERR, WARNING, NOTICE, INFO or DEBUG. Thread: ANY, never on the fast path.
 */
#define VHUB_LOG(level, fmt, ...) \
	rte_log(RTE_LOG_##level, vhub_logtype, "vhub: " fmt "\n", ##__VA_ARGS__)

/** At most 10 lines at once and one more each second after that. Zero-initialised by its owner. */
struct vhub_log_limit {
	uint64_t last_ns; /**< runtime: when the tokens were counted last */
	uint32_t tokens;  /**< runtime: lines that may still be printed now */
	/**
	 * Lines swallowed since the last one let through; still there for that next line to tell.
	 */
	uint32_t suppressed;
	bool told; /**< runtime: `suppressed` belongs to a line let through */
	bool started;
};

/**
 * Tells whether a line caused by a peer may be printed now.
 * Thread: the one that owns `limit`. Does not block.
 */
VHUB_API bool
vhub_log_allowed(struct vhub_log_limit *limit);

#ifdef __cplusplus
}
#endif

#endif /* VHUB_LOG_H */
