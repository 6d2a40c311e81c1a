/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhub-blk and vhub-net: vhubd under another name, with the command line that the vhost-user
 * specification lays down for back-end programs ("Back-end program conventions"). Called by main.c.
 */
#ifndef BACKEND_PROGRAM_H
#define BACKEND_PROGRAM_H

#include "options.h"

struct backend_program;

/** The program of that name, by the last part of `argv0`; NULL: it is vhubd. */
const struct backend_program *
backend_program_find(const char *argv0);

/** Reads its command line into the one device of `options`. Returns as options_parse(). */
int
backend_program_parse(const struct backend_program *program, struct options *options, int argc,
		char **argv);

#endif /* BACKEND_PROGRAM_H */
