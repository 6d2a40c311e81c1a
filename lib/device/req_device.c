/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests that only one class of devices knows. Next: the device's own request slot.
 */
#include <errno.h>

#include "handler_pvt.h"

int
req_of_device(struct vhub_req_handler *base, struct vhub_request *req)
{
	struct vhub_device_handler *h = handler_of(base);

	if (h->dev->ops->request == NULL)
		return -ENOTSUP;
	h->req = req;
	return h->dev->ops->request(h->dev, req);
}

void
vhub_device_request_done(struct vhub_device *dev, int result)
{
	handler_finish(dev->handler, result);
}
