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

/** Of more fds than this that wait to be closed an account is full. */
#define VHUB_FD_MAX_WAITING 64u

/**
 * The fds of one place for front ends that wait to be closed, those of one after the other. One
 * thread at a time closes them, one by one: who sends what is stuck in close(2) has one thread of
 * many, and holds up only its own.
 */
struct vhub_fd_account;

/** Makes an account. Thread: CTL. Does not block. Returns 0 or -ENOMEM. */
VHUB_API int
vhub_fd_account_create(struct vhub_fd_account **out);

/**
 * Lets go of an account; it is freed when the last fd on it is closed. NULL is fine. Thread: CTL.
 * Does not block.
 */
VHUB_API void
vhub_fd_account_release(struct vhub_fd_account *account);

/**
 * Whether more than VHUB_FD_MAX_WAITING fds on it are not closed yet. Nothing more is read from its
 * front end then, or that one could fill the process's table of fds. Nobody tells when that has
 * changed: ask again after some milliseconds. NULL never is. Thread: CTL. Does not block.
 */
VHUB_API bool
vhub_fd_account_is_full(struct vhub_fd_account *account);

/** What has fds closed in another way than by close(2); embedded by its owner. */
struct vhub_fd_job {
	void (*run)(struct vhub_fd_job *job); /**< WORK: may block; may free the job */
	struct vhub_fd_job *next;	      /**< runtime */
};

/**
 * Runs `job` in its turn among the closes on `account`, and counts it as one; NULL as for
 * vhub_fd_discard(). Thread: CTL, or WORK in a piece that runs. Never blocks, never fails.
 */
VHUB_API void
vhub_fd_account_run(struct vhub_fd_account *account, struct vhub_fd_job *job);

/**
 * Closes `fd` as blocking work (vhub_work.h), on `account`, or on one that all share who give NULL.
 * -1 is fine. Thread: CTL, or WORK in a piece that runs. Never blocks, never fails.
 */
VHUB_API void
vhub_fd_discard(int fd, struct vhub_fd_account *account);

/**
 * Shuts the connected socket `fd` down, so that its peer hears of it whoever else has a copy, and closes it, as
 * vhub_fd_discard(): either can take as long as the peer likes, and the former waits for no close. Thread: CTL.
 * Never blocks, never fails.
 */
VHUB_API void
vhub_fd_hang_up(int fd, struct vhub_fd_account *account);

/**
 * Waits until nothing given to vhub_fd_discard() or vhub_fd_hang_up() is open: for tests that count fds. Thread: CTL.
 * Blocks.
 */
VHUB_API void
vhub_fd_discard_wait(void);

/**
 * Raises the process's soft limit on fds (RLIMIT_NOFILE) to the hard one: a shell's soft limit is
 * for programs that use select(2). Thread: before others are there. Does not block. Returns 0 or an
 * errno of getrlimit(2) or setrlimit(2).
 */
VHUB_API int
vhub_fd_raise_limit(void);

/** Whether `fd` is an eventfd: polling and writing it asks nobody. Thread: CTL. Does not block. */
VHUB_API bool
vhub_fd_is_eventfd(int fd);

#ifdef __cplusplus
}
#endif

#endif /* VHUB_FD_H */
