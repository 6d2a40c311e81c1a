/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The forwarding table of a bridge (table.h says how it is shared). Called by ingress.c and
 * forward.c for each burst.
 */
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bsd/stdlib.h>

#include <rte_hash.h>
#include <rte_spinlock.h>

#include "table.h"

/*
 * Keys of one call of rte_hash. With all RTE_HASH_LOOKUP_BULK_MAX of them, none in its bucket, it shifts a
 * word by its width and does not look into chains.
 */
#define LOOKUP_BULK (RTE_HASH_LOOKUP_BULK_MAX / 2)

/* Places that are looked at for something to forget, while the lock is held: a few microseconds. */
#define FORGET 1024u
/* Places that are looked at for something to sweep up, whenever stations are learned. */
#define SWEEP 64u

/*
 * The word of an entry: tick (32 bits), port (16), generation (15), static (1). 0: nothing. An entry's
 * generation is never 0.
 */
#define WORD_PORT_SHIFT 32
#define WORD_GENERATION_SHIFT 48
#define WORD_STATIC (UINT64_C(1) << 63)
#define GENERATION_MASK 0x7fffu
/* Of nobody's generation: it is swept up. */
#define WORD_FORGOTTEN WORD_STATIC

/* Of a key, the address. */
#define MAC_MASK ((UINT64_C(1) << 48) - 1)

/* Places that are looked at in one call of table_walk(): a fraction of a millisecond. */
#define WALK_PLACES 65536u

struct table {
	/* Immutable. */
	struct rte_hash *hash;
	uint32_t n_places; /* of entries */
	uint32_t n_entries;
	uint32_t ageing_ticks;
	uint64_t secrets[3]; /* of signature() */

	/* Shared atomics; written with the lock held, but for the tick of a word. */
	uint64_t *words; /* of the key at a place */
	uint64_t *keys;
	uint32_t generations[TABLE_MAX_PORTS];
	uint32_t n_known[TABLE_MAX_PORTS]; /* of its present generation */
	uint64_t macs[TABLE_MAX_PORTS];	   /* as in a key; 0: none */
	bool is_high[TABLE_MAX_PORTS];

	/* Who holds the lock. */
	rte_spinlock_t lock __rte_cache_aligned;
	uint32_t cursor;
	uint32_t n_used; /* places that have a key */
	bool closed[TABLE_MAX_PORTS];
};

/* ---- words ---- */

static inline uint64_t
make_word(uint32_t tick, uint16_t port, uint32_t generation, bool is_static)
{
	return (uint64_t)tick | (uint64_t)port << WORD_PORT_SHIFT |
			(uint64_t)generation << WORD_GENERATION_SHIFT |
			(is_static ? WORD_STATIC : 0);
}

static inline uint16_t
port_of(uint64_t word)
{
	return (uint16_t)(word >> WORD_PORT_SHIFT);
}

static inline uint32_t
age_of(uint64_t word, uint32_t now)
{
	const uint32_t age = now - (uint32_t)word;

	/* Another lcore's clock may be a tick ahead. */
	return (int32_t)age < 0 ? 0 : age;
}

/* Learned since the port's last change of generation, or nothing. */
static inline bool
is_of_generation(const struct table *t, uint64_t word)
{
	const uint32_t generation = (uint32_t)(word >> WORD_GENERATION_SHIFT) & GENERATION_MASK;

	return word != 0 &&
			generation ==
			__atomic_load_n(&t->generations[port_of(word)], __ATOMIC_RELAXED);
}

/*
 * Some are heard of by a clock that is ahead: another lcore's, or that of before the host was suspended, which may take
 * the TSC back by days. The latter are as old as one likes.
 */
static inline bool
is_young(const struct table *t, uint64_t word, uint32_t now)
{
	return now - (uint32_t)word + t->ageing_ticks <= 2 * t->ageing_ticks;
}

static inline bool
is_valid(const struct table *t, uint64_t word, uint32_t now)
{
	return is_of_generation(t, word) && ((word & WORD_STATIC) != 0 || is_young(t, word, now));
}

/* Pairs with the release in store_word(): the key at the place is the one of this word. */
static inline uint64_t
load_word(const struct table *t, int32_t place)
{
	return __atomic_load_n(&t->words[place], __ATOMIC_ACQUIRE);
}

static inline void
store_word(struct table *t, int32_t place, uint64_t word)
{
	__atomic_store_n(&t->words[place], word, __ATOMIC_RELEASE);
}

/*
 * Guests choose keys, and could make a chain as long as they like if they could tell which ones meet: so each
 * table has secrets of its own, the last two of them odd. One product is not enough, for two keys that meet,
 * which a guest may find by the time that they take, have a difference with which others meet too. The step
 * between two products leaves nothing of that. Who sees signatures could learn the secrets; nobody does.
 */
static inline hash_sig_t
signature(const struct table *t, uint64_t key)
{
	uint64_t x = (key ^ t->secrets[0]) * t->secrets[1];

	x = (x ^ x >> 32) * t->secrets[2];
	return (hash_sig_t)(x >> 32);
}

static int
compare_keys(const void *a, const void *b, size_t len)
{
	uint64_t x, y;

	(void)len;
	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return x != y;
}

/* ---- life ---- */

static int
make_hash(const struct table_params *params, struct rte_hash **out)
{
	static atomic_uint counter;
	char name[RTE_HASH_NAMESIZE];
	const struct rte_hash_parameters hash = {
		.name = name,
		/* What is learned leaves room for a static station of each port. */
		.entries = params->n_entries + TABLE_MAX_PORTS,
		/* Without a function: each call brings the signature of its key. */
		.key_len = sizeof(uint64_t),
		.socket_id = params->node,
		/* With chains, so that it takes as many as it says. */
		.extra_flag = RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF |
				RTE_HASH_EXTRA_FLAGS_EXT_TABLE,
	};
	struct rte_hash_rcu_config rcu = { .v = params->qsbr };
	int ret;

	snprintf(name, sizeof(name), "vhub_bridge_%u", atomic_fetch_add(&counter, 1));
	*out = rte_hash_create(&hash);
	if (*out == NULL)
		return -ENOMEM;
	rte_hash_set_cmp_func(*out, compare_keys);
	ret = rte_hash_rcu_qsbr_add(*out, &rcu) == 0 ? 0 : -ENOMEM;
	if (ret != 0)
		rte_hash_free(*out);
	return ret;
}

int
table_create(const struct table_params *params, struct table **out)
{
	struct table *t = aligned_alloc(RTE_CACHE_LINE_SIZE, sizeof(*t));
	int ret;

	if (t == NULL)
		return -ENOMEM;
	memset(t, 0, sizeof(*t));
	rte_spinlock_init(&t->lock);
	t->n_entries = params->n_entries;
	t->ageing_ticks = params->ageing_ticks;
	arc4random_buf(t->secrets, sizeof(t->secrets));
	t->secrets[1] |= 1;
	t->secrets[2] |= 1;
	for (unsigned int i = 0; i < TABLE_MAX_PORTS; i++)
		t->generations[i] = 1;
	ret = make_hash(params, &t->hash);
	if (ret != 0)
		goto free_table;
	t->n_places = (uint32_t)rte_hash_max_key_id(t->hash) + 1;
	t->words = calloc(t->n_places, sizeof(*t->words));
	t->keys = calloc(t->n_places, sizeof(*t->keys));
	if (t->words == NULL || t->keys == NULL) {
		ret = -ENOMEM;
		goto free_places;
	}
	*out = t;
	return 0;

free_places:
	free(t->words);
	free(t->keys);
	rte_hash_free(t->hash);
free_table:
	free(t);
	return ret;
}

void
table_destroy(struct table *t)
{
	if (t == NULL)
		return;
	rte_hash_free(t->hash);
	free(t->words);
	free(t->keys);
	free(t);
}

/* ---- looking up ---- */

/* Where the keys are, negative where they are not. */
static inline void
find_places(const struct table *t, const uint64_t *keys, uint16_t n, int32_t *places)
{
	hash_sig_t signatures[TABLE_BURST];
	const void *pointers[TABLE_BURST];
	uint16_t i;

	for (i = 0; i < n; i++) {
		pointers[i] = &keys[i];
		signatures[i] = signature(t, keys[i]);
	}
	for (i = 0; i < n; i += LOOKUP_BULK)
		rte_hash_lookup_with_hash_bulk(t->hash, &pointers[i], &signatures[i],
				RTE_MIN((uint32_t)(n - i), (uint32_t)LOOKUP_BULK), &places[i]);
}

void
table_lookup(const struct table *t, const uint64_t *keys, uint16_t n, uint32_t now, uint16_t *ports)
{
	int32_t places[TABLE_BURST];
	uint64_t word;
	uint16_t i;

	find_places(t, keys, n, places);
	for (i = 0; i < n; i++) {
		word = places[i] < 0 ? 0 : load_word(t, places[i]);
		ports[i] = is_valid(t, word, now) ? port_of(word) : TABLE_NO_PORT;
	}
}

/* ---- changing; with the lock held ---- */

static inline void
count_known(struct table *t, uint16_t port, int n)
{
	__atomic_store_n(&t->n_known[port], t->n_known[port] + (uint32_t)n, __ATOMIC_RELAXED);
}

/* The entry says this no longer. */
static inline void
uncount(struct table *t, uint64_t word)
{
	if (is_of_generation(t, word))
		count_known(t, port_of(word), -1);
}

static void
set_entry(struct table *t, int32_t place, uint64_t word)
{
	uncount(t, load_word(t, place));
	store_word(t, place, word);
	count_known(t, port_of(word), 1);
}

static void
remove_entry(struct table *t, uint32_t place)
{
	const uint64_t key = t->keys[place];

	uncount(t, load_word(t, (int32_t)place));
	store_word(t, (int32_t)place, 0);
	if (rte_hash_del_key_with_hash(t->hash, &key, signature(t, key)) >= 0)
		t->n_used--;
}

static void
sweep(struct table *t, uint32_t n, uint32_t now)
{
	uint64_t word;

	for (; n > 0; n--) {
		word = load_word(t, (int32_t)t->cursor);
		if (word != 0 && !is_valid(t, word, now))
			remove_entry(t, t->cursor);
		if (++t->cursor == t->n_places)
			t->cursor = 0;
	}
}

/* Returns the key's place, with no word yet where it is new; negative: there is none left. */
static int32_t
take_place(struct table *t, uint64_t key)
{
	int32_t place = rte_hash_lookup_with_hash(t->hash, &key, signature(t, key));

	if (place >= 0)
		return place;
	place = rte_hash_add_key_with_hash(t->hash, &key, signature(t, key));
	if (place < 0)
		return place;
	__atomic_store_n(&t->keys[place], key, __ATOMIC_RELAXED);
	t->n_used++;
	return place;
}

static inline bool
is_high(const struct table *t, uint16_t port)
{
	return __atomic_load_n(&t->is_high[port], __ATOMIC_RELAXED);
}

/* Whether `port` may take the station over from the one that has it. */
static bool
may_take(const struct table *t, uint64_t key, uint64_t word, uint16_t port)
{
	if ((word & WORD_STATIC) != 0)
		return false;
	return !is_high(t, port_of(word)) || is_high(t, port) ||
			(key & MAC_MASK) == __atomic_load_n(&t->macs[port], __ATOMIC_RELAXED);
}

/* What a port of low priority has, one of high priority takes, however many it has learned. */
static bool
takes_precedence(const struct table *t, uint64_t word, uint16_t port)
{
	return is_high(t, port) && !is_high(t, port_of(word));
}

/* Returns false when there is nothing more to learn now. */
static bool
learn_one(struct table *t, uint64_t key, uint64_t new_word, uint32_t limit, uint32_t now,
		struct table_learned *learned)
{
	const uint16_t port = port_of(new_word);
	int32_t place = rte_hash_lookup_with_hash(t->hash, &key, signature(t, key));
	const uint64_t word = place < 0 ? 0 : load_word(t, place);
	const bool known = is_valid(t, word, now);

	/* Another lcore was here since the look without the lock. */
	if (known && (port_of(word) == port || !may_take(t, key, word, port)))
		return true;
	if (t->n_known[port] >= limit && !(known && takes_precedence(t, word, port))) {
		learned->limited++;
		return false;
	}
	if (place < 0 && t->n_used < t->n_entries)
		place = take_place(t, key);
	if (place < 0) {
		learned->full++;
		return false;
	}
	set_entry(t, place, new_word);
	if (known)
		learned->moved++;
	else
		learned->added++;
	return true;
}

static void
learn_new(struct table *t, const uint64_t *keys, uint16_t n, uint16_t port, uint32_t limit,
		uint32_t now, struct table_learned *learned)
{
	uint64_t word;
	uint16_t i;

	if (!rte_spinlock_trylock(&t->lock))
		return;
	sweep(t, SWEEP, now);
	word = make_word(now, port, t->generations[port], false);
	for (i = 0; i < n && !t->closed[port]; i++) {
		if (!learn_one(t, keys[i], word, limit, now, learned))
			break;
	}
	rte_spinlock_unlock(&t->lock);
}

/* ---- learning ---- */

/* The entry is in use. Whoever changes it meanwhile knows better. */
static inline void
refresh(struct table *t, int32_t place, uint64_t word, uint32_t now)
{
	const uint64_t fresh = (word & ~(uint64_t)UINT32_MAX) | now;

	if ((uint32_t)word != now && (word & WORD_STATIC) == 0)
		__atomic_compare_exchange_n(&t->words[place], &word, fresh, false, __ATOMIC_RELEASE,
				__ATOMIC_RELAXED);
}

void
table_learn(struct table *t, const uint64_t *keys, uint16_t n, uint16_t port, uint32_t limit,
		uint32_t now, struct table_learned *learned)
{
	int32_t places[TABLE_BURST];
	uint64_t word, unknown[TABLE_LEARN_MAX];
	uint16_t i, n_unknown = 0;

	memset(learned, 0, sizeof(*learned));
	find_places(t, keys, n, places);
	for (i = 0; i < n; i++) {
		word = places[i] < 0 ? 0 : load_word(t, places[i]);
		if (likely(is_valid(t, word, now))) {
			if (likely(port_of(word) == port)) {
				refresh(t, places[i], word, now);
				continue;
			}
			if (!may_take(t, keys[i], word, port)) {
				learned->foreign |= UINT64_C(1) << i;
				continue;
			}
		}
		if (n_unknown < TABLE_LEARN_MAX)
			unknown[n_unknown++] = keys[i];
	}
	if (unlikely(n_unknown != 0))
		learn_new(t, unknown, n_unknown, port, limit, now, learned);
}

/* ---- when ports come and go ---- */

/* Its holder may be a thread that shares our CPU and waits for it. */
static void
take_lock(struct table *t)
{
	while (!rte_spinlock_trylock(&t->lock))
		sched_yield();
}

void
table_set_port(struct table *t, uint16_t port, bool is_high, const struct rte_ether_addr *mac)
{
	uint64_t key = 0;

	if (mac != NULL)
		memcpy(&key, mac, sizeof(*mac));
	__atomic_store_n(&t->macs[port], key, __ATOMIC_RELAXED);
	__atomic_store_n(&t->is_high[port], is_high, __ATOMIC_RELAXED);
}

int
table_add_static(struct table *t, uint64_t key, uint16_t port, uint32_t now)
{
	int32_t place;
	int ret = 0;
	uint64_t word;

	take_lock(t);
	if (t->closed[port]) {
		ret = -ENETDOWN;
		goto unlock;
	}
	/* As with learning: static stations of ports that have gone leave their places in time. */
	sweep(t, SWEEP, now);
	place = take_place(t, key);
	word = place < 0 ? 0 : load_word(t, place);
	if (place < 0)
		ret = -ENOSPC;
	else if (is_valid(t, word, now) && (word & WORD_STATIC) != 0 && port_of(word) != port)
		ret = -EEXIST;
	else
		set_entry(t, place, make_word(now, port, t->generations[port], true));
unlock:
	rte_spinlock_unlock(&t->lock);
	return ret;
}

/* Returns false when there is no station at the place. */
static bool
describe(const struct table *t, uint32_t place, uint32_t now, struct table_entry *entry)
{
	const uint64_t word = load_word(t, (int32_t)place);
	const uint64_t key = __atomic_load_n(&t->keys[place], __ATOMIC_RELAXED);

	if (!is_valid(t, word, now))
		return false;
	memcpy(&entry->mac, &key, sizeof(entry->mac));
	entry->vlan = (uint16_t)(key >> 48) & 0xfff;
	entry->port = port_of(word);
	entry->is_static = (word & WORD_STATIC) != 0;
	entry->age_ticks = age_of(word, now);
	return true;
}

/* Who learns sweeps their places up, as those of stations that are too old. */
uint32_t
table_forget_if(struct table *t, uint32_t now,
		bool (*is_meant)(const void *arg, const struct table_entry *entry), const void *arg)
{
	struct table_entry entry;
	uint32_t n = 0, i, end;

	for (i = 0; i < t->n_places; i = end) {
		end = RTE_MIN(i + FORGET, t->n_places);
		take_lock(t);
		for (; i < end; i++) {
			if (!describe(t, i, now, &entry) || !is_meant(arg, &entry))
				continue;
			uncount(t, load_word(t, (int32_t)i));
			store_word(t, (int32_t)i, WORD_FORGOTTEN);
			n++;
		}
		rte_spinlock_unlock(&t->lock);
	}
	return n;
}

/* With the lock held. */
static void
forget(struct table *t, uint16_t port)
{
	const uint32_t generation = (t->generations[port] + 1) & GENERATION_MASK;

	__atomic_store_n(&t->generations[port], generation == 0 ? 1 : generation, __ATOMIC_RELAXED);
	__atomic_store_n(&t->n_known[port], 0, __ATOMIC_RELAXED);
}

void
table_forget_port(struct table *t, uint16_t port)
{
	take_lock(t);
	forget(t, port);
	rte_spinlock_unlock(&t->lock);
}

void
table_close_port(struct table *t, uint16_t port, bool closed)
{
	take_lock(t);
	t->closed[port] = closed;
	if (closed)
		forget(t, port);
	rte_spinlock_unlock(&t->lock);
}

/* ---- looking at it ---- */

uint32_t
table_count(const struct table *t, uint16_t port)
{
	return __atomic_load_n(&t->n_known[port], __ATOMIC_RELAXED);
}

uint32_t
table_capacity(const struct table *t)
{
	return t->n_entries;
}

void
table_walk(const struct table *t, uint32_t now, uint32_t *at, uint32_t max,
		void (*fn)(void *arg, const struct table_entry *entry), void *arg)
{
	const uint32_t end = *at < t->n_places ? *at + RTE_MIN(t->n_places - *at, WALK_PLACES) :
						 t->n_places;
	struct table_entry entry;
	uint32_t i;

	for (i = *at; i < end && max != 0; i++) {
		if (!describe(t, i, now, &entry))
			continue;
		fn(arg, &entry);
		max--;
	}
	*at = i < t->n_places ? i : 0;
}
