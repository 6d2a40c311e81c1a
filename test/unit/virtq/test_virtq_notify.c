/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Kicks and calls: asked for, suppressed, never lost. The rule itself is held by
 * test_virtq_model.c; here are its corners, call fds that change or fail, and a driver on a thread
 * of its own that sleeps whenever it may.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <rte_cycles.h>

#include "guest.h"

#define SIZE 8u

static const uint64_t kinds[] = { 0, F_EVENT_IDX, F_PACKED, F_PACKED | F_EVENT_IDX };
#define N_KINDS (sizeof(kinds) / sizeof(*kinds))

struct fixture {
	struct guest g;
	struct driver d;
	struct vhub_virtq *vq;
	int fd;
};

static void
begin(struct fixture *f, uint64_t features, bool with_fd)
{
	struct vhub_virtq_config config;

	memset(f, 0, sizeof(*f));
	guest_init(&f->g);
	driver_init(&f->d, &f->g, features | F_VERSION_1, SIZE);
	f->fd = eventfd(0, EFD_NONBLOCK);
	assert_true(f->fd >= 0);
	config = driver_config(&f->d);
	config.call_fd = with_fd ? f->fd : -1;
	f->vq = virtq_make(&config);
}

static void
end(struct fixture *f)
{
	vhub_virtq_destroy(f->vq);
	driver_fini(&f->d);
	guest_fini(&f->g);
	close(f->fd);
}

static uint64_t
calls(const struct fixture *f)
{
	eventfd_t n = 0;

	return eventfd_read(f->fd, &n) == 0 ? n : 0;
}

/* The ring position of the next used entry, and what it is after `n` more. */
static void
event_at(struct fixture *f, unsigned int n)
{
	uint32_t at = f->d.used_idx + n;

	if (!f->d.packed)
		driver_calls_event(&f->d, (uint16_t)at, 0);
	else
		driver_calls_event(&f->d, (uint16_t)(at % SIZE),
				(uint8_t)(f->d.used_wrap ^ (at / SIZE & 1)));
}

/* `n` requests of one descriptor go through. */
static void
serve(struct fixture *f, unsigned int n)
{
	const struct piece piece = { LOW_GPA, 64, true };
	struct vhub_chain *chains[SIZE];

	for (unsigned int i = 0; i < n; i++)
		assert_non_null(driver_add(&f->d, &piece, 1, false));
	assert_int_equal(vhub_virtq_pop(f->vq, chains, SIZE), n);
	vhub_virtq_push(f->vq, chains, (uint16_t)n);
}

static void
reap(struct fixture *f, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		assert_non_null(driver_reap(&f->d));
}

/* ---- notifications that are kept back ---- */

/* One that is wanted, unless it is kept. */
static void
serve_one(struct fixture *f)
{
	event_at(f, 0);
	serve(f, 1);
	vhub_virtq_notify(f->vq);
	reap(f, 1);
}

static void
enough_entries_end_the_silence(void **state)
{
	struct vhub_virtq_coalescing c = { .max_cycles = UINT64_MAX, .max_entries = 4 };
	struct fixture f;

	(void)state;
	for (unsigned int i = 0; i < N_KINDS; i++) {
		begin(&f, kinds[i], true);
		serve_one(&f);
		assert_int_equal(calls(&f), 1);
		vhub_virtq_coalesce(f.vq, &c);
		for (unsigned int n = 1; n <= 40; n++) {
			serve_one(&f);
			assert_int_equal(calls(&f), n % 4 == 0);
			assert_int_equal(vhub_virtq_notify_kept(f.vq, false), n % 4 != 0);
			assert_int_equal(calls(&f), 0);
		}
		/* What is set meanwhile holds for what is kept, too. */
		serve_one(&f);
		c.max_entries = 1;
		assert_false(vhub_virtq_notify_kept(f.vq, false));
		assert_int_equal(calls(&f), 1);
		serve_one(&f);
		assert_int_equal(calls(&f), 1);
		c.max_entries = 4;
		end(&f);
	}
}

static void
time_ends_the_silence(void **state)
{
	const uint64_t wait = rte_get_tsc_hz() / 1000;
	const struct vhub_virtq_coalescing c = { .max_cycles = wait, .max_entries = UINT32_MAX };
	struct fixture f;
	uint64_t since;

	(void)state;
	for (unsigned int i = 0; i < N_KINDS; i++) {
		begin(&f, kinds[i], true);
		serve_one(&f);
		assert_int_equal(calls(&f), 1);
		vhub_virtq_coalesce(f.vq, &c);
		assert_false(vhub_virtq_notify_kept(f.vq, true));
		for (unsigned int n = 0; n < 3; n++) {
			since = rte_rdtsc();
			serve_one(&f);
			while (vhub_virtq_notify_kept(f.vq, false))
				assert_int_equal(calls(&f), 0);
			assert_true(rte_rdtsc() - since >= wait);
			assert_int_equal(calls(&f), 1);
			assert_false(vhub_virtq_notify_kept(f.vq, true));
			assert_int_equal(calls(&f), 0);
		}
		serve_one(&f);
		assert_false(vhub_virtq_notify_kept(f.vq, true));
		assert_int_equal(calls(&f), 1);
		end(&f);
	}
}

static void
what_is_kept_still_obeys_the_guest(void **state)
{
	const struct vhub_virtq_coalescing c = { .max_cycles = UINT64_MAX, .max_entries = 4 };
	struct fixture f;

	(void)state;
	for (unsigned int i = 0; i < N_KINDS; i++) {
		if ((kinds[i] & F_EVENT_IDX) == 0)
			continue;
		begin(&f, kinds[i], true);
		serve_one(&f);
		assert_int_equal(calls(&f), 1);
		vhub_virtq_coalesce(f.vq, &c);
		/* The event lies among the four entries: it is looked for from the first one on. */
		event_at(&f, 1);
		for (unsigned int n = 0; n < 4; n++) {
			serve(&f, 1);
			vhub_virtq_notify(f.vq);
		}
		assert_int_equal(calls(&f), 1);
		reap(&f, 4);
		event_at(&f, 4);
		for (unsigned int n = 0; n < 4; n++) {
			serve(&f, 1);
			vhub_virtq_notify(f.vq);
		}
		assert_int_equal(calls(&f), 0);
		reap(&f, 4);
		end(&f);
	}
}

/* ---- rings that are left alone ---- */

static bool
has_changed(const struct vhub_lcore_word *word)
{
	return (__atomic_load_n(word->at, __ATOMIC_RELAXED) & word->mask) != word->seen;
}

static void
the_word_of_a_parked_ring_tells_of_the_next_offer(void **state)
{
	const struct piece piece = { LOW_GPA, 64, true };
	struct vhub_chain *chain;
	struct vhub_lcore_word word;
	struct fixture f;

	(void)state;
	for (unsigned int i = 0; i < N_KINDS; i++) {
		begin(&f, kinds[i], true);
		assert_false(vhub_virtq_park(f.vq, &word)); /* not looked at yet */
		assert_int_equal(vhub_virtq_pop(f.vq, &chain, 1), 0);
		/* Three laps, at each place of the ring. */
		for (unsigned int n = 0; n < 3 * SIZE; n++) {
			assert_true(vhub_virtq_park(f.vq, &word));
			assert_false(has_changed(&word));
			vhub_virtq_disarm(f.vq);
			assert_false(has_changed(&word));
			assert_non_null(driver_add(&f.d, &piece, 1, false));
			assert_true(has_changed(&word));
			/* Offered, in flight. A split ring's word would tell of the offer at once. */
			assert_true(!vhub_virtq_park(f.vq, &word) || has_changed(&word));
			assert_int_equal(vhub_virtq_pop(f.vq, &chain, 1), 1);
			assert_false(vhub_virtq_park(f.vq, &word));
			vhub_virtq_push(f.vq, &chain, 1);
			reap(&f, 1);
		}
		vhub_virtq_break(f.vq, VHUB_VIRTQ_BAD_REQUEST);
		assert_false(vhub_virtq_park(f.vq, &word));
		end(&f);
	}
}

/* ---- calls ---- */

static void
flags_are_obeyed_each_time(void **state)
{
	struct vhub_virtq_stats stats;
	struct fixture f;

	(void)state;
	for (int packed = 0; packed < 2; packed++) {
		begin(&f, packed != 0 ? F_PACKED : 0, true);
		for (unsigned int i = 0; i < 20; i++) {
			driver_calls_flag(&f.d, i % 3 == 0);
			serve(&f, 1 + i % 3);
			vhub_virtq_notify(f.vq);
			assert_int_equal(calls(&f), i % 3 == 0);
			reap(&f, 1 + i % 3);
		}
		vhub_virtq_get_stats(f.vq, &stats);
		assert_int_equal(stats.calls, 7);
		assert_int_equal(stats.calls_suppressed, 13);
		end(&f);
	}
}

static void
the_first_call_is_made_whatever_the_event(void **state)
{
	struct fixture f;

	(void)state;
	for (unsigned int i = 1; i < N_KINDS; i += 2) {
		begin(&f, kinds[i], true);
		event_at(&f, 5);
		serve(&f, 1);
		vhub_virtq_notify(f.vq);
		assert_int_equal(calls(&f), 1);
		reap(&f, 1);
		event_at(&f, 5);
		serve(&f, 1);
		vhub_virtq_notify(f.vq);
		assert_int_equal(calls(&f), 0);
		end(&f);
	}
}

static void
the_event_is_among_what_was_used_or_not(void **state)
{
	struct fixture f;

	(void)state;
	for (unsigned int i = 1; i < N_KINDS; i += 2) {
		begin(&f, kinds[i], true);
		serve(&f, 1);
		vhub_virtq_notify(f.vq);
		reap(&f, 1);
		calls(&f);
		for (unsigned int k = 0; k < 3000; k++) {
			const unsigned int n = 1 + k % SIZE;
			const unsigned int at = k % (SIZE + 3);

			event_at(&f, at);
			serve(&f, n);
			vhub_virtq_notify(f.vq);
			assert_int_equal(calls(&f), at < n);
			reap(&f, n);
		}
		end(&f);
	}
}

static void
reserved_event_flags_mean_a_call(void **state)
{
	struct fixture f;

	(void)state;
	for (unsigned int i = 2; i < N_KINDS; i++) {
		begin(&f, kinds[i], true);
		serve(&f, 1);
		vhub_virtq_notify(f.vq);
		calls(&f);
		/* Reserved; and DESC from a driver without EVENT_IDX. */
		((uint16_t *)(void *)f.d.avail)[1] = kinds[i] == F_PACKED ? 2 : 3;
		serve(&f, 1);
		vhub_virtq_notify(f.vq);
		assert_int_equal(calls(&f), 1);
		end(&f);
	}
}

/* More completions between two decisions than indexes can count. */
static void
a_very_long_silence_ends_with_a_call(void **state)
{
	struct fixture f;

	(void)state;
	begin(&f, F_EVENT_IDX, true);
	serve(&f, 1);
	vhub_virtq_notify(f.vq);
	reap(&f, 1);
	assert_int_equal(calls(&f), 1);
	event_at(&f, 0);
	for (unsigned int i = 0; i < 0x10000 / SIZE; i++) {
		serve(&f, SIZE);
		reap(&f, SIZE);
	}
	vhub_virtq_notify(f.vq);
	assert_int_equal(calls(&f), 1);
	end(&f);
}

static void
a_call_without_fd_is_made_up_for(void **state)
{
	struct fixture f;

	(void)state;
	for (unsigned int i = 0; i < N_KINDS; i++) {
		begin(&f, kinds[i], false);
		vhub_virtq_set_call_fd(f.vq, f.fd);
		assert_int_equal(calls(&f), 0);
		vhub_virtq_set_call_fd(f.vq, -1);
		serve(&f, 2);
		vhub_virtq_notify(f.vq);
		vhub_virtq_set_call_fd(f.vq, f.fd);
		assert_int_equal(calls(&f), 1);
		vhub_virtq_set_call_fd(f.vq, f.fd);
		assert_int_equal(calls(&f), 0);
		end(&f);
	}
}

static void
a_new_fd_takes_over(void **state)
{
	struct fixture f;
	int other = eventfd(0, EFD_NONBLOCK);
	eventfd_t n;

	(void)state;
	assert_true(other >= 0);
	begin(&f, 0, true);
	serve(&f, 1);
	vhub_virtq_set_call_fd(f.vq, other);
	vhub_virtq_notify(f.vq);
	assert_int_equal(calls(&f), 0);
	assert_int_equal(eventfd_read(other, &n), 0);
	end(&f);
	close(other);
}

/* Nothing of this is the ring's fault. */
static void
fds_that_fail_are_counted(void **state)
{
	struct vhub_virtq_stats stats;
	struct fixture f;
	int full = eventfd(0, EFD_NONBLOCK);

	(void)state;
	assert_true(full >= 0);
	assert_int_equal(eventfd_write(full, UINT64_MAX - 1), 0);
	begin(&f, 0, true);
	vhub_virtq_set_call_fd(f.vq, 1000000);
	serve(&f, 1);
	vhub_virtq_notify(f.vq);
	vhub_virtq_get_stats(f.vq, &stats);
	assert_int_equal(stats.call_errors, 1);
	assert_int_equal(stats.calls, 0);
	vhub_virtq_set_call_fd(f.vq, full);
	serve(&f, 1);
	vhub_virtq_notify(f.vq);
	vhub_virtq_get_stats(f.vq, &stats);
	assert_int_equal(stats.call_errors, 1);
	assert_int_equal(stats.calls, 1);
	assert_int_equal(vhub_virtq_broken(f.vq), VHUB_VIRTQ_OK);
	end(&f);
	close(full);
}

/* ---- kicks ---- */

static void
kicks_come_only_while_armed(void **state)
{
	const struct piece piece = { LOW_GPA, 64, false };
	struct vhub_chain *chains[SIZE];
	struct fixture f;

	(void)state;
	for (unsigned int i = 0; i < N_KINDS; i++) {
		begin(&f, kinds[i], true);
		/* The first look says that we are awake. */
		assert_int_equal(vhub_virtq_pop(f.vq, chains, SIZE), 0);
		for (unsigned int k = 0; k < 100; k++) {
			const unsigned int n = 1 + k % SIZE;

			assert_non_null(driver_add(&f.d, &piece, 1, false));
			assert_false(driver_kick_wanted(&f.d));
			assert_int_equal(vhub_virtq_arm(f.vq), -EAGAIN);
			assert_false(driver_kick_wanted(&f.d));
			assert_int_equal(vhub_virtq_pop(f.vq, chains, SIZE), 1);
			vhub_virtq_push(f.vq, chains, 1);
			reap(&f, 1);
			assert_int_equal(vhub_virtq_arm(f.vq), 0);
			for (unsigned int j = 0; j < n; j++)
				assert_non_null(driver_add(&f.d, &piece, 1, false));
			assert_true(driver_kick_wanted(&f.d));
			vhub_virtq_disarm(f.vq);
			assert_int_equal(vhub_virtq_pop(f.vq, chains, SIZE), n);
			vhub_virtq_push(f.vq, chains, (uint16_t)n);
			reap(&f, n);
		}
		end(&f);
	}
}

/* ---- two threads ---- */

struct pair {
	struct fixture f;
	int kick_fd;
	unsigned int rounds;
	bool spin; /* instead of sleeping: the windows of the race are hit more often */
	uint64_t kicks;
	bool failed;
	bool stop;
};

static uint64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* What takes longer to come has been lost. Longer than a busy host keeps both CPUs. */
#define LOST_MS 30000

/* False when it was lost. */
static bool
sleep_on(const struct pair *p, int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	const uint64_t until = now_ms() + LOST_MS;
	eventfd_t n;

	for (unsigned int i = 0; p->spin && eventfd_read(fd, &n) != 0; i++) {
		if (i % 1000 != 999)
			continue;
		if (now_ms() > until)
			return false;
		sched_yield();
	}
	return p->spin || (poll(&pfd, 1, LOST_MS) == 1 && eventfd_read(fd, &n) == 0);
}

/* Sleeps until every request has come back; looks once more after asking for a call. */
static bool
wait_for_all(struct pair *p)
{
	struct driver *d = &p->f.d;

	while (d->n_out != 0) {
		if (driver_reap(d) != NULL)
			continue;
		if ((d->features & F_EVENT_IDX) != 0)
			event_at(&p->f, 0);
		else
			driver_calls_flag(d, true);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (driver_reap(d) == NULL && !sleep_on(p, p->f.fd))
			return false;
		if ((d->features & F_EVENT_IDX) == 0)
			driver_calls_flag(d, false);
	}
	return true;
}

static void *
driver_thread(void *arg)
{
	const struct piece piece = { LOW_GPA, 64, true };
	struct pair *p = arg;

	for (unsigned int i = 0; i < p->rounds && !__atomic_load_n(&p->failed, __ATOMIC_RELAXED);
			i++) {
		for (unsigned int k = 0; k < 1 + i % 3; k++)
			driver_add(&p->f.d, &piece, 1, false);
		if (driver_kick_wanted(&p->f.d)) {
			p->kicks++;
			eventfd_write(p->kick_fd, 1);
		}
		if (!wait_for_all(p))
			__atomic_store_n(&p->failed, true, __ATOMIC_RELAXED);
	}
	__atomic_store_n(&p->stop, true, __ATOMIC_RELEASE);
	eventfd_write(p->kick_fd, 1);
	return NULL;
}

static void
device_loop(struct pair *p)
{
	struct vhub_chain *chains[SIZE];
	uint16_t n;

	while (!__atomic_load_n(&p->stop, __ATOMIC_ACQUIRE)) {
		n = vhub_virtq_pop(p->f.vq, chains, SIZE);
		if (n != 0) {
			vhub_virtq_push(p->f.vq, chains, n);
			vhub_virtq_notify(p->f.vq);
			continue;
		}
		if (vhub_virtq_arm(p->f.vq) != 0)
			continue;
		if (!sleep_on(p, p->kick_fd)) {
			__atomic_store_n(&p->failed, true, __ATOMIC_RELAXED);
			return;
		}
		vhub_virtq_disarm(p->f.vq);
	}
}

static void
run_pair(uint64_t features, unsigned int rounds, bool spin)
{
	struct pair p;
	pthread_t thread;

	memset(&p, 0, sizeof(p));
	begin(&p.f, features, true);
	p.rounds = rounds;
	p.spin = spin;
	p.kick_fd = eventfd(0, EFD_NONBLOCK);
	assert_true(p.kick_fd >= 0);
	assert_int_equal(pthread_create(&thread, NULL, driver_thread, &p), 0);
	device_loop(&p);
	pthread_join(thread, NULL);
	assert_false(p.failed);
	assert_int_equal(p.f.d.n_out, 0);
	/* They did sleep. */
	assert_true(p.kicks > rounds / 100);
	close(p.kick_fd);
	end(&p.f);
}

static void
two_sleepers_always_wake_each_other(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < N_KINDS; i++)
		run_pair(kinds[i], 1000, false);
}

static void
two_spinners_always_wake_each_other(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < N_KINDS; i++)
		run_pair(kinds[i], 25000, true);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(enough_entries_end_the_silence),
		cmocka_unit_test(time_ends_the_silence),
		cmocka_unit_test(what_is_kept_still_obeys_the_guest),
		cmocka_unit_test(the_word_of_a_parked_ring_tells_of_the_next_offer),
		cmocka_unit_test(flags_are_obeyed_each_time),
		cmocka_unit_test(the_first_call_is_made_whatever_the_event),
		cmocka_unit_test(the_event_is_among_what_was_used_or_not),
		cmocka_unit_test(reserved_event_flags_mean_a_call),
		cmocka_unit_test(a_very_long_silence_ends_with_a_call),
		cmocka_unit_test(a_call_without_fd_is_made_up_for),
		cmocka_unit_test(a_new_fd_takes_over),
		cmocka_unit_test(fds_that_fail_are_counted),
		cmocka_unit_test(kicks_come_only_while_armed),
		cmocka_unit_test(two_sleepers_always_wake_each_other),
		cmocka_unit_test(two_spinners_always_wake_each_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
