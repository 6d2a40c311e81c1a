/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The session record: all that a front end has told us, and nothing else. It has a version, no
 * pointers, and the fds that came. Whatever must survive the session's process or be told again (a
 * data path of another library, a restart, a live upgrade) is made from it; whatever can be derived
 * from it is not in it.
 *
 * Written by CTL only (request handlers in this folder); read next by handler.c. `account`: where fds
 * that go are closed (vhub_fd_discard()).
 */
#ifndef SESSION_RECORD_H
#define SESSION_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "vhub_fd.h"
#include "vhub_user.h"

#define SESSION_RECORD_VERSION 1

/** One vring as the front end configured it. fds: -1 none. */
struct vring_record {
	struct vhub_user_vring_addr addr;
	uint32_t base; /**< SET_VRING_BASE, or where the ring was when it stopped */
	/** where it was when the status became 0; 0: none, or another base has come since */
	uint32_t left_base;
	uint16_t size; /**< SET_VRING_NUM; 0: not told */
	bool has_addr;
	bool enabled;
	bool started;
	bool left_in_flight; /**< it was suspended, and the inflight region holds what it left */
	int kick_fd;
	int call_fd;
	int err_fd;
};

/** One region as the front end described it, and its fd. */
struct region_record {
	struct vhub_user_mem_region desc;
	int fd;
};

struct session_record {
	uint32_t version;
	bool owned;	   /**< SET_OWNER came */
	bool has_features; /**< SET_FEATURES came */
	uint8_t status;	   /**< virtio device status */
	uint64_t features; /**< as accepted, with bits 26 and 30 */
	uint64_t protocol_features;

	struct vhub_user_log log;
	int log_fd; /**< memory of the log */

	struct vhub_user_inflight inflight;
	int inflight_fd;

	int backend_fd; /**< back-end channel */

	uint32_t n_regions;
	struct region_record regions[VHUB_MAX_MEM_SLOTS];
	struct vring_record vrings[VHUB_MAX_VRINGS];
};

/** An empty record. */
void
session_record_init(struct session_record *rec);

/** Closes every fd and empties the record. */
void
session_record_clear(struct session_record *rec, struct vhub_fd_account *account);

/**
 * What STATUS 0 and RESET_DEVICE clear: rings, features, status, inflight. The rest stays; with
 * `leave_bases` it is also noted where the rings were.
 */
void
session_record_reset_device(struct session_record *rec, bool leave_bases,
		struct vhub_fd_account *account);

/** What GET_VRING_BASE answers of a ring that does not run. */
uint32_t
session_record_base(const struct vring_record *vring);

/** Puts `fd` into *slot, closing what was there. */
void
session_record_set_fd(int *slot, int fd, struct vhub_fd_account *account);

/** Replaces all regions; the record owns the fds from then on. */
void
session_record_set_regions(struct session_record *rec, const struct vhub_user_mem_region *descs,
		const int *fds, uint32_t n, struct vhub_fd_account *account);

/** Appends a region; there is room. */
void
session_record_add_region(struct session_record *rec, const struct vhub_user_mem_region *desc,
		int fd);

/** Removes the region of that guest address, user address and size. */
void
session_record_remove_region(struct session_record *rec, const struct vhub_user_mem_region *desc,
		struct vhub_fd_account *account);

#endif /* SESSION_RECORD_H */
