/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Tables: what is refused and that nothing changes then, order, reuse of mappings, slots added and removed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mem_fixture.h"

#define UVA UINT64_C(0x7f0000000000)

/* A table of one file, with descs[i] mapping it. */
static int
build(const struct vhub_mem_table *old, const struct vhub_user_mem_region *descs, int fd,
		unsigned int n, struct vhub_mem_table **out)
{
	int fds[VHUB_MAX_MEM_SLOTS];

	assert_true(n <= VHUB_MAX_MEM_SLOTS);
	for (unsigned int i = 0; i < n; i++)
		fds[i] = fd;
	return vhub_mem_table_build(old, descs, fds, n, NULL, out);
}

static void
test_regions_are_sorted(void **state)
{
	const struct vhub_user_mem_region descs[] = {
		test_desc(0x100000, PAGE, UVA + 0x3000, 2 * PAGE),
		test_desc(0, 2 * PAGE, UVA, 0),
		test_desc(0x80000, PAGE, UVA + 0x2000, 3 * PAGE),
	};
	struct vhub_mem_table *table;
	struct test_usage before;
	int fd;

	(void)state;
	test_usage_take(&before);
	fd = test_memfd(4 * PAGE, 0);
	assert_int_equal(build(NULL, descs, fd, 3, &table), 0);
	assert_int_equal(table->n_regions, 3);
	assert_true(table->numa_node >= -1);
	assert_int_equal(table->regions[0].gpa, 0);
	assert_int_equal(table->regions[1].gpa, 0x80000);
	assert_int_equal(table->regions[2].gpa, 0x100000);
	assert_int_equal(table->regions[1].uva, UVA + 0x2000);
	assert_int_equal(table->regions[1].mmap_offset_bytes, 3 * PAGE);
	/* Each has the bytes of its own offset. */
	for (uint32_t i = 0; i < 3; i++) {
		const uint8_t mark = (uint8_t)(i + 1);

		assert_int_equal(pwrite(fd, &mark, 1, (off_t)table->regions[i].mmap_offset_bytes),
				1);
		assert_int_equal(table->regions[i].hva[0], mark);
	}
	close(fd);
	vhub_mem_table_put(table);
	test_usage_check(&before);
}

static void
test_empty_table(void **state)
{
	struct vhub_mem_table *table;
	struct vhub_mem_cache cache = { NULL };
	uint64_t len = 1;

	(void)state;
	assert_int_equal(vhub_mem_table_build(NULL, NULL, NULL, 0, NULL, &table), 0);
	assert_int_equal(table->n_regions, 0);
	assert_int_equal(table->numa_node, -1);
	assert_null(vhub_mem_gpa_to_hva(table, &cache, 0, &len, VHUB_MEM_READ));
	assert_null(vhub_mem_uva_to_hva(table, 0, 1));
	assert_true(vhub_mem_hva_to_gpa(table, &len) == UINT64_MAX);
	vhub_mem_table_put(table);
	vhub_mem_table_put(NULL);
}

/* Refused, with nothing mapped, whichever of the two comes first. */
static void
check_pair(const struct vhub_user_mem_region *a, const struct vhub_user_mem_region *b, int expected)
{
	const struct vhub_user_mem_region ab[] = { *a, *b };
	const struct vhub_user_mem_region ba[] = { *b, *a };
	struct vhub_mem_table *table;
	struct test_usage before;
	int fd;

	test_usage_take(&before);
	fd = test_memfd(16 * PAGE, 0);
	assert_int_equal(build(NULL, ab, fd, 2, &table), expected);
	if (expected == 0)
		vhub_mem_table_put(table);
	assert_int_equal(build(NULL, ba, fd, 2, &table), expected);
	if (expected == 0)
		vhub_mem_table_put(table);
	close(fd);
	test_usage_check(&before);
}

static void
check_gpas(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size, int expected)
{
	const struct vhub_user_mem_region da = test_desc(a, a_size, UVA, 0);
	const struct vhub_user_mem_region db = test_desc(b, b_size, UVA - 0x100000, 0);

	check_pair(&da, &db, expected);
}

static void
check_uvas(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size, int expected)
{
	const struct vhub_user_mem_region da = test_desc(UVA, a_size, a, 0);
	const struct vhub_user_mem_region db = test_desc(UVA - 0x100000, b_size, b, 0);

	check_pair(&da, &db, expected);
}

static void
test_overlap_and_overflow(void **state)
{
	static void (*const checks[])(uint64_t, uint64_t, uint64_t, uint64_t, int) = {
		check_gpas,
		check_uvas,
	};
	const uint64_t top = UINT64_MAX - PAGE + 1;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		checks[i](0x10000, PAGE, 0x10000, PAGE, -EEXIST);
		checks[i](0x10000, 2 * PAGE, 0x11000, 2 * PAGE, -EEXIST);
		checks[i](0x10000, 4 * PAGE, 0x11000, PAGE, -EEXIST);
		checks[i](0x10000, PAGE, 0x10fff, 1, -EEXIST);
		checks[i](0x10000, PAGE, 0x11000, PAGE, 0);
		checks[i](0x10000, 1, 0x10001, 1, 0);
		/* The end of the address space. */
		checks[i](top, PAGE, 0, PAGE, 0);
		checks[i](top, PAGE, top - PAGE, PAGE, 0);
		checks[i](top, PAGE, UINT64_MAX, 1, -EEXIST);
		checks[i](top, PAGE, top - 1, 2, -EEXIST);
		checks[i](top, PAGE + 1, 0x1000, PAGE, -EINVAL);
		checks[i](UINT64_MAX, 2, 0x1000, PAGE, -EINVAL);
		checks[i](0x10000, 0, 0x20000, PAGE, -EINVAL);
		checks[i](0x10000, UINT64_MAX, 0x20000, PAGE, -EINVAL);
		checks[i](1, UINT64_C(1) << 63, 0x20000, PAGE, -EEXIST);
	}
}

/* The third file is too short: the first two do not stay mapped, and the old table is as it was. */
static void
test_failure_leaves_nothing(void **state)
{
	struct vhub_user_mem_region descs[] = {
		test_desc(0x10000, PAGE, UVA, 0),
		test_desc(0x20000, PAGE, UVA + 0x10000, 0),
		test_desc(0x30000, PAGE, UVA + 0x20000, 0),
	};
	struct vhub_mem_table *old, *table = NULL;
	struct test_usage before;
	int fds[3];

	(void)state;
	for (int i = 0; i < 3; i++)
		fds[i] = test_memfd(i < 2 ? PAGE : PAGE - 1, 0);
	assert_int_equal(vhub_mem_table_build(NULL, descs, fds, 1, NULL, &old), 0);
	test_usage_take(&before);
	assert_int_equal(vhub_mem_table_build(old, descs, fds, 3, NULL, &table), -ERANGE);
	assert_null(table);
	test_usage_check(&before);
	descs[2].mmap_offset_bytes = UINT64_MAX;
	assert_int_equal(vhub_mem_table_build(old, descs, fds, 3, NULL, &table), -EINVAL);
	assert_int_equal(vhub_mem_table_add(old, &descs[2], fds[2], NULL, &table), -EINVAL);
	descs[2].mmap_offset_bytes = 0;
	close(fds[2]);
	fds[2] = -1;
	assert_int_equal(vhub_mem_table_build(old, descs, fds, 3, NULL, &table), -EBADF);
	assert_int_equal(vhub_mem_table_add(old, &descs[2], fds[2], NULL, &table), -EBADF);
	assert_int_equal(vhub_mem_table_add(old, &descs[0], fds[0], NULL, &table), -EEXIST);
	assert_int_equal(old->n_regions, 1);
	assert_int_equal(old->refs, 1);
	old->regions[0].hva[0] = 1;
	vhub_mem_table_put(old);
	close(fds[0]);
	close(fds[1]);
}

static void
test_too_many_regions(void **state)
{
	struct vhub_user_mem_region descs[VHUB_MAX_MEM_SLOTS + 1];
	int fds[VHUB_MAX_MEM_SLOTS + 1];
	struct vhub_mem_table *table, *more;
	struct test_usage before;
	int fd;

	(void)state;
	test_usage_take(&before);
	fd = test_memfd(PAGE, 0);
	for (unsigned int i = 0; i <= VHUB_MAX_MEM_SLOTS; i++) {
		descs[i] = test_desc(i * 2 * PAGE, PAGE, UVA + i * PAGE, 0);
		fds[i] = fd;
	}
	assert_int_equal(vhub_mem_table_build(NULL, descs, fds, VHUB_MAX_MEM_SLOTS + 1, NULL,
					 &table),
			-EINVAL);
	assert_int_equal(vhub_mem_table_build(NULL, descs, fds, VHUB_MAX_MEM_SLOTS, NULL, &table),
			0);
	assert_int_equal(vhub_mem_table_add(table, &descs[VHUB_MAX_MEM_SLOTS], fd, NULL, &more),
			-ENOSPC);
	vhub_mem_table_put(table);
	close(fd);
	test_usage_check(&before);
}

/* The address of an equal region stays; one that differs in any part of its identity is mapped anew. */
static void
test_equal_regions_are_kept(void **state)
{
	const struct vhub_user_mem_region first[] = {
		test_desc(0x10000, 2 * PAGE, UVA, 0),
		test_desc(0x20000, PAGE, UVA + 0x10000, 2 * PAGE),
	};
	struct vhub_user_mem_region next[3];
	struct vhub_mem_table *a, *b;
	struct test_usage before;
	uint64_t n_maps, bytes;
	int fd, same_file, other;

	(void)state;
	test_usage_take(&before);
	fd = test_memfd(4 * PAGE, 0);
	other = test_memfd(4 * PAGE, 0);
	same_file = dup(fd);
	assert_int_equal(build(NULL, first, fd, 2, &a), 0);

	/* The same, in another order, with another fd of the same file, and one more. */
	next[0] = first[1];
	next[1] = test_desc(0, PAGE, UVA + 0x20000, 3 * PAGE);
	next[2] = first[0];
	assert_int_equal(build(a, next, same_file, 3, &b), 0);
	assert_ptr_equal(b->regions[1].map, a->regions[0].map);
	assert_ptr_equal(b->regions[1].hva, a->regions[0].hva);
	assert_ptr_equal(b->regions[2].map, a->regions[1].map);
	assert_ptr_equal(b->regions[2].hva, a->regions[1].hva);
	vhub_mem_usage(&n_maps, &bytes);
	assert_int_equal(n_maps, before.n_maps + 3);
	/* The old table goes, the mappings stay. */
	vhub_mem_table_put(a);
	b->regions[1].hva[0] = 1;
	a = b;

	for (int i = 0; i < 5; i++) {
		next[0] = first[0];
		if (i == 0)
			next[0].guest_addr_gpa -= PAGE;
		else if (i == 1)
			next[0].size_bytes -= PAGE;
		else if (i == 2)
			next[0].user_addr_uva += PAGE;
		else if (i == 3)
			next[0].mmap_offset_bytes += PAGE;
		assert_int_equal(build(a, next, i == 4 ? other : fd, 1, &b), 0);
		assert_ptr_not_equal(b->regions[0].map, a->regions[1].map);
		vhub_mem_table_put(b);
	}
	vhub_mem_table_put(a);
	close(fd);
	close(other);
	close(same_file);
	test_usage_check(&before);
}

/* A mapping tells its own owner only, so another owner gets another one; the truncated one is no use to anybody. */
static void
test_not_kept_for_another_owner_or_from_a_short_file(void **state)
{
	const struct vhub_user_mem_region desc = test_desc(0x10000, 2 * PAGE, UVA, 0);
	struct vhub_mem_owner owners[2] = { { .broken = NULL }, { .broken = NULL } };
	struct vhub_mem_table *a, *b;
	int fd;

	(void)state;
	fd = test_memfd(2 * PAGE, 0);
	assert_int_equal(vhub_mem_table_build(NULL, &desc, &fd, 1, &owners[0], &a), 0);
	assert_int_equal(vhub_mem_table_build(a, &desc, &fd, 1, &owners[0], &b), 0);
	assert_ptr_equal(a->regions[0].map, b->regions[0].map);
	vhub_mem_table_put(b);
	assert_int_equal(vhub_mem_table_build(a, &desc, &fd, 1, &owners[1], &b), 0);
	assert_ptr_not_equal(a->regions[0].map, b->regions[0].map);
	vhub_mem_table_put(b);
	vhub_mem_owner_detach(&owners[0]);
	assert_int_equal(vhub_mem_table_build(a, &desc, &fd, 1, &owners[0], &b), 0);
	assert_ptr_not_equal(a->regions[0].map, b->regions[0].map);
	vhub_mem_table_put(b);
	assert_int_equal(ftruncate(fd, PAGE), 0);
	assert_int_equal(vhub_mem_table_build(a, &desc, &fd, 1, NULL, &b), -ERANGE);
	vhub_mem_table_put(a);
	close(fd);
}

static void
test_slots_are_added_and_removed(void **state)
{
	struct vhub_user_mem_region desc, wrong;
	struct vhub_mem_table *table = NULL, *next;
	uint8_t *hva[VHUB_MAX_MEM_SLOTS];
	unsigned int order[VHUB_MAX_MEM_SLOTS];
	struct test_usage before;
	uint64_t seed = 42;
	int fd;

	(void)state;
	test_usage_take(&before);
	fd = test_memfd(VHUB_MAX_MEM_SLOTS, 0);
	for (unsigned int i = 0; i < VHUB_MAX_MEM_SLOTS; i++) {
		unsigned int j = (unsigned int)test_random_below(&seed, i + 1);

		order[i] = order[j];
		order[j] = i;
	}
	for (unsigned int i = 0; i < VHUB_MAX_MEM_SLOTS; i++) {
		desc = test_desc(order[i] * PAGE, 1, UVA + order[i] * 0x100, order[i]);
		assert_int_equal(vhub_mem_table_add(table, &desc, fd, NULL, &next), 0);
		assert_int_equal(next->n_regions, i + 1);
		vhub_mem_table_put(table);
		table = next;
		hva[order[i]] = vhub_mem_uva_to_hva(table, desc.user_addr_uva, 1);
		assert_non_null(hva[order[i]]);
	}
	for (unsigned int i = 0; i < VHUB_MAX_MEM_SLOTS; i++) {
		assert_int_equal(table->regions[i].gpa, i * PAGE);
		assert_ptr_equal(table->regions[i].hva, hva[i]);
	}
	for (unsigned int i = 0; i < VHUB_MAX_MEM_SLOTS; i++) {
		desc = test_desc(order[i] * PAGE, 1, UVA + order[i] * 0x100,
				0xdead); /* no matter */
		wrong = desc;
		wrong.guest_addr_gpa++;
		assert_int_equal(vhub_mem_table_remove(table, &wrong, &next), -ENOENT);
		wrong = desc;
		wrong.user_addr_uva++;
		assert_int_equal(vhub_mem_table_remove(table, &wrong, &next), -ENOENT);
		wrong = desc;
		wrong.size_bytes++;
		assert_int_equal(vhub_mem_table_remove(table, &wrong, &next), -ENOENT);
		assert_int_equal(vhub_mem_table_remove(table, &desc, &next), 0);
		assert_int_equal(next->n_regions, VHUB_MAX_MEM_SLOTS - 1 - i);
		assert_null(vhub_mem_uva_to_hva(next, desc.user_addr_uva, 1));
		vhub_mem_table_put(table);
		table = next;
		assert_int_equal(vhub_mem_table_remove(table, &desc, &next), -ENOENT);
	}
	assert_int_equal(vhub_mem_table_remove(NULL, &desc, &next), -ENOENT);
	vhub_mem_table_put(table);
	close(fd);
	test_usage_check(&before);
}

/* An address inside a region is not the region's. */
static void
test_removal_wants_the_start(void **state)
{
	const struct vhub_user_mem_region desc = test_desc(0x10000, PAGE, UVA, 0);
	struct vhub_user_mem_region inside = desc;
	struct vhub_mem_table *table, *next;
	int fd;

	(void)state;
	fd = test_memfd(PAGE, 0);
	assert_int_equal(vhub_mem_table_add(NULL, &desc, fd, NULL, &table), 0);
	inside.guest_addr_gpa += 8;
	assert_int_equal(vhub_mem_table_remove(table, &inside, &next), -ENOENT);
	inside = desc;
	inside.size_bytes -= 8;
	assert_int_equal(vhub_mem_table_remove(table, &inside, &next), -ENOENT);
	assert_int_equal(vhub_mem_table_remove(table, &desc, &next), 0);
	vhub_mem_table_put(next);
	vhub_mem_table_put(table);
	close(fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_regions_are_sorted),
		cmocka_unit_test(test_empty_table),
		cmocka_unit_test(test_overlap_and_overflow),
		cmocka_unit_test(test_failure_leaves_nothing),
		cmocka_unit_test(test_too_many_regions),
		cmocka_unit_test(test_equal_regions_are_kept),
		cmocka_unit_test(test_not_kept_for_another_owner_or_from_a_short_file),
		cmocka_unit_test(test_slots_are_added_and_removed),
		cmocka_unit_test(test_removal_wants_the_start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
