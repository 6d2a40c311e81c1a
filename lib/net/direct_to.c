/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packets into a guest's ring of ours, from views or mbufs: room is taken from the ring, filled, given
 * back with one notification for the burst; room that was not needed is put back. Called by drivers
 * (vhub_net_views_to_guest()) and to_guest.c, on the lcore that owns the ring. Next: virtq/virtq.c.
 *
 * A packet needs one chain, or with mergeable buffers as many as it takes (VIRTIO 1.2, 5.1.6.3). What
 * does not fit is dropped and its room kept for the next one, so nothing is ever waited for.
 */
#include "direct.h"
#include "vhub_fetch.h"

/* Most chains of one packet: 64 KiB in buffers of 256 bytes. */
#define MAX_MERGED 256u

/* A packet to be copied, whatever it came from. */
struct source {
	const void *head;
	uint32_t head_bytes;
	uint32_t n_iov;
	const struct iovec *iov; /* the rest */
	uint32_t bytes;		 /* of all */
	const struct vhub_net_offload *offload;
};

/* A ring's room during a burst: chains[next .. n) are free, those before are filled. */
struct room {
	struct net_pair *pair;
	struct vhub_virtq *vq;
	uint32_t header_bytes;
	uint32_t n;
	uint32_t next;
	struct vhub_chain *chains[MAX_MERGED];
	bool full; /* for the packet that was tried last, which may wait */
};

/* ---- room ---- */

static void
push_filled(struct room *room)
{
	uint32_t i, part;

	for (i = 0; i < room->next; i += part) {
		part = RTE_MIN(room->next - i, VHUB_VIRTQ_BURST);
		vhub_virtq_push(room->vq, &room->chains[i], (uint16_t)part);
	}
}

/* More chains behind those that are there, up to `want`. Returns false when the guest has none. */
static bool
more_room(struct room *room, uint32_t want)
{
	uint32_t max = RTE_MIN(want, VHUB_VIRTQ_BURST);
	uint16_t got;

	if (room->n + max > MAX_MERGED) {
		push_filled(room);
		room->n -= room->next;
		memmove(room->chains, &room->chains[room->next], room->n * sizeof(room->chains[0]));
		room->next = 0;
		max = RTE_MIN(max, MAX_MERGED - room->n);
	}
	got = max == 0 ? 0 : vhub_virtq_pop(room->vq, &room->chains[room->n], (uint16_t)max);
	room->n += got;
	return got != 0;
}

static __rte_always_inline void
notify(struct net_pair *pair)
{
	struct vhub_vring *ring = pair->to_ring;

	vhub_virtq_notify(ring->vq);
	/* Its own poll tells of it, and later what is kept back. */
	if (unlikely(vhub_virtq_broken(ring->vq) != VHUB_VIRTQ_OK || pair->coalesces))
		vhub_vring_resume(ring);
}

static void
close_room(struct room *room)
{
	push_filled(room);
	vhub_virtq_unpop(room->vq, &room->chains[room->next], (uint16_t)(room->n - room->next));
	notify(room->pair);
}

/* ---- copies ---- */

/*
 * A copy finds most of its time gone in waiting for the lines that it writes, which the guest has looked
 * at. So those of a buffer are fetched to be written while one before it is filled. What is so far behind
 * its beginning the processor sees coming by itself.
 */
#define MOST_AHEAD_BYTES 2048u

static __rte_always_inline void
fetch_beginning(const void *to, size_t n)
{
	vhub_fetch_to_write(to, RTE_MIN(n, MOST_AHEAD_BYTES));
}

/* Where the next byte goes: into the writable pieces of chains, one after the other. */
struct writer {
	struct vhub_chain *const *chain; /* the next one */
	size_t left;			 /* bytes to be written, by now */
	const struct iovec *piece;
	uint32_t n_pieces; /* left, with this one */
	size_t at;	   /* in it */
};

static void
next_chain(struct writer *w)
{
	const struct vhub_chain *chain = *w->chain++;
	const struct iovec *behind;

	w->piece = chain->iov + chain->n_out;
	w->n_pieces = chain->n_in;
	w->at = 0;
	if (w->left <= chain->in_bytes)
		return;
	behind = (*w->chain)->iov + (*w->chain)->n_out;
	fetch_beginning(behind->iov_base, RTE_MIN(behind->iov_len, w->left - chain->in_bytes));
}

static void
write_on(struct writer *w, const void *src, size_t n)
{
	const uint8_t *from = src;

	while (n != 0) {
		size_t here;

		if (w->n_pieces == 0)
			next_chain(w);
		here = RTE_MIN(n, w->piece->iov_len - w->at);
		memcpy((uint8_t *)w->piece->iov_base + w->at, from, here);
		from += here;
		n -= here;
		w->left -= here;
		w->at += here;
		if (w->at == w->piece->iov_len) {
			w->piece++;
			w->n_pieces--;
			w->at = 0;
		}
	}
}

/* Into pieces of any sizes, which are enough. */
static void
scatter(struct vhub_chain *const *chains, const struct net_header *hdr, uint32_t header_bytes,
		const struct source *src)
{
	struct writer w = { .chain = chains, .left = header_bytes + src->bytes };
	uint32_t i;

	write_on(&w, hdr, header_bytes);
	write_on(&w, src->head, src->head_bytes);
	for (i = 0; i < src->n_iov; i++)
		write_on(&w, src->iov[i].iov_base, src->iov[i].iov_len);
}

static __rte_always_inline void
copy_header(uint8_t *dst, const struct net_header *hdr, uint32_t header_bytes)
{
	if (likely(header_bytes == NET_HEADER_BYTES))
		memcpy(dst, hdr, NET_HEADER_BYTES);
	else if (header_bytes == NET_LEGACY_HEADER_BYTES)
		memcpy(dst, hdr, NET_LEGACY_HEADER_BYTES);
	else
		memcpy(dst, hdr, NET_HASH_HEADER_BYTES);
}

/* The frame, into one piece. */
static __rte_always_inline void
copy_frame(uint8_t *dst, const struct source *src)
{
	uint32_t i;

	net_copy(dst, src->head, src->head_bytes);
	dst += src->head_bytes;
	for (i = 0; i < src->n_iov; i++) {
		net_copy(dst, src->iov[i].iov_base, src->iov[i].iov_len);
		dst += src->iov[i].iov_len;
	}
}

/* ---- one packet ---- */

/* The header of a packet in one chain; num_buffers also where there is only ever one (5.1.6.4.1). */
static void
fill_header(const struct net_pair *pair, const struct source *src, struct net_header *hdr)
{
	net_header_write(src->offload, &hdr->mrg);
	if (pair->header_bytes == NET_HASH_HEADER_BYTES)
		net_rss_report(pair, src->head, src->head_bytes, hdr);
}

static void
drop_one(struct room *room, enum vhub_net_drop why)
{
	vhub_count(&room->pair->counters.drops[why], 1);
}

/* A buffer that cannot even hold a header will never be of use to anybody (5.1.6.3.1). */
static bool
is_no_buffer(struct room *room, const struct vhub_chain *chain)
{
	if (likely(chain->in_bytes >= room->header_bytes))
		return false;
	vhub_virtq_break(room->vq, VHUB_VIRTQ_SMALL_BUFFER);
	return true;
}

/* Into as many chains as it takes. */
static bool
put_merged(struct room *room, const struct source *src, struct net_header *hdr)
{
	const uint32_t need = room->header_bytes + src->bytes;
	uint32_t count = 0, i;
	uint64_t there = 0;

	while (there < need) {
		if (room->next + count == room->n && !more_room(room, VHUB_VIRTQ_BURST)) {
			room->full = true;
			return false;
		}
		if (is_no_buffer(room, room->chains[room->next + count])) {
			drop_one(room, VHUB_NET_DROP_NO_ROOM);
			return false;
		}
		there += room->chains[room->next + count]->in_bytes;
		count++;
	}
	hdr->mrg.num_buffers = (uint16_t)count;
	scatter(&room->chains[room->next], hdr, room->header_bytes, src);
	for (i = 0; i < count; i++) {
		struct vhub_chain *chain = room->chains[room->next + i];

		chain->used_bytes = chain->in_bytes;
	}
	/* The last one is as full as it happens. */
	room->chains[room->next + count - 1]->used_bytes -= (uint32_t)(there - need);
	room->next += count;
	return true;
}

/* Returns whether the guest has got it; else it is counted, or the ring is full. */
static __rte_always_inline bool
put(struct room *room, const struct source *src)
{
	const uint32_t need = room->header_bytes + src->bytes;
	struct vhub_chain *chain;
	struct net_header hdr;
	const struct iovec *piece;

	if (unlikely(room->next == room->n) && !more_room(room, VHUB_VIRTQ_BURST)) {
		room->full = true;
		return false;
	}
	fill_header(room->pair, src, &hdr);
	chain = room->chains[room->next];
	if (unlikely(chain->in_bytes < need)) {
		if (room->pair->mergeable)
			return put_merged(room, src, &hdr);
		is_no_buffer(room, chain);
		drop_one(room, VHUB_NET_DROP_NO_ROOM);
		return false;
	}
	piece = chain->iov + chain->n_out;
	if (likely(piece->iov_len >= need)) {
		copy_header(piece->iov_base, &hdr, room->header_bytes);
		copy_frame((uint8_t *)piece->iov_base + room->header_bytes, src);
	} else {
		scatter(&chain, &hdr, room->header_bytes, src);
	}
	chain->used_bytes = need;
	room->next++;
	return true;
}

/* ---- bursts ---- */

static __rte_always_inline void
open_room(struct room *room, struct net_pair *pair, uint16_t n)
{
	room->pair = pair;
	room->vq = pair->to_ring->vq;
	room->header_bytes = pair->header_bytes;
	room->next = 0;
	room->full = false;
	room->n = vhub_virtq_pop(room->vq, room->chains, RTE_MIN(n, VHUB_VIRTQ_BURST));
}

static void
count_given(struct net_pair *pair, uint64_t packets, uint64_t bytes)
{
	vhub_count(&pair->counters.to_guest.packets, packets);
	vhub_count(&pair->counters.to_guest.bytes, bytes);
}

/* What is filled of a burst of buffers. */
struct filled {
	struct vhub_buffer buffers[VHUB_NET_BURST];
	uint64_t bytes;
	uint16_t n; /* shown */
	uint16_t n_filled;
	uint16_t n_headers; /* that were not there already */
	uint32_t header_bytes;
};

/*
 * Most headers are alike, and a guest that uses its buffers again only reads them: the header is there
 * from the last time then, and its line stays with the guest if nobody writes to it. It is looked at as
 * long as that is worth while in this burst: where something else is there the look costs a miss.
 */
#define MOST_OTHER_HEADERS 4

static __rte_always_inline bool
has_header(const uint8_t *dst, const struct net_header *hdr)
{
	const uint8_t *src = (const uint8_t *)hdr;
	uint64_t was, is;
	uint32_t was_rest, is_rest;

	static_assert(sizeof(is) + sizeof(is_rest) == NET_HEADER_BYTES, "all of it");
	memcpy(&was, dst, sizeof(was));
	memcpy(&was_rest, dst + sizeof(was), sizeof(was_rest));
	memcpy(&is, src, sizeof(is));
	memcpy(&is_rest, src + sizeof(is), sizeof(is_rest));
	return ((was ^ is) | (was_rest ^ is_rest)) == 0;
}

static __rte_always_inline void
put_header(const struct net_pair *pair, struct filled *f, uint8_t *dst, const struct source *src)
{
	struct net_header hdr;

	if (unlikely(f->header_bytes != NET_HEADER_BYTES)) {
		fill_header(pair, src, &hdr);
		copy_header(dst, &hdr, f->header_bytes);
		return;
	}
	net_header_write(src->offload, &hdr.mrg);
	if (f->n_headers < MOST_OTHER_HEADERS && has_header(dst, &hdr))
		return;
	memcpy(dst, &hdr, NET_HEADER_BYTES);
	f->n_headers++;
}

/*
 * The lines of a later buffer (fetch_beginning()), as many as this packet needs: packets of a size come
 * together. Later is so far ahead that some 20 or 30 lines are on their way. The header is most likely
 * there already.
 */
#define FURTHEST_AHEAD 4u

static __rte_always_inline uint32_t
how_far_ahead(uint32_t bytes)
{
	return bytes <= 320 ? FURTHEST_AHEAD : bytes <= 1024 ? 2 : 1;
}

static __rte_always_inline void
fetch_ahead(const struct filled *f, uint32_t bytes)
{
	const uint32_t at = f->n_filled + how_far_ahead(bytes);

	if (at < f->n && f->buffers[at].bytes >= bytes)
		fetch_beginning((const uint8_t *)f->buffers[at].base + f->header_bytes,
				bytes - f->header_bytes);
}

/* Of the first ones nobody was ahead. */
static __rte_always_inline void
fetch_first_buffers(const struct filled *f)
{
	const uint32_t n = RTE_MIN(f->n, FURTHEST_AHEAD);

	for (uint32_t i = 0; i < n; i++)
		vhub_fetch_to_write((const uint8_t *)f->buffers[i].base + f->header_bytes, 1);
}

/* Into the next buffer. False: there is none, or the packet needs more than this one. */
static __rte_always_inline bool
fill_next(const struct net_pair *pair, struct filled *f, const struct source *src)
{
	struct vhub_buffer *buffer = &f->buffers[f->n_filled];
	const uint32_t need = f->header_bytes + src->bytes;

	if (unlikely(f->n_filled == f->n || buffer->bytes < need))
		return false;
	fetch_ahead(f, need);
	put_header(pair, f, buffer->base, src);
	copy_frame((uint8_t *)buffer->base + f->header_bytes, src);
	buffer->used_bytes = need;
	f->bytes += src->bytes;
	f->n_filled++;
	return true;
}

static __rte_always_inline void
begin_filling(struct net_pair *pair, struct filled *f, uint16_t n)
{
	f->n = vhub_virtq_peek(pair->to_ring->vq, f->buffers, RTE_MIN(n, VHUB_NET_BURST), true);
	f->header_bytes = pair->header_bytes;
	f->n_filled = 0;
	f->n_headers = 0;
	f->bytes = 0;
	fetch_first_buffers(f);
}

static __rte_always_inline void
end_filling(struct net_pair *pair, struct filled *f)
{
	vhub_virtq_use(pair->to_ring->vq, f->buffers, f->n_filled);
	/* As many are about to come where there are many at once. */
	if (f->n_filled == VHUB_NET_BURST)
		vhub_virtq_prefetch(pair->to_ring->vq, VHUB_NET_BURST);
	count_given(pair, f->n_filled, f->bytes);
}

static __rte_always_inline struct source
source_of(const struct vhub_net_view *view)
{
	return (struct source){ view->head, view->head_bytes, view->n_iov, view->iov, view->bytes,
		&view->offload };
}

/* Whether somebody has to do something for the packet first. A front that has nothing of `looks` needs no look. */
static __rte_always_inline bool
is_to_complete(const struct net_pair *pair, const struct vhub_net_view *view, uint64_t looks)
{
	return unlikely((net_words_load(&view->offload).front & looks) != 0) &&
			(net_offload_needs(&view->offload) & ~pair->guest_takes) != 0;
}

/* Most guests take a checksum if they take anything. */
static __rte_always_inline uint64_t
looks_of(const struct net_pair *pair)
{
	return (pair->guest_takes & VHUB_NET_TAKES_CSUM) != 0 ? NET_FRONT_GSO :
								NET_FRONT_GSO | NET_FRONT_CSUM;
}

/*
 * Views whose offloads the guest takes, as long as each goes into one buffer of one piece. Returns those
 * that are left. The guest is not told yet.
 */
static uint64_t
give_views_whole(struct net_pair *pair, const struct vhub_net_view *views, uint64_t which)
{
	const uint64_t looks = looks_of(pair);
	struct filled f;

	begin_filling(pair, &f, (uint16_t)__builtin_popcountll(which));
	for (; which != 0; which &= which - 1) {
		const struct vhub_net_view *view = &views[__builtin_ctzll(which)];
		const struct source src = source_of(view);

		if (is_to_complete(pair, view, looks) || unlikely(!fill_next(pair, &f, &src)))
			break;
	}
	end_filling(pair, &f);
	return which;
}

/*
 * The same by way of chains, until there is no room for one. Returns those that are left, it and all
 * behind it.
 */
static uint64_t
give_views_in_room(struct net_pair *pair, const struct vhub_net_view *views, uint64_t which)
{
	uint64_t bytes = 0, packets = 0;
	struct room room;

	open_room(&room, pair, (uint16_t)__builtin_popcountll(which));
	for (; which != 0; which &= which - 1) {
		const struct vhub_net_view *view = &views[__builtin_ctzll(which)];
		const struct source src = source_of(view);

		if (likely(put(&room, &src))) {
			bytes += view->bytes;
			packets++;
		} else if (room.full) {
			break;
		}
	}
	close_room(&room);
	count_given(pair, packets, bytes);
	return which;
}

/*
 * By way of mbufs, which may wait for room, and are completed where the guest leaves something to be
 * done (to_guest.c). Of those that have to wait no more are made than may.
 */
static __rte_noinline void
give_as_mbufs(struct net_pair *pair, const struct vhub_net_view *views, uint64_t which)
{
	struct rte_mbuf *pkts[VHUB_NET_BURST];
	uint64_t some = which, left;
	unsigned int n = 0;

	for (left = which; left != 0 && n < VHUB_NET_BURST - pair->n_held; n++)
		left &= left - 1;
	some &= ~left;
	if (left != 0)
		vhub_count(&pair->counters.drops[VHUB_NET_DROP_RING_FULL],
				(uint64_t)__builtin_popcountll(left));
	if (some == 0)
		return;
	some = vhub_net_views_to_mbufs(&pair->queue, views, some, pkts);
	net_give_to_guest(pair, pkts, vhub_net_gather(pkts, some));
}

/* Those whose offloads the guest does not take. */
static uint64_t
to_complete(const struct net_pair *pair, const struct vhub_net_view *views, uint64_t which)
{
	const uint64_t looks = looks_of(pair);
	uint64_t found = 0;

	for (; which != 0; which &= which - 1) {
		const unsigned int i = (unsigned int)__builtin_ctzll(which);

		if (is_to_complete(pair, &views[i], looks))
			found |= UINT64_C(1) << i;
	}
	return found;
}

/* Of one that the guest does not take: what would be dropped in the end is not copied before. */
static bool
may_be_cut(const struct vhub_net_view *view)
{
	return view->offload.gso == VHUB_NET_GSO_NONE || net_offload_may_cut(net_sender);
}

/* In order: runs of those that go as they are, and in between those that are completed first. */
static __rte_noinline void
give_rest(struct net_pair *pair, const struct vhub_net_view *views, uint64_t which)
{
	const uint64_t to_be_completed = to_complete(pair, views, which);
	uint64_t run;

	while (which != 0 && pair->n_held == 0) {
		const uint64_t next = which & to_be_completed;

		/* What comes before the first of these; or the first itself, where it is next. */
		run = next == 0 ? which : which & ((next & -next) - 1);
		if (run != 0) {
			which &= ~run;
			run = give_views_whole(pair, views, run);
			if (run != 0)
				run = give_views_in_room(pair, views, run);
			notify(pair);
			if (run == 0)
				continue;
		} else {
			run = next & -next;
			which &= ~run;
			if (!may_be_cut(&views[__builtin_ctzll(run)])) {
				vhub_count(&pair->counters.drops[VHUB_NET_DROP_OFFLOAD], 1);
				continue;
			}
		}
		give_as_mbufs(pair, views, run);
	}
	if (which != 0)
		give_as_mbufs(pair, views, which);
}

void
direct_give_views(struct net_pair *pair, const struct vhub_net_view *views, uint64_t which)
{
	if (unlikely(net_is_served(pair->dev, NET_TO_GUEST))) {
		which = net_serve_views(pair, NET_TO_GUEST, views, which);
		if (which == 0)
			return;
	}
	/* In order, behind those that wait; and a library takes nothing else. */
	if (unlikely(pair->n_held != 0 || pair->to_ring->vq == NULL)) {
		give_as_mbufs(pair, views, which);
		return;
	}
	which = give_views_whole(pair, views, which);
	notify(pair);
	if (unlikely(which != 0))
		give_rest(pair, views, which);
}

void
vhub_net_views_to_guest(struct vhub_net_queue *queue, const struct vhub_net_view *views,
		uint64_t which)
{
	struct net_pair *pair = vhub_container_of(queue, struct net_pair, queue);

	if (unlikely(pair->wire != NULL))
		net_uplink_give_views(pair, views, which);
	else if (unlikely(!net_ring_is_open(pair->to_ring)))
		vhub_count(&pair->counters.drops[VHUB_NET_DROP_NO_RING],
				(uint64_t)__builtin_popcountll(which));
	else if (unlikely(net_is_restricted(pair->dev)))
		net_rules_filter_views(pair, views, which);
	else
		direct_give_views(pair, views, which);
}

/* The pieces behind the first one. Returns how many, or -1: too many. */
static int
segments(const struct rte_mbuf *m, struct iovec *iov, int max)
{
	int n = 0;

	for (m = m->next; m != NULL; m = m->next) {
		if (n == max)
			return -1;
		iov[n].iov_base = rte_pktmbuf_mtod(m, void *);
		iov[n++].iov_len = m->data_len;
	}
	return n;
}

static bool
put_mbuf(struct room *room, struct rte_mbuf *m)
{
	struct vhub_net_offload offload;
	struct iovec iov[VHUB_CHAIN_MAX_IOV];
	struct source src = { .head = rte_pktmbuf_mtod(m, void *),
		.head_bytes = m->data_len,
		.iov = iov,
		.bytes = m->pkt_len,
		.offload = &offload };
	int n = segments(m, iov, VHUB_CHAIN_MAX_IOV);

	if (unlikely(n < 0)) {
		drop_one(room, VHUB_NET_DROP_OVERSIZE);
		return false;
	}
	src.n_iov = (uint32_t)n;
	net_offload_of_mbuf(m, &offload);
	return put(room, &src);
}

/* As give_views_whole(): returns how many, from the front. */
static __rte_always_inline uint16_t
give_mbufs_whole(struct net_pair *pair, struct rte_mbuf *const *pkts, uint16_t n)
{
	struct vhub_net_offload offload;
	struct filled f;
	uint16_t i;

	begin_filling(pair, &f, n);
	for (i = 0; i < n && pkts[i]->nb_segs == 1; i++) {
		const struct source src = { .head = rte_pktmbuf_mtod(pkts[i], void *),
			.head_bytes = pkts[i]->data_len,
			.bytes = pkts[i]->data_len,
			.offload = &offload };

		net_offload_of_mbuf(pkts[i], &offload);
		if (unlikely(!fill_next(pair, &f, &src)))
			break;
	}
	end_filling(pair, &f);
	return i;
}

uint16_t
direct_give_mbufs(struct net_pair *pair, struct rte_mbuf **pkts, uint16_t n)
{
	uint64_t bytes = 0, packets = 0;
	struct room room;
	uint16_t i;

	i = give_mbufs_whole(pair, pkts, n);
	if (likely(i == n)) {
		notify(pair);
		rte_pktmbuf_free_bulk(pkts, n);
		return n;
	}
	open_room(&room, pair, (uint16_t)(n - i));
	for (; i < n; i++) {
		if (likely(put_mbuf(&room, pkts[i]))) {
			bytes += pkts[i]->pkt_len;
			packets++;
		} else if (room.full) {
			break;
		}
	}
	close_room(&room);
	count_given(pair, packets, bytes);
	rte_pktmbuf_free_bulk(pkts, i);
	return i;
}
