/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packets as views (net/vhub_net.h): a driver that joins ports copies the same views into one guest's
 * ring after the other, each as that guest takes them; receivers whose memory, log or ring changes from
 * turn to turn; and what is kept longer, as mbufs, also because a guest has no room for it. The guests
 * are those of the tests of lib/virtq.
 */
#include <stdlib.h>
#include <string.h>

#include <rte_ip.h>

#include "../runtime/lcore_test.h"
#include "../virtq/guest.h"
#include "direct.h"
#include "vring.h"

#define SIZE 1024u
#define BUFFER_BYTES 512u
#define DATA_BYTES 32768u
#define N_RECEIVERS 2u
#define F_CSUM (UINT64_C(1) << VIRTIO_NET_F_CSUM)
#define F_GUEST_CSUM (UINT64_C(1) << VIRTIO_NET_F_GUEST_CSUM)
#define F_MERGEABLE (UINT64_C(1) << VIRTIO_NET_F_MRG_RXBUF)
#define LOG_BYTES (GUEST_TOP_GPA / VHUB_LOG_PAGE_BYTES / 8)

/* One guest with one ring, and its port. */
struct port {
	struct guest g;
	struct driver d;
	struct vhub_virtq *vq;
	struct vring_run run; /* what resumes a vring looks for the poller around it */
	struct net_dev *dev;
};

static struct port sender, receivers[N_RECEIVERS];
static struct vhub_net_driver_ops driver_ops;
/* What the driver keeps, when it keeps something. */
static struct rte_mbuf *kept[VHUB_NET_BURST];
static uint16_t n_kept;

static struct net_pair *
pair_of(struct port *p)
{
	return &p->dev->pairs[0];
}

static void
port_begin(struct port *p, uint64_t features, bool sends)
{
	const size_t bytes = sizeof(struct net_dev) + sizeof(struct net_pair);
	struct vhub_virtq_config config;

	memset(p, 0, sizeof(*p));
	guest_init(&p->g);
	driver_init(&p->d, &p->g, features & (F_PACKED | F_VERSION_1 | F_IN_ORDER), SIZE);
	config = driver_config(&p->d);
	p->vq = virtq_make(&config);
	p->run = (struct vring_run){ .pub = { .vq = p->vq, .taking = true, .enabled = true } };
	p->dev = aligned_alloc(RTE_CACHE_LINE_SIZE, RTE_ALIGN_CEIL(bytes, RTE_CACHE_LINE_SIZE));
	assert_non_null(p->dev);
	memset(p->dev, 0, bytes);
	p->dev->driver = &driver_ops;
	p->dev->pool = vhub_net_pool(-1);
	assert_non_null(p->dev->pool);
	p->dev->max_frame_bytes = VHUB_NET_MTU_MAX;
	p->dev->guest_frame_bytes = VHUB_NET_MTU_MAX;
	pair_of(p)->dev = p->dev;
	pair_of(p)->guest_takes = net_guest_takes(features);
	direct_begin(pair_of(p), features);
	direct_gather_begin(pair_of(p));
	if (sends)
		pair_of(p)->from_ring = &p->run.pub;
	else
		pair_of(p)->to_ring = &p->run.pub;
	pair_of(p)->queue.open = !sends;
}

static void
port_end(struct port *p)
{
	vhub_virtq_destroy(p->vq);
	driver_fini(&p->d);
	guest_fini(&p->g);
	free(p->dev);
}

static void
begin(uint64_t sender_features, uint64_t first, uint64_t second)
{
	memset(&driver_ops, 0, sizeof(driver_ops));
	port_begin(&sender, sender_features | F_VERSION_1, true);
	port_begin(&receivers[0], first | F_VERSION_1, false);
	port_begin(&receivers[1], second | F_VERSION_1, false);
}

static void
end(void)
{
	port_end(&sender);
	for (unsigned int i = 0; i < N_RECEIVERS; i++) {
		net_drop_held(pair_of(&receivers[i]));
		port_end(&receivers[i]);
	}
	assert_int_equal(rte_mempool_in_use_count(vhub_net_pool(-1)), 0);
}

/* ---- drivers ---- */

static void
flood(struct vhub_net_queue *queue, struct vhub_net_view *views, uint16_t n)
{
	(void)queue;
	for (unsigned int i = 0; i < N_RECEIVERS; i++)
		vhub_net_views_to_guest(&pair_of(&receivers[i])->queue, views,
				vhub_net_all_views(n));
}

/* To each guest every other one. */
static void
deal_out(struct vhub_net_queue *queue, struct vhub_net_view *views, uint16_t n)
{
	(void)queue;
	for (unsigned int i = 0; i < N_RECEIVERS; i++)
		vhub_net_views_to_guest(&pair_of(&receivers[i])->queue, views,
				vhub_net_all_views(n) & 0x5555555555555555u << i);
}

static void
keep(struct vhub_net_queue *queue, struct vhub_net_view *views, uint16_t n)
{
	const uint64_t made = vhub_net_views_to_mbufs(queue, views, vhub_net_all_views(n), kept);

	n_kept = vhub_net_gather(kept, made);
}

/* ---- guests ---- */

static void
fill(uint8_t *data, uint32_t bytes, unsigned int seed)
{
	for (uint32_t i = 0; i < bytes; i++)
		data[i] = (uint8_t)(seed * 31 + i * 7 + (i >> 8));
}

/* Sends a packet in pieces of at most `piece` bytes. */
static void
send_packet(uint64_t at, const struct virtio_net_hdr *hdr, const uint8_t *frame, uint32_t bytes,
		uint32_t piece)
{
	const uint32_t all = NET_HEADER_BYTES + bytes;
	uint8_t *data = guest_hva(&sender.g, LOW_GPA + at);
	struct piece pieces[MAX_PIECES];
	unsigned int n = 0;
	struct token *t;

	memset(data, 0, NET_HEADER_BYTES);
	memcpy(data, hdr, sizeof(*hdr));
	memcpy(data + NET_HEADER_BYTES, frame, bytes);
	for (uint32_t done = 0; done < all; done += pieces[n++].len) {
		pieces[n].gpa = LOW_GPA + at + done;
		pieces[n].len = RTE_MIN(piece, all - done);
		pieces[n].write = false;
	}
	t = driver_add(&sender.d, pieces, n, false);
	assert_non_null(t);
	t->used_len = 0;
}

/* Offers buffers, from the start of the data on. */
static void
offer(struct port *p, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		struct piece piece = { LOW_GPA + i * BUFFER_BYTES, BUFFER_BYTES, true };
		struct token *t = driver_add(&p->d, &piece, 1, false);

		assert_non_null(t);
		t->used_len = UINT32_MAX;
	}
}

/* What the next buffers of the guest hold must be this packet. */
static unsigned int
expect_packet(struct port *p, unsigned int first, const struct virtio_net_hdr *hdr,
		const uint8_t *frame, uint32_t bytes)
{
	const unsigned int n = (NET_HEADER_BYTES + bytes + BUFFER_BYTES - 1) / BUFFER_BYTES;
	const uint8_t *data = guest_hva(&p->g, LOW_GPA + first * BUFFER_BYTES);
	struct virtio_net_hdr_mrg_rxbuf found;

	memcpy(&found, data, sizeof(found));
	assert_memory_equal(&found.hdr, hdr, sizeof(*hdr));
	assert_int_equal(found.num_buffers, n);
	assert_memory_equal(data + NET_HEADER_BYTES, frame, bytes);
	for (unsigned int i = 0; i < n; i++)
		assert_non_null(driver_reap(&p->d));
	return first + n;
}

static const struct virtio_net_hdr plain;

/* ---- tests ---- */

static void
run_flood(uint64_t sender_features, uint64_t receiver_features, uint32_t piece)
{
	static const uint32_t sizes[] = { 14, 60, 64, 65, 128, 129, 500, 501, 1514, 9000 };
	static uint8_t frames[RTE_DIM(sizes)][9000];
	uint64_t at = 0;

	begin(sender_features, receiver_features, F_MERGEABLE);
	driver_ops.from_guest_views = flood;
	for (unsigned int i = 0; i < N_RECEIVERS; i++)
		offer(&receivers[i], 40);
	for (unsigned int i = 0; i < RTE_DIM(sizes); i++) {
		fill(frames[i], sizes[i], i);
		send_packet(at, &plain, frames[i], sizes[i], piece);
		at += NET_HEADER_BYTES + sizes[i];
	}
	assert_int_equal(direct_poll_from_guest(pair_of(&sender)), RTE_DIM(sizes));
	for (unsigned int r = 0; r < N_RECEIVERS; r++) {
		unsigned int next = 0;

		for (unsigned int i = 0; i < RTE_DIM(sizes); i++)
			next = expect_packet(&receivers[r], next, &plain, frames[i], sizes[i]);
		assert_null(driver_reap(&receivers[r].d));
		assert_int_equal(vhub_virtq_in_flight(receivers[r].vq), 0);
	}
	for (unsigned int i = 0; i < RTE_DIM(sizes); i++)
		assert_non_null(driver_reap(&sender.d));
	end();
}

static void
test_the_same_views_go_to_several_guests(void **state)
{
	(void)state;
	run_flood(0, F_MERGEABLE, 20000);
	run_flood(0, F_MERGEABLE | F_PACKED, 700);
	run_flood(F_PACKED, F_MERGEABLE | F_IN_ORDER, 100);
	run_flood(F_PACKED | F_IN_ORDER, F_MERGEABLE | F_PACKED | F_IN_ORDER, 33);
}

/*
 * What is in a guest's buffers already does not matter: the header that comes, whole or but for one
 * byte, or something else, by turns and in long rows.
 */
static void
run_headers(uint64_t features)
{
	const struct virtio_net_hdr_mrg_rxbuf whole = { .num_buffers = 1 };
	uint8_t frames[VHUB_NET_BURST][60];
	struct rnd r;

	rnd_init(&r, "headers", 3);
	begin(0, features | F_MERGEABLE, F_MERGEABLE);
	driver_ops.from_guest_views = flood;
	offer(&receivers[0], VHUB_NET_BURST);
	for (unsigned int i = 0; i < VHUB_NET_BURST; i++) {
		uint8_t *data = guest_hva(&receivers[0].g, LOW_GPA + i * BUFFER_BYTES);

		memcpy(data, &whole, sizeof(whole));
		if (i >= VHUB_NET_BURST / 4 && rnd_below(&r, 3) != 0)
			data[rnd_below(&r, sizeof(whole))] ^= (uint8_t)(1 +
					rnd_below(&r, UINT8_MAX));
		fill(frames[i], sizeof(frames[i]), i);
		send_packet(i * 100, &plain, frames[i], sizeof(frames[i]), 100);
	}
	assert_int_equal(direct_poll_from_guest(pair_of(&sender)), VHUB_NET_BURST);
	for (unsigned int i = 0; i < VHUB_NET_BURST; i++)
		expect_packet(&receivers[0], i, &plain, frames[i], sizeof(frames[i]));
	while (driver_reap(&sender.d) != NULL)
		;
	end();
}

static void
test_headers_that_are_there_or_not(void **state)
{
	(void)state;
	run_headers(0);
	run_headers(F_PACKED);
}

/* One guest completes the sum by itself, the other gets it done. */
static void
test_each_guest_gets_what_it_takes(void **state)
{
	const uint16_t start = 34, offset = 16;
	const struct virtio_net_hdr hdr = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.csum_start = start,
		.csum_offset = offset };
	uint8_t frame[400], whole[sizeof(frame)];
	uint16_t sum;

	(void)state;
	begin(F_CSUM, F_MERGEABLE | F_GUEST_CSUM, F_MERGEABLE);
	driver_ops.from_guest_views = flood;
	offer(&receivers[0], 2);
	offer(&receivers[1], 2);
	fill(frame, sizeof(frame), 5);
	memcpy(whole, frame, sizeof(frame));
	sum = (uint16_t)~rte_raw_cksum(whole + start, sizeof(whole) - start);
	memcpy(whole + start + offset, &sum, sizeof(sum));
	send_packet(0, &hdr, frame, sizeof(frame), 1000);
	send_packet(1000, &plain, frame, sizeof(frame), 1000);
	assert_int_equal(direct_poll_from_guest(pair_of(&sender)), 2);
	assert_int_equal(expect_packet(&receivers[0], 0, &hdr, frame, sizeof(frame)), 1);
	assert_int_equal(expect_packet(&receivers[0], 1, &plain, frame, sizeof(frame)), 2);
	assert_int_equal(expect_packet(&receivers[1], 0, &plain, whole, sizeof(whole)), 1);
	assert_int_equal(expect_packet(&receivers[1], 1, &plain, frame, sizeof(frame)), 2);
	assert_non_null(driver_reap(&sender.d));
	assert_non_null(driver_reap(&sender.d));
	end();
}

/* Between two turns a receiver gets another table, in which its data lies elsewhere, and a log. */
static void
test_a_receiver_changes_between_two_turns(void **state)
{
	struct port *r = &receivers[0];
	const size_t table_bytes = sizeof(*r->g.table) + 3 * sizeof(r->g.table->regions[0]);
	struct vhub_dirty_log log = { .refs = 1, .size_bytes = LOG_BYTES };
	struct vhub_mem_table *other, *old;
	uint8_t frame[100], *elsewhere;
	unsigned int marked = 0;

	(void)state;
	begin(0, F_MERGEABLE, 0);
	driver_ops.from_guest_views = flood;
	fill(frame, sizeof(frame), 9);
	other = malloc(table_bytes);
	elsewhere = calloc(1, LOW_BYTES);
	log.bits = calloc(1, LOG_BYTES);
	memcpy(other, r->g.table, table_bytes);
	other->refs = 1;
	other->regions[0].hva = elsewhere;
	offer(r, 2);

	old = vhub_virtq_set_mem(r->vq, other, r->d.desc, r->d.avail, r->d.used);
	assert_ptr_equal(old, r->g.table);
	assert_null(vhub_virtq_set_log(r->vq, &log, false, 0));
	send_packet(0, &plain, frame, sizeof(frame), 1000);
	assert_int_equal(direct_poll_from_guest(pair_of(&sender)), 1);
	assert_memory_equal(elsewhere + NET_HEADER_BYTES, frame, sizeof(frame));
	for (size_t i = 0; i < LOG_BYTES; i++)
		marked += (unsigned int)__builtin_popcount(log.bits[i]);
	assert_int_equal(marked, 1);
	assert_int_equal(log.bits[LOW_GPA / VHUB_LOG_PAGE_BYTES / 8],
			1u << LOW_GPA / VHUB_LOG_PAGE_BYTES % 8);
	assert_non_null(driver_reap(&r->d));

	assert_ptr_equal(vhub_virtq_set_log(r->vq, NULL, false, 0), &log);
	assert_ptr_equal(vhub_virtq_set_mem(r->vq, old, r->d.desc, r->d.avail, r->d.used), other);
	send_packet(0, &plain, frame, sizeof(frame), 1000);
	assert_int_equal(direct_poll_from_guest(pair_of(&sender)), 1);
	expect_packet(r, 1, &plain, frame, sizeof(frame));
	old->refs--; /* set_mem took one, and the former was not put */
	free(other);
	free(elsewhere);
	free(log.bits);
	while (driver_reap(&sender.d) != NULL)
		;
	end();
}

/* A receiver that has stopped, is disabled or has no buffers costs nobody else a packet. */
static void
test_a_receiver_that_takes_nothing(void **state)
{
	struct net_pair *first;
	uint8_t frame[60];

	(void)state;
	begin(0, F_MERGEABLE, F_MERGEABLE);
	first = pair_of(&receivers[0]);
	driver_ops.from_guest_views = flood;
	offer(&receivers[1], 3);
	fill(frame, sizeof(frame), 1);
	for (unsigned int i = 0; i < 3; i++) {
		if (i == 1)
			receivers[0].run.pub.enabled = false;
		if (i == 2)
			first->to_ring = NULL;
		send_packet(0, &plain, frame, sizeof(frame), 1000);
		assert_int_equal(direct_poll_from_guest(pair_of(&sender)), 1);
		assert_non_null(driver_reap(&sender.d));
		expect_packet(&receivers[1], i, &plain, frame, sizeof(frame));
	}
	/* What came while it had no buffers waits. */
	assert_int_equal(first->n_held, 1);
	net_drop_held(first);
	assert_int_equal(first->counters.drops[VHUB_NET_DROP_NO_RING], 3);
	end();
}

static void
poll_sender(unsigned int n)
{
	assert_int_equal(direct_poll_from_guest(pair_of(&sender)), n);
	for (unsigned int i = 0; i < n; i++)
		assert_non_null(driver_reap(&sender.d));
}

/* Packets of 60 bytes with these seeds. */
static void
send_seeds(unsigned int from, unsigned int to)
{
	uint8_t frame[60];

	for (unsigned int i = from; i < to; i++) {
		fill(frame, sizeof(frame), i);
		send_packet(i % 64 * 128, &plain, frame, sizeof(frame), 1000);
	}
}

static unsigned int
expect_seeds(struct port *p, unsigned int first, unsigned int from, unsigned int to)
{
	uint8_t frame[60];

	for (unsigned int i = from; i < to; i++) {
		fill(frame, sizeof(frame), i);
		first = expect_packet(p, first, &plain, frame, sizeof(frame));
	}
	return first;
}

/* In order, and while something waits all that comes waits behind it. */
static void
test_views_without_room_wait_for_it(void **state)
{
	struct port *r = &receivers[0];
	struct net_pair *pair;
	unsigned int next;

	(void)state;
	begin(F_PACKED, F_MERGEABLE | F_PACKED, F_MERGEABLE);
	driver_ops.from_guest_views = flood;
	pair = pair_of(r);
	offer(&receivers[1], 40);
	offer(r, 2);
	send_seeds(0, 5);
	poll_sender(5);
	next = expect_seeds(r, 0, 0, 2);
	assert_int_equal(pair->n_held, 3);
	send_seeds(5, 7);
	poll_sender(2);
	assert_int_equal(pair->n_held, 5);
	assert_int_equal(net_poll_to_guest(pair), 0);
	offer(r, 4);
	assert_int_equal(net_poll_to_guest(pair), 4);
	expect_seeds(r, 0, next, 6);
	assert_int_equal(pair->n_held, 1);
	for (unsigned int i = 0; i <= NET_FULL_TURNS; i++)
		assert_int_equal(net_poll_to_guest(pair), 0);
	assert_int_equal(pair->n_held, 0);
	assert_int_equal(pair->counters.drops[VHUB_NET_DROP_RING_FULL], 1);
	expect_seeds(&receivers[1], 0, 0, 7);
	end();
}

/* More than may wait is dropped, and no memory is taken for it. */
static void
test_no_more_views_wait_than_may(void **state)
{
	struct net_pair *pair;

	(void)state;
	begin(0, F_MERGEABLE, F_MERGEABLE);
	driver_ops.from_guest_views = flood;
	pair = pair_of(&receivers[0]);
	offer(&receivers[1], 40);
	for (unsigned int i = 0; i < 90; i += 30) {
		send_seeds(i, i + 30);
		poll_sender(30);
		offer(&receivers[1], i < 60 ? 30 : 0);
	}
	assert_int_equal(pair->n_held, VHUB_NET_BURST);
	assert_int_equal(pair->counters.drops[VHUB_NET_DROP_RING_FULL], 90 - VHUB_NET_BURST);
	/* For two guests: the other one had the room. */
	assert_int_equal(rte_mempool_in_use_count(vhub_net_pool(-1)), VHUB_NET_BURST);
	net_drop_held(pair);
	while (driver_reap(&receivers[1].d) != NULL)
		;
	end();
}

static void
test_some_views_of_a_burst(void **state)
{
	uint8_t frame[60];

	(void)state;
	begin(0, F_MERGEABLE, F_MERGEABLE | F_PACKED);
	driver_ops.from_guest_views = deal_out;
	offer(&receivers[0], 40);
	offer(&receivers[1], 40);
	send_seeds(0, 64);
	poll_sender(64);
	for (unsigned int i = 0; i < 64; i++) {
		fill(frame, sizeof(frame), i);
		expect_packet(&receivers[i % 2], i / 2, &plain, frame, sizeof(frame));
	}
	for (unsigned int i = 0; i < N_RECEIVERS; i++)
		assert_null(driver_reap(&receivers[i].d));
	end();
}

/* Packets of 100 bytes, every third one completed. */
static void
expect_completed(struct port *p, unsigned int first, unsigned int from, unsigned int to)
{
	uint8_t frame[100];
	uint16_t sum;

	for (unsigned int i = from; i < to; i++, first++) {
		fill(frame, sizeof(frame), i);
		sum = (uint16_t)~rte_raw_cksum(frame + 34, sizeof(frame) - 34);
		if (i % 3 == 0)
			memcpy(frame + 50, &sum, sizeof(sum));
		expect_packet(p, first, &plain, frame, sizeof(frame));
	}
}

/* Those that are completed first stay in their places. */
static void
test_views_that_are_completed_keep_their_order(void **state)
{
	const struct virtio_net_hdr hdr = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.csum_start = 34,
		.csum_offset = 16 };
	uint8_t frame[100];

	(void)state;
	begin(F_CSUM, F_MERGEABLE, F_MERGEABLE);
	driver_ops.from_guest_views = flood;
	offer(&receivers[0], 20);
	offer(&receivers[1], 5);
	for (unsigned int i = 0; i < 12; i++) {
		fill(frame, sizeof(frame), i);
		send_packet(i * 128, i % 3 == 0 ? &hdr : &plain, frame, sizeof(frame), 1000);
	}
	poll_sender(12);
	expect_completed(&receivers[0], 0, 0, 12);
	expect_completed(&receivers[1], 0, 0, 5);
	assert_int_equal(pair_of(&receivers[1])->n_held, 7);
	offer(&receivers[1], 7);
	assert_int_equal(net_poll_to_guest(pair_of(&receivers[1])), 7);
	expect_completed(&receivers[1], 0, 5, 12);
	end();
}

/* The guest's buffers are its own again, and changed; the mbufs are as they were. */
static void
test_what_is_kept_is_an_mbuf(void **state)
{
	uint8_t frame[5000], copy[sizeof(frame)];
	const void *data;

	(void)state;
	begin(0, 0, 0);
	driver_ops.from_guest_views = keep;
	fill(frame, sizeof(frame), 3);
	send_packet(0, &plain, frame, sizeof(frame), 777);
	assert_int_equal(direct_poll_from_guest(pair_of(&sender)), 1);
	assert_non_null(driver_reap(&sender.d));
	memset(guest_hva(&sender.g, LOW_GPA), 0xee, DATA_BYTES);
	assert_int_equal(n_kept, 1);
	assert_int_equal(kept[0]->pkt_len, sizeof(frame));
	data = rte_pktmbuf_read(kept[0], 0, sizeof(frame), copy);
	assert_memory_equal(data, frame, sizeof(frame));
	rte_pktmbuf_free(kept[0]);
	end();
}

/* ---- the MTU ---- */

/* A frame of TCP over IPv4 that asks for segments of `gso_bytes`. */
static void
send_to_be_cut(uint64_t at, uint32_t bytes, uint16_t gso_bytes)
{
	const struct virtio_net_hdr hdr = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.gso_size = gso_bytes,
		.csum_start = 34,
		.csum_offset = 16 };
	static uint8_t frame[9014];

	assert_true(bytes <= sizeof(frame));
	fill(frame, bytes, 1);
	frame[12] = 8;
	frame[13] = 0;
	frame[14] = 0x45;
	frame[20] = frame[21] = 0;
	frame[23] = IPPROTO_TCP;
	frame[46] = 5 << 4;
	send_packet(at, &hdr, frame, bytes, 20000);
}

/* Returns whether such a frame went on. */
static bool
goes_on(uint32_t bytes, uint16_t gso_bytes)
{
	bool went;

	send_to_be_cut(0, bytes, gso_bytes);
	n_kept = 0;
	poll_sender(1);
	went = n_kept == 1;
	rte_pktmbuf_free_bulk(kept, n_kept);
	return went;
}

/* Segmentation is no way past it. */
static void
test_segments_are_held_to_the_mtu(void **state)
{
	const uint64_t *drops;

	(void)state;
	begin(F_CSUM | UINT64_C(1) << VIRTIO_NET_F_HOST_TSO4, 0, 0);
	driver_ops.from_guest_views = keep;
	sender.dev->max_frame_bytes = 1500 + VHUB_NET_FRAME_OVERHEAD;
	drops = pair_of(&sender)->counters.drops;
	assert_true(goes_on(9014, 1446));
	assert_true(goes_on(9014, 1448 + 20));
	assert_false(goes_on(9014, 1448 + 21));
	assert_false(goes_on(9014, UINT16_MAX));
	assert_false(goes_on(1523, UINT16_MAX));
	assert_int_equal(drops[VHUB_NET_DROP_OVERSIZE], 3);
	/* As short as it is, it may ask for any. */
	assert_true(goes_on(1522, UINT16_MAX));
	assert_int_equal(drops[VHUB_NET_DROP_OVERSIZE], 3);
	assert_int_equal(drops[VHUB_NET_DROP_OFFLOAD], 0);
	end();
}

/* ---- what is cut in a turn ---- */

#define TCP_BYTES 54u
#define N_PIECES 250u
#define N_BEFORE 16u /* packets in a turn, so that one more may be cut */

static unsigned int n_sunk;

static void
sink(struct net_pair *pair, struct rte_mbuf **pkts, uint16_t n)
{
	(void)pair;
	n_sunk += n;
	rte_pktmbuf_free_bulk(pkts, n);
}

static void
send_in_pieces(unsigned int n)
{
	const uint32_t bytes = TCP_BYTES + N_PIECES * 8;

	for (unsigned int i = 0; i < n; i++)
		send_to_be_cut(i % 8 * 3000, bytes, 8);
}

/* A turn in which the sender's packets are cut first for one receiver, then those of a burst for all. */
static void
cut_in_a_turn(void *arg)
{
	unsigned int *n_taken = arg;

	net_offload(pair_of(&receivers[0]), 0, kept, N_BEFORE, sink);
	*n_taken = direct_poll_from_guest(pair_of(&sender));
	/* Another sender's. */
	net_offload_mark(net_sender_of(pair_of(&receivers[1])), &kept[N_BEFORE], 1);
	net_offload(pair_of(&receivers[0]), 0, &kept[N_BEFORE], 1, sink);
}

static void
poll_in_a_turn(void *arg)
{
	unsigned int *n_taken = arg;

	*n_taken = direct_poll_from_guest(pair_of(&sender));
}

static unsigned int
reap_all(struct port *p)
{
	unsigned int n = 0;

	while (driver_reap(&p->d) != NULL)
		n++;
	return n;
}

/* Of a sender's packets only so many pieces are made in a turn, for however many receivers. */
static void
test_what_a_sender_has_cut_in_a_turn_is_bounded(void **state)
{
	unsigned int n_taken = 0;

	(void)state;
	begin(F_CSUM | UINT64_C(1) << VIRTIO_NET_F_HOST_TSO4, F_MERGEABLE, F_MERGEABLE);
	for (unsigned int r = 0; r < N_RECEIVERS; r++)
		offer(&receivers[r], 3 * N_PIECES);
	driver_ops.from_guest_views = keep;
	send_in_pieces(N_BEFORE + 1);
	poll_sender(N_BEFORE + 1);
	assert_int_equal(n_kept, N_BEFORE + 1);
	driver_ops.from_guest_views = flood;
	send_in_pieces(2);
	n_sunk = 0;
	test_on_lcore(0, cut_in_a_turn, &n_taken);
	assert_int_equal(n_taken, 2);
	assert_int_equal(n_sunk, (N_BEFORE + 1) * N_PIECES);
	assert_int_equal(reap_all(&receivers[0]), N_PIECES);
	assert_int_equal(reap_all(&receivers[1]), 0);
	assert_int_equal(pair_of(&receivers[0])->counters.drops[VHUB_NET_DROP_OFFLOAD], 1);
	assert_int_equal(pair_of(&receivers[1])->counters.drops[VHUB_NET_DROP_OFFLOAD], 2);
	/* Its next turn is another one. */
	send_in_pieces(1);
	test_on_lcore(0, poll_in_a_turn, &n_taken);
	for (unsigned int r = 0; r < N_RECEIVERS; r++)
		assert_int_equal(reap_all(&receivers[r]), N_PIECES);
	reap_all(&sender);
	end();
}

static void
cut_all(void *arg)
{
	(void)arg;
	net_offload(pair_of(&receivers[0]), 0, kept, n_kept, sink);
}

/* Pieces that were made for nothing, as the last ones found no memory, count as well. */
static void
test_what_a_sender_has_cut_in_vain_is_bounded(void **state)
{
	const uint64_t *drops;

	(void)state;
	begin(F_CSUM | UINT64_C(1) << VIRTIO_NET_F_HOST_TSO4, 0, 0);
	drops = pair_of(&receivers[0])->counters.drops;
	driver_ops.from_guest_views = keep;
	send_in_pieces(N_BEFORE + 3);
	poll_sender(N_BEFORE + 3);
	receivers[0].dev->pool = rte_pktmbuf_pool_create("few", N_PIECES, 0, 0,
			RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	assert_non_null(receivers[0].dev->pool);
	n_sunk = 0;
	test_on_lcore(0, cut_all, NULL);
	assert_int_equal(n_sunk, 0);
	assert_int_equal(drops[VHUB_NET_DROP_NO_MBUF], N_BEFORE + 1);
	assert_int_equal(drops[VHUB_NET_DROP_OFFLOAD], 2);
	assert_int_equal(rte_mempool_in_use_count(receivers[0].dev->pool), 0);
	rte_mempool_free(receivers[0].dev->pool);
	reap_all(&sender);
	end();
}

/* ---- mbufs that wait for room ---- */

static struct rte_mbuf *
packet_of(unsigned int n_segs)
{
	struct rte_mbuf *m = NULL;

	while (n_segs-- > 0) {
		struct rte_mbuf *seg = rte_pktmbuf_alloc(vhub_net_pool(-1));

		assert_non_null(seg);
		memset(rte_pktmbuf_append(seg, 60), 0, 60);
		if (m == NULL)
			m = seg;
		else
			assert_int_equal(rte_pktmbuf_chain(m, seg), 0);
	}
	return m;
}

/* Guests without room, and packets as long as they come: a quarter of all memory at most waits for them. */
static void
test_what_waits_for_room_leaves_memory_to_others(void **state)
{
	struct rte_mbuf *pkts[VHUB_NET_BURST];

	(void)state;
	begin(0, F_MERGEABLE, F_MERGEABLE);
	for (unsigned int r = 0; r < N_RECEIVERS; r++) {
		struct net_pair *pair = pair_of(&receivers[r]);

		for (unsigned int i = 0; i < VHUB_NET_BURST; i++)
			pkts[i] = packet_of(33);
		vhub_net_to_guest(&pair->queue, pkts, VHUB_NET_BURST);
		/* Whoever came first has left something. */
		assert_int_not_equal(pair->n_held, 0);
		assert_int_equal(pair->n_held + pair->counters.drops[VHUB_NET_DROP_RING_FULL],
				VHUB_NET_BURST);
	}
	assert_in_range(rte_mempool_in_use_count(vhub_net_pool(-1)), 1, 2048);
	for (unsigned int r = 0; r < N_RECEIVERS; r++)
		net_drop_held(pair_of(&receivers[r]));
	assert_int_equal(rte_mempool_in_use_count(vhub_net_pool(-1)), 0);
	/* All of it may be used again. */
	for (unsigned int i = 0; i < VHUB_NET_BURST; i++)
		pkts[i] = packet_of(2);
	vhub_net_to_guest(&pair_of(&receivers[1])->queue, pkts, VHUB_NET_BURST);
	assert_int_equal(pair_of(&receivers[1])->n_held, VHUB_NET_BURST);
	net_drop_held(pair_of(&receivers[1]));
	end();
}

static void
say_nothing(const struct vhub_net_port *port, struct vhub_net_info *info)
{
	(void)port;
	(void)info;
}

static void
destroy_nothing(struct vhub_net_port *port)
{
	(void)port;
}

static unsigned int n_closed, n_opened, n_opened_anew;

static void
count_opened(struct vhub_net_queue *queue, bool anew)
{
	assert_true(queue->open);
	n_opened++;
	n_opened_anew += anew;
}

static void
count_closed(struct vhub_net_queue *queue)
{
	assert_false(queue->open);
	n_closed++;
}

/* One packet waits, the ring is as `enabled` and `taking` say then, and has its next turn. */
static void
wait_and_close(struct vhub_device *device, struct vhub_vring *vring, bool enabled, bool taking)
{
	struct net_pair *pair = &net_dev_of(device)->pairs[0];
	struct rte_mbuf *m = packet_of(33);

	vring->enabled = true;
	vring->taking = true;
	device->ops->queue_poll(vring);
	assert_true(pair->queue.open);
	vhub_net_to_guest(&pair->queue, &m, 1);
	assert_int_equal(pair->n_held, 1);
	vring->enabled = enabled;
	vring->taking = taking;
	device->ops->queue_poll(vring);
	assert_false(pair->queue.open);
	assert_int_equal(pair->n_held, 0);
	assert_int_equal(rte_mempool_in_use_count(vhub_net_pool(-1)), 0);
}

/* A device of one pair, of which the first receiver is the ring to the guest. */
static struct vhub_device *
begin_with_device(struct vhub_net_port *port)
{
	const struct net_params params = { .name = "port", .n_pairs = 1 };
	const struct vhub_executor executor = { .n_lcores = 0 };
	struct vhub_device *device;
	char error[128];

	begin(0, F_MERGEABLE, 0);
	*port = (struct vhub_net_port){ .ops = &driver_ops };
	driver_ops.info = say_nothing;
	driver_ops.destroy = destroy_nothing;
	assert_int_equal(net_create(&params, port, &executor, &device, error, sizeof(error)), 0);
	receivers[0].run.pub.dev = device;
	return device;
}

/* A guest that disables, breaks or stops its ring keeps no memory by it. */
static void
test_nothing_waits_for_a_ring_that_is_not_open(void **state)
{
	struct vhub_vring *vring = &receivers[0].run.pub;
	struct vhub_net_port port;
	struct vhub_device *device;

	(void)state;
	device = begin_with_device(&port);
	driver_ops.closed = count_closed;
	n_closed = 0;
	assert_int_equal(device->ops->queue_prepare(device, vring), 0);
	assert_int_equal(device->ops->queue_start(vring), 0);
	wait_and_close(device, vring, false, true);
	wait_and_close(device, vring, true, false);
	assert_int_equal(net_dev_of(device)->pairs[0].counters.drops[VHUB_NET_DROP_NO_RING], 2);
	assert_int_equal(n_closed, 2);
	vring->taking = true;
	device->ops->queue_poll(vring);
	device->ops->queue_stop(vring);
	assert_int_equal(n_closed, 3);
	assert_int_equal(net_dev_of(device)->n_open, 0);
	device->ops->queue_release(device, vring);
	device->ops->destroy(device);
	end();
}

/* The ring has a turn, and is open or not as it says. Whether that was told as anew. */
static bool
turn(struct vhub_device *device, struct vhub_vring *vring, bool taking)
{
	const unsigned int opened = n_opened, anew = n_opened_anew;

	vring->taking = taking;
	device->ops->queue_poll(vring);
	assert_int_equal(n_opened, opened + (taking && vring->enabled));
	return n_opened_anew != anew;
}

/* Drains and stops here; goes on on another lcore, where it has turns of which the first ones are disabled. */
static bool
move(struct vhub_device *device, struct vhub_vring *vring, unsigned int n_disabled)
{
	turn(device, vring, false);
	device->ops->queue_stop(vring);
	assert_int_equal(device->ops->queue_start(vring), 0);
	for (vring->enabled = false; n_disabled > 0; n_disabled--)
		turn(device, vring, true);
	vring->enabled = true;
	return turn(device, vring, true);
}

/* A ring that moves misses nothing; for one that its guest has closed meanwhile what came is not. */
static void
test_a_ring_that_moves_is_not_opened_anew(void **state)
{
	struct vhub_vring *vring = &receivers[0].run.pub;
	struct vhub_net_port port;
	struct vhub_device *device;

	(void)state;
	device = begin_with_device(&port);
	driver_ops.opened = count_opened;
	n_opened = n_opened_anew = 0;
	for (unsigned int session = 0; session < 2; session++) {
		assert_int_equal(device->ops->queue_prepare(device, vring), 0);
		assert_int_equal(device->ops->queue_start(vring), 0);
		assert_true(turn(device, vring, true));
		assert_false(move(device, vring, 0));
		assert_true(move(device, vring, 1));
		/* Closed by its guest when it begins to move. */
		vring->enabled = false;
		turn(device, vring, true);
		assert_true(move(device, vring, 0));
		net_set_link(net_dev_of(device), false);
		device->ops->queue_poll(vring);
		net_set_link(net_dev_of(device), true);
		assert_true(turn(device, vring, true));
		/* It stops, as for a move. */
		turn(device, vring, false);
		device->ops->queue_stop(vring);
		device->ops->queue_release(device, vring);
	}
	device->ops->destroy(device);
	end();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_same_views_go_to_several_guests),
		cmocka_unit_test(test_headers_that_are_there_or_not),
		cmocka_unit_test(test_each_guest_gets_what_it_takes),
		cmocka_unit_test(test_a_receiver_changes_between_two_turns),
		cmocka_unit_test(test_a_receiver_that_takes_nothing),
		cmocka_unit_test(test_views_without_room_wait_for_it),
		cmocka_unit_test(test_no_more_views_wait_than_may),
		cmocka_unit_test(test_some_views_of_a_burst),
		cmocka_unit_test(test_views_that_are_completed_keep_their_order),
		cmocka_unit_test(test_what_is_kept_is_an_mbuf),
		cmocka_unit_test(test_segments_are_held_to_the_mtu),
		cmocka_unit_test_setup_teardown(test_what_a_sender_has_cut_in_a_turn_is_bounded,
				test_start_poll, test_stop_lcores),
		cmocka_unit_test_setup_teardown(test_what_a_sender_has_cut_in_vain_is_bounded,
				test_start_poll, test_stop_lcores),
		cmocka_unit_test(test_what_waits_for_room_leaves_memory_to_others),
		cmocka_unit_test(test_nothing_waits_for_a_ring_that_is_not_open),
		cmocka_unit_test(test_a_ring_that_moves_is_not_opened_anew),
	};

	return cmocka_run_group_tests(tests, test_group_setup, test_group_teardown);
}
