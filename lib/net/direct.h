/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The direct data path: the rings are ours (lib/virtq), packets are views until somebody wants mbufs.
 *
 *     direct_gather.c -> direct_from.c -> header.c -> the driver's from_guest_views, or view.c -> its from_guest
 *     vhub_net_views_to_guest(), and mbufs by way of to_guest.c -> direct_to.c
 *
 * What net.c and to_guest.c call is here, and what the files share.
 */
#ifndef NET_DIRECT_H
#define NET_DIRECT_H

#include <assert.h>
#include <string.h>

#include <rte_ip.h>

#include "net_pvt.h"

/* A virtio_net_hdr, without and with num_buffers (VIRTIO 1.2, 5.1.6). */
#define NET_LEGACY_HEADER_BYTES sizeof(struct virtio_net_hdr)
#define NET_HEADER_BYTES sizeof(struct virtio_net_hdr_mrg_rxbuf)

/* The same with what HASH_REPORT adds. */
struct net_header {
	struct virtio_net_hdr_mrg_rxbuf mrg;
	uint32_t hash; /* little endian, as the next one */
	uint16_t report;
	uint16_t zero;
};
#define NET_HASH_HEADER_BYTES sizeof(struct net_header)

/*
 * Bytes of a frame that are copied of every packet; all of the head for those to be cut. Whoever chooses a pair looks
 * at no more, also where there is more: else one flow would come by two.
 */
#define NET_HEAD_BYTES 64u

/* ---- headers in words ---- */

static_assert(offsetof(struct vhub_net_offload, csum) == offsetof(struct virtio_net_hdr, flags) &&
				offsetof(struct vhub_net_offload, gso) ==
						offsetof(struct virtio_net_hdr, gso_type) &&
				offsetof(struct vhub_net_offload, header_bytes) ==
						offsetof(struct virtio_net_hdr, hdr_len) &&
				offsetof(struct vhub_net_offload, gso_bytes) ==
						offsetof(struct virtio_net_hdr, gso_size) &&
				offsetof(struct vhub_net_offload, csum_start) ==
						offsetof(struct virtio_net_hdr, csum_start) &&
				offsetof(struct vhub_net_offload, csum_offset) ==
						offsetof(struct virtio_net_hdr, csum_offset) &&
				VIRTIO_NET_HDR_F_NEEDS_CSUM == 1,
		"an offload is a header");

/*
 * The first ten bytes of a header, or an offload: as two words, for what is written in parts cannot be read
 * at once.
 */
struct net_words {
	uint64_t front; /* flags, gso_type, hdr_len, gso_size, csum_start, from the low byte on */
	uint16_t csum_offset;
};
#define NET_FRONT_GSO_SHIFT 8
#define NET_FRONT_HEADER_BYTES_SHIFT 16
#define NET_FRONT_GSO_BYTES_SHIFT 32
#define NET_FRONT_CSUM_START_SHIFT 48
#define NET_FRONT_CSUM UINT64_C(0x1) /* NEEDS_CSUM; of an offload, csum */
#define NET_FRONT_GSO (UINT64_C(0xff) << NET_FRONT_GSO_SHIFT)
#define NET_FRONT_CSUM_START (UINT64_C(0xffff) << NET_FRONT_CSUM_START_SHIFT)
/* Of an offload, what is no guest's business. */
#define NET_FRONT_OURS (UINT64_C(0xf8) << NET_FRONT_GSO_SHIFT)

static __rte_always_inline struct net_words
net_words_load(const void *src)
{
	struct net_words words;

	memcpy(&words.front, src, sizeof(words.front));
	memcpy(&words.csum_offset, (const uint8_t *)src + sizeof(words.front),
			sizeof(words.csum_offset));
	return words;
}

static __rte_always_inline void
net_words_store(struct net_words words, void *dst)
{
	memcpy(dst, &words.front, sizeof(words.front));
	memcpy((uint8_t *)dst + sizeof(words.front), &words.csum_offset, sizeof(words.csum_offset));
}

/* The sum cannot begin before the end of the shortest IP header. */
#define NET_MIN_CSUM_START (RTE_ETHER_HDR_LEN + sizeof(struct rte_ipv4_hdr))

/* What of a header's front counts where a guest may ask for `asks`: who may for nothing has asked for nothing. */
static inline uint64_t
net_front_mask(uint32_t asks)
{
	return asks == 0 ? 0 : ~UINT64_C(0xff) | NET_FRONT_CSUM;
}

/* The part of what a guest says that is about the checksum, masked. False: it makes no sense. */
static __rte_always_inline bool
net_read_sum(struct net_words said, uint32_t frame_bytes, struct vhub_net_offload *out)
{
	const bool csum = (said.front & NET_FRONT_CSUM) != 0;
	const uint32_t start = (uint32_t)(said.front >> NET_FRONT_CSUM_START_SHIFT);

	if (!csum)
		said = (struct net_words){ 0 };
	said.front &= NET_FRONT_CSUM | NET_FRONT_CSUM_START;
	net_words_store(said, out);
	return !csum ||
			(start >= NET_MIN_CSUM_START &&
					start + said.csum_offset + sizeof(uint16_t) <= frame_bytes);
}

/* The other way: what a guest is told, of a packet in one buffer. */
static __rte_always_inline void
net_header_write(const struct vhub_net_offload *offload, struct virtio_net_hdr_mrg_rxbuf *hdr)
{
	struct net_words words = net_words_load(offload);
	const uint32_t back = words.csum_offset | UINT32_C(1) << 16;

	words.front &= ~NET_FRONT_OURS;
	memcpy(hdr, &words.front, sizeof(words.front));
	memcpy((uint8_t *)hdr + sizeof(words.front), &back, sizeof(back));
}

/* ---- direct_gather.c ---- */

/* The ring from the guest starts. */
void
direct_gather_begin(struct net_pair *pair);
/* Whether the ring is to be left alone for now, since more is about to come. */
bool
direct_is_gathering(struct net_pair *pair);
/* What a turn has taken, also nothing at the end of a wait. */
void
direct_has_taken(struct net_pair *pair, uint16_t n);

/* ---- direct_from.c ---- */

/* A ring of the pair starts: what was negotiated. */
void
direct_begin(struct net_pair *pair, uint64_t features);
/* One turn of the pair's ring from the guest. Returns how many packets there were. */
unsigned int
direct_poll_from_guest(struct net_pair *pair);

/* ---- direct_to.c ---- */

/* Copies views to the guest, completing what it does not take; what has no room waits. Its ring is open. */
void
direct_give_views(struct net_pair *pair, const struct vhub_net_view *views, uint64_t which);

/*
 * Gives mbufs to the guest, whose offloads it takes, until there is no room for one. Its ring is open.
 * Returns how many, from the front, have been dealt with and freed; the others are the caller's.
 */
uint16_t
direct_give_mbufs(struct net_pair *pair, struct rte_mbuf **pkts, uint16_t n);

/* ---- header.c ---- */

/* Headers of a packet, as far as its head tells. */
struct net_headers {
	bool ipv6;
	uint8_t protocol; /* 0: a fragment; an extension header of IPv6's that does not lie in the head */
	uint16_t l2_bytes;
	uint16_t l3_bytes; /* with extension headers of IPv6's before the protocol */
};

/* Returns false when the frame is no IP packet. */
bool
net_headers_parse(const uint8_t *head, uint32_t head_bytes, struct net_headers *h);

/*
 * Turns what a guest says of its packet into what is to be done. `hdr` and `head` are copies; `asks`
 * are the VHUB_NET_TAKES_* that it may ask for. Returns 0 or -EINVAL: it makes no sense.
 */
int
net_header_read(const struct virtio_net_hdr *hdr, uint32_t asks, const uint8_t *head,
		uint32_t head_bytes, uint32_t frame_bytes, struct vhub_net_offload *out);
/* VHUB_NET_TAKES_* that a receiver has to have. */
uint32_t
net_offload_needs(const struct vhub_net_offload *offload);
/* From mbuf flags that offload.c has found sane, and to flags. */
void
net_offload_of_mbuf(const struct rte_mbuf *m, struct vhub_net_offload *out);
/*
 * Returns false when mbufs cannot say it: a checksum that is neither TCP's nor UDP's, or behind extension
 * headers of IPv6's.
 */
bool
net_offload_to_mbuf(const struct vhub_net_offload *offload, const uint8_t *head,
		uint32_t head_bytes, struct rte_mbuf *m);

/* ---- copies ---- */

/* Up to 64 bytes with overlapping moves and no call: headers and small packets. */
static __rte_always_inline void
net_copy_small(void *dst, const void *src, size_t n)
{
	uint8_t *d = dst;
	const uint8_t *s = src;

	if (likely(n >= 32)) {
		memcpy(d, s, 32);
		memcpy(d + n - 32, s + n - 32, 32);
	} else if (n >= 16) {
		memcpy(d, s, 16);
		memcpy(d + n - 16, s + n - 16, 16);
	} else if (n >= 8) {
		memcpy(d, s, 8);
		memcpy(d + n - 8, s + n - 8, 8);
	} else {
		while (n-- > 0)
			*d++ = *s++;
	}
}

/* Of any length. The C library's routine chooses by the CPU and the length. */
static __rte_always_inline void
net_copy(void *dst, const void *src, size_t n)
{
	if (n <= 64)
		net_copy_small(dst, src, n);
	else
		memcpy(dst, src, n);
}

#endif /* NET_DIRECT_H */
