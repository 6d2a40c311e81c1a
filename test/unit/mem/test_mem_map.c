/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mappings: what may be mapped and what not, the way a mapping and its file share bytes, and that nothing stays.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <linux/magic.h>
#include <rte_log.h>

#include "mem_fixture.h"

static int
try_map(int fd, uint64_t offset_bytes, uint64_t size_bytes)
{
	struct vhub_mem_map *map;
	void *hva;
	int ret = vhub_mem_map_create(fd, offset_bytes, size_bytes, NULL, &map, &hva);

	if (ret == 0)
		vhub_mem_map_put(map);
	return ret;
}

static void
test_sizes_are_checked(void **state)
{
	struct test_usage before;
	int fd;

	(void)state;
	test_usage_take(&before);
	fd = test_memfd(4 * PAGE, 0);
	assert_int_equal(try_map(fd, 0, 4 * PAGE), 0);
	assert_int_equal(try_map(fd, 4 * PAGE - 1, 1), 0);
	assert_int_equal(try_map(fd, 0, 0), -EINVAL);
	assert_int_equal(try_map(fd, 1, 0), -EINVAL);
	assert_int_equal(try_map(fd, 4 * PAGE, 0), -EINVAL);
	assert_int_equal(try_map(fd, 0, 4 * PAGE + 1), -ERANGE);
	assert_int_equal(try_map(fd, 1, 4 * PAGE), -ERANGE);
	assert_int_equal(try_map(fd, 4 * PAGE, 1), -ERANGE);
	assert_int_equal(try_map(fd, 0, UINT64_MAX), -ERANGE);
	assert_int_equal(try_map(fd, UINT64_MAX - 1, 1), -ERANGE);
	assert_int_equal(try_map(fd, UINT64_MAX, 1), -EINVAL);
	assert_int_equal(try_map(fd, 1, UINT64_MAX), -EINVAL);
	assert_int_equal(try_map(fd, UINT64_MAX, UINT64_MAX), -EINVAL);
	assert_int_equal(try_map(fd, UINT64_C(1) << 63, UINT64_C(1) << 63), -EINVAL);
	assert_int_equal(try_map(fd, PAGE, UINT64_MAX - PAGE + 1), -EINVAL);
	close(fd);

	fd = test_memfd(0, 0);
	assert_int_equal(try_map(fd, 0, 1), -ERANGE);
	close(fd);
	test_usage_check(&before);
}

static void
check_refused(int fd, int error)
{
	assert_true(fd >= 0);
	assert_int_equal(try_map(fd, 0, 1), error);
	close(fd);
}

static void
test_what_is_no_file_is_refused(void **state)
{
	struct test_usage before;
	int fds[2];

	(void)state;
	test_usage_take(&before);
	assert_int_equal(try_map(-1, 0, PAGE), -EBADF);
	check_refused(open("/", O_RDONLY | O_DIRECTORY), -EINVAL);
	check_refused(open("/dev/zero", O_RDWR), -EINVAL);
	check_refused(eventfd(0, 0), -EINVAL);
	assert_int_equal(pipe(fds), 0);
	check_refused(fds[0], -EINVAL);
	check_refused(fds[1], -EINVAL);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	check_refused(fds[0], -EINVAL);
	check_refused(fds[1], -EINVAL);
	test_usage_check(&before);
}

/* sysfs stands for all file systems that are no memory; FUSE is the dangerous one. */
static void
test_other_file_systems_are_refused(void **state)
{
	(void)state;
	check_refused(open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY), -EOPNOTSUPP);
}

static void
test_files_that_cannot_be_written_are_refused(void **state)
{
	struct test_usage before;
	char path[64];
	int fd, ro;

	(void)state;
	test_usage_take(&before);
	fd = test_memfd(PAGE, MFD_ALLOW_SEALING);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	check_refused(ro, -EACCES);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
	assert_int_equal(try_map(fd, 0, PAGE), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	check_refused(fd, -EPERM);
	test_usage_check(&before);
}

/* A named file, as QEMU's memory-backend-file gives it. */
static int
try_file_in(const char *folder, bool *memory)
{
	char path[64];
	struct statfs fs;
	int fd, ret;

	snprintf(path, sizeof(path), "%s/vhub-test-XXXXXX", folder);
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(ftruncate(fd, PAGE), 0);
	assert_int_equal(fstatfs(fd, &fs), 0);
	*memory = fs.f_type == TMPFS_MAGIC || fs.f_type == HUGETLBFS_MAGIC;
	ret = try_map(fd, 0, PAGE);
	close(fd);
	return ret;
}

/* What rte_log() printed while `folder` was tried. */
static void
log_of_file_in(const char *folder, char *text, size_t size)
{
	FILE *out = tmpfile();
	bool memory;
	size_t n;

	assert_non_null(out);
	assert_int_equal(rte_openlog_stream(out), 0);
	assert_int_equal(try_file_in(folder, &memory), -EOPNOTSUPP);
	assert_int_equal(rte_openlog_stream(NULL), 0);
	rewind(out);
	n = fread(text, 1, size - 1, out);
	text[n] = 0;
	fclose(out);
}

/*
 * A file on a disk, or in a container on what stands between us and the disk: each touch of ours
 * could wait for it. This test fails where no folder of the list lies on one.
 */
static void
test_files_on_disks_are_refused(void **state)
{
	static const char *const folders[] = { "/var/tmp", "/usr/tmp", "/tmp", "." };
	bool memory = true;
	char text[1024];
	size_t i;

	(void)state;
	assert_int_equal(try_file_in("/dev/shm", &memory), 0);
	assert_true(memory);
	for (i = 0; memory && i < sizeof(folders) / sizeof(folders[0]); i++) {
		int ret = try_file_in(folders[i], &memory);

		assert_int_equal(ret, memory ? 0 : -EOPNOTSUPP);
	}
	assert_false(memory);
	/* Told why, and what to do; and not for ever. */
	log_of_file_in(folders[i - 1], text, sizeof(text));
	assert_non_null(strstr(text, "disk"));
	assert_non_null(strstr(text, "memfd"));
	for (int n = 0; n < 20; n++)
		log_of_file_in(folders[i - 1], text, sizeof(text));
	assert_string_equal(text, "");
}

#define TIB (UINT64_C(1) << 40)

/* Sparse files cost their owner nothing: it maps halves of what is refused until nothing is left. */
static uint64_t
take_address_space(struct vhub_mem_owner *owner, int fd, struct vhub_mem_map **maps,
		unsigned int *n)
{
	uint64_t total = 0;
	void *hva;

	for (uint64_t size = 64 * TIB; size >= TIB / 64; size /= 2) {
		while (vhub_mem_map_create(fd, 0, size, owner, &maps[*n], &hva) == 0) {
			total += size;
			++*n;
		}
	}
	return total;
}

static void
test_no_owner_takes_all_addresses(void **state)
{
	struct vhub_mem_owner *owners[4], honest = { .broken = NULL };
	struct vhub_mem_map *maps[256], *map;
	struct test_usage before;
	unsigned int n = 0;
	int fd;

	(void)state;
	test_usage_take(&before);
	fd = test_memfd(64 * TIB, 0);
	for (int i = 0; i < 4; i++) {
		owners[i] = calloc(1, sizeof(*owners[i]));
		assert_non_null(owners[i]);
		assert_in_range(take_address_space(owners[i], fd, maps, &n), TIB, 32 * TIB);
		/* Two of them go, and what they have mapped stays: it must count on. */
		if (i % 2 == 0) {
			vhub_mem_owner_detach(owners[i]);
			free(owners[i]);
		}
	}
	assert_int_equal(vhub_mem_map_create(fd, 0, TIB, &honest, &map, (void *[]){ NULL }), 0);
	vhub_mem_map_put(map);
	while (n != 0)
		vhub_mem_map_put(maps[--n]);
	for (int i = 1; i < 4; i += 2) {
		assert_int_equal(owners[i]->mapped_bytes, 0);
		assert_int_equal(owners[i]->n_maps, 0);
		free(owners[i]);
	}
	assert_int_equal(honest.mapped_bytes, 0);
	/* All of it came back. */
	assert_int_equal(vhub_mem_map_create(fd, 0, 31 * TIB, &honest, &map, (void *[]){ NULL }),
			0);
	vhub_mem_map_put(map);
	close(fd);
	test_usage_check(&before);
}

/* What mmap(2) itself refuses is given back as well. */
static void
test_refused_mappings_cost_no_share(void **state)
{
	struct vhub_mem_owner owner = { .broken = NULL };
	struct vhub_mem_map *map;
	int fd = test_memfd(16 * TIB, MFD_ALLOW_SEALING);

	(void)state;
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	for (int i = 0; i < 20; i++)
		assert_int_equal(vhub_mem_map_create(fd, 0, 16 * TIB, &owner, &map,
						 (void *[]){ NULL }),
				-EPERM);
	close(fd);
	assert_int_equal(owner.mapped_bytes, 0);
	fd = test_memfd(16 * TIB, 0);
	assert_int_equal(vhub_mem_map_create(fd, 0, 16 * TIB, &owner, &map, (void *[]){ NULL }), 0);
	vhub_mem_map_put(map);
	close(fd);
}

static void
test_bytes_are_shared_at_any_offset(void **state)
{
	static const uint64_t offsets[] = { 0, 1, 8, 4095, 4096, 4097, 8191, 3 * 4096 + 17 };
	struct test_usage before;
	struct vhub_mem_map *map;
	uint8_t *p;
	int fd;

	(void)state;
	test_usage_take(&before);
	fd = test_memfd(8 * PAGE, 0);
	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		const uint64_t size = PAGE + 3;
		const uint8_t ours = (uint8_t)(0x80 + i), theirs = (uint8_t)(i + 1);
		uint8_t got;

		assert_int_equal(vhub_mem_map_create(fd, offsets[i], size, NULL, &map, (void **)&p),
				0);
		p[0] = ours;
		assert_int_equal(pread(fd, &got, 1, (off_t)offsets[i]), 1);
		assert_int_equal(got, ours);
		assert_int_equal(pwrite(fd, &theirs, 1, (off_t)(offsets[i] + size - 1)), 1);
		assert_int_equal(p[size - 1], theirs);
		vhub_mem_map_put(map);
	}
	close(fd);
	test_usage_check(&before);
}

static void
test_last_reference_unmaps(void **state)
{
	struct test_usage before;
	struct vhub_mem_map *map;
	uint64_t n_maps, bytes;
	uint8_t *p;
	int fd;

	(void)state;
	test_usage_take(&before);
	fd = test_memfd(3 * PAGE, 0);
	assert_int_equal(vhub_mem_map_create(fd, PAGE + 5, PAGE, NULL, &map, (void **)&p), 0);
	close(fd);
	vhub_mem_usage(&n_maps, &bytes);
	assert_int_equal(n_maps, before.n_maps + 1);
	assert_int_equal(bytes, before.bytes + 2 * PAGE);
	assert_int_equal(test_count_maps(), before.lines + 1);

	assert_ptr_equal(vhub_mem_map_get(map), map);
	vhub_mem_map_put(map);
	p[PAGE - 1] = 1;
	assert_int_equal(test_count_maps(), before.lines + 1);
	vhub_mem_map_put(map);
	vhub_mem_map_put(NULL);
	test_usage_check(&before);
}

/*
 * hugetlbfs wants offsets, lengths and addresses in its own pages. No page has to be free for that: none is
 * reserved, and none is touched.
 */
static void
test_hugetlb_is_widened(void **state)
{
	const uint64_t huge = 2 << 20;
	struct test_usage before;
	struct vhub_mem_map *map;
	uint64_t n_maps, bytes;
	void *hva;
	int fd;

	(void)state;
	test_usage_take(&before);
	fd = test_memfd(4 * huge, MFD_HUGETLB | (21u << 26));
	assert_int_equal(vhub_mem_map_create(fd, huge + PAGE, huge, NULL, &map, &hva), 0);
	assert_int_equal((uintptr_t)hva % huge, PAGE);
	vhub_mem_usage(&n_maps, &bytes);
	assert_int_equal(bytes, before.bytes + 2 * huge);
	vhub_mem_map_put(map);
	assert_int_equal(try_map(fd, 4 * huge - 1, 1), 0);
	assert_int_equal(try_map(fd, 4 * huge - 1, 2), -ERANGE);
	close(fd);
	test_usage_check(&before);
}

/* The flags of the mapping around `addr`, from smaps. */
static bool
has_vm_flag(const void *addr, const char *flag)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	bool inside = false, found = false;
	unsigned long from, to;
	char line[512];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			inside = (uintptr_t)addr >= from && (uintptr_t)addr < to;
		else if (inside && strncmp(line, "VmFlags:", 8) == 0)
			found = strstr(line, flag) != NULL;
	}
	fclose(f);
	return found;
}

static void
test_guest_memory_is_not_dumped(void **state)
{
	struct vhub_mem_map *map;
	void *hva;
	int fd;

	(void)state;
	fd = test_memfd(PAGE, 0);
	assert_int_equal(vhub_mem_map_create(fd, 0, PAGE, NULL, &map, &hva), 0);
	assert_true(has_vm_flag(hva, " dd"));
	vhub_mem_map_put(map);
	close(fd);
}

/* A page that this process has in its tables. */
static bool
is_present(const uint8_t *at)
{
	const int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &entry, sizeof(entry),
					 (off_t)((uintptr_t)at / PAGE * sizeof(entry))),
			sizeof(entry));
	close(fd);
	return entry >> 63 != 0;
}

static void
test_an_adopted_mapping_is_left_without_pages(void **state)
{
	const int fd = test_memfd(4 * PAGE, 0);
	uint8_t *p = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	struct vhub_mem_map *map;
	struct test_usage before;

	(void)state;
	assert_true(p != MAP_FAILED);
	test_usage_take(&before);
	memset(p, 7, 4 * PAGE);
	assert_int_equal(vhub_mem_map_adopt(p, 4 * PAGE, NULL, &map), 0);
	assert_true(is_present(p) && is_present(p + 3 * PAGE));
	vhub_mem_map_put(map);
	for (unsigned int i = 0; i < 4; i++)
		assert_false(is_present(p + i * PAGE));
	test_usage_check(&before);
	/* It is the library's to unmap, and the file has what was written. */
	assert_int_equal(p[3 * PAGE], 7);
	munmap(p, 4 * PAGE);
	close(fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes_are_checked),
		cmocka_unit_test(test_what_is_no_file_is_refused),
		cmocka_unit_test(test_other_file_systems_are_refused),
		cmocka_unit_test(test_files_that_cannot_be_written_are_refused),
		cmocka_unit_test(test_files_on_disks_are_refused),
		cmocka_unit_test(test_no_owner_takes_all_addresses),
		cmocka_unit_test(test_refused_mappings_cost_no_share),
		cmocka_unit_test(test_bytes_are_shared_at_any_offset),
		cmocka_unit_test(test_last_reference_unmaps),
		cmocka_unit_test(test_hugetlb_is_widened),
		cmocka_unit_test(test_guest_memory_is_not_dumped),
		cmocka_unit_test(test_an_adopted_mapping_is_left_without_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
