/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The end of ports while an lcore is stuck, as in a page fault that a front end makes long: what the lcore may
 * still reach stays, and is given back once it goes on, with all that the port had.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include <rte_common.h>

#include "../eal_fixture.h"
#include "../elsewhere.h"
#include "vhub_bridge.h"
#include "vhub_device.h"
#include "vhub_lcore.h"
#include "vhub_loop.h"
#include "vhub_net.h"
#include "vhub_work.h"

#define TRIES 3000u

static struct vhub_loop *loop;
static struct elsewhere elsewhere;
static unsigned int n_unmapped;

/* ---- what there is ---- */

/* Instead of the C library's: devices, their services and inboxes are mapped each by itself (vhub_free()). */
int
munmap(void *addr, size_t len)
{
	__atomic_fetch_add(&n_unmapped, 1, __ATOMIC_RELAXED);
	return (int)syscall(SYS_munmap, addr, len);
}

static unsigned int
unmapped(void)
{
	return __atomic_load_n(&n_unmapped, __ATOMIC_RELAXED);
}

static void
count_bridge(void *arg, const struct vhub_bridge_info *bridge)
{
	(void)bridge;
	*(unsigned int *)arg += 1;
}

static void
count_port(void *arg, const struct vhub_bridge_port *port)
{
	(void)arg;
	(void)port;
}

static unsigned int
n_bridges(void)
{
	static const struct vhub_bridge_visitor visitor = { .bridge = count_bridge,
		.port = count_port };
	unsigned int n = 0;

	vhub_bridge_walk(&visitor, &n);
	return n;
}

/* ---- ports ---- */

static struct vhub_device *
make(const char *name, const char *text)
{
	const struct vhub_builder_ops *ops = vhub_builder_find("net");
	const struct vhub_executor executor = { .loop = loop,
		.lcores = { vhub_lcore_at(0) },
		.n_lcores = 1 };
	struct rte_kvargs *args = rte_kvargs_parse(text, NULL);
	struct vhub_builder *builder;
	struct vhub_device *dev;
	char error[256] = "";

	assert_non_null(ops);
	assert_non_null(args);
	assert_int_equal(ops->parse(name, args, &builder, error, sizeof(error)), 0);
	rte_kvargs_free(args);
	assert_int_equal(ops->open(builder, error, sizeof(error)), 0);
	assert_int_equal(ops->build(builder, &executor, &dev, error, sizeof(error)), 0);
	ops->destroy(builder);
	return dev;
}

/* Two that reach each other. */
static void
come_and_go(const char *const *args)
{
	struct vhub_device *devs[2];

	for (unsigned int i = 0; i < 2; i++)
		devs[i] = make(i == 0 ? "net0" : "net1", args[i]);
	for (unsigned int i = 0; i < 2; i++)
		vhub_device_destroy(devs[i]);
}

static void
expect_all_given_back(const char *first, const char *second)
{
	const char *const args[] = { first, second };
	unsigned int begin, n;

	begin = unmapped();
	come_and_go(args);
	n = unmapped() - begin;
	assert_true(n > 0);
	elsewhere_begin(&elsewhere, vhub_lcore_at(1));
	begin = unmapped();
	come_and_go(args);
	/* Who comes meanwhile finds places that are free. */
	come_and_go(args);
	assert_int_equal(unmapped(), begin);
	elsewhere_end(&elsewhere);
	for (unsigned int i = 0; i < TRIES && unmapped() != begin + 2 * n; i++)
		loop_goes_on(loop);
	vhub_work_wait(VHUB_WORK_ORDINARY);
	assert_int_equal(unmapped(), begin + 2 * n);
}

static void
test_the_ends_of_a_wire(void **state)
{
	(void)state;
	expect_all_given_back("driver=patch,patch=w0,queues=2", "driver=patch,patch=w0,queues=2");
}

static void
test_ports_of_a_bridge_and_the_bridge(void **state)
{
	(void)state;
	expect_all_given_back("driver=bridge,bridge=br0,queues=2",
			"driver=bridge,bridge=br0,queues=2");
	assert_int_equal(n_bridges(), 0);
}

static void
test_a_port_that_others_mirror_to(void **state)
{
	(void)state;
	expect_all_given_back("driver=null,mirror=net1", "driver=null");
}

/* Also after a test that has failed. */
static int
let_go_on(void **state)
{
	(void)state;
	elsewhere_end(&elsewhere);
	return 0;
}

static int
begin(void **state)
{
	(void)state;
	return vhub_loop_create(&loop) != 0 || vhub_work_start(loop) != 0 ||
			vhub_lcores_start(loop, VHUB_IDLE_ADAPTIVE, 50) != 0;
}

static int
end(void **state)
{
	(void)state;
	vhub_lcores_stop();
	if (vhub_work_stop() != 0)
		return 1;
	vhub_loop_destroy(loop);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_the_ends_of_a_wire, let_go_on),
		cmocka_unit_test_teardown(test_ports_of_a_bridge_and_the_bridge, let_go_on),
		cmocka_unit_test_teardown(test_a_port_that_others_mirror_to, let_go_on),
	};

	return test_eal_init() != 0 ? 99 : cmocka_run_group_tests(tests, begin, end);
}
