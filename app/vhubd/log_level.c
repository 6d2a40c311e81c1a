/* SPDX-License-Identifier: BSD-3-Clause */
/* Log levels by name. Called by options.c and control_daemon.c. */
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bsd/string.h>

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

bool
log_level_has_type(const char *pattern, char *ours, size_t len)
{
	char *list = NULL, *rest, *name;
	size_t list_len = 0;
	FILE *lines = open_memstream(&list, &list_len);
	bool found = false;

	ours[0] = '\0';
	if (lines == NULL)
		return true;
	rte_log_list_types(lines, "");
	fclose(lines);
	for (rest = list; (name = strsep(&rest, "\n")) != NULL;) {
		if (fnmatch(pattern, name, 0) == 0 && name[0] != '\0')
			found = true;
		if (fnmatch(LOG_LEVEL_OURS, name, 0) != 0)
			continue;
		strlcat(ours, ours[0] == '\0' ? "" : ", ", len);
		strlcat(ours, name, len);
	}
	free(list);
	return found;
}
