/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whether a process has been killed, or has ended, and is only kept by what the kernel cannot end: a system call
 * that waits for a FUSE server or for a lock sleeps on. All its fds stay open until then, also sockets that listen.
 * Called by listener.c.
 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conn_pvt.h"

/* Of the kernel's flags of a thread: it is on its way through exit(2). */
#define PF_EXITING 0x4u

/* Fields of /proc/PID/task/TID/stat, by their numbers in proc(5). */
enum stat_field {
	STAT_STATE = 3,
	STAT_FLAGS = 9,
	STAT_SIGNALS = 31, /* pending ones */
};

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
