/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guest of guest.h: memory and random numbers. Next: driver.c.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "guest.h"

#define N_REGIONS 3

void
guest_init(struct guest *g)
{
	const uint64_t gpa[N_REGIONS] = { LOW_GPA, MID_GPA, RING_GPA };
	const uint64_t bytes[N_REGIONS] = { LOW_BYTES, LOW_BYTES, RING_BYTES };
	/*
	 * The second region first, and a gap behind each, so that no step across a border goes
	 * unnoticed.
	 */
	const uint64_t at[N_REGIONS] = { LOW_BYTES + 0x1000, 0, 2 * (LOW_BYTES + 0x1000) };

	g->area_bytes = at[2] + bytes[2] + 0x1000;
	g->area = mmap(NULL, g->area_bytes, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(g->area != MAP_FAILED);
	g->table = calloc(1, sizeof(*g->table) + N_REGIONS * sizeof(g->table->regions[0]));
	assert_non_null(g->table);
	g->table->refs = 1;
	g->table->n_regions = N_REGIONS;
	for (int i = 0; i < N_REGIONS; i++) {
		g->table->regions[i].gpa = gpa[i];
		g->table->regions[i].uva = gpa[i] + 0x7000000000;
		g->table->regions[i].size_bytes = bytes[i];
		g->table->regions[i].hva = g->area + at[i];
		assert_int_equal(mprotect(g->area + at[i], bytes[i], PROT_READ | PROT_WRITE), 0);
	}
	g->next_gpa = RING_GPA;
}

void
guest_fini(struct guest *g)
{
	/* Every ring has given its reference back. */
	assert_int_equal(g->table->refs, 1);
	free(g->table);
	munmap(g->area, g->area_bytes);
}

uint64_t
guest_alloc(struct guest *g, uint64_t bytes, uint64_t align)
{
	const uint64_t gpa = (g->next_gpa + align - 1) & ~(align - 1);

	g->next_gpa = gpa + bytes;
	assert_true(g->next_gpa <= GUEST_TOP_GPA);
	return gpa;
}

void *
guest_hva(const struct guest *g, uint64_t gpa)
{
	for (uint32_t i = 0; i < g->table->n_regions; i++) {
		const struct vhub_mem_region *r = &g->table->regions[i];

		if (gpa >= r->gpa && gpa < r->gpa + r->size_bytes)
			return r->hva + (gpa - r->gpa);
	}
	return NULL;
}

unsigned int
guest_split(const struct guest *g, uint64_t gpa, uint64_t len, struct iovec *iov)
{
	unsigned int n = 0;

	for (uint32_t i = 0; i < g->table->n_regions && len != 0; i++) {
		const struct vhub_mem_region *r = &g->table->regions[i];
		uint64_t here;

		if (gpa < r->gpa || gpa >= r->gpa + r->size_bytes)
			continue;
		here = r->gpa + r->size_bytes - gpa;
		here = here < len ? here : len;
		iov[n].iov_base = r->hva + (gpa - r->gpa);
		iov[n++].iov_len = here;
		gpa += here;
		len -= here;
	}
	assert_int_equal(len, 0);
	return n;
}

void
rnd_init(struct rnd *r, const char *what, uint64_t fixed)
{
	const char *env = getenv("VHUB_TEST_SEED");

	r->s = env != NULL ? strtoull(env, NULL, 0) : fixed;
	print_message("%s: VHUB_TEST_SEED=%" PRIu64 "\n", what, r->s);
	r->s = r->s * UINT64_C(0x9e3779b97f4a7c15) + 1;
}

uint32_t
rnd_next(struct rnd *r)
{
	r->s ^= r->s >> 12;
	r->s ^= r->s << 25;
	r->s ^= r->s >> 27;
	return (uint32_t)(r->s * UINT64_C(0x2545f4914f6cdd1d) >> 32);
}
