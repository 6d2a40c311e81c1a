/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The file of a bound socket, and who removes it: the listener that bound it, or, once they were
 * taken, the parent-process resources. Called by listener.c and by a program that forks a jailed
 * child.
 *
 * "The very file" is told by device and inode. An O_PATH fd is held on it from bind on: an inode
 * number is given to another file once nobody holds the first one, and then a comparison of numbers
 * alone would remove a stranger's socket.
 *
 * All of it may wait for the folder, whose lock whoever lists it holds for as long as he likes: by a page for the
 * list that never comes. So vhubd leaves it to blocking work.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conn_pvt.h"
#include "vhub_work.h"

struct vhub_parent_resources {
	struct conn_socket_file file;
	struct vhub_work work;
};

/*
 * Absolute, so that a later chdir(2) does not change what is removed. Returns NULL without memory.
 */
static char *
absolute_path(const char *path)
{
	char *cwd, *absolute;
	int len;

	if (path[0] == '/')
		return strdup(path);
	cwd = getcwd(NULL, 0);
	if (cwd == NULL)
		return strdup(path);
	len = asprintf(&absolute, "%s/%s", cwd, path);
	free(cwd);
	return len < 0 ? NULL : absolute;
}

int
conn_socket_file_open(const char *path, struct conn_socket_file *file)
{
	struct stat st;
	int fd, ret;

	fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) != 0) {
		ret = -errno;
		goto close_fd;
	}
	if (!S_ISSOCK(st.st_mode)) {
		ret = -EADDRINUSE;
		goto close_fd;
	}
	file->path = absolute_path(path);
	if (file->path == NULL) {
		ret = -ENOMEM;
		goto close_fd;
	}
	file->fd = fd;
	return 0;

close_fd:
	close(fd);
	return ret;
}

void
conn_socket_file_unlink(const struct conn_socket_file *file)
{
	struct stat ours, there;

	if (fstat(file->fd, &ours) != 0)
		return;
	if (fstatat(AT_FDCWD, file->path, &there, AT_SYMLINK_NOFOLLOW) != 0)
		return;
	if (ours.st_dev == there.st_dev && ours.st_ino == there.st_ino)
		unlink(file->path);
}

void
conn_socket_file_close(const struct conn_socket_file *file)
{
	close(file->fd);
	free(file->path);
}

int
conn_parent_resources_open(const char *path, struct vhub_parent_resources **out)
{
	struct vhub_parent_resources *resources = calloc(1, sizeof(*resources));
	int ret;

	if (resources == NULL)
		return -ENOMEM;
	ret = conn_socket_file_open(path, &resources->file);
	if (ret != 0) {
		free(resources);
		return ret;
	}
	*out = resources;
	return 0;
}

void
vhub_parent_resources_release(struct vhub_parent_resources *resources)
{
	if (resources == NULL)
		return;
	conn_socket_file_unlink(&resources->file);
	conn_socket_file_close(&resources->file);
	free(resources);
}

static void
run_release(struct vhub_work *work)
{
	vhub_parent_resources_release(vhub_container_of(work, struct vhub_parent_resources, work));
}

void
conn_parent_resources_discard(struct vhub_parent_resources *resources)
{
	if (resources == NULL)
		return;
	resources->work.kind = VHUB_WORK_SOCKET;
	resources->work.run = run_release;
	vhub_work_submit(&resources->work);
}
