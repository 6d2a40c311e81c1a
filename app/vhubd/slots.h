/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device slots of a running vhubd: a device, its request handler and the server that brings it
 * front ends, for ever. Called by main.c.
 */
#ifndef SLOTS_H
#define SLOTS_H

#include "options.h"

struct slots;

/** An empty set on `loop`. Returns 0 or -ENOMEM. Thread: CTL. */
int
slots_create(struct vhub_loop *loop, struct slots **out);

/** Frees it, with all devices; no server runs. */
void
slots_destroy(struct slots *slots);

/**
 * Opens and builds the device as blocking work, then begins to serve it; `done` runs then, with 0 or
 * a negative errno and a log line. One at a time.
 */
void
slots_add(struct slots *slots, struct slot_options *options, void (*done)(void *arg, int result),
		void *arg);

/**
 * Has `left` run each time a front end of a slot that is added later has gone; `result` as in
 * vhub_server_on_left(). It may call slots_stop().
 */
void
slots_on_left(struct slots *slots, void (*left)(void *arg, int result), void *arg);

/**
 * Stops every server: sockets go at once, rings are drained. `done` runs when all are at rest, or
 * once `timeout_us` has passed: `n_stuck` is the number of those that are not at rest, and each has
 * been named in the log.
 */
void
slots_stop(struct slots *slots, uint64_t timeout_us, void (*done)(void *arg, unsigned int n_stuck),
		void *arg);

#endif /* SLOTS_H */
