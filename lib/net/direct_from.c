/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packets that a guest has sent, from our own ring: chains to views, which the port gets as they are,
 * or as mbufs. Called by net.c for each turn; next: header.c, the driver's from_guest_views, or view.c
 * and offload.c and its from_guest.
 */
#include <linux/virtio_config.h>

#include "direct.h"
#include "vhub_fetch.h"

void
direct_begin(struct net_pair *pair, uint64_t features)
{
	pair->mergeable = (features & (UINT64_C(1) << VIRTIO_NET_F_MRG_RXBUF)) != 0;
	/* VIRTIO 1.2, 5.1.6.1: num_buffers is there with either. */
	pair->header_bytes = pair->mergeable ||
					(features & (UINT64_C(1) << VIRTIO_F_VERSION_1)) != 0 ?
			NET_HEADER_BYTES :
			NET_LEGACY_HEADER_BYTES;
	if ((features & (UINT64_C(1) << VIRTIO_NET_F_HASH_REPORT)) != 0)
		pair->header_bytes = NET_HASH_HEADER_BYTES;
	pair->guest_asks = net_guest_asks(features);
	pair->front_mask = net_front_mask(pair->guest_asks);
}

/* ---- a chain to a view ---- */

/* Readable pieces that are worked off from the front. */
struct pieces {
	struct iovec *iov;
	uint32_t n;
};

static __rte_always_inline void
skip(struct pieces *p, size_t n)
{
	p->iov->iov_base = (uint8_t *)p->iov->iov_base + n;
	p->iov->iov_len -= n;
	if (p->iov->iov_len == 0) {
		p->iov++;
		p->n--;
	}
}

/* Copies `n` bytes, which are there, from wherever they lie. */
static void
take(struct pieces *p, void *dst, size_t n)
{
	uint8_t *to = dst;

	while (n != 0) {
		size_t here = RTE_MIN(n, p->iov->iov_len);

		memcpy(to, p->iov->iov_base, here);
		skip(p, here);
		to += here;
		n -= here;
	}
}

/*
 * Two loads of what a guest may be writing; opaque, so that what was checked is not loaded again. The
 * fields behind these 10 bytes are the device's to fill.
 */
static __rte_always_inline struct net_words
load_header(const uint8_t *src)
{
	struct net_words said = net_words_load(src);

	__asm__("" : "+r"(said.front), "+r"(said.csum_offset));
	return said;
}

/* Header and head from the first piece, or from several. Leaves what comes behind. */
static __rte_always_inline struct net_words
read_head(const struct net_pair *pair, struct pieces *p, struct vhub_net_view *view)
{
	size_t header = pair->header_bytes, head = view->head_bytes;
	uint8_t whole[NET_HASH_HEADER_BYTES];
	struct net_words said;

	if (likely(p->iov->iov_len >= header + head)) {
		const uint8_t *src = p->iov->iov_base;

		said = load_header(src);
		net_copy_small(view->head, src + header, head);
		skip(p, header + head);
		return said;
	}
	take(p, whole, header);
	take(p, view->head, head);
	return load_header(whole);
}

/* A packet that is to be cut into segments: all its headers are looked at. */
static __rte_noinline int
read_offload(const struct net_pair *pair, struct pieces *p, struct vhub_net_view *view,
		struct net_words said)
{
	const uint32_t more = RTE_MIN(view->bytes, VHUB_NET_HEAD_BYTES) - view->head_bytes;
	struct virtio_net_hdr hdr;

	take(p, view->head + view->head_bytes, more);
	view->head_bytes = (uint16_t)(view->head_bytes + more);
	net_words_store(said, &hdr);
	/* The copy is what is checked: the compiler may not go back to where it came from. */
	rte_compiler_barrier();
	return net_header_read(&hdr, pair->guest_asks, view->head, view->head_bytes, view->bytes,
			&view->offload);
}

/* Of one that is longer than frames of the port's are. */
static __rte_noinline bool
is_oversize(const struct net_pair *pair, const struct vhub_net_view *view)
{
	return net_is_oversize(pair->dev->max_frame_bytes, view->bytes,
			vhub_net_segment_bytes(view));
}

/* `bytes` in pieces. Returns false when there is no packet in them, or none that goes on; counted. */
static __rte_always_inline bool
read_view(struct net_pair *pair, struct pieces p, uint32_t bytes, struct vhub_net_view *view)
{
	uint64_t *drops = pair->counters.drops;
	struct net_words said;
	bool is_sane;

	if (unlikely(bytes < pair->header_bytes + (uint32_t)RTE_ETHER_HDR_LEN)) {
		vhub_count(&drops[VHUB_NET_DROP_RUNT], 1);
		return false;
	}
	view->bytes = bytes - pair->header_bytes;
	view->head_bytes = (uint16_t)RTE_MIN(view->bytes, NET_HEAD_BYTES);
	said = read_head(pair, &p, view);
	said.front &= pair->front_mask;
	if (likely((said.front & NET_FRONT_GSO) == 0))
		is_sane = net_read_sum(said, view->bytes, &view->offload);
	else
		is_sane = read_offload(pair, &p, view, said) == 0;
	if (unlikely(!is_sane)) {
		vhub_count(&drops[VHUB_NET_DROP_OFFLOAD], 1);
		return false;
	}
	if (unlikely(view->bytes > pair->dev->max_frame_bytes) && is_oversize(pair, view)) {
		vhub_count(&drops[VHUB_NET_DROP_OVERSIZE], 1);
		return false;
	}
	view->iov = p.iov;
	view->n_iov = (uint16_t)p.n;
	return true;
}

/* ---- a burst ---- */

/* Views that go on, of a burst. */
struct found {
	struct vhub_net_view views[VHUB_NET_BURST];
	uint64_t bytes;
	uint16_t n;
};

static void
give_mbufs(struct net_pair *pair, const struct vhub_net_view *views, uint16_t n)
{
	const uint64_t all = vhub_net_all_views(n);
	struct rte_mbuf *pkts[VHUB_NET_BURST];
	const uint64_t made = vhub_net_views_to_mbufs(&pair->queue, views, all, pkts);
	bool offloads = false;
	uint16_t i;

	for (i = 0; i < n; i++)
		offloads |= views[i].offload.csum;
	if (unlikely(made != all))
		n = vhub_net_gather(pkts, made);
	if (unlikely(offloads))
		net_offload(pair, pair->dev->port_takes, pkts, n, net_give_to_port);
	else if (likely(n != 0))
		net_give_to_port(pair, pkts, n);
}

static __rte_always_inline void
find(struct net_pair *pair, struct pieces p, uint32_t bytes, struct found *found)
{
	struct vhub_net_view *view = &found->views[found->n];

	if (unlikely(!read_view(pair, p, bytes, view))) {
		/* It was a packet, too: all that the guest has sent count. */
		found->bytes += bytes - RTE_MIN(bytes, (uint32_t)pair->header_bytes);
		return;
	}
	found->bytes += view->bytes;
	found->n++;
}

/* What was found in `n` chains. */
static __rte_always_inline void
give(struct net_pair *pair, struct found *found, uint16_t n)
{
	const struct vhub_net_driver_ops *driver = pair->dev->driver;

	vhub_count(&pair->counters.from_guest.packets, n);
	vhub_count(&pair->counters.from_guest.bytes, found->bytes);
	net_sender = net_sender_of(pair);
	if (unlikely(net_is_served(pair->dev, NET_FROM_GUEST)))
		found->n = net_serve_own_views(pair, NET_FROM_GUEST, found->views, found->n);
	if (unlikely(found->n == 0))
		return;
	if (unlikely(pair->dev->flows != NULL) && net_flows_matter(pair->dev))
		net_flows_note_views(pair, found->views, found->n);
	if (likely(driver->from_guest_views != NULL))
		driver->from_guest_views(&pair->queue, found->views, found->n);
	else
		give_mbufs(pair, found->views, found->n);
}

static __rte_always_inline void
begin_finding(struct found *found)
{
	found->bytes = 0;
	found->n = 0;
}

/* What is looked at of a packet: its header and the beginning of its frame. */
static __rte_always_inline void
fetch_packet(const void *packet)
{
	vhub_fetch_to_read(packet, 2 * RTE_CACHE_LINE_SIZE);
}

/* Packets that go nowhere are counted. */
static bool
go_nowhere(struct net_pair *pair, uint16_t n)
{
	if (unlikely(net_link_is_down(pair->dev))) {
		vhub_count(&pair->counters.drops[VHUB_NET_DROP_LINK_DOWN], n);
		return true;
	}
	if (likely(pair->from_ring->enabled))
		return false;
	/* "The back-end must process the ring without causing any side effects." */
	vhub_count(&pair->counters.drops[VHUB_NET_DROP_DISABLED], n);
	return true;
}

/* Of a burst, so many packets ahead of the one that is looked at. */
#define AHEAD 16u

static __rte_always_inline void
fetch_first_packets(const struct vhub_buffer *buffers, uint16_t n)
{
	for (uint16_t i = 0; i < RTE_MIN(n, AHEAD); i++)
		fetch_packet(buffers[i].base);
}

static __rte_always_inline void
find_whole(struct net_pair *pair, const struct vhub_buffer *buffers, uint16_t n,
		struct iovec *pieces, struct found *found)
{
	begin_finding(found);
	for (uint16_t i = 0; i < n; i++) {
		const struct pieces p = { &pieces[i], 1 };

		if (i + AHEAD < n)
			fetch_packet(buffers[i + AHEAD].base);
		pieces[i].iov_base = buffers[i].base;
		pieces[i].iov_len = buffers[i].bytes;
		find(pair, p, buffers[i].bytes, found);
	}
}

/* What a burst may have at most for another one to follow in the same turn. */
#define MAX_SMALL_BYTES (VHUB_NET_BURST * 2048u)

/*
 * The next packets that are in one piece each, header and frame: a burst, and if it was waited for a
 * second one, whose first ones come nearer while the other goes on.
 */
static uint16_t
take_whole(struct net_pair *pair)
{
	struct vhub_virtq *vq = pair->from_ring->vq;
	struct vhub_buffer buffers[2 * VHUB_NET_BURST];
	struct iovec pieces[VHUB_NET_BURST];
	const uint16_t max = pair->gather.bursts_due == 0 ? VHUB_NET_BURST : RTE_DIM(buffers);
	struct found found;
	uint16_t n, first;

	n = vhub_virtq_peek(vq, buffers, max, false);
	if (n == 0)
		return 0;
	first = RTE_MIN(n, VHUB_NET_BURST);
	fetch_first_packets(buffers, first);
	if (unlikely(go_nowhere(pair, n)))
		goto use;
	find_whole(pair, buffers, first, pieces, &found);
	if (unlikely(found.bytes > MAX_SMALL_BYTES))
		n = first;
	fetch_first_packets(&buffers[first], (uint16_t)(n - first));
	give(pair, &found, first);
	if (n > first) {
		find_whole(pair, &buffers[first], (uint16_t)(n - first), pieces, &found);
		give(pair, &found, (uint16_t)(n - first));
	}
use:
	if (n > first)
		pair->gather.bursts_due = 0;
	vhub_virtq_use(vq, buffers, n);
	return n;
}

static uint16_t
take_chains(struct net_pair *pair)
{
	struct vhub_virtq *vq = pair->from_ring->vq;
	struct vhub_chain *chains[VHUB_NET_BURST];
	struct found found;
	uint16_t n, i;

	n = vhub_virtq_pop(vq, chains, VHUB_NET_BURST);
	if (n == 0)
		return 0;
	for (i = 0; i < n; i++)
		fetch_packet(chains[i]->iov->iov_base);
	if (unlikely(go_nowhere(pair, n)))
		goto push;
	begin_finding(&found);
	for (i = 0; i < n; i++) {
		const struct pieces p = { chains[i]->iov, chains[i]->n_out };

		find(pair, p, chains[i]->out_bytes, &found);
	}
	give(pair, &found, n);
push:
	vhub_virtq_push(vq, chains, n);
	return n;
}

unsigned int
direct_poll_from_guest(struct net_pair *pair)
{
	uint16_t n;

	if (direct_is_gathering(pair))
		return 0;
	n = take_whole(pair);
	if (n == 0)
		n = take_chains(pair);
	if (n != 0 || pair->gather.waiting)
		direct_has_taken(pair, n);
	if (n != 0)
		vhub_virtq_notify(pair->from_ring->vq);
	return n;
}
