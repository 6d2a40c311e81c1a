/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The session of vhub-cheapest (cheapest.h): usage, one front end, its messages, the thread that polls.
 * Next: disk.c, port.c.
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
#define OFFERED (F(VHUB_F_PROTOCOL_FEATURES) | F_VERSION_1 | F_PACKED)
#define PROTOCOL (VHUB_USER_PF(REPLY_ACK) | VHUB_USER_PF(CONFIG))

struct message {
	struct vhub_user_header header;
	union vhub_user_payload payload;
	int fd; /* -1: none */
};

static struct cheapest cheapest;
static uint64_t memory_uva, memory_bytes;
static bool net;

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
	cheapest.memory_gpa = region->guest_addr_gpa;
	cheapest.memory = mmap(NULL, memory_bytes, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_POPULATE, m->fd, (off_t)region->mmap_offset_bytes);
	if (cheapest.memory == MAP_FAILED)
		fail("mmap");
	close(m->fd);
}

static void
take_address(const struct vhub_user_vring_addr *addr)
{
	struct cheapest_ring *r = &cheapest.rings[addr->index];

	r->desc = cheapest.memory + (addr->desc_uva - memory_uva);
	r->avail = cheapest.memory + (addr->avail_uva - memory_uva);
	r->used = cheapest.memory + (addr->used_uva - memory_uva);
}

static void
take_features(uint64_t features)
{
	for (unsigned int i = 0; i < CHEAPEST_RINGS; i++)
		cheapest.rings[i].packed = (features & F_PACKED) != 0;
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
		if (!net)
			((struct virtio_blk_config *)(void *)p->config.data)->capacity = 1 << 21;
		return m->header.size;
	case VHUB_USER_SET_FEATURES:
		take_features(p->u64);
		break;
	case VHUB_USER_SET_MEM_TABLE:
		map_memory(m);
		break;
	case VHUB_USER_SET_VRING_NUM:
		cheapest.rings[p->state.index].size = (uint16_t)p->state.num;
		cheapest.rings[p->state.index].wrap = 1;
		break;
	case VHUB_USER_SET_VRING_ADDR:
		take_address(&p->addr);
		break;
	case VHUB_USER_SET_VRING_ENABLE:
		__atomic_store_n(&cheapest.rings[p->state.index].running, true, __ATOMIC_RELEASE);
		break;
	case VHUB_USER_GET_VRING_BASE:
		p->state.num = cheapest.rings[p->state.index].last;
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

/* Pairs with the session's stores. */
static bool
all_running(void)
{
	for (unsigned int i = 0; i < (net ? CHEAPEST_RINGS : 1); i++)
		if (!__atomic_load_n(&cheapest.rings[i].running, __ATOMIC_ACQUIRE))
			return false;
	return true;
}

static void *
poll_rings(void *arg)
{
	struct cheapest *c = arg;

	while (!__atomic_load_n(&c->stopped, __ATOMIC_ACQUIRE)) {
		unsigned int n;

		if (!all_running())
			continue;
		n = net ? cheapest_port(c) : cheapest_disk(c);
		c->turns++;
		c->busy_turns += n > 0;
		c->items += n;
	}
	return NULL;
}

int
main(int argc, char **argv)
{
	pthread_t thread;
	cpu_set_t cpus;
	int sock;

	if (argc != 4 || (strcmp(argv[1], "blk") != 0 && strcmp(argv[1], "net") != 0)) {
		fprintf(stderr,
				"usage: vhub-cheapest blk|net SOCKET CPU\n"
				"Serves one front end, polling on that CPU, and ends with it.\n");
		return 2;
	}
	net = strcmp(argv[1], "net") == 0;
	CPU_ZERO(&cpus);
	CPU_SET((size_t)atoi(argv[3]), &cpus);
	sock = accept_at(argv[2]);
	if (pthread_create(&thread, NULL, poll_rings, &cheapest) != 0 ||
			pthread_setaffinity_np(thread, sizeof(cpus), &cpus) != 0)
		fail("thread");
	serve_session(sock);
	__atomic_store_n(&cheapest.stopped, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	printf("%llu %s, busy in %.1f %% of its turns\n", (unsigned long long)cheapest.items,
			net ? "frames" : "requests",
			cheapest.turns > 0 ? 100.0 * (double)cheapest.busy_turns /
							(double)cheapest.turns :
					     0);
	return 0;
}
