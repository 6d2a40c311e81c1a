/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Kick fds of front ends that wake lcores, and what for a lock that others hold does not hold up.
 *
 * To wait on an eventfd, and to end it, takes a lock that its front end holds while it wakes all who wait there, as
 * many as it likes. So an epoll instance of its own is between the fd and the lcore's: only that one is put on the fd,
 * and it is closed, as blocking work.
 *
 * To put one epoll instance into another takes a lock that the whole machine has once, and that any process may hold as
 * long as it lives. So one thread does that, for all, and nobody waits for it: until it is done the ring's lcore polls.
 * It also takes as long as there are others who wait on the fds in the former, and the latter is locked for that. So
 * there is one more in between, which is empty when it is put into the lcore's.
 */
#ifndef VHUB_KICK_H
#define VHUB_KICK_H

#include <stdbool.h>

#include "vhub_common.h"

#ifdef __cplusplus
extern "C" {
#endif

struct vhub_fd_account;
struct vhub_lcore;

/** One kick fd and the lcore that it wakes, if any. */
struct vhub_kick_watch;

/**
 * Makes one for `fd`, an eventfd, that wakes nobody yet. The fd stays the caller's, who may close it. Thread: WORK
 * (blocks). Returns 0, -ENOMEM, or an errno of epoll_create1(2) or epoll_ctl(2).
 */
VHUB_API int
vhub_kick_watch_create(int fd, struct vhub_kick_watch **out);

/** Ends and frees it; NULL is fine. fds are closed on `account` (vhub_fd.h). Thread: CTL. Does not block. */
VHUB_API void
vhub_kick_watch_destroy(struct vhub_kick_watch *watch, struct vhub_fd_account *account);

/**
 * Its kicks are to wake `lcore`, and no other any more. Until vhub_kick_wakes() says so, they do not. Thread: CTL, while
 * no lcore serves the ring. Does not block; when it cannot be done the log says so.
 */
VHUB_API void
vhub_kick_watch_wake(struct vhub_kick_watch *watch, struct vhub_lcore *lcore);

/**
 * Whether each later write to the fd ends the lcore's sleep; never without one (NULL). Thread: LCORE. Does not block.
 */
VHUB_API bool
vhub_kick_wakes(const struct vhub_kick_watch *watch);

#ifdef __cplusplus
}
#endif

#endif /* VHUB_KICK_H */
