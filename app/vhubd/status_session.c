/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a front end has negotiated, as JSON. Called by status.c and telemetry_commands.c.
 */
#include <inttypes.h>
#include <stdio.h>

#include "status.h"

/* ---- the session ---- */

/* "features": "0x...", and "feature_names" of the bits that have one. */
static void
add_features(json_t *out, const char *key, const char *names_key, uint64_t features,
		const char *(*name_of)(const struct vhub_device *dev, unsigned int bit),
		const struct vhub_device *dev)
{
	json_t *names = json_array();
	char text[sizeof("0x") + 16];
	const char *name;
	unsigned int bit;

	for (bit = 0; bit < 64; bit++) {
		name = (features >> bit & 1) != 0 ? name_of(dev, bit) : NULL;
		if (name != NULL)
			json_array_append_new(names, json_string(name));
	}
	snprintf(text, sizeof(text), "0x%" PRIx64, features);
	json_object_set_new(out, key, json_string(text));
	json_object_set_new(out, names_key, names);
}

static const char *
protocol_feature_name(const struct vhub_device *dev, unsigned int bit)
{
	(void)dev;
	return vhub_user_protocol_feature_name(bit);
}

void
status_add_negotiated(json_t *session, const struct slot *slot)
{
	struct vhub_session_status status;
	json_t *more;

	if (slot_device(slot) == NULL || vhub_device_session_status(slot->device, &status) != 0)
		return;
	more = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "peer_pid", (json_int_t)status.peer.pid,
			"peer_uid", (json_int_t)status.peer.uid, "peer_gid",
			(json_int_t)status.peer.gid, "memory_regions", (json_int_t)status.n_regions,
			"memory_bytes", (json_int_t)status.memory_bytes, "memory_page_bytes",
			(json_int_t)status.page_bytes);
	if (status.numa_node >= 0)
		json_object_set_new(more, "memory_numa_node", json_integer(status.numa_node));
	json_object_update(session, more);
	json_decref(more);
	add_features(session, "features", "feature_names", status.features,
			vhub_device_feature_name, slot->device);
	add_features(session, "protocol_features", "protocol_feature_names",
			status.protocol_features, protocol_feature_name, NULL);
}

/* ---- rings ---- */

static const char *
ring_state(const struct vhub_ring_status *ring)
{
	if (!ring->started)
		return "stopped";
	if (ring->broken != VHUB_VIRTQ_OK)
		return "broken";
	return ring->enabled ? "running" : "disabled";
}

static void
add_counters(json_t *out, const struct vhub_virtq_stats *stats)
{
	json_t *counters = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "chains",
			(json_int_t)stats->chains, "completions", (json_int_t)stats->completions,
			"resubmitted", (json_int_t)stats->resubmitted, "calls",
			(json_int_t)stats->calls, "calls_suppressed",
			(json_int_t)stats->calls_suppressed, "call_errors",
			(json_int_t)stats->call_errors, "long_chain_waits",
			(json_int_t)stats->long_chain_waits);

	json_object_update(out, counters);
	json_decref(counters);
}

json_t *
status_rings(const struct slot *slot, unsigned int first, unsigned int n, bool counters)
{
	struct vhub_ring_status ring;
	json_t *out = json_array(), *one;
	unsigned int i;

	for (i = first; slot_device(slot) != NULL && i - first < n &&
			vhub_device_ring_status(slot->device, (uint16_t)i, &ring) == 0;
			i++) {
		if (ring.size == 0)
			continue;
		one = json_pack("{s:i, s:i, s:s, s:s, s:b}", "index", (int)i, "size",
				(int)ring.size, "format", ring.packed ? "packed" : "split", "state",
				ring_state(&ring), "inflight", ring.inflight);
		if (ring.broken != VHUB_VIRTQ_OK)
			json_object_set_new(one, "reason",
					json_string(vhub_virtq_reason_name(ring.broken)));
		if (counters && ring.counted)
			add_counters(one, &ring.stats);
		json_array_append_new(out, one);
	}
	return out;
}
