/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Translation, at the edges and against a model that looks at every region and counts byte by byte where the
 * arithmetic could go wrong.
 */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "mem_fixture.h"

#define UVA UINT64_C(0x7f0000000000)

static struct vhub_mem_table *
build(const struct vhub_user_mem_region *descs, unsigned int n)
{
	struct vhub_mem_table *table;
	int fds[VHUB_MAX_MEM_SLOTS];
	uint64_t end = 0;
	int fd;

	for (unsigned int i = 0; i < n; i++) {
		if (descs[i].mmap_offset_bytes + descs[i].size_bytes > end)
			end = descs[i].mmap_offset_bytes + descs[i].size_bytes;
	}
	fd = test_memfd(end, 0);
	for (unsigned int i = 0; i < n; i++)
		fds[i] = fd;
	assert_int_equal(vhub_mem_table_build(NULL, descs, fds, n, NULL, &table), 0);
	close(fd);
	return table;
}

static uint64_t
left_at(const struct vhub_mem_table *table, uint64_t gpa, uint64_t len)
{
	struct vhub_mem_cache cache = { NULL };

	return vhub_mem_gpa_to_hva(table, &cache, gpa, &len, VHUB_MEM_READ) != NULL ? len : 0;
}

static void
test_edges_of_regions(void **state)
{
	const struct vhub_user_mem_region descs[] = {
		test_desc(0x1000, 0x2000, UVA, 0),
		test_desc(0x3000, 0x1000, UVA + 0x10000,
				0x2000), /* goes on at once in gpa, not in hva */
		test_desc(0x8000, 1, UVA + 0x20000, 0x3000),
	};
	struct vhub_mem_table *table = build(descs, 3);

	(void)state;
	assert_int_equal(left_at(table, 0xfff, 1), 0);
	assert_int_equal(left_at(table, 0, UINT64_MAX), 0);
	assert_int_equal(left_at(table, 0x1000, 1), 1);
	assert_int_equal(left_at(table, 0x1000, 0), 0);
	assert_int_equal(left_at(table, 0x1000, 0x2000), 0x2000);
	assert_int_equal(left_at(table, 0x1000, 0x2001), 0x2000);
	assert_int_equal(left_at(table, 0x1000, UINT64_MAX), 0x2000);
	assert_int_equal(left_at(table, 0x2fff, 2), 1);
	assert_int_equal(left_at(table, 0x3000, 2), 2);
	assert_int_equal(left_at(table, 0x3fff, 2), 1);
	assert_int_equal(left_at(table, 0x4000, 1), 0);
	assert_int_equal(left_at(table, 0x8000, 9), 1);
	assert_int_equal(left_at(table, 0x8001, 1), 0);
	assert_int_equal(left_at(table, UINT64_MAX, 1), 0);

	assert_ptr_equal(vhub_mem_uva_to_hva(table, UVA, 0x2000), table->regions[0].hva);
	assert_null(vhub_mem_uva_to_hva(table, UVA, 0x2001));
	assert_null(vhub_mem_uva_to_hva(table, UVA, UINT64_MAX));
	assert_null(vhub_mem_uva_to_hva(table, UVA, 0));
	assert_null(vhub_mem_uva_to_hva(table, UVA - 1, 1));
	assert_ptr_equal(vhub_mem_uva_to_hva(table, UVA + 0x1fff, 1),
			table->regions[0].hva + 0x1fff);
	assert_null(vhub_mem_uva_to_hva(table, UVA + 0x1fff, 2));
	assert_null(vhub_mem_uva_to_hva(table, UVA + 0x2000, 1));

	assert_int_equal(vhub_mem_hva_to_gpa(table, table->regions[2].hva), 0x8000);
	assert_true(vhub_mem_hva_to_gpa(table, table->regions[2].hva + 1) == UINT64_MAX);
	assert_true(vhub_mem_hva_to_gpa(table, NULL) == UINT64_MAX);
	vhub_mem_table_put(table);
}

static void
test_region_that_ends_at_2_64(void **state)
{
	const uint64_t top = UINT64_MAX - 2 * PAGE + 1;
	const struct vhub_user_mem_region desc = test_desc(top, 2 * PAGE, top, 0);
	struct vhub_mem_table *table = build(&desc, 1);

	(void)state;
	assert_int_equal(left_at(table, top, 2 * PAGE + 1), 2 * PAGE);
	assert_int_equal(left_at(table, UINT64_MAX, 1), 1);
	assert_int_equal(left_at(table, UINT64_MAX, UINT64_MAX), 1);
	assert_int_equal(left_at(table, top - 1, 1), 0);
	assert_int_equal(left_at(table, 0, 1), 0);
	assert_ptr_equal(vhub_mem_uva_to_hva(table, UINT64_MAX, 1),
			table->regions[0].hva + 2 * PAGE - 1);
	assert_null(vhub_mem_uva_to_hva(table, UINT64_MAX, 2));
	assert_null(vhub_mem_uva_to_hva(table, 0, 1));
	assert_ptr_equal(vhub_mem_uva_to_hva(table, top, 2 * PAGE), table->regions[0].hva);
	vhub_mem_table_put(table);
}

/* The cache answers for its own region only, and learns. */
static void
test_cache_follows(void **state)
{
	const struct vhub_user_mem_region descs[] = {
		test_desc(0, PAGE, UVA, 0),
		test_desc(0x10000, PAGE, UVA + 0x10000, PAGE),
	};
	struct vhub_mem_table *table = build(descs, 2);
	struct vhub_mem_cache cache = { NULL };
	uint64_t len = 1;

	(void)state;
	assert_ptr_equal(vhub_mem_gpa_to_hva(table, &cache, 0x10001, &len, VHUB_MEM_WRITE),
			table->regions[1].hva + 1);
	assert_ptr_equal(cache.last, &table->regions[1]);
	assert_null(vhub_mem_gpa_to_hva(table, &cache, 0x20000, &len, VHUB_MEM_WRITE));
	assert_null(vhub_mem_gpa_to_hva(table, &cache, 0xffff, &len, VHUB_MEM_WRITE));
	assert_ptr_equal(cache.last, &table->regions[1]);
	assert_ptr_equal(vhub_mem_gpa_to_hva(table, &cache, 2, &len, VHUB_MEM_WRITE),
			table->regions[0].hva + 2);
	assert_ptr_equal(cache.last, &table->regions[0]);
	vhub_mem_table_put(table);
}

/* ---- against the model ---- */

/* True when the byte at `addr` is in [start, start + size): no sum that could go round. */
static bool
model_has(uint64_t start, uint64_t size, uint64_t addr)
{
	return addr >= start && addr <= start + (size - 1);
}

static const struct vhub_mem_region *
model_find_gpa(const struct vhub_mem_table *table, uint64_t gpa)
{
	for (uint32_t i = 0; i < table->n_regions; i++) {
		if (model_has(table->regions[i].gpa, table->regions[i].size_bytes, gpa))
			return &table->regions[i];
	}
	return NULL;
}

static void
check_gpa(const struct vhub_mem_table *table, struct vhub_mem_cache *cache, uint64_t gpa,
		uint64_t len)
{
	const struct vhub_mem_region *r = model_find_gpa(table, gpa);
	uint8_t *want = NULL;
	uint64_t want_len = 0;
	void *got;

	if (r != NULL && len != 0) {
		want = r->hva;
		for (uint64_t at = r->gpa; at != gpa; at++)
			want++;
		want_len = 1;
		while (want_len < len && want_len < 0x4000 && gpa + want_len != 0 &&
				model_has(r->gpa, r->size_bytes, gpa + want_len))
			want_len++;
	}
	got = vhub_mem_gpa_to_hva(table, cache, gpa, &len, VHUB_MEM_READ);
	assert_ptr_equal(got, want);
	assert_ptr_equal(vhub_mem_find(table, gpa), r);
	if (want != NULL) {
		assert_int_equal(len, want_len);
		assert_true(vhub_mem_hva_to_gpa(table, got) == gpa);
	}
}

static void
check_uva(const struct vhub_mem_table *table, uint64_t uva, uint64_t len)
{
	void *want = NULL;

	for (uint32_t i = 0; i < table->n_regions; i++) {
		const struct vhub_mem_region *r = &table->regions[i];
		bool all = len != 0;

		for (uint64_t k = 0; all && k < len && k <= 0x4000; k++)
			all = (k == 0 || uva + k != 0) && model_has(r->uva, r->size_bytes, uva + k);
		if (all)
			want = r->hva + (uva - r->uva);
	}
	assert_ptr_equal(vhub_mem_uva_to_hva(table, uva, len), want);
}

static uint64_t
pick_len(uint64_t *seed)
{
	switch (test_random_below(seed, 8)) {
	case 0:
		return 0;
	case 1:
		return UINT64_MAX;
	case 2:
		return test_random(seed);
	default:
		return test_random_below(seed, 0x1800);
	}
}

/* Regions of random sizes up to 4 KiB with random gaps, often none, from a random start or up to the very end. */
static unsigned int
pick_regions(uint64_t *seed, struct vhub_user_mem_region *descs)
{
	unsigned int n = 1 + (unsigned int)test_random_below(seed, 24);
	uint64_t gpa = test_random_below(seed, 3) == 0 ?
			0 :
			test_random(seed) >> test_random_below(seed, 40);
	uint64_t uva = UVA;
	uint64_t offset = 0;

	if (gpa > UINT64_MAX - 0x100000)
		gpa = UINT64_MAX - 0x100000;
	for (unsigned int i = 0; i < n; i++) {
		uint64_t size = 1 + test_random_below(seed, 0x1000);

		gpa += test_random_below(seed, 2) * test_random_below(seed, 0x1000);
		uva += test_random_below(seed, 2) * test_random_below(seed, 0x1000);
		descs[i] = test_desc(gpa, size, uva, offset);
		gpa += size;
		uva += size;
		offset += test_random_below(seed, size + 1);
	}
	if (test_random_below(seed, 4) == 0)
		descs[n - 1].guest_addr_gpa = UINT64_MAX - descs[n - 1].size_bytes + 1;
	if (test_random_below(seed, 4) == 0)
		descs[n - 1].user_addr_uva = UINT64_MAX - descs[n - 1].size_bytes + 1;
	/* The wire knows no order. */
	for (unsigned int i = 0; i < n; i++) {
		unsigned int j = (unsigned int)test_random_below(seed, n);
		struct vhub_user_mem_region swap = descs[i];

		descs[i] = descs[j];
		descs[j] = swap;
	}
	return n;
}

static void
test_random_tables_against_model(void **state)
{
	struct vhub_user_mem_region descs[32];
	struct test_usage before;
	uint64_t seed = 20240229;

	(void)state;
	test_usage_take(&before);
	for (int round = 0; round < 100; round++) {
		unsigned int n = pick_regions(&seed, descs);
		struct vhub_mem_table *table = build(descs, n);
		struct vhub_mem_cache cache = { NULL };

		for (int i = 0; i < 300; i++) {
			const struct vhub_user_mem_region *d = &descs[test_random_below(&seed, n)];
			uint64_t delta = test_random_below(&seed, d->size_bytes + 32) - 16;

			check_gpa(table, &cache, d->guest_addr_gpa + delta, pick_len(&seed));
			check_uva(table, d->user_addr_uva + delta, pick_len(&seed));
			check_gpa(table, &cache, test_random(&seed), pick_len(&seed));
			check_uva(table, test_random(&seed), pick_len(&seed));
		}
		vhub_mem_table_put(table);
	}
	test_usage_check(&before);
}

/* Many regions, in an order of host addresses that is not the guest's: all edges, both ways. */
static void
test_way_back_in_large_tables(void **state)
{
	static struct vhub_user_mem_region descs[VHUB_MAX_MEM_SLOTS];
	uint64_t seed = 11;

	(void)state;
	for (unsigned int n = 1; n <= VHUB_MAX_MEM_SLOTS; n = n < 12 ? n + 1 : n * 2 + 1) {
		struct vhub_mem_table *table;

		for (unsigned int i = 0; i < n; i++)
			descs[i] = test_desc(i * 4 * PAGE, 1 + test_random_below(&seed, 2 * PAGE),
					UVA + i * 4 * PAGE, test_random_below(&seed, PAGE));
		table = build(descs, n);
		for (uint32_t i = 0; i < n; i++) {
			const struct vhub_mem_region *r = &table->regions[i];

			assert_true(vhub_mem_hva_to_gpa(table, r->hva) == r->gpa);
			assert_true(vhub_mem_hva_to_gpa(table, r->hva + r->size_bytes - 1) ==
					r->gpa + r->size_bytes - 1);
			for (int edge = 0; edge < 2; edge++) {
				const uint8_t *out = edge == 0 ? r->hva - 1 :
								 r->hva + r->size_bytes;
				uint64_t want = UINT64_MAX;

				for (uint32_t j = 0; j < n; j++) {
					const struct vhub_mem_region *q = &table->regions[j];

					if (model_has((uintptr_t)q->hva, q->size_bytes,
							    (uintptr_t)out))
						want = q->gpa + (uint64_t)(out - q->hva);
				}
				assert_true(vhub_mem_hva_to_gpa(table, out) == want);
			}
		}
		assert_true(vhub_mem_hva_to_gpa(table, NULL) == UINT64_MAX);
		assert_true(vhub_mem_hva_to_gpa(table, (void *)UINTPTR_MAX) == UINT64_MAX);
		vhub_mem_table_put(table);
	}
}

/* The quickest of many runs, so that nothing but our own work is seen. */
static uint64_t
way_back_ns(const struct vhub_mem_table *table, uint32_t region)
{
	uint64_t best = UINT64_MAX;

	for (int run = 0; run < 50; run++) {
		struct timespec from, to;
		uint64_t ns;

		clock_gettime(CLOCK_MONOTONIC, &from);
		for (int i = 0; i < 200; i++)
			assert_true(vhub_mem_hva_to_gpa(table, table->regions[region].hva) !=
					UINT64_MAX);
		clock_gettime(CLOCK_MONOTONIC, &to);
		ns = (uint64_t)(to.tv_sec - from.tv_sec) * 1000000000 + (uint64_t)to.tv_nsec -
				(uint64_t)from.tv_nsec;
		if (ns < best)
			best = ns;
	}
	return best;
}

/* The last of 509 regions is found like the first: the dirty log asks for each piece of a chain. */
static void
test_way_back_looks_at_few_regions(void **state)
{
	static struct vhub_user_mem_region descs[VHUB_MAX_MEM_SLOTS];
	struct vhub_mem_table *table;
	uint64_t first_ns, last_ns;

	(void)state;
	for (unsigned int i = 0; i < VHUB_MAX_MEM_SLOTS; i++)
		descs[i] = test_desc(i * PAGE, PAGE, UVA + i * PAGE, 0);
	table = build(descs, VHUB_MAX_MEM_SLOTS);
	first_ns = way_back_ns(table, 0);
	last_ns = way_back_ns(table, VHUB_MAX_MEM_SLOTS - 1);
	if (last_ns > 5 * first_ns)
		fail_msg("%" PRIu64 " ns for the first region, %" PRIu64 " ns for the last",
				first_ns, last_ns);
	vhub_mem_table_put(table);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_edges_of_regions),
		cmocka_unit_test(test_region_that_ends_at_2_64),
		cmocka_unit_test(test_cache_follows),
		cmocka_unit_test(test_random_tables_against_model),
		cmocka_unit_test(test_way_back_in_large_tables),
		cmocka_unit_test(test_way_back_looks_at_few_regions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
