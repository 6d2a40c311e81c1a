/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the tests of the guard share: a loop, and a session as far as memory is concerned.
 */
#ifndef GUARD_FIXTURE_H
#define GUARD_FIXTURE_H

#include "mem_fixture.h"

#include "../eal_fixture.h"

static struct vhub_loop *loop;

struct session {
	struct vhub_mem_owner owner;
	struct vhub_mem_map *map;
	uint8_t *hva;
	int fd;
	unsigned int n_broken;
};

/* Ends the loop's run, so that a test waits for being told by running the loop. */
static inline void
session_broken(struct vhub_mem_owner *owner)
{
	struct session *session = vhub_container_of(owner, struct session, owner);

	session->n_broken++;
	vhub_loop_stop(loop, 0);
}

static inline void
session_open(struct session *session, uint64_t size_bytes)
{
	memset(session, 0, sizeof(*session));
	session->owner.broken = session_broken;
	session->fd = test_memfd(size_bytes, 0);
	assert_int_equal(vhub_mem_map_create(session->fd, 0, size_bytes, &session->owner,
					 &session->map, (void **)&session->hva),
			0);
}

static inline void
session_close(struct session *session)
{
	vhub_mem_owner_detach(&session->owner);
	vhub_mem_map_put(session->map);
	close(session->fd);
}

static inline uint32_t
session_faulted(struct session *session)
{
	return __atomic_load_n(&session->owner.faulted, __ATOMIC_ACQUIRE);
}

/* Kept by the compiler, though nobody looks at what it read. */
static inline uint8_t
touch(const uint8_t *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static inline void
poke(uint8_t *p, uint8_t value)
{
	__atomic_store_n(p, value, __ATOMIC_RELAXED);
}

static inline void
stop_loop(struct vhub_timer *timer)
{
	(void)timer;
	vhub_loop_stop(loop, 1);
}

/* Runs the loop until a callback stops it: 0; or until nothing came for `ms`: 1. */
static inline int
run_loop(unsigned int ms)
{
	struct vhub_timer timer = { .fn = stop_loop };
	int ret;

	vhub_timer_arm(loop, &timer, ms * UINT64_C(1000));
	ret = vhub_loop_run(loop);
	vhub_timer_cancel(loop, &timer);
	return ret;
}

/*
 * cmocka puts a SIGBUS handler of its own in place before each test and the old one back after it, so the guard is
 * started inside each test, above cmocka's.
 */
static inline void
guard_start(void)
{
	vhub_mem_guard_stop();
	assert_int_equal(vhub_mem_guard_start(loop), 0);
}

static inline int
group_setup(void **state)
{
	(void)state;
	return test_eal_init() != 0 ? -1 : vhub_loop_create(&loop);
}

static inline int
group_teardown(void **state)
{
	(void)state;
	vhub_mem_guard_stop();
	vhub_loop_destroy(loop);
	return 0;
}

#endif /* GUARD_FIXTURE_H */
