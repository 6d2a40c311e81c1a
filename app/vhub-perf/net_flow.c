/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Numbered packets (net_flow.h): all but the one that comes in order after all those before it.
 * Called by net_lcore.c.
 */
#include <string.h>

#include "net_flow.h"

static uint64_t *
word_of(struct net_flow *f, uint64_t number)
{
	return &f->missing[number % NET_FLOW_WINDOW / 64];
}

static bool
is_missing(struct net_flow *f, uint64_t number)
{
	return (*word_of(f, number) >> number % 64 & 1) != 0;
}

static void
set_missing(struct net_flow *f, uint64_t number, bool missing)
{
	const uint64_t bit = UINT64_C(1) << number % 64;

	if (is_missing(f, number) == missing)
		return;
	*word_of(f, number) ^= bit;
	f->n_missing += missing ? 1 : UINT32_MAX;
}

void
net_flow_begin(struct net_flow *f)
{
	memset(f->missing, 0, sizeof(f->missing));
	f->n_missing = 0;
	f->base = f->sent;
	f->arrived = 0;
}

/* Numbers before `number` have not come; their places in the window are taken anew. */
static void
leave_gap(struct net_flow *f, uint64_t number)
{
	uint64_t n = RTE_MAX(f->next, f->base);

	/* All of the window at once is enough. */
	if (number > n && number - n > NET_FLOW_WINDOW)
		n = number - NET_FLOW_WINDOW;
	for (; n < number; n++)
		set_missing(f, n, true);
}

enum net_arrival
net_flow_odd(struct net_flow *f, uint64_t number)
{
	if (number >= f->sent)
		return NET_NEVER_SENT;
	if (number >= f->next) {
		leave_gap(f, number);
		set_missing(f, number, false);
		f->next = number + 1;
		if (number < f->base)
			return NET_UNJUDGED;
		f->arrived++;
		return NET_ARRIVED;
	}
	if (number < f->base)
		return NET_UNJUDGED;
	/* Older than the window cannot be told from twice. */
	if (f->next - number > NET_FLOW_WINDOW || !is_missing(f, number))
		return NET_DUPLICATE;
	set_missing(f, number, false);
	f->arrived++;
	return NET_REORDERED;
}
