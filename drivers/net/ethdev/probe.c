/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A name to a port that is ours alone, and back. What EAL has found when it started is taken as it
 * is and left there; anything else is made from its arguments and removed at the end. Called by
 * ethdev.c; setup.c comes next.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_devargs.h>
#include <rte_eal.h>
#include <rte_pci.h>

#include "ethdev_pvt.h"
#include "vhub_log.h"

VHUB_LOGTYPE(net)

/*
 * Ports come and go on several threads of the blocking work at once, and DPDK 22.11 keeps the arguments of all
 * devices in a list without a lock, which buses walk while they look for a device.
 */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Why DPDK makes no port of it: what rte_dev_probe() said. */
static void
tell_no_port(const struct ethdev_port *p, int ret, char *error, size_t error_len)
{
	struct rte_pci_addr address;

	if (rte_pci_addr_parse(p->name, &address) != 0)
		snprintf(error, error_len,
				"port=%s: no such port, and DPDK makes none of it: %s; allowed: a PCI "
				"address, a port that exists, or [DRIVER,ARGUMENTS] as after EAL's --vdev",
				p->devargs,
				ret == -EFAULT ? "it has no driver of this name" : strerror(-ret));
	else if (!rte_eal_has_pci())
		snprintf(error, error_len,
				"port=%s: EAL runs without PCI, as it does where vhubd is given no EAL "
				"arguments: vhubd -a %s -m 512 --socket-limit 512 -- ...",
				p->devargs, p->name);
	else
		snprintf(error, error_len,
				"port=%s: DPDK finds no port there: %s; the device must be bound to "
				"vfio-pci (for mlx4 and mlx5: to the kernel's driver), and DPDK's driver "
				"be installed",
				p->devargs, strerror(-ret));
}

/* The first port of the device, whatever that port calls itself. */
static int
find_probed(struct ethdev_port *p)
{
	struct rte_dev_iterator iterator;
	uint16_t id, found = RTE_MAX_ETHPORTS;

	if (rte_eth_dev_get_port_by_name(p->name, &p->port_id) == 0)
		return 0;
	RTE_ETH_FOREACH_MATCHING_DEV(id, p->devargs, &iterator)
	{
		if (found == RTE_MAX_ETHPORTS)
			found = id;
	}
	p->port_id = found;
	return found == RTE_MAX_ETHPORTS ? -ENODEV : 0;
}

/* With the lock, also to walk what buses have. */
static int
probe(struct ethdev_port *p, char *error, size_t error_len)
{
	int ret = rte_dev_probe(p->devargs);

	if (ret != 0) {
		tell_no_port(p, ret, error, error_len);
		return ret;
	}
	p->probed = true;
	ret = find_probed(p);
	if (ret != 0)
		snprintf(error, error_len, "port=%s: this device has no network port", p->devargs);
	return ret;
}

static int
find_or_probe(struct ethdev_port *p, char *error, size_t error_len)
{
	int ret = 0;

	if (rte_eth_dev_get_port_by_name(p->name, &p->port_id) != 0) {
		pthread_mutex_lock(&lock);
		ret = probe(p, error, error_len);
		pthread_mutex_unlock(&lock);
	} else if (strcmp(p->name, p->devargs) != 0) {
		snprintf(error, error_len,
				"port=[%s]: %s exists already, so its arguments would mean nothing; "
				"port=%s takes it as it is",
				p->devargs, p->name, p->name);
		return -EEXIST;
	}
	p->found = ret == 0;
	return ret;
}

static int
own(struct ethdev_port *p, char *error, size_t error_len)
{
	struct rte_eth_dev_owner owner = { .id = RTE_ETH_DEV_NO_OWNER };
	int ret = rte_eth_dev_owner_get(p->port_id, &owner);

	/* Asked before, for setting writes a line of its own into the log. */
	if (ret == 0 && owner.id != RTE_ETH_DEV_NO_OWNER)
		ret = -EBUSY;
	if (ret == 0)
		ret = rte_eth_dev_owner_new(&owner.id);
	if (ret == 0) {
		snprintf(owner.name, sizeof(owner.name), "vhub %s", p->name);
		ret = rte_eth_dev_owner_set(p->port_id, &owner);
	}
	p->owned = ret == 0;
	p->owner_id = owner.id;
	if (ret == -EBUSY || ret == -EPERM)
		snprintf(error, error_len,
				"port=%s: in use already, by \"%s\"; a port serves one device",
				p->name, owner.name);
	else if (ret != 0)
		snprintf(error, error_len, "port=%s: cannot be taken: %s", p->name, strerror(-ret));
	return ret;
}

int
ethdev_acquire(struct ethdev_port *p, char *error, size_t error_len)
{
	int ret = find_or_probe(p, error, error_len);

	if (ret == 0)
		ret = own(p, error, error_len);
	if (ret != 0)
		return ret;
	ret = rte_eth_dev_info_get(p->port_id, &p->dev);
	if (ret != 0)
		snprintf(error, error_len, "port=%s: does not say what it is: %s", p->name,
				strerror(-ret));
	return ret;
}

/* By name, since a device without a port is to go as well. */
static int
remove_device(const struct ethdev_port *p)
{
	struct rte_devargs devargs = { 0 };
	int ret = rte_devargs_parse(&devargs, p->devargs);

	if (ret == 0) {
		pthread_mutex_lock(&lock);
		ret = rte_eal_hotplug_remove(rte_bus_name(devargs.bus), devargs.name);
		pthread_mutex_unlock(&lock);
	}
	rte_devargs_reset(&devargs);
	return ret;
}

bool
ethdev_release(struct ethdev_port *p)
{
	bool closed = !p->found;
	int ret = 0;

	if (p->owned)
		rte_eth_dev_owner_unset(p->port_id, p->owner_id);
	if (p->probed) {
		if (p->found)
			closed = (ret = rte_eth_dev_close(p->port_id)) == 0;
		if (ret == 0)
			ret = remove_device(p);
		if (ret != 0)
			VHUB_LOG(WARNING, "port %s cannot be removed: %s", p->name, strerror(-ret));
	}
	p->owned = p->probed = p->found = false;
	return closed;
}
