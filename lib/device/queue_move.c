/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which lcore owns which queue, and a queue that is handed to another lcore while it runs. Asked
 * for by whoever manages devices (vhubd's control socket); next: lifecycle.c carries the operations
 * to the two lcores, vring.c does them there.
 *
 * A move is an event of the session like a request: the session is held while it lasts, so it never
 * meets a request half done, nor the close. The queue's rings drain and stop where they are, which
 * gives the driver's queue back; then they start on the other lcore, which gets one there. When that
 * fails they start again where they came from.
 */
#include <errno.h>

#include <rte_cycles.h>

#include "handler_pvt.h"
#include "vhub_kick.h"

void
queue_lcores_init(struct vhub_device_handler *h)
{
	const struct vhub_executor *executor = &h->dev->executor;
	const unsigned int n = vhub_device_vrings_per_queue(h->dev);
	unsigned int i;

	/* The queues take the executor's lcores in turn, and what is behind them the next one. */
	for (i = 0; i < (h->dev->max_queues + n - 1) / n; i++)
		h->queue_lcores[i] = executor->lcores[i % executor->n_lcores];
}

struct vhub_lcore *
vhub_device_queue_lcore(const struct vhub_device *dev, unsigned int queue)
{
	if (queue >= vhub_device_n_queues(dev))
		return NULL;
	if (dev->handler == NULL)
		return dev->ops->queue_lcore != NULL ? dev->ops->queue_lcore(dev, queue) : NULL;
	return dev->handler->queue_lcores[queue];
}

static void
next_turn(struct vhub_task *task)
{
	queue_moves_continue(vhub_container_of(task, struct vhub_device_handler, move_task));
}

static void
continue_later(struct vhub_device_handler *h)
{
	h->move_task.fn = next_turn;
	vhub_loop_defer(h->lifecycle.loop, &h->move_task);
}

static void
move_over(struct vhub_device_handler *h, int result)
{
	struct vhub_queue_move *move = h->moves;

	h->moves = move->next;
	if (h->moving) {
		h->moving = false;
		vhub_session_release(h->session);
	}
	if (result == 0)
		h->queue_lcores[move->queue] = move->lcore;
	if (h->moves != NULL)
		continue_later(h);
	move->done(move, result);
}

/* ---- the way back ---- */

static int
first_error(const struct vhub_device_handler *h)
{
	unsigned int i;

	for (i = 0; i < h->event.n_vrings; i++) {
		if (h->event.vrings[i]->result != 0)
			return h->event.vrings[i]->result;
	}
	return 0;
}

/* A ring that runs nowhere: its front end has to begin anew. */
static void
back_where_it_was(struct vhub_device_handler *h, int result)
{
	unsigned int i;

	for (i = 0; result != 0 && i < h->event.n_vrings; i++) {
		if (h->event.vrings[i]->result != 0)
			rings_drop(h, h->event.vrings[i]);
	}
	if (result != 0) {
		vhub_session_end(h->session, result, "a queue that was moved cannot run any more");
		rings_gone(h, h->result, move_over);
	} else {
		move_over(h, h->result);
	}
}

/* The rings of the queue start on `lcore`. */
static void
start_on(struct vhub_device_handler *h, struct vhub_lcore *lcore, handler_step_fn step)
{
	const unsigned int n = vhub_device_vrings_per_queue(h->dev);
	const unsigned int first = h->moves->queue * n;
	unsigned int i;

	handler_event_begin(h);
	for (i = first; i < first + n; i++) {
		struct vring_run *vring = h->vrings[i];

		if (vring == NULL)
			continue;
		handler_event_add(h, vring);
		vring->pub.lcore = lcore;
		if (vring->pub.kick != NULL)
			vhub_kick_watch_wake(vring->pub.kick, lcore);
	}
	handler_event_post(h, 1, VRING_OP_START, VRING_OP_START, step);
}

static void
left_again(struct vhub_device_handler *h, int result)
{
	(void)result;
	start_on(h, h->queue_lcores[h->moves->queue], back_where_it_was);
}

/* Of a pair, one ring may run on the new lcore already: it leaves again. */
static void
go_back(struct vhub_device_handler *h)
{
	const unsigned int n = h->event.n_vrings;
	struct vring_run *started[VHUB_MAX_VRINGS];
	unsigned int n_started = 0, i;

	h->result = first_error(h);
	for (i = 0; i < n; i++) {
		if (h->event.vrings[i]->result == 0)
			started[n_started++] = h->event.vrings[i];
	}
	handler_event_begin(h);
	for (i = 0; i < n_started; i++)
		handler_event_add(h, started[i]);
	handler_event_post_leave(h, left_again);
}

/* ---- the way there ---- */

static void
arrived(struct vhub_device_handler *h, int result)
{
	if (result != 0)
		go_back(h);
	else
		move_over(h, 0);
}

/* It was not drained in time, and takes what its guest offers again. */
static void
stayed(struct vhub_device_handler *h, int result)
{
	(void)result;
	move_over(h, -ETIMEDOUT);
}

static void
left(struct vhub_device_handler *h, int result)
{
	if (result == 0) {
		start_on(h, h->moves->lcore, arrived);
		return;
	}
	handler_event_post(h, 1, VRING_OP_APPLY, VRING_OP_APPLY, stayed);
}

static void
move_begin(struct vhub_device_handler *h)
{
	const unsigned int n = vhub_device_vrings_per_queue(h->dev);
	const unsigned int first = h->moves->queue * n;
	unsigned int i;

	handler_event_begin(h);
	for (i = first; i < first + n; i++) {
		if (h->vrings[i] == NULL)
			continue;
		handler_event_add(h, h->vrings[i]);
		h->vrings[i]->want.drain_until = rte_rdtsc() +
				rte_get_tsc_hz() * VRING_DRAIN_SECONDS;
	}
	if (h->event.n_vrings == 0) {
		move_over(h, 0);
		return;
	}
	handler_event_post_leave(h, left);
}

/* ---- one after the other ---- */

void
queue_moves_continue(struct vhub_device_handler *h)
{
	struct vhub_queue_move *move = h->moves;
	int ret;

	if (move == NULL || h->moving)
		return;
	if (h->session != NULL) {
		/* A request that is pending, and the end of the session, come here again. */
		ret = vhub_session_hold(h->session);
		if (ret == -EAGAIN)
			continue_later(h);
		if (ret != 0)
			return;
		h->moving = true;
	}
	if (move->lcore == h->queue_lcores[move->queue])
		move_over(h, 0);
	else
		move_begin(h);
}

void
queue_moves_drop(struct vhub_device_handler *h)
{
	struct vhub_queue_move *move;

	vhub_loop_undefer(h->lifecycle.loop, &h->move_task);
	while ((move = h->moves) != NULL) {
		h->moves = move->next;
		move->done(move, -ESHUTDOWN);
	}
}

int
vhub_device_queue_move(struct vhub_device *dev, struct vhub_queue_move *move)
{
	struct vhub_device_handler *h = dev->handler;
	struct vhub_queue_move **link;

	if (h == NULL)
		return -ENOTCONN;
	if (move->queue >= vhub_device_n_queues(dev))
		return -EINVAL;
	for (link = &h->moves; *link != NULL; link = &(*link)->next)
		;
	move->next = NULL;
	*link = move;
	queue_moves_continue(h);
	return 0;
}
