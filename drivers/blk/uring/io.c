/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * I/O of the uring driver. lib/blk submits bursts, each with one io_uring_submit(), and reaps by
 * looking at the completion ring, which takes no system call.
 *
 * An I/O may take several steps: what the kernel did not finish (short, interrupted, longer than a
 * step or a bounce buffer) is asked for again from where it ended. At most one step of an I/O is
 * under way, and there are as many slots as entries in the submission ring, so an entry is always
 * free for the next step.
 *
 * Steps begin in order, each I/O's next one behind the first ones of those that came meanwhile, and
 * only while the window lasts (uring_pvt.h): what they move, the kernel may move on this lcore.
 */
#include <errno.h>
#include <string.h>

#include <rte_branch_prediction.h>
#include <rte_common.h>

#include "uring_pvt.h"
#include "vhub_lcore.h"
#include "vhub_log.h"

VHUB_LOGTYPE(blk)

/* Completions looked at in one reap. */
#define REAP_BURST 64

static void
prepare_bounced(struct uring_slot *slot, struct io_uring_sqe *sqe)
{
	const struct vhub_blk_io *io = slot->io;
	uint64_t offset = io->offset_bytes + slot->done_bytes;

	slot->step_bytes = RTE_MIN(io->len_bytes - slot->done_bytes, URING_BOUNCE_BYTES);
	if (io->op == VHUB_BLK_READ) {
		io_uring_prep_read(sqe, URING_FIXED_FILE, slot->bounce, slot->step_bytes, offset);
	} else {
		bounce_gather(slot, slot->step_bytes);
		io_uring_prep_write(sqe, URING_FIXED_FILE, slot->bounce, slot->step_bytes, offset);
	}
}

/*
 * How many whole pieces, from the slot's place on, a step holds; step_bytes is their sum. None from
 * inside of a piece.
 */
static uint16_t
take_pieces(struct uring_slot *slot)
{
	const struct iovec *iov = &slot->io->iov[slot->iov_index];
	uint16_t n_left = slot->iov_done_bytes != 0 ? 0 : slot->io->n_iov - slot->iov_index;
	size_t bytes = 0;
	uint16_t n = 0;

	while (n < n_left && iov[n].iov_len <= URING_STEP_BYTES - bytes)
		bytes += iov[n++].iov_len;
	slot->step_bytes = (uint32_t)bytes;
	return n;
}

/*
 * As many whole pieces as a step holds; or what it holds of one. A multiple of a block, and aligned
 * for O_DIRECT: pieces are, or bounce_needed(), and so is the size of a step.
 */
void
uring_next_span(struct uring_slot *slot, struct uring_span *span)
{
	const struct iovec *iov = &slot->io->iov[slot->iov_index];

	span->iov = iov;
	span->n = take_pieces(slot);
	if (span->n > 1)
		return;
	slot->step_bytes = (uint32_t)RTE_MIN(iov->iov_len - slot->iov_done_bytes,
			(size_t)URING_STEP_BYTES);
	span->one = (struct iovec){ (uint8_t *)iov->iov_base + slot->iov_done_bytes,
		slot->step_bytes };
	span->iov = &span->one;
	span->n = 1;
}

/* One piece: of registered memory, if it is. */
static void
prepare_one(struct uring_queue *q, const struct uring_slot *slot, struct io_uring_sqe *sqe,
		void *buf, uint64_t offset)
{
	const bool read = slot->io->op == VHUB_BLK_READ;
	void *registered = NULL;
	const int slice = q->pins == NULL ? -1 : pins_find(q, buf, slot->step_bytes, &registered);

	if (slice >= 0 && read)
		io_uring_prep_read_fixed(sqe, URING_FIXED_FILE, registered, slot->step_bytes,
				offset, slice);
	else if (slice >= 0)
		io_uring_prep_write_fixed(sqe, URING_FIXED_FILE, registered, slot->step_bytes,
				offset, slice);
	else if (read)
		io_uring_prep_read(sqe, URING_FIXED_FILE, buf, slot->step_bytes, offset);
	else
		io_uring_prep_write(sqe, URING_FIXED_FILE, buf, slot->step_bytes, offset);
}

/* The I/O's iovec lives until it is over, a span's own piece does not: the kernel gets no list of one. */
static void
prepare_straight(struct uring_queue *q, struct uring_slot *slot, struct io_uring_sqe *sqe)
{
	const struct vhub_blk_io *io = slot->io;
	uint64_t offset = io->offset_bytes + slot->done_bytes;
	struct uring_span span;

	uring_next_span(slot, &span);
	if (span.n > 1 && io->op == VHUB_BLK_READ)
		io_uring_prep_readv(sqe, URING_FIXED_FILE, span.iov, span.n, offset);
	else if (span.n > 1)
		io_uring_prep_writev(sqe, URING_FIXED_FILE, span.iov, span.n, offset);
	else
		prepare_one(q, slot, sqe, span.iov->iov_base, offset);
}

/* Makes the next step an entry of the submission ring. */
static void
prepare_step(struct uring_queue *q, struct uring_slot *slot, struct io_uring_sqe *sqe)
{
	const struct vhub_blk_io *io = slot->io;

	if (io->op == VHUB_BLK_FLUSH) {
		slot->step_bytes = 0;
		io_uring_prep_fsync(sqe, URING_FIXED_FILE, IORING_FSYNC_DATASYNC);
	} else if (unlikely(range_is(io))) {
		range_prepare(q, slot, sqe);
	} else {
		if (slot->bounce != NULL)
			prepare_bounced(slot, sqe);
		else
			prepare_straight(q, slot, sqe);
		if ((io->flags & VHUB_BLK_IO_FUA) != 0 && io->op == VHUB_BLK_WRITE)
			sqe->rw_flags = RWF_DSYNC;
	}
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE | (slot->may_block ? IOSQE_ASYNC : 0));
	io_uring_sqe_set_data(sqe, slot);
}

/*
 * What the kernel does not take now (out of memory, completion ring full) stays in the submission
 * ring, and the next reap tries again. Other errors would be our own mistakes; they are told, and
 * look like storage that is stuck.
 */
static void
flush_ring(struct uring_queue *q, struct io_uring *ring)
{
	static _Thread_local struct vhub_log_limit limit;
	int ret = io_uring_submit(ring);

	if (unlikely(ret < 0 && ret != -EAGAIN && ret != -EBUSY && ret != -EINTR &&
			    ret != -ENOMEM) &&
			vhub_log_allowed(&limit))
		VHUB_LOG(ERR, "%s: io_uring_enter: %s", q->disk->path, strerror(-ret));
}

static void
make_ready(struct uring_queue *q, struct uring_slot *slot)
{
	uring_list_add(inline_is(q, slot) ? &q->inline_ready : &q->ready, slot);
}

/* What the kernel has may be done by threads of its own, on this CPU; iopoll has none. */
static void
tell_lcore(struct uring_queue *q)
{
	const bool works = q->n_under_way != 0 && !q->disk->iopoll;

	if (works != q->kernel_works) {
		vhub_lcore_kernel_work(works ? 1 : -1);
		q->kernel_works = works;
	}
}

/* Begins steps while the window lasts, and gives them to the kernel. */
static void
begin_steps(struct uring_queue *q)
{
	while (q->ready.first != NULL && q->under_way_bytes < q->window_bytes) {
		struct uring_slot *slot = q->ready.first;
		struct io_uring_sqe *sqe;

		if (unlikely(slot->by_eraser)) {
			eraser_submit(q, uring_list_pop(&q->ready));
			continue;
		}
		sqe = io_uring_get_sqe(uring_ring_of(q, slot));
		/* Only with sqpoll, whose thread gives entries back after their completions. */
		if (unlikely(sqe == NULL))
			break;
		uring_list_pop(&q->ready);
		prepare_step(q, slot, sqe);
		q->under_way_bytes += slot->step_bytes;
		q->n_under_way++;
	}
	if (io_uring_sq_ready(&q->ring) != 0)
		flush_ring(q, &q->ring);
	if (unlikely(q->has_side) && io_uring_sq_ready(&q->side) != 0)
		flush_ring(q, &q->side);
	tell_lcore(q);
}

uint16_t
uring_submit(struct vhub_blk_queue *queue, struct vhub_blk_io *const *ios, uint16_t n)
{
	struct uring_queue *q = uring_queue_of(queue);
	uint16_t i;

	pins_look(q);
	for (i = 0; i < n && q->free_slots != NULL; i++) {
		struct uring_slot *slot = q->free_slots;
		uint8_t *bounce = NULL;

		if (unlikely(bounce_needed(q->disk, ios[i]))) {
			bounce = bounce_get(q);
			if (bounce == NULL)
				break;
		}
		q->free_slots = slot->next;
		*slot = (struct uring_slot){ .io = ios[i], .bounce = bounce };
		if (unlikely(range_is(ios[i])))
			range_init(q, slot);
		make_ready(q, slot);
		q->n_in_flight++;
	}
	begin_steps(q);
	return i;
}

static void
advance(struct uring_slot *slot, uint32_t n)
{
	slot->done_bytes += n;
	slot->iov_done_bytes += n;
	while (slot->iov_index < slot->io->n_iov &&
			slot->iov_done_bytes >= slot->io->iov[slot->iov_index].iov_len) {
		slot->iov_done_bytes -= slot->io->iov[slot->iov_index].iov_len;
		slot->iov_index++;
	}
}

/* Returns -EINPROGRESS when another step is needed, else the result of the I/O. */
static int
end_error(struct uring_slot *slot, int res)
{
	if (res != -EAGAIN && res != -EINTR)
		return res;
	slot->may_block = res == -EAGAIN;
	return ++slot->tries < URING_MAX_TRIES ? -EINPROGRESS : -EIO;
}

static int
end_transfer(const struct uring_disk *d, struct uring_slot *slot, uint32_t moved)
{
	uint32_t n = RTE_MIN(moved, slot->step_bytes);

	/* Nothing more to read: the file became shorter. Nothing written, and no reason told. */
	if (moved == 0)
		return -EIO;
	/* O_DIRECT goes on at whole blocks only; in memory pieces, and so steps, end anywhere. */
	if (d->direct && !d->in_memory)
		n -= n % d->info.block_bytes;
	if (slot->bounce != NULL && slot->io->op == VHUB_BLK_READ)
		bounce_scatter(slot, n);
	if (n == slot->step_bytes)
		slot->tries = 0; /* an I/O may have thousands of steps */
	else if (++slot->tries >= URING_MAX_TRIES)
		return -EIO;
	advance(slot, n);
	return slot->done_bytes == slot->io->len_bytes ? 0 : -EINPROGRESS;
}

static int
end_step(struct uring_queue *q, struct uring_slot *slot, int res)
{
	if (unlikely(range_is(slot->io)))
		res = range_end(q, slot, res);
	if (unlikely(res < 0))
		return res == -EINPROGRESS ? res : end_error(slot, res);
	slot->may_block = false;
	if (unlikely(range_is(slot->io)))
		return 0;
	/* Most I/Os: one step. */
	if (likely((uint32_t)res == slot->io->len_bytes && slot->bounce == NULL &&
			    slot->done_bytes == 0))
		return 0;
	return end_transfer(q->disk, slot, (uint32_t)res);
}

static struct vhub_blk_io *
release_slot(struct uring_queue *q, struct uring_slot *slot, int result)
{
	struct vhub_blk_io *io = slot->io;

	if (slot->bounce != NULL)
		bounce_put(q, slot->bounce);
	slot->io = NULL;
	slot->next = q->free_slots;
	q->free_slots = slot;
	q->n_in_flight--;
	io->result = result;
	return io;
}

uint16_t
uring_end(struct uring_queue *q, struct uring_slot *slot, int res, struct vhub_blk_io **io)
{
	int result;

	if (unlikely(res < 0))
		lost_look(q->disk, lost_kind_of(slot), res);
	result = cancel_result(slot, end_step(q, slot, res));
	result = lost_result(q->disk, slot->io, result);
	if (unlikely(result == -EINPROGRESS)) {
		make_ready(q, slot);
		return 0;
	}
	*io = release_slot(q, slot, result);
	return 1;
}

static uint16_t
reap_erased(struct uring_queue *q, struct vhub_blk_io **ios, uint16_t max)
{
	struct vhub_blk_io *io;
	uint16_t n = 0;

	while (n < max && (io = vhub_blk_away_reap(&q->erasing)) != NULL) {
		struct uring_slot *slot = eraser_slot_of(io);
		int result = cancel_result(slot, io->result);

		ios[n++] = release_slot(q, slot, lost_result(q->disk, io, result));
	}
	return n;
}

static uint16_t
reap_cancelled(struct uring_queue *q, struct vhub_blk_io **ios, uint16_t max)
{
	uint16_t n = 0;

	while (n < max && q->cancelled.first != NULL)
		ios[n++] = release_slot(q, uring_list_pop(&q->cancelled), -ECANCELED);
	return n;
}

static uint16_t
reap_ring(struct uring_queue *q, struct io_uring *ring, struct vhub_blk_io **ios, uint16_t max)
{
	struct io_uring_cqe *cqes[REAP_BURST];
	unsigned int n_cqes;
	uint16_t n = 0;

	/*
	 * Enters the kernel only when that says, in shared memory, that it holds completions back
	 * for us.
	 */
	n_cqes = io_uring_peek_batch_cqe(ring, cqes, RTE_MIN(max, REAP_BURST));
	for (unsigned int i = 0; i < n_cqes; i++) {
		struct uring_slot *slot = io_uring_cqe_get_data(cqes[i]);

		if (unlikely(slot == NULL)) /* of a cancellation */
			continue;
		q->under_way_bytes -= slot->step_bytes;
		n += uring_end(q, slot, cqes[i]->res, &ios[n]);
	}
	io_uring_cq_advance(ring, n_cqes);
	q->n_under_way -= (uint16_t)n_cqes;
	return n;
}

/* With iopoll nobody looks for completions but who asks (with sqpoll too, the kernel's thread does). */
static uint16_t
reap_polled(struct uring_queue *q, struct vhub_blk_io **ios, uint16_t max)
{
	uint16_t n;

	if (!q->disk->sqpoll && io_uring_cq_ready(&q->ring) == 0)
		io_uring_get_events(&q->ring);
	/* First the one that never has many: the other may have as many as there is room for, each time. */
	n = reap_ring(q, &q->side, ios, max);
	return n + reap_ring(q, &q->ring, ios + n, max - n);
}

uint16_t
uring_reap(struct vhub_blk_queue *queue, struct vhub_blk_io **ios, uint16_t max)
{
	struct uring_queue *q = uring_queue_of(queue);
	uint16_t n = 0;

	if (q->n_in_flight == 0 && q->n_under_way == 0) {
		pins_look(q);
		return 0;
	}
	if (unlikely(q->has_side))
		n = reap_polled(q, ios, max);
	else if (q->n_under_way != 0)
		n = reap_ring(q, &q->ring, ios, max);
	pins_look(q);
	if (unlikely(q->cancelled.first != NULL))
		n += reap_cancelled(q, ios + n, max - n);
	if (unlikely(q->disk->eraser != NULL))
		n += reap_erased(q, ios + n, max - n);
	if (q->inline_ready.first != NULL)
		n += inline_run(q, ios + n, max - n);
	begin_steps(q);
	return n;
}
