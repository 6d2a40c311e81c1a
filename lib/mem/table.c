/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Building of immutable tables of regions, from what a front end says of its memory. lib/device calls it on the
 * blocking-work thread and publishes the result; translate.c is the next file on the way.
 *
 * Everything that descriptions alone can get wrong is checked before the first mapping is made.
 */
#include "mem_pvt.h"

#include <errno.h>
#include <stdlib.h>

#include "vhub_alloc.h"

#define TABLE_SMALL_REGIONS 4u

/* A range of addresses by its ends, so that one which ends at 2^64 needs no case of its own. */
struct mem_range {
	uint64_t first;
	uint64_t last;
};

static int
range_compare(const void *a, const void *b)
{
	const struct mem_range *x = a;
	const struct mem_range *y = b;

	return (x->first > y->first) - (x->first < y->first);
}

/* Size 0 and a range that goes round the end of the address space are no range. */
static bool
range_make(uint64_t start, uint64_t size_bytes, struct mem_range *out)
{
	out->first = start;
	return size_bytes != 0 && !__builtin_add_overflow(start, size_bytes - 1, &out->last);
}

static bool
ranges_overlap(struct mem_range *ranges, unsigned int n)
{
	qsort(ranges, n, sizeof(ranges[0]), range_compare);
	for (unsigned int i = 1; i < n; i++) {
		if (ranges[i].first <= ranges[i - 1].last)
			return true;
	}
	return false;
}

static int
regions_check(const struct vhub_mem_region *regions, unsigned int n)
{
	struct mem_range gpa[VHUB_MAX_MEM_SLOTS];
	struct mem_range uva[VHUB_MAX_MEM_SLOTS];

	for (unsigned int i = 0; i < n; i++) {
		const struct vhub_mem_region *r = &regions[i];

		if (!range_make(r->gpa, r->size_bytes, &gpa[i]) ||
				!range_make(r->uva, r->size_bytes, &uva[i]))
			return -EINVAL;
	}
	if (ranges_overlap(gpa, n) || ranges_overlap(uva, n))
		return -EEXIST;
	return 0;
}

static void
region_describe(struct vhub_mem_region *region, const struct vhub_user_mem_region *desc)
{
	region->gpa = desc->guest_addr_gpa;
	region->size_bytes = desc->size_bytes;
	region->uva = desc->user_addr_uva;
	region->mmap_offset_bytes = desc->mmap_offset_bytes;
}

static bool
region_is_same(const struct vhub_mem_region *a, const struct vhub_mem_region *b)
{
	return a->gpa == b->gpa && a->size_bytes == b->size_bytes && a->uva == b->uva &&
			a->mmap_offset_bytes == b->mmap_offset_bytes &&
			a->file_dev == b->file_dev && a->file_ino == b->file_ino;
}

/* Fills in the mapping of a described region: that of an equal one in `old`, or a new one. */
static int
region_map(struct vhub_mem_region *region, const struct vhub_mem_table *old, int fd,
		struct vhub_mem_owner *owner)
{
	const struct vhub_mem_region *kept;
	struct mem_file file;
	void *hva;
	int ret;

	ret = mem_file_probe(fd, region->mmap_offset_bytes, region->size_bytes, &file);
	if (ret < 0)
		return ret;
	region->file_dev = file.dev;
	region->file_ino = file.ino;
	region->allocated = file.allocated;

	kept = old != NULL ? vhub_mem_find(old, region->gpa) : NULL;
	if (kept != NULL && region_is_same(kept, region) && mem_map_is_intact(kept->map, owner)) {
		region->map = vhub_mem_map_get(kept->map);
		region->hva = kept->hva;
		return 0;
	}
	ret = mem_map_file(fd, &file, region->mmap_offset_bytes, region->size_bytes, owner,
			&region->map, &hva);
	if (ret == 0)
		region->hva = hva;
	return ret;
}

static int
region_compare(const void *a, const void *b)
{
	const struct vhub_mem_region *x = a;
	const struct vhub_mem_region *y = b;

	return (x->gpa > y->gpa) - (x->gpa < y->gpa);
}

static int
hva_compare(const void *a, const void *b)
{
	const struct vhub_mem_hva *x = a;
	const struct vhub_mem_hva *y = b;

	return (x->hva > y->hva) - (x->hva < y->hva);
}

/* Room for the index by hva lies behind the regions. */
static struct vhub_mem_table *
table_alloc(unsigned int n)
{
	struct vhub_mem_table *table;

	table = calloc(1,
			sizeof(*table) +
					n * (sizeof(table->regions[0]) + sizeof(table->by_hva[0])));
	if (table == NULL)
		return NULL;
	table->refs = 1;
	table->n_regions = n;
	return table;
}

static void
table_index_hva(struct vhub_mem_table *table)
{
	struct vhub_mem_hva *index =
			(struct vhub_mem_hva *)(void *)&table->regions[table->n_regions];

	for (uint32_t i = 0; i < table->n_regions; i++)
		index[i] = (struct vhub_mem_hva){ table->regions[i].hva, &table->regions[i] };
	qsort(index, table->n_regions, sizeof(index[0]), hva_compare);
	table->by_hva = index;
}

/* The last step: all regions are mapped, each with a reference of this table. */
static void
table_finish(struct vhub_mem_table *table)
{
	qsort(table->regions, table->n_regions, sizeof(table->regions[0]), region_compare);
	/* To look through a few is as quick as to search. */
	if (table->n_regions > TABLE_SMALL_REGIONS)
		table_index_hva(table);
	table->numa_node = table->n_regions > 0 ? vhub_numa_node_of(table->regions[0].hva) : -1;
}

struct vhub_mem_table *
vhub_mem_table_get(struct vhub_mem_table *table)
{
	__atomic_fetch_add(&table->refs, 1, __ATOMIC_RELAXED);
	return table;
}

void
vhub_mem_table_put(struct vhub_mem_table *table)
{
	/* Acquire and release: every user's last access comes before the freeing. */
	if (table == NULL || __atomic_fetch_sub(&table->refs, 1, __ATOMIC_ACQ_REL) != 1)
		return;
	for (uint32_t i = 0; i < table->n_regions; i++)
		vhub_mem_map_put(table->regions[i].map);
	free(table);
}

int
vhub_mem_table_remove(const struct vhub_mem_table *old, const struct vhub_user_mem_region *desc,
		struct vhub_mem_table **out)
{
	const struct vhub_mem_region *gone = old != NULL ?
			vhub_mem_find(old, desc->guest_addr_gpa) :
			NULL;
	struct vhub_mem_table *table;
	uint32_t n = 0;

	if (gone == NULL || gone->gpa != desc->guest_addr_gpa || gone->uva != desc->user_addr_uva ||
			gone->size_bytes != desc->size_bytes)
		return -ENOENT;
	table = table_alloc(old->n_regions - 1);
	if (table == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < old->n_regions; i++) {
		if (&old->regions[i] == gone)
			continue;
		table->regions[n] = old->regions[i];
		vhub_mem_map_get(table->regions[n++].map);
	}
	table_finish(table);
	*out = table;
	return 0;
}

int
vhub_mem_table_add(const struct vhub_mem_table *old, const struct vhub_user_mem_region *desc,
		int fd, struct vhub_mem_owner *owner, struct vhub_mem_table **out)
{
	uint32_t n = old != NULL ? old->n_regions : 0;
	struct vhub_mem_table *table;
	int ret;

	if (n >= VHUB_MAX_MEM_SLOTS)
		return -ENOSPC;
	table = table_alloc(n + 1);
	if (table == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		table->regions[i] = old->regions[i];
	region_describe(&table->regions[n], desc);
	ret = regions_check(table->regions, n + 1);
	if (ret == 0)
		ret = region_map(&table->regions[n], NULL, fd, owner);
	if (ret < 0) {
		free(table);
		return ret;
	}
	for (uint32_t i = 0; i < n; i++)
		vhub_mem_map_get(table->regions[i].map);
	table_finish(table);
	*out = table;
	return 0;
}

int
vhub_mem_table_build(const struct vhub_mem_table *old, const struct vhub_user_mem_region *descs,
		const int *fds, unsigned int n, struct vhub_mem_owner *owner,
		struct vhub_mem_table **out)
{
	struct vhub_mem_table *table;
	int ret;

	if (n > VHUB_MAX_MEM_SLOTS)
		return -EINVAL;
	table = table_alloc(n);
	if (table == NULL)
		return -ENOMEM;
	for (unsigned int i = 0; i < n; i++)
		region_describe(&table->regions[i], &descs[i]);
	ret = regions_check(table->regions, n);
	for (unsigned int i = 0; ret == 0 && i < n; i++)
		ret = region_map(&table->regions[i], old, fds[i], owner);
	if (ret < 0) {
		/* Regions that were not mapped have no mapping to put. */
		vhub_mem_table_put(table);
		return ret;
	}
	table_finish(table);
	*out = table;
	return 0;
}
