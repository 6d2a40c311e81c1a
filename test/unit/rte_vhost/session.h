/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A front end of two rings, one each way, whose record librte_vhost is to follow: for the tests of paths in this
 * folder. Each ring offers one buffer.
 */
#ifndef TEST_RVHOST_SESSION_H
#define TEST_RVHOST_SESSION_H

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include <rte_mbuf.h>

#include "rvhost.h"

#define N_RINGS 2u
#define RING_SIZE 8u
#define MEMORY_BYTES (2u << 20)
#define UVA UINT64_C(0x700000000000)
#define RING_AT(i) (0x1000u + 0x3000u * (i)) /* its three parts, a page each */
#define BUFFER_AT 0x10000u
#define BUFFER_BYTES 2048u

struct session {
	struct vhub_device port;
	struct vhub_mem_owner owner;
	struct session_record rec;
	struct rvhost_path *path;
	uint8_t *memory; /* the guest's view */
};

/* The ring offers `bytes` from the place of its buffer on, to be written where it is the ring to the guest. */
static inline void
session_offer(struct session *s, unsigned int ring, uint32_t bytes)
{
	const struct {
		uint64_t gpa;
		uint32_t len;
		uint16_t flags, next;
	} buffer = { BUFFER_AT + ring * BUFFER_BYTES, bytes, ring == 0 ? 2 : 0, 0 };
	const uint16_t avail[3] = { 0, 1, 0 };

	memcpy(s->memory + RING_AT(ring), &buffer, sizeof(buffer));
	memcpy(s->memory + RING_AT(ring) + 0x1000, avail, sizeof(avail));
	memset(s->memory + RING_AT(ring) + 0x2000, 0, 0x1000);
}

static inline void
session_describe_ring(struct session *s, unsigned int ring)
{
	struct vring_record *rec = &s->rec.vrings[ring];

	session_offer(s, ring, BUFFER_BYTES);
	rec->addr = (struct vhub_user_vring_addr){
		.index = ring,
		.desc_uva = UVA + RING_AT(ring),
		.avail_uva = UVA + RING_AT(ring) + 0x1000,
		.used_uva = UVA + RING_AT(ring) + 0x2000,
	};
	rec->size = RING_SIZE;
	rec->base = 0;
	rec->has_addr = true;
	rec->started = true;
}

/* Memory and rings, in the record. */
static inline void
session_describe(struct session *s)
{
	*s = (struct session){ .port = { .name = "port" } };
	session_record_init(&s->rec);
	s->rec.features = UINT64_C(1) << 32;
	s->rec.n_regions = 1;
	s->rec.regions[0].desc = (struct vhub_user_mem_region){ .size_bytes = MEMORY_BYTES,
		.user_addr_uva = UVA };
	s->rec.regions[0].fd = memfd_create("guest", MFD_CLOEXEC);
	assert_int_equal(fallocate(s->rec.regions[0].fd, 0, 0, MEMORY_BYTES), 0);
	s->memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
			s->rec.regions[0].fd, 0);
	assert_true(s->memory != MAP_FAILED);
	for (unsigned int i = 0; i < N_RINGS; i++)
		session_describe_ring(s, i);
}

/* Described, and with a path that takes mbufs of `pool` and takes over `dma`. */
static inline void
session_begin(struct session *s, bool trusted, struct rte_mempool *pool, struct rvhost_dma *dma)
{
	session_describe(s);
	assert_int_equal(rvhost_create(&s->port, N_RINGS, false, trusted, pool, dma, &s->path), 0);
}

static inline int
session_sync(struct session *s, bool anew)
{
	uint32_t bases[VHUB_MAX_VRINGS];

	return rvhost_sync(s->path, &s->rec, anew, &s->owner, bases);
}

static inline void
session_stop_rings(struct session *s)
{
	for (unsigned int i = 0; i < N_RINGS; i++)
		s->rec.vrings[i].started = false;
	assert_int_equal(session_sync(s, false), 0);
	assert_int_equal(s->path->fd, -1);
}

/* Its rings stop, if they have not. */
static inline void
session_end(struct session *s)
{
	session_stop_rings(s);
	rvhost_destroy(s->path);
	munmap(s->memory, MEMORY_BYTES);
	session_record_clear(&s->rec, NULL);
}

/* The one of a test program, of whose tests each begins it. */
static struct session session;

static inline int
end_session(void **state)
{
	(void)state;
	session_end(&session);
	return 0;
}

#define SESSION_TEST(name) cmocka_unit_test_setup_teardown(name, begin_session, end_session)

/* For a group's setup: 0 or -1. */
static inline int
packets_pool(unsigned int n_mbufs, struct rte_mempool **pool)
{
	*pool = rte_pktmbuf_pool_create("pool", n_mbufs, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
			SOCKET_ID_ANY);
	return *pool != NULL ? 0 : -1;
}

#endif /* TEST_RVHOST_SESSION_H */
