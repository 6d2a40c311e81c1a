/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inflight region: the back end makes it, this front end keeps it and gives it to the next life
 * of the back end ("Inflight I/O tracking"). Called by frontend.c.
 */
#include <errno.h>

#include "frontend.h"
#include "perf.h"

int
frontend_get_inflight(struct frontend *fe)
{
	struct vhub_user_inflight want = {
		.num_queues = fe->config.n_rings,
		.queue_size = fe->rings[0]->size,
	};
	int ret = wire_ask(fe,
			&(struct wire_message){
					.request = VHUB_USER_GET_INFLIGHT_FD,
					.size = sizeof(want),
					.payload = &want,
			},
			&fe->inflight, sizeof(fe->inflight), &fe->inflight_fd);

	if (ret != 0)
		return ret;
	if (fe->inflight_fd >= 0 && fe->inflight.mmap_size_bytes > 0)
		return 0;
	perf_error(fe->config.path,
			"GET_INFLIGHT_FD for %u rings of %u was answered without a region: leave out --inflight",
			want.num_queues, want.queue_size);
	return -EPROTO;
}

int
frontend_set_inflight(struct frontend *fe)
{
	struct vhub_user_inflight region = fe->inflight;

	region.num_queues = fe->config.n_rings;
	region.queue_size = fe->rings[0]->size;
	return wire_tell(fe,
			&(struct wire_message){
					.request = VHUB_USER_SET_INFLIGHT_FD,
					.size = sizeof(region),
					.payload = &region,
					.fds = &fe->inflight_fd,
					.n_fds = 1,
			});
}
