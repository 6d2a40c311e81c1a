/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzzes the commands of a port's control queue (net/ctrl_commands.c), and what becomes of a frame by the
 * rules that they make. Each descriptor is an allocation of just its size, for the address sanitiser.
 *
 * Input:
 *   piece    1 byte: of a descriptor, at most
 *   command  1 byte: how long it is, then its bytes; again and again
 *   frame    behind a command of length 0, the rest
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

#define N_PAIRS 4u
#define MAX_PIECES 256u

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct vhub_net_driver_ops driver = { .name = "none" };

static void
check_list(const struct net_mac_list *list)
{
	MUST(list->n <= NET_TABLE_MACS && (!list->overflown || list->n == 0));
}

static void
check_rules(const struct net_rules *rules)
{
	uint32_t i;

	check_list(&rules->uni);
	check_list(&rules->multi);
	MUST(rules->n_pairs >= 1 && rules->n_pairs <= N_PAIRS);
	MUST((rules->takes & ~VHUB_NET_TAKES_ALL) == 0);
	MUST((rules->rss.types & ~(uint32_t)NET_RSS_TYPES) == 0);
	if (!rules->rss.on)
		return;
	MUST(rules->rss.mask < NET_RSS_TABLE && rules->rss.unclassified < rules->n_pairs);
	for (i = 0; i <= rules->rss.mask; i++)
		MUST(rules->rss.table[i] < rules->n_pairs);
}

/* Commands of `size` bytes in descriptors of up to `piece`. */
static void
run_command(struct net_dev *dev, struct net_rules *rules, const uint8_t *data, size_t size,
		size_t piece)
{
	struct net_rules next = *rules;
	struct iovec iov[MAX_PIECES];
	uint32_t n = 0, i;
	size_t at;

	for (at = 0; at < size; at += iov[n++].iov_len) {
		iov[n].iov_len = RTE_MIN(piece, size - at);
		iov[n].iov_base = malloc(iov[n].iov_len);
		MUST(iov[n].iov_base != NULL);
		memcpy(iov[n].iov_base, data + at, iov[n].iov_len);
	}
	if (net_ctrl_command(dev, iov, n, &next) == VIRTIO_NET_OK) {
		check_rules(&next);
		MUST(dev->ctrl.n_result <= NET_CTRL_MAX_RESULT);
		*rules = next;
	}
	for (i = 0; i < n; i++)
		free(iov[i].iov_base);
}

static void
run_frame(const struct net_rules *rules, const uint8_t *data, size_t size)
{
	uint8_t *frame = malloc(size);
	uint16_t report;
	uint32_t hash;

	MUST(frame != NULL);
	memcpy(frame, data, size);
	MUST(net_rules_admit(rules, frame, (uint32_t)size) || !rules->promisc);
	hash = net_rss_hash(&rules->rss, frame, (uint32_t)size, &report);
	MUST(report <= VIRTIO_NET_HASH_REPORT_UDPv6);
	MUST(report != VIRTIO_NET_HASH_REPORT_NONE || hash == 0);
	free(frame);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct net_rules rules = { .promisc = true, .n_pairs = 1, .takes = VHUB_NET_TAKES_ALL };
	struct net_dev *dev;
	size_t piece, dev_bytes, at = 1;

	if (size == 0)
		return 0;
	dev_bytes = RTE_ALIGN_CEIL(sizeof(*dev) + N_PAIRS * sizeof(struct net_pair),
			RTE_CACHE_LINE_SIZE);
	dev = aligned_alloc(RTE_CACHE_LINE_SIZE, dev_bytes);
	MUST(dev != NULL);
	memset(dev, 0, dev_bytes);
	dev->driver = &driver;
	dev->params.n_pairs = N_PAIRS;
	dev->ctrl.features = UINT64_MAX;
	piece = RTE_MAX(data[0], 1);
	while (at < size && data[at] != 0) {
		size_t bytes = RTE_MIN(data[at], size - at - 1);

		run_command(dev, &rules, data + at + 1, bytes, piece);
		at += 1 + bytes;
	}
	if (at + 1 + RTE_ETHER_HDR_LEN <= size)
		run_frame(&rules, data + at + 1, size - at - 1);
	free(dev);
	return 0;
}
