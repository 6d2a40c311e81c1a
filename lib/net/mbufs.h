/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How many mbufs there are, and how many of them may be where, for so many lcores: all that bounds each other
 * is here. Used by pool.c, which makes them, and by inbox.c and to_guest.c, where they wait.
 *
 * An lcore has at most two bursts under way, each packet with up to 33 mbufs (64 KiB), also while librte_vhost
 * copies those of a guest that is not trusted (rte_vhost/mbufs.c). What waits longer is bounded: in inboxes, for
 * room in rings, in copies by DMA engines and for the files of captures (rte_vhost/dma.c, capture.c). What lcores'
 * caches keep is there for the lcore that has it alone.
 */
#ifndef NET_MBUFS_H
#define NET_MBUFS_H

#include <stdint.h>

#include <rte_common.h>

#include "capture.h"
#include "rvhost.h"
#include "vhub_net.h"

/*
 * In all inboxes together. Each lcore has its share, so that one that lags behind does not leave the others
 * without; however many there are, a burst, which is more than the longest packet.
 */
#define NET_INBOXES_MBUFS 4096u
#define NET_MIN_INBOXES_SHARE VHUB_NET_BURST

/* For room in all rings together. Likewise; at least two bursts. */
#define NET_HELD_MBUFS 2048u
#define NET_MIN_HELD_SHARE (2 * VHUB_NET_BURST)

/* For those under way: some for all, and at least a burst for each lcore. */
#define NET_UNDER_WAY_MBUFS 511u

_Static_assert(RVHOST_PACKET_MBUFS <= NET_MIN_INBOXES_SHARE, "any packet may wait");

static inline uint32_t
net_inboxes_share(uint32_t n_lcores)
{
	return RTE_MAX(NET_INBOXES_MBUFS / RTE_MAX(1u, n_lcores), NET_MIN_INBOXES_SHARE);
}

static inline uint32_t
net_held_share(uint32_t n_lcores)
{
	return RTE_MAX(NET_HELD_MBUFS / RTE_MAX(1u, n_lcores), NET_MIN_HELD_SHARE);
}

/* No less than the shares of all lcores, and no less than with fewer of them. */
static inline uint32_t
net_max_waiting(uint32_t n_lcores)
{
	return RTE_MAX(NET_INBOXES_MBUFS, n_lcores * NET_MIN_INBOXES_SHARE) +
			RTE_MAX(NET_HELD_MBUFS, n_lcores * NET_MIN_HELD_SHARE);
}

/* An lcore's cache of a pool gives some back when it has half as many again as its size. */
static inline uint32_t
net_max_cached(uint32_t n_lcores, uint32_t cache_size)
{
	return n_lcores * (cache_size + cache_size / 2);
}

/*
 * Of the pool that ports share, without those that are for tx queues. The control thread's lcore has a cache as
 * well.
 */
static inline uint32_t
net_pool_mbufs(uint32_t n_lcores, uint32_t cache_size)
{
	return net_max_waiting(n_lcores) + RVHOST_DMA_MBUFS + CAPTURES_MBUFS +
			RTE_MAX(NET_UNDER_WAY_MBUFS, n_lcores * VHUB_NET_BURST) +
			net_max_cached(n_lcores + 1, cache_size);
}

#endif /* NET_MBUFS_H */
