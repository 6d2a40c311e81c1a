/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A started vring on its lcore. Operations come from lifecycle.c as messages; between them the
 * lcore polls, or looks whether the guest offers something (runtime/park.c). Next on the way of a request: the device's queue_poll (for disks: blk/blk.c).
 */
#include <errno.h>

#include <rte_cycles.h>

#include "lifecycle.h"
#include "vhub_kick.h"
#include "vring.h"

static void
broken_on_ctl(struct vhub_msg *msg)
{
	struct vring_run *vring = vhub_container_of(msg, struct vring_run, broken_msg);

	vring->broken(vring);
}

static bool
is_foreign(const struct vring_run *vring)
{
	return vring->pub.vq == NULL;
}

static bool
is_stuck(const struct vring_run *vring)
{
	return is_foreign(vring) ? vring->pub.stuck :
				   vhub_virtq_broken(vring->pub.vq) == VHUB_VIRTQ_NOTIFY_STUCK;
}

/* A library tells nobody what it thinks of a guest's ring: only our notifications can fail. */
static bool
is_broken(const struct vring_run *vring)
{
	return is_foreign(vring) ? vring->pub.stuck :
				   vhub_virtq_broken(vring->pub.vq) != VHUB_VIRTQ_OK;
}

/* Tells the front end through its err fd ("VHOST_USER_SET_VRING_ERR") and CTL, once. */
static void
tell_broken(struct vring_run *vring)
{
	vring->broken_told = true;
	vring->pub.taking = false;
	vring->stuck = is_stuck(vring);
	if (vring->err_fd >= 0 &&
			vhub_lcore_notify_fd(vring->err_fd, vring->pub.notify_account) == -EINTR)
		vring->stuck = true;
	vhub_loop_post(vring->loop, &vring->broken_msg);
}

/* Relaxed: nothing comes with it. Pairs with rings_front_end_gone(). */
static bool
is_gone(const struct vring_run *vring)
{
	return __atomic_load_n(&vring->gone, __ATOMIC_RELAXED);
}

static void
update_taking(struct vring_run *vring)
{
	/* A ring that drains may be asked too: it gives only what a former life left in flight. */
	if (vring->suspending || is_gone(vring))
		vring->pub.taking = false;
	else if (vring->pub.dev->discards)
		vring->pub.taking = !vring->draining && !vring->broken_told;
	else
		vring->pub.taking = (vring->pub.enabled || vring->draining) && !vring->broken_told;
}

static bool
is_in_flight_abroad(const struct vring_run *vring)
{
	const struct vhub_foreign_ops *foreign = vring->pub.dev->foreign;

	return foreign->in_flight != NULL && foreign->in_flight(&vring->pub);
}

/* Nothing is in flight, neither of this life of the ring nor, while its front end is there, of a former one. */
static bool
is_drained(const struct vring_run *vring)
{
	if (is_foreign(vring))
		return !is_in_flight_abroad(vring);
	return vhub_virtq_in_flight(vring->pub.vq) == 0 &&
			(is_gone(vring) || vhub_virtq_to_replay(vring->pub.vq) == 0);
}

/* What a DRAIN or a SUSPEND waits for. */
static bool
is_at_rest(const struct vring_run *vring)
{
	return vring->suspending ? vhub_virtq_under_way(vring->pub.vq) == 0 : is_drained(vring);
}

static void
op_done(struct vring_run *vring, int result)
{
	vring->result = result;
	vring->msg.fn = lifecycle_vring_done;
	if (vring->home == vhub_lcore_self())
		lifecycle_vring_done(&vring->msg);
	else
		vhub_lcore_post(vring->home, &vring->msg);
}

static void
drained(struct vhub_msg *msg)
{
	struct vring_run *vring = vhub_container_of(msg, struct vring_run, msg);

	op_done(vring, vring->result);
}

/* A drain that waits is over: by a message to ourselves, see vring_poll(). */
static void
end_drain(struct vring_run *vring, int result)
{
	vring->drain_pending = false;
	vring->result = result;
	vring->msg.fn = drained;
	vhub_lcore_post(vring->pub.lcore, &vring->msg);
}

static bool
is_overdue(const struct vring_run *vring)
{
	return vring->want.drain_until != 0 &&
			!vhub_tsc_is_ahead(vring->want.drain_until, rte_rdtsc(),
					rte_get_tsc_hz() * VRING_DRAIN_SECONDS);
}

static unsigned int
vring_poll(struct vhub_poller *poller)
{
	struct vring_run *vring = vhub_container_of(poller, struct vring_run, poller);
	unsigned int n = vring->pub.dev->ops->queue_poll(&vring->pub);

	if (is_broken(vring) && !vring->broken_told)
		tell_broken(vring);
	/*
	 * What follows may free this vring on CTL, and the lcore's loop still has to come back
	 * through this poller.
	 */
	if (vring->drain_pending) {
		if (is_gone(vring))
			update_taking(vring);
		if (is_at_rest(vring))
			end_drain(vring, 0);
		else if (is_overdue(vring))
			end_drain(vring, -ETIMEDOUT);
	}
	return n;
}

static int
vring_arm(struct vhub_poller *poller)
{
	struct vring_run *vring = vhub_container_of(poller, struct vring_run, poller);
	const struct vhub_device_ops *ops = vring->pub.dev->ops;
	int ret;

	/* Somebody has to look at the clock. */
	if (vring->drain_pending && vring->want.drain_until != 0)
		return -ENOTSUP;
	/* A ring may drain with another one of its queue. */
	if (is_foreign(vring) && is_in_flight_abroad(vring))
		return -EAGAIN;
	/* Nobody wakes the lcore for what only the polls of such a ring bring to its end. */
	if (vring->drain_pending && (is_foreign(vring) || ops->ring_arm != NULL))
		return -EAGAIN;
	if (ops->ring_arm != NULL)
		return vring->pub.taking ? ops->ring_arm(&vring->pub) : 0;
	if (vhub_virtq_in_flight(vring->pub.vq) != 0 || vring->pub.held) {
		ret = ops->queue_arm == NULL ? -ENOTSUP : ops->queue_arm(&vring->pub);
		if (ret != 0)
			return ret;
	}
	if (!vring->pub.taking || vring->pub.held)
		return 0;
	if (!vhub_kick_wakes(vring->pub.kick))
		return -ENOTSUP;
	return vhub_virtq_arm(vring->pub.vq);
}

static void
ask_for_no_kicks(struct vring_run *vring)
{
	const struct vhub_device_ops *ops = vring->pub.dev->ops;

	if (ops->ring_disarm != NULL)
		ops->ring_disarm(&vring->pub);
	else
		vhub_virtq_disarm(vring->pub.vq);
}

static void
vring_disarm(struct vhub_poller *poller)
{
	struct vring_run *vring = vhub_container_of(poller, struct vring_run, poller);

	if (vring->pub.taking)
		ask_for_no_kicks(vring);
}

/* Who has something to say of it or to give to it resumes it: operations, vhub_vring_resume(). */
static bool
vring_park(struct vhub_poller *poller, struct vhub_lcore_word *word)
{
	struct vring_run *vring = vhub_container_of(poller, struct vring_run, poller);
	const struct vhub_device_ops *ops = vring->pub.dev->ops;

	if (ops->queue_park == NULL || is_foreign(vring) || vring->drain_pending ||
			!is_drained(vring))
		return false;
	return ops->queue_park(&vring->pub, word);
}

static bool
vring_is_meant(struct vhub_poller *poller)
{
	struct vring_run *vring = vhub_container_of(poller, struct vring_run, poller);
	const struct vhub_device_ops *ops = vring->pub.dev->ops;

	return ops->queue_is_meant != NULL && ops->queue_is_meant(&vring->pub);
}

static void
vring_resume(struct vhub_poller *poller)
{
	struct vring_run *vring = vhub_container_of(poller, struct vring_run, poller);

	if (vring->pub.dev->ops->queue_resume != NULL)
		vring->pub.dev->ops->queue_resume(&vring->pub);
}

static const struct vhub_poller_ops vring_poller_ops = {
	.poll = vring_poll,
	.arm = vring_arm,
	.disarm = vring_disarm,
	.park = vring_park,
	.is_meant = vring_is_meant,
	.resume = vring_resume,
};

/* The ring takes what its guest offers again. */
static void
end_draining(struct vring_run *vring)
{
	vring->draining = false;
	vring->suspending = false;
	if (!is_foreign(vring))
		vhub_virtq_replay_only(vring->pub.vq, false);
	update_taking(vring);
}

static int
op_start(struct vring_run *vring)
{
	int ret;

	ret = vring->pub.dev->ops->queue_start(&vring->pub);
	if (ret != 0)
		return ret;
	/* A ring that comes from another lcore was drained there. */
	end_draining(vring);
	if (!vring->broken_told)
		ask_for_no_kicks(vring);
	vhub_lcore_add_poller(&vring->poller);
	return 0;
}

/* What the ring of ours takes over. */
static void
apply_to_virtq(struct vring_run *vring)
{
	const struct vring_want *want = &vring->want;
	struct vhub_virtq *vq = vring->pub.vq;

	if ((want->mask & VRING_WANT_CALL) != 0)
		vhub_virtq_set_call_fd(vq, want->call_fd);
	if ((want->mask & VRING_WANT_MEM) != 0)
		vring->old_mem = vhub_virtq_set_mem(vq, want->mem, want->desc, want->avail,
				want->used);
	if ((want->mask & VRING_WANT_LOG) != 0)
		vring->old_log = vhub_virtq_set_log(vq, want->log, want->log_used,
				want->used_log_gpa);
}

static int
op_apply(struct vring_run *vring)
{
	const struct vring_want *want = &vring->want;

	if ((want->mask & VRING_WANT_KICK) != 0) {
		vring->old_kick = vring->pub.kick;
		vring->pub.kick = want->kick;
	}
	if ((want->mask & VRING_WANT_CALL) != 0)
		vring->pub.call_fd = want->call_fd;
	if ((want->mask & VRING_WANT_ERR) != 0)
		vring->err_fd = want->err_fd;
	if ((want->mask & VRING_WANT_ENABLED) != 0)
		vring->pub.enabled = want->enabled;
	if (!is_foreign(vring))
		apply_to_virtq(vring);
	end_draining(vring);
	return 0;
}

/* What the stop itself tells the guest may be what breaks the ring: a call fd that blocks. */
static int
op_stop(struct vring_run *vring)
{
	vhub_lcore_remove_poller(&vring->poller);
	vring->pub.dev->ops->queue_stop(&vring->pub);
	if (is_broken(vring) && !vring->broken_told)
		tell_broken(vring);
	return 0;
}

/* Returns true when the drain is not over yet: vring_poll() will end it. */
static bool
op_drain(struct vring_run *vring)
{
	vring->draining = true;
	if (!is_foreign(vring))
		vhub_virtq_replay_only(vring->pub.vq, true);
	update_taking(vring);
	vring->drain_pending = !is_drained(vring);
	return vring->drain_pending;
}

/*
 * As above. What a former life left in flight stays there as well. Without a region to leave it in, or
 * a device that can, all of it is done first.
 */
static bool
op_suspend(struct vring_run *vring)
{
	const struct vhub_device_ops *ops = vring->pub.dev->ops;

	if (is_foreign(vring) || ops->queue_suspend == NULL ||
			!vhub_virtq_has_inflight(vring->pub.vq))
		return op_drain(vring);
	vring->suspending = true;
	update_taking(vring);
	ops->queue_suspend(&vring->pub);
	vring->drain_pending = !is_at_rest(vring);
	return vring->drain_pending;
}

bool
vring_has_left(const struct vring_run *vring)
{
	return vring->suspending && !is_drained(vring);
}

void
vhub_vring_notify(struct vhub_vring *vring)
{
	if (vring->call_fd >= 0 &&
			vhub_lcore_notify_fd(vring->call_fd, vring->notify_account) == -EINTR)
		vring->stuck = true;
}

void
vhub_vring_resume(struct vhub_vring *vring)
{
	vhub_lcore_resume(&vhub_container_of(vring, struct vring_run, pub)->poller);
}

void
vring_init(struct vring_run *vring)
{
	vring->poller.ops = &vring_poller_ops;
	vring->broken_msg.fn = broken_on_ctl;
}

void
vring_run_op(struct vhub_msg *msg)
{
	struct vring_run *vring = vhub_container_of(msg, struct vring_run, msg);

	/* What it waits for may lie in memory that goes. */
	if (vring->op != VRING_OP_START)
		vhub_lcore_resume(&vring->poller);
	switch (vring->op) {
	case VRING_OP_START:
		op_done(vring, op_start(vring));
		break;
	case VRING_OP_DRAIN:
		if (!op_drain(vring))
			op_done(vring, 0);
		break;
	case VRING_OP_SUSPEND:
		if (!op_suspend(vring))
			op_done(vring, 0);
		break;
	case VRING_OP_APPLY:
		op_done(vring, op_apply(vring));
		break;
	case VRING_OP_STOP:
		op_done(vring, op_stop(vring));
		break;
	}
}
