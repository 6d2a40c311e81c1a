/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The mbufs that packets of guests are in while they cross vhub: one pool for each NUMA node, made
 * with the first port. Used by net.c, and by drivers that make packets of their own.
 */
#include <pthread.h>
#include <stdio.h>

#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_mempool.h>

#include "capture.h"
#include "net_pvt.h"

/*
 * An lcore has at most two bursts under way, each packet with up to 33 mbufs (64 KiB). What waits
 * longer is bounded: in inboxes half of these (inbox.c), for room in rings a quarter (to_guest.c), in
 * copies by DMA engines and for the files of captures a little each (rte_vhost/dma.c, capture.c); what a
 * driver keeps beyond its call otherwise is in a pool of its own. In EAL's heap, which is small: 19 MB.
 */
#define POOL_MBUFS 8191
#define POOL_CACHE 256
_Static_assert(VHUB_NET_MAX_WAITING + RVHOST_DMA_MBUFS + CAPTURES_MBUFS < POOL_MBUFS - 500,
		"some are for those under way");

struct rte_mempool *
vhub_net_pool(int node)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct rte_mempool *pool;
	char name[RTE_MEMPOOL_NAMESIZE];

	if (node < 0)
		node = (int)rte_socket_id_by_idx(0);
	snprintf(name, sizeof(name), "vhub_net_%d", node);
	pthread_mutex_lock(&lock);
	pool = rte_mempool_lookup(name);
	if (pool == NULL)
		pool = rte_pktmbuf_pool_create(name, POOL_MBUFS, POOL_CACHE, 0,
				RTE_MBUF_DEFAULT_BUF_SIZE, node);
	pthread_mutex_unlock(&lock);
	return pool;
}
