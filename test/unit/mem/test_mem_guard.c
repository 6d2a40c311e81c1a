/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guard: a fault in a mapping of ours is answered with zero pages and told once, whatever else goes on at the same
 * moment. Also here: the unmapping on the blocking-work thread, which needs a loop as well.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "guard_fixture.h"
#include "mem_pvt.h"
#include "vhub_work.h"

#define UVA UINT64_C(0x7f0000000000)

static void
test_started_once(void **state)
{
	(void)state;
	guard_start();
	assert_int_equal(vhub_mem_guard_start(loop), -EALREADY);
}

/* ---- faults in mappings of ours ---- */

static void
test_truncated_memory_reads_as_zero(void **state)
{
	struct session session, other;
	uint8_t in_file;

	(void)state;
	guard_start();
	session_open(&session, 4 * PAGE);
	session_open(&other, 4 * PAGE);
	memset(session.hva, 0xaa, 4 * PAGE);
	memset(other.hva, 0xbb, 4 * PAGE);
	assert_int_equal(ftruncate(session.fd, PAGE), 0);
	/* The part that is left may be used still. */
	assert_int_equal(touch(session.hva + PAGE - 1), 0xaa);
	assert_int_equal(session_faulted(&session), 0);

	assert_int_equal(touch(session.hva + 3 * PAGE), 0);
	assert_int_equal(session_faulted(&session), VHUB_MEM_FAULTED);
	/* So was all of the part around it, what the file still has too, and it is ours alone now. */
	assert_int_equal(touch(session.hva), 0);
	poke(session.hva + PAGE, 0xcc);
	assert_int_equal(touch(session.hva + PAGE), 0xcc);
	assert_int_equal(ftruncate(session.fd, 4 * PAGE), 0);
	poke(session.hva, 1);
	assert_int_equal(pread(session.fd, &in_file, 1, 0), 1);
	assert_int_equal(in_file, 0xaa);

	assert_int_equal(session.n_broken, 0);
	assert_int_equal(run_loop(2000), 0);
	assert_int_equal(session.n_broken, 1);
	assert_int_equal(session_faulted(&session), VHUB_MEM_FAULTED | VHUB_MEM_FAULT_TOLD);
	assert_int_equal(session_faulted(&other), 0);
	assert_int_equal(other.n_broken, 0);
	for (size_t i = 0; i < 4 * PAGE; i++)
		assert_int_equal(other.hva[i], 0xbb);
	session_close(&session);
	session_close(&other);
}

/* A write is the first access; also to memory that nobody had touched before. */
static void
test_write_to_truncated_memory(void **state)
{
	struct session session;

	(void)state;
	guard_start();
	session_open(&session, 2 * PAGE);
	assert_int_equal(ftruncate(session.fd, 0), 0);
	poke(session.hva + PAGE + 1, 7);
	assert_int_equal(touch(session.hva + PAGE + 1), 7);
	assert_int_equal(touch(session.hva + PAGE), 0);
	assert_int_equal(run_loop(2000), 0);
	session_close(&session);
}

/*
 * A fault costs the part of the mapping around it, not all that there is, and the owner is told once
 * of however many.
 */
static void
test_the_rest_of_the_memory_stays(void **state)
{
	struct session session;

	(void)state;
	guard_start();
	session_open(&session, 4 * MEM_PART_BYTES);
	for (size_t at = 0; at < 4 * MEM_PART_BYTES; at += PAGE)
		poke(session.hva + at, 0xaa);
	assert_int_equal(ftruncate(session.fd, MEM_PART_BYTES), 0);
	assert_int_equal(touch(session.hva + 4 * MEM_PART_BYTES - 1), 0);
	assert_int_equal(session_faulted(&session), VHUB_MEM_FAULTED);
	assert_int_equal(touch(session.hva), 0xaa);
	assert_int_equal(touch(session.hva + MEM_PART_BYTES - PAGE), 0xaa);
	poke(session.hva + 4 * MEM_PART_BYTES - 1, 7);
	assert_int_equal(run_loop(2000), 0);
	/* Another part, later. */
	assert_int_equal(touch(session.hva + 2 * MEM_PART_BYTES), 0);
	assert_int_equal(touch(session.hva + 4 * MEM_PART_BYTES - 1), 7);
	assert_int_equal(run_loop(50), 1);
	assert_int_equal(session.n_broken, 1);
	session_close(&session);
	assert_int_equal(mem_registry_parts(), 0);
}

static void
open_truncated(struct session *session, uint64_t size)
{
	session_open(session, size);
	assert_int_equal(ftruncate(session->fd, 0), 0);
}

/* However much there is to lose, piece by piece, the kernel's mappings do not run out. */
static void
test_parts_grow_as_they_become_many(void **state)
{
	const unsigned int n_each = MEM_OWN_PARTS_TO_DOUBLE - 1;
	const unsigned int n_sessions = 2 * MEM_PARTS_TO_DOUBLE / n_each + 1;
	struct session *sessions = calloc(n_sessions, sizeof(*sessions));
	struct session last;
	uint32_t before;

	(void)state;
	guard_start();
	assert_non_null(sessions);
	for (unsigned int i = 0; i < n_sessions; i++) {
		open_truncated(&sessions[i], n_each * 2 * MEM_PART_BYTES);
		for (unsigned int n = 0; n < n_each; n++)
			touch(sessions[i].hva + n * 2 * MEM_PART_BYTES);
	}
	before = mem_registry_parts();
	assert_in_range(before, 2 * MEM_PARTS_TO_DOUBLE, 3 * MEM_PARTS_TO_DOUBLE - 10);
	/* Four times as much now, although this mapping has none yet; and perhaps a piece at each end. */
	open_truncated(&last, 32 * MEM_PART_BYTES);
	for (uint64_t at = 0; at < 32 * MEM_PART_BYTES; at += MEM_PART_BYTES)
		touch(last.hva + at);
	assert_in_range(mem_registry_parts() - before, 8, 9);
	session_close(&last);
	for (unsigned int i = 0; i < n_sessions; i++)
		session_close(&sessions[i]);
	free(sessions);
	assert_int_equal(run_loop(1), 1);
	assert_int_equal(mem_registry_parts(), 0);
}

#define N_PIECES 4096u

/* Each piece lies in a part of its own, as a guest would have it; they are few faults. */
static void
test_a_burst_meets_few_faults(void **state)
{
	const uint64_t size = 4 * N_PIECES * MEM_PART_BYTES;
	const int64_t steps[] = { 4, -4, 3, -3 };
	struct session session;

	(void)state;
	guard_start();
	for (unsigned int i = 0; i < RTE_DIM(steps); i++) {
		const uint64_t first = steps[i] > 0 ? 0 : size - 1;

		open_truncated(&session, size);
		for (unsigned int n = 0; n < N_PIECES; n++)
			touch(session.hva + (first + n * (uint64_t)steps[i] * MEM_PART_BYTES));
		assert_in_range(mem_registry_parts(), 1, N_PIECES / 16);
		assert_int_equal(run_loop(2000), 0);
		session_close(&session);
	}
}

/* Where a file goes on there are pages, and to take them away takes its time. */
static void
test_what_a_file_still_has_is_kept(void **state)
{
	const uint64_t size = 256 * MEM_PART_BYTES, left = 64 * MEM_PART_BYTES;
	struct session session;

	(void)state;
	guard_start();
	session_open(&session, size);
	memset(session.hva, 0xaa, left);
	assert_int_equal(ftruncate(session.fd, (off_t)left), 0);
	for (uint64_t at = size - MEM_PART_BYTES; at >= left; at -= MEM_PART_BYTES)
		assert_int_equal(touch(session.hva + at), 0);
	/* But for the part in which it ends. */
	for (uint64_t at = 0; at < left - MEM_PART_BYTES; at += PAGE)
		assert_int_equal(touch(session.hva + at), 0xaa);
	assert_int_equal(run_loop(2000), 0);
	session_close(&session);
}

/* One owner with several mappings that fault one after the other, before and after it was told. */
static void
test_owner_is_told_once(void **state)
{
	struct session session, more[3];

	(void)state;
	guard_start();
	session_open(&session, PAGE);
	for (int i = 0; i < 3; i++) {
		memset(&more[i], 0, sizeof(more[i]));
		more[i].fd = test_memfd(PAGE, 0);
		assert_int_equal(vhub_mem_map_create(more[i].fd, 0, PAGE, &session.owner,
						 &more[i].map, (void **)&more[i].hva),
				0);
		assert_int_equal(ftruncate(more[i].fd, 0), 0);
	}
	assert_int_equal(touch(more[0].hva), 0);
	assert_int_equal(touch(more[1].hva), 0);
	assert_int_equal(run_loop(2000), 0);
	assert_int_equal(touch(more[2].hva), 0);
	assert_int_equal(run_loop(50), 1);
	assert_int_equal(session.n_broken, 1);
	for (int i = 0; i < 3; i++) {
		vhub_mem_map_put(more[i].map);
		close(more[i].fd);
	}
	session_close(&session);
}

static uint64_t
cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void
test_loop_sleeps_again(void **state)
{
	struct session session;
	uint64_t start;

	(void)state;
	guard_start();
	session_open(&session, PAGE);
	assert_int_equal(ftruncate(session.fd, 0), 0);
	assert_int_equal(touch(session.hva), 0);
	assert_int_equal(run_loop(2000), 0);
	start = cpu_ns();
	assert_int_equal(run_loop(200), 1);
	assert_true(cpu_ns() - start < 50 * 1000000);
	session_close(&session);
}

static void
test_each_owner_is_told(void **state)
{
	struct session sessions[8];

	(void)state;
	guard_start();
	for (int i = 0; i < 8; i++) {
		session_open(&sessions[i], PAGE);
		assert_int_equal(ftruncate(sessions[i].fd, 0), 0);
	}
	for (int i = 0; i < 8; i += 2)
		assert_int_equal(touch(sessions[i].hva), 0);
	assert_int_equal(run_loop(2000), 0);
	for (int i = 0; i < 8; i++)
		assert_int_equal(sessions[i].n_broken, i % 2 == 0);
	for (int i = 0; i < 8; i++)
		session_close(&sessions[i]);
}

/* The mapping went before CTL had a look: its owner has a right to be told all the same, and the slot comes back. */
static void
test_owner_is_told_after_the_unmapping(void **state)
{
	struct session session, next;

	(void)state;
	guard_start();
	session_open(&session, PAGE);
	assert_int_equal(ftruncate(session.fd, 0), 0);
	assert_int_equal(touch(session.hva), 0);
	vhub_mem_map_put(session.map);
	session.map = NULL;
	session_open(&next, PAGE);
	assert_int_equal(run_loop(2000), 0);
	assert_int_equal(session.n_broken, 1);
	assert_int_equal(next.n_broken, 0);
	session_close(&next);
	session_close(&session);
}

/* An owner that left is not touched and not told, and its mappings stay guarded. */
static void
test_detached_owner_is_not_told(void **state)
{
	struct session *session = malloc(sizeof(*session));
	struct vhub_mem_map *map, *second;
	uint8_t *hva, *second_hva;
	int fd;

	(void)state;
	guard_start();
	assert_non_null(session);
	session_open(session, 2 * PAGE);
	assert_int_equal(vhub_mem_map_create(session->fd, 0, PAGE, &session->owner, &second,
					 (void **)&second_hva),
			0);
	fd = session->fd;
	map = session->map;
	hva = session->hva;
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(touch(hva), 0);
	vhub_mem_owner_detach(&session->owner);
	assert_int_equal(session->n_broken, 0);
	free(session); /* ASan would see any later access */
	assert_int_equal(touch(second_hva), 0);
	assert_int_equal(run_loop(50), 1);
	vhub_mem_map_put(map);
	vhub_mem_map_put(second);
	close(fd);
}

/* What session code may do when it is told: leave, give its memory back, free itself. */
static void
free_session(struct vhub_mem_owner *owner)
{
	struct session *session = vhub_container_of(owner, struct session, owner);

	session_close(session);
	free(session);
	vhub_loop_stop(loop, 0);
}

static void
test_owner_may_go_when_told(void **state)
{
	struct test_usage before;

	(void)state;
	guard_start();
	test_usage_take(&before);
	for (int i = 0; i < 4; i++) {
		struct session *session = malloc(sizeof(*session));

		assert_non_null(session);
		session_open(session, PAGE);
		session->owner.broken = free_session;
		assert_int_equal(ftruncate(session->fd, 0), 0);
		assert_int_equal(touch(session->hva), 0);
	}
	for (int i = 0; i < 4; i++) {
		uint64_t n_maps, bytes;

		vhub_mem_usage(&n_maps, &bytes);
		if (n_maps == before.n_maps)
			break;
		assert_int_equal(run_loop(2000), 0);
	}
	test_usage_check(&before);
}

static void
test_nobody_to_tell(void **state)
{
	struct vhub_mem_map *map;
	uint8_t *hva;
	int fd;

	(void)state;
	guard_start();
	fd = test_memfd(PAGE, 0);
	assert_int_equal(vhub_mem_map_create(fd, 0, PAGE, NULL, &map, (void **)&hva), 0);
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(touch(hva), 0);
	assert_int_equal(run_loop(50), 1);
	vhub_mem_map_put(map);
	close(fd);
}

/* A table that is built anew after a fault does not go on with the zero pages. */
static void
test_zero_pages_are_not_kept(void **state)
{
	const struct vhub_user_mem_region desc = test_desc(0, 2 * PAGE, UVA, 0);
	struct vhub_mem_table *a, *b;
	struct session session;

	(void)state;
	guard_start();
	session_open(&session, 2 * PAGE);
	assert_int_equal(vhub_mem_table_build(NULL, &desc, &session.fd, 1, &session.owner, &a), 0);
	assert_int_equal(ftruncate(session.fd, 0), 0);
	assert_int_equal(touch(a->regions[0].hva), 0);
	assert_int_equal(ftruncate(session.fd, 2 * PAGE), 0);
	assert_int_equal(vhub_mem_table_build(a, &desc, &session.fd, 1, &session.owner, &b), 0);
	assert_ptr_not_equal(a->regions[0].map, b->regions[0].map);
	assert_int_equal(run_loop(2000), 0);
	vhub_mem_table_put(a);
	vhub_mem_table_put(b);
	session_close(&session);
}

static void
test_log_is_guarded(void **state)
{
	struct vhub_dirty_log *log;
	struct session session;

	(void)state;
	guard_start();
	session_open(&session, 4 * PAGE);
	assert_int_equal(vhub_dirty_log_create(session.fd, 100, 3 * PAGE, &session.owner, &log), 0);
	assert_int_equal(ftruncate(session.fd, 0), 0);
	vhub_dirty_log_mark(log, 0, UINT64_MAX);
	assert_int_equal(log->bits[3 * PAGE - 1], 0xff);
	assert_int_equal(run_loop(2000), 0);
	vhub_dirty_log_put(log);
	session_close(&session);
}

/*
 * hugetlbfs without a free page faults as a truncated file does (and with one it is truncated). Its mappings can
 * only be cut at huge pages; the unmapping afterwards shows that they are not.
 */
static void
test_hugetlb_is_not_cut(void **state)
{
	const uint64_t huge = 2 << 20;
	struct session session;
	struct test_usage before;

	(void)state;
	guard_start();
	test_usage_take(&before);
	memset(&session, 0, sizeof(session));
	session.owner.broken = session_broken;
	session.fd = test_memfd(2 * huge, MFD_HUGETLB | (21u << 26));
	assert_int_equal(vhub_mem_map_create(session.fd, PAGE, huge, &session.owner, &session.map,
					 (void **)&session.hva),
			0);
	assert_int_equal(ftruncate(session.fd, 0), 0);
	assert_int_equal(touch(session.hva + huge - 1), 0);
	poke(session.hva, 1);
	assert_int_equal(run_loop(2000), 0);
	session_close(&session);
	test_usage_check(&before);
}

/* ---- several threads ---- */

#define N_THREADS 6

struct toucher {
	pthread_t thread;
	pthread_barrier_t *barrier;
	uint8_t *hva;
	uint64_t size_bytes;
	struct vhub_mem_owner *owner;
	uint64_t n_zero_before_flag;
};

/* Faults at the same instant as the others, then looks at every page. */
static void *
toucher_main(void *arg)
{
	struct toucher *t = arg;

	pthread_barrier_wait(t->barrier);
	for (uint64_t at = 0; at < t->size_bytes; at += PAGE) {
		uint8_t got = touch(t->hva + at);

		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if (got == 0 && __atomic_load_n(&t->owner->faulted, __ATOMIC_RELAXED) == 0)
			t->n_zero_before_flag++;
	}
	return NULL;
}

static void
test_faults_of_several_threads_at_once(void **state)
{
	const uint64_t size = 64 * PAGE;
	struct toucher touchers[N_THREADS];
	pthread_barrier_t barrier;
	struct test_usage before;

	(void)state;
	guard_start();
	test_usage_take(&before);
	for (int round = 0; round < 50; round++) {
		struct session session;

		session_open(&session, size);
		memset(session.hva, 0xaa, size);
		pthread_barrier_init(&barrier, NULL, N_THREADS + 1);
		for (int i = 0; i < N_THREADS; i++) {
			touchers[i] = (struct toucher){
				.barrier = &barrier,
				.hva = session.hva,
				.size_bytes = size,
				.owner = &session.owner,
			};
			assert_int_equal(pthread_create(&touchers[i].thread, NULL, toucher_main,
							 &touchers[i]),
					0);
		}
		/* Before they start, or while they run. */
		if (round % 2 == 0)
			assert_int_equal(ftruncate(session.fd, 0), 0);
		pthread_barrier_wait(&barrier);
		if (round % 2 != 0)
			assert_int_equal(ftruncate(session.fd, 0), 0);
		for (int i = 0; i < N_THREADS; i++) {
			pthread_join(touchers[i].thread, NULL);
			/* Whoever sees our zeros sees that there was a fault. */
			assert_int_equal(touchers[i].n_zero_before_flag, 0);
		}
		pthread_barrier_destroy(&barrier);
		if (session_faulted(&session) != 0) {
			assert_int_equal(run_loop(2000), 0);
			assert_int_equal(session.n_broken, 1);
		} else {
			assert_int_not_equal(round % 2, 0);
		}
		session_close(&session);
	}
	test_usage_check(&before);
}

/*
 * A churn of sessions that map, are truncated, fault and unmap on several threads at once, while each thread keeps
 * an area of its own in the same address space: no area may ever be replaced by zero pages of somebody's fault.
 */
struct churner {
	pthread_t thread;
	uint64_t seed;
	unsigned int n_lost;
	unsigned int n_wrong;
};

static void
churn_broken(struct vhub_mem_owner *owner)
{
	(void)owner;
}

static void
churn_once(struct churner *churner)
{
	struct vhub_mem_owner *owner = calloc(1, sizeof(*owner));
	uint64_t size = (1 + test_random_below(&churner->seed, 8)) * PAGE;
	struct vhub_mem_map *map;
	uint8_t *hva, *area;
	int fd;

	owner->broken = churn_broken;
	fd = memfd_create("vhub-churn", MFD_CLOEXEC);
	if (ftruncate(fd, (off_t)size) != 0 ||
			vhub_mem_map_create(fd, 0, size, owner, &map, (void **)&hva) != 0) {
		churner->n_wrong++;
		goto out;
	}
	poke(hva, 1);
	if (ftruncate(fd, 0) != 0 || touch(hva + size - 1) != 0 ||
			__atomic_load_n(&owner->faulted, __ATOMIC_ACQUIRE) == 0)
		churner->n_wrong++;
	vhub_mem_owner_detach(owner);
	vhub_mem_map_put(map);
	/* Most likely where the mapping was. */
	area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED) {
		churner->n_wrong++;
		goto out;
	}
	memset(area, 0x77, size);
	sched_yield();
	for (uint64_t i = 0; i < size; i++)
		churner->n_lost += area[i] != 0x77;
	munmap(area, size);
out:
	close(fd);
	free(owner);
}

static void *
churner_main(void *arg)
{
	for (int i = 0; i < 300; i++)
		churn_once(arg);
	return NULL;
}

static void
test_churn_replaces_nothing_else(void **state)
{
	struct churner churners[N_THREADS];
	struct test_usage before;

	(void)state;
	guard_start();
	test_usage_take(&before);
	for (int i = 0; i < N_THREADS; i++) {
		churners[i] = (struct churner){ .seed = (uint64_t)i + 1 };
		assert_int_equal(pthread_create(&churners[i].thread, NULL, churner_main,
						 &churners[i]),
				0);
	}
	for (int i = 0; i < N_THREADS; i++) {
		pthread_join(churners[i].thread, NULL);
		assert_int_equal(churners[i].n_lost, 0);
		assert_int_equal(churners[i].n_wrong, 0);
	}
	run_loop(1);
	test_usage_check(&before);
}

/* ---- the blocking-work thread ---- */

struct held_work {
	struct vhub_work work;
	sem_t go;
};

static void
held_run(struct vhub_work *work)
{
	struct held_work *held = vhub_container_of(work, struct held_work, work);

	while (sem_wait(&held->go) != 0)
		continue;
}

static void
held_done(struct vhub_work *work)
{
	(void)work;
}

struct put_task {
	struct vhub_task task;
	struct session *session;
	uint64_t n_maps_after;
};

static void
put_in_loop(struct vhub_task *task)
{
	struct put_task *put = vhub_container_of(task, struct put_task, task);
	uint64_t bytes;

	vhub_mem_map_put(put->session->map);
	vhub_mem_usage(&put->n_maps_after, &bytes);
	vhub_loop_stop(loop, 0);
}

/* While WORK is busy with something else, a put on CTL comes back at once and the mapping is still there. */
static void
test_work_unmaps_for_a_running_loop(void **state)
{
	struct held_work held = { .work = { .run = held_run, .done = held_done } };
	struct put_task put = { .task = { .fn = put_in_loop } };
	struct session session;
	struct test_usage before;

	(void)state;
	guard_start();
	test_usage_take(&before);
	session_open(&session, PAGE);
	assert_int_equal(sem_init(&held.go, 0, 0), 0);
	assert_int_equal(vhub_work_start(loop), 0);
	vhub_work_submit(&held.work);
	put.session = &session;
	vhub_loop_defer(loop, &put.task);
	assert_int_equal(run_loop(2000), 0);
	assert_int_equal(put.n_maps_after, before.n_maps + 1);
	poke(session.hva, 1);

	sem_post(&held.go);
	vhub_work_stop();
	session.map = NULL;
	session_close(&session);
	sem_destroy(&held.go);
	test_usage_check(&before);
}

/* ---- a large mapping goes ---- */

#define LARGE_BYTES (UINT64_C(256) << 20)

/* Pages of files that are mapped now, to some tens. Takes no lock that others hold for long. */
static uint64_t
shared_pages(void)
{
	unsigned long long shared = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%*u %*u %llu", &shared), 1);
	fclose(f);
	return shared;
}

/* How often something else can be mapped while a part of a large mapping is gone and a part is not. */
static unsigned int
map_while_a_large_one_goes(void)
{
	struct put_task put = { .task = { .fn = put_in_loop } };
	struct session session;
	struct test_usage before;
	uint64_t n_maps, bytes, pages, full;
	unsigned int n = 0;

	test_usage_take(&before);
	session_open(&session, LARGE_BYTES);
	memset(session.hva, 1, LARGE_BYTES);
	full = shared_pages();
	put.session = &session;
	vhub_loop_defer(loop, &put.task);
	assert_int_equal(run_loop(2000), 0);
	do {
		munmap(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), PAGE);
		pages = full - shared_pages();
		n += pages > LARGE_BYTES / PAGE / 16 && pages < LARGE_BYTES / PAGE / 16 * 15;
		vhub_mem_usage(&n_maps, &bytes);
	} while (n_maps != before.n_maps);
	session.map = NULL;
	session_close(&session);
	test_usage_check(&before);
	return n;
}

/* It goes in so many parts that others get in between, unless this thread finds no CPU meanwhile. */
static void
test_others_map_while_a_large_mapping_goes(void **state)
{
	unsigned int n = 0;

	(void)state;
	guard_start();
	assert_int_equal(vhub_work_start(loop), 0);
	for (int i = 0; i < 10 && n < 4; i++)
		n = map_while_a_large_one_goes();
	vhub_work_stop();
	assert_true(n >= 4);
}

/* WORK may fault too (it reads a device's inflight region): its signals must not stop the handler. */
struct touch_work {
	struct vhub_work work;
	struct session *session;
};

static void
touch_run(struct vhub_work *work)
{
	struct touch_work *t = vhub_container_of(work, struct touch_work, work);

	touch(t->session->hva);
}

static void
test_work_may_fault(void **state)
{
	struct touch_work t = { .work = { .run = touch_run, .done = held_done } };
	struct session session;

	(void)state;
	guard_start();
	session_open(&session, PAGE);
	assert_int_equal(ftruncate(session.fd, 0), 0);
	t.session = &session;
	assert_int_equal(vhub_work_start(loop), 0);
	vhub_work_submit(&t.work);
	assert_int_equal(run_loop(2000), 0);
	vhub_work_stop();
	assert_int_equal(session.n_broken, 1);
	session_close(&session);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_started_once),
		cmocka_unit_test(test_truncated_memory_reads_as_zero),
		cmocka_unit_test(test_write_to_truncated_memory),
		cmocka_unit_test(test_the_rest_of_the_memory_stays),
		cmocka_unit_test(test_parts_grow_as_they_become_many),
		cmocka_unit_test(test_a_burst_meets_few_faults),
		cmocka_unit_test(test_what_a_file_still_has_is_kept),
		cmocka_unit_test(test_owner_is_told_once),
		cmocka_unit_test(test_loop_sleeps_again),
		cmocka_unit_test(test_each_owner_is_told),
		cmocka_unit_test(test_owner_is_told_after_the_unmapping),
		cmocka_unit_test(test_detached_owner_is_not_told),
		cmocka_unit_test(test_owner_may_go_when_told),
		cmocka_unit_test(test_nobody_to_tell),
		cmocka_unit_test(test_zero_pages_are_not_kept),
		cmocka_unit_test(test_log_is_guarded),
		cmocka_unit_test(test_hugetlb_is_not_cut),
		cmocka_unit_test(test_faults_of_several_threads_at_once),
		cmocka_unit_test(test_churn_replaces_nothing_else),
		cmocka_unit_test(test_work_unmaps_for_a_running_loop),
		cmocka_unit_test(test_others_map_while_a_large_mapping_goes),
		cmocka_unit_test(test_work_may_fault),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
