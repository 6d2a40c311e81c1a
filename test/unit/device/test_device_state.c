/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The state of a device that a migration carries: what is saved and loaded, what is refused, and a
 * channel that cannot be read at once, while another front end wants to be served.
 */
#include <errno.h>
#include <poll.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "frontend.h"
#include "holding_device.h"
#include "scene.h"

#define SAVE 0
#define LOAD 1
#define NO_FD UINT64_C(0x100)
#define STATE_MAX_BYTES 65536

static struct vhub_loop *loop;
static struct hold_device hold, other;

static int
setup(void **state)
{
	(void)state;
	failed = NULL;
	hold_init(&hold, loop);
	hold_init(&other, loop);
	return 0;
}

/* ---- a channel that does not answer, as with pages that were swapped out ---- */

static bool stuck; /* shared atomic: what is read next is */
static sem_t read_begins, read_may_end;
static uint32_t n_given_up; /* shared atomic: reads that waited in vain */

static bool
wait_for(sem_t *sem)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += 5;
	return sem_timedwait(sem, &end) == 0;
}

/* By both names, of which one is used: it depends on how long the host's off_t is. */
ssize_t
__real_pread(int fd, void *buf, size_t len, off_t offset);
ssize_t
__wrap_pread(int fd, void *buf, size_t len, off_t offset);
ssize_t
__real_pread64(int fd, void *buf, size_t len, off_t offset);
ssize_t
__wrap_pread64(int fd, void *buf, size_t len, off_t offset);

static void
read_is_stuck(void)
{
	if (!__atomic_exchange_n(&stuck, false, __ATOMIC_ACQ_REL))
		return;
	sem_post(&read_begins);
	if (!wait_for(&read_may_end))
		__atomic_add_fetch(&n_given_up, 1, __ATOMIC_RELAXED);
}

ssize_t
__wrap_pread(int fd, void *buf, size_t len, off_t offset)
{
	read_is_stuck();
	return __real_pread(fd, buf, len, offset);
}

ssize_t
__wrap_pread64(int fd, void *buf, size_t len, off_t offset)
{
	read_is_stuck();
	return __real_pread64(fd, buf, len, offset);
}

/* The next read begins, and ends when read_may_end is posted. */
static void
get_stuck(void)
{
	sem_init(&read_begins, 0, 0);
	sem_init(&read_may_end, 0, 0);
	__atomic_store_n(&n_given_up, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&stuck, true, __ATOMIC_RELEASE);
}

/* ---- the front end's part ---- */

/* Asks for a channel; returns it, -1 when the answer says that there is none. */
static int
open_channel(struct fe *fe, uint32_t direction)
{
	struct vhub_user_device_state params = { direction, 0 };
	struct {
		struct vhub_user_header header;
		uint64_t value;
	} __attribute__((packed)) reply;
	char control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { &reply, sizeof(reply) };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control) };
	int pipe_fds[2], fd = -1;

	fe_check(pipe(pipe_fds) == 0);
	fe_send(fe, VHUB_USER_SET_DEVICE_STATE_FD, &params, sizeof(params), pipe_fds, 1);
	if (recvmsg(fe->sock, &msg, MSG_WAITALL) != (ssize_t)sizeof(reply))
		fe_die("recvmsg");
	if (CMSG_FIRSTHDR(&msg) != NULL)
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	fe_check(fd >= 0 ? reply.value == 0 : (reply.value & NO_FD) != 0);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	return fd;
}

static uint64_t
load_bytes(struct fe *fe, const void *buf, size_t len)
{
	int fd = open_channel(fe, LOAD);

	fe_check(pwrite(fd, buf, len, 0) == (ssize_t)len);
	close(fd);
	return fe_get_u64(fe, VHUB_USER_CHECK_DEVICE_STATE);
}

/* ---- what is saved and loaded ---- */

static void
play_save_and_load(struct fe *fe)
{
	static const uint8_t much[STATE_MAX_BYTES + 1];
	uint8_t byte = 0;
	int fd;

	fe_negotiate(fe);
	fe_check(fe_get_u64(fe, VHUB_USER_CHECK_DEVICE_STATE) == EINVAL); /* of nothing */
	hold.state = 0x5a;
	fd = open_channel(fe, SAVE);
	fe_check(fe_get_u64(fe, VHUB_USER_CHECK_DEVICE_STATE) == 0);
	fe_check(read(fd, &byte, 1) == 1 && byte == 0x5a);
	close(fd);
	byte = 0x77;
	fe_check(load_bytes(fe, &byte, 1) == 0);
	fe_check(hold.state == 0x77);
	/* It was closed: there is nothing to be checked any more. */
	fe_check(fe_get_u64(fe, VHUB_USER_CHECK_DEVICE_STATE) == EINVAL);
	fe_check(load_bytes(fe, much, 0) == EINVAL);
	fe_check(load_bytes(fe, much, 2) == EINVAL);
	fe_check(load_bytes(fe, much, sizeof(much)) == EINVAL);
	fe_check(hold.state == 0x77);
}

static void
test_a_state_is_saved_and_loaded_once(void **state)
{
	(void)state;
	assert_int_equal(scene_run(loop, &hold.dev, play_save_and_load), 0);
	assert_null(failed);
}

/* Longer than any file that a state could be: nothing behind the longest state is read. */
static void
play_sparse(struct fe *fe)
{
	int fd;

	fe_negotiate(fe);
	fd = open_channel(fe, LOAD);
	fe_check(ftruncate(fd, INT64_MAX) == 0);
	close(fd);
	fe_check(fe_get_u64(fe, VHUB_USER_CHECK_DEVICE_STATE) == EINVAL);
}

static void
test_an_endless_state_is_refused(void **state)
{
	(void)state;
	assert_int_equal(scene_run(loop, &hold.dev, play_sparse), 0);
	assert_null(failed);
}

/* ---- a channel that is slow ---- */

static void
begin_stuck_check(struct fe *fe)
{
	const uint8_t byte = 0x33;
	int fd;

	fe_negotiate(fe);
	fd = open_channel(fe, LOAD);
	fe_check(pwrite(fd, &byte, 1, 0) == 1);
	close(fd);
	get_stuck();
	fe_send(fe, VHUB_USER_CHECK_DEVICE_STATE, NULL, 0, NULL, 0);
	fe_check(wait_for(&read_begins));
}

/* Another device, whose front end comes meanwhile. */
struct neighbour {
	struct vhub_msg msg;
	struct vhub_connection *connection;
	sem_t over;
	int result;
};

static void
neighbour_left(void *arg, int result)
{
	struct neighbour *neighbour = arg;

	neighbour->result = result;
	sem_post(&neighbour->over);
}

static void
neighbour_comes(struct vhub_msg *msg)
{
	struct neighbour *neighbour = vhub_container_of(msg, struct neighbour, msg);

	if (vhub_run_backend(neighbour->connection, &other.dev, &other.dev.executor, neighbour_left,
			    neighbour) != 0)
		neighbour_left(neighbour, -EINVAL);
}

/* From its first message to the end of its session. */
static void
neighbour_is_served(void)
{
	struct neighbour neighbour = { .msg.fn = neighbour_comes };
	const struct timeval patience = { .tv_sec = 20 };
	struct fe fe;
	int sock[2];

	sem_init(&neighbour.over, 0, 0);
	fe_check(socketpair(AF_UNIX, SOCK_STREAM, 0, sock) == 0);
	fe_check(vhub_connection_from_fd(sock[1], &neighbour.connection) == 0);
	vhub_loop_post(loop, &neighbour.msg);
	fe_init(&fe, sock[0]);
	/* So that a loop that ends before it has come is a failure, and no wait without an end. */
	setsockopt(sock[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	fe_negotiate(&fe);
	fe_check(fe_start_ring(&fe, 0) == 0);
	fe_offer(&fe, 0);
	fe_check(fe_wait_used(&fe, 0, 1));
	fe_check(fe_get_base(&fe, 0) == 1);
	fe_fini(&fe);
	fe_check(wait_for(&neighbour.over));
	fe_check(neighbour.result == 0);
}

static void
play_slow_channel(struct fe *fe)
{
	struct pollfd pfd = { fe->sock, POLLIN, 0 };
	uint64_t value;

	begin_stuck_check(fe);
	/* Its own next request comes after the check. */
	fe_send(fe, VHUB_USER_GET_QUEUE_NUM, NULL, 0, NULL, 0);
	neighbour_is_served();
	fe_check(poll(&pfd, 1, 0) == 0);
	sem_post(&read_may_end);
	fe_recv(fe, &value, sizeof(value));
	fe_check(value == 0);
	fe_check(hold.state == 0x33);
	fe_recv(fe, &value, sizeof(value));
	fe_check(value == HOLD_QUEUES);
}

static void
test_a_channel_that_does_not_answer_holds_up_nobody_else(void **state)
{
	(void)state;
	assert_int_equal(scene_run(loop, &hold.dev, play_slow_channel), 0);
	assert_int_equal(n_given_up, 0);
	assert_null(failed);
}

static void
play_leaving(struct fe *fe)
{
	begin_stuck_check(fe);
	shutdown(fe->sock, SHUT_RDWR);
	neighbour_is_served();
	sem_post(&read_may_end);
}

/* The channel is read to its end, and closed with the session. */
static void
test_a_front_end_may_leave_while_its_channel_does_not_answer(void **state)
{
	(void)state;
	assert_int_equal(scene_run(loop, &hold.dev, play_leaving), 0);
	assert_int_equal(n_given_up, 0);
	assert_null(failed);
	assert_int_equal(hold.resets, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_a_state_is_saved_and_loaded_once, setup),
		cmocka_unit_test_setup(test_an_endless_state_is_refused, setup),
		cmocka_unit_test_setup(test_a_channel_that_does_not_answer_holds_up_nobody_else,
				setup),
		cmocka_unit_test_setup(test_a_front_end_may_leave_while_its_channel_does_not_answer,
				setup),
	};
	int ret;

	if (scene_begin(&loop) != 0)
		return 1;
	ret = cmocka_run_group_tests(tests, NULL, NULL);
	scene_end(loop);
	return ret;
}
