/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the fuzzers of lib/virtq share: a guest of two small regions that can be written to at any
 * time, a device that holds what it pops, and the promises that every popped chain must keep.
 * Regions are allocations of their own, so that the sanitizer sees a step out of them.
 */
#ifndef FUZZ_VIRTQ_COMMON_H
#define FUZZ_VIRTQ_COMMON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vhub_virtq.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition) \
	do { \
		if (!(condition)) \
			abort(); \
	} while (0)

/* The second region is the first one's neighbour for the guest; rings lie in the first. */
#define FUZZ_LOW_GPA UINT64_C(0x1000)
#define FUZZ_LOW_BYTES 4096u
#define FUZZ_HIGH_BYTES 1024u
#define FUZZ_AVAIL_AT 0u
#define FUZZ_USED_AT 256u
/* The descriptors end where the region does. */
#define FUZZ_DESC_AT(size) (FUZZ_LOW_BYTES - 16u * (size))
#define FUZZ_MAX_HELD 256u

struct input {
	const uint8_t *at;
	size_t left;
};

static inline uint8_t
input_byte(struct input *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->at++;
}

static inline uint16_t
input_u16(struct input *in)
{
	const uint16_t low = input_byte(in);

	return (uint16_t)(low | input_byte(in) << 8);
}

static inline void
input_copy(struct input *in, void *dst, size_t bytes)
{
	const size_t n = bytes < in->left ? bytes : in->left;

	memcpy(dst, in->at, n);
	in->at += n;
	in->left -= n;
}

struct fuzz_guest {
	uint8_t *low;
	uint8_t *high;
	struct vhub_mem_table *table;
	struct vhub_dirty_log log;
	uint8_t bits[1];
};

static inline void
fuzz_guest_init(struct fuzz_guest *g)
{
	memset(g, 0, sizeof(*g));
	g->low = aligned_alloc(64, FUZZ_LOW_BYTES);
	g->high = aligned_alloc(64, FUZZ_HIGH_BYTES);
	g->table = calloc(1, sizeof(*g->table) + 2 * sizeof(g->table->regions[0]));
	CHECK(g->low != NULL && g->high != NULL && g->table != NULL);
	memset(g->low, 0, FUZZ_LOW_BYTES);
	memset(g->high, 0, FUZZ_HIGH_BYTES);
	g->table->refs = 1;
	g->table->n_regions = 2;
	g->table->regions[0].gpa = FUZZ_LOW_GPA;
	g->table->regions[0].size_bytes = FUZZ_LOW_BYTES;
	g->table->regions[0].hva = g->low;
	g->table->regions[1].gpa = FUZZ_LOW_GPA + FUZZ_LOW_BYTES;
	g->table->regions[1].size_bytes = FUZZ_HIGH_BYTES;
	g->table->regions[1].hva = g->high;
	g->log.refs = 1;
	g->log.bits = g->bits;
	g->log.size_bytes = sizeof(g->bits);
}

static inline void
fuzz_guest_fini(struct fuzz_guest *g)
{
	CHECK(g->table->refs == 1 && g->log.refs == 1);
	free(g->low);
	free(g->high);
	free(g->table);
}

/* A ring of this guest; `bits` chooses features and the log. */
static inline struct vhub_virtq_config
fuzz_config(struct fuzz_guest *g, uint64_t format, uint16_t size, uint8_t bits)
{
	return (struct vhub_virtq_config){
		.size = size,
		.features = format | ((bits & 1) != 0 ? UINT64_C(1) << 28 : 0) |
				((bits & 2) != 0 ? UINT64_C(1) << 29 : 0) |
				((bits & 4) != 0 ? UINT64_C(1) << 35 : 0),
		.desc = g->low + FUZZ_DESC_AT(size),
		.avail = g->low + FUZZ_AVAIL_AT,
		.used = g->low + FUZZ_USED_AT,
		.mem = g->table,
		.log = (bits & 8) != 0 ? &g->log : NULL,
		.log_used = (bits & 16) != 0,
		.used_log_gpa = FUZZ_LOW_GPA + FUZZ_USED_AT,
		.call_fd = -1,
		.chain_bytes = sizeof(struct vhub_chain),
		.numa_node = -1,
	};
}

/* The device: what it was given, each chain once. */
struct fuzz_device {
	struct vhub_virtq *vq;
	bool packed;
	struct vhub_chain *held[FUZZ_MAX_HELD];
	unsigned int n_held;
};

static inline bool
fuzz_inside(const uint8_t *region, size_t bytes, const struct iovec *iov)
{
	const uintptr_t offset = (uintptr_t)iov->iov_base - (uintptr_t)region;

	return offset < bytes && iov->iov_len <= bytes - offset;
}

/* Pieces lie in guest memory, and add up; the device reads and writes all of them. */
static inline void
fuzz_check_chain(const struct fuzz_guest *g, const struct vhub_chain *chain)
{
	uint64_t out = 0, in = 0;

	CHECK(chain->n_out + chain->n_in <= (int)VHUB_CHAIN_MAX_IOV);
	CHECK(chain->n_out + chain->n_in > 0);
	CHECK(chain->used_bytes == 0);
	CHECK(chain->n_out + chain->n_in <= (int)VHUB_CHAIN_INLINE_IOV ||
			chain->iov != chain->inline_iov);
	for (int i = 0; i < chain->n_out + chain->n_in; i++) {
		const struct iovec *iov = &chain->iov[i];

		CHECK(iov->iov_len > 0);
		CHECK(fuzz_inside(g->low, FUZZ_LOW_BYTES, iov) ||
				fuzz_inside(g->high, FUZZ_HIGH_BYTES, iov));
		if (i < chain->n_out)
			out += iov->iov_len;
		else
			in += iov->iov_len;
	}
	CHECK(out == chain->out_bytes && in == chain->in_bytes);
}

static inline void
fuzz_pop(struct fuzz_device *dev, const struct fuzz_guest *g, uint16_t max)
{
	struct vhub_chain *chains[VHUB_VIRTQ_BURST];
	const uint16_t n = vhub_virtq_pop(dev->vq, chains,
			max < VHUB_VIRTQ_BURST ? max : VHUB_VIRTQ_BURST);

	CHECK(n <= max);
	for (uint16_t i = 0; i < n; i++) {
		fuzz_check_chain(g, chains[i]);
		for (unsigned int k = 0; k < dev->n_held; k++) {
			CHECK(dev->held[k] != chains[i]);
			/* Two long chains in one block; one split chain twice. */
			CHECK(dev->held[k]->iov != chains[i]->iov);
			CHECK(dev->packed || dev->held[k]->id != chains[i]->id);
		}
		CHECK(dev->n_held < FUZZ_MAX_HELD);
		dev->held[dev->n_held++] = chains[i];
	}
}

/*
 * Gives one back, having written into it as a device does: over whatever lies there, rings
 * included.
 */
static inline void
fuzz_push(struct fuzz_device *dev, uint8_t which, uint32_t used_bytes, uint8_t value)
{
	struct vhub_chain *chain;
	unsigned int i;

	if (dev->n_held == 0)
		return;
	i = which % dev->n_held;
	chain = dev->held[i];
	dev->held[i] = dev->held[--dev->n_held];
	if (chain->n_in != 0 && used_bytes != 0)
		memset(chain->iov[chain->n_out].iov_base, value, 1);
	chain->used_bytes = used_bytes;
	vhub_virtq_push(dev->vq, &chain, 1);
}

static inline void
fuzz_push_all(struct fuzz_device *dev)
{
	vhub_virtq_push(dev->vq, dev->held, (uint16_t)dev->n_held);
	dev->n_held = 0;
	CHECK(vhub_virtq_in_flight(dev->vq) == 0);
}

/*
 * The guest writes some descriptors in a row, of the ring or of some table, with values that may
 * well make sense.
 */
static inline void
fuzz_put_descs(struct fuzz_guest *g, struct input *in, bool packed)
{
	const unsigned int first = input_byte(in);
	const uint8_t how = input_byte(in), more = input_byte(in);
	uint64_t addr = FUZZ_LOW_GPA + input_u16(in) % (FUZZ_LOW_BYTES + FUZZ_HIGH_BYTES);
	const uint32_t len = (uint32_t)input_byte(in) << (how & 7);
	const uint16_t last_next = input_u16(in);

	for (unsigned int i = 0; i <= more % 24u; i++) {
		/* Counted from the end, where the ring is. */
		uint8_t *at = g->low + FUZZ_LOW_BYTES - 16 * (size_t)(1 + (first + 256 - i) % 256);
		const bool last = i == more % 24u;
		const uint16_t flags = (how >> 3 & 7) | (last ? 0 : 1);
		const uint16_t next = last ? last_next : (uint16_t)(more / 24 + i + 1);
		/*
		 * The other half of a packed descriptor's flags is its availability in this lap or
		 * that.
		 */
		const uint16_t packed_flags = flags | ((how & 0x80) != 0 ? 0x80 : 0x8000);

		memcpy(at, &addr, 8);
		memcpy(at + 8, &len, 4);
		memcpy(at + 12, packed ? &next : &flags, 2);
		memcpy(at + 14, packed ? &packed_flags : &next, 2);
		addr += len;
	}
}

/*
 * One thing after the other, as the input says, until it ends. `poke` is where this format's driver
 * advances.
 */
static inline void
fuzz_run(struct fuzz_device *dev, struct fuzz_guest *g, struct input *in, uint32_t poke)
{
	uint16_t *word = (uint16_t *)(void *)(g->low + poke);
	uint16_t at;

	while (in->left != 0) {
		const uint8_t what = input_byte(in);

		switch (what & 7) {
		case 0: /* the guest writes */
			at = input_u16(in) % FUZZ_LOW_BYTES;
			input_copy(in, g->low + at,
					(size_t)(what >> 3) < FUZZ_LOW_BYTES - at ? what >> 3 : 1);
			break;
		case 1:
			fuzz_put_descs(g, in, dev->packed);
			break;
		case 2: /* the guest offers */
			*word = (uint16_t)(*word + (what >> 3));
			break;
		case 3:
			fuzz_pop(dev, g, what >> 2);
			break;
		case 4:
			fuzz_push(dev, what >> 3, input_u16(in), what);
			break;
		case 5:
			vhub_virtq_notify(dev->vq);
			break;
		case 6:
			if (vhub_virtq_arm(dev->vq) == 0)
				vhub_virtq_disarm(dev->vq);
			break;
		case 7:
			if ((what >> 3) == 0)
				fuzz_push_all(dev);
			else if ((what >> 3) == 1)
				vhub_virtq_break(dev->vq, VHUB_VIRTQ_BAD_REQUEST);
			else
				vhub_virtq_has_work(dev->vq);
			break;
		}
		CHECK(dev->n_held <= vhub_virtq_in_flight(dev->vq));
	}
	fuzz_push_all(dev);
}

#endif /* FUZZ_VIRTQ_COMMON_H */
