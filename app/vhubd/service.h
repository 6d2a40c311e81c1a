/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a service manager is told: systemd's Type=notify and WatchdogSec=. Called by main.c.
 */
#ifndef SERVICE_H
#define SERVICE_H

#include <stdbool.h>

#include "vhub_loop.h"

/** Whether one has started us, which is then told. Thread: ANY. */
bool
service_manages(void);

/**
 * Sends lines such as "READY=1" to the manager that $NOTIFY_SOCKET names; without one it does nothing. Thread: CTL.
 * Blocks for a second at most, when the manager does not read.
 */
void __attribute__((format(printf, 1, 2))) service_tell(const char *format, ...);

/** Tells it that `loop` turns, twice as often as $WATCHDOG_USEC asks for, if it does. Thread: CTL. */
void
service_watchdog_start(struct vhub_loop *loop);

#endif /* SERVICE_H */
