/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The limit on log lines that a guest or a front end causes: a bucket of tokens for each place that
 * logs. Called off the fast path by whoever prints such a line.
 */
#include <time.h>

#include "vhub_log.h"

#define LOG_BURST_LINES 10
#define LOG_REFILL_NS 1000000000ull

static uint64_t
log_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

/* Adds one token for each whole second since the last one was added. */
static void
log_refill(struct vhub_log_limit *limit, uint64_t now_ns)
{
	const uint64_t n = (now_ns - limit->last_ns) / LOG_REFILL_NS;

	if (n >= LOG_BURST_LINES - limit->tokens) {
		limit->tokens = LOG_BURST_LINES;
		limit->last_ns = now_ns;
	} else {
		limit->tokens += (uint32_t)n;
		limit->last_ns += n * LOG_REFILL_NS;
	}
}

bool
vhub_log_allowed(struct vhub_log_limit *limit)
{
	const uint64_t now_ns = log_now_ns();

	if (!limit->started) {
		*limit = (struct vhub_log_limit){ .started = true,
			.tokens = LOG_BURST_LINES,
			.last_ns = now_ns };
	}
	if (limit->tokens < LOG_BURST_LINES)
		log_refill(limit, now_ns);
	else
		limit->last_ns = now_ns;
	if (limit->told) {
		limit->suppressed = 0;
		limit->told = false;
	}
	if (limit->tokens == 0) {
		if (limit->suppressed < UINT32_MAX)
			limit->suppressed++;
		return false;
	}
	limit->tokens--;
	limit->told = true;
	return true;
}
