/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One slot's steps: where its device runs, building it, and putting it behind a connection. Called
 * by slots.c.
 */
#ifndef SLOT_SERVE_H
#define SLOT_SERVE_H

#include "slots.h"

/**
 * Fills slot->executor: the lcores that its options name, or as many one after the other as the device can make
 * use of, there where the devices in the list from `first` on use them least. Returns 0, or -EINVAL with one
 * sentence in `error`.
 */
int
slot_choose_executor(struct slot *slot, struct vhub_loop *loop, const struct slot *first,
		char *error, size_t error_len);

/**
 * Makes ready for another try what could not be built: its builder, and its executor if there was no such worker. `first`
 * as above. Returns 0, or a negative errno with one sentence in slot->error. Thread: CTL.
 */
int
slot_renew(struct slot *slot, const struct slot *first);

/**
 * Makes slot->listener of a device with CONNECTION_INHERIT; the fd is the slot's from then on. Returns 0, or as
 * vhub_connection_from_fd() with one sentence in `error`. Thread: CTL.
 */
int
slot_inherit(struct slot *slot, char *error, size_t error_len);

/** Whether a queue of it may have begun on the lcore. Thread: CTL. */
bool
slot_begins_on(const struct slot *slot, const struct vhub_lcore *lcore);

/**
 * Thread: WORK. Opens and builds slot->device; slot->result and slot->error tell. When that failed, the
 * builder is gone.
 */
void
slot_build(struct vhub_work *work);

/**
 * Thread: WORK. Makes slot->listener and slot->socket_file of a device with CONNECTION_LISTEN; slot->result and
 * slot->error tell.
 */
void
slot_listen(struct vhub_work *work);

/** Says in slot->error that nobody can listen there; returns `result`. */
int
slot_cannot_listen(struct slot *slot, int result);

/**
 * Serves slot->device, after slot_listen() where that is due. Returns 0, or a negative errno with one sentence in slot->error; the device
 * and perhaps a handler are there then.
 */
int
slot_serve(struct slot *slot);

#endif /* SLOT_SERVE_H */
