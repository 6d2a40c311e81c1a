/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of the null driver: null.c (arguments, sink, ops), source.c (packets from nowhere).
 */
#ifndef NULL_PVT_H
#define NULL_PVT_H

#include <stdint.h>

#include "vhub_net.h"

/* A frame's bytes, without the checksum at its end. */
#define NULL_SIZE_MIN 64u
#define NULL_SIZE_MAX 9216u
/* Mbufs of a frame at most. */
#define NULL_MAX_SEGS 8u
/* Packets a second. */
#define NULL_RATE_LIMIT 1000000000u
#define NULL_RATE_MAX UINT32_MAX /* no limit */

/* What a queue pair's source has done. Written by its lcore, read by any thread. */
struct null_counts {
	uint64_t made;
	uint64_t no_mbuf; /* bursts that found no mbufs, and so came to nothing */
} __rte_cache_aligned;

struct null_port {
	struct vhub_net_port port; /* first */
	/* Immutable from parse on. */
	uint32_t rate_pps; /* 0: a sink alone */
	uint16_t size_bytes;
	/* Immutable from open on. */
	struct rte_ether_addr guest_mac; /* the broadcast address when nobody said one */
	struct rte_mempool *pool;
	uint16_t seg_bytes; /* that an mbuf of it has room for */
	uint16_t n_segs;    /* of a frame */
	struct null_counts counts[VHUB_NET_MAX_PAIRS];
};

static inline struct null_port *
null_port_of(const struct vhub_net_port *port)
{
	return vhub_container_of(port, struct null_port, port);
}

/* ---- source.c ---- */

struct null_source;

/* Takes the pool. CTL or WORK. */
int
null_source_open(struct null_port *p, char *error, size_t error_len);

/* Makes queue->priv, which is freed with free(). LCORE. */
int
null_source_create(struct vhub_net_queue *queue);

/* What is due now, `max` packets at most. LCORE. */
uint16_t
null_source_burst(struct null_source *s, struct rte_mbuf **pkts, uint16_t max);

#endif /* NULL_PVT_H */
