/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inflight region: the back end makes it, this front end keeps it and gives it to the next life
 * of the back end ("Inflight I/O tracking"). Called by frontend.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <rte_common.h>

#include "frontend.h"
#include "perf.h"

#define INFLIGHT_PART_ALIGN_BYTES UINT64_C(64)

int
frontend_get_inflight(struct frontend *fe)
{
	struct vhub_user_inflight want = {
		.num_queues = fe->config.n_rings,
		.queue_size = fe->rings[0]->size,
	};
	int ret = wire_ask(fe,
			&(struct wire_message){
					.request = VHUB_USER_GET_INFLIGHT_FD,
					.size = sizeof(want),
					.payload = &want,
			},
			&fe->inflight, sizeof(fe->inflight), &fe->inflight_fd);

	if (ret != 0)
		return ret;
	if (fe->inflight_fd >= 0 && fe->inflight.mmap_size_bytes > 0)
		return 0;
	perf_error(fe->config.path,
			"GET_INFLIGHT_FD for %u rings of %u was answered without a region: leave out --inflight",
			want.num_queues, want.queue_size);
	return -EPROTO;
}

int
frontend_set_inflight(struct frontend *fe)
{
	struct vhub_user_inflight region = fe->inflight;

	region.num_queues = fe->config.n_rings;
	region.queue_size = fe->rings[0]->size;
	return wire_tell(fe,
			&(struct wire_message){
					.request = VHUB_USER_SET_INFLIGHT_FD,
					.size = sizeof(region),
					.payload = &region,
					.fds = &fe->inflight_fd,
					.n_fds = 1,
			});
}

void
frontend_drop_inflight(struct frontend *fe)
{
	if (fe->inflight_map != NULL)
		munmap(fe->inflight_map,
				fe->inflight.mmap_offset_bytes + fe->inflight.mmap_size_bytes);
	if (fe->inflight_fd >= 0)
		close(fe->inflight_fd);
}

/* ---- what rings have left there ---- */

/* The ring's part of the region; NULL with errno. */
static const void *
part_of(struct frontend *fe, const struct ring *ring)
{
	const struct vhub_user_inflight *region = &fe->inflight;

	if (fe->inflight_map == NULL) {
		void *map = mmap(NULL, region->mmap_offset_bytes + region->mmap_size_bytes,
				PROT_READ, MAP_SHARED, fe->inflight_fd, 0);

		if (map == MAP_FAILED)
			return NULL;
		fe->inflight_map = map;
	}
	/* Each is a number of whole lines; behind the last one a line of the back end's may follow. */
	return fe->inflight_map + region->mmap_offset_bytes +
			RTE_ALIGN_FLOOR(region->mmap_size_bytes / fe->config.n_rings,
					INFLIGHT_PART_ALIGN_BYTES) *
			ring->index;
}

/* The slot that entry `i` notes in flight; RING_NO_SLOT: none. */
static uint32_t
noted_slot(const struct ring *ring, const void *part, uint32_t i)
{
	const struct inflight_packed *packed = part;
	const struct inflight_split *split = part;

	if (ring->packed)
		return packed->desc[i].inflight != 0 ? packed->desc[i].id : RING_NO_SLOT;
	return split->desc[i].inflight != 0 ? ring->slot_of[i] : RING_NO_SLOT;
}

/* Marks the slots that are noted, and counts them and their entries. */
static int
find_noted(const struct frontend *fe, const struct ring *ring, const void *part, uint8_t *noted,
		uint32_t *left, uint32_t *n_entries)
{
	const struct inflight_split *head = part; /* as of packed rings, so far */

	if (head->version != 1 || head->desc_num != ring->size) {
		perf_error(fe->config.path,
				"ring %u: its inflight region is version %u for %u entries",
				ring->index, head->version, head->desc_num);
		return -EPROTO;
	}
	for (uint32_t i = 0; i < ring->size; i++) {
		const uint32_t slot = noted_slot(ring, part, i);

		if (slot == RING_NO_SLOT)
			continue;
		if (slot >= ring->n_slots || !ring_slot_in_flight(ring, (uint16_t)slot) ||
				noted[slot]++ != 0) {
			perf_error(fe->config.path,
					"ring %u: entry %u of its inflight region notes %u, which is not in flight, or noted twice",
					ring->index, i, slot);
			return -EPROTO;
		}
		++*left;
		*n_entries += ring_slot_entries(ring, (uint16_t)slot);
	}
	return 0;
}

/*
 * What is noted has `n_entries`, and was taken; everything behind was not, or it would be in neither. The base of
 * a packed ring counts what is left; to that of a split one whoever goes on may have to add it, as after a crash.
 */
static int
check_untaken(const struct frontend *fe, const struct ring *ring, uint8_t *noted,
		uint32_t n_entries, uint16_t *slots)
{
	const uint32_t base = fe->bases[ring->index], ahead = ring_base_ahead(ring, n_entries);
	const int n = ring_untaken(ring, n_entries, slots);

	if (base != ahead && (ring->packed || base != ring_base(ring))) {
		perf_error(fe->config.path,
				"ring %u: it was stopped at base 0x%x; with what has come back and what its inflight region notes that is 0x%x",
				ring->index, base, ahead);
		return -EPROTO;
	}
	for (int i = 0; i < n; i++) {
		if (noted[slots[i]]++ == 0)
			continue;
		perf_error(fe->config.path,
				"ring %u: its inflight region notes %u, which is behind what was taken: it lacks another one",
				ring->index, slots[i]);
		return -EPROTO;
	}
	if (n < 0)
		perf_error(fe->config.path,
				"ring %u: behind what its inflight region notes it is not as it was filled",
				ring->index);
	return n < 0 ? n : 0;
}

int
frontend_left(struct frontend *fe, const struct ring *ring, uint32_t *left)
{
	const void *part = part_of(fe, ring);
	uint32_t n_entries = 0;
	uint16_t *slots;
	uint8_t *noted;
	int ret = -ENOMEM;

	*left = 0;
	if (part == NULL) {
		perf_error(fe->config.path, "the inflight region cannot be mapped: %s",
				strerror(errno));
		return -errno;
	}
	noted = calloc(ring->n_slots, sizeof(*noted));
	slots = calloc(ring->n_slots, sizeof(*slots));
	if (noted != NULL && slots != NULL)
		ret = find_noted(fe, ring, part, noted, left, &n_entries);
	if (ret == 0)
		ret = check_untaken(fe, ring, noted, n_entries, slots);
	free(noted);
	free(slots);
	return ret;
}
