/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which pages a large area gets, on hosts that have some of 1 GB and some of 2 MB, and how much memory they have:
 * mmap(2), madvise(2) and the files of the kernel's are those of such a host, and no page is touched.
 */
#include "runtime_test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <rte_common.h>

#include "vhub_alloc.h"

#define MB (1ul << 20)
#define GB (1ul << 30)
#define MAX_PIECES 8
#define MAX_FILES 8

struct piece {
	size_t begin; /* in the area */
	size_t bytes;
	size_t page_bytes;
};

static struct {
	size_t n_giant, n_huge; /* pages that are free */
	bool is_full;		/* of small ones there are none */
	size_t total, left;	/* and what the files say of them */
	size_t taken_by_others; /* whenever some are populated */
	struct file {
		const char *path;
		const char *text;
	} files[MAX_FILES];
	char *mapped; /* a piece that is not in the area yet */
	size_t mapped_bytes;
	size_t page_bytes;
	char *area;
	unsigned int n;
	struct piece pieces[MAX_PIECES]; /* of hugetlb pages in it */
} host;

void *
__real_mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
void *
__wrap_mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
void *
__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
void *
__real_mremap(void *old, size_t old_len, size_t new_len, int flags, void *addr);
void *
__wrap_mremap(void *old, size_t old_len, size_t new_len, int flags, void *addr);
int
__wrap_madvise(void *addr, size_t len, int advice);
FILE *
__wrap_fopen64(const char *path, const char *mode);
FILE *
__wrap_fopen(const char *path, const char *mode);

void *
__wrap_mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	size_t *n_free;

	if ((flags & MAP_HUGETLB) == 0)
		return __real_mmap64(addr, len, prot, flags, fd, offset);
	host.page_bytes = UINT64_C(1) << ((unsigned int)flags >> 26);
	assert_true(host.page_bytes == GB || host.page_bytes == 2 * MB);
	assert_int_equal(len % host.page_bytes, 0);
	n_free = host.page_bytes == GB ? &host.n_giant : &host.n_huge;
	if (len / host.page_bytes > *n_free) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	*n_free -= len / host.page_bytes;
	host.mapped = __real_mmap64(addr, len, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			fd, offset);
	host.mapped_bytes = len;
	return host.mapped;
}

void *
__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	return __wrap_mmap64(addr, len, prot, flags, fd, offset);
}

void *
__wrap_mremap(void *old, size_t old_len, size_t new_len, int flags, void *addr)
{
	assert_ptr_equal(old, host.mapped);
	/* The kernel moves whole pages to where whole pages fit. */
	assert_int_equal((uintptr_t)addr % host.page_bytes, 0);
	assert_true(host.n < MAX_PIECES);
	host.pieces[host.n++] = (struct piece){ (size_t)((char *)addr - host.area), new_len,
		host.page_bytes };
	return __real_mremap(old, old_len, new_len, flags, addr);
}

int
__wrap_madvise(void *addr, size_t len, int advice)
{
	const uintptr_t at = (uintptr_t)addr - (uintptr_t)host.mapped;

	if (at < host.mapped_bytes)
		return 0;
	if (host.is_full) {
		errno = ENOMEM;
		return -1;
	}
	if (advice == MADV_POPULATE_WRITE) {
		assert_true(len + host.taken_by_others <= host.left);
		host.left -= len + host.taken_by_others;
	}
	return 0;
}

FILE *
__wrap_fopen64(const char *path, const char *mode)
{
	static char text[128];
	const struct file *file = host.files;

	(void)mode;
	if (strcmp(path, "/proc/meminfo") == 0) {
		snprintf(text, sizeof(text),
				"MemTotal: %zu kB\nMemFree: 0 kB\nMemAvailable: %zu kB\n",
				host.total >> 10, host.left >> 10);
		return fmemopen(text, strlen(text), "r");
	}
	for (; file < host.files + MAX_FILES && file->path != NULL; file++) {
		if (strcmp(path, file->path) == 0)
			return fmemopen((void *)(uintptr_t)file->text, strlen(file->text), "r");
	}
	errno = ENOENT;
	return NULL;
}

FILE *
__wrap_fopen(const char *path, const char *mode)
{
	return __wrap_fopen64(path, mode);
}

static void
host_has(size_t n_giant, size_t n_huge)
{
	memset(&host, 0, sizeof(host));
	host.n_giant = n_giant;
	host.n_huge = n_huge;
	host.total = host.left = 128 * GB;
}

static void
check_pieces(const struct piece *want, unsigned int n)
{
	assert_int_equal(host.n, n);
	for (unsigned int i = 0; i < n; i++) {
		assert_int_equal(host.pieces[i].begin, want[i].begin);
		assert_int_equal(host.pieces[i].bytes, want[i].bytes);
		assert_int_equal(host.pieces[i].page_bytes, want[i].page_bytes);
	}
}

/* What an area of its own gets there. Returns whether all of it is in huge pages. */
static bool
place(size_t bytes, const struct piece *want, unsigned int n)
{
	bool huge = false;

	host.area = vhub_huge_reserve(bytes);
	assert_non_null(host.area);
	assert_int_equal(vhub_huge_extend(host.area, 0, vhub_huge_round(bytes), -1, &huge), 0);
	check_pieces(want, n);
	vhub_free_huge(host.area, bytes);
	return huge;
}

static void
giant_pages_alone_take_whole_gigabytes(void **unused)
{
	(void)unused;
	host_has(4, 0);
	assert_true(place(2 * GB, &(struct piece){ 0, 2 * GB, GB }, 1));
	host_has(4, 0);
	assert_false(place(2 * GB + 5 * MB, &(struct piece){ 0, 2 * GB, GB }, 1));
	/* Most of a page would be wasted. */
	host_has(4, 0);
	assert_false(place(512 * MB, NULL, 0));
}

static void
huge_pages_take_the_rest(void **unused)
{
	const struct piece both[] = { { 0, 2 * GB, GB }, { 2 * GB, 6 * MB, 2 * MB } };

	(void)unused;
	host_has(4, 1000);
	assert_true(place(2 * GB + 5 * MB, both, 2));
	host_has(4, 1000);
	assert_true(place(512 * MB, &(struct piece){ 0, 512 * MB, 2 * MB }, 1));
}

static void
with_too_few_of_a_kind_the_next_has_its_turn(void **unused)
{
	(void)unused;
	host_has(1, 1024);
	assert_true(place(2 * GB, &(struct piece){ 0, 2 * GB, 2 * MB }, 1));
	host_has(1, 1023);
	assert_false(place(2 * GB, NULL, 0));
	host_has(4, 2);
	assert_false(place(2 * GB + 5 * MB, &(struct piece){ 0, 2 * GB, GB }, 1));
}

static void
an_area_that_grows_gets_giant_pages_where_they_fit(void **unused)
{
	const struct piece want[] = { { 0, 512 * MB, 2 * MB }, { GB, GB, GB },
		{ 512 * MB, 512 * MB, 2 * MB }, { 2 * GB, 512 * MB, 2 * MB } };
	bool huge;

	(void)unused;
	host_has(4, 1000);
	host.area = vhub_huge_reserve(4 * GB);
	assert_non_null(host.area);
	assert_int_equal(vhub_huge_extend(host.area, 0, 512 * MB, -1, &huge), 0);
	assert_int_equal(vhub_huge_extend(host.area, 512 * MB, 2 * GB + 512 * MB, -1, &huge), 0);
	assert_true(huge);
	check_pieces(want, RTE_DIM(want));
	vhub_free_huge(host.area, 4 * GB);
}

static void
assert_readable(char *at, bool readable)
{
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	if (readable)
		assert_int_equal(write(fds[1], at, 1), 1);
	else
		assert_true(write(fds[1], at, 1) < 0 && errno == EFAULT);
	close(fds[0]);
	close(fds[1]);
}

/* Half of it had its pages already: they go, and the addresses stay. */
static void
a_shortage_in_the_middle_leaves_the_area_as_it_was(void **unused)
{
	unsigned char vec[1];
	bool huge = true;

	(void)unused;
	host_has(1, 0);
	host.is_full = true;
	host.area = vhub_huge_reserve(2 * GB);
	assert_non_null(host.area);
	assert_int_equal(vhub_huge_extend(host.area, 0, GB + 2 * MB, -1, &huge), -ENOMEM);
	assert_false(huge);
	assert_int_equal(host.n, 1);
	for (size_t at = 0; at < 2 * GB; at += 2 * MB) {
		assert_readable(host.area + at, false);
		assert_int_equal(mincore(host.area + at, 4096, vec), 0);
	}
	host.is_full = false;
	assert_int_equal(vhub_huge_extend(host.area, 0, GB + 2 * MB, -1, NULL), 0);
	assert_readable(host.area, true);
	assert_readable(host.area + GB, true);
	vhub_free_huge(host.area, 2 * GB);
}

/* ---- how much there is ---- */

static void
nothing_is_touched_of_what_others_need(void **unused)
{
	(void)unused;
	host_has(0, 0);
	host.left = 6 * GB;
	/* 4 GB are for others. */
	assert_int_equal(vhub_memory_room(), 2 * GB);
	assert_null(vhub_zalloc_huge(2 * GB + 2 * MB, -1, NULL));
	assert_int_equal(host.left, 6 * GB);
	vhub_free_huge(vhub_zalloc_huge(2 * GB, -1, NULL), 2 * GB);
	assert_int_equal(host.left, 4 * GB);
	assert_null(vhub_zalloc_huge(2 * MB, -1, NULL));
	assert_int_equal(host.left, 4 * GB);
	/* Pages of hugetlb are there for that. */
	host.n_huge = 1;
	assert_true(place(2 * MB, &(struct piece){ 0, 2 * MB, 2 * MB }, 1));
}

static void
others_may_take_some_meanwhile(void **unused)
{
	(void)unused;
	host_has(0, 0);
	host.left = 6 * GB;
	host.taken_by_others = 64 * MB;
	assert_null(vhub_zalloc_huge(GB + GB / 2, -1, NULL));
	assert_in_range(host.left, 4 * GB, 6 * GB - 1);
}

static void
room_is_that_of_the_narrowest_group(void **unused)
{
	static const struct {
		uint64_t room;
		struct file files[MAX_FILES];
	} cases[] = {
		{ 124 * GB, { { "/proc/self/cgroup", "0::/a/b\n" } } },
		/* 1 GiB in a group above, of which 64 MiB are cached: 1024 - 128 + 64 - 32. */
		{ 928 * MB,
				{ { "/proc/self/cgroup", "0::/a/b\n" },
						{ "/sys/fs/cgroup/a/b/memory.max", "max\n" },
						{ "/sys/fs/cgroup/a/b/memory.current", "4096\n" },
						{ "/sys/fs/cgroup/a/memory.max", "1073741824\n" },
						{ "/sys/fs/cgroup/a/memory.current",
								"134217728\n" },
						{ "/sys/fs/cgroup/a/memory.stat",
								"anon 1\ninactive_file 50331648\nactive_file 16777216\n" } } },
		/* What holds it up comes before what ends it, and a container's group is the root. */
		{ 0,
				{ { "/proc/self/cgroup", "0::/\n" },
						{ "/sys/fs/cgroup/memory.max", "1073741824\n" },
						{ "/sys/fs/cgroup/memory.high", "536870912\n" },
						{ "/sys/fs/cgroup/memory.current",
								"536870912\n" } } },
		/* Of the first version, beside the second one without memory. */
		{ 768 * MB,
				{ { "/proc/self/cgroup", "4:memory:/x\n3:cpu:/y\n0::/\n" },
						{ "/sys/fs/cgroup/memory/x/memory.limit_in_bytes",
								"1073741824\n" },
						{ "/sys/fs/cgroup/memory/x/memory.usage_in_bytes",
								"268435456\n" },
						{ "/sys/fs/cgroup/memory/x/memory.stat",
								"inactive_file 1\ntotal_inactive_file 33554432\n" } } },
	};

	(void)unused;
	for (unsigned int i = 0; i < RTE_DIM(cases); i++) {
		host_has(0, 0);
		memcpy(host.files, cases[i].files, sizeof(host.files));
		assert_int_equal(vhub_memory_room(), cases[i].room);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(giant_pages_alone_take_whole_gigabytes),
		cmocka_unit_test(huge_pages_take_the_rest),
		cmocka_unit_test(with_too_few_of_a_kind_the_next_has_its_turn),
		cmocka_unit_test(an_area_that_grows_gets_giant_pages_where_they_fit),
		cmocka_unit_test(a_shortage_in_the_middle_leaves_the_area_as_it_was),
		cmocka_unit_test(nothing_is_touched_of_what_others_need),
		cmocka_unit_test(others_may_take_some_meanwhile),
		cmocka_unit_test(room_is_that_of_the_narrowest_group),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
