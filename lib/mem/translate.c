/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Translation of addresses by a table, between the three names of a byte of guest memory: the guest's (gpa), the
 * front end's (uva) and ours (hva). vhub_mem_gpa_to_hva(), inline in the header, comes here when the region
 * of the last hit does not answer; lib/virtq is its user.
 */
#include "vhub_mem.h"

const struct vhub_mem_region *
vhub_mem_find(const struct vhub_mem_table *table, uint64_t gpa)
{
	const struct vhub_mem_region *r;
	uint32_t low = 0;
	uint32_t high = table->n_regions;

	/* Invariant: regions before `low` start at or below gpa, those from `high` on start above it. */
	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (table->regions[mid].gpa <= gpa)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == 0)
		return NULL;
	r = &table->regions[low - 1];
	return gpa - r->gpa < r->size_bytes ? r : NULL;
}

void *
vhub_mem_uva_to_hva(const struct vhub_mem_table *table, uint64_t uva, uint64_t len)
{
	for (uint32_t i = 0; i < table->n_regions; i++) {
		const struct vhub_mem_region *r = &table->regions[i];
		uint64_t offset = uva - r->uva;

		/* Regions do not overlap: no other one can hold it. */
		if (offset < r->size_bytes)
			return len != 0 && len <= r->size_bytes - offset ? r->hva + offset : NULL;
	}
	return NULL;
}

static uint64_t
region_gpa_of(const struct vhub_mem_region *region, const void *hva)
{
	uint64_t offset = (uintptr_t)hva - (uintptr_t)region->hva;

	return offset < region->size_bytes ? region->gpa + offset : UINT64_MAX;
}

/* As vhub_mem_find(), by the other order. */
static uint64_t
find_by_hva(const struct vhub_mem_table *table, const void *hva)
{
	uint32_t low = 0;
	uint32_t high = table->n_regions;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if ((uintptr_t)table->by_hva[mid].hva <= (uintptr_t)hva)
			low = mid + 1;
		else
			high = mid;
	}
	return low == 0 ? UINT64_MAX : region_gpa_of(table->by_hva[low - 1].region, hva);
}

uint64_t
vhub_mem_hva_to_gpa(const struct vhub_mem_table *table, const void *hva)
{
	if (table->by_hva != NULL)
		return find_by_hva(table, hva);
	for (uint32_t i = 0; i < table->n_regions; i++) {
		uint64_t gpa = region_gpa_of(&table->regions[i], hva);

		if (gpa != UINT64_MAX)
			return gpa;
	}
	return UINT64_MAX;
}
