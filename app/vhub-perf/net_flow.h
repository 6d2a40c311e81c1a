/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Numbered packets of one flow: which came, which did not, twice, or after one that was sent later.
 * Used by net_lcore.c; implemented in net_flow.c but for the fast path.
 *
 * Packets numbered below `base` belong to the ramp and are not judged. A gap is remembered in a
 * window of numbers, so that what fills it is told from what comes twice; what falls out of the
 * window was lost. Thread: the LCORE that owns it.
 */
#ifndef PERF_NET_FLOW_H
#define PERF_NET_FLOW_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_branch_prediction.h>
#include <rte_common.h>

/* More than any ring or back end holds; a power of two. */
#define NET_FLOW_WINDOW 65536u

enum net_arrival {
	NET_ARRIVED,	/* new, in order */
	NET_REORDERED,	/* new, but one that was sent later has come before */
	NET_DUPLICATE,	/* has come already */
	NET_NEVER_SENT, /* no such number */
	NET_UNJUDGED,	/* of the ramp */
};

struct net_flow {
	uint64_t sent;	    /* number of the next to be sent */
	uint64_t base;	    /* the first that is judged */
	uint64_t next;	    /* one more than the highest that has come */
	uint64_t forgiven;  /* numbers below are no longer waited for, though they may come */
	uint64_t arrived;   /* distinct, judged */
	uint32_t n_missing; /* bits set in `missing` */
	uint64_t missing[NET_FLOW_WINDOW / 64]; /* of the numbers before `next` */
};

/* What was sent so far is not judged; the judgement begins with what is sent next. */
void
net_flow_begin(struct net_flow *f);

/* What is under way is given up: a stall of the window. */
static inline void
net_flow_forgive(struct net_flow *f)
{
	f->forgiven = f->sent;
}

/* How many are under way: gaps are not, nor what was given up. */
static __rte_always_inline uint64_t
net_flow_under_way(const struct net_flow *f)
{
	return f->sent - RTE_MAX(f->next, f->forgiven);
}

/* Judged ones that were sent and have not come. */
static inline uint64_t
net_flow_lost(const struct net_flow *f)
{
	return f->sent - f->base - f->arrived;
}

enum net_arrival
net_flow_odd(struct net_flow *f, uint64_t number);

/* A packet has come. */
static __rte_always_inline enum net_arrival
net_flow_arrive(struct net_flow *f, uint64_t number)
{
	if (unlikely(number != f->next || f->n_missing != 0 || number >= f->sent))
		return net_flow_odd(f, number);
	f->next = number + 1;
	if (unlikely(number < f->base))
		return NET_UNJUDGED;
	f->arrived++;
	return NET_ARRIVED;
}

#endif /* PERF_NET_FLOW_H */
