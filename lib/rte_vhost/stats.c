/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The figures that librte_vhost counts of each ring. Its device goes with each change of memory,
 * ours stays: what was counted is kept. A ring's lcore looks at them from time to time, before it sleeps
 * (net/net.c) and behind a vIOMMU (net/to_guest.c), and sync.c when the ring starts and stops; whoever asks
 * (net/stats.c) is told what was seen.
 */
#include <stdio.h>
#include <string.h>

#include <rte_common.h>
#include <rte_vhost.h>

#include "rvhost.h"

void
rvhost_stats_look(struct rvhost_path *path, uint16_t vring)
{
	struct rvhost_ring_stats *stats = &path->stats[vring];
	struct rte_vhost_stat now[RVHOST_MAX_STATS];
	int i, n;

	if (path->vid < 0)
		return;
	n = rte_vhost_vring_stats_get(path->vid, vring, now, RTE_DIM(now));
	/* Less than nothing: the ring cannot be looked at just now. */
	if (n < 0 || n > (int)RTE_DIM(now))
		return;
	for (i = 0; i < n; i++)
		__atomic_store_n(&stats->seen[i], stats->before[i] + now[i].value,
				__ATOMIC_RELAXED);
	__atomic_store_n(&stats->n, (unsigned int)n, __ATOMIC_RELAXED);
}

void
rvhost_stats_keep(struct rvhost_path *path)
{
	unsigned int i;

	for (i = 0; i < path->n_vrings; i++)
		memcpy(path->stats[i].before, path->stats[i].seen, sizeof(path->stats[i].seen));
}

/* "rx_q0_good_packets": what is behind the queue, whose direction we name ourselves. */
static const char *
figure(const char *library_name)
{
	const char *p = strstr(library_name, "_q");

	p = p != NULL ? strchr(p + 2, '_') : NULL;
	return p != NULL ? p + 1 : library_name;
}

/* ---- translations ---- */

void
rvhost_stats_find_misses(struct rvhost_path *path, uint16_t vring)
{
	struct rte_vhost_stat_name all[RVHOST_MAX_STATS];
	const int n = rte_vhost_vring_stats_get_names(path->vid, vring, all, RTE_DIM(all));
	int i;

	path->misses_figure = RVHOST_MAX_STATS;
	for (i = 0; i < n && n <= (int)RTE_DIM(all); i++) {
		if (strcmp(figure(all[i].name), "iotlb_misses") == 0)
			path->misses_figure = (unsigned int)i;
	}
}

bool
rvhost_missed_translation(struct rvhost_path *path, const struct vhub_vring *vring)
{
	struct rte_vhost_stat now[RVHOST_MAX_STATS];
	uint64_t *seen = &path->misses[vring->index];
	uint64_t misses;

	if (path->misses_figure == RVHOST_MAX_STATS)
		return true;
	/* Nothing is to be seen while the ring itself has no translation. */
	if (rte_vhost_vring_stats_get(path->vid, vring->index, now, RTE_DIM(now)) <=
			(int)path->misses_figure)
		return true;
	misses = now[path->misses_figure].value;
	if (misses == *seen)
		return false;
	*seen = misses;
	return true;
}

/* ---- for whoever shows them ---- */

/* Names are known only while the library has the ring, and the same for all. Thread: CTL. */
static struct rte_vhost_stat_name names[RVHOST_MAX_STATS];
static unsigned int n_names;

/* The library takes no lock for that. */
static void
look_for_names(const struct rvhost_path *path, uint16_t vring)
{
	int n;

	if (n_names != 0 || path->dev->syncing || !path->running[vring])
		return;
	n = rte_vhost_vring_stats_get_names(path->vid, vring, names, RTE_DIM(names));
	n_names = n > 0 && n <= (int)RTE_DIM(names) ? (unsigned int)n : 0;
}

void
rvhost_stats_emit(struct rvhost_path *path, uint16_t vring, const char *prefix, vhub_stat_fn emit,
		void *arg)
{
	const struct rvhost_ring_stats *stats = &path->stats[vring];
	char name[RTE_VHOST_STATS_NAME_SIZE + 64];
	unsigned int k, n;

	look_for_names(path, vring);
	n = RTE_MIN(__atomic_load_n(&stats->n, __ATOMIC_RELAXED), n_names);
	for (k = 0; k < n; k++) {
		snprintf(name, sizeof(name), "%s%.*s", prefix, RTE_VHOST_STATS_NAME_SIZE,
				figure(names[k].name));
		emit(arg, name, __atomic_load_n(&stats->seen[k], __ATOMIC_RELAXED));
	}
}
