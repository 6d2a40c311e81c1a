/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An uplink (net/uplink.c) whose lcore does not come to its messages: whoever makes it is told so after a while,
 * and once the lcore goes on, all is given back, so that the next try succeeds. Meanwhile the clock is set back.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <rte_common.h>
#include <rte_dev.h>

#include "../eal_fixture.h"
#include "../elsewhere.h"
#include "vhub_device.h"
#include "vhub_lcore.h"
#include "vhub_loop.h"
#include "vhub_work.h"

#define TRIES 3000u

static struct vhub_loop *loop;
static struct elsewhere elsewhere;

int
__real_clock_gettime(clockid_t id, struct timespec *now);
int
__wrap_clock_gettime(clockid_t id, struct timespec *now);

/* Whoever has asked for the time of day waits while it is set back by an hour. */
int
__wrap_clock_gettime(clockid_t id, struct timespec *now)
{
	const int ret = __real_clock_gettime(id, now);

	if (id == CLOCK_REALTIME)
		now->tv_sec += 3600;
	return ret;
}

/* Of a port that may be another's still, -EBUSY or the like. */
static int
make(struct vhub_device **out)
{
	static struct rte_kvargs args = { .count = 4,
		.pairs = { { (char *)(uintptr_t) "bridge", (char *)(uintptr_t) "br0" },
				{ (char *)(uintptr_t) "port", (char *)(uintptr_t) "net_null0" },
				{ (char *)(uintptr_t) "rxd", (char *)(uintptr_t) "64" },
				{ (char *)(uintptr_t) "txd", (char *)(uintptr_t) "64" } } };
	const struct vhub_builder_ops *ops = vhub_builder_find("uplink");
	const struct vhub_executor executor = { .loop = loop,
		.lcores = { vhub_lcore_at(0) },
		.n_lcores = 1 };
	struct vhub_builder *builder;
	char error[256] = "";
	int ret;

	assert_non_null(ops);
	assert_int_equal(ops->parse("up0", &args, &builder, error, sizeof(error)), 0);
	ret = ops->open(builder, error, sizeof(error));
	if (ret == 0)
		ret = ops->build(builder, &executor, out, error, sizeof(error));
	ops->destroy(builder);
	return ret;
}

static void
test_one_that_was_abandoned_is_given_back(void **state)
{
	struct vhub_device *uplink = NULL;
	uint64_t begin;
	int ret = -EBUSY;

	(void)state;
	alarm(100);
	assert_int_equal(rte_eal_hotplug_add("vdev", "net_null0", ""), 0);
	assert_int_equal(vhub_loop_create(&loop), 0);
	assert_int_equal(vhub_work_start(loop), 0);
	assert_int_equal(vhub_lcores_start(loop, VHUB_IDLE_ADAPTIVE, 50), 0);
	elsewhere_begin(&elsewhere, vhub_lcore_at(0));
	begin = vhub_now_ns();
	assert_int_equal(make(&uplink), -ETIMEDOUT);
	/* It is not called stuck for nothing. */
	assert_true(vhub_now_ns() - begin >= 1000000000ull);
	assert_int_not_equal(make(&uplink), 0);
	elsewhere_end(&elsewhere);
	for (unsigned int i = 0; i < TRIES && ret != 0; i++) {
		loop_goes_on(loop);
		ret = make(&uplink);
	}
	assert_int_equal(ret, 0);
	uplink->ops->destroy(uplink);
	vhub_lcores_stop();
	assert_int_equal(vhub_work_stop(), 0);
	vhub_loop_destroy(loop);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_that_was_abandoned_is_given_back),
	};

	return test_eal_init() != 0 ? 99 : cmocka_run_group_tests(tests, NULL, NULL);
}
