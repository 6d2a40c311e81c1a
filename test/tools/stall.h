/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Files by which tests hold up what is tested: as long as there is one (test/conformance/hold.py), it waits. Used by
 * unruly, faulty_net, slow_names and held_fsync.
 */
#ifndef STALL_H
#define STALL_H

#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>

#define STALL_LOOK_US 10000

/* `path` may be NULL: there is none. */
static inline bool
stall_is_there(const char *path)
{
	return path != NULL && access(path, F_OK) == 0;
}

static inline void
stall_wait(const char *path)
{
	while (stall_is_there(path))
		usleep(STALL_LOOK_US);
}

#endif /* STALL_H */
