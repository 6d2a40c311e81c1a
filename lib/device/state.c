/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SET_DEVICE_STATE_FD and CHECK_DEVICE_STATE ("Migrating back-end state"). The channel is always a
 * memory file of ours, handed to the front end with the reply. It is written before anybody else has
 * it. Reading it waits for nothing that the front end is to do, but it can wait for the kernel, which
 * the front end can have swap out what it has written: that is blocking work. Next: the device's
 * snapshot and restore.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "handler_pvt.h"

#define DIRECTION_LOAD 1u /* 0: save */
#define PHASE_STOPPED 0u
#define NO_FD UINT64_C(0x100)
#define STATE_MAX_BYTES 65536u

void
state_drop(struct vhub_device_handler *h)
{
	session_record_set_fd(&h->state_fd, -1, handler_account(h));
	h->state_loading = false;
}

static int
save(struct vhub_device_handler *h, int fd)
{
	void *buf = malloc(STATE_MAX_BYTES);
	int ret;

	if (buf == NULL)
		return -ENOMEM;
	ret = h->dev->ops->snapshot(h->dev, buf, STATE_MAX_BYTES);
	if (ret > 0 && pwrite(fd, buf, (size_t)ret, 0) != ret)
		ret = -EIO;
	free(buf);
	return ret < 0 ? ret : 0;
}

/* WORK: up to one byte more than any state has. The file's size is not asked for: it can change at any time. */
static void
read_state(struct vhub_work *work)
{
	struct vhub_device_handler *h = handler_of_work(work);
	ssize_t len = -ENOMEM;

	h->new_state = malloc(STATE_MAX_BYTES + 1);
	if (h->new_state != NULL) {
		len = pread(h->state_fd, h->new_state, STATE_MAX_BYTES + 1, 0);
		if (len < 0)
			len = -errno;
	}
	h->work_result = (int)len;
}

static int
begin(struct vhub_device_handler *h, bool loading, int *reply_fd)
{
	int fd = memfd_create("vhub-device-state", MFD_CLOEXEC);
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (!loading)
		ret = save(h, fd);
	if (ret == 0) {
		*reply_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (*reply_fd < 0)
			ret = -errno;
	}
	if (ret != 0) {
		close(fd);
		return ret;
	}
	state_drop(h);
	h->state_fd = fd;
	h->state_loading = loading;
	return 0;
}

int
req_set_device_state_fd(struct vhub_req_handler *base, struct vhub_request *req)
{
	struct vhub_device_handler *h = handler_of(base);
	const struct vhub_user_device_state *params = &req->payload.device_state;
	int ret = -EINVAL;

	if (h->dev->ops->snapshot == NULL || h->dev->ops->restore == NULL)
		return -ENOTSUP;
	if (params->direction <= DIRECTION_LOAD && params->phase == PHASE_STOPPED &&
			!handler_running(h))
		ret = begin(h, params->direction == DIRECTION_LOAD, &req->reply_fd);
	/* Bits 0-7: error; bit 8: no fd comes with this. */
	req->reply.u64 = ret == 0 ? 0 : (1 | NO_FD);
	req->reply_size_bytes = sizeof(req->reply.u64);
	return 0;
}

/* `result`: 0 or -errno */
static void
answer_check(struct vhub_device_handler *h, struct vhub_request *req, int result)
{
	state_drop(h);
	req->reply.u64 = (uint64_t)-result;
	req->reply_size_bytes = sizeof(req->reply.u64);
}

static void
state_read(struct vhub_device_handler *h, int result)
{
	if (result > (int)STATE_MAX_BYTES)
		result = -EINVAL;
	else if (result >= 0)
		result = h->dev->ops->restore(h->dev, h->new_state, (uint32_t)result);
	free(h->new_state);
	h->new_state = NULL;
	answer_check(h, h->req, result);
	handler_finish(h, 0);
}

int
req_check_device_state(struct vhub_req_handler *base, struct vhub_request *req)
{
	struct vhub_device_handler *h = handler_of(base);

	if (h->state_fd < 0 || !h->state_loading) {
		answer_check(h, req, h->state_fd < 0 ? -EINVAL : 0);
		return 0;
	}
	h->req = req;
	return handler_work(h, read_state, state_read);
}
