/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The vhost-user protocol on the wire, and the one table of its requests.
 *
 * Specification: QEMU docs/interop/vhost-user.rst at commit
 * f6b615b52d1d92f02103596a30df95f31138a2e4, and what was added to it up to GET_VRING_BASE_SKIP_DRAIN,
 * commit 1276e6c85dcc108ff523f93f0fe4f73118394fa0. All numbers are in the host's byte order. Section names
 * below are that document's.
 */
#ifndef VHUB_USER_H
#define VHUB_USER_H

#include <stdint.h>

#include "vhub_common.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Header flags ("Header"). */
#define VHUB_USER_VERSION 0x1u
#define VHUB_USER_VERSION_MASK 0x3u
#define VHUB_USER_REPLY 0x4u
#define VHUB_USER_NEED_REPLY 0x8u

/** Device feature bit by which the back end says that it knows protocol features. */
#define VHUB_F_PROTOCOL_FEATURES 30
/** Device feature bit: log all writes to guest memory ("Migration"). */
#define VHUB_F_LOG_ALL 26
/** Device feature bit: the guest's addresses are those of its vIOMMU (VIRTIO 1.2, 6). */
#define VHUB_F_ACCESS_PLATFORM 33
/** The mask of one of these: VHUB_F(LOG_ALL). */
#define VHUB_F(bit) (UINT64_C(1) << VHUB_F_##bit)

/** "Protocol features": number and name. */
/* clang-format off */
#define VHUB_USER_PROTOCOL_FEATURES(X) \
	X(0, MQ) \
	X(1, LOG_SHMFD) \
	X(2, RARP) \
	X(3, REPLY_ACK) \
	X(4, NET_MTU) \
	X(5, BACKEND_REQ) \
	X(6, CROSS_ENDIAN) \
	X(7, CRYPTO_SESSION) \
	X(8, PAGEFAULT) \
	X(9, CONFIG) \
	X(10, BACKEND_SEND_FD) \
	X(11, HOST_NOTIFIER) \
	X(12, INFLIGHT_SHMFD) \
	X(13, RESET_DEVICE) \
	X(14, INBAND_NOTIFICATIONS) \
	X(15, CONFIGURE_MEM_SLOTS) \
	X(16, STATUS) \
	X(17, XEN_MMAP) \
	X(18, SHARED_OBJECT) \
	X(19, DEVICE_STATE) \
	X(20, GET_VRING_BASE_INFLIGHT) \
	X(21, GPA_ADDRESSES) \
	X(22, SHMEM) \
	X(23, GET_VRING_BASE_SKIP_DRAIN)
/* clang-format on */

enum vhub_user_protocol_feature {
#define VHUB_USER_PF_ENUM(num, name) VHUB_USER_PF_##name = (num),
	VHUB_USER_PROTOCOL_FEATURES(VHUB_USER_PF_ENUM)
#undef VHUB_USER_PF_ENUM
};

/** The mask of one protocol feature: VHUB_USER_PF(MQ). */
#define VHUB_USER_PF(bit) (UINT64_C(1) << VHUB_USER_PF_##bit)

/**
 * Most regions in SET_MEM_TABLE ("Multiple Memory regions description"), so most fds in a message.
 */
#define VHUB_USER_MAX_TABLE_REGIONS 8
/** Most queues of a device that carry its requests or its packets. */
#define VHUB_MAX_QUEUES 128
/** Most vrings, with a control queue: a vring index in SET_VRING_KICK has 8 bits. */
#define VHUB_MAX_VRINGS (VHUB_MAX_QUEUES + 1)
/** Most memory slots (GET_MAX_MEM_SLOTS); what crosvm and QEMU can use. */
#define VHUB_MAX_MEM_SLOTS 509
/** Most bytes of config space carried by one message. */
#define VHUB_USER_MAX_CONFIG 256

/** In the u64 of SET_VRING_KICK, CALL and ERR: the vring index, and "no fd comes with this". */
#define VHUB_USER_VRING_INDEX_MASK UINT64_C(0xff)
#define VHUB_USER_VRING_NOFD UINT64_C(0x100)

/** Flag of a vring address description: log writes to the used ring. */
#define VHUB_USER_VRING_F_LOG 0x1u

struct vhub_user_header {
	uint32_t request;
	uint32_t flags;
	uint32_t size; /**< bytes of payload that follow */
};

struct vhub_user_vring_state {
	uint32_t index;
	uint32_t num;
};

struct vhub_user_vring_addr {
	uint32_t index;
	uint32_t flags;
	uint64_t desc_uva;
	uint64_t used_uva;
	uint64_t avail_uva;
	uint64_t log_gpa;
};

struct vhub_user_mem_region {
	uint64_t guest_addr_gpa;
	uint64_t size_bytes;
	uint64_t user_addr_uva;
	uint64_t mmap_offset_bytes;
};

struct vhub_user_mem_table {
	uint32_t n_regions;
	uint32_t padding;
	struct vhub_user_mem_region regions[VHUB_USER_MAX_TABLE_REGIONS];
};

struct vhub_user_mem_slot {
	uint64_t padding;
	struct vhub_user_mem_region region;
};

struct vhub_user_log {
	uint64_t size_bytes;
	uint64_t offset_bytes;
};

struct vhub_user_iotlb {
	uint64_t iova;
	uint64_t size_bytes;
	uint64_t user_addr_uva;
	uint8_t perm;
	uint8_t type;
	uint8_t padding[6];
};

struct vhub_user_config {
	uint32_t offset;
	uint32_t size;
	uint32_t flags; /**< 0: written by the guest; 1: live migration */
	uint8_t data[VHUB_USER_MAX_CONFIG];
};

struct vhub_user_inflight {
	uint64_t mmap_size_bytes;
	uint64_t mmap_offset_bytes;
	uint16_t num_queues;
	uint16_t queue_size;
	uint8_t padding[4];
};

struct vhub_user_device_state {
	uint32_t direction; /**< 0: save, 1: load */
	uint32_t phase;	    /**< 0: stopped */
};

union vhub_user_payload {
	uint64_t u64;
	struct vhub_user_vring_state state;
	struct vhub_user_vring_addr addr;
	struct vhub_user_mem_table mem;
	struct vhub_user_mem_slot slot;
	struct vhub_user_log log;
	struct vhub_user_iotlb iotlb;
	struct vhub_user_config config;
	struct vhub_user_inflight inflight;
	struct vhub_user_device_state device_state;
	uint8_t bytes[512];
};

/** How a request is answered. */
enum vhub_user_answer {
	/** no reply of its own; an ack when need_reply asks and REPLY_ACK is negotiated */
	VHUB_USER_ANSWER_ACK,
	VHUB_USER_ANSWER_REPLY, /**< always the reply that the specification gives it */
	/** SET_LOG_BASE: a reply once LOG_SHMFD is negotiated, else like ACK */
	VHUB_USER_ANSWER_LOG,
};

/* When a request may come; several may be joined. 0: at any time. */
#define VHUB_USER_WHEN_ANY 0x0u
#define VHUB_USER_WHEN_STOPPED 0x1u    /**< while the vring that it names is stopped */
#define VHUB_USER_WHEN_MEMORY 0x2u     /**< after a memory table */
#define VHUB_USER_WHEN_F_PROTOCOL 0x4u /**< not after SET_FEATURES without bit 30 */

/* Bytes of the payload that must be there whatever the rest. */
#define VHUB_USER_CONFIG_HEAD 12u
#define VHUB_USER_MEM_TABLE_HEAD 8u

/**
 * Every request of the specification, one row each; from it come dispatch, validation, tracing,
 * statistics and doc/. Columns: number, name, slot of struct vhub_req_handler_ops, least and most
 * bytes of payload, least and most fds, protocol feature it needs (-1: none), answer, when it may
 * come.
 */
/* clang-format off */
#define VHUB_USER_REQUESTS(X) \
	X(1,  GET_FEATURES,          get_features,          0, 0,    0, 0, -1,   REPLY, VHUB_USER_WHEN_ANY) \
	X(2,  SET_FEATURES,          set_features,          8, 8,    0, 0, -1,   ACK,   VHUB_USER_WHEN_ANY) \
	X(3,  SET_OWNER,             set_owner,             0, 0,    0, 0, -1,   ACK,   VHUB_USER_WHEN_ANY) \
	X(4,  RESET_OWNER,           reset_owner,           0, 0,    0, 0, -1,   ACK,   VHUB_USER_WHEN_ANY) \
	X(5,  SET_MEM_TABLE,         set_mem_table,         8, 264,  0, 8, -1,   ACK,   VHUB_USER_WHEN_ANY) \
	X(6,  SET_LOG_BASE,          set_log_base,          8, 16,   0, 1, -1,   LOG,   VHUB_USER_WHEN_ANY) \
	X(7,  SET_LOG_FD,            set_log_fd,            0, 8,    0, 1, -1,   ACK,   VHUB_USER_WHEN_ANY) \
	X(8,  SET_VRING_NUM,         set_vring_num,         8, 8,    0, 0, -1,   ACK,   VHUB_USER_WHEN_STOPPED) \
	X(9,  SET_VRING_ADDR,        set_vring_addr,        40, 40,  0, 0, -1,   ACK,   VHUB_USER_WHEN_MEMORY) \
	X(10, SET_VRING_BASE,        set_vring_base,        8, 8,    0, 0, -1,   ACK,   VHUB_USER_WHEN_STOPPED) \
	X(11, GET_VRING_BASE,        get_vring_base,        8, 8,    0, 0, -1,   REPLY, VHUB_USER_WHEN_ANY) \
	X(12, SET_VRING_KICK,        set_vring_kick,        8, 8,    0, 1, -1,   ACK,   VHUB_USER_WHEN_MEMORY) \
	X(13, SET_VRING_CALL,        set_vring_call,        8, 8,    0, 1, -1,   ACK,   VHUB_USER_WHEN_ANY) \
	X(14, SET_VRING_ERR,         set_vring_err,         8, 8,    0, 1, -1,   ACK,   VHUB_USER_WHEN_ANY) \
	X(15, GET_PROTOCOL_FEATURES, get_protocol_features, 0, 0,    0, 0, -1,   REPLY, VHUB_USER_WHEN_ANY) \
	X(16, SET_PROTOCOL_FEATURES, set_protocol_features, 8, 8,    0, 0, -1,   ACK,   VHUB_USER_WHEN_ANY) \
	X(17, GET_QUEUE_NUM,         get_queue_num,         0, 0,    0, 0, -1,   REPLY, VHUB_USER_WHEN_ANY) \
	X(18, SET_VRING_ENABLE,      set_vring_enable,      8, 8,    0, 0, -1,   ACK,   VHUB_USER_WHEN_F_PROTOCOL) \
	X(19, SEND_RARP,             send_rarp,             8, 8,    0, 0, VHUB_USER_PF_RARP, ACK, VHUB_USER_WHEN_ANY) \
	X(20, NET_SET_MTU,           net_set_mtu,           8, 8,    0, 0, VHUB_USER_PF_NET_MTU, ACK, VHUB_USER_WHEN_ANY) \
	X(21, SET_BACKEND_REQ_FD,    set_backend_req_fd,    0, 8,    1, 1, VHUB_USER_PF_BACKEND_REQ, ACK, VHUB_USER_WHEN_ANY) \
	X(22, IOTLB_MSG,             iotlb_msg,             26, 32,  0, 0, -1,   REPLY, VHUB_USER_WHEN_ANY) \
	X(23, SET_VRING_ENDIAN,      set_vring_endian,      8, 8,    0, 0, VHUB_USER_PF_CROSS_ENDIAN, ACK, VHUB_USER_WHEN_STOPPED) \
	X(24, GET_CONFIG,            get_config,            12, 268, 0, 0, VHUB_USER_PF_CONFIG, REPLY, VHUB_USER_WHEN_ANY) \
	X(25, SET_CONFIG,            set_config,            12, 268, 0, 0, VHUB_USER_PF_CONFIG, ACK, VHUB_USER_WHEN_ANY) \
	X(26, CREATE_CRYPTO_SESSION, create_crypto_session, 0, 512,  0, 0, VHUB_USER_PF_CRYPTO_SESSION, REPLY, VHUB_USER_WHEN_ANY) \
	X(27, CLOSE_CRYPTO_SESSION,  close_crypto_session,  8, 8,    0, 0, VHUB_USER_PF_CRYPTO_SESSION, ACK, VHUB_USER_WHEN_ANY) \
	X(28, POSTCOPY_ADVISE,       postcopy_advise,       0, 0,    0, 0, VHUB_USER_PF_PAGEFAULT, REPLY, VHUB_USER_WHEN_ANY) \
	X(29, POSTCOPY_LISTEN,       postcopy_listen,       0, 0,    0, 0, VHUB_USER_PF_PAGEFAULT, ACK, VHUB_USER_WHEN_ANY) \
	X(30, POSTCOPY_END,          postcopy_end,          0, 0,    0, 0, VHUB_USER_PF_PAGEFAULT, REPLY, VHUB_USER_WHEN_ANY) \
	X(31, GET_INFLIGHT_FD,       get_inflight_fd,       20, 24,  0, 0, VHUB_USER_PF_INFLIGHT_SHMFD, REPLY, VHUB_USER_WHEN_ANY) \
	X(32, SET_INFLIGHT_FD,       set_inflight_fd,       20, 24,  1, 1, VHUB_USER_PF_INFLIGHT_SHMFD, ACK, VHUB_USER_WHEN_ANY) \
	X(33, GPU_SET_SOCKET,        gpu_set_socket,        0, 0,    1, 1, -1,   ACK,   VHUB_USER_WHEN_ANY) \
	X(34, RESET_DEVICE,          reset_device,          0, 0,    0, 0, VHUB_USER_PF_RESET_DEVICE, ACK, VHUB_USER_WHEN_ANY) \
	X(35, VRING_KICK,            vring_kick,            8, 8,    0, 0, VHUB_USER_PF_INBAND_NOTIFICATIONS, ACK, VHUB_USER_WHEN_MEMORY) \
	X(36, GET_MAX_MEM_SLOTS,     get_max_mem_slots,     0, 0,    0, 0, VHUB_USER_PF_CONFIGURE_MEM_SLOTS, REPLY, VHUB_USER_WHEN_ANY) \
	X(37, ADD_MEM_REG,           add_mem_reg,           40, 40,  1, 1, VHUB_USER_PF_CONFIGURE_MEM_SLOTS, ACK, VHUB_USER_WHEN_ANY) \
	X(38, REM_MEM_REG,           rem_mem_reg,           40, 40,  0, 1, VHUB_USER_PF_CONFIGURE_MEM_SLOTS, ACK, VHUB_USER_WHEN_ANY) \
	X(39, SET_STATUS,            set_status,            8, 8,    0, 0, VHUB_USER_PF_STATUS, ACK, VHUB_USER_WHEN_ANY) \
	X(40, GET_STATUS,            get_status,            0, 0,    0, 0, VHUB_USER_PF_STATUS, REPLY, VHUB_USER_WHEN_ANY) \
	X(41, GET_SHARED_OBJECT,     get_shared_object,     16, 16,  0, 0, VHUB_USER_PF_SHARED_OBJECT, REPLY, VHUB_USER_WHEN_ANY) \
	X(42, SET_DEVICE_STATE_FD,   set_device_state_fd,   8, 8,    1, 1, VHUB_USER_PF_DEVICE_STATE, REPLY, VHUB_USER_WHEN_ANY) \
	X(43, CHECK_DEVICE_STATE,    check_device_state,    0, 0,    0, 0, VHUB_USER_PF_DEVICE_STATE, REPLY, VHUB_USER_WHEN_ANY) \
	X(44, GET_SHMEM_CONFIG,      get_shmem_config,      0, 0,    0, 0, VHUB_USER_PF_SHMEM, REPLY, VHUB_USER_WHEN_ANY) \
	X(45, GET_VRING_BASE_SKIP_DRAIN, get_vring_base_skip_drain, 8, 8, 0, 0, VHUB_USER_PF_GET_VRING_BASE_SKIP_DRAIN, REPLY, VHUB_USER_WHEN_ANY)
/* clang-format on */

enum vhub_user_request {
#define VHUB_USER_REQUEST_ENUM(num, name, ...) VHUB_USER_##name = (num),
	VHUB_USER_REQUESTS(VHUB_USER_REQUEST_ENUM)
#undef VHUB_USER_REQUEST_ENUM
	VHUB_USER_REQUEST_MAX
};

/* "Back-end message types": requests that we make on the back-end channel. */
#define VHUB_USER_BACKEND_IOTLB_MSG 1
#define VHUB_USER_BACKEND_CONFIG_CHANGE_MSG 2

/** One row of the table of requests. */
struct vhub_user_request_info {
	const char *name;
	uint16_t size_min_bytes;
	uint16_t size_max_bytes;
	uint8_t fds_min;
	uint8_t fds_max;
	int8_t protocol_feature; /**< -1: none */
	uint8_t answer;		 /**< enum vhub_user_answer */
	uint32_t when;		 /**< VHUB_USER_WHEN_* */
};

/** The row of `request`, NULL for a number that the specification does not have. Thread: ANY. */
VHUB_API const struct vhub_user_request_info *
vhub_user_request_info(uint32_t request);

/** "REPLY_ACK" of VHUB_USER_PF_REPLY_ACK; NULL for a number that the specification does not have. Thread: ANY. */
VHUB_API const char *
vhub_user_protocol_feature_name(unsigned int num);

#ifdef __cplusplus
}
#endif

#endif /* VHUB_USER_H */
