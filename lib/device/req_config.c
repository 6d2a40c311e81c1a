/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * GET_CONFIG and SET_CONFIG ("Virtio device config space"). Next: the device's config_read and
 * config_write.
 */
#include <errno.h>

#include <rte_common.h>

#include "handler_pvt.h"

#define CONFIG_MIGRATION 1u

/*
 * rust-vmm's VHOST_USER_CONFIG_OFFSET: VMMs on it (Cloud Hypervisor up to v50, Kata's Dragonball) count from
 * where virtio-mmio has the space, which is behind all that we have.
 */
#define CONFIG_AT_MMIO 0x100u
_Static_assert(CONFIG_AT_MMIO >= VHUB_USER_MAX_CONFIG, "no offset means two bytes");

/* Whether the message carries exactly the bytes that it names, within what a message can carry. */
static bool
is_sound(const struct vhub_request *req, uint32_t offset)
{
	const struct vhub_user_config *config = &req->payload.config;

	return config->size <= VHUB_USER_MAX_CONFIG &&
			offset <= VHUB_USER_MAX_CONFIG - config->size &&
			req->header.size == VHUB_USER_CONFIG_HEAD + config->size;
}

/*
 * A front end that knows a newer config space asks for more than we have: fields that a device does
 * not have read as zero. "Uses zero length of payload to indicate an error."
 */
int
req_get_config(struct vhub_req_handler *base, struct vhub_request *req)
{
	struct vhub_device *dev = handler_of(base)->dev;
	const struct vhub_user_config *asked = &req->payload.config;
	struct vhub_user_config *config = &req->reply.config;
	uint32_t offset = asked->offset;
	uint32_t len = 0;

	if (offset >= CONFIG_AT_MMIO)
		offset -= CONFIG_AT_MMIO;
	if (!is_sound(req, offset))
		return 0;
	if (offset < dev->config_bytes)
		len = RTE_MIN(asked->size, dev->config_bytes - offset);
	if (len > 0 && dev->ops->config_read(dev, offset, config->data, len) != 0)
		return 0;
	config->offset = asked->offset;
	config->size = asked->size;
	config->flags = asked->flags;
	req->reply_size_bytes = VHUB_USER_CONFIG_HEAD + asked->size;
	return 0;
}

int
req_set_config(struct vhub_req_handler *base, struct vhub_request *req)
{
	struct vhub_device_handler *h = handler_of(base);
	struct vhub_device *dev = h->dev;
	const struct vhub_user_config *config = &req->payload.config;
	int ret;

	if (!is_sound(req, config->offset) || config->flags > CONFIG_MIGRATION ||
			config->offset > dev->config_bytes ||
			config->size > dev->config_bytes - config->offset)
		return -EINVAL;
	if (dev->ops->config_write == NULL)
		return -EPERM;
	ret = dev->ops->config_write(dev, config->offset, config->data, config->size,
			config->flags == CONFIG_MIGRATION);
	return ret == 0 ? inflight_keep(h, req) : ret;
}
