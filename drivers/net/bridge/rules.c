/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a port may do on its bridge: VLANs, isolation, limits. Read with its other arguments (port.c), and changed
 * while its guest goes on. Lcores look at the rules once a burst, or a frame; next: ingress.c, forward.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge_pvt.h"
#include "vhub_lcore.h"

/* What a port may know unless it says: what a guest with containers needs, and not the whole table. */
#define DEFAULT_LEARN_LIMIT 1024u
#define MAX_RATE 1000000000u
#define NO_TRUNK "none"

/* ---- arguments ---- */

static bool
add_tagged(void *arg, uint16_t first, uint16_t last)
{
	struct bridge_rules *rules = arg;

	for (uint16_t vlan = first; vlan <= last; vlan++)
		rules->tagged[vlan / 64] |= UINT64_C(1) << vlan % 64;
	return true;
}

static int
parse_trunk(const struct rte_kvargs *args, struct bridge_rules *rules, char *error,
		size_t error_len)
{
	const char *text = NULL;
	int ret;

	ret = vhub_arg_text(args, "trunk", &text, error, error_len);
	if (ret != 0 || text == NULL)
		return ret;
	memset(rules->tagged, 0, sizeof(rules->tagged));
	if (strcmp(text, NO_TRUNK) == 0 ||
			vhub_text_ranges(strcmp(text, "all") == 0 ? "1-4094" : text, 1,
					BRIDGE_MAX_VLAN, add_tagged, rules) == 0)
		return 0;
	snprintf(error, error_len,
			"trunk=%s; allowed: all, none, or VLANs from 1 to %u such as 10+20-29",
			text, BRIDGE_MAX_VLAN);
	return -EINVAL;
}

/* What is not given stays as it is. */
static int
parse_numbers(const struct rte_kvargs *args, struct bridge_rules *rules, char *error,
		size_t error_len)
{
	uint64_t vlan = rules->native, group = rules->group, learn = rules->learn_limit;
	uint64_t flood = rules->flood_limit, broadcast = rules->broadcast_limit;
	int ret;

	ret = vhub_arg_uint(args, "vlan", 0, BRIDGE_MAX_VLAN, &vlan, error, error_len);
	if (ret == 0)
		ret = vhub_arg_uint(args, "isolation", 0, UINT16_MAX, &group, error, error_len);
	if (ret == 0)
		ret = vhub_arg_uint(args, "learn_limit", 0, UINT32_MAX, &learn, error, error_len);
	if (ret == 0)
		ret = vhub_arg_count(args, "flood_limit", 0, MAX_RATE, &flood, error, error_len);
	if (ret == 0)
		ret = vhub_arg_count(args, "broadcast_limit", 0, MAX_RATE, &broadcast, error,
				error_len);
	rules->native = (uint16_t)vlan;
	rules->group = (uint16_t)group;
	rules->learn_limit = (uint32_t)learn;
	rules->flood_limit = (uint32_t)flood;
	rules->broadcast_limit = (uint32_t)broadcast;
	return ret;
}

static bool
has_vlan(const struct bridge_rules *rules)
{
	uint64_t any = rules->native;
	unsigned int i;

	for (i = 0; i < RTE_DIM(rules->tagged); i++)
		any |= rules->tagged[i];
	return any != 0;
}

static int
parse(const struct rte_kvargs *args, struct bridge_rules *rules, char *error, size_t error_len)
{
	int ret = parse_trunk(args, rules, error, error_len);

	if (ret == 0)
		ret = parse_numbers(args, rules, error, error_len);
	if (ret == 0 && !has_vlan(rules)) {
		snprintf(error, error_len,
				"vlan=0 without trunk=: the port would be in no VLAN; allowed: 1 to %u",
				BRIDGE_MAX_VLAN);
		ret = -EINVAL;
	}
	return ret;
}

/* ---- limits ---- */

/*
 * Before the rules that have them are there for lcores: who still goes by the former ones may be limited
 * already. What is as it was goes on as it was.
 */
static void
set_limit(struct vhub_meter *m, uint32_t old, uint32_t rate)
{
	if (rate != 0 && rate != old)
		vhub_meter_set_full(m, rate, 0, VHUB_NET_BURST);
}

static void
set_limits(struct bridge_port *p, const struct bridge_rules *old, const struct bridge_rules *rules)
{
	set_limit(&p->flood, old->flood_limit, rules->flood_limit);
	set_limit(&p->broadcast, old->broadcast_limit, rules->broadcast_limit);
}

void
bridge_rules_begin(struct bridge_port *p)
{
	static const struct bridge_rules none;

	set_limits(p, &none, p->rules);
}

int
bridge_rules_parse(const struct rte_kvargs *args, struct bridge_port *p, char *error,
		size_t error_len)
{
	const char *trunk = rte_kvargs_get(args, "trunk");
	struct bridge_rules *rules = calloc(1, sizeof(*rules));
	int ret;

	if (rules == NULL)
		return -ENOMEM;
	rules->native = trunk == NULL || strcmp(trunk, NO_TRUNK) == 0 ? 1 : 0;
	rules->learn_limit = DEFAULT_LEARN_LIMIT;
	ret = parse(args, rules, error, error_len);
	if (ret != 0) {
		free(rules);
		return ret;
	}
	p->rules = rules;
	return 0;
}

/* ---- changing ---- */

/* Where another port has the same for good, this one is not heard; its figures tell. */
void
bridge_add_static_station(const struct bridge_port *p)
{
	const struct bridge_rules *rules = bridge_rules_of(p);

	if (!p->has_mac || rules->native == 0 || __atomic_load_n(&p->n_got, __ATOMIC_SEQ_CST) == 0)
		return;
	(void)table_add_static(p->bridge->table, table_key(&p->mac, rules->native), p->index,
			bridge_now(p->bridge));
	/* Its guest left meanwhile: bridge_left() may have come before. */
	if (__atomic_load_n(&p->n_got, __ATOMIC_SEQ_CST) == 0)
		table_forget_port(p->bridge->table, p->index);
}

static void
free_rules(struct vhub_work *work)
{
	free(vhub_container_of(work, struct bridge_rules, free_work));
}

/* The device's own address is known in the VLAN of frames without a tag alone. */
static bool
is_of_vlan_left(const void *arg, const struct table_entry *entry)
{
	const struct bridge_port *p = arg;

	if (entry->port != p->index)
		return false;
	return entry->is_static ? entry->vlan != p->rules->native :
				  !bridge_is_member(p->rules, entry->vlan);
}

/*
 * What the port knew in VLANs that it is no longer in is forgotten once no lcore learns by the former rules any
 * more.
 */
int
bridge_rules_change(struct vhub_net_port *port, const struct rte_kvargs *args, char *error,
		size_t error_len)
{
	struct bridge_port *p = vhub_container_of(port, struct bridge_port, port);
	struct bridge_rules *rules = malloc(sizeof(*rules)), *old = p->rules;
	int ret;

	if (rules == NULL) {
		snprintf(error, error_len, "out of memory");
		return -ENOMEM;
	}
	*rules = *old;
	ret = parse(args, rules, error, error_len);
	if (ret != 0) {
		free(rules);
		return ret;
	}
	set_limits(p, old, rules);
	bridge_lock();
	/* Pairs with bridge_rules_of(), and with the counting in bridge_queue_get(). */
	__atomic_store_n(&p->rules, rules, __ATOMIC_SEQ_CST);
	bridge_unlock();
	old->free_work.run = free_rules;
	vhub_quiesce_then(&old->free_work, port->name);
	(void)table_forget_if(p->bridge->table, bridge_now(p->bridge), is_of_vlan_left, p);
	bridge_add_static_station(p);
	return 0;
}
