/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Receive-side scaling: the hash of a packet as a guest wants it, and by it the pair that the packet
 * comes by (VIRTIO 1.2, 5.1.6.4.3). Called by drivers that join ports, on the sender's lcore, with the
 * receiver's rules (ctrl_commands.c), next: inbox.c; and by direct_to.c for packets whose header tells
 * the hash.
 */
#include <rte_ip.h>
#include <rte_thash.h>

#include "direct.h"
#include "vhub_net_inbox.h"

/* Of TCP and of UDP: both ports. */
#define PORTS_BYTES 4u

/* The types of hashes of a packet, from the one that is preferred on (5.1.6.4.3.1, .2). */
struct kind {
	uint32_t with_ports; /* 0: the packet has none */
	uint32_t without;
	uint16_t report_with_ports;
	uint16_t report_without;
};

static struct kind
kind_of(const struct net_headers *h, bool has_ports)
{
	struct kind kind = {
		.without = h->ipv6 ? VIRTIO_NET_RSS_HASH_TYPE_IPv6 : VIRTIO_NET_RSS_HASH_TYPE_IPv4,
		.report_without = h->ipv6 ? VIRTIO_NET_HASH_REPORT_IPv6 :
					    VIRTIO_NET_HASH_REPORT_IPv4,
	};

	if (has_ports && h->protocol == IPPROTO_TCP) {
		kind.with_ports = h->ipv6 ? VIRTIO_NET_RSS_HASH_TYPE_TCPv6 :
					    VIRTIO_NET_RSS_HASH_TYPE_TCPv4;
		kind.report_with_ports = h->ipv6 ? VIRTIO_NET_HASH_REPORT_TCPv6 :
						   VIRTIO_NET_HASH_REPORT_TCPv4;
	} else if (has_ports && h->protocol == IPPROTO_UDP) {
		kind.with_ports = h->ipv6 ? VIRTIO_NET_RSS_HASH_TYPE_UDPv6 :
					    VIRTIO_NET_RSS_HASH_TYPE_UDPv4;
		kind.report_with_ports = h->ipv6 ? VIRTIO_NET_HASH_REPORT_UDPv6 :
						   VIRTIO_NET_HASH_REPORT_UDPv4;
	}
	return kind;
}

/* What is hashed: `n` words of both addresses, and one of the ports. */
struct tuple {
	uint32_t words[2 * sizeof(((struct rte_ipv6_hdr *)NULL)->src_addr) / sizeof(uint32_t) + 1];
	uint32_t n;
};

static void
add_words(struct tuple *tuple, const uint8_t *bytes, uint32_t n_words)
{
	uint32_t i, word;

	for (i = 0; i < n_words; i++) {
		memcpy(&word, bytes + i * sizeof(word), sizeof(word));
		tuple->words[tuple->n++] = rte_be_to_cpu_32(word);
	}
}

uint32_t
net_rss_hash(const struct net_rss *rss, const uint8_t *frame, uint32_t bytes, uint16_t *report)
{
	struct tuple tuple = { .n = 0 };
	struct net_headers h;
	struct kind kind;
	uint32_t l4;

	*report = VIRTIO_NET_HASH_REPORT_NONE;
	bytes = RTE_MIN(bytes, NET_HEAD_BYTES);
	if (!net_headers_parse(frame, bytes, &h))
		return 0;
	l4 = (uint32_t)h.l2_bytes + h.l3_bytes;
	kind = kind_of(&h, l4 + PORTS_BYTES <= bytes);
	if ((rss->types & (kind.with_ports | kind.without)) == 0)
		return 0;
	if (h.ipv6)
		add_words(&tuple, frame + h.l2_bytes + offsetof(struct rte_ipv6_hdr, src_addr), 8);
	else
		add_words(&tuple, frame + h.l2_bytes + offsetof(struct rte_ipv4_hdr, src_addr), 2);
	*report = kind.report_without;
	if ((rss->types & kind.with_ports) != 0) {
		add_words(&tuple, frame + l4, 1);
		*report = kind.report_with_ports;
	}
	return rte_softrss_be(tuple.words, tuple.n, (const uint8_t *)rss->key);
}

void
net_rss_report(const struct net_pair *pair, const uint8_t *frame, uint32_t bytes,
		struct net_header *hdr)
{
	const struct net_rules *rules = net_rules_of(&pair->dev->ctrl);
	uint16_t report = VIRTIO_NET_HASH_REPORT_NONE;
	uint32_t hash = 0;

	if (rules != NULL)
		hash = net_rss_hash(&rules->rss, frame, bytes, &report);
	hdr->hash = rte_cpu_to_le_32(hash);
	hdr->report = rte_cpu_to_le_16(report);
	hdr->zero = 0;
}

int
vhub_net_inbox_wanted(const struct vhub_net_inbox *inbox, const uint8_t *head, uint32_t head_bytes)
{
	const struct vhub_net_queue *queue = vhub_net_inbox_queue(inbox);
	const struct net_rules *rules;
	const struct net_pair *pair;
	uint16_t report;
	uint32_t hash;

	if (queue == NULL)
		return -1;
	pair = vhub_container_of(queue, const struct net_pair, queue);
	rules = net_rules_of(&pair->dev->ctrl);
	if (rules == NULL || !rules->rss.on)
		return net_flows_wanted(pair->dev, head, head_bytes);
	hash = net_rss_hash(&rules->rss, head, head_bytes, &report);
	if (report == VIRTIO_NET_HASH_REPORT_NONE)
		return rules->rss.unclassified;
	return rules->rss.table[hash & rules->rss.mask & (NET_RSS_TABLE - 1)];
}
