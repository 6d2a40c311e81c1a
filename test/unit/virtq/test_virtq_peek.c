/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The short way (virtq/peek.c): what is shown is what the driver has offered, as far as it is of one
 * piece; what is used the driver gets back; all else, and rings that keep account, take the long way.
 * Both ways take turns on one ring here.
 */
#include <string.h>

#include "guest.h"

#define ROUNDS 4000u

struct fixture {
	struct guest g;
	struct driver d;
	struct rnd r;
	struct vhub_virtq *vq;
	/* Offered and not taken, in order. */
	struct token *fifo[64];
	unsigned int n_fifo;
	uint64_t short_way, long_way;
};

static void
begin(struct fixture *f, uint64_t features)
{
	memset(f, 0, sizeof(*f));
	rnd_init(&f->r, "peek", 11);
	f->vq = ring_begin(&f->g, &f->d, features);
}

/* Most chains are of one piece; some of these cross regions, and some lie in a table. */
static void
offer(struct fixture *f)
{
	const bool indirect = (f->d.features & F_INDIRECT) != 0;
	unsigned int n = rnd_below(&f->r, 8);
	struct piece pieces[4];
	struct token *t;

	while (n-- > 0) {
		const unsigned int most = rnd_below(&f->r, 6) == 0 ? 4 : 1;

		t = driver_add(&f->d, pieces, driver_random_pieces(&f->r, pieces, most),
				indirect && rnd_below(&f->r, 6) == 0);
		if (t == NULL)
			break;
		f->fifo[f->n_fifo++] = t;
	}
}

static void
taken(struct fixture *f, unsigned int n)
{
	f->n_fifo -= n;
	memmove(f->fifo, f->fifo + n, f->n_fifo * sizeof(f->fifo[0]));
	while (driver_reap(&f->d) != NULL)
		;
}

/* Whether the token may be shown; a table cannot be told from it. */
static bool
is_whole(const struct fixture *f, const struct token *t, bool writable, struct iovec *iov)
{
	return t->n == 1 && t->pieces[0].write == writable &&
			guest_split(&f->g, t->pieces[0].gpa, t->pieces[0].len, iov) == 1;
}

static void
take_short_way(struct fixture *f)
{
	const bool writable = rnd_below(&f->r, 2) != 0;
	struct vhub_buffer buffers[VHUB_VIRTQ_BURST];
	uint16_t n, i, used;
	struct iovec iov[4];

	n = vhub_virtq_peek(f->vq, buffers, (uint16_t)(1 + rnd_below(&f->r, VHUB_VIRTQ_BURST)),
			writable);
	assert_true(n <= f->n_fifo);
	for (i = 0; i < n; i++) {
		assert_true(is_whole(f, f->fifo[i], writable, iov));
		assert_ptr_equal(buffers[i].base, iov[0].iov_base);
		assert_int_equal(buffers[i].bytes, iov[0].iov_len);
		assert_int_equal(buffers[i].used_bytes, 0);
	}
	used = n == 0 ? 0 : (uint16_t)rnd_below(&f->r, n + 1u);
	for (i = 0; i < used; i++) {
		if (writable)
			buffers[i].used_bytes = 1 + rnd_below(&f->r, buffers[i].bytes);
		f->fifo[i]->used_len = buffers[i].used_bytes;
	}
	vhub_virtq_use(f->vq, buffers, used);
	f->short_way += used;
	taken(f, used);
}

static void
take_long_way(struct fixture *f)
{
	struct vhub_chain *chains[VHUB_VIRTQ_BURST];
	const uint16_t n = vhub_virtq_pop(f->vq, chains, (uint16_t)(1 + rnd_below(&f->r, 4)));
	struct vhub_buffer buffer;

	/* While one is in flight nothing is shown. */
	if (n != 0)
		assert_int_equal(vhub_virtq_peek(f->vq, &buffer, 1, true) +
						vhub_virtq_peek(f->vq, &buffer, 1, false),
				0);
	for (uint16_t i = 0; i < n; i++) {
		assert_ptr_equal(driver_token(&f->d, chains[i]), f->fifo[i]);
		driver_check_chain(&f->d, f->fifo[i], chains[i]);
		chains[i]->used_bytes = rnd_below(&f->r, chains[i]->in_bytes + 1);
		f->fifo[i]->used_len = chains[i]->used_bytes;
	}
	vhub_virtq_push(f->vq, chains, n);
	f->long_way += n;
	taken(f, n);
}

static void
run(uint64_t features)
{
	struct vhub_virtq_stats stats;
	struct fixture f;

	begin(&f, features);
	take_long_way(&f);
	for (unsigned int round = 0; round < ROUNDS; round++) {
		offer(&f);
		if (rnd_below(&f.r, 4) == 0)
			take_long_way(&f);
		else
			take_short_way(&f);
		vhub_virtq_notify(f.vq);
	}
	vhub_virtq_get_stats(f.vq, &stats);
	assert_int_equal(stats.chains, f.short_way + f.long_way);
	assert_int_equal(stats.completions, stats.chains);
	assert_int_equal(vhub_virtq_in_flight(f.vq), 0);
	assert_int_equal(vhub_virtq_broken(f.vq), VHUB_VIRTQ_OK);
	assert_true(f.short_way > ROUNDS / 16 && f.long_way > ROUNDS / 16);
	while (f.n_fifo != 0)
		take_long_way(&f);
	assert_int_equal(vhub_virtq_base(f.vq), driver_base(&f.d));
	ring_end(f.vq, &f.d, &f.g);
}

static void
test_split(void **state)
{
	(void)state;
	run(0);
	run(F_INDIRECT | F_IN_ORDER);
	run(F_EVENT_IDX);
}

static void
test_packed(void **state)
{
	(void)state;
	run(F_PACKED);
	run(F_PACKED | F_INDIRECT | F_IN_ORDER);
	run(F_PACKED | F_EVENT_IDX);
}

/* A burst of all that the ring can hold, again and again. */
static void
test_whole_rings(void **state)
{
	struct vhub_buffer buffers[VHUB_VIRTQ_BURST];
	struct piece piece = { .gpa = LOW_GPA, .len = 64, .write = true };
	uint16_t n;

	(void)state;
	for (unsigned int packed = 0; packed < 2; packed++) {
		const unsigned int size = packed ? PACKED_SIZE : SPLIT_SIZE;
		struct fixture f;

		begin(&f, packed ? F_PACKED : 0);
		take_long_way(&f);
		for (unsigned int round = 0; round < 5; round++) {
			while ((f.fifo[f.n_fifo] = driver_add(&f.d, &piece, 1, false)) != NULL)
				f.fifo[f.n_fifo++]->used_len = 0;
			assert_int_equal(f.n_fifo, size);
			n = vhub_virtq_peek(f.vq, buffers, VHUB_VIRTQ_BURST, true);
			assert_int_equal(n, size);
			vhub_virtq_use(f.vq, buffers, n);
			assert_int_equal(vhub_virtq_peek(f.vq, buffers, VHUB_VIRTQ_BURST, true), 0);
			taken(&f, n);
		}
		ring_end(f.vq, &f.d, &f.g);
	}
}

/* What is wrong is not shown, and the long way tells what it is. */
static void
expect_reason(uint64_t features, struct piece piece, enum vhub_virtq_reason reason)
{
	struct vhub_chain *chains[VHUB_VIRTQ_BURST];
	struct vhub_buffer buffer;
	struct fixture f;

	begin(&f, features);
	take_long_way(&f);
	assert_non_null(driver_add(&f.d, &piece, 1, false));
	assert_int_equal(vhub_virtq_peek(f.vq, &buffer, 1, piece.write), 0);
	assert_int_equal(vhub_virtq_broken(f.vq), VHUB_VIRTQ_OK);
	assert_int_equal(vhub_virtq_pop(f.vq, chains, VHUB_VIRTQ_BURST), 0);
	assert_int_equal(vhub_virtq_broken(f.vq), reason);
	assert_int_equal(vhub_virtq_peek(f.vq, &buffer, 1, piece.write), 0);
	ring_end(f.vq, &f.d, &f.g);
}

static void
test_what_is_wrong_is_not_shown(void **state)
{
	const struct piece nowhere = { .gpa = GUEST_TOP_GPA, .len = 8, .write = true };
	const struct piece beyond = { .gpa = GUEST_TOP_GPA - 8, .len = 16 };
	const struct piece around = { .gpa = UINT64_MAX - 8, .len = 64, .write = true };
	const struct piece empty = { .gpa = LOW_GPA, .len = 0, .write = true };

	(void)state;
	for (unsigned int packed = 0; packed < 2; packed++) {
		const uint64_t features = packed ? F_PACKED : 0;

		expect_reason(features, nowhere, VHUB_VIRTQ_BAD_ADDRESS);
		expect_reason(features, beyond, VHUB_VIRTQ_BAD_ADDRESS);
		expect_reason(features, around, VHUB_VIRTQ_BAD_ADDRESS);
		expect_reason(features, empty, VHUB_VIRTQ_ZERO_LENGTH);
	}
}

/* Split: an index too far ahead, and a head that is none. */
static void
test_bad_available_rings(void **state)
{
	struct vhub_chain *chains[VHUB_VIRTQ_BURST];
	struct vhub_buffer buffers[VHUB_VIRTQ_BURST];
	uint16_t *avail;
	struct fixture f;

	(void)state;
	begin(&f, 0);
	take_long_way(&f);
	avail = (uint16_t *)(void *)f.d.avail;
	avail[1] = SPLIT_SIZE + 1;
	assert_int_equal(vhub_virtq_peek(f.vq, buffers, VHUB_VIRTQ_BURST, true), 0);
	assert_int_equal(vhub_virtq_pop(f.vq, chains, VHUB_VIRTQ_BURST), 0);
	assert_int_equal(vhub_virtq_broken(f.vq), VHUB_VIRTQ_AVAIL_RUNAWAY);
	ring_end(f.vq, &f.d, &f.g);

	begin(&f, 0);
	take_long_way(&f);
	avail = (uint16_t *)(void *)f.d.avail;
	avail[2] = SPLIT_SIZE;
	avail[1] = 1;
	assert_int_equal(vhub_virtq_peek(f.vq, buffers, VHUB_VIRTQ_BURST, true), 0);
	assert_int_equal(vhub_virtq_pop(f.vq, chains, VHUB_VIRTQ_BURST), 0);
	assert_int_equal(vhub_virtq_broken(f.vq), VHUB_VIRTQ_BAD_HEAD);
	ring_end(f.vq, &f.d, &f.g);
}

/* What was shown on a ring that broke meanwhile is not used. */
static void
test_broken_ring(void **state)
{
	struct piece piece = { .gpa = LOW_GPA, .len = 64, .write = true };
	struct vhub_buffer buffer;
	struct fixture f;
	uint32_t base;

	(void)state;
	begin(&f, F_PACKED);
	take_long_way(&f);
	base = vhub_virtq_base(f.vq);
	assert_non_null(driver_add(&f.d, &piece, 1, false));
	assert_int_equal(vhub_virtq_peek(f.vq, &buffer, 1, true), 1);
	vhub_virtq_break(f.vq, VHUB_VIRTQ_SMALL_BUFFER);
	vhub_virtq_use(f.vq, &buffer, 1);
	assert_null(driver_reap(&f.d));
	assert_int_equal(vhub_virtq_base(f.vq), base);
	ring_end(f.vq, &f.d, &f.g);
}

/* What was read of it may be zeros. */
static void
test_lost_memory(void **state)
{
	struct piece piece = { .gpa = LOW_GPA, .len = 64, .write = true };
	struct vhub_virtq_config config;
	struct vhub_buffer buffer;
	uint32_t faulted = 0;
	struct fixture f;

	(void)state;
	for (unsigned int packed = 0; packed < 2; packed++, faulted = 0) {
		begin(&f, packed != 0 ? F_PACKED : 0);
		vhub_virtq_destroy(f.vq);
		config = driver_config(&f.d);
		config.faulted = &faulted;
		f.vq = virtq_make(&config);
		take_long_way(&f);
		assert_non_null(driver_add(&f.d, &piece, 1, false));
		assert_int_equal(vhub_virtq_peek(f.vq, &buffer, 1, true), 1);
		faulted = VHUB_MEM_FAULTED;
		vhub_virtq_use(f.vq, &buffer, 1);
		assert_null(driver_reap(&f.d));
		assert_int_equal(vhub_virtq_broken(f.vq), VHUB_VIRTQ_MEMORY_LOST);
		assert_int_equal(vhub_virtq_peek(f.vq, &buffer, 1, true), 0);
		ring_end(f.vq, &f.d, &f.g);
	}
}

/* Rings that keep account of each chain. */
static void
test_rings_that_keep_account(void **state)
{
	const uint64_t log_bytes = GUEST_TOP_GPA / VHUB_LOG_PAGE_BYTES / 8;
	struct piece piece = { .gpa = LOW_GPA, .len = 64, .write = true };
	struct vhub_dirty_log log = { .refs = 1, .size_bytes = log_bytes };
	struct vhub_virtq_config config;
	struct vhub_chain *chain;
	struct vhub_buffer buffer;
	struct fixture f;
	uint64_t bytes;
	void *region;

	(void)state;
	begin(&f, 0);
	log.bits = test_calloc(1, log_bytes);
	take_long_way(&f);
	assert_non_null(driver_add(&f.d, &piece, 1, false));
	assert_null(vhub_virtq_set_log(f.vq, &log, false, 0));
	assert_int_equal(vhub_virtq_peek(f.vq, &buffer, 1, true), 0);
	assert_ptr_equal(vhub_virtq_set_log(f.vq, NULL, false, 0), &log);
	assert_int_equal(vhub_virtq_peek(f.vq, &buffer, 1, true), 1);
	vhub_virtq_replay_only(f.vq, true);
	assert_int_equal(vhub_virtq_peek(f.vq, &buffer, 1, true), 0);
	vhub_virtq_destroy(f.vq);
	test_free(log.bits);

	config = driver_config(&f.d);
	bytes = vhub_inflight_queue_bytes(SPLIT_SIZE, false);
	region = test_calloc(1, bytes);
	assert_int_equal(vhub_inflight_queue_init(region, bytes, SPLIT_SIZE, false), 0);
	config.inflight = region;
	config.inflight_bytes = bytes;
	f.vq = virtq_make(&config);
	assert_int_equal(vhub_virtq_peek(f.vq, &buffer, 1, true), 0);
	assert_int_equal(vhub_virtq_pop(f.vq, &chain, 1), 1);
	vhub_virtq_push(f.vq, &chain, 1);
	assert_non_null(driver_add(&f.d, &piece, 1, false));
	assert_int_equal(vhub_virtq_peek(f.vq, &buffer, 1, true), 0);
	ring_end(f.vq, &f.d, &f.g);
	test_free(region);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_packed),
		cmocka_unit_test(test_whole_rings),
		cmocka_unit_test(test_what_is_wrong_is_not_shown),
		cmocka_unit_test(test_bad_available_rings),
		cmocka_unit_test(test_broken_ring),
		cmocka_unit_test(test_lost_memory),
		cmocka_unit_test(test_rings_that_keep_account),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
