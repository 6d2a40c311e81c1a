/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of the bridge driver: a learning switch.
 *
 *     port.c (a port and its arguments, ops) -> bridge.c (bridges, joining and leaving)
 *             -> ingress.c (a burst: VLAN, learning) -> forward.c (to one, or to all)
 *             -> vlan.c (tags) -> net/inbox.c
 *     rules.c (what a port may do, which can be changed)
 *     show.c (what control clients see)
 *
 * A frame is an mbuf, or a view as long as nothing has to change in it (net/vhub_net.h). What is decided
 * is decided by its head, which of a view is the private copy that receivers get.
 *
 * Lcores reach ports through the slots of their bridge and keep no pointer from one turn to the next.
 * A port that goes is taken out of its slot, forgotten in the table, and freed when every lcore has
 * passed a safe point.
 */
#ifndef BRIDGE_PVT_H
#define BRIDGE_PVT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <rte_cycles.h>
#include <rte_mempool.h>

#include "table.h"
#include "vhub_meter.h"
#include "vhub_net_inbox.h"
#include "vhub_work.h"

#define BRIDGE_MAX_VLAN 4094u
/* Bytes of a VLAN tag. */
#define BRIDGE_TAG_BYTES ((uint16_t)sizeof(struct rte_vlan_hdr))
/* That a frame may have beside its MTU. */
#define BRIDGE_MAX_TAGS 2u

/* Why a packet of a port went no further. */
enum bridge_drop {
	BRIDGE_DROP_RESERVED, /* 01:80:c2:00:00:0x is for the bridge's neighbour alone */
	BRIDGE_DROP_SOURCE,   /* a group as its source */
	BRIDGE_DROP_FOREIGN, /* from a station that is another port's, for good or by its priority */
	BRIDGE_DROP_VLAN,    /* a VLAN that is not the port's, or a tag within a tag */
	BRIDGE_DROP_FLOOD_LIMIT,     /* to a station that nobody knows, too many */
	BRIDGE_DROP_BROADCAST_LIMIT, /* broadcast and multicast, too many */
	BRIDGE_DROP_ISOLATED,	     /* to a port of the same group */
	BRIDGE_DROP_SAME_PORT,	     /* to a station that is where it came from */
	BRIDGE_DROP_MTU,	     /* longer than the receiver's MTU */
	BRIDGE_DROP_NOBODY,	     /* no port is there to take it */
	BRIDGE_DROP_NO_MBUF,	     /* no memory for a copy or a tag */
	BRIDGE_DROPS
};

/* Counters of a queue pair. Written by its lcore, read by anybody. */
struct bridge_counters {
	uint64_t forwarded; /* packets to a known station */
	uint64_t flooded;   /* packets to all */
	uint64_t copies;    /* that flooding made */
	uint64_t added;	    /* stations learned */
	uint64_t moved;	    /* stations that came from another port */
	uint64_t limited;   /* times a station was not learned: the port's limit, a full table */
	uint64_t full;
	uint64_t drops[BRIDGE_DROPS];
};

struct bridge_queue {
	struct bridge_port *port;
	struct vhub_net_inbox *inbox;
	struct rte_mempool *pool;
	/* LCORE. */
	struct bridge_counters counters;
} __rte_cache_aligned;

/* What a port may do. Immutable: a change makes others, and these go when no lcore has them any more. */
struct bridge_rules {
	uint16_t native; /* VLAN of frames without a tag; 0: none */
	uint16_t group;	 /* of isolated ports; 0: none */
	uint32_t learn_limit;
	uint32_t flood_limit; /* packets a second; 0: none */
	uint32_t broadcast_limit;
	uint64_t tagged[(BRIDGE_MAX_VLAN + 1 + 63) / 64]; /* VLANs of frames with a tag */
	struct vhub_work free_work;
};

/* Of a port, as in learn_priority=. */
enum bridge_priority {
	BRIDGE_PRIORITY_LOW,
	BRIDGE_PRIORITY_HIGH,
	BRIDGE_PRIORITY_DEFAULT, /* high of an uplink, low of a guest */
};

struct bridge_port {
	struct vhub_net_port port; /* first */
	/* Immutable from parse on. */
	char bridge_name[32];
	uint8_t learn_priority; /* enum bridge_priority */
	uint32_t want_ageing_s; /* of the bridge; 0: as it is */
	uint32_t want_entries;
	/* With the lock of bridge.c, from parse on until it is freed. */
	TAILQ_ENTRY(bridge_port) next_parsed;
	/* Immutable from open on. */
	bool is_high; /* of priority */
	struct bridge *bridge;
	uint16_t index; /* of its slot */
	bool joined;
	bool has_mac;
	struct rte_ether_addr mac;
	uint16_t mtu; /* 0: no limit */
	uint16_t n_queues;
	struct bridge_queue *queues;
	size_t queues_bytes;
	struct vhub_work free_work;
	/* Shared atomics. */
	uint32_t n_got;		    /* queues got; the first one brings the static station */
	struct bridge_rules *rules; /* written with the lock of bridge.c; see bridge_rules_of() */
	/* Likewise, CTL's and WORK's: of BRIDGE_DROP_FOREIGN, and whether that was told since the guest came. */
	uint64_t foreign_seen;
	bool foreign_told;
	/* In packets, with a limit; one that is to be cut counts as what it becomes. All pairs share them. */
	struct vhub_meter flood;
	struct vhub_meter broadcast;
};

struct bridge {
	/* Immutable. */
	char name[32];
	uint32_t ageing_s;
	uint8_t tick_shift; /* TSC cycles to ticks of the table */
	struct table *table;
	/* With the lock of bridge.c. */
	struct bridge *next;
	unsigned int n_ports; /* and those that lcores may still have */
	/* Shared atomics, written with the lock: ports by slot, and how many slots were in use ever. */
	uint32_t n_slots;
	struct bridge_port *slots[TABLE_MAX_PORTS];
};

/* What is known of the packets of a burst. In words, bit i is frame i. */
struct bridge_burst {
	struct bridge_queue *queue;	  /* where it came from */
	const struct bridge_rules *rules; /* of that port */
	struct vhub_net_queue *from;
	const struct vhub_net_view *views; /* NULL: there are none */
	struct rte_mbuf **pkts;		   /* of frames that are no views */
	uint64_t alive;			   /* still to be dealt with */
	uint64_t is_view;
	uint64_t has_tag;
	uint64_t is_alike; /* no tag, and from and to the same stations as the frame before, which entered */
	uint32_t now; /* ticks */
	uint16_t vlans[VHUB_NET_BURST];
	const uint8_t *heads[VHUB_NET_BURST];
};

static inline struct bridge_port *
bridge_port_of(const struct vhub_net_port *port)
{
	return vhub_container_of(port, struct bridge_port, port);
}

static inline uint32_t
bridge_now(const struct bridge *bridge)
{
	return (uint32_t)(rte_rdtsc() >> bridge->tick_shift);
}

/* NULL: there is none any more. Pairs with the release in bridge.c. */
static inline struct bridge_port *
bridge_slot(const struct bridge *bridge, uint16_t index)
{
	return __atomic_load_n(&bridge->slots[index], __ATOMIC_ACQUIRE);
}

/*
 * For an lcore until the end of its turn, for others while they hold the lock of bridge.c. Whoever decides
 * on a frame by them asks once. Pairs with the release in rules.c.
 */
static inline const struct bridge_rules *
bridge_rules_of(const struct bridge_port *p)
{
	return __atomic_load_n(&p->rules, __ATOMIC_ACQUIRE);
}

static inline bool
bridge_takes_tagged(const struct bridge_rules *rules, uint16_t vlan)
{
	return (rules->tagged[vlan / 64] >> vlan % 64 & 1) != 0;
}

static inline bool
bridge_is_member(const struct bridge_rules *rules, uint16_t vlan)
{
	return vlan == rules->native || bridge_takes_tagged(rules, vlan);
}

static inline bool
bridge_bit(uint64_t word, uint16_t i)
{
	return (word >> i & 1) != 0;
}

static inline const struct rte_ether_hdr *
bridge_ether(const struct bridge_burst *b, uint16_t i)
{
	return (const void *)b->heads[i];
}

/* How much of frame i is in its head. */
static inline uint32_t
bridge_head_bytes(const struct bridge_burst *b, uint16_t i)
{
	return bridge_bit(b->is_view, i) ? b->views[i].head_bytes :
					   rte_pktmbuf_data_len(b->pkts[i]);
}

/* Drops frame i of the burst, and counts why. */
static inline void
bridge_drop(struct bridge_burst *b, uint16_t i, enum bridge_drop why)
{
	vhub_count(&b->queue->counters.drops[why], 1);
	b->alive &= ~(UINT64_C(1) << i);
	if (!bridge_bit(b->is_view, i))
		rte_pktmbuf_free(b->pkts[i]);
}

/* ---- bridge.c ---- */

/* What it says of its bridge counts, whoever makes that, as long as it is noted. Thread: CTL or WORK. */
void
bridge_note_parsed(struct bridge_port *p);
void
bridge_forget_parsed(struct bridge_port *p);
/* Joins the port to its bridge, which is made if it is the first one. Undone by the two below. */
int
bridge_join(struct bridge_port *p, char *error, size_t error_len);
/* Lcores do not find it from now on. Thread: CTL or WORK. */
void
bridge_leave(struct bridge_port *p);
/* No lcore has the port any more that has left. The last one's bridge goes. Thread: CTL or WORK. */
void
bridge_put(struct bridge *bridge);
/* As the driver's `effective`. */
void
bridge_effective(const struct vhub_net_port *port, vhub_stat_fn emit, void *arg);
void
bridge_lock(void);
void
bridge_unlock(void);
/* The first one after `bridge` (NULL: at all). Only between these two. */
const struct bridge *
bridge_next(const struct bridge *bridge);

/* ---- rules.c ---- */

/* Fills p->rules, of a new port. Returns 0, -ENOMEM, or -EINVAL with one sentence. Freed with free(). */
int
bridge_rules_parse(const struct rte_kvargs *args, struct bridge_port *p, char *error,
		size_t error_len);
/* The limits in them begin. With EAL up, before an lcore has the port. */
void
bridge_rules_begin(struct bridge_port *p);
/* As the driver's `change`. */
int
bridge_rules_change(struct vhub_net_port *port, const struct rte_kvargs *args, char *error,
		size_t error_len);
/* The device's own address is at this port, if it has one and its guest is there. */
void
bridge_add_static_station(const struct bridge_port *p);

/* ---- ingress.c: LCORE ---- */

uint16_t
bridge_from_guest(struct vhub_net_queue *queue, struct rte_mbuf **pkts, uint16_t n);
void
bridge_from_guest_views(struct vhub_net_queue *queue, struct vhub_net_view *views, uint16_t n);

/*
 * Makes an mbuf of frame i, so that it may be changed. Returns false without memory: then it is dropped,
 * and lib/net has counted it.
 */
bool
bridge_make_mbuf(struct bridge_burst *b, uint16_t i);

/* ---- forward.c: LCORE ---- */

/* Sends what is alive of the burst. */
void
bridge_forward(struct bridge_burst *b);

/* ---- vlan.c: LCORE ---- */

/* Reads the tag of frame i: false when it has none. *vlan 0: it has only a priority. */
bool
bridge_read_tag(const struct bridge_burst *b, uint16_t i, uint16_t *vlan);
/* How many tags frame i has, of 802.1Q or 802.1ad; BRIDGE_MAX_TAGS at most. */
uint32_t
bridge_tags(const struct bridge_burst *b, uint16_t i);
/* Whether frame i, without its tag, has one more. */
bool
bridge_has_inner_tag(const struct bridge_burst *b, uint16_t i);
/* Takes it off. The packet is ours alone. */
void
bridge_pop_tag(struct rte_mbuf *m);
/* Puts one on. Likewise. Returns false when there is no room. */
bool
bridge_push_tag(struct rte_mbuf *m, uint16_t vlan);

/* ---- show.c ---- */

/* Tells once of a guest that is not heard with a station of another port's. */
void
bridge_tell_foreign(struct bridge_port *p);

void
bridge_stats(const struct vhub_net_port *port, vhub_stat_fn emit, void *arg);

#endif /* BRIDGE_PVT_H */
