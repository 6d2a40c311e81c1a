/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Captures on the lcores of a port: copies of frames that a filter wants, cut to what is asked for, into
 * a bounded ring. Called by services.c; by vhubd's control methods, to begin and to end one. Next:
 * capture_file.c, on a thread of its own.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <rte_cycles.h>

#include "capture.h"
#include "net_pvt.h"
#include "services.h"
#include "vhub_alloc.h"

/* Of all captures: each has an mbuf of those that may wait, and each lcore may have gone one beyond. */
#define WRITTEN_FRAMES 1024u
_Static_assert(CAPTURES_MBUFS + VHUB_MAX_LCORES < WRITTEN_FRAMES, "there is room for all");

/* ---- frames ---- */

/* Frees what lies behind the first `bytes`, at least one. */
static void
cut(struct rte_mbuf *m, uint32_t bytes)
{
	struct rte_mbuf *last = m;
	uint16_t n = 1;
	uint32_t left = bytes;

	if (m->pkt_len <= bytes)
		return;
	for (; left > last->data_len; last = last->next, n++)
		left -= last->data_len;
	last->data_len = (uint16_t)left;
	rte_pktmbuf_free(last->next);
	last->next = NULL;
	m->nb_segs = n;
	m->pkt_len = bytes;
}

/* Mbufs that wait for the files of all captures, or are written and not free yet. Shared atomic. */
static uint32_t waiting_mbufs;
/* The latter. It is made with the first capture, under the lock, and stays, and has room for all of them. */
static struct rte_ring *written;
static pthread_mutex_t written_lock = PTHREAD_MUTEX_INITIALIZER;

/* A capture gets no more than it leaves to others. Lcores that come at once may go a frame each beyond it. */
static bool
is_within(const struct net_capture *capture, uint32_t more)
{
	const uint32_t own = __atomic_load_n(&capture->waiting_mbufs, __ATOMIC_RELAXED);
	const uint32_t all = __atomic_load_n(&waiting_mbufs, __ATOMIC_RELAXED);

	return own + all + more <= CAPTURES_MBUFS;
}

static void
add_waiting(struct net_capture *capture, uint32_t n)
{
	__atomic_add_fetch(&capture->waiting_mbufs, n, __ATOMIC_RELAXED);
	__atomic_add_fetch(&waiting_mbufs, n, __ATOMIC_RELAXED);
}

static uint32_t
count_mbufs(struct rte_mbuf *const *pkts, unsigned int n)
{
	uint32_t total = 0;
	unsigned int i;

	for (i = 0; i < n; i++)
		total += pkts[i]->nb_segs;
	return total;
}

void
capture_give_back(struct net_capture *capture, struct rte_mbuf **pkts, unsigned int n)
{
	__atomic_sub_fetch(&capture->waiting_mbufs, count_mbufs(pkts, n), __ATOMIC_RELAXED);
	rte_ring_enqueue_bulk(written, (void **)pkts, n, NULL);
}

static void
free_written(void)
{
	struct rte_mbuf *pkts[VHUB_NET_BURST];
	unsigned int n;

	do {
		n = rte_ring_dequeue_burst(written, (void **)pkts, RTE_DIM(pkts), NULL);
		if (n == 0)
			break;
		__atomic_sub_fetch(&waiting_mbufs, count_mbufs(pkts, n), __ATOMIC_RELAXED);
		rte_pktmbuf_free_bulk(pkts, n);
	} while (n == RTE_DIM(pkts));
}

/* Returns whether it waits for the file now. */
static bool
put(struct net_capture *capture, struct rte_mbuf *m)
{
	const uint32_t n = m->nb_segs;

	if (!is_within(capture, n))
		return false;
	add_waiting(capture, n);
	if (rte_ring_mp_enqueue(capture->ring, m) == 0)
		return true;
	__atomic_sub_fetch(&capture->waiting_mbufs, n, __ATOMIC_RELAXED);
	__atomic_sub_fetch(&waiting_mbufs, n, __ATOMIC_RELAXED);
	return false;
}

static bool
is_wanted(const struct net_capture *capture, const struct rte_mbuf *m)
{
	return capture->filter == NULL ||
			capture_filter_admits(capture->filter, rte_pktmbuf_mtod(m, uint8_t *),
					m->pkt_len, m->data_len);
}

/* Whether there is for a frame of so many bytes, as far as can be told without copying it. */
static bool
has_room(const struct net_capture *capture, uint32_t bytes)
{
	/* An mbuf of the pool has so many behind its headroom. */
	const uint32_t n = (RTE_MIN(bytes, capture->snaplen_bytes) + RTE_MBUF_DEFAULT_DATAROOM -
					   1) /
			RTE_MBUF_DEFAULT_DATAROOM;

	return !__atomic_load_n(&capture->ended, __ATOMIC_RELAXED) && is_within(capture, n) &&
			!rte_ring_full(capture->ring);
}

static void
capture_one(struct net_pair *pair, struct net_capture *capture, struct rte_mbuf *m,
		const struct capture_mark *of_burst)
{
	struct capture_mark *mark = m->buf_addr;

	RTE_BUILD_BUG_ON(sizeof(*mark) > RTE_PKTMBUF_HEADROOM);
	if (!is_wanted(capture, m)) {
		rte_pktmbuf_free(m);
		return;
	}
	*mark = *of_burst;
	mark->bytes = m->pkt_len;
	cut(m, capture->snaplen_bytes);
	if (put(capture, m)) {
		vhub_count(&pair->counters.captured, 1);
	} else {
		vhub_count(&pair->counters.capture_dropped, 1);
		rte_pktmbuf_free(m);
	}
}

void
net_capture_frames(struct net_pair *pair, enum net_direction direction,
		const struct net_frames *frames, uint64_t which)
{
	struct net_capture *capture = pair->dev->services.capture;
	const struct capture_mark mark = { .tsc = rte_rdtsc(),
		.pair = pair->queue.index,
		.direction = (uint16_t)direction };
	struct rte_mbuf *copy;

	free_written();
	/* One after the other: what finds no room is not even copied. */
	for (; which != 0; which &= which - 1) {
		const unsigned int i = (unsigned int)__builtin_ctzll(which);

		if (has_room(capture, net_frame_bytes(frames, i)) &&
				net_copy_frames(pair, frames, which & -which, &copy) != 0)
			capture_one(pair, capture, copy, &mark);
		else
			vhub_count(&pair->counters.capture_dropped, 1);
	}
}

/* ---- beginning and ending ---- */

static void
destroy(struct net_capture *capture)
{
	capture_filter_free(capture->filter);
	vhub_free(capture->ring, (size_t)rte_ring_get_memsize(CAPTURE_FRAMES));
	vhub_free(capture, sizeof(*capture));
}

static struct rte_ring *
make_ring(unsigned int size, unsigned int flags)
{
	struct rte_ring *ring = vhub_zalloc_node((size_t)rte_ring_get_memsize(size), -1);

	if (ring != NULL)
		rte_ring_init(ring, "capture", size, flags);
	return ring;
}

/* WORK, more than one at once. */
static bool
have_written(void)
{
	bool have;

	pthread_mutex_lock(&written_lock);
	/* No thread of a capture waits for that of another one in it. */
	if (written == NULL)
		written = make_ring(WRITTEN_FRAMES, RING_F_MP_RTS_ENQ);
	have = written != NULL;
	pthread_mutex_unlock(&written_lock);
	return have;
}

static struct net_capture *
create(const struct vhub_net_capture *set)
{
	struct net_capture *capture = vhub_zalloc_node(sizeof(*capture), -1);

	if (capture == NULL)
		return NULL;
	capture->ring = have_written() ? make_ring(CAPTURE_FRAMES, RING_F_SC_DEQ) : NULL;
	if (capture->ring == NULL) {
		vhub_free(capture, sizeof(*capture));
		return NULL;
	}
	capture->snaplen_bytes = set->snaplen_bytes;
	capture->max_bytes = set->max_bytes;
	return capture;
}

int
vhub_net_capture_start(struct vhub_device *device, const struct vhub_net_capture *set, char *error,
		size_t error_len)
{
	struct net_dev *dev = net_dev_find_or_say(device, error, error_len);
	struct net_capture *capture;
	int ret = 0;

	if (dev == NULL)
		return -EINVAL;
	if (dev->services.capture != NULL) {
		snprintf(error, error_len, "%s is being captured already", device->name);
		return -EINVAL;
	}
	capture = create(set);
	if (capture == NULL) {
		snprintf(error, error_len, "out of memory");
		return -ENOMEM;
	}
	if (set->filter != NULL)
		ret = capture_filter_make(set->filter, set->snaplen_bytes, &capture->filter, error,
				error_len);
	if (ret == 0)
		ret = capture_file_open(capture, device->name, set->path, error, error_len);
	if (ret != 0) {
		destroy(capture);
		return ret;
	}
	dev->services.capture = capture;
	if (set->from_guest)
		net_services_set(&dev->services, NET_FROM_GUEST, 0, NET_SERVES_CAPTURE);
	if (set->to_guest)
		net_services_set(&dev->services, NET_TO_GUEST, 0, NET_SERVES_CAPTURE);
	return 0;
}

void
net_capture_leave(struct net_dev *dev)
{
	net_services_set(&dev->services, NET_FROM_GUEST, NET_SERVES_CAPTURE, 0);
	net_services_set(&dev->services, NET_TO_GUEST, NET_SERVES_CAPTURE, 0);
}

void
net_capture_end(struct net_dev *dev, struct vhub_net_captured *out)
{
	struct net_capture *capture = dev->services.capture;

	dev->services.capture = NULL;
	capture_file_close(capture);
	*out = (struct vhub_net_captured){ .packets = capture->packets,
		.bytes = capture->bytes,
		.error = capture->error };
	destroy(capture);
}

int
vhub_net_capture_stop(struct vhub_device *device, struct vhub_net_captured *out, char *error,
		size_t error_len)
{
	struct net_dev *dev = net_dev_find_or_say(device, error, error_len);
	int ret;

	if (dev == NULL)
		return -EINVAL;
	if (dev->services.capture == NULL) {
		snprintf(error, error_len, "%s is not being captured", device->name);
		return -EINVAL;
	}
	net_capture_leave(dev);
	ret = vhub_quiesce_wait();
	if (ret != 0) {
		snprintf(error, error_len,
				"%s: an lcore is stuck: the capture is not closed, try again",
				device->name);
		return ret;
	}
	net_capture_end(dev, out);
	return 0;
}
