/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-blk as a device: the ops table that the stock request handler serves (device/handler.c),
 * and a ring's turn on its lcore (device/vring.c calls it). Made by builder.c. Next on the way of a
 * request: submit.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <bsd/string.h>

#include "blk_pvt.h"
#include "vhub_alloc.h"

VHUB_LOGTYPE(blk)

static size_t
dev_bytes(uint16_t n_queues)
{
	return sizeof(struct blk_dev) + n_queues * sizeof(struct blk_queue_stats);
}

static void
blk_destroy(struct vhub_device *device)
{
	struct blk_dev *dev = blk_dev_of(device);

	dev->driver->destroy(dev->disk);
	blk_latency_destroy(dev);
	vhub_free(dev, dev_bytes(device->max_queues));
}

static void
blk_memory(struct vhub_device *device, struct vhub_mem_table *mem)
{
	struct blk_dev *dev = blk_dev_of(device);

	if (dev->driver->memory != NULL)
		dev->driver->memory(dev->disk, mem);
}

static void
blk_set_running(struct vhub_device *device, bool running)
{
	struct blk_dev *dev = blk_dev_of(device);

	/* A guest's next driver may be there before we hear of anything else. */
	if (!running)
		dev->negotiated = false;
	if (dev->driver->front_end != NULL)
		dev->driver->front_end(dev->disk, running ? vhub_device_connection(device) : -1);
}

static int
blk_queue_prepare(struct vhub_device *device, struct vhub_vring *vring)
{
	struct blk_dev *dev = blk_dev_of(device);
	struct blk_ring *ring = vring->priv;

	if (vring->index >= device->max_queues)
		return -EINVAL;
	ring->vring = vring;
	ring->dev = dev;
	ring->stats = &dev->stats[vring->index];
	ring->fua = blk_fua_mode(dev, vring->features);
	blk_ranges_init(ring);
	return 0;
}

static void
share_turn(struct blk_lcore *lcore)
{
	if (lcore->n_polled != 0)
		lcore->share = (uint16_t)RTE_MAX(1u,
				RTE_MIN(VHUB_VIRTQ_BURST, BLK_TURN_CHAINS / lcore->n_polled));
}

/* The lcore polls the ring from now on, behind all others. */
static void
begin_polls(struct blk_ring *ring)
{
	struct blk_lcore *lcore = ring->lcore;

	ring->next_polled = lcore->polled;
	lcore->polled = ring;
	lcore->n_polled++;
	share_turn(lcore);
}

static void
end_polls(struct blk_ring *ring)
{
	struct blk_ring **link;

	for (link = &ring->lcore->polled; *link != ring; link = &(*link)->next_polled)
		;
	*link = ring->next_polled;
	ring->lcore->n_polled--;
	share_turn(ring->lcore);
}

static int
blk_queue_start(struct vhub_vring *vring)
{
	struct blk_ring *ring = vring->priv;
	struct blk_lcore *lcore = &ring->dev->lcores[vhub_lcore_index(vring->lcore)];
	int ret;

	if (lcore->queue == NULL) {
		ret = ring->dev->driver->queue_get(ring->dev->disk, &lcore->queue);
		if (ret != 0)
			return ret;
		lcore->line_tail = &lcore->line;
		lcore->range_ios_tail = &lcore->range_ios;
		lcore->held_ios_tail = &lcore->held_ios;
	}
	ring->lcore = lcore;
	ring->burst = BLK_FIRST_BURST;
	lcore->n_started++;
	begin_polls(ring);
	return 0;
}

/* What every ring of the lcore has in flight beyond this turn. */
static void
note_kept(const struct blk_lcore *lcore)
{
	for (const struct blk_ring *ring = lcore->polled; ring != NULL; ring = ring->next_polled)
		vhub_virtq_note(ring->vring->vq);
}

static unsigned int
blk_queue_poll(struct vhub_vring *vring)
{
	struct blk_ring *ring = vring->priv;
	struct blk_lcore *lcore = ring->lcore;
	unsigned int n = blk_submit(ring);

	n += blk_ranges_begin(ring);
	if (ring == lcore->polled) {
		n += blk_reap(lcore);
		n += blk_submit_waiting(lcore);
	}
	blk_push(lcore);
	if (ring == lcore->polled)
		note_kept(lcore);
	return n;
}

static void
blk_queue_suspend(struct vhub_vring *vring)
{
	blk_suspend(vring->priv);
}

static int
blk_queue_arm(struct vhub_vring *vring)
{
	struct blk_ring *ring = vring->priv;

	if (ring->n_wait != 0 || blk_ranges_due(ring))
		return -EAGAIN;
	if ((vring->held || ring->lcore->held_ios != NULL) && blk_qos_arm(ring) != 0)
		return -EAGAIN;
	if (vhub_virtq_in_flight(vring->vq) == 0)
		return 0;
	if (ring->dev->driver->arm == NULL)
		return -ENOTSUP;
	return ring->dev->driver->arm(ring->lcore->queue);
}

/*
 * Whoever has something in flight is polled, so a ring is there that reaps for it. A ring that takes
 * nothing waits for an operation to change that.
 */
static bool
blk_queue_park(struct vhub_vring *vring, struct vhub_lcore_word *word)
{
	if (vring->held || (vring->taking && !vhub_virtq_park(vring->vq, word)))
		return false;
	end_polls(vring->priv);
	return true;
}

static void
blk_queue_resume(struct vhub_vring *vring)
{
	begin_polls(vring->priv);
}

static void
blk_queue_stop(struct vhub_vring *vring)
{
	struct blk_ring *ring = vring->priv;
	struct blk_lcore *lcore = ring->lcore;

	end_polls(ring);
	blk_qos_let_go(ring);
	if (--lcore->n_started == 0) {
		blk_qos_close(lcore);
		ring->dev->driver->queue_put(lcore->queue);
		lcore->queue = NULL;
	}
}

static int
blk_lock(struct vhub_device *device, bool locked, char *error, size_t error_len)
{
	struct blk_dev *dev = blk_dev_of(device);
	int ret;

	if (dev->locked == locked)
		return 0;
	ret = dev->driver->lock(dev->disk, locked, error, error_len);
	/* What could not be given back is not ours either: the next start asks for it again. */
	dev->locked = locked && ret == 0;
	/* A front end can ask again and again. */
	if (ret != 0 && !locked && vhub_log_allowed(&dev->lock_limit))
		VHUB_LOG(WARNING,
				"%s: %s; where others find the image locked, remove this disk, which closes the image",
				dev->dev.name, error[0] != '\0' ? error : strerror(-ret));
	return ret;
}

static int
blk_describe(const struct vhub_device *device, char *buf, size_t len)
{
	const struct blk_dev *dev = blk_dev_of(device);
	uint64_t n = 0;

	for (uint16_t i = 0; i < device->max_queues; i++)
		n += __atomic_load_n(&dev->stats[i].s.in_flight, __ATOMIC_RELAXED);
	return snprintf(buf, len, "%s: %s, %" PRIu64 " request%s", device->name, dev->info.target,
			n, n == 1 ? "" : "s");
}

static void
blk_stats(const struct vhub_device *device, uint16_t queue, vhub_stat_fn emit, void *arg)
{
	static const char *const names[VHUB_BLK_OPS][3] = {
		[VHUB_BLK_READ] = { "read_requests", "read_bytes", "read_errors" },
		[VHUB_BLK_WRITE] = { "write_requests", "write_bytes", "write_errors" },
		[VHUB_BLK_FLUSH] = { "flush_requests", NULL, "flush_errors" },
		[VHUB_BLK_DISCARD] = { "discard_requests", "discard_bytes", "discard_errors" },
		[VHUB_BLK_WRITE_ZEROES] = { "write_zeroes_requests", "write_zeroes_bytes",
				"write_zeroes_errors" },
		[VHUB_BLK_SECURE_ERASE] = { "secure_erase_requests", "secure_erase_bytes",
				"secure_erase_errors" },
	};
	struct vhub_blk_stats stats;

	if (vhub_blk_get_stats(device, queue, &stats) != 0)
		return;
	for (unsigned int op = 0; op < VHUB_BLK_OPS; op++) {
		emit(arg, names[op][0], stats.op[op].requests);
		if (names[op][1] != NULL)
			emit(arg, names[op][1], stats.op[op].bytes);
		emit(arg, names[op][2], stats.op[op].errors);
	}
	emit(arg, "other_requests", stats.other_requests);
	emit(arg, "other_errors", stats.other_errors);
	emit(arg, "in_flight", stats.in_flight);
	emit(arg, "held", stats.held);
}

static void
blk_lcore_stats(const struct vhub_device *device, const struct vhub_lcore *lcore, vhub_stat_fn emit,
		void *arg)
{
	const struct blk_dev *dev = blk_dev_of(device);

	emit(arg, "completions",
			__atomic_load_n(&dev->lcores[vhub_lcore_index(lcore)].completions,
					__ATOMIC_RELAXED));
}

static const struct vhub_device_ops blk_ops = {
	.destroy = blk_destroy,
	.ack_features = blk_ack_features,
	.config_read = blk_config_read,
	.config_write = blk_config_write,
	.memory = blk_memory,
	.queue_prepare = blk_queue_prepare,
	.queue_start = blk_queue_start,
	.queue_poll = blk_queue_poll,
	.queue_suspend = blk_queue_suspend,
	.queue_arm = blk_queue_arm,
	.queue_park = blk_queue_park,
	.queue_resume = blk_queue_resume,
	.queue_stop = blk_queue_stop,
	.set_running = blk_set_running,
	.lock = blk_lock,
	.reset = blk_reset,
	.keep = blk_keep,
	.recall = blk_recall,
	.snapshot = blk_snapshot,
	.restore = blk_restore,
	.describe = blk_describe,
	.stats = blk_stats,
	.lcore_stats = blk_lcore_stats,
};

struct blk_dev *
blk_dev_find(const struct vhub_device *device)
{
	return device->ops == &blk_ops ? blk_dev_of(device) : NULL;
}

struct blk_dev *
blk_dev_find_or_say(const struct vhub_device *device, char *error, size_t error_len)
{
	struct blk_dev *dev = blk_dev_find(device);

	if (dev == NULL)
		snprintf(error, error_len, "%s is no disk", device->name);
	return dev;
}

bool
vhub_blk_saves(const struct vhub_device *device)
{
	const struct blk_dev *dev = blk_dev_find(device);

	return dev != NULL && dev->info.saved_at_end;
}

int
vhub_blk_save(struct vhub_device *device, char *error, size_t error_len)
{
	struct blk_dev *dev = blk_dev_find(device);

	if (dev == NULL || !dev->info.saved_at_end) {
		snprintf(error, error_len, "%s has nothing to save", device->name);
		return -EINVAL;
	}
	return dev->driver->save(dev->disk, error, error_len);
}

int
vhub_blk_get_stats(const struct vhub_device *device, uint16_t index, struct vhub_blk_stats *stats)
{
	const struct blk_dev *dev = blk_dev_find(device);
	const uint64_t *from;
	uint64_t *to = (uint64_t *)stats;

	if (dev == NULL || index >= device->max_queues)
		return -EINVAL;
	/* Nothing but counters is in it, and each is read whole. */
	from = (const uint64_t *)&dev->stats[index].s;
	for (size_t i = 0; i < sizeof(*stats) / sizeof(*to); i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
	return 0;
}

/*
 * A larger block than the driver's is fine, a smaller one would need us to read, modify and write.
 */
static int
check_block_size(const struct blk_params *params, const struct vhub_blk_info *info, char *error,
		size_t error_len)
{
	if (params->block_bytes == 0)
		return 0;
	if (params->block_bytes < info->block_bytes) {
		snprintf(error, error_len, "block_size=%u: %s has blocks of %u bytes",
				params->block_bytes, info->target, info->block_bytes);
		return -EINVAL;
	}
	if (info->capacity_bytes % params->block_bytes != 0) {
		snprintf(error, error_len,
				"block_size=%u: the size of %s, %" PRIu64
				", is not a multiple of it",
				params->block_bytes, info->target, info->capacity_bytes);
		return -EINVAL;
	}
	return 0;
}

int
blk_create(const struct blk_params *params, struct vhub_blk_disk *disk,
		const struct vhub_executor *executor, struct vhub_device **out, char *error,
		size_t error_len)
{
	const int node = executor->n_lcores != 0 ? vhub_lcore_node(executor->lcores[0]) : -1;
	struct vhub_blk_info info = { 0 };
	struct blk_dev *dev;
	int ret;

	disk->ops->info(disk, &info);
	ret = check_block_size(params, &info, error, error_len);
	if (ret != 0)
		return ret;
	if (info.saved_at_end && disk->ops->save == NULL) {
		snprintf(error, error_len, "driver=%s: it saves at the end, but not before",
				disk->ops->name);
		return -EINVAL;
	}
	if (disk->ops->place != NULL) {
		ret = disk->ops->place(disk, node, error, error_len);
		if (ret != 0)
			return ret;
	}
	dev = vhub_zalloc_node(dev_bytes(params->n_queues), node);
	if (dev == NULL)
		return -ENOMEM;

	dev->disk = disk;
	dev->driver = disk->ops;
	dev->info = info;
	dev->limits.capacity_bytes = info.capacity_bytes;
	dev->limits.read_only = info.read_only;
	dev->limits.range_piece_bytes = blk_ranges_piece_bytes(info.discard_align_bytes);
	dev->limits.range_max_bytes[VHUB_BLK_DISCARD] = info.discard_max_bytes;
	dev->limits.range_max_bytes[VHUB_BLK_WRITE_ZEROES] = info.write_zeroes_max_bytes;
	dev->limits.range_max_bytes[VHUB_BLK_SECURE_ERASE] = info.secure_erase_max_bytes;
	memcpy(dev->limits.id, params->id, sizeof(dev->limits.id));
	dev->dev.ops = &blk_ops;
	dev->dev.executor = *executor;
	dev->dev.chain_bytes = sizeof(struct blk_req);
	dev->dev.ring_bytes = sizeof(struct blk_ring);
	dev->dev.locks = dev->driver->lock != NULL;
	if (dev->driver->cancel != NULL)
		dev->dev.protocol_features = VHUB_USER_PF(GET_VRING_BASE_INFLIGHT) |
				VHUB_USER_PF(GET_VRING_BASE_SKIP_DRAIN);
	strlcpy(dev->dev.name, params->name, sizeof(dev->dev.name));
	blk_config_init(dev, params);
	dev->limits.align_mask = dev->block_bytes - 1;
	blk_qos_set(&dev->qos, &params->qos);
	*out = &dev->dev;
	return 0;
}
