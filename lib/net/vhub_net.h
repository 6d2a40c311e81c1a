/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net, and the contract of the drivers behind it: what a port's packets meet.
 *
 * Directions are named from the guest: "from guest" and "to guest", never rx or tx.
 *
 * Life of a port (one instance of a driver)
 *   parse       CTL: arguments are checked; nothing is touched.
 *   open        CTL or WORK, may block: the port is there and runs.
 *   info        any time after open.
 *   queue_get   LCORE: one queue for each queue pair of the guest, when its first ring starts.
 *   from_guest  LCORE: a burst that the guest has sent, in mbufs; or, where the driver has
 *   from_guest_views     this slot and the data path is "direct", where it lies (below).
 *   to_guest    LCORE: a burst for the guest, where the port has packets of its own. From inside
 *               from_guest a driver may also call vhub_net_to_guest(), from inside
 *               from_guest_views also vhub_net_views_to_guest().
 *   queue_put   LCORE: the pair's last ring has stopped, perhaps to go on on another lcore, where the
 *               queue is got again (vhub_device_queue_move()).
 *   left        CTL: all rings have stopped, and not to go on elsewhere in this process.
 *   destroy     CTL or WORK, may block: with no queue got.
 *
 * Packets are mbufs with the offloads still to be done in their Tx flags (RTE_MBUF_F_TX_*, l2_len,
 * l3_len, l4_len, tso_segsz; UDP to be cut into datagrams has RTE_MBUF_F_TX_TCP_SEG together with
 * RTE_MBUF_F_TX_UDP_CKSUM, for DPDK has no flag for that): checksums and segmentation travel as metadata as long as whoever takes
 * the packet can do them, and are done in software before they reach one who cannot (`takes`). What
 * a guest says about its packets is checked before a driver sees it. The smallest example is
 * drivers/net/echo.
 *
 * Packets as views
 *   A packet on its way from one guest to another, or back, is copied once: from the sender's buffers
 *   into the receiver's. In between it is a struct vhub_net_view: a private copy of its first bytes,
 *   in which all headers are, and the place of the rest in the sender's memory.
 *
 *   - Only the private copy may be looked at, decided upon and changed. The rest belongs to a guest,
 *     which writes to it whenever it likes: each copy reads it once, and two copies, for two receivers
 *     or for a mirror or capture beside a receiver, need not be alike.
 *   - Views are lent: they and what they point to are there until from_guest_views returns. Then the
 *     sender's buffers go back to it. What is to be kept longer becomes an mbuf
 *     (vhub_net_views_to_mbufs()).
 *   - vhub_net_views_to_guest() copies and changes nothing in the views: the same ones may go to one
 *     receiver after the other. What a receiver has no room for now becomes mbufs and waits, a bounded
 *     time, as mbufs do.
 *   - Offloads stay as they are until a receiver does not take them; that one's copy is completed.
 *     A view asks for what lib/net can do (VHUB_NET_TAKES_DONE_HERE) and what else the port takes: so a
 *     driver with from_guest_views takes the former at least.
 *   - Some views of a burst are named by a word: bit i is views[i].
 *
 *   Lcores and memory: a ring is touched by the lcore that owns it and by no other one, so both
 *   queues, the sender's and the receiver's, have to be this lcore's (queue->lcore). Under that rule
 *   nothing else guards the receiver: its memory table, its dirty log and its buffers change only
 *   between two turns of its own lcore (device/vring.c), on which we are, and its ring holds a
 *   reference to each. A driver that joins ports therefore knows its queues for each lcore, from
 *   queue_get to queue_put, both of which run there; and gives packets for a queue of another lcore
 *   to that lcore, as mbufs through an rte_ring that its to_guest empties.
 */
#ifndef VHUB_NET_H
#define VHUB_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <rte_ether.h>
#include <rte_kvargs.h>
#include <rte_mbuf.h>

#include "vhub_args.h"
#include "vhub_common.h"
#include "vhub_lcore.h"

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
/** Bytes of a frame around an IP packet: an Ethernet header, and up to two VLAN tags. */
#define VHUB_NET_FRAME_OVERHEAD (RTE_ETHER_HDR_LEN + 2u * sizeof(struct rte_vlan_hdr))

/* Offloads that a port takes upon itself (struct vhub_net_info's `takes`). */
#define VHUB_NET_TAKES_CSUM 0x1u /**< TCP and UDP checksums, IPv4 and IPv6 */
#define VHUB_NET_TAKES_TSO4 0x2u
#define VHUB_NET_TAKES_TSO6 0x4u
#define VHUB_NET_TAKES_UFO 0x8u
#define VHUB_NET_TAKES_USO4 0x10u /**< UDP to be cut into datagrams */
#define VHUB_NET_TAKES_USO6 0x20u
#define VHUB_NET_TAKES_ALL 0x3fu
/** What lib/net does for who does not. A port that passes packets on to guests takes that. */
#define VHUB_NET_TAKES_DONE_HERE (VHUB_NET_TAKES_ALL & ~VHUB_NET_TAKES_UFO)

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
	VHUB_NET_DROP_RING_FULL, /**< to guest: the guest gave no buffers for them, for some time */
	VHUB_NET_DROP_NO_ROOM,	 /**< to guest: longer than the buffer that is next */
	VHUB_NET_DROP_NO_RING,	 /**< to guest: its ring is not started, or disabled */
	VHUB_NET_DROP_DISABLED,	 /**< from guest: its ring is disabled */
	VHUB_NET_DROP_PORT_FULL, /**< from guest: the port took no more */
	VHUB_NET_DROP_RUNT,	 /**< shorter than an Ethernet header */
	VHUB_NET_DROP_OVERSIZE,	 /**< longer than the MTU allows, or its segments would be */
	VHUB_NET_DROP_OFFLOAD,	 /**< an offload that nobody here can do, or too many pieces */
	VHUB_NET_DROP_NO_MBUF,	 /**< no mbuf left for a segment or a copy */
	VHUB_NET_DROP_FILTERED,	 /**< to guest: not what it has asked for by its control queue */
	VHUB_NET_DROP_LINK_DOWN, /**< the link is down by command */
	VHUB_NET_DROP_RATE_FROM, /**< from guest: over the port's limits */
	VHUB_NET_DROP_RATE_TO,	 /**< to guest: over the port's limits */
	VHUB_NET_DROPS
};

struct vhub_device;
struct vhub_net_port;

/** Bytes of a frame that a view has a private copy of, at most. */
#define VHUB_NET_HEAD_BYTES 128u

/** Segmentation that is still to be done. The low three bits are a virtio_net_hdr's gso_type. */
enum vhub_net_gso {
	VHUB_NET_GSO_NONE = 0,
	VHUB_NET_GSO_TCP4 = 1,
	VHUB_NET_GSO_UDP = 3, /**< to fragments of IP */
	VHUB_NET_GSO_TCP6 = 4,
	VHUB_NET_GSO_USO4 = 5, /**< to datagrams */
	VHUB_NET_GSO_USO6 = 5 | 8,
};

/**
 * What is still to be done for a packet, checked against its length and its headers. What is not to be
 * done is 0. Fields are where a virtio_net_hdr has them (VIRTIO 1.2, 5.1.6): what a guest says, and what
 * another is told, is moved in two words.
 */
struct vhub_net_offload {
	bool csum;	       /**< the Internet checksum from csum_start to the end */
	uint8_t gso;	       /**< enum vhub_net_gso; only with csum */
	uint16_t header_bytes; /**< with gso: all headers, up to the end of TCP's or UDP's */
	uint16_t gso_bytes;    /**< with gso: of payload, in a segment */
	uint16_t csum_start;   /**< with gso: where the TCP or UDP header is */
	uint16_t csum_offset;  /**< from there, to the field; it holds the pseudo header's sum */
};

/** A packet of a guest's, where it lies. */
struct vhub_net_view {
	uint32_t bytes; /**< of the frame, at least RTE_ETHER_HDR_LEN */
	/** of them in `head`: as many as there are up to 64, with gso up to VHUB_NET_HEAD_BYTES */
	uint16_t head_bytes;
	uint16_t n_iov;
	const struct iovec *iov; /**< the others, behind them: in the sender's memory */
	struct vhub_net_offload offload __rte_aligned(8);
	uint8_t head[VHUB_NET_HEAD_BYTES] __rte_aligned(16);
};

/**
 * Bytes of the longest frame that the packet is to be cut into: its own where it is not, or is no longer than
 * one. UDP's header is of the payload that is cut into fragments. Thread: ANY.
 */
static inline uint32_t
vhub_net_segment_bytes(const struct vhub_net_view *view)
{
	const struct vhub_net_offload *offload = &view->offload;
	uint32_t header_bytes;

	if (offload->gso == VHUB_NET_GSO_NONE)
		return view->bytes;
	header_bytes = offload->gso == VHUB_NET_GSO_UDP ? offload->csum_start :
							  offload->header_bytes;
	return RTE_MIN(view->bytes, header_bytes + offload->gso_bytes);
}

/** The same of a packet in an mbuf. */
static inline uint32_t
vhub_net_mbuf_segment_bytes(const struct rte_mbuf *m)
{
	uint32_t header_bytes = m->l2_len + m->l3_len;

	if ((m->ol_flags & (RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_UDP_SEG)) == 0)
		return m->pkt_len;
	if ((m->ol_flags & RTE_MBUF_F_TX_UDP_SEG) == 0)
		header_bytes += m->l4_len;
	return RTE_MIN(m->pkt_len, header_bytes + m->tso_segsz);
}

/** In how many pieces `bytes` of payload go, each of up to `piece_bytes`; at least one. */
static inline uint32_t
vhub_net_pieces(uint32_t bytes, uint32_t piece_bytes)
{
	return bytes <= piece_bytes || piece_bytes == 0 ? 1 : (bytes - 1) / piece_bytes + 1;
}

/** How many frames the packet is to be cut into; 1: it is not. Thread: ANY. */
static inline uint32_t
vhub_net_segments(const struct vhub_net_view *view)
{
	const struct vhub_net_offload *offload = &view->offload;

	if (offload->gso == VHUB_NET_GSO_NONE)
		return 1;
	return vhub_net_pieces(view->bytes - offload->header_bytes, offload->gso_bytes);
}

/** The same of a packet in an mbuf. */
static inline uint32_t
vhub_net_mbuf_segments(const struct rte_mbuf *m)
{
	const uint32_t header_bytes = m->l2_len + m->l3_len + m->l4_len;

	if ((m->ol_flags & (RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_UDP_SEG)) == 0)
		return 1;
	return vhub_net_pieces(m->pkt_len - RTE_MIN(m->pkt_len, header_bytes), m->tso_segsz);
}

/** One queue pair of a guest on its lcore, as the port's driver sees it. Embedded in lib/net. */
struct vhub_net_queue {
	struct vhub_net_port *port;
	uint16_t index;		  /**< of the pair */
	struct vhub_lcore *lcore; /**< that has the pair, from queue_get to queue_put */
	/**
	 * The guest takes packets: its ring is started and enabled. LCORE, the pair's, writes it; others
	 * may read it at any time, as a relaxed atomic.
	 */
	bool open;
	void *priv; /**< the driver's, from queue_get to queue_put */
};

/** A driver. Registered once; const. */
struct vhub_net_driver_ops {
	const char *name; /**< as in driver=NAME */
	const char *help; /**< one line for each argument */
	/** names of its arguments, NULL-terminated */
	const char *const *keys;

	/**
	 * It has each packet of a guest with several pairs come by the one that the guest wants it on
	 * (vhub_net_inbox_wanted()): guests may ask for receive-side scaling.
	 */
	bool steers;

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
	/** Optional. LCORE. What is known of the guest stays: it may be on its way to another lcore. */
	void (*queue_put)(struct vhub_net_queue *queue);
	/**
	 * Optional. CTL. The guest has left: its front end has gone, has reset it, or has stopped all rings,
	 * perhaps since it goes on on another host. What was known of it holds no longer. With no queue
	 * got, after the queue_put of each; may be called when nothing was got since the last time. Does not
	 * block. Not of an uplink, which has no guest.
	 */
	void (*left)(struct vhub_net_port *port);
	/**
	 * Required. LCORE. Packets from the guest. Returns how many, from the front, are the
	 * driver's now; the others are counted as VHUB_NET_DROP_PORT_FULL and freed.
	 */
	uint16_t (*from_guest)(struct vhub_net_queue *queue, struct rte_mbuf **pkts, uint16_t n);
	/**
	 * Optional; with VHUB_NET_TAKES_DONE_HERE. LCORE. In place of from_guest where packets
	 * can be seen where they lie; see "Packets as views" above. May change view->head.
	 */
	void (*from_guest_views)(struct vhub_net_queue *queue, struct vhub_net_view *views,
			uint16_t n);
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
	/**
	 * Optional, for drivers with to_guest. LCORE. Nothing came for a while, and to_guest need not
	 * be called until a word changes: fills `word` with what the last call has seen, and returns
	 * true. Without this slot it is called in each turn.
	 */
	bool (*park)(struct vhub_net_queue *queue, struct vhub_lcore_word *word);
	/**
	 * Optional. LCORE. The guest takes packets by this pair from now on, until closed. `anew`: it took
	 * none by this pair before, and what came meanwhile is not for it unless another pair was open. Else
	 * its ring was on its way from another lcore, or back, and the guest knows nothing of that. Not of an
	 * uplink, which takes packets all the time.
	 */
	void (*opened)(struct vhub_net_queue *queue, bool anew);
	/**
	 * Optional. LCORE. The guest takes no packets for now: its ring is disabled, broken or about
	 * to stop. What the driver keeps for it may be dropped.
	 */
	void (*closed)(struct vhub_net_queue *queue);
	/**
	 * Optional. LCORE, any of the port's, with a queue got or without. The guest says that its address
	 * is `mac` from now on, until it leaves. A guest can say what it likes: that others are heard
	 * with the same address is not to end by it. Returns 0, or a negative errno and the guest is told
	 * that it cannot have it.
	 */
	int (*set_mac)(struct vhub_net_port *port, const struct rte_ether_addr *mac);
	/**
	 * Optional. CTL or WORK. The link was taken down by command, or it is no longer so; not called for a
	 * port that begins with it up. While it is down no packet passes, and nobody is to notice anything of
	 * the guest: whatever belongs to it for good is another's to have. Does not block. Not of an uplink.
	 */
	void (*set_link)(struct vhub_net_port *port, bool up);
	/**
	 * Optional. WORK, one at a time for each port; may block. Has those of `args` that can be changed while the
	 * port runs be as they say now; what is not given stays. Errors as of parse, and then nothing has changed.
	 */
	int (*change)(struct vhub_net_port *port, const struct rte_kvargs *args, char *error,
			size_t error_len);
	/**
	 * Optional. LCORE. There are no mbufs left: those of packets that are sent, which the driver has
	 * kept in the queues of this lcore, go back to their pools. Does not block.
	 */
	void (*reclaim)(void);
	/** Optional. CTL. Figures of the port itself, beside those that lib/net keeps. */
	void (*stats)(const struct vhub_net_port *port, vhub_stat_fn emit, void *arg);
	/**
	 * Optional. CTL. Arguments that were not given, where other ports that were there when this one was opened
	 * had a say in what they are: with these given it is the same port again, whoever is there by then.
	 */
	void (*effective)(const struct vhub_net_port *port, vhub_stat_fn emit, void *arg);
};

/** Embedded first by its implementation. */
struct vhub_net_port {
	const struct vhub_net_driver_ops *ops;
	char name[64]; /**< the device's; written after parse */
	/**
	 * One of the two ports of an uplink, which are joined to each other: no guest is there, packets are
	 * of whoever is at the bridge or on the wire, and any queue takes any of them. Written before open.
	 */
	bool is_uplink;
};

/**
 * Gives packets to the guest of this queue pair, in order, from inside from_guest. They are freed in
 * every case; what the guest has no room for is dropped and counted. Thread: LCORE, the pair's. Does not
 * block.
 */
VHUB_API void
vhub_net_to_guest(struct vhub_net_queue *queue, struct rte_mbuf **pkts, uint16_t n);

/** All of `n` views, 0 to VHUB_NET_BURST. Thread: ANY. */
static inline uint64_t
vhub_net_all_views(uint16_t n)
{
	return n >= VHUB_NET_BURST ? UINT64_MAX : (UINT64_C(1) << n) - 1;
}

/**
 * Copies packets to the guest of this queue pair, in order, from inside from_guest_views of a queue
 * of the same lcore; with that queue's or with another. What the guest has no room for waits for some
 * turns of its ring, behind a vIOMMU for some time while a translation is missing, then it is dropped and
 * counted. The views are as they were. Thread: LCORE, the pair's.
 */
VHUB_API void
vhub_net_views_to_guest(struct vhub_net_queue *queue, const struct vhub_net_view *views,
		uint64_t which);

/**
 * Makes mbufs of views, which may be kept: pkts[i] of views[i]. Returns of which: what there is no mbuf
 * for is dropped and counted with `queue`, the sender's. Thread: LCORE, the sender's.
 */
VHUB_API uint64_t
vhub_net_views_to_mbufs(struct vhub_net_queue *queue, const struct vhub_net_view *views,
		uint64_t which, struct rte_mbuf **pkts);

/** Moves those of `which` to the front, in order. Returns how many. Thread: ANY. */
static inline uint16_t
vhub_net_gather(struct rte_mbuf **pkts, uint64_t which)
{
	uint16_t n = 0;

	for (; which != 0; which &= which - 1)
		pkts[n++] = pkts[__builtin_ctzll(which)];
	return n;
}

/**
 * Frees `n` packets that a driver drops by itself, and counts why. Thread: LCORE, the pair's.
 */
VHUB_API void
vhub_net_drop(struct vhub_net_queue *queue, enum vhub_net_drop reason, struct rte_mbuf **pkts,
		uint16_t n);

/**
 * Takes the link of a port down, or leaves it to what the port is joined to again. While it is down the
 * guest is told so and no packet passes, in either direction. Thread: CTL. Returns 0, or -EINVAL: the
 * device is no port, and `error` says so.
 */
VHUB_API int
vhub_net_set_link(struct vhub_device *device, bool up, char *error, size_t error_len);

/**
 * Changes arguments of a port's driver while it runs; what is not given stays. Thread: WORK; may block. Returns 0,
 * -EINVAL (no port; its driver can change nothing; a value that is not allowed), -ENOMEM, with a sentence.
 */
VHUB_API int
vhub_net_change(struct vhub_device *device, const struct rte_kvargs *args, char *error,
		size_t error_len);

/**
 * Calls `emit` for each argument that was not given to a port, or to what an uplink consists of, and is what other
 * ports had a say in, for who writes down how it is made again. Of a device that is no port there are none. Thread:
 * CTL.
 */
VHUB_API void
vhub_net_effective_args(const struct vhub_device *device, vhub_stat_fn emit, void *arg);

/** What a port may do in a second; as keys: "from_guest_packets_per_s" and so on. */
enum vhub_net_limit {
	VHUB_NET_LIMIT_FROM_PACKETS,
	VHUB_NET_LIMIT_FROM_PACKETS_BURST, /**< at once after a pause */
	VHUB_NET_LIMIT_FROM_BYTES,
	VHUB_NET_LIMIT_FROM_BYTES_BURST,
	VHUB_NET_LIMIT_TO_PACKETS,
	VHUB_NET_LIMIT_TO_PACKETS_BURST,
	VHUB_NET_LIMIT_TO_BYTES,
	VHUB_NET_LIMIT_TO_BYTES_BURST,
	VHUB_NET_LIMITS
};

/**
 * 0: no limit; a burst of 0: what comes in a tenth of a second. A burst of bytes is at least the longest
 * frame.
 */
struct vhub_net_qos {
	uint64_t limits[VHUB_NET_LIMITS];
};

/** Bounds of those that are not 0; of bursts the upper ones alone. */
#define VHUB_NET_MAX_PACKETS UINT64_C(1000000000)
#define VHUB_NET_MIN_BYTES UINT64_C(512)
#define VHUB_NET_MAX_BYTES (UINT64_C(1) << 50)

/** Its key, as in "from_guest_packets_per_s"; constant. Thread: ANY. */
VHUB_API const char *
vhub_net_limit_name(enum vhub_net_limit limit);

/**
 * Limits a port, from the next burst on; all its pairs share the limits, and what is over them is dropped
 * and counted. Thread: CTL. Returns 0, or -EINVAL (no port; a value out of bounds, which one sentence
 * names), and nothing has changed then.
 */
VHUB_API int
vhub_net_set_qos(struct vhub_device *device, const struct vhub_net_qos *qos, char *error,
		size_t error_len);

/** What was set. Thread: CTL. Returns 0 or -EINVAL (no port). */
VHUB_API int
vhub_net_get_qos(const struct vhub_device *device, struct vhub_net_qos *qos);

/** As in mirror=NAME: none. */
#define VHUB_NET_NO_MIRROR "none"

/** Where copies of a port's packets go. */
struct vhub_net_mirror {
	char to[64]; /**< name of the port whose guest gets them; empty: no mirror */
	bool from_guest;
	bool to_guest;
};

/**
 * Has what passes the port, in one direction or both, go to another port's guest as well. That one may go
 * and come again. Thread: CTL. Returns 0, or -EINVAL: one of them is no port, or they are the same.
 */
VHUB_API int
vhub_net_set_mirror(struct vhub_device *device, const struct vhub_net_mirror *set, char *error,
		size_t error_len);

/** A file of what passes a port. */
struct vhub_net_capture {
	const char *path;	/**< is made; nothing may be there */
	const char *filter;	/**< an expression as libpcap's; NULL: all frames */
	uint32_t snaplen_bytes; /**< of each frame at most, not 0 */
	uint64_t max_bytes;	/**< of the file; 0: no limit */
	bool from_guest;
	bool to_guest;
};

/** What became of it. */
struct vhub_net_captured {
	uint64_t packets; /**< in the file */
	uint64_t bytes;	  /**< of the file */
	int error;	  /**< errno that has ended it early; 0: none, but it may be full */
};

/** Bounds. */
#define VHUB_NET_CAPTURE_MAX_SNAPLEN 262144u
#define VHUB_NET_CAPTURE_MIN_BYTES 4096u

/**
 * Begins to write what passes the port to a pcapng file, on a thread of its own. What that is too slow for
 * is dropped and counted. Thread: WORK; one of these two at a time. May block. Returns 0, -EINVAL (no port;
 * one is under way; the filter; the path, and what open() says of it), -ENOMEM, -EAGAIN, with a sentence.
 */
VHUB_API int
vhub_net_capture_start(struct vhub_device *device, const struct vhub_net_capture *set, char *error,
		size_t error_len);

/** Ends it. Thread: WORK. May block. Returns 0, -EINVAL (there is none), -ETIMEDOUT, with a sentence. */
VHUB_API int
vhub_net_capture_stop(struct vhub_device *device, struct vhub_net_captured *out, char *error,
		size_t error_len);

/**
 * Packets, in mbufs, that wait for guests at most: of all ports together, in inboxes and for room in
 * rings. Who brings packets in a pool of its own for many guests has so many more there, and with these what lcores
 * keep of it. The more workers, the more. Thread: CTL or WORK, after rte_eal_init().
 */
VHUB_API uint32_t
vhub_net_max_waiting(void);
/**
 * Mbufs that the caches of all lcores keep of a pool at most, where each has one of this size and any of
 * them may free a packet. Thread: CTL or WORK, after rte_eal_init().
 */
VHUB_API uint32_t
vhub_net_max_cached(uint32_t cache_size);

/**
 * The pool that packets of ports come from, for drivers that make some: shared by all ports of a
 * NUMA node (-1: any). Thread: CTL or WORK. NULL: there is no memory for it.
 */
VHUB_API struct rte_mempool *
vhub_net_pool(int node);

/**
 * Of such a pool, the mbufs that drivers may keep beyond their calls, as NICs do in their tx queues: of all
 * ports together. With more of them kept the other ports would have none. Grows with EAL's memory, and
 * is the same in every call. Thread: CTL or WORK.
 */
VHUB_API uint32_t
vhub_net_pool_tx_mbufs(void);

/**
 * A copy of a packet in mbufs of such a pool, offloads and all. Thread: LCORE. NULL: there are no mbufs left,
 * though drivers were asked for those that they are done with (reclaim).
 */
VHUB_API struct rte_mbuf *
vhub_net_copy(const struct rte_mbuf *m, struct rte_mempool *pool);

/**
 * Registers a driver. Thread: CTL or a constructor. Returns 0, -EEXIST (the name is taken), -EINVAL
 * (a required slot is missing), -ENOSPC (there are too many).
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
