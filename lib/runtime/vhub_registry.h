/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What every registry of const ops tables shares: device builders, and drivers of disks and of ports.
 */
#ifndef VHUB_REGISTRY_H
#define VHUB_REGISTRY_H

#include <stddef.h>

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

#ifdef __cplusplus
}
#endif

#endif /* VHUB_REGISTRY_H */
