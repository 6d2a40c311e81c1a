/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What runs now, as a configuration file that --config reads back. Called by control_daemon.c.
 */
#ifndef CONFIG_SAVE_H
#define CONFIG_SAVE_H

#include "options.h"
#include "slots.h"

/**
 * The text, to be freed, in *out: the daemon's keys, and every device that is served, or is one of the
 * start and is to be. Returns 0, or with one sentence in `error` -ENOMEM, -ESHUTDOWN, or -EINVAL:
 * something does not fit into such a file. Thread: CTL.
 */
int
config_save_text(const struct options *options, const struct slots *slots, char **out, char *error,
		size_t error_len);

/**
 * Puts `text` into the file `path`, or where a link of that name leads, which holds either what it held before or
 * all of the text. It keeps its mode, and its owner and group as far as we may give it to them. One at a time.
 * Thread: WORK; blocks. Returns 0, or a negative errno with one sentence in `error`.
 */
int
config_save_write(const char *path, const char *text, char *error, size_t error_len);

#endif /* CONFIG_SAVE_H */
