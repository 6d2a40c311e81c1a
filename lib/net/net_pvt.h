/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of virtio-net: one file for each stage of a packet's way.
 *
 *     librte_vhost:  net.c (poll) -> from_guest.c -> offload.c -> the driver
 *                    ... the driver -> to_guest.c -> offload.c -> rte_vhost/burst.c
 *     direct:        net.c (poll) -> direct_from.c -> header.c -> the driver, with views
 *                    ... or -> view.c -> offload.c -> the driver, with mbufs
 *                    ... the driver -> to_guest.c -> direct_to.c, with mbufs by way of offload.c
 *     control queue: ctrl.h tells. Services of a port: services.h.
 *     uplink:        uplink.c (a pair whose guest is a wire), uplink_builder.c
 *
 * A queue pair is one ring in each direction; both are one lcore's.
 */
#ifndef NET_PVT_H
#define NET_PVT_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_net.h>

#include <rte_branch_prediction.h>
#include <rte_common.h>
#include <rte_dev.h>
#include <rte_ether.h>
#include <rte_mbuf.h>

#include "ctrl.h"
#include "flows.h"
#include "rvhost.h"
#include "services.h"
#include "vhub_device.h"
#include "vhub_net.h"
#include "vhub_user.h"
#include "vhub_work.h"

/* As for disks: behind the fields of virtio-net the config space reads as zero. */
#define NET_CONFIG_BYTES VHUB_USER_MAX_CONFIG

/* Of a frame with segmentation. */
#define NET_LONGEST_FRAME_BYTES (VHUB_NET_MTU_MAX + VHUB_NET_FRAME_OVERHEAD)

/* Turns of a full ring in which packets are tried again before they are dropped. */
#define NET_FULL_TURNS 32
/*
 * And the time for it while a buffer's translation is missing behind a vIOMMU, where a turn is nothing: each
 * new buffer has an address that the front end has to be asked for first.
 */
#define NET_VIOMMU_WAIT_MS 100u

/*
 * The end of a port of DPDK's may be the kernel's: to remove a TAP interface it waits for RCU once for each queue and
 * a few times more, under a lock of all networks, which was seen to take more than three seconds where CPUs are busy.
 */
#define NET_END_MS 15000u

/* What 6.2 and later Linux headers have (VIRTIO 1.3, 5.1.3 and 5.1.6). */
#define NET_F_VQ_NOTF_COAL 52
#define NET_F_NOTF_COAL 53
#define NET_F_GUEST_USO4 54
#define NET_F_GUEST_USO6 55
#define NET_F_HOST_USO 56
#define NET_HDR_GSO_UDP_L4 5

/* The same of the class of commands about coalescing (VIRTIO 1.3, 5.1.6.5.9). */
#define NET_CTRL_NOTF_COAL 6
#define NET_CTRL_NOTF_COAL_TX_SET 0
#define NET_CTRL_NOTF_COAL_RX_SET 1
#define NET_CTRL_NOTF_COAL_VQ_SET 2
#define NET_CTRL_NOTF_COAL_VQ_GET 3

/* What of an mbuf's flags is still to be done by somebody. */
#define NET_SEGMENTATION (RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_UDP_SEG)
#define NET_OFFLOADS (RTE_MBUF_F_TX_L4_MASK | NET_SEGMENTATION)

/* Counters of a queue pair. Written by its lcore, read by anybody: shared atomics. */
struct net_counters {
	struct {
		uint64_t packets;
		uint64_t bytes;
	} from_guest, to_guest;
	uint64_t drops[VHUB_NET_DROPS];
	uint64_t sizes[NET_DIRECTIONS][NET_SIZE_CLASSES]; /* sizes.c */
	uint64_t mirrored;				  /* mirror.c */
	uint64_t mirror_dropped;
	uint64_t captured; /* capture.c */
	uint64_t capture_dropped;
};

struct net_pair {
	struct vhub_net_queue queue; /* first: the driver's view */
	struct net_dev *dev;
	/*
	 * Which of its rings the front end has started, wherever their lcores are with it: to the guest and from it.
	 * CTL's, shared atomics.
	 */
	bool recorded[2];

	/* LCORE. */
	struct vhub_vring *to_ring; /* started ones; NULL */
	struct vhub_vring *from_ring;
	/* Immutable: of an uplink's pair, which has no rings, what the wire's driver sees of it; NULL. */
	struct net_pair *wire;
	uint32_t guest_takes; /* VHUB_NET_TAKES_*, as its driver has negotiated */
	uint32_t guest_asks;  /* the same of what it may ask for; direct */
	uint64_t front_mask;  /* of a header from the guest, what counts; direct */
	uint8_t header_bytes; /* of a packet's virtio_net_hdr; direct */
	bool mergeable;	      /* direct */
	bool coalesces;	      /* its guest may have notifications kept back; direct */
	bool goes_on; /* it is not open only since its ring stops, perhaps to go on on another lcore */
	bool ends; /* it pauses, and these are the guest's last packets, which were under way by DMA */
	struct {
		uint16_t want;	     /* entries that are waited for; 0: none */
		uint16_t enough;     /* what that is at most */
		uint16_t bursts_due; /* of those that were, still to be taken */
		uint16_t missed; /* what was there when the last wait was over too early; 0: it was not */
		uint16_t windows; /* since `enough` has changed */
		bool over;	  /* this wait is */
		bool waiting;	  /* until then */
		uint64_t until_tsc;
		/* Packets since then. */
		uint64_t since_tsc;
		uint64_t packets;
		uint64_t cycles_per_us; /* immutable */
	} gather;			/* direct_gather.c */
	/*
	 * What the guest had no room for, tried again in the ring's next turns, until for so many of
	 * them it had room for none of it, or for so long a buffer's translation was missing.
	 */
	uint32_t held_mbufs;
	uint16_t n_held;
	uint16_t turns_left;	 /* until they are dropped */
	uint64_t held_since_tsc; /* behind a vIOMMU */
	struct rte_mbuf *held[VHUB_NET_BURST];
	/* Of an uplink's wire: what its driver has dropped (vhub_net_drop()), of one burst given to it. */
	struct {
		uint64_t packets;
		uint64_t bytes;
	} driver_dropped;
	struct net_counters counters __rte_cache_aligned;
	/* By direction. The control queue's lcore writes them, and CTL when that ring does not run. */
	struct {
		struct vhub_virtq_coalescing applied; /* shared atomics */
		uint32_t max_packets, max_us;	      /* as asked for */
	} coalescing[NET_DIRECTIONS] __rte_cache_aligned;
} __rte_cache_aligned;

/* As in datapath=. */
enum net_datapath {
	NET_DATAPATH_AUTO,
	NET_DATAPATH_DIRECT,
	NET_DATAPATH_LIBRTE_VHOST,
};

/* What the builder has read. */
struct net_params {
	char name[64];
	uint16_t n_pairs; /* queue pairs */
	bool has_mac;
	bool iommu;
	bool trusted;	/* guests are believed where librte_vhost believes them */
	bool no_ctrl;	/* ctrl_vq=off */
	bool link_down; /* link=down */
	enum net_datapath datapath;
	char dma[RTE_DEV_NAME_MAX_LEN]; /* empty: lcores copy */
	struct rte_ether_addr mac;
	uint16_t mtu; /* 0: the port's */
	struct vhub_net_qos qos;
	struct vhub_net_mirror mirror;
	bool frame_sizes; /* frame_sizes=on */
};

struct net_uplink;

/* The packet that makes a guest be found where it is now (SEND_RARP). */
struct net_rarp {
	struct vhub_msg msg;
	struct rte_ether_addr mac; /* the guest's */
	bool due;      /* to be sent as soon as the first pair's ring from the guest runs */
	uint64_t sent; /* shared atomic */
};

struct net_dev {
	struct vhub_device dev; /* first */

	/* Immutable. */
	struct vhub_net_port *port;
	const struct vhub_net_driver_ops *driver; /* of port */
	struct rvhost_path *path;		  /* NULL: the data path is direct */
	struct net_uplink *uplink;		  /* NULL: the port has a guest */
	struct net_flows *flows; /* NULL: by which pair packets come is not asked for */
	struct rte_mempool *pool;
	struct net_params params;
	uint32_t port_takes;	  /* VHUB_NET_TAKES_* */
	uint32_t max_frame_bytes; /* of a packet without segmentation, and of a segment */
	/* Shared atomic: the same of what the guest gets; less where its front end has told it of a smaller MTU. */
	uint32_t guest_frame_bytes;
	/* Shared atomic: NET_RESTRICTED_*. 0, as a rule: no packet to the guest has to be looked at. */
	uint32_t restricts;
	uint32_t n_open; /* shared atomic: pairs by which the guest takes packets */
	char target[128];
	struct net_services services;

	/* CTL. */
	struct virtio_net_config config; /* little endian */
	uint64_t guest_features;
	struct vhub_timer link_timer;
	struct net_rarp rarp;

	struct net_ctrl ctrl;
	struct vhub_work end_work;
	size_t bytes; /* immutable: of all this */
	struct net_pair pairs[];
};

static inline struct net_dev *
net_dev_of(const struct vhub_device *device)
{
	return vhub_container_of(device, struct net_dev, dev);
}

/* Of a port with this MTU; 0: with none. */
static inline uint32_t
net_max_frame_bytes(uint16_t mtu)
{
	return (mtu == 0 ? VHUB_NET_MTU_MAX : mtu) + VHUB_NET_FRAME_OVERHEAD;
}

/* Whether a packet of so many bytes is too long, or would be cut into frames that are. */
static inline bool
net_is_oversize(uint32_t max_frame_bytes, uint32_t bytes, uint32_t segment_bytes)
{
	return segment_bytes > max_frame_bytes || bytes > NET_LONGEST_FRAME_BYTES;
}

/* The longest frame that the guest gets. */
static inline uint32_t
net_guest_frame_bytes(const struct net_dev *dev)
{
	return __atomic_load_n(&dev->guest_frame_bytes, __ATOMIC_RELAXED);
}

/* Even rings go to the guest, odd ones come from it (VIRTIO 1.2, 5.1.2). */
static inline bool
net_is_from_guest(const struct vhub_vring *vring)
{
	return (vring->index & 1) != 0;
}

/* The control queue: even as well, behind all pairs. */
static inline bool
net_is_ctrl(const struct vhub_vring *vring)
{
	return vring->index == net_dev_of(vring->dev)->ctrl.ring_index;
}

/* One load and, as a rule, nothing else: whether packets to the guest have to be looked at. */
static __rte_always_inline bool
net_is_restricted(const struct net_dev *dev)
{
	return __atomic_load_n(&dev->restricts, __ATOMIC_RELAXED) != 0;
}

/* One load and, as a rule, nothing else: whether packets in this direction are to be served. */
static __rte_always_inline bool
net_is_served(const struct net_dev *dev, enum net_direction direction)
{
	return __atomic_load_n(&dev->services.on[direction], __ATOMIC_RELAXED) != 0;
}

/* The same: whether mirrors of other ports may have sent something for this one's guest. */
static __rte_always_inline bool
net_is_watching(const struct net_dev *dev)
{
	return __atomic_load_n(&dev->services.is_watching, __ATOMIC_RELAXED);
}

static inline bool
net_link_is_down(const struct net_dev *dev)
{
	return (__atomic_load_n(&dev->restricts, __ATOMIC_RELAXED) & NET_RESTRICTED_BY_LINK) != 0;
}

/* ---- driver.c ---- */

extern struct vhub_registry net_drivers;
/* Help on the arguments of a net device: its own and those of every driver. */
extern char net_builder_help[];

/* ---- config.c ---- */

/* Fills the config space and the features offered, from what the port is. */
void
net_config_init(struct net_dev *dev, const struct vhub_net_info *info);
int
net_config_read(struct vhub_device *device, uint32_t offset, void *buf, uint32_t len);
int
net_ack_features(struct vhub_device *device, uint64_t features);
void
net_reset(struct vhub_device *device);
/* Follows the port's link while rings run. */
void
net_set_running(struct vhub_device *device, bool running);
/* NET_SET_MTU, SEND_RARP. */
int
net_request(struct vhub_device *device, struct vhub_request *req);
/* What the guest takes under these features: VHUB_NET_TAKES_*. */
uint32_t
net_guest_takes(uint64_t features);
/* What it may leave to whoever takes its packets. */
uint32_t
net_guest_asks(uint64_t features);

/* Takes the link down by command, or not. */
void
net_set_link(struct net_dev *dev, bool up);

/* ---- rarp.c ---- */

/* SEND_RARP. As a slot of struct vhub_device_ops. */
int
net_rarp_request(struct net_dev *dev, struct vhub_request *req);
/* LCORE: the first pair's ring from the guest has started. */
void
net_rarp_started(struct net_pair *pair);

/* ---- from_guest.c ---- */

/*
 * One turn of the pair's ring from the guest; without `take` only of what is under way (rvhost_from_guest()).
 * Returns how many packets there were.
 */
unsigned int
net_poll_from_guest(struct net_pair *pair, bool take);

/* Drops what is no packet of this port's, too short or too long; returns how many are left, in order. */
uint16_t
net_drop_odd_sizes(struct net_pair *pair, struct rte_mbuf **pkts, uint16_t n);

/* Gives packets to the port, its own from then on; what it does not take is dropped. */
void
net_give_to_port(struct net_pair *pair, struct rte_mbuf **pkts, uint16_t n);

/* ---- to_guest.c ---- */

/* Gives packets to the guest, whose ring is open; they have been served. */
void
net_give_to_guest(struct net_pair *pair, struct rte_mbuf **pkts, uint16_t n);

/* One turn of the port, where it has packets of its own. Returns how many there were. */
unsigned int
net_poll_to_guest(struct net_pair *pair);

/* Drops what waits for room: the ring stops, or is not open for now. */
void
net_drop_held(struct net_pair *pair);

/* ---- offload.c ---- */

/* Takes packets on their way; they are its own. */
typedef void (*net_sink_fn)(struct net_pair *pair, struct rte_mbuf **pkts, uint16_t n);

/*
 * What the packets of a sender may be cut into is bounded in a turn, all receivers together; that of other senders
 * is not used up by it. Who is the sender of a packet with segmentation its mbuf says in hash.usr, on whatever
 * lcore it is cut. Senders are told from each other by these, as long as they are there.
 */
static inline uint32_t
net_sender_of(const struct net_pair *pair)
{
	return (uint32_t)((uintptr_t)pair / (RTE_CACHE_LINE_SIZE / 2));
}

/* Of what mirrors bring to the pair, which is nobody's own. */
static inline uint32_t
net_sender_of_mirrored(const struct net_pair *pair)
{
	return net_sender_of(pair) + 1;
}

/*
 * LCORE: whose views are on their way; their mbufs are marked with it as they are made. Initial-exec: on the
 * fast path.
 */
extern __thread uint32_t net_sender __attribute__((tls_model("initial-exec")));

/* Mbufs that were not made of views. */
void
net_offload_mark(uint32_t sender, struct rte_mbuf **pkts, uint16_t n);
/* LCORE: whether a packet of the sender's may be cut in this turn. */
bool
net_offload_may_cut(uint32_t sender);
/*
 * Does in software what the receiver does not take, in order, and gives the packets to `sink`, some
 * of them in many pieces. For bursts in which something is to be done.
 */
void
net_offload(struct net_pair *pair, uint32_t takes, struct rte_mbuf **pkts, uint16_t n,
		net_sink_fn sink);

/* The Internet checksum from byte `start` of the packet to its end. Never 0. */
uint16_t
net_checksum(const struct rte_mbuf *m, uint32_t start);

/* ---- segment.c ---- */

/* Whether segmentation of this packet ends in datagrams of UDP, each with a checksum. */
static inline bool
net_is_uso(const struct rte_mbuf *m)
{
	return (m->ol_flags & RTE_MBUF_F_TX_TCP_SEG) != 0 &&
			(m->ol_flags & RTE_MBUF_F_TX_L4_MASK) == RTE_MBUF_F_TX_UDP_CKSUM;
}

/*
 * Cuts a packet of TCP or UDP, whose headers lie in its first segment, into up to `max` packets, whose
 * checksums are still to be computed. Returns how many; -EINVAL: there would be more, or -ENOMEM, and
 * there are none. The packet stays the caller's.
 */
int
net_segment(const struct rte_mbuf *m, struct rte_mempool *pool, struct rte_mbuf **pieces, int max);

/* ---- view.c ---- */

/* LCORE, the sender's: a packet in mbufs of a pool. NULL: there are none left. */
struct rte_mbuf *
net_copy_view(const struct vhub_net_view *view, struct rte_mempool *pool);

/* ---- uplink.c ---- */

/* LCORE, the pair's: packets for the wire, as vhub_net_to_guest() and vhub_net_views_to_guest(). */
void
net_uplink_give(struct net_pair *pair, struct rte_mbuf **pkts, uint16_t n);
void
net_uplink_give_views(struct net_pair *pair, const struct vhub_net_view *views, uint64_t which);

/*
 * An uplink of two opened ports, whose owner it is afterwards, on failure too: `port` of a bridge, `wire` of what
 * the bridge reaches by it. It runs when this returns. WORK; blocks. Errors as a builder's.
 */
int
net_uplink_create(const struct net_params *params, struct vhub_net_port *port,
		struct vhub_net_port *wire, const struct vhub_executor *executor,
		struct vhub_device **out, char *error, size_t error_len);

extern const struct vhub_device_ops net_uplink_ops;

/* ---- builder.c ---- */

/* The names of arguments about a port's services, NULL-terminated, and what they say. */
extern const char *const net_service_keys[];
int
net_params_parse_services(const struct rte_kvargs *args, struct net_params *params, char *error,
		size_t error_len);

/* ---- port.c ---- */

/* NULL: this is no network port. The other one puts a sentence into `error` then. */
struct net_dev *
net_dev_find(const struct vhub_device *device);
struct net_dev *
net_dev_find_or_say(const struct vhub_device *device, char *error, size_t error_len);

/*
 * A device with `n` pairs, and all else zero but what these say. NULL without memory. Given back by
 * net_dev_free().
 */
struct net_dev *
net_dev_alloc(const struct vhub_device_ops *ops, const struct net_params *params, unsigned int n,
		struct vhub_net_port *port, const struct vhub_executor *executor, int node);
void
net_dev_free(struct net_dev *dev);
/* Neither copies nor captures of it begin any more. CTL or WORK. */
void
net_dev_leave(struct net_dev *dev);
/*
 * After that: frees it, once no lcore can have it or its queues any more. Its port has gone, or waits for the same
 * and does not use it. CTL or WORK; blocks.
 */
void
net_dev_end(struct net_dev *dev);

/* Makes the device of an opened port, which it owns from then on. Errors as a builder's. */
int
net_create(const struct net_params *params, struct vhub_net_port *port,
		const struct vhub_executor *executor, struct vhub_device **out, char *error,
		size_t error_len);

/* As the device's `destroy`. */
void
net_destroy(struct vhub_device *device);

/* ---- net.c ---- */

extern const struct vhub_device_ops net_ops;
extern const struct vhub_foreign_ops net_foreign_ops;

/*
 * Whether the pairs take packets may have changed: their lcores look, also at those that are parked. Thread: CTL, LCORE of the
 * control queue.
 */
void
net_wake_pairs(struct net_dev *dev);

/* ---- pool.c ---- */

/* CTL or WORK: what to say where there is no pool. */
void
net_pool_explain(char *error, size_t error_len);
/*
 * LCORE. There are no mbufs left: what drivers are done with here comes back. Who has others allocate them
 * tries once more then.
 */
void
net_pool_reclaim(void);
/* LCORE. `n` mbufs of a pool, all or none (-ENOENT); tries once more as above. */
int
net_pool_get(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int n);
/* LCORE. A copy of a part of a packet, up to its end, offloads and all; likewise. NULL: there are no mbufs. */
struct rte_mbuf *
net_pool_copy(const struct rte_mbuf *m, struct rte_mempool *pool, uint32_t offset, uint32_t bytes);
/*
 * LCORE. The same, now and then, for who has got no packets and does not know whether there were mbufs:
 * librte_vhost does not say.
 */
void
net_pool_refill(struct rte_mempool *pool);

/* ---- stats.c ---- */

/* Drops and services of a pair. */
void
net_stats_of_pair(const struct net_pair *pair, vhub_stat_fn emit, void *arg);
void
net_stats(const struct vhub_device *device, uint16_t queue, vhub_stat_fn emit, void *arg);

/* A ring to the guest that takes packets, unless its device is restricted. */
static inline bool
net_ring_is_open(const struct vhub_vring *vring)
{
	return vring != NULL && vring->taking && vring->enabled;
}

/* What comes of a guest's last packets may still be given to it. */
static inline bool
net_ends(const struct net_pair *pair)
{
	return pair->ends && pair->to_ring != NULL && pair->to_ring->enabled;
}

/* Counts packets that go no further, and frees them. */
static inline void
net_drop(struct net_pair *pair, enum vhub_net_drop reason, struct rte_mbuf **pkts, unsigned int n)
{
	vhub_count(&pair->counters.drops[reason], n);
	rte_pktmbuf_free_bulk(pkts, n);
}

/* What one look at a burst tells. */
struct net_look {
	uint64_t bytes;
	uint64_t offloads; /* NET_OFFLOADS of any packet */
	uint32_t longest_bytes;
	uint32_t shortest_bytes;
};

static __rte_always_inline void
net_look_at(struct rte_mbuf *const *pkts, unsigned int n, struct net_look *look)
{
	uint64_t bytes = 0, flags = 0;
	uint32_t longest = 0, shortest = UINT32_MAX, len;
	unsigned int i;

	for (i = 0; i < n; i++) {
		len = pkts[i]->pkt_len;
		bytes += len;
		flags |= pkts[i]->ol_flags;
		longest = RTE_MAX(longest, len);
		shortest = RTE_MIN(shortest, len);
	}
	look->bytes = bytes;
	look->offloads = flags & NET_OFFLOADS;
	look->longest_bytes = longest;
	look->shortest_bytes = shortest;
}

#endif /* NET_PVT_H */
