/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What there is to see of the bridges that ports with driver=bridge make: for who shows them. All
 * functions run on CTL or WORK; what they hand to a callback is valid inside of it only, in which
 * none of them may be called.
 */
#ifndef VHUB_BRIDGE_H
#define VHUB_BRIDGE_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_ether.h>

#include "vhub_common.h"

#ifdef __cplusplus
extern "C" {
#endif

/** A bridge. */
struct vhub_bridge_info {
	const char *name;
	uint32_t ageing_s;
	uint32_t max_stations;
	unsigned int n_ports;
};

/** One of its ports. */
struct vhub_bridge_port {
	const char *name;	/**< of the device */
	bool is_uplink;		/**< no guest is there but a wire */
	uint16_t vlan;		/**< of frames without a tag; 0: none */
	const uint64_t *tagged; /**< bit N % 64 of word N / 64: frames with the tag N; up to 4094 */
	uint16_t isolation;	/**< group; 0: none */
	uint16_t mtu;		/**< 0: no limit */
	uint32_t stations;	/**< known at this port, some of which may be too old by now */
	uint32_t learn_limit;
	bool has_priority;    /**< its stations are not taken over by ports without */
	uint32_t flood_limit; /**< packets a second; 0: none */
	uint32_t broadcast_limit;
};

/** What a bridge knows. */
struct vhub_bridge_station {
	struct rte_ether_addr mac;
	uint16_t vlan;
	const char *port;
	bool is_static;
	uint32_t age_s; /**< since it was heard of */
};

/** Called for each bridge, and after it for each of its ports. */
struct vhub_bridge_visitor {
	void (*bridge)(void *arg, const struct vhub_bridge_info *bridge);
	void (*port)(void *arg, const struct vhub_bridge_port *port);
};

/** Shows all bridges. */
VHUB_API void
vhub_bridge_walk(const struct vhub_bridge_visitor *visitor, void *arg);

/**
 * Shows some of the stations that a bridge knows, so few that it takes a short while: from *from on, 0 at first,
 * which is where to go on then, and 0 again after the last one. One that comes or moves meanwhile may be left out.
 * Returns 0 or -ENOENT: there is no such bridge.
 */
VHUB_API int
vhub_bridge_stations(const char *name, uint32_t *from,
		void (*fn)(void *arg, const struct vhub_bridge_station *station), void *arg);

/**
 * Has a bridge forget what it has learned: at the port of the device `port` (NULL: at all), in `vlan` (0: in all).
 * What is known for good, a device's mac=, stays. Returns 0, and *n is how many stations, -ENOENT: there is no
 * such bridge, or -ENODEV: it has no such port.
 */
VHUB_API int
vhub_bridge_flush(const char *name, const char *port, uint16_t vlan, uint32_t *n);

#ifdef __cplusplus
}
#endif

#endif /* VHUB_BRIDGE_H */
