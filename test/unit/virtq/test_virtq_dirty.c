/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The dirty log has the pages that were written and no others: against a comparison of guest memory
 * before and after, for what the ring writes itself, and against plain arithmetic for what the
 * device says it wrote.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "guest.h"

#define PAGE 4096u
#define LOG_BYTES ((GUEST_TOP_GPA + 0x100000) / PAGE / 8)
#define ELSEWHERE (GUEST_TOP_GPA + 0x5000)

struct fixture {
	struct guest g;
	struct driver d;
	struct vhub_virtq *vq;
	struct vhub_dirty_log log;
	uint8_t *expected;
	uint8_t *before; /* the ring area */
};

static const uint64_t kinds[] = { 0, F_EVENT_IDX, F_IN_ORDER | F_INDIRECT, F_PACKED,
	F_PACKED | F_EVENT_IDX | F_INDIRECT };
#define N_KINDS (sizeof(kinds) / sizeof(*kinds))

static void
begin(struct fixture *f, uint64_t features, uint32_t size)
{
	memset(f, 0, sizeof(*f));
	guest_init(&f->g);
	driver_init(&f->d, &f->g, features | F_VERSION_1, size);
	f->log.refs = 1;
	f->log.size_bytes = LOG_BYTES;
	f->log.bits = calloc(1, LOG_BYTES);
	f->expected = calloc(1, LOG_BYTES);
	f->before = malloc(RING_BYTES);
	assert_true(f->log.bits != NULL && f->expected != NULL && f->before != NULL);
}

static void
make(struct fixture *f, bool logging, bool log_used, uint64_t used_log_gpa)
{
	struct vhub_virtq_config config = driver_config(&f->d);

	config.log = logging ? &f->log : NULL;
	config.log_used = log_used;
	config.used_log_gpa = used_log_gpa;
	f->vq = virtq_make(&config);
}

static void
end(struct fixture *f)
{
	vhub_virtq_destroy(f->vq);
	assert_int_equal(f->log.refs, 1);
	driver_fini(&f->d);
	guest_fini(&f->g);
	free(f->log.bits);
	free(f->expected);
	free(f->before);
}

/* Where front ends let log_guest_addr point. */
static uint64_t
log_gpa(const struct fixture *f)
{
	return f->d.packed ? f->d.desc_gpa : f->d.used_gpa;
}

static void
expect_bytes(struct fixture *f, uint64_t gpa, uint64_t len)
{
	for (uint64_t at = gpa; at < gpa + len; at++)
		f->expected[at / PAGE / 8] |= (uint8_t)(1 << at / PAGE % 8);
}

static void
remember_ring(struct fixture *f)
{
	memcpy(f->before, guest_hva(&f->g, RING_GPA), f->d.table_gpa - RING_GPA);
}

/* Every byte that changed in the ring area, moved as the ring is. */
static void
expect_changes(struct fixture *f, int64_t offset)
{
	const uint8_t *now = guest_hva(&f->g, RING_GPA);

	for (uint64_t i = 0; i < f->d.table_gpa - RING_GPA; i++) {
		if (now[i] != f->before[i])
			expect_bytes(f, RING_GPA + i + (uint64_t)offset, 1);
	}
}

static void
expect_log(struct fixture *f)
{
	assert_memory_equal(f->log.bits, f->expected, LOG_BYTES);
	memset(f->log.bits, 0, LOG_BYTES);
	memset(f->expected, 0, LOG_BYTES);
}

static void
expect_data(struct fixture *f, const struct token *t, uint32_t used)
{
	for (unsigned int i = 0; i < t->n && used != 0; i++) {
		const uint32_t here = t->pieces[i].len < used ? t->pieces[i].len : used;

		if (!t->pieces[i].write)
			continue;
		expect_bytes(f, t->pieces[i].gpa, here);
		used -= here;
	}
}

/* Offers up to ten requests, completes them in one push, with the log as `data` says. */
static void
round_trip(struct fixture *f, struct rnd *r, bool data)
{
	struct vhub_chain *chains[VHUB_VIRTQ_BURST];
	struct piece pieces[8];
	uint16_t n;

	for (unsigned int i = rnd_below(r, 10); i != UINT32_MAX; i--)
		driver_add(&f->d, pieces, driver_random_pieces(r, pieces, 8),
				(f->d.features & F_INDIRECT) != 0);
	remember_ring(f);
	n = vhub_virtq_pop(f->vq, chains, VHUB_VIRTQ_BURST);
	for (uint16_t i = 0; i < n; i++) {
		chains[i]->used_bytes = rnd_below(r, chains[i]->in_bytes + 1);
		if (data)
			expect_data(f, driver_token(&f->d, chains[i]), chains[i]->used_bytes);
	}
	vhub_virtq_push(f->vq, chains, n);
}

static void
reap_all(struct fixture *f)
{
	while (driver_reap(&f->d) != NULL)
		;
	assert_int_equal(f->d.n_out, 0);
}

static void
what_is_written_is_marked_and_nothing_else(void **state)
{
	struct fixture f;
	struct rnd r;

	(void)state;
	rnd_init(&r, "dirty", 77);
	for (unsigned int k = 0; k < N_KINDS; k++) {
		begin(&f, kinds[k], 1024);
		make(&f, true, true, log_gpa(&f));
		for (unsigned int i = 0; i < 150; i++) {
			round_trip(&f, &r, true);
			expect_changes(&f, 0);
			expect_log(&f);
			reap_all(&f);
		}
		end(&f);
	}
}

/* Entries at the end of the used ring and on several pages of its beginning, with one push. */
static void
a_burst_over_many_pages(void **state)
{
	const uint64_t kinds_here[] = { 0, F_PACKED };
	const uint16_t size = 2048, start = 2000, n = 1600;
	const struct piece piece = { LOW_GPA, 64, false };
	struct vhub_chain *chains[1600];
	struct fixture f;
	uint16_t k;

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		begin(&f, kinds_here[i], size);
		driver_start_at(&f.d, start, 1);
		make(&f, true, true, log_gpa(&f));
		for (k = 0; k < n; k++)
			assert_non_null(driver_add(&f.d, &piece, 1, false));
		for (k = 0; k < n;)
			k = (uint16_t)(k + vhub_virtq_pop(f.vq, chains + k, VHUB_VIRTQ_BURST));
		memset(f.log.bits, 0, LOG_BYTES);
		vhub_virtq_push(f.vq, chains, n);
		for (k = 0; k < n; k++) {
			if (f.d.packed)
				expect_bytes(&f, f.d.desc_gpa + 16 * ((start + k) % size), 16);
			else
				expect_bytes(&f, f.d.used_gpa + 4 + 8 * ((start + k) % size), 8);
		}
		if (!f.d.packed)
			expect_bytes(&f, f.d.used_gpa + 2, 2);
		expect_log(&f);
		end(&f);
	}
}

/* The same entries in the same places, lap after lap: who stored them first may have had no log. */
static void
used_entries_that_stay_are_marked(void **state)
{
	const struct piece piece = { LOW_GPA, 64, false };
	struct vhub_chain *chain;
	struct fixture f;

	(void)state;
	begin(&f, 0, 1024);
	make(&f, true, true, log_gpa(&f));
	for (unsigned int k = 0; k < 3 * 1024; k++) {
		assert_non_null(driver_add(&f.d, &piece, 1, false));
		assert_int_equal(vhub_virtq_pop(f.vq, &chain, 1), 1);
		memset(f.log.bits, 0, LOG_BYTES);
		vhub_virtq_push(f.vq, &chain, 1);
		expect_bytes(&f, f.d.used_gpa + 4 + 8 * (k % 1024), 8);
		expect_bytes(&f, f.d.used_gpa + 2, 2);
		expect_log(&f);
		reap_all(&f);
	}
	end(&f);
}

static void
only_data_without_the_flag_of_the_ring(void **state)
{
	struct fixture f;
	struct rnd r;

	(void)state;
	rnd_init(&r, "dirty data", 78);
	for (unsigned int k = 0; k < N_KINDS; k++) {
		begin(&f, kinds[k], 64);
		make(&f, true, false, log_gpa(&f));
		for (unsigned int i = 0; i < 50; i++) {
			round_trip(&f, &r, true);
			expect_log(&f);
			reap_all(&f);
		}
		end(&f);
	}
}

static void
the_ring_is_marked_where_the_front_end_says(void **state)
{
	struct fixture f;
	struct rnd r;

	(void)state;
	rnd_init(&r, "dirty elsewhere", 79);
	for (unsigned int k = 0; k < N_KINDS; k++) {
		begin(&f, kinds[k], 256);
		make(&f, true, true, ELSEWHERE);
		/*
		 * The first look at the ring writes what we want of kicks: that has its own test.
		 */
		vhub_virtq_pop(f.vq, &(struct vhub_chain *){ NULL }, 1);
		memset(f.log.bits, 0, LOG_BYTES);
		for (unsigned int i = 0; i < 50; i++) {
			round_trip(&f, &r, true);
			expect_changes(&f, (int64_t)(ELSEWHERE - log_gpa(&f)));
			expect_log(&f);
			reap_all(&f);
		}
		end(&f);
	}
}

/* QEMU gives the address of the event suppression as a packed ring's log address. */
static void
packed_ring_logged_by_its_event_area(void **state)
{
	struct fixture f;
	struct rnd r;

	(void)state;
	rnd_init(&r, "dirty events", 80);
	begin(&f, F_PACKED, 1024);
	make(&f, true, true, f.d.used_gpa);
	for (unsigned int i = 0; i < 50; i++) {
		round_trip(&f, &r, true);
		expect_changes(&f, 0);
		expect_log(&f);
		reap_all(&f);
		remember_ring(&f);
		assert_int_equal(vhub_virtq_arm(f.vq), 0);
		vhub_virtq_disarm(f.vq);
		expect_bytes(&f, f.d.used_gpa, 4);
		expect_log(&f);
	}
	end(&f);
}

static void
asking_for_kicks_is_a_write_too(void **state)
{
	struct vhub_chain *chain;
	struct fixture f;

	(void)state;
	for (unsigned int k = 0; k < N_KINDS; k++) {
		uint64_t at;
		uint32_t len;

		begin(&f, kinds[k], 2048);
		make(&f, true, true, log_gpa(&f));
		at = f.d.used_gpa;
		len = f.d.packed ? 4 : 2;
		if (!f.d.packed && (kinds[k] & F_EVENT_IDX) != 0)
			at += 4 + 8 * (uint64_t)f.d.size;
		for (unsigned int i = 0; i < 3; i++) {
			if (i == 0)
				assert_int_equal(vhub_virtq_pop(f.vq, &chain, 1), 0);
			else if (i == 1)
				assert_int_equal(vhub_virtq_arm(f.vq), 0);
			else
				vhub_virtq_disarm(f.vq);
			expect_bytes(&f, at, len);
			expect_log(&f);
		}
		end(&f);
	}
}

static void
switched_on_and_off_while_it_runs(void **state)
{
	struct fixture f;
	struct rnd r;

	(void)state;
	rnd_init(&r, "dirty switch", 81);
	for (unsigned int k = 0; k < N_KINDS; k++) {
		begin(&f, kinds[k], 64);
		make(&f, false, false, 0);
		for (unsigned int i = 0; i < 30; i++) {
			round_trip(&f, &r, false);
			expect_log(&f);
			reap_all(&f);
			assert_null(vhub_virtq_set_log(f.vq, &f.log, true, log_gpa(&f)));
			assert_int_equal(f.log.refs, 2);
			round_trip(&f, &r, true);
			expect_changes(&f, 0);
			expect_log(&f);
			reap_all(&f);
			assert_ptr_equal(vhub_virtq_set_log(f.vq, NULL, false, 0), &f.log);
			vhub_dirty_log_put(&f.log);
		}
		end(&f);
	}
}

/* What was in flight when logging began is marked when it comes back. */
static void
in_flight_when_it_is_switched_on(void **state)
{
	const struct piece piece = { LOW_GPA + 100, 9000, true };
	struct vhub_chain *chain;
	struct fixture f;

	(void)state;
	for (unsigned int k = 0; k < N_KINDS; k++) {
		begin(&f, kinds[k], 8);
		make(&f, false, false, 0);
		assert_non_null(driver_add(&f.d, &piece, 1, false));
		assert_int_equal(vhub_virtq_pop(f.vq, &chain, 1), 1);
		assert_null(vhub_virtq_set_log(f.vq, &f.log, false, 0));
		chain->used_bytes = 9000;
		vhub_virtq_push(f.vq, &chain, 1);
		expect_bytes(&f, piece.gpa, piece.len);
		expect_log(&f);
		end(&f);
	}
}

/* A broken ring gives nothing back; what was written into its chains is in guest memory all the same. */
static void
what_a_broken_ring_drops_is_marked(void **state)
{
	const struct piece pieces[] = { { LOW_GPA + 100, 9000, true },
		{ LOW_GPA + 0x8000, 9000, true } };
	struct vhub_chain *chains[2];
	struct fixture f;

	(void)state;
	for (unsigned int k = 0; k < N_KINDS; k++) {
		begin(&f, kinds[k], 8);
		make(&f, true, false, 0);
		for (unsigned int i = 0; i < 2; i++)
			assert_non_null(driver_add(&f.d, &pieces[i], 1, false));
		assert_int_equal(vhub_virtq_pop(f.vq, chains, 2), 2);
		chains[0]->used_bytes = 5000;
		chains[1]->used_bytes = 9000;
		/* With IN_ORDER this one is kept for the other, until the ring breaks. */
		if ((kinds[k] & F_IN_ORDER) != 0)
			vhub_virtq_push(f.vq, &chains[1], 1);
		vhub_virtq_break(f.vq, VHUB_VIRTQ_BAD_REQUEST);
		vhub_virtq_push(f.vq, chains, (kinds[k] & F_IN_ORDER) != 0 ? 1 : 2);
		expect_bytes(&f, pieces[0].gpa, 5000);
		expect_bytes(&f, pieces[1].gpa, 9000);
		expect_log(&f);
		assert_int_equal(vhub_virtq_in_flight(f.vq), 0);
		end(&f);
	}
}

/*
 * A back end that is killed between giving back and marking leaves entries of the used side without a
 * mark. The one that goes on with the ring marks all of it: at once, or when it gets the log.
 */
static void
a_ring_that_is_resumed_is_marked_as_a_whole(void **state)
{
	/* Entries over several pages; with a region, and for rings that have none. */
	const uint64_t kinds_here[] = { 0, F_EVENT_IDX, F_PACKED };
	const uint16_t size = 2048;
	const struct piece piece = { LOW_GPA, 64, false };
	struct vhub_chain *chain;
	struct fixture f;

	(void)state;
	for (unsigned int i = 0; i < 3 * 2 * 2 * 2; i++) {
		const bool late = (i & 1) != 0, from_used = (i & 2) != 0, log_used = (i & 4) == 0;
		const bool packed = (kinds_here[i / 8] & F_PACKED) != 0;
		const uint64_t bytes = vhub_inflight_queue_bytes(size, packed);
		struct vhub_virtq_config config;
		void *region;

		begin(&f, kinds_here[i / 8], size);
		region = aligned_alloc(64, bytes);
		assert_non_null(region);
		memset(region, 0, bytes);
		config = driver_config(&f.d);
		config.inflight = from_used ? NULL : region;
		config.inflight_bytes = from_used ? 0 : bytes;
		f.vq = virtq_make(&config);
		assert_non_null(driver_add(&f.d, &piece, 1, false));
		assert_int_equal(vhub_virtq_pop(f.vq, &chain, 1), 1);
		vhub_virtq_push(f.vq, &chain, 1);
		/* It has not marked anything: to the next life that is as if it had been killed. */
		config.base = vhub_virtq_base(f.vq);
		vhub_virtq_destroy(f.vq);
		config.from_used = from_used;
		config.used_log_gpa = log_gpa(&f);
		if (!late) {
			config.log = &f.log;
			config.log_used = log_used;
		}
		f.vq = virtq_make(&config);
		if (late) {
			expect_log(&f);
			assert_null(vhub_virtq_set_log(f.vq, &f.log, log_used, log_gpa(&f)));
		}
		if (log_used && packed)
			expect_bytes(&f, f.d.desc_gpa, 16 * size);
		if (log_used && packed)
			expect_bytes(&f, f.d.used_gpa, 4);
		if (log_used && !packed)
			expect_bytes(&f, f.d.used_gpa,
					4 + 8 * size + (kinds_here[i / 8] != 0 ? 2 : 0));
		expect_log(&f);
		/* Once. */
		assert_ptr_equal(vhub_virtq_set_log(f.vq, &f.log, log_used, log_gpa(&f)), &f.log);
		vhub_dirty_log_put(&f.log);
		expect_log(&f);
		free(region);
		end(&f);
	}
}

/* Nobody was there before: nothing is marked. */
static void
a_fresh_ring_with_a_region_is_not_marked(void **state)
{
	struct fixture f;

	(void)state;
	for (unsigned int packed = 0; packed < 2; packed++) {
		const uint64_t bytes = vhub_inflight_queue_bytes(64, packed != 0);
		struct vhub_virtq_config config;
		void *region = aligned_alloc(64, bytes);

		assert_non_null(region);
		memset(region, 0, bytes);
		begin(&f, packed != 0 ? F_PACKED : 0, 64);
		config = driver_config(&f.d);
		config.inflight = region;
		config.inflight_bytes = bytes;
		config.log = &f.log;
		config.log_used = true;
		config.used_log_gpa = log_gpa(&f);
		f.vq = virtq_make(&config);
		expect_log(&f);
		free(region);
		end(&f);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_marked_and_nothing_else),
		cmocka_unit_test(a_burst_over_many_pages),
		cmocka_unit_test(used_entries_that_stay_are_marked),
		cmocka_unit_test(only_data_without_the_flag_of_the_ring),
		cmocka_unit_test(the_ring_is_marked_where_the_front_end_says),
		cmocka_unit_test(packed_ring_logged_by_its_event_area),
		cmocka_unit_test(asking_for_kicks_is_a_write_too),
		cmocka_unit_test(switched_on_and_off_while_it_runs),
		cmocka_unit_test(in_flight_when_it_is_switched_on),
		cmocka_unit_test(what_a_broken_ring_drops_is_marked),
		cmocka_unit_test(a_ring_that_is_resumed_is_marked_as_a_whole),
		cmocka_unit_test(a_fresh_ring_with_a_region_is_not_marked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
