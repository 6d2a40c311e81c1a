/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control socket: listens as the sockets of devices do (conn/listener.c), and keeps the
 * clients. Made by vhubd; next: client.c.
 */
#include <errno.h>
#include <stdlib.h>

#include "control_pvt.h"
#include "vhub_conn.h"

static void
accepted(void *arg, int fd)
{
	struct vhub_control *control = arg;

	if (control->n_clients == VHUB_CONTROL_MAX_CLIENTS)
		control_client_make_room(control);
	control_client_open(control, fd);
}

int
vhub_control_create(struct vhub_loop *loop, const char *path,
		const struct vhub_control_method *const *methods, unsigned int n, void *arg,
		struct vhub_control **out)
{
	const struct vhub_listener_options options = {
		.path = path,
		.mode = 0600,
		.owner = (uid_t)-1,
		.group = (gid_t)-1,
	};
	struct vhub_control *control = calloc(1, sizeof(*control));
	int ret;

	if (control == NULL)
		return -ENOMEM;
	control->loop = loop;
	control->methods.own = methods;
	control->methods.n = n;
	control->methods.arg = arg;
	ret = vhub_listener_create(&options, &control->listener);
	if (ret != 0)
		goto free_control;
	ret = vhub_listener_run(control->listener, loop, accepted, control);
	if (ret != 0)
		goto destroy_listener;
	*out = control;
	return 0;

destroy_listener:
	vhub_connection_destroy(control->listener);
free_control:
	free(control);
	return ret;
}

void
vhub_control_destroy(struct vhub_control *control)
{
	if (control == NULL)
		return;
	vhub_connection_destroy(control->listener);
	while (control->clients != NULL)
		control_client_close(control->clients);
	free(control);
}
