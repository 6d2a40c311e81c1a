/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A disk that becomes larger or smaller while guests use it. Called by vhubd's control methods, in
 * two halves: the driver's part may block, what guests see of it is changed on CTL.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <rte_byteorder.h>

#include "blk_pvt.h"

VHUB_LOGTYPE(blk);

int
vhub_blk_resize(struct vhub_device *device, uint64_t size_bytes, char *error, size_t error_len)
{
	struct blk_dev *dev = blk_dev_find_or_say(device, error, error_len);

	if (dev == NULL)
		return -EINVAL;
	if (dev->driver->resize == NULL) {
		snprintf(error, error_len, "driver=%s: the size of such a disk cannot be changed",
				dev->driver->name);
		return -ENOTSUP;
	}
	if (size_bytes % dev->block_bytes != 0) {
		snprintf(error, error_len, "size=%" PRIu64 ": not a multiple of a block, %u bytes",
				size_bytes, dev->block_bytes);
		return -EINVAL;
	}
	return dev->driver->resize(dev->disk, size_bytes, error, error_len);
}

uint64_t
vhub_blk_resized(struct vhub_device *device)
{
	struct blk_dev *dev = blk_dev_find(device);
	struct vhub_blk_info info;
	uint64_t bytes, sectors;

	if (dev == NULL)
		return 0;
	dev->driver->info(dev->disk, &info);
	bytes = info.capacity_bytes - info.capacity_bytes % dev->block_bytes;
	if (bytes == dev->info.capacity_bytes)
		return bytes;
	VHUB_LOG(INFO, "%s: has %" PRIu64 " bytes now, and had %" PRIu64, device->name, bytes,
			dev->info.capacity_bytes);
	dev->info.capacity_bytes = bytes;
	/* Pairs with the loads in decode.c: what the driver has added can be used. */
	__atomic_store_n(&dev->limits.capacity_bytes, bytes, __ATOMIC_RELEASE);
	sectors = rte_cpu_to_le_64(bytes / VHUB_BLK_SECTOR_BYTES);
	memcpy(dev->config + offsetof(struct virtio_blk_config, capacity), &sectors,
			sizeof(sectors));
	vhub_device_config_changed(device);
	return bytes;
}
