/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rings of every kind against a model: a driver offers, the device takes, gives back in any order
 * and tells, in random steps; now and then the ring is made anew, as after a stop or, with an
 * inflight region, as after a crash. The model knows for each request where it is, and says what
 * every call must return.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "guest.h"

#define STALE_PACKED_BASE 0x80008000u

enum where {
	NOWHERE,
	OFFERED,
	POPPED,
	PUSHED,
};

struct model {
	struct guest g;
	struct driver d;
	struct rnd *r;
	struct vhub_virtq *vq;
	struct vhub_virtq_config config;
	void *region;
	int fd;
	enum where *where; /* by id */
	bool *published;   /* by id */
	struct vhub_chain **held;
	uint32_t n_held;
	bool event_idx, in_order;

	/* Of this life of the ring. */
	bool popped_once;
	bool decided_once;
	bool armed;
	bool resumed;
	uint32_t since; /* published since the last decision: entries or slots */
	uint32_t pos;	/* where they began */
	uint8_t wrap;
	bool ever_popped;
	uint64_t n_popped, n_calls, n_restarts;
};

/* ---- what the model knows ---- */

static uint32_t
count(const struct model *m, enum where where)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < m->d.size; i++)
		n += m->where[i] == where;
	return n;
}

/* The request that must be popped next. */
static struct token *
next_offered(const struct model *m)
{
	struct token *found = NULL;

	for (uint32_t i = 0; i < m->d.size; i++) {
		if (m->where[i] == OFFERED && (found == NULL || m->d.tokens[i].seq < found->seq))
			found = &m->d.tokens[i];
	}
	return found;
}

static bool
is_due(const struct model *m, const struct token *t)
{
	for (uint32_t i = 0; m->in_order && i < m->d.size; i++) {
		if ((m->where[i] == OFFERED || m->where[i] == POPPED) &&
				m->d.tokens[i].seq < t->seq)
			return false;
	}
	return true;
}

static void
update_published(struct model *m)
{
	for (uint32_t i = 0; i < m->d.size; i++) {
		if (m->where[i] != PUSHED || m->published[i] || !is_due(m, &m->d.tokens[i]))
			continue;
		m->published[i] = true;
		m->since += m->d.packed ? m->d.tokens[i].n_slots : 1;
	}
}

/*
 * Whether the guest's event lies among what was published since the last decision: looked at one by
 * one.
 */
static bool
event_among(const struct model *m, uint16_t event, uint8_t event_wrap)
{
	uint32_t pos = m->pos;
	uint8_t wrap = m->wrap;

	for (uint32_t i = 0; i < m->since; i++) {
		if (!m->d.packed && (uint16_t)pos == event)
			return true;
		/*
		 * A slot of two laps ago has the same name as one of this lap, and no driver waits
		 * for it.
		 */
		if (m->d.packed && pos == event && wrap == event_wrap && m->since - i <= m->d.size)
			return true;
		pos++;
		if (m->d.packed && pos == m->d.size) {
			pos = 0;
			wrap ^= 1;
		}
	}
	return false;
}

static void
decided(struct model *m)
{
	m->pos += m->since;
	while (m->d.packed && m->pos >= m->d.size) {
		m->pos -= m->d.size;
		m->wrap ^= 1;
	}
	m->since = 0;
	m->decided_once = true;
}

/* ---- a life of the ring ---- */

static void
begin_life(struct model *m, bool crashed)
{
	m->config.base = m->d.packed ? STALE_PACKED_BASE : 0;
	if (m->vq != NULL) {
		if (!crashed || m->region == NULL)
			m->config.base = vhub_virtq_base(m->vq);
		else if (!m->d.packed)
			m->config.base = ((uint16_t *)(void *)m->d.used)[1];
		vhub_virtq_destroy(m->vq);
	} else {
		m->config.base = driver_base(&m->d);
	}
	m->vq = virtq_make(&m->config);
	m->n_restarts++;
	m->n_held = 0;
	for (uint32_t i = 0; i < m->d.size; i++) {
		if (m->where[i] == POPPED || (m->where[i] == PUSHED && !m->published[i]))
			m->where[i] = OFFERED;
	}
	m->resumed = m->region != NULL && m->ever_popped;
	m->popped_once = false;
	m->decided_once = false;
	m->armed = false;
	m->pos += m->since;
	while (m->d.packed && m->pos >= m->d.size) {
		m->pos -= m->d.size;
		m->wrap ^= 1;
	}
	m->since = 0;
}

static void
model_init(struct model *m, struct rnd *r, uint64_t features, uint32_t size, bool inflight)
{
	const bool packed = (features & F_PACKED) != 0;
	const uint64_t bytes = vhub_inflight_queue_bytes((uint16_t)size, packed);

	memset(m, 0, sizeof(*m));
	m->r = r;
	m->event_idx = (features & F_EVENT_IDX) != 0;
	m->in_order = (features & F_IN_ORDER) != 0;
	guest_init(&m->g);
	driver_init(&m->d, &m->g, features, size);
	driver_start_at(&m->d,
			(uint16_t)(packed ? rnd_below(r, size) : 0x10000 - rnd_below(r, 300)),
			packed ? (uint8_t)rnd_below(r, 2) : 1);
	m->pos = m->d.used_idx;
	m->wrap = m->d.used_wrap;
	m->where = calloc(size, sizeof(*m->where));
	m->published = calloc(size, sizeof(*m->published));
	m->held = calloc(size, sizeof(struct vhub_chain *));
	m->fd = eventfd(0, EFD_NONBLOCK);
	assert_true(m->where != NULL && m->published != NULL && m->held != NULL && m->fd >= 0);
	m->config = driver_config(&m->d);
	m->config.call_fd = m->fd;
	if (inflight) {
		m->region = aligned_alloc(64, bytes);
		assert_non_null(m->region);
		memset(m->region, 0, bytes);
		assert_int_equal(vhub_inflight_queue_init(m->region, bytes, (uint16_t)size, packed),
				0);
		m->config.inflight = m->region;
		m->config.inflight_bytes = bytes;
	}
	begin_life(m, false);
}

static void
model_fini(struct model *m)
{
	vhub_virtq_destroy(m->vq);
	driver_fini(&m->d);
	guest_fini(&m->g);
	close(m->fd);
	free(m->region);
	free(m->where);
	free(m->published);
	free(m->held);
}

/* ---- steps ---- */

static uint64_t
calls(struct model *m)
{
	eventfd_t n = 0;

	if (eventfd_read(m->fd, &n) != 0)
		assert_int_equal(errno, EAGAIN);
	return n;
}

static void
step_offer(struct model *m)
{
	struct piece pieces[MAX_PIECES];
	const uint32_t n = 1 + rnd_below(m->r, 10);

	for (uint32_t i = 0; i < n; i++) {
		const bool indirect = (m->d.features & F_INDIRECT) != 0 && rnd_below(m->r, 2) == 0;
		unsigned int max = rnd_below(m->r, 10) == 0 ? 150 : 6;
		struct token *t;

		if (!indirect && max > m->d.size)
			max = m->d.size;
		t = driver_add(&m->d, pieces, driver_random_pieces(m->r, pieces, max), indirect);
		if (t == NULL)
			break;
		m->where[t->id] = OFFERED;
		m->published[t->id] = false;
	}
	/* Kicks come only while we asked for them; the first look at the ring sets that. */
	if (m->popped_once && m->d.n_added != 0) {
		assert_int_equal(driver_kick_wanted(&m->d), m->armed);
		if (m->armed)
			vhub_virtq_disarm(m->vq);
		m->armed = false;
	}
}

static bool
guest_wants(struct model *m)
{
	bool want;
	uint16_t event;
	uint8_t wrap;

	if (!m->event_idx) {
		want = rnd_below(m->r, 2) == 0;
		driver_calls_flag(&m->d, want);
		return want;
	}
	if (m->d.packed && rnd_below(m->r, 4) == 0) {
		want = rnd_below(m->r, 2) == 0;
		driver_calls_flag(&m->d, want);
		return want;
	}
	if (m->d.packed) {
		event = (uint16_t)rnd_below(m->r, m->d.size);
		wrap = (uint8_t)rnd_below(m->r, 2);
	} else {
		event = (uint16_t)(m->pos + rnd_below(m->r, 20) - 5);
		wrap = 0;
	}
	driver_calls_event(&m->d, event, wrap);
	return event_among(m, event, wrap);
}

static void
step_notify(struct model *m)
{
	bool want = guest_wants(m);

	if (m->since == 0) {
		/*
		 * The first look of a ring that has a former life tells the guest once more, and
		 * nothing else does.
		 */
		vhub_virtq_notify(m->vq);
		if (m->decided_once)
			assert_int_equal(calls(m), 0);
		else
			calls(m);
		m->decided_once = true;
		return;
	}
	if (!m->decided_once && m->event_idx)
		want = true;
	vhub_virtq_notify(m->vq);
	assert_int_equal(calls(m), want);
	m->n_calls += want;
	decided(m);
	vhub_virtq_notify(m->vq);
	assert_int_equal(calls(m), 0);
}

static void
check_popped(struct model *m, struct vhub_chain *chain)
{
	struct token *t = next_offered(m);

	assert_non_null(t);
	driver_check_chain(&m->d, t, chain);
	m->where[t->id] = POPPED;
	m->held[m->n_held++] = chain;
	m->n_popped++;
	m->ever_popped = true;
}

static void
step_pop(struct model *m)
{
	struct vhub_chain *chains[VHUB_VIRTQ_BURST];
	const uint32_t offered = count(m, OFFERED);
	const uint32_t max = 1 + rnd_below(m->r, VHUB_VIRTQ_BURST);
	struct vhub_virtq_stats stats;
	const bool first = !m->popped_once;
	uint32_t n, want = offered < max ? offered : max;

	assert_int_equal(vhub_virtq_has_work(m->vq), offered != 0);
	n = vhub_virtq_pop(m->vq, chains, (uint16_t)max);
	if (first) {
		const uint64_t n_calls = calls(m);

		m->popped_once = true;
		driver_kick_wanted(&m->d);
		/* Nobody knows whether the former life, if there was one, has told the guest. */
		if (m->resumed && !m->decided_once && m->event_idx)
			assert_int_equal(n_calls, 1);
		if (m->region == NULL)
			assert_int_equal(n_calls, 0);
		m->decided_once |= n_calls != 0;
	}
	for (uint32_t i = 0; i < n; i++)
		check_popped(m, chains[i]);
	if (n == want)
		return;
	vhub_virtq_get_stats(m->vq, &stats);
	if (stats.long_chain_waits != 0 || count(m, OFFERED) == 0)
		return;
	/* Replayed chains end a burst; the next one goes on. */
	assert_true(stats.resubmitted != 0);
}

static void
step_push(struct model *m)
{
	struct vhub_chain *chains[VHUB_VIRTQ_BURST];
	uint32_t n = 0;
	const uint32_t want = rnd_below(m->r, VHUB_VIRTQ_BURST + 1);

	while (n < want && m->n_held != 0) {
		const uint32_t i = rnd_below(m->r, 3) == 0 ? 0 : rnd_below(m->r, m->n_held);
		struct vhub_chain *chain = m->held[i];
		struct token *t = driver_token(&m->d, chain);

		m->held[i] = m->held[--m->n_held];
		chain->used_bytes = rnd_below(m->r, chain->in_bytes + 1);
		t->used_len = chain->used_bytes;
		m->where[t->id] = PUSHED;
		chains[n++] = chain;
	}
	vhub_virtq_push(m->vq, chains, (uint16_t)n);
	update_published(m);
	if (!m->in_order)
		assert_int_equal(vhub_virtq_in_flight(m->vq), m->n_held);
	if (m->n_held == 0)
		assert_int_equal(vhub_virtq_in_flight(m->vq), 0);
}

/* The driver sees all that is published, and nothing else. */
static void
step_reap(struct model *m)
{
	struct token *t;

	while ((t = driver_reap(&m->d)) != NULL) {
		assert_int_equal(m->where[t->id], PUSHED);
		assert_true(m->published[t->id]);
		m->where[t->id] = NOWHERE;
	}
	for (uint32_t i = 0; i < m->d.size; i++)
		assert_false(m->where[i] == PUSHED && m->published[i]);
}

static void
step_arm(struct model *m)
{
	const bool work = count(m, OFFERED) != 0;

	if (!m->popped_once)
		return;
	driver_kick_wanted(&m->d);
	assert_int_equal(vhub_virtq_arm(m->vq), work ? -EAGAIN : 0);
	m->armed = !work;
}

static void
step_restart(struct model *m)
{
	if (m->region != NULL)
		begin_life(m, true);
	else if (m->n_held == 0)
		begin_life(m, false);
}

static void
step(struct model *m)
{
	const uint32_t what = rnd_below(m->r, 200);

	assert_int_equal(vhub_virtq_broken(m->vq), VHUB_VIRTQ_OK);
	if (what < 50)
		step_offer(m);
	else if (what < 100)
		step_pop(m);
	else if (what < 150)
		step_push(m);
	else if (what < 170)
		step_notify(m);
	else if (what < 190)
		step_reap(m);
	else if (what < 198)
		step_arm(m);
	else
		step_restart(m);
}

/* Everything comes back in the end. */
static void
drain(struct model *m)
{
	for (int i = 0; i < 100000 && m->d.n_out != 0; i++) {
		step_pop(m);
		step_push(m);
		step_reap(m);
	}
	assert_int_equal(m->d.n_out, 0);
	assert_int_equal(vhub_virtq_in_flight(m->vq), 0);
	assert_int_equal(vhub_virtq_base(m->vq), driver_base(&m->d));
}

static const uint32_t split_sizes[] = { 1, 2, 8, 64, 256 };
static const uint32_t packed_sizes[] = { 1, 2, 3, 7, 64, 100, 256 };

static void
run_format(uint64_t format, const uint32_t *sizes, uint32_t n_sizes, uint64_t seed,
		const char *name)
{
	uint64_t popped = 0, n_calls = 0, restarts = 0;
	struct model m;
	struct rnd r;

	rnd_init(&r, name, seed);
	for (uint32_t bits = 0; bits < 16; bits++) {
		const uint64_t features = format | F_VERSION_1 |
				((bits & 1) != 0 ? F_EVENT_IDX : 0) |
				((bits & 2) != 0 ? F_INDIRECT : 0) |
				((bits & 4) != 0 ? F_IN_ORDER : 0);

		for (uint32_t i = 0; i < n_sizes; i++) {
			model_init(&m, &r, features, sizes[i], (bits & 8) != 0);
			for (uint32_t k = 0; k < 6000; k++)
				step(&m);
			drain(&m);
			popped += m.n_popped;
			n_calls += m.n_calls;
			restarts += m.n_restarts;
			model_fini(&m);
		}
	}
	print_message("%s: %llu chains, %llu calls, %llu lives\n", name, (unsigned long long)popped,
			(unsigned long long)n_calls, (unsigned long long)restarts);
	/* It was no idle run. */
	assert_true(popped > 100000 && n_calls > 1000 && restarts > 1000);
}

static void
split_rings_do_what_the_model_says(void **state)
{
	(void)state;
	run_format(0, split_sizes, sizeof(split_sizes) / sizeof(*split_sizes), 20240601, "split");
}

static void
packed_rings_do_what_the_model_says(void **state)
{
	(void)state;
	run_format(F_PACKED, packed_sizes, sizeof(packed_sizes) / sizeof(*packed_sizes), 20240602,
			"packed");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(split_rings_do_what_the_model_says),
		cmocka_unit_test(packed_rings_do_what_the_model_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
