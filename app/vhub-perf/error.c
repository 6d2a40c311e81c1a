/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How vhub-perf tells what went wrong (perf.h). Called by every file of it.
 */
#include <stdarg.h>
#include <stdio.h>

#include "perf.h"

void
perf_error(const char *subject, const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	/* One write, so that lines of several threads stay whole. */
	if (subject != NULL)
		fprintf(stderr, "vhub-perf: %s: %s\n", subject, text);
	else
		fprintf(stderr, "vhub-perf: %s\n", text);
}
