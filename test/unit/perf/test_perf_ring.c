/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver's side of vhub-perf's rings against lib/virtq as the device: random bursts with every
 * combination of features, kicks that are wanted, and back ends that write what they must not.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "ring_fast.h"
#include "vhub_virtq.h"

#define F_VERSION_1 (UINT64_C(1) << 32)
#define PIECES 3u
#define PIECE_BYTES 512u
#define BURST 16u
#define ROUNDS 4000u

struct fixture {
	struct perf_memory mem;
	struct vhub_mem_table *table;
	struct ring *ring;
	struct vhub_virtq *vq;
	bool packed;
	uint64_t seed;
	uint8_t *data; /* PIECES * PIECE_BYTES for each slot */

	/* The device: what it has popped. */
	struct vhub_chain *held[256];
	unsigned int n_held;
	/* The driver. */
	uint32_t expected[256]; /* bytes, by slot */
	uint8_t n_pieces[256];	/* by slot */
	uint16_t next_slot;	/* IN_ORDER: slots go round */
	unsigned int n_out;
};

static uint32_t
rnd(struct fixture *f, uint32_t below)
{
	f->seed ^= f->seed >> 12;
	f->seed ^= f->seed << 25;
	f->seed ^= f->seed >> 27;
	return (uint32_t)(f->seed * UINT64_C(0x2545f4914f6cdd1d) >> 32) % below;
}

static uint8_t *
slot_data(const struct fixture *f, uint16_t slot)
{
	return f->data + (size_t)slot * PIECES * PIECE_BYTES;
}

/* Of several pieces the first is readable. */
static void
prepare_slot(struct fixture *f, uint16_t slot, unsigned int n)
{
	struct ring_piece pieces[PIECES];

	f->n_pieces[slot] = (uint8_t)n;
	for (unsigned int i = 0; i < n; i++)
		pieces[i] = (struct ring_piece){
			.hva = slot_data(f, slot) + i * PIECE_BYTES,
			.bytes = PIECE_BYTES - slot % 7,
			.writable = i > 0 || n == 1,
		};
	ring_prepare(f->ring, slot, pieces, n);
}

static void
make_device(struct fixture *f)
{
	const struct vhub_virtq_config config = {
		.size = f->ring->size,
		.features = f->ring->features,
		.desc = f->ring->desc,
		.avail = f->ring->avail,
		.used = f->ring->used,
		.base = ring_base(f->ring),
		.mem = f->table,
		.call_fd = -1,
		.chain_bytes = sizeof(struct vhub_chain),
		.numa_node = -1,
	};

	assert_int_equal(vhub_virtq_create(&config, &f->vq), 0);
}

static void
begin(struct fixture *f, uint64_t features, uint16_t size, bool poll)
{
	const struct ring_config config = {
		.name = "test",
		.index = 3,
		.size = size,
		.pieces = PIECES,
		.indirect = (features & VIRTQ_F_INDIRECT) != 0,
		.poll = poll,
		.features = features | F_VERSION_1,
	};

	memset(f, 0, sizeof(*f));
	f->seed = UINT64_C(0x9e3779b97f4a7c15) ^ features ^ size;
	f->packed = (features & RING_F_PACKED) != 0;
	assert_int_equal(memory_create(ring_memory_bytes(&config) + 4096 +
							 (uint64_t)ring_slots(&config) * PIECES *
									 PIECE_BYTES,
					 false, &f->mem),
			0);
	f->table = calloc(1, sizeof(*f->table) + sizeof(f->table->regions[0]));
	assert_non_null(f->table);
	f->table->refs = 1;
	f->table->n_regions = 1;
	f->table->regions[0].gpa = MEMORY_GPA;
	f->table->regions[0].uva = (uintptr_t)f->mem.hva;
	f->table->regions[0].size_bytes = f->mem.size_bytes;
	f->table->regions[0].hva = f->mem.hva;
	assert_int_equal(ring_create(&config, &f->mem, &f->ring), 0);
	assert_in_range(f->ring->n_slots, 1, 256);
	f->data = memory_alloc(&f->mem, (uint64_t)f->ring->n_slots * PIECES * PIECE_BYTES, 64);
	assert_non_null(f->data);
	for (uint16_t i = 0; i < f->ring->n_slots; i++)
		prepare_slot(f, i, 1 + i % PIECES);
	make_device(f);
}

static void
end(struct fixture *f)
{
	vhub_virtq_destroy(f->vq);
	ring_destroy(f->ring);
	memory_destroy(&f->mem);
	assert_int_equal(f->table->refs, 1);
	free(f->table);
}

/* ---- the two sides ---- */

/* Of the chains that are added: as they were prepared, prepared anew, or all with PIECES. */
enum lengths {
	AS_THEY_ARE,
	ANEW,
	ALIKE,
	N_LENGTHS
};

/* A slot that is free: any, or with IN_ORDER the next. */
static uint16_t
free_slot(struct fixture *f)
{
	uint16_t slot = (uint16_t)rnd(f, f->ring->n_slots);

	if (f->ring->in_order) {
		slot = f->next_slot;
		f->next_slot = (uint16_t)((slot + 1) % f->ring->n_slots);
	}
	while (ring_slot_in_flight(f->ring, slot))
		slot = (uint16_t)((slot + 1) % f->ring->n_slots);
	return slot;
}

static void
driver_adds(struct fixture *f, enum lengths lengths)
{
	unsigned int n = rnd(f, BURST + 1);
	struct ring_cursor c = ring_begin(f->ring);

	for (; n > 0 && f->n_out < f->ring->n_slots; n--, f->n_out++) {
		const uint16_t slot = free_slot(f);

		if (lengths == ANEW)
			prepare_slot(f, slot, 1 + rnd(f, PIECES));
		else if (lengths == ALIKE && f->n_pieces[slot] != PIECES)
			prepare_slot(f, slot, PIECES);
		f->expected[slot] = UINT32_MAX;
		ring_add(f->ring, &c, slot, f->packed);
	}
	ring_end(f->ring, &c);
	/* Some wait until more are there: who has nothing to pop yet has them later. */
	if (rnd(f, 4) != 0)
		ring_publish(f->ring, f->packed);
	ring_kick(f->ring, f->packed);
}

/* Which slot a chain is: by where its first piece lies. All of it has to be where it should. */
static uint16_t
chain_slot(const struct fixture *f, const struct vhub_chain *chain)
{
	const uint64_t at = (uint64_t)((uint8_t *)chain->iov[0].iov_base - f->data);
	const uint16_t slot = (uint16_t)(at / (PIECES * PIECE_BYTES));
	unsigned int n;

	assert_true(slot < f->ring->n_slots);
	n = f->n_pieces[slot];
	assert_true(ring_slot_in_flight(f->ring, slot));
	assert_int_equal(chain->n_out + chain->n_in, n);
	assert_int_equal(chain->n_out, n > 1);
	for (unsigned int i = 0; i < n; i++)
		assert_ptr_equal(chain->iov[i].iov_base, slot_data(f, slot) + i * PIECE_BYTES);
	assert_int_equal(chain->in_bytes, f->ring->slots[slot].writable_bytes);
	return slot;
}

static void
device_pops(struct fixture *f)
{
	struct vhub_chain *chains[BURST];
	const uint16_t n = vhub_virtq_pop(f->vq, chains, (uint16_t)(1 + rnd(f, BURST)));

	assert_int_equal(vhub_virtq_broken(f->vq), VHUB_VIRTQ_OK);
	for (uint16_t i = 0; i < n; i++) {
		const uint16_t slot = chain_slot(f, chains[i]);

		assert_int_equal(f->expected[slot], UINT32_MAX);
		f->expected[slot] = rnd(f, chains[i]->in_bytes + 1);
		chains[i]->used_bytes = f->expected[slot];
		f->held[f->n_held++] = chains[i];
	}
}

static void
device_pushes(struct fixture *f)
{
	struct vhub_chain *chains[BURST];
	uint16_t n = 0;

	for (unsigned int most = rnd(f, BURST + 1); n < most && f->n_held > 0; n++) {
		const unsigned int i = rnd(f, f->n_held);

		chains[n] = f->held[i];
		f->held[i] = f->held[--f->n_held];
	}
	vhub_virtq_push(f->vq, chains, n);
	vhub_virtq_notify(f->vq);
}

static void
driver_reaps(struct fixture *f)
{
	struct ring_used used[BURST];
	const int n = ring_reap(f->ring, used, 1 + rnd(f, BURST), f->packed);

	assert_in_range(n, 0, BURST);
	for (int i = 0; i < n; i++) {
		assert_true(used[i].slot < f->ring->n_slots);
		assert_false(ring_slot_in_flight(f->ring, (uint16_t)used[i].slot));
		assert_int_equal(used[i].bytes, f->expected[used[i].slot]);
		f->n_out--;
	}
}

static uint64_t
kicks_seen(const struct ring *r)
{
	uint64_t count = 0;

	return read(r->kick_fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

/* A device that goes to sleep is woken by the next publish, and one that does not sleep never. */
static void
device_sleeps(struct fixture *f)
{
	const uint64_t before = f->ring->kicks;
	uint16_t slot;

	kicks_seen(f->ring);
	if (f->n_out == f->ring->n_slots || vhub_virtq_arm(f->vq) != 0)
		return;
	slot = free_slot(f);
	f->expected[slot] = UINT32_MAX;
	ring_add_one(f->ring, slot, f->packed);
	f->n_out++;
	ring_publish(f->ring, f->packed);
	ring_kick(f->ring, f->packed);
	assert_int_equal(f->ring->kicks, before + 1);
	assert_int_equal(kicks_seen(f->ring), 1);
	vhub_virtq_disarm(f->vq);
}

/* ---- tests ---- */

static void
run_random(uint64_t features, uint16_t size)
{
	struct fixture f;
	uint64_t done = 0;

	begin(&f, features, size, false);
	for (unsigned int round = 0; round < ROUNDS; round++) {
		driver_adds(&f, round * N_LENGTHS / ROUNDS);
		device_pops(&f);
		device_pushes(&f);
		done += f.n_out;
		driver_reaps(&f);
		done -= f.n_out;
	}
	/* Everything comes back. */
	ring_publish(f.ring, f.packed);
	while (f.n_out > 0) {
		device_pops(&f);
		device_pushes(&f);
		done += f.n_out;
		driver_reaps(&f);
		done -= f.n_out;
	}
	assert_in_range(done, 2 * size, UINT64_MAX);
	end(&f);
}

#define N_KINDS 16u

static uint64_t
kind_features(unsigned int kind)
{
	return ((kind & 1) != 0 ? RING_F_PACKED : 0) | ((kind & 2) != 0 ? VIRTQ_F_INDIRECT : 0) |
			((kind & 4) != 0 ? VIRTQ_F_EVENT_IDX : 0) |
			((kind & 8) != 0 ? VIRTQ_F_IN_ORDER : 0);
}

/* In order, three descriptors a chain do not fill a split ring of a power of two. */
static bool
impossible(uint64_t features)
{
	return (features & (RING_F_PACKED | VIRTQ_F_INDIRECT)) == 0 &&
			(features & VIRTQ_F_IN_ORDER) != 0;
}

static void
everything_comes_back_once_and_as_it_was_used(void **state)
{
	(void)state;
	for (unsigned int kind = 0; kind < N_KINDS; kind++) {
		const uint64_t features = kind_features(kind);

		if (impossible(features))
			continue;
		run_random(features, 64);
		run_random(features, 256);
		if ((features & RING_F_PACKED) != 0)
			run_random(features, 100);
	}
}

static void
a_device_that_sleeps_is_kicked_and_an_awake_one_is_not(void **state)
{
	(void)state;
	for (unsigned int kind = 0; kind < N_KINDS; kind++) {
		struct fixture f;

		if (impossible(kind_features(kind)))
			continue;
		begin(&f, kind_features(kind), 64, false);
		for (unsigned int round = 0; round < 2000; round++) {
			device_sleeps(&f);
			device_pops(&f);
			device_pushes(&f);
			driver_reaps(&f);
		}
		assert_in_range(f.ring->kicks, 100, 2000);
		/* Awake: it has said so, and is left alone. */
		vhub_virtq_disarm(f.vq);
		kicks_seen(f.ring);
		for (unsigned int round = 0; round < 200; round++) {
			driver_adds(&f, AS_THEY_ARE);
			device_pops(&f);
			device_pushes(&f);
			driver_reaps(&f);
			if ((kind_features(kind) & VIRTQ_F_EVENT_IDX) == 0)
				assert_int_equal(kicks_seen(f.ring), 0);
		}
		end(&f);
	}
}

/* One that the device does not see yet. */
static void
add_unpublished(struct fixture *f)
{
	const uint16_t slot = free_slot(f);

	f->expected[slot] = UINT32_MAX;
	ring_add_one(f->ring, slot, f->packed);
	f->n_out++;
}

static void
take_all(struct fixture *f)
{
	while (f->n_out > 0) {
		device_pops(f);
		device_pushes(f);
		driver_reaps(f);
	}
}

/* Each ring is looked at for what was published in it, and not for what was only added. */
static void
kick_two(struct fixture *a, struct fixture *b)
{
	for (unsigned int round = 0; round < 400; round++) {
		const bool in_a = rnd(a, 2) != 0, in_b = rnd(a, 2) != 0;
		const uint64_t kicks_a = a->ring->kicks, kicks_b = b->ring->kicks;

		assert_int_equal(vhub_virtq_arm(a->vq), 0);
		assert_int_equal(vhub_virtq_arm(b->vq), 0);
		add_unpublished(a);
		add_unpublished(b);
		ring_kick_both(a->ring, b->ring, a->packed);
		assert_int_equal(a->ring->kicks, kicks_a);
		assert_int_equal(b->ring->kicks, kicks_b);
		if (in_a)
			ring_publish(a->ring, a->packed);
		if (in_b)
			ring_publish(b->ring, b->packed);
		ring_kick_both(a->ring, b->ring, a->packed);
		assert_int_equal(a->ring->kicks, kicks_a + in_a);
		assert_int_equal(b->ring->kicks, kicks_b + in_b);
		ring_publish(a->ring, a->packed);
		ring_publish(b->ring, b->packed);
		ring_kick_both(b->ring, a->ring, a->packed);
		assert_int_equal(a->ring->kicks, kicks_a + 1);
		assert_int_equal(b->ring->kicks, kicks_b + 1);
		ring_kick_both(a->ring, b->ring, a->packed);
		assert_int_equal(a->ring->kicks + b->ring->kicks, kicks_a + kicks_b + 2);
		vhub_virtq_disarm(a->vq);
		vhub_virtq_disarm(b->vq);
		take_all(a);
		take_all(b);
	}
}

static void
two_rings_are_kicked_each_for_its_own(void **state)
{
	(void)state;
	for (unsigned int kind = 0; kind < N_KINDS; kind++) {
		struct fixture a, b;

		if (impossible(kind_features(kind)))
			continue;
		begin(&a, kind_features(kind), 64, false);
		begin(&b, kind_features(kind), 128, false);
		kick_two(&a, &b);
		end(&a);
		end(&b);
	}
}

static void
a_ring_that_is_polled_has_no_fds(void **state)
{
	struct fixture f;

	(void)state;
	begin(&f, 0, 64, true);
	assert_int_equal(f.ring->kick_fd, -1);
	assert_int_equal(f.ring->call_fd, -1);
	driver_adds(&f, AS_THEY_ARE);
	assert_int_equal(f.ring->kicks, 0);
	end(&f);
}

static void
after_a_reset_a_ring_is_as_new(void **state)
{
	(void)state;
	for (unsigned int kind = 0; kind < N_KINDS; kind++) {
		struct fixture f;

		if (impossible(kind_features(kind)))
			continue;
		begin(&f, kind_features(kind), 64, false);
		for (unsigned int life = 0; life < 3; life++) {
			for (unsigned int round = 0; round < 50; round++) {
				driver_adds(&f, AS_THEY_ARE);
				device_pops(&f);
				device_pushes(&f);
				driver_reaps(&f);
			}
			vhub_virtq_destroy(f.vq);
			ring_reset(f.ring);
			for (uint16_t i = 0; i < f.ring->n_slots; i++)
				assert_false(ring_slot_in_flight(f.ring, i));
			f.n_out = 0;
			f.n_held = 0;
			f.next_slot = 0;
			make_device(&f);
		}
		end(&f);
	}
}

/* ---- IN_ORDER batches: one used entry for several requests ---- */

static void
add_slots(struct fixture *f, unsigned int n)
{
	for (uint16_t i = 0; i < n; i++)
		ring_add_one(f->ring, i, f->packed);
	ring_publish(f->ring, f->packed);
}

static void
write_split_used(struct fixture *f, uint16_t at, uint32_t id, uint32_t bytes, uint16_t idx)
{
	struct split_used *used = f->ring->used;

	used->ring[at] = (struct split_used_elem){ .id = id, .len = bytes };
	used->idx = idx;
}

static void
write_packed_used(struct fixture *f, uint16_t at, uint16_t id, uint32_t bytes)
{
	struct packed_desc *d = f->ring->desc;

	d[at].id = id;
	d[at].len = bytes;
	d[at].flags = packed_used_flags(1) | DESC_F_WRITE;
}

static void
check_batch(struct fixture *f)
{
	struct ring_used used[BURST];

	/* In two parts: those before the last of a batch count as written to completely. */
	assert_int_equal(ring_reap(f->ring, used, 2, f->packed), 2);
	assert_int_equal(ring_reap(f->ring, used + 2, BURST, f->packed), 3);
	for (uint16_t i = 0; i < 5; i++) {
		assert_int_equal(used[i].slot, i);
		assert_int_equal(used[i].bytes, i == 4 ? 9 : f->ring->slots[i].writable_bytes);
	}
	assert_int_equal(ring_reap(f->ring, used, BURST, f->packed), 0);
}

static void
one_used_entry_ends_all_before_it_in_order(void **state)
{
	struct fixture f;

	(void)state;
	begin(&f, VIRTQ_F_IN_ORDER | VIRTQ_F_INDIRECT, 64, true);
	add_slots(&f, 8);
	write_split_used(&f, 0, 4, 9, 5);
	check_batch(&f);
	end(&f);
	begin(&f, VIRTQ_F_IN_ORDER | RING_F_PACKED, 64, true);
	add_slots(&f, 8);
	write_packed_used(&f, 0, 4, 9);
	check_batch(&f);
	end(&f);
}

/* ---- back ends that break the ring ---- */

static void
is_told(struct fixture *f, const char *what)
{
	struct ring_used used[BURST];

	assert_int_equal(ring_reap(f->ring, used, BURST, f->packed), -EPROTO);
	if (strstr(f->ring->fault, what) == NULL)
		fail_msg("\"%s\" is not in \"%s\"", what, f->ring->fault);
	assert_non_null(strstr(f->ring->fault, "ring 3"));
	end(f);
}

static void
what_a_split_ring_must_not_say_is_told(void **state)
{
	struct fixture f;

	(void)state;
	for (unsigned int in_order = 0; in_order < 2; in_order++) {
		const uint64_t features = in_order != 0 ? VIRTQ_F_IN_ORDER | VIRTQ_F_INDIRECT : 0;
		const uint32_t head = in_order != 0 ? 1 : 3; /* of slot 1 */

		begin(&f, features, 64, true);
		add_slots(&f, 2);
		write_split_used(&f, 0, 0, 0, 3);
		is_told(&f, "used index 3 is 3 ahead");

		/* What is not published yet cannot have come back. */
		begin(&f, features, 64, true);
		add_slots(&f, 2);
		ring_add_one(f.ring, 2, false);
		write_split_used(&f, 0, 0, 0, 3);
		is_told(&f, "used index 3 is 3 ahead");

		begin(&f, features, 64, true);
		add_slots(&f, 2);
		write_split_used(&f, 0, 64, 0, 1);
		is_told(&f, "used id 64, which no request has");

		begin(&f, features, 64, true);
		add_slots(&f, 2);
		write_split_used(&f, 0, UINT32_MAX, 0, 1);
		is_told(&f, "used id 4294967295, which no request has");

		begin(&f, features, 64, true);
		add_slots(&f, 1);
		write_split_used(&f, 0, head, 0, 1);
		is_told(&f, "whose request is not in flight");

		begin(&f, features, 64, true);
		add_slots(&f, 2);
		write_split_used(&f, 0, 0, PIECE_BYTES + 1, 1);
		is_told(&f, "for id 0 that it wrote 513 bytes");
	}
	/* The middle of a chain is no request. */
	begin(&f, 0, 64, true);
	add_slots(&f, 2);
	write_split_used(&f, 0, 1, 0, 1);
	is_told(&f, "used id 1, which no request has");
	/* Ends three requests, and says that it were two. */
	begin(&f, VIRTQ_F_IN_ORDER | VIRTQ_F_INDIRECT, 64, true);
	add_slots(&f, 4);
	write_split_used(&f, 0, 2, 0, 2);
	is_told(&f, "used id 2, which with those before it in order is 3 entries");
}

static void
what_a_packed_ring_must_not_say_is_told(void **state)
{
	struct fixture f;

	(void)state;
	for (unsigned int in_order = 0; in_order < 2; in_order++) {
		const uint64_t features = RING_F_PACKED | (in_order != 0 ? VIRTQ_F_IN_ORDER : 0);

		begin(&f, features, 64, true);
		add_slots(&f, 2);
		write_packed_used(&f, 0, 21, 0);
		is_told(&f, "used id 21, which no request has");

		begin(&f, features, 64, true);
		add_slots(&f, 2);
		write_packed_used(&f, 0, 2, 0);
		is_told(&f, "whose request is not in flight");

		begin(&f, features, 64, true);
		add_slots(&f, 2);
		write_packed_used(&f, 0, 0, PIECE_BYTES + 1);
		is_told(&f, "for id 0 that it wrote 513 bytes");
	}
}

static void
rings_that_cannot_be_are_refused(void **state)
{
	struct ring_config config = { .name = "test", .size = 100, .pieces = 3 };
	struct perf_memory mem;
	struct ring *ring;

	(void)state;
	assert_int_equal(memory_create(1 << 20, false, &mem), 0);
	assert_int_equal(ring_create(&config, &mem, &ring), -EINVAL);
	config.size = 2;
	assert_int_equal(ring_create(&config, &mem, &ring), -EINVAL);
	config.size = 64;
	config.features = VIRTQ_F_IN_ORDER;
	assert_int_equal(ring_create(&config, &mem, &ring), -EINVAL);
	config.size = RING_MAX_SIZE;
	config.features = RING_F_PACKED;
	config.indirect = true;
	/* Its tables need more memory than there is. */
	assert_int_equal(ring_create(&config, &mem, &ring), -ENOMEM);
	memory_destroy(&mem);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_comes_back_once_and_as_it_was_used),
		cmocka_unit_test(a_device_that_sleeps_is_kicked_and_an_awake_one_is_not),
		cmocka_unit_test(two_rings_are_kicked_each_for_its_own),
		cmocka_unit_test(a_ring_that_is_polled_has_no_fds),
		cmocka_unit_test(after_a_reset_a_ring_is_as_new),
		cmocka_unit_test(one_used_entry_ends_all_before_it_in_order),
		cmocka_unit_test(what_a_split_ring_must_not_say_is_told),
		cmocka_unit_test(what_a_packed_ring_must_not_say_is_told),
		cmocka_unit_test(rings_that_cannot_be_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
