/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Starting EAL, with the user's arguments or with ones made from what the machine has. Called by
 * main.c.
 */
#ifndef EAL_H
#define EAL_H

#include "options.h"

/** Starts EAL and sets log levels. Returns 0, or a negative errno with a line on stderr. */
int
eal_start(const struct options *options);

/** Ends EAL, and removes what folders of its own it leaves empty. */
void
eal_stop(void);

#endif /* EAL_H */
