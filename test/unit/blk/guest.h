/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The smallest guest: memory, split rings laid out by hand, and virtio-blk requests in them; the
 * vrings of a device around its rings, without lib/device; the disk and the lcores. For tests of a
 * whole blk device.
 */
#ifndef GUEST_H
#define GUEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/virtio_blk.h>
#include <rte_kvargs.h>

#include "../eal_fixture.h"
#include "vhub_alloc.h"
#include "vhub_device.h"
#include "vhub_lcore.h"
#include "vhub_loop.h"
#include "vhub_mem.h"
#include "vhub_virtq.h"

#define GUEST_BYTES (8u << 20)
#define GUEST_RING_SIZE 64u
#define GUEST_RINGS 16u

/* VIRTIO 1.2, 2.7. */
struct guest_desc {
	uint64_t gpa;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};
#define GUEST_NEXT 1
#define GUEST_WRITE 2
struct guest_avail {
	uint16_t flags;
	uint16_t idx;
	uint16_t ring[GUEST_RING_SIZE];
};
struct guest_used {
	uint16_t flags;
	uint16_t idx;
	struct {
		uint32_t id;
		uint32_t len;
	} ring[GUEST_RING_SIZE];
};

struct guest_ring {
	struct guest_desc *desc;
	struct guest_avail *avail;
	struct guest_used *used;
	uint16_t next_desc; /* in turn: a test never has more than a ring of them under way */
	uint16_t seen;	    /* used index up to which guest_done() has looked */
	int call_fd;
	struct vhub_vring vring;
};

struct guest {
	uint8_t *mem; /* guest address 0 */
	uint64_t next_gpa;
	struct vhub_mem_table *table;
	struct guest_ring rings[GUEST_RINGS];
};

static inline void
guest_create(struct guest *g)
{
	int fd = memfd_create("vhub-blk-test", MFD_CLOEXEC);
	struct vhub_user_mem_region region = { .size_bytes = GUEST_BYTES,
		.user_addr_uva = 1 << 30 };

	memset(g, 0, sizeof(*g));
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, GUEST_BYTES), 0);
	g->mem = mmap(NULL, GUEST_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(g->mem != MAP_FAILED);
	assert_int_equal(vhub_mem_table_build(NULL, &region, &fd, 1, NULL, &g->table), 0);
	close(fd);
}

static inline void
guest_destroy(struct guest *g)
{
	vhub_mem_table_put(g->table);
	munmap(g->mem, GUEST_BYTES);
}

static inline uint64_t
guest_alloc(struct guest *g, uint32_t len)
{
	uint64_t gpa = (g->next_gpa + 63) & ~UINT64_C(63);

	assert_true(gpa + len <= GUEST_BYTES);
	g->next_gpa = gpa + len;
	return gpa;
}

/* What CTL does when a ring starts; guest_start() is the lcore's part. */
static inline void
guest_prepare(struct guest *g, struct vhub_device *dev, unsigned int index, uint64_t features,
		struct vhub_lcore *lcore)
{
	struct guest_ring *r = &g->rings[index];
	uint8_t *hva = g->table->regions[0].hva;
	uint64_t desc = guest_alloc(g, GUEST_RING_SIZE * sizeof(*r->desc));
	uint64_t avail = guest_alloc(g, sizeof(*r->avail));
	uint64_t used = guest_alloc(g, sizeof(*r->used));
	struct vhub_virtq_config config = {
		.size = GUEST_RING_SIZE,
		.features = features,
		.desc = hva + desc,
		.avail = hva + avail,
		.used = hva + used,
		.mem = g->table,
		.call_fd = -1,
		.chain_bytes = dev->chain_bytes,
		.numa_node = -1,
	};

	memset(r, 0, sizeof(*r));
	r->desc = (struct guest_desc *)(g->mem + desc);
	r->avail = (struct guest_avail *)(g->mem + avail);
	r->used = (struct guest_used *)(g->mem + used);
	r->vring.dev = dev;
	r->vring.lcore = lcore;
	r->vring.features = features;
	r->vring.index = (uint16_t)index;
	r->vring.taking = true;
	r->vring.enabled = true;
	assert_int_equal(vhub_virtq_create(&config, &r->vring.vq), 0);
	r->vring.priv = vhub_zalloc_node(dev->ring_bytes, -1);
	assert_non_null(r->vring.priv);
	assert_int_equal(dev->ops->queue_prepare(dev, &r->vring), 0);
}

static inline void
guest_start(struct guest *g, struct vhub_device *dev, unsigned int index, uint64_t features)
{
	guest_prepare(g, dev, index, features, vhub_lcore_at(0));
	assert_int_equal(dev->ops->queue_start(&g->rings[index].vring), 0);
}

static inline void
guest_release(struct guest_ring *r)
{
	assert_null(r->vring.dev->ops->queue_release);
	vhub_free(r->vring.priv, r->vring.dev->ring_bytes);
	r->vring.priv = NULL;
	vhub_virtq_destroy(r->vring.vq);
	r->vring.vq = NULL;
}

static inline void
guest_stop(struct guest *g, unsigned int index)
{
	struct guest_ring *r = &g->rings[index];

	assert_int_equal(vhub_virtq_in_flight(r->vring.vq), 0);
	r->vring.dev->ops->queue_stop(&r->vring);
	guest_release(r);
}

static inline unsigned int
guest_poll(struct guest *g, unsigned int index)
{
	struct vhub_vring *vring = &g->rings[index].vring;

	return vring->dev->ops->queue_poll(vring);
}

/* A request in guest memory. */
struct guest_req {
	uint64_t header_gpa;
	uint64_t data_gpa;
	uint64_t status_gpa;
	uint32_t data_bytes;
	uint16_t head;
};

#define GUEST_PENDING 0xee

/* Puts a chain of those pieces into the ring. */
static inline uint16_t
guest_add(struct guest_ring *r, const struct guest_desc *pieces, unsigned int n)
{
	uint16_t head = r->next_desc;

	for (unsigned int i = 0; i < n; i++) {
		struct guest_desc *d = &r->desc[r->next_desc];

		*d = pieces[i];
		r->next_desc = (uint16_t)((r->next_desc + 1) % GUEST_RING_SIZE);
		d->next = r->next_desc;
		if (i + 1 < n)
			d->flags |= GUEST_NEXT;
	}
	r->avail->ring[r->avail->idx % GUEST_RING_SIZE] = head;
	__atomic_store_n(&r->avail->idx, (uint16_t)(r->avail->idx + 1), __ATOMIC_RELEASE);
	return head;
}

static inline bool
guest_sends(uint32_t type)
{
	return type == VIRTIO_BLK_T_OUT || type == VIRTIO_BLK_T_DISCARD ||
			type == VIRTIO_BLK_T_WRITE_ZEROES || type == VIRTIO_BLK_T_SECURE_ERASE;
}

/* A request of the usual shape: header, data, status. */
static inline struct guest_req
guest_submit(struct guest *g, unsigned int index, uint32_t type, uint64_t sector,
		uint32_t data_bytes)
{
	struct virtio_blk_outhdr header = { .type = type, .sector = sector };
	struct guest_req req = { .data_bytes = data_bytes };
	struct guest_desc pieces[3];
	unsigned int n = 0;

	req.header_gpa = guest_alloc(g, sizeof(header));
	memcpy(g->mem + req.header_gpa, &header, sizeof(header));
	pieces[n++] = (struct guest_desc){ req.header_gpa, sizeof(header), 0, 0 };
	if (data_bytes != 0) {
		req.data_gpa = guest_alloc(g, data_bytes);
		pieces[n++] = (struct guest_desc){ req.data_gpa, data_bytes,
			guest_sends(type) ? 0 : GUEST_WRITE, 0 };
	}
	req.status_gpa = guest_alloc(g, 1);
	g->mem[req.status_gpa] = GUEST_PENDING;
	pieces[n++] = (struct guest_desc){ req.status_gpa, 1, GUEST_WRITE, 0 };
	req.head = guest_add(&g->rings[index], pieces, n);
	return req;
}

static inline uint8_t
guest_status(const struct guest *g, const struct guest_req *req)
{
	return g->mem[req->status_gpa];
}

/* How many requests came back since the last call; *len is the length of the last of them. */
static inline unsigned int
guest_done(struct guest_ring *r, uint32_t *len, uint16_t *head)
{
	uint16_t idx = __atomic_load_n(&r->used->idx, __ATOMIC_ACQUIRE);
	unsigned int n = (uint16_t)(idx - r->seen);

	if (n != 0 && len != NULL)
		*len = r->used->ring[(uint16_t)(idx - 1) % GUEST_RING_SIZE].len;
	if (n != 0 && head != NULL)
		*head = (uint16_t)r->used->ring[(uint16_t)(idx - 1) % GUEST_RING_SIZE].id;
	r->seen = idx;
	return n;
}

/* Polls ring 0 until `n` requests came back. */
static inline void
guest_poll_until_done(struct guest *g, unsigned int n)
{
	unsigned int done = 0;

	for (unsigned int i = 0; i < 10000 && done < n; i++) {
		guest_poll(g, 0);
		done += guest_done(&g->rings[0], NULL, NULL);
	}
	assert_int_equal(done, n);
}

/* ---- the device, and the lcores under it ---- */

/* The blk device that these arguments describe, on both workers. */
static inline struct vhub_device *
guest_build_disk(const char *args)
{
	const struct vhub_builder_ops *ops = vhub_builder_find("blk");
	const struct vhub_executor executor = { .n_lcores = 2,
		.lcores = { vhub_lcore_at(0), vhub_lcore_at(1) } };
	struct rte_kvargs *kvlist = rte_kvargs_parse(args, NULL);
	struct vhub_device *built = NULL;
	struct vhub_builder *builder;
	char error[256];

	assert_int_equal(ops->parse("disk0", kvlist, &builder, error, sizeof(error)), 0);
	rte_kvargs_free(kvlist);
	assert_int_equal(builder->ops->open(builder, error, sizeof(error)), 0);
	assert_int_equal(builder->ops->build(builder, &executor, &built, error, sizeof(error)), 0);
	builder->ops->destroy(builder);
	return built;
}

/* Starts EAL and the lcores. Returns NULL when that fails. */
static inline struct vhub_loop *
guest_lcores_start(void)
{
	struct vhub_loop *loop;

	if (test_eal_init() != 0 || vhub_loop_create(&loop) != 0 ||
			vhub_lcores_start(loop, VHUB_IDLE_ADAPTIVE, 0) != 0)
		return NULL;
	return loop;
}

static inline void
guest_lcores_stop(struct vhub_loop *loop)
{
	vhub_lcores_stop();
	vhub_loop_destroy(loop);
}

#endif /* GUEST_H */
