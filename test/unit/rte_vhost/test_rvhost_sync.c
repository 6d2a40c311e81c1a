/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What librte_vhost is told of front ends, and when: an engine copies only in memory that is there, and devices
 * are started one after the other.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include <rte_vhost.h>

#include "session.h"
#include "skeleton.h"

#define N_STARTS 2u
#define LARGE_BYTES \
	(UINT64_C(1) << 45) /* more than a quarter of all addresses, and there for mmap(2) */

/* Shared atomics: threads that start a device of the library's, and how many were seen beside each. */
static uint32_t n_starting, n_beside;

int
rte_vhost_driver_start(const char *path)
{
	static int (*real)(const char *path);
	int ret;

	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "rte_vhost_driver_start");
	__atomic_fetch_add(&n_beside, __atomic_fetch_add(&n_starting, 1, __ATOMIC_RELAXED),
			__ATOMIC_RELAXED);
	/* So long that somebody else comes. */
	usleep(20000);
	ret = real(path);
	__atomic_fetch_sub(&n_starting, 1, __ATOMIC_RELAXED);
	return ret;
}

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
	session_begin(&session, true, pool, skeleton_engine());
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
	session_end(&session);
}

static void *
sync_anew(void *arg)
{
	return session_sync(arg, true) == 0 ? arg : NULL;
}

/* The first ones of the process: it is then that the library makes its thread. */
static void
test_devices_are_started_one_after_the_other(void **state)
{
	struct session sessions[N_STARTS];
	pthread_t threads[N_STARTS];
	void *result;
	unsigned int i;

	(void)state;
	for (i = 0; i < N_STARTS; i++) {
		session_begin(&sessions[i], true, pool, NULL);
	}
	for (i = 0; i < N_STARTS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, sync_anew, &sessions[i]), 0);
	for (i = 0; i < N_STARTS; i++) {
		pthread_join(threads[i], &result);
		assert_ptr_equal(result, &sessions[i]);
	}
	assert_int_equal(n_beside, 0);
	for (i = 0; i < N_STARTS; i++) {
		session_end(&sessions[i]);
	}
}

static uint32_t n_large; /* mappings */

/* In place of libc's, for the library. */
__attribute__((visibility("default"))) void *
mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	if (len > LARGE_BYTES)
		n_large++;
	return (void *)syscall(SYS_mmap, addr, len, prot, flags, fd, offset);
}

/* Of a sparse file, at whose end the region lies. */
static void
test_more_than_the_front_end_s_share_is_not_mapped(void **state)
{
	struct vhub_user_mem_region *desc = &session.rec.regions[0].desc;

	(void)state;
	session_begin(&session, true, pool, NULL);
	desc->mmap_offset_bytes = LARGE_BYTES;
	assert_int_equal(ftruncate(session.rec.regions[0].fd, LARGE_BYTES + MEMORY_BYTES), 0);
	assert_int_equal(session_sync(&session, true), -ENOMEM);
	assert_int_equal(n_large, 0);
	session_end(&session);
}

static int
begin(void **state)
{
	int16_t id;

	(void)state;
	return skeleton_begin(&id) == 0 ? packets_pool(63, &pool) : -1;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_devices_are_started_one_after_the_other),
		cmocka_unit_test(test_an_engine_copies_in_memory_that_is_allocated),
		cmocka_unit_test(test_more_than_the_front_end_s_share_is_not_mapped),
	};

	return cmocka_run_group_tests(tests, begin, NULL);
}
