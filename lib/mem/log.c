/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The dirty log ("Migration"): one bit for each page that we have written. lib/device maps it on SET_LOG_BASE,
 * lib/virtq marks what it and the device wrote. The front end takes the bits off meanwhile, with atomics.
 */
#include "mem_pvt.h"

#include <errno.h>
#include <stdlib.h>

int
vhub_dirty_log_create(int fd, uint64_t offset_bytes, uint64_t size_bytes,
		struct vhub_mem_owner *owner, struct vhub_dirty_log **out)
{
	struct vhub_dirty_log *log;
	void *bits;
	int ret;

	log = calloc(1, sizeof(*log));
	if (log == NULL)
		return -ENOMEM;
	ret = vhub_mem_map_create(fd, offset_bytes, size_bytes, owner, &log->map, &bits);
	if (ret < 0) {
		free(log);
		return ret;
	}
	log->refs = 1;
	log->bits = bits;
	log->size_bytes = size_bytes;
	*out = log;
	return 0;
}

struct vhub_dirty_log *
vhub_dirty_log_get(struct vhub_dirty_log *log)
{
	__atomic_fetch_add(&log->refs, 1, __ATOMIC_RELAXED);
	return log;
}

void
vhub_dirty_log_put(struct vhub_dirty_log *log)
{
	/* Acquire and release: every user's last access comes before the freeing. */
	if (log == NULL || __atomic_fetch_sub(&log->refs, 1, __ATOMIC_ACQ_REL) != 1)
		return;
	vhub_mem_map_put(log->map);
	free(log);
}

/* The last page of a range of at least one byte; one that goes round the end of the address space is cut there. */
static uint64_t
log_last_page(uint64_t gpa, uint64_t len)
{
	uint64_t last;

	if (__builtin_add_overflow(gpa, len - 1, &last))
		last = UINT64_MAX;
	return last / VHUB_LOG_PAGE_BYTES;
}

bool
vhub_dirty_log_covers(const struct vhub_dirty_log *log, uint64_t gpa, uint64_t len)
{
	return len == 0 || log_last_page(gpa, len) / 8 < log->size_bytes;
}

/*
 * Never "look first whether the bit is set": our data could still be on its way to memory when we see a bit that
 * the front end takes off next, and then reads the old data. An OR is a full barrier where that matters.
 * Release: pairs with the front end's exchange or AND.
 */
static void
log_or(uint8_t *byte, unsigned int bits)
{
	__atomic_fetch_or(byte, (uint8_t)bits, __ATOMIC_RELEASE);
}

/*
 * All bits of the bytes [from, to), in words as soon as they are aligned. What is all ones
 * afterwards needs no OR: a store leaves the same, whatever was there, and takes a quarter of the
 * time, which a guest can ask for again and again with 4 GiB for us to mark. Release, as above.
 */
static void
log_fill(uint8_t *from, uint8_t *to)
{
	for (; from < to && (uintptr_t)from % sizeof(uint64_t) != 0; from++)
		__atomic_store_n(from, 0xff, __ATOMIC_RELEASE);
	for (; (size_t)(to - from) >= sizeof(uint64_t); from += sizeof(uint64_t))
		__atomic_store_n((uint64_t *)(void *)from, UINT64_MAX, __ATOMIC_RELEASE);
	for (; from < to; from++)
		__atomic_store_n(from, 0xff, __ATOMIC_RELEASE);
}

void
vhub_dirty_log_mark(struct vhub_dirty_log *log, uint64_t gpa, uint64_t len)
{
	uint64_t first = gpa / VHUB_LOG_PAGE_BYTES;
	uint64_t last, first_byte, last_byte;
	unsigned int first_bits, last_bits;

	if (len == 0)
		return;
	first_byte = first / 8;
	if (unlikely(first_byte >= log->size_bytes))
		return;
	last = log_last_page(gpa, len);
	if (unlikely(last / 8 >= log->size_bytes))
		last = log->size_bytes * 8 - 1; /* below 2^52, as the page that it replaces */
	last_byte = last / 8;
	first_bits = 0xffu << (first % 8);
	last_bits = 0xffu >> (7 - last % 8);
	if (likely(first_byte == last_byte)) {
		log_or(&log->bits[first_byte], first_bits & last_bits);
		return;
	}
	log_or(&log->bits[first_byte], first_bits);
	log_fill(&log->bits[first_byte + 1], &log->bits[last_byte]);
	log_or(&log->bits[last_byte], last_bits);
}
