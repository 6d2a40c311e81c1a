/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The data path "librte_vhost": DPDK's library serves the rings of a network port, and we play the
 * front end towards it, from the session record. Replay, not relay: nothing that a front end has sent
 * is passed on, every message is made here from what was checked.
 *
 * A path belongs to one device. Its files, in the order of a life:
 *   socket.c    the private socket, the library's registration
 *   frontend.c  messages on that socket, each answered before the next
 *   sync.c      has the library be what the record says; called by device/foreign.c
 *   mbufs.c     how many a guest's packets may take
 *   burst.c     packets, on lcores; called by lib/net
 *   dma.c       the same, copied by a DMA engine
 *   engine.c    such engines, and what they fail to do
 *   iotlb.c     what a vIOMMU maps
 *   stats.c     the library's figures
 */
#ifndef RVHOST_H
#define RVHOST_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_branch_prediction.h>
#include <rte_mbuf.h>

#include "engine.h"
#include "session_record.h"
#include "vhub_device.h"
#include "vhub_log.h"
#include "vhub_mem.h"

/** What the library maps with one SET_MEM_TABLE, and the dirty log. */
#define RVHOST_MAX_REGIONS VHUB_USER_MAX_TABLE_REGIONS
#define RVHOST_MAX_GUARDS (RVHOST_MAX_REGIONS + 1)

/** Most packets that one call of the library handles. */
#define RVHOST_CALL_MAX 32
/** The same of a packed ring from the guest, which it takes whole. */
#define RVHOST_PACKED_CALL_MAX 64
/** Packets for which it takes its batch path of packed rings. */
#define RVHOST_PACKED_BATCH 4

/** Copies of a ring that a DMA engine has at most: each keeps a packet buffer of ours. */
#define RVHOST_DMA_MAX 512

/** And mbufs of all rings together, of those that ports share (net/pool.c). */
#define RVHOST_DMA_MBUFS 768u

/** Mbufs of ports' pools that a packet from a guest takes at most: one of 64 KiB, with its Ethernet header. */
#define RVHOST_PACKET_MBUFS 33u

/** An answer of the library that takes longer than this, and as long again, is looked for with a line in the log. */
#define RVHOST_LOOK_SECONDS 5u

/** Figures of a ring that the library counts; those of 22.11 are 17. */
#define RVHOST_MAX_STATS 32

/** Turns of a ring from one look at them to the next: a millisecond or so. */
#define RVHOST_TURNS_OF_A_LOOK 256u

/** One ring's figures. Who may look at them writes all of it (rvhost_stats_look()). */
struct rvhost_ring_stats {
	uint32_t n_turns;
	unsigned int n;			   /**< shared atomic */
	uint64_t before[RVHOST_MAX_STATS]; /**< of the library's devices that are gone */
	uint64_t seen[RVHOST_MAX_STATS];   /**< of all, when looked at last: shared atomics */
};

/** One ring's copies by DMA. The lcore's; WORK's while no lcore is in a ring. */
struct rvhost_ring_dma {
	bool on;
	uint16_t max; /**< that may be under way */
	uint16_t under_way;
	uint16_t guess; /**< mbufs of one packet from the guest that is under way */
	uint32_t mbufs; /**< under way */
};

struct rvhost_path {
	/* Immutable. */
	struct vhub_device *dev;
	struct rvhost_dma *dma;	  /**< NULL: lcores copy */
	struct rte_mempool *pool; /**< for packets from guests */
	bool iommu;		  /**< offered */
	bool trusted;		  /**< guests do not lie about how much there is in a ring */
	int event_fd;		  /**< the library's kick and call fd, which nobody reads */
	uint16_t n_vrings;

	/* CTL: the library asks for what the vIOMMU maps on iotlb_watch.fd. */
	struct vhub_watch iotlb_watch;
	struct vhub_timer iotlb_timer;
	bool iotlb_held; /**< iotlb_miss could not be sent on yet */
	struct vhub_user_iotlb iotlb_miss;
	int iotlb_fd; /**< the library's end, given with each connection; -1: no vIOMMU now */

	/* WORK, while no lcore is in a ring (dev->syncing). */
	int fd;	  /**< our end of the private socket; -1: the library has no device of ours */
	int lost; /**< an answer on it, and all that would follow: why; 0 */
	uint32_t n_looks; /**< shared atomic: for an answer that has not come yet */
	char socket_path[108];
	uint64_t library_features;
	bool packed;
	bool mergeable;
	bool copies_by_dma; /**< in this session */
	bool abandoned;	    /**< copies that its engine has not ended: it may make them yet */
	bool running[VHUB_MAX_VRINGS];
	/** which figure counts translations that were missing, RVHOST_MAX_STATS: none; read by lcores */
	unsigned int misses_figure;
	uint64_t misses[VHUB_MAX_VRINGS];   /**< LCORE: that figure, when looked at last */
	uint16_t call_max[VHUB_MAX_VRINGS]; /**< packets for one call; read by lcores */
	bool plenty[VHUB_MAX_VRINGS]; /**< LCORE: from the guest: the last turn found many packets */
	struct rvhost_ring_dma ring_dma[VHUB_MAX_VRINGS];
	uint32_t bases[VHUB_MAX_VRINGS];
	struct vhub_mem_map *guards[RVHOST_MAX_GUARDS];
	unsigned int n_guards;
	struct vhub_log_limit log_limit; /**< on what a front end causes */
	/** the library's number of the device; read by lcores, and by CTL when not syncing */
	int vid;

	struct rvhost_ring_stats stats[VHUB_MAX_VRINGS]; /* as ring_dma, but for atomics */
};

/**
 * A path for `dev` with `n_vrings` rings, which takes mbufs for packets from guests of `pool`, and takes over
 * `dma`, a reference of its own or NULL, also on failure. Thread: CTL or WORK. Returns 0, -ENOMEM, or the errno of
 * eventfd(2).
 */
int
rvhost_create(struct vhub_device *dev, uint16_t n_vrings, bool iommu, bool trusted,
		struct rte_mempool *pool, struct rvhost_dma *dma, struct rvhost_path **out);

/** Frees it; nothing runs. NULL is fine. */
void
rvhost_destroy(struct rvhost_path *path);

/**
 * Feature bits of virtio-net and of rings that the library serves, without those of the vhost-user
 * protocol, and without the control queue's, which it leaves to the front end. Thread: ANY.
 */
uint64_t
rvhost_features(bool iommu);

/* ---- socket.c, WORK ---- */

/**
 * A device of the library's, on a private socket: path->fd and path->vid. Returns 0 or -errno, with
 * a line in the log.
 */
int
rvhost_open(struct rvhost_path *path);

/** The library forgets the device; the memory it has mapped is no more. */
void
rvhost_close(struct rvhost_path *path);

/* ---- frontend.c, WORK; each may block for as long as others' front ends hold the library up ---- */

/**
 * Sends a request of `size` bytes with `n_fds` fds and waits for its acknowledgement. Returns 0, -EIO: it was
 * refused, or as path->lost.
 */
int
rvhost_tell(struct rvhost_path *path, uint32_t request, const void *payload, uint32_t size,
		const int *fds, unsigned int n_fds);

/** Whether an answer takes long. Thread: ANY. */
static inline bool
rvhost_waits(const struct rvhost_path *path)
{
	return __atomic_load_n(&path->n_looks, __ATOMIC_RELAXED) != 0;
}

/** Sends a request and waits for its reply of at most `reply_max` bytes. Returns 0 or as path->lost. */
int
rvhost_ask(struct rvhost_path *path, uint32_t request, const void *payload, uint32_t size,
		const int *fds, unsigned int n_fds, void *reply, uint32_t reply_max);

/**
 * Returns once the callbacks of all requests so far have returned: an acknowledgement comes before
 * them, the answer to the next request after them.
 */
int
rvhost_fence(struct rvhost_path *path);

/* ---- sync.c, WORK: as struct vhub_foreign_ops says ---- */

int
rvhost_sync(struct rvhost_path *path, const struct session_record *rec, bool anew,
		struct vhub_mem_owner *owner, uint32_t *bases);

/* ---- mbufs.c ---- */

/** What a thread may take of rvhost_allowance_pool(). */
struct rvhost_allowance {
	uint32_t mbufs; /**< left */
	bool exceeded;	/**< more were asked for */
};
extern __thread struct rvhost_allowance rvhost_allowance __attribute__((tls_model("initial-exec")));

/**
 * What gives mbufs of `pool`, a pool of packets, to a thread as long as its allowance lasts. It stays until the
 * process ends. Thread: CTL or WORK. NULL: there is no memory for it.
 */
struct rte_mempool *
rvhost_allowance_pool(struct rte_mempool *pool);

/* ---- burst.c, LCORE ---- */

/**
 * Up to `n` packets that the guest has sent on this ring, in mbufs of the path's pool; without `take` only
 * those whose copies are under way by DMA. `*dropped` is how many were left out for their length: none or one.
 */
uint16_t
rvhost_from_guest(struct rvhost_path *path, struct vhub_vring *vring, struct rte_mbuf **pkts,
		uint16_t n, bool take, uint16_t *dropped);

/**
 * Copies packets into the guest's buffers. Returns how many, from the front, there was room for; all
 * stay the caller's, who hands those to rvhost_given() once it has looked at them.
 */
uint16_t
rvhost_to_guest(struct rvhost_path *path, struct vhub_vring *vring, struct rte_mbuf **pkts,
		uint16_t n);

/** Frees packets that rvhost_to_guest() has given, now or when they are copied. */
static inline void
rvhost_given(const struct rvhost_path *path, const struct vhub_vring *vring, struct rte_mbuf **pkts,
		uint16_t n)
{
	if (likely(!path->ring_dma[vring->index].on))
		rte_pktmbuf_free_bulk(pkts, n);
}

/** Whether copies of this ring are under way by DMA. */
static inline bool
rvhost_under_way(const struct rvhost_path *path, const struct vhub_vring *vring)
{
	return path->ring_dma[vring->index].under_way != 0;
}

/** Packets to the guest whose copies have ended: tells the guest and frees them. Returns how many. */
uint16_t
rvhost_reap(struct rvhost_path *path, struct vhub_vring *vring);

/** Asks the guest to notify us of what it puts into this ring, or not to. */
void
rvhost_want_kicks(struct rvhost_path *path, struct vhub_vring *vring, bool on);

/** What the library calls back (socket.c registers it): the guest of the burst was notified. */
void
rvhost_guest_notified(int vid);

/* ---- dma.c ---- */

/** Copies that are under way in all rings, as they are just now. ANY. */
unsigned int
rvhost_copies(const struct rvhost_path *path);

/** A ring that runs begins to copy by DMA, if its session does; it waits until nothing is under way. WORK. */
int
rvhost_dma_begin(struct rvhost_path *path, uint16_t index, uint16_t ring_size);
void
rvhost_dma_end(struct rvhost_path *path, uint16_t index);

/** Packets of this ring whose copies have ended; submits none. The caller's. LCORE, or WORK at the end. */
uint16_t
rvhost_dma_completed(struct rvhost_path *path, uint16_t index, struct rte_mbuf **pkts, uint16_t n);

/** As rvhost_from_guest(), one call: submits up to `n` copies, and returns packets of earlier ones too. LCORE. */
uint16_t
rvhost_dma_from_guest(struct rvhost_path *path, uint16_t index, struct rte_mbuf **pkts, uint16_t n);

/** Submits up to `n` packets, from the front; the library's until they are completed. LCORE. */
uint16_t
rvhost_dma_to_guest(struct rvhost_path *path, uint16_t index, struct rte_mbuf **pkts, uint16_t n);

/* ---- iotlb.c ---- */

/** The features are known, or forgotten. CTL. Returns 0 or the errno of socketpair(2), epoll_ctl(2). */
int
rvhost_iotlb_begin(struct rvhost_path *path);
void
rvhost_iotlb_end(struct rvhost_path *path);

/** Tells the library what the vIOMMU maps, or not any more. WORK. As struct vhub_foreign_ops says. */
int
rvhost_iotlb(struct rvhost_path *path, const struct vhub_user_iotlb *msg);

/* ---- stats.c ---- */

/** A ring of a device behind a vIOMMU has started: its figures have names. WORK. */
void
rvhost_stats_find_misses(struct rvhost_path *path, uint16_t vring);

/**
 * Whether the ring was short of a translation since the last look, so that what found no room may find some
 * once that has come; true where the library does not tell. Takes the library's lock of the ring. LCORE, the
 * ring's.
 */
bool
rvhost_missed_translation(struct rvhost_path *path, const struct vhub_vring *vring);

/**
 * Looks at a running ring's figures. The ring's LCORE, or WORK while no lcore is in a ring: the library
 * takes the ring's lock for it, which an lcore has for a whole burst, with all page faults in it.
 */
void
rvhost_stats_look(struct rvhost_path *path, uint16_t vring);

/** In each turn of the ring: looks from time to time. LCORE. */
static inline void
rvhost_stats_turn(struct rvhost_path *path, const struct vhub_vring *vring)
{
	if (unlikely(++path->stats[vring->index].n_turns % RVHOST_TURNS_OF_A_LOOK == 0))
		rvhost_stats_look(path, vring->index);
}

/** The library's device is about to go: what its rings counted is kept. WORK. */
void
rvhost_stats_keep(struct rvhost_path *path);

/**
 * Calls `emit` with each figure of a ring as it was seen last, named `prefix` and the library's name. CTL. Does
 * not block.
 */
void
rvhost_stats_emit(struct rvhost_path *path, uint16_t vring, const char *prefix, vhub_stat_fn emit,
		void *arg);

#endif /* RVHOST_H */
