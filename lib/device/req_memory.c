/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests about guest memory: the table, memory slots, and the dirty log. Mapping is blocking
 * work; then the running rings drain and change over, every lcore passes a safe point, and the
 * former table is let go. Next: handler.c, vring.c.
 */
#include <errno.h>
#include <string.h>

#include "handler_pvt.h"

/* What lib/mem's answers mean, for tables and logs, and for inflight regions. */
int
memory_refused(struct vhub_request *req, int result)
{
	switch (result) {
	case -EINVAL:
		return vhub_request_refuse(req, result,
				"a memory region is empty, or its range goes round 2^64");
	case -EEXIST:
		return vhub_request_refuse(req, result, "memory regions overlap");
	case -ERANGE:
		return vhub_request_refuse(req, result,
				"the file is shorter than the memory region in it");
	case -EOPNOTSUPP:
		return vhub_request_refuse(req, result,
				"the file of a memory region does not lie in memory");
	case -ENOENT:
		return vhub_request_refuse(req, result, "there is no such memory region");
	case -ENOSPC:
		return vhub_request_refuse(req, result, "all %d memory slots are taken",
				VHUB_MAX_MEM_SLOTS);
	case -EFAULT:
		return vhub_request_refuse(req, result,
				"a running ring lies outside of these memory regions");
	default:
		return vhub_request_refuse(req, result, "the memory cannot be mapped: %s",
				strerror(-result));
	}
}

/* ---- changing to another table ---- */

/* Of the two tables the one that is not to be used goes. */
static void
finish_table(struct vhub_device_handler *h, int result)
{
	vhub_mem_table_put(h->new_mem);
	h->new_mem = NULL;
	handler_finish(h, result);
}

/* The rings use the new table; the former one goes once nobody can be reading it. */
static void
table_applied(struct vhub_device_handler *h, int result)
{
	struct vhub_mem_table *old = h->mem;

	rings_put_old(h);
	h->mem = h->new_mem;
	h->new_mem = old;
	handler_quiesce(h, result, finish_table);
}

/*
 * The record follows the table: it has the same regions, and the fds, which the table does not need
 * any more.
 */
static void
record_regions(struct vhub_device_handler *h)
{
	struct vhub_request *req = h->req;
	int fds[VHUB_USER_MAX_TABLE_REGIONS];
	unsigned int i;

	switch (req->header.request) {
	case VHUB_USER_SET_MEM_TABLE:
		for (i = 0; i < req->n_fds; i++)
			fds[i] = vhub_request_take_fd(req, i);
		session_record_set_regions(&h->rec, req->payload.mem.regions, fds, req->n_fds,
				handler_account(h));
		break;
	case VHUB_USER_ADD_MEM_REG:
		session_record_add_region(&h->rec, &req->payload.slot.region,
				vhub_request_take_fd(req, 0));
		break;
	case VHUB_USER_REM_MEM_REG:
		session_record_remove_region(&h->rec, &req->payload.slot.region,
				handler_account(h));
		break;
	}
}

static void
table_built(struct vhub_device_handler *h, int result)
{
	unsigned int i;

	if (result != 0) {
		handler_finish(h, memory_refused(h->req, result));
		return;
	}
	if (handler_running(h))
		result = foreign_check(h, h->req, h->new_mem->n_regions, 0, NULL);
	if (result != 0) {
		finish_table(h, result);
		return;
	}
	handler_event_begin(h);
	handler_event_add_all(h);
	for (i = 0; i < h->event.n_vrings; i++) {
		result = rings_want_mem(h, h->event.vrings[i], h->new_mem);
		if (result != 0) {
			finish_table(h, memory_refused(h->req, result));
			return;
		}
	}
	record_regions(h);
	if (h->dev->ops->memory != NULL)
		h->dev->ops->memory(h->dev, h->new_mem);
	if (h->dev->foreign != NULL)
		foreign_renew(h, table_applied);
	else
		handler_event_post(h, 2, VRING_OP_DRAIN, VRING_OP_APPLY, table_applied);
}

/* ---- the three requests that change it ---- */

static void
build_table(struct vhub_work *work)
{
	struct vhub_device_handler *h = handler_of_work(work);
	const struct vhub_user_mem_table *mem = &h->req->payload.mem;

	h->work_result = vhub_mem_table_build(h->mem, mem->regions, h->req->fds, mem->n_regions,
			&h->mem_owner, &h->new_mem);
}

int
req_set_mem_table(struct vhub_req_handler *base, struct vhub_request *req)
{
	struct vhub_device_handler *h = handler_of(base);

	h->req = req;
	return handler_work(h, build_table, table_built);
}

static void
build_with_region(struct vhub_work *work)
{
	struct vhub_device_handler *h = handler_of_work(work);

	h->work_result = vhub_mem_table_add(h->mem, &h->req->payload.slot.region, h->req->fds[0],
			&h->mem_owner, &h->new_mem);
}

int
req_add_mem_reg(struct vhub_req_handler *base, struct vhub_request *req)
{
	struct vhub_device_handler *h = handler_of(base);

	h->req = req;
	return handler_work(h, build_with_region, table_built);
}

static void
build_without_region(struct vhub_work *work)
{
	struct vhub_device_handler *h = handler_of_work(work);

	h->work_result = vhub_mem_table_remove(h->mem, &h->req->payload.slot.region, &h->new_mem);
}

int
req_rem_mem_reg(struct vhub_req_handler *base, struct vhub_request *req)
{
	struct vhub_device_handler *h = handler_of(base);

	if (h->mem == NULL)
		return memory_refused(req, -ENOENT);
	h->req = req;
	return handler_work(h, build_without_region, table_built);
}

int
req_get_max_mem_slots(struct vhub_req_handler *base, struct vhub_request *req)
{
	(void)base;
	req->reply.u64 = VHUB_MAX_MEM_SLOTS;
	req->reply_size_bytes = sizeof(req->reply.u64);
	return 0;
}

/* ---- dirty log ---- */

/*
 * Of the two logs the one that is not to be used goes. SET_LOG_BASE answers with a u64 once LOG_SHMFD is
 * negotiated; lib/conn makes it from the result.
 */
static void
finish_log(struct vhub_device_handler *h, int result)
{
	vhub_dirty_log_put(h->new_log);
	h->new_log = NULL;
	handler_finish(h, result);
}

static void
log_applied(struct vhub_device_handler *h, int result)
{
	rings_put_old(h);
	finish_log(h, result);
}

static void
log_mapped(struct vhub_device_handler *h, int result)
{
	bool logging = (h->rec.features & VHUB_F(LOG_ALL)) != 0;
	struct vhub_dirty_log *old = h->log;
	unsigned int i;

	if (result != 0) {
		handler_finish(h, memory_refused(h->req, result));
		return;
	}
	result = foreign_check(h, h->req, 0, h->rec.features, &h->req->payload.log);
	if (result != 0 && handler_running(h)) {
		finish_log(h, result);
		return;
	}
	if (logging && !rings_fit_log(h, h->new_log)) {
		finish_log(h, log_too_short(h->req));
		return;
	}
	h->log = h->new_log;
	h->new_log = old;
	h->rec.log = h->req->payload.log;
	session_record_set_fd(&h->rec.log_fd, vhub_request_take_fd(h->req, 0), handler_account(h));
	if (h->dev->foreign != NULL) {
		foreign_renew(h, log_applied);
		return;
	}
	handler_event_begin(h);
	handler_event_add_all(h);
	for (i = 0; i < h->event.n_vrings; i++)
		rings_want_log(h, h->event.vrings[i], handler_active_log(h));
	handler_event_post(h, 1, VRING_OP_APPLY, VRING_OP_APPLY, log_applied);
}

static void
map_log(struct vhub_work *work)
{
	struct vhub_device_handler *h = handler_of_work(work);
	const struct vhub_user_log *log = &h->req->payload.log;

	h->work_result = vhub_dirty_log_create(h->req->fds[0], log->offset_bytes, log->size_bytes,
			&h->mem_owner, &h->new_log);
}

int
req_set_log_base(struct vhub_req_handler *base, struct vhub_request *req)
{
	struct vhub_device_handler *h = handler_of(base);

	if ((h->rec.protocol_features & VHUB_USER_PF(LOG_SHMFD)) == 0)
		return -ENOTSUP; /* an address in the front end's own memory: of no use to us */
	if (req->header.size != sizeof(req->payload.log) || req->n_fds != 1)
		return vhub_request_refuse(req, -EINVAL, "a log is a size, an offset and an fd");
	h->req = req;
	return handler_work(h, map_log, log_mapped);
}

/*
 * The fd may be used to tell the front end that the log has been written to; like other back ends
 * we do not, and so do not keep it.
 */
int
req_set_log_fd(struct vhub_req_handler *base, struct vhub_request *req)
{
	(void)base;
	(void)req;
	return 0;
}
