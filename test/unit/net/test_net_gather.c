/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * When a ring is left alone (net/direct_gather.c): not at low rates, under load until as much waits as
 * the rate promises, then for as many turns as that takes. The guest is that of the tests of lib/virtq.
 */
#include <string.h>

#include <rte_cycles.h>

#include "../eal_fixture.h"
#include "../virtq/guest.h"
#include "direct.h"
#include "vring.h"

struct fixture {
	struct guest g;
	struct driver d;
	struct vring_run run;
	struct net_pair pair;
};

static void
begin(struct fixture *f, uint64_t features, uint32_t size)
{
	struct vhub_virtq_config config;
	struct vhub_chain *chain;

	memset(f, 0, sizeof(*f));
	guest_init(&f->g);
	driver_init(&f->d, &f->g, features | F_VERSION_1, size);
	config = driver_config(&f->d);
	f->run.pub.vq = virtq_make(&config);
	f->pair.from_ring = &f->run.pub;
	direct_gather_begin(&f->pair);
	/* A slow clock: tests may be stopped anywhere. */
	f->pair.gather.cycles_per_us *= 1000;
	/* Its first pop is a special one. */
	assert_int_equal(vhub_virtq_pop(f->run.pub.vq, &chain, 1), 0);
}

static void
end(struct fixture *f)
{
	vhub_virtq_destroy(f->run.pub.vq);
	driver_fini(&f->d);
	guest_fini(&f->g);
}

static void
send_packets(struct fixture *f, unsigned int n)
{
	const struct piece piece = { .gpa = LOW_GPA, .len = 80 };

	while (n-- > 0)
		assert_non_null(driver_add(&f->d, &piece, 1, false));
}

/* So many packets have come in the last 64 microseconds; again, if the test was stopped just here. */
static void
pretend(struct fixture *f, unsigned int packets)
{
	const uint64_t window = 64 * f->pair.gather.cycles_per_us;
	uint64_t before;

	do {
		before = rte_rdtsc();
		f->pair.gather.since_tsc = before - window;
		f->pair.gather.packets = packets;
		direct_has_taken(&f->pair, 0);
	} while (rte_rdtsc() - before > window / 2);
}

static void
take(struct fixture *f, uint16_t n)
{
	struct vhub_buffer buffers[VHUB_VIRTQ_BURST];

	assert_int_equal(vhub_virtq_peek(f->run.pub.vq, buffers, n, false), n);
	vhub_virtq_use(f->run.pub.vq, buffers, n);
	direct_has_taken(&f->pair, n);
}

/* More is waited for, however long. */
static void
expect_wait(struct fixture *f)
{
	direct_is_gathering(&f->pair);
	assert_true(f->pair.gather.waiting);
}

static void
expect_no_wait(struct fixture *f)
{
	assert_false(direct_is_gathering(&f->pair));
	assert_false(f->pair.gather.waiting);
}

/* So many are waited for, and no more: those that are sent. */
static void
expect_enough(struct fixture *f, unsigned int n)
{
	send_packets(f, n - 1);
	expect_wait(f);
	send_packets(f, 1);
	assert_false(direct_is_gathering(&f->pair));
}

static void
test_nothing_waits_at_low_rates(void **state)
{
	struct fixture f;

	(void)state;
	begin(&f, 0, 1024);
	expect_no_wait(&f);
	pretend(&f, 250);
	expect_no_wait(&f);
	/* What was load goes on until the rate is clearly lower. */
	pretend(&f, 260);
	expect_wait(&f);
	pretend(&f, 200);
	expect_wait(&f);
	pretend(&f, 180);
	expect_no_wait(&f);
	end(&f);
}

static void
run_bursts(uint64_t features)
{
	struct fixture f;

	begin(&f, features, 1024);
	pretend(&f, 300);
	/* Two bursts, and two turns. */
	expect_enough(&f, 2 * VHUB_NET_BURST);
	take(&f, VHUB_NET_BURST);
	expect_no_wait(&f);
	take(&f, VHUB_NET_BURST);
	expect_wait(&f);

	end(&f);
}

static void
test_bursts_are_waited_for(void **state)
{
	(void)state;
	run_bursts(0);
	run_bursts(F_PACKED);
}

/* The guest needs the rest of it meanwhile. */
static void
test_no_more_than_a_quarter_of_a_ring(void **state)
{
	struct fixture f;

	(void)state;
	begin(&f, 0, 64);
	pretend(&f, 1100);
	expect_enough(&f, 16);
	take(&f, 16);
	expect_wait(&f);
	end(&f);
}

/* Long enough: what is there is taken, at once. */
static void
miss(struct fixture *f, uint16_t n)
{
	send_packets(f, n);
	expect_wait(f);
	f->pair.gather.until_tsc = rte_rdtsc();
	assert_false(direct_is_gathering(&f->pair));
	take(f, n);
}

/* As if the TSC went back by a day meanwhile. */
static void
test_no_wait_outlasts_its_clock(void **state)
{
	struct fixture f;

	(void)state;
	begin(&f, 0, 1024);
	pretend(&f, 300);
	send_packets(&f, 20);
	expect_wait(&f);
	f.pair.gather.until_tsc += 86400 * rte_get_tsc_hz();
	assert_false(direct_is_gathering(&f.pair));
	take(&f, 20);
	end(&f);
}

/* A guest that has no more packets than that is not made to wait for them again and again. */
static void
test_a_guest_that_sends_no_more_is_not_waited_for(void **state)
{
	struct fixture f;
	unsigned int i;

	(void)state;
	begin(&f, 0, 1024);
	pretend(&f, 300);
	/* Once is chance. */
	miss(&f, 20);
	send_packets(&f, 2 * VHUB_NET_BURST);
	assert_false(direct_is_gathering(&f.pair));
	take(&f, VHUB_NET_BURST);
	expect_no_wait(&f);
	take(&f, VHUB_NET_BURST);

	miss(&f, 40);
	miss(&f, 50);
	/* 50 are enough from now on. */
	expect_enough(&f, 50);
	take(&f, 50);

	miss(&f, 10);
	miss(&f, 10);
	expect_no_wait(&f);
	/* After a while it is tried again, first with a few. */
	for (i = 0; i < 63; i++) {
		pretend(&f, 300);
		expect_no_wait(&f);
	}
	pretend(&f, 300);
	expect_enough(&f, 42);
	take(&f, 42);
	end(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_waits_at_low_rates),
		cmocka_unit_test(test_bursts_are_waited_for),
		cmocka_unit_test(test_no_more_than_a_quarter_of_a_ring),
		cmocka_unit_test(test_no_wait_outlasts_its_clock),
		cmocka_unit_test(test_a_guest_that_sends_no_more_is_not_waited_for),
	};

	if (test_eal_init() != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
