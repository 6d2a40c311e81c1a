/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rings that resume from an inflight region of the input's making: refused, or all of it replayed
 * from valid memory, and whatever is then done, the region that is left is one that the next life
 * accepts. Next: fuzz_virtq_common.h.
 */
#include <errno.h>

#include "fuzz_virtq_common.h"

#define MAX_SIZE 16u

/* Patches: some bytes anywhere, or a small number in a field of an entry or of the head. */
static void
patch(struct input *in, uint8_t *region, uint64_t bytes, bool packed)
{
	for (unsigned int n = input_byte(in) % 8; n != 0; n--) {
		const uint8_t how = input_byte(in);
		uint16_t at = (uint16_t)(input_u16(in) % bytes);
		uint16_t value;

		if ((how & 1) != 0) {
			input_copy(in, region + at,
					(size_t)(how >> 1) < bytes - at ? how >> 1 : bytes - at);
			continue;
		}
		/*
		 * Fields of 16 bits, in the first eight bytes of an entry and the last of the head.
		 */
		value = input_byte(in) % (MAX_SIZE + 2);
		at = (uint16_t)(packed ? 32 * (at % 17) : 16 * (at % 17));
		at = (uint16_t)(at + (how >> 1 & 3) * 2 + (at == 0 ? (packed ? 12 : 8) : 0));
		if (at + sizeof(value) <= bytes)
			memcpy(region + at, &value, sizeof(value));
	}
}

/* A former life, of as much input as its first byte says; it may leave chains in flight. */
static void
live(struct fuzz_device *dev, struct fuzz_guest *g, struct input *in,
		const struct vhub_virtq_config *config)
{
	const size_t len = input_byte(in);
	struct input part = { in->at, len < in->left ? len : in->left };

	CHECK(vhub_virtq_create(config, &dev->vq) == 0);
	fuzz_run(dev, g, &part, dev->packed ? FUZZ_DESC_AT(config->size) + 14 : FUZZ_AVAIL_AT + 2);
	in->at += len < in->left ? len : in->left;
	in->left -= len < in->left ? len : in->left;
	fuzz_pop(dev, g, 8);
	dev->n_held = 0;
	vhub_virtq_destroy(dev->vq);
	dev->vq = NULL;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct fuzz_device dev = { .packed = false };
	struct vhub_virtq_config config;
	struct fuzz_guest g;
	uint16_t ring_size;
	uint8_t bits, kind;
	int ret;

	if (size < 16)
		return 0;
	fuzz_guest_init(&g);
	bits = input_byte(&in);
	kind = input_byte(&in);
	dev.packed = (kind & 1) != 0;
	ring_size = (uint16_t)(dev.packed ? 1 + (kind >> 2) % MAX_SIZE : 1u << (kind >> 2) % 5);
	config = fuzz_config(&g, dev.packed ? UINT64_C(1) << 34 : 0, ring_size, bits);
	config.base = dev.packed ? 0x80008000 : input_u16(&in);
	config.inflight_bytes = vhub_inflight_queue_bytes(ring_size, dev.packed) +
			64 * (input_byte(&in) % 3);
	/* In an allocation of exactly its size. */
	config.inflight = aligned_alloc(64, config.inflight_bytes);
	CHECK(config.inflight != NULL);
	memset(config.inflight, 0, config.inflight_bytes);
	input_copy(&in, g.low, (size_t)input_byte(&in) * 2);
	if ((kind & 2) != 0) {
		memcpy(g.low + FUZZ_AVAIL_AT + 2, &(uint16_t){ (uint16_t)config.base }, 2);
		live(&dev, &g, &in, &config);
		config.base = dev.packed ? 0x80008000 :
					   *(uint16_t *)(void *)(g.low + FUZZ_USED_AT + 2);
	}
	patch(&in, config.inflight, config.inflight_bytes, dev.packed);
	ret = vhub_virtq_create(&config, &dev.vq);
	CHECK(ret == 0 || ret == -EPROTO);
	if (ret == 0) {
		for (unsigned int i = 0; i < MAX_SIZE; i++)
			fuzz_pop(&dev, &g, 5);
		fuzz_run(&dev, &g, &in,
				dev.packed ? FUZZ_DESC_AT(ring_size) + 14 : FUZZ_AVAIL_AT + 2);
		vhub_virtq_destroy(dev.vq);
		dev.vq = NULL;
		/* Split: unless the guest has moved its used index to where it cannot be. */
		ret = vhub_virtq_create(&config, &dev.vq);
		CHECK(ret == 0 || (!dev.packed && ret == -EPROTO));
		if (ret == 0)
			vhub_virtq_destroy(dev.vq);
	}
	free(config.inflight);
	fuzz_guest_fini(&g);
	return 0;
}
