/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The process at the other end of a socket; and whether one has been killed, or has ended, and is only kept by what
 * the kernel cannot end: a system call that waits for a FUSE server or for a lock sleeps on. All its fds stay open
 * until then, also sockets that listen. Called by listener.c, session.c and server.c.
 */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conn_pvt.h"

/* Of the kernel's flags of a thread: it is on its way through exit(2). */
#define PF_EXITING 0x4u
/* Of a socket in /proc/net/unix: it listens. */
#define SO_ACCEPTS 0x10000u

/* Fields of /proc/PID/task/TID/stat, by their numbers in proc(5). */
enum stat_field {
	STAT_STATE = 3,
	STAT_FLAGS = 9,
	STAT_SIGNALS = 31, /* pending ones */
};

int
conn_peer_of(int fd, struct vhub_peer *peer)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0)
		return -errno;
	*peer = (struct vhub_peer){ .pid = cred.pid, .uid = cred.uid, .gid = cred.gid };
	return 0;
}

bool
conn_peer_has_hung_up(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLRDHUP };

	return poll(&pfd, 1, 0) > 0 && (pfd.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

/* ---- whether it is ending ---- */

/* Whether the thread runs its program no more. `line` is cut to pieces. */
static bool
thread_is_ending(char *line)
{
	/* The name before it may have anything in it, brackets too. */
	char *field, *rest = strrchr(line, ')');
	unsigned int i;

	if (rest == NULL)
		return false;
	rest++;
	for (i = STAT_STATE; (field = strsep(&rest, " ")) != NULL;) {
		if (field[0] == '\0')
			continue;
		if (i == STAT_STATE && (field[0] == 'Z' || field[0] == 'X'))
			return true;
		if (i == STAT_FLAGS && (strtoul(field, NULL, 10) & PF_EXITING) != 0)
			return true;
		if (i == STAT_SIGNALS)
			return (strtoul(field, NULL, 10) & 1ul << (SIGKILL - 1)) != 0;
		i++;
	}
	return false;
}

static bool
read_thread(pid_t pid, const char *tid, char *line, int len)
{
	char path[64];
	FILE *file;
	bool ok;

	snprintf(path, sizeof(path), "/proc/%d/task/%.20s/stat", pid, tid);
	file = fopen(path, "re");
	if (file == NULL)
		return false;
	ok = fgets(line, len, file) != NULL;
	fclose(file);
	return ok;
}

bool
conn_process_is_ending(pid_t pid)
{
	char path[32], line[1024];
	struct dirent *entry;
	bool ending = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	if (dir == NULL)
		return false;
	while ((entry = readdir(dir)) != NULL) {
		/* One that has gone since the folder was read is no reason against it. */
		if (entry->d_name[0] == '.' || !read_thread(pid, entry->d_name, line, sizeof(line)))
			continue;
		ending = thread_is_ending(line);
		if (!ending)
			break;
	}
	closedir(dir);
	return ending;
}

/* ---- who holds a socket ---- */

/* The inode of the socket that listens at `path`, as it was bound; 0: not known. */
static unsigned long
find_listening(const char *path)
{
	FILE *file = fopen("/proc/net/unix", "re");
	unsigned long inode = 0, each;
	unsigned int flags;
	char line[512];
	int at;

	if (file == NULL)
		return 0;
	while (inode == 0 && fgets(line, sizeof(line), file) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		at = 0;
		if (sscanf(line, "%*s %*s %*s %x %*s %*s %lu %n", &flags, &each, &at) == 2 &&
				at != 0 && (flags & SO_ACCEPTS) != 0 &&
				strcmp(line + at, path) == 0)
			inode = each;
	}
	fclose(file);
	return inode;
}

static bool
thread_holds(pid_t pid, const char *tid, const char *socket_name)
{
	char path[64], name[64];
	struct dirent *entry;
	bool holds = false;
	ssize_t len;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task/%.20s/fd", pid, tid);
	dir = opendir(path);
	if (dir == NULL)
		return false;
	while (!holds && (entry = readdir(dir)) != NULL) {
		len = readlinkat(dirfd(dir), entry->d_name, name, sizeof(name) - 1);
		name[len < 0 ? 0 : len] = '\0';
		holds = strcmp(name, socket_name) == 0;
	}
	closedir(dir);
	return holds;
}

/* One of its threads has them all; which one, is not known. */
static bool
process_holds(pid_t pid, const char *socket_name)
{
	struct dirent *entry;
	bool holds = false;
	char path[32];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	if (dir == NULL)
		return false;
	while (!holds && (entry = readdir(dir)) != NULL)
		holds = entry->d_name[0] != '.' && thread_holds(pid, entry->d_name, socket_name);
	closedir(dir);
	return holds;
}

bool
conn_ending_process_listens(const char *path)
{
	const unsigned long inode = find_listening(path);
	struct dirent *entry;
	bool listens = false;
	char name[64];
	DIR *dir;
	pid_t pid;

	dir = inode != 0 ? opendir("/proc") : NULL;
	if (dir == NULL)
		return false;
	snprintf(name, sizeof(name), "socket:[%lu]", inode);
	while (!listens && (entry = readdir(dir)) != NULL) {
		pid = (pid_t)strtol(entry->d_name, NULL, 10);
		listens = pid > 0 && conn_process_is_ending(pid) && process_holds(pid, name);
	}
	closedir(dir);
	return listens;
}
