/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests about one vring: size, addresses, base, the three fds, enable. Next: rings.c.
 *
 * SET_VRING_KICK starts a vring, with an fd or without; only GET_VRING_BASE (with SKIP_DRAIN, too), a
 * reset or the disconnect stops it, and whatever sets up anew one that was disabled
 * (rings_is_set_aside()). On a running ring a new fd, new addresses or another log flag take effect
 * between two bursts.
 */
#include <errno.h>
#include <inttypes.h>

#include "handler_pvt.h"
#include "vhub_fd.h"
#include "vhub_kick.h"

static int
no_such_vring(const struct vhub_device_handler *h, struct vhub_request *req, uint64_t index)
{
	return vhub_request_refuse(req, -EINVAL, "there is no ring %" PRIu64 ", the device has %u",
			index, h->dev->max_queues);
}

int
req_set_vring_num(struct vhub_req_handler *base, struct vhub_request *req)
{
	struct vhub_device_handler *h = handler_of(base);
	struct vring_record *vring = handler_vring(h, req->payload.state.index);
	uint32_t num = req->payload.state.num;

	if (vring == NULL)
		return no_such_vring(h, req, req->payload.state.index);
	if (num == 0 || num > VHUB_VIRTQ_MAX_SIZE)
		return vhub_request_refuse(req, -EINVAL, "size %u: a ring has 1 to %u entries", num,
				VHUB_VIRTQ_MAX_SIZE);
	vring->size = (uint16_t)num;
	return h->vrings[req->payload.state.index] == NULL ?
			0 :
			rings_stop_set_aside(h, req, handler_finish);
}

/* ---- addresses ---- */

static void
addr_applied(struct vhub_device_handler *h, int result)
{
	rings_put_old(h);
	handler_finish(h, result);
}

static bool
same_addresses(const struct vhub_user_vring_addr *a, const struct vhub_user_vring_addr *b)
{
	return a->desc_uva == b->desc_uva && a->avail_uva == b->avail_uva &&
			a->used_uva == b->used_uva;
}

/* The record has the new addresses; the ring does not yet. */
static int
change_running_addr(struct vhub_device_handler *h, struct vring_run *run, bool same)
{
	int ret;

	handler_event_begin(h);
	handler_event_add(h, run);
	ret = rings_want_log(h, run, handler_active_log(h));
	if (ret == 0 && h->dev->foreign != NULL)
		ret = rings_check_addresses(h, run->pub.index, h->mem);
	if (ret != 0)
		return ret;
	if (h->dev->foreign != NULL)
		return foreign_renew(h, addr_applied);
	if (same)
		return handler_event_post(h, 1, VRING_OP_APPLY, VRING_OP_APPLY, addr_applied);
	ret = rings_want_mem(h, run, h->mem);
	if (ret != 0)
		return ret;
	return handler_event_post(h, 2, VRING_OP_DRAIN, VRING_OP_APPLY, addr_applied);
}

int
req_set_vring_addr(struct vhub_req_handler *base, struct vhub_request *req)
{
	struct vhub_device_handler *h = handler_of(base);
	const struct vhub_user_vring_addr *addr = &req->payload.addr;
	struct vring_record *vring = handler_vring(h, addr->index);
	struct vhub_user_vring_addr old;
	int ret;

	if (vring == NULL)
		return no_such_vring(h, req, addr->index);
	if ((addr->flags & ~VHUB_USER_VRING_F_LOG) != 0)
		return vhub_request_refuse(req, -EINVAL, "flags 0x%x are not known", addr->flags);
	old = vring->addr;
	vring->addr = *addr;
	vring->has_addr = true;
	if (h->vrings[addr->index] == NULL)
		return 0;
	h->req = req;
	ret = change_running_addr(h, h->vrings[addr->index], same_addresses(&old, addr));
	if (ret < 0) {
		vring->addr = old;
		vhub_request_refuse(req, ret,
				"ring addresses or a log that a running ring cannot use");
	}
	return ret;
}

/* ---- base ---- */

static int
set_base(struct vhub_device_handler *h, const struct vhub_request *req)
{
	struct vring_record *vring = &h->rec.vrings[req->payload.state.index];

	vring->base = req->payload.state.num;
	vring->left_base = 0;
	return 0;
}

static void
stopped_for_new_base(struct vhub_device_handler *h, int result)
{
	if (result == 0)
		set_base(h, h->req);
	handler_finish(h, result);
}

int
req_set_vring_base(struct vhub_req_handler *base, struct vhub_request *req)
{
	struct vhub_device_handler *h = handler_of(base);

	if (handler_vring(h, req->payload.state.index) == NULL)
		return no_such_vring(h, req, req->payload.state.index);
	return h->vrings[req->payload.state.index] == NULL ?
			set_base(h, req) :
			rings_stop_set_aside(h, req, stopped_for_new_base);
}

static int
reply_base(struct vhub_request *req, const struct vring_record *vring)
{
	req->reply.state.index = req->payload.state.index;
	req->reply.state.num = session_record_base(vring);
	req->reply_size_bytes = sizeof(req->reply.state);
	return 0;
}

static void
stopped_for_base(struct vhub_device_handler *h, int result)
{
	if (result == 0)
		reply_base(h->req, &h->rec.vrings[h->req->payload.state.index]);
	handler_finish(h, result);
}

static int
stop_for_base(struct vhub_device_handler *h, struct vhub_request *req, bool suspend)
{
	struct vring_record *vring = handler_vring(h, req->payload.state.index);
	struct vring_run *run;

	if (vring == NULL)
		return no_such_vring(h, req, req->payload.state.index);
	run = h->vrings[req->payload.state.index];
	if (run == NULL)
		return reply_base(req, vring);
	h->req = req;
	handler_event_begin(h);
	handler_event_add(h, run);
	return suspend ? rings_suspend(h, stopped_for_base) : rings_stop(h, stopped_for_base);
}

/*
 * With GET_VRING_BASE_INFLIGHT this message "may suspend in-flight I/O requests and record them"; a
 * front end that knows the message below, too, sends that one when it wants them suspended.
 */
int
req_get_vring_base(struct vhub_req_handler *base, struct vhub_request *req)
{
	struct vhub_device_handler *h = handler_of(base);
	const uint64_t agreed = h->rec.protocol_features;

	return stop_for_base(h, req,
			(agreed & VHUB_USER_PF(GET_VRING_BASE_INFLIGHT)) != 0 &&
					(agreed & VHUB_USER_PF(GET_VRING_BASE_SKIP_DRAIN)) == 0);
}

int
req_get_vring_base_skip_drain(struct vhub_req_handler *base, struct vhub_request *req)
{
	return stop_for_base(handler_of(base), req, true);
}

/* ---- the three fds ---- */

/*
 * What a payload of SET_VRING_KICK, _CALL or _ERR says: the vring, and the fd taken from the
 * request, or -1.
 */
static int
vring_fd(struct vhub_device_handler *h, struct vhub_request *req, struct vring_record **vring,
		int *fd)
{
	uint64_t u64 = req->payload.u64;
	bool nofd = (u64 & VHUB_USER_VRING_NOFD) != 0;

	*vring = handler_vring(h, u64 & VHUB_USER_VRING_INDEX_MASK);
	if (*vring == NULL)
		return no_such_vring(h, req, u64 & VHUB_USER_VRING_INDEX_MASK);
	if ((u64 & ~(VHUB_USER_VRING_INDEX_MASK | VHUB_USER_VRING_NOFD)) != 0)
		return vhub_request_refuse(req, -EINVAL, "unknown bits in 0x%" PRIx64, u64);
	if (nofd != (req->n_fds == 0))
		return vhub_request_refuse(req, -EINVAL, "bit 8 says %s fd, and there %s one",
				nofd ? "no" : "an", nofd ? "is" : "is not");
	/*
	 * Others might be answered, or not, by somebody's file system when an lcore polls or writes
	 * them.
	 */
	if (!nofd && !vhub_fd_is_eventfd(req->fds[0]))
		return vhub_request_refuse(req, -EINVAL, "the fd is no eventfd");
	*fd = vhub_request_take_fd(req, 0);
	return 0;
}

/* The lcore uses the new fd: the old one may go. */
static void
fd_applied(struct vhub_device_handler *h, int result)
{
	if (result == 0) {
		session_record_set_fd(h->new_fd_slot, h->new_fd, handler_account(h));
		h->new_fd = -1;
	} else {
		session_record_set_fd(&h->new_fd, -1, handler_account(h));
	}
	handler_finish(h, result);
}

/* The same with a kick fd: what is not used any more wakes nobody. */
static void
kick_applied(struct vhub_device_handler *h, int result)
{
	vhub_kick_watch_destroy(h->event.vrings[0]->old_kick, handler_account(h));
	fd_applied(h, result);
}

static int
apply_kick(struct vhub_device_handler *h)
{
	struct vring_run *run = h->event.vrings[0];

	run->want.kick = h->new_kick;
	h->new_kick = NULL;
	if (run->want.kick != NULL)
		vhub_kick_watch_wake(run->want.kick, run->pub.lcore);
	return handler_event_post(h, 1, VRING_OP_APPLY, VRING_OP_APPLY, kick_applied);
}

static void
new_kick_made(struct vhub_device_handler *h, int result)
{
	vhub_session_charge(h->session, h->kick_cpu_ns);
	if (result == 0)
		apply_kick(h);
	else
		fd_applied(h, result);
}

static int
change_running_fd(struct vhub_device_handler *h, struct vhub_request *req, struct vring_run *run,
		uint32_t mask, int *slot, int fd)
{
	h->req = req;
	h->new_fd = fd;
	h->new_fd_slot = slot;
	handler_event_begin(h);
	handler_event_add(h, run);
	run->want.mask = mask;
	run->want.call_fd = fd;
	run->want.err_fd = fd;
	if (mask != VRING_WANT_KICK)
		return handler_event_post(h, 1, VRING_OP_APPLY, VRING_OP_APPLY, fd_applied);
	return fd < 0 ? apply_kick(h) : handler_work(h, rings_make_kick, new_kick_made);
}

int
req_set_vring_kick(struct vhub_req_handler *base, struct vhub_request *req)
{
	struct vhub_device_handler *h = handler_of(base);
	unsigned int index = req->payload.u64 & VHUB_USER_VRING_INDEX_MASK;
	struct vring_record *vring;
	int fd = -1;
	int ret = vring_fd(h, req, &vring, &fd);

	if (ret != 0)
		return ret;
	if (h->vrings[index] != NULL)
		return change_running_fd(h, req, h->vrings[index], VRING_WANT_KICK, &vring->kick_fd,
				fd);
	session_record_set_fd(&vring->kick_fd, fd, handler_account(h));
	h->req = req;
	return rings_start(h, index);
}

/* SET_VRING_CALL and SET_VRING_ERR: fds that only the ring writes to. */
static int
set_notify_fd(struct vhub_device_handler *h, struct vhub_request *req, uint32_t mask)
{
	struct vring_record *vring;
	struct vring_run *run;
	int *slot;
	int fd = -1;
	int ret = vring_fd(h, req, &vring, &fd);

	if (ret != 0)
		return ret;
	slot = mask == VRING_WANT_CALL ? &vring->call_fd : &vring->err_fd;
	run = h->vrings[req->payload.u64 & VHUB_USER_VRING_INDEX_MASK];
	if (run != NULL)
		return change_running_fd(h, req, run, mask, slot, fd);
	session_record_set_fd(slot, fd, handler_account(h));
	return 0;
}

int
req_set_vring_call(struct vhub_req_handler *base, struct vhub_request *req)
{
	return set_notify_fd(handler_of(base), req, VRING_WANT_CALL);
}

int
req_set_vring_err(struct vhub_req_handler *base, struct vhub_request *req)
{
	return set_notify_fd(handler_of(base), req, VRING_WANT_ERR);
}

/* ---- enable ---- */

/*
 * A ring that is disabled is processed "without causing any side effects", so the answer waits for what it has
 * in flight: Cloud Hypervisor pauses a guest by this alone, then takes the log for the last time. A front end
 * that can have requests left in flight says with GET_VRING_BASE whether that is waited for.
 */
static bool
drains_to_disable(const struct vhub_device_handler *h)
{
	return !h->dev->discards &&
			(h->rec.protocol_features & VHUB_USER_PF(GET_VRING_BASE_INFLIGHT)) == 0;
}

int
req_set_vring_enable(struct vhub_req_handler *base, struct vhub_request *req)
{
	struct vhub_device_handler *h = handler_of(base);
	struct vring_record *vring = handler_vring(h, req->payload.state.index);
	struct vring_run *run;
	bool drains;

	if (vring == NULL)
		return no_such_vring(h, req, req->payload.state.index);
	if (req->payload.state.num > 1)
		return vhub_request_refuse(req, -EINVAL, "%u is neither 0 nor 1",
				req->payload.state.num);
	/* One that is disabled already has nothing in flight, and must not begin with what a former life left. */
	drains = vring->enabled && req->payload.state.num == 0 && drains_to_disable(h);
	vring->enabled = req->payload.state.num == 1;
	run = h->vrings[req->payload.state.index];
	if (run == NULL)
		return 0;
	run->was_enabled |= vring->enabled;
	h->req = req;
	handler_event_begin(h);
	handler_event_add(h, run);
	run->want.mask = VRING_WANT_ENABLED;
	run->want.enabled = vring->enabled;
	return drains ? handler_event_post(h, 2, VRING_OP_DRAIN, VRING_OP_APPLY, handler_finish) :
			handler_event_post(h, 1, VRING_OP_APPLY, VRING_OP_APPLY, handler_finish);
}
