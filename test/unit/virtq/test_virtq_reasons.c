/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a guest can do wrong, each with the reason it breaks the ring for; and what looks wrong and
 * is allowed.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <unistd.h>

#include "guest.h"

#define SIZE 16u
#define DATA LOW_GPA
#define TABLE (RING_GPA + 0x200000)

struct fixture {
	struct guest g;
	struct driver d;
	struct vhub_virtq *vq;
	struct vhub_virtq_config config;
	struct vhub_chain *chains[VHUB_VIRTQ_BURST];
	uint16_t n;
};

static void
begin(struct fixture *f, uint64_t features)
{
	memset(f, 0, sizeof(*f));
	guest_init(&f->g);
	driver_init(&f->d, &f->g, features | F_VERSION_1, SIZE);
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

/* Writes a descriptor: to `table` of either format. */
static void
set(struct fixture *f, uint64_t table, uint32_t i, uint64_t addr, uint32_t len, uint16_t flags,
		uint16_t next)
{
	uint8_t *at = (uint8_t *)guest_hva(&f->g, table) + 16 * (size_t)i;
	const uint16_t id = (uint16_t)(i + 100);

	memcpy(at, &addr, 8);
	memcpy(at + 8, &len, 4);
	memcpy(at + 12, f->d.packed ? &id : &flags, 2);
	memcpy(at + 14, f->d.packed ? &flags : &next, 2);
}

/* The same, in the ring, available in a packed one's first lap. */
static void
put(struct fixture *f, uint32_t i, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
	set(f, f->d.desc_gpa, i, addr, len, (uint16_t)(flags | (f->d.packed ? D_AVAIL : 0)), next);
}

/* Split: offers these heads. */
static void
offer(struct fixture *f, unsigned int n, const uint16_t *heads)
{
	uint16_t *avail = (uint16_t *)(void *)f->d.avail;

	for (unsigned int i = 0; i < n; i++)
		avail[2 + avail[1]++ % SIZE] = heads[i];
}

static void
offer_first(struct fixture *f)
{
	const uint16_t head = 0;

	if (!f->d.packed)
		offer(f, 1, &head);
}

/* Takes what is there; the ring then is as told, and stays so. */
static void
expect(struct fixture *f, uint16_t n, enum vhub_virtq_reason reason)
{
	struct vhub_chain *more[VHUB_VIRTQ_BURST];
	uint16_t i;

	f->n = vhub_virtq_pop(f->vq, f->chains, VHUB_VIRTQ_BURST);
	assert_int_equal(f->n, n);
	assert_string_equal(vhub_virtq_reason_name(vhub_virtq_broken(f->vq)),
			vhub_virtq_reason_name(reason));
	assert_int_equal(vhub_virtq_in_flight(f->vq), n);
	if (reason == VHUB_VIRTQ_OK)
		return;
	assert_int_equal(vhub_virtq_pop(f->vq, more, VHUB_VIRTQ_BURST), 0);
	assert_false(vhub_virtq_has_work(f->vq));
	assert_int_equal(vhub_virtq_arm(f->vq), 0);
	/* What was taken before may be given back; the guest hears nothing of it. */
	for (i = 0; i < f->n; i++)
		vhub_virtq_push(f->vq, &f->chains[i], 1);
	vhub_virtq_notify(f->vq);
	assert_int_equal(vhub_virtq_in_flight(f->vq), 0);
	assert_null(driver_reap(&f->d));
}

static const uint64_t formats[] = { F_INDIRECT, F_INDIRECT | F_PACKED };

#define FOR_EACH_FORMAT(f) \
	for (int fmt_ = 0; fmt_ < 2 && (begin(f, formats[fmt_]), true); fmt_++, end(f))

/* ---- available ring ---- */

static void
avail_index_runs_away(void **state)
{
	struct fixture f;
	uint16_t *avail;

	(void)state;
	begin(&f, 0);
	avail = (uint16_t *)(void *)f.d.avail;
	avail[1] = SIZE + 1;
	expect(&f, 0, VHUB_VIRTQ_AVAIL_RUNAWAY);
	end(&f);

	begin(&f, 0);
	avail = (uint16_t *)(void *)f.d.avail;
	avail[1] = 0xffff;
	expect(&f, 0, VHUB_VIRTQ_AVAIL_RUNAWAY);
	end(&f);
}

static void
avail_index_counts_what_is_in_flight(void **state)
{
	struct fixture f;
	struct vhub_chain *chain;
	uint16_t heads[SIZE];
	const uint16_t again = 3;

	(void)state;
	begin(&f, 0);
	for (uint16_t i = 0; i < SIZE; i++) {
		heads[i] = i;
		put(&f, i, DATA, 64, 0, 0);
	}
	offer(&f, SIZE, heads);
	assert_int_equal(vhub_virtq_pop(f.vq, f.chains, SIZE), SIZE);
	/* A full ring in flight, and one entry more. */
	offer(&f, 1, &again);
	assert_int_equal(vhub_virtq_pop(f.vq, &chain, 1), 0);
	assert_int_equal(vhub_virtq_broken(f.vq), VHUB_VIRTQ_AVAIL_RUNAWAY);
	end(&f);
}

static void
packed_ring_overtakes_what_is_in_flight(void **state)
{
	struct fixture f;
	struct vhub_chain *chain;

	(void)state;
	begin(&f, F_PACKED);
	for (uint16_t i = 0; i < SIZE; i++)
		put(&f, i, DATA, 64, 0, 0);
	assert_int_equal(vhub_virtq_pop(f.vq, f.chains, VHUB_VIRTQ_BURST), SIZE);
	assert_int_equal(vhub_virtq_broken(f.vq), VHUB_VIRTQ_OK);
	/* The second lap begins, though nothing was used. */
	set(&f, f.d.desc_gpa, 0, DATA, 64, D_USED, 0);
	assert_int_equal(vhub_virtq_pop(f.vq, &chain, 1), 0);
	assert_int_equal(vhub_virtq_broken(f.vq), VHUB_VIRTQ_AVAIL_RUNAWAY);
	end(&f);
}

static void
packed_chain_runs_into_what_is_in_flight(void **state)
{
	struct fixture f;
	struct vhub_chain *chain;

	(void)state;
	begin(&f, F_PACKED);
	put(&f, 0, DATA, 64, 0, 0);
	for (uint16_t i = 1; i < SIZE; i++)
		put(&f, i, DATA, 64, D_NEXT, 0);
	assert_int_equal(vhub_virtq_pop(f.vq, &chain, 1), 1);
	assert_int_equal(vhub_virtq_pop(f.vq, &chain, 1), 0);
	assert_int_equal(vhub_virtq_broken(f.vq), VHUB_VIRTQ_AVAIL_RUNAWAY);
	end(&f);
}

static void
head_beyond_the_table(void **state)
{
	const uint16_t heads[] = { 1, SIZE, 2 };
	const uint16_t far = 0xffff;
	struct fixture f;

	(void)state;
	begin(&f, 0);
	put(&f, 1, DATA, 64, 0, 0);
	put(&f, 2, DATA, 64, 0, 0);
	offer(&f, 3, heads);
	expect(&f, 1, VHUB_VIRTQ_BAD_HEAD);
	end(&f);

	begin(&f, 0);
	offer(&f, 1, &far);
	expect(&f, 0, VHUB_VIRTQ_BAD_HEAD);
	end(&f);
}

static void
head_offered_twice(void **state)
{
	const uint16_t heads[] = { 1, 1 };
	struct fixture f;

	(void)state;
	begin(&f, 0);
	put(&f, 1, DATA, 64, 0, 0);
	offer(&f, 2, heads);
	expect(&f, 1, VHUB_VIRTQ_HEAD_IN_FLIGHT);
	end(&f);

	/* Once it is used it may come again. */
	begin(&f, 0);
	put(&f, 1, DATA, 64, 0, 0);
	offer(&f, 1, heads);
	expect(&f, 1, VHUB_VIRTQ_OK);
	vhub_virtq_push(f.vq, f.chains, 1);
	offer(&f, 1, heads);
	expect(&f, 1, VHUB_VIRTQ_OK);
	end(&f);
}

/* ---- chains ---- */

static void
next_beyond_the_table(void **state)
{
	struct fixture f;

	(void)state;
	begin(&f, 0);
	put(&f, 0, DATA, 64, D_NEXT, SIZE);
	offer_first(&f);
	expect(&f, 0, VHUB_VIRTQ_BAD_NEXT);
	end(&f);

	begin(&f, F_INDIRECT);
	put(&f, 0, TABLE, 4 * 16, D_INDIRECT, 0);
	set(&f, TABLE, 0, DATA, 64, D_NEXT, 4);
	offer_first(&f);
	expect(&f, 0, VHUB_VIRTQ_BAD_NEXT);
	end(&f);
}

static void
chain_without_end(void **state)
{
	struct fixture f;

	(void)state;
	begin(&f, 0);
	put(&f, 0, DATA, 64, D_NEXT, 1);
	put(&f, 1, DATA, 64, D_NEXT, 0);
	offer_first(&f);
	expect(&f, 0, VHUB_VIRTQ_LOOP);
	end(&f);

	begin(&f, F_PACKED);
	for (uint16_t i = 0; i < SIZE; i++)
		put(&f, i, DATA, 64, D_NEXT, 0);
	expect(&f, 0, VHUB_VIRTQ_LOOP);
	end(&f);

	begin(&f, F_INDIRECT);
	put(&f, 0, TABLE, 3 * 16, D_INDIRECT, 0);
	set(&f, TABLE, 0, DATA, 64, D_NEXT, 0);
	offer_first(&f);
	expect(&f, 0, VHUB_VIRTQ_LOOP);
	end(&f);
}

/* As many as the table has is no loop. */
static void
chain_as_long_as_the_ring(void **state)
{
	struct fixture f;

	(void)state;
	FOR_EACH_FORMAT(&f)
	{
		for (uint16_t i = 0; i < SIZE; i++)
			put(&f, i, DATA + 64 * i, 64, i + 1 < (int)SIZE ? D_NEXT : 0,
					(uint16_t)(i + 1));
		offer_first(&f);
		expect(&f, 1, VHUB_VIRTQ_OK);
		assert_int_equal(f.chains[0]->n_out, SIZE);
	}
}

static void
too_many_pieces(void **state)
{
	struct fixture f;

	(void)state;
	FOR_EACH_FORMAT(&f)
	{
		const uint32_t n = VHUB_CHAIN_MAX_IOV;

		put(&f, 0, TABLE, n * 16, D_INDIRECT, 0);
		for (uint32_t i = 0; i < n; i++)
			set(&f, TABLE, i, DATA, 64, i + 1 < n ? D_NEXT : 0, (uint16_t)(i + 1));
		offer_first(&f);
		expect(&f, 1, VHUB_VIRTQ_OK);
		assert_int_equal(f.chains[0]->n_out, VHUB_CHAIN_MAX_IOV);
		vhub_virtq_push(f.vq, f.chains, 1);
	}
	FOR_EACH_FORMAT(&f)
	{
		const uint32_t n = VHUB_CHAIN_MAX_IOV + 1;

		put(&f, 0, TABLE, n * 16, D_INDIRECT, 0);
		for (uint32_t i = 0; i < n; i++)
			set(&f, TABLE, i, DATA, 64, i + 1 < n ? D_NEXT : 0, (uint16_t)(i + 1));
		offer_first(&f);
		expect(&f, 0, VHUB_VIRTQ_TOO_LONG);
	}
}

static void
too_many_bytes(void **state)
{
	struct fixture f;
	struct vhub_mem_table *t;

	(void)state;
	FOR_EACH_FORMAT(&f)
	{
		/* A region that claims to be huge: nobody will touch it. */
		t = f.g.table;
		t->regions[2].size_bytes = UINT64_C(0x200000000);
		put(&f, 0, RING_GPA, 0x80000000u, D_NEXT, 1);
		put(&f, 1, RING_GPA, 0x80000000u, D_WRITE, 0);
		offer_first(&f);
		expect(&f, 0, VHUB_VIRTQ_TOO_LONG);
	}
	FOR_EACH_FORMAT(&f)
	{
		t = f.g.table;
		t->regions[2].size_bytes = UINT64_C(0x200000000);
		put(&f, 0, RING_GPA, 0x80000000u, D_NEXT, 1);
		put(&f, 1, RING_GPA, 0x7fffffffu, D_WRITE, 0);
		offer_first(&f);
		expect(&f, 1, VHUB_VIRTQ_OK);
		assert_int_equal(f.chains[0]->in_bytes, 0x7fffffffu);
	}
}

static void
address_outside(void **state)
{
	const struct {
		uint64_t gpa;
		uint32_t len;
	} bad[] = {
		{ 0, 64 },
		{ LOW_GPA - 1, 1 },
		{ LOW_GPA - 1, 64 },
		{ MID_GPA + LOW_BYTES, 1 },
		{ MID_GPA + LOW_BYTES - 1, 2 },
		{ GUEST_TOP_GPA - 1, 0xffffffffu },
		{ UINT64_MAX, 1 },
		{ UINT64_MAX - 10, 64 },
		{ UINT64_C(1) << 63, 4096 },
	};
	struct fixture f;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		FOR_EACH_FORMAT(&f)
		{
			put(&f, 0, DATA, 64, D_NEXT, 1);
			put(&f, 1, bad[i].gpa, bad[i].len, (i & 1) != 0 ? D_WRITE : 0, 0);
			offer_first(&f);
			expect(&f, 0, VHUB_VIRTQ_BAD_ADDRESS);
		}
	}
}

/* From now on a region lies at the very bottom, and one at the very top. */
static void
move_regions_apart(struct fixture *f)
{
	struct vhub_mem_table *t = f->g.table;

	t->regions[0].gpa = 0;
	t->regions[2].gpa = UINT64_C(0) - t->regions[2].size_bytes;
}

static void
address_comes_round_to_zero(void **state)
{
	const struct {
		uint64_t gpa;
		uint16_t flags;
		enum vhub_virtq_reason reason;
	} pieces[] = {
		{ UINT64_MAX - 62, 0, VHUB_VIRTQ_BAD_ADDRESS },
		{ UINT64_MAX - 63, 0, VHUB_VIRTQ_OK },
		{ UINT64_MAX - 15, D_INDIRECT, VHUB_VIRTQ_BAD_ADDRESS },
	};
	struct fixture f;

	(void)state;
	for (size_t i = 0; i < sizeof(pieces) / sizeof(*pieces); i++) {
		FOR_EACH_FORMAT(&f)
		{
			put(&f, 0, pieces[i].gpa, 64, pieces[i].flags, 0);
			offer_first(&f);
			move_regions_apart(&f);
			expect(&f, pieces[i].reason == VHUB_VIRTQ_OK, pieces[i].reason);
		}
	}
}

static void
length_of_zero(void **state)
{
	struct fixture f;

	(void)state;
	FOR_EACH_FORMAT(&f)
	{
		put(&f, 0, DATA, 64, D_NEXT, 1);
		put(&f, 1, DATA, 0, D_WRITE, 0);
		offer_first(&f);
		expect(&f, 0, VHUB_VIRTQ_ZERO_LENGTH);
	}
}

static void
readable_after_writable(void **state)
{
	struct fixture f;

	(void)state;
	FOR_EACH_FORMAT(&f)
	{
		put(&f, 0, DATA, 64, D_NEXT | D_WRITE, 1);
		put(&f, 1, DATA, 64, 0, 0);
		offer_first(&f);
		expect(&f, 0, VHUB_VIRTQ_BAD_ORDER);
	}
}

/* ---- indirect ---- */

static void
indirect_not_negotiated(void **state)
{
	struct fixture f;

	(void)state;
	for (int packed = 0; packed < 2; packed++) {
		begin(&f, packed != 0 ? F_PACKED : 0);
		put(&f, 0, TABLE, 16, D_INDIRECT, 0);
		set(&f, TABLE, 0, DATA, 64, 0, 0);
		offer_first(&f);
		expect(&f, 0, VHUB_VIRTQ_BAD_INDIRECT);
		end(&f);
	}
}

static void
indirect_of_bad_size(void **state)
{
	const uint32_t sizes[] = { 0, 1, 15, 17, 16 * 32769, 0xfffffff0u };
	struct fixture f;

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		FOR_EACH_FORMAT(&f)
		{
			put(&f, 0, TABLE, sizes[i], D_INDIRECT, 0);
			set(&f, TABLE, 0, DATA, 64, 0, 0);
			offer_first(&f);
			expect(&f, 0, VHUB_VIRTQ_BAD_INDIRECT);
		}
	}
}

static void
indirect_with_next(void **state)
{
	struct fixture f;

	(void)state;
	FOR_EACH_FORMAT(&f)
	{
		put(&f, 0, TABLE, 16, D_INDIRECT | D_NEXT, 1);
		put(&f, 1, DATA, 64, 0, 0);
		set(&f, TABLE, 0, DATA, 64, 0, 0);
		offer_first(&f);
		expect(&f, 0, VHUB_VIRTQ_BAD_INDIRECT);
	}
}

static void
indirect_nested(void **state)
{
	struct fixture f;

	(void)state;
	FOR_EACH_FORMAT(&f)
	{
		put(&f, 0, TABLE, 16, D_INDIRECT, 0);
		set(&f, TABLE, 0, TABLE + 16, 16, D_INDIRECT, 0);
		set(&f, TABLE, 1, DATA, 64, 0, 0);
		offer_first(&f);
		expect(&f, 0, VHUB_VIRTQ_BAD_INDIRECT);
	}
}

static void
indirect_outside(void **state)
{
	struct fixture f;

	(void)state;
	FOR_EACH_FORMAT(&f)
	{
		put(&f, 0, 0x1000, 16, D_INDIRECT, 0);
		offer_first(&f);
		expect(&f, 0, VHUB_VIRTQ_BAD_ADDRESS);
	}
	/* Its second half is outside, and used. */
	FOR_EACH_FORMAT(&f)
	{
		put(&f, 0, GUEST_TOP_GPA - 16, 32, D_INDIRECT, 0);
		set(&f, GUEST_TOP_GPA - 16, 0, DATA, 64, D_NEXT, 1);
		offer_first(&f);
		expect(&f, 0, VHUB_VIRTQ_BAD_ADDRESS);
	}
}

/*
 * VIRTIO 1.2, 2.7.5.3.2: direct descriptors may come before the table, and WRITE on it means
 * nothing.
 */
static void
split_indirect_behind_direct_ones(void **state)
{
	struct fixture f;

	(void)state;
	begin(&f, F_INDIRECT);
	put(&f, 0, DATA, 64, D_NEXT, 5);
	put(&f, 5, TABLE, 2 * 16, D_INDIRECT | D_WRITE, 0);
	set(&f, TABLE, 0, DATA + 64, 32, D_NEXT, 1);
	set(&f, TABLE, 1, DATA + 128, 16, D_WRITE, 0);
	offer_first(&f);
	expect(&f, 1, VHUB_VIRTQ_OK);
	assert_int_equal(f.chains[0]->n_out, 2);
	assert_int_equal(f.chains[0]->out_bytes, 96);
	assert_int_equal(f.chains[0]->n_in, 1);
	assert_int_equal(f.chains[0]->in_bytes, 16);
	end(&f);
}

/* 2.8.7: in a packed ring it may not. */
static void
packed_indirect_behind_direct_ones(void **state)
{
	struct fixture f;

	(void)state;
	begin(&f, F_INDIRECT | F_PACKED);
	put(&f, 0, DATA, 64, D_NEXT, 0);
	put(&f, 1, TABLE, 16, D_INDIRECT, 0);
	set(&f, TABLE, 0, DATA, 64, 0, 0);
	expect(&f, 0, VHUB_VIRTQ_BAD_INDIRECT);
	end(&f);
}

/* A table at an odd address across two regions that are not neighbours for us. */
static void
indirect_table_in_two_regions(void **state)
{
	struct fixture f;

	(void)state;
	FOR_EACH_FORMAT(&f)
	{
		const uint64_t table = MID_GPA - 16 - 7;
		uint8_t entry[16];
		uint16_t *flags = (uint16_t *)(void *)(entry + (f.d.packed ? 14 : 12));
		uint16_t *next = (uint16_t *)(void *)(entry + 14);

		put(&f, 0, table, 3 * 16, D_INDIRECT, 0);
		for (unsigned int i = 0; i < 3; i++) {
			const uint64_t addr = DATA + 64 * i;
			const uint32_t len = 10 + i;

			memset(entry, 0, sizeof(entry));
			memcpy(entry, &addr, 8);
			memcpy(entry + 8, &len, 4);
			if (!f.d.packed)
				*next = (uint16_t)(i + 1);
			*flags = (uint16_t)((i < 2 ? D_NEXT : 0) | (i > 0 ? D_WRITE : 0));
			for (unsigned int j = 0; j < 16; j++)
				*(uint8_t *)guest_hva(&f.g, table + 16 * i + j) = entry[j];
		}
		offer_first(&f);
		expect(&f, 1, VHUB_VIRTQ_OK);
		assert_int_equal(f.chains[0]->out_bytes, 10);
		assert_int_equal(f.chains[0]->in_bytes, 23);
		assert_ptr_equal(f.chains[0]->iov[2].iov_base, guest_hva(&f.g, DATA + 128));
	}
}

/* ---- the device's own reasons ---- */

static void
device_breaks_the_ring(void **state)
{
	const uint16_t heads[] = { 1, 2 };
	struct fixture f;

	(void)state;
	begin(&f, 0);
	put(&f, 1, DATA, 64, 0, 0);
	put(&f, 2, DATA, 64, 0, 0);
	offer(&f, 2, heads);
	assert_int_equal(vhub_virtq_pop(f.vq, f.chains, 1), 1);
	vhub_virtq_break(f.vq, VHUB_VIRTQ_BAD_REQUEST);
	/* The first reason stays. */
	vhub_virtq_break(f.vq, VHUB_VIRTQ_BAD_INFLIGHT);
	assert_int_equal(vhub_virtq_broken(f.vq), VHUB_VIRTQ_BAD_REQUEST);
	assert_int_equal(vhub_virtq_pop(f.vq, f.chains + 1, 1), 0);
	vhub_virtq_push(f.vq, f.chains, 1);
	assert_int_equal(vhub_virtq_in_flight(f.vq), 0);
	/* Neither was used: both are offered again after a restart. */
	assert_int_equal(vhub_virtq_base(f.vq), 0);
	end(&f);
}

/* With IN_ORDER, chains that wait for others are given up as well. */
static void
breaking_lets_go_of_what_is_held_back(void **state)
{
	const uint16_t heads[] = { 1, 2, 3 };
	struct fixture f;

	(void)state;
	begin(&f, F_IN_ORDER);
	for (uint16_t i = 1; i < 4; i++)
		put(&f, i, DATA, 64, 0, 0);
	offer(&f, 3, heads);
	assert_int_equal(vhub_virtq_pop(f.vq, f.chains, 3), 3);
	vhub_virtq_push(f.vq, &f.chains[1], 2);
	assert_int_equal(vhub_virtq_in_flight(f.vq), 3);
	vhub_virtq_break(f.vq, VHUB_VIRTQ_BAD_REQUEST);
	assert_int_equal(vhub_virtq_in_flight(f.vq), 1);
	vhub_virtq_push(f.vq, &f.chains[0], 1);
	assert_int_equal(vhub_virtq_in_flight(f.vq), 0);
	end(&f);
}

static void
on_alarm(int sig)
{
	(void)sig;
}

/* The front end has filled its eventfd and made it block; the watchdog's signal ends the write. */
static void
call_fd_blocks(void **state)
{
	const struct sigaction act = { .sa_handler = on_alarm };
	const struct itimerval timer = { .it_value = { .tv_usec = 20000 },
		.it_interval = { .tv_usec = 20000 } };
	const struct itimerval off = { .it_value = { .tv_usec = 0 } };
	struct vhub_virtq_stats stats;
	struct fixture f;
	int fd = eventfd(0, 0);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(eventfd_write(fd, UINT64_MAX - 1), 0);
	assert_int_equal(sigaction(SIGALRM, &act, NULL), 0);
	begin(&f, 0);
	vhub_virtq_set_call_fd(f.vq, fd);
	put(&f, 0, DATA, 64, 0, 0);
	offer_first(&f);
	expect(&f, 1, VHUB_VIRTQ_OK);
	vhub_virtq_push(f.vq, f.chains, 1);
	assert_int_equal(setitimer(ITIMER_REAL, &timer, NULL), 0);
	vhub_virtq_notify(f.vq);
	assert_int_equal(setitimer(ITIMER_REAL, &off, NULL), 0);
	assert_int_equal(vhub_virtq_broken(f.vq), VHUB_VIRTQ_NOTIFY_STUCK);
	vhub_virtq_get_stats(f.vq, &stats);
	assert_int_equal(stats.calls, 0);
	assert_int_equal(stats.call_errors, 1);
	end(&f);
	close(fd);
}

static void
every_reason_has_its_sentence(void **state)
{
	(void)state;
	for (int i = 0; i < VHUB_VIRTQ_REASONS; i++) {
		assert_non_null(vhub_virtq_reason_name((enum vhub_virtq_reason)i));
		for (int j = 0; j < i; j++)
			assert_string_not_equal(vhub_virtq_reason_name((enum vhub_virtq_reason)i),
					vhub_virtq_reason_name((enum vhub_virtq_reason)j));
	}
	assert_string_equal(vhub_virtq_reason_name(VHUB_VIRTQ_REASONS), "unknown");
	assert_string_equal(vhub_virtq_reason_name((enum vhub_virtq_reason) - 1), "unknown");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(avail_index_runs_away),
		cmocka_unit_test(avail_index_counts_what_is_in_flight),
		cmocka_unit_test(packed_ring_overtakes_what_is_in_flight),
		cmocka_unit_test(packed_chain_runs_into_what_is_in_flight),
		cmocka_unit_test(head_beyond_the_table),
		cmocka_unit_test(head_offered_twice),
		cmocka_unit_test(next_beyond_the_table),
		cmocka_unit_test(chain_without_end),
		cmocka_unit_test(chain_as_long_as_the_ring),
		cmocka_unit_test(too_many_pieces),
		cmocka_unit_test(too_many_bytes),
		cmocka_unit_test(address_outside),
		cmocka_unit_test(address_comes_round_to_zero),
		cmocka_unit_test(length_of_zero),
		cmocka_unit_test(readable_after_writable),
		cmocka_unit_test(indirect_not_negotiated),
		cmocka_unit_test(indirect_of_bad_size),
		cmocka_unit_test(indirect_with_next),
		cmocka_unit_test(indirect_nested),
		cmocka_unit_test(indirect_outside),
		cmocka_unit_test(split_indirect_behind_direct_ones),
		cmocka_unit_test(packed_indirect_behind_direct_ones),
		cmocka_unit_test(indirect_table_in_two_regions),
		cmocka_unit_test(device_breaks_the_ring),
		cmocka_unit_test(breaking_lets_go_of_what_is_held_back),
		cmocka_unit_test(call_fd_blocks),
		cmocka_unit_test(every_reason_has_its_sentence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
