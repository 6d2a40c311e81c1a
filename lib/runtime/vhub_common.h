/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Words shared by all of vhub.
 *
 * In the comments of public headers, "Thread:" names who may call:
 *   CTL    the control thread, the one that runs struct vhub_loop
 *   LCORE  an EAL worker, inside a poller or a message
 *   WORK   a thread of the blocking work (vhub_work.h)
 *   ANY    any of them
 * Functions return 0 or a negative errno unless they say otherwise.
 */
#ifndef VHUB_COMMON_H
#define VHUB_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Part of the library's interface; everything else is hidden. */
#define VHUB_API __attribute__((visibility("default")))

/** The structure of type TYPE whose member MEMBER is at PTR. */
#define vhub_container_of(ptr, type, member) \
	((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/** A named figure of a device or of one of its queues: a counter, which only grows, or what is so now. */
typedef void (*vhub_stat_fn)(void *arg, const char *name, uint64_t value);

/**
 * Adds to a counter with one writer at a time, which others may read at any time with a relaxed
 * load: no order is needed, only whole values. Thread: the writer's.
 */
static inline void
vhub_count(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

/**
 * Whether the time `until` is still to come, of which `most` cycles at most were to be waited for. One further ahead
 * is of before the host was suspended, which may take the TSC back by days: it is over. Thread: ANY.
 */
static inline bool
vhub_tsc_is_ahead(uint64_t until, uint64_t now, uint64_t most)
{
	return until - now - 1 < most;
}

#ifdef __cplusplus
}
#endif

#endif /* VHUB_COMMON_H */
