/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Receive steering by flow (VIRTIO 1.2, 5.1.6.5.5): what comes for a guest with several pairs comes by the
 * one by which the guest has last sent of that flow. Called on the guest's own lcores with what it sends
 * (direct_from.c, from_guest.c), and on any lcore with what comes for it (rss.c, which looks first whether the
 * guest has asked for RSS). A flow that is not known goes where the driver likes.
 *
 * A flow is addresses, protocol and ports of both ends, whichever is which; without IP the two stations. The table is
 * of one size, and its words are read and written by themselves: an lcore sees a flow's pair of before or of
 * now. A flow has one of the places in a cache line. One that is heard of no more gives up its place. Where there is
 * none, one that was heard of but once does: a stranger who makes the guest answer to addresses that nobody has fills
 * no table. And one that was silent for a second or two does too. Where all are of flows that go on, others stay
 * unknown, for a flow that came and went would lose its order.
 */
#include <errno.h>

#include <rte_cycles.h>
#include <rte_hash_crc.h>
#include <rte_ip.h>

#include "direct.h"
#include "flows.h"
#include "vhub_alloc.h"

/* Both ends of TCP and UDP have a port first in their header. */
#define PORT_BYTES 2u

/* ---- what a flow is ---- */

static uint32_t
hash_end(const uint8_t *address, uint32_t bytes, const uint8_t *port)
{
	uint64_t words[sizeof(((struct rte_ipv6_hdr *)NULL)->src_addr) / sizeof(uint64_t)];
	uint16_t number = 0;
	uint32_t hash;

	/* As they come they may lie anywhere. */
	memcpy(words, address, bytes);
	hash = rte_hash_crc(words, bytes, 0);
	if (port == NULL)
		return hash;
	memcpy(&number, port, sizeof(number));
	return rte_hash_crc_4byte(number, hash);
}

/* Neither end comes first; the sum of two is spread by one more step. */
static uint32_t
hash_ends(uint32_t one, uint32_t other, uint32_t protocol)
{
	return rte_hash_crc_4byte(protocol, one + other);
}

uint32_t
net_flow_hash(const uint8_t *head, uint32_t bytes)
{
	const uint8_t *from, *ports = NULL;
	struct net_headers h;
	uint32_t len;

	bytes = RTE_MIN(bytes, NET_HEAD_BYTES);
	if (!net_headers_parse(head, bytes, &h))
		return hash_ends(hash_end(head, RTE_ETHER_ADDR_LEN, NULL),
				hash_end(head + RTE_ETHER_ADDR_LEN, RTE_ETHER_ADDR_LEN, NULL), 0);
	if ((h.protocol == IPPROTO_TCP || h.protocol == IPPROTO_UDP) &&
			(uint32_t)h.l2_bytes + h.l3_bytes + 2 * PORT_BYTES <= bytes)
		ports = head + h.l2_bytes + h.l3_bytes;
	len = h.ipv6 ? sizeof(((struct rte_ipv6_hdr *)NULL)->src_addr) : sizeof(rte_be32_t);
	from = head + h.l2_bytes +
			(h.ipv6 ? offsetof(struct rte_ipv6_hdr, src_addr) :
				  offsetof(struct rte_ipv4_hdr, src_addr));
	return hash_ends(hash_end(from, len, ports),
			hash_end(from + len, len, ports == NULL ? NULL : ports + PORT_BYTES),
			h.protocol);
}

/* ---- the table ---- */

/* Of a word: the flow's hash, whether it was heard of again, when last, a bit that is always there, its pair. */
#define WORD_AGAIN 0x80000000u
#define WORD_KNOWN 0x80u
#define WORD_PAIR 0x7fu
#define WORD_TICKS 0x7fffffu
_Static_assert(VHUB_NET_MAX_PAIRS <= WORD_PAIR + 1, "a pair's number fits");

static inline uint64_t
make_word(uint32_t hash, uint16_t pair, uint32_t now)
{
	return (uint64_t)hash << 32 | (uint64_t)(now & WORD_TICKS) << 8 | WORD_KNOWN | pair;
}

/* In ticks, and one more: the guest's lcore may be a tick ahead, for each has the time of its turn. */
static inline uint32_t
age_of(uint64_t word, uint32_t now)
{
	return (now + 1 - (uint32_t)(word >> 8)) & WORD_TICKS;
}

static inline bool
is_fresh(uint64_t word, uint32_t now)
{
	return (word & WORD_KNOWN) != 0 && age_of(word, now) <= NET_FLOW_AGE_TICKS + 1;
}

static inline uint64_t *
places_of(struct net_flows *flows, uint32_t hash)
{
	return flows->words[hash % NET_FLOW_LINES];
}

/* How soon a flow is to give up its place; 0: not at all. Before all others those that are none any more. */
static uint32_t
rank_of(uint64_t word, uint32_t now)
{
	const uint32_t age = age_of(word, now);

	if (!is_fresh(word, now))
		return UINT32_MAX;
	if ((word & WORD_AGAIN) == 0)
		return WORD_TICKS + 1 + age;
	return age > NET_FLOW_SILENT_TICKS ? age : 0;
}

/* A place for a flow that has none; NULL: all others go on. */
static uint64_t *
find_place(uint64_t *places, uint32_t now)
{
	uint32_t rank, best = 0;
	uint64_t *place = NULL;

	for (unsigned int i = 0; i < NET_FLOW_WAYS; i++) {
		rank = rank_of(__atomic_load_n(&places[i], __ATOMIC_RELAXED), now);
		if (rank > best) {
			best = rank;
			place = &places[i];
		}
	}
	return place;
}

void
net_flows_note(struct net_flows *flows, uint32_t hash, uint16_t pair, uint32_t now)
{
	uint64_t *places = places_of(flows, hash), *place = NULL, word;
	uint64_t new_word = make_word(hash, pair, now);

	for (unsigned int i = 0; i < NET_FLOW_WAYS && place == NULL; i++) {
		word = __atomic_load_n(&places[i], __ATOMIC_RELAXED);
		if (word >> 32 == hash && is_fresh(word, now))
			place = &places[i];
	}
	if (place != NULL)
		new_word |= WORD_AGAIN;
	else
		place = find_place(places, now);
	/* The line is others' to read, as long as it says the same. */
	if (place != NULL && __atomic_load_n(place, __ATOMIC_RELAXED) != new_word)
		__atomic_store_n(place, new_word, __ATOMIC_RELAXED);
}

int
net_flows_find(struct net_flows *flows, uint32_t hash, uint32_t now)
{
	const uint64_t *places = places_of(flows, hash);
	uint64_t word;

	for (unsigned int i = 0; i < NET_FLOW_WAYS; i++) {
		word = __atomic_load_n(&places[i], __ATOMIC_RELAXED);
		if (word >> 32 == hash && is_fresh(word, now))
			return (int)(word & WORD_PAIR);
	}
	return -1;
}

/* ---- ports ---- */

int
net_flows_create(struct net_dev *dev, int node)
{
	const uint64_t per_tick = rte_get_tsc_hz() / NET_FLOW_TICKS_PER_S;
	struct net_flows *flows = vhub_zalloc_node(sizeof(*flows), node);

	if (flows == NULL)
		return -ENOMEM;
	while (per_tick >> flows->tick_shift > 1)
		flows->tick_shift++;
	dev->flows = flows;
	return 0;
}

void
net_flows_destroy(struct net_dev *dev)
{
	if (dev->flows != NULL)
		vhub_free(dev->flows, sizeof(*dev->flows));
}

void
net_flows_forget(struct net_dev *dev)
{
	uint64_t *words = dev->flows != NULL ? dev->flows->words[0] : NULL;
	unsigned int i;

	for (i = 0; words != NULL && i < NET_FLOW_LINES * NET_FLOW_WAYS; i++)
		__atomic_store_n(&words[i], 0, __ATOMIC_RELAXED);
}

static inline uint32_t
ticks(const struct net_flows *flows)
{
	return (uint32_t)(vhub_lcore_turn() >> flows->tick_shift);
}

/* By one pair there is nothing to choose. */
bool
net_flows_matter(const struct net_dev *dev)
{
	return __atomic_load_n(&dev->n_open, __ATOMIC_RELAXED) > 1;
}

void
net_flows_note_views(struct net_pair *pair, const struct vhub_net_view *views, uint16_t n)
{
	struct net_flows *flows = pair->dev->flows;
	const uint32_t now = ticks(flows);
	uint32_t hash, last = 0;
	uint16_t i;

	for (i = 0; i < n; i++, last = hash) {
		hash = net_flow_hash(views[i].head, views[i].head_bytes);
		/* Many in a row are of one flow. */
		if (i == 0 || hash != last)
			net_flows_note(flows, hash, pair->queue.index, now);
	}
}

void
net_flows_note_mbufs(struct net_pair *pair, struct rte_mbuf *const *pkts, uint16_t n)
{
	struct net_flows *flows = pair->dev->flows;
	const uint32_t now = ticks(flows);
	uint32_t hash, last = 0;
	uint16_t i;

	for (i = 0; i < n; i++, last = hash) {
		hash = net_flow_hash(rte_pktmbuf_mtod(pkts[i], const uint8_t *),
				rte_pktmbuf_data_len(pkts[i]));
		if (i == 0 || hash != last)
			net_flows_note(flows, hash, pair->queue.index, now);
	}
}

int
net_flows_wanted(const struct net_dev *dev, const uint8_t *head, uint32_t head_bytes)
{
	int pair;

	if (dev->flows == NULL || !net_flows_matter(dev))
		return -1;
	pair = net_flows_find(dev->flows, net_flow_hash(head, head_bytes), ticks(dev->flows));
	if (pair < 0 || pair >= dev->params.n_pairs ||
			!__atomic_load_n(&dev->pairs[pair].queue.open, __ATOMIC_RELAXED))
		return -1;
	return pair;
}
