/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The memory of a front end that has gone while a DMA engine had copies under way, which neither ends them nor
 * can be stopped: it stays mapped, and is written to when the engine can be stopped at last. The device is DPDK's
 * skeleton; what it does with copies is replaced, and rte_dma_stop() is ours.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include <rte_dmadev.h>
#include <rte_mbuf.h>

#include "session.h"
#include "skeleton.h"

#define FRAME_BYTES 200u

/* What is abandoned stays until the process ends, and LeakSanitizer is to know it. */
__attribute__((visibility("default"))) const char *
__lsan_default_suppressions(void);

const char *
__lsan_default_suppressions(void)
{
	return "leak:vhub_mem_map_adopt\n";
}

static struct {
	uint64_t dst[16];
	uint16_t asked, ended;
	bool works;
	bool stops;
} device;

/* In place of dmadev's: one reference to the engine stays, so that only an engine that stands still is stopped. */
int
rte_dma_stop(int16_t dev_id)
{
	(void)dev_id;
	return device.stops ? 0 : -EIO;
}

static int
device_copy(void *private, uint16_t channel, rte_iova_t src, rte_iova_t dst, uint32_t bytes,
		uint64_t flags)
{
	(void)private;
	(void)channel;
	(void)flags;
	assert_true(device.asked < RTE_DIM(device.dst));
	device.dst[device.asked] = dst;
	if (device.works)
		memcpy((void *)(uintptr_t)dst, (const void *)(uintptr_t)src, bytes);
	return device.asked++;
}

static uint16_t
device_completed(void *private, uint16_t channel, const uint16_t max, uint16_t *last, bool *failed)
{
	uint16_t n = device.works ? RTE_MIN((uint16_t)(device.asked - device.ended), max) : 0;

	(void)private;
	(void)channel;
	*failed = false;
	device.ended += n;
	*last = (uint16_t)(device.ended - 1);
	return n;
}

static uint16_t
device_burst_capacity(const void *private, uint16_t channel)
{
	(void)private;
	(void)channel;
	return (uint16_t)(RTE_DIM(device.dst) - device.asked);
}

/* ---- a front end ---- */

static struct rte_mempool *pool;
static int16_t id;

static int
begin_session(void **state)
{
	(void)state;
	memset(&device, 0, sizeof(device));
	session_begin(&session, true, pool, skeleton_engine());
	assert_int_equal(session_sync(&session, true), 0);
	return 0;
}

static void
send_to_guest(void)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);

	assert_non_null(m);
	memset(rte_pktmbuf_append(m, FRAME_BYTES), 0x5a, FRAME_BYTES);
	assert_int_equal(rvhost_dma_to_guest(session.path, 0, &m, 1), 1);
	assert_true(device.asked > 0);
}

/* Where the engine writes to. */
static bool
is_mapped(void)
{
	const uintptr_t page = device.dst[0] & ~(uintptr_t)0xfff;

	return msync((void *)page, 0x1000, MS_ASYNC) == 0;
}

static bool
has_arrived(void)
{
	const uint8_t *frame = session.memory + BUFFER_AT;
	unsigned int n = 0;

	for (unsigned int i = 0; i < BUFFER_BYTES; i++)
		n += frame[i] == 0x5a;
	return n == FRAME_BYTES;
}

static void
test_memory_is_unmapped_when_copies_have_ended(void **state)
{
	(void)state;
	device.works = true;
	send_to_guest();
	assert_true(is_mapped());
	session_stop_rings(&session);
	assert_false(is_mapped());
	assert_true(has_arrived());
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
}

/* One of two rings cannot be started: neither runs any more, and what the other copied has ended. */
static void
test_a_session_that_fails_ends_all_copies(void **state)
{
	(void)state;
	device.works = true;
	session.rec.vrings[1].started = false;
	assert_int_equal(session_sync(&session, false), 0);
	send_to_guest();
	session.rec.vrings[1].started = true;
	session.rec.vrings[1].size = RING_SIZE - 1;
	assert_int_not_equal(session_sync(&session, false), 0);
	assert_int_equal(session.path->fd, -1);
	assert_false(is_mapped());
	assert_true(has_arrived());
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
	/* In a session with a dirty log lcores copy. */
	session.rec.vrings[1].size = RING_SIZE;
	session.rec.features |= VHUB_F(LOG_ALL);
	assert_int_equal(session_sync(&session, true), 0);
	for (unsigned int i = 0; i < N_RINGS; i++) {
		assert_true(session.path->running[i]);
		assert_false(session.path->ring_dma[i].on);
	}
	session_stop_rings(&session);
}

static void
test_memory_stays_while_a_copy_may_come(void **state)
{
	uint16_t last;
	bool failed;

	(void)state;
	send_to_guest();
	session_stop_rings(&session);
	assert_int_equal(session.path->n_guards, 0);
	assert_true(is_mapped());
	assert_false(has_arrived());
	/* The next turn of some other port's. */
	device.stops = true;
	while (rte_dma_completed(id, RVHOST_ENGINE_CHANNEL, 32, &last, &failed) == 0)
		;
	assert_true(has_arrived());
}

static int
begin(void **state)
{
	(void)state;
	if (skeleton_begin(&id) != 0)
		return -1;
	rte_dma_fp_objs[id].copy = device_copy;
	rte_dma_fp_objs[id].completed = device_completed;
	rte_dma_fp_objs[id].burst_capacity = device_burst_capacity;
	skeleton_engine();
	return packets_pool(63, &pool);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		SESSION_TEST(test_memory_is_unmapped_when_copies_have_ended),
		SESSION_TEST(test_a_session_that_fails_ends_all_copies),
		SESSION_TEST(test_memory_stays_while_a_copy_may_come),
	};

	return cmocka_run_group_tests(tests, begin, NULL);
}
