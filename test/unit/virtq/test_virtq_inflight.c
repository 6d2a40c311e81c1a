/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inflight regions byte by byte: the published layout as others would read it, what a crashed back
 * end of any make can have left, and what a hostile front end can have written. That every state of
 * ours recovers is test_virtq_crash.c's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_common.h>

#include "guest.h"

#define SIZE 8u

/* The region seen from outside: fields at the offsets of the specification. */
struct view {
	uint8_t *at;
	bool packed;
};

static uint16_t
get16(const struct view *v, size_t offset)
{
	uint16_t value;

	memcpy(&value, v->at + offset, sizeof(value));
	return value;
}

static uint64_t
get64(const struct view *v, size_t offset)
{
	uint64_t value;

	memcpy(&value, v->at + offset, sizeof(value));
	return value;
}

static void
set16(struct view *v, size_t offset, uint16_t value)
{
	memcpy(v->at + offset, &value, sizeof(value));
}

static void
set64(struct view *v, size_t offset, uint64_t value)
{
	memcpy(v->at + offset, &value, sizeof(value));
}

#define VERSION 8
#define DESC_NUM 10
/* split */
#define LAST_BATCH_HEAD 12
#define USED_IDX 14
/* packed */
#define FREE_HEAD 12
#define OLD_FREE_HEAD 14
#define P_USED_IDX 16
#define P_OLD_USED_IDX 18
#define P_USED_WRAP 20
#define P_OLD_USED_WRAP 21
#define P_TURN_SLOTS 22

static size_t
entry(const struct view *v, unsigned int i, size_t offset)
{
	return (v->packed ? 32 + 32 * (size_t)i : 16 + 16 * (size_t)i) + offset;
}

/* Offsets in an entry. */
#define E_INFLIGHT 0
#define S_NEXT 6
#define S_COUNTER 8
#define P_NEXT 2
#define P_LAST 4
#define P_NUM 6
#define P_COUNTER 8
#define P_ID 16
#define P_FLAGS 18
#define P_LEN 20
#define P_ADDR 24

struct fixture {
	struct guest g;
	struct driver d;
	struct vhub_virtq_config config;
	struct vhub_virtq *vq;
	struct view v;
	struct vhub_chain *chains[VHUB_VIRTQ_BURST];
};

static void
begin(struct fixture *f, uint64_t features)
{
	const bool packed = (features & F_PACKED) != 0;
	const uint64_t bytes = vhub_inflight_queue_bytes(SIZE, packed);

	memset(f, 0, sizeof(*f));
	guest_init(&f->g);
	driver_init(&f->d, &f->g, features | F_VERSION_1 | F_INDIRECT, SIZE);
	f->v.at = aligned_alloc(64, bytes);
	f->v.packed = packed;
	assert_non_null(f->v.at);
	memset(f->v.at, 0, bytes);
	assert_int_equal(vhub_inflight_queue_init(f->v.at, bytes, SIZE, packed), 0);
	f->config = driver_config(&f->d);
	f->config.inflight = f->v.at;
	f->config.inflight_bytes = bytes;
}

static void
end(struct fixture *f)
{
	vhub_virtq_destroy(f->vq);
	driver_fini(&f->d);
	guest_fini(&f->g);
	free(f->v.at);
}

/* A chain of `n` writable pieces of 512 bytes. */
static struct token *
add(struct fixture *f, unsigned int n, bool indirect)
{
	struct piece pieces[SIZE];

	for (unsigned int i = 0; i < n; i++)
		pieces[i] = (struct piece){ LOW_GPA + 4096 * i, 512, true };
	return driver_add(&f->d, pieces, n, indirect);
}

static void
start(struct fixture *f)
{
	f->vq = virtq_make(&f->config);
}

static void
restart(struct fixture *f, uint32_t base)
{
	vhub_virtq_destroy(f->vq);
	f->vq = NULL;
	f->config.base = base;
	start(f);
}

static void
expect_refused(struct fixture *f, int error)
{
	struct vhub_virtq *vq = NULL;

	assert_int_equal(vhub_virtq_create(&f->config, &vq), error);
	assert_null(vq);
}

/* ---- layout ---- */

static void
sizes_are_multiples_of_64(void **state)
{
	(void)state;
	assert_int_equal(vhub_inflight_queue_bytes(1, false), 64);
	assert_int_equal(vhub_inflight_queue_bytes(3, false), 64);
	assert_int_equal(vhub_inflight_queue_bytes(4, false), 128);
	assert_int_equal(vhub_inflight_queue_bytes(128, false), 2112);
	assert_int_equal(vhub_inflight_queue_bytes(1, true), 64);
	assert_int_equal(vhub_inflight_queue_bytes(128, true), 4160);
	assert_int_equal(vhub_inflight_queue_bytes(32768, true), 32 + 32 * 32768 + 32);
}

static void
a_fresh_part_is_filled_and_a_used_one_left(void **state)
{
	struct fixture f;

	(void)state;
	begin(&f, 0);
	assert_int_equal(get64(&f.v, 0), 0);
	assert_int_equal(get16(&f.v, VERSION), 1);
	assert_int_equal(get16(&f.v, DESC_NUM), SIZE);
	set64(&f.v, entry(&f.v, 3, S_COUNTER), 99);
	assert_int_equal(vhub_inflight_queue_init(f.v.at, f.config.inflight_bytes, SIZE, false), 0);
	assert_int_equal(get64(&f.v, entry(&f.v, 3, S_COUNTER)), 99);
	/* For another size, or of another version: no. */
	assert_int_equal(vhub_inflight_queue_init(f.v.at, f.config.inflight_bytes, 4, false),
			-EINVAL);
	set16(&f.v, VERSION, 2);
	assert_int_equal(vhub_inflight_queue_init(f.v.at, f.config.inflight_bytes, SIZE, false),
			-EINVAL);
	end(&f);
	begin(&f, F_PACKED);
	assert_int_equal(get16(&f.v, VERSION), 1);
	assert_int_equal(get16(&f.v, DESC_NUM), SIZE);
	assert_int_equal(f.v.at[P_USED_WRAP], 1);
	assert_int_equal(f.v.at[P_OLD_USED_WRAP], 1);
	for (unsigned int i = 0; i < SIZE; i++)
		assert_int_equal(get16(&f.v, entry(&f.v, i, P_NEXT)), i + 1);
	end(&f);
}

static void
parts_too_small_or_askew_are_refused(void **state)
{
	static uint8_t part[4096] __attribute__((aligned(64)));

	(void)state;
	assert_int_equal(vhub_inflight_queue_init(part, 63, 1, false), -EINVAL);
	assert_int_equal(vhub_inflight_queue_init(part + 4, 1024, 1, false), -EINVAL);
	assert_int_equal(vhub_inflight_queue_init(part, 4096, 0, false), -EINVAL);
	assert_int_equal(vhub_inflight_queue_init(part, 4096, 32769, false), -EINVAL);
	assert_int_equal(vhub_inflight_queue_init(NULL, 4096, 1, false), -EINVAL);
}

static void
split_region_shows_what_is_in_flight(void **state)
{
	struct fixture f;
	struct token *t[3];
	uint64_t counter = 0;

	(void)state;
	begin(&f, 0);
	for (unsigned int i = 0; i < 3; i++)
		t[i] = add(&f, 2, i == 1);
	start(&f);
	assert_int_equal(vhub_virtq_pop(f.vq, f.chains, 3), 3);
	vhub_virtq_note(f.vq);
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(f.v.at[entry(&f.v, t[i]->id, E_INFLIGHT)], 1);
		assert_true(get64(&f.v, entry(&f.v, t[i]->id, S_COUNTER)) > counter);
		counter = get64(&f.v, entry(&f.v, t[i]->id, S_COUNTER));
	}
	vhub_virtq_push(f.vq, (struct vhub_chain *[]){ f.chains[2], f.chains[0] }, 2);
	assert_int_equal(f.v.at[entry(&f.v, t[0]->id, E_INFLIGHT)], 0);
	assert_int_equal(f.v.at[entry(&f.v, t[1]->id, E_INFLIGHT)], 1);
	assert_int_equal(f.v.at[entry(&f.v, t[2]->id, E_INFLIGHT)], 0);
	assert_int_equal(get16(&f.v, LAST_BATCH_HEAD), t[0]->id);
	assert_int_equal(get16(&f.v, entry(&f.v, t[0]->id, S_NEXT)), t[2]->id);
	assert_int_equal(get16(&f.v, USED_IDX), 2);
	end(&f);
}

static void
packed_region_shows_what_is_in_flight(void **state)
{
	struct fixture f;
	struct token *t[2];
	uint32_t len;
	unsigned int head, at;

	(void)state;
	begin(&f, F_PACKED);
	t[0] = add(&f, 3, false);
	t[1] = add(&f, 4, true);
	start(&f);
	assert_int_equal(vhub_virtq_pop(f.vq, f.chains, 2), 2);
	vhub_virtq_note(f.vq);
	/* The first takes the first three entries, the second the next one. */
	assert_int_equal(f.v.at[entry(&f.v, 0, E_INFLIGHT)], 1);
	assert_int_equal(get16(&f.v, entry(&f.v, 0, P_NUM)), 3);
	assert_int_equal(get16(&f.v, entry(&f.v, 0, P_LAST)), 2);
	for (head = 0, at = 0; head < 3; head++, at = get16(&f.v, entry(&f.v, at, P_NEXT))) {
		assert_int_equal(get64(&f.v, entry(&f.v, at, P_ADDR)), LOW_GPA + 4096 * head);
		memcpy(&len, f.v.at + entry(&f.v, at, P_LEN), 4);
		assert_int_equal(len, 512);
		assert_int_equal(get16(&f.v, entry(&f.v, at, P_FLAGS)),
				D_WRITE | D_AVAIL | (head < 2 ? D_NEXT : 0));
	}
	assert_int_equal(get16(&f.v, entry(&f.v, 2, P_ID)), t[0]->id);
	assert_int_equal(get16(&f.v, entry(&f.v, 3, P_NUM)), 1);
	assert_true(get64(&f.v, entry(&f.v, 3, P_COUNTER)) >
			get64(&f.v, entry(&f.v, 0, P_COUNTER)));
	assert_int_equal(get16(&f.v, FREE_HEAD), 4);
	assert_int_equal(get16(&f.v, OLD_FREE_HEAD), 4);
	vhub_virtq_push(f.vq, f.chains, 2);
	assert_int_equal(f.v.at[entry(&f.v, 0, E_INFLIGHT)], 0);
	assert_int_equal(f.v.at[entry(&f.v, 3, E_INFLIGHT)], 0);
	/* Freed in the order of the push: 3, then 0 to 2, then the rest. */
	assert_int_equal(get16(&f.v, FREE_HEAD), 3);
	assert_int_equal(get16(&f.v, OLD_FREE_HEAD), 3);
	assert_int_equal(get16(&f.v, entry(&f.v, 3, P_NEXT)), 0);
	assert_int_equal(get16(&f.v, entry(&f.v, 2, P_NEXT)), 4);
	assert_int_equal(get16(&f.v, P_USED_IDX), 4);
	assert_int_equal(get16(&f.v, P_OLD_USED_IDX), 4);
	end(&f);
}

/* What is pushed in the turn that took it need not be told of. */
static void
a_turn_leaves_nothing_behind(void **state)
{
	struct fixture f;

	(void)state;
	for (int packed = 0; packed < 2; packed++) {
		begin(&f, packed != 0 ? F_PACKED : 0);
		add(&f, 2, false);
		add(&f, 1, false);
		add(&f, 2, true);
		start(&f);
		assert_int_equal(vhub_virtq_pop(f.vq, f.chains, 3), 3);
		vhub_virtq_push(f.vq, f.chains, 3);
		vhub_virtq_note(f.vq);
		for (unsigned int i = 0; i < SIZE; i++)
			assert_int_equal(f.v.at[entry(&f.v, i, E_INFLIGHT)], 0);
		if (packed == 0) {
			assert_int_equal(get16(&f.v, USED_IDX), 3);
		} else {
			assert_int_equal(get16(&f.v, P_USED_IDX), 4);
			assert_int_equal(get16(&f.v, P_OLD_USED_IDX), 4);
			assert_int_equal(get16(&f.v, FREE_HEAD), 0);
			assert_int_equal(get16(&f.v, OLD_FREE_HEAD), 0);
		}
		/* What stays is told of before others overtake it. */
		add(&f, 1, false);
		add(&f, 1, false);
		assert_int_equal(vhub_virtq_pop(f.vq, f.chains, 3), 2);
		vhub_virtq_push(f.vq, &f.chains[1], 1);
		assert_int_equal(f.v.at[entry(&f.v, packed != 0 ? 0 : f.chains[0]->id, E_INFLIGHT)],
				1);
		for (unsigned int i = 0; i < 4; i++)
			assert_non_null(driver_reap(&f.d));
		end(&f);
	}
}

/*
 * A run of chains of which the region was not told has been given back as far as its first one, or its
 * second: a restarted ring finds the others available. What the region says of the run makes sense, or
 * the ring is refused.
 */
static void
a_packed_run_goes_on_where_it_ended(void **state)
{
	struct token *t[3];
	struct fixture f;
	uint8_t ring[SIZE * 16];

	(void)state;
	for (unsigned int n = 1; n < 3; n++) {
		begin(&f, F_PACKED);
		for (unsigned int i = 0; i < 3; i++)
			t[i] = add(&f, 2, false);
		memcpy(ring, f.config.desc, sizeof(ring));
		start(&f);
		assert_int_equal(vhub_virtq_pop(f.vq, f.chains, 3), 3);
		vhub_virtq_push(f.vq, f.chains, 3);
		memcpy((uint8_t *)f.config.desc + n * 32, ring + n * 32, sizeof(ring) - n * 32);
		set16(&f.v, P_OLD_USED_IDX, 0);
		set16(&f.v, P_TURN_SLOTS, 4);
		expect_refused(&f, -EPROTO);
		set16(&f.v, P_TURN_SLOTS, SIZE + 2);
		expect_refused(&f, -EPROTO);
		set16(&f.v, P_TURN_SLOTS, 2);
		set16(&f.v, P_USED_IDX, 5);
		expect_refused(&f, -EPROTO);
		set16(&f.v, P_USED_IDX, 6);
		f.v.at[P_USED_WRAP] ^= 1;
		expect_refused(&f, -EPROTO);
		f.v.at[P_USED_WRAP] ^= 1;
		restart(&f, 0x80008000);
		assert_int_equal(get16(&f.v, P_USED_IDX), 2 * n);
		assert_int_equal(get16(&f.v, P_OLD_USED_IDX), 2 * n);
		assert_int_equal(get16(&f.v, P_TURN_SLOTS), 0);
		assert_int_equal(vhub_virtq_pop(f.vq, f.chains, 4), 3 - n);
		for (unsigned int i = n; i < 3; i++)
			driver_check_chain(&f.d, t[i], f.chains[i - n]);
		end(&f);
	}
}

/*
 * Another make's update, of which entries tell or lists that differ, is settled as such, whatever a run
 * of ours has left: here it has reached the guest as a whole, though half of it looks available.
 */
static void
what_a_run_has_left_counts_for_nobody_else(void **state)
{
	struct fixture f;
	uint8_t ring[SIZE * 16];

	(void)state;
	for (unsigned int kind = 0; kind < 2; kind++) {
		begin(&f, F_PACKED);
		add(&f, 2, false);
		add(&f, 2, false);
		memcpy(ring, f.config.desc, sizeof(ring));
		start(&f);
		assert_int_equal(vhub_virtq_pop(f.vq, f.chains, 2), 2);
		vhub_virtq_note(f.vq);
		vhub_virtq_push(f.vq, f.chains, 2);
		memcpy((uint8_t *)f.config.desc + 32, ring + 32, sizeof(ring) - 32);
		set16(&f.v, P_OLD_USED_IDX, 0);
		set16(&f.v, P_TURN_SLOTS, 2);
		if (kind == 0)
			set16(&f.v, OLD_FREE_HEAD, get16(&f.v, FREE_HEAD) ^ 1);
		else
			f.v.at[entry(&f.v, get16(&f.v, FREE_HEAD), E_INFLIGHT)] = 1;
		restart(&f, 0x80008000);
		assert_int_equal(get16(&f.v, P_USED_IDX), 4);
		end(&f);
	}
}

/* Chains that come back in another order are told of before they are given back. */
static void
a_turned_packed_burst_is_told_of(void **state)
{
	struct vhub_chain *first;
	struct fixture f;

	(void)state;
	begin(&f, F_PACKED);
	add(&f, 1, false);
	add(&f, 1, false);
	start(&f);
	assert_int_equal(vhub_virtq_pop(f.vq, f.chains, 2), 2);
	first = f.chains[0];
	f.chains[0] = f.chains[1];
	f.chains[1] = first;
	vhub_virtq_push(f.vq, f.chains, 2);
	/* They had entries, which went back to the free list. */
	assert_int_not_equal(get64(&f.v, entry(&f.v, 0, P_COUNTER)), 0);
	assert_int_equal(f.v.at[entry(&f.v, 0, E_INFLIGHT)], 0);
	assert_int_equal(get16(&f.v, P_USED_IDX), 2);
	assert_int_equal(get16(&f.v, P_OLD_USED_IDX), 2);
	end(&f);
}

/* ---- resuming ---- */

static void
counters_go_on_above_the_highest(void **state)
{
	struct fixture f;
	struct token *t;

	(void)state;
	for (int packed = 0; packed < 2; packed++) {
		begin(&f, packed != 0 ? F_PACKED : 0);
		/* Of an entry that is not in flight, too. */
		set64(&f.v, entry(&f.v, 5, S_COUNTER), UINT64_C(1) << 40);
		t = add(&f, 1, false);
		start(&f);
		assert_int_equal(vhub_virtq_pop(f.vq, f.chains, 1), 1);
		vhub_virtq_note(f.vq);
		assert_int_equal(get64(&f.v, entry(&f.v, packed != 0 ? 0 : t->id, S_COUNTER)),
				(UINT64_C(1) << 40) + 1);
		end(&f);
	}
}

static void
replay_comes_in_the_order_of_counters(void **state)
{
	struct vhub_virtq_stats stats;
	struct token *t[4];
	struct fixture f;

	(void)state;
	begin(&f, 0);
	for (unsigned int i = 0; i < 4; i++)
		t[i] = add(&f, 1, false);
	for (unsigned int i = 0; i < 3; i++) {
		const uint64_t counters[] = { 30, 10, UINT64_C(0x100000000) };

		f.v.at[entry(&f.v, t[i]->id, E_INFLIGHT)] = 1;
		set64(&f.v, entry(&f.v, t[i]->id, S_COUNTER), counters[i]);
	}
	start(&f);
	assert_int_equal(vhub_virtq_in_flight(f.vq), 0);
	assert_true(vhub_virtq_has_work(f.vq));
	assert_int_equal(vhub_virtq_arm(f.vq), -EAGAIN);
	assert_int_equal(vhub_virtq_base(f.vq), 0);
	assert_int_equal(vhub_virtq_pop(f.vq, f.chains, 2), 2);
	assert_int_equal(f.chains[0]->id, t[1]->id);
	assert_int_equal(f.chains[1]->id, t[0]->id);
	assert_int_equal(vhub_virtq_in_flight(f.vq), 2);
	assert_int_equal(vhub_virtq_pop(f.vq, f.chains + 2, 2), 1);
	assert_int_equal(f.chains[2]->id, t[2]->id);
	assert_int_equal(vhub_virtq_pop(f.vq, f.chains + 3, 2), 1);
	assert_int_equal(f.chains[3]->id, t[3]->id);
	vhub_virtq_get_stats(f.vq, &stats);
	assert_int_equal(stats.resubmitted, 3);
	assert_int_equal(stats.chains, 4);
	vhub_virtq_push(f.vq, f.chains, 4);
	for (unsigned int i = 0; i < 4; i++)
		assert_non_null(driver_reap(&f.d));
	end(&f);
}

/*
 * The ring stopped in good order and its index was set anew: a region with nothing in flight is no
 * hindrance.
 */
static void
split_ring_set_up_anew_with_an_old_region(void **state)
{
	struct token *t;
	struct fixture f;

	(void)state;
	begin(&f, 0);
	set16(&f.v, USED_IDX, 12345);
	set16(&f.v, LAST_BATCH_HEAD, 77);
	t = add(&f, 1, false);
	start(&f);
	assert_int_equal(get16(&f.v, USED_IDX), 0);
	assert_int_equal(vhub_virtq_pop(f.vq, f.chains, 2), 1);
	assert_int_equal(f.chains[0]->id, t->id);
	end(&f);
}

/*
 * Nobody has used it: then it knows nothing of where the ring is, and the base does (a migration's
 * other end).
 */
static void
a_fresh_packed_region_takes_the_base(void **state)
{
	struct token *t;
	struct fixture f;

	(void)state;
	begin(&f, F_PACKED);
	driver_start_at(&f.d, 5, 0);
	f.config.base = driver_base(&f.d);
	t = add(&f, 3, false);
	start(&f);
	assert_int_equal(get16(&f.v, P_USED_IDX), 5);
	assert_int_equal(get16(&f.v, P_OLD_USED_IDX), 5);
	assert_int_equal(f.v.at[P_USED_WRAP], 0);
	assert_int_equal(vhub_virtq_pop(f.vq, f.chains, 2), 1);
	driver_check_chain(&f.d, t, f.chains[0]);
	vhub_virtq_push(f.vq, f.chains, 1);
	assert_ptr_equal(driver_reap(&f.d), t);
	/* From then on the region knows better than a front end that has seen a crash. */
	t = add(&f, 2, false);
	restart(&f, 0x80008000);
	assert_int_equal(vhub_virtq_base(f.vq), driver_base(&f.d));
	assert_int_equal(vhub_virtq_pop(f.vq, f.chains, 2), 1);
	driver_check_chain(&f.d, t, f.chains[0]);
	end(&f);
}

static void
a_part_that_nobody_prepared_is_prepared(void **state)
{
	struct fixture f;

	(void)state;
	for (int packed = 0; packed < 2; packed++) {
		begin(&f, packed != 0 ? F_PACKED : 0);
		memset(f.v.at, 0, f.config.inflight_bytes);
		add(&f, 1, false);
		start(&f);
		assert_int_equal(get16(&f.v, VERSION), 1);
		assert_int_equal(get16(&f.v, DESC_NUM), SIZE);
		assert_int_equal(vhub_virtq_pop(f.vq, f.chains, 2), 1);
		end(&f);
	}
}

/* A ring smaller than its region, as a guest may make it. */
static void
a_region_larger_than_the_ring(void **state)
{
	struct token *t[2];
	struct fixture f;
	uint64_t bytes;

	(void)state;
	for (int packed = 0; packed < 2; packed++) {
		begin(&f, packed != 0 ? F_PACKED : 0);
		free(f.v.at);
		bytes = vhub_inflight_queue_bytes(4 * SIZE, packed != 0);
		f.v.at = aligned_alloc(64, bytes);
		assert_non_null(f.v.at);
		memset(f.v.at, 0, bytes);
		assert_int_equal(vhub_inflight_queue_init(f.v.at, bytes, 4 * SIZE, packed != 0), 0);
		f.config.inflight = f.v.at;
		f.config.inflight_bytes = bytes;
		start(&f);
		for (unsigned int i = 0; i < 50; i++) {
			t[0] = add(&f, 3, false);
			t[1] = add(&f, 2, false);
			assert_int_equal(vhub_virtq_pop(f.vq, f.chains, 2), 2);
			restart(&f, packed != 0 ? 0 : f.d.used_idx);
			assert_int_equal(vhub_virtq_pop(f.vq, f.chains, 2), 2);
			driver_check_chain(&f.d, t[0], f.chains[0]);
			driver_check_chain(&f.d, t[1], f.chains[1]);
			vhub_virtq_push(f.vq, f.chains, 2);
			assert_ptr_equal(driver_reap(&f.d), t[0]);
			assert_ptr_equal(driver_reap(&f.d), t[1]);
		}
		end(&f);
	}
}

/*
 * The first call of a resumed ring is made at its first look: the former life may have died before
 * its own.
 */
static void
a_resumed_ring_gives_back_what_was_used_before(void **state)
{
	struct fixture f;
	struct token *t;

	(void)state;
	begin(&f, 0);
	t = add(&f, 1, false);
	start(&f);
	assert_int_equal(vhub_virtq_pop(f.vq, f.chains, 1), 1);
	vhub_virtq_push(f.vq, f.chains, 1);
	restart(&f, 1);
	assert_int_equal(vhub_virtq_pop(f.vq, f.chains, 1), 0);
	assert_ptr_equal(driver_reap(&f.d), t);
	assert_null(driver_reap(&f.d));
	end(&f);
}

/* ---- rings that stop with something in flight ---- */

/* Five are taken, the second and the fourth pushed; the others are left, whatever IN_ORDER keeps too. */
static void
leave_three(struct fixture *f, struct token **t, bool in_order)
{
	start(f);
	for (unsigned int i = 0; i < 5; i++)
		t[i] = add(f, 1, i == 2);
	assert_int_equal(vhub_virtq_pop(f->vq, f->chains, 5), 5);
	assert_int_equal(vhub_virtq_under_way(f->vq), 5);
	vhub_virtq_push(f->vq, (struct vhub_chain *[]){ f->chains[3], f->chains[1] }, 2);
	assert_int_equal(vhub_virtq_under_way(f->vq), 3);
	vhub_virtq_leave(f->vq, (struct vhub_chain *[]){ f->chains[4], f->chains[0] }, 2);
	assert_int_equal(vhub_virtq_under_way(f->vq), 1);
	vhub_virtq_leave(f->vq, &f->chains[2], 1);
	assert_int_equal(vhub_virtq_under_way(f->vq), 0);
	assert_int_equal(vhub_virtq_in_flight(f->vq), in_order ? 5 : 3);
	if (!in_order) {
		assert_ptr_equal(driver_reap(&f->d), t[3]);
		assert_ptr_equal(driver_reap(&f->d), t[1]);
	}
	assert_null(driver_reap(&f->d));
}

/* The base of a split ring may count what is in flight or not; of a packed one it is not looked at. */
static void
what_was_left_is_found_by_the_next_life(void **state)
{
	static const uint64_t features[] = { 0, F_IN_ORDER, F_PACKED, F_PACKED | F_IN_ORDER };
	struct fixture f;
	struct token *t[6];

	(void)state;
	for (unsigned int i = 0; i < 2 * RTE_DIM(features); i++) {
		const bool in_order = (features[i / 2] & F_IN_ORDER) != 0;
		const bool packed = (features[i / 2] & F_PACKED) != 0;
		const uint16_t n = in_order ? 5 : 3;
		uint32_t base;

		begin(&f, features[i / 2]);
		leave_three(&f, t, in_order);
		assert_true(vhub_virtq_has_inflight(f.vq));
		base = vhub_virtq_base(f.vq);
		if (!packed) {
			assert_int_equal(base, f.d.used_idx);
			base += i % 2 == 0 ? 0 : n;
		}
		restart(&f, base);
		t[5] = add(&f, 1, false);
		assert_int_equal(vhub_virtq_to_replay(f.vq), n);
		assert_int_equal(vhub_virtq_pop(f.vq, f.chains, 5), n);
		for (unsigned int k = 0, at = 0; k < 5; k++) {
			if (in_order || k % 2 == 0)
				driver_check_chain(&f.d, t[k], f.chains[at++]);
		}
		assert_int_equal(vhub_virtq_pop(f.vq, f.chains + n, 5), 1);
		driver_check_chain(&f.d, t[5], f.chains[n]);
		vhub_virtq_push(f.vq, f.chains, (uint16_t)(n + 1));
		for (unsigned int k = 0; k < n + 1u; k++)
			assert_non_null(driver_reap(&f.d));
		assert_null(driver_reap(&f.d));
		end(&f);
	}
}

/* ---- regions that make no sense ---- */

/* They may have read zeros in the place of what the guest wrote: it hears of none of them. */
static void
what_met_lost_memory_is_found_by_the_next_life(void **state)
{
	const struct token *t[3];
	uint32_t faulted;
	struct fixture f;

	(void)state;
	for (int packed = 0; packed < 2; packed++) {
		begin(&f, packed != 0 ? F_PACKED : 0);
		f.config.faulted = &faulted;
		faulted = 0;
		for (unsigned int i = 0; i < 3; i++)
			t[i] = add(&f, i + 1, false);
		start(&f);
		assert_int_equal(vhub_virtq_pop(f.vq, f.chains, 2), 2);
		vhub_virtq_note(f.vq);
		assert_int_equal(vhub_virtq_pop(f.vq, f.chains + 2, 1), 1);
		faulted = VHUB_MEM_FAULTED;
		vhub_virtq_push(f.vq, f.chains, 3);
		assert_int_equal(vhub_virtq_broken(f.vq), VHUB_VIRTQ_MEMORY_LOST);
		assert_int_equal(vhub_virtq_in_flight(f.vq), 0);
		assert_null(driver_reap(&f.d));
		faulted = 0;
		restart(&f, f.config.base);
		assert_int_equal(vhub_virtq_pop(f.vq, f.chains, 3), 2);
		assert_int_equal(vhub_virtq_pop(f.vq, f.chains + 2, 1), 1);
		vhub_virtq_push(f.vq, f.chains, 3);
		assert_int_equal(vhub_virtq_broken(f.vq), VHUB_VIRTQ_OK);
		for (unsigned int i = 0; i < 3; i++)
			assert_ptr_equal(driver_reap(&f.d), t[i]);
		end(&f);
	}
}

static void
split_regions_of_nonsense(void **state)
{
	struct fixture f;

	(void)state;
	begin(&f, 0);
#define SPLIT_REFUSED(change) \
	do { \
		memset(f.v.at, 0, f.config.inflight_bytes); \
		assert_int_equal(vhub_inflight_queue_init(f.v.at, f.config.inflight_bytes, SIZE, \
						 false), \
				0); \
		change; \
		expect_refused(&f, -EPROTO); \
	} while (0)
	SPLIT_REFUSED(set16(&f.v, VERSION, 2));
	SPLIT_REFUSED(set64(&f.v, 0, 1));
	SPLIT_REFUSED(set16(&f.v, DESC_NUM, SIZE - 1));
	SPLIT_REFUSED(set16(&f.v, DESC_NUM, SIZE * 2));
	SPLIT_REFUSED(set16(&f.v, DESC_NUM, 0xffff));
	/* The last batch: larger than the ring; or with a list that leaves the region. */
	SPLIT_REFUSED(f.v.at[entry(&f.v, 1, E_INFLIGHT)] = 1;
			set16(&f.v, USED_IDX, (uint16_t)(0 - SIZE - 1)));
	SPLIT_REFUSED(f.v.at[entry(&f.v, 1, E_INFLIGHT)] = 1; set16(&f.v, USED_IDX, 0xffff);
			set16(&f.v, LAST_BATCH_HEAD, SIZE + 5));
	SPLIT_REFUSED(f.v.at[entry(&f.v, 1, E_INFLIGHT)] = 1; set16(&f.v, USED_IDX, 0xfffe);
			set16(&f.v, entry(&f.v, 0, S_NEXT), 0xffff));
	/* Two of one age, or of the last one there is. */
	SPLIT_REFUSED(f.v.at[entry(&f.v, 1, E_INFLIGHT)] = 1;
			f.v.at[entry(&f.v, 2, E_INFLIGHT)] = 1);
	SPLIT_REFUSED(set64(&f.v, entry(&f.v, 1, S_COUNTER), UINT64_MAX));
	f.config.inflight_bytes = 64;
	expect_refused(&f, -EPROTO);
	f.config.inflight_bytes = 1024;
	f.config.inflight = f.v.at + 4;
	expect_refused(&f, -EPROTO);
	end(&f);
}

/* Two chains in flight: entries 0 to 2, and 3. */
static void
two_in_flight(struct fixture *f)
{
	driver_fini(&f->d);
	f->g.next_gpa = RING_GPA;
	driver_init(&f->d, &f->g, f->d.features, SIZE);
	memset(f->v.at, 0, f->config.inflight_bytes);
	assert_int_equal(vhub_inflight_queue_init(f->v.at, f->config.inflight_bytes, SIZE, true),
			0);
	add(f, 3, false);
	add(f, 1, false);
	start(f);
	assert_int_equal(vhub_virtq_pop(f->vq, f->chains, 4), 2);
	vhub_virtq_note(f->vq);
	vhub_virtq_destroy(f->vq);
	f->vq = NULL;
}

static void
packed_regions_of_nonsense(void **state)
{
	struct fixture f;

	(void)state;
	begin(&f, F_PACKED);
#define PACKED_REFUSED(change) \
	do { \
		two_in_flight(&f); \
		change; \
		expect_refused(&f, -EPROTO); \
	} while (0)
	PACKED_REFUSED(set16(&f.v, VERSION, 2));
	PACKED_REFUSED(set64(&f.v, 0, 1));
	PACKED_REFUSED(set16(&f.v, DESC_NUM, SIZE - 1));
	PACKED_REFUSED(set16(&f.v, DESC_NUM, SIZE * 2));
	PACKED_REFUSED(set16(&f.v, P_USED_IDX, SIZE));
	PACKED_REFUSED(set16(&f.v, P_OLD_USED_IDX, 0xffff));
	PACKED_REFUSED(f.v.at[P_USED_WRAP] = 2);
	PACKED_REFUSED(f.v.at[P_OLD_USED_WRAP] = 0xff);
	PACKED_REFUSED(set16(&f.v, FREE_HEAD, SIZE + 1));
	PACKED_REFUSED(set16(&f.v, OLD_FREE_HEAD, 0xffff));
	/* The free list: a ring, into a chain, off the end, too short. */
	PACKED_REFUSED(set16(&f.v, entry(&f.v, 6, P_NEXT), 4));
	PACKED_REFUSED(set16(&f.v, entry(&f.v, 6, P_NEXT), 1));
	PACKED_REFUSED(set16(&f.v, entry(&f.v, 7, P_NEXT), SIZE + 1));
	PACKED_REFUSED(set16(&f.v, entry(&f.v, 5, P_NEXT), SIZE));
	/*
	 * Chains: none, too long, ending elsewhere, through another, round and round, off the end.
	 */
	PACKED_REFUSED(set16(&f.v, entry(&f.v, 0, P_NUM), 0));
	PACKED_REFUSED(set16(&f.v, entry(&f.v, 0, P_NUM), 4));
	PACKED_REFUSED(set16(&f.v, entry(&f.v, 0, P_NUM), 0xffff));
	PACKED_REFUSED(set16(&f.v, entry(&f.v, 0, P_LAST), 1));
	PACKED_REFUSED(set16(&f.v, entry(&f.v, 1, P_NEXT), 3));
	PACKED_REFUSED(set16(&f.v, entry(&f.v, 1, P_NEXT), 0));
	PACKED_REFUSED(set16(&f.v, entry(&f.v, 0, P_NEXT), 0xfff0));
	/* An entry that belongs to nobody; two of one age. */
	PACKED_REFUSED(f.v.at[entry(&f.v, 3, E_INFLIGHT)] = 0);
	PACKED_REFUSED(set64(&f.v, entry(&f.v, 3, P_COUNTER),
			get64(&f.v, entry(&f.v, 0, P_COUNTER))));
	PACKED_REFUSED(set64(&f.v, entry(&f.v, 7, P_COUNTER), UINT64_MAX));
	/* And as it was, it is fine. */
	two_in_flight(&f);
	start(&f);
	assert_int_equal(vhub_virtq_pop(f.vq, f.chains, 4), 2);
	end(&f);
}

/* A saved descriptor is no better than one of the ring. */
static void
saved_descriptors_are_checked(void **state)
{
	const uint16_t flags = D_INDIRECT;
	struct fixture f;

	(void)state;
	begin(&f, F_PACKED);
	two_in_flight(&f);
	set64(&f.v, entry(&f.v, 1, P_ADDR), 0x1000);
	start(&f);
	assert_int_equal(vhub_virtq_pop(f.vq, f.chains, 4), 0);
	assert_int_equal(vhub_virtq_broken(f.vq), VHUB_VIRTQ_BAD_ADDRESS);
	assert_int_equal(vhub_virtq_pop(f.vq, f.chains, 4), 0);
	end(&f);
	begin(&f, F_PACKED);
	two_in_flight(&f);
	set16(&f.v, entry(&f.v, 1, P_FLAGS), flags);
	start(&f);
	assert_int_equal(vhub_virtq_pop(f.vq, f.chains, 4), 0);
	assert_int_equal(vhub_virtq_broken(f.vq), VHUB_VIRTQ_BAD_INFLIGHT);
	end(&f);
}

/* What the front end writes into the region while the ring runs changes nothing for us. */
static void
scribbling_into_a_running_region_is_harmless(void **state)
{
	struct fixture f;
	struct rnd r;

	(void)state;
	rnd_init(&r, "scribble", 5);
	for (int packed = 0; packed < 2; packed++) {
		begin(&f, packed != 0 ? F_PACKED : 0);
		start(&f);
		for (unsigned int i = 0; i < 2000; i++) {
			uint16_t n;

			while (add(&f, 1 + rnd_below(&r, 3), rnd_below(&r, 2) == 0) != NULL)
				;
			for (size_t k = 0; k < f.config.inflight_bytes; k++)
				f.v.at[k] = (uint8_t)rnd_next(&r);
			n = vhub_virtq_pop(f.vq, f.chains, VHUB_VIRTQ_BURST);
			assert_true(n != 0);
			for (size_t k = 0; k < f.config.inflight_bytes; k++)
				f.v.at[k] = (uint8_t)rnd_next(&r);
			vhub_virtq_push(f.vq, f.chains, n);
			for (; n != 0; n--)
				assert_non_null(driver_reap(&f.d));
			assert_int_equal(vhub_virtq_broken(f.vq), VHUB_VIRTQ_OK);
		}
		end(&f);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_multiples_of_64),
		cmocka_unit_test(a_fresh_part_is_filled_and_a_used_one_left),
		cmocka_unit_test(parts_too_small_or_askew_are_refused),
		cmocka_unit_test(split_region_shows_what_is_in_flight),
		cmocka_unit_test(packed_region_shows_what_is_in_flight),
		cmocka_unit_test(a_turn_leaves_nothing_behind),
		cmocka_unit_test(a_packed_run_goes_on_where_it_ended),
		cmocka_unit_test(what_a_run_has_left_counts_for_nobody_else),
		cmocka_unit_test(a_turned_packed_burst_is_told_of),
		cmocka_unit_test(counters_go_on_above_the_highest),
		cmocka_unit_test(replay_comes_in_the_order_of_counters),
		cmocka_unit_test(split_ring_set_up_anew_with_an_old_region),
		cmocka_unit_test(a_fresh_packed_region_takes_the_base),
		cmocka_unit_test(a_part_that_nobody_prepared_is_prepared),
		cmocka_unit_test(a_region_larger_than_the_ring),
		cmocka_unit_test(a_resumed_ring_gives_back_what_was_used_before),
		cmocka_unit_test(what_was_left_is_found_by_the_next_life),
		cmocka_unit_test(what_met_lost_memory_is_found_by_the_next_life),
		cmocka_unit_test(split_regions_of_nonsense),
		cmocka_unit_test(packed_regions_of_nonsense),
		cmocka_unit_test(saved_descriptors_are_checked),
		cmocka_unit_test(scribbling_into_a_running_region_is_harmless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
