/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The services of a port, one after the other (services.h). Called by direct_from.c, direct_to.c,
 * from_guest.c and to_guest.c for bursts of a port that has some, on the lcore that owns the pair; next:
 * limit.c, sizes.c, mirror.c, capture.c.
 */
#include "net_pvt.h"
#include "services.h"

void
net_services_set(struct net_services *services, enum net_direction direction, uint32_t mask,
		uint32_t on)
{
	uint32_t now = __atomic_load_n(&services->on[direction], __ATOMIC_RELAXED);

	/* Pairs with the load in serve(): what the service needs is there. */
	__atomic_store_n(&services->on[direction], (now & ~mask) | on, __ATOMIC_RELEASE);
}

/* Those in front and no others: as a rule all of a burst. */
static bool
is_row(uint64_t which)
{
	return (which & (which + 1)) == 0;
}

static void
measure(const struct net_frames *frames, uint64_t which, struct net_lengths *lengths)
{
	const unsigned int n = net_count_frames(which);
	const struct vhub_net_view *views = frames->views;
	uint32_t all_bytes = 0, bytes;
	unsigned int i;

	if (likely(views != NULL && is_row(which))) {
		for (i = 0; i < n; i++) {
			lengths->bytes[i] = (int32_t)views[i].bytes;
			all_bytes += views[i].bytes;
		}
	} else {
		for (i = 0; i < n; i++, which &= which - 1) {
			bytes = net_frame_bytes(frames, (unsigned int)__builtin_ctzll(which));
			lengths->bytes[i] = (int32_t)bytes;
			all_bytes += bytes;
		}
	}
	for (; i % 4 != 0; i++)
		lengths->bytes[i] = 0;
	lengths->n = n;
	lengths->all_bytes = all_bytes;
}

static uint64_t
serve(struct net_pair *pair, enum net_direction direction, const struct net_frames *frames,
		uint64_t which)
{
	const uint32_t on = __atomic_load_n(&pair->dev->services.on[direction], __ATOMIC_ACQUIRE);
	struct net_lengths lengths;
	uint64_t asked = which;

	if ((on & (NET_SERVES_LIMIT_BYTES | NET_SERVES_SIZES)) != 0)
		measure(frames, which, &lengths);
	else
		lengths.all_bytes = 0;
	if ((on & (NET_SERVES_LIMIT_PACKETS | NET_SERVES_LIMIT_BYTES)) != 0)
		which = net_limit_pass(pair, direction, on, frames, which, lengths.all_bytes);
	if (unlikely(which == 0))
		return 0;
	if ((on & NET_SERVES_SIZES) != 0) {
		if (unlikely(which != asked))
			measure(frames, which, &lengths);
		net_sizes_count(pair, direction, &lengths);
	}
	if ((on & NET_SERVES_MIRROR) != 0)
		net_mirror_frames(pair, frames, which);
	if ((on & NET_SERVES_CAPTURE) != 0)
		net_capture_frames(pair, direction, frames, which);
	return which;
}

uint64_t
net_serve_views(struct net_pair *pair, enum net_direction direction,
		const struct vhub_net_view *views, uint64_t which)
{
	const struct net_frames frames = { .views = views };

	return serve(pair, direction, &frames, which);
}

uint16_t
net_serve_own_views(struct net_pair *pair, enum net_direction direction,
		struct vhub_net_view *views, uint16_t n)
{
	const uint64_t all = vhub_net_all_views(n);
	uint64_t pass = net_serve_views(pair, direction, views, all);
	uint16_t kept = 0;

	if (likely(pass == all))
		return n;
	for (; pass != 0; pass &= pass - 1) {
		const unsigned int i = (unsigned int)__builtin_ctzll(pass);

		if (i != kept)
			views[kept] = views[i];
		kept++;
	}
	return kept;
}

uint16_t
net_serve_mbufs(struct net_pair *pair, enum net_direction direction, struct rte_mbuf **pkts,
		uint16_t n)
{
	const struct net_frames frames = { .pkts = pkts };
	const uint64_t all = vhub_net_all_views(n), pass = serve(pair, direction, &frames, all);
	uint16_t i, kept = 0;

	if (likely(pass == all))
		return n;
	for (i = 0; i < n; i++) {
		if ((pass >> i & 1) != 0)
			pkts[kept++] = pkts[i];
		else
			rte_pktmbuf_free(pkts[i]);
	}
	return kept;
}
