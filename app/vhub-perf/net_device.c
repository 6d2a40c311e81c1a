/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A network device of `vhub-perf net`: its session, its rings, and buffers that are prepared once.
 * Called by net_run.c; next: net_lcore.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_net.h>

#include "net.h"
#include "perf.h"
#include "ring_fast.h"

#define F(name) (UINT64_C(1) << VIRTIO_NET_F_##name)

#define OFFLOADS \
	(F(CSUM) | F(GUEST_CSUM) | F(GUEST_TSO4) | F(GUEST_TSO6) | F(HOST_TSO4) | F(HOST_TSO6))

/* rx and tx. */
#define RINGS_PER_QUEUE 2u
/* Frames begin at a line, and neighbours are not in the same sets of the cache. */
#define LINE RTE_CACHE_LINE_SIZE

static const struct frontend_feature feature_names[] = {
	{ VIRTIO_NET_F_MRG_RXBUF, "MRG_RXBUF", "--mergeable on" },
	{ VIRTIO_NET_F_CSUM, "CSUM", "--offloads" },
	{ VIRTIO_NET_F_GUEST_CSUM, "GUEST_CSUM", "--offloads" },
	{ VIRTIO_NET_F_GUEST_TSO4, "GUEST_TSO4", "--offloads" },
	{ VIRTIO_NET_F_GUEST_TSO6, "GUEST_TSO6", "--offloads" },
	{ VIRTIO_NET_F_HOST_TSO4, "HOST_TSO4", "--offloads" },
	{ VIRTIO_NET_F_HOST_TSO6, "HOST_TSO6", "--offloads" },
	{ 0, NULL, NULL },
};

/* ---- memory ---- */

/* A line for the header's end, lines for the frame; an odd number, see above. */
static uint32_t
stride(uint32_t frame_bytes)
{
	const uint32_t lines = 1 + (frame_bytes + LINE - 1) / LINE;

	return (lines | 1) * LINE;
}

static uint32_t
rx_stride(const struct net_options *o)
{
	return stride(o->rx_buffer - NET_HEADER_BYTES);
}

static struct ring_config
ring_config(const struct net_device *d, uint16_t index)
{
	return (struct ring_config){
		.name = d != NULL ? d->path : NULL,
		.index = index,
		.size = (uint16_t)run_options.ring_size,
		.pieces = 1,
		.indirect = run_options.indirect,
		.poll = run_options.poll,
		.features = d != NULL ? d->fe->features : run_ring_features(),
	};
}

uint64_t
net_device_memory_bytes(const struct net_options *o)
{
	const struct ring_config config = ring_config(NULL, 0);
	const uint64_t queue = RINGS_PER_QUEUE * (ring_memory_bytes(&config) + LINE) +
			(uint64_t)ring_slots(&config) * (rx_stride(o) + stride(o->sizes.max)) +
			RINGS_PER_QUEUE * 2 * LINE;

	return run_options.queues * queue;
}

/* ---- the session ---- */

int
net_device_open(struct net_device *d, const struct net_options *o, const char *path,
		unsigned int number)
{
	const uint64_t mergeable = o->mergeable ? F(MRG_RXBUF) : 0;
	const uint64_t offloads = o->offloads ? OFFLOADS : 0;
	const uint64_t mq = run_options.queues > 1 ? F(MQ) : 0;
	const struct frontend_config config = {
		.path = path,
		.listen = run_options.listen,
		.patience_ms = run_options.patience_ms,
		.features = run_ring_features() | mergeable | offloads | mq,
		.required = run_ring_features() | mergeable | offloads,
		.names = feature_names,
		.n_rings = (uint16_t)(RINGS_PER_QUEUE * run_options.queues),
	};
	int ret;

	d->path = path;
	d->number = number;
	d->n_queues = run_options.queues;
	ret = frontend_open(&config, &d->fe);
	if (ret != 0)
		return ret;
	if (d->fe->max_queues < d->n_queues) {
		perf_error(path, "--queues %u: the back end has %u", d->n_queues,
				(unsigned int)d->fe->max_queues);
		return -ENOTSUP;
	}
	return 0;
}

/* ---- rings and buffers ---- */

static int
make_buffers(struct net_buffers *b, struct ring *r, uint32_t stride_bytes, struct perf_memory *mem)
{
	uint8_t *memory = memory_alloc(mem, (uint64_t)r->n_slots * stride_bytes, LINE);

	if (memory == NULL)
		return -ENOMEM;
	b->first = memory + LINE;
	b->stride_bytes = stride_bytes;
	return 0;
}

static void
prepare_rx(struct net_queue *q)
{
	for (uint16_t slot = 0; slot < q->rx->n_slots; slot++) {
		const struct ring_piece piece = {
			.hva = q->rx_buffers.first + (size_t)slot * q->rx_buffers.stride_bytes -
					NET_HEADER_BYTES,
			.bytes = q->o->rx_buffer,
			.writable = true,
		};

		ring_prepare(q->rx, slot, &piece, 1);
		ring_add_one(q->rx, slot, q->rx->packed);
	}
	ring_publish(q->rx, q->rx->packed);
}

static void
prepare_tx(struct net_queue *q, uint32_t flow, uint32_t receiver)
{
	const struct net_sizes *sizes = &q->o->sizes;

	for (uint16_t slot = 0; slot < q->tx->n_slots; slot++) {
		uint8_t *frame = q->tx_buffers.first + (size_t)slot * q->tx_buffers.stride_bytes;
		const uint16_t bytes = sizes->bytes[slot % sizes->n];
		const struct ring_piece piece = {
			.hva = frame - NET_HEADER_BYTES,
			.bytes = NET_HEADER_BYTES + bytes,
		};

		net_frame_prepare_header(frame - NET_HEADER_BYTES, q->o->offloads);
		net_frame_prepare(frame, bytes, flow, receiver);
		ring_prepare(q->tx, slot, &piece, 1);
		q->slot_bytes[slot] = bytes;
		q->free_slots[q->free_tail++] = slot;
	}
}

static int
make_ring(struct net_device *d, uint16_t index, struct perf_memory *mem)
{
	const struct ring_config config = ring_config(d, index);

	return ring_create(&config, mem, &d->rings[index]);
}

static int
make_queue(struct net_device *d, const struct net_options *o, unsigned int i,
		struct perf_memory *mem)
{
	struct net_queue *q = &d->queues[i];
	const uint16_t index = (uint16_t)(RINGS_PER_QUEUE * i);
	uint32_t n;
	int ret = make_ring(d, index, mem);

	if (ret == 0)
		ret = make_ring(d, index + 1, mem);
	if (ret != 0)
		return ret;
	q->rx = d->rings[index];
	q->tx = d->rings[index + 1];
	q->o = o;
	/* Three quarters of the ring are always there: more than half, as the window may fill. */
	q->refill = RTE_MAX(1u, RTE_MIN(o->burst, q->rx->n_slots / 4u));
	q->path = d->path;
	q->queue = i;
	n = rte_align32pow2(q->tx->n_slots + 1u);
	q->free_mask = (uint16_t)(n - 1);
	q->free_slots = calloc(n, sizeof(*q->free_slots));
	q->slot_bytes = calloc(q->tx->n_slots, sizeof(*q->slot_bytes));
	ret = q->free_slots == NULL || q->slot_bytes == NULL ? -ENOMEM : 0;
	if (ret == 0)
		ret = make_buffers(&q->rx_buffers, q->rx, rx_stride(o), mem);
	if (ret == 0)
		ret = make_buffers(&q->tx_buffers, q->tx, stride(o->sizes.max), mem);
	if (ret != 0)
		return ret;
	prepare_rx(q);
	prepare_tx(q, d->number << 16 | i, d->receiver);
	return 0;
}

int
net_device_start(struct net_device *d, const struct net_options *o, struct perf_memory *mem)
{
	int ret = 0;

	d->rings = calloc(RINGS_PER_QUEUE * d->n_queues, sizeof(*d->rings));
	d->queues = aligned_alloc(RTE_CACHE_LINE_SIZE, d->n_queues * sizeof(*d->queues));
	if (d->queues != NULL)
		memset(d->queues, 0, d->n_queues * sizeof(*d->queues));
	if (d->rings == NULL || d->queues == NULL)
		ret = -ENOMEM;
	for (unsigned int i = 0; ret == 0 && i < d->n_queues; i++)
		ret = make_queue(d, o, i, mem);
	if (ret == -ENOMEM)
		perf_error(d->path, "out of memory");
	return ret == 0 ? frontend_start(d->fe, mem, d->rings) : ret;
}

void
net_device_close(struct net_device *d)
{
	frontend_close(d->fe);
	for (unsigned int i = 0; d->queues != NULL && i < d->n_queues; i++) {
		free(d->queues[i].free_slots);
		free(d->queues[i].slot_bytes);
	}
	for (unsigned int i = 0; d->rings != NULL && i < RINGS_PER_QUEUE * d->n_queues; i++)
		ring_destroy(d->rings[i]);
	free(d->queues);
	free(d->rings);
}
