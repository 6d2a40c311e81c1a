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

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Part of the library's interface; everything else is hidden. */
#define VHUB_API __attribute__((visibility("default")))

/** The structure of type TYPE whose member MEMBER is at PTR. */
#define vhub_container_of(ptr, type, member) \
	((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#ifdef __cplusplus
}
#endif

#endif /* VHUB_COMMON_H */
