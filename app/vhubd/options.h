/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What vhubd was asked to do: the result of reading its command line and its configuration file.
 * Filled by options.c and config_file.c, used by main.c.
 */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_kvargs.h>

#include "affinity.h"
#include "vhub_conn.h"
#include "vhub_device.h"

#define MAX_SLOTS 512
#define MAX_LOADS 32
#define DEFAULT_IDLE_US 50

/** How a slot's front end comes. */
enum connection_kind {
	CONNECTION_LISTEN,  /**< socket=PATH */
	CONNECTION_INHERIT, /**< fd=N */
	CONNECTION_DIAL,    /**< connect=PATH */
	CONNECTION_NONE,    /**< the device has no front end */
};

/** One --blk (or another kind of device). */
struct slot_options {
	char name[64];
	const struct vhub_builder_ops *ops;
	char *pairs; /**< "key=value,..." as given, for those who want to write it down */
	struct rte_kvargs *own_args;	/**< holds the strings that `listener` points to */
	struct rte_kvargs *device_args; /**< for the builder */
	enum connection_kind connection;
	struct vhub_listener_options listener; /**< also the path to dial */
	int fd;
	struct affinity affinity; /**< where its queues begin */
	struct vhub_builder *builder;
	bool of_start; /**< vhubd was started with it */
	bool retries;  /**< when it cannot be built it stays, and is tried again */
};

struct options {
	int eal_argc; /**< arguments before "--", 0 when there was none */
	char **eal_argv;

	/* Keys of the daemon itself: "--idle poll", or "idle = poll" in a file's [vhubd]. */
	uint32_t log_level;
	enum vhub_idle_policy idle_policy;
	uint32_t idle_us;
	bool telemetry;
	bool retry_failed; /**< devices that cannot be built do not end vhubd */
	char *control;	   /**< path of the control socket, NULL none */
	unsigned int n_loads;
	char *loads[MAX_LOADS];

	bool ends_with_front_end; /**< when the first front end has gone */
	unsigned int n_slots;
	struct slot_options slots[MAX_SLOTS];
};

/** Defaults. For who fills the options in another way than options_parse(). */
void
options_init(struct options *options);

/**
 * Reads the command line. Returns 0; 1 when --help or --version has said all; with one line on stderr -EINVAL or
 * -ENOKEY when something is written wrong, another negative errno when a file cannot be read or memory is short.
 * options_free() afterwards in every case.
 */
int
options_parse(struct options *options, int argc, char **argv);

/**
 * Sets a key of the daemon's own, such as "idle". Returns 0, -ENOENT (there is no such key),
 * -EINVAL with what is allowed in `error`, -ELIBACC (it cannot be loaded) or -ENOMEM with why.
 */
int
options_set(struct options *options, const char *key, const char *value, char *error,
		size_t error_len);

/**
 * Adds a device of kind `ops` from its specification (slot_spec.h). Returns 0, or -EINVAL with one
 * sentence in `error`.
 */
int
options_add_device(struct options *options, const struct vhub_builder_ops *ops, const char *spec,
		char *error, size_t error_len);

/** Whether a key of the daemon's own may be given more than once and adds up. */
bool
options_key_repeats(const char *key);

/**
 * The i-th key of the daemon's own as it is set now, for who wants to write it down: false beyond
 * the last; *value is empty where nothing is set.
 */
bool
options_get(const struct options *options, unsigned int i, const char **key, char *value,
		size_t len);

/** Frees what is left of it: builders that were not used. */
void
options_free(struct options *options);

#endif /* OPTIONS_H */
