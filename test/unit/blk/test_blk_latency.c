/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How long requests of a disk take: each that was taken while that is measured is counted once, by the operation
 * that it is, whatever becomes of it; times lie between readings of the clock around them. The test's thread is CTL
 * and the lcore in one.
 */
#include "guest.h"
#include "spy_driver.h"

#include <errno.h>

#include <rte_cycles.h>

#include "blk_pvt.h"

#define F(bit) (UINT64_C(1) << (bit))
#define FEATURES \
	(F(32) | F(VIRTIO_BLK_F_FLUSH) | F(VIRTIO_BLK_F_DISCARD) | F(VIRTIO_BLK_F_WRITE_ZEROES) | \
			F(VIRTIO_BLK_F_SECURE_ERASE))
#define PAUSE_US 5000

static struct guest guest;
static struct vhub_device *dev;
static struct vhub_blk_latency latency;

/* ---- memory that is had ---- */

static int n_areas;

void *
__real_vhub_zalloc_node(size_t size_bytes, int node);
void
__real_vhub_free(void *ptr, size_t size_bytes);
void *
__wrap_vhub_zalloc_node(size_t size_bytes, int node);
void
__wrap_vhub_free(void *ptr, size_t size_bytes);

static bool no_memory;

void *
__wrap_vhub_zalloc_node(size_t size_bytes, int node)
{
	if (no_memory)
		return NULL;
	n_areas++;
	return __real_vhub_zalloc_node(size_bytes, node);
}

void
__wrap_vhub_free(void *ptr, size_t size_bytes)
{
	n_areas -= ptr != NULL;
	__real_vhub_free(ptr, size_bytes);
}

/* ---- a disk, its first ring on the first lcore ---- */

static int
setup(void **state)
{
	(void)state;
	spy_reset();
	guest_create(&guest);
	dev = guest_build_disk("driver=spy,queues=4");
	guest_start(&guest, dev, 0, FEATURES);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	guest_stop(&guest, 0);
	vhub_device_destroy(dev);
	guest_destroy(&guest);
	assert_int_equal(n_areas, 0);
	return 0;
}

static void
start(void)
{
	assert_int_equal(vhub_blk_latency_start(dev), 0);
}

static uint64_t
counted(enum vhub_blk_op op)
{
	assert_int_equal(vhub_blk_get_latency(dev, &latency), 0);
	return vhub_hist_count(&latency.op[op]);
}

/* Reads of one sector, of which one poll takes a first burst. */
static void
take(unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		guest_submit(&guest, 0, VIRTIO_BLK_T_IN, i, 512);
	guest_poll(&guest, 0);
}

static void
let_all_go(unsigned int n)
{
	spy.release = SPY_MAX;
	guest_poll_until_done(&guest, n);
}

/* A request of `n` ranges of 8 sectors each. */
static struct guest_req
submit_ranges(uint32_t type, unsigned int n)
{
	struct virtio_blk_discard_write_zeroes list[BLK_RANGES_MAX];
	struct guest_req req = guest_submit(&guest, 0, type, 0, n * (uint32_t)sizeof(list[0]));

	for (unsigned int i = 0; i < n; i++)
		list[i] = (struct virtio_blk_discard_write_zeroes){ .sector = i * 8,
			.num_sectors = 8 };
	memcpy(guest.mem + req.data_gpa, list, n * sizeof(list[0]));
	return req;
}

static void
test_each_operation_is_counted_with_whatever_status(void **state)
{
	struct vhub_blk_stats stats;

	(void)state;
	start();
	take(3);
	guest_submit(&guest, 0, VIRTIO_BLK_T_OUT, 0, 512);
	guest_submit(&guest, 0, VIRTIO_BLK_T_FLUSH, 0, 0);
	submit_ranges(VIRTIO_BLK_T_DISCARD, 2);
	submit_ranges(VIRTIO_BLK_T_WRITE_ZEROES, 3);
	submit_ranges(VIRTIO_BLK_T_WRITE_ZEROES, 1);
	submit_ranges(VIRTIO_BLK_T_SECURE_ERASE, 1);
	/* Answered without the driver: beyond the end, nothing to do, and what is none of the operations. */
	guest_submit(&guest, 0, VIRTIO_BLK_T_IN, 1 << 20, 512);
	guest_submit(&guest, 0, VIRTIO_BLK_T_OUT, 0, 0);
	guest_submit(&guest, 0, VIRTIO_BLK_T_GET_ID, 0, VIRTIO_BLK_ID_BYTES);
	guest_poll_until_done(&guest, 12);
	spy.result = -EIO;
	guest_submit(&guest, 0, VIRTIO_BLK_T_OUT, 0, 512);
	submit_ranges(VIRTIO_BLK_T_DISCARD, 2);
	guest_poll_until_done(&guest, 2);

	assert_int_equal(counted(VHUB_BLK_READ), 4);
	assert_int_equal(counted(VHUB_BLK_WRITE), 3);
	assert_int_equal(counted(VHUB_BLK_FLUSH), 1);
	assert_int_equal(counted(VHUB_BLK_DISCARD), 2);
	assert_int_equal(counted(VHUB_BLK_WRITE_ZEROES), 2);
	assert_int_equal(counted(VHUB_BLK_SECURE_ERASE), 1);
	assert_int_equal(vhub_blk_get_stats(dev, 0, &stats), 0);
	for (enum vhub_blk_op op = 0; op < VHUB_BLK_OPS; op++)
		assert_int_equal(counted(op), stats.op[op].requests);
}

/* Since it was taken, and no longer: what it has waited in the ring is not in it. */
static void
test_what_a_request_waits_for_here_is_in_it(void **state)
{
	uint64_t before, least, most;

	(void)state;
	start();
	spy.release = 0;
	guest_submit(&guest, 0, VIRTIO_BLK_T_IN, 0, 512);
	usleep(PAUSE_US);
	before = rte_rdtsc();
	guest_poll(&guest, 0);
	least = rte_rdtsc();
	usleep(PAUSE_US);
	least = rte_rdtsc() - least;
	let_all_go(1);
	most = rte_rdtsc() - before;
	assert_int_equal(counted(VHUB_BLK_READ), 1);
	assert_in_range(latency.op[VHUB_BLK_READ].max, least, most);
	assert_true(latency.op[VHUB_BLK_READ].sum == latency.op[VHUB_BLK_READ].max);
	assert_true(latency.cycles >= most);
}

/* Nor is what a limit of the disk holds back there. */
static void
test_what_waits_for_a_limit_in_the_ring_has_not_begun(void **state)
{
	static const struct vhub_blk_qos held = { .iops = 1, .iops_burst = 1 }, free = { 0 };
	char error[256];
	uint64_t begin;

	(void)state;
	start();
	assert_int_equal(vhub_blk_set_qos(dev, &held, error, sizeof(error)), 0);
	blk_dev_of(dev)->qos.iops.next += 60 * rte_get_tsc_hz();
	take(2);
	usleep(PAUSE_US);
	guest_poll(&guest, 0);
	assert_int_equal(spy.n_seen, 0);
	assert_int_equal(vhub_blk_set_qos(dev, &free, error, sizeof(error)), 0);
	begin = rte_rdtsc();
	guest_poll_until_done(&guest, 2);
	begin = rte_rdtsc() - begin;
	assert_int_equal(counted(VHUB_BLK_READ), 2);
	assert_in_range(latency.op[VHUB_BLK_READ].max, 1, begin);
}

/* One whose ranges are done one after the other is one request, from the first to the last. */
static void
test_ranges_are_one_request(void **state)
{
	uint64_t least, most;

	(void)state;
	start();
	spy.release = 0;
	submit_ranges(VIRTIO_BLK_T_DISCARD, 3);
	most = rte_rdtsc();
	guest_poll(&guest, 0);
	least = rte_rdtsc();
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(counted(VHUB_BLK_DISCARD), 0);
		usleep(PAUSE_US / 3);
		if (i == 2)
			least = rte_rdtsc() - least;
		spy.release = 1;
		guest_poll(&guest, 0);
	}
	most = rte_rdtsc() - most;
	assert_int_equal(spy.n_seen, 3);
	assert_int_equal(counted(VHUB_BLK_DISCARD), 1);
	assert_in_range(latency.op[VHUB_BLK_DISCARD].max, least, most);
}

static void
test_what_is_done_in_its_turn_takes_some_time(void **state)
{
	(void)state;
	start();
	take(BLK_FIRST_BURST);
	assert_int_equal(guest_done(&guest.rings[0], NULL, NULL), BLK_FIRST_BURST);
	assert_int_equal(counted(VHUB_BLK_READ), BLK_FIRST_BURST);
	assert_true(latency.op[VHUB_BLK_READ].sum > 0);
}

static void
test_what_was_taken_before_is_not_counted(void **state)
{
	(void)state;
	spy.release = 0;
	take(3);
	start();
	take(2);
	let_all_go(5);
	assert_int_equal(counted(VHUB_BLK_READ), 2);
}

/* Slots of the ring have the times of former requests; those of before the new beginning do not count. */
static void
test_a_new_beginning_forgets_what_was(void **state)
{
	(void)state;
	start();
	take(10);
	let_all_go(10);
	assert_int_equal(counted(VHUB_BLK_READ), 10);
	spy.release = 0;
	take(4);
	start();
	assert_int_equal(counted(VHUB_BLK_READ), 0);
	assert_int_equal(latency.op[VHUB_BLK_READ].max, 0);
	take(1);
	let_all_go(5);
	assert_int_equal(counted(VHUB_BLK_READ), 1);
}

static void
test_an_end_forgets_what_was(void **state)
{
	static const struct vhub_blk_latency none;

	(void)state;
	start();
	spy.release = 0;
	take(10);
	assert_int_equal(vhub_blk_latency_stop(dev), 0);
	assert_int_equal(vhub_blk_latency_stop(dev), 0);
	assert_int_equal(vhub_blk_get_latency(dev, &latency), -ENODATA);
	assert_memory_equal(&latency, &none, sizeof(none));
	let_all_go(10);
	/* By the same descriptors, whose requests have times. */
	guest.rings[0].next_desc = 0;
	spy.release = 0;
	take(10);
	start();
	let_all_go(10);
	assert_int_equal(counted(VHUB_BLK_READ), 0);
}

static void
test_what_is_given_up_is_not_counted(void **state)
{
	(void)state;
	start();
	spy.release = 0;
	take(3);
	spy.cancel_from = 2;
	guest.rings[0].vring.taking = false;
	dev->ops->queue_suspend(&guest.rings[0].vring);
	let_all_go(2);
	assert_int_equal(counted(VHUB_BLK_READ), 2);
	/* The ring's next life does it, and does not know of the first. */
	dev->ops->queue_stop(&guest.rings[0].vring);
	guest_release(&guest.rings[0]);
	guest_start(&guest, dev, 0, FEATURES);
	take(1);
	assert_int_equal(counted(VHUB_BLK_READ), 3);
}

static void
move_to(unsigned int lcore)
{
	struct vhub_vring *vring = &guest.rings[0].vring;

	dev->ops->queue_stop(vring);
	vring->lcore = vhub_lcore_at(lcore);
	assert_int_equal(dev->ops->queue_start(vring), 0);
}

static void
test_queues_of_several_lcores_are_told_together(void **state)
{
	(void)state;
	start();
	guest_prepare(&guest, dev, 1, FEATURES, vhub_lcore_at(1));
	assert_int_equal(dev->ops->queue_start(&guest.rings[1].vring), 0);
	for (unsigned int i = 0; i < 5; i++)
		guest_submit(&guest, 1, VIRTIO_BLK_T_OUT, 0, 512);
	guest_poll(&guest, 1);
	take(1);
	move_to(1);
	take(2);
	move_to(0);
	take(4);
	assert_int_equal(counted(VHUB_BLK_READ), 7);
	assert_int_equal(counted(VHUB_BLK_WRITE), 5);
	guest_stop(&guest, 1);
}

/* That everything was freed is looked at behind each test; here the device goes while it is measured. */
static void
test_what_is_not_needed_any_more_is_freed(void **state)
{
	const int before = n_areas;

	(void)state;
	for (unsigned int i = 0; i < 3; i++) {
		start();
		take(1);
		assert_int_equal(n_areas, before + 1);
	}
	assert_int_equal(vhub_blk_latency_stop(dev), 0);
	assert_int_equal(n_areas, before);
	start();
}

static void
test_without_memory_nothing_changes(void **state)
{
	(void)state;
	no_memory = true;
	assert_int_equal(vhub_blk_latency_start(dev), -ENOMEM);
	assert_int_equal(vhub_blk_get_latency(dev, &latency), -ENODATA);
	no_memory = false;
	start();
	take(1);
	no_memory = true;
	assert_int_equal(vhub_blk_latency_start(dev), -ENOMEM);
	no_memory = false;
	assert_int_equal(counted(VHUB_BLK_READ), 1);
}

static void
test_what_is_no_disk_is_refused(void **state)
{
	static const struct vhub_device_ops no_ops;
	struct vhub_device other = { .ops = &no_ops };

	(void)state;
	assert_int_equal(vhub_blk_latency_start(&other), -EINVAL);
	assert_int_equal(vhub_blk_latency_stop(&other), -EINVAL);
	assert_int_equal(vhub_blk_get_latency(&other, &latency), -EINVAL);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_each_operation_is_counted_with_whatever_status),
		TEST(test_what_a_request_waits_for_here_is_in_it),
		TEST(test_what_waits_for_a_limit_in_the_ring_has_not_begun),
		TEST(test_ranges_are_one_request),
		TEST(test_what_is_done_in_its_turn_takes_some_time),
		TEST(test_what_was_taken_before_is_not_counted),
		TEST(test_a_new_beginning_forgets_what_was),
		TEST(test_an_end_forgets_what_was),
		TEST(test_what_is_given_up_is_not_counted),
		TEST(test_queues_of_several_lcores_are_told_together),
		TEST(test_what_is_not_needed_any_more_is_freed),
		TEST(test_without_memory_nothing_changes),
		TEST(test_what_is_no_disk_is_refused),
	};
	struct vhub_loop *loop = guest_lcores_start();
	int failed;

	if (loop == NULL)
		return 99;
	n_areas = 0; /* the lcores' own */
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	guest_lcores_stop(loop);
	return failed;
}
