/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The forwarding table of a bridge: which port a station was heard at, for each VLAN. Used by
 * ingress.c and forward.c on lcores, by bridge.c when ports come and go, and by who shows it.
 *
 * Readers take no lock: rte_hash is read lock-free, an entry is one atomic word at the key's place.
 * Places that were given up are used again only after every lcore has passed a safe point (rte_rcu_qsbr).
 * Whoever changes the table takes its lock; an lcore under way only tries, and learns with a later
 * packet when somebody else has it. That an entry was used is written without the lock.
 *
 * An entry holds the port, the port's generation when it was learned, and when it was last heard of.
 * Giving a port another generation forgets all that was learned there at once. What is forgotten or
 * too old counts as not there; its place is swept up by those that learn.
 *
 * Time is in ticks of some tenths of a second, since now >> shift is all that a burst can pay for.
 */
#ifndef BRIDGE_TABLE_H
#define BRIDGE_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_ether.h>
#include <rte_rcu_qsbr.h>

/* Most ports of a bridge. */
#define TABLE_MAX_PORTS 512u
/* No port: the station is not known. */
#define TABLE_NO_PORT UINT16_MAX
/* Most keys of one call. */
#define TABLE_BURST 64u
/* Most stations that one call of table_learn() adds. */
#define TABLE_LEARN_MAX 8u

struct table;

struct table_params {
	uint32_t n_entries;
	uint32_t ageing_ticks;
	int node;
	struct rte_rcu_qsbr *qsbr; /* of the readers; outlives the table */
};

/* Counted by whoever learns. */
struct table_learned {
	uint16_t added;
	uint16_t moved;
	uint16_t limited; /* the port knows as many as it may */
	uint16_t full;	  /* there is no place left */
	/* Bit i: the i-th station is another port's, which this one may not take it from. */
	uint64_t foreign;
};

/* For who shows the table. */
struct table_entry {
	struct rte_ether_addr mac;
	uint16_t vlan;
	uint16_t port;
	bool is_static;
	uint32_t age_ticks;
};

/* A station in a VLAN. Never 0. */
static inline uint64_t
table_key(const struct rte_ether_addr *mac, uint16_t vlan)
{
	uint64_t key = 0;

	__builtin_memcpy(&key, mac, sizeof(*mac));
	return key | (uint64_t)(0x8000u | vlan) << 48;
}

/* Thread: CTL or WORK. Returns 0, -ENOMEM, or what rte_hash says. */
int
table_create(const struct table_params *params, struct table **out);
/* No reader is left. NULL is fine. */
void
table_destroy(struct table *t);

/* The ports of 1 to TABLE_BURST stations; TABLE_NO_PORT where it is not known. Thread: LCORE. */
void
table_lookup(const struct table *t, const uint64_t *keys, uint16_t n, uint32_t now,
		uint16_t *ports);

/*
 * Before stations are heard at `port`: which of them it may take from others. One of high priority takes any that is
 * not there for good, one of low priority none that a port of high priority has heard, but `mac` (NULL: none).
 * Thread: CTL or WORK.
 */
void
table_set_port(struct table *t, uint16_t port, bool is_high, const struct rte_ether_addr *mac);

/*
 * 1 to TABLE_BURST stations were heard at `port`, which may know `limit` of them. At most
 * TABLE_LEARN_MAX are added, none while another changes the table, and no more in all than n_entries.
 * Thread: LCORE.
 */
void
table_learn(struct table *t, const uint64_t *keys, uint16_t n, uint16_t port, uint32_t limit,
		uint32_t now, struct table_learned *learned);

/*
 * A station that is at `port` and does not age, wherever it was before; for one of each port there is
 * a place whatever was learned. Waits for the lock, which is held for microseconds. Thread: ANY.
 * Returns 0, -ENOSPC, -EEXIST: it is another port's like this, -ENETDOWN: the port is closed.
 */
int
table_add_static(struct table *t, uint64_t key, uint16_t port, uint32_t now);

/* Forgets all stations of `port`, static ones too. Waits as above. Thread: ANY. */
void
table_forget_port(struct table *t, uint16_t port);

/*
 * Forgets those stations that `is_meant`. Waits as above, again and again. Thread: CTL or WORK. Returns how many.
 */
uint32_t
table_forget_if(struct table *t, uint32_t now,
		bool (*is_meant)(const void *arg, const struct table_entry *entry),
		const void *arg);

/* While it is closed there are none at it: they are forgotten, and none is learned or added. Likewise. */
void
table_close_port(struct table *t, uint16_t port, bool closed);

/* Stations that a port knows now, and all; as exact as something that others change. Thread: ANY. */
uint32_t
table_count(const struct table *t, uint16_t port);
uint32_t
table_capacity(const struct table *t);

/*
 * Shows what is known from place *at on (0: the first), up to `max` of it and no more than can be looked at in a
 * short while. *at is where to go on then; 0: nowhere. Thread: CTL or WORK.
 */
void
table_walk(const struct table *t, uint32_t now, uint32_t *at, uint32_t max,
		void (*fn)(void *arg, const struct table_entry *entry), void *arg);

#endif /* BRIDGE_TABLE_H */
