/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rings that resume from an inflight region of the input's making: refused, or all of it replayed from valid memory,
 * and whatever is then done, the region that is left is one that the next life accepts. Next: fuzz_virtq_common.h.
 */
#include <errno.h>

#include "fuzz_virtq_common.h"

#define MAX_SIZE 16u

/* A region in an allocation of exactly its size. */
static uint8_t *
make_region(struct input *in, uint64_t bytes, uint16_t size, bool packed, bool valid)
{
	uint8_t *region = aligned_alloc(64, bytes);

	CHECK(region != NULL);
	memset(region, 0, bytes);
	if (valid)
		CHECK(vhub_inflight_queue_init(region, bytes, size, packed) == 0);
	/* Patches: a place, how much, what. */
	for (unsigned int n = input_byte(in) % 32; n != 0; n--) {
		const uint16_t at = (uint16_t)(input_u16(in) % bytes);
		const uint8_t len = input_byte(in) % 33;

		input_copy(in, region + at, len < bytes - at ? len : bytes - at);
	}
	return region;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct fuzz_device dev = { .n_held = 0 };
	struct vhub_virtq_config config;
	struct fuzz_guest g;
	uint16_t ring_size;
	uint8_t bits, kind;
	bool packed;
	int ret;

	if (size < 16)
		return 0;
	fuzz_guest_init(&g);
	bits = input_byte(&in);
	kind = input_byte(&in);
	packed = (kind & 1) != 0;
	ring_size = (uint16_t)(packed ? 1 + (kind >> 2) % MAX_SIZE : 1u << (kind >> 2) % 5);
	config = fuzz_config(&g, packed ? UINT64_C(1) << 34 : 0, ring_size, bits);
	config.base = packed ? 0x80008000 : input_u16(&in);
	config.inflight_bytes = vhub_inflight_queue_bytes(ring_size, packed) +
			64 * (input_byte(&in) % 3);
	config.inflight = make_region(&in, config.inflight_bytes, ring_size, packed,
			(kind & 2) != 0);
	input_copy(&in, g.low, (size_t)input_byte(&in) * 2);
	ret = vhub_virtq_create(&config, &dev.vq);
	CHECK(ret == 0 || ret == -EPROTO);
	if (ret == 0) {
		for (unsigned int i = 0; i < MAX_SIZE; i++)
			fuzz_pop(&dev, &g, 5);
		fuzz_run(&dev, &g, &in, packed ? FUZZ_DESC_AT + 14 : FUZZ_AVAIL_AT + 2);
		vhub_virtq_destroy(dev.vq);
		dev.vq = NULL;
		/* Split: unless the guest has moved its used index to where it cannot be. */
		ret = vhub_virtq_create(&config, &dev.vq);
		CHECK(ret == 0 || (!packed && ret == -EPROTO));
		if (ret == 0)
			vhub_virtq_destroy(dev.vq);
	}
	free(config.inflight);
	fuzz_guest_fini(&g);
	return 0;
}
