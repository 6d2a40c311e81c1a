/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packets through librte_vhost, on lcores. The library notifies an eventfd of ours, and tells us so
 * in the same call; we notify the guest, under the watchdog: a front end shares its call fd with us,
 * and can make a write to it block. Called by lib/net; next: net/from_guest.c and net/to_guest.c.
 */
#include <rte_branch_prediction.h>
#include <rte_vhost.h>

#include "rvhost.h"

/* Set by the library's callback inside of a burst. Initial-exec: on the fast path. */
static __thread bool guest_was_notified __attribute__((tls_model("initial-exec")));

void
rvhost_guest_notified(int vid)
{
	(void)vid;
	guest_was_notified = true;
}

static inline void
pass_notification_on(struct vhub_vring *vring)
{
	if (unlikely(guest_was_notified)) {
		guest_was_notified = false;
		vhub_vring_notify(vring);
	}
}

/* The library drops what it cannot copy to its end, and ends the call. */
static inline uint16_t
overlong(void)
{
	if (likely(!rvhost_allowance.exceeded))
		return 0;
	rvhost_allowance.exceeded = false;
	return 1;
}

uint16_t
rvhost_from_guest(struct rvhost_path *path, struct vhub_vring *vring, struct rte_mbuf **pkts,
		uint16_t n, bool take, uint16_t *dropped)
{
	const uint16_t call_max = path->call_max[vring->index];
	bool *const plenty = &path->plenty[vring->index];
	uint16_t taken = 0, most, part, got;

	if (unlikely(path->ring_dma[vring->index].on)) {
		part = RTE_MIN(n, call_max);
		taken = take ? rvhost_dma_from_guest(path, vring->index, pkts, part) :
			       rvhost_dma_completed(path, vring->index, pkts, part);
		*dropped = 0;
		pass_notification_on(vring);
		return taken;
	}
	/* The library takes an mbuf for each packet it is asked for, before it looks for any. */
	most = *plenty ? call_max : RTE_MIN(call_max, RVHOST_CALL_MAX);
	do {
		part = RTE_MIN(n - taken, most);
		rvhost_allowance.mbufs = part * RVHOST_PACKET_MBUFS;
		got = rte_vhost_dequeue_burst(path->vid, vring->index, path->pool, &pkts[taken],
				part);
		taken += got;
	} while (got == part && taken < n);
	if (*plenty != (taken >= RVHOST_CALL_MAX))
		*plenty = !*plenty;
	*dropped = overlong();
	pass_notification_on(vring);
	return taken;
}

uint16_t
rvhost_to_guest(struct rvhost_path *path, struct vhub_vring *vring, struct rte_mbuf **pkts,
		uint16_t n)
{
	const uint16_t call_max = path->call_max[vring->index];
	const bool by_dma = path->ring_dma[vring->index].on;
	uint16_t given = 0, part, got;

	do {
		part = RTE_MIN(n - given, call_max);
		got = unlikely(by_dma) ?
				rvhost_dma_to_guest(path, vring->index, &pkts[given], part) :
				rte_vhost_enqueue_burst(path->vid, vring->index, &pkts[given],
						part);
		given += got;
	} while (got == part && given < n);
	pass_notification_on(vring);
	return given;
}

uint16_t
rvhost_reap(struct rvhost_path *path, struct vhub_vring *vring)
{
	struct rte_mbuf *pkts[RVHOST_CALL_MAX];
	uint16_t n = rvhost_dma_completed(path, vring->index, pkts, RVHOST_CALL_MAX);

	rte_pktmbuf_free_bulk(pkts, n);
	pass_notification_on(vring);
	return n;
}

void
rvhost_want_kicks(struct rvhost_path *path, struct vhub_vring *vring, bool on)
{
	rte_vhost_enable_guest_notification(path->vid, vring->index, on);
}
