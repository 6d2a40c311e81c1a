/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A driver around another one, for tests of what disks do with completions that come late, in any
 * order, or as errors: driver=unruly,over=NAME and the arguments of that driver. Loaded by
 * vhubd --load; the tests are in test/conformance/test_blk_drivers.py and
 * test/unit/blk/test_blk_tools.c.
 *
 *   delay_us=N    an I/O reaches the driver so long after it was submitted
 *   shuffle=on    and up to SHUFFLE_US more, each its own: they complete in any order
 *   fail_every=N  each N-th I/O of a queue is never done, and ends with EIO
 *   hold=PATH     no I/O reaches the driver while there is a file PATH
 *   stall=PATH    the blocking call stall_in=open, place, lock, resize or destroy (which is meant without it) does
 *                 not reach the driver while there is a file PATH
 *
 * What waits is not done yet: its data are moved when the delay is over.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_common.h>
#include <rte_cycles.h>

#include "../stall.h"
#include "vhub_blk.h"

/* I/Os that wait in one queue. */
#define MAX_WAITING 256u
#define SHUFFLE_US 500u
#define MAX_KEYS 64u

static const char *const call_names[] = { "open", "place", "lock", "resize", "destroy", NULL };

enum call {
	CALL_OPEN,
	CALL_PLACE,
	CALL_LOCK,
	CALL_RESIZE,
	CALL_DESTROY,
};

/* The fields of struct vhub_blk_io that are ours while it waits. */
#define IO_DUE 0   /* TSC */
#define IO_FAILS 1 /* not 0: it will not be done, and ends with this error */

struct unruly_disk {
	struct vhub_blk_disk disk; /* first */
	struct vhub_blk_disk *inner;
	uint64_t delay_us;
	uint64_t fail_every; /* 0: none fails */
	bool shuffle;
	char *hold; /* NULL: none */
	char *stall;
	unsigned int stall_in; /* enum call */
};

/* LCORE. */
struct unruly_queue {
	struct vhub_blk_queue queue; /* first */
	struct vhub_blk_queue *inner;
	const struct unruly_disk *disk;
	uint64_t cycles_per_us;
	uint64_t n_submitted;
	uint64_t random;
	uint16_t n_inner; /* in flight in the driver */
	uint16_t n_waiting;
	struct vhub_blk_io *waiting[MAX_WAITING]; /* in the order of their submission */
};

static struct unruly_disk *
disk_of(const struct vhub_blk_disk *disk)
{
	return vhub_container_of(disk, struct unruly_disk, disk);
}

static struct unruly_queue *
queue_of(struct vhub_blk_queue *queue)
{
	return vhub_container_of(queue, struct unruly_queue, queue);
}

static int
unruly_parse(const struct rte_kvargs *args, bool read_only, struct vhub_blk_disk **out, char *error,
		size_t error_len);

/* WORK, or CTL. */
static void
stall(const struct unruly_disk *d, enum call call)
{
	if (d->stall_in == call)
		stall_wait(d->stall);
}

static int
unruly_open(struct vhub_blk_disk *disk, char *error, size_t error_len)
{
	struct vhub_blk_disk *inner = disk_of(disk)->inner;

	stall(disk_of(disk), CALL_OPEN);
	return inner->ops->open(inner, error, error_len);
}

static int
unruly_place(struct vhub_blk_disk *disk, int node, char *error, size_t error_len)
{
	struct vhub_blk_disk *inner = disk_of(disk)->inner;

	stall(disk_of(disk), CALL_PLACE);
	return inner->ops->place == NULL ? 0 : inner->ops->place(inner, node, error, error_len);
}

static void
unruly_memory(struct vhub_blk_disk *disk, struct vhub_mem_table *mem)
{
	struct vhub_blk_disk *inner = disk_of(disk)->inner;

	if (inner->ops->memory != NULL)
		inner->ops->memory(inner, mem);
}

static void
unruly_destroy(struct vhub_blk_disk *disk)
{
	struct unruly_disk *d = disk_of(disk);

	stall(d, CALL_DESTROY);
	d->inner->ops->destroy(d->inner);
	free(d->stall);
	free(d->hold);
	free(d);
}

static void
unruly_info(const struct vhub_blk_disk *disk, struct vhub_blk_info *info)
{
	const struct vhub_blk_disk *inner = disk_of(disk)->inner;

	inner->ops->info(inner, info);
}

static int
unruly_lock(struct vhub_blk_disk *disk, bool locked, char *error, size_t error_len)
{
	struct vhub_blk_disk *inner = disk_of(disk)->inner;

	stall(disk_of(disk), CALL_LOCK);
	return inner->ops->lock == NULL ? 0 : inner->ops->lock(inner, locked, error, error_len);
}

static int
unruly_resize(struct vhub_blk_disk *disk, uint64_t size_bytes, char *error, size_t error_len)
{
	struct vhub_blk_disk *inner = disk_of(disk)->inner;

	stall(disk_of(disk), CALL_RESIZE);
	if (inner->ops->resize == NULL) {
		snprintf(error, error_len, "driver=%s has one size for ever", inner->ops->name);
		return -ENOTSUP;
	}
	return inner->ops->resize(inner, size_bytes, error, error_len);
}

static int
unruly_save(struct vhub_blk_disk *disk, char *error, size_t error_len)
{
	struct vhub_blk_disk *inner = disk_of(disk)->inner;

	return inner->ops->save(inner, error, error_len);
}

static int
unruly_queue_get(struct vhub_blk_disk *disk, struct vhub_blk_queue **out)
{
	const struct unruly_disk *d = disk_of(disk);
	struct unruly_queue *q = calloc(1, sizeof(*q));
	int ret;

	if (q == NULL)
		return -ENOMEM;
	ret = d->inner->ops->queue_get(d->inner, &q->inner);
	if (ret != 0) {
		free(q);
		return ret;
	}
	q->queue.disk = disk;
	q->disk = d;
	q->cycles_per_us = rte_get_tsc_hz() / 1000000;
	q->random = 0x9e3779b97f4a7c15u;
	*out = &q->queue;
	return 0;
}

static void
unruly_queue_put(struct vhub_blk_queue *queue)
{
	struct unruly_queue *q = queue_of(queue);

	q->disk->inner->ops->queue_put(q->inner);
	free(q);
}

/* xorshift: any numbers do that have no pattern. */
static uint64_t
random_below(struct unruly_queue *q, uint64_t below)
{
	q->random ^= q->random << 13;
	q->random ^= q->random >> 7;
	q->random ^= q->random << 17;
	return q->random % below;
}

static uint16_t
unruly_submit(struct vhub_blk_queue *queue, struct vhub_blk_io *const *ios, uint16_t n)
{
	struct unruly_queue *q = queue_of(queue);
	const struct unruly_disk *d = q->disk;
	const uint16_t accepted = RTE_MIN(n, (uint16_t)(MAX_WAITING - q->n_waiting));
	const uint64_t now = rte_rdtsc();

	for (uint16_t i = 0; i < accepted; i++) {
		uint64_t us = d->delay_us + (d->shuffle ? random_below(q, SHUFFLE_US) : 0);

		q->n_submitted++;
		ios[i]->driver[IO_DUE] = now + us * q->cycles_per_us;
		ios[i]->driver[IO_FAILS] = d->fail_every != 0 &&
						q->n_submitted % d->fail_every == 0 ?
				EIO :
				0;
		q->waiting[q->n_waiting++] = ios[i];
	}
	return accepted;
}

/* Of what is to fail only what was cancelled goes out while the rest is held. */
static bool
is_due(const struct vhub_blk_io *io, uint64_t now, bool held)
{
	return io->driver[IO_DUE] <= now && (!held || io->driver[IO_FAILS] == ECANCELED);
}

/* Gives the driver what is due and has room there; what fails goes out at once. */
static uint16_t
pass_on(struct unruly_queue *q, struct vhub_blk_io **failed, uint16_t max)
{
	const bool held = q->n_waiting != 0 && stall_is_there(q->disk->hold);
	const uint64_t now = rte_rdtsc();
	uint16_t n_left = 0, n_failed = 0;

	for (uint16_t i = 0; i < q->n_waiting; i++) {
		struct vhub_blk_io *io = q->waiting[i];
		bool gone = false;

		if (is_due(io, now, held) && io->driver[IO_FAILS] == 0) {
			gone = q->disk->inner->ops->submit(q->inner, &io, 1) == 1;
			q->n_inner += gone;
		} else if (is_due(io, now, held) && n_failed < max) {
			io->result = -(int32_t)io->driver[IO_FAILS];
			failed[n_failed++] = io;
			gone = true;
		}
		if (!gone)
			q->waiting[n_left++] = io;
	}
	q->n_waiting = n_left;
	return n_failed;
}

static uint16_t
unruly_reap(struct vhub_blk_queue *queue, struct vhub_blk_io **ios, uint16_t max)
{
	struct unruly_queue *q = queue_of(queue);
	uint16_t n_failed = pass_on(q, ios, max), n;

	n = q->disk->inner->ops->reap(q->inner, ios + n_failed, (uint16_t)(max - n_failed));
	q->n_inner -= n;
	return (uint16_t)(n_failed + n);
}

static void
unruly_cancel(struct vhub_blk_queue *queue, vhub_blk_pick_fn wanted, const void *arg)
{
	struct unruly_queue *q = queue_of(queue);
	const struct vhub_blk_driver_ops *ops = q->disk->inner->ops;

	for (uint16_t i = 0; i < q->n_waiting; i++) {
		struct vhub_blk_io *io = q->waiting[i];

		if (wanted(io, arg)) {
			io->driver[IO_DUE] = 0;
			io->driver[IO_FAILS] = ECANCELED;
		}
	}
	if (ops->cancel != NULL)
		ops->cancel(q->inner, wanted, arg);
}

/* Nobody wakes the lcore when a delay is over. */
static int
unruly_arm(struct vhub_blk_queue *queue)
{
	struct unruly_queue *q = queue_of(queue);
	const struct vhub_blk_driver_ops *ops = q->disk->inner->ops;

	if (q->n_waiting != 0)
		return -EAGAIN;
	if (q->n_inner == 0)
		return 0;
	return ops->arm == NULL ? -ENOTSUP : ops->arm(q->inner);
}

/* Ours, and those of every driver that was there before us. */
static const char *unruly_keys[MAX_KEYS + 1] = { "over", "shuffle", "delay_us", "fail_every",
	"hold", "stall", "stall_in" };

static const struct vhub_blk_driver_ops unruly_ops = {
	.name = "unruly",
	.help = "over=NAME and its arguments, shuffle=on|off, delay_us=N, fail_every=N, hold=PATH, "
		"stall=PATH, stall_in=open|place|lock|resize|destroy",
	.keys = unruly_keys,
	.parse = unruly_parse,
	.open = unruly_open,
	.place = unruly_place,
	.memory = unruly_memory,
	.destroy = unruly_destroy,
	.info = unruly_info,
	.lock = unruly_lock,
	.queue_get = unruly_queue_get,
	.queue_put = unruly_queue_put,
	.submit = unruly_submit,
	.reap = unruly_reap,
	.cancel = unruly_cancel,
	.arm = unruly_arm,
	.resize = unruly_resize,
	.save = unruly_save,
};

static int
parse_path(const struct rte_kvargs *args, const char *key, char **out, char *error,
		size_t error_len)
{
	const char *path = NULL;
	int ret = vhub_arg_text(args, key, &path, error, error_len);

	if (ret != 0 || path == NULL)
		return ret;
	*out = strdup(path);
	return *out == NULL ? -ENOMEM : 0;
}

static int
parse_own(const struct rte_kvargs *args, struct unruly_disk *d, const char **over, char *error,
		size_t error_len)
{
	int ret = vhub_arg_text(args, "over", over, error, error_len);

	if (ret == 0)
		ret = vhub_arg_bool(args, "shuffle", &d->shuffle, error, error_len);
	if (ret == 0)
		ret = vhub_arg_uint(args, "delay_us", 0, 60000000, &d->delay_us, error, error_len);
	if (ret == 0)
		ret = vhub_arg_uint(args, "fail_every", 1, UINT32_MAX, &d->fail_every, error,
				error_len);
	if (ret == 0)
		ret = parse_path(args, "hold", &d->hold, error, error_len);
	if (ret == 0)
		ret = parse_path(args, "stall", &d->stall, error, error_len);
	if (ret == 0)
		ret = vhub_arg_choice(args, "stall_in", call_names, &d->stall_in, error, error_len);
	return ret;
}

static int
unruly_parse(const struct rte_kvargs *args, bool read_only, struct vhub_blk_disk **out, char *error,
		size_t error_len)
{
	struct unruly_disk *d = calloc(1, sizeof(*d));
	const struct vhub_blk_driver_ops *ops;
	const char *over = NULL;
	int ret;

	if (d == NULL)
		return -ENOMEM;
	d->disk.ops = &unruly_ops;
	d->stall_in = CALL_DESTROY;
	ret = parse_own(args, d, &over, error, error_len);
	if (ret != 0)
		goto err_free;
	ops = over == NULL ? NULL : vhub_blk_driver_find(over);
	if (ops == NULL || ops == &unruly_ops) {
		snprintf(error, error_len, "over=%s: not the name of another driver",
				over == NULL ? "" : over);
		ret = -EINVAL;
		goto err_free;
	}
	ret = ops->parse(args, read_only, &d->inner, error, error_len);
	if (ret != 0)
		goto err_free;
	*out = &d->disk;
	return 0;

err_free:
	free(d->stall);
	free(d->hold);
	free(d);
	return ret;
}

static bool
has_key(const char *key)
{
	for (unsigned int i = 0; unruly_keys[i] != NULL; i++) {
		if (strcmp(unruly_keys[i], key) == 0)
			return true;
	}
	return false;
}

static void __attribute__((constructor(65000))) unruly_register(void)
{
	const struct vhub_blk_driver_ops *ops;
	unsigned int n = 0;

	while (unruly_keys[n] != NULL)
		n++;
	for (unsigned int i = 0; (ops = vhub_blk_driver_at(i)) != NULL; i++) {
		for (const char *const *key = ops->keys; *key != NULL && n < MAX_KEYS; key++) {
			if (!has_key(*key))
				unruly_keys[n++] = *key;
		}
	}
	vhub_registered(vhub_blk_driver_register(&unruly_ops), unruly_ops.name);
}
