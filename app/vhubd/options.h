/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What vhubd was asked to do: the result of reading its command line. Filled by options.c, used by
 * main.c.
 */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_kvargs.h>

#include "vhub_conn.h"
#include "vhub_device.h"

#define MAX_SLOTS 512

/** How a slot's front end comes. */
enum connection_kind {
	CONNECTION_LISTEN,  /**< socket=PATH */
	CONNECTION_INHERIT, /**< fd=N */
	CONNECTION_DIAL,    /**< connect=PATH */
};

/** One --blk (or another kind of device). */
struct slot_options {
	char name[64];
	struct rte_kvargs *connection_args; /**< holds the strings that `listener` points to */
	struct rte_kvargs *device_args;
	enum connection_kind connection;
	struct vhub_listener_options listener; /**< also the path to dial */
	int fd;
	struct vhub_builder *builder;
};

struct options {
	int eal_argc; /**< arguments before "--", 0 when there was none */
	char **eal_argv;
	uint32_t log_level;
	enum vhub_idle_policy idle_policy;
	uint32_t idle_us;
	bool ends_with_front_end; /**< when the first front end has gone */
	unsigned int n_slots;
	struct slot_options slots[MAX_SLOTS];
};

/** Defaults. For who fills the options in another way than options_parse(). */
void
options_init(struct options *options);

/**
 * Reads the command line. Returns 0; -EINVAL when something is wrong, with one line on stderr; 1
 * when --help or --version has said all. options_free() afterwards in every case.
 */
int
options_parse(struct options *options, int argc, char **argv);

/**
 * Sets a key of the daemon's own, such as "idle". Returns 0, -ENOENT (there is no such key),
 * -EINVAL with what is allowed in `error`.
 */
int
options_set(struct options *options, const char *key, const char *value, char *error,
		size_t error_len);

/** Frees what is left of it: builders that were not used. */
void
options_free(struct options *options);

#endif /* OPTIONS_H */
