/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The forwarding table of a bridge (drivers/net/bridge/table.c): against a model that does the same by
 * looking at everything, at its limits, with stations that are all in one chain, or that somebody chose so that they be, and with
 * two threads that learn while others look up.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>
#include <rte_hash.h>
#include <rte_hash_crc.h>
#include <rte_lcore.h>

#include "../eal_fixture.h"
#include "table.h"

#define AGEING 100u
#define ENTRIES 64u
#define STATIONS 48u
#define PORTS 5u
#define READERS 2u

static struct rte_rcu_qsbr *qsbr;

/* ---- between the table and rte_hash ---- */

/* All keys have the same signature. */
static bool one_chain;
/* Of the first key of the last lookup. */
static hash_sig_t seen;

int32_t
__real_rte_hash_lookup_with_hash(const struct rte_hash *h, const void *key, hash_sig_t sig);
int32_t
__wrap_rte_hash_lookup_with_hash(const struct rte_hash *h, const void *key, hash_sig_t sig);
int32_t
__real_rte_hash_add_key_with_hash(const struct rte_hash *h, const void *key, hash_sig_t sig);
int32_t
__wrap_rte_hash_add_key_with_hash(const struct rte_hash *h, const void *key, hash_sig_t sig);
int32_t
__real_rte_hash_del_key_with_hash(const struct rte_hash *h, const void *key, hash_sig_t sig);
int32_t
__wrap_rte_hash_del_key_with_hash(const struct rte_hash *h, const void *key, hash_sig_t sig);
int
__real_rte_hash_lookup_with_hash_bulk(const struct rte_hash *h, const void **keys, hash_sig_t *sigs,
		uint32_t n, int32_t *places);
int
__wrap_rte_hash_lookup_with_hash_bulk(const struct rte_hash *h, const void **keys, hash_sig_t *sigs,
		uint32_t n, int32_t *places);

static hash_sig_t
choose(hash_sig_t sig)
{
	return one_chain ? 1 : sig;
}

int32_t
__wrap_rte_hash_lookup_with_hash(const struct rte_hash *h, const void *key, hash_sig_t sig)
{
	return __real_rte_hash_lookup_with_hash(h, key, choose(sig));
}

int32_t
__wrap_rte_hash_add_key_with_hash(const struct rte_hash *h, const void *key, hash_sig_t sig)
{
	return __real_rte_hash_add_key_with_hash(h, key, choose(sig));
}

int32_t
__wrap_rte_hash_del_key_with_hash(const struct rte_hash *h, const void *key, hash_sig_t sig)
{
	return __real_rte_hash_del_key_with_hash(h, key, choose(sig));
}

int
__wrap_rte_hash_lookup_with_hash_bulk(const struct rte_hash *h, const void **keys, hash_sig_t *sigs,
		uint32_t n, int32_t *places)
{
	seen = sigs[0];
	for (uint32_t i = 0; i < n; i++)
		sigs[i] = choose(sigs[i]);
	return __real_rte_hash_lookup_with_hash_bulk(h, keys, sigs, n, places);
}

/* ---- tables and stations ---- */

static int
setup(void **state)
{
	(void)state;
	if (test_eal_init() != 0)
		return -1;
	qsbr = aligned_alloc(RTE_CACHE_LINE_SIZE,
			RTE_ALIGN_CEIL(rte_rcu_qsbr_get_memsize(8), RTE_CACHE_LINE_SIZE));
	return qsbr == NULL ? -1 : rte_rcu_qsbr_init(qsbr, 8);
}

static int
teardown(void **state)
{
	(void)state;
	free(qsbr);
	return 0;
}

static struct table *
make(uint32_t n_entries)
{
	const struct table_params params = { .n_entries = n_entries,
		.ageing_ticks = AGEING,
		.node = SOCKET_ID_ANY,
		.qsbr = qsbr };
	struct table *t;

	assert_int_equal(table_create(&params, &t), 0);
	return t;
}

static uint64_t
station(unsigned int i)
{
	const struct rte_ether_addr mac = { { 2, 0, 0, 0, (uint8_t)(i >> 8), (uint8_t)i } };

	return table_key(&mac, (uint16_t)(1 + i % 7));
}

static uint16_t
where(struct table *t, uint64_t key, uint32_t now)
{
	uint16_t port;

	table_lookup(t, &key, 1, now, &port);
	return port;
}

static struct table_learned
learn(struct table *t, uint64_t key, uint16_t port, uint32_t limit, uint32_t now)
{
	struct table_learned learned;

	table_learn(t, &key, 1, port, limit, now, &learned);
	return learned;
}

/* ---- against a model ---- */

struct model {
	uint16_t port[STATIONS]; /* TABLE_NO_PORT: not known */
	uint32_t heard[STATIONS];
	bool is_static[STATIONS];
};

static bool
model_knows(const struct model *m, unsigned int s, uint32_t now)
{
	return m->port[s] != TABLE_NO_PORT && (m->is_static[s] || now - m->heard[s] <= AGEING);
}

static unsigned int
model_count(const struct model *m, uint16_t port)
{
	unsigned int s, n = 0;

	for (s = 0; s < STATIONS; s++)
		n += m->port[s] == port;
	return n;
}

static void
model_learn(struct model *m, unsigned int s, uint16_t port, uint32_t now)
{
	if (model_knows(m, s, now) && m->is_static[s])
		return;
	m->port[s] = port;
	m->heard[s] = now;
	m->is_static[s] = false;
}

static void
model_forget(struct model *m, uint16_t port)
{
	unsigned int s;

	for (s = 0; s < STATIONS; s++) {
		if (m->port[s] == port)
			m->port[s] = TABLE_NO_PORT;
	}
}

static void
compare(struct table *t, const struct model *m, uint32_t now)
{
	uint64_t keys[STATIONS];
	uint16_t ports[STATIONS];
	unsigned int s;

	for (s = 0; s < STATIONS; s++)
		keys[s] = station(s);
	table_lookup(t, keys, STATIONS, now, ports);
	for (s = 0; s < STATIONS; s++)
		assert_int_equal(ports[s], model_knows(m, s, now) ? m->port[s] : TABLE_NO_PORT);
}

static void
learn_some(struct table *t, struct model *m, uint16_t port, uint32_t now)
{
	const unsigned int n = 1 + (unsigned int)rand() % TABLE_LEARN_MAX;
	uint64_t keys[TABLE_LEARN_MAX];
	struct table_learned learned;
	uint64_t foreign = 0;
	unsigned int i, s;

	for (i = 0; i < n; i++) {
		s = (unsigned int)rand() % STATIONS;
		keys[i] = station(s);
		if (model_knows(m, s, now) && m->is_static[s] && m->port[s] != port)
			foreign |= UINT64_C(1) << i;
		model_learn(m, s, port, now);
	}
	table_learn(t, keys, (uint16_t)n, port, UINT32_MAX, now, &learned);
	assert_int_equal(learned.foreign, foreign);
	assert_int_equal(learned.full, 0);
}

static void
add_static(struct table *t, struct model *m, uint16_t port, uint32_t now)
{
	const unsigned int s = (unsigned int)rand() % STATIONS;
	const bool taken = model_knows(m, s, now) && m->is_static[s] && m->port[s] != port;

	assert_int_equal(table_add_static(t, station(s), port, now), taken ? -EEXIST : 0);
	if (taken)
		return;
	m->port[s] = port;
	m->is_static[s] = true;
}

static void
test_it_does_as_a_model(void **state)
{
	struct table *t = make(ENTRIES);
	struct model m = { 0 };
	uint32_t now = UINT32_MAX - 1000; /* over the wrap of the clock */
	unsigned int turn;

	(void)state;
	srand(6);
	memset(m.port, 0xff, sizeof(m.port));
	for (turn = 0; turn < 20000; turn++) {
		const uint16_t port = (uint16_t)((unsigned int)rand() % PORTS);
		const unsigned int what = (unsigned int)rand() % 100;

		if (what < 90)
			learn_some(t, &m, port, now);
		else if (what < 93)
			add_static(t, &m, port, now);
		else if (what < 95) {
			table_forget_port(t, port);
			model_forget(&m, port);
			assert_int_equal(table_count(t, port), 0);
		} else
			now += (unsigned int)rand() % (AGEING / 2);
		compare(t, &m, now);
	}
	/* Whatever is known is counted; the table may count what is too old and not swept up yet. */
	for (turn = 0; turn < PORTS; turn++)
		assert_true(table_count(t, (uint16_t)turn) <= model_count(&m, (uint16_t)turn));
	table_destroy(t);
}

/* ---- single things ---- */

static void
test_a_station_ages(void **state)
{
	struct table *t = make(ENTRIES);

	(void)state;
	assert_int_equal(learn(t, station(1), 3, 10, 0).added, 1);
	assert_int_equal(where(t, station(1), AGEING), 3);
	assert_int_equal(where(t, station(1), AGEING + 1), TABLE_NO_PORT);
	learn(t, station(1), 3, 10, AGEING);
	assert_int_equal(where(t, station(1), 2 * AGEING), 3);
	assert_int_equal(where(t, station(1), 2 * AGEING + 1), TABLE_NO_PORT);
	table_destroy(t);
}

static void
test_a_station_of_before_the_clock_went_back_is_forgotten(void **state)
{
	struct table *t = make(ENTRIES);

	(void)state;
	learn(t, station(1), 3, 10, 5 * AGEING);
	/* Another lcore's clock may be behind. */
	assert_int_equal(where(t, station(1), 5 * AGEING - 1), 3);
	assert_int_equal(where(t, station(1), 0), TABLE_NO_PORT);
	/* Heard of again, it is a new one. */
	assert_int_equal(learn(t, station(1), 4, 10, 1).added, 1);
	assert_int_equal(where(t, station(1), 1), 4);
	table_destroy(t);
}

static void
test_vlans_have_stations_of_their_own(void **state)
{
	const struct rte_ether_addr mac = { { 2, 0, 0, 0, 0, 1 } };
	struct table *t = make(ENTRIES);

	(void)state;
	learn(t, table_key(&mac, 1), 1, 10, 0);
	learn(t, table_key(&mac, 4094), 2, 10, 0);
	assert_int_equal(where(t, table_key(&mac, 1), 0), 1);
	assert_int_equal(where(t, table_key(&mac, 4094), 0), 2);
	assert_int_equal(where(t, table_key(&mac, 2), 0), TABLE_NO_PORT);
	table_destroy(t);
}

static void
test_a_port_learns_up_to_its_limit(void **state)
{
	struct table *t = make(ENTRIES);
	unsigned int i;

	(void)state;
	for (i = 0; i < 10; i++)
		assert_int_equal(learn(t, station(i), 1, 4, 0).limited, i >= 4);
	assert_int_equal(table_count(t, 1), 4);
	/* Those that it knows stay, others learn as before, and what moves away makes room. */
	assert_int_equal(where(t, station(0), 0), 1);
	assert_int_equal(learn(t, station(0), 2, 4, 0).moved, 1);
	assert_int_equal(table_count(t, 1), 3);
	assert_int_equal(learn(t, station(5), 1, 4, 0).added, 1);
	table_destroy(t);
}

static void
test_a_full_table_takes_more_when_stations_have_aged(void **state)
{
	struct table *t = make(ENTRIES);
	unsigned int i, known = 0, turns = 0;

	(void)state;
	for (i = 0; i < 4 * ENTRIES; i++)
		known += learn(t, station(i), 1, UINT32_MAX, 0).added;
	assert_true(known >= ENTRIES && known < 2 * ENTRIES);
	assert_int_equal(learn(t, station(5 * ENTRIES), 1, UINT32_MAX, 0).full, 1);
	while (learn(t, station(5 * ENTRIES), 2, UINT32_MAX, AGEING + 1).added == 0)
		assert_true(++turns < 10);
	assert_int_equal(where(t, station(5 * ENTRIES), AGEING + 1), 2);
	table_destroy(t);
}

static void
test_a_static_station_stays(void **state)
{
	struct table *t = make(ENTRIES);

	(void)state;
	learn(t, station(1), 2, 10, 0);
	assert_int_equal(table_add_static(t, station(1), 1, 0), 0);
	assert_int_equal(table_count(t, 2), 0);
	assert_int_equal(learn(t, station(1), 2, 10, 0).foreign, 1);
	assert_int_equal(where(t, station(1), 1000 * AGEING), 1);
	assert_int_equal(table_add_static(t, station(1), 3, 0), -EEXIST);
	table_forget_port(t, 1);
	assert_int_equal(where(t, station(1), 0), TABLE_NO_PORT);
	assert_int_equal(learn(t, station(1), 2, 10, 0).added, 1);
	table_destroy(t);
}

/* Those that it had are another port's to have, until it is open again. */
static void
test_a_closed_port_has_no_stations(void **state)
{
	struct table *t = make(ENTRIES);

	(void)state;
	learn(t, station(1), 1, 10, 0);
	assert_int_equal(table_add_static(t, station(2), 1, 0), 0);
	table_close_port(t, 1, true);
	assert_int_equal(table_count(t, 1), 0);
	assert_int_equal(where(t, station(1), 0), TABLE_NO_PORT);
	assert_int_equal(where(t, station(2), 0), TABLE_NO_PORT);
	assert_int_equal(learn(t, station(1), 1, 10, 0).added, 0);
	assert_int_equal(table_add_static(t, station(2), 1, 0), -ENETDOWN);
	assert_int_equal(learn(t, station(2), 2, 10, 0).added, 1);
	table_close_port(t, 1, false);
	assert_int_equal(learn(t, station(1), 1, 10, 0).added, 1);
	assert_int_equal(table_add_static(t, station(2), 1, 0), 0);
	assert_int_equal(where(t, station(2), 0), 1);
	table_destroy(t);
}

/* What others have taught the table does not keep the address of a guest out of it. */
static void
test_a_full_table_has_room_for_static_stations(void **state)
{
	struct table *t = make(ENTRIES);
	unsigned int i, known = 0;

	(void)state;
	for (i = 0; i < 4 * ENTRIES; i++)
		known += learn(t, station(i), 0, UINT32_MAX, 0).added;
	assert_int_equal(known, ENTRIES);
	for (i = 1; i < TABLE_MAX_PORTS; i++) {
		assert_int_equal(table_add_static(t, station(4 * ENTRIES + i), (uint16_t)i, 0), 0);
		assert_int_equal(where(t, station(4 * ENTRIES + i), 0), i);
	}
	assert_int_equal(learn(t, station(4 * ENTRIES + 1), 0, UINT32_MAX, 0).foreign, 1);
	assert_int_equal(learn(t, station(4 * ENTRIES), 0, UINT32_MAX, 0).full, 1);
	table_destroy(t);
}

/* ---- chains ---- */

/*
 * Behind as many stations as the buckets of the chain hold, in bursts of any length whose other stations
 * are not there: one that was learned, and one that is another port's for good.
 */
static void
test_a_station_far_down_a_chain_is_found(void **state)
{
	struct table *t = make(ENTRIES);
	struct table_learned learned;
	uint64_t keys[TABLE_BURST];
	uint16_t ports[TABLE_BURST];
	unsigned int i, n, at;

	(void)state;
	one_chain = true;
	for (i = 0; i < 30; i++)
		assert_int_equal(learn(t, station(i), 1, 100, 0).added, 1);
	assert_int_equal(table_add_static(t, station(30), 2, 0), 0);
	for (n = 1; n <= TABLE_BURST; n++) {
		at = (unsigned int)rand() % n;
		for (i = 0; i < n; i++)
			keys[i] = station(1000 + i);
		keys[at] = station(29);
		table_lookup(t, keys, (uint16_t)n, 0, ports);
		for (i = 0; i < n; i++)
			assert_int_equal(ports[i], i == at ? 1 : TABLE_NO_PORT);
		keys[at] = station(30);
		table_learn(t, keys, (uint16_t)n, 1, 0, 0, &learned);
		assert_true(learned.foreign == UINT64_C(1) << at);
	}
	table_destroy(t);
	one_chain = false;
}

/* ---- stations that are chosen ---- */

#define CHOSEN 512u
#define MAC_BITS 48u

static int
compare_sigs(const void *a, const void *b)
{
	const hash_sig_t x = *(const hash_sig_t *)a, y = *(const hash_sig_t *)b;

	return (x > y) - (x < y);
}

/* Of random ones, once in many thousand runs one fewer than there are. */
static unsigned int
count_different(hash_sig_t *sigs)
{
	unsigned int i, n = 1;

	qsort(sigs, CHOSEN, sizeof(*sigs), compare_sigs);
	for (i = 1; i < CHOSEN; i++)
		n += sigs[i] != sigs[i - 1];
	return n;
}

static hash_sig_t
signature_of(struct table *t, uint64_t key)
{
	where(t, key, 0);
	return seen;
}

/*
 * Words without the bit of a group that change no CRC of a key: rows of a matrix over single bits, as Gauss has
 * them. Returns how many.
 */
static unsigned int
find_kernel(uint64_t *kernel)
{
	uint64_t words[MAC_BITS];
	uint32_t crcs[MAC_BITS];
	bool used[MAC_BITS] = { false };
	unsigned int bit, i, pivot, n = 0;

	for (i = 1; i < MAC_BITS; i++) {
		words[i] = UINT64_C(1) << i;
		crcs[i] = rte_hash_crc_8byte(words[i], 0) ^ rte_hash_crc_8byte(0, 0);
	}
	for (bit = 0; bit < 32; bit++) {
		for (pivot = 1; pivot < MAC_BITS; pivot++) {
			if (!used[pivot] && (crcs[pivot] >> bit & 1) != 0)
				break;
		}
		if (pivot == MAC_BITS)
			continue;
		used[pivot] = true;
		for (i = 1; i < MAC_BITS; i++) {
			if (i == pivot || (crcs[i] >> bit & 1) == 0)
				continue;
			words[i] ^= words[pivot];
			crcs[i] ^= crcs[pivot];
		}
	}
	for (i = 1; i < MAC_BITS; i++) {
		if (!used[i] && crcs[i] == 0)
			kernel[n++] = words[i];
	}
	return n;
}

static void
test_stations_of_one_crc_do_not_meet(void **state)
{
	struct table *t = make(ENTRIES);
	uint64_t kernel[MAC_BITS], key;
	hash_sig_t sigs[CHOSEN];
	unsigned int i, bit;

	(void)state;
	assert_true(find_kernel(kernel) >= 15);
	for (i = 0; i < CHOSEN; i++) {
		key = station(1);
		for (bit = 0; bit < 15; bit++)
			key ^= (i >> bit & 1) != 0 ? kernel[bit] : 0;
		assert_int_equal(rte_hash_crc_8byte(key, 0), rte_hash_crc_8byte(station(1), 0));
		sigs[i] = signature_of(t, key);
	}
	assert_true(count_different(sigs) >= CHOSEN - 2);
	table_destroy(t);
}

/* Of two that meet nothing can be told about two others with the same difference: of bits, or of numbers. */
static void
test_differences_of_stations_tell_nothing(void **state)
{
	struct table *t = make(ENTRIES);
	hash_sig_t by_bits[CHOSEN], by_numbers[CHOSEN];
	unsigned int bit, i;
	uint64_t key, step;

	(void)state;
	for (bit = 1; bit < MAC_BITS; bit++) {
		step = UINT64_C(1) << bit;
		for (i = 0; i < CHOSEN; i++) {
			/* A carry beyond the address is only another VLAN. */
			key = station(0) ^ ((uint64_t)rand() << 17 ^ (uint64_t)rand()) << 1;
			by_bits[i] = signature_of(t, key) ^ signature_of(t, key ^ step);
			by_numbers[i] = signature_of(t, key) - signature_of(t, key + step);
		}
		assert_true(count_different(by_bits) > CHOSEN / 8);
		assert_true(count_different(by_numbers) > CHOSEN / 8);
	}
	table_destroy(t);
}

static void
test_each_table_has_secrets_of_its_own(void **state)
{
	struct table *one = make(ENTRIES), *other = make(ENTRIES);
	unsigned int i, same = 0;

	(void)state;
	for (i = 0; i < CHOSEN; i++)
		same += signature_of(one, station(i)) == signature_of(other, station(i));
	assert_true(same <= 2);
	table_destroy(one);
	table_destroy(other);
}

struct shown {
	unsigned int n;
	bool ok;
};

static void
show(void *arg, const struct table_entry *entry)
{
	struct shown *shown = arg;
	const unsigned int i = entry->mac.addr_bytes[5];

	shown->n++;
	shown->ok &= entry->vlan == 1 + i % 7 && entry->port == i % PORTS &&
			entry->age_ticks == 10 && !entry->is_static;
}

static void
test_all_that_is_known_is_shown(void **state)
{
	struct table *t = make(ENTRIES);
	struct shown shown = { .ok = true };
	uint32_t at = 0;
	unsigned int i;

	(void)state;
	for (i = 0; i < 20; i++)
		learn(t, station(i), (uint16_t)(i % PORTS), 20, 5);
	do {
		const unsigned int before = shown.n;

		table_walk(t, 15, &at, 7, show, &shown);
		assert_in_range(shown.n - before, at == 0 ? 0 : 7, 7);
	} while (at != 0);
	assert_int_equal(shown.n, 20);
	assert_true(shown.ok);
	/* From a place that is none there is nothing. */
	at = UINT32_MAX;
	table_walk(t, 15, &at, 7, show, &shown);
	assert_int_equal(at, 0);
	assert_int_equal(shown.n, 20);
	table_destroy(t);
}

/* Port 1 has priority, port 2 its own address; of the others nobody takes what port 1 has heard of late. */
static void
test_a_port_of_priority_keeps_its_stations(void **state)
{
	const struct rte_ether_addr own = { { 2, 0, 0, 0, 0, 7 } },
				    no_other = { { 2, 0, 0, 0, 0, 8 } };
	const uint64_t key = table_key(&own, 5), other = table_key(&no_other, 5);
	struct table *t = make(ENTRIES);

	(void)state;
	table_set_port(t, 1, true, NULL);
	table_set_port(t, 2, false, &own);
	table_set_port(t, 3, true, NULL);
	assert_int_equal(learn(t, key, 4, 10, 0).added, 1);
	assert_int_equal(learn(t, key, 1, 10, 0).moved, 1);
	assert_int_equal(learn(t, key, 4, 10, 1).foreign, 1);
	assert_int_equal(where(t, key, 1), 1);
	assert_int_equal(learn(t, key, 2, 10, 1).moved, 1);
	assert_int_equal(where(t, key, 1), 2);
	assert_int_equal(learn(t, other, 1, 10, 1).added, 1);
	assert_int_equal(learn(t, other, 2, 10, 1).foreign, 1);
	assert_int_equal(learn(t, other, 3, 10, 1).moved, 1);
	/* However many it knows already. */
	assert_int_equal(learn(t, key, 1, 0, 1).moved, 1);
	assert_int_equal(learn(t, key, 2, 10, 1).moved, 1);
	assert_int_equal(learn(t, table_key(&own, 6), 1, 0, 1).limited, 1);
	/* It is not heard of any more. */
	assert_int_equal(learn(t, other, 4, 10, 1 + AGEING).foreign, 1);
	assert_int_equal(learn(t, other, 4, 10, 2 + AGEING).added, 1);
	assert_int_equal(where(t, other, 2 + AGEING), 4);
	/* Another one has the slot now. */
	table_forget_port(t, 1);
	table_set_port(t, 1, false, NULL);
	assert_int_equal(learn(t, key, 1, 10, 2).moved, 1);
	assert_int_equal(learn(t, key, 4, 10, 2).moved, 1);
	table_destroy(t);
}

/* ---- forgetting some ---- */

/* What is to be forgotten: of this port and in this VLAN, learned. */
struct meant {
	uint16_t port;
	uint16_t vlan;
};

static bool
is_meant(const void *arg, const struct table_entry *entry)
{
	const struct meant *meant = arg;

	return !entry->is_static && entry->port == meant->port && entry->vlan == meant->vlan;
}

static bool
is_any(const void *arg, const struct table_entry *entry)
{
	(void)arg;
	return !entry->is_static;
}

static void
test_those_that_are_meant_are_forgotten_and_no_others(void **state)
{
	/* Of 35 stations in turn at PORTS ports in 7 VLANs, one. */
	const struct meant meant = { .port = 3, .vlan = 1 + 3 };
	struct table *t = make(ENTRIES);
	unsigned int i;

	(void)state;
	for (i = 0; i < 35; i++)
		learn(t, station(i), (uint16_t)(i % PORTS), 35, 5);
	assert_int_equal(table_add_static(t, station(3 + 35), 3, 5), 0);
	assert_int_equal(table_forget_if(t, 5, is_meant, &meant), 1);
	for (i = 0; i < 35; i++)
		assert_int_equal(where(t, station(i), 5), i == 3 ? TABLE_NO_PORT : i % PORTS);
	assert_int_equal(where(t, station(3 + 35), 5), 3);
	assert_int_equal(table_count(t, 3), 7);
	assert_int_equal(table_forget_if(t, 5, is_meant, &meant), 0);
	/* It is learned like any new one, elsewhere too. */
	assert_int_equal(learn(t, station(3), 4, 35, 6).added, 1);
	assert_int_equal(where(t, station(3), 6), 4);
	assert_int_equal(table_count(t, 3), 7);
	table_destroy(t);
}

static void
test_places_of_forgotten_stations_are_used_again(void **state)
{
	struct table *t = make(ENTRIES);
	unsigned int round, i;

	(void)state;
	for (round = 0; round < 20; round++) {
		for (i = 0; i < ENTRIES; i++)
			assert_int_equal(learn(t, station(round * ENTRIES + i), 0, ENTRIES, 5)
							 .added,
					1);
		assert_int_equal(learn(t, station(60000), 1, ENTRIES, 5).full, 1);
		assert_int_equal(table_forget_if(t, 5, is_any, NULL), ENTRIES);
		assert_int_equal(table_count(t, 0), 0);
		/* Whoever learns sweeps some up, also where he may learn nothing. */
		for (i = 0; i < 20; i++)
			learn(t, station(50000), 1, 0, 5);
	}
	table_destroy(t);
}

/* ---- several threads ---- */

struct shared {
	struct table *t;
	unsigned int done; /* atomic */
	unsigned int wrong[READERS];
	uint64_t lookups[READERS];
};

struct reader {
	struct shared *shared;
	unsigned int id;
};

/* Station i is only ever at port i % PORTS. */
static void *
look_up_and_learn(void *arg)
{
	struct reader *r = arg;
	struct shared *s = r->shared;
	uint64_t keys[TABLE_BURST];
	uint16_t ports[TABLE_BURST];
	struct table_learned learned;
	unsigned int i, first, turn;

	rte_rcu_qsbr_thread_register(qsbr, r->id);
	rte_rcu_qsbr_thread_online(qsbr, r->id);
	for (turn = 0; __atomic_load_n(&s->done, __ATOMIC_ACQUIRE) == 0; turn++) {
		first = turn * 31 % (4 * ENTRIES);
		for (i = 0; i < TABLE_BURST; i++)
			keys[i] = station(first + i);
		table_lookup(s->t, keys, TABLE_BURST, turn, ports);
		for (i = 0; i < TABLE_BURST; i++) {
			s->wrong[r->id] += ports[i] != TABLE_NO_PORT &&
					ports[i] != (first + i) % PORTS;
			s->lookups[r->id]++;
		}
		for (i = 0; i < TABLE_BURST; i += PORTS)
			table_learn(s->t, &keys[i], 1, (uint16_t)((first + i) % PORTS), 40, turn,
					&learned);
		rte_rcu_qsbr_quiescent(qsbr, r->id);
	}
	rte_rcu_qsbr_thread_offline(qsbr, r->id);
	rte_rcu_qsbr_thread_unregister(qsbr, r->id);
	return NULL;
}

static void
test_threads_that_learn_forget_and_look_up_agree(void **state)
{
	struct shared shared = { .t = make(ENTRIES) };
	struct reader readers[READERS];
	pthread_t threads[READERS];
	unsigned int i, turn;

	(void)state;
	for (i = 0; i < READERS; i++) {
		readers[i] = (struct reader){ .shared = &shared, .id = i };
		assert_int_equal(pthread_create(&threads[i], NULL, look_up_and_learn, &readers[i]),
				0);
	}
	for (turn = 0; turn < 300; turn++) {
		table_forget_port(shared.t, (uint16_t)(turn % PORTS));
		sched_yield();
	}
	__atomic_store_n(&shared.done, 1, __ATOMIC_RELEASE);
	for (i = 0; i < READERS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(shared.wrong[i], 0);
		assert_true(shared.lookups[i] > 0);
	}
	table_destroy(shared.t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_does_as_a_model),
		cmocka_unit_test(test_a_station_ages),
		cmocka_unit_test(test_a_station_of_before_the_clock_went_back_is_forgotten),
		cmocka_unit_test(test_vlans_have_stations_of_their_own),
		cmocka_unit_test(test_a_port_learns_up_to_its_limit),
		cmocka_unit_test(test_a_full_table_takes_more_when_stations_have_aged),
		cmocka_unit_test(test_a_static_station_stays),
		cmocka_unit_test(test_a_closed_port_has_no_stations),
		cmocka_unit_test(test_a_full_table_has_room_for_static_stations),
		cmocka_unit_test(test_a_station_far_down_a_chain_is_found),
		cmocka_unit_test(test_stations_of_one_crc_do_not_meet),
		cmocka_unit_test(test_differences_of_stations_tell_nothing),
		cmocka_unit_test(test_each_table_has_secrets_of_its_own),
		cmocka_unit_test(test_all_that_is_known_is_shown),
		cmocka_unit_test(test_those_that_are_meant_are_forgotten_and_no_others),
		cmocka_unit_test(test_places_of_forgotten_stations_are_used_again),
		cmocka_unit_test(test_a_port_of_priority_keeps_its_stations),
		cmocka_unit_test(test_threads_that_learn_forget_and_look_up_agree),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
