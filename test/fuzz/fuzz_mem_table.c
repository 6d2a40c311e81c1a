/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Tables of guest memory from whatever a front end may say: a run of "build", "add", "remove" and "look" over a few
 * small files, each result held against a model that knows the rules only and looks at every region. Bytes are
 * compared with the files' own, so that a translation to the wrong place is seen, and at the end nothing may be
 * mapped.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vhub_mem.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(cond) \
	do { \
		if (!(cond)) { \
			fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #cond); \
			abort(); \
		} \
	} while (0)

#define N_FILES 4
#define MAX_REGIONS 24

/* Sizes in bytes; the last "file" is no file at all. */
static const uint64_t file_bytes[N_FILES] = { 3 * 4096, 4096 + 1700, 1, 0 };
static int file_fd[N_FILES];

struct input {
	const uint8_t *data;
	size_t left;
};

/* A region as the model has it. */
struct model_region {
	struct vhub_user_mem_region desc;
	unsigned int file;
};

struct model {
	unsigned int n;
	struct model_region regions[MAX_REGIONS];
};

struct state {
	struct vhub_mem_table *table; /* NULL in the beginning */
	struct model model;
	struct vhub_mem_owner owner;
};

static uint8_t
take_byte(struct input *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->data++;
}

static uint64_t
take_u64(struct input *in)
{
	uint64_t value = 0;

	for (int i = 0; i < 8; i++)
		value = value << 8 | take_byte(in);
	return value;
}

/* Numbers that meet: near zero, near a page, near the end, or any. */
static uint64_t
take_number(struct input *in)
{
	uint8_t how = take_byte(in);
	uint64_t low = take_byte(in);

	switch (how % 6) {
	case 0:
		return low;
	case 1:
		return low * 1024;
	case 2:
		return low * 4096;
	case 3:
		return UINT64_MAX - low;
	case 4:
		return UINT64_MAX - low * 1024 + 1;
	default:
		return take_u64(in);
	}
}

static struct model_region
take_region(struct input *in)
{
	struct model_region r;

	r.desc.guest_addr_gpa = take_number(in);
	r.desc.size_bytes = take_number(in);
	r.desc.user_addr_uva = take_number(in);
	r.desc.mmap_offset_bytes = take_number(in);
	r.file = take_byte(in) % N_FILES;
	return r;
}

/* The byte of a file at an offset: no two places near each other have the same run of bytes. */
static uint8_t
pattern(unsigned int file, uint64_t offset)
{
	return (uint8_t)((offset * 167 + (offset >> 8) * 59 + file * 101) >> 1);
}

/* ---- the rules ---- */

static bool
has(uint64_t start, uint64_t size, uint64_t addr)
{
	return addr >= start && addr <= start + (size - 1);
}

static bool
fits(uint64_t start, uint64_t size)
{
	return size != 0 && size - 1 <= UINT64_MAX - start;
}

static bool
meet(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
	return has(a, a_size, b) || has(b, b_size, a);
}

static bool
model_is_legal(const struct model *m)
{
	for (unsigned int i = 0; i < m->n; i++) {
		const struct vhub_user_mem_region *a = &m->regions[i].desc;
		uint64_t in_file = file_bytes[m->regions[i].file];

		if (!fits(a->guest_addr_gpa, a->size_bytes) ||
				!fits(a->user_addr_uva, a->size_bytes))
			return false;
		if (a->mmap_offset_bytes > in_file ||
				a->size_bytes > in_file - a->mmap_offset_bytes)
			return false;
		for (unsigned int j = 0; j < i; j++) {
			const struct vhub_user_mem_region *b = &m->regions[j].desc;

			if (meet(a->guest_addr_gpa, a->size_bytes, b->guest_addr_gpa,
					    b->size_bytes) ||
					meet(a->user_addr_uva, a->size_bytes, b->user_addr_uva,
							b->size_bytes))
				return false;
		}
	}
	return true;
}

/* ---- looks ---- */

static void
check_place(const void *hva, const struct model_region *r, uint64_t delta)
{
	MUST(hva != NULL);
	MUST(*(const uint8_t *)hva == pattern(r->file, r->desc.mmap_offset_bytes + delta));
}

static void
look_gpa(const struct state *s, struct vhub_mem_cache *cache, uint64_t gpa, uint64_t len)
{
	uint64_t got_len = len;
	uint8_t *hva = vhub_mem_gpa_to_hva(s->table, cache, gpa, &got_len, VHUB_MEM_READ);

	for (unsigned int i = 0; i < s->model.n; i++) {
		const struct model_region *r = &s->model.regions[i];
		uint64_t delta = gpa - r->desc.guest_addr_gpa;

		if (!has(r->desc.guest_addr_gpa, r->desc.size_bytes, gpa) || len == 0)
			continue;
		check_place(hva, r, delta);
		MUST(got_len ==
				(len < r->desc.size_bytes - delta ? len :
								    r->desc.size_bytes - delta));
		check_place(hva + got_len - 1, r, delta + got_len - 1);
		MUST(vhub_mem_hva_to_gpa(s->table, hva) == gpa);
		return;
	}
	MUST(hva == NULL);
}

static void
look_uva(const struct state *s, uint64_t uva, uint64_t len)
{
	uint8_t *hva = vhub_mem_uva_to_hva(s->table, uva, len);

	for (unsigned int i = 0; i < s->model.n; i++) {
		const struct model_region *r = &s->model.regions[i];

		if (!fits(uva, len) || !has(r->desc.user_addr_uva, r->desc.size_bytes, uva) ||
				!has(r->desc.user_addr_uva, r->desc.size_bytes, uva + (len - 1)))
			continue;
		check_place(hva, r, uva - r->desc.user_addr_uva);
		check_place(hva + len - 1, r, uva - r->desc.user_addr_uva + len - 1);
		return;
	}
	MUST(hva == NULL);
}

static void
look_everywhere(const struct state *s)
{
	struct vhub_mem_cache cache = { NULL };

	MUST(s->table->n_regions == s->model.n);
	for (uint32_t i = 1; i < s->table->n_regions; i++)
		MUST(s->table->regions[i - 1].gpa < s->table->regions[i].gpa);
	for (unsigned int i = 0; i < s->model.n; i++) {
		const struct vhub_user_mem_region *d = &s->model.regions[i].desc;

		for (uint64_t k = 0; k < 3; k++) {
			look_gpa(s, &cache, d->guest_addr_gpa + k - 1, UINT64_MAX);
			look_gpa(s, &cache, d->guest_addr_gpa + d->size_bytes + k - 2, 1);
			look_uva(s, d->user_addr_uva + k - 1, d->size_bytes);
			look_uva(s, d->user_addr_uva + d->size_bytes + k - 2, 1);
		}
	}
}

/* ---- steps ---- */

static void
step_done(struct state *s, int ret, struct vhub_mem_table *table, const struct model *next)
{
	if (ret != 0) {
		MUST(table == NULL);
		return;
	}
	MUST(table != NULL);
	vhub_mem_table_put(s->table);
	s->table = table;
	s->model = *next;
	look_everywhere(s);
}

static void
step_build(struct state *s, struct input *in)
{
	struct vhub_user_mem_region descs[MAX_REGIONS];
	int fds[MAX_REGIONS];
	struct vhub_mem_table *table = NULL;
	struct model next;
	uint8_t how = take_byte(in);
	int ret;

	next.n = how % 9;
	for (unsigned int i = 0; i < next.n; i++) {
		/* Often what the old table has, so that mappings are kept. */
		if ((how & 0x80) != 0 && i < s->model.n)
			next.regions[i] = s->model.regions[s->model.n - 1 - i];
		else
			next.regions[i] = take_region(in);
		descs[i] = next.regions[i].desc;
		fds[i] = file_fd[next.regions[i].file];
	}
	ret = vhub_mem_table_build(s->table, descs, fds, next.n, &s->owner, &table);
	MUST((ret == 0) == model_is_legal(&next));
	step_done(s, ret, table, &next);
}

static void
step_add(struct state *s, struct input *in)
{
	struct vhub_mem_table *table = NULL;
	struct model next = s->model;
	struct model_region r = take_region(in);
	int ret;

	if (next.n == MAX_REGIONS)
		return;
	next.regions[next.n++] = r;
	ret = vhub_mem_table_add(s->table, &r.desc, file_fd[r.file], &s->owner, &table);
	MUST((ret == 0) == model_is_legal(&next));
	step_done(s, ret, table, &next);
}

static void
step_remove(struct state *s, struct input *in)
{
	struct vhub_mem_table *table = NULL;
	struct model next = s->model;
	struct vhub_user_mem_region desc;
	uint8_t which = take_byte(in);
	unsigned int found = next.n;
	int ret;

	if (next.n != 0 && (which & 0x80) == 0)
		desc = next.regions[which % next.n].desc;
	else
		desc = take_region(in).desc;
	for (unsigned int i = 0; i < next.n; i++) {
		const struct vhub_user_mem_region *d = &next.regions[i].desc;

		if (d->guest_addr_gpa == desc.guest_addr_gpa &&
				d->user_addr_uva == desc.user_addr_uva &&
				d->size_bytes == desc.size_bytes)
			found = i;
	}
	ret = vhub_mem_table_remove(s->table, &desc, &table);
	MUST((ret == 0) == (found < next.n));
	if (ret == 0)
		next.regions[found] = next.regions[--next.n];
	step_done(s, ret, table, &next);
}

static void
step_look(struct state *s, struct input *in)
{
	struct vhub_mem_cache cache = { NULL };
	uint64_t addr = take_number(in);
	uint64_t len = take_number(in);

	if (s->table == NULL)
		return;
	look_gpa(s, &cache, addr, len);
	look_uva(s, addr, len);
}

static void
open_files(void)
{
	for (unsigned int i = 0; i < N_FILES; i++) {
		file_fd[i] = -1;
		if (file_bytes[i] == 0)
			continue;
		file_fd[i] = memfd_create("vhub-fuzz", MFD_CLOEXEC);
		MUST(file_fd[i] >= 0);
		for (uint64_t at = 0; at < file_bytes[i]; at++) {
			uint8_t byte = pattern(i, at);

			MUST(pwrite(file_fd[i], &byte, 1, (off_t)at) == 1);
		}
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const steps[])(struct state *, struct input *) = {
		step_build,
		step_add,
		step_add,
		step_remove,
		step_look,
	};
	static bool opened;
	struct input in = { data, size };
	struct state s = { .table = NULL };
	uint64_t n_maps, bytes;

	if (!opened)
		open_files();
	opened = true;
	while (in.left > 0)
		steps[take_byte(&in) % 5](&s, &in);
	vhub_mem_owner_detach(&s.owner);
	vhub_mem_table_put(s.table);
	vhub_mem_usage(&n_maps, &bytes);
	MUST(n_maps == 0 && bytes == 0);
	return 0;
}
