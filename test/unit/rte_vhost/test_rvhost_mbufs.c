/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a packet from a guest takes of the mbufs of all ports, however long the guest says that it is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <rte_mbuf.h>

#include "../eal_fixture.h"
#include "session.h"

#define BURST 64u
#define N_MBUFS 1023u
#define HEADER_BYTES 12u
#define LONGEST_BYTES (65535u + 22u)
#define FAR_TOO_LONG (MEMORY_BYTES - BUFFER_AT - BUFFER_BYTES) /* some 950 mbufs */
#define UNTOUCHED 0xa5

static struct vhub_vring from_guest = { .index = 1 };
static struct rte_mempool *pool;

static void
mark(struct rte_mempool *mp, void *arg, void *mbuf, unsigned int i)
{
	(void)mp;
	(void)arg;
	(void)i;
	*rte_pktmbuf_mtod((struct rte_mbuf *)mbuf, uint8_t *) = UNTOUCHED;
}

static void
count_touched(struct rte_mempool *mp, void *arg, void *mbuf, unsigned int i)
{
	(void)mp;
	(void)i;
	*(unsigned int *)arg += *rte_pktmbuf_mtod((struct rte_mbuf *)mbuf, uint8_t *) != UNTOUCHED;
}

static int
begin_session(void **state)
{
	(void)state;
	session_begin(&session, false, pool, NULL);
	return 0;
}

static uint16_t
take(struct rte_mbuf **pkts, uint16_t *dropped)
{
	return rvhost_from_guest(session.path, &from_guest, pkts, BURST, true, dropped);
}

static void
test_a_packet_that_is_far_too_long_takes_few_and_is_dropped(void **state)
{
	struct rte_mbuf *pkts[BURST];
	unsigned int n_touched = 0;
	uint16_t dropped;

	(void)state;
	session_offer(&session, 1, FAR_TOO_LONG);
	assert_int_equal(session_sync(&session, true), 0);
	rte_mempool_obj_iter(pool, mark, NULL);
	assert_int_equal(take(pkts, &dropped), 0);
	assert_int_equal(dropped, 1);
	rte_mempool_obj_iter(pool, count_touched, &n_touched);
	assert_in_range(n_touched, 1, RING_SIZE * RVHOST_PACKET_MBUFS);
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
	/* Once. */
	assert_int_equal(take(pkts, &dropped), 0);
	assert_int_equal(dropped, 0);
}

static void
test_the_longest_packets_are_taken_whole(void **state)
{
	struct rte_mbuf *pkts[BURST];
	uint16_t dropped;

	(void)state;
	session_offer(&session, 1, HEADER_BYTES + LONGEST_BYTES);
	assert_int_equal(session_sync(&session, true), 0);
	assert_int_equal(take(pkts, &dropped), 1);
	assert_int_equal(dropped, 0);
	assert_int_equal(pkts[0]->pkt_len, LONGEST_BYTES);
	assert_int_equal(pkts[0]->nb_segs, RVHOST_PACKET_MBUFS);
	rte_pktmbuf_free(pkts[0]);
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
}

static int
begin(void **state)
{
	(void)state;
	return test_eal_init() == 0 ? packets_pool(N_MBUFS, &pool) : -1;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		SESSION_TEST(test_a_packet_that_is_far_too_long_takes_few_and_is_dropped),
		SESSION_TEST(test_the_longest_packets_are_taken_whole),
	};

	return cmocka_run_group_tests(tests, begin, NULL);
}
