/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Chains that a device has popped and puts back: the ring is as if they had never been looked at, in
 * whatever lap, and gives the same ones again.
 */
#include <string.h>

#include "guest.h"

#define ROUNDS 3000u

struct fixture {
	struct guest g;
	struct driver d;
	struct rnd r;
	struct vhub_virtq *vq;
};

static void
begin(struct fixture *f, uint64_t features)
{
	rnd_init(&f->r, "unpop", 7);
	f->vq = ring_begin(&f->g, &f->d, features);
}

static void
offer(struct fixture *f)
{
	struct piece pieces[4];
	unsigned int n = rnd_below(&f->r, 8);

	while (n-- > 0) {
		unsigned int n_pieces = driver_random_pieces(&f->r, pieces, 4);

		if (driver_add(&f->d, pieces, n_pieces, false) == NULL)
			break;
	}
}

/* Pops up to `max` and puts back all but `keep` of them; the base tells of the kept ones alone. */
static uint16_t
pop_and_keep(struct fixture *f, struct vhub_chain **chains, uint16_t max, uint16_t keep)
{
	uint16_t n = vhub_virtq_pop(f->vq, chains, max);
	uint32_t before = vhub_virtq_base(f->vq);

	keep = keep < n ? keep : n;
	vhub_virtq_unpop(f->vq, &chains[keep], (uint16_t)(n - keep));
	assert_int_equal(vhub_virtq_in_flight(f->vq), keep);
	if (n == keep)
		assert_int_equal(vhub_virtq_base(f->vq), before);
	return keep;
}

static void
give_back(struct fixture *f, struct vhub_chain **chains, uint16_t n)
{
	for (uint16_t i = 0; i < n; i++) {
		struct token *t = driver_token(&f->d, chains[i]);

		driver_check_chain(&f->d, t, chains[i]);
		chains[i]->used_bytes = rnd_below(&f->r, chains[i]->in_bytes + 1);
		t->used_len = chains[i]->used_bytes;
	}
	vhub_virtq_push(f->vq, chains, n);
	while (driver_reap(&f->d) != NULL)
		;
}

static void
run(uint64_t features)
{
	struct vhub_chain *chains[VHUB_VIRTQ_BURST];
	struct vhub_virtq_stats stats;
	uint64_t kept = 0;
	struct fixture f;
	uint32_t base;

	begin(&f, features);
	for (unsigned int round = 0; round < ROUNDS; round++) {
		uint16_t n;

		offer(&f);
		base = vhub_virtq_base(f.vq);
		assert_int_equal(pop_and_keep(&f, chains, VHUB_VIRTQ_BURST, 0), 0);
		assert_int_equal(vhub_virtq_base(f.vq), base);
		n = pop_and_keep(&f, chains, (uint16_t)(1 + rnd_below(&f.r, VHUB_VIRTQ_BURST)),
				(uint16_t)rnd_below(&f.r, 8));
		give_back(&f, chains, n);
		kept += n;
	}
	vhub_virtq_get_stats(f.vq, &stats);
	assert_int_equal(stats.chains, kept);
	assert_int_equal(stats.completions, kept);
	assert_int_equal(vhub_virtq_broken(f.vq), VHUB_VIRTQ_OK);
	assert_true(kept > ROUNDS);
	ring_end(f.vq, &f.d, &f.g);
}

static void
test_split(void **state)
{
	(void)state;
	run(0);
}

static void
test_split_in_order(void **state)
{
	(void)state;
	run(F_IN_ORDER);
}

static void
test_packed(void **state)
{
	(void)state;
	run(F_PACKED);
}

static void
test_packed_in_order(void **state)
{
	(void)state;
	run(F_PACKED | F_IN_ORDER);
}

/* What was put back on a ring that broke meanwhile is not there any more, nor in flight. */
static void
test_broken_ring(void **state)
{
	struct vhub_chain *chains[VHUB_VIRTQ_BURST];
	struct piece piece = { .gpa = LOW_GPA, .len = 64, .write = true };
	struct fixture f;
	uint32_t base;

	(void)state;
	begin(&f, 0);
	base = vhub_virtq_base(f.vq);
	for (unsigned int i = 0; i < 4; i++)
		assert_non_null(driver_add(&f.d, &piece, 1, false));
	assert_int_equal(vhub_virtq_pop(f.vq, chains, VHUB_VIRTQ_BURST), 4);
	vhub_virtq_break(f.vq, VHUB_VIRTQ_SMALL_BUFFER);
	vhub_virtq_unpop(f.vq, chains, 4);
	assert_int_equal(vhub_virtq_in_flight(f.vq), 0);
	assert_int_equal(vhub_virtq_base(f.vq), base);
	assert_int_equal(vhub_virtq_pop(f.vq, chains, VHUB_VIRTQ_BURST), 0);
	ring_end(f.vq, &f.d, &f.g);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_split_in_order),
		cmocka_unit_test(test_packed),
		cmocka_unit_test(test_packed_in_order),
		cmocka_unit_test(test_broken_ring),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
