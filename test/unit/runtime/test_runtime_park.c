/* SPDX-License-Identifier: BSD-3-Clause */
/* Pollers that are left alone: who is, what has them polled again, and that nothing that comes is missed. */
#include "lcore_test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define N_MANY 300
#define N_ROUNDS 5000

/* A poller that takes what its word says that there is; the bits in `bits` are the word's. */
struct sleeper {
	struct vhub_poller poller;
	uint16_t word; /* the test writes, atomic */
	uint16_t bits;
	uint16_t taken;
	bool refuses;
	bool no_word;
	bool not_meant;
	uint32_t n_polls;
	uint32_t n_taken;
	uint32_t n_parked;
	uint32_t n_resumed;
	struct sleeper *adds_to; /* at each poll with something to do */
};

static uint16_t
offered(const struct sleeper *s)
{
	return __atomic_load_n(&s->word, __ATOMIC_ACQUIRE) & s->bits;
}

static unsigned int
poll_sleeper(struct vhub_poller *poller)
{
	struct sleeper *s = vhub_container_of(poller, struct sleeper, poller);
	const uint16_t now = offered(s);

	test_store(&s->n_polls, s->n_polls + 1);
	if (now == s->taken)
		return 0;
	s->taken = now;
	test_store(&s->n_taken, s->n_taken + 1);
	if (s->adds_to != NULL) {
		__atomic_store_n(&s->adds_to->word, s->adds_to->word + 1, __ATOMIC_RELEASE);
		vhub_lcore_resume(&s->adds_to->poller);
	}
	return 1;
}

static bool
park_sleeper(struct vhub_poller *poller, struct vhub_lcore_word *word)
{
	struct sleeper *s = vhub_container_of(poller, struct sleeper, poller);

	if (s->refuses)
		return false;
	if (!s->no_word)
		*word = (struct vhub_lcore_word){ &s->word, s->bits, s->taken };
	test_store(&s->n_parked, s->n_parked + 1);
	return true;
}

static bool
is_sleeper_meant(struct vhub_poller *poller)
{
	return !vhub_container_of(poller, struct sleeper, poller)->not_meant;
}

static void
resume_sleeper(struct vhub_poller *poller)
{
	struct sleeper *s = vhub_container_of(poller, struct sleeper, poller);

	test_store(&s->n_resumed, s->n_resumed + 1);
}

static int
arm_sleeper(struct vhub_poller *poller)
{
	const struct sleeper *s = vhub_container_of(poller, struct sleeper, poller);

	return offered(s) == s->taken ? 0 : -EAGAIN;
}

static const struct vhub_poller_ops sleeper_ops = {
	.poll = poll_sleeper,
	.arm = arm_sleeper,
	.park = park_sleeper,
	.is_meant = is_sleeper_meant,
	.resume = resume_sleeper,
};

static void
sleeper_init(struct sleeper *s)
{
	*s = (struct sleeper){ .poller.ops = &sleeper_ops, .bits = UINT16_MAX };
}

static void
put(struct sleeper *s, uint16_t value)
{
	__atomic_store_n(&s->word, value, __ATOMIC_RELEASE);
}

/* The second one finds it polled. */
static void
resume_twice(void *poller)
{
	vhub_lcore_resume(poller);
	vhub_lcore_resume(poller);
}

static bool
wait_parked(unsigned int n)
{
	const uint64_t end_ns = test_now_ns() + TEST_LOST_NS;
	struct vhub_lcore_stats stats;

	do {
		vhub_lcore_get_stats(vhub_lcore_at(0), &stats);
		if (stats.n_parked == n)
			return true;
		usleep(100);
	} while (test_now_ns() < end_ns);
	return false;
}

/* ---- a poller that is always polled ---- */

static uint32_t busy_work;

static unsigned int
poll_busy(struct vhub_poller *poller)
{
	(void)poller;
	return test_load(&busy_work);
}

static const struct vhub_poller_ops busy_ops = { .poll = poll_busy };

/* ---- one ---- */

static void
what_has_nothing_to_do_is_left_alone(void **unused)
{
	struct vhub_lcore_stats stats;
	struct sleeper s;
	uint32_t n_polls;

	(void)unused;
	sleeper_init(&s);
	test_on_lcore(0, test_add_poller, &s.poller);
	assert_true(wait_parked(1));
	n_polls = test_load(&s.n_polls);
	assert_true(n_polls > 0);
	usleep(10000);
	assert_int_equal(test_load(&s.n_polls), n_polls);
	for (uint16_t i = 1; i <= 3; i++) {
		put(&s, i);
		assert_true(test_wait(&s.n_taken, i));
		assert_true(wait_parked(1));
		assert_int_equal(test_load(&s.n_resumed), i);
		assert_int_equal(test_load(&s.n_parked), i + 1);
	}
	test_on_lcore(0, test_remove_poller, &s.poller);
	vhub_lcore_get_stats(vhub_lcore_at(0), &stats);
	assert_int_equal(stats.n_parked, 0);
	assert_int_equal(stats.n_pollers, 0);
}

static void
other_bits_of_the_word_mean_nothing(void **unused)
{
	struct sleeper s;
	uint32_t n_polls;

	(void)unused;
	sleeper_init(&s);
	s.bits = 0x8080;
	test_on_lcore(0, test_add_poller, &s.poller);
	assert_true(wait_parked(1));
	n_polls = test_load(&s.n_polls);
	put(&s, 0x7f7f);
	usleep(10000);
	assert_int_equal(test_load(&s.n_polls), n_polls);
	put(&s, 0x7fff);
	assert_true(test_wait(&s.n_taken, 1));
	test_on_lcore(0, test_remove_poller, &s.poller);
}

static void
who_refuses_is_polled(void **unused)
{
	struct sleeper s;
	struct vhub_poller without = { .ops = &busy_ops };
	struct vhub_lcore_stats stats;

	(void)unused;
	sleeper_init(&s);
	s.refuses = true;
	test_store(&busy_work, 0);
	test_on_lcore(0, test_add_poller, &s.poller);
	test_on_lcore(0, test_add_poller, &without);
	usleep(10000);
	vhub_lcore_get_stats(vhub_lcore_at(0), &stats);
	assert_int_equal(stats.n_parked, 0);
	assert_true(test_wait(&s.n_polls, test_load(&s.n_polls) + 1000));
	test_on_lcore(0, test_remove_poller, &s.poller);
	test_on_lcore(0, test_remove_poller, &without);
}

static void
without_a_word_it_waits_to_be_told(void **unused)
{
	struct sleeper s, by, other;
	uint32_t n_polls;

	(void)unused;
	sleeper_init(&s);
	sleeper_init(&by);
	s.no_word = true;
	by.adds_to = &s;
	test_on_lcore(0, test_add_poller, &s.poller);
	test_on_lcore(0, test_add_poller, &by.poller);
	assert_true(wait_parked(2));
	n_polls = test_load(&s.n_polls);
	put(&s, 1);
	usleep(10000);
	assert_int_equal(test_load(&s.n_polls), n_polls);
	/* From a message, and from another's poll. */
	test_on_lcore(0, resume_twice, &s.poller);
	assert_true(test_wait(&s.n_taken, 1));
	assert_true(wait_parked(2));
	assert_int_equal(test_load(&s.n_resumed), 1);
	put(&by, 1);
	assert_true(test_wait(&s.n_taken, 2));
	/* And from any thread, with all others that are meant. */
	sleeper_init(&other);
	other.not_meant = true;
	test_on_lcore(0, test_add_poller, &other.poller);
	assert_true(wait_parked(3));
	n_polls = test_load(&other.n_polls);
	put(&s, 3);
	vhub_lcore_resume_all(vhub_lcore_at(0));
	assert_true(test_wait(&s.n_taken, 3));
	assert_true(test_wait(&by.n_resumed, 2));
	assert_true(wait_parked(3));
	assert_int_equal(test_load(&other.n_polls), n_polls);
	assert_int_equal(test_load(&other.n_resumed), 0);
	put(&other, 1);
	assert_true(test_wait(&other.n_taken, 1));
	test_on_lcore(0, test_remove_poller, &other.poller);
	test_on_lcore(0, test_remove_poller, &s.poller);
	test_on_lcore(0, test_remove_poller, &by.poller);
}

/* ---- many ---- */

static struct sleeper *
add_many(unsigned int n)
{
	struct sleeper *many = calloc(n, sizeof(*many));

	assert_non_null(many);
	for (unsigned int i = 0; i < n; i++) {
		sleeper_init(&many[i]);
		test_on_lcore(0, test_add_poller, &many[i].poller);
	}
	return many;
}

/* Each gets something, in any order, while another one is busy. `with` says which there are. */
static void
give_to_all(struct sleeper *many, const bool *with, uint32_t round)
{
	for (unsigned int i = 0; i < N_MANY; i++) {
		const unsigned int at = i * 7 % N_MANY;

		if (with[at])
			put(&many[at], (uint16_t)round);
	}
	for (unsigned int i = 0; i < N_MANY; i++) {
		if (with[i])
			assert_true(test_wait(&many[i].n_taken, round));
	}
}

static void
a_busy_one_keeps_nobody_from_its_work(void **unused)
{
	struct vhub_poller busy = { .ops = &busy_ops };
	struct sleeper *many = add_many(N_MANY);
	bool with[N_MANY];

	(void)unused;
	memset(with, true, sizeof(with));
	test_store(&busy_work, 1);
	test_on_lcore(0, test_add_poller, &busy);
	for (uint32_t round = 1; round <= 3; round++) {
		assert_true(wait_parked(N_MANY));
		give_to_all(many, with, round);
	}
	/* One after the other: each look finds one. */
	assert_true(wait_parked(N_MANY));
	for (unsigned int i = 0; i < N_MANY; i++) {
		put(&many[i], 4);
		assert_true(test_wait(&many[i].n_taken, 4));
	}
	test_on_lcore(0, test_remove_poller, &busy);
	for (unsigned int i = 0; i < N_MANY; i++)
		test_on_lcore(0, test_remove_poller, &many[i].poller);
	free(many);
}

static void
those_that_leave_take_no_other_s_place(void **unused)
{
	struct sleeper *many = add_many(N_MANY);
	bool with[N_MANY];
	unsigned int n_left = 0;

	(void)unused;
	assert_true(wait_parked(N_MANY));
	for (unsigned int i = 0; i < N_MANY; i++) {
		with[i] = i % 3 != 0 && i != N_MANY - 1;
		if (with[i])
			n_left++;
		else
			test_on_lcore(0, test_remove_poller, &many[i].poller);
	}
	assert_true(wait_parked(n_left));
	give_to_all(many, with, 1);
	for (unsigned int i = 0; i < N_MANY; i++) {
		if (with[i])
			test_on_lcore(0, test_remove_poller, &many[i].poller);
		else
			assert_int_equal(many[i].n_taken, 0);
	}
	free(many);
}

/* ---- nothing is missed ---- */

/* Something comes at every moment around the parking, which the turn of the lcore chooses. */
static void
nothing_is_missed(void **unused)
{
	struct sleeper s;
	uint32_t seed = 3;

	(void)unused;
	sleeper_init(&s);
	test_on_lcore(0, test_add_poller, &s.poller);
	for (uint32_t i = 1; i <= N_ROUNDS; i++) {
		put(&s, (uint16_t)i);
		assert_true(test_wait(&s.n_taken, i));
		test_jitter(&seed, i % 8 == 0 ? 19 : 10);
	}
	assert_true(test_load(&s.n_parked) > 10); /* or nothing was tested */
	test_on_lcore(0, test_remove_poller, &s.poller);
}

static void
parked_ones_are_armed_before_a_sleep(void **unused)
{
	struct sleeper s;

	(void)unused;
	sleeper_init(&s);
	test_on_lcore(0, test_add_poller, &s.poller);
	assert_true(test_wait_asleep(0));
	put(&s, 1);
	vhub_lcore_wake(vhub_lcore_at(0));
	assert_true(test_wait(&s.n_taken, 1));
	assert_true(test_wait_asleep(0));
	test_on_lcore(0, test_remove_poller, &s.poller);
}

/* Long enough awake to park. */
static int
start_adaptive(void **unused)
{
	(void)unused;
	return vhub_lcores_start(test_loop, VHUB_IDLE_ADAPTIVE, 2000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_has_nothing_to_do_is_left_alone,
				test_start_poll, test_stop_lcores),
		cmocka_unit_test_setup_teardown(other_bits_of_the_word_mean_nothing,
				test_start_poll, test_stop_lcores),
		cmocka_unit_test_setup_teardown(who_refuses_is_polled, test_start_poll,
				test_stop_lcores),
		cmocka_unit_test_setup_teardown(without_a_word_it_waits_to_be_told, test_start_poll,
				test_stop_lcores),
		cmocka_unit_test_setup_teardown(a_busy_one_keeps_nobody_from_its_work,
				test_start_poll, test_stop_lcores),
		cmocka_unit_test_setup_teardown(those_that_leave_take_no_other_s_place,
				test_start_poll, test_stop_lcores),
		cmocka_unit_test_setup_teardown(nothing_is_missed, test_start_poll,
				test_stop_lcores),
		cmocka_unit_test_setup_teardown(parked_ones_are_armed_before_a_sleep,
				start_adaptive, test_stop_lcores),
	};

	return cmocka_run_group_tests(tests, test_group_setup, test_group_teardown);
}
