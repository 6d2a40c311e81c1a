/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net, and the contract of the drivers behind it: what a port's packets meet.
 *
 * Directions are named from the guest: "from guest" and "to guest", never rx or tx.
 *
 * Life of a port (one instance of a driver)
 *   parse       CTL: arguments are checked; nothing is touched.
 *   open        CTL or WORK, may block: the port is there and runs. Before a jail.
 *   info        any time after open.
 *   queue_get   LCORE: one queue for each queue pair of the guest, when its first ring starts.
 *   from_guest  LCORE: a burst that the guest has sent.
 *   to_guest    LCORE: a burst for the guest, where the port has packets of its own. From inside
 *               from_guest a driver may also call vhub_net_to_guest().
 *   queue_put   LCORE: the pair's last ring has stopped.
 *   destroy     CTL or WORK, may block: with no queue got.
 *
 * Packets are mbufs with the offloads still to be done in their Tx flags (RTE_MBUF_F_TX_*, l2_len,
 * l3_len, l4_len, tso_segsz): checksums and segmentation travel as metadata as long as whoever takes
 * the packet can do them, and are done in software before they reach one who cannot (`takes`). What
 * a guest says about its packets is checked before a driver sees it. The smallest example is
 * drivers/net/echo.
 */
#ifndef VHUB_NET_H
#define VHUB_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rte_ether.h>
#include <rte_kvargs.h>
#include <rte_mbuf.h>

#include "vhub_common.h"
#include "vhub_lcore.h"
#include "vhub_registry.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Most packets in one burst. */
#define VHUB_NET_BURST 64u
/** Most queue pairs of a port. */
#define VHUB_NET_MAX_PAIRS 64u
/** Smallest and largest MTU (VIRTIO 1.2, 5.1.4.1). */
#define VHUB_NET_MTU_MIN 68u
#define VHUB_NET_MTU_MAX 65535u

/* Offloads that a port takes upon itself (struct vhub_net_info's `takes`). */
#define VHUB_NET_TAKES_CSUM 0x1u /**< TCP and UDP checksums, IPv4 and IPv6 */
#define VHUB_NET_TAKES_TSO4 0x2u
#define VHUB_NET_TAKES_TSO6 0x4u
#define VHUB_NET_TAKES_UFO 0x8u
#define VHUB_NET_TAKES_ALL 0xfu

/** What a port is now. */
struct vhub_net_info {
	bool has_mac;
	struct rte_ether_addr mac; /**< for the guest, when has_mac */
	uint16_t mtu;		   /**< of the port; 0: no limit of its own */
	uint16_t max_pairs;	   /**< queue pairs that it can serve */
	bool link_up;
	uint32_t link_speed_mbps; /**< UINT32_MAX unknown */
	bool full_duplex;
	uint32_t takes;	  /**< VHUB_NET_TAKES_* */
	char target[128]; /**< for people: "net_tap0 (tap0)" */
};

/** Why packets were dropped. */
enum vhub_net_drop {
	VHUB_NET_DROP_RING_FULL, /**< to guest: the guest gave no buffers for them */
	VHUB_NET_DROP_NO_RING,	 /**< to guest: its ring is not started, or disabled */
	VHUB_NET_DROP_DISABLED,	 /**< from guest: its ring is disabled */
	VHUB_NET_DROP_PORT_FULL, /**< from guest: the port took no more */
	VHUB_NET_DROP_RUNT,	 /**< shorter than an Ethernet header */
	VHUB_NET_DROP_OVERSIZE,	 /**< longer than the MTU allows, with no segmentation asked for */
	VHUB_NET_DROP_OFFLOAD,	 /**< an offload that nobody here can do, or that makes no sense */
	VHUB_NET_DROP_NO_MBUF,	 /**< no mbuf left for a segment or a copy */
	VHUB_NET_DROPS
};

struct vhub_net_port;

/** One queue pair of a guest on its lcore, as the port's driver sees it. Embedded in lib/net. */
struct vhub_net_queue {
	struct vhub_net_port *port;
	uint16_t index; /**< of the pair */
	void *priv;	/**< the driver's, from queue_get to queue_put */
};

/** A driver. Registered once; const. */
struct vhub_net_driver_ops {
	const char *name; /**< as in driver=NAME */
	const char *help; /**< one line for each argument */
	/** names of its arguments, NULL-terminated */
	const char *const *keys;

	/**
	 * Required. CTL. On -EINVAL `error` holds one sentence: the key, its value, what is
	 * allowed.
	 */
	int (*parse)(const struct rte_kvargs *args, struct vhub_net_port **out, char *error,
			size_t error_len);
	/**
	 * Required. CTL or WORK; may block. Makes the port ready for `n_pairs` queue pairs, with
	 * `mac` and `mtu` when the user gave some (NULL, 0: none). Errors as above; may be undone
	 * by destroy only.
	 */
	int (*open)(struct vhub_net_port *port, uint16_t n_pairs, const struct rte_ether_addr *mac,
			uint16_t mtu, char *error, size_t error_len);
	/** Required. CTL or WORK; may block. Frees the port in whatever state. */
	void (*destroy)(struct vhub_net_port *port);
	/** Required. CTL or WORK. May ask a device for its link; does not wait for it. */
	void (*info)(const struct vhub_net_port *port, struct vhub_net_info *info);
	/** Optional. LCORE. What belongs to this pair: queue->priv. Does not block. */
	int (*queue_get)(struct vhub_net_queue *queue);
	/** Optional. LCORE. */
	void (*queue_put)(struct vhub_net_queue *queue);
	/**
	 * Required. LCORE. Packets from the guest. Returns how many, from the front, are the
	 * driver's now; the others are counted as VHUB_NET_DROP_PORT_FULL and freed.
	 */
	uint16_t (*from_guest)(struct vhub_net_queue *queue, struct rte_mbuf **pkts, uint16_t n);
	/**
	 * Optional. LCORE. Up to `max` packets for the guest, the caller's from then on. Called
	 * while the guest's ring is started and enabled.
	 */
	uint16_t (*to_guest)(struct vhub_net_queue *queue, struct rte_mbuf **pkts, uint16_t max);
	/**
	 * Optional, for drivers with to_guest. LCORE. Before a sleep: 0 a packet will wake this
	 * lcore (through an fd that vhub_lcore_add_wake_fd() was given, now or in queue_get), -EAGAIN
	 * one is there, -ENOTSUP it cannot. Without this slot the lcore stays awake.
	 */
	int (*arm)(struct vhub_net_queue *queue);
	void (*disarm)(struct vhub_net_queue *queue);
	/** Optional. CTL. Figures of the port itself, beside those that lib/net keeps. */
	void (*stats)(const struct vhub_net_port *port,
			void (*emit)(void *arg, const char *name, uint64_t value), void *arg);
};

/** Embedded first by its implementation. */
struct vhub_net_port {
	const struct vhub_net_driver_ops *ops;
};

/**
 * Gives packets to the guest of this queue pair, in order, from inside from_guest. They are freed in
 * every case; what the guest has no room for is dropped and counted. Thread: LCORE, the pair's.
 */
VHUB_API void
vhub_net_to_guest(struct vhub_net_queue *queue, struct rte_mbuf **pkts, uint16_t n);

/**
 * Frees `n` packets that a driver drops by itself, and counts why. Thread: LCORE, the pair's.
 */
VHUB_API void
vhub_net_drop(struct vhub_net_queue *queue, enum vhub_net_drop reason, struct rte_mbuf **pkts,
		uint16_t n);

/**
 * The pool that packets of ports come from, for drivers that make some: shared by all ports of a
 * NUMA node (-1: any). Thread: CTL or WORK. NULL: there is no memory for it.
 */
VHUB_API struct rte_mempool *
vhub_net_pool(int node);

/**
 * Registers a driver. Thread: CTL or a constructor. Returns 0, -EEXIST (the name is taken), -EINVAL
 * (a required slot is missing).
 */
VHUB_API int
vhub_net_driver_register(const struct vhub_net_driver_ops *ops);

/** By name, NULL when there is none; and the i-th one, NULL beyond the last. Thread: CTL. */
VHUB_API const struct vhub_net_driver_ops *
vhub_net_driver_find(const char *name);
VHUB_API const struct vhub_net_driver_ops *
vhub_net_driver_at(unsigned int i);

/** Registers OPS before main(). */
#define VHUB_NET_DRIVER_REGISTER(ops_) \
	static void __attribute__((constructor)) vhub_net_driver_register_##ops_(void) \
	{ \
		vhub_registered(vhub_net_driver_register(&ops_), (ops_).name); \
	}

#ifdef __cplusplus
}
#endif

#endif /* VHUB_NET_H */
