/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The registry of mappings. map.c enters and removes them, the SIGBUS handler (guard.c, the next file on the
 * way) searches them at any moment on any thread and can take no lock.
 *
 * Three promises hold it together, each a pair of sequentially consistent accesses, so that of two threads at
 * least one sees the other:
 *   - a handler pins a slot and then looks at its start; mem_registry_remove() clears start and then waits for
 *     pins: what a handler replaces is mapped until it is done, and nothing else can have come in its place;
 *   - a handler counts itself into `markers` and then loads a slot's owner; vhub_mem_owner_detach() clears the
 *     owner and then waits for `markers`: an owner that was detached is not touched any more;
 *   - a slot removed after a fault of which CTL was not told yet is used again only when it was told.
 *
 * It also counts what each owner has, so that none takes it all (share.c). That goes by a slot's
 * owner, under the lock that vhub_mem_owner_detach() takes: what outlives its owner counts as
 * everybody's.
 */
#include "mem_pvt.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

/* Index 0 stands for "none" in the free list, so slot 0 is not used. */
static struct mem_slot registry_slots[MEM_MAX_SLOTS];

static struct {
	pthread_mutex_t lock; /* never taken by the handler */
	uint32_t free_head;   /* under lock */
	uint32_t n_used;      /* slots that were ever used; shared atomic, only grows */
	uint32_t markers;     /* handlers that look at an owner; shared atomic */
	uint32_t n_parts;     /* of the slots; shared atomic */
	uint32_t n_taken;     /* slots that are not free; under lock */
	uint64_t taken_bytes; /* reserved or mapped; under lock */
} registry = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.n_used = 1,
};

static uint32_t
slot_take(void)
{
	uint32_t i = registry.free_head;

	if (i != 0) {
		registry.free_head = registry_slots[i].next_free;
		return i;
	}
	i = __atomic_load_n(&registry.n_used, __ATOMIC_RELAXED);
	if (i == MEM_MAX_SLOTS)
		return 0;
	/* The handler may look at the slot from now on: start is 0. */
	__atomic_store_n(&registry.n_used, i + 1, __ATOMIC_RELEASE);
	return i;
}

/* Under the lock. */
static void
slot_release(uint32_t i)
{
	struct vhub_mem_owner *owner = __atomic_load_n(&registry_slots[i].owner, __ATOMIC_RELAXED);

	if (owner != NULL)
		owner->n_maps--;
	registry.n_taken--;
	__atomic_store_n(&registry_slots[i].owner, NULL, __ATOMIC_RELAXED);
	__atomic_store_n(&registry_slots[i].state, 0, __ATOMIC_RELAXED);
	registry_slots[i].next_free = registry.free_head;
	registry.free_head = i;
}

/* Takes the mark of a fault not told off; a slot that waited only for that becomes free. Under the lock. */
static bool
slot_take_untold(uint32_t i)
{
	/* Acquire: pairs with the release by which the handler set the mark. */
	uint32_t state = __atomic_fetch_and(&registry_slots[i].state, ~MEM_SLOT_UNTOLD,
			__ATOMIC_ACQUIRE);

	if ((state & MEM_SLOT_UNTOLD) == 0)
		return false;
	if ((state & MEM_SLOT_GONE) != 0)
		slot_release(i);
	return true;
}

/* Under the lock, with room found. */
static uint32_t
slot_reserve(size_t len_bytes, struct vhub_mem_owner *owner)
{
	uint32_t i = slot_take();
	struct mem_slot *s = &registry_slots[i];

	__atomic_store_n(&s->len_bytes, len_bytes, __ATOMIC_RELAXED);
	__atomic_store_n(&s->owner, owner, __ATOMIC_RELAXED);
	__atomic_store_n(&s->state, 0, __ATOMIC_RELAXED);
	registry.n_taken++;
	registry.taken_bytes += len_bytes;
	if (owner != NULL) {
		owner->n_maps++;
		owner->mapped_bytes += len_bytes;
	}
	return i;
}

/* What an owner has, and what is its share. */
struct holding {
	uint64_t own_bytes, own_maps, share_bytes, share_maps;
};

/* Under the lock. */
static struct holding
holding_of(const struct vhub_mem_owner *owner)
{
	struct holding h = { 0 };

	if (owner != NULL) {
		h.own_bytes = owner->mapped_bytes;
		h.own_maps = owner->n_maps;
	}
	/* Slot 0 is not used. Nobody's mappings are bound by what is there. */
	h.share_bytes = mem_share(MEM_SPACE_BYTES, registry.taken_bytes - h.own_bytes,
			owner != NULL ? 0 : MEM_SPACE_BYTES);
	h.share_maps = mem_share(MEM_MAX_SLOTS - 1, registry.n_taken - h.own_maps,
			owner != NULL ? MEM_LEAST_MAPS : MEM_MAX_SLOTS);
	return h;
}

static bool
has_room(const struct holding *h, uint64_t bytes)
{
	return h->own_maps < h->share_maps && h->own_bytes <= h->share_bytes &&
			bytes <= h->share_bytes - h->own_bytes;
}

static int
refuse(const struct holding *h, uint64_t bytes)
{
	if (h->own_maps >= h->share_maps)
		mem_share_log_maps(h->own_maps, h->share_maps);
	else
		mem_share_log_bytes(bytes, h->own_bytes, h->share_bytes);
	return -ENOMEM;
}

int
mem_registry_reserve(size_t len_bytes, struct vhub_mem_owner *owner, uint32_t *slot)
{
	struct holding h;

	pthread_mutex_lock(&registry.lock);
	h = holding_of(owner);
	*slot = has_room(&h, len_bytes) ? slot_reserve(len_bytes, owner) : 0;
	pthread_mutex_unlock(&registry.lock);
	return *slot != 0 ? 0 : refuse(&h, len_bytes);
}

int
vhub_mem_may_map(uint64_t bytes, struct vhub_mem_owner *owner)
{
	struct holding h;

	pthread_mutex_lock(&registry.lock);
	h = holding_of(owner);
	pthread_mutex_unlock(&registry.lock);
	return has_room(&h, bytes) ? 0 : refuse(&h, bytes);
}

void
mem_registry_enter(uint32_t slot, void *start)
{
	/* Release: pairs with the loads of start in mem_registry_pin(). */
	__atomic_store_n(&registry_slots[slot].start, (uintptr_t)start, __ATOMIC_RELEASE);
}

void
mem_registry_remove(uint32_t slot)
{
	struct mem_slot *s = &registry_slots[slot];
	struct vhub_mem_owner *owner;
	uint32_t n_parts;

	/* Pairs with mem_registry_pin(). Not under the lock: a handler's mmap(2) can take its time, CTL cannot. */
	__atomic_store_n(&s->start, 0, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&s->pins, __ATOMIC_SEQ_CST) != 0)
		sched_yield();
	n_parts = __atomic_exchange_n(&s->n_parts, 0, __ATOMIC_RELAXED);
	__atomic_fetch_sub(&registry.n_parts, n_parts, __ATOMIC_RELAXED);

	pthread_mutex_lock(&registry.lock);
	owner = __atomic_load_n(&s->owner, __ATOMIC_RELAXED);
	/* Until it is unmapped, it counts as others'. */
	if (owner != NULL)
		owner->mapped_bytes -= __atomic_load_n(&s->len_bytes, __ATOMIC_RELAXED);
	if ((__atomic_load_n(&s->state, __ATOMIC_ACQUIRE) & MEM_SLOT_UNTOLD) != 0 && owner != NULL)
		__atomic_fetch_or(&s->state, MEM_SLOT_GONE, __ATOMIC_RELAXED);
	else
		slot_release(slot);
	pthread_mutex_unlock(&registry.lock);
}

void
mem_registry_give_back(size_t len_bytes)
{
	pthread_mutex_lock(&registry.lock);
	registry.taken_bytes -= len_bytes;
	pthread_mutex_unlock(&registry.lock);
}

bool
mem_registry_is_intact(uint32_t slot, const struct vhub_mem_owner *owner)
{
	const struct mem_slot *s = &registry_slots[slot];

	return __atomic_load_n(&s->owner, __ATOMIC_RELAXED) == owner &&
			(__atomic_load_n(&s->state, __ATOMIC_RELAXED) & MEM_SLOT_ZEROED) == 0;
}

static bool
slot_holds(const struct mem_slot *slot, uintptr_t addr, int order)
{
	uintptr_t start = __atomic_load_n(&slot->start, order);

	return start != 0 && addr - start < __atomic_load_n(&slot->len_bytes, __ATOMIC_RELAXED);
}

struct mem_slot *
mem_registry_pin(uintptr_t addr)
{
	uint32_t n = __atomic_load_n(&registry.n_used, __ATOMIC_ACQUIRE);

	for (uint32_t i = 1; i < n; i++) {
		struct mem_slot *s = &registry_slots[i];

		/* A first look, which may see two halves of a slot that is being used again; then the true one. */
		if (!slot_holds(s, addr, __ATOMIC_ACQUIRE))
			continue;
		__atomic_fetch_add(&s->pins, 1, __ATOMIC_SEQ_CST);
		if (slot_holds(s, addr, __ATOMIC_SEQ_CST))
			return s;
		mem_registry_unpin(s);
	}
	return NULL;
}

void
mem_registry_unpin(struct mem_slot *slot)
{
	/* Release: what the handler did to the mapping comes before its unmapping. */
	__atomic_fetch_sub(&slot->pins, 1, __ATOMIC_RELEASE);
}

void
mem_registry_count_part(struct mem_slot *slot)
{
	__atomic_fetch_add(&slot->n_parts, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&registry.n_parts, 1, __ATOMIC_RELAXED);
}

uint32_t
mem_registry_parts(void)
{
	return __atomic_load_n(&registry.n_parts, __ATOMIC_RELAXED);
}

void
mem_registry_mark_owner(struct mem_slot *slot)
{
	struct vhub_mem_owner *owner;

	/* Pairs with vhub_mem_owner_detach(). */
	__atomic_fetch_add(&registry.markers, 1, __ATOMIC_SEQ_CST);
	owner = __atomic_load_n(&slot->owner, __ATOMIC_SEQ_CST);
	if (owner != NULL)
		__atomic_fetch_or(&owner->faulted, VHUB_MEM_FAULTED, __ATOMIC_RELEASE);
	__atomic_fetch_sub(&registry.markers, 1, __ATOMIC_RELEASE);
}

bool
mem_registry_next_untold(uint32_t *next, struct vhub_mem_owner **owner)
{
	uint32_t n = __atomic_load_n(&registry.n_used, __ATOMIC_ACQUIRE);
	bool found = false;

	pthread_mutex_lock(&registry.lock);
	while (!found && *next < n) {
		uint32_t i = (*next)++;

		*owner = __atomic_load_n(&registry_slots[i].owner, __ATOMIC_RELAXED);
		found = slot_take_untold(i);
	}
	pthread_mutex_unlock(&registry.lock);
	return found;
}

void
vhub_mem_owner_detach(struct vhub_mem_owner *owner)
{
	uint32_t n = __atomic_load_n(&registry.n_used, __ATOMIC_ACQUIRE);

	pthread_mutex_lock(&registry.lock);
	for (uint32_t i = 1; i < n; i++) {
		struct mem_slot *s = &registry_slots[i];

		if (__atomic_load_n(&s->owner, __ATOMIC_RELAXED) != owner)
			continue;
		/* Pairs with mem_registry_mark_owner(). */
		__atomic_store_n(&s->owner, NULL, __ATOMIC_SEQ_CST);
		slot_take_untold(i);
	}
	/* The next owner in this place begins with nothing. */
	owner->mapped_bytes = 0;
	owner->n_maps = 0;
	pthread_mutex_unlock(&registry.lock);
	while (__atomic_load_n(&registry.markers, __ATOMIC_SEQ_CST) != 0)
		sched_yield();
}
