/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * I/O of the malloc driver: copying and zeroing by the lcore itself. Called by lib/blk through the
 * ops table in malloc.c; save.c comes next, for a disk with a file.
 *
 * One guest's large requests would keep the lcore from all others: a reap, of which there is one in a
 * turn, does at most TURN_BYTES; what is left goes on with the next.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_branch_prediction.h>
#include <rte_common.h>
#include <rte_cycles.h>

#include "malloc_pvt.h"
#include "vhub_fetch.h"
#include "vhub_lcore.h"

/* Around 100 us at the speed of memory. */
#define TURN_BYTES (1u << 20)
/* Fetched while an I/O is copied: the beginning of each of the next ones, so many at most, together about so long. */
#define AHEAD_MAX 16u
#define AHEAD_BYTES 8192u
/*
 * How much a beginning is. The processor finds by itself that a copy goes on, but some find it later where more is
 * fetched: with the longer one reads of 4 KiB are 1.5 times as fast on AMD's Zen 4, and 0.8 times on its Zen 5. So the
 * queue chooses, by bursts that begin with so many I/Os for which it makes a difference.
 */
#define AHEAD_LONG_BYTES 4096u
#define AHEAD_SHORT_BYTES 1024u
#define MEASURED_IOS 4u
/*
 * Guests' buffers that are no longer are fetched, too, when so many others come before them: with those of all that is
 * fetched ahead what is to be read would wait behind them.
 */
#define SMALL_BYTES 1024u
#define SMALL_AHEAD 6u

/* By malloc_queue.ahead.current. */
static const uint32_t ahead_bytes[] = { AHEAD_LONG_BYTES, AHEAD_SHORT_BYTES };

int
malloc_queue_get(struct vhub_blk_disk *disk, struct vhub_blk_queue **out)
{
	const struct malloc_disk *d = malloc_disk_of(disk);
	struct malloc_queue *q = calloc(1, sizeof(*q));

	if (q == NULL)
		return -ENOMEM;
	q->queue.disk = disk;
	q->data = d->data;
	q->save = d->save;
	q->saving.lcore = vhub_lcore_self();
	q->tail = &q->head;
	*out = &q->queue;
	return 0;
}

void
malloc_queue_put(struct vhub_blk_queue *queue)
{
	struct malloc_queue *q = malloc_queue_of(queue);

	vhub_blk_away_leave(&q->saving);
	free(q);
}

/* Copies up to `budget` bytes of q->next. Returns how many. */
static uint32_t
copy_some(struct malloc_queue *q, uint32_t budget)
{
	const struct vhub_blk_io *io = q->next;
	uint32_t copied = 0;

	while (q->done_bytes < io->len_bytes && copied < budget) {
		const struct iovec *iov = &io->iov[q->iov_index];
		size_t n = RTE_MIN(iov->iov_len - q->iov_done_bytes, (size_t)(budget - copied));
		uint8_t *guest = (uint8_t *)iov->iov_base + q->iov_done_bytes;
		uint8_t *disk = q->data + io->offset_bytes + q->done_bytes;

		if (io->op == VHUB_BLK_READ)
			memcpy(guest, disk, n);
		else
			memcpy(disk, guest, n);
		copied += (uint32_t)n;
		q->done_bytes += (uint32_t)n;
		q->iov_done_bytes += n;
		if (q->iov_done_bytes == iov->iov_len) {
			q->iov_index++;
			q->iov_done_bytes = 0;
		}
	}
	return copied;
}

/* The pages stay the disk's, so whatever a guest wants erased is overwritten. */
static uint32_t
zero_some(struct malloc_queue *q, uint32_t budget)
{
	const struct vhub_blk_io *io = q->next;
	uint32_t n = RTE_MIN(io->len_bytes - q->done_bytes, budget);

	memset(q->data + io->offset_bytes + q->done_bytes, 0, n);
	q->done_bytes += n;
	return n;
}

/* The whole of q->next, which has not begun. */
static void
copy_all(const struct malloc_queue *q)
{
	const struct vhub_blk_io *io = q->next;
	uint8_t *disk = q->data + io->offset_bytes;

	for (uint16_t i = 0; i < io->n_iov; i++) {
		const struct iovec *iov = &io->iov[i];

		if (io->op == VHUB_BLK_READ)
			memcpy(iov->iov_base, disk, iov->iov_len);
		else
			memcpy(disk, iov->iov_base, iov->iov_len);
		disk += iov->iov_len;
	}
}

/*
 * Fetches the beginning of what an I/O reads, and of the disk what it writes, while the ones before it are copied. The
 * processor sees by itself that a copy goes on, but not where the next one begins.
 */
static void
fetch(const struct malloc_queue *q, const struct vhub_blk_io *io)
{
	const uint8_t *disk = q->data + io->offset_bytes;
	const uint32_t each_bytes = ahead_bytes[q->ahead.current];

	if (io->op > VHUB_BLK_WRITE)
		return;
	vhub_fetch_early(disk, RTE_MIN(io->len_bytes, each_bytes));
	if (io->op == VHUB_BLK_WRITE)
		vhub_fetch_early(io->iov[0].iov_base, RTE_MIN(io->iov[0].iov_len, each_bytes));
}

/*
 * A guest's buffer that is written, only where it is small: a long copy into one does not wait for what was in
 * it.
 */
static void
fetch_small(const struct vhub_blk_io *io)
{
	if (io->op == VHUB_BLK_READ && io->len_bytes <= SMALL_BYTES)
		vhub_fetch_to_write(io->iov[0].iov_base, io->iov[0].iov_len);
}

/*
 * A copy may be over before what the next one needs is there, so that of several is fetched ahead.
 * Fetches for all of them but one; returns that one.
 */
static const struct vhub_blk_io *
fetch_first(const struct malloc_queue *q)
{
	const struct vhub_blk_io *io = q->next->next;
	uint32_t n = RTE_MIN(AHEAD_BYTES / RTE_MAX(q->next->len_bytes, 1u), AHEAD_MAX);

	while (io != NULL && n-- > 1) {
		fetch(q, io);
		io = io->next;
	}
	return io;
}

/* The one that is SMALL_AHEAD behind the next one. */
static const struct vhub_blk_io *
first_small(const struct malloc_queue *q)
{
	const struct vhub_blk_io *io = q->next;

	for (uint32_t n = 0; io != NULL && n < SMALL_AHEAD; n++)
		io = io->next;
	return io;
}

/* Returns what is left of `budget`. */
static uint32_t
run(struct malloc_queue *q, uint32_t budget)
{
	const struct vhub_blk_io *ahead, *small;

	ahead = fetch_first(q);
	small = first_small(q);
	while (q->next != NULL && budget > 0) {
		struct vhub_blk_io *io = q->next;

		if (ahead != NULL) {
			fetch(q, ahead);
			ahead = ahead->next;
		}
		if (small != NULL) {
			fetch_small(small);
			small = small->next;
		}
		if (likely(io->op <= VHUB_BLK_WRITE && q->done_bytes == 0 &&
				    io->len_bytes <= budget)) {
			copy_all(q);
			budget -= io->len_bytes;
		} else {
			budget -= io->op <= VHUB_BLK_FLUSH ? copy_some(q, budget) :
							     zero_some(q, budget);
			if (q->done_bytes < io->len_bytes)
				return budget;
			q->done_bytes = 0;
			q->iov_index = 0;
		}
		if (unlikely(q->save != NULL) && io->op != VHUB_BLK_READ && io->len_bytes != 0)
			save_changed(q->save, io->offset_bytes, io->len_bytes);
		io->result = 0;
		q->next = io->next;
	}
	return budget;
}

/* Whether the next burst has enough for which the two beginnings are not the same. */
static bool
is_measured(const struct malloc_queue *q)
{
	const struct vhub_blk_io *io = q->next;
	uint32_t n = 0;

	while (n < MEASURED_IOS && io != NULL && io->op <= VHUB_BLK_WRITE &&
			io->len_bytes > AHEAD_SHORT_BYTES) {
		io = io->next;
		n++;
	}
	return n == MEASURED_IOS;
}

static void
run_turn(struct malloc_queue *q)
{
	uint64_t begin;
	uint32_t left_bytes;

	if (!is_measured(q)) {
		run(q, TURN_BYTES);
		return;
	}
	malloc_choice_begin(&q->ahead);
	begin = rte_rdtsc();
	left_bytes = run(q, TURN_BYTES);
	malloc_choice_end(&q->ahead, rte_rdtsc() - begin, TURN_BYTES - left_bytes);
}

uint16_t
malloc_submit(struct vhub_blk_queue *queue, struct vhub_blk_io *const *ios, uint16_t n)
{
	struct malloc_queue *q = malloc_queue_of(queue);

	for (uint16_t i = 0; i < n; i++) {
		ios[i]->next = NULL;
		*q->tail = ios[i];
		q->tail = &ios[i]->next;
		if (q->next == NULL)
			q->next = ios[i];
	}
	return n;
}

uint16_t
malloc_reap(struct vhub_blk_queue *queue, struct vhub_blk_io **ios, uint16_t max)
{
	struct malloc_queue *q = malloc_queue_of(queue);
	struct vhub_blk_io *io;
	uint16_t n = 0;

	if (q->next != NULL)
		run_turn(q);
	while (n < max && q->head != q->next) {
		io = q->head;
		q->head = io->next;
		if (unlikely(q->save != NULL) && save_wants(io) && io->result == 0)
			save_submit(q, io);
		else
			ios[n++] = io;
	}
	if (q->head == NULL)
		q->tail = &q->head;
	while (unlikely(q->save != NULL) && n < max &&
			(io = vhub_blk_away_reap(&q->saving)) != NULL)
		ios[n++] = io;
	return n;
}

/* What has been done is to be saved, and need not be. */
static void
cancel_done(struct malloc_queue *q, vhub_blk_pick_fn wanted, const void *arg)
{
	for (struct vhub_blk_io *io = q->head; io != q->next; io = io->next) {
		if (save_wants(io) && wanted(io, arg))
			io->result = -ECANCELED;
	}
	save_cancel(q, wanted, arg);
}

/* What remains of q->next, of which some has been done, is wanted back. */
static void
cancel_begun(struct malloc_queue *q)
{
	if (q->save != NULL && q->next->op != VHUB_BLK_READ)
		save_changed(q->save, q->next->offset_bytes, q->done_bytes);
	q->done_bytes = 0;
	q->iov_index = 0;
	q->iov_done_bytes = 0;
}

void
malloc_cancel(struct vhub_blk_queue *queue, vhub_blk_pick_fn wanted, const void *arg)
{
	struct malloc_queue *q = malloc_queue_of(queue);
	struct vhub_blk_io **begin = &q->head;

	if (q->save != NULL)
		cancel_done(q, wanted, arg);
	if (q->next == NULL)
		return;
	if (q->done_bytes != 0 && wanted(q->next, arg))
		cancel_begun(q);
	while (*begin != q->next)
		begin = &(*begin)->next;
	q->next = *vhub_blk_cancel_list(begin, &q->tail, wanted, arg);
}

/* What is in flight goes on with the next reap; but for what is being saved, which wakes the lcore. */
int
malloc_arm(struct vhub_blk_queue *queue)
{
	struct malloc_queue *q = malloc_queue_of(queue);

	return q->head == NULL && !vhub_blk_away_has_some(&q->saving) ? 0 : -EAGAIN;
}
