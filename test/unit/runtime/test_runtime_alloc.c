/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory on a node: zeroed, aligned, whole, given back, and refused when there is none. */
#include "runtime_test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "vhub_alloc.h"

#define MANY_BYTES (5ul * 1024 * 1024 + 12345)

static bool
all_zero(const unsigned char *p, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		if (p[i] != 0)
			return false;
	}
	return true;
}

static void
zeroed_and_aligned_on_any_node(void **unused)
{
	static const size_t sizes[] = { 1, 64, 4095, 4096, 100000 };
	static const int nodes[] = { -1, 0, 1, 63,
		100000 }; /* nodes that are not there are no reason to fail */
	unsigned char *p;

	(void)unused;
	for (unsigned int i = 0; i < 5; i++) {
		for (unsigned int j = 0; j < 5; j++) {
			p = vhub_zalloc_node(sizes[i], nodes[j]);
			assert_non_null(p);
			assert_int_equal((uintptr_t)p % 64, 0);
			assert_true(all_zero(p, sizes[i]));
			memset(p, 0xa5, sizes[i]);
			vhub_free(p, sizes[i]);
		}
	}
	vhub_free(NULL, 1);
}

static size_t
resident_pages(void)
{
	unsigned long total = 0, resident = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%lu %lu", &total, &resident), 2);
	fclose(f);
	return resident;
}

static void
huge_is_populated_and_given_back(void **unused)
{
	unsigned char vec[MANY_BYTES / 4096 + 1];
	unsigned char *p;
	bool huge;
	size_t before;

	(void)unused;
	vhub_free_huge(vhub_zalloc_huge(MANY_BYTES, -1, NULL), MANY_BYTES);
	before = resident_pages();
	for (unsigned int round = 0; round < 20; round++) {
		p = vhub_zalloc_huge(MANY_BYTES, 0, &huge);
		assert_non_null(p);
		assert_int_equal((uintptr_t)p % (2ul << 20), 0);
		if (!huge) {
			assert_int_equal(mincore(p, MANY_BYTES, vec), 0);
			for (size_t i = 0; i < sizeof(vec); i++)
				assert_int_equal(vec[i] & 1, 1);
		}
		assert_true(all_zero(p, MANY_BYTES));
		memset(p, 0xa5, MANY_BYTES);
		vhub_free_huge(p, MANY_BYTES);
	}
	/* Twenty times five megabytes would be 25,600 pages. */
	assert_true(resident_pages() < before + 2000);
	vhub_free_huge(NULL, 1);
}

/* Reserved addresses stay reserved: neither a shortage nor a part that is extended gives any away. */
static void
an_area_grows_in_place(void **unused)
{
	const size_t step = vhub_huge_round(1);
	unsigned char *area = vhub_huge_reserve(8 * step);
	unsigned char vec[1];
	bool huge;

	(void)unused;
	assert_non_null(area);
	assert_int_equal((uintptr_t)area % step, 0);
	assert_int_equal(vhub_huge_extend(area, 0, 2 * step, 0, &huge), 0);
	assert_true(all_zero(area, 2 * step));
	memset(area, 0x5a, 2 * step);
	/* More than there are addresses. */
	assert_int_equal(vhub_huge_extend(area, 2 * step, SIZE_MAX / 2 / step * step, 0, &huge),
			-ENOMEM);
	assert_false(huge);
	assert_int_equal(vhub_huge_extend(area, 2 * step, 3 * step, -1, NULL), 0);
	assert_int_equal(vhub_huge_extend(area, 3 * step, 3 * step, -1, NULL), 0);
	for (size_t i = 0; i < 2 * step; i++)
		assert_int_equal(area[i], 0x5a);
	assert_true(all_zero(area + 2 * step, step));
	/* mincore(2) knows of no address that is not mapped. */
	for (size_t i = 0; i < 8; i++)
		assert_int_equal(mincore(area + i * step, 4096, vec), 0);
	vhub_free_huge(area, 8 * step);
}

static void
too_much_is_null(void **unused)
{
	bool huge = true;

	(void)unused;
	assert_null(vhub_zalloc_node(SIZE_MAX, -1));
	assert_null(vhub_zalloc_node(SIZE_MAX / 2, 0));
	assert_null(vhub_zalloc_node(0, 0));
	assert_null(vhub_zalloc_huge(SIZE_MAX, -1, NULL));
	assert_null(vhub_zalloc_huge(SIZE_MAX / 2, 0, &huge));
	assert_false(huge);
}

static void
node_of_memory(void **unused)
{
	unsigned char *p = vhub_zalloc_node(4096, 0);
	void *hole;

	(void)unused;
	assert_non_null(p);
	/* -1 where the kernel, or the container, does not tell; otherwise a node, without a touch before. */
	assert_in_range(vhub_numa_node_of(p) + 1, 0, 1024);
	vhub_free(p, 4096);
	hole = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(hole != MAP_FAILED);
	assert_int_equal(vhub_numa_node_of(hole), -1);
	munmap(hole, 4096);
	assert_int_equal(vhub_numa_node_of(hole), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zeroed_and_aligned_on_any_node),
		cmocka_unit_test(huge_is_populated_and_given_back),
		cmocka_unit_test(an_area_grows_in_place),
		cmocka_unit_test(too_much_is_null),
		cmocka_unit_test(node_of_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
