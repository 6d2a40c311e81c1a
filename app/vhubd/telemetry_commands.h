/* SPDX-License-Identifier: BSD-3-Clause */
/* vhubd's commands for dpdk-telemetry.py. Called by main.c. */
#ifndef TELEMETRY_COMMANDS_H
#define TELEMETRY_COMMANDS_H

#include "slots.h"

/** Registers them. Ended by vhub_telemetry_stop(). Thread: CTL. Returns 0 or a negative errno. */
int
telemetry_commands_start(struct vhub_loop *loop, struct slots *slots);

#endif /* TELEMETRY_COMMANDS_H */
