/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The lcores that generate load, each pinned to a CPU of its own, and the end that a user asks for.
 * The main thread sets up, watches the back end and reports; it is not pinned, and sleeps.
 * Implemented in worker.c; used by the subcommands.
 */
#ifndef PERF_WORKER_H
#define PERF_WORKER_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Starts EAL with one worker on each CPU of `cpus` ("1,2" or "2-4"; NULL: the last one of the
 * affinity mask, or the first where there are not more than two, so that a vhubd with the same mask
 * and one device has its worker elsewhere).
 * EAL's memory is small and ordinary. SIGINT and SIGTERM ask for an end from now on, also of
 * waiting for a back end; a second one ends at once. Thread: main, once. Returns how many there
 * are, or -errno, having told why: -EINVAL (no CPU list, or a CPU that this process may not use),
 * or what rte_eal_init() gives.
 */
int
workers_start(const char *cpus);

/* Ends EAL. All workers have been joined. */
void
workers_stop(void);

/* The CPU of a worker, 0 .. n - 1. */
unsigned int
workers_cpu(unsigned int i);

/* Runs fn(arg) on it; it is idle. Returns 0 or -EBUSY. */
int
workers_launch(unsigned int i, int (*fn)(void *arg), void *arg);

/* Waits for it to end; what fn returned. */
int
workers_join(unsigned int i);

/* Whether the user wants an end. Thread: ANY. */
bool
workers_asked_to_end(void);

#endif /* PERF_WORKER_H */
