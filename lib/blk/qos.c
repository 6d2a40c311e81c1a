/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Limits of a disk: requests and bytes in a second. Called by submit.c around what is taken from a
 * ring, only for disks that have limits; by blk.c before its lcore sleeps; by vhubd's control
 * methods, to change them.
 *
 * A limit is a schedule of when the next unit is due (vhub_meter.h), which the lcores of a disk share.
 * Requests are paid before they are taken. What they move is known only afterwards, so bytes are paid
 * later, and the disk waits until the debt is gone; few are taken at a time, to keep it small. Ranges
 * that are zeroed or erased may be large: ranges.c makes pieces of them and has each of them wait until
 * it is due, in turns with what the rings take. A discard moves no bytes.
 *
 * Rings of an lcore that wait are served in turn: one that is held is the first, and the others take
 * nothing until it has been served.
 *
 * What a former life of a ring had in flight was paid for, if its region says the truth; but a front end can
 * forge one, and restart the ring with it again and again. So it is paid once more. It goes out of turn, and
 * its requests may be somewhat ahead of the schedule, so that an honest ring's seldom wait.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <rte_cycles.h>

#include "blk_pvt.h"

/* Chains taken at once from a disk with a limit on bytes. */
#define BYTES_CHAINS 4u
/* Keeps the schedule from going round, however low a limit is. */
#define MAX_DEBT_S UINT64_C(86400)
/*
 * Ranges of a ring that ends are not held back, but the disk owes what they write, so that a guest gains
 * nothing by resetting it in a loop. Of a few MiB that is seconds at most limits; GiBs of zeroes may be
 * hours, and then the next guest waits no longer than this: half of what Linux bears from a disk before it
 * tells of tasks that hang. What is beyond it is not paid.
 */
#define MAX_DEBT_OF_END_S UINT64_C(60)
/* How far ahead requests of a former life may be: more than most rings have in flight. */
#define MAX_DEBT_OF_REPLAY_S UINT64_C(1)
/* Limits may be changed meanwhile, and nobody wakes a sleeping lcore for that. */
#define MAX_SLEEP_US 100000u
/* Below that a sleep is not worth its system calls. */
#define MIN_SLEEP_US 20u

/* ---- meters ---- */

static uint64_t
next_of(const struct vhub_meter *m, uint64_t now)
{
	return vhub_meter_due(m, __atomic_load_n(&m->next, __ATOMIC_RELAXED), now);
}

/* Pays for up to `max` units of those that are due at `until`, which is not before `now`. Returns how many. */
static uint16_t
take_units(struct vhub_meter *m, uint16_t max, uint64_t now, uint64_t until)
{
	uint64_t old = __atomic_load_n(&m->next, __ATOMIC_RELAXED), next, one;
	uint64_t n;

	one = vhub_meter_cost(m, 1);
	do {
		next = vhub_meter_due(m, old, now);
		if (next > until)
			return 0;
		n = one == 0 ? max : (until - next) / one;
		n = RTE_MIN(n, (uint64_t)max);
		if (n == 0)
			return 0;
		next += vhub_meter_cost(m, n);
	} while (!vhub_meter_move(m, &old, next, now));
	return (uint16_t)n;
}

/* Pays, whether it is due or not, but makes no debt of more than `most_s` seconds. */
static void
pay(struct vhub_meter *m, uint64_t units, uint64_t now, uint64_t most_s)
{
	uint64_t old = __atomic_load_n(&m->next, __ATOMIC_RELAXED), due, next;

	do {
		due = vhub_meter_due(m, old, now);
		next = RTE_MIN(due + vhub_meter_cost(m, units),
				RTE_MAX(due, now + most_s * rte_get_tsc_hz()));
	} while (!vhub_meter_move(m, &old, next, now));
}

/* Cycles until a request can be taken, or a range that waits can go; 0: now. */
static uint64_t
cycles_to_wait(const struct blk_ring *ring, uint64_t now)
{
	const struct blk_qos *qos = &ring->dev->qos;
	uint32_t on = __atomic_load_n(&qos->on, __ATOMIC_ACQUIRE);
	uint64_t due = now;

	if ((on & BLK_QOS_IOPS) != 0 && ring->lcore->held_ios == NULL)
		due = RTE_MAX(due, next_of(&qos->iops, now) + vhub_meter_cost(&qos->iops, 1));
	if ((on & BLK_QOS_BYTES) != 0)
		due = RTE_MAX(due, next_of(&qos->bytes, now));
	return due - now;
}

/* ---- rings ---- */

/*
 * The ring can take nothing. It waits in front of the others of its lcore, if it has anything to
 * wait for; what a guest puts in later is announced by its kick.
 */
static void
hold(struct blk_ring *ring)
{
	struct blk_lcore *lcore = ring->lcore;
	bool waits = vhub_virtq_has_work(ring->vring->vq);

	if (waits && !ring->vring->held)
		vhub_count(&ring->stats->s.held, 1);
	ring->vring->held = waits;
	if (waits && lcore->first_held == NULL)
		lcore->first_held = ring;
	else if (!waits && lcore->first_held == ring)
		lcore->first_held = NULL;
}

void
blk_qos_let_go(struct blk_ring *ring)
{
	ring->vring->held = false;
	if (ring->lcore->first_held == ring)
		ring->lcore->first_held = NULL;
}

/*
 * How far ahead the ring may pay. One that drains and has something left of a former life is waited for, as long
 * as its front end is there, and waits itself only where the disk owes very much: hardly any region but a forged
 * one brings that about.
 */
struct room {
	uint64_t iops_until;
	uint64_t bytes_until;
};

static struct room
room_of(const struct blk_ring *ring, bool replays, uint64_t now)
{
	const uint64_t hz = rte_get_tsc_hz();

	if (!replays)
		return (struct room){ now, now };
	if (!blk_ring_ends(ring))
		return (struct room){ now + MAX_DEBT_OF_REPLAY_S * hz, now };
	return (struct room){ now + MAX_DEBT_OF_END_S * hz, now + MAX_DEBT_OF_END_S * hz };
}

uint16_t
blk_qos_allow(struct blk_ring *ring, uint16_t max, uint16_t *paid)
{
	struct blk_qos *qos = &ring->dev->qos;
	const struct blk_lcore *lcore = ring->lcore;
	const bool replays = vhub_virtq_to_replay(ring->vring->vq) != 0;
	uint32_t on = __atomic_load_n(&qos->on, __ATOMIC_ACQUIRE);
	uint64_t now = rte_rdtsc();
	const struct room room = room_of(ring, replays, now);
	uint16_t n = max;

	*paid = 0;
	if (on == 0) {
		blk_qos_let_go(ring);
		return max;
	}
	if (!replays && lcore->first_held != NULL && lcore->first_held != ring)
		n = 0;
	if (!replays && lcore->held_ios != NULL && lcore->held_ios_next)
		n = 0;
	if ((on & BLK_QOS_BYTES) != 0)
		n = next_of(&qos->bytes, now) > room.bytes_until ? 0 : RTE_MIN(n, BYTES_CHAINS);
	if ((on & BLK_QOS_IOPS) != 0 && n != 0)
		*paid = n = take_units(&qos->iops, n, now, room.iops_until);
	if (n == 0)
		hold(ring);
	else
		blk_qos_let_go(ring);
	return n;
}

void
blk_qos_account(struct blk_ring *ring, uint16_t paid, uint16_t taken)
{
	struct blk_qos *qos = &ring->dev->qos;

	if (taken < paid)
		vhub_meter_give_back(&qos->iops, paid - taken);
}

void
blk_qos_account_bytes(struct blk_ring *ring, uint64_t bytes)
{
	struct blk_qos *qos = &ring->dev->qos;
	uint32_t on = __atomic_load_n(&qos->on, __ATOMIC_ACQUIRE);

	if ((on & BLK_QOS_BYTES) != 0 && bytes != 0) {
		pay(&qos->bytes, bytes, rte_rdtsc(), MAX_DEBT_S);
		ring->lcore->held_ios_next = true;
	}
}

bool
blk_qos_counts_bytes(const struct blk_ring *ring)
{
	return (__atomic_load_n(&ring->dev->qos.on, __ATOMIC_ACQUIRE) & BLK_QOS_BYTES) != 0;
}

bool
blk_qos_pay_range(struct blk_ring *ring, uint64_t bytes)
{
	struct vhub_meter *m = &ring->dev->qos.bytes;
	const bool ends = blk_ring_ends(ring);
	uint64_t now = rte_rdtsc();

	if (!blk_qos_counts_bytes(ring))
		return true;
	if (!ends && next_of(m, now) > now)
		return false;
	pay(m, bytes, now, ends ? MAX_DEBT_OF_END_S : MAX_DEBT_S);
	ring->lcore->held_ios_next = false;
	return true;
}

/* ---- sleeping ---- */

static int
open_timer(struct blk_lcore *lcore)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (vhub_lcore_self() == NULL || vhub_lcore_add_wake_fd(fd) != 0) {
		close(fd);
		return -ENOTSUP;
	}
	lcore->timer_fd_1 = fd + 1;
	return 0;
}

int
blk_qos_arm(struct blk_ring *ring)
{
	struct blk_lcore *lcore = ring->lcore;
	uint64_t wait = cycles_to_wait(ring, rte_rdtsc());
	uint64_t us = (uint64_t)((unsigned __int128)wait * 1000000 / rte_get_tsc_hz());
	struct itimerspec when = { 0 };

	if (us < MIN_SLEEP_US)
		return -EAGAIN;
	if (lcore->timer_fd_1 == 0 && open_timer(lcore) != 0)
		return -EAGAIN;
	when.it_value.tv_nsec = (long)(RTE_MIN(us, MAX_SLEEP_US) * 1000);
	return timerfd_settime(lcore->timer_fd_1 - 1, 0, &when, NULL) == 0 ? 0 : -EAGAIN;
}

void
blk_qos_close(struct blk_lcore *lcore)
{
	if (lcore->timer_fd_1 == 0)
		return;
	vhub_lcore_remove_wake_fd(lcore->timer_fd_1 - 1);
	close(lcore->timer_fd_1 - 1);
	lcore->timer_fd_1 = 0;
}

/* ---- setting ---- */

int
blk_qos_check(const struct vhub_blk_qos *set, char *error, size_t error_len)
{
	if (set->iops > VHUB_BLK_QOS_MAX_IOPS) {
		snprintf(error, error_len, "iops=%" PRIu64 ": allowed: 0 (no limit) to %" PRIu64,
				set->iops, VHUB_BLK_QOS_MAX_IOPS);
		return -EINVAL;
	}
	if (set->bytes_per_s != 0 &&
			(set->bytes_per_s < VHUB_BLK_QOS_MIN_BYTES ||
					set->bytes_per_s > VHUB_BLK_QOS_MAX_BYTES)) {
		snprintf(error, error_len,
				"bytes_per_s=%" PRIu64 ": allowed: 0 (no limit), %" PRIu64
				" to %" PRIu64,
				set->bytes_per_s, VHUB_BLK_QOS_MIN_BYTES, VHUB_BLK_QOS_MAX_BYTES);
		return -EINVAL;
	}
	if (set->iops_burst > VHUB_BLK_QOS_MAX_IOPS || set->bytes_burst > VHUB_BLK_QOS_MAX_BYTES) {
		snprintf(error, error_len,
				"iops_burst=%" PRIu64 ", bytes_burst=%" PRIu64
				": allowed: up to %" PRIu64 " and %" PRIu64,
				set->iops_burst, set->bytes_burst, VHUB_BLK_QOS_MAX_IOPS,
				VHUB_BLK_QOS_MAX_BYTES);
		return -EINVAL;
	}
	return 0;
}

void
blk_qos_set(struct blk_qos *qos, const struct vhub_blk_qos *set)
{
	uint32_t on = 0;

	if (set->iops != 0) {
		vhub_meter_set(&qos->iops, set->iops, set->iops_burst, 1);
		on |= BLK_QOS_IOPS;
	}
	if (set->bytes_per_s != 0) {
		vhub_meter_set(&qos->bytes, set->bytes_per_s, set->bytes_burst, 1);
		on |= BLK_QOS_BYTES;
	}
	qos->set = *set;
	/* Pairs with the loads on lcores. */
	__atomic_store_n(&qos->on, on, __ATOMIC_RELEASE);
}

int
vhub_blk_set_qos(struct vhub_device *device, const struct vhub_blk_qos *set, char *error,
		size_t error_len)
{
	struct blk_dev *dev = blk_dev_find_or_say(device, error, error_len);
	int ret;

	if (dev == NULL)
		return -EINVAL;
	ret = blk_qos_check(set, error, error_len);
	if (ret == 0)
		blk_qos_set(&dev->qos, set);
	return ret;
}

int
vhub_blk_get_qos(const struct vhub_device *device, struct vhub_blk_qos *set)
{
	const struct blk_dev *dev = blk_dev_find(device);

	if (dev == NULL)
		return -EINVAL;
	*set = dev->qos.set;
	return 0;
}
