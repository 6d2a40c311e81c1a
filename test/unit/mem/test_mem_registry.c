/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The registry below the guard, where the order of things can be chosen: what a handler has in its hands is not
 * taken away, what is being taken away is not given to a handler, and slots come back.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "mem_fixture.h"
#include "mem_pvt.h"

/* Nobody touches them: the registry knows addresses, not memory. */
#define AT(n) ((void *)(UINT64_C(0x100000000000) + (n)*16 * PAGE))

static uint32_t
add(unsigned int n, struct vhub_mem_owner *owner)
{
	uint32_t slot;

	assert_int_equal(mem_registry_reserve(4 * PAGE, owner, &slot), 0);
	mem_registry_enter(slot, AT(n));
	return slot;
}

static void
drop(uint32_t slot)
{
	mem_registry_remove(slot);
	mem_registry_give_back(4 * PAGE);
}

static void
test_finds_the_mapping_around_an_address(void **state)
{
	const uint32_t a = add(0, NULL), b = add(1, NULL);
	const uintptr_t start = (uintptr_t)AT(1);
	struct mem_slot *slot;

	(void)state;
	assert_null(mem_registry_pin(start - 1));
	assert_null(mem_registry_pin(start + 4 * PAGE));
	assert_null(mem_registry_pin(0));
	assert_null(mem_registry_pin(UINTPTR_MAX));
	slot = mem_registry_pin(start);
	assert_non_null(slot);
	assert_int_equal(slot->start, start);
	mem_registry_unpin(slot);
	assert_ptr_equal(mem_registry_pin(start + 4 * PAGE - 1), slot);
	mem_registry_unpin(slot);
	drop(b);
	assert_null(mem_registry_pin(start));
	drop(a);
}

struct remover {
	uint32_t slot;
	uint32_t removed;
};

static void *
remover_main(void *arg)
{
	struct remover *remover = arg;

	drop(remover->slot);
	__atomic_store_n(&remover->removed, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void
test_removal_waits_for_the_handler(void **state)
{
	struct remover remover = { .slot = add(0, NULL) };
	const uintptr_t start = (uintptr_t)AT(0);
	struct mem_slot *slot;
	pthread_t thread;

	(void)state;
	slot = mem_registry_pin(start);
	assert_non_null(slot);
	assert_int_equal(pthread_create(&thread, NULL, remover_main, &remover), 0);
	/* The removal has begun: no other handler gets the mapping, and the one that has it keeps it. */
	while (__atomic_load_n(&slot->start, __ATOMIC_SEQ_CST) != 0)
		sched_yield();
	usleep(20000);
	assert_null(mem_registry_pin(start));
	assert_int_equal(__atomic_load_n(&remover.removed, __ATOMIC_ACQUIRE), 0);
	mem_registry_unpin(slot);
	pthread_join(thread, NULL);
	assert_int_equal(remover.removed, 1);
}

/* As the handler leaves a slot. */
static void
fault(unsigned int n)
{
	struct mem_slot *slot = mem_registry_pin((uintptr_t)AT(n));

	assert_non_null(slot);
	mem_registry_mark_owner(slot);
	__atomic_fetch_or(&slot->state, MEM_SLOT_ZEROED | MEM_SLOT_UNTOLD, __ATOMIC_RELEASE);
	mem_registry_unpin(slot);
}

static void
test_faults_are_told_once(void **state)
{
	struct vhub_mem_owner owners[3] = { { .broken = NULL } };
	struct vhub_mem_owner *owner;
	uint32_t slots[3], next = 0;

	(void)state;
	for (unsigned int i = 0; i < 3; i++) {
		slots[i] = add(i, &owners[i]);
		assert_true(mem_registry_is_intact(slots[i], &owners[i]));
		assert_false(mem_registry_is_intact(slots[i], NULL));
	}
	fault(0);
	fault(2);
	fault(2);
	assert_int_equal(owners[0].faulted, VHUB_MEM_FAULTED);
	assert_int_equal(owners[1].faulted, 0);
	assert_false(mem_registry_is_intact(slots[0], &owners[0]));
	drop(slots[2]); /* keeps its place until CTL was told */

	assert_true(mem_registry_next_untold(&next, &owner));
	assert_ptr_equal(owner, &owners[0]);
	assert_true(mem_registry_next_untold(&next, &owner));
	assert_ptr_equal(owner, &owners[2]);
	assert_false(mem_registry_next_untold(&next, &owner));
	next = 0;
	assert_false(mem_registry_next_untold(&next, &owner));
	/* Told, not healed. */
	assert_false(mem_registry_is_intact(slots[0], &owners[0]));
	drop(slots[0]);
	drop(slots[1]);
}

/* Fills the registry and empties it, whatever way its slots went before: the number that fits stays the same. */
static unsigned int
count_free_slots(void)
{
	uint32_t *slots = calloc(MEM_MAX_SLOTS, sizeof(*slots));
	unsigned int n = 0;
	uint32_t none;

	assert_non_null(slots);
	while (mem_registry_reserve(4 * PAGE, NULL, &slots[n]) == 0) {
		mem_registry_enter(slots[n], AT(n));
		n++;
	}
	assert_int_equal(mem_registry_reserve(4 * PAGE, NULL, &none), -ENOMEM);
	for (unsigned int i = 0; i < n; i++)
		drop(slots[i]);
	free(slots);
	return n;
}

static void
test_slots_come_back(void **state)
{
	const unsigned int n_free = count_free_slots();
	struct vhub_mem_owner owner = { .broken = NULL };
	struct vhub_mem_owner *told;
	uint32_t slot, next;

	(void)state;
	assert_int_equal(n_free, MEM_MAX_SLOTS - 1);
	/* Removed, then told. */
	slot = add(0, &owner);
	fault(0);
	drop(slot);
	next = 0;
	assert_true(mem_registry_next_untold(&next, &told));
	assert_int_equal(count_free_slots(), n_free);
	/* Told, then removed. */
	slot = add(0, &owner);
	fault(0);
	next = 0;
	assert_true(mem_registry_next_untold(&next, &told));
	drop(slot);
	assert_int_equal(count_free_slots(), n_free);
	/* Removed, then detached; nobody is told. */
	slot = add(0, &owner);
	fault(0);
	drop(slot);
	vhub_mem_owner_detach(&owner);
	next = 0;
	assert_false(mem_registry_next_untold(&next, &told));
	assert_int_equal(count_free_slots(), n_free);
	/* Detached, then faulted and removed; CTL is woken once more for nobody. */
	slot = add(0, &owner);
	vhub_mem_owner_detach(&owner);
	fault(0);
	drop(slot);
	next = 0;
	assert_false(mem_registry_next_untold(&next, &told));
	assert_int_equal(count_free_slots(), n_free);
}

/* As many mappings as the owner gets; each of `len_bytes`. */
static unsigned int
take_all(struct vhub_mem_owner *owner, size_t len_bytes, unsigned int most, uint32_t *slots)
{
	unsigned int n = 0;

	while (n < most && mem_registry_reserve(len_bytes, owner, &slots[n]) == 0)
		n++;
	return n;
}

/*
 * One that wants every slot gets a quarter; then there are guests with whole tables while there is
 * room for one. Told, removed or detached: each way a slot goes, the count follows.
 */
static void
test_no_owner_takes_all_slots(void **state)
{
	const unsigned int all = MEM_MAX_SLOTS - 1, whole = VHUB_MAX_MEM_SLOTS + 2;
	uint32_t *slots = calloc(MEM_MAX_SLOTS, sizeof(*slots)); /* one for a refused try */
	struct vhub_mem_owner *owners = calloc(64, sizeof(*owners));
	unsigned int n, total;

	(void)state;
	assert_non_null(slots);
	assert_non_null(owners);
	total = take_all(&owners[0], 4 * PAGE, all, slots);
	assert_int_equal(total, all / 4);
	assert_int_equal(owners[0].n_maps, total);
	assert_int_equal(take_all(&owners[0], 4 * PAGE, 1, slots + total), 0);
	for (unsigned int i = 1; i <= 48; i++) {
		n = take_all(&owners[i], 4 * PAGE, whole, slots + total);
		assert_int_equal(n, whole);
		total += n;
	}
	/* The last ones share what is left, and no owner is short because of his own. */
	n = take_all(&owners[49], 4 * PAGE, all, slots + total);
	assert_int_equal(n, all - total);
	total += n;
	/* The greedy one has more than its share by now, and gets nothing for what it gives back. */
	drop(slots[0]);
	assert_int_equal(take_all(&owners[0], 4 * PAGE, 1, slots), 0);
	assert_int_equal(take_all(&owners[50], 4 * PAGE, 1, slots), 1);
	assert_int_equal(take_all(&owners[51], 4 * PAGE, 1, slots + total), 0);

	for (unsigned int i = 0; i < 64; i += 2)
		vhub_mem_owner_detach(&owners[i]);
	for (unsigned int i = 0; i < total; i++)
		drop(slots[i]);
	for (unsigned int i = 0; i < 64; i++) {
		assert_int_equal(owners[i].n_maps, 0);
		assert_int_equal(owners[i].mapped_bytes, 0);
	}
	free(owners);
	free(slots);
	assert_int_equal(count_free_slots(), all);
}

/* The same for addresses: ours, others', those that are being unmapped, and those of owners that went. */
static void
test_no_owner_takes_all_addresses(void **state)
{
	const uint64_t quarter = MEM_SPACE_BYTES / 4;
	struct vhub_mem_owner owners[4] = { { .broken = NULL } };
	uint32_t slots[4], none;

	(void)state;
	assert_int_equal(mem_registry_reserve(UINT64_MAX, &owners[0], &none), -ENOMEM);
	assert_int_equal(mem_registry_reserve(quarter + 1, &owners[0], &none), -ENOMEM);
	assert_int_equal(mem_registry_reserve(quarter, &owners[0], &slots[0]), 0);
	assert_int_equal(mem_registry_reserve(1, &owners[0], &none), -ENOMEM);
	/* Another one has a quarter of what is left, whatever the first one tries. */
	assert_int_equal(mem_registry_reserve(quarter / 4 * 3 + 1, &owners[1], &none), -ENOMEM);
	assert_int_equal(mem_registry_reserve(quarter / 4 * 3, &owners[1], &slots[1]), 0);
	/* Removed but not unmapped yet: not the first one's any more, nor anybody else's. */
	mem_registry_remove(slots[0]);
	assert_int_equal(owners[0].mapped_bytes, 0);
	assert_int_equal(mem_registry_reserve(quarter, &owners[0], &none), -ENOMEM);
	mem_registry_give_back(quarter);
	assert_int_equal(mem_registry_reserve(quarter / 2, &owners[0], &slots[0]), 0);
	mem_registry_remove(slots[0]);
	mem_registry_give_back(quarter / 2);
	/* The owner goes, its mapping stays: the next one in its place begins anew with what is left. */
	vhub_mem_owner_detach(&owners[1]);
	assert_int_equal(owners[1].mapped_bytes, 0);
	assert_int_equal(mem_registry_reserve(quarter, &owners[1], &none), -ENOMEM);
	assert_int_equal(mem_registry_reserve(quarter / 2, &owners[1], &slots[2]), 0);
	mem_registry_remove(slots[1]);
	mem_registry_give_back(quarter / 4 * 3);
	assert_int_equal(owners[1].mapped_bytes, quarter / 2);
	mem_registry_remove(slots[2]);
	mem_registry_give_back(quarter / 2);
	assert_int_equal(owners[1].mapped_bytes, 0);
	/* Nothing was lost on the way. */
	assert_int_equal(mem_registry_reserve(quarter, &owners[3], &slots[3]), 0);
	mem_registry_remove(slots[3]);
	mem_registry_give_back(quarter);
}

/* Thousands of owners that go while handlers mark them: ASan sees an owner that is touched after that. */
struct marker {
	uint32_t stop;
	uint64_t n_marks;
};

static void *
marker_main(void *arg)
{
	struct marker *marker = arg;

	while (__atomic_load_n(&marker->stop, __ATOMIC_ACQUIRE) == 0) {
		struct mem_slot *slot = mem_registry_pin((uintptr_t)AT(0) + PAGE);

		if (slot == NULL)
			continue;
		mem_registry_mark_owner(slot);
		mem_registry_unpin(slot);
		marker->n_marks++;
	}
	return NULL;
}

static void
test_owners_go_while_handlers_run(void **state)
{
	struct marker marker = { 0, 0 };
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, marker_main, &marker), 0);
	for (int i = 0; i < 5000; i++) {
		struct vhub_mem_owner *owner = calloc(1, sizeof(*owner));
		uint32_t slot;

		assert_non_null(owner);
		slot = add(0, owner);
		if (i % 100 == 0)
			sched_yield();
		vhub_mem_owner_detach(owner);
		owner->faulted = 0;
		if (i % 100 == 0)
			sched_yield();
		assert_int_equal(owner->faulted, 0);
		free(owner);
		drop(slot);
	}
	__atomic_store_n(&marker.stop, 1, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	assert_true(marker.n_marks > 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_finds_the_mapping_around_an_address),
		cmocka_unit_test(test_removal_waits_for_the_handler),
		cmocka_unit_test(test_faults_are_told_once),
		cmocka_unit_test(test_slots_come_back),
		cmocka_unit_test(test_no_owner_takes_all_slots),
		cmocka_unit_test(test_no_owner_takes_all_addresses),
		cmocka_unit_test(test_owners_go_while_handlers_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
