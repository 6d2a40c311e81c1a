/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What lies in memory that others write too: rings as VIRTIO 1.2, 2.7 and 2.8 lay them out,
 * inflight regions as "Inflight I/O tracking" of vhost-user does, and the loads that take a
 * descriptor out of it exactly once. Used by every file of lib/virtq; next: virtq_pvt.h.
 */
#ifndef VIRTQ_LAYOUT_H
#define VIRTQ_LAYOUT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <rte_common.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "rings are little-endian, and so must this machine be"
#endif

/* Feature bits (VIRTIO 1.2, 6). */
#define VIRTQ_F_INDIRECT (UINT64_C(1) << 28)
#define VIRTQ_F_EVENT_IDX (UINT64_C(1) << 29)
#define VIRTQ_F_IN_ORDER (UINT64_C(1) << 35)

/* Descriptor flags of both formats; AVAIL and USED of packed rings. */
#define DESC_F_NEXT 0x1u
#define DESC_F_WRITE 0x2u
#define DESC_F_INDIRECT 0x4u
#define DESC_F_AVAIL 0x80u
#define DESC_F_USED 0x8000u
/* Which way a piece goes, or where it is. */
#define DIRECTION_FLAGS (DESC_F_WRITE | DESC_F_INDIRECT)

/* ---- split (2.7) ---- */

struct split_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

/* avail->flags: the driver wants no notification; used->flags: the device wants none. */
#define SPLIT_AVAIL_F_NO_INTERRUPT 0x1u
#define SPLIT_USED_F_NO_NOTIFY 0x1u

struct split_avail {
	uint16_t flags;
	uint16_t idx;
	uint16_t ring[]; /* and behind it used_event */
};

struct split_used_elem {
	uint32_t id;
	uint32_t len;
};

struct split_used {
	uint16_t flags;
	uint16_t idx;
	struct split_used_elem ring[]; /* and behind it avail_event */
};

/* ---- packed (2.8) ---- */

struct packed_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t id;
	uint16_t flags;
};

/* All of a descriptor but its address, which one load or store moves. */
#define PACKED_WORD(desc) ((packed_word *)(void *)&(desc)->len)
typedef uint64_t __attribute__((may_alias)) packed_word;

static_assert(offsetof(struct packed_desc, len) == 8 && offsetof(struct packed_desc, id) == 12 &&
				offsetof(struct packed_desc, flags) == 14,
		"published layout");

/* An event suppression structure as one word: off_wrap in the low half, flags in the high one. */
#define PACKED_EVENT_ENABLE 0x0u
#define PACKED_EVENT_DISABLE 0x1u
#define PACKED_EVENT_DESC 0x2u

static inline uint32_t
packed_event(uint16_t off_wrap, uint16_t flags)
{
	return off_wrap | (uint32_t)flags << 16;
}

/*
 * The flags that say "available" in a lap with this wrap counter; both bits differ in a used one.
 */
static inline uint16_t
packed_avail_flags(unsigned int wrap)
{
	return wrap != 0 ? DESC_F_AVAIL : DESC_F_USED;
}

static inline uint16_t
packed_used_flags(unsigned int wrap)
{
	return wrap != 0 ? DESC_F_AVAIL | DESC_F_USED : 0;
}

/* ---- inflight regions ---- */

#define INFLIGHT_VERSION 1u

struct inflight_split_desc {
	uint8_t inflight;
	uint8_t padding[5];
	uint16_t next;
	uint64_t counter;
};

struct inflight_split {
	uint64_t features;
	uint16_t version;
	uint16_t desc_num;
	uint16_t last_batch_head;
	uint16_t used_idx;
	struct inflight_split_desc desc[];
};

struct inflight_packed_desc {
	uint8_t inflight;
	uint8_t padding;
	uint16_t next;
	uint16_t last;
	uint16_t num;
	uint64_t counter;
	uint16_t id;
	uint16_t flags;
	uint32_t len;
	uint64_t addr;
};

/*
 * The published fields that change together share a word here, so that one store changes them: a
 * process killed between any two instructions never leaves half of a pair.
 */
struct inflight_packed {
	uint64_t features;
	uint16_t version;
	uint16_t desc_num;
	union {
		struct {
			uint16_t free_head;
			uint16_t old_free_head;
		};
		uint32_t free_heads;
	};
	union {
		struct {
			uint16_t used_idx;
			uint16_t old_used_idx;
			uint8_t used_wrap;
			uint8_t old_used_wrap;
			/* ours, in what is padding to others: see packed_push_in_turn() */
			uint16_t turn_slots;
		};
		uint64_t used;
	};
	uint8_t padding2[8];
	struct inflight_packed_desc desc[];
};

static_assert(sizeof(struct inflight_split_desc) == 16, "published layout");
static_assert(offsetof(struct inflight_split, used_idx) == 14, "published layout");
static_assert(offsetof(struct inflight_split, desc) == 16, "published layout");
static_assert(sizeof(struct inflight_packed_desc) == 32, "published layout");
static_assert(offsetof(struct inflight_packed, free_head) == 12, "published layout");
static_assert(offsetof(struct inflight_packed, used_idx) == 16, "published layout");
static_assert(offsetof(struct inflight_packed, old_used_wrap) == 21, "published layout");
static_assert(offsetof(struct inflight_packed, turn_slots) == 22, "padding, which others leave 0");
static_assert(offsetof(struct inflight_packed, desc) == 32, "published layout");

/* ---- loads ---- */

/*
 * Copies 16 bytes that somebody else may be writing, from any address. The empty assembler makes
 * the values opaque: the compiler cannot go back and load a second time what was checked already.
 */
static __rte_always_inline void
guest_read16(void *dst, const void *src)
{
	uint64_t words[2];

	memcpy(words, src, sizeof(words));
	__asm__("" : "+r"(words[0]), "+r"(words[1]));
	memcpy(dst, words, sizeof(words));
}

/* A split descriptor whose flags and next are one word: they are looked at together. */
struct split_words {
	uint64_t addr;
	uint32_t len;
	uint32_t links;
};

/* The same of one, from any address. */
static __rte_always_inline struct split_words
guest_read_split_words(const void *src)
{
	const uint8_t *from = src; /* no pointer to a structure: those are aligned */
	struct split_words d;

	memcpy(&d.addr, from + offsetof(struct split_desc, addr), sizeof(d.addr));
	memcpy(&d.len, from + offsetof(struct split_desc, len), sizeof(d.len));
	memcpy(&d.links, from + offsetof(struct split_desc, flags), sizeof(d.links));
	__asm__("" : "+r"(d.addr), "+r"(d.len), "+r"(d.links));
	return d;
}

static __rte_always_inline uint32_t
split_links(uint32_t flags, uint32_t next)
{
	return flags | next << 16;
}

static __rte_always_inline struct split_desc
guest_read_split(const void *src)
{
	const struct split_words d = guest_read_split_words(src);

	return (struct split_desc){
		.addr = d.addr,
		.len = d.len,
		.flags = (uint16_t)d.links,
		.next = (uint16_t)(d.links >> 16),
	};
}

/* The same of one of a packed ring or of a table. */
static __rte_always_inline struct packed_desc
guest_read_packed(const void *src)
{
	const uint8_t *from = src; /* no pointer to a structure: those are aligned */
	struct packed_desc d;

	memcpy(&d.addr, from + offsetof(struct packed_desc, addr), sizeof(d.addr));
	memcpy(&d.len, from + offsetof(struct packed_desc, len), sizeof(d.len));
	memcpy(&d.id, from + offsetof(struct packed_desc, id), sizeof(d.id));
	memcpy(&d.flags, from + offsetof(struct packed_desc, flags), sizeof(d.flags));
	__asm__("" : "+r"(d.addr), "+r"(d.len), "+r"(d.id), "+r"(d.flags));
	return d;
}

#endif /* VIRTQ_LAYOUT_H */
