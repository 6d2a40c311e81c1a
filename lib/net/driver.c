/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The registry of network drivers. Drivers register from constructors, or when a shared object is
 * loaded; the builder (builder.c, next on the way) finds them by the driver= argument.
 */
#include <errno.h>

#include "net_pvt.h"

struct vhub_registry net_drivers;

char net_builder_help[8192] =
		"driver=NAME       what the port is joined to: one of the drivers below\n"
		"queues=N          queue pairs, 1 to 64 (1)\n"
		"mac=ADDRESS       for the guest, and set on the port (the port's)\n"
		"mtu=BYTES         for the guest, and set on the port, 68 to 65535 (the port's)\n"
		"link=down         begins with its link down, until it is told to be up (up)\n"
		"from_guest_packets_per_s=N, from_guest_bytes_per_s=SIZE, and the same with to_guest\n"
		"                  limits, of all pairs together; what is over them is dropped (none)\n"
		"from_guest_packets_burst=N, from_guest_bytes_burst=SIZE, and the same with to_guest\n"
		"                  how much of that may come at once (that of a tenth of a second)\n"
		"frame_sizes=on    count how long frames are (off)\n"
		"mirror=PORT       copies of what passes go to that port's guest; none (none)\n"
		"mirror_direction=DIRECTION   from_guest, to_guest or both (both)\n"
		"ctrl_vq=off       direct only: offer no control queue (on)\n"
		"iommu=on          offer a vIOMMU (off)\n"
		"datapath=PATH     direct, librte_vhost, or auto: who serves the rings, vhub or DPDK's\n"
		"                  library (auto: the library with iommu=on, else direct)\n"
		"dma=NAME          librte_vhost only: a DMA device of EAL's that copies in place of the\n"
		"                  worker, such as dma_skeleton with --vdev dma_skeleton (none)\n"
		"trust=on          librte_vhost only: believe the guest how much is in its rings, which\n"
		"                  is faster, and a hostile guest can then end vhubd (off)\n";

static bool
ops_complete(const struct vhub_net_driver_ops *ops)
{
	return ops->name != NULL && ops->help != NULL && ops->keys != NULL && ops->parse != NULL &&
			ops->open != NULL && ops->destroy != NULL && ops->info != NULL &&
			ops->from_guest != NULL;
}

int
vhub_net_driver_register(const struct vhub_net_driver_ops *ops)
{
	int ret;

	if (!ops_complete(ops))
		return -EINVAL;
	ret = vhub_registry_add(&net_drivers, ops);
	if (ret == 0)
		vhub_driver_add_help(ops, net_builder_help, sizeof(net_builder_help));
	return ret;
}

const struct vhub_net_driver_ops *
vhub_net_driver_find(const char *name)
{
	return vhub_registry_find(&net_drivers, name);
}

const struct vhub_net_driver_ops *
vhub_net_driver_at(unsigned int i)
{
	return vhub_registry_at(&net_drivers, i);
}
