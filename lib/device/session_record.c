/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Keeps the session record and the fds in it, which are given away, not closed here: that could
 * take long. Called by the request handlers; next: handler.c.
 */
#include <string.h>

#include "session_record.h"

void
session_record_set_fd(int *slot, int fd, struct vhub_fd_account *account)
{
	vhub_fd_discard(*slot, account);
	*slot = fd;
}

static void
vring_record_init(struct vring_record *vring)
{
	memset(vring, 0, sizeof(*vring));
	vring->kick_fd = -1;
	vring->call_fd = -1;
	vring->err_fd = -1;
}

static void
vring_record_clear(struct vring_record *vring, struct vhub_fd_account *account)
{
	session_record_set_fd(&vring->kick_fd, -1, account);
	session_record_set_fd(&vring->call_fd, -1, account);
	session_record_set_fd(&vring->err_fd, -1, account);
	vring_record_init(vring);
}

void
session_record_init(struct session_record *rec)
{
	unsigned int i;

	memset(rec, 0, sizeof(*rec));
	rec->version = SESSION_RECORD_VERSION;
	rec->log_fd = -1;
	rec->inflight_fd = -1;
	rec->backend_fd = -1;
	for (i = 0; i < VHUB_MAX_VRINGS; i++)
		vring_record_init(&rec->vrings[i]);
}

uint32_t
session_record_base(const struct vring_record *vring)
{
	return vring->base != 0 ? vring->base : vring->left_base;
}

void
session_record_reset_device(struct session_record *rec, bool leave_bases,
		struct vhub_fd_account *account)
{
	unsigned int i;

	for (i = 0; i < VHUB_MAX_VRINGS; i++) {
		const struct vring_record *vring = &rec->vrings[i];
		const uint32_t base = session_record_base(vring);

		vring_record_clear(&rec->vrings[i], account);
		if (leave_bases)
			rec->vrings[i].left_base = base;
	}
	session_record_set_fd(&rec->inflight_fd, -1, account);
	memset(&rec->inflight, 0, sizeof(rec->inflight));
	rec->features = 0;
	rec->has_features = false;
	rec->status = 0;
}

void
session_record_clear(struct session_record *rec, struct vhub_fd_account *account)
{
	session_record_reset_device(rec, false, account);
	session_record_set_regions(rec, NULL, NULL, 0, account);
	session_record_set_fd(&rec->log_fd, -1, account);
	session_record_set_fd(&rec->backend_fd, -1, account);
	session_record_init(rec);
}

void
session_record_set_regions(struct session_record *rec, const struct vhub_user_mem_region *descs,
		const int *fds, uint32_t n, struct vhub_fd_account *account)
{
	uint32_t i;

	for (i = 0; i < rec->n_regions; i++)
		vhub_fd_discard(rec->regions[i].fd, account);
	rec->n_regions = 0;
	for (i = 0; i < n; i++)
		session_record_add_region(rec, &descs[i], fds[i]);
}

void
session_record_add_region(struct session_record *rec, const struct vhub_user_mem_region *desc,
		int fd)
{
	struct region_record *region = &rec->regions[rec->n_regions++];

	region->desc = *desc;
	region->fd = fd;
}

void
session_record_remove_region(struct session_record *rec, const struct vhub_user_mem_region *desc,
		struct vhub_fd_account *account)
{
	uint32_t i;

	for (i = 0; i < rec->n_regions; i++) {
		const struct vhub_user_mem_region *r = &rec->regions[i].desc;

		if (r->guest_addr_gpa == desc->guest_addr_gpa &&
				r->size_bytes == desc->size_bytes &&
				r->user_addr_uva == desc->user_addr_uva)
			break;
	}
	if (i == rec->n_regions)
		return;
	vhub_fd_discard(rec->regions[i].fd, account);
	rec->regions[i] = rec->regions[--rec->n_regions];
}
