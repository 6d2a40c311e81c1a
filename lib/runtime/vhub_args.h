/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reading the arguments of builders and drivers. Implemented in args.c.
 */
#ifndef VHUB_ARGS_H
#define VHUB_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rte_kvargs.h>

#include "vhub_common.h"
#include "vhub_registry.h"

#ifdef __cplusplus
extern "C" {
#endif

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

#endif /* VHUB_ARGS_H */
