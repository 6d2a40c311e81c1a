/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The library's figures of a ring: who asks for them never waits for the ring's lcore, and all that the library
 * has counted is told once the lcore has looked.
 */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <rte_mbuf.h>
#include <rte_vhost.h>

#include "../eal_fixture.h"
#include "session.h"

#define FRAME_BYTES 60u

static struct vhub_vring to_guest;
static struct rte_mempool *pool;
static unsigned int n_looks; /* that took the library's lock */

int
rte_vhost_vring_stats_get(int vid, uint16_t queue_id, struct rte_vhost_stat *stats, unsigned int n)
{
	static int (*real)(int, uint16_t, struct rte_vhost_stat *, unsigned int);

	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "rte_vhost_vring_stats_get");
	assert_non_null(real);
	n_looks++;
	return real(vid, queue_id, stats, n);
}

static int
begin_session(void **state)
{
	(void)state;
	session_begin(&session, true, pool, NULL);
	assert_int_equal(session_sync(&session, true), 0);
	n_looks = 0;
	return 0;
}

static void
send_to_guest(void)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);

	assert_non_null(m);
	memset(rte_pktmbuf_append(m, FRAME_BYTES), 0, FRAME_BYTES);
	assert_int_equal(rvhost_to_guest(session.path, &to_guest, &m, 1), 1);
	rte_pktmbuf_free(m);
}

static void
note_packets(void *arg, const char *name, uint64_t value)
{
	if (strcmp(name, "library_good_packets") == 0)
		*(uint64_t *)arg = value;
}

static uint64_t
packets(void)
{
	const unsigned int before = n_looks;
	uint64_t n = UINT64_MAX;

	rvhost_stats_emit(session.path, to_guest.index, "library_", note_packets, &n);
	assert_int_equal(n_looks, before);
	return n;
}

static void
turn(unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		rvhost_stats_turn(session.path, &to_guest);
}

static void
test_what_is_told_was_seen_by_the_lcore(void **state)
{
	(void)state;
	send_to_guest();
	assert_int_equal(n_looks, 0);
	turn(RVHOST_TURNS_OF_A_LOOK);
	assert_int_equal(n_looks, 1);
	assert_int_equal(packets(), 1);
	turn(RVHOST_TURNS_OF_A_LOOK);
	assert_int_equal(packets(), 1);
}

static void
test_what_was_counted_stays_when_the_device_goes(void **state)
{
	(void)state;
	turn(RVHOST_TURNS_OF_A_LOOK);
	send_to_guest();
	assert_int_equal(packets(), 0);
	assert_int_equal(session_sync(&session, true), 0);
	assert_int_equal(packets(), 1);
	session_stop_rings(&session);
	assert_int_equal(packets(), 1);
}

static int
begin(void **state)
{
	(void)state;
	return test_eal_init() == 0 ? packets_pool(63, &pool) : -1;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		SESSION_TEST(test_what_is_told_was_seen_by_the_lcore),
		SESSION_TEST(test_what_was_counted_stays_when_the_device_goes),
	};

	return cmocka_run_group_tests(tests, begin, NULL);
}
