/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Storage that does not answer for once, by LD_PRELOAD: the first fsync() that finds a file $HELD_FSYNC waits as long
 * as that is there, and makes a file $HELD_FSYNC.held to say so. The tests are in test/e2e/test_saves.py.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../stall.h"
#include "vhub_common.h"

VHUB_API int
fsync(int fd)
{
	static bool was_held;
	const char *stall = getenv("HELD_FSYNC");
	char held[PATH_MAX];

	if (stall_is_there(stall) && !__atomic_exchange_n(&was_held, true, __ATOMIC_RELAXED)) {
		snprintf(held, sizeof(held), "%s.held", stall);
		close(open(held, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
		stall_wait(stall);
	}
	return (int)syscall(SYS_fsync, fd);
}
