/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Notifications that a guest wants kept back, until there are enough of them or some time has passed (VIRTIO
 * 1.3, 5.1.6.5.9: NOTF_COAL, VQ_NOTF_COAL). Called by ctrl_commands.c with what it has asked for, and by
 * net.c in the turns of its rings; next: virtq/notify.c.
 *
 * A ring that keeps one back has its turns: it is not parked, and its lcore does not sleep. So the time is
 * bounded whatever the guest says.
 */
#include <rte_cycles.h>

#include "net_pvt.h"

/* Longest time; who asks for more is told more often, which a device may do. */
#define MAX_US 10000u
#define FEATURES (UINT64_C(1) << NET_F_NOTF_COAL | UINT64_C(1) << NET_F_VQ_NOTF_COAL)

static enum net_direction
direction_of(uint16_t ring)
{
	return (ring & 1) != 0 ? NET_FROM_GUEST : NET_TO_GUEST;
}

void
net_coalesce_set(struct net_dev *dev, uint16_t ring, uint32_t max_packets, uint32_t max_us)
{
	struct net_pair *pair = &dev->pairs[ring / 2];
	const enum net_direction way = direction_of(ring);
	const uint64_t cycles_per_us = rte_get_tsc_hz() / 1000000;

	pair->coalescing[way].max_packets = max_packets;
	pair->coalescing[way].max_us = max_us;
	/* Pair with the loads in virtq/notify.c, where they need not come together. */
	__atomic_store_n(&pair->coalescing[way].applied.max_entries, max_packets, __ATOMIC_RELAXED);
	__atomic_store_n(&pair->coalescing[way].applied.max_cycles,
			RTE_MIN(max_us, MAX_US) * cycles_per_us, __ATOMIC_RELAXED);
}

void
net_coalesce_get(const struct net_dev *dev, uint16_t ring, uint32_t *max_packets, uint32_t *max_us)
{
	const struct net_pair *pair = &dev->pairs[ring / 2];
	const enum net_direction way = direction_of(ring);

	*max_packets = pair->coalescing[way].max_packets;
	*max_us = pair->coalescing[way].max_us;
}

void
net_coalesce_reset(struct net_dev *dev)
{
	uint16_t i;

	for (i = 0; i < dev->params.n_pairs * 2; i++)
		net_coalesce_set(dev, i, 0, 0);
}

void
net_coalesce_begin(struct net_pair *pair, struct vhub_vring *vring)
{
	pair->coalesces = vring->vq != NULL && (vring->features & FEATURES) != 0;
	if (pair->coalesces)
		vhub_virtq_coalesce(vring->vq,
				&pair->coalescing[direction_of(vring->index)].applied);
}

bool
net_coalesce_turn(struct vhub_vring *vring, bool at_once)
{
	return vhub_virtq_notify_kept(vring->vq, at_once);
}
