/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What has been measured of a disk's latency, as JSON. Called by control_disks.c and telemetry_commands.c; next:
 * lib/blk.
 */
#include <errno.h>
#include <stdlib.h>

#include <rte_common.h>
#include <rte_cycles.h>

#include "status.h"

/* With three decimals of a microsecond, or as whole nanoseconds. */
static json_t *
time_status(double cycles, bool whole)
{
	const uint64_t ns = (uint64_t)(1e9 * cycles / (double)rte_get_tsc_hz() + 0.5);

	return whole ? json_integer((json_int_t)ns) : json_real((double)ns / 1e3);
}

/* [[bound, count], ...] of the powers of two in which there are values. */
static json_t *
buckets_status(const struct vhub_hist *h)
{
	json_t *out = json_array();

	for (unsigned int bits = 0; bits <= VHUB_HIST_MAX_BITS; bits++) {
		const uint64_t n = vhub_hist_count_of_bits(h, bits);
		uint64_t bound = UINT64_C(1) << bits;

		if (bits == VHUB_HIST_MAX_BITS)
			bound = RTE_MAX(bound, h->max);
		if (n != 0)
			json_array_append_new(out,
					json_pack("[o, I]", time_status((double)bound, false),
							(json_int_t)n));
	}
	return out;
}

static json_t *
operation_status(const struct vhub_hist *h, bool whole)
{
	static const struct {
		const char *name;
		unsigned int per_100000;
	} percentiles[] = {
		{ "p50", 50000 },
		{ "p90", 90000 },
		{ "p99", 99000 },
		{ "p99_9", 99900 },
		{ "p99_99", 99990 },
	};
	json_t *out = json_pack("{s:I, s:o}", "count", (json_int_t)vhub_hist_count(h), "mean",
			time_status(vhub_hist_mean(h), whole));

	for (unsigned int i = 0; i < RTE_DIM(percentiles); i++)
		json_object_set_new(out, percentiles[i].name,
				time_status((double)vhub_hist_percentile(h,
							    percentiles[i].per_100000),
						whole));
	json_object_set_new(out, "max", time_status((double)h->max, whole));
	if (!whole)
		json_object_set_new(out, "buckets", buckets_status(h));
	return out;
}

static json_t *
operations_status(const struct vhub_blk_latency *latency, bool whole)
{
	static const char *const names[VHUB_BLK_OPS] = {
		[VHUB_BLK_READ] = "read",
		[VHUB_BLK_WRITE] = "write",
		[VHUB_BLK_FLUSH] = "flush",
		[VHUB_BLK_DISCARD] = "discard",
		[VHUB_BLK_WRITE_ZEROES] = "write_zeroes",
		[VHUB_BLK_SECURE_ERASE] = "secure_erase",
	};
	json_t *out = json_object();

	for (unsigned int op = 0; op < VHUB_BLK_OPS; op++) {
		if (vhub_hist_count(&latency->op[op]) != 0)
			json_object_set_new(out, names[op],
					operation_status(&latency->op[op], whole));
	}
	return out;
}

int
status_latency(const struct slot *slot, bool whole, json_t **out)
{
	struct vhub_blk_latency *latency = malloc(sizeof(*latency));
	int ret;

	*out = NULL;
	if (latency == NULL)
		return -ENOMEM;
	ret = vhub_blk_get_latency(slot->device, latency);
	if (ret != -EINVAL)
		*out = json_pack("{s:s, s:b}", "name", slot->options.name, "measuring", ret == 0);
	if (ret == 0) {
		json_object_set_new(*out, "seconds",
				json_real((double)(latency->cycles * 1000 / rte_get_tsc_hz()) /
						1e3));
		json_object_set_new(*out, whole ? "latency_ns" : "latency_us",
				operations_status(latency, whole));
	}
	free(latency);
	return ret;
}
