/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The mbufs that packets of guests are in while they cross vhub: one pool for each NUMA node, made
 * with the first port. Made by port.c and uplink.c; used by whatever of lib/net takes a packet from a
 * guest, copies or cuts one, and by drivers that copy packets or make their own.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_mempool.h>

#include "mbufs.h"
#include "net_pvt.h"

/* Of each lcore. */
#define POOL_CACHE 256u
_Static_assert(POOL_CACHE <= RTE_MEMPOOL_CACHE_MAX_SIZE, "EAL has no larger ones");
_Static_assert(NET_LONGEST_FRAME_BYTES <= RVHOST_PACKET_MBUFS * RTE_MBUF_DEFAULT_DATAROOM,
		"a packet has no more");

/*
 * And beside those that mbufs.h counts, what drivers keep in tx queues, which hold what they have sent
 * until they need its room. One for so many bytes of EAL's heap, a small part of it: 1024 with the 64 MB
 * that there are without arguments and with one worker. Who has many ports needs more memory for their rx
 * queues too.
 */
#define MIN_TX_MBUFS 1024u
#define MAX_TX_MBUFS 32768u
#define HEAP_BYTES_PER_TX_MBUF 65536u

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t tx_mbufs; /* 0: nobody has asked yet */

/*
 * Workers, by EAL's count, which is known before they run: no fewer than vhub_lcore_count() will tell, by which what
 * waits is shared out.
 */
static uint32_t
n_workers(void)
{
	return RTE_MAX(rte_lcore_count(), 2u) - 1;
}

uint32_t
vhub_net_max_waiting(void)
{
	return net_max_waiting(n_workers());
}

uint32_t
vhub_net_max_cached(uint32_t cache_size)
{
	return net_max_cached(n_workers() + 1, cache_size);
}

/* As the heap is when this is asked for first: that number the pools are made with. */
static uint32_t
find_tx_mbufs(void)
{
	const unsigned int n_nodes = rte_socket_count();
	struct rte_malloc_socket_stats stats;
	uint64_t n = 0;

	if (tx_mbufs != 0)
		return tx_mbufs;
	for (unsigned int i = 0; i < n_nodes; i++) {
		if (rte_malloc_get_socket_stats(rte_socket_id_by_idx(i), &stats) == 0)
			n += stats.heap_totalsz_bytes / HEAP_BYTES_PER_TX_MBUF / n_nodes;
	}
	tx_mbufs = n < MIN_TX_MBUFS ? MIN_TX_MBUFS : (uint32_t)RTE_MIN(n, MAX_TX_MBUFS);
	return tx_mbufs;
}

uint32_t
vhub_net_pool_tx_mbufs(void)
{
	uint32_t n;

	pthread_mutex_lock(&lock);
	n = find_tx_mbufs();
	pthread_mutex_unlock(&lock);
	return n;
}

struct rte_mempool *
vhub_net_pool(int node)
{
	struct rte_mempool *pool;
	char name[RTE_MEMPOOL_NAMESIZE];

	if (node < 0)
		node = (int)rte_socket_id_by_idx(0);
	snprintf(name, sizeof(name), "vhub_net_%d", node);
	pthread_mutex_lock(&lock);
	pool = rte_mempool_lookup(name);
	if (pool == NULL)
		pool = rte_pktmbuf_pool_create(name,
				net_pool_mbufs(n_workers(), POOL_CACHE) + find_tx_mbufs(),
				POOL_CACHE, 0, RTE_MBUF_DEFAULT_BUF_SIZE, node);
	pthread_mutex_unlock(&lock);
	return pool;
}

void
net_pool_explain(char *error, size_t error_len)
{
	const uint64_t mbuf_bytes = sizeof(struct rte_mbuf) + RTE_MBUF_DEFAULT_BUF_SIZE +
			RTE_CACHE_LINE_SIZE;
	const uint64_t bytes = (net_pool_mbufs(n_workers(), POOL_CACHE) +
					       vhub_net_pool_tx_mbufs()) *
			mbuf_bytes;

	snprintf(error, error_len,
			"no memory for packets: EAL has to have %" PRIu64 " MB free for them (-m)",
			(bytes >> 20) + 1);
}

/* ---- none left ---- */

/* Looks of an lcore at rings from which nothing comes, of which one is at the pool as well. */
#define LOOKS_OF_A_PROBE 64u

/* What tx queues keep comes back only when a packet is sent, and without mbufs there is none. */
void
net_pool_reclaim(void)
{
	const struct vhub_net_driver_ops *driver;

	for (unsigned int i = 0; (driver = vhub_net_driver_at(i)) != NULL; i++) {
		if (driver->reclaim != NULL)
			driver->reclaim();
	}
}

int
net_pool_get(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int n)
{
	if (likely(rte_pktmbuf_alloc_bulk(pool, mbufs, n) == 0))
		return 0;
	net_pool_reclaim();
	return rte_pktmbuf_alloc_bulk(pool, mbufs, n);
}

struct rte_mbuf *
net_pool_copy(const struct rte_mbuf *m, struct rte_mempool *pool, uint32_t offset, uint32_t bytes)
{
	struct rte_mbuf *copy = rte_pktmbuf_copy(m, pool, offset, bytes);

	if (likely(copy != NULL))
		return copy;
	net_pool_reclaim();
	return rte_pktmbuf_copy(m, pool, offset, bytes);
}

struct rte_mbuf *
vhub_net_copy(const struct rte_mbuf *m, struct rte_mempool *pool)
{
	return net_pool_copy(m, pool, 0, UINT32_MAX);
}

void
net_pool_refill(struct rte_mempool *pool)
{
	static __thread unsigned int n_looks;
	void *probe[VHUB_NET_BURST];

	if (likely(++n_looks % LOOKS_OF_A_PROBE != 0))
		return;
	if (likely(rte_mempool_get_bulk(pool, probe, RTE_DIM(probe)) == 0))
		rte_mempool_put_bulk(pool, probe, RTE_DIM(probe));
	else
		net_pool_reclaim();
}
