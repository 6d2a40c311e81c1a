/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kill -9 at any instruction: a child runs a ring with an inflight region in shared memory, one
 * instruction at a time under ptrace(2). Whenever an instruction has changed what would survive, a
 * copy of it is resumed here, and every request must complete exactly once and be taken in the
 * order in which it was offered. For some of these states the resumption itself is killed in the
 * same way.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"
#include "layout.h"

#define MAX_SEQ 1024
#define STALE_PACKED_BASE 0x80008000u

/* How many resumptions of each kind are stepped, too: with a sanitizer a step is several times as many. */
#define MAX_DEEP 2u
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#undef MAX_DEEP
#define MAX_DEEP 0u
#endif
#endif

/* All that survives a crash of the back end, and what the guest knows. */
struct world {
	struct guest g;
	struct driver d;
	uint64_t region_gpa;
	uint64_t region_bytes;
	uint64_t watched_bytes; /* from RING_GPA: the region and the ring */
	bool done[MAX_SEQ];
};

static uint8_t *
watched(const struct world *w)
{
	return guest_hva(&w->g, RING_GPA);
}

static void
world_init(struct world *w, uint64_t features, uint32_t size)
{
	const bool packed = (features & F_PACKED) != 0;
	void *region;

	memset(w, 0, sizeof(*w));
	guest_init(&w->g);
	w->region_bytes = vhub_inflight_queue_bytes((uint16_t)size, packed);
	w->region_gpa = guest_alloc(&w->g, w->region_bytes, 64);
	region = guest_hva(&w->g, w->region_gpa);
	assert_int_equal(vhub_inflight_queue_init(region, w->region_bytes, (uint16_t)size, packed),
			0);
	driver_init(&w->d, &w->g, features, size);
	driver_start_at(&w->d, (uint16_t)(packed ? size / 3 * 2 : 0xfff9), 1);
	w->watched_bytes = w->d.table_gpa - RING_GPA;
}

static void
world_fini(struct world *w)
{
	driver_fini(&w->d);
	guest_fini(&w->g);
}

/* `to` becomes what `from` is now, in memory of its own. */
static void
world_copy(struct world *to, const struct world *from)
{
	const size_t table_bytes = from->g.next_gpa - from->d.table_gpa;

	*to = *from;
	guest_init(&to->g);
	to->g.next_gpa = from->g.next_gpa;
	memcpy(watched(to), watched(from), from->watched_bytes);
	memcpy(guest_hva(&to->g, from->d.table_gpa), guest_hva(&from->g, from->d.table_gpa),
			table_bytes);
	to->d.tokens = malloc(from->d.size * sizeof(*to->d.tokens));
	to->d.free = malloc(from->d.size * sizeof(*to->d.free));
	assert_true(to->d.tokens != NULL && to->d.free != NULL);
	memcpy(to->d.tokens, from->d.tokens, from->d.size * sizeof(*to->d.tokens));
	memcpy(to->d.free, from->d.free, from->d.size * sizeof(*to->d.free));
	to->d.g = &to->g;
	to->d.desc = guest_hva(&to->g, to->d.desc_gpa);
	to->d.avail = guest_hva(&to->g, to->d.avail_gpa);
	to->d.used = guest_hva(&to->g, to->d.used_gpa);
}

/* ---- the guest ---- */

static unsigned int
reap_all(struct world *w)
{
	struct token *t;
	unsigned int n = 0;

	for (; (t = driver_reap(&w->d)) != NULL; n++) {
		assert_false(w->done[t->seq]);
		w->done[t->seq] = true;
	}
	return n;
}

static void
offer_some(struct world *w, struct rnd *r, unsigned int n)
{
	struct piece pieces[3];

	for (unsigned int i = 0; i < n; i++) {
		const unsigned int n_pieces = driver_random_pieces(r, pieces, 3);

		driver_add(&w->d, pieces, n_pieces, rnd_below(r, 3) == 0);
	}
	assert_true(w->d.next_seq < MAX_SEQ);
}

/* ---- the back end ---- */

/* Whether a back end has had the ring at all: before, a front end has nothing but its own mind. */
static bool
has_run(const struct world *w)
{
	const struct inflight_split *region = guest_hva(&w->g, w->region_gpa);

	return region->version != 0 && region->desc[0].counter != 0;
}

static struct vhub_virtq *
start(const struct world *w, bool first)
{
	static unsigned int n_starts;
	struct vhub_virtq_config config = driver_config(&w->d);

	config.inflight = guest_hva(&w->g, w->region_gpa);
	config.inflight_bytes = w->region_bytes;
	/*
	 * What front ends know after a crash: of a split ring the used index (QEMU), or how far the driver is
	 * (Cloud Hypervisor), nothing of a packed one.
	 */
	if (!first && w->d.packed)
		config.base = STALE_PACKED_BASE;
	else if (!first)
		config.base = ((const uint16_t *)(const void *)(n_starts++ % 2 != 0 && has_run(w) ?
						w->d.avail :
						w->d.used))[1];
	return virtq_make(&config);
}

static void
push_some(struct vhub_virtq *vq, struct vhub_chain **held, unsigned int *n_held, struct rnd *r,
		unsigned int n)
{
	struct vhub_chain *chains[VHUB_VIRTQ_BURST];
	unsigned int k;

	for (k = 0; k < n && *n_held != 0; k++) {
		const unsigned int i = rnd_below(r, *n_held);

		chains[k] = held[i];
		chains[k]->used_bytes = chains[k]->in_bytes;
		held[i] = held[--*n_held];
	}
	vhub_virtq_push(vq, chains, (uint16_t)k);
	vhub_virtq_notify(vq);
}

/* A turn that some of what was taken outlives. */
static void
take_and_keep(struct vhub_virtq *vq, struct vhub_chain **held, unsigned int *n_held, struct rnd *r)
{
	*n_held += vhub_virtq_pop(vq, held + *n_held, 5);
	push_some(vq, held, n_held, r, 3);
	*n_held += vhub_virtq_pop(vq, held + *n_held, 4);
	push_some(vq, held, n_held, r, 1);
	vhub_virtq_note(vq);
	push_some(vq, held, n_held, r, rnd_below(r, 6));
}

/* A turn that gives back what it takes, at once or in two pushes; before it, what was kept. */
static void
take_and_give_back(struct vhub_virtq *vq, struct vhub_chain **held, unsigned int *n_held,
		struct rnd *r)
{
	for (unsigned int i = 0; i < 3; i++) {
		push_some(vq, held, n_held, r, i == 1 ? *n_held / 2 : *n_held);
		*n_held += vhub_virtq_pop(vq, held + *n_held, 4);
	}
	push_some(vq, held, n_held, r, *n_held);
	vhub_virtq_note(vq);
}

/* What the child does; it stops itself where the guest is to go on. */
static void
back_end(const struct world *w, uint64_t seed, bool first)
{
	struct vhub_chain *held[VHUB_VIRTQ_BURST];
	unsigned int n_held = 0;
	struct vhub_virtq *vq;
	struct rnd r = { seed * 2 + 1 };

	if (!first)
		raise(SIGSTOP);
	vq = start(w, first);
	if (first)
		raise(SIGSTOP);
	for (int round = 0; round < (first ? 6 : 1); round++) {
		if (first ? round % 2 == 0 : rnd_below(&r, 2) == 0)
			take_and_keep(vq, held, &n_held, &r);
		else
			take_and_give_back(vq, held, &n_held, &r);
		if (first)
			raise(SIGSTOP);
	}
}

/* ---- what must be true of every state ---- */

/*
 * A new life gives back, one at a time, what it finds. The guest sees just that, and in the end all
 * is done.
 */
static void
check_recovers(const struct world *from, struct rnd *r)
{
	struct vhub_chain *held[VHUB_VIRTQ_BURST];
	unsigned int n_held = 0, n;
	struct vhub_virtq *vq;
	struct world w;
	int64_t last_seq = -1;

	world_copy(&w, from);
	reap_all(&w);
	/* The guest goes on while nobody is there. */
	offer_some(&w, r, rnd_below(r, 3));
	vq = start(&w, false);
	while (w.d.n_out != 0) {
		n = vhub_virtq_pop(vq, held + n_held, (uint16_t)(1 + rnd_below(r, 8)));
		assert_int_equal(vhub_virtq_broken(vq), VHUB_VIRTQ_OK);
		for (unsigned int i = 0; i < n; i++) {
			const struct token *t = driver_token(&w.d, held[n_held]);

			assert_false(w.done[t->seq]);
			assert_true((int64_t)t->seq > last_seq);
			last_seq = (int64_t)t->seq;
			driver_check_chain(&w.d, t, held[n_held++]);
		}
		assert_true(n_held != 0);
		push_some(vq, held, &n_held, r, 1);
		n = reap_all(&w);
		if ((w.d.features & F_IN_ORDER) == 0)
			assert_int_equal(n, 1);
	}
	for (uint64_t seq = 0; seq < w.d.next_seq; seq++)
		assert_true(w.done[seq]);
	assert_int_equal(vhub_virtq_in_flight(vq), 0);
	assert_int_equal(vhub_virtq_base(vq), driver_base(&w.d));
	vhub_virtq_destroy(vq);
	world_fini(&w);
}

/* ---- one instruction after the other ---- */

struct explore {
	struct rnd *r;
	unsigned int n_states;
	unsigned int n_deep;
	unsigned long n_steps;
	unsigned int deep_every; /* every so many states the resumption is stepped too; 0: never */
	unsigned int max_deep;	 /* but not more often: it takes long, with sanitizers very */
};

static void
explore(struct explore *e, struct world *w, uint64_t seed, bool first);

static void
visit(struct explore *e, const struct world *w)
{
	struct world deeper;
	unsigned int every = e->deep_every;

	check_recovers(w, e->r);
	if (every == 0 || ++e->n_states % every != 0 || e->n_deep == e->max_deep)
		return;
	e->deep_every = 0;
	e->n_deep++;
	world_copy(&deeper, w);
	explore(e, &deeper, rnd_next(e->r), false);
	world_fini(&deeper);
	e->deep_every = every;
}

static pid_t
begin_child(const struct world *w, uint64_t seed, bool first)
{
	const pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
			_exit(errno);
		back_end(w, seed, first);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	/* An exit here tells the errno of ptrace(2): this test cannot do without. */
	assert_true(WIFSTOPPED(status));
	assert_int_equal(WSTOPSIG(status), SIGSTOP);
	return pid;
}

static void
explore(struct explore *e, struct world *w, uint64_t seed, bool first)
{
	const pid_t pid = begin_child(w, seed, first);
	uint8_t *snapshot = malloc(w->watched_bytes);
	int status;

	assert_non_null(snapshot);
	memcpy(snapshot, watched(w), w->watched_bytes);
	for (;;) {
		e->n_steps++;
		assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (WIFEXITED(status))
			break;
		assert_true(WIFSTOPPED(status));
		if (WSTOPSIG(status) == SIGSTOP) {
			reap_all(w);
			offer_some(w, e->r, 6);
			memcpy(snapshot, watched(w), w->watched_bytes);
			continue;
		}
		assert_int_equal(WSTOPSIG(status), SIGTRAP);
		if (memcmp(snapshot, watched(w), w->watched_bytes) == 0)
			continue;
		memcpy(snapshot, watched(w), w->watched_bytes);
		visit(e, w);
	}
	assert_int_equal(WEXITSTATUS(status), 0);
	free(snapshot);
}

static void
kill_at_any_instruction(uint64_t features, uint32_t size, uint64_t seed, const char *name)
{
	struct explore e = { .deep_every = 41, .max_deep = MAX_DEEP };
	struct world w;
	struct rnd r;

	rnd_init(&r, name, seed);
	e.r = &r;
	world_init(&w, features | F_INDIRECT | F_VERSION_1, size);
	offer_some(&w, &r, 7);
	explore(&e, &w, rnd_next(&r), true);
	world_fini(&w);
	print_message("%s: %lu steps, %u states, %u of them stepped into\n", name, e.n_steps,
			e.n_states, e.n_deep);
	assert_true(e.n_states > 80 && e.n_deep == e.max_deep);
}

static void
split_ring_killed_at_any_instruction(void **state)
{
	(void)state;
	kill_at_any_instruction(0, 16, 1, "split");
}

static void
split_ring_in_order_killed_at_any_instruction(void **state)
{
	(void)state;
	kill_at_any_instruction(F_IN_ORDER, 16, 2, "split in order");
}

static void
packed_ring_killed_at_any_instruction(void **state)
{
	(void)state;
	kill_at_any_instruction(F_PACKED, 13, 3, "packed");
}

/* A burst may take the whole ring: then the used index stays, and only the wrap counter moves. */
static void
tiny_packed_ring_killed_at_any_instruction(void **state)
{
	(void)state;
	kill_at_any_instruction(F_PACKED, 3, 5, "tiny packed");
}

static void
packed_ring_in_order_killed_at_any_instruction(void **state)
{
	(void)state;
	kill_at_any_instruction(F_PACKED | F_IN_ORDER, 13, 4, "packed in order");
}

/* Tracer and traced take turns: on one CPU that is several times faster. */
static void
stay_on_this_cpu(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(sched_getcpu(), &set);
	sched_setaffinity(0, sizeof(set), &set);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(split_ring_killed_at_any_instruction),
		cmocka_unit_test(split_ring_in_order_killed_at_any_instruction),
		cmocka_unit_test(packed_ring_killed_at_any_instruction),
		cmocka_unit_test(tiny_packed_ring_killed_at_any_instruction),
		cmocka_unit_test(packed_ring_in_order_killed_at_any_instruction),
	};

	stay_on_this_cpu();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
