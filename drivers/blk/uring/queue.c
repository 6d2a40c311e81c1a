/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Queues of the uring driver: one io_uring for each lcore that uses the disk (rings.c), made on that
 * lcore, since the kernel is told that nobody else submits to it. Called by lib/blk when rings start
 * and stop; io.c comes next.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <rte_common.h>

#include "uring_pvt.h"
#include "vhub_lcore.h"

static int
create_bounces(struct uring_queue *q)
{
	size_t bytes = (size_t)URING_BOUNCES * URING_BOUNCE_BYTES;
	void *area = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (area == MAP_FAILED)
		return -ENOMEM;
	q->bounce_area = area;
	for (unsigned int i = 0; i < URING_BOUNCES; i++)
		bounce_put(q, q->bounce_area + (size_t)i * URING_BOUNCE_BYTES);
	return 0;
}

/* ---- threads of the kernel's ---- */

/* Queues whose rings use this thread's workers. */
static __thread unsigned int n_sharing;

/* The queue's ring whose I/O goes to them, or NULL: the thread of a ring with sqpoll has some of its own. */
static struct io_uring *
sharing_ring(struct uring_queue *q)
{
	if (q->has_side)
		return &q->side;
	return q->disk->sqpoll ? NULL : &q->ring;
}

/*
 * What the kernel cannot do at once (each flush, zeroes, reads that wait for the storage) is done by
 * workers, and they are the thread's, not the ring's: all disks of an lcore would share four for each
 * CPU, and those of one whose storage hangs would be missed by all others. So there may be one for
 * whatever any of them has in flight; they come with the need, and go when they have been idle.
 *
 * RLIMIT_NPROC is the most that the kernel allows, and before 5.15 nothing can be asked for: it works
 * without. The limit stays when a queue goes: it is set again with the next one. Rings with sqpoll are
 * not asked: that would wait for their thread.
 */
static void
allow_workers(struct uring_queue *q)
{
	struct io_uring *ring = sharing_ring(q);
	/* For files and devices; and for sockets and the like, which there are none of: 0, as it is. */
	unsigned int most[2] = { 0 };

	if (ring == NULL)
		return;
	most[0] = ++n_sharing * URING_DEPTH;
	io_uring_register_iowq_max_workers(ring, most);
}

static void
disallow_workers(struct uring_queue *q)
{
	if (sharing_ring(q) != NULL)
		n_sharing--;
}

/* ---- rings ---- */

/*
 * Besides the image what has to stay open as long as anything is in flight, for the kernel keeps a ring's files
 * until then, also of a process that was killed: the front end's connection, so that it does not hear of our end,
 * and have its guest's requests done by another vhubd, while what they read may still come into its memory; and what
 * keeps others from the device.
 */
static int
register_files(const struct uring_disk *d, struct io_uring *ring)
{
	const int fds[] = { [URING_FIXED_FILE] = d->fd, d->connection_fd, d->claim_fd };

	return io_uring_register_files(ring, fds, RTE_DIM(fds));
}

static int
create_rings(struct uring_queue *q)
{
	int ret = uring_create_ring(q->disk, &q->ring, URING_DEPTH);

	if (ret != 0)
		return ret;
	ret = register_files(q->disk, &q->ring);
	if (ret != 0)
		goto err_ring;
	if (!q->disk->iopoll)
		goto done;
	ret = uring_create_plain(&q->side, URING_DEPTH);
	if (ret != 0)
		goto err_ring;
	ret = register_files(q->disk, &q->side);
	if (ret != 0)
		goto err_side;
	q->has_side = true;
done:
	allow_workers(q);
	return 0;

err_side:
	io_uring_queue_exit(&q->side);
err_ring:
	io_uring_queue_exit(&q->ring);
	return ret;
}

static void
destroy_rings(struct uring_queue *q)
{
	disallow_workers(q);
	io_uring_queue_exit(&q->ring);
	if (q->has_side)
		io_uring_queue_exit(&q->side);
}

int
uring_queue_get(struct vhub_blk_disk *disk, struct vhub_blk_queue **out)
{
	struct uring_queue *q = calloc(1, sizeof(*q));
	int ret;

	if (q == NULL)
		return -ENOMEM;
	q->queue.disk = disk;
	q->disk = uring_disk_of(disk);
	q->erasing.lcore = vhub_lcore_self();
	for (unsigned int i = URING_DEPTH; i > 0; i--) {
		q->slots[i - 1].next = q->free_slots;
		q->free_slots = &q->slots[i - 1];
	}
	uring_list_init(&q->ready);
	uring_list_init(&q->inline_ready);
	uring_list_init(&q->cancelled);
	q->window_bytes = q->disk->direct ? URING_WINDOW_DIRECT_BYTES : URING_WINDOW_BYTES;
	ret = create_rings(q);
	if (ret != 0)
		goto err_free;
	if (q->disk->direct) {
		ret = create_bounces(q);
		if (ret != 0)
			goto err_rings;
	}
	*out = &q->queue;
	return 0;

err_rings:
	destroy_rings(q);
err_free:
	free(q);
	return ret;
}

void
uring_queue_put(struct vhub_blk_queue *queue)
{
	struct uring_queue *q = uring_queue_of(queue);

	/* A cancellation may have outlived what it was for. */
	if (q->kernel_works)
		vhub_lcore_kernel_work(-1);
	if (q->watched)
		vhub_lcore_remove_wake_fd(q->ring.ring_fd);
	vhub_blk_away_leave(&q->erasing);
	destroy_rings(q);
	pins_leave(q);
	if (q->bounce_area != NULL)
		munmap(q->bounce_area, (size_t)URING_BOUNCES * URING_BOUNCE_BYTES);
	free(q);
}

/* Completions, or work of the kernel's that will make some when it is let. */
static bool
anything_there(struct uring_queue *q)
{
	struct io_uring *ring = &q->ring;
	unsigned int flags = __atomic_load_n(ring->sq.kflags, __ATOMIC_RELAXED);
	bool to_submit = io_uring_sq_ready(ring) != 0;

	/* The kernel's thread takes what is in the ring, unless it sleeps and was not woken. */
	if (q->disk->sqpoll)
		to_submit = (to_submit && (flags & IORING_SQ_NEED_WAKEUP) != 0) ||
				q->ready.first != NULL;
	return to_submit || io_uring_cq_ready(ring) != 0 ||
			(flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

/*
 * The io_uring's own fd wakes the lcore. Unlike an eventfd that is switched on only now, it needs
 * no care for completions that come while it is switched on: the kernel tells it of each. Nor do
 * steps that have not begun: others are under way then, and their completions wake us. It is
 * watched from the first sleep on, so that lcores that never sleep do not pay for it.
 */
int
uring_arm(struct vhub_blk_queue *queue)
{
	struct uring_queue *q = uring_queue_of(queue);

	/* What is polled for wakes nobody. */
	if (q->disk->iopoll)
		return -ENOTSUP;
	if (!q->watched) {
		if (vhub_lcore_self() == NULL || vhub_lcore_add_wake_fd(q->ring.ring_fd) != 0)
			return -ENOTSUP;
		q->watched = true;
	}
	return q->inline_ready.first != NULL || q->cancelled.first != NULL || anything_there(q) ||
					vhub_blk_away_has_some(&q->erasing) ?
			-EAGAIN :
			0;
}
