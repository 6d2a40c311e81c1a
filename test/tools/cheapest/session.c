/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The session of vhub-cheapest (cheapest.h): usage, one front end, its messages. Next: rings.c.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <bsd/string.h>

#include <linux/virtio_blk.h>

#include "cheapest.h"
#include "vhub_user.h"

#define F(bit) (UINT64_C(1) << (bit))
#define F_VERSION_1 F(32)
#define F_PACKED F(34)
#define OFFERED (F(VHUB_USER_F_PROTOCOL_FEATURES) | F_VERSION_1 | F_PACKED)
#define PROTOCOL (VHUB_USER_PF(REPLY_ACK) | VHUB_USER_PF(CONFIG))

struct message {
	struct vhub_user_header header;
	union vhub_user_payload payload;
	int fd; /* -1: none */
};

static struct cheapest_ring ring;
static uint64_t memory_uva, memory_bytes;

static void
fail(const char *what)
{
	perror(what);
	exit(1);
}

static int
accept_at(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	const int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int fd;

	strlcpy(addr.sun_path, path, sizeof(addr.sun_path));
	unlink(path);
	if (listening < 0 || bind(listening, (struct sockaddr *)&addr, sizeof(addr)) != 0 ||
			listen(listening, 1) != 0)
		fail(path);
	fd = accept(listening, NULL, NULL);
	if (fd < 0)
		fail("accept");
	close(listening);
	unlink(path);
	return fd;
}

/* False when the front end has gone. */
static bool
receive(int sock, struct message *m)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { &m->header, sizeof(m->header) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	struct cmsghdr *cmsg;

	if (recvmsg(sock, &msg, MSG_WAITALL) != (ssize_t)sizeof(m->header))
		return false;
	cmsg = CMSG_FIRSTHDR(&msg);
	m->fd = -1;
	if (cmsg != NULL)
		memcpy(&m->fd, CMSG_DATA(cmsg), sizeof(int));
	return m->header.size <= sizeof(m->payload) &&
			(m->header.size == 0 ||
					recv(sock, &m->payload, m->header.size, MSG_WAITALL) ==
							(ssize_t)m->header.size);
}

static void
reply(int sock, struct message *m, uint32_t bytes)
{
	m->header.flags = VHUB_USER_VERSION | VHUB_USER_REPLY;
	m->header.size = bytes;
	if (send(sock, &m->header, sizeof(m->header), MSG_NOSIGNAL | MSG_MORE) < 0 ||
			send(sock, &m->payload, bytes, MSG_NOSIGNAL) < 0)
		fail("send");
}

static void
map_memory(struct message *m)
{
	const struct vhub_user_mem_region *region = &m->payload.mem.regions[0];

	memory_bytes = region->size_bytes;
	memory_uva = region->user_addr_uva;
	ring.memory_gpa = region->guest_addr_gpa;
	ring.memory = mmap(NULL, memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
			m->fd, (off_t)region->mmap_offset_bytes);
	if (ring.memory == MAP_FAILED)
		fail("mmap");
	close(m->fd);
}

static void
take_address(const struct vhub_user_vring_addr *addr)
{
	ring.desc = ring.memory + (addr->desc_uva - memory_uva);
	ring.avail = ring.memory + (addr->avail_uva - memory_uva);
	ring.used = ring.memory + (addr->used_uva - memory_uva);
}

/* Bytes of the reply that the request has of its own; 0: none. */
static uint32_t
serve(struct message *m)
{
	union vhub_user_payload *p = &m->payload;

	switch (m->header.request) {
	case VHUB_USER_GET_FEATURES:
		p->u64 = OFFERED;
		return sizeof(p->u64);
	case VHUB_USER_GET_PROTOCOL_FEATURES:
		p->u64 = PROTOCOL;
		return sizeof(p->u64);
	case VHUB_USER_GET_CONFIG:
		memset(p->config.data, 0, sizeof(p->config.data));
		((struct virtio_blk_config *)(void *)p->config.data)->capacity = 1 << 21;
		return m->header.size;
	case VHUB_USER_SET_FEATURES:
		ring.packed = (p->u64 & F_PACKED) != 0;
		break;
	case VHUB_USER_SET_MEM_TABLE:
		map_memory(m);
		break;
	case VHUB_USER_SET_VRING_NUM:
		ring.size = (uint16_t)p->state.num;
		ring.wrap = 1;
		break;
	case VHUB_USER_SET_VRING_ADDR:
		take_address(&p->addr);
		break;
	case VHUB_USER_SET_VRING_ENABLE:
		__atomic_store_n(&ring.running, true, __ATOMIC_RELEASE);
		break;
	case VHUB_USER_GET_VRING_BASE:
		p->state.num = ring.last;
		return sizeof(p->state);
	default:
		break;
	}
	return 0;
}

static void
serve_session(int sock)
{
	struct message m;

	while (receive(sock, &m)) {
		const bool ack = (m.header.flags & VHUB_USER_NEED_REPLY) != 0;
		const uint32_t bytes = serve(&m);

		if (bytes > 0) {
			reply(sock, &m, bytes);
		} else if (ack) {
			m.payload.u64 = 0;
			reply(sock, &m, sizeof(m.payload.u64));
		}
	}
}

int
main(int argc, char **argv)
{
	pthread_t thread;
	cpu_set_t cpus;
	int sock;

	if (argc != 3) {
		fprintf(stderr,
				"usage: vhub-cheapest SOCKET CPU\n"
				"Serves one front end, polling on that CPU, and ends with it.\n");
		return 2;
	}
	CPU_ZERO(&cpus);
	CPU_SET((size_t)atoi(argv[2]), &cpus);
	sock = accept_at(argv[1]);
	if (pthread_create(&thread, NULL, cheapest_serve, &ring) != 0 ||
			pthread_setaffinity_np(thread, sizeof(cpus), &cpus) != 0)
		fail("thread");
	serve_session(sock);
	__atomic_store_n(&ring.stopped, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	printf("%llu requests, busy in %.1f %% of its turns\n", (unsigned long long)ring.requests,
			ring.turns > 0 ? 100.0 * (double)ring.busy_turns / (double)ring.turns : 0);
	return 0;
}
