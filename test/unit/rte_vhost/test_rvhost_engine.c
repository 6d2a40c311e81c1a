/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What librte_vhost sees of a DMA engine that fails copies, ends none or takes none: one that never fails.
 * The device is DPDK's skeleton; what it does with copies is replaced by an engine that errs as told here.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <rte_common.h>
#include <rte_dmadev.h>

#include "engine.h"
#include "skeleton.h"

#define N_COPIES 8u
#define BYTES 100u
#define RING 256u

/* An engine: what was asked of it, up to where it has come, and which copies it fails. */
static struct {
	struct {
		const void *src;
		void *dst;
		uint32_t bytes;
	} copies[RING];
	uint16_t asked, made, taken;
	uint32_t failing; /* bits of the first copies */
	bool leaves_out_failed;
	bool takes_none;
} device;

static bool
fails(uint16_t index)
{
	return index < 32 && (device.failing >> index & 1) != 0;
}

static int
device_copy(void *private, uint16_t channel, rte_iova_t src, rte_iova_t dst, uint32_t bytes,
		uint64_t flags)
{
	assert_ptr_equal(private, &device);
	assert_int_equal(channel, 0);
	(void)flags;
	if (device.takes_none)
		return -EIO;
	device.copies[device.asked % RING].src = (const void *)(uintptr_t)src;
	device.copies[device.asked % RING].dst = (void *)(uintptr_t)dst;
	device.copies[device.asked % RING].bytes = bytes;
	return device.asked++;
}

/* It works. */
static void
make(uint16_t n)
{
	for (; n > 0; n--, device.made++) {
		if (!fails(device.made))
			memcpy(device.copies[device.made % RING].dst,
					device.copies[device.made % RING].src,
					device.copies[device.made % RING].bytes);
	}
}

static uint16_t
device_completed(void *private, uint16_t channel, const uint16_t max, uint16_t *last, bool *failed)
{
	uint16_t n = 0;

	(void)private;
	(void)channel;
	while (device.leaves_out_failed && device.taken != device.made && fails(device.taken)) {
		device.taken++;
		*failed = true;
	}
	for (; n < max && device.taken != device.made; n++, device.taken++) {
		if (fails(device.taken)) {
			*failed = true;
			break;
		}
	}
	*last = (uint16_t)(device.taken - 1);
	return n;
}

static uint16_t
device_completed_status(void *private, uint16_t channel, const uint16_t max, uint16_t *last,
		enum rte_dma_status_code *status)
{
	uint16_t n = 0;

	(void)private;
	(void)channel;
	for (; n < max && device.taken != device.made; n++, device.taken++)
		status[n] = fails(device.taken) ? RTE_DMA_STATUS_BUS_ERROR :
						  RTE_DMA_STATUS_SUCCESSFUL;
	*last = (uint16_t)(device.taken - 1);
	return n;
}

static uint16_t
device_burst_capacity(const void *private, uint16_t channel)
{
	(void)private;
	(void)channel;
	return device.takes_none ? 0 : RING - 1;
}

/* ---- with an engine of ours around it ---- */

static struct rvhost_dma *engine;
static int16_t id;
static uint8_t from[N_COPIES][BYTES], to[N_COPIES][BYTES];

static int
open_engine(void **state)
{
	char error[256];

	(void)state;
	memset(&device, 0, sizeof(device));
	memset(to, 0, sizeof(to));
	memset(from, 0x5a, sizeof(from));
	return rvhost_dma_get(DEVICE, &engine, error, sizeof(error));
}

static int
close_engine(void **state)
{
	(void)state;
	rvhost_dma_put(engine);
	assert_ptr_equal(rte_dma_fp_objs[id].dev_private, &device);
	return 0;
}

static void
ask(uint16_t first)
{
	for (uint16_t i = 0; i < N_COPIES; i++) {
		from[i][0] = (uint8_t)(first + i);
		assert_true(rte_dma_burst_capacity(id, 0) > 0);
		assert_int_equal(rte_dma_copy(id, 0, (uintptr_t)from[i], (uintptr_t)to[i], BYTES,
						 0),
				(uint16_t)(first + i));
	}
	rte_dma_submit(id, 0);
}

/* All that were asked for have ended, and are there. */
static void
expect_all(uint16_t first)
{
	uint16_t n = 0, last, got;
	bool failed;

	while (n < N_COPIES) {
		got = rte_dma_completed(id, 0, 3, &last, &failed);
		assert_false(failed);
		assert_true(got <= 3);
		n += got;
		assert_int_equal(last, (uint16_t)(first + n - 1));
	}
	assert_memory_equal(to, from, sizeof(to));
	assert_int_equal(rte_dma_completed(id, 0, 3, &last, &failed), 0);
}

static void
test_nothing_fails(void **state)
{
	(void)state;
	for (uint16_t turn = 0; turn < 5; turn++) {
		ask(turn * N_COPIES);
		make(N_COPIES);
		expect_all(turn * N_COPIES);
	}
	assert_int_equal(rvhost_dma_failed(engine), 0);
}

/* The first one, the last one, some in a row. */
#define FAILING 0x9cu
#define FAILING_FIRST 0x81u

static void
test_copies_that_failed_are_made(void **state)
{
	(void)state;
	device.failing = FAILING | FAILING_FIRST << 8;
	for (uint16_t turn = 0; turn < 3; turn++) {
		ask(turn * N_COPIES);
		make(N_COPIES);
		expect_all(turn * N_COPIES);
	}
	assert_int_equal(rvhost_dma_failed(engine), __builtin_popcount(device.failing));
	assert_int_equal(device.asked, 3 * N_COPIES);
}

static void
test_copies_that_a_driver_leaves_out_are_made(void **state)
{
	(void)state;
	device.leaves_out_failed = true;
	device.failing = FAILING_FIRST << 8 & ~0x8000u;
	for (uint16_t turn = 0; turn < 3; turn++) {
		ask(turn * N_COPIES);
		make(N_COPIES);
		expect_all(turn * N_COPIES);
	}
	assert_int_equal(rvhost_dma_failed(engine), 1);
}

static void
test_an_engine_that_stands_still_is_stopped(void **state)
{
	(void)state;
	ask(0);
	make(2);
	expect_all(0);
	assert_int_equal(rvhost_dma_failed(engine), N_COPIES - 2);
	ask(N_COPIES);
	expect_all(N_COPIES);
	assert_int_equal(device.asked, N_COPIES);
}

static void
test_an_engine_that_takes_nothing_is_stopped(void **state)
{
	(void)state;
	ask(0);
	make(N_COPIES);
	expect_all(0);
	device.takes_none = true;
	ask(N_COPIES);
	expect_all(N_COPIES);
	assert_int_equal(device.asked, N_COPIES);
}

/* Indexes are of 16 bits. */
static void
test_indexes_go_round(void **state)
{
	(void)state;
	for (uint32_t turn = 0; turn < 3 * 65536 / N_COPIES; turn++) {
		ask((uint16_t)(turn * N_COPIES));
		make(N_COPIES);
		expect_all((uint16_t)(turn * N_COPIES));
	}
	assert_int_equal(rvhost_dma_failed(engine), 0);
}

static int
begin(void **state)
{
	(void)state;
	if (skeleton_begin(&id) != 0)
		return -1;
	rte_dma_fp_objs[id].dev_private = &device;
	rte_dma_fp_objs[id].copy = device_copy;
	rte_dma_fp_objs[id].completed = device_completed;
	rte_dma_fp_objs[id].completed_status = device_completed_status;
	rte_dma_fp_objs[id].burst_capacity = device_burst_capacity;
	return 0;
}

int
main(void)
{
#define ENGINE_TEST(name) cmocka_unit_test_setup_teardown(name, open_engine, close_engine)
	const struct CMUnitTest tests[] = {
		ENGINE_TEST(test_nothing_fails),
		ENGINE_TEST(test_copies_that_failed_are_made),
		ENGINE_TEST(test_copies_that_a_driver_leaves_out_are_made),
		ENGINE_TEST(test_an_engine_that_stands_still_is_stopped),
		ENGINE_TEST(test_an_engine_that_takes_nothing_is_stopped),
		ENGINE_TEST(test_indexes_go_round),
	};

	return cmocka_run_group_tests(tests, begin, NULL);
}
