/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * `vhub-perf net`: what its files share. Options (net_options.c) say what to do; a device
 * (net_device.c) is a session with its rings and prepared buffers; lcores run the queues
 * (net_lcore.c); net_run.c, where the subcommand begins, puts them together and reports.
 */
#ifndef PERF_NET_H
#define PERF_NET_H

#include <stdbool.h>
#include <stdint.h>

#include "frontend.h"
#include "net_flow.h"
#include "net_frame.h"
#include "pace.h"
#include "report.h"
#include "ring.h"
#include "run.h"

#define NET_MAX_BURST 256u

/* ---- options ---- */

enum net_mode {
	NET_ECHO, /* sends, and gets the same packets back on the same queue */
	NET_TX,	  /* sends */
	NET_RX,	  /* receives what the back end makes */
	NET_PAIR, /* what one device sends the other receives, both ways */
};

extern const char *const net_mode_names[];

/* Sizes of frames: one after the other, over and over. */
struct net_sizes {
	const char *text; /* as given */
	unsigned int n;
	uint16_t bytes[256];
	uint16_t max;
};

struct net_options {
	enum net_mode mode;
	struct net_sizes sizes;
	unsigned int n_peers;
	const char *peers[RUN_MAX_SOCKETS];
	bool mergeable;
	bool offloads;
	bool touch;
	uint32_t burst;
	uint32_t window;    /* NET_NO_WINDOW: no limit */
	uint32_t rx_buffer; /* bytes for header and frame */
	uint32_t idle;
};

#define NET_NO_WINDOW UINT32_MAX

/* Returns 0, 1 (help), -EINVAL, having told. Thread: main. */
int
net_options_parse(int argc, char **argv, struct net_options *o);

/* ---- devices and queues ---- */

enum net_error {
	NET_LOST,
	NET_DUPLICATES,
	NET_REORDERINGS,
	NET_CORRUPT,
	NET_MISDIRECTED
};
enum net_count {
	NET_SENT,
	NET_RECEIVED,
	NET_GAPS,
	NET_KICKS,
	NET_UNTAKEN
};

/* Buffers in guest memory for the slots of a ring, each with its frame at the start of a line. */
struct net_buffers {
	uint8_t *first; /* frame of slot 0; the header is right before it */
	uint32_t stride_bytes;
};

/* A packet that is being received: it may take several buffers, and those several looks. */
struct net_packet {
	uint16_t buffers_left;
	bool wrong;	 /* not ours, or not as it was sent */
	uint16_t length; /* of the frame as its IPv4 header has it */
	uint32_t bytes;	 /* so far */
	struct net_stamp stamp;
};

/* A pair of rings. LCORE, once the run has begun. */
struct net_queue {
	struct ring *rx, *tx;
	struct net_buffers rx_buffers, tx_buffers;
	const struct net_options *o;
	struct report_queue *report;
	const char *path;
	unsigned int queue;
	bool sends, receives;

	unsigned int refill;   /* rx: buffers that are posted at once */
	unsigned int unposted; /* taken back since then */
	/* tx: slots that can be sent with, in the order in which they came back */
	uint16_t *free_slots;
	uint16_t *slot_bytes; /* of the frame of each slot */
	uint16_t free_mask;
	uint16_t free_head, free_tail;
	struct net_flow own;	  /* what it sends */
	struct net_flow *expects; /* what it receives: `own`, or the peer's */
	uint64_t expected_mark;
	uint64_t stall_next; /* the window is full: own.next, and since when it is that */
	uint64_t stall_cycles;
	struct pace pace;
	unsigned int sender, n_senders; /* its place among all that share the rate */
	bool paced;
	uint64_t kicks_before; /* of both rings, before the measured time */
	struct net_packet packet;
	bool measuring; /* what is counted in the ramp is forgotten */
	bool counting;
} __rte_cache_aligned;

struct net_device {
	const char *path;
	unsigned int number;   /* its place among the sockets, peers after them */
	unsigned int receiver; /* the number of who gets what it sends, or NET_NOBODY */
	struct frontend *fe;
	struct ring **rings; /* rx and tx of queue 0, of queue 1, ... */
	struct net_queue *queues;
	unsigned int n_queues;
};

/* Guest memory that a device's rings and buffers take. */
uint64_t
net_device_memory_bytes(const struct net_options *o);

/* Connects and negotiates. Returns 0 or -errno, having told; net_device_close() in every case. */
int
net_device_open(struct net_device *d, const struct net_options *o, const char *path,
		unsigned int number);

/* Makes rings and buffers in `mem`, fills the receive rings, starts. Likewise. */
int
net_device_start(struct net_device *d, const struct net_options *o, struct perf_memory *mem);

void
net_device_close(struct net_device *d);

/* ---- lcores ---- */

/* What an lcore runs. */
struct net_lcore {
	unsigned int n_queues;
	struct net_queue **queues;
};

/* run->arg is an array of struct net_lcore. */
int
net_generate(struct run *run, unsigned int lcore);

#endif /* PERF_NET_H */
