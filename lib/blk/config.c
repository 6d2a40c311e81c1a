/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a guest is told about the disk: features and config space (VIRTIO 1.2, 5.2.3 and 5.2.4), and
 * the one thing in it that the guest may change, the writeback field. Called on CTL through the
 * device's ops (blk.c); lcores read `wce`.
 */
#include <errno.h>
#include <string.h>

#include <rte_byteorder.h>

#include "blk_pvt.h"

#define BIT(n) (UINT64_C(1) << (n))

#define BLK_FEATURES \
	(VHUB_VIRTQ_FEATURES | BIT(VIRTIO_BLK_F_SIZE_MAX) | BIT(VIRTIO_BLK_F_SEG_MAX) | \
			BIT(VIRTIO_BLK_F_BLK_SIZE) | BIT(VIRTIO_BLK_F_FLUSH) | \
			BIT(VIRTIO_BLK_F_TOPOLOGY) | BIT(VIRTIO_BLK_F_CONFIG_WCE) | \
			BIT(VIRTIO_BLK_F_MQ))

#define NAME(name) [VIRTIO_BLK_F_##name] = #name
static const char *const feature_names[64] = {
	NAME(SIZE_MAX),
	NAME(SEG_MAX),
	NAME(RO),
	NAME(BLK_SIZE),
	NAME(FLUSH),
	NAME(TOPOLOGY),
	NAME(CONFIG_WCE),
	NAME(MQ),
	NAME(DISCARD),
	NAME(WRITE_ZEROES),
	NAME(SECURE_ERASE),
};

/* What a migration carries. Whole bytes, so no order of bytes. */
struct blk_state {
	uint8_t version;
	uint8_t wce;
};
#define BLK_STATE_VERSION 1

/* What outlives this process (struct vhub_device_ops, keep): bits; others are for later versions. */
#define BLK_KEPT_WRITE_THROUGH 0x01u

static void
store_wce(struct blk_dev *dev, uint8_t wce)
{
	/*
	 * Pairs with the load in submit.c. A guest that has seen the write acknowledged sees its
	 * next request obey.
	 */
	__atomic_store_n(&dev->wce, wce, __ATOMIC_RELEASE);
}

static uint32_t
sectors(uint32_t bytes)
{
	return rte_cpu_to_le_32(bytes / VHUB_BLK_SECTOR_BYTES);
}

static uint8_t
log2_of(uint32_t power_of_two)
{
	return (uint8_t)__builtin_ctz(power_of_two);
}

/*
 * What the driver can do on ranges (5.2.4, "discard", "write zeroes", "secure erase"); fields of
 * the rest stay 0.
 */
static void
init_ranges(struct blk_dev *dev, struct virtio_blk_config *config, uint32_t block_bytes)
{
	const struct vhub_blk_info *info = &dev->info;
	const uint32_t n = rte_cpu_to_le_32(BLK_RANGES_MAX);
	uint32_t align = RTE_MAX(info->discard_align_bytes, block_bytes) / VHUB_BLK_SECTOR_BYTES;

	if (info->discard_max_bytes != 0) {
		dev->dev.features |= BIT(VIRTIO_BLK_F_DISCARD);
		config->max_discard_sectors = sectors(info->discard_max_bytes);
		config->max_discard_seg = n;
		config->discard_sector_alignment = rte_cpu_to_le_32(align);
	}
	if (info->write_zeroes_max_bytes != 0) {
		dev->dev.features |= BIT(VIRTIO_BLK_F_WRITE_ZEROES);
		config->max_write_zeroes_sectors = sectors(info->write_zeroes_max_bytes);
		config->max_write_zeroes_seg = n;
		config->write_zeroes_may_unmap = info->write_zeroes_may_unmap;
	}
	if (info->secure_erase_max_bytes != 0) {
		dev->dev.features |= BIT(VIRTIO_BLK_F_SECURE_ERASE);
		config->max_secure_erase_sectors = sectors(info->secure_erase_max_bytes);
		config->max_secure_erase_seg = n;
		config->secure_erase_sector_alignment = rte_cpu_to_le_32(align);
	}
}

void
blk_config_init(struct blk_dev *dev, const struct blk_params *params)
{
	const struct vhub_blk_info *info = &dev->info;
	uint32_t block_bytes = params->block_bytes != 0 ? params->block_bytes : info->block_bytes;
	uint32_t physical_bytes = RTE_MAX(info->physical_block_bytes, block_bytes);
	struct virtio_blk_config config = { 0 };

	dev->block_bytes = block_bytes;
	config.capacity = rte_cpu_to_le_64(info->capacity_bytes / VHUB_BLK_SECTOR_BYTES);
	config.size_max = rte_cpu_to_le_32(VHUB_BLK_SIZE_MAX_BYTES);
	config.seg_max = rte_cpu_to_le_32(VHUB_BLK_SEG_MAX);
	config.blk_size = rte_cpu_to_le_32(block_bytes);
	config.physical_block_exp = log2_of(physical_bytes / block_bytes);
	config.alignment_offset = (uint8_t)(info->alignment_offset_bytes / block_bytes);
	config.min_io_size = rte_cpu_to_le_16((uint16_t)(RTE_MAX(info->min_io_bytes,
									 physical_bytes) /
			block_bytes));
	config.opt_io_size = rte_cpu_to_le_32(info->optimal_io_bytes / block_bytes);
	config.wce = info->volatile_cache && !params->write_through;
	config.num_queues = rte_cpu_to_le_16(params->n_queues);
	dev->dev.features = BLK_FEATURES;
	dev->dev.feature_names = &feature_names;
	init_ranges(dev, &config, block_bytes);
	memcpy(dev->config, &config, sizeof(config));

	dev->wce = config.wce;
	dev->dev.max_queues = params->n_queues;
	dev->dev.config_bytes = BLK_CONFIG_BYTES;
	if (info->read_only)
		dev->dev.features |= BIT(VIRTIO_BLK_F_RO);
}

int
blk_config_read(struct vhub_device *device, uint32_t offset, void *buf, uint32_t len)
{
	struct blk_dev *dev = blk_dev_of(device);
	uint8_t config[BLK_CONFIG_BYTES];

	if ((uint64_t)offset + len > BLK_CONFIG_BYTES)
		return -EINVAL;
	memcpy(config, dev->config, sizeof(config));
	config[BLK_CONFIG_WCE] = dev->wce;
	memcpy(buf, config + offset, len);
	return 0;
}

/*
 * Front ends tell a driver's features with DRIVER_OK, and FreeBSD's has chosen before that. Where it was not to,
 * as the features say that follow, the field means nothing (blk_fua_mode()).
 */
static bool
may_switch(const struct blk_dev *dev)
{
	return !dev->negotiated || (dev->guest_features & BIT(VIRTIO_BLK_F_CONFIG_WCE)) != 0;
}

/*
 * What is written must be what is there, but for writeback: the destination of a migration is told the
 * source's space, and a driver's write of writeback comes with its neighbours from a front end that has
 * registers of four bytes (OpenVMM).
 */
int
blk_config_write(struct vhub_device *device, uint32_t offset, const void *buf, uint32_t len,
		bool migration)
{
	struct blk_dev *dev = blk_dev_of(device);
	const uint8_t *bytes = buf;
	uint8_t wce = dev->wce;

	if ((uint64_t)offset + len > BLK_CONFIG_BYTES)
		return -EINVAL;
	if (!migration &&
			(offset > BLK_CONFIG_WCE || offset + len <= BLK_CONFIG_WCE ||
					!may_switch(dev)))
		return -EPERM;
	for (uint32_t i = 0; i < len; i++) {
		if (offset + i == BLK_CONFIG_WCE)
			wce = bytes[i];
		else if (bytes[i] != dev->config[offset + i])
			return -EINVAL;
	}
	if (wce > 1)
		return -EINVAL;
	store_wce(dev, wce);
	return 0;
}

int
blk_ack_features(struct vhub_device *device, uint64_t features)
{
	struct blk_dev *dev = blk_dev_of(device);
	uint64_t cache = BIT(VIRTIO_BLK_F_CONFIG_WCE) | BIT(VIRTIO_BLK_F_FLUSH);

	/*
	 * "If VIRTIO_BLK_F_CONFIG_WCE is negotiated but VIRTIO_BLK_F_FLUSH is not, the device MUST
	 * initialize writeback to 0" (5.2.5.2). Features come again when logging is switched on:
	 * nothing is initialised then.
	 */
	if (((features ^ dev->guest_features) & cache) != 0 &&
			(features & cache) == BIT(VIRTIO_BLK_F_CONFIG_WCE))
		store_wce(dev, 0);
	dev->guest_features = features;
	dev->negotiated = true;
	return 0;
}

void
blk_reset(struct vhub_device *device)
{
	struct blk_dev *dev = blk_dev_of(device);

	dev->guest_features = 0;
	dev->negotiated = false;
	/*
	 * Never from write-through back to write-back, which only SET_CONFIG does, and a front end
	 * that restores what it had saved: QEMU resets a disk and reconnects behind its guest's back
	 * (stop and cont), and never tells the field again. A guest that has chosen write-through
	 * sends no flushes.
	 */
	store_wce(dev, dev->wce & dev->config[BLK_CONFIG_WCE]);
}

uint8_t
blk_keep(const struct vhub_device *device)
{
	const struct blk_dev *dev = blk_dev_of(device);

	return dev->wce == 0 ? BLK_KEPT_WRITE_THROUGH : 0;
}

void
blk_recall(struct vhub_device *device, uint8_t byte)
{
	/* Only to the safe side: whatever a front end may write there makes the disk slower at most. */
	if ((byte & BLK_KEPT_WRITE_THROUGH) != 0)
		store_wce(blk_dev_of(device), 0);
}

int
blk_snapshot(struct vhub_device *device, void *buf, uint32_t len)
{
	struct blk_dev *dev = blk_dev_of(device);
	struct blk_state state = { .version = BLK_STATE_VERSION, .wce = dev->wce };

	if (len < sizeof(state))
		return -ENOSPC;
	memcpy(buf, &state, sizeof(state));
	return sizeof(state);
}

int
blk_restore(struct vhub_device *device, const void *buf, uint32_t len)
{
	struct blk_dev *dev = blk_dev_of(device);
	struct blk_state state;

	if (len != sizeof(state))
		return -EINVAL;
	memcpy(&state, buf, sizeof(state));
	if (state.version != BLK_STATE_VERSION || state.wce > 1)
		return -EINVAL;
	store_wce(dev, state.wce);
	return 0;
}

/*
 * VIRTIO 1.2, 5.2.6.2: a completed write is stable when neither bit was negotiated, or writeback
 * was 0. A guest that knows of no such field, on a disk that is to write through, cannot have
 * switched it.
 */
enum blk_fua
blk_fua_mode(const struct blk_dev *dev, uint64_t features)
{
	if (!dev->info.volatile_cache)
		return BLK_FUA_NEVER;
	if ((features & BIT(VIRTIO_BLK_F_FLUSH)) == 0)
		return BLK_FUA_ALWAYS;
	if ((features & BIT(VIRTIO_BLK_F_CONFIG_WCE)) != 0)
		return BLK_FUA_BY_WCE;
	return dev->config[BLK_CONFIG_WCE] != 0 ? BLK_FUA_NEVER : BLK_FUA_ALWAYS;
}
