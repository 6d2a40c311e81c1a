/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of virtio-blk: one file for each stage of a request's way.
 *
 *     blk.c (poll) -> decode_common.h, decode.c -> submit.c -> the driver ... the driver -> complete.c -> blk.c
 *                                 ranges.c: requests of many ranges, one I/O after the other
 *                                 latency.c: how long requests take, where that is measured
 *                                 suspend.c: requests that are given up, for another life of the ring
 *
 * Rings of one disk on one lcore share a queue of the driver (struct blk_lcore). One of them reaps
 * it for all: every request knows its ring, and goes back to that one. So a disk has one turn on an
 * lcore, and more rings do not make it longer.
 */
#ifndef BLK_PVT_H
#define BLK_PVT_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <linux/virtio_blk.h>
#include <rte_branch_prediction.h>
#include <rte_common.h>

#include "vhub_blk.h"
#include "vhub_device.h"
#include "vhub_lcore.h"
#include "vhub_log.h"
#include "vhub_meter.h"
#include "vhub_user.h"
#include "vhub_virtq.h"

/*
 * The config space that we answer for. Behind the fields of virtio-blk it reads as zero: front ends
 * ask for the largest struct virtio_blk_config that they know, and some for as much as a message
 * carries.
 */
#define BLK_CONFIG_BYTES VHUB_USER_MAX_CONFIG

/* Place of the one field that a driver may write. */
#define BLK_CONFIG_WCE offsetof(struct virtio_blk_config, wce)

/* Chains that all rings of a disk take in one turn of an lcore, in equal shares. */
#define BLK_TURN_CHAINS (4 * VHUB_VIRTQ_BURST)

/*
 * A ring that was found empty begins with bursts of so many chains, which double while there are as
 * many: with few requests in flight, guest and disk each work on a part of them at the same time
 * instead of in turns; with many, large bursts cost less.
 */
#define BLK_FIRST_BURST 16u

/* What decode.c needs to know about a disk. Immutable, but for the capacity. */
struct blk_limits {
	uint64_t capacity_bytes; /* shared atomic: written by CTL; each check reads it once */
	uint32_t align_mask;	 /* block size that the guest is told - 1 */
	bool read_only;
	uint32_t range_max_bytes[VHUB_BLK_OPS]; /* of DISCARD and the like; 0: not served */
	uint32_t range_piece_bytes;		/* BLK_RANGES_PIECE_BYTES in whole units */
	char id[VIRTIO_BLK_ID_BYTES]; /* padded with zeros, not terminated when it is full */
};

/*
 * Ranges of one DISCARD, WRITE_ZEROES or SECURE_ERASE (max_discard_seg and its like), and how many
 * such requests of a ring are worked on at once; others wait.
 */
#define BLK_RANGES_MAX 64u
#define BLK_RANGES_AT_ONCE 8u
/*
 * Of a disk with a limit on bytes, zeroes and erasures go in pieces, each paid before the next: a
 * range of a GiB would keep all others waiting for minutes.
 */
#define BLK_RANGES_PIECE_BYTES (1u << 20)

/* The same in whole units that can be discarded or erased, which need not be powers of two; 0: any. */
static inline uint32_t
blk_ranges_piece_bytes(uint32_t align_bytes)
{
	const uint32_t rest = align_bytes == 0 ? 0 : BLK_RANGES_PIECE_BYTES % align_bytes;

	return rest == 0 ? BLK_RANGES_PIECE_BYTES : BLK_RANGES_PIECE_BYTES + align_bytes - rest;
}

struct blk_range {
	/* What of it is not under way or done yet; of the next one, so it shrinks when it goes in pieces. */
	uint64_t offset_bytes;
	uint32_t len_bytes; /* not 0 */
	uint32_t flags;	    /* VHUB_BLK_IO_UNMAP */
};

/* The checked copy of what such a request asks for. */
struct blk_ranges {
	struct blk_ranges *next_free;
	uint16_t n;
	uint16_t next; /* to be submitted */
	uint64_t done_bytes;
	struct blk_range range[BLK_RANGES_MAX];
};

/*
 * A request; the ring has one for each of its slots. What most of them need is in three lines: the head of
 * the chain, its first pieces, and what is behind the others of these up to io.next.
 */
struct blk_req {
	struct vhub_chain chain; /* first: virtq's view */
	struct blk_ring *ring;	 /* that it was taken from */
	/* Set by decode. */
	uint8_t *status_hva; /* NULL: there is no place for a status */
	/*
	 * The piece of the chain that it was cut off of, and that is one byte shorter while the request
	 * is under way, plus 1; 0: it holds nothing but the status, or nothing is under way.
	 */
	uint16_t status_piece;
	uint8_t status; /* VIRTIO_BLK_S_*, when it is answered without the driver */
	uint8_t op;	/* enum vhub_blk_op, or VHUB_BLK_OPS: something else; for statistics */
	struct vhub_blk_io io; /* the driver's view */
	uint64_t taken_tsc; /* of a disk that is measured; else that of another request before, or 0 */
	/* Of DISCARD and the like. */
	struct blk_req *next_ranges;
	struct blk_ranges *ranges; /* NULL: not worked on yet */
} __rte_cache_aligned;

static_assert(offsetof(struct blk_req, ring) % RTE_CACHE_LINE_SIZE == 0 &&
				offsetof(struct blk_req, io.driver) ==
						offsetof(struct blk_req, ring) +
								RTE_CACHE_LINE_SIZE,
		"in one line");

/*
 * Counters of one queue of the disk. Written by the lcore that owns the ring now, read by anybody:
 * shared atomics.
 */
struct blk_queue_stats {
	struct vhub_blk_stats s;
} __rte_cache_aligned;

/* What the rings of one disk share on one lcore. LCORE. */
struct blk_lcore {
	struct vhub_blk_queue *queue; /* NULL: no ring is started */
	/*
	 * Rings that are polled, the last one first: its poller runs last, after everything of this
	 * turn was submitted, so that is the one that reaps. The others are parked, and have nothing
	 * in flight.
	 */
	struct blk_ring *polled;
	uint16_t n_polled;
	uint16_t n_started;	  /* parked ones too */
	uint16_t share;		  /* chains that each of the polled ones takes in a turn */
	struct blk_ring *touched; /* rings with something to push */
	/* Rings with something that the driver did not accept yet, served in order. */
	struct blk_ring *line;
	struct blk_ring **line_tail;
	/* I/Os of requests of ranges that the driver has not been given yet, by io->next. */
	struct vhub_blk_io *range_ios;
	struct vhub_blk_io **range_ios_tail;
	bool ranges_turn; /* room in the driver is for those first, and then for the line */
	/* With a limit on bytes: those that are to be paid before they go to the driver; also by io->next. */
	struct vhub_blk_io *held_ios;
	struct vhub_blk_io **held_ios_tail;
	bool held_ios_next; /* rings have taken something since one of these went: now it is their turn */
	/* With limits: the ring that waits for them and is served first; the timer's fd + 1, or 0. */
	struct blk_ring *first_held;
	int timer_fd_1;
	uint64_t completions; /* by this lcore; it writes, anybody reads: shared atomic */
} __rte_cache_aligned;

/* When a write must be durable before it completes (VIRTIO 1.2, 5.2.6.2). */
enum blk_fua {
	BLK_FUA_NEVER,	/* the guest flushes, or there is no cache */
	BLK_FUA_ALWAYS, /* the guest knows no flush */
	BLK_FUA_BY_WCE, /* as the writeback field says */
};

/* A started ring: vring->priv, made by the device handler. */
struct blk_ring {
	/* Immutable. */
	struct vhub_vring *vring;
	struct blk_dev *dev;
	struct blk_queue_stats *stats;
	enum blk_fua fua;

	/* LCORE. */
	struct blk_lcore *lcore; /* where it is started: a ring may go to another one */
	struct blk_ring *next_polled;
	bool suspending; /* what can be given up of it is; it stops then */
	uint16_t burst;	 /* chains of the next turn, at most; from BLK_FIRST_BURST up */
	uint16_t n_done;
	uint16_t wait_first; /* wait[wait_first .. wait_first + n_wait) */
	uint16_t n_wait;     /* not 0: in the line */
	struct blk_ring *next_in_line;
	struct blk_ring *next_touched;
	/*
	 * Answered and not pushed yet. One turn answers at most a burst that it took, a burst of
	 * ranges that it checked, and a burst that it reaped.
	 */
	struct vhub_chain *done[3 * VHUB_VIRTQ_BURST];
	/* Not accepted by the driver yet, in order; nothing new is taken while there are some. */
	struct vhub_blk_io *wait[VHUB_VIRTQ_BURST];
	/* Requests of ranges that nobody works on yet, in order; and room for those. */
	struct blk_req *ranges_line;
	struct blk_req **ranges_tail;
	struct blk_ranges *free_ranges;
	struct blk_ranges ranges[BLK_RANGES_AT_ONCE];
};

struct blk_latency;

/* The limits of a disk. */
struct blk_qos {
	uint32_t on; /* shared atomic: BLK_QOS_* */
	struct vhub_meter iops;
	struct vhub_meter bytes;
	struct vhub_blk_qos set; /* CTL: what they were made from */
};
#define BLK_QOS_IOPS 0x1u
#define BLK_QOS_BYTES 0x2u

/* What the builder has read. */
struct blk_params {
	char name[64];
	char id[VIRTIO_BLK_ID_BYTES];
	uint16_t n_queues;
	uint16_t n_lcores;    /* that these are spread over, at most */
	uint32_t block_bytes; /* 0: the driver's */
	struct vhub_blk_qos qos;
	bool write_through; /* what `writeback` begins as */
};

struct blk_dev {
	struct vhub_device dev; /* first */

	/* Immutable. */
	struct vhub_blk_disk *disk;
	const struct vhub_blk_driver_ops *driver; /* of disk */
	struct vhub_blk_info info;
	struct blk_limits limits;
	uint32_t block_bytes; /* that the guest is told */
	/* CTL writes the capacity in it; `wce` is as it begins, and at most after a reset. */
	uint8_t config[BLK_CONFIG_BYTES];

	/* CTL. */
	uint64_t guest_features;
	bool negotiated; /* those are of the driver that is there, not of one before it */
	bool locked;	 /* the image lock is held */
	struct vhub_log_limit lock_limit;

	/* Shared atomic: the writeback field. Written by CTL, read by lcores. */
	uint8_t wce;
	struct blk_latency *latency; /* the same; NULL: not measured */
	struct blk_qos qos;

	struct blk_lcore lcores[VHUB_MAX_LCORES];
	struct blk_queue_stats stats[]; /* one a queue */
};

static inline struct blk_dev *
blk_dev_of(const struct vhub_device *device)
{
	return vhub_container_of(device, struct blk_dev, dev);
}

/* ---- driver.c ---- */

extern struct vhub_registry blk_drivers;
/* Help on the arguments of a blk device: its own and those of every driver. */
extern char blk_builder_help[];

/* ---- config.c ---- */

/* Fills dev->config, dev->dev.features and the like from dev->info. */
void
blk_config_init(struct blk_dev *dev, const struct blk_params *params);
int
blk_config_read(struct vhub_device *dev, uint32_t offset, void *buf, uint32_t len);
int
blk_config_write(struct vhub_device *dev, uint32_t offset, const void *buf, uint32_t len,
		bool migration);
int
blk_ack_features(struct vhub_device *dev, uint64_t features);
/* `wce` stays 0 where it is 0. */
void
blk_reset(struct vhub_device *dev);
/* The byte that says whether the disk writes through. */
uint8_t
blk_keep(const struct vhub_device *dev);
void
blk_recall(struct vhub_device *dev, uint8_t byte);
int
blk_snapshot(struct vhub_device *dev, void *buf, uint32_t len);
int
blk_restore(struct vhub_device *dev, const void *buf, uint32_t len);
/* How writes of a ring are treated under these negotiated features. */
enum blk_fua
blk_fua_mode(const struct blk_dev *dev, uint64_t features);

/* ---- blk.c ---- */

/* NULL: this is no disk. The other one puts a sentence into `error` then. */
struct blk_dev *
blk_dev_find(const struct vhub_device *device);
struct blk_dev *
blk_dev_find_or_say(const struct vhub_device *device, char *error, size_t error_len);

/*
 * Makes the device of an opened disk, which it owns from then on. Errors as in struct
 * vhub_builder_ops.
 */
int
blk_create(const struct blk_params *params, struct vhub_blk_disk *disk,
		const struct vhub_executor *executor, struct vhub_device **out, char *error,
		size_t error_len);

/* ---- decode.c ---- */

enum blk_verdict {
	BLK_SUBMIT,    /* req->io is for the driver */
	BLK_RANGES,    /* for ranges.c: req->io.iov holds the guest's list of ranges */
	BLK_ANSWERED,  /* req->status is the answer */
	BLK_NO_STATUS, /* the guest left no place for a status: the ring is broken */
};

/*
 * Makes an I/O of the chain in `req`. Trims chain->iov in place; blk_put_status() undoes what
 * concerns writable pieces.
 */
enum blk_verdict
blk_decode(const struct blk_limits *limits, struct blk_req *req);
/*
 * Copies the list of ranges that BLK_RANGES was about, once, and checks the copy. Returns
 * VIRTIO_BLK_S_OK: `ranges` holds those that are not empty; or the status that is the answer.
 */
uint8_t
blk_decode_ranges(const struct blk_limits *limits, const struct blk_req *req,
		struct blk_ranges *ranges);
/*
 * Writes the status to guest memory and restores the writable pieces, which the dirty log is marked
 * by.
 */
static __rte_always_inline void
blk_put_status(struct blk_req *req, uint8_t status)
{
	*req->status_hva = status;
	if (unlikely(req->status_piece != 0)) {
		req->chain.iov[req->status_piece - 1].iov_len++;
		req->status_piece = 0;
	}
}

/* ---- submit.c ---- */

/*
 * Gives the driver the ring's share of a turn, or puts it into the line. Returns how many chains
 * were taken.
 */
unsigned int
blk_submit(struct blk_ring *ring);
/*
 * Gives the driver what waits in the line, and what is due of ranges, once for a turn of the lcore.
 * Returns how many it accepted.
 */
unsigned int
blk_submit_waiting(struct blk_lcore *lcore);

/* VHUB_BLK_IO_FUA when a write of this ring has to be durable now, else 0. */
uint8_t
blk_write_flags(const struct blk_ring *ring);

/* ---- ranges.c ---- */

void
blk_ranges_init(struct blk_ring *ring);
/* Puts a request behind those of its ring that wait; blk_ranges_begin() takes it from there. */
void
blk_ranges_wait(struct blk_req *req);
/* Checks requests that wait, as long as there is room, at most a burst. Returns how many. */
unsigned int
blk_ranges_begin(struct blk_ring *ring);
/* With a limit on bytes: what is held and can be paid is due from then on. */
void
blk_ranges_pay(struct blk_lcore *lcore);
/* Gives the driver the I/Os that are due, at most a burst. Returns how many it accepted. */
unsigned int
blk_ranges_submit(struct blk_lcore *lcore);
/* An I/O of such a request is over: the next one is due, or the request is answered. */
void
blk_ranges_done(struct blk_req *req, int result);
/* Whether the next turn has something to do for this ring. */
bool
blk_ranges_due(const struct blk_ring *ring);
/* Gives up those of a ring that the driver has nothing of. */
void
blk_ranges_leave(struct blk_ring *ring);

/* ---- suspend.c ---- */

/* As queue_suspend of struct vhub_device_ops: now, and by blk_suspend_takes() what comes later. */
void
blk_suspend(struct blk_ring *ring);
/* The request is given up: it stays in the ring's inflight region. */
void
blk_leave(struct blk_req *req);
/* A pick of the ring's I/Os. */
bool
blk_is_of_ring(const struct vhub_blk_io *io, const void *ring);
/*
 * An I/O of a ring that is being suspended has come back from the driver. True when its request is not
 * done, and so was given up.
 */
bool
blk_suspend_takes(struct blk_req *req);

/* ---- qos.c ---- */

/* Returns 0 or -EINVAL with one sentence. */
int
blk_qos_check(const struct vhub_blk_qos *set, char *error, size_t error_len);
void
blk_qos_set(struct blk_qos *qos, const struct vhub_blk_qos *set);
/*
 * How many chains, of `max`, the ring may take now. 0: the ring is held, if there is something in
 * it. *paid of them are paid already, all or none; blk_qos_account() gives back what is then not taken.
 */
uint16_t
blk_qos_allow(struct blk_ring *ring, uint16_t max, uint16_t *paid);
/* `taken` chains were there. */
void
blk_qos_account(struct blk_ring *ring, uint16_t paid, uint16_t taken);
/* What was taken moves so many. */
void
blk_qos_account_bytes(struct blk_ring *ring, uint64_t bytes);
/*
 * Somebody waits for the ring to have nothing in flight. Nobody does for one that is only broken, which
 * a guest can bring about, or disabled without a drain: it drains when it is stopped.
 */
static inline bool
blk_ring_ends(const struct blk_ring *ring)
{
	return vhub_virtq_drains(ring->vring->vq);
}

/* Whether bytes have to be paid. */
bool
blk_qos_counts_bytes(const struct blk_ring *ring);
/* Pays for a range that moves data. False: it has to wait, and nothing is paid. */
bool
blk_qos_pay_range(struct blk_ring *ring, uint64_t bytes);
/*
 * The lcore is about to sleep and the ring is held: a timer wakes it. Returns 0, or -EAGAIN when
 * it should stay awake.
 */
int
blk_qos_arm(struct blk_ring *ring);
/* The ring is not held any more, or stops. */
void
blk_qos_let_go(struct blk_ring *ring);
/* The last ring of the lcore has stopped. */
void
blk_qos_close(struct blk_lcore *lcore);

/* ---- latency.c ---- */

/* Whether there is something for the two that follow to do: asked once a burst. */
static inline bool
blk_latency_is_measured(const struct blk_ring *ring)
{
	return __atomic_load_n(&ring->dev->latency, __ATOMIC_RELAXED) != NULL;
}

/* A burst has just been taken. */
void
blk_latency_taken(struct vhub_chain *const *chains, uint16_t n);
/* The ring's requests that are answered and not pushed yet. */
void
blk_latency_answered(const struct blk_ring *ring);
/* No lcore uses the device any more. */
void
blk_latency_destroy(struct blk_dev *dev);

/* ---- complete.c ---- */

/*
 * The request is over: its status goes to the guest, the chain to the ring with the next
 * blk_push().
 */
void
blk_answer(struct blk_req *req, uint8_t status);
/*
 * Reaps a burst from the driver's queue, once for a turn, and answers it. Returns how many there
 * were.
 */
unsigned int
blk_reap(struct blk_lcore *lcore);
/* Pushes what has been answered, ring by ring, and notifies. */
void
blk_push(struct blk_lcore *lcore);

#endif /* BLK_PVT_H */
