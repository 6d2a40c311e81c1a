/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The double of lib/net and of an lcore: a registry, a pool, counted drops, an epoll instance.
 */
#include "double.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include <rte_common.h>

uint64_t double_drops[VHUB_NET_DROPS];
int double_epoll = -1;
struct vhub_lcore *double_woken;
unsigned int double_wakes;

static struct vhub_registry drivers;

/* ---- lib/net ---- */

int
vhub_net_driver_register(const struct vhub_net_driver_ops *ops)
{
	return vhub_registry_add(&drivers, ops);
}

const struct vhub_net_driver_ops *
vhub_net_driver_find(const char *name)
{
	return vhub_registry_find(&drivers, name);
}

void
vhub_net_drop(struct vhub_net_queue *queue, enum vhub_net_drop reason, struct rte_mbuf **pkts,
		uint16_t n)
{
	(void)queue;
	double_drops[reason] += n;
	rte_pktmbuf_free_bulk(pkts, n);
}

struct rte_mempool *
vhub_net_pool(int node)
{
	static struct rte_mempool *pool;

	if (pool == NULL)
		pool = rte_pktmbuf_pool_create("double", 1023, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
				node);
	return pool;
}

uint32_t
vhub_net_max_waiting(void)
{
	return DOUBLE_MAX_WAITING;
}

uint32_t
vhub_net_max_cached(uint32_t cache_size)
{
	return DOUBLE_N_CACHES * (cache_size + cache_size / 2);
}

uint32_t
vhub_net_pool_tx_mbufs(void)
{
	return DOUBLE_TX_MBUFS;
}

/* ---- the lcore ---- */

struct vhub_lcore *
vhub_lcore_self(void)
{
	return (struct vhub_lcore *)&double_epoll; /* any that is not NULL; nobody looks into it */
}

int
vhub_lcore_add_wake_fd(int fd)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };

	if (double_epoll < 0)
		double_epoll = epoll_create1(EPOLL_CLOEXEC);
	assert_int_equal(epoll_ctl(double_epoll, EPOLL_CTL_ADD, fd, &event), 0);
	return 0;
}

void
vhub_lcore_remove_wake_fd(int fd)
{
	assert_int_equal(epoll_ctl(double_epoll, EPOLL_CTL_DEL, fd, NULL), 0);
}

void
vhub_lcore_wake(struct vhub_lcore *lcore)
{
	double_woken = lcore;
	double_wakes++;
}

/* The one lcore there is, is the caller's. */
int
vhub_quiesce_wait(void)
{
	return 0;
}

/* ---- for tests ---- */

static int
parse_kvargs(const char *driver, const struct rte_kvargs *args, struct vhub_net_port **out,
		char *error)
{
	const struct vhub_net_driver_ops *ops = vhub_net_driver_find(driver);
	char sentence[DOUBLE_ERROR_LEN] = "";
	int ret;

	assert_non_null(ops);
	ret = ops->parse(args, out, sentence, sizeof(sentence));
	if (ret == -EINVAL)
		assert_string_not_equal(sentence, "");
	if (error != NULL)
		memcpy(error, sentence, sizeof(sentence));
	return ret;
}

int
double_parse(const char *driver, const char *key, const char *value, struct vhub_net_port **out,
		char *error)
{
	struct rte_kvargs args = { .count = 1 };

	/* Not written to. */
	args.pairs[0].key = (char *)(uintptr_t)key;
	args.pairs[0].value = (char *)(uintptr_t)value;
	return parse_kvargs(driver, &args, out, error);
}

int
double_parse_args(const char *driver, const char *args, struct vhub_net_port **out, char *error)
{
	struct rte_kvargs *kvlist = rte_kvargs_parse(args, NULL);
	int ret;

	assert_non_null(kvlist);
	ret = parse_kvargs(driver, kvlist, out, error);
	rte_kvargs_free(kvlist);
	return ret;
}

struct vhub_net_port *
double_open(const char *driver, const char *args, uint16_t n_pairs)
{
	char error[DOUBLE_ERROR_LEN] = "";
	struct vhub_net_port *port;

	if (double_parse_args(driver, args, &port, error) != 0)
		fail_msg("driver %s, %s: %s", driver, args, error);
	if (port->ops->open(port, n_pairs, NULL, 0, error, sizeof(error)) != 0)
		fail_msg("driver %s, %s: %s", driver, args, error);
	return port;
}

struct rte_mbuf *
double_packet(uint32_t bytes, uint16_t seg_bytes, uint8_t fill)
{
	struct rte_mbuf *head = NULL;

	while (bytes > 0) {
		struct rte_mbuf *seg = rte_pktmbuf_alloc(vhub_net_pool(-1));
		uint16_t len = (uint16_t)RTE_MIN(bytes, (uint32_t)seg_bytes);

		assert_non_null(seg);
		memset(rte_pktmbuf_append(seg, len), fill, len);
		if (head == NULL)
			head = seg;
		else
			assert_int_equal(rte_pktmbuf_chain(head, seg), 0);
		bytes -= len;
	}
	return head;
}

unsigned int
double_in_use(void)
{
	return rte_mempool_in_use_count(vhub_net_pool(-1));
}

struct wanted {
	const char *name;
	uint64_t value;
	bool found;
};

static void
look(void *arg, const char *name, uint64_t value)
{
	struct wanted *wanted = arg;

	if (strcmp(name, wanted->name) != 0)
		return;
	assert_false(wanted->found);
	wanted->found = true;
	wanted->value = value;
}

uint64_t
double_stat(const struct vhub_net_port *port, const char *name)
{
	struct wanted wanted = { .name = name };

	port->ops->stats(port, look, &wanted);
	assert_true(wanted.found);
	return wanted.value;
}
