/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The table of requests against a list written by hand from the specification's "Front-end message
 * types" (payloads) and "Communication" (fds and replies); and that each number reaches the slot of
 * its name.
 */
#include "conn_fixture.h"
#include "requests.h"

struct listed {
	uint32_t number;
	const char *name;
	unsigned int size_min, size_max; /* of the payload, as "Payload" draws it */
	unsigned int fds_min, fds_max;
	int feature;	   /* VHOST_USER_PROTOCOL_F_*, -1: none */
	const char *reply; /* "yes", "no", or the protocol feature on which it depends */
};

/*
 * u64: 8. Vring state: 4 + 4. Vring address: 4 + 4 + 4 * 8. Region: 4 * 8. Log: 2 * 8. Inflight: 2
 * * 8 + 2 * 2, 24 as C structure.
 */
static const struct listed specification[] = {
	{ 1, "GET_FEATURES", 0, 0, 0, 0, -1, "yes" },
	{ 2, "SET_FEATURES", 8, 8, 0, 0, -1, "no" },
	{ 3, "SET_OWNER", 0, 0, 0, 0, -1, "no" },
	{ 4, "RESET_OWNER", 0, 0, 0, 0, -1, "no" },
	{ 5, "SET_MEM_TABLE", 8, 8 + 8 * 32, 0, 8, -1, "no" },
	{ 6, "SET_LOG_BASE", 8, 16, 0, 1, -1, "LOG_SHMFD" },
	{ 7, "SET_LOG_FD", 0, 8, 0, 1, -1, "no" },
	{ 8, "SET_VRING_NUM", 8, 8, 0, 0, -1, "no" },
	{ 9, "SET_VRING_ADDR", 40, 40, 0, 0, -1, "no" },
	{ 10, "SET_VRING_BASE", 8, 8, 0, 0, -1, "no" },
	{ 11, "GET_VRING_BASE", 8, 8, 0, 0, -1, "yes" },
	{ 12, "SET_VRING_KICK", 8, 8, 0, 1, -1, "no" },
	{ 13, "SET_VRING_CALL", 8, 8, 0, 1, -1, "no" },
	{ 14, "SET_VRING_ERR", 8, 8, 0, 1, -1, "no" },
	{ 15, "GET_PROTOCOL_FEATURES", 0, 0, 0, 0, -1, "yes" },
	{ 16, "SET_PROTOCOL_FEATURES", 8, 8, 0, 0, -1, "no" },
	{ 17, "GET_QUEUE_NUM", 0, 0, 0, 0, -1, "yes" },
	{ 18, "SET_VRING_ENABLE", 8, 8, 0, 0, -1, "no" },
	{ 19, "SEND_RARP", 8, 8, 0, 0, 2, "no" },
	{ 20, "NET_SET_MTU", 8, 8, 0, 0, 4, "no" },
	{ 21, "SET_BACKEND_REQ_FD", 0, 8, 1, 1, 5, "no" },
	{ 22, "IOTLB_MSG", 26, 32, 0, 0, -1, "yes" },
	{ 23, "SET_VRING_ENDIAN", 8, 8, 0, 0, 6, "no" },
	{ 24, "GET_CONFIG", 12, 12 + 256, 0, 0, 9, "yes" },
	{ 25, "SET_CONFIG", 12, 12 + 256, 0, 0, 9, "no" },
	{ 26, "CREATE_CRYPTO_SESSION", 0, 512, 0, 0, 7, "yes" },
	{ 27, "CLOSE_CRYPTO_SESSION", 8, 8, 0, 0, 7, "no" },
	{ 28, "POSTCOPY_ADVISE", 0, 0, 0, 0, 8, "yes" },
	{ 29, "POSTCOPY_LISTEN", 0, 0, 0, 0, 8, "no" },
	{ 30, "POSTCOPY_END", 0, 0, 0, 0, 8, "yes" },
	{ 31, "GET_INFLIGHT_FD", 20, 24, 0, 0, 12, "yes" },
	{ 32, "SET_INFLIGHT_FD", 20, 24, 1, 1, 12, "no" },
	{ 33, "GPU_SET_SOCKET", 0, 0, 1, 1, -1, "no" },
	{ 34, "RESET_DEVICE", 0, 0, 0, 0, 13, "no" },
	{ 35, "VRING_KICK", 8, 8, 0, 0, 14, "no" },
	{ 36, "GET_MAX_MEM_SLOTS", 0, 0, 0, 0, 15, "yes" },
	{ 37, "ADD_MEM_REG", 8 + 32, 8 + 32, 1, 1, 15, "no" },
	{ 38, "REM_MEM_REG", 8 + 32, 8 + 32, 0, 1, 15, "no" },
	{ 39, "SET_STATUS", 8, 8, 0, 0, 16, "no" },
	{ 40, "GET_STATUS", 0, 0, 0, 0, 16, "yes" },
	{ 41, "GET_SHARED_OBJECT", 16, 16, 0, 0, 18, "yes" },
	{ 42, "SET_DEVICE_STATE_FD", 8, 8, 1, 1, 19, "yes" },
	{ 43, "CHECK_DEVICE_STATE", 0, 0, 0, 0, 19, "yes" },
	{ 44, "GET_SHMEM_CONFIG", 0, 0, 0, 0, 22, "yes" },
	{ 45, "GET_VRING_BASE_SKIP_DRAIN", 8, 8, 0, 0, 23, "yes" },
};

#define N_LISTED (sizeof(specification) / sizeof(specification[0]))

static const char *
answer_word(uint8_t answer)
{
	switch (answer) {
	case VHUB_USER_ANSWER_ACK:
		return "no";
	case VHUB_USER_ANSWER_REPLY:
		return "yes";
	case VHUB_USER_ANSWER_LOG:
		return "LOG_SHMFD";
	default:
		return "?";
	}
}

static void
test_table_is_the_specification(void **state)
{
	const struct vhub_user_request_info *info;

	(void)state;
	for (size_t i = 0; i < N_LISTED; i++) {
		info = vhub_user_request_info(specification[i].number);
		assert_non_null(info);
		assert_string_equal(info->name, specification[i].name);
		assert_int_equal(info->size_min_bytes, specification[i].size_min);
		assert_int_equal(info->size_max_bytes, specification[i].size_max);
		assert_int_equal(info->fds_min, specification[i].fds_min);
		assert_int_equal(info->fds_max, specification[i].fds_max);
		assert_int_equal(info->protocol_feature, specification[i].feature);
		assert_string_equal(answer_word(info->answer), specification[i].reply);
		assert_string_equal(conn_request_name(specification[i].number),
				specification[i].name);
	}
}

static void
test_numbers_beyond_the_specification_have_no_row(void **state)
{
	const uint32_t numbers[] = { 0, N_LISTED + 1, 255, 0x7fffffff, 0xffffffff };

	(void)state;
	assert_int_equal(VHUB_USER_REQUEST_MAX, N_LISTED + 1);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		assert_null(vhub_user_request_info(numbers[i]));
		assert_string_equal(conn_request_name(numbers[i]), "unknown request");
	}
}

static void
test_moments(void **state)
{
	(void)state;
	for (uint32_t request = 1; request < VHUB_USER_REQUEST_MAX; request++) {
		const uint32_t when = vhub_user_request_info(request)->when;

		switch (request) {
		case 8: /* SET_VRING_NUM, SET_VRING_BASE and SET_VRING_ENDIAN set up a ring */
		case 10:
		case 23:
			assert_int_equal(when, VHUB_USER_WHEN_STOPPED);
			break;
		case 9: /* SET_VRING_ADDR, SET_VRING_KICK and VRING_KICK point into memory */
		case 12:
		case 35:
			assert_int_equal(when, VHUB_USER_WHEN_MEMORY);
			break;
		case 18: /* "only when VHOST_USER_F_PROTOCOL_FEATURES has been negotiated" */
			assert_int_equal(when, VHUB_USER_WHEN_F_PROTOCOL);
			break;
		default:
			assert_int_equal(when, VHUB_USER_WHEN_ANY);
		}
	}
}

/* Sizes as the specification's tables add up, which the compiler must not pad. */
static void
test_payloads_have_their_size_on_the_wire(void **state)
{
	(void)state;
	assert_int_equal(sizeof(struct vhub_user_header), 12);
	assert_int_equal(sizeof(struct vhub_user_vring_state), 8);
	assert_int_equal(sizeof(struct vhub_user_vring_addr), 40);
	assert_int_equal(sizeof(struct vhub_user_mem_region), 32);
	assert_int_equal(sizeof(struct vhub_user_mem_table), 8 + 8 * 32);
	assert_int_equal(sizeof(struct vhub_user_mem_slot), 40);
	assert_int_equal(sizeof(struct vhub_user_log), 16);
	assert_int_equal(sizeof(struct vhub_user_iotlb), 32);
	assert_int_equal(sizeof(struct vhub_user_config), 12 + 256);
	assert_int_equal(sizeof(struct vhub_user_inflight), 24);
	assert_int_equal(sizeof(struct vhub_user_device_state), 8);
	assert_int_equal(offsetof(struct vhub_user_config, data), VHUB_USER_CONFIG_HEAD);
	assert_int_equal(offsetof(struct vhub_user_mem_table, regions), VHUB_USER_MEM_TABLE_HEAD);
	assert_int_equal(offsetof(struct vhub_user_iotlb, type) + 1, 26);
	assert_int_equal(offsetof(struct vhub_user_inflight, queue_size) + 2, 20);
}

static const char *reached;

#define NAMED_SLOT(num, name, slot, ...) \
	static int named_##slot(struct vhub_req_handler *handler, struct vhub_request *req) \
	{ \
		(void)handler; \
		(void)req; \
		reached = #name; \
		return 0; \
	}
VHUB_USER_REQUESTS(NAMED_SLOT)

static void
test_each_number_reaches_its_slot(void **state)
{
	const struct vhub_req_handler_ops ops = {
#define NAMED_SLOT_ENTRY(num, name, slot, ...) .slot = named_##slot,
		VHUB_USER_REQUESTS(NAMED_SLOT_ENTRY)
	};

	(void)state;
	for (size_t i = 0; i < N_LISTED; i++) {
		conn_request_slot slot = conn_request_slot_of(&ops, specification[i].number);

		assert_non_null(slot);
		slot(NULL, NULL);
		assert_string_equal(reached, specification[i].name);
	}
	assert_null(conn_request_slot_of(&ops, 0));
	assert_null(conn_request_slot_of(&ops, VHUB_USER_REQUEST_MAX));
	assert_null(conn_request_slot_of(&ops, 0xffffffff));
}

static void
test_supported_takes_a_slot_and_the_protocol_feature(void **state)
{
	struct fake fake;

	(void)state;
	fake_init(&fake);
	for (size_t i = 0; i < N_LISTED; i++) {
		const int feature = specification[i].feature;
		const uint64_t needed = feature < 0 ? 0 : UINT64_C(1) << feature;

		assert_true(conn_request_supported(&fake.ops, specification[i].number, needed));
		assert_int_equal(conn_request_supported(&fake.ops, specification[i].number,
						 ~needed),
				feature < 0);
	}
	fake.ops.set_owner = NULL;
	assert_false(conn_request_supported(&fake.ops, VHUB_USER_SET_OWNER, UINT64_MAX));
	assert_false(conn_request_supported(&fake.ops, 0, UINT64_MAX));
	assert_false(conn_request_supported(&fake.ops, VHUB_USER_REQUEST_MAX, UINT64_MAX));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table_is_the_specification),
		cmocka_unit_test(test_numbers_beyond_the_specification_have_no_row),
		cmocka_unit_test(test_moments),
		cmocka_unit_test(test_payloads_have_their_size_on_the_wire),
		cmocka_unit_test(test_each_number_reaches_its_slot),
		cmocka_unit_test(test_supported_takes_a_slot_and_the_protocol_feature),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
