/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The variants of split_pop() are the same function, and so are those of packed_pop(): one ring, written at
 * random and often wrong, is taken by each of them, and what they find is compared. On a processor without AVX-512 there is one
 * variant, and nothing to compare.
 */
#include <string.h>

#include "guest.h"
#include "virtq_pvt.h"

/* Rings of each size; in large ones there is more to forget between them. */
#define ROUNDS(size) ((size) <= 64 ? 5000u : 300000u / (size) + 200)
#define CHAINS 8u
#define ROW 3u
#define TABLES_BYTES (CHAINS * ROW * sizeof(struct split_desc))

#ifdef VHUB_HAS_AVX512
struct ring_memory {
	bool packed;
	uint32_t size;
	uint32_t base; /* as of struct vhub_virtq_config */
	union {
		struct split_desc *desc;
		struct packed_desc *ring;
	};
	struct split_avail *avail;
	struct split_used *used;
	union { /* for indirect ones, three each */
		struct split_desc *table;
		struct packed_desc *packed_table;
	};
	uint64_t table_gpa;
	uint64_t tables_gpa; /* where there is room for them */
};

static struct guest guest;

static void
lay_out(struct ring_memory *m, uint32_t size, bool packed)
{
	m->packed = packed;
	m->size = size;
	m->desc = guest_hva(&guest, guest_alloc(&guest, size * sizeof(*m->desc), 64));
	m->avail = guest_hva(&guest, guest_alloc(&guest, 4 + 2 * size, 64));
	m->used = guest_hva(&guest, guest_alloc(&guest, 4 + 8 * size, 64));
	m->tables_gpa = guest_alloc(&guest, TABLES_BYTES + sizeof(*m->table), 64);
}

/* At a line's begin, where rows lie as they like, or up to the last byte of a region. */
static void
place_tables(struct rnd *r, struct ring_memory *m)
{
	const uint64_t places[] = { m->tables_gpa, m->tables_gpa + sizeof(*m->table),
		GUEST_TOP_GPA - TABLES_BYTES };

	m->table_gpa = places[rnd_below(r, RTE_DIM(places))];
	m->table = guest_hva(&guest, m->table_gpa);
}

/* Most are in the middle of memory, some at the ends of a region. */
static uint64_t
random_gpa(struct rnd *r)
{
	static const uint64_t ends[] = { LOW_GPA, MID_GPA, MID_GPA + LOW_BYTES, RING_GPA,
		GUEST_TOP_GPA, 0, UINT64_MAX };

	if (rnd_below(r, 32) != 0)
		return LOW_GPA + rnd_below(r, LOW_BYTES / 2);
	return ends[rnd_below(r, RTE_DIM(ends))] + rnd_below(r, 3) - 1 - rnd_below(r, 2) * 512;
}

static uint32_t
random_len(struct rnd *r)
{
	static const uint32_t odd[] = { 0, 1, 16, 512, 0x3fffffff, 0x40000000, 0x80000000,
		UINT32_MAX };

	return rnd_below(r, 32) != 0 ? 1 + rnd_below(r, 4096) : odd[rnd_below(r, RTE_DIM(odd))];
}

/*
 * A row of three at entry `first` of a table of `size`, or fewer where it has not so many; now and then
 * something of it is not as usual.
 */
static void
write_row(struct rnd *r, struct split_desc *table, uint32_t first, uint32_t size)
{
	const uint16_t second_flags = rnd_below(r, 2) != 0 ? DESC_F_WRITE : 0;
	const uint32_t n = RTE_MIN(ROW, size);

	for (uint32_t i = 0; i < n; i++) {
		table[(first + i) % size] = (struct split_desc){
			.addr = random_gpa(r),
			.len = random_len(r),
			.flags = (uint16_t)((i + 1 < n ? DESC_F_NEXT : DESC_F_WRITE) |
					(i == 1 ? second_flags : 0)),
			.next = (uint16_t)((first + i + 1) % size),
		};
	}
	if (rnd_below(r, 16) == 0)
		table[(first + rnd_below(r, n)) % size].flags ^= (uint16_t)(1u << rnd_below(r, 16));
	if (rnd_below(r, 16) == 0)
		table[(first + rnd_below(r, n)) % size].next = (uint16_t)rnd_below(r, size + 2);
}

/* Each chain has its part of the table; in small ones they may be in each other's way. */
static uint32_t
random_head(struct rnd *r, uint32_t size, uint32_t i)
{
	const uint32_t part = size / CHAINS;

	if (rnd_below(r, 16) == 0)
		return (uint16_t)(size - ROW + rnd_below(r, ROW + 1));
	return part >= ROW ? i * part + rnd_below(r, part - ROW + 1) : i % size;
}

static void
write_split(struct rnd *r, struct ring_memory *m)
{
	const uint32_t size = m->size;
	const uint32_t n = size >= CHAINS * ROW ? CHAINS : 1 + rnd_below(r, RTE_MIN(size, CHAINS));

	memset(m->desc, 0, size * sizeof(*m->desc));
	m->base = rnd_next(r) & UINT16_MAX;
	m->used->idx = (uint16_t)m->base;
	for (uint32_t i = 0; i < n; i++) {
		const uint32_t head = random_head(r, size, i);

		m->avail->ring[(m->base + i) % size] = (uint16_t)head;
		if (head >= size)
			continue;
		write_row(r, m->desc, head, size);
		if (rnd_below(r, 4) != 0)
			continue;
		write_row(r, m->table + ROW * i, 0, ROW);
		m->desc[head].addr = m->table_gpa + ROW * i * sizeof(*m->table);
		m->desc[head].len = ROW * sizeof(*m->table);
		m->desc[head].flags = DESC_F_INDIRECT;
	}
	m->avail->idx = (uint16_t)(m->base + n);
}

/*
 * A row of three at `first` of a table of `size`, the links of a ring in it or, in a table, any flags that do
 * not count; now and then something of it is not as usual.
 */
static void
write_packed_row(struct rnd *r, struct packed_desc *table, uint32_t first, uint32_t size,
		uint16_t flags, uint16_t next)
{
	const uint16_t second_flags = rnd_below(r, 2) != 0 ? DESC_F_WRITE : 0;

	for (uint32_t i = 0; i < ROW; i++) {
		table[(first + i) % size] = (struct packed_desc){
			.addr = random_gpa(r),
			.len = random_len(r),
			.id = (uint16_t)rnd_next(r),
			.flags = (uint16_t)(flags | (i + 1 < ROW ? next : DESC_F_WRITE) |
					(i == 1 ? second_flags : 0)),
		};
	}
	if (rnd_below(r, 16) == 0)
		table[(first + rnd_below(r, ROW)) % size].flags ^= (uint16_t)(1u
				<< rnd_below(r, 16));
}

/* Chain behind chain, over the end of the ring, too. */
static void
write_packed(struct rnd *r, struct ring_memory *m)
{
	const uint32_t size = m->size, n = RTE_MIN(CHAINS, size / ROW);
	uint32_t at = rnd_below(r, 2) != 0 ? rnd_below(r, size) : size - 1 - rnd_below(r, ROW);
	uint16_t wrap = rnd_below(r, 2);

	memset(m->ring, 0, size * sizeof(*m->ring));
	for (uint32_t i = 0; i < size; i++)
		m->ring[i].flags = packed_used_flags(i < at ? wrap : !wrap);
	m->base = at | (uint32_t)wrap << 15;
	m->base |= m->base << 16;
	for (uint32_t i = 0; i < n; i++) {
		const bool indirect = rnd_below(r, 4) == 0;
		const uint32_t n_slots = indirect ? 1 : ROW;

		write_packed_row(r, m->ring, at, size, packed_avail_flags(wrap), DESC_F_NEXT);
		for (uint32_t j = 1; j < n_slots && at + j >= size; j++)
			m->ring[at + j - size].flags ^= DESC_F_AVAIL | DESC_F_USED;
		if (indirect) {
			write_packed_row(r, m->packed_table + ROW * i, 0, ROW,
					(uint16_t)(rnd_below(r, 8) == 0 ?
									rnd_next(r) & ~DESC_F_INDIRECT :
									0),
					0);
			m->ring[at].addr = m->table_gpa + ROW * i * sizeof(*m->packed_table);
			m->ring[at].len = ROW * sizeof(*m->packed_table);
			m->ring[at].flags = DESC_F_INDIRECT | packed_avail_flags(wrap);
		}
		at += n_slots;
		if (at >= size) {
			at -= size;
			wrap ^= 1;
		}
	}
}

static struct vhub_virtq *
make_ring(const struct ring_memory *m, uint64_t features)
{
	const struct vhub_virtq_config config = {
		.size = m->size,
		.features = features,
		.base = m->base,
		.desc = m->desc,
		.avail = m->avail,
		.used = m->used,
		.mem = guest.table,
		.call_fd = -1,
		.chain_bytes = sizeof(struct vhub_chain),
		.numa_node = -1,
	};
	struct vhub_virtq *vq;

	assert_int_equal(vhub_virtq_create(&config, &vq), 0);
	/* As after a burst: there is a region of the last hit. */
	vq->mem_cache.last = vhub_mem_find(vq->mem, LOW_GPA);
	return vq;
}

static void
assert_same_chain(const struct vhub_chain *a, const struct vhub_chain *b)
{
	assert_int_equal(a->n_out, b->n_out);
	assert_int_equal(a->n_in, b->n_in);
	assert_int_equal(a->out_bytes, b->out_bytes);
	assert_int_equal(a->in_bytes, b->in_bytes);
	assert_int_equal(a->used_bytes, b->used_bytes);
	assert_int_equal(a->id, b->id);
	assert_int_equal(a->order, b->order);
	assert_int_equal(a->n_slots, b->n_slots);
	assert_int_equal(a->iov == a->inline_iov, b->iov == b->inline_iov);
	assert_memory_equal(a->iov, b->iov, (size_t)(a->n_out + a->n_in) * sizeof(*a->iov));
}

/* Returns how many chains there were. */
static uint16_t
compare(const struct ring_memory *m, uint64_t features, uint16_t max)
{
	struct vhub_virtq *a = make_ring(m, features), *b = make_ring(m, features);
	struct vhub_chain *by_a[CHAINS], *by_b[CHAINS];
	uint16_t n;

	n = (m->packed ? packed_pop : split_pop)(a, by_a, max);
	assert_int_equal((m->packed ? packed_pop_avx512 : split_pop_avx512)(b, by_b, max), n);
	assert_int_equal(vhub_virtq_broken(a), vhub_virtq_broken(b));
	assert_int_equal(a->n_free, b->n_free);
	assert_int_equal(a->outstanding, b->outstanding);
	assert_int_equal(a->last_avail, b->last_avail);
	assert_int_equal(a->avail_wrap, b->avail_wrap);
	assert_int_equal(a->slots, b->slots);
	if (!m->packed)
		assert_memory_equal(a->busy, b->busy, m->size);
	for (uint16_t i = 0; i < n; i++)
		assert_same_chain(by_a[i], by_b[i]);
	vhub_virtq_destroy(a);
	vhub_virtq_destroy(b);
	return n;
}

static void
compare_rings_of(struct rnd *r, uint32_t size, bool packed)
{
	const uint64_t features = F_VERSION_1 | (packed ? F_PACKED : 0);
	uint64_t total = 0;
	struct ring_memory m;

	guest_init(&guest);
	lay_out(&m, size, packed);
	for (unsigned int i = 0; i < ROUNDS(size); i++) {
		place_tables(r, &m);
		if (packed)
			write_packed(r, &m);
		else
			write_split(r, &m);
		total += compare(&m, features | (rnd_below(r, 4) != 0 ? F_INDIRECT : 0),
				(uint16_t)(1 + rnd_below(r, CHAINS)));
	}
	/* Not all rings broke at once; small ones, in which chains are in each other's way, do more often. */
	assert_true(total > (size >= CHAINS * ROW ? ROUNDS(size) : ROUNDS(size) / 2));
	guest_fini(&guest);
}

static void
compare_variants(const uint32_t *sizes, unsigned int n, bool packed)
{
	struct rnd r;

	if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512dq"))
		skip();
	rnd_init(&r, packed ? "packed variants" : "variants", packed ? 12 : 11);
	for (unsigned int i = 0; i < n; i++)
		compare_rings_of(&r, sizes[i], packed);
}
#else
static void
compare_variants(const uint32_t *sizes, unsigned int n, bool packed)
{
	(void)sizes;
	(void)n;
	(void)packed;
	skip();
}
#endif

static void
test_split_pop_is_one_function(void **state)
{
	static const uint32_t sizes[] = { 1, 2, 4, 64, 256, 32768 };

	(void)state;
	compare_variants(sizes, RTE_DIM(sizes), false);
}

static void
test_packed_pop_is_one_function(void **state)
{
	static const uint32_t sizes[] = { 3, 5, 64, 100, 256, 32768 };

	(void)state;
	compare_variants(sizes, RTE_DIM(sizes), true);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_split_pop_is_one_function),
		cmocka_unit_test(test_packed_pop_is_one_function),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
