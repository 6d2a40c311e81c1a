/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How long the frames of a port are, in the classes that DPDK's vhost library and RMON count. Called by
 * services.c for each burst of a port that wants them; shown by stats.c.
 *
 * A burst is counted by comparing all of its lengths with what ends each class, several at once: lengths
 * of real traffic are mixed, and a branch for each would be taken wrong.
 */
#include <stdio.h>

#include "net_pvt.h"
#include "services.h"

static const char *const class_names[NET_SIZE_CLASSES] = { "undersize_packets", "size_64_packets",
	"size_65_127_packets", "size_128_255_packets", "size_256_511_packets",
	"size_512_1023_packets", "size_1024_1518_packets", "size_1519_max_packets" };

/*
 * How many are longer than the longest of each class, in the order of class_names. The sums are variables
 * of their own, and the loop has no end but the fill: so the compiler makes vectors of them.
 */
static __rte_always_inline void
count_longer(const struct net_lengths *lengths, uint32_t longer[NET_SIZE_CLASSES])
{
	const unsigned int n = RTE_ALIGN_CEIL(lengths->n, 4u);
	uint32_t than_63 = 0, than_64 = 0, than_127 = 0, than_255 = 0;
	uint32_t than_511 = 0, than_1023 = 0, than_1518 = 0;
	unsigned int i;

	for (i = 0; i < n; i++) {
		const int32_t bytes = lengths->bytes[i];

		than_63 += bytes > 63;
		than_64 += bytes > 64;
		than_127 += bytes > 127;
		than_255 += bytes > 255;
		than_511 += bytes > 511;
		than_1023 += bytes > 1023;
		than_1518 += bytes > 1518;
	}
	longer[0] = than_63;
	longer[1] = than_64;
	longer[2] = than_127;
	longer[3] = than_255;
	longer[4] = than_511;
	longer[5] = than_1023;
	longer[6] = than_1518;
	longer[7] = 0;
}

void
net_sizes_count(struct net_pair *pair, enum net_direction direction,
		const struct net_lengths *lengths)
{
	uint64_t *counters = pair->counters.sizes[direction];
	uint32_t longer[NET_SIZE_CLASSES], left = lengths->n;
	unsigned int i;

	count_longer(lengths, longer);
	for (i = 0; left != 0; i++) {
		vhub_count(&counters[i], left - longer[i]);
		left = longer[i];
	}
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
