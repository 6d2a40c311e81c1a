/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Starts EAL for the workers (worker.h). Called by the subcommands when their options are read.
 */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bsd/string.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_log.h>

#include "perf.h"
#include "worker.h"

/* For EAL's own; guest memory is not from its heap. */
#define EAL_MEMORY_MB "8"
/* Lcore 0 is the main thread. */
#define FIRST_WORKER 1u
#define MAX_WORKERS (RTE_MAX_LCORE - FIRST_WORKER)

static unsigned int worker_cpu[MAX_WORKERS];
static unsigned int n_workers;
static bool asked_to_end; /* written by the signal handler, read by all threads */

/* ---- which CPUs ---- */

static int
bad_cpus(const char *cpus, const char *why)
{
	perf_error(cpus,
			"%s; --cpus takes numbers and ranges, such as 1,2 or 2-4, of CPUs that this process may use (taskset -p shows them)",
			why);
	return -EINVAL;
}

/* A number at *text, which is moved behind it; -1: none. */
static long
read_cpu(const char **text)
{
	char *end;
	long cpu;

	if (!isdigit((unsigned char)**text))
		return -1;
	errno = 0;
	cpu = strtol(*text, &end, 10);
	*text = end;
	return errno != 0 || cpu >= CPU_SETSIZE ? -1 : cpu;
}

static int
add_cpu(const char *cpus, const cpu_set_t *mask, long cpu)
{
	if (!CPU_ISSET((size_t)cpu, mask))
		return bad_cpus(cpus, "this process may not run there");
	if (n_workers == MAX_WORKERS)
		return bad_cpus(cpus, "too many");
	worker_cpu[n_workers++] = (unsigned int)cpu;
	return 0;
}

static int
read_cpus(const char *cpus, const cpu_set_t *mask)
{
	const char *at = cpus;
	int ret = 0;

	for (;;) {
		const long first = read_cpu(&at);
		long last = first;

		if (first >= 0 && *at == '-') {
			at++;
			last = read_cpu(&at);
		}
		if (first < 0 || last < first || (*at != ',' && *at != '\0'))
			return bad_cpus(cpus, "no list of CPUs");
		for (long cpu = first; ret == 0 && cpu <= last; cpu++)
			ret = add_cpu(cpus, mask, cpu);
		if (ret != 0 || *at == '\0')
			return ret;
		at++;
	}
}

/* vhubd puts its control thread on the first one and its workers on those after it. */
static void
default_cpu(const cpu_set_t *mask)
{
	const bool last = CPU_COUNT(mask) > 2;

	for (unsigned int cpu = 0; cpu < CPU_SETSIZE && (last || n_workers == 0); cpu++) {
		if (!CPU_ISSET(cpu, mask))
			continue;
		worker_cpu[0] = cpu;
		n_workers = 1;
	}
}

/* ---- the end ---- */

static void
on_signal(int number)
{
	/* Pairs with the loads of workers_asked_to_end(); nothing else is handed over. */
	__atomic_store_n(&asked_to_end, true, __ATOMIC_RELAXED);
	signal(number, SIG_DFL);
}

bool
workers_asked_to_end(void)
{
	return __atomic_load_n(&asked_to_end, __ATOMIC_RELAXED);
}

/* ---- EAL ---- */

/* "0@(0,1),1@1": the main thread on any CPU of the mask, each worker on its own. */
static void
write_lcores(char *text, size_t len, const cpu_set_t *mask)
{
	const char *sep = "";
	size_t used;

	used = strlcpy(text, "0@(", len);
	for (unsigned int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, mask))
			continue;
		used += (size_t)snprintf(text + used, len - used, "%s%u", sep, cpu);
		sep = ",";
	}
	used += strlcpy(text + used, ")", len - used);
	for (unsigned int i = 0; i < n_workers; i++)
		used += (size_t)snprintf(text + used, len - used, ",%u@%u", FIRST_WORKER + i,
				worker_cpu[i]);
}

static int
start_eal(const cpu_set_t *mask)
{
	static char lcores[CPU_SETSIZE * 5 + MAX_WORKERS * 10];
	static const char *const words[] = {
		"vhub-perf",
		"--lcores",
		lcores,
		"-m",
		EAL_MEMORY_MB,
		"--no-huge",
		"--no-shconf",
		"--no-pci",
		"--no-telemetry",
		"--iova-mode=va",
		"--log-level",
		"*:error",
	};
	char *argv[RTE_DIM(words) + 1] = { NULL };

	write_lcores(lcores, sizeof(lcores), mask);
	/* rte_eal_init() takes char **, and may reorder the array, but writes into no string. */
	for (unsigned int i = 0; i < RTE_DIM(words); i++)
		argv[i] = (char *)(uintptr_t)words[i];
	rte_openlog_stream(stderr);
	if (rte_eal_init(RTE_DIM(words), argv) >= 0)
		return 0;
	perf_error(NULL, "EAL does not start: %s", rte_strerror(rte_errno));
	return rte_errno > 0 ? -rte_errno : -EINVAL;
}

int
workers_start(const char *cpus)
{
	cpu_set_t mask;
	int ret = 0;

	CPU_ZERO(&mask);
	if (sched_getaffinity(0, sizeof(mask), &mask) != 0)
		return -errno;
	n_workers = 0;
	if (cpus != NULL)
		ret = read_cpus(cpus, &mask);
	else
		default_cpu(&mask);
	if (ret == 0)
		ret = start_eal(&mask);
	if (ret != 0)
		return ret;
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	return (int)n_workers;
}

void
workers_stop(void)
{
	char folder[PATH_MAX];
	char *slash;

	strlcpy(folder, rte_eal_get_runtime_dir(), sizeof(folder));
	rte_eal_cleanup();
	/* EAL leaves its folders; they go when nobody else has anything there. */
	rmdir(folder);
	slash = strrchr(folder, '/');
	if (slash != NULL && slash != folder) {
		*slash = '\0';
		rmdir(folder);
	}
}

unsigned int
workers_cpu(unsigned int i)
{
	return worker_cpu[i];
}

int
workers_launch(unsigned int i, int (*fn)(void *arg), void *arg)
{
	return rte_eal_remote_launch(fn, arg, FIRST_WORKER + i);
}

int
workers_join(unsigned int i)
{
	return rte_eal_wait_lcore(FIRST_WORKER + i);
}
