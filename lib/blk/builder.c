/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The builder "blk": arguments to a disk of a driver, to a device. Called by whoever has read a
 * device's arguments (the command line of vhubd), through the registry of builders; blk.c comes
 * next.
 *
 *     driver=malloc,size=1G,queues=4
 *
 * Arguments are the builder's own or the driver's; what is neither, or comes twice, is refused
 * here, with the names that would have been right for this driver.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bsd/string.h>

#include "blk_pvt.h"

struct blk_builder {
	struct vhub_builder builder; /* first */
	struct blk_params params;
	struct vhub_blk_disk *disk; /* NULL once a device owns it */
	bool opened;
};

/* The builder's own arguments, NULL-terminated. */
static const char *const own_keys[] = { "driver", "queues", "lcores", "ro", "serial", "block_size",
	"writeback", "iops", "iops_burst", "bytes_per_s", "bytes_burst", NULL };

static bool
printable(const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text <= ' ' || *text > '~')
			return false;
	}
	return true;
}

static int
parse_serial(const struct rte_kvargs *args, char *id, char *error, size_t error_len)
{
	const char *serial = NULL;
	int ret;

	ret = vhub_arg_text(args, "serial", &serial, error, error_len);
	if (ret != 0 || serial == NULL)
		return ret;
	if (strlen(serial) > VIRTIO_BLK_ID_BYTES || !printable(serial)) {
		snprintf(error, error_len, "serial=%s: not 1 to %u visible ASCII characters",
				serial, VIRTIO_BLK_ID_BYTES);
		return -EINVAL;
	}
	memset(id, 0, VIRTIO_BLK_ID_BYTES);
	memcpy(id, serial, strlen(serial));
	return 0;
}

/* FNV-1a: any hash would do that stays the same from one release to the next. */
static uint32_t
hash_name(const char *name)
{
	uint32_t hash = 2166136261u;

	for (; *name != '\0'; name++)
		hash = (hash ^ (uint8_t)*name) * 16777619u;
	return hash;
}

/*
 * The serial when none was given: the device's name. A guest makes links by it (/dev/disk/by-id),
 * so a name that is too long keeps its beginning and, to differ from its neighbours, ends in a hash
 * of the whole.
 */
static void
id_from_name(const char *name, char *id)
{
	char text[VIRTIO_BLK_ID_BYTES + 1];

	if (strlcpy(text, name, sizeof(text)) >= sizeof(text))
		snprintf(text, sizeof(text), "%.11s-%08x", name, hash_name(name));
	for (char *p = text; *p != '\0'; p++) {
		if (*p <= ' ' || *p > '~')
			*p = '_';
	}
	memset(id, 0, VIRTIO_BLK_ID_BYTES);
	memcpy(id, text, strlen(text));
}

/* More lcores than queues would be a mistake of whoever asks for them. */
static int
parse_lcores(const struct rte_kvargs *args, struct blk_params *params, char *error,
		size_t error_len)
{
	uint64_t n_lcores = 1;
	int ret;

	ret = vhub_arg_uint(args, "lcores", 1, VHUB_MAX_LCORES, &n_lcores, error, error_len);
	if (ret != 0)
		return ret;
	if (n_lcores > params->n_queues) {
		snprintf(error, error_len, "lcores=%u: more than queues=%u", (unsigned int)n_lcores,
				params->n_queues);
		return -EINVAL;
	}
	params->n_lcores = (uint16_t)n_lcores;
	return 0;
}

static int
parse_qos(const struct rte_kvargs *args, struct vhub_blk_qos *qos, char *error, size_t error_len)
{
	int ret;

	ret = vhub_arg_count(args, "iops", 0, VHUB_BLK_QOS_MAX_IOPS, &qos->iops, error, error_len);
	if (ret == 0)
		ret = vhub_arg_count(args, "iops_burst", 0, VHUB_BLK_QOS_MAX_IOPS, &qos->iops_burst,
				error, error_len);
	if (ret == 0)
		ret = vhub_arg_size(args, "bytes_per_s", 0, VHUB_BLK_QOS_MAX_BYTES,
				&qos->bytes_per_s, error, error_len);
	if (ret == 0)
		ret = vhub_arg_size(args, "bytes_burst", 0, VHUB_BLK_QOS_MAX_BYTES,
				&qos->bytes_burst, error, error_len);
	return ret == 0 ? blk_qos_check(qos, error, error_len) : ret;
}

static int
parse_params(const char *name, const struct rte_kvargs *args, struct blk_params *params,
		bool *read_only, char *error, size_t error_len)
{
	static const char *const block_sizes[] = { "512", "4096", NULL };
	unsigned int block_size = RTE_DIM(block_sizes);
	uint64_t n_queues = 1;
	bool writeback = true;
	int ret;

	strlcpy(params->name, name, sizeof(params->name));
	id_from_name(name, params->id);
	ret = vhub_arg_uint(args, "queues", 1, VHUB_MAX_QUEUES, &n_queues, error, error_len);
	if (ret != 0)
		return ret;
	params->n_queues = (uint16_t)n_queues;
	ret = parse_lcores(args, params, error, error_len);
	if (ret != 0)
		return ret;
	ret = vhub_arg_bool(args, "ro", read_only, error, error_len);
	if (ret != 0)
		return ret;
	ret = vhub_arg_choice(args, "block_size", block_sizes, &block_size, error, error_len);
	if (ret != 0)
		return ret;
	ret = vhub_arg_bool(args, "writeback", &writeback, error, error_len);
	if (ret != 0)
		return ret;
	params->write_through = !writeback;
	if (block_size < RTE_DIM(block_sizes))
		params->block_bytes = block_size == 0 ? 512 : 4096;
	ret = parse_qos(args, &params->qos, error, error_len);
	if (ret != 0)
		return ret;
	return parse_serial(args, params->id, error, error_len);
}

static int
builder_parse(const char *name, const struct rte_kvargs *args, struct vhub_builder **out,
		char *error, size_t error_len);

static int
builder_open(struct vhub_builder *builder, char *error, size_t error_len)
{
	struct blk_builder *b = vhub_container_of(builder, struct blk_builder, builder);
	int ret;

	if (b->opened)
		return 0;
	ret = b->disk->ops->open(b->disk, error, error_len);
	b->opened = ret == 0;
	return ret;
}

static int
builder_build(struct vhub_builder *builder, const struct vhub_executor *executor,
		struct vhub_device **out, char *error, size_t error_len)
{
	struct blk_builder *b = vhub_container_of(builder, struct blk_builder, builder);
	int ret;

	if (b->disk == NULL || !b->opened) {
		snprintf(error, error_len, "%s: the disk is %s", b->params.name,
				b->disk == NULL ? "in use" : "not open");
		return -EINVAL;
	}
	ret = blk_create(&b->params, b->disk, executor, out, error, error_len);
	if (ret == 0)
		b->disk = NULL;
	return ret;
}

static void
builder_destroy(struct vhub_builder *builder)
{
	struct blk_builder *b = vhub_container_of(builder, struct blk_builder, builder);

	if (b->disk != NULL)
		b->disk->ops->destroy(b->disk);
	free(b);
}

static unsigned int
builder_max_lcores(const struct vhub_builder *builder)
{
	return vhub_container_of(builder, struct blk_builder, builder)->params.n_lcores;
}

static const struct vhub_builder_ops blk_builder_ops = {
	.name = "blk",
	.help = blk_builder_help,
	.parse = builder_parse,
	.open = builder_open,
	.build = builder_build,
	.destroy = builder_destroy,
	.max_lcores = builder_max_lcores,
	.drivers = &blk_drivers,
	.concurrent = true,
};

static int
builder_parse(const char *name, const struct rte_kvargs *args, struct vhub_builder **out,
		char *error, size_t error_len)
{
	const struct vhub_blk_driver_ops *driver;
	struct blk_builder *b;
	bool read_only = false;
	int ret;

	ret = vhub_arg_driver(args, &blk_drivers, (const void **)&driver, error, error_len);
	if (ret != 0)
		return ret;
	ret = vhub_arg_check_keys(args, own_keys, driver, error, error_len);
	if (ret != 0)
		return ret;
	b = calloc(1, sizeof(*b));
	if (b == NULL)
		return -ENOMEM;
	b->builder.ops = &blk_builder_ops;
	ret = parse_params(name, args, &b->params, &read_only, error, error_len);
	if (ret != 0)
		goto err_free;
	ret = driver->parse(args, read_only, &b->disk, error, error_len);
	if (ret != 0)
		goto err_free;
	strlcpy(b->disk->name, name, sizeof(b->disk->name));
	*out = &b->builder;
	return 0;

err_free:
	free(b);
	return ret;
}

VHUB_BUILDER_REGISTER(blk_builder_ops)
