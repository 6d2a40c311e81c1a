/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Making and freeing rings. All memory of a ring is one area: the structure, its arrays, the blocks
 * for long chains, and last the device's requests; pages nobody touches cost nothing. Called by
 * lib/device on the control path; from then on lcores come in through virtq.c and notify.c.
 */
#include <errno.h>

#include "vhub_alloc.h"
#include "virtq_pvt.h"

/* Offsets of a ring's arrays in its area. */
struct virtq_plan {
	size_t free, busy, held, next, last, replay, saved, long_iov, requests;
	size_t request_bytes;
	size_t total;
	uint32_t n_held;
	uint32_t n_entries; /* of the inflight region, at most */
};

void
vhub_virtq_layout(uint16_t size, uint64_t features, uint64_t *desc_bytes, uint64_t *avail_bytes,
		uint64_t *used_bytes)
{
	/* The event indexes behind split rings exist only for those who negotiated them. */
	const uint64_t event_bytes = (features & VIRTQ_F_EVENT_IDX) != 0 ? sizeof(uint16_t) : 0;

	*desc_bytes = (uint64_t)size * sizeof(struct split_desc);
	if (vhub_virtq_is_packed(features)) {
		*avail_bytes = sizeof(uint32_t);
		*used_bytes = sizeof(uint32_t);
		return;
	}
	*avail_bytes = sizeof(struct split_avail) + (uint64_t)size * sizeof(uint16_t) + event_bytes;
	*used_bytes = sizeof(struct split_used) + (uint64_t)size * sizeof(struct split_used_elem) +
			event_bytes;
}

static bool
is_aligned(const void *ptr, uintptr_t bytes)
{
	return ptr != NULL && (uintptr_t)ptr % bytes == 0;
}

bool
vhub_virtq_is_aligned(const void *desc, const void *avail, const void *used, bool packed)
{
	/* VIRTIO 1.2, 2.7 and 2.8 */
	return is_aligned(desc, 16) && is_aligned(avail, packed ? 4 : 2) && is_aligned(used, 4);
}

bool
vhub_virtq_base_fits(uint32_t base, uint32_t size, bool packed)
{
	if (!packed)
		return base <= UINT16_MAX;
	return (base & 0x7fff) < size && (base >> 16 & 0x7fff) < size;
}

static int
check_config(const struct vhub_virtq_config *config)
{
	const bool packed = vhub_virtq_is_packed(config->features);

	if (config->size == 0 || config->size > VHUB_VIRTQ_MAX_SIZE || config->mem == NULL ||
			config->chain_bytes < sizeof(struct vhub_chain))
		return -EINVAL;
	if (!vhub_virtq_is_aligned(config->desc, config->avail, config->used, packed) ||
			!vhub_virtq_base_fits(config->base, config->size, packed))
		return -EINVAL;
	if (!packed && (config->size & (config->size - 1)) != 0)
		return -EINVAL;
	if (config->inflight != NULL &&
			(!is_aligned(config->inflight, sizeof(uint64_t)) ||
					config->inflight_bytes <
							vhub_inflight_queue_bytes(config->size,
									packed)))
		return -EPROTO;
	return 0;
}

static size_t
plan_add(struct virtq_plan *plan, size_t bytes)
{
	const size_t at = plan->total;

	plan->total = RTE_ALIGN_CEIL(at + bytes, (size_t)RTE_CACHE_LINE_SIZE);
	return at;
}

static void
plan_area(struct virtq_plan *plan, const struct vhub_virtq_config *config)
{
	const bool packed = vhub_virtq_is_packed(config->features);
	const size_t size = config->size;
	uint64_t n;

	if ((config->features & VIRTQ_F_IN_ORDER) != 0) {
		/* A power of two, so that an order number masks to a place. */
		for (plan->n_held = 1; plan->n_held < config->size;)
			plan->n_held *= 2;
	}
	if (config->inflight != NULL && packed) {
		n = (config->inflight_bytes - sizeof(struct inflight_packed)) /
				sizeof(struct inflight_packed_desc);
		plan->n_entries = (uint32_t)RTE_MIN(n, (uint64_t)VHUB_VIRTQ_MAX_SIZE);
	}
	plan->request_bytes = RTE_ALIGN_CEIL((size_t)config->chain_bytes,
			(size_t)RTE_CACHE_LINE_SIZE);
	plan_add(plan, sizeof(struct vhub_virtq));
	plan->free = plan_add(plan, size * sizeof(struct vhub_chain *));
	plan->busy = plan_add(plan, packed ? 0 : size);
	plan->held = plan_add(plan, plan->n_held * sizeof(struct vhub_chain *));
	plan->next = plan_add(plan, plan->n_entries * sizeof(uint16_t));
	plan->last = plan_add(plan, plan->n_entries * sizeof(uint16_t));
	plan->replay = plan_add(plan, config->inflight != NULL ? size * sizeof(uint16_t) : 0);
	plan->saved = plan_add(plan, plan->n_entries * sizeof(struct inflight_packed_desc));
	plan->long_iov = plan_add(plan,
			VHUB_VIRTQ_LONG_CHAINS * VHUB_CHAIN_MAX_IOV * sizeof(struct iovec));
	plan->requests = plan_add(plan, size * plan->request_bytes);
}

static void
place_arrays(struct vhub_virtq *vq, const struct virtq_plan *plan)
{
	char *area = (char *)vq;

	vq->arena_bytes = plan->total;
	vq->request_bytes = plan->request_bytes;
	vq->requests = area + plan->requests;
	vq->free = (void *)(area + plan->free);
	vq->busy = (void *)(area + plan->busy);
	vq->held = (void *)(area + plan->held);
	vq->held_mask = plan->n_held - 1;
	vq->next = (void *)(area + plan->next);
	vq->last = (void *)(area + plan->last);
	vq->replay = (void *)(area + plan->replay);
	vq->saved = (void *)(area + plan->saved);
	vq->long_iov = (void *)(area + plan->long_iov);
	for (unsigned int i = 0; i < VHUB_VIRTQ_LONG_CHAINS; i++)
		vq->long_free[vq->n_long++] = (uint8_t)(VHUB_VIRTQ_LONG_CHAINS - 1 - i);
	/* The first request on top. */
	for (uint32_t i = vq->size; i != 0; i--)
		vq->free[vq->n_free++] = (void *)(vq->requests + (i - 1) * vq->request_bytes);
}

/* Split and packed; without and with an inflight region. */
#define VARIANTS(split, packed) \
	{ \
		{ { .pop = (split), .unpop = split_unpop, .push = split_push_plain }, \
			{ .pop = (split), \
					.replay = split_replay, \
					.push = split_push_inflight, \
					.note = split_note } }, \
				{ { .pop = (packed), \
						  .unpop = packed_unpop, \
						  .push = packed_push_plain }, \
					{ .pop = (packed), \
							.replay = packed_replay, \
							.push = packed_push_inflight, \
							.note = packed_note } }, \
	}

static const struct virtq_ops variants[2][2] = VARIANTS(split_pop, packed_pop);

/* Set by the build where the compiler knows the instructions. */
#ifdef VHUB_HAS_AVX512
static const struct virtq_ops avx512_variants[2][2] = VARIANTS(split_pop_avx512, packed_pop_avx512);

static bool
has_avx512(void)
{
	/* Unlike DPDK's flags this also asks whether the operating system saves the registers. */
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq");
}
#endif

static void
choose_variant(struct vhub_virtq *vq, const struct vhub_virtq_config *config)
{
	vq->packed = vhub_virtq_is_packed(config->features);
	vq->event_idx = (config->features & VIRTQ_F_EVENT_IDX) != 0;
	vq->indirect = (config->features & VIRTQ_F_INDIRECT) != 0;
	vq->in_order = (config->features & VIRTQ_F_IN_ORDER) != 0;
	vq->has_region = config->inflight != NULL;
	vq->ops = &variants[vq->packed][vq->has_region];
#ifdef VHUB_HAS_AVX512
	if (has_avx512())
		vq->ops = &avx512_variants[vq->packed][vq->has_region];
#endif
}

static void
set_position(struct vhub_virtq *vq, const struct vhub_virtq_config *config)
{
	uint32_t base = config->base;

	/* Whatever the base is: of some front ends it is how far the driver is, which would lose what nobody has taken. */
	if (!vq->packed) {
		vq->used_idx = __atomic_load_n(&vq->used->idx, __ATOMIC_ACQUIRE);
		vq->last_avail = vq->used_idx;
		return;
	}
	if (config->from_used) {
		base = base >> 16 != 0 ? base >> 16 : base & UINT16_MAX;
		base |= base << 16;
	}
	vq->last_avail = base & 0x7fff;
	vq->avail_wrap = base >> 15 & 1;
	vq->used_idx = base >> 16 & 0x7fff;
	vq->used_wrap = base >> 31;
}

static void
place_ring(struct vhub_virtq *vq, const struct vhub_virtq_config *config)
{
	static const uint32_t never;

	vq->desc = config->desc;
	vq->avail = config->avail;
	vq->used = config->used;
	vq->mem = vhub_mem_table_get(config->mem);
	vq->faulted = config->faulted != NULL ? config->faulted : &never;
	vq->log = config->log != NULL ? vhub_dirty_log_get(config->log) : NULL;
	vq->log_used = config->log_used;
	vq->used_log_gpa = config->used_log_gpa;
	vq->call_fd = config->call_fd;
	vq->notify_account = config->notify_account;
	vq->notify_forced = true;
	vq->pop_special = POP_STARTING;
	dirty_set_bases(vq);
	set_position(vq, config);
}

static int
resume_region(struct vhub_virtq *vq, const struct vhub_virtq_config *config)
{
	const struct inflight_split *head = config->inflight;

	if (head == NULL)
		return 0;
	/* A part that nobody has prepared is as good as a fresh one. */
	if (__atomic_load_n(&head->version, __ATOMIC_ACQUIRE) == 0 &&
			vhub_inflight_queue_init(config->inflight, config->inflight_bytes,
					config->size, vq->packed) != 0)
		return -EPROTO;
	if (vq->packed) {
		vq->inflight_packed = config->inflight;
		return inflight_packed_resume(vq, config->inflight_bytes);
	}
	vq->inflight_split = config->inflight;
	return inflight_split_resume(vq, config->inflight_bytes);
}

static int
resume(struct vhub_virtq *vq, const struct vhub_virtq_config *config)
{
	const int ret = resume_region(vq, config);

	/* A ring that goes on where its used side stands does not know whether it is the first life. */
	vq->former_unmarked = vq->resumed || config->from_used;
	/* Also when the region was refused: part of the ring may be repaired. */
	dirty_mark_former(vq);
	return ret;
}

void
vhub_virtq_destroy(struct vhub_virtq *vq)
{
	if (vq == NULL)
		return;
	vhub_dirty_log_put(vq->log);
	vhub_mem_table_put(vq->mem);
	vhub_free(vq, vq->arena_bytes);
}

int
vhub_virtq_create(const struct vhub_virtq_config *config, struct vhub_virtq **out)
{
	struct virtq_plan plan = { .total = 0 };
	struct vhub_virtq *vq;
	int ret;

	ret = check_config(config);
	if (ret != 0)
		return ret;
	plan_area(&plan, config);
	vq = vhub_zalloc_node(plan.total, config->numa_node);
	if (vq == NULL)
		return -ENOMEM;
	vq->size = config->size;
	choose_variant(vq, config);
	place_arrays(vq, &plan);
	place_ring(vq, config);
	ret = resume(vq, config);
	if (ret != 0) {
		vhub_virtq_destroy(vq);
		return ret;
	}
	*out = vq;
	return 0;
}
