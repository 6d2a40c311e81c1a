/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of `vhub-perf blk` share. The way of a run: blk_options.c, blk_device.c (session,
 * memory, rings, prepared requests), blk_generator.c on the lcores, and blk_run.c, which starts,
 * watches and reports.
 */
#ifndef PERF_BLK_H
#define PERF_BLK_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_blk.h>

#include <rte_common.h>

#include "frontend.h"
#include "pace.h"
#include "report.h"
#include "ring.h"
#include "run.h"

#define BLK_SECTOR_BYTES 512u
/* Requests reaped before the next ones are published. */
#define BLK_BURST 32u
/* In a request's status until the back end has written it. */
#define BLK_NO_STATUS 0xffu

/* As in --rw. */
enum blk_rw {
	BLK_READ,
	BLK_WRITE,
	BLK_RANDREAD,
	BLK_RANDWRITE,
	BLK_RW,
	BLK_RANDRW,
	BLK_FLUSH,
	BLK_DISCARD,
	BLK_ZEROES,
};

/* What `blk` has beyond struct run_options. */
struct blk_options {
	unsigned int rw; /* enum blk_rw */
	uint32_t rwmixread;
	uint64_t bs_bytes;
	uint32_t iodepth;
	uint64_t offset_bytes;
	uint64_t size_bytes; /* 0: to the end */
	bool touch;
	bool inflight;
	bool verify;
	uint64_t suspend_ns;   /* --verify: so often the rings are suspended; 0: never */
	const char *hand_over; /* to the back end there, and back; NULL: they stay */
};

/* A request in guest memory; two share a line, and header and status of one always. */
struct blk_request {
	struct virtio_blk_outhdr header;
	uint8_t status;
	uint8_t padding[15];
};

/* Kinds of failed requests: places in report_figures.errors. */
enum blk_error {
	BLK_ERROR_IO,	       /* VIRTIO_BLK_S_IOERR */
	BLK_ERROR_UNSUPPORTED, /* VIRTIO_BLK_S_UNSUPP */
	BLK_ERROR_STATUS,      /* a status that there is not */
	BLK_ERROR_NO_STATUS,   /* used, and its status not written */
	BLK_ERROR_LENGTH,      /* a read that was used as shorter than asked for */
	BLK_ERROR_MISMATCH,    /* --verify: a block that is not what it has to be */
};

/* Places in report_figures.counts. */
enum blk_count {
	BLK_COUNT_READS,
	BLK_COUNT_WRITES,      /* and all else */
	BLK_COUNT_CHECKED,     /* --verify: blocks that were compared */
	BLK_COUNT_RECONNECTS,  /* --verify */
	BLK_COUNT_SUSPENSIONS, /* --suspend: of the device */
	BLK_COUNT_LEFT,	       /* --suspend: requests that were in flight then */
	BLK_COUNT_SUSPEND_US,  /* --suspend: that the answers took, all together */
};

struct blk_queue {
	/* Immutable while it runs. */
	struct ring *ring;
	struct blk_request *requests; /* by slot */
	uint8_t *data;		      /* by slot, data_bytes each; NULL: none */
	uint64_t data_bytes;
	uint64_t first_sector;
	uint64_t n_blocks;
	uint32_t block_sectors;
	uint32_t depth;
	bool random;
	bool has_sector; /* false: flush */
	bool segment;	 /* data is a struct virtio_blk_discard_write_zeroes */
	bool mixed;
	bool writes;
	bool touch;
	bool rotate;	     /* slots are used in turn: a split ring in order */
	uint32_t mix_read;   /* of 2^32 that are reads */
	uint32_t least_used; /* bytes that a used read has at least */
	uint16_t data_pieces;
	uint32_t piece_bytes;
	bool paced;
	uint32_t place; /* among all queues of the run, which are `places` */
	uint32_t places;
	uint64_t bytes_each; /* that a request counts for */
	const struct blk_device *device;
	struct blk_verify *verify; /* blk_verify.h; NULL: no --verify */
	struct report_queue *report;
	struct report_figures *figures; /* the report's */

	/* LCORE. */
	uint64_t random_state;
	uint64_t mix_state;
	uint64_t next_block; /* sequential */
	uint16_t next_slot;  /* rotate */
	uint32_t in_flight;
	uint32_t n_free;
	uint16_t *free;	  /* slots, when they are not sent again at once */
	uint64_t *sent;	  /* by slot: when it was sent, or due */
	uint8_t *is_read; /* by slot, mixed */
	struct pace pace;
} __rte_cache_aligned;

struct blk_device {
	char *path;
	struct frontend *fe;
	struct perf_memory mem;
	uint64_t capacity_bytes;
	struct ring **rings;
	struct blk_queue *queues;
	uint16_t n_queues;
};

/* What run.arg points to. */
struct blk_run {
	const struct blk_options *options;
	struct blk_device *devices;
	struct frontend **frontends; /* of the devices */
	unsigned int n_devices;
	/* By lcore: the queues that it runs. */
	struct blk_queue **queues[RTE_MAX_LCORE];
	unsigned int n_queues[RTE_MAX_LCORE];
};

/* blk_options.c: 0, 1 (help was asked for) or -EINVAL; told. */
int
blk_options_read(struct blk_options *o, int argc, char **argv);
bool
blk_rw_writes(unsigned int rw);
const char *
blk_rw_name(unsigned int rw);

/* blk_device.c: a session with running rings and prepared requests; 0 or -errno, told. */
int
blk_device_open(struct blk_device *d, const struct blk_options *o, const char *path);
/* Hangs up; a zeroed one is fine. */
void
blk_device_close(struct blk_device *d);
/* The slot's chain from now on: for a read, or not. Thread: main, or the queue's lcore. */
void
blk_prepare(struct blk_queue *q, uint16_t slot, bool read);

/* blk_generator.c: the lcore of run.h. */
int
blk_generate(struct run *run, unsigned int lcore);

/* ---- between the generators; Thread: the queue's LCORE ---- */

/* 0 .. n - 1, by a multiply-shift of a linear congruential number. */
static __rte_always_inline uint64_t
blk_random(struct blk_queue *q, uint64_t n)
{
	q->random_state = q->random_state * UINT64_C(6364136223846793005) +
			UINT64_C(1442695040888963407);
	return (uint64_t)((unsigned __int128)q->random_state * n >> 64);
}

/* Reads and writes in the proportion of --rwmixread, or of the one kind that is asked for. */
static __rte_always_inline bool
blk_next_is_read(struct blk_queue *q)
{
	if (!q->mixed)
		return !q->writes;
	q->mix_state = q->mix_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return q->mix_state >> 32 < q->mix_read;
}

/* A split ring in order wants its slots in turn, whichever came back. */
static __rte_always_inline uint16_t
blk_slot_to_send(struct blk_queue *q, uint16_t slot)
{
	if (!q->rotate)
		return slot;
	slot = q->next_slot++;
	if (q->next_slot == q->ring->n_slots)
		q->next_slot = 0;
	return slot;
}

/* The slot is a read from now on, or a write; cheap when it is already. */
void
blk_turn_slot(struct blk_queue *q, uint16_t slot, bool read);

/* Counts a request that came back with this status, and was used with too few bytes if it is OK. */
void
blk_count_error(struct blk_queue *q, uint8_t status);

/* --rate begins. */
void
blk_start_pace(struct blk_queue *q, uint64_t now);

/* run_fault() for the first of the queues whose ring has a fault. */
int
blk_say_fault(struct run *run, struct blk_queue *const *queues, unsigned int n);

#endif /* PERF_BLK_H */
