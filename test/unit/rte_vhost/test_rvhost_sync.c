/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What librte_vhost is told of a front end, and what not: an engine copies only in memory that is there.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "session.h"
#include "skeleton.h"

static struct session session;

static struct rte_mempool *pool;

static blkcnt_t
blocks(void)
{
	struct stat st;

	assert_int_equal(fstat(session.rec.regions[0].fd, &st), 0);
	return st.st_blocks;
}

/* With an engine, for a guest that is trusted. */
static void
begin_session(void)
{
	struct rvhost_dma *dma;
	char error[256];

	session_describe(&session);
	assert_int_equal(rvhost_dma_get(DEVICE, &dma, error, sizeof(error)), 0);
	assert_int_equal(rvhost_create(&session.port, N_RINGS, false, true, pool, dma,
					 &session.path),
			0);
}

static void
check_copies_by_dma(bool expected)
{
	const blkcnt_t before = blocks();

	assert_int_equal(session_sync(&session, true), 0);
	for (unsigned int i = 0; i < N_RINGS; i++) {
		assert_true(session.path->running[i]);
		assert_int_equal(session.path->ring_dma[i].on, expected);
	}
	assert_int_equal(blocks(), before);
}

static void
test_an_engine_copies_in_memory_that_is_allocated(void **state)
{
	const int hole = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	int fd;

	(void)state;
	begin_session();
	fd = session.rec.regions[0].fd;
	check_copies_by_dma(true);
	assert_int_equal(fallocate(fd, hole, MEMORY_BYTES / 2, MEMORY_BYTES / 2), 0);
	check_copies_by_dma(false);
	assert_int_equal(fallocate(fd, 0, 0, MEMORY_BYTES), 0);
	check_copies_by_dma(true);
	/* What lies before the region is mapped as well. */
	assert_int_equal(ftruncate(fd, MEMORY_BYTES + 0x1000), 0);
	check_copies_by_dma(false);
	session_stop_rings(&session);
	session_end(&session);
}

static int
begin(void **state)
{
	int16_t id;

	(void)state;
	if (skeleton_begin(&id) != 0)
		return -1;
	pool = rte_pktmbuf_pool_create("pool", 63, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	return pool != NULL ? 0 : -1;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_engine_copies_in_memory_that_is_allocated),
	};

	return cmocka_run_group_tests(tests, begin, NULL);
}
