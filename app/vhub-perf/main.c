/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhub-perf: a front end that puts load on a vhost-user back end and tells how fast it is. Here:
 * the subcommand is looked up. Next: opts.c, which reads a subcommand's options, and the generator
 * itself (blk_run.c, net_run.c).
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include <rte_common.h>
#include <rte_version.h>

#include "perf.h"

static const struct perf_command *const commands[] = {
	&perf_blk,
	&perf_net,
	&perf_memcpy,
	&perf_line,
	NULL,
};

static void
print_help(void)
{
	printf("vhub-perf %s puts load on a vhost-user back end, as its front end, and measures it.\n\n"
	       "usage: vhub-perf COMMAND [options]\n"
	       "       vhub-perf COMMAND --help\n\n",
			VHUB_VERSION);
	for (unsigned int i = 0; commands[i] != NULL; i++)
		printf("  %-10s %s\n", commands[i]->name, commands[i]->help);
	printf("\n"
	       "  --version  print the version and exit\n"
	       "  --help     print this and exit\n\n"
	       "Exit status: 0 all was right, 1 the back end failed or data was wrong or lost, 2 wrong\n"
	       "arguments or no start.\n");
}

static int
unknown_command(const char *name)
{
	char known[256] = "";
	size_t used = 0;

	for (unsigned int i = 0; commands[i] != NULL; i++)
		used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s",
				i > 0 ? ", " : "", commands[i]->name);
	perf_error(name, "there is no such command; allowed: %s (--help tells more)", known);
	return PERF_USAGE;
}

int
main(int argc, char **argv)
{
	/* Who has read --phases or the report may be gone: writing fails, and the run goes on. */
	signal(SIGPIPE, SIG_IGN);
	if (argc < 2) {
		perf_error(NULL, "a command must follow; --help lists them");
		return PERF_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		print_help();
		return PERF_OK;
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("vhub-perf %s (%s)\n", VHUB_VERSION, rte_version());
		return PERF_OK;
	}
	for (unsigned int i = 0; commands[i] != NULL; i++) {
		if (strcmp(argv[1], commands[i]->name) == 0)
			return commands[i]->run(argc - 1, argv + 1);
	}
	return unknown_command(argv[1]);
}
