/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of vhub-net-check share: options, ports, flows and their counters.
 *
 * A port is one virtio-user device; a flow is one queue pair of a port. Everything of a flow belongs
 * to the main lcore; of a port, `up` and `ups` are written by EAL's interrupt thread. main.c is the
 * entry; the way of a packet is flow.c -> frame.c or stream.c -> flow.c.
 */
#ifndef NET_CHECK_H
#define NET_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_ether.h>
#include <rte_mbuf.h>

#define CHECK_MAX_PORTS 16
#define CHECK_MAX_QUEUES 16
#define CHECK_MAX_SIZES 8
#define CHECK_BURST 32
#define CHECK_MIN_FRAME 64
#define CHECK_MAX_FRAME 1518
/* The largest packet that a TSO frame may be: what an IPv4 header can tell, and the Ethernet header. */
#define CHECK_MAX_PACKET (RTE_ETHER_HDR_LEN + UINT16_MAX)

struct check_options {
	uint16_t sizes[CHECK_MAX_SIZES];
	unsigned int n_sizes; /* 0: a mix */
	uint64_t seed;
	unsigned int queues;	/* of each port */
	unsigned int window;	/* packets */
	double seconds;		/* 0: no end by time */
	uint64_t packets;	/* of each flow; 0: no end by number */
	double timeout;		/* seconds that a flow may stand still */
	double link_timeout;	/* seconds that a link may stay down */
	double progress;	/* seconds between two lines; 0: none */
	unsigned int tcp_bytes; /* payload of each TCP packet; 0: plain frames */
	bool tso;
	bool guest_offload;
	bool reconnect;
	const char *late_vdevs[CHECK_MAX_PORTS];
	unsigned int n_late_vdevs;
	bool lan;
	unsigned int restartable; /* ports, from the first, that restart when asked to */
	bool json;
};

struct check_port {
	uint16_t id;
	struct rte_ether_addr mac;
	struct rte_mempool *pool;
	/* Written by EAL's interrupt thread, read by the main lcore. */
	bool up;
	uint32_t ups; /* how often the link came up again */
	/* Written by the main lcore: what it has seen of `up`; false: it keeps its hands off the port. */
	bool seen_up;
	double down_since;
	uint32_t restarts; /* how often it was stopped and started again */
};

struct check_counts {
	uint64_t sent;
	uint64_t received;
	uint64_t bytes;
	uint64_t lost; /* of what was sent: frames, or bytes of the TCP stream */
	uint64_t lost_at_reconnect;
	uint64_t duplicates;
	uint64_t reordered;
	uint64_t corrupt;
	uint64_t foreign;
	uint64_t others;     /* a switch's guests also get what is for somebody else */
	uint64_t whole;	     /* TCP: came back as it was sent */
	uint64_t segmented;  /* TCP: came back in part */
	uint64_t short_sums; /* TCP, large: the partial checksum lacks the length */
};

#define CHECK_SEEN 4096 /* a power of two, several times the window */

struct check_flow {
	struct check_port *port;
	uint16_t queue;
	uint16_t index; /* of all flows; what the frames carry */
	/* Positions: the number of a frame, or of a byte of the TCP stream. */
	uint64_t next;	   /* of what is sent next */
	uint64_t expected; /* of what comes back next */
	uint32_t epoch;	   /* number of the link's present life */
	bool probing;  /* until a probe of this epoch has come back, nothing that counts is sent */
	double probed; /* when the last probe was sent */
	double heard;  /* when something right came back last, or nothing was outstanding */
	struct check_counts counts;
	uint64_t seen[CHECK_SEEN]; /* position + 1 of the frames that came back last */
};

/* What a kind of traffic has to say; frames of frame.c, or the TCP streams of stream.c. */
struct check_traffic {
	/* Positions that the next packet takes. */
	uint64_t (*step)(const struct check_flow *flow);
	/* Writes the packet for the position flow->next; 0 or -ENOMEM. */
	int (*build)(const struct check_flow *flow, struct rte_mbuf *m);
	/* Checks a packet that came back and is no probe; updates the flow. */
	void (*check)(struct check_flow *flow, const struct rte_mbuf *m, const uint8_t *data);
};

extern struct check_options check_options;
extern const struct check_traffic check_frames;
extern const struct check_traffic check_streams;
extern const struct rte_ether_addr check_peer;

/* options.c: exits with a message when they are wrong. */
void
options_read(int argc, char **argv);

/* frame.c */
enum frame_type {
	FRAME_DATA = 1,
	FRAME_PROBE = 2
};
int
frame_build_probe(const struct check_flow *flow, struct rte_mbuf *m);
/* Whether it is a probe; its epoch. */
bool
frame_is_probe(const struct check_flow *flow, const uint8_t *data, uint32_t len, uint32_t *epoch);
uint64_t
frame_mix(uint64_t value);

/* port.c */
int
port_open(struct check_port *port, uint16_t id);
void
port_close(struct check_port *port);
/* Stops it, sets it up anew and starts it. */
int
port_restart(struct check_port *port);
/* Whether the main lcore may use the port now; tells the interrupt thread what it has seen. */
bool
port_usable(struct check_port *port, double now);

/* flow.c */
/* Takes the position [at, at + step) that came back: in order, or a gap, a duplicate, or late. */
void
flow_arrived(struct check_flow *flow, uint64_t at, uint64_t step);
/* Sends what the window allows, receives what is there; the number of packets moved. */
unsigned int
flow_poll(struct check_flow *flow, const struct check_traffic *traffic, bool sending, double now);
bool
flow_idle(const struct check_flow *flow);
/* At the end: what has not come back is lost. */
void
flow_finish(struct check_flow *flow);

/* report.c */
/* Says on standard error what is wrong; the first few times. */
void
report_fault(const struct check_flow *flow, const char *format, ...)
		__attribute__((format(printf, 2, 3)));
/* Remembers the first reason for which the run fails as a whole. */
void
report_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool
report_failed(void);
void
report_progress(const struct check_flow *flows, unsigned int n, uint32_t restarts, double now);
/* The last line; 0 if all is right, 1 if not. */
int
report_end(const struct check_flow *flows, unsigned int n, uint32_t reconnects, uint32_t restarts,
		double seconds);

#endif /* NET_CHECK_H */
