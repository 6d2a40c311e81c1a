/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Cache lines that are fetched before they are needed. Only hints: nothing faults, whatever the address.
 * On x86-64 compilers have to be told (-mprfchw) that there is a fetch to write; it is one to read else.
 * Functions of this header: Thread: ANY. They do not block.
 */
#ifndef VHUB_FETCH_H
#define VHUB_FETCH_H

#include <stddef.h>
#include <stdint.h>

#include <rte_common.h>

#ifdef __cplusplus
extern "C" {
#endif

/* To a compiler a fetch does nothing, and it leaves out calls of a function with nothing else in it. */
#define VHUB_FETCH_IS_SOMETHING() __asm__ volatile("")

/** A line for each 64 bytes of the `n_bytes` from `from` on, which will be read. */
static __rte_always_inline void
vhub_fetch_to_read(const void *from, size_t n_bytes)
{
	VHUB_FETCH_IS_SOMETHING();
	for (size_t at = 0; at < n_bytes; at += RTE_CACHE_LINE_SIZE)
		__builtin_prefetch((const uint8_t *)from + at, 0, 3);
}

/**
 * The same into the second-level cache, which waits for more lines at once than the first one: for much that
 * comes from memory, and is read or written a while later.
 */
static __rte_always_inline void
vhub_fetch_early(const void *from, size_t n_bytes)
{
	VHUB_FETCH_IS_SOMETHING();
	for (size_t at = 0; at < n_bytes; at += RTE_CACHE_LINE_SIZE)
		__builtin_prefetch((const uint8_t *)from + at, 0, 2);
}

/** As the first one of what will be written: other processors lose their copies now, and not when it is. */
static __rte_always_inline void
vhub_fetch_to_write(const void *to, size_t n_bytes)
{
	VHUB_FETCH_IS_SOMETHING();
	for (size_t at = 0; at < n_bytes; at += RTE_CACHE_LINE_SIZE)
		__builtin_prefetch((const uint8_t *)to + at, 1, 3);
}

#ifdef __cplusplus
}
#endif

#endif /* VHUB_FETCH_H */
