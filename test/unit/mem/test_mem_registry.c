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

	assert_int_equal(mem_registry_add(AT(n), 4 * PAGE, owner, &slot), 0);
	return slot;
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
	mem_registry_remove(b);
	assert_null(mem_registry_pin(start));
	mem_registry_remove(a);
}

struct remover {
	uint32_t slot;
	uint32_t removed;
};

static void *
remover_main(void *arg)
{
	struct remover *remover = arg;

	mem_registry_remove(remover->slot);
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
	struct vhub_mem_owner owners[3] = { { NULL, 0 } };
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
	mem_registry_remove(slots[2]); /* keeps its place until CTL was told */

	assert_true(mem_registry_next_untold(&next, &owner));
	assert_ptr_equal(owner, &owners[0]);
	assert_true(mem_registry_next_untold(&next, &owner));
	assert_ptr_equal(owner, &owners[2]);
	assert_false(mem_registry_next_untold(&next, &owner));
	next = 0;
	assert_false(mem_registry_next_untold(&next, &owner));
	/* Told, not healed. */
	assert_false(mem_registry_is_intact(slots[0], &owners[0]));
	mem_registry_remove(slots[0]);
	mem_registry_remove(slots[1]);
}

/* Fills the registry and empties it, whatever way its slots went before: the number that fits stays the same. */
static unsigned int
count_free_slots(void)
{
	uint32_t *slots = calloc(MEM_MAX_SLOTS, sizeof(*slots));
	unsigned int n = 0;
	uint32_t none;

	assert_non_null(slots);
	while (mem_registry_add(AT(n), PAGE, NULL, &slots[n]) == 0)
		n++;
	assert_int_equal(mem_registry_add(AT(n), PAGE, NULL, &none), -ENOMEM);
	for (unsigned int i = 0; i < n; i++)
		mem_registry_remove(slots[i]);
	free(slots);
	return n;
}

static void
test_slots_come_back(void **state)
{
	const unsigned int n_free = count_free_slots();
	struct vhub_mem_owner owner = { NULL, 0 };
	struct vhub_mem_owner *told;
	uint32_t slot, next;

	(void)state;
	assert_int_equal(n_free, MEM_MAX_SLOTS - 1);
	/* Removed, then told. */
	slot = add(0, &owner);
	fault(0);
	mem_registry_remove(slot);
	next = 0;
	assert_true(mem_registry_next_untold(&next, &told));
	assert_int_equal(count_free_slots(), n_free);
	/* Told, then removed. */
	slot = add(0, &owner);
	fault(0);
	next = 0;
	assert_true(mem_registry_next_untold(&next, &told));
	mem_registry_remove(slot);
	assert_int_equal(count_free_slots(), n_free);
	/* Removed, then detached; nobody is told. */
	slot = add(0, &owner);
	fault(0);
	mem_registry_remove(slot);
	vhub_mem_owner_detach(&owner);
	next = 0;
	assert_false(mem_registry_next_untold(&next, &told));
	assert_int_equal(count_free_slots(), n_free);
	/* Detached, then faulted and removed; CTL is woken once more for nobody. */
	slot = add(0, &owner);
	vhub_mem_owner_detach(&owner);
	fault(0);
	mem_registry_remove(slot);
	next = 0;
	assert_false(mem_registry_next_untold(&next, &told));
	assert_int_equal(count_free_slots(), n_free);
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
		mem_registry_remove(slot);
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
		cmocka_unit_test(test_owners_go_while_handlers_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
