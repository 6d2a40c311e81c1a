/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the front ends of a slot cost the control thread in system calls on sockets of theirs.
 *
 * To send on a Unix stream socket, and to read a piece of what its peer has sent, runs through all that wait
 * for that peer, in the caller. A front end can have any number wait there (copies of its end, times the epoll
 * instances that each is added to), and then a step of a microsecond takes milliseconds. So the steps are
 * measured, in CPU time: after a dear one the slot rests for a hundred times as long, a turn ends with the step
 * that made it dear, and a front end with several long ones loses its session. Belongs to the slot: a front
 * end that comes anew forgets nothing. CTL. Implemented in cost.c.
 */
#ifndef CONN_COST_H
#define CONN_COST_H

#include <stdbool.h>
#include <stdint.h>

/** Steps of a turn that took so much together end it; a single one that took so much is dear. */
#define CONN_TURN_NS 250000ull
/**
 * A dear step is a hundredth of the time until the next one, and that is no longer than this; after one that
 * none was near to, which may be the hypervisor's doing, no longer than the first of them.
 */
#define CONN_REST_TIMES 100u
#define CONN_REST_FIRST_MAX_NS 100000000ull
#define CONN_REST_MAX_NS 10000000000ull
/**
 * The next dear step is near to one until both so many others have been done and so much time has gone by since
 * the rest: by steps alone it would be the front end who decides, by time alone one that does little would be
 * forgiven all it does.
 */
#define CONN_NEAR_STEPS 64u
#define CONN_NEAR_NS 10000000000ull
/**
 * A step of so much is long, and so many of those are the front end's doing when fewer than CONN_NEAR_STEPS
 * others lie between each and the next. A hypervisor, or interrupts, that take the CPU away for as long do that
 * now and then, to whoever has his turn: a front end with much to do has as many long steps in the end.
 */
#define CONN_LONG_STEP_NS 2000000ull
#define CONN_LONG_STEPS 8u
/**
 * Each piece that a front end has sent by itself is a walk when it is read, be it of one byte. So many bytes
 * at most are read in a step.
 */
#define CONN_STEP_BYTES 16u

/** Zeroed: nothing yet. */
struct conn_cost {
	uint64_t turn_ns;	/**< of this turn's steps */
	uint64_t rest_until_ns; /**< by vhub_now_ns(); 0: no step was dear yet */
	uint16_t near_steps; /**< steps that are not dear, still to come before a dear one is not near */
	uint16_t n_long;     /**< long steps with few others in between */
	uint16_t since_long; /**< steps since the last one of these */
	bool exceeded; /**< the last step was one long one too many; until somebody clears it */
	uint64_t closed_until_ns;
	uint64_t closed_for_ns;
};

/** One step took `ns` of CPU time. */
void
conn_cost_add(struct conn_cost *cost, uint64_t ns);

/** How many bytes the next step may read. */
uint32_t
conn_cost_step_bytes(const struct conn_cost *cost);

/** Whether the turn has cost enough. */
bool
conn_cost_turn_is_over(const struct conn_cost *cost);

/** For how long nothing more is to be done for the slot's front end, in microseconds. */
uint64_t
conn_cost_rest_us(const struct conn_cost *cost);

/**
 * Closes the slot: for a second, and twice as long for each time that follows soon, up to a minute. Returns the
 * seconds.
 */
unsigned int
conn_cost_close(struct conn_cost *cost);

/** Whether it is closed. */
bool
conn_cost_is_closed(const struct conn_cost *cost);

#endif /* CONN_COST_H */
