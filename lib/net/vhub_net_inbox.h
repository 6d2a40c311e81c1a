/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packets for a queue pair from whichever lcore has them: for drivers that join ports, each of which
 * has an inbox for each of its queue pairs. On the lcore that owns the pair a packet goes to the guest
 * at once; on another one it goes through a bounded ring that the owner empties in its turn. What
 * there is no room for is dropped and counted, and nobody waits: a guest or an lcore that is slow
 * costs others nothing. Of the mbufs that may wait for an lcore an inbox gets no more than it leaves to
 * the others.
 *
 * A driver opens an inbox in queue_get, closes it in queue_put, takes packets from it in to_guest, and
 * calls its arm, disarm, park and empty (closed) for its own. It destroys an inbox when no lcore can reach it any more
 * (vhub_quiesce_then()).
 *
 * Packets that one lcore sends to an inbox arrive in their order. What is in it when it closes, or its
 * queue is not open any more, is dropped; and what gets there later by who has sent it.
 */
#ifndef VHUB_NET_INBOX_H
#define VHUB_NET_INBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "vhub_net.h"

#ifdef __cplusplus
extern "C" {
#endif

struct vhub_net_inbox;

/** A closed inbox. Thread: CTL or WORK. Returns 0 or -ENOMEM. */
VHUB_API int
vhub_net_inbox_create(int node, struct vhub_net_inbox **out);

/** Frees it with what is in it. NULL is fine. Thread: CTL or WORK. */
VHUB_API void
vhub_net_inbox_destroy(struct vhub_net_inbox *inbox);

/** Packets go to `queue` from now on, which is the calling lcore's; until close. Thread: LCORE. */
VHUB_API void
vhub_net_inbox_open(struct vhub_net_inbox *inbox, struct vhub_net_queue *queue);
VHUB_API void
vhub_net_inbox_close(struct vhub_net_inbox *inbox);

/** Drops what waits, as a driver's `closed`. Thread: LCORE, the owner. */
VHUB_API void
vhub_net_inbox_empty(struct vhub_net_inbox *inbox);

/** Whether the guest of its queue takes packets; may change at any time. Thread: LCORE, any. */
VHUB_API bool
vhub_net_inbox_is_open(const struct vhub_net_inbox *inbox);

/** The queue that the packets go to, NULL: it is closed. Good for this turn. Thread: LCORE, any. */
VHUB_API const struct vhub_net_queue *
vhub_net_inbox_queue(const struct vhub_net_inbox *inbox);

/**
 * Which of its pairs a guest wants the packet on that begins with these bytes, where it has said so
 * (RSS) or has sent packets of that flow by it; -1: it leaves that to the driver. `inbox` is that of its first pair. Thread: LCORE, any.
 */
VHUB_API int
vhub_net_inbox_wanted(const struct vhub_net_inbox *inbox, const uint8_t *head, uint32_t head_bytes);

/** Sends up to VHUB_NET_BURST packets, which are given away in every case. Thread: LCORE, any. */
VHUB_API void
vhub_net_inbox_send(struct vhub_net_inbox *inbox, struct rte_mbuf **pkts, uint16_t n);

/**
 * The same with views of `from`, from inside its from_guest_views: on the owner's lcore they go to the
 * guest as they are, to another one as mbufs. Thread: LCORE, any.
 */
VHUB_API void
vhub_net_inbox_send_views(struct vhub_net_inbox *inbox, struct vhub_net_queue *from,
		const struct vhub_net_view *views, uint64_t which);

/** Sends pkts[i] to inboxes[i] for each bit i of `which`, together what is for the same one. LCORE, any. */
VHUB_API void
vhub_net_inbox_send_each(struct vhub_net_inbox *const *inboxes, struct rte_mbuf **pkts,
		uint64_t which);
/** The same with views[i] of `from`, as vhub_net_inbox_send_views(). */
VHUB_API void
vhub_net_inbox_send_views_each(struct vhub_net_inbox *const *inboxes, struct vhub_net_queue *from,
		const struct vhub_net_view *views, uint64_t which);

/**
 * Sends copies that nobody misses: they wait also where the owner is the calling lcore, and take no more
 * than leaves room for what is sent. Returns how many, from the front, are on their way; the others are
 * freed, and not counted. Thread: LCORE, any.
 */
VHUB_API uint16_t
vhub_net_inbox_post(struct vhub_net_inbox *inbox, struct rte_mbuf **pkts, uint16_t n);

/** What other lcores have sent, as a driver's to_guest. Thread: LCORE, the owner. */
VHUB_API uint16_t
vhub_net_inbox_take(struct vhub_net_inbox *inbox, struct rte_mbuf **pkts, uint16_t max);

/** As a driver's arm and disarm: who sends wakes the owner. Thread: LCORE, the owner. */
VHUB_API int
vhub_net_inbox_arm(struct vhub_net_inbox *inbox);
VHUB_API void
vhub_net_inbox_disarm(struct vhub_net_inbox *inbox);

/** As a driver's park: a packet that arrives changes the word. Thread: LCORE, the owner. */
VHUB_API bool
vhub_net_inbox_park(const struct vhub_net_inbox *inbox, struct vhub_lcore_word *word);

/** Packets that came when the guest's ring was not open, or waited when it closed. Thread: ANY. */
VHUB_API uint64_t
vhub_net_inbox_dropped_closed(const struct vhub_net_inbox *inbox);

/**
 * As a driver's stats: "crossed_packets", "dropped_crossing_full" (the owner took too few or too late),
 * "dropped_crossing_closed" (the guest's ring was not open, or closed before they were taken), summed
 * over `n` inboxes. What goes to a guest on its own lcore is counted by lib/net alone. Thread: ANY.
 */
VHUB_API void
vhub_net_inbox_emit_stats(struct vhub_net_inbox *const *inboxes, unsigned int n, vhub_stat_fn emit,
		void *arg);

#ifdef __cplusplus
}
#endif

#endif /* VHUB_NET_INBOX_H */
