/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rings that another library runs (device/foreign.c): a library that only notes what it is told, and
 * that looks whether an lcore is in a ring while it is told it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "frontend.h"
#include "handler_pvt.h"
#include "holding_device.h"
#include "scene.h"
#include "vhub_work.h"

#define MAX_SYNCS 32
#define FOREIGN_BASE 7 /* where every ring of the library stops */

static struct vhub_loop *loop;
static struct hold_device hold;

/* What one sync was told. */
struct told {
	bool anew;
	uint32_t started;	     /* a bit a ring */
	uint32_t bases[HOLD_QUEUES]; /* of the record */
	uint32_t n_regions;
};

static struct {
	struct told syncs[MAX_SYNCS];
	unsigned int n;
	uint32_t started;
	int result; /* of the next sync that starts something */
	int iotlb_result;
	unsigned int n_iotlb;
	bool disturbed;
	/* shared atomic: an lcore is in a ring of the library's */
	uint32_t in_ring;
	uint32_t polls[HOLD_QUEUES];
	bool enabled[HOLD_QUEUES];
} library;

static int
library_sync(struct vhub_device *dev, const struct session_record *rec, bool anew,
		struct vhub_mem_owner *owner, uint32_t *bases)
{
	struct told *told = &library.syncs[library.n++ % MAX_SYNCS];
	uint32_t before = library.started;
	unsigned int i;

	(void)dev;
	(void)owner;
	memset(told, 0, sizeof(*told));
	told->anew = anew;
	told->n_regions = rec->n_regions;
	for (i = 0; i < HOLD_QUEUES; i++) {
		told->started |= (uint32_t)rec->vrings[i].started << i;
		told->bases[i] = rec->vrings[i].base;
		if ((before >> i & 1) != 0 && !rec->vrings[i].started)
			bases[i] = FOREIGN_BASE + i;
	}
	/* Long enough for an lcore that had not left to be seen. */
	usleep(2000);
	if (__atomic_load_n(&library.in_ring, __ATOMIC_ACQUIRE) != 0)
		library.disturbed = true;
	library.started = library.result == 0 ? told->started : 0;
	return told->started == 0 ? 0 : library.result;
}

static int
library_iotlb(struct vhub_device *dev, const struct vhub_user_iotlb *msg)
{
	(void)dev;
	(void)msg;
	library.n_iotlb++;
	return library.iotlb_result;
}

static unsigned int
library_poll(struct vhub_vring *vring)
{
	if (!vring->taking)
		return 0;
	__atomic_fetch_add(&library.in_ring, 1, __ATOMIC_ACQ_REL);
	__atomic_fetch_add(&library.polls[vring->index], 1, __ATOMIC_RELAXED);
	library.enabled[vring->index] = vring->enabled;
	usleep(100);
	__atomic_fetch_sub(&library.in_ring, 1, __ATOMIC_ACQ_REL);
	return 1;
}

static int
library_arm(struct vhub_vring *vring)
{
	(void)vring;
	return -ENOTSUP;
}

static void
library_disarm(struct vhub_vring *vring)
{
	(void)vring;
}

static const struct vhub_foreign_ops library_ops = {
	.max_regions = 1,
	.log_at_zero = true,
	.sync = library_sync,
	.iotlb = library_iotlb,
};

static struct vhub_device_ops device_ops;

static int
setup(void **state)
{
	(void)state;
	memset(&library, 0, sizeof(library));
	hold_init(&hold, loop);
	device_ops = hold_ops;
	device_ops.queue_poll = library_poll;
	device_ops.ring_arm = library_arm;
	device_ops.ring_disarm = library_disarm;
	hold.dev.ops = &device_ops;
	hold.dev.foreign = &library_ops;
	hold.dev.discards = true;
	hold.dev.vrings_per_queue = 2;
	return 0;
}

/* The library's ring is polled again and again. */
static bool
is_polled(unsigned int i)
{
	uint32_t before = __atomic_load_n(&library.polls[i], __ATOMIC_RELAXED);
	int tries;

	for (tries = 0; tries < 30000; tries++) {
		if (__atomic_load_n(&library.polls[i], __ATOMIC_RELAXED) > before + 2)
			return true;
		usleep(1000);
	}
	return false;
}

static const struct told *
last_sync(void)
{
	return &library.syncs[(library.n - 1) % MAX_SYNCS];
}

/* ---- starting and stopping ---- */

static void
play_one_after_the_other(struct fe *fe)
{
	fe_negotiate(fe);
	fe_check(library.n == 0);
	fe_check(fe_start_ring(fe, 0) == 0);
	fe_check(library.n == 1 && last_sync()->started == 1 && is_polled(0));
	fe_check(fe_start_ring(fe, 1) == 0);
	fe_check(library.n == 2 && last_sync()->started == 3 && !last_sync()->anew);
	fe_check(is_polled(0) && is_polled(1));
	fe_check(fe_get_base(fe, 0) == FOREIGN_BASE);
	fe_check(last_sync()->started == 2 && is_polled(1));
	/* It goes on from there when it is started again. */
	fe_check(fe_start_ring(fe, 0) == 0);
	fe_check(last_sync()->started == 3 && last_sync()->bases[0] == FOREIGN_BASE);
	fe_check(fe_get_base(fe, 1) == FOREIGN_BASE + 1);
	fe_check(fe_get_base(fe, 0) == FOREIGN_BASE);
	fe_check(last_sync()->started == 0);
	fe_check(fe_get_base(fe, 0) == FOREIGN_BASE); /* of a stopped ring */
}

static void
test_rings_start_and_stop_while_the_others_pause(void **state)
{
	(void)state;
	assert_int_equal(scene_run(loop, &hold.dev, play_one_after_the_other), 0);
	assert_null(failed);
	assert_false(library.disturbed);
	assert_int_equal(library.started, 0);
	assert_int_equal(hold.running_changes, 2);
}

static void
play_hang_up(struct fe *fe)
{
	fe_negotiate(fe);
	fe_start_ring(fe, 0);
	fe_start_ring(fe, 1);
	fe_start_ring(fe, 2);
	fe_check(is_polled(0) && is_polled(1) && is_polled(2));
}

static void
test_a_hang_up_gives_everything_back(void **state)
{
	(void)state;
	assert_int_equal(scene_run(loop, &hold.dev, play_hang_up), 0);
	assert_null(failed);
	assert_false(library.disturbed);
	assert_int_equal(last_sync()->started, 0);
	/* Both rings of a pair were one lcore's. */
	assert_int_equal(hold.queues[0].stops, 1);
	assert_int_equal(hold.queues[1].stops, 1);
	assert_int_equal(hold.queues[2].stops, 1);
}

/* ---- what makes it all be made again ---- */

static void
play_changes(struct fe *fe)
{
	struct vhub_user_vring_state off = { 1, 0 };
	unsigned int n;

	fe_negotiate(fe);
	fe_start_ring(fe, 0);
	fe_start_ring(fe, 1);
	n = library.n;
	fe_check(fe_set_mem_table(fe, FE_MEM_BYTES) == 0);
	fe_check(library.n == n + 1 && last_sync()->anew && last_sync()->started == 3);
	fe_check(is_polled(0) && is_polled(1));
	/* Not everything does. */
	fe_check(fe_ack(fe, VHUB_USER_SET_VRING_ENABLE, &off, sizeof(off), NULL, 0) == 0);
	fe_check(is_polled(1) && !library.enabled[1]);
	fe_check(library.n == n + 1);
	fe_check(fe_set_u64(fe, VHUB_USER_SET_FEATURES,
				 UINT64_C(1) << 32 | VHUB_F(PROTOCOL_FEATURES) | VHUB_F(LOG_ALL)) ==
			0);
	fe_check(library.n == n + 2 && last_sync()->anew);
	fe_check(is_polled(1) && !library.enabled[1]);
}

static void
test_memory_and_features_make_it_anew(void **state)
{
	(void)state;
	assert_int_equal(scene_run(loop, &hold.dev, play_changes), 0);
	assert_null(failed);
	assert_false(library.disturbed);
}

/* ---- what it refuses ---- */

static void
play_two_regions(struct fe *fe)
{
	struct vhub_user_mem_table table = {
		.n_regions = 2,
		.regions = {
			{ FE_GPA, FE_MEM_BYTES, FE_UVA, 0 },
			{ FE_GPA + 2 * FE_MEM_BYTES, FE_MEM_BYTES, FE_UVA + 2 * FE_MEM_BYTES, 0 },
		},
	};
	const uint32_t size = VHUB_USER_MEM_TABLE_HEAD + 2 * sizeof(table.regions[0]);
	int fds[2] = { fe->mem_fd, fe->mem_fd };

	fe_negotiate(fe);
	fe_start_ring(fe, 0);
	fe_check(fe_ack(fe, VHUB_USER_SET_MEM_TABLE, &table, size, fds, 2) != 0);
	fe_check(library.n == 1 && is_polled(0));
	/* Without a running ring nobody minds, until one is to start. */
	fe_get_base(fe, 0);
	fe_check(fe_ack(fe, VHUB_USER_SET_MEM_TABLE, &table, size, fds, 2) == 0);
	fe_check(fe_start_ring(fe, 0) != 0);
}

static void
test_more_regions_than_it_can_serve_are_refused(void **state)
{
	(void)state;
	assert_int_equal(scene_run(loop, &hold.dev, play_two_regions), 0);
	assert_null(failed);
}

static void
play_failure(struct fe *fe)
{
	uint8_t byte;

	fe_negotiate(fe);
	fe_start_ring(fe, 0);
	library.result = -EIO;
	fe_check(fe_start_ring(fe, 1) != 0);
	fe_check(recv(fe->sock, &byte, 1, 0) == 0);
}

static void
test_a_failure_ends_the_session(void **state)
{
	(void)state;
	assert_int_equal(scene_run(loop, &hold.dev, play_failure), -EIO);
	assert_null(failed);
	assert_int_equal(library.started, 0);
	assert_false(library.disturbed);
}

/* ---- vIOMMU ---- */

/* VHOST_IOTLB_INVALIDATE. Returns what the reply says. */
static uint64_t
invalidate(struct fe *fe)
{
	const struct vhub_user_iotlb msg = { .iova = 0, .size_bytes = 0x1000, .type = 3 };
	uint64_t refused = UINT64_MAX;

	fe_send(fe, VHUB_USER_IOTLB_MSG, &msg, sizeof(msg), NULL, 0);
	fe_recv(fe, &refused, sizeof(refused));
	return refused;
}

static void
play_iotlb(struct fe *fe)
{
	uint8_t byte;

	fe_negotiate(fe);
	fe_check(fe_set_u64(fe, VHUB_USER_SET_FEATURES,
				 UINT64_C(1) << 32 | VHUB_F(PROTOCOL_FEATURES) |
						 VHUB_F(ACCESS_PLATFORM)) == 0);
	fe_check(fe_start_ring(fe, 0) == 0);
	fe_check(invalidate(fe) == 0);
	library.iotlb_result = -EINVAL;
	fe_check(invalidate(fe) == 1);
	fe_check(is_polled(0));
	library.iotlb_result = -ETIMEDOUT;
	invalidate(fe);
	fe_check(library.n_iotlb == 3);
	fe_check(recv(fe->sock, &byte, 1, 0) == 0);
}

static void
test_a_translation_that_may_not_be_known_ends_the_session(void **state)
{
	(void)state;
	hold.dev.features |= VHUB_F(ACCESS_PLATFORM);
	assert_int_equal(scene_run(loop, &hold.dev, play_iotlb), -ETIMEDOUT);
	assert_null(failed);
	assert_int_equal(library.started, 0);
	/* What runs no more is not to go on. */
	assert_true(last_sync()->anew);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_rings_start_and_stop_while_the_others_pause, setup),
		cmocka_unit_test_setup(test_a_hang_up_gives_everything_back, setup),
		cmocka_unit_test_setup(test_memory_and_features_make_it_anew, setup),
		cmocka_unit_test_setup(test_more_regions_than_it_can_serve_are_refused, setup),
		cmocka_unit_test_setup(test_a_failure_ends_the_session, setup),
		cmocka_unit_test_setup(test_a_translation_that_may_not_be_known_ends_the_session,
				setup),
	};
	int ret;

	if (scene_begin(&loop) != 0)
		return 1;
	ret = cmocka_run_group_tests(tests, NULL, NULL);
	scene_end(loop);
	return ret;
}
