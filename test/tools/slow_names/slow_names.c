/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Users whose server does not answer, by LD_PRELOAD: as long as there is a file $SLOW_NAMES, no user is looked up.
 * The tests are in test/e2e/test_names.py.
 */
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "../stall.h"
#include "vhub_common.h"

VHUB_API int
getpwnam_r(const char *name, struct passwd *entry, char *room, size_t len, struct passwd **out)
{
	stall_wait(getenv("SLOW_NAMES"));
	*out = NULL;
	if (strcmp(name, "someone") != 0 || len < sizeof("someone"))
		return 0;
	memset(entry, 0, sizeof(*entry));
	entry->pw_name = memcpy(room, "someone", sizeof("someone"));
	entry->pw_uid = 4711;
	*out = entry;
	return 0;
}
