/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Split rings before a hostile driver: the input is the ring's first contents, then what driver and
 * device do. Next: fuzz_virtq_common.h.
 */
#include "fuzz_virtq_common.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct fuzz_device dev = { .packed = false };
	struct vhub_virtq_config config;
	struct fuzz_guest g;
	uint8_t bits, log2_size;

	if (size < 8)
		return 0;
	fuzz_guest_init(&g);
	bits = input_byte(&in);
	log2_size = bits >> 5;
	config = fuzz_config(&g, UINT64_C(1) << 32,
			(uint16_t)(1u << (log2_size < 6 ? log2_size : 5)), bits);
	config.base = input_u16(&in);
	input_copy(&in, g.low, (size_t)input_byte(&in) * 2);
	/* The index begins at the base, or all inputs would end as runaways. */
	memcpy(g.low + FUZZ_AVAIL_AT + 2, &(uint16_t){ (uint16_t)config.base }, 2);
	CHECK(vhub_virtq_create(&config, &dev.vq) == 0);
	fuzz_run(&dev, &g, &in, FUZZ_AVAIL_AT + 2);
	vhub_virtq_destroy(dev.vq);
	fuzz_guest_fini(&g);
	return 0;
}
