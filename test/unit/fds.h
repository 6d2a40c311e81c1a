/* SPDX-License-Identifier: BSD-3-Clause */
/* Open file descriptors of this process, for tests that leave none behind. */
#ifndef TEST_FDS_H
#define TEST_FDS_H

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static inline unsigned int
count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int n = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

#endif /* TEST_FDS_H */
