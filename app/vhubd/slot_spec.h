/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device specification, "disk0,socket=/run/vhub/disk0.sock,driver=malloc,size=1G": the same on
 * the command line, in a configuration file and from a control client.
 *
 * A value may have brackets: inside of them commas are its own. Where they are around all of it, as
 * in port=[net_tap0,iface=tap0], they are taken off here: the builder gets "net_tap0,iface=tap0".
 * A '=' after the first is the value's. All of it is UTF-8, and a configuration file can hold each value.
 */
#ifndef SLOT_SPEC_H
#define SLOT_SPEC_H

#include "options.h"

/**
 * Reads `text` as a device of kind `ops` into `slot`. Returns 0, or -EINVAL with one sentence in
 * `error`; what was made so far is then given back by slot_spec_free().
 */
int
slot_spec_parse(struct slot_options *slot, const struct vhub_builder_ops *ops, const char *text,
		char *error, size_t error_len);

/**
 * Looks up the users and groups that are given by name, which may ask a server. Thread: WORK; blocks. Returns 0, or
 * a negative errno with one sentence in `error`.
 */
int
slot_spec_find_ids(struct slot_options *slot, char *error, size_t error_len);

/**
 * Adds a pair to the heap string *spec, which begins with the device's name. Returns 0, or -EINVAL
 * with one sentence in `error` (a value that would be two), or -ENOMEM; *spec is as before then.
 */
int
slot_spec_append(char **spec, const char *key, const char *value, char *error, size_t error_len);

/**
 * Has `key` be `value` among slot_options.pairs, which device_list shows and config_save writes.
 * Returns 0 or -ENOMEM, and they are as before then.
 */
int
slot_spec_set(struct slot_options *slot, const char *key, const char *value);

/** Takes the next "key=value" of slot_options.pairs, brackets and all; false at the end. */
bool
slot_spec_next(const char **pairs, char *pair, size_t len);

/** Gives back the arguments and the builder, if it is still there. */
void
slot_spec_free(struct slot_options *slot);

/** One line for each argument of a device with a front end, and of every device, for --help. */
extern const char slot_spec_help[];
extern const char slot_spec_common_help[];

#endif /* SLOT_SPEC_H */
