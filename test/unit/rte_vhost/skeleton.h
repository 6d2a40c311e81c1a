/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * DPDK's skeleton of a DMA device, whose ways with copies a test replaces by its own, for
 * test_rvhost_engine.c, test_rvhost_abandon.c and test_rvhost_sync.c.
 */
#ifndef TEST_RVHOST_SKELETON_H
#define TEST_RVHOST_SKELETON_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <rte_common.h>
#include <rte_dev.h>
#include <rte_dmadev.h>

#include "../eal_fixture.h"
#include "engine.h"

#define DEVICE "dma_skeleton0"

/* A copy is begun when it is asked for. */
static inline int
skeleton_submit(void *private, uint16_t channel)
{
	RTE_SET_USED(private);
	RTE_SET_USED(channel);
	return 0;
}

/* EAL with the device, for a group's setup; the other functions are the test's to replace. 0 or -1. */
static inline int
skeleton_begin(int16_t *id)
{
	int ret;

	if (test_eal_init() != 0 || rte_eal_hotplug_add("vdev", DEVICE, "") != 0)
		return -1;
	ret = rte_dma_get_dev_id_by_name(DEVICE);
	if (ret < 0)
		return -1;
	*id = (int16_t)ret;
	rte_dma_fp_objs[*id].submit = skeleton_submit;
	return 0;
}

/* A reference to the engine that it is. */
static inline struct rvhost_dma *
skeleton_engine(void)
{
	struct rvhost_dma *dma;
	char error[256];

	assert_int_equal(rvhost_dma_get(DEVICE, &dma, error, sizeof(error)), 0);
	return dma;
}

#endif /* TEST_RVHOST_SKELETON_H */
