/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writing to files (vhub_file.h). Called by the malloc driver for the file of a disk, and by vhubd for its
 * configuration.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vhub_file.h"

int
vhub_file_write(int fd, const void *data, size_t len_bytes, uint64_t offset_bytes)
{
	const uint8_t *from = data;

	while (len_bytes > 0) {
		ssize_t n = pwrite(fd, from, len_bytes, (off_t)offset_bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		from += n;
		offset_bytes += (uint64_t)n;
		len_bytes -= (size_t)n;
	}
	return 0;
}

int
vhub_file_sync_folder(const char *path)
{
	char *copy = strdup(path);
	int fd, ret;

	if (copy == NULL)
		return -ENOMEM;
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(copy);
	if (fd < 0)
		return -errno;
	/* EINVAL: of a file system that does not do that. */
	ret = fsync(fd) == 0 || errno == EINVAL ? 0 : -errno;
	close(fd);
	return ret;
}
