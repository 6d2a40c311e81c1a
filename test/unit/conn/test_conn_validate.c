/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a message must be like: headers, sizes at their bounds for every request, fds, what payloads
 * say of themselves, and when a request may come.
 */
#include "conn_fixture.h"
#include "frame.h"
#include "validate.h"

static int
check_header(uint32_t request, uint32_t flags, uint32_t size, bool supported)
{
	const struct vhub_user_header header = { request, flags, size };
	struct conn_violation violation = { .text = "" };
	int ret = conn_validate_header(&header, supported, &violation);

	/* Whoever is refused is told why. */
	assert_int_equal(ret != 0, violation.text[0] != '\0');
	return ret;
}

static int
check_message(const struct vhub_request *req, uint32_t surplus)
{
	struct conn_violation violation = { .text = "" };
	int ret = conn_validate_message(req, surplus, &violation);

	assert_int_equal(ret != 0, violation.text[0] != '\0');
	return ret;
}

static void
test_version_and_reply_flag(void **state)
{
	(void)state;
	assert_int_equal(check_header(VHUB_USER_SET_OWNER, 0x1, 0, true), 0);
	assert_int_equal(check_header(VHUB_USER_SET_OWNER, 0x9, 0, true), 0);
	assert_int_equal(check_header(VHUB_USER_SET_OWNER, 0x0, 0, true), -EPROTO);
	assert_int_equal(check_header(VHUB_USER_SET_OWNER, 0x2, 0, true), -EPROTO);
	assert_int_equal(check_header(VHUB_USER_SET_OWNER, 0x3, 0, true), -EPROTO);
	assert_int_equal(check_header(VHUB_USER_SET_OWNER, 0x5, 0, true), -EPROTO);
	assert_int_equal(check_header(VHUB_USER_SET_OWNER, 0xd, 0, true), -EPROTO);
	/* The same for requests that are not supported. */
	assert_int_equal(check_header(1000, 0x2, 0, false), -EPROTO);
	assert_int_equal(check_header(1000, 0x5, 0, false), -EPROTO);
}

static bool
has_two_forms(uint32_t request)
{
	return request == VHUB_USER_SET_LOG_BASE || request == VHUB_USER_SET_LOG_FD ||
			request == VHUB_USER_SET_BACKEND_REQ_FD ||
			request == VHUB_USER_GET_INFLIGHT_FD ||
			request == VHUB_USER_SET_INFLIGHT_FD || request == VHUB_USER_IOTLB_MSG;
}

static void
test_sizes_of_every_request(void **state)
{
	const struct vhub_user_request_info *info;
	bool right;

	(void)state;
	for (uint32_t request = 1; request < VHUB_USER_REQUEST_MAX; request++) {
		info = vhub_user_request_info(request);
		for (uint32_t size = 0; size <= 520; size++) {
			right = size >= info->size_min_bytes && size <= info->size_max_bytes;
			if (has_two_forms(request))
				right = size == info->size_min_bytes ||
						size == info->size_max_bytes;
			assert_int_equal(check_header(request, 1, size, true), right ? 0 : -EPROTO);
		}
		assert_int_equal(check_header(request, 1, 0x10000, true), -EPROTO);
		assert_int_equal(check_header(request, 1, 0xffffffff, true), -EPROTO);
	}
}

static void
test_size_of_what_is_not_supported_has_one_bound(void **state)
{
	const uint32_t requests[] = { 0, VHUB_USER_POSTCOPY_ADVISE, VHUB_USER_REQUEST_MAX,
		0xffffffff };

	(void)state;
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		assert_int_equal(check_header(requests[i], 1, 0, false), 0);
		assert_int_equal(check_header(requests[i], 1, CONN_MAX_PAYLOAD_BYTES, false), 0);
		assert_int_equal(check_header(requests[i], 1, CONN_MAX_PAYLOAD_BYTES + 1, false),
				-EPROTO);
		assert_int_equal(check_header(requests[i], 1, 0xffffffff, false), -EPROTO);
	}
}

/* A request that is right but for what the test makes wrong. */
static struct vhub_request
make_request(uint32_t request, unsigned int n_fds)
{
	struct vhub_request req = { .reply_fd = -1 };

	req.header.request = request;
	req.header.flags = 1;
	req.header.size = vhub_user_request_info(request)->size_max_bytes;
	req.n_fds = n_fds;
	return req;
}

static void
test_fds_of_every_request(void **state)
{
	const struct vhub_user_request_info *info;
	struct vhub_request req;
	bool right;

	(void)state;
	for (uint32_t request = 1; request < VHUB_USER_REQUEST_MAX; request++) {
		info = vhub_user_request_info(request);
		for (unsigned int n = 0; n <= 10; n++) {
			req = make_request(request, n <= 8 ? n : 8);
			if (request == VHUB_USER_SET_MEM_TABLE)
				req.payload.mem.n_regions = n;
			if (n == 0)
				req.payload.u64 |= request >= 12 && request <= 14 ?
						VHUB_USER_VRING_NOFD :
						0;
			right = n >= info->fds_min && n <= info->fds_max;
			assert_int_equal(check_message(&req, n - req.n_fds), right ? 0 : -EPROTO);
		}
		req = make_request(request, 8);
		assert_int_equal(check_message(&req, UINT32_MAX), -EPROTO);
	}
}

static void
test_mem_table_counts_its_regions(void **state)
{
	struct vhub_request req;

	(void)state;
	for (uint32_t n = 0; n <= 8; n++) {
		req = make_request(VHUB_USER_SET_MEM_TABLE, n);
		req.payload.mem.n_regions = n;
		assert_int_equal(check_message(&req, 0), 0);
		req.header.size = 8 + 32 * n;
		assert_int_equal(check_message(&req, 0), 0);
		req.header.size = 8 + 32 * n - 1;
		assert_int_equal(check_message(&req, 0), -EPROTO);
		req.header.size = 8 + 32 * n;
		req.payload.mem.n_regions = n + 1; /* one region more than fds and bytes */
		assert_int_equal(check_message(&req, 0), -EPROTO);
		req.header.size = 264;
		assert_int_equal(check_message(&req, 0), -EPROTO);
	}
	/* Where 8 + 32 * n wraps round to something small. */
	req = make_request(VHUB_USER_SET_MEM_TABLE, 0);
	req.payload.mem.n_regions = 0x08000000;
	assert_int_equal(check_message(&req, 0), -EPROTO);
	req.payload.mem.n_regions = 0xffffffff;
	assert_int_equal(check_message(&req, 0), -EPROTO);
}

static void
test_vring_fds_and_the_flag_for_none(void **state)
{
	const uint32_t requests[] = { VHUB_USER_SET_VRING_KICK, VHUB_USER_SET_VRING_CALL,
		VHUB_USER_SET_VRING_ERR };
	struct vhub_request req;

	(void)state;
	for (int i = 0; i < 3; i++) {
		for (uint64_t index = 0; index <= 0xff; index++) {
			req = make_request(requests[i], 1);
			req.payload.u64 = index;
			assert_int_equal(check_message(&req, 0), 0);
			req.payload.u64 = index | 0x100;
			assert_int_equal(check_message(&req, 0), -EPROTO);
			req = make_request(requests[i], 0);
			req.payload.u64 = index;
			assert_int_equal(check_message(&req, 0), -EPROTO);
			req.payload.u64 = index | 0x100;
			assert_int_equal(check_message(&req, 0), 0);
		}
		/* An index of more than 8 bits is not the index in its low 8 bits. */
		for (int bit = 9; bit < 64; bit++) {
			req = make_request(requests[i], 1);
			req.payload.u64 = UINT64_C(1) << bit;
			assert_int_equal(check_message(&req, 0), -EPROTO);
		}
	}
}

static void
test_config_says_its_size(void **state)
{
	const uint32_t requests[] = { VHUB_USER_GET_CONFIG, VHUB_USER_SET_CONFIG };
	struct vhub_request req;

	(void)state;
	for (int i = 0; i < 2; i++) {
		for (uint32_t size = 0; size <= 256; size++) {
			req = make_request(requests[i], 0);
			req.payload.config.size = size;
			req.header.size = 12 + size;
			assert_int_equal(check_message(&req, 0), 0);
			req.payload.config.size = size + 1;
			assert_int_equal(check_message(&req, 0), -EPROTO);
			req.payload.config.size = UINT32_MAX - 11; /* 12 + size wraps to 0 */
			assert_int_equal(check_message(&req, 0), -EPROTO);
		}
	}
}

static void
test_inband_notifications_need_their_company(void **state)
{
	struct vhub_request req = make_request(VHUB_USER_SET_PROTOCOL_FEATURES, 0);

	(void)state;
	req.payload.u64 = VHUB_USER_PF(INBAND_NOTIFICATIONS) | VHUB_USER_PF(BACKEND_REQ) |
			VHUB_USER_PF(REPLY_ACK);
	assert_int_equal(check_message(&req, 0), 0);
	req.payload.u64 = VHUB_USER_PF(INBAND_NOTIFICATIONS) | VHUB_USER_PF(BACKEND_REQ);
	assert_int_equal(check_message(&req, 0), -EPROTO);
	req.payload.u64 = VHUB_USER_PF(INBAND_NOTIFICATIONS) | VHUB_USER_PF(REPLY_ACK);
	assert_int_equal(check_message(&req, 0), -EPROTO);
	req.payload.u64 = VHUB_USER_PF(MQ);
	assert_int_equal(check_message(&req, 0), 0);
}

static int
check_moment(struct fake *fake, struct vhub_request *req, bool f_protocol)
{
	const struct conn_agreed agreed = {
		.has_features = true,
		.f_protocol = f_protocol,
	};
	struct conn_violation violation = { .text = "" };
	int ret = conn_validate_moment(req, &fake->handler, &agreed, &violation);

	assert_int_equal(ret != 0, violation.text[0] != '\0');
	return ret;
}

static void
test_moments_of_every_request(void **state)
{
	struct fake fake;
	struct vhub_request req;
	uint32_t when;
	int expected;

	(void)state;
	fake_init(&fake);
	for (uint32_t request = 1; request < VHUB_USER_REQUEST_MAX; request++) {
		req = make_request(request, 0);
		when = vhub_user_request_info(request)->when;
		for (uint32_t now = 0; now < 8; now++) {
			fake.when = now & (VHUB_USER_WHEN_STOPPED | VHUB_USER_WHEN_MEMORY);
			expected = 0;
			if ((when & ~now & VHUB_USER_WHEN_MEMORY) != 0)
				expected = -EFAULT;
			if ((when & ~now & VHUB_USER_WHEN_STOPPED) != 0)
				expected = -EBUSY;
			if ((when & ~now & VHUB_USER_WHEN_F_PROTOCOL) != 0)
				expected = -EPERM;
			assert_int_equal(check_moment(&fake, &req,
							 (now & VHUB_USER_WHEN_F_PROTOCOL) != 0),
					expected);
		}
	}
}

static void
test_log_base_brings_its_fd_once_log_shmfd_is_negotiated(void **state)
{
	struct conn_agreed agreed;
	struct conn_violation violation;
	struct vhub_request req;
	struct fake fake;
	bool right;

	(void)state;
	fake_init(&fake);
	for (int i = 0; i < 8; i++) {
		agreed.protocol_features = (i & 1) != 0 ? VHUB_USER_PF(LOG_SHMFD) :
							  ~VHUB_USER_PF(LOG_SHMFD);
		req = make_request(VHUB_USER_SET_LOG_BASE, (i & 2) != 0 ? 1 : 0);
		req.header.size = (i & 4) != 0 ? 16 : 8;
		right = (i & 1) == 0 || i == 7;
		assert_int_equal(conn_validate_moment(&req, &fake.handler, &agreed, &violation),
				right ? 0 : -EBADF);
	}
}

static void
test_the_vring_that_is_asked_about(void **state)
{
	struct fake fake;
	struct vhub_request req;

	(void)state;
	fake_init(&fake);
	req = make_request(VHUB_USER_SET_VRING_NUM, 0);
	req.payload.state.index = 0x10003; /* whole: not cut to fewer bits */
	req.payload.state.num = 256;
	check_moment(&fake, &req, true);
	assert_int_equal(fake.when_index, 0x10003);
	req = make_request(VHUB_USER_SET_VRING_ADDR, 0);
	req.payload.addr.index = 0xfffffffe;
	check_moment(&fake, &req, true);
	assert_int_equal(fake.when_index, 0xfffffffe);
	req = make_request(VHUB_USER_SET_VRING_KICK, 0);
	req.payload.u64 = 0x1ff;
	check_moment(&fake, &req, true);
	assert_int_equal(fake.when_index, 0xff);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_version_and_reply_flag),
		cmocka_unit_test(test_sizes_of_every_request),
		cmocka_unit_test(test_size_of_what_is_not_supported_has_one_bound),
		cmocka_unit_test(test_fds_of_every_request),
		cmocka_unit_test(test_mem_table_counts_its_regions),
		cmocka_unit_test(test_vring_fds_and_the_flag_for_none),
		cmocka_unit_test(test_config_says_its_size),
		cmocka_unit_test(test_inband_notifications_need_their_company),
		cmocka_unit_test(test_moments_of_every_request),
		cmocka_unit_test(test_log_base_brings_its_fd_once_log_shmfd_is_negotiated),
		cmocka_unit_test(test_the_vring_that_is_asked_about),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
