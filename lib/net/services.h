/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Services of a port: what an operator may want of its packets beside their way. A port without any pays
 * one test a burst for them, in each direction.
 *
 *     from guest: direct_from.c, from_guest.c -> services.c -> the driver
 *     to guest:   the driver -> direct_to.c, to_guest.c -> services.c -> the ring
 *
 *     limit.c     rate limits
 *     sizes.c     how long the frames are
 *     mirror.c    copies for the guest of another port
 *     capture.c   copies for a file (capture.h)
 *
 * Packets come as they are, views or mbufs, each of a burst once: what waits for room in a ring, or
 * becomes mbufs on its way, has been served. Services look at packets and decide which go on; they change
 * none.
 */
#ifndef NET_SERVICES_H
#define NET_SERVICES_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_branch_prediction.h>
#include <rte_common.h>
#include <rte_mbuf.h>

#include "vhub_device.h"
#include "vhub_meter.h"
#include "vhub_net.h"
#include "vhub_net_inbox.h"

struct net_capture;
struct net_dev;
struct net_pair;

enum net_direction {
	NET_FROM_GUEST,
	NET_TO_GUEST,
	NET_DIRECTIONS
};

/* net_services.on: */
#define NET_SERVES_LIMIT_PACKETS 0x1u
#define NET_SERVES_LIMIT_BYTES 0x2u
#define NET_SERVES_SIZES 0x4u
#define NET_SERVES_MIRROR 0x8u
#define NET_SERVES_CAPTURE 0x10u

/* Classes of frame sizes: at most 63 bytes, 64, to 127, 255, 511, 1023, 1518, and more. */
#define NET_SIZE_CLASSES 8u

struct net_services {
	/* Shared atomics: NET_SERVES_*. CTL writes them, lcores look once a burst. */
	uint32_t on[NET_DIRECTIONS];
	struct {
		struct vhub_meter packets;
		struct vhub_meter bytes;
	} limits[NET_DIRECTIONS];
	struct vhub_net_qos qos; /* CTL: what they were made from */

	/* While the bits are off, of whoever begins or ends it; else immutable. */
	struct net_capture *capture;

	/* mirror.c */
	bool is_watching; /* shared atomic: has been a mirror's, and stays it */
	struct vhub_net_inbox
			*inbox; /* immutable: copies for this port's guest, by its first pair */
	struct {
		struct vhub_net_inbox *to;  /* shared atomic; NULL: its port is not there */
		struct vhub_net_mirror set; /* with mirror.c's lock */
	} mirror;
	struct net_dev *next; /* with mirror.c's lock */
};

/* A burst, in one of the two forms; the other is NULL. */
struct net_frames {
	const struct vhub_net_view *views;
	struct rte_mbuf *const *pkts;
};

/* Frames of a burst are named by a word, as views are (vhub_net.h). */
static inline unsigned int
net_count_frames(uint64_t which)
{
	return (unsigned int)__builtin_popcountll(which);
}

/* How long those of a burst are that are named by a word, one after the other. Zeroes fill the last four. */
struct net_lengths {
	int32_t bytes[VHUB_NET_BURST] __rte_aligned(16);
	unsigned int n;
	uint32_t all_bytes;
};

static __rte_always_inline uint32_t
net_frame_bytes(const struct net_frames *frames, unsigned int i)
{
	return frames->views != NULL ? frames->views[i].bytes : frames->pkts[i]->pkt_len;
}

/* ---- services.c ---- */

/* CTL: of `mask`, these are on from now on. */
void
net_services_set(struct net_services *services, enum net_direction direction, uint32_t mask,
		uint32_t on);

/* Of a burst of at most VHUB_NET_BURST, named by `which`, returns those that go on; others are counted. */
uint64_t
net_serve_views(struct net_pair *pair, enum net_direction direction,
		const struct vhub_net_view *views, uint64_t which);
/* The same with packets that are freed when they do not. Returns how many are left, in order. */
uint16_t
net_serve_mbufs(struct net_pair *pair, enum net_direction direction, struct rte_mbuf **pkts,
		uint16_t n);
/* Views that may be moved. Returns how many are left, in order. */
uint16_t
net_serve_own_views(struct net_pair *pair, enum net_direction direction,
		struct vhub_net_view *views, uint16_t n);

/* ---- limit.c ---- */

/* CTL. Returns 0 or -EINVAL with one sentence. */
int
net_limit_check(const struct vhub_net_qos *qos, char *error, size_t error_len);
/* CTL. Of what was checked. */
void
net_limit_set(struct net_services *services, const struct vhub_net_qos *qos);
/* LCORE: returns those that are within the limits. Together they have `all_bytes`. */
uint64_t
net_limit_pass(struct net_pair *pair, enum net_direction direction, uint32_t on,
		const struct net_frames *frames, uint64_t which, uint32_t all_bytes);

/* ---- sizes.c ---- */

/* LCORE. */
void
net_sizes_count(struct net_pair *pair, enum net_direction direction,
		const struct net_lengths *lengths);
/* As a device's stats. */
void
net_sizes_emit(const struct net_pair *pair, vhub_stat_fn emit, void *arg);

/* ---- mirror.c ---- */

/* The port can be found, and is to be mirrored as its parameters say. CTL. Returns 0 or -ENOMEM. */
int
net_mirror_create(struct net_dev *dev, int node);
/* It is found no more, and goes when no lcore has it any more. CTL or WORK. */
void
net_mirror_leave(struct net_dev *dev);
void
net_mirror_destroy(struct net_dev *dev);
/* Whether a port of this name may be mirrored so: 0, or -EINVAL with one sentence. */
int
net_mirror_check(const char *name, const struct vhub_net_mirror *set, char *error,
		size_t error_len);

/* LCORE, a mirrored port's: sends copies. */
void
net_mirror_frames(struct net_pair *pair, const struct net_frames *frames, uint64_t which);
/* LCORE: copies of frames, as long as there is memory. Returns how many. */
uint16_t
net_copy_frames(struct net_pair *pair, const struct net_frames *frames, uint64_t which,
		struct rte_mbuf **copies);

/* LCORE, of the pair to whose guest copies go; as a driver does with an inbox of its own. */
void
net_mirror_open(struct net_pair *pair);
void
net_mirror_close(struct net_pair *pair);
void
net_mirror_empty(struct net_pair *pair);
uint16_t
net_mirror_take(struct net_pair *pair, struct rte_mbuf **pkts, uint16_t max);
int
net_mirror_arm(struct net_pair *pair);
void
net_mirror_disarm(struct net_pair *pair);
bool
net_mirror_park(struct net_pair *pair, struct vhub_lcore_word *word);

/* ---- capture.c ---- */

/* LCORE: copies into the capture. */
void
net_capture_frames(struct net_pair *pair, enum net_direction direction,
		const struct net_frames *frames, uint64_t which);
/* No frame comes any more; the one there is, if any, ends when no lcore has it any more. CTL or WORK. */
void
net_capture_leave(struct net_dev *dev);
/* May block. */
void
net_capture_end(struct net_dev *dev, struct vhub_net_captured *out);

#endif /* NET_SERVICES_H */
