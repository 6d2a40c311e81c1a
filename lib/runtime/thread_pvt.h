/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What lcores share with the other threads. Implemented in thread.c.
 */
#ifndef THREAD_PVT_H
#define THREAD_PVT_H

#include <signal.h>

/* All but those of a thread's own faults. */
void
thread_foreign_signals(sigset_t *signals);

#endif /* THREAD_PVT_H */
