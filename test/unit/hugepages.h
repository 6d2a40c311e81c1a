/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Hugepages of 2 MiB for a test that fills some: taken from the host and given back, one test program at a time.
 * Without the right to do that, and without free ones, the test is skipped, which fails the run.
 */
#ifndef TEST_HUGEPAGES_H
#define TEST_HUGEPAGES_H

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include <cmocka.h>

#define HUGEPAGES_DIR "/sys/kernel/mm/hugepages/hugepages-2048kB/"

struct hugepages {
	int lock; /* on the file that says how many there are */
	unsigned long before;
};

static inline unsigned long
hugepages_read(int fd)
{
	char text[24] = "";

	assert_true(pread(fd, text, sizeof(text) - 1, 0) > 0);
	return strtoul(text, NULL, 10);
}

static inline void
hugepages_write(const struct hugepages *h, unsigned long n)
{
	char text[24];
	const int len = snprintf(text, sizeof(text), "%lu", n);

	if (pwrite(h->lock, text, (size_t)len, 0) != len)
		print_message("hugepages: %s stays as it is\n", HUGEPAGES_DIR "nr_hugepages");
}

/* At least `n` are free until hugepages_give_back(). */
static inline void
hugepages_take(struct hugepages *h, unsigned long n)
{
	const int free_fd = open(HUGEPAGES_DIR "free_hugepages", O_RDONLY | O_CLOEXEC);
	const int rw = open(HUGEPAGES_DIR "nr_hugepages", O_RDWR | O_CLOEXEC);
	unsigned long n_free;

	h->lock = rw >= 0 ? rw : open(HUGEPAGES_DIR "nr_hugepages", O_RDONLY | O_CLOEXEC);
	if (free_fd < 0 || h->lock < 0)
		skip();
	assert_int_equal(flock(h->lock, LOCK_EX), 0);
	h->before = hugepages_read(h->lock);
	n_free = hugepages_read(free_fd);
	if (n_free < n)
		hugepages_write(h, h->before + n - n_free);
	n_free = hugepages_read(free_fd);
	close(free_fd);
	if (n_free < n) {
		hugepages_write(h, h->before);
		close(h->lock);
		skip();
	}
}

static inline void
hugepages_give_back(const struct hugepages *h)
{
	if (hugepages_read(h->lock) != h->before)
		hugepages_write(h, h->before);
	close(h->lock);
}

#endif /* TEST_HUGEPAGES_H */
