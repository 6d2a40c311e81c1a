/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How long the frames of a port are, in the classes that DPDK's vhost library and RMON count. Called by
 * services.c for each burst of a port that wants them; shown by stats.c.
 *
 * A burst is counted in one word, eight bits a class: it has no more than 64 frames.
 */
#include <stdio.h>

#include "net_pvt.h"
#include "services.h"

#define BITS_OF_CLASS 8u

static const char *const class_names[NET_SIZE_CLASSES] = { "undersize_packets", "size_64_packets",
	"size_65_127_packets", "size_128_255_packets", "size_256_511_packets",
	"size_512_1023_packets", "size_1024_1518_packets", "size_1519_max_packets" };

/* Classes in the order of class_names. */
static __rte_always_inline unsigned int
class_of(uint32_t bytes)
{
	if (bytes <= 64)
		return bytes == 64;
	if (bytes >= 1024)
		return bytes > 1518 ? 7 : 6;
	/* 65 to 127 have 7 bits. */
	return 32u - (unsigned int)__builtin_clz(bytes) - 5u;
}

void
net_sizes_count(struct net_pair *pair, enum net_direction direction,
		const struct net_frames *frames, uint64_t which)
{
	uint64_t *counters = pair->counters.sizes[direction];
	uint64_t found = 0;
	unsigned int i;

	for (; which != 0; which &= which - 1)
		found += UINT64_C(1) << class_of(net_frame_bytes(frames,
							(unsigned int)__builtin_ctzll(which))) *
						BITS_OF_CLASS;
	for (i = 0; found != 0; i++, found >>= BITS_OF_CLASS)
		vhub_count(&counters[i], found & 0xff);
}

void
net_sizes_emit(const struct net_pair *pair, vhub_stat_fn emit, void *arg)
{
	static const char *const ways[NET_DIRECTIONS] = { "from_guest", "to_guest" };
	enum net_direction way;
	char name[64];
	unsigned int i;

	for (way = 0; way < NET_DIRECTIONS; way++) {
		for (i = 0; i < NET_SIZE_CLASSES; i++) {
			snprintf(name, sizeof(name), "%s_%s", ways[way], class_names[i]);
			emit(arg, name,
					__atomic_load_n(&pair->counters.sizes[way][i],
							__ATOMIC_RELAXED));
		}
	}
}
