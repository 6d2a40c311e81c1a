/* SPDX-License-Identifier: BSD-3-Clause */
/* Log levels by name. Called by options.c and control_daemon.c. */
#include <errno.h>
#include <string.h>

#include <rte_common.h>
#include <rte_log.h>

#include "log_level.h"

static const struct {
	const char *name;
	uint32_t level;
} log_levels[] = {
	{ "error", RTE_LOG_ERR },
	{ "warning", RTE_LOG_WARNING },
	{ "notice", RTE_LOG_NOTICE },
	{ "info", RTE_LOG_INFO },
	{ "debug", RTE_LOG_DEBUG },
};

int
log_level_parse(const char *name, uint32_t *level)
{
	unsigned int i;

	for (i = 0; i < RTE_DIM(log_levels); i++) {
		if (strcmp(name, log_levels[i].name) == 0) {
			*level = log_levels[i].level;
			return 0;
		}
	}
	return -EINVAL;
}

const char *
log_level_name(uint32_t level)
{
	unsigned int i;

	for (i = 0; i < RTE_DIM(log_levels); i++) {
		if (log_levels[i].level == level)
			return log_levels[i].name;
	}
	return "";
}
