/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The state machine of a connection, on its home lcore. Events come from handler.c; the operations
 * on the single vrings are in vring.c.
 */
#include <rte_common.h>

#include "lifecycle.h"

static const char *const state_names[] = {
	[VHUB_CONN_DETACHED] = "detached",
	[VHUB_CONN_ATTACHED] = "attached",
	[VHUB_CONN_READY] = "ready",
	[VHUB_CONN_RUNNING] = "running",
	[VHUB_CONN_DRAINING] = "draining",
	[VHUB_CONN_SUSPENDED] = "suspended",
};

const char *
vhub_conn_state_name(enum vhub_conn_state state)
{
	return (unsigned int)state < RTE_DIM(state_names) ? state_names[state] : "unknown";
}

/* Relaxed: a figure for statistics; what depends on the state is ordered by the messages. */
static void
set_state(struct lifecycle *lifecycle, enum vhub_conn_state state)
{
	__atomic_store_n(&lifecycle->state, state, __ATOMIC_RELAXED);
}

enum vhub_conn_state
lifecycle_state(const struct lifecycle *lifecycle)
{
	return __atomic_load_n(&lifecycle->state, __ATOMIC_RELAXED);
}

static enum vhub_conn_state
state_after(const struct lifecycle *lifecycle, const struct lifecycle_event *event,
		enum vhub_conn_state before)
{
	if (event->goal == LIFECYCLE_DETACHED)
		return VHUB_CONN_DETACHED;
	if (lifecycle->n_started > 0)
		return VHUB_CONN_RUNNING;
	if (event->goal == LIFECYCLE_ATTACHED)
		return VHUB_CONN_ATTACHED;
	return before >= VHUB_CONN_RUNNING ? VHUB_CONN_SUSPENDED : VHUB_CONN_READY;
}

static void
event_on_ctl(struct vhub_msg *msg)
{
	struct lifecycle_event *event = vhub_container_of(msg, struct lifecycle_event, msg);

	event->done(event, event->result);
}

static void
finish(struct lifecycle_event *event)
{
	struct lifecycle *lifecycle = event->lifecycle;

	if (event->goal != LIFECYCLE_MOVING)
		set_state(lifecycle, state_after(lifecycle, event, lifecycle_state(lifecycle)));
	event->msg.fn = event_on_ctl;
	vhub_loop_post(lifecycle->loop, &event->msg);
}

static void
run_phase(struct lifecycle_event *event)
{
	enum vring_op op = event->phases[event->phase];
	unsigned int i;

	if ((op == VRING_OP_DRAIN || op == VRING_OP_SUSPEND) && event->n_vrings > 0)
		set_state(event->lifecycle, VHUB_CONN_DRAINING);
	/*
	 * One more than there are vrings, so that the phase cannot end while it is being handed
	 * out.
	 */
	event->n_pending = event->n_vrings + 1;
	for (i = 0; i < event->n_vrings; i++) {
		struct vring_run *vring = event->vrings[i];

		vring->op = op;
		vring->event = event;
		vring->msg.fn = vring_run_op;
		if (vring->pub.lcore == event->lifecycle->home)
			vring_run_op(&vring->msg);
		else
			vhub_lcore_post(vring->pub.lcore, &vring->msg);
	}
}

static void
count_started(struct lifecycle_event *event, const struct vring_run *vring)
{
	if (vring->op == VRING_OP_START && vring->result == 0)
		event->lifecycle->n_started++;
	else if (vring->op == VRING_OP_STOP)
		event->lifecycle->n_started--;
}

/* Takes one from the phase; runs the next phases as long as they end at once. */
static void
one_done(struct lifecycle_event *event)
{
	while (--event->n_pending == 0) {
		if (++event->phase >= event->n_phases || event->result != 0) {
			finish(event);
			return;
		}
		run_phase(event);
	}
}

void
lifecycle_vring_done(struct vhub_msg *msg)
{
	struct vring_run *vring = vhub_container_of(msg, struct vring_run, msg);
	struct lifecycle_event *event = vring->event;

	count_started(event, vring);
	if (event->result == 0)
		event->result = vring->result;
	one_done(event);
}

static void
event_on_home(struct vhub_msg *msg)
{
	struct lifecycle_event *event = vhub_container_of(msg, struct lifecycle_event, msg);

	if (event->n_phases == 0) {
		finish(event);
		return;
	}
	run_phase(event);
	one_done(event);
}

void
lifecycle_post(struct lifecycle *lifecycle, struct lifecycle_event *event)
{
	event->lifecycle = lifecycle;
	event->phase = 0;
	event->result = 0;
	event->msg.fn = event_on_home;
	vhub_lcore_post(lifecycle->home, &event->msg);
}
