/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The second half of the connection contract: run_backend and run_device, which put the stock
 * request handler between a connection and a device. First half: conn/connection.c.
 */
#include <errno.h>
#include <stdlib.h>

#include "vhub_device.h"
#include "vhub_log.h"

VHUB_LOGTYPE(device);

struct backend_run {
	struct vhub_req_handler *handler;
	vhub_complete_fn complete;
	void *arg;
};

static void
backend_complete(void *arg, int result)
{
	struct backend_run *run = arg;
	struct backend_run copy = *run;

	vhub_device_handler_destroy(run->handler);
	free(run);
	copy.complete(copy.arg, result);
}

static int
backend_run_create(struct vhub_device *device, vhub_complete_fn complete, void *arg,
		struct backend_run **out)
{
	struct backend_run *run = calloc(1, sizeof(*run));
	int ret;

	if (run == NULL)
		return -ENOMEM;
	ret = vhub_device_handler_create(device, &run->handler);
	if (ret != 0) {
		free(run);
		return ret;
	}
	run->complete = complete;
	run->arg = arg;
	*out = run;
	return 0;
}

int
vhub_run_backend(struct vhub_connection *connection, struct vhub_device *device,
		const struct vhub_executor *executor, vhub_complete_fn complete, void *arg)
{
	struct backend_run *run;
	int ret = backend_run_create(device, complete, arg, &run);

	if (ret != 0) {
		vhub_connection_destroy(connection);
		return ret;
	}
	ret = vhub_run_req_handler(connection, run->handler, executor, backend_complete, run);
	if (ret != 0) {
		vhub_device_handler_destroy(run->handler);
		free(run);
	}
	return ret;
}

/* ---- run_device ---- */

static int
open_and_build(struct vhub_builder *builder, const struct vhub_executor *executor,
		struct vhub_device **device)
{
	char error[256] = "";
	int ret = 0;

	if (builder->ops->open != NULL)
		ret = builder->ops->open(builder, error, sizeof(error));
	if (ret == 0)
		ret = builder->ops->build(builder, executor, device, error, sizeof(error));
	if (ret != 0)
		VHUB_LOG(ERR, "a %s device cannot be built: %s", builder->ops->name, error);
	return ret;
}

static void
device_complete(void *arg, int result)
{
	vhub_loop_stop(arg, result);
}

int
vhub_run_device(struct vhub_connection *connection, const struct vhub_executor *executor,
		struct vhub_builder *builder)
{
	struct vhub_device *device = NULL;
	int ret = -EDEADLK;

	if (!vhub_loop_running())
		ret = open_and_build(builder, executor, &device);
	builder->ops->destroy(builder);
	if (ret != 0) {
		vhub_connection_destroy(connection);
		return ret;
	}
	ret = vhub_run_backend(connection, device, executor, device_complete, executor->loop);
	if (ret == 0)
		ret = vhub_loop_run(executor->loop);
	vhub_device_destroy(device);
	return ret;
}
