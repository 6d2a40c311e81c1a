/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The short way through a ring, for devices that work a burst off at once: buffers of one piece are
 * shown where they are, filled or read, and taken and given back in one go. No request is made of
 * them, so nothing is kept of a single one; where something has to be (inflight region, dirty log,
 * requests in flight), and for all other chains, virtq.c's pop and push serve. Called by devices; whether
 * the guest is told is notify.c's.
 */
#include "chain.h"
#include "vhub_fetch.h"

/* Flags that tell a buffer of one piece, and in which direction. */
#define PIECE_FLAGS (DESC_F_NEXT | DESC_F_INDIRECT | DESC_F_WRITE)

/* ---- showing ---- */

/* One descriptor's copy becomes a buffer. False: it is something else, or something is wrong with it. */
static __rte_always_inline bool
show(struct vhub_virtq *vq, struct chain_quick *q, uint64_t gpa, uint32_t len, uint16_t flags,
		uint16_t id, uint16_t wanted, struct vhub_buffer *buffer)
{
	uint8_t *hva;

	if (unlikely((flags & PIECE_FLAGS) != wanted))
		return false;
	hva = chain_quick_hva(vq, q, gpa, len);
	if (unlikely(hva == NULL))
		return false;
	buffer->base = hva;
	buffer->bytes = len;
	buffer->used_bytes = 0;
	buffer->id = id;
	return true;
}

static __rte_always_inline uint16_t
split_peek(struct vhub_virtq *vq, struct vhub_buffer *buffers, uint16_t max, uint16_t wanted)
{
	const uint16_t mask = (uint16_t)(vq->size - 1);
	/* Acquire: pairs with the driver's release of idx, behind its entries and descriptors. */
	const uint16_t avail_idx = __atomic_load_n(&vq->avail->idx, __ATOMIC_ACQUIRE);
	const uint16_t waiting = (uint16_t)(avail_idx - vq->last_avail);
	const uint16_t want = RTE_MIN(waiting, max);
	struct chain_quick q;
	uint16_t n;

	if (unlikely(waiting > vq->size))
		return 0;
	chain_quick_init(vq, &q);
	for (n = 0; n < want; n++) {
		const uint16_t *slot = &vq->avail->ring[(uint16_t)(vq->last_avail + n) & mask];
		const uint16_t head = __atomic_load_n(slot, __ATOMIC_RELAXED);
		struct split_desc d;

		if (unlikely(head >= vq->size))
			break;
		d = guest_read_split(&vq->desc[head]);
		if (unlikely(!show(vq, &q, d.addr, d.len, d.flags, head, wanted, &buffers[n])))
			break;
	}
	return n;
}

static __rte_always_inline uint16_t
packed_peek(struct vhub_virtq *vq, struct vhub_buffer *buffers, uint16_t max, uint16_t wanted)
{
	const uint16_t want = (uint16_t)RTE_MIN(vq->size, (uint32_t)max);
	uint16_t offered = packed_avail_flags(vq->avail_wrap);
	uint32_t at = vq->last_avail;
	struct chain_quick q;
	uint16_t n;

	chain_quick_init(vq, &q);
	for (n = 0; n < want; n++) {
		const struct packed_desc *slot = &vq->ring[at];
		/* Acquire: pairs with the driver's release of the flags, behind the rest of it. */
		const uint16_t flags = __atomic_load_n(&slot->flags, __ATOMIC_ACQUIRE);

		if ((flags & (DESC_F_AVAIL | DESC_F_USED)) != offered)
			break;
		if (unlikely(!show(vq, &q, __atomic_load_n(&slot->addr, __ATOMIC_RELAXED),
				    __atomic_load_n(&slot->len, __ATOMIC_RELAXED), flags,
				    __atomic_load_n(&slot->id, __ATOMIC_RELAXED), wanted,
				    &buffers[n])))
			break;
		if (unlikely(++at == vq->size)) {
			at = 0;
			offered ^= DESC_F_AVAIL | DESC_F_USED;
		}
	}
	return n;
}

uint16_t
vhub_virtq_peek(struct vhub_virtq *vq, struct vhub_buffer *buffers, uint16_t max, bool writable)
{
	const uint16_t wanted = writable ? DESC_F_WRITE : 0;

	if (unlikely((vq->pop_special | vq->outstanding) != 0 || vq->log != NULL ||
			    vq->ops->replay != NULL))
		return 0;
	return vq->packed ? packed_peek(vq, buffers, max, wanted) :
			    split_peek(vq, buffers, max, wanted);
}

/* ---- giving back ---- */

static __rte_always_inline uint64_t
word_of_buffer(const void *burst, uint32_t i)
{
	const struct vhub_buffer *buffer = (const struct vhub_buffer *)burst + i;

	return split_used_word(buffer->id, buffer->used_bytes);
}

static __rte_always_inline void
split_use(struct vhub_virtq *vq, const struct vhub_buffer *buffers, uint16_t n)
{
	split_store_used(vq, word_of_buffer, buffers, n);
	vq->last_avail = (uint16_t)(vq->last_avail + n);
	vq->used_idx = (uint16_t)(vq->used_idx + n);
	/* Release: pairs with the driver's acquire of idx, before its look at entries and data. */
	__atomic_store_n(&vq->used->idx, vq->used_idx, __ATOMIC_RELEASE);
}

static __rte_always_inline void
store_used(struct packed_desc *slot, const struct vhub_buffer *buffer, unsigned int wrap, int order)
{
	packed_store_used(slot, buffer->used_bytes, buffer->id, wrap, order);
}

/* The driver does not look past a descriptor that is not used: the first one is stored last. */
static __rte_always_inline void
packed_use(struct vhub_virtq *vq, const struct vhub_buffer *buffers, uint16_t n)
{
	struct packed_desc *first = &vq->ring[vq->used_idx];
	const unsigned int first_wrap = vq->used_wrap;
	uint32_t at = vq->used_idx;
	uint32_t avail = vq->last_avail + (uint32_t)n;

	for (uint16_t i = 0; i < n; i++) {
		if (i != 0)
			store_used(&vq->ring[at], &buffers[i], vq->used_wrap, __ATOMIC_RELAXED);
		if (unlikely(++at == vq->size)) {
			at = 0;
			vq->used_wrap ^= 1;
		}
	}
	vq->used_idx = (uint16_t)at;
	if (unlikely(avail >= vq->size)) {
		avail -= vq->size;
		vq->avail_wrap ^= 1;
	}
	vq->last_avail = (uint16_t)avail;
	/* Release: pairs with the driver's acquire of the flags, before its look at the burst. */
	store_used(first, &buffers[0], first_wrap, __ATOMIC_RELEASE);
}

/* A split ring's are found by way of its available ring only. `n` of them touch one line more at most. */
void
vhub_virtq_prefetch(const struct vhub_virtq *vq, uint16_t n)
{
	const uint32_t a_line = RTE_CACHE_LINE_SIZE / sizeof(struct packed_desc);
	const uint32_t n_lines = RTE_MIN((uint32_t)n, vq->size) / a_line + 1;
	uint32_t at = vq->last_avail;

	if (!vq->packed)
		return;
	for (uint32_t i = 0; i < n_lines; i++) {
		vhub_fetch_to_read(&vq->ring[at], 1);
		at += a_line;
		if (unlikely(at >= vq->size))
			at = 0;
	}
}

/* Each line, though the first entry lies anywhere in one; none where they are likely to stay as they are. */
void
vhub_virtq_prefetch_used(const struct vhub_virtq *vq, uint16_t n)
{
	const uint32_t a_line = RTE_CACHE_LINE_SIZE / sizeof(struct split_used_elem);
	const uint32_t mask = vq->size - 1;

	if (vq->packed || vq->used_moving == 0)
		return;
	for (uint32_t i = 0; i < n + a_line - 1; i += a_line)
		vhub_fetch_to_write(&vq->used->ring[(vq->used_idx + i) & mask], 1);
}

void
vhub_virtq_use(struct vhub_virtq *vq, const struct vhub_buffer *buffers, uint16_t n)
{
	/* A ring that broke meanwhile has taken nothing. */
	if (unlikely(n == 0 || vq->reason != VHUB_VIRTQ_OK || virtq_memory_is_lost(vq)))
		return;
	if (vq->packed)
		packed_use(vq, buffers, n);
	else
		split_use(vq, buffers, n);
	virtq_unnotified(vq, n);
	vhub_count(&vq->stats.chains, n);
	vhub_count(&vq->stats.completions, n);
}
