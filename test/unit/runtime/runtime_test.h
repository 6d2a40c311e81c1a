/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tests of lib/runtime share: cmocka, a clock, and waiting with an end. */
#ifndef RUNTIME_TEST_H
#define RUNTIME_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <rte_common.h>

/*
 * After this long something is lost. Far beyond what anything here takes: on a machine shared with others a thread
 * has been seen to wait five seconds for its CPU.
 */
#define TEST_LOST_NS 30000000000ull

static inline uint64_t
test_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

/* CPU time of the whole process, or of the calling thread. */
static inline uint64_t
test_cpu_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

/* How often the calling thread has given up its CPU. */
static inline long
test_thread_sleeps(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_nvcsw;
}

static inline uint32_t
test_load(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline void
test_store(uint32_t *word, uint32_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/*
 * Waits until another thread has made *word at least `value`: looking at first, to be there at once, then asleep,
 * as the other thread may need this CPU. Returns false when it seems lost.
 */
static inline bool
test_wait(const uint32_t *word, uint32_t value)
{
	const uint64_t end_ns = test_now_ns() + TEST_LOST_NS;

	for (unsigned int i = 0; i < 20000; i++) {
		if (test_load(word) >= value)
			return true;
	}
	while (test_load(word) < value) {
		if (test_now_ns() > end_ns)
			return false;
		usleep(20);
	}
	return true;
}

/* Spends between 0 and 2^bits - 1 rounds of nothing, to hit races at different places. */
static inline void
test_jitter(uint32_t *seed, unsigned int bits)
{
	*seed = *seed * 1664525u + 1013904223u;
	for (uint32_t n = *seed >> (32 - bits); n > 0; n--)
		__asm__ volatile("" ::: "memory"); /* or the loop would be none */
}

#endif /* RUNTIME_TEST_H */
