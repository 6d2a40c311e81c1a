/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The making of a thread, and what signals it is to have. Called by work.c, by drivers and by vhubd's end of devices;
 * lcore.c, whose threads are EAL's, asks for the signals alone.
 */
#include "thread_pvt.h"
#include "vhub_thread.h"

void
thread_foreign_signals(sigset_t *signals)
{
	sigfillset(signals);
	sigdelset(signals, SIGBUS);
	sigdelset(signals, SIGSEGV);
	sigdelset(signals, SIGFPE);
	sigdelset(signals, SIGILL);
	sigdelset(signals, SIGTRAP);
}

int
vhub_thread_start(pthread_t *id, const char *name, void *(*main)(void *arg), void *arg)
{
	sigset_t foreign, old;
	int ret;

	thread_foreign_signals(&foreign);
	pthread_sigmask(SIG_SETMASK, &foreign, &old);
	ret = pthread_create(id, NULL, main, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret == 0)
		pthread_setname_np(*id, name);
	return -ret;
}
