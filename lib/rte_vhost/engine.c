/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * DMA engines (DPDK's dmadev) that copy packets for librte_vhost: paths open and close them (dma=NAME), and
 * any number share one. Next: dma.c.
 *
 * An engine that fails a copy tells so in the place of all that come behind it, until somebody asks for that
 * copy's status, which the library never does; and one that stands still keeps the packets of all ports. So
 * we stand between the library and the engine's driver, at the functions that dmadev calls for its fast
 * path, and note each copy that is under way: the calling lcore makes those that have failed itself, and if
 * the engine ends nothing for a while it is stopped and lcores make all copies from then on. The library sees
 * an engine that never fails. Addresses for DMA have to be our own for that: EAL's --iova-mode=va.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bsd/string.h>

#include <rte_branch_prediction.h>
#include <rte_common.h>
#include <rte_dev.h>
#include <rte_dmadev.h>
#include <rte_eal.h>
#include <rte_vhost_async.h>

#include "engine.h"
#include "vhub_log.h"

VHUB_LOGTYPE(net);

#define MAX_DESCRIPTORS 4096u
/* Statuses that are asked for at a time. */
#define STATUSES 32

/* A copy that the engine has. */
struct copy {
	const void *src;
	void *dst;
	uint32_t bytes;
};

struct rvhost_dma {
	struct rvhost_dma *next;
	unsigned int n_users;
	int16_t id;
	uint16_t n_descriptors;
	uint16_t mask; /* of indexes, for `copies` */
	char name[RTE_DEV_NAME_MAX_LEN];
	struct rte_dma_fp_object driver; /* what was there before us */

	/* Whoever has the library's lock of the channel; indexes grow for ever, as the driver's. */
	struct copy *copies;
	uint16_t told;	/* of the first copy whose end the library has not been told */
	uint16_t ended; /* of the first one that is under way */
	uint16_t next_index;
	bool stopped;			 /* lcores make all copies */
	struct rvhost_patience patience; /* since a copy has ended */
	struct vhub_log_limit stop_limit;

	/* Shared atomic. */
	uint64_t n_failed;
};

static struct rvhost_dma *engines;
static pthread_mutex_t engines_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- what the engine does not do, on lcores ---- */

static uint16_t
n_under_way(const struct rvhost_dma *dma)
{
	return (uint16_t)(dma->next_index - dma->ended);
}

/* What cannot be written any more is the guard's business, as with every copy of an lcore's. */
static void
make(struct rvhost_dma *dma, uint16_t index)
{
	const struct copy *copy = &dma->copies[index & dma->mask];
	const uint64_t n = dma->n_failed + 1;

	memcpy(copy->dst, copy->src, copy->bytes);
	__atomic_store_n(&dma->n_failed, n, __ATOMIC_RELAXED);
	/* The first one, and then ever more rarely. */
	if (!dma->stopped && (n & (n - 1)) == 0)
		VHUB_LOG(WARNING, "DMA device %s has failed %" PRIu64 " copies, workers made them",
				dma->name, n);
}

/* All that are under way up to the one before `end`. */
static void
make_until(struct rvhost_dma *dma, uint16_t end)
{
	for (; dma->ended != end; dma->ended++)
		make(dma, dma->ended);
}

/* Once it is stopped nothing writes but us. */
static void
take_over(struct rvhost_dma *dma)
{
	const int ret = rte_dma_stop(dma->id);

	rvhost_patience_begin(&dma->patience);
	if (ret != 0) {
		if (vhub_log_allowed(&dma->stop_limit))
			VHUB_LOG(ERR, "DMA device %s does not copy, and cannot be stopped: %s",
					dma->name, strerror(-ret));
		return;
	}
	VHUB_LOG(ERR, "DMA device %s does not copy (%u copies are under way): stopped, workers copy in its place",
			dma->name, n_under_way(dma));
	dma->stopped = true;
	/* The library asks the figures whether anything is under way when it gives up the channel. */
	if (rte_dma_stats_reset(dma->id, RVHOST_ENGINE_CHANNEL) != 0)
		VHUB_LOG(ERR, "DMA device %s keeps its figures: librte_vhost may keep its channel",
				dma->name);
	make_until(dma, dma->next_index);
}

/* ---- in place of the driver's functions: dmadev calls them, under the library's lock of the channel ---- */

static int
engine_copy(void *private, uint16_t channel, rte_iova_t src, rte_iova_t dst, uint32_t bytes,
		uint64_t flags)
{
	struct rvhost_dma *dma = private;
	uint16_t index;
	int ret;

	if (likely(!dma->stopped)) {
		ret = dma->driver.copy(dma->driver.dev_private, channel, src, dst, bytes, flags);
		if (unlikely(ret < 0)) {
			/* There is room in a ring that is empty. */
			if (n_under_way(dma) == 0)
				take_over(dma);
			if (!dma->stopped)
				return ret;
		} else if (n_under_way(dma) == 0) {
			rvhost_patience_begin(&dma->patience);
			/* Not every driver begins at 0 when it is started again. */
			if (dma->told == dma->next_index)
				dma->told = dma->ended = dma->next_index = (uint16_t)ret;
		}
	}
	index = dma->next_index++;
	dma->copies[index & dma->mask] = (struct copy){
		.src = (const void *)(uintptr_t)src,
		.dst = (void *)(uintptr_t)dst,
		.bytes = bytes,
	};
	if (unlikely(dma->stopped))
		make_until(dma, dma->next_index);
	return index;
}

static int
engine_submit(void *private, uint16_t channel)
{
	struct rvhost_dma *dma = private;

	return likely(!dma->stopped) ? dma->driver.submit(dma->driver.dev_private, channel) : 0;
}

/* Steps over copies that have failed, which lets the engine go on; what else has ended is among them. */
static void
step_over(struct rvhost_dma *dma, uint16_t channel)
{
	enum rte_dma_status_code status[STATUSES];
	uint16_t last, n, i;

	n = dma->driver.completed_status(dma->driver.dev_private, channel,
			RTE_MIN(n_under_way(dma), STATUSES), &last, status);
	if (n == 0)
		return;
	make_until(dma, (uint16_t)(last + 1 - n));
	for (i = 0; i < n; i++, dma->ended++) {
		if (status[i] != RTE_DMA_STATUS_SUCCESSFUL)
			make(dma, dma->ended);
	}
}

/* Moves `ended` on to what the driver says. */
static void
look(struct rvhost_dma *dma, uint16_t channel)
{
	const uint16_t before = dma->ended;
	bool failed = false;
	uint16_t last, n;

	n = dma->driver.completed(dma->driver.dev_private, channel, n_under_way(dma), &last,
			&failed);
	if (n != 0) {
		/* Some drivers leave out what has failed. */
		make_until(dma, (uint16_t)(last + 1 - n));
		dma->ended = (uint16_t)(last + 1);
	}
	if (unlikely(failed) && n_under_way(dma) != 0)
		step_over(dma, channel);
	if (dma->ended != before)
		rvhost_patience_begin(&dma->patience);
	else if (unlikely(rvhost_patience_is_over(&dma->patience, RVHOST_ENGINE_PATIENCE_SECONDS)))
		take_over(dma);
}

static uint16_t
engine_completed(void *private, uint16_t channel, const uint16_t max, uint16_t *last, bool *failed)
{
	struct rvhost_dma *dma = private;
	uint16_t n;

	*failed = false;
	if (n_under_way(dma) != 0)
		look(dma, channel);
	n = RTE_MIN((uint16_t)(dma->ended - dma->told), max);
	dma->told += n;
	*last = (uint16_t)(dma->told - 1);
	return n;
}

/* An engine that has lost its descriptors is not to keep us from asking it to copy. */
static uint16_t
engine_burst_capacity(const void *private, uint16_t channel)
{
	const struct rvhost_dma *dma = private;
	/* What the library has not been told has a place in its arrays and ours. */
	const uint16_t room = dma->n_descriptors - 1 - (uint16_t)(dma->next_index - dma->told);

	if (dma->stopped || n_under_way(dma) == 0)
		return room;
	return RTE_MIN(room, dma->driver.burst_capacity(dma->driver.dev_private, channel));
}

/* The library calls no others. */
static void
stand_between(struct rvhost_dma *dma)
{
	struct rte_dma_fp_object *at = &rte_dma_fp_objs[dma->id];

	dma->driver = *at;
	at->dev_private = dma;
	at->copy = engine_copy;
	at->submit = engine_submit;
	at->completed = engine_completed;
	at->burst_capacity = engine_burst_capacity;
}

/* ---- life ---- */

static int
check(const struct rvhost_dma *dma, const struct rte_dma_info *info, char *error, size_t error_len)
{
	const uint64_t needed = RTE_DMA_CAPA_MEM_TO_MEM | RTE_DMA_CAPA_OPS_COPY;

	if ((info->dev_capa & needed) != needed)
		snprintf(error, error_len, "dma=%s: does not copy from memory to memory",
				dma->name);
	else if (rte_eal_iova_mode() != RTE_IOVA_VA)
		snprintf(error, error_len,
				"dma=%s: takes virtual addresses for DMA, EAL's --iova-mode=va",
				dma->name);
	else
		return 0;
	return -ENOTSUP;
}

static int
set_up_channel(const struct rvhost_dma *dma)
{
	const struct rte_dma_conf conf = { .nb_vchans = 1 };
	const struct rte_dma_vchan_conf channel = {
		.direction = RTE_DMA_DIR_MEM_TO_MEM,
		.nb_desc = dma->n_descriptors,
	};
	int ret = rte_dma_configure(dma->id, &conf);

	if (ret == 0)
		ret = rte_dma_vchan_setup(dma->id, RVHOST_ENGINE_CHANNEL, &channel);
	if (ret == 0)
		ret = rte_dma_start(dma->id);
	if (ret == 0 && rte_vhost_async_dma_configure(dma->id, RVHOST_ENGINE_CHANNEL) != 0) {
		rte_dma_stop(dma->id);
		ret = -ENOMEM;
	}
	return ret;
}

static int
set_up(struct rvhost_dma *dma, char *error, size_t error_len)
{
	struct rte_dma_info info;
	uint32_t n_copies;
	int ret = rte_dma_info_get(dma->id, &info);

	if (ret == 0) {
		ret = check(dma, &info, error, error_len);
		if (ret != 0)
			return ret;
		dma->n_descriptors = (uint16_t)RTE_MIN(info.max_desc, MAX_DESCRIPTORS);
		n_copies = rte_align32pow2(dma->n_descriptors);
		dma->mask = (uint16_t)(n_copies - 1);
		dma->copies = calloc(n_copies, sizeof(*dma->copies));
		ret = dma->copies != NULL ? set_up_channel(dma) : -ENOMEM;
	}
	if (ret != 0)
		snprintf(error, error_len, "dma=%s: cannot be set up: %s", dma->name,
				strerror(-ret));
	return ret;
}

static void
free_engine(struct rvhost_dma *dma)
{
	free(dma->copies);
	free(dma);
}

static int
add_engine(const char *name, struct rvhost_dma **out, char *error, size_t error_len)
{
	/* dmadev's part of it is aligned to more than calloc() gives. */
	struct rvhost_dma *dma = aligned_alloc(_Alignof(struct rvhost_dma), sizeof(*dma));
	int ret;

	if (dma == NULL)
		return -ENOMEM;
	memset(dma, 0, sizeof(*dma));
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
		free_engine(dma);
		return ret;
	}
	stand_between(dma);
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
		rte_vhost_async_dma_unconfigure(dma->id, RVHOST_ENGINE_CHANNEL);
		rte_dma_stop(dma->id);
		rte_dma_fp_objs[dma->id] = dma->driver;
		for (p = &engines; *p != dma;)
			p = &(*p)->next;
		*p = dma->next;
		free_engine(dma);
	}
	pthread_mutex_unlock(&engines_lock);
}

int16_t
rvhost_dma_id(const struct rvhost_dma *dma)
{
	return dma->id;
}

const char *
rvhost_dma_name(const struct rvhost_dma *dma)
{
	return dma->name;
}

uint64_t
rvhost_dma_failed(const struct rvhost_dma *dma)
{
	return __atomic_load_n(&dma->n_failed, __ATOMIC_RELAXED);
}
