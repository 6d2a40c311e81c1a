/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bridges by name, and ports that join and leave them. A bridge is there as long as it has ports.
 * Called by port.c on CTL or WORK; lcores see slots only. Next: ingress.c.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bsd/string.h>

#include "bridge_pvt.h"
#include "vhub_bridge.h"
#include "vhub_log.h"

VHUB_LOGTYPE(net)

/* What a bridge is when none of its ports says. */
#define DEFAULT_AGEING_S 300u
#define DEFAULT_ENTRIES 8192u
/* Ticks of the table: a power of two of cycles, between a sixteenth and an eighth of a second. */
#define TICKS_PER_S 8u
/* What a limit lets through at once: a tenth of a second's, and a burst at least. */
#define LIMIT_BURSTS_PER_S 10u

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct bridge *bridges;
/* In the order of parsing: those that have not joined yet, too. */
static TAILQ_HEAD(, bridge_port) parsed = TAILQ_HEAD_INITIALIZER(parsed);

void
bridge_lock(void)
{
	pthread_mutex_lock(&lock);
}

void
bridge_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

const struct bridge *
bridge_next(const struct bridge *bridge)
{
	return bridge == NULL ? bridges : bridge->next;
}

/* ---- what ports say of their bridge ---- */

void
bridge_note_parsed(struct bridge_port *p)
{
	bridge_lock();
	TAILQ_INSERT_TAIL(&parsed, p, next_parsed);
	bridge_unlock();
}

void
bridge_forget_parsed(struct bridge_port *p)
{
	bridge_lock();
	TAILQ_REMOVE(&parsed, p, next_parsed);
	bridge_unlock();
}

struct wish {
	uint32_t ageing_s;
	uint32_t entries;
};

/* What this port says, else another that is to join, perhaps much later. With the lock. */
static struct wish
find_wish(const struct bridge_port *p)
{
	struct wish wish = { .ageing_s = p->want_ageing_s, .entries = p->want_entries };
	const struct bridge_port *other;

	TAILQ_FOREACH(other, &parsed, next_parsed) {
		if (strcmp(other->bridge_name, p->bridge_name) != 0)
			continue;
		if (wish.ageing_s == 0)
			wish.ageing_s = other->want_ageing_s;
		if (wish.entries == 0)
			wish.entries = other->want_entries;
	}
	if (wish.ageing_s == 0)
		wish.ageing_s = DEFAULT_AGEING_S;
	if (wish.entries == 0)
		wish.entries = DEFAULT_ENTRIES;
	return wish;
}

/* ---- bridges ---- */

static uint8_t
choose_tick_shift(uint64_t hz)
{
	uint8_t shift = 0;

	while (hz / TICKS_PER_S >> shift > 1)
		shift++;
	return shift;
}

/* Nobody sees it yet. Without the lock: a large table takes its time, and CTL would wait. */
static struct bridge *
create_bridge(const char *name, const struct wish *wish, char *error, size_t error_len)
{
	const uint64_t hz = rte_get_tsc_hz();
	struct bridge *bridge = calloc(1, sizeof(*bridge));
	struct table_params params = { .n_entries = wish->entries,
		.node = SOCKET_ID_ANY,
		.qsbr = vhub_quiesce_qsbr() };
	int ret = -ENOMEM;

	if (bridge == NULL)
		goto fail;
	strlcpy(bridge->name, name, sizeof(bridge->name));
	bridge->ageing_s = wish->ageing_s;
	bridge->tick_shift = choose_tick_shift(hz);
	params.ageing_ticks = (uint32_t)(bridge->ageing_s * hz >> bridge->tick_shift);
	if (params.qsbr != NULL)
		ret = table_create(&params, &bridge->table);
	if (ret != 0)
		goto fail;
	return bridge;

fail:
	free(bridge);
	snprintf(error, error_len,
			"bridge=%s: no memory for a table of %u stations: a smaller table=, or more memory for EAL (-m)",
			name, params.n_entries);
	return NULL;
}

/* Likewise; nobody sees it any more. NULL is fine. */
static void
destroy_bridge(struct bridge *bridge)
{
	if (bridge == NULL)
		return;
	table_destroy(bridge->table);
	free(bridge);
}

/* ---- those that are seen; with the lock ---- */

static void
unlink_bridge(struct bridge *bridge)
{
	struct bridge **link;

	for (link = &bridges; *link != bridge; link = &(*link)->next)
		;
	*link = bridge->next;
}

static struct bridge *
find_bridge(const char *name)
{
	struct bridge *bridge;

	for (bridge = bridges; bridge != NULL; bridge = bridge->next) {
		if (strcmp(bridge->name, name) == 0)
			return bridge;
	}
	return NULL;
}

/* What belongs to the bridge was said when it was made; others may say the same. */
static int
check_same(const struct bridge *bridge, const struct bridge_port *p, char *error, size_t error_len)
{
	const uint32_t entries = table_capacity(bridge->table);

	if (p->want_ageing_s != 0 && p->want_ageing_s != bridge->ageing_s) {
		snprintf(error, error_len, "ageing=%u: bridge %s is there, with ageing=%u",
				p->want_ageing_s, bridge->name, bridge->ageing_s);
		return -EINVAL;
	}
	if (p->want_entries != 0 && p->want_entries != entries) {
		snprintf(error, error_len, "table=%u: bridge %s is there, with table=%u",
				p->want_entries, bridge->name, entries);
		return -EINVAL;
	}
	return 0;
}

/* What another port has said of their bridge: this one, or others after it, may be the first next time. */
void
bridge_effective(const struct vhub_net_port *port, vhub_stat_fn emit, void *arg)
{
	const struct bridge_port *p = bridge_port_of(port);
	const uint32_t entries = table_capacity(p->bridge->table);

	if (p->want_ageing_s == 0 && p->bridge->ageing_s != DEFAULT_AGEING_S)
		emit(arg, "ageing", p->bridge->ageing_s);
	if (p->want_entries == 0 && entries != DEFAULT_ENTRIES)
		emit(arg, "table", entries);
}

/* ---- slots; with the lock ---- */

static int
take_slot(struct bridge *bridge, struct bridge_port *p, char *error, size_t error_len)
{
	uint16_t i;

	for (i = 0; i < TABLE_MAX_PORTS && bridge->slots[i] != NULL; i++)
		;
	if (i == TABLE_MAX_PORTS) {
		snprintf(error, error_len, "bridge=%s: has %u ports already", bridge->name,
				TABLE_MAX_PORTS);
		return -ENOSPC;
	}
	p->bridge = bridge;
	p->index = i;
	bridge->n_ports++;
	/* The one that had the slot before may have gone with its link down. */
	table_close_port(bridge->table, i, false);
	table_set_port(bridge->table, i, p->is_high, p->has_mac ? &p->mac : NULL);
	/* Pair with the acquires of lcores: the port is all there. */
	__atomic_store_n(&bridge->slots[i], p, __ATOMIC_RELEASE);
	if (i >= bridge->n_slots)
		__atomic_store_n(&bridge->n_slots, i + 1u, __ATOMIC_RELEASE);
	return 0;
}

int
bridge_join(struct bridge_port *p, char *error, size_t error_len)
{
	struct bridge *bridge, *made = NULL;
	struct wish wish;
	int ret;

	bridge_lock();
	bridge = find_bridge(p->bridge_name);
	if (bridge == NULL) {
		wish = find_wish(p);
		bridge_unlock();
		made = create_bridge(p->bridge_name, &wish, error, error_len);
		if (made == NULL)
			return -ENOMEM;
		bridge_lock();
		/* Another port may have been faster. */
		bridge = find_bridge(p->bridge_name);
	}
	if (bridge == NULL) {
		made->next = bridges;
		bridges = bridge = made;
		made = NULL;
	}
	ret = check_same(bridge, p, error, error_len);
	if (ret == 0)
		ret = take_slot(bridge, p, error, error_len);
	p->joined = ret == 0;
	bridge_unlock();
	destroy_bridge(made);
	if (ret == 0)
		VHUB_LOG(INFO, "%s: joined bridge %s", p->port.name, p->bridge_name);
	return ret;
}

void
bridge_leave(struct bridge_port *p)
{
	struct bridge *bridge = p->bridge;

	bridge_lock();
	__atomic_store_n(&bridge->slots[p->index], NULL, __ATOMIC_RELEASE);
	table_forget_port(bridge->table, p->index);
	bridge_unlock();
}

/* ---- flushing ---- */

struct flush {
	uint16_t port; /* TABLE_NO_PORT: all */
	uint16_t vlan; /* 0: all */
};

static bool
is_to_be_flushed(const void *arg, const struct table_entry *entry)
{
	const struct flush *flush = arg;

	return !entry->is_static && (flush->port == TABLE_NO_PORT || flush->port == entry->port) &&
			(flush->vlan == 0 || flush->vlan == entry->vlan);
}

/* The slot of the port with this name; TABLE_NO_PORT: there is none. With the lock. */
static uint16_t
find_slot(const struct bridge *bridge, const char *name)
{
	uint32_t i;

	for (i = 0; i < bridge->n_slots; i++) {
		if (bridge->slots[i] != NULL && strcmp(bridge->slots[i]->port.name, name) == 0)
			return (uint16_t)i;
	}
	return TABLE_NO_PORT;
}

int
vhub_bridge_flush(const char *name, const char *port, uint16_t vlan, uint32_t *n)
{
	struct flush flush = { .port = TABLE_NO_PORT, .vlan = vlan };
	struct bridge *bridge;
	int ret = 0;

	bridge_lock();
	bridge = find_bridge(name);
	if (bridge == NULL)
		ret = -ENOENT;
	else if (port != NULL)
		flush.port = find_slot(bridge, port);
	if (ret == 0 && port != NULL && flush.port == TABLE_NO_PORT)
		ret = -ENODEV;
	if (ret == 0)
		*n = table_forget_if(bridge->table, bridge_now(bridge), is_to_be_flushed, &flush);
	bridge_unlock();
	return ret;
}

/* ---- the end ---- */

void
bridge_put(struct bridge *bridge)
{
	bool last;

	bridge_lock();
	last = --bridge->n_ports == 0;
	if (last)
		unlink_bridge(bridge);
	bridge_unlock();
	if (last)
		destroy_bridge(bridge);
}
