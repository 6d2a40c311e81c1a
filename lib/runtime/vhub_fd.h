/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * File descriptors that came from a front end. Even to close one may take as long as its sender
 * likes: the last close of a file frees its memory, waits for a lingering TCP connection, asks a
 * FUSE server. So no thread that others wait for closes one, or does anything else with it that may
 * be answered by somebody's file system.
 */
#ifndef VHUB_FD_H
#define VHUB_FD_H

#include <stdbool.h>

#include "vhub_common.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Closes `fd` as a piece of blocking work (vhub_work.h); -1 is fine. Thread: CTL. Never blocks,
 * never fails.
 */
VHUB_API void
vhub_fd_discard(int fd);

/**
 * Waits until nothing given to vhub_fd_discard() is open: for tests that count fds. Thread: CTL.
 * Blocks.
 */
VHUB_API void
vhub_fd_discard_wait(void);

/** Whether `fd` is an eventfd: polling and writing it asks nobody. Thread: CTL. Does not block. */
VHUB_API bool
vhub_fd_is_eventfd(int fd);

#ifdef __cplusplus
}
#endif

#endif /* VHUB_FD_H */
