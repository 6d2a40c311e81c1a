/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of the malloc driver.
 *
 *     malloc.c (arguments, memory, ops) -> io.c (copying on lcores) -> save.c (a file, where there is one)
 */
#ifndef MALLOC_PVT_H
#define MALLOC_PVT_H

#include <stdbool.h>
#include <stdint.h>

#include "choice.h"
#include "vhub_blk.h"
#include "vhub_blk_thread.h"

struct malloc_save;

struct malloc_disk {
	struct vhub_blk_disk disk; /* first */
	char *path;		   /* of the file; NULL: there is none */
	bool read_only;
	/* From open on. */
	uint64_t size_bytes; /* with a file, resize changes it with the lock of save.c held */
	int fd;		     /* -1: no file */
	/* From place on. */
	int node;
	uint8_t *data;
	uint64_t reserved_bytes; /* addresses, of which the first mapped_bytes are memory */
	uint64_t mapped_bytes;
	struct malloc_save *save; /* NULL: nothing is saved */
};

/* Submitted I/Os in order; those before `next` are done. LCORE. */
struct malloc_queue {
	struct vhub_blk_queue queue; /* first */
	uint8_t *data;
	struct malloc_save *save; /* of the disk */
	struct vhub_blk_io *head;
	struct vhub_blk_io **tail;
	struct vhub_blk_io *next;
	struct malloc_choice ahead; /* how much is fetched of those after it */
	/* Progress in `next`. */
	uint32_t done_bytes; /* of the I/O */
	uint16_t iov_index;
	size_t iov_done_bytes;	     /* of that iovec */
	struct vhub_blk_away saving; /* with a file */
};

static inline struct malloc_disk *
malloc_disk_of(const struct vhub_blk_disk *disk)
{
	return vhub_container_of(disk, struct malloc_disk, disk);
}

static inline struct malloc_queue *
malloc_queue_of(struct vhub_blk_queue *queue)
{
	return vhub_container_of(queue, struct malloc_queue, queue);
}

/* ---- io.c ---- */

int
malloc_queue_get(struct vhub_blk_disk *disk, struct vhub_blk_queue **out);
void
malloc_queue_put(struct vhub_blk_queue *queue);
uint16_t
malloc_submit(struct vhub_blk_queue *queue, struct vhub_blk_io *const *ios, uint16_t n);
uint16_t
malloc_reap(struct vhub_blk_queue *queue, struct vhub_blk_io **ios, uint16_t max);
void
malloc_cancel(struct vhub_blk_queue *queue, vhub_blk_pick_fn wanted, const void *arg);
int
malloc_arm(struct vhub_blk_queue *queue);

/* ---- save.c ---- */

/*
 * Opens the disk's file and takes its lock; makes it `size_bytes` large, or, when that is 0, the
 * disk as large as it is. Blocks. Errors as in the driver's ops.
 */
int
save_open(struct malloc_disk *d, char *error, size_t error_len);
/* Reads the file into the disk's memory, and starts the thread that saves. Blocks. */
int
save_load(struct malloc_disk *d, char *error, size_t error_len);
/* Saves what is not saved yet, behind what the thread saves now. Blocks. Returns 0, or -errno with a sentence. */
int
save_now(struct malloc_disk *d, char *error, size_t error_len);
/* Ends the thread and saves what is not saved yet; closes the file. Blocks. */
void
save_close(struct malloc_disk *d);
/* The disk gets another size, and so does the file. Blocks. Returns 0 or -errno. */
int
save_resize(struct malloc_disk *d, uint64_t size_bytes);

/* LCORE: [offset, offset + len) of the disk has just been changed. */
void
save_changed(struct malloc_save *save, uint64_t offset_bytes, uint32_t len_bytes);
/* Whether an I/O that is done is over only when the file has it. */
static inline bool
save_wants(const struct vhub_blk_io *io)
{
	return io->op == VHUB_BLK_FLUSH ||
			(io->op != VHUB_BLK_READ && (io->flags & VHUB_BLK_IO_FUA) != 0);
}
/* LCORE: hands such an I/O over; q->saving gives it back, with its result. */
void
save_submit(struct malloc_queue *q, struct vhub_blk_io *io);
/* LCORE: takes those back that the thread has not begun with; q->saving gives them, with -ECANCELED. */
void
save_cancel(struct malloc_queue *q, vhub_blk_pick_fn wanted, const void *arg);

#endif /* MALLOC_PVT_H */
