/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The stock request handler: its state, and what its files share. All of it belongs to CTL; what
 * lcores need of it is handed to them in struct vring_run and struct lifecycle_event.
 *
 * One request is under way at a time. A request that takes longer returns VHUB_REQ_PENDING and goes
 * on in steps: blocking work (handler_work), an event to the lcores (handler_event), a quiescent
 * state (handler_quiesce); the last step calls handler_finish().
 */
#ifndef HANDLER_PVT_H
#define HANDLER_PVT_H

#include <stdbool.h>
#include <stdint.h>

#include "lifecycle.h"
#include "session_record.h"
#include "vhub_device.h"
#include "vhub_log.h"
#include "vhub_work.h"

struct vhub_device_handler;

/** One step of a request, or of the close, has ended. */
typedef void (*handler_step_fn)(struct vhub_device_handler *h, int result);

struct vhub_device_handler {
	struct vhub_req_handler base; /**< first */
	struct vhub_device *dev;
	struct vhub_session *session; /**< NULL: no front end */
	struct session_record rec;

	/* Made from the record. */
	struct vhub_mem_owner mem_owner;
	struct vhub_mem_table *mem;
	struct vhub_dirty_log *log;
	struct vhub_mem_map *inflight_map;
	uint8_t *inflight;
	struct vring_run *vrings[VHUB_MAX_VRINGS]; /**< started ones */
	/** of this front end's rings, started or not: an lcore's while the ring runs */
	struct vhub_notify_account notify_accounts[VHUB_MAX_VRINGS];

	struct lifecycle lifecycle;
	struct lifecycle_event attach_event;

	/* The step under way. */
	struct vhub_request *req;
	struct lifecycle_event event;
	struct vhub_quiesce quiesce;
	struct vhub_work work;
	handler_step_fn step;
	int work_result;
	int result;		   /**< kept over the later steps of a request */
	bool closing;		   /**< the front end is gone */
	handler_step_fn stop_step; /**< rings_stop(): what follows */

	/* While rings drain: whether the front end is still there. */
	struct vhub_timer drain_timer;

	/* Inputs and outputs of the blocking work. */
	struct vhub_mem_table *new_mem;
	struct vhub_dirty_log *new_log;
	struct vhub_mem_map *new_map;
	void *new_hva;
	struct vring_run *new_vring;
	struct vhub_virtq_config new_config;
	unsigned int new_index;
	uint16_t new_inflight_size; /**< entries that the region is made for */
	uint8_t kept;		    /**< the device's byte, to be noted or found in the region */
	bool kept_found;
	int new_fd;
	int *new_fd_slot;
	struct vhub_kick_watch *new_kick; /**< of the ring that starts, or gets a new kick fd */
	uint64_t kick_cpu_ns;		  /**< what it took to make that */
	struct vhub_socket_ends new_ends;
	void *new_state; /**< of the device, as its front end has sent it; NULL: no memory */

	/* Rings of another library (foreign.c). */
	bool foreign_stale; /* what it runs, or ran, was made from another record than this */
	uint32_t foreign_bases[VHUB_MAX_VRINGS];
	handler_step_fn foreign_step;	 /* after the sync */
	handler_step_fn foreign_done;	 /* after a renewal */
	handler_step_fn foreign_resumed; /* after the lcores came back */
	unsigned int n_stopping;	 /* rings_stop(): which, while all others pause */
	struct vring_run *stopping[VHUB_MAX_VRINGS];

	/* Somebody else has locked the device's storage (rings_start()). */
	struct vhub_timer lock_timer;
	unsigned int lock_tries;
	char lock_error[256];
	handler_step_fn unlocked; /**< after it was given back */

	/* Queues and their lcores (queue_move.c). */
	struct vhub_lcore *queue_lcores[VHUB_MAX_VRINGS];
	struct vhub_queue_move *moves; /* the first one is under way while `moving` */
	bool moving;		       /* the session is held */
	struct vhub_task move_task;

	/* Migration of the device's state (state.c). */
	int state_fd;
	bool state_loading;

	/* Back-end channel (backend_channel.c). */
	struct vhub_watch channel_watch;
	struct vhub_timer
			channel_timer; /* armed: what is due waits for the session's rest to end */
	bool channel_watched;
	bool config_change_due;

	struct vhub_log_limit log_limit;
};

static inline struct vhub_device_handler *
handler_of(struct vhub_req_handler *base)
{
	return vhub_container_of(base, struct vhub_device_handler, base);
}

/* Where fds of its front end are closed. */
static inline struct vhub_fd_account *
handler_account(const struct vhub_device_handler *h)
{
	return h->session != NULL ? vhub_session_fds(h->session) : NULL;
}

/* ---- handler.c: steps ---- */

/**
 * Runs `run` as blocking work (on WORK), which leaves its result in h->work_result, then `step`.
 */
int
handler_work(struct vhub_device_handler *h, void (*run)(struct vhub_work *work),
		handler_step_fn step);

/** The same, for what another library is told: it may wait for front ends of other devices. */
int
handler_library_work(struct vhub_device_handler *h, void (*run)(struct vhub_work *work),
		handler_step_fn step);

/** The same, for what may wait for the device's storage. */
int
handler_storage_work(struct vhub_device_handler *h, void (*run)(struct vhub_work *work),
		handler_step_fn step);

/** Begins h->event: no vrings, no phases. */
void
handler_event_begin(struct vhub_device_handler *h);

/** Adds the vring, or every started one, to h->event. */
void
handler_event_add(struct vhub_device_handler *h, struct vring_run *vring);
void
handler_event_add_all(struct vhub_device_handler *h);

/** Posts h->event with `n` phases, then `step`. */
int
handler_event_post(struct vhub_device_handler *h, unsigned int n, enum vring_op first,
		enum vring_op second, handler_step_fn step);

/** Posts h->event, by which its rings leave their lcores to start on others, then `step`. */
void
handler_event_post_leave(struct vhub_device_handler *h, handler_step_fn step);

/** Waits for a quiescent state of every lcore, then `step` with `result`. */
int
handler_quiesce(struct vhub_device_handler *h, int result, handler_step_fn step);

/** Ends the pending request with `result`. Also a step. */
void
handler_finish(struct vhub_device_handler *h, int result);

static inline struct vhub_device_handler *
handler_of_work(struct vhub_work *work)
{
	return vhub_container_of(work, struct vhub_device_handler, work);
}

/** True when rings run. */
bool
handler_running(const struct vhub_device_handler *h);

/** The record of vring `index`, NULL when the device has no such vring. */
struct vring_record *
handler_vring(struct vhub_device_handler *h, uint64_t index);

/** The log that rings are to write: NULL while LOG_ALL is off. */
struct vhub_dirty_log *
handler_active_log(const struct vhub_device_handler *h);

/* ---- ring_place.c: where a ring lies ---- */

/**
 * Fills vring->want for the ring's addresses in `mem`. Returns 0 or -EFAULT: an address is not in
 * guest memory.
 */
int
rings_want_mem(struct vhub_device_handler *h, struct vring_run *vring, struct vhub_mem_table *mem);

/** Whether `log` covers the used rings of all started rings that are to be logged. */
bool
rings_fit_log(const struct vhub_device_handler *h, const struct vhub_dirty_log *log);

/** Refuses `req` because the log does not cover a used ring; returns -ERANGE. */
int
log_too_short(struct vhub_request *req);

/**
 * Whether the addresses of ring `index`, as the record has them, can be used: 0, -EFAULT, -EINVAL
 * (not aligned). With a vIOMMU nobody can tell.
 */
int
rings_check_addresses(const struct vhub_device_handler *h, unsigned int index,
		const struct vhub_mem_table *mem);

/** Fills vring->want for the log. Returns 0 or -ERANGE: the log does not cover the used ring. */
int
rings_want_log(struct vhub_device_handler *h, struct vring_run *vring, struct vhub_dirty_log *log);

/** Gives back what APPLY replaced in every ring of h->event. */
void
rings_put_old(struct vhub_device_handler *h);

/** Fills `config` for ring `index` as its record says. Returns 0, or an error and `req` is refused. */
int
ring_config(struct vhub_device_handler *h, struct vhub_request *req, unsigned int index,
		struct vhub_virtq_config *config);

/* ---- rings.c: starting and stopping ---- */

/** The front end has gone: no ring waits for what a former life left in flight, which stays in the region. */
void
rings_front_end_gone(struct vhub_device_handler *h);

/** Stops the rings of h->event (drain all, then stop all), releases them, then `step`. */
int
rings_stop(struct vhub_device_handler *h, handler_step_fn step);

/** The same, but what is in flight is left in the inflight region as far as it can be. */
int
rings_suspend(struct vhub_device_handler *h, handler_step_fn step);

/**
 * Whether a disk's running ring was enabled and then disabled: with Cloud Hypervisor of 2020 to 2022 that is all
 * that a driver's reset comes to, and the next driver sets the ring up as if it had stopped. One that was never
 * enabled is only on its way.
 */
bool
rings_is_set_aside(const struct vhub_device_handler *h, unsigned int index);

/** Whether all rings that run are. */
bool
rings_are_set_aside(const struct vhub_device_handler *h);

/** Stops those for `req`, then `step`. Returns VHUB_REQ_PENDING. */
int
rings_stop_set_aside(struct vhub_device_handler *h, struct vhub_request *req, handler_step_fn step);

/**
 * Starts ring `index` as its record says, then ends the request. Returns VHUB_REQ_PENDING, or an
 * error and nothing was begun.
 */
int
rings_start(struct vhub_device_handler *h, unsigned int index);

/**
 * Makes h->new_kick for h->new_fd. What it takes, h->kick_cpu_ns, is the front end's. Thread: WORK, as a piece of
 * the handler's.
 */
void
rings_make_kick(struct vhub_work *work);

/** A ring that did not start, and that the record has as not started, is no more. */
void
rings_drop(struct vhub_device_handler *h, struct vring_run *vring);

/**
 * Rings are gone: without any the device runs no more, and its storage is let go of. Then `step` with
 * `result`, perhaps at once.
 */
void
rings_gone(struct vhub_device_handler *h, int result, handler_step_fn step);

/* ---- queue_move.c: queues and their lcores ---- */

/** Gives every queue its first lcore. */
void
queue_lcores_init(struct vhub_device_handler *h);

/** A request has ended, or the session has: a move that waits may begin. */
void
queue_moves_continue(struct vhub_device_handler *h);

/** The handler goes: moves that wait end with -ESHUTDOWN. */
void
queue_moves_drop(struct vhub_device_handler *h);

/* ---- foreign.c: rings that another library runs ---- */

/** Whether ring addresses are the vIOMMU's, and so nothing that we could look up. */
bool
foreign_has_iommu(const struct vhub_device_handler *h);

/**
 * Refuses `req` when running rings would have what the library cannot serve; returns 0 (also when
 * the rings are ours) or -errno.
 */
int
foreign_check(const struct vhub_device_handler *h, struct vhub_request *req, unsigned int n_regions,
		uint64_t features, const struct vhub_user_log *log);

/** All lcores leave the device's rings, then `step`. */
int
foreign_pause(struct vhub_device_handler *h, handler_step_fn step);

/** Has the library be what the record says, then `step`; on failure the session ends. Paused. */
int
foreign_sync(struct vhub_device_handler *h, handler_step_fn step);

/** The lcores come back to the started rings, then `step` with h->result. */
void
foreign_resume(struct vhub_device_handler *h, handler_step_fn step);

/** The record has changed in what rings are made of: all the three, then `step`. */
int
foreign_renew(struct vhub_device_handler *h, handler_step_fn step);

/* ---- slots of the requests, by file ---- */

/* foreign.c */
int
req_iotlb_msg(struct vhub_req_handler *base, struct vhub_request *req);

/* req_device.c */
int
req_of_device(struct vhub_req_handler *base, struct vhub_request *req);

/* req_session.c */
int
req_get_features(struct vhub_req_handler *base, struct vhub_request *req);
int
req_set_features(struct vhub_req_handler *base, struct vhub_request *req);
int
req_get_protocol_features(struct vhub_req_handler *base, struct vhub_request *req);
int
req_set_protocol_features(struct vhub_req_handler *base, struct vhub_request *req);
int
req_set_owner(struct vhub_req_handler *base, struct vhub_request *req);
int
req_reset_owner(struct vhub_req_handler *base, struct vhub_request *req);
int
req_get_queue_num(struct vhub_req_handler *base, struct vhub_request *req);
int
req_set_status(struct vhub_req_handler *base, struct vhub_request *req);
int
req_get_status(struct vhub_req_handler *base, struct vhub_request *req);
int
req_reset_device(struct vhub_req_handler *base, struct vhub_request *req);

/* req_memory.c */
int
req_set_mem_table(struct vhub_req_handler *base, struct vhub_request *req);
int
req_get_max_mem_slots(struct vhub_req_handler *base, struct vhub_request *req);
int
req_add_mem_reg(struct vhub_req_handler *base, struct vhub_request *req);
int
req_rem_mem_reg(struct vhub_req_handler *base, struct vhub_request *req);
int
req_set_log_base(struct vhub_req_handler *base, struct vhub_request *req);
int
req_set_log_fd(struct vhub_req_handler *base, struct vhub_request *req);

/** Names in req->why what `result` of lib/mem means; returns it. */
int
memory_refused(struct vhub_request *req, int result);

/* req_vring.c */
int
req_set_vring_num(struct vhub_req_handler *base, struct vhub_request *req);
int
req_set_vring_addr(struct vhub_req_handler *base, struct vhub_request *req);
int
req_set_vring_base(struct vhub_req_handler *base, struct vhub_request *req);
int
req_get_vring_base(struct vhub_req_handler *base, struct vhub_request *req);
int
req_get_vring_base_skip_drain(struct vhub_req_handler *base, struct vhub_request *req);
int
req_set_vring_kick(struct vhub_req_handler *base, struct vhub_request *req);
int
req_set_vring_call(struct vhub_req_handler *base, struct vhub_request *req);
int
req_set_vring_err(struct vhub_req_handler *base, struct vhub_request *req);
int
req_set_vring_enable(struct vhub_req_handler *base, struct vhub_request *req);

/* req_config.c */
int
req_get_config(struct vhub_req_handler *base, struct vhub_request *req);
int
req_set_config(struct vhub_req_handler *base, struct vhub_request *req);

/* req_inflight.c */
int
req_get_inflight_fd(struct vhub_req_handler *base, struct vhub_request *req);
int
req_set_inflight_fd(struct vhub_req_handler *base, struct vhub_request *req);

/**
 * The ring's part of the inflight region in *part (NULL: no region). Returns 0, or -EINVAL: the
 * region is for another size.
 */
int
inflight_part(struct vhub_device_handler *h, unsigned int index, void **part, uint64_t *bytes);

/**
 * WORK: the region's rings are no more; what it says of them would mislead those that come after.
 */
void
inflight_forget(struct vhub_work *work);

/**
 * Whether it holds requests that a suspended ring has left, which somebody is to do: a migration's
 * destination, or this device's rings when they start with it again.
 */
bool
inflight_is_wanted(const struct vhub_device_handler *h);

/**
 * The device's byte (struct vhub_device_ops, keep) goes to the region, if there is one with room for
 * it: `get` on CTL, then `put` on WORK. The third does both and ends `req`; returns 0 (there is
 * nothing to do, and the request has not ended) or VHUB_REQ_PENDING.
 */
void
inflight_kept_get(struct vhub_device_handler *h);
void
inflight_kept_put(const struct vhub_device_handler *h);
int
inflight_keep(struct vhub_device_handler *h, struct vhub_request *req);

/** Drops the region. */
void
inflight_drop(struct vhub_device_handler *h);

/* state.c */
int
req_set_device_state_fd(struct vhub_req_handler *base, struct vhub_request *req);
int
req_check_device_state(struct vhub_req_handler *base, struct vhub_request *req);
void
state_drop(struct vhub_device_handler *h);

/* backend_channel.c */
int
req_set_backend_req_fd(struct vhub_req_handler *base, struct vhub_request *req);

/** Sends what is due, unless the device is suspended. */
void
backend_channel_flush(struct vhub_device_handler *h);

/** Closes the channel, if there is one. */
void
backend_channel_drop(struct vhub_device_handler *h);

#endif /* HANDLER_PVT_H */
