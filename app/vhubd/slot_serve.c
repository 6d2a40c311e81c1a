/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One slot's steps from its options to a server. Called by slots.c; next: conn/server.c brings
 * front ends to the device's request handler.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <rte_common.h>

#include "slot_serve.h"
#include "slot_spec.h"

/* ---- lcores ---- */

bool
slot_begins_on(const struct slot *slot, const struct vhub_lcore *lcore)
{
	unsigned int i;

	for (i = 0; i < slot->executor.n_lcores; i++) {
		if (slot->executor.lcores[i] == lcore)
			return true;
	}
	return false;
}

static void
count_devices(const struct slot *first, unsigned int *n_devices)
{
	const struct slot *slot;
	unsigned int i;

	for (slot = first; slot != NULL; slot = slot->next) {
		for (i = 0; i < vhub_lcore_count(); i++)
			n_devices[i] += slot_begins_on(slot, vhub_lcore_at(i));
	}
}

static void
take_least_used(struct slot *slot, const struct slot *first)
{
	const struct vhub_builder *builder = slot->options.builder;
	unsigned int n_devices[VHUB_MAX_LCORES] = { 0 };
	const unsigned int n_all = vhub_lcore_count();
	unsigned int i, n = 1, least = UINT32_MAX, begin = 0;

	if (builder->ops->max_lcores != NULL)
		n = RTE_MAX(1u, RTE_MIN(builder->ops->max_lcores(builder), n_all));
	count_devices(first, n_devices);
	for (i = 0; i < n_all; i++) {
		unsigned int sum = 0, k;

		for (k = 0; k < n; k++)
			sum += n_devices[(i + k) % n_all];
		if (sum < least) {
			least = sum;
			begin = i;
		}
	}
	slot->executor.n_lcores = n;
	for (i = 0; i < n; i++)
		slot->executor.lcores[i] = vhub_lcore_at((begin + i) % n_all);
}

int
slot_choose_executor(struct slot *slot, struct vhub_loop *loop, const struct slot *first,
		char *error, size_t error_len)
{
	slot->executor.loop = loop;
	if (slot->options.affinity.n != 0)
		return affinity_resolve(&slot->options.affinity, &slot->executor, error, error_len);
	take_least_used(slot, first);
	return 0;
}

/* ---- the device ---- */

int
slot_renew(struct slot *slot, const struct slot *first)
{
	struct slot_options *options = &slot->options;
	int ret = 0;

	if (slot->device != NULL)
		return 0;
	if (options->builder == NULL)
		ret = options->ops->parse(options->name, options->device_args, &options->builder,
				slot->error, sizeof(slot->error));
	if (ret == 0 && slot->executor.n_lcores == 0)
		ret = slot_choose_executor(slot, slot->executor.loop, first, slot->error,
				sizeof(slot->error));
	return ret;
}

/*
 * An image may lie on storage that takes its time, memory has to be found. What a failed one has opened is given
 * back here too: a port that has joined others waits for lcores then.
 */
void
slot_build(struct vhub_work *work)
{
	struct slot *slot = vhub_container_of(work, struct slot, work);
	struct vhub_builder *builder = slot->options.builder;

	slot->result = 0;
	if (builder->ops->open != NULL)
		slot->result = builder->ops->open(builder, slot->error, sizeof(slot->error));
	if (slot->result == 0)
		slot->result = builder->ops->build(builder, &slot->executor, &slot->device,
				slot->error, sizeof(slot->error));
	if (slot->result == 0)
		return;
	builder->ops->destroy(builder);
	slot->options.builder = NULL;
}

/* ---- the socket ---- */

int
slot_inherit(struct slot *slot, char *error, size_t error_len)
{
	const int fd = slot->options.fd;
	int ret;

	if (slot->options.connection != CONNECTION_INHERIT)
		return 0;
	ret = vhub_connection_from_fd(fd, &slot->listener);
	if (ret != 0)
		snprintf(error, error_len,
				"cannot use fd=%d: %s; a Unix stream socket is wanted, listening or connected",
				fd, strerror(-ret));
	return ret;
}

int
slot_cannot_listen(struct slot *slot, int result)
{
	snprintf(slot->error, sizeof(slot->error), "cannot listen on socket=%s: %s%s",
			slot->options.listener.path, strerror(-result),
			result == -EADDRINUSE ?
					"; somebody listens there, or a file that is no socket is in the way" :
					"");
	return result;
}

void
slot_listen(struct vhub_work *work)
{
	struct slot *slot = vhub_container_of(work, struct slot, work);

	slot->result = slot_spec_find_ids(&slot->options, slot->error, sizeof(slot->error));
	if (slot->result != 0)
		return;
	slot->result = vhub_listener_create(&slot->options.listener, &slot->listener);
	if (slot->result == 0)
		slot->socket_file = vhub_take_parent_process_resources(slot->listener);
	else
		slot_cannot_listen(slot, slot->result);
}

/* ---- serving ---- */

static int
connect_slot(struct slot *slot, struct vhub_connection **connection)
{
	const struct slot_options *options = &slot->options;
	int ret = -EINVAL;

	switch (options->connection) {
	case CONNECTION_LISTEN:
	case CONNECTION_INHERIT:
		*connection = slot->listener;
		slot->listener = NULL;
		/* What was inherited can be taken once. */
		ret = *connection != NULL ? 0 : -EBADF;
		break;
	case CONNECTION_DIAL:
		ret = vhub_dialer_create(options->listener.path, connection);
		if (ret != 0)
			snprintf(slot->error, sizeof(slot->error), "cannot use connect=%s: %s",
					options->listener.path, strerror(-ret));
		break;
	case CONNECTION_NONE:
		break;
	}
	return ret;
}

int
slot_serve(struct slot *slot)
{
	struct vhub_connection *connection;
	int ret;

	if (slot->options.connection == CONNECTION_NONE)
		return 0;
	ret = vhub_device_handler_create(slot->device, &slot->handler);
	if (ret == 0)
		ret = connect_slot(slot, &connection);
	if (ret == 0)
		ret = vhub_serve(connection, slot->handler, &slot->executor, &slot->server);
	return ret;
}
