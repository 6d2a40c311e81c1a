/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What runs, as JSON. Called by control_devices.c, control_daemon.c and telemetry_commands.c.
 */
#include <string.h>

#include <rte_common.h>
#include <rte_cycles.h>
#include <rte_lcore.h>

#include "slot_serve.h"
#include "status.h"

/* ---- devices ---- */

static json_t *
lcore_ids(const struct vhub_executor *executor)
{
	json_t *ids = json_array();
	unsigned int i;

	for (i = 0; i < executor->n_lcores; i++)
		json_array_append_new(ids, json_integer(vhub_lcore_id(executor->lcores[i])));
	return ids;
}

/* Its state, and of one that has failed, and is not served since, why. */
static void
add_state(json_t *out, const struct slot *slot)
{
	json_object_set_new(out, "state", json_string(slot_state_name(slot->state)));
	if (slot->failure[0] == '\0')
		return;
	json_object_set_new(out, "error", json_string(slot->failure));
	json_object_set_new(out, "failures", json_integer(slot->n_failures));
}

json_t *
status_device(const struct slot *slot)
{
	json_t *out = json_pack("{s:s, s:s, s:s, s:o}", "name", slot->options.name, "kind",
			slot->options.ops->name, "args", slot->options.pairs, "lcores",
			lcore_ids(&slot->executor));

	add_state(out, slot);
	if (slot_device(slot) != NULL)
		json_object_set_new(out, "queues",
				json_integer(vhub_device_n_queues(slot->device)));
	return out;
}

/* ---- sessions ---- */

/* Requests that have come at all, by name. */
static json_t *
requests_by_name(const struct vhub_server_stats *stats)
{
	json_t *out = json_object();
	const struct vhub_user_request_info *info;
	unsigned int i;

	for (i = 0; i < VHUB_USER_REQUEST_MAX; i++) {
		info = vhub_user_request_info(i);
		if (info != NULL && stats->by_request[i] != 0)
			json_object_set_new(out, info->name,
					json_integer((json_int_t)stats->by_request[i]));
	}
	return out;
}

/* A started ring of the queue, NULL when none is. */
static const struct vhub_vring *
started_ring(const struct vhub_device *dev, unsigned int queue)
{
	unsigned int n = vhub_device_vrings_per_queue(dev), i;
	const struct vhub_vring *vring = NULL;

	for (i = 0; i < n && vring == NULL; i++)
		vring = vhub_device_vring(dev, (uint16_t)(queue * n + i));
	return vring;
}

static unsigned int
count_started(const struct vhub_device *dev)
{
	unsigned int n = 0, i;

	for (i = 0; i < vhub_device_n_queues(dev); i++)
		n += started_ring(dev, i) != NULL;
	return n;
}

json_t *
status_session(const struct slot *slot)
{
	struct vhub_server_stats stats;

	if (slot->server == NULL || slot->device == NULL)
		return json_pack("{s:s, s:s}", "name", slot->options.name, "connection", "none");
	vhub_server_get_stats(slot->server, &stats);
	return json_pack("{s:s, s:s, s:b, s:i, s:I, s:I, s:I, s:I, s:I, s:o}", "name",
			slot->options.name, "connection",
			vhub_conn_state_name(vhub_device_conn_state(slot->device)), "connected",
			stats.connected, "started_queues", (int)count_started(slot->device),
			"sessions", (json_int_t)stats.sessions, "refused",
			(json_int_t)stats.refused, "requests", (json_int_t)stats.requests,
			"refused_requests", (json_int_t)stats.refused_requests, "protocol_errors",
			(json_int_t)stats.protocol_errors, "requests_by_name",
			requests_by_name(&stats));
}

/* ---- figures ---- */

/* Adds to what is there under the name. */
static void
add_figure(void *arg, const char *name, uint64_t value)
{
	const json_t *before = json_object_get(arg, name);

	json_object_set_new(arg, name,
			json_integer((json_int_t)(value + (uint64_t)json_integer_value(before))));
}

static json_t *
queue_status(const struct vhub_device *dev, uint16_t index)
{
	const struct vhub_vring *vring = started_ring(dev, index);
	const struct vhub_lcore *lcore = vhub_device_queue_lcore(dev, index);
	/* Without a handler there is no front end to start it: it runs where it is. */
	const bool runs = vring != NULL || (dev->handler == NULL && lcore != NULL);
	json_t *out = json_pack("{s:i, s:b}", "index", index, "started", runs);

	if (lcore != NULL)
		json_object_set_new(out, "lcore", json_integer(vhub_lcore_id(lcore)));
	if (dev->ops->stats != NULL)
		dev->ops->stats(dev, index, add_figure, out);
	return out;
}

json_t *
status_queues(const struct slot *slot, unsigned int first, unsigned int n)
{
	json_t *out = json_array();
	unsigned int i;

	for (i = first; slot_device(slot) != NULL && i - first < n &&
			i < vhub_device_n_queues(slot->device);
			i++)
		json_array_append_new(out, queue_status(slot->device, (uint16_t)i));
	return out;
}

static bool
owns_queues(const struct vhub_device *dev, const struct vhub_lcore *lcore)
{
	unsigned int i;

	for (i = 0; i < vhub_device_n_queues(dev); i++) {
		if (vhub_device_queue_lcore(dev, i) == lcore)
			return true;
	}
	return false;
}

/* What each lcore has done for the device: those that own a queue of it, or once did. */
static json_t *
work_of_lcores(const struct vhub_device *dev)
{
	json_t *out = json_array();
	unsigned int i;

	for (i = 0; i < vhub_lcore_count(); i++) {
		const struct vhub_lcore *lcore = vhub_lcore_at(i);
		json_t *figures = json_object();
		bool idle = true;
		const char *name;
		json_t *value;

		if (dev->ops->lcore_stats != NULL)
			dev->ops->lcore_stats(dev, lcore, add_figure, figures);
		json_object_foreach(figures, name, value) idle &= json_integer_value(value) == 0;
		if (idle && !owns_queues(dev, lcore)) {
			json_decref(figures);
			continue;
		}
		json_object_set_new(figures, "lcore", json_integer(vhub_lcore_id(lcore)));
		json_array_append_new(out, figures);
	}
	return out;
}

json_t *
status_stats(const struct slot *slot, bool queues)
{
	json_t *figures = json_object(), *session = status_session(slot);
	json_t *out = json_pack("{s:s, s:s, s:o, s:o}", "name", slot->options.name, "kind",
			slot->options.ops->name, "session", session, "figures", figures);
	uint16_t i;

	if (out == NULL)
		return NULL;
	add_state(out, slot);
	if (slot_device(slot) != NULL && slot->device->ops->stats != NULL) {
		for (i = 0; i < vhub_device_n_queues(slot->device); i++)
			slot->device->ops->stats(slot->device, i, add_figure, figures);
	}
	if (queues) {
		status_add_negotiated(session, slot);
		json_object_set_new(out, "rings", status_rings(slot, 0, UINT16_MAX, true));
		json_object_set_new(out, "queues", status_queues(slot, 0, UINT16_MAX));
		json_object_set_new(out, "lcores",
				slot_device(slot) != NULL ? work_of_lcores(slot->device) :
							    json_array());
	}
	return out;
}

/* ---- lcores ---- */

static bool
uses(const struct slot *slot, const struct vhub_lcore *lcore)
{
	return slot_begins_on(slot, lcore) ||
			(slot_device(slot) != NULL && owns_queues(slot->device, lcore));
}

static json_t *
devices_of(const struct slots *slots, const struct vhub_lcore *lcore)
{
	json_t *names = json_array();
	const struct slot *slot;

	for (slot = slots_first(slots); slot != NULL; slot = slots_next(slot)) {
		if (uses(slot, lcore))
			json_array_append_new(names, json_string(slot->options.name));
	}
	return names;
}

/* With one decimal. */
static double
percent(uint64_t part, uint64_t all)
{
	if (all == 0)
		return 0.0;
	return (double)(uint64_t)(1000.0 * (double)part / (double)all + 0.5) / 10.0;
}

static json_t *
cpus_of(unsigned int lcore_id)
{
	const rte_cpuset_t cpus = rte_lcore_cpuset(lcore_id);
	json_t *out = json_array();
	int cpu;

	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, &cpus))
			json_array_append_new(out, json_integer(cpu));
	}
	return out;
}

static json_t *
lcore_status(const struct slots *slots, const struct vhub_lcore *lcore)
{
	struct vhub_lcore_stats stats;
	uint64_t all;

	vhub_lcore_get_stats(lcore, &stats);
	all = stats.busy_cycles + stats.idle_cycles + stats.sleep_cycles;
	return json_pack("{s:i, s:o, s:i, s:i, s:i, s:b, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:o}",
			"lcore", (int)stats.lcore_id, "cpus", cpus_of(stats.lcore_id), "numa_node",
			vhub_lcore_node(lcore), "pollers", (int)stats.n_pollers, "parked",
			(int)stats.n_parked, "asleep", stats.asleep, "busy_percent",
			percent(stats.busy_cycles, all), "busy_cycles",
			(json_int_t)stats.busy_cycles, "idle_cycles", (json_int_t)stats.idle_cycles,
			"sleep_cycles", (json_int_t)stats.sleep_cycles, "cycles_per_second",
			(json_int_t)rte_get_tsc_hz(), "turns", (json_int_t)stats.turns, "sleeps",
			(json_int_t)stats.sleeps, "devices", devices_of(slots, lcore));
}

json_t *
status_lcores(const struct slots *slots)
{
	json_t *out = json_array();
	unsigned int i;

	for (i = 0; i < vhub_lcore_count(); i++)
		json_array_append_new(out, lcore_status(slots, vhub_lcore_at(i)));
	return out;
}

/* ---- drivers ---- */

static void
add_drivers(json_t *out, const struct vhub_builder_ops *ops)
{
	const struct vhub_driver_head *driver;
	unsigned int i;

	if (ops->drivers == NULL)
		return;
	for (i = 0; (driver = vhub_registry_at(ops->drivers, i)) != NULL; i++)
		json_array_append_new(out,
				json_pack("{s:s, s:s, s:s}", "kind", ops->name, "name",
						driver->name, "help", driver->help));
}

json_t *
status_drivers(void)
{
	const struct vhub_builder_ops *ops;
	json_t *out = json_array();
	unsigned int i;

	for (i = 0; (ops = vhub_builder_at(i)) != NULL; i++)
		add_drivers(out, ops);
	return out;
}
