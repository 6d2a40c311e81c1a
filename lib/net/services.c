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

static uint64_t
serve(struct net_pair *pair, enum net_direction direction, const struct net_frames *frames,
		uint64_t which)
{
	const uint32_t on = __atomic_load_n(&pair->dev->services.on[direction], __ATOMIC_ACQUIRE);

	if ((on & (NET_SERVES_LIMIT_PACKETS | NET_SERVES_LIMIT_BYTES)) != 0)
		which = net_limit_pass(pair, direction, on, frames, which);
	if (unlikely(which == 0))
		return 0;
	if ((on & NET_SERVES_SIZES) != 0)
		net_sizes_count(pair, direction, frames, which);
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
	uint64_t pass = net_serve_views(pair, direction, views, vhub_net_all_views(n));
	uint16_t kept = 0;

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
	const uint64_t pass = serve(pair, direction, &frames, vhub_net_all_views(n));
	uint16_t i, kept = 0;

	for (i = 0; i < n; i++) {
		if ((pass >> i & 1) != 0)
			pkts[kept++] = pkts[i];
		else
			rte_pktmbuf_free(pkts[i]);
	}
	return kept;
}
