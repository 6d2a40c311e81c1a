/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * File descriptors that came from a front end. Even to close one may take as long as its sender
 * likes: the last close of a file frees its memory, waits for a lingering TCP connection, asks a
 * FUSE server. So no thread that somebody else waits for closes one, or does anything else with it
 * that its file system may answer.
 */
#ifndef VHUB_FD_H
#define VHUB_FD_H

#include <stdbool.h>

#include "vhub_common.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Closes `fd` on a thread that nobody waits for; -1 is fine. A close that takes long delays others
 * by 20 ms at most: another thread takes over then, up to 16 of them, and behind 16 that are stuck
 * the rest waits, open. Thread: ANY but LCORE. Never blocks, never fails.
 */
VHUB_API void
vhub_fd_discard(int fd);

/**
 * Waits until everything given to vhub_fd_discard() is closed: for tests that count fds. Blocks.
 * Thread: ANY.
 */
VHUB_API void
vhub_fd_discard_wait(void);

/**
 * Whether `fd` can be polled and written to as a notification without asking anybody's file system:
 * an eventfd (or another anonymous inode) or a pipe. Does not block. Thread: ANY.
 */
VHUB_API bool
vhub_fd_is_notifier(int fd);

#ifdef __cplusplus
}
#endif

#endif /* VHUB_FD_H */
