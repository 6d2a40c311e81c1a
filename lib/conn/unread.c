/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Replies with an fd that nobody reads. Such an fd is in flight, and the kernel lets all that we are
 * have no more of them than RLIMIT_NOFILE says, or as root any number. So a session has one at most
 * (session.c), and a slot as well: when the session ends, its socket is kept here, and the slot takes
 * nobody until the front end has read the reply or closed its end. Called by session.c and by those
 * who have slots.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/sockios.h>

#include "conn_pvt.h"
#include "vhub_fd.h"

struct conn_unread {
	struct vhub_fd_job job; /* the emptying */
	int fd;
	uint32_t refs; /* shared atomic: the slot's, and the job's */
};

bool
conn_is_unread(int fd)
{
	int bytes = 0;

	/* Of a Unix socket, what it has sent and its peer has not read. */
	return ioctl(fd, SIOCOUTQ, &bytes) == 0 && bytes > 0;
}

static bool
last_ref(struct conn_unread *unread)
{
	/* Acquire and release: the other's last use comes before the close. */
	return __atomic_fetch_sub(&unread->refs, 1, __ATOMIC_ACQ_REL) == 1;
}

/*
 * WORK: what the front end had sent may hold its own end of the socket, which then is not closed
 * while this one is open. Fds that are received without room for them the kernel closes.
 */
static void
empty_socket(struct vhub_fd_job *job)
{
	struct conn_unread *unread = vhub_container_of(job, struct conn_unread, job);
	char bytes[4096];
	ssize_t n;

	shutdown(unread->fd, SHUT_RDWR); /* from now on nothing comes either */
	do {
		n = recv(unread->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	} while (n > 0 || (n < 0 && errno == EINTR));
	if (last_ref(unread)) {
		close(unread->fd);
		free(unread);
	}
}

void
conn_unread_keep(struct conn_slot *slot, int fd)
{
	struct conn_unread *unread = calloc(1, sizeof(*unread));

	conn_unread_forget(slot);
	if (unread == NULL) {
		vhub_fd_hang_up(fd, slot->fds);
		return;
	}
	unread->fd = fd;
	unread->refs = 2;
	unread->job.run = empty_socket;
	slot->unread = unread;
	vhub_fd_account_run(slot->fds, &unread->job);
}

bool
conn_unread_is_left(struct conn_slot *slot)
{
	if (slot->unread == NULL)
		return false;
	if (conn_is_unread(slot->unread->fd))
		return true;
	conn_unread_forget(slot);
	return false;
}

void
conn_unread_forget(struct conn_slot *slot)
{
	struct conn_unread *unread = slot->unread;

	slot->unread = NULL;
	if (unread == NULL || !last_ref(unread))
		return;
	vhub_fd_discard(unread->fd, slot->fds);
	free(unread);
}
