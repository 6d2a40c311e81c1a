/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What every registry of const ops tables shares (device builders, block drivers), and reading
 * their arguments.
 */
#ifndef VHUB_REGISTRY_H
#define VHUB_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rte_kvargs.h>

#include "vhub_common.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Most entries of one registry. */
#define VHUB_REGISTRY_MAX 32

/**
 * A registry: entries are const structures whose first member is their name. Zero-initialised it is
 * empty.
 */
struct vhub_registry {
	const void *entries[VHUB_REGISTRY_MAX];
	unsigned int n;
};

/**
 * Adds an entry. Thread: CTL or a constructor. Returns 0, -EEXIST (the name is taken), -EINVAL (no
 * name), -ENOSPC.
 */
VHUB_API int
vhub_registry_add(struct vhub_registry *registry, const void *entry);

/** By name, NULL when there is none; the i-th, NULL beyond the last. Thread: CTL. */
VHUB_API const void *
vhub_registry_find(const struct vhub_registry *registry, const char *name);
VHUB_API const void *
vhub_registry_at(const struct vhub_registry *registry, unsigned int i);

/**
 * For the register macros: ends the program with a message when a registration was refused, for it
 * is a programming error.
 */
VHUB_API void
vhub_registered(int result, const char *name);

/** What the ops table of every driver begins with. */
struct vhub_driver_head {
	const char *name;	 /**< as in driver=NAME */
	const char *help;	 /**< one line for each argument */
	const char *const *keys; /**< names of its arguments, NULL-terminated */
};

/** Appends a driver and its arguments to the help of its builder. Thread: CTL or a constructor. */
VHUB_API void
vhub_driver_add_help(const void *driver, char *help, size_t help_len);

/**
 * The driver that driver=NAME names. Thread: CTL. Returns 0 or -EINVAL with a sentence that names
 * those there are.
 */
VHUB_API int
vhub_arg_driver(const struct rte_kvargs *args, const struct vhub_registry *drivers,
		const void **driver, char *error, size_t error_len);

/**
 * Checks that each argument is one of `own_keys` (NULL-terminated) or of the driver's, and comes
 * once. Thread: CTL. Returns 0, or with a sentence -EINVAL or -ENOKEY: an argument is neither's, and the
 * sentence ends with the list of those that are, to which a program may add its own.
 */
VHUB_API int
vhub_arg_check_keys(const struct rte_kvargs *args, const char *const *own_keys, const void *driver,
		char *error, size_t error_len);

/*
 * Arguments. Each returns 0 and leaves *value alone when the key is absent, or -EINVAL with a
 * sentence in `error` that names the key, the value and what is allowed. Thread: ANY.
 */

/** A size with an optional suffix k, M, G, T (powers of 1024): "64M". */
VHUB_API int
vhub_arg_size(const struct rte_kvargs *args, const char *key, uint64_t min, uint64_t max,
		uint64_t *value, char *error, size_t error_len);

/** A decimal number. */
VHUB_API int
vhub_arg_uint(const struct rte_kvargs *args, const char *key, uint64_t min, uint64_t max,
		uint64_t *value, char *error, size_t error_len);

/** How many requests or packets, with an optional suffix k, M, G (powers of 1000): "10k". */
VHUB_API int
vhub_arg_count(const struct rte_kvargs *args, const char *key, uint64_t min, uint64_t max,
		uint64_t *value, char *error, size_t error_len);

/**
 * Numbers and ranges of numbers from `min` to `max`, "10+20-29": `add` gets one after the other, and may refuse. Returns
 * 0 or -EINVAL. Thread: ANY.
 */
VHUB_API int
vhub_text_ranges(const char *text, uint16_t min, uint16_t max,
		bool (*add)(void *arg, uint16_t first, uint16_t last), void *arg);

/** on, off, yes, no, true, false, 1, 0. Returns 0 or -EINVAL. Thread: ANY. */
VHUB_API int
vhub_text_bool(const char *text, bool *value);

/** The same of an argument. */
VHUB_API int
vhub_arg_bool(const struct rte_kvargs *args, const char *key, bool *value, char *error,
		size_t error_len);

/** One of a NULL-terminated list of words; *value is its place. */
VHUB_API int
vhub_arg_choice(const struct rte_kvargs *args, const char *key, const char *const *words,
		unsigned int *value, char *error, size_t error_len);

/** The text; valid as long as `args`. */
VHUB_API int
vhub_arg_text(const struct rte_kvargs *args, const char *key, const char **value, char *error,
		size_t error_len);

#ifdef __cplusplus
}
#endif

#endif /* VHUB_REGISTRY_H */
