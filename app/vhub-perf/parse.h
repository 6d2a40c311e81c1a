/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reading numbers with units as people write them: 4k, 1.5M, 250ms. Used by opts.c and by options
 * with a syntax of their own. Implemented in parse.c.
 *
 * Each takes the whole text or nothing: 0, or -EINVAL with *value untouched. Thread: ANY.
 */
#ifndef PERF_PARSE_H
#define PERF_PARSE_H

#include <stddef.h>
#include <stdint.h>

/* A decimal number without sign or unit. */
int
parse_uint(const char *text, uint64_t *value);

/* Bytes: k, M, G, T are powers of 1024, in either case, as fio has them; 1.5M is fine. */
int
parse_size(const char *text, uint64_t *bytes);

/* How many a second: k, M, G are powers of 1000, in either case. */
int
parse_rate(const char *text, uint64_t *per_s);

/* A time in seconds, or with one of ns, us, ms, s, m, h: 5, 0.5, 250ms. */
int
parse_time(const char *text, uint64_t *ns);

/* The other way, shortest form that parse_size() reads back: 4096 is "4k". Returns `text`. */
char *
format_size(uint64_t bytes, char *text, size_t len);

#endif /* PERF_PARSE_H */
