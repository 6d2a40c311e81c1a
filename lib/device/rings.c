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
