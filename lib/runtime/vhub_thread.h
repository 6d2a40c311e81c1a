/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Threads of vhub's own, beside the lcores. Implemented in thread.c.
 */
#ifndef VHUB_THREAD_H
#define VHUB_THREAD_H

#include <pthread.h>

#include "vhub_common.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Starts a thread with all signals blocked but those of its own faults (the SIGBUS guard needs them): the others are for
 * the threads that wait for them. `name` has 15 characters at most; whoever calls joins *id. Thread: ANY; blocks where
 * somebody maps or unmaps memory, as a stack is mapped. Returns 0 or the errno of pthread_create(3).
 */
VHUB_API int
vhub_thread_start(pthread_t *id, const char *name, void *(*main)(void *arg), void *arg);

#ifdef __cplusplus
}
#endif

#endif /* VHUB_THREAD_H */
