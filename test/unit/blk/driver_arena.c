/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guest's memory of the driver suite. Room is given out from one end to the other, and all of it
 * is free again when the last area has come back.
 */
#include "driver_arena.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>
#include <rte_common.h>

#define ARENA_BYTES (64u << 20)
#define PAGE_BYTES 4096u

static struct {
	struct vhub_mem_table *table;
	uint8_t *area;
	size_t used_bytes;
	unsigned int n_given;
} arena;

struct vhub_mem_table *
driver_arena_table(void)
{
	struct vhub_user_mem_region region = { .size_bytes = ARENA_BYTES };
	int fd;

	if (arena.table != NULL)
		return arena.table;
	fd = memfd_create("guest", MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fallocate(fd, 0, 0, ARENA_BYTES), 0);
	assert_int_equal(vhub_mem_table_build(NULL, &region, &fd, 1, NULL, &arena.table), 0);
	close(fd);
	arena.area = arena.table->regions[0].hva;
	return arena.table;
}

void *
driver_arena_get(size_t bytes)
{
	void *area;

	driver_arena_table();
	bytes = RTE_ALIGN_CEIL(bytes, PAGE_BYTES);
	if (bytes > ARENA_BYTES - arena.used_bytes)
		return posix_memalign(&area, PAGE_BYTES, bytes) == 0 ? area : NULL;
	area = arena.area + arena.used_bytes;
	arena.used_bytes += bytes;
	arena.n_given++;
	return area;
}

void
driver_arena_put(void *area)
{
	const uint8_t *at = area;

	if (at == NULL)
		return;
	if (at < arena.area || at >= arena.area + ARENA_BYTES)
		free(area);
	else if (--arena.n_given == 0)
		arena.used_bytes = 0;
}
