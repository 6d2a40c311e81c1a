/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who makes and frees what a ring is made of. To map and to unmap, the kernel waits for whoever else
 * maps or unmaps something, and for page faults that are under way: the control thread does neither.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include <cmocka.h>
#include <rte_kvargs.h>

#include "frontend.h"
#include "holding_device.h"
#include "scene.h"

#define QUEUES 4

static struct vhub_loop *loop;

/* ---- what is mapped and unmapped, by whom ---- */

static pthread_t ctl;
static bool counting; /* shared atomic */
/* Shared atomics. */
static uint32_t n_by_ctl, n_by_others;

/* By both names, of which one is used: it depends on how long the host's off_t is. */
void *
__real_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
void *
__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
void *
__real_mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
void *
__wrap_mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
int
__real_munmap(void *addr, size_t len);
int
__wrap_munmap(void *addr, size_t len);

static void
count(void)
{
	if (!__atomic_load_n(&counting, __ATOMIC_ACQUIRE))
		return;
	__atomic_add_fetch(pthread_equal(pthread_self(), ctl) ? &n_by_ctl : &n_by_others, 1,
			__ATOMIC_RELAXED);
}

void *
__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	count();
	return __real_mmap(addr, len, prot, flags, fd, offset);
}

void *
__wrap_mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	count();
	return __real_mmap64(addr, len, prot, flags, fd, offset);
}

int
__wrap_munmap(void *addr, size_t len)
{
	count();
	return __real_munmap(addr, len);
}

static void
count_from_now(void)
{
	__atomic_store_n(&counting, true, __ATOMIC_RELEASE);
}

/* All of it on the loop from count_from_now() on is counted. */
static void
run_counted(struct vhub_device *dev, void (*play)(struct fe *fe))
{
	ctl = pthread_self();
	n_by_ctl = 0;
	n_by_others = 0;
	assert_int_equal(scene_run(loop, dev, play), 0);
	__atomic_store_n(&counting, false, __ATOMIC_RELEASE);
	assert_null(failed);
	assert_int_not_equal(n_by_others, 0);
	assert_int_equal(n_by_ctl, 0);
}

/* ---- a disk's ---- */

static struct vhub_device *
build_disk(void)
{
	const struct vhub_builder_ops *ops = vhub_builder_find("blk");
	struct rte_kvargs *kvlist = rte_kvargs_parse("driver=malloc,size=1M,queues=4", NULL);
	struct vhub_executor executor = { loop, 2, { vhub_lcore_at(0), vhub_lcore_at(1) } };
	struct vhub_builder *builder;
	struct vhub_device *disk;
	char error[256] = "";

	assert_non_null(ops);
	assert_non_null(kvlist);
	assert_int_equal(ops->parse("disk0", kvlist, &builder, error, sizeof(error)), 0);
	rte_kvargs_free(kvlist);
	assert_int_equal(builder->ops->open(builder, error, sizeof(error)), 0);
	assert_int_equal(builder->ops->build(builder, &executor, &disk, error, sizeof(error)), 0);
	builder->ops->destroy(builder);
	return disk;
}

/* Some rings are stopped by a request, some by a reset, some by the end. */
static void
play_disk(struct fe *fe)
{
	uint32_t i;

	fe_negotiate(fe);
	count_from_now();
	for (i = 0; i < QUEUES; i++)
		fe_check(fe_start_ring(fe, i) == 0);
	fe_check(fe_get_base(fe, 0) == 0);
	fe_check(fe_start_ring(fe, 0) == 0);
	fe_check(fe_set_u64(fe, VHUB_USER_SET_STATUS, 0) == 0);
	fe_check(fe_set_u64(fe, VHUB_USER_SET_FEATURES,
				 UINT64_C(1) << 32 | VHUB_F(PROTOCOL_FEATURES)) == 0);
	for (i = 0; i < QUEUES; i++)
		fe_check(fe_start_ring(fe, i) == 0);
}

static void
test_the_control_thread_maps_nothing_for_the_rings_of_a_disk(void **state)
{
	struct vhub_device *disk = build_disk();

	(void)state;
	run_counted(disk, play_disk);
	disk->ops->destroy(disk);
}

/* ---- rings that the device does not want ---- */

static struct hold_device hold;

static void
play_unwanted(struct fe *fe)
{
	fe_negotiate(fe);
	count_from_now();
	fe_check(fe_start_ring(fe, 0) == ENXIO);
	fe_check(fe_start_ring(fe, 0) == ENXIO);
}

static void
test_the_control_thread_does_not_unmap_what_is_refused(void **state)
{
	(void)state;
	hold_init(&hold, loop);
	hold.prepare_result = -ENXIO;
	run_counted(&hold.dev, play_unwanted);
	assert_false(hold.running);
	assert_false(hold.locked);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_control_thread_maps_nothing_for_the_rings_of_a_disk),
		cmocka_unit_test(test_the_control_thread_does_not_unmap_what_is_refused),
	};
	int ret;

	if (scene_begin(&loop) != 0)
		return 1;
	ret = cmocka_run_group_tests(tests, NULL, NULL);
	scene_end(loop);
	return ret;
}
