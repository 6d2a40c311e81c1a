/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A double of what lib/net and an lcore are to a driver of ports, so that drivers are tested by their
 * contract alone (net/vhub_net.h). Included by the tests here, whose programs link double.c instead
 * of lib/net.
 */
#ifndef DOUBLE_H
#define DOUBLE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vhub_net.h"

#define DOUBLE_ERROR_LEN 512

/* What vhub_net_drop() was told. */
extern uint64_t double_drops[VHUB_NET_DROPS];

/* An epoll instance with all that vhub_lcore_add_wake_fd() was given; EPOLLIN | EPOLLET. */
extern int double_epoll;

/* What vhub_lcore_wake() was last told to wake, and how often it was called. */
extern struct vhub_lcore *double_woken;
extern unsigned int double_wakes;

/* What vhub_net_pool_tx_mbufs() says. */
#define DOUBLE_TX_MBUFS 2048u
/* And vhub_net_max_waiting(), and for how many lcores vhub_net_max_cached(). */
#define DOUBLE_MAX_WAITING 6144u
#define DOUBLE_N_CACHES 3u

/* parse, and the outcome; `error` (may be NULL) gets the sentence. */
int
double_parse(const char *driver, const char *key, const char *value, struct vhub_net_port **out,
		char *error);
int
double_parse_args(const char *driver, const char *args, struct vhub_net_port **out, char *error);

/* parse and open, with one queue pair; a failure fails the test. */
struct vhub_net_port *
double_open(const char *driver, const char *args, uint16_t n_pairs);

/* A packet of one or several mbufs of `seg_bytes`, filled with `fill`. */
struct rte_mbuf *
double_packet(uint32_t bytes, uint16_t seg_bytes, uint8_t fill);

/* Mbufs of vhub_net_pool() that are in use. */
unsigned int
double_in_use(void);

/* The figure of that name, which must be there. */
uint64_t
double_stat(const struct vhub_net_port *port, const char *name);

#endif /* DOUBLE_H */
