/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How the io_urings of a disk are made, and whether this kernel and this image have what was asked
 * for (`sqpoll`, `iopoll`). Called by uring.c when the image is opened, and by queue.c, on each lcore
 * that uses the disk, for the rings of its queue.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <rte_common.h>

#include "uring_pvt.h"

/*
 * Best first; a kernel refuses (-EINVAL) what it does not know. 6.0 knows SINGLE_ISSUER, 5.19 the
 * other two, which are not for rings that a thread of the kernel's submits to.
 */
#define COOPERATE (IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG)
static const unsigned int setups[] = { IORING_SETUP_SINGLE_ISSUER | COOPERATE, COOPERATE, 0 };

static int
create(struct io_uring *ring, unsigned int depth, const struct io_uring_params *wanted)
{
	const unsigned int never = (wanted->flags & IORING_SETUP_SQPOLL) != 0 ? COOPERATE : 0;
	int ret = -EINVAL;

	for (unsigned int i = 0; i < RTE_DIM(setups) && ret == -EINVAL; i++) {
		struct io_uring_params params = *wanted;

		params.flags |= setups[i] & ~never;
		ret = io_uring_queue_init_params(depth, ring, &params);
	}
	return ret;
}

int
uring_create_plain(struct io_uring *ring, unsigned int depth)
{
	return create(ring, depth, &(struct io_uring_params){ 0 });
}

int
uring_create_ring(const struct uring_disk *d, struct io_uring *ring, unsigned int depth)
{
	struct io_uring_params wanted = { 0 };

	if (d->iopoll)
		wanted.flags |= IORING_SETUP_IOPOLL;
	if (d->sqpoll) {
		wanted.flags |= IORING_SETUP_SQPOLL;
		wanted.sq_thread_idle = d->sqpoll_idle_ms;
	}
	if (d->sqpoll && d->sqpoll_cpu >= 0) {
		wanted.flags |= IORING_SETUP_SQ_AFF;
		wanted.sq_thread_cpu = (uint32_t)d->sqpoll_cpu;
	}
	return create(ring, depth, &wanted);
}

/* ---- what there is ---- */

/* Whether this process may use io_uring at all. */
static int
check_plain(char *error, size_t error_len)
{
	struct io_uring ring;
	int ret = uring_create_plain(&ring, 1);

	if (ret == 0) {
		io_uring_queue_exit(&ring);
		return 0;
	}
	if (ret == -ENOSYS || ret == -EPERM || ret == -EACCES)
		snprintf(error, error_len,
				"driver=uring: io_uring is %s here (kernel.io_uring_disabled, a container's "
				"system call filter, an old kernel)",
				ret == -ENOSYS ? "missing" : "forbidden");
	else
		snprintf(error, error_len, "driver=uring: io_uring: %s", strerror(-ret));
	return ret;
}

static int
check_sqpoll(struct uring_disk *d, char *error, size_t error_len)
{
	struct io_uring ring;
	int ret = uring_create_ring(d, &ring, 1);

	if (ret == 0)
		io_uring_queue_exit(&ring);
	else if (d->sqpoll_cpu >= 0)
		snprintf(error, error_len,
				"sqpoll_cpu=%d: %s; allowed: a CPU that is online and that this process "
				"may use (or none: sqpoll=on alone)",
				d->sqpoll_cpu, strerror(-ret));
	else
		snprintf(error, error_len, "sqpoll=on: %s; allowed: off", strerror(-ret));
	return ret;
}

/* Whether the device says so itself, of the image or below it; what has no device says nothing. */
static int
ask_device(const struct uring_disk *d)
{
	struct stat st;
	dev_t device;

	if (fstat(d->fd, &st) != 0)
		return -errno;
	device = d->block_device ? st.st_rdev : st.st_dev;
	return major(device) == 0 || uring_device_attribute(device, "io_poll") != 0 ? 0 :
										      -EOPNOTSUPP;
}

/* Reads a block that is there (a hole needs no device), and waits for it. */
static int
read_polled(struct uring_disk *d, struct io_uring *ring)
{
	const off_t data = d->block_device ? 0 : lseek(d->fd, 0, SEEK_DATA);
	const uint64_t offset = data < 0 ? 0 : RTE_ALIGN_FLOOR((uint64_t)data, 4096);
	struct io_uring_cqe *cqe;
	void *buf;
	int ret;

	if (posix_memalign(&buf, 4096, 4096) != 0)
		return -ENOMEM;
	io_uring_prep_read(io_uring_get_sqe(ring), d->fd, buf, d->info.block_bytes, offset);
	ret = io_uring_submit(ring);
	if (ret != 1) {
		free(buf);
		return ret < 0 ? ret : -EIO;
	}
	do {
		ret = io_uring_wait_cqe(ring, &cqe);
	} while (ret == -EINTR || ret == -EAGAIN);
	/* Who cannot wait for the answer does not know whether the device still writes: the block is left to it. */
	if (ret != 0)
		return ret;
	ret = RTE_MIN(cqe->res, 0);
	free(buf);
	return ret;
}

static int
check_iopoll(struct uring_disk *d, char *error, size_t error_len)
{
	struct io_uring ring;
	int ret;

	if (!d->direct) {
		snprintf(error, error_len,
				"iopoll=on: %s is read through the page cache; allowed: off, or direct=on where "
				"the file system can",
				d->path);
		return -EINVAL;
	}
	if (d->inline_kind != INLINE_NONE) {
		snprintf(error, error_len,
				"iopoll=on: I/O of %s is done without an io_uring; allowed: off, or "
				"inline=off",
				d->path);
		return -EINVAL;
	}
	ret = ask_device(d);
	if (ret == 0)
		ret = uring_create_ring(d, &ring, 1);
	if (ret == 0) {
		ret = read_polled(d, &ring);
		io_uring_queue_exit(&ring);
	}
	if (ret != 0)
		snprintf(error, error_len,
				"iopoll=on: %s cannot be polled: %s; allowed: off, or a device with queues for "
				"it (NVMe: nvme.poll_queues=N on the kernel's command line), or a file on one",
				d->path, strerror(-ret));
	return ret;
}

int
uring_probe(struct uring_disk *d, char *error, size_t error_len)
{
	int ret = check_plain(error, error_len);

	if (ret == 0 && d->sqpoll)
		ret = check_sqpoll(d, error, error_len);
	if (ret == 0 && d->iopoll)
		ret = check_iopoll(d, error, error_len);
	return ret;
}
