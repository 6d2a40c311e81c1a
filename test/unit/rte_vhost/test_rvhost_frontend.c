/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Messages on the private socket, whose other end is the test's in place of the library's.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#include "rvhost.h"

struct message {
	struct vhub_user_header header;
	uint64_t u64;
} __attribute__((packed));

static struct vhub_device port = { .name = "port" };
static struct rvhost_path path;
static int library_fd;

static int
begin(void **state)
{
	int fds[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	path = (struct rvhost_path){ .dev = &port, .fd = fds[0] };
	library_fd = fds[1];
	return 0;
}

static int
end(void **state)
{
	(void)state;
	close(path.fd);
	close(library_fd);
	return 0;
}

static void
answer(uint32_t request, uint64_t refused)
{
	const struct message message = {
		.header = { request, VHUB_USER_VERSION | VHUB_USER_REPLY, sizeof(refused) },
		.u64 = refused,
	};

	assert_int_equal(write(library_fd, &message, sizeof(message)), sizeof(message));
}

static int
tell(uint32_t request)
{
	const uint64_t payload = 7;

	return rvhost_tell(&path, request, &payload, sizeof(payload), NULL, 0);
}

/* Whether the library has a message, which it reads. */
static bool
was_told(uint32_t request)
{
	struct message message;

	return recv(library_fd, &message, sizeof(message), MSG_DONTWAIT) ==
			(ssize_t)sizeof(message) &&
			message.header.request == request;
}

static void
test_what_is_refused_is_told_and_the_next_goes_on(void **state)
{
	(void)state;
	answer(VHUB_USER_IOTLB_MSG, 1);
	assert_int_equal(tell(VHUB_USER_IOTLB_MSG), -EIO);
	answer(VHUB_USER_IOTLB_MSG, 0);
	assert_int_equal(tell(VHUB_USER_IOTLB_MSG), 0);
	assert_true(was_told(VHUB_USER_IOTLB_MSG));
	assert_true(was_told(VHUB_USER_IOTLB_MSG));
}

static void
test_nothing_is_said_when_an_answer_was_lost(void **state)
{
	(void)state;
	answer(VHUB_USER_SET_OWNER, 0);
	assert_int_equal(tell(VHUB_USER_IOTLB_MSG), -EPROTO);
	assert_true(was_told(VHUB_USER_IOTLB_MSG));
	/* The one that was meant comes late, and is not taken for that of the next. */
	answer(VHUB_USER_IOTLB_MSG, 0);
	assert_int_equal(tell(VHUB_USER_IOTLB_MSG), -EPROTO);
	assert_int_equal(rvhost_fence(&path), -EPROTO);
	assert_false(was_told(VHUB_USER_IOTLB_MSG));
}

/* When it has been looked for twice, and in two halves with another look in between. */
static void *
answer_late(void *arg)
{
	const struct message message = {
		.header = { VHUB_USER_IOTLB_MSG, VHUB_USER_VERSION | VHUB_USER_REPLY, 8 },
	};
	const uint8_t *bytes = (const uint8_t *)&message;

	while (__atomic_load_n(&path.n_looks, __ATOMIC_RELAXED) < 2)
		usleep(1000);
	if (!rvhost_waits(&path) || write(library_fd, bytes, 7) != 7)
		return NULL;
	while (__atomic_load_n(&path.n_looks, __ATOMIC_RELAXED) < 4)
		usleep(1000);
	return write(library_fd, bytes + 7, sizeof(message) - 7) > 0 ? arg : NULL;
}

static void
test_a_late_answer_is_waited_for(void **state)
{
	const struct timeval look = { .tv_usec = 10000 };
	pthread_t thread;
	void *result;

	assert_int_equal(setsockopt(path.fd, SOL_SOCKET, SO_RCVTIMEO, &look, sizeof(look)), 0);
	assert_int_equal(pthread_create(&thread, NULL, answer_late, state), 0);
	assert_int_equal(tell(VHUB_USER_IOTLB_MSG), 0);
	pthread_join(thread, &result);
	assert_ptr_equal(result, state);
	assert_false(rvhost_waits(&path));
}

int
main(void)
{
#define SOCKET_TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		SOCKET_TEST(test_what_is_refused_is_told_and_the_next_goes_on),
		SOCKET_TEST(test_nothing_is_said_when_an_answer_was_lost),
		SOCKET_TEST(test_a_late_answer_is_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
