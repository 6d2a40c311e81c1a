/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the tests of lib/mem share: memory files, random numbers that come again with the same seed, and counts of
 * what a test may leave behind (nothing).
 */
#ifndef MEM_FIXTURE_H
#define MEM_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../fds.h"
#include "vhub_mem.h"

#define PAGE UINT64_C(4096)

/* A memory file of that size; `flags` of memfd_create(2). */
static inline int
test_memfd(uint64_t size_bytes, unsigned int flags)
{
	int fd = memfd_create("vhub-test", MFD_CLOEXEC | flags);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size_bytes), 0);
	return fd;
}

/* xorshift64*: small, and the same on every machine. */
static inline uint64_t
test_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}

static inline uint64_t
test_random_below(uint64_t *state, uint64_t limit)
{
	return test_random(state) % limit;
}

/* How many lines of /proc/self/maps have `text` in them. */
static inline unsigned int
test_count_maps_with(const char *text)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512];
	unsigned int n = 0;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL)
		n += strstr(line, text) != NULL;
	fclose(f);
	return n;
}

/* Of them all, and of memory files of test_memfd(). */
static inline unsigned int
test_count_all_maps(void)
{
	return test_count_maps_with("-");
}

static inline unsigned int
test_count_maps(void)
{
	return test_count_maps_with("memfd:vhub-");
}

/* What a test saw when it began. */
struct test_usage {
	uint64_t n_maps;
	uint64_t bytes;
	unsigned int lines;
	unsigned int fds;
};

static inline void
test_usage_take(struct test_usage *usage)
{
	vhub_mem_usage(&usage->n_maps, &usage->bytes);
	usage->lines = test_count_maps();
	usage->fds = count_fds();
}

/* Nothing is mapped or open but what was at the beginning. */
static inline void
test_usage_check(const struct test_usage *before)
{
	struct test_usage now;

	test_usage_take(&now);
	assert_int_equal(now.n_maps, before->n_maps);
	assert_int_equal(now.bytes, before->bytes);
	assert_int_equal(now.lines, before->lines);
	assert_int_equal(now.fds, before->fds);
}

static inline struct vhub_user_mem_region
test_desc(uint64_t gpa, uint64_t size_bytes, uint64_t uva, uint64_t offset_bytes)
{
	return (struct vhub_user_mem_region){
		.guest_addr_gpa = gpa,
		.size_bytes = size_bytes,
		.user_addr_uva = uva,
		.mmap_offset_bytes = offset_bytes,
	};
}

#endif /* MEM_FIXTURE_H */
