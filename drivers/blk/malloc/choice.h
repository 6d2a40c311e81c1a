/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which of two ways to do a burst is cheaper. What helps one processor may harm another, so a queue measures what a
 * byte costs either way, and keeps to the cheaper one.
 * Used by io.c on the queue's lcore.
 */
#ifndef MALLOC_CHOICE_H
#define MALLOC_CHOICE_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_common.h>

/* The other way is tried once in so many bursts; seldom where it was clearly dearer. */
#define CHOICE_OFTEN 32u
#define CHOICE_SELDOM 256u
/* A mean is of about so many bursts. */
#define CHOICE_MEAN 32

/* All zero at first. */
struct malloc_choice {
	uint32_t cost[2];  /* of each way, a mean; 0: none yet */
	uint32_t n_bursts; /* since the other way was tried */
	unsigned int kept;
	unsigned int current; /* the way of the burst under way, or of the last one */
};

static inline uint32_t
malloc_choice_period(const struct malloc_choice *c)
{
	const uint32_t kept = c->cost[c->kept], other = c->cost[1 - c->kept];

	if (kept == 0 || other == 0)
		return 2;
	return other > kept + kept / 8 ? CHOICE_SELDOM : CHOICE_OFTEN;
}

/* Chooses `current`, for a burst that is measured. */
static inline void
malloc_choice_begin(struct malloc_choice *c)
{
	const bool tries = ++c->n_bursts >= malloc_choice_period(c);

	c->current = tries ? 1 - c->kept : c->kept;
	if (tries)
		c->n_bursts = 0;
}

/*
 * That burst has taken so long. What takes more than twice as long as the mean was interrupted, or will be seen again
 * and again.
 */
static inline void
malloc_choice_end(struct malloc_choice *c, uint64_t cycles, uint32_t n_bytes)
{
	uint32_t *mean = &c->cost[c->current];
	/* Of 64 bytes, in 1/64 of a cycle. The one division of a burst of many KiB. */
	const uint64_t exact = cycles * 4096 / RTE_MAX(n_bytes, 1u);
	const uint32_t cost = (uint32_t)RTE_MIN(RTE_MAX(exact, UINT64_C(1)), UINT64_C(1) << 30);

	if (*mean == 0)
		*mean = cost;
	else
		*mean += (uint32_t)(((int64_t)RTE_MIN(cost, 2 * *mean) - (int64_t)*mean) /
				CHOICE_MEAN);
	/* Not for nothing; and a way that was not tried yet costs nothing. */
	if (c->cost[1 - c->kept] != 0 &&
			c->cost[1 - c->kept] + c->cost[1 - c->kept] / 32 < c->cost[c->kept])
		c->kept = 1 - c->kept;
}

#endif /* MALLOC_CHOICE_H */
