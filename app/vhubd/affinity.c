/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The key affinity=, to lcores and back. Called by slot_spec.c, slot_serve.c, slots.c and control_queues.c.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <rte_common.h>

#include "affinity.h"
#include "vhub_args.h"

static bool
add_range(void *arg, uint16_t first, uint16_t last)
{
	struct affinity *affinity = arg;

	if (affinity->n + last - first >= VHUB_MAX_LCORES)
		return false;
	while (first <= last)
		affinity->lcores[affinity->n++] = first++;
	return true;
}

int
affinity_parse(const char *text, struct affinity *out, char *error, size_t error_len)
{
	out->n = 0;
	if (strlen(text) < AFFINITY_TEXT_MAX &&
			vhub_text_ranges(text, 0, RTE_MAX_LCORE - 1, add_range, out) == 0)
		return 0;
	snprintf(error, error_len, "affinity=%s; allowed: up to %d " AFFINITY_LIST, text,
			VHUB_MAX_LCORES);
	return -EINVAL;
}

struct vhub_lcore *
affinity_find_lcore(int64_t id)
{
	struct vhub_lcore *lcore;
	unsigned int i;

	for (i = 0; (lcore = vhub_lcore_at(i)) != NULL; i++) {
		if ((int64_t)vhub_lcore_id(lcore) == id)
			return lcore;
	}
	return NULL;
}

static int
no_such_worker(unsigned int id, char *error, size_t error_len)
{
	size_t used = (size_t)snprintf(error, error_len,
			"affinity: there is no worker %u; there %s", id,
			vhub_lcore_count() == 1 ? "is" : "are");
	unsigned int i;

	for (i = 0; i < vhub_lcore_count() && used < error_len; i++)
		used += (size_t)snprintf(error + used, error_len - used, "%s%u",
				i == 0 ? " " : ", ", vhub_lcore_id(vhub_lcore_at(i)));
	return -EINVAL;
}

int
affinity_resolve(const struct affinity *affinity, struct vhub_executor *executor, char *error,
		size_t error_len)
{
	unsigned int i;

	for (i = 0; i < affinity->n; i++) {
		executor->lcores[i] = affinity_find_lcore(affinity->lcores[i]);
		if (executor->lcores[i] == NULL)
			return no_such_worker(affinity->lcores[i], error, error_len);
	}
	executor->n_lcores = affinity->n;
	return 0;
}

/* So many queues, and what follows is the same again. */
static unsigned int
period(const struct vhub_device *dev)
{
	const unsigned int n_queues = vhub_device_n_queues(dev);
	unsigned int n, i;

	for (n = 1; n < n_queues; n++) {
		for (i = n; i < n_queues; i++) {
			if (vhub_device_queue_lcore(dev, i) != vhub_device_queue_lcore(dev, i - n))
				break;
		}
		if (i == n_queues)
			break;
	}
	return n;
}

void
affinity_of_queues(const struct vhub_device *dev, char *text, size_t len)
{
	const unsigned int n = period(dev);
	size_t used = 0;
	unsigned int i;

	for (i = 0; i < n && used < len; i++)
		used += (size_t)snprintf(text + used, len - used, "%s%u", i == 0 ? "" : "+",
				vhub_lcore_id(vhub_device_queue_lcore(dev, i)));
}
