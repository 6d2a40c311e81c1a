/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Devices, their builders, and the two operations of the connection contract that need them.
 *
 * Life of a device
 *   parse, open, build   struct vhub_builder: arguments are checked, paths become fds, then the
 *                        device is made for an executor.
 *   sessions             front ends come and go; the device and its storage stay. For each:
 *                        ack_features, then for each ring that starts queue_prepare (CTL),
 *                        queue_start (its lcore), queue_poll ... (but while it is parked, see
 *                        queue_park), and for each that stops
 *                        queue_stop (its lcore) once nothing is in flight, or what is has been
 *                        given up (queue_suspend), queue_release (CTL).
 *   destroy              with no session.
 */
#ifndef VHUB_DEVICE_H
#define VHUB_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_kvargs.h>

#include "vhub_common.h"
#include "vhub_conn.h"
#include "vhub_lcore.h"
#include "vhub_mem.h"
#include "vhub_registry.h"
#include "vhub_virtq.h"

#ifdef __cplusplus
extern "C" {
#endif

struct vhub_device;
struct vhub_kick_watch;
struct session_record; /* session_record.h: what the front end has told us */

/**
 * One started ring of a device, as its device sees it on the ring's lcore. The device handler makes
 * it when the ring starts and frees it after queue_release.
 */
struct vhub_vring {
	/* Immutable while it runs. */
	struct vhub_device *dev;
	struct vhub_virtq *vq;	  /**< NULL: another library runs the ring (dev->foreign) */
	struct vhub_lcore *lcore; /**< its owner; another one after vhub_device_queue_move() */
	uint64_t features;	  /**< negotiated */
	uint16_t index;
	void *priv; /**< the device's, from queue_prepare on: dev->ring_bytes, or what that sets */

	/* LCORE. */
	/**
	 * The ring may be popped: enabled, or being drained (then it gives only replays), not
	 * broken. Where dev->discards, and of a foreign ring: may be asked, enabled or not.
	 */
	bool taking;
	/**
	 * The device's: it takes nothing from the ring for a while, though there may be something,
	 * and queue_arm has seen to it that the lcore wakes then.
	 */
	bool held;
	struct vhub_kick_watch *kick; /**< NULL: no kick fd */
	/** SET_VRING_ENABLE; a started, disabled net ring discards what comes from the guest */
	bool enabled;
	/** of a foreign ring: where its guest is notified, -1 nowhere; vhub_vring_notify() */
	int call_fd;
	/** the device handler's: what notifications of this ring have cost */
	struct vhub_notify_account *notify_account;
	/** a notification fd of the front end's blocked this lcore: its session is to end */
	bool stuck;
};

/** Notifies the guest of a foreign ring. Thread: LCORE, the ring's. Does not block for long. */
VHUB_API void
vhub_vring_notify(struct vhub_vring *vring);

/**
 * Polls a ring of the calling lcore again, if it has been left alone (queue_park): something has
 * happened to it from outside of its polls. Thread: LCORE, the ring's.
 */
VHUB_API void
vhub_vring_resume(struct vhub_vring *vring);

/**
 * What a kind of device provides. CTL slots do not block. Errors are negative errnos.
 */
struct vhub_device_ops {
	/** Required. CTL or WORK; may block on WORK. Frees the device; there is no session. */
	void (*destroy)(struct vhub_device *dev);
	/**
	 * Optional. CTL. The front end has accepted `features`, a subset of dev->features. Non-zero
	 * refuses them.
	 */
	int (*ack_features)(struct vhub_device *dev, uint64_t features);
	/**
	 * Required. CTL. Copies [offset, offset + len) of the config space, already checked against
	 * dev->config_bytes.
	 */
	int (*config_read)(struct vhub_device *dev, uint32_t offset, void *buf, uint32_t len);
	/**
	 * Optional. CTL. Writes config space; `migration`: read-only fields too. Without it -EPERM.
	 */
	int (*config_write)(struct vhub_device *dev, uint32_t offset, const void *buf, uint32_t len,
			bool migration);
	/**
	 * Optional. CTL. Rings that start from now on have their guest's memory in `mem`; those that
	 * run change over after this call. NULL: there is none any more, and no ring. Whoever keeps
	 * something of the former table has lcores use it in the present turn at most: it is let go
	 * once each of them has passed a safe point. A reference of `mem` is the caller's.
	 */
	void (*memory)(struct vhub_device *dev, struct vhub_mem_table *mem);
	/**
	 * Required. CTL. The ring is about to start on vring->lcore: fill vring->priv. It may
	 * go on on another lcore later: queue_stop on the one, then queue_start on the other.
	 */
	int (*queue_prepare)(struct vhub_device *dev, struct vhub_vring *vring);
	/**
	 * Required. LCORE. Get what belongs to this lcore (a driver's queue). On failure nothing is
	 * held.
	 */
	int (*queue_start)(struct vhub_vring *vring);
	/**
	 * Required. LCORE. One bounded turn: take, submit, reap, complete, notify. Only while
	 * vring->taking new chains are popped; what is in flight is completed either way. Returns
	 * the number of items handled.
	 */
	unsigned int (*queue_poll)(struct vhub_vring *vring);
	/**
	 * Optional. LCORE. The ring is going to stop, and nobody waits for its storage: what is in flight
	 * is given up (vhub_virtq_leave()) as far as that can be, now or in the turns that follow.
	 * The rest is completed. The ring notes what is in flight, and is not `taking`; it stops once
	 * nothing is under way. Without this slot, and its protocol feature, rings are drained.
	 */
	void (*queue_suspend)(struct vhub_vring *vring);
	/**
	 * Optional. LCORE. Before a sleep, with something in flight or the ring held: 0 a
	 * completion, or what it is held for, will wake this lcore, -EAGAIN there is one, -ENOTSUP
	 * it cannot.
	 */
	int (*queue_arm)(struct vhub_vring *vring);
	/**
	 * Optional, required with foreign rings. LCORE. Before a sleep, in place of asking the guest
	 * for kicks: for rings in which a guest offers room instead of work, and whose work comes
	 * from elsewhere. As vhub_virtq_arm(): asks, then looks once more; 0, -EAGAIN: there is work,
	 * -ENOTSUP: nothing would wake us.
	 */
	int (*ring_arm)(struct vhub_vring *vring);
	/** Goes with it. LCORE. Nothing has to wake us any more. */
	void (*ring_disarm)(struct vhub_vring *vring);
	/**
	 * Optional. LCORE. A ring that is ours has had nothing to do for a while: may it be left
	 * alone until `word` changes (it is zeroed; vhub_virtq_park() fills it for what the guest
	 * offers), an operation of the session comes, or vhub_vring_resume()? Nothing is in flight
	 * in it. Without this slot it is polled in each turn.
	 */
	bool (*queue_park)(struct vhub_vring *vring, struct vhub_lcore_word *word);
	/**
	 * Optional. LCORE. The ring is left alone, and somebody has called vhub_lcore_resume_all():
	 * whether its next poll would find something new. Without this slot it would not.
	 */
	bool (*queue_is_meant)(struct vhub_vring *vring);
	/** Optional. LCORE. It is polled again, behind all other rings; always before queue_stop. */
	void (*queue_resume)(struct vhub_vring *vring);
	/** Required. LCORE. Nothing is under way: give back what queue_start got. */
	void (*queue_stop)(struct vhub_vring *vring);
	/** Optional. CTL. Let go of vring->priv; what the handler has made of it, that frees. */
	void (*queue_release)(struct vhub_device *dev, struct vhub_vring *vring);
	/**
	 * Optional. CTL. The last ring has stopped (suspended) or the first one is about to start:
	 * `running` tells.
	 */
	void (*set_running)(struct vhub_device *dev, bool running);
	/**
	 * For devices with `locks`. WORK, one at a time for each device; may block. Image locks: taken
	 * (`locked`) before the first ring starts, given back when the last one has stopped, and before
	 * that is answered. 0, -EAGAIN (somebody else has it: it is tried again for a second, unless the
	 * session ends), or another -errno. Of the last try `error`, which comes empty, may hold the
	 * sentence with which the front end's request is refused; what cannot be given back the device
	 * tells of itself. Giving back what was not taken does nothing; after giving back, whatever came
	 * of it, the next taking asks again.
	 */
	int (*lock)(struct vhub_device *dev, bool locked, char *error, size_t error_len);
	/**
	 * Optional. CTL. Back to the state after build, but for the storage: STATUS 0,
	 * RESET_DEVICE, or a new front end. QEMU does all three to a guest that goes on and knows
	 * nothing of it, so what that guest relies on and nobody tells again has to stay.
	 */
	void (*reset)(struct vhub_device *dev);
	/**
	 * Optional both. CTL. One byte that outlives this process: the stock handler notes what
	 * `keep` returns behind the rings' parts of the inflight region ("Inflight I/O tracking"),
	 * before a ring starts and before a SET_CONFIG is acknowledged, and gives it to `recall`
	 * when a front end brings such a region. The front end can write that memory: the byte may
	 * be any, and must do no harm. recall is not called without a region, or for one that
	 * another back end has made.
	 */
	uint8_t (*keep)(const struct vhub_device *dev);
	void (*recall)(struct vhub_device *dev, uint8_t byte);
	/**
	 * Optional both. CTL. State that a migration carries; snapshot returns the size or -ENOSPC
	 * when `len` is too small.
	 */
	int (*snapshot)(struct vhub_device *dev, void *buf, uint32_t len);
	int (*restore)(struct vhub_device *dev, const void *buf, uint32_t len);
	/**
	 * Optional. CTL. Names what is in flight and stuck, for the message at an unclean end:
	 * "disk0: /dev/sdb, 3 requests".
	 */
	int (*describe)(const struct vhub_device *dev, char *buf, size_t len);
	/**
	 * Optional. CTL. Serves a request that only this class of device knows, such as
	 * NET_SET_MTU. As a slot of struct vhub_req_handler_ops, but a request that takes longer ends
	 * with vhub_device_request_done(). Without it -ENOTSUP.
	 */
	int (*request)(struct vhub_device *dev, struct vhub_request *req);
	/** Optional. CTL. Calls `emit` for each figure of queue `queue`. */
	void (*stats)(const struct vhub_device *dev, uint16_t queue, vhub_stat_fn emit, void *arg);
	/** Optional. CTL. Calls `emit` for each figure of what `lcore` has done for the device. */
	void (*lcore_stats)(const struct vhub_device *dev, const struct vhub_lcore *lcore,
			vhub_stat_fn emit, void *arg);
	/** Required of a device without a front end (struct vhub_builder_ops), of no other. ANY. */
	struct vhub_lcore *(*queue_lcore)(const struct vhub_device *dev, unsigned int queue);
};

/**
 * For a device whose rings another library runs, on mappings of its own (librte_vhost). The stock
 * handler keeps the session record and the state machine as for every device; instead of making
 * rings of ours it has the library's be what the record says. While sync runs no lcore is in a ring
 * of the device. Record, memory, messages and `bases` are the handler's. Errors are negative errnos.
 */
struct vhub_foreign_ops {
	/* What the library cannot do: such requests are refused, with the reason in the log. */
	unsigned int max_regions; /**< of memory */
	bool log_at_zero;	  /**< a dirty log begins where its file begins */
	/**
	 * Required. WORK; may block. Starts and stops the library's rings until those are started
	 * that `rec` has started; none: gives everything back. `anew`: memory, log, features or
	 * addresses are others than at the last call, so what runs is made again. A ring that stops
	 * leaves its place in bases[index] (as in SET_VRING_BASE), a ring that starts finds it in
	 * the record. What the library maps is `owner`'s. On failure nothing runs, and the session
	 * ends. One call at a time for each device.
	 */
	int (*sync)(struct vhub_device *dev, const struct session_record *rec, bool anew,
			struct vhub_mem_owner *owner, uint32_t *bases);
	/**
	 * Optional. WORK; may block. Tells the library what a vIOMMU maps now, checked. Not while
	 * sync runs. Returns 0; -EINVAL: the library refuses it, which the front end is told; other
	 * errors: nobody knows what it will do, and the session ends. Without it the device offers
	 * no vIOMMU.
	 */
	int (*iotlb)(struct vhub_device *dev, const struct vhub_user_iotlb *msg);
	/**
	 * Optional. LCORE, the ring's. Does not block. Whether the library has something under way in this
	 * ring, which the lcore completes (queue_poll): a drain waits for it, and nothing would wake the
	 * lcore from a sleep.
	 * Without it, never.
	 */
	bool (*in_flight)(const struct vhub_vring *vring);
};

/**
 * Embedded first in a device by its implementation, which fills the immutable part before it hands
 * it out.
 */
struct vhub_device {
	/* Immutable. */
	const struct vhub_device_ops *ops;
	char name[64];
	struct vhub_executor executor;
	uint16_t max_queues;	    /**< vrings */
	uint64_t features;	    /**< offered, without bits 26 and 30, which the handler adds */
	uint64_t protocol_features; /**< offered beyond those of the stock handler */
	uint32_t config_bytes;
	uint32_t chain_bytes; /**< of its request, which starts with a struct vhub_chain */
	/**
	 * of what the stock handler makes for each ring (WORK: to map and to unmap waits for whoever else
	 * does it), zeroed, on the node of its lcore: vring->priv before queue_prepare. 0: nothing, as
	 * always with foreign rings
	 */
	uint32_t ring_bytes;
	/** vrings that share an lcore: 2 for net, whose queue is a pair of them; 0 is 1 */
	uint16_t vrings_per_queue;
	const struct vhub_foreign_ops *foreign; /**< NULL: the rings are ours */
	/**
	 * as virtio-net: a disabled ring is polled too, for what comes has to be discarded; nothing
	 * is noted in flight, and a ring that is not `taking` is left alone
	 */
	bool discards;
	bool locks; /**< ops->lock is there to be called */
	/** of the bits of `features` that are its class's own, for who shows them; NULL: there are none */
	const char *const (*feature_names)[64];

	/* CTL: the stock handler's. */
	struct vhub_device_handler *handler;
	bool unlocking; /**< its storage is being given back, which may take as long as to write back what is cached */
	bool syncing; /**< foreign->sync is under way: what it changes is nobody else's */
};

/** Vrings of one queue: 2 for net. Thread: ANY. */
static inline unsigned int
vhub_device_vrings_per_queue(const struct vhub_device *dev)
{
	return dev->vrings_per_queue != 0 ? dev->vrings_per_queue : 1;
}

/** Queues as a user counts them: virtqueues of a disk, pairs of a port. Thread: ANY. */
static inline unsigned int
vhub_device_n_queues(const struct vhub_device *dev)
{
	return dev->max_queues / vhub_device_vrings_per_queue(dev);
}

/**
 * Tells the front end that the config space has changed, if there is one that wants to know.
 * Thread: CTL.
 */
VHUB_API void
vhub_device_config_changed(struct vhub_device *dev);

/** Ends the request for which ops->request has returned VHUB_REQ_PENDING. Thread: CTL. */
VHUB_API void
vhub_device_request_done(struct vhub_device *dev, int result);

/**
 * Asks the front end what its vIOMMU maps at an address ("IOTLB"). Thread: CTL. Does not block.
 * Returns 0, -EAGAIN: the channel is full, ask again later, -ENOTCONN, -EPIPE: nobody can be asked.
 */
VHUB_API int
vhub_device_iotlb_miss(struct vhub_device *dev, const struct vhub_user_iotlb *miss);

/** One move of a queue to another lcore. Embedded by its owner, who fills the first three. */
struct vhub_queue_move {
	uint16_t queue; /**< as a user counts them: vhub_device_n_queues() */
	struct vhub_lcore *lcore;
	/**
	 * CTL: it is over; may free the structure. 0; -ETIMEDOUT what is in flight did not complete
	 * in time; -ESHUTDOWN the device goes; or why the queue cannot run on that lcore. After an
	 * error the queue is where it was.
	 */
	void (*done)(struct vhub_queue_move *move, int result);
	struct vhub_queue_move *next; /**< the stock handler's */
};

/**
 * Hands a queue over to another lcore: at once when it is not started, else once what it has in
 * flight has completed (up to two seconds); nothing is lost, and other queues go on. The queue
 * stays there for later front ends too. Moves of one device follow one another, and requests of its
 * front end wait meanwhile. Thread: CTL. Does not block. Returns 0 and move->done will run, perhaps
 * before the return; -EINVAL (no such queue), -ENOTCONN (the device has no handler).
 */
VHUB_API int
vhub_device_queue_move(struct vhub_device *dev, struct vhub_queue_move *move);

/** The lcore of a queue, started or not; NULL when there is no handler or queue. Thread: CTL. */
VHUB_API struct vhub_lcore *
vhub_device_queue_lcore(const struct vhub_device *dev, unsigned int queue);

/** Frees a device through its ops; NULL is fine. Thread: CTL or WORK; may block. */
VHUB_API void
vhub_device_destroy(struct vhub_device *dev);

/* ---- the stock request handler ---- */

/**
 * Makes the handler that serves every struct vhub_device. Does not own `dev`. Thread: CTL. Returns
 * 0, -ENOMEM, or -EINVAL (its executor has no loop or no lcore).
 */
VHUB_API int
vhub_device_handler_create(struct vhub_device *dev, struct vhub_req_handler **out);

/** Frees it; no session is open. NULL is fine. Thread: CTL. */
VHUB_API void
vhub_device_handler_destroy(struct vhub_req_handler *handler);

/** States of a connection (doc/guides/architecture.rst, "States"). */
enum vhub_conn_state {
	VHUB_CONN_DETACHED,
	VHUB_CONN_ATTACHED,
	VHUB_CONN_READY,
	VHUB_CONN_RUNNING,
	VHUB_CONN_DRAINING,
	VHUB_CONN_SUSPENDED,
};

/** Its name in small letters, as in "running"; constant. Thread: ANY. */
VHUB_API const char *
vhub_conn_state_name(enum vhub_conn_state state);

/** Where the device's present connection stands; DETACHED without one. Thread: CTL. */
VHUB_API enum vhub_conn_state
vhub_device_conn_state(const struct vhub_device *dev);

/** The socket of its front end; -1: there is none. While a ring runs it stays open. Thread: CTL. */
VHUB_API int
vhub_device_connection(const struct vhub_device *dev);

/** The ring `index` as long as it is started, else NULL. Thread: CTL; LCORE fields are not its. */
VHUB_API const struct vhub_vring *
vhub_device_vring(const struct vhub_device *dev, uint16_t index);

/** What a device and its front end have agreed on, and the memory that it shares. */
struct vhub_session_status {
	struct vhub_peer peer;
	uint64_t features; /**< as the front end has set them */
	uint64_t protocol_features;
	uint32_t n_regions; /**< of guest memory */
	uint64_t memory_bytes;
	uint64_t page_bytes; /**< of the memory's files; the smallest, 0: there is none */
	int numa_node;	     /**< of the first region, -1 not known */
};

/** Thread: CTL. Returns 0 or -ENOTCONN: there is no front end. */
VHUB_API int
vhub_device_session_status(const struct vhub_device *dev, struct vhub_session_status *status);

/** A ring as the front end has set it up. */
struct vhub_ring_status {
	uint16_t size; /**< 0: the front end has not told */
	bool packed;
	bool started;
	bool enabled;
	bool inflight; /**< started, and what is in flight is noted in shared memory */
	enum vhub_virtq_reason broken;
	bool counted; /**< started, and not another library's: `stats` tell of it since then */
	struct vhub_virtq_stats stats;
};

/** Thread: CTL. Returns 0, -ENOTCONN: there is no front end, or -EINVAL: the device has no such ring. */
VHUB_API int
vhub_device_ring_status(const struct vhub_device *dev, uint16_t index,
		struct vhub_ring_status *status);

/** "RING_PACKED" of bit 34, without VIRTIO_F_ and the like; NULL: it is not known. Thread: ANY. */
VHUB_API const char *
vhub_device_feature_name(const struct vhub_device *dev, unsigned int bit);

/* ---- builders ---- */

struct vhub_builder;

/** A kind of device that can be built: "blk", "net". Registered once; const. */
struct vhub_builder_ops {
	const char *name; /**< as on the command line: --blk */
	const char *help; /**< one line for each argument, for --help */
	/**
	 * Required. CTL. Checks `args` (keys not of this kind have been removed) and makes a
	 * builder. On -EINVAL `error` holds one sentence: the key, its value, what is allowed; on
	 * -ENOKEY, of vhub_arg_check_keys(), too.
	 */
	int (*parse)(const char *device_name, const struct rte_kvargs *args,
			struct vhub_builder **out, char *error, size_t error_len);
	/** Optional. CTL or WORK; may block. Paths to fds. Errors as above. */
	int (*open)(struct vhub_builder *builder, char *error, size_t error_len);
	/**
	 * Required. CTL or WORK; may block. Makes the device. The builder is still the caller's.
	 * Errors as above.
	 */
	int (*build)(struct vhub_builder *builder, const struct vhub_executor *executor,
			struct vhub_device **out, char *error, size_t error_len);
	/** Required. CTL or WORK; may block. Frees the builder and what open got and build did not take. */
	void (*destroy)(struct vhub_builder *builder);
	/** Optional. CTL. How many lcores the device could make use of; without it 1. */
	unsigned int (*max_lcores)(const struct vhub_builder *builder);
	/** Optional. The drivers of this kind; each begins with a struct vhub_driver_head. */
	const struct vhub_registry *drivers;
	/**
	 * Its devices have no front end, and so no connection: they run from build to destroy. Of their
	 * ops only destroy, describe, stats, lcore_stats and queue_lcore are called.
	 */
	bool standalone;
	/**
	 * On WORK, open and build may run for several builders at a time, so that one that hangs holds up no
	 * other. Without it they run for one at a time, in the order of the devices.
	 */
	bool concurrent;
	/** How long the end of a device may take when vhubd ends, before it is stuck; less than 3000 is 3000. */
	uint32_t end_ms;
};

/** Embedded first by its implementation. */
struct vhub_builder {
	const struct vhub_builder_ops *ops;
};

/**
 * Registers a kind. Thread: CTL or a constructor. Returns 0, -EEXIST (the name is taken), -EINVAL
 * (a required slot is missing), -ENOSPC (there are too many).
 */
VHUB_API int
vhub_builder_register(const struct vhub_builder_ops *ops);

/** By name, NULL when there is none; and the i-th one, NULL beyond the last. Thread: CTL. */
VHUB_API const struct vhub_builder_ops *
vhub_builder_find(const char *name);
VHUB_API const struct vhub_builder_ops *
vhub_builder_at(unsigned int i);

/**
 * Registers OPS before main(); ends the program with a message when that is refused, for it is a
 * programming error.
 */
#define VHUB_BUILDER_REGISTER(ops_) \
	static void __attribute__((constructor)) vhub_builder_register_##ops_(void) \
	{ \
		vhub_registered(vhub_builder_register(&ops_), (ops_).name); \
	}

/* ---- the contract, second half ---- */

/**
 * Serves one front end on `connection` with `device`: wraps it in the stock request handler, then
 * vhub_run_req_handler(). `complete` runs once, after the device is at rest; the device stays the
 * caller's. Consumes `connection` in every case. Thread: CTL. Returns 0, -ENOMEM, -EINVAL (complete
 * never runs).
 */
VHUB_API int
vhub_run_backend(struct vhub_connection *connection, struct vhub_device *device,
		const struct vhub_executor *executor, vhub_complete_fn complete, void *arg);

/**
 * Builds the device now (so inside of a jail, where the caller has entered one), serves one front end
 * and returns when it has disconnected or on an error. It is the loop: it runs executor->loop until
 * done. Consumes `connection` and `builder` in every case. Thread: CTL. Blocks. Returns 0, -EDEADLK
 * when called from inside a running control loop, or what open, build or the session returned.
 */
VHUB_API int
vhub_run_device(struct vhub_connection *connection, const struct vhub_executor *executor,
		struct vhub_builder *builder);

#ifdef __cplusplus
}
#endif

#endif /* VHUB_DEVICE_H */
