/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Starts EAL inside a unit test: one main and two worker lcores on at most two CPUs, no files, no devices, no
 * hugepages (DPDK 22.11 refuses --in-memory together with --no-huge; --no-shconf leaves as little behind).
 * Every test program that needs EAL includes this (as "../eal_fixture.h") and calls test_eal_init() once,
 * from main() or a group setup.
 */
#ifndef EAL_FIXTURE_H
#define EAL_FIXTURE_H

#include <sched.h>
#include <stdio.h>
#include <string.h>

#include <rte_eal.h>

/* Lcores 1 and 2 are the workers; they share a CPU, so lcores of one test never outnumber a small machine. */
#define TEST_N_WORKERS 2

/* Returns 0, also when EAL is running already, or -1. */
static inline int
test_eal_init(void)
{
	static char args[256];
	char *argv[24];
	int argc = 0;
	int cpu[2] = { -1, -1 };
	static int started;
	cpu_set_t set;

	if (started)
		return 0;
	if (sched_getaffinity(0, sizeof(set), &set) != 0)
		return -1;
	for (int i = 0; i < CPU_SETSIZE && cpu[1] < 0; i++) {
		if (CPU_ISSET(i, &set))
			cpu[cpu[0] < 0 ? 0 : 1] = i;
	}
	if (cpu[1] < 0)
		cpu[1] = cpu[0];
	snprintf(args, sizeof(args),
			"unit-test --no-huge --no-shconf -m 80 --no-pci --no-telemetry --iova-mode=va "
			"--log-level=lib.eal:error --lcores 0@%d,1@%d,2@%d",
			cpu[0], cpu[1], cpu[1]);
	for (char *word = strtok(args, " "); word != NULL; word = strtok(NULL, " "))
		argv[argc++] = word;
	if (rte_eal_init(argc, argv) < 0)
		return -1;
	started = 1;
	return 0;
}

/* The same as a group's setup. */
static inline int
test_eal_up(void **state)
{
	(void)state;
	return test_eal_init();
}

#endif /* EAL_FIXTURE_H */
