/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who has the image: locks, and what the page cache makes of an image that goes from one host to another. Called by
 * lib/blk before the first queue is got and when the last one is put; queue.c comes next.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "uring_pvt.h"

/* ---- the page cache ---- */

/* What was acknowledged is in the image before another host may have it. */
static void
write_back(struct uring_disk *d)
{
	if (!d->read_only && !d->in_memory && fdatasync(d->fd) != 0)
		lost_look(d, LOST_BY_SYNC, -errno);
}

/*
 * What the page cache has of the image may be older than what another host has written meanwhile. Not while others
 * of this host have it: one of them has begun with this, and it is all of theirs.
 */
static void
forget_cached(const struct uring_disk *d)
{
	struct flock others = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (d->direct || (fcntl(d->fd, F_OFD_GETLK, &others) == 0 && others.l_type != F_UNLCK))
		return;
	posix_fadvise(d->fd, 0, 0, POSIX_FADV_DONTNEED);
}

/* ---- who has it ---- */

/* Disks of this process that have their image: the kernel does not tell. They are locked on several threads. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static LIST_HEAD(, uring_disk) holders = LIST_HEAD_INITIALIZER(holders);

static void
note(struct uring_disk *d, bool holds)
{
	pthread_mutex_lock(&mutex);
	if (holds && !d->holds)
		LIST_INSERT_HEAD(&holders, d, holder);
	else if (!holds && d->holds)
		LIST_REMOVE(d, holder);
	d->holds = holds;
	pthread_mutex_unlock(&mutex);
}

/* `otherwise`: who it is, when it is no disk of this process. */
static int
in_use(const struct uring_disk *d, const char *otherwise, char *error, size_t error_len)
{
	const struct uring_disk *other;

	pthread_mutex_lock(&mutex);
	LIST_FOREACH(other, &holders, holder) {
		if (other != d && other->device == d->device && other->inode == d->inode)
			break;
	}
	if (other != NULL)
		snprintf(error, error_len, "the image is in use by the disk %s: %s",
				other->disk.name, d->path);
	else
		snprintf(error, error_len, "the image is in use, %s: %s", otherwise, d->path);
	pthread_mutex_unlock(&mutex);
	return -EAGAIN;
}

/* ---- locks ---- */

static int
lock_error(const struct uring_disk *d, bool locked, int ret, char *error, size_t error_len)
{
	snprintf(error, error_len, "%s cannot be %s: %s", d->path, locked ? "locked" : "unlocked",
			strerror(-ret));
	return ret;
}

/*
 * Open-file-description locks: they belong to our open image, so also two disks of one process
 * exclude each other, and closing some other descriptor of the file gives nothing back.
 */
static int
set_lock(const struct uring_disk *d, short type)
{
	struct flock lock = {
		.l_type = type,
		.l_whence = SEEK_SET, /* from 0 to the end, wherever that is */
	};

	return fcntl(d->fd, F_OFD_SETLK, &lock) == 0 ? 0 : -errno;
}

/*
 * A lock is the device node's, of which a device may have several (a container's own /dev): who writes to it claims
 * the device, as a file system does that is mounted. Read only: a node that was open for writing is looked at by
 * udev when it is closed. Not past the page cache alone: what is cached of a range that is discarded the kernel
 * drops only for who has the claim itself, and refuses the discard (EBUSY) where that is dirty.
 */
static int
claim_device(struct uring_disk *d, char *error, size_t error_len)
{
	char path[32];

	if (!d->block_device || d->read_only || !d->direct || d->claim_fd >= 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", d->fd);
	d->claim_fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);
	if (d->claim_fd >= 0)
		return 0;
	if (errno != EBUSY)
		return lock_error(d, true, -errno, error, error_len);
	return in_use(d, "somebody else writes to it, or it is mounted, or part of another device",
			error, error_len);
}

static void
give_back_device(struct uring_disk *d)
{
	if (d->claim_fd >= 0)
		close(d->claim_fd);
	d->claim_fd = -1;
}

void
uring_lock_forget(struct uring_disk *d)
{
	give_back_device(d);
	note(d, false);
}

static int
take_image(struct uring_disk *d, char *error, size_t error_len)
{
	int ret;

	forget_cached(d);
	ret = set_lock(d, d->read_only ? F_RDLCK : F_WRLCK);
	if (ret == -EAGAIN || ret == -EACCES)
		return in_use(d, "another process has locked it", error, error_len);
	if (ret != 0)
		return lock_error(d, true, ret, error, error_len);
	ret = claim_device(d, error, error_len);
	if (ret != 0)
		set_lock(d, F_UNLCK);
	else
		note(d, true);
	return ret;
}

static int
give_back_image(struct uring_disk *d, char *error, size_t error_len)
{
	int ret;

	write_back(d);
	give_back_device(d);
	ret = set_lock(d, F_UNLCK);
	if (ret != 0)
		return lock_error(d, false, ret, error, error_len);
	note(d, false);
	return 0;
}

int
uring_lock(struct vhub_blk_disk *disk, bool locked, char *error, size_t error_len)
{
	struct uring_disk *d = uring_disk_of(disk);

	return locked ? take_image(d, error, error_len) : give_back_image(d, error, error_len);
}
