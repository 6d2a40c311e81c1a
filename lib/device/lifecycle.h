/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The state machine of a connection, on its home lcore.
 *
 *     DETACHED -> ATTACHED -> READY -> RUNNING <-> DRAINING -> SUSPENDED -> DETACHED
 *
 * CTL turns a validated request into an event and posts it; the home lcore makes the transition at
 * a safe point, carries the event's operations to the vrings on their own lcores, one phase after
 * the other (a stop over several lcores: all drain or suspend, then all stop), and posts the result back. CTL
 * posts the next event of a connection only when the last one has come back; the one exception is
 * the attachment, which nobody waits for.
 */
#ifndef LIFECYCLE_H
#define LIFECYCLE_H

#include <stdint.h>

#include "vring.h"

#define LIFECYCLE_MAX_PHASES 2

struct lifecycle {
	struct vhub_loop *loop;	 /**< immutable */
	struct vhub_lcore *home; /**< immutable */
	/** enum vhub_conn_state: written by the home lcore, shared atomic */
	uint32_t state;
	uint16_t n_started; /**< home lcore */
};

/** Where the connection stands after the event, but for what its started rings say. */
enum lifecycle_goal {
	LIFECYCLE_ATTACHED,
	LIFECYCLE_READY, /**< memory and features are known */
	LIFECYCLE_DETACHED,
	LIFECYCLE_MOVING, /**< stays where it is: the rings that stop now start again at once */
};

struct lifecycle_event {
	struct lifecycle *lifecycle;
	enum lifecycle_goal goal;
	unsigned int n_phases;
	enum vring_op phases[LIFECYCLE_MAX_PHASES];
	unsigned int n_vrings;
	struct vring_run *vrings[VHUB_MAX_VRINGS];
	/** CTL; `result` is the first error of a vring's operation; no phase follows it. */
	void (*done)(struct lifecycle_event *event, int result);

	/* lifecycle.c's own. */
	struct vhub_msg msg;
	unsigned int phase;
	unsigned int n_pending;
	int result;
};

/** Sends `event` to the home lcore; event->done() runs on CTL when it is over. Thread: CTL. */
void
lifecycle_post(struct lifecycle *lifecycle, struct lifecycle_event *event);

/** A vring has finished its operation. Thread: LCORE, the home's. */
void
lifecycle_vring_done(struct vhub_msg *msg);

/** The present state. Thread: ANY. */
enum vhub_conn_state
lifecycle_state(const struct lifecycle *lifecycle);

#endif /* LIFECYCLE_H */
