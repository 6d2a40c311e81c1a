/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packed rings before a hostile driver: the input is the ring's first contents, then what driver
 * and device do. Next: fuzz_virtq_common.h.
 */
#include "fuzz_virtq_common.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct fuzz_device dev = { .packed = true };
	struct vhub_virtq_config config;
	struct fuzz_guest g;
	uint16_t ring_size, base;
	uint8_t bits;

	if (size < 8)
		return 0;
	fuzz_guest_init(&g);
	bits = input_byte(&in);
	ring_size = (uint16_t)(1 + input_byte(&in) % 32);
	base = input_u16(&in);
	config = fuzz_config(&g, UINT64_C(1) << 32 | UINT64_C(1) << 34, ring_size, bits);
	config.base = (base & 0x8000u) | (base & 0x7fffu) % ring_size;
	config.base |= config.base << 16;
	input_copy(&in, g.low + FUZZ_DESC_AT(ring_size),
			(size_t)(input_byte(&in) % (16 * ring_size)));
	CHECK(vhub_virtq_create(&config, &dev.vq) == 0);
	/* The flags of the first descriptor: offering is what the guest's writes do. */
	fuzz_run(&dev, &g, &in, FUZZ_DESC_AT(ring_size) + 14);
	vhub_virtq_destroy(dev.vq);
	fuzz_guest_fini(&g);
	return 0;
}
