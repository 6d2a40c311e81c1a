/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device for the tests of lib/device: takes chains, holds them until it is told to let go, and
 * notes what is done to it. Its two queues live on two lcores.
 */
#ifndef HOLDING_DEVICE_H
#define HOLDING_DEVICE_H

#include <errno.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vhub_device.h"

#define HOLD_QUEUES 4

struct hold_queue {
	struct vhub_chain *held[64];
	uint32_t n_held;       /* shared atomic */
	uint32_t lcore_id;     /* that polled it; shared atomic */
	bool others_in_flight; /* at the stop: another queue had not drained */
	uint32_t starts;
	uint32_t stops;
};

struct hold_device {
	struct vhub_device dev;
	uint32_t holding; /* shared atomic */
	struct hold_queue queues[HOLD_QUEUES];
	uint8_t config[16];
	uint8_t state;
	int running_changes;
	bool running;
	bool locked;
	int not_yet;		 /* so often it cannot be locked */
	bool lock_waits_for_ctl; /* and for how often it did in vain: */
	int ctl_stood_still;
	struct vhub_msg ctl_msg;
	sem_t ctl_came;
	int resets;
	uint8_t kept; /* to be kept, or recalled */
	int recalls;
	uint32_t refusing; /* shared atomic: lcores, by index, on which no queue starts */
	int prepare_result;

	/* hold_let_go_soon() */
	struct vhub_msg soon_msg;
	struct vhub_timer soon;
};

static inline struct hold_device *
hold_of(struct vhub_device *dev)
{
	return (struct hold_device *)(void *)dev;
}

static inline struct hold_queue *
hold_queue_of(struct vhub_vring *vring)
{
	return &hold_of(vring->dev)->queues[vring->index];
}

static inline void
hold_destroy(struct vhub_device *dev)
{
	(void)dev;
}

static inline int
hold_config_read(struct vhub_device *dev, uint32_t offset, void *buf, uint32_t len)
{
	memcpy(buf, hold_of(dev)->config + offset, len);
	return 0;
}

static inline int
hold_prepare(struct vhub_device *dev, struct vhub_vring *vring)
{
	(void)vring;
	return hold_of(dev)->prepare_result;
}

static inline int
hold_start(struct vhub_vring *vring)
{
	const struct hold_device *hold = hold_of(vring->dev);

	if ((__atomic_load_n(&hold->refusing, __ATOMIC_ACQUIRE) >> vhub_lcore_index(vring->lcore) &
			    1) != 0)
		return -ENOSPC;
	hold_queue_of(vring)->starts++;
	return 0;
}

static inline unsigned int
hold_poll(struct vhub_vring *vring)
{
	struct hold_queue *q = hold_queue_of(vring);
	uint32_t n = __atomic_load_n(&q->n_held, __ATOMIC_RELAXED);
	unsigned int done = 0;

	__atomic_store_n(&q->lcore_id, vhub_lcore_id(vhub_lcore_self()), __ATOMIC_RELAXED);
	if (vring->taking && n < 64)
		done = vhub_virtq_pop(vring->vq, q->held + n, (uint16_t)(64 - n));
	n += done;
	if (n > 0 && __atomic_load_n(&hold_of(vring->dev)->holding, __ATOMIC_ACQUIRE) == 0) {
		vhub_virtq_push(vring->vq, q->held, (uint16_t)n);
		vhub_virtq_notify(vring->vq);
		n = 0;
		done++;
	}
	__atomic_store_n(&q->n_held, n, __ATOMIC_RELEASE);
	return done;
}

/* What it holds is in flight, and the ring is not asked then. */
static inline bool
hold_park(struct vhub_vring *vring, struct vhub_lcore_word *word)
{
	return !vring->taking || vhub_virtq_park(vring->vq, word);
}

static inline void
hold_stop(struct vhub_vring *vring)
{
	struct hold_device *hold = hold_of(vring->dev);
	unsigned int i;

	for (i = 0; i < HOLD_QUEUES; i++) {
		if (__atomic_load_n(&hold->queues[i].n_held, __ATOMIC_ACQUIRE) != 0)
			hold_queue_of(vring)->others_in_flight = true;
	}
	hold_queue_of(vring)->stops++;
}

static inline void
hold_release(struct vhub_device *dev, struct vhub_vring *vring)
{
	(void)dev;
	(void)vring;
}

static inline uint8_t
hold_keep(const struct vhub_device *dev)
{
	return ((const struct hold_device *)(const void *)dev)->kept;
}

static inline void
hold_recall(struct vhub_device *dev, uint8_t byte)
{
	hold_of(dev)->kept = byte;
	hold_of(dev)->recalls++;
}

static inline void
hold_set_running(struct vhub_device *dev, bool running)
{
	hold_of(dev)->running = running;
	hold_of(dev)->running_changes++;
}

static inline void
hold_ctl_comes(struct vhub_msg *msg)
{
	sem_post(&vhub_container_of(msg, struct hold_device, ctl_msg)->ctl_came);
}

/* As a file server that answers only once the control thread has done something else, or after five seconds. */
static inline void
hold_wait_for_ctl(struct hold_device *hold)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += 5;
	hold->ctl_msg.fn = hold_ctl_comes;
	vhub_loop_post(hold->dev.executor.loop, &hold->ctl_msg);
	if (sem_timedwait(&hold->ctl_came, &end) != 0)
		hold->ctl_stood_still++;
}

static inline int
hold_lock(struct vhub_device *dev, bool locked, char *error, size_t error_len)
{
	struct hold_device *hold = hold_of(dev);

	(void)error;
	(void)error_len;
	if (hold->lock_waits_for_ctl)
		hold_wait_for_ctl(hold);
	if (locked && hold->not_yet > 0) {
		hold->not_yet--;
		return -EAGAIN;
	}
	hold->locked = locked;
	return 0;
}

static inline void
hold_reset(struct vhub_device *dev)
{
	hold_of(dev)->resets++;
}

static inline int
hold_snapshot(struct vhub_device *dev, void *buf, uint32_t len)
{
	if (len < 1)
		return -ENOSPC;
	memcpy(buf, &hold_of(dev)->state, 1);
	return 1;
}

static inline int
hold_restore(struct vhub_device *dev, const void *buf, uint32_t len)
{
	if (len != 1)
		return -EINVAL;
	memcpy(&hold_of(dev)->state, buf, 1);
	return 0;
}

/* The one byte that a guest may write is the one that is kept. */
static inline int
hold_config_write(struct vhub_device *dev, uint32_t offset, const void *buf, uint32_t len,
		bool migration)
{
	(void)migration;
	if (offset != 0 || len != 1)
		return -EPERM;
	memcpy(&hold_of(dev)->kept, buf, 1);
	return 0;
}

static const struct vhub_device_ops hold_ops = {
	.destroy = hold_destroy,
	.config_read = hold_config_read,
	.config_write = hold_config_write,
	.queue_prepare = hold_prepare,
	.queue_start = hold_start,
	.queue_poll = hold_poll,
	.queue_park = hold_park,
	.queue_stop = hold_stop,
	.queue_release = hold_release,
	.set_running = hold_set_running,
	.lock = hold_lock,
	.reset = hold_reset,
	.keep = hold_keep,
	.recall = hold_recall,
	.snapshot = hold_snapshot,
	.restore = hold_restore,
};

static inline void
hold_init(struct hold_device *hold, struct vhub_loop *loop)
{
	memset(hold, 0, sizeof(*hold));
	sem_init(&hold->ctl_came, 0, 0);
	hold->dev.ops = &hold_ops;
	strcpy(hold->dev.name, "hold");
	hold->dev.max_queues = HOLD_QUEUES;
	hold->dev.features = VHUB_VIRTQ_FEATURES;
	hold->dev.config_bytes = sizeof(hold->config);
	hold->dev.chain_bytes = sizeof(struct vhub_chain);
	hold->dev.locks = true;
	hold->dev.executor.loop = loop;
	hold->dev.executor.n_lcores = 2;
	hold->dev.executor.lcores[0] = vhub_lcore_at(0);
	hold->dev.executor.lcores[1] = vhub_lcore_at(1);
}

static inline void
hold_let_go(struct hold_device *hold)
{
	__atomic_store_n(&hold->holding, 0, __ATOMIC_RELEASE);
}

static inline void
hold_soon(struct vhub_timer *timer)
{
	hold_let_go(vhub_container_of(timer, struct hold_device, soon));
}

static inline void
hold_arm_soon(struct vhub_msg *msg)
{
	struct hold_device *hold = vhub_container_of(msg, struct hold_device, soon_msg);

	vhub_timer_arm(hold->dev.executor.loop, &hold->soon, 50000);
}

/* Lets go a moment later, when the front end that asks for it has left. */
static inline void
hold_let_go_soon(struct hold_device *hold)
{
	hold->soon.fn = hold_soon;
	hold->soon_msg.fn = hold_arm_soon;
	vhub_loop_post(hold->dev.executor.loop, &hold->soon_msg);
}

/* Waits, up to five seconds, until queue `i` holds `n`. */
static inline bool
hold_wait(struct hold_device *hold, unsigned int i, uint32_t n)
{
	int tries;

	for (tries = 0; tries < 30000; tries++) {
		if (__atomic_load_n(&hold->queues[i].n_held, __ATOMIC_ACQUIRE) == n)
			return true;
		usleep(1000);
	}
	return false;
}

#endif /* HOLDING_DEVICE_H */
