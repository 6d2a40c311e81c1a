/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Starting and stopping the rings of a session, from its record. Called by req_vring.c,
 * req_session.c and handler.c; the other side is vring.c on the lcores.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "handler_pvt.h"
#include "vhub_alloc.h"
#include "vhub_kick.h"

VHUB_LOGTYPE(device);

/* ---- where a ring lies ---- */

static int
ring_addresses(const struct vhub_device_handler *h, unsigned int index,
		const struct vhub_mem_table *mem, void **desc, void **avail, void **used)
{
	const struct vring_record *rec = &h->rec.vrings[index];
	uint64_t desc_bytes, avail_bytes, used_bytes;

	vhub_virtq_layout(rec->size, h->rec.features, &desc_bytes, &avail_bytes, &used_bytes);
	*desc = vhub_mem_uva_to_hva(mem, rec->addr.desc_uva, desc_bytes);
	*avail = vhub_mem_uva_to_hva(mem, rec->addr.avail_uva, avail_bytes);
	*used = vhub_mem_uva_to_hva(mem, rec->addr.used_uva, used_bytes);
	if (*desc == NULL || *avail == NULL || *used == NULL)
		return -EFAULT;
	return vhub_virtq_is_aligned(*desc, *avail, *used, vhub_virtq_is_packed(h->rec.features)) ?
			0 :
			-EINVAL;
}

int
rings_check_addresses(const struct vhub_device_handler *h, unsigned int index,
		const struct vhub_mem_table *mem)
{
	void *desc, *avail, *used;

	return foreign_has_iommu(h) ? 0 : ring_addresses(h, index, mem, &desc, &avail, &used);
}

int
rings_want_mem(struct vhub_device_handler *h, struct vring_run *vring, struct vhub_mem_table *mem)
{
	struct vring_want *want = &vring->want;
	int ret;

	if (h->dev->foreign != NULL)
		return rings_check_addresses(h, vring->pub.index, mem);
	ret = ring_addresses(h, vring->pub.index, mem, &want->desc, &want->avail, &want->used);
	if (ret != 0)
		return ret;
	want->mem = mem;
	want->mask |= VRING_WANT_MEM;
	return 0;
}

/*
 * Where a ring notes in the log what it writes of itself, and how much that may be. In a packed ring those are
 * the descriptors, and log_guest_addr may be the address of its other part that we write: see dirty_set_bases().
 */
static uint64_t
ring_log_gpa(const struct vhub_device_handler *h, unsigned int index, uint64_t *bytes)
{
	const struct vhub_user_vring_addr *addr = &h->rec.vrings[index].addr;
	uint64_t desc_bytes, avail_bytes;
	const void *desc, *event;

	vhub_virtq_layout(h->rec.vrings[index].size, h->rec.features, &desc_bytes, &avail_bytes,
			bytes);
	if (!vhub_virtq_is_packed(h->rec.features))
		return addr->log_gpa;
	event = vhub_mem_uva_to_hva(h->mem, addr->used_uva, *bytes);
	desc = vhub_mem_uva_to_hva(h->mem, addr->desc_uva, desc_bytes);
	*bytes = desc_bytes;
	if (event == NULL || desc == NULL || vhub_mem_hva_to_gpa(h->mem, event) != addr->log_gpa)
		return addr->log_gpa;
	return vhub_mem_hva_to_gpa(h->mem, desc);
}

/* The last byte of the used ring must have its bit in the log ("Migration"). */
static int
check_used_log(const struct vhub_device_handler *h, unsigned int index,
		const struct vhub_dirty_log *log)
{
	const struct vhub_user_vring_addr *addr = &h->rec.vrings[index].addr;
	uint64_t gpa, bytes;

	if (log == NULL || (addr->flags & VHUB_USER_VRING_F_LOG) == 0)
		return 0;
	gpa = ring_log_gpa(h, index, &bytes);
	if (!vhub_dirty_log_covers(log, addr->log_gpa, 1) ||
			!vhub_dirty_log_covers(log, gpa, bytes))
		return -ERANGE;
	return 0;
}

int
log_too_short(struct vhub_request *req)
{
	return vhub_request_refuse(req, -ERANGE, "the log does not cover a used ring");
}

bool
rings_fit_log(const struct vhub_device_handler *h, const struct vhub_dirty_log *log)
{
	unsigned int i;

	for (i = 0; i < h->dev->max_queues; i++) {
		if (h->vrings[i] != NULL && check_used_log(h, i, log) != 0)
			return false;
	}
	return true;
}

int
rings_want_log(struct vhub_device_handler *h, struct vring_run *vring, struct vhub_dirty_log *log)
{
	const struct vhub_user_vring_addr *addr = &h->rec.vrings[vring->pub.index].addr;
	int ret = check_used_log(h, vring->pub.index, log);

	if (ret != 0)
		return ret;
	vring->want.log = log;
	vring->want.log_used = (addr->flags & VHUB_USER_VRING_F_LOG) != 0;
	vring->want.used_log_gpa = addr->log_gpa;
	vring->want.mask |= VRING_WANT_LOG;
	return 0;
}

void
rings_put_old(struct vhub_device_handler *h)
{
	unsigned int i;

	for (i = 0; i < h->event.n_vrings; i++) {
		struct vring_run *vring = h->event.vrings[i];

		vhub_mem_table_put(vring->old_mem);
		vring->old_mem = NULL;
		vhub_dirty_log_put(vring->old_log);
		vring->old_log = NULL;
	}
}

/* ---- the end of a ring ---- */

static void
tell_log(struct vhub_device_handler *h, const struct vring_run *vring)
{
	if (vhub_log_allowed(&h->log_limit))
		VHUB_LOG(WARNING,
				"%s: vring %u is broken: %s; it is served no more until it is restarted",
				vhub_session_name(h->session), vring->pub.index,
				vhub_virtq_reason_name(vring->pub.vq == NULL ?
								VHUB_VIRTQ_NOTIFY_STUCK :
								vhub_virtq_broken(vring->pub.vq)));
}

/* WORK: a large ring is many pages. Nobody else knows it any more; the device may be gone. */
static void
destroy_ring(struct vhub_work *work)
{
	struct vring_run *vring = vhub_container_of(work, struct vring_run, free_work);

	vhub_virtq_destroy(vring->pub.vq);
	vhub_free(vring->part, vring->part_bytes);
	free(vring);
}

static void
ring_destroy(struct vring_run *vring)
{
	vring->free_work.run = destroy_ring;
	vhub_work_submit(&vring->free_work);
}

/* A ring broke: heard on CTL, perhaps only after the ring was released. */
static void
ring_broken(struct vring_run *vring)
{
	struct vhub_device_handler *h = vring->owner;

	vring->broken_heard = true;
	if (vring->released) {
		ring_destroy(vring);
		return;
	}
	if (h->session == NULL)
		return;
	tell_log(h, vring);
	if (vring->stuck)
		vhub_session_punish(h->session, -ETIMEDOUT,
				"a notification fd of its blocked an lcore");
}

/* A message on its way to ring_broken() has it destroyed there. */
static void
ring_free(struct vring_run *vring)
{
	struct vhub_device *dev = vring->pub.dev;

	if (dev->ops->queue_release != NULL)
		dev->ops->queue_release(dev, &vring->pub);
	vhub_kick_watch_destroy(vring->pub.kick, handler_account(vring->owner));
	vring->released = true;
	if (!vring->broken_told || vring->broken_heard)
		ring_destroy(vring);
}

void
rings_drop(struct vhub_device_handler *h, struct vring_run *vring)
{
	h->vrings[vring->pub.index] = NULL;
	h->rec.vrings[vring->pub.index].started = false;
	ring_free(vring);
}

static void
set_running(struct vhub_device_handler *h, bool running)
{
	if (h->dev->ops->set_running != NULL)
		h->dev->ops->set_running(h->dev, running);
}

/* WORK. The device tells of what it cannot give back; h->work_result is for the step that follows. */
static void
unlock_device(struct vhub_work *work)
{
	struct vhub_device_handler *h = handler_of_work(work);

	h->lock_error[0] = '\0';
	h->dev->ops->lock(h->dev, false, h->lock_error, sizeof(h->lock_error));
}

static void
device_unlocked(struct vhub_device_handler *h, int result)
{
	h->dev->unlocking = false;
	h->unlocked(h, result);
}

void
rings_gone(struct vhub_device_handler *h, int result, handler_step_fn step)
{
	if (handler_running(h)) {
		step(h, result);
		return;
	}
	set_running(h, false);
	h->work_result = result;
	if (!h->dev->locks) {
		step(h, result);
		return;
	}
	h->dev->unlocking = true;
	h->unlocked = step;
	handler_storage_work(h, unlock_device, device_unlocked);
}

/* The device knows these rings no more. Then as rings_gone(). */
static void
release_rings(struct vhub_device_handler *h, struct vring_run *const *vrings, unsigned int n,
		int result, handler_step_fn step)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		struct vring_run *vring = vrings[i];
		struct vring_record *rec = &h->rec.vrings[vring->pub.index];

		if (vring->pub.vq != NULL)
			rec->base = vhub_virtq_base(vring->pub.vq);
		else
			rec->base = h->foreign_bases[vring->pub.index];
		rec->left_in_flight = vring_has_left(vring);
		session_record_set_fd(&rec->kick_fd, -1, handler_account(h));
		ring_free(vring);
	}
	if (n > 0)
		rings_gone(h, result, step);
	else
		step(h, result);
}

static void
rings_stopped(struct vhub_device_handler *h, int result)
{
	unsigned int i;

	for (i = 0; i < h->event.n_vrings; i++) {
		h->vrings[h->event.vrings[i]->pub.index] = NULL;
		h->rec.vrings[h->event.vrings[i]->pub.index].started = false;
	}
	release_rings(h, h->event.vrings, h->event.n_vrings, result, h->stop_step);
}

/* ---- the same with another library's rings: all pause, some stop, the others go on ---- */

static void
foreign_stop_over(struct vhub_device_handler *h, int result)
{
	h->result = result;
	foreign_resume(h, h->stop_step);
}

static void
foreign_stop_synced(struct vhub_device_handler *h, int result)
{
	release_rings(h, h->stopping, h->n_stopping, result, foreign_stop_over);
}

static void
foreign_stopped(struct vhub_device_handler *h, int result)
{
	unsigned int i;

	(void)result;
	for (i = 0; i < h->n_stopping; i++) {
		h->vrings[h->stopping[i]->pub.index] = NULL;
		h->rec.vrings[h->stopping[i]->pub.index].started = false;
	}
	foreign_sync(h, foreign_stop_synced);
}

static void
foreign_paused(struct vhub_device_handler *h, int result)
{
	unsigned int i;

	(void)result;
	handler_event_begin(h);
	for (i = 0; i < h->n_stopping; i++)
		handler_event_add(h, h->stopping[i]);
	handler_event_post(h, 1, VRING_OP_STOP, VRING_OP_STOP, foreign_stopped);
}

void
rings_front_end_gone(struct vhub_device_handler *h)
{
	unsigned int i;

	for (i = 0; i < h->dev->max_queues; i++) {
		if (h->vrings[i] == NULL)
			continue;
		/* Pairs with is_gone() in vring.c. */
		__atomic_store_n(&h->vrings[i]->gone, true, __ATOMIC_RELAXED);
		vhub_lcore_wake(h->vrings[i]->pub.lcore);
	}
}

static int
stop_after(struct vhub_device_handler *h, enum vring_op first, handler_step_fn step)
{
	unsigned int i;

	h->stop_step = step;
	if (h->dev->foreign == NULL)
		return handler_event_post(h, 2, first, VRING_OP_STOP, rings_stopped);
	h->n_stopping = h->event.n_vrings;
	for (i = 0; i < h->n_stopping; i++)
		h->stopping[i] = h->event.vrings[i];
	return foreign_pause(h, foreign_paused);
}

int
rings_stop(struct vhub_device_handler *h, handler_step_fn step)
{
	return stop_after(h, VRING_OP_DRAIN, step);
}

int
rings_suspend(struct vhub_device_handler *h, handler_step_fn step)
{
	return stop_after(h, VRING_OP_SUSPEND, step);
}

/* ---- rings that were disabled, and not stopped ---- */

bool
rings_is_set_aside(const struct vhub_device_handler *h, unsigned int index)
{
	return h->vrings[index] != NULL && !h->dev->discards && h->vrings[index]->was_enabled &&
			!h->rec.vrings[index].enabled;
}

bool
rings_are_set_aside(const struct vhub_device_handler *h)
{
	unsigned int i;

	for (i = 0; i < h->dev->max_queues; i++) {
		if (h->vrings[i] != NULL && !rings_is_set_aside(h, i))
			return false;
	}
	return true;
}

int
rings_stop_set_aside(struct vhub_device_handler *h, struct vhub_request *req, handler_step_fn step)
{
	unsigned int i;

	h->req = req;
	handler_event_begin(h);
	for (i = 0; i < h->dev->max_queues; i++) {
		if (rings_is_set_aside(h, i))
			handler_event_add(h, h->vrings[i]);
	}
	return rings_stop(h, step);
}

/* ---- the start of a ring ---- */

static void
start_failed(struct vhub_device_handler *h, int result)
{
	vhub_kick_watch_destroy(h->new_kick, handler_account(h));
	h->new_kick = NULL;
	/* The library has a ring that nobody will serve: the end of the session takes it back. */
	if (h->dev->foreign != NULL)
		vhub_session_end(h->session, result, "a ring cannot be started");
	rings_gone(h, result, handler_finish);
}

static void
ring_started(struct vhub_device_handler *h, int result)
{
	struct vring_run *vring = h->event.vrings[0];

	if (result != 0) {
		vhub_request_refuse(h->req, result, "vring %u cannot be started: %s",
				vring->pub.index, strerror(-result));
		rings_drop(h, vring);
		start_failed(h, result);
		return;
	}
	h->rec.vrings[vring->pub.index].started = true;
	backend_channel_flush(h);
	h->result = 0;
	if (h->dev->foreign != NULL)
		foreign_resume(h, handler_finish);
	else
		handler_finish(h, 0);
}

static struct vhub_lcore *
rings_lcore(const struct vhub_device_handler *h, unsigned int index)
{
	return h->queue_lcores[index / vhub_device_vrings_per_queue(h->dev)];
}

/* WORK, or CTL with the rings of another library. `vq` is the ring's, on success only. */
static int
ring_alloc(struct vhub_device_handler *h, struct vhub_virtq *vq, struct vring_run **out)
{
	const unsigned int index = h->new_index;
	struct vhub_device *dev = h->dev;
	struct vring_record *rec = &h->rec.vrings[index];
	struct vring_run *vring = calloc(1, sizeof(*vring));

	if (vring == NULL)
		return -ENOMEM;
	vring_init(vring);
	vring->pub.dev = dev;
	vring->pub.vq = vq;
	vring->pub.lcore = rings_lcore(h, index);
	vring->pub.features = h->rec.features;
	vring->pub.index = (uint16_t)index;
	vring->pub.enabled = rec->enabled;
	vring->was_enabled = rec->enabled;
	vring->pub.call_fd = rec->call_fd;
	vring->pub.notify_account = &h->notify_accounts[index];
	vring->home = h->lifecycle.home;
	vring->loop = h->lifecycle.loop;
	vring->broken = ring_broken;
	vring->owner = h;
	vring->err_fd = rec->err_fd;
	if (dev->ring_bytes != 0) {
		vring->part_bytes = dev->ring_bytes;
		vring->part = vhub_zalloc_node(vring->part_bytes,
				vhub_lcore_node(vring->pub.lcore));
		if (vring->part == NULL) {
			free(vring);
			return -ENOMEM;
		}
		vring->pub.priv = vring->part;
	}
	*out = vring;
	return 0;
}

/* The ring is made; the device and then its lcore take it. */
static void
ring_created(struct vhub_device_handler *h, int result)
{
	struct vring_run *vring;

	if (result == 0 && h->dev->foreign != NULL)
		result = ring_alloc(h, NULL, &h->new_vring);
	if (result != 0) {
		h->rec.vrings[h->new_index].started = false;
		vhub_request_refuse(h->req, result, "vring %u cannot be made: %s", h->new_index,
				result == -EPROTO ? "its inflight region makes no sense" :
						    strerror(-result));
		start_failed(h, result);
		return;
	}
	vring = h->new_vring;
	result = h->dev->ops->queue_prepare(h->dev, &vring->pub);
	if (result != 0) {
		h->rec.vrings[h->new_index].started = false;
		vhub_request_refuse(h->req, result, "vring %u is not there: %s", h->new_index,
				strerror(-result));
		ring_destroy(vring);
		start_failed(h, result);
		return;
	}
	vring->pub.kick = h->new_kick;
	h->new_kick = NULL;
	if (vring->pub.kick != NULL)
		vhub_kick_watch_wake(vring->pub.kick, vring->pub.lcore);
	h->vrings[h->new_index] = vring;
	handler_event_begin(h);
	handler_event_add(h, vring);
	handler_event_post(h, 1, VRING_OP_START, VRING_OP_START, ring_started);
}

/* All lcores are out: the library may begin to serve the ring. */
static void
paused_for_start(struct vhub_device_handler *h, int result)
{
	(void)result;
	h->rec.vrings[h->new_index].started = true;
	foreign_sync(h, ring_created);
}

/* WORK: allocates the ring's requests, reads its used index and inflight region. */
static int
make_virtq(const struct vhub_device_handler *h, struct vhub_virtq **out)
{
	const struct vhub_virtq_config *config = &h->new_config;
	int ret = 0;

	if (config->inflight != NULL)
		ret = vhub_inflight_queue_init(config->inflight, config->inflight_bytes,
				h->new_inflight_size, vhub_virtq_is_packed(config->features));
	return ret != 0 ? ret : vhub_virtq_create(config, out);
}

static void
create_ring(struct vhub_work *work)
{
	struct vhub_device_handler *h = handler_of_work(work);
	struct vhub_virtq *vq;

	h->work_result = make_virtq(h, &vq);
	if (h->work_result != 0)
		return;
	h->work_result = ring_alloc(h, vq, &h->new_vring);
	if (h->work_result == 0)
		inflight_kept_put(h);
	else
		vhub_virtq_destroy(vq);
}

/* What lib/virtq would refuse without a word. */
static int
check_shape(const struct vhub_device_handler *h, struct vhub_request *req,
		const struct vring_record *rec)
{
	bool packed = vhub_virtq_is_packed(h->rec.features);

	if (rec->size == 0 || !rec->has_addr || !h->rec.has_features)
		return vhub_request_refuse(req, -EINVAL,
				"SET_FEATURES, SET_VRING_NUM and SET_VRING_ADDR come before the start of a ring");
	if (!packed && (rec->size & (rec->size - 1)) != 0)
		return vhub_request_refuse(req, -EINVAL, "ring size %u is not a power of two",
				rec->size);
	if (!vhub_virtq_base_fits(rec->base, rec->size, packed))
		return vhub_request_refuse(req, -EINVAL, "base 0x%x lies beyond the ring",
				rec->base);
	return 0;
}

static int
check_places(struct vhub_device_handler *h, struct vhub_request *req, unsigned int index,
		struct vhub_virtq_config *config)
{
	int ret = 0;

	if (!foreign_has_iommu(h))
		ret = ring_addresses(h, index, h->mem, &config->desc, &config->avail,
				&config->used);
	if (ret == -EFAULT)
		return vhub_request_refuse(req, ret, "ring addresses outside of guest memory");
	if (ret != 0)
		return vhub_request_refuse(req, ret, "ring addresses are not aligned");
	if (check_used_log(h, index, config->log) != 0)
		return log_too_short(req);
	ret = inflight_part(h, index, &config->inflight, &config->inflight_bytes);
	if (ret != 0)
		return vhub_request_refuse(req, ret,
				"the inflight region is for %u entries a ring, ring %u has %u",
				h->rec.inflight.queue_size, index, h->rec.vrings[index].size);
	return 0;
}

static int
ring_config(struct vhub_device_handler *h, struct vhub_request *req, unsigned int index,
		struct vhub_virtq_config *config)
{
	struct vring_record *rec = &h->rec.vrings[index];
	int ret = check_shape(h, req, rec);

	if (ret != 0)
		return ret;
	memset(config, 0, sizeof(*config));
	config->size = rec->size;
	config->features = h->rec.features;
	config->base = rec->base;
	config->from_used = h->dev->discards;
	config->mem = h->mem;
	config->faulted = &h->mem_owner.faulted;
	config->log = handler_active_log(h);
	config->log_used = (rec->addr.flags & VHUB_USER_VRING_F_LOG) != 0;
	config->used_log_gpa = rec->addr.log_gpa;
	config->call_fd = rec->call_fd;
	config->notify_account = &h->notify_accounts[index];
	config->chain_bytes = h->dev->chain_bytes;
	config->numa_node = h->mem->numa_node;
	return check_places(h, req, index, config);
}

/* Its kicks can wake an lcore, or it has none. */
static int
make_ring_for_kick(struct vhub_device_handler *h)
{
	h->rec.vrings[h->new_index].left_base = 0;
	if (h->dev->foreign != NULL)
		return foreign_pause(h, paused_for_start);
	h->new_inflight_size = h->rec.inflight.queue_size;
	inflight_kept_get(h);
	return handler_work(h, create_ring, ring_created);
}

/* Not an lcore: it would wait for a lock of the front end's. */
void
rings_make_kick(struct vhub_work *work)
{
	struct vhub_device_handler *h = handler_of_work(work);
	const uint64_t begin = vhub_thread_cpu_ns();

	h->work_result = vhub_kick_watch_create(h->new_fd, &h->new_kick);
	h->kick_cpu_ns = vhub_thread_cpu_ns() - begin;
}

static void
kick_made(struct vhub_device_handler *h, int result)
{
	vhub_session_charge(h->session, h->kick_cpu_ns);
	if (result == 0) {
		make_ring_for_kick(h);
		return;
	}
	vhub_request_refuse(h->req, result, "the kick fd of vring %u cannot be watched: %s",
			h->new_index, strerror(-result));
	start_failed(h, result);
}

/* The device may run: the ring is made. */
static int
make_ring(struct vhub_device_handler *h)
{
	h->new_fd = h->rec.vrings[h->new_index].kick_fd;
	return h->new_fd < 0 ? make_ring_for_kick(h) : handler_work(h, rings_make_kick, kick_made);
}

/*
 * Somebody else has the image: perhaps a vhubd that was killed, whose last I/O the kernel still
 * ends, or the other side of a migration, which has not let go yet.
 */
#define LOCK_TRY_US 10000
#define LOCK_TRIES 100

/* The device may be used, or not. */
static void
locked(struct vhub_device_handler *h, int result)
{
	if (result == -EAGAIN && ++h->lock_tries < LOCK_TRIES &&
			!vhub_session_is_leaving(h->session)) {
		vhub_timer_arm(h->lifecycle.loop, &h->lock_timer, LOCK_TRY_US);
	} else if (result != 0) {
		handler_finish(h,
				vhub_request_refuse(h->req, result, "%s",
						h->lock_error[0] != '\0' ?
								h->lock_error :
								"the device cannot begin to run"));
	} else {
		set_running(h, true);
		make_ring(h);
	}
}

/* WORK */
static void
lock_device(struct vhub_work *work)
{
	struct vhub_device_handler *h = handler_of_work(work);

	h->lock_error[0] = '\0';
	h->work_result = h->dev->ops->lock(h->dev, true, h->lock_error, sizeof(h->lock_error));
}

static void
try_to_lock(struct vhub_timer *timer)
{
	handler_storage_work(vhub_container_of(timer, struct vhub_device_handler, lock_timer),
			lock_device, locked);
}

int
rings_start(struct vhub_device_handler *h, unsigned int index)
{
	int ret = ring_config(h, h->req, index, &h->new_config);

	if (ret == 0)
		ret = foreign_check(h, h->req, h->rec.n_regions, h->rec.features, &h->rec.log);
	if (ret != 0)
		return ret;
	h->new_index = index;
	if (handler_running(h))
		return make_ring(h);
	if (h->dev->locks) {
		h->lock_tries = 0;
		h->lock_timer.fn = try_to_lock;
		return handler_storage_work(h, lock_device, locked);
	}
	set_running(h, true);
	return make_ring(h);
}
