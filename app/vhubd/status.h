/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What runs, as JSON: for control clients and for telemetry. All functions run on CTL, do not
 * block, and return NULL when memory is short.
 */
#ifndef STATUS_H
#define STATUS_H

#include <jansson.h>

#include "slots.h"

/** One slot: name, kind, state, arguments, where it runs. */
json_t *
status_device(const struct slot *slot);

/** One slot's sessions: how many there were, how the present one stands. */
json_t *
status_session(const struct slot *slot);

/** Adds to it who the front end is, what it has negotiated and the memory that it shares, if it is there. */
void
status_add_negotiated(json_t *session, const struct slot *slot);

/** Rings [first, first + n) of a slot, of those that its front end has set up; with `counters` what they have counted. */
json_t *
status_rings(const struct slot *slot, unsigned int first, unsigned int n, bool counters);

/**
 * One slot's figures, summed over its queues; with `queues` what was negotiated, its rings and the figures of
 * each queue too.
 */
json_t *
status_stats(const struct slot *slot, bool queues);

/**
 * How long requests of a disk that is served take, while that is measured: in microseconds, and how many took how
 * long; or `whole` nanoseconds for telemetry, which has neither fractions nor arrays of arrays. Returns 0, -ENODATA
 * (it is not measured, and that is all that *out says), -EINVAL (no disk), -ENOMEM; *out is NULL where memory is short, also
 * with 0.
 */
int
status_latency(const struct slot *slot, bool whole, json_t **out);

/** Queues [first, first + n) of a slot: whether it is started, where it runs, its figures. */
json_t *
status_queues(const struct slot *slot, unsigned int first, unsigned int n);

/** All worker lcores: what they have done, and their devices. */
json_t *
status_lcores(const struct slots *slots);

/** Drivers of every kind of device. */
json_t *
status_drivers(void);

/** Bridges and their ports. */
json_t *
status_bridges(void);

/** One port of a bridge, by its device's name; JSON null when it is none. */
json_t *
status_bridge_port(const char *name);

/**
 * Some of the stations that a bridge knows, from a place on (vhub_bridge_stations()), and the next place. Returns 0 or
 * -ENOENT; *out is NULL also when memory is short.
 */
int
status_stations(const char *bridge, uint32_t from, json_t **out);

#endif /* STATUS_H */
