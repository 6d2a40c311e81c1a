/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * run_device, the builder registry and the session record: parts of lib/device that need no rings.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "holding_device.h"
#include "scene.h"
#include "session_record.h"
#include "vhub_fd.h"
#include "vhub_work.h"

static struct vhub_loop *loop;
static struct vhub_executor executor;
static struct hold_device hold;

/* ---- a builder that notes its life ---- */

static int built, opened, destroyed, fail_build;

static int
test_parse(const char *name, const struct rte_kvargs *args, struct vhub_builder **out, char *error,
		size_t len)
{
	(void)name;
	(void)args;
	(void)out;
	(void)error;
	(void)len;
	return -ENOTSUP;
}

static int
test_open(struct vhub_builder *builder, char *error, size_t len)
{
	(void)builder;
	(void)error;
	(void)len;
	opened++;
	return 0;
}

static int
test_build(struct vhub_builder *builder, const struct vhub_executor *ex, struct vhub_device **out,
		char *error, size_t len)
{
	(void)builder;
	assert_int_equal(opened, 1);
	built++;
	if (fail_build != 0) {
		snprintf(error, len, "told to");
		return fail_build;
	}
	hold_init(&hold, ex->loop);
	*out = &hold.dev;
	return 0;
}

static void
test_destroy(struct vhub_builder *builder)
{
	(void)builder;
	destroyed++;
}

static const struct vhub_builder_ops builder_ops = {
	.name = "hold",
	.help = "",
	.parse = test_parse,
	.open = test_open,
	.build = test_build,
	.destroy = test_destroy,
};
static struct vhub_builder builder = { &builder_ops };

static int
setup(void **state)
{
	(void)state;
	built = opened = destroyed = fail_build = 0;
	return 0;
}

static struct vhub_connection *
connection_to(int *peer)
{
	struct vhub_connection *connection;
	int sock[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sock), 0);
	assert_int_equal(vhub_connection_from_fd(sock[1], &connection), 0);
	*peer = sock[0];
	return connection;
}

/* ---- run_device ---- */

static void
test_run_device_builds_serves_and_returns(void **state)
{
	int peer;
	struct vhub_connection *connection = connection_to(&peer);

	(void)state;
	close(peer);
	assert_int_equal(vhub_run_device(connection, &executor, &builder), 0);
	assert_int_equal(built, 1);
	assert_int_equal(destroyed, 1);
}

static void
test_run_device_returns_what_the_build_returned(void **state)
{
	int peer;
	struct vhub_connection *connection = connection_to(&peer);
	char byte;

	(void)state;
	fail_build = -ENODEV;
	assert_int_equal(vhub_run_device(connection, &executor, &builder), -ENODEV);
	assert_int_equal(destroyed, 1);
	assert_int_equal(read(peer, &byte, 1), 0); /* the connection was consumed */
	close(peer);
}

static int inner_result;

static void
run_inside(struct vhub_task *task)
{
	int peer;
	struct vhub_connection *connection = connection_to(&peer);

	(void)task;
	inner_result = vhub_run_device(connection, &executor, &builder);
	close(peer);
	vhub_loop_stop(loop, 0);
}

static void
test_run_device_inside_a_running_loop_is_refused(void **state)
{
	struct vhub_task task = { .fn = run_inside };

	(void)state;
	vhub_loop_defer(loop, &task);
	assert_int_equal(vhub_loop_run(loop), 0);
	assert_int_equal(inner_result, -EDEADLK);
	assert_int_equal(built, 0);
	assert_int_equal(destroyed, 1);
}

/* ---- registry ---- */

static void
test_builders_are_registered_once_and_whole(void **state)
{
	struct vhub_builder_ops half = builder_ops;

	(void)state;
	half.name = "half";
	half.build = NULL;
	assert_int_equal(vhub_builder_register(&half), -EINVAL);
	assert_null(vhub_builder_find("half"));
	assert_int_equal(vhub_builder_register(&builder_ops), 0);
	assert_int_equal(vhub_builder_register(&builder_ops), -EEXIST);
	assert_ptr_equal(vhub_builder_find("hold"), &builder_ops);
	assert_non_null(vhub_builder_find("blk"));
}

/* ---- the record ---- */

static bool
is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void
test_the_record_owns_its_fds(void **state)
{
	static struct session_record rec;
	int kick = dup(0), call = dup(0), log = dup(0), mem[2] = { dup(0), dup(0) };
	struct vhub_user_mem_region descs[2] = { { 0, 1, 10, 0 }, { 1, 1, 11, 0 } };

	(void)state;
	session_record_init(&rec);
	session_record_set_fd(&rec.vrings[3].kick_fd, kick, NULL);
	session_record_set_fd(&rec.vrings[3].kick_fd, call, NULL);
	vhub_fd_discard_wait();
	assert_false(is_open(kick));
	session_record_set_fd(&rec.log_fd, log, NULL);
	session_record_set_regions(&rec, descs, mem, 2, NULL);
	session_record_remove_region(&rec, &descs[0], NULL);
	vhub_fd_discard_wait();
	assert_false(is_open(mem[0]));
	assert_int_equal(rec.n_regions, 1);
	assert_int_equal(rec.regions[0].desc.guest_addr_gpa, 1);

	rec.features = 1;
	rec.owned = true;
	rec.vrings[1].base = 77;
	session_record_reset_device(&rec, true, NULL);
	/* Twice: it is told as long as no other base has come. */
	session_record_reset_device(&rec, true, NULL);
	assert_int_equal(rec.vrings[1].base, 0);
	assert_int_equal(session_record_base(&rec.vrings[1]), 77);
	session_record_reset_device(&rec, false, NULL);
	assert_int_equal(session_record_base(&rec.vrings[1]), 0);
	vhub_fd_discard_wait();
	assert_false(is_open(call));
	assert_int_equal(rec.features, 0);
	assert_true(rec.owned);
	assert_true(is_open(log));
	assert_true(is_open(mem[1]));

	session_record_clear(&rec, NULL);
	vhub_fd_discard_wait();
	assert_false(is_open(log));
	assert_false(is_open(mem[1]));
	assert_false(rec.owned);
	assert_int_equal(rec.version, SESSION_RECORD_VERSION);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_run_device_builds_serves_and_returns, setup),
		cmocka_unit_test_setup(test_run_device_returns_what_the_build_returned, setup),
		cmocka_unit_test_setup(test_run_device_inside_a_running_loop_is_refused, setup),
		cmocka_unit_test_setup(test_builders_are_registered_once_and_whole, setup),
		cmocka_unit_test_setup(test_the_record_owns_its_fds, setup),
	};
	int ret;

	if (scene_begin(&loop) != 0)
		return 1;
	executor = (struct vhub_executor){ .loop = loop,
		.n_lcores = 1,
		.lcores = { vhub_lcore_at(0) } };
	ret = cmocka_run_group_tests(tests, NULL, NULL);
	scene_end(loop);
	return ret;
}
