/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzzes what net/header.c makes of a guest's virtio_net_hdr and the headers of its frame. The head is
 * an allocation of just its size, for the address sanitiser; what is believed has to lie in the frame,
 * to be what the guest may ask for, and to come out again the same, by a header and by an mbuf.
 *
 * Input:
 *   asks     1 byte: VHUB_NET_TAKES_*
 *   more     2 bytes: of the frame behind the head, little endian
 *   header   10 bytes
 *   head     the rest, VHUB_NET_HEAD_BYTES at most
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "direct.h"

#define MUST(expr) \
	do { \
		if (!(expr)) { \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #expr); \
			abort(); \
		} \
	} while (0)

#define BEFORE_HEAD (1 + sizeof(uint16_t) + sizeof(struct virtio_net_hdr))

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool
is_same(const struct vhub_net_offload *a, const struct vhub_net_offload *b)
{
	return a->csum == b->csum && a->gso == b->gso && a->csum_start == b->csum_start &&
			a->csum_offset == b->csum_offset && a->gso_bytes == b->gso_bytes &&
			a->header_bytes == b->header_bytes;
}

static void
check_offload(const struct vhub_net_offload *o, uint32_t asks, uint32_t frame_bytes)
{
	if (!o->csum) {
		MUST(o->gso == VHUB_NET_GSO_NONE && o->csum_start == 0 && o->csum_offset == 0);
		MUST(o->gso_bytes == 0 && o->header_bytes == 0);
		return;
	}
	MUST((net_offload_needs(o) & ~asks) == 0);
	MUST(o->csum_start >= RTE_ETHER_HDR_LEN);
	MUST((uint32_t)o->csum_start + o->csum_offset + 2 <= frame_bytes);
	if (o->gso == VHUB_NET_GSO_NONE)
		return;
	MUST(o->gso_bytes != 0);
	MUST(o->header_bytes > o->csum_start && o->header_bytes <= frame_bytes);
	MUST(o->csum_start + o->csum_offset + 2u <= o->header_bytes);
}

static void
check_mbuf(const struct vhub_net_offload *o, const uint8_t *head, uint32_t head_bytes)
{
	struct rte_mbuf m;
	struct vhub_net_offload back;

	memset(&m, 0, sizeof(m));
	if (!net_offload_to_mbuf(o, head, head_bytes, &m)) {
		/* Never so where there is segmentation. */
		MUST(o->gso == VHUB_NET_GSO_NONE);
		return;
	}
	net_offload_of_mbuf(&m, &back);
	MUST(is_same(o, &back));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vhub_net_offload offload, again;
	struct virtio_net_hdr hdr;
	struct virtio_net_hdr_mrg_rxbuf written;
	uint32_t asks, head_bytes, frame_bytes;
	uint16_t more;
	uint8_t *head;

	if (size < BEFORE_HEAD + RTE_ETHER_HDR_LEN)
		return 0;
	asks = data[0] & VHUB_NET_TAKES_ALL;
	/* Nobody asks for more without the sum (5.1.3.1). */
	if ((asks & VHUB_NET_TAKES_CSUM) == 0)
		asks = 0;
	memcpy(&more, data + 1, sizeof(more));
	memcpy(&hdr, data + 1 + sizeof(more), sizeof(hdr));
	head_bytes = (uint32_t)RTE_MIN(size - BEFORE_HEAD, (size_t)VHUB_NET_HEAD_BYTES);
	frame_bytes = head_bytes + (head_bytes == VHUB_NET_HEAD_BYTES ? more : 0);
	head = malloc(head_bytes);
	if (head == NULL)
		return 0;
	memcpy(head, data + BEFORE_HEAD, head_bytes);
	if (net_header_read(&hdr, asks, head, head_bytes, frame_bytes, &offload) == 0) {
		check_offload(&offload, asks, frame_bytes);
		net_header_write(&offload, &written);
		MUST(written.num_buffers == 1);
		MUST(net_header_read(&written.hdr, asks, head, head_bytes, frame_bytes, &again) ==
				0);
		MUST(is_same(&offload, &again));
		check_mbuf(&offload, head, head_bytes);
	}
	free(head);
	return 0;
}
