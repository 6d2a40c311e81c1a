/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A capture of a port's frames, between the two files that make it:
 *
 *     services.c -> capture.c (copies, filters, puts into a ring)  ...  capture_file.c (its own thread: the file)
 *
 * Lcores never wait for the file: what the ring has no room for is dropped and counted. What was written goes back to
 * them, by a ring of all captures, and is freed by the next lcore that has something to capture.
 */
#ifndef NET_CAPTURE_H
#define NET_CAPTURE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <rte_common.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include "vhub_net.h"

/* Frames that wait for the file. */
#define CAPTURE_FRAMES 1024u
/* And mbufs for the files of all captures, of those that ports share (pool.c). */
#define CAPTURES_MBUFS 768u

/* What a copy in the ring carries in its headroom. */
struct capture_mark {
	uint64_t tsc;
	uint32_t bytes; /* of the frame; of them pkt_len are there */
	uint16_t pair;
	uint16_t direction; /* enum net_direction */
};

struct capture_filter;

/* What the TSC and the time of day, in ns since 1970, were at the same moment; or how far both went on. */
struct capture_moment {
	uint64_t tsc;
	uint64_t ns;
};

struct net_capture {
	/* Immutable while the port has it. */
	struct rte_ring *ring;
	struct capture_filter *filter; /* NULL: all frames */
	uint32_t snaplen_bytes;
	uint64_t max_bytes; /* of the file; 0: no limit */
	int fd;
	pthread_t thread;
	char name[64]; /* of the device */

	/* Shared atomics. */
	uint32_t waiting_mbufs __rte_cache_aligned; /* for the file */
	bool ended;   /* nothing more is written: the file is full, or cannot be written */
	bool stopped; /* nothing more comes */

	/* The thread's; CTL's or WORK's once it has ended. */
	int error; /* that has ended it */
	uint64_t packets;
	uint64_t bytes;		     /* of the file */
	struct capture_moment now;   /* later than any frame that was taken out of the ring */
	struct capture_moment rate;  /* how fast the clock goes, lately */
	struct capture_moment begin; /* of the second in which that is found out */
	struct capture_moment last;  /* a frame's */
	size_t fill;
	uint8_t buffer[65536];
};

/*
 * The thread's: what was taken out of the ring goes back to the pool, by an lcore. The thread may lose its CPU at any
 * time, and in the middle of a put into the pool it would have all lcores wait that put something there.
 */
void
capture_give_back(struct net_capture *capture, struct rte_mbuf **pkts, unsigned int n);

/* ---- capture_file.c ---- */

/* Makes the file and begins. May block. Errors as vhub_net_capture_start(). */
int
capture_file_open(struct net_capture *capture, const char *name, const char *path, char *error,
		size_t error_len);
/* Writes what is in the ring and closes the file. May block. */
void
capture_file_close(struct net_capture *capture);

/* ---- capture_filter.c ---- */

/* Of libpcap's expressions. Returns 0, or -EINVAL or -ENOTSUP with one sentence. May block. */
int
capture_filter_make(const char *text, uint32_t snaplen_bytes, struct capture_filter **out,
		char *error, size_t error_len);
/* NULL is fine. */
void
capture_filter_free(struct capture_filter *filter);
/* LCORE: whether a frame of `bytes`, of which the first `here_bytes` are at `frame`, is wanted. */
bool
capture_filter_admits(const struct capture_filter *filter, const uint8_t *frame, uint32_t bytes,
		uint32_t here_bytes);

#endif /* NET_CAPTURE_H */
