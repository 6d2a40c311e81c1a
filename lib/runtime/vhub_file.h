/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Files that have to be there after a crash of the host. Implemented in file.c.
 */
#ifndef VHUB_FILE_H
#define VHUB_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "vhub_common.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Writes all of it, at `offset_bytes` of the file. Thread: WORK; blocks. Returns 0, or an errno of pwrite(2). */
VHUB_API int
vhub_file_write(int fd, const void *data, size_t len_bytes, uint64_t offset_bytes);

/**
 * Has the folder of `path` know the names of its files after a crash, where its file system can do that. Thread:
 * WORK; blocks. Returns 0, -ENOMEM, or an errno of open(2) or fsync(2).
 */
VHUB_API int
vhub_file_sync_folder(const char *path);

#ifdef __cplusplus
}
#endif

#endif /* VHUB_FILE_H */
