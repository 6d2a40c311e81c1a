/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guest memory that the uring driver registers (drivers/blk/uring/pins.c): which I/Os go by what was
 * registered, what happens when the table changes, and what is not registered.
 *
 * How a test sees it: it puts other pages in the place of the guest's. I/O by a registration still
 * meets the pages that were pinned, any other I/O those that are there now.
 */
#include "driver_suite.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/seccomp.h>

#include <rte_common.h>

#include "../eal_fixture.h"
#include "../elsewhere.h"
#include "../hugepages.h"
#include "vhub_lcore.h"
#include "vhub_loop.h"
#include "vhub_mem.h"
#include "vhub_work.h"

#define MB (1u << 20)
#define SLICE_BYTES (64u * MB) /* of a small guest; a buffer that lies in two goes without */
#define GUEST_BYTES (2 * SLICE_BYTES + MB)
#define IMAGE_BYTES (4u * MB)

static char image[64] = "/tmp/vhub-pins-XXXXXX";

/* Memory of a guest: as the driver sees it, and as the guest does. */
struct guest {
	int fd;
	struct vhub_mem_table *table;
	uint8_t *hva;
	uint8_t *own;
	size_t bytes;
	size_t offset_bytes;
};

/* From there on in its file. */
static void
guest_create_in(struct guest *g, int fd, size_t bytes, size_t offset_bytes, bool allocated)
{
	struct vhub_user_mem_region region = { .guest_addr_gpa = 0x100000,
		.size_bytes = bytes,
		.mmap_offset_bytes = offset_bytes };
	const size_t file_bytes = offset_bytes + bytes;

	*g = (struct guest){ .fd = fd, .bytes = bytes, .offset_bytes = offset_bytes };
	assert_true(g->fd >= 0);
	assert_int_equal(ftruncate(g->fd, (off_t)file_bytes), 0);
	if (allocated)
		assert_int_equal(fallocate(g->fd, 0, 0, (off_t)file_bytes), 0);
	assert_int_equal(vhub_mem_table_build(NULL, &region, &g->fd, 1, NULL, &g->table), 0);
	g->hva = g->table->regions[0].hva;
	g->own = mmap(NULL, file_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, g->fd, 0);
	assert_true(g->own != MAP_FAILED);
	g->own += offset_bytes;
}

static void
guest_create(struct guest *g, size_t bytes, bool allocated)
{
	guest_create_in(g, memfd_create("guest", MFD_CLOEXEC), bytes, 0, allocated);
}

/* Memory in two regions, which nobody looks into. */
static struct vhub_mem_table *
table_of_two(size_t first_bytes, size_t second_bytes)
{
	const struct vhub_user_mem_region regions[] = {
		{ .guest_addr_gpa = 0x100000,
				.user_addr_uva = 0x100000,
				.size_bytes = first_bytes },
		{ .guest_addr_gpa = 0x10000000,
				.user_addr_uva = 0x10000000,
				.size_bytes = second_bytes },
	};
	struct vhub_mem_table *table;
	int fds[2];

	for (unsigned int i = 0; i < 2; i++) {
		fds[i] = memfd_create("guest", MFD_CLOEXEC);
		assert_int_equal(fallocate(fds[i], 0, 0, (off_t)regions[i].size_bytes), 0);
	}
	assert_int_equal(vhub_mem_table_build(NULL, regions, fds, 2, NULL, &table), 0);
	for (unsigned int i = 0; i < 2; i++)
		close(fds[i]);
	return table;
}

/* What a guard does when the file was cut: zero pages where the guest's were. */
static void
guest_replace(struct guest *g)
{
	assert_ptr_equal(mmap(g->hva, g->bytes, PROT_READ | PROT_WRITE,
					 MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
					 -1, 0),
			g->hva);
}

static void
guest_restore(struct guest *g)
{
	assert_ptr_equal(mmap(g->hva, g->bytes, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_SHARED,
					 g->fd, 0),
			g->hva);
}

static void
guest_punch(struct guest *g, size_t at, size_t bytes)
{
	assert_int_equal(fallocate(g->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at,
					 (off_t)bytes),
			0);
}

/* What the guest's file has. */
static size_t
guest_filled_bytes(struct guest *g)
{
	struct stat st;

	assert_int_equal(fstat(g->fd, &st), 0);
	return (size_t)st.st_blocks * 512;
}

static void
guest_destroy(struct guest *g)
{
	vhub_mem_table_put(g->table);
	munmap(g->own - g->offset_bytes, g->offset_bytes + g->bytes);
	close(g->fd);
}

static void
open_disk(struct driver_disk *d, const char *more)
{
	char args[128];

	snprintf(args, sizeof(args), "path=%s,inline=off%s", image, more);
	driver_open(d, "uring", args, false);
}

/* Reads the first 8 KiB of the image, which are 7s, in `n` pieces of the guest's memory from `at`. */
static int
read_to(struct driver_disk *d, struct guest *g, size_t at, unsigned int n)
{
	const uint32_t none[] = { 0 };
	struct driver_io io;
	int result;

	driver_io_init(&io, VHUB_BLK_READ, 0, none, 0);
	for (unsigned int i = 0; i < n; i++)
		io.iov[i] = (struct iovec){ g->hva + at + i * (8192 / n), 8192 / n };
	io.io.n_iov = (uint16_t)n;
	io.io.len_bytes = 8192;
	driver_run(d, &io, 1);
	result = io.io.result;
	driver_io_free(&io);
	return result;
}

static bool
is_all(const uint8_t *bytes, uint8_t value)
{
	return bytes[0] == value && memcmp(bytes, bytes + 1, 8191) == 0;
}

/* Whether such a read meets the pages that the guest had; it meets one of both. */
static bool
goes_by_registration(struct driver_disk *d, struct guest *g, size_t at, unsigned int n)
{
	bool registered;

	memset(g->own + at, 0, 8192);
	memset(g->hva + at, 0, 8192);
	assert_int_equal(read_to(d, g, at, n), 0);
	registered = is_all(g->own + at, 7);
	assert_true(is_all(g->hva + at, registered ? 0 : 7));
	assert_true(is_all(g->own + at, registered ? 7 : 0));
	return registered;
}

static void
test_buffers_of_one_slice_go_by_registration(void **state)
{
	struct driver_disk d;
	struct guest g;

	(void)state;
	guest_create(&g, GUEST_BYTES, true);
	open_disk(&d, ",pin=on");
	d.ops->memory(d.disk, g.table);
	assert_int_equal(read_to(&d, &g, 0, 1), 0);
	guest_replace(&g);
	assert_true(goes_by_registration(&d, &g, 0, 1));
	assert_true(goes_by_registration(&d, &g, SLICE_BYTES - 8192, 1));
	assert_true(goes_by_registration(&d, &g, SLICE_BYTES, 1));
	assert_true(goes_by_registration(&d, &g, GUEST_BYTES - 8192, 1));
	/* In two slices, and in two pieces. */
	assert_false(goes_by_registration(&d, &g, SLICE_BYTES - 4096, 1));
	assert_false(goes_by_registration(&d, &g, 2 * SLICE_BYTES - 4096, 1));
	assert_false(goes_by_registration(&d, &g, 0, 2));
	driver_close(&d);
	guest_destroy(&g);
}

static void
test_without_it_nothing_does(void **state)
{
	struct driver_disk d;
	struct guest g;

	(void)state;
	guest_create(&g, MB, true);
	open_disk(&d, "");
	d.ops->memory(d.disk, g.table);
	guest_replace(&g);
	assert_false(goes_by_registration(&d, &g, 0, 1));
	driver_close(&d);
	guest_destroy(&g);
}

/* Another queue, and the same one after a table that came, went and came again. */
static void
test_each_queue_follows_the_table(void **state)
{
	struct driver_disk d, other;
	struct guest a, b;

	(void)state;
	guest_create(&a, MB, true);
	guest_create(&b, MB, true);
	open_disk(&d, ",pin=on");
	other = d;
	d.ops->memory(d.disk, a.table);
	assert_int_equal(d.ops->queue_get(d.disk, &other.queue), 0);
	guest_replace(&a);
	guest_replace(&b);
	assert_true(goes_by_registration(&d, &a, 0, 1));
	assert_true(goes_by_registration(&other, &a, 4096, 1));
	assert_false(goes_by_registration(&d, &b, 0, 1));
	/* What a guard has put in the place of b is not. */
	d.ops->memory(d.disk, b.table);
	assert_false(goes_by_registration(&d, &b, 0, 1));
	guest_restore(&b);
	d.ops->memory(d.disk, b.table);
	assert_false(goes_by_registration(&other, &a, 0, 1));
	assert_false(goes_by_registration(&d, &a, 4096, 1));
	guest_replace(&b);
	assert_true(goes_by_registration(&d, &b, 0, 1));
	assert_true(goes_by_registration(&other, &b, 4096, 1));
	/* A queue that was got before and has seen nothing lets go of it as well. */
	d.ops->memory(d.disk, NULL);
	assert_int_equal(read_to(&d, &b, 0, 1), 0);
	assert_true(is_all(b.hva, 7));
	d.ops->queue_put(other.queue);
	driver_close(&d);
	guest_destroy(&a);
	guest_destroy(&b);
}

/* What is in flight when the table changes comes back, with what the pinned pages hold. */
static void
test_a_table_may_change_with_ios_in_flight(void **state)
{
	const uint32_t none[] = { 0 };
	struct vhub_blk_io *burst[32], *done[32];
	struct driver_io ios[32];
	struct driver_disk d;
	struct guest a, b;
	unsigned int n = 0;

	(void)state;
	guest_create(&a, MB, true);
	guest_create(&b, MB, true);
	open_disk(&d, ",pin=on,direct=on");
	d.ops->memory(d.disk, a.table);
	for (unsigned int i = 0; i < 32; i++) {
		driver_io_init(&ios[i], VHUB_BLK_READ, 0, none, 0);
		ios[i].iov[0] = (struct iovec){ a.hva + (size_t)i * 8192, 8192 };
		ios[i].io.n_iov = 1;
		ios[i].io.len_bytes = 8192;
		burst[i] = &ios[i].io;
	}
	assert_int_equal(d.ops->submit(d.queue, burst, 32), 32);
	d.ops->memory(d.disk, b.table);
	while (n < 32)
		n += d.ops->reap(d.queue, done, 32);
	for (unsigned int i = 0; i < 32; i++) {
		assert_int_equal(ios[i].io.result, 0);
		assert_true(is_all(a.own + (size_t)i * 8192, 7));
		driver_io_free(&ios[i]);
	}
	guest_replace(&b);
	assert_int_equal(d.ops->reap(d.queue, done, 32), 0);
	assert_true(goes_by_registration(&d, &b, 0, 1));
	driver_close(&d);
	guest_destroy(&a);
	guest_destroy(&b);
}

/* A front end can name more memory than there is: what it has not filled is not filled by us. */
static void
test_memory_that_is_not_there_is_not_taken(void **state)
{
	struct driver_disk d;
	struct guest g;

	(void)state;
	guest_create(&g, GUEST_BYTES, false);
	open_disk(&d, ",pin=on");
	d.ops->memory(d.disk, g.table);
	assert_int_equal(read_to(&d, &g, 0, 1), 0);
	guest_replace(&g);
	assert_false(goes_by_registration(&d, &g, 0, 1));
	driver_close(&d);
	guest_destroy(&g);
}

/* Nor what it has taken out again since: a slice with a hole goes without, and the others do not. */
static void
test_a_slice_with_a_hole_goes_without(void **state)
{
	struct driver_disk d;
	struct guest g;

	(void)state;
	guest_create(&g, GUEST_BYTES, true);
	open_disk(&d, ",pin=on");
	guest_punch(&g, 2 * SLICE_BYTES - 4096, 4096);
	d.ops->memory(d.disk, g.table);
	assert_int_equal(read_to(&d, &g, SLICE_BYTES, 1), 0);
	assert_int_equal(guest_filled_bytes(&g), GUEST_BYTES - 4096);
	guest_replace(&g);
	assert_true(goes_by_registration(&d, &g, SLICE_BYTES - 8192, 1));
	assert_false(goes_by_registration(&d, &g, SLICE_BYTES, 1));
	assert_true(goes_by_registration(&d, &g, 2 * SLICE_BYTES, 1));
	driver_close(&d);
	guest_destroy(&g);
}

/* From its end, while slices are registered from its beginning: one of them meets it. */
static void *
punch_it_all(void *arg)
{
	struct guest *g = arg;

	for (size_t at = GUEST_BYTES; at != 0; at -= MB)
		guest_punch(g, at - MB, MB);
	return NULL;
}

static void
test_memory_that_goes_meanwhile_is_not_filled(void **state)
{
	struct driver_disk d;
	struct guest g;

	(void)state;
	open_disk(&d, ",pin=on");
	for (unsigned int round = 0; round < 4; round++) {
		pthread_t thread;

		guest_create(&g, GUEST_BYTES, true);
		assert_int_equal(pthread_create(&thread, NULL, punch_it_all, &g), 0);
		d.ops->memory(d.disk, g.table);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_int_equal(guest_filled_bytes(&g), 0);
		d.ops->memory(d.disk, NULL);
		guest_destroy(&g);
	}
	driver_close(&d);
}

/* Its offset in the file is in the middle of a page, so that a slice ends there too. */
static void
test_hugetlb_goes_by_registration_and_is_not_filled(void **state)
{
	const size_t huge = 2 * MB, bytes = 4 * huge;
	struct hugepages pages;
	struct driver_disk d;
	struct guest g;

	(void)state;
	/* And one that is touched again, while all of them are pinned. */
	hugepages_take(&pages, bytes / huge + 1);
	guest_create_in(&g, memfd_create("guest", MFD_CLOEXEC | MFD_HUGETLB | (21u << 26)),
			bytes - MB, MB, true);
	open_disk(&d, ",pin=on");
	d.ops->memory(d.disk, g.table);
	assert_int_equal(read_to(&d, &g, 4096, 1), 0);
	assert_true(is_all(g.own + 4096, 7));
	/* What is pinned is not the file's any more. */
	guest_punch(&g, 0, bytes);
	memset(g.own + 4096, 0, 8192);
	assert_int_equal(read_to(&d, &g, 4096, 1), 0);
	assert_true(is_all(g.own + 4096, 0));
	assert_int_equal(guest_filled_bytes(&g), huge);
	d.ops->memory(d.disk, g.table);
	assert_int_equal(guest_filled_bytes(&g), huge);
	assert_int_equal(read_to(&d, &g, 4096, 1), 0);
	assert_true(is_all(g.own + 4096, 7));
	driver_close(&d);
	guest_destroy(&g);
	hugepages_give_back(&pages);
}

/* A user who may lock less than the guest has. */
static int
refused(void)
{
	struct rlimit limit = { 8 * MB, 8 * MB };
	struct driver_disk d;
	struct guest g;

	guest_create(&g, 16 * MB, true);
	open_disk(&d, ",pin=on");
	d.ops->queue_put(d.queue);
	if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0 || (getuid() == 0 && setuid(65534) != 0))
		return 1;
	assert_int_equal(d.ops->queue_get(d.disk, &d.queue), 0);
	d.ops->memory(d.disk, g.table);
	guest_replace(&g);
	return goes_by_registration(&d, &g, 0, 1) ? 2 : 0;
}

/* What is limited is the user's, and a filter is for ever: in a process of its own. */
static void
run_as_another(int (*fn)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(fn());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void
test_what_is_refused_goes_on_without(void **state)
{
	(void)state;
	run_as_another(refused);
}

/* Where a filter forbids userfaultfd(2), nothing could be registered without making pages. */
static int
without_windows(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = RTE_DIM(filter), .filter = filter };
	struct driver_disk d;
	struct guest g;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
			prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		return 1;
	guest_create(&g, MB, true);
	open_disk(&d, ",pin=on");
	d.ops->memory(d.disk, g.table);
	guest_replace(&g);
	return goes_by_registration(&d, &g, 0, 1) ? 2 : 0;
}

static void
test_without_windows_nothing_is_registered(void **state)
{
	(void)state;
	run_as_another(without_windows);
}

static unsigned long
pinned_kb(void)
{
	unsigned long kb = 1;
	char line[128];
	FILE *file = fopen("/proc/self/status", "re");

	assert_non_null(file);
	while (fgets(line, sizeof(line), file) != NULL)
		sscanf(line, "VmPin: %lu kB", &kb);
	fclose(file);
	return kb;
}

static struct vhub_loop *loop;

/* Blocking work and timers go on, and the queue has a turn. */
static void
go_on(struct driver_disk *d)
{
	struct vhub_blk_io *none[1];

	d->ops->reap(d->queue, none, 1);
	loop_goes_on(loop);
}

/* Until so much is pinned, or so much, and who wanted it knows. Returns whether it is. */
static bool
wait_pinned(struct driver_disk *d, unsigned long kb, unsigned long or_kb)
{
	unsigned long now = pinned_kb();

	for (unsigned int i = 0; i < 1000 && now != kb && now != or_kb; i++) {
		go_on(d);
		now = pinned_kb();
	}
	vhub_work_wait(VHUB_WORK_ORDINARY);
	go_on(d);
	return now == kb || now == or_kb;
}

/* One guest fits, and the queue keeps the table of before until its next turn. */
static int
changed_twice(void)
{
	struct rlimit limit = { 8 * MB, 8 * MB };
	struct guest guests[3];
	struct driver_disk d;
	bool pinned;

	for (unsigned int i = 0; i < 3; i++)
		guest_create(&guests[i], (5 + i) * MB, true);
	open_disk(&d, ",pin=on");
	d.ops->memory(d.disk, NULL);
	d.ops->queue_put(d.queue);
	if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0 || (getuid() == 0 && setuid(65534) != 0) ||
			vhub_loop_create(&loop) != 0 || vhub_work_start(loop) != 0)
		return 1;
	assert_int_equal(d.ops->queue_get(d.disk, &d.queue), 0);
	d.ops->memory(d.disk, guests[0].table);
	if (!wait_pinned(&d, 5 * 1024, 5 * 1024))
		return 2;
	d.ops->memory(d.disk, guests[1].table);
	d.ops->memory(d.disk, guests[2].table);
	/* Without a turn of the queue there is no room for it. */
	vhub_work_wait(VHUB_WORK_ORDINARY);
	if (!wait_pinned(&d, 7 * 1024, 7 * 1024))
		return 3;
	d.ops->reap(d.queue, (struct vhub_blk_io *[1]){ NULL }, 1);
	guest_replace(&guests[2]);
	pinned = goes_by_registration(&d, &guests[2], 0, 1);
	d.ops->queue_put(d.queue);
	d.ops->memory(d.disk, NULL);
	vhub_work_wait(VHUB_WORK_ORDINARY);
	return pinned ? 0 : 4;
}

/*
 * Two disks whose guests fit one at a time, in two pieces each: one of them has to get all of its own. No
 * other pieces are together as much.
 */
static int
half_each(void)
{
	struct rlimit limit = { 8 * MB, 8 * MB };
	struct driver_disk disks[2];
	struct vhub_mem_table *tables[2];

	for (unsigned int i = 0; i < 2; i++) {
		tables[i] = i == 0 ? table_of_two(3 * MB, 4 * MB) : table_of_two(5 * MB, MB);
		open_disk(&disks[i], ",pin=on");
		disks[i].ops->memory(disks[i].disk, NULL);
		disks[i].ops->queue_put(disks[i].queue);
	}
	if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0 || (getuid() == 0 && setuid(65534) != 0) ||
			vhub_loop_create(&loop) != 0 || vhub_work_start(loop) != 0)
		return 1;
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(disks[i].ops->queue_get(disks[i].disk, &disks[i].queue), 0);
		disks[i].ops->memory(disks[i].disk, tables[i]);
	}
	if (!wait_pinned(&disks[0], 7 * 1024, 6 * 1024))
		return 2;
	for (unsigned int i = 0; i < 2; i++) {
		disks[i].ops->queue_put(disks[i].queue);
		disks[i].ops->memory(disks[i].disk, NULL);
	}
	vhub_work_wait(VHUB_WORK_ORDINARY);
	return 0;
}

static void
test_of_two_disks_that_do_not_fit_one_is_pinned(void **state)
{
	(void)state;
	run_as_another(half_each);
}

static void
test_a_table_that_changes_twice_is_pinned_in_the_end(void **state)
{
	(void)state;
	run_as_another(changed_twice);
}

/* The pages are given back when the guest goes, also while the disk stays. */
static void
test_nothing_stays_pinned(void **state)
{
	struct driver_disk d;
	struct guest g;

	(void)state;
	open_disk(&d, ",pin=on");
	for (unsigned int round = 0; round < 20; round++) {
		guest_create(&g, MB, true);
		d.ops->memory(d.disk, g.table);
		assert_int_equal(read_to(&d, &g, 0, 1), 0);
		d.ops->queue_put(d.queue);
		d.ops->memory(d.disk, NULL);
		assert_int_equal(__atomic_load_n(&g.table->refs, __ATOMIC_RELAXED), 1);
		guest_destroy(&g);
		assert_int_equal(d.ops->queue_get(d.disk, &d.queue), 0);
	}
	/* The kernel takes its time for what a closed io_uring had. */
	for (unsigned int i = 0;; i++) {
		/* 64 MiB of the suite's, which driver_open() has given the disk, have gone too. */
		if (pinned_kb() == 0)
			break;
		assert_in_range(i, 0, 1000);
		usleep(10000);
	}
	driver_close(&d);
}

/* Nor what an lcore that was stuck could have found. */
static void
test_nothing_stays_pinned_that_a_stuck_lcore_could_have(void **state)
{
	static struct elsewhere elsewhere;
	unsigned long stuck_kb;
	struct driver_disk d;
	struct guest g;

	(void)state;
	assert_int_equal(vhub_loop_create(&loop), 0);
	open_disk(&d, ",pin=on");
	guest_create(&g, MB, true);
	d.ops->memory(d.disk, g.table);
	d.ops->queue_put(d.queue);
	assert_int_equal(vhub_lcores_start(loop, VHUB_IDLE_ADAPTIVE, 0), 0);
	elsewhere_begin(&elsewhere, vhub_lcore_at(1));
	/* Here it waits, for there are no threads for that. */
	d.ops->memory(d.disk, NULL);
	assert_int_equal(d.ops->queue_get(d.disk, &d.queue), 0);
	stuck_kb = pinned_kb();
	elsewhere_end(&elsewhere);
	for (unsigned int i = 0; i < 1000 && pinned_kb() != 0; i++)
		go_on(&d);
	vhub_lcores_stop();
	assert_true(stuck_kb >= MB / 1024);
	assert_int_equal(pinned_kb(), 0);
	guest_destroy(&g);
	driver_close(&d);
	vhub_loop_destroy(loop);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buffers_of_one_slice_go_by_registration),
		cmocka_unit_test(test_without_it_nothing_does),
		cmocka_unit_test(test_each_queue_follows_the_table),
		cmocka_unit_test(test_a_table_may_change_with_ios_in_flight),
		cmocka_unit_test(test_memory_that_is_not_there_is_not_taken),
		cmocka_unit_test(test_a_slice_with_a_hole_goes_without),
		cmocka_unit_test(test_memory_that_goes_meanwhile_is_not_filled),
		cmocka_unit_test(test_hugetlb_goes_by_registration_and_is_not_filled),
		cmocka_unit_test(test_what_is_refused_goes_on_without),
		cmocka_unit_test(test_without_windows_nothing_is_registered),
		cmocka_unit_test(test_a_table_that_changes_twice_is_pinned_in_the_end),
		cmocka_unit_test(test_of_two_disks_that_do_not_fit_one_is_pinned),
		cmocka_unit_test(test_nothing_stays_pinned),
		cmocka_unit_test(test_nothing_stays_pinned_that_a_stuck_lcore_could_have),
	};
	uint8_t sevens[8192];
	int fd, failed;

	if (test_eal_init() != 0)
		return 99;
	fd = mkstemp(image);
	memset(sevens, 7, sizeof(sevens));
	if (fd < 0 || ftruncate(fd, IMAGE_BYTES) != 0 ||
			pwrite(fd, sevens, sizeof(sevens), 0) != sizeof(sevens) || fsync(fd) != 0)
		return 99;
	close(fd);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(image);
	return failed;
}
