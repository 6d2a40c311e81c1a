/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Room in tx queues. What a port has sent stays in its descriptors until it needs them again, for ever
 * on a wire that stands still, and is of the pool that all ports share: so the descriptors of all
 * ports together are no more than that pool has mbufs for. Called by setup.c and ethdev.c.
 *
 * A descriptor is counted as an mbuf. Few drivers put a packet of several mbufs into one; for these
 * there is ethdev_reclaim() in queue.c.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#include "ethdev_pvt.h"

/*
 * Of what is left, a port that was given no number takes one part in so many at most: a wire that serves
 * many guests a larger one.
 */
#define PART_OF_WIRE 2u
#define PART_OF_GUEST 4u

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t n_taken; /* by all ports */

/* Without those that are this port's already. */
static uint32_t
left_for(const struct ethdev_port *p)
{
	const uint32_t all = vhub_net_pool_tx_mbufs(), others = n_taken - p->n_tx_room;

	return all - RTE_MIN(all, others);
}

uint16_t
ethdev_room_default(const struct ethdev_port *p)
{
	uint32_t n;

	pthread_mutex_lock(&lock);
	n = left_for(p) / (p->port.is_uplink ? PART_OF_WIRE : PART_OF_GUEST) / p->n_pairs;
	pthread_mutex_unlock(&lock);
	n = RTE_MIN(n, ETHDEV_DEFAULT_TX_DESCRIPTORS);
	return (uint16_t)rte_align32prevpow2(RTE_MAX(n, VHUB_NET_BURST));
}

static int
refuse(const struct ethdev_port *p, uint32_t n_descriptors, uint32_t left, char *error,
		size_t error_len)
{
	const uint32_t most = RTE_MIN(left / p->n_pairs, ETHDEV_MAX_DESCRIPTORS);
	char allowed[64];

	if (most >= VHUB_NET_BURST)
		snprintf(allowed, sizeof(allowed), "txd=%u to %u", VHUB_NET_BURST, most);
	else if (left >= VHUB_NET_BURST)
		snprintf(allowed, sizeof(allowed), "%u queues of txd=%u", left / VHUB_NET_BURST,
				VHUB_NET_BURST);
	else
		snprintf(allowed, sizeof(allowed), "none, until another port has fewer");
	snprintf(error, error_len,
			"txd=%u: %u tx queues of port=%s would keep %u packets, but of the %u that all "
			"ports may keep %u are left; allowed: %s, or more memory for EAL (-m)",
			n_descriptors, p->n_pairs, p->name, n_descriptors * p->n_pairs,
			vhub_net_pool_tx_mbufs(), left, allowed);
	return -EINVAL;
}

int
ethdev_room_take(struct ethdev_port *p, uint16_t n_descriptors, char *error, size_t error_len)
{
	const uint32_t n = (uint32_t)n_descriptors * p->n_pairs;
	uint32_t left;

	pthread_mutex_lock(&lock);
	left = left_for(p);
	if (n <= left) {
		n_taken += n - p->n_tx_room;
		p->n_tx_room = n;
	}
	pthread_mutex_unlock(&lock);
	return n <= left ? 0 : refuse(p, n_descriptors, left, error, error_len);
}

void
ethdev_room_give(struct ethdev_port *p)
{
	pthread_mutex_lock(&lock);
	n_taken -= p->n_tx_room;
	p->n_tx_room = 0;
	pthread_mutex_unlock(&lock);
}
