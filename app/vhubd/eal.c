/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Starts EAL. Without arguments from the user: main lcore on the first CPU of the affinity mask, a
 * worker on each other one (on the same one where there is no other), memory that is preallocated
 * and cannot grow, because EAL has a SIGBUS handler of its own while its heap grows. Called by
 * main.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include <numa.h>

#include <bsd/string.h>

#include <rte_common.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>

#include "eal.h"
#include "log_level.h"
#include "vhub_fd.h"

/*
 * What rings, mailboxes and pools need; disks in memory and request arrays live outside of EAL's
 * heap.
 */
#define EAL_MEMORY_MB 64
/* Without hugepages: packet buffers have a page each there, in place of 2.3 KB. */
#define EAL_ORDINARY_MEMORY_MB 80
/* And for each worker beyond the first: what waits for it and what its caches keep, of all ports and an uplink. */
#define WORKER_MEMORY_MB 2
#define WORKER_ORDINARY_MEMORY_MB 4
#define HUGEPAGES "/sys/kernel/mm/hugepages"
#define MAX_ARGS 24
/* For our turn to take hugepages: long enough for several that start at once. */
#define TURN_TRIES 500
#define TURN_TRY_US 10000

struct eal_args {
	int n;
	char *argv[MAX_ARGS];
	char lcores[RTE_MAX_LCORE * 10];
	char memory[16];
	char limit[RTE_MAX_NUMA_NODES * 8];
};

static long
free_pages(unsigned int page_mb)
{
	char path[128];
	FILE *file;
	long n = 0;

	snprintf(path, sizeof(path), HUGEPAGES "/hugepages-%ukB/free_hugepages", page_mb << 10);
	file = fopen(path, "re");
	if (file == NULL)
		return 0;
	if (fscanf(file, "%ld", &n) != 1)
		n = 0;
	fclose(file);
	return n;
}

/* Of which kind it takes EAL chooses: smaller ones where they are enough, else one of 1 GB. */
static long
free_hugepages_mb(void)
{
	return free_pages(2) * 2 + free_pages(1024) * 1024;
}

/*
 * Of several programs that start at once, each is to see the hugepages that those before it have
 * left: who has locked the kernel's folder has counted them and takes its share. A lock that somebody
 * else keeps does not keep us for ever. Returns the fd whose close ends our turn, or -1.
 */
static int
begin_turn(void)
{
	int fd = open(HUGEPAGES, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int i;

	for (i = 0; fd >= 0 && i < TURN_TRIES && flock(fd, LOCK_EX | LOCK_NB) != 0; i++)
		usleep(TURN_TRY_US);
	if (i == TURN_TRIES)
		fprintf(stderr,
				"vhub: somebody keeps " HUGEPAGES
				" locked: going on without waiting for a turn\n");
	return fd;
}

static void
end_turn(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* "0@2,1@3,2@4": lcores are numbered, CPUs are those of the mask. Returns how many of them are workers. */
static unsigned int
lcores_from_affinity(char *text, size_t len)
{
	cpu_set_t cpus;
	int cpu, first = -1;
	unsigned int n = 0;
	size_t used = 0;

	CPU_ZERO(&cpus);
	if (sched_getaffinity(0, sizeof(cpus), &cpus) != 0)
		CPU_SET(0, &cpus);
	for (cpu = 0; cpu < CPU_SETSIZE && n < RTE_MAX_LCORE; cpu++) {
		if (!CPU_ISSET(cpu, &cpus))
			continue;
		if (first < 0)
			first = cpu;
		used += (size_t)snprintf(text + used, len - used, "%s%u@%d", n > 0 ? "," : "", n,
				cpu);
		n++;
	}
	if (n == 1)
		snprintf(text + used, len - used, ",1@%d", first);
	return RTE_MAX(n, 2u) - 1;
}

/* `free_mb`: in hugepages; 0: there are too few. No more of them than there are. */
static long
memory_mb(unsigned int n_workers, long free_mb)
{
	const long more = (long)n_workers - 1;

	if (free_mb == 0)
		return EAL_ORDINARY_MEMORY_MB + more * WORKER_ORDINARY_MEMORY_MB;
	return RTE_MIN(EAL_MEMORY_MB + more * WORKER_MEMORY_MB, free_mb);
}

/* One limit for each NUMA node, so that the heap cannot grow on any. */
static void
memory_limit(long memory, char *text, size_t len)
{
	int nodes = numa_available() < 0 ? 1 : numa_max_node() + 1;
	size_t used = 0;
	int i;

	for (i = 0; i < nodes && i < RTE_MAX_NUMA_NODES; i++)
		used += (size_t)snprintf(text + used, len - used, "%s%ld", i > 0 ? "," : "",
				memory);
}

static void
add(struct eal_args *args, const char *arg)
{
	/* rte_eal_init() takes char **, and may reorder the array, but writes into no string. */
	args->argv[args->n++] = (char *)(uintptr_t)arg;
}

static void
make_args(struct eal_args *args, const struct options *options, long free_mb)
{
	const bool hugepages = free_mb != 0;
	unsigned int n_workers;
	long memory;

	memset(args, 0, sizeof(*args));
	n_workers = lcores_from_affinity(args->lcores, sizeof(args->lcores));
	memory = memory_mb(n_workers, free_mb);
	memory_limit(memory, args->limit, sizeof(args->limit));
	snprintf(args->memory, sizeof(args->memory), "%ld", memory);
	add(args, "vhubd");
	add(args, "--lcores");
	add(args, args->lcores);
	add(args, "--no-pci");
	add(args, "--iova-mode=va");
	if (options->telemetry) {
		/* It warns of a socket of old that nobody asked for. The first level that fits counts. */
		add(args, "--log-level");
		add(args, "lib.telemetry:error");
	} else {
		add(args, "--no-telemetry");
	}
	add(args, "--log-level");
	add(args, "*:warning");
	add(args, "-m");
	add(args, args->memory);
	if (hugepages) {
		add(args, "--in-memory");
		add(args, "--socket-limit");
		add(args, args->limit);
	} else {
		fprintf(stderr, "vhub: no %d MB of free hugepages: using ordinary memory, which is slower\n",
				EAL_MEMORY_MB);
		/* EAL 22.11 refuses --in-memory with --no-huge; this leaves as little behind. */
		add(args, "--no-huge");
		add(args, "--no-shconf");
	}
}

/* Its SIGBUS handler and ours get into each other's way while the heap grows. */
static void
warn_of_growing_heap(const struct options *options)
{
	static const char *const fixed[] = { "--socket-limit", "--no-huge", "--legacy-mem" };
	unsigned int f;
	int i;

	for (i = 0; i < options->eal_argc; i++) {
		for (f = 0; f < RTE_DIM(fixed); f++) {
			if (strncmp(options->eal_argv[i], fixed[f], strlen(fixed[f])) == 0)
				return;
		}
	}
	fprintf(stderr,
			"vhub: EAL's heap may grow, and a front end that cuts its memory short in that moment "
			"can end us: add --socket-limit=MB, with the same number as -m\n");
}

static int
init_by_ourselves(const struct options *options)
{
	const int turn = begin_turn();
	const long free_mb = free_hugepages_mb();
	const bool hugepages = free_mb >= EAL_MEMORY_MB;
	struct eal_args args;
	int ret;

	if (!hugepages)
		end_turn(turn);
	make_args(&args, options, hugepages ? free_mb : 0);
	ret = rte_eal_init(args.n, args.argv);
	if (hugepages)
		end_turn(turn);
	return ret;
}

/* ---- start and end ---- */

/* Of an EAL that has ended; empty: none has. */
static char runtime_dir[PATH_MAX];

/* The prefix's folder, then DPDK's: only when nobody else has anything there. */
static void
remove_runtime_dirs(void)
{
	char *slash;

	if (runtime_dir[0] == '\0')
		return;
	rmdir(runtime_dir);
	slash = strrchr(runtime_dir, '/');
	if (slash != NULL && slash != runtime_dir) {
		*slash = '\0';
		rmdir(runtime_dir);
	}
}

int
eal_start(const struct options *options)
{
	int ret;

	/* EAL may do so too, but does not promise it. What cannot be raised is lived with. */
	vhub_fd_raise_limit();
	/* Registered before telemetry's own, so it runs after that one has removed its sockets. */
	atexit(remove_runtime_dirs);
	/* Without a stream of its own EAL logs to syslog too. */
	rte_openlog_stream(stderr);
	if (options->eal_argc > 0) {
		warn_of_growing_heap(options);
		ret = rte_eal_init(options->eal_argc, options->eal_argv);
	} else {
		ret = init_by_ourselves(options);
	}
	if (ret < 0) {
		ret = rte_errno > 0 ? -rte_errno : -EINVAL;
		fprintf(stderr, "vhubd: EAL does not start: %s; its own lines above tell more%s\n",
				rte_strerror(-ret),
				options->eal_argc > 0 ?
						" (without free hugepages: --no-huge in place of --in-memory)" :
						"");
		return ret;
	}
	rte_log_set_level_pattern(LOG_LEVEL_OURS, options->log_level);
	return 0;
}

void
eal_stop(void)
{
	strlcpy(runtime_dir, rte_eal_get_runtime_dir(), sizeof(runtime_dir));
	rte_eal_cleanup();
}
