/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a suspended ring has left in its inflight region, which is filled here as a back end does: each
 * request that has not come back is noted there, or was not taken.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "frontend.h"
#include "ring_fast.h"

#define F_VERSION_1 (UINT64_C(1) << 32)
#define SIZE 16u
#define PIECES 2u
#define REGION_BYTES 4096u
/* Of those that are added, so many are taken, and of these the first one comes back. */
#define ADDED 5u
#define TAKEN 3u

static struct perf_memory mem;
static struct ring *ring;
static struct frontend fe;
static uint32_t base;
static void *region;

static void
note(uint16_t slot, bool in_flight)
{
	struct inflight_packed *packed = region;
	struct inflight_split *split = region;

	if (!ring->packed) {
		split->desc[ring->slots[slot].head].inflight = in_flight;
		return;
	}
	packed->desc[slot].inflight = in_flight;
	packed->desc[slot].id = slot;
}

/* As the device. */
static void
use(uint16_t slot)
{
	struct packed_desc *desc = ring->desc;
	struct split_used *used = ring->used;

	if (ring->packed) {
		desc[0].id = slot;
		desc[0].flags = packed_used_flags(1);
		return;
	}
	used->ring[0].id = ring->slots[slot].head;
	used->ring[0].len = 0;
	used->idx = 1;
}

/* With pieces of both lengths, so that packed chains are of one and of two descriptors. */
static void
fill_ring(void)
{
	struct ring_piece pieces[PIECES];
	struct ring_used used;

	for (unsigned int i = 0; i < PIECES; i++)
		pieces[i] = (struct ring_piece){ .hva = mem.hva, .bytes = 64 };
	for (uint16_t slot = 0; slot < ADDED; slot++) {
		ring_prepare(ring, slot, pieces, 1 + slot % PIECES);
		ring_add_one(ring, slot, ring->packed);
	}
	ring_publish(ring, ring->packed);
	use(0);
	assert_int_equal(ring_reap(ring, &used, 1, ring->packed), 1);
	for (uint16_t slot = 1; slot < TAKEN; slot++)
		note(slot, true);
}

static void
make_region(void)
{
	struct inflight_split *head;

	fe.inflight_fd = memfd_create("inflight", MFD_CLOEXEC);
	assert_true(fe.inflight_fd >= 0);
	assert_int_equal(ftruncate(fe.inflight_fd, REGION_BYTES), 0);
	region = mmap(NULL, REGION_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fe.inflight_fd, 0);
	assert_true(region != MAP_FAILED);
	head = region;
	head->version = INFLIGHT_VERSION;
	head->desc_num = SIZE;
	fe.inflight.mmap_size_bytes = REGION_BYTES;
}

static int
begin(bool packed)
{
	const struct ring_config config = {
		.name = "test",
		.size = SIZE,
		.pieces = PIECES,
		.poll = true,
		.features = F_VERSION_1 | (packed ? RING_F_PACKED : 0),
	};

	memset(&fe, 0, sizeof(fe));
	fe.config.path = "test";
	fe.config.n_rings = 1;
	fe.bases = &base;
	assert_int_equal(memory_create(ring_memory_bytes(&config) + 4096, false, &mem), 0);
	assert_int_equal(ring_create(&config, &mem, &ring), 0);
	make_region();
	fill_ring();
	/* What has come back and what is noted: a request, and of packed rings a descriptor of it. */
	base = ring_base_ahead(ring, packed ? 3 : 2);
	return 0;
}

static int
begin_split(void **state)
{
	(void)state;
	return begin(false);
}

static int
begin_packed(void **state)
{
	(void)state;
	return begin(true);
}

static int
end(void **state)
{
	(void)state;
	munmap(region, REGION_BYTES);
	frontend_drop_inflight(&fe);
	ring_destroy(ring);
	memory_destroy(&mem);
	return 0;
}

static void
expect(int result)
{
	uint32_t left;

	assert_int_equal(frontend_left(&fe, ring, &left), result);
	if (result == 0)
		assert_int_equal(left, TAKEN - 1);
}

static void
test_what_is_left_is_noted_or_was_not_taken(void **state)
{
	(void)state;
	expect(0);
	/* As after a crash: of a split ring, whoever goes on adds what is noted. */
	base = ring_base(ring);
	expect(ring->packed ? -EPROTO : 0);
}

static void
test_a_request_that_was_taken_and_not_noted(void **state)
{
	(void)state;
	note(1, false);
	expect(-EPROTO);
	base = ring_base(ring);
	expect(-EPROTO);
}

static void
test_a_request_that_was_noted_and_not_taken(void **state)
{
	(void)state;
	note(TAKEN, true);
	expect(-EPROTO);
}

static void
test_one_is_noted_in_place_of_another(void **state)
{
	(void)state;
	note(1, false);
	note(3, true);
	expect(-EPROTO);
}

static void
test_a_base_that_no_ring_of_ours_has(void **state)
{
	(void)state;
	base++;
	expect(-EPROTO);
}

int
main(void)
{
#define BOTH(name) \
	cmocka_unit_test_setup_teardown(name, begin_split, end), \
			cmocka_unit_test_setup_teardown(name, begin_packed, end)
	const struct CMUnitTest tests[] = {
		BOTH(test_what_is_left_is_noted_or_was_not_taken),
		BOTH(test_a_request_that_was_taken_and_not_noted),
		BOTH(test_a_request_that_was_noted_and_not_taken),
		BOTH(test_one_is_noted_in_place_of_another),
		BOTH(test_a_base_that_no_ring_of_ours_has),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
