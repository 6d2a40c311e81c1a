/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control queue (VIRTIO 1.2, 5.1.6.5), and what a guest has asked for by it: the rules.
 *
 *     net.c (poll) -> ctrl.c (a command: taken, answered) -> ctrl_commands.c (what it changes)
 *             -> rules.c (what that does to packets to the guest), rss.c (which pair gets them),
 *                coalesce.c (when the guest is told of them)
 *
 * Rules are never changed in place. The control queue's lcore makes the next ones from the present ones,
 * publishes them, and answers the command once every lcore has passed a safe point: then nobody looks
 * at the former ones, and the guest's next packet meets the new ones. So there are two places for
 * them and nothing is ever allocated or waited for.
 */
#ifndef NET_CTRL_H
#define NET_CTRL_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_net.h>

#include <rte_ether.h>

#include "vhub_device.h"

struct net_dev;
struct net_header;
struct net_pair;
struct vhub_net_view;

/* Stations in each half of a guest's table; with more of them, all frames of that kind are let in. */
#define NET_TABLE_MACS 64u
#define NET_VLANS 4096u
/* Of RSS: entries of the indirection table, bytes of the key, and types of hashes (5.1.6.4.3). */
#define NET_RSS_TABLE 128u
#define NET_RSS_KEY_BYTES 40u
#define NET_RSS_TYPES \
	(VIRTIO_NET_RSS_HASH_TYPE_IPv4 | VIRTIO_NET_RSS_HASH_TYPE_TCPv4 | \
			VIRTIO_NET_RSS_HASH_TYPE_UDPv4 | VIRTIO_NET_RSS_HASH_TYPE_IPv6 | \
			VIRTIO_NET_RSS_HASH_TYPE_TCPv6 | VIRTIO_NET_RSS_HASH_TYPE_UDPv6)
#define NET_NO_CTRL UINT16_MAX
/* Bytes of the longest result of a command. */
#define NET_CTRL_MAX_RESULT 8u

/* net_dev.restricts: why packets to the guest have to be looked at. */
#define NET_RESTRICTED_BY_RULES 0x1u
#define NET_RESTRICTED_BY_LINK 0x2u
#define NET_RESTRICTED_BY_MTU 0x4u /* its front end's, which is smaller than the port's */

struct net_mac_list {
	uint16_t n;
	bool overflown; /* there were more */
	struct rte_ether_addr macs[NET_TABLE_MACS];
};

/* Hashes as the guest wants them, and by them the pairs (5.1.6.5.6, 5.1.6.5.7). */
struct net_rss {
	bool on; /* pairs are chosen by it */
	uint16_t mask;
	uint16_t unclassified;
	uint32_t types; /* VIRTIO_NET_RSS_HASH_TYPE_* */
	uint16_t table[NET_RSS_TABLE];
	uint32_t key[NET_RSS_KEY_BYTES / sizeof(uint32_t)]; /* words in the order of the CPU */
};

struct net_rules {
	/* Frames that reach the guest (5.1.6.5.1 to 5.1.6.5.3). */
	bool promisc;
	bool all_multi;
	bool all_uni;
	bool no_multi;
	bool no_uni;
	bool no_broadcast;
	bool has_vlans; /* frames with a tag of no VLAN in the table are left out */
	bool has_mac;	/* known; else every station may be the guest */
	struct rte_ether_addr mac;
	struct net_mac_list uni, multi;
	uint64_t vlans[NET_VLANS / 64];
	/* Pairs that may get packets (5.1.6.5.5). */
	uint16_t n_pairs;
	struct net_rss rss;
	/* VHUB_NET_TAKES_*, of those that were negotiated (5.1.6.5.8). */
	uint32_t takes;
};

struct net_ctrl {
	/* CTL, while no ring runs. */
	uint16_t ring_index; /* NET_NO_CTRL: there is none */
	uint64_t features;   /* negotiated */

	/* LCORE, the ring's; CTL while it does not run. */
	struct vhub_vring *ring;
	struct vhub_chain *chain; /* waits for its answer; NULL */
	uint8_t ack;		  /* its answer, behind which so many bytes of a result come */
	uint8_t n_result;
	uint8_t result[NET_CTRL_MAX_RESULT];
	uint32_t left_base;	 /* where the ring was when it stopped */
	uint64_t token;		 /* until all lcores have passed it */
	uint64_t open_until_tsc; /* or pairs are open that were not */
	unsigned int present;	 /* of `rules` */
	struct net_rules rules[2];

	/* Shared atomics. */
	const struct net_rules *published; /* NULL: no control queue has run */
	uint64_t mac;	   /* the guest's own, as in memory; 0: as the port was given */
	uint32_t announce; /* the guest is to announce itself */
	uint64_t commands; /* counters */
	uint64_t refused;
};

/* What the guest wants now, NULL: no control queue has run. It outlasts this turn. Thread: LCORE. */
static inline const struct net_rules *
net_rules_of(const struct net_ctrl *ctrl)
{
	/* Pairs with the release in ctrl.c. */
	return __atomic_load_n(&ctrl->published, __ATOMIC_ACQUIRE);
}

/* ---- ctrl.c ---- */

/* CTL: these features were negotiated; 0: a reset. No ring runs. */
void
net_ctrl_begin(struct net_dev *dev, uint64_t features);
/* CTL: the ring is about to start. */
void
net_ctrl_prepare(struct net_dev *dev, const struct vhub_vring *vring);
/* LCORE: it starts, has its turn, is to be woken by its guest, stops. */
void
net_ctrl_start(struct net_dev *dev, struct vhub_vring *vring);
unsigned int
net_ctrl_poll(struct net_dev *dev, struct vhub_vring *vring);
int
net_ctrl_arm(struct net_dev *dev, struct vhub_vring *vring);
void
net_ctrl_stop(struct net_dev *dev);

/* ---- ctrl_commands.c ---- */

/*
 * Carries out the command whose bytes are in `iov`: *next, which holds the present rules, becomes what it
 * asks for, and dev->ctrl.result what it is told beside the answer. Returns VIRTIO_NET_OK, or VIRTIO_NET_ERR and *next is of no use. Thread: LCORE.
 */
uint8_t
net_ctrl_command(struct net_dev *dev, const struct iovec *iov, uint32_t n_iov,
		struct net_rules *next);

/* ---- coalesce.c ---- */

/* Of one ring, by its index: what its guest asks for, and what it has asked for. LCORE, the control queue's. */
void
net_coalesce_set(struct net_dev *dev, uint16_t ring, uint32_t max_packets, uint32_t max_us);
void
net_coalesce_get(const struct net_dev *dev, uint16_t ring, uint32_t *max_packets, uint32_t *max_us);
/* All as at the beginning. CTL, while the control queue does not run. */
void
net_coalesce_reset(struct net_dev *dev);
/* A ring of ours starts. LCORE, the ring's. */
void
net_coalesce_begin(struct net_pair *pair, struct vhub_vring *vring);
/* Its turn begins, or it is about to stop: `at_once`. Returns whether a notification is kept back. LCORE. */
bool
net_coalesce_turn(struct vhub_vring *vring, bool at_once);

/* ---- rss.c ---- */

/*
 * The hash of a frame by the first of the types that it has, which is left in *report as
 * VIRTIO_NET_HASH_REPORT_*; NONE: it has none of them.
 */
uint32_t
net_rss_hash(const struct net_rss *rss, const uint8_t *frame, uint32_t bytes, uint16_t *report);
/* The hash of a packet to the pair's guest, for its header. Thread: LCORE, the pair's. */
void
net_rss_report(const struct net_pair *pair, const uint8_t *frame, uint32_t bytes,
		struct net_header *hdr);

/* ---- rules.c ---- */

/* Packets to this guest are to be looked at; LCORE, any. */
bool
net_rules_admit(const struct net_rules *rules, const uint8_t *frame, uint32_t bytes);
/* Whether the pair's guest gets no packets by it now. */
bool
net_rules_close(const struct net_pair *pair);
/*
 * Drops what the guest is not to have, and has the pair's offloads be those that it takes now. Returns how
 * many of the packets are left, in order. For bursts of a device with `restricts`.
 */
uint16_t
net_rules_filter(struct net_pair *pair, struct rte_mbuf **pkts, uint16_t n);
/* The same of views, which go to direct_give_views(). */
void
net_rules_filter_views(struct net_pair *pair, const struct vhub_net_view *views, uint64_t which);

#endif /* NET_CTRL_H */
