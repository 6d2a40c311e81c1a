/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Services of a port (net/services.h): which packets of a burst go on, as views and as mbufs, and what is
 * counted of the others. Rates are so low that nothing more becomes due while a test runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../eal_fixture.h"
#include "capture.h"
#include "net_pvt.h"

/* Packets in a second. */
#define HARDLY_ANY 1
#define LONG_BURST 100000

static struct net_dev *dev;
static struct vhub_net_view views[VHUB_NET_BURST];

static int
begin(void **state)
{
	const size_t bytes = sizeof(struct net_dev) + sizeof(struct net_pair);
	unsigned int i;

	(void)state;
	dev = aligned_alloc(RTE_CACHE_LINE_SIZE, RTE_ALIGN_CEIL(bytes, RTE_CACHE_LINE_SIZE));
	assert_non_null(dev);
	memset(dev, 0, bytes);
	dev->pool = vhub_net_pool(-1);
	dev->guest_frame_bytes = NET_LONGEST_FRAME_BYTES;
	assert_non_null(dev->pool);
	dev->pairs[0].dev = dev;
	memset(views, 0, sizeof(views));
	for (i = 0; i < VHUB_NET_BURST; i++) {
		views[i].bytes = 100 + i;
		views[i].head_bytes = (uint16_t)RTE_MIN(views[i].bytes, VHUB_NET_HEAD_BYTES);
		views[i].head[0] = (uint8_t)i;
	}
	return 0;
}

static int
end(void **state)
{
	(void)state;
	assert_int_equal(rte_mempool_in_use_count(vhub_net_pool(-1)), 0);
	free(dev);
	return 0;
}

static void
limit(enum vhub_net_limit which, uint64_t value)
{
	dev->services.qos.limits[which] = value;
	net_limit_set(&dev->services, &dev->services.qos);
}

static uint64_t
dropped(enum vhub_net_drop why)
{
	return dev->pairs[0].counters.drops[why];
}

/* ---- limits ---- */

static void
test_a_port_without_limits_has_no_service(void **state)
{
	(void)state;
	assert_false(net_is_served(dev, NET_FROM_GUEST));
	limit(VHUB_NET_LIMIT_FROM_PACKETS, 5);
	assert_true(net_is_served(dev, NET_FROM_GUEST));
	assert_false(net_is_served(dev, NET_TO_GUEST));
	limit(VHUB_NET_LIMIT_FROM_PACKETS, 0);
	limit(VHUB_NET_LIMIT_FROM_PACKETS_BURST, 5);
	assert_false(net_is_served(dev, NET_FROM_GUEST));
	limit(VHUB_NET_LIMIT_TO_BYTES, 5000);
	assert_false(net_is_served(dev, NET_FROM_GUEST));
	assert_true(net_is_served(dev, NET_TO_GUEST));
}

static void
test_packets_over_the_limit_are_dropped(void **state)
{
	struct net_pair *pair = &dev->pairs[0];

	(void)state;
	limit(VHUB_NET_LIMIT_FROM_PACKETS, HARDLY_ANY);
	limit(VHUB_NET_LIMIT_FROM_PACKETS_BURST, 70);
	assert_int_equal(net_serve_views(pair, NET_FROM_GUEST, views, UINT64_MAX), UINT64_MAX);
	/* Six are left, in whichever places. */
	assert_int_equal(net_serve_views(pair, NET_FROM_GUEST, views, 0xff00ff00u), 0x3f00u);
	assert_int_equal(dropped(VHUB_NET_DROP_RATE_FROM), 10);
	assert_int_equal(net_serve_views(pair, NET_FROM_GUEST, views, 1), 0);
	/* The other direction has a limit of its own: none. */
	assert_int_equal(net_serve_views(pair, NET_TO_GUEST, views, UINT64_MAX), UINT64_MAX);
	assert_int_equal(dropped(VHUB_NET_DROP_RATE_TO), 0);
	limit(VHUB_NET_LIMIT_FROM_PACKETS, 0);
	assert_int_equal(net_serve_views(pair, NET_FROM_GUEST, views, UINT64_MAX), UINT64_MAX);
}

static void
test_a_small_packet_passes_where_a_large_one_does_not(void **state)
{
	struct net_pair *pair = &dev->pairs[0];

	(void)state;
	limit(VHUB_NET_LIMIT_TO_BYTES, VHUB_NET_MIN_BYTES);
	limit(VHUB_NET_LIMIT_TO_BYTES_BURST, LONG_BURST);
	views[0].bytes = 65000;
	views[1].bytes = 35001;
	views[2].bytes = 34000;
	/* There are 1000 left, and the next 1000 take two seconds. */
	views[3].bytes = 2000;
	assert_int_equal(net_serve_views(pair, NET_TO_GUEST, views, 0xf), 0x5);
	assert_int_equal(dropped(VHUB_NET_DROP_RATE_TO), 2);
}

static void
test_any_burst_has_room_for_the_longest_frame(void **state)
{
	(void)state;
	limit(VHUB_NET_LIMIT_FROM_BYTES, VHUB_NET_MIN_BYTES);
	limit(VHUB_NET_LIMIT_FROM_BYTES_BURST, 1);
	views[0].bytes = VHUB_NET_MTU_MAX + VHUB_NET_FRAME_OVERHEAD;
	assert_int_equal(net_serve_views(&dev->pairs[0], NET_FROM_GUEST, views, 0x1), 0x1);
}

static void
test_what_one_limit_drops_the_other_does_not_charge(void **state)
{
	struct net_pair *pair = &dev->pairs[0];

	(void)state;
	limit(VHUB_NET_LIMIT_FROM_PACKETS, HARDLY_ANY);
	limit(VHUB_NET_LIMIT_FROM_PACKETS_BURST, 4);
	limit(VHUB_NET_LIMIT_FROM_BYTES, VHUB_NET_MIN_BYTES);
	limit(VHUB_NET_LIMIT_FROM_BYTES_BURST, LONG_BURST);
	views[0].bytes = views[1].bytes = 60000;
	views[2].bytes = 45000;
	assert_int_equal(net_serve_views(pair, NET_FROM_GUEST, views, 0x7), 0x1);
	assert_int_equal(net_serve_views(pair, NET_FROM_GUEST, views, 0xff0), 0x70);
	assert_int_equal(dropped(VHUB_NET_DROP_RATE_FROM), 2 + 5);
}

/* The same as if the TSC went back by a day. */
static void
test_a_clock_that_goes_back_begins_limits_anew(void **state)
{
	struct vhub_meter *m = &dev->services.limits[NET_FROM_GUEST].packets;
	struct net_pair *pair = &dev->pairs[0];

	(void)state;
	limit(VHUB_NET_LIMIT_FROM_PACKETS, HARDLY_ANY);
	limit(VHUB_NET_LIMIT_FROM_PACKETS_BURST, 10);
	assert_int_equal(net_serve_views(pair, NET_FROM_GUEST, views, 0xffff), 0x3ff);
	m->next += 86400 * rte_get_tsc_hz();
	m->moved_tsc += 86400 * rte_get_tsc_hz();
	/* Once. */
	assert_int_equal(net_serve_views(pair, NET_FROM_GUEST, views, 0xffff), 0x3ff);
	assert_int_equal(net_serve_views(pair, NET_FROM_GUEST, views, 0xffff), 0);
}

static void
test_limits_out_of_bounds_are_refused(void **state)
{
	struct vhub_net_qos qos = { 0 };
	char error[256];

	(void)state;
	assert_int_equal(net_limit_check(&qos, error, sizeof(error)), 0);
	qos.limits[VHUB_NET_LIMIT_TO_BYTES] = VHUB_NET_MIN_BYTES - 1;
	assert_int_equal(net_limit_check(&qos, error, sizeof(error)), -EINVAL);
	assert_non_null(strstr(error, "to_guest_bytes_per_s=511"));
	qos.limits[VHUB_NET_LIMIT_TO_BYTES] = VHUB_NET_MAX_BYTES;
	qos.limits[VHUB_NET_LIMIT_FROM_PACKETS_BURST] = VHUB_NET_MAX_PACKETS;
	assert_int_equal(net_limit_check(&qos, error, sizeof(error)), 0);
	qos.limits[VHUB_NET_LIMIT_FROM_PACKETS_BURST]++;
	assert_int_equal(net_limit_check(&qos, error, sizeof(error)), -EINVAL);
	assert_non_null(strstr(error, "from_guest_packets_burst=1000000001"));
}

/* ---- frame sizes ---- */

static void
count_sizes(void)
{
	net_services_set(&dev->services, NET_TO_GUEST, NET_SERVES_SIZES, NET_SERVES_SIZES);
}

static void
test_each_size_is_in_its_class(void **state)
{
	static const struct {
		uint32_t first, last;
	} classes[NET_SIZE_CLASSES] = { { 14, 63 }, { 64, 64 }, { 65, 127 }, { 128, 255 },
		{ 256, 511 }, { 512, 1023 }, { 1024, 1518 },
		{ 1519, VHUB_NET_MTU_MAX + VHUB_NET_FRAME_OVERHEAD } };
	const uint64_t *sizes = dev->pairs[0].counters.sizes[NET_TO_GUEST];
	uint32_t bytes;
	unsigned int i;

	(void)state;
	count_sizes();
	for (i = 0; i < NET_SIZE_CLASSES; i++) {
		for (bytes = classes[i].first; bytes <= classes[i].last; bytes++) {
			views[5].bytes = bytes;
			net_serve_views(&dev->pairs[0], NET_TO_GUEST, views, UINT64_C(1) << 5);
		}
		assert_int_equal(sizes[i], classes[i].last - classes[i].first + 1);
	}
	/* A whole burst of one class. */
	for (i = 0; i < VHUB_NET_BURST; i++)
		views[i].bytes = 64;
	net_serve_views(&dev->pairs[0], NET_TO_GUEST, views, UINT64_MAX);
	assert_int_equal(sizes[1], 1 + VHUB_NET_BURST);
	assert_int_equal(sizes[2], 63);
}

/* Of five lengths those that pass are counted, as views in a row, views here and there, and mbufs. */
static void
test_those_that_pass_are_counted(void **state)
{
	static const uint32_t lengths[5] = { 60, 1518, 30000, 200, 1519 };
	const uint64_t *sizes = dev->pairs[0].counters.sizes[NET_TO_GUEST];
	struct net_pair *pair = &dev->pairs[0];
	struct rte_mbuf *pkts[5];
	unsigned int i;

	(void)state;
	count_sizes();
	/* Twice for all, and then for the short ones and one of 1518. */
	limit(VHUB_NET_LIMIT_TO_BYTES, VHUB_NET_MIN_BYTES);
	limit(VHUB_NET_LIMIT_TO_BYTES_BURST, 68500);
	assert_int_equal(rte_pktmbuf_alloc_bulk(dev->pool, pkts, RTE_DIM(pkts)), 0);
	for (i = 0; i < RTE_DIM(pkts); i++) {
		views[i].bytes = views[10 + 2 * i].bytes = lengths[i];
		pkts[i]->pkt_len = lengths[i];
	}
	assert_int_equal(net_serve_views(pair, NET_TO_GUEST, views, 0x1f), 0x1f);
	assert_int_equal(net_serve_views(pair, NET_TO_GUEST, views, UINT64_C(0x155) << 10),
			UINT64_C(0x155) << 10);
	assert_int_equal(net_serve_mbufs(pair, NET_TO_GUEST, pkts, RTE_DIM(pkts)), 3);
	assert_int_equal(sizes[0], 3);
	assert_int_equal(sizes[3], 3);
	assert_int_equal(sizes[6], 3);
	assert_int_equal(sizes[7], 4);
	assert_int_equal(sizes[1] + sizes[2] + sizes[4] + sizes[5], 0);
	rte_pktmbuf_free_bulk(pkts, 3);
}

/* ---- the other end of a mirror ---- */

static void
find_figure(void *arg, const char *name, uint64_t value)
{
	if (strcmp(name, "mirror_dropped_closed") == 0)
		*(uint64_t *)arg = value;
}

/* They have left the mirrored port; its guest has stopped taking packets meanwhile. */
static void
test_copies_that_are_too_late_are_told_of_at_the_mirror(void **state)
{
	struct rte_mbuf *pkts[3];
	uint64_t late = 0;

	(void)state;
	assert_int_equal(vhub_net_inbox_create(-1, &dev->services.inbox), 0);
	assert_int_equal(rte_pktmbuf_alloc_bulk(dev->pool, pkts, RTE_DIM(pkts)), 0);
	vhub_net_inbox_send(dev->services.inbox, pkts, RTE_DIM(pkts));
	net_stats_of_pair(&dev->pairs[0], find_figure, &late);
	assert_int_equal(late, RTE_DIM(pkts));
	vhub_net_inbox_destroy(dev->services.inbox);
}

/* The frame goes on. */
static void
test_a_copy_without_memory_is_no_drop_of_the_port(void **state)
{
	struct rte_mempool *pool = rte_pktmbuf_pool_create("one", 1, 0, 0,
			RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	struct net_frames frames = { .views = views };
	struct rte_mbuf *m, *copy;

	(void)state;
	assert_non_null(pool);
	m = rte_pktmbuf_alloc(pool);
	assert_non_null(m);
	assert_non_null(rte_pktmbuf_append(m, 60));
	dev->pool = pool;
	assert_int_equal(net_copy_frames(&dev->pairs[0], &frames, 1, &copy), 0);
	frames = (struct net_frames){ .pkts = &m };
	assert_int_equal(net_copy_frames(&dev->pairs[0], &frames, 1, &copy), 0);
	assert_int_equal(dropped(VHUB_NET_DROP_NO_MBUF), 0);
	/* One that is too long for what there is leaves none behind. */
	rte_pktmbuf_free(m);
	frames = (struct net_frames){ .views = views };
	views[0].bytes = views[0].head_bytes + 4096;
	views[0].n_iov = 1;
	views[0].iov = &(struct iovec){ calloc(1, 4096), 4096 };
	assert_int_equal(net_copy_frames(&dev->pairs[0], &frames, 1, &copy), 0);
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
	free(views[0].iov->iov_base);
	rte_mempool_free(pool);
}

/* ---- captures ---- */

static uint64_t
file_bytes(const char *path)
{
	struct stat info;

	assert_int_equal(stat(path, &info), 0);
	return (uint64_t)info.st_size;
}

/* The time of day is one that goes somewhat faster, and is set. */
static int64_t clock_set_ns;

int
__real_clock_gettime(clockid_t id, struct timespec *now);
int
__wrap_clock_gettime(clockid_t id, struct timespec *now);

static uint64_t
clock_ns(void)
{
	const uint64_t begin = UINT64_C(1800000000) * NS_PER_S;
	struct timespec now;
	uint64_t ns;

	__real_clock_gettime(CLOCK_MONOTONIC, &now);
	ns = (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
	return begin + ns + ns / 1000 * 6 +
			(uint64_t)__atomic_load_n(&clock_set_ns, __ATOMIC_RELAXED);
}

int
__wrap_clock_gettime(clockid_t id, struct timespec *now)
{
	uint64_t ns;

	if (id != CLOCK_REALTIME)
		return __real_clock_gettime(id, now);
	ns = clock_ns();
	now->tv_sec = (time_t)(ns / NS_PER_S);
	now->tv_nsec = (long)(ns % NS_PER_S);
	return 0;
}

static char capture_path[] = "/tmp/vhub-capture-XXXXXX";

static void
capture_begin(uint64_t max_bytes)
{
	const struct vhub_net_capture set = { .path = capture_path,
		.snaplen_bytes = VHUB_NET_CAPTURE_MAX_SNAPLEN,
		.max_bytes = max_bytes,
		.from_guest = true };
	char error[256];

	dev->dev.ops = &net_uplink_ops;
	strcpy(dev->dev.name, "port0");
	strcpy(capture_path + strlen(capture_path) - 6, "XXXXXX");
	close(mkstemp(capture_path));
	unlink(capture_path);
	views[0].bytes = views[0].head_bytes;
	assert_int_equal(vhub_net_capture_start(&dev->dev, &set, error, sizeof(error)), 0);
	while (file_bytes(capture_path) == 0)
		usleep(1000);
}

static struct vhub_net_captured
capture_end(void)
{
	struct vhub_net_captured captured;
	char error[256];

	/* Its mbufs are taken back as soon as the thread has given them back. */
	__atomic_store_n(&dev->services.capture->ended, true, __ATOMIC_RELAXED);
	do
		net_serve_views(&dev->pairs[0], NET_FROM_GUEST, views, 0x1);
	while (rte_mempool_in_use_count(dev->pool) != 0 && usleep(1000) == 0);
	assert_int_equal(vhub_net_capture_stop(&dev->dev, &captured, error, sizeof(error)), 0);
	unlink(capture_path);
	return captured;
}

/* The thread that writes them frees none: it may lose its CPU in the middle of that, and have lcores wait. */
static void
test_what_is_written_is_freed_by_who_captures_next(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 8; i++)
		views[i].bytes = views[i].head_bytes;
	capture_begin(0);
	net_serve_views(&dev->pairs[0], NET_FROM_GUEST, views, 0xff);
	while (file_bytes(capture_path) < 8 * views[0].bytes)
		usleep(1000);
	assert_int_equal(rte_mempool_in_use_count(dev->pool), 8);
	__atomic_store_n(&dev->services.capture->ended, true, __ATOMIC_RELAXED);
	net_serve_views(&dev->pairs[0], NET_FROM_GUEST, views, 0x1);
	assert_int_equal(rte_mempool_in_use_count(dev->pool), 0);
	assert_int_equal(capture_end().packets, 8);
	assert_int_equal(dev->pairs[0].counters.captured, 8);
}

/* The time of one more frame, the last one in the file. */
static uint64_t
capture_one(void)
{
	const uint64_t before = file_bytes(capture_path);
	const int fd = open(capture_path, O_RDONLY | O_CLOEXEC);
	uint32_t length, time[2];
	off_t end;

	net_serve_views(&dev->pairs[0], NET_FROM_GUEST, views, 0x1);
	while (file_bytes(capture_path) == before)
		usleep(1000);
	end = (off_t)file_bytes(capture_path);
	assert_int_equal(pread(fd, &length, sizeof(length), end - 4), sizeof(length));
	assert_int_equal(pread(fd, time, sizeof(time), end - (off_t)length + 12), sizeof(time));
	close(fd);
	return (uint64_t)time[0] << 32 | time[1];
}

/* However the clock went since the capture began; the TSC goes on as before. */
static void
test_a_capture_has_the_time_of_the_clock(void **state)
{
	static const int64_t set_s[] = { 0, 3600, -7200 };
	const uint64_t off = NS_PER_S / 1000; /* who loses the CPU at the wrong time */
	const struct capture_moment *rate;
	uint64_t before, ns;
	double faster;

	(void)state;
	capture_begin(0);
	for (unsigned int i = 0; i < RTE_DIM(set_s); i++) {
		clock_set_ns += set_s[i] * (int64_t)NS_PER_S;
		usleep(500000);
		before = clock_ns();
		ns = capture_one();
		assert_in_range(ns, before - off, clock_ns() + off);
	}
	/* By its rate the time of frames is told that wait for a slow disk; DPDK's is off by two thousandths at most. */
	rate = &dev->services.capture->rate;
	faster = (double)rate->ns / NS_PER_S * (double)rte_get_tsc_hz() / (double)rate->tsc;
	assert_true(faster > 1.0035 && faster < 1.0085);
	/* Nothing comes before what came before it. */
	clock_set_ns -= NS_PER_S / 2;
	assert_true(capture_one() >= ns);
	assert_int_equal(capture_end().packets, RTE_DIM(set_s) + 1);
}

static void
test_the_end_of_a_capture_is_told(void **state)
{
	const struct rlimit short_files = { 200, RLIM_INFINITY };
	struct rlimit before;
	size_t n;
	char *text;
	FILE *log = open_memstream(&text, &n);

	(void)state;
	rte_openlog_stream(log);
	capture_begin(200);
	while (!__atomic_load_n(&dev->services.capture->ended, __ATOMIC_RELAXED)) {
		net_serve_views(&dev->pairs[0], NET_FROM_GUEST, views, 0x1);
		usleep(1000);
	}
	assert_int_equal(capture_end().error, 0);
	fflush(log);
	assert_non_null(strstr(text,
			"port0: the capture has ended: its file is as long as max_bytes"));

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	capture_begin(0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &short_files), 0);
	while (!__atomic_load_n(&dev->services.capture->ended, __ATOMIC_RELAXED)) {
		net_serve_views(&dev->pairs[0], NET_FROM_GUEST, views, 0x1);
		usleep(1000);
	}
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(capture_end().error, EFBIG);
	rte_openlog_stream(NULL);
	fclose(log);
	assert_non_null(strstr(text,
			"port0: the capture has ended: its file cannot be written: File too large"));
	free(text);
}

/* ---- forms of a burst ---- */

static void
test_those_that_pass_stay_in_order(void **state)
{
	struct net_pair *pair = &dev->pairs[0];
	struct rte_mbuf *pkts[8];
	unsigned int i;

	(void)state;
	limit(VHUB_NET_LIMIT_FROM_BYTES, VHUB_NET_MIN_BYTES);
	limit(VHUB_NET_LIMIT_FROM_BYTES_BURST, LONG_BURST);
	views[0].bytes = views[2].bytes = views[3].bytes = 60000;
	assert_int_equal(net_serve_own_views(pair, NET_FROM_GUEST, views, 6), 4);
	assert_int_equal(views[0].head[0], 0);
	assert_int_equal(views[1].head[0], 1);
	assert_int_equal(views[2].head[0], 4);
	assert_int_equal(views[3].head[0], 5);
	limit(VHUB_NET_LIMIT_FROM_BYTES, VHUB_NET_MIN_BYTES);
	assert_int_equal(rte_pktmbuf_alloc_bulk(dev->pool, pkts, RTE_DIM(pkts)), 0);
	for (i = 0; i < RTE_DIM(pkts); i++)
		pkts[i]->pkt_len = i % 2 == 0 ? 30000 : 64;
	assert_int_equal(net_serve_mbufs(pair, NET_FROM_GUEST, pkts, RTE_DIM(pkts)), 7);
	assert_int_equal(pkts[5]->pkt_len, 64);
	assert_int_equal(pkts[6]->pkt_len, 64);
	rte_pktmbuf_free_bulk(pkts, 7);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_port_without_limits_has_no_service, begin,
				end),
		cmocka_unit_test_setup_teardown(test_packets_over_the_limit_are_dropped, begin,
				end),
		cmocka_unit_test_setup_teardown(
				test_a_small_packet_passes_where_a_large_one_does_not, begin, end),
		cmocka_unit_test_setup_teardown(test_any_burst_has_room_for_the_longest_frame,
				begin, end),
		cmocka_unit_test_setup_teardown(test_what_one_limit_drops_the_other_does_not_charge,
				begin, end),
		cmocka_unit_test_setup_teardown(test_a_clock_that_goes_back_begins_limits_anew,
				begin, end),
		cmocka_unit_test_setup_teardown(test_limits_out_of_bounds_are_refused, begin, end),
		cmocka_unit_test_setup_teardown(test_each_size_is_in_its_class, begin, end),
		cmocka_unit_test_setup_teardown(test_those_that_pass_are_counted, begin, end),
		cmocka_unit_test_setup_teardown(test_a_copy_without_memory_is_no_drop_of_the_port,
				begin, end),
		cmocka_unit_test_setup_teardown(test_what_is_written_is_freed_by_who_captures_next,
				begin, end),
		cmocka_unit_test_setup_teardown(test_a_capture_has_the_time_of_the_clock, begin,
				end),
		cmocka_unit_test_setup_teardown(test_the_end_of_a_capture_is_told, begin, end),
		cmocka_unit_test_setup_teardown(
				test_copies_that_are_too_late_are_told_of_at_the_mirror, begin,
				end),
		cmocka_unit_test_setup_teardown(test_those_that_pass_stay_in_order, begin, end),
	};

	if (test_eal_init() != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
