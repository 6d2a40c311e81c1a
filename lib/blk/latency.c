/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How long requests of a disk take. Called by submit.c and complete.c, once a burst, only for disks that are measured;
 * by vhubd's control methods, to begin, end and read it.
 *
 * Requests get the time when they are taken, after their burst was, and are counted by what has passed when they are
 * answered, before that is pushed: what one reading of the clock tells of a turn's beginning or end would have
 * requests that are done within their turn take no time at all, or that of all other disks of the lcore, too.
 * What was taken before the beginning has an older time, or none, and is not counted.
 *
 * Each lcore that serves the disk has histograms of its own, so a queue that moves leaves nothing behind.
 */
#include <errno.h>
#include <string.h>

#include <bsd/string.h>
#include <rte_branch_prediction.h>
#include <rte_cycles.h>

#include "blk_pvt.h"
#include "vhub_alloc.h"
#include "vhub_work.h"

struct lcore_latency {
	struct vhub_hist op[VHUB_BLK_OPS];
} __rte_cache_aligned;

/* From a beginning to its end. Immutable, but for the histograms. */
struct blk_latency {
	uint64_t begin_tsc;
	unsigned int n_lcores;
	char name[64]; /* the device's, for the log: it may be gone before this is */
	struct vhub_work free_work;
	/* Each written by its lcore, read by CTL: shared atomics. Pages come with the first request, near the lcore. */
	struct lcore_latency lcores[];
};

/* Requests that follow each other and that have one thing to be counted as. */
struct run {
	uint64_t taken_tsc;
	unsigned int op;
	unsigned int n;
};

/* ---- LCORE ---- */

void
blk_latency_taken(struct vhub_chain *const *chains, uint16_t n)
{
	const uint64_t now = rte_rdtsc();

	for (uint16_t i = 0; i < n; i++)
		vhub_container_of(chains[i], struct blk_req, chain)->taken_tsc = now;
}

static __rte_always_inline void
count(struct vhub_hist *hists, const struct run *run, uint64_t now, uint64_t begin)
{
	if (likely(run->op < VHUB_BLK_OPS && run->taken_tsc >= begin))
		vhub_hist_add_n(&hists[run->op], now - run->taken_tsc, run->n);
}

void
blk_latency_answered(const struct blk_ring *ring)
{
	/* Pairs with replace(): the histograms are there. */
	struct blk_latency *latency = __atomic_load_n(&ring->dev->latency, __ATOMIC_ACQUIRE);
	struct run run = { .op = VHUB_BLK_OPS };
	const uint64_t now = rte_rdtsc();
	struct vhub_hist *hists;

	if (unlikely(latency == NULL))
		return;
	hists = latency->lcores[vhub_lcore_index(ring->vring->lcore)].op;
	for (uint16_t i = 0; i < ring->n_done; i++) {
		const struct blk_req *req = vhub_container_of(ring->done[i], const struct blk_req,
				chain);

		if (req->op != run.op || req->taken_tsc != run.taken_tsc) {
			count(hists, &run, now, latency->begin_tsc);
			run = (struct run){ .taken_tsc = req->taken_tsc, .op = req->op };
		}
		run.n++;
	}
	count(hists, &run, now, latency->begin_tsc);
}

/* ---- CTL ---- */

static size_t
latency_bytes(unsigned int n_lcores)
{
	return sizeof(struct blk_latency) + n_lcores * sizeof(struct lcore_latency);
}

static void
destroy(struct blk_latency *latency)
{
	if (latency != NULL)
		vhub_free(latency, latency_bytes(latency->n_lcores));
}

static void
free_latency(struct vhub_work *work)
{
	destroy(vhub_container_of(work, struct blk_latency, free_work));
}

/* WORK: an lcore may count in it yet. */
static void
let_go(struct vhub_work *work)
{
	work->run = free_latency;
	vhub_quiesce_then(work, vhub_container_of(work, struct blk_latency, free_work)->name);
}

static void
replace(struct blk_dev *dev, struct blk_latency *latency)
{
	struct blk_latency *old = dev->latency;

	/* Pairs with blk_latency_answered(). */
	__atomic_store_n(&dev->latency, latency, __ATOMIC_RELEASE);
	if (old == NULL)
		return;
	old->free_work.run = let_go;
	vhub_work_submit(&old->free_work);
}

int
vhub_blk_latency_start(struct vhub_device *device)
{
	struct blk_dev *dev = blk_dev_find(device);
	const unsigned int n_lcores = vhub_lcore_count();
	struct blk_latency *latency;

	if (dev == NULL)
		return -EINVAL;
	latency = vhub_zalloc_node(latency_bytes(n_lcores), -1);
	if (latency == NULL)
		return -ENOMEM;
	latency->n_lcores = n_lcores;
	strlcpy(latency->name, device->name, sizeof(latency->name));
	latency->begin_tsc = rte_rdtsc();
	replace(dev, latency);
	return 0;
}

int
vhub_blk_latency_stop(struct vhub_device *device)
{
	struct blk_dev *dev = blk_dev_find(device);

	if (dev == NULL)
		return -EINVAL;
	replace(dev, NULL);
	return 0;
}

int
vhub_blk_get_latency(const struct vhub_device *device, struct vhub_blk_latency *to)
{
	const struct blk_dev *dev = blk_dev_find(device);

	memset(to, 0, sizeof(*to));
	if (dev == NULL)
		return -EINVAL;
	if (dev->latency == NULL)
		return -ENODATA;
	to->cycles = rte_rdtsc() - dev->latency->begin_tsc;
	for (unsigned int i = 0; i < dev->latency->n_lcores; i++) {
		for (unsigned int op = 0; op < VHUB_BLK_OPS; op++)
			vhub_hist_merge(&to->op[op], &dev->latency->lcores[i].op[op]);
	}
	return 0;
}

void
blk_latency_destroy(struct blk_dev *dev)
{
	destroy(dev->latency);
}
