/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A network driver that errs on purpose: it sends packets back as the driver echo does, and every
 * so many it drops one, sends it twice, swaps it with the one behind it, changes a byte at its end,
 * cuts its last byte off, changes its length in the IP header or gives it another flow. To see that
 * vhub-perf notices each. And its end waits while there is a file stall=PATH, as that of a kernel's interface may.
 * Loaded with `vhubd --load`; used by test/e2e/test_perf_net.py and test_end.py.
 *
 *	--net f0,socket=/x/f0.sock,driver=faulty,fault=drop,every=100
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_mbuf.h>

#include "../stall.h"
#include "vhub_net.h"
#include "vhub_registry.h"

enum fault {
	DROP,
	DUPLICATE,
	REORDER,
	CORRUPT,
	TRUNCATE,
	LENGTH,
	MISDIRECT
};

static const char *const faults[] = { "drop", "duplicate", "reorder", "corrupt", "truncate",
	"length", "misdirect", NULL };
static const char *const faulty_keys[] = { "fault", "every", "stall", NULL };

/* Where vhub-perf has the length and the flow of its frames (app/vhub-perf/net_frame.h). */
#define LENGTH_AT 17
#define FLOW_AT 44

struct faulty_port {
	struct vhub_net_port port;
	unsigned int fault;
	uint64_t every;
	uint64_t seen; /* LCORE: of its one queue */
	struct rte_mempool *pool;
	char *stall;
};

static int
faulty_open(struct vhub_net_port *port, uint16_t n_pairs, const struct rte_ether_addr *mac,
		uint16_t mtu, char *error, size_t error_len)
{
	struct faulty_port *p = vhub_container_of(port, struct faulty_port, port);

	RTE_SET_USED(n_pairs);
	RTE_SET_USED(mac);
	RTE_SET_USED(mtu);
	p->pool = vhub_net_pool(-1);
	if (p->pool != NULL)
		return 0;
	snprintf(error, error_len, "there is no memory for packets");
	return -ENOMEM;
}

static void
faulty_destroy(struct vhub_net_port *port)
{
	struct faulty_port *p = vhub_container_of(port, struct faulty_port, port);

	stall_wait(p->stall);
	free(p->stall);
	free(p);
}

static void
faulty_info(const struct vhub_net_port *port, struct vhub_net_info *info)
{
	RTE_SET_USED(port);
	info->max_pairs = 1;
	info->link_up = true;
	info->full_duplex = true;
	info->takes = VHUB_NET_TAKES_ALL;
}

static void
change(struct rte_mbuf *m, uint32_t at)
{
	*rte_pktmbuf_mtod_offset(m, uint8_t *, at) ^= 0x01;
}

/* Appends what becomes of packet i to `out`, which has room for two; returns how many. */
static uint16_t
err(struct faulty_port *p, struct rte_mbuf **pkts, uint16_t i, uint16_t n, struct rte_mbuf **out)
{
	struct rte_mbuf *m = pkts[i];

	out[0] = m;
	switch (p->fault) {
	case DROP:
		rte_pktmbuf_free(m);
		return 0;
	case DUPLICATE:
		out[1] = rte_pktmbuf_copy(m, p->pool, 0, UINT32_MAX);
		return out[1] != NULL ? 2 : 1;
	case REORDER:
		if (i + 1 < n) {
			out[0] = pkts[i + 1];
			pkts[i + 1] = m;
		}
		return 1;
	case CORRUPT:
		change(m, m->data_len - 1u);
		return 1;
	case TRUNCATE:
		rte_pktmbuf_trim(m, 1);
		return 1;
	case LENGTH:
		change(m, LENGTH_AT);
		return 1;
	default:
		change(m, FLOW_AT);
		return 1;
	}
}

static uint16_t
faulty_from_guest(struct vhub_net_queue *queue, struct rte_mbuf **pkts, uint16_t n)
{
	struct faulty_port *p = vhub_container_of(queue->port, struct faulty_port, port);
	struct rte_mbuf *out[2 * 256];
	uint16_t used = 0;

	for (uint16_t i = 0; i < n; i++) {
		if (++p->seen % p->every != 0)
			out[used++] = pkts[i];
		else
			used += err(p, pkts, i, n, &out[used]);
		if (used >= RTE_DIM(out) - 2 || i + 1 == n) {
			vhub_net_to_guest(queue, out, used);
			used = 0;
		}
	}
	return n;
}

static int
faulty_parse(const struct rte_kvargs *args, struct vhub_net_port **out, char *error,
		size_t error_len);

static const struct vhub_net_driver_ops faulty_ops = {
	.name = "faulty",
	.help = "fault=WORD        what it does wrong\n"
		"every=N           with each N-th packet\n"
		"stall=PATH        its end waits while there is this file",
	.keys = faulty_keys,
	.parse = faulty_parse,
	.open = faulty_open,
	.destroy = faulty_destroy,
	.info = faulty_info,
	.from_guest = faulty_from_guest,
};

static int
faulty_parse(const struct rte_kvargs *args, struct vhub_net_port **out, char *error,
		size_t error_len)
{
	struct faulty_port *p = calloc(1, sizeof(*p));
	const char *stall = NULL;
	int ret;

	if (p == NULL)
		return -ENOMEM;
	p->port.ops = &faulty_ops;
	p->every = 100;
	ret = vhub_arg_choice(args, "fault", faults, &p->fault, error, error_len);
	if (ret == 0)
		ret = vhub_arg_uint(args, "every", 2, UINT32_MAX, &p->every, error, error_len);
	if (ret == 0)
		ret = vhub_arg_text(args, "stall", &stall, error, error_len);
	if (ret == 0 && stall != NULL && (p->stall = strdup(stall)) == NULL)
		ret = -ENOMEM;
	if (ret != 0) {
		free(p);
		return ret;
	}
	*out = &p->port;
	return 0;
}

VHUB_NET_DRIVER_REGISTER(faulty_ops)
