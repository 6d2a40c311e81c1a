/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The stock request handler and the state machine under it: a front end on one thread, the control
 * loop on another, a device that holds what it takes, with queues on two lcores.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "frontend.h"
#include "handler_pvt.h"
#include "holding_device.h"
#include "scene.h"
#include "vhub_work.h"

static struct vhub_loop *loop;
static struct hold_device hold;

/* Serves the front end that `fn` plays; returns the result of the run. */
static int
run_scene(void (*fn)(struct fe *fe))
{
	return scene_run(loop, &hold.dev, fn);
}

static int
setup(void **state)
{
	(void)state;
	failed = NULL;
	hold_init(&hold, loop);
	return 0;
}

/* ---- rings on two lcores ---- */

static void
play_two_lcores(struct fe *fe)
{
	fe_negotiate(fe);
	fe_check(fe_start_ring(fe, 0) == 0);
	fe_check(fe_start_ring(fe, 1) == 0);
	fe_offer(fe, 0);
	fe_offer(fe, 1);
	fe_check(fe_wait_used(fe, 0, 1));
	fe_check(fe_wait_used(fe, 1, 1));
	fe_check(hold.queues[0].lcore_id == vhub_lcore_id(vhub_lcore_at(0)));
	fe_check(hold.queues[1].lcore_id == vhub_lcore_id(vhub_lcore_at(1)));
	fe_check(fe_get_base(fe, 1) == 1);
	fe_check(hold.running);
	fe_check(fe_get_base(fe, 0) == 1);
	fe_check(!hold.running);
}

static void
test_queues_are_served_by_their_own_lcores(void **state)
{
	(void)state;
	assert_int_equal(run_scene(play_two_lcores), 0);
	assert_null(failed);
	assert_int_equal(hold.queues[0].stops, 1);
	assert_int_equal(hold.queues[1].stops, 1);
	assert_int_equal(hold.running_changes, 2);
}

/* ---- draining ---- */

/* Whether the front end is answered within `ms`. */
static bool
answered(struct fe *fe, int ms)
{
	struct pollfd pfd = { fe->sock, POLLIN, 0 };

	return poll(&pfd, 1, ms) == 1;
}

static void
play_stop_waits(struct fe *fe)
{
	struct vhub_user_vring_state state = { 0, 0 };

	fe_negotiate(fe);
	fe_start_ring(fe, 0);
	__atomic_store_n(&hold.holding, 1, __ATOMIC_RELEASE);
	fe_offer(fe, 0);
	fe_offer(fe, 0);
	fe_check(hold_wait(&hold, 0, 2));
	fe_send(fe, VHUB_USER_GET_VRING_BASE, &state, sizeof(state), NULL, 0);
	fe_check(!answered(fe, 50));
	fe_check(hold.queues[0].stops == 0);
	fe_offer(fe, 0); /* not taken any more */
	hold_let_go(&hold);
	fe_recv(fe, &state, sizeof(state));
	fe_check(state.num == 2);
	fe_check(fe_used(fe, 0) == 2);
	/* Started again where it stopped, it takes the third. */
	fe_check(fe_set_u64(fe, VHUB_USER_SET_VRING_KICK, VHUB_USER_VRING_NOFD) == 0);
	fe_check(fe_wait_used(fe, 0, 3));
}

static void
test_a_stop_waits_for_what_is_in_flight(void **state)
{
	(void)state;
	assert_int_equal(run_scene(play_stop_waits), 0);
	assert_null(failed);
}

static void
play_disconnect_in_flight(struct fe *fe)
{
	fe_negotiate(fe);
	fe_start_ring(fe, 0);
	fe_start_ring(fe, 1);
	fe_offer(fe, 1);
	fe_check(fe_wait_used(fe, 1, 1));
	__atomic_store_n(&hold.holding, 1, __ATOMIC_RELEASE);
	fe_offer(fe, 0);
	fe_check(hold_wait(&hold, 0, 1));
	hold_let_go_soon(&hold);
}

/* Ring 1 has drained long before ring 0: it must not be stopped before ring 0 has drained too. */
static void
test_all_rings_drain_before_any_stops(void **state)
{
	(void)state;
	assert_int_equal(run_scene(play_disconnect_in_flight), 0);
	assert_null(failed);
	assert_int_equal(hold.queues[0].stops, 1);
	assert_int_equal(hold.queues[1].stops, 1);
	assert_false(hold.queues[0].others_in_flight);
	assert_false(hold.queues[1].others_in_flight);
	assert_int_equal(hold.resets, 1);
}

static void
play_not_yet(struct fe *fe)
{
	fe_negotiate(fe);
	hold.not_yet = 5;
	fe_check(fe_start_ring(fe, 0) == 0);
	fe_check(hold.not_yet == 0);
	fe_offer(fe, 0);
	fe_check(fe_wait_used(fe, 0, 1));
	fe_check(fe_get_base(fe, 0) == 1);
	hold.not_yet = 1000000;
	fe_check(fe_set_u64(fe, VHUB_USER_SET_VRING_KICK, VHUB_USER_VRING_NOFD) == EAGAIN);
}

/* An image whose lock somebody else has gets another look for a second. */
static void
test_a_device_that_cannot_run_yet_is_asked_again(void **state)
{
	(void)state;
	assert_int_equal(scene_run(loop, &hold.dev, play_not_yet), 0);
	assert_null(failed);
	assert_int_equal(hold.running_changes, 2);
}

static void
play_slow_locks(struct fe *fe)
{
	hold.lock_waits_for_ctl = true;
	fe_negotiate(fe);
	fe_check(fe_start_ring(fe, 0) == 0);
	fe_check(hold.locked);
	fe_check(hold.running);
	fe_check(fe_get_base(fe, 0) == 0);
	fe_check(!hold.locked);
	fe_check(fe_start_ring(fe, 0) == 0);
	fe_check(hold.locked);
}

/* A network file system's server answers when it likes. */
static void
test_locks_of_an_image_hold_up_nobody_else(void **state)
{
	(void)state;
	assert_int_equal(scene_run(loop, &hold.dev, play_slow_locks), 0);
	assert_null(failed);
	assert_false(hold.locked);
	assert_int_equal(hold.ctl_stood_still, 0);
	assert_int_equal(hold.running_changes, 4);
}

static void
end_session(struct vhub_msg *msg)
{
	(void)msg;
	vhub_session_end(hold.dev.handler->session, 0, "the test says so");
}

static struct vhub_msg end_msg = { .fn = end_session };

#define MANY_TRIES 1000000

/* Has the start of a ring go on for as long as it may. */
static void
start_in_vain(struct fe *fe)
{
	const uint64_t kick = VHUB_USER_VRING_NOFD;

	fe_negotiate(fe);
	fe_setup_ring(fe, 0);
	hold.not_yet = MANY_TRIES;
	fe_send(fe, VHUB_USER_SET_VRING_KICK, &kick, sizeof(kick), NULL, 0);
	usleep(50000);
}

static void
play_end_in_vain(struct fe *fe)
{
	uint64_t ack = 0;

	start_in_vain(fe);
	vhub_loop_post(loop, &end_msg);
	fe_recv(fe, &ack, sizeof(ack));
	fe_check(ack == EAGAIN);
}

/* Neither a front end that has left nor the end of vhubd waits for somebody's lock. */
static void
test_no_more_tries_when_the_session_ends(void **state)
{
	(void)state;
	assert_int_equal(scene_run(loop, &hold.dev, start_in_vain), 0);
	assert_in_range(MANY_TRIES - hold.not_yet, 1, 99);
	assert_int_equal(scene_run(loop, &hold.dev, play_end_in_vain), 0);
	assert_null(failed);
	assert_in_range(MANY_TRIES - hold.not_yet, 1, 99);
}

/* ---- memory ---- */

static void
play_memory_changes(struct fe *fe)
{
	struct vhub_user_mem_table table = {
		.n_regions = 1,
		.regions = { { FE_GPA, FE_MEM_BYTES / 2, FE_UVA, 0 } },
	};

	fe_negotiate(fe);
	fe_start_ring(fe, 0);
	fe_start_ring(fe, 1);
	__atomic_store_n(&hold.holding, 1, __ATOMIC_RELEASE);
	fe_offer(fe, 0);
	fe_check(hold_wait(&hold, 0, 1));
	fe_send(fe, VHUB_USER_SET_MEM_TABLE, &table, 40, &fe->mem_fd, 1);
	fe_check(!answered(fe, 50));
	hold_let_go(&hold);
	fe_check(fe_recv(fe, &table, sizeof(table)) == 8);
	fe_offer(fe, 0);
	fe_offer(fe, 1);
	fe_check(fe_wait_used(fe, 0, 2));
	fe_check(fe_wait_used(fe, 1, 1));
}

static void
test_a_new_memory_table_waits_for_what_is_in_flight(void **state)
{
	(void)state;
	assert_int_equal(run_scene(play_memory_changes), 0);
	assert_null(failed);
}

static void
play_memory_without_rings(struct fe *fe)
{
	struct vhub_user_mem_table none = { .n_regions = 0 };

	fe_negotiate(fe);
	fe_start_ring(fe, 0);
	fe_check(fe_ack(fe, VHUB_USER_SET_MEM_TABLE, &none, 8, NULL, 0) == EFAULT);
	fe_offer(fe, 0);
	fe_check(fe_wait_used(fe, 0, 1));
}

static void
test_a_table_without_the_running_ring_is_refused(void **state)
{
	(void)state;
	assert_int_equal(run_scene(play_memory_without_rings), 0);
	assert_null(failed);
}

/* ---- a ring that breaks ---- */

static void
play_broken(struct fe *fe)
{
	uint64_t zero = 0;
	int err_fd = eventfd(0, 0);
	eventfd_t value;

	fe_negotiate(fe);
	fe_setup_ring(fe, 0);
	fe_check(fe_ack(fe, VHUB_USER_SET_VRING_ERR, &zero, sizeof(zero), &err_fd, 1) == 0);
	fe_set_u64(fe, VHUB_USER_SET_VRING_KICK, VHUB_USER_VRING_NOFD);
	fe_start_ring(fe, 1);
	fe_offer_at(fe, 0, 0x1000); /* not in guest memory */
	fe_check(eventfd_read(err_fd, &value) == 0);
	fe_offer(fe, 1);
	fe_check(fe_wait_used(fe, 1, 1));
	fe_check(fe_used(fe, 0) == 0);
	/* Stopped, mended and started again it works. */
	fe_check(fe_get_base(fe, 0) == 0);
	memset(fe->mem + 0x400, 0, 0x20);
	fe_offer(fe, 0);
	fe_check(fe_set_u64(fe, VHUB_USER_SET_VRING_KICK, VHUB_USER_VRING_NOFD) == 0);
	fe_check(fe_wait_used(fe, 0, 1));
	close(err_fd);
}

static void
test_a_broken_ring_tells_and_the_others_go_on(void **state)
{
	(void)state;
	assert_int_equal(run_scene(play_broken), 0);
	assert_null(failed);
}

/* ---- back-end channel ---- */

static pthread_t ctl;
static uint32_t n_questions, n_questions_on_ctl;

int
__real_socket(int domain, int type, int protocol);
int
__wrap_socket(int domain, int type, int protocol);

/* A socket to ask the kernel about others. */
int
__wrap_socket(int domain, int type, int protocol)
{
	if (domain == AF_NETLINK) {
		__atomic_add_fetch(&n_questions, 1, __ATOMIC_RELAXED);
		if (pthread_equal(pthread_self(), ctl))
			__atomic_add_fetch(&n_questions_on_ctl, 1, __ATOMIC_RELAXED);
	}
	return __real_socket(domain, type, protocol);
}

static void
play_channel(struct fe *fe)
{
	int channel[2];

	fe_check(socketpair(AF_UNIX, SOCK_STREAM, 0, channel) == 0);
	fe_negotiate(fe);
	fe_check(fe_ack(fe, VHUB_USER_SET_BACKEND_REQ_FD, NULL, 0, &channel[1], 1) == 0);
	fe_check(fe_ack(fe, VHUB_USER_SET_BACKEND_REQ_FD, NULL, 0, &fe->sock, 1) == EINVAL);
	close(channel[0]);
	close(channel[1]);
}

/* The kernel looks through all sockets of the host for the one at the other end. */
static void
test_the_control_thread_does_not_ask_whose_the_channel_is(void **state)
{
	(void)state;
	ctl = pthread_self();
	n_questions = 0;
	n_questions_on_ctl = 0;
	assert_int_equal(run_scene(play_channel), 0);
	assert_null(failed);
	assert_int_equal(n_questions, 2);
	assert_int_equal(n_questions_on_ctl, 0);
}

static void
change_config(struct vhub_msg *msg)
{
	(void)msg;
	vhub_device_config_changed(&hold.dev);
}

static struct vhub_msg config_msg = { .fn = change_config };

static void
play_config_change(struct fe *fe)
{
	struct vhub_user_header header;
	struct pollfd pfd;
	int channel[2];

	fe_check(socketpair(AF_UNIX, SOCK_STREAM, 0, channel) == 0);
	fe_negotiate(fe);
	fe_check(fe_ack(fe, VHUB_USER_SET_BACKEND_REQ_FD, NULL, 0, &channel[1], 1) == 0);
	vhub_loop_post(loop, &config_msg);
	pfd = (struct pollfd){ channel[0], POLLIN, 0 };
	fe_check(poll(&pfd, 1, 50) == 0); /* suspended: silent */
	fe_start_ring(fe, 0);
	fe_check(recv(channel[0], &header, sizeof(header), MSG_WAITALL) == (ssize_t)sizeof(header));
	fe_check(header.request == VHUB_USER_BACKEND_CONFIG_CHANGE_MSG && header.size == 0);
	fe_check(header.flags == VHUB_USER_VERSION);
	close(channel[0]);
	close(channel[1]);
}

static void
test_a_config_change_is_told_once_the_device_runs(void **state)
{
	(void)state;
	assert_int_equal(run_scene(play_config_change), 0);
	assert_null(failed);
}

static int rest_channel[2];
static bool sent_in_rest;

static void
change_config_in_a_rest(struct vhub_msg *msg)
{
	struct pollfd pfd = { rest_channel[0], POLLIN, 0 };

	(void)msg;
	vhub_session_charge(hold.dev.handler->session, 300000);
	vhub_device_config_changed(&hold.dev);
	sent_in_rest = poll(&pfd, 1, 0) != 0;
}

static struct vhub_msg rest_msg = { .fn = change_config_in_a_rest };

static void
play_config_change_in_a_rest(struct fe *fe)
{
	struct vhub_user_header header;

	fe_check(socketpair(AF_UNIX, SOCK_STREAM, 0, rest_channel) == 0);
	fe_negotiate(fe);
	fe_check(fe_ack(fe, VHUB_USER_SET_BACKEND_REQ_FD, NULL, 0, &rest_channel[1], 1) == 0);
	fe_start_ring(fe, 0);
	vhub_loop_post(loop, &rest_msg);
	fe_check(recv(rest_channel[0], &header, sizeof(header), MSG_WAITALL) ==
			(ssize_t)sizeof(header));
	fe_check(header.request == VHUB_USER_BACKEND_CONFIG_CHANGE_MSG);
	fe_check(!sent_in_rest);
	close(rest_channel[0]);
	close(rest_channel[1]);
}

/* To send on the channel may cost what the session rests for. */
static void
test_a_config_change_waits_for_the_end_of_a_rest(void **state)
{
	(void)state;
	assert_int_equal(run_scene(play_config_change_in_a_rest), 0);
	assert_null(failed);
}

/* ---- status and reset ---- */

static void
play_reset(struct fe *fe)
{
	fe_negotiate(fe);
	fe_start_ring(fe, 0);
	fe_check(fe_set_u64(fe, VHUB_USER_SET_STATUS, 0xf) == 0);
	fe_check(fe_get_u64(fe, VHUB_USER_GET_STATUS) == 0xf);
	fe_check(fe_set_u64(fe, VHUB_USER_SET_STATUS, 0) == 0);
	fe_check(fe_get_u64(fe, VHUB_USER_GET_STATUS) == 0);
	/* FEATURES_OK does not stay before features have been accepted. */
	fe_set_u64(fe, VHUB_USER_SET_STATUS, 0xb);
	fe_check(fe_get_u64(fe, VHUB_USER_GET_STATUS) == 0x3);
	/* Owner, protocol features and memory are still there: features and a ring are enough. */
	fe_check(fe_ack(fe, VHUB_USER_SET_OWNER, NULL, 0, NULL, 0) == EALREADY);
	fe_check(fe_set_u64(fe, VHUB_USER_SET_FEATURES, UINT64_C(1) << 32) == 0);
	fe_check(fe_start_ring(fe, 0) != 0); /* SET_VRING_ENABLE needs bit 30, the rest is fine */
	memset(fe->mem, 0, FE_RING_STRIDE);
	fe_offer(fe, 0);
	fe_check(fe_wait_used(fe, 0, 1)); /* without bit 30 every ring is enabled */
}

static void
test_a_reset_keeps_what_it_must(void **state)
{
	(void)state;
	assert_int_equal(run_scene(play_reset), 0);
	assert_null(failed);
	assert_int_equal(hold.resets, 2);
}

/* ---- what a former life of the ring left in flight ---- */

/* Of the vhost-user specification, "Inflight I/O tracking": a split ring's part of the region. */
struct split_region {
	uint64_t features;
	uint16_t version;
	uint16_t desc_num;
	uint16_t last_batch_head;
	uint16_t used_idx;
	struct {
		uint8_t inflight;
		uint8_t padding[5];
		uint16_t next;
		uint64_t counter;
	} desc[FE_RING_SIZE];
};

/* Ring 0 as a back end left it that died with its first request in flight. */
static void
leave_in_flight(struct fe *fe)
{
	struct vhub_user_inflight shape = { .num_queues = 1, .queue_size = FE_RING_SIZE };
	int fd = memfd_create("inflight", 0);
	struct split_region region = { .version = 1, .desc_num = FE_RING_SIZE };

	region.desc[0].inflight = 1;
	region.desc[0].counter = 1;
	shape.mmap_size_bytes = 4096;
	fe_check(ftruncate(fd, 4096) == 0);
	fe_check(pwrite(fd, &region, sizeof(region), 0) == (ssize_t)sizeof(region));
	fe_check(fe_ack(fe, VHUB_USER_SET_INFLIGHT_FD, &shape, sizeof(shape), &fd, 1) == 0);
	close(fd);
	fe_offer(fe, 0);
}

static void
play_stop_before_replay(struct fe *fe)
{
	struct vhub_user_vring_state disable = { 0, 0 };

	fe_negotiate(fe);
	leave_in_flight(fe);
	fe_offer(fe, 0); /* this one was not taken before the crash */
	fe_setup_ring(fe, 0);
	fe_check(fe_ack(fe, VHUB_USER_SET_VRING_ENABLE, &disable, sizeof(disable), NULL, 0) == 0);
	fe_check(fe_set_u64(fe, VHUB_USER_SET_VRING_KICK, VHUB_USER_VRING_NOFD) == 0);
	fe_check(fe_used(fe, 0) == 0);
	fe_check(fe_get_base(fe, 0) == 1);
	fe_check(fe_used(fe, 0) == 1);
}

static void
test_a_stop_completes_what_a_former_life_left_in_flight(void **state)
{
	(void)state;
	assert_int_equal(run_scene(play_stop_before_replay), 0);
	assert_null(failed);
}

/* ---- the device's byte behind the inflight region ---- */

/* As lib/device/req_inflight.c lays it out. */
struct kept_region {
	uint8_t parts[HOLD_QUEUES][sizeof(struct split_region) / 64 * 64 + 64];
	char magic[8];
	uint8_t version;
	uint8_t byte;
	uint8_t zero[54];
};

static const struct kept_region kept_example = {
	.magic = { 'v', 'h', 'u', 'b', 'k', 'e', 'p', 't' },
	.version = 1,
	.byte = 0x5a,
};

/* Returns the file, which is still ours. */
static int
set_kept_region(struct fe *fe, const struct kept_region *region, size_t mmap_bytes)
{
	struct vhub_user_inflight shape = { .num_queues = HOLD_QUEUES, .queue_size = FE_RING_SIZE };
	int fd = memfd_create("inflight", 0);

	shape.mmap_size_bytes = mmap_bytes;
	fe_check(pwrite(fd, region, sizeof(*region), 0) == (ssize_t)sizeof(*region));
	fe_check(fe_ack(fe, VHUB_USER_SET_INFLIGHT_FD, &shape, sizeof(shape), &fd, 1) == 0);
	return fd;
}

static uint8_t
byte_in(int fd)
{
	uint8_t byte = 0;

	fe_check(pread(fd, &byte, 1, offsetof(struct kept_region, byte)) == 1);
	return byte;
}

static void
play_kept(struct fe *fe)
{
	struct {
		uint32_t offset, size, flags;
		uint8_t byte;
	} __attribute__((packed)) config = { 0, 1, 0, 0x77 };
	int fd;

	fe_negotiate(fe);
	fd = set_kept_region(fe, &kept_example, sizeof(kept_example));
	fe_check(hold.recalls == 1 && hold.kept == 0x5a);
	fe_check(byte_in(fd) == 0x5a);
	fe_check(fe_ack(fe, VHUB_USER_SET_CONFIG, &config, sizeof(config), NULL, 0) == 0);
	fe_check(hold.kept == 0x77);
	fe_check(byte_in(fd) == 0x77);
	/* Whatever else has changed it is noted before a ring starts. */
	hold.kept = 0x12;
	fe_start_ring(fe, 0);
	fe_check(byte_in(fd) == 0x12);
	config.byte = 0x34;
	fe_check(fe_ack(fe, VHUB_USER_SET_CONFIG, &config, sizeof(config), NULL, 0) == 0);
	fe_check(byte_in(fd) == 0x34);
	fe_check(fe_set_u64(fe, VHUB_USER_SET_STATUS, 0) == 0);
	fe_check(byte_in(fd) == 0x34);
	fe_check(hold.recalls == 1);
	close(fd);
}

static void
test_a_byte_is_kept_behind_the_inflight_region(void **state)
{
	(void)state;
	assert_int_equal(run_scene(play_kept), 0);
	assert_null(failed);
}

/* Regions of another back end, of another version, and one that ends before. */
static void
play_not_kept(struct fe *fe)
{
	struct kept_region other = kept_example, later = kept_example, none;
	int fd[4];

	memset(&none, 0, sizeof(none));
	other.magic[7]++;
	later.version++;
	fe_negotiate(fe);
	hold.kept = 0x12;
	fd[0] = set_kept_region(fe, &other, sizeof(other));
	fd[1] = set_kept_region(fe, &later, sizeof(later));
	fd[2] = set_kept_region(fe, &kept_example, sizeof(kept_example) - 1);
	fd[3] = set_kept_region(fe, &none, sizeof(none));
	fe_check(hold.recalls == 0 && hold.kept == 0x12);
	fe_start_ring(fe, 0);
	fe_check(byte_in(fd[0]) == 0x5a && byte_in(fd[1]) == 0x5a && byte_in(fd[2]) == 0x5a);
	fe_check(byte_in(fd[3]) == 0);
	for (unsigned int i = 0; i < 4; i++)
		close(fd[i]);
}

static void
test_other_regions_keep_no_byte_and_stay_as_they_are(void **state)
{
	(void)state;
	assert_int_equal(run_scene(play_not_kept), 0);
	assert_null(failed);
}

/* ---- a front end that blocks an lcore ---- */

static void
play_blocking_err_fd(struct fe *fe)
{
	const uint64_t zero = 0, almost_all = UINT64_MAX - 1;
	int err_fd = eventfd(0, 0);
	char byte;

	fe_check(write(err_fd, &almost_all, sizeof(almost_all)) == (ssize_t)sizeof(almost_all));
	fe_negotiate(fe);
	fe_setup_ring(fe, 0);
	fe_check(fe_ack(fe, VHUB_USER_SET_VRING_ERR, &zero, sizeof(zero), &err_fd, 1) == 0);
	fe_set_u64(fe, VHUB_USER_SET_VRING_KICK, VHUB_USER_VRING_NOFD);
	fe_offer_at(fe, 0, 0x1000); /* not in guest memory: the ring breaks */
	fe_check(recv(fe->sock, &byte, 1, 0) == 0);
	close(err_fd);
}

static void
test_who_blocks_an_lcore_loses_the_session(void **state)
{
	(void)state;
	assert_int_equal(run_scene(play_blocking_err_fd), -ETIMEDOUT);
	assert_null(failed);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_queues_are_served_by_their_own_lcores, setup),
		cmocka_unit_test_setup(test_a_stop_waits_for_what_is_in_flight, setup),
		cmocka_unit_test_setup(test_all_rings_drain_before_any_stops, setup),
		cmocka_unit_test_setup(test_a_device_that_cannot_run_yet_is_asked_again, setup),
		cmocka_unit_test_setup(test_locks_of_an_image_hold_up_nobody_else, setup),
		cmocka_unit_test_setup(test_no_more_tries_when_the_session_ends, setup),
		cmocka_unit_test_setup(test_a_new_memory_table_waits_for_what_is_in_flight, setup),
		cmocka_unit_test_setup(test_a_table_without_the_running_ring_is_refused, setup),
		cmocka_unit_test_setup(test_a_broken_ring_tells_and_the_others_go_on, setup),
		cmocka_unit_test_setup(test_the_control_thread_does_not_ask_whose_the_channel_is,
				setup),
		cmocka_unit_test_setup(test_a_config_change_is_told_once_the_device_runs, setup),
		cmocka_unit_test_setup(test_a_config_change_waits_for_the_end_of_a_rest, setup),
		cmocka_unit_test_setup(test_a_reset_keeps_what_it_must, setup),
		cmocka_unit_test_setup(test_a_stop_completes_what_a_former_life_left_in_flight,
				setup),
		cmocka_unit_test_setup(test_a_byte_is_kept_behind_the_inflight_region, setup),
		cmocka_unit_test_setup(test_other_regions_keep_no_byte_and_stay_as_they_are, setup),
		cmocka_unit_test_setup(test_who_blocks_an_lcore_loses_the_session, setup),
	};
	int ret;

	if (scene_begin(&loop) != 0)
		return 1;
	ret = cmocka_run_group_tests(tests, NULL, NULL);
	scene_end(loop);
	return ret;
}
