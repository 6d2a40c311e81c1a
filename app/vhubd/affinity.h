/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which workers the queues of a device begin on, by the key affinity=: "1+3-4" are three, which the queues take
 * in turn. A worker may be there more than once, so that any placement has a text.
 */
#ifndef AFFINITY_H
#define AFFINITY_H

#include <stddef.h>
#include <stdint.h>

#include "vhub_device.h"

/** In words of --help and of refusals. */
#define AFFINITY_LIST "numbers of workers such as 1+3-4"
/** Bytes of the longest text. */
#define AFFINITY_TEXT_MAX (VHUB_MAX_LCORES * 5)

struct affinity {
	unsigned int n; /**< 0: the key was not given */
	uint16_t lcores[VHUB_MAX_LCORES];
};

/** Returns 0, or -EINVAL with one sentence in `error`. Whether there are such workers only EAL knows, later. */
int
affinity_parse(const char *text, struct affinity *out, char *error, size_t error_len);

/**
 * Fills the executor's lcores. Returns 0, or -EINVAL with one sentence in `error` (there is no such worker). Thread:
 * CTL.
 */
int
affinity_resolve(const struct affinity *affinity, struct vhub_executor *executor, char *error,
		size_t error_len);

/** Where the queues of a device are now, as text. Thread: CTL. */
void
affinity_of_queues(const struct vhub_device *dev, char *text, size_t len);

/** The worker of EAL's number `id`, NULL: there is none. Thread: CTL. */
struct vhub_lcore *
affinity_find_lcore(int64_t id);

#endif /* AFFINITY_H */
