/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Views of packets to mbufs, for those who keep packets or know nothing else: drivers without
 * from_guest_views, and offload.c, which completes what a receiver does not take. Called by
 * direct_from.c, direct_to.c and drivers.
 */
#include "direct.h"

/* ---- a sum that no flag of an mbuf stands for ---- */

static void
store_byte(struct rte_mbuf *m, uint32_t at, uint8_t byte)
{
	while (at >= m->data_len) {
		at -= m->data_len;
		m = m->next;
	}
	*rte_pktmbuf_mtod_offset(m, uint8_t *, at) = byte;
}

/* The field holds the pseudo header's sum. */
static void
complete_sum(struct rte_mbuf *m, const struct vhub_net_offload *offload)
{
	uint32_t at = (uint32_t)offload->csum_start + offload->csum_offset;
	uint16_t sum = net_checksum(m, offload->csum_start);
	uint8_t bytes[sizeof(sum)];

	memcpy(bytes, &sum, sizeof(bytes));
	store_byte(m, at, bytes[0]);
	store_byte(m, at + 1, bytes[1]);
}

/* ---- copies ---- */

/* Appends to the last mbuf of `m`, and to more of them. Returns false without memory. */
static bool
append(struct rte_mbuf *m, struct rte_mbuf **last, const void *src, size_t n)
{
	const uint8_t *from = src;

	while (n != 0) {
		size_t here = RTE_MIN(n, (size_t)rte_pktmbuf_tailroom(*last));

		if (here == 0) {
			struct rte_mbuf *more;

			if (net_pool_get(m->pool, &more, 1) != 0)
				return false;
			(*last)->next = more;
			*last = more;
			m->nb_segs++;
			continue;
		}
		net_copy(rte_pktmbuf_mtod_offset(*last, void *, (*last)->data_len), from, here);
		(*last)->data_len = (uint16_t)((*last)->data_len + here);
		from += here;
		n -= here;
	}
	return true;
}

static bool
fill(struct rte_mbuf *m, const struct vhub_net_view *view)
{
	struct rte_mbuf *last = m;
	uint16_t i;

	m->pkt_len = view->bytes;
	if (!append(m, &last, view->head, view->head_bytes))
		return false;
	for (i = 0; i < view->n_iov; i++) {
		if (!append(m, &last, view->iov[i].iov_base, view->iov[i].iov_len))
			return false;
	}
	if (unlikely(view->offload.gso != VHUB_NET_GSO_NONE))
		m->hash.usr = net_sender;
	if (unlikely(view->offload.csum) &&
			!net_offload_to_mbuf(&view->offload, view->head, view->head_bytes, m))
		complete_sum(m, &view->offload);
	return true;
}

struct rte_mbuf *
net_copy_view(const struct vhub_net_view *view, struct rte_mempool *pool)
{
	struct rte_mbuf *m;

	if (net_pool_get(pool, &m, 1) != 0)
		return NULL;
	if (fill(m, view))
		return m;
	rte_pktmbuf_free(m);
	return NULL;
}

uint64_t
vhub_net_views_to_mbufs(struct vhub_net_queue *queue, const struct vhub_net_view *views,
		uint64_t which, struct rte_mbuf **pkts)
{
	struct net_pair *pair = vhub_container_of(queue, struct net_pair, queue);
	const unsigned int n = (unsigned int)__builtin_popcountll(which);
	struct rte_mbuf *fresh[VHUB_NET_BURST];
	unsigned int next = 0;
	uint64_t rest;

	if (unlikely(net_pool_get(pair->dev->pool, fresh, n) != 0)) {
		vhub_count(&pair->counters.drops[VHUB_NET_DROP_NO_MBUF], n);
		return 0;
	}
	for (rest = which; rest != 0; rest &= rest - 1) {
		const unsigned int i = (unsigned int)__builtin_ctzll(rest);

		pkts[i] = fresh[next++];
		if (likely(fill(pkts[i], &views[i])))
			continue;
		net_drop(pair, VHUB_NET_DROP_NO_MBUF, &pkts[i], 1);
		which &= ~(UINT64_C(1) << i);
	}
	return which;
}
