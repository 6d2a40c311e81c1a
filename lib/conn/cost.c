/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Costs of a slot, see cost.h. Called by frame.c for each step and by session.c, which does what is
 * judged here.
 */
#include <rte_branch_prediction.h>
#include <rte_common.h>

#include "cost.h"
#include "vhub_loop.h"

#define CLOSED_FIRST_NS 1000000000ull
#define CLOSED_LONGEST_NS 60000000000ull
#define CLOSED_FORGET_NS 600000000000ull

/* Whether a dear step is near to the next one. Its front end has any number of cheap ones in between. */
static bool
is_near(const struct conn_cost *cost)
{
	return cost->near_steps != 0 ||
			(unlikely(cost->rest_until_ns != 0) &&
					vhub_now_ns() < cost->rest_until_ns + CONN_NEAR_NS);
}

static void
add_dear(struct conn_cost *cost, uint64_t ns)
{
	uint64_t most = CONN_REST_MAX_NS;

	if (!is_near(cost))
		most = CONN_REST_FIRST_MAX_NS;
	cost->near_steps = CONN_NEAR_STEPS;
	/* A rest is not cut short by a step that was not left to the end of it. */
	cost->rest_until_ns = RTE_MAX(cost->rest_until_ns,
			vhub_now_ns() + RTE_MIN(ns * CONN_REST_TIMES, most));
}

static void
count_long(struct conn_cost *cost, uint64_t ns)
{
	if (likely(ns < CONN_LONG_STEP_NS)) {
		if (++cost->since_long >= CONN_NEAR_STEPS)
			cost->n_long = 0;
		return;
	}
	cost->since_long = 0;
	if (++cost->n_long < CONN_LONG_STEPS)
		return;
	cost->n_long = 0;
	cost->exceeded = true;
}

void
conn_cost_add(struct conn_cost *cost, uint64_t ns)
{
	cost->turn_ns += ns;
	if (unlikely(ns >= CONN_TURN_NS))
		add_dear(cost, ns);
	else if (cost->near_steps != 0)
		cost->near_steps--;
	if (unlikely(cost->n_long != 0 || ns >= CONN_LONG_STEP_NS))
		count_long(cost, ns);
}

uint32_t
conn_cost_step_bytes(const struct conn_cost *cost)
{
	return is_near(cost) ? 1 : CONN_STEP_BYTES;
}

bool
conn_cost_turn_is_over(const struct conn_cost *cost)
{
	return cost->turn_ns >= CONN_TURN_NS;
}

uint64_t
conn_cost_rest_us(const struct conn_cost *cost)
{
	uint64_t now;

	if (likely(cost->rest_until_ns == 0))
		return 0;
	now = vhub_now_ns();
	return now < cost->rest_until_ns ? (cost->rest_until_ns - now + 999) / 1000 : 0;
}

unsigned int
conn_cost_close(struct conn_cost *cost)
{
	const uint64_t now = vhub_now_ns();

	if (cost->closed_for_ns == 0 || now > cost->closed_until_ns + CLOSED_FORGET_NS)
		cost->closed_for_ns = CLOSED_FIRST_NS;
	else
		cost->closed_for_ns = RTE_MIN(cost->closed_for_ns * 2, CLOSED_LONGEST_NS);
	cost->closed_until_ns = now + cost->closed_for_ns;
	return (unsigned int)(cost->closed_for_ns / CLOSED_FIRST_NS);
}

bool
conn_cost_is_closed(const struct conn_cost *cost)
{
	return cost->closed_until_ns != 0 && vhub_now_ns() < cost->closed_until_ns;
}
