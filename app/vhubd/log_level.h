/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Log levels by name, the same on the command line, in a configuration file and from a control
 * client.
 */
#ifndef LOG_LEVEL_H
#define LOG_LEVEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Types of log lines that --log-level sets: vhub's own. */
#define LOG_LEVEL_OURS "vhub.*"

/** What may be said, for error messages. */
#define LOG_LEVEL_ALLOWED "error, warning, notice, info and debug"

/** Returns 0 and rte_log's level in *level, or -EINVAL: there is no such level. */
int
log_level_parse(const char *name, uint32_t *level);

/** The name of a level that log_level_parse() has given. */
const char *
log_level_name(uint32_t level);

/**
 * Whether `pattern` is of any type of log lines there is; `ours` gets the names of vhub's own. True where
 * memory is short.
 */
bool
log_level_has_type(const char *pattern, char *ours, size_t len);

#endif /* LOG_LEVEL_H */
