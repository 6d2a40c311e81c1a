/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The copies of vhub-perf memcpy: every block in its turn, every buffer in its turn, and at random
 * all blocks of the disk and nothing beside it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "copies.h"

#define BLOCK_BYTES 16u
#define N_BLOCKS 7u
/* More than a burst, so that the first blocks are still to be seen. */
#define N_BUFFERS 48u
#define NOTHING 0xee

static uint8_t disk[N_BLOCKS * BLOCK_BYTES];
/* The last one is behind the buffers. */
static uint8_t buffers[(N_BUFFERS + 1) * BLOCK_BYTES];

static struct copies
make(bool random)
{
	for (unsigned int i = 0; i < N_BLOCKS; i++)
		memset(disk + i * BLOCK_BYTES, (int)i, BLOCK_BYTES);
	memset(buffers, NOTHING, sizeof(buffers));
	return (struct copies){
		.disk = disk,
		.n_blocks = N_BLOCKS,
		.block_bytes = BLOCK_BYTES,
		.random = random,
		.n_buffers = N_BUFFERS,
		.buffers = buffers,
	};
}

/* The block that a buffer holds, all of it. */
static uint8_t
held(unsigned int buffer)
{
	const uint8_t *at = buffers + buffer * BLOCK_BYTES;

	for (unsigned int i = 1; i < BLOCK_BYTES; i++)
		assert_int_equal(at[i], at[0]);
	return at[0];
}

static void
test_blocks_follow_each_other_into_buffers_that_do(void **state)
{
	const struct copies c = make(false);
	uint64_t random = 1;

	(void)state;
	copies_burst(&c, buffers, &random, 0);
	for (unsigned int i = 0; i < COPIES_BURST; i++)
		assert_int_equal(held(i), i % N_BLOCKS);
	for (unsigned int i = COPIES_BURST; i <= N_BUFFERS; i++)
		assert_int_equal(held(i), NOTHING);

	copies_burst(&c, buffers, &random, COPIES_BURST);
	for (unsigned int i = COPIES_BURST; i < 2 * COPIES_BURST; i++)
		assert_int_equal(held(i % N_BUFFERS), i % N_BLOCKS);
	/* Between those that were written anew and those of this burst. */
	for (unsigned int i = 2 * COPIES_BURST - N_BUFFERS; i < COPIES_BURST; i++)
		assert_int_equal(held(i), i % N_BLOCKS);
	assert_int_equal(held(N_BUFFERS), NOTHING);
}

static void
test_random_blocks_are_all_those_of_the_disk(void **state)
{
	const struct copies c = make(true);
	unsigned int seen[N_BLOCKS] = { 0 };
	uint64_t random = 1;

	(void)state;
	for (unsigned int burst = 0; burst < 100; burst++) {
		const uint64_t at = (uint64_t)burst * COPIES_BURST;

		copies_burst(&c, buffers, &random, at);
		for (unsigned int i = 0; i < COPIES_BURST; i++) {
			const uint8_t block = held((unsigned int)((at + i) % N_BUFFERS));

			assert_in_range(block, 0, N_BLOCKS - 1);
			seen[block]++;
		}
	}
	/* 457 each, if they are as frequent as each other. */
	for (unsigned int i = 0; i < N_BLOCKS; i++)
		assert_in_range(seen[i], 350, 560);
	assert_int_equal(held(N_BUFFERS), NOTHING);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blocks_follow_each_other_into_buffers_that_do),
		cmocka_unit_test(test_random_blocks_are_all_those_of_the_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
