/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of the ethdev driver: any port that DPDK has a driver for.
 *
 *     ethdev.c (arguments, ops) -> probe.c (a name to a port that is ours)
 *             -> setup.c (queues, offloads, addresses, start; room.c: how long tx queues may be)
 *             -> queue.c (an lcore's queue pair; share.c: by which pair which rx queue is polled)
 */
#ifndef ETHDEV_PVT_H
#define ETHDEV_PVT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <rte_ethdev.h>

#include "vhub_lcore.h"
#include "vhub_net.h"

#define ETHDEV_DEFAULT_RX_DESCRIPTORS 1024u
/* At most: many ports have fewer each (room.c). */
#define ETHDEV_DEFAULT_TX_DESCRIPTORS 256u
#define ETHDEV_MAX_DESCRIPTORS 32768u
/* Packets that the kernel keeps for an interface that its driver reads from, whatever the descriptors. */
#define ETHDEV_KERNEL_PACKETS 1024u

/* For so many milliseconds an uplink's packets are waited for at its end. */
#define ETHDEV_POOL_LOOKS 200u

enum ethdev_promisc {
	ETHDEV_PROMISC_AUTO, /* on, unless the port filters for the one guest's address */
	ETHDEV_PROMISC_ON,
	ETHDEV_PROMISC_OFF,
};

struct ethdev_port {
	struct vhub_net_port port; /* first */
	/* Immutable from parse on. */
	char *devargs; /* "0000:03:00.0", or "net_tap0,iface=tap0" */
	char *name;    /* what is before its first comma */
	uint16_t want_rx_descriptors;
	uint16_t want_tx_descriptors; /* 0: as many as there is room for */
	enum ethdev_promisc promisc;
	/* Immutable from open on. */
	bool found;  /* port_id is one */
	bool probed; /* by us, so it goes with us */
	bool owned;
	bool started;
	uint16_t port_id;
	uint64_t owner_id;
	struct rte_eth_dev_info dev; /* as before it was configured */
	bool far_mac;		     /* the port's address is that of the other end of the wire */
	bool takes_guest_mac;	     /* it filters for the guest's address */
	bool is_file;		     /* what it receives waits for whoever reads it */
	uint32_t takes;		     /* VHUB_NET_TAKES_* */
	uint16_t n_pairs;
	uint32_t max_waiting;	  /* packets that may wait in an rx queue, about */
	uint32_t n_tx_room;	  /* room.c's: descriptors of all its tx queues */
	uint16_t n_tx_default;	  /* of each, for want of a number; 0: it was given one */
	uint16_t n_tx_segs;	  /* most mbufs of a packet that it can send */
	uint32_t max_frame_bytes; /* by its MTU, with two tags */
	struct rte_mempool *pool; /* of its rx queues */
	/* For each pair: what tells of packets, -1 nothing; an eventfd, or the wire itself. */
	int wake_fds[VHUB_NET_MAX_PAIRS];
	bool wake_is_eventfd[VHUB_NET_MAX_PAIRS];
	/* Shared atomics, a bit for each pair; share.c. */
	uint64_t open;	/* the guest takes packets by it */
	uint64_t free;	/* its rx queue is held by no pair */
	uint64_t stale; /* what waits in its rx queue came when no pair was open */
	struct vhub_lcore *lcores[VHUB_NET_MAX_PAIRS]; /* of those that are open */
	/*
	 * Of each rx queue, whose holder writes it: at most so many of the packets that wait there are not for the
	 * guest; 0: none is. It may change hands before they are dropped.
	 */
	uint32_t to_drop[VHUB_NET_MAX_PAIRS];
};

/* A pair's. LCORE. Words have a bit for each rx queue of the port. */
struct ethdev_queue {
	struct ethdev_port *port;
	uint16_t port_id;
	uint16_t index;
	uint16_t n_tx_segs;
	uint16_t next;	  /* the rx queue that is polled first in the next turn */
	uint64_t own;	  /* the one of its number */
	uint64_t held;	  /* that it polls */
	uint64_t lacking; /* that it is to poll, and others hold still */
	uint64_t seen; /* the port's word of open pairs by which that is so; 0: it is not open itself */
	uint64_t dropping; /* of those that it holds: to_drop is not 0 */
	uint64_t watched;  /* their wake_fds wake this lcore */
	uint64_t enabled;  /* their rx interrupts are on */
	/* What the last look before a sleep has found. */
	uint16_t n_kept;
	uint16_t next_kept;
	struct rte_mbuf *kept[VHUB_NET_BURST];
	LIST_ENTRY(ethdev_queue) of_lcore;
};

static inline struct ethdev_port *
ethdev_port_of(const struct vhub_net_port *port)
{
	return vhub_container_of(port, struct ethdev_port, port);
}

static inline uint64_t
ethdev_all_pairs(const struct ethdev_port *p)
{
	return p->n_pairs >= 64 ? UINT64_MAX : (UINT64_C(1) << p->n_pairs) - 1;
}

/* As many pairs as there are queues in both directions. */
static inline uint16_t
ethdev_max_pairs(const struct ethdev_port *p)
{
	const uint32_t n = RTE_MIN(p->dev.max_rx_queues, p->dev.max_tx_queues);

	return (uint16_t)RTE_MIN(n, VHUB_NET_MAX_PAIRS);
}

/* ---- probe.c: CTL or WORK, may block ---- */

/* Finds or makes the port, and takes it for us alone: port_id, dev. Undone by ethdev_release(). */
int
ethdev_acquire(struct ethdev_port *p, char *error, size_t error_len);
/* In whatever state. Returns whether the port is gone, and with it all that its queues held. */
bool
ethdev_release(struct ethdev_port *p);

/* ---- setup.c: CTL or WORK, may block ---- */

/* From an acquired port to a running one. Undone by ethdev_stop(). */
int
ethdev_start(struct ethdev_port *p, uint16_t n_pairs, const struct rte_ether_addr *mac,
		uint16_t mtu, char *error, size_t error_len);
void
ethdev_stop(struct ethdev_port *p);

/* ---- room.c: CTL or WORK, does not block ---- */

/*
 * Tx descriptors of each queue of a port that was given no number: a power of two, from 64 on. May be
 * too many.
 */
uint16_t
ethdev_room_default(const struct ethdev_port *p);
/*
 * Instead of what the port has. Returns -EINVAL and a sentence when there is no room for that; it keeps
 * what it has.
 */
int
ethdev_room_take(struct ethdev_port *p, uint16_t n_descriptors, char *error, size_t error_len);
/* When its queues hold nothing any more. A port that has none has none to give. */
void
ethdev_room_give(struct ethdev_port *p);

/* ---- queue.c: LCORE ---- */

int
ethdev_queue_get(struct vhub_net_queue *queue);
void
ethdev_queue_put(struct vhub_net_queue *queue);
uint16_t
ethdev_from_guest(struct vhub_net_queue *queue, struct rte_mbuf **pkts, uint16_t n);
uint16_t
ethdev_to_guest(struct vhub_net_queue *queue, struct rte_mbuf **pkts, uint16_t max);
int
ethdev_arm(struct vhub_net_queue *queue);
void
ethdev_disarm(struct vhub_net_queue *queue);
/* What this lcore's queues have sent goes back to its pools, where the driver can do that. */
void
ethdev_reclaim(void);

/* ---- share.c: LCORE ---- */

/* What has waited in rx queues while the guest took nothing is dropped, in the turns that follow. */
void
ethdev_opened(struct vhub_net_queue *queue, bool anew);
void
ethdev_closed(struct vhub_net_queue *queue);
/* A queue that was got; after it ethdev_closed() gives back what it holds. */
void
ethdev_share_begin(struct ethdev_queue *q);
/* Of an open pair that is not settled: gives back what others are to poll, takes what it is to poll. */
void
ethdev_share_settle(struct ethdev_queue *q);

/* Whether the pair polls what it is to poll. One load, as a rule. */
static inline bool
ethdev_share_is_settled(const struct ethdev_queue *q)
{
	return __atomic_load_n(&q->port->open, __ATOMIC_RELAXED) == q->seen && q->lacking == 0;
}

#endif /* ETHDEV_PVT_H */
