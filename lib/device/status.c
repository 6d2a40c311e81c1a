/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How a device stands with its front end, for those who watch: vhubd's app/vhubd/status.c and its like. All of it is
 * read on CTL, whose the record and the tables are.
 */
#include <errno.h>
#include <string.h>

#include <rte_common.h>

#include "handler_pvt.h"

enum vhub_conn_state
vhub_device_conn_state(const struct vhub_device *dev)
{
	return dev->handler != NULL ? lifecycle_state(&dev->handler->lifecycle) :
				      VHUB_CONN_DETACHED;
}

int
vhub_device_connection(const struct vhub_device *dev)
{
	const struct vhub_device_handler *h = dev->handler;

	return h != NULL && h->session != NULL ? vhub_session_fd(h->session) : -1;
}

const struct vhub_vring *
vhub_device_vring(const struct vhub_device *dev, uint16_t index)
{
	const struct vhub_device_handler *h = dev->handler;

	if (h == NULL || index >= dev->max_queues || h->vrings[index] == NULL)
		return NULL;
	return &h->vrings[index]->pub;
}

/* ---- the session ---- */

static void
tell_memory(const struct vhub_mem_table *mem, struct vhub_session_status *status)
{
	uint64_t page_bytes;
	uint32_t i;

	status->numa_node = mem->numa_node;
	status->n_regions = mem->n_regions;
	for (i = 0; i < mem->n_regions; i++) {
		status->memory_bytes += mem->regions[i].size_bytes;
		page_bytes = vhub_mem_map_page_bytes(mem->regions[i].map);
		if (i == 0 || page_bytes < status->page_bytes)
			status->page_bytes = page_bytes;
	}
}

int
vhub_device_session_status(const struct vhub_device *dev, struct vhub_session_status *status)
{
	const struct vhub_device_handler *h = dev->handler;

	*status = (struct vhub_session_status){ .numa_node = -1 };
	if (h == NULL || h->session == NULL)
		return -ENOTCONN;
	(void)vhub_session_peer(h->session, &status->peer);
	status->features = h->rec.features;
	status->protocol_features = vhub_session_protocol_features(h->session);
	if (h->mem != NULL)
		tell_memory(h->mem, status);
	return 0;
}

/* ---- rings ---- */

/* Another library's rings are broken only where a notification of ours has blocked. */
static enum vhub_virtq_reason
broken_by(const struct vring_run *vring)
{
	if (vring->pub.vq != NULL)
		return vhub_virtq_broken(vring->pub.vq);
	return vring->broken_heard ? VHUB_VIRTQ_NOTIFY_STUCK : VHUB_VIRTQ_OK;
}

int
vhub_device_ring_status(const struct vhub_device *dev, uint16_t index,
		struct vhub_ring_status *status)
{
	const struct vhub_device_handler *h = dev->handler;
	const struct vring_run *vring;

	if (h == NULL || h->session == NULL)
		return -ENOTCONN;
	if (index >= dev->max_queues)
		return -EINVAL;
	vring = h->vrings[index];
	*status = (struct vhub_ring_status){
		.size = h->rec.vrings[index].size,
		.packed = vhub_virtq_is_packed(h->rec.features),
		.started = vring != NULL,
		.enabled = h->rec.vrings[index].enabled,
	};
	if (vring == NULL)
		return 0;
	status->broken = broken_by(vring);
	if (vring->pub.vq != NULL) {
		status->inflight = vhub_virtq_has_inflight(vring->pub.vq);
		status->counted = true;
		vhub_virtq_get_stats(vring->pub.vq, &status->stats);
	}
	return 0;
}

/* ---- names of features ---- */

/* VIRTIO 1.3, 6, and what vhost adds. */
static const char *const common_names[64] = {
	[24] = "NOTIFY_ON_EMPTY",
	[VHUB_F_LOG_ALL] = "LOG_ALL",
	[27] = "ANY_LAYOUT",
	[28] = "INDIRECT_DESC",
	[29] = "EVENT_IDX",
	[VHUB_F_PROTOCOL_FEATURES] = "PROTOCOL_FEATURES",
	[32] = "VERSION_1",
	[VHUB_F_ACCESS_PLATFORM] = "ACCESS_PLATFORM",
	[34] = "RING_PACKED",
	[35] = "IN_ORDER",
	[36] = "ORDER_PLATFORM",
	[37] = "SR_IOV",
	[38] = "NOTIFICATION_DATA",
	[39] = "NOTIF_CONFIG_DATA",
	[40] = "RING_RESET",
	[41] = "ADMIN_VQ",
};

const char *
vhub_device_feature_name(const struct vhub_device *dev, unsigned int bit)
{
	if (bit >= RTE_DIM(common_names))
		return NULL;
	if (common_names[bit] != NULL || dev->feature_names == NULL)
		return common_names[bit];
	return (*dev->feature_names)[bit];
}
