/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The network driver "patch": two ports wired to each other, each end named by patch=NAME. What one
 * guest sends the other gets, pair by pair. Called by lib/net; next: net/inbox.c.
 *
 * Ends find each other under a lock, on CTL or WORK. On lcores an end reads where the other one is
 * from one pointer; an end that goes waits until no lcore can have it any more.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bsd/string.h>

#include <rte_common.h>

#include "vhub_lcore.h"
#include "vhub_net_inbox.h"
#include "vhub_work.h"

struct patch_port {
	struct vhub_net_port port; /* first */
	char wire[32];
	/* Immutable from open on. */
	bool joined;
	uint16_t n_pairs;
	uint32_t max_frame_bytes; /* by its MTU; UINT32_MAX: it has none */
	struct vhub_net_inbox *inboxes[VHUB_NET_MAX_PAIRS];
	struct vhub_work free_work;
	/* With the lock. */
	struct patch_port *next;
	/* Shared atomics. */
	struct patch_port *peer; /* NULL: there is no other end */
	uint64_t no_peer;	 /* packets dropped for it */
	uint64_t over_mtu;	 /* dropped since they are longer than the other end's */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct patch_port *ends; /* all that are joined */

static struct patch_port *
patch_port_of(const struct vhub_net_port *port)
{
	return vhub_container_of(port, struct patch_port, port);
}

/* ---- joining ---- */

static void
set_peer(struct patch_port *p, struct patch_port *peer)
{
	/* Pairs with the acquire in patch_from_guest(): the peer's inboxes are there. */
	__atomic_store_n(&p->peer, peer, __ATOMIC_RELEASE);
}

/* With the lock. Returns 0 or -EBUSY: both ends of the wire are taken. */
static int
join(struct patch_port *p)
{
	struct patch_port *other, *found = NULL;

	for (other = ends; other != NULL; other = other->next) {
		if (strcmp(other->wire, p->wire) != 0)
			continue;
		if (found != NULL || other->peer != NULL)
			return -EBUSY;
		found = other;
	}
	p->next = ends;
	ends = p;
	p->joined = true;
	if (found != NULL) {
		set_peer(p, found);
		set_peer(found, p);
	}
	return 0;
}

static void
leave(struct patch_port *p)
{
	struct patch_port **link;

	for (link = &ends; *link != p; link = &(*link)->next)
		;
	*link = p->next;
	if (p->peer != NULL)
		set_peer(p->peer, NULL);
	set_peer(p, NULL);
	p->joined = false;
}

static int
patch_open(struct vhub_net_port *port, uint16_t n_pairs, const struct rte_ether_addr *mac,
		uint16_t mtu, char *error, size_t error_len)
{
	struct patch_port *p = patch_port_of(port);
	int ret = 0;

	(void)mac;
	p->max_frame_bytes = mtu == 0 ? UINT32_MAX : mtu + VHUB_NET_FRAME_OVERHEAD;
	for (p->n_pairs = 0; p->n_pairs < n_pairs && ret == 0; p->n_pairs++)
		ret = vhub_net_inbox_create(-1, &p->inboxes[p->n_pairs]);
	if (ret != 0) {
		snprintf(error, error_len, "out of memory");
		return ret;
	}
	pthread_mutex_lock(&lock);
	ret = join(p);
	pthread_mutex_unlock(&lock);
	if (ret != 0)
		snprintf(error, error_len,
				"patch=%s: has its two ends already; allowed: the name of a wire with one end or none",
				p->wire);
	return ret;
}

static void
free_port(struct vhub_work *work)
{
	struct patch_port *p = vhub_container_of(work, struct patch_port, free_work);

	for (uint16_t i = 0; i < p->n_pairs; i++)
		vhub_net_inbox_destroy(p->inboxes[i]);
	free(p);
}

static void
patch_destroy(struct vhub_net_port *port)
{
	struct patch_port *p = patch_port_of(port);

	p->free_work.run = free_port;
	if (!p->joined) {
		free_port(&p->free_work);
		return;
	}
	pthread_mutex_lock(&lock);
	leave(p);
	pthread_mutex_unlock(&lock);
	vhub_quiesce_then(&p->free_work, port->name);
}

/* The other guest takes what this one leaves to be done, or lib/net does it for it. */
static void
patch_info(const struct vhub_net_port *port, struct vhub_net_info *info)
{
	const struct patch_port *p = patch_port_of(port);
	const struct patch_port *peer;

	*info = (struct vhub_net_info){
		.max_pairs = VHUB_NET_MAX_PAIRS,
		.link_speed_mbps = UINT32_MAX,
		.full_duplex = true,
		.takes = VHUB_NET_TAKES_DONE_HERE,
	};
	pthread_mutex_lock(&lock);
	peer = p->peer;
	info->link_up = peer != NULL;
	snprintf(info->target, sizeof(info->target), "patch %s to %s", p->wire,
			peer != NULL ? peer->port.name : "nobody");
	pthread_mutex_unlock(&lock);
}

/* ---- packets ---- */

static int
patch_queue_get(struct vhub_net_queue *queue)
{
	struct patch_port *p = patch_port_of(queue->port);

	queue->priv = p->inboxes[queue->index];
	vhub_net_inbox_open(queue->priv, queue);
	return 0;
}

static void
patch_queue_put(struct vhub_net_queue *queue)
{
	vhub_net_inbox_close(queue->priv);
	queue->priv = NULL;
}

/* The peer's pair of the same number, or the next one that is open; so a flow keeps its order. */
static struct vhub_net_inbox *
inbox_for(const struct patch_port *peer, uint16_t index)
{
	uint16_t i, at;

	for (at = index; at >= peer->n_pairs;)
		at -= peer->n_pairs;
	for (i = 0; i < peer->n_pairs; i++) {
		if (likely(vhub_net_inbox_is_open(peer->inboxes[at])))
			return peer->inboxes[at];
		if (++at == peer->n_pairs)
			at = 0;
	}
	return peer->inboxes[0]; /* which counts what it drops */
}

/* That of the pair on which the guest at the other end wants the packet, else of the one of our number. */
static struct vhub_net_inbox *
inbox_of_packet(const struct patch_port *peer, uint16_t index, const uint8_t *head,
		uint32_t head_bytes)
{
	const int wanted = vhub_net_inbox_wanted(peer->inboxes[0], head, head_bytes);

	if (wanted < 0)
		return inbox_for(peer, index);
	return peer->inboxes[wanted < peer->n_pairs ? wanted : 0];
}

static void
send_each(const struct patch_port *peer, uint16_t index, struct rte_mbuf **pkts, uint16_t n)
{
	struct vhub_net_inbox *inboxes[VHUB_NET_BURST];
	uint16_t i;

	for (i = 0; i < n; i++)
		inboxes[i] = inbox_of_packet(peer, index,
				rte_pktmbuf_mtod(pkts[i], const uint8_t *),
				rte_pktmbuf_data_len(pkts[i]));
	vhub_net_inbox_send_each(inboxes, pkts, vhub_net_all_views(n));
}

static void
send_views_each(const struct patch_port *peer, struct vhub_net_queue *queue,
		const struct vhub_net_view *views, uint64_t which)
{
	struct vhub_net_inbox *inboxes[VHUB_NET_BURST];
	uint64_t rest;

	for (rest = which; rest != 0; rest &= rest - 1) {
		const unsigned int i = (unsigned int)__builtin_ctzll(rest);

		inboxes[i] = inbox_of_packet(peer, queue->index, views[i].head,
				views[i].head_bytes);
	}
	vhub_net_inbox_send_views_each(inboxes, queue, views, which);
}

/* Without what is too long for the other end. Returns how many are left, in order. */
static __rte_noinline uint16_t
drop_long(struct patch_port *p, const struct patch_port *peer, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t i, kept = 0;

	for (i = 0; i < n; i++) {
		if (vhub_net_mbuf_segment_bytes(pkts[i]) <= peer->max_frame_bytes)
			pkts[kept++] = pkts[i];
		else
			rte_pktmbuf_free(pkts[i]);
	}
	__atomic_fetch_add(&p->over_mtu, n - kept, __ATOMIC_RELAXED);
	return kept;
}

/* The same of views. Returns which are left. */
static __rte_noinline uint64_t
drop_long_views(struct patch_port *p, const struct patch_port *peer,
		const struct vhub_net_view *views, uint16_t n)
{
	uint64_t which = 0;

	for (uint16_t i = 0; i < n; i++)
		which |= (uint64_t)(vhub_net_segment_bytes(&views[i]) <= peer->max_frame_bytes)
				<< i;
	__atomic_fetch_add(&p->over_mtu, n - (unsigned int)__builtin_popcountll(which),
			__ATOMIC_RELAXED);
	return which;
}

static uint16_t
patch_from_guest(struct vhub_net_queue *queue, struct rte_mbuf **pkts, uint16_t n)
{
	struct patch_port *p = patch_port_of(queue->port);
	const struct patch_port *peer = __atomic_load_n(&p->peer, __ATOMIC_ACQUIRE);
	uint16_t n_left = n;

	if (unlikely(peer == NULL)) {
		__atomic_fetch_add(&p->no_peer, n, __ATOMIC_RELAXED);
		rte_pktmbuf_free_bulk(pkts, n);
		return n;
	}
	if (unlikely(peer->max_frame_bytes < p->max_frame_bytes))
		n_left = drop_long(p, peer, pkts, n);
	if (unlikely(n_left == 0))
		return n;
	if (unlikely(peer->n_pairs > 1))
		send_each(peer, queue->index, pkts, n_left);
	else
		vhub_net_inbox_send(inbox_for(peer, queue->index), pkts, n_left);
	return n;
}

static void
patch_from_guest_views(struct vhub_net_queue *queue, struct vhub_net_view *views, uint16_t n)
{
	struct patch_port *p = patch_port_of(queue->port);
	const struct patch_port *peer = __atomic_load_n(&p->peer, __ATOMIC_ACQUIRE);
	uint64_t which = vhub_net_all_views(n);

	if (unlikely(peer == NULL)) {
		__atomic_fetch_add(&p->no_peer, n, __ATOMIC_RELAXED);
		return;
	}
	if (unlikely(peer->max_frame_bytes < p->max_frame_bytes))
		which = drop_long_views(p, peer, views, n);
	if (unlikely(which == 0))
		return;
	if (unlikely(peer->n_pairs > 1))
		send_views_each(peer, queue, views, which);
	else
		vhub_net_inbox_send_views(inbox_for(peer, queue->index), queue, views, which);
}

static uint16_t
patch_to_guest(struct vhub_net_queue *queue, struct rte_mbuf **pkts, uint16_t max)
{
	return vhub_net_inbox_take(queue->priv, pkts, max);
}

static int
patch_arm(struct vhub_net_queue *queue)
{
	return vhub_net_inbox_arm(queue->priv);
}

static void
patch_disarm(struct vhub_net_queue *queue)
{
	vhub_net_inbox_disarm(queue->priv);
}

static bool
patch_park(struct vhub_net_queue *queue, struct vhub_lcore_word *word)
{
	return vhub_net_inbox_park(queue->priv, word);
}

static void
patch_closed(struct vhub_net_queue *queue)
{
	vhub_net_inbox_empty(queue->priv);
}

static void
patch_stats(const struct vhub_net_port *port, vhub_stat_fn emit, void *arg)
{
	const struct patch_port *p = patch_port_of(port);

	emit(arg, "patch_dropped_no_peer", __atomic_load_n(&p->no_peer, __ATOMIC_RELAXED));
	emit(arg, "patch_dropped_mtu", __atomic_load_n(&p->over_mtu, __ATOMIC_RELAXED));
	vhub_net_inbox_emit_stats(p->inboxes, p->n_pairs, emit, arg);
}

/* ---- arguments ---- */

static int
patch_parse(const struct rte_kvargs *args, struct vhub_net_port **out, char *error,
		size_t error_len);

static const char *const patch_keys[] = { "patch", NULL };

static const struct vhub_net_driver_ops patch_ops = {
	.name = "patch",
	.help = "patch=NAME        of a wire, whose other end is another port with the same NAME; required",
	.keys = patch_keys,
	.steers = true,
	.parse = patch_parse,
	.open = patch_open,
	.destroy = patch_destroy,
	.info = patch_info,
	.queue_get = patch_queue_get,
	.queue_put = patch_queue_put,
	.from_guest = patch_from_guest,
	.from_guest_views = patch_from_guest_views,
	.to_guest = patch_to_guest,
	.arm = patch_arm,
	.disarm = patch_disarm,
	.park = patch_park,
	.closed = patch_closed,
	.stats = patch_stats,
};

static int
patch_parse(const struct rte_kvargs *args, struct vhub_net_port **out, char *error,
		size_t error_len)
{
	const char *wire = NULL;
	struct patch_port *p;
	int ret;

	ret = vhub_arg_text(args, "patch", &wire, error, error_len);
	if (ret != 0)
		return ret;
	if (wire == NULL || wire[0] == '\0' || strlen(wire) >= sizeof(p->wire)) {
		snprintf(error, error_len,
				"patch=%s%s; allowed: the name of a wire, 1 to %zu characters",
				wire == NULL ? "" : wire, wire == NULL ? " is missing" : "",
				sizeof(p->wire) - 1);
		return -EINVAL;
	}
	p = calloc(1, sizeof(*p));
	if (p == NULL)
		return -ENOMEM;
	p->port.ops = &patch_ops;
	strlcpy(p->wire, wire, sizeof(p->wire));
	*out = &p->port;
	return 0;
}

VHUB_NET_DRIVER_REGISTER(patch_ops)
