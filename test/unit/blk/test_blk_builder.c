/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The builder "blk": which arguments it takes, what it says about those that it refuses, and what
 * comes of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "../eal_fixture.h"
#include "blk_pvt.h"
#include "vhub_blk.h"
#include "vhub_device.h"

#define ERROR_LEN 512

static const struct vhub_executor no_lcores;

static int
parse(const char *name, const char *args, struct vhub_builder **out, char *error)
{
	const struct vhub_builder_ops *ops = vhub_builder_find("blk");
	struct rte_kvargs *kvlist = rte_kvargs_parse(args, NULL);
	int ret;

	assert_non_null(ops);
	assert_non_null(kvlist);
	error[0] = '\0';
	ret = ops->parse(name, kvlist, out, error, ERROR_LEN);
	rte_kvargs_free(kvlist);
	return ret;
}

/* The sentence names what is wrong (all of `words`, ended by NULL). */
static void
expect_error(int expected, const char *args, const char *const *words)
{
	struct vhub_builder *builder = NULL;
	char error[ERROR_LEN];

	assert_int_equal(parse("disk0", args, &builder, error), expected);
	assert_null(builder);
	for (; *words != NULL; words++) {
		if (strstr(error, *words) == NULL)
			fail_msg("%s: \"%s\" does not say \"%s\"", args, error, *words);
	}
	assert_null(strchr(error, '\n'));
}

static void
expect_refused(const char *args, const char *const *words)
{
	expect_error(-EINVAL, args, words);
}

#define WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static struct vhub_device *
build(const char *name, const char *args)
{
	struct vhub_device *dev = NULL;
	struct vhub_builder *builder;
	char error[ERROR_LEN];

	if (parse(name, args, &builder, error) != 0 ||
			builder->ops->open(builder, error, ERROR_LEN) != 0 ||
			builder->ops->build(builder, &no_lcores, &dev, error, ERROR_LEN) != 0)
		fail_msg("%s: %s", args, error);
	builder->ops->destroy(builder);
	return dev;
}

static void
read_config(struct vhub_device *dev, struct virtio_blk_config *config)
{
	assert_true(dev->config_bytes >= sizeof(*config));
	assert_int_equal(dev->ops->config_read(dev, 0, config, sizeof(*config)), 0);
}

static void
test_wrong_arguments_are_named(void **state)
{
	(void)state;
	expect_refused("size=1M", WORDS("driver", "malloc", "null", "uring"));
	expect_refused("driver=", WORDS("driver"));
	expect_refused("driver=nvme", WORDS("driver=nvme", "malloc", "null", "uring"));
	expect_error(-ENOKEY, "driver=null,path=/x",
			WORDS("path=/x", "driver null", "size", "latency_us", "queues"));
	expect_error(-ENOKEY, "driver=malloc,size=1M,latency_us=1",
			WORDS("latency_us=1", "driver malloc", "size"));
	expect_error(-ENOKEY, "driver=malloc,size=1M,color=red",
			WORDS("color=red", "driver", "queues", "ro", "serial", "block_size",
					"writeback", "size"));
	expect_refused("driver=malloc", WORDS("size"));
	expect_refused("driver=malloc,size=", WORDS("size"));
	expect_refused("driver=malloc,size=1X", WORDS("size=1X"));
	expect_refused("driver=malloc,size=1M,size=2M", WORDS("size=2M", "once"));
	expect_refused("driver=null,driver=malloc", WORDS("driver=malloc", "once"));
	expect_refused("driver=null,queues=0", WORDS("queues=0", "1", "128"));
	expect_refused("driver=null,queues=129", WORDS("queues=129", "1", "128"));
	expect_refused("driver=null,queues=-1", WORDS("queues=-1"));
	expect_refused("driver=null,queues=two", WORDS("queues=two"));
	expect_refused("driver=null,queues=99999999999999999999", WORDS("queues=9999"));
	expect_refused("driver=null,iops=2G", WORDS("iops=2G", "0 to 1000000000", "k, M"));
	expect_refused("driver=null,ro=maybe", WORDS("ro=maybe", "on", "off"));
	expect_refused("driver=null,writeback=maybe", WORDS("writeback=maybe", "on", "off"));
	expect_refused("driver=null,block_size=1024", WORDS("block_size=1024", "512", "4096"));
	expect_refused("driver=null,serial=123456789012345678901",
			WORDS("serial=123456789012345678901", "20"));
	expect_refused("driver=null,serial=a b", WORDS("serial=a b"));
}

/* The last argument of a command line that is too long for the sentence still leaves a sentence. */
static void
test_a_long_argument_does_not_overflow(void **state)
{
	char args[2048], error[32];
	const struct vhub_builder_ops *ops = vhub_builder_find("blk");
	struct vhub_builder *builder = NULL;
	struct rte_kvargs *kvlist;

	(void)state;
	memset(args, 'x', sizeof(args));
	memcpy(args, "driver=null,", 12);
	memcpy(args + sizeof(args) - 4, "=1", 3);
	kvlist = rte_kvargs_parse(args, NULL);
	assert_int_equal(ops->parse("disk0", kvlist, &builder, error, sizeof(error)), -ENOKEY);
	assert_true(strlen(error) < sizeof(error));
	rte_kvargs_free(kvlist);
}

static void
test_arguments_reach_the_device(void **state)
{
	struct virtio_blk_config config;
	struct vhub_device *dev;

	(void)state;
	dev = build("disk0", "driver=null,size=1G,queues=4");
	read_config(dev, &config);
	assert_string_equal(dev->name, "disk0");
	assert_int_equal(dev->max_queues, 4);
	assert_int_equal(config.num_queues, 4);
	assert_int_equal(config.capacity, (1 << 30) / 512);
	assert_int_equal(config.blk_size, 512);
	assert_true((dev->features & 1u << VIRTIO_BLK_F_RO) == 0);
	vhub_device_destroy(dev);

	dev = build("disk0", "driver=null,ro=on,block_size=4096,queues=128");
	read_config(dev, &config);
	assert_int_equal(dev->max_queues, 128);
	assert_int_equal(config.blk_size, 4096);
	assert_int_equal(config.physical_block_exp, 0);
	assert_true((dev->features & 1u << VIRTIO_BLK_F_RO) != 0);
	vhub_device_destroy(dev);

	dev = build("disk0", "driver=malloc,size=64k,ro=off");
	read_config(dev, &config);
	assert_int_equal(dev->max_queues, 1);
	assert_int_equal(config.capacity, 128);
	assert_true((dev->features & 1u << VIRTIO_BLK_F_RO) == 0);
	vhub_device_destroy(dev);
}

static void
expect_id(const char *name, const char *args, const char *id)
{
	struct vhub_device *dev = build(name, args);
	const struct blk_dev *blk = vhub_container_of(dev, struct blk_dev, dev);
	char expected[VIRTIO_BLK_ID_BYTES] = { 0 };

	memcpy(expected, id, strlen(id));
	assert_memory_equal(blk->limits.id, expected, sizeof(expected));
	vhub_device_destroy(dev);
}

static void
test_the_serial_is_given_or_the_name(void **state)
{
	struct vhub_device *a = build("a-rather-long-name-of-a-disk-1", "driver=null");
	struct vhub_device *b = build("a-rather-long-name-of-a-disk-2", "driver=null");

	(void)state;
	expect_id("disk0", "driver=null", "disk0");
	expect_id("disk0", "driver=null,serial=S3RIAL", "S3RIAL");
	expect_id("disk0", "driver=null,serial=12345678901234567890", "12345678901234567890");
	expect_id("12345678901234567890", "driver=null", "12345678901234567890");
	/* Names that begin alike stay apart. */
	assert_memory_not_equal(vhub_container_of(a, struct blk_dev, dev)->limits.id,
			vhub_container_of(b, struct blk_dev, dev)->limits.id, VIRTIO_BLK_ID_BYTES);
	assert_memory_equal(vhub_container_of(a, struct blk_dev, dev)->limits.id, "a-rather-lo-",
			12);
	vhub_device_destroy(a);
	vhub_device_destroy(b);
}

static void
test_a_block_size_that_does_not_fit_is_refused(void **state)
{
	struct vhub_device *dev = NULL;
	struct vhub_builder *builder;
	char error[ERROR_LEN];

	(void)state;
	assert_int_equal(parse("disk0", "driver=null,size=10k,block_size=4096", &builder, error),
			0);
	assert_int_equal(builder->ops->open(builder, error, ERROR_LEN), 0);
	assert_int_equal(builder->ops->build(builder, &no_lcores, &dev, error, ERROR_LEN), -EINVAL);
	assert_non_null(strstr(error, "block_size=4096"));
	assert_null(dev);
	builder->ops->destroy(builder);
}

static void
test_a_builder_builds_one_device_after_open(void **state)
{
	struct vhub_device *dev = NULL, *second = NULL;
	struct vhub_builder *builder;
	char error[ERROR_LEN];

	(void)state;
	assert_int_equal(parse("disk0", "driver=malloc,size=1M", &builder, error), 0);
	assert_int_equal(builder->ops->build(builder, &no_lcores, &dev, error, ERROR_LEN), -EINVAL);
	assert_int_equal(builder->ops->open(builder, error, ERROR_LEN), 0);
	assert_int_equal(builder->ops->open(builder, error, ERROR_LEN), 0);
	assert_int_equal(builder->ops->build(builder, &no_lcores, &dev, error, ERROR_LEN), 0);
	assert_int_equal(builder->ops->build(builder, &no_lcores, &second, error, ERROR_LEN),
			-EINVAL);
	builder->ops->destroy(builder);
	vhub_device_destroy(dev);

	/* One that never opens, and one that fails to. */
	assert_int_equal(parse("disk0", "driver=malloc,size=1M", &builder, error), 0);
	builder->ops->destroy(builder);
	assert_int_equal(parse("disk0", "driver=uring,path=/nowhere/at/all", &builder, error), 0);
	assert_int_equal(builder->ops->open(builder, error, ERROR_LEN), -ENOENT);
	assert_non_null(strstr(error, "/nowhere/at/all"));
	assert_int_equal(builder->ops->build(builder, &no_lcores, &dev, error, ERROR_LEN), -EINVAL);
	builder->ops->destroy(builder);
}

/* ---- the registry of drivers ---- */

static void
test_incomplete_drivers_are_refused(void **state)
{
	const struct vhub_blk_driver_ops *null_ops = vhub_blk_driver_find("null");
	struct vhub_blk_driver_ops ops;

	(void)state;
	assert_non_null(null_ops);
	assert_int_equal(vhub_blk_driver_register(null_ops), -EEXIST);
#define EXPECT_REQUIRED(slot) \
	do { \
		ops = *null_ops; \
		ops.name = "incomplete"; \
		ops.slot = NULL; \
		assert_int_equal(vhub_blk_driver_register(&ops), -EINVAL); \
	} while (0)
	EXPECT_REQUIRED(name);
	EXPECT_REQUIRED(keys);
	EXPECT_REQUIRED(parse);
	EXPECT_REQUIRED(open);
	EXPECT_REQUIRED(destroy);
	EXPECT_REQUIRED(info);
	EXPECT_REQUIRED(queue_get);
	EXPECT_REQUIRED(queue_put);
	EXPECT_REQUIRED(submit);
	EXPECT_REQUIRED(reap);
	assert_null(vhub_blk_driver_find("incomplete"));
}

static void
test_drivers_can_be_listed(void **state)
{
	unsigned int n = 0;

	(void)state;
	for (; vhub_blk_driver_at(n) != NULL; n++)
		assert_ptr_equal(vhub_blk_driver_find(vhub_blk_driver_at(n)->name),
				vhub_blk_driver_at(n));
	assert_true(n >= 3);
	assert_null(vhub_blk_driver_find("nvme"));
	assert_null(vhub_blk_driver_find(""));
}

static void
test_help_tells_the_arguments_of_all_drivers(void **state)
{
	static const char *const expected[] = { "driver=", "queues=", "ro=", "serial=",
		"block_size=", "size=", "path=", "direct=", "latency_us=" };
	const struct vhub_builder_ops *ops = vhub_builder_find("blk");

	(void)state;
	for (unsigned int i = 0; i < RTE_DIM(expected); i++)
		assert_non_null(strstr(ops->help, expected[i]));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_help_tells_the_arguments_of_all_drivers),
		cmocka_unit_test(test_wrong_arguments_are_named),
		cmocka_unit_test(test_a_long_argument_does_not_overflow),
		cmocka_unit_test(test_arguments_reach_the_device),
		cmocka_unit_test(test_the_serial_is_given_or_the_name),
		cmocka_unit_test(test_a_block_size_that_does_not_fit_is_refused),
		cmocka_unit_test(test_a_builder_builds_one_device_after_open),
		cmocka_unit_test(test_incomplete_drivers_are_refused),
		cmocka_unit_test(test_drivers_can_be_listed),
	};

	if (test_eal_init() != 0)
		return 99;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
