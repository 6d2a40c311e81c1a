/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What every block driver must do (blk/vhub_blk.h), as one suite of tests. A driver's test program
 * describes its driver in a struct driver_suite and calls driver_suite_run(); what only that driver
 * does, it tests itself, with the helpers below.
 */
#ifndef DRIVER_SUITE_H
#define DRIVER_SUITE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vhub_blk.h"

/* A driver under test. */
struct driver_suite {
	const char *name; /* of the group of tests */
	const char *driver;
	const char *args;	 /* "size=4M" */
	uint64_t capacity_bytes; /* what info is to say; at most 64 MiB, all of it is read */
	bool keeps_data;
	bool grows;	 /* resize takes a size; else the disk has that of its storage */
	uint32_t ranges; /* what info is to offer: 1 << VHUB_BLK_DISCARD ... */
	bool wakes;	 /* `arm` lets an lcore sleep with I/O in flight; else it is kept awake */
};

/* Runs the suite as a cmocka group. Needs EAL. Returns the number of failed tests. */
int
driver_suite_run(const struct driver_suite *suite);

/* ---- for a driver's own tests ---- */

/* An opened disk and one queue of it, got on this thread. */
struct driver_disk {
	struct vhub_blk_disk *disk;
	const struct vhub_blk_driver_ops *ops;
	struct vhub_blk_info info;
	struct vhub_blk_queue *queue;
};

/* parse, and the outcome; `error` (may be NULL) gets the sentence. */
int
driver_parse(const char *driver, const char *args, bool read_only, struct vhub_blk_disk **out,
		char *error);
#define DRIVER_ERROR_LEN 512

/* A disk that neither parse nor open lets be: the error, and a word of the sentence. */
void
driver_expect_refused(const char *driver, const char *args, bool read_only, int expected,
		const char *word);

/* parse, open, info, queue_get; a failure fails the test. And the way back. */
void
driver_open(struct driver_disk *d, const char *driver, const char *args, bool read_only);
void
driver_close(struct driver_disk *d);

/* A test's I/O: counts how often it came back. */
struct driver_io {
	struct vhub_blk_io io; /* first */
	struct iovec iov[32];
	uint8_t *area;	   /* that holds all of iov, with gaps between the pieces */
	size_t area_bytes; /* of it */
	unsigned int completions;
};

/*
 * Makes an I/O whose buffers have these lengths (ended by 0), each at `misalign` bytes behind a
 * multiple of 512, with gaps that driver_io_check_gaps() checks.
 */
void
driver_io_init(struct driver_io *io, enum vhub_blk_op op, uint64_t offset, const uint32_t *lengths,
		size_t misalign);
void
driver_io_free(struct driver_io *io);
/* The data in a row, to and from the buffers. */
void
driver_io_fill(struct driver_io *io, const uint8_t *data);
void
driver_io_take(const struct driver_io *io, uint8_t *data);
/* Nothing outside of the buffers was touched. */
void
driver_io_check_gaps(const struct driver_io *io);

/*
 * Submits all of them, however few the driver accepts at once, and reaps until each has come back
 * once.
 */
void
driver_run(struct driver_disk *d, struct driver_io *ios, unsigned int n);
/* One I/O with one aligned buffer, start to end; its result. */
int
driver_rw(struct driver_disk *d, enum vhub_blk_op op, uint64_t offset, void *data, uint32_t len,
		uint8_t flags);

/* One I/O on a range, start to end; its result. */
int
driver_range(struct driver_disk *d, enum vhub_blk_op op, uint64_t offset, uint32_t len,
		uint8_t flags);

#define DRIVER_ALL_RANGES (7u << VHUB_BLK_DISCARD)

/* driver_cancel.c: what is wanted back of an open disk comes back. */
void
driver_cancel_test(struct driver_disk *d, bool keeps_data);

/* The same numbers on every machine. */
uint64_t
driver_random(uint64_t below);

#endif /* DRIVER_SUITE_H */
