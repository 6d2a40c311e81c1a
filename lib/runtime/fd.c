/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What may be done with file descriptors of front ends. lib/conn and lib/device give them away
 * here; next: work.c.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vhub_fd.h"
#include "vhub_work.h"

struct discarded {
	struct vhub_work work;
	int fd;
};

static void
close_discarded(struct vhub_work *work)
{
	struct discarded *d = vhub_container_of(work, struct discarded, work);

	close(d->fd);
	free(d);
}

void
vhub_fd_discard(int fd)
{
	struct discarded *d;

	if (fd < 0)
		return;
	d = calloc(1, sizeof(*d));
	if (d == NULL) {
		close(fd);
		return;
	}
	d->work.run = close_discarded;
	d->work.kind = VHUB_WORK_CLOSE;
	d->fd = fd;
	vhub_work_submit(&d->work);
}

void
vhub_fd_discard_wait(void)
{
	vhub_work_wait(VHUB_WORK_CLOSE);
}

/* By its name, which the kernel has at hand: fstat(2) would ask the file system. */
bool
vhub_fd_is_eventfd(int fd)
{
	static const char eventfd_name[] = "anon_inode:[eventfd]";
	char path[64], name[sizeof(eventfd_name)];
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	len = readlink(path, name, sizeof(name));
	return len == (ssize_t)sizeof(name) - 1 && memcmp(name, eventfd_name, (size_t)len) == 0;
}
