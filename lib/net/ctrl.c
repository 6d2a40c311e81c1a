/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control queue's turn: one command is taken, carried out (ctrl_commands.c, next), and answered
 * when every lcore has taken notice. Called by net.c and config.c.
 */
#include <errno.h>
#include <string.h>

#include <linux/virtio_net.h>

#include <rte_cycles.h>
#include <rte_rcu_qsbr.h>

#include "net_pvt.h"
#include "vhub_kick.h"

/* So long a command waits for pairs to open, at most. */
#define OPEN_MS 10u

/* ---- life ---- */

/*
 * A guest that has just begun: everything reaches it, by its first pair (5.1.6.5.1, 5.1.6.5.5). Of one whose commands
 * another back end has heard nobody knows its VLANs, which it will not say again, nor its address before it says so,
 * and it may have turned offloads off; one that gets none is right in any case.
 */
static void
first_rules(const struct net_dev *dev, struct net_rules *rules, bool resumed)
{
	*rules = (struct net_rules){
		.promisc = true,
		.has_mac = !resumed && dev->params.has_mac,
		.mac = dev->params.mac,
		.has_vlans = !resumed &&
				(dev->ctrl.features & (UINT64_C(1) << VIRTIO_NET_F_CTRL_VLAN)) != 0,
		.n_pairs = 1,
		.takes = resumed ? 0 : VHUB_NET_TAKES_ALL,
	};
}

static void
publish(struct net_dev *dev, const struct net_rules *rules)
{
	/* Pairs with the acquires in rules.c. */
	__atomic_store_n(&dev->ctrl.published, rules, __ATOMIC_RELEASE);
	if (rules != NULL)
		__atomic_or_fetch(&dev->restricts, NET_RESTRICTED_BY_RULES, __ATOMIC_RELEASE);
	else
		__atomic_and_fetch(&dev->restricts, ~NET_RESTRICTED_BY_RULES, __ATOMIC_RELEASE);
}

static uint64_t
begin_to_tell(void)
{
	struct rte_rcu_qsbr *qsbr = vhub_quiesce_qsbr();
	uint64_t token = qsbr != NULL ? rte_rcu_qsbr_start(qsbr) : 0;

	/* Pairs with the fence of an lcore that wakes up: we see it awake, or it sees the rules. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return token;
}

/* What it has asked for beside its rules. */
static void
forget(struct net_dev *dev)
{
	net_coalesce_reset(dev);
	net_flows_forget(dev);
	__atomic_store_n(&dev->ctrl.announce, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&dev->ctrl.mac, 0, __ATOMIC_RELAXED);
}

void
net_ctrl_begin(struct net_dev *dev, uint64_t features)
{
	struct net_ctrl *ctrl = &dev->ctrl;
	const bool pairs = (features &
					   (UINT64_C(1) << VIRTIO_NET_F_MQ |
							   UINT64_C(1) << VIRTIO_NET_F_RSS)) != 0;

	ctrl->features = features;
	ctrl->ring_index = NET_NO_CTRL;
	/* VIRTIO 1.2, 5.1.2: behind all pairs that there can be, or behind the first. */
	if ((features & (UINT64_C(1) << VIRTIO_NET_F_CTRL_VQ)) != 0)
		ctrl->ring_index = pairs ? (uint16_t)(dev->params.n_pairs * 2) : 2;
	publish(dev, NULL);
	forget(dev);
}

/* Its driver has been at work before, with another back end or on another host. */
static bool
is_resumed(const struct vhub_vring *vring)
{
	return vhub_virtq_base(vring->vq) !=
			(vhub_virtq_is_packed(vring->features) ? 0x80008000u : 0u);
}

void
net_ctrl_prepare(struct net_dev *dev, const struct vhub_vring *vring)
{
	struct net_ctrl *ctrl = &dev->ctrl;
	const uint64_t needs = UINT64_C(1) << VIRTIO_NET_F_GUEST_ANNOUNCE |
			UINT64_C(1) << VIRTIO_NET_F_STATUS;

	/*
	 * Stopped for a while, it goes on where it was and finds what it has asked for. Else its driver begins
	 * anew, perhaps with the same features; pairs that run already look at the former rules until it starts.
	 */
	if (ctrl->published == NULL || vhub_virtq_base(vring->vq) != ctrl->left_base) {
		forget(dev);
		ctrl->present = ctrl->published == &ctrl->rules[0] ? 1 : 0;
		first_rules(dev, &ctrl->rules[ctrl->present], is_resumed(vring));
	}
	if (!is_resumed(vring) || (vring->features & needs) != needs)
		return;
	__atomic_store_n(&ctrl->announce, 1, __ATOMIC_RELAXED);
	vhub_device_config_changed(&dev->dev);
}

void
net_ctrl_start(struct net_dev *dev, struct vhub_vring *vring)
{
	dev->ctrl.ring = vring;
	publish(dev, &dev->ctrl.rules[dev->ctrl.present]);
	dev->ctrl.token = begin_to_tell();
	net_wake_pairs(dev);
}

void
net_ctrl_stop(struct net_dev *dev)
{
	dev->ctrl.left_base = vhub_virtq_base(dev->ctrl.ring->vq);
	dev->ctrl.ring = NULL;
}

/* ---- a command ---- */

/* Those that get no packets any more are closed: others, who look at that alone, send them none. */
static bool
are_pairs_closed(const struct net_dev *dev)
{
	uint16_t i;

	for (i = dev->ctrl.rules[dev->ctrl.present].n_pairs; i < dev->params.n_pairs; i++) {
		if (__atomic_load_n(&dev->pairs[i].queue.open, __ATOMIC_RELAXED))
			return false;
	}
	return true;
}

static uint64_t
open_cycles(void)
{
	return rte_get_tsc_hz() / 1000 * OPEN_MS;
}

/*
 * Those that get packets now are open, or will not be for a while: their rings do not run. An lcore that was
 * asleep needs its time to wake up, and until then others would send them none.
 */
static bool
are_pairs_open(const struct net_dev *dev)
{
	uint16_t i;

	/* All of them stop, and this one too. */
	if (!dev->ctrl.ring->taking)
		return true;
	for (i = 0; i < dev->ctrl.rules[dev->ctrl.present].n_pairs; i++) {
		if (!__atomic_load_n(&dev->pairs[i].queue.open, __ATOMIC_RELAXED))
			return !vhub_tsc_is_ahead(dev->ctrl.open_until_tsc, rte_rdtsc(),
					open_cycles());
	}
	return true;
}

/* Nobody looks at the rules of before any more. */
static bool
have_all_passed(const struct net_ctrl *ctrl)
{
	struct rte_rcu_qsbr *qsbr = vhub_quiesce_qsbr();

	return qsbr == NULL || rte_rcu_qsbr_check(qsbr, ctrl->token, false) == 1;
}

static bool
is_known_to_all(const struct net_dev *dev)
{
	return have_all_passed(&dev->ctrl) && are_pairs_closed(dev) && are_pairs_open(dev);
}

static void
answer(struct net_ctrl *ctrl)
{
	struct vhub_chain *chain = ctrl->chain;
	struct iovec *iov = &chain->iov[chain->n_out];
	uint8_t bytes[sizeof(ctrl->ack) + NET_CTRL_MAX_RESULT];
	uint32_t n = sizeof(ctrl->ack), at = 0, here;

	bytes[0] = ctrl->ack;
	if (ctrl->ack == VIRTIO_NET_OK) {
		memcpy(&bytes[n], ctrl->result, ctrl->n_result);
		n += ctrl->n_result;
	}
	n = RTE_MIN(n, chain->in_bytes);
	for (; at < n; at += here, iov++) {
		here = RTE_MIN(n - at, (uint32_t)iov->iov_len);
		memcpy(iov->iov_base, &bytes[at], here);
	}
	chain->used_bytes = n;
	ctrl->chain = NULL;
	vhub_virtq_push(ctrl->ring->vq, &chain, 1);
	vhub_virtq_notify(ctrl->ring->vq);
}

/* "The back-end must process the ring without causing any side effects": a disabled one refuses all. */
static uint8_t
carry_out(struct net_dev *dev, const struct vhub_chain *chain)
{
	struct net_ctrl *ctrl = &dev->ctrl;
	const uint16_t n_pairs = ctrl->rules[ctrl->present].n_pairs;
	struct net_rules *next = &ctrl->rules[ctrl->present ^ 1];

	if (!ctrl->ring->enabled)
		return VIRTIO_NET_ERR;
	*next = ctrl->rules[ctrl->present];
	ctrl->n_result = 0;
	if (net_ctrl_command(dev, chain->iov, chain->n_out, next) != VIRTIO_NET_OK)
		return VIRTIO_NET_ERR;
	ctrl->present ^= 1;
	publish(dev, next);
	ctrl->open_until_tsc = 0;
	if (next->n_pairs != n_pairs) {
		ctrl->open_until_tsc = rte_rdtsc() + open_cycles();
		net_wake_pairs(dev);
	}
	return VIRTIO_NET_OK;
}

static bool
take_command(struct net_dev *dev, struct vhub_virtq *vq)
{
	struct net_ctrl *ctrl = &dev->ctrl;
	struct vhub_chain *chain;

	if (vhub_virtq_pop(vq, &chain, 1) == 0)
		return false;
	if (chain->in_bytes == 0) {
		/* There is no place for an answer. */
		vhub_virtq_break(vq, VHUB_VIRTQ_BAD_REQUEST);
		vhub_virtq_push(vq, &chain, 1);
		return false;
	}
	ctrl->chain = chain;
	ctrl->ack = carry_out(dev, chain);
	vhub_count(&ctrl->commands, 1);
	if (ctrl->ack != VIRTIO_NET_OK)
		vhub_count(&ctrl->refused, 1);
	return true;
}

unsigned int
net_ctrl_poll(struct net_dev *dev, struct vhub_vring *vring)
{
	struct net_ctrl *ctrl = &dev->ctrl;

	if (ctrl->chain != NULL) {
		if (!is_known_to_all(dev))
			return 0;
		answer(ctrl);
		return 1;
	}
	/* The first one waits for those that still look at what there was before the start. */
	if (!vring->taking || !have_all_passed(ctrl) || !take_command(dev, vring->vq))
		return 0;
	if (ctrl->ack == VIRTIO_NET_OK)
		ctrl->token = begin_to_tell();
	else
		answer(ctrl);
	return 1;
}

int
net_ctrl_arm(struct net_dev *dev, struct vhub_vring *vring)
{
	if (dev->ctrl.chain != NULL)
		return -EAGAIN;
	return vhub_kick_wakes(vring->kick) ? vhub_virtq_arm(vring->vq) : -ENOTSUP;
}
