/* SPDX-License-Identifier: BSD-3-Clause */
/* Windows (lib/mem/window.c): what a system call reaches by one, and that it makes no page. */
#include "mem_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "../hugepages.h"

#define HUGE_PAGE (UINT64_C(2) << 20)
#define HUGETLB (MFD_HUGETLB | (21u << 26))
#define N_PAGES 8u

static int zeros;

static uint64_t
filled_bytes(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void
punch(int fd, uint64_t at, uint64_t bytes)
{
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at,
					 (off_t)bytes),
			0);
}

/* Whether the kernel can write there. */
static bool
reaches(uint8_t *hva)
{
	ssize_t n = read(zeros, hva, 1);

	assert_true(n == 1 || (n < 0 && errno == EFAULT));
	return n == 1;
}

static void
check_window(uint64_t page_bytes, unsigned int flags)
{
	const uint64_t bytes = N_PAGES * page_bytes;
	struct vhub_mem_window w;
	struct test_usage before;
	struct vhub_mem_map *map;
	uint8_t *hva, *own;
	int fd, uffd;

	test_usage_take(&before);
	fd = test_memfd(bytes, flags);
	assert_int_equal(fallocate(fd, 0, 0, (off_t)bytes), 0);
	own = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(own != MAP_FAILED);
	/* Neither the mapping nor the window starts with a page. */
	assert_int_equal(vhub_mem_map_create(fd, 512, bytes - 512, NULL, &map, (void **)&hva), 0);
	assert_int_equal(vhub_mem_window_start(&uffd), 0);
	punch(fd, 3 * page_bytes, page_bytes);
	assert_int_equal(vhub_mem_window_open(uffd, map, hva + page_bytes, 4 * page_bytes, &w), 0);
	for (unsigned int page = 1; page <= 5; page++)
		assert_int_equal(reaches(w.hva + (page - 1) * page_bytes), page != 3);
	/* What goes while it is open, and what comes. */
	punch(fd, 2 * page_bytes, page_bytes);
	assert_false(reaches(w.hva + page_bytes));
	own[3 * page_bytes] = 1;
	assert_true(reaches(w.hva + 2 * page_bytes));
	assert_int_equal(filled_bytes(fd), bytes - page_bytes);
	vhub_mem_window_close(&w);
	/* By the mapping itself all is as ever. */
	assert_true(reaches(hva + 2 * page_bytes));
	assert_int_equal(filled_bytes(fd), bytes);
	close(uffd);
	vhub_mem_map_put(map);
	munmap(own, bytes);
	close(fd);
	test_usage_check(&before);
}

static void
test_a_window_makes_no_page(void **state)
{
	(void)state;
	check_window(PAGE, 0);
}

static void
test_nor_does_one_of_hugetlb(void **state)
{
	struct hugepages pages;

	(void)state;
	hugepages_take(&pages, N_PAGES);
	check_window(HUGE_PAGE, HUGETLB);
	hugepages_give_back(&pages);
}

/* A file without a page, mapped. */
struct empty {
	struct vhub_mem_map *map;
	uint8_t *hva;
	int fd;
	int uffd;
};

static void
empty_begin(struct empty *e)
{
	e->fd = test_memfd(N_PAGES * PAGE, 0);
	assert_int_equal(vhub_mem_map_create(e->fd, 0, N_PAGES * PAGE, NULL, &e->map,
					 (void **)&e->hva),
			0);
	assert_int_equal(vhub_mem_window_start(&e->uffd), 0);
}

static void
empty_end(struct empty *e)
{
	close(e->uffd);
	vhub_mem_map_put(e->map);
	close(e->fd);
}

/* Who has the mapping may go on with it, whatever is missing. */
static void
test_the_mapping_is_as_ever_meanwhile(void **state)
{
	struct vhub_mem_window w;
	struct empty e;

	(void)state;
	empty_begin(&e);
	assert_int_equal(vhub_mem_window_open(e.uffd, e.map, e.hva, N_PAGES * PAGE, &w), 0);
	assert_false(reaches(w.hva));
	assert_int_equal(e.hva[0], 0);
	e.hva[PAGE] = 1;
	assert_true(reaches(w.hva + PAGE));
	vhub_mem_window_close(&w);
	empty_end(&e);
}

static void
test_what_a_guard_has_put_there_has_no_window(void **state)
{
	struct vhub_mem_window w;
	struct empty e;

	(void)state;
	empty_begin(&e);
	assert_ptr_equal(mmap(e.hva, PAGE, PROT_READ | PROT_WRITE,
					 MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
			e.hva);
	assert_int_equal(vhub_mem_window_open(e.uffd, e.map, e.hva, PAGE, &w), -EINVAL);
	empty_end(&e);
}

static void
test_it_takes_no_privilege(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	assert_true(pid >= 0);
	if (pid == 0) {
		if (getuid() == 0 && setuid(65534) != 0)
			_exit(1);
		check_window(PAGE, 0);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_window_makes_no_page),
		cmocka_unit_test(test_nor_does_one_of_hugetlb),
		cmocka_unit_test(test_the_mapping_is_as_ever_meanwhile),
		cmocka_unit_test(test_what_a_guard_has_put_there_has_no_window),
		cmocka_unit_test(test_it_takes_no_privilege),
	};

	zeros = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	return zeros < 0 ? 99 : cmocka_run_group_tests(tests, NULL, NULL);
}
