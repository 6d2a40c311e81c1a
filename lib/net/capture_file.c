/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The file of a capture, in the pcapng format (draft-ietf-opsawg-pcapng), and the thread that writes it.
 * Called by capture.c on WORK, to begin and to end; frames come from its ring. The last on the way.
 *
 * (librte_pcapng writes of ethdev ports alone: a packet of it names one, and vhub's are none.)
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <bsd/string.h>

#include <rte_cycles.h>

#include "capture.h"
#include "services.h"
#include "vhub_log.h"
#include "vhub_thread.h"

VHUB_LOGTYPE(net)

#define BURST 64u
/* Between two looks into a ring that was empty. */
#define IDLE_NS 2000000

/* The clock and the TSC are read so often, and once the thread has not lost its CPU in between. */
#define CLOCK_LOOKS 3u

/* Blocks and options, as in the format. */
#define SECTION_BLOCK 0x0a0d0d0au
#define INTERFACE_BLOCK 1u
#define PACKET_BLOCK 6u
#define BYTE_ORDER_MAGIC 0x1a2b3c4du
#define LINK_ETHERNET 1u
#define OPTION_END 0u
#define OPTION_INTERFACE_NAME 2u
#define OPTION_RESOLUTION 9u
#define OPTION_PACKET_FLAGS 2u
#define OPTION_PACKET_QUEUE 6u
#define NANOSECONDS 9u
#define FLAG_INBOUND 1u
#define FLAG_OUTBOUND 2u

/* Length of a packet's block without its frame. */
#define PACKET_BYTES (4u * 7u + 8u + 8u + 4u + 4u)

/* ---- bytes ---- */

static void
end(struct net_capture *c, int error)
{
	if (error != 0)
		VHUB_LOG(WARNING, "%s: the capture has ended: its file cannot be written: %s",
				c->name, strerror(error));
	else
		VHUB_LOG(NOTICE,
				"%s: the capture has ended: its file is as long as max_bytes allows",
				c->name);
	c->error = error;
	__atomic_store_n(&c->ended, true, __ATOMIC_RELAXED);
}

static void
flush(struct net_capture *c)
{
	size_t at = 0;
	ssize_t n;

	while (at < c->fill && c->error == 0) {
		n = write(c->fd, &c->buffer[at], c->fill - at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			end(c, n < 0 ? errno : EIO);
		else
			at += (size_t)n;
	}
	c->fill = 0;
}

static void
put(struct net_capture *c, const void *data, size_t n)
{
	const uint8_t *from = data;

	while (n != 0) {
		const size_t here = RTE_MIN(n, sizeof(c->buffer) - c->fill);

		memcpy(&c->buffer[c->fill], from, here);
		c->fill += here;
		c->bytes += here;
		from += here;
		n -= here;
		if (c->fill == sizeof(c->buffer))
			flush(c);
	}
}

static void
put_32(struct net_capture *c, uint32_t value)
{
	put(c, &value, sizeof(value));
}

/* Fields are filled up to four bytes. */
static void
put_padding(struct net_capture *c, size_t n)
{
	static const uint8_t zeroes[4];

	put(c, zeroes, RTE_ALIGN_CEIL(n, 4) - n);
}

static void
put_option(struct net_capture *c, uint16_t code, const void *data, uint16_t n)
{
	const uint16_t head[2] = { code, n };

	put(c, head, sizeof(head));
	put(c, data, n);
	put_padding(c, n);
}

/* ---- time ---- */

static struct capture_moment
look_at_clock(void)
{
	struct capture_moment moment = { 0 };
	uint64_t before, took, least = UINT64_MAX;
	struct timespec now;

	for (unsigned int i = 0; i < CLOCK_LOOKS; i++) {
		before = rte_rdtsc();
		clock_gettime(CLOCK_REALTIME, &now);
		took = rte_rdtsc() - before;
		if (took >= least)
			continue;
		least = took;
		moment.tsc = before + took / 2;
		moment.ns = (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
	}
	return moment;
}

static uint64_t
ns_in(const struct capture_moment *rate, uint64_t cycles)
{
	return (uint64_t)((unsigned __int128)cycles * rate->ns / rate->tsc);
}

static void
begin_time(struct net_capture *c)
{
	/* For a millisecond: rte_get_tsc_hz() is rounded, by a thousandth or two. */
	c->rate = (struct capture_moment){ .tsc = rte_get_tsc_hz() / 1000, .ns = NS_PER_S / 1000 };
	c->begin = c->now = look_at_clock();
}

/*
 * The frames at hand have come before. Their time is told by the clock of now, and how fast it went since they came:
 * so it stays right when it is slewed or set. The rate is that of the last whole second, of the first one as far as
 * it goes.
 */
static void
follow_clock(struct net_capture *c)
{
	const struct capture_moment now = look_at_clock();
	const struct capture_moment went = { now.tsc - c->begin.tsc, now.ns - c->begin.ns };
	const uint64_t ns = ns_in(&c->rate, went.tsc), off = ns / 100;
	const bool is_second = went.ns >= NS_PER_S;

	/* Else the clock was set, or the host was suspended, which may take the TSC back. */
	if (went.ns - ns + off <= 2 * off && (is_second || went.ns > c->rate.ns))
		c->rate = went;
	if (is_second)
		c->begin = now;
	c->now = now;
}

/* Of frames that come one after the other. A clock that is set back by less than a second stands still for so long. */
static uint64_t
ns_of(struct net_capture *c, uint64_t tsc)
{
	uint64_t ns = c->now.ns - ns_in(&c->rate, c->now.tsc > tsc ? c->now.tsc - tsc : 0);

	if (tsc >= c->last.tsc && ns < c->last.ns && c->last.ns - ns < NS_PER_S)
		ns = c->last.ns;
	c->last = (struct capture_moment){ tsc, ns };
	return ns;
}

/* ---- blocks ---- */

static void
put_section(struct net_capture *c)
{
	static const uint16_t version[2] = { 1, 0 };
	const uint64_t unknown = UINT64_MAX; /* how long it will be */

	put_32(c, SECTION_BLOCK);
	put_32(c, 28);
	put_32(c, BYTE_ORDER_MAGIC);
	put(c, version, sizeof(version));
	put(c, &unknown, sizeof(unknown));
	put_32(c, 28);
}

static void
put_interface(struct net_capture *c, const char *name)
{
	const uint16_t name_bytes = (uint16_t)strlen(name);
	const uint32_t bytes = 20 + 4 + RTE_ALIGN_CEIL(name_bytes, 4u) + 8 + 4;
	static const uint16_t link[2] = { LINK_ETHERNET, 0 };
	const uint8_t resolution = NANOSECONDS;

	put_32(c, INTERFACE_BLOCK);
	put_32(c, bytes);
	put(c, link, sizeof(link));
	put_32(c, c->snaplen_bytes);
	put_option(c, OPTION_INTERFACE_NAME, name, name_bytes);
	put_option(c, OPTION_RESOLUTION, &resolution, sizeof(resolution));
	put_option(c, OPTION_END, NULL, 0);
	put_32(c, bytes);
}

static void
put_packet(struct net_capture *c, const struct rte_mbuf *m)
{
	const struct capture_mark *mark = m->buf_addr;
	const uint64_t ns = ns_of(c, mark->tsc);
	const uint32_t bytes = PACKET_BYTES + RTE_ALIGN_CEIL(m->pkt_len, 4u);
	const uint32_t flags = mark->direction == NET_FROM_GUEST ? FLAG_INBOUND : FLAG_OUTBOUND;
	const uint32_t pair = mark->pair, length = m->pkt_len;

	if (c->max_bytes != 0 && c->bytes + bytes > c->max_bytes) {
		end(c, 0);
		return;
	}
	put_32(c, PACKET_BLOCK);
	put_32(c, bytes);
	put_32(c, 0); /* the interface */
	put_32(c, (uint32_t)(ns >> 32));
	put_32(c, (uint32_t)ns);
	put_32(c, length);
	put_32(c, mark->bytes);
	for (; m != NULL; m = m->next)
		put(c, rte_pktmbuf_mtod(m, const void *), m->data_len);
	put_padding(c, length);
	put_option(c, OPTION_PACKET_FLAGS, &flags, sizeof(flags));
	put_option(c, OPTION_PACKET_QUEUE, &pair, sizeof(pair));
	put_option(c, OPTION_END, NULL, 0);
	put_32(c, bytes);
	c->packets++;
}

/* ---- the thread ---- */

static unsigned int
write_burst(struct net_capture *c)
{
	struct rte_mbuf *pkts[BURST];
	const unsigned int n = rte_ring_sc_dequeue_burst(c->ring, (void **)pkts, BURST, NULL);
	unsigned int i;

	if (n != 0)
		follow_clock(c);
	for (i = 0; i < n; i++) {
		if (!c->ended)
			put_packet(c, pkts[i]);
	}
	if (n != 0)
		capture_give_back(c, pkts, n);
	return n;
}

static void *
write_all(void *arg)
{
	static const struct timespec idle = { .tv_nsec = IDLE_NS };
	struct net_capture *c = arg;
	bool stopped;

	do {
		/* Pairs with the release in capture_file_close(): all that came is in the ring. */
		stopped = __atomic_load_n(&c->stopped, __ATOMIC_ACQUIRE);
		while (write_burst(c) != 0)
			;
		/* Who reads along sees whole blocks soon. */
		flush(c);
		if (!stopped)
			nanosleep(&idle, NULL);
	} while (!stopped);
	return NULL;
}

int
capture_file_open(struct net_capture *c, const char *name, const char *path, char *error,
		size_t error_len)
{
	int ret;

	/* Never over somebody's file, nor by way of a link; frames are not for everybody. */
	c->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (c->fd < 0) {
		ret = -errno;
		snprintf(error, error_len, "path=%.256s: %s", path, strerror(errno));
		return ret == -ENOMEM ? ret : -EINVAL;
	}
	strlcpy(c->name, name, sizeof(c->name));
	begin_time(c);
	put_section(c);
	put_interface(c, name);
	ret = vhub_thread_start(&c->thread, "vhub-capture", write_all, c);
	if (ret == 0)
		return 0;
	snprintf(error, error_len, "no thread for the file: %s", strerror(-ret));
	close(c->fd);
	unlink(path);
	return ret;
}

void
capture_file_close(struct net_capture *c)
{
	/* Pairs with the acquire in write_all(). */
	__atomic_store_n(&c->stopped, true, __ATOMIC_RELEASE);
	pthread_join(c->thread, NULL);
	if (close(c->fd) != 0 && c->error == 0)
		c->error = errno;
}
