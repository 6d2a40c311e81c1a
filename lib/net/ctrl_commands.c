/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the commands of a control queue mean (VIRTIO 1.2, 5.1.6.5). Called by ctrl.c. Each byte is read
 * once, from wherever it lies; a command is of the length that it says, or nothing has happened. Next:
 * rules.c, which packets meet.
 */
#include <string.h>
#include <sys/uio.h>

#include <linux/virtio_net.h>

#include <rte_byteorder.h>

#include "net_pvt.h"

#define BIT(name) (UINT64_C(1) << VIRTIO_NET_F_##name)

/* ---- bytes ---- */

struct reader {
	const struct iovec *iov;
	uint32_t n;
	size_t at; /* in the first piece */
};

/* The next `n` bytes; dst may be NULL. Returns false when there are not so many. */
static bool
take(struct reader *r, void *dst, size_t n)
{
	uint8_t *to = dst;

	while (n != 0) {
		size_t here;

		if (r->n == 0)
			return false;
		here = RTE_MIN(n, r->iov->iov_len - r->at);
		if (to != NULL) {
			memcpy(to, (const uint8_t *)r->iov->iov_base + r->at, here);
			to += here;
		}
		n -= here;
		r->at += here;
		if (r->at == r->iov->iov_len) {
			r->iov++;
			r->n--;
			r->at = 0;
		}
	}
	/* What was copied is what is looked at: not loaded again. */
	rte_compiler_barrier();
	return true;
}

static bool
take_le16(struct reader *r, uint16_t *value)
{
	if (!take(r, value, sizeof(*value)))
		return false;
	*value = rte_le_to_cpu_16(*value);
	return true;
}

/* ---- RX mode ---- */

static bool
set_mode(const struct net_dev *dev, uint8_t command, struct reader *r, struct net_rules *next)
{
	bool *const modes[] = {
		[VIRTIO_NET_CTRL_RX_PROMISC] = &next->promisc,
		[VIRTIO_NET_CTRL_RX_ALLMULTI] = &next->all_multi,
		[VIRTIO_NET_CTRL_RX_ALLUNI] = &next->all_uni,
		[VIRTIO_NET_CTRL_RX_NOMULTI] = &next->no_multi,
		[VIRTIO_NET_CTRL_RX_NOUNI] = &next->no_uni,
		[VIRTIO_NET_CTRL_RX_NOBCAST] = &next->no_broadcast,
	};
	const uint64_t needs = command <= VIRTIO_NET_CTRL_RX_ALLMULTI ? BIT(CTRL_RX) :
									BIT(CTRL_RX_EXTRA);
	uint8_t on;

	if (command >= RTE_DIM(modes) || (dev->ctrl.features & needs) == 0 ||
			!take(r, &on, sizeof(on)))
		return false;
	*modes[command] = on != 0;
	return true;
}

/* ---- MAC ---- */

/* One half of the table: a count, then addresses. */
static bool
take_macs(struct reader *r, struct net_mac_list *list)
{
	uint32_t n, kept;

	if (!take(r, &n, sizeof(n)))
		return false;
	n = rte_le_to_cpu_32(n);
	kept = RTE_MIN(n, NET_TABLE_MACS);
	list->overflown = n > kept;
	/* Who lets all of them in needs none. */
	list->n = list->overflown ? 0 : (uint16_t)kept;
	return take(r, list->macs, kept * sizeof(list->macs[0])) &&
			take(r, NULL, (size_t)(n - kept) * sizeof(list->macs[0]));
}

static bool
set_table(const struct net_dev *dev, struct reader *r, struct net_rules *next)
{
	return (dev->ctrl.features & BIT(CTRL_RX)) != 0 && take_macs(r, &next->uni) &&
			take_macs(r, &next->multi);
}

/* Of one station, which no other port of a bridge has for good. */
static bool
set_address(struct net_dev *dev, struct reader *r, struct net_rules *next)
{
	uint64_t word = 0;

	if ((dev->ctrl.features & BIT(CTRL_MAC_ADDR)) == 0 ||
			!take(r, &next->mac, sizeof(next->mac)) || r->n != 0 ||
			!rte_is_valid_assigned_ether_addr(&next->mac))
		return false;
	if (dev->driver->set_mac != NULL && dev->driver->set_mac(dev->port, &next->mac) != 0)
		return false;
	next->has_mac = true;
	memcpy(&word, &next->mac, sizeof(next->mac));
	__atomic_store_n(&dev->ctrl.mac, word, __ATOMIC_RELAXED);
	return true;
}

static bool
set_mac(struct net_dev *dev, uint8_t command, struct reader *r, struct net_rules *next)
{
	switch (command) {
	case VIRTIO_NET_CTRL_MAC_TABLE_SET:
		return set_table(dev, r, next);
	case VIRTIO_NET_CTRL_MAC_ADDR_SET:
		return set_address(dev, r, next);
	default:
		return false;
	}
}

/* ---- the others ---- */

static bool
set_vlan(const struct net_dev *dev, uint8_t command, struct reader *r, struct net_rules *next)
{
	uint16_t vlan;
	uint64_t bit;

	if ((dev->ctrl.features & BIT(CTRL_VLAN)) == 0 || !take_le16(r, &vlan) || vlan >= NET_VLANS)
		return false;
	bit = UINT64_C(1) << vlan % 64;
	if (command == VIRTIO_NET_CTRL_VLAN_ADD)
		next->vlans[vlan / 64] |= bit;
	else if (command == VIRTIO_NET_CTRL_VLAN_DEL)
		next->vlans[vlan / 64] &= ~bit;
	else
		return false;
	return true;
}

/* The config space tells no more that it is wanted. */
static bool
acknowledge(struct net_dev *dev, uint8_t command)
{
	if ((dev->ctrl.features & BIT(GUEST_ANNOUNCE)) == 0 ||
			command != VIRTIO_NET_CTRL_ANNOUNCE_ACK)
		return false;
	__atomic_store_n(&dev->ctrl.announce, 0, __ATOMIC_RELAXED);
	return true;
}

static bool
is_number_of_pairs(const struct net_dev *dev, uint16_t n)
{
	return n >= VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN && n <= dev->params.n_pairs;
}

static bool
set_pairs(const struct net_dev *dev, struct reader *r, struct net_rules *next)
{
	next->rss.on = false;
	return (dev->ctrl.features & BIT(MQ)) != 0 && take_le16(r, &next->n_pairs) &&
			is_number_of_pairs(dev, next->n_pairs);
}

/* ---- RSS ---- */

/* A pair that is there; next->n_pairs covers it. */
static bool
take_pair(const struct net_dev *dev, struct reader *r, uint16_t *pair, struct net_rules *next)
{
	if (!take_le16(r, pair) || *pair >= dev->params.n_pairs)
		return false;
	next->n_pairs = RTE_MAX(next->n_pairs, (uint16_t)(*pair + 1));
	return true;
}

static bool
take_key(struct reader *r, struct net_rss *rss)
{
	uint8_t key[NET_RSS_KEY_BYTES] = { 0 };
	uint8_t bytes;
	uint32_t i;

	if (!take(r, &bytes, sizeof(bytes)) || bytes > sizeof(key) || !take(r, key, bytes))
		return false;
	memcpy(rss->key, key, sizeof(key));
	for (i = 0; i < RTE_DIM(rss->key); i++)
		rss->key[i] = rte_be_to_cpu_32(rss->key[i]);
	return true;
}

static bool
take_types(struct reader *r, struct net_rss *rss)
{
	if (!take(r, &rss->types, sizeof(rss->types)))
		return false;
	rss->types = rte_le_to_cpu_32(rss->types);
	return (rss->types & ~NET_RSS_TYPES) == 0;
}

/* What headers tell, and nothing of pairs. */
static bool
set_hash(const struct net_dev *dev, struct reader *r, struct net_rules *next)
{
	uint16_t reserved[4];

	return (dev->ctrl.features & BIT(HASH_REPORT)) != 0 && take_types(r, &next->rss) &&
			take(r, reserved, sizeof(reserved)) && take_key(r, &next->rss);
}

static bool
set_rss(const struct net_dev *dev, struct reader *r, struct net_rules *next)
{
	struct net_rss *rss = &next->rss;
	uint16_t n_senders, i;

	if ((dev->ctrl.features & BIT(RSS)) == 0 || !take_types(r, rss) ||
			!take_le16(r, &rss->mask))
		return false;
	if (rss->mask >= NET_RSS_TABLE || (rss->mask & (rss->mask + 1)) != 0)
		return false;
	next->n_pairs = 1;
	if (!take_pair(dev, r, &rss->unclassified, next))
		return false;
	for (i = 0; i <= rss->mask; i++) {
		if (!take_pair(dev, r, &rss->table[i], next))
			return false;
	}
	rss->on = true;
	return take_le16(r, &n_senders) && is_number_of_pairs(dev, n_senders) && take_key(r, rss);
}

static bool
set_steering(const struct net_dev *dev, uint8_t command, struct reader *r, struct net_rules *next)
{
	switch (command) {
	case VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET:
		return set_pairs(dev, r, next);
	case VIRTIO_NET_CTRL_MQ_RSS_CONFIG:
		return set_rss(dev, r, next);
	case VIRTIO_NET_CTRL_MQ_HASH_CONFIG:
		return set_hash(dev, r, next);
	default:
		return false;
	}
}

static bool
set_offloads(const struct net_dev *dev, uint8_t command, struct reader *r, struct net_rules *next)
{
	const uint64_t all = BIT(GUEST_CSUM) | BIT(GUEST_TSO4) | BIT(GUEST_TSO6) | BIT(GUEST_ECN) |
			BIT(GUEST_UFO) | UINT64_C(1) << NET_F_GUEST_USO4 |
			UINT64_C(1) << NET_F_GUEST_USO6;
	uint64_t offloads;

	if ((dev->ctrl.features & BIT(CTRL_GUEST_OFFLOADS)) == 0 ||
			command != VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET ||
			!take(r, &offloads, sizeof(offloads)))
		return false;
	offloads = rte_le_to_cpu_64(offloads);
	if ((offloads & ~(all & dev->ctrl.features)) != 0)
		return false;
	next->takes = net_guest_takes(offloads);
	return true;
}

/* ---- coalescing ---- */

static bool
has_coalescing(const struct net_dev *dev, unsigned int bit)
{
	return (dev->ctrl.features & UINT64_C(1) << bit) != 0;
}

/* All rings of one direction. */
static bool
set_coalescing_of_all(struct net_dev *dev, uint16_t first_ring, struct reader *r)
{
	uint32_t asked[2], i;

	if (!has_coalescing(dev, NET_F_NOTF_COAL) || !take(r, asked, sizeof(asked)) || r->n != 0)
		return false;
	for (i = first_ring; i < dev->params.n_pairs * 2u; i += 2)
		net_coalesce_set(dev, (uint16_t)i, rte_le_to_cpu_32(asked[0]),
				rte_le_to_cpu_32(asked[1]));
	return true;
}

/*
 * Whether it is a ring of packets that the driver has enabled; others are refused (5.1.6.5.10.2). Without
 * VIRTIO_NET_F_MQ ring 2 is the control queue.
 */
static bool
is_enabled(const struct net_dev *dev, uint16_t ring)
{
	const struct net_pair *pair = &dev->pairs[ring / 2];

	if (ring >= RTE_MIN(dev->params.n_pairs * 2u, dev->ctrl.ring_index))
		return false;
	/* Not what the pair's lcore has: it may be about to start the ring, or to hand it to another one. */
	return __atomic_load_n(&pair->recorded[ring & 1], __ATOMIC_RELAXED);
}

static bool
take_ring(const struct net_dev *dev, struct reader *r, uint16_t *ring)
{
	return has_coalescing(dev, NET_F_VQ_NOTF_COAL) && take_le16(r, ring) &&
			is_enabled(dev, *ring);
}

static bool
set_coalescing_of_one(struct net_dev *dev, struct reader *r)
{
	uint32_t asked[2];
	uint16_t ring;

	if (!take_ring(dev, r, &ring) || !take(r, NULL, sizeof(uint16_t)) ||
			!take(r, asked, sizeof(asked)) || r->n != 0)
		return false;
	net_coalesce_set(dev, ring, rte_le_to_cpu_32(asked[0]), rte_le_to_cpu_32(asked[1]));
	return true;
}

/* The driver may leave out what is reserved. */
static bool
get_coalescing_of_one(struct net_dev *dev, struct reader *r)
{
	uint32_t told[2];
	uint16_t ring;

	if (!take_ring(dev, r, &ring) || (r->n != 0 && !take(r, NULL, sizeof(uint16_t))))
		return false;
	net_coalesce_get(dev, ring, &told[0], &told[1]);
	told[0] = rte_cpu_to_le_32(told[0]);
	told[1] = rte_cpu_to_le_32(told[1]);
	memcpy(dev->ctrl.result, told, sizeof(told));
	dev->ctrl.n_result = sizeof(told);
	return true;
}

static bool
coalesce(struct net_dev *dev, uint8_t command, struct reader *r)
{
	switch (command) {
	case NET_CTRL_NOTF_COAL_TX_SET:
		return set_coalescing_of_all(dev, 1, r);
	case NET_CTRL_NOTF_COAL_RX_SET:
		return set_coalescing_of_all(dev, 0, r);
	case NET_CTRL_NOTF_COAL_VQ_SET:
		return set_coalescing_of_one(dev, r);
	case NET_CTRL_NOTF_COAL_VQ_GET:
		return get_coalescing_of_one(dev, r);
	default:
		return false;
	}
}

/* ---- a command ---- */

uint8_t
net_ctrl_command(struct net_dev *dev, const struct iovec *iov, uint32_t n_iov,
		struct net_rules *next)
{
	struct reader r = { iov, n_iov, 0 };
	struct virtio_net_ctrl_hdr hdr;
	bool done = false;

	if (!take(&r, &hdr, sizeof(hdr)))
		return VIRTIO_NET_ERR;
	switch (hdr.class) {
	case VIRTIO_NET_CTRL_RX:
		done = set_mode(dev, hdr.cmd, &r, next);
		break;
	case VIRTIO_NET_CTRL_MAC:
		done = set_mac(dev, hdr.cmd, &r, next);
		break;
	case VIRTIO_NET_CTRL_VLAN:
		done = set_vlan(dev, hdr.cmd, &r, next);
		break;
	case VIRTIO_NET_CTRL_ANNOUNCE:
		done = r.n == 0 && acknowledge(dev, hdr.cmd);
		break;
	case VIRTIO_NET_CTRL_MQ:
		done = set_steering(dev, hdr.cmd, &r, next);
		break;
	case VIRTIO_NET_CTRL_GUEST_OFFLOADS:
		done = set_offloads(dev, hdr.cmd, &r, next);
		break;
	case NET_CTRL_NOTF_COAL:
		done = coalesce(dev, hdr.cmd, &r);
		break;
	}
	return done && r.n == 0 ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
}
