/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests that only one class of devices knows. Next: the device's own request slot.
 */
#include <errno.h>

#include "handler_pvt.h"

int
req_of_device(struct vhub_req_handler *base, struct vhub_request *req)
{
	struct vhub_device *dev = handler_of(base)->dev;

	return dev->ops->request != NULL ? dev->ops->request(dev, req) : -ENOTSUP;
}
