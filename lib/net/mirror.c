/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mirrors: what passes a port also goes, as copies, to the guest of another one. Called by services.c on
 * the mirrored port's lcores, by to_guest.c and net.c on the lcore of the other's first pair; by port.c and
 * vhubd's control methods on CTL or WORK, where ports come, go and are joined. Next: inbox.c, to_guest.c.
 *
 * Copies wait in an inbox that every port has, and are dropped when it is not emptied as fast: the mirrored
 * port never waits. A copy that arrives is served by nothing, so that mirrors make no loops.
 *
 * Ports find each other by name, under a lock. On lcores a mirrored port reads where its copies go from
 * one pointer; a port that goes takes itself out of those, and waits until no lcore can have it any more.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "net_pvt.h"
#include "services.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct net_dev *ports; /* all that there are */

/* ---- copies ---- */

/* NULL: there is no memory. Who asks for the copy counts that: the frame itself goes on. */
static struct rte_mbuf *
copy_of(const struct net_pair *pair, const struct net_frames *frames, unsigned int i)
{
	if (frames->views != NULL)
		return net_copy_view(&frames->views[i], pair->dev->pool);
	return vhub_net_copy(frames->pkts[i], pair->dev->pool);
}

uint16_t
net_copy_frames(struct net_pair *pair, const struct net_frames *frames, uint64_t which,
		struct rte_mbuf **copies)
{
	uint16_t n = 0;

	for (; which != 0; which &= which - 1) {
		copies[n] = copy_of(pair, frames, (unsigned int)__builtin_ctzll(which));
		if (copies[n] != NULL)
			n++;
	}
	return n;
}

void
net_mirror_frames(struct net_pair *pair, const struct net_frames *frames, uint64_t which)
{
	/* Pairs with the release in join(). */
	struct vhub_net_inbox *to = __atomic_load_n(&pair->dev->services.mirror.to,
			__ATOMIC_ACQUIRE);
	const unsigned int n = net_count_frames(which);
	struct rte_mbuf *copy;
	unsigned int taken = 0;

	/* One after the other: behind what finds no room nothing is copied. */
	for (; to != NULL && vhub_net_inbox_is_open(to) && which != 0; which &= which - 1) {
		if (net_copy_frames(pair, frames, which & -which, &copy) == 0)
			continue;
		if (vhub_net_inbox_post(to, &copy, 1) == 0)
			break;
		taken++;
	}
	vhub_count(&pair->counters.mirrored, taken);
	vhub_count(&pair->counters.mirror_dropped, n - taken);
}

/* ---- where they go ---- */

void
net_mirror_open(struct net_pair *pair)
{
	if (pair->queue.index == 0)
		vhub_net_inbox_open(pair->dev->services.inbox, &pair->queue);
}

void
net_mirror_close(struct net_pair *pair)
{
	if (pair->queue.index == 0)
		vhub_net_inbox_close(pair->dev->services.inbox);
}

void
net_mirror_empty(struct net_pair *pair)
{
	if (pair->queue.index == 0)
		vhub_net_inbox_empty(pair->dev->services.inbox);
}

uint16_t
net_mirror_take(struct net_pair *pair, struct rte_mbuf **pkts, uint16_t max)
{
	return pair->queue.index == 0 ? vhub_net_inbox_take(pair->dev->services.inbox, pkts, max) :
					0;
}

int
net_mirror_arm(struct net_pair *pair)
{
	return pair->queue.index == 0 ? vhub_net_inbox_arm(pair->dev->services.inbox) : 0;
}

void
net_mirror_disarm(struct net_pair *pair)
{
	if (pair->queue.index == 0)
		vhub_net_inbox_disarm(pair->dev->services.inbox);
}

bool
net_mirror_park(struct net_pair *pair, struct vhub_lcore_word *word)
{
	return vhub_net_inbox_park(pair->dev->services.inbox, word);
}

/* ---- joining ---- */

/* Its inbox is looked at from now on, for as long as the port is there. */
static void
watch(struct net_dev *dev)
{
	if (dev->services.is_watching)
		return;
	__atomic_store_n(&dev->services.is_watching, true, __ATOMIC_RELAXED);
	/* An lcore that has left the ring alone before is told. */
	net_wake_pairs(dev);
}

/* With the lock. */
static struct net_dev *
find_port(const char *name)
{
	struct net_dev *dev;

	for (dev = ports; dev != NULL; dev = dev->services.next) {
		if (strcmp(dev->dev.name, name) == 0)
			break;
	}
	return dev;
}

/* With the lock: each mirror goes where its name says, if that is there. */
static void
join(void)
{
	struct net_dev *dev, *to;

	for (dev = ports; dev != NULL; dev = dev->services.next) {
		to = find_port(dev->services.mirror.set.to);
		if (to != NULL)
			watch(to);
		/* Pairs with the acquire in net_mirror_frames(). */
		__atomic_store_n(&dev->services.mirror.to, to != NULL ? to->services.inbox : NULL,
				__ATOMIC_RELEASE);
	}
}

static void
set_mirror(struct net_dev *dev, const struct vhub_net_mirror *set)
{
	const bool any = set->to[0] != '\0';

	dev->services.mirror.set = *set;
	net_services_set(&dev->services, NET_FROM_GUEST, NET_SERVES_MIRROR,
			any && set->from_guest ? NET_SERVES_MIRROR : 0);
	net_services_set(&dev->services, NET_TO_GUEST, NET_SERVES_MIRROR,
			any && set->to_guest ? NET_SERVES_MIRROR : 0);
}

int
net_mirror_create(struct net_dev *dev, int node)
{
	int ret = vhub_net_inbox_create(node, &dev->services.inbox);

	if (ret != 0)
		return ret;
	pthread_mutex_lock(&lock);
	set_mirror(dev, &dev->params.mirror);
	dev->services.next = ports;
	ports = dev;
	join();
	pthread_mutex_unlock(&lock);
	return 0;
}

void
net_mirror_leave(struct net_dev *dev)
{
	struct net_dev **link;

	pthread_mutex_lock(&lock);
	for (link = &ports; *link != dev; link = &(*link)->services.next)
		;
	*link = dev->services.next;
	join();
	pthread_mutex_unlock(&lock);
}

void
net_mirror_destroy(struct net_dev *dev)
{
	vhub_net_inbox_destroy(dev->services.inbox);
}

int
net_mirror_check(const char *name, const struct vhub_net_mirror *set, char *error, size_t error_len)
{
	if (strcmp(name, set->to) != 0)
		return 0;
	snprintf(error, error_len, "mirror=%s: a port cannot be its own mirror", name);
	return -EINVAL;
}

int
vhub_net_set_mirror(struct vhub_device *device, const struct vhub_net_mirror *set, char *error,
		size_t error_len)
{
	struct net_dev *dev = net_dev_find_or_say(device, error, error_len);
	int ret;

	if (dev == NULL)
		return -EINVAL;
	ret = net_mirror_check(device->name, set, error, error_len);
	if (ret != 0)
		return ret;
	pthread_mutex_lock(&lock);
	if (set->to[0] != '\0' && find_port(set->to) == NULL) {
		snprintf(error, error_len, "there is no port %s", set->to);
		ret = -EINVAL;
	} else {
		set_mirror(dev, set);
		join();
	}
	pthread_mutex_unlock(&lock);
	return ret;
}
