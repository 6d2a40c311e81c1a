/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How many mbufs librte_vhost takes for packets from guests that are not trusted. A guest may describe a packet
 * as long as its memory, and the library copies it to its end before anybody can say that it is too long: into all
 * the mbufs that there are, which then lack others, and for as long as that takes. So a call gets what the
 * packets that it is asked for need when they are as long as they may be, and no more. This is held in a pool
 * without mbufs of its own, which stands before the true one: those it gives go back there when they are freed.
 * Next: burst.c, which says how many.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#include <rte_mempool.h>

#include "rvhost.h"

#define OPS "vhub_allowance"

/* Initial-exec: on the fast path. */
__thread struct rvhost_allowance rvhost_allowance __attribute__((tls_model("initial-exec")));

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int
allowance_dequeue(struct rte_mempool *pool, void **mbufs, unsigned int n)
{
	if (unlikely(n > rvhost_allowance.mbufs)) {
		rvhost_allowance.exceeded = true;
		return -ENOBUFS;
	}
	rvhost_allowance.mbufs -= n;
	return rte_mempool_get_bulk(pool->pool_config, mbufs, n);
}

/* It has no memory, and nothing is freed into it. */
static int
allowance_alloc(struct rte_mempool *pool)
{
	(void)pool;
	return -ENOTSUP;
}

static int
allowance_enqueue(struct rte_mempool *pool, void *const *mbufs, unsigned int n)
{
	(void)pool;
	(void)mbufs;
	(void)n;
	return -ENOTSUP;
}

static unsigned int
allowance_count(const struct rte_mempool *pool)
{
	return rte_mempool_avail_count(pool->pool_config);
}

static const struct rte_mempool_ops allowance_ops = {
	.name = OPS,
	.alloc = allowance_alloc,
	.enqueue = allowance_enqueue,
	.dequeue = allowance_dequeue,
	.get_count = allowance_count,
};

RTE_MEMPOOL_REGISTER_OPS(allowance_ops);

static struct rte_mempool *
create(const char *name, struct rte_mempool *pool)
{
	struct rte_mempool *allowance = rte_mempool_create_empty(name, pool->size, pool->elt_size,
			0, 0, pool->socket_id, 0);

	if (allowance != NULL && rte_mempool_set_ops_byname(allowance, OPS, pool) != 0) {
		rte_mempool_free(allowance);
		return NULL;
	}
	return allowance;
}

struct rte_mempool *
rvhost_allowance_pool(struct rte_mempool *pool)
{
	struct rte_mempool *allowance;
	char name[RTE_MEMPOOL_NAMESIZE];

	if (snprintf(name, sizeof(name), "%s_rvhost", pool->name) >= (int)sizeof(name))
		return NULL;
	pthread_mutex_lock(&lock);
	allowance = rte_mempool_lookup(name);
	if (allowance == NULL)
		allowance = create(name, pool);
	pthread_mutex_unlock(&lock);
	return allowance;
}
