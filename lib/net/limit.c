/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rate limits of a port: packets and bytes in a second, each direction by itself. Called by services.c for
 * bursts of a port that has limits; by builder.c and vhubd's control methods, to set them.
 *
 * They police, as those of other switches do: what is over a limit is dropped and counted, and nothing
 * waits. A guest that finds its ring served in any case sees its own packets lost, as on a wire, and its
 * TCP slows down; one whose ring stood still would hold its other traffic back as well.
 *
 * The pairs of a port share a limit, whichever lcores they are on (vhub_meter.h). Of a burst all is paid
 * at once. A packet needs room for all of it: a large one that there is not enough for is dropped while
 * a small one behind it may pass.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include <rte_cycles.h>

#include "net_pvt.h"
#include "services.h"

static const struct {
	const char *name;
	uint64_t min; /* of what is not 0 */
	uint64_t max;
} limits[VHUB_NET_LIMITS] = {
#define OF_DIRECTION(word, name) \
	[VHUB_NET_LIMIT_##word##_PACKETS] = { name "_packets_per_s", 1, VHUB_NET_MAX_PACKETS }, \
	[VHUB_NET_LIMIT_##word## \
			_PACKETS_BURST] = { name "_packets_burst", 1, VHUB_NET_MAX_PACKETS }, \
	[VHUB_NET_LIMIT_##word## \
			_BYTES] = { name "_bytes_per_s", VHUB_NET_MIN_BYTES, VHUB_NET_MAX_BYTES }, \
	[VHUB_NET_LIMIT_##word##_BYTES_BURST] = { name "_bytes_burst", 1, VHUB_NET_MAX_BYTES }

	OF_DIRECTION(FROM, "from_guest"),
	OF_DIRECTION(TO, "to_guest"),
};

const char *
vhub_net_limit_name(enum vhub_net_limit limit)
{
	return limits[limit].name;
}

/* ---- packets ---- */

/*
 * Pays for those of `which` that are due, in order: one unit each, or their bytes; of all it is `units`.
 * Returns which.
 */
static uint64_t
pay(struct vhub_meter *m, const struct net_frames *frames, bool bytes, uint64_t which,
		uint64_t units, uint64_t now)
{
	uint64_t old = __atomic_load_n(&m->next, __ATOMIC_RELAXED);
	const uint64_t cost_of_all = vhub_meter_cost(m, units);
	uint64_t due, left, pass;

	do {
		due = vhub_meter_due(m, old, now);
		pass = 0;
		/* Mostly there is room for the whole burst. */
		if (likely(due + cost_of_all <= now)) {
			due += cost_of_all;
			pass = which;
			continue;
		}
		for (left = which; left != 0; left &= left - 1) {
			const unsigned int i = (unsigned int)__builtin_ctzll(left);
			const uint64_t cost = vhub_meter_cost(m,
					bytes ? net_frame_bytes(frames, i) : 1);

			if (due + cost > now)
				continue;
			due += cost;
			pass |= UINT64_C(1) << i;
		}
	} while (pass != 0 && !vhub_meter_move(m, &old, due, now));
	return pass;
}

static uint32_t
bytes_of(const struct net_frames *frames, uint64_t which)
{
	uint32_t bytes = 0;

	for (; which != 0; which &= which - 1)
		bytes += net_frame_bytes(frames, (unsigned int)__builtin_ctzll(which));
	return bytes;
}

uint64_t
net_limit_pass(struct net_pair *pair, enum net_direction direction, uint32_t on,
		const struct net_frames *frames, uint64_t which, uint32_t all_bytes)
{
	static const enum vhub_net_drop reasons[] = { VHUB_NET_DROP_RATE_FROM,
		VHUB_NET_DROP_RATE_TO };
	struct net_services *services = &pair->dev->services;
	struct vhub_meter *packets = &services->limits[direction].packets;
	const uint64_t now = rte_rdtsc();
	uint64_t pass = which, paid;

	if ((on & NET_SERVES_LIMIT_PACKETS) != 0)
		pass = pay(packets, frames, false, pass, net_count_frames(pass), now);
	if ((on & NET_SERVES_LIMIT_BYTES) != 0) {
		paid = pass;
		if (unlikely(paid != which))
			all_bytes = bytes_of(frames, paid);
		pass = pay(&services->limits[direction].bytes, frames, true, pass, all_bytes, now);
		if ((on & NET_SERVES_LIMIT_PACKETS) != 0 && pass != paid)
			vhub_meter_give_back(packets, net_count_frames(paid & ~pass));
	}
	if (pass != which)
		vhub_count(&pair->counters.drops[reasons[direction]],
				net_count_frames(which & ~pass));
	return pass;
}

/* ---- setting ---- */

int
net_limit_check(const struct vhub_net_qos *qos, char *error, size_t error_len)
{
	unsigned int i;

	for (i = 0; i < VHUB_NET_LIMITS; i++) {
		const uint64_t value = qos->limits[i];

		if (value == 0 || (value >= limits[i].min && value <= limits[i].max))
			continue;
		snprintf(error, error_len, "%s=%" PRIu64 ": allowed: 0, %" PRIu64 " to %" PRIu64,
				limits[i].name, value, limits[i].min, limits[i].max);
		return -EINVAL;
	}
	return 0;
}

/* A port that has sent nothing yet has all of its burst. */
static void
set_direction(struct net_services *services, enum net_direction direction, const uint64_t *values)
{
	uint32_t on = 0;

	if (values[0] != 0) {
		vhub_meter_set_full(&services->limits[direction].packets, values[0], values[1], 1);
		on |= NET_SERVES_LIMIT_PACKETS;
	}
	if (values[2] != 0) {
		vhub_meter_set_full(&services->limits[direction].bytes, values[2], values[3],
				NET_LONGEST_FRAME_BYTES); /* any burst has room for one */
		on |= NET_SERVES_LIMIT_BYTES;
	}
	net_services_set(services, direction, NET_SERVES_LIMIT_PACKETS | NET_SERVES_LIMIT_BYTES,
			on);
}

void
net_limit_set(struct net_services *services, const struct vhub_net_qos *qos)
{
	services->qos = *qos;
	set_direction(services, NET_FROM_GUEST, &qos->limits[VHUB_NET_LIMIT_FROM_PACKETS]);
	set_direction(services, NET_TO_GUEST, &qos->limits[VHUB_NET_LIMIT_TO_PACKETS]);
}

int
vhub_net_set_qos(struct vhub_device *device, const struct vhub_net_qos *qos, char *error,
		size_t error_len)
{
	struct net_dev *dev = net_dev_find_or_say(device, error, error_len);
	int ret;

	if (dev == NULL)
		return -EINVAL;
	ret = net_limit_check(qos, error, error_len);
	if (ret == 0)
		net_limit_set(&dev->services, qos);
	return ret;
}

int
vhub_net_get_qos(const struct vhub_device *device, struct vhub_net_qos *qos)
{
	const struct net_dev *dev = net_dev_find(device);

	if (dev == NULL)
		return -EINVAL;
	*qos = dev->services.qos;
	return 0;
}
