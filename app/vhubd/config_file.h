/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The configuration file: INI. Nothing in it is too long.
 *
 *     [vhubd]
 *     idle = poll
 *     control = /run/vhub/control.sock
 *
 *     [blk disk0]             # KIND NAME, then the keys of --KIND
 *     socket = /run/vhub/disk0.sock
 *     driver = malloc
 *     size = 1G
 *
 * Comments begin with '#', "\#" is a '#' in a value. Sections are read in the order in which they
 * stand, as options are.
 */
#ifndef CONFIG_FILE_H
#define CONFIG_FILE_H

#include "options.h"

/** The section with the daemon's own keys. */
#define CONFIG_DAEMON_SECTION "vhubd"
#define CONFIG_COMMENT '#'

/** Reads a file into the options. Returns 0, or a negative errno with one line on stderr. */
int
config_file_read(struct options *options, const char *path);

/**
 * Whether a key's value can be written so that config_file_read() gets it back; if not, `error` says
 * why.
 */
bool
config_file_can_hold(const char *key, const char *value, char *error, size_t error_len);

#endif /* CONFIG_FILE_H */
