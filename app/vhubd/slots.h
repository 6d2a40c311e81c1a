/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device slots of a running vhubd: a device, its request handler and the server that brings it
 * front ends, until it is removed. Called by main.c and control_devices.c; read by status.c and
 * config_save.c.
 */
#ifndef SLOTS_H
#define SLOTS_H

#include <pthread.h>

#include "options.h"
#include "vhub_blk.h"
#include "vhub_net.h"
#include "vhub_work.h"

struct slot;
struct slots;

/** What was begun with a slot, which may go afterwards, has ended: 0, or a negative errno and one sentence. */
typedef void (*slots_done_fn)(const struct slot *slot, void *arg, int result, const char *why);

/**
 *     WAITING -> BUILDING -> SERVING -> STOPPING -> DESTROYING
 *        ^          v
 *        +------ FAILED
 *
 * A slot that cannot be built or served is gone at once, by way of DESTROYING; one whose options say `retries` comes
 * to FAILED then.
 */
enum slot_state {
	SLOT_WAITING,  /**< others are built before it */
	SLOT_BUILDING, /**< blocking work makes the device, and then its socket */
	SLOT_FAILED,   /**< it is tried again later */
	SLOT_SERVING,
	SLOT_STOPPING,	 /**< the front end's session ends, rings are drained */
	SLOT_DESTROYING, /**< blocking work destroys the device, or still removes its socket */
};

/** One device. Others may read it on CTL; slots.c and the files slot_*.c write it. */
struct slot {
	struct slots *slots;
	struct slot *next;
	/** its builder is gone once the device is built; one that has failed has another */
	struct slot_options options;
	enum slot_state state;
	struct vhub_executor executor;
	/** not NULL while SERVING and STOPPING; perhaps while FAILED: its socket is missing */
	struct vhub_device *device;
	struct vhub_req_handler *handler;
	/** not NULL while SERVING and STOPPING, but for a device without a front end */
	struct vhub_server *server;

	/* The socket of CONNECTION_LISTEN, which blocking work makes and removes. */
	bool listens;			  /**< from the making on until the removal */
	struct vhub_connection *listener; /**< or an inherited connection, until it is served */
	struct vhub_parent_resources *socket_file;
	struct vhub_parent_resources *unlinking; /**< socket_file, while `unlink_work` removes it */
	struct vhub_work unlink_work;
	bool destroyed; /**< the device; the file is waited for */

	/* One that has failed and is not served yet. */
	char failure[512]; /**< why, the last time; empty: it has not failed */
	unsigned int n_failures;
	uint64_t retry_us; /**< from the last time to the next */
	struct vhub_timer retry_timer;
	bool removing; /**< it was asked to go, or goes */

	bool changing; /**< SERVING: slot_change.c has blocking work under way, which is `work` */
	uint64_t new_size_bytes;
	const struct vhub_net_capture *capture; /**< the caller's, until it is told */
	struct vhub_net_captured captured;
	struct rte_kvargs *new_args; /**< of a port; until the change is over */

	/* What is under way. */
	slots_done_fn done;
	void *arg;
	struct vhub_work work; /**< slots_begin_work() */
	void (*run)(struct vhub_work *work);
	uint32_t work_state;	    /**< shared atomic, of enum work_state in slot_end.c */
	struct vhub_device *doomed; /**< DESTROYING: the work's, until it is destroyed */
	bool doomed_saves;	    /**< vhub_blk_saves() of it */
	bool lost;		    /**< a disk could not save what it should have: `error` */
	int result;
	char error[512];

	/* The end of all: slot_end.c's. */
	pthread_t thread; /**< where has_thread */
	bool has_thread;
	bool named; /**< the log has said that it is waited for */
};

/** Its device, NULL when there is none, or one that is still the work's that builds it. Thread: CTL. */
static inline struct vhub_device *
slot_device(const struct slot *slot)
{
	return slot->state == SLOT_BUILDING && !slot->listens ? NULL : slot->device;
}

/** An empty set on `loop`. Returns 0 or -ENOMEM. Thread: CTL. */
int
slots_create(struct vhub_loop *loop, struct slots **out);

/**
 * Ends all devices, after slots_stop(), each in a thread of its own: what one hangs in holds up no other. Devices at
 * rest are destroyed, and so their disks are saved; a disk that does not come to rest is saved while lcores go on
 * with it. Blocking work of a slot's own is waited for before, but for the building of a device; what has not begun
 * is not begun any more. What has something to save is waited for as long as it takes, and the log names it after a
 * second; others have three, or vhub_builder_ops.end_ms. Returns how many devices at rest have not come to their end;
 * the log names them. NULL is fine. Thread: CTL, after the loop. Blocks as long as storage does.
 */
unsigned int
slots_end(struct slots *slots);

/**
 * Frees it, after slots_end(); no server runs, no blocking work, and nothing is stuck. What is still to be told is
 * told. NULL is fine. Thread: CTL.
 */
void
slots_destroy(struct slots *slots);

/** Submits slot->work: `run` on WORK, then `done` on CTL. Thread: CTL; none is under way. */
void
slots_begin_work(struct slot *slot, enum vhub_work_kind kind, void (*run)(struct vhub_work *work),
		void (*done)(struct vhub_work *work));

/**
 * Has `changed` run each time that a device is served, or gone. Thread: CTL.
 */
void
slots_on_change(struct slots *slots, void (*changed)(void *arg), void *arg);

/** The first slot in the order of adding, the one after `slot`; NULL at the end. Thread: CTL. */
const struct slot *
slots_first(const struct slots *slots);
const struct slot *
slots_next(const struct slot *slot);

/**
 * Changes the size of a served disk as blocking work (slot_change.c), to `size_bytes`, 0: to what its
 * storage has; `done` runs then, and new_size_bytes of the slot is what it has. Returns 0, or
 * -ENOENT, -EBUSY, -ESHUTDOWN with one sentence in `error`, and nothing was begun. Thread: CTL.
 */
int
slots_resize(struct slots *slots, const char *name, uint64_t size_bytes, slots_done_fn done,
		void *arg, char *error, size_t error_len);

/**
 * Limits a served disk (slot_change.c); where `set` has UINT64_MAX, a limit stays, and it is what is
 * set now afterwards. Returns as slots_resize(), and -EINVAL. Thread: CTL.
 */
int
slots_set_qos(struct slots *slots, const char *name, struct vhub_blk_qos *set, char *error,
		size_t error_len);

/** The same of a served port. */
int
slots_set_port_qos(struct slots *slots, const char *name, struct vhub_net_qos *set, char *error,
		size_t error_len);

/** Has a served port mirrored, or not any more. Returns as slots_set_link(). */
int
slots_set_mirror(struct slots *slots, const char *name, const struct vhub_net_mirror *set,
		char *error, size_t error_len);

/**
 * Begins to capture a served port, or ends that, as blocking work; `done` runs then, and until then *set is
 * there. `captured` of the slot is what became of one that has ended. Returns as slots_resize().
 */
int
slots_capture_start(struct slots *slots, const char *name, const struct vhub_net_capture *set,
		slots_done_fn done, void *arg, char *error, size_t error_len);
int
slots_capture_stop(struct slots *slots, const char *name, slots_done_fn done, void *arg,
		char *error, size_t error_len);

/**
 * Changes arguments of a served port's driver, "key=value,...", as blocking work; `done` runs then, and the
 * device's arguments have them. Returns as slots_resize(), and -EINVAL (no such text), -ENOMEM.
 */
int
slots_change_port(struct slots *slots, const char *name, const char *args, slots_done_fn done,
		void *arg, char *error, size_t error_len);

/**
 * Takes the link of a served port down or up (slot_change.c). Returns as slots_resize(), and -EINVAL.
 * Thread: CTL.
 */
int
slots_set_link(struct slots *slots, const char *name, bool up, char *error, size_t error_len);

/** Notes where the queues of a slot's device are now, for who saves or shows its keys. Thread: CTL. */
void
slots_note_affinity(struct slots *slots, const struct vhub_device *device);

/**
 * A slot that is served and has nothing under way, to be changed. Returns as slots_resize().
 * Thread: CTL.
 */
int
slots_find_served(struct slots *slots, const char *name, struct slot **out, char *error,
		size_t error_len);

/** Tells slot->done how it ended, once. */
void
slots_tell(struct slot *slot, int result, const char *why);

/** Whether slots_stop() was called: devices that are served are so no more. Thread: CTL. */
bool
slots_are_stopping(const struct slots *slots);

/** By name, NULL when there is none. Thread: CTL. */
const struct slot *
slots_find(const struct slots *slots, const char *name);

/** For people: "serving". */
const char *
slot_state_name(enum slot_state state);

/**
 * Opens and builds the device as blocking work, in order, but beside a disk that takes long, listens as blocking work
 * where it is to, then begins to serve it;
 * `done` runs then, or when that has failed; with options->retries it is tried again and again from then on, and
 * there may be no such worker yet. The slot takes *options and leaves it empty. Returns 0 and `done` will run, or
 * -EEXIST (the name is in use), -EINVAL (there is no such worker), -ENOSPC, -ESHUTDOWN, -ENOMEM, or what is wrong
 * with an inherited fd, with one sentence in `error`, and nothing was begun. Thread: CTL.
 */
int
slots_add(struct slots *slots, struct slot_options *options, slots_done_fn done, void *arg,
		char *error, size_t error_len);

/**
 * Tries at once to build and serve a device that has failed; `done` runs when that has come to its end, before the
 * return for one that is served. Returns 0 and `done` will run, or -ENOENT, -EBUSY (it is being added, tried or
 * removed), -ESHUTDOWN with one sentence in `error`. Thread: CTL.
 */
int
slots_retry(struct slots *slots, const char *name, slots_done_fn done, void *arg, char *error,
		size_t error_len);

/**
 * Stops serving the device: its socket goes at once, as blocking work, its rings are drained, the device is
 * destroyed as blocking work; `done` runs when all of it is gone, with -EIO when a disk could not save
 * what it should have. One that has options.retries is not tried any more, and gone once a try that is under way has
 * come to its end. Returns 0 and `done` will run, or -ENOENT, -EBUSY (it is being added or removed),
 * -ESHUTDOWN with one sentence in `error`. Thread: CTL.
 */
int
slots_remove(struct slots *slots, const char *name, slots_done_fn done, void *arg, char *error,
		size_t error_len);

/**
 * Stops every server: sockets go at once, rings are drained. `done` runs when all are at rest, or
 * once `timeout_us` has passed, in which this thread got its turn: `n_stuck` is the number of those
 * that are not at rest, and each has been named in the log. Nothing is added or removed any more.
 */
void
slots_stop(struct slots *slots, uint64_t timeout_us, void (*done)(void *arg, unsigned int n_stuck),
		void *arg);

#endif /* SLOTS_H */
