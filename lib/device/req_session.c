/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests about the session as a whole: owner, features, protocol features, queue count, status,
 * reset. Next: handler.c for the steps, rings.c for the stop that a reset needs.
 */
#include <errno.h>
#include <inttypes.h>

#include "handler_pvt.h"

/* VIRTIO 1.2, 2.1 "Device Status Field". */
#define STATUS_FEATURES_OK 8u

/* What the stock handler serves for every device. */
#define STOCK_PROTOCOL_FEATURES \
	(VHUB_USER_PF(MQ) | VHUB_USER_PF(LOG_SHMFD) | VHUB_USER_PF(REPLY_ACK) | \
			VHUB_USER_PF(BACKEND_REQ) | VHUB_USER_PF(CONFIG) | \
			VHUB_USER_PF(INFLIGHT_SHMFD) | VHUB_USER_PF(RESET_DEVICE) | \
			VHUB_USER_PF(CONFIGURE_MEM_SLOTS) | VHUB_USER_PF(STATUS))

static uint64_t
offered_features(const struct vhub_device *dev)
{
	return dev->features | VHUB_F(LOG_ALL) | VHUB_F(PROTOCOL_FEATURES);
}

/* A device without state to carry does not offer to carry it. */
static uint64_t
offered_protocol_features(const struct vhub_device *dev)
{
	uint64_t features = STOCK_PROTOCOL_FEATURES | dev->protocol_features;

	if (dev->ops->snapshot != NULL && dev->ops->restore != NULL)
		features |= VHUB_USER_PF(DEVICE_STATE);
	/*
	 * Nothing is noted in flight. Nor are slots of memory for ports: librte_vhost takes no more
	 * regions than a table has, and QEMU 7.2 adds each slot once for each pair of queues.
	 */
	if (dev->discards)
		features &= ~(VHUB_USER_PF(INFLIGHT_SHMFD) | VHUB_USER_PF(CONFIGURE_MEM_SLOTS));
	return features;
}

static int
reply_u64(struct vhub_request *req, uint64_t value)
{
	req->reply.u64 = value;
	req->reply_size_bytes = sizeof(req->reply.u64);
	return 0;
}

int
req_get_features(struct vhub_req_handler *base, struct vhub_request *req)
{
	return reply_u64(req, offered_features(handler_of(base)->dev));
}

/* ---- SET_FEATURES ---- */

static void
enable_all(struct vhub_device_handler *h)
{
	unsigned int i;

	for (i = 0; i < h->dev->max_queues; i++)
		h->rec.vrings[i].enabled = true;
}

static void
features_applied(struct vhub_device_handler *h, int result)
{
	rings_put_old(h);
	handler_finish(h, result);
}

/* Ring features cannot change under a running ring; LOG_ALL and bit 30 can. */
static uint64_t
changed_of_rings(const struct vhub_device_handler *h, uint64_t features)
{
	return handler_running(h) ? (features ^ h->rec.features) &
					~(VHUB_F(LOG_ALL) | VHUB_F(PROTOCOL_FEATURES)) :
				    0;
}

static int
check_features(const struct vhub_device_handler *h, struct vhub_request *req, uint64_t features)
{
	uint64_t changed = changed_of_rings(h, features);
	uint64_t unknown = features & ~offered_features(h->dev);

	if (unknown != 0)
		return vhub_request_refuse(req, -EINVAL, "features 0x%" PRIx64 " were not offered",
				unknown);
	if (changed != 0 && !rings_are_set_aside(h))
		return vhub_request_refuse(req, -EBUSY,
				"features 0x%" PRIx64 " cannot change while rings run", changed);
	return 0;
}

/* Tells every running ring of its log and whether it is enabled. */
static int
apply_features(struct vhub_device_handler *h)
{
	unsigned int i;

	if (h->dev->foreign != NULL)
		return foreign_renew(h, handler_finish);
	handler_event_begin(h);
	handler_event_add_all(h);
	for (i = 0; i < h->event.n_vrings; i++) {
		struct vring_run *run = h->event.vrings[i];

		rings_want_log(h, run, handler_active_log(h)); /* it fits: accept_features() */
		run->want.mask |= VRING_WANT_ENABLED;
		run->want.enabled = h->rec.vrings[run->pub.index].enabled;
		run->was_enabled |= run->want.enabled;
	}
	return handler_event_post(h, 1, VRING_OP_APPLY, VRING_OP_APPLY, features_applied);
}

/* Whatever can refuse them comes before anything is changed. */
static int
accept_features(struct vhub_device_handler *h, struct vhub_request *req, uint64_t features)
{
	struct vhub_dirty_log *log = (features & VHUB_F(LOG_ALL)) != 0 ? h->log : NULL;
	int ret = 0;

	if (!rings_fit_log(h, log))
		ret = log_too_short(req);
	if (ret == 0 && handler_running(h))
		ret = foreign_check(h, req, h->rec.n_regions, features, &h->rec.log);
	if (ret == 0 && h->dev->ops->ack_features != NULL && !handler_running(h))
		ret = h->dev->ops->ack_features(h->dev,
				features & ~(VHUB_F(LOG_ALL) | VHUB_F(PROTOCOL_FEATURES)));
	return ret;
}

static int
set_features(struct vhub_device_handler *h, struct vhub_request *req)
{
	uint64_t features = req->payload.u64;
	int ret = accept_features(h, req, features);

	if (ret != 0)
		return ret;
	h->req = req;
	h->rec.features = features;
	h->rec.has_features = true;
	if ((features & VHUB_F(PROTOCOL_FEATURES)) == 0)
		enable_all(h);
	return apply_features(h);
}

static void
stopped_for_features(struct vhub_device_handler *h, int result)
{
	if (result == 0)
		result = set_features(h, h->req);
	if (result != VHUB_REQ_PENDING)
		handler_finish(h, result);
}

int
req_set_features(struct vhub_req_handler *base, struct vhub_request *req)
{
	struct vhub_device_handler *h = handler_of(base);
	int ret = check_features(h, req, req->payload.u64);

	if (ret != 0)
		return ret;
	return changed_of_rings(h, req->payload.u64) != 0 ?
			rings_stop_set_aside(h, req, stopped_for_features) :
			set_features(h, req);
}

/* ---- protocol features, owner, queues ---- */

int
req_get_protocol_features(struct vhub_req_handler *base, struct vhub_request *req)
{
	return reply_u64(req, offered_protocol_features(handler_of(base)->dev));
}

/* Requests that are left in flight need a region that tells of them ("VHOST_USER_GET_VRING_BASE"). */
static bool
lacks_inflight(uint64_t features)
{
	uint64_t needs = 0;

	if ((features & VHUB_USER_PF(GET_VRING_BASE_INFLIGHT)) != 0)
		needs |= VHUB_USER_PF(INFLIGHT_SHMFD);
	if ((features & VHUB_USER_PF(GET_VRING_BASE_SKIP_DRAIN)) != 0)
		needs |= VHUB_USER_PF(INFLIGHT_SHMFD) | VHUB_USER_PF(GET_VRING_BASE_INFLIGHT);
	return (needs & ~features) != 0;
}

int
req_set_protocol_features(struct vhub_req_handler *base, struct vhub_request *req)
{
	struct vhub_device_handler *h = handler_of(base);

	if (lacks_inflight(req->payload.u64))
		return vhub_request_refuse(req, -EINVAL,
				"0x%" PRIx64
				": GET_VRING_BASE_SKIP_DRAIN needs GET_VRING_BASE_INFLIGHT, and that INFLIGHT_SHMFD",
				req->payload.u64);
	if ((req->payload.u64 & ~offered_protocol_features(h->dev)) != 0)
		return vhub_request_refuse(req, -EINVAL, "protocol features that were not offered");
	h->rec.protocol_features = req->payload.u64;
	return 0;
}

int
req_set_owner(struct vhub_req_handler *base, struct vhub_request *req)
{
	struct vhub_device_handler *h = handler_of(base);

	if (h->rec.owned)
		return vhub_request_refuse(req, -EALREADY, "the session has an owner");
	h->rec.owned = true;
	return 0;
}

/* "It is recommended that back-ends either ignore this message": it is deprecated. */
int
req_reset_owner(struct vhub_req_handler *base, struct vhub_request *req)
{
	(void)req;
	handler_of(base)->rec.owned = false;
	return 0;
}

int
req_get_queue_num(struct vhub_req_handler *base, struct vhub_request *req)
{
	/* Of a network device, front ends mean pairs of rings. */
	return reply_u64(req, vhub_device_n_queues(handler_of(base)->dev));
}

/* ---- status and reset ---- */

/*
 * Owner, protocol features, memory, log and back-end channel stay; rings, features and what the
 * device keeps of the driver's go. A log stays mapped, but nothing is logged until LOG_ALL comes
 * again.
 */
static void
reset_done(struct vhub_device_handler *h, int result)
{
	(void)result;
	inflight_drop(h);
	/*
	 * QEMU up to 7.2 stops a device by STATUS 0 first and asks for the bases then, to start
	 * again there: a paused or a migrating guest.
	 */
	session_record_reset_device(&h->rec, h->req->header.request == VHUB_USER_SET_STATUS,
			handler_account(h));
	if (h->dev->ops->reset != NULL)
		h->dev->ops->reset(h->dev);
	handler_finish(h, 0);
}

/* QEMU takes the status away once it has suspended all rings, and only then saves the region. */
static void
reset_stopped(struct vhub_device_handler *h, int result)
{
	(void)result;
	if (h->req->header.request == VHUB_USER_SET_STATUS && inflight_is_wanted(h))
		reset_done(h, 0);
	else
		handler_work(h, inflight_forget, reset_done);
}

static int
reset_device(struct vhub_device_handler *h, struct vhub_request *req)
{
	h->req = req;
	h->rec.has_features = false;
	handler_event_begin(h);
	handler_event_add_all(h);
	return rings_stop(h, reset_stopped);
}

int
req_reset_device(struct vhub_req_handler *base, struct vhub_request *req)
{
	return reset_device(handler_of(base), req);
}

int
req_set_status(struct vhub_req_handler *base, struct vhub_request *req)
{
	struct vhub_device_handler *h = handler_of(base);

	if (req->payload.u64 > UINT8_MAX)
		return -EINVAL;
	if (req->payload.u64 == 0)
		return reset_device(h, req);
	h->rec.status = (uint8_t)req->payload.u64;
	/*
	 * VIRTIO 1.2, 3.1.1: the driver reads FEATURES_OK back to learn whether its features were
	 * accepted.
	 */
	if (!h->rec.has_features)
		h->rec.status &= (uint8_t)~STATUS_FEATURES_OK;
	return 0;
}

int
req_get_status(struct vhub_req_handler *base, struct vhub_request *req)
{
	return reply_u64(req, handler_of(base)->rec.status);
}
