/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What every file of vhub-perf shares: the subcommands, the exit statuses, how an error is told.
 * main.c looks the subcommand up and calls its run(). The way of a subcommand: options -> frontend
 * (memory, rings) -> generator on the lcores of worker.c -> report.
 */
#ifndef PERF_H
#define PERF_H

#include <stdint.h>

/* Exit statuses: all was right; the back end or the data was not; wrong arguments or no start. */
#define PERF_OK 0
#define PERF_FAILED 1
#define PERF_USAGE 2

struct perf_command {
	const char *name;
	const char *help; /* one line for `vhub-perf --help` */
	/* argv[0] is the subcommand's name; returns an exit status. */
	int (*run)(int argc, char **argv);
};

extern const struct perf_command perf_blk;
extern const struct perf_command perf_net;
extern const struct perf_command perf_memcpy;
extern const struct perf_command perf_line;

/*
 * "vhub-perf: SUBJECT: text" on standard error, as one line; subject NULL: none. Thread: ANY, never
 * on the fast path.
 */
void
perf_error(const char *subject, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif /* PERF_H */
