/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The sockets of the sessions that are open, and whether one that a front end has sent us is at
 * either end of one. As a back-end channel we would hold it: its session's socket would not be hung
 * up while we do, however dead the front end, and the slot would be busy for ever; also where two
 * sessions hold an end of each other's. Called by session.c, and by lib/device before it keeps a
 * socket; the kernel is asked as blocking work.
 */
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>

#include "conn_pvt.h"

struct diag_request {
	struct nlmsghdr header;
	struct unix_diag_req diag;
};

/*
 * Asks the kernel for one socket by its inode (sock_diag(7)); the answer is there when send()
 * returns.
 */
static ssize_t
ask(int netlink, uint32_t inode, void *answer, size_t len)
{
	struct diag_request request = {
		.header = {
			.nlmsg_len = sizeof(request),
			.nlmsg_type = SOCK_DIAG_BY_FAMILY,
			.nlmsg_flags = NLM_F_REQUEST,
		},
		.diag = {
			.sdiag_family = AF_UNIX,
			.udiag_states = UINT32_MAX,
			.udiag_ino = inode,
			.udiag_show = UDIAG_SHOW_PEER,
			.udiag_cookie = { UINT32_MAX, UINT32_MAX },
		},
	};

	if (send(netlink, &request, sizeof(request), MSG_DONTWAIT) != (ssize_t)sizeof(request))
		return -1;
	return recv(netlink, answer, len, MSG_DONTWAIT);
}

/* The inode in the answer's UNIX_DIAG_PEER; 0: there is none. */
static uint32_t
peer_of(struct nlmsghdr *header, ssize_t len)
{
	struct unix_diag_msg *msg = NLMSG_DATA(header);
	struct rtattr *attr = (struct rtattr *)(void *)(msg + 1);
	uint32_t inode = 0;
	unsigned int left;

	if (len < 0 || !NLMSG_OK(header, (unsigned int)len) ||
			header->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
			header->nlmsg_len < NLMSG_LENGTH(sizeof(*msg)))
		return 0;
	left = header->nlmsg_len - NLMSG_LENGTH(sizeof(*msg));
	for (; RTA_OK(attr, left); attr = RTA_NEXT(attr, left)) {
		if (attr->rta_type == UNIX_DIAG_PEER && RTA_PAYLOAD(attr) == sizeof(inode))
			memcpy(&inode, RTA_DATA(attr), sizeof(inode));
	}
	return inode;
}

static uint32_t
peer_inode(uint32_t inode)
{
	uint64_t answer[64];
	uint32_t peer = 0;
	int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

	/* Where the kernel or a jail has no sock_diag, nobody can be told apart. */
	if (netlink < 0)
		return 0;
	peer = peer_of((struct nlmsghdr *)(void *)answer,
			ask(netlink, inode, answer, sizeof(answer)));
	close(netlink);
	return peer;
}

/* Of a socket, fstat(2) asks nobody's file system. */
static bool
socket_inode(int fd, uint32_t *inode)
{
	struct stat st;
	int domain;
	socklen_t len = sizeof(domain);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) != 0 || domain != AF_UNIX ||
			fstat(fd, &st) != 0)
		return false;
	*inode = (uint32_t)st.st_ino;
	return true;
}

static struct conn_socket *sockets; /* CTL */

void
conn_socket_enter(struct conn_socket *socket, int fd)
{
	if (!socket_inode(fd, &socket->inode))
		socket->inode = 0;
	socket->next = sockets;
	sockets = socket;
}

void
conn_socket_leave(struct conn_socket *socket)
{
	struct conn_socket **link = &sockets;

	while (*link != socket)
		link = &(*link)->next;
	*link = socket->next;
}

static bool
is_entered(uint32_t inode)
{
	const struct conn_socket *socket = sockets;

	while (socket != NULL && socket->inode != inode)
		socket = socket->next;
	return socket != NULL && inode != 0;
}

/*
 * The peer of a socket that waits to be accepted has no inode yet. Nothing is missed: its session has
 * nothing when it opens, and the ends of all those that are open already are refused to it.
 */
void
vhub_socket_ends_of(int fd, struct vhub_socket_ends *ends)
{
	*ends = (struct vhub_socket_ends){ 0 };
	if (socket_inode(fd, &ends->own))
		ends->peer = peer_inode(ends->own);
}

bool
vhub_session_owns(const struct vhub_socket_ends *ends)
{
	return is_entered(ends->own) || is_entered(ends->peer);
}
