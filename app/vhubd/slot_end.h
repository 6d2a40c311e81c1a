/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Blocking work of a slot, the end of its device, and the end of all devices. Called by slots.c.
 */
#ifndef SLOT_END_H
#define SLOT_END_H

#include "slots.h"

/**
 * The device, which has no session, is nobody's any more but of slot_run_destroy(). Thread: CTL; no work of the
 * slot is under way.
 */
void
slot_doom(struct slot *slot);

/** Thread: WORK. Destroys the device that slot_doom() was about, after a disk that saves has done so. */
void
slot_run_destroy(struct vhub_work *work);

/** slots_end() of the slots from `first` on. */
unsigned int
slot_end_all(struct slot *first);

#endif /* SLOT_END_H */
