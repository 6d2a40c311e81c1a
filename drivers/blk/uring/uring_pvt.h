/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of the uring driver: files and block devices through io_uring(7).
 *
 *     uring.c (arguments, ops) -> open.c (path to fd) -> lock.c (who has the image)
 *             -> queue.c (an io_uring for each lcore; rings.c: how) -> io.c (submit, reap)
 *                                                        inline.c (targets that are memory)
 *                                                        bounce.c (what O_DIRECT refuses)
 *                                                        range.c (discard, zeroes)
 *                                                        erase.c (ioctls that block)
 *                                                        cancel.c (what is wanted back)
 *                                                        lost.c (what was not written back)
 *                                                        pins.c (guest memory, registered)
 */
#ifndef URING_PVT_H
#define URING_PVT_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include <liburing.h>
#include <rte_branch_prediction.h>

#include "vhub_blk.h"
#include "vhub_blk_thread.h"
#include "vhub_log.h"

/*
 * I/Os in flight in one queue, so entries of its submission ring; the completion ring has twice as
 * many.
 */
#define URING_DEPTH 256
/*
 * Bounce buffers of one queue, and bytes of each: a longer I/O takes several steps through its one.
 */
#define URING_BOUNCES 16
#define URING_BOUNCE_BYTES (256u << 10)
/* Most bytes of one step: what the kernel may copy at once, on this lcore. */
#define URING_STEP_BYTES (1u << 20)
/*
 * Bytes of the steps under way in one queue, above which no step begins. The kernel does what it
 * can at once, inside of our system call: it copies all that the page cache holds, so a turn costs
 * the lcore up to two windows of copying (one submitted, one begun by the reap). O_DIRECT pins
 * pages instead, which is far cheaper, and needs more under way to keep remote storage busy.
 */
#define URING_WINDOW_BYTES (4u << 20)
#define URING_WINDOW_DIRECT_BYTES (16u << 20)
/* Steps in a row, of one I/O, that may end short, interrupted, or with "try again" before it fails. */
#define URING_MAX_TRIES 64

/* The image, among the fixed files of each ring. */
#define URING_FIXED_FILE 0

/* Zeroes of one step, where the kernel cannot make them itself. */
#define URING_ZEROES_BYTES (256u << 10)

/* Ways of WRITE_ZEROES, best first; a file system or device that has not one is asked the next. */
enum uring_zero_way {
	URING_ZERO_PUNCH, /* gives the space back: only when that was asked for */
	URING_ZERO_RANGE,
	URING_ZERO_WRITE,
};

struct uring_eraser;
struct uring_pins;

/* Consecutive slices of guest memory. */
struct uring_pin_range {
	uintptr_t hva;
	uint64_t bytes;
	uint32_t first_slice;
	const struct vhub_mem_map *map; /* while slices are registered */
};

enum uring_direct {
	URING_DIRECT_AUTO, /* O_DIRECT where it can be had with blocks of 512 bytes */
	URING_DIRECT_ON,
	URING_DIRECT_OFF,
};

enum uring_inline {
	URING_INLINE_AUTO, /* where nothing waits */
	URING_INLINE_ON,
	URING_INLINE_OFF,
};

/* What the lcore does itself, of an open image: inline.c. */
enum inline_kind {
	INLINE_NONE,
	INLINE_ALL,
	INLINE_CACHED,
};

struct uring_disk {
	struct vhub_blk_disk disk; /* first */
	/* From parse on. */
	char *path;
	enum uring_direct want_direct;
	enum uring_inline want_inline;
	bool read_only;
	bool iopoll;		 /* completions of reads and writes are looked for in the device */
	bool sqpoll;		 /* a thread of the kernel's submits */
	int sqpoll_cpu;		 /* -1: any */
	uint32_t sqpoll_idle_ms; /* without I/O, until it sleeps */
	bool pin;		 /* from open on: and that can be */
	/* From open on. */
	int fd;	      /* -1 before */
	dev_t device; /* with `inode`, which file or, where that is 0, which block device it is */
	ino_t inode;
	bool direct;
	uint32_t mem_align_bytes; /* O_DIRECT: of addresses; lengths are multiples of a block */
	bool block_device;
	bool in_memory; /* a file on a file system in memory: nothing of it is ever durable */
	enum inline_kind inline_kind;
	struct uring_eraser *eraser; /* a block device that can discard or erase; else NULL */
	struct vhub_blk_info info;

	/* With lock.c's mutex. */
	bool holds;
	LIST_ENTRY(uring_disk) holder;

	/* CTL: of the guest that is there; NULL, or still being made. */
	struct uring_pins *pins_wanted;
	struct vhub_log_limit pin_limit;
	int connection_fd; /* of the guest's front end, its session's; -1: no queue is got */
	/* WORK, with no queue got. */
	int claim_fd; /* the block device, opened to have it alone; -1: it is not */
	/* Shared atomic: written by CTL, in this order. */
	struct uring_pins *pins;
	uint32_t pins_seq; /* grows with each change */
	/* Shared atomic: by whoever finds it first (lost.c). */
	int lost; /* an errno: what the page cache held is perhaps not in the image; 0 */
};

/*
 * An I/O in flight. What an io_uring operation has not done is asked for again, from where it
 * ended: a step.
 */
struct uring_slot {
	struct vhub_blk_io *io;	 /* NULL: the slot is free */
	struct uring_slot *next; /* free, or ready */
	uint8_t *bounce;	 /* NULL: straight from and to the guest's memory */
	uint32_t done_bytes;
	uint32_t step_bytes; /* of the step under way */
	uint16_t iov_index;  /* where done_bytes lies in io->iov */
	uint16_t tries;
	bool may_block;	 /* the kernel said "try again": the next step has a thread of its own */
	bool not_cached; /* the page cache did not hold it: INLINE_CACHED is not tried again */
	/* Of operations on ranges. */
	bool by_eraser; /* and not by the io_uring */
	bool syncing;	/* the step makes durable what was done */
	uint8_t zero_way;
	/* Wanted back: no step follows. Shared atomic: written by the lcore, read by the eraser. */
	bool cancelled;
	size_t iov_done_bytes; /* of that piece */
};

/* Slots by their `next`; zeroed and with uring_list_init() it is empty. */
struct uring_list {
	struct uring_slot *first;
	struct uring_slot **tail;
};

/* One for each lcore that uses the disk. LCORE. */
struct uring_queue {
	struct vhub_blk_queue queue; /* first */
	struct uring_disk *disk;
	struct io_uring ring;
	struct io_uring side; /* with iopoll: for what cannot be polled for */
	bool has_side;
	bool watched; /* the ring's fd wakes this lcore */
	uint16_t n_in_flight;
	struct uring_slot *free_slots;
	/* Slots whose next step has not begun, in order; some only while the window is full. */
	struct uring_list ready;
	struct uring_list inline_ready; /* the same of those that the next reap does itself */
	struct uring_list cancelled;	/* the next reap gives them out */
	uint32_t miss_pause;  /* INLINE_CACHED: so many are not looked for in the page cache */
	uint16_t n_under_way; /* steps that the kernel has, and cancellations */
	bool kernel_works;    /* and the lcore knows that */
	uint32_t window_bytes;
	uint32_t under_way_bytes; /* of it */
	uint8_t *bounce_area;	  /* URING_BOUNCES buffers; pages come with their first use */
	/* Registered guest memory (pins.c). */
	uint32_t pins_seq;	   /* of the disk's, when it was looked at */
	struct uring_pins *pins;   /* NULL: plain iovecs */
	struct uring_pins *shared; /* what the ring has; the same, but for a change under way */
	const struct uring_pin_range *pin_last; /* that a buffer was found in */
	uint16_t n_free_bounces;
	uint8_t *free_bounces[URING_BOUNCES];
	/* Ways of WRITE_ZEROES, by bit, that this image is known not to have. */
	uint8_t no_zero_way;

	struct vhub_blk_away erasing; /* with an eraser */

	struct uring_slot slots[URING_DEPTH];
};

static inline struct uring_disk *
uring_disk_of(const struct vhub_blk_disk *disk)
{
	return vhub_container_of(disk, struct uring_disk, disk);
}

static inline struct uring_queue *
uring_queue_of(struct vhub_blk_queue *queue)
{
	return vhub_container_of(queue, struct uring_queue, queue);
}

/* Where the slot's steps go. With iopoll, only reads and writes of the guest's can be polled for. */
static inline struct io_uring *
uring_ring_of(struct uring_queue *q, const struct uring_slot *slot)
{
	return likely(!q->has_side) || slot->io->op <= VHUB_BLK_WRITE ? &q->ring : &q->side;
}

static inline void
uring_list_init(struct uring_list *list)
{
	list->first = NULL;
	list->tail = &list->first;
}

static inline void
uring_list_add(struct uring_list *list, struct uring_slot *slot)
{
	slot->next = NULL;
	*list->tail = slot;
	list->tail = &slot->next;
}

/* The first one; there is one. */
static inline struct uring_slot *
uring_list_pop(struct uring_list *list)
{
	struct uring_slot *slot = list->first;

	list->first = slot->next;
	if (list->first == NULL)
		list->tail = &list->first;
	return slot;
}

/* ---- open.c ---- */

/* Opens d->path and learns what it is; fills `fd`, `direct`, `info`. Blocks. */
int
uring_open_image(struct uring_disk *d, char *error, size_t error_len);

/*
 * /sys/dev/block/8:1/queue/NAME, or of the whole device when 8:1 is a partition; 0: not told.
 * Blocks.
 */
uint32_t
uring_device_attribute(dev_t device, const char *name);

/* The image may have another size now: takes it over. Blocks. Errors as in the driver's ops. */
int
uring_look_again(struct uring_disk *d, char *error, size_t error_len);

/* ---- lock.c ---- */

/* As in the driver's ops. */
int
uring_lock(struct vhub_blk_disk *disk, bool locked, char *error, size_t error_len);
/* Before the image is closed. */
void
uring_lock_forget(struct uring_disk *d);

/* ---- rings.c ---- */

/*
 * Tells whether this process may use io_uring at all, and as it is asked to with this image, which
 * is open. Blocks.
 */
int
uring_probe(struct uring_disk *d, char *error, size_t error_len);
/* A ring of the disk's kind, for reads and writes, and one for anything. Returns 0 or -errno. */
int
uring_create_ring(const struct uring_disk *d, struct io_uring *ring, unsigned int depth);
int
uring_create_plain(struct io_uring *ring, unsigned int depth);

/* ---- queue.c ---- */

int
uring_queue_get(struct vhub_blk_disk *disk, struct vhub_blk_queue **out);
void
uring_queue_put(struct vhub_blk_queue *queue);
int
uring_arm(struct vhub_blk_queue *queue);

/* ---- io.c ---- */

uint16_t
uring_submit(struct vhub_blk_queue *queue, struct vhub_blk_io *const *ios, uint16_t n);
uint16_t
uring_reap(struct vhub_blk_queue *queue, struct vhub_blk_io **ios, uint16_t max);

/* What the next step of a transfer moves: pieces of the guest's memory. */
struct uring_span {
	const struct iovec *iov; /* in the I/O's, or `one` */
	uint16_t n;
	struct iovec one;
};
/* Fills `span` and the slot's step_bytes. */
void
uring_next_span(struct uring_slot *slot, struct uring_span *span);
/*
 * A step has ended with `res`, bytes or -errno. Returns 1 with *io, which is over, or 0: its next
 * step is ready.
 */
uint16_t
uring_end(struct uring_queue *q, struct uring_slot *slot, int res, struct vhub_blk_io **io);

/* ---- cancel.c ---- */

void
uring_cancel(struct vhub_blk_queue *queue, vhub_blk_pick_fn wanted, const void *arg);
/* What the result of a slot's I/O is, when it was wanted back: it is done, or it is not. */
static inline int
cancel_result(const struct uring_slot *slot, int result)
{
	return unlikely(slot->cancelled) && result != 0 ? -ECANCELED : result;
}

/* ---- lost.c ---- */

/* What a step that has ended says, by an error, of what was written before it. */
enum lost_kind {
	LOST_NEVER,    /* nothing */
	LOST_BY_SYNC,  /* that it is not in the image: fdatasync(2) */
	LOST_BY_WRITE, /* the same, or that it has not been done itself: a write with RWF_DSYNC */
};
enum lost_kind
lost_kind_of(const struct uring_slot *slot);
/* Whether that is what `res` says, bytes or -errno. */
bool
lost_tells(const struct uring_disk *d, enum lost_kind kind, int res);
/* Thread: LCORE, or the eraser's. Remembers it if so, and logs that once. */
void
lost_look(struct uring_disk *d, enum lost_kind kind, int res);
/*
 * What the result of an I/O is: nothing is durable any more once something was lost. That is so for
 * what is wanted back, too: elsewhere, with the image opened anew, a flush that has found the loss
 * would end well.
 */
static inline int
lost_result(const struct uring_disk *d, const struct vhub_blk_io *io, int result)
{
	const int lost = __atomic_load_n(&d->lost, __ATOMIC_RELAXED);

	if (likely(lost == 0) || (result != 0 && result != -ECANCELED))
		return result;
	return io->op == VHUB_BLK_FLUSH ||
					(io->op != VHUB_BLK_READ &&
							(io->flags & VHUB_BLK_IO_FUA) != 0) ?
			-lost :
			result;
}

/* ---- inline.c ---- */

/* What the lcore does itself of this image, which is open. May block. */
void
inline_learn(struct uring_disk *d);
/* Whether the slot's next step is one of those. */
bool
inline_is(const struct uring_queue *q, const struct uring_slot *slot);
/* Does what is ready, as much as a turn may take. Returns how many I/Os are over: ios[0 .. n). */
uint16_t
inline_run(struct uring_queue *q, struct vhub_blk_io **ios, uint16_t max);

/* ---- range.c ---- */

/* What is to be done on a range of the image, of the kinds that info offers. */
static inline bool
range_is(const struct vhub_blk_io *io)
{
	return io->op >= VHUB_BLK_DISCARD;
}
/* Fills in what info tells of ranges, from open on. Blocks. Returns 0 or -errno. */
int
range_learn(struct uring_disk *d, uint32_t file_block_bytes);
/* Prepares a fresh slot. */
void
range_init(const struct uring_queue *q, struct uring_slot *slot);
/* Fills `sqe` with the slot's next step, and step_bytes. */
void
range_prepare(struct uring_queue *q, struct uring_slot *slot, struct io_uring_sqe *sqe);
/* A step has ended with `res`. Returns -EINPROGRESS when another one is needed, or the result. */
int
range_end(struct uring_queue *q, struct uring_slot *slot, int res);

/* ---- erase.c ---- */

/* Starts and ends the thread of a disk; NULL is fine. Blocks. Returns 0 or -errno. */
int
eraser_start(struct uring_disk *d);
void
eraser_stop(struct uring_eraser *eraser);
/* LCORE: hands a slot's I/O over; q->erasing gives it back, with its result. */
void
eraser_submit(struct uring_queue *q, struct uring_slot *slot);
/* The field of such an I/O that has its slot. */
#define ERASER_IO_SLOT 1
static inline struct uring_slot *
eraser_slot_of(const struct vhub_blk_io *io)
{
	return (struct uring_slot *)(uintptr_t)io->driver[ERASER_IO_SLOT];
}

/* ---- pins.c ---- */

/* Looks, with pin=on, whether guest memory can be registered here; logs, and lets it be, when not. */
void
pins_learn(struct uring_disk *d);
/* As in the driver's ops. */
void
uring_memory(struct vhub_blk_disk *disk, struct vhub_mem_table *mem);
/* LCORE: the queue goes, and its ring has gone. */
void
pins_leave(struct uring_queue *q);
/* Slow half of pins_look(). */
void
pins_follow(struct uring_queue *q, uint32_t seq);
/* LCORE, in each turn, before anything is looked for: has the queue know what is registered. */
static inline void
pins_look(struct uring_queue *q)
{
	/* Pairs with publish(). */
	uint32_t seq = __atomic_load_n(&q->disk->pins_seq, __ATOMIC_ACQUIRE);

	if (unlikely(seq != q->pins_seq))
		pins_follow(q, seq);
}
/*
 * LCORE: the slice that holds all of these bytes, and the address that they were registered by; or -1. Only
 * while q->pins is not NULL.
 */
int
pins_find(struct uring_queue *q, const void *buf, uint32_t len, void **registered);

/* ---- bounce.c ---- */

/* True when O_DIRECT would refuse the buffers of `io`. */
bool
bounce_needed(const struct uring_disk *d, const struct vhub_blk_io *io);
/* A buffer, NULL when all are in use; and back. */
uint8_t *
bounce_get(struct uring_queue *q);
void
bounce_put(struct uring_queue *q, uint8_t *bounce);
/* Moves n bytes between the buffer and the I/O's iovec at the slot's place, which does not move. */
void
bounce_gather(const struct uring_slot *slot, size_t n);
void
bounce_scatter(const struct uring_slot *slot, size_t n);

#endif /* URING_PVT_H */
