/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is seen of bridges: figures of a port, with lib/net's; bridges, their ports and their stations
 * for control clients (vhub_bridge.h). Called on CTL.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bridge_pvt.h"
#include "vhub_bridge.h"
#include "vhub_log.h"

VHUB_LOGTYPE(net)

/* Most stations in one call, for which the lock is held; who shows them turns each into text meanwhile. */
#define STATIONS_AT_ONCE 128u

static const char *const drop_names[BRIDGE_DROPS] = {
	[BRIDGE_DROP_RESERVED] = "bridge_dropped_reserved",
	[BRIDGE_DROP_SOURCE] = "bridge_dropped_source",
	[BRIDGE_DROP_FOREIGN] = "bridge_dropped_foreign",
	[BRIDGE_DROP_VLAN] = "bridge_dropped_vlan",
	[BRIDGE_DROP_FLOOD_LIMIT] = "bridge_dropped_flood_limit",
	[BRIDGE_DROP_BROADCAST_LIMIT] = "bridge_dropped_broadcast_limit",
	[BRIDGE_DROP_ISOLATED] = "bridge_dropped_isolated",
	[BRIDGE_DROP_SAME_PORT] = "bridge_dropped_same_port",
	[BRIDGE_DROP_MTU] = "bridge_dropped_mtu",
	[BRIDGE_DROP_NOBODY] = "bridge_dropped_nobody",
	[BRIDGE_DROP_NO_MBUF] = "bridge_dropped_no_mbuf",
};

/* ---- figures of a port ---- */

static uint64_t
sum(const struct bridge_port *p, size_t offset)
{
	uint64_t total = 0;

	for (uint16_t i = 0; i < p->n_queues; i++)
		total += __atomic_load_n(
				(const uint64_t *)(const void *)((const char *)&p->queues[i]
										 .counters +
						offset),
				__ATOMIC_RELAXED);
	return total;
}

void
bridge_stats(const struct vhub_net_port *port, vhub_stat_fn emit, void *arg)
{
	static const struct {
		const char *name;
		size_t offset;
	} figures[] = {
		{ "bridge_forwarded_packets", offsetof(struct bridge_counters, forwarded) },
		{ "bridge_flooded_packets", offsetof(struct bridge_counters, flooded) },
		{ "bridge_flooded_copies", offsetof(struct bridge_counters, copies) },
		{ "bridge_stations_learned", offsetof(struct bridge_counters, added) },
		{ "bridge_stations_moved", offsetof(struct bridge_counters, moved) },
		{ "bridge_not_learned_limit", offsetof(struct bridge_counters, limited) },
		{ "bridge_not_learned_full", offsetof(struct bridge_counters, full) },
	};
	const struct bridge_port *p = bridge_port_of(port);
	struct vhub_net_inbox *inboxes[VHUB_NET_MAX_PAIRS];
	unsigned int i;

	for (i = 0; i < RTE_DIM(figures); i++)
		emit(arg, figures[i].name, sum(p, figures[i].offset));
	for (i = 0; i < BRIDGE_DROPS; i++)
		emit(arg, drop_names[i],
				sum(p,
						offsetof(struct bridge_counters, drops) +
								i * sizeof(uint64_t)));
	for (i = 0; i < p->n_queues; i++)
		inboxes[i] = p->queues[i].inbox;
	vhub_net_inbox_emit_stats(inboxes, p->n_queues, emit, arg);
}

void
bridge_tell_foreign(struct bridge_port *p)
{
	const uint64_t n = sum(p,
			offsetof(struct bridge_counters, drops) +
					BRIDGE_DROP_FOREIGN * sizeof(uint64_t));

	if (__atomic_exchange_n(&p->foreign_seen, n, __ATOMIC_RELAXED) == n ||
			__atomic_exchange_n(&p->foreign_told, true, __ATOMIC_RELAXED))
		return;
	VHUB_LOG(NOTICE,
			"%s: is not heard with an address that is another device's mac=, or was heard at an uplink (bridge_dropped_foreign); one that is trusted and was there before needs mac= or learn_priority=high",
			p->port.name);
}

/* ---- bridges, for control clients ---- */

static void
tell_port(const struct bridge_port *p, void (*fn)(void *arg, const struct vhub_bridge_port *port),
		void *arg)
{
	const struct bridge_rules *rules = bridge_rules_of(p);
	const struct vhub_bridge_port told = {
		.name = p->port.name,
		.is_uplink = p->port.is_uplink,
		.vlan = rules->native,
		.tagged = rules->tagged,
		.isolation = rules->group,
		.mtu = p->mtu,
		.stations = table_count(p->bridge->table, p->index),
		.learn_limit = rules->learn_limit,
		.has_priority = p->is_high,
		.flood_limit = rules->flood_limit,
		.broadcast_limit = rules->broadcast_limit,
	};

	fn(arg, &told);
}

void
vhub_bridge_walk(const struct vhub_bridge_visitor *visitor, void *arg)
{
	const struct bridge *bridge = NULL;

	bridge_lock();
	while ((bridge = bridge_next(bridge)) != NULL) {
		const struct vhub_bridge_info info = {
			.name = bridge->name,
			.ageing_s = bridge->ageing_s,
			.max_stations = table_capacity(bridge->table),
			.n_ports = bridge->n_ports,
		};

		visitor->bridge(arg, &info);
		for (uint32_t i = 0; i < bridge->n_slots; i++) {
			if (bridge->slots[i] != NULL)
				tell_port(bridge->slots[i], visitor->port, arg);
		}
	}
	bridge_unlock();
}

struct walk {
	const struct bridge *bridge;
	void (*fn)(void *arg, const struct vhub_bridge_station *station);
	void *arg;
};

static void
tell_station(void *arg, const struct table_entry *entry)
{
	const struct walk *walk = arg;
	const struct bridge_port *p = walk->bridge->slots[entry->port];
	struct vhub_bridge_station station = {
		.mac = entry->mac,
		.vlan = entry->vlan,
		.is_static = entry->is_static,
		.age_s = (uint32_t)(((uint64_t)entry->age_ticks << walk->bridge->tick_shift) /
				rte_get_tsc_hz()),
	};

	if (p == NULL)
		return;
	station.port = p->port.name;
	walk->fn(walk->arg, &station);
}

int
vhub_bridge_stations(const char *name, uint32_t *from,
		void (*fn)(void *arg, const struct vhub_bridge_station *station), void *arg)
{
	struct walk walk = { .fn = fn, .arg = arg };

	bridge_lock();
	while ((walk.bridge = bridge_next(walk.bridge)) != NULL) {
		if (strcmp(walk.bridge->name, name) == 0)
			break;
	}
	if (walk.bridge != NULL)
		table_walk(walk.bridge->table, bridge_now(walk.bridge), from, STATIONS_AT_ONCE,
				tell_station, &walk);
	bridge_unlock();
	return walk.bridge != NULL ? 0 : -ENOENT;
}
