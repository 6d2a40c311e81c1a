/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A front end in a few lines of C for the tests of lib/device: sends requests over a blocking
 * socket and lays split rings into a memfd. The whole one, in Python, is
 * test/conformance/vhostuser.
 */
#ifndef FRONTEND_H
#define FRONTEND_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vhub_user.h"

#define FE_MEM_BYTES (1u << 20)
#define FE_GPA 0x100000u
#define FE_UVA 0x7000000000u
#define FE_RING_SIZE 8u
#define FE_RING_STRIDE 0x1000u

struct fe {
	int sock;
	int mem_fd;
	uint8_t *mem;
};

static inline void
fe_die(const char *what)
{
	perror(what);
	abort();
}

static inline void
fe_send(struct fe *fe, uint32_t request, const void *payload, uint32_t size, const int *fds,
		unsigned int n_fds)
{
	struct vhub_user_header header = { request, VHUB_USER_VERSION | VHUB_USER_NEED_REPLY,
		size };
	struct iovec iov[2] = { { &header, sizeof(header) }, { (void *)(uintptr_t)payload, size } };
	char control[CMSG_SPACE(8 * sizeof(int))] = { 0 };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = size > 0 ? 2 : 1 };

	if (n_fds > 0) {
		struct cmsghdr *cmsg;

		msg.msg_control = control;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, n_fds * sizeof(int));
	}
	if (sendmsg(fe->sock, &msg, MSG_NOSIGNAL) != (ssize_t)(sizeof(header) + size))
		fe_die("sendmsg");
}

/* Receives one reply into `payload`; returns its size. Fails the test when the session has ended.
 */
static inline uint32_t
fe_recv(struct fe *fe, void *payload, uint32_t max)
{
	struct vhub_user_header header;

	if (recv(fe->sock, &header, sizeof(header), MSG_WAITALL) != (ssize_t)sizeof(header))
		fe_die("recv header");
	if (header.size > max ||
			(header.size > 0 &&
					recv(fe->sock, payload, header.size, MSG_WAITALL) !=
							(ssize_t)header.size))
		fe_die("recv payload");
	return header.size;
}

/* A request that is only acknowledged: returns the ack's number. */
static inline uint64_t
fe_ack(struct fe *fe, uint32_t request, const void *payload, uint32_t size, const int *fds,
		unsigned int n_fds)
{
	uint64_t ack = 0;

	fe_send(fe, request, payload, size, fds, n_fds);
	fe_recv(fe, &ack, sizeof(ack));
	return ack;
}

static inline uint64_t
fe_get_u64(struct fe *fe, uint32_t request)
{
	uint64_t value = 0;

	fe_send(fe, request, NULL, 0, NULL, 0);
	fe_recv(fe, &value, sizeof(value));
	return value;
}

static inline uint64_t
fe_set_u64(struct fe *fe, uint32_t request, uint64_t value)
{
	return fe_ack(fe, request, &value, sizeof(value), NULL, 0);
}

static inline void
fe_init(struct fe *fe, int sock)
{
	fe->sock = sock;
	fe->mem_fd = memfd_create("fe", 0);
	if (fe->mem_fd < 0 || ftruncate(fe->mem_fd, FE_MEM_BYTES) != 0)
		fe_die("memfd");
	fe->mem = mmap(NULL, FE_MEM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fe->mem_fd, 0);
	if (fe->mem == MAP_FAILED)
		fe_die("mmap");
}

/* Hangs up. */
static inline void
fe_fini(struct fe *fe)
{
	munmap(fe->mem, FE_MEM_BYTES);
	close(fe->mem_fd);
	close(fe->sock);
}

static inline uint64_t
fe_set_mem_table(struct fe *fe, uint64_t size)
{
	struct vhub_user_mem_table table = {
		.n_regions = 1,
		.regions = { { FE_GPA, size, FE_UVA, 0 } },
	};

	return fe_ack(fe, VHUB_USER_SET_MEM_TABLE, &table, 8 + sizeof(table.regions[0]),
			&fe->mem_fd, 1);
}

/* Owner, REPLY_ACK and the rest of the protocol features, features, memory. */
static inline void
fe_negotiate(struct fe *fe)
{
	/* The first ack is for the request that negotiates acks. */
	fe_set_u64(fe, VHUB_USER_SET_PROTOCOL_FEATURES,
			fe_get_u64(fe, VHUB_USER_GET_PROTOCOL_FEATURES));
	fe_ack(fe, VHUB_USER_SET_OWNER, NULL, 0, NULL, 0);
	fe_set_u64(fe, VHUB_USER_SET_FEATURES, UINT64_C(1) << 32 | VHUB_F(PROTOCOL_FEATURES));
	fe_set_mem_table(fe, FE_MEM_BYTES);
}

/* Split ring `index` lies at index * FE_RING_STRIDE: table, available ring at 0x400, used ring at
 * 0x800, a buffer at 0xc00. */
static inline uint64_t
fe_setup_ring(struct fe *fe, uint32_t index)
{
	uint64_t at = FE_UVA + index * FE_RING_STRIDE;
	struct vhub_user_vring_state num = { index, FE_RING_SIZE };
	struct vhub_user_vring_addr addr = {
		.index = index,
		.desc_uva = at,
		.avail_uva = at + 0x400,
		.used_uva = at + 0x800,
	};
	struct vhub_user_vring_state enable = { index, 1 };

	return fe_ack(fe, VHUB_USER_SET_VRING_NUM, &num, sizeof(num), NULL, 0) +
			fe_ack(fe, VHUB_USER_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0) +
			fe_ack(fe, VHUB_USER_SET_VRING_ENABLE, &enable, sizeof(enable), NULL, 0);
}

/* Starts the ring without a kick fd: it is polled. */
static inline uint64_t
fe_start_ring(struct fe *fe, uint32_t index)
{
	return fe_setup_ring(fe, index) +
			fe_set_u64(fe, VHUB_USER_SET_VRING_KICK, index | VHUB_USER_VRING_NOFD);
}

static inline uint32_t
fe_get_base(struct fe *fe, uint32_t index)
{
	struct vhub_user_vring_state state = { index, 0 };

	fe_send(fe, VHUB_USER_GET_VRING_BASE, &state, sizeof(state), NULL, 0);
	fe_recv(fe, &state, sizeof(state));
	return state.num;
}

/* Offers one writable descriptor at guest address `gpa`. */
static inline void
fe_offer_at(struct fe *fe, uint32_t index, uint64_t gpa)
{
	uint8_t *ring = fe->mem + index * FE_RING_STRIDE;
	uint16_t *avail = (uint16_t *)(void *)(ring + 0x400);
	uint16_t idx = avail[1];
	uint16_t head = idx % FE_RING_SIZE;
	struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags;
		uint16_t next;
	} desc = { gpa, 64, 2, 0 };

	memcpy(ring + head * sizeof(desc), &desc, sizeof(desc));
	avail[2 + head] = head;
	__atomic_store_n(&avail[1], (uint16_t)(idx + 1), __ATOMIC_RELEASE);
}

static inline void
fe_offer(struct fe *fe, uint32_t index)
{
	fe_offer_at(fe, index, FE_GPA + index * FE_RING_STRIDE + 0xc00);
}

static inline uint16_t
fe_used(struct fe *fe, uint32_t index)
{
	uint16_t *used = (uint16_t *)(void *)(fe->mem + index * FE_RING_STRIDE + 0x800);

	return __atomic_load_n(&used[1], __ATOMIC_ACQUIRE);
}

/* Waits, up to five seconds, until `n` have been used. */
static inline bool
fe_wait_used(struct fe *fe, uint32_t index, uint16_t n)
{
	int i;

	for (i = 0; i < 30000 && fe_used(fe, index) != n; i++)
		usleep(1000);
	return fe_used(fe, index) == n;
}

#endif /* FRONTEND_H */
