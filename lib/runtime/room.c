/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How much memory there is for large areas. The kernel promises more than it has, and ends processes when it is asked
 * to keep that: guests, as vhubd is to go last. So alloc.c asks here before it touches pages.
 *
 * Counted is what the host and the control groups of this process can give without that: what is free, and what is
 * only the page cache of files. Swap is not, as a disk there would be none in memory.
 */
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <rte_common.h>

#include "vhub_alloc.h"

/* Of all that there is one part of so many is left to others: they grow as well, and figures are estimates. */
#define LEFT_TO_OTHERS 32u

/* Where a hierarchy of groups is mounted, by the systems that have it, and what its files are called. */
static const struct group_kind {
	const char *mount;
	const char *controller; /* in /proc/self/cgroup; "": of the second version, all */
	const char *limits[2];
	const char *used;
	const char *cached[2]; /* in memory.stat */
} group_kinds[] = {
	{ "/sys/fs/cgroup", "", { "memory.max", "memory.high" }, "memory.current",
			{ "inactive_file ", "active_file " } },
	{ "/sys/fs/cgroup/memory", "memory", { "memory.limit_in_bytes", NULL },
			"memory.usage_in_bytes", { "total_inactive_file ", "total_active_file " } },
};

/* The number behind `key`, with which a line begins; `otherwise` where there is none. */
static uint64_t
number_in(const char *path, const char *key, uint64_t otherwise)
{
	FILE *file = fopen(path, "re");
	uint64_t value = otherwise;
	bool found = false;
	char line[256];

	if (file == NULL)
		return otherwise;
	while (!found && fgets(line, sizeof(line), file) != NULL) {
		found = strncmp(line, key, strlen(key)) == 0;
		if (found && sscanf(line + strlen(key), "%" SCNu64, &value) != 1)
			value = otherwise;
	}
	fclose(file);
	return value;
}

static uint64_t
room_of(uint64_t total, uint64_t left)
{
	const uint64_t others = total / LEFT_TO_OTHERS;

	return left > others ? left - others : 0;
}

static uint64_t
host_room(void)
{
	const uint64_t total = number_in("/proc/meminfo", "MemTotal:", UINT64_MAX);
	const uint64_t left = number_in("/proc/meminfo", "MemAvailable:", UINT64_MAX);

	return total == UINT64_MAX || left == UINT64_MAX ? UINT64_MAX :
							   room_of(total * 1024, left * 1024);
}

static uint64_t
number_of_group(const char *folder, const char *name, const char *key, uint64_t otherwise)
{
	char path[PATH_MAX + 64];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return number_in(path, key, otherwise);
}

static uint64_t
group_room(const struct group_kind *kind, const char *folder)
{
	uint64_t limit = UINT64_MAX, used, cached = 0;

	for (unsigned int i = 0; i < RTE_DIM(kind->limits) && kind->limits[i] != NULL; i++)
		limit = RTE_MIN(limit, number_of_group(folder, kind->limits[i], "", UINT64_MAX));
	used = number_of_group(folder, kind->used, "", UINT64_MAX);
	if (limit == UINT64_MAX || used == UINT64_MAX)
		return UINT64_MAX;
	for (unsigned int i = 0; i < RTE_DIM(kind->cached); i++)
		cached += number_of_group(folder, "memory.stat", kind->cached[i], 0);
	used -= RTE_MIN(used, cached);
	return room_of(limit, limit - RTE_MIN(limit, used));
}

/* Of the group of this path and of all above it; in a container the mount may be its own group, and the path lead nowhere. */
static uint64_t
groups_room(const struct group_kind *kind, const char *path)
{
	const size_t root = strlen(kind->mount);
	uint64_t room = UINT64_MAX;
	char folder[PATH_MAX];
	char *end;

	if ((size_t)snprintf(folder, sizeof(folder), "%s%s", kind->mount, path) >= sizeof(folder))
		return UINT64_MAX;
	do {
		room = RTE_MIN(room, group_room(kind, folder));
		end = strrchr(folder, '/');
		*end = '\0';
	} while ((size_t)(end - folder) >= root);
	return room;
}

uint64_t
vhub_memory_room(void)
{
	FILE *groups = fopen("/proc/self/cgroup", "re");
	uint64_t room = host_room();
	char line[PATH_MAX + 64], *controllers, *path;

	while (groups != NULL && fgets(line, sizeof(line), groups) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		controllers = strchr(line, ':');
		path = controllers != NULL ? strchr(++controllers, ':') : NULL;
		if (path == NULL)
			continue;
		*path++ = '\0';
		for (unsigned int i = 0; i < RTE_DIM(group_kinds); i++) {
			if (strcmp(controllers, group_kinds[i].controller) == 0)
				room = RTE_MIN(room, groups_room(&group_kinds[i], path));
		}
	}
	if (groups != NULL)
		fclose(groups);
	return room;
}
