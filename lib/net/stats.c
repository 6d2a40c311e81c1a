/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Figures of a queue pair: ours, the data path's, and with the first pair the port's own. Called by
 * whoever shows them, through the device's ops.
 */
#include <stdio.h>

#include "net_pvt.h"

static const char *const drop_names[VHUB_NET_DROPS] = {
	[VHUB_NET_DROP_RING_FULL] = "dropped_ring_full",
	[VHUB_NET_DROP_NO_ROOM] = "dropped_no_room",
	[VHUB_NET_DROP_NO_RING] = "dropped_no_ring",
	[VHUB_NET_DROP_DISABLED] = "dropped_disabled",
	[VHUB_NET_DROP_PORT_FULL] = "dropped_port_full",
	[VHUB_NET_DROP_RUNT] = "dropped_runt",
	[VHUB_NET_DROP_OVERSIZE] = "dropped_oversize",
	[VHUB_NET_DROP_OFFLOAD] = "dropped_offload",
	[VHUB_NET_DROP_NO_MBUF] = "dropped_no_mbuf",
	[VHUB_NET_DROP_FILTERED] = "dropped_filtered",
	[VHUB_NET_DROP_LINK_DOWN] = "dropped_link_down",
	[VHUB_NET_DROP_RATE_FROM] = "dropped_rate_limited_from_guest",
	[VHUB_NET_DROP_RATE_TO] = "dropped_rate_limited_to_guest",
};

static void
emit_counter(const uint64_t *counter, const char *name, vhub_stat_fn emit, void *arg)
{
	emit(arg, name, __atomic_load_n(counter, __ATOMIC_RELAXED));
}

void
net_stats_of_pair(const struct net_pair *pair, vhub_stat_fn emit, void *arg)
{
	const struct net_counters *counters = &pair->counters;
	unsigned int i;

	for (i = 0; i < VHUB_NET_DROPS; i++)
		emit_counter(&counters->drops[i], drop_names[i], emit, arg);
	emit_counter(&counters->mirrored, "mirrored_packets", emit, arg);
	emit_counter(&counters->mirror_dropped, "mirror_dropped", emit, arg);
	/* The other end of a mirror: the port has one inbox for copies, which are its first pair's. */
	if (pair == pair->dev->pairs)
		emit(arg, "mirror_dropped_closed",
				vhub_net_inbox_dropped_closed(pair->dev->services.inbox));
	emit_counter(&counters->captured, "captured_packets", emit, arg);
	emit_counter(&counters->capture_dropped, "capture_dropped", emit, arg);
	if (pair->dev->params.frame_sizes)
		net_sizes_emit(pair, emit, arg);
}

void
net_stats(const struct vhub_device *device, uint16_t queue, vhub_stat_fn emit, void *arg)
{
	const struct net_dev *dev = net_dev_of(device);
	const struct net_counters *counters;

	if (queue >= dev->params.n_pairs)
		return;
	counters = &dev->pairs[queue].counters;
	emit_counter(&counters->from_guest.packets, "from_guest_packets", emit, arg);
	emit_counter(&counters->from_guest.bytes, "from_guest_bytes", emit, arg);
	emit_counter(&counters->to_guest.packets, "to_guest_packets", emit, arg);
	emit_counter(&counters->to_guest.bytes, "to_guest_bytes", emit, arg);
	net_stats_of_pair(&dev->pairs[queue], emit, arg);
	if (dev->path != NULL) {
		rvhost_stats_emit(dev->path, (uint16_t)(queue * 2 + 1), "library_from_guest_", emit,
				arg);
		rvhost_stats_emit(dev->path, (uint16_t)(queue * 2), "library_to_guest_", emit, arg);
	}
	if (queue != 0)
		return;
	if (dev->path == NULL) {
		emit_counter(&dev->ctrl.commands, "control_commands", emit, arg);
		emit_counter(&dev->ctrl.refused, "control_refused", emit, arg);
		emit_counter(&dev->rarp.sent, "rarp_sent", emit, arg);
	}
	if (dev->path != NULL && dev->path->dma != NULL)
		emit(arg, "dma_failed_copies", rvhost_dma_failed(dev->path->dma));
	if (dev->driver->stats != NULL)
		dev->driver->stats(dev->port, emit, arg);
}
