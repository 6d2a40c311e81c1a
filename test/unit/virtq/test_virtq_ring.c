/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Making a ring, what it refuses, its bases, its long chains, IN_ORDER, another memory table while it
 * runs, and what it leaves of the used ring as it is.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "guest.h"

#define SIZE 128u

struct fixture {
	struct guest g;
	struct driver d;
	struct vhub_virtq_config config;
	struct vhub_virtq *vq;
};

static void
begin(struct fixture *f, uint64_t features, uint32_t size)
{
	memset(f, 0, sizeof(*f));
	guest_init(&f->g);
	driver_init(&f->d, &f->g, features | F_VERSION_1, size);
	f->config = driver_config(&f->d);
	f->vq = virtq_make(&f->config);
}

static void
end(struct fixture *f)
{
	vhub_virtq_destroy(f->vq);
	driver_fini(&f->d);
	guest_fini(&f->g);
}

static struct token *
add(struct fixture *f, unsigned int n_pieces, bool indirect)
{
	struct piece pieces[MAX_PIECES];

	for (unsigned int i = 0; i < n_pieces; i++)
		pieces[i] = (struct piece){ LOW_GPA + 4096 * (i % 60), 4096, true };
	return driver_add(&f->d, pieces, n_pieces, indirect);
}

/* ---- create ---- */

static void
layouts_are_those_of_the_specification(void **state)
{
	uint64_t desc, avail, used;

	(void)state;
	vhub_virtq_layout(256, F_VERSION_1 | F_EVENT_IDX, &desc, &avail, &used);
	assert_int_equal(desc, 16 * 256);
	assert_int_equal(avail, 6 + 2 * 256);
	assert_int_equal(used, 6 + 8 * 256);
	vhub_virtq_layout(32768, F_VERSION_1, &desc, &avail, &used);
	assert_int_equal(desc, 16 * 32768);
	assert_int_equal(avail, 4 + 2 * 32768);
	assert_int_equal(used, 4 + 8 * 32768);
	vhub_virtq_layout(100, F_PACKED, &desc, &avail, &used);
	assert_int_equal(desc, 16 * 100);
	assert_int_equal(avail, 4);
	assert_int_equal(used, 4);
}

static void
nonsense_is_refused(void **state)
{
	struct vhub_virtq_config config;
	struct vhub_virtq *vq;
	struct fixture f;

	(void)state;
	begin(&f, 0, SIZE);
#define REFUSED(change) \
	do { \
		config = f.config; \
		change; \
		assert_int_equal(vhub_virtq_create(&config, &vq), -EINVAL); \
	} while (0)
	REFUSED(config.size = 0);
	REFUSED(config.size = 100);
	REFUSED(config.size = 32769);
	REFUSED(config.base = 0x10000);
	REFUSED(config.base = UINT32_MAX);
	REFUSED(config.mem = NULL);
	REFUSED(config.chain_bytes = sizeof(struct vhub_chain) - 1);
	REFUSED(config.desc = NULL);
	REFUSED(config.avail = NULL);
	REFUSED(config.used = NULL);
	REFUSED(config.desc = (uint8_t *)config.desc + 8);
	REFUSED(config.avail = (uint8_t *)config.avail + 1);
	REFUSED(config.used = (uint8_t *)config.used + 2);
	end(&f);
	begin(&f, F_PACKED, 100);
	REFUSED(config.size = 32769);
	REFUSED(config.base = 100);
	REFUSED(config.base = 100u << 16);
	REFUSED(config.base = 0x7fff8000);
	REFUSED(config.avail = (uint8_t *)config.avail + 2);
	end(&f);
}

static void
every_request_has_its_own_bytes(void **state)
{
	struct vhub_chain *chains[SIZE];
	struct fixture f;
	uint16_t n;

	(void)state;
	begin(&f, 0, SIZE);
	for (n = 0; n < SIZE; n++)
		assert_non_null(add(&f, 1, false));
	for (n = 0; n < SIZE;)
		n += vhub_virtq_pop(f.vq, chains + n, VHUB_VIRTQ_BURST);
	/* Zeroed, and its own to the last byte. */
	for (n = 0; n < SIZE; n++) {
		uint8_t *tail = (uint8_t *)(chains[n] + 1);

		for (unsigned int i = 0; i < f.config.chain_bytes - sizeof(*chains[n]); i++) {
			assert_int_equal(tail[i], 0);
			tail[i] = 0xff;
		}
	}
	vhub_virtq_push(f.vq, chains, SIZE);
	end(&f);
	vhub_virtq_destroy(NULL);
}

static void
the_largest_ring_fills_and_empties(void **state)
{
	struct vhub_chain **chains = calloc(VHUB_VIRTQ_MAX_SIZE, sizeof(*chains));
	const struct piece piece = { LOW_GPA, 512, false };
	struct fixture f;
	uint32_t n;

	(void)state;
	assert_non_null(chains);
	for (int packed = 0; packed < 2; packed++) {
		memset(&f, 0, sizeof(f));
		guest_init(&f.g);
		/* No room for indirect tables of this ring, and no need. */
		driver_init(&f.d, &f.g, packed != 0 ? F_PACKED : 0, 2048);
		driver_fini(&f.d);
		f.d.size = VHUB_VIRTQ_MAX_SIZE;
		f.d.n_free = 0;
		f.d.tokens = calloc(f.d.size, sizeof(*f.d.tokens));
		f.d.free = calloc(f.d.size, sizeof(*f.d.free));
		assert_true(f.d.tokens != NULL && f.d.free != NULL);
		for (uint32_t i = 0; i < f.d.size; i++)
			f.d.free[f.d.n_free++] = (uint16_t)i;
		f.d.n_free_slots = f.d.size;
		f.d.desc = guest_hva(&f.g, f.d.table_gpa);
		f.d.avail = f.d.desc + 16 * f.d.size;
		f.d.used = f.d.avail + 4 * f.d.size;
		driver_start_at(&f.d, packed != 0 ? 32767 : 65535, 0);
		f.config = driver_config(&f.d);
		f.vq = virtq_make(&f.config);
		for (unsigned int round = 0; round < 3; round++) {
			for (n = 0; driver_add(&f.d, &piece, 1, false) != NULL; n++)
				;
			assert_int_equal(n, VHUB_VIRTQ_MAX_SIZE);
			for (n = 0; n < VHUB_VIRTQ_MAX_SIZE;)
				n += vhub_virtq_pop(f.vq, chains + n, VHUB_VIRTQ_BURST);
			assert_int_equal(vhub_virtq_in_flight(f.vq), VHUB_VIRTQ_MAX_SIZE);
			assert_int_equal(vhub_virtq_pop(f.vq, chains, 1), 0);
			vhub_virtq_push(f.vq, chains, VHUB_VIRTQ_MAX_SIZE);
			for (n = 0; driver_reap(&f.d) != NULL; n++)
				;
			assert_int_equal(n, VHUB_VIRTQ_MAX_SIZE);
		}
		assert_int_equal(vhub_virtq_broken(f.vq), VHUB_VIRTQ_OK);
		end(&f);
	}
	free(chains);
}

/* ---- bases ---- */

static void
bases_come_back_as_they_were_given(void **state)
{
	struct fixture f;

	(void)state;
	begin(&f, 0, SIZE);
	/* That of a split ring is its used index, whatever is told. */
	for (uint32_t base = 0; base < 0x10000; base += 4369) {
		vhub_virtq_destroy(f.vq);
		((uint16_t *)f.config.used)[1] = (uint16_t)base;
		f.config.base = base / 2;
		f.vq = virtq_make(&f.config);
		assert_int_equal(vhub_virtq_base(f.vq), base);
	}
	end(&f);
	begin(&f, F_PACKED, 100);
	for (uint32_t i = 0; i < 4; i++) {
		vhub_virtq_destroy(f.vq);
		f.config.base = 99 | (i & 1) << 15 | 37u << 16 | (i >> 1) << 31;
		f.vq = virtq_make(&f.config);
		assert_int_equal(vhub_virtq_base(f.vq), f.config.base);
	}
	end(&f);
}

/* Chains that were taken and never used are offered again by the base of a split ring. */
static void
base_of_a_split_ring_with_chains_held(void **state)
{
	struct vhub_chain *chains[10];
	struct fixture f;

	(void)state;
	begin(&f, 0, SIZE);
	for (unsigned int i = 0; i < 10; i++)
		assert_non_null(add(&f, 1, false));
	assert_int_equal(vhub_virtq_pop(f.vq, chains, 10), 10);
	assert_int_equal(vhub_virtq_base(f.vq), 0);
	vhub_virtq_push(f.vq, chains, 4);
	assert_int_equal(vhub_virtq_base(f.vq), 4);
	vhub_virtq_push(f.vq, chains + 4, 6);
	assert_int_equal(vhub_virtq_base(f.vq), 10);
	end(&f);
}

static void
base_of_a_packed_ring_has_both_indexes(void **state)
{
	struct vhub_chain *chains[3];
	struct fixture f;

	(void)state;
	begin(&f, F_PACKED, 8);
	for (unsigned int i = 0; i < 2; i++)
		assert_non_null(add(&f, 3, false));
	assert_int_equal(vhub_virtq_pop(f.vq, chains, 3), 2);
	assert_int_equal(vhub_virtq_base(f.vq), 0x80008006);
	vhub_virtq_push(f.vq, chains, 2);
	assert_int_equal(vhub_virtq_base(f.vq), 0x80068006);
	while (driver_reap(&f.d) != NULL)
		;
	assert_non_null(add(&f, 3, false));
	assert_int_equal(vhub_virtq_pop(f.vq, chains, 3), 1);
	assert_int_equal(vhub_virtq_base(f.vq), 0x80060001);
	vhub_virtq_push(f.vq, chains, 1);
	assert_int_equal(vhub_virtq_base(f.vq), 0x00010001);
	end(&f);
}

/* ---- bursts ---- */

static void
a_burst_is_as_long_as_asked_for(void **state)
{
	struct vhub_virtq_stats stats;
	struct vhub_chain *chains[SIZE + 1];
	struct fixture f;

	(void)state;
	for (int packed = 0; packed < 2; packed++) {
		begin(&f, packed != 0 ? F_PACKED : 0, SIZE);
		memset(chains, 0, sizeof(chains));
		for (unsigned int i = 0; i < SIZE; i++)
			assert_non_null(add(&f, 1, false));
		assert_int_equal(vhub_virtq_pop(f.vq, chains, 0), 0);
		assert_int_equal(vhub_virtq_pop(f.vq, chains, 7), 7);
		assert_null(chains[7]);
		assert_int_equal(vhub_virtq_in_flight(f.vq), 7);
		assert_true(vhub_virtq_has_work(f.vq));
		/* A push of none writes nothing. */
		vhub_virtq_push(f.vq, chains, 0);
		assert_null(driver_reap(&f.d));
		vhub_virtq_push(f.vq, chains, 7);
		vhub_virtq_get_stats(f.vq, &stats);
		assert_int_equal(stats.chains, 7);
		assert_int_equal(stats.completions, 7);
		assert_int_equal(stats.resubmitted, 0);
		end(&f);
	}
}

/* ---- long chains ---- */

static void
long_chains_wait_for_each_other(void **state)
{
	const uint64_t kinds[] = { F_INDIRECT, F_INDIRECT | F_PACKED };
	struct vhub_chain *chains[SIZE];
	struct vhub_virtq_stats stats;
	struct token *tokens[80];
	struct fixture f;

	(void)state;
	for (unsigned int k = 0; k < 2; k++) {
		begin(&f, kinds[k], SIZE);
		for (unsigned int i = 0; i < 80; i++)
			tokens[i] = add(&f,
					i == 70 ? VHUB_CHAIN_INLINE_IOV :
						  VHUB_CHAIN_INLINE_IOV + 1 + i,
					true);
		assert_int_equal(vhub_virtq_pop(f.vq, chains, 80), VHUB_VIRTQ_LONG_CHAINS);
		assert_int_equal(vhub_virtq_broken(f.vq), VHUB_VIRTQ_OK);
		assert_int_equal(vhub_virtq_pop(f.vq, chains + 64, 16), 0);
		assert_true(vhub_virtq_has_work(f.vq));
		vhub_virtq_get_stats(f.vq, &stats);
		assert_int_equal(stats.long_chain_waits, 2);
		assert_int_equal(stats.chains, 64);
		/* One comes back: one more may go. Nothing was lost in between. */
		vhub_virtq_push(f.vq, &chains[5], 1);
		assert_int_equal(vhub_virtq_pop(f.vq, &chains[5], 16), 1);
		driver_check_chain(&f.d, tokens[64], chains[5]);
		for (unsigned int i = 0; i < 64; i++) {
			if (i != 5)
				driver_check_chain(&f.d, tokens[i], chains[i]);
		}
		vhub_virtq_push(f.vq, chains, 64);
		assert_int_equal(vhub_virtq_pop(f.vq, chains, 64), 15);
		for (unsigned int i = 0; i < 15; i++)
			driver_check_chain(&f.d, tokens[65 + i], chains[i]);
		vhub_virtq_push(f.vq, chains, 15);
		while (driver_reap(&f.d) != NULL)
			;
		assert_int_equal(f.d.n_out, 0);
		end(&f);
	}
}

/* ---- IN_ORDER ---- */

static void
in_order_even_when_completed_backwards(void **state)
{
	const uint64_t kinds[] = { F_IN_ORDER, F_IN_ORDER | F_PACKED };
	struct vhub_chain *chains[SIZE];
	struct fixture f;

	(void)state;
	for (unsigned int k = 0; k < 2; k++) {
		begin(&f, kinds[k], SIZE);
		for (unsigned int i = 0; i < SIZE; i++)
			assert_non_null(add(&f, 1, false));
		assert_int_equal(vhub_virtq_pop(f.vq, chains, SIZE), SIZE);
		for (unsigned int i = SIZE - 1; i > 0; i--) {
			vhub_virtq_push(f.vq, &chains[i], 1);
			assert_null(driver_reap(&f.d));
			assert_int_equal(vhub_virtq_in_flight(f.vq), SIZE);
		}
		vhub_virtq_push(f.vq, &chains[0], 1);
		assert_int_equal(vhub_virtq_in_flight(f.vq), 0);
		/* The driver itself checks the order. */
		for (unsigned int i = 0; i < SIZE; i++)
			assert_non_null(driver_reap(&f.d));
		end(&f);
	}
}

/* ---- another memory table ---- */

static void
memory_moves_under_a_running_ring(void **state)
{
	const uint64_t kinds[] = { 0, F_PACKED | F_INDIRECT };
	struct vhub_chain *chain;
	struct vhub_mem_table *old;
	struct fixture f;
	struct guest other;
	struct token *t;

	(void)state;
	for (unsigned int k = 0; k < 2; k++) {
		begin(&f, kinds[k], 8);
		for (unsigned int i = 0; i < 20; i++) {
			t = add(&f, 2, k != 0);
			assert_non_null(t);
			assert_int_equal(vhub_virtq_pop(f.vq, &chain, 1), 1);
			driver_check_chain(&f.d, t, chain);
			vhub_virtq_push(f.vq, &chain, 1);
			assert_ptr_equal(driver_reap(&f.d), t);
			/* The same guest, mapped elsewhere. */
			guest_init(&other);
			for (int r = 0; r < 3; r++)
				memcpy(other.table->regions[r].hva, f.g.table->regions[r].hva,
						r == 2 ? 0x100000 : 0x1000);
			f.d.desc = guest_hva(&other, f.d.desc_gpa);
			f.d.avail = guest_hva(&other, f.d.avail_gpa);
			f.d.used = guest_hva(&other, f.d.used_gpa);
			old = vhub_virtq_set_mem(f.vq, other.table, f.d.desc, f.d.avail, f.d.used);
			assert_ptr_equal(old, f.g.table);
			assert_int_equal(other.table->refs, 2);
			vhub_mem_table_put(old);
			guest_fini(&f.g);
			f.g = other;
		}
		end(&f);
	}
}

/* ---- the used ring ---- */

#define TALL 1024u
#define PAGE 4096u

/* One request after the other, each of which has `bytes` written; the driver reaps the entry. */
static void
one_lap(struct fixture *f, uint32_t bytes, bool short_way)
{
	for (unsigned int i = 0; i < TALL; i++) {
		struct token *t = add(f, 1, false);
		struct vhub_buffer buffer;
		struct vhub_chain *chain;

		t->used_len = bytes;
		if (short_way) {
			assert_int_equal(vhub_virtq_peek(f->vq, &buffer, 1, true), 1);
			buffer.used_bytes = bytes;
			vhub_virtq_use(f->vq, &buffer, 1);
		} else {
			assert_int_equal(vhub_virtq_pop(f->vq, &chain, 1), 1);
			chain->used_bytes = bytes;
			vhub_virtq_push(f->vq, &chain, 1);
		}
		assert_ptr_equal(driver_reap(&f->d), t);
	}
}

/* The page behind the one that has the index: it cannot be written here. */
static void
one_lap_without_a_store(struct fixture *f, uint32_t bytes, bool short_way)
{
	assert_int_equal(mprotect(f->d.used + PAGE, PAGE, PROT_READ), 0);
	one_lap(f, bytes, short_way);
	assert_int_equal(mprotect(f->d.used + PAGE, PAGE, PROT_READ | PROT_WRITE), 0);
}

/* Of a driver that has the same requests in the same places, lap after lap. */
static void
used_entries_that_stay_are_not_stored(void **state)
{
	struct fixture f;

	(void)state;
	begin(&f, 0, TALL);
	/* The first burst takes another way. */
	one_lap(&f, 1, false);
	for (unsigned int short_way = 0; short_way < 2; short_way++) {
		one_lap(&f, 100 + short_way, short_way != 0);
		one_lap_without_a_store(&f, 100 + short_way, short_way != 0);
		one_lap_without_a_store(&f, 100 + short_way, short_way != 0);
		one_lap(&f, 200 + short_way, short_way != 0);
		one_lap_without_a_store(&f, 200 + short_way, short_way != 0);
	}
	end(&f);
}

/*
 * One burst of four, in which entry `changed` has another length, or, with `swap`, changes places with the
 * next one; NOTHING does else.
 */
#define NOTHING 4u

static void
burst_of_four(struct fixture *f, unsigned int changed, bool swap)
{
	struct vhub_chain *chains[4], *chain;
	struct token *t[4];
	uint16_t n = 0;

	for (unsigned int i = 0; i < 4; i++)
		assert_non_null(add(f, 1, false));
	while (n < 4)
		n = (uint16_t)(n + vhub_virtq_pop(f->vq, chains + n, (uint16_t)(4 - n)));
	if (changed != NOTHING && swap) {
		chain = chains[changed];
		chains[changed] = chains[(changed + 1) % 4];
		chains[(changed + 1) % 4] = chain;
	}
	for (unsigned int i = 0; i < 4; i++) {
		chains[i]->used_bytes = i == changed && !swap ? 101 : 100;
		t[i] = driver_token(&f->d, chains[i]);
		t[i]->used_len = chains[i]->used_bytes;
	}
	vhub_virtq_push(f->vq, chains, 4);
	for (unsigned int i = 0; i < 4; i++)
		assert_ptr_equal(driver_reap(&f->d), t[i]);
	assert_null(driver_reap(&f->d));
}

/* Each 17th burst has a change, long enough for the ring to look again; among them the one round the end. */
static void
one_used_entry_that_changes_is_stored(void **state)
{
	struct vhub_chain *chain;
	struct fixture f;

	(void)state;
	begin(&f, 0, TALL);
	assert_non_null(add(&f, 1, false));
	assert_int_equal(vhub_virtq_pop(f.vq, &chain, 1), 1);
	vhub_virtq_push(f.vq, &chain, 1);
	assert_non_null(driver_reap(&f.d));
	for (unsigned int lap = 0; lap < 16; lap++) {
		for (unsigned int i = 0; i < TALL / 4; i++)
			burst_of_four(&f, lap != 0 && i % 17 == 0 ? (i / 17 + lap) % 4 : NOTHING,
					lap >= 8);
	}
	end(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(layouts_are_those_of_the_specification),
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(every_request_has_its_own_bytes),
		cmocka_unit_test(the_largest_ring_fills_and_empties),
		cmocka_unit_test(bases_come_back_as_they_were_given),
		cmocka_unit_test(base_of_a_split_ring_with_chains_held),
		cmocka_unit_test(base_of_a_packed_ring_has_both_indexes),
		cmocka_unit_test(a_burst_is_as_long_as_asked_for),
		cmocka_unit_test(long_chains_wait_for_each_other),
		cmocka_unit_test(in_order_even_when_completed_backwards),
		cmocka_unit_test(memory_moves_under_a_running_ring),
		cmocka_unit_test(used_entries_that_stay_are_not_stored),
		cmocka_unit_test(one_used_entry_that_changes_is_stored),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
