/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhubd's commands for dpdk-telemetry.py. Called through lib/telemetry, on CTL; next: status.c.
 */
#include <stdio.h>
#include <string.h>

#include <bsd/stdlib.h>
#include <bsd/string.h>

#include <rte_common.h>

#include "status.h"
#include "telemetry_commands.h"
#include "vhub_telemetry.h"

/* Queues in one answer: as many as telemetry's 16 KiB hold. */
#define QUEUES_AT_ONCE 32u
#define RINGS_AT_ONCE 64u

static json_t *
devices(void *arg, const char *params, char *error, size_t error_len)
{
	json_t *names = json_array();
	const struct slot *slot;

	(void)params;
	(void)error;
	(void)error_len;
	for (slot = slots_first(arg); slot != NULL; slot = slots_next(slot))
		json_array_append_new(names, json_string(slot->options.name));
	return names;
}

/* The slot that `params` begins with; what follows its comma is in *rest. */
static const struct slot *
find_slot(const struct slots *slots, const char *params, const char **rest, char *error,
		size_t error_len)
{
	const size_t len = strcspn(params, ",");
	const struct slot *slot;
	char name[64];

	strlcpy(name, params, RTE_MIN(sizeof(name), len + 1));
	*rest = params[len] == ',' ? params + len + 1 : "";
	slot = slots_find(slots, name);
	if (slot == NULL && name[0] == '\0')
		snprintf(error, error_len, "a device's name must follow after a comma");
	else if (slot == NULL)
		snprintf(error, error_len, "there is no device %s", name);
	return slot;
}

static json_t *
device(void *arg, const char *params, char *error, size_t error_len)
{
	const struct slot *slot = find_slot(arg, params, &params, error, error_len);
	json_t *out, *stats, *latency = NULL;

	if (slot == NULL)
		return NULL;
	out = status_device(slot);
	stats = status_stats(slot, false);
	status_add_negotiated(json_object_get(stats, "session"), slot);
	json_object_update_missing(out, stats);
	json_decref(stats);
	if (slot_device(slot) != NULL && status_latency(slot, true, &latency) == 0)
		json_object_set(out, "latency", latency);
	json_decref(latency);
	return out;
}

/* The slot that `params` begins with, and from which of its queues, or rings, on. */
static const struct slot *
find_slot_from(const struct slots *slots, const char *params, unsigned int *first, char *error,
		size_t error_len)
{
	const struct slot *slot = find_slot(slots, params, &params, error, error_len);
	const char *bad = NULL;

	*first = 0;
	if (slot != NULL && params[0] != '\0')
		*first = (unsigned int)strtonum(params, 0, UINT16_MAX, &bad);
	if (bad == NULL)
		return slot;
	snprintf(error, error_len, "%s is not the number of a queue", params);
	return NULL;
}

static json_t *
queues(void *arg, const char *params, char *error, size_t error_len)
{
	unsigned int first;
	const struct slot *slot = find_slot_from(arg, params, &first, error, error_len);

	return slot != NULL ? status_queues(slot, first, QUEUES_AT_ONCE) : NULL;
}

static json_t *
rings(void *arg, const char *params, char *error, size_t error_len)
{
	unsigned int first;
	const struct slot *slot = find_slot_from(arg, params, &first, error, error_len);

	return slot != NULL ? status_rings(slot, first, RINGS_AT_ONCE, false) : NULL;
}

static json_t *
lcores(void *arg, const char *params, char *error, size_t error_len)
{
	(void)params;
	(void)error;
	(void)error_len;
	return status_lcores(arg);
}

static json_t *
sessions(void *arg, const char *params, char *error, size_t error_len)
{
	json_t *out = json_array();
	const struct slot *slot;

	(void)params;
	(void)error;
	(void)error_len;
	for (slot = slots_first(arg); slot != NULL; slot = slots_next(slot)) {
		json_t *session = status_session(slot);

		/* Short, so that many fit; /vhub/device has all of it. */
		json_object_del(session, "requests_by_name");
		json_array_append_new(out, session);
	}
	return out;
}

static json_t *
drivers(void *arg, const char *params, char *error, size_t error_len)
{
	(void)arg;
	(void)params;
	(void)error;
	(void)error_len;
	return status_drivers();
}

static json_t *
bridges(void *arg, const char *params, char *error, size_t error_len)
{
	(void)arg;
	(void)params;
	(void)error;
	(void)error_len;
	return status_bridges();
}

static json_t *
stations(void *arg, const char *params, char *error, size_t error_len)
{
	const size_t len = strcspn(params, ",");
	const char *bad = NULL;
	json_t *out = NULL;
	uint32_t from = 0;
	char name[64];

	(void)arg;
	strlcpy(name, params, RTE_MIN(sizeof(name), len + 1));
	if (params[len] == ',')
		from = (uint32_t)strtonum(params + len + 1, 0, UINT32_MAX, &bad);
	if (bad != NULL)
		snprintf(error, error_len, "%s is not the number of a place", params + len + 1);
	else if (status_stations(name, from, &out) != 0)
		snprintf(error, error_len, "there is no bridge %s", name);
	return out;
}

static const struct vhub_telemetry_command commands[] = {
	{ "/vhub/devices", "Names of the devices.", devices },
	{ "/vhub/device", "A device and its figures. Parameter: its name.", device },
	{ "/vhub/queues", "Up to 32 queues of a device. Parameters: its name, the first queue (0).",
			queues },
	{ "/vhub/rings",
			"Up to 64 rings that a front end has set up. Parameters: the device's name, the first ring (0).",
			rings },
	{ "/vhub/lcores", "Worker lcores: busy share in percent, cycles, devices.", lcores },
	{ "/vhub/sessions", "Connections of all devices to their front ends.", sessions },
	{ "/vhub/bridges", "Bridges and their ports.", bridges },
	{ "/vhub/stations",
			"Some of the stations that a bridge knows. Parameters: its name, where to go on: next of the last answer (0).",
			stations },
	{ "/vhub/drivers", "Drivers of every kind of device.", drivers },
};

int
telemetry_commands_start(struct vhub_loop *loop, struct slots *slots)
{
	return vhub_telemetry_start(loop, commands, RTE_DIM(commands), slots);
}
