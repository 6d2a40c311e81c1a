/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device specification, "disk0,socket=/run/vhub/disk0.sock,driver=malloc,size=1G": the same on
 * the command line and in a configuration file.
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

/** Gives back the arguments and the builder, if it is still there. */
void
slot_spec_free(struct slot_options *slot);

/** One line for each argument that every kind of device has, for --help. */
extern const char slot_spec_help[];

#endif /* SLOT_SPEC_H */
