/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * DMA engines (DPDK's dmadev) that copy packets for librte_vhost in place of the lcore (dma=NAME): who
 * has which, and what of a ring is under way. A copy that was submitted belongs to the library until it
 * is reaped: the packet to a guest is freed then, the one from a guest is there then. Paths open and close
 * engines; sync.c begins and ends rings; called by burst.c for each turn of a ring that has one.
 *
 * The library takes a guest at its word for how much is in a ring, and keeps what is under way in arrays as
 * long as the ring: no more than that is ever submitted. It marks no pages in a dirty log, so while there is
 * one the lcore copies (sync.c). And in 22.11 a packet from the guest that it cannot take, because it is
 * longer than all buffers, stays at the head of its ring and takes them in each turn anew, where the call that
 * copies by itself drops it: from guests that are not trusted the lcore copies.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bsd/string.h>

#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_dmadev.h>
#include <rte_vhost_async.h>

#include "rvhost.h"
#include "vhub_log.h"

VHUB_LOGTYPE(net);

/* The only one that we set up. Any number of rings share it: the library has a lock for it. */
#define CHANNEL 0
#define MAX_DESCRIPTORS 4096u
/* Longer than any engine that works takes for what a ring may have under way. */
#define DRAIN_SECONDS 2

struct rvhost_dma {
	struct rvhost_dma *next;
	unsigned int n_users;
	int16_t id;
	char name[RTE_DEV_NAME_MAX_LEN];
};

static struct rvhost_dma *engines;
static pthread_mutex_t engines_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- engines ---- */

static int
set_up(const struct rvhost_dma *dma, char *error, size_t error_len)
{
	const struct rte_dma_conf conf = { .nb_vchans = 1 };
	struct rte_dma_vchan_conf channel = { .direction = RTE_DMA_DIR_MEM_TO_MEM };
	struct rte_dma_info info;
	int ret = rte_dma_info_get(dma->id, &info);

	if (ret == 0 &&
			(info.dev_capa & (RTE_DMA_CAPA_MEM_TO_MEM | RTE_DMA_CAPA_OPS_COPY)) !=
					(RTE_DMA_CAPA_MEM_TO_MEM | RTE_DMA_CAPA_OPS_COPY)) {
		snprintf(error, error_len, "dma=%s: does not copy from memory to memory",
				dma->name);
		return -ENOTSUP;
	}
	if (ret == 0)
		ret = rte_dma_configure(dma->id, &conf);
	if (ret == 0) {
		channel.nb_desc = (uint16_t)RTE_MIN(info.max_desc, MAX_DESCRIPTORS);
		ret = rte_dma_vchan_setup(dma->id, CHANNEL, &channel);
	}
	if (ret == 0)
		ret = rte_dma_start(dma->id);
	if (ret == 0 && rte_vhost_async_dma_configure(dma->id, CHANNEL) != 0) {
		rte_dma_stop(dma->id);
		ret = -ENOMEM;
	}
	if (ret != 0)
		snprintf(error, error_len, "dma=%s: cannot be set up: %s", dma->name,
				strerror(-ret));
	return ret;
}

static int
add_engine(const char *name, struct rvhost_dma **out, char *error, size_t error_len)
{
	struct rvhost_dma *dma = calloc(1, sizeof(*dma));
	int ret;

	if (dma == NULL)
		return -ENOMEM;
	strlcpy(dma->name, name, sizeof(dma->name));
	ret = rte_dma_get_dev_id_by_name(name);
	dma->id = (int16_t)ret;
	if (ret < 0) {
		snprintf(error, error_len,
				"dma=%s: EAL has no DMA device of this name (its arguments name them: --vdev dma_skeleton, -a ADDRESS)",
				name);
		ret = -ENODEV;
	} else {
		ret = set_up(dma, error, error_len);
	}
	if (ret != 0) {
		free(dma);
		return ret;
	}
	dma->next = engines;
	engines = dma;
	*out = dma;
	return 0;
}

int
rvhost_dma_get(const char *name, struct rvhost_dma **out, char *error, size_t error_len)
{
	struct rvhost_dma *dma;
	int ret = 0;

	pthread_mutex_lock(&engines_lock);
	for (dma = engines; dma != NULL && strcmp(dma->name, name) != 0;)
		dma = dma->next;
	if (dma == NULL)
		ret = add_engine(name, &dma, error, error_len);
	if (ret == 0) {
		dma->n_users++;
		*out = dma;
	}
	pthread_mutex_unlock(&engines_lock);
	return ret;
}

void
rvhost_dma_put(struct rvhost_dma *dma)
{
	struct rvhost_dma **p;

	if (dma == NULL)
		return;
	pthread_mutex_lock(&engines_lock);
	if (--dma->n_users == 0) {
		rte_vhost_async_dma_unconfigure(dma->id, CHANNEL);
		rte_dma_stop(dma->id);
		for (p = &engines; *p != dma;)
			p = &(*p)->next;
		*p = dma->next;
		free(dma);
	}
	pthread_mutex_unlock(&engines_lock);
}

/* ---- rings ---- */

int
rvhost_dma_begin(struct rvhost_path *path, uint16_t index, uint16_t ring_size)
{
	struct rvhost_ring_dma *ring = &path->ring_dma[index];
	const bool from_guest = (index & 1) != 0;

	if (!path->copies_by_dma || (from_guest && !path->trusted))
		return 0;
	if (rte_vhost_async_channel_register(path->vid, index) != 0)
		return -EIO;
	ring->on = true;
	ring->max = RTE_MIN(ring_size, RVHOST_DMA_MAX);
	ring->under_way = 0;
	return 0;
}

void
rvhost_dma_end(struct rvhost_path *path, uint16_t index)
{
	const uint64_t deadline = rte_rdtsc() + DRAIN_SECONDS * rte_get_tsc_hz();
	struct rvhost_ring_dma *ring = &path->ring_dma[index];
	struct rte_mbuf *pkts[RVHOST_CALL_MAX];

	if (!ring->on)
		return;
	/* Lcores have drained it, unless the engine stood still then. */
	while (ring->under_way != 0 && rte_rdtsc() < deadline)
		rte_pktmbuf_free_bulk(pkts,
				rvhost_dma_completed(path, index, pkts, RVHOST_CALL_MAX));
	if (ring->under_way != 0)
		VHUB_LOG(ERR, "%s: ring %u: DMA device %s has not ended %u copies within %u s",
				path->dev->name, index, path->dma->name, ring->under_way,
				DRAIN_SECONDS);
	if (rte_vhost_async_channel_unregister(path->vid, index) != 0)
		VHUB_LOG(ERR, "%s: ring %u: librte_vhost keeps its DMA channel", path->dev->name,
				index);
	ring->on = false;
}

unsigned int
rvhost_copies(const struct rvhost_path *path)
{
	unsigned int i, n = 0;

	for (i = 0; i < path->n_vrings; i++)
		n += __atomic_load_n(&path->ring_dma[i].under_way, __ATOMIC_RELAXED);
	return n;
}

/* ---- packets ---- */

uint16_t
rvhost_dma_completed(struct rvhost_path *path, uint16_t index, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t done = rte_vhost_clear_queue(path->vid, index, pkts, n, path->dma->id, CHANNEL);

	path->ring_dma[index].under_way -= done;
	return done;
}

uint16_t
rvhost_dma_from_guest(struct rvhost_path *path, uint16_t index, struct rte_mempool *pool,
		struct rte_mbuf **pkts, uint16_t n)
{
	struct rvhost_ring_dma *ring = &path->ring_dma[index];
	const uint16_t room = ring->max - ring->under_way;
	int under_way = -1;
	uint16_t got;

	/* What is done is taken, and makes room. */
	if (room == 0)
		return rvhost_dma_completed(path, index, pkts, n);
	n = RTE_MIN(n, room);
	got = rte_vhost_async_try_dequeue_burst(path->vid, index, pool, pkts, n, &under_way,
			path->dma->id, CHANNEL);
	/* Less than nothing: the ring could not be looked at. */
	if (under_way >= 0)
		ring->under_way = (uint16_t)under_way;
	return got;
}

uint16_t
rvhost_dma_to_guest(struct rvhost_path *path, uint16_t index, struct rte_mbuf **pkts, uint16_t n)
{
	struct rvhost_ring_dma *ring = &path->ring_dma[index];
	uint16_t given;

	n = RTE_MIN(n, ring->max - ring->under_way);
	if (n == 0)
		return 0;
	given = rte_vhost_submit_enqueue_burst(path->vid, index, pkts, n, path->dma->id, CHANNEL);
	ring->under_way += given;
	return given;
}
