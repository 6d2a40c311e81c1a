/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The rings of a device that another library runs (struct vhub_foreign_ops). Whatever changes, the
 * order is the same: all lcores leave the device's rings, the library is made what the record says
 * (blocking work), the lcores come back. Called by rings.c and the req_*.c; next: the device's sync
 * (for network ports: rte_vhost/sync.c).
 */
#include <errno.h>
#include <string.h>

#include "handler_pvt.h"

bool
foreign_has_iommu(const struct vhub_device_handler *h)
{
	return (h->rec.features & VHUB_F(ACCESS_PLATFORM)) != 0;
}

int
foreign_check(const struct vhub_device_handler *h, struct vhub_request *req, unsigned int n_regions,
		uint64_t features, const struct vhub_user_log *log)
{
	const struct vhub_foreign_ops *foreign = h->dev->foreign;
	bool logging = (features & VHUB_F(LOG_ALL)) != 0;

	if (foreign == NULL)
		return 0;
	if (n_regions > foreign->max_regions)
		return vhub_request_refuse(req, -E2BIG,
				"this data path serves %u memory regions, there are %u",
				foreign->max_regions, n_regions);
	if (logging && foreign->log_at_zero && log->offset_bytes != 0)
		return vhub_request_refuse(req, -ENOTSUP,
				"this data path serves no dirty log that begins within its file");
	return 0;
}

/* ---- sync ---- */

static void
sync_rings(struct vhub_work *work)
{
	struct vhub_device_handler *h = handler_of_work(work);

	h->work_result = h->dev->foreign->sync(h->dev, &h->rec, h->foreign_stale, &h->mem_owner,
			h->foreign_bases);
}

static void
lose(struct vhub_device_handler *h, int result, const char *why)
{
	h->foreign_stale = true;
	if (!h->closing)
		vhub_session_end(h->session, result, why);
}

static void
synced(struct vhub_device_handler *h, int result)
{
	h->dev->syncing = false;
	h->foreign_stale = false;
	/* Nothing runs any more, whatever the record says. */
	if (result != 0)
		lose(h, result, "the data path cannot be made");
	h->foreign_step(h, result);
}

int
foreign_sync(struct vhub_device_handler *h, handler_step_fn step)
{
	h->foreign_step = step;
	h->dev->syncing = true;
	return handler_library_work(h, sync_rings, synced);
}

/* ---- pause, sync, resume ---- */

static void
resumed(struct vhub_device_handler *h, int result)
{
	(void)result;
	h->foreign_resumed(h, h->result);
}

void
foreign_resume(struct vhub_device_handler *h, handler_step_fn step)
{
	unsigned int i;

	h->foreign_resumed = step;
	handler_event_begin(h);
	handler_event_add_all(h);
	for (i = 0; i < h->event.n_vrings; i++) {
		struct vring_run *run = h->event.vrings[i];

		run->want.mask = VRING_WANT_ENABLED;
		run->want.enabled = h->rec.vrings[run->pub.index].enabled;
	}
	handler_event_post(h, 1, VRING_OP_APPLY, VRING_OP_APPLY, resumed);
}

static void
resume_others(struct vhub_device_handler *h, int result)
{
	h->result = result;
	foreign_resume(h, h->foreign_done);
}

static void
paused_for_renewal(struct vhub_device_handler *h, int result)
{
	(void)result;
	foreign_sync(h, resume_others);
}

int
foreign_pause(struct vhub_device_handler *h, handler_step_fn step)
{
	handler_event_begin(h);
	handler_event_add_all(h);
	return handler_event_post(h, 1, VRING_OP_DRAIN, VRING_OP_DRAIN, step);
}

int
foreign_renew(struct vhub_device_handler *h, handler_step_fn step)
{
	h->foreign_stale = true;
	h->foreign_done = step;
	if (handler_running(h))
		return foreign_pause(h, paused_for_renewal);
	/* Nothing to do but for the state of the connection. */
	handler_event_begin(h);
	return handler_event_post(h, 1, VRING_OP_APPLY, VRING_OP_APPLY, step);
}

/* ---- vIOMMU ---- */

/* VHOST_IOTLB_*, of the kernel's interface. */
#define IOTLB_UPDATE 2u
#define IOTLB_INVALIDATE 3u
#define IOTLB_PERM_RW 3u

static int
check_iotlb(const struct vhub_device_handler *h, const struct vhub_user_iotlb *msg)
{
	uint64_t end;

	if (msg->size_bytes == 0 || __builtin_add_overflow(msg->iova, msg->size_bytes - 1, &end))
		return -EINVAL;
	if (msg->type == IOTLB_INVALIDATE)
		return 0;
	if (msg->type != IOTLB_UPDATE || msg->perm == 0 || msg->perm > IOTLB_PERM_RW)
		return -EINVAL;
	return vhub_mem_uva_to_hva(h->mem, msg->user_addr_uva, msg->size_bytes) != NULL ? 0 :
											  -EFAULT;
}

static void
tell_iotlb(struct vhub_work *work)
{
	struct vhub_device_handler *h = handler_of_work(work);

	h->work_result = h->dev->foreign->iotlb(h->dev, &h->req->payload.iotlb);
}

/* The reply of the request carries its result: the front end waits for it. */
static void
iotlb_told(struct vhub_device_handler *h, int result)
{
	h->req->reply.u64 = result != 0;
	if (result != 0 && result != -EINVAL)
		lose(h, result, "the data path does not answer any more");
	handler_finish(h, 0);
}

int
req_iotlb_msg(struct vhub_req_handler *base, struct vhub_request *req)
{
	struct vhub_device_handler *h = handler_of(base);
	int ret;

	if (h->dev->foreign == NULL || h->dev->foreign->iotlb == NULL || !foreign_has_iommu(h))
		return vhub_request_refuse(req, -ENOTSUP, "no vIOMMU was negotiated");
	req->reply.u64 = 1;
	req->reply_size_bytes = sizeof(req->reply.u64);
	ret = h->mem == NULL ? -EFAULT : check_iotlb(h, &req->payload.iotlb);
	if (ret != 0)
		return 0; /* refused by the reply */
	h->req = req;
	return handler_library_work(h, tell_iotlb, iotlb_told);
}
