/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who gets an answer: every request, done, refused and not supported, with and without need_reply
 * and REPLY_ACK, against the rules of the specification written down once more by hand.
 */
#include "answer.h"
#include "conn_fixture.h"

#define REFUSED (-EINVAL)

static struct vhub_request
make_request(uint32_t request, bool need_reply)
{
	struct vhub_request req = { .reply_fd = -1 };

	req.header.request = request;
	req.header.flags = VHUB_USER_VERSION | (need_reply ? VHUB_USER_NEED_REPLY : 0);
	memset(&req.payload, 0xa5, sizeof(req.payload));
	return req;
}

static void
assert_ack(const struct vhub_request *req, uint64_t value)
{
	assert_int_equal(req->reply_size_bytes, 8);
	assert_int_equal(req->reply.u64, value);
	for (size_t i = 8; i < sizeof(req->reply); i++)
		assert_int_equal(req->reply.bytes[i], 0);
}

/* Requests of which "Communication" and the message types say that they have a reply. */
static bool
has_reply(uint32_t request)
{
	const uint32_t replied[] = { 1, 11, 15, 17, 22, 24, 26, 28, 30, 31, 36, 40, 41, 42, 43, 44,
		45 };

	for (size_t i = 0; i < sizeof(replied) / sizeof(replied[0]); i++) {
		if (replied[i] == request)
			return true;
	}
	return false;
}

/* Of those, the ones whose reply can say that the request has failed. */
static bool
reply_can_tell_failure(uint32_t request)
{
	return request == 22 || request == 24 || request == 30 || request == 41 || request == 42 ||
			request == 43;
}

static void
test_what_is_done(void **state)
{
	struct conn_answer_terms terms;
	struct vhub_request req;
	bool asked;

	(void)state;
	for (uint32_t request = 1; request < VHUB_USER_REQUEST_MAX; request++) {
		for (int i = 0; i < 8; i++) {
			terms = (struct conn_answer_terms){ .supported = true,
				.reply_ack = (i & 2) != 0,
				.protocol_features = (i & 4) != 0 ? VHUB_USER_PF(LOG_SHMFD) : 0 };
			req = make_request(request, (i & 1) != 0);
			asked = (i & 3) == 3;
			if (has_reply(request)) {
				/* need_reply and REPLY_ACK bring "no behavioural change". */
				req.reply.u64 = 77;
				req.reply_size_bytes = 8;
				assert_int_equal(conn_answer(&req, &terms), 1);
				assert_ack(&req, 77);
			} else if (asked || (request == VHUB_USER_SET_LOG_BASE && (i & 4) != 0)) {
				assert_int_equal(conn_answer(&req, &terms), 1);
				assert_ack(&req, 0);
			} else {
				assert_int_equal(conn_answer(&req, &terms), 0);
			}
		}
	}
}

static void
assert_error_reply(const struct vhub_request *req)
{
	switch (req->header.request) {
	case VHUB_USER_GET_CONFIG:	  /* "zero length of payload to indicate an error" */
	case VHUB_USER_GET_SHARED_OBJECT: /* "or no fd otherwise" */
		assert_int_equal(req->reply_size_bytes, 0);
		assert_int_equal(req->reply_fd, -1);
		break;
	case VHUB_USER_SET_DEVICE_STATE_FD: /* bits 0-7 the error, bit 8 no fd */
		assert_int_equal(req->reply_size_bytes, 8);
		assert_true((req->reply.u64 & 0xff) != 0);
		assert_int_equal(req->reply.u64 >> 8, 1);
		assert_int_equal(req->reply_fd, -1);
		break;
	default:
		assert_int_equal(req->reply_size_bytes, 8);
		assert_true(req->reply.u64 != 0);
	}
}

static void
test_what_is_refused(void **state)
{
	struct conn_answer_terms terms;
	struct vhub_request req;
	bool asked;

	(void)state;
	for (uint32_t request = 1; request < VHUB_USER_REQUEST_MAX; request++) {
		for (int i = 0; i < 8; i++) {
			terms = (struct conn_answer_terms){ .result = REFUSED,
				.supported = true,
				.reply_ack = (i & 2) != 0,
				.protocol_features = (i & 4) != 0 ? VHUB_USER_PF(LOG_SHMFD) : 0 };
			req = make_request(request, (i & 1) != 0);
			asked = (i & 3) == 3 || (request == VHUB_USER_SET_LOG_BASE && (i & 4) != 0);
			if (!has_reply(request) && asked) {
				assert_int_equal(conn_answer(&req, &terms), 1);
				assert_ack(&req, EINVAL);
			} else if (reply_can_tell_failure(request)) {
				assert_int_equal(conn_answer(&req, &terms), 1);
				assert_error_reply(&req);
			} else {
				assert_int_equal(conn_answer(&req, &terms), REFUSED);
			}
		}
	}
}

static void
test_what_is_not_supported(void **state)
{
	struct conn_answer_terms terms;
	struct vhub_request req;

	(void)state;
	for (uint32_t request = 0; request < VHUB_USER_REQUEST_MAX + 3; request++) {
		for (int i = 0; i < 4; i++) {
			terms = (struct conn_answer_terms){ .result = -ENOTSUP,
				.reply_ack = (i & 2) != 0 };
			req = make_request(request, (i & 1) != 0);
			if (reply_can_tell_failure(request)) {
				assert_int_equal(conn_answer(&req, &terms), 1);
				assert_error_reply(&req);
			} else if (i == 3) {
				assert_int_equal(conn_answer(&req, &terms), 1);
				assert_ack(&req, ENOTSUP);
			} else {
				assert_int_equal(conn_answer(&req, &terms), -ENOTSUP);
			}
		}
	}
}

static void
test_a_refusing_slot_may_fill_the_reply_itself(void **state)
{
	const struct conn_answer_terms terms = { .result = REFUSED, .supported = true };
	struct vhub_request req;

	(void)state;
	for (uint32_t request = 1; request < VHUB_USER_REQUEST_MAX; request++) {
		if (!has_reply(request))
			continue;
		req = make_request(request, false);
		req.reply.u64 = 0xbad;
		req.reply_size_bytes = 24;
		assert_int_equal(conn_answer(&req, &terms), 1);
		assert_int_equal(req.reply_size_bytes, 24);
		assert_int_equal(req.reply.u64, 0xbad);
	}
}

/* Every errno is an error, also one whose low 8 bits are zero. */
static void
test_device_state_errors_are_never_zero(void **state)
{
	const int results[] = { -1, -EIO, -255, -256, -512, -4095 };
	struct conn_answer_terms terms = { .supported = true };
	struct vhub_request req;

	(void)state;
	for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
		terms.result = results[i];
		req = make_request(VHUB_USER_SET_DEVICE_STATE_FD, false);
		assert_int_equal(conn_answer(&req, &terms), 1);
		assert_error_reply(&req);
	}
}

static void
test_an_error_carries_no_fd_and_nothing_of_a_half_made_reply(void **state)
{
	const unsigned int n_fds = count_fds();
	const struct conn_answer_terms terms = { .result = REFUSED,
		.supported = false,
		.reply_ack = true };
	struct vhub_request req = make_request(VHUB_USER_GET_INFLIGHT_FD, true);

	(void)state;
	memset(&req.reply, 0x5a, sizeof(req.reply));
	req.reply_size_bytes = 24;
	req.reply_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(conn_answer(&req, &terms), 1);
	assert_ack(&req, EINVAL);
	assert_int_equal(req.reply_fd, -1);
	assert_fds(n_fds);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_done),
		cmocka_unit_test(test_what_is_refused),
		cmocka_unit_test(test_what_is_not_supported),
		cmocka_unit_test(test_a_refusing_slot_may_fill_the_reply_itself),
		cmocka_unit_test(test_device_state_errors_are_never_zero),
		cmocka_unit_test(test_an_error_carries_no_fd_and_nothing_of_a_half_made_reply),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
