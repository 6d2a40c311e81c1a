/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver of guest.h. Descriptors of split rings are handed out in a scrambled order, and packed
 * rings get buffer ids that have nothing to do with slots.
 */
#include <stdlib.h>
#include <string.h>

#include "guest.h"

#define TABLE_ENTRIES (MAX_PIECES + 2)

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t a; /* split: flags; packed: id */
	uint16_t b; /* split: next; packed: flags */
};

static struct desc *
descs(const struct driver *d)
{
	return (struct desc *)(void *)d->desc;
}

static uint16_t *
words(uint8_t *at)
{
	return (uint16_t *)(void *)at;
}

static uint16_t
load(const uint16_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void
store(uint16_t *word, uint16_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

void
driver_init(struct driver *d, struct guest *g, uint64_t features, uint32_t size)
{
	uint64_t desc_bytes, avail_bytes, used_bytes;

	memset(d, 0, sizeof(*d));
	d->g = g;
	d->features = features;
	d->packed = (features & F_PACKED) != 0;
	d->size = size;
	vhub_virtq_layout((uint16_t)size, features, &desc_bytes, &avail_bytes, &used_bytes);
	d->desc_gpa = guest_alloc(g, desc_bytes, 4096);
	d->avail_gpa = guest_alloc(g, avail_bytes, 4);
	d->used_gpa = guest_alloc(g, used_bytes, 4096);
	d->table_gpa = guest_alloc(g, (uint64_t)size * TABLE_ENTRIES * 16, 4096);
	d->desc = guest_hva(g, d->desc_gpa);
	d->avail = guest_hva(g, d->avail_gpa);
	d->used = guest_hva(g, d->used_gpa);
	memset(d->desc, 0, desc_bytes);
	memset(d->avail, 0, avail_bytes);
	memset(d->used, 0, used_bytes);
	d->tokens = calloc(size, sizeof(*d->tokens));
	d->free = calloc(size, sizeof(*d->free));
	assert_true(d->tokens != NULL && d->free != NULL);
	for (uint32_t i = 0; i < size; i++)
		d->free[d->n_free++] = (uint16_t)((i * 7 + 3) % size);
	/* 7 may divide a packed ring's size. */
	if (size % 7 == 0) {
		for (uint32_t i = 0; i < size; i++)
			d->free[i] = (uint16_t)(size - 1 - i);
	}
	d->n_free_slots = size;
	d->avail_wrap = 1;
	d->used_wrap = 1;
}

void
driver_fini(struct driver *d)
{
	free(d->tokens);
	free(d->free);
}

void
driver_start_at(struct driver *d, uint16_t idx, uint8_t wrap)
{
	d->avail_idx = idx;
	d->used_idx = idx;
	d->kick_idx = idx;
	d->avail_wrap = wrap;
	d->used_wrap = wrap;
	if (!d->packed) {
		words(d->avail)[1] = idx;
		words(d->used)[1] = idx;
		return;
	}
	/* As the last lap has left it: used all over. */
	for (uint32_t i = 0; i < d->size; i++)
		descs(d)[i].b = (wrap != 0) == (i < idx) ? D_AVAIL | D_USED : 0;
}

uint32_t
driver_base(const struct driver *d)
{
	const uint32_t pos = d->used_idx | (uint32_t)d->used_wrap << 15;

	return d->packed ? pos | pos << 16 : d->used_idx;
}

/* ---- add ---- */

static void
put_table(struct driver *d, uint64_t gpa, const struct piece *pieces, unsigned int n)
{
	struct desc *table = guest_hva(d->g, gpa);

	/*
	 * Split tables are linked backwards through the table, to see that links are followed;
	 * entry 0 is the head.
	 */
	for (unsigned int i = 0; i < n; i++) {
		const unsigned int at = d->packed || i == 0 ? i : n - i;
		const uint16_t write = pieces[i].write ? D_WRITE : 0;
		const bool more = i + 1 < n;

		table[at].addr = pieces[i].gpa;
		table[at].len = pieces[i].len;
		table[at].a = d->packed ? 0xdead : (uint16_t)(write | (more ? D_NEXT : 0));
		table[at].b = d->packed ? write : (uint16_t)(more ? n - i - 1 : 0xbeef);
	}
}

static struct token *
add_split(struct driver *d, const struct piece *pieces, unsigned int n, uint16_t last_flags)
{
	uint16_t head, at;

	if (d->n_free < n)
		return NULL;
	head = d->free[d->n_free - 1];
	for (unsigned int i = 0; i < n; i++) {
		struct desc *desc;

		at = d->free[--d->n_free];
		desc = &descs(d)[at];
		desc->addr = pieces[i].gpa;
		desc->len = pieces[i].len;
		desc->a = (uint16_t)((pieces[i].write ? D_WRITE : 0) |
				(i + 1 < n ? D_NEXT : last_flags));
		desc->b = i + 1 < n ? d->free[d->n_free - 1] : 0xffff;
	}
	words(d->avail)[2 + d->avail_idx % d->size] = head;
	d->avail_idx++;
	d->n_added++;
	store(&words(d->avail)[1], d->avail_idx);
	d->tokens[head].id = head;
	d->tokens[head].n_slots = (uint16_t)n;
	return &d->tokens[head];
}

static struct token *
add_packed(struct driver *d, const struct piece *pieces, unsigned int n, uint16_t last_flags)
{
	struct desc *first = &descs(d)[d->avail_idx];
	uint16_t first_flags = 0, id;

	if (d->n_free == 0 || d->n_free_slots < n)
		return NULL;
	id = d->free[--d->n_free];
	for (unsigned int i = 0; i < n; i++) {
		struct desc *desc = &descs(d)[d->avail_idx];
		const uint16_t flags = (uint16_t)((pieces[i].write ? D_WRITE : 0) |
				(i + 1 < n ? D_NEXT : last_flags) |
				(d->avail_wrap != 0 ? D_AVAIL : D_USED));

		desc->addr = pieces[i].gpa;
		desc->len = pieces[i].len;
		desc->a = i + 1 < n ? 0xdead : id;
		if (i == 0)
			first_flags = flags;
		else
			desc->b = flags;
		if (++d->avail_idx == d->size) {
			d->avail_idx = 0;
			d->avail_wrap ^= 1;
		}
	}
	store(&first->b, first_flags);
	d->n_free_slots -= n;
	d->n_added += n;
	d->tokens[id].id = id;
	d->tokens[id].n_slots = (uint16_t)n;
	return &d->tokens[id];
}

struct token *
driver_add(struct driver *d, const struct piece *pieces, unsigned int n, bool indirect)
{
	struct token *t;
	struct piece table;
	uint16_t id;

	if (d->n_free == 0)
		return NULL;
	/* Head of a split chain and id of a packed one alike. */
	id = d->free[d->n_free - 1];
	if (indirect) {
		table.gpa = d->table_gpa + (uint64_t)id * TABLE_ENTRIES * 16;
		table.len = n * 16;
		table.write = (n & 1) != 0; /* means nothing there */
		put_table(d, table.gpa, pieces, n);
	}
	if (d->packed)
		t = add_packed(d, indirect ? &table : pieces, indirect ? 1 : n,
				indirect ? D_INDIRECT : 0);
	else
		t = add_split(d, indirect ? &table : pieces, indirect ? 1 : n,
				indirect ? D_INDIRECT : 0);
	if (t == NULL)
		return NULL;
	assert_false(t->used);
	assert_int_equal(t->id, id);
	t->used = true;
	t->seq = d->next_seq++;
	t->n = n;
	memcpy(t->pieces, pieces, n * sizeof(*pieces));
	t->used_len = UINT32_MAX;
	d->n_out++;
	return t;
}

unsigned int
driver_random_pieces(struct rnd *r, struct piece *pieces, unsigned int max)
{
	const unsigned int n = 1 + rnd_below(r, max);
	const unsigned int n_out = rnd_below(r, n + 1);

	for (unsigned int i = 0; i < n; i++) {
		pieces[i].write = i >= n_out;
		pieces[i].len = 1 + rnd_below(r, rnd_below(r, 4) != 0 ? 600 : 20000);
		if (rnd_below(r, 8) == 0)
			pieces[i].gpa = MID_GPA - rnd_below(r, pieces[i].len);
		else
			pieces[i].gpa = LOW_GPA +
					rnd_below(r, (uint32_t)(2 * LOW_BYTES) - pieces[i].len);
	}
	return n;
}

/* ---- reap ---- */

static struct token *
reap_split(struct driver *d, uint32_t *len)
{
	const uint32_t *elems = (const uint32_t *)(const void *)(d->used + 4);
	const uint32_t *elem = &elems[2 * (d->used_idx % d->size)];
	struct token *t;

	if (load(&words(d->used)[1]) == d->used_idx)
		return NULL;
	assert_true((uint16_t)(load(&words(d->used)[1]) - d->used_idx) <= d->n_out);
	assert_true(elem[0] < d->size);
	t = &d->tokens[elem[0]];
	*len = elem[1];
	d->used_idx++;
	/* Its descriptors are free again, found as the device found them. */
	for (uint16_t at = t->id, i = 0; i < t->n_slots; i++, at = descs(d)[at].b)
		d->free[d->n_free++] = at;
	return t;
}

static struct token *
reap_packed(struct driver *d, uint32_t *len)
{
	const struct desc *desc = &descs(d)[d->used_idx];
	const uint16_t flags = load(&desc->b);
	struct token *t;

	if ((flags & (D_AVAIL | D_USED)) != (d->used_wrap != 0 ? D_AVAIL | D_USED : 0))
		return NULL;
	assert_true(d->n_out != 0);
	assert_true(desc->a < d->size);
	t = &d->tokens[desc->a];
	*len = (flags & D_WRITE) != 0 ? desc->len : 0;
	d->used_idx = (uint16_t)(d->used_idx + t->n_slots);
	if (d->used_idx >= d->size) {
		d->used_idx = (uint16_t)(d->used_idx - d->size);
		d->used_wrap ^= 1;
	}
	d->n_free_slots += t->n_slots;
	d->free[d->n_free++] = t->id;
	return t;
}

struct token *
driver_reap(struct driver *d)
{
	uint32_t len;
	struct token *t = d->packed ? reap_packed(d, &len) : reap_split(d, &len);

	if (t == NULL)
		return NULL;
	/* Not used before, and as long as the device said. */
	assert_true(t->used);
	if (t->used_len != UINT32_MAX)
		assert_int_equal(len, t->used_len);
	if ((d->features & F_IN_ORDER) != 0)
		assert_int_equal(t->seq, d->next_reap_seq++);
	t->used = false;
	d->n_out--;
	return t;
}

/* ---- notifications ---- */

bool
driver_kick_wanted(struct driver *d)
{
	const uint32_t added = d->n_added;
	const uint16_t old = d->kick_idx;
	uint16_t pos, flags;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	d->n_added = 0;
	d->kick_idx = d->avail_idx;
	if (!d->packed && (d->features & F_EVENT_IDX) != 0) {
		pos = load(&words(d->used)[2 + 4 * d->size]);
		return (uint16_t)(d->avail_idx - pos - 1) < (uint16_t)(d->avail_idx - old);
	}
	if (!d->packed)
		return (load(&words(d->used)[0]) & 1) == 0;
	pos = load(&words(d->used)[0]);
	flags = load(&words(d->used)[1]);
	if (flags != 2)
		return flags == 0;
	assert_true((d->features & F_EVENT_IDX) != 0);
	/* The last `added` slots, one by one. */
	for (uint32_t i = 1; i <= added; i++) {
		const uint32_t back = (d->avail_idx + 2 * d->size - i) % d->size;
		const uint16_t wrap = back >= d->avail_idx ? d->avail_wrap ^ 1 : d->avail_wrap;

		if ((pos & 0x7fff) == back && pos >> 15 == wrap)
			return true;
	}
	return false;
}

void
driver_calls_flag(struct driver *d, bool want)
{
	if (d->packed)
		store(&words(d->avail)[1], want ? 0 : 1);
	else
		store(&words(d->avail)[0], want ? 0 : 1);
}

void
driver_calls_event(struct driver *d, uint16_t idx, uint8_t wrap)
{
	if (!d->packed) {
		store(&words(d->avail)[2 + d->size], idx);
		return;
	}
	store(&words(d->avail)[0], (uint16_t)(idx | wrap << 15));
	store(&words(d->avail)[1], 2);
}

/* ---- the device's side, seen from here ---- */

void
driver_check_chain(const struct driver *d, const struct token *t, const struct vhub_chain *chain)
{
	struct iovec iov[2 * MAX_PIECES];
	uint64_t out = 0, in = 0;
	unsigned int n = 0, n_out = 0;

	assert_true(t->used);
	assert_int_equal(chain->id, t->id);
	for (unsigned int i = 0; i < t->n; i++) {
		n += guest_split(d->g, t->pieces[i].gpa, t->pieces[i].len, iov + n);
		if (t->pieces[i].write) {
			in += t->pieces[i].len;
		} else {
			out += t->pieces[i].len;
			n_out = n;
		}
	}
	assert_int_equal(chain->n_out, n_out);
	assert_int_equal(chain->n_in, n - n_out);
	assert_int_equal(chain->out_bytes, out);
	assert_int_equal(chain->in_bytes, in);
	for (unsigned int i = 0; i < n; i++) {
		assert_ptr_equal(chain->iov[i].iov_base, iov[i].iov_base);
		assert_int_equal(chain->iov[i].iov_len, iov[i].iov_len);
	}
}

struct token *
driver_token(struct driver *d, const struct vhub_chain *chain)
{
	assert_true(chain->id < d->size);
	assert_true(d->tokens[chain->id].used);
	return &d->tokens[chain->id];
}

struct vhub_virtq_config
driver_config(const struct driver *d)
{
	return (struct vhub_virtq_config){
		.size = (uint16_t)d->size,
		.features = d->features,
		.desc = d->desc,
		.avail = d->avail,
		.used = d->used,
		.base = driver_base(d),
		.mem = d->g->table,
		.call_fd = -1,
		.chain_bytes = sizeof(struct vhub_chain) + 40,
		.numa_node = -1,
	};
}

struct vhub_virtq *
virtq_make(const struct vhub_virtq_config *config)
{
	struct vhub_virtq *vq = NULL;

	assert_int_equal(vhub_virtq_create(config, &vq), 0);
	assert_non_null(vq);
	return vq;
}

struct vhub_virtq *
ring_begin(struct guest *g, struct driver *d, uint64_t features)
{
	struct vhub_virtq_config config;

	guest_init(g);
	driver_init(d, g, features | F_VERSION_1,
			(features & F_PACKED) != 0 ? PACKED_SIZE : SPLIT_SIZE);
	config = driver_config(d);
	return virtq_make(&config);
}

void
ring_end(struct vhub_virtq *vq, struct driver *d, struct guest *g)
{
	vhub_virtq_destroy(vq);
	driver_fini(d);
	guest_fini(g);
}
