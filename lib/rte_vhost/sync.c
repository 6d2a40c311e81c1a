/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Has librte_vhost be what the session record says: the messages of a minimal front end, in the one
 * order that the library is made for. Runs as blocking work, while no lcore is in a ring of the
 * device. Called by device/foreign.c through lib/net; next: burst.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

#include <rte_common.h>
#include <rte_vhost.h>

#include "rvhost.h"
#include "vhub_log.h"
#include "vhub_mem.h"

VHUB_LOGTYPE(net);

/* ---- what the library has mapped ---- */

/* A front end may cut its file short at any time: our guard has to know the library's mappings. */
static int
guard(struct rvhost_path *path, uint64_t addr, uint64_t size_bytes, struct vhub_mem_owner *owner)
{
	int ret;

	if (path->n_guards == RVHOST_MAX_GUARDS)
		return -E2BIG;
	ret = vhub_mem_map_adopt((void *)(uintptr_t)addr, size_bytes, owner,
			&path->guards[path->n_guards]);
	if (ret == 0)
		path->n_guards++;
	return ret;
}

static void
drop_guards(struct rvhost_path *path)
{
	while (path->n_guards > 0)
		vhub_mem_map_put(path->guards[--path->n_guards]);
}

static int
guard_regions(struct rvhost_path *path, struct vhub_mem_owner *owner)
{
	struct rte_vhost_memory *mem = NULL;
	uint32_t i;
	int ret = 0;

	if (rte_vhost_get_mem_table(path->vid, &mem) != 0)
		return -EIO;
	for (i = 0; i < mem->nregions && ret == 0; i++)
		ret = guard(path, (uintptr_t)mem->regions[i].mmap_addr, mem->regions[i].mmap_size,
				owner);
	free(mem);
	return ret;
}

/* ---- the session, before its rings ---- */

/*
 * It maps files from their beginning, however far behind the region lies, and guard_regions() comes afterwards:
 * what would be more than the front end's share is not to be mapped for a moment either.
 */
static int
check_share(const struct session_record *rec, struct vhub_mem_owner *owner)
{
	uint64_t bytes = 0, end_bytes;
	uint32_t i;

	for (i = 0; i < rec->n_regions; i++) {
		/* Within a file, of less than 2^63. */
		end_bytes = rec->regions[i].desc.mmap_offset_bytes +
				rec->regions[i].desc.size_bytes;
		if (__builtin_add_overflow(bytes, end_bytes, &bytes))
			return -ENOMEM;
	}
	return vhub_mem_may_map(bytes, owner);
}

static int
tell_memory(struct rvhost_path *path, const struct session_record *rec,
		struct vhub_mem_owner *owner)
{
	struct vhub_user_mem_table table = { .n_regions = rec->n_regions };
	int fds[RVHOST_MAX_REGIONS];
	uint32_t i;
	int ret;

	if (rec->n_regions > RVHOST_MAX_REGIONS)
		return -E2BIG;
	ret = check_share(rec, owner);
	if (ret != 0)
		return ret;
	for (i = 0; i < rec->n_regions; i++) {
		table.regions[i] = rec->regions[i].desc;
		fds[i] = rec->regions[i].fd;
	}
	ret = rvhost_tell(path, VHUB_USER_SET_MEM_TABLE, &table,
			VHUB_USER_MEM_TABLE_HEAD + rec->n_regions * sizeof(table.regions[0]), fds,
			rec->n_regions);
	if (ret == 0)
		ret = rvhost_fence(path);
	return ret != 0 ? ret : guard_regions(path, owner);
}

static int
tell_log(struct rvhost_path *path, const struct session_record *rec, struct vhub_mem_owner *owner)
{
	uint64_t nothing, base = 0, size = 0;
	uint64_t page_bytes;
	int ret;

	if ((rec->features & VHUB_F(LOG_ALL)) == 0 || rec->log_fd < 0)
		return 0;
	ret = rvhost_ask(path, VHUB_USER_SET_LOG_BASE, &rec->log, sizeof(rec->log), &rec->log_fd, 1,
			&nothing, sizeof(nothing));
	if (ret != 0)
		return ret;
	if (rte_vhost_get_log_base(path->vid, &base, &size) != 0)
		return -EIO;
	ret = vhub_mem_file_page_bytes(rec->log_fd, &page_bytes);
	if (ret != 0)
		return ret;
	/* The kernel has mapped whole pages of the file's, which on hugetlbfs are large ones. */
	return guard(path, base, RTE_ALIGN_CEIL(size, page_bytes), owner);
}

static int
tell_protocol(struct rvhost_path *path, const struct session_record *rec)
{
	uint64_t features = (rec->features & path->library_features) | VHUB_F(PROTOCOL_FEATURES);
	uint64_t protocol = VHUB_USER_PF(MQ) | VHUB_USER_PF(LOG_SHMFD) | VHUB_USER_PF(REPLY_ACK);
	bool iommu = (features & VHUB_F(ACCESS_PLATFORM)) != 0;
	int ret;

	if (iommu)
		protocol |= VHUB_USER_PF(BACKEND_REQ);
	/* Without a log nothing can be logged. */
	if (rec->log_fd < 0)
		features &= ~VHUB_F(LOG_ALL);
	ret = rvhost_tell(path, VHUB_USER_SET_OWNER, NULL, 0, NULL, 0);
	if (ret == 0)
		ret = rvhost_tell(path, VHUB_USER_SET_PROTOCOL_FEATURES, &protocol,
				sizeof(protocol), NULL, 0);
	if (ret == 0 && iommu)
		ret = rvhost_tell(path, VHUB_USER_SET_BACKEND_REQ_FD, NULL, 0, &path->iotlb_fd, 1);
	if (ret == 0)
		ret = rvhost_tell(path, VHUB_USER_SET_FEATURES, &features, sizeof(features), NULL,
				0);
	path->packed = vhub_virtq_is_packed(features);
	path->mergeable = (features & (UINT64_C(1) << VIRTIO_NET_F_MRG_RXBUF)) != 0;
	return ret;
}

/*
 * For an engine the library has all pages that it maps made at once (MAP_POPULATE): where the front end has not
 * filled its files, it could have us fill the host.
 */
static bool
is_allocated(const struct session_record *rec)
{
	const struct vhub_user_mem_region *desc;
	uint32_t i;

	for (i = 0; i < rec->n_regions; i++) {
		desc = &rec->regions[i].desc;
		if (!vhub_mem_file_is_allocated(rec->regions[i].fd, desc->mmap_offset_bytes,
				    desc->size_bytes))
			return false;
	}
	return true;
}

/* What an engine copies is in no dirty log. */
static bool
may_copy_by_dma(struct rvhost_path *path, const struct session_record *rec)
{
	if (path->dma == NULL || (rec->features & VHUB_F(LOG_ALL)) != 0)
		return false;
	if (is_allocated(rec))
		return true;
	if (vhub_log_allowed(&path->log_limit))
		VHUB_LOG(NOTICE,
				"%s: workers copy in place of DMA device %s: the front end's memory was not allocated (QEMU: prealloc=on)",
				path->dev->name, rvhost_dma_name(path->dma));
	return false;
}

static int
begin(struct rvhost_path *path, const struct session_record *rec, struct vhub_mem_owner *owner)
{
	int ret;

	path->copies_by_dma = may_copy_by_dma(path, rec);
	ret = rvhost_open(path);
	if (ret == 0)
		ret = tell_protocol(path, rec);
	if (ret == 0)
		ret = tell_memory(path, rec, owner);
	if (ret == 0)
		ret = tell_log(path, rec, owner);
	return ret;
}

/* ---- rings ---- */

/*
 * The library keeps one place for a packed ring: where it stands, nothing is in flight. Of the two
 * halves of a base the used one counts: what a back end before us has taken and not returned is
 * taken again. DPDK's own front end leaves that half empty.
 */
static uint32_t
base_for_library(const struct rvhost_path *path, uint32_t base)
{
	return path->packed && base >> 16 != 0 ? base >> 16 : base & UINT16_MAX;
}

static uint32_t
base_from_library(const struct rvhost_path *path, uint32_t base)
{
	base &= UINT16_MAX;
	return path->packed ? base << 16 | base : base;
}

static int
tell_ring_fd(struct rvhost_path *path, uint32_t request, uint64_t index)
{
	return rvhost_tell(path, request, &index, sizeof(index), &path->event_fd, 1);
}

static int
tell_ring_state(struct rvhost_path *path, uint32_t request, uint32_t index, uint32_t num)
{
	const struct vhub_user_vring_state state = { .index = index, .num = num };

	return rvhost_tell(path, request, &state, sizeof(state), NULL, 0);
}

/*
 * What one call may handle, so that a guest which lies cannot have the library (22.11) write where it
 * should not. In split rings it believes the guest how much there is, and notes what it uses in an
 * array as long as the ring: one packet takes one entry, or with mergeable buffers up to all but one.
 * In packed rings it gives a receive buffer of less than a header no end where it finds packets for a
 * whole batch.
 *
 * From a packed ring of the guest it takes as many as it is asked for; from a split one, or by DMA, no more
 * than RVHOST_CALL_MAX. What it does once a call, a lock and a fence among it, is then done half as often.
 */
static uint16_t
most_in_a_call(const struct rvhost_path *path, uint32_t index, uint16_t ring_size)
{
	const bool to_guest = (index & 1) == 0;
	const bool takes_more = path->packed && !to_guest && path->dma == NULL;

	if (takes_more)
		return RTE_MIN(ring_size, RVHOST_PACKED_CALL_MAX);
	if (path->trusted)
		return RVHOST_CALL_MAX;
	if (to_guest && path->packed)
		return RVHOST_PACKED_BATCH - 1;
	return to_guest && path->mergeable ? 1 : RTE_MIN(ring_size, RVHOST_CALL_MAX);
}

/* As the guest calls it: with ACCESS_PLATFORM what a front end tells of rings is that already. 0: it is nowhere. */
static uint64_t
ring_gpa(const struct session_record *rec, uint64_t uva)
{
	const struct vhub_user_mem_region *desc;
	uint32_t i;

	if ((rec->features & VHUB_F(ACCESS_PLATFORM)) != 0)
		return uva;
	for (i = 0; i < rec->n_regions; i++) {
		desc = &rec->regions[i].desc;
		if (uva - desc->user_addr_uva < desc->size_bytes)
			return desc->guest_addr_gpa + (uva - desc->user_addr_uva);
	}
	return 0;
}

/*
 * Of a packed ring the library marks descriptors, from the address of the log on. A front end that gives that of the
 * event suppression there, as QEMU does, means just that (lib/virtq/dirty.c).
 */
static struct vhub_user_vring_addr
addr_for_library(const struct rvhost_path *path, const struct session_record *rec, uint32_t index)
{
	struct vhub_user_vring_addr addr = rec->vrings[index].addr;

	addr.index = index;
	if (path->packed && addr.log_gpa == ring_gpa(rec, addr.used_uva))
		addr.log_gpa = ring_gpa(rec, addr.desc_uva);
	return addr;
}

/* Always enabled: what SET_VRING_ENABLE says is lib/net's to do, for it has to discard. */
static int
start_ring(struct rvhost_path *path, const struct session_record *session, uint32_t index,
		uint32_t base)
{
	const struct vhub_user_vring_addr addr = addr_for_library(path, session, index);
	const struct vring_record *rec = &session->vrings[index];
	int ret;

	path->call_max[index] = most_in_a_call(path, index, rec->size);
	ret = tell_ring_state(path, VHUB_USER_SET_VRING_NUM, index, rec->size);
	if (ret == 0)
		ret = tell_ring_state(path, VHUB_USER_SET_VRING_BASE, index,
				base_for_library(path, base));
	if (ret == 0)
		ret = rvhost_tell(path, VHUB_USER_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0);
	if (ret == 0)
		ret = tell_ring_fd(path, VHUB_USER_SET_VRING_CALL, index);
	if (ret == 0)
		ret = tell_ring_fd(path, VHUB_USER_SET_VRING_KICK, index);
	if (ret == 0)
		ret = tell_ring_state(path, VHUB_USER_SET_VRING_ENABLE, index, 1);
	if (ret == 0)
		ret = rvhost_fence(path);
	if (ret == 0)
		ret = rvhost_dma_begin(path, (uint16_t)index, rec->size);
	path->running[index] = ret == 0;
	if (ret == 0 && path->iommu)
		rvhost_stats_find_misses(path, (uint16_t)index);
	if (ret == 0)
		rvhost_stats_look(path, (uint16_t)index);
	return ret;
}

static int
stop_ring(struct rvhost_path *path, uint32_t index)
{
	struct vhub_user_vring_state state = { .index = index };
	int ret;

	rvhost_dma_end(path, (uint16_t)index);
	rvhost_stats_look(path, (uint16_t)index);
	ret = rvhost_ask(path, VHUB_USER_GET_VRING_BASE, &state, sizeof(state), NULL, 0, &state,
			sizeof(state));
	if (ret == 0)
		ret = rvhost_fence(path);
	path->running[index] = false;
	path->bases[index] = base_from_library(path, state.num);
	return ret;
}

/* ---- entry ---- */

/* Stops those rings that are not to run, or all; their places are in path->bases then. */
static int
stop_rings(struct rvhost_path *path, const struct session_record *rec, bool all)
{
	unsigned int i;
	int ret = 0, one;

	for (i = 0; i < path->n_vrings; i++) {
		if (!path->running[i] || (!all && rec->vrings[i].started))
			continue;
		one = stop_ring(path, i);
		ret = ret != 0 ? ret : one;
	}
	return ret;
}

/* `went_on`: rings that ran until now, whose place the library has told us. */
static int
start_rings(struct rvhost_path *path, const struct session_record *rec, const bool *went_on)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < path->n_vrings && ret == 0; i++) {
		const struct vring_record *ring = &rec->vrings[i];

		if (ring->started && !path->running[i])
			ret = start_ring(path, rec, i, went_on[i] ? path->bases[i] : ring->base);
	}
	return ret;
}

static bool
any_started(const struct rvhost_path *path, const struct session_record *rec)
{
	unsigned int i;

	for (i = 0; i < path->n_vrings; i++) {
		if (rec->vrings[i].started)
			return true;
	}
	return false;
}

/*
 * An engine may write to guest memory yet, as may we in its place (engine.c), and the library notes what has
 * ended in the rings: so its device stays until the process ends, with its memory and the guards.
 */
static void
leave_device(struct rvhost_path *path)
{
	VHUB_LOG(ERR, "%s: the front end's memory stays mapped, as DMA device %s may write to it",
			path->dev->name, rvhost_dma_name(path->dma));
	path->abandoned = false;
	path->n_guards = 0;
	path->fd = -1;
	path->vid = -1;
}

/* The library has nothing of ours any more, unless an engine has. Rings may run yet, if a step has failed. */
static void
end(struct rvhost_path *path)
{
	unsigned int i;

	if (path->fd < 0)
		return;
	for (i = 0; i < path->n_vrings; i++)
		rvhost_dma_end(path, (uint16_t)i);
	rvhost_stats_keep(path);
	if (path->abandoned) {
		leave_device(path);
	} else {
		drop_guards(path);
		rvhost_close(path);
	}
	memset(path->running, 0, sizeof(path->running));
}

int
rvhost_sync(struct rvhost_path *path, const struct session_record *rec, bool anew,
		struct vhub_mem_owner *owner, uint32_t *bases)
{
	bool all = anew || !any_started(path, rec);
	bool went_on[VHUB_MAX_VRINGS];
	int ret = 0;

	memcpy(went_on, path->running, sizeof(went_on));
	if (path->fd >= 0)
		ret = stop_rings(path, rec, all);
	if (all)
		end(path);
	if (ret == 0 && path->fd < 0 && any_started(path, rec))
		ret = begin(path, rec, owner);
	if (ret == 0)
		ret = start_rings(path, rec, went_on);
	if (ret != 0) {
		VHUB_LOG(ERR, "%s: librte_vhost cannot serve this front end: %s", path->dev->name,
				strerror(-ret));
		end(path);
	}
	memcpy(bases, path->bases, path->n_vrings * sizeof(*bases));
	return ret;
}
