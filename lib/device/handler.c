/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The stock request handler: serves every struct vhub_device. lib/conn calls its slots with
 * requests that were checked against the table of requests; the slots live in req_*.c. Here: the
 * life of a session, and the steps of requests that take longer. Next: req_*.c, then rings.c and
 * lifecycle.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "handler_pvt.h"

VHUB_LOGTYPE(device);

/* While rings drain, it is looked so often whether their front end is still there. */
#define DRAIN_LOOK_US 100000

/* ---- steps ---- */

static void
work_done(struct vhub_work *work)
{
	struct vhub_device_handler *h = handler_of_work(work);

	h->step(h, h->work_result);
}

static int
submit_work(struct vhub_device_handler *h, enum vhub_work_kind kind,
		void (*run)(struct vhub_work *work), handler_step_fn step)
{
	h->step = step;
	h->work.kind = kind;
	h->work.run = run;
	h->work.done = work_done;
	vhub_work_submit(&h->work);
	return VHUB_REQ_PENDING;
}

int
handler_work(struct vhub_device_handler *h, void (*run)(struct vhub_work *work),
		handler_step_fn step)
{
	return submit_work(h, VHUB_WORK_ORDINARY, run, step);
}

int
handler_library_work(struct vhub_device_handler *h, void (*run)(struct vhub_work *work),
		handler_step_fn step)
{
	return submit_work(h, VHUB_WORK_LIBRARY, run, step);
}

int
handler_storage_work(struct vhub_device_handler *h, void (*run)(struct vhub_work *work),
		handler_step_fn step)
{
	return submit_work(h, VHUB_WORK_STORAGE, run, step);
}

static void
event_done(struct lifecycle_event *event, int result)
{
	struct vhub_device_handler *h = vhub_container_of(event, struct vhub_device_handler, event);

	vhub_timer_cancel(h->lifecycle.loop, &h->drain_timer);
	h->step(h, result);
}

void
handler_event_begin(struct vhub_device_handler *h)
{
	h->event.n_vrings = 0;
	h->event.n_phases = 0;
}

void
handler_event_add(struct vhub_device_handler *h, struct vring_run *vring)
{
	vring->want.mask = 0;
	vring->want.drain_until = 0;
	h->event.vrings[h->event.n_vrings++] = vring;
}

void
handler_event_add_all(struct vhub_device_handler *h)
{
	unsigned int i;

	for (i = 0; i < h->dev->max_queues; i++) {
		if (h->vrings[i] != NULL)
			handler_event_add(h, h->vrings[i]);
	}
}

/*
 * A session does not hear of its end while a request is pending, and a disk's limits may hold a drain for hours. The
 * slot is not to wait any longer than a front end does.
 */
static void
look_for_front_end(struct vhub_timer *timer)
{
	struct vhub_device_handler *h = vhub_container_of(timer, struct vhub_device_handler,
			drain_timer);

	if (vhub_session_is_leaving(h->session))
		rings_front_end_gone(h);
	else
		vhub_timer_arm(h->lifecycle.loop, timer, DRAIN_LOOK_US);
}

static void
post_event(struct vhub_device_handler *h, enum lifecycle_goal goal, unsigned int n,
		enum vring_op first, enum vring_op second, handler_step_fn step)
{
	h->step = step;
	h->event.n_phases = n;
	h->event.phases[0] = first;
	h->event.phases[1] = second;
	h->event.goal = goal;
	h->event.done = event_done;
	if (n != 0 && first == VRING_OP_DRAIN && h->session != NULL && !h->closing)
		vhub_timer_arm(h->lifecycle.loop, &h->drain_timer, DRAIN_LOOK_US);
	lifecycle_post(&h->lifecycle, &h->event);
}

int
handler_event_post(struct vhub_device_handler *h, unsigned int n, enum vring_op first,
		enum vring_op second, handler_step_fn step)
{
	enum lifecycle_goal goal = LIFECYCLE_ATTACHED;

	if (h->closing)
		goal = LIFECYCLE_DETACHED;
	else if (h->mem != NULL && h->rec.has_features)
		goal = LIFECYCLE_READY;
	post_event(h, goal, n, first, second, step);
	return VHUB_REQ_PENDING;
}

void
handler_event_post_leave(struct vhub_device_handler *h, handler_step_fn step)
{
	post_event(h, LIFECYCLE_MOVING, 2, VRING_OP_DRAIN, VRING_OP_STOP, step);
}

static void
quiesce_done(struct vhub_quiesce *quiesce)
{
	struct vhub_device_handler *h = vhub_container_of(quiesce, struct vhub_device_handler,
			quiesce);

	h->step(h, h->result);
}

int
handler_quiesce(struct vhub_device_handler *h, int result, handler_step_fn step)
{
	h->step = step;
	h->result = result;
	h->quiesce.fn = quiesce_done;
	vhub_quiesce_begin(h->lifecycle.loop, &h->quiesce);
	return VHUB_REQ_PENDING;
}

void
handler_finish(struct vhub_device_handler *h, int result)
{
	struct vhub_request *req = h->req;

	h->req = NULL;
	vhub_request_done(req, result);
	/* Before the front end's next request: it could send one after the other for ever. */
	queue_moves_continue(h);
}

/* ---- looks at the state ---- */

bool
handler_running(const struct vhub_device_handler *h)
{
	unsigned int i;

	for (i = 0; i < h->dev->max_queues; i++) {
		if (h->vrings[i] != NULL)
			return true;
	}
	return false;
}

struct vring_record *
handler_vring(struct vhub_device_handler *h, uint64_t index)
{
	return index < h->dev->max_queues ? &h->rec.vrings[index] : NULL;
}

struct vhub_dirty_log *
handler_active_log(const struct vhub_device_handler *h)
{
	return (h->rec.features & VHUB_F(LOG_ALL)) != 0 ? h->log : NULL;
}

/* ---- life of a session ---- */

/*
 * Memory, log or inflight file was truncated under us: the guard has put zero pages there, which took
 * an lcore its time.
 */
static void
memory_broken(struct vhub_mem_owner *owner)
{
	struct vhub_device_handler *h = vhub_container_of(owner, struct vhub_device_handler,
			mem_owner);

	if (h->session != NULL)
		vhub_session_punish(h->session, -EFAULT,
				"a file that it shares as memory was truncated");
}

static void
attached(struct lifecycle_event *event, int result)
{
	(void)event;
	(void)result;
}

static int
handler_open(struct vhub_req_handler *base, struct vhub_session *session)
{
	struct vhub_device_handler *h = handler_of(base);

	if (h->session != NULL)
		return -EBUSY;
	h->session = session;
	memset(h->notify_accounts, 0, sizeof(h->notify_accounts));
	h->closing = false;
	h->mem_owner.broken = memory_broken;
	h->mem_owner.faulted = 0;
	h->attach_event.goal = LIFECYCLE_ATTACHED;
	h->attach_event.done = attached;
	lifecycle_post(&h->lifecycle, &h->attach_event);
	return 0;
}

static void
closed(struct vhub_device_handler *h, int result)
{
	struct vhub_session *session = h->session;

	(void)result;
	vhub_mem_table_put(h->mem);
	h->mem = NULL;
	vhub_mem_owner_detach(&h->mem_owner);
	session_record_clear(&h->rec, handler_account(h));
	h->session = NULL;
	queue_moves_continue(h);
	vhub_session_closed(session);
}

static void
detached(struct vhub_device_handler *h, int result)
{
	inflight_drop(h);
	state_drop(h);
	backend_channel_drop(h);
	vhub_dirty_log_put(h->log);
	h->log = NULL;
	if (h->dev->ops->memory != NULL && h->mem != NULL)
		h->dev->ops->memory(h->dev, NULL);
	if (h->dev->ops->reset != NULL)
		h->dev->ops->reset(h->dev);
	handler_quiesce(h, result, closed);
}

static void
handler_close(struct vhub_req_handler *base, struct vhub_session *session, int reason)
{
	struct vhub_device_handler *h = handler_of(base);

	(void)session;
	(void)reason;
	h->closing = true;
	rings_front_end_gone(h);
	handler_event_begin(h);
	handler_event_add_all(h);
	rings_stop(h, detached);
}

static uint32_t
handler_when(struct vhub_req_handler *base, uint32_t index)
{
	struct vhub_device_handler *h = handler_of(base);
	uint32_t when = 0;

	if (h->mem != NULL)
		when |= VHUB_USER_WHEN_MEMORY;
	/* Who sets up one that is set aside has it stopped first. */
	if (index >= h->dev->max_queues || h->vrings[index] == NULL || rings_is_set_aside(h, index))
		when |= VHUB_USER_WHEN_STOPPED;
	return when;
}

/* Slots that are NULL are not supported: their protocol features are not offered. */
static const struct vhub_req_handler_ops device_handler_ops = {
	.open = handler_open,
	.close = handler_close,
	.when = handler_when,
	.get_features = req_get_features,
	.set_features = req_set_features,
	.get_protocol_features = req_get_protocol_features,
	.set_protocol_features = req_set_protocol_features,
	.set_owner = req_set_owner,
	.reset_owner = req_reset_owner,
	.get_queue_num = req_get_queue_num,
	.set_status = req_set_status,
	.get_status = req_get_status,
	.reset_device = req_reset_device,
	.set_mem_table = req_set_mem_table,
	.get_max_mem_slots = req_get_max_mem_slots,
	.add_mem_reg = req_add_mem_reg,
	.rem_mem_reg = req_rem_mem_reg,
	.set_log_base = req_set_log_base,
	.set_log_fd = req_set_log_fd,
	.set_vring_num = req_set_vring_num,
	.set_vring_addr = req_set_vring_addr,
	.set_vring_base = req_set_vring_base,
	.get_vring_base = req_get_vring_base,
	.get_vring_base_skip_drain = req_get_vring_base_skip_drain,
	.set_vring_kick = req_set_vring_kick,
	.set_vring_call = req_set_vring_call,
	.set_vring_err = req_set_vring_err,
	.set_vring_enable = req_set_vring_enable,
	.get_config = req_get_config,
	.set_config = req_set_config,
	.get_inflight_fd = req_get_inflight_fd,
	.set_inflight_fd = req_set_inflight_fd,
	.set_device_state_fd = req_set_device_state_fd,
	.check_device_state = req_check_device_state,
	.set_backend_req_fd = req_set_backend_req_fd,
	.iotlb_msg = req_iotlb_msg,
	.send_rarp = req_of_device,
	.net_set_mtu = req_of_device,
};

int
vhub_device_handler_create(struct vhub_device *dev, struct vhub_req_handler **out)
{
	struct vhub_device_handler *h;

	if (dev->executor.loop == NULL || dev->executor.n_lcores == 0)
		return -EINVAL;
	h = calloc(1, sizeof(*h));
	if (h == NULL)
		return -ENOMEM;
	h->base.ops = &device_handler_ops;
	h->base.name = dev->name;
	h->dev = dev;
	h->state_fd = -1;
	session_record_init(&h->rec);
	h->lifecycle.loop = dev->executor.loop;
	h->lifecycle.home = dev->executor.lcores[0];
	h->drain_timer.fn = look_for_front_end;
	queue_lcores_init(h);
	dev->handler = h;
	*out = &h->base;
	return 0;
}

void
vhub_device_handler_destroy(struct vhub_req_handler *handler)
{
	struct vhub_device_handler *h;

	if (handler == NULL)
		return;
	h = handler_of(handler);
	queue_moves_drop(h);
	h->dev->handler = NULL;
	free(h);
}
