/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The file of a disk in memory: loaded when the disk is placed, saved by a thread of its own at each
 * FLUSH and for each write that has to be durable, and once more at the end. Called by malloc.c and,
 * on lcores, by io.c.
 *
 * Lcores mark what they have changed, in units, after they have changed it; the thread takes a mark
 * away before it reads the unit. So a unit that changes while it is read is marked again, and what
 * had been changed before the FLUSH came is in the file. What the file did not take stays marked, and
 * so does what lies behind the end of the disk: lcores may change that while the size does.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <rte_common.h>

#include "malloc_pvt.h"
#include "vhub_file.h"
#include "vhub_log.h"

VHUB_LOGTYPE(blk)

#define UNIT_BYTES (64u << 10)
#define UNITS_OF_WORD 64u

struct malloc_save {
	struct malloc_disk *disk;
	struct vhub_blk_thread thread;
	pthread_mutex_t lock;		 /* one at a time: saving, or a change of the size */
	struct vhub_log_limit log_limit; /* the thread's */
	uint64_t changed[];		 /* shared atomic: a bit for each unit */
};

/* ---- marks ---- */

static uint64_t
words_of(uint64_t disk_bytes)
{
	return (disk_bytes - 1) / UNIT_BYTES / UNITS_OF_WORD + 1;
}

void
save_changed(struct malloc_save *save, uint64_t offset_bytes, uint32_t len_bytes)
{
	const uint64_t end = (offset_bytes + len_bytes - 1) / UNIT_BYTES;

	/*
	 * Pairs with take_word(). Also of a unit that is marked already: the operation keeps the
	 * change before the mark.
	 */
	for (uint64_t unit = offset_bytes / UNIT_BYTES; unit <= end; unit++)
		__atomic_fetch_or(&save->changed[unit / UNITS_OF_WORD],
				UINT64_C(1) << unit % UNITS_OF_WORD, __ATOMIC_ACQ_REL);
}

/* The units of a word that begin below the end of the disk. */
static uint64_t
units_below(uint64_t word, uint64_t disk_bytes)
{
	const uint64_t n = (disk_bytes + UNIT_BYTES - 1) / UNIT_BYTES - word * UNITS_OF_WORD;

	return n >= UNITS_OF_WORD ? UINT64_MAX : (UINT64_C(1) << n) - 1;
}

static uint64_t
take_word(struct malloc_save *save, uint64_t word)
{
	const uint64_t mask = units_below(word, save->disk->size_bytes);

	if ((__atomic_load_n(&save->changed[word], __ATOMIC_RELAXED) & mask) == 0)
		return 0;
	/* Pairs with save_changed(). */
	return __atomic_fetch_and(&save->changed[word], ~mask, __ATOMIC_ACQ_REL) & mask;
}

/* ---- the file ---- */

/* Writes the units of a word that are marked in `bits`, neighbours together. */
static int
write_units(const struct malloc_disk *d, uint64_t word, uint64_t bits)
{
	const uint64_t size = d->size_bytes;
	unsigned int i = 0;

	while (i < UNITS_OF_WORD && bits >> i != 0) {
		uint64_t begin, end;
		int ret;

		i += (unsigned int)__builtin_ctzll(bits >> i);
		begin = (word * UNITS_OF_WORD + i) * UNIT_BYTES;
		while (i < UNITS_OF_WORD && (bits >> i & 1) != 0)
			i++;
		end = RTE_MIN((word * UNITS_OF_WORD + i) * UNIT_BYTES, size);
		ret = vhub_file_write(d->fd, d->data + begin, end - begin, begin);
		if (ret != 0)
			return ret;
	}
	return 0;
}

/* What was not written is marked again: it is still to be saved. */
static int
save_all(struct malloc_save *save)
{
	uint64_t *taken, n_words;
	int ret = 0;

	pthread_mutex_lock(&save->lock);
	n_words = words_of(save->disk->size_bytes);
	taken = calloc(n_words, sizeof(*taken));
	if (taken == NULL)
		ret = -ENOMEM;
	for (uint64_t word = 0; word < n_words && ret == 0; word++) {
		taken[word] = take_word(save, word);
		if (taken[word] != 0)
			ret = write_units(save->disk, word, taken[word]);
	}
	if (ret == 0 && fdatasync(save->disk->fd) != 0)
		ret = -errno;
	/* After a failed fdatasync(2) nobody knows what of all that was written the file has. */
	for (uint64_t word = 0; word < n_words && ret != 0 && taken != NULL; word++) {
		if (taken[word] != 0)
			__atomic_fetch_or(&save->changed[word], taken[word], __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&save->lock);
	free(taken);
	return ret;
}

/* ---- the thread ---- */

/* One save for all that wait. */
static void
serve(struct vhub_blk_thread *thread, struct vhub_blk_io *io)
{
	struct malloc_save *save = vhub_container_of(thread, struct malloc_save, thread);
	int ret = save_all(save);

	if (ret != 0 && vhub_log_allowed(&save->log_limit))
		VHUB_LOG(ERR, "%s: not saved: %s", save->disk->path, strerror(-ret));
	while (io != NULL) {
		struct vhub_blk_io *next = io->next; /* it is its queue's again once given back */

		vhub_blk_thread_give_back(io, ret);
		io = next;
	}
}

static int
start(struct malloc_disk *d)
{
	struct malloc_save *save = calloc(1,
			sizeof(*save) + words_of(d->reserved_bytes) * sizeof(save->changed[0]));
	int ret;

	if (save == NULL)
		return -ENOMEM;
	save->disk = d;
	pthread_mutex_init(&save->lock, NULL);
	save->thread.serve = serve;
	ret = vhub_blk_thread_start(&save->thread, "vhub-save");
	if (ret != 0) {
		free(save);
		return ret;
	}
	d->save = save;
	return 0;
}

/* ---- a disk's life ---- */

static int
file_error(const struct malloc_disk *d, int ret, char *error, size_t error_len)
{
	snprintf(error, error_len, "file=%s: %s", d->path, strerror(-ret));
	return ret;
}

/* Regular files only: the type is known before open(2), which could hang on a pipe. */
static int
open_file(struct malloc_disk *d, struct stat *st)
{
	if (stat(d->path, st) == 0 && !S_ISREG(st->st_mode))
		return -EINVAL;
	d->fd = open(d->path, d->read_only ? O_RDONLY | O_CLOEXEC : O_RDWR | O_CREAT | O_CLOEXEC,
			0600);
	if (d->fd < 0 || fstat(d->fd, st) != 0)
		return -errno;
	return S_ISREG(st->st_mode) ? 0 : -EINVAL;
}

/* Held until the file is closed: two disks that save to one file would destroy it. */
static int
lock_file(const struct malloc_disk *d)
{
	struct flock lock = {
		.l_type = d->read_only ? F_RDLCK : F_WRLCK,
		.l_whence = SEEK_SET,
	};

	return fcntl(d->fd, F_OFD_SETLK, &lock) == 0 ? 0 : -errno;
}

static int
choose_size(struct malloc_disk *d, uint64_t file_bytes, char *error, size_t error_len)
{
	int ret;

	if (d->size_bytes == 0) {
		d->size_bytes = file_bytes - file_bytes % VHUB_BLK_SECTOR_BYTES;
		if (d->size_bytes != 0)
			return 0;
		snprintf(error, error_len, "file=%s: it is empty, and size= is missing", d->path);
		return -EINVAL;
	}
	if (file_bytes > d->size_bytes) {
		snprintf(error, error_len,
				"size=%" PRIu64 ": the file %s is larger, %" PRIu64 " bytes",
				d->size_bytes, d->path, file_bytes);
		return -EINVAL;
	}
	if (d->read_only)
		return 0;
	ret = ftruncate(d->fd, (off_t)d->size_bytes) != 0 ? -errno : 0;
	/* It may have been made just now, and is to be there after a crash of the host, too. */
	if (ret == 0 && file_bytes == 0)
		ret = vhub_file_sync_folder(d->path);
	return ret == 0 ? 0 : file_error(d, ret, error, error_len);
}

int
save_open(struct malloc_disk *d, char *error, size_t error_len)
{
	struct stat st;
	int ret = open_file(d, &st);

	if (ret == -EINVAL) {
		snprintf(error, error_len, "file=%s: not a regular file", d->path);
	} else if (ret == 0) {
		ret = lock_file(d);
		if (ret == -EAGAIN || ret == -EACCES)
			snprintf(error, error_len, "file=%s is in use: somebody else has locked it",
					d->path);
		else if (ret != 0)
			file_error(d, ret, error, error_len);
		else
			ret = choose_size(d, (uint64_t)st.st_size, error, error_len);
	} else {
		file_error(d, ret, error, error_len);
	}
	if (ret != 0 && d->fd >= 0) {
		close(d->fd);
		d->fd = -1;
	}
	return ret;
}

/* Memory beyond the end of the file is zero, and so is what the file has not. */
static int
read_file(const struct malloc_disk *d)
{
	uint64_t at = 0;

	while (at < d->size_bytes) {
		ssize_t n = pread(d->fd, d->data + at, d->size_bytes - at, (off_t)at);

		if (n == 0)
			break;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			at += (uint64_t)n;
	}
	return 0;
}

int
save_load(struct malloc_disk *d, char *error, size_t error_len)
{
	int ret = read_file(d);

	if (ret == 0 && !d->read_only)
		ret = start(d);
	return ret == 0 ? 0 : file_error(d, ret, error, error_len);
}

int
save_now(struct malloc_disk *d, char *error, size_t error_len)
{
	int ret = save_all(d->save);

	return ret == 0 ? 0 : file_error(d, ret, error, error_len);
}

void
save_close(struct malloc_disk *d)
{
	struct malloc_save *save = d->save;
	int ret;

	if (save != NULL) {
		vhub_blk_thread_stop(&save->thread);
		ret = save_all(save);
		if (ret != 0) {
			VHUB_LOG(ERR, "%s: what was written since the last flush is lost: %s",
					d->path, strerror(-ret));
			vhub_blk_not_saved();
		}
		pthread_mutex_destroy(&save->lock);
		free(save);
	}
	if (d->fd >= 0)
		close(d->fd);
}

int
save_resize(struct malloc_disk *d, uint64_t size_bytes)
{
	uint64_t old;
	int ret = 0;

	pthread_mutex_lock(&d->save->lock);
	old = d->size_bytes;
	if (ftruncate(d->fd, (off_t)size_bytes) != 0)
		ret = -errno;
	else
		d->size_bytes = size_bytes;
	/*
	 * Of the unit with the old end, only what was below that has been saved. And behind the end the
	 * file may have up to a sector that the disk had not, as it was found: that is zero from now on.
	 */
	if (ret == 0 && size_bytes > old)
		save_changed(d->save, old - 1, 2);
	pthread_mutex_unlock(&d->save->lock);
	return ret;
}

/* ---- on lcores ---- */

void
save_submit(struct malloc_queue *q, struct vhub_blk_io *io)
{
	vhub_blk_thread_submit(&q->save->thread, &q->saving, io);
}

void
save_cancel(struct malloc_queue *q, vhub_blk_pick_fn wanted, const void *arg)
{
	vhub_blk_away_cancel(&q->saving, &q->save->thread, wanted, arg);
}
