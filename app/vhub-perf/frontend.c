/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A session from its start to its end (frontend.h). Called by the subcommands; the way of a session
 * is connect.c, negotiate.c, then the memory table and the rings here, on messages of wire.c.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "frontend.h"
#include "perf.h"
#include "worker.h"

/* Between two connections to a back end that hangs up at once. */
#define BUSY_MS 20

static uint64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* ---- open ---- */

static void
hang_up(struct frontend *fe)
{
	if (fe->fd >= 0)
		close(fe->fd);
	fe->fd = -1;
}

static int
open_session(struct frontend *fe)
{
	const uint64_t end = now_ms() + fe->config.patience_ms;
	uint64_t now;
	int ret;

	do {
		now = now_ms();
		ret = frontend_connect(fe, now < end ? (unsigned int)(end - now) : 0);
		if (ret != 0)
			return ret;
		ret = frontend_negotiate(fe);
		if (ret == 0)
			return 0;
		hang_up(fe);
		if (ret != -ECONNRESET)
			return ret;
		poll(NULL, 0, BUSY_MS);
	} while (!workers_asked_to_end() && now_ms() < end);
	perf_error(fe->config.path,
			"the back end hangs up at once: another front end may have it, or its log tells why");
	return ret;
}

int
frontend_open(const struct frontend_config *config, struct frontend **out)
{
	struct frontend *fe = calloc(1, sizeof(*fe));
	int ret;

	if (fe == NULL)
		return -ENOMEM;
	fe->config = *config;
	fe->fd = -1;
	fe->listen_fd = -1;
	fe->inflight_fd = -1;
	ret = open_session(fe);
	if (ret != 0) {
		frontend_close(fe);
		return ret;
	}
	*out = fe;
	return 0;
}

int
frontend_reopen(struct frontend *fe)
{
	hang_up(fe);
	/* The rings are made for these features. */
	fe->config.features = fe->features;
	fe->config.required = fe->features & ~VHUB_F(PROTOCOL_FEATURES);
	return open_session(fe);
}

int
frontend_move(struct frontend *fe, const char *path)
{
	fe->config.path = path;
	return frontend_reopen(fe);
}

int
frontend_read_config(struct frontend *fe, void *out, uint32_t bytes)
{
	struct vhub_user_config ask = { .size = bytes }, reply;
	const uint32_t size = VHUB_USER_CONFIG_HEAD + bytes;
	int ret;

	if ((fe->protocol & VHUB_USER_PF(CONFIG)) == 0) {
		perf_error(fe->config.path,
				"the back end has no CONFIG (protocol features 0x%llx), so it tells nothing of its device",
				(unsigned long long)fe->protocol_offered);
		return -ENOTSUP;
	}
	ret = wire_ask(fe,
			&(struct wire_message){
					.request = VHUB_USER_GET_CONFIG,
					.size = size,
					.payload = &ask,
			},
			&reply, size, NULL);
	if (ret == 0)
		memcpy(out, reply.data, bytes);
	return ret;
}

/* ---- start ---- */

static int
tell_memory(struct frontend *fe)
{
	const struct vhub_user_mem_table table = {
		.n_regions = 1,
		.regions[0] = {
			.guest_addr_gpa = MEMORY_GPA,
			.size_bytes = fe->mem->size_bytes,
			.user_addr_uva = (uintptr_t)fe->mem->hva,
		},
	};

	return wire_tell(fe,
			&(struct wire_message){
					.request = VHUB_USER_SET_MEM_TABLE,
					.size = VHUB_USER_MEM_TABLE_HEAD + sizeof(table.regions[0]),
					.payload = &table,
					.fds = &fe->mem->fd,
					.n_fds = 1,
			});
}

static int
tell_address(struct frontend *fe, const struct ring *r)
{
	const struct vhub_user_vring_addr addr = {
		.index = r->index,
		.desc_uva = (uintptr_t)r->desc,
		.used_uva = (uintptr_t)r->used,
		.avail_uva = (uintptr_t)r->avail,
	};

	return wire_tell(fe,
			&(struct wire_message){
					.request = VHUB_USER_SET_VRING_ADDR,
					.size = sizeof(addr),
					.payload = &addr,
			});
}

static int
tell_fd(struct frontend *fe, uint32_t request, uint16_t index, const int *fd)
{
	const uint64_t value = index | (*fd < 0 ? VHUB_USER_VRING_NOFD : 0);

	return wire_tell(fe,
			&(struct wire_message){
					.request = request,
					.size = sizeof(value),
					.payload = &value,
					.fds = fd,
					.n_fds = *fd < 0 ? 0 : 1,
			});
}

static int
start_ring(struct frontend *fe, const struct ring *r)
{
	int ret = wire_tell_state(fe, VHUB_USER_SET_VRING_NUM, r->index, r->size);

	if (ret == 0)
		ret = wire_tell_state(fe, VHUB_USER_SET_VRING_BASE, r->index, ring_base(r));
	if (ret == 0)
		ret = tell_address(fe, r);
	if (ret == 0)
		ret = tell_fd(fe, VHUB_USER_SET_VRING_CALL, r->index, &r->call_fd);
	if (ret == 0)
		ret = tell_fd(fe, VHUB_USER_SET_VRING_KICK, r->index, &r->kick_fd);
	if (ret == 0 && (fe->features & VHUB_F(PROTOCOL_FEATURES)) != 0)
		ret = wire_tell_state(fe, VHUB_USER_SET_VRING_ENABLE, r->index, 1);
	return ret;
}

int
frontend_restart(struct frontend *fe)
{
	uint64_t features;
	int ret = 0;

	if (fe->inflight_fd >= 0)
		ret = frontend_set_inflight(fe);
	if (ret == 0)
		ret = tell_memory(fe);
	for (unsigned int i = 0; ret == 0 && i < fe->config.n_rings; i++)
		ret = start_ring(fe, fe->rings[i]);
	/* Its answer says that all before it was done, also where nothing is acknowledged. */
	return ret == 0 ? wire_ask_u64(fe, VHUB_USER_GET_FEATURES, &features) : ret;
}

int
frontend_start(struct frontend *fe, const struct perf_memory *mem, struct ring *const *rings)
{
	int ret = 0;

	fe->mem = mem;
	fe->rings = rings;
	fe->bases = calloc(fe->config.n_rings, sizeof(*fe->bases));
	if (fe->bases == NULL)
		return -ENOMEM;
	if (fe->config.inflight)
		ret = frontend_get_inflight(fe);
	return ret == 0 ? frontend_restart(fe) : ret;
}

/* ---- end ---- */

static int
stop_rings(struct frontend *fe, uint32_t request)
{
	int ret = 0;

	for (unsigned int i = 0; ret == 0 && i < fe->config.n_rings; i++) {
		const struct vhub_user_vring_state ask = { .index = fe->rings[i]->index };
		struct vhub_user_vring_state base;

		ret = wire_ask(fe,
				&(struct wire_message){
						.request = request,
						.size = sizeof(ask),
						.payload = &ask,
				},
				&base, sizeof(base), NULL);
		if (ret == 0)
			fe->bases[i] = base.num;
	}
	return ret;
}

int
frontend_stop(struct frontend *fe)
{
	return stop_rings(fe, VHUB_USER_GET_VRING_BASE);
}

int
frontend_suspend(struct frontend *fe)
{
	return stop_rings(fe, VHUB_USER_GET_VRING_BASE_SKIP_DRAIN);
}

bool
frontend_hung_up(const struct frontend *fe)
{
	struct pollfd poll_fd = { .fd = fe->fd, .events = POLLRDHUP };

	return fe->fd < 0 ||
			(poll(&poll_fd, 1, 0) > 0 &&
					(poll_fd.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0);
}

void
frontend_close(struct frontend *fe)
{
	if (fe == NULL)
		return;
	hang_up(fe);
	if (fe->listen_fd >= 0) {
		close(fe->listen_fd);
		unlink(fe->config.path);
	}
	frontend_drop_inflight(fe);
	free(fe->bases);
	free(fe);
}
