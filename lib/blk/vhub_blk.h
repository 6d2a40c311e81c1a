/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-blk, and the contract of the block drivers behind it.
 *
 * Life of a disk (one instance of a driver)
 *   parse       CTL: arguments are checked; nothing is touched.
 *   open        CTL or WORK, may block: paths become fds, sizes are known.
 *   place       CTL or WORK, may block: once, which NUMA node its lcores are on.
 *   info        any time after open.
 *   lock        WORK, may block: the disk is about to be used, or no longer: image locks (a
 *               migration's two ends hand over).
 *   memory      CTL: a guest's memory is there, or another one, or none any more.
 *   front_end   CTL: whose rings start, or have stopped.
 *   queue_get   LCORE: one queue for each lcore that uses the disk; gets and puts are counted by
 *               the blk device, so a
 *   ...         driver sees one get and one put for each lcore.
 *   submit      LCORE: a burst. "n accepted: each of those completes exactly once; the others
 *               never."
 *   reap        LCORE: what has completed, in any order. Once in a turn of the lcore.
 *   cancel      LCORE: what of a ring is in flight is wanted back, done or not: it goes on elsewhere.
 *   queue_put   LCORE: with nothing in flight.
 *   resize      WORK, may block: while lcores use it.
 *   save        CTL or WORK, may block: likewise, and while its size does not change.
 *   destroy     CTL or WORK, may block: with no queue got.
 *
 * Calls for different disks run at the same time, but for those on CTL: what one disk waits for in open or
 * destroy holds up no other.
 *
 * A driver never sees a guest's address: iovecs are host addresses, sectors are bytes, and both
 * were checked against the capacity. Guest memory may vanish under it (EFAULT from the kernel, zero
 * pages from the guard); that is an I/O error and nothing more. The smallest example is
 * drivers/blk/null.
 */
#ifndef VHUB_BLK_H
#define VHUB_BLK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <rte_kvargs.h>

#include "vhub_args.h"
#include "vhub_common.h"
#include "vhub_hist.h"
#include "vhub_lcore.h"

#ifdef __cplusplus
extern "C" {
#endif

/** virtio-blk counts in sectors of this size whatever the block size (VIRTIO 1.2, 5.2). */
#define VHUB_BLK_SECTOR_BYTES 512u
/**
 * Data segments of one request that we offer (SEG_MAX): with header and status, what fits into a
 * ring of 128 entries, the smallest usual one. A Linux guest without INDIRECT_DESC never submits
 * what does not fit, and hangs.
 */
#define VHUB_BLK_SEG_MAX 126u
/** Most bytes of one segment that we offer (SIZE_MAX). */
#define VHUB_BLK_SIZE_MAX_BYTES (4u << 20)
/**
 * Most bytes of one request: the whole sectors of a chain, which has less than 4 GiB. Both offers bind a driver
 * that has negotiated them, and no other (5.2.3): OVMF's sends a GiB in one segment.
 */
#define VHUB_BLK_DATA_MAX_BYTES (UINT32_MAX / VHUB_BLK_SECTOR_BYTES * VHUB_BLK_SECTOR_BYTES)

enum vhub_blk_op {
	VHUB_BLK_READ,
	VHUB_BLK_WRITE,
	VHUB_BLK_FLUSH,
	/* On a range of the disk, without data; only what info offers. */
	VHUB_BLK_DISCARD,      /**< what the range holds is of no interest any more */
	VHUB_BLK_WRITE_ZEROES, /**< it reads as zeroes afterwards */
	VHUB_BLK_SECURE_ERASE, /**< what it held cannot be read by anybody, nor are there copies */
	VHUB_BLK_OPS
};

/** The write (or WRITE_ZEROES, SECURE_ERASE) is durable before it completes. */
#define VHUB_BLK_IO_FUA 0x1u
/** WRITE_ZEROES: the space may be given back. Without it, it stays the disk's. */
#define VHUB_BLK_IO_UNMAP 0x2u

/** Most bytes of one DISCARD, WRITE_ZEROES or SECURE_ERASE. */
#define VHUB_BLK_RANGE_MAX_BYTES (1u << 30)

/**
 * One I/O. Between submit and reap it is the driver's, but for the fields before `result`, which
 * nobody changes.
 */
struct vhub_blk_io {
	const struct iovec *iov; /**< READ: to be filled, WRITE: to be stored; valid until reaped */
	uint16_t n_iov;
	uint8_t op;    /**< enum vhub_blk_op */
	uint8_t flags; /**< VHUB_BLK_IO_* */
	/**
	 * a multiple of info's block_bytes. READ, WRITE: the sum over iov, 1 ..
	 * VHUB_BLK_DATA_MAX_BYTES; FLUSH: 0; others, which have no iov: of the range, 1 .. what
	 * info offers
	 */
	uint32_t len_bytes;
	uint64_t offset_bytes; /**< a multiple of info's block_bytes; offset + len <= capacity */

	int32_t result; /**< set by the driver: 0, or a negative errno (short I/O is -EIO) */
	struct vhub_blk_io *next; /**< the driver's own, a list of what is in flight */
	uint64_t driver[2];	  /**< the driver's own */
};

struct vhub_mem_table;

/** What a disk is. */
struct vhub_blk_info {
	uint64_t capacity_bytes;       /**< a multiple of block_bytes, not 0 */
	uint32_t block_bytes;	       /**< logical block size: 512 or 4096 */
	uint32_t physical_block_bytes; /**< >= block_bytes, a power of two */
	uint32_t min_io_bytes;	       /**< 0: physical_block_bytes */
	uint32_t optimal_io_bytes;     /**< 0 unknown */
	/** where the first physical block begins that is whole; a multiple of block_bytes */
	uint32_t alignment_offset_bytes;
	/**
	 * Most bytes of one DISCARD, WRITE_ZEROES and SECURE_ERASE, multiples of block_bytes up to
	 * VHUB_BLK_RANGE_MAX_BYTES; 0: not for this disk (a read-only one), and never submitted.
	 */
	uint32_t discard_max_bytes;
	uint32_t write_zeroes_max_bytes;
	uint32_t secure_erase_max_bytes;
	uint32_t discard_align_bytes; /**< units that discarding frees; 0: block_bytes */
	bool write_zeroes_may_unmap;  /**< VHUB_BLK_IO_UNMAP can give space back */
	bool read_only;
	/** FLUSH means something: a completed write may be lost in a power failure */
	bool volatile_cache;
	/** destroy stores what no FLUSH has: it is waited for as long as that takes */
	bool saved_at_end;
	char target[128]; /**< for people: "/srv/disk0.img", "memory" */
};

struct vhub_blk_disk;
struct vhub_blk_queue;

/** Picks I/Os of a queue, and changes none. Thread: LCORE, the queue's. Does not block. */
typedef bool (*vhub_blk_pick_fn)(const struct vhub_blk_io *io, const void *arg);

/** A driver. Registered once; const. */
struct vhub_blk_driver_ops {
	const char *name; /**< as in driver=NAME */
	const char *help; /**< one line for each argument */
	/** names of its arguments, NULL-terminated; "ro" is every driver's */
	const char *const *keys;

	/**
	 * Required. CTL. On -EINVAL `error` holds one sentence: the key, its value, what is
	 * allowed.
	 */
	int (*parse)(const struct rte_kvargs *args, bool read_only, struct vhub_blk_disk **out,
			char *error, size_t error_len);
	/** Required. CTL or WORK; may block. Errors as above; may be undone by destroy only. */
	int (*open)(struct vhub_blk_disk *disk, char *error, size_t error_len);
	/**
	 * Optional. CTL or WORK; may block. Once, after open and before the first queue: the lcores
	 * that will use it are on this NUMA node (-1: not known, or any). For what lies in memory
	 * or is read into it. Errors as above.
	 */
	int (*place)(struct vhub_blk_disk *disk, int node, char *error, size_t error_len);
	/**
	 * Required. CTL or WORK; may block. Frees the disk in whatever state. What it should have stored
	 * (info's saved_at_end) and could not, it tells of by vhub_blk_not_saved().
	 */
	void (*destroy)(struct vhub_blk_disk *disk);
	/** Required. ANY. Does not block. */
	void (*info)(const struct vhub_blk_disk *disk, struct vhub_blk_info *info);
	/**
	 * Optional. WORK; may block. Takes (`locked`) or gives back the image lock. -EAGAIN: somebody else
	 * holds it; `error` says who, as far as that is known, and names the image. One that could not be
	 * given back may be taken again.
	 */
	int (*lock)(struct vhub_blk_disk *disk, bool locked, char *error, size_t error_len);
	/**
	 * Optional. CTL. Does not block. For who makes something of a guest's memory, such as a
	 * registration with the kernel: iovecs lie in `mem` from now on, and for some turns more,
	 * until the rings have changed over, in the former table too. NULL: the guest has gone, and
	 * no queue is got. What was made of the former table is out of reach for lcores from their
	 * next turn on. That table is the caller's, as `mem` is, and is let go once each lcore has
	 * passed a safe point; who looks at it later takes a reference. With every `mem` but NULL a
	 * call with NULL or another one follows before destroy.
	 */
	void (*memory)(struct vhub_blk_disk *disk, struct vhub_mem_table *mem);
	/**
	 * Optional. CTL. Does not block. Queues are about to be got for the front end at the other end of
	 * the socket `fd`, which stays open until they are put; -1: they are. For who has a kernel read
	 * and write guest memory, which may go on when this process is killed: that has to keep the
	 * socket open. A front end has the requests of a process that is gone done again by the next one
	 * once it is closed, and its guest uses the memory for something else then.
	 */
	void (*front_end)(struct vhub_blk_disk *disk, int fd);
	/** Required. LCORE. A queue of the calling lcore. May allocate; does not block. */
	int (*queue_get)(struct vhub_blk_disk *disk, struct vhub_blk_queue **out);
	/** Required. LCORE. Nothing is in flight on it. Does not block. */
	void (*queue_put)(struct vhub_blk_queue *queue);
	/**
	 * Required. LCORE. Does not block. Returns how many, from the front, were accepted: each
	 * completes exactly once through reap. Fewer than n: the rest comes again later. With nothing
	 * in flight at least one is accepted.
	 */
	uint16_t (*submit)(struct vhub_blk_queue *queue, struct vhub_blk_io *const *ios,
			uint16_t n);
	/**
	 * Required. LCORE. Up to `max` completed I/Os with `result` set. Does not block. Called
	 * once in a turn, however many rings share the queue: a driver that does work of its own
	 * on the lcore bounds what it does between two calls, for others wait for their turn.
	 */
	uint16_t (*reap)(struct vhub_blk_queue *queue, struct vhub_blk_io **ios, uint16_t max);
	/**
	 * Optional. LCORE. Does not block. Those in flight that `wanted` picks, called with `arg`, are
	 * wanted back: somebody else is going to do them. What has not begun, and what can be aborted,
	 * is reaped with -ECANCELED, some of it perhaps done; what cannot be aborted completes as ever.
	 * Once an I/O was reaped nothing is stored of it any more, neither on the disk nor in its
	 * buffers. Without this slot front ends are not offered to suspend rings instead of draining
	 * them (GET_VRING_BASE_SKIP_DRAIN).
	 */
	void (*cancel)(struct vhub_blk_queue *queue, vhub_blk_pick_fn wanted, const void *arg);
	/**
	 * Optional. LCORE. Before a sleep with I/O in flight: 0 a completion will wake this lcore
	 * (through an fd that queue_get gave to vhub_lcore_add_wake_fd()), -EAGAIN one is there.
	 * Without this slot the lcore stays awake.
	 */
	int (*arm)(struct vhub_blk_queue *queue);
	/**
	 * Optional. WORK; may block. Lcores use the disk meanwhile. Makes it `size_bytes` (a
	 * multiple of block_bytes) large, or, when that is 0, as large as its storage is now; info
	 * tells the new capacity afterwards. All of that can be used at once. What a smaller disk
	 * has no more may still be submitted for a while: it fails, or it is done. Errors as in
	 * parse, and the disk is as before.
	 */
	int (*resize)(struct vhub_blk_disk *disk, uint64_t size_bytes, char *error,
			size_t error_len);
	/**
	 * Required with info's saved_at_end. CTL or WORK; may block. Lcores may use the disk meanwhile, whose size
	 * does not change. Stores what destroy would, as far as it has completed: before destroy, which tries
	 * once more where this fails, or instead of it, where something is in flight for ever and vhubd ends.
	 * Errors as above.
	 */
	int (*save)(struct vhub_blk_disk *disk, char *error, size_t error_len);
};

/** Embedded first by its implementation. */
struct vhub_blk_disk {
	const struct vhub_blk_driver_ops *ops;
	char name[64]; /**< the device's; written after parse */
};
struct vhub_blk_queue {
	struct vhub_blk_disk *disk;
};

/**
 * Registers a driver. Thread: CTL or a constructor. Returns 0, -EEXIST (the name is taken), -EINVAL
 * (a required slot is missing), -ENOSPC (there are too many).
 */
VHUB_API int
vhub_blk_driver_register(const struct vhub_blk_driver_ops *ops);

/** By name, NULL when there is none; and the i-th one, NULL beyond the last. Thread: CTL. */
VHUB_API const struct vhub_blk_driver_ops *
vhub_blk_driver_find(const char *name);
VHUB_API const struct vhub_blk_driver_ops *
vhub_blk_driver_at(unsigned int i);

/** Registers OPS before main(). */
#define VHUB_BLK_DRIVER_REGISTER(ops_) \
	static void __attribute__((constructor)) vhub_blk_driver_register_##ops_(void) \
	{ \
		vhub_registered(vhub_blk_driver_register(&ops_), (ops_).name); \
	}

/**
 * For `cancel` of drivers that keep what is in flight in a list, by `next`: those that are picked go
 * to its front, in their order, with the result -ECANCELED. `list` is where it begins, *tail the link
 * of its last one. Returns the link behind those that were picked. Thread: LCORE.
 */
VHUB_API struct vhub_blk_io **
vhub_blk_cancel_list(struct vhub_blk_io **list, struct vhub_blk_io ***tail, vhub_blk_pick_fn wanted,
		const void *arg);

/**
 * For `destroy`: a disk goes, and something that its guest has written is lost. The log has named it. Thread:
 * ANY. Does not block.
 */
VHUB_API void
vhub_blk_not_saved(void);

/** How many have gone like that, of the whole process. Thread: ANY. */
VHUB_API uint64_t
vhub_blk_n_not_saved(void);

struct vhub_device;

/** Whether it is a blk device whose disk has info's saved_at_end. Thread: ANY. */
VHUB_API bool
vhub_blk_saves(const struct vhub_device *dev);

/**
 * Has the driver of such a device store what destroy would; lcores may use it. Thread: CTL or WORK; may block;
 * not while its size changes. Returns 0, -EINVAL (no such device), or what the driver says, with one sentence in
 * `error`.
 */
VHUB_API int
vhub_blk_save(struct vhub_device *dev, char *error, size_t error_len);

/* ---- changes of a running disk ---- */

/**
 * The first half: has the driver change the size of a blk device's disk to `size_bytes`, 0: to what
 * its storage has. Thread: WORK; may block; one at a time for each device. Returns 0, -EINVAL (no
 * blk device, a size that does not fit), -ENOTSUP (the driver cannot), or what the driver says, with
 * one sentence in `error`.
 */
VHUB_API int
vhub_blk_resize(struct vhub_device *dev, uint64_t size_bytes, char *error, size_t error_len);

/**
 * The second half: what the driver says now is what requests are checked against, and the front end
 * is told (VHOST_USER_BACKEND_CONFIG_CHANGE_MSG). Thread: CTL. Returns the capacity in bytes.
 */
VHUB_API uint64_t
vhub_blk_resized(struct vhub_device *dev);

/** What a disk may do in a second; 0: as much as it can. */
struct vhub_blk_qos {
	uint64_t iops;	      /**< requests of any kind */
	uint64_t bytes_per_s; /**< read, written, zeroed and erased, together */
	/**
	 * How much of that may come at once after a pause; 0: what comes in a tenth of a second, and
	 * at least one request
	 */
	uint64_t iops_burst;
	uint64_t bytes_burst;
};

/** Bounds of the fields that are not 0. */
#define VHUB_BLK_QOS_MAX_IOPS UINT64_C(1000000000)
#define VHUB_BLK_QOS_MIN_BYTES UINT64_C(512)
#define VHUB_BLK_QOS_MAX_BYTES (UINT64_C(1) << 50)

/**
 * Limits a blk device, from the next turn of its lcores on. All its queues share the limit,
 * whichever lcore they are on. What is over it waits in the guest's rings, or, of ranges that are
 * zeroed or erased, here. A ring that drains does not wait with these: the disk owes them, but no more
 * than a minute, and takes nothing until they are paid. Requests that an inflight region brings count
 * again; they may be a second ahead of the limit, and a minute where the ring drains for a front end that is
 * there. Thread: CTL. Returns 0, -EINVAL (not a blk device; a value out of bounds, which one sentence names), and
 * nothing has changed then.
 */
VHUB_API int
vhub_blk_set_qos(struct vhub_device *dev, const struct vhub_blk_qos *qos, char *error,
		size_t error_len);

/** What was set. Thread: CTL. Returns 0 or -EINVAL (not a blk device). */
VHUB_API int
vhub_blk_get_qos(const struct vhub_device *dev, struct vhub_blk_qos *qos);

/* ---- statistics of a disk ---- */

/** What one queue of a disk has done since the device was built; sessions come and go. */
struct vhub_blk_stats {
	struct {
		uint64_t requests; /**< completed, with whatever status */
		uint64_t bytes;	   /**< read or written without an error */
		uint64_t errors;   /**< of requests: the status was not OK */
	} op[VHUB_BLK_OPS];
	uint64_t other_requests; /**< GET_ID, and types that are not served */
	uint64_t other_errors;
	uint64_t in_flight; /**< taken from the ring and not completed yet */
	uint64_t held;	    /**< times that the queue began to wait for its disk's limits */
};

/**
 * Copies the counters of queue `index` of a blk device. Thread: ANY; values of one call may be a
 * burst apart. Returns 0, -EINVAL (not a blk device, or no such queue).
 */
VHUB_API int
vhub_blk_get_stats(const struct vhub_device *dev, uint16_t index, struct vhub_blk_stats *stats);

/* ---- latency of a disk ---- */

/**
 * How long requests have taken, in TSC cycles: from when an lcore took them off the ring until it answered them, with
 * whatever status. What they wait for in the ring, for limits of the disk, too, is not in it; what they
 * wait for here, for the driver and as ranges that are paid in pieces, is.
 */
struct vhub_blk_latency {
	uint64_t cycles; /**< since the beginning of the measuring */
	/** by enum vhub_blk_op; together as many as vhub_blk_stats.op counts in that time */
	struct vhub_hist op[VHUB_BLK_OPS];
};

/**
 * Begins to measure a blk device, or anew: what has been measured is forgotten, and requests that were taken before
 * are not counted. It costs lcores a few nanoseconds a request, and nothing until then. Thread: CTL, while lcores
 * run. Does not block. Returns 0, -EINVAL (not a blk device), -ENOMEM, and nothing has changed then.
 */
VHUB_API int
vhub_blk_latency_start(struct vhub_device *dev);

/** Ends that, if it has begun, and forgets what was measured. Thread and results as there, but for -ENOMEM. */
VHUB_API int
vhub_blk_latency_stop(struct vhub_device *dev);

/**
 * Copies what has been measured; values of one call may be a burst apart. Thread: CTL. Does not block. Returns 0,
 * -EINVAL (not a blk device), -ENODATA (it is not measured), and then *latency is all zero.
 */
VHUB_API int
vhub_blk_get_latency(const struct vhub_device *dev, struct vhub_blk_latency *latency);

#ifdef __cplusplus
}
#endif

#endif /* VHUB_BLK_H */
