/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which pair a guest has sent a flow by: the table of a port with several pairs. flows.c tells how; its callers
 * are port.c (life), direct_from.c and from_guest.c (what a guest sends), rss.c (what comes for it).
 */
#ifndef NET_FLOWS_H
#define NET_FLOWS_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_common.h>
#include <rte_mbuf.h>

struct net_dev;
struct net_pair;
struct vhub_net_view;

/* 4096 flows, 32 KB. */
#define NET_FLOW_LINES 512u
#define NET_FLOW_WAYS 8u
/* There are between this and twice as many ticks in a second; a flow that was not heard of for so many is forgotten. */
#define NET_FLOW_TICKS_PER_S 8u
#define NET_FLOW_AGE_TICKS 240u
/* And one that was silent for so many gives up its place where there is no other. */
#define NET_FLOW_SILENT_TICKS 16u

struct net_flows {
	uint8_t tick_shift; /* immutable: TSC cycles to ticks */
	/* Shared atomics. */
	uint64_t words[NET_FLOW_LINES][NET_FLOW_WAYS] __rte_cache_aligned;
};

/* Returns 0 or -ENOMEM. CTL or WORK. */
int
net_flows_create(struct net_dev *dev, int node);
/* There may be none. */
void
net_flows_destroy(struct net_dev *dev);
/* All of them: another guest. Thread: ANY. */
void
net_flows_forget(struct net_dev *dev);

/* Whether the guest takes packets by more pairs than one. Thread: LCORE, any, as all that follow. */
bool
net_flows_matter(const struct net_dev *dev);

/* What the guest sends by a pair, of a device with flows. LCORE, the pair's. */
void
net_flows_note_views(struct net_pair *pair, const struct vhub_net_view *views, uint16_t n);
void
net_flows_note_mbufs(struct net_pair *pair, struct rte_mbuf *const *pkts, uint16_t n);
/* The pair for a packet to the guest, which is open; -1: it is not known. */
int
net_flows_wanted(const struct net_dev *dev, const uint8_t *head, uint32_t head_bytes);

/* Of a frame of at least an Ethernet header; the same in both directions. */
uint32_t
net_flow_hash(const uint8_t *head, uint32_t bytes);
/* By themselves, `now` in ticks. */
void
net_flows_note(struct net_flows *flows, uint32_t hash, uint16_t pair, uint32_t now);
int
net_flows_find(struct net_flows *flows, uint32_t hash, uint32_t now);

#endif /* NET_FLOWS_H */
