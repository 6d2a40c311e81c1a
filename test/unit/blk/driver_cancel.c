/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The part of the suite that is about I/Os that are wanted back (`cancel`): each comes back once, done
 * or not, those of others are done, and nothing is stored of an I/O that has come back. Called by
 * driver_suite.c.
 */
#include "driver_suite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rte_common.h>

#define LANES 40u
#define LANE_BYTES (16u << 10)
#define LATE_FILL 0xee

struct lane {
	struct driver_io io; /* first */
	uint8_t data[LANE_BYTES];
	bool wanted;
};

static bool
is_wanted(const struct vhub_blk_io *io, const void *arg)
{
	const struct lane *lane = vhub_container_of(io, struct lane, io.io);

	assert_ptr_equal(arg, is_wanted);
	return lane->wanted;
}

/* READ and WRITE, the latter at times durable, and flushes among them. */
static void
lane_init(struct lane *lane, unsigned int i)
{
	static const uint32_t none[] = { 0 };
	const uint32_t len = 512 * (1 + (uint32_t)driver_random(LANE_BYTES / 512));
	const uint32_t lengths[] = { len, 0 };
	const uint64_t kind = driver_random(8);

	lane->wanted = driver_random(2) == 0;
	memset(lane->data, 1 + (int)driver_random(100), sizeof(lane->data));
	driver_io_init(&lane->io,
			kind == 0		 ? VHUB_BLK_FLUSH :
					kind < 3 ? VHUB_BLK_READ :
						   VHUB_BLK_WRITE,
			kind == 0 ? 0 : i * LANE_BYTES, kind == 0 ? none : lengths,
			driver_random(3) == 0 ? 8 : 0);
	lane->io.io.flags = kind == 3 ? VHUB_BLK_IO_FUA : 0;
	if (kind >= 3)
		driver_io_fill(&lane->io, lane->data);
}

/*
 * It has come back, so it is ours: what lies in its buffers from now on must neither get to the disk
 * nor change.
 */
static void
lane_back(struct lane *lane)
{
	const int result = lane->io.io.result;

	assert_int_equal(lane->io.completions++, 0);
	if (result != 0) {
		assert_true(lane->wanted);
		assert_int_equal(result, -ECANCELED);
	}
	for (unsigned int i = 0; i < lane->io.io.n_iov; i++)
		memset(lane->io.iov[i].iov_base, LATE_FILL, lane->io.iov[i].iov_len);
}

static unsigned int
reap_lanes(struct driver_disk *d, uint16_t max)
{
	struct vhub_blk_io *done[LANES];
	const uint16_t n = d->ops->reap(d->queue, done, max);

	for (uint16_t i = 0; i < n; i++)
		lane_back(vhub_container_of(done[i], struct lane, io.io));
	return n;
}

/* Returns how many were not done. Those are submitted again, and done then. */
static unsigned int
check_lane(struct driver_disk *d, struct lane *lane, bool keeps_data)
{
	struct vhub_blk_io *io = &lane->io.io;
	const bool undone = io->result != 0;
	uint8_t data[LANE_BYTES];

	for (unsigned int i = 0; i < io->n_iov; i++) {
		memset(data, LATE_FILL, lane->io.iov[i].iov_len);
		assert_memory_equal(lane->io.iov[i].iov_base, data, lane->io.iov[i].iov_len);
	}
	driver_io_check_gaps(&lane->io);
	if (io->op == VHUB_BLK_WRITE) {
		if (undone)
			assert_int_equal(driver_rw(d, VHUB_BLK_WRITE, io->offset_bytes, lane->data,
							 io->len_bytes, 0),
					0);
		assert_int_equal(driver_rw(d, VHUB_BLK_READ, io->offset_bytes, data, io->len_bytes,
						 0),
				0);
		if (keeps_data)
			assert_memory_equal(data, lane->data, io->len_bytes);
	}
	return undone;
}

/* Returns how many were not done. */
static unsigned int
cancel_round(struct driver_disk *d, struct lane *lanes, bool keeps_data)
{
	struct vhub_blk_io *burst[LANES];
	unsigned int reaped = 0, undone = 0;
	uint16_t accepted;

	for (unsigned int i = 0; i < LANES; i++) {
		lane_init(&lanes[i], i);
		burst[i] = &lanes[i].io.io;
	}
	accepted = d->ops->submit(d->queue, burst, LANES);
	assert_true(accepted >= 1 && accepted <= LANES);
	if (driver_random(2) == 0)
		reaped += reap_lanes(d, 1 + (uint16_t)driver_random(8));
	d->ops->cancel(d->queue, is_wanted, is_wanted);
	/* Somebody may be in haste. */
	if (driver_random(4) == 0)
		d->ops->cancel(d->queue, is_wanted, is_wanted);
	while (reaped < accepted)
		reaped += reap_lanes(d, 1 + (uint16_t)driver_random(LANES));
	assert_int_equal(reap_lanes(d, LANES), 0);
	for (unsigned int i = 0; i < LANES; i++) {
		assert_int_equal(lanes[i].io.completions, i < accepted);
		if (i < accepted)
			undone += check_lane(d, &lanes[i], keeps_data);
		driver_io_free(&lanes[i].io);
	}
	return undone;
}

void
driver_cancel_test(struct driver_disk *d, bool keeps_data)
{
	struct lane *lanes = calloc(LANES, sizeof(*lanes));
	unsigned int undone = 0;

	assert_non_null(lanes);
	assert_non_null(d->ops->cancel);
	/* Of a queue that has nothing. */
	d->ops->cancel(d->queue, is_wanted, is_wanted);
	for (unsigned int i = 0; i < 24; i++)
		undone += cancel_round(d, lanes, keeps_data);
	print_message("%u I/Os were given back undone\n", undone);
	free(lanes);
}
